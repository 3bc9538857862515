//! Every shell script of the project passes ShellCheck, including its warnings.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::images;
use common::trials;
use nestmatrix_images::{Emulator, Product, Recipe};

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shellcheck/shellcheck-amd64.toml");

fn scripts_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(common::checkout().join(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let is_script = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_default();
        path.extension().is_some_and(|extension| extension == "sh") || text.starts_with("#!")
    };
    paths.retain(|path| path.is_file() && is_script(path));
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {folder}");
    paths
}

/// Every script that users or systems start, and every script that others source.
fn scripts() -> Vec<PathBuf> {
    let folders = [
        ".ci",
        "images/recipes/additions/kdump/kdump",
        "images/recipes/disk",
        "images/recipes/init",
        "images/src/wsl_root",
        "tests/native/init",
        "tests/windows",
        "xtask/src/ci_matrix",
        "docs/yardstick",
        "xtask/src/ci_matrix/slurm",
    ];
    folders.into_iter().flat_map(scripts_in).collect()
}

/// The fixed part of `reproduce.sh`: its files in their order.
fn runtime(folder: &Path) -> PathBuf {
    let source = common::checkout().join("harness/matrix/src/reproduce");
    let generator = fs::read_to_string(source.join("script.rs")).unwrap();
    let parts = generator.split("include_str!(\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let text: String = parts.map(|part| fs::read_to_string(source.join(part)).unwrap()).collect();
    assert!(text.contains("usage()"), "script.rs includes no runtime");
    let whole = folder.join("reproduce-runtime.sh");
    fs::write(&whole, text).unwrap();
    whole
}

fn shell_scripts_have_no_warnings() {
    let recipe = Recipe::load(Path::new(RECIPE)).unwrap();
    let checker = Emulator::new(images::image(&recipe, Product::Emulator)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (program, mut arguments) = checker.command("shellcheck");
    let mut all = scripts();
    all.push(runtime(folder.path()));
    // Parts and sourced scripts use variables of each other.
    arguments
        .extend(["--severity=warning", "--exclude=SC2154,SC2034,SC2148", "--format=gcc"].map(Into::into));
    let mut complaints = String::new();
    for script in &all {
        let first = fs::read_to_string(script).unwrap();
        let shell = if first.starts_with("#!/usr/bin/env bash") { "bash" } else { "sh" };
        let output = Command::new(&program)
            .args(&arguments)
            .arg(format!("--shell={shell}"))
            .arg(script)
            .output()
            .unwrap();
        assert!(
            output.status.code().is_some_and(|code| code < 2),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        complaints += &String::from_utf8_lossy(&output.stdout);
    }
    assert!(complaints.is_empty(), "{complaints}");
}

trials! {
    shell_scripts_have_no_warnings;
}
