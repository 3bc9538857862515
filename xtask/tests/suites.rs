//! Tests of a suite in a level (`tests/suites/`), with programs that this test makes. One test boots L0 alone.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use common::flat_test::{End, suite};
use common::{Place, Run, boots, of_cells, scenarios, trials};

/// Longest wait for the boot of L0 and its tests.
const BOOT: Duration = Duration::from_secs(180);
/// Longest wait for a command.
const SOON: Duration = Duration::from_secs(60);

/// A user with a build of the suite.
struct User {
    place: Place,
    suite: PathBuf,
}

impl User {
    fn new() -> Self {
        let place = Place::new();
        let folder = place.path().join("suite");
        let programs = [
            ("good", "starting\nPASS: it works\nPASS: it works too\nSUMMARY: 2 tests\n", End::Code(0)),
            (
                "known",
                "PASS: it is fine\nFAIL: it fails\nSUMMARY: 2 tests, 1 unexpected failures\n",
                End::Code(1),
            ),
            ("bad", "PASS: it works\nFAIL: it fails\n", End::Code(1)),
            ("bad_end", "PASS: it works\nUnhandled exception 6 #UD at ip 1\n", End::Code(63)),
            ("bad_loop", "still here\n", End::Never),
        ];
        suite(
            &folder,
            &programs,
            "[bad_other]\nfile = bad.flat\narch = i386\n\n[bad_unbuilt]\nfile = no.flat\n",
        );
        Self { place, suite: folder }
    }

    fn payloads(&self, arguments: &[&str]) -> Run {
        let mut command = self.place.xtask();
        command.arg("payloads").args(arguments);
        self.place.finish(command, SOON)
    }

    fn add(&self) -> Run {
        self.payloads(&["add", "kvm-unit-tests", self.suite.to_str().unwrap()])
    }

    fn run(&self) -> Run {
        let mut command = self.place.run_matrix();
        command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios("suites"));
        self.place.finish(command, BOOT)
    }
}

fn a_suite_is_added_checked_and_removed() {
    let user = User::new();
    let path = user.suite.canonicalize().unwrap().display().to_string();
    let listed = format!("kvm-unit-tests: {path}, 6 of 7 tests built\n");
    assert_eq!(user.payloads(&["list"]).stdout, "no payloads; add one with `cargo xtask payloads add`\n");
    assert_eq!(user.add().stdout, format!("added {listed}"));
    assert_eq!(user.payloads(&["list"]).stdout, listed);
    assert_eq!(user.payloads(&["check"]).stdout, "kvm-unit-tests: ok\n");
    fs::write(user.suite.join("x86/bad.flat"), "other").unwrap();
    let changed = user.payloads(&["check", "kvm-unit-tests"]);
    assert_eq!(changed.code, Some(3), "{changed:#?}");
    assert!(changed.stderr_words().contains("it has changed since it was added"), "{changed:#?}");
    assert_eq!(user.payloads(&["remove", "kvm-unit-tests"]).code, Some(0));
    assert_eq!(user.payloads(&["remove", "kvm-unit-tests"]).code, Some(2));
}

fn a_folder_without_built_tests_is_refused() {
    let user = User::new();
    fs::remove_dir_all(user.suite.join("x86")).unwrap();
    let refused = user.add();
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(
        refused.stderr_words().contains("name the folder in which kvm-unit-tests was built"),
        "{refused:#?}"
    );
    suite(&user.suite, &[], "[one]\nfile = one.flat\n");
    assert!(user.add().stderr_words().contains("none of its 1 tests is built"));
}

fn without_a_suite_its_cells_are_skipped() {
    let user = User::new();
    let cell = user.run().cell("tests-in-l0");
    assert_eq!(cell.text("verdict"), "skip");
    assert_eq!(cell.record["skip_reasons"][0]["kind"], "no-suite");
    assert!(
        cell.text("symptom").contains("cargo xtask payloads add kvm-unit-tests FOLDER"),
        "{:#}",
        cell.record
    );
}

fn each_case_of_a_test_in_a_level_has_a_result() {
    let _guard = boots(&of_cells(&scenarios("suites"), &["tests-in-l0/*"]));
    let user = User::new();
    user.add();
    let run = user.run().keep("suites");
    let cell = run.cell("tests-in-l0");
    assert_eq!(cell.text("verdict"), "xfail", "{:#}", cell.record);
    let cases = |step: usize| {
        let cases = cell.record["steps"][step]["suite"]["cases"].as_array().unwrap().iter();
        let text = |of: &serde_json::Value| of.as_str().unwrap_or_default().to_owned();
        cases
            .map(|case| format!("{} {} {}", text(&case["outcome"]), text(&case["name"]), text(&case["said"])))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        cases(0),
        [
            "pass good: it works ",
            "known-fail known: it fails ",
            "pass good: it works too ",
            "pass known: it is fine "
        ]
    );
    assert_eq!(
        cases(1),
        [
            "fail bad: it fails ",
            "error bad_end it aborted with code 63: Unhandled exception 6 #UD at ip 1",
            "error bad_loop it did not end in time; its last line is \"still here\"",
            "skip bad_other it is for i386",
            "skip bad_unbuilt it is not built",
            "pass bad: it works ",
            "pass bad_end: it works ",
        ]
    );
    let symptom = &cell.record["symptom_data"];
    assert_eq!(
        (&symptom["kind"], &symptom["failed"], &symptom["of"]),
        (&"test-failed".into(), &3.into(), &7.into())
    );
    assert_eq!(
        cell.record["steps"][0]["output"],
        "3 pass, 1 known-fail, 1 of them known to fail, but passed"
    );
}

trials! {
    a_suite_is_added_checked_and_removed;
    a_folder_without_built_tests_is_refused;
    without_a_suite_its_cells_are_skipped;
    each_case_of_a_test_in_a_level_has_a_result;
}
