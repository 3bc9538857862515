//! What no key of a scenario expresses: each part of a domain with its weight and its reason.

use super::finding::Weight;
use Weight::{Approximated, ChangesMeaning, LeftOut};

/// For what is not in the table, because libvirt got it later, or because it is misspelled.
pub(super) const UNKNOWN: &str = "nestmatrix does not know it";

const DISPLAY: &str = "a level has a serial console and no display";
const GROUPING: &str = "it places the process on its host, and a level has its host for itself";
const NAMES: &str = "a level has its name from its cell";
const REASON_OF_DEVICE: &str = "no scenario key for it; it is not part of nesting";
const LIFE_CYCLE: &str = "the harness decides what happens after a stop";
const BOOT_ORDER: &str = "a level boots the image of its system";
const XEN: &str = "it is about Xen";
const ADDRESS: &str = "QEMU places devices itself";
const CHANNELS: &str = "a level has the harness's own channels";
const PROTECTION: &str = "no scenario key for it; a protected guest's memory and exits differ";
const BACKEND: &str = "it is about the process on its host";
const BLOCK: &str = "no scenario key for it; it limits the process on its host";
const NODES: &str = "no scenario key for NUMA nodes; the level has one";
const CLOCK: &str = "the harness sets the clock";

/// Paths below `<domain>`. `@` begins the name of an attribute.
const TABLE: &[(&str, Weight, &str)] = &[
    ("@id", LeftOut, NAMES),
    ("name", LeftOut, NAMES),
    ("uuid", LeftOut, NAMES),
    ("hwuuid", LeftOut, NAMES),
    ("genid", LeftOut, NAMES),
    ("title", LeftOut, NAMES),
    ("description", LeftOut, NAMES),
    ("metadata", LeftOut, "data of a management program"),
    ("resource", LeftOut, GROUPING),
    ("on_poweroff", LeftOut, LIFE_CYCLE),
    ("on_reboot", LeftOut, LIFE_CYCLE),
    ("on_crash", LeftOut, LIFE_CYCLE),
    ("on_lockfailure", LeftOut, LIFE_CYCLE),
    ("pm", LeftOut, "a level does not sleep"),
    ("perf", LeftOut, "it counts events of the process on its host"),
    ("seclabel", LeftOut, BACKEND),
    ("idmap", LeftOut, BACKEND),
    ("iothreads", LeftOut, "no scenario key for threads of disks"),
    ("iothreadids", LeftOut, "no scenario key for threads of disks"),
    ("defaultiothread", LeftOut, "no scenario key for threads of disks"),
    ("throttlegroups", LeftOut, BLOCK),
    ("cputune", LeftOut, GROUPING),
    ("numatune", LeftOut, GROUPING),
    ("memtune", LeftOut, BLOCK),
    ("blkiotune", LeftOut, BLOCK),
    ("maxMemory", LeftOut, "no memory is plugged into a level"),
    ("vcpus", Approximated, "the level starts with the first CPUs of <vcpu>"),
    ("keywrap", LeftOut, "no scenario key for keys of a crypto processor"),
    ("launchSecurity", ChangesMeaning, PROTECTION),
    ("sysinfo", LeftOut, "no scenario key for strings of SMBIOS"),
    ("bootloader", LeftOut, BOOT_ORDER),
    ("bootloader_args", LeftOut, BOOT_ORDER),
    ("memoryBacking/nosharepages", LeftOut, BACKEND),
    ("memoryBacking/locked", LeftOut, BACKEND),
    ("memoryBacking/source", LeftOut, BACKEND),
    ("memoryBacking/access", LeftOut, BACKEND),
    ("memoryBacking/allocation", LeftOut, BACKEND),
    ("memoryBacking/discard", LeftOut, BACKEND),
    ("memory/@dumpCore", LeftOut, BACKEND),
    ("vcpu/@placement", LeftOut, GROUPING),
    ("vcpu/@cpuset", LeftOut, GROUPING),
    ("os/boot", LeftOut, BOOT_ORDER),
    ("os/bootmenu", LeftOut, BOOT_ORDER),
    ("os/bios", LeftOut, BOOT_ORDER),
    ("os/smbios", LeftOut, "no scenario key for strings of SMBIOS"),
    ("os/acpi", ChangesMeaning, "no scenario key for ACPI tables"),
    ("os/kernel", LeftOut, "a level boots the kernel of its system"),
    ("os/init", LeftOut, "it is about containers"),
    ("os/initarg", LeftOut, "it is about containers"),
    ("os/initrd", LeftOut, "a level boots the initramfs of its system"),
    ("os/shim", LeftOut, "a level boots the kernel of its system"),
    ("os/dtb", ChangesMeaning, "no scenario key for a device tree"),
    ("os/loader/@readonly", LeftOut, "the harness has its own firmware"),
    ("os/loader/@stateless", LeftOut, "the harness has its own firmware"),
    ("os/loader/@format", LeftOut, "the harness has its own firmware"),
    ("os/nvram", LeftOut, "a level starts with the variables that its firmware comes with"),
    ("os/varstore", LeftOut, "a level starts with the variables that its firmware comes with"),
    ("cpu/@check", LeftOut, "the harness itself asks QEMU for the features that the CPU has"),
    (
        "cpu/@deprecated_features",
        ChangesMeaning,
        "no scenario key for it; disable the features by their names",
    ),
    ("cpu/model/@fallback", LeftOut, "QEMU refuses a model that it does not have"),
    ("cpu/numa", ChangesMeaning, NODES),
    ("clock/@offset", LeftOut, CLOCK),
    ("clock/@adjustment", LeftOut, CLOCK),
    ("clock/@basis", LeftOut, CLOCK),
    ("clock/@timezone", LeftOut, CLOCK),
    ("clock/@start", LeftOut, CLOCK),
    ("features/hap", LeftOut, XEN),
    ("features/viridian", LeftOut, XEN),
    ("features/privnet", LeftOut, XEN),
    ("features/xen", LeftOut, XEN),
    ("features/capabilities", LeftOut, "it is about containers"),
    ("features/vmcoreinfo", LeftOut, REASON_OF_DEVICE),
    ("features/async-teardown", LeftOut, BACKEND),
    ("features/ras", LeftOut, "no scenario key for it"),
    (
        "features/smm/tseg",
        Approximated,
        "no scenario key for the size of the memory of the system management mode",
    ),
    ("features/ps2", LeftOut, REASON_OF_DEVICE),
    ("features/kvm/dirty-ring", ChangesMeaning, "no scenario key for how KVM logs writes"),
    ("features/tcg", LeftOut, "it is about an emulator"),
    (
        "features/msrs",
        ChangesMeaning,
        "it is a parameter of KVM on the host: add kernel-parameters = [\"kvm.ignore_msrs=1\"] to the level around",
    ),
    ("devices/emulator", LeftOut, "a level has the QEMU of the level around"),
    ("devices/disk", LeftOut, "a level boots the image of its system, and has no other disk"),
    ("devices/controller", LeftOut, "a level has the controllers that its devices need"),
    ("devices/filesystem", LeftOut, "no scenario key for shared folders"),
    ("devices/lease", LeftOut, BACKEND),
    ("devices/serial", LeftOut, CHANNELS),
    ("devices/console", LeftOut, CHANNELS),
    ("devices/parallel", LeftOut, CHANNELS),
    ("devices/channel", LeftOut, CHANNELS),
    ("devices/input", LeftOut, DISPLAY),
    ("devices/graphics", LeftOut, DISPLAY),
    ("devices/video", LeftOut, DISPLAY),
    ("devices/sound", LeftOut, REASON_OF_DEVICE),
    ("devices/audio", LeftOut, REASON_OF_DEVICE),
    ("devices/hub", LeftOut, REASON_OF_DEVICE),
    ("devices/redirdev", LeftOut, REASON_OF_DEVICE),
    ("devices/redirfilter", LeftOut, REASON_OF_DEVICE),
    ("devices/smartcard", LeftOut, REASON_OF_DEVICE),
    ("devices/panic", LeftOut, REASON_OF_DEVICE),
    ("devices/pstore", LeftOut, REASON_OF_DEVICE),
    ("devices/crypto", LeftOut, REASON_OF_DEVICE),
    ("devices/vsock", LeftOut, REASON_OF_DEVICE),
    ("devices/shmem", LeftOut, REASON_OF_DEVICE),
    ("devices/nvram", LeftOut, REASON_OF_DEVICE),
    ("devices/memory", ChangesMeaning, "no scenario key for memory modules; add their size to memory-mib"),
    ("devices/hostdev", ChangesMeaning, "no scenario key for devices of the host"),
    ("devices/mdev", ChangesMeaning, "no scenario key for devices of the host"),
    ("devices/iommu/driver", Approximated, "the level's IOMMU has QEMU's defaults"),
    ("devices/watchdog/@action", LeftOut, LIFE_CYCLE),
    ("devices/memballoon/@autodeflate", LeftOut, BACKEND),
    ("devices/memballoon/@freePageReporting", Approximated, "the level's balloon has QEMU's defaults"),
    ("devices/memballoon/stats", LeftOut, BACKEND),
    ("devices/memballoon/driver", LeftOut, "the level's balloon has QEMU's defaults"),
    ("devices/rng/rate", LeftOut, "the level's source of random numbers has QEMU's defaults"),
    ("devices/rng/backend", LeftOut, "the level's source of random numbers has QEMU's defaults"),
    ("devices/rng/driver", LeftOut, "the level's source of random numbers has QEMU's defaults"),
    ("qemu:capabilities", LeftOut, "libvirt itself reads it"),
    ("qemu:deprecation", LeftOut, "libvirt itself reads it"),
    ("qemu:override", ChangesMeaning, "no scenario key for properties of devices"),
];

/// The weight of an element or attribute that the import does not use, and why it does not.
pub(super) fn reason(path: &str) -> (Weight, &'static str) {
    let found = TABLE.iter().find(|(known, ..)| *known == path);
    // Each device has them, and QEMU and libvirt choose them.
    let of_any_device =
        path.starts_with("devices/").then_some(path).and_then(|path| match path.rsplit('/').next() {
            Some("alias" | "address" | "acpi") => Some((LeftOut, ADDRESS)),
            _ => None,
        });
    found.map(|(_, weight, reason)| (*weight, *reason)).or(of_any_device).unwrap_or((ChangesMeaning, UNKNOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_table_does_not_have_may_matter() {
        assert_eq!(reason("devices/input").0, LeftOut);
        assert_eq!(reason("devices/watchdog/address").0, LeftOut);
        assert_eq!(reason("cpu/@chekc"), (ChangesMeaning, UNKNOWN));
    }

    #[test]
    fn no_path_is_listed_twice() {
        let mut paths: Vec<_> = TABLE.iter().map(|(path, ..)| path).collect();
        paths.sort();
        assert!(paths.is_sorted_by(|one, other| one < other), "{paths:?}");
    }
}
