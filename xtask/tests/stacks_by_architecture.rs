//! One stack of each architecture other than AMD, and ways to break each. The same must hold there: a working stack passes, and
//! a broken one does not. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use common::{
    Cell, Place, Run, boots_what_is_delivered, checkout, images, of_cells, require, scenarios, trials,
};

const INTEL: &str = "rhel-10-preview/intel/rhel-10.0+/rhel-10.0+/rhel-10.0+";
const POWER9: &str = "rhel-8-power9/power9/rhel-8.2+/rhel-8.2+/rhel-8.2+";
const ARM: &str = "rhel-10-arm/arm/rhel-10.0+/rhel-10.0+/rhel-10.0+";
const ARM_CURRENT: &str = "rhel-10-arm-current/arm/rhel-later-10/rhel-later-10/rhel-later-10";
/// The same with images of two systems: the first one that the archive delivers is booted.
const IBM_Z: [&str; 2] =
    ["rhel-10-ibm-z-huge-pages/ibm-z/rhel-10.0+", "rhel-9-ibm-z-huge-pages/ibm-z/rhel-9.2+"];
const IBM_Z_CURRENT: &str = "rhel-10-ibm-z-huge-pages-current/ibm-z/rhel-later-10";
const IBM_Z_GUEST: &str = "rhel-10-preview/ibm-z/rhel-10.0+/rhel-10.0+/rhel-10.0+";

/// Longest wait for a run.
const ALL: Duration = Duration::from_secs(40 * 60);

/// A broken stack of each architecture.
const BROKEN: [&str; 4] =
    ["intel-nested-off/*", "power9-nested-hv-off/*", "arm-wrong-cpu/*", "ibm-z-without-module/*"];
/// The others.
const BROKEN_OTHERWISE: [&str; 5] = [
    "intel-metal-panics/*",
    "intel-metal-killed/*",
    "power9-without-module/*",
    "arm-without-el2/*",
    "ibm-z-metal-panics/*",
];

/// Cells without images from the archive are skipped in it, and their tests are ignored.
fn run_of(name: &str, scenarios: &Path, cells: &[&str]) -> Run {
    let _guard = boots_what_is_delivered(&of_cells(scenarios, cells));
    run_in(&Place::new(), name, scenarios, &[&["--cold"], cells].concat())
}

fn run_in(place: &Place, name: &str, scenarios: &Path, arguments: &[&str]) -> Run {
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated"]).args(arguments);
    command.arg("--scenarios").arg(scenarios);
    place.finish(command, ALL).keep(name)
}

/// The project's own scenarios.
fn documented() -> PathBuf {
    checkout().join("scenarios")
}

/// The first of these cells whose images the archive delivers; the first of all if it delivers none.
fn delivered(cells: &[&'static str]) -> &'static str {
    let is_delivered =
        |cell: &&&'static str| images::undelivered(&of_cells(&documented(), &[**cell])).is_none();
    cells.iter().find(is_delivered).unwrap_or(&cells[0])
}

/// The run over stacks that work, or stop as documented; then the Intel stack again, from what the first run has saved.
fn both_runs() -> &'static [Run; 2] {
    static RUNS: OnceLock<[Run; 2]> = OnceLock::new();
    RUNS.get_or_init(|| {
        let cells = [INTEL, POWER9, ARM_CURRENT, delivered(&IBM_Z), IBM_Z_GUEST];
        let _guard = boots_what_is_delivered(&of_cells(&documented(), &cells));
        let place = Place::new();
        let first = run_in(&place, "architectures", &documented(), &cells);
        [first, run_in(&place, "intel-again", &documented(), &[INTEL])]
    })
}

fn stacks() -> &'static Run {
    &both_runs()[0]
}

/// The run over two stacks with another version of the same system.
fn other_versions() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| run_of("other-versions", &documented(), &[ARM, IBM_Z_CURRENT]))
}

fn cell(name: &str) -> Cell {
    cell_of(stacks, name)
}

fn cell_of(run: fn() -> &'static Run, name: &str) -> Cell {
    require(&of_cells(&documented(), &[name]));
    run().cell(name)
}

/// The run over a broken stack of each architecture.
fn broken() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| run_of("broken-architectures", &scenarios("sabotage"), &BROKEN))
}

/// The run over the other broken stacks.
fn broken_otherwise() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| run_of("otherwise-broken-architectures", &scenarios("sabotage"), &BROKEN_OTHERWISE))
}

fn nothing_is_otherwise_than_documented_or_known() {
    let run = stacks();
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert_eq!(run.cells().len(), 5, "{run:#?}");
}

/// Three real kernels, each with KVM, and L0's KVM has run its guest's guest.
fn a_stack_of_three_levels_works(name: &str, verdict: &str, cpu: &str, emulator: &str) {
    let cell = cell(name);
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

/// Bochs saves and restores what QEMU does not play.
fn an_intel_stack_goes_on_from_what_bochs_has_saved() {
    let [first, again] = [cell(INTEL), both_runs()[1].cell(INTEL)];
    assert_eq!(first.record["cold"], "there is no snapshot yet");
    assert_eq!(again.text("verdict"), "pass", "{:?}", again.record["symptom"]);
    assert_eq!(again.record["restored"]["level"], "l1", "{:#}", again.record);
    assert_eq!(again.record["attempts"].as_array().unwrap().len(), 1, "{:#}", again.record["attempts"]);
    assert_eq!(again.stages(), ["restore", "l0-kvm", "l1-kvm", "l2-launch", "l2-boot", "l2-check"]);
    let evidence = &again.record["evidence"];
    assert_eq!(evidence["report"]["nonce"], evidence["nonce"]);
    assert_ne!(evidence["nonce"], first.record["evidence"]["nonce"]);
    assert_eq!(evidence["kvm"]["l2"]["enabled"], true);
    let grown = &evidence["nested_runs"]["l0"];
    assert!(grown["after"].as_u64().unwrap() > grown["before"].as_u64().unwrap() + 100, "{grown}");
    for name in ["L0.console.saved.log", "L1.qmp.saved.jsonl", "L1.dmesg"] {
        assert!(!std::fs::read(again.file(name)).unwrap().is_empty(), "{name}");
    }
}

fn arm_does_not_nest_with_what_the_documents_versions_had() {
    let cell = cell_of(other_versions, ARM);
    assert_eq!(
        (cell.text("verdict"), cell.text("stage")),
        ("xfail", "l1-launch"),
        "{:?}",
        cell.record["symptom"]
    );
}

fn ibm_z_refuses_huge_pages_with_nesting() {
    let cell = cell(delivered(&IBM_Z));
    assert_eq!(
        (cell.text("verdict"), cell.text("stage")),
        ("xfail", "step-2"),
        "{:?}",
        cell.record["symptom"]
    );
    assert!(cell.text("symptom").contains("modprobe: ERROR: could not insert 'kvm': Invalid argument"));
}

fn ibm_z_has_lately_taken_huge_pages_with_nesting() {
    let current = cell_of(other_versions, IBM_Z_CURRENT);
    assert_eq!(current.text("verdict"), "xpass", "{:?}", current.record["symptom"]);
    let evidence = &current.record["evidence"];
    assert_eq!(evidence["report"]["nonce"], evidence["nonce"], "L0 alone gives back the nonce, too");
    let messages = std::fs::read_to_string(current.file("L0.dmesg")).unwrap();
    assert!(messages.contains("] "), "its last words are on record: {messages:?}");
}

fn guests_on_ibm_z_want_the_real_machine() {
    let cell = stacks().cell(IBM_Z_GUEST);
    assert_eq!(cell.text("verdict"), "skip");
    let why = cell.text("symptom");
    assert!(why.contains("needs a real ibm-z machine") && why.contains("KVM_CAP_S390_COW"), "{why}");
}

fn a_broken_stack_stops_where_it_is_broken(scenario: &str, verdict: &str, stage: &str, expected: &str) {
    stops_where_it_is_broken(broken, scenario, verdict, stage, expected);
}

fn a_stack_that_is_broken_otherwise_stops_there(scenario: &str, verdict: &str, stage: &str, expected: &str) {
    stops_where_it_is_broken(broken_otherwise, scenario, verdict, stage, expected);
}

fn stops_where_it_is_broken(
    run: fn() -> &'static Run,
    scenario: &str,
    verdict: &str,
    stage: &str,
    expected: &str,
) {
    require(&of_cells(&scenarios("sabotage"), &[&format!("{scenario}/*")]));
    let cell = run().cell(&format!("{scenario}/"));
    let symptom = cell.text("symptom");
    assert_eq!((cell.text("verdict"), cell.text("stage")), (verdict, stage), "{symptom}");
    assert!(symptom.contains(expected), "{expected:?} in {symptom:?}");
    assert!(cell.record["evidence"].is_null(), "what did not work has no evidence");
}

fn no_broken_stack_is_left_out_and_none_is_green() {
    let run = broken();
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert_eq!(run.cells().len(), BROKEN.len());
    assert!(run.cells().iter().all(|cell| cell.text("verdict") != "pass"));
    let folder = scenarios("sabotage").join("architectures");
    let scenarios = std::fs::read_dir(folder).unwrap().count();
    let tried = BROKEN.len() + BROKEN_OTHERWISE.len();
    assert_eq!(tried, scenarios, "every scenario of tests/sabotage/architectures is tried");
}

trials! {
    nothing_is_otherwise_than_documented_or_known;
    a_stack_of_three_levels_works {
        intel(INTEL, "pass", "host-x86_64-cpu", "bochs"),
        power9(POWER9, "pass", "host-powerpc64-cpu", "qemu-system-ppc"),
        arm(ARM_CURRENT, "xpass", "host-arm-cpu", "qemu-system-arm"),
    };
    an_intel_stack_goes_on_from_what_bochs_has_saved;
    #[ignore = "boots two more stacks: two minutes"]
    arm_does_not_nest_with_what_the_documents_versions_had;
    ibm_z_refuses_huge_pages_with_nesting;
    #[ignore = "boots two more stacks: two minutes"]
    ibm_z_has_lately_taken_huge_pages_with_nesting;
    guests_on_ibm_z_want_the_real_machine;
    #[ignore = "boots a broken stack of each architecture: two minutes"]
    a_broken_stack_stops_where_it_is_broken {
        intel_nested_off(
            "intel-nested-off",
            "fail",
            "l1-launch",
            "missing CPU feature: vmx (model host); kvm_intel of L0 has nested=N"
        ),
        power9_off("power9-nested-hv-off", "fail", "l1-kvm", "Parent hypervisor does not support nesting"),
        arm_cpu("arm-wrong-cpu", "fail", "l1-launch", "kvm_arch_init_vcpu failed"),
        ibm_z_module(
            "ibm-z-without-module",
            "fail",
            "l0-kvm",
            "L0 has no usable /dev/kvm (kvm is not loaded"
        ),
    };
    #[ignore = "boots five more broken stacks: five minutes"]
    a_stack_that_is_broken_otherwise_stops_there {
        intel_panics("intel-metal-panics", "error", "l0-boot", "kernel panic: "),
        intel_killed(
            "intel-metal-killed",
            "error",
            "l1-boot",
            "the emulator that plays L0's metal was killed"
        ),
        power9_module(
            "power9-without-module",
            "fail",
            "l1-kvm",
            "L1 has no usable /dev/kvm (kvm_hv is not loaded"
        ),
        arm_el2("arm-without-el2", "fail", "l1-kvm", "HYP mode not available"),
        ibm_z_panics("ibm-z-metal-panics", "error", "l0-boot", "kernel panic: "),
    };
    #[ignore = "boots a broken stack of each architecture: two minutes"]
    no_broken_stack_is_left_out_and_none_is_green;
}
