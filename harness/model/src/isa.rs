//! Instruction sets: their names in Debian, in the kernel and in Rust, and how their programs and kernels are recognized.
//!
//! An [`Architecture`](crate::Architecture) is more than that: AMD and Intel machines run the same instructions and nest
//! differently. Images are built for an instruction set.

use crate::word::Word;
use crate::word_traits;

/// An instruction set. It is written by Debian's name: `amd64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
    /// 64-bit little-endian POWER.
    Ppc64el,
    /// 64-bit IBM Z.
    S390x,
}

/// What differs between instruction sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IsaInfo {
    /// Debian's name, as in `APT::Architecture` and in the names of package files.
    pub debian: &'static str,
    /// The multiarch tuple: the folder under `usr/lib` in which the dynamic loader looks first
    /// (`dpkg-architecture -qDEB_HOST_MULTIARCH`).
    pub multiarch: &'static str,
    /// The kernel's names for it (`uname -m`), the usual one first. libvirt has the same ones.
    pub machines: &'static [&'static str],
    /// QEMU's type of all of its CPUs, without `-cpu`.
    pub qemu_cpu: &'static str,
    /// Features that some of QEMU's CPU models do not have and every kernel for it needs, with QEMU's names.
    pub kernel_needs: &'static [&'static str],
    /// What QEMU's machines have by default, and libvirt switches off unless it is asked for.
    pub libvirt_features: LibvirtFeatures,
    /// Whether devices of QEMU's machines are on a PCI bus.
    pub has_pci: bool,
    /// Rust's name for it (`std::env::consts::ARCH`).
    pub rust: &'static str,
    /// `e_machine` of its ELF files: the two bytes as they are in the file.
    pub elf_machine: [u8; 2],
    /// The format of its kernels; none if they are ELF files only.
    pub kernel_image: Option<KernelImage>,
}

/// Elements of libvirt's `<features>` without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LibvirtFeatures {
    /// Of a machine with its default firmware.
    pub of_default_firmware: &'static [&'static str],
    /// Of a machine with UEFI.
    pub of_uefi: &'static [&'static str],
}

/// The format of a kernel that is no ELF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelImage {
    /// Where its magic number is.
    pub magic_at: usize,
    /// Its magic number.
    pub magic: &'static [u8],
    /// Where it says its release.
    pub release: ReleaseAt,
}

/// Where a kernel's file says its release (`uname -r`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseAt {
    /// Only in the text `Linux version ...` among its data.
    Banner,
    /// At the address in the 16-bit little-endian field at `field`, which counts from `base`.
    Le16 {
        /// Where the field is.
        field: usize,
        /// What the address counts from.
        base: usize,
    },
    /// At the address in the 64-bit big-endian field at `field`.
    Be64 {
        /// Where the field is.
        field: usize,
    },
}

impl Isa {
    /// What differs between it and the others.
    pub const fn info(self) -> &'static IsaInfo {
        match self {
            Self::Amd64 => &IsaInfo {
                debian: "amd64",
                multiarch: "x86_64-linux-gnu",
                machines: &["x86_64"],
                qemu_cpu: "x86_64",
                // 64-bit mode. A 32-bit model prints nothing that reaches the serial port, and halts.
                kernel_needs: &["lm"],
                libvirt_features: LibvirtFeatures {
                    of_default_firmware: &["acpi", "apic"],
                    of_uefi: &["acpi", "apic"],
                },
                has_pci: true,
                rust: "x86_64",
                elf_machine: [62, 0],
                // Linux, Documentation/arch/x86/boot.rst.
                kernel_image: Some(KernelImage {
                    magic_at: 0x202,
                    magic: b"HdrS",
                    release: ReleaseAt::Le16 { field: 0x20e, base: 0x200 },
                }),
            },
            Self::Arm64 => &IsaInfo {
                debian: "arm64",
                multiarch: "aarch64-linux-gnu",
                machines: &["aarch64"],
                qemu_cpu: "arm",
                kernel_needs: &[],
                // ACPI requires UEFI there (libvirt: qemuDomainDefValidateFeatures).
                libvirt_features: LibvirtFeatures { of_default_firmware: &[], of_uefi: &["acpi"] },
                has_pci: true,
                rust: "aarch64",
                elf_machine: [183, 0],
                // Linux, Documentation/arch/arm64/booting.rst.
                kernel_image: Some(KernelImage {
                    magic_at: 0x38,
                    magic: b"ARM\x64",
                    release: ReleaseAt::Banner,
                }),
            },
            Self::Ppc64el => &IsaInfo {
                debian: "ppc64el",
                multiarch: "powerpc64le-linux-gnu",
                machines: &["ppc64le", "ppc64"],
                qemu_cpu: "powerpc64",
                kernel_needs: &[],
                libvirt_features: LibvirtFeatures { of_default_firmware: &[], of_uefi: &[] },
                has_pci: true,
                rust: "powerpc64",
                elf_machine: [21, 0],
                kernel_image: None,
            },
            Self::S390x => &IsaInfo {
                debian: "s390x",
                multiarch: "s390x-linux-gnu",
                machines: &["s390x"],
                qemu_cpu: "s390x",
                kernel_needs: &[],
                libvirt_features: LibvirtFeatures { of_default_firmware: &[], of_uefi: &[] },
                has_pci: false,
                rust: "s390x",
                elf_machine: [0, 22],
                // Linux, arch/s390/include/uapi/asm/setup.h and arch/s390/boot/head.S.
                kernel_image: Some(KernelImage {
                    magic_at: 0x10008,
                    magic: b"S390EP",
                    release: ReleaseAt::Be64 { field: 0x10428 },
                }),
            },
        }
    }

    /// The one that this program was built for, and so that of this machine. None if it is not in the table.
    pub fn of_this_machine() -> Option<Self> {
        Self::ALL.iter().copied().find(|isa| isa.info().rust == std::env::consts::ARCH)
    }

    /// The one that a kernel calls by this name (`uname -m`).
    pub fn of_machine(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|isa| isa.info().machines.contains(&name))
    }

    /// The one whose ELF files have these two bytes as `e_machine`.
    pub fn of_elf_machine(bytes: [u8; 2]) -> Option<Self> {
        Self::ALL.iter().copied().find(|isa| isa.info().elf_machine == bytes)
    }
}

impl Word for Isa {
    const WHAT: &'static str = "instruction set";
    const ALL: &'static [Self] = &[Self::Amd64, Self::Arm64, Self::Ppc64el, Self::S390x];

    fn word(self) -> &'static str {
        self.info().debian
    }
}
word_traits!(Isa);
