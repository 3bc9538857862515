//! What a mutation run adds to the folder of the run without damage: a folder for the run of the mutants, and a file with their
//! results.

use std::io;
use std::path::{Path, PathBuf};

use nestmatrix_images::replace_file;

use super::{CellMutation, PastRunError};
use crate::contained;

/// The file with the results of the mutants: one line per cell.
pub const MUTATIONS: &str = "mutations.jsonl";

/// The folder, inside that of the run, that contains the folder of its mutants' run.
const MUTANTS: &str = "mutants";

/// The folder that gets the folder of the mutants' run.
pub fn mutants_folder(run: &Path) -> PathBuf {
    run.join(MUTANTS)
}

/// Whether this is the folder of the run of another run's mutants.
pub(super) fn is_of_mutants(run: &Path) -> bool {
    run.parent().and_then(Path::file_name).is_some_and(|folder| folder == MUTANTS)
}

/// The mutants' run of this run, if it has begun.
pub fn mutants_run(run: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(mutants_folder(run)).ok()?;
    let names = entries.filter_map(|entry| Some(Path::new(MUTANTS).join(entry.ok()?.file_name())));
    // If a run was killed before it wrote that file, it booted nothing.
    let begun = names.filter(|name| contained::is_file(run, &name.join("run.json")));
    begun.max().map(|name| run.join(name))
}

/// Writes the results of the mutants of a run.
///
/// # Errors
/// It can't be written.
pub fn write_mutations(run: &Path, cells: &[CellMutation]) -> io::Result<()> {
    let mut text = String::new();
    for cell in cells {
        text.push_str(&serde_json::to_string(cell)?);
        text.push('\n');
    }
    replace_file(&run.join(MUTATIONS), &text)
}

/// Reads the results of the mutants of a run; `None` if it is not a mutation run, or its mutants have no results yet.
///
/// # Errors
/// The file can't be read, or is damaged.
pub fn read_mutations(run: &Path) -> Result<Option<Vec<CellMutation>>, PastRunError> {
    let path = run.join(MUTATIONS);
    let text = match contained::read_to_string(run, Path::new(MUTATIONS)) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(PastRunError::Unreadable { path, source }),
    };
    let cell = |(index, line): (usize, &str)| {
        let damaged = |source| PastRunError::Damaged { path: path.clone(), line: index + 1, source };
        serde_json::from_str(line).map_err(damaged)
    };
    text.lines().enumerate().map(cell).collect::<Result<_, _>>().map(Some)
}
