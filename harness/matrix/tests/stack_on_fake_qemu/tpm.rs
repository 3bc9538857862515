//! Levels with a TPM: QEMU and the level's kernel must have it, and an swtpm that is missing is never charged to the stack.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use nestmatrix_model::{Hardware, SymptomKind, TpmVersion};
use nestmatrix_stack::MachineSettings;
use rstest::rstest;
use serde_json::json;

use crate::fake::{Fake, exit, level, prints};
use crate::script::How;

/// What the question for a kernel's TPM contains.
const ASKED: &str = "tpm_version_major";

fn with_tpm() -> MachineSettings {
    let hardware = Hardware { tpm: Some(TpmVersion::V2), ..Hardware::default() };
    MachineSettings { hardware, ..MachineSettings::default() }
}

/// A stack whose L1 has a TPM, which its kernel sees as `seen`.
fn fake(seen: &str) -> Fake {
    Fake::new().with_settings(1, with_tpm()).command(1, ASKED, 0, prints(seen))
}

#[tokio::test(flavor = "current_thread")]
async fn a_tpm_that_is_given_passes_and_is_recorded() {
    let booted = fake("driver\nversion=2\n").boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(booted.observation.levels[&level(1)].tpm, Some(2));
    assert!(booted.observation.measurements.machines[&level(1)].hardware.devices["tpm"]);
    let asked = fs::read_to_string(booted.records.join("L0.agent.jsonl")).unwrap();
    let device = "-chardev socket,id=nest-tpm,path=/run/nest/tpm-L1/socket -tpmdev emulator,id=nest-tpm,chardev=nest-tpm \
                  -device tpm-crb,id=nest-tpm,tpmdev=nest-tpm";
    assert!(asked.contains(device), "{asked}");
    assert!(asked.contains("/run/nest/disk/l1-swtpm"), "it is started from the archive: {asked}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_without_the_tpm_stops_the_stack() {
    for reply in [json!([]), json!([{"id": "nest-tpm", "model": "tpm-tis", "options": {"type": "emulator"}}])]
    {
        let booted =
            fake("driver\nversion=2\n").reply("l1.qmp", "query-tpm", How::Return(reply)).boot().await;
        assert_eq!(booted.stopped(), "l1-launch: wrong hardware of L1: device tpm is missing");
        assert_eq!(booted.observation.stop.as_ref().unwrap().symptom.kind(), SymptomKind::WrongHardware);
        assert_eq!(booted.word(), "fail");
    }
}

#[rstest]
#[case::none("driver\n", "wrong hardware of L1: its kernel sees no TPM", "fail")]
#[case::another(
    "driver\nversion=1\n",
    "wrong hardware of L1: its kernel sees a TPM of version 1 instead of 2",
    "fail"
)]
#[case::no_driver("", "L1's kernel has no driver for its TPM (tpm_crb)", "error")]
#[tokio::test(flavor = "current_thread")]
async fn the_kernel_of_a_level_must_see_its_tpm(
    #[case] seen: &str,
    #[case] stopped: &str,
    #[case] word: &str,
) {
    let booted = fake(seen).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (format!("l1-kvm: {stopped}"), word.into()));
}

#[tokio::test(flavor = "current_thread")]
async fn an_swtpm_that_does_not_start_in_a_level_is_no_failure_of_the_stack() {
    let says = "nestmatrix could not start swtpm: it ended: no libtpms\n";
    let booted = fake("").qemu_ends(1, exit(98, says)).boot().await;
    assert!(booted.stopped().contains(says.trim()), "{}", booted.stopped());
    assert_eq!(booted.word(), "error");
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_can_not_use_its_swtpm_is_no_failure_of_the_stack() {
    let says = "qemu-system-x86_64: tpm-emulator: TPM result for CMD_INIT: 0x9 operation failed";
    let booted = fake("").qemu_ends(1, exit(1, says)).boot().await;
    let expected =
        format!("l1-launch: swtpm, which plays the TPM of L1, failed: QEMU exited with status 1: {says}");
    assert_eq!((booted.stopped(), booted.word()), (expected, "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn an_swtpm_that_ends_in_a_level_is_no_failure_of_the_stack() {
    let lost = json!([{"label": "nest-tpm", "filename": "disconnected:unix:/run/nest/tpm-L1/socket"}]);
    let booted = fake("driver\n").reply("l1.qmp", "query-chardev", How::Return(lost)).boot().await;
    assert_eq!(booted.stopped(), "l1-kvm: swtpm, which plays the TPM of L1, has ended in L0");
    assert_eq!(booted.word(), "error");
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_waits_for_an_swtpm_that_hangs_is_no_failure_of_the_stack() {
    let fake =
        fake("").reply("l1.qmp", "qmp_capabilities", How::Never).reply("l1.qmp", "query-chardev", How::Never);
    let booted = fake.limited_to(Duration::from_secs(1)).boot().await;
    let expected =
        "l1-launch: swtpm, which plays the TPM of L1, does not answer in L0: QEMU waits for it at its start";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn an_swtpm_that_is_stopped_is_no_failure_of_the_stack() {
    let stat = "168 (ld.so) T 148 148";
    let booted = fake("driver\n").command(0, "/run/nest/tpm-L1/pid &&", 0, prints(stat)).boot().await;
    let expected = "l1-kvm: swtpm, which plays the TPM of L1, does not run in L0: its process is in state T";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "error".into()));
}

/// A stack whose L0 has a TPM. This script is its swtpm, in its folder.
fn on_this_machine(script: &str) -> Fake {
    let fake = Fake::new().with_settings(0, with_tpm()).command(0, ASKED, 0, prints("driver\nversion=2\n"));
    let program: PathBuf = fake.folder().join("swtpm");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fake.with_swtpm(program)
}

fn lives(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z")))
}

#[tokio::test(flavor = "current_thread")]
async fn the_swtpm_of_l0_is_private_and_ends_with_the_stack() {
    let fake = on_this_machine("stat -c %a . >../rights; echo $$ >pid; echo $$ >../id; exec sleep 1000");
    let booted = fake.boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let sockets = booted.records.parent().unwrap();
    let read = |name: &str| fs::read_to_string(find(sockets, name)).unwrap().trim().to_owned();
    assert_eq!(read("rights"), "700");
    assert!(!lives(&read("id")), "swtpm is left");
}

/// The file of this name in a folder or a folder in it.
fn find(folder: &std::path::Path, name: &str) -> PathBuf {
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).chain([folder.to_owned()]);
    let mut files = folders.map(|folder| folder.join(name));
    files.find(|file| file.exists()).unwrap_or_else(|| panic!("no {name} below {}", folder.display()))
}

#[rstest]
#[case::missing_library("echo no libtpms >&2; exit 1", "l0-launch: ", "it exited with status 1: no libtpms")]
#[case::early("echo $$ >pid; exit 3", "l0-", "swtpm, which plays the TPM of L0, exited with status 3")]
#[case::killed(
    "echo $$ >pid; sleep 0.2; kill -9 $$",
    "",
    "swtpm, which plays the TPM of L0, was killed (SIGKILL)"
)]
#[tokio::test(flavor = "current_thread")]
async fn an_swtpm_that_ends_on_this_machine_is_named(
    #[case] script: &str,
    #[case] stage: &str,
    #[case] said: &str,
) {
    let fake = on_this_machine(script).step("l0-kvm", 0, "wait a moment").command(
        0,
        "wait a moment",
        400,
        exit(0, ""),
    );
    let booted = fake.boot().await;
    let stopped = booted.stopped();
    assert!(stopped.starts_with(stage) && stopped.contains(said), "{stopped}");
    assert_eq!(booted.word(), "error");
}

#[tokio::test(flavor = "current_thread")]
async fn an_swtpm_that_is_missing_is_named() {
    let missing = PathBuf::from("/nonexistent/swtpm");
    for (fake, why) in [
        (Fake::new().with_settings(0, with_tpm()), "it is not available"),
        (Fake::new().with_settings(0, with_tpm()).with_swtpm(missing), "No such file or directory"),
    ] {
        let booted = fake.boot().await;
        let stopped = booted.stopped();
        assert!(
            stopped.contains("starting swtpm, which plays the TPM of L0") && stopped.contains(why),
            "{stopped}"
        );
        assert_eq!(booted.word(), "error");
    }
}
