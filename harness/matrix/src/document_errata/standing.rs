//! How each statement of a document stands after the runs, and how many stand so.

use std::collections::BTreeMap;

use crate::scenario::{Claim, Document};

use super::observation::{Judged, Observation};

/// How a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It did not hold, or not every time.
    DidNotHold,
    /// It held whenever there was a result.
    Held,
    /// It was tried, and nothing can be said of it.
    NoResult,
    /// All that would try it was skipped, or the runs did not have it.
    NotTried,
    /// No boot can show it true or false.
    Untestable,
}

/// How many statements of a document stand how, and how many stacks were tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standings {
    /// Statements by how they stand.
    pub claims: BTreeMap<Standing, usize>,
    /// Observations of stacks that tried any of them: that held, that did not, that had no result, and that were skipped.
    pub held: usize,
    /// See `held`.
    pub deviated: usize,
    /// See `held`.
    pub no_result: usize,
    /// See `held`.
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

    /// How many statements stand so.
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
