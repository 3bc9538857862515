//! Cells with Windows from outside, for a user who added a medium and has no native metal: what the commands say, and their exit codes.
//! Boots nothing: no plan reads the medium.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use common::{Place, Run, checkout};
use rstest::rstest;

/// Longest wait for a command that boots nothing.
const SOON: Duration = Duration::from_secs(60);

const CELL: &str = "rhel-9-preview-hyper-v/amd/rhel-9.2+/windows-server-2022_hyper-v/rhel-9.2+";
const NEEDS_NATIVE: &str =
    "needs native metal: on emulated metal, Windows would take hours to start, which was never tried";
const NOT_YET_RUN: &str = "not yet run by its authors";

/// A place whose user has added Windows Server 2022.
fn place() -> Place {
    let place = Place::new();
    let file = place.path().join("windows.iso");
    fs::write(&file, "disk").unwrap();
    let data = fs::metadata(&file).unwrap();
    let modified = data.mtime() * 1_000_000_000 + data.mtime_nsec();
    let known =
        format!("file = {file:?}\nsha256 = \"{}\"\nsize = 4\nmodified = {modified}\n", "a".repeat(64));
    let record = format!(
        "system = \"windows-server\"\nversion = \"2022\"\narchitecture = \"amd64\"\n[image]\n{known}format = \"iso\"\n\
         virtual-size = 4\n[drivers]\n{known}"
    );
    fs::create_dir_all(place.config().join("media")).unwrap();
    fs::write(place.config().join("media/windows-server-2022-amd64.toml"), record).unwrap();
    place
}

fn xtask(place: &Place, arguments: &[&str]) -> Run {
    let mut command = place.xtask();
    command.env("NESTMATRIX_CACHE", place.path().join("cache")).args(arguments);
    let recipes = checkout().join("images/recipes");
    command.arg("--recipes").arg(recipes);
    if arguments[0] != "media" {
        command.arg("--scenarios").arg(checkout().join("scenarios"));
    }
    place.finish(command, SOON)
}

/// What was printed, without line breaks.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[rstest]
#[case::list(&["list", CELL], &["windows-server-2022-disk", NEEDS_NATIVE, "not yet run by its authors: Windows Server"])]
#[case::images(&["list", CELL, "--images"], &["windows-server-2022-disk: no cell boots it on emulated metal, 1 cell may on native metal", NOT_YET_RUN])]
#[case::media(&["media", "list"], &["windows-server-2022 (amd64): not yet run by its authors"])]
#[case::machines(&["list", CELL, "--machines"], &["amd 1 0 1 0"])]
#[case::doctor(&["doctor", CELL, "--metal", "emulated"], &["medium windows-server-2022 (amd64): not prepared; not yet run by its authors", NEEDS_NATIVE, "not yet run by its authors: Windows Server"])]
fn what_a_medium_of_windows_is_good_for_is_shown(#[case] arguments: &[&str], #[case] expected: &[&str]) {
    let run = xtask(&place(), arguments);
    let said = words(&run.stdout);
    for expected in expected {
        assert!(said.contains(expected), "{expected}: {run:#?}");
    }
    assert!(!said.contains("no medium"), "{run:#?}");
}

#[test]
fn without_a_medium_the_command_that_adds_one_is_shown() {
    let run = xtask(&Place::new(), &["list", CELL]);
    let command = "`cargo xtask media add windows-server-2022 FILE.iso --drivers virtio-win.iso` adds one";
    assert!(words(&run.stdout).contains(command), "{run:#?}");
}

#[test]
fn on_emulated_metal_the_cell_is_skipped_and_nothing_is_built() {
    let place = place();
    let results = place.results();
    let results = results.to_str().unwrap();
    let run = xtask(&place, &["run-matrix", CELL, "--metal", "emulated", "--results", results]);
    assert_eq!(run.code, Some(4), "nothing was tested: {run:#?}");
    assert!(words(&run.stdout).contains(NEEDS_NATIVE), "{run:#?}");
    let cells = fs::read_to_string(place.results().join("latest/verdicts.jsonl")).unwrap();
    let cell: serde_json::Value = serde_json::from_str(cells.lines().next().unwrap()).unwrap();
    assert_eq!((&cell["verdict"], &cell["not_yet_run"]), (&"skip".into(), &true.into()));
    assert_eq!(cell["skip_reasons"][0]["kind"], "emulated-metal");
    let built = fs::read_dir(place.path().join("cache/images")).map_or(0, Iterator::count);
    assert_eq!(built, 0);
}

#[rstest]
#[case::level("l1", "L1 has Windows, which boots from a disk, and only levels made of packages are exported")]
#[case::guest("l2", "the Windows around L2 starts it by `launch = \"hyper-v\"`, so it has no domain XML")]
fn a_level_of_such_a_stack_is_not_exported(#[case] level: &str, #[case] why: &str) {
    let run = xtask(&Place::new(), &["export-domain", CELL, "--level", level]);
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert!(run.stderr_words().contains(why), "{run:#?}");
}
