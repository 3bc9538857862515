//! The cells that a run skips, by cause: in short for the plan of a run, in full for `list --skipped`.

use super::style::{Role, Style};
use super::text::{grouped, one_line, wrapped};
use crate::records::SkipReason;
use crate::run::RunPlan;
use crate::scenario::Cell;
use nestmatrix_model::PROGRAM;

/// The number of causes that the plan of a run shows; the rest is counted.
const CAUSES: usize = 5;

/// A cause with its cells.
type Cause<'p> = (String, Vec<(&'p Cell, &'p SkipReason)>);

/// Every cause with its cells, most cells first. A cell with several causes is among the cells of each.
fn causes(plan: &RunPlan) -> Vec<Cause<'_>> {
    let skipped = plan.skipped().flat_map(|(cell, reasons)| reasons.iter().map(move |reason| (cell, reason)));
    let mut causes = grouped(skipped, |(_, reason)| one_line(&reason.without_levels()));
    causes.sort_by_key(|(_, cells)| std::cmp::Reverse(number(cells)));
    causes
}

/// The number of different cells. Those of one cause are in the order of the plan.
fn number(cells: &[(&Cell, &SkipReason)]) -> usize {
    cells.chunk_by(|(one, _), (other, _)| one.name == other.name).count()
}

fn counted(number: usize) -> String {
    if number == 1 { "1 cell".to_owned() } else { format!("{number} cells") }
}

/// The number of skipped cells, the most frequent causes, and how to see the rest; empty if no cell is skipped.
pub(super) fn skipped_in_short(plan: &RunPlan) -> Vec<String> {
    let causes = causes(plan);
    let all = plan.skipped().count();
    if causes.is_empty() {
        return Vec::new();
    }
    let what = if causes.len() == 1 { "1 cause".to_owned() } else { format!("{} causes", causes.len()) };
    let mut lines = vec![format!("{}, {what}; `{PROGRAM} list --skipped` shows all", counted(all))];
    lines.extend(
        causes.iter().take(CAUSES).map(|(cause, cells)| format!("  {}: {cause}", counted(number(cells)))),
    );
    if causes.len() > CAUSES {
        lines.push(format!("  and {} more", causes.len() - CAUSES));
    }
    lines
}

/// Every skipped cell by cause, with the levels that the cause is about.
pub fn skipped(plan: &RunPlan, style: &Style) -> String {
    let (all, skipped) = (plan.cells.len(), plan.skipped().count());
    let heading = format!("{skipped} of {} are skipped on this machine", counted(all));
    let mut out = format!("{}\n", style.paint(Role::Heading, &heading));
    for (architecture, why) in &plan.no_native {
        let text = format!("{architecture} cells cannot use native metal: {}", one_line(why));
        out.push_str(&format!("{}\n", wrapped(&text, 0, 2, style.width)));
    }
    for (cause, cells) in causes(plan) {
        let cause = format!("{}: {cause}", counted(number(&cells)));
        out.push_str(&format!("\n{}\n", style.paint(Role::Heading, &wrapped(&cause, 0, 2, style.width))));
        for of_cell in cells.chunk_by(|(one, _), (other, _)| one.name == other.name) {
            let levels: Vec<String> = of_cell.iter().flat_map(|(_, reason)| levels(reason)).collect();
            let levels = if levels.is_empty() { String::new() } else { format!("  ({})", levels.join(", ")) };
            out.extend(of_cell.first().map(|(cell, _)| format!("  {}{levels}\n", cell.name)));
        }
    }
    out
}

/// The levels that a reason is about, if it is not about the whole stack.
fn levels(reason: &SkipReason) -> Vec<String> {
    match reason {
        SkipReason::NoImage { levels, .. } => levels.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}
