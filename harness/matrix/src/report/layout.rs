//! The cells of an overview as the documents lay them out, for reports that are pages.

use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_model::Fidelity;

use crate::records::{CellRecord, Known, LevelRecord, Overview, OverviewCell, Tally, VerdictWord};
use crate::scenario::{
    Cell, CellName, Claim, Coverage, Document, Expectation, Matrix, Scenario, Shown, Tried,
};

use super::matrix::{required_systems, short};
use super::text::grouped;

/// A verdict as reports show it: a known one differs from a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    CameBack,
    Fail,
    Flaky,
    Error,
    News,
    KnownFail,
    Known,
    Xfail,
    KnownFlaky,
    Righted,
    Pass,
    Skip,
}

impl Severity {
    /// The most urgent one first.
    pub(super) const ALL: [Self; 12] = [
        Self::CameBack,
        Self::Fail,
        Self::Flaky,
        Self::Error,
        Self::News,
        Self::KnownFail,
        Self::Known,
        Self::Xfail,
        Self::KnownFlaky,
        Self::Righted,
        Self::Pass,
        Self::Skip,
    ];

    pub(super) fn of(cell: &OverviewCell) -> Self {
        match cell.record.known() {
            Some(Known::CameBack) => return Self::CameBack,
            Some(Known::Wrong) => return Self::KnownFail,
            Some(Known::Stale) => return Self::Known,
            Some(Known::Righted) => return Self::Righted,
            Some(Known::Flaky) => return Self::KnownFlaky,
            None => {}
        }
        match cell.record.verdict {
            VerdictWord::Fail => Self::Fail,
            VerdictWord::Error => Self::Error,
            VerdictWord::Xpass => Self::News,
            VerdictWord::Xfail => Self::Xfail,
            VerdictWord::Pass => Self::Pass,
            VerdictWord::Flaky => Self::Flaky,
            VerdictWord::Skip => Self::Skip,
        }
    }

    /// The word of the verdict.
    pub(super) fn word(self) -> VerdictWord {
        match self {
            Self::CameBack | Self::Fail | Self::KnownFail => VerdictWord::Fail,
            Self::Error => VerdictWord::Error,
            Self::News | Self::Known => VerdictWord::Xpass,
            Self::Xfail => VerdictWord::Xfail,
            Self::Flaky | Self::KnownFlaky => VerdictWord::Flaky,
            Self::Righted | Self::Pass => VerdictWord::Pass,
            Self::Skip => VerdictWord::Skip,
        }
    }

    /// The note after the word, if there is one.
    pub(super) fn note(self) -> &'static str {
        match self {
            Self::CameBack => Known::CameBack.note(),
            Self::KnownFail => Known::Wrong.note(),
            Self::Known => Known::Stale.note(),
            Self::Righted => Known::Righted.note(),
            Self::KnownFlaky => Known::Flaky.note(),
            _ => "",
        }
    }

    fn count(self, tally: &Tally) -> usize {
        match self {
            Self::CameBack => tally.came_back,
            Self::KnownFail => tally.known_wrong,
            Self::Righted => tally.righted,
            Self::Fail => tally.fail.saturating_sub(tally.known_wrong).saturating_sub(tally.came_back),
            Self::Flaky => tally.flaky.saturating_sub(tally.known_flaky),
            Self::KnownFlaky => tally.known_flaky,
            Self::Error => tally.error,
            Self::News => tally.xpass.saturating_sub(tally.known_stale),
            Self::Known => tally.known_stale,
            Self::Xfail => tally.xfail,
            Self::Pass => tally.pass.saturating_sub(tally.righted),
            Self::Skip => tally.skip,
        }
    }
}

/// The counts of a tally, without zeros.
pub(super) fn counts(tally: &Tally) -> Vec<(Severity, usize)> {
    Severity::ALL
        .into_iter()
        .map(|severity| (severity, severity.count(tally)))
        .filter(|(_, number)| *number > 0)
        .collect()
}

/// `10 pass, 1 xpass (known stale)`.
pub(super) fn counted(tally: &Tally) -> String {
    let part = |(severity, number): (Severity, usize)| match severity.note() {
        "" => format!("{number} {}", severity.word()),
        note => format!("{number} {} ({note})", severity.word()),
    };
    let parts: Vec<String> = counts(tally).into_iter().map(part).collect();
    if parts.is_empty() { "no verdicts".to_owned() } else { parts.join(", ") }
}

/// The tally of these cells.
pub(super) fn tally<'o>(cells: impl IntoIterator<Item = &'o OverviewCell>) -> Tally {
    let mut tally = Tally::default();
    cells.into_iter().for_each(|cell| tally.add(&cell.record));
    tally
}

/// A cell and its index in the overview.
pub(super) type Placed<'o> = (usize, &'o OverviewCell);

/// The cells of a document.
pub(super) struct DocumentPart<'o> {
    /// Its id.
    pub(super) id: &'o str,
    /// The document, if the matrix (still) has it.
    pub(super) document: Option<&'o Document>,
    pub(super) scenarios: Vec<ScenarioPart<'o>>,
}

/// The cells of a scenario.
pub(super) struct ScenarioPart<'o> {
    pub(super) name: &'o str,
    /// The scenario, if the matrix (still) has it.
    pub(super) scenario: Option<&'o Scenario>,
    pub(super) cells: Vec<Placed<'o>>,
}

/// An overview with what the documents say about its cells.
pub(super) struct Layout<'o> {
    pub(super) overview: &'o Overview,
    pub(super) matrix: &'o Matrix,
    specs: BTreeMap<&'o CellName, &'o Cell>,
    /// What the cells of the overview show about each claim, by `DOCUMENT/CLAIM`.
    coverage: BTreeMap<String, Coverage>,
}

/// A claim as `DOCUMENT/CLAIM`.
pub(super) fn in_full(claim: &str, document: &str) -> String {
    if claim.contains('/') { claim.to_owned() } else { format!("{document}/{claim}") }
}

/// What these cells show about each claim that they test.
fn coverage(overview: &Overview, matrix: &Matrix) -> BTreeMap<String, Coverage> {
    let mut tried: BTreeMap<String, Vec<Tried>> = BTreeMap::new();
    for record in overview.cells.iter().map(|cell| &cell.record) {
        for claim in &record.claims {
            tried.entry(in_full(claim, &record.document)).or_default().push(tried_by(record));
        }
    }
    let shown = Shown::of(matrix);
    let known = |(name, tried): (String, Vec<Tried>)| {
        let coverage = shown.coverage(matrix.claim(&name)?, &tried);
        Some((name, coverage))
    };
    tried.into_iter().filter_map(known).collect()
}

fn tried_by(record: &CellRecord) -> Tried {
    let is_stand_in = |level: &&LevelRecord| {
        let other = level.other_qemu.as_ref().map(|other| other.fidelity);
        level.fidelity == Fidelity::StandIn || other == Some(Fidelity::StandIn)
    };
    let stand_ins = record.levels.iter().filter(is_stand_in);
    Tried {
        cell: record.cell.clone(),
        boots: record.verdict != VerdictWord::Skip && !record.leaves_performance_open(),
        may_stop: matches!(record.expectation, Expectation::MayStop(_)),
        stand_ins: stand_ins.map(|level| level.level).collect(),
    }
}

impl<'o> Layout<'o> {
    pub(super) fn new(overview: &'o Overview, matrix: &'o Matrix) -> Self {
        let specs = matrix.cells().iter().map(|cell| (&cell.name, cell)).collect();
        Self { overview, matrix, specs, coverage: coverage(overview, matrix) }
    }

    /// The claim with this name, `DOCUMENT/CLAIM`, if the matrix (still) has it.
    pub(super) fn claim(&self, name: &str) -> Option<&'o Claim> {
        self.matrix.claim(name)
    }

    /// What the cells of the overview show about the claim with this name.
    pub(super) fn coverage_of(&self, name: &str) -> Option<Coverage> {
        self.coverage.get(name).copied()
    }

    /// The same for each of these claims.
    pub(super) fn coverage(&self, names: &BTreeSet<String>) -> Vec<Coverage> {
        names.iter().filter_map(|name| self.coverage_of(name)).collect()
    }

    /// The documents that have cells here.
    pub(super) fn documents(&self) -> Vec<DocumentPart<'o>> {
        let cells = self.overview.cells.iter().enumerate();
        let of_document = grouped(cells, |(_, cell)| cell.record.document.as_str());
        let scenarios = |cells| {
            let of_scenario = grouped(cells, |(_, cell): &Placed<'o>| cell.record.scenario.as_str());
            let part = |(name, cells)| {
                let scenario = self.matrix.scenarios().iter().find(|scenario| scenario.name == name);
                ScenarioPart { name, scenario, cells }
            };
            of_scenario.into_iter().map(part).collect()
        };
        let part = |(id, cells)| {
            let document = self.matrix.documents().iter().find(|document| document.id == id);
            DocumentPart { id, document, scenarios: scenarios(cells) }
        };
        of_document.into_iter().map(part).collect()
    }

    /// The system that the document requires on each level, in short. If it is no longer known, it is taken from the cell's name.
    pub(super) fn systems(&self, cell: &OverviewCell) -> Vec<String> {
        let record = &cell.record;
        if !record.levels.is_empty() {
            return required_systems(record);
        }
        match self.specs.get(&record.cell) {
            Some(spec) => spec.levels.iter().map(|level| short(&level.system.to_string())).collect(),
            None => record.cell.as_str().split('/').skip(2).map(str::to_owned).collect(),
        }
    }
}

impl DocumentPart<'_> {
    /// Its product and title, or its id.
    pub(super) fn heading(&self) -> String {
        match self.document {
            Some(Document { title, product, section, .. }) => format!("{product}, {section} {title}"),
            None => self.id.to_owned(),
        }
    }

    /// The claims that its cells test, as `DOCUMENT/CLAIM`.
    pub(super) fn claims(&self) -> BTreeSet<String> {
        let records = self.scenarios.iter().flat_map(|part| part.cells.iter().map(|(_, cell)| &cell.record));
        let claims = |record: &'_ CellRecord| {
            record.claims.iter().map(|claim| in_full(claim, &record.document)).collect::<Vec<_>>()
        };
        records.flat_map(claims).collect()
    }

    pub(super) fn tally(&self) -> Tally {
        tally(self.scenarios.iter().flat_map(|part| part.cells.iter().map(|(_, cell)| *cell)))
    }
}
