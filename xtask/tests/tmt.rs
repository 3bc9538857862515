//! Plans and tests for tmt and its results, read by tmt itself. These tests are ignored where tmt is missing. One of them boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;
#[path = "../../harness/matrix/tests/report_fixtures/mod.rs"]
mod report_fixtures;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::tmt::{call, tmt};
use common::{Place, boots, checkout, of_cells, trials};
use nestmatrix::records::{RunFolder, RunRecord};
use report_fixtures::{every_verdict, outcome};
use serde_json::{Value, json};

/// Longest wait for tmt.
const ONE: Duration = Duration::from_secs(10 * 60);

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// What a guest could print, of which YAML does not take all.
const HOSTILE: &str =
    "\u{1b}[2J \u{7f}\u{9b} \u{2028}\u{ffff} \u{1f600} '\"\\\n- name: /forged\n  result: pass\n";

/// It ends early, since L0 has no KVM with nesting.
const EARLY: &str = "rhel-8-nesting-off/amd/*";
/// It is skipped, since it never boots on emulated metal.
const SKIPPED: &str = "field-hyper-v-wsl2/*";

/// Writes plans and tests with `program`.
fn tree(place: &Place, program: &str, arguments: &[&str]) -> PathBuf {
    let tree = place.path().join("tree");
    let mut command = place.xtask();
    command.args(["ci-matrix", "--format", "fmf", "--program", program, "--into"]).arg(&tree).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:#?}");
    tree
}

/// The results of a plan, and tmt's exit code.
struct Ran {
    code: Option<i32>,
    /// The folder of the results, in which the logs are.
    folder: PathBuf,
    results: Vec<Value>,
}

impl Ran {
    /// The result of a cell, and the first word of its note.
    fn of(&self, cell: &str) -> (&str, &str) {
        let name = format!("/tests/emulated/{cell}");
        let found = self.results.iter().find(|result| result["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no {name}: {:#?}", self.results));
        let note = found["note"][0].as_str().unwrap();
        (found["result"].as_str().unwrap(), note.split(':').next().unwrap())
    }
}

/// Runs the plan `emulated` on this machine. The step `prepare` is left out, since it would install packages.
fn run(place: &Place, tmt: &Path, tree: &Path) -> Ran {
    let (snapshots, config) = (place.states(), place.config());
    let work = place.path().join("tmt/work");
    let mut arguments = vec!["--feeling-safe".to_owned(), "run".into(), "--scratch".into()];
    arguments.extend(["--id".into(), work.display().to_string()]);
    for (variable, folder) in [
        ("NESTMATRIX_SNAPSHOTS", snapshots),
        ("NESTMATRIX_CONFIG", config),
        ("XDG_RUNTIME_DIR", place.runtime()),
    ] {
        arguments.extend(["--environment".into(), format!("{variable}={}", folder.display())]);
    }
    let steps = [
        "plan",
        "--name",
        "emulated",
        "discover",
        "provision",
        "--how",
        "local",
        "execute",
        "report",
        "cleanup",
    ];
    arguments.extend(steps.map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ran = call(place, tmt, tree, &arguments, ONE);
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(!said.contains("violation"), "tmt complains about the results: {said}");
    let folder = work.join("plans/emulated/execute");
    let results = fs::read(folder.join("results.json")).unwrap_or_else(|e| panic!("{e}: {said}"));
    Ran { code: ran.status.code(), folder, results: serde_json::from_slice(&results).unwrap() }
}

/// A program that plays nestmatrix: `run-matrix` does this, with the folder of the results in `$results`; other commands are real.
fn program(place: &Place, run_matrix: &str) -> String {
    let path = place.path().join("nestmatrix");
    let text = format!(
        "#!/bin/bash\n[ \"$1\" = run-matrix ] || exec '{XTASK}' \"$@\"\nresults=${{!#}}\n{run_matrix}\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn tmt_accepts_the_plans_of_every_kind_of_machine() {
    let tmt = tmt();
    let place = Place::new();
    let runners = [
        "emulated",
        "amd,bare-metal,debian-13",
        "intel,bare-metal,debian-12,rack7",
        "arm,bare-metal,debian-13",
    ];
    let arguments: Vec<&str> = runners.iter().flat_map(|labels| ["--runner", labels]).collect();
    let tree = tree(&place, "nestmatrix", &[&arguments[..], &["--shards", "2"]].concat());
    let lint = call(&place, &tmt, &tree, &["lint"], ONE);
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    let exported = call(&place, &tmt, &tree, &["plan", "export", "--how", "json"], ONE);
    let plans: Vec<Value> = serde_json::from_slice(&exported.stdout).unwrap();
    let of = |name: &str| {
        let name = format!("/plans/{name}-2-of-2");
        plans.iter().find(|plan| plan["name"] == name).unwrap_or_else(|| panic!("no {name}: {plans:#?}"))
    };
    let bare = &of("amd-bare-metal-debian-13")["provision"][0];
    assert_eq!(bare["hardware"]["virtualization"], json!({ "is-virtualized": false }));
    assert_eq!((&bare["hardware"]["cpu"], &bare["arch"]), (&json!({ "flag": ["svm"] }), &"x86_64".into()));
    assert_eq!(of("intel-bare-metal-debian-12-rack7")["provision"][0]["hardware"]["cpu"]["flag"][0], "vmx");
    assert_eq!(of("arm-bare-metal-debian-13")["provision"][0]["arch"], "aarch64");
    assert_eq!(of("emulated")["provision"][0]["hardware"]["virtualization"], Value::Null);

    // Each plan finds its own test and no other.
    let found = ["run", "--id", "discovered", "discover", "-v"];
    let found = call(&place, &tmt, &tree, &found, ONE);
    let said = String::from_utf8_lossy(&found.stderr);
    assert_eq!(said.matches("summary: 1 test selected").count(), plans.len(), "{said}");
}

fn tmt_takes_the_verdict_of_each_cell_and_its_logs() {
    let tmt = tmt();
    let place = Place::new();
    let mut cells = every_verdict().records;
    cells[1].symptom = Some(HOSTILE.into());
    let mut folder = RunFolder::create(&place.results()).unwrap();
    for cell in &cells {
        folder.append(cell).unwrap();
        if let Some(of_cell) = &cell.folder {
            let of_cell = folder.path().join(of_cell.as_path());
            fs::create_dir_all(&of_cell).unwrap();
            fs::write(of_cell.join("L0.console.log"), "[0.1] it boots\n").unwrap();
        }
    }
    // It is planned, but has no verdict.
    let cut_off = "rhel-10-preview/ibm-z/rhel-10.0+/rhel-10.0+/rhel-10.0+";
    folder.write_cells(cells.iter().map(|cell| &cell.cell).chain([&cut_off.parse().unwrap()])).unwrap();
    let record = RunRecord { run: folder.name(), ..outcome(cells.clone(), 982, false).run };
    folder.write_run(&record).unwrap();

    let program = program(&place, &format!("cp -a '{}' \"$results\"; exit 3", place.results().display()));
    let ran = run(&place, &tmt, &tree(&place, &program, &["--runner", "emulated", SKIPPED]));
    // tmt's code for errors.
    assert_eq!((ran.code, ran.results.len()), (Some(2), cells.len() + 1), "{:#?}", ran.results);
    for cell in &cells {
        let verdict = cell.verdict.to_string();
        let expected = match verdict.as_str() {
            "xfail" => "pass",
            "xpass" => "fail",
            same => same,
        };
        assert_eq!(ran.of(cell.cell.as_str()), (expected, verdict.as_str()), "{}", cell.cell);
    }
    assert_eq!(ran.of(cut_off), ("error", "no verdict"));
    let logs = ran.results.iter().flat_map(|result| result["log"].as_array().unwrap());
    let logs: Vec<PathBuf> = logs.map(|log| ran.folder.join(log.as_str().unwrap())).collect();
    let missing: Vec<&PathBuf> = logs.iter().filter(|log| !log.is_file()).collect();
    assert!(!logs.is_empty() && missing.is_empty(), "{logs:#?} {missing:#?}");
}

fn a_harness_that_is_killed_is_an_error_for_tmt() {
    let tmt = tmt();
    let place = Place::new();
    let program = program(&place, "kill -KILL $$");
    let ran = run(&place, &tmt, &tree(&place, &program, &["--runner", "emulated", SKIPPED]));
    assert_eq!((ran.code, ran.results.len()), (Some(2), 1), "{:#?}", ran.results);
    assert_eq!(
        (&ran.results[0]["name"], &ran.results[0]["result"]),
        (&"/tests/emulated".into(), &"error".into())
    );
}

fn tmt_runs_the_cells_of_a_plan() {
    let tmt = tmt();
    let place = Place::new();
    let tree = tree(&place, XTASK, &["--runner", "emulated", EARLY, SKIPPED]);
    let ran = {
        let _guard = boots(&of_cells(&checkout().join("scenarios"), &[EARLY]));
        run(&place, &tmt, &tree)
    };
    assert_eq!((ran.code, ran.results.len()), (Some(0), 2), "{:#?}", ran.results);
    let by_result = |result: &str| ran.results.iter().find(|found| found["result"] == result).unwrap();
    let stopped = by_result("pass");
    assert!(stopped["note"][0].as_str().unwrap().starts_with("xfail: l1-launch: "), "{stopped:#}");
    let stages: Vec<&str> = stopped["subresult"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| stage["name"].as_str().unwrap())
        .collect();
    assert_eq!(stages.last(), Some(&"l1-launch"), "{stopped:#}");
    let logs = stopped["log"].as_array().unwrap().iter().map(|log| ran.folder.join(log.as_str().unwrap()));
    let logs: Vec<PathBuf> = logs.collect();
    assert!(logs[0].ends_with("L0.console.log") && logs.iter().all(|log| log.is_file()), "{logs:#?}");
    let qmp = logs.iter().find(|log| log.ends_with("L0.qmp.jsonl")).unwrap();
    assert!(fs::read_to_string(qmp).unwrap().contains("qmp_capabilities"), "{}", qmp.display());
    assert!(by_result("skip")["note"][0].as_str().unwrap().contains("needs native metal"));
    place.assert_nothing_left();
}

/// Runs the command of a test as tmt does, with these variables.
fn run_cells(place: &Place, environment: &[(&str, &str)]) -> Output {
    let tree = tree(place, "nestmatrix", &["--runner", "emulated", SKIPPED]);
    let mut command = Command::new(tree.join("run-cells.sh"));
    let data = place.path().join("data");
    fs::create_dir_all(&data).unwrap();
    command.current_dir(&tree).args(["a cell", "--metal", "emulated"]).env_remove("HOME");
    command.env("TMT_TEST_DATA", data).envs(environment.iter().copied());
    assert_cmd::Command::from_std(command).timeout(ONE).output().unwrap()
}

fn results_of_an_earlier_try_do_not_count() {
    let place = Place::new();
    let runs = place.path().join("data/runs");
    let folder = RunFolder::create(&runs).unwrap();
    folder.write_run(&RunRecord { run: folder.name(), ..outcome(Vec::new(), 1, false).run }).unwrap();
    let results = place.path().join("data/results.yaml");
    fs::write(&results, "[]").unwrap();
    let ran = run_cells(&place, &[("NESTMATRIX", &program(&place, "exit 3"))]);
    assert!(!ran.status.success() && !results.exists(), "{ran:#?}");
}

fn an_archive_or_a_checkout_can_run_the_cells(is_archive: bool) {
    let place = Place::new();
    let folder = place.path().join("unpacked");
    fs::create_dir(&folder).unwrap();
    let name = if is_archive { "nestmatrix" } else { "cargo" };
    let said = place.path().join("said");
    let fake = folder.join(name);
    fs::write(&fake, format!("#!/bin/sh\necho \"$PWD: $*\" >>'{}'\n", said.display())).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let ran = if is_archive {
        let mut tar = Command::new("tar");
        tar.current_dir(place.path()).args(["czf", "tree.tar.gz", "unpacked"]);
        assert!(tar.status().unwrap().success());
        run_cells(&place, &[("NESTMATRIX", "../tree.tar.gz")])
    } else {
        let path = format!("{}:{path}", folder.display());
        run_cells(&place, &[("NESTMATRIX", "../unpacked"), ("PATH", &path)])
    };
    assert!(ran.status.success(), "{ran:#?}");
    let (folder, command) =
        if is_archive { (place.path().join("tree"), "") } else { (folder.clone(), "xtask ") };
    let data = place.path().join("data");
    let (folder, data) = (folder.display(), data.display());
    assert_eq!(
        fs::read_to_string(said).unwrap(),
        format!(
            "{folder}: {command}run-matrix a cell --metal emulated --results {data}/runs\n\
             {folder}: {command}report --results {data}/runs --format tmt --output {data}/results.yaml\n"
        )
    );
}

fn the_tree_has_a_plan_and_a_test_for_each_kind_of_machine() {
    let place = Place::new();
    let cells = ["rhel-10-preview/amd/*", "rhel-8-nesting-off/intel/*"];
    let runners = ["--runner", "emulated", "--runner", "amd,bare-metal,debian-13"];
    let tree = tree(&place, "../nestmatrix-0.1.0-x86_64.tar.gz", &[&cells[..], &runners].concat());
    let files = ["plans.fmf", "tests.fmf"].map(|name| fs::read_to_string(tree.join(name)).unwrap());
    insta::assert_snapshot!(files.join("\n----\n"));
    assert_eq!(fs::read_to_string(tree.join(".fmf/version")).unwrap(), "1\n");
    let refused = place.xtask().args(["ci-matrix", "--runner", "emulated", "--into", "x"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:#?}");
}

trials! {
    tmt_runs_the_cells_of_a_plan;
    tmt_accepts_the_plans_of_every_kind_of_machine;
    tmt_takes_the_verdict_of_each_cell_and_its_logs;
    a_harness_that_is_killed_is_an_error_for_tmt;
    results_of_an_earlier_try_do_not_count;
    an_archive_or_a_checkout_can_run_the_cells { archive(true), checkout(false) };
    the_tree_has_a_plan_and_a_test_for_each_kind_of_machine;
}
