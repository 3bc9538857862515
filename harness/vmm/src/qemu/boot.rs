//! What a machine boots: a kernel that QEMU loads, or what its firmware finds on a disk.

use std::ops::Range;
use std::path::PathBuf;

use nestmatrix_model::DiskBus;

use super::Placement;

/// An option of QEMU's command line, without its dash, and its value.
type CommandOption = (&'static str, String);

/// A file on this machine that a level needs. The levels outside that one get it as a disk, or as part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// Serial number of its disk, which levels look for; at most 20 characters (virtio 1.2, 5.2.6).
    pub serial: String,
    /// Its path on this machine.
    pub path: PathBuf,
    /// The part of a disk that it is, if it has no disk of its own.
    pub part: Option<Part>,
    /// Its format on this machine. Inside levels it is a block device.
    pub format: DiskFormat,
    /// What becomes of what levels write to it.
    pub writes: Writes,
}

/// What becomes of what a machine writes to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// It can't write.
    Refused,
    /// The file gets it.
    Kept,
    /// It is gone when QEMU ends.
    Discarded,
}

impl Writes {
    /// The options of `-drive`.
    fn as_qemu(self) -> &'static str {
        match self {
            Self::Refused => "readonly=on",
            Self::Kept => "readonly=off",
            Self::Discarded => "readonly=off,snapshot=on",
        }
    }
}

impl ImageFile {
    /// A raw file that machines only read.
    pub fn read_only(serial: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            serial: serial.into(),
            path: path.into(),
            part: None,
            format: DiskFormat::Raw,
            writes: Writes::Refused,
        }
    }

    /// A raw file that is written to.
    pub fn writable(serial: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { writes: Writes::Kept, ..Self::read_only(serial, path) }
    }
}

/// The format of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// Its bytes, one after the other.
    Raw,
    /// QEMU's own format.
    Qcow2,
    /// Virtual PC's and Hyper-V's (VHD).
    Vpc,
}

impl DiskFormat {
    /// QEMU's name for it.
    pub fn as_qemu(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vpc => "vpc",
        }
    }
}

/// Part of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The disk's serial number.
    pub disk: String,
    /// Its place on the disk, in bytes.
    pub bytes: Range<u64>,
}

/// What a level boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// A kernel that QEMU loads.
    Kernel(KernelBoot),
    /// What the firmware finds on a disk.
    Disk(DiskBoot),
    /// What a Windows level starts from a volume. No QEMU runs it.
    Volume(VolumeBoot),
}

impl Boot {
    /// The kernel that QEMU loads, if it does.
    pub fn kernel(&self) -> Option<&KernelBoot> {
        match self {
            Self::Kernel(kernel) => Some(kernel),
            Self::Disk(_) | Self::Volume(_) => None,
        }
    }

    /// The kernel's parameters, if they are known.
    pub fn parameters(&self) -> Option<&str> {
        match self {
            Self::Kernel(kernel) => Some(&kernel.parameters),
            Self::Disk(disk) => disk.parameters.as_deref(),
            Self::Volume(volume) => Some(&volume.parameters),
        }
    }

    /// The files that QEMU reads as files, not as disks.
    pub fn files(&self) -> Vec<&ImageFile> {
        self.kernel().map_or(Vec::new(), |boot| vec![&boot.kernel, &boot.initramfs])
    }

    /// QEMU's options for it, without those of devices.
    pub(crate) fn options(&self, placement: &dyn Placement) -> Vec<CommandOption> {
        match self {
            Self::Kernel(KernelBoot { kernel, initramfs, parameters }) => vec![
                ("kernel", placement.file(kernel)),
                ("initrd", placement.file(initramfs)),
                ("append", parameters.clone()),
            ],
            Self::Disk(DiskBoot { uuid, .. }) => {
                uuid.iter().map(|digits| ("uuid", with_dashes(digits))).collect()
            }
            Self::Volume(_) => Vec::new(),
        }
    }
}

/// A kernel that QEMU loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelBoot {
    /// Kernel.
    pub kernel: ImageFile,
    /// Initramfs.
    pub initramfs: ImageFile,
    /// Kernel command line.
    pub parameters: String,
}

/// The disk from which a machine boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskBoot {
    /// The disk.
    pub disk: ImageFile,
    /// What it is connected to.
    pub bus: DiskBus,
    /// The machine's identifier (UUID), 32 hexadecimal digits, if it is set. Its system reads it from the firmware's tables.
    pub uuid: Option<String>,
    /// The parameters of the kernel on it, if the harness chose them.
    pub parameters: Option<String>,
}

impl DiskBoot {
    /// The options for the disk and its controller.
    pub(crate) fn devices(&self, placement: &dyn Placement, on_bus: &str) -> Vec<CommandOption> {
        let on = format!("drive={0},serial={0},bootindex=1", self.disk.serial);
        let devices = match self.bus {
            DiskBus::Virtio => vec![format!("virtio-blk-pci,{on}{on_bus}")],
            DiskBus::Scsi => {
                vec![format!("virtio-scsi-pci,id=scsi{on_bus}"), format!("scsi-hd,bus=scsi.0,{on}")]
            }
            DiskBus::Sata => vec![format!("ich9-ahci,id=sata{on_bus}"), format!("ide-hd,bus=sata.0,{on}")],
            DiskBus::Nvme => vec![format!("nvme,{on}{on_bus}")],
        };
        let devices = devices.into_iter().map(|device| ("device", device));
        std::iter::once(("drive", drive(&self.disk, placement))).chain(devices).collect()
    }
}

/// The volume from which a Windows level starts its guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeBoot {
    /// The volume, which is a disk of the machine of that level.
    pub volume: ImageFile,
    /// Kernel command line of the guest.
    pub parameters: String,
}

/// The UEFI firmware of a machine, as two flash memories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uefi {
    /// The program.
    pub code: ImageFile,
    /// Its variables, which it writes to.
    pub variables: ImageFile,
    /// Whether its variables are only written in the system management mode of x86, as secure boot needs it.
    pub protects_variables: bool,
}

impl Uefi {
    /// QEMU's options for it.
    pub(crate) fn options(&self, placement: &dyn Placement) -> Vec<CommandOption> {
        let flash = |(unit, flash): (usize, &ImageFile)| {
            let (file, format) = (placement.disk(flash).replace(',', ",,"), placement.format(flash));
            let (format, writes) = (format.as_qemu(), flash.writes.as_qemu());
            ("drive", format!("if=pflash,unit={unit},format={format},{writes},file={file}"))
        };
        let protect = ("global", "driver=cfi.pflash01,property=secure,value=on".to_owned());
        let flashes = [&self.code, &self.variables].into_iter().enumerate().map(flash);
        flashes.chain(self.protects_variables.then_some(protect)).collect()
    }
}

/// The value of `-drive` for a disk that a device is connected to.
pub(super) fn drive(disk: &ImageFile, placement: &dyn Placement) -> String {
    let file = placement.disk(disk).replace(',', ",,");
    let (format, writes) = (placement.format(disk).as_qemu(), disk.writes.as_qemu());
    format!("id={},if=none,format={format},{writes},file={file}", disk.serial)
}

/// A UUID of 32 hexadecimal digits in its usual form (RFC 9562, 4).
fn with_dashes(digits: &str) -> String {
    let part = |range| digits.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::qemu::here::Here;

    #[rstest]
    #[case(DiskBus::Virtio, "virtio-blk-pci,drive=root,serial=root,bootindex=1,bus=slots")]
    #[case(
        DiskBus::Scsi,
        "virtio-scsi-pci,id=scsi,bus=slots scsi-hd,bus=scsi.0,drive=root,serial=root,bootindex=1"
    )]
    #[case(DiskBus::Sata, "ich9-ahci,id=sata,bus=slots ide-hd,bus=sata.0,drive=root,serial=root,bootindex=1")]
    #[case(DiskBus::Nvme, "nvme,drive=root,serial=root,bootindex=1,bus=slots")]
    fn a_disk_is_connected_to_its_bus(#[case] bus: DiskBus, #[case] devices: &str) {
        let disk = ImageFile { format: DiskFormat::Qcow2, ..ImageFile::writable("root", "/a,b") };
        let options = DiskBoot { disk, bus, uuid: None, parameters: None }.devices(&Here, ",bus=slots");
        let drive = "id=root,if=none,format=qcow2,readonly=off,file=/a,,b".to_owned();
        assert_eq!(options[0], ("drive", drive));
        let of_devices: Vec<_> = options[1..].iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(of_devices.join(" "), devices);
    }

    #[test]
    fn a_machine_is_identified_by_a_uuid() {
        let disk = ImageFile::writable("root", "/a");
        let uuid = Some("00112233445566778899aabbccddeeff".to_owned());
        let options =
            Boot::Disk(DiskBoot { disk, bus: DiskBus::Virtio, uuid, parameters: None }).options(&Here);
        assert_eq!(options, [("uuid", "00112233-4455-6677-8899-aabbccddeeff".to_owned())]);
    }

    #[test]
    fn only_the_variables_of_uefi_are_written() {
        let uefi = Uefi {
            code: ImageFile::read_only("code", "/code"),
            variables: ImageFile::writable("variables", "/variables"),
            protects_variables: true,
        };
        let options: Vec<String> =
            uefi.options(&Here).into_iter().map(|(name, value)| format!("-{name} {value}")).collect();
        assert_eq!(
            options,
            [
                "-drive if=pflash,unit=0,format=raw,readonly=on,file=/code",
                "-drive if=pflash,unit=1,format=raw,readonly=off,file=/variables",
                "-global driver=cfi.pflash01,property=secure,value=on"
            ]
        );
    }
}
