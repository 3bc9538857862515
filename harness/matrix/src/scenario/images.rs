//! Chooses the image that a level boots: one of the exact system that the document names, otherwise a stand-in. If there is
//! neither, the cell is skipped, and the reason names the missing image.

use std::collections::BTreeMap;

use nestmatrix_model::{Architecture, Version, Word};
use serde::{Deserialize, Serialize};

use super::cell::Cell;
use super::matrix::Matrix;
use super::system::{StandIn, SystemRequirement};

/// An image with a recipe, as far as matching needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvailableImage {
    /// Its name, such as `debian-13`.
    pub name: String,
    /// The id of the system in it.
    pub system: String,
    /// That system's version.
    pub version: Version,
}

/// The image of a level that is an emulator's own hypervisor. Nothing is booted for it: the emulator itself is the level.
const EMULATOR: &str = "emulator";

/// The images that stacks can boot.
#[derive(Debug, Clone)]
pub struct Supply {
    by_architecture: BTreeMap<Architecture, Vec<AvailableImage>>,
    bar: fn(&Cell) -> Option<String>,
}

impl Supply {
    /// `of` returns the images of each architecture.
    pub fn new(of: impl Fn(Architecture) -> Vec<AvailableImage>) -> Self {
        let of = |architecture: &Architecture| (*architecture, of(*architecture));
        Self { by_architecture: Architecture::ALL.iter().map(of).collect(), bar: |_| None }
    }

    /// The same, with a function `bar` that returns why a cell can't be booted, whatever images there are.
    pub fn barring(self, bar: fn(&Cell) -> Option<String>) -> Self {
        Self { bar, ..self }
    }

    /// Why a cell can't be booted, whatever images there are, if so.
    pub fn bar(&self, cell: &Cell) -> Option<String> {
        (self.bar)(cell)
    }

    /// The images for stacks of this architecture.
    pub fn of(&self, architecture: Architecture) -> &[AvailableImage] {
        self.by_architecture.get(&architecture).map_or(&[], Vec::as_slice)
    }
}

/// The image that a level boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageChoice {
    /// The image's name; `emulator` where an emulator is itself the level.
    pub image: String,
    /// Whether the image stands in for the required system.
    pub stand_in: bool,
    /// Why this stand-in is used; nothing for an image of the system itself.
    pub reason: Option<String>,
}

/// Whether an image may stand in for the required system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandIns<'a> {
    /// It may.
    Allowed,
    /// The user denies stand-ins (`--deny-stand-ins`).
    DeniedByUser,
    /// The scenario denies stand-ins, for this reason: a stand-in would show nothing about its claims.
    DeniedByScenario(&'a str),
}

impl<'a> StandIns<'a> {
    /// Whether they may be used for `cell`; `user_denies` is the user's choice. The scenario's reason comes first, since it
    /// holds without the user's choice as well.
    pub fn of(cell: &'a Cell, user_denies: bool) -> Self {
        match &cell.deny_stand_ins {
            Some(reason) => Self::DeniedByScenario(reason),
            None if user_denies => Self::DeniedByUser,
            None => Self::Allowed,
        }
    }
}

/// Why a level has no image, so that its cell is skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "missing", rename_all = "kebab-case")]
pub enum MissingImage {
    /// Neither an image nor a stand-in.
    #[error("no image of {}, and no stand-in", .requirement.wanted())]
    NoImage {
        /// The required system.
        requirement: SystemRequirement,
    },
    /// A stand-in, but the user denies stand-ins.
    #[error("no image of {}: only the stand-in {stand_in}, which --deny-stand-ins forbids", .requirement.wanted())]
    StandInDenied {
        /// The required system.
        requirement: SystemRequirement,
        /// The stand-in's image.
        stand_in: String,
    },
    /// A stand-in, but the scenario denies stand-ins.
    #[error("no image of {}: only the stand-in {stand_in}, which the scenario denies ({reason})", .requirement.wanted())]
    StandInUnfit {
        /// The required system.
        requirement: SystemRequirement,
        /// The stand-in's image.
        stand_in: String,
        /// The scenario's reason.
        reason: String,
    },
    /// A stand-in whose image is not among those available.
    #[error("no image of {}: only the stand-in {stand_in}, for which there is no recipe", .requirement.wanted())]
    StandInUnavailable {
        /// The required system.
        requirement: SystemRequirement,
        /// The stand-in's image.
        stand_in: String,
    },
}

impl Matrix {
    /// The image for a level of a stack of this architecture. Of several that satisfy the requirement it is the one with the lowest
    /// version, which is nearest to the one that the document names. Of several stand-ins for a major version it is the first available.
    ///
    /// # Errors
    /// What is missing, if no image satisfies the requirement and no stand-in may be used for it.
    pub fn image_for(
        &self,
        requirement: &SystemRequirement,
        architecture: Architecture,
        available: &[AvailableImage],
        stand_ins: StandIns<'_>,
    ) -> Result<ImageChoice, MissingImage> {
        if requirement.is_emulator() {
            return Ok(ImageChoice { image: EMULATOR.to_owned(), stand_in: false, reason: None });
        }
        let real = available
            .iter()
            .filter(|image| requirement.satisfied_by(&image.system, &image.version))
            .min_by_key(|image| (image.version, &image.name));
        if let Some(AvailableImage { name, .. }) = real {
            return Ok(ImageChoice { image: name.clone(), stand_in: false, reason: None });
        }
        let to_be_had = |image: &str| available.iter().any(|available| available.name == image);
        let nearest = || self.nearest_stand_ins(requirement, architecture);
        let stand_in = nearest().find(|stand_in| to_be_had(&stand_in.image)).or_else(|| nearest().next());
        let Some(StandIn { image, reason, .. }) = stand_in else {
            return Err(MissingImage::NoImage { requirement: requirement.clone() });
        };
        let stand_in = image.clone();
        // Cloned only for errors, since a matrix has many levels.
        let requirement = || requirement.clone();
        match stand_ins {
            StandIns::DeniedByScenario(reason) => Err(MissingImage::StandInUnfit {
                requirement: requirement(),
                stand_in,
                reason: reason.to_owned(),
            }),
            StandIns::DeniedByUser => {
                Err(MissingImage::StandInDenied { requirement: requirement(), stand_in })
            }
            StandIns::Allowed if !to_be_had(&stand_in) => {
                Err(MissingImage::StandInUnavailable { requirement: requirement(), stand_in })
            }
            StandIns::Allowed => {
                Ok(ImageChoice { image: stand_in, stand_in: true, reason: Some(reason.clone()) })
            }
        }
    }

    /// Other images that can stand in for the system if `chosen` is a stand-in, in the order of the file. None if `chosen` is the
    /// system itself.
    pub fn other_stand_ins(
        &self,
        requirement: &SystemRequirement,
        architecture: Architecture,
        available: &[AvailableImage],
        stand_ins: StandIns<'_>,
        chosen: &ImageChoice,
    ) -> Vec<ImageChoice> {
        if !chosen.stand_in || stand_ins != StandIns::Allowed {
            return Vec::new();
        }
        let others = self.nearest_stand_ins(requirement, architecture).filter(|stand_in| {
            stand_in.image != chosen.image && available.iter().any(|image| image.name == stand_in.image)
        });
        let choice = |stand_in: &StandIn| ImageChoice {
            image: stand_in.image.clone(),
            stand_in: true,
            reason: Some(stand_in.reason.clone()),
        };
        others.map(choice).collect()
    }

    /// The stand-ins for a system, of the lowest major version that meets the requirement.
    fn nearest_stand_ins(
        &self,
        requirement: &SystemRequirement,
        architecture: Architecture,
    ) -> impl Iterator<Item = &StandIn> {
        let serving = move || {
            self.stand_ins().iter().filter(move |stand_in| stand_in.serves(requirement, architecture))
        };
        let nearest = serving().map(|stand_in| stand_in.major).min();
        serving().filter(move |stand_in| Some(stand_in.major) == nearest)
    }
}
