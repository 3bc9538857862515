//! One record from the view of the document's author: the statement held, it did not, or there is no result.

use nestmatrix_model::{Fidelity, SymptomKind};
use nestmatrix_stack::Metal;

use crate::history::HistoryEntry;
use crate::records::{CellRecord, Known, LevelRecord, VerdictWord};
use crate::scenario::{Expectation, Matrix};

use super::system_name::system_name;

/// What a record shows about the statements that it tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judged {
    /// The result was as documented.
    Held,
    /// It was not.
    Deviates(Deviation),
    /// The harness or its machine was at fault, or the result varied.
    NoResult,
    /// It was skipped.
    NotTried,
}

/// How a result differs from the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deviation {
    /// A documented limitation did not occur.
    LimitationGone,
    /// Something did not work, although the document says so.
    DoesNotWork,
    /// It stopped, but at another point or with another message than documented.
    StoppedOtherwise,
}

/// One record of a cell.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The record.
    pub record: CellRecord,
    /// Name and version of the system of each of its levels: `Debian 13`.
    systems: Vec<String>,
    /// The run that saw it.
    pub run: String,
    /// The day when it was seen: `2026-11-28`.
    pub day: String,
    /// The emulator of L0's machine and its version, if there was one and it is known.
    pub emulator: Option<String>,
    /// What it shows.
    pub judged: Judged,
    /// Whether the scenario has changed since, or no longer exists.
    pub outdated: bool,
}

impl Observation {
    pub(super) fn new(record: &CellRecord, entry: HistoryEntry, matrix: &Matrix) -> Self {
        let cell = matrix.cells().iter().find(|cell| cell.name == record.cell);
        let same = |expectation: &Expectation| expected(expectation) == expected(&record.expectation);
        Self {
            run: entry.run,
            day: entry.seen.chars().take("2026-11-28".len()).collect(),
            emulator: emulator(record, entry.with.emulator.as_deref()),
            judged: judged(record),
            outdated: !cell.is_some_and(|cell| same(&cell.expectation) && cell.claims == record.claims),
            systems: record.levels.iter().map(|level| system_name(&level.os, matrix)).collect(),
            record: record.clone(),
        }
    }

    /// How the result differs from the document, if it does.
    pub fn deviation(&self) -> Option<Deviation> {
        match self.judged {
            Judged::Deviates(deviation) => Some(deviation),
            Judged::Held | Judged::NoResult | Judged::NotTried => None,
        }
    }

    /// Whether a fault of the emulator may be the cause: the stack broke on emulated metal, and no program printed a reason.
    pub fn emulator_may_explain(&self) -> bool {
        let broke = |kind| {
            matches!(
                kind,
                SymptomKind::QemuEnded
                    | SymptomKind::StoppedByQemu
                    | SymptomKind::GuestFailed
                    | SymptomKind::GuestPanicked
                    | SymptomKind::ShutDown
                    | SymptomKind::MigrationFailed
                    | SymptomKind::StandsStill
                    | SymptomKind::KernelComplained
                    | SymptomKind::WrongClock
                    | SymptomKind::NotNested
                    | SymptomKind::Timeout
                    | SymptomKind::Unknown
            )
        };
        let stopped = match self.deviation() {
            Some(Deviation::DoesNotWork | Deviation::StoppedOtherwise) => true,
            Some(Deviation::LimitationGone) | None => false,
        };
        // Old records do not have the kind of the symptom.
        let kind = self.record.symptom_data.as_ref().map_or(SymptomKind::Unknown, |symptom| symptom.kind());
        stopped && self.is_emulated() && broke(kind)
    }

    /// Whether L0's machine was an emulator.
    pub fn is_emulated(&self) -> bool {
        self.record.metal == Some(Metal::Emulated)
    }

    /// Its levels, each with the name and version of its system.
    pub fn levels(&self) -> impl Iterator<Item = (&LevelRecord, &str)> {
        self.record.levels.iter().zip(self.systems.iter().map(String::as_str))
    }

    /// Whether one of its levels ran a system of this fidelity.
    pub fn has(&self, fidelity: Fidelity) -> bool {
        self.record.levels.iter().any(|level| level.fidelity == fidelity)
    }

    /// Whether each of its levels ran the documented system.
    pub fn is_of_the_product(&self) -> bool {
        self.record.levels.iter().all(|level| level.fidelity == Fidelity::Product)
    }
}

/// Whether a verdict says something about the document.
pub(super) fn has_result(verdict: VerdictWord) -> bool {
    !matches!(verdict, VerdictWord::Flaky | VerdictWord::Skip | VerdictWord::Error)
}

fn judged(record: &CellRecord) -> Judged {
    match (record.verdict, record.known(), &record.expectation) {
        // The limitation is there: the document is right, whatever newer software is known to do.
        (VerdictWord::Fail, Some(Known::CameBack), _) => Judged::Held,
        // The ratio that the document is about was only recorded.
        (VerdictWord::Pass, ..) if record.leaves_performance_open() => Judged::NoResult,
        (VerdictWord::Pass | VerdictWord::Xfail, ..) => Judged::Held,
        (VerdictWord::Xpass, ..) => Judged::Deviates(Deviation::LimitationGone),
        (VerdictWord::Fail, _, Expectation::Works { .. }) => Judged::Deviates(Deviation::DoesNotWork),
        (VerdictWord::Fail, _, Expectation::Stops { .. } | Expectation::MayStop(_)) => {
            Judged::Deviates(Deviation::StoppedOtherwise)
        }
        (VerdictWord::Skip, ..) => Judged::NotTried,
        // A flaky result says nothing about the document.
        (VerdictWord::Flaky | VerdictWord::Error, ..) => Judged::NoResult,
    }
}

/// The expectation without what is known about it.
fn expected(expectation: &Expectation) -> Expectation {
    match expectation {
        Expectation::Works { .. } => Expectation::WORKS,
        Expectation::Stops { limitation, .. } => {
            Expectation::Stops { limitation: limitation.clone(), known_stale: None }
        }
        Expectation::MayStop(limitation) => Expectation::MayStop(limitation.clone()),
    }
}

/// `QEMU 10.0.13 (...)`, if the outermost level reports it; otherwise, the package of the emulator.
fn emulator(record: &CellRecord, package: Option<&str>) -> Option<String> {
    if record.metal != Some(Metal::Emulated) {
        return None;
    }
    let outermost = record.levels.first().and_then(|level| level.seen.qemu.as_ref());
    outermost.map(|qemu| format!("QEMU {qemu}")).or_else(|| package.map(str::to_owned))
}
