//! Events in the life of a level: it is paused, saved, reset, or all of that, and everything in it must live on.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nestmatrix_images::Disk;
use nestmatrix_model::Hardware;
use nestmatrix_model::OwnAction::{
    self, Crash, HotplugCpu, HotplugDisk, HotplugMemory, HotplugNetwork, Migrate, MigrateBack,
    MigrateToOther, Pause, PowerOff, Reset, SaveRestore,
};
use nestmatrix_stack::{MachineSettings, OtherQemuImage};
use rstest::rstest;
use serde_json::{Value, json};

use crate::fake::{Booted, Fake, NONCE, exit, level, prints, signal};
use crate::script::{Act, End, How};

/// Longer than any stage of the fake is silent.
const SILENCE: Duration = Duration::from_millis(2500);

fn fake() -> Fake {
    Fake::new().silent_for_at_most(SILENCE).hangs_after(Duration::from_secs(60))
}

/// What came of the one step.
fn output(booted: &Booted) -> &str {
    &booted.observation.steps[0].output
}

#[rstest]
#[case::before_l2("l1-kvm", 1, Pause, "paused for 2.0 s, in which L1 did not answer")]
#[case::with_l2(
    "l2-check",
    1,
    Pause,
    "paused for 2.0 s, in which L2 did not answer; L2 answers, its counter was "
)]
#[case::of_l2("l2-check", 2, Pause, "paused for 2.0 s, in which L2 did not answer; L2 answers")]
#[case::all_of_it("l2-check", 0, Pause, "paused for 2.0 s, in which L2 did not answer; L2 answers")]
#[case::saved_before_l2("l1-kvm", 1, SaveRestore, "saved 1 MiB in ")]
#[case::saved_with_l2("l2-check", 1, SaveRestore, "; L2 answers, its counter was ")]
#[case::saved_l2("l2-check", 2, SaveRestore, "; L2 answers, its counter was ")]
#[case::reset_before_l2("l1-kvm", 1, Reset, "L1 is up again; nested=1")]
#[case::reset_with_l2(
    "l2-check",
    1,
    Reset,
    "L2 was launched again and has returned a fresh nonce; L2 answers, its counter is "
)]
#[case::reset_l2(
    "l2-check",
    2,
    Reset,
    "L2 has reported again, its boot id was boot-0 and is boot-1; L2 answers, its counter is "
)]
#[case::powered_off_before_l2(
    "l1-kvm",
    1,
    PowerOff,
    "L1 has powered off, its QEMU has ended, and another one has booted it"
)]
#[case::powered_off_with_l2(
    "l2-check",
    1,
    PowerOff,
    "another one has booted it; L2 has returned a fresh nonce; L2 answers, its counter is "
)]
#[case::powered_off_l2("l2-check", 2, PowerOff, "L2 has returned a fresh nonce; L2 answers, its counter is ")]
#[case::crashed_before_l2(
    "l1-kvm",
    1,
    Crash,
    "L1 has crashed: kernel panic: sysrq triggered crash; L1 is up again; nested=1"
)]
#[case::crashed_with_l2(
    "l2-check",
    1,
    Crash,
    "L1 is up again; nested=1; L2 was launched again and has returned a fresh nonce; L2 answers"
)]
#[case::crashed_l2(
    "l2-check",
    2,
    Crash,
    "L2 has crashed: kernel panic: sysrq triggered crash; L2 has reported again, its boot id was boot-0 and is boot-1"
)]
#[case::disk("l1-kvm", 1, HotplugDisk, "its kernel used a new disk, whose file had what was written")]
#[case::disk_with_l2("l2-check", 1, HotplugDisk, "saw that it was removed; L2 answers, its counter was ")]
#[case::card_with_l2(
    "l2-check",
    1,
    HotplugNetwork,
    "its kernel switched on a new network card, eth0, and saw"
)]
#[case::reset_of_all("l2-check", 0, Reset, "L0 is up again; nested=1; L2 was launched again")]
#[tokio::test(flavor = "current_thread")]
async fn everything_in_a_level_lives_on(
    #[case] after: &str,
    #[case] on: u8,
    #[case] action: OwnAction,
    #[case] expected: &str,
) {
    let booted = fake().does(after, on, action).boot().await;
    assert_eq!(booted.word_and_symptom(), "pass: ", "{}", booted.stopped());
    assert!(output(&booted).contains(expected), "{}", output(&booted));
    let nonce = &booted.observation.measurements.nonce;
    let launched_again = after == "l2-check"
        && match action {
            Reset | Crash => on < 2,
            PowerOff => true,
            _ => false,
        };
    assert_eq!(nonce != NONCE, launched_again, "only a new command line has a new nonce");
    let report = booted.observation.measurements.report.as_ref().unwrap();
    assert_eq!(&report.nonce, nonce);
}

#[tokio::test(flavor = "current_thread")]
async fn a_chain_is_one_step_and_its_actions_come_in_order() {
    let chain = [SaveRestore, Reset, Pause];
    let booted = fake().lives_through("l2-check", 1, &chain, 2).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let lines: Vec<&str> = output(&booted).lines().collect();
    let begin = ["round 2 of 2: save-restore: saved ", "reset: L1 is up again", "pause: paused for "];
    let in_order = lines.iter().zip(begin).all(|(line, begin)| line.starts_with(begin));
    assert!(in_order && lines.len() == begin.len(), "{lines:#?}");
}

#[rstest]
#[case::before_l2("l1-kvm", 1)]
#[case::with_l2("l2-check", 1)]
#[case::of_l2("l2-check", 2)]
#[tokio::test(flavor = "current_thread")]
async fn a_level_is_migrated_as_often_as_one_likes(#[case] after: &str, #[case] on: u8) {
    let chain = [Migrate, SaveRestore, Migrate, Reset, Migrate];
    let booted = fake().lives_through(after, on, &chain, 2).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let lines: Vec<&str> = output(&booted).lines().collect();
    let begin =
        ["round 2 of 2: migrate: from QEMU 10.0.0 ", "save-restore: saved ", "migrate: from QEMU 10.0.0 "];
    let in_order = lines.iter().zip(begin).all(|(line, begin)| line.starts_with(begin));
    assert!(in_order && lines.len() == chain.len(), "{lines:#?}");
    // Six migrations and two restores, by QEMUs that take turns on two channels.
    for conversation in [format!("L{on}.qmp.jsonl"), format!("L{on}-second.qmp.jsonl")] {
        let text = std::fs::read_to_string(booted.records.join(&conversation)).unwrap();
        let quits = text.lines().filter(|line| line.contains("\"quit\"")).count();
        assert_eq!(quits, 4, "{conversation}: {text}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn steps_one_after_another_migrate_a_level() {
    let fake = fake().does("l1-kvm", 1, Migrate).does("l2-check", 1, Migrate).does("l2-check", 1, Migrate);
    let booted = fake.boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert!(output(&booted).contains("L1 answers, kernel 6.12.0-fake"), "{}", output(&booted));
    let last = &booted.observation.steps[2].output;
    assert!(last.contains("; L2 answers, its counter was "), "{last}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_was_migrated_once_is_not_launched_again_by_a_reset_around_it() {
    let fake = fake().does("l2-check", 1, Migrate).does("l2-check", 0, Reset);
    let booted = fake.boot().await;
    let expected =
        "step-2: L1 was migrated an odd number of times: it is launched on its first channels only";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "error".into()));
}

/// A stack whose L1 can be migrated to another version of QEMU.
fn with_other_qemu(chain: &'static [OwnAction]) -> Fake {
    fake().lives_through("l2-check", 1, chain, 1).with_plan(|plan| {
        let disk = Disk { path: "/images/other".into(), kernel: 0..10, initramfs: 65536..65600 };
        let (name, initramfs) = ("other".to_owned(), "/images/other-initramfs".into());
        plan.other_qemus.insert(level(1), OtherQemuImage { name, initramfs, disk, mib: 1 });
    })
}

#[rstest]
#[case::there_and_back(&[MigrateToOther, SaveRestore, MigrateBack, Reset], Some(("10.0.0", "7.2.0")))]
#[case::twice(&[MigrateToOther, Migrate, MigrateBack, MigrateToOther], Some(("10.0.0", "7.2.0")))]
#[case::back_before(&[MigrateBack], None)]
#[case::there_again(&[MigrateToOther, MigrateToOther], None)]
#[tokio::test(flavor = "current_thread")]
async fn a_level_is_migrated_to_another_version_of_qemu_and_back(
    #[case] chain: &'static [OwnAction],
    #[case] versions: Option<(&str, &str)>,
) {
    let booted = with_other_qemu(chain).boot().await;
    let Some((own, other)) = versions else {
        let stopped = booted.stopped();
        assert!(
            stopped.starts_with("step-1: the migration could not be begun: L1 runs on the "),
            "{stopped}"
        );
        return assert_eq!(booted.word(), "error");
    };
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let lines: Vec<&str> = output(&booted).lines().collect();
    let there = format!("migrate-to-other: from QEMU {own} (fake) to QEMU {other} (fake), completed in ");
    let back = format!("migrate-back: from QEMU {other} (fake) to QEMU {own} (fake), completed in ");
    assert!(lines[0].starts_with(&there) && lines[2].starts_with(&back), "{lines:#?}");
    let last = if chain.last() == Some(&MigrateToOther) { other } else { own };
    let l1 = &booted.observation.levels[&level(1)];
    assert_eq!(l1.qemu.as_deref(), Some(format!("{last} (fake)").as_str()));
    assert_eq!(l1.machine.as_deref(), Some("pc-q35-7.2-machine"), "both QEMUs know it");
}

#[tokio::test(flavor = "current_thread")]
async fn another_qemu_must_have_another_version() {
    let version = json!({"qemu": {"major": 10, "minor": 0, "micro": 0}, "package": "fake"});
    let fake =
        with_other_qemu(&[MigrateToOther]).reply("l1-second.qmp", "query-version", How::Return(version));
    let booted = fake.boot().await;
    let expected = "step-1: the migration could not be begun: L1 runs on QEMU 10.0.0 (fake), and the next one is QEMU 10.0.0 (fake)";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "error".into()));
}

#[rstest]
#[case::no_list(prints(""), "l1-launch: the other QEMU for L1 lists no machine types: ")]
#[case::not_unpacked(
    exit(96, "nestmatrix could not prepare the other QEMU: its archive can't be unpacked: cpio: short read"),
    "l1-launch: the other QEMU for L1 lists no machine types: nestmatrix could not prepare the other QEMU: its archive can't be"
)]
#[case::nothing_in_common(
    prints("Supported machines are:\npc-q35-rhel9.4.0     RHEL\n"),
    "l1-launch: the QEMU of L0 and the other one there have no version of q35 in common"
)]
#[tokio::test(flavor = "current_thread")]
async fn another_qemu_that_is_of_no_use_is_an_error(#[case] end: End, #[case] expected: &str) {
    let booted = with_other_qemu(&[MigrateToOther]).command(0, "l1-qemu-root qemu", 5, end).boot().await;
    assert!(booted.stopped().starts_with(expected), "{}", booted.stopped());
    assert_eq!(booted.word(), "error");
}

#[rstest]
#[case::ended(
    exit(1, "qemu-system-x86_64: Machine type received is 'pc-q35-10.0' and local is 'pc-q35-7.2'"),
    "fail"
)]
#[case::killed(signal(9), "error")]
#[tokio::test(flavor = "current_thread")]
async fn a_target_that_ends_says_why_the_migration_failed(#[case] end: End, #[case] expected: &str) {
    let said = end.stderr.clone();
    let ended = How::After(vec![Act::EndTarget(end)]);
    let failed = json!({"status": "failed", "error-desc": "Unable to write to socket: Broken pipe"});
    let fake = with_other_qemu(&[MigrateToOther]).reply("l1-second.qmp", "migrate-incoming", ended);
    let booted = fake.reply("l1.qmp", "query-migrate", How::Return(failed)).boot().await;
    let begin =
        "step-1: the migration of L1 is failed: Unable to write to socket: Broken pipe; the second QEMU ";
    assert!(booted.stopped().starts_with(begin) && booted.stopped().contains(&said), "{}", booted.stopped());
    assert_eq!(booted.word(), expected);
}

/// What an agent answers to a command that has printed this.
fn printed(text: &str) -> How {
    How::Return(json!({"exited": true, "exitcode": 0, "out-data": BASE64.encode(text)}))
}

#[rstest]
#[case::of_bugs("[   12.000000] WARNING: CPU: 0 PID: 7 at arch/x86/kvm/x86.c:1", "fail")]
#[case::of_time_on_emulated_metal("[   12.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", "pass")]
#[tokio::test(flavor = "current_thread")]
async fn a_kernel_that_complains_after_an_action_is_a_symptom(#[case] said: &str, #[case] expected: &str) {
    // The base64 of `uptime=`, without its last part.
    let vitals = &BASE64.encode("uptime")[..8];
    let answer = printed(&format!("uptime=9000\n{said}\n"));
    let fake =
        fake().does("l2-check", 1, Reset).late_reply(1, vitals, "l1.agent", "guest-exec-status", answer);
    let booted = fake.boot().await;
    assert_eq!(booted.word(), expected, "{}", booted.stopped());
    let text = said.split_once("] ").unwrap().1;
    let reported = if expected == "fail" { booted.stopped() } else { output(&booted).to_owned() };
    assert!(reported.contains(text) && reported.contains("L1's kernel "), "{reported}");
}

/// A level with one CPU and room for another one.
fn with_room(max_cpus: u32) -> MachineSettings {
    let hardware = Hardware { cpus: Some(1), max_cpus: Some(max_cpus), ..Hardware::default() };
    MachineSettings { hardware, ..MachineSettings::default() }
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_gets_a_cpu_must_use_it() {
    let fake = || fake().with_settings(1, with_room(2));
    let booted = fake().does("l1-kvm", 1, HotplugCpu).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(output(&booted), "its kernel uses 2 CPUs instead of 1");
    assert_eq!(booted.observation.levels[&level(1)].cpus_online, Some(2));

    let idle = fake().command(1, "cpu[0-9]*/online", 5, prints("0\n"));
    let booted = idle.does("l1-kvm", 1, HotplugCpu).boot().await;
    let expected = "step-1: wrong hardware of L1: its kernel uses 1 CPUs, its machine has 2";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "fail".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_cpu_that_was_added_is_not_in_a_second_machine() {
    let fake = fake().with_settings(1, with_room(2)).lives_through("l1-kvm", 1, &[HotplugCpu, Migrate], 1);
    let booted = fake.boot().await;
    let expected =
        "step-1: the migration could not be begun: L1 got another CPU, which a second machine does not have";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "error".into()));
}

/// A level with room for one memory module.
fn with_memory_slot() -> MachineSettings {
    let hardware = Hardware { max_memory_mib: Some(1280), ..Hardware::default() };
    MachineSettings { memory_mib: Some(1024), hardware, ..MachineSettings::default() }
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_gets_memory_must_use_it_and_keeps_it_when_it_is_restored() {
    let fake = || fake().with_settings(1, with_memory_slot());
    let booted = fake().lives_through("l1-kvm", 1, &[HotplugMemory, SaveRestore], 1).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let begin = "hotplug-memory: its kernel uses 250 MiB more than the 1024 MiB before\nsave-restore: saved";
    assert!(output(&booted).starts_with(begin), "{}", output(&booted));
    let agent = std::fs::read_to_string(booted.records.join("L0.agent.jsonl")).unwrap();
    let launches: Vec<bool> = agent
        .lines()
        .filter(|line| line.contains("maxmem=1280M"))
        .map(|line| line.contains("pc-dimm,id=nest-module-0,memdev=nest-module-0-memory"))
        .collect();
    assert_eq!(launches, [false, true], "the QEMU that takes over has the memory from its start");

    let idle = fake().command(1, "MemTotal:", 5, prints("1048576\n"));
    let booted = idle.does("l1-kvm", 1, HotplugMemory).boot().await;
    let expected = "step-1: wrong hardware of L1: its kernel uses 0 MiB of the 256 MiB of memory that were \
                    plugged in";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "fail".into()));

    let full = fake().lives_through("l1-kvm", 1, &[HotplugMemory], 2).boot().await;
    let expected = "step-1: L1 has no room for 256 MiB more memory: set `max-memory-mib`";
    assert_eq!((full.stopped(), full.word()), (expected.into(), "error".into()));

    let moved = fake().lives_through("l1-kvm", 1, &[HotplugMemory, Migrate], 1).boot().await;
    let expected =
        "step-1: the migration could not be begun: L1 got memory, which a second machine does not have";
    assert_eq!((moved.stopped(), moved.word()), (expected.into(), "error".into()));
}

#[rstest]
#[case::no_disk(
    HotplugDisk,
    "/sys/block/vd*/serial",
    prints(""),
    "its kernel does not see the disk that was plugged in"
)]
#[case::disk_stays(
    HotplugDisk,
    "/sys/block/vd*/serial",
    prints("vdb\n"),
    "its kernel still has the disk that was removed"
)]
#[case::other_data_read(
    HotplugDisk,
    "/run/nest-pattern",
    prints("0123456789abcdef0123456789abcdef  -\n4567456745674567456745674567abcd  -\n"),
    "a disk that was plugged in is not what was written: L1 wrote to it and read it, and printed \"0123456789abcdef0123456789abcdef  \
     -\\n4567456745674567456745674567abcd  -\""
)]
#[case::not_written(
    HotplugDisk,
    "/run/nest-pattern",
    prints("4567456745674567456745674567abcd  -\n4567456745674567456745674567abcd  -\n"),
    "a disk that was plugged in is not what was written: L1 wrote data with the hash 4567456745674567456745674567abcd, and its file has \
     \"0123456789abcdef0123456789abcdef  -\\n0123456789abcdef0123456789abcdef  -\""
)]
#[case::no_card(
    HotplugNetwork,
    "/sys/class/net/*/address",
    prints(""),
    "its kernel does not see the network card that was plugged in"
)]
#[case::card_without_link(
    HotplugNetwork,
    "/sys/class/net/*/address",
    prints("eth0 0\n"),
    "its kernel does not see the network card that was plugged in"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_device_that_the_kernel_does_not_use_is_a_symptom(
    #[case] action: OwnAction,
    #[case] script: &str,
    #[case] said: End,
    #[case] expected: &str,
) {
    let booted = fake().command(1, script, 5, said).does("l1-kvm", 1, action).boot().await;
    let expected = format!("step-1: wrong hardware of L1: {expected}");
    assert_eq!((booted.stopped(), booted.word()), (expected, "fail".into()));
    if action == HotplugDisk {
        let last = last_script_in_l0(&booted, "L1.plugged");
        assert_eq!(last, "rm -f /run/nest/L1.plugged", "its file is removed");
    }
}

#[rstest]
#[case::without_a_tool(prints("sh: md5sum: not found\n"), "error")]
#[case::disk_refuses(exit(3, ""), "fail")]
#[tokio::test(flavor = "current_thread")]
async fn a_disk_that_was_not_tried_says_nothing_about_the_level(#[case] said: End, #[case] word: &str) {
    let booted = fake().command(1, "/run/nest-pattern", 5, said).does("l1-kvm", 1, HotplugDisk).boot().await;
    assert_eq!(booted.word(), word, "{}", booted.stopped());
}

/// The last script that the harness ran in L0 and that is about a file.
fn last_script_in_l0(booted: &Booted, file: &str) -> String {
    let agent = std::fs::read_to_string(booted.records.join("L0.agent.jsonl")).unwrap();
    let mut scripts = agent.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        Some(line["message"]["arguments"]["arg"][1].as_str()?.to_owned())
    });
    scripts.rfind(|script| script.contains(file)).unwrap()
}

#[rstest]
#[case::its_new_qemu_does_not_load_it("migrate-incoming", How::Refuse("it is not possible".into()))]
#[case::its_first_qemu_does_not_end("quit", How::Never)]
#[tokio::test(flavor = "current_thread")]
async fn the_file_of_a_level_that_could_not_be_restored_is_removed(#[case] command: &str, #[case] how: How) {
    let booted = fake().does("l1-kvm", 1, SaveRestore).reply("l1.qmp", command, how).boot().await;
    assert!(booted.stopped().starts_with("step-1: "), "{}", booted.stopped());
    assert!(last_script_in_l0(&booted, "L1.saved").starts_with("rm -f "));
}

fn event(name: &str, data: &Value) -> Act {
    Act::Event(name.to_owned(), data.clone())
}

/// A level resets itself, and its QEMU does not let it start again.
fn resets_itself() -> Vec<Act> {
    vec![event("SHUTDOWN", &json!({"guest": true, "reason": "guest-reset"})), event("STOP", &Value::Null)]
}

fn says(line: &str) -> Act {
    Act::Say(format!("[   12.000000] {line}"))
}

const WARNING: &str = "WARNING: CPU: 0 PID: 7 at arch/x86/kvm/x86.c:1";
const LOCKUP: &str = "watchdog: BUG: soft lockup - CPU#0 stuck for 22s!";

#[rstest]
#[case::it_does_nothing(vec![], "fail", "step-1: no progress for ")]
#[case::it_resets_itself(
    resets_itself(),
    "fail",
    "step-1: L1 shut down before its work was done (guest-reset)"
)]
#[case::it_restarts(
    [vec![says("reboot: Restarting system")], resets_itself()].concat(),
    "fail",
    "step-1: L1 shut down before its work was done (guest-reset)"
)]
#[case::its_kernel_complains(
    vec![says(WARNING), Act::PowerOff],
    "fail",
    "step-1: L1's kernel complains: \"WARNING: CPU: 0 PID: 7 at arch/x86/kvm/x86.c:1\""
)]
#[case::its_kernel_panics(
    vec![says("Kernel panic - not syncing: Fatal exception")],
    "fail",
    "step-1: kernel panic: Fatal exception"
)]
#[case::emulated_metal_is_slow(vec![says(LOCKUP), Act::PowerOff], "pass", "")]
#[tokio::test(flavor = "current_thread")]
async fn a_level_must_power_off_without_complaints(
    #[case] acts: Vec<Act>,
    #[case] word: &str,
    #[case] expected: &str,
) {
    let booted = fake().goes_down(1, acts).does("l2-check", 1, PowerOff).boot().await;
    assert!(booted.stopped().starts_with(expected), "{}", booted.stopped());
    assert_eq!(booted.word(), word, "{}", booted.stopped());
    if word == "pass" {
        assert!(
            output(&booted).contains("L1's kernel says \"watchdog: BUG: soft lockup"),
            "{}",
            output(&booted)
        );
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_whose_guests_do_not_end_does_not_power_off() {
    let end = prints("1 of its QEMUs do not end after SIGTERM\n");
    let fake = fake().command(1, "poweroff $force", 5, End { status: Some(1), ..end });
    let booted = fake.does("l2-check", 1, PowerOff).boot().await;
    let expected = "step-1: L1 does not power off: 1 of its QEMUs do not end after SIGTERM";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "fail".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_is_left_after_a_power_off_is_noticed() {
    let fake = fake().command(0, "/comm;", 5, prints("1\n"));
    let booted = fake.does("l1-kvm", 1, PowerOff).boot().await;
    let expected = "step-1: L1 was powered off, and \"1\" QEMUs run in L0";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "error".into()));
}

#[rstest]
#[case::it_is_not_seen(vec![], "fail", "step-1: no progress for ")]
#[case::it_resets_itself_instead(
    resets_itself(),
    "fail",
    "step-1: L1 shut down before its work was done (guest-reset)"
)]
#[case::only_its_qemu_says_so(
    vec![event("GUEST_PANICKED", &json!({"action": "pause"})), event("STOP", &Value::Null)],
    "pass",
    "L1 has crashed: GUEST_PANICKED; L1 is up again"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_crash_must_be_seen(#[case] acts: Vec<Act>, #[case] word: &str, #[case] expected: &str) {
    let booted = fake().goes_down(1, acts).does("l2-check", 1, Crash).boot().await;
    let seen = if word == "pass" { output(&booted).to_owned() } else { booted.stopped() };
    assert!(seen.starts_with(expected), "{seen}");
    assert_eq!(booted.word(), word, "{}", booted.stopped());
}

#[tokio::test(flavor = "current_thread")]
async fn a_panic_after_the_one_that_was_asked_for_counts() {
    let again = [says("Kernel panic - not syncing: No init found")];
    let booted = fake().after_reset(1, again).does("l2-check", 1, Crash).boot().await;
    let expected = "step-1: kernel panic: No init found";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "fail".into()));
}

#[rstest]
#[case::of_the_firmware(1, false, 1, "pass", "")]
#[case::of_more(1, false, 2, "fail", "step-1: L1 was reset, and has then reset itself 2 times")]
#[case::of_the_innermost(2, false, 3, "fail", "step-1: L2 was reset, and has then reset itself 3 times")]
#[case::with_guests_on_first_cpu(
    1,
    true,
    2,
    "error",
    "step-1: L1 was reset, and has then reset itself 2 times; the other CPUs of QEMU's emulated AMD processor sometimes spoil the state of the first one while that runs a guest (emulator erratum tcg-smp-reset)"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_level_that_resets_itself_while_it_boots_again_is_noticed(
    #[case] on: u8,
    #[case] guests_on_first_cpu: bool,
    #[case] times: usize,
    #[case] word: &str,
    #[case] expected: &str,
) {
    let own = event("RESET", &json!({"guest": true, "reason": "guest-reset"}));
    let fake = if guests_on_first_cpu { fake().with_guests_on_first_cpu() } else { fake() };
    let fake = fake.after_reset(on, vec![own; times]);
    let booted = fake.does("l2-check", on, Reset).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), word.into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_clock_that_goes_back_is_a_symptom() {
    let vitals = &BASE64.encode("uptime")[..8];
    let answer = printed("uptime=0.001\n");
    let fake = fake().does("l2-check", 1, SaveRestore);
    let booted = fake.late_reply(1, vitals, "l1.agent", "guest-exec-status", answer).boot().await;
    assert!(booted.stopped().starts_with("step-1: L1's clock went from "), "{}", booted.stopped());
    assert_eq!(booted.word(), "fail");
}

#[rstest]
#[case::not_paused(Pause, "l1.qmp", "query-status", How::Return(json!({"status": "running"})), "fail")]
#[case::never_resumed(Pause, "l1.qmp", "cont", How::Refuse("it is not possible".into()), "fail")]
#[case::not_saved(
    SaveRestore,
    "l1.qmp",
    "query-migrate",
    How::Return(json!({"status": "failed", "error-desc": "no room"})),
    "fail"
)]
#[case::not_loaded(SaveRestore, "l1.qmp", "migrate-incoming", How::Refuse("it is not possible".into()), "error")]
#[case::not_reset(Reset, "l1.qmp", "system_reset", How::Refuse("it is not possible".into()), "fail")]
#[case::not_allowed_to(Reset, "l1.qmp", "set-action", How::Refuse("it is not known".into()), "error")]
#[case::not_up_again(Reset, "l1.agent", "guest-sync-delimited", How::Never, "fail")]
#[tokio::test(flavor = "current_thread")]
async fn an_action_that_fails_stops_the_stack(
    #[case] action: OwnAction,
    #[case] channel: &str,
    #[case] command: &str,
    #[case] how: How,
    #[case] expected: &str,
) {
    let before = usize::from(command == "cont" || command == "guest-sync-delimited");
    let fake = fake().does("l2-check", 1, action).late_reply(before, "", channel, command, how);
    let booted = fake.boot().await;
    assert!(booted.stopped().starts_with("step-1: "), "{}", booted.stopped());
    assert_eq!(booted.word(), expected, "{}", booted.stopped());
}

#[tokio::test(flavor = "current_thread")]
async fn a_file_that_can_not_be_written_is_no_fault_of_the_level() {
    let full = exit(1, "cat: write error: No space left on device");
    let booted = fake().does("l2-check", 1, SaveRestore).command(0, "wc -c", 10, full).boot().await;
    let expected = "step-1: the migration of L1 is completed, because its file could not be written: \
                    cat: write error: No space left on device";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn the_conversations_of_a_level_are_one_record_each() {
    let booted = fake().lives_through("l2-check", 1, &[SaveRestore, Reset], 1).boot().await;
    assert_eq!(booted.stopped(), String::new());
    for (conversation, greetings) in [("L1.qmp.jsonl", 2), ("L2.qmp.jsonl", 2)] {
        let text = std::fs::read_to_string(booted.records.join(conversation)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let greeted = lines.filter(|line| line["message"]["QMP"].is_object()).count();
        assert_eq!(greeted, greetings, "{conversation}: {text}");
    }
    let console = std::fs::read_to_string(booted.records.join("L2.console.log")).unwrap();
    assert_eq!(console.matches("nestmatrix-report-end").count(), 2, "{console}");
    assert_eq!(booted.observation.levels[&level(2)].kernel.as_deref(), Some("6.12.0-fake"));
}
