//! The particulars of a verdict that somebody has to act upon: a fail, an xpass or a flaky cell that is news, or an error.

use std::path::Path;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::printable;

use super::cell::{attempts, documented, observed, verdict};
use super::style::{Role, Style};
use super::text::{field, verbatim};
use crate::records::{CellRecord, VerdictWord};

/// Lines of a console that are shown.
const CONSOLE_LINES: usize = 8;

/// What is known of a cell's trouble, with its folder in the run's folder `run`; nothing for a cell that is in none.
/// Nothing here is cut: this is what goes into a bug report.
pub(super) fn trouble(record: &CellRecord, run: &Path, style: &Style) -> String {
    let about = match record.verdict {
        VerdictWord::Pass | VerdictWord::Xfail | VerdictWord::Skip => return String::new(),
        VerdictWord::Xpass | VerdictWord::Fail | VerdictWord::Flaky if !record.is_trouble() => {
            return String::new();
        }
        VerdictWord::Fail => {
            let documented =
                [("documented", documented(record)), ("observed", observed(record).unwrap_or_default())];
            let known = record.known_text().map(|known| ("known", format!("{known}; it is back")));
            documented.into_iter().chain(known).collect()
        }
        VerdictWord::Xpass => vec![
            ("documented", documented(record)),
            (
                "observed",
                "works: the limitation no longer shows itself, and the document is stale".to_owned(),
            ),
        ],
        VerdictWord::Flaky => vec![
            ("documented", documented(record)),
            ("observed", observed(record).unwrap_or_else(|| "it worked".to_owned())),
            ("flaky", "boots of the same stack in one setting gave different verdicts".to_owned()),
        ],
        VerdictWord::Error => vec![
            ("observed", observed(record).unwrap_or_default()),
            ("at fault", "the harness or its machine; this says nothing of the document".to_owned()),
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

/// The last lines of the console of the level that the symptom is about; of the next one out where that has said
/// nothing, as when its QEMU did not start.
fn console(record: &CellRecord) -> Option<(LevelNumber, Vec<String>)> {
    let stopped = record.level?;
    let outwards = record.levels.iter().rev().filter(|level| level.level <= stopped);
    let spoke =
        outwards.map(|level| (level.level, &level.seen.last_lines)).find(|(_, lines)| !lines.is_empty());
    let (level, lines) = spoke?;
    let last = &lines[lines.len().saturating_sub(CONSOLE_LINES)..];
    Some((level, last.iter().map(|line| printable(line)).collect()))
}
