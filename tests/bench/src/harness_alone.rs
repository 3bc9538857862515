//! Measures the harness without booting: planning many cells, writing many verdicts.

use std::io;
use std::path::Path;
use std::time::Instant;

use nestmatrix::records::{CellRecord, LevelRecord, RunFolder};
use nestmatrix::run::{Fate, MetalChoice, NativeMetals, PlanOptions, Planned, PlannedLevel, RunPlan};
use nestmatrix::scenario::Matrix;
use nestmatrix_images::Catalog;
use nestmatrix_model::{Stage, StageKind};
use nestmatrix_stack::{LevelFacts, Metal, StageTime};
use serde_json::json;
use xtask::exit::Failure;

#[path = "../../../harness/matrix/benches/generated/mod.rs"]
mod generated;

/// Cells to plan.
const CELLS: usize = 100_000;
/// Verdicts to write.
const VERDICTS: usize = 10_000;

/// The times of one round.
#[derive(Debug, Clone, Copy)]
pub struct Seconds {
    /// Reading the scenarios and expanding them into cells.
    pub reading: f64,
    /// Planning 100,000 cells.
    pub planning: f64,
    /// Writing 10,000 verdicts.
    pub writing: f64,
}

/// Measures one round, within the empty folder `work`.
///
/// # Errors
/// The folder cannot be written.
pub fn measure(catalog: &Catalog, work: &Path) -> Result<Seconds, Failure> {
    let failed = |e: io::Error| Failure::error(format!("failed to write in {}: {e}", work.display()));
    let scenarios = work.join("scenarios");
    generated::write(&scenarios).map_err(failed)?;
    let (matrix, reading) = timed(|| Matrix::load(&scenarios));
    let matrix = matrix.map_err(Failure::error)?;
    let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
    let (plan, planning) = timed(|| {
        let cells = matrix.cells().iter().take(CELLS).cloned();
        RunPlan::new(cells, &matrix, catalog, &NativeMetals::new(), &options)
    });
    if plan.boots().count() < CELLS {
        let skipped = plan
            .skipped()
            .next()
            .map(|(_, reasons)| nestmatrix::records::in_one_line(reasons))
            .unwrap_or_default();
        return Err(Failure::error(format!("some of {CELLS} cells were skipped: {skipped}")));
    }
    let mut folder = RunFolder::create(&work.join("results")).map_err(failed)?;
    let mut record = plan.cells.first().map(pass).ok_or_else(|| Failure::error("no cells"))?;
    let (written, writing) = timed(|| {
        plan.cells.iter().take(VERDICTS).try_for_each(|Planned { cell, .. }| {
            record.cell = cell.name.clone();
            folder.append(&record)
        })
    });
    written.map_err(failed)?;
    // Free the disk space before the next round.
    std::fs::remove_dir_all(work).map_err(failed)?;
    Ok(Seconds { reading, planning, writing })
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed().as_secs_f64())
}

/// The record of a passed cell. It has the size of an AMD stack's record: about 6 kB, mostly CPU features.
fn pass(planned: &Planned) -> CellRecord {
    let cell = &planned.cell;
    let features: Vec<String> = (0..150).map(|number| format!("feature-{number:03}")).collect();
    let cpu =
        json!({ "model": "host", "model_type": "host-x86_64-cpu", "required": {}, "features": features });
    let counts = json!({ "l0": { "after": 40_219, "before": 10_471 } });
    let evidence = json!({
        "nonce": "0123456789abcdef".repeat(2),
        "cpus": { "l1": cpu, "l2": cpu },
        "exits": counts,
        "nested_runs": counts,
    });
    let stages = cell.levels.iter().flat_map(|spec| {
        [StageKind::Launch, StageKind::Boot, StageKind::Kvm].map(|kind| Stage::Level(spec.level, kind))
    });
    CellRecord {
        metal: Some(Metal::Emulated),
        levels: levels(planned),
        evidence: Some(evidence),
        stages: stages.map(|stage| StageTime { stage, start: 1.012_608_846, end: 5.092_800_814 }).collect(),
        folder: Path::new("cells").join(cell.name.as_str()).try_into().ok(),
        ..CellRecord::skipped(cell, &[], false)
    }
}

fn levels(planned: &Planned) -> Vec<LevelRecord> {
    let Fate::Boots { levels, .. } = &planned.fate else { return Vec::new() };
    let line = "[   16.875001] kvm [97]: vcpu0, guest rIP: 0xffffffff8fc73744 Unhandled WRMSR(0xc0010007)";
    let record = |level: &PlannedLevel| LevelRecord {
        level: level.spec.level,
        required: level.spec.system.to_string(),
        os: level.choice.image.clone(),
        image: None,
        fidelity: level.choice.fidelity,
        fidelity_reason: level.choice.reason.clone(),
        disk: None,
        uefi: None,
        swtpm: None,
        other_qemu: None,
        guest: None,
        seen: LevelFacts {
            clock_slowdown: None,
            kernel: Some("6.1.0-50-cloud-amd64".to_owned()),
            last_lines: vec![line.to_owned(); 2],
            ..LevelFacts::default()
        },
    };
    levels.iter().map(record).collect()
}
