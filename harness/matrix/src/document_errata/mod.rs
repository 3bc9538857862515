//! What runs show about the documents: for each document, the statements that did not hold, those that contradict each other,
//! and how much of it was tested. `report --format errata` turns this into a text for the document's author.
//!
//! In an overview of runs, only the newest verdict of a cell counts. Here every observation counts, because an author needs to
//! know how often something was seen.

mod dispute;
mod entry;
mod observation;
mod standing;
mod system_name;

use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_model::Fidelity;

use crate::history::{self, HistoryEntry};
use crate::records::{PastRun, Purpose};
use crate::scenario::{CellName, Document, Matrix, in_full};

use observation::has_result;

pub use dispute::{Dispute, DisputedClaim, OutsideDispute, Settled};
pub use entry::{ClaimOfEntry, Earlier, Entry, EverSeen, SeenInRuns, Stack, Test};
pub use observation::{Deviation, Judged, Observation};
pub use standing::{Standing, Standings};

/// What runs show about the documents.
#[derive(Debug, Clone)]
pub struct DocumentErrata {
    /// The runs, the oldest first. Instead of a merged run, these are the runs that it consists of.
    pub runs: Vec<ErrataRun>,
    /// Runs that show nothing about a document, because their cells are not those of the matrix.
    pub left_out: Vec<(String, Purpose)>,
    /// The documents, in the order of their ids. Those that the matrix does not have (any more) come last.
    pub documents: Vec<ErrataOfDocument>,
}

/// A run of one machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrataRun {
    /// When it began, UTC, RFC 3339.
    pub began: String,
    /// Its name.
    pub name: String,
    /// The processor of its machine.
    pub processor: String,
    /// The kernel of its machine.
    pub kernel: String,
}

/// The errata of one document.
#[derive(Debug, Clone)]
pub struct ErrataOfDocument {
    /// Its id.
    pub id: String,
    /// The document, if the matrix (still) has it.
    pub document: Option<Document>,
    /// Statements that did not hold, in the document's order.
    pub entries: Vec<Entry>,
    /// Statements that contradict another one.
    pub disputes: Vec<Dispute>,
    /// Documents that the matrix does not have, and what they contradict here.
    pub outside: Vec<OutsideDispute>,
    /// What scenarios know from earlier runs and these did not see.
    pub earlier: Vec<Earlier>,
    /// The standing of its statements.
    pub standings: Standings,
    /// Whether any stack that tested its statements ran on an emulator.
    pub emulated: bool,
    /// Whether any level of these stacks booted from a disk with an installed system.
    pub from_disks: bool,
    /// The systems that ran instead of documented ones in these stacks, the nearest ones first.
    pub other_systems: Vec<OtherSystemUsed>,
}

/// A system that ran instead of documented ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherSystemUsed {
    /// How near it is to them.
    pub fidelity: Fidelity,
    /// Its name and version: `Debian 13`.
    pub system: String,
    /// Why this one.
    pub reason: Option<String>,
    /// The documented systems, as the document has them.
    pub required: BTreeSet<String>,
}

impl DocumentErrata {
    /// The errata of these runs. A record that several runs have counts once, for example that of a merged run and of one of its
    /// parts. `past` returns what all recorded runs saw of a cell, or nothing.
    pub fn new(runs: &[PastRun], matrix: &Matrix, past: &dyn Fn(&CellName) -> Vec<HistoryEntry>) -> Self {
        let mut seen = BTreeSet::new();
        let mut of_runs = BTreeSet::new();
        let mut left_out = Vec::new();
        let mut observations = Vec::new();
        for run in runs {
            if run.record.purpose != Purpose::Matrix {
                left_out.push((run.record.run.clone(), run.record.purpose));
                continue;
            }
            of_runs.extend(machines(run));
            for (record, entry, digest) in history::records(run) {
                if seen.insert(digest) {
                    observations.push(Observation::new(record, entry, matrix));
                }
            }
        }
        left_out.sort_by(|a, b| a.0.cmp(&b.0));
        left_out.dedup();
        let place = |cell: &CellName| matrix.cells().iter().position(|known| known.name == *cell);
        observations.sort_by_cached_key(|seen| {
            let cell = &seen.record.cell;
            (place(cell).unwrap_or(usize::MAX), cell.clone(), seen.day.clone(), seen.run.clone())
        });
        let mut ids: Vec<String> = matrix.documents().iter().map(|document| document.id.clone()).collect();
        let mut unknown: Vec<String> =
            observations.iter().flat_map(Observation::documents).filter(|id| !ids.contains(id)).collect();
        unknown.sort();
        unknown.dedup();
        ids.extend(unknown);
        let documents = ids.into_iter().map(|id| of_document(id, &observations, matrix, past)).collect();
        Self { runs: of_runs.into_iter().collect(), left_out, documents }
    }
}

fn machines(run: &PastRun) -> Vec<ErrataRun> {
    let of = |name: &str, began: &str, machine: &crate::records::Machine| ErrataRun {
        began: began.to_owned(),
        name: name.to_owned(),
        processor: machine.processor.clone(),
        kernel: machine.kernel.clone(),
    };
    let record = &run.record;
    match record.merged.as_slice() {
        [] => vec![of(&record.run, &record.began, &record.machine)],
        merged => merged.iter().map(|run| of(&run.run, &run.began, &run.machine)).collect(),
    }
}

fn of_document(
    id: String,
    observations: &[Observation],
    matrix: &Matrix,
    past: &dyn Fn(&CellName) -> Vec<HistoryEntry>,
) -> ErrataOfDocument {
    let document = matrix.documents().iter().find(|document| document.id == id).cloned();
    let of_it: Vec<&Observation> =
        observations.iter().filter(|seen| seen.documents().contains(&id)).collect();
    let mut entries = entry::entries(&id, document.as_ref(), &of_it, matrix);
    for stack in entries.iter_mut().flat_map(|entry| &mut entry.tests).flat_map(|test| &mut test.stacks) {
        stack.ever = EverSeen::of(&past(&stack.cell));
    }
    ErrataOfDocument {
        disputes: dispute::disputes(&id, observations, matrix),
        outside: dispute::outside(&id, observations, matrix),
        earlier: entry::earlier(&id, &of_it, matrix),
        standings: Standings::new(&id, document.as_ref(), &of_it),
        emulated: of_it.iter().any(|seen| seen.is_emulated()),
        from_disks: of_it.iter().any(|seen| seen.record.levels.iter().any(|level| level.disk.is_some())),
        other_systems: other_systems(&of_it),
        entries,
        document,
        id,
    }
}

fn other_systems(observations: &[&Observation]) -> Vec<OtherSystemUsed> {
    let mut used: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (level, system) in observations.iter().flat_map(|seen| seen.levels()) {
        if level.fidelity != Fidelity::Product {
            let by = (level.fidelity, system.to_owned(), level.fidelity_reason.clone());
            used.entry(by).or_default().insert(level.required.clone());
        }
    }
    let used = used.into_iter();
    used.map(|((fidelity, system, reason), required)| OtherSystemUsed { fidelity, system, reason, required })
        .collect()
}

impl Observation {
    /// The documents whose statements it tested.
    fn documents(&self) -> BTreeSet<String> {
        let claims = self.claims();
        claims
            .iter()
            .filter_map(|claim| claim.split_once('/'))
            .map(|(document, _)| document.to_owned())
            .collect()
    }

    /// The claims that it tested, each as `DOCUMENT/CLAIM`.
    fn claims(&self) -> Vec<String> {
        let in_full = |claim: &String| in_full(claim, &self.record.document);
        let mut claims: Vec<String> = self.record.claims.iter().map(in_full).collect();
        claims.sort();
        claims.dedup();
        claims
    }

    /// Whether it has a result.
    fn has_result(&self) -> bool {
        has_result(self.record.verdict)
    }
}
