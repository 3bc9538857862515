//! What a scenario asks for in a machine is asked back. A QEMU that gives something else stops the stack.

use nestmatrix_model::{Device, Hardware, LevelNumber, SymptomKind};
use nestmatrix_stack::MachineSettings;
use rstest::rstest;
use serde_json::{Value, json};

use crate::fake::{Fake, exit, level, prints};
use crate::script::{How, KERNEL};

/// A CPU with features switched off and properties set, more CPUs than usual, and devices.
fn settings() -> MachineSettings {
    let mut settings = MachineSettings::default();
    settings.cpu.disable = vec!["avx2".into()];
    settings.cpu.set = [("hv-spinlocks".to_owned(), "0x1fff".to_owned())].into();
    settings.hardware = Hardware {
        cpus: Some(3),
        max_cpus: Some(4),
        devices: vec![Device::VirtioRng, Device::Nvme],
        ..Hardware::default()
    };
    settings
}

fn cpu_of_settings() -> &'static str {
    "-cpu host,avx2=off,hv-spinlocks=0x1fff -smp 3,maxcpus=4 "
}

/// L1's agent answers this to the harness's questions about the level.
fn facts(cpus: &str) -> String {
    format!(
        "kernel={KERNEL}\nos=debian\nos-version=13\nflags=: fpu svm npt\ncpus-online={cpus}\nkvm-device\nkvm-module\n\
         nested=1\ncounters\nexits:100\nnested_run:0\n"
    )
}

fn fake() -> Fake {
    Fake::new().with_settings(1, settings()).command(1, "kvm-device", 0, prints(&facts("0-2")))
}

#[tokio::test(flavor = "current_thread")]
async fn hardware_that_is_given_passes_and_is_recorded() {
    let booted = fake().boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let level = &booted.observation.levels[&level(1)];
    assert_eq!((level.cpus, level.cpus_online), (Some(3), Some(3)));
    let hardware = &booted.observation.measurements.machines[&LevelNumber::ALL[1]].hardware;
    assert_eq!((hardware.cpus, hardware.max_cpus), (3, Some(4)));
    assert!(!hardware.disabled["avx2"]);
    assert_eq!(hardware.set["hv-spinlocks"], "8191");
    assert!(hardware.devices["virtio-rng"] && hardware.devices["nvme"], "{hardware:?}");
    let asked = std::fs::read_to_string(booted.records.join("L0.agent.jsonl")).unwrap();
    assert!(asked.contains(cpu_of_settings()), "{asked}");
    assert!(asked.contains("-device virtio-rng-pci,id=nest-virtio-rng "), "{asked}");
}

/// A reply to `command` on L1's monitor whose usual text contains `usual`.
#[rstest]
#[case::fewer_cpus("query-cpus-fast", "", json!([{"qom-path": "/c"}]), "1 CPUs instead of 3")]
#[case::fewer_slots("query-hotpluggable-cpus", "", json!([{"vcpus-count": 3}]), "at most 3 CPUs instead of 4")]
#[case::less_memory("query-memory-size-summary", "", json!({"base-memory": 1 << 20}), "1 MiB of memory instead of")]
#[case::feature_on("qom-get", "false", json!(true), "CPU feature avx2 is on, it was switched off")]
#[case::other_value("qom-get", "8191", json!(4095), "CPU property hv-spinlocks is 4095 instead of 0x1fff")]
#[case::other_device("qom-get", "virtio-rng-pci", json!("virtio-net-pci"), "device virtio-rng is missing")]
#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_gives_other_hardware_stops_the_stack(
    #[case] command: &str,
    #[case] usual: &str,
    #[case] answer: Value,
    #[case] difference: &str,
) {
    let booted = fake().late_reply(0, usual, "l1.qmp", command, How::Return(answer)).boot().await;
    let stopped = booted.stopped();
    assert!(stopped.starts_with(&format!("l1-launch: wrong hardware of L1: {difference}")), "{stopped}");
    let stop = booted.observation.stop.as_ref().unwrap();
    assert_eq!(stop.symptom.kind(), SymptomKind::WrongHardware);
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("fail".into(), "xfail".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_device_that_is_missing_is_noticed() {
    let refused = How::Refuse("Device 'nest-nvme' not found".into());
    let booted = fake().late_reply(0, "\"nvme\"", "l1.qmp", "qom-get", refused).boot().await;
    assert_eq!(booted.stopped(), "l1-launch: wrong hardware of L1: device nvme is missing");
}

#[tokio::test(flavor = "current_thread")]
async fn a_feature_that_can_not_be_read_is_not_off() {
    let refused = How::Refuse("Property '.avx2' not found".into());
    let booted = fake().late_reply(0, "false", "l1.qmp", "qom-get", refused).boot().await;
    assert_eq!(
        booted.stopped(),
        "l1-launch: wrong hardware of L1: CPU feature avx2 is on, it was switched off"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_whose_kernel_uses_other_cpus_contradicts_its_machine() {
    let fake = Fake::new().with_settings(1, settings());
    let booted = fake.command(1, "kvm-device", 0, prints(&facts("0-1"))).boot().await;
    let expected = "l1-kvm: wrong hardware of L1: its kernel uses 2 CPUs, its machine has 3";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "fail".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_kernel_that_a_parameter_limits_may_use_fewer_cpus() {
    let mut limited = settings();
    limited.kernel_parameters = vec!["maxcpus=2".into()];
    let fake = Fake::new().with_settings(1, limited);
    let booted = fake.command(1, "kvm-device", 0, prints(&facts("0-1"))).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_without_a_device_says_so_itself() {
    let says = "qemu-kvm: -device nvme,id=nest-nvme: 'nvme' is not a valid device model name\n";
    let booted = fake().qemu_ends(1, exit(1, says)).boot().await;
    let stopped = booted.stopped();
    assert!(stopped.starts_with("l1-launch: L1's QEMU rejected its command line: "), "{stopped}");
    assert_eq!(booted.word(), "fail");
}

#[rstest]
#[case::with(Some(nestmatrix_model::MemoryBacking::HugePages), "fail")]
#[case::without(None, "error")]
#[tokio::test(flavor = "current_thread")]
async fn a_host_without_huge_pages_is_at_fault_only_if_they_were_asked_for(
    #[case] backing: Option<nestmatrix_model::MemoryBacking>,
    #[case] word: &str,
) {
    let mut settings = MachineSettings::default();
    settings.hardware.memory_backing = backing;
    let says = "qemu-system-x86_64: unable to map backing store for guest RAM: Cannot allocate memory\n";
    let booted = Fake::new().with_settings(1, settings).qemu_ends(1, exit(1, says)).boot().await;
    assert_eq!(booted.word(), word, "{}", booted.stopped());
}
