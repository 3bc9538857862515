//! Windows levels: what their roles' commands print, how they fail, and what they start. Nothing that they say is trusted.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nestmatrix::scenario::Expectation;
use nestmatrix_images::{Catalog, WindowsRole};
use nestmatrix_model::{CommandChannel, DiskBus, FaultAction, Launch, NetworkCard, SymptomKind};
use nestmatrix_stack::{BootFiles, StackPlan, SystemDisk, WindowsSystem};
use rstest::rstest;
use serde_json::Value;

use crate::fake::{Booted, Fake, NONCE, exit, level, prints};
use crate::script::{Act, End, How, KERNEL};

/// A role whose commands the fake runs.
fn role(name: &str) -> Arc<WindowsRole> {
    let folder = tempfile::tempdir().unwrap();
    let command = |command: &str, words: &str| {
        format!("[{command}]\nrun = \"fake-windows {command} {words}\"\nwhy = \"a test\"\n")
    };
    let mut text = format!("name = \"{name}\"\ntitle = \"the hypervisor\"\n");
    text += &command("facts", "");
    text += &command("diagnostics", "");
    if name == "guest" {
        text += &command("report", "");
    } else {
        text += &command("ready", "");
        text += "seconds = 3\n";
        let values = "@GUEST@ cpus=@CPUS@ memory=@MEMORY_MIB@ volume=@VOLUME@ parameters='@PARAMETERS@ end'";
        text += &command("start", values);
        ["console", "state", "stop"].into_iter().for_each(|word| text += &command(word, "@GUEST@"));
    }
    fs::create_dir(folder.path().join("windows")).unwrap();
    fs::write(folder.path().join("windows").join(format!("{name}.toml")), text).unwrap();
    Arc::new(Catalog::load(folder.path()).unwrap().windows_role(name).unwrap().clone())
}

/// The disk of a Windows Server that was prepared for this role.
fn windows(name: &str) -> SystemDisk {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    SystemDisk {
        base: "/images/windows.qcow2".into(),
        overlay: "/scratch/overlay.qcow2".into(),
        bus: DiskBus::Virtio,
        network_card: NetworkCard::Virtio,
        command_channel: CommandChannel::Agent,
        qemu: None,
        memory_mib: 4096,
        cpus: 2,
        system: Some(("windows-server".into(), "2022".into())),
        first_boot: None,
        windows: Some(WindowsSystem {
            role: role(name),
            enlightenments: owned(&["hv-relaxed", "hv-spinlocks=0x1fff"]),
            nesting_enlightenments: owned(&["hv-emsr-bitmap"]),
            nesting_enlightenments_intel: owned(&["hv-evmcs"]),
        }),
    }
}

/// L2 is started by the Windows around it.
fn started_by(plan: &mut StackPlan, launch: Launch) {
    // Emulated metal gives levels of a stack with a disk one CPU.
    plan.levels[1].settings.hardware.cpus = Some(2);
    let l2 = plan.levels.last_mut().unwrap();
    l2.settings.launch = Some(launch);
    l2.guest_volume = Some("/scratch/l2.volume".into());
    if launch == Launch::Wsl2 {
        l2.image.kernel_release.clear();
        l2.image.files = BootFiles::WslRoot { archive: "/images/rootfs.tar.gz".into() };
    }
}

/// L0, a Windows as L1, and what its Hyper-V starts as L2.
fn hyper_v() -> Fake {
    with_role("hyper-v", Launch::HyperV)
}

fn with_role(name: &str, launch: Launch) -> Fake {
    Fake::new().with_disk(1, windows(name)).with_plan(move |plan| started_by(plan, launch))
}

/// The scripts of PowerShell that a level's agent was given, in their order.
fn scripts(booted: &Booted, level: u8) -> Vec<String> {
    let traffic = fs::read_to_string(booted.records.join(format!("L{level}.agent.jsonl"))).unwrap();
    let encoded = traffic.split("\"-EncodedCommand\",\"").skip(1);
    let encoded = encoded.map(|rest| rest.split('"').next().unwrap_or_default());
    let decoded = encoded.map(|text| {
        let bytes = BASE64.decode(text).unwrap();
        let units: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        String::from_utf16(&units).unwrap()
    });
    decoded.map(|script| script.split("fake-windows ").nth(1).unwrap_or_default().to_owned()).collect()
}

fn ran(booted: &Booted, command: &str) -> usize {
    scripts(booted, 1).iter().filter(|script| script.starts_with(command)).count()
}

fn evidence(booted: &Booted) -> Value {
    serde_json::to_value(booted.judged(&Expectation::WORKS).evidence().unwrap()).unwrap()
}

fn kind(booted: &Booted) -> SymptomKind {
    booted.observation.stop.as_ref().unwrap().symptom.kind()
}

/// What PowerShell writes if a command of it fails.
fn powershell_error(message: &str) -> End {
    exit(
        1,
        &format!(
            "#< CLIXML\r\n<Objs><S S=\"Error\">{message}_x000D__x000A_</S>\
             <S S=\"Error\">At line:7 char:1_x000D__x000A_</S><S S=\"Error\">+ Start-VM_x000D__x000A_</S></Objs>"
        ),
    )
}

#[tokio::test(flavor = "current_thread")]
async fn hyper_v_starts_l2_and_the_evidence_says_so() {
    let booted = hyper_v().boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let evidence = evidence(&booted);
    assert_eq!(evidence["report"]["hypervisor"], "Microsoft Hyper-V");
    assert_eq!(evidence["report"]["nonce"], NONCE);
    assert_eq!(evidence["hyper_v"]["l1"]["root_partition"], true);
    assert!(evidence["kvm"].get("l1").is_some() && evidence["kvm"].get("l2").is_none(), "{evidence}");
    assert!(evidence["exits"].get("l0").is_some() && evidence["exits"].get("l1").is_none(), "{evidence}");
    // Windows was a nested guest before L2.
    assert_eq!(evidence["nested_runs"]["l0"]["before"], 500);
    assert_eq!(evidence["nested_runs"]["l0"]["after"], 1300);
    let l2 = &booted.observation.levels[&level(2)];
    assert_eq!((l2.machine.as_deref(), l2.qemu.as_deref(), l2.cpu.as_deref()), (Some("hyper-v"), None, None));
    let stages: Vec<_> =
        booted.observation.stages.iter().map(|time| time.stage.to_string()).skip(3).collect();
    assert_eq!(stages, ["l1-launch", "l1-boot", "l1-kvm", "l2-launch", "l2-boot", "l2-check"]);
    let log = fs::read_to_string(booted.records.join("L1.dmesg")).unwrap();
    assert!(log.contains("root-partition=True") && log.contains("an event of the log"), "{log}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_role_gets_the_values_of_its_guest_and_stops_it_at_the_end() {
    let booted = hyper_v().boot().await;
    let scripts = scripts(&booted, 1);
    let start = scripts.iter().find(|script| script.starts_with("start ")).unwrap();
    assert!(
        start.starts_with("start L2 cpus=2 memory=1024 volume=NESTGUEST parameters='console=ttyS0 "),
        "{start}"
    );
    assert!(start.contains(&format!(" nest.nonce={NONCE} ")), "{start}");
    assert_eq!(scripts.last().map(String::as_str), Some("stop L2"));
    let l0 = fs::read_to_string(booted.records.join("L0.agent.jsonl")).unwrap();
    assert!(l0.contains("-cpu host,hv-relaxed=on,hv-emsr-bitmap=on,hv-spinlocks=0x1fff "), "{l0}");
    assert!(l0.contains("file=/run/nest/disk/l2") && !l0.contains("nest.l2."), "{l0}");
}

#[tokio::test(flavor = "current_thread")]
async fn wsl_2_starts_l2_with_a_kernel_of_its_own() {
    let booted = with_role("wsl2", Launch::Wsl2).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(evidence(&booted)["report"]["hypervisor"], "Microsoft Hyper-V");
    let start = scripts(&booted, 1).into_iter().find(|script| script.starts_with("start ")).unwrap();
    assert!(start.contains(&format!("parameters='nest.nonce={NONCE} end'")), "{start}");
    assert_eq!(booted.observation.levels[&level(2)].machine.as_deref(), Some("wsl2"));
}

#[rstest]
#[case::l2(2)]
#[case::l1(1)]
#[tokio::test(flavor = "current_thread")]
async fn an_innermost_windows_reports_by_its_role(#[case] innermost: u8) {
    let mut disk = windows("guest");
    disk.cpus = 1;
    let fake = Fake::new().up_to(innermost).with_disk(innermost, disk);
    let fake = fake.with_plan(|plan| plan.levels.last_mut().unwrap().settings.hardware.cpus = Some(2));
    let booted = fake.boots(innermost, [Act::AgentAnswers]).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let evidence = evidence(&booted);
    assert_eq!(
        (&evidence["report"]["system"], &evidence["report"]["hypervisor"]),
        (&"windows-server".into(), &"KVM".into())
    );
    assert!(evidence.get("hyper_v").is_none(), "{evidence}");
    let asked = scripts(&booted, innermost);
    assert_eq!(asked.first().map(|script| script.trim()), Some("report"));
}

/// A Windows whose service is missing, and which says this about itself.
fn never_ready(facts: End) -> Fake {
    let why = powershell_error("Cannot find any service with service name 'vmms'.");
    hyper_v().command(1, "fake-windows ready", 5, why).command(1, "fake-windows facts", 5, facts)
}

const NOT_READY: &str = "[ready] of the role hyper-v on L1: PowerShell exited with status 1: \
                         Cannot find any service with service name 'vmms'.";

#[tokio::test(flavor = "current_thread")]
async fn a_windows_that_is_not_ready_and_says_that_no_hyper_v_runs_can_start_no_guests() {
    let booted = never_ready(facts("root-partition=False\r\n")).boot().await;
    let why = format!("Windows says that it runs on no Hyper-V of its own (root-partition); {NOT_READY}");
    assert_eq!(booted.stopped(), format!("l1-kvm: L1 can't start guests of the hypervisor: {why}"));
    assert_eq!(kind(&booted), SymptomKind::NoHypervisor);
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-kvm")), ("fail".into(), "xfail".into()));
    assert!(ran(&booted, "ready") > 1, "it is asked again");
}

#[tokio::test(flavor = "current_thread")]
async fn a_windows_whose_hyper_v_runs_and_that_is_not_ready_says_nothing_of_the_stack() {
    let booted = never_ready(facts("root-partition=True\r\n")).boot().await;
    assert_eq!(booted.stopped(), format!("l1-kvm: its Hyper-V runs, but L1 is not ready: {NOT_READY}"));
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-kvm")), ("error".into(), "error".into()));
}

#[rstest]
#[case::it_does_not_say(facts(""))]
#[case::it_can_t_say(powershell_error("no"))]
#[tokio::test(flavor = "current_thread")]
async fn a_windows_that_is_not_ready_and_says_nothing_of_its_hyper_v_is_too_slow(#[case] facts: End) {
    let booted = never_ready(facts).boot().await;
    assert!(booted.timed_out(), "{}", booted.stopped());
    let last_line = format!("nestmatrix: {NOT_READY}");
    assert!(booted.stopped().ends_with(&format!(", last line {last_line:?}")), "{}", booted.stopped());
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-kvm")), ("fail".into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_test_for_readiness_that_never_ends_runs_into_the_limit() {
    let booted = hyper_v().command_never_ends(1, "fake-windows ready").boot().await;
    assert!(booted.timed_out() && booted.stopped().starts_with("l1-kvm: "), "{}", booted.stopped());
    assert_eq!(booted.word_if_it_stops_from("l1-kvm"), "error");
}

fn facts(root_partition: &str) -> End {
    prints(&format!(
        "kernel={KERNEL}\r\nsystem=windows-server\r\nversion=2022\r\ncpus=0-1\r\n{root_partition}"
    ))
}

#[rstest]
#[case::none_runs(
    facts("root-partition=False\r\n"),
    "fail: L1 can't start guests of the hypervisor: Windows says that it runs on no Hyper-V of its own (root-partition)"
)]
#[case::nothing_is_said(facts(""), "error: missing evidence: what L1 reports about its Hyper-V")]
#[case::another_system(
    prints(&format!("kernel={KERNEL}\nsystem=windows-server\nversion=2019\n")),
    "error: L1 runs windows-server 2019, its disk has windows-server 2022"
)]
#[case::another_kernel(
    prints("kernel=10.0.1\n"),
    "error: L1 runs kernel \"10.0.1\", its image has \"6.12.0-fake\""
)]
#[case::failed(
    powershell_error("Access &lt;denied&gt;"),
    "error: [facts] of the role hyper-v on L1: PowerShell exited with status 1: Access <denied>"
)]
#[tokio::test(flavor = "current_thread")]
async fn what_windows_says_of_itself_must_fit(#[case] end: End, #[case] expected: &str) {
    let booted = hyper_v().command(1, "fake-windows facts", 5, end).boot().await;
    assert_eq!(booted.word_and_symptom(), expected);
}

#[tokio::test(flavor = "current_thread")]
async fn a_start_that_fails_is_an_error_with_the_words_of_powershell() {
    let end = powershell_error("Start-VM : 'L2' failed to start.");
    let booted = hyper_v().command(1, "fake-windows start", 5, end).boot().await;
    let why = "PowerShell exited with status 1: Start-VM : 'L2' failed to start.";
    assert_eq!(booted.stopped(), format!("l2-launch: [start] of the role hyper-v on L1: {why}"));
    // The commands of a role are the harness's or the user's.
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("error".into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_start_that_takes_long_is_no_silence_and_one_that_never_ends_is_an_error() {
    // Longer than the silence of what Windows starts, and shorter than a whole stage.
    let fake =
        hyper_v().limited_to(LIMIT).command(1, "fake-windows start", 2500, powershell_error("disk full"));
    let booted = fake.boot().await;
    assert!(booted.stopped().ends_with("disk full") && booted.word() == "error", "{}", booted.stopped());

    let booted = hyper_v().limited_to(LIMIT).command_never_ends(1, "fake-windows start").boot().await;
    assert!(booted.timed_out() && booted.stopped().starts_with("l2-launch: busy, "), "{}", booted.stopped());
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("error".into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_that_forbids_commands_is_quoted() {
    let why = "Command guest-exec has been disabled";
    let booted = hyper_v().reply("l1.agent", "guest-exec", How::Refuse(why.into())).boot().await;
    assert!(
        booted.stopped().starts_with("l1-kvm: ") && booted.stopped().contains(why),
        "{}",
        booted.stopped()
    );
    assert_eq!(booted.word(), "error");
}

/// Short, because what Windows starts is watched for three times as long.
const LIMIT: Duration = Duration::from_millis(1500);

#[rstest]
#[case::garbage(prints("\u{1}\u{2}\r\n====\r\nnonce=1\r\n"), "l2-boot", "nonce=1")]
#[case::half_a_report(prints("nestmatrix-report-begin\r\nnonce=17\r\nkern"), "l2-check", "nonce=17")]
#[case::an_error(
    powershell_error("The process cannot access the file"),
    "l2-boot",
    "nestmatrix: [console] of the role hyper-v on L1: PowerShell exited with status 1: The process cannot access the file"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_console_without_a_report_runs_into_the_limit(
    #[case] console: End,
    #[case] stage: &str,
    #[case] last_line: &str,
) {
    let booted = hyper_v()
        .limited_to(LIMIT)
        .boots(2, [Act::Wait(10)])
        .command(1, "fake-windows console", 5, console)
        .boot()
        .await;
    assert!(booted.timed_out(), "{}", booted.stopped());
    let stopped = booted.stopped();
    assert!(stopped.starts_with(&format!("{stage}: no progress for ")), "{stopped}");
    assert!(stopped.ends_with(&format!(" s, last line {last_line:?}")), "{stopped}");
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("fail".into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_console_that_is_never_printed_runs_into_the_limit() {
    let booted = hyper_v().limited_to(LIMIT).command_never_ends(1, "fake-windows console").boot().await;
    assert!(booted.timed_out(), "{}", booted.stopped());
    assert!(booted.stopped().ends_with(" s, nothing on its console"), "{}", booted.stopped());
}

#[tokio::test(flavor = "current_thread")]
async fn only_what_is_new_on_a_console_is_passed_on_and_only_so_much() {
    let acts = [Act::Say("one".into()), Act::Wait(1200), Act::Say("two".into()), Act::Report, Act::Wait(300)];
    let booted = hyper_v().boots(2, acts).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let record = fs::read_to_string(booted.records.join("L2.console.log")).unwrap();
    let lines: Vec<&str> =
        record.lines().filter_map(|line| line.split_once("] ").map(|(_, text)| text)).collect();
    assert_eq!(lines[..2], ["one", "two"], "{record}");
    assert!(ran(&booted, "console") > 2);

    let flood = prints(&"never ends ".repeat(1 << 18));
    let fake = hyper_v().limited_to(LIMIT).boots(2, [Act::Wait(10)]);
    let booted = fake.command(1, "fake-windows console", 5, flood).boot().await;
    assert!(booted.timed_out() && booted.stopped().contains("no more than 1024 KiB"), "{}", booted.stopped());
    assert_eq!(ran(&booted, "console"), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_ends_before_its_report_shut_down() {
    let acts = [Act::Say("booting".into()), Act::PowerOff];
    let booted = hyper_v().limited_to(LIMIT).boots(2, acts).boot().await;
    assert_eq!(booted.stopped(), "l2-boot: L2 shut down before its work was done (Off: Operating normally)");
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l2-boot")), ("fail".into(), "xfail".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_task_that_fails_says_nothing_of_the_stack() {
    let failed = prints("failed wsl.exe --import has exited with 1\r\n");
    let fake = hyper_v().limited_to(LIMIT).boots(2, [Act::Say("booting".into()), Act::Wait(60_000)]);
    let booted = fake.command(1, "fake-windows state", 5, failed).boot().await;
    let why = "[state] of the role hyper-v on L1: wsl.exe --import has exited with 1";
    assert_eq!(booted.stopped(), format!("l2-boot: {why}"));
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("error".into(), "error".into()));
    assert_eq!(ran(&booted, "state"), 2, "one look is not enough");
}

#[tokio::test(flavor = "current_thread")]
async fn a_single_look_at_a_task_that_has_not_begun_is_no_end() {
    let acts = [Act::Wait(1000), Act::Say("booting".into()), Act::Wait(1200), Act::Report, Act::Wait(300)];
    let fake = hyper_v().limited_to(LIMIT).boots(2, acts);
    let booted = fake.boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert!(ran(&booted, "state") > 0, "the first look says that it has failed");
}

#[tokio::test(flavor = "current_thread")]
async fn the_last_words_of_a_guest_are_the_cause_of_its_end() {
    let acts = [Act::Wait(700), Act::Say("Kernel panic - not syncing: no init".into()), Act::PowerOff];
    let booted = hyper_v().limited_to(LIMIT).boots(2, acts).boot().await;
    assert_eq!(
        (kind(&booted), booted.word()),
        (SymptomKind::GuestFailed, "fail".into()),
        "{}",
        booted.stopped()
    );
}

#[rstest]
#[case::garbage("what?\r\n")]
#[case::nothing("")]
#[case::almost("endedness\r\n")]
#[tokio::test(flavor = "current_thread")]
async fn a_state_that_is_none_ends_nothing(#[case] state: &str) {
    let fake = hyper_v().limited_to(LIMIT).boots(2, [Act::Wait(1000), Act::Report]);
    let booted = fake.command(1, "fake-windows state", 5, prints(state)).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
}

/// What L2 says on its console.
fn says(nonce: &str, hypervisor: &str) -> Vec<Act> {
    let text = format!(
        "nestmatrix-report-begin\nnonce={nonce}\nkernel={KERNEL}\nhypervisor={hypervisor}\ncpu=Fake\nnestmatrix-report-end"
    );
    text.lines().map(|line| Act::Say(line.to_owned())).collect()
}

#[rstest]
#[case::of_another_guest(
    says("ffeeddccbbaa99887766554433221100", "Microsoft Hyper-V"),
    "fail: L2 gave back nonce \"ffeeddccbbaa99887766554433221100\", it was started with \
     \"00112233445566778899aabbccddeeff\""
)]
#[case::without_nonce(says("", "Microsoft Hyper-V"), "error: missing evidence: the nonce in L2's report")]
#[case::of_kvm(says(NONCE, "KVM"), "fail: L2 says that its hypervisor is \"KVM\", not Microsoft Hyper-V")]
#[case::of_none(says(NONCE, "none"), "fail: L2 says that its hypervisor is \"none\", not Microsoft Hyper-V")]
#[case::without_word(says(NONCE, ""), "error: missing evidence: the hypervisor in L2's report")]
#[tokio::test(flavor = "current_thread")]
async fn a_report_that_is_not_that_of_this_guest_is_no_pass(#[case] acts: Vec<Act>, #[case] expected: &str) {
    let booted = hyper_v().boots(2, acts).boot().await;
    assert_eq!(booted.word_and_symptom(), expected);
}

/// The counters of L0 at the end, if nothing ran as a nested guest since L2's launch.
#[tokio::test(flavor = "current_thread")]
async fn counters_that_do_not_grow_from_l2s_launch_on_are_missing_evidence() {
    let closing = prints("nestmatrix-uptime=9\ncounters\nexits:90000\nnested_run:500\n");
    let booted = hyper_v().command(0, "echo nestmatrix-uptime=", 5, closing).boot().await;
    let why = "counter nested_run of L0's KVM did not grow (it was 500, it is 500)";
    assert_eq!(booted.word_and_symptom(), format!("error: missing evidence: {why}"));
}

/// A lie of the harness: it starts L2 with KVM of L0, and says that Windows did.
#[rstest]
#[case::on_emulated_metal(Fake::new())]
#[case::on_native_metal(Fake::new().on_native_metal())]
#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_l0_starts_instead_of_windows_is_not_nested(#[case] fake: Fake) {
    let fake = fake.with_disk(1, windows("hyper-v")).with_plan(|plan| {
        let l1 = plan.levels.len() - 2;
        plan.levels[l1].settings.hardware.cpus = Some(2);
        plan.levels[l1 + 1].settings.launch = Some(Launch::HyperV);
        plan.levels[l1 + 1].guest_volume = Some("/scratch/l2.volume".into());
        plan.innermost_on_l0 = true;
    });
    let folder = fake.folder();
    let fake = fake.with_plan(move |plan| {
        if plan.levels.len() == 2
            && let BootFiles::Disk(disk) = &mut plan.levels[0].image.files
        {
            // The fake that plays L1 on this machine finds its script above its disk.
            disk.overlay = folder.join("overlay.qcow2");
        }
    });
    let booted = fake.boot().await;
    assert_eq!(
        booted.word_and_symptom(),
        "fail: L2 says that its hypervisor is \"KVM\", not Microsoft Hyper-V"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_fault_stops_the_guest_by_its_role() {
    let booted = hyper_v()
        .limited_to(LIMIT)
        .fault("l2-check", FaultAction::KillQemu, 2)
        .boots(2, [Act::Say("nestmatrix-report-begin".into()), Act::Wait(60_000)]);
    let booted = booted.boot().await;
    assert_eq!(booted.stopped(), "l2-check: L2 shut down before its work was done (it does not exist)");
    assert_eq!((booted.word(), ran(&booted, "stop")), ("fail".into(), 1));
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_is_not_removed_at_the_end_is_noted() {
    let booted =
        hyper_v().command(1, "fake-windows stop", 5, powershell_error("cannot remove it")).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let log = fs::read_to_string(booted.records.join("L1.dmesg")).unwrap();
    let why = "[stop] of the role hyper-v on L1: PowerShell exited with status 1: cannot remove it";
    assert!(log.ends_with(&format!("\nnestmatrix: L2 is not cleaned up: {why}\n")), "{log}");
}

#[rstest]
#[case::facts("facts", "an event of the log")]
#[case::diagnostics("diagnostics", "root-partition=True")]
#[tokio::test(flavor = "current_thread")]
async fn a_question_at_the_end_that_fails_hides_no_answer(#[case] failing: &str, #[case] answered: &str) {
    let fake = hyper_v().command(1, &format!("fake-windows {failing}"), 5, powershell_error("Access denied"));
    let booted = fake.boot().await;
    let log = fs::read_to_string(booted.records.join("L1.dmesg")).unwrap();
    assert!(log.contains(answered) && log.contains(": Access denied\n"), "{log}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_without_a_monitor_has_none_to_close() {
    let booted = hyper_v().fault("l2-boot", FaultAction::CloseQmp, 2).boot().await;
    assert_eq!(booted.word_and_symptom(), "error: L2: it has no QMP, or not yet");
}

#[rstest]
#[case::before_l2("l2-launch")]
#[case::with_l2("l2-boot")]
#[case::at_its_report("l2-check")]
#[tokio::test(flavor = "current_thread")]
async fn the_end_of_windows_itself_is_the_cause_of_all_that_follows(#[case] at: &str) {
    let booted = hyper_v()
        .limited_to(LIMIT)
        .fault(at, FaultAction::KillQemu, 1)
        .boots(2, [Act::Say("nestmatrix-report-begin".into()), Act::Wait(60_000)]);
    let booted = booted.boot().await;
    assert_eq!(booted.stopped(), format!("{at}: L1's QEMU was killed (SIGKILL)"));
    assert_eq!((kind(&booted), booted.word()), (SymptomKind::QemuEnded, "fail".into()));
    assert_eq!(ran(&booted, "stop"), 0, "its disk goes with it");
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_that_falls_silent_is_no_sign_of_life() {
    let fake =
        hyper_v().silent_for_at_most(LIMIT).late_reply(0, "\"pid\"", "l1.agent", "guest-exec", How::Never);
    let booted = fake.boot().await;
    assert!(booted.timed_out(), "{}", booted.stopped());
    assert!(booted.stopped().starts_with("l1-kvm: "), "{}", booted.stopped());
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-kvm")), ("fail".into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn an_enlightenment_that_kvm_does_not_know_says_nothing_of_the_matrix() {
    let says =
        "qemu-system-x86_64: Hyper-V enlightened MSR-Bitmap (hv-emsr-bitmap) is not supported by kernel";
    let booted = hyper_v().qemu_ends(1, exit(1, says)).boot().await;
    assert_eq!(booted.stopped(), format!("l1-launch: L1's QEMU rejected its command line: {says}"));
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("error".into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_message_that_only_names_an_enlightenment_is_no_refusal_of_it() {
    let says = "qemu-system-x86_64: failed to set MSR 0x40000000 (hv-emsr-bitmap): KVM_RUN failed";
    let booted = hyper_v().qemu_ends(1, exit(1, says)).boot().await;
    assert_eq!(
        (kind(&booted), booted.word()),
        (SymptomKind::QemuEnded, "fail".into()),
        "{}",
        booted.stopped()
    );
}

#[tokio::test(flavor = "current_thread")]
async fn an_enlightenment_that_the_cpu_did_not_get_is_found() {
    let reply = How::Return(false.into());
    let booted = hyper_v().with_plan(|plan| {
        // Nothing else is required, so that the answer is about this.
        plan.levels[1].settings.cpu.mode = nestmatrix_model::CpuMode::Custom { model: "EPYC".into() };
    });
    let booted = booted.late_reply(0, "true", "l1.qmp", "qom-get", reply).boot().await;
    assert_eq!(booted.stopped(), "l1-launch: missing CPU feature: hv-emsr-bitmap (model EPYC)");
    assert_eq!(booted.word(), "error");
}

#[tokio::test(flavor = "current_thread")]
async fn windows_takes_no_step_of_a_posix_shell_and_what_it_starts_takes_none() {
    let booted = hyper_v().step("l1-kvm", 1, "uname -a").boot().await;
    let why = "running a script of a POSIX shell on L1: it is Windows, which has no such shell";
    assert_eq!(booted.word_and_symptom(), format!("error: {why}"));
    let booted = hyper_v().with_plan(|plan| plan.stays = true).step("l2-check", 2, "uname -a").boot().await;
    assert_eq!(booted.word_and_symptom(), "error: L2 can't be asked: it takes no commands");
}

#[rstest]
#[case::no_windows("debian", "it is no Windows level")]
#[case::another_role("wsl2", "it is prepared for the role wsl2")]
#[tokio::test(flavor = "current_thread")]
async fn only_a_windows_with_the_right_role_starts_a_guest(#[case] name: &'static str, #[case] why: &str) {
    let fake = Fake::new().with_plan(|plan| started_by(plan, Launch::HyperV));
    let fake = if name == "debian" { fake } else { fake.with_disk(1, windows(name)) };
    let booted = fake.boot().await;
    assert_eq!(booted.word_and_symptom(), format!("error: starting L2 by hyper-v on L1: {why}"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_kernel_parameter_that_could_end_a_string_of_powershell_goes_nowhere() {
    let booted = hyper_v().with_plan(|plan| {
        plan.levels[2].settings.kernel_parameters = vec!["x='; Stop-Computer".into()];
    });
    let booted = booted.boot().await;
    assert!(
        booted.stopped().starts_with("l2-launch: starting L2 by hyper-v on L1: @PARAMETERS@ "),
        "{}",
        booted.stopped()
    );
    assert_eq!((booted.word(), ran(&booted, "start")), ("error".into(), 0));
}

#[rstest]
#[case::facts("facts", "kernel=")]
#[case::console("console", "nestmatrix-report-begin\nnonce=")]
#[case::state("state", "ended ")]
#[tokio::test(flavor = "current_thread")]
async fn megabytes_and_control_characters_of_windows_go_nowhere(#[case] command: &str, #[case] begin: &str) {
    let hostile = format!("{begin}\u{1b}[2J\u{202e}{}", "x".repeat(2 << 20));
    let fake = hyper_v().limited_to(LIMIT).boots(2, [Act::Wait(10)]);
    let booted = fake.command(1, &format!("fake-windows {command}"), 5, prints(&hostile)).boot().await;
    let said = booted.word_and_symptom();
    assert!(
        said.len() < 12_000 && !said.contains(|c: char| c.is_control() || c == '\u{202e}'),
        "{} bytes",
        said.len()
    );
    assert!(!said.starts_with("pass"), "{said}");
}
