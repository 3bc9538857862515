//! Tests of the hardware of machines that a plan asks for.

use nestmatrix_images::Disk;
use nestmatrix_model::{
    Architecture, Benchmark, BenchmarkTool, Device, Launch, LevelNumber, MemoryBacking, Network,
};
use nestmatrix_vmm::qemu::{Instance, Machine};
use rstest::rstest;

use super::tests::{plan, plan_of};
use super::*;

#[test]
fn an_innermost_level_with_devices_has_a_machine_with_pci() {
    let mut plan = plan(0..=2, Metal::Emulated);
    let innermost = plan.levels.len() - 1;
    assert_eq!(plan.machine(innermost, Instance::First).machine, "microvm");
    plan.levels[innermost].settings.hardware.devices = vec![Device::VirtioRng];
    let machine = plan.machine(innermost, Instance::First);
    assert_eq!(machine.machine, "q35");
    assert_eq!(machine.hardware.devices[0].name, "virtio-rng");
}

#[test]
fn a_level_that_things_are_plugged_into_has_room_for_them_and_so_has_the_level_around() {
    let mut plan = plan(0..=2, Metal::Emulated);
    let before = plan.memory_mib(0);
    plan.levels[1].settings.memory_mib = Some(plan.memory_mib(1));
    plan.levels[1].settings.hardware.max_memory_mib = Some(plan.memory_mib(1) + 600);
    plan.plugged = [plan.levels[1].level].into();
    let machine = plan.machine(1, Instance::First);
    assert_eq!((machine.hardware.memory_slots, machine.hardware.plug_port), (2, true));
    assert_eq!(plan.memory_mib(0), before + 600);
    let arguments = machine.arguments(&Anywhere).join(" ");
    assert!(arguments.contains("-m 1024M,slots=2,maxmem=1536M "), "{arguments}");
    assert!(arguments.contains("-device pcie-root-port,id=nest-port,chassis=1,slot=1 "), "{arguments}");

    plan.levels[1].settings.machine_type = Some("pc".to_owned());
    assert!(!plan.machine(1, Instance::First).hardware.plug_port, "its first bus takes devices");
    assert!(!plan.machine(0, Instance::First).hardware.plug_port, "nothing is plugged into it");
}

#[rstest]
#[case::its_default(Architecture::Amd, None, 192, "crashkernel=192M")]
#[case::of_the_scenario(Architecture::Amd, Some(160), 160, "crashkernel=160M")]
#[case::behind_the_initramfs(Architecture::Power9, None, 256, "crashkernel=256M@512M")]
fn a_crash_kernel_has_memory_of_its_own_in_its_level_and_those_around(
    #[case] of: Architecture,
    #[case] set: Option<u32>,
    #[case] mib: u32,
    #[case] parameter: &str,
) {
    let without = plan_of(of, 0..=2, Metal::Emulated);
    let mut plan = without.clone();
    plan.levels[1].settings.kdump = Some(Kdump { crashkernel_mib: set });
    for (index, more) in [(0, mib), (1, mib), (2, 0)] {
        assert_eq!(plan.memory_mib(index), without.memory_mib(index) + more);
        let machine = plan.machine(index, Instance::First);
        let parameters = machine.boot.parameters().unwrap().split(' ');
        let reserved: Vec<&str> = parameters.filter(|word| word.starts_with("crashkernel=")).collect();
        let expected = if index == 1 { vec![parameter] } else { Vec::new() };
        assert_eq!(reserved, expected);
    }
    plan.levels[1].settings.memory_mib = Some(2048);
    assert_eq!(plan.memory_mib(1), 2048, "what a scenario sets is all that there is");
}

#[test]
fn huge_pages_replace_the_memory_of_the_process() {
    let mut plan = plan(0..=2, Metal::Emulated);
    plan.levels[1].settings.hardware.memory_backing = Some(MemoryBacking::HugePages);
    let arguments = plan.machine(1, Instance::First).arguments(&Anywhere).join(" ");
    let expected = "-object memory-backend-memfd,id=memory,size=1024M,hugetlb=on,share=on,prealloc=on ";
    assert!(arguments.contains(expected) && arguments.contains(",memory-backend=memory"), "{arguments}");
}

#[test]
fn a_restricted_network_passes_nothing_on_and_is_copied_in_both_directions() {
    let mut plan = plan(0..=2, Metal::Emulated);
    plan.levels[1].settings.hardware.network = Some(Network::Restricted);
    let arguments = plan.machine(1, Instance::First).arguments(&Anywhere).join(" ");
    assert!(arguments.contains("-netdev user,id=nest-network,restrict=on "), "{arguments}");
    for (direction, queue) in [("sent", "rx"), ("received", "tx")] {
        let copy = format!(
            "-object filter-dump,id=nest-{direction},netdev=nest-network,queue={queue},maxlen=128,\
             file=/run/nest/traffic-L1/{direction}/packets "
        );
        assert!(arguments.contains(&copy), "{copy} in {arguments}");
    }
    let without = plan.machine(0, Instance::First).arguments(&Anywhere).join(" ");
    assert!(!without.contains("netdev") && without.contains("-nodefaults"), "{without}");
}

#[test]
fn the_network_of_a_benchmark_lets_nothing_out_and_has_the_addresses_that_the_benchmark_uses() {
    let mut plan = plan(0..=2, Metal::Emulated);
    plan.levels[2].settings.hardware.devices = vec![Device::VirtioNetSink];
    let arguments = plan.machine(2, Instance::First).arguments(&Anywhere).join(" ");
    let network = "-netdev user,id=nest-sink,restrict=on,ipv6=off,net=10.0.9.0/24,\
                   guestfwd=tcp:10.0.9.100:9-cmd:wc -c ";
    assert!(arguments.contains(network), "{arguments}");
    let mac = "52:54:00:6e:65:74";
    let card = format!("-device virtio-net-pci,id=nest-virtio-net-sink,netdev=nest-sink,romfile=,mac={mac} ");
    assert!(arguments.contains(&card), "{arguments}");
    for (benchmark, other_side) in
        [(Benchmark::Network, "10.0.9.100 9"), (Benchmark::NetworkRoundTrip, "10.0.9.2")]
    {
        let BenchmarkTool::Program { prepare, command, .. } = benchmark.info().tool else { panic!() };
        assert!(prepare.unwrap().contains(mac) && command.contains(other_side), "{benchmark}");
    }
}

/// The first CPU of AMD's emulated metal must run no guest (erratum `tcg-smp-reset`).
#[rstest]
#[case::by_default(0..=2, None, &[], (3, true))]
#[case::of_several(0..=2, Some(2), &[], (2, true))]
#[case::of_one(0..=2, Some(1), &[], (1, false))]
#[case::guests_of_a_suite(0..=0, None, &[], (3, true))]
#[case::the_others_do_not_run(0..=2, None, &["maxcpus=1"], (3, false))]
#[case::some_others_run(0..=2, None, &["maxcpus=2"], (3, true))]
fn l0_runs_no_guest_on_the_first_cpu_of_amds_emulated_metal(
    #[case] levels: std::ops::RangeInclusive<u8>,
    #[case] cpus: Option<u32>,
    #[case] parameters: &[&str],
    #[case] expected: (u32, bool),
) {
    let seen = |plan: &StackPlan, index| {
        let machine = plan.machine(index, Instance::First);
        let mut words = machine.boot.parameters().unwrap_or_default().split(' ');
        (machine.hardware.cpus, words.any(|word| word == SPARE_FIRST_CPU))
    };
    let mut plan = plan(levels, Metal::Emulated);
    plan.levels[0].settings.hardware.cpus = cpus;
    plan.levels[0].settings.kernel_parameters = parameters.iter().map(|&word| word.to_owned()).collect();
    assert_eq!(seen(&plan, 0), expected);
    if plan.levels.len() > 1 {
        assert_eq!(seen(&plan, 1), (2, false), "KVM runs it");
    }
    assert_eq!(seen(&plan_of(Architecture::Power9, 0..=2, Metal::Emulated), 0), (2, false));
    assert_eq!(seen(&plan_of(Architecture::Amd, 1..=2, Metal::Native), 0), (2, false));
}

#[test]
fn hardware_that_a_scenario_sets_is_part_of_a_snapshots_key() {
    let of = |cpus| {
        let mut plan = plan(0..=2, Metal::Emulated);
        plan.levels[1].settings.hardware.cpus = cpus;
        plan.inputs(1)
    };
    assert_ne!(of(None), of(Some(3)));
    assert_eq!(of(None), of(Some(2)), "two are the default");
}

#[test]
fn a_level_that_libvirt_launches_has_a_machine_with_pci() {
    let mut plan = plan(0..=2, Metal::Emulated);
    assert_eq!(plan.machine(2, Instance::First).machine, "microvm");
    plan.levels[2].settings.launch = Some(Launch::Libvirt);
    let machine = plan.machine(2, Instance::First);
    assert_eq!((machine.machine.as_str(), machine.launch), ("q35", Launch::Libvirt));
    assert_eq!(plan.machine(1, Instance::First).launch, Launch::Qemu);
}

#[test]
fn another_qemu_of_a_level_is_on_a_disk_of_every_level_around_and_in_the_memory_of_the_next() {
    let mut plan = plan(0..=3, Metal::Emulated);
    let l2 = LevelNumber::ALL[2];
    let without = [0, 1, 2].map(|index| plan.memory_mib(index));
    let disk = Disk { path: "/other".into(), kernel: 0..10, initramfs: 65536..65600 };
    let other = OtherQemuImage { name: "other".into(), initramfs: "/initramfs".into(), disk, mib: 70 };
    plan.other_qemus.insert(l2, other);
    let disks = |index| -> Vec<String> {
        let machine: Machine = plan.machine(index, Instance::First);
        machine.disks.iter().map(|disk| format!("{}={}", disk.serial, disk.path.display())).collect()
    };
    let passed = "l2-qemu=/other".to_owned();
    assert!(disks(0).contains(&passed) && disks(1).contains(&passed) && !disks(2).contains(&passed));
    assert_eq!([0, 1, 2].map(|index| plan.memory_mib(index)), [without[0] + 70, without[1] + 70, without[2]]);
    let (own, other) = (plan.machine(2, Instance::First), plan.other_qemu(l2).unwrap());
    assert_eq!((own.other_qemu, other.archive.part.unwrap().bytes), (None, 65536..65600));
    plan.machine_types.insert(l2, "pc-q35-7.2".into());
    assert_eq!(plan.machine(2, Instance::First).machine, "pc-q35-7.2");
    assert!(plan.other_qemu(LevelNumber::ALL[1]).is_none());
}
