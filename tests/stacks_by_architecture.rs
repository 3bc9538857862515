//! One stack of each architecture that is not AMD, and ways to break one on each: what runs there is as real, and lies as
//! little. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::sync::OnceLock;
use std::time::Duration;

use common::{Place, Run, boots, scenarios};
use rstest::rstest;

const INTEL: &str = "rhel-10-preview/intel/rhel-10.0+/rhel-10.0+/rhel-10.0+";
const POWER9: &str = "rhel-8-power9/power9/rhel-8.2+/rhel-8.2+/rhel-8.2+";
const ARM: &str = "rhel-10-arm/arm/rhel-10.0+/rhel-10.0+/rhel-10.0+";
const ARM_CURRENT: &str = "rhel-10-arm-current/arm/rhel-later-10/rhel-later-10/rhel-later-10";
const IBM_Z: &str = "rhel-10-ibm-z-huge-pages/ibm-z/rhel-10.0+";
const IBM_Z_CURRENT: &str = "rhel-10-ibm-z-huge-pages-current/ibm-z/rhel-later-10";
const IBM_Z_GUEST: &str = "rhel-10-preview/ibm-z/rhel-10.0+/rhel-10.0+/rhel-10.0+";

/// Longest wait for a run.
const ALL: Duration = Duration::from_secs(40 * 60);

fn run_of(name: &str, cells: &[&str], sabotage: bool) -> Run {
    let _guard = boots();
    let place = Place::new();
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--cold", "--jobs", "1"]).args(cells);
    if sabotage {
        command.arg("--scenarios").arg(scenarios("sabotage"));
    }
    place.finish(command, ALL).keep(name)
}

/// The run over what works, or does not as documented.
fn stacks() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    let cells = [INTEL, POWER9, ARM, ARM_CURRENT, IBM_Z, IBM_Z_CURRENT, IBM_Z_GUEST];
    RUN.get_or_init(|| run_of("architectures", &cells, false))
}

/// The run over what is broken.
fn broken() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| run_of("broken-architectures", &["intel-*", "power9-*", "arm-*", "ibm-z-*"], true))
}

#[test]
fn nothing_is_otherwise_than_documented_or_known() {
    let run = stacks();
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert_eq!(run.cells().len(), 7, "{run:#?}");
}

/// Three real kernels, each with KVM, and L0's KVM has run its guest's guest.
#[rstest]
#[case::intel(INTEL, "pass", "host-x86_64-cpu", "bochs")]
#[case::power9(POWER9, "pass", "host-powerpc64-cpu", "qemu-system-ppc")]
#[case::arm(ARM_CURRENT, "xpass", "host-arm-cpu", "qemu-system-arm")]
fn a_stack_of_three_levels_works(
    #[case] name: &str,
    #[case] verdict: &str,
    #[case] cpu: &str,
    #[case] emulator: &str,
) {
    let cell = stacks().cell(name);
    assert_eq!(cell.text("verdict"), verdict, "{:?}", cell.record["symptom"]);
    let evidence = &cell.record["evidence"];
    assert_eq!(evidence["report"]["nonce"], evidence["nonce"]);
    assert_eq!(evidence["report"]["hypervisor"], "KVM");
    assert_eq!(evidence["kvm"]["l2"]["enabled"], true);
    assert_eq!(evidence["cpus"]["l1"]["model_type"], cpu);
    let grown = &evidence["nested_runs"]["l0"];
    assert!(grown["after"].as_u64().unwrap() > grown["before"].as_u64().unwrap() + 100, "{grown}");
    let emulators = stacks().record()["emulators"].to_string();
    assert!(emulators.contains(emulator), "{emulators}");
}

#[test]
fn arm_does_not_nest_with_what_the_documents_versions_had() {
    let cell = stacks().cell(ARM);
    assert_eq!(
        (cell.text("verdict"), cell.text("stage")),
        ("xfail", "l1-launch"),
        "{:?}",
        cell.record["symptom"]
    );
}

#[test]
fn ibm_z_refuses_huge_pages_with_nesting_until_it_does_not() {
    let cell = stacks().cell(IBM_Z);
    assert_eq!(
        (cell.text("verdict"), cell.text("stage")),
        ("xfail", "step-2"),
        "{:?}",
        cell.record["symptom"]
    );
    assert!(cell.text("symptom").contains("modprobe: ERROR: could not insert 'kvm': Invalid argument"));
    let current = stacks().cell(IBM_Z_CURRENT);
    assert_eq!(current.text("verdict"), "xpass", "{:?}", current.record["symptom"]);
    let evidence = &current.record["evidence"];
    assert_eq!(evidence["report"]["nonce"], evidence["nonce"], "L0 alone gives back the nonce, too");
    let messages = std::fs::read_to_string(current.file("L0.dmesg")).unwrap();
    assert!(messages.contains("] "), "its last words are on record: {messages:?}");
}

#[test]
fn guests_on_ibm_z_want_the_real_machine() {
    let cell = stacks().cell(IBM_Z_GUEST);
    assert_eq!(cell.text("verdict"), "skip");
    let why = cell.text("symptom");
    assert!(why.contains("needs a real ibm-z machine") && why.contains("KVM_CAP_S390_COW"), "{why}");
}

#[rstest]
#[case::intel_nested_off(
    "intel-nested-off",
    "fail",
    "l1-launch",
    "missing CPU feature: vmx (model host); kvm_intel of L0 has nested=N"
)]
#[case::intel_panics("intel-metal-panics", "error", "l0-boot", "kernel panic: ")]
#[case::intel_killed(
    "intel-metal-killed",
    "error",
    "l1-boot",
    "the emulator that plays L0's metal was killed"
)]
#[case::power9_off("power9-nested-hv-off", "fail", "l1-kvm", "Parent hypervisor does not support nesting")]
#[case::power9_module(
    "power9-without-module",
    "fail",
    "l1-kvm",
    "L1 has no usable /dev/kvm (kvm_hv is not loaded"
)]
#[case::arm_el2("arm-without-el2", "fail", "l1-kvm", "HYP mode not available")]
#[case::arm_cpu("arm-wrong-cpu", "fail", "l1-launch", "kvm_arch_init_vcpu failed")]
#[case::ibm_z_module(
    "ibm-z-without-module",
    "fail",
    "l0-kvm",
    "L0 has no usable /dev/kvm (kvm is not loaded"
)]
#[case::ibm_z_panics("ibm-z-metal-panics", "error", "l0-boot", "kernel panic: ")]
fn a_broken_stack_stops_where_it_is_broken(
    #[case] scenario: &str,
    #[case] verdict: &str,
    #[case] stage: &str,
    #[case] expected: &str,
) {
    let cell = broken().cell(&format!("{scenario}/"));
    let symptom = cell.text("symptom");
    assert_eq!((cell.text("verdict"), cell.text("stage")), (verdict, stage), "{symptom}");
    assert!(symptom.contains(expected), "{expected:?} in {symptom:?}");
    assert!(cell.record["evidence"].is_null(), "what did not work has no evidence");
}

#[test]
fn no_broken_stack_is_left_out_and_none_is_green() {
    let run = broken();
    assert_eq!(run.code, Some(3), "{run:#?}");
    let folder = scenarios("sabotage").join("architectures");
    let scenarios = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(run.cells().len(), scenarios, "every scenario of tests/sabotage/architectures is tried");
    assert!(run.cells().iter().all(|cell| cell.text("verdict") != "pass"));
}
