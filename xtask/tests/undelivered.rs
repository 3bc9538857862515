//! An archive that lists packages but does not have them: cells that don't need them boot, the others are skipped, and the
//! messages say so plainly. One test boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

use common::{Place, boots, checkout, copy_folder, of_recipes, scenarios, trials};
use nestmatrix_images::{Store, StoreOptions};

/// Longest wait for a command that boots one stack.
const ALL: Duration = Duration::from_secs(10 * 60);

/// It stops early: QEMU refuses to make L1's processor. Its stand-ins are Debian 11 and Debian 12.
const RHEL_8: &str = "rhel-8-nesting-off/amd/rhel-8.2+/rhel-8.2+/rhel-8.2+";
/// Its only stand-in is Debian 13.
const RHEL_10: &str = "rhel-10-ibm-z-huge-pages/ibm-z/rhel-10.0+";

/// `run-matrix` over these cells, without the packages of these recipes.
fn run_matrix(place: &Place, undelivered: &[&str], cells: &[&str]) -> Command {
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--cold"]).args(cells);
    with_archive(place, undelivered, command)
}

/// The command with its own cache. These recipes need packages that an archive lists but does not have, and that archive is the
/// only one.
fn with_archive(place: &Place, undelivered: &[&str], mut command: Command) -> Command {
    let recipes = place.path().join("recipes");
    copy_folder(&checkout().join("images/recipes"), &recipes);
    for recipe in undelivered {
        let path = recipes.join(format!("{recipe}.toml"));
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| match line.split(" = ").next() {
            Some("suites") => "suites = [\"main\"]",
            Some("install") => "install = [\"absent\"]",
            _ => line,
        });
        fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    }
    let folder = scenarios("undelivered").canonicalize().unwrap();
    command.arg("--recipes").arg(&recipes);
    command.env("NESTMATRIX_ARCHIVE", format!("file:{}", folder.join("archive").display()));
    command.env("NESTMATRIX_KEYRING", folder.join("keyring.asc"));
    command.env("NESTMATRIX_CACHE", place.path().join("cache"));
    command
}

/// A cache with the images of the usual one. Additions stay private.
fn with_images(place: &Place) {
    let usual = Store::open(StoreOptions::default()).unwrap();
    copy_folder(&usual.cache().join("refs"), &place.path().join("cache/refs"));
    symlink(usual.cache().join("images"), place.path().join("cache/images")).unwrap();
}

const ALL_OF_THEM: [&str; 5] =
    ["debian-11-amd64", "debian-12-amd64", "debian-13-s390x", "qemu-x86-amd64", "hercules-amd64"];

fn cells_whose_images_are_not_delivered_are_skipped_with_the_reason() {
    let place = Place::new();
    let run = place.finish(run_matrix(&place, &ALL_OF_THEM, &[RHEL_8, RHEL_10]), ALL);
    assert_eq!(run.code, Some(4), "nothing is tried: {run:#?}");
    for (cell, emulator) in [(RHEL_8, "qemu-x86-amd64"), (RHEL_10, "hercules-amd64")] {
        let reason = format!(
            "no image {emulator}: the archive lists a package of main that it cannot deliver (absent 1.0-1)"
        );
        let cell = run.cell(cell);
        assert_eq!((cell.text("verdict"), cell.text("symptom")), ("skip", reason.as_str()));
        let said = format!("{reason}; 1 cell is skipped");
        assert_eq!(run.stderr.matches(&said).count(), 1, "it is said once: {run:#?}");
    }
    assert!(!run.stderr.contains("Failed to fetch") && !run.stdout.contains("Failed to fetch"), "{run:#?}");
    let undelivered = run.record()["undelivered"].clone();
    assert_eq!(undelivered.as_array().unwrap().len(), 2, "no other image is needed then: {undelivered:#}");
    assert_eq!(undelivered[0]["packages"][0], "absent 1.0-1");
    assert!(
        undelivered[0]["output"].as_str().unwrap().contains("E: Failed to fetch file:/"),
        "{undelivered:#}"
    );
}

fn a_cell_that_must_run_and_has_no_image_is_an_error() {
    let place = Place::new();
    let mut command = run_matrix(&place, &ALL_OF_THEM, &[RHEL_8, RHEL_10]);
    command.args(["--deny-skip", RHEL_10]);
    let run = place.finish(command, ALL);
    assert_eq!(run.code, Some(3), "{run:#?}");
    let cell = run.cell(RHEL_10);
    assert_eq!(cell.text("verdict"), "error");
    assert!(
        cell.text("symptom").starts_with("it must run here but can't: no image hercules-amd64: the archive")
    );
    assert_eq!(run.cell(RHEL_8).text("verdict"), "skip");
}

fn an_archive_that_is_not_there_is_an_error() {
    let place = Place::new();
    let mut command = run_matrix(&place, &ALL_OF_THEM, &[RHEL_10]);
    command.env("NESTMATRIX_ARCHIVE", format!("file:{}", place.path().display()));
    let run = place.finish(command, ALL);
    assert_eq!(run.code, Some(3), "{run:#?}");
    assert_eq!(run.cell(RHEL_10).text("verdict"), "error");
    assert_eq!(run.record()["undelivered"].as_array().unwrap().len(), 0);
}

fn every_image_that_is_asked_for_is_tried_and_those_that_are_not_delivered_are_named() {
    let place = Place::new();
    let mut command = place.xtask();
    command.arg("images");
    let mut command = with_archive(&place, &ALL_OF_THEM, command);
    command.args(["build", "debian-11-amd64", "hercules-amd64"]);
    let run = place.finish(command, ALL);
    assert_eq!(run.code, Some(3), "{run:#?}");
    let why = "the archive lists a package of main that it cannot deliver (absent 1.0-1)";
    for recipe in ["debian-11-amd64", "hercules-amd64"] {
        assert!(run.stderr_words().contains(&format!("no image {recipe}: {why}")), "{run:#?}");
    }
    assert!(run.stderr_words().contains("not built: debian-11-amd64, hercules-amd64; try again"), "{run:#?}");
}

fn another_stand_in_is_booted_and_a_run_that_is_otherwise_as_expected_ends_with_0() {
    let _guard = boots(&of_recipes(&["debian-12-amd64", "qemu-x86-amd64", "hercules-amd64"]));
    let place = Place::new();
    with_images(&place);
    let undelivered = ["debian-11-amd64", "debian-13-s390x"];
    let run = place.finish(run_matrix(&place, &undelivered, &[RHEL_8, RHEL_10]), ALL);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let cell = run.cell(RHEL_8);
    assert_eq!(cell.text("verdict"), "xfail", "{:#}", cell.record);
    let l0 = &cell.record["levels"][0];
    assert_eq!((&l0["os"], &l0["image"]["recipe"]), (&"debian-12".into(), &"debian-12-amd64".into()));
    let reason = l0["fidelity_reason"].as_str().unwrap();
    assert!(
        reason.ends_with(
            "; used because there is no image debian-11-amd64: the archive lists a package of main that it cannot deliver \
             (absent 1.0-1)"
        ),
        "{reason}"
    );
    assert!(run.stderr.contains("(absent 1.0-1); 1 cell boots another image"), "{run:#?}");
    let skipped = run.cell(RHEL_10);
    assert_eq!(skipped.text("verdict"), "skip");
    assert!(
        skipped.text("symptom").starts_with("no image debian-13-s390x: the archive"),
        "{:#}",
        skipped.record
    );
}

trials! {
    cells_whose_images_are_not_delivered_are_skipped_with_the_reason;
    a_cell_that_must_run_and_has_no_image_is_an_error;
    an_archive_that_is_not_there_is_an_error;
    every_image_that_is_asked_for_is_tried_and_those_that_are_not_delivered_are_named;
    another_stand_in_is_booted_and_a_run_that_is_otherwise_as_expected_ends_with_0;
}
