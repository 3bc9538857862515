//! Tests of the machines of levels that boot from disks, and of those around them.

use nestmatrix_model::{Architecture, CommandChannel, DiskBus, Network, NetworkCard};
use nestmatrix_vmm::qemu::{DiskFormat, ImageFile, Instance, Machine, Writes};

use super::tests::{names, plan, plan_of};
use super::*;

/// The disk of a system that needs more than a minimal level does.
fn disk(overlay: &str) -> SystemDisk {
    SystemDisk {
        base: "/cache/disk.qcow2".into(),
        overlay: overlay.into(),
        bus: DiskBus::Virtio,
        network_card: NetworkCard::Virtio,
        command_channel: CommandChannel::Agent,
        qemu: None,
        memory_mib: 2048,
        cpus: 1,
        system: None,
        first_boot: None,
        windows: None,
    }
}

/// L0 to L2, of which these boot from disks.
fn from_disks(levels: &[usize]) -> StackPlan {
    let mut plan =
        StackPlan { nonce: "00112233445566778899aabbccddeeff".into(), ..plan(0..=2, Metal::Emulated) };
    for level in levels {
        plan.levels[*level].image.files = BootFiles::Disk(disk(&format!("/scratch/L{level}.qcow2")));
    }
    plan
}

fn disk_of(plan: &mut StackPlan, level: usize) -> &mut SystemDisk {
    match &mut plan.levels[level].image.files {
        BootFiles::Disk(disk) => disk,
        BootFiles::Kernel { .. } | BootFiles::WslRoot { .. } => panic!("L{level} boots no disk"),
    }
}

fn with_uefi(mut plan: StackPlan, level: usize, secure_boot: bool) -> StackPlan {
    plan.levels[level].uefi = Some(UefiFirmware {
        name: "uefi 1234".into(),
        code: "/cache/code.fd".into(),
        base_variables: "/cache/vars.fd".into(),
        variables: format!("/scratch/L{level}-variables").into(),
        secure_boot,
    });
    plan
}

fn machine(plan: &StackPlan, index: usize) -> Machine {
    plan.machine(index, Instance::First)
}

fn arguments(plan: &StackPlan, index: usize) -> String {
    machine(plan, index).arguments(&Anywhere).join(" ")
}

fn serials(disks: &[ImageFile]) -> Vec<&str> {
    disks.iter().map(|disk| disk.serial.as_str()).collect()
}

#[test]
fn the_disk_of_an_inner_level_is_a_disk_of_every_level_outside_it() {
    let plan = from_disks(&[1, 2]);
    let [l0, l1, l2] = [0, 1, 2].map(|index| machine(&plan, index));
    assert_eq!((serials(&l0.disks), serials(&l1.disks)), (vec!["l1", "l2"], vec!["l2"]));
    assert!(l2.disks.is_empty());
    for disk in &l0.disks {
        assert_eq!((disk.format, disk.writes, &disk.part), (DiskFormat::Qcow2, Writes::Kept, &None));
    }
    assert_eq!(l0.disks[0].path, Path::new("/scratch/L1.qcow2"), "never the prepared disk itself");
    assert!(l1.boot.kernel().is_none() && l1.boot.files().is_empty());
    let l1 = arguments(&plan, 1);
    assert!(l1.contains("virtio-blk-pci,drive=l1,serial=l1,bootindex=1"), "{l1}");
    assert!(!l1.contains("-kernel") && !l1.contains("-append"), "{l1}");
}

#[test]
fn only_the_innermost_level_is_identified_by_the_nonce() {
    let plan = from_disks(&[0, 1, 2]);
    let uuid = "-uuid 00112233-4455-6677-8899-aabbccddeeff";
    let identified = [0, 1, 2].map(|index| arguments(&plan, index).contains(uuid));
    assert_eq!(identified, [false, false, true]);
    let none = StackPlan { nonce: String::new(), ..plan };
    assert!(!arguments(&none, 2).contains("-uuid"), "a plan has no nonce before it is booted");
}

#[test]
fn the_agent_of_an_innermost_level_is_reached_through_every_level_outside_it() {
    let mut plan = from_disks(&[2]);
    let ports = ["nest.l2.qmp", "nest.l2.console", "nest.l2.agent"];
    assert_eq!(names(&machine(&plan, 1)), ports);
    assert!(ports.iter().all(|port| names(&machine(&plan, 0)).contains(&(*port).to_owned())));
    assert!(machine(&plan, 2).agent);
    disk_of(&mut plan, 2).command_channel = CommandChannel::Console;
    assert_eq!(names(&machine(&plan, 1)), ports[..2]);
    assert!(!machine(&plan, 2).agent);
}

#[test]
fn a_level_from_a_disk_has_the_memory_and_the_cpus_that_its_system_needs() {
    let mut plan = from_disks(&[1]);
    let inner = plan.memory_mib(2);
    assert_eq!(plan.memory_mib(1), 2048 + inner);
    assert_eq!(plan.memory_mib(0), plan.memory_mib(1) + plan.profile.overhead_memory_mib);
    disk_of(&mut plan, 1).memory_mib = 1;
    assert_eq!(plan.memory_mib(1), plan.profile.overhead_memory_mib + inner, "it also runs a guest");
    plan.levels[1].settings.memory_mib = Some(777);
    assert_eq!(plan.memory_mib(1), 777, "the scenario sets it");

    let cpus = |plan: &StackPlan| machine(plan, 1).hardware.cpus;
    assert_eq!(cpus(&plan), plan.profile.cpus);
    disk_of(&mut plan, 1).cpus = 4;
    assert_eq!(cpus(&plan), 4);
    plan.levels[1].settings.hardware.cpus = Some(1);
    assert_eq!(cpus(&plan), 1, "the scenario sets it");

    let of_l0 = machine(&from_disks(&[0]), 0);
    assert_eq!(of_l0.hardware.cpus, 1, "nothing spares its first CPU");
    assert_eq!(of_l0.boot.parameters(), None);
}

/// A disk has a boot loader and a display, and needs a machine with PCI and the usual firmware.
#[test]
fn an_innermost_level_from_a_disk_has_the_machine_of_a_host() {
    let plan = from_disks(&[2]);
    let l2 = machine(&plan, 2);
    assert_eq!((l2.machine.as_str(), l2.properties.get("firmware")), (plan.profile.host.name, None));
    assert_eq!(plan.wanted_firmware(2), None);
    assert!(l2.cpu.require.is_empty(), "it runs no guests");
    let deeper = StackPlan { levels: super::tests::plan(0..=3, Metal::Emulated).levels, ..plan };
    assert_eq!(deeper.wanted_firmware(2), Some("qboot.rom"));
    let mut deeper = deeper;
    deeper.levels[2].image.files = BootFiles::Disk(disk("/scratch/L2.qcow2"));
    assert_eq!(deeper.wanted_firmware(2), None, "qboot starts no boot loader");
}

#[test]
fn uefi_is_two_flash_memories_that_reach_a_level_as_disks() {
    let plan = with_uefi(from_disks(&[1]), 1, false);
    let l0 = machine(&plan, 0);
    assert_eq!(serials(&l0.disks), ["l1", "l1-code", "l1-variables", "l2"]);
    let writes: Vec<_> = l0.disks.iter().map(|disk| disk.writes).collect();
    assert_eq!(writes, [Writes::Kept, Writes::Refused, Writes::Kept, Writes::Refused]);
    assert_eq!(l0.disks[2].path, Path::new("/scratch/L1-variables"));
    let l1 = arguments(&plan, 1);
    assert!(l1.contains("-drive if=pflash,unit=0,format=raw,readonly=on,file=l1-code "), "{l1}");
    assert!(l1.contains("-drive if=pflash,unit=1,format=raw,readonly=off,file=l1-variables"), "{l1}");
    assert!(!l1.contains("smm=on") && !l1.contains("secure"), "{l1}");
    // virtio 1.2, 5.2.6.
    let longest = l0.disks.iter().map(|disk| disk.serial.len()).max();
    assert!(longest <= Some(20), "{longest:?}");
}

#[test]
fn secure_boot_protects_its_variables_where_there_is_a_mode_for_that() {
    let amd = with_uefi(from_disks(&[1]), 1, true);
    let l1 = arguments(&amd, 1);
    assert!(l1.contains(",smm=on"), "{l1}");
    assert!(l1.contains("-global driver=cfi.pflash01,property=secure,value=on"), "{l1}");
    let mut arm = plan_of(Architecture::Arm, 0..=2, Metal::Emulated);
    arm.levels[1].image.files = BootFiles::Disk(disk("/scratch/L1.qcow2"));
    let l1 = arguments(&with_uefi(arm, 1, true), 1);
    assert!(!l1.contains("smm") && !l1.contains("property=secure"), "{l1}");
}

#[test]
fn a_kernel_may_be_started_by_uefi_and_then_has_no_shortcut() {
    let plan = with_uefi(plan(0..=2, Metal::Emulated), 2, false);
    let l2 = machine(&plan, 2);
    assert_eq!((l2.machine.as_str(), plan.wanted_firmware(2)), (plan.profile.host.name, None));
    assert!(l2.boot.kernel().unwrap().parameters.contains("nest.nonce="));
    assert_eq!(serials(&machine(&plan, 1).disks), ["l2", "l2-code", "l2-variables"]);
}

#[test]
fn a_unified_kernel_is_on_a_disk_with_the_parameters_of_its_boot() {
    let mut plan = with_uefi(from_disks(&[]), 2, false);
    plan.levels[2].unified_kernel =
        Some(UnifiedKernelDisk { stub: "/cache/stub.efi".into(), path: "/scratch/L2-unified-kernel".into() });
    let l2 = machine(&plan, 2);
    assert!(l2.boot.files().is_empty() && !l2.agent);
    assert!(l2.boot.parameters().unwrap().contains("nest.nonce=00112233445566778899aabbccddeeff"));
    let arguments = arguments(&plan, 2);
    assert!(!arguments.contains("-kernel") && !arguments.contains("-uuid"), "{arguments}");
    let disks = machine(&plan, 1).disks;
    assert_eq!(serials(&disks), ["l2", "l2-code", "l2-variables"]);
    assert_eq!(
        (disks[0].path.as_path(), disks[0].format),
        (Path::new("/scratch/L2-unified-kernel"), DiskFormat::Vpc)
    );

    let made = plan.unified_kernels();
    let [(unified, path)] = made.as_slice() else { panic!("{made:?}") };
    assert_eq!(
        (*path, unified.parameters.as_str()),
        (disks[0].path.as_path(), l2.boot.parameters().unwrap())
    );
    let BootFiles::Kernel { kernel, initramfs, .. } = &plan.levels[2].image.files else { panic!() };
    assert_eq!((unified.kernel, unified.initramfs), (kernel.as_path(), initramfs.as_path()));
    let from_images = StackPlan { levels: plan.levels[..2].to_vec(), ..plan.clone() };
    assert!(from_images.unified_kernels().is_empty());
}

#[test]
fn in_its_first_boot_a_disk_has_its_volumes_and_no_agent() {
    let mut plan = from_disks(&[0]);
    plan.levels.truncate(1);
    disk_of(&mut plan, 0).first_boot = Some(FirstBoot {
        volumes: vec!["/draft/seed.img".into(), "/draft/packages.img".into()],
        ..FirstBoot::default()
    });
    let l0 = machine(&plan, 0);
    assert_eq!(serials(&l0.disks), ["volume0", "volume1"]);
    assert!(l0.disks.iter().all(|disk| (disk.format, disk.writes) == (DiskFormat::Raw, Writes::Refused)));
    assert!(!l0.agent);
    let arguments = arguments(&plan, 0);
    assert!(arguments.contains("serial=l0,bootindex=1"), "{arguments}");
    assert!(!arguments.contains("netdev") && !arguments.contains("-uuid"), "{arguments}");
}

/// The folder of the overlays is another one at each run.
#[test]
fn a_snapshot_depends_on_the_prepared_disk_and_not_on_the_place_of_its_overlay() {
    let plan = with_uefi(from_disks(&[1, 2]), 1, false);
    let elsewhere = {
        let mut plan = plan.clone();
        disk_of(&mut plan, 1).overlay = "/elsewhere/L1.qcow2".into();
        plan.levels[1].uefi.as_mut().unwrap().variables = "/elsewhere/L1-variables".into();
        plan
    };
    assert_eq!(plan.inputs(1), elsewhere.inputs(1));
    assert_eq!(plan.inputs(0), elsewhere.inputs(0));
    let nonce = StackPlan { nonce: "ffeeddccbbaa99887766554433221100".into(), ..plan.clone() };
    assert_eq!(plan.inputs(1), nonce.inputs(1), "the nonce is that of a boot");
    let with = |change: fn(&mut StackPlan)| {
        let mut plan = plan.clone();
        change(&mut plan);
        plan
    };
    let other_disk = with(|plan| plan.levels[1].image.name = "image of another medium".into());
    let other_firmware = with(|plan| plan.levels[1].uefi.as_mut().unwrap().name = "uefi 5678".into());
    let other_l2 = with(|plan| plan.levels[2].image.name = "image of another medium".into());
    for other in [other_disk, other_firmware, other_l2] {
        assert_ne!(plan.inputs(1), other.inputs(1));
        // L0 knows the sizes of the disks inside.
        assert_ne!(plan.inputs(0), other.inputs(0));
    }
    let kernel = from_disks(&[1]);
    assert_ne!(plan.inputs(0), kernel.inputs(0));
}

#[test]
fn a_boot_writes_to_its_overlay_and_its_variables_alone() {
    let plan = with_uefi(from_disks(&[1]), 1, false);
    let written: Vec<Vec<&Path>> = plan.levels.iter().map(|level| level.written_files().collect()).collect();
    let of_l1 = vec![Path::new("/scratch/L1.qcow2"), Path::new("/scratch/L1-variables")];
    assert_eq!(written, [Vec::<&Path>::new(), of_l1, Vec::new()]);
}

#[test]
fn steps_find_the_disk_of_the_next_level() {
    let plan = from_disks(&[1]);
    let l0 = plan.variables_of_steps(LevelNumber::ALL[0]);
    assert!(l0.ends_with(" L1_DISK=/run/nest/disk/l1"), "{l0}");
    assert!(!l0.contains("KERNEL="), "{l0}");
}

#[test]
fn a_network_has_the_card_that_the_system_on_the_disk_has_a_driver_for() {
    let mut plan = from_disks(&[1]);
    plan.levels[1].settings.hardware.network = Some(Network::Restricted);
    for (card, device) in [
        (NetworkCard::Virtio, "virtio-net-pci"),
        (NetworkCard::E1000e, "e1000e"),
        (NetworkCard::E1000, "e1000"),
    ] {
        disk_of(&mut plan, 1).network_card = card;
        let l1 = arguments(&plan, 1);
        let device = format!("-device {device},id=nest-restricted-network,netdev=nest-network,romfile= ");
        assert!(l1.contains(&device), "{device} in {l1}");
    }
}

#[test]
fn a_disk_is_connected_to_the_bus_that_its_system_has_a_driver_for() {
    let mut plan = from_disks(&[1]);
    for (bus, device) in [
        (DiskBus::Scsi, "-device scsi-hd,bus=scsi.0,drive=l1,serial=l1,bootindex=1"),
        (DiskBus::Sata, "-device ide-hd,bus=sata.0,drive=l1,serial=l1,bootindex=1"),
        (DiskBus::Nvme, "-device nvme,drive=l1,serial=l1,bootindex=1"),
    ] {
        disk_of(&mut plan, 1).bus = bus;
        let l1 = arguments(&plan, 1);
        assert!(l1.contains(device), "{device} in {l1}");
    }
}
