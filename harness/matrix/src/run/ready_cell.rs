//! A cell whose images have been made ready: what its stack boots, computed once for everything that happens to the cell later.
//!
//! The schedule, each attempt and the script that reproduces the cell all take it from here, so they can't disagree.

use std::collections::BTreeMap;
use std::path::Path;

use nestmatrix_images::{Catalog, Image, InstalledEmulator, Kernel, Product, Recipe};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{FaultAction, Launch, LevelNumber, Step};
use nestmatrix_stack::host::Emulator;
use nestmatrix_stack::{Inputs, LevelPlan, Metal, SnapshotKey, StackPlan};
use nestmatrix_vmm::qemu::SWTPM;

use super::cell_folders::CellFolders;
use super::demand::Emulation;
use super::level_plan::{LevelUefi, level_plan, swtpm_archive};
use super::machine_change::machine_change;
use super::other_qemu::other_qemu_image;
use super::outermost::{EmulatorSource, emulator_of, emulator_source, outermost_program};
use super::provision::Images;
use super::savable::{always_cold, is_paused_before, savable};
use super::{Fate, Planned, PlannedLevel, Setting};
use crate::records::{GuestRecord, UefiRecord};
use crate::scenario::Cell;
use crate::surroundings::GuestOf;

/// A planned cell that boots, with the images that it boots.
pub(super) struct ReadyCell {
    pub(super) cell: Cell,
    /// Whether it is an error if it is skipped.
    pub(super) must_run: bool,
    /// What L0 runs on.
    pub(super) metal: Metal,
    /// What runs this machine, if it is native metal and a guest.
    pub(super) guest_of: Option<GuestOf>,
    /// Its levels, L0 first.
    pub(super) levels: Vec<ReadyLevel>,
    /// Its stack, still without the nonce of a boot; or why an image of it is missing.
    pub(super) stack: Result<StackPlan, String>,
    /// The program that runs its outermost level, or why that is missing.
    pub(super) outermost: Result<Outermost, String>,
    /// The snapshots that it can be restored from, or can save while it boots, the one with the fewest levels first.
    pub(super) snapshots: Vec<SnapshotLink>,
    /// Why it is never restored from a snapshot, if so.
    pub(super) always_cold: Option<String>,
    /// About how long it takes to boot it from its beginning, in seconds.
    pub(super) seconds: f64,
    /// Where its sockets and disks are while it runs.
    pub(super) folders: CellFolders,
    /// Whether it may change this machine, which is restored afterwards.
    pub(super) changes_host: bool,
    /// Whether it continues after this machine was rebooted for it.
    pub(super) continues: bool,
}

/// A level of a ready cell.
pub(super) struct ReadyLevel {
    pub(super) planned: PlannedLevel,
    /// What it boots; none if it boots nothing, or if the image is missing.
    pub(super) image: Option<Image>,
    /// Its UEFI firmware, if it has one.
    pub(super) uefi: Option<UefiRecord>,
    /// The image of the swtpm that plays its TPM, if it has one and that comes from an image.
    pub(super) swtpm: Option<Image>,
    /// The image of the QEMU that it can be migrated to, if there is one.
    pub(super) other_qemu: Option<Image>,
    /// The guest of the user that it boots, if it boots one.
    pub(super) guest: Option<GuestRecord>,
}

impl ReadyLevel {
    /// The kernel of its image, unless it boots another one: WSL has its own.
    pub(super) fn kernel(&self) -> Option<&Kernel> {
        let is_booted = self.planned.spec.settings.launch() != Launch::Wsl2;
        self.image.as_ref().filter(|_| is_booted)?.kernel_version()
    }
}

/// What runs the outermost level.
pub(super) struct Outermost {
    pub(super) program: &'static str,
    /// What the program is started from.
    pub(super) emulator: Emulator,
    /// The installed emulator that plays the metal, if it is one.
    pub(super) installed: Option<InstalledEmulator>,
    /// The swtpm that plays the TPM of the outermost level, if that has one.
    pub(super) swtpm: Option<Emulator>,
}

/// A snapshot of a cell's stack: the levels up to `level` are up in it.
pub(super) struct SnapshotLink {
    pub(super) level: LevelNumber,
    /// All that the snapshot depends on.
    pub(super) inputs: Inputs,
    pub(super) key: SnapshotKey,
}

/// What all cells of a run need to be made ready.
pub(super) struct Readiness<'a> {
    pub(super) setting: &'a Setting,
    pub(super) images: &'a Images,
    /// Identifies this program: its scripts are in the levels of snapshots.
    pub(super) build: &'a str,
    /// The model of this machine's processor.
    pub(super) processor: &'a str,
}

impl Readiness<'_> {
    /// Makes a cell ready that boots; `folders` are its own.
    pub(super) fn cell(&self, planned: &Planned, folders: CellFolders) -> Option<ReadyCell> {
        let Fate::Boots { metal, levels } = &planned.fate else { return None };
        let (cell, metal) = (&planned.cell, *metal);
        let stack = self.stack(cell, metal, levels, &folders.files);
        let outermost = self.outermost(cell, metal, levels);
        let derived = |level: LevelNumber| is_derived(levels, level, &self.setting.catalog);
        let other_l0 = derived(LevelNumber::ALL[0]).then(|| "its L0 has another kernel or QEMU".to_owned());
        let installed = outermost.as_ref().is_ok_and(|outermost| outermost.installed.is_some());
        let on_own_bochs = installed && Emulation::of(cell, metal) == Emulation::Bochs;
        let own_bochs = on_own_bochs.then(|| "your build of Bochs has no display that saves".to_owned());
        let always_cold = always_cold(planned).or(other_l0).or(own_bochs);
        let snapshots = match (&self.setting.snapshots, &always_cold, &stack, &outermost) {
            (Some(_), None, Ok(stack), Ok(outermost)) => self.snapshots(cell, stack, outermost, derived),
            _ => Vec::new(),
        };
        let image_of = |key: &Option<_>| self.images.get(key.as_ref()?).ok().cloned();
        let levels = levels.iter().map(|level| {
            let (planned, image, firmware) =
                (level.clone(), image_of(&level.boots), image_of(&level.firmware));
            let uefi =
                image.as_ref().and_then(|image| LevelUefi::of(level, image, firmware.as_ref()).ok()?);
            let swtpm = image_of(&level.swtpm);
            let other_qemu = level.other_qemu.as_ref().and_then(|other| self.images.get(&other.image).ok());
            let other_qemu = other_qemu.cloned();
            let guest = self.guest(level);
            ReadyLevel { planned, uefi: uefi.map(LevelUefi::record), image, swtpm, other_qemu, guest }
        });
        Some(ReadyCell {
            cell: cell.clone(),
            must_run: planned.must_run,
            metal,
            guest_of: planned.guest_of.clone(),
            levels: levels.collect(),
            stack,
            outermost,
            snapshots,
            always_cold,
            seconds: planned.typical_seconds(metal),
            folders,
            changes_host: metal == Metal::Native && machine_change(cell).is_some(),
            continues: false,
        })
    }

    /// The guest of the user that a level boots.
    fn guest(&self, level: &PlannedLevel) -> Option<GuestRecord> {
        let local = self.setting.catalog.get(&level.boots.as_ref()?.0)?.guest()?;
        Some(GuestRecord::new(level.spec.settings.guest.as_ref()?, local))
    }

    fn stack(
        &self,
        cell: &Cell,
        metal: Metal,
        levels: &[PlannedLevel],
        files: &Path,
    ) -> Result<StackPlan, String> {
        let booted = levels.iter().filter_map(|level| Some((level, level.boots.as_ref()?)));
        let plans = booted.map(|(level, key)| {
            let firmware = level.firmware.as_ref().map(|key| self.images.get(key)).transpose()?;
            let recipe = self.setting.catalog.get(&key.0).and_then(Recipe::disk);
            let swtpm = level.swtpm.as_ref().map(|key| self.images.get(key)).transpose()?;
            let plan = level_plan(level, self.images.get(key)?, firmware, recipe, files)?;
            Ok(LevelPlan { swtpm: swtpm.and_then(swtpm_archive), ..plan })
        });
        let others = levels.iter().filter_map(|level| Some((level.spec.level, level.other_qemu.as_ref()?)));
        let others = others
            .map(|(level, other)| Ok((level, other_qemu_image(self.images.get(&other.image)?)?)))
            .collect::<Result<_, String>>()?;
        let levels = plans.collect::<Result<_, String>>()?;
        Ok(StackPlan {
            other_qemus: others,
            // A debug session asks the innermost level, too.
            // libvirt ends the QEMU of a level that powers off, and KVM's counters with it.
            // A guest of the user takes no commands.
            stays: cell.guest().is_none()
                && (self.setting.inspector.is_some()
                    || cell.is_launched_by_libvirt(cell.innermost())
                    || cell.steps.iter().any(|step| step.needs_innermost(cell.innermost()))),
            second: cell.steps.iter().find_map(Step::second_machine),
            saved: cell.steps.iter().filter_map(Step::saved_level).collect(),
            plugged: cell.steps.iter().filter_map(Step::plugged_level).collect(),
            clock: cell.clock,
            innermost_on_l0: cell.faults.iter().any(|fault| fault.action == FaultAction::StartOnL0),
            ..StackPlan::cold(metal, ArchInfo::of(cell.architecture), levels)
        })
    }

    fn outermost(&self, cell: &Cell, metal: Metal, levels: &[PlannedLevel]) -> Result<Outermost, String> {
        let program = outermost_program(cell, metal);
        let swtpm = self.swtpm(levels)?;
        if let (Metal::Native, Some(installed)) = (metal, &self.setting.native_qemu) {
            return Ok(Outermost { program, emulator: installed.clone(), installed: None, swtpm });
        }
        let recipe = match emulator_source(&self.setting.catalog, program).map_err(|e| e.to_string())? {
            EmulatorSource::Recipe(recipe) => recipe,
            EmulatorSource::Installed(installed) => {
                let emulator = Emulator::Installed(installed.path.clone());
                return Ok(Outermost { program, emulator, installed: Some(installed.clone()), swtpm });
            }
        };
        let image = self.images.get(&(recipe.to_owned(), Product::Emulator))?.clone();
        let mut image = nestmatrix_images::Emulator::new(image)
            .ok_or_else(|| format!("image {recipe} is not an emulator"))?;
        let own = self.setting.catalog.own(program);
        if let Some(own) = own {
            image = image.with_own(program, &own.path);
        }
        let emulator = Emulator::Image(Box::new(image));
        Ok(Outermost { program, emulator, installed: own.cloned(), swtpm })
    }

    /// The swtpm of the outermost level that is booted, if that has a TPM.
    fn swtpm(&self, levels: &[PlannedLevel]) -> Result<Option<Emulator>, String> {
        let Some(outermost) = levels.iter().find(|level| level.boots.is_some()) else { return Ok(None) };
        if let Some(key) = &outermost.swtpm {
            return Ok(emulator_of(self.images.get(key)?.clone()));
        }
        let installed = self.setting.catalog.installed(SWTPM).and_then(Result::ok);
        Ok(installed.map(|swtpm| Emulator::Installed(swtpm.path.clone())))
    }

    fn snapshots(
        &self,
        cell: &Cell,
        stack: &StackPlan,
        outermost: &Outermost,
        derived: impl Fn(LevelNumber) -> bool,
    ) -> Vec<SnapshotLink> {
        // No other run restores a stack that was put together for one trial; a snapshot of it would only take room. If images are files of
        // L0, those of all levels are in each snapshot.
        if stack.images_are_files() && stack.levels.iter().any(|plan| derived(plan.level)) {
            return Vec::new();
        }
        let own = stack.levels.iter().enumerate().take_while(|(_, plan)| !derived(plan.level));
        let savable = own.filter(|(_, plan)| {
            let inspector = self.setting.inspector.as_deref();
            savable(cell, plan.level) && !is_paused_before(cell, plan.level, inspector)
        });
        let link = |(index, plan): (usize, &LevelPlan)| {
            let mut inputs = stack.inputs(index);
            inputs.insert("nestmatrix".to_owned(), self.build.to_owned());
            inputs.insert("emulator".to_owned(), outermost.name());
            // The guest's clock is calibrated on the processor that emulates it.
            inputs.insert("processor".to_owned(), self.processor.to_owned());
            SnapshotLink { level: plan.level, key: SnapshotKey::of(plan.level, &inputs), inputs }
        };
        savable.map(link).collect()
    }
}

impl ReadyCell {
    /// The images of the levels that are booted.
    pub(super) fn images(&self) -> BTreeMap<LevelNumber, &Image> {
        let levels = self.levels.iter();
        levels.filter_map(|level| Some((level.planned.spec.level, level.image.as_ref()?))).collect()
    }

    /// The size of the machine's memory, in MiB, if its emulator copies that to a file to restore the machine.
    pub(super) fn copied_mib(&self) -> Option<u64> {
        let copies = Emulation::of(&self.cell, self.metal) == Emulation::Bochs && !self.snapshots.is_empty();
        self.stack.as_ref().ok().filter(|_| copies).map(|stack| stack.memory_mib(0).into())
    }

    /// The image of the emulator that runs its outermost level, if it comes from one.
    pub(super) fn emulator_image(&self) -> Option<&Image> {
        self.outermost.as_ref().ok()?.image()
    }

    /// The installed emulator that plays its metal, if it is one.
    pub(super) fn installed_emulator(&self) -> Option<&InstalledEmulator> {
        self.outermost.as_ref().ok()?.installed.as_ref()
    }
}

impl Outermost {
    /// The image that the emulator comes from, if it comes from one.
    pub(super) fn image(&self) -> Option<&Image> {
        match &self.emulator {
            Emulator::Installed(_) => None,
            Emulator::Image(image) => Some(image.image()),
        }
    }

    /// Identifies the emulator in the key of a snapshot.
    fn name(&self) -> String {
        if let Some(InstalledEmulator { path, version }) = &self.installed {
            return format!("{} {version} ({})", self.program, path.display());
        }
        let Some(image) = self.image() else { return self.program.to_owned() };
        let version = image.qemu_version().map_or("", |qemu| &qemu.version);
        format!("{} {version} ({})", self.program, &image.digest().as_str()[..12])
    }
}

/// Whether a level boots an image with a replaced part, which is not what its recipe says.
fn is_derived(levels: &[PlannedLevel], level: LevelNumber, catalog: &Catalog) -> bool {
    let boots = levels.iter().filter(|planned| planned.spec.level == level);
    let mut recipes = boots.filter_map(|planned| catalog.get(&planned.boots.as_ref()?.0));
    recipes.any(|recipe| recipe.replacement().is_some())
}
