//! What is known about a cell whose verdict changes from boot to boot, though nothing in its setting differs.
//!
//! It is separate from what is known about a document's statements, because it is measured, on one metal and with certain
//! versions.

use std::fmt;

use nestmatrix_model::{Stage, Word, word_traits};
use serde::{Deserialize, Serialize};

use super::cell::Cell;
use super::expectation::Limitation;
use super::filter::CellGlob;
use super::input::Table;
use super::known::{Since, date};
use super::problem::ScenarioProblem;

/// A `[[known-flaky]]` of a scenario: some stacks work, or stop as expected, and others stop in this way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnownFlaky {
    /// On which metal; without it, on any.
    pub metal: Option<MetalWord>,
    /// With which versions it was measured; without them, with any. Others are judged as usual.
    pub versions: Option<Since>,
    /// The stop that happens now and then. Any other stop is news.
    #[serde(flatten)]
    pub limitation: Limitation,
    /// How many stacks stopped so.
    pub stopped: u32,
    /// Of how many.
    pub of: u32,
    /// The day on which that was measured, as `YEAR-MONTH-DAY`.
    pub seen: String,
    /// What is known about it, for people.
    pub note: String,
    /// Where it is explained or reported, for people.
    pub reference: Option<String>,
}

/// What L0 runs on, as a scenario names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetalWord {
    /// A real machine.
    Native,
    /// An emulator that plays one.
    Emulated,
}

impl Word for MetalWord {
    const WHAT: &'static str = "metal";
    const ALL: &'static [Self] = &[Self::Native, Self::Emulated];

    fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Emulated => "emulated",
        }
    }
}
word_traits!(MetalWord);

impl KnownFlaky {
    pub(super) const KEYS: &'static [&'static str] = &[
        "cells",
        "metal",
        "versions",
        "stage",
        "from",
        "symptom",
        "symptom-kind",
        "control",
        "no-symptom",
        "stopped",
        "of",
        "seen",
        "note",
        "reference",
    ];

    /// Reads one, and adds it to the cells that it describes.
    pub(super) fn read(table: &Table<'_>, stages: &[Stage], cells: &mut [Cell]) -> Option<Self> {
        let globs: Vec<CellGlob> = table
            .optional_strings("cells")
            .unwrap_or_default()
            .iter()
            .filter_map(|text| {
                text.parse(|text| {
                    let glob = CellGlob::parse("cells", text)?;
                    let matches = cells.iter().any(|cell| glob.matches(&cell.name));
                    matches.then_some(glob).ok_or(ScenarioProblem::NoSuchCell { given: text.to_owned() })
                })
            })
            .collect();
        let metal = table.optional_string("metal").map(|text| text.parse(MetalWord::parse));
        let versions = table.optional_string("versions").map(|text| text.parse(Since::parse));
        let seen = table.string("seen").and_then(|text| text.parse(date));
        let note = table.prose("note");
        let reference = table.optional_prose("reference");
        let [stopped, of] = ["stopped", "of"].map(|key| table.integer(key, 1, u32::MAX));
        if let (Some(stopped), Some(of)) = (stopped, of)
            && stopped >= of
        {
            table.report(ScenarioProblem::NotFlaky { stopped, of });
            return None;
        }
        let limitation = Limitation::read(table, stages)?;
        let known = Self {
            // A wrong value has already been reported.
            metal: metal.map_or(Some(None), |metal| metal.map(Some))?,
            versions: versions.map_or(Some(None), |versions| versions.map(Some))?,
            limitation,
            stopped: stopped?,
            of: of?,
            seen: seen?,
            note: note?,
            reference,
        };
        let is_meant =
            |cell: &&mut Cell| !table.has("cells") || globs.iter().any(|glob| glob.matches(&cell.name));
        cells.iter_mut().filter(is_meant).for_each(|cell| cell.known_flaky.push(known.clone()));
        Some(known)
    }
}

impl fmt::Display for KnownFlaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metal, versions, limitation, stopped, of, seen, note, reference } = self;
        f.write_str("known flaky")?;
        metal.map_or(Ok(()), |metal| write!(f, " on {metal} metal"))?;
        versions.as_ref().map_or(Ok(()), |versions| write!(f, " with {versions}"))?;
        write!(f, ", {stopped} of {of} stop {limitation}, seen {seen}: {note}")?;
        reference.as_ref().map_or(Ok(()), |reference| write!(f, " ({reference})"))
    }
}
