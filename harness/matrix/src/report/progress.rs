//! How far a run is, in one line.

use super::text::duration;
use crate::run::Progress;

/// `12 of 90 cells done, 78 left: about 31 min`.
pub fn progress(progress: &Progress) -> String {
    let Progress { done, cells, seconds_left } = *progress;
    match cells.saturating_sub(done) {
        0 => format!("all {cells} cells done"),
        left if seconds_left < 60 => format!("{done} of {cells} cells done, {left} left: less than 1 min"),
        left => {
            let time = duration(seconds_left.div_ceil(60) * 60);
            format!("{done} of {cells} cells done, {left} left: about {time}")
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0, 90, 2690, "0 of 90 cells done, 90 left: about 45 min")]
    #[case(12, 90, 7300, "12 of 90 cells done, 78 left: about 2 h 2 min")]
    #[case(89, 90, 20, "89 of 90 cells done, 1 left: less than 1 min")]
    #[case(90, 90, 0, "all 90 cells done")]
    fn the_rest_is_given_in_minutes(
        #[case] done: usize,
        #[case] cells: usize,
        #[case] left: u64,
        #[case] text: &str,
    ) {
        assert_eq!(progress(&Progress { done, cells, seconds_left: left }), text);
    }
}
