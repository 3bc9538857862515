//! Merging: several runs, of shards or of several machines, as one, which says what each of them saw.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::record::{CELLS, folder_of_now, line_of, lines_of, point_latest_to, text_of};
use super::{
    CellRecord, FORMAT, Known, Machine, Outcome, PastRun, PastRunError, Purpose, Resumption, RunRecord,
    Shard, Tally, UndeliveredImage, VerdictWord,
};
use crate::contained::{self, OutsideFolder, RelativeFolder};
use crate::scenario::CellName;

/// How the folders are named in which merges are under way, and the file in them that is locked meanwhile.
const MERGING: &str = ".merging-";
const LOCK: &str = "lock";

/// One of the runs that a merged run was merged from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MergedRun {
    /// Its name, with a number behind it where another one has the same.
    pub run: String,
    /// The version of nestmatrix that carried it out.
    pub nestmatrix: String,
    /// What names its program, by the SHA-256 of that.
    #[serde(default)]
    pub build: Option<String>,
    /// The shard that it was of, if it was of one.
    pub shard: Option<Shard>,
    /// What was divided into shards, if it was.
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
    /// Whether somebody asked it to end before it was through.
    pub interrupted: bool,
    /// How often somebody went on with it.
    pub resumed: Vec<Resumption>,
    /// How many cells it was to have a verdict of.
    pub cells: usize,
    /// How many of them got which.
    pub verdicts: Tally,
    /// Seconds from its beginning to its end, or to that of its last cell if it was killed.
    pub seconds: f64,
}

/// Runs that are to be merged. Nobody can go on with them meanwhile.
#[derive(Debug)]
pub struct Merge {
    runs: Vec<PastRun>,
    locks: Vec<File>,
}

/// What came of a merge.
#[derive(Debug)]
pub struct Merged {
    /// The merged run; of each cell the verdict that counts.
    pub outcome: Outcome,
    /// Of each cell that has different verdicts, all that was seen.
    pub conflicts: Vec<Vec<CellRecord>>,
}

/// Why runs can't be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// One can't be read.
    #[error(transparent)]
    Unreadable(#[from] PastRunError),
    /// One is named more than once.
    #[error("{} is given twice", .0.display())]
    Twice(PathBuf),
    /// One has not come to its end.
    #[error("{} is still going on", .0.display())]
    GoesOn(PathBuf),
    /// One lacks verdicts and does not say which.
    #[error("{} has no {CELLS}, so nobody knows of which cells it has no verdict", .0.display())]
    NoCells(PathBuf),
    /// One is of mutants, of which the merged run would say nothing.
    #[error("{} is a mutation run: `cargo xtask report` shows several of them together", .0.display())]
    Mutation(PathBuf),
    /// It would lead out of the merged run's folder.
    #[error("{}: {what:?} names no folder within a run's", .folder.display())]
    OutsideFolder {
        /// The folder of the run that says so.
        folder: PathBuf,
        /// What it says.
        what: String,
    },
    /// There is something already where it was to be.
    #[error("{} is there already", .0.display())]
    InTheWay(PathBuf),
    /// It can't be written.
    #[error("failed to write the merged run {}: {source}", .path.display())]
    Unwritable {
        /// Its folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// Everything that is known of runs, as if they were one.
#[derive(Debug, Default)]
struct Measurements {
    merged: Vec<MergedRun>,
    /// Ordered by the cells' names, and for each cell by the order of the runs.
    cells: Vec<CellRecord>,
    /// Where the files of each of them are: a run's folder, and the cell's in it.
    sources: Vec<Option<(PathBuf, RelativeFolder)>>,
    planned: BTreeSet<CellName>,
}

impl Merge {
    /// Reads the runs whose folders these are. They may have been merged themselves, and killed.
    ///
    /// # Errors
    /// One can't be read, is still going on, is there twice, or is a mutation run.
    pub fn read(folders: &[PathBuf]) -> Result<Self, MergeError> {
        let mut known = BTreeSet::new();
        let mut locks = Vec::new();
        let mut runs = Vec::new();
        for folder in folders {
            if !known.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())) {
                return Err(MergeError::Twice(folder.clone()));
            }
            // What can't be locked is on a file system where nothing runs.
            if let Ok(verdicts) = contained::open(folder, Path::new("verdicts.jsonl")) {
                match verdicts.try_lock_shared() {
                    Err(TryLockError::WouldBlock) => return Err(MergeError::GoesOn(folder.clone())),
                    _ => locks.push(verdicts),
                }
            }
            let run = PastRun::read(folder)?;
            if run.record.purpose == Purpose::Mutation {
                return Err(MergeError::Mutation(folder.clone()));
            }
            runs.push(run);
        }
        Ok(Self { runs, locks })
    }

    /// Writes them as one run to the folder `into`, which must not be there yet, or else to one in `results`, to which
    /// `results/latest` points then. `arguments` are the command line's, for the record.
    ///
    /// # Errors
    /// It can't be written; nothing is left of it then.
    pub fn write(
        self,
        results: &Path,
        into: Option<&Path>,
        arguments: Vec<String>,
    ) -> Result<Merged, MergeError> {
        let Self { runs, locks } = self;
        let gathered = Measurements::of(runs)?;
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| MergeError::Unwritable { path, source }
        };
        let place = match into {
            Some(path) => Reserved::at(path)?,
            None => {
                let made = fs::create_dir_all(results).and_then(|()| folder_of_now(results));
                Reserved { path: made.map_err(unwritable(results))?, made: true }
            }
        };
        let failed = unwritable(&place.path);
        let name = place.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (outcome, conflicts) = gathered
            .write(&place.path, &name, arguments)
            .and_then(|written| {
                if into.is_none() {
                    // What is in it was written by this merge alone.
                    let pointed = point_latest_to(results, &name);
                    pointed.inspect_err(|_| drop(fs::remove_dir_all(&place.path)))?;
                }
                Ok(written)
            })
            .map_err(failed)?;
        place.keep();
        drop(locks);
        Ok(Merged { outcome, conflicts })
    }
}

impl Measurements {
    /// All that these runs have.
    fn of(runs: Vec<PastRun>) -> Result<Self, MergeError> {
        let mut names = BTreeSet::new();
        let mut all = Self::default();
        let mut lines = Vec::new();
        for mut run in runs {
            let seen: BTreeSet<&CellName> = run.cells.iter().map(|cell| &cell.cell).collect();
            match &run.planned {
                Some(planned) => all.planned.extend(planned.iter().cloned()),
                None if run.record.cells > seen.len() => return Err(MergeError::NoCells(run.folder.clone())),
                None => {}
            }
            all.planned.extend(seen.into_iter().cloned());
            let leads_out =
                |what: &str| MergeError::OutsideFolder { folder: run.folder.clone(), what: what.to_owned() };
            let first = all.merged.len();
            // Where a run's records are by its name in the merged run that it comes from.
            let mut places = BTreeMap::new();
            let own = [MergedRun::from(&run)];
            let of = if run.record.merged.is_empty() { &own[..] } else { &run.record.merged[..] };
            for merged in of {
                if !is_one_name(&merged.run) {
                    return Err(leads_out(&merged.run));
                }
                let candidates = (2..).map(|number| format!("{}-{number}", merged.run));
                let name =
                    std::iter::once(merged.run.clone()).chain(candidates).find(|name| !names.contains(name));
                let name = name.unwrap_or_default();
                names.insert(name.clone());
                places.insert(merged.run.clone(), all.merged.len());
                all.merged.push(MergedRun { run: name, ..merged.clone() });
            }
            for mut cell in std::mem::take(&mut run.cells) {
                let saw = match &cell.run {
                    Some(name) => *places.get(name).ok_or_else(|| leads_out(name))?,
                    None => first,
                };
                // A skipped cell has no files.
                let source = cell.folder.take().filter(|folder| contained::is_folder(&run.folder, folder));
                if let Some(folder) = &source {
                    let folder = folder.as_path();
                    let before = cell.run.iter().map(|name| Path::new("runs").join(name)).next();
                    let rest = before.and_then(|before| folder.strip_prefix(before).ok()).unwrap_or(folder);
                    let folder = Path::new("runs").join(&all.merged[saw].run).join(rest);
                    cell.folder = Some(folder.try_into().map_err(|e: OutsideFolder| leads_out(&e.given))?);
                }
                cell.run = Some(all.merged[saw].run.clone());
                lines.push((cell.cell.clone(), saw, cell, source.map(|folder| (run.folder.clone(), folder))));
            }
        }
        lines.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        (all.cells, all.sources) = lines.into_iter().map(|(_, _, cell, source)| (cell, source)).unzip();
        Ok(all)
    }

    /// Writes all to the folder `place`, which is there and empty, in one step.
    fn write(
        self,
        place: &Path,
        name: &str,
        arguments: Vec<String>,
    ) -> io::Result<(Outcome, Vec<Vec<CellRecord>>)> {
        // Beside it, and so on the same file system.
        let beside = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sweep(beside)?;
        let temporary = tempfile::Builder::new().prefix(MERGING).tempdir_in(beside)?;
        let lock = File::create_new(temporary.path().join(LOCK))?;
        lock.try_lock()?;
        // A temporary folder is its owner's alone; this one is not to stay so.
        let folder = temporary.path().join("run");
        fs::create_dir(&folder)?;
        let mut verdicts = BufWriter::new(File::create_new(folder.join("verdicts.jsonl"))?);
        for (cell, source) in self.cells.iter().zip(&self.sources) {
            verdicts.write_all(line_of(cell)?.as_bytes())?;
            if let (Some(source), Some(to)) = (source, &cell.folder) {
                link_all(source, &folder.join(to.as_path()))?;
            }
        }
        verdicts.into_inner().map_err(io::IntoInnerError::into_error)?;
        fs::write(folder.join(CELLS), lines_of(&self.planned))?;

        let mut run = self.record(name, arguments);
        let took = self.merged.iter().map(|merged| merged.seconds).fold(0.0, f64::max);
        let (mut records, mut conflicts): (Vec<CellRecord>, Vec<Vec<CellRecord>>) = Default::default();
        for seen in by_cell(self.cells) {
            let Some(counts) = counted(&seen) else { continue };
            run.verdicts.add(counts);
            records.push(counts.clone());
            if differs(&seen) {
                run.conflicts.push(counts.cell.clone());
                conflicts.push(seen);
            }
        }
        run.merged = self.merged;
        fs::write(folder.join("run.json"), text_of(&run)?)?;
        fs::rename(&folder, place)?;
        let took = Duration::try_from_secs_f64(took).unwrap_or_default();
        Ok((Outcome { folder: place.to_owned(), run, records, took }, conflicts))
    }

    /// `run.json`, still without verdicts and without those that were merged.
    fn record(&self, name: &str, arguments: Vec<String>) -> RunRecord {
        let merged = &self.merged;
        let ended: Option<Vec<&String>> = merged.iter().map(|run| run.ended.as_ref()).collect();
        let emulators: BTreeSet<&String> = merged.iter().flat_map(|run| &run.emulators).collect();
        let seen: BTreeSet<&CellName> = self.cells.iter().map(|cell| &cell.cell).collect();
        RunRecord {
            format: FORMAT,
            nestmatrix: env!("CARGO_PKG_VERSION").to_owned(),
            build: None,
            run: name.to_owned(),
            purpose: Purpose::Matrix,
            began: merged.iter().map(|run| run.began.clone()).min().unwrap_or_default(),
            ended: ended.and_then(|ended| ended.into_iter().max().cloned()),
            interrupted: merged.iter().any(|run| run.interrupted),
            arguments,
            working_folder: None,
            machine: together(merged.iter().map(|run| &run.machine)),
            emulators: emulators.into_iter().cloned().collect(),
            undelivered: Vec::new(),
            profile: same(merged.iter().map(|run| &run.profile)).cloned().flatten(),
            shard: None,
            division: None,
            cells: self.planned.len(),
            verdicts: Tally::default(),
            resumed: Vec::new(),
            merged: Vec::new(),
            conflicts: Vec::new(),
            missing_shards: missing_shards(merged),
            missing_cells: self.planned.iter().filter(|cell| !seen.contains(cell)).cloned().collect(),
        }
    }
}

impl From<&PastRun> for MergedRun {
    fn from(past: &PastRun) -> Self {
        let run = past.record.clone();
        // A run that was killed has not come to count them.
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

/// A folder for the merged run. One that was made for it is removed if nothing comes into it.
struct Reserved {
    path: PathBuf,
    made: bool,
}

impl Reserved {
    fn at(path: &Path) -> Result<Self, MergeError> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let made = parent.map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::create_dir(path));
        match made {
            Ok(()) => Ok(Self { path: path.to_owned(), made: true }),
            // The user's own, or as a merge leaves it that is killed.
            Err(_) if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) => {
                Ok(Self { path: path.to_owned(), made: false })
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(MergeError::InTheWay(path.to_owned())),
            Err(source) => Err(MergeError::Unwritable { path: path.to_owned(), source }),
        }
    }
}

impl Reserved {
    /// It is the merged run's now.
    fn keep(mut self) {
        self.made = false;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.made {
            // Another process may have put something into it meanwhile: then it stays.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Whether a run's name is one part of a path.
fn is_one_name(run: &str) -> bool {
    let path: Result<RelativeFolder, OutsideFolder> = run.parse();
    path.is_ok_and(|path| path.as_path() == Path::new(run) && path.as_path().components().count() == 1)
}

/// What all of these are, if they are all the same.
fn same<'a, T: PartialEq>(mut of: impl Iterator<Item = &'a T>) -> Option<&'a T> {
    let first = of.next()?;
    of.all(|other| other == first).then_some(first)
}

/// These machines as if they were one: every text that is different, and numbers that all have.
pub(super) fn together<'m>(machines: impl Iterator<Item = &'m Machine> + Clone) -> Machine {
    let text = |of: fn(&Machine) -> &String| {
        let different: BTreeSet<&str> = machines.clone().map(|machine| of(machine).as_str()).collect();
        different.into_iter().collect::<Vec<_>>().join(", ")
    };
    Machine {
        kernel: text(|machine| &machine.kernel),
        system: text(|machine| &machine.system),
        processor: text(|machine| &machine.processor),
        cores: same(machines.clone().map(|machine| &machine.cores)).copied().unwrap_or(0),
        memory_mib: same(machines.clone().map(|machine| &machine.memory_mib)).copied().unwrap_or(0),
    }
}

/// The shards that none of these is, though others of the same division are there.
fn missing_shards(runs: &[MergedRun]) -> Vec<Shard> {
    let mut divisions: BTreeMap<(&Option<String>, u16), BTreeSet<Shard>> = BTreeMap::new();
    for (run, shard) in runs.iter().filter_map(|run| Some((run, run.shard?))) {
        divisions.entry((&run.division, shard.of())).or_default().insert(shard);
    }
    let missing = divisions.values().flat_map(|there| {
        let all = there.first().into_iter().flat_map(|shard| shard.all());
        all.filter(|shard| !there.contains(shard))
    });
    missing.collect()
}

/// Cells that are ordered by their names, those of one name together.
fn by_cell(cells: Vec<CellRecord>) -> impl Iterator<Item = Vec<CellRecord>> {
    let mut cells = cells.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = cells.next()?;
        let mut seen = vec![first];
        while let Some(next) = cells.next_if(|next| next.cell == seen[0].cell) {
            seen.push(next);
        }
        Some(seen)
    })
}

/// Of what was seen of a cell, what counts: the worst, and of equals the first.
pub(super) fn counted(seen: &[CellRecord]) -> Option<&CellRecord> {
    seen.iter().rev().max_by_key(|record| match record.verdict {
        VerdictWord::Skip => 0,
        // Nothing follows from it, so it stands in the way of no verdict of another machine.
        VerdictWord::Flaky if !record.is_trouble() => 1,
        VerdictWord::Pass => 2,
        VerdictWord::Xfail => 3,
        VerdictWord::Xpass if !record.is_trouble() => 4,
        VerdictWord::Fail if !record.is_trouble() => 5,
        VerdictWord::Xpass => 6,
        VerdictWord::Flaky => 7,
        VerdictWord::Fail => 8,
        VerdictWord::Error => 9,
    })
}

/// Whether what was seen of a cell differs. That it was skipped somewhere is no contradiction, nor that it is known to be flaky there.
fn differs(seen: &[CellRecord]) -> bool {
    let says_nothing =
        |record: &&CellRecord| record.verdict == VerdictWord::Skip || record.known() == Some(Known::Flaky);
    let words = seen.iter().filter(|record| !says_nothing(record)).map(|record| record.verdict);
    words.collect::<BTreeSet<VerdictWord>>().len() > 1
}

/// Removes what merges have left that were killed: their folders are locked while they live.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(MERGING) {
            continue;
        }
        // One without a lock has just been made.
        if contained::open(&entry.path(), Path::new(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Gives all files in a folder of a run a second name below `to`; where that can't be, copies them.
fn link_all((run, folder): &(PathBuf, RelativeFolder), to: &Path) -> io::Result<()> {
    let from = run.join(folder.as_path());
    let listing = contained::list(run, folder.as_path())?;
    for (path, what) in &listing.others {
        tracing::warn!("{} is left out: it is {what}", from.join(path).display());
    }
    fs::create_dir_all(to)?;
    for file in &listing.files {
        let to = to.join(file);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::hard_link(from.join(file), &to).is_err() {
            // Never into a file that is there: that could be the very one that is to be copied.
            let mut source = contained::open(run, &folder.as_path().join(file))?;
            io::copy(&mut source, &mut File::create_new(&to)?)?;
        }
    }
    Ok(())
}
