//! Times in records, which may come from another machine and be anything.

use std::time::{Duration, SystemTime};

/// The last second that RFC 3339 can express, in seconds since 1970. Formatting a later one panics.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// Now, UTC, RFC 3339 to the second.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The time `seconds` after another one, if RFC 3339 can express it.
pub(crate) fn later(time: SystemTime, seconds: f64) -> Option<SystemTime> {
    let later = time.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
    (later <= SystemTime::UNIX_EPOCH + LAST).then_some(later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_has_no_text_is_none() {
        let last = SystemTime::UNIX_EPOCH + LAST;
        assert_eq!(humantime::format_rfc3339_seconds(last).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(later(last, 0.0), Some(last));
        for seconds in [1.0, 1e30, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(later(last, seconds), None, "{seconds}");
        }
    }
}
