//! Statements that contradict each other, grouped by the statement of this document.

use crate::document_errata::{Dispute, DisputedClaim, ErrataOfDocument, OutsideDispute, Settled};
use crate::report::text::grouped;

use super::page::Page;
use super::words::{self, of_tries, tries};

/// The column of an entry's text.
const TEXT: usize = 5;

pub(super) fn disputes(page: &mut Page, section: usize, part: &ErrataOfDocument) {
    if part.disputes.is_empty() && part.outside.is_empty() {
        page.paragraph(0, "No contradiction is recorded.");
    }
    let by_own = grouped(&part.disputes, |dispute| dispute.own.claim.id.clone());
    let pairs = by_own.len();
    for (index, (_, disputes)) in by_own.into_iter().enumerate() {
        let Some(first) = disputes.first() else { continue };
        page.gap();
        statement(page, &format!("{section}.{}", index + 1), 0, &first.own);
        for dispute in disputes {
            page.gap();
            let place = match dispute.other.document.id == part.id {
                true => "contradicts, in the same document:".to_owned(),
                false => format!("contradicts, in {}:", words::document(&dispute.other.document)),
            };
            page.paragraph(TEXT, &place);
            statement(page, "", TEXT + 2, &dispute.other);
            page.paragraph(TEXT + 2, &format!("Difference: {}", dispute.text));
            page.paragraph(TEXT + 2, &format!("Result of these runs: {}", settled(dispute)));
        }
    }
    for (index, dispute) in part.outside.iter().enumerate() {
        outside(page, &format!("{section}.{}", pairs + index + 1), dispute);
    }
}

fn outside(page: &mut Page, label: &str, OutsideDispute { own, contradiction }: &OutsideDispute) {
    for (index, of) in own.iter().enumerate() {
        page.gap();
        statement(page, if index == 0 { label } else { "" }, 0, of);
    }
    page.gap();
    page.paragraph(TEXT, &format!("contradicts {} ({})", contradiction.outside, contradiction.source));
    page.paragraph(TEXT + 2, &format!("Difference: {}", contradiction.text));
    let results: Vec<String> = own.iter().map(|claim| format!("it {}", result(claim))).collect();
    page.paragraph(TEXT + 2, &format!("Result of these runs: {}.", results.join("; ")));
}

/// `held in both tries`, `was not tested`.
fn result(claim: &DisputedClaim) -> String {
    match claim.held + claim.deviated {
        0 => "was not tested".to_owned(),
        all => format!("held {}", of_tries(claim.held, all)),
    }
}

fn statement(page: &mut Page, label: &str, indent: usize, of: &DisputedClaim) {
    let column = indent.max(TEXT);
    let tier = words::tier(of.claim.tier);
    page.labelled(0, label, column, &format!("Section \"{}\" ({tier}), in our words:", of.claim.section));
    page.paragraph(column + 2, &of.claim.text);
}

fn settled(dispute: &Dispute) -> String {
    let Dispute { own, other, settled, .. } = dispute;
    let results = |claim: &DisputedClaim| claim.held + claim.deviated;
    match settled {
        Settled::ForOwn => format!(
            "the first one holds ({}), the second one does not ({}).",
            tries(own.held),
            tries(other.deviated)
        ),
        Settled::ForOther => format!(
            "the second one holds ({}), the first one does not ({}).",
            tries(other.held),
            tries(own.deviated)
        ),
        Settled::Open if own.claim.untestable.is_some() || other.claim.untestable.is_some() => {
            "not settled; booting cannot show it.".to_owned()
        }
        Settled::Open if results(own) + results(other) == 0 => "not settled; neither was tested.".to_owned(),
        Settled::Open => {
            format!("not settled; the first one {}, the second one {}.", result(own), result(other))
        }
    }
}
