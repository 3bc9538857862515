//! A panic is a defect of the harness, and costs the one cell or image that it happened in: a run of hours must not be lost for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `work` gives, or that it panicked and with which message.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // What it was working on is dropped with it, so nothing half done is seen afterwards.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| described(&*payload))
}

/// A panic in words, by what was thrown.
pub(super) fn described(payload: &(dyn Any + Send)) -> String {
    let message = payload.downcast_ref::<&str>().copied();
    match message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)) {
        Some(message) => format!("the harness panicked: {message}"),
        None => "the harness panicked".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(caught(|| 7), Ok(7));
        let number = 3;
        assert_eq!(
            caught(|| if number > 0 {
                panic!("number {number}")
            }),
            Err("the harness panicked: number 3".to_owned())
        );
        assert_eq!(
            caught(|| panic!("plain")).map(|(): ()| ()),
            Err("the harness panicked: plain".to_owned())
        );
        let other = caught(|| std::panic::panic_any(5_u8)).map(|(): ()| ());
        assert_eq!(other, Err("the harness panicked".to_owned()));
    }
}
