//! Programs of the user that a step runs in a level: what their results do to the stack.

use std::fs;

use nestmatrix_model::{CaseOutcome, KnownFailure, Payload, StepTimeout, SymptomKind};
use nestmatrix_stack::{Case, CopiedFile, Then, UserProgram};
use serde_json::json;
use tempfile::TempDir;

use crate::fake::{Booted, Fake, prints};
use crate::script::Act;

/// Text that only the script that runs a program has.
const RUNS_PROGRAM: &str = "nestmatrix-program";
const RESULTS: &str = "1..2\nok 1 - a\nnot ok 2 - b\n";

/// A program of the user. Its file stays as long as the folder.
fn program(folder: &TempDir) -> UserProgram {
    let path = folder.path().join("my-test");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    let file = CopiedFile::new(&path, "my-test", Then::Stay).unwrap();
    let command = file.path_in_level();
    UserProgram {
        name: "my-test".into(),
        sha256: "0".into(),
        files: vec![file],
        setup: String::new(),
        command,
    }
}

fn payload(known: Option<&str>) -> Payload {
    let known =
        known.map(|case| KnownFailure { case: case.into(), reference: "a report".into(), erratum: None });
    Payload {
        name: "my-test".into(),
        arguments: vec!["it's".into()],
        known_failures: known.into_iter().collect(),
    }
}

/// What the script in a level prints about a program that printed `output`.
fn report(end: &str, output: &str) -> String {
    format!("nestmatrix-program {end} {} 0 0\n{output}", output.len())
}

/// Boots a stack whose L1 runs a program. The script prints `printed`.
async fn boot(printed: &str, known: Option<&str>) -> Booted {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new().runs_program("l1-kvm", 1, payload(known), Some(program(&folder)));
    fake.command(1, RUNS_PROGRAM, 5, prints(printed)).boot().await
}

fn cases(booted: &Booted) -> Vec<(&str, CaseOutcome)> {
    let suite = booted.observation.steps[0].suite.as_ref().unwrap();
    suite.cases.iter().map(|case: &Case| (case.name.as_str(), case.outcome)).collect()
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_succeeds_lets_the_stack_go_on() {
    let booted = boot(&report("exited 0", "hello\n"), None).await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(cases(&booted), [("my-test", CaseOutcome::Pass)]);
    let log = fs::read_to_string(booted.records.join("step-1.my-test.log")).unwrap();
    assert_eq!(log, "hello\n");
}

#[tokio::test(flavor = "current_thread")]
async fn a_case_of_a_program_that_fails_stops_the_stack_with_its_name() {
    let booted = boot(&report("exited 1", RESULTS), None).await;
    assert_eq!(booted.stopped(), "step-1: program on L1: 1 of 2 cases failed: my-test: b");
    let symptom = &booted.observation.stop.as_ref().unwrap().symptom;
    assert_eq!((booted.word(), symptom.kind()), ("fail".into(), SymptomKind::TestFailed));
}

#[tokio::test(flavor = "current_thread")]
async fn a_failure_of_a_program_that_is_known_does_not_stop_the_stack() {
    let booted = boot(&report("exited 1", RESULTS), Some("my-test: b")).await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(booted.observation.steps[0].output, "1 pass, 1 known-fail");
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_never_ends_has_no_result() {
    let booted = boot(&report("late 137", "started\n"), None).await;
    let why = "my-test (it did not end in time; its last line is \"started\")";
    assert_eq!(booted.stopped(), format!("step-1: program on L1: 1 of 1 cases failed: {why}"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_did_not_start_shows_nothing() {
    for (printed, why) in [
        (report("exited 127", ""), "1 of the tests did not start: a program was not found"),
        (report("exited 4", ""), "no test ran: nothing"),
        ("no room".to_owned(), "the level did not run the program: no room"),
        (report("exited 0", "hello\n").replace("hello", "he"), "the level did not run the program: he"),
    ] {
        let seen = boot(&printed, None).await.word_and_symptom();
        assert!(seen.starts_with(&format!("error: L1: program: {why}")), "{seen}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_was_not_added_is_an_error() {
    let booted = Fake::new().runs_program("l1-kvm", 1, payload(None), None).boot().await;
    assert_eq!(booted.word_and_symptom(), "error: L1: program: no payload my-test was added");
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_ends_its_level_has_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let panics =
        [Act::AgentAnswers, Act::Wait(150), Act::Event("GUEST_PANICKED".into(), json!({"action": "pause"}))];
    let fake = Fake::new().runs_program("l1-kvm", 1, payload(None), Some(program(&folder)));
    let booted = fake.command_never_ends(1, RUNS_PROGRAM).boots(1, panics).boot().await;
    assert_eq!(booted.observation.stop.as_ref().unwrap().symptom.kind(), SymptomKind::GuestPanicked);
    assert_eq!(cases(&booted), [("my-test", CaseOutcome::Error)]);
}

/// The fake innermost level always gives the same results.
#[tokio::test(flavor = "current_thread")]
async fn the_innermost_level_runs_what_its_initramfs_brings() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new().runs_program("l2-check", 2, payload(None), Some(program(&folder)));
    let booted = fake.within(StepTimeout::Guest(7)).boot().await;
    assert_eq!(booted.stopped(), "step-1: program on L2: 1 of 2 cases failed: my-test: b");
    assert_eq!(cases(&booted), [("my-test: b", CaseOutcome::Fail), ("my-test: a", CaseOutcome::Pass)]);
    let sent = fs::read_to_string(booted.records.join("L1.agent.jsonl")).unwrap();
    assert!(sent.contains("guest-file-write"), "the archive went to L1");
}

#[tokio::test(flavor = "current_thread")]
async fn an_initramfs_that_can_not_be_extended_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new().runs_program("l2-check", 2, payload(None), Some(program(&folder)));
    let full = crate::script::End { status: Some(1), stderr: "no room".into(), ..prints("") };
    let booted = fake.command(1, ".whole", 5, full).boot().await;
    let seen = booted.word_and_symptom();
    assert!(
        seen.starts_with("error: ") && seen.contains("bringing programs for L2 on L1: no room"),
        "{seen}"
    );
}
