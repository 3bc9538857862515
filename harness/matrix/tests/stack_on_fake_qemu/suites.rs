//! Tests of a suite that a step runs in a level: what their results do to the stack.

use std::fs;
use std::sync::Arc;

use nestmatrix_images::Suites;
use nestmatrix_model::{CaseOutcome, KnownFailure, Suite, SuiteKind, SymptomKind};
use nestmatrix_stack::Case;
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;

use crate::fake::{Booted, Fake, exit, prints};
use crate::script::{Act, End};

/// Text that only the script that runs a test has.
const RUNS_TEST: &str = "isa-debug-exit";

/// A user's suite with two tests, and a part of it for a step.
struct User {
    folder: TempDir,
    suite: Suite,
}

impl User {
    fn new(tests: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("suite/x86");
        fs::create_dir_all(&built).unwrap();
        fs::write(
            built.join("unittests.cfg"),
            "[one]\nfile = one.flat\n[two]\nfile = two.flat\n[no]\nfile = no.flat\n",
        )
        .unwrap();
        fs::write(built.join("one.flat"), "1").unwrap();
        fs::write(built.join("two.flat"), "2").unwrap();
        let tests = tests.iter().map(|test| (*test).to_owned()).collect();
        let kind = SuiteKind::KvmUnitTests;
        Self {
            folder,
            suite: Suite { kind, tests, append: None, memory_mib: None, known_failures: Vec::new() },
        }
    }

    /// The same with the kernel's selftests: two programs for x86.
    fn with_selftests(tests: &[&str]) -> Self {
        let mut user = Self::new(tests);
        let built = user.folder.path().join("suite/x86");
        // The header of a program for x86-64.
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend([3, 0, 62, 0]);
        for name in ["svm_a", "svm_b"] {
            fs::write(built.join(name), [&elf, name.as_bytes()].concat()).unwrap();
        }
        user.suite.kind = SuiteKind::KvmSelftests;
        user
    }

    fn knows(mut self, case: &str) -> Self {
        let known = KnownFailure { case: case.into(), reference: "a report".into(), erratum: None };
        self.suite.known_failures.push(known);
        self
    }

    /// Boots a stack whose L1 runs the tests. Each ends like `end`.
    async fn boot(self, end: End) -> Booted {
        self.boot_with(|fake| fake.command(1, RUNS_TEST, 5, end)).await
    }

    async fn boot_with(self, change: impl FnOnce(Fake) -> Fake) -> Booted {
        let mut suites = Suites::open(Some(self.folder.path().join("config"))).unwrap();
        let built = suites.add(self.suite.kind, &self.folder.path().join("suite")).unwrap();
        change(Fake::new().runs_suite("l1-kvm", 1, self.suite, Arc::clone(&built))).boot().await
    }
}

fn cases(booted: &Booted) -> Vec<(&str, CaseOutcome)> {
    let suite = booted.observation.steps[0].suite.as_ref().unwrap();
    suite.cases.iter().map(|case: &Case| (case.name.as_str(), case.outcome)).collect()
}

fn end(code: i64, stdout: &str) -> End {
    End { status: Some(code), ..prints(stdout) }
}

#[tokio::test(flavor = "current_thread")]
async fn tests_that_pass_let_the_stack_go_on() {
    let booted = User::new(&["*"]).boot(end(1, "PASS: a\n")).await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let expected = [("no", CaseOutcome::Skip), ("one: a", CaseOutcome::Pass), ("two: a", CaseOutcome::Pass)];
    assert_eq!(cases(&booted), expected);
}

#[tokio::test(flavor = "current_thread")]
async fn a_case_that_fails_stops_the_stack_with_its_name() {
    let booted = User::new(&["one"]).boot(end(3, "PASS: a\nFAIL: b\n")).await;
    assert_eq!(booted.stopped(), "step-1: suite on L1: 1 of 2 cases failed: one: b");
    assert_eq!(booted.word(), "fail");
    let stop = booted.observation.stop.as_ref().unwrap();
    assert_eq!(
        (stop.symptom.kind(), stop.symptom.said().as_deref()),
        (SymptomKind::TestFailed, Some("one: b"))
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_failure_that_is_known_does_not_stop_the_stack() {
    let booted = User::new(&["one"]).knows("one: b").boot(end(3, "PASS: a\nFAIL: b\n")).await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(booted.observation.steps[0].output, "1 pass, 1 known-fail");
}

#[tokio::test(flavor = "current_thread")]
async fn a_step_whose_tests_did_not_run_shows_nothing() {
    for (tests, why) in [
        (["no"], "L1: suite: no test ran: it is not built"),
        (["other"], "L1: suite: kvm-unit-tests has no test and no group \"other\""),
    ] {
        let booted = User::new(&tests).boot(end(1, "")).await;
        assert_eq!(booted.word_and_symptom(), format!("error: {why}"));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_test_during_which_its_level_dies_has_no_result() {
    let acts =
        [Act::AgentAnswers, Act::Wait(150), Act::Event("GUEST_PANICKED".into(), json!({"action": "pause"}))];
    let booted =
        User::new(&["one"]).boot_with(|fake| fake.command_never_ends(1, RUNS_TEST).boots(1, acts)).await;
    assert_eq!(booted.observation.stop.as_ref().unwrap().symptom.kind(), SymptomKind::GuestPanicked);
    assert_eq!(cases(&booted), [("one", CaseOutcome::Error)]);
}

/// What a test prints whose machine KVM can't run.
const STOPPED: &str = "KVM internal error. Suberror: 1\n";

#[rstest]
#[case::reset(end(0, "PASS: a\n"), "tcg-smp-reset")]
#[case::stopped_in_the_firmware(exit(116, STOPPED), "tcg-no-nrips")]
#[tokio::test(flavor = "current_thread")]
async fn an_end_of_a_test_that_the_emulated_metal_is_known_for_is_charged_to_it(
    #[case] ends: End,
    #[case] erratum: &str,
) {
    let shared = |fake: Fake| fake.with_guests_on_first_cpu().command(1, RUNS_TEST, 5, ends.clone());
    let booted = User::new(&["one"]).boot_with(shared).await;
    let seen = booted.word_and_symptom();
    let id = format!(" (emulator erratum {erratum})");
    assert!(seen.starts_with("error: suite: one (") && seen.ends_with(&id), "{seen}");
    assert_eq!(seen.matches(&id).count(), 1, "{seen}");
    assert_eq!(booted.observation.stop.as_ref().unwrap().symptom.charged_to(), Some(erratum));
    let suite = booted.observation.steps[0].suite.as_ref().unwrap();
    assert_eq!(suite.cases[0].erratum.as_deref(), Some(erratum));

    let native = User::new(&["one"]).boot_with(|fake| fake.on_native_metal().command(1, RUNS_TEST, 5, ends));
    assert_eq!(native.await.word(), "fail");
}

#[rstest]
#[case::failed_too(end(0, "FAIL: a\n"))]
#[case::explained(end(0, "PASS: a\nUnhandled exception 6 #UD at ip 1\n"))]
#[case::stopped_later(exit(122, STOPPED))]
#[case::stopped_with_other_words(exit(116, "error: kvm run failed Bad address\n"))]
#[case::too_late(end(124, "PASS: a\n"))]
#[tokio::test(flavor = "current_thread")]
async fn every_other_end_of_a_test_is_a_failure(#[case] ends: End) {
    let booted = User::new(&["one"]).boot(ends).await;
    assert_eq!(booted.word(), "fail");
    assert_eq!(booted.observation.stop.as_ref().unwrap().symptom.kind(), SymptomKind::TestFailed);
}

#[tokio::test(flavor = "current_thread")]
async fn an_end_that_the_step_describes_is_known_and_not_charged() {
    let booted = User::new(&["one"]).knows("one: *last line is \"PASS: a\"").boot(end(0, "PASS: a\n")).await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(booted.observation.steps[0].suite.as_ref().unwrap().cases[0].erratum, None);
}

#[tokio::test(flavor = "current_thread")]
async fn a_silent_reset_of_a_level_during_its_tests_is_charged_to_the_emulated_metal() {
    let reset = json!({"guest": true, "reason": "guest-reset"});
    let acts = [Act::AgentAnswers, Act::Wait(150), Act::Event("SHUTDOWN".into(), reset)];
    let tests = |fake: Fake| fake.command_never_ends(1, RUNS_TEST).boots(1, acts.clone());
    let booted = User::new(&["one"]).boot_with(|fake| tests(fake).with_guests_on_first_cpu()).await;
    let stop = booted.observation.stop.as_ref().unwrap();
    assert_eq!((booted.word(), stop.symptom.charged_to()), ("error".into(), Some("tcg-smp-reset")));

    let native = User::new(&["one"]).boot_with(|fake| tests(fake).on_native_metal()).await;
    assert_eq!(native.word(), "fail");
}

/// Text that only the script that runs a program has, with what it prints about the end of one.
const RUNS_PROGRAM: &str = "nestmatrix-program";

fn program_end(status: i64, stdout: &str) -> End {
    prints(&format!("{RUNS_PROGRAM} exited {status} {} 0 0\n{stdout}", stdout.len()))
}

#[tokio::test(flavor = "current_thread")]
async fn a_selftest_is_a_program_in_the_level() {
    let failed = "==== Test Assertion Failure ====\n  svm_a.c:5: a == b\n";
    for (status, stdout, word, outcome) in [
        (0, "", "pass", CaseOutcome::Pass),
        (254, failed, "fail", CaseOutcome::Fail),
        (4, "1..0 # SKIP no SVM\n", "error", CaseOutcome::Skip),
    ] {
        let user = User::with_selftests(&["svm_*"]);
        let booted =
            user.boot_with(|fake| fake.command(1, RUNS_PROGRAM, 5, program_end(status, stdout))).await;
        assert_eq!(
            (booted.word(), cases(&booted)),
            (word.to_owned(), vec![("svm_a", outcome), ("svm_b", outcome)])
        );
        if outcome == CaseOutcome::Fail {
            let said = "step-1: suite on L1: 2 of 2 cases failed: svm_a (svm_a.c:5: a == b)";
            assert!(booted.stopped().starts_with(said), "{}", booted.stopped());
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_failure_of_a_selftest_can_be_known() {
    let user = User::with_selftests(&["svm_a"]).knows("svm_*");
    let booted = user.boot_with(|fake| fake.command(1, RUNS_PROGRAM, 5, program_end(1, "x\n"))).await;
    assert_eq!((booted.word(), cases(&booted)), ("pass".into(), vec![("svm_a", CaseOutcome::KnownFail)]));
}
