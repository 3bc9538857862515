//! Statements that did not hold, with every stack that tested them, and what scenarios know from earlier runs.

use std::collections::BTreeSet;

use super::observation::{Judged, Observation, has_result};
use crate::history::HistoryEntry;
use crate::records::{CellRecord, Known, LevelRecord, VerdictWord};
use crate::scenario::{CellName, Claim, Document, KnownStale, KnownWrong, Matrix, Tier, in_full};

/// Statements that were tested together and did not hold. If there are several and a stack did not work, any of them may be
/// wrong.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The statements.
    pub claims: Vec<ClaimOfEntry>,
    /// The scenarios that tested them, in the matrix's order.
    pub tests: Vec<Test>,
    /// Whether a fault of the emulator may explain every deviation.
    pub in_doubt: bool,
}

/// A statement of an entry.
#[derive(Debug, Clone)]
pub struct ClaimOfEntry {
    /// Its id in the document.
    pub id: String,
    /// The statement, if the document (still) has it.
    pub claim: Option<Claim>,
    /// The support that the vendor gives it; for a statement that no longer exists, as recorded.
    pub tier: Tier,
    /// How often it held in stacks that tested it together with other statements.
    pub held_elsewhere: usize,
}

/// A scenario that tested the statements of an entry.
#[derive(Debug, Clone)]
pub struct Test {
    /// Its name.
    pub scenario: String,
    /// Its title, if the scenario (still) exists.
    pub title: Option<String>,
    /// Its note, unless the note mentions other scenarios.
    pub note: Option<String>,
    /// The observations: deviations first, and otherwise in the matrix's order.
    pub stacks: Vec<Stack>,
}

/// The observations of one cell with the same software and the same outcome.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The cell.
    pub cell: CellName,
    /// The observations, the oldest first; never empty.
    pub observations: Vec<Observation>,
    /// What all recorded runs saw of the cell, if the history was read.
    pub ever: Option<EverSeen>,
}

/// What all recorded runs saw of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EverSeen {
    /// How often it had a result.
    pub tries: usize,
    /// How often the result was not as documented.
    pub deviated: usize,
    /// The days of the first and the last result.
    pub days: [String; 2],
}

/// Something that a scenario knows from earlier runs and that these runs did not see.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// The scenario's name.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// The statements.
    pub claims: Vec<Claim>,
    /// The day when it was seen.
    pub seen: String,
    /// The versions since which it is so, if known.
    pub since: Option<String>,
    /// What is known about it.
    pub note: String,
    /// Whether a limitation is gone; otherwise, something does not work.
    pub limitation_gone: bool,
    /// What these runs saw instead.
    pub now: SeenInRuns,
}

/// What runs saw of a scenario, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeenInRuns {
    /// The result was as documented.
    Held,
    /// It was tested without a result.
    NoResult,
    /// It was skipped.
    Skipped,
    /// These runs did not include it.
    NotThere,
}

impl Entry {
    /// All observations.
    pub fn observations(&self) -> impl Iterator<Item = &Observation> {
        self.tests.iter().flat_map(Test::observations)
    }
}

impl Test {
    /// All observations.
    pub fn observations(&self) -> impl Iterator<Item = &Observation> {
        self.stacks.iter().flat_map(|stack| &stack.observations)
    }

    /// How often the result was not as documented, and how often there was a result.
    pub fn counts(&self) -> (usize, usize) {
        let results = self.observations().filter(|seen| seen.has_result());
        results.fold((0, 0), |(deviates, tries), seen| {
            (deviates + usize::from(seen.deviation().is_some()), tries + 1)
        })
    }
}

impl Stack {
    /// The newest of its observations, which are alike.
    pub fn newest(&self) -> Option<&Observation> {
        self.observations.last()
    }
}

impl EverSeen {
    pub(super) fn of(entries: &[HistoryEntry]) -> Option<Self> {
        let results: Vec<&HistoryEntry> = entries.iter().filter(|seen| has_result(seen.verdict)).collect();
        let day = |seen: &&HistoryEntry| seen.seen.chars().take("2026-11-28".len()).collect::<String>();
        let days = [results.iter().map(day).min()?, results.iter().map(day).max()?];
        let deviates = |seen: &&&HistoryEntry| match seen.verdict {
            VerdictWord::Xpass => true,
            VerdictWord::Fail => seen.known != Some(Known::CameBack),
            VerdictWord::Pass
            | VerdictWord::Xfail
            | VerdictWord::Flaky
            | VerdictWord::Skip
            | VerdictWord::Error => false,
        };
        let deviated = results.iter().filter(deviates).count();
        Some(Self { tries: results.len(), deviated, days })
    }
}

/// The statements of the document `id` that did not hold.
pub(super) fn entries(
    id: &str,
    document: Option<&Document>,
    observations: &[&Observation],
    matrix: &Matrix,
) -> Vec<Entry> {
    let mut tried: Vec<(Vec<String>, Vec<&Observation>)> = Vec::new();
    for seen in observations.iter().filter(|seen| seen.has_result()) {
        let claims = of_document(id, seen);
        match tried.iter_mut().find(|(of, _)| *of == claims) {
            Some((_, all)) => all.push(seen),
            None => tried.push((claims, vec![seen])),
        }
    }
    let place = |claim: &String| {
        let claims = document.map(|document| document.claims.as_slice()).unwrap_or_default();
        claims.iter().position(|known| known.id == *claim).unwrap_or(usize::MAX)
    };
    let mut entries = Vec::new();
    for (claims, seen) in &tried {
        let mut deviates = seen.iter().filter(|seen| seen.deviation().is_some()).peekable();
        if deviates.peek().is_none() {
            continue;
        }
        let in_doubt = deviates.all(|seen| seen.emulator_may_explain());
        let claim = |claim: &String| ClaimOfEntry {
            id: claim.clone(),
            claim: document
                .and_then(|document| document.claims.iter().find(|known| known.id == *claim))
                .cloned(),
            tier: tier(document, claim)
                .unwrap_or_else(|| seen.first().map_or(Tier::Untested, |seen| seen.record.tier)),
            held_elsewhere: tried
                .iter()
                .filter(|(others, _)| others != claims && others.contains(claim))
                .flat_map(|(_, seen)| seen)
                .filter(|seen| seen.judged == Judged::Held)
                .count(),
        };
        let mut ordered = claims.clone();
        ordered.sort_by_key(|claim| (place(claim), claim.clone()));
        entries.push(Entry {
            claims: ordered.iter().map(claim).collect(),
            tests: tests(seen, matrix),
            in_doubt,
        });
    }
    entries.sort_by_cached_key(|entry| {
        let places: Vec<usize> = entry.claims.iter().map(|claim| place(&claim.id)).collect();
        (entry.in_doubt, places, entry.claims.iter().map(|claim| claim.id.clone()).collect::<Vec<_>>())
    });
    entries
}

fn tier(document: Option<&Document>, claim: &str) -> Option<Tier> {
    document?.claims.iter().find(|known| known.id == claim).map(|claim| claim.tier)
}

/// The ids of the statements of the document `id` that were tested.
fn of_document(id: &str, seen: &Observation) -> Vec<String> {
    let claims = seen.claims();
    let of_it =
        claims.iter().filter_map(|claim| claim.split_once('/')).filter(|(document, _)| *document == id);
    of_it.map(|(_, claim)| claim.to_owned()).collect()
}

fn tests(observations: &[&Observation], matrix: &Matrix) -> Vec<Test> {
    let mut tests: Vec<Test> = Vec::new();
    for seen in observations {
        let name = &seen.record.scenario;
        let test = match tests.iter().position(|test| test.scenario == *name) {
            Some(place) => &mut tests[place],
            None => {
                let scenario = matrix.scenarios().iter().find(|scenario| scenario.name == *name);
                tests.push(Test {
                    scenario: name.clone(),
                    title: scenario.map(|scenario| scenario.title.clone()),
                    note: scenario
                        .and_then(|scenario| scenario.note.clone())
                        .filter(|note| names_no_scenario(note, matrix)),
                    stacks: Vec::new(),
                });
                let last = tests.len() - 1;
                &mut tests[last]
            }
        };
        match test.stacks.iter_mut().find(|stack| stack.newest().is_some_and(|other| alike(other, seen))) {
            Some(stack) => stack.observations.push((*seen).clone()),
            None => test.stacks.push(Stack {
                cell: seen.record.cell.clone(),
                observations: vec![(*seen).clone()],
                ever: None,
            }),
        }
    }
    // The sort is stable, so it keeps the matrix's order.
    for test in &mut tests {
        let held = |stack: &Stack| stack.newest().is_none_or(|seen| seen.deviation().is_none());
        test.stacks.sort_by_key(held);
    }
    tests.sort_by_key(|test| test.observations().all(|seen| seen.deviation().is_none()));
    tests
}

/// Whether a note makes sense without other scenarios.
fn names_no_scenario(note: &str, matrix: &Matrix) -> bool {
    !matrix.scenarios().iter().any(|scenario| note.contains(&scenario.name))
}

/// Whether two observations have the same cell, software and outcome. Numbers in a symptom may differ.
fn alike(one: &Observation, other: &Observation) -> bool {
    let software = |record: &CellRecord| -> Vec<_> {
        let of_level = |level: &LevelRecord| {
            (level.os.clone(), level.fidelity, level.seen.kernel.clone(), level.seen.qemu.clone())
        };
        record.levels.iter().map(of_level).collect()
    };
    let kind = |record: &CellRecord| record.symptom_data.as_ref().map(nestmatrix_stack::Symptom::kind);
    one.record.cell == other.record.cell
        && one.judged == other.judged
        && one.outdated == other.outdated
        && one.emulator == other.emulator
        && one.record.metal == other.record.metal
        && one.record.stage == other.record.stage
        && kind(&one.record) == kind(&other.record)
        && software(&one.record) == software(&other.record)
}

/// What scenarios know about statements of the document `id` and `observations` did not see.
pub(super) fn earlier(id: &str, observations: &[&Observation], matrix: &Matrix) -> Vec<Earlier> {
    let document = matrix.documents().iter().find(|document| document.id == id);
    let mut earlier = Vec::new();
    for scenario in matrix.scenarios() {
        let (seen, since, note, limitation_gone) =
            match (scenario.expectation.known_stale(), scenario.expectation.known_wrong()) {
                (Some(KnownStale { seen, since, note }), _) => (seen, Some(since.to_string()), note, true),
                (None, Some(KnownWrong { seen, since, note, .. })) => {
                    (seen, since.as_ref().map(ToString::to_string), note, false)
                }
                (None, None) => continue,
            };
        let cells = matrix.cells().iter().filter(|cell| cell.scenario == scenario.name);
        let claims: BTreeSet<String> =
            cells.flat_map(|cell| cell.claims.iter().map(|claim| in_full(claim, &cell.document))).collect();
        let of_it = |claim: &&Claim| claims.contains(&in_full(&claim.id, id));
        let claims: Vec<Claim> =
            document.into_iter().flat_map(|document| &document.claims).filter(of_it).cloned().collect();
        let of_scenario: Vec<&&Observation> =
            observations.iter().filter(|seen| seen.record.scenario == scenario.name).collect();
        if claims.is_empty() || of_scenario.iter().any(|seen| seen.deviation().is_some()) {
            continue;
        }
        let fate = |seen: &&&Observation| match seen.judged {
            Judged::Held | Judged::Deviates(_) => SeenInRuns::Held,
            Judged::NoResult => SeenInRuns::NoResult,
            Judged::NotTried => SeenInRuns::Skipped,
        };
        earlier.push(Earlier {
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            claims,
            seen: seen.clone(),
            since,
            note: note.clone(),
            limitation_gone,
            now: of_scenario.iter().map(fate).min().unwrap_or(SeenInRuns::NotThere),
        });
    }
    earlier
}
