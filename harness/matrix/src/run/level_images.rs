//! Chooses the image that each level of a cell boots, from the recipes of the catalog.

use nestmatrix_images::{Catalog, Product, Recipe};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{
    Architecture, BootKind, Firmware, Isa, Launch, LevelNumber, PROGRAM, Version, Word as _,
};
use nestmatrix_stack::Metal;
use nestmatrix_vmm::qemu::SWTPM;

use super::NativeMetal;
use super::emulator_errata::why_barred;
use super::fate::{Planner, no_emulator, no_tpm};
use super::outermost::emulator_source;
use super::plan::{Alternative, PlannedLevel};
use crate::records::{SkipReason, no_machine};
use crate::scenario::{
    Addition, AvailableImage, Cell, ImageChoice, LevelSpec, Matrix, MissingImage, Permitted, Role, Supply,
    System, UnbuildableImage,
};

impl Planner<'_> {
    /// Finds an image for every level, or every reason why there is none.
    pub(super) fn levels(
        &self,
        cell: &Cell,
        native: Option<&NativeMetal>,
    ) -> Result<Vec<PlannedLevel>, Vec<SkipReason>> {
        let isa = cell.architecture.isa();
        let innermost = cell.levels.last().map(|spec| spec.level);
        let permitted = Permitted::of(cell, self.options.denied);
        let metal = if native.is_some() { Metal::Native } else { Metal::Emulated };
        let mut levels = Vec::new();
        // In the order of discovery. Levels without the same image share one reason.
        let mut reasons: Vec<SkipReason> = Vec::new();
        for spec in &cell.levels {
            let this_machine = native.filter(|_| spec.level == cell.this_machine());
            let choice = match this_machine {
                _ if self.options.suppose_images && !spec.system.is_emulator() => self.supposed(spec, isa),
                Some(native) => {
                    native_choice(native, spec, cell.architecture, self.matrix, permitted).map_err(|why| {
                        SkipReason::AnotherSystem { level: spec.level, isa: isa.to_string(), why }
                    })
                }
                None => {
                    self.matrix.image_from(&self.supply, cell, spec, metal, permitted).map_err(|missing| {
                        SkipReason::NoImage {
                            levels: vec![spec.level],
                            isa: isa.to_string(),
                            missing: Box::new(missing),
                        }
                    })
                }
            };
            match choice {
                Ok(choice) => {
                    let reports = Some(spec.level) == innermost && spec.level.reports();
                    let on_metal = native.is_none() && spec.level == LevelNumber::ALL[0];
                    let variant = ArchInfo::of(cell.architecture).metal.variant().filter(|_| on_metal);
                    // An image that needs two of them does not fit.
                    let needed = cell.additions(spec.level).first().copied().map(Addition::word);
                    let addition = spec.system.role.map(Role::word).or(needed);
                    let boots = |choice: &ImageChoice| {
                        let of_kernel = if reports { Product::Minimal } else { Product::Hypervisor };
                        if self.options.suppose_images {
                            let product =
                                if spec.boots == Some(BootKind::Disk) { Product::Disk } else { of_kernel };
                            return Some((choice.image.clone(), product));
                        }
                        let recipe = recipe_of(self.catalog, &choice.image, isa, variant)?;
                        let recipe = match addition {
                            Some(addition) => self.catalog.with_addition(recipe.name(), addition)?,
                            None => recipe,
                        };
                        let product = if recipe.disk().is_some() { Product::Disk } else { of_kernel };
                        Some((recipe.name().to_owned(), product))
                    };
                    let runs_already =
                        this_machine.is_some() || spec.system.is_emulator() || spec.system.around;
                    let (recipe, others) = if runs_already {
                        (None, Vec::new())
                    } else {
                        let others = self.matrix.other_images(
                            &spec.system,
                            cell.architecture,
                            &self.supply.fitting(cell, spec, metal),
                            permitted,
                            &choice,
                        );
                        let others = others.into_iter().filter_map(|choice| {
                            Some(Alternative { boots: boots(&choice)?, choice: self.marked(choice, spec) })
                        });
                        (boots(&choice), others.collect())
                    };
                    let is_outermost = levels.iter().all(|level: &PlannedLevel| level.boots.is_none());
                    let of_disk = recipe.as_ref().and_then(|(name, _)| self.catalog.get(name)?.disk());
                    let of_scenario = spec.settings.hardware.tpm.is_some();
                    let has_tpm = of_scenario || of_disk.is_some_and(|disk| disk.hardware().tpm.is_some());
                    // What a scenario asks of emulated metal is checked without images.
                    let no_tpm = no_tpm(cell.architecture, spec.level, metal)
                        .filter(|_| has_tpm && !(of_scenario && metal == Metal::Emulated));
                    let swtpm = match no_tpm {
                        Some(why) if metal == Metal::Native => Err(SkipReason::NativeMetal { why }),
                        Some(why) => Err(SkipReason::EmulatedMetal { why }),
                        None if has_tpm => self.swtpm(isa, is_outermost),
                        None => Ok(None),
                    };
                    let other_qemu = self.other_qemu(cell, spec, metal, permitted);
                    match (self.firmware(spec, isa), swtpm, other_qemu) {
                        (Ok(firmware), Ok(swtpm), Ok(other_qemu)) => {
                            let (choice, boots) = (self.marked(choice, spec), recipe);
                            let spec = spec.clone();
                            levels.push(PlannedLevel {
                                spec,
                                choice,
                                boots,
                                firmware,
                                swtpm,
                                other_qemu,
                                others,
                            });
                        }
                        (firmware, swtpm, other_qemu) => {
                            let why = [firmware.err(), swtpm.err(), other_qemu.err()];
                            reasons.extend(why.into_iter().flatten());
                        }
                    }
                }
                Err(reason) => {
                    let same =
                        reasons.iter_mut().find(|known| known.without_levels() == reason.without_levels());
                    match same {
                        Some(SkipReason::NoImage { levels, .. }) => levels.push(spec.level),
                        _ => reasons.push(reason),
                    }
                }
            }
        }
        reasons.extend(self.without_suite(cell));
        reasons.extend(self.without_payload(cell));
        reasons.extend(self.without_guest(cell));
        if reasons.is_empty() { Ok(levels) } else { Err(reasons) }
    }

    /// The image of the firmware that the scenario sets for a level, if it sets UEFI.
    fn firmware(&self, spec: &LevelSpec, isa: Isa) -> Result<Option<(String, Product)>, SkipReason> {
        // Hyper-V has its own firmware. The image has the program that starts a unified kernel.
        let is_by_hyper_v = spec.settings.launch() == Launch::HyperV;
        if !is_by_hyper_v && spec.firmware.is_none_or(|firmware| firmware == Firmware::Default) {
            return Ok(None);
        }
        let recipe =
            self.catalog.uefi(isa).filter(|recipe| self.catalog.unbuildable(recipe.name()).is_none());
        match recipe {
            Some(recipe) => Ok(Some((recipe.name().to_owned(), Product::Firmware))),
            None => Err(SkipReason::NoFirmware { isa: isa.to_string() }),
        }
    }

    /// The image of the swtpm that plays the TPM of a level: on this machine for the outermost one, in the level around for others.
    fn swtpm(&self, isa: Isa, is_outermost: bool) -> Result<Option<(String, Product)>, SkipReason> {
        let no_swtpm = |why: String| SkipReason::NoSwtpm { why };
        if is_outermost {
            let source = emulator_source(self.catalog, SWTPM).map_err(|e| no_swtpm(e.to_string()))?;
            return Ok(source.recipe().map(|recipe| (recipe.to_owned(), Product::Emulator)));
        }
        let recipe = self.catalog.packed_emulator(SWTPM, isa);
        let recipe = recipe.ok_or_else(|| no_swtpm(format!("no recipe for {SWTPM} in levels of {isa}")))?;
        match self.catalog.unbuildable(recipe.name()) {
            Some(why) => Err(no_swtpm(format!("no {SWTPM} for levels: the image {} {why}", recipe.name()))),
            None => Ok(Some((recipe.name().to_owned(), Product::Emulator))),
        }
    }

    /// Supposes an image of the exact system that a level requires. A system that can't be a level still has none.
    fn supposed(&self, spec: &LevelSpec, isa: Isa) -> Result<ImageChoice, SkipReason> {
        let is_level = |system: &System| system.id != spec.system.system || system.no_machine.is_none();
        if self.matrix.systems().iter().all(is_level) {
            return Ok(ImageChoice::product(spec.system.slug()));
        }
        let missing = Box::new(MissingImage::NoImage { requirement: spec.system.clone() });
        Err(SkipReason::NoImage { levels: vec![spec.level], isa: isa.to_string(), missing })
    }
}

/// This machine's own system as the level that the machine is, if it is the one that the scenario requires or stands in for it.
fn native_choice(
    native: &NativeMetal,
    spec: &LevelSpec,
    architecture: Architecture,
    matrix: &Matrix,
    permitted: Permitted<'_>,
) -> Result<ImageChoice, String> {
    if spec.system.is_emulator() {
        return Err(format!("{} is an emulator, and native metal does without one", spec.system));
    }
    let image = native.image().ok_or_else(|| native.unknown_system())?;
    let name = image.name.clone();
    matrix.image_for(&spec.system, architecture, &[image], permitted).map_err(|missing| {
        let forbidden = missing.what_forbids(&name).map_or(String::new(), |what| format!(", {what}"));
        format!("needs {}: this machine runs {}{forbidden}", spec.system, native.system)
    })
}

/// The images that stacks can boot: for each architecture those whose recipe makes levels and can be built here, by the names of
/// the scenario model (`debian-13`).
pub fn supply(catalog: &Catalog) -> Supply {
    let images = |architecture: Architecture, variant: Option<&str>| {
        let recipes = recipes_for(catalog, architecture.isa(), variant);
        let buildable = recipes.filter(|recipe| catalog.unbuildable(recipe.name()).is_none());
        buildable.filter_map(|recipe| available_image(recipe, catalog)).collect()
    };
    let unbuildable = |architecture: Architecture, variant: Option<&str>| {
        let recipes = recipes_for(catalog, architecture.isa(), variant);
        let unbuildable = recipes.flat_map(|recipe| {
            let as_it_is = catalog.unbuildable(recipe.name()).map(|why| (Vec::new(), why.to_string()));
            let in_roles = roles(recipe, catalog).filter_map(|(role, why)| Some((vec![role], why?)));
            as_it_is.into_iter().chain(in_roles).filter_map(|(roles, why)| {
                let image = AvailableImage { roles, ..available_image(recipe, catalog)? };
                Some(UnbuildableImage { image, why })
            })
        });
        unbuildable.collect()
    };
    let catalog = catalog.clone();
    let on_metal = |architecture: Architecture| ArchInfo::of(architecture).metal.variant();
    Supply::new(|architecture| images(architecture, None))
        .on_metal(|architecture| images(architecture, on_metal(architecture)))
        .with_unbuildable(
            |architecture| unbuildable(architecture, None),
            |architecture| unbuildable(architecture, on_metal(architecture)),
        )
        .barring(move |cell| match &cell.no_machine {
            Some(why) => Some(no_machine(why)),
            None => why_barred(cell).or_else(|| Some(no_emulator(cell, &catalog)?.to_string())),
        })
}

/// The recipes that make levels of this instruction set and variant.
fn recipes_for<'c>(
    catalog: &'c Catalog,
    isa: Isa,
    variant: Option<&str>,
) -> impl Iterator<Item = &'c Recipe> {
    catalog.recipes().filter(move |recipe| {
        let makes_levels = recipe.products().into_iter().any(is_level);
        // A disk has the vendor's kernel, which is for every metal that has disks.
        makes_levels && recipe.isa() == isa && (recipe.is_variant(variant) || recipe.disk().is_some())
    })
}

/// Whether a level boots a product of this kind.
fn is_level(product: Product) -> bool {
    match product {
        Product::Hypervisor | Product::Minimal | Product::Disk => true,
        Product::Emulator | Product::Firmware => false,
    }
}

fn available_image(recipe: &Recipe, catalog: &Catalog) -> Option<AvailableImage> {
    let os = recipe.os()?;
    let version: Version = os.version.parse().ok()?;
    let (name, system) = (format!("{}-{}", os.id, os.version), os.id.clone());
    // Offline, the image itself may be in the cache and the one with an addition not.
    let has = |addition: &Addition| {
        let with = catalog.with_addition(recipe.name(), addition.word());
        with.is_some_and(|with| catalog.unbuildable(with.name()).is_none())
    };
    let additions = Addition::ALL.iter().copied().filter(has).collect();
    let can_be_prepared = |(role, why): (Role, Option<String>)| why.is_none().then_some(role);
    let roles = roles(recipe, catalog).filter_map(can_be_prepared).collect();
    Some(match recipe.disk() {
        None => AvailableImage {
            name,
            system,
            version,
            boots: BootKind::Kernel,
            additions,
            roles,
            innermost_only: None,
        },
        Some(disk) => {
            let why = recipe.innermost_only(catalog.prepared(recipe.name()));
            // What a Windows can host is a matter of its role.
            let why = why.filter(|_| disk.role().is_none());
            let innermost_only = why.map(|why| match why.remedy() {
                Some(remedy) => format!("{why} (`{remedy}`)"),
                None => why.to_string(),
            });
            AvailableImage {
                name: format!("{name}-disk"),
                system,
                version,
                boots: BootKind::Disk,
                additions,
                roles,
                innermost_only,
            }
        }
    })
}

/// The roles that the Windows of a recipe can have, each with what keeps it from being prepared for that role, if anything does.
fn roles<'c>(
    recipe: &'c Recipe,
    catalog: &'c Catalog,
) -> impl Iterator<Item = (Role, Option<String>)> + use<'c> {
    Role::ALL.iter().filter_map(|role| {
        let with = catalog.with_addition(recipe.name(), role.word())?;
        let disk = with.disk()?;
        let has = |name: &String| disk.medium().user_files().any(|(given, _)| given == name);
        let file = disk.role()?.files().iter().find(|name| !has(name));
        let no_file = file.map(|file| {
            let (role, medium) = (role.name(), disk.medium().name());
            format!(
                "has no file {file}, which {role} needs (`{PROGRAM} media add {medium} ... --file {file}=PATH` adds it)"
            )
        });
        Some((*role, catalog.unbuildable(with.name()).map(ToString::to_string).or(no_file)))
    })
}

/// The recipe of an image that was chosen. Of several, it is one that can be built here.
pub(super) fn recipe_of<'c>(
    catalog: &'c Catalog,
    image: &str,
    isa: Isa,
    variant: Option<&str>,
) -> Option<&'c Recipe> {
    recipes_for(catalog, isa, variant).find(|recipe| {
        catalog.unbuildable(recipe.name()).is_none()
            && available_image(recipe, catalog).is_some_and(|available| available.name == image)
    })
}
