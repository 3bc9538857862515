//! What a merged run keeps of each run that it was merged from.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::records::{Machine, PastRun, Resumption, Shard, Tally, UndeliveredImage};

/// One of the runs that a merged run was merged from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MergedRun {
    /// Its name, followed by a number if another run has the same name.
    pub run: String,
    /// The version of nestmatrix that carried it out.
    pub nestmatrix: String,
    /// Identifies its program by the SHA-256 of the file.
    #[serde(default)]
    pub build: Option<String>,
    /// Its shard, if it was of one.
    pub shard: Option<Shard>,
    /// Identifies the division, if the cells were divided into shards.
    pub division: Option<String>,
    /// The machine on which it began.
    pub machine: Machine,
    /// What ran the outermost levels.
    pub emulators: Vec<String>,
    /// The images whose packages its archive did not deliver.
    #[serde(default)]
    pub undelivered: Vec<UndeliveredImage>,
    /// The profile whose cells it ran, if it was one of a profile.
    pub profile: Option<String>,
    /// When it began, UTC, RFC 3339.
    pub began: String,
    /// When it ended; absent if it was killed.
    pub ended: Option<String>,
    /// Whether the user interrupted it.
    pub interrupted: bool,
    /// Each time that it was resumed.
    pub resumed: Vec<Resumption>,
    /// How many cells were planned.
    pub cells: usize,
    /// How many of them got which verdict.
    pub verdicts: Tally,
    /// Seconds from its beginning to its end, or to that of its last cell if it was killed.
    pub seconds: f64,
}

impl From<&PastRun> for MergedRun {
    fn from(past: &PastRun) -> Self {
        let run = past.record.clone();
        // A killed run has not counted them.
        let mut verdicts = Tally::default();
        past.cells.iter().for_each(|cell| verdicts.add(cell));
        let last = past.cells.iter().filter_map(|cell| cell.attempts.last()).map(|last| last.end);
        let seconds = run.ended.as_ref().and_then(|ended| seconds_between(&run.began, ended));
        Self {
            run: run.run,
            nestmatrix: run.nestmatrix,
            build: run.build,
            shard: run.shard,
            division: run.division,
            machine: run.machine,
            emulators: run.emulators,
            undelivered: run.undelivered,
            profile: run.profile,
            began: run.began,
            ended: run.ended,
            interrupted: run.interrupted,
            resumed: run.resumed,
            cells: run.cells,
            verdicts,
            seconds: seconds.unwrap_or_else(|| last.fold(0.0, f64::max)),
        }
    }
}

fn seconds_between(began: &str, ended: &str) -> Option<f64> {
    let time = |text| -> Option<SystemTime> { humantime::parse_rfc3339(text).ok() };
    time(ended)?.duration_since(time(began)?).ok().map(|between| between.as_secs_f64())
}
