//! Statements that contradict each other, and whether the runs settle which of them holds.

use crate::scenario::{Claim, Document, Matrix, OutsideContradiction};

use super::observation::{Judged, Observation};

/// Two statements that can't both be true.
#[derive(Debug, Clone)]
pub struct Dispute {
    /// The statement of this document; of two, the first.
    pub own: DisputedClaim,
    /// The statement that it contradicts.
    pub other: DisputedClaim,
    /// What they disagree about.
    pub text: String,
    /// What the runs show.
    pub settled: Settled,
}

/// One of the two statements.
#[derive(Debug, Clone)]
pub struct DisputedClaim {
    /// Its document.
    pub document: Document,
    /// The statement.
    pub claim: Claim,
    /// How often it held.
    pub held: usize,
    /// How often it did not.
    pub deviated: usize,
}

/// A document that the matrix does not have, and statements that can't be true if that document is right.
#[derive(Debug, Clone)]
pub struct OutsideDispute {
    /// The statements of this document.
    pub own: Vec<DisputedClaim>,
    /// The other document, its source, and what they disagree about.
    pub contradiction: OutsideContradiction,
}

/// What the runs show about two statements that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The statement of this document held in every test, and the other one never.
    ForOwn,
    /// The other statement held in every test, and the statement of this document never.
    ForOther,
    /// Neither.
    Open,
}

/// The contradictions of the document `id`: first those within it, then the others in the order of their file.
pub(super) fn disputes(id: &str, observations: &[Observation], matrix: &Matrix) -> Vec<Dispute> {
    let mut disputes = Vec::new();
    for pair in matrix.contradictions() {
        let [one, other] = &pair.claims;
        let (own, other) = match (is_of(one, id), is_of(other, id)) {
            (true, _) => (one, other),
            (false, true) => (other, one),
            (false, false) => continue,
        };
        let (Some(own), Some(other)) = (side(own, observations, matrix), side(other, observations, matrix))
        else {
            continue;
        };
        let settled = settled(&own, &other);
        disputes.push(Dispute { own, other, text: pair.text.clone(), settled });
    }
    disputes.sort_by_key(|dispute| dispute.other.document.id != id);
    disputes
}

/// The contradictions of the document `id` with documents that the matrix does not have, in the order of their file.
pub(super) fn outside(id: &str, observations: &[Observation], matrix: &Matrix) -> Vec<OutsideDispute> {
    let dispute = |contradiction: &OutsideContradiction| {
        let own = contradiction.claims.iter().filter(|claim| is_of(claim, id));
        let own: Vec<DisputedClaim> = own.filter_map(|claim| side(claim, observations, matrix)).collect();
        (!own.is_empty()).then(|| OutsideDispute { own, contradiction: contradiction.clone() })
    };
    matrix.outside_contradictions().iter().filter_map(dispute).collect()
}

fn is_of(claim: &str, document: &str) -> bool {
    claim.split_once('/').is_some_and(|(of, _)| of == document)
}

fn side(name: &str, observations: &[Observation], matrix: &Matrix) -> Option<DisputedClaim> {
    let (document, claim) = name.split_once('/')?;
    let document = matrix.documents().iter().find(|known| known.id == document)?;
    let claim = document.claims.iter().find(|known| known.id == claim)?;
    let of_it: Vec<&Observation> =
        observations.iter().filter(|seen| seen.claims().iter().any(|tried| tried == name)).collect();
    Some(DisputedClaim {
        document: document.clone(),
        claim: claim.clone(),
        held: of_it.iter().filter(|seen| seen.judged == Judged::Held).count(),
        // A deviation that a fault of the emulator or another statement of the stack may explain settles nothing.
        deviated: of_it.iter().filter(|seen| charges(seen, &document.id)).count(),
    })
}

/// Whether an observation contradicts each statement of this document that it tested.
fn charges(seen: &Observation, document: &str) -> bool {
    let of_it = seen.claims().iter().filter(|claim| is_of(claim, document)).count();
    let alone = of_it == 1 || seen.deviation() == Some(super::Deviation::LimitationGone);
    seen.deviation().is_some() && alone && !seen.emulator_may_explain()
}

fn settled(own: &DisputedClaim, other: &DisputedClaim) -> Settled {
    let holds = |claim: &DisputedClaim| claim.held > 0 && claim.deviated == 0;
    let fails = |claim: &DisputedClaim| claim.deviated > 0 && claim.held == 0;
    match (own, other) {
        (own, other) if holds(own) && fails(other) => Settled::ForOwn,
        (own, other) if fails(own) && holds(other) => Settled::ForOther,
        _ => Settled::Open,
    }
}
