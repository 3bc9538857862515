//! Cells as the custom results of a test of tmt, the Test Management Tool
//! (<https://tmt.readthedocs.io/en/stable/spec/results.html>): its `results.yaml`.
//!
//! The text is JSON, which is YAML, and tmt reads both. docs/tmt.md has the whole mapping.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use nestmatrix_model::CaseOutcome;
use nestmatrix_stack::Case;
use serde::{Serialize, Serializer};

use super::cell::{documented, observed, remark};
use super::html::shown;
use super::other_systems::other_systems;
use super::stages::{Part, parts};
use super::text::one_line;
use crate::contained;
use crate::records::{Attempt, CellRecord, Overview, OverviewCell, VerdictWord, later};

/// The results of some cells as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TmtResults {
    /// The content of `results.yaml`.
    pub text: String,
    /// How many cells have files that are not below the folder of the results. tmt can't have these, so they are not named.
    pub without_logs: usize,
}

/// The cells as tmt's results for a file in the folder `base`: the paths of logs are relative to that.
///
/// # Errors
/// None are known: what is written here can be written as JSON.
pub fn tmt(overview: &Overview, base: &Path) -> serde_json::Result<TmtResults> {
    let mut without_logs = 0;
    let mut results: Vec<TmtResult> = Vec::new();
    for cell in &overview.cells {
        let log = logs(overview, cell, base);
        without_logs += usize::from(log.is_none());
        results.push(result(overview, cell, log.unwrap_or_default()));
    }
    results.extend(overview.without_verdict.iter().map(|cell| TmtResult {
        note: vec!["no verdict: the run ended before the cell".to_owned()],
        ..TmtResult::new(format!("/{cell}"), Outcome::Error)
    }));
    if results.is_empty() {
        // To tmt, a test without results is an error.
        let note = vec!["no cell is in this shard".to_owned()];
        results.push(TmtResult { note, ..TmtResult::new("/".to_owned(), Outcome::Skip) });
    }
    let text = in_yaml(&serde_json::to_string_pretty(&results)?) + "\n";
    Ok(TmtResults { text, without_logs })
}

/// A result's outcome, in tmt's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Pass,
    Fail,
    Info,
    Error,
    Skip,
}

impl Outcome {
    /// What counts of a cell: what is expected or known passes, as in the exit code of a run.
    fn of(record: &CellRecord) -> Self {
        match record.verdict {
            VerdictWord::Skip => Self::Skip,
            VerdictWord::Error => Self::Error,
            _ if record.is_trouble() => Self::Fail,
            // Nothing follows from a result that is known to be flaky.
            VerdictWord::Flaky => Self::Info,
            VerdictWord::Pass | VerdictWord::Xfail | VerdictWord::Xpass | VerdictWord::Fail => Self::Pass,
        }
    }

    fn of_case(outcome: CaseOutcome) -> Self {
        match outcome {
            CaseOutcome::Pass | CaseOutcome::KnownFail => Self::Pass,
            CaseOutcome::Fail => Self::Fail,
            CaseOutcome::Skip => Self::Skip,
            CaseOutcome::Error => Self::Error,
        }
    }
}

/// A result, or a part of one: a stage, a step, or a case of a test suite.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct TmtResult {
    name: String,
    result: Outcome,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    note: Vec<String>,
    /// What identifies the tested statements, and what other systems call the scenario.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    ids: BTreeMap<String, String>,
    #[serde(flatten)]
    time: Time,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    log: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subresult: Vec<TmtResult>,
}

impl TmtResult {
    fn new(name: String, result: Outcome) -> Self {
        let (note, log, subresult) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, result, note, ids: BTreeMap::new(), time: Time::default(), log, subresult }
    }
}

/// The document and the claims, and the scenario's own ids. If one of these has such a name, too, it is left out.
fn ids(record: &CellRecord) -> BTreeMap<String, String> {
    let others = record.ids.iter().map(|(name, id)| (safe(name), safe(id)));
    let own = [("document", safe(&record.document)), ("claims", safe(&record.claims.join(" ")))];
    others.chain(own.map(|(name, id)| (name.to_owned(), id))).collect()
}

/// When something ran.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Time {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "moment")]
    start_time: Option<SystemTime>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "moment")]
    end_time: Option<SystemTime>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "clock")]
    duration: Option<Duration>,
}

impl Time {
    /// From `start` to `end`, in seconds after `zero`, if that is known.
    fn new(zero: Option<SystemTime>, start: f64, end: f64) -> Self {
        let at = |seconds: f64| later(zero?, seconds);
        let duration = Duration::try_from_secs_f64(end - start).ok();
        Self { start_time: at(start), end_time: at(end), duration }
    }
}

/// A time as tmt writes it. Before Python 3.11, `datetime.fromisoformat` does not take a `Z`.
fn moment<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = time.map(|time| humantime::format_rfc3339_micros(time).to_string());
    text.map(|text| text.replace('Z', "+00:00")).serialize(serializer)
}

/// A duration as hours, minutes and seconds.
fn clock<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let clock = |duration: Duration| {
        let seconds = duration.as_secs_f64().round() as u64;
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    };
    duration.map(clock).serialize(serializer)
}

fn result(overview: &Overview, cell: &OverviewCell, log: Vec<String>) -> TmtResult {
    let record = &cell.record;
    let attempt = record.described_index().and_then(|index| record.attempts.get(index));
    let began = began(overview, cell);
    TmtResult {
        note: notes(cell),
        ids: ids(record),
        time: attempt.map_or_else(Time::default, |attempt| Time::new(began, attempt.start, attempt.end)),
        log,
        subresult: subresults(record, attempt, began),
        ..TmtResult::new(format!("/{}", record.cell), Outcome::of(record))
    }
}

/// When a cell's run began. A part of a merged run began at another time, which is not in the cell's record.
fn began(overview: &Overview, cell: &OverviewCell) -> Option<SystemTime> {
    let run = overview.runs.get(cell.run).filter(|_| cell.record.run.is_none())?;
    humantime::parse_rfc3339(&run.record.began).ok()
}

/// The verdict and its reason, what the document says, what ran instead of the documented systems, and verdicts that don't count.
fn notes(cell: &OverviewCell) -> Vec<String> {
    let record = &cell.record;
    let remark = remark(record);
    let mut notes = vec![match remark.is_empty() {
        true => record.verdict.to_string(),
        false => format!("{}: {}", record.verdict, safe(&remark)),
    }];
    notes.push(format!("expected: {}", safe(&documented(record))));
    notes.extend(
        other_systems(record.levels.iter())
            .iter()
            .map(|other| safe(&format!("{} {other}", other.fidelity.mark()))),
    );
    notes.extend(cell.others.iter().map(|other| safe(&format!("{} in run {}", other.verdict, other.run))));
    notes
}

/// The stages of a cell, and the cases of test suites after the step that ran them.
fn subresults(record: &CellRecord, attempt: Option<&Attempt>, began: Option<SystemTime>) -> Vec<TmtResult> {
    // Times of stages are counted from the boot of the stack.
    let boot = || Duration::try_from_secs_f64(attempt?.booted?).ok();
    let zero = began.and_then(|began| began.checked_add(boot()?));
    let stage = |part: &Part<'_>| {
        let time = part.time.map_or_else(Time::default, |time| Time::new(zero, time.start, time.end));
        // A stop that is expected passes too, so the note says the verdict.
        let stop = || safe(&format!("{}: {}", record.verdict, observed(record).unwrap_or_default()));
        let (note, result) = match part.is_stop {
            true => (vec![stop()], Outcome::of(record)),
            false => (Vec::new(), Outcome::Pass),
        };
        TmtResult { note, time, ..TmtResult::new(safe(&part.name), result) }
    };
    let with_cases = |part: Part<'_>| {
        let cases = part.cases.iter().map(|case| test_case(&part.name, case));
        [stage(&part)].into_iter().chain(cases).collect::<Vec<_>>()
    };
    parts(record).into_iter().flat_map(with_cases).collect()
}

fn test_case(step: &str, case: &Case) -> TmtResult {
    let known = case.known.as_ref().map(|known| safe(&format!("known to fail: {known}")));
    let said = case.said.as_deref().map(safe);
    let word = case.outcome.to_string();
    let note = [word].into_iter().chain(known).chain(said).collect();
    TmtResult {
        note,
        ..TmtResult::new(safe(&format!("{step}: {}", case.name)), Outcome::of_case(case.outcome))
    }
}

/// The files of a cell relative to `base`, consoles first, since tmt shows the first one; none if they are elsewhere.
fn logs(overview: &Overview, cell: &OverviewCell, base: &Path) -> Option<Vec<String>> {
    let Some(of_cell) = &cell.record.folder else { return Some(Vec::new()) };
    let of_cell = of_cell.as_path();
    let run = &overview.runs.get(cell.run)?.folder;
    let folder = run.canonicalize().ok()?;
    let below = folder.strip_prefix(base.canonicalize().ok()?).ok()?.join(of_cell);
    let mut files = contained::list(run, of_cell).unwrap_or_default().files;
    // The files of earlier attempts are in subfolders.
    files.retain(|file| file.components().count() == 1);
    files.sort_by_key(|file| !file.to_string_lossy().ends_with(".console.log"));
    // JSON can't have a name that is not text, and this program writes none.
    Some(files.iter().filter_map(|file| Some(below.join(file).to_str()?.to_owned())).collect())
}

/// Text that a guest may have printed, on one line and without what a reader could take for something else.
fn safe(text: &str) -> String {
    shown(&one_line(text))
}

/// JSON that is YAML too. YAML does not take all of the characters that JSON does.
fn in_yaml(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}
