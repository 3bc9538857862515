//! Results from another machine, such as the artifact of a CI job: their records and links must never make a command read,
//! write or remove a file outside them. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Place, Run, copy_folder};
use rstest::rstest;
use serde_json::{Value, json};

/// Longest wait for a command that boots nothing.
const SOON: Duration = Duration::from_secs(60);

const CELL: &str = "rhel-9-preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2+";
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n";

/// A folder of results with a run whose cell has a script and a console, and a private file next to that folder.
struct Foreign {
    place: Place,
    run: PathBuf,
    private: PathBuf,
}

impl Foreign {
    fn new() -> Self {
        let place = Place::new();
        let skipping =
            ["run-matrix", "rhel-9-preview/amd/*", "--metal", "emulated", "--deny-stand-ins", "--results"];
        let mut command = place.xtask();
        command.env("NESTMATRIX_CACHE", place.path().join("cache")).args(skipping).arg(place.results());
        assert_eq!(place.finish(command, SOON).code, Some(4));
        let run = place.results().join("latest").canonicalize().unwrap();
        let private = place.path().join("home/private");
        fs::create_dir(place.path().join("home")).unwrap();
        fs::write(&private, PRIVATE).unwrap();
        let foreign = Self { place, run, private };
        fs::create_dir_all(foreign.of_cell()).unwrap();
        fs::write(foreign.of_cell().join("reproduce.sh"), "true\n").unwrap();
        fs::write(foreign.of_cell().join("L0.console.log"), "said\n").unwrap();
        foreign.change_record(|record| record["folder"] = format!("cells/{CELL}").into());
        foreign
    }

    fn of_cell(&self) -> PathBuf {
        self.run.join("cells").join(CELL)
    }

    fn change_record(&self, change: impl Fn(&mut Value)) {
        let path = self.run.join("verdicts.jsonl");
        let change = |line: &str| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            if record["cell"] == CELL {
                change(&mut record);
            }
            format!("{record}\n")
        };
        let text: String = fs::read_to_string(&path).unwrap().lines().map(change).collect();
        fs::write(path, text).unwrap();
    }

    fn xtask(&self, arguments: &[&str]) -> Run {
        let mut command = self.place.xtask();
        command.env("NESTMATRIX_CACHE", self.place.path().join("cache")).args(arguments);
        let run = self.place.finish(command, SOON);
        assert_eq!(fs::read_to_string(&self.private).unwrap(), PRIVATE, "the private file has changed");
        for said in [&run.stdout, &run.stderr] {
            assert!(!said.contains("PRIVATE KEY"), "{said}");
        }
        run
    }

    fn bundle(&self) -> Run {
        self.xtask(&["repro", CELL, "--bundle", "--output", "bundle.tar.zst", "--results", "results"])
    }

    /// The contents of the bundle, by names without their first part.
    fn bundled(&self) -> BTreeMap<String, String> {
        let packed = fs::File::open(self.place.path().join("bundle.tar.zst")).unwrap();
        let mut archive = tar::Archive::new(zstd::Decoder::new(packed).unwrap());
        let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().components().skip(1).collect::<PathBuf>().display().to_string();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            (name, content)
        };
        archive.entries().unwrap().map(read).collect()
    }
}

#[test]
fn a_bundle_has_no_file_that_a_link_in_the_run_points_to() {
    let foreign = Foreign::new();
    symlink(&foreign.private, foreign.of_cell().join("L0.dmesg")).unwrap();
    symlink(foreign.private.parent().unwrap(), foreign.of_cell().join("attempt-1")).unwrap();
    symlink(".", foreign.of_cell().join("again")).unwrap();
    let run = foreign.bundle();
    assert_eq!(run.code, Some(0), "{run:#?}");
    let bundled = foreign.bundled();
    let leaked: Vec<_> = bundled.iter().filter(|(_, content)| content.contains("PRIVATE KEY")).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
    let names: Vec<&str> = bundled.keys().map(String::as_str).collect();
    assert_eq!(names, ["record/L0.console.log", "record/cell.json", "record/run.json", "reproduce.sh"]);
    for name in ["L0.dmesg", "attempt-1", "again"] {
        assert!(run.stderr.contains(&format!("left out: {name} (a symbolic link)")), "{}", run.stderr);
    }
}

#[test]
fn a_script_that_is_a_link_is_not_bundled() {
    let foreign = Foreign::new();
    fs::remove_file(foreign.of_cell().join("reproduce.sh")).unwrap();
    symlink(&foreign.private, foreign.of_cell().join("reproduce.sh")).unwrap();
    let run = foreign.bundle();
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert!(run.stderr_words().contains("reproduce.sh is or contains a symbolic link"), "{}", run.stderr);
    assert!(!foreign.place.path().join("bundle.tar.zst").exists());
}

#[test]
fn an_image_can_not_lead_out_of_the_folder_in_which_a_bundle_is_unpacked() {
    let foreign = Foreign::new();
    let recipe = "x/../../../home";
    foreign.change_record(|record| {
        record["emulator"] = json!({"recipe": recipe, "product": "emulator", "digest": "0".repeat(64)});
    });
    let run = foreign.bundle();
    assert_eq!(run.code, Some(2), "{run:#?}");
    assert!(run.stderr_words().contains("is not the name of an image"), "{}", run.stderr);
}

/// A level of a record that booted this image.
fn level(image: &Value) -> Value {
    json!({
        "level": "l0", "required": "RHEL 9", "os": "rhel-9.4-disk", "image": image, "fidelity": "product", "fidelity_reason": null,
        "kernel": null, "qemu": null, "machine": null, "cpu": null, "nested": null, "missing_features": [], "loops": null,
        "last_lines": [],
    })
}

#[test]
fn a_vendors_disk_is_never_bundled_and_is_named_with_its_digest() {
    let foreign = Foreign::new();
    let image = json!({"recipe": "rhel-9.4-disk-amd64", "product": "disk", "digest": "d".repeat(64)});
    let medium = json!({
        "medium": "rhel-9.4", "medium_sha256": "5".repeat(64), "system": "rhel 9.4", "kernel": "5.14.0", "qemu": null,
        "changes": ["masked kdump.service"],
    });
    foreign.change_record(|record| {
        let mut level = level(&image);
        level["disk"] = medium.clone();
        record["levels"] = json!([level]);
    });
    // The cache does not even have the image.
    let run = foreign.bundle();
    assert_eq!(run.code, Some(0), "{run:#?}");
    let said = format!(
        "left out: the disk of L0, rhel-9.4-disk-amd64-disk (medium rhel-9.4, SHA-256 {}, prepared with 1 change)",
        "5".repeat(64)
    );
    assert!(run.stderr.contains(&said), "{}", run.stderr);
    assert!(
        run.stdout.contains("reproduce.sh in it describes the stack; without the disk, it can't be run"),
        "{run:#?}"
    );
    let bundled = foreign.bundled();
    assert!(bundled.keys().all(|name| !name.starts_with("images/")), "{bundled:#?}");
    assert!(bundled["record/cell.json"].contains(&"5".repeat(64)));
}

#[test]
fn a_record_can_not_pass_a_disk_in_the_cache_off_as_another_image() {
    let foreign = Foreign::new();
    let digest = "d".repeat(64);
    let folder = foreign.place.path().join("cache/images").join(&digest);
    fs::create_dir_all(&folder).unwrap();
    let medium = foreign.place.path().join("medium.img");
    fs::write(&medium, "disk").unwrap();
    let data = fs::metadata(&medium).unwrap();
    let modified = data.mtime() * 1_000_000_000 + data.mtime_nsec();
    let zeros = "0".repeat(64);
    let record = format!(
        "format = 3\nname = \"rhel-9.4-disk-amd64\"\nproduct = \"disk\"\narchitecture = \"amd64\"\nrecipe_sha256 = {zeros:?}\n\
         resolved = 0\narchive = \"\"\nsuites = []\nfiles = []\npackages = []\n[disk]\ncommand-channel = \"agent\"\n\
         [disk.hardware]\nfirmware = \"default\"\nmemory-mib = 1\ncpus = 1\nbus = \"virtio\"\n[disk.medium]\n\
         name = \"rhel-9.4\"\nfile = {medium:?}\nformat = \"raw\"\nsha256 = {zeros:?}\nsize = 4\nmodified = {modified}\n\
         virtual-size = 4\n"
    );
    fs::write(folder.join("image.toml"), record).unwrap();
    let image = json!({"recipe": "debian-13-amd64", "product": "hypervisor", "digest": digest});
    foreign.change_record(|record| record["levels"] = json!([level(&image)]));
    let run = foreign.bundle();
    assert_eq!(run.code, Some(2), "{run:#?}");
    let said = "the record takes rhel-9.4-disk-amd64 for another image, but it is a disk";
    assert!(run.stderr_words().contains(said), "{}", run.stderr);
    assert!(!foreign.place.path().join("bundle.tar.zst").exists());
}

#[rstest]
#[case::upwards("../../home")]
#[case::absolute("/etc")]
#[case::empty("")]
fn a_cell_whose_folder_is_outside_its_run_is_refused_by_every_command(#[case] folder: &str) {
    let foreign = Foreign::new();
    foreign.change_record(|record| record["folder"] = folder.into());
    for arguments in [
        &["repro", CELL, "--bundle", "--results", "results"][..],
        &["report", "--format", "junit", "--results", "results"],
        &["report", "--format", "html", "--results", "results"],
        &["trace", "--results", "results"],
        &["merge", "results/latest", "--results", "merged"],
        &["diff", "latest", "latest", "--results", "results"],
        &["run-matrix", "--resume", "latest", "--results", "results"],
    ] {
        let run = foreign.xtask(arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}: {run:#?}");
        let why = "is not a folder inside a run's";
        assert!(run.stderr_words().contains(why), "{arguments:?}: {}", run.stderr);
    }
    // A history takes in what it can.
    let history = foreign.xtask(&["history", "*", "--rebuild", "--results", "results"]);
    assert!(history.stderr.contains("not in the history: "), "{history:#?}");
}

#[rstest]
#[case::run("run.json")]
#[case::verdicts("verdicts.jsonl")]
#[case::cells("cells.txt")]
fn records_that_are_links_are_not_read(#[case] file: &str) {
    let foreign = Foreign::new();
    let moved = foreign.place.path().join("home").join(file);
    fs::rename(foreign.run.join(file), &moved).unwrap();
    symlink(&moved, foreign.run.join(file)).unwrap();
    let before = fs::read(&moved).unwrap();
    for arguments in [
        &["repro", CELL, "--bundle", "--results", "results"][..],
        &["report", "--results", "results"],
        &["trace", "--results", "results"],
        &["merge", "results/latest", "--results", "merged"],
        &["run-matrix", "--resume", "latest", "--results", "results"],
    ] {
        let run = foreign.xtask(arguments);
        assert!(matches!(run.code, Some(2 | 3)), "{arguments:?}: {run:#?}");
    }
    assert_eq!(fs::read(&moved).unwrap(), before);
}

#[rstest]
#[case::cells("cells")]
#[case::scenario("cells/rhel-9-preview")]
fn a_run_that_is_resumed_removes_and_makes_nothing_outside(#[case] linked: &str) {
    let foreign = Foreign::new();
    // The run was interrupted before the other cell had a verdict; its files so far are removed.
    let verdicts = foreign.run.join("verdicts.jsonl");
    let text = fs::read_to_string(&verdicts).unwrap();
    let kept: String =
        text.lines().filter(|line| line.contains(CELL)).map(|line| format!("{line}\n")).collect();
    fs::write(&verdicts, kept).unwrap();
    let path = foreign.run.join("run.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    record["ended"] = json!(null);
    fs::write(&path, record.to_string()).unwrap();
    let planned = fs::read_to_string(foreign.run.join("cells.txt")).unwrap();
    let other = planned.lines().find(|name| *name != CELL).unwrap();

    let outside = foreign.place.path().join("home/outside");
    copy_folder(&foreign.run.join(linked), &outside);
    let relative = Path::new("cells").join(other);
    let precious = outside.join(relative.strip_prefix(linked).unwrap());
    fs::create_dir_all(&precious).unwrap();
    fs::write(precious.join("thesis"), "precious").unwrap();
    fs::remove_dir_all(foreign.run.join(linked)).unwrap();
    symlink(&outside, foreign.run.join(linked)).unwrap();

    let run = foreign.xtask(&["run-matrix", "--resume", "latest", "--results", "results"]);
    assert_eq!(run.code, Some(3), "{run:#?}");
    assert!(run.stderr_words().contains("a symbolic link"), "{}", run.stderr);
    assert_eq!(fs::read_to_string(precious.join("thesis")).unwrap(), "precious");
}

#[test]
fn what_a_command_writes_into_a_run_replaces_links_and_follows_none() {
    let foreign = Foreign::new();
    for name in ["report.html", "trace.json"] {
        symlink(&foreign.private, foreign.run.join(name)).unwrap();
    }
    for command in [&["report", "--format", "html"][..], &["trace"]] {
        let run = foreign.xtask(&[command, &["--results", "results"]].concat());
        assert_eq!(run.code, Some(0), "{run:#?}");
    }
    for name in ["report.html", "trace.json"] {
        assert!(fs::symlink_metadata(foreign.run.join(name)).unwrap().is_file(), "{name}");
    }
}

#[test]
fn a_latest_that_leads_out_of_the_results_is_not_followed() {
    let foreign = Foreign::new();
    let latest = foreign.place.results().join("latest");
    let elsewhere = foreign.place.path().join("home/run");
    copy_folder(&foreign.run, &elsewhere);
    fs::remove_file(&latest).unwrap();
    for target in [elsewhere.as_path(), Path::new("../home/run")] {
        symlink(target, &latest).unwrap();
        let run = foreign.xtask(&["report", "--results", "results"]);
        assert_eq!(run.code, Some(2), "{run:#?}");
        assert!(
            run.stderr_words().contains("is a link that leads out of its folder of runs"),
            "{}",
            run.stderr
        );
        fs::remove_file(&latest).unwrap();
    }
}

#[test]
fn a_history_that_is_a_link_is_not_written_through() {
    let foreign = Foreign::new();
    let history = foreign.place.results().join("history.sqlite3");
    let moved = foreign.place.path().join("home/history.sqlite3");
    fs::rename(&history, &moved).unwrap();
    symlink(&moved, &history).unwrap();
    let before = fs::read(&moved).unwrap();
    let run = foreign.xtask(&["history", "*", "--results", "results"]);
    assert!(run.stderr.contains("it is a symbolic link, which is not followed"), "{run:#?}");
    assert_eq!(fs::read(&moved).unwrap(), before);
}
