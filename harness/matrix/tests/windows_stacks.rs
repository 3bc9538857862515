//! Scenarios with Windows: what starts each level, what a scenario can ask of Windows, and which stacks no machine can run.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod one_scenario;

use nestmatrix::scenario::{Cell, Matrix};
use nestmatrix_model::{BootKind, Launch};
use rstest::rstest;

const HYPER_V: &str = "l0 = [\"rhel 9\"]\nl1 = [\"windows-server 2022 with hyper-v\"]\nl2 = [\"rhel 9\"]\n";
const WSL2: &str = "l0 = [\"rhel 9\"]\nl1 = [\"windows 11 with wsl2\"]\nl2 = [\"wsl 2\"]\n";
const INNERMOST: &str = "l0 = [\"rhel 9\"]\nl1 = [\"rhel 9\"]\nl2 = [\"windows 11\"]\n";

fn load(architecture: &str, axes: &str) -> Result<Matrix, nestmatrix::scenario::InputErrors> {
    let axes = format!("architecture = [{architecture:?}]\n{axes}");
    Matrix::load(one_scenario::folder(None, &axes).path())
}

fn cell(architecture: &str, axes: &str) -> Cell {
    load(architecture, axes).unwrap().cells()[0].clone()
}

#[rstest]
#[case::hyper_v(HYPER_V, Launch::HyperV, Some(BootKind::UnifiedKernel))]
#[case::wsl2(WSL2, Launch::Wsl2, None)]
#[case::innermost(INNERMOST, Launch::Qemu, None)]
#[case::as_it_is_anyway(&format!("{HYPER_V}[levels.l2]\nlaunch = \"hyper-v\"\n"), Launch::HyperV, Some(BootKind::UnifiedKernel))]
fn the_role_of_a_windows_says_what_starts_its_guests(
    #[case] axes: &str,
    #[case] launch: Launch,
    #[case] boots: Option<BootKind>,
) {
    let cell = cell("intel", axes);
    let [l0, l1, l2] = &cell.levels[..] else { panic!("{cell:?}") };
    assert_eq!([l0, l1].map(|level| (level.settings.launch(), level.boots)), [(Launch::Qemu, None); 2]);
    assert_eq!((l2.settings.launch(), l2.boots), (launch, boots));
    assert_eq!(cell.no_machine, None);
}

#[rstest]
#[case::mixed("l0 = [\"rhel 9\"]\nl1 = [\"windows 11 with hyper-v\", \"rhel 9\"]\nl2 = [\"rhel 9\"]\n")]
fn each_stack_of_a_scenario_has_the_launcher_of_its_own_host(#[case] axes: &str) {
    let matrix = load("amd", axes).unwrap();
    let launches = matrix.cells().iter().map(|cell| cell.levels[2].settings.launch());
    assert_eq!(launches.collect::<Vec<_>>(), [Launch::HyperV, Launch::Qemu]);
}

const STEP: &str = "[[step]]\nname = \"look\"\nrun = \"true\"\n";

#[rstest]
#[case::another_launcher(
    HYPER_V,
    "[levels.l2]\nlaunch = \"qemu\"",
    12,
    "L2 can't be launched by qemu: L1 can be Windows Server 2022 with Hyper-V"
)]
#[case::another_windows_launcher(
    WSL2,
    "[levels.l2]\nlaunch = \"hyper-v\"",
    12,
    "L2 can't be launched by hyper-v: L1 can be Windows 11 with WSL2"
)]
#[case::libvirt(
    WSL2,
    "[levels.l2]\nlaunch = \"libvirt\"",
    12,
    "L2 can't be launched by libvirt: L1 can be Windows 11 with WSL2"
)]
#[case::no_windows(
    INNERMOST,
    "[levels.l1]\nlaunch = \"wsl2\"",
    12,
    "L1 can't be launched by wsl2: L0 can be RHEL 9"
)]
#[case::by_libvirt(
    INNERMOST,
    "[levels.l2]\nlaunch = \"libvirt\"",
    12,
    "L2 has Windows, which libvirt does not launch here"
)]
#[case::setting(
    HYPER_V,
    "[levels.l2]\nmachine-type = \"q35\"",
    11,
    "Hyper-V starts L2, and takes no `machine-type`"
)]
#[case::processor(
    WSL2,
    "[levels.l2]\ncpu = { mode = \"host-passthrough\" }",
    11,
    "WSL2 starts L2, and takes no `cpu`"
)]
#[case::step(HYPER_V, &format!("{STEP}after = \"l1-kvm\"\non = \"l1\""), 11, "the step `look` can't run in L1, because L1 can be Windows")]
#[case::step_inside(HYPER_V, &format!("{STEP}after = \"l2-check\"\non = \"l2\""), 11, "the step `look` can't run in L2, because L1 can be Windows")]
#[case::fault(
    HYPER_V,
    "[[fault]]\nat = \"l2-check\"\ndo = \"kill-qemu\"\nlevel = \"l2\"",
    11,
    "the fault `kill-qemu` can't happen in L2, because L2 can be a guest of Windows"
)]
#[case::wsl_on_l0(
    WSL2,
    "[[fault]]\nat = \"l2-launch\"\ndo = \"start-on-l0\"\nlevel = \"l2\"",
    11,
    "the fault `start-on-l0` can't happen in L2, because L2 can be a guest of Windows"
)]
fn what_windows_and_its_guests_can_not_do_is_an_error(
    #[case] axes: &str,
    #[case] more: &str,
    #[case] line: usize,
    #[case] message: &str,
) {
    let errors = load("amd", &format!("{axes}{more}\n")).unwrap_err();
    let [error] = errors.errors() else { panic!("{errors:?}") };
    assert_eq!(error.problem().to_string(), message);
    assert_eq!(error.position().map(|(line, _)| line), Some(line));
}

#[rstest]
#[case::cpus_and_memory(HYPER_V, "[levels.l2]\ncpus = 2\nmemory-mib = 512\nkernel-parameters = [\"quiet\"]")]
#[case::step_around(INNERMOST, &format!("{STEP}after = \"l1-kvm\"\non = \"l1\""))]
#[case::fault_around(HYPER_V, "[[fault]]\nat = \"l2-check\"\ndo = \"kill-qemu\"\nlevel = \"l1\"")]
#[case::on_l0(HYPER_V, "[[fault]]\nat = \"l2-launch\"\ndo = \"start-on-l0\"\nlevel = \"l2\"")]
#[case::of_windows_itself(INNERMOST, "[[fault]]\nat = \"l2-check\"\ndo = \"close-qmp\"\nlevel = \"l2\"")]
fn what_they_can_do_is_none(#[case] axes: &str, #[case] more: &str) {
    load("amd", &format!("{axes}{more}\n")).unwrap();
}

#[rstest]
#[case::windows_in_hyper_v("intel", &HYPER_V.replace("l2 = [\"rhel 9\"]", "l2 = [\"windows 11\"]"), "nestmatrix starts only Linux in Hyper-V, no Windows")]
#[case::other_linux_in_wsl2("amd", &WSL2.replace("wsl 2", "rhel 9"), "WSL2 runs no RHEL, only Linux in WSL")]
#[case::wsl_in_hyper_v("amd", &HYPER_V.replace("l2 = [\"rhel 9\"]", "l2 = [\"wsl 2\"]"), "Linux in WSL runs only in WSL2")]
#[case::wsl_in_linux("amd", &INNERMOST.replace("windows 11", "wsl 2"), "Linux in WSL runs only in WSL2")]
#[case::no_hypervisor("amd", &HYPER_V.replace(" with hyper-v", ""), "L1 has Windows with neither Hyper-V nor WSL2, so nothing in it runs guests")]
#[case::on_metal(
    "amd",
    "l0 = [\"windows-server 2022 with hyper-v\"]\nl1 = [\"rhel 9\"]\n",
    "L0 has Windows, and nestmatrix starts L1 with KVM alone"
)]
#[case::innermost_with_a_role("amd", &INNERMOST.replace("windows 11", "windows 11 with hyper-v"), "L2 is the innermost level, and only a Windows without Hyper-V reports")]
#[case::three_levels_inside("amd", &format!("{HYPER_V}l3 = [\"rhel 9\"]\n"), "L2 runs in Hyper-V, so it can only be the innermost level")]
#[case::on_arm("arm", INNERMOST, "L2 has Windows, which nestmatrix runs only on amd64")]
#[case::not_windows("amd", &HYPER_V.replace("windows-server 2022", "rhel 9"), "Hyper-V is a part of Windows, and systems.toml does not say that RHEL is of the family `windows`")]
fn a_stack_that_no_windows_makes_says_why(#[case] architecture: &str, #[case] axes: &str, #[case] why: &str) {
    assert_eq!(cell(architecture, axes).no_machine.as_deref(), Some(why));
}
