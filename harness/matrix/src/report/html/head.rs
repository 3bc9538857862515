//! What stands above and below the matrix: which runs, on what machines, how many cells have which verdict; the filter; what the
//! words mean.

use maud::{Markup, html};

use super::text::shown;
use crate::records::{Machine, MutationTally, Overview, OverviewRun};
use crate::report::layout::{Severity, counts};
use crate::report::mutation::{PENDING, incomplete, is_trouble};
use crate::report::text::{duration, grouped};

/// The class of a verdict's looks.
pub(super) fn class(shade: Severity) -> &'static str {
    match shade {
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

/// The page's beginning.
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
                    summary { "Without a verdict, since the run did not come to its end: " (overview.without_verdict.len()) }
                    ul { @for cell in &overview.without_verdict { li { code { (cell) } } } }
                }
            }
        }
    }
}

/// What came of it in a sentence.
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
        None => "; not ended",
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

/// A machine in a line.
pub(super) fn machine(machine: &Machine) -> String {
    let Machine { kernel, system, processor, cores, memory_mib } = machine;
    let mut parts = vec![shown(system), format!("Linux {}", shown(kernel))];
    parts.push(if *cores > 0 { format!("{cores} × {}", shown(processor)) } else { shown(processor) });
    if *memory_mib > 0 {
        parts.push(format!("{} GiB", memory_mib.div_ceil(1024)));
    }
    parts.join(", ")
}

/// The filter, and how many cells have which verdict, each of which can be left out.
pub(super) fn tools(overview: &Overview) -> Markup {
    html! {
        search.tools {
            ul.tally {
                @for (shade, number) in counts(&overview.tally()) {
                    li { button type="button" class={ "count " (class(shade)) } data-shade=(class(shade)) aria-pressed="true" title="Hide these, or show them again" {
                        b { (number) } " " (shade.word()) @if !shade.note().is_empty() { " " small { (shade.note()) } }
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
            "Without scripts this page shows the matrix, and no more of each cell. The rest is in the run's folder: "
            code { "verdicts.jsonl" } ", and a folder for each cell." } }
    }
}

/// What the words, the asterisk and the stand-ins mean.
pub(super) fn legend(overview: &Overview) -> Markup {
    let levels = overview.cells.iter().flat_map(|cell| &cell.record.levels).filter(|level| level.stand_in);
    let stand_ins = grouped(levels, |level| (&level.os, &level.stand_in_reason));
    html! {
        section.legend aria-labelledby="legend" {
            h2 #legend { "What it means" }
            dl {
                @for (shade, text) in MEANINGS {
                    div { dt { span class={ "word " (class(shade)) } { (shade.word()) @if !shade.note().is_empty() { " " small { (shade.note()) } } } }
                        dd { (text) } }
                }
                div { dt { "RHEL 10.0+" } dd { "this version and later" } }
                div { dt { "native" } dd { "L0 was this machine with its KVM; everywhere else an emulator played the bare machine, and a real L0 kernel booted on it" } }
                @for ((os, reason), _) in &stand_ins {
                    div { dt { (shown(os)) "*" } dd { "stands in for a system that cannot be had"
                        @if let Some(reason) = reason { ": " (shown(reason)) } } }
                }
            }
        }
    }
}

const MEANINGS: [(Severity, &str); 12] = [
    (Severity::Pass, "it works, as documented, and there is evidence for every level"),
    (Severity::Righted, "likewise, though its scenario says that it is known not to work"),
    (Severity::Fail, "it does not work, against the document"),
    (Severity::KnownFail, "likewise, and its scenario says so already"),
    (
        Severity::CameBack,
        "the documented limitation shows itself, though its scenario says that it is known to be gone",
    ),
    (Severity::Xfail, "the documented limitation shows itself"),
    (Severity::News, "the documented limitation is gone: the document is stale"),
    (Severity::Known, "likewise, and its scenario says so already"),
    (Severity::Flaky, "boots of the same stack in one setting gave different verdicts"),
    (Severity::KnownFlaky, "likewise, and its scenario says so already: this result does not count"),
    (Severity::Error, "the harness or its machine is at fault; nothing is said about the matrix"),
    (Severity::Skip, "not tried, for the requirement that is named"),
];
