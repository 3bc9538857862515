//! The machine: its type, its firmware, and what keeps its time.

use nestmatrix_model::{Accelerator, Firmware, Isa};

use super::cpu::keep;
use super::finding::Weight;
use super::level::{LevelDraft, NOT_A_WORD};
use super::survey::{Element, shown};
use crate::scenario::qemu_name;

/// How the names of QEMU's own versioned machine types begin, and the name without a version.
const VERSIONED: [(&str, &str); 6] = [
    ("pc-q35-", "q35"),
    ("pc-i440fx-", "pc"),
    ("pseries-", "pseries"),
    ("virt-", "virt"),
    ("s390-ccw-virtio-", "s390-ccw-virtio"),
    ("microvm-", "microvm"),
];

/// The newest machine type of the usual systems, by major and minor version. Their QEMU has those of about five years before, too.
const NEWEST: (u32, u32) = (10, 0);
const OLDEST: (u32, u32) = (2, 4);

pub(super) fn read_kind(domain: Element<'_, '_>, level: &mut LevelDraft) {
    match domain.attribute("type") {
        None | Some("kvm") => {}
        Some("qemu") => {
            level.accelerator = Accelerator::Tcg;
            domain.note(
                Weight::Approximated,
                "type=qemu: the level runs on QEMU's TCG, without KVM, and so it can't show nesting",
            );
        }
        Some(other) => {
            domain.note(Weight::ChangesMeaning, format!("type={}: the level runs on KVM", shown(other)))
        }
    }
}

pub(super) fn read_os(domain: Element<'_, '_>, level: &mut LevelDraft) {
    let Some(os) = domain.child("os") else { return };
    if let Some(os_type) = os.child("type") {
        os_type.attribute("arch");
        if os_type.text() != "hvm" {
            os_type.note(Weight::ChangesMeaning, "the level is a full virtual machine (hvm)");
        }
        if let Some(machine) = os_type.attribute("machine") {
            read_machine_type(os_type, machine, level);
        }
    }
    if let Some(parameters) = os.child("cmdline") {
        parameters.text();
        parameters.report(
            Weight::ChangesMeaning,
            "not expressed: they are for the reporter's kernel; copy those that matter to kernel-parameters",
        );
    }
    read_firmware(os, level);
}

/// Takes a machine type, from `<type>` or from `-machine`.
pub(super) fn read_machine_type(element: Element<'_, '_>, machine: &str, level: &mut LevelDraft) {
    // Proxmox names its own changes of a machine so: `pc-q35-9.2+pve0`. No other QEMU knows that.
    let (machine, changes) = machine.split_once('+').map_or((machine, None), |(own, by)| (own, Some(by)));
    let Ok(name) = qemu_name("a machine type", machine) else {
        return element.refuse(NOT_A_WORD);
    };
    if let Some(changes) = changes {
        element.note(
            Weight::Approximated,
            format!("+{} is a vendor's own change of {name}, which the level does not have", shown(changes)),
        );
    }
    let Some((start, plain)) = VERSIONED.iter().find(|(start, _)| name.starts_with(start)) else {
        level.machine_type = Some(name);
        return;
    };
    let version = version_of(&name[start.len()..]);
    if version.is_some_and(|version| (OLDEST..=NEWEST).contains(&version)) {
        level.machine_type = Some(name);
        return;
    }
    let why = match version {
        Some(_) => "QEMU of the usual systems does not have this version",
        None => "it is a distribution's own version",
    };
    element.note(Weight::Approximated, format!("{why}; the level has its QEMU's newest {plain}"));
    level.machine_type = Some((*plain).to_owned());
}

/// A version of QEMU's: two or three numbers.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let numbers: Option<Vec<u32>> = text.split('.').map(|number| number.parse().ok()).collect();
    match numbers?.as_slice() {
        [major, minor] | [major, minor, _] => Some((*major, *minor)),
        _ => None,
    }
}

/// The firmware. libvirt chooses it (`firmware='efi'`), or the file's name says what it is.
fn read_firmware(os: Element<'_, '_>, level: &mut LevelDraft) {
    let chosen = os.attribute("firmware");
    let loader = os.child("loader");
    let (path, is_flash, is_secure) = loader.map_or((String::new(), false, false), |loader| {
        (loader.text(), loader.has("type", "pflash"), loader.has("secure", "yes"))
    });
    let wants_secure_boot = os.child("firmware").is_some_and(|firmware| {
        let features = firmware.children("feature");
        features.into_iter().fold(false, |wanted, feature| {
            // Both are taken, whatever the first is.
            let (is_on, name) = (feature.has("enabled", "yes"), feature.attribute("name"));
            wanted | (is_on && matches!(name, Some("secure-boot" | "enrolled-keys")))
        })
    });
    let is_uefi =
        chosen == Some("efi") || is_flash || ["OVMF", "AAVMF", "edk2"].iter().any(|name| path.contains(name));
    match (chosen, is_uefi) {
        (None, false) if path.is_empty() => {}
        (_, true) => {
            // UEFI is the usual firmware of Arm's machine, but QEMU loads the kernel of an image without it.
            level.firmware = Some(Firmware::Uefi);
            // A level that boots a kernel made of packages can't have it: only signed boot loaders start.
            if is_secure || wants_secure_boot {
                let place = loader.unwrap_or(os);
                place.note(
                    Weight::ChangesMeaning,
                    "the level has UEFI without secure boot, which would start only a signed boot loader; for a system on a disk \
                     (docs/media.md), write firmware = \"uefi-secure-boot\"",
                );
            }
        }
        (Some("bios"), false) => level.firmware = Some(Firmware::Default),
        (..) => loader.unwrap_or(os).note(
            Weight::Approximated,
            "not expressed: the level has the firmware that QEMU loads by itself",
        ),
    }
    if let Some(loader) = loader.filter(|_| is_uefi && !path.is_empty()) {
        loader.note(Weight::LeftOut, "the level has the UEFI of the usual system, not this file");
    }
}

pub(super) fn read_clock(domain: Element<'_, '_>, level: &mut LevelDraft) {
    let Some(clock) = domain.child("clock") else { return };
    for timer in clock.children("timer") {
        read_timer(timer, level);
    }
}

/// libvirt's timers, as QEMU has them (libvirt, src/qemu/qemu_command.c).
fn read_timer(timer: Element<'_, '_>, level: &mut LevelDraft) {
    let present = timer.attribute("present");
    let switch = match present {
        Some("yes") => Some("on"),
        Some("no") => Some("off"),
        _ => None,
    };
    match (timer.attribute("name"), switch) {
        (Some("hypervclock"), Some(switch)) => keep(timer, level.set_cpu_property("hv-time", switch)),
        (Some("kvmclock"), Some(switch)) => keep(timer, level.set_cpu_property("kvmclock", switch)),
        // It is there by default.
        (Some("hpet"), Some("on")) if level.profile.isa == Isa::Amd64 => {}
        (Some("hpet"), Some(switch)) => keep(timer, level.set_machine_property("hpet", switch)),
        (Some("tsc"), _) => match timer.attribute("frequency") {
            Some(frequency) => keep(timer, level.set_cpu_property("tsc-frequency", frequency)),
            None => timer
                .report(Weight::Approximated, "no scenario key for how the time stamp counter is emulated"),
        },
        (Some("rtc" | "pit"), _) => {
            timer.report(Weight::LeftOut, "no scenario key for how ticks are caught up");
        }
        _ => timer.report(Weight::Approximated, "no scenario key for this timer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_machine_types_have_two_or_three_numbers() {
        assert_eq!(version_of("6.2"), Some((6, 2)));
        assert_eq!(version_of("4.0.1"), Some((4, 0)));
        assert_eq!(version_of("rhel9.4.0"), None);
        assert_eq!(version_of("noble"), None);
        assert_eq!(version_of(""), None);
    }
}
