//! What a run is going to do: how many cells boot, on which metal, with which rebuilds and stand-ins, and how many are skipped and
//! why.

use std::collections::BTreeSet;

use nestmatrix_model::{Fidelity, PROGRAM};
use nestmatrix_stack::Metal;

use super::other_systems::is_used_for;
use super::skipped::skipped_in_short;
use super::style::{Role, Style};
use super::text::{duration, field, lines, one_line, verbatim};
use crate::run::{Fate, PlannedLevel, PlannedProfile, RunPlan};
use crate::scenario::{Cell, not_yet_run};

/// The number of cells that are named if they must run and cannot; the rest is counted.
const NAMED: usize = 5;

/// What `plan` will do with about `jobs` cells in parallel. `snapshots` says whether the run uses them.
pub fn plan(plan: &RunPlan, jobs: usize, snapshots: bool, style: &Style) -> String {
    if plan.cells.is_empty() {
        return "no cell matches\n".to_owned();
    }
    let mut out = style.paint(Role::Heading, &counts(plan));
    out.push_str("\n\n");
    if let Some(profile) = profile(plan) {
        out.push_str(&field("profile", &[profile], style));
    }
    if plan.boots().next().is_some() {
        let time = duration(plan.estimated_seconds(jobs).div_ceil(60) * 60);
        let jobs = if jobs > 1 { format!("{jobs} cells in parallel") } else { "one cell at a time".into() };
        let text = format!("about {time}, {jobs}, plus the time to build missing images");
        out.push_str(&field("time", &[text], style));
    }
    out.push_str(&lines("metal", &no_native(plan), style));
    let emulators: Vec<String> = plan.installed_emulators.iter().map(|emulator| one_line(emulator)).collect();
    out.push_str(&field("emulators", &emulators, style));
    out.push_str(&field("media", &media(plan), style));
    if snapshots {
        out.push_str(&field("snapshots", &always_cold(plan), style));
    }
    out.push_str(&field("rebuilds", &other_systems(plan, Fidelity::Rebuild), style));
    out.push_str(&field("stand-ins", &other_systems(plan, Fidelity::StandIn), style));
    out.push_str(&field("untried", &untried(plan), style));
    if plan.denied().next().is_some() {
        out.push_str(&field("errors", &["these cells must run, but cannot".to_owned()], style));
        out.push_str(&verbatim("", &names(plan.denied()), style));
    }
    out + &lines("skipped", &skipped_in_short(plan), style)
}

/// The media that have to be prepared, and those that can't be used.
fn media(plan: &RunPlan) -> Vec<String> {
    let first =
        plan.prepared_first.iter().map(|name| format!("{name} is prepared first, which takes minutes"));
    let unusable =
        plan.unusable_media.iter().map(|(name, why)| one_line(&format!("{name} is not used: {why}")));
    first.chain(unusable).collect()
}

/// Why native metal is not used, a line an architecture.
fn no_native(plan: &RunPlan) -> Vec<String> {
    if plan.no_native.is_empty() {
        return Vec::new();
    }
    let heading = format!("native metal is not used; `{PROGRAM} doctor` shows the details");
    let why = plan.no_native.iter().map(|(architecture, why)| format!("  {architecture}: {}", one_line(why)));
    std::iter::once(heading).chain(why).collect()
}

/// The profile of the run, its share of the matrix, and the command that runs the whole matrix. `None` without a profile.
pub fn profile(plan: &RunPlan) -> Option<String> {
    let PlannedProfile { name, title, of, full } = plan.profile.as_ref()?;
    let all = match full {
        _ if plan.cells.len() == *of => String::new(),
        Some(full) => format!("; `--profile {full}` runs all"),
        None => format!("; `{PROGRAM} run-matrix '*'` runs all"),
    };
    let chosen = one_line(&format!("{name}: {title}"));
    Some(format!("{chosen}; {} of {of} cells{all}", plan.cells.len()))
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

/// How many cells never start from a snapshot, by the reason.
fn always_cold(plan: &RunPlan) -> Vec<String> {
    let line = |(why, number): (String, usize)| {
        let cells = if number == 1 { "1 cell boots".to_owned() } else { format!("{number} cells boot") };
        one_line(&format!("{cells} without a snapshot: {why}"))
    };
    plan.always_cold().into_iter().map(line).collect()
}

/// Every image of this fidelity that is used, each once, with the system that it is used for and the reason.
fn other_systems(plan: &RunPlan, fidelity: Fidelity) -> Vec<String> {
    let levels = plan.boots().filter_map(|planned| match &planned.fate {
        Fate::Boots { levels, .. } => Some(levels),
        Fate::Skipped(_) => None,
    });
    let others = levels.flatten().filter(|level| level.choice.fidelity == fidelity);
    let line = |level: &PlannedLevel| {
        let (system, choice) = (&level.spec.system, &level.choice);
        let reason = choice.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        let major = system.version.map_or(String::new(), |version| format!(" {}", version.major));
        format!("{} {} {}{major}{reason}", choice.image, is_used_for(fidelity), system.name)
    };
    let lines: BTreeSet<String> = others.map(line).collect();
    lines.into_iter().collect()
}

/// How many cells boot a system that the authors have not yet run, and which systems.
fn untried(plan: &RunPlan) -> Vec<String> {
    let cells: Vec<&Cell> =
        plan.boots().map(|planned| &planned.cell).filter(|cell| cell.untried().next().is_some()).collect();
    let systems = not_yet_run(cells.iter().flat_map(|cell| cell.untried()));
    let number = match cells.len() {
        1 => "1 cell".to_owned(),
        more => format!("{more} cells"),
    };
    systems
        .map(|systems| format!("{number} {systems}; docs/windows.md says what to send back"))
        .into_iter()
        .collect()
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
