//! What a run saw of a cell, and under which circumstances: all that a history keeps of a line of `verdicts.jsonl`.
//!
//! Apart from the database, so that what counts as the same software is told in one place.

use std::time::{Duration, SystemTime};

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{LevelNumber, Stage};
use nestmatrix_stack::Metal;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::records::{CellRecord, Known, Machine, MergedRun, PastRun, Resumption, Shard, VerdictWord};
use crate::scenario::CellName;

/// The software of a level.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Software {
    /// Which level.
    pub level: LevelNumber,
    /// Its system: `debian-13`.
    pub os: String,
    /// Its kernel's release; absent where the stack did not come so far that it told.
    pub kernel: Option<String>,
    /// The QEMU that ran it; absent likewise, and where none did.
    pub qemu: Option<String>,
    /// The recipe of its image; absent for an L0 that is this machine or the emulator.
    pub recipe: Option<String>,
    /// The digest of its image.
    pub image: Option<String>,
}

/// All that is recorded of what can make a verdict another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Circumstances {
    /// nestmatrix's version.
    pub nestmatrix: String,
    /// What names its program; absent in runs of old.
    pub build: Option<String>,
    /// Kernel release of the machine.
    pub machine_kernel: String,
    /// System of the machine.
    pub machine_system: String,
    /// Processor of the machine.
    pub processor: String,
    /// What L0 ran on.
    pub metal: Option<Metal>,
    /// The emulator that played the metal, where it is not the QEMU that the levels tell of.
    pub emulator: Option<String>,
    /// What the scenario led to expect, as a record has it.
    pub expectation: String,
    /// The levels, outermost first.
    pub levels: Vec<Software>,
}

/// One attempt at a cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AttemptSeen {
    /// What came of it.
    pub verdict: VerdictWord,
    /// What was seen where it stopped.
    pub symptom: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Whether it went on from a saved state, or was to.
    pub saved: bool,
}

/// What a run saw of a cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryEntry {
    /// The cell.
    pub cell: CellName,
    /// The run's name.
    pub run: String,
    /// When the verdict was known, UTC, RFC 3339; of a skipped cell, when the run began.
    pub seen: String,
    /// The verdict.
    pub verdict: VerdictWord,
    /// Whether its scenario knew that the limitation is gone.
    pub known_stale: bool,
    /// What its scenario knew of the verdict, if it did. Not known of what an older nestmatrix took in.
    pub known: Option<Known>,
    /// Where the stack stopped, if it did.
    pub stage: Option<Stage>,
    /// What was seen there.
    pub symptom: Option<String>,
    /// How long the last attempt took, in seconds.
    pub seconds: f64,
    /// Whether that went on from a saved state.
    pub saved: bool,
    /// Every attempt, first to last; none where they are not known any more.
    pub attempts: Vec<AttemptSeen>,
    /// What it was seen with.
    pub with: Circumstances,
}

/// A run of a machine's own, by itself or in a merged one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// Its name.
    pub(super) name: String,
    /// When it began.
    pub(super) began: String,
    /// What it has in common with itself wherever it is met: its name is another one where merged runs had the same.
    pub(super) identity: String,
}

/// A sighting, and what tells it from others of its run.
pub(super) struct Seen {
    pub(super) sighting: HistoryEntry,
    /// Of two records of one cell in one run, whether they are the same.
    pub(super) digest: String,
}

/// What a past run saw, the runs that it was merged from one after the other.
pub fn sightings(past: &PastRun) -> Vec<HistoryEntry> {
    by_origin(past).into_iter().flat_map(|(_, seen)| seen).map(|seen| seen.sighting).collect()
}

/// The records of a past run, each with its sighting and with what is the same of one record in all runs that it was merged into.
pub(crate) fn records(past: &PastRun) -> Vec<(&CellRecord, HistoryEntry, String)> {
    let own = [MergedRun::from(past)];
    let runs = if past.record.merged.is_empty() { &own[..] } else { &past.record.merged[..] };
    let of_run = |run: &MergedRun| {
        let origin = origin(run);
        let is_its = |cell: &&CellRecord| cell.run.as_deref().is_none_or(|name| name == run.run);
        let seen = |cell| {
            let Seen { sighting, digest } = seen(cell, run, &origin);
            (cell, sighting, digest)
        };
        past.cells.iter().filter(is_its).map(seen).collect::<Vec<_>>()
    };
    runs.iter().flat_map(of_run).collect()
}

/// What a past run saw, by the runs that it was merged from; of one that was not merged, by itself.
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
    let seen = later(&run.began, end);
    let sighting = HistoryEntry {
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
    // Only what no later nestmatrix can read another way, and no more than milliseconds of times, which are written and read again.
    let times: Vec<String> =
        cell.attempts.iter().map(|attempt| format!("{:.3} {:.3}", attempt.start, attempt.end)).collect();
    let told = format!("{}\n{}\n{}\n{:?}\n{times:?}", origin.identity, cell.cell, cell.verdict, cell.symptom);
    Seen { sighting, digest: digest(&told) }
}

fn circumstances(cell: &CellRecord, run: &MergedRun, seen: &str) -> Circumstances {
    // Who went on with the run may have done so on another machine. Times are text of one form, and so is their order.
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
            kernel: level.seen.kernel.clone(),
            qemu: level.seen.qemu.clone(),
            recipe: level.image.as_ref().map(|image| image.recipe.clone()),
            image: level.image.as_ref().map(|image| image.digest.clone()),
        })
        .collect();
    let profile = ArchInfo::of(cell.architecture);
    let program = profile.metal.program(profile.qemu);
    // A package has the name of its program without what comes at its end: `bochs` has `bochs-bin`.
    let is_it = |emulator: &&String| emulator.split(' ').next().is_some_and(|it| program.starts_with(it));
    let told = levels.first().is_some_and(|outermost| outermost.qemu.is_some());
    let plays = cell.metal == Some(Metal::Emulated) && !told;
    Circumstances {
        nestmatrix: nestmatrix.clone(),
        build: build.clone(),
        machine_kernel: machine.kernel.clone(),
        machine_system: machine.system.clone(),
        processor: machine.processor.clone(),
        metal: cell.metal,
        emulator: run.emulators.iter().find(is_it).cloned().filter(|_| plays),
        // Its form is that of a record, in which maps have an order.
        expectation: serde_json::to_string(&cell.expectation).unwrap_or_default(),
        levels,
    }
}

/// The time that is `seconds` later, to the second; the same where it is none.
fn later(time: &str, seconds: f64) -> String {
    let then = || {
        let since = Duration::try_from_secs_f64(seconds).ok()?;
        let then: SystemTime = humantime::parse_rfc3339(time).ok()?.checked_add(since)?;
        Some(humantime::format_rfc3339_seconds(then).to_string())
    };
    // What is formatted after the year 9999 panics; no run was then.
    if seconds.abs() < 1e9 { then() } else { None }.unwrap_or_else(|| time.to_owned())
}

/// The SHA-256 of a text.
fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Something in which two sightings' circumstances differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The level that it is about, if it is about one.
    pub level: Option<LevelNumber>,
    /// What differs: `kernel`, `QEMU`, `image`, `system`, `nestmatrix`, `machine`, `metal`, `emulator`, `expectation`.
    pub what: &'static str,
    /// What it was before.
    pub before: String,
    /// What it is after.
    pub after: String,
}

impl Circumstances {
    /// In what these differ from those `after`. What one of the two does not know is no difference: a stack that stopped early
    /// has asked no inner level for its kernel, but knows its image.
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

    /// Whether nothing is known in which these differ.
    pub fn same(&self, other: &Self) -> bool {
        self.differences(other).is_empty()
    }
}
