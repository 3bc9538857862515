//! Records of earlier formats stay readable, with the old names of their members and words.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

use std::fs;

use nestmatrix::records::{LevelRecord, PastRun, PastRunError};
use nestmatrix_model::{Fidelity, Stage};
use rstest::rstest;
use serde_json::{Value, json};

/// A run of one cell that was restored from a snapshot, in format 2.
fn write(folder: &std::path::Path, format: u32) {
    let run = serde_json::json!({
        "format": format, "nestmatrix": "0.1.0", "run": "r", "began": "2026-11-22T08:58:00Z", "ended": "2026-11-22T08:59:00Z",
        "interrupted": false, "emulators": [], "arguments": [], "called_in": "/old", "cells": 1,
        "machine": {"system": "debian 13", "kernel": "6.12", "processor": "p", "cores": 2, "memory_mib": 1024},
        "verdicts": {"pass": 1, "fail": 0, "xfail": 0, "xpass": 0, "skip": 0, "error": 0},
    });
    let level = serde_json::json!({
        "level": "l1", "os": "debian-12", "required": "RHEL 9", "stand_in": true, "stand_in_reason": null, "image": null,
        "kernel": "6.1", "qemu": "7.2", "machine": null, "cpu": null, "nested": "1", "lacks": ["svm"], "loops": null,
        "last_lines": [],
    });
    let cell = serde_json::json!({
        "cell": "s/amd/a/b/c", "scenario": "s", "document": "d", "claims": [], "architecture": "amd", "tier": "supported",
        "metal": "emulated", "levels": [level], "expectation": {"outcome": "works"}, "verdict": "pass", "stage": null,
        "symptom": null, "skip_reasons": [], "evidence": null, "steps": [],
        "stages": [{"stage": "continue", "start": 0.0, "end": 1.5}],
        "continued": {"key": "ab", "level": "l1", "saved": "2026-11-22T08:00:00Z"}, "cold": null,
        "attempts": [
            {"start": 0.0, "end": 1.0, "verdict": "error", "symptom": null, "from": null, "cpu_seconds": 1.0, "peak_memory_mib": 1},
            {"start": 1.0, "end": 2.0, "verdict": "pass", "symptom": null, "from": null, "cpu_seconds": 1.0, "peak_memory_mib": 1},
        ],
        "told_of": 1, "folder": null, "emulator": null,
    });
    fs::write(folder.join("run.json"), run.to_string()).unwrap();
    fs::write(folder.join("verdicts.jsonl"), format!("{cell}\n")).unwrap();
}

#[test]
fn a_record_of_format_2_is_read_under_todays_names() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 2);
    let past = PastRun::read(folder.path()).unwrap();
    assert_eq!(past.record.working_folder.unwrap().to_str(), Some("/old"));
    let cell = &past.cells[0];
    assert_eq!(cell.stages[0].stage, Stage::Restore);
    assert_eq!(cell.restored.as_ref().unwrap().saved, "2026-11-22T08:00:00Z");
    assert_eq!(cell.described_attempt, Some(1));
    assert_eq!(cell.levels[0].seen.missing_features, ["svm"]);
    assert_eq!(cell.levels[0].fidelity, Fidelity::StandIn);
}

/// Before there were rebuilds, a record only said whether a level's system was a stand-in.
#[rstest]
#[case::stand_in("stand_in", json!(true), Some(Fidelity::StandIn))]
#[case::no_stand_in("stand_in", json!(false), Some(Fidelity::Product))]
#[case::today("fidelity", json!("rebuild"), Some(Fidelity::Rebuild))]
#[case::neither("fidelity", json!("real"), None)]
fn the_fidelity_of_a_level_is_read_as_every_version_wrote_it(
    #[case] member: &str,
    #[case] value: Value,
    #[case] fidelity: Option<Fidelity>,
) {
    let reason = if member == "fidelity" { "fidelity_reason" } else { "stand_in_reason" };
    let level = json!({
        "level": "l1", "os": "debian-12", "required": "RHEL 9", member: value, reason: "the reason", "image": null,
        "kernel": null, "qemu": null, "machine": null, "cpu": null, "nested": null, "missing_features": [], "loops": null,
        "last_lines": [],
    });
    let read = serde_json::from_value::<LevelRecord>(level).ok();
    assert_eq!(read.as_ref().map(|level| level.fidelity), fidelity);
    let Some(level) = read else { return };
    assert_eq!(level.fidelity_reason.as_deref(), Some("the reason"));
    assert_eq!(serde_json::to_value(&level).unwrap()["fidelity"], json!(fidelity));
}

#[rstest]
fn a_record_of_another_format_is_refused(#[values(1, 4)] format: u32) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), format);
    let error = PastRun::read(folder.path()).unwrap_err();
    assert!(matches!(error, PastRunError::Format { .. }), "{error}");
    assert!(error.to_string().ends_with("this version supports formats 2 to 3"), "{error}");
}
