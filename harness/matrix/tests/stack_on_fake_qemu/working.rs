//! A stack that works.

use std::fs;
use std::time::Duration;

use nestmatrix::scenario::Expectation;

use crate::fake::{Fake, exit, level};
use crate::script::How;

#[tokio::test(flavor = "current_thread")]
async fn three_levels_that_work_pass_with_evidence() {
    let booted = Fake::new().boot().await;
    assert_eq!(booted.stopped(), "");
    let stages: Vec<String> = booted.observation.stages.iter().map(|time| time.stage.to_string()).collect();
    let expected = [
        "l0-launch",
        "l0-boot",
        "l0-kvm",
        "l1-launch",
        "l1-boot",
        "l1-kvm",
        "l2-launch",
        "l2-boot",
        "l2-check",
    ];
    assert_eq!(stages, expected);
    let verdict = booted.judged(&Expectation::WORKS);
    assert_eq!(verdict.word().to_string(), "pass", "{:?}", verdict.stop());
    let evidence = serde_json::to_value(verdict.evidence().unwrap()).unwrap();
    assert_eq!(evidence["nested_runs"]["l0"]["after"], 800, "{evidence}");
    assert_eq!(booted.observation.levels[&level(2)].machine.as_deref(), Some("microvm-machine"));
    assert_eq!(booted.word_if_it_stops_from("l1-launch"), "xpass");
}

#[tokio::test(flavor = "current_thread")]
async fn on_native_metal_this_machine_is_l0_and_two_levels_are_booted() {
    let booted = Fake::new().on_native_metal().boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let stages: Vec<String> = booted.observation.stages.iter().map(|time| time.stage.to_string()).collect();
    assert_eq!(stages[..2], ["l0-kvm", "l1-launch"]);
}

#[tokio::test(flavor = "current_thread")]
async fn every_channel_of_a_boot_leaves_a_record() {
    let booted = Fake::new().boot().await;
    let record = |name: &str| fs::read_to_string(booted.records.join(name)).unwrap();
    assert!(record("L1.console.log").ends_with("nestmatrix: level up, kernel 6.12.0-fake\n"));
    assert!(record("L1.dmesg").starts_with("[    0.000000] Linux version"));
    let greeted = |name: &str| record(name).contains("\"QMP\"");
    assert!(["L0.qmp.jsonl", "L1.qmp.jsonl", "L2.qmp.jsonl"].into_iter().all(greeted));
    assert!(record("L1.agent.jsonl").contains("exec qemu-system-x86_64 -name L2"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_stack_whose_kvm_counted_nothing_has_no_evidence() {
    let mut closing_report = exit(0, "");
    closing_report.stdout = "counters\nexits:0\nnested_run:0\n".into();
    let booted = Fake::new().command(0, "nestmatrix-uptime=", 0, closing_report).boot().await;
    let expected = "missing evidence: counter exits of L0's KVM did not grow (it was 0, it is 0)";
    assert_eq!((booted.stopped(), booted.word_and_symptom()), (String::new(), format!("error: {expected}")));
}

#[tokio::test(flavor = "current_thread")]
async fn a_stack_whose_l1_answers_no_more_at_its_end_has_no_evidence() {
    // L1 is asked about itself, for the machine types of its QEMU, and to start L2, and then no more.
    let fake = Fake::new().limited_to(Duration::from_secs(1));
    let booted = fake.late_reply(3, "", "l1.agent", "guest-exec", How::Never).boot().await;
    let expected =
        "missing evidence: counter exits of L1's KVM after the guests ran: L1 did not answer within 1 s";
    assert_eq!((booted.stopped(), booted.word_and_symptom()), (String::new(), format!("error: {expected}")));
}
