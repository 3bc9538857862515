//! Contradictions in the documents, with the cells that test either side.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use crate::records::VerdictWord;
use crate::report::layout::{Layout, Placed, Severity, in_full};

use super::head::class;
use super::text::{prose, shown};

/// The most cells that are shown for a claim. The rest is counted, as are skipped cells.
const SHOWN: usize = 12;

/// The claims and the other documents that contradict one of `claims`, with what they disagree about. The cells of `claims` test `document`.
pub(super) fn against(
    layout: &Layout<'_>,
    document: &str,
    claims: &BTreeSet<&String>,
) -> Vec<(String, String)> {
    let names: BTreeSet<String> = claims.iter().map(|claim| in_full(claim, document)).collect();
    let mut against = Vec::new();
    for contradiction in layout.matrix.contradictions() {
        let [one, other] = &contradiction.claims;
        for (claim, against_it) in [(one, other), (other, one)] {
            if names.contains(claim) {
                against.push((against_it.clone(), contradiction.text.clone()));
            }
        }
    }
    for contradiction in layout.matrix.outside_contradictions() {
        if contradiction.claims.iter().any(|claim| names.contains(claim)) {
            against.push((contradiction.outside.clone(), contradiction.text.clone()));
        }
    }
    against
}

/// Every contradiction with a cell that tests a claim of it.
pub(super) fn contradictions(layout: &Layout<'_>) -> Markup {
    let mut tried: BTreeMap<String, Vec<Placed<'_>>> = BTreeMap::new();
    for (place, cell) in layout.overview.cells.iter().enumerate() {
        for claim in &cell.record.claims {
            tried.entry(in_full(claim, &cell.record.document)).or_default().push((place, cell));
        }
    }
    let touched = |claims: &[String]| claims.iter().any(|claim| tried.contains_key(claim));
    let pairs: Vec<_> = layout.matrix.contradictions().iter().filter(|pair| touched(&pair.claims)).collect();
    let outside = layout.matrix.outside_contradictions().iter();
    let outside: Vec<_> = outside.filter(|contradiction| touched(&contradiction.claims)).collect();
    if pairs.is_empty() && outside.is_empty() {
        return html! {};
    }
    html! {
        section.contradictions aria-labelledby="contradictions" {
            h2 #contradictions { "Contradictions in the documents" }
            @for pair in pairs {
                article {
                    p { (prose(&pair.text)) }
                    div.sides { @for claim in &pair.claims { (side(layout, claim, tried.get(claim))) } }
                }
            }
            @for contradiction in outside {
                article {
                    p { (prose(&contradiction.text)) }
                    div.sides {
                        @for claim in &contradiction.claims { (side(layout, claim, tried.get(claim))) }
                        div.side {
                            p { (prose(&contradiction.outside)) }
                            p.tried { (prose(&contradiction.source)) }
                        }
                    }
                }
            }
        }
    }
}

fn side(layout: &Layout<'_>, name: &str, cells: Option<&Vec<Placed<'_>>>) -> Markup {
    let cells = cells.map_or(&[][..], Vec::as_slice);
    let tried: Vec<&Placed<'_>> =
        cells.iter().filter(|(_, cell)| cell.record.verdict != VerdictWord::Skip).collect();
    let skipped = cells.len() - tried.len();
    let text = layout.claim(name);
    html! {
        div.side {
            p { code { (shown(name)) } @if let Some(claim) = text { " " span class={ "tier " (claim.tier) } { (claim.tier) } br; (prose(&claim.text)) } }
            p.tried {
                @if cells.is_empty() { span.none { "no cell of these runs tries it" } }
                @for (place, cell) in tried.iter().take(SHOWN) {
                    button class={ "cell tiny " (class(Severity::of(cell))) } type="button" data-cell=(place) title=(cell.record.cell) {
                        b { (cell.record.verdict) } " " (cell.record.architecture)
                    } " "
                }
                @if tried.len() > SHOWN { "and " (tried.len() - SHOWN) " more " }
                @if skipped > 0 { span.none { (skipped) " skipped" } }
            }
        }
    }
}
