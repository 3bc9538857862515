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
    /// A stack that the user inspects. Such a run never becomes `latest`, and is not part of a cell's history.
    Repro,
    /// A trial of a search, with another kernel or QEMU at a level. It does not become `latest` and is not part of the history
    /// either.
    Bisect,
    /// Cells that are damaged on purpose, and the same cells without damage. The same applies.
    Mutation,
    /// A cell, and the same cell with each CPU model that its innermost level can have. The same applies.
    CpuModels,
}

/// A run as a whole: `run.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// nestmatrix's own version.
    pub nestmatrix: String,
    /// Identifies its program by the SHA-256 of the file: two programs of the same version may be built from different sources. Absent
    /// in runs of earlier versions and in merged ones.
    #[serde(default)]
    pub build: Option<String>,
    /// The run's name, which is that of its folder.
    pub run: String,
    /// What it was made for.
    #[serde(default)]
    pub purpose: Purpose,
    /// When it began, UTC, RFC 3339.
    pub began: String,
    /// When it ended; absent while it is in progress, and if it was killed.
    pub ended: Option<String>,
    /// Whether the user interrupted it.
    pub interrupted: bool,
    /// The command line's arguments.
    pub arguments: Vec<String>,
    /// The folder in which the command was run, which relative paths in its arguments refer to. Absent in runs of earlier versions
    /// and in merged ones.
    #[serde(alias = "called_in")]
    pub working_folder: Option<PathBuf>,
    /// This machine: kernel, system, processor, cores, memory.
    pub machine: Machine,
    /// The QEMU that runs the outermost level.
    pub emulators: Vec<String>,
    /// The images whose packages the archive did not deliver. Absent in runs of earlier versions.
    #[serde(default)]
    pub undelivered: Vec<UndeliveredImage>,
    /// The profile whose cells were run; absent if only a filter chose them.
    pub profile: Option<String>,
    /// The shard whose cells were run; absent if all cells were, and in merged runs.
    pub shard: Option<Shard>,
    /// Identifies the division, if the cells were divided into shards. Shards of the same division have the same value.
    pub division: Option<String>,
    /// How many cells the profile, the filter and the shard chose.
    pub cells: usize,
    /// How many of them got which verdict.
    pub verdicts: Tally,
    /// Each time that it was resumed, first to last.
    #[serde(default)]
    pub resumed: Vec<Resumption>,
    /// The runs that it was merged from; none if it is not a merged run.
    #[serde(default)]
    pub merged: Vec<MergedRun>,
    /// The cells that got different verdicts in these runs.
    #[serde(default)]
    pub conflicts: Vec<CellName>,
    /// The missing shards of a division of which some shards are here.
    #[serde(default)]
    pub missing_shards: Vec<Shard>,
    /// The planned cells without a verdict in any of these runs.
    #[serde(default)]
    pub missing_cells: Vec<CellName>,
}

impl RunRecord {
    /// The exit code of the run, which is that of its verdicts. But a merged run with missing shards or cells is incomplete
    /// (3), and a shard in which nothing ran is no failure (0): the merged run shows whether anything ran.
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
