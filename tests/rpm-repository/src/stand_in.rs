//! Small packages that stand for RHEL's packages that no image needs. They only satisfy dependencies.

use crate::Part::{self, AppStream, BaseOS};
use crate::blueprint::{Blueprint, Content, Version};

/// Name, place, version, and what it provides.
const STAND_INS: &[(&str, Part, &str, &[&str])] = &[
    ("bash", BaseOS, "5.1.8", &["/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash"]),
    ("coreutils", BaseOS, "8.32", &[]),
    ("dracut", BaseOS, "057", &[]),
    ("edk2-ovmf", AppStream, "20231122", &[]),
    ("glibc-common", BaseOS, "2.34", &["/usr/bin/getent"]),
    ("ipxe-roms-qemu", AppStream, "20200823", &[]),
    ("linux-firmware", BaseOS, "20240716", &[]),
    ("shadow-utils", BaseOS, "4.9", &["/usr/sbin/useradd", "/usr/sbin/groupadd"]),
    ("systemd", BaseOS, "252", &[]),
    ("systemd-udev", BaseOS, "252", &["/usr/bin/kernel-install"]),
];

/// Dependencies of these packages on each other.
const REQUIRES: &[(&str, &[&str])] = &[
    ("dracut", &["bash >= 4", "coreutils", "systemd >= 219", "systemd-udev >= 219"]),
    ("systemd", &["shadow-utils", "/bin/sh"]),
    ("systemd-udev", &["systemd"]),
];

/// QEMU's tools for images of disks, which no level needs. Their version is that of QEMU.
pub(crate) const QEMU_IMG: &str = "qemu-img";

/// The names of all these packages.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    STAND_INS.iter().map(|(name, ..)| *name).chain([QEMU_IMG])
}

/// All but [`QEMU_IMG`].
pub(crate) fn blueprints() -> Vec<Blueprint> {
    let blueprint = |(name, part, version, provides): &(&str, Part, &str, &[&str])| {
        let mut blueprint = Blueprint::new(name, Version::of_debian(version), *part);
        blueprint.noarch = true;
        blueprint.provides = provides.iter().map(|provided| (*provided).to_owned()).collect();
        let requires = REQUIRES.iter().filter(|(of, _)| of == name).flat_map(|(_, requires)| *requires);
        blueprint.requires = requires.map(|required| (*required).to_owned()).collect();
        blueprint.files.extend(stand_in_file(name));
        blueprint
    };
    STAND_INS.iter().map(blueprint).collect()
}

/// The only file of a package that stands for a real one.
pub(crate) fn stand_in_file(name: &str) -> [(String, Content); 1] {
    let data = format!("This package stands for RHEL's package {name} in tests.\n").into_bytes();
    [(format!("/usr/share/doc/{name}/README"), Content::File { data, executable: false })]
}
