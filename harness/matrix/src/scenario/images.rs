//! Chooses the image that a level boots: one of the exact system that the document names, otherwise a rebuild of it, otherwise a
//! stand-in. If none of these is available, the cell is skipped, and the reason names the missing image.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use nestmatrix_model::{Architecture, BootKind, Fidelity, LevelNumber, Version, Word};
use nestmatrix_stack::Metal;

use super::addition::{self, Addition};
use super::boot_kind::{boots_in, why_no_disk};
use super::cell::Cell;
use super::level::LevelSpec;
use super::matrix::Matrix;
use super::missing_image::MissingImage;
use super::permitted::{Permitted, StandIns};
use super::role::Role;
use super::stand_in::StandIn;
use super::system::SystemRequirement;

/// An image with a recipe, as far as matching needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailableImage {
    /// Its name, such as `debian-13` or `almalinux-9.4`.
    pub name: String,
    /// The id of the system in it.
    pub system: String,
    /// That system's version.
    pub version: Version,
    /// What it boots.
    pub boots: BootKind,
    /// The additions that there is one of it with.
    pub additions: Vec<Addition>,
    /// The roles of Windows that there is one of it with.
    pub roles: Vec<Role>,
    /// Why a level that boots it can't run guests, if so, as the rest of a sentence about it: "it has no QEMU".
    pub innermost_only: Option<String>,
}

/// The image of a level that is an emulator's own hypervisor. Nothing is booted for it: the emulator itself is the level.
const EMULATOR: &str = "emulator";

/// An image that has a recipe, but can't be built on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnbuildableImage {
    /// The image.
    pub image: AvailableImage,
    /// Why not, as the rest of a sentence about it: "is made of Debian packages, and this machine has no apt-get".
    pub why: String,
}

/// Something about the levels of each architecture.
#[derive(Debug, Clone)]
struct ByLevel<T> {
    of_guests: BTreeMap<Architecture, Vec<T>>,
    /// Of L0 on emulated metal, which may need other variants of the images.
    on_metal: BTreeMap<Architecture, Vec<T>>,
}

fn by_architecture<T>(of: impl Fn(Architecture) -> Vec<T>) -> BTreeMap<Architecture, Vec<T>> {
    Architecture::ALL.iter().map(|architecture| (*architecture, of(*architecture))).collect()
}

impl<T> ByLevel<T> {
    fn of(&self, architecture: Architecture, level: LevelNumber) -> &[T] {
        let all = if level == LevelNumber::ALL[0] { &self.on_metal } else { &self.of_guests };
        all.get(&architecture).map_or(&[], Vec::as_slice)
    }
}

/// Why a cell can't be booted, whatever images there are.
type Bar = dyn Fn(&Cell) -> Option<String>;

/// The images that stacks can boot.
#[derive(Clone)]
pub struct Supply {
    available: ByLevel<AvailableImage>,
    unbuildable: ByLevel<UnbuildableImage>,
    bar: Rc<Bar>,
}

impl fmt::Debug for Supply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { available, unbuildable, bar: _ } = self;
        f.debug_struct("Supply")
            .field("available", available)
            .field("unbuildable", unbuildable)
            .finish_non_exhaustive()
    }
}

impl Supply {
    /// `of` returns the images of each architecture.
    pub fn new(of: impl Fn(Architecture) -> Vec<AvailableImage>) -> Self {
        let of_guests = by_architecture(of);
        Self {
            available: ByLevel { on_metal: of_guests.clone(), of_guests },
            unbuildable: ByLevel { on_metal: BTreeMap::new(), of_guests: BTreeMap::new() },
            bar: Rc::new(|_| None),
        }
    }

    /// The same, with these images for an L0 on emulated metal.
    pub fn on_metal(mut self, of: impl Fn(Architecture) -> Vec<AvailableImage>) -> Self {
        self.available.on_metal = by_architecture(of);
        self
    }

    /// The same, with images that can't be built on this machine: those of guests, and those of an L0 on emulated metal.
    pub fn with_unbuildable(
        mut self,
        of_guests: impl Fn(Architecture) -> Vec<UnbuildableImage>,
        on_metal: impl Fn(Architecture) -> Vec<UnbuildableImage>,
    ) -> Self {
        self.unbuildable =
            ByLevel { of_guests: by_architecture(of_guests), on_metal: by_architecture(on_metal) };
        self
    }

    /// The same, with a function `bar` that returns why a cell can't be booted, whatever images there are.
    pub fn barring(self, bar: impl Fn(&Cell) -> Option<String> + 'static) -> Self {
        Self { bar: Rc::new(bar), ..self }
    }

    /// Why a cell can't be booted, whatever images there are, if so.
    pub fn bar(&self, cell: &Cell) -> Option<String> {
        (self.bar)(cell)
    }

    /// The images for this level of stacks of this architecture.
    pub fn of(&self, architecture: Architecture, level: LevelNumber) -> &[AvailableImage] {
        self.available.of(architecture, level)
    }

    /// The images that this level of a cell can boot on this metal, as far as the scenario's other settings of the level say.
    pub fn fitting(&self, cell: &Cell, spec: &LevelSpec, metal: Metal) -> Vec<AvailableImage> {
        let mut fitting = self.fitting_without_additions(cell, spec, metal);
        let needed = cell.additions(spec.level);
        fitting.retain(|image| addition::suffices(&image.additions, &needed));
        fitting
    }

    /// The same, whatever its image must have in addition.
    fn fitting_without_additions(&self, cell: &Cell, spec: &LevelSpec, metal: Metal) -> Vec<AvailableImage> {
        let hosts = spec.level < cell.innermost();
        let fits = |image: &&AvailableImage| {
            boots_in(image, cell, spec, metal) && !(hosts && image.innermost_only.is_some())
        };
        self.of(cell.architecture, spec.level).iter().filter(fits).cloned().collect()
    }

    /// Every image of an architecture, each once.
    pub fn images(&self, architecture: Architecture) -> Vec<&AvailableImage> {
        let mut images: Vec<&AvailableImage> = Vec::new();
        let ByLevel { of_guests, on_metal } = &self.available;
        for image in [of_guests, on_metal].into_iter().filter_map(|of| of.get(&architecture)).flatten() {
            if !images.contains(&image) {
                images.push(image);
            }
        }
        images
    }
}

/// The image that a level boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageChoice {
    /// The image's name; `emulator` where an emulator is itself the level, and the system's id for an L0 around this machine.
    pub image: String,
    /// How near it is to the required system.
    pub fidelity: Fidelity,
    /// Why it is used; nothing for an image of the system itself.
    pub reason: Option<String>,
}

impl ImageChoice {
    /// An image of the required system itself.
    pub(crate) fn product(image: impl Into<String>) -> Self {
        Self { image: image.into(), fidelity: Fidelity::Product, reason: None }
    }
}

/// An available image that can serve a level.
struct Candidate<'a> {
    image: &'a str,
    fidelity: Fidelity,
    reason: Option<Cow<'a, str>>,
}

impl Candidate<'_> {
    fn choice(&self) -> ImageChoice {
        ImageChoice {
            image: self.image.to_owned(),
            fidelity: self.fidelity,
            reason: self.reason.as_deref().map(str::to_owned),
        }
    }
}

impl Matrix {
    /// The image for a level of a cell on this metal.
    ///
    /// # Errors
    /// What is missing, if no permitted image can serve the level; or why the nearest permitted one is of no use on this machine.
    pub fn image_from(
        &self,
        supply: &Supply,
        cell: &Cell,
        spec: &LevelSpec,
        metal: Metal,
        permitted: Permitted<'_>,
    ) -> Result<ImageChoice, MissingImage> {
        let available = &supply.fitting(cell, spec, metal);
        let found = self.image_for(&spec.system, cell.architecture, available, permitted);
        found.map_err(|missing| {
            // The images that it would have if additions did not matter.
            let any = supply.fitting_without_additions(cell, spec, metal);
            let needed = cell.additions(spec.level);
            let missing = match self.image_for(&spec.system, cell.architecture, &any, permitted) {
                Ok(ImageChoice { image, .. }) => {
                    return addition::missing(&needed, spec.system.clone(), image);
                }
                Err(of_any) if !needed.is_empty() => of_any,
                Err(_) => missing,
            };
            self.why_missing(supply, cell, spec, metal, permitted).unwrap_or(missing)
        })
    }

    /// Why the nearest image for a level of a cell is of no use there, if there is one.
    fn why_missing(
        &self,
        supply: &Supply,
        cell: &Cell,
        spec: &LevelSpec,
        metal: Metal,
        permitted: Permitted<'_>,
    ) -> Option<MissingImage> {
        let requirement = spec.system.clone();
        let needs_disk = spec.boots == Some(BootKind::Disk);
        let is_windows = spec.system.is_windows();
        if let Some(why) = why_no_disk(cell, spec, metal).filter(|_| needs_disk || is_windows) {
            return Some(MissingImage::NoDisk { requirement, why: Some(why.to_owned()) });
        }
        let nearest = |images: &[AvailableImage]| {
            Some(self.image_for(&requirement, cell.architecture, images, permitted).ok()?.image)
        };
        let mut for_guests = supply.of(cell.architecture, spec.level).to_vec();
        for_guests.retain(|image| image.innermost_only.is_some() && boots_in(image, cell, spec, metal));
        if let Some(image) = nearest(&for_guests).filter(|_| spec.level < cell.innermost()) {
            let why = for_guests.into_iter().find(|one| one.name == image)?.innermost_only?;
            return Some(MissingImage::InnermostOnly { requirement, image, why });
        }
        let mut unbuildable = supply.unbuildable.of(cell.architecture, spec.level).to_vec();
        unbuildable.retain(|one| boots_in(&one.image, cell, spec, metal));
        let images: Vec<AvailableImage> = unbuildable.iter().map(|one| one.image.clone()).collect();
        if let Some(image) = nearest(&images) {
            let why = unbuildable.into_iter().find(|one| one.image.name == image)?.why;
            return Some(MissingImage::Unbuildable { requirement, image, why });
        }
        (needs_disk && !is_windows).then_some(MissingImage::NoDisk { requirement, why: None })
    }

    /// The image for a level of a stack of this architecture: the nearest permitted one. Of several images of the system itself it is
    /// the one with the lowest version, which is nearest to the version that the document names, and so with rebuilds. Of several
    /// stand-ins it is the first available one, and those for an exact minor version come before those for the major version.
    ///
    /// # Errors
    /// What is missing, if no permitted image can serve the level.
    pub fn image_for(
        &self,
        requirement: &SystemRequirement,
        architecture: Architecture,
        available: &[AvailableImage],
        permitted: Permitted<'_>,
    ) -> Result<ImageChoice, MissingImage> {
        if requirement.is_emulator() {
            return Ok(ImageChoice::product(EMULATOR));
        }
        if requirement.around {
            return Ok(ImageChoice::product(requirement.slug()));
        }
        let candidates = self.candidates(requirement, architecture, available);
        match candidates.iter().find(|candidate| permitted.permits(candidate.fidelity)) {
            Some(nearest) => Ok(nearest.choice()),
            None => Err(self.missing(requirement, architecture, &candidates, permitted)),
        }
    }

    /// The other images that can serve the level if `chosen` can't be built, the next best first.
    pub fn other_images(
        &self,
        requirement: &SystemRequirement,
        architecture: Architecture,
        available: &[AvailableImage],
        permitted: Permitted<'_>,
        chosen: &ImageChoice,
    ) -> Vec<ImageChoice> {
        let candidates = self.candidates(requirement, architecture, available);
        let later = candidates.iter().skip_while(|candidate| candidate.image != chosen.image).skip(1);
        later.filter(|candidate| permitted.permits(candidate.fidelity)).map(Candidate::choice).collect()
    }

    /// Every available image that can serve a level, the nearest first, whether it is permitted or not.
    fn candidates<'a>(
        &'a self,
        requirement: &SystemRequirement,
        architecture: Architecture,
        available: &'a [AvailableImage],
    ) -> Vec<Candidate<'a>> {
        let versions = available.iter().filter_map(|image| Some((self.fidelity(requirement, image)?, image)));
        let mut versions: Vec<(Fidelity, &AvailableImage)> = versions.collect();
        // An image made of packages is as near as a disk, and boots in a tenth of the time.
        versions.sort_by_key(|(fidelity, image)| (*fidelity, image.version, image.boots, &image.name));
        let of_version = |(fidelity, image): (Fidelity, &'a AvailableImage)| {
            let rebuild = || Cow::Owned(format!("a rebuild of {} {}", requirement.name, image.version));
            let reason = (fidelity == Fidelity::Rebuild).then(rebuild);
            Candidate { image: &image.name, fidelity, reason }
        };
        let mut candidates: Vec<Candidate<'a>> = versions.into_iter().map(of_version).collect();
        for StandIn { image, reason, .. } in self.nearest_stand_ins(requirement, architecture) {
            let is_new = candidates.iter().all(|candidate| candidate.image != image);
            if is_new && available.iter().any(|available| available.name == *image) {
                let reason = Some(Cow::Borrowed(reason.as_str()));
                candidates.push(Candidate { image, fidelity: Fidelity::StandIn, reason });
            }
        }
        candidates
    }

    /// Whether an image is one of the required system, or of a rebuild of it. Versions count in both cases, since a rebuild has those
    /// of its original.
    fn fidelity(&self, requirement: &SystemRequirement, image: &AvailableImage) -> Option<Fidelity> {
        if requirement.satisfied_with(&image.system, &image.version, &image.roles) {
            return Some(Fidelity::Product);
        }
        let original = self.systems().iter().find(|system| system.id == image.system)?.rebuild_of.as_ref()?;
        requirement.satisfied_by(original, &image.version).then_some(Fidelity::Rebuild)
    }

    /// Why none of these candidates serves a level.
    fn missing(
        &self,
        requirement: &SystemRequirement,
        architecture: Architecture,
        candidates: &[Candidate<'_>],
        permitted: Permitted<'_>,
    ) -> MissingImage {
        let first = |fidelity| candidates.iter().find(move |candidate| candidate.fidelity == fidelity);
        let first = |fidelity| first(fidelity).map(|candidate| candidate.image.to_owned());
        let stand_in = first(Fidelity::StandIn);
        if let Some(rebuild) = first(Fidelity::Rebuild) {
            let stand_in = stand_in.filter(|_| permitted.stand_ins == StandIns::DeniedByUser);
            return MissingImage::RebuildDenied { requirement: requirement.clone(), rebuild, stand_in };
        }
        let unavailable = || Some(self.nearest_stand_ins(requirement, architecture).first()?.image.clone());
        let stand_in = stand_in.or_else(unavailable);
        let requirement = requirement.clone();
        match (stand_in, permitted.stand_ins) {
            (None, _) if requirement.is_windows() => MissingImage::NoMedium { requirement },
            (None, _) => MissingImage::NoImage { requirement },
            (Some(stand_in), StandIns::DeniedByScenario(reason)) => {
                MissingImage::StandInUnfit { requirement, stand_in, reason: reason.to_owned() }
            }
            (Some(stand_in), StandIns::DeniedByUser) => MissingImage::StandInDenied { requirement, stand_in },
            // An available one would serve the level.
            (Some(stand_in), StandIns::Allowed) => MissingImage::StandInUnavailable { requirement, stand_in },
        }
    }

    /// The stand-ins for a system, of the lowest major version that meets the requirement, the nearest first.
    fn nearest_stand_ins(
        &self,
        requirement: &SystemRequirement,
        architecture: Architecture,
    ) -> Vec<&StandIn> {
        let serving = self.stand_ins().iter().filter(|stand_in| stand_in.serves(requirement, architecture));
        let mut serving: Vec<&StandIn> = serving.collect();
        let nearest = serving.iter().map(|stand_in| stand_in.version.major).min();
        serving.retain(|stand_in| Some(stand_in.version.major) == nearest);
        // The sort is stable, so it keeps the order of the file.
        serving.sort_by_key(|stand_in| stand_in.rank());
        serving
    }
}
