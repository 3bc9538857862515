//! The jobs for Slurm, submitted to a program that plays its `sbatch`. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::Place;
use serde_json::Value;

/// Cells that no machine can run: each has a verdict at once.
const CELLS: [&str; 2] = ["rhel-8-non-kvm-l0/*/aws/*", "rhel-8-non-kvm-l0/*/vmware-esxi/*"];

/// Runs each element of an array twice, one after the other, as if the first machine had been lost after it had done its work. Prints the
/// number of the job.
const SBATCH: &str = r#"#!/usr/bin/env bash
set -euo pipefail
output=
while [ $# -gt 1 ]; do
    case $1 in
    --output) output=$2; shift ;;
    --dependency) echo "after $2" >>"$SBATCH_LOG"; shift ;;
    *) echo "option $1" >>"$SBATCH_LOG" ;;
    esac
    shift
done
value() { sed -n "s/^#SBATCH --$1=//p" "$job"; }
job=$1 name=$(value job-name) array=$(value array)
last=${array#1-}
for element in $(seq 1 "${last:-1}"); do
    log=${output//%x/$name} log=${log//%a/$element}
    for try in 1 2; do
        SLURM_ARRAY_TASK_ID=$element bash "$job" >>"$log" 2>&1 || echo "status $?" >>"$log"
        [ -n "$array" ] || break
    done
done
echo "4$(wc -l <"$SBATCH_LOG");lab"
"#;

fn write_jobs(place: &Place, arguments: &[&str]) -> (PathBuf, Output) {
    let tree = place.path().join("my jobs");
    let mut command = place.xtask();
    command.args(["ci-matrix", "--format", "slurm", "--program", env!("CARGO_BIN_EXE_xtask"), "--into"]);
    let output = command.arg(&tree).args(arguments).output().unwrap();
    (tree, output)
}

/// Submits the jobs; returns the folder of the night and what `sbatch` was asked for.
fn submit(place: &Place, tree: &Path) -> (PathBuf, String) {
    let programs = place.path().join("programs");
    fs::create_dir_all(&programs).unwrap();
    let sbatch = programs.join("sbatch");
    fs::write(&sbatch, SBATCH).unwrap();
    fs::set_permissions(&sbatch, Permissions::from_mode(0o755)).unwrap();
    let log = place.path().join("sbatch.log");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let environment = place.xtask();
    let mut command = Command::new(tree.join("submit.sh"));
    command.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", path).env("SBATCH_LOG", &log).env("NESTMATRIX_RESULTS", place.path().join("lab"));
    let mut command = assert_cmd::Command::from_std(command);
    let output = command.args(["--partition", "x"]).timeout(Duration::from_secs(300)).output().unwrap();
    assert!(output.status.success(), "{output:#?}");
    let night = String::from_utf8(output.stdout).unwrap();
    (PathBuf::from(night.trim_end()), fs::read_to_string(log).unwrap())
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn each_cell_of_a_night_runs_once_although_a_machine_is_lost_and_all_are_merged() {
    let place = Place::new();
    let (tree, written) =
        write_jobs(&place, &["--shards", "2", "--runner", "emulated,rack7", CELLS[0], CELLS[1]]);
    assert!(written.status.success(), "{written:#?}");
    let job = read(tree.join("jobs/emulated-rack7.sbatch"));
    for line in ["#SBATCH --array=1-2\n", "#SBATCH --constraint=emulated&rack7\n", "#SBATCH --requeue\n"] {
        assert!(job.contains(line), "{job}");
    }

    let (night, asked) = submit(&place, &tree);
    assert!(asked.contains("after afterany:4"), "{asked}");
    let merge = read(night.join("merge.log"));
    assert!(merge.contains("merged"), "{merge}");
    let merged: Value = serde_json::from_str(&read(night.join("merged/run.json"))).unwrap();
    let listed = place.xtask().args(["list", "--format", "json", CELLS[0], CELLS[1]]).output().unwrap();
    let cells = String::from_utf8(listed.stdout).unwrap().lines().count();
    assert!(cells > 2, "{cells}");
    assert_eq!(merged["verdicts"]["skip"], cells, "{merged:#}");
    for shard in ["1", "2"] {
        let log = read(night.join(format!("nestmatrix-emulated-rack7-{shard}.log")));
        assert_eq!(log.matches("\nresuming /").count(), 1, "{log}");
        assert!(log.contains("is complete; there is nothing to resume") && !log.contains("status "), "{log}");
        let runs = fs::read_dir(night.join(format!("emulated-rack7-{shard}"))).unwrap();
        let runs = runs.filter(|run| run.as_ref().unwrap().path().join("cells.txt").exists());
        let runs = runs.filter(|run| !run.as_ref().unwrap().path().is_symlink());
        assert_eq!(runs.count(), 1, "{log}");
    }
}

#[test]
fn a_machine_with_kvm_is_asked_for_by_its_labels_and_for_itself_alone() {
    let place = Place::new();
    let cell = "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+";
    let labels = "amd,bare-metal,debian-13";
    let (tree, written) = write_jobs(&place, &["--runner", labels, "--runner", "emulated", cell]);
    assert!(written.status.success(), "{written:#?}");
    let jobs = fs::read_dir(tree.join("jobs")).unwrap().count();
    let job = read(tree.join("jobs/amd-bare-metal-debian-13.sbatch"));
    assert_eq!(jobs, 1, "the cell runs on one kind of machine");
    assert!(job.contains("#SBATCH --exclusive\n") && job.contains("--deny-skip"), "{job}");
    assert!(job.contains("#SBATCH --constraint=amd&bare-metal&debian-13\n"), "{job}");

    // Jobs of earlier kinds do not stay.
    let (tree, _) = write_jobs(&place, &["--runner", "emulated", cell]);
    let left: Vec<String> = fs::read_dir(tree.join("jobs"))
        .unwrap()
        .map(|job| job.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, ["emulated.sbatch"]);
}
