//! What a run is going to do, before it does it: how much, on which metal, with which stand-ins, and what is left out.

use nestmatrix_stack::Metal;

use super::style::{Role, Style};
use super::text::{field, grouped, lasting, one_line, verbatim};
use crate::records::SkipReason;
use crate::run::{Fate, PlannedProfile, RunPlan};
use crate::scenario::Cell;

/// Cells that are named for each reason to skip some; more are counted.
const NAMED: usize = 5;

/// Reasons to skip cells that are told at length; where there are more, all are told in short.
const REASONS: usize = 8;

/// What `plan` will do with about `jobs` cells side by side, which go on from saved states if `saved`.
pub fn plan(plan: &RunPlan, jobs: usize, saved: bool, style: &Style) -> String {
    if plan.cells.is_empty() {
        return "no cell matches\n".to_owned();
    }
    let mut out = style.paint(Role::Heading, &counts(plan));
    out.push_str("\n\n");
    if let Some(profile) = profile(plan) {
        out.push_str(&field("profile", &[profile], style));
    }
    if plan.boots().next().is_some() {
        let time = lasting(plan.estimated_seconds(jobs).div_ceil(60) * 60);
        let jobs =
            if jobs > 1 { format!("{jobs} cells side by side") } else { "one cell after the other".into() };
        let text = format!("about {time} of booting, {jobs}; images that are missing are made first");
        out.push_str(&field("time", &[text], style));
    }
    if let Some(why) = &plan.no_native {
        out.push_str(&field("metal", &[format!("native metal is not used ({})", one_line(why))], style));
    }
    if saved {
        out.push_str(&field("states", &always_cold(plan), style));
    }
    out.push_str(&field("stand-ins", &stand_ins(plan), style));
    if plan.denied().next().is_some() {
        out.push_str(&field("errors", &["these must run here and can't".to_owned()], style));
        out.push_str(&verbatim("", &names(plan.denied()), style));
    }
    // A cell that lacks several things stands below each: whoever provides one sees which cells that is about.
    let missing = plan.skipped().flat_map(|(cell, reasons)| reasons.iter().map(move |reason| (reason, cell)));
    let by_reason = grouped(missing, |(reason, _)| reason.to_string());
    if by_reason.len() > REASONS {
        out.push_str(&field("skipped", &in_short(plan), style));
        return out;
    }
    for (index, (reason, cells)) in by_reason.iter().enumerate() {
        out.push_str(&field(
            if index == 0 { "skipped" } else { "" },
            &[one_line(&reason.to_string())],
            style,
        ));
        out.push_str(&verbatim("", &names(cells.iter().map(|(_, cell)| *cell)), style));
    }
    out
}

/// Which profile is run, how much of the matrix that is, and how all of it is run; nothing where a filter alone chose.
pub fn profile(plan: &RunPlan) -> Option<String> {
    let PlannedProfile { name, title, of, full } = plan.profile.as_ref()?;
    let all = match full {
        _ if plan.cells.len() == *of => String::new(),
        Some(full) => format!("; `--profile {full}` runs all"),
        None => "; `cargo xtask run-matrix '*'` runs all".to_owned(),
    };
    let chosen = one_line(&format!("{name}: {title}"));
    Some(format!("{chosen}; {} of {of} cells{all}", plan.cells.len()))
}

/// What is missing with the number of cells that lack it, without their names and without the level that lacks it.
fn in_short(plan: &RunPlan) -> Vec<String> {
    let missing = plan.skipped().flat_map(|(cell, reasons)| {
        let mut reasons: Vec<String> = reasons.iter().map(SkipReason::without_levels).collect();
        reasons.dedup();
        reasons.into_iter().map(move |reason| (reason, cell))
    });
    let missing: Vec<(String, &Cell)> = missing.collect();
    let mut lines: Vec<String> = grouped(&missing, |(reason, _)| reason.clone())
        .iter()
        .map(|(reason, cells)| match cells.len() {
            1 => format!("1 cell: {}", one_line(reason)),
            number => format!("{number} cells: {}", one_line(reason)),
        })
        .collect();
    lines.push("`cargo xtask list` shows what each cell lacks".to_owned());
    lines
}

/// `9 cells: 5 on emulated metal, 1 on native metal, 3 skipped`.
fn counts(plan: &RunPlan) -> String {
    let mut parts = Vec::new();
    for metal in [Metal::Emulated, Metal::Native] {
        let on_it = |fate: &Fate| matches!(fate, Fate::Boots { metal: of, .. } if *of == metal);
        let number = plan.cells.iter().filter(|planned| on_it(&planned.fate)).count();
        parts.push((number, format!("on {metal} metal")));
    }
    parts.push((plan.skipped().count(), "skipped".to_owned()));
    let parts: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    let cells = plan.cells.len();
    format!("{cells} {}: {}", if cells == 1 { "cell" } else { "cells" }, parts.join(", "))
}

/// Why which number of cells never go on from a saved state; nothing if all do once there is one.
fn always_cold(plan: &RunPlan) -> Vec<String> {
    let line = |(why, number): (String, usize)| {
        let cells = if number == 1 { "1 cell boots".to_owned() } else { format!("{number} cells boot") };
        one_line(&format!("{cells} from the beginning: {why}"))
    };
    plan.always_cold().into_iter().map(line).collect()
}

/// Every stand-in that is used, with what for and why, each once.
fn stand_ins(plan: &RunPlan) -> Vec<String> {
    let mut stand_ins = Vec::new();
    for planned in plan.boots() {
        let Fate::Boots { levels, .. } = &planned.fate else { continue };
        for level in levels.iter().filter(|level| level.choice.stand_in) {
            let system = &level.spec.system;
            let reason = level.choice.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            let major = system.version.map_or(String::new(), |version| format!(" {}", version.major));
            let text = format!("{} stands in for {}{major}{reason}", level.choice.image, system.name);
            if !stand_ins.contains(&text) {
                stand_ins.push(text);
            }
        }
    }
    stand_ins.sort();
    stand_ins
}

/// The names of the first cells, and how many more there are.
fn names<'c>(mut cells: impl Iterator<Item = &'c Cell>) -> Vec<String> {
    let mut names: Vec<String> = cells.by_ref().take(NAMED).map(|cell| format!("  {}", cell.name)).collect();
    match cells.count() {
        0 => {}
        more => names.push(format!("  and {more} more")),
    }
    names
}
