//! A matrix on packages like the vendor's: sources are added on the command line, from a DVD image and from repositories, and whole
//! stacks boot with the kernel, KVM and QEMU of RPM packages. They are Debian's files, divided and signed as RHEL's
//! (tests/rpm-repository). Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::trials::ignore;
use common::{Boots, Cell, Place, trials};
use nestmatrix_images::{Error, Store, StoreOptions};
use nestmatrix_rpm_repository::{Part, Repository, unavailable};

/// Longest wait for all stacks of a run.
const ALL: Duration = Duration::from_secs(30 * 60);

/// Longest wait for a command that boots nothing.
const SHORT: Duration = Duration::from_secs(5 * 60);

/// Each level of a cell of this scenario on AMD is RHEL 8 or RHEL 9.
const CELLS: &str = "rhel-9-preview/amd/*";
/// One of them, with both.
const ONE: &str = "rhel-9-preview/amd/rhel-9.2+/rhel-8.8+/rhel-9.2+";

/// The repository, or the end of a test that can't have it.
fn repository(store: &Store) -> Arc<Repository> {
    if let Some(reason) = unavailable() {
        ignore(&reason);
    }
    Repository::shared(store).unwrap_or_else(undelivered)
}

fn undelivered<T>(error: nestmatrix_rpm_repository::Error) -> T {
    match error {
        nestmatrix_rpm_repository::Error::Image(Error::Undelivered(packages)) => {
            ignore(&packages.to_string())
        }
        other => panic!("{other}"),
    }
}

/// The command line with a private cache: these images have names of the vendor's, and no other run may find them. Downloaded
/// packages are shared.
fn in_own_cache(place: &Place, mut command: Command) -> Command {
    let cache = place.path().join("cache");
    if !cache.exists() {
        let shared = Store::open(StoreOptions::default()).unwrap().cache().join("packages");
        fs::create_dir(&cache).unwrap();
        symlink(shared, cache.join("packages")).unwrap();
    }
    command.env("NESTMATRIX_CACHE", cache);
    command
}

fn xtask(place: &Place, words: &[&str]) -> Command {
    let mut command = in_own_cache(place, place.xtask());
    command.args(words);
    command
}

/// `sources add` with these words.
fn add(place: &Place, words: &[&str]) -> Command {
    let mut command = xtask(place, &["sources", "add"]);
    command.args(words);
    command
}

/// Adds the repository as RHEL 9.4, from a DVD image, and as RHEL 8.10, from its addresses.
fn add_sources(place: &Place, store: &Store, repository: &Repository) {
    let dvd: PathBuf = place.path().join("rhel-9.4.iso");
    repository.write_iso(store, &dvd).unwrap_or_else(undelivered);
    let added = place.finish(add(place, &["rhel-9.4", "--dvd", dvd.to_str().unwrap()]), SHORT);
    assert_eq!(added.code, Some(0), "{added:#?}");
    assert!(added.stdout.contains("recipe rhel-9.4-amd64"), "{added:#?}");
    let urls = Part::ALL.map(|part| format!("file://{}", repository.part(part).display()));
    let key = repository.key();
    let key = key.to_str().unwrap();
    let words = ["rhel-8.10", "--url", &urls[0], "--url", &urls[1], "--key", key, "--architecture", "amd64"];
    let added = place.finish(add(place, &words), SHORT);
    assert_eq!(added.code, Some(0), "{added:#?}");
}

fn versions(cell: &Cell, fact: &str) -> Vec<String> {
    let levels = cell.record["levels"].as_array().unwrap();
    levels.iter().map(|level| level[fact].as_str().unwrap_or("-").to_owned()).collect()
}

fn cells_run_on_the_vendors_packages(glob: &str, count: usize) {
    let _guard = Boots::begin();
    let place = Place::new();
    let store = Store::open(StoreOptions::default()).unwrap();
    let repository = repository(&store);
    add_sources(&place, &store, &repository);

    let checked = place.finish(xtask(&place, &["sources", "check"]), SHORT);
    assert_eq!(checked.code, Some(0), "{checked:#?}");
    assert_eq!(checked.stdout.matches(": ok; it lists").count(), 2, "{checked:#?}");

    let mut command = in_own_cache(&place, place.run_matrix());
    // Neither stand-ins nor rebuilds: whatever runs is the product.
    command.args(["--metal", "emulated", "--deny-stand-ins", "--deny-rebuilds", glob]);
    let run = place.finish(command, ALL).keep("vendor-packages");
    let cells = run.cells();
    assert_eq!(cells.len(), count, "{run:#?}");
    for cell in &cells {
        let name = cell.text("cell");
        assert_eq!(cell.text("verdict"), "pass", "{name}: {:#}", cell.record);
        assert_eq!(versions(cell, "fidelity"), ["product"; 3], "{name}");
        assert_eq!(versions(cell, "os")[0], "rhel-9.4", "{name}");
        assert!(cell.record["evidence"]["nonce"].is_string(), "{name}");
        // RHEL's QEMU has no microvm.
        assert!(versions(cell, "machine")[2].starts_with("pc-"), "{name}: {:?}", versions(cell, "machine"));
    }
    assert!(!run.stdout.contains('*') && !run.stdout.contains('~'), "no mark: {}", run.stdout);
    assert_eq!(run.code, Some(0), "{run:#?}");
}

fn a_source_that_is_gone_fails_the_run_before_anything_boots() {
    let _guard = Boots::begin();
    let place = Place::new();
    let store = Store::open(StoreOptions::default()).unwrap();
    let repository = repository(&store);
    let key = repository.key();
    let gone = format!("file://{}", place.path().join("gone").display());
    let words = ["rhel-9.6", "--url", &gone, "--key", key.to_str().unwrap(), "--architecture", "amd64"];
    let added = place.finish(add(&place, &words), SHORT);
    assert_eq!(added.code, Some(0), "{added:#?}");
    let mut command = in_own_cache(&place, place.run_matrix());
    command.args([
        "--metal",
        "emulated",
        "--deny-stand-ins",
        "rhel-9-preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2+",
    ]);
    let run = place.finish(command, SHORT);
    assert_eq!(run.code, Some(3), "{run:#?}");
    let said = run.stderr_words();
    assert!(said.contains("source rhel-9.6 cannot be read"), "{said}");
    assert!(said.contains("sources list"), "{said}");
}

trials! {
    cells_run_on_the_vendors_packages { one(ONE, 1) };
    #[ignore = "boots three more stacks"]
    cells_run_on_the_vendors_packages { all(CELLS, 4) };
    a_source_that_is_gone_fails_the_run_before_anything_boots;
}
