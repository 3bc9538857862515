//! `<devices>`: those that a scenario can ask for. All others are left out.

use nestmatrix_model::{Device, Network, TpmDevice, TpmVersion, Viommu};
use nestmatrix_vmm::libvirt::libvirt_tpm_model;

use super::finding::Weight;
use super::level::LevelDraft;
use super::survey::Element;

/// Reads the devices. With `has_network`, the level gets a network if the domain has an interface.
pub(super) fn read(domain: Element<'_, '_>, level: &mut LevelDraft, has_network: bool) {
    let Some(devices) = domain.child("devices") else { return };
    devices.children("iommu").into_iter().for_each(|iommu| read_iommu(iommu, level));
    devices.children("watchdog").into_iter().for_each(|watchdog| read_watchdog(watchdog, level));
    for rng in devices.children("rng") {
        add(
            rng,
            level,
            Device::VirtioRng,
            rng.attribute("model").is_none_or(|model| model.starts_with("virtio")),
        );
    }
    for balloon in devices.children("memballoon") {
        match balloon.attribute("model") {
            Some("none") => {}
            model => {
                add(
                    balloon,
                    level,
                    Device::VirtioBalloon,
                    model.is_none_or(|model| model.starts_with("virtio")),
                );
            }
        }
    }
    for interface in devices.children("interface") {
        read_interface(interface, level, has_network);
    }
    devices.children("tpm").into_iter().for_each(|tpm| read_tpm(tpm, level));
    for disk in devices.children("disk") {
        let bus = disk.child("target").and_then(|target| target.attribute("bus"));
        if bus == Some("nvme") && level.devices.insert(Device::Nvme) {
            disk.report(Weight::Approximated, "the level has an empty NVMe drive of 64 MiB");
        } else {
            let (weight, reason) = super::left_out::reason("devices/disk");
            disk.report(weight, reason);
        }
    }
}

/// Adds a device of which a level can have one.
fn add(element: Element<'_, '_>, level: &mut LevelDraft, device: Device, is_like: bool) {
    if !level.devices.insert(device) {
        return element.report(Weight::Approximated, format!("a level has only one device {device}"));
    }
    if !is_like {
        element.note(Weight::Approximated, format!("the level has the device {device}"));
    }
}

fn read_iommu(iommu: Element<'_, '_>, level: &mut LevelDraft) {
    let model = iommu.attribute("model").unwrap_or_default();
    let is_like = match level.profile.viommu {
        Viommu::Missing(_) => {
            return iommu.refuse("not expressed: QEMU has no such IOMMU for this architecture");
        }
        Viommu::Device(device) => device == format!("{model}-iommu"),
        Viommu::Property(value) => model == value,
    };
    add(iommu, level, Device::Viommu, is_like);
}

fn read_watchdog(watchdog: Element<'_, '_>, level: &mut LevelDraft) {
    let model = watchdog.attribute("model");
    // q35 has this one built in, and libvirt shows it.
    if model == Some("itco") {
        return watchdog.report(Weight::LeftOut, "every q35 machine has it");
    }
    let is_like = model == Some(level.profile.watchdog);
    add(watchdog, level, Device::Watchdog, is_like);
}

fn read_tpm(tpm: Element<'_, '_>, level: &mut LevelDraft) {
    let backend = tpm.child("backend");
    let backend = |name| backend.and_then(|backend| backend.attribute(name));
    let is_emulated =
        backend("type") == Some("emulator") && backend("version").is_none_or(|version| version == "2.0");
    match level.profile.tpm {
        TpmDevice::Device { name, .. } if is_emulated => {
            level.tpm = Some(TpmVersion::V2);
            if tpm.attribute("model") != Some(libvirt_tpm_model(name)) {
                tpm.note(Weight::Approximated, format!("the level has the device {name}"));
            }
        }
        TpmDevice::Device { .. } | TpmDevice::Missing(_) => {
            tpm.report(
                Weight::LeftOut,
                "a level can only have a TPM 2.0 that is emulated, where QEMU has one",
            );
        }
    }
}

fn read_interface(interface: Element<'_, '_>, level: &mut LevelDraft, has_network: bool) {
    if matches!(interface.attribute("type"), Some("hostdev" | "vdpa")) {
        return interface.report(Weight::ChangesMeaning, "no scenario key for devices of the host");
    }
    let model = interface.child("model").and_then(|model| model.attribute("type"));
    let is_virtio = model.is_some_and(|model| model.starts_with("virtio"));
    let is_first = level.network.is_none() && !level.devices.contains(&Device::VirtioNet);
    if is_first && has_network {
        level.network = Some(Network::Restricted);
        interface.report(
            Weight::Approximated,
            "the level has a virtio network card, and a network from which nothing gets out",
        );
    } else if is_first && is_virtio {
        level.devices.insert(Device::VirtioNet);
        interface.report(
            Weight::Approximated,
            "the level has a virtio network card to which nothing is connected; --network gives it a restricted network",
        );
    } else if is_first {
        interface.report(Weight::LeftOut, "a level has no network; --network gives it a restricted one");
    } else {
        interface.report(Weight::LeftOut, "a level has one network card");
    }
}
