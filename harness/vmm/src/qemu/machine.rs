//! A machine as data, and its QEMU command line.
//!
//! A machine names its channels: monitor, console, agent, and those that it passes to the levels inside it. A placement says how
//! they are connected: to a Unix socket of the harness on this machine, or to a port of the level below. That is the only
//! difference between a QEMU on this machine and one in a level.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nestmatrix_model::architecture::BareMachine;
use nestmatrix_model::{Accelerator, CpuCheck, CpuMode, CpuRequirement, Isa, Launch, LevelNumber};

use super::MachineHardware;
use super::boot::{Boot, DiskFormat, ImageFile, Uefi, Writes, drive};
use super::channel::{Backing, ChannelKind, ChannelName, Port};
use super::removable::{self, Removable};

/// The memory of a machine, as this machine sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Memory {
    /// Memory of the QEMU process.
    #[default]
    Private,
    /// This file. It can be read while the machine is stopped.
    Shared(PathBuf),
    /// This file of a snapshot. It stays unchanged: the machine keeps its writes to itself.
    Snapshot(PathBuf),
}

/// Where a host has what its QEMU needs: the only difference between a QEMU on this machine and one in a level.
pub trait Placement {
    /// What QEMU's end of a channel is connected to. None if the channel has no other end: then the machine does not get it.
    fn channel(&self, channel: ChannelName) -> Option<Backing>;
    /// Path of a file that QEMU itself reads (kernel, initramfs).
    fn file(&self, file: &ImageFile) -> String;
    /// Path of the file or device of a disk.
    fn disk(&self, file: &ImageFile) -> String;
    /// Path of a file or folder of this name that only processes of the host use, such as a socket between two of them.
    fn path_of(&self, name: &str) -> String;
    /// The format of what is at that path. Inside a level it is a block device.
    fn format(&self, _file: &ImageFile) -> DiskFormat {
        DiskFormat::Raw
    }
    /// Whether what is at those paths of disks are block devices and not files.
    fn has_block_devices(&self) -> bool {
        false
    }
}

/// The CPU as it is requested from QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// Value of `-cpu`, without required features.
    pub model: String,
    /// Features that are switched on and must be available.
    pub require: Vec<String>,
    /// Features that the guest's kernel can't do without. The model must have them by itself: they are not switched on.
    pub needs: Vec<String>,
    /// Other features that are switched on.
    pub with: Vec<String>,
    /// Features that are switched off.
    pub without: Vec<String>,
    /// Features that are switched off and must really be off.
    pub disable: Vec<String>,
    /// Other properties, which must have these values.
    pub set: BTreeMap<String, String>,
    /// How libvirt checks it, if that is set.
    pub check: Option<CpuCheck>,
}

/// The model of a CPU that is passed through.
const PASSED_THROUGH: &str = "host";

impl Cpu {
    /// The CPU that a scenario requires, with `also` required too.
    pub fn required(requirement: &CpuRequirement, also: Option<&str>) -> Self {
        let model = match &requirement.mode {
            CpuMode::HostPassthrough => PASSED_THROUGH.to_owned(),
            CpuMode::Custom { model } => model.clone(),
        };
        let mut require = requirement.require.clone();
        if let Some(also) = also.filter(|also| !require.iter().any(|r| r == also)) {
            require.push(also.to_owned());
        }
        Self {
            model,
            require,
            needs: Vec::new(),
            with: Vec::new(),
            without: Vec::new(),
            disable: requirement.disable.clone(),
            set: requirement.set.clone(),
            check: requirement.check,
        }
    }

    /// Whether it is the CPU of the host, unchanged.
    pub fn is_passed_through(&self) -> bool {
        self.model == PASSED_THROUGH
    }

    fn argument(&self, explicit: bool) -> String {
        let mut argument = self.model.clone();
        for feature in self.require.iter().filter(|_| explicit) {
            argument.push_str(&format!(",{feature}=on"));
        }
        for feature in self.with.iter().filter(|with| !explicit || !self.require.contains(with)) {
            argument.push_str(&format!(",{feature}=on"));
        }
        for feature in self.without.iter().chain(&self.disable) {
            argument.push_str(&format!(",{feature}=off"));
        }
        for (property, value) in &self.set {
            argument.push_str(&format!(",{property}={value}"));
        }
        argument
    }
}

/// Which machine of a level it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Instance {
    /// The one that the levels inside run in.
    #[default]
    First,
    /// Another one with the same configuration, which runs at the same time.
    SecondMachine,
    /// The one to which the running one is migrated.
    Incoming {
        /// Whether it uses the second set of channels: that which the running one does not use.
        second: bool,
    },
}

impl Instance {
    /// Whether it uses the second set of channels.
    pub fn is_second(self) -> bool {
        matches!(self, Self::SecondMachine | Self::Incoming { second: true })
    }

    /// Whether the running machine of the level is migrated to it.
    pub fn is_incoming(self) -> bool {
        matches!(self, Self::Incoming { .. })
    }
}

/// A machine that QEMU runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its level.
    pub level: LevelNumber,
    /// Which of that level's machines.
    pub instance: Instance,
    /// The instruction set of its processor.
    pub isa: Isa,
    /// What starts it.
    pub launch: Launch,
    /// Its bare machine, if it is one.
    pub metal: Option<BareMachine>,
    /// Machine type.
    pub machine: String,
    /// The machine's properties, without its accelerator.
    pub properties: BTreeMap<String, String>,
    /// The properties that must be on in QEMU's machine.
    pub require: Vec<String>,
    /// Devices that the machine itself needs.
    pub devices: Vec<String>,
    /// The bus for all other devices, if it is not the machine's default.
    pub bus: Option<String>,
    /// Accelerator.
    pub accelerator: Accelerator,
    /// CPU.
    pub cpu: Cpu,
    /// Its CPUs and additional devices.
    pub hardware: MachineHardware,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Its memory.
    pub memory: Memory,
    /// Whether it waits for an incoming migration or a snapshot instead of starting.
    pub incoming: bool,
    /// What it boots.
    pub boot: Boot,
    /// Its UEFI firmware, if it has one.
    pub uefi: Option<Uefi>,
    /// Whether its guest has an agent.
    pub agent: bool,
    /// Channels of the levels inside it, passed through as virtio-serial ports.
    pub ports: Vec<Port>,
    /// Images of the levels inside it.
    pub disks: Vec<ImageFile>,
    /// Its writable disk.
    pub writable_disk: Option<ImageFile>,
    /// Its media that can be removed.
    pub removable: Vec<Removable>,
    /// Whether it has a display, which only a picture of it shows.
    pub display: bool,
    /// The archive with swtpm, if it has a TPM and runs in a level.
    pub swtpm: Option<ImageFile>,
    /// The QEMU that runs it, if that is not the one of its host.
    pub other_qemu: Option<OtherQemu>,
}

/// A QEMU of another image than that of the level that runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherQemu {
    /// The initramfs of that image: an archive (cpio) of its root file system, which is not compressed.
    pub archive: ImageFile,
    /// The program in it.
    pub program: String,
}

/// The name of a machine of a level in records: `L1`, `L1-second`.
pub fn machine_label(level: LevelNumber, instance: Instance) -> String {
    let second = if instance.is_second() { "-second" } else { "" };
    format!("{level}{second}")
}

/// The name of the port that every stock guest agent opens.
pub(crate) const AGENT_PORT: &str = "org.qemu.guest_agent.0";

impl Machine {
    /// Whether it has a monitor. Bare machines of other emulators have none, and neither has the guest of a Windows level.
    pub fn has_monitor(&self) -> bool {
        matches!(self.metal, None | Some(BareMachine::Qemu(_))) && !self.launch.is_by_windows()
    }

    /// Every channel that this machine's QEMU opens, its own first.
    pub fn channels(&self) -> Vec<ChannelName> {
        let own = ChannelKind::ALL.into_iter().filter(|kind| self.agent || *kind != ChannelKind::Agent);
        own.map(|kind| self.channel(kind)).chain(self.ports.iter().map(|port| port.channel)).collect()
    }

    /// Its own channel of this kind.
    pub fn channel(&self, kind: ChannelKind) -> ChannelName {
        ChannelName { level: self.level, kind, second: self.instance.is_second() }
    }

    /// The same machine, with all that it writes to its disks gone when its QEMU ends.
    #[must_use]
    pub fn discarding_writes(mut self) -> Self {
        let discard = |disk: &mut ImageFile| {
            if disk.writes == Writes::Kept {
                disk.writes = Writes::Discarded;
            }
        };
        if let Boot::Disk(boot) = &mut self.boot {
            discard(&mut boot.disk);
        }
        self.uefi.iter_mut().for_each(|uefi| discard(&mut uefi.variables));
        self.disks.iter_mut().chain(&mut self.writable_disk).for_each(discard);
        self
    }

    /// Every disk, CD and flash memory that it has.
    pub fn drives(&self) -> impl Iterator<Item = &ImageFile> {
        let booted = match &self.boot {
            Boot::Disk(boot) => Some(&boot.disk),
            Boot::Kernel(_) | Boot::Volume(_) => None,
        };
        let flash = self.uefi.iter().flat_map(|uefi| [&uefi.code, &uefi.variables]);
        let removable = self.removable.iter().map(|medium| &medium.file);
        self.disks.iter().chain(&self.writable_disk).chain(booted).chain(flash).chain(removable)
    }

    /// Its name in records: `L1`, `L1-second`.
    pub fn label(&self) -> String {
        machine_label(self.level, self.instance)
    }

    /// QEMU's arguments, without the program, on a host with this placement.
    pub fn arguments(&self, placement: &dyn Placement) -> Vec<String> {
        let own = |kind| placement.channel(self.channel(kind));
        let mut args: Vec<String> = Vec::new();
        let mut option = |name: &str, value: String| args.extend([format!("-{name}"), value]);

        option("name", self.label());
        let mut machine = format!("{},accel={}", self.machine, self.accelerator.as_qemu());
        let size = self.memory_mib;
        let file = match &self.memory {
            Memory::Private => None,
            Memory::Shared(file) => Some((file, "share=on")),
            // The file is opened for reading only. The machine's writes stay private.
            Memory::Snapshot(file) => Some((file, "share=off,readonly=on,rom=off")),
        };
        if let Some((file, share)) = file {
            let file = file.display().to_string().replace(',', ",,");
            let backend = format!("memory-backend-file,id=memory,size={size}M,mem-path={file},{share}");
            option("object", backend);
            machine.push_str(",memory-backend=memory");
        } else if let Some(backend) = self.hardware.memory_backend(size) {
            option("object", backend);
            machine.push_str(",memory-backend=memory");
        }
        let properties = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // What the scenario sets counts.
        let of_devices = self.hardware.properties().filter(|(name, _)| !self.properties.contains_key(*name));
        for (name, value) in properties.chain(of_devices) {
            machine.push_str(&format!(",{name}={value}"));
        }
        option("machine", machine);
        option("cpu", self.cpu.argument(!self.cpu.is_passed_through()));
        option("smp", self.hardware.smp());
        option("m", self.hardware.memory(size));
        option("display", "none".into());
        for (name, value) in self.boot.options(placement) {
            option(name, value);
        }
        for (name, value) in self.uefi.iter().flat_map(|uefi| uefi.options(placement)) {
            option(name, value);
        }
        for device in &self.devices {
            option("device", device.clone());
        }
        let on_bus = self.bus.as_ref().map_or(String::new(), |bus| format!(",bus={bus}"));
        if let Some(monitor) = own(ChannelKind::Qmp) {
            option("chardev", monitor.chardev("qmp"));
            option("mon", "chardev=qmp,mode=control".into());
        }
        if let Some(console) = own(ChannelKind::Console) {
            option("chardev", console.chardev("console"));
            option("serial", "chardev:console".into());
        }
        let agent = if self.agent { own(ChannelKind::Agent) } else { None };
        let ports = self.ports.iter().filter_map(|port| Some((port, placement.channel(port.channel)?)));
        let ports: Vec<_> = ports.collect();
        if agent.is_some() || !ports.is_empty() {
            option("device", format!("virtio-serial-pci{on_bus}"));
        }
        if let Some(agent) = agent {
            option("chardev", agent.chardev("agent"));
            option("device", format!("virtserialport,id=agent,chardev=agent,name={AGENT_PORT}"));
        }
        for (Port { channel, name }, backing) in ports {
            option("chardev", backing.chardev(&channel.to_string()));
            option("device", format!("virtserialport,id={channel},chardev={channel},name={name}"));
        }
        for disk in self.disks.iter().chain(&self.writable_disk) {
            option("drive", drive(disk, placement));
            option("device", format!("virtio-blk-pci,drive={0},serial={0}{on_bus}", disk.serial));
        }
        // Last: if a level inside boots from the same medium, both disks have the same labels, and udev prefers the disk that it sees last.
        if let Boot::Disk(boot) = &self.boot {
            for (name, value) in boot.devices(placement, &on_bus) {
                option(name, value);
            }
        }
        if self.display {
            // UEFI needs no program of the card, and not every QEMU comes with it.
            option("device", format!("VGA,romfile={on_bus}"));
        }
        for (name, value) in removable::options(&self.removable, placement, &on_bus) {
            option(name, value);
        }
        for (name, value) in
            self.hardware.devices.iter().flat_map(|device| device.options(placement, &on_bus))
        {
            option(name, value);
        }
        // Last: the devices of a machine without it have the same places.
        for (name, value) in self.hardware.plugging() {
            option(name, value);
        }
        if self.incoming {
            option("incoming", "defer".into());
        }
        // -S: no guest runs before the harness has queried the CPU. -no-shutdown: QEMU stays after its guest has powered off, because
        // the KVM counters disappear with it.
        args.extend(["-nodefaults", "-no-user-config", "-no-reboot", "-no-shutdown", "-S"].map(String::from));
        args
    }
}

#[cfg(test)]
mod tests {
    use nestmatrix_model::Architecture;
    use nestmatrix_model::architecture::ArchInfo;

    use super::super::{GuestDevice, KernelBoot};
    use super::*;

    fn level(number: u8) -> LevelNumber {
        LevelNumber::new(number).unwrap()
    }

    fn file(serial: &str) -> ImageFile {
        ImageFile::read_only(serial, format!("/cache/{serial}"))
    }

    fn machine() -> Machine {
        let channel = ChannelName { level: level(2), kind: ChannelKind::Qmp, second: false };
        Machine {
            level: level(1),
            instance: Instance::First,
            isa: Isa::Amd64,
            launch: Launch::Qemu,
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
                check: None,
            },
            hardware: MachineHardware::with_cpus(1),
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
            ports: vec![Port { channel, name: channel.port_name() }],
            disks: vec![file("l2-kernel")],
            writable_disk: None,
            removable: Vec::new(),
            display: false,
            swtpm: None,
            other_qemu: None,
        }
    }

    struct InLevel;
    impl Placement for InLevel {
        fn channel(&self, channel: ChannelName) -> Option<Backing> {
            Some(Backing::Port(format!("/dev/virtio-ports/{}", channel.port_name())))
        }
        fn file(&self, file: &ImageFile) -> String {
            format!("/run/{}", file.serial)
        }
        fn disk(&self, _: &ImageFile) -> String {
            "/dev/a,b".into()
        }
        fn path_of(&self, name: &str) -> String {
            format!("/run/{name}")
        }
    }

    fn arguments(machine: &Machine) -> String {
        machine.arguments(&InLevel).join(" ")
    }

    #[test]
    fn channels_of_the_levels_inside_pass_through_as_ports() {
        let args = arguments(&machine());
        assert!(args.contains("-chardev serial,id=l2.qmp,path=/dev/virtio-ports/nest.l2.qmp"), "{args}");
        assert!(args.contains("virtserialport,id=l2.qmp,chardev=l2.qmp,name=nest.l2.qmp"), "{args}");
        assert!(args.contains("-chardev serial,id=qmp,path=/dev/virtio-ports/nest.l1.qmp"), "{args}");
    }

    #[test]
    fn a_named_model_gets_its_required_features_and_host_passthrough_what_the_host_has() {
        let mut machine = machine();
        assert!(arguments(&machine).contains("-cpu EPYC-IBPB,svm=on "));
        machine.cpu.without = vec!["la57".into()];
        assert!(arguments(&machine).contains("-cpu EPYC-IBPB,svm=on,la57=off "));
        machine.cpu.without.clear();
        machine.cpu.model = "host".into();
        assert!(arguments(&machine).contains("-cpu host "));
    }

    #[test]
    fn a_machine_never_runs_before_its_cpu_was_looked_at() {
        let args = machine().arguments(&InLevel);
        assert!(args.iter().any(|a| a == "-S") && args.iter().any(|a| a == "-nodefaults"), "{args:?}");
    }

    #[test]
    fn what_the_machine_needs_for_itself_comes_before_what_stands_on_it() {
        let mut machine = machine();
        machine.properties.insert("cap-nested-hv".into(), "on".into());
        machine.devices = vec!["pcie-pci-bridge,id=slots".into()];
        machine.bus = Some("slots".into());
        let args = arguments(&machine);
        assert!(args.contains("-machine q35,accel=kvm,cap-nested-hv=on "), "{args}");
        let at = |what: &str| args.find(what).unwrap_or_else(|| panic!("no {what} in {args}"));
        assert!(at("-device pcie-pci-bridge,id=slots ") < at("-device virtio-serial-pci,bus=slots "));
        assert!(args.contains("serial=l2-kernel,bus=slots"), "{args}");
    }

    #[test]
    fn a_tpm_is_played_by_the_swtpm_of_this_machine_alone() {
        let tpm = |label| GuestDevice::of_tpm(ArchInfo::of(Architecture::Amd), label).unwrap();
        let mut machine = machine();
        assert!(!arguments(&machine).contains("tpm"));
        machine.bus = Some("slots".into());
        machine.hardware.devices = vec![tpm("L1")];
        let args = arguments(&machine);
        let options = "-chardev socket,id=nest-tpm,path=/run/tpm-L1/socket -tpmdev emulator,id=nest-tpm,chardev=nest-tpm \
                       -device tpm-crb,id=nest-tpm,tpmdev=nest-tpm ";
        assert!(args.contains(options), "{args}");
        machine.hardware.devices = vec![tpm("L1-second")];
        assert!(arguments(&machine).contains("path=/run/tpm-L1-second/socket"));
    }

    #[test]
    fn a_comma_in_a_path_does_not_end_the_option() {
        assert!(arguments(&machine()).contains("file=/dev/a,,b"));
    }
}
