//! The details of a verdict that needs attention: an error, or a fail, an xpass or a flaky cell that is new.

use std::path::Path;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::printable;

use super::cell::{attempts, documented, observed, verdict};
use super::style::{Role, Style};
use super::text::{field, verbatim};
use crate::records::{CellRecord, VerdictWord};

/// The number of console lines that are shown.
const CONSOLE_LINES: usize = 8;

/// The details of a cell that needs attention, with its folder in the folder `run`; empty for other cells. Nothing here is cut,
/// because it goes into bug reports.
pub(super) fn trouble(record: &CellRecord, run: &Path, style: &Style) -> String {
    let about = match record.verdict {
        VerdictWord::Pass | VerdictWord::Xfail | VerdictWord::Skip => return String::new(),
        VerdictWord::Xpass | VerdictWord::Fail | VerdictWord::Flaky if !record.is_trouble() => {
            return String::new();
        }
        VerdictWord::Fail => {
            let documented =
                [("documented", documented(record)), ("observed", observed(record).unwrap_or_default())];
            let known =
                record.known_text().map(|known| ("known", format!("{known}; the limitation is back")));
            documented.into_iter().chain(known).collect()
        }
        VerdictWord::Xpass => vec![
            ("documented", documented(record)),
            ("observed", "works: the limitation is gone, and the document is stale".to_owned()),
        ],
        VerdictWord::Flaky => vec![
            ("documented", documented(record)),
            ("observed", observed(record).unwrap_or_else(|| "it worked".to_owned())),
            ("flaky", "boots of the same stack in the same setting gave different verdicts".to_owned()),
        ],
        VerdictWord::Error => vec![
            ("observed", observed(record).unwrap_or_default()),
            ("at fault", "the harness or its machine; this says nothing about the document".to_owned()),
        ],
    };
    let word = style.paint(Role::Verdict(record.verdict), &verdict(record));
    let mut out = format!("{word}: {}\n", style.paint(Role::Heading, record.cell.as_str()));
    for (label, text) in about {
        out.push_str(&field(label, &[text], style));
    }
    if let Some(attempts) = attempts(record) {
        out.push_str(&field("attempts", &[attempts], style));
    }
    if let Some((level, lines)) = console(record) {
        out.push_str(&verbatim(&format!("{level} console"), &lines, style));
    }
    if let Some(folder) = &record.folder {
        out.push_str(&verbatim("folder", &[run.join(folder.as_path()).display().to_string()], style));
    }
    out.push('\n');
    out
}

/// The last console lines of the level that the symptom is about. If that level printed nothing, for example because its QEMU did
/// not start, those of the next outer level that did.
fn console(record: &CellRecord) -> Option<(LevelNumber, Vec<String>)> {
    let stopped = record.level?;
    let outwards = record.levels.iter().rev().filter(|level| level.level <= stopped);
    let spoke =
        outwards.map(|level| (level.level, &level.seen.last_lines)).find(|(_, lines)| !lines.is_empty());
    let (level, lines) = spoke?;
    let last = &lines[lines.len().saturating_sub(CONSOLE_LINES)..];
    Some((level, last.iter().map(|line| printable(line)).collect()))
}
