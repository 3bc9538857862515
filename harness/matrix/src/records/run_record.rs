//! A run as a whole, as `run.json` has it. docs/records.md describes each member for those who read the file without nestmatrix.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CellRecord, Machine, MergedRun, Resumption, Shard, Tally, UndeliveredImage};
use crate::scenario::CellName;

/// Version of the format of `run.json` and `verdicts.jsonl`. It grows when a member changes its meaning or goes away, not
/// when one is added.
pub const FORMAT: u32 = 3;

/// What a run was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// The verdicts of cells as they are.
    #[default]
    Matrix,
    /// A stack that somebody wants to look at. The last one that was is not the `latest` run, nor part of a cell's history.
    Repro,
    /// A trial of a search, with something else at a level than the matrix has there. The same holds for it.
    Bisect,
    /// Cells that are damaged on purpose, and the same cells without damage. The same holds for it.
    Mutation,
}

/// A run as a whole: `run.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// nestmatrix's own version.
    pub nestmatrix: String,
    /// What names its program, by the SHA-256 of that: two that are built of different sources may have the same version. Absent
    /// in runs of old and in merged ones.
    #[serde(default)]
    pub build: Option<String>,
    /// The run's name, which is its folder's.
    pub run: String,
    /// What it was made for.
    #[serde(default)]
    pub purpose: Purpose,
    /// When it began, UTC, RFC 3339.
    pub began: String,
    /// When it ended; absent while it runs, and for ever if it was killed.
    pub ended: Option<String>,
    /// Whether somebody asked it to end before it was through.
    pub interrupted: bool,
    /// The command line's arguments.
    pub arguments: Vec<String>,
    /// The folder in which they were given: what is relative in them is relative to that. Absent in runs of old and in merged ones.
    #[serde(alias = "called_in")]
    pub working_folder: Option<PathBuf>,
    /// This machine: kernel, system, processor, cores, memory.
    pub machine: Machine,
    /// The QEMU that runs the outermost level.
    pub emulators: Vec<String>,
    /// The images whose packages the archive did not deliver. Absent in runs of old.
    #[serde(default)]
    pub undelivered: Vec<UndeliveredImage>,
    /// The profile whose cells were run; absent where the filter alone chose.
    pub profile: Option<String>,
    /// The shard whose cells were run; absent where all were, and in merged runs.
    pub shard: Option<Shard>,
    /// What was divided into shards, if it was: those of the same division have the same here.
    pub division: Option<String>,
    /// How many cells the profile and the filter let through, and the shard.
    pub cells: usize,
    /// How many of them got which verdict.
    pub verdicts: Tally,
    /// How often somebody went on with it after it had been cut off, first to last.
    #[serde(default)]
    pub resumed: Vec<Resumption>,
    /// The runs that it was merged from; none in a run of a machine's own.
    #[serde(default)]
    pub merged: Vec<MergedRun>,
    /// The cells that got different verdicts from those.
    #[serde(default)]
    pub conflicts: Vec<CellName>,
    /// The shards that none of those was of, though others of the same division were.
    #[serde(default)]
    pub missing_shards: Vec<Shard>,
    /// The cells that none of those has a verdict of, though one was to.
    #[serde(default)]
    pub missing_cells: Vec<CellName>,
}

impl RunRecord {
    /// The exit code that the run calls for: that of its verdicts. But what was merged from less than all is not complete, and a
    /// shard may have nothing to do: what ran altogether is told when all are merged.
    pub fn exit_code(&self) -> u8 {
        match self.verdicts.exit_code() {
            _ if !self.missing_shards.is_empty() || !self.missing_cells.is_empty() => 3,
            4 if self.shard.is_some() => 0,
            code => code,
        }
    }
}

/// A finished run, as the program that made it still has it in memory.
#[derive(Debug)]
pub struct Outcome {
    /// Its folder.
    pub folder: PathBuf,
    /// The run as a whole.
    pub run: RunRecord,
    /// Every cell's record, in the order of the plan.
    pub records: Vec<CellRecord>,
    /// How long it took.
    pub took: Duration,
}
