//! `cargo xtask cpu-models`: a model that works, one that QEMU calls usable and that can't boot, one that the host can't run; a sweep
//! that was killed, and one that is interrupted. Boots stacks whose L0 is QEMU's TCG itself.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::{Images, Place, Running, boots, checkout, of_cells, trials};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Longest wait for a cell with some models, which take seconds each.
const ALL: Duration = Duration::from_secs(15 * 60);

const CELL: &str = "rhel-10-non-kvm-l0/amd/qemu-tcg/*";

fn its_images() -> Images {
    of_cells(&checkout().join("scenarios"), &[CELL])
}

fn sweep(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.xtask();
    command.arg("cpu-models").args(arguments).arg("--results").arg(place.results());
    // A sweep that is resumed keeps its metal.
    if !arguments.contains(&"--resume") {
        command.args(["--metal", "emulated"]);
    }
    command
}

fn finish(place: &Place, command: Command) -> Output {
    let output = assert_cmd::Command::from_std(command).timeout(ALL).output().unwrap();
    place.assert_nothing_left();
    output
}

/// The only run in the results, which is not part of the history.
fn only_run(place: &Place) -> PathBuf {
    let runs = fs::read_dir(place.results()).unwrap().map(|run| run.unwrap().path());
    let runs: Vec<PathBuf> = runs.filter(|run| run.join("run.json").exists()).collect();
    let [run] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!(record(run)["purpose"], "cpu-models");
    run.clone()
}

fn record(run: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(run.join("run.json")).unwrap()).unwrap()
}

/// The verdicts of a run by their models; that of the cell itself has none.
fn verdicts(run: &Path) -> BTreeMap<Option<String>, Value> {
    let text = fs::read_to_string(run.join("verdicts.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["cpu_model"].as_str().map(str::to_owned), line)).collect()
}

fn each_model_is_booted_from_one_snapshot_and_a_sweep_that_was_killed_is_resumed() {
    let _guard = boots(&its_images());
    let place = Place::new();
    let models = ["--models", "QEMU64-v1", "--models", "qemu32", "--models", "Denverton*"];
    let output = finish(&place, sweep(&place, &[&[CELL, "--format", "json"][..], &models].concat()));
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    let run = only_run(&place);
    let seen = verdicts(&run);
    let names: Vec<Option<&str>> = seen.keys().map(Option::as_deref).collect();
    assert_eq!(
        names,
        [None, Some("qemu32-v1"), Some("qemu64-v1")],
        "the alias is booted once, under the model's name"
    );
    let works = &seen[&Some("qemu64-v1".to_owned())];
    assert_eq!(
        (&works["verdict"], &works["levels"][2]["cpu"]),
        (&"pass".into(), &"qemu64-v1-x86_64-cpu".into())
    );
    assert!(works["restored"]["key"].is_string() && works["evidence"].is_object(), "{works:#}");
    let stops = &seen[&Some("qemu32-v1".to_owned())];
    assert_eq!((&stops["verdict"], &stops["stage"]), (&"fail".into(), &"l2-launch".into()), "{stops:#}");
    assert_eq!(stops["symptom"], "missing CPU feature: lm (model qemu32-v1)");
    assert!(seen[&None]["restored"].is_null() && record(&run)["resumed"] == Value::Array(Vec::new()));
    let last: Value =
        serde_json::from_slice(output.stdout.split(|byte| *byte == b'\n').nth_back(1).unwrap()).unwrap();
    let written: Value =
        serde_json::from_str(&fs::read_to_string(run.join("cpu-models.json")).unwrap()).unwrap();
    assert_eq!(last["cpu_models"], written);
    let unusable =
        |model: &&Value| model["unavailable_features"].as_array().is_some_and(|names| !names.is_empty());
    let unusable = written["models"].as_array().unwrap().iter().filter(unusable);
    assert!(
        unusable.into_iter().any(|model| model["name"].as_str().unwrap().starts_with("Denverton")),
        "{written:#}"
    );
    assert!(!place.results().join("latest").exists(), "a sweep is no verdict on the cell");

    // The state after a kill while the verdict of the last model was written.
    let text = fs::read_to_string(run.join("verdicts.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(run.join("verdicts.jsonl"), format!("{}\n{}\n{}", lines[0], lines[1], &lines[2][..40]))
        .unwrap();
    let mut killed = record(&run);
    killed["ended"] = Value::Null;
    fs::write(run.join("run.json"), killed.to_string()).unwrap();
    let output = finish(&place, sweep(&place, &["--resume", run.to_str().unwrap()]));
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("booting 1 of 2 models"), "{output:#?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("missing CPU feature: lm") && shown.contains("2 booted: 1 pass, 1 fail"),
        "{shown}"
    );
    let after = fs::read_to_string(run.join("verdicts.jsonl")).unwrap();
    assert!(after.starts_with(&format!("{}\n{}\n", lines[0], lines[1])), "what has a verdict keeps it");
    assert_eq!(record(&run)["resumed"].as_array().unwrap().len(), 1);

    let again = finish(&place, sweep(&place, &["--resume", run.to_str().unwrap()]));
    assert_eq!(again.status.code(), Some(1), "{again:#?}");
    assert_eq!(fs::read_to_string(run.join("verdicts.jsonl")).unwrap(), after, "nothing is left to boot");

    let none = finish(&place, sweep(&place, &[CELL, "--models", "no-such-*"]));
    assert_eq!(none.status.code(), Some(2), "{none:#?}");
    let wide = String::from_utf8_lossy(&none.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(wide.contains("no CPU model matches no-such-*"), "{wide}");
}

fn a_signal_in_the_middle_ends_a_sweep_in_order() {
    let _guard = boots(&its_images());
    let place = Place::new();
    let mut harness = Running::start(&place, sweep(&place, &[CELL, "--models", "qemu64"]));
    harness.wait_for_a_boot();
    harness.send(Signal::SIGINT);
    let output = harness.end();
    assert_eq!(output.status.code(), Some(130), "{output:#?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("resume the sweep with --resume"),
        "{output:#?}"
    );
    place.assert_nothing_left();
    assert!(verdicts(&only_run(&place)).is_empty(), "a cell that was cut off has no verdict");
}

trials! {
    each_model_is_booted_from_one_snapshot_and_a_sweep_that_was_killed_is_resumed;
    #[ignore = "boots one more stack"]
    a_signal_in_the_middle_ends_a_sweep_in_order;
}
