//! Disks that are no good as media: what preparation says of each, and that it keeps nothing. Boots the disk alone. What needs no real
//! system is tested in harness/matrix/tests/disk_preparation.rs.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::disks::{MediaUser, debian, debian_with, delivered, state_of, without_packages};
use common::trials::ignore;
use common::{Boots, Run, boots, of_recipes, trials};
use nestmatrix_debian_disk::Flaw;

/// Longest wait for a preparation.
const ONE: Duration = Duration::from_secs(10 * 60);

const NAME: &str = "debian-13";

fn turn() -> Boots {
    boots(&of_recipes(&["qemu-x86-amd64"]))
}

/// Runs a preparation, which fails, and keeps nothing. Returns what it says.
fn fails(user: &MediaUser, file: &Path, command: Command) -> String {
    let before = state_of(file);
    let run: Run = delivered(user.place.finish(command, ONE));
    assert_eq!(run.code, Some(3), "{run:#?}");
    assert!(user.drafts().is_empty() && user.prepared().is_empty(), "{:?}", user.drafts());
    assert_eq!(state_of(file), before, "the medium is never written to");
    run.stderr_words()
}

fn a_disk_with_a_flaw_is_not_prepared(flaw: Flaw, timeout_scale: &str, expected: &[&str]) {
    let _guard = turn();
    // Without packages, there is nothing for which the root file system could be too small.
    let user = match flaw {
        Flaw::FullFileSystem => MediaUser::new(),
        _ => MediaUser::with_recipe(without_packages),
    };
    let disk = debian_with(flaw, &user.path("disk.qcow2"));
    user.add(NAME, disk.path());
    let command = user.media(&["prepare", NAME, "--timeout-scale", timeout_scale]);
    let words = fails(&user, disk.path(), command);
    for part in expected {
        assert!(words.contains(part), "{part:?} in {words}");
    }
}

/// `command` with a file system of this size in which drafts are written. In a name space of its own, an ordinary user may mount one.
fn with_drafts_on(kibibytes: u32, user: &MediaUser, command: &Command) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount"]);
    let mut trial = Command::new(unshare.get_program());
    trial.args(unshare.get_args()).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
    let tried = trial.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        ignore("this machine lets no user mount a file system (unshare --user --mount)");
    }
    let drafts = user.path("cache/building");
    fs::create_dir_all(&drafts).unwrap();
    unshare.args(["sh", "-c", r#"mount -t tmpfs -o size="$0"k tmpfs "$1" && shift && exec "$@""#]);
    unshare.arg(kibibytes.to_string()).arg(drafts).arg(command.get_program()).args(command.get_args());
    unshare.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    unshare
}

fn a_full_disk_of_this_machine_is_named(kibibytes: u32, expected: &[&str]) {
    let _guard = turn();
    let disk = debian();
    let user = MediaUser::with_recipe(without_packages);
    user.add(NAME, disk.path());
    let prepare = user.media(&["prepare", NAME]);
    let words = fails(&user, disk.path(), with_drafts_on(kibibytes, &user, &prepare));
    for part in expected {
        assert!(words.contains(part), "{part:?} in {words}");
    }
}

/// The same for flaws that are found by the same steps of a preparation.
fn a_disk_with_another_flaw_is_not_prepared(flaw: Flaw, timeout_scale: &str, expected: &[&str]) {
    a_disk_with_a_flaw_is_not_prepared(flaw, timeout_scale, expected);
}

trials! {
    a_disk_with_a_flaw_is_not_prepared {
        boot_loader_waits(Flaw::BootLoaderWaits, "0.03", &["l0-boot: busy, but not done after", "Press enter to boot the selected OS"]),
    };
    #[ignore = "boots four more disks: four minutes"]
    a_disk_with_another_flaw_is_not_prepared {
        no_agent(Flaw::NoAgent, "1", &["the guest agent is missing: there is no program qemu-ga"]),
        full_file_system(Flaw::FullFileSystem, "1", &["No space left on device; ", "; cannot install the packages"]),
        no_boot_loader(Flaw::NoBootLoader, "0.03", &["l0-boot: busy, but not done after", "nothing on its console"]),
        no_cloud_init(Flaw::NoCloudInit, "0.1", &["l0-boot: no progress for", "; the last lines of its console: ["]),
    };
    a_full_disk_of_this_machine_is_named {
        at_once(100, &["qemu-img could not create an overlay", "No space left on device"]),
    };
    #[ignore = "boots one more disk"]
    a_full_disk_of_this_machine_is_named {
        while_it_boots(4 << 10, &["l0-boot: L0's QEMU stopped it (io-error: No space left on device)"]),
    };
}
