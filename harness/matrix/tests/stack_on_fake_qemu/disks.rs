//! Levels that boot from disks: what their systems say of themselves, and what happens if they say something else. Nothing that they
//! say is trusted.

use std::fs;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nestmatrix::scenario::Expectation;
use nestmatrix_model::{CommandChannel, DiskBus, NetworkCard};
use nestmatrix_stack::{Inputs, Lookup, SnapshotCache, SystemDisk};
use rstest::rstest;

use crate::fake::{Booted, Fake, NONCE, exit, level, prints};
use crate::script::{Act, How, KERNEL};

/// The disk of a whole Debian, with a QEMU where RHEL has it.
fn debian() -> SystemDisk {
    SystemDisk {
        base: "/images/debian.qcow2".into(),
        overlay: "/scratch/overlay.qcow2".into(),
        bus: DiskBus::Virtio,
        network_card: NetworkCard::Virtio,
        command_channel: CommandChannel::Agent,
        qemu: Some("/usr/libexec/qemu-kvm".into()),
        memory_mib: 1024,
        cpus: 1,
        system: Some(("debian".into(), "13".into())),
        first_boot: None,
        windows: None,
    }
}

fn l1_from_a_disk() -> Fake {
    Fake::new().with_disk(1, debian())
}

fn l2_from_a_disk() -> Fake {
    Fake::new().with_disk(2, debian())
}

/// What a level's agent was asked for.
fn asked(booted: &Booted, level: u8) -> String {
    fs::read_to_string(booted.records.join(format!("L{level}.agent.jsonl"))).unwrap()
}

#[tokio::test(flavor = "current_thread")]
async fn l1_boots_from_its_disk_and_its_own_qemu_launches_l2() {
    let booted = l1_from_a_disk().boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let launch = asked(&booted, 0);
    assert!(launch.contains("id=l1,if=none,format=raw,readonly=off,file=/run/nest/disk/l1"), "{launch}");
    assert!(launch.contains("virtio-blk-pci,drive=l1,serial=l1,bootindex=1"), "{launch}");
    assert!(!launch.contains("/run/nest/l1-kernel") && !launch.contains("-uuid"), "{launch}");
    assert!(asked(&booted, 1).contains("exec /usr/libexec/qemu-kvm "), "{}", asked(&booted, 1));
    let l1 = &booted.observation.levels[&level(1)];
    assert_eq!(l1.kernel.as_deref(), Some(KERNEL));
}

#[tokio::test(flavor = "current_thread")]
async fn l2_boots_from_its_disk_and_returns_the_nonce_that_identifies_its_machine() {
    let booted = l2_from_a_disk().boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert!(
        asked(&booted, 1).contains("-uuid 00112233-4455-6677-8899-aabbccddeeff "),
        "{}",
        asked(&booted, 1)
    );
    let verdict = booted.judged(&Expectation::WORKS);
    let evidence = serde_json::to_value(verdict.evidence().unwrap()).unwrap();
    let report = &evidence["report"];
    assert_eq!((&evidence["nonce"], &report["nonce"]), (&NONCE.into(), &NONCE.into()));
    assert_eq!((&report["system"], &report["version"]), (&"debian".into(), &"13".into()));
    let last = booted.observation.stages.last().unwrap().stage.to_string();
    assert_eq!(last, "l2-check");
}

#[tokio::test(flavor = "current_thread")]
async fn all_levels_boot_from_disks() {
    let booted = l1_from_a_disk().with_disk(2, debian()).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_snapshot_holds_what_a_level_has_written_to_its_disk() {
    let place = tempfile::tempdir().unwrap();
    let overlay = place.path().join("L1.qcow2");
    fs::write(&overlay, "written by L1").unwrap();
    let disk = || SystemDisk { overlay: overlay.clone(), ..debian() };
    let cache = Rc::new(SnapshotCache::open(place.path().join("states"), 1 << 30).unwrap());
    let booted = Fake::new().with_disk(1, disk()).saved_at(level(1), &cache).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let Lookup::Found(snapshot) = cache.find(level(1), &Inputs::new()).unwrap() else {
        panic!("no snapshot")
    };
    assert_eq!(fs::read_to_string(snapshot.disk("L1.qcow2").unwrap()).unwrap(), "written by L1");
    let booted = Fake::new().with_disk(1, disk()).restored_from(*snapshot).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(booted.observation.restored, Some(true));
}

/// The level runs another system than the one that was saved. Nothing else would show that.
#[tokio::test(flavor = "current_thread")]
async fn a_restored_level_is_asked_again_which_system_it_is() {
    let place = tempfile::tempdir().unwrap();
    let overlay = place.path().join("L1.qcow2");
    fs::write(&overlay, "").unwrap();
    let disk = || SystemDisk { overlay: overlay.clone(), ..debian() };
    let cache = Rc::new(SnapshotCache::open(place.path().join("states"), 1 << 30).unwrap());
    Fake::new().with_disk(1, disk()).saved_at(level(1), &cache).boot().await;
    let Lookup::Found(snapshot) = cache.find(level(1), &Inputs::new()).unwrap() else {
        panic!("no snapshot")
    };
    let other = SystemDisk { system: Some(("rhel".into(), "9.4".into())), ..disk() };
    let booted = Fake::new().with_disk(1, other).restored_from(*snapshot).boot().await;
    assert_eq!(booted.stopped(), "l1-kvm: L1 runs debian 13, its disk has rhel 9.4");
    assert_eq!(booted.word(), "error");
}

/// What L1's agent answers to the harness's questions about the level.
fn facts(kernel: &str, system: &str, version: &str) -> String {
    format!(
        "kernel={kernel}\nos={system}\nos-version={version}\nflags=: fpu svm npt\nkvm-device\nkvm-module\nnested=1\ncounters\n\
         exits:100\nnested_run:0\n"
    )
}

/// The harness or its cache is wrong, and no document.
#[rstest]
#[case::kernel(
    "6.1.0-other",
    "debian",
    "13",
    "L1 runs kernel \"6.1.0-other\", its image has \"6.12.0-fake\""
)]
#[case::version(KERNEL, "debian", "12", "L1 runs debian 12, its disk has debian 13")]
#[case::system(KERNEL, "ubuntu", "13", "L1 runs ubuntu 13, its disk has debian 13")]
#[case::nothing(KERNEL, "", "", "L1 runs a system without a name, its disk has debian 13")]
#[tokio::test(flavor = "current_thread")]
async fn an_l1_that_is_not_what_its_disk_holds_is_an_error(
    #[case] kernel: &str,
    #[case] system: &str,
    #[case] version: &str,
    #[case] expected: &str,
) {
    let facts = prints(&facts(kernel, system, version));
    let booted = l1_from_a_disk().command(1, "kvm-device", 0, facts).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (format!("l1-kvm: {expected}"), "error".into()));
    assert_eq!(booted.word_if_it_stops_from("l1-launch"), "error", "it is no documented stop either");
}

#[rstest]
#[case::l1(1, "l1-boot")]
#[case::l2(2, "l2-boot")]
#[tokio::test(flavor = "current_thread")]
async fn a_system_whose_agent_never_answers_runs_into_its_limit(#[case] number: u8, #[case] stage: &str) {
    let fake = Fake::new().with_disk(number, debian()).limited_to(Duration::from_millis(1500));
    let login = Act::Say("vm login:".into());
    let booted = fake.boots(number, [login]).boot().await;
    assert!(booted.timed_out(), "{}", booted.stopped());
    let stopped = booted.stopped();
    assert!(stopped.starts_with(&format!("{stage}: ")) && stopped.contains("vm login:"), "{stopped}");
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("fail".into(), "error".into()));
}

/// As RHEL's agent does unless the disk is prepared.
#[rstest]
#[case::l1(1)]
#[case::l2(2)]
#[tokio::test(flavor = "current_thread")]
async fn an_agent_that_forbids_commands_is_an_error_that_quotes_it(#[case] number: u8) {
    let why = "Command guest-exec has been disabled: the command is not allowed";
    let fake = Fake::new().with_disk(number, debian());
    let booted = fake.reply(&format!("l{number}.agent"), "guest-exec", How::Refuse(why.into())).boot().await;
    assert_eq!(booted.word(), "error", "{}", booted.stopped());
    assert!(booted.stopped().contains(why), "{}", booted.stopped());
}

/// A report of L2's system.
fn report(nonce: &str, kernel: &str, hypervisor: &str, system: &str) -> String {
    format!(
        "nestmatrix-report-begin\nnonce={nonce}\nkernel={kernel}\nhypervisor={hypervisor}\ncpu=Fake\nsystem={system}\nversion=13\n\
         nestmatrix-report-end\n"
    )
}

const NO_REPORT: &str = "error: L2 can't report: its script printed no complete report";

async fn with_report(text: &str) -> Booted {
    let began = Instant::now();
    let booted = l2_from_a_disk().command(2, "nestmatrix-report-begin", 0, prints(text)).boot().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    booted
}

#[rstest]
#[case::of_another_machine(
    report("ffeeddccbbaa99887766554433221100", KERNEL, "KVM", "debian"),
    "fail: L2 gave back nonce \"ffeeddccbbaa99887766554433221100\", it was started with \
     \"00112233445566778899aabbccddeeff\""
)]
#[case::without_nonce(
    report("", KERNEL, "KVM", "debian"),
    "error: missing evidence: the nonce in L2's report"
)]
#[case::without_hypervisor(
    report(NONCE, KERNEL, "none", "debian"),
    "fail: L2 says that its hypervisor is \"none\", not KVM"
)]
#[case::of_another_hypervisor(
    report(NONCE, KERNEL, "Microsoft Hyper-V", "debian"),
    "fail: L2 says that its hypervisor is \"Microsoft Hyper-V\", not KVM"
)]
#[case::of_another_kernel(
    report(NONCE, "6.1.0", "KVM", "debian"),
    "error: L2 runs kernel \"6.1.0\", its image has \"6.12.0-fake\""
)]
#[case::of_another_system(
    report(NONCE, KERNEL, "KVM", "ubuntu"),
    "error: L2 runs ubuntu 13, its disk has debian 13"
)]
#[case::absent(String::new(), NO_REPORT)]
#[case::garbage("\u{1}\u{2}=\n=\n====\nnonce=1\n".into(), NO_REPORT)]
#[case::cut_short(report(NONCE, KERNEL, "KVM", "debian").replace("nestmatrix-report-end\n", ""), NO_REPORT)]
#[tokio::test(flavor = "current_thread")]
async fn a_report_that_is_not_that_of_this_level_is_no_pass(#[case] text: String, #[case] expected: &str) {
    let booted = with_report(&text).await;
    assert_eq!(booted.word_and_symptom(), expected);
}

/// Its own words are not enough: the QEMU that runs it says whether it uses KVM.
#[tokio::test(flavor = "current_thread")]
async fn a_system_that_runs_without_kvm_fails_whatever_it_reports() {
    let kvm = How::Return(serde_json::json!({"enabled": false, "present": true}));
    let booted = l2_from_a_disk().reply("l2.qmp", "query-kvm", kvm).boot().await;
    assert_eq!(
        booted.stopped(),
        "l2-launch: L2's QEMU does not run it with KVM (query-kvm: enabled is false)"
    );
    assert_eq!(booted.word(), "fail");
}

#[tokio::test(flavor = "current_thread")]
async fn a_script_that_fails_in_the_level_is_quoted() {
    let end = exit(1, "sh: 1: sed: not found\n");
    let booted = l2_from_a_disk().command(2, "nestmatrix-report-begin", 0, end).boot().await;
    assert_eq!(booted.word_and_symptom(), "error: L2 can't report: sh: 1: sed: not found");
}

#[tokio::test(flavor = "current_thread")]
async fn a_report_that_never_ends_runs_into_its_limit() {
    let fake = l2_from_a_disk().limited_to(Duration::from_millis(1500));
    let booted = fake.command_never_ends(2, "nestmatrix-report-begin").boot().await;
    assert!(booted.timed_out() && booted.stopped().starts_with("l2-check: "), "{}", booted.stopped());
}

#[tokio::test(flavor = "current_thread")]
async fn a_system_that_powers_off_before_it_has_reported_shut_down() {
    let acts = [Act::AgentAnswers, Act::Wait(200), Act::PowerOff];
    let fake = l2_from_a_disk().boots(2, acts).command_never_ends(2, "nestmatrix-report-begin");
    let booted = fake.boot().await;
    assert!(booted.stopped().starts_with("l2-check: L2 shut down"), "{}", booted.stopped());
    assert_eq!(booted.word(), "fail");
}

/// The longest text that a hostile level may bring into a record or onto the terminal, in bytes.
const LONGEST: usize = 3000;

#[rstest]
#[case::nonce("nonce", "fail")]
#[case::kernel("kernel", "error")]
#[case::hypervisor("hypervisor", "fail")]
#[case::cpu("cpu", "pass")]
#[case::system("system", "error")]
#[case::version("version", "error")]
#[tokio::test(flavor = "current_thread")]
async fn megabytes_and_control_characters_in_a_report_go_nowhere(#[case] key: &str, #[case] word: &str) {
    let hostile = format!("\u{1b}[2J\u{1b}]0;title\u{7}\u{202e}{}", "x".repeat(2 << 20));
    let usual = report(NONCE, KERNEL, "KVM", "debian");
    let lines = usual.lines().map(|line| match line.split_once('=') {
        Some((name, _)) if name == key => format!("{key}={hostile}\n"),
        _ => format!("{line}\n"),
    });
    let booted = with_report(&lines.collect::<String>()).await;
    let said = booted.word_and_symptom();
    assert!(said.len() < LONGEST, "{} bytes", said.len());
    assert!(said.starts_with(word), "{said}");
    assert!(!said.contains(|c: char| c.is_control() || c == '\u{202e}'), "{said}");
    let report = serde_json::to_value(&booted.observation.measurements.report).unwrap();
    for value in report.as_object().into_iter().flat_map(|report| report.values()).filter_map(|v| v.as_str())
    {
        assert!(value.len() < LONGEST && !value.contains(char::is_control), "{} bytes: {value}", value.len());
    }
}

#[rstest]
#[case::kernel("kernel=6.12.0-fake", "kernel=")]
#[case::system("os=debian", "os=")]
#[case::version("os-version=13", "os-version=")]
#[case::parameter("nested=1", "nested=")]
#[case::device("kvm-device", "kvm-says=")]
#[tokio::test(flavor = "current_thread")]
async fn megabytes_and_control_characters_of_a_host_go_nowhere(#[case] line: &str, #[case] key: &str) {
    let hostile = format!("{key}\u{1b}[2J{}", "x".repeat(2 << 20));
    let facts = facts(KERNEL, "debian", "13").replacen(line, &hostile, 1);
    let booted = l1_from_a_disk().command(1, "kvm-device", 0, prints(&facts)).boot().await;
    let said = booted.word_and_symptom();
    assert!(said.len() < LONGEST && !said.contains(char::is_control), "{} bytes: {said}", said.len());
    let levels = serde_json::to_string(&booted.observation.levels[&level(1)].nested).unwrap();
    assert!(levels.len() < LONGEST, "{} bytes", levels.len());
}

/// What an agent says instead of doing what it is asked for is as hostile.
#[rstest]
#[case::refusal(How::Refuse("\u{1b}[2J".repeat(1 << 19)))]
#[case::answer(How::Return(format!("\u{1b}[2J{}", "x".repeat(2 << 20)).into()))]
#[case::output(How::Return(serde_json::json!({"pid": "x".repeat(2 << 20)})))]
#[tokio::test(flavor = "current_thread")]
async fn megabytes_and_control_characters_of_an_agent_go_nowhere(#[case] how: How) {
    let booted = l2_from_a_disk().reply("l2.agent", "guest-exec", how).boot().await;
    let said = booted.word_and_symptom();
    assert!(said.starts_with("error: "), "{said}");
    assert!(said.len() < 12 * LONGEST && !said.contains(char::is_control), "{} bytes", said.len());
}
