//! Programs of the user in a level (`tests/programs/`). One test boots L0, L1 and L2, and each of them runs programs.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use common::{Place, Run, boots, of_cells, scenarios, trials};

/// Longest wait for the boot of all levels and their programs.
const BOOT: Duration = Duration::from_secs(420);
/// Longest wait for a command.
const SOON: Duration = Duration::from_secs(60);

/// A script that prints results of all kinds, and reads a file that comes with it.
const TAP: &str = "#!/bin/sh
echo 'TAP version 14'
echo 1..4
echo '# Subtest: arguments'
echo '    1..2'
[ \"$1\" ] && echo \"    ok 1 - $1\" || echo '    not ok 1 - none'
[ \"$2\" = \"it's\" ] && echo '    ok 2 - quoted' || echo '    not ok 2 - quoted'
echo 'ok 1 - arguments'
read -r line <data && echo \"ok 2 - data: $line\" || echo 'not ok 2 - data'
echo 'ok 3 - later # SKIP not here'
echo 'not ok 4 - soon # TODO it is not done'
";

struct User {
    place: Place,
}

impl User {
    fn new() -> Self {
        let user = Self { place: Place::new() };
        fs::write(user.path("data"), "hello\n").unwrap();
        user.script("tap", TAP);
        user.script("hanging", "#!/bin/sh\necho started\nwhile :; do :; done\n");
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn payloads(&self, arguments: &[&str]) -> Run {
        let mut command = self.place.xtask();
        command.arg("payloads").args(arguments).current_dir(self.place.path());
        self.place.finish(command, SOON)
    }

    fn run(&self) -> Run {
        let mut command = self.place.run_matrix();
        command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios("programs"));
        self.place.finish(command, BOOT)
    }
}

fn a_program_is_added_checked_and_removed() {
    let user = User::new();
    let path = user.path("tap").canonicalize().unwrap().display().to_string();
    let listed = format!("my-test: {path}, with 1 other path\n");
    let added = user.payloads(&["add", "my-test", "tap", "--file", "data:/data"]);
    assert_eq!(added.stdout, format!("added {listed}"), "{added:#?}");
    assert_eq!(user.payloads(&["list"]).stdout, listed);
    assert_eq!(user.payloads(&["check"]).stdout, "my-test: ok\n");
    fs::write(user.path("data"), "other").unwrap();
    let changed = user.payloads(&["check", "my-test"]);
    assert_eq!(changed.code, Some(3), "{changed:#?}");
    assert!(changed.stderr_words().contains("it has changed since it was added"), "{changed:#?}");
    assert_eq!(user.payloads(&["remove", "my-test"]).code, Some(0));
    assert_eq!(user.payloads(&["remove", "my-test"]).code, Some(2));
}

fn what_can_not_be_a_program_is_refused() {
    let user = User::new();
    for (arguments, why) in [
        (vec!["x", "nowhere"], "No such file"),
        (vec!["x", "data"], "it is not executable; set that with `chmod +x`"),
        (vec!["x", "."], "a folder can only be added as a suite: kvm-unit-tests"),
        (vec!["X", "tap"], "is no name for it"),
        (vec!["x", "tap", "--file", "data:data"], "no absolute path"),
        (vec!["kvm-unit-tests", ".", "--file", "data"], "--file is for a program"),
    ] {
        let refused = user.payloads(&[&["add"][..], &arguments[..]].concat());
        assert_eq!(refused.code, Some(2), "{refused:#?}");
        assert!(refused.stderr_words().contains(why), "{why}: {refused:#?}");
    }
}

fn without_a_program_its_cells_are_skipped() {
    let cell = User::new().run().cell("programs-in-all-levels");
    assert_eq!(cell.text("verdict"), "skip");
    assert_eq!(cell.record["skip_reasons"][0]["kind"], "no-payload");
    assert!(cell.text("symptom").contains("cargo xtask payloads add tap PROGRAM"), "{:#}", cell.record);
}

fn each_case_of_a_program_in_each_level_has_a_result() {
    let _guard = boots(&of_cells(&scenarios("programs"), &["programs-in-all-levels/*"]));
    let user = User::new();
    user.payloads(&["add", "tap", "tap", "--file", "data"]);
    user.payloads(&["add", "hanging", "hanging"]);
    // This test itself is a program with libraries: it lists its tests.
    let own = std::env::current_exe().unwrap();
    user.payloads(&["add", "compiled", own.to_str().unwrap()]);
    let run = user.run().keep("programs");
    let cell = run.cell("programs-in-all-levels");
    assert_eq!(cell.text("verdict"), "xfail", "{:#}", cell.record);
    let cases = |step: usize| {
        let cases = cell.record["steps"][step]["suite"]["cases"].as_array().unwrap().iter();
        let text = |of: &serde_json::Value| of.as_str().unwrap_or_default().to_owned();
        cases.map(|case| format!("{} {}", text(&case["outcome"]), text(&case["name"]))).collect::<Vec<_>>()
    };
    for (step, level) in [(0, "L0"), (2, "L1"), (4, "L2")] {
        let first = format!("pass tap: arguments/in {level}");
        let expected = [
            "known-fail tap: soon",
            "skip tap: later",
            first.as_str(),
            "pass tap: arguments/quoted",
            "pass tap: data: hello",
        ];
        assert_eq!(cases(step), expected, "{level}");
    }
    for step in [1, 3, 5] {
        assert_eq!(cases(step), ["pass compiled"]);
    }
    assert_eq!(cases(6), ["error hanging"]);
}

trials! {
    a_program_is_added_checked_and_removed;
    what_can_not_be_a_program_is_refused;
    without_a_program_its_cells_are_skipped;
    each_case_of_a_program_in_each_level_has_a_result;
}
