//! A panic is a bug in the harness. It costs only its own cell or image, because it must not end a run of hours.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The result of `work`, or the message of its panic.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // Everything that it worked on is dropped with it, so no half-done work is seen afterwards.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| described(&*payload))
}

/// The message of a panic, from its payload.
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
