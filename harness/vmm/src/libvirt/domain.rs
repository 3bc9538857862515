//! Domain XML of a machine (<https://libvirt.org/formatdomain.html>).
//!
//! It describes the machine of [`Machine::arguments`] in libvirt's words. What libvirt has no words for goes into
//! `<qemu:commandline>` as on QEMU's own command line: the monitor of the harness, machine properties without an element, CPU
//! properties that are no features, and the devices that a scenario adds. libvirt takes no other identifiers than its own, and
//! the harness asks for those devices by theirs.

use nestmatrix_model::{Accelerator, DiskBus, Isa};

use super::xml::Element;
use crate::qemu::{
    AGENT_PORT, Backing, Boot, ChannelKind, ChannelName, Cpu, DiskBoot, ImageFile, KernelBoot, Machine,
    Placement, Uefi, Writes,
};

/// Where the elements of QEMU's driver come from.
const QEMU_NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// How an alias begins that the user chose (libvirt: "Device aliases").
const OWN_ALIAS: &str = "ua-";

/// The first free slot of a machine's first bus, and the last one: the others have the devices that every such machine has.
const SLOTS: std::ops::RangeInclusive<u8> = 3..=0x1e;

/// The domain XML of `machine` on a host with this placement, where the program `emulator` is QEMU. It is complete: libvirt needs
/// nothing else to start it with `virsh create --paused`.
pub fn domain_xml(machine: &Machine, placement: &dyn Placement, emulator: &str) -> String {
    Domain { machine, placement, emulator, slots: SLOTS }.element().to_string()
}

/// The name of the channel whose virtio-serial port libvirt gave this identifier, if [`domain_xml`] chose it: `l2.qmp`.
pub fn channel_of_alias(alias: &str) -> Option<String> {
    let (level, kind) = alias.strip_prefix(OWN_ALIAS)?.rsplit_once('-')?;
    Some(format!("{level}.{kind}"))
}

/// An alias for a channel. It may have no dot.
fn alias_of(channel: ChannelName) -> String {
    format!("{OWN_ALIAS}{}", channel.to_string().replace('.', "-"))
}

struct Domain<'m> {
    machine: &'m Machine,
    placement: &'m dyn Placement,
    emulator: &'m str,
    /// The slots that are still free.
    slots: std::ops::RangeInclusive<u8>,
}

impl Domain<'_> {
    fn element(mut self) -> Element {
        let machine = self.machine;
        let kind = match machine.accelerator {
            // libvirt has no word for one that is used if there is no other.
            Accelerator::Kvm | Accelerator::KvmOrTcg => "kvm",
            Accelerator::Tcg => "qemu",
        };
        let plain = |name, text: &str| Element::new(name).text(text);
        let (devices, mut more) = self.devices();
        let (features, properties) = features(machine);
        more.splice(0..0, properties.iter().map(|property| ("machine", property.clone())));
        more.extend(cpu_properties(&machine.cpu, machine.isa));
        Element::new("domain")
            .with("type", kind)
            .with("xmlns:qemu", QEMU_NAMESPACE)
            .child(plain("name", &machine.label()))
            .children(self.uuid().map(|uuid| plain("uuid", &uuid)))
            .child(plain("memory", &machine.memory_mib.to_string()).with("unit", "MiB"))
            .children(machine.hardware.huge_pages.then(huge_pages))
            .child(vcpus(machine))
            .child(self.os())
            .children((!features.is_empty()).then(|| Element::new("features").children(features)))
            .child(cpu(&machine.cpu).children(topology(machine).map(element_of_topology)))
            .child(plain("on_poweroff", "destroy"))
            .child(plain("on_reboot", "destroy"))
            .child(plain("on_crash", "preserve"))
            .child(Element::new("devices").children(devices))
            .child(command_line(more))
    }

    /// The identifier of the machine, if it is set.
    fn uuid(&self) -> Option<String> {
        let option = |(name, value)| (name == "uuid").then_some(value);
        self.machine.boot.options(self.placement).into_iter().find_map(option)
    }

    fn os(&self) -> Element {
        let Machine { isa, machine, boot, uefi, .. } = self.machine;
        let kind =
            Element::new("type").with("arch", isa.info().machines[0]).with("machine", machine).text("hvm");
        let os = Element::new("os").child(kind);
        let flash = uefi.iter().filter(|_| !self.placement.has_block_devices());
        let os = os.children(flash.flat_map(|uefi| self.firmware(uefi)));
        match boot {
            Boot::Kernel(KernelBoot { kernel, initramfs, parameters }) => os.children([
                Element::new("kernel").text(self.placement.file(kernel)),
                Element::new("initrd").text(self.placement.file(initramfs)),
                Element::new("cmdline").text(parameters),
            ]),
            // Domain XML is written for machines that QEMU runs.
            Boot::Disk(_) | Boot::Volume(_) => os,
        }
    }

    fn firmware(&self, uefi: &Uefi) -> [Element; 2] {
        let secure = if uefi.protects_variables { "yes" } else { "no" };
        let loader = Element::new("loader").with("readonly", "yes").with("secure", secure);
        [
            loader.with("type", "pflash").text(self.placement.disk(&uefi.code)),
            Element::new("nvram").text(self.placement.disk(&uefi.variables)),
        ]
    }

    /// The devices, and what of them goes on QEMU's command line.
    fn devices(&mut self) -> (Vec<Element>, Vec<(&'static str, String)>) {
        let (machine, placement) = (self.machine, self.placement);
        let mut devices = vec![Element::new("emulator").text(self.emulator)];
        let mut more: Vec<(&str, String)> = Vec::new();
        let uefi = machine.uefi.iter().filter(|_| placement.has_block_devices());
        // libvirt opens flash memory as a file, which a block device is not.
        more.extend(uefi.flat_map(|uefi| uefi.options(placement)));
        more.extend(machine.devices.iter().map(|device| ("device", device.clone())));
        // Without it, there would be a controller for USB.
        devices.push(Element::new("controller").with("type", "usb").with("index", "0").with("model", "none"));
        let own = |kind| placement.channel(machine.channel(kind));
        if let Some(monitor) = own(ChannelKind::Qmp) {
            more.push(("chardev", monitor.chardev("qmp")));
            more.push(("mon", "chardev=qmp,mode=control".into()));
        }
        if let Some(console) = own(ChannelKind::Console) {
            devices.push(character("serial", &console).child(Element::new("target").with("port", "0")));
        }
        let agent = machine.agent.then(|| own(ChannelKind::Agent)).flatten();
        let agent = agent.map(|backing| (machine.channel(ChannelKind::Agent), backing, AGENT_PORT));
        let ports = machine.ports.iter();
        let ports = ports
            .filter_map(|port| Some((port.channel, placement.channel(port.channel)?, port.name.as_str())));
        let channels: Vec<_> = agent.into_iter().chain(ports).collect();
        if !channels.is_empty() {
            let controller = Element::new("controller").with("type", "virtio-serial").with("index", "0");
            devices.push(controller.children(self.address()));
        }
        for (channel, backing, name) in channels {
            let target = Element::new("target").with("type", "virtio").with("name", name);
            let alias = Element::new("alias").with("name", alias_of(channel));
            devices.push(character("channel", &backing).children([target, alias]));
        }
        for (number, disk) in machine.disks.iter().chain(&machine.writable_disk).enumerate() {
            let place = self.address();
            devices.push(self.disk(disk, &target("vd", number), "virtio").children(place));
        }
        if let Boot::Disk(boot) = &machine.boot {
            self.boot_disk(boot, &mut devices, &mut more);
        }
        // Without it, there would be a balloon.
        devices.push(Element::new("memballoon").with("model", "none"));
        let on_bus = machine.bus.as_ref().map_or(String::new(), |bus| format!(",bus={bus}"));
        for device in &machine.hardware.devices {
            match device.tpm_model() {
                // Outside a level, libvirt starts swtpm itself.
                Some(model) if !placement.has_block_devices() => devices.push(tpm(model)),
                _ => more.extend(device.options(placement, &on_bus)),
            }
        }
        if machine.incoming {
            more.push(("incoming", "defer".into()));
        }
        (devices, more)
    }

    /// The disk from which the machine boots. It is its last one, as on QEMU's command line.
    fn boot_disk(&mut self, boot: &DiskBoot, devices: &mut Vec<Element>, more: &mut Vec<(&str, String)>) {
        let number = self.machine.disks.len() + self.machine.writable_disk.iter().len();
        let (target, bus) = match boot.bus {
            DiskBus::Virtio => (target("vd", number), "virtio"),
            DiskBus::Scsi => (target("sd", 0), "scsi"),
            DiskBus::Sata => (target("sd", 0), "sata"),
            DiskBus::Nvme => {
                more.extend(boot.devices(self.placement, ""));
                return;
            }
        };
        let mut place = None;
        match boot.bus {
            DiskBus::Virtio => place = self.address(),
            DiskBus::Scsi => {
                let controller = Element::new("controller").with("type", "scsi").with("index", "0");
                devices.push(controller.with("model", "virtio-scsi").children(self.address()));
            }
            DiskBus::Sata | DiskBus::Nvme => {}
        }
        let disk = self.disk(&boot.disk, &target, bus).child(Element::new("boot").with("order", "1"));
        devices.push(disk.children(place));
    }

    fn disk(&self, disk: &ImageFile, target: &str, bus: &str) -> Element {
        let is_device = self.placement.has_block_devices();
        let (kind, source) = if is_device { ("block", "dev") } else { ("file", "file") };
        let format = self.placement.format(disk).as_qemu();
        let writes = match disk.writes {
            Writes::Refused => Some(Element::new("readonly")),
            Writes::Kept => None,
            Writes::Discarded => Some(Element::new("transient")),
        };
        Element::new("disk")
            .with("type", kind)
            .with("device", "disk")
            .child(Element::new("driver").with("name", "qemu").with("type", format))
            .child(Element::new("source").with(source, self.placement.disk(disk)))
            .child(Element::new("target").with("dev", target).with("bus", bus))
            .children(writes)
            .child(Element::new("serial").text(&disk.serial))
    }

    /// The next slot of the machine's first bus. libvirt would put each device on its own bridge, which our command line
    /// does not have, and levels search the first bus only.
    fn address(&mut self) -> Option<Element> {
        let is_pci = self.machine.bus.is_none() && self.machine.isa.info().has_pci;
        let slot = is_pci.then(|| self.slots.next()).flatten()?;
        let address =
            Element::new("address").with("type", "pci").with("domain", "0x0000").with("bus", "0x00");
        Some(address.with("slot", format!("{slot:#04x}")).with("function", "0x0"))
    }
}

fn vcpus(machine: &Machine) -> Element {
    let (cpus, most) = (machine.hardware.cpus, machine.hardware.max_cpus);
    let element = Element::new("vcpu");
    let element = if most > cpus { element.with("current", cpus.to_string()) } else { element };
    element.text(most.to_string())
}

/// All pages are taken at the start, as by our command line.
fn huge_pages() -> Element {
    Element::new("memoryBacking").children([
        Element::new("hugepages"),
        Element::new("source").with("type", "memfd"),
        Element::new("access").with("mode", "shared"),
        Element::new("allocation").with("mode", "immediate"),
    ])
}

/// The features of the machine that libvirt has elements for, and its other properties, as `NAME=VALUE`.
fn features(machine: &Machine) -> (Vec<Element>, Vec<String>) {
    let by_default = machine.isa.info().libvirt_features;
    let by_default = match machine.uefi {
        Some(_) => by_default.of_uefi,
        None => by_default.of_default_firmware,
    };
    let mut features: Vec<Element> = by_default.iter().map(|name| Element::new(name)).collect();
    let mut others = Vec::new();
    let set = machine.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    // What the scenario sets counts.
    let of_devices = machine.hardware.properties();
    let of_devices = of_devices.filter(|(name, _)| !machine.properties.contains_key(*name));
    let has_topology = topology(machine).is_some();
    let is_in_topology = |name: &str| has_topology && name.starts_with(SMP);
    for (name, value) in set.chain(of_devices).filter(|(name, _)| !is_in_topology(name)) {
        match feature(name, value) {
            Some(feature) => features.push(feature),
            None => others.push(format!("{name}={value}")),
        }
    }
    (features, others)
}

/// The element for a property of the machine, if there is one for this value.
fn feature(name: &str, value: &str) -> Option<Element> {
    let state = |name| matches!(value, "on" | "off").then(|| Element::new(name).with("state", value));
    let mitigation = |name| Some(Element::new(name).with("value", value));
    match name {
        "smm" => state("smm"),
        "cap-nested-hv" => state("nested-hv"),
        "cap-htm" => state("htm"),
        "cap-ccf-assist" => state("ccf-assist"),
        "cap-cfpc" => mitigation("cfpc"),
        "cap-sbbc" => mitigation("sbbc"),
        "cap-ibs" => mitigation("ibs"),
        "cap-hpt-max-page-size" => {
            let kib = value.parse::<u64>().ok().filter(|bytes| bytes % 1024 == 0)? / 1024;
            let size = Element::new("maxpagesize").with("unit", "KiB").text(kib.to_string());
            Some(Element::new("hpt").child(size))
        }
        "kernel-irqchip" => match value {
            "on" => Some(Element::new("ioapic").with("driver", "kvm")),
            "split" => Some(Element::new("ioapic").with("driver", "qemu")),
            _ => None,
        },
        _ => None,
    }
}

/// libvirt's name for a kind of TPM that QEMU gives this name. Arm's is QEMU's `tpm-tis-device`.
pub fn libvirt_tpm_model(device: &str) -> &str {
    device.strip_suffix("-device").unwrap_or(device)
}

fn tpm(device: &str) -> Element {
    let backend = Element::new("backend").with("type", "emulator").with("version", "2.0");
    Element::new("tpm").with("model", libvirt_tpm_model(device)).child(backend)
}

/// How the names of the machine's properties begin that arrange its CPUs.
const SMP: &str = "smp.";

/// The parts of a topology, from the outside in.
const TOPOLOGY: [&str; 5] = ["sockets", "dies", "clusters", "cores", "threads"];

/// The numbers of sockets, dies, clusters, cores and threads, if the machine's properties set some of them. libvirt always writes its
/// own arrangement on QEMU's command line, and QEMU refuses two that contradict each other. What is not set, QEMU makes one, but for
/// the cores (or the sockets, if the cores are set), which get what is left (QEMU, hw/core/machine-smp.c).
fn topology(machine: &Machine) -> Option<[u32; 5]> {
    let set = TOPOLOGY.map(|part| machine.properties.get(&format!("{SMP}{part}")));
    if set.iter().all(Option::is_none) {
        return None;
    }
    let [sockets, dies, clusters, cores, threads] =
        set.map(|value| value.map(|value| value.parse::<u32>()).transpose().ok().flatten());
    let others = [sockets, dies, clusters, cores, threads]
        .iter()
        .flatten()
        .try_fold(1_u32, |product, part| product.checked_mul(*part))?;
    let rest = machine.hardware.max_cpus.checked_div(others)?;
    let (sockets, cores) = match (sockets, cores) {
        (Some(sockets), Some(cores)) => (sockets, cores),
        (None, Some(cores)) => (rest, cores),
        (sockets, None) => (sockets.unwrap_or(1), rest),
    };
    Some([sockets, dies.unwrap_or(1), clusters.unwrap_or(1), cores, threads.unwrap_or(1)])
}

fn element_of_topology(numbers: [u32; 5]) -> Element {
    let parts = TOPOLOGY.into_iter().zip(numbers);
    // libvirt 9.0 has no clusters, and no other machine has several.
    let parts = parts.filter(|(part, number)| *part != "clusters" || *number > 1);
    parts.fold(Element::new("topology"), |element, (part, number)| element.with(part, number.to_string()))
}

/// As the documents write it. A CPU that is passed through has what the host has.
fn cpu(cpu: &Cpu) -> Element {
    let checked = |element: Element| match cpu.check {
        Some(check) => element.with("check", check.as_libvirt()),
        None => element,
    };
    let feature = |policy, name: &String| Element::new("feature").with("policy", policy).with("name", name);
    let required = cpu.require.iter().chain(&cpu.with).map(|name| feature("require", name));
    let disabled = cpu.without.iter().chain(&cpu.disable).map(|name| feature("disable", name));
    if cpu.is_passed_through() {
        return checked(Element::new("cpu").with("mode", "host-passthrough")).children(disabled);
    }
    let model = Element::new("model").with("fallback", "allow").text(&cpu.model);
    checked(Element::new("cpu").with("mode", "custom").with("match", "exact"))
        .child(model)
        .children(required)
        .children(disabled)
}

/// CPU properties that are no features. QEMU gives them to every CPU of the architecture.
fn cpu_properties(cpu: &Cpu, isa: Isa) -> impl Iterator<Item = (&'static str, String)> {
    let global =
        move |(name, value)| format!("driver={}-cpu,property={name},value={value}", isa.info().qemu_cpu);
    cpu.set.iter().map(move |property| ("global", global(property)))
}

/// A character device that is connected to what this channel ends at.
fn character(name: &'static str, backing: &Backing) -> Element {
    let (element, source) = (Element::new(name), Element::new("source"));
    match backing {
        Backing::Socket(path) => {
            element.with("type", "unix").child(source.with("mode", "connect").with("path", path))
        }
        Backing::Port(path) => element.with("type", "dev").child(source.with("path", path)),
        Backing::Fifos(path) => element.with("type", "pipe").child(source.with("path", path)),
        Backing::Terminal => element.with("type", "pty"),
        Backing::Listen(port) => {
            let source = source.with("mode", "bind").with("host", "127.0.0.1");
            let protocol = Element::new("protocol").with("type", "raw");
            element.with("type", "tcp").children([source.with("service", port.to_string()), protocol])
        }
    }
}

fn command_line(options: Vec<(&str, String)>) -> Element {
    let argument = |value| Element::new("qemu:arg").with("value", value);
    let arguments = options.into_iter().flat_map(|(name, value)| [format!("-{name}"), value]);
    Element::new("qemu:commandline").children(arguments.map(argument))
}

/// The name of a disk in libvirt: `vda`, and `vdaa` after `vdz`. The guest chooses its own.
fn target(begin: &str, number: usize) -> String {
    let letter = |index: usize| char::from(b'a' + u8::try_from(index % 26).unwrap_or_default());
    match number / 26 {
        0 => format!("{begin}{}", letter(number)),
        more => format!("{begin}{}{}", letter(more - 1), letter(number)),
    }
}
