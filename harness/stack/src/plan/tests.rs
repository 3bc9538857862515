//! Tests of the machines that a plan asks for.

use nestmatrix_images::Disk;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{
    Accelerator, Architecture, CommandChannel, CpuMode, DiskBus, LevelNumber, NetworkCard,
};
use nestmatrix_vmm::qemu::{Instance, Machine};
use rstest::rstest;

use super::*;

pub(super) fn plan(levels: std::ops::RangeInclusive<u8>, metal: Metal) -> StackPlan {
    plan_of(Architecture::Amd, levels, metal)
}

pub(super) fn plan_of(
    architecture: Architecture,
    levels: std::ops::RangeInclusive<u8>,
    metal: Metal,
) -> StackPlan {
    let level = |n| LevelPlan {
        level: LevelNumber::new(n).unwrap(),
        image: BootImage {
            name: format!("image {n}"),
            kernel_release: "6.12.1".into(),
            files: BootFiles::Kernel {
                kernel: format!("/k{n}").into(),
                initramfs: format!("/i{n}").into(),
                disk: Some(Disk { path: format!("/d{n}").into(), kernel: 0..10, initramfs: 64..100 }),
            },
        },
        settings: MachineSettings::default(),
        disk: None,
        uefi: None,
        unified_kernel: None,
        guest_volume: None,
        swtpm: None,
    };
    let profile = ArchInfo::of(architecture);
    StackPlan { nonce: "17".into(), ..StackPlan::cold(metal, profile, levels.map(level).collect()) }
}

pub(super) fn names(machine: &Machine) -> Vec<String> {
    machine.ports.iter().map(|port| port.name.clone()).collect()
}

#[rstest]
#[case::awaited(Some("login:"), &["quiet", "rdinit=/sbin/init"], "rdinit=/.nestmatrix/init nest.init=/sbin/init quiet")]
#[case::usual(Some("login:"), &[], "rdinit=/.nestmatrix/init nest.init=/init")]
#[case::report_alone(None, &["quiet"], "rdinit=/.nestmatrix/init quiet")]
fn a_guest_of_the_user_is_started_by_the_init_that_reports(
    #[case] ready: Option<&str>,
    #[case] own: &[&str],
    #[case] expected: &str,
) {
    let mut plan = plan(0..=2, Metal::Emulated);
    let settings = &mut plan.levels[2].settings;
    settings.kernel_parameters = own.iter().map(|&word| word.to_owned()).collect();
    let ready = ready.map(str::to_owned);
    settings.guest = Some(nestmatrix_model::Guest { payload: "my-guest".into(), ready });
    let boot = plan.machine(2, Instance::First).boot;
    let parameters = boot.parameters().unwrap();
    assert!(parameters.ends_with(&format!("nest.nonce=17 {expected}")), "{parameters}");
}

#[test]
fn every_level_passes_up_the_channels_and_images_of_all_levels_inside_it() {
    let plan = plan(0..=3, Metal::Emulated);
    assert_eq!(names(&plan.machine(3, Instance::First)), Vec::<String>::new());
    assert_eq!(names(&plan.machine(2, Instance::First)), ["nest.l3.qmp", "nest.l3.console"]);
    assert_eq!(
        names(&plan.machine(1, Instance::First)),
        ["nest.l2.qmp", "nest.l2.console", "nest.l2.agent", "nest.l3.qmp", "nest.l3.console"]
    );
    let serials: Vec<_> = plan.machine(0, Instance::First).disks.into_iter().map(|d| d.serial).collect();
    assert_eq!(serials, ["l1", "l2", "l3"]);
}

#[test]
fn an_innermost_level_in_l0_is_not_passed_through_the_levels_between() {
    let plan = StackPlan { innermost_on_l0: true, ..plan(0..=3, Metal::Emulated) };
    assert!(names(&plan.machine(0, Instance::First)).contains(&"nest.l3.qmp".to_owned()));
    let l1 = plan.machine(1, Instance::First);
    assert_eq!(names(&l1), ["nest.l2.qmp", "nest.l2.console", "nest.l2.agent"]);
    assert_eq!(l1.disks.into_iter().map(|disk| disk.serial).collect::<Vec<_>>(), ["l2"]);
    assert!(names(&plan.machine(2, Instance::First)).is_empty());
}

#[test]
fn only_the_metal_is_emulated_and_only_the_innermost_level_gets_the_nonce() {
    let plan = plan(0..=2, Metal::Emulated);
    let accelerators = [0, 1, 2].map(|i| plan.machine(i, Instance::First).accelerator);
    assert_eq!(accelerators, [Accelerator::Tcg, Accelerator::Kvm, Accelerator::Kvm]);
    let with_nonce = [0, 1, 2].map(|i| {
        plan.machine(i, Instance::First).boot.kernel().unwrap().parameters.contains("nest.nonce=17")
    });
    assert_eq!(with_nonce, [false, false, true]);
}

#[test]
fn an_l1_that_is_the_innermost_level_is_one_that_runs_nothing() {
    let plan = plan(0..=1, Metal::Emulated);
    let [l0, l1] = [0, 1].map(|index| plan.machine(index, Instance::First));
    assert_eq!(names(&l0), ["nest.l1.qmp", "nest.l1.console"]);
    assert!(l0.agent && !l1.agent && l1.disks.is_empty());
    assert!(l1.machine == "microvm" && l1.boot.kernel().unwrap().parameters.contains("nest.nonce=17"));
    assert!(l1.cpu.require.is_empty());
}

#[test]
fn a_level_that_hosts_another_must_have_the_virtualization_extension() {
    let plan = plan(1..=2, Metal::Native);
    assert_eq!(plan.machine(0, Instance::First).cpu.require, ["svm"]);
    assert!(plan.machine(1, Instance::First).cpu.require.is_empty());
    assert!(plan.memory_mib(0) > plan.memory_mib(1));
}

#[test]
fn the_extension_of_a_model_that_the_scenario_chooses_is_required_by_the_scenario_alone() {
    let mut plan = plan(0..=2, Metal::Emulated);
    plan.levels[1].settings.cpu.mode = CpuMode::Custom { model: "EPYC-IBPB".into() };
    let cpu = |plan: &StackPlan, index| plan.machine(index, Instance::First).cpu;
    assert!(cpu(&plan, 1).require.is_empty());
    assert_eq!(cpu(&plan, 0).require, ["svm"], "emulated metal always has it");
    plan.levels[1].settings.cpu.require = vec!["svm".into()];
    assert_eq!((cpu(&plan, 1).model.as_str(), cpu(&plan, 1).require), ("EPYC-IBPB", vec!["svm".to_owned()]));
}

#[test]
fn where_a_machine_property_lets_a_level_host_it_is_required_unless_the_scenario_sets_it() {
    let mut plan = plan_of(Architecture::Power9, 0..=2, Metal::Emulated);
    let [l0, l1, l2] = [0, 1, 2].map(|index| plan.machine(index, Instance::First));
    assert_eq!((l0.machine.as_str(), l1.machine.as_str()), ("powernv9", "pseries"));
    assert_eq!(
        (l1.require.as_slice(), l1.properties["cap-nested-hv"].as_str()),
        (&["cap-nested-hv".to_owned()][..], "on")
    );
    assert!(l0.require.is_empty() && l2.require.is_empty() && !l2.properties.contains_key("cap-nested-hv"));
    plan.levels[1].settings.machine.insert("cap-nested-hv".into(), "off".into());
    let l1 = plan.machine(1, Instance::First);
    assert!(l1.require.is_empty() && l1.properties["cap-nested-hv"] == "off");
}

#[rstest]
#[case(Architecture::Power9, "cap-nested-hv")]
#[case(Architecture::Arm, "virtualization")]
fn an_innermost_disk_has_a_machine_that_lets_nothing_host(#[case] of: Architecture, #[case] property: &str) {
    let mut plan = plan_of(of, 0..=2, Metal::Emulated);
    for level in &mut plan.levels {
        level.image.files = BootFiles::Disk(SystemDisk {
            base: "/disk".into(),
            overlay: "/overlay".into(),
            bus: DiskBus::Virtio,
            network_card: NetworkCard::Virtio,
            command_channel: CommandChannel::Agent,
            qemu: None,
            memory_mib: 1024,
            cpus: 1,
            system: None,
            first_boot: None,
            windows: None,
        });
    }
    let [l1, l2] = [1, 2].map(|index| plan.machine(index, Instance::First).properties);
    assert_eq!(l1[property], "on");
    assert!(!l2.contains_key(property), "{l2:?}");
}

#[test]
fn only_a_level_that_hosts_a_host_is_told_to_let_its_guests_host() {
    let plan = plan_of(Architecture::Arm, 0..=2, Metal::Emulated);
    let nested = [0, 1, 2].map(|index| {
        plan.machine(index, Instance::First).boot.kernel().unwrap().parameters.contains("kvm-arm.mode=nested")
    });
    assert_eq!(nested, [true, false, false]);
}

#[test]
fn a_second_machine_has_channels_of_its_own_through_every_level_outside_it_and_looks_alike_from_inside() {
    let plan = StackPlan { second: LevelNumber::new(1), ..plan(0..=2, Metal::Emulated) };
    let outer: Vec<String> =
        plan.machine(0, Instance::First).ports.iter().map(|port| port.name.clone()).collect();
    for name in ["nest.l1.qmp", "nest.l1-second.qmp", "nest.l1-second.agent", "nest.l2-second.console"] {
        assert!(outer.contains(&name.to_owned()), "{outer:?}");
    }
    let (first, second) =
        (plan.machine(1, Instance::First), plan.machine(1, Instance::Incoming { second: true }));
    assert_eq!(names(&first), names(&second));
    assert!(first.channels().iter().all(|channel| !second.channels().contains(channel)));
    let without = StackPlan { second: None, ..plan.clone() };
    assert_eq!(plan.memory_mib(0), without.memory_mib(0) + without.memory_mib(1));
}

#[test]
fn the_innermost_machine_is_microvm_unless_another_was_chosen_or_the_scenario_sets_one() {
    let mut plan = plan(0..=2, Metal::Emulated);
    let [l1, l2] = [1, 2].map(|index| plan.machine(index, Instance::First));
    assert_eq!((l2.machine.as_str(), l2.properties["rtc"].as_str()), ("microvm", "on"));
    assert!(
        l2.boot.kernel().unwrap().parameters.contains("pci=off"),
        "{}",
        l2.boot.kernel().unwrap().parameters
    );

    let q35 = plan.profile.innermost_machine_of(&["pc".to_owned(), "q35".to_owned()], false).unwrap();
    plan.innermost_machine = Some(q35);
    let with_firmware = plan.machine(2, Instance::First);
    assert_eq!(with_firmware.properties["firmware"], "qboot.rom");
    plan.default_firmware.insert(LevelNumber::ALL[2]);
    let chosen = plan.machine(2, Instance::First);
    assert_eq!((chosen.machine.as_str(), chosen.properties.len()), ("q35", 0));
    let of_kernel = |machine: &Machine| {
        let words =
            machine.boot.kernel().unwrap().parameters.split(' ').filter(|word| !word.starts_with("nest."));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of_kernel(&chosen), of_kernel(&l1), "it is started as L1 is");
    assert_eq!(plan.machine(1, Instance::First), l1, "no other level depends on the choice");

    plan.innermost_machine = None;
    plan.levels[2].settings.machine_type = Some("pc-q35-7.2".into());
    let set = plan.machine(2, Instance::First);
    assert_eq!((&set.boot, set.machine.as_str()), (&chosen.boot, "pc-q35-7.2"));
    plan.levels[1].settings.machine_type = Some("pc".into());
    assert_eq!(plan.machine(1, Instance::First).machine, "pc");
}

#[test]
fn on_emulated_metal_a_level_from_l2_on_gets_the_firmware_that_is_reliable_there() {
    let firmware =
        |plan: &StackPlan, index| plan.machine(index, Instance::First).properties.get("firmware").cloned();
    let qboot = || Some("qboot.rom".to_owned());
    let mut emulated = plan(0..=3, Metal::Emulated);
    assert_eq!([0, 1, 2, 3].map(|index| firmware(&emulated, index)), [None, None, qboot(), qboot()]);
    emulated.default_firmware.insert(LevelNumber::ALL[2]);
    assert_eq!([2, 3].map(|index| firmware(&emulated, index)), [None, qboot()]);
    let native = plan(1..=3, Metal::Native);
    assert_eq!([0, 1, 2].map(|index| firmware(&native, index)), [None, None, None]);
    let power9 = plan_of(Architecture::Power9, 0..=3, Metal::Emulated);
    assert_eq!([1, 2, 3].map(|index| firmware(&power9, index)), [None, None, None]);
}

#[test]
fn steps_of_a_level_that_hosts_find_its_qemu_and_the_images_of_the_next_level() {
    let [l0, l1, l2] = [0, 1, 2].map(|n| LevelNumber::new(n).unwrap());
    let amd = plan(0..=2, Metal::Emulated);
    assert_eq!(
        amd.variables_of_steps(l1),
        "KVM_MODULE=kvm_amd CPU_FLAGS='svm npt' QEMU=qemu-system-x86_64 L2_KERNEL=/run/nest/l2-kernel \
         L2_INITRAMFS=/run/nest/l2-initramfs"
    );
    assert_eq!(amd.variables_of_steps(l2), "KVM_MODULE=kvm_amd CPU_FLAGS='svm npt'");
    let intel = plan_of(Architecture::Intel, 0..=2, Metal::Emulated);
    assert!(
        intel.variables_of_steps(l0).ends_with(" L1_KERNEL=/nest/l1-kernel L1_INITRAMFS=/nest/l1-initramfs")
    );
    assert!(intel.variables_of_steps(l1).contains(" L2_KERNEL=/run/nest/l2-kernel "));
    let alone = plan_of(Architecture::Power9, 0..=0, Metal::Emulated);
    assert_eq!(alone.variables_of_steps(l0), "KVM_MODULE=kvm_hv CPU_FLAGS='' QEMU=qemu-system-ppc64");
}

#[test]
fn on_native_metal_this_machine_is_the_level_around_the_outermost_one() {
    let [l0, l1] = [0, 1].map(|n| LevelNumber::new(n).unwrap());
    let of = |plan: &StackPlan| (plan.this_machine(), plan.is_this_machine(l0), plan.is_bare_machine(l0));
    assert_eq!(of(&plan(1..=2, Metal::Native)), (Some(l0), true, false));
    assert_eq!(of(&plan(2..=3, Metal::Native)), (Some(l1), false, false));
    assert_eq!(of(&plan(0..=2, Metal::Emulated)), (None, false, true));
    assert_eq!(of(&plan(1..=2, Metal::Emulated)), (None, false, true));
    assert_eq!(plan(2..=3, Metal::Native).hypervisor_of(LevelNumber::ALL[2]), Hypervisor::Kvm);
}

#[test]
fn where_the_emulator_is_l0_it_runs_l1() {
    let plan = plan(1..=2, Metal::Emulated);
    assert!(plan.emulator_is_l0() && !plan.on_emulator(LevelNumber::ALL[2]));
    let machine = plan.machine(0, Instance::First);
    assert_eq!((machine.accelerator, machine.cpu.model.as_str()), (Accelerator::Tcg, "max"));
}

#[test]
fn emulated_metal_has_a_feature_that_the_scenario_requires() {
    let mut plan = plan(0..=2, Metal::Emulated);
    plan.levels[0].settings.cpu.require = vec!["la57".to_owned()];
    let cpu = plan.machine(0, Instance::First).cpu;
    assert!(cpu.require.contains(&"la57".to_owned()), "{cpu:?}");
    assert_eq!(cpu.without, ["erms", "fsrm"]);
}
