//! The diagnostics of a level that its QEMU stopped, and which stops are charged to the emulated metal.

use std::time::{Duration, Instant};

use nestmatrix::scenario::{Expectation, Limitation, StopStage, SymptomTexts};
use nestmatrix_model::{Hardware, Stage};
use nestmatrix_stack::{MachineSettings, Symptom};
use rstest::rstest;
use serde_json::{Value, json};

use crate::fake::{Booted, Fake, prints};
use crate::script::{Act, How};

/// What a level reports about its kernel and about the QEMU that has stopped its guest.
const SAID: &str = "\
131 (qemu-system-x86) S 1 131 131 0 -1 4194560 1 0 0 0 100 20 0 0 20 0 4 0 1234 1000 500
nestmatrix-qemu
KVM internal error. Suberror: 1
emulation failure
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00000f61

nestmatrix-kernel
[    3.100000] kvm_amd: Nested Virtualization enabled
[   13.000000] kvm_amd: kvm [131]: vcpu0, guest rIP: 0xfff0 unhandled exit
";

/// L2 boots until its QEMU stops it in this run state, after it has printed these lines.
fn stopped(state: &str, lines: &[&str]) -> Fake {
    let lines = lines.iter().map(|line| Act::Say((*line).to_owned()));
    let acts: Vec<Act> = lines.chain([Act::Wait(20), Act::Event("STOP".into(), Value::Null)]).collect();
    let status = json!({"status": state, "running": false});
    Fake::new().boots(2, acts).reply("l2.qmp", "query-status", How::Return(status))
}

/// The verdict's name, if L2 should stop with this text.
fn word_if_it_says(booted: &Booted, text: &str) -> String {
    let stage: Stage = "l2-boot".parse().unwrap();
    let limitation = Limitation::new(StopStage::At(stage), SymptomTexts::new([text]));
    booted.judged(&Expectation::Stops { limitation, known_stale: None }).word().to_string()
}

#[tokio::test(flavor = "current_thread")]
async fn what_qemu_and_the_kernel_around_it_said_of_a_stop_is_in_the_symptom_and_in_a_file() {
    let booted =
        stopped("internal-error", &["booting"]).command(1, "nestmatrix-qemu", 5, prints(SAID)).boot().await;
    assert_eq!(
        booted.word_and_symptom(),
        "fail: L2's QEMU stopped it (internal-error): KVM internal error. Suberror: 1; L1's kernel says \
         \"kvm_amd: kvm [131]: vcpu0, guest rIP: 0xfff0 unhandled exit\""
    );
    for text in ["internal-error", "emulation failure", "unhandled exit"] {
        assert_eq!(word_if_it_says(&booted, text), "xfail", "{text}");
    }
    assert_eq!(
        word_if_it_says(&booted, "Nested Virtualization enabled"),
        "fail",
        "that was before it started"
    );
    let file = std::fs::read_to_string(booted.records.join("L2.stopped.log")).unwrap();
    assert!(file.contains("Run state: internal-error") && file.contains("EAX=00000000"), "{file}");
    assert!(file.contains("guest rIP: 0xfff0") && !file.contains("Nested Virtualization"), "{file}");
}

#[rstest]
#[case::of_this_machine(1, true)]
#[case::of_l1(2, false)]
#[tokio::test(flavor = "current_thread")]
async fn the_kernel_of_an_l0_that_is_this_machine_may_speak_of_other_stacks(
    #[case] level: u8,
    #[case] shared: bool,
) {
    let acts = [Act::Say("booting".into()), Act::Wait(20), Act::Event("STOP".into(), Value::Null)];
    let fake = Fake::new().on_native_metal().boots(level, acts);
    let booted = fake.command(1, "nestmatrix-qemu", 5, prints(SAID)).boot().await;
    let stop = booted.observation.stop.as_ref().unwrap();
    let Symptom::StoppedByQemu { diagnostics, .. } = &stop.symptom else { panic!("{stop:?}") };
    assert_eq!(diagnostics.kernel_is_shared, shared);
}

#[tokio::test(flavor = "current_thread")]
async fn a_panic_that_qemu_reports_has_their_words_too() {
    let acts = [Act::Say("booting".into()), Act::Event("GUEST_PANICKED".into(), json!({"action": "pause"}))];
    let booted = Fake::new().boots(2, acts).command(1, "nestmatrix-qemu", 5, prints(SAID)).boot().await;
    assert!(booted.word_and_symptom().starts_with("fail: the guest panicked (GUEST_PANICKED): KVM internal"));
    assert_eq!(word_if_it_says(&booted, "emulation failure"), "xfail");
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_that_does_not_answer_changes_no_verdict_and_is_not_waited_for_long() {
    let fake = stopped("internal-error", &["booting"]).silent_for_at_most(Duration::from_secs(4));
    let began = Instant::now();
    let booted = fake.command_never_ends(1, "nestmatrix-qemu").boot().await;
    assert_eq!(booted.word_and_symptom(), "fail: L2's QEMU stopped it (internal-error)");
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    assert!(!booted.records.join("L2.stopped.log").exists());
}

#[rstest]
#[case::in_its_default_firmware(&[], "q35", "error: L2's QEMU stopped it (internal-error): KVM internal error. Suberror: 1; L1's \
     kernel says \"kvm_amd: kvm [131]: vcpu0, guest rIP: 0xfff0 unhandled exit\" (emulator erratum tcg-no-nrips)")]
#[case::its_kernel_runs(&["booting"], "q35", "fail: L2's QEMU stopped it (internal-error): KVM")]
#[case::other_firmware(&[], "microvm\nfirmware qboot.rom", "fail: L2's QEMU stopped it (internal-error): KVM")]
#[tokio::test(flavor = "current_thread")]
async fn a_stop_that_is_known_to_come_of_an_erratum_is_charged_to_the_emulated_metal(
    #[case] lines: &[&str],
    #[case] machines: &str,
    #[case] expected: &str,
) {
    let machines = prints(&format!("Supported machines are:\n{machines}\n"));
    let fake = stopped("internal-error", lines).command(1, "-machine help", 5, machines);
    let booted = fake.command(1, "nestmatrix-qemu", 5, prints(SAID)).boot().await;
    let seen = booted.word_and_symptom();
    assert!(seen.starts_with(expected), "{seen}");
}

/// L2 boots until it resets itself, after its kernel has printed this line.
fn reset(line: &str) -> Fake {
    reset_of(2, line)
}

/// The same of any level.
fn reset_of(level: u8, line: &str) -> Fake {
    let event = json!({"guest": true, "reason": "guest-reset"});
    let acts = [Act::Say(line.to_owned()), Act::Wait(20), Act::Event("SHUTDOWN".into(), event)];
    Fake::new().with_guests_on_first_cpu().boots(level, acts)
}

/// L0 is up, and resets itself while L1 is silent.
fn l0_resets_while_l1_boots() -> Fake {
    let event = json!({"guest": true, "reason": "guest-reset"});
    let acts = [Act::AgentAnswers, Act::Wait(1000), Act::Event("SHUTDOWN".into(), event)];
    Fake::new().with_guests_on_first_cpu().boots(0, acts).boots(1, [Act::Wait(60_000)])
}

#[tokio::test(flavor = "current_thread")]
async fn a_silent_reset_is_charged_to_the_emulated_metal_if_guests_may_run_on_its_first_cpu() {
    let silent = reset("booting").boot().await;
    let expected = "error: L2 shut down before its work was done (guest-reset); its kernel said nothing, and the other CPUs";
    let seen = silent.word_and_symptom();
    assert!(seen.starts_with(expected) && seen.ends_with("(emulator erratum tcg-smp-reset)"), "{seen}");

    let of_l1 = reset_of(1, "booting").boot().await.word_and_symptom();
    let expected = "error: L1 shut down before its work was done (guest-reset); its kernel said nothing";
    assert!(of_l1.starts_with(expected) && of_l1.ends_with("(emulator erratum tcg-smp-reset)"), "{of_l1}");

    let of_l0 = l0_resets_while_l1_boots().boot().await.word_and_symptom();
    let expected = "error: L0 shut down before its work was done (guest-reset); its kernel said nothing";
    assert!(of_l0.starts_with(expected) && of_l0.ends_with("(emulator erratum tcg-smp-reset)"), "{of_l0}");
    let before_any_guest = reset_of(0, "booting").boot().await.word_and_symptom();
    assert_eq!(before_any_guest, "error: L0 shut down before its work was done (guest-reset)");

    let announced = reset("[    9.000000] reboot: Restarting system").boot().await;
    let native = reset("booting").on_native_metal().boot().await;
    let hardware = Hardware { cpus: Some(1), ..Hardware::default() };
    let settings = MachineSettings { hardware, ..MachineSettings::default() };
    let one_cpu = reset("booting").with_settings(0, settings).boot().await;
    for booted in [announced, native, one_cpu] {
        let plain = "fail: L2 shut down before its work was done (guest-reset)";
        assert_eq!(booted.word_and_symptom(), plain);
    }
}

/// The answer of L1 if its KVM has this value of `npt`.
fn facts(npt: &str) -> String {
    format!(
        "kernel={}\nos=debian\nos-version=13\nflags=: fpu svm npt\nkvm-device\nkvm-module\nnested=1\n\
         kvm-parameter=npt:{npt}\ncounters\nexits:0\nnested_run:0\n",
        crate::script::KERNEL
    )
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_depends_on_an_erratum_is_skipped_before_it_runs_a_guest() {
    let fake = || Fake::new().command(1, "kvm-device", 5, prints(&facts("N")));
    let booted = fake().boot().await;
    assert_eq!(booted.word(), "skip");
    // Whatever the expectation is: nothing was tested.
    assert_eq!(booted.word_if_it_stops_from("l1-launch"), "skip");
    let stop = booted.observation.stop.as_ref().unwrap();
    assert_eq!(stop.stage.to_string(), "l2-launch");
    assert!(
        matches!(&stop.symptom, Symptom::EmulatorErratum { erratum, .. } if erratum == "tcg-cr-read-intercept"),
        "{stop:?}"
    );
    assert!(stop.symptom.to_string().ends_with("KVM of L1 (kvm_amd) has npt=N"), "{stop:?}");
    assert!(!booted.records.join("L2.qmp.jsonl").exists(), "L2 was not launched");

    let without = facts("N").replace(" npt\n", "\n");
    let booted = Fake::new().command(1, "kvm-device", 5, prints(&without)).boot().await;
    let stop = booted.observation.stop.as_ref().unwrap();
    let why = "KVM of L1 (kvm_amd) has npt=N because L1's CPU has no npt";
    assert!(stop.symptom.to_string().ends_with(why), "{stop:?}");

    assert_eq!(fake().on_native_metal().boot().await.word(), "pass", "a real processor has no such erratum");
    let booted = Fake::new().command(1, "kvm-device", 5, prints(&facts("Y"))).boot().await;
    assert_eq!(booted.word(), "pass");
}

#[tokio::test(flavor = "current_thread")]
async fn an_emulator_without_the_erratum_runs_it() {
    let old = json!({"QMP": {"version": {"qemu": {"major": 8, "minor": 2, "micro": 2}, "package": ""}, "capabilities": ["oob"]}});
    let fake = Fake::new().command(1, "kvm-device", 5, prints(&facts("N")));
    let booted = fake.reply("l0.qmp", "greeting", How::Return(old)).boot().await;
    assert_eq!(booted.word(), "pass", "{}", booted.stopped());
}
