//! The standing of each statement of a document after the runs, and the totals.

use std::collections::BTreeMap;

use crate::scenario::{Claim, Document};

use super::observation::{Judged, Observation};

/// The standing of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It did not hold, at least once.
    DidNotHold,
    /// It held whenever there was a result.
    Held,
    /// It was tested without a result.
    NoResult,
    /// Every cell that tests it was skipped, or the runs have no such cell.
    NotTried,
    /// No boot can show whether it is true.
    Untestable,
}

/// The number of statements by standing, and the number of stacks by result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standings {
    /// Statements by standing.
    pub claims: BTreeMap<Standing, usize>,
    /// Observations of stacks that tested any of the statements, with a result as documented.
    pub held: usize,
    /// Observations with another result.
    pub deviated: usize,
    /// Observations without a result.
    pub no_result: usize,
    /// Skipped cells.
    pub skipped: usize,
}

impl Standings {
    pub(super) fn new(id: &str, document: Option<&Document>, observations: &[&Observation]) -> Self {
        let mut standings = Self::default();
        for claim in document.into_iter().flat_map(|document| &document.claims) {
            *standings.claims.entry(of_claim(id, claim, observations)).or_default() += 1;
        }
        for seen in observations {
            *match seen.judged {
                Judged::Held => &mut standings.held,
                Judged::Deviates(_) => &mut standings.deviated,
                Judged::NoResult => &mut standings.no_result,
                Judged::NotTried => &mut standings.skipped,
            } += 1;
        }
        standings
    }

    /// The number of statements with this standing.
    pub fn count(&self, standing: Standing) -> usize {
        self.claims.get(&standing).copied().unwrap_or(0)
    }
}

fn of_claim(id: &str, claim: &Claim, observations: &[&Observation]) -> Standing {
    let name = format!("{id}/{}", claim.id);
    let of_it = observations.iter().filter(|seen| seen.claims().contains(&name));
    let standing = |seen: &&Observation| match seen.judged {
        Judged::Deviates(_) => Standing::DidNotHold,
        Judged::Held => Standing::Held,
        Judged::NoResult => Standing::NoResult,
        Judged::NotTried => Standing::NotTried,
    };
    let untried = if claim.untestable.is_some() { Standing::Untestable } else { Standing::NotTried };
    of_it.map(standing).min().unwrap_or(untried)
}
