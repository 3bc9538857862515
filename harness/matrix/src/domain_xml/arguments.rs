//! `<qemu:commandline>`: arguments that libvirt passes on to QEMU, after its own. Proxmox' users write the same words into `args:`.

use nestmatrix_model::{CpuMode, Device, Network, Viommu};

use nestmatrix_vmm::qemu::SINK;

use super::cpu::keep;
use super::finding::Weight;
use super::level::{LevelDraft, NOT_A_WORD};
use super::machine;
use super::survey::{Element, shown};
use crate::scenario::qemu_name;

/// QEMU's devices that a scenario can ask for.
const DEVICES: &[(&str, Device)] = &[
    ("intel-iommu", Device::Viommu),
    ("amd-iommu", Device::Viommu),
    ("virtio-rng-pci", Device::VirtioRng),
    ("virtio-balloon-pci", Device::VirtioBalloon),
    ("virtio-balloon", Device::VirtioBalloon),
    ("i6300esb", Device::Watchdog),
    ("diag288", Device::Watchdog),
    ("nvme", Device::Nvme),
    ("virtio-net-pci", Device::VirtioNet),
    ("virtio-net-ccw", Device::VirtioNet),
    ("virtio-rng-ccw", Device::VirtioRng),
    ("virtio-balloon-ccw", Device::VirtioBalloon),
];

/// Options that nesting does not depend on.
const LEFT_OUT: &[&str] = &[
    "audiodev",
    "blockdev",
    "boot",
    "chardev",
    "daemonize",
    "display",
    "drive",
    "id",
    "mon",
    "monitor",
    "name",
    "netdev",
    "nographic",
    "pidfile",
    "serial",
    "smbios",
    "spice",
    "usb",
    "usbdevice",
    "vga",
    "vnc",
];

/// The value of `-cpu`, if the domain has that.
pub(super) fn cpu_of<'x>(domain: Element<'_, 'x>) -> Option<&'x str> {
    let arguments = domain.child("qemu:commandline")?.children("qemu:arg");
    let values: Vec<&str> = arguments.iter().filter_map(|argument| argument.attribute("value")).collect();
    let option = values.iter().rposition(|value| matches!(*value, "-cpu" | "--cpu"))?;
    values.get(option + 1).copied()
}

/// Reads the arguments. They come last, since QEMU takes the last word.
pub(super) fn read(domain: Element<'_, '_>, level: &mut LevelDraft) {
    let Some(command_line) = domain.child("qemu:commandline") else { return };
    for variable in command_line.children("qemu:env") {
        variable.report(Weight::ChangesMeaning, "no scenario key for QEMU's environment");
    }
    let mut restricted = None;
    let mut arguments = command_line.children("qemu:arg").into_iter().peekable();
    while let Some(argument) = arguments.next() {
        let option = argument.attribute("value").unwrap_or_default();
        let name = option.strip_prefix("--").or(option.strip_prefix('-'));
        let text_of = |next: &Element<'_, '_>| next.attribute("value").unwrap_or_default().to_owned();
        let value = arguments.next_if(|next| !text_of(next).starts_with('-'));
        let text = value.as_ref().map(text_of);
        let place = value.unwrap_or(argument);
        let is_read = match (name, text.as_deref()) {
            (Some("cpu"), Some(text)) => read_cpu(domain, place, text, level),
            (Some("machine" | "M"), Some(text)) => read_machine(place, text, level),
            (Some("smp"), Some(text)) => read_smp(place, text, level),
            (Some("m"), Some(text)) => read_memory(place, text, level),
            (Some("device"), Some(text)) => read_device(place, text, level, restricted.as_deref()),
            (Some("global"), Some(text)) => read_global(place, text, level),
            (Some("netdev"), Some(text)) => read_network(text, level, &mut restricted),
            (Some("enable-kvm"), None) => true,
            (Some("cpu" | "machine" | "M" | "smp" | "m" | "device" | "global"), None) => {
                argument.refuse("its value is missing");
                true
            }
            _ => false,
        };
        if !is_read {
            let is_left_out = name.is_some_and(|name| LEFT_OUT.contains(&name));
            let weight = if is_left_out { Weight::LeftOut } else { Weight::ChangesMeaning };
            let written: Vec<String> =
                [Some(option), text.as_deref()].into_iter().flatten().map(shown).collect();
            argument.report(weight, format!("no scenario key for `{}`", written.join(" ")));
        }
    }
}

/// `-cpu MODEL,+feature,-feature,property=value`. It replaces that of libvirt.
fn read_cpu(domain: Element<'_, '_>, argument: Element<'_, '_>, text: &str, level: &mut LevelDraft) -> bool {
    let mut words = text.split(',');
    let model = words.next().unwrap_or_default();
    level.forget_cpu();
    if let Some(cpu) = domain.child("cpu") {
        cpu.note(Weight::Approximated, "-cpu in <qemu:commandline> replaces it, but for its topology");
    }
    match model {
        "host" => {}
        "max" => argument.note(Weight::Approximated, "max: under KVM this is the CPU of the level around"),
        other => match qemu_name("a CPU model", other) {
            Ok(model) => level.cpu_mode = CpuMode::Custom { model },
            Err(_) => argument.note(Weight::ChangesMeaning, NOT_A_WORD),
        },
    }
    for word in words.filter(|word| !word.is_empty()) {
        keep_word(argument, word, level);
    }
    true
}

fn keep_word(argument: Element<'_, '_>, word: &str, level: &mut LevelDraft) {
    let taken = match (word.strip_prefix('+'), word.strip_prefix('-'), word.split_once('=')) {
        (Some(feature), ..) => level.set_feature(feature, true),
        (_, Some(feature), _) => level.set_feature(feature, false),
        // They only say what QEMU does about a feature that the host does not have.
        (_, _, Some(("enforce" | "check", _))) => return,
        (_, _, Some((property, value))) => level.set_cpu_property(property, value),
        _ if matches!(word, "enforce" | "check") => return,
        _ => level.set_cpu_property(word, "on"),
    };
    if let Err(reason) = taken {
        argument.note(Weight::ChangesMeaning, format!("{}: {reason}", shown(word)));
    }
}

/// `-machine TYPE,property=value`. QEMU adds it to that of libvirt.
fn read_machine(argument: Element<'_, '_>, text: &str, level: &mut LevelDraft) -> bool {
    for (number, word) in text.split(',').enumerate() {
        let (name, value) = word.split_once('=').unwrap_or(("", word));
        let taken = match (name, number) {
            ("" | "type", 0) | ("type", _) => {
                machine::read_machine_type(argument, value, level);
                Ok(())
            }
            ("accel", _) => {
                if value != "kvm" {
                    argument.note(Weight::ChangesMeaning, "the level runs on KVM");
                }
                Ok(())
            }
            ("", _) => Err("not expressed: a property of a machine has a value"),
            _ => level.set_machine_property(name, value),
        };
        if let Err(reason) = taken {
            argument.note(Weight::ChangesMeaning, format!("{}: {reason}", shown(word)));
        }
    }
    true
}

/// `-smp 4,maxcpus=8,sockets=1`.
fn read_smp(argument: Element<'_, '_>, text: &str, level: &mut LevelDraft) -> bool {
    for word in text.split(',') {
        let (name, value) = word.split_once('=').unwrap_or(("cpus", word));
        let number = value.parse::<u32>().ok().filter(|number| (1..=255).contains(number));
        match (name, number) {
            ("cpus", Some(number)) => {
                level.cpus = Some(number);
                level.max_cpus = level.max_cpus.filter(|most| *most > number);
            }
            ("maxcpus", Some(number)) => level.max_cpus = Some(number),
            ("sockets" | "dies" | "clusters" | "cores" | "threads", Some(_)) => {
                keep(argument, level.set_machine_property(&format!("smp.{name}"), value));
            }
            _ => argument.refuse("not expressed: a level has from 1 to 255 CPUs"),
        }
    }
    keep(argument, level.settle_cpus());
    true
}

/// `-m 4096`, `-m 4G`, `-m size=4G,slots=2,maxmem=8G`.
fn read_memory(argument: Element<'_, '_>, text: &str, level: &mut LevelDraft) -> bool {
    let size = text.split(',').next().unwrap_or_default();
    let size = size.strip_prefix("size=").unwrap_or(size);
    let (digits, unit): (&str, u64) = match size.char_indices().last() {
        Some((at, 'G' | 'g')) => (&size[..at], 1024),
        Some((at, 'M' | 'm')) => (&size[..at], 1),
        _ => (size, 1),
    };
    let mib = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    match mib.filter(|mib| (16..=1 << 20).contains(mib)).and_then(|mib| u32::try_from(mib).ok()) {
        Some(mib) => level.memory_mib = Some(mib),
        None => argument.refuse("not expressed: a level has from 16 MiB to 1 TiB"),
    }
    if text.contains(',') {
        argument.note(Weight::LeftOut, "no memory is plugged into a level");
    }
    true
}

/// A device that a scenario can ask for. `restricted` is the identifier of a network from which nothing gets out.
fn read_device(
    argument: Element<'_, '_>,
    text: &str,
    level: &mut LevelDraft,
    restricted: Option<&str>,
) -> bool {
    let mut words = text.split(',');
    let kind = words.next().unwrap_or_default();
    let Some((_, device)) = DEVICES.iter().find(|(name, _)| *name == kind) else { return false };
    let network = words.clone().find_map(|word| word.strip_prefix("netdev="));
    if *device == Device::VirtioNet && network == Some(SINK) {
        level.devices.insert(Device::VirtioNetSink);
        return true;
    }
    if *device == Device::VirtioNet && network.is_some() && network == restricted {
        level.network = Some(Network::Restricted);
        return true;
    }
    // The architecture has one of its kind.
    let usual = match (device, level.profile.viommu) {
        (Device::Viommu, Viommu::Device(name)) => Some(name),
        (Device::Viommu, Viommu::Property(_) | Viommu::Missing(_)) => return false,
        (Device::Watchdog, _) => Some(level.profile.watchdog),
        _ => None,
    };
    if let Some(usual) = usual.filter(|usual| *usual != kind) {
        argument.note(Weight::Approximated, format!("the level has {usual} instead"));
    }
    level.devices.insert(*device);
    // Names, backends and places do not change what the guest sees of the device.
    let is_plain = |word: &str| {
        ["id=", "netdev=", "romfile=", "drive=", "serial=", "bus=", "addr="]
            .iter()
            .any(|start| word.starts_with(start))
    };
    if !words.all(is_plain) {
        argument.note(Weight::Approximated, format!("the level's {device} has QEMU's defaults"));
    }
    true
}

/// `-global driver=x86_64-cpu,property=hv-relaxed,value=on`, which sets a property of every CPU.
fn read_global(argument: Element<'_, '_>, text: &str, level: &mut LevelDraft) -> bool {
    let words = ["driver=", "property=", "value="];
    let parts: Vec<&str> =
        text.splitn(3, ',').zip(words).filter_map(|(part, word)| part.strip_prefix(word)).collect();
    let [driver, property, value] = parts[..] else { return false };
    if driver.ends_with("-cpu") {
        keep(argument, level.set_cpu_property(property, value));
    }
    driver.ends_with("-cpu")
}

/// A user-mode network from which nothing gets out. A card on another network becomes one to which nothing is connected.
fn read_network(text: &str, level: &LevelDraft, restricted: &mut Option<String>) -> bool {
    let is_restricted = text.starts_with("user,") && text.split(',').any(|word| word == "restrict=on");
    let id = text.split(',').find_map(|word| word.strip_prefix("id="));
    if is_restricted && level.network.is_none() && id != Some(SINK) {
        *restricted = id.map(str::to_owned);
    }
    is_restricted
}
