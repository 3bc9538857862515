//! The results of the mutants: first those that need attention, then all of them, cell by cell.

use maud::{Markup, html};

use crate::records::{CellMutation, MutantOutcome, MutantResult, MutationTally, Overview};
use crate::report::mutation::{counted, is_trouble, wanted};
use crate::report::text::one_line;

use super::text::shown;

pub(super) fn mutations(overview: &Overview) -> Markup {
    let cells = &overview.mutations;
    if cells.is_empty() {
        return html! {};
    }
    let of_cell = |cell: &CellMutation, wanted: MutantOutcome| -> Vec<(String, MutantResult)> {
        let of_it = cell.results.iter().filter(move |result| result.outcome == wanted);
        of_it.map(|result| (cell.cell.to_string(), result.clone())).collect()
    };
    let of = |outcome| cells.iter().flat_map(|cell| of_cell(cell, outcome)).collect::<Vec<_>>();
    let parts = [
        (MutantOutcome::Survived, "No verdict showed this damage", true),
        (MutantOutcome::Undecided, "These mutants have no clear result", true),
        (MutantOutcome::Accepted, "The scenario accepts that no verdict shows this damage", false),
    ];
    html! {
        section.mutations aria-labelledby="mutations" {
            h2 #mutations { "Mutations" }
            p.about { "Each cell was booted again with its scenario or its stack damaged on purpose. "
                (counted(&MutationTally::of(cells))) "." }
            @for (outcome, heading, open) in parts {
                @let results = of(outcome);
                @if !results.is_empty() {
                    details open[open] {
                        summary { (word(outcome)) " " (heading) ": " (results.len()) }
                        (table(&results, true))
                    }
                }
            }
            @for cell in cells { (one(cell)) }
        }
    }
}

/// A cell with all of its mutants.
fn one(cell: &CellMutation) -> Markup {
    let original = &cell.original;
    let results: Vec<(String, MutantResult)> =
        cell.results.iter().map(|result| (String::new(), result.clone())).collect();
    let trouble = cell.results.iter().filter(|result| is_trouble(result)).count();
    html! {
        details {
            summary { span.name-of { (cell.cell) } ": " (results.len()) " mutants"
                @if trouble > 0 { ", " b { (trouble) " need attention" } }
                @if !cell.complete { ", not all of them booted" } }
            p.about { "without damage: " (original.verdict)
                @if let Some(stage) = original.stage { " at " (stage) }
                @if !original.green { "; not green without damage, so it has no mutants" } }
            @if !results.is_empty() { (table(&results, false)) }
            @for name in &cell.unused {
                p.about { "the scenario accepts the mutation " code { (shown(name)) } ", which does not exist" }
            }
        }
    }
}

fn table(results: &[(String, MutantResult)], with_cell: bool) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                @if with_cell { th scope="col" { "cell" } }
                th scope="col" { "mutation" } th scope="col" { "damage" } th scope="col" { "outcome" }
                th scope="col" { "verdict" } th scope="col" { "seen" }
            } }
            tbody { @for (cell, result) in results { tr {
                @if with_cell { td { code { (cell) } } }
                td { code { (shown(&result.mutation)) } }
                td { (shown(&result.damage)) br; small { (wanted(result)) } }
                td { (word(result.outcome)) }
                td { @if let Some(verdict) = result.verdict { (verdict) }
                    @if let Some(stage) = result.stage { " at " (stage) } }
                td.seen { @if let Some(symptom) = &result.symptom { div { (shown(&one_line(symptom))) } }
                    @if let Some(why) = &result.accepted { small { "accepted: " (shown(why)) } } }
            } } }
        } }
    }
}

/// An outcome in the colours of a verdict that needs as much attention.
fn word(outcome: MutantOutcome) -> Markup {
    let class = match outcome {
        MutantOutcome::Killed => "pass",
        MutantOutcome::Survived => "fail",
        MutantOutcome::Undecided => "error",
        MutantOutcome::Accepted => "known",
        MutantOutcome::NotTried => "skip",
    };
    html! { span class={ "word " (class) } { (outcome.word()) } }
}
