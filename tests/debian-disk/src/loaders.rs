//! What starts a system differs between instruction sets: kernel, boot loaders and console.

use crate::Error;
use nestmatrix_model::Isa;

/// The kernel and the boot loaders of an instruction set.
#[derive(Debug)]
pub(crate) struct Loaders {
    pub(crate) isa: Isa,
    /// The packages that have them.
    pub(crate) packages: &'static [&'static str],
    /// Runs after the packages are installed, with the folder of the system as `$1`.
    pub(crate) afterwards: Option<&'static str>,
    /// What GRUB's menu is shown on. Without such commands, it is the firmware's console.
    pub(crate) terminal: &'static str,
    /// The kernel's parameters: its consoles, and how much it prints there.
    pub(crate) parameters: &'static str,
    /// Whether there is a BIOS that starts it, too.
    pub(crate) bios: bool,
    /// What UEFI starts: where the signed shim and the signed GRUB are in the system, and their names in `EFI/BOOT`. Shim looks for
    /// GRUB by its name.
    pub(crate) uefi: [(&'static str, &'static str); 2],
}

const AMD64: Loaders = Loaders {
    isa: Isa::Amd64,
    packages: &[
        "grub-common",
        "grub-efi-amd64-signed",
        "grub-pc-bin",
        "grub2-common",
        "linux-image-cloud-amd64",
        "shim-signed",
    ],
    // grub-install would need the disk's device, so the image for BIOS is made with grub-mkimage.
    afterwards: Some(
        r#"set -e
mkdir -p "$1/boot/grub/i386-pc"
printf '%s\n' 'search --no-floppy --label root --set=root' 'set prefix=($root)/boot/grub' > "$1/early.cfg"
chroot "$1" grub-mkimage --format=i386-pc --output=/boot/grub/i386-pc/core.img --prefix=/boot/grub --config=/early.cfg \
    biosdisk configfile echo ext2 linux minicmd normal part_gpt search search_label serial terminal test
rm -f "$1/early.cfg"
"#,
    ),
    terminal: "\
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
",
    parameters: "console=tty0 console=ttyS0,115200",
    bios: true,
    uefi: [
        ("usr/lib/shim/shimx64.efi.signed", "BOOTX64.EFI"),
        ("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "grubx64.efi"),
    ],
};

const ARM64: Loaders = Loaders {
    isa: Isa::Arm64,
    packages: &[
        "grub-common",
        "grub-efi-arm64-signed",
        "grub2-common",
        "linux-image-cloud-arm64",
        "shim-signed",
    ],
    afterwards: None,
    terminal: "",
    // On emulated Arm, each character that L2 prints takes 10 ms. RHEL's installer sets `quiet`, too.
    parameters: "console=tty0 console=ttyAMA0,115200 quiet",
    bios: false,
    uefi: [
        ("usr/lib/shim/shimaa64.efi.signed", "BOOTAA64.EFI"),
        ("usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed", "grubaa64.efi"),
    ],
};

/// Those of an instruction set; [`Error::Unavailable`] if no disks are made for it.
pub(crate) fn of(isa: Isa) -> Result<&'static Loaders, Error> {
    let none =
        || Error::Unavailable(format!("disks are made for {} and {}, not for {isa}", AMD64.isa, ARM64.isa));
    [&AMD64, &ARM64].into_iter().find(|loaders| loaders.isa == isa).ok_or_else(none)
}
