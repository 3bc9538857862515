//! An overview for programs: one JSON object. docs/reports.md describes it.

use serde_json::{Value, json};

use crate::records::{MutationTally, Overview, OverviewCell};

/// Version of the format. It grows if a member changes its meaning or is removed, not if one is added.
const FORMAT: u32 = 1;

/// The runs and the cells as one JSON object, with a line end.
///
/// # Errors
/// None are known: a record that was read can be written.
pub fn json(overview: &Overview) -> serde_json::Result<String> {
    let runs = overview.runs.iter().map(|run| {
        let mut value = serde_json::to_value(&run.record)?;
        value["folder"] = run.folder.display().to_string().into();
        value["mutants_pending"] = run.mutants_pending.into();
        Ok(value)
    });
    let cells = overview.cells.iter().map(|cell| self::cell(overview, cell));
    let mutations = (!overview.mutations.is_empty())
        .then(|| json!({ "tally": MutationTally::of(&overview.mutations), "cells": overview.mutations }));
    let object = json!({
        "format": FORMAT,
        "verdicts": overview.tally(),
        "without_verdict": overview.without_verdict,
        "runs": runs.collect::<serde_json::Result<Vec<Value>>>()?,
        "cells": cells.collect::<serde_json::Result<Vec<Value>>>()?,
        "mutations": mutations,
    });
    let mut text = serde_json::to_string_pretty(&object)?;
    text.push('\n');
    Ok(text)
}

/// A cell's record, with its run and its folder.
fn cell(overview: &Overview, cell: &OverviewCell) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(&cell.record)?;
    value["run"] = overview.run_of(cell).into();
    value["folder"] = overview.folder(cell).map(|folder| folder.display().to_string()).into();
    let others = cell.others.iter().map(|other| {
        json!({ "run": other.run, "verdict": other.verdict, "stage": other.stage, "symptom": other.symptom })
    });
    value["other_verdicts"] = others.collect();
    Ok(value)
}
