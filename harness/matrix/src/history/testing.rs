//! Runs' folders for the tests of the history.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::records::FORMAT;

/// A cell's record, of an attempt that took from `start` to `end` with this kernel on L0.
pub(super) fn cell(name: &str, verdict: &str, (start, end): (f64, f64), kernel: &str) -> Value {
    json!({
        "cell": name, "scenario": "s", "document": "d", "claims": [], "architecture": "amd", "metal": "emulated",
        "tier": "supported", "expectation": {"outcome": "works"}, "verdict": verdict,
        "stage": (verdict != "pass").then_some("l1-boot"), "level": null,
        "symptom": (verdict != "pass").then_some("kernel panic"),
        "levels": [level("l0", Some(kernel)), level("l1", None)],
        "evidence": null, "steps": [], "stages": [], "restored": null, "cold": null,
        "attempts": [attempt(verdict, start, end)], "folder": null, "run": null,
    })
}

/// An attempt as a record has it.
pub(super) fn attempt(verdict: &str, start: f64, end: f64) -> Value {
    json!({
        "start": start, "end": end, "verdict": verdict, "from": null, "symptom": null, "cpu_seconds": 1.0,
        "peak_memory_mib": 1,
    })
}

fn level(level: &str, kernel: Option<&str>) -> Value {
    json!({
        "level": level, "required": "RHEL 10.0", "os": "debian-13", "fidelity": "stand-in", "fidelity_reason": null,
        "image": {"recipe": "debian-13-amd64", "product": "hypervisor", "digest": format!("{level}{}", kernel.unwrap_or("?"))},
        "kernel": kernel, "qemu": kernel.map(|_| "10.0.13"), "machine": null, "cpu": null, "nested": null, "missing_features": [],
        "loops": null, "last_lines": [],
    })
}

/// A skipped cell's record.
pub(super) fn skipped(name: &str) -> Value {
    let mut record = cell(name, "skip", (0.0, 0.0), "");
    for (member, empty) in
        [("levels", json!([])), ("attempts", json!([])), ("metal", Value::Null), ("stage", Value::Null)]
    {
        record[member] = empty;
    }
    record
}

/// Writes the folder of a run on `machine` that began at this minute of a certain hour.
pub(super) fn run(results: &Path, (name, machine): (&str, &str), minute: u8, cells: &[Value]) -> PathBuf {
    let folder = results.join(name);
    fs::create_dir_all(&folder).unwrap();
    let machine = json!({
        "kernel": "6.1", "system": "debian 13", "processor": machine, "cores": 2, "memory_mib": 9,
    });
    let record = json!({
        "format": FORMAT, "nestmatrix": "0.1.0", "build": "0.1.0 (abc)", "run": name,
        "began": format!("2026-11-22T20:{minute:02}:00Z"), "ended": null, "interrupted": false, "arguments": [],
        "working_folder": null, "machine": machine, "emulators": [], "profile": null, "shard": null, "division": null,
        "cells": cells.len(), "verdicts": {"pass": 0, "fail": 0, "xfail": 0, "xpass": 0, "known_stale": 0, "skip": 0, "error": 0},
    });
    fs::write(folder.join("run.json"), record.to_string()).unwrap();
    let lines: String = cells.iter().map(|cell| format!("{cell}\n")).collect();
    fs::write(folder.join("verdicts.jsonl"), lines).unwrap();
    let names: String = cells.iter().map(|cell| format!("{}\n", cell["cell"].as_str().unwrap())).collect();
    fs::write(folder.join("cells.txt"), names).unwrap();
    folder
}
