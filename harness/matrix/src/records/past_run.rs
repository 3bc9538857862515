//! Reads earlier runs from their folders.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::folder::CELLS;
use super::mutants::is_of_mutants;
use super::{CellMutation, CellRecord, FORMAT, Purpose, RunRecord, read_mutations};
use crate::contained;
use crate::scenario::CellName;

/// A run as its folder describes it.
#[derive(Debug, Clone)]
pub struct PastRun {
    /// Its folder.
    pub folder: PathBuf,
    /// The run as a whole.
    pub record: RunRecord,
    /// Every cell that has a verdict, in the order of the verdicts.
    pub cells: Vec<CellRecord>,
    /// Every planned cell, in order; absent in runs of earlier versions.
    pub planned: Option<Vec<CellName>>,
    /// The results of its cells' mutants, if it is a mutation run that got so far.
    pub mutations: Option<Vec<CellMutation>>,
    /// Length in bytes of the complete verdicts. The line that a run was writing when it was killed is not one.
    pub complete: u64,
}

/// The oldest format of records that is still read.
pub const OLDEST_FORMAT: u64 = 2;

/// Why a folder can't be read as that of a run.
#[derive(Debug, thiserror::Error)]
pub enum PastRunError {
    /// A file can't be read.
    #[error("failed to read {}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// This version does not support its format.
    #[error("{} has format {format}; this version supports formats {OLDEST_FORMAT} to {FORMAT}", .path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// The format that it names.
        format: u64,
    },
    /// A line is not text.
    #[error("{}: {source}", .path.display())]
    NoText {
        /// Which file.
        path: PathBuf,
        /// Where it is not.
        source: std::str::Utf8Error,
    },
    /// A line is not the name of a cell.
    #[error("{}, line {line}: {problem}", .path.display())]
    NoCell {
        /// Which file.
        path: PathBuf,
        /// Which of its lines, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A cell has two records.
    #[error("{}, line {line}: a second record of {cell}", .path.display())]
    Twice {
        /// Which file.
        path: PathBuf,
        /// Which of its lines, from 1.
        line: usize,
        /// The cell.
        cell: CellName,
    },
    /// A line is not a valid record.
    #[error("{}, line {line}: {source}", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which of its lines, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl PastRun {
    /// Whether it is a mutation run that was interrupted before its mutants had an outcome. The run of the mutants themselves,
    /// which is in its folder, does not count.
    pub fn mutants_pending(&self) -> bool {
        self.record.purpose == Purpose::Mutation && self.mutations.is_none() && !is_of_mutants(&self.folder)
    }

    /// Reads a run from its folder. Its last verdict is ignored if it is incomplete, as `kill -9` leaves it.
    ///
    /// # Errors
    /// A file is missing, damaged, or of another format.
    pub fn read(folder: &Path) -> Result<Self, PastRunError> {
        let unreadable = |path: &PathBuf, source| PastRunError::Unreadable { path: path.clone(), source };
        let path = folder.join("run.json");
        let text =
            contained::read_to_string(folder, Path::new("run.json")).map_err(|e| unreadable(&path, e))?;
        let damaged = |source: serde_json::Error| PastRunError::Damaged {
            path: path.clone(),
            line: source.line(),
            source,
        };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(damaged)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if (OLDEST_FORMAT..=u64::from(FORMAT)).contains(&format) => {}
            format => return Err(PastRunError::Format { path, format: format.unwrap_or(0) }),
        }
        let record = serde_json::from_value(value).map_err(damaged)?;

        let path = folder.join("verdicts.jsonl");
        let bytes = contained::read(folder, Path::new("verdicts.jsonl")).map_err(|e| unreadable(&path, e))?;
        // The last line may end inside a character.
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text = std::str::from_utf8(&bytes[..complete])
            .map_err(|source| PastRunError::NoText { path: path.clone(), source })?;
        let lines = text.lines().enumerate();
        let cells = lines.map(|(index, line)| {
            serde_json::from_str(line).map_err(|source| PastRunError::Damaged {
                path: path.clone(),
                line: index + 1,
                source,
            })
        });
        let cells = cells.collect::<Result<Vec<CellRecord>, _>>()?;
        let mut seen = BTreeSet::new();
        for (index, cell) in cells.iter().enumerate() {
            // Two records of one cell would count twice.
            if !seen.insert((&cell.run, &cell.cell)) {
                return Err(PastRunError::Twice { path, line: index + 1, cell: cell.cell.clone() });
            }
        }

        let path = folder.join(CELLS);
        let planned = match contained::read_to_string(folder, Path::new(CELLS)) {
            Ok(text) => Some(names(&path, &text)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(unreadable(&path, e)),
        };
        let mutations = read_mutations(folder)?;
        Ok(Self { folder: folder.to_owned(), record, cells, planned, mutations, complete: complete as u64 })
    }
}

/// The cells that a file names, one a line.
fn names(path: &Path, text: &str) -> Result<Vec<CellName>, PastRunError> {
    let name = |(index, line): (usize, &str)| {
        line.parse().map_err(|problem: crate::scenario::ScenarioProblem| PastRunError::NoCell {
            path: path.to_owned(),
            line: index + 1,
            problem: problem.to_string(),
        })
    };
    text.lines().enumerate().map(name).collect()
}
