//! What is known about a claim: whether a booted cell would turn red if the claim were wrong, and what has shown that.

use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_model::{LevelNumber, Word, word_traits};
use serde::Serialize;

use super::cell::CellName;
use super::decided::{BothVerdicts, Ledger, Mutated};
use super::document::Claim;
use super::fingerprint::Fingerprint;
use super::matrix::Matrix;

/// What is known about a claim, or why nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coverage {
    /// A cell that boots here would turn red if the claim were wrong, and that was shown.
    Decided,
    /// The text says "may" or "might", so no behaviour of a stack contradicts it. The behaviour is recorded.
    Observed,
    /// It is about a version, and only stand-ins boot at that level. They show something about the major version alone.
    MajorVersionOnly,
    /// Cells that test it boot here, but nothing has shown that they would turn red.
    Undecided,
    /// All cells that test it are skipped here: there is no image for them, or no way to boot their architecture.
    Skipped,
    /// No boot can test it.
    Untestable,
    /// No cell tests it yet.
    NotCovered,
}

impl Word for Coverage {
    const WHAT: &'static str = "coverage";
    const ALL: &'static [Self] = &[
        Self::Decided,
        Self::Observed,
        Self::MajorVersionOnly,
        Self::Undecided,
        Self::Skipped,
        Self::Untestable,
        Self::NotCovered,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Observed => "observed",
            Self::MajorVersionOnly => "major-version-only",
            Self::Undecided => "undecided",
            Self::Skipped => "skipped",
            Self::Untestable => "untestable",
            Self::NotCovered => "not-covered",
        }
    }
}
word_traits!(Coverage);

impl Coverage {
    /// The same for people: `major version only`.
    pub fn text(self) -> String {
        match self {
            Self::NotCovered => "not covered yet".into(),
            _ => self.word().replace('-', " "),
        }
    }

    /// How often each of them occurs: `3 decided, 1 undecided`; with `all`, also those that do not occur.
    pub fn counted(coverages: &[Self], all: bool) -> String {
        let of = |wanted: Self| coverages.iter().filter(|coverage| **coverage == wanted).count();
        let counts = Self::ALL.iter().map(|coverage| (of(*coverage), coverage.text()));
        let counts = counts.filter(|(number, _)| all || *number > 0);
        counts.map(|(number, text)| format!("{number} {text}")).collect::<Vec<_>>().join(", ")
    }
}

/// What was shown about one cell, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShownRow {
    /// How it was shown, and by which cell.
    #[serde(flatten)]
    pub by: ShownBy,
    /// Whether the cell, or the one with the other verdict, has changed since: then it no longer shows anything.
    pub stale: bool,
}

/// How something was shown about a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum ShownBy {
    /// It was damaged on purpose.
    Mutations(Mutated),
    /// Both verdicts were seen.
    BothVerdicts(BothVerdicts),
}

impl ShownRow {
    /// The cell.
    pub fn cell(&self) -> &CellName {
        match &self.by {
            ShownBy::Mutations(Mutated { cell, .. }) | ShownBy::BothVerdicts(BothVerdicts { cell, .. }) => {
                cell
            }
        }
    }

    /// Whether it shows that the cell would turn red if the tested claims were wrong.
    pub fn decides(&self) -> bool {
        let shows = match &self.by {
            ShownBy::Mutations(mutated) => mutated.decides(),
            ShownBy::BothVerdicts(_) => true,
        };
        shows && !self.stale
    }

    /// The same for a claim about a version of this level, or about no version. If a stand-in ran on the level, it shows nothing about
    /// a version.
    pub fn decides_of(&self, version_of: Option<LevelNumber>) -> bool {
        let of_version = |level: LevelNumber| match &self.by {
            ShownBy::Mutations(mutated) => !mutated.stand_ins.contains(&level),
            // Two versions gave different verdicts.
            ShownBy::BothVerdicts(_) => false,
        };
        self.decides() && version_of.is_none_or(of_version)
    }

    pub(crate) fn seen(&self) -> &str {
        match &self.by {
            ShownBy::Mutations(Mutated { seen, .. }) | ShownBy::BothVerdicts(BothVerdicts { seen, .. }) => {
                seen
            }
        }
    }
}

/// A cell that tests a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The cell.
    pub cell: CellName,
    /// Whether it boots, on a metal that can show what it expects.
    pub boots: bool,
    /// Whether it is expected that it may stop: then it is green whatever its stack does.
    pub may_stop: bool,
    /// Its levels with a stand-in, which shows nothing about a version.
    pub stand_ins: BTreeSet<LevelNumber>,
}

/// What was shown about each cell of a matrix.
#[derive(Debug, Clone)]
pub struct Shown(BTreeMap<CellName, Vec<ShownRow>>);

impl Shown {
    /// The cell in the matrix.
    pub fn of(matrix: &Matrix) -> Self {
        let Ledger { mutated, both_verdicts } = matrix.decided();
        let is_stale = |name: &CellName, fingerprint: &Fingerprint| {
            let cell = matrix.cells().iter().find(|cell| cell.name == *name);
            cell.is_none_or(|cell| Fingerprint::of(cell) != *fingerprint)
        };
        let mutated = mutated.iter().map(|entry| {
            let stale = is_stale(&entry.cell, &entry.fingerprint);
            ShownRow { by: ShownBy::Mutations(entry.clone()), stale }
        });
        let both = both_verdicts.iter().map(|entry| {
            let like = entry.like.as_ref().zip(entry.like_fingerprint.as_ref());
            let stale = is_stale(&entry.cell, &entry.fingerprint)
                || like.is_some_and(|(cell, fingerprint)| is_stale(cell, fingerprint));
            ShownRow { by: ShownBy::BothVerdicts(entry.clone()), stale }
        });
        let mut shown: BTreeMap<CellName, Vec<ShownRow>> = BTreeMap::new();
        for row in mutated.chain(both) {
            shown.entry(row.cell().clone()).or_default().push(row);
        }
        Self(shown)
    }

    /// What was shown about a cell.
    pub fn of_cell(&self, cell: &CellName) -> &[ShownRow] {
        self.0.get(cell).map_or(&[], Vec::as_slice)
    }

    /// What is known about a claim that these cells test.
    pub fn coverage(&self, claim: &Claim, tried: &[Tried]) -> Coverage {
        let booted: Vec<&Tried> = tried.iter().filter(|tried| tried.boots).collect();
        let shows = |row: &ShownRow| row.decides_of(claim.version_of);
        let decides = |tried: &&&Tried| !tried.may_stop && self.of_cell(&tried.cell).iter().any(shows);
        // If the exact version boots, only those cells decide.
        let of_version =
            |tried: &&&Tried| claim.version_of.is_none_or(|level| !tried.stand_ins.contains(&level));
        match claim {
            Claim { untestable: Some(_), .. } => Coverage::Untestable,
            _ if tried.is_empty() => Coverage::NotCovered,
            _ if booted.is_empty() => Coverage::Skipped,
            Claim { may: true, .. } => Coverage::Observed,
            _ if !booted.iter().any(|tried| of_version(&tried)) => Coverage::MajorVersionOnly,
            _ if booted.iter().filter(of_version).any(|tried| decides(&tried)) => Coverage::Decided,
            _ => Coverage::Undecided,
        }
    }
}
