//! One record, judged as the document's author has to see it: the statement held, or did not, or nothing can be said.

use nestmatrix_model::SymptomKind;
use nestmatrix_stack::Metal;

use crate::history::HistoryEntry;
use crate::records::{CellRecord, Known, VerdictWord};
use crate::scenario::{Expectation, Matrix};

/// What a record says of the statements that it tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judged {
    /// It went as the document says.
    Held,
    /// It did not.
    Deviates(Deviation),
    /// The harness or its machine was at fault, or the result was not the same each time.
    NoResult,
    /// It was not tried.
    NotTried,
}

/// In which way something did not go as the document says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deviation {
    /// A documented limitation did not show itself.
    LimitationGone,
    /// What is documented to work did not.
    DoesNotWork,
    /// It stopped, but at another point or with another message than documented.
    StoppedOtherwise,
}

/// One record of a cell.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The record.
    pub record: CellRecord,
    /// The run that saw it.
    pub run: String,
    /// The day on which it was seen: `2026-11-28`.
    pub day: String,
    /// The emulator that played L0's machine and its version, where one did and it is known.
    pub emulator: Option<String>,
    /// What it says.
    pub judged: Judged,
    /// Whether the scenario has changed since, or is gone.
    pub outdated: bool,
}

impl Observation {
    pub(super) fn new(record: &CellRecord, sighting: HistoryEntry, matrix: &Matrix) -> Self {
        let cell = matrix.cells().iter().find(|cell| cell.name == record.cell);
        let same = |expectation: &Expectation| expected(expectation) == expected(&record.expectation);
        Self {
            run: sighting.run,
            day: sighting.seen.chars().take("2026-11-28".len()).collect(),
            emulator: emulator(record, sighting.with.emulator.as_deref()),
            judged: judged(record),
            outdated: !cell.is_some_and(|cell| same(&cell.expectation) && cell.claims == record.claims),
            record: record.clone(),
        }
    }

    /// In which way it did not go as the document says, if it did not.
    pub fn deviation(&self) -> Option<Deviation> {
        match self.judged {
            Judged::Deviates(deviation) => Some(deviation),
            Judged::Held | Judged::NoResult | Judged::NotTried => None,
        }
    }

    /// Whether a fault of the emulator could be the cause: the stack broke on emulated metal, and no program refused anything in
    /// words of its own.
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
                    | SymptomKind::NotNested
                    | SymptomKind::Timeout
                    | SymptomKind::Unknown
            )
        };
        let stopped = match self.deviation() {
            Some(Deviation::DoesNotWork | Deviation::StoppedOtherwise) => true,
            Some(Deviation::LimitationGone) | None => false,
        };
        // Records of old do not say which kind it was.
        let kind = self.record.symptom_data.as_ref().map_or(SymptomKind::Unknown, |symptom| symptom.kind());
        stopped && self.is_emulated() && broke(kind)
    }

    /// Whether an emulator played L0's machine.
    pub fn is_emulated(&self) -> bool {
        self.record.metal == Some(Metal::Emulated)
    }

    /// Whether one of its levels ran another system than the documented one.
    pub fn has_stand_in(&self) -> bool {
        self.record.levels.iter().any(|level| level.stand_in)
    }
}

/// Whether a verdict says something of the document that its cell is of.
pub(super) fn has_result(verdict: VerdictWord) -> bool {
    !matches!(verdict, VerdictWord::Flaky | VerdictWord::Skip | VerdictWord::Error)
}

fn judged(record: &CellRecord) -> Judged {
    match (record.verdict, record.known(), &record.expectation) {
        // The limitation shows itself: the document is right, whatever newer software was known to do.
        (VerdictWord::Fail, Some(Known::CameBack), _) => Judged::Held,
        (VerdictWord::Pass | VerdictWord::Xfail, ..) => Judged::Held,
        (VerdictWord::Xpass, ..) => Judged::Deviates(Deviation::LimitationGone),
        (VerdictWord::Fail, _, Expectation::Works { .. }) => Judged::Deviates(Deviation::DoesNotWork),
        (VerdictWord::Fail, _, Expectation::Stops { .. } | Expectation::MayStop(_)) => {
            Judged::Deviates(Deviation::StoppedOtherwise)
        }
        (VerdictWord::Skip, ..) => Judged::NotTried,
        // One that works at one time and not at another says nothing of the document.
        (VerdictWord::Flaky | VerdictWord::Error, ..) => Judged::NoResult,
    }
}

/// What is expected, without what is known of it.
fn expected(expectation: &Expectation) -> Expectation {
    match expectation {
        Expectation::Works { .. } => Expectation::WORKS,
        Expectation::Stops { limitation, .. } => {
            Expectation::Stops { limitation: limitation.clone(), known_stale: None }
        }
        Expectation::MayStop(limitation) => Expectation::MayStop(limitation.clone()),
    }
}

/// `QEMU 10.0.13 (...)`, by the level that it ran; otherwise the package of the emulator.
fn emulator(record: &CellRecord, package: Option<&str>) -> Option<String> {
    if record.metal != Some(Metal::Emulated) {
        return None;
    }
    let outermost = record.levels.first().and_then(|level| level.seen.qemu.as_ref());
    outermost.map(|qemu| format!("QEMU {qemu}")).or_else(|| package.map(str::to_owned))
}
