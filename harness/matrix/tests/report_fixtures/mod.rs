//! Made-up runs: cells of two documents with every verdict.

#![allow(dead_code, reason = "each test program uses a part of it")]

#[path = "../matrix_folder/mod.rs"]
pub mod matrix_folder;

use std::path::PathBuf;
use std::time::Duration;

use nestmatrix::records::{
    Attempt, CellRecord, DiskRecord, FORMAT, ImageRecord, LevelRecord, Machine, Outcome, PastRun, Purpose,
    RunRecord, SkipReason, Tally, UefiRecord, VerdictWord,
};
use nestmatrix::run::{Fate, Planned, PlannedLevel, RunPlan};
use nestmatrix::scenario::{
    Addition, AvailableImage, Cell, Expectation, KnownFlaky, KnownStale, KnownWrong, Limitation, Matrix,
    MetalWord, Permitted, Since, StopStage, SymptomTexts, Tier,
};
use nestmatrix_model::{BootKind, CaseOutcome, Fidelity, LevelNumber, Stage, Word as _};
use nestmatrix_stack::{Case, LevelFacts, Metal, StepRecord, SuiteRecord, Usage};

const SYSTEMS: &str = r#"
[[system]]
id = "rhel"
name = "RHEL"

[[stand-in]]
for = "rhel 9"
image = "debian-12"
reason = "a long-term kernel of the same generation: Debian 12 has 6.1, RHEL 9 has 5.14 with later KVM work put in"

[[stand-in]]
for = "rhel 10"
image = "debian-13"
reason = "same 6.12 kernel line"
"#;

const DOCUMENT: &str = r#"
id = "limits"
title = "Limits"
product = "RHEL"
section = "22.2"
language = "en"

[[claim]]
id = "preview"
section = "22.2"
tier = "technology-preview"
text = "It can be tried."
"#;

/// Every cell of a scenario with these systems on its axes.
pub fn cells(l0: &str, l1: &str, l2: &str) -> (Matrix, Vec<Cell>) {
    let scenario = format!(
        "name = \"rhel-preview\"\ntitle = \"RHEL on RHEL\"\ndocument = \"limits\"\nclaims = [\"preview\"]\n\
         tier = \"technology-preview\"\n[axes]\narchitecture = [\"amd\"]\nl0 = [{l0}]\nl1 = [{l1}]\nl2 = [{l2}]\n"
    );
    let folder = matrix_folder::with_files([
        ("systems.toml", SYSTEMS),
        ("documents/limits.toml", DOCUMENT),
        ("rhel/preview.toml", &scenario),
    ]);
    let matrix = Matrix::load(folder.path()).unwrap();
    let cells = matrix.cells().to_vec();
    (matrix, cells)
}

/// A plan for these cells with Debian 12 and 13 as the images. The cells that `native` selects are on native metal.
pub fn plan((matrix, cells): (Matrix, Vec<Cell>), native: impl Fn(&Cell) -> bool) -> RunPlan {
    let image = |name: &str, version: &str| AvailableImage {
        name: name.into(),
        system: "debian".into(),
        version: version.parse().unwrap(),
        boots: BootKind::Kernel,
        additions: Addition::ALL.to_vec(),
        roles: Vec::new(),
        innermost_only: None,
    };
    let available = [image("debian-12", "12"), image("debian-13", "13")];
    let planned = |cell: Cell| {
        let level = |spec: &nestmatrix::scenario::LevelSpec| {
            let choice = matrix.image_for(&spec.system, cell.architecture, &available, Permitted::ALL);
            choice
                .map(|choice| PlannedLevel {
                    spec: spec.clone(),
                    choice,
                    boots: None,
                    firmware: None,
                    swtpm: None,
                    other_qemu: None,
                    others: Vec::new(),
                })
                .map_err(|missing| SkipReason::NoImage {
                    levels: vec![spec.level],
                    isa: "amd64".into(),
                    missing: Box::new(missing),
                })
        };
        let (levels, reasons): (Vec<_>, Vec<_>) = cell.levels.iter().map(level).partition(Result::is_ok);
        let reasons: Vec<SkipReason> = reasons.into_iter().filter_map(Result::err).collect();
        let metal = if native(&cell) { Metal::Native } else { Metal::Emulated };
        let fate = match reasons.is_empty() {
            true => Fate::Boots { metal, levels: levels.into_iter().filter_map(Result::ok).collect() },
            false => Fate::Skipped(reasons),
        };
        Planned { cell, fate, must_run: false, guest_of: None }
    };
    RunPlan { cells: cells.into_iter().map(planned).collect(), ..RunPlan::default() }
}

/// A record of a cell with this name and document, booted on emulated metal.
pub fn record(document: &str, cell: &str, verdict: VerdictWord, seconds: f64) -> CellRecord {
    let parts: Vec<&str> = cell.split('/').collect();
    CellRecord {
        cell: cell.parse().unwrap(),
        scenario: parts[0].into(),
        document: document.into(),
        claims: vec!["preview".into()],
        architecture: parts[1].parse().unwrap(),
        guest_of: None,
        metal: Some(Metal::Emulated),
        tier: Tier::TechnologyPreview,
        tiers: [("preview".to_owned(), Tier::TechnologyPreview)].into(),
        ids: [].into(),
        fingerprint: None,
        cpu_model: None,
        expectation: Expectation::WORKS,
        verdict,
        known_flaky: None,
        as_described: false,
        not_yet_run: false,
        stage: None,
        level: None,
        symptom: None,
        symptom_data: None,
        skip_reasons: Vec::new(),
        emulator: None,
        installed_emulator: None,
        levels: LevelNumber::ALL
            .into_iter()
            .zip(&parts[2..])
            .map(|(level, slug)| booted(level, slug))
            .collect(),
        evidence: None,
        steps: Vec::new(),
        stages: Vec::new(),
        host_changes: Vec::new(),
        restored: None,
        cold: None,
        attempts: vec![attempt(1.0, 1.0 + seconds, verdict)],
        described_attempt: None,
        folder: PathBuf::from("cells").join(cell).try_into().ok(),
        run: None,
    }
}

fn booted(level: LevelNumber, slug: &str) -> LevelRecord {
    let required = slug
        .replace("rhel-", "RHEL ")
        .replace("windows-server-", "Windows Server ")
        .replace('+', " and later");
    let (os, reason) = match required.starts_with("RHEL 9") {
        true => ("debian-12", "Debian 12 has 6.1, RHEL 9 has 5.14 with later KVM work put in"),
        false => ("debian-13", "same 6.12 kernel line"),
    };
    LevelRecord {
        level,
        required,
        os: os.into(),
        image: None,
        fidelity: Fidelity::StandIn,
        fidelity_reason: Some(reason.into()),
        disk: None,
        uefi: None,
        swtpm: None,
        other_qemu: None,
        guest: None,
        seen: LevelFacts::default(),
    }
}

/// The record with an innermost level that booted a prepared disk by UEFI.
pub fn from_disk(mut record: CellRecord) -> CellRecord {
    let level = record.levels.last_mut().unwrap();
    level.os = "rhel-10.0-disk".to_owned();
    (level.fidelity, level.fidelity_reason) = (Fidelity::Product, None);
    let (recipe, product, digest) = ("rhel-10.0-disk-amd64".into(), "disk".into(), "d".repeat(64));
    level.image = Some(ImageRecord { recipe, product, digest });
    level.disk = Some(DiskRecord {
        medium: "rhel-10.0".into(),
        medium_sha256: "5ha".repeat(21) + "5",
        system: Some("rhel 10.0".into()),
        kernel: Some("6.12.0-55.el10.x86_64".into()),
        qemu: None,
        changes: vec!["masked kdump.service".into(), "wrote /etc/x \u{1b}[2J<b>".into()],
    });
    level.uefi = Some(UefiRecord {
        secure_boot: true,
        recipe: Some("uefi-amd64".into()),
        digest: Some("e".repeat(64)),
        version: Some("ovmf 2025.02-8".into()),
    });
    level.seen.system = Some("rhel 10.0".into());
    level.seen.kernel = Some("6.12.0-55.el10.x86_64".into());
    record
}

/// The record with these systems at its levels, from L0 on.
pub fn with_systems(mut record: CellRecord, systems: &[(&str, Fidelity, Option<&str>)]) -> CellRecord {
    for (level, (os, fidelity, reason)) in record.levels.iter_mut().zip(systems) {
        level.os = (*os).to_owned();
        level.fidelity = *fidelity;
        level.fidelity_reason = reason.map(str::to_owned);
    }
    record
}

/// The system itself, a rebuild of it, and a stand-in.
pub const OF_EVERY_FIDELITY: [(&str, Fidelity, Option<&str>); 3] = [
    ("rhel-10.0", Fidelity::Product, None),
    ("almalinux-10.0", Fidelity::Rebuild, Some("a rebuild of RHEL 10.0")),
    ("debian-13", Fidelity::StandIn, Some("same 6.12 kernel line")),
];

/// The record with a stop at this stage.
pub fn stopped(mut record: CellRecord, stage: &str, symptom: &str) -> CellRecord {
    let stage: Stage = stage.parse().unwrap();
    record.stage = Some(stage);
    record.level = stage.level();
    record.symptom = Some(symptom.into());
    record
}

/// The record of a cell that stops according to its document.
pub fn limited(mut record: CellRecord, stage: &str, symptom: &str) -> CellRecord {
    record.tier = Tier::Unsupported;
    record.tiers = [("preview".to_owned(), Tier::Unsupported)].into();
    let limitation = Limitation::new(StopStage::At(stage.parse().unwrap()), SymptomTexts::new([symptom]));
    record.expectation = Expectation::Stops { limitation, known_stale: None };
    record
}

/// The record of a cell whose limitation is known to be gone.
pub fn known_stale(mut record: CellRecord, note: &str) -> CellRecord {
    let Expectation::Stops { known_stale, .. } = &mut record.expectation else { panic!("{record:?}") };
    *known_stale = Some(KnownStale {
        since: Since::from("Linux 5.8".to_owned()),
        seen: "2026-11-22".into(),
        note: note.into(),
    });
    record
}

/// The record of a cell that should work but is known to stop like this; a fail did so.
pub fn known_wrong(mut record: CellRecord, stage: &str, symptom: &str, note: &str) -> CellRecord {
    let limitation = Limitation::new(StopStage::At(stage.parse().unwrap()), SymptomTexts::new([symptom]));
    let since = Some(Since::from("Linux 6.1".to_owned()));
    let (seen, reference) = ("2026-11-22".into(), Some("kernel.org, bug 1".into()));
    let known = KnownWrong { limitation, since, seen, note: note.into(), reference };
    record.expectation = Expectation::Works { known_wrong: Some(Box::new(known)) };
    record.as_described = record.verdict == VerdictWord::Fail;
    record
}

/// The record of a cell with these verdicts, in order; it describes the attempt with this number. If the scenario knows that
/// the cell is flaky, it has this note.
pub fn flaky(
    mut record: CellRecord,
    verdicts: &[VerdictWord],
    described_attempt: usize,
    note: Option<&str>,
) -> CellRecord {
    record.verdict = VerdictWord::Flaky;
    record.attempts =
        (1..).zip(verdicts).map(|(n, word)| attempt(f64::from(n), f64::from(n) + 1.0, *word)).collect();
    record.described_attempt = (described_attempt < verdicts.len()).then_some(described_attempt);
    record.as_described = note.is_some();
    record.known_flaky = note.map(|note| KnownFlaky {
        metal: Some(MetalWord::Emulated),
        versions: Some(Since::from("Linux 6.1".to_owned())),
        limitation: Limitation::new(StopStage::At("l1-boot".parse().unwrap()), SymptomTexts::new(["hangs"])),
        stopped: 3,
        of: 10,
        seen: "2026-11-28".into(),
        note: note.into(),
        reference: None,
    });
    record
}

/// The record of a limitation that is known to be gone and shows itself again.
pub fn came_back(record: CellRecord, stage: &str, symptom: &str, note: &str) -> CellRecord {
    let record = known_stale(limited(record, stage, symptom), note);
    stopped(CellRecord { as_described: true, ..record }, stage, symptom)
}

/// The record with these last lines of a level's console.
pub fn with_console(mut record: CellRecord, level: usize, lines: &[&str]) -> CellRecord {
    record.levels[level].seen.last_lines = lines.iter().map(|line| (*line).to_owned()).collect();
    record
}

/// The record of a skipped cell.
pub fn skipped(document: &str, cell: &str, reason: &str) -> CellRecord {
    CellRecord {
        metal: None,
        symptom: Some(reason.into()),
        symptom_data: None,
        skip_reasons: Vec::new(),
        emulator: None,
        installed_emulator: None,
        levels: Vec::new(),
        attempts: Vec::new(),
        folder: None,
        ..record(document, cell, VerdictWord::Skip, 0.0)
    }
}

/// The outcome of a run with these records that took `seconds`.
pub fn outcome(records: Vec<CellRecord>, seconds: u64, interrupted: bool) -> Outcome {
    let mut tally = Tally::default();
    records.iter().for_each(|record| tally.add(record));
    let folder = "results/2025-11-21T22-39-41Z".into();
    let run = RunRecord {
        format: FORMAT,
        nestmatrix: "0.1.0".into(),
        build: None,
        run: "2025-11-21T22-39-41Z".into(),
        purpose: Purpose::Matrix,
        began: "2025-11-21T22:39:41Z".into(),
        ended: Some("2025-11-21T22:51:17Z".into()),
        interrupted,
        arguments: vec!["run-matrix".into()],
        working_folder: None,
        machine: Machine {
            kernel: "6.12.57+deb13-amd64".into(),
            system: "debian 13".into(),
            processor: "Some(R) Processor".into(),
            cores: 2,
            memory_mib: 16_000,
        },
        emulators: vec!["qemu-system-x86 1:10.0.13+ds-0+deb13u1".into()],
        undelivered: Vec::new(),
        profile: None,
        shard: None,
        division: None,
        cells: records.len(),
        verdicts: tally,
        resumed: Vec::new(),
        merged: Vec::new(),
        conflicts: Vec::new(),
        missing_shards: Vec::new(),
        missing_cells: Vec::new(),
    };
    Outcome { folder, run, records, took: Duration::from_secs(seconds) }
}

/// The run with this outcome, as it is read from `folder` later.
pub fn past_run(folder: impl Into<PathBuf>, outcome: Outcome) -> PastRun {
    PastRun {
        folder: folder.into(),
        record: outcome.run,
        cells: outcome.records,
        planned: None,
        mutations: None,
        complete: 0,
    }
}

/// A run with every verdict.
pub fn every_verdict() -> Outcome {
    let rhel_10 = |cell, verdict, seconds| record("rhel-10-limitations", cell, verdict, seconds);
    let panic = stopped(
        rhel_10("rhel-10-preview/amd/rhel-10.0+/rhel-9.6+/rhel-10.0+", VerdictWord::Fail, 44.04),
        "l2-boot",
        "kernel panic: VFS: Unable to mount root fs on unknown-block(0,0)",
    );
    let panic = with_console(
        panic,
        2,
        &[
            "[    0.412011] Run /init as init process",
            "[    1.103000] List of all partitions:",
            "[    1.103512] No filesystem could mount root, tried: ",
            "",
            "[    1.104020] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            "[    1.104561] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.12.57+deb13-cloud-amd64 #1  Debian 6.12.57-1",
            "[    1.105030] Hardware name: QEMU Standard PC (Q35 + ICH9, 2009), BIOS 1.16.3-debian-1.16.3-2 04/01/2014",
            "[    1.105541] Call Trace:",
            "[    1.105987]  <TASK>",
        ],
    );
    let mut error = stopped(
        rhel_10("rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-9.6+", VerdictWord::Error, 3.2),
        "provision",
        "image debian-12-amd64 hypervisor was not made ready",
    );
    error.attempts.insert(0, attempt(0.0, 1.0, VerdictWord::Error));
    let limit = |cell, verdict, seconds| {
        limited(record("rhel-8-nested-vms", cell, verdict, seconds), "l1-launch", "missing CPU feature: svm")
    };
    let xfail = stopped(
        limit("deeper/amd/rhel-10.0+/rhel-10.0+/rhel-9.6+/rhel-9.6+", VerdictWord::Xfail, 12.0),
        "l1-launch",
        "QEMU ended with exit code 1: missing CPU feature: svm",
    );
    outcome(
        vec![
            rhel_10("rhel-10-preview/amd/rhel-10.0+/rhel-9.6+/rhel-9.6+", VerdictWord::Pass, 31.23),
            panic,
            error,
            skipped(
                "rhel-10-limitations",
                "rhel-10-preview/arm/rhel-10.0+/rhel-10.0+/rhel-10.0+",
                "no way to boot arm stacks yet",
            ),
            xfail,
            limit("deeper/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+/rhel-10.0+", VerdictWord::Xpass, 104.66),
        ],
        192,
        false,
    )
}

/// An attempt from the second `start` to the second `end` of its run.
pub fn attempt(start: f64, end: f64, verdict: VerdictWord) -> Attempt {
    Attempt {
        start,
        end,
        booted: None,
        verdict,
        from: None,
        symptom: None,
        timeout_scale: None,
        usage: Usage::default(),
    }
}

/// A case of a test suite: what was seen of it, and where a failure of it is described.
pub fn case(name: &str, outcome: CaseOutcome, said: Option<&str>, known: Option<&str>) -> Case {
    let (said, known) = (said.map(Into::into), known.map(Into::into));
    Case { name: name.into(), outcome, said, known, erratum: None, did_not_start: false }
}

/// A step in L1 that ran tests of a suite with these results.
pub fn suite_step(cases: Vec<Case>) -> StepRecord {
    let mut counts = std::collections::BTreeMap::new();
    cases.iter().for_each(|case| *counts.entry(case.outcome).or_default() += 1);
    let suite = SuiteRecord { suite: "kvm-unit-tests".into(), sha256: "00".into(), counts, cases };
    StepRecord {
        name: "nested".into(),
        on: LevelNumber::ALL[1],
        action: "suite".into(),
        run: None,
        status: None,
        output: suite.summary(),
        suite: Some(suite),
        benchmark: None,
    }
}
