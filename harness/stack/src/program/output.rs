//! The cases of a program of the user: those in its output if it prints TAP or KTAP, or otherwise the program itself.

use nestmatrix_model::CaseOutcome;

use super::script::{End, ProgramEnd};
use super::tap;
use crate::suite::Case;

/// The exit status of a test that skips itself, as of the kernel's selftests.
const SKIPPED: i64 = 4;

/// The cases of the program `name`. If it has none, or did not come to its end, one of them has its own name.
pub fn read_program_cases(name: &str, ended: &ProgramEnd) -> Vec<Case> {
    let output = String::from_utf8_lossy(&ended.stdout);
    let own = |outcome, said: &str| Case::new(name, outcome, Some(said));
    let Some(tap::Tap { mut cases, incomplete }) = tap::read(name, &output) else {
        // What was dropped may have had failures.
        if ended.is_cut && ended.end == End::Exited(0) {
            return vec![own(CaseOutcome::Error, "it printed more than is kept, and no results in that")];
        }
        return vec![of_status(name, ended, &output)];
    };
    let failed = cases.iter().any(|case| case.outcome.is_unexpected());
    let all_skipped = !cases.is_empty() && cases.iter().all(|case| case.outcome == CaseOutcome::Skip);
    let of_end = match ended.end {
        End::TimedOut => Some(own(CaseOutcome::Error, &too_late(&output))),
        End::Exited(status) if let Some(why) = broken(status) => Some(own(CaseOutcome::Error, &why)),
        End::Exited(_) if ended.is_cut => {
            Some(own(CaseOutcome::Error, "it printed more than is kept, so cases are missing"))
        }
        End::Exited(_) if let Some(why) = &incomplete => Some(own(CaseOutcome::Error, why)),
        End::Exited(0) => None,
        End::Exited(SKIPPED) if all_skipped => None,
        End::Exited(_) if failed => None,
        End::Exited(status) => Some(own(
            CaseOutcome::Fail,
            &format!("it exited with status {status}, and none of its cases failed"),
        )),
    };
    // One case has this name already if all of it was skipped.
    if let Some(of_end) = of_end {
        cases.retain(|case| case.name != of_end.name);
        cases.push(of_end);
    }
    if cases.is_empty() {
        cases.push(own(CaseOutcome::Error, "it printed no test points"));
    }
    cases
}

/// The only case of a program without results in its output.
fn of_status(name: &str, ended: &ProgramEnd, output: &str) -> Case {
    let errors = String::from_utf8_lossy(&ended.stderr);
    let last = || last_line(&errors).or_else(|| last_line(output)).unwrap_or("nothing");
    let (outcome, said) = match ended.end {
        End::TimedOut => (CaseOutcome::Error, too_late(output)),
        End::Exited(0) => (CaseOutcome::Pass, String::new()),
        End::Exited(SKIPPED) => (CaseOutcome::Skip, last().to_owned()),
        End::Exited(status) => match broken(status) {
            Some(why) => (CaseOutcome::Error, format!("{why}; it printed {:?}", last())),
            None => (CaseOutcome::Fail, format!("it exited with status {status}; it printed {:?}", last())),
        },
    };
    Case {
        did_not_start: matches!(ended.end, End::Exited(126 | 127)),
        ..Case::new(name, outcome, Some(&said))
    }
}

/// What a status says about a program that did not come to its end by itself (POSIX, Shell Command Language, 2.8.2).
fn broken(status: i64) -> Option<String> {
    Some(match status {
        126 => "it, or a program in it, could not be run".to_owned(),
        127 => "a program was not found: its interpreter, or one that it starts".to_owned(),
        129..=192 => format!("signal {} ended it", status - 128),
        _ => return None,
    })
}

fn too_late(output: &str) -> String {
    match last_line(output) {
        Some(last) => format!("it did not end in time; its last line is {last:?}"),
        None => "it did not end in time, and printed nothing".to_owned(),
    }
}

fn last_line(output: &str) -> Option<&str> {
    output.lines().map(str::trim).rfind(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn cases_of(end: End, stdout: &str, stderr: &str, is_cut: bool) -> Vec<String> {
        let ended = ProgramEnd { end, stdout: stdout.into(), stderr: stderr.into(), is_cut };
        let text = |case: &Case| match &case.said {
            Some(said) => format!("{} {}: {said}", case.outcome, case.name),
            None => format!("{} {}", case.outcome, case.name),
        };
        read_program_cases("p", &ended).iter().map(text).collect()
    }

    #[rstest]
    #[case::success(0, "hello\n", "", &["pass p"])]
    #[case::silent_success(0, "", "", &["pass p"])]
    #[case::skip(4, "", "no KVM\n", &["skip p: no KVM"])]
    #[case::failure(1, "a\n", "b\n\n", &["fail p: it exited with status 1; it printed \"b\""])]
    #[case::silent_failure(2, "", "", &["fail p: it exited with status 2; it printed \"nothing\""])]
    #[case::a_signal(139, "a\n", "", &["error p: signal 11 ended it; it printed \"a\""])]
    #[case::not_found(127, "", "sh: x: not found\n", &[
        "error p: a program was not found: its interpreter, or one that it starts; it printed \"sh: x: not found\""
    ])]
    #[case::tap(0, "1..1\nok 1 a\n", "", &["pass p: a"])]
    #[case::tap_with_a_failure(1, "1..1\nnot ok 1 a\n", "", &["fail p: a"])]
    #[case::tap_with_a_failure_and_success(0, "1..1\nnot ok 1 a\n", "", &["fail p: a"])]
    #[case::tap_that_contradicts(3, "1..1\nok 1 a\n", "", &["pass p: a", "fail p: it exited with status 3, and none of its cases failed"])]
    #[case::tap_skipped(4, "1..0 # SKIP none\n", "", &["skip p: none"])]
    #[case::tap_skipped_and_failed(1, "1..0 # SKIP none\n", "", &["fail p: it exited with status 1, and none of its cases failed"])]
    #[case::tap_and_a_signal(134, "1..2\nok 1 a\n", "", &["pass p: a", "error p: signal 6 ended it"])]
    #[case::tap_that_ends_early(0, "1..2\nok 1 a\n", "", &["pass p: a", "error p: its plan has 2 test points, and it printed 1"])]
    #[case::tap_without_points(0, "TAP version 13\n", "", &["error p: it printed no test points"])]
    fn status_and_output_become_cases(
        #[case] status: i64,
        #[case] stdout: &str,
        #[case] stderr: &str,
        #[case] expected: &[&str],
    ) {
        assert_eq!(cases_of(End::Exited(status), stdout, stderr, false), expected);
    }

    #[test]
    fn a_program_that_was_killed_has_no_result() {
        let seen = |stdout| cases_of(End::TimedOut, stdout, "", true);
        assert_eq!(seen(""), ["error p: it did not end in time, and printed nothing"]);
        let late = "error p: it did not end in time; its last line is \"ok 1 a\"";
        assert_eq!(seen("1..2\nok 1 a\n"), ["pass p: a", late]);
    }

    #[test]
    fn cases_may_be_missing_in_output_that_is_cut() {
        let why = "error p: it printed more than is kept, so cases are missing";
        assert_eq!(cases_of(End::Exited(0), "1..1\nok 1 a\n", "", true), ["pass p: a", why]);
        assert_eq!(
            cases_of(End::Exited(0), "words\n", "", true),
            ["error p: it printed more than is kept, and no results in that"]
        );
    }

    #[test]
    fn a_program_that_was_not_started_is_marked() {
        let ended =
            |status| ProgramEnd { end: End::Exited(status), stdout: vec![], stderr: vec![], is_cut: false };
        assert!(read_program_cases("p", &ended(127))[0].did_not_start);
        assert!(!read_program_cases("p", &ended(1))[0].did_not_start);
    }
}
