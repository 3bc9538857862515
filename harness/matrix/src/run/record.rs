//! What a run leaves behind: `results/RUN/` with its facts, one line a verdict, and a folder a cell.
//!
//! docs/records.md describes the format for those who read it; [`FORMAT`] is its version.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nestmatrix_images::Image;
use nestmatrix_model::{Architecture, LevelNumber, Stage};
use nestmatrix_stack::{
    Description, LevelFacts, Metal, Snapshot, SnapshotKey, StageTime, StepRecord, Symptom, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{MergedRun, Resumption, Shard, SkipReason, Tally, UndeliveredImage, VerdictWord, in_one_line};
use crate::contained::{self, RelativeFolder};
use crate::scenario::{Cell, CellName, Expectation, Fingerprint, KnownFlaky, Tier};

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

/// This machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Its system by its os-release: `debian 12`.
    pub system: String,
    /// Processor model.
    pub processor: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// A level of a cell's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LevelRecord {
    /// Which.
    pub level: LevelNumber,
    /// What the document asks for: `RHEL 10.0 and later`.
    pub required: String,
    /// The system that ran, by its image: `debian-13`.
    pub os: String,
    /// The image's recipe, product and digest; absent for an L0 that is this machine.
    pub image: Option<ImageRecord>,
    /// Whether the system stands in for the required one.
    pub stand_in: bool,
    /// Why a stand-in is used, and this one.
    pub stand_in_reason: Option<String>,
    /// What was seen of it.
    #[serde(flatten)]
    pub seen: LevelFacts,
}

/// An image as a record names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Recipe.
    pub recipe: String,
    /// Product.
    pub product: String,
    /// SHA-256 that names it in the cache.
    pub digest: String,
}

impl From<&Image> for ImageRecord {
    fn from(image: &Image) -> Self {
        Self {
            recipe: image.name().to_owned(),
            product: image.product().to_string(),
            digest: image.digest().to_string(),
        }
    }
}

/// The saved state from which a cell went on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Restored {
    /// Its key, the SHA-256 of all that went into it.
    pub key: SnapshotKey,
    /// The innermost level that was up in it.
    pub level: LevelNumber,
    /// When it was saved, UTC, RFC 3339.
    pub saved: String,
}

impl From<&Snapshot> for Restored {
    fn from(state: &Snapshot) -> Self {
        let Description { key, level, saved, .. } = state.description();
        Self { key: key.clone(), level: *level, saved: saved.clone() }
    }
}

/// One attempt at a cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    /// Seconds since the run began.
    pub start: f64,
    /// Seconds since the run began.
    pub end: f64,
    /// When its stack began to boot, in seconds since the run began: what times of stages, consoles and conversations are counted
    /// from. Absent if it did not come to that, and in runs of old.
    #[serde(default)]
    pub booted: Option<f64>,
    /// What came of it.
    pub verdict: VerdictWord,
    /// The key of the saved state from which it went on, or was to; absent if it began at its outermost level.
    pub from: Option<SnapshotKey>,
    /// Where the stack stopped, what was seen.
    pub symptom: Option<String>,
    /// What its time limits were multiplied by, in runs of this version.
    #[serde(default)]
    pub timeout_scale: Option<f64>,
    /// What the emulator of the outermost level used of this machine.
    #[serde(flatten)]
    pub usage: Usage,
}

/// A cell's verdict and what led to it: one line of `verdicts.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CellRecord {
    /// The cell.
    pub cell: CellName,
    /// Its scenario.
    pub scenario: String,
    /// The document that the scenario tries.
    pub document: String,
    /// The claims that it tries.
    pub claims: Vec<String>,
    /// Its architecture.
    pub architecture: Architecture,
    /// What L0 ran on; absent if it was skipped.
    pub metal: Option<Metal>,
    /// The tier of what its scenario tries first of all.
    pub tier: Tier,
    /// The tier of each of its claims, as the documents put it. Empty in runs of old.
    #[serde(default)]
    pub tiers: BTreeMap<String, Tier>,
    /// What names all that it asked for; absent in runs of old.
    #[serde(default)]
    pub fingerprint: Option<Fingerprint>,
    /// What the document leads to expect.
    pub expectation: Expectation,
    /// The verdict.
    pub verdict: VerdictWord,
    /// What its scenario says of its being flaky, where that is about this metal and these versions. Absent in runs of old.
    #[serde(default)]
    pub known_flaky: Option<KnownFlaky>,
    /// Whether its scenario describes what came of it: the fail of a claim that is known to be wrong, or of a limitation that is known to
    /// be gone; of a flaky cell, each of its attempts. Absent in runs of old.
    #[serde(default)]
    pub as_described: bool,
    /// Where the stack stopped, if it did.
    pub stage: Option<Stage>,
    /// The level that the symptom is about.
    pub level: Option<LevelNumber>,
    /// What was seen there, or for a skip what is missing.
    pub symptom: Option<String>,
    /// What was seen there, as data; absent if nothing stopped it, and in runs of earlier versions.
    #[serde(default)]
    pub symptom_data: Option<Symptom>,
    /// Why it was skipped, as data; empty if it was not, and in runs of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip_reasons: Vec<SkipReason>,
    /// The image of the emulator that ran its outermost level; absent if that was none of an image, and in runs of old.
    #[serde(default)]
    pub emulator: Option<ImageRecord>,
    /// Its levels, L0 first; empty if it was skipped.
    pub levels: Vec<LevelRecord>,
    /// The evidence that it worked, if it did; the form is that of `stack::Evidence`.
    pub evidence: Option<Value>,
    /// What came of the scenario's own steps, in order.
    pub steps: Vec<StepRecord>,
    /// The stages that it went through, in seconds since the cell began.
    pub stages: Vec<StageTime>,
    /// The snapshot that it was restored from, if it was.
    #[serde(alias = "continued")]
    pub restored: Option<Restored>,
    /// Why it was not restored, where snapshots are used.
    pub cold: Option<String>,
    /// Every attempt, first to last.
    pub attempts: Vec<Attempt>,
    /// The number of the attempt, from 1, that the other members describe, if that is not the last. Absent in older runs.
    #[serde(default, alias = "told_of")]
    pub described_attempt: Option<usize>,
    /// Its folder, relative to the run's.
    pub folder: Option<RelativeFolder>,
    /// In a merged run, which of those that it was merged from has seen this.
    pub run: Option<String>,
}

impl CellRecord {
    /// The record of a cell that was not tried, which is an error if it had to be.
    pub fn skipped(cell: &Cell, skipped: &[SkipReason], must_run: bool) -> Self {
        let reasons = in_one_line(skipped);
        if must_run {
            let symptom = Some(format!("it must run here and can't: {reasons}"));
            Self { symptom, skip_reasons: skipped.to_vec(), ..Self::blank(cell, VerdictWord::Error) }
        } else {
            let symptom = Some(reasons);
            Self { symptom, skip_reasons: skipped.to_vec(), ..Self::blank(cell, VerdictWord::Skip) }
        }
    }

    /// A record that says of `cell` nothing but this verdict.
    pub(super) fn blank(cell: &Cell, verdict: VerdictWord) -> Self {
        Self {
            cell: cell.name.clone(),
            scenario: cell.scenario.clone(),
            document: cell.document.clone(),
            claims: cell.claims.clone(),
            architecture: cell.architecture,
            metal: None,
            tier: cell.tier,
            tiers: cell.tiers.clone(),
            fingerprint: Some(Fingerprint::of(cell)),
            expectation: cell.expectation.clone(),
            verdict,
            known_flaky: None,
            as_described: false,
            stage: None,
            level: None,
            symptom: None,
            symptom_data: None,
            skip_reasons: Vec::new(),
            emulator: None,
            levels: Vec::new(),
            evidence: None,
            steps: Vec::new(),
            stages: Vec::new(),
            restored: None,
            cold: None,
            attempts: Vec::new(),
            described_attempt: None,
            folder: None,
            run: None,
        }
    }

    /// The tiers of its claims, each once.
    pub fn tiers(&self) -> impl Iterator<Item = Tier> {
        let of_scenario = if self.tiers.is_empty() { Some(self.tier) } else { None };
        self.tiers.values().copied().chain(of_scenario)
    }

    /// How long the attempt took that it describes, in seconds.
    pub fn seconds(&self) -> f64 {
        self.described_index()
            .and_then(|index| self.attempts.get(index))
            .map_or(0.0, |attempt| attempt.end - attempt.start)
    }

    /// The place of the attempt whose stages, levels, evidence and files these are.
    pub fn described_index(&self) -> Option<usize> {
        self.described_attempt.unwrap_or(self.attempts.len()).checked_sub(1)
    }
}

/// A run's folder.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    verdicts: File,
}

impl RunFolder {
    /// Makes the folder of a new run in `results`, names it after now, and points `results/latest` to it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn create(results: &Path) -> io::Result<Self> {
        let folder = Self::create_aside(results)?;
        point_latest_to(results, &folder.name())?;
        Ok(folder)
    }

    /// Likewise, for a run that is not what `results/latest` should mean.
    ///
    /// # Errors
    /// It can't be written.
    pub(super) fn create_aside(results: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(results)?;
        let path = folder_of_now(results)?;
        let options = OpenOptions::new().create_new(true).append(true).clone();
        let verdicts = options.open(path.join("verdicts.jsonl"))?;
        // Kept for as long as the file is open, and so given up by the kernel however this process ends.
        if let Err(e) = verdicts.try_lock() {
            tracing::warn!("the run's folder can't be kept from others: {e}");
        }
        Ok(Self { path, verdicts })
    }

    /// Opens the folder of a run that was cut off, and keeps it from others; `None` if somebody else does.
    ///
    /// # Errors
    /// It can't be opened or locked.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let verdicts = contained::open_to_append(path, Path::new("verdicts.jsonl"))?;
        match verdicts.try_lock() {
            Ok(()) => Ok(Some(Self { path: path.to_owned(), verdicts })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// Cuts off of the verdicts what comes after this many bytes.
    pub(super) fn cut_verdicts(&self, bytes: u64) -> io::Result<()> {
        self.verdicts.set_len(bytes)
    }

    /// Writes whole which cells the run is to have, in order.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_cells<'a>(&self, cells: impl IntoIterator<Item = &'a CellName>) -> io::Result<()> {
        write_whole(&self.path, CELLS, &lines_of(cells))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Writes `run.json` whole: a reader sees the old one or the new one.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_run(&self, record: &RunRecord) -> io::Result<()> {
        write_whole(&self.path, "run.json", &text_of(record)?)
    }

    /// Appends a cell's record as one line.
    ///
    /// # Errors
    /// It can't be written.
    pub fn append(&mut self, record: &CellRecord) -> io::Result<()> {
        self.verdicts.write_all(line_of(record)?.as_bytes())
    }

    /// Removes what there is of a cell, if there is something.
    pub(super) fn clear(&self, cell: &CellName) -> io::Result<()> {
        contained::remove_folder(&self.path, &folder_of(cell)?)
    }

    /// Makes the folder of a cell in that of its run; gives its path and the same relative to the run's folder.
    ///
    /// # Errors
    /// It can't be made.
    pub fn cell_in(run: &Path, cell: &CellName) -> io::Result<(PathBuf, RelativeFolder)> {
        let relative = folder_of(cell)?;
        contained::make_folder(run, &relative)?;
        Ok((run.join(relative.as_path()), relative))
    }
}

/// The folder of a cell in that of its run.
fn folder_of(cell: &CellName) -> io::Result<RelativeFolder> {
    Path::new("cells").join(cell.as_str()).try_into().map_err(io::Error::other)
}

/// Now, UTC, RFC 3339 to the second.
pub(super) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The file of a run's folder that names the cells that the run is to have, one a line.
pub(super) const CELLS: &str = "cells.txt";

/// The text of `run.json`.
pub(super) fn text_of(record: &RunRecord) -> io::Result<String> {
    let mut text = serde_json::to_string_pretty(record)?;
    text.push('\n');
    Ok(text)
}

/// A line of `verdicts.jsonl`.
pub(super) fn line_of(record: &CellRecord) -> io::Result<String> {
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    Ok(line)
}

/// The text of [`CELLS`].
pub(super) fn lines_of<'a>(cells: impl IntoIterator<Item = &'a CellName>) -> String {
    cells.into_iter().map(|cell| format!("{cell}\n")).collect()
}

/// Writes a file in one step: a reader sees the old one or the new one. A link of its name is replaced and not followed.
pub(super) fn write_whole(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let new = folder.join(format!(".{name}"));
    // Left by a process that was killed, or a link to anywhere.
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    File::create_new(&new)?.write_all(text.as_bytes())?;
    std::fs::rename(&new, folder.join(name))
}

/// Points `results/latest` to this folder in it.
pub(super) fn point_latest_to(results: &Path, name: &str) -> io::Result<()> {
    // A link can't be replaced in one step, but another one can be renamed over it. A process that was killed may have left one, so
    // its name is new each time.
    let link = tempfile::Builder::new().prefix(".latest-").make_in(results, |link| symlink(name, link))?;
    link.persist(results.join("latest")).map(drop).map_err(|e| e.error)
}

/// Makes a folder in `results` that is named after now.
pub(super) fn folder_of_now(results: &Path) -> io::Result<PathBuf> {
    unique_folder(results, &now().replace(':', "-"))
}

/// Makes `name` in `parent`, or `name-2` and so on if another run began in the same second.
fn unique_folder(parent: &Path, name: &str) -> io::Result<PathBuf> {
    for number in 1.. {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = parent.join(format!("{name}{suffix}"));
        match std::fs::create_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path),
        }
    }
    Err(io::Error::other("no free name for the run's folder"))
}

impl Machine {
    /// This machine. What can't be read is empty or 0.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str, separator: char| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(separator));
            line.unwrap_or_default().trim().trim_matches('"').to_owned()
        };
        let release = read("/etc/os-release");
        let memory = value(&read("/proc/meminfo"), "MemTotal", ':');
        let kib: u64 = memory.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: format!("{} {}", value(&release, "ID", '='), value(&release, "VERSION_ID", '='))
                .trim()
                .to_owned(),
            processor: value(&read("/proc/cpuinfo"), "model name", ':'),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib / 1024,
        }
    }

    /// Memory in MiB that programs may still take now; all of it if that can't be read.
    pub fn available_memory_mib(&self) -> u64 {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = available.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.map_or(self.memory_mib, |kib| kib / 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_points_to_the_newest_of_runs_that_begin_in_the_same_second() {
        let results = tempfile::tempdir().unwrap();
        let runs: Vec<RunFolder> = (0..3).map(|_| RunFolder::create(results.path()).unwrap()).collect();
        let latest = std::fs::read_link(results.path().join("latest")).unwrap();
        assert_eq!(latest.to_string_lossy(), runs[2].name());
        assert_ne!(runs[0].name(), runs[1].name());
    }

    #[test]
    fn a_link_that_a_killed_process_of_the_same_number_left_is_in_no_way() {
        let results = tempfile::tempdir().unwrap();
        symlink("gone", results.path().join(format!(".latest-{}", std::process::id()))).unwrap();
        let run = RunFolder::create(results.path()).unwrap();
        assert_eq!(std::fs::read_link(results.path().join("latest")).unwrap(), Path::new(&run.name()));
        let hidden = |name: &str| name.starts_with(".latest-");
        let entries = std::fs::read_dir(results.path()).unwrap();
        let left = entries.filter(|entry| hidden(&entry.as_ref().unwrap().file_name().to_string_lossy()));
        assert_eq!(left.count(), 1, "the one that was there before");
    }

    #[test]
    fn a_record_is_not_written_through_a_link() {
        let place = tempfile::tempdir().unwrap();
        let private = place.path().join("private");
        std::fs::write(&private, "private").unwrap();
        let run = RunFolder::create(&place.path().join("results")).unwrap();
        for name in [".cells.txt", "cells.txt"] {
            symlink(&private, run.path().join(name)).unwrap();
        }
        run.write_cells(&["s/amd/a".parse().unwrap()]).unwrap();
        assert_eq!(std::fs::read_to_string(&private).unwrap(), "private");
        assert!(run.path().join("cells.txt").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty(), "{machine:?}");
    }
}
