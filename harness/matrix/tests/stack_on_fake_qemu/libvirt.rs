//! A level that libvirt launches: libvirt refuses it, does not answer, or its QEMU ends.

use std::time::Duration;

use nestmatrix_model::{CpuMode, CpuRequirement, FaultAction, Launch};
use nestmatrix_stack::{MachineSettings, Symptom};
use rstest::rstest;

use crate::fake::{Fake, exit};
use crate::script::{Act, End};

/// Short, because a QEMU in a level that opens no channel is polled rarely.
const LIMIT: Duration = Duration::from_secs(2);

/// A stack whose L1 libvirt launches with a CPU model of which svm is required.
fn fake() -> Fake {
    let mode = CpuMode::Custom { model: "EPYC-IBPB".into() };
    let cpu = CpuRequirement { mode, require: vec!["svm".into()], ..CpuRequirement::default() };
    let settings = MachineSettings { launch: Some(Launch::Libvirt), cpu, ..MachineSettings::default() };
    Fake::new().with_settings(1, settings)
}

/// What `virsh create` prints if it fails for this reason, and what QEMU has said.
fn refuses(why: &str, qemu: &str) -> End {
    exit(98, &format!("error: Failed to create domain from /run/nest/L1.xml\nerror: {why}\n\n{qemu}"))
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_libvirt_launches_hosts_as_any_other() {
    let booted = fake().boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let agent = std::fs::read_to_string(booted.records.join("L0.agent.jsonl")).unwrap();
    assert!(!agent.contains("-name L1"), "no command line of QEMU is run");
}

#[rstest]
#[case::no_daemon(exit(95, "libvirtd: error: Unable to obtain pidfile\n"), "starting libvirtd on L0: ")]
#[case::no_program(exit(127, "sh: virsh: not found\n"), "starting a machine by libvirt on L0: ")]
#[case::no_connection(
    refuses("failed to connect to the hypervisor", ""),
    "connecting to libvirt on L0: failed to connect to the hypervisor"
)]
#[case::wrong_xml(
    refuses("XML error: No PCI buses available", ""),
    "libvirt refused L1's machine: XML error: No PCI buses available"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_libvirt_that_can_not_work_says_nothing_of_the_matrix(#[case] end: End, #[case] expected: &str) {
    let booted = fake().limited_to(LIMIT).command(0, "virsh create", 5, end).boot().await;
    let stopped = booted.stopped();
    assert!(stopped.starts_with(&format!("l1-launch: {expected}")), "{stopped}");
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("error".into(), "error".into()));
}

#[rstest]
#[case::the_model("internal error: Unknown CPU model EPYC-IBPB")]
#[case::several_features(
    "operation failed: guest CPU doesn't match specification: missing features: svm,avx"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_refusal_of_what_the_scenario_asks_for_is_a_failure_of_that(#[case] why: &str) {
    let booted = fake().limited_to(LIMIT).command(0, "virsh create", 5, refuses(why, "")).boot().await;
    assert_eq!(booted.stopped(), format!("l1-launch: libvirt refused L1's machine: {why}"));
    // Only a scenario that names the symptom is about it.
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("fail".into(), "error".into()));
}

#[rstest]
#[case::before_it_starts(
    "the CPU is incompatible with host CPU: Host CPU does not provide required features: svm"
)]
#[case::with_full_check("operation failed: guest CPU doesn't match specification: missing features: svm")]
#[tokio::test(flavor = "current_thread")]
async fn a_feature_that_libvirt_misses_is_what_the_document_is_about(#[case] why: &str) {
    let booted = fake().limited_to(LIMIT).command(0, "virsh create", 5, refuses(why, "")).boot().await;
    assert_eq!(booted.stopped(), "l1-launch: missing CPU feature: svm (model EPYC-IBPB)");
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("fail".into(), "xfail".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_ends_at_once_is_quoted_without_libvirt() {
    let says = "qemu-system-x86_64: failed to initialize kvm: No such device";
    let why =
        format!("internal error: process exited while connecting to monitor: 2026-11-29T04:18:31Z {says}");
    let end = refuses(&why, &format!("{says}\n"));
    let booted = fake().limited_to(LIMIT).command(0, "virsh create", 5, end).boot().await;
    assert_eq!(booted.stopped(), format!("l1-launch: L1's QEMU ended: {says}"));
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("fail".into(), "xfail".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_virsh_that_hangs_reaches_the_time_limit() {
    let booted = fake().limited_to(LIMIT).command_never_ends(0, "virsh create").boot().await;
    assert!(booted.stopped().starts_with("l1-launch: ") && booted.timed_out(), "{}", booted.stopped());
    assert_eq!(booted.word(), "fail");
}

#[tokio::test(flavor = "current_thread")]
async fn the_end_of_a_qemu_that_libvirt_started_is_found() {
    let booted = fake().boots(1, [Act::EndQemu(exit(1, "KVM internal error. Suberror: 1\n"))]).boot().await;
    assert_eq!(booted.stopped(), "l1-boot: L1's QEMU ended: KVM internal error. Suberror: 1");
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-boot")), ("fail".into(), "xfail".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_fault_kills_the_qemu_that_libvirt_started() {
    let booted = fake().fault("l2-boot", FaultAction::KillQemu, 1).boot().await;
    let stop = booted.observation.stop.as_ref().unwrap();
    assert!(matches!(&stop.symptom, Symptom::QemuEnded { level, .. } if level.number() == 1), "{stop:?}");
}
