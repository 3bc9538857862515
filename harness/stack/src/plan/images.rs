//! Where the files of a level's image are, and what the levels outside it provide for it: disks and ports.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use nestmatrix_images::Disk;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{CommandChannel, DiskBus, Isa, LevelNumber};
use nestmatrix_vmm::qemu::{
    Backing, Boot, ChannelKind, ChannelName, DiskBoot, DiskFormat, ImageFile, KernelBoot, OtherQemu, Part,
    Placement, Port, Removable, RemovableKind, Uefi, VolumeBoot,
};
use nestmatrix_vmm::shell::quote;

use super::{BootFiles, LevelPlan, Metal, StackPlan, SystemDisk};
use crate::host::{WithVirtio, WithoutVirtio};

/// Serial number of a level's own disk.
pub(super) const OWN_DISK: &str = "own";

impl StackPlan {
    /// The environment of a step in a level, as assignments of a shell, so that one scenario serves every architecture and
    /// every image.
    pub fn variables_of_steps(&self, on: LevelNumber) -> String {
        let ArchInfo { kvm_module, documented_flags, qemu, .. } = self.profile;
        let mut variables =
            format!("KVM_MODULE={kvm_module} CPU_FLAGS={}", quote(&documented_flags.join(" ")));
        if self.reports(on) {
            // It has no QEMU, and its commands are typed: each byte costs exits.
            return variables;
        }
        // Writing to a String can't fail.
        let _ = write!(variables, " QEMU={qemu}");
        let Some(inside) = self.levels.iter().find(|plan| Some(plan.level) == on.next()) else {
            return variables;
        };
        let placement: &dyn Placement =
            if self.images_are_files() && self.is_bare_machine(on) { &WithoutVirtio } else { &WithVirtio };
        let name = inside.level;
        let _ = match self.boot(inside, String::new()) {
            Boot::Kernel(KernelBoot { kernel, initramfs, .. }) => {
                let (kernel, initramfs) = (placement.file(&kernel), placement.file(&initramfs));
                write!(variables, " {name}_KERNEL={kernel} {name}_INITRAMFS={initramfs}")
            }
            Boot::Disk(boot) => write!(variables, " {name}_DISK={}", placement.disk(&boot.disk)),
            Boot::Volume(boot) => write!(variables, " {name}_VOLUME={}", placement.disk(&boot.volume)),
        };
        variables
    }

    /// What `plan` boots. A kernel gets these parameters.
    pub(super) fn boot(&self, plan: &LevelPlan, parameters: String) -> Boot {
        let by_windows = self.launch_of(plan).is_by_windows();
        if let (Some(volume), true) = (&plan.guest_volume, by_windows) {
            let volume = ImageFile::read_only(disk_name(plan), volume);
            return Boot::Volume(VolumeBoot { volume, parameters });
        }
        if let Some(unified) = plan.unified_kernel.as_ref().filter(|_| plan.guest_volume.is_none()) {
            let disk =
                ImageFile { format: DiskFormat::Vpc, ..ImageFile::read_only(disk_name(plan), &unified.path) };
            return Boot::Disk(DiskBoot {
                disk,
                bus: DiskBus::Virtio,
                uuid: None,
                parameters: Some(parameters),
            });
        }
        match &plan.image.files {
            BootFiles::Kernel { kernel, initramfs, disk } => {
                let disk = disk.as_ref().filter(|_| !self.images_are_files());
                let (kernel_bytes, initramfs_bytes) =
                    disk.map(|Disk { kernel, initramfs, .. }| (kernel.clone(), initramfs.clone())).unzip();
                Boot::Kernel(KernelBoot {
                    kernel: boot_file(plan, "kernel", kernel, kernel_bytes),
                    initramfs: boot_file(plan, "initramfs", initramfs, initramfs_bytes),
                    parameters,
                })
            }
            BootFiles::Disk(SystemDisk { overlay, bus, .. }) => {
                let disk =
                    ImageFile { format: DiskFormat::Qcow2, ..ImageFile::writable(disk_name(plan), overlay) };
                // It has no kernel command line that the harness chooses, so its nonce is the machine's identifier.
                let uuid =
                    self.reports(plan.level).then(|| self.nonce.clone()).filter(|nonce| !nonce.is_empty());
                Boot::Disk(DiskBoot { disk, bus: *bus, uuid, parameters: None })
            }
            BootFiles::WslRoot { archive } => {
                let volume = ImageFile::read_only(disk_name(plan), archive);
                Boot::Volume(VolumeBoot { volume, parameters })
            }
        }
    }

    /// The UEFI firmware of `plan`, if it has one.
    pub(super) fn uefi(&self, plan: &LevelPlan) -> Option<Uefi> {
        let uefi = plan.uefi.as_ref()?;
        let name = disk_name(plan);
        Some(Uefi {
            code: ImageFile::read_only(format!("{name}-code"), &uefi.code),
            variables: ImageFile::writable(format!("{name}-variables"), &uefi.variables),
            // Only x86 has a system management mode.
            protects_variables: uefi.secure_boot && self.profile.isa == Isa::Amd64,
        })
    }

    /// The archive with the swtpm that plays the TPM of `plan` in the level around it.
    pub(super) fn swtpm(&self, plan: &LevelPlan) -> Option<ImageFile> {
        let swtpm = plan.swtpm.as_ref()?;
        Some(ImageFile::read_only(format!("{}-swtpm", disk_name(plan)), &swtpm.archive))
    }

    /// The other QEMU that the level `level` can be migrated to, as the level around has it.
    pub(crate) fn other_qemu(&self, level: LevelNumber) -> Option<OtherQemu> {
        let other = self.other_qemus.get(&level)?;
        let serial = other_qemu_name(level);
        let part = Part { disk: serial.clone(), bytes: other.disk.initramfs.clone() };
        let part = (!self.images_are_files()).then_some(part);
        let archive = ImageFile { part, ..ImageFile::read_only(serial, &other.initramfs) };
        Some(OtherQemu { archive, program: self.profile.qemu.to_owned() })
    }

    /// The volumes of the first boot of `plan`.
    pub(super) fn volumes(&self, plan: &LevelPlan) -> Vec<ImageFile> {
        let first_boot = plan.image.disk().and_then(|disk| disk.first_boot.as_ref());
        let volumes = first_boot.map_or(&[][..], |boot| &boot.volumes);
        let volume = |(number, path)| ImageFile::read_only(format!("volume{number}"), path);
        volumes.iter().enumerate().map(volume).collect()
    }

    /// The media that can be removed of the first boot of `plan`.
    pub(super) fn removable(&self, plan: &LevelPlan) -> Vec<Removable> {
        let Some(boot) = plan.image.disk().and_then(|disk| disk.first_boot.as_ref()) else {
            return Vec::new();
        };
        let cds = boot.cds.iter().enumerate().map(|(number, path)| Removable {
            file: ImageFile::read_only(cd_name(number), path),
            kind: if number == 0 && boot.boots_cd { RemovableKind::BootCd } else { RemovableKind::Cd },
        });
        let sticks = boot.sticks.iter().enumerate().map(|(number, path)| Removable {
            file: ImageFile::read_only(format!("stick{number}"), path),
            kind: RemovableKind::Stick,
        });
        cds.chain(sticks).collect()
    }

    /// The disks that bring the files of `plan` to the levels outside it.
    pub(super) fn disks(&self, plan: &LevelPlan) -> Vec<ImageFile> {
        let mut disks = match (&plan.image.files, self.boot(plan, String::new())) {
            (_, Boot::Disk(boot)) => vec![boot.disk],
            (_, Boot::Volume(boot)) => vec![boot.volume],
            (BootFiles::Kernel { disk: Some(disk), .. }, _) if !self.images_are_files() => {
                vec![ImageFile::read_only(disk_name(plan), &disk.path)]
            }
            (_, Boot::Kernel(KernelBoot { kernel, initramfs, .. })) => vec![kernel, initramfs],
        };
        disks.extend(self.uefi(plan).into_iter().flat_map(|uefi| [uefi.code, uefi.variables]));
        disks.extend(self.swtpm(plan));
        disks.extend(self.other_qemus.get(&plan.level).map(|other| {
            let path = if self.images_are_files() { &other.initramfs } else { &other.disk.path };
            ImageFile::read_only(other_qemu_name(plan.level), path)
        }));
        disks
    }

    /// Whether images are separate files in L0, since its metal has no virtio disks.
    pub fn images_are_files(&self) -> bool {
        self.metal == Metal::Emulated && !self.runs_on_qemu()
    }

    /// Whether `plan` has a guest agent, if its machine can have one.
    pub(super) fn has_agent(&self, plan: &LevelPlan) -> bool {
        match plan.image.disk() {
            // In its first boot it is asked nothing, and its end while the machine powers off is no failure.
            Some(disk) => disk.command_channel == CommandChannel::Agent && disk.first_boot.is_none(),
            None => !self.reports(plan.level),
        }
    }

    /// The ports that pass the channels of `plan` through a machine further out. Inside it they have the same names, whether it
    /// is the first or the second machine of its level. What Windows starts has none: Windows is asked for what its console says.
    pub(super) fn ports(&self, plan: &LevelPlan, second: bool) -> Vec<Port> {
        if self.launch_of(plan).is_by_windows() {
            return Vec::new();
        }
        let has_agent = self.has_agent(plan);
        let kinds = ChannelKind::ALL.into_iter().filter(|kind| has_agent || *kind != ChannelKind::Agent);
        let first = |kind| ChannelName { level: plan.level, kind, second: false };
        let port =
            |kind| Port { channel: ChannelName { second, ..first(kind) }, name: first(kind).port_name() };
        kinds.map(port).collect()
    }
}

/// Serial number of the disk with the other QEMU of a level.
fn other_qemu_name(level: LevelNumber) -> String {
    format!("l{}-qemu", level.number())
}

/// The name of a CD of a first boot.
pub(crate) fn cd_name(number: usize) -> String {
    format!("cd{number}")
}

/// No particular host, for what is the same on all.
pub(super) struct Anywhere;

impl Placement for Anywhere {
    fn channel(&self, channel: ChannelName) -> Option<Backing> {
        Some(Backing::Socket(channel.to_string()))
    }

    fn file(&self, file: &ImageFile) -> String {
        file.serial.clone()
    }

    fn disk(&self, file: &ImageFile) -> String {
        file.serial.clone()
    }

    fn path_of(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// Serial number of the disk with a level's images.
fn disk_name(plan: &LevelPlan) -> String {
    format!("l{}", plan.level.number())
}

fn boot_file(plan: &LevelPlan, name: &str, path: &Path, bytes: Option<Range<u64>>) -> ImageFile {
    let part = bytes.map(|bytes| Part { disk: disk_name(plan), bytes });
    ImageFile { part, ..ImageFile::read_only(format!("{}-{name}", disk_name(plan)), path) }
}
