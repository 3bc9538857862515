//! The command `media` from outside: what it prints, its errors word by word, and its exit codes. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::path::Programs;
use common::{Place, Run, checkout, trials};
use nestmatrix_images::find_program;
use trials::ignore;

/// Longest wait for a command.
const SOON: Duration = Duration::from_secs(60);

/// The SHA-256 of the disk here.
const SHA256: &str = "a3f6f0a9ec4d0b1b8a2d6c6f9a1e6b1c2d3e4f5061728394a5b6c7d8e9fa0b1c";

struct User {
    place: Place,
}

impl User {
    fn new() -> Self {
        if find_program("qemu-img").is_none() {
            ignore("this machine has no qemu-img");
        }
        Self { place: Place::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.xtask();
        command.env("NESTMATRIX_CACHE", self.path("cache")).arg("media").args(arguments);
        if !matches!(arguments, ["check" | "remove", ..]) {
            command.arg("--recipes").arg(checkout().join("images/recipes"));
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.place.finish(self.command(arguments), SOON)
    }

    /// Another command, with the scenarios and recipes of this project.
    fn other(&self, arguments: &[&str]) -> Run {
        let mut command = self.place.xtask();
        command.env("NESTMATRIX_CACHE", self.path("cache")).args(arguments);
        command.arg("--recipes").arg(checkout().join("images/recipes"));
        command.arg("--scenarios").arg(checkout().join("scenarios"));
        self.place.finish(command, SOON)
    }

    /// A raw disk, with an MBR and one sector of these bytes.
    fn write_disk(&self, name: &str, byte: u8) {
        let file = File::create(self.path(name)).unwrap();
        file.set_len(4 << 20).unwrap();
        file.write_all_at(&[0x55, 0xaa], 510).unwrap();
        file.write_all_at(&[byte; 512], 1 << 20).unwrap();
    }

    /// What was printed, with the place's path and the time left out.
    fn said(&self, runs: &[Run]) -> String {
        let mut said = String::new();
        for run in runs {
            said.push_str(&format!("exit code {:?}\n{}", run.code.unwrap(), run.stdout));
            if !run.stderr.is_empty() {
                said.push_str(&format!("stderr:\n{}", run.stderr_words()));
            }
            said.push_str("\n----\n");
        }
        said.replace(&self.place.path().display().to_string(), "PLACE")
    }
}

fn a_medium_is_added_listed_shown_checked_and_removed() {
    let user = User::new();
    user.write_disk("rhel.img", 1);
    let runs = [
        &["list"][..],
        &["add", "rhel-9.4", "rhel.img", "--architecture", "amd64"],
        &["add", "rhel-7.9", "rhel.img", "--architecture", "amd64"],
        &["list"],
        &["show", "rhel-9.4"],
        &["check"],
        &["remove", "rhel-9.4", "--architecture", "arm64"],
        &["remove", "rhel-9.4"],
        &["show", "rhel-9.4"],
        &["remove", "rhel-7.9"],
        &["check", "rhel-7.9"],
    ]
    .map(|words| user.run(words));
    insta::assert_snapshot!("media", user.said(&runs));
    assert!(user.path("rhel.img").exists());
}

fn a_medium_that_changed_is_reported() {
    let user = User::new();
    user.write_disk("rhel.img", 1);
    assert_eq!(user.run(&["add", "rhel-9.4", "rhel.img", "--architecture", "amd64"]).code, Some(0));
    user.write_disk("rhel.img", 2);
    let changed = [user.run(&["check"]), user.run(&["show", "rhel-9.4"])];
    fs::remove_file(user.path("rhel.img")).unwrap();
    let gone = user.run(&["check", "rhel-9.4"]);
    let [first, second] = changed;
    insta::assert_snapshot!("media_changed", user.said(&[first, second, gone]));
}

/// The lines from the first one that begins with `start` to the next empty one.
fn part<'t>(text: &'t str, start: &str) -> Vec<&'t str> {
    text.lines().skip_while(|line| !line.starts_with(start)).take_while(|line| !line.is_empty()).collect()
}

fn every_command_names_a_medium_that_is_gone_and_none_is_stopped_by_it() {
    let user = User::new();
    user.write_disk("rhel.img", 1);
    assert_eq!(user.run(&["add", "rhel-9.4", "rhel.img", "--architecture", "amd64"]).code, Some(0));
    fs::remove_file(user.path("rhel.img")).unwrap();
    let cell = "rhel-9-preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2+";
    let list = user.other(&["list", cell]);
    let images = user.other(&["list", cell, "--images"]);
    let doctor = user.other(&["doctor", cell, "--metal", "emulated"]);
    let ci = user.other(&["ci-matrix", cell, "--runner", "emulated"]);
    assert_eq!([list.code, images.code, doctor.code, ci.code], [Some(0); 4], "{list:#?} {doctor:#?} {ci:#?}");
    assert!(list.stdout.contains("debian-12*  debian-12*  debian-12*"), "{list:#?}");
    let said = [
        part(&list.stdout, "disks:"),
        part(&images.stdout, "rhel-9.4-disk"),
        part(&doctor.stdout, "media"),
        vec![ci.stderr.as_str()],
    ];
    let said: Vec<String> = said.iter().map(|part| part.join("\n")).collect();
    insta::assert_snapshot!(
        "media_gone",
        said.join("\n----\n").replace(&user.place.path().display().to_string(), "PLACE")
    );
    assert_eq!(user.run(&["prepare"]).code, Some(2));
}

fn the_doctor_and_the_lists_say_what_a_medium_is_good_for() {
    let user = User::new();
    user.write_disk("rhel.img", 1);
    for name in ["rhel-9.4", "rhel-7.9"] {
        assert_eq!(user.run(&["add", name, "rhel.img", "--architecture", "amd64"]).code, Some(0));
    }
    let cells = "rhel-9-preview/amd/*";
    let doctor = user.other(&["doctor", cells, "--metal", "emulated"]);
    let images = user.other(&["list", cells, "--images"]);
    let json = user.other(&["list", cells, "--images", "--format", "json"]);
    let row = json.stdout.lines().find(|line| line.contains("rhel-9.4-disk")).unwrap();
    let row: serde_json::Value = serde_json::from_str(row).unwrap();
    assert_eq!(row["medium"]["preparation"], "not prepared");
    assert_eq!(row["medium"]["remedy"], "cargo xtask sources add rhel-9.4 --dvd FILE");
    assert_eq!(row["cells-with-stand-ins"].as_array().unwrap().len(), 2);
    let text = user.other(&["doctor", cells, "--metal", "emulated", "--format", "json"]).stdout;
    let checkup: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(checkup["media"][0]["check"], "media");
    assert_eq!(checkup["documented"]["media-with-stand-ins"], 2);
    let ci = user.other(&["ci-matrix", cells, "--runner", "emulated"]);
    assert!(
        ci.stderr.contains("planned with the media of this machine (rhel-9.4); runners without them"),
        "{ci:#?}"
    );
    let images_text: Vec<&str> = images.stdout.lines().skip_while(|line| !line.starts_with("rhel")).collect();
    let said = [part(&doctor.stdout, "media"), part(&doctor.stdout, "0 of 4"), images_text];
    let said: Vec<String> = said.iter().map(|part| part.join("\n")).collect();
    insta::assert_snapshot!(
        "media_use",
        said.join("\n----\n").replace(&user.place.path().display().to_string(), "PLACE")
    );
}

fn wrong_files_are_refused_word_by_word() {
    let user = User::new();
    user.write_disk("disk.img", 1);
    fs::write(user.path("notes.txt"), "notes\n").unwrap();
    fs::write(user.path("empty.img"), "").unwrap();
    fs::write(user.path("disk.qcow2.xz"), b"\xfd7zXZ\0\0").unwrap();
    let overlay = user.path("overlay.qcow2");
    let mut make = Command::new("qemu-img");
    make.args(["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow"])
        .arg(&overlay)
        .arg("4M");
    assert!(make.status().unwrap().success());
    let cut = user.path("cut.qcow2");
    let mut make = Command::new("qemu-img");
    make.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(user.path("disk.img")).arg(&cut);
    assert!(make.status().unwrap().success());
    File::options().write(true).open(&cut).unwrap().set_len(200_000).unwrap();
    let add = |name, file| user.run(&["add", name, file, "--architecture", "amd64"]);
    let runs = [
        add("rhel", "disk.img"),
        add("rhel-9.4", "absent.img"),
        add("rhel-9.4", "."),
        add("rhel-9.4", "empty.img"),
        add("rhel-9.4", "notes.txt"),
        add("rhel-9.4", "disk.qcow2.xz"),
        add("rhel-9.4", "overlay.qcow2"),
        add("rhel-9.4", "cut.qcow2"),
        user.run(&["add", "rhel-9.4", "disk.img", "--sha256", SHA256]),
        user.run(&["add", "rhel-9.4", "disk.img", "--sha256", "1234"]),
        user.run(&["list"]),
    ];
    insta::assert_snapshot!("media_refused", user.said(&runs));
}

fn a_machine_without_qemu_img_says_what_to_install() {
    let user = User { place: Place::new() };
    user.write_disk("disk.img", 1);
    let programs = Programs::new(&user.path("programs"), &[]);
    let mut command = user.command(&["add", "rhel-9.4", "disk.img"]);
    command.env("PATH", programs.folder());
    let run = user.place.finish(command, SOON);
    assert_eq!(run.code, Some(3), "{run:#?}");
    assert!(
        run.stderr_words().contains(
            "cannot start qemu-img, which reads disk images; install qemu-utils (Debian) or qemu-img (Fedora and RHEL)"
        ),
        "{run:#?}"
    );
}

trials! {
    a_medium_is_added_listed_shown_checked_and_removed;
    a_medium_that_changed_is_reported;
    every_command_names_a_medium_that_is_gone_and_none_is_stopped_by_it;
    the_doctor_and_the_lists_say_what_a_medium_is_good_for;
    wrong_files_are_refused_word_by_word;
    a_machine_without_qemu_img_says_what_to_install;
}
