//! Media of a machine that can be removed from it: CDs, and sticks on USB. Windows Setup looks for its answers on such media alone.

use super::boot::drive;
use super::{ImageFile, Placement};

/// A medium that can be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removable {
    /// Its contents, which are only read.
    pub file: ImageFile,
    /// What it is.
    pub kind: RemovableKind,
}

/// What a medium that can be removed is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovableKind {
    /// A CD on SATA.
    Cd,
    /// The same, from which the machine boots if its disk has no boot loader.
    BootCd,
    /// A stick on USB.
    Stick,
}

/// QEMU's options for these media, and for the controllers that they are connected to.
pub(super) fn options(
    media: &[Removable],
    placement: &dyn Placement,
    on_bus: &str,
) -> Vec<(&'static str, String)> {
    let is_stick = |medium: &&Removable| medium.kind == RemovableKind::Stick;
    let mut options = Vec::new();
    if !media.iter().all(|medium| is_stick(&medium)) {
        options.push(("device", format!("ich9-ahci,id=cds{on_bus}")));
    }
    if media.iter().any(|medium| is_stick(&medium)) {
        options.push(("device", format!("qemu-xhci,id=usb{on_bus}")));
    }
    let mut cds = 0;
    for Removable { file, kind } in media {
        let (serial, drive) = (&file.serial, drive(file, placement));
        let device = match kind {
            RemovableKind::Stick => {
                options.push(("drive", drive));
                format!("usb-storage,bus=usb.0,drive={serial},serial={serial},removable=on")
            }
            RemovableKind::Cd | RemovableKind::BootCd => {
                options.push(("drive", format!("{drive},media=cdrom")));
                let unit = cds;
                cds += 1;
                // The disk comes first: once a system is on it, the CD is not booted again.
                let order = if *kind == RemovableKind::BootCd { ",bootindex=2" } else { "" };
                format!("ide-cd,bus=cds.{unit},drive={serial}{order}")
            }
        };
        options.push(("device", device));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::here::Here;

    #[test]
    fn each_medium_is_on_the_controller_of_its_kind() {
        let medium =
            |kind, name: &str| Removable { file: ImageFile::read_only(name, format!("/{name}")), kind };
        let media = [
            medium(RemovableKind::BootCd, "cd0"),
            medium(RemovableKind::Cd, "cd1"),
            medium(RemovableKind::Stick, "stick0"),
        ];
        let given: Vec<String> = options(&media, &Here, ",bus=slots")
            .into_iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        assert_eq!(
            given,
            [
                "device ich9-ahci,id=cds,bus=slots",
                "device qemu-xhci,id=usb,bus=slots",
                "drive id=cd0,if=none,format=raw,readonly=on,file=/cd0,media=cdrom",
                "device ide-cd,bus=cds.0,drive=cd0,bootindex=2",
                "drive id=cd1,if=none,format=raw,readonly=on,file=/cd1,media=cdrom",
                "device ide-cd,bus=cds.1,drive=cd1",
                "drive id=stick0,if=none,format=raw,readonly=on,file=/stick0",
                "device usb-storage,bus=usb.0,drive=stick0,serial=stick0,removable=on",
            ]
        );
        assert!(options(&[], &Here, "").is_empty());
    }
}
