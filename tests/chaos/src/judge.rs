//! What must be true of a run, whatever was done to it.

use std::path::PathBuf;

use nestmatrix::records::VerdictWord;

use crate::disturbance::Kind;
use crate::harness::{Ended, Record};
use crate::inflict::Inflicted;
use crate::processes::Process;

/// Exit code of a harness that met an error.
const ERROR: i32 = 3;
/// Exit codes after SIGINT and SIGTERM.
const INTERRUPTED: [i32; 2] = [130, 143];

/// What a cell does undisturbed.
#[derive(Debug, Clone)]
pub struct Undisturbed {
    /// The cell.
    pub cell: String,
    /// Its verdict.
    pub verdict: VerdictWord,
    /// Where its stack stops.
    pub stage: Option<String>,
}

impl Undisturbed {
    /// Whether a verdict is this one.
    pub fn is(&self, record: &Record) -> bool {
        record.verdict == self.verdict && record.stage == self.stage
    }
}

/// What is wrong with a run that was left alone.
pub fn of_undisturbed(expected: &Undisturbed, ended: &Ended) -> Vec<String> {
    let mut wrong = of_any(ended);
    match ended.of(&expected.cell) {
        Some(record) if expected.is(record) => wrong.extend(wrong_code(ended, 0)),
        Some(record) => wrong.push(format!("the verdict is {}, not {}", told(record), expected.verdict)),
        None => wrong.push(format!("no verdict; {}", last_words(ended))),
    }
    wrong
}

/// What is wrong with a disturbed run. It may give the undisturbed verdict, or blame itself or its machine; it may not say anything
/// else about the matrix.
pub fn of_disturbed(expected: &Undisturbed, ended: &Ended, kind: Kind, inflicted: &Inflicted) -> Vec<String> {
    if inflicted.damaged_records {
        // What is read back may be anything. What was printed counts.
        let ended = Ended { recorded: Ok(ended.announced.clone()), ..ended.clone() };
        return of_disturbed(
            expected,
            &ended,
            kind,
            &Inflicted { damaged_records: false, ..inflicted.clone() },
        );
    }
    let mut wrong = of_any(ended);
    let may_be_killed = inflicted.killed_harness;
    match ended.of(&expected.cell) {
        Some(record) if expected.is(record) => {
            let may_end_so = (kind == Kind::Interrupt && INTERRUPTED.map(Some).contains(&ended.code))
                || (kind == Kind::Disk && ended.code == Some(ERROR))
                || (may_be_killed && ended.signal.is_some());
            if !may_end_so {
                wrong.extend(wrong_code(ended, 0));
            }
        }
        Some(record) if record.verdict == VerdictWord::Error => {
            if kind == Kind::Second {
                wrong.push(format!("a second harness did it harm: {}", told(record)));
            }
            if record.symptom.as_ref().is_none_or(|symptom| symptom.trim().is_empty()) {
                wrong.push("an error without a reason".to_owned());
            }
            if !(may_be_killed && ended.signal.is_some()) {
                wrong.extend(wrong_code(ended, ERROR));
            }
        }
        Some(record) => wrong.push(format!("the verdict is {}, not {}", told(record), expected.verdict)),
        None => {
            let may_be_without = match kind {
                _ if may_be_killed => ended.signal.is_some(),
                Kind::Interrupt => INTERRUPTED.map(Some).contains(&ended.code),
                Kind::Second | Kind::Suspend | Kind::Clock => false,
                _ => ended.code == Some(ERROR) && !ended.stderr.trim().is_empty(),
            };
            if !may_be_without {
                let how = ended
                    .signal
                    .map_or_else(|| format!("exit code {:?}", ended.code), |n| format!("signal {n}"));
                wrong.push(format!("no verdict and {how}; {}", last_words(ended)));
            }
        }
    }
    if let Some(second) = &inflicted.second {
        wrong.extend(
            of_undisturbed(expected, second).into_iter().map(|what| format!("the second harness: {what}")),
        );
    }
    wrong
}

/// What is wrong with what a run left behind.
pub fn of_leftovers(processes: &[Process], folders: &[PathBuf]) -> Vec<String> {
    let processes =
        processes.iter().map(|process| format!("{} ({}) is still alive", process.name, process.pid));
    let folders = folders.iter().map(|folder| format!("{} was left", folder.display()));
    processes.chain(folders).collect()
}

/// What is wrong with any run.
fn of_any(ended: &Ended) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(line) = ended.stderr.lines().find(|line| line.contains("panicked at")) {
        wrong.push(line.to_owned());
    }
    match &ended.recorded {
        Err(why) => wrong.push(format!("its records can't be read: {why}")),
        Ok(recorded) => {
            let is_lost = |announced: &&Record| {
                !recorded
                    .iter()
                    .any(|record| record.cell == announced.cell && record.verdict == announced.verdict)
            };
            let lost = ended.announced.iter().filter(is_lost);
            wrong
                .extend(lost.map(|record| format!("{} was printed and is not in the records", told(record))));
        }
    }
    wrong
}

fn wrong_code(ended: &Ended, expected: i32) -> Option<String> {
    let is = ended.signal.map_or_else(
        || ended.code.map_or_else(|| "unknown".to_owned(), |code| code.to_string()),
        |signal| format!("that of signal {signal}"),
    );
    (ended.code != Some(expected))
        .then(|| format!("the exit code is {is}, not {expected}; {}", last_words(ended)))
}

/// A verdict with its reason.
pub fn told(record: &Record) -> String {
    let stage = record.stage.as_ref().map_or_else(String::new, |stage| format!(" at {stage}"));
    let symptom = record.symptom.as_ref().map_or_else(String::new, |symptom| format!(": {symptom}"));
    format!("{}{stage}{symptom}", record.verdict)
}

/// The last line of what a harness said.
pub fn last_words(ended: &Ended) -> String {
    let last = ended.stderr.lines().rev().find(|line| !line.trim().is_empty());
    last.map_or_else(|| "it said nothing".to_owned(), |line| format!("it said {line:?}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn record(verdict: VerdictWord, symptom: &str) -> Record {
        Record {
            cell: "s/amd/a/b/c".into(),
            verdict,
            stage: (!symptom.is_empty()).then(|| "l1-boot".into()),
            symptom: (!symptom.is_empty()).then(|| symptom.into()),
            attempts: Vec::new(),
        }
    }

    fn passes() -> Undisturbed {
        Undisturbed { cell: "s/amd/a/b/c".into(), verdict: VerdictWord::Pass, stage: None }
    }

    fn ended(code: Option<i32>, verdict: Option<Record>) -> Ended {
        Ended {
            code,
            signal: code.is_none().then_some(9),
            announced: verdict.iter().cloned().collect(),
            recorded: Ok(verdict.into_iter().collect()),
            stderr: "records: results/run\n".into(),
        }
    }

    fn inflicted() -> Inflicted {
        Inflicted { what: "something".into(), killed_harness: false, damaged_records: false, second: None }
    }

    const PASS: &str = "";

    #[rstest]
    #[case::it_did_no_harm(Kind::Kill, Some(0), Some((VerdictWord::Pass, PASS)), None)]
    #[case::the_harness_blames_itself(Kind::Kill, Some(3), Some((VerdictWord::Error, "killed")), None)]
    #[case::wrong_verdict(Kind::Kill, Some(1), Some((VerdictWord::Fail, "no answer")), Some("the verdict is fail at l1-boot: no answer, not pass"))]
    #[case::wrong_code(Kind::Stop, Some(1), Some((VerdictWord::Pass, PASS)), Some("the exit code is 1, not 0"))]
    #[case::error_with_the_code_of_a_pass(Kind::Stop, Some(0), Some((VerdictWord::Error, "killed")), Some("the exit code is 0, not 3"))]
    #[case::no_reason(Kind::Stop, Some(3), Some((VerdictWord::Error, " ")), Some("an error without a reason"))]
    #[case::full_disk(Kind::Disk, Some(3), None, None)]
    #[case::full_disk_and_nothing_wrong(Kind::Disk, Some(0), None, Some("no verdict and exit code Some(0)"))]
    #[case::interrupted(Kind::Interrupt, Some(130), None, None)]
    #[case::interrupted_with_another_code(
        Kind::Interrupt,
        Some(1),
        None,
        Some("no verdict and exit code Some(1)")
    )]
    #[case::suspended(Kind::Suspend, Some(3), None, Some("no verdict"))]
    #[case::second_harness(Kind::Second, Some(3), Some((VerdictWord::Error, "no lock")), Some("a second harness did it harm"))]
    #[case::ended_by_a_signal_of_its_own(Kind::Memory, None, None, Some("no verdict and signal 9"))]
    fn a_disturbed_run_may_blame_itself_and_nothing_else(
        #[case] kind: Kind,
        #[case] code: Option<i32>,
        #[case] verdict: Option<(VerdictWord, &str)>,
        #[case] wrong: Option<&str>,
    ) {
        let ended = ended(code, verdict.map(|(word, symptom)| record(word, symptom)));
        let found = of_disturbed(&passes(), &ended, kind, &inflicted());
        match wrong {
            None => assert_eq!(found, [] as [String; 0]),
            Some(wrong) => assert!(found.iter().any(|found| found.starts_with(wrong)), "{found:?}"),
        }
    }

    #[test]
    fn a_killed_harness_may_end_without_a_verdict() {
        let killed = Inflicted { killed_harness: true, ..inflicted() };
        assert_eq!(of_disturbed(&passes(), &ended(None, None), Kind::Kill, &killed), [] as [String; 0]);
    }

    #[test]
    fn a_verdict_that_was_printed_must_be_in_the_records() {
        let mut lost = ended(Some(0), Some(record(VerdictWord::Pass, PASS)));
        lost.recorded = Ok(Vec::new());
        let found = of_disturbed(&passes(), &lost, Kind::Kill, &inflicted());
        assert!(found.contains(&"pass was printed and is not in the records".to_owned()), "{found:?}");
        let damaged = Inflicted { damaged_records: true, ..inflicted() };
        assert_eq!(of_disturbed(&passes(), &lost, Kind::Damage, &damaged), [] as [String; 0]);
    }

    #[test]
    fn a_panic_is_wrong_whatever_the_verdict_is() {
        let mut ended = ended(Some(0), Some(record(VerdictWord::Pass, PASS)));
        ended.stderr = "thread 'main' panicked at src/x.rs:1:1:\n".into();
        assert_eq!(of_disturbed(&passes(), &ended, Kind::Stop, &inflicted()).len(), 1);
        assert_eq!(of_undisturbed(&passes(), &ended).len(), 1);
    }

    #[test]
    fn a_run_that_was_left_alone_has_no_excuse() {
        let error = ended(Some(3), Some(record(VerdictWord::Error, "killed")));
        assert_eq!(of_undisturbed(&passes(), &error), ["the verdict is error at l1-boot: killed, not pass"]);
        assert_eq!(of_undisturbed(&passes(), &ended(Some(3), None)).len(), 1);
    }
}
