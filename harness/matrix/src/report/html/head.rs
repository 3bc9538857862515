//! The parts above and below the matrix: the runs and their machines, the counts of verdicts, the filter, and the legend.

use maud::{Markup, html};

use super::text::shown;
use crate::records::{Machine, MutationTally, Overview, OverviewRun};
use crate::report::layout::{Severity, counts};
use crate::report::mutation::{PENDING, incomplete, is_trouble};
use crate::report::other_systems::{is_used_for, other_systems};
use crate::report::text::duration;

/// The CSS class of a verdict.
pub(super) fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::CameBack => "came-back",
        Severity::KnownFail => "known-fail",
        Severity::Righted => "righted",
        Severity::Fail => "fail",
        Severity::Flaky => "flaky",
        Severity::KnownFlaky => "known-flaky",
        Severity::Error => "error",
        Severity::News => "xpass",
        Severity::Known => "known",
        Severity::Xfail => "xfail",
        Severity::Pass => "pass",
        Severity::Skip => "skip",
    }
}

/// The header of the page.
pub(super) fn head(overview: &Overview) -> Markup {
    html! {
        header.top {
            p.brand { "nestmatrix" }
            h1 { (verdict(overview)) }
            div.runs {
                @for run in &overview.runs { (facts(run)) }
            }
            @if !overview.without_verdict.is_empty() {
                details.gap {
                    summary { "Without a verdict, because the run did not finish: " (overview.without_verdict.len()) }
                    ul { @for cell in &overview.without_verdict { li { code { (cell) } } } }
                }
            }
        }
    }
}

/// The result in one sentence.
fn verdict(overview: &Overview) -> String {
    let all = overview.cells.len();
    let trouble = overview.cells.iter().filter(|cell| cell.is_trouble()).count();
    let ran = all - overview.tally().skip;
    let cells = match (trouble, ran) {
        (0, 0) => "Nothing ran".to_owned(),
        (0, 1) => "The cell that ran is as expected or known".to_owned(),
        (0, _) => format!("All {ran} cells that ran are as expected or known"),
        (1, _) => format!("1 of {ran} cells that ran needs attention"),
        (_, _) => format!("{trouble} of {ran} cells that ran need attention"),
    };
    let of_mutants = overview.mutations.iter().flat_map(|cell| &cell.results);
    let mutants = match of_mutants.filter(|result| is_trouble(result)).count() {
        0 => None,
        1 => Some("1 mutant needs attention".to_owned()),
        mutants => Some(format!("{mutants} mutants need attention")),
    };
    let pending = overview.runs.iter().any(|run| run.mutants_pending).then(|| PENDING.to_owned());
    let incomplete = incomplete(&MutationTally::of(&overview.mutations));
    let parts: Vec<String> = std::iter::once(cells).chain(mutants).chain(incomplete).chain(pending).collect();
    parts.join("; ")
}

fn facts(run: &OverviewRun) -> Markup {
    let record = &run.record;
    let end = match &record.ended {
        None => "; not finished",
        Some(_) if record.interrupted => "; interrupted",
        Some(_) => "",
    };
    let of_profile = record.profile.as_ref().map(|profile| format!("profile {}", shown(profile)));
    let of_shard = record.shard.map(|shard| format!("shard {shard}"));
    let scope: Vec<String> =
        of_profile.into_iter().chain(of_shard).chain([format!("{} cells", record.cells)]).collect();
    html! {
        dl.facts {
            div { dt { "run" } dd { code { (shown(&record.run)) } } }
            div { dt { "when" } dd { time datetime=(shown(&record.began)) { (when(&record.began)) }
                @if let Some(took) = took(record) { ", " (took) } (end) } }
            div { dt { "machine" } dd { (machine(&record.machine)) } }
            div { dt { "scope" } dd { (scope.join(", ")) } }
            div.small { dt { "software" } dd { "nestmatrix " (shown(&record.nestmatrix))
                @for emulator in &record.emulators { ", " (shown(emulator)) } } }
            @if !record.merged.is_empty() {
                div { dt { "merged from" } dd { @for part in &record.merged { code { (shown(&part.run)) } " " } } }
            }
        }
    }
}

/// `2026-11-22 14:31 UTC` for what is written as RFC 3339.
fn when(text: &str) -> String {
    match (text.get(..10), text.get(11..16)) {
        (Some(day), Some(time)) if text.ends_with('Z') => format!("{} {} UTC", shown(day), shown(time)),
        _ => shown(text),
    }
}

fn took(record: &crate::records::RunRecord) -> Option<String> {
    let time = |text: &str| humantime::parse_rfc3339_weak(text).ok();
    let took = time(record.ended.as_ref()?)?.duration_since(time(&record.began)?).ok()?;
    Some(duration(took.as_secs()))
}

/// A machine in one line.
pub(super) fn machine(machine: &Machine) -> String {
    let Machine { kernel, system, processor, cores, memory_mib } = machine;
    let mut parts = vec![shown(system), format!("Linux {}", shown(kernel))];
    parts.push(if *cores > 0 { format!("{cores} × {}", shown(processor)) } else { shown(processor) });
    if *memory_mib > 0 {
        parts.push(format!("{} GiB", memory_mib.div_ceil(1024)));
    }
    parts.join(", ")
}

/// The filter, and a button a verdict that shows its count and hides its cells.
pub(super) fn tools(overview: &Overview) -> Markup {
    html! {
        search.tools {
            ul.tally {
                @for (severity, number) in counts(&overview.tally()) {
                    li { button type="button" class={ "count " (class(severity)) } data-severity=(class(severity)) aria-pressed="true" title="Hide or show these cells" {
                        b { (number) } " " (severity.word()) @if !severity.note().is_empty() { " " small { (severity.note()) } }
                    } }
                }
            }
            label.filter {
                span { "Filter" }
                input #filter type="search" autocomplete="off" spellcheck="false"
                    placeholder="name, system, stage, symptom …" aria-describedby="found" aria-keyshortcuts="/";
            }
            output #found for="filter" { (overview.cells.len()) " cells" }
        }
        noscript { p.note {
            "Without JavaScript, this page shows the matrix, but not the details of the cells. They are in the run's folder: in "
            code { "verdicts.jsonl" } " and in a folder for each cell." } }
    }
}

/// The meaning of the verdicts and of the marks behind systems.
pub(super) fn legend(overview: &Overview) -> Markup {
    let others = other_systems(overview.cells.iter().flat_map(|cell| &cell.record.levels));
    html! {
        section.legend aria-labelledby="legend" {
            h2 #legend { "Legend" }
            dl {
                @for (severity, text) in MEANINGS {
                    div { dt { span class={ "word " (class(severity)) } { (severity.word()) @if !severity.note().is_empty() { " " small { (severity.note()) } } } }
                        dd { (text) } }
                }
                div { dt { "RHEL 10.0+" } dd { "this version and later" } }
                div { dt { "native" } dd { "L0 is this machine with its KVM, or this machine is a guest of L0 and so L1; otherwise, an emulator is the bare machine, and a real L0 kernel boots on it" } }
                @for other in &others {
                    div { dt { (shown(other.os)) (other.fidelity.mark()) } dd { (is_used_for(other.fidelity)) " a system that is not available"
                        @if let Some(reason) = other.reason { ": " (shown(reason)) } } }
                }
            }
        }
    }
}

const MEANINGS: [(Severity, &str); 12] = [
    (Severity::Pass, "works as documented, with evidence for every level"),
    (Severity::Righted, "works as documented, although the scenario lists it as known wrong"),
    (Severity::Fail, "does not work, although the document says so"),
    (Severity::KnownFail, "does not work, and the scenario already lists it as known wrong"),
    (Severity::CameBack, "the documented limitation is there, although the scenario lists it as gone"),
    (Severity::Xfail, "the documented limitation is there"),
    (Severity::News, "the documented limitation is gone: the document is stale"),
    (Severity::Known, "the documented limitation is gone, and the scenario already lists that"),
    (Severity::Flaky, "boots of the same stack in the same setting gave different verdicts"),
    (Severity::KnownFlaky, "flaky, and the scenario already lists that: this result does not count"),
    (Severity::Error, "the harness or its machine is at fault; this says nothing about the document"),
    (Severity::Skip, "skipped, because the named requirement is missing"),
];
