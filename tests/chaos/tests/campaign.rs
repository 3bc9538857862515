//! Campaigns, with a script that plays the harness and with the real one. The latter boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rstest::rstest;
use serde_json::Value;

const CHAOS: &str = env!("CARGO_BIN_EXE_nestmatrix-chaos");
const FAKE_HARNESS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake-harness.sh");

struct Campaign {
    output: Output,
    outcomes: Vec<Value>,
    folder: tempfile::TempDir,
}

impl Campaign {
    /// Runs a campaign with this program as the harness.
    fn run(program: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(CHAOS);
        command.env("NESTMATRIX_XTASK", program).arg("--into").arg(folder.path().join("campaign"));
        change(&mut command);
        let output = command.output().unwrap();
        let outcomes = fs::read_to_string(folder.path().join("campaign/outcomes.jsonl")).unwrap_or_default();
        let outcomes = outcomes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { output, outcomes, folder }
    }

    /// With the script, which has this fault, and a cache of its own.
    fn with_fake(fault: &str, arguments: &[&str]) -> Self {
        let cache = tempfile::tempdir().unwrap();
        Self::run(Path::new(FAKE_HARNESS), |command| {
            command.env("FAULT", fault).env("XDG_CACHE_HOME", cache.path()).args(arguments);
            command.env_remove("NESTMATRIX_CACHE");
        })
    }

    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    fn kept(&self, path: &str) -> PathBuf {
        self.folder.path().join("campaign").join(path)
    }
}

#[rstest]
#[case::kills("kill")]
#[case::interruptions("interrupt")]
#[case::second_harnesses("second")]
fn a_harness_without_faults_is_found_to_have_none(#[case] kind: &str) {
    let campaign = Campaign::with_fake("none", &["--seed", "1", "--runs", "3", "--only", kind]);
    assert_eq!(campaign.output.status.code(), Some(0), "{:#?}", campaign.output);
    assert_eq!(campaign.outcomes.len(), 3);
    assert!(
        campaign.outcomes.iter().any(|outcome| outcome["inflicted"].is_string()),
        "{:#?}",
        campaign.outcomes
    );
    assert!(campaign.outcomes.iter().all(|outcome| outcome["wrong"] == Value::Array(Vec::new())));
    assert!(!campaign.kept("run-1").exists(), "the records of runs that are right are not kept");
}

#[rstest]
#[case::wrong_verdict("lies", "the verdict is fail, not pass")]
#[case::lost_record("loses", "pass was printed and is not in the records")]
#[case::panic("panics", "thread 'main' panicked at src/main.rs:1:1:")]
#[case::process("leaves-a-process", "is still alive")]
#[case::folder("leaves-a-folder", "scratch/run-left was left")]
#[case::hang("hangs", "it has not ended after 3 s")]
fn a_fault_of_the_harness_is_found(#[case] fault: &str, #[case] wrong: &str) {
    let arguments = ["--seed", "1", "--runs", "1", "--only", "second", "--limit", "3"];
    let campaign = Campaign::with_fake(fault, &arguments);
    assert_eq!(campaign.output.status.code(), Some(1), "{:#?}", campaign.output);
    let found = campaign.outcomes[0]["wrong"].to_string();
    assert!(found.contains(wrong), "{found}");
    assert!(campaign.stdout().contains("WRONG: "), "{}", campaign.stdout());
    assert!(campaign.kept("run-1/disturbed/run").is_dir() || fault == "hangs", "the records are kept");
}

/// The script's cache has no files that could be damaged.
#[test]
fn a_campaign_that_disturbs_nothing_has_tested_nothing() {
    let campaign = Campaign::with_fake("none", &["--seed", "1", "--runs", "1", "--only", "damage"]);
    assert_eq!(campaign.output.status.code(), Some(4), "{:#?}", campaign.output);
    assert_eq!(campaign.outcomes[0]["came"], "undisturbed");
}

#[test]
fn a_single_run_of_a_campaign_is_repeated_with_what_it_had() {
    let all = Campaign::with_fake("none", &["--seed", "5", "--runs", "3", "--only", "kill,interrupt"]);
    let one = Campaign::with_fake(
        "none",
        &["--seed", "5", "--from", "3", "--runs", "1", "--only", "kill,interrupt"],
    );
    for member in ["run", "kind", "cell", "cold"] {
        assert_eq!(all.outcomes[2][member], one.outcomes[0][member], "{member}");
    }
}

#[test]
fn a_campaign_without_an_undisturbed_verdict_has_nothing_to_compare_with() {
    let campaign = Campaign::run(Path::new("/bin/false"), |_| {});
    assert_eq!(campaign.output.status.code(), Some(3), "{:#?}", campaign.output);
    let said = String::from_utf8_lossy(&campaign.output.stderr);
    assert!(said.contains("no cell has a verdict to compare with"), "{said}");
}

/// The real harness, whose program is beside this one if the whole workspace was built.
#[test]
#[ignore = "boots a stack five times: two minutes"]
fn a_real_stack_that_is_disturbed_gives_no_wrong_verdict() {
    let boots = File::options()
        .create(true)
        .append(true)
        .open(Path::new(env!("CARGO_TARGET_TMPDIR")).join("boots.lock"));
    let boots = boots.unwrap();
    boots.lock().unwrap();
    let xtask = Path::new(CHAOS).with_file_name("xtask");
    assert!(xtask.is_file(), "run `cargo test --workspace`, which builds {}", xtask.display());
    let campaign = Campaign::run(&xtask, |command| {
        command.args([
            "--seed",
            "2",
            "--runs",
            "2",
            "--only",
            "kill,interrupt",
            "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+",
        ]);
    });
    assert_eq!(campaign.output.status.code(), Some(0), "{:#?}\n{:#?}", campaign.output, campaign.outcomes);
    assert_eq!(campaign.outcomes.len(), 2);
}
