//! One cell: its verdict, its duration, its name, and a remark.

use nestmatrix_stack::StepRecord;

use crate::records::{CellRecord, Known, VerdictWord};
use crate::scenario::{NOT_YET_RUN, Tier};
use crate::surroundings::GuestOf;

use super::style::{Role, Style};
use super::text::{cut, grouped, one_line, width};

/// The column at which a cell's name begins.
const NAME: usize = 17;

/// The line for a cell that has just ended, without a line end. If the remark does not fit, it stands on a second line and is cut
/// to the width of `style`.
pub fn cell_line(record: &CellRecord, style: &Style) -> String {
    let verdict = record.verdict.to_string();
    let time = if record.attempts.is_empty() { String::new() } else { format!("{:.1} s", record.seconds()) };
    let gap = NAME - 2 - width(&verdict);
    let cell = &record.cell;
    let mut line = format!("{}{time:>gap$}  {cell}", style.paint(Role::Verdict(record.verdict), &verdict));
    let remark = remark(record);
    if NAME + width(cell.as_str()) + 2 + width(&remark) <= style.width {
        line = line + "  " + &remark;
    } else {
        line = line + "\n" + &" ".repeat(NAME) + &cut(&remark, style.width.saturating_sub(NAME).max(1));
    }
    line.truncate(line.trim_end().len());
    line
}

/// A verdict, with a note if it is a fail that its scenario describes.
pub(super) fn verdict(record: &CellRecord) -> String {
    match record.known() {
        Some(known @ (Known::Wrong | Known::CameBack | Known::Flaky)) => {
            format!("{} ({})", record.verdict, known.note())
        }
        _ => record.verdict.to_string(),
    }
}

/// The remark after a cell's verdict, on one line; empty for a plain pass.
pub(super) fn remark(record: &CellRecord) -> String {
    let observed = observed(record);
    let known = record.known_text().map(|known| one_line(&known));
    let mut parts = Vec::new();
    match (record.verdict, record.known()) {
        (VerdictWord::Pass, _) => parts.extend(known.map(|known| format!("works, but listed as {known}"))),
        (VerdictWord::Fail, Some(of_fail)) => {
            parts.extend(observed.map(|observed| format!("{observed} ({})", of_fail.note())));
            parts.extend(known);
        }
        (VerdictWord::Flaky, of_flaky) => {
            parts.push(observed.unwrap_or_else(|| "worked this time".to_owned()));
            parts.extend(of_flaky.and(known));
        }
        (VerdictWord::Fail | VerdictWord::Error | VerdictWord::Skip, _) => parts.extend(observed),
        (VerdictWord::Xfail, _) => {
            parts.extend(observed.map(|observed| format!("{observed} (as documented)")));
        }
        (VerdictWord::Xpass, _) => parts
            .push(known.unwrap_or_else(|| format!("works, but the document says: {}", documented(record)))),
    }
    if record.verdict != VerdictWord::Skip {
        parts.extend(suites(record));
        parts.extend(benchmarks(record));
        parts.extend(l0_around(record));
    }
    parts.extend(attempts(record).map(|words| format!("attempts: {words}")));
    let was_run = record.verdict != VerdictWord::Skip;
    parts.extend((record.not_yet_run && was_run).then(|| NOT_YET_RUN.to_owned()));
    parts.join("; ")
}

/// The results of test suites, by step: `run svm: 24 pass, 3 known-fail`.
pub(super) fn suites(record: &CellRecord) -> Vec<String> {
    let of_step = |step: &StepRecord| {
        let suite = step.suite.as_ref()?;
        Some(format!("{} on {}: {}", one_line(&step.name), step.on, suite.summary()))
    };
    record.steps.iter().filter_map(of_step).collect()
}

/// That the machine was L1, and what showed that.
fn l0_around(record: &CellRecord) -> Option<String> {
    let guest_of = record.guest_of.as_ref().filter(|guest_of| guest_of.level.below().is_some())?;
    let GuestOf { level, name, .. } = guest_of;
    Some(one_line(&format!("this machine is {level}, and shows that it is a guest of {name}")))
}

/// What was measured, by step: `system calls: L2 31 % (28-35 %) of L1`.
fn benchmarks(record: &CellRecord) -> Vec<String> {
    let of_step = |step: &StepRecord| {
        let benchmark = step.benchmark.as_ref()?;
        Some(format!("{}: {}", one_line(&step.name), one_line(&benchmark.summary(step.on))))
    };
    record.steps.iter().filter_map(of_step).collect()
}

/// Where the stack stopped and the symptom, on one line.
pub(super) fn observed(record: &CellRecord) -> Option<String> {
    let symptom = record.symptom.as_deref().map(one_line);
    match (record.stage, symptom) {
        (Some(stage), Some(symptom)) => Some(format!("{stage}: {symptom}")),
        (Some(stage), None) => Some(stage.to_string()),
        (None, symptom) => symptom,
    }
}

/// What the document says.
pub(super) fn documented(record: &CellRecord) -> String {
    one_line(&record.expectation.to_string())
}

/// The most attempts whose verdicts are listed one by one. The verdicts of more are counted.
const LISTED_ATTEMPTS: usize = 4;

/// The verdicts of all attempts, if there was more than one: a pass at the second attempt is not a plain pass. For a flaky
/// cell, also the verdict of a single attempt.
pub(super) fn attempts(record: &CellRecord) -> Option<String> {
    let words: Vec<String> = record.attempts.iter().map(|attempt| attempt.verdict.to_string()).collect();
    match words.len() {
        0 => None,
        1 if record.verdict != VerdictWord::Flaky => None,
        number if number <= LISTED_ATTEMPTS => Some(words.join(", ")),
        _ => {
            let counted = grouped(&words, |word| word.as_str()).into_iter();
            Some(counted.map(|(word, of)| format!("{} {word}", of.len())).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The tiers of the claims that these cells test, each once.
pub(super) fn tiers<'r>(records: impl IntoIterator<Item = &'r CellRecord>) -> String {
    Tier::listed(records.into_iter().flat_map(CellRecord::tiers))
}

/// The claims that a cell tests, each with its tier: `l0-rhel-8-2 (supported)`.
pub(super) fn claims(record: &CellRecord) -> String {
    let claim = |claim: &String| match record.tiers.get(claim) {
        Some(tier) => format!("{claim} ({tier})"),
        None => claim.clone(),
    };
    record.claims.iter().map(claim).collect::<Vec<_>>().join(", ")
}
