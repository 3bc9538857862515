//! The disk of a whole system as a medium (`tests/vendor-disks/`), from `media add` to a pass: a Debian disk that stands for a vendor's
//! is prepared, and hosts a guest as L1. At night, preparations and a run are killed and interrupted on the way, and one for Arm boots as
//! L2. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::disks::{MediaUser, debian, debian_for, delivered, state_of};
use common::{Cell, Run, Running, boots, of_recipes, processes_that_name, scenarios, trials};
use nestmatrix_debian_disk::Disk;
use nestmatrix_model::Isa;
use nix::sys::signal::Signal;
use serde_json::json;

/// Longest wait for something that boots nothing.
const SOON: Duration = Duration::from_secs(120);
/// Longest wait for a preparation, or for a run over one stack.
const ONE: Duration = Duration::from_secs(15 * 60);

/// Longest wait for one of them on Arm, whose UEFI and KVM take longer on emulated metal.
const ONE_ON_ARM: Duration = Duration::from_secs(30 * 60);

const NAME: &str = "debian-13";

fn a_vendors_disk_is_prepared_and_hosts_a_guest_as_l1() {
    let _guard = boots(&of_recipes(&["debian-13-amd64", "qemu-x86-amd64"]));
    let disk = debian();
    let before = state_of(disk.path());
    let user = MediaUser::new();
    the_disk_is_added(&user, &disk, &before.0);
    let prepared = delivered(user.place.finish(prepare(&user), ONE));
    assert_eq!(prepared.code, Some(0), "{prepared:#?}");
    is_described(&prepared.stdout, &disk, "qemu-system-x86");
    let cold = run(&user, "vendor-disks");
    l1_is_the_system_on_the_disk(&user, &disk, &cold);
    assert_eq!((user.drafts().len(), user.prepared().len()), (0, 1));
    assert_eq!(state_of(disk.path()), before, "the medium is never written to");
}

/// One test, since the preparation takes most of its time.
fn a_vendors_disk_is_prepared_once_whatever_is_interrupted() {
    let _guard = boots(&of_recipes(&["debian-13-amd64", "qemu-x86-amd64"]));
    let disk = debian();
    let before = state_of(disk.path());
    let user = MediaUser::new();
    the_disk_is_added(&user, &disk, &before.0);
    a_killed_preparation_leaves_only_what_the_next_start_removes(&user);
    an_interrupted_preparation_keeps_nothing(&user);
    two_processes_prepare_it_once(&user, &disk);
    a_killed_run_leaves_only_what_the_next_start_removes(&user);
    let cold = run(&user, "vendor-disks-cold");
    l1_is_the_system_on_the_disk(&user, &disk, &cold);
    // The emulated metal may have failed at first. Then the stack booted again from its beginning.
    assert!(cold.record["restored"].is_null(), "there was no snapshot yet: {:#}", cold.record);
    let restored = run(&user, "vendor-disks-restored");
    l1_is_the_system_on_the_disk(&user, &disk, &restored);
    assert_ne!(cold.record["evidence"]["nonce"], restored.record["evidence"]["nonce"]);
    assert_eq!(state_of(disk.path()), before, "the medium is never written to");
    // Emulated metal sometimes saves no snapshot of such a stack, or does not restore it.
    if !restored.record["restored"].is_object() {
        trials::ignore("everything passed but the restore: the stack booted cold again");
    }
    assert_eq!(restored.record["restored"]["level"], "l1", "{:#}", restored.record);
    assert_eq!(restored.stages(), ["restore", "l0-kvm", "l1-kvm", "l2-launch", "l2-boot", "l2-check"]);
}

/// The disk is for another architecture than this machine's, so its preparation is emulated, too.
fn a_vendors_disk_for_arm_is_prepared_and_boots_as_l2() {
    let disk = debian_for(Isa::Arm64);
    let _guard = boots(&of_recipes(&["debian-14-arm64", "qemu-arm-amd64", "uefi-arm64"]));
    let before = state_of(disk.path());
    let user = MediaUser::new();
    let file = disk.path().to_str().unwrap();
    let added = user.media(&["add", NAME, file, "--architecture", "arm64"]);
    let added = user.place.finish(added, SOON);
    assert!(added.stdout.contains("recipe debian-13-disk-arm64\n"), "{added:#?}");
    let prepared = delivered(user.place.finish(prepare(&user), ONE_ON_ARM));
    assert_eq!(prepared.code, Some(0), "{prepared:#?}");
    is_described(&prepared.stdout, &disk, "qemu-system-arm");

    let mut command = user.run_matrix(&scenarios("vendor-disks"));
    command.arg("disk-at-l2-on-arm/*");
    let run = user.place.finish(command, ONE_ON_ARM).keep("vendor-disks-arm");
    assert_eq!(run.code, Some(0), "{run:#?}");
    let cell = run.cell("disk-at-l2-on-arm");
    assert_eq!(cell.text("verdict"), "pass", "{:#}", cell.record);
    let l2 = &cell.record["levels"][2];
    assert_eq!((&l2["image"]["product"], &l2["kernel"]), (&json!("disk"), &json!(disk.kernel_release())));
    assert!(user.prepared()[0].ends_with(l2["image"]["digest"].as_str().unwrap()), "{l2:#}");
    let said = fs::read_to_string(cell.file("L2.dmesg")).unwrap();
    assert!(said.contains("Kernel command line: BOOT_IMAGE=/vmlinuz root=LABEL=root "), "{said}");
    let evidence = &cell.record["evidence"];
    assert_eq!(evidence["nonce"], evidence["report"]["nonce"], "{evidence:#}");
    assert_eq!(state_of(disk.path()), before, "the medium is never written to");
}

fn the_disk_is_added(user: &MediaUser, disk: &Disk, sha256: &str) {
    let file = disk.path().to_str().unwrap();
    let added = user.place.finish(user.media(&["add", NAME, file, "--sha256", sha256]), SOON);
    assert_eq!(added.code, Some(0), "{added:#?}");
    assert!(added.stdout.contains("recipe debian-13-disk-amd64\n"), "{added:#?}");
    let shown = user.place.finish(user.media(&["show", NAME]), SOON);
    assert!(shown.stdout.contains(sha256) && shown.stdout.contains("not prepared"), "{shown:#?}");
}

fn prepare(user: &MediaUser) -> Command {
    user.media(&["prepare", NAME])
}

/// A draft in the cache and a folder of sockets are left, and no process.
fn a_killed_preparation_leaves_only_what_the_next_start_removes(user: &MediaUser) {
    let mut harness = Running::start(&user.place, prepare(user));
    harness.wait_for_a_boot();
    harness.send(Signal::SIGKILL);
    let output = harness.end();
    assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32));
    user.place.wait_for_no_process();
    assert_eq!((user.drafts().len(), user.prepared().len()), (1, 0));
}

/// Also if a run has begun it.
fn an_interrupted_preparation_keeps_nothing(user: &MediaUser) {
    let of_run = "interrupted: 0 of 1 cells have a verdict";
    let alone = "interrupted: debian-13 is not prepared, and nothing of it is kept";
    for (command, said) in [(run_matrix(user), of_run), (prepare(user), alone)] {
        let left = user.drafts();
        let mut harness = Running::start(&user.place, command);
        harness.wait_for_a_boot();
        assert!(left.iter().all(|draft| !draft.exists()), "what the killed one left: {left:?}");
        harness.send(Signal::SIGINT);
        let run = Run::new(harness.end(), &user.place.results());
        assert_eq!(run.code, Some(130), "{run:#?}");
        assert!(run.stderr.contains(said), "{run:#?}");
        user.place.assert_nothing_left();
        assert!(user.drafts().is_empty() && user.prepared().is_empty(), "{:?}", user.drafts());
    }
}

fn two_processes_prepare_it_once(user: &MediaUser, disk: &Disk) {
    let mut first = Running::start(&user.place, prepare(user));
    first.wait_for_a_boot();
    let second = Running::start(&user.place, prepare(user));
    // It would have its own QEMU by now.
    std::thread::sleep(Duration::from_secs(10));
    let processes = processes_that_name(user.place.path());
    let emulators = processes.iter().filter(|process| process.contains(" -name L0")).count();
    assert_eq!(emulators, 1, "{processes:#?}");
    for harness in [first, second] {
        let run = delivered(Run::new(harness.end_within(ONE), &user.place.results()));
        assert_eq!(run.code, Some(0), "{run:#?}");
        is_described(&run.stdout, disk, "qemu-system-x86");
    }
    user.place.assert_nothing_left();
    assert!(user.drafts().is_empty(), "{:?}", user.drafts());
    assert_eq!(user.prepared().len(), 1);
    let shown = user.place.finish(user.media(&["show", NAME]), SOON);
    is_described(&shown.stdout, disk, "qemu-system-x86");
}

/// What is known of the system, and what preparation changed, is shown.
fn is_described(text: &str, disk: &Disk, qemu: &str) {
    for line in [
        "  system  debian 13".to_owned(),
        format!("  kernel  {}", disk.kernel_release()),
        "  changed wrote /etc/nestmatrix/qemu-ga.conf".to_owned(),
        "  changed wrote /etc/cloud/cloud-init.disabled".to_owned(),
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line:?} in {text}");
    }
    for begin in ["  qemu    QEMU emulator version ".to_owned(), format!("  changed installed {qemu} ")] {
        assert!(text.lines().any(|shown| shown.starts_with(&begin)), "{begin:?} in {text}");
    }
}

fn run_matrix(user: &MediaUser) -> Command {
    let mut command = user.run_matrix(&scenarios("vendor-disks"));
    command.arg("disk-at-l1/*");
    command
}

fn a_killed_run_leaves_only_what_the_next_start_removes(user: &MediaUser) {
    let mut harness = Running::start(&user.place, run_matrix(user));
    harness.wait_for_a_boot();
    harness.send(Signal::SIGKILL);
    harness.end();
    user.place.wait_for_no_process();
    assert!(user.place.scratch().iter().any(|name| name.starts_with("run-")));
}

fn run(user: &MediaUser, name: &str) -> Cell {
    let run = user.place.finish(run_matrix(user), ONE).keep(name);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let cell = run.cell("disk-at-l1");
    assert_eq!(cell.text("verdict"), "pass", "{:#}", cell.record);
    cell
}

fn l1_is_the_system_on_the_disk(user: &MediaUser, disk: &Disk, cell: &Cell) {
    let prepared = user.prepared();
    let l1 = &cell.record["levels"][1];
    assert_eq!(l1["image"]["product"], "disk", "{l1:#}");
    assert!(prepared[0].ends_with(l1["image"]["digest"].as_str().unwrap()), "{l1:#}");
    assert_eq!((&l1["fidelity"], &l1["kernel"]), (&json!("product"), &json!(disk.kernel_release())));
    // Its machine has the usual number of CPUs, and the memory that its recipe asks for.
    assert_eq!((&l1["cpus"], &l1["cpus_online"]), (&json!(2), &json!(2)), "{l1:#}");
    assert!(l1["memory_mib"].as_u64() >= Some(1024), "{l1:#}");
    assert_eq!((&l1["machine"], &l1["command_line"]), (&json!("pc-q35-10.0-machine"), &json!(null)));
    // Its own system says what it is, and its kernel, that the boot loader on the disk started it.
    let said = outputs(cell, "L1.agent.jsonl").concat();
    assert!(said.contains("\nos=debian\nos-version=13\n"), "{said}");
    let said = fs::read_to_string(cell.file("L1.dmesg")).unwrap();
    assert!(said.contains(&format!("Linux version {} ", disk.kernel_release())), "{said}");
    assert!(said.contains("Command line: BOOT_IMAGE=/vmlinuz root=LABEL=root "), "{said}");
    let evidence = &cell.record["evidence"];
    assert_eq!(evidence["nonce"], evidence["report"]["nonce"], "{evidence:#}");
    for level in ["l1", "l2"] {
        assert_eq!(evidence["kvm"][level]["enabled"], true, "{evidence:#}");
        assert_eq!(evidence["machines"][level]["hardware"]["cpus"], 2, "{evidence:#}");
    }
    let runs = &evidence["nested_runs"]["l0"];
    assert!(runs["after"].as_u64() > runs["before"].as_u64(), "{runs}");
}

/// The standard output of each command that ran by a level's agent, as far as it is recorded: `...` follows what is kept of a long one.
fn outputs(cell: &Cell, conversation: &str) -> Vec<String> {
    let messages = cell.conversation(conversation);
    let outputs = messages.iter().filter_map(|(_, message)| message["return"]["out-data"].as_str());
    let kept = outputs.map(|text| text.split_once("...").map_or(text, |(kept, _)| kept));
    kept.map(|text| String::from_utf8_lossy(&BASE64.decode(text).unwrap()).into_owned()).collect()
}

trials! {
    a_vendors_disk_is_prepared_and_hosts_a_guest_as_l1;
    #[ignore = "prepares a disk several times, and boots two more stacks: five minutes"]
    a_vendors_disk_is_prepared_once_whatever_is_interrupted;
    #[ignore = "installs and boots a system for Arm: 20 minutes"]
    a_vendors_disk_for_arm_is_prepared_and_boots_as_l2;
}
