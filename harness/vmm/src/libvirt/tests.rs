//! Tests of the domain XML of whole machines.

use std::collections::BTreeMap;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Accelerator, Architecture, CpuCheck, Device, DiskBus, Isa, Launch, LevelNumber};
use rstest::rstest;

use super::*;
use crate::qemu::{
    Backing, Boot, ChannelKind, ChannelName, Cpu, DiskBoot, GuestDevice, ImageFile, Instance, KernelBoot,
    Machine, MachineHardware, Memory, Placement, Port, Uefi,
};

fn level(number: u8) -> LevelNumber {
    LevelNumber::new(number).unwrap()
}

fn file(serial: &str) -> ImageFile {
    ImageFile::read_only(serial, format!("/cache/{serial}"))
}

/// An L1 that hosts an L2.
fn machine() -> Machine {
    let channel = |kind| ChannelName { level: level(2), kind, second: false };
    let port = |kind| Port { channel: channel(kind), name: channel(kind).port_name() };
    Machine {
        level: level(1),
        instance: Instance::First,
        isa: Isa::Amd64,
        launch: Launch::Libvirt,
        metal: None,
        machine: "q35".into(),
        properties: BTreeMap::new(),
        require: Vec::new(),
        devices: Vec::new(),
        bus: None,
        accelerator: Accelerator::Kvm,
        cpu: Cpu {
            model: "EPYC-IBPB".into(),
            require: vec!["svm".into()],
            needs: Vec::new(),
            with: Vec::new(),
            without: Vec::new(),
            disable: Vec::new(),
            set: BTreeMap::new(),
            check: Some(CpuCheck::None),
        },
        hardware: MachineHardware::with_cpus(2),
        memory_mib: 1024,
        memory: Memory::Private,
        incoming: false,
        boot: Boot::Kernel(KernelBoot {
            kernel: file("l1-kernel"),
            initramfs: file("l1-initramfs"),
            parameters: "quiet panic=-1".into(),
        }),
        uefi: None,
        agent: true,
        ports: vec![port(ChannelKind::Qmp), port(ChannelKind::Console)],
        disks: vec![file("l2")],
        writable_disk: None,
        removable: Vec::new(),
        display: false,
        swtpm: None,
        other_qemu: None,
    }
}

/// A level with virtio.
struct InLevel;
impl Placement for InLevel {
    fn channel(&self, channel: ChannelName) -> Option<Backing> {
        Some(Backing::Port(format!("/dev/virtio-ports/{}", channel.port_name())))
    }
    fn file(&self, file: &ImageFile) -> String {
        format!("/run/{}", file.serial)
    }
    fn disk(&self, file: &ImageFile) -> String {
        format!("/run/disk/{}", file.serial)
    }
    fn path_of(&self, name: &str) -> String {
        format!("/run/{name}")
    }
    fn has_block_devices(&self) -> bool {
        true
    }
}

/// A level without virtio.
struct OnTcp;
impl Placement for OnTcp {
    fn channel(&self, channel: ChannelName) -> Option<Backing> {
        Some(Backing::Listen(channel.tcp_port()))
    }
    fn file(&self, file: &ImageFile) -> String {
        format!("/nest/{}", file.serial)
    }
    fn disk(&self, file: &ImageFile) -> String {
        self.file(file)
    }
    fn path_of(&self, name: &str) -> String {
        format!("/nest/{name}")
    }
}

fn xml(machine: &Machine) -> String {
    domain_xml(machine, &InLevel, "/usr/bin/qemu-system-x86_64")
}

/// What is added to QEMU's command line, as one line.
fn added(xml: &str) -> String {
    let values = xml.lines().filter_map(|line| line.trim().strip_prefix("<qemu:arg value='"));
    values.map(|value| value.trim_end_matches("'/>")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_level_that_hosts_on_amd() {
    insta::assert_snapshot!(xml(&machine()));
}

#[test]
fn a_level_that_hosts_on_power9() {
    let profile = ArchInfo::of(Architecture::Power9);
    let properties = profile.host.properties.iter().filter_map(|property| property.split_once('='));
    let machine = Machine {
        isa: Isa::Ppc64el,
        machine: "pseries".into(),
        properties: properties.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        cpu: Cpu { model: "host".into(), require: Vec::new(), check: None, ..machine().cpu },
        ..machine()
    };
    insta::assert_snapshot!(domain_xml(&machine, &InLevel, "/usr/bin/qemu-system-ppc64"));
}

#[test]
fn a_level_from_a_disk_that_bochs_runs() {
    let disk = ImageFile::writable("root", "/a");
    let uuid = Some("00112233445566778899aabbccddeeff".to_owned());
    let mut machine = machine();
    machine.boot = Boot::Disk(DiskBoot { disk, bus: DiskBus::Scsi, uuid, parameters: None });
    machine.uefi = Some(Uefi {
        code: file("code"),
        variables: ImageFile::writable("variables", "/variables"),
        protects_variables: true,
    });
    machine.properties.insert("smm".into(), "on".into());
    insta::assert_snapshot!(domain_xml(&machine, &OnTcp, "/usr/bin/qemu-system-x86_64"));
}

#[test]
fn a_cpu_that_is_passed_through_is_written_as_in_the_documents() {
    let mut machine = machine();
    machine.cpu = Cpu { model: "host".into(), check: None, ..machine.cpu };
    assert!(xml(&machine).contains("  <cpu mode='host-passthrough'/>\n"));
    machine.cpu.disable = vec!["npt".into()];
    assert!(xml(&machine).contains("<feature policy='disable' name='npt'/>"));
    assert!(!xml(&machine).contains("policy='require'"), "it has what its host has");
}

#[test]
fn properties_without_an_element_are_added_to_the_command_line() {
    let mut machine = machine();
    machine.properties.insert("firmware".into(), "qboot.rom".into());
    machine.properties.insert("kernel-irqchip".into(), "split".into());
    machine.cpu.set.insert("hv-spinlocks".into(), "0x1fff".into());
    let xml = xml(&machine);
    assert!(xml.contains("<ioapic driver='qemu'/>"), "{xml}");
    assert_eq!(
        added(&xml),
        "-machine firmware=qboot.rom -chardev serial,id=qmp,path=/dev/virtio-ports/nest.l1.qmp \
         -mon chardev=qmp,mode=control -global driver=x86_64-cpu,property=hv-spinlocks,value=0x1fff"
    );
}

#[test]
fn devices_of_the_scenario_keep_their_identifiers() {
    let mut machine = machine();
    let device = GuestDevice::of(Device::VirtioRng, ArchInfo::of(Architecture::Amd)).unwrap();
    machine.hardware.devices = vec![device];
    let xml = xml(&machine);
    assert!(added(&xml).ends_with("-device virtio-rng-pci,id=nest-virtio-rng"), "{xml}");
}

#[test]
fn cpus_and_memory_are_as_requested() {
    let mut machine = machine();
    machine.hardware = MachineHardware { max_cpus: 4, huge_pages: true, ..machine.hardware };
    let xml = xml(&machine);
    assert!(xml.contains("<vcpu current='2'>4</vcpu>"), "{xml}");
    assert!(xml.contains("<hugepages/>") && xml.contains("<memory unit='MiB'>1024</memory>"), "{xml}");
}

#[rstest]
#[case(&[("smp.cores", "2")], "<topology sockets='2' dies='1' cores='2' threads='1'/>")]
#[case(&[("smp.sockets", "2")], "<topology sockets='2' dies='1' cores='2' threads='1'/>")]
#[case(&[("smp.threads", "2")], "<topology sockets='1' dies='1' cores='2' threads='2'/>")]
#[case(&[("smp.clusters", "2")], "<topology sockets='1' dies='1' clusters='2' cores='2' threads='1'/>")]
fn cpus_are_arranged_as_qemu_does(#[case] properties: &[(&str, &str)], #[case] topology: &str) {
    let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let machine = machine();
    let hardware = MachineHardware { cpus: 2, max_cpus: 4, ..machine.hardware.clone() };
    let xml = xml(&Machine { properties: properties.collect(), hardware, ..machine });
    assert!(xml.contains(topology), "{xml}");
    assert!(!added(&xml).contains("smp."), "{xml}");
}

#[test]
fn a_flash_memory_that_is_a_block_device_is_given_to_qemu() {
    let mut machine = machine();
    machine.uefi = Some(Uefi { code: file("code"), variables: file("variables"), protects_variables: false });
    let xml = xml(&machine);
    assert!(!xml.contains("<loader"), "{xml}");
    assert!(added(&xml).contains("-drive if=pflash,unit=0,format=raw,readonly=on,file=/run/disk/code"));
}

#[rstest]
#[case::virtio(DiskBus::Virtio, "<target dev='vdb' bus='virtio'/>")]
#[case::scsi(DiskBus::Scsi, "<target dev='sda' bus='scsi'/>")]
#[case::sata(DiskBus::Sata, "<target dev='sda' bus='sata'/>")]
#[case::nvme(DiskBus::Nvme, "nvme,drive=root,serial=root,bootindex=1")]
fn a_boot_disk_is_on_its_bus(#[case] bus: DiskBus, #[case] expected: &str) {
    let boot = DiskBoot { disk: ImageFile::writable("root", "/root"), bus, uuid: None, parameters: None };
    let machine = Machine { boot: Boot::Disk(boot), ..machine() };
    let xml = xml(&machine);
    assert!(xml.contains(expected), "{xml}");
    assert!(!xml.contains("<kernel>"), "{xml}");
}

#[test]
fn disks_beyond_the_last_slot_are_placed_by_libvirt() {
    let disks = (0..40).map(|number| file(&format!("d{number}"))).collect();
    let xml = xml(&Machine { disks, ..machine() });
    assert_eq!(xml.matches("<address type='pci'").count(), 28);
    assert!(xml.contains("dev='vdz'") && xml.contains("dev='vdan'"), "{xml}");
}

#[rstest]
#[case("ua-l2-qmp", Some("l2.qmp"))]
#[case("ua-l2-second-agent", Some("l2-second.agent"))]
#[case("channel0", None)]
#[case("l2.qmp", None)]
fn the_alias_of_a_port_is_that_of_its_channel(#[case] alias: &str, #[case] channel: Option<&str>) {
    assert_eq!(channel_of_alias(alias).as_deref(), channel);
}
