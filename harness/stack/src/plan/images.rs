//! Where the files of a level's image are, and what the levels outside it provide for it: disks and ports.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use nestmatrix_images::Disk;
use nestmatrix_model::LevelNumber;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_vmm::qemu::{Backing, ChannelKind, ChannelName, ImageFile, Part, Placement, Port};
use nestmatrix_vmm::shell::quote;

use super::{LevelPlan, Metal, StackPlan};
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
            if self.images_are_files() && on.below().is_none() { &WithoutVirtio } else { &WithVirtio };
        let (kernel, initramfs) =
            (placement.file(&self.kernel(inside)), placement.file(&self.initramfs(inside)));
        let name = inside.level;
        let _ = write!(variables, " {name}_KERNEL={kernel} {name}_INITRAMFS={initramfs}");
        variables
    }

    /// Its kernel.
    pub(super) fn kernel(&self, plan: &LevelPlan) -> ImageFile {
        let bytes = self.disk(plan).map(|disk| disk.kernel.clone());
        boot_file(plan, "kernel", &plan.image.kernel, bytes)
    }

    /// Its initramfs.
    pub(super) fn initramfs(&self, plan: &LevelPlan) -> ImageFile {
        let bytes = self.disk(plan).map(|disk| disk.initramfs.clone());
        boot_file(plan, "initramfs", &plan.image.initramfs, bytes)
    }

    /// The disks that bring the images of `plan` to the levels outside it.
    pub(super) fn disks(&self, plan: &LevelPlan) -> Vec<ImageFile> {
        match self.disk(plan) {
            Some(disk) => vec![image_file(disk_name(plan), &disk.path)],
            None => vec![self.kernel(plan), self.initramfs(plan)],
        }
    }

    fn disk<'a>(&self, plan: &'a LevelPlan) -> Option<&'a Disk> {
        plan.image.disk.as_ref().filter(|_| !self.images_are_files())
    }

    /// Whether images are separate files in L0, since its metal has no virtio disks.
    fn images_are_files(&self) -> bool {
        self.metal == Metal::Emulated && !self.runs_on_qemu()
    }

    /// The ports that pass the channels of `plan` through a machine further out. Inside it they have the same names, whether it
    /// is the first or the second machine of its level.
    pub(super) fn ports(&self, plan: &LevelPlan, second: bool) -> Vec<Port> {
        let reports = self.reports(plan.level);
        let kinds = ChannelKind::ALL.into_iter().filter(|kind| !reports || *kind != ChannelKind::Agent);
        let first = |kind| ChannelName { level: plan.level, kind, second: false };
        let port =
            |kind| Port { channel: ChannelName { second, ..first(kind) }, name: first(kind).port_name() };
        kinds.map(port).collect()
    }
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
}

/// Serial number of the disk with a level's images.
fn disk_name(plan: &LevelPlan) -> String {
    format!("l{}", plan.level.number())
}

fn boot_file(plan: &LevelPlan, name: &str, path: &Path, bytes: Option<Range<u64>>) -> ImageFile {
    let part = bytes.map(|bytes| Part { disk: disk_name(plan), bytes });
    ImageFile { part, ..image_file(format!("{}-{name}", disk_name(plan)), path) }
}

pub(super) fn image_file(serial: String, path: &Path) -> ImageFile {
    ImageFile { serial, path: path.to_owned(), part: None }
}
