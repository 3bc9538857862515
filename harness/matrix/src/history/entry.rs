//! The result of a cell in a run and its circumstances: what the history keeps of a line of `verdicts.jsonl`.
//!
//! It is separate from the database, so that one place defines what counts as the same software.

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Fidelity, LevelNumber, Stage};
use nestmatrix_stack::Metal;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::records::{CellRecord, Known, Machine, MergedRun, PastRun, Resumption, Shard, VerdictWord, later};
use crate::scenario::CellName;

/// The software of a level.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Software {
    /// The level.
    pub level: LevelNumber,
    /// Its system: `debian-13`.
    pub os: String,
    /// How near that is to the documented system. Older versions of nestmatrix did not store this.
    pub fidelity: Option<Fidelity>,
    /// Its kernel release; `None` if the stack stopped before the level reported it.
    pub kernel: Option<String>,
    /// The QEMU that ran it; `None` for the same reason, or if no QEMU ran it.
    pub qemu: Option<String>,
    /// The recipe of its image; `None` for an L0 that is this machine or the emulator.
    pub recipe: Option<String>,
    /// The digest of its image.
    pub image: Option<String>,
}

/// Everything recorded that can change a verdict.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Circumstances {
    /// nestmatrix's version.
    pub nestmatrix: String,
    /// The id of its build; `None` in old runs.
    pub build: Option<String>,
    /// Kernel release of the machine.
    pub machine_kernel: String,
    /// System of the machine.
    pub machine_system: String,
    /// Processor of the machine.
    pub processor: String,
    /// What L0 ran on.
    pub metal: Option<Metal>,
    /// The emulator of the metal, if it is not the QEMU that the levels report.
    pub emulator: Option<String>,
    /// The expectation of the scenario, as in a record.
    pub expectation: String,
    /// The levels, outermost first.
    pub levels: Vec<Software>,
}

/// One attempt at a cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttemptSeen {
    /// Its verdict.
    pub verdict: VerdictWord,
    /// The symptom, if it stopped.
    pub symptom: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Whether it was restored from a snapshot, or should have been.
    pub saved: bool,
}

/// The result of a cell in a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryEntry {
    /// The cell.
    pub cell: CellName,
    /// The run's name.
    pub run: String,
    /// When the verdict was known, UTC, RFC 3339; for a skipped cell, when the run began.
    pub seen: String,
    /// The verdict.
    pub verdict: VerdictWord,
    /// Whether the scenario knew that the limitation is gone.
    pub known_stale: bool,
    /// What the scenario knew about the verdict. Older versions of nestmatrix did not store this.
    pub known: Option<Known>,
    /// Where the stack stopped, if it did.
    pub stage: Option<Stage>,
    /// The symptom.
    pub symptom: Option<String>,
    /// How long the last attempt took, in seconds.
    pub seconds: f64,
    /// Whether that attempt was restored from a snapshot.
    pub saved: bool,
    /// Every attempt, in order; empty if they are no longer known.
    pub attempts: Vec<AttemptSeen>,
    /// The circumstances.
    pub with: Circumstances,
}

/// A run of one machine, by itself or in a merged run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// Its name.
    pub(super) name: String,
    /// When it began.
    pub(super) began: String,
    /// Identifies the run wherever it occurs: its name changes if merged runs had the same name.
    pub(super) identity: String,
}

/// An entry, and what distinguishes it from others of its run.
pub(super) struct Seen {
    pub(super) entry: HistoryEntry,
    /// Identifies the record among those of its run.
    pub(super) digest: String,
}

/// The entries of a past run; of a merged run, those of its parts in order.
pub fn entries(past: &PastRun) -> Vec<HistoryEntry> {
    by_origin(past).into_iter().flat_map(|(_, seen)| seen).map(|seen| seen.entry).collect()
}

/// The records of a past run, each with its entry and with a digest that stays the same when runs are merged.
pub(crate) fn records(past: &PastRun) -> Vec<(&CellRecord, HistoryEntry, String)> {
    let own = [MergedRun::from(past)];
    let runs = if past.record.merged.is_empty() { &own[..] } else { &past.record.merged[..] };
    let of_run = |run: &MergedRun| {
        let origin = origin(run);
        let is_its = |cell: &&CellRecord| cell.run.as_deref().is_none_or(|name| name == run.run);
        let seen = |cell| {
            let Seen { entry, digest } = seen(cell, run, &origin);
            (cell, entry, digest)
        };
        past.cells.iter().filter(is_its).map(seen).collect::<Vec<_>>()
    };
    runs.iter().flat_map(of_run).collect()
}

/// The entries of a past run by origin: by the parts of a merged run, otherwise by the run itself.
pub(super) fn by_origin(past: &PastRun) -> Vec<(Origin, Vec<Seen>)> {
    let own = [MergedRun::from(past)];
    let runs = if past.record.merged.is_empty() { &own[..] } else { &past.record.merged[..] };
    let of_run = |run: &MergedRun| {
        let is_its = |cell: &&CellRecord| cell.run.as_deref().is_none_or(|name| name == run.run);
        let origin = origin(run);
        let seen = past.cells.iter().filter(is_its).map(|cell| seen(cell, run, &origin)).collect();
        (origin, seen)
    };
    runs.iter().map(of_run).collect()
}

fn origin(run: &MergedRun) -> Origin {
    let Machine { kernel, system, processor, cores, memory_mib } = &run.machine;
    let shard = run.shard.map_or(String::new(), |shard: Shard| shard.to_string());
    let (division, profile) =
        (run.division.as_deref().unwrap_or_default(), run.profile.as_deref().unwrap_or_default());
    let identity = format!(
        "{}\n{kernel}\n{system}\n{processor}\n{cores}\n{memory_mib}\n{shard}\n{division}\n{profile}",
        run.began
    );
    Origin { name: run.run.clone(), began: run.began.clone(), identity: digest(&identity) }
}

fn seen(cell: &CellRecord, run: &MergedRun, origin: &Origin) -> Seen {
    let end = cell.attempts.last().map_or(0.0, |last| last.end);
    let seen = after(&run.began, end);
    let entry = HistoryEntry {
        cell: cell.cell.clone(),
        run: run.run.clone(),
        verdict: cell.verdict,
        known_stale: cell.expectation.known_stale().is_some(),
        known: cell.known(),
        stage: cell.stage,
        symptom: cell.symptom.clone(),
        seconds: cell.seconds(),
        saved: cell.restored.is_some(),
        attempts: cell
            .attempts
            .iter()
            .map(|attempt| AttemptSeen {
                verdict: attempt.verdict,
                symptom: attempt.symptom.clone(),
                seconds: attempt.end - attempt.start,
                saved: attempt.from.is_some(),
            })
            .collect(),
        with: circumstances(cell, run, &seen),
        seen,
    };
    // Only what every version of nestmatrix reads in the same way, and times to the millisecond, because they are written and read
    // again.
    let times: Vec<String> =
        cell.attempts.iter().map(|attempt| format!("{:.3} {:.3}", attempt.start, attempt.end)).collect();
    let identity =
        format!("{}\n{}\n{}\n{:?}\n{times:?}", origin.identity, cell.cell, cell.verdict, cell.symptom);
    Seen { entry, digest: digest(&identity) }
}

fn circumstances(cell: &CellRecord, run: &MergedRun, seen: &str) -> Circumstances {
    // The run may have been resumed on another machine. All times have the same format, so text order is time order.
    let resumed = run.resumed.iter().rfind(|resumed| resumed.at.as_str() <= seen);
    let (nestmatrix, build, machine) = match resumed {
        Some(Resumption { nestmatrix, build, machine, .. }) => (nestmatrix, build, machine),
        None => (&run.nestmatrix, &run.build, &run.machine),
    };
    let levels: Vec<Software> = cell
        .levels
        .iter()
        .map(|level| Software {
            level: level.level,
            os: level.os.clone(),
            fidelity: Some(level.fidelity),
            kernel: level.seen.kernel.clone(),
            qemu: level.seen.qemu.clone(),
            recipe: level.image.as_ref().map(|image| image.recipe.clone()),
            image: level.image.as_ref().map(|image| image.digest.clone()),
        })
        .collect();
    let profile = ArchInfo::of(cell.architecture);
    let program = profile.metal.program(profile.qemu);
    // A package's name is the beginning of its program's name: `bochs` has `bochs-bin`.
    let is_it = |emulator: &&String| emulator.split(' ').next().is_some_and(|it| program.starts_with(it));
    let reports_qemu = levels.first().is_some_and(|outermost| outermost.qemu.is_some());
    let is_emulator = cell.metal == Some(Metal::Emulated) && !reports_qemu;
    Circumstances {
        nestmatrix: nestmatrix.clone(),
        build: build.clone(),
        machine_kernel: machine.kernel.clone(),
        machine_system: machine.system.clone(),
        processor: machine.processor.clone(),
        metal: cell.metal,
        emulator: run.emulators.iter().find(is_it).cloned().filter(|_| is_emulator),
        // Records have sorted maps, so equal expectations have equal text.
        expectation: serde_json::to_string(&cell.expectation).unwrap_or_default(),
        levels,
    }
}

/// The time `seconds` later, to the second; `time` itself if it is not a time, or that has no text.
fn after(time: &str, seconds: f64) -> String {
    let then = humantime::parse_rfc3339(time).ok().and_then(|time| later(time, seconds));
    then.map_or_else(|| time.to_owned(), |then| humantime::format_rfc3339_seconds(then).to_string())
}

/// The SHA-256 of a text.
fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// A difference between the circumstances of two entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The level, if it is about one.
    pub level: Option<LevelNumber>,
    /// What differs: `kernel`, `QEMU`, `image`, `system`, `nestmatrix`, `machine`, `metal`, `emulator`, `expectation`.
    pub what: &'static str,
    /// The value before.
    pub before: String,
    /// The value after.
    pub after: String,
}

impl Circumstances {
    /// The differences between these and those `after`. An unknown value is no difference: a stack that stopped early does not
    /// know the kernels of its inner levels, only their images.
    pub fn differences(&self, after: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut compare = |level, what, before: Option<&str>, after: Option<&str>| {
            if let (Some(before), Some(after)) = (before, after)
                && before != after
            {
                let (before, after) = (before.to_owned(), after.to_owned());
                found.push(Difference { level, what, before, after });
            }
        };
        for before in &self.levels {
            let Some(after) = after.levels.iter().find(|after| after.level == before.level) else { continue };
            let level = Some(before.level);
            compare(level, "system", Some(&before.os), Some(&after.os));
            compare(level, "kernel", before.kernel.as_deref(), after.kernel.as_deref());
            compare(level, "QEMU", before.qemu.as_deref(), after.qemu.as_deref());
            compare(level, "image", before.image.as_deref(), after.image.as_deref());
        }
        compare(None, "emulator", self.emulator.as_deref(), after.emulator.as_deref());
        let metal = |circumstances: &Self| circumstances.metal.map(|metal| metal.to_string());
        compare(None, "metal", metal(self).as_deref(), metal(after).as_deref());
        compare(None, "nestmatrix", Some(&self.nestmatrix), Some(&after.nestmatrix));
        compare(None, "nestmatrix's build", self.build.as_deref(), after.build.as_deref());
        compare(None, "machine's kernel", Some(&self.machine_kernel), Some(&after.machine_kernel));
        compare(None, "machine's system", Some(&self.machine_system), Some(&after.machine_system));
        compare(None, "machine's processor", Some(&self.processor), Some(&after.processor));
        compare(None, "expectation", Some(&self.expectation), Some(&after.expectation));
        found
    }

    /// Whether there is no known difference.
    pub fn same(&self, other: &Self) -> bool {
        self.differences(other).is_empty()
    }
}
