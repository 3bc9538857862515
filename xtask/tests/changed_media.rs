//! The file of a medium changes, shrinks or goes away after it was added, or its prepared image is damaged: commands and runs say so, and
//! boot nothing. The disks here need no preparation.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::disks::{MediaUser, without_preparation};
use common::trials::ignore;
use common::{Run, of_recipes, require, scenarios, trials};
use nestmatrix_images::find_program;

/// Longest wait for a command.
const SOON: Duration = Duration::from_secs(120);

const NAME: &str = "debian-13";

struct User {
    user: MediaUser,
    file: PathBuf,
}

impl User {
    /// A user who has added a disk.
    fn new() -> Self {
        if find_program("qemu-img").is_none() {
            ignore("this machine has no qemu-img");
        }
        require(&of_recipes(&["debian-13-amd64", "qemu-x86-amd64"]));
        let user = MediaUser::with_recipe(without_preparation);
        let file = user.path("disk.img");
        write_disk(&file, 1);
        user.add(NAME, &file);
        Self { user, file }
    }

    fn run(&self, arguments: &[&str]) -> Run {
        self.user.place.finish(self.user.media(arguments), SOON)
    }

    fn prepare(&self) -> Run {
        self.run(&["prepare", NAME])
    }

    fn prepared(self) -> Self {
        let prepared = self.prepare();
        assert_eq!(prepared.code, Some(0), "{prepared:#?}");
        self
    }

    fn run_matrix(&self) -> Run {
        let mut command = self.user.run_matrix(&scenarios("vendor-disks"));
        command.arg("disk-at-l1/*");
        self.user.place.finish(command, SOON)
    }
}

/// A raw disk of 4 MiB with an MBR and this byte.
fn write_disk(path: &Path, byte: u8) {
    let file = File::create(path).unwrap();
    file.set_len(4 << 20).unwrap();
    file.write_all_at(&[0x55, 0xaa], 510).unwrap();
    file.write_all_at(&[byte; 512], 1 << 20).unwrap();
}

fn other_contents(path: &Path) {
    write_disk(path, 2);
}

fn shorter(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(2 << 20).unwrap();
}

fn gone(path: &Path) {
    fs::remove_file(path).unwrap();
}

fn a_folder(path: &Path) {
    gone(path);
    fs::create_dir(path).unwrap();
}

/// Before and after it was prepared. Whatever its size and time show is known before anything runs, so that the cell is skipped.
fn a_medium_that_is_not_as_it_was_added_is_not_used(change: fn(&Path), verdict: &str, expected: &str) {
    for user in [User::new(), User::new().prepared()] {
        change(&user.file);
        let expected = format!("can't be used: {}: {expected}", user.file.display());
        let prepared = user.prepare();
        assert_eq!(prepared.code, Some(2), "{prepared:#?}");
        let words = prepared.stderr_words();
        assert!(words.contains(&format!("the medium debian-13 {expected}")), "{expected:?} in {words}");
        let run = user.run_matrix();
        assert_eq!(run.code, Some(if verdict == "skip" { 4 } else { 3 }), "{run:#?}");
        let cell = run.cell("disk-at-l1");
        assert_eq!(cell.text("verdict"), verdict, "{:#}", cell.record);
        let why = cell.text("symptom");
        assert!(why.contains("the medium debian-13") && why.contains(&expected), "{expected:?} in {why}");
        assert!(!cell.stages().contains(&"l0-launch"), "{:#}", cell.record);
    }
}

fn a_medium_with_another_time_alone_is_read_once_and_used() {
    let user = User::new().prepared();
    let shown = user.run(&["show", NAME]).stdout;
    let file = File::options().write(true).open(&user.file).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    for _ in 0..2 {
        let prepared = user.prepare();
        assert_eq!(prepared.code, Some(0), "{prepared:#?}");
        assert_eq!(user.run(&["show", NAME]).stdout, shown);
    }
}

fn a_damaged_image_is_reported_and_made_again(damage: fn(&Path), expected: &str) {
    let user = User::new().prepared();
    let image = user.user.prepared().remove(0);
    let before = fs::read(image.join("disk.qcow2")).unwrap();
    damage(&image);
    let again = user.prepare();
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert!(again.stderr_words().contains(expected), "{again:#?}");
    assert_eq!(fs::read(image.join("disk.qcow2")).unwrap(), before);
    assert_eq!((user.user.prepared().len(), user.user.drafts().len()), (1, 0));
}

fn flipped(image: &Path) {
    File::options().write(true).open(image.join("disk.qcow2")).unwrap().write_all_at(b"x", 70_000).unwrap();
}

fn cut(image: &Path) {
    File::options().write(true).open(image.join("disk.qcow2")).unwrap().set_len(100).unwrap();
}

fn without_disk(image: &Path) {
    fs::remove_file(image.join("disk.qcow2")).unwrap();
}

fn another_record(image: &Path) {
    fs::write(image.join("image.toml"), "format = 3\n").unwrap();
}

fn a_medium_that_no_recipe_serves_can_not_be_prepared() {
    let user = User::new();
    user.user.add("debian-9", &user.file);
    let prepared = user.run(&["prepare", "debian-9"]);
    assert_eq!(prepared.code, Some(3), "{prepared:#?}");
    assert!(
        prepared.stderr_words().contains("no recipe makes an image of debian-9 for amd64"),
        "{prepared:#?}"
    );
}

fn what_is_not_a_medium_is_bad_input() {
    let user = User::new();
    let prepared = user.run(&["prepare", "debian-12"]);
    assert_eq!(prepared.code, Some(2), "{prepared:#?}");
    assert!(
        prepared.stderr_words().contains("there is no medium debian-12; the media are: debian-13"),
        "{prepared:#?}"
    );
}

trials! {
    a_medium_that_is_not_as_it_was_added_is_not_used {
        changed(other_contents, "error", "it has changed since it was added"),
        truncated(shorter, "skip", "it has changed since it was added: "),
        removed(gone, "skip", "the file does not exist; name a disk image, or add it again from where it is now"),
        replaced_by_a_folder(a_folder, "skip", "it is not a file"),
    };
    a_medium_with_another_time_alone_is_read_once_and_used;
    a_damaged_image_is_reported_and_made_again {
        flipped(flipped, "disk.qcow2 does not match its recorded SHA-256"),
        cut(cut, "disk.qcow2 has 100 bytes instead of"),
        without_disk(without_disk, "disk.qcow2: No such file"),
        another_record(another_record, "image.toml does not match its recorded SHA-256"),
    };
    a_medium_that_no_recipe_serves_can_not_be_prepared;
    what_is_not_a_medium_is_bad_input;
}
