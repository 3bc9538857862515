//! The plan of a stack: every level with its image, CPU and memory, before anything runs.

mod boot_image;
mod images;
mod machine;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use nestmatrix_images::{Disk, UnifiedKernel};
use nestmatrix_model::architecture::{ArchInfo, BareMachine, InnermostMachine};
use nestmatrix_model::{Clock, Launch, LevelNumber};
use nestmatrix_vmm::qemu::{Instance, Memory};
use serde::{Deserialize, Serialize};

use super::{Hypervisor, Inputs};
pub use boot_image::{
    BootFiles, BootImage, FirstBoot, GuestFiles, SwtpmArchive, SystemDisk, UefiFirmware, UnifiedKernelDisk,
    WindowsSystem,
};
use images::Anywhere;
pub(crate) use images::cd_name;
pub(crate) use machine::SPARE_FIRST_CPU;
pub use settings::{Kdump, MachineSettings};

/// The least memory of what Windows starts, in MiB: UEFI or WSL's own system come before the kernel.
const LEAST_UNDER_WINDOWS_MIB: u32 = 1024;

/// What L0 runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metal {
    /// This machine and its KVM: this machine is L0, or L1 if its own hypervisor is L0.
    Native,
    /// An emulator plays the bare machine, and a real L0 kernel with KVM boots on it.
    Emulated,
}

impl fmt::Display for Metal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Emulated => "emulated",
        })
    }
}

/// The plan of one level.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelPlan {
    /// Which level.
    pub level: LevelNumber,
    /// Its image.
    pub image: BootImage,
    /// What the scenario sets for its machine.
    pub settings: MachineSettings,
    /// An empty disk on this machine, for files that must survive a reboot of the outermost level.
    pub disk: Option<PathBuf>,
    /// Its UEFI firmware, if it has one.
    pub uefi: Option<UefiFirmware>,
    /// The disk that UEFI starts its kernel from, for Hyper-V a fixed VHD; none if QEMU loads the kernel, or if the kernel is on a
    /// disk of its own.
    pub unified_kernel: Option<UnifiedKernelDisk>,
    /// The volume that brings it into the Windows level that starts it; none if a QEMU runs it. It is written before each boot, since
    /// the nonce is in it.
    pub guest_volume: Option<PathBuf>,
    /// The image of the swtpm that plays its TPM; none if it has none, or if the outermost level has that of an installed one.
    pub swtpm: Option<SwtpmArchive>,
}

impl LevelPlan {
    /// The names of the features of its CPU that only the recipe of its Windows asks for, and not the scenario.
    pub(crate) fn enlightenments_of_recipe(&self) -> impl Iterator<Item = &str> {
        let all = self.image.windows().into_iter().flat_map(WindowsSystem::all_enlightenments);
        let names = all.map(|wanted| wanted.split_once('=').map_or(wanted, |(name, _)| name));
        let cpu = &self.settings.cpu;
        names.filter(|name| !cpu.set.contains_key(*name) && !cpu.require.iter().any(|asked| asked == name))
    }

    /// The files of this machine that one boot of the level writes to, other than its own empty disk.
    pub fn written_files(&self) -> impl Iterator<Item = &Path> {
        let overlay = self.image.disk().map(|disk| disk.overlay.as_path());
        overlay.into_iter().chain(self.uefi.iter().map(|uefi| uefi.variables.as_path()))
    }
}

/// An image whose QEMU can run a level of a stack, in the level around that, in addition to the QEMU there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherQemuImage {
    /// Its name: the same name means the same files.
    pub name: String,
    /// Its initramfs, which is not compressed.
    pub initramfs: PathBuf,
    /// Kernel and initramfs on one disk.
    pub disk: Disk,
    /// The size of its initramfs, in MiB.
    pub mib: u32,
}

/// The plan of a stack.
#[derive(Debug, Clone)]
pub struct StackPlan {
    /// What L0 runs on.
    pub metal: Metal,
    /// What its architecture needs.
    pub profile: &'static ArchInfo,
    /// The levels that are booted, outermost first: from L0 on emulated metal; from L1 where the emulator itself is the hypervisor of
    /// L0; and on native metal the levels inside this machine.
    pub levels: Vec<LevelPlan>,
    /// The nonce that the innermost level must return.
    pub nonce: String,
    /// Whether the innermost level stays up once it has reported, and takes commands.
    pub stays: bool,
    /// The innermost level's machine, once it is known which one the QEMU that runs it has.
    pub innermost_machine: Option<&'static InnermostMachine>,
    /// The levels whose QEMU does not come with the firmware that [`StackPlan::wanted_firmware`] names.
    pub default_firmware: BTreeSet<LevelNumber>,
    /// The level that will get a second machine, if any.
    pub second: Option<LevelNumber>,
    /// The other QEMU that a level can be migrated to, by that level.
    pub other_qemus: BTreeMap<LevelNumber, OtherQemuImage>,
    /// The types of machines that are chosen because several QEMUs must have them.
    pub machine_types: BTreeMap<LevelNumber, String>,
    /// The levels that are saved to a file of the level around, which needs as much memory for that again.
    pub saved: BTreeSet<LevelNumber>,
    /// The levels into which a device is plugged while they run.
    pub plugged: BTreeSet<LevelNumber>,
    /// The memory of the outermost level's machine, if an emulator plays that.
    pub memory: Memory,
    /// Whether it is restored from a snapshot.
    pub restored_from: bool,
    /// How the levels' clocks must run.
    pub clock: Clock,
    /// Whether the innermost level is started in L0 instead of the level below it, as damage that the evidence must show.
    pub innermost_on_l0: bool,
}

impl StackPlan {
    /// A stack of these levels that boots cold, still without a nonce, and of which nothing else is required.
    pub fn cold(metal: Metal, profile: &'static ArchInfo, levels: Vec<LevelPlan>) -> Self {
        Self {
            metal,
            profile,
            levels,
            nonce: String::new(),
            stays: false,
            innermost_machine: None,
            default_firmware: BTreeSet::new(),
            second: None,
            other_qemus: BTreeMap::new(),
            machine_types: BTreeMap::new(),
            saved: BTreeSet::new(),
            plugged: BTreeSet::new(),
            memory: Memory::Private,
            restored_from: false,
            clock: Clock::Fastest,
            innermost_on_l0: false,
        }
    }

    /// The innermost level.
    pub fn innermost(&self) -> LevelNumber {
        // Every plan has levels: scenarios have at least L0, and an L0 that is the emulator has guests.
        self.levels.last().map_or(LevelNumber::ALL[0], |plan| plan.level)
    }

    /// The level that this machine is: the one around the outermost level that is booted. None on emulated metal.
    pub fn this_machine(&self) -> Option<LevelNumber> {
        self.levels.first().filter(|_| self.metal == Metal::Native)?.level.below()
    }

    /// Whether this machine is this level.
    pub fn is_this_machine(&self, level: LevelNumber) -> bool {
        self.this_machine() == Some(level)
    }

    /// Whether a level is the bare machine that an emulator plays, and no guest.
    pub fn is_bare_machine(&self, level: LevelNumber) -> bool {
        self.metal == Metal::Emulated && level.below().is_none()
    }

    /// Whether this is the innermost level, which runs no guest and reports.
    pub fn reports(&self, level: LevelNumber) -> bool {
        level == self.innermost() && level.reports()
    }

    /// The hypervisor that must run this level.
    pub fn hypervisor_of(&self, level: LevelNumber) -> Hypervisor {
        let plan = self.levels.iter().find(|plan| plan.level == level);
        if self.on_emulator(level) {
            Hypervisor::Tcg
        } else if plan.is_some_and(|plan| self.launch_of(plan).is_by_windows()) {
            Hypervisor::HyperV
        } else {
            Hypervisor::Kvm
        }
    }

    /// How many KVMs a level runs under.
    pub fn kvms_under(&self, level: LevelNumber) -> usize {
        let around = self.levels.iter().filter(|around| around.level <= level);
        around.filter(|around| self.hypervisor_of(around.level) == Hypervisor::Kvm).count()
    }

    /// What starts the machine of a level.
    pub fn launch_of(&self, plan: &LevelPlan) -> Launch {
        let launch = plan.settings.launch();
        // As damage, a QEMU of L0 starts it instead of the Windows around it, if it has a kernel for that.
        let on_l0 = self.innermost_on_l0 && self.reports(plan.level);
        let is_moved =
            on_l0 && launch.is_by_windows() && matches!(plan.image.files, BootFiles::Kernel { .. });
        if is_moved { Launch::Qemu } else { launch }
    }

    /// Whether the innermost level must be a guest of a Windows level's Hyper-V, wherever it is started.
    pub(crate) fn innermost_in_hyper_v(&self) -> bool {
        self.levels.last().is_some_and(|plan| plan.settings.launch().is_by_windows())
    }

    /// Whether this level is run by the emulator: L0 on emulated metal, or L1 if the emulator itself is the hypervisor of L0.
    fn on_emulator(&self, level: LevelNumber) -> bool {
        self.metal == Metal::Emulated && self.levels.first().is_some_and(|plan| plan.level == level)
    }

    /// Whether the emulator that runs the outermost level is QEMU.
    pub fn runs_on_qemu(&self) -> bool {
        self.emulator_is_l0() || matches!(self.profile.metal, BareMachine::Qemu(_))
    }

    /// Whether the emulator itself is the hypervisor of L0, so that there is no KVM in L0.
    pub fn emulator_is_l0(&self) -> bool {
        self.on_emulator(LevelNumber::ALL[1])
    }

    /// Memory of the level at `index`, in MiB.
    pub fn memory_mib(&self, index: usize) -> u32 {
        let plan = &self.levels[index];
        if let Some(set) = plan.settings.memory_mib {
            return set;
        }
        let ArchInfo { innermost_memory_mib, overhead_memory_mib, .. } = *self.profile;
        let inside = if index + 1 < self.levels.len() { self.most_memory_mib(index + 1) } else { 0 };
        let own = match (self.reports(plan.level), index + 1 < self.levels.len()) {
            (true, _) => innermost_memory_mib,
            (false, true) => overhead_memory_mib,
            // A host without guests also needs memory for itself.
            (false, false) => innermost_memory_mib + overhead_memory_mib,
        };
        let own = plan.image.disk().map_or(own, |disk| own.max(disk.memory_mib));
        let own = if self.launch_of(plan).is_by_windows() { own.max(LEAST_UNDER_WINDOWS_MIB) } else { own };
        // Only one of these exists at a time.
        let twice = self.levels.iter().enumerate().filter(|(_, inner)| {
            inner.level > plan.level
                && (Some(inner.level) == self.second || self.saved.contains(&inner.level))
        });
        let reserved = self.reserved_for_crash(plan).unwrap_or_default();
        // The QEMU that the next level can be migrated to is unpacked into memory.
        let other = plan.level.next().and_then(|inside| self.other_qemus.get(&inside));
        let other = other.map_or(0, |other| other.mib);
        own + reserved
            + other
            + inside
            + twice.map(|(index, _)| self.most_memory_mib(index)).max().unwrap_or_default()
    }

    /// The memory that a level reserves for its crash kernel, in MiB, if it has one.
    fn reserved_for_crash(&self, plan: &LevelPlan) -> Option<u32> {
        let kdump = plan.settings.kdump.as_ref()?;
        Some(kdump.crashkernel_mib.unwrap_or(self.profile.crash_kernel.memory_mib))
    }

    /// The same with everything that can be plugged in.
    fn most_memory_mib(&self, index: usize) -> u32 {
        let most = self.levels[index].settings.hardware.max_memory_mib;
        self.memory_mib(index).max(most.unwrap_or_default())
    }

    /// What the disks with unified kernels are made of, and the path of each. Those for Hyper-V are not among them.
    pub fn unified_kernels(&self) -> Vec<(UnifiedKernel<'_>, &Path)> {
        let levels = (0..self.levels.len()).filter(|index| self.levels[*index].guest_volume.is_none());
        levels.filter_map(|index| self.unified_kernel(index)).collect()
    }

    /// What the disk with the unified kernel of the level at `index` is made of, and its path, if it has such a disk.
    fn unified_kernel(&self, index: usize) -> Option<(UnifiedKernel<'_>, &Path)> {
        let plan = &self.levels[index];
        let UnifiedKernelDisk { stub, path } = plan.unified_kernel.as_ref()?;
        let BootFiles::Kernel { kernel, initramfs, .. } = &plan.image.files else { return None };
        let parameters = self.machine(index, Instance::First).boot.parameters()?.to_owned();
        Some((UnifiedKernel { stub, kernel, initramfs, parameters }, path.as_path()))
    }

    /// The volumes that bring guests into Windows levels, and what each of them holds.
    ///
    /// # Errors
    /// The level that has a volume and nothing to put on it.
    pub fn guest_volumes(&self) -> Result<Vec<(&Path, GuestFiles<'_>)>, LevelNumber> {
        let levels = self.levels.iter().enumerate();
        let made = levels.filter_map(|(index, plan)| {
            let volume = plan.guest_volume.as_deref()?;
            let files = match &plan.image.files {
                BootFiles::WslRoot { archive } => Some(GuestFiles::WslRoot { archive }),
                BootFiles::Kernel { .. } | BootFiles::Disk(_) => self
                    .unified_kernel(index)
                    .map(|(unified, vhd)| GuestFiles::UnifiedKernel { unified, vhd }),
            };
            Some(files.map(|files| (volume, files)).ok_or(plan.level))
        });
        made.collect()
    }

    /// The machine of an innermost level that a QEMU of a host runs: of the type that the scenario sets; otherwise the chosen
    /// one, or the first one as long as none was chosen.
    fn machine_of_innermost(&self, plan: &LevelPlan) -> &'static InnermostMachine {
        match &plan.settings.machine_type {
            Some(machine_type) => self.profile.innermost_machine_like(machine_type),
            None => self
                .innermost_machine
                .or_else(|| self.profile.innermost_machines_with(plan.settings.needs_pci()).next())
                .unwrap_or(&self.profile.innermost_machines[0]),
        }
    }

    /// The firmware that the machine of the level at `index` should have instead of its default. Emulated metal is unreliable
    /// with the default from L2 on, and slow with that of an innermost level ([`InnermostMachine::firmware`]).
    pub fn wanted_firmware(&self, index: usize) -> Option<&'static str> {
        self.reliable_firmware(index).filter(|_| self.has_boot_shortcut(&self.levels[index]))
    }

    /// The same if QEMU loaded the kernel of that level, whatever it boots.
    pub(crate) fn reliable_firmware(&self, index: usize) -> Option<&'static str> {
        let plan = &self.levels[index];
        let by_qemu_in_a_level = self.hypervisor_of(plan.level) == Hypervisor::Kvm;
        if self.metal == Metal::Native || !by_qemu_in_a_level {
            None
        } else if self.reports(plan.level) {
            self.machine_of_innermost(plan).firmware
        } else if plan.level.number() >= 2 {
            let machine_type = plan.settings.machine_type.as_deref().unwrap_or(self.profile.host.name);
            self.profile.innermost_machine_like(machine_type).firmware
        } else {
            None
        }
    }

    /// Whether QEMU loads its kernel with firmware that has no other task: then the machine and its firmware can be the quickest ones.
    pub(crate) fn has_boot_shortcut(&self, plan: &LevelPlan) -> bool {
        plan.image.disk().is_none() && plan.uefi.is_none()
    }

    /// The level that runs this one; none for L0.
    pub fn around(&self, level: LevelNumber) -> Option<LevelNumber> {
        let below = level.below()?;
        Some(if self.innermost_on_l0 && self.reports(level) { LevelNumber::ALL[0] } else { below })
    }

    /// The inputs of the levels up to the one at `index`, by name, without the program that runs them.
    pub fn inputs(&self, index: usize) -> Inputs {
        let mut inputs = Inputs::new();
        for (index, plan) in self.levels.iter().enumerate().take(index + 1) {
            let cold = Self { memory: Memory::Private, restored_from: false, ..self.clone() };
            let machine = cold.machine(index, Instance::First);
            inputs.insert(format!("{} image", plan.level), plan.image.name.clone());
            // Some requirements are not on the command line. A level that does not meet them is never saved in a snapshot.
            let required = [&machine.cpu.require[..], &machine.require].concat().join(" ");
            inputs.insert(format!("{} requirements", plan.level), required);
            inputs.insert(format!("{} machine", plan.level), machine.arguments(&Anywhere).join(" "));
            let other = self.other_qemus.get(&plan.level);
            inputs.extend(other.map(|other| (format!("{} other QEMU", plan.level), other.name.clone())));
            inputs
                .extend(plan.uefi.iter().map(|uefi| (format!("{} firmware", plan.level), uefi.name.clone())));
        }
        let inside = self.levels.iter().skip(index + 1);
        if self.images_are_files() {
            inputs.extend(inside.map(|plan| (format!("{} image", plan.level), plan.image.name.clone())));
        }
        let swtpms = self.levels.iter().filter_map(|plan| Some((plan, plan.swtpm.as_ref()?)));
        inputs.extend(swtpms.map(|(plan, swtpm)| (format!("{} swtpm", plan.level), swtpm.name.clone())));
        // The levels of a snapshot know the size of each of their disks.
        let disks = self.levels.iter().skip(index + 1).filter(|plan| plan.image.disk().is_some());
        inputs.extend(disks.map(|plan| (format!("{} disk", plan.level), plan.image.name.clone())));
        let firmware =
            self.levels.iter().skip(index + 1).filter_map(|plan| Some((plan, plan.uefi.as_ref()?)));
        inputs.extend(firmware.map(|(plan, uefi)| (format!("{} firmware", plan.level), uefi.name.clone())));
        inputs
    }
}

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod hardware_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod windows_tests;
