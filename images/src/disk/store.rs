//! Prepared disks in the store: looks them up, and begins the preparation of those that are missing.

use super::preparation::{Begun, Draft, Preparation};
use crate::build::{Build, Materials};
use crate::cache::{Entry, Reference};
use crate::digest::Hasher;
use crate::media::QemuImg;
use crate::progress::{Reporter, Step};
use crate::store::{Found, verified};
use crate::uefi::UefiFiles;
use crate::{Catalog, DiskPackages, Error, FirmwareSource, Image, Product, Progress, Recipe, Store};
use nestmatrix_model::Firmware;

impl Store {
    /// A prepared disk in the cache, verified together with its medium.
    ///
    /// # Errors
    /// [`Error::NotPrepared`] if it is missing or damaged, [`Error::Medium`] if the medium has changed.
    pub(crate) fn prepared(&self, recipe: &Recipe, progress: &dyn Progress) -> Result<Image, Error> {
        let reporter = Reporter { recipe: recipe.name(), to: progress };
        self.find_prepared(recipe, reporter)?.ok_or_else(|| not_prepared(recipe))
    }

    fn find_prepared(&self, recipe: &Recipe, reporter: Reporter<'_>) -> Result<Option<Image>, Error> {
        let product = Product::Disk;
        let no_disk = || Error::NoSuchProduct { recipe: recipe.name().to_owned(), product };
        recipe.disk().ok_or_else(no_disk)?.medium().ensure_unchanged(reporter.to)?;
        match self.look_up(recipe, product)? {
            Found::Intact(image) => Ok(Some(verified(image, reporter))),
            Found::Damaged(reason) => {
                reporter.step(Step::Corrupted { product, reason: &reason });
                Ok(None)
            }
            Found::Nothing => Ok(None),
        }
    }

    /// Refuses to build a recipe whose image is made by booting a disk.
    pub(crate) fn refuse_disk(recipe: &Recipe) -> Result<(), Error> {
        if recipe.disk().is_some() { Err(not_prepared(recipe)) } else { Ok(()) }
    }

    /// Returns the prepared disk of a recipe from the cache, or a draft that has to be booted. Blocks while another process prepares
    /// it. Packages are downloaded, and emulators and firmware of `catalog` are built, as far as they are needed.
    ///
    /// # Errors
    /// [`Error::Medium`] if the medium has changed, [`Error::Offline`] if an offline store would need packages, or why they are not
    /// available.
    pub fn begin_preparation(
        &self,
        recipe: &Recipe,
        catalog: &Catalog,
        progress: &dyn Progress,
    ) -> Result<Begun, Error> {
        let reporter = Reporter { recipe: recipe.name(), to: progress };
        if let Some(image) = self.find_prepared(recipe, reporter)? {
            return Ok(Begun::Ready(Box::new(image)));
        }
        let lock = self.lock(recipe, reporter)?;
        // Another process may have prepared it since.
        if let Some(image) = self.find_prepared(recipe, reporter)? {
            return Ok(Begun::Ready(Box::new(image)));
        }
        let (cache, options) = self.parts();
        let disk = recipe.disk().ok_or_else(|| not_prepared(recipe))?;
        let firmware = self.firmware(recipe, disk.hardware().firmware, catalog, progress)?;
        let build = Build {
            recipe,
            cache,
            archive: options.archive.as_deref(),
            keyring: options.keyring.as_deref(),
            wrapper: &options.wrapper,
            reporter,
        };
        let materials = match disk.packages() {
            DiskPackages::None | DiskPackages::NoSource => Materials::none(),
            DiskPackages::Archive | DiskPackages::Source if options.offline => {
                return Err(Error::Offline { missing: vec![format!("packages of {}", recipe.name())] });
            }
            DiskPackages::Archive | DiskPackages::Source => {
                reporter.step(Step::Resolving);
                build.download()?
            }
        };
        let uefi_digest = firmware.as_ref().map_or("", |(_, source)| source.digest.as_str());
        let inputs = build.image_digest(Product::Disk, &materials);
        let digest = Hasher::new().field(inputs.as_str()).field(uefi_digest).finish();
        if let Some(record) = build.intact(&digest) {
            let mut reference = Reference::default();
            reference.products.insert(Product::Disk, Entry { image: digest, record });
            cache.refer(recipe, &reference)?;
            return Ok(Begun::Ready(Box::new(self.prepared(recipe, progress)?)));
        }
        reporter.step(Step::Packing { product: Product::Disk });
        let draft = Draft {
            store: self.again()?,
            recipe: recipe.clone(),
            tool: QemuImg::find(self, catalog, progress)?,
            digest,
            materials,
            uefi: firmware,
            folder: cache.fresh_building(recipe)?,
            lock,
        };
        let preparation = Preparation::write(draft)?;
        if disk.needs_preparation() {
            return Ok(Begun::Preparation(Box::new(preparation)));
        }
        Ok(Begun::Ready(Box::new(preparation.finish_unbooted()?)))
    }

    /// The firmware for a disk, and the image that it comes from; none if the machine's own firmware boots it.
    fn firmware(
        &self,
        recipe: &Recipe,
        firmware: Firmware,
        catalog: &Catalog,
        progress: &dyn Progress,
    ) -> Result<Option<(UefiFiles, FirmwareSource)>, Error> {
        if firmware == Firmware::Default {
            return Ok(None);
        }
        let missing = || Error::NoFirmware { recipe: recipe.name().to_owned(), firmware };
        let of_isa = catalog.uefi(recipe.isa()).ok_or_else(missing)?;
        let image = self.ensure(of_isa, Product::Firmware, progress)?;
        let files = image.uefi(firmware).ok_or_else(missing)?;
        Ok(Some((files, FirmwareSource::of(&image))))
    }
}

fn not_prepared(recipe: &Recipe) -> Error {
    let medium = recipe.disk().map_or_else(String::new, |disk| disk.medium().name());
    Error::NotPrepared { recipe: recipe.name().to_owned(), medium }
}
