//! Reads what a test of kvm-unit-tests printed, and how its QEMU ended.
//!
//! A test prints a line for each case, such as `PASS: NAME`, and may print anything else. It ends QEMU by a device with the exit status
//! `2 * code + 1`, so that 1 is its success.

use std::collections::BTreeMap;

use nestmatrix_model::CaseOutcome;
use nestmatrix_vmm::guest::ExecOutput;

use super::cases::Case;
use super::script::{NOT_HERE, STOPPED_BY_KVM, STOPPED_IN_FIRMWARE, TIMED_OUT, TOO_MUCH};
use crate::emulator_errata::EndOfMachine;

/// The first words of a case's line, and what they mean. A failure that the suite itself expects is a known one; if it does not
/// happen, the suite counts a failure.
const WORDS: [(&str, CaseOutcome); 5] = [
    ("PASS: ", CaseOutcome::Pass),
    ("FAIL: ", CaseOutcome::Fail),
    ("SKIP: ", CaseOutcome::Skip),
    ("XFAIL: ", CaseOutcome::KnownFail),
    ("XPASS: ", CaseOutcome::Fail),
];

/// What the suite's own words for a failure it expects are, in a record.
const BY_SUITE: &str = "the suite expects it";

/// The code by which a test says that all its cases are skipped: QEMU's exit status is then 77, as of test programs that are skipped.
const SKIPPED: i64 = 38;

/// What the lines of a test about its end have in common.
const OF_END: [&str; 4] = ["nhandled", "ssert", "bort", "BUG"];

/// How a test ended.
enum End {
    /// By itself, with this code.
    Code(i64),
    /// It did not run.
    NotRun(String),
    /// QEMU did not start it.
    NotStarted(String),
    /// Otherwise, so that cases may be missing.
    Broken(String),
}

/// The cases of a test. If it has none, or did not come to its end, one of them has the test's own name.
pub fn read(test: &str, ended: &ExecOutput) -> Vec<Case> {
    let output = String::from_utf8_lossy(&ended.stdout);
    let lines: Vec<&str> = output.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let mut cases = of_lines(test, &lines);
    // Lines of the same name are one case, and the summary counts lines.
    let failures =
        lines.iter().filter(|line| outcome_of(line).is_some_and(|(of, _)| of == CaseOutcome::Fail)).count();
    let any = !cases.is_empty();
    let own = |outcome, said: &str| vec![Case::new(test, outcome, Some(said))];
    let of_test = match end(ended, &lines) {
        End::NotRun(why) => own(CaseOutcome::Skip, &why),
        End::NotStarted(why) => {
            vec![Case { did_not_start: true, ..Case::new(test, CaseOutcome::Error, Some(&why)) }]
        }
        End::Broken(why) => own(CaseOutcome::Error, &why),
        End::Code(0) if any => {
            unseen_failures(&lines, failures).map_or_else(Vec::new, |why| own(CaseOutcome::Error, &why))
        }
        End::Code(0) if lines.is_empty() => own(CaseOutcome::Error, "it printed nothing"),
        End::Code(0) => own(CaseOutcome::Pass, ""),
        End::Code(SKIPPED) if any => Vec::new(),
        End::Code(SKIPPED) => own(CaseOutcome::Skip, lines.last().unwrap_or(&"it skips itself")),
        End::Code(_) if failures > 0 => {
            unseen_failures(&lines, failures).map_or_else(Vec::new, |why| own(CaseOutcome::Error, &why))
        }
        End::Code(code) => {
            own(CaseOutcome::Fail, &format!("it ended with code {code}: {}", last_line(&lines)))
        }
    };
    cases.extend(of_test);
    cases
}

/// How the machine of a test ended, if that ended the test. A test that shows why it ended did not lose its machine.
pub(super) fn end_of_machine<'o>(ended: &ExecOutput, stderr: &'o str) -> Option<EndOfMachine<'o>> {
    match ended.status {
        Some(0) => {
            let output = String::from_utf8_lossy(&ended.stdout);
            let explained = output.lines().any(|line| OF_END.iter().any(|word| line.contains(word)));
            (!explained).then_some(EndOfMachine::Reset)
        }
        Some(status @ (STOPPED_BY_KVM | STOPPED_IN_FIRMWARE)) => Some(EndOfMachine::StoppedByKvm {
            said: stderr.lines().collect(),
            in_default_firmware: status == STOPPED_IN_FIRMWARE,
        }),
        _ => None,
    }
}

/// The cases that the lines are about. Lines of the same name are one case, which has the worst of their outcomes.
fn of_lines(test: &str, lines: &[&str]) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut places = BTreeMap::new();
    for line in lines {
        let Some((outcome, name)) = outcome_of(line) else { continue };
        let mut case = Case::new(&format!("{test}: {}", name.trim()), outcome, None);
        case.known = (outcome == CaseOutcome::KnownFail).then(|| BY_SUITE.to_owned());
        match places.get(&case.name) {
            None => {
                places.insert(case.name.clone(), cases.len());
                cases.push(case);
            }
            Some(place) => {
                if let Some(before) =
                    cases.get_mut(*place).filter(|before| before.outcome.rank() < outcome.rank())
                {
                    *before = case;
                }
            }
        }
    }
    cases
}

/// The outcome and the name of the case that a line is about, if it is about one.
fn outcome_of(line: &str) -> Option<(CaseOutcome, &str)> {
    WORDS.iter().find_map(|(word, outcome)| Some((*outcome, line.strip_prefix(word)?)))
}

fn end(ended: &ExecOutput, lines: &[&str]) -> End {
    let stderr = String::from_utf8_lossy(&ended.stderr);
    let qemu = || stderr.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing").to_owned();
    match ended.status {
        None => End::Broken(format!("a signal ended it; QEMU said {}", qemu())),
        Some(NOT_HERE) => End::NotRun((*lines.first().unwrap_or(&"")).to_owned()),
        Some(TIMED_OUT) => {
            End::Broken(format!("it did not end in time; its last line is {:?}", last_line(lines)))
        }
        Some(TOO_MUCH) => End::Broken("it printed more than is read, so cases are missing".to_owned()),
        Some(STOPPED_BY_KVM | STOPPED_IN_FIRMWARE) => {
            let of_kvm = stderr.lines().find(|line| line.contains("KVM") || line.contains("kvm run"));
            End::Broken(format!("KVM can't run it: {}", of_kvm.map_or_else(qemu, str::to_owned)))
        }
        // QEMU itself also ends with 1.
        Some(_) if lines.is_empty() && !stderr.trim().is_empty() => {
            End::NotStarted(format!("QEMU did not run it: {}", qemu()))
        }
        Some(1) if let Some(failure) = stderr.lines().find(|line| is_failure(line)) => {
            End::Broken(format!("QEMU failed: {failure}"))
        }
        Some(0) => End::Broken(format!(
            "its machine was reset or powered off; its last line is {:?}",
            last_line(lines)
        )),
        Some(status) if status % 2 == 0 || !(0..=255).contains(&status) => {
            End::Broken(format!("QEMU ended with status {status}: {}", qemu()))
        }
        Some(status) => match status / 2 {
            // What a test ends with by itself; an exception or a failed assertion ends it with another code.
            code @ (0..=2 | SKIPPED) => End::Code(code),
            code => End::Broken(format!("it aborted with code {code}: {}", last_line(lines))),
        },
    }
}

/// Whether a line of QEMU is more than a warning.
fn is_failure(line: &str) -> bool {
    !line.trim().is_empty() && !line.contains("warning: ")
}

/// The line that says why a test ended, or its last one.
fn last_line<'l>(lines: &[&'l str]) -> &'l str {
    let of_end = lines.iter().rev().find(|line| OF_END.iter().any(|word| line.contains(word)));
    of_end.or(lines.last()).copied().unwrap_or_default()
}

/// What is wrong if the summary of a test counts more failures than there are lines of.
fn unseen_failures(lines: &[&str], seen: usize) -> Option<String> {
    let summary = lines.iter().rev().find_map(|line| line.strip_prefix("SUMMARY: "))?;
    let before = summary.split(" unexpected failure").next().filter(|before| *before != summary)?;
    let counted: usize = before.rsplit([' ', ',']).next()?.parse().ok()?;
    (counted > seen).then(|| format!("its summary counts {counted} failures, and its lines show {seen}"))
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
