//! What the image of a level must have in addition to that of its system: a level that starts another one by libvirt, is measured, or
//! has a crash kernel needs programs that others do not have.

use nestmatrix_model::{LevelNumber, Word};

use super::cell::Cell;
use super::missing_image::MissingImage;
use super::system::SystemRequirement;

/// An addition to images, by its name in the recipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addition {
    /// libvirt, which launches the level inside.
    Libvirt,
    /// The programs of benchmarks.
    Benchmarks,
    /// A crash kernel.
    Kdump,
}

impl Word for Addition {
    const WHAT: &'static str = "addition";
    const ALL: &'static [Self] = &[Self::Libvirt, Self::Benchmarks, Self::Kdump];

    fn word(self) -> &'static str {
        match self {
            Self::Libvirt => "libvirt",
            Self::Benchmarks => "benchmarks",
            Self::Kdump => "kdump",
        }
    }
}

impl Cell {
    /// The additions that the image of a level must have.
    pub fn additions(&self, level: LevelNumber) -> Vec<Addition> {
        let needs = |addition: &Addition| match addition {
            Addition::Libvirt => self.needs_libvirt(level),
            Addition::Benchmarks => self.needs_benchmarks(level),
            Addition::Kdump => self.has_crash_kernel(level),
        };
        Addition::ALL.iter().copied().filter(needs).collect()
    }

    fn has_crash_kernel(&self, level: LevelNumber) -> bool {
        self.levels.iter().any(|spec| spec.level == level && spec.settings.kdump.is_some())
    }
}

/// Whether an image that there is with `has` can have all of `needed`. No image has two additions.
pub(super) fn suffices(has: &[Addition], needed: &[Addition]) -> bool {
    match needed {
        [] => true,
        [addition] => has.contains(addition),
        _ => false,
    }
}

/// Why `image`, which would serve a level otherwise, does not have what is needed.
pub(super) fn missing(needed: &[Addition], requirement: SystemRequirement, image: String) -> MissingImage {
    match needed {
        [Addition::Libvirt, Addition::Benchmarks] => {
            MissingImage::NoBenchmarks { requirement, image, libvirt: true }
        }
        [Addition::Benchmarks] => MissingImage::NoBenchmarks { requirement, image, libvirt: false },
        [others @ .., Addition::Kdump] => {
            let others = others.iter().map(|addition| addition.word().to_owned()).collect();
            MissingImage::NoKdump { requirement, image, others }
        }
        _ => MissingImage::NoLibvirt { requirement, image },
    }
}
