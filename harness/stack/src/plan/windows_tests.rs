//! Tests of the machines of Windows levels, and of what they start.

use std::path::Path;
use std::sync::Arc;

use nestmatrix_images::Catalog;
use nestmatrix_model::{Architecture, CommandChannel, DiskBus, Launch, NetworkCard};
use nestmatrix_vmm::qemu::{Boot, Instance, Machine};
use rstest::rstest;

use super::tests::{names, plan_of};
use super::*;

fn windows(role: &str) -> SystemDisk {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes");
    let role = Catalog::load(&recipes).unwrap().windows_role(role).unwrap().clone();
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    SystemDisk {
        base: "/cache/windows.qcow2".into(),
        overlay: "/scratch/windows.qcow2".into(),
        bus: DiskBus::Virtio,
        network_card: NetworkCard::Virtio,
        command_channel: CommandChannel::Agent,
        qemu: None,
        memory_mib: 4096,
        cpus: 2,
        system: Some(("windows-server".into(), "2022".into())),
        first_boot: None,
        windows: Some(WindowsSystem {
            role: Arc::new(role),
            enlightenments: owned(&["hv-relaxed", "hv-spinlocks=0x1fff"]),
            nesting_enlightenments: owned(&["hv-emsr-bitmap"]),
            nesting_enlightenments_intel: owned(&["hv-evmcs"]),
        }),
    }
}

/// This machine, L1 with Windows, and L2, which that starts.
fn plan_with(architecture: Architecture, role: &str, launch: Launch) -> StackPlan {
    let mut plan = plan_of(architecture, 1..=2, Metal::Native);
    plan.levels[0].image.files = BootFiles::Disk(windows(role));
    let l2 = &mut plan.levels[1];
    l2.settings.launch = Some(launch);
    l2.guest_volume = Some("/scratch/l2.volume".into());
    match launch {
        Launch::Wsl2 => {
            l2.image.files = BootFiles::WslRoot { archive: "/cache/rootfs.tar.gz".into() };
        }
        _ => {
            l2.unified_kernel =
                Some(UnifiedKernelDisk { stub: "/stub".into(), path: "/scratch/l2.vhd".into() });
        }
    }
    plan
}

fn hyper_v() -> StackPlan {
    plan_with(Architecture::Amd, "hyper-v", Launch::HyperV)
}

fn machine(plan: &StackPlan, index: usize) -> Machine {
    plan.machine(index, Instance::First)
}

fn cpu(plan: &StackPlan, index: usize) -> String {
    let arguments = machine(plan, index).arguments(&Anywhere);
    arguments.iter().skip_while(|argument| *argument != "-cpu").nth(1).cloned().unwrap_or_default()
}

#[test]
fn windows_gets_its_guest_on_a_disk_and_no_ports_for_it() {
    let l1 = machine(&hyper_v(), 0);
    assert_eq!(names(&l1), Vec::<String>::new());
    let disks: Vec<_> = l1.disks.iter().map(|disk| (disk.serial.as_str(), disk.path.as_path())).collect();
    assert_eq!(disks, [("l2", Path::new("/scratch/l2.volume"))]);
    assert!(l1.agent && l1.has_monitor());
}

#[rstest]
#[case::hyper_v(
    "hyper-v",
    Launch::HyperV,
    "console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check nest.nonce=17 verbose"
)]
#[case::wsl2("wsl2", Launch::Wsl2, "nest.nonce=17 verbose")]
fn what_windows_starts_has_no_monitor_and_the_nonce_on_its_command_line(
    #[case] role: &str,
    #[case] launch: Launch,
    #[case] parameters: &str,
) {
    let mut plan = plan_with(Architecture::Amd, role, launch);
    plan.levels[1].settings.kernel_parameters = vec!["verbose".into()];
    plan.stays = true;
    let l2 = machine(&plan, 1);
    assert_eq!((l2.launch, l2.machine.as_str(), l2.memory_mib), (launch, &*launch.to_string(), 1024));
    assert!(!l2.has_monitor() && !l2.agent);
    let Boot::Volume(boot) = l2.boot else { panic!("{:?}", l2.boot) };
    assert_eq!(boot.parameters, parameters);
    assert_eq!(plan.hypervisor_of(plan.innermost()), Hypervisor::HyperV);
}

#[test]
fn a_volume_holds_what_its_launcher_needs() {
    let plan = hyper_v();
    assert!(plan.unified_kernels().is_empty(), "it is a VHD, not a raw disk");
    let [(volume, GuestFiles::UnifiedKernel { unified, vhd })] = &plan.guest_volumes().unwrap()[..] else {
        panic!()
    };
    assert_eq!((*volume, *vhd), (Path::new("/scratch/l2.volume"), Path::new("/scratch/l2.vhd")));
    assert_eq!((unified.stub, unified.kernel), (Path::new("/stub"), Path::new("/k2")));
    assert!(unified.parameters.contains("nest.nonce=17"), "{}", unified.parameters);

    let plan = plan_with(Architecture::Amd, "wsl2", Launch::Wsl2);
    let [(_, GuestFiles::WslRoot { archive })] = &plan.guest_volumes().unwrap()[..] else { panic!() };
    assert_eq!(*archive, Path::new("/cache/rootfs.tar.gz"));

    let mut plan = hyper_v();
    plan.levels[1].unified_kernel = None;
    assert_eq!(plan.guest_volumes().unwrap_err(), plan.levels[1].level);
}

#[rstest]
#[case::amd(Architecture::Amd, "host,hv-relaxed=on,hv-emsr-bitmap=on,hv-spinlocks=0x1fff")]
#[case::intel(Architecture::Intel, "host,hv-relaxed=on,hv-emsr-bitmap=on,hv-evmcs=on,hv-spinlocks=0x1fff")]
fn windows_knows_that_it_runs_under_kvm_and_its_hyper_v_what_kvm_can(
    #[case] architecture: Architecture,
    #[case] expected: &str,
) {
    let plan = plan_with(architecture, "hyper-v", Launch::HyperV);
    assert_eq!(cpu(&plan, 0), expected);
    let required = machine(&plan, 0).cpu.require;
    assert!(required.contains(&"hv-emsr-bitmap".to_owned()), "{required:?}");
}

#[test]
fn a_windows_that_hosts_nothing_needs_less_and_the_scenario_has_the_last_word() {
    let mut plan = plan_of(Architecture::Intel, 1..=1, Metal::Native);
    plan.levels[0].image.files = BootFiles::Disk(windows("guest"));
    assert_eq!(cpu(&plan, 0), "host,hv-relaxed=on,hv-spinlocks=0x1fff");
    let wanted = &mut plan.levels[0].settings.cpu;
    wanted.mode = nestmatrix_model::CpuMode::Custom { model: "Skylake-Server".into() };
    wanted.disable = vec!["hv-relaxed".into()];
    wanted.set = [("hv-spinlocks".to_owned(), "8000".to_owned())].into();
    assert_eq!(cpu(&plan, 0), "Skylake-Server,hv-relaxed=off,hv-spinlocks=8000");
}

#[test]
fn a_feature_that_is_required_and_switched_on_is_named_once() {
    let mut plan = hyper_v();
    plan.levels[0].settings.cpu.mode = nestmatrix_model::CpuMode::Custom { model: "EPYC".into() };
    assert_eq!(cpu(&plan, 0), "EPYC,hv-relaxed=on,hv-emsr-bitmap=on,hv-spinlocks=0x1fff");
}

/// As damage: the evidence must show it.
#[test]
fn a_guest_that_is_started_on_l0_instead_is_one_of_kvm() {
    let plan = StackPlan { innermost_on_l0: true, ..hyper_v() };
    let l2 = machine(&plan, 1);
    assert_eq!((l2.launch, l2.machine.as_str()), (Launch::Qemu, "microvm"));
    assert!(l2.has_monitor() && l2.boot.kernel().is_some(), "{:?}", l2.boot);
    assert_eq!(plan.hypervisor_of(plan.innermost()), Hypervisor::Kvm);
    assert!(plan.innermost_in_hyper_v(), "that is what it must be");
    assert!(machine(&plan, 0).disks.is_empty());
}
