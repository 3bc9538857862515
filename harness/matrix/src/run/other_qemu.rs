//! The other QEMU that a level can be migrated to: that of another image, which the level around gets in addition to its own.

use std::fs::File;
use std::io::Read as _;

use nestmatrix_images::{Image, Product};
use nestmatrix_model::BootKind;
use nestmatrix_stack::{MachineSettings, Metal, OtherQemuImage};

use super::fate::Planner;
use super::level_images::recipe_of;
use super::level_plan::name_with_digest;
use crate::records::SkipReason;
use crate::scenario::{Cell, ImageChoice, LevelSpec, Permitted};

/// How an archive begins that is not compressed (cpio(5), newc).
const UNCOMPRESSED: &[u8; 6] = b"070701";

/// The image that the other QEMU of a level comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedOtherQemu {
    /// The image.
    pub choice: ImageChoice,
    /// Its recipe and product.
    pub image: (String, Product),
}

impl Planner<'_> {
    /// Chooses the image of a level's other QEMU, if its scenario asks for one.
    pub(super) fn other_qemu(
        &self,
        cell: &Cell,
        spec: &LevelSpec,
        metal: Metal,
        permitted: Permitted<'_>,
    ) -> Result<Option<PlannedOtherQemu>, SkipReason> {
        let Some(system) = &spec.other_qemu else { return Ok(None) };
        if metal == Metal::Native && Some(spec.level) == cell.this_machine().next() {
            let why = format!("{} runs on this machine, which has one QEMU alone", spec.level);
            return Err(SkipReason::NativeMetal { why });
        }
        if self.options.suppose_images {
            let choice = ImageChoice::product(system.slug());
            let image = (choice.image.clone(), Product::Hypervisor);
            return Ok(Some(PlannedOtherQemu { choice, image }));
        }
        let isa = cell.architecture.isa();
        let as_level = LevelSpec {
            level: spec.level,
            system: system.clone(),
            settings: MachineSettings::default(),
            disk: false,
            boots: Some(BootKind::Kernel),
            firmware: None,
            other_qemu: None,
        };
        let missing = |missing| SkipReason::NoImage {
            levels: spec.level.below().into_iter().collect(),
            isa: isa.to_string(),
            missing: Box::new(missing),
        };
        let choice =
            self.matrix.image_from(&self.supply, cell, &as_level, metal, permitted).map_err(missing)?;
        let recipe = recipe_of(self.catalog, &choice.image, isa, None);
        Ok(recipe.map(|recipe| {
            let image = (recipe.name().to_owned(), Product::Hypervisor);
            PlannedOtherQemu { choice, image }
        }))
    }
}

/// What the level around gets of such an image.
pub(super) fn other_qemu_image(image: &Image) -> Result<OtherQemuImage, String> {
    let (Some(initramfs), Some(disk)) = (image.initramfs(), image.disk()) else {
        return Err(format!("image {} has no root file system with a QEMU", image.name()));
    };
    let mut begin = [0; UNCOMPRESSED.len()];
    let read = File::open(&initramfs).and_then(|mut file| file.read_exact(&mut begin));
    read.map_err(|e| format!("{}: {e}", initramfs.display()))?;
    if begin != *UNCOMPRESSED {
        return Err(format!("image {} is compressed, and levels can't unpack it", image.name()));
    }
    let bytes = disk.initramfs.end - disk.initramfs.start;
    let mib = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
    Ok(OtherQemuImage { name: name_with_digest(image), initramfs, disk, mib })
}
