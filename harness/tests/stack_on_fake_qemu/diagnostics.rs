//! What is learnt of a level that its QEMU stopped.

use std::time::{Duration, Instant};

use nestmatrix::scenario::{Expectation, Limitation, Stage, StopStage, SymptomTexts};
use serde_json::{Value, json};

use crate::fake::{Booted, Fake, prints};
use crate::script::{Act, How};

/// What a level tells of the QEMU that has stopped its guest, and of its kernel.
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
