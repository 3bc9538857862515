//! The interface to images: finds them in the cache, verifies them, builds them, and removes them.

use std::env;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::build::Build;
use crate::cache::{Cache, Cached, entries, remove};
use crate::progress::{Reporter, Step};
use crate::{Digest, Error, Image, Product, Progress, Recipe};

/// How a store works. Everything left out comes from the environment or the host.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// The cache folder. Default: `NESTMATRIX_CACHE`, `XDG_CACHE_HOME/nestmatrix` or `HOME/.cache/nestmatrix`, whichever is set
    /// first.
    pub cache: Option<PathBuf>,
    /// A folder of images that came with the program, laid out as the cache and never written. They are used where they are.
    pub shipped: Option<PathBuf>,
    /// Use the cache and the images that came with the program only, never the network.
    pub offline: bool,
    /// Address of the archive. Default: `NESTMATRIX_ARCHIVE`, or an archive from the host's apt configuration.
    pub archive: Option<String>,
    /// Keyring that verifies the archive. Default: `NESTMATRIX_KEYRING`, or the host's keyring that the recipe names.
    pub keyring: Option<PathBuf>,
    /// Words that go before every command, such as a wrapper that ends the command together with this process.
    pub wrapper: Vec<OsString>,
}

/// The images on this machine. While it is open, no other process can prune the cache.
#[derive(Debug)]
pub struct Store {
    pub(crate) cache: Cache,
    shipped: Option<Cache>,
    options: StoreOptions,
    pub(crate) in_use: File,
}

/// A product in the cache.
pub(crate) enum Found {
    Intact(Box<Image>),
    Damaged(String),
    Nothing,
}

impl Store {
    /// Opens the cache, and creates its folder if it is missing.
    ///
    /// # Errors
    /// [`Error::NoCache`] if no setting names the folder, [`Error::Io`] if it cannot be written.
    pub fn open(mut options: StoreOptions) -> Result<Self, Error> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let root = options
            .cache
            .take()
            .or_else(|| variable("NESTMATRIX_CACHE").map(PathBuf::from))
            .or_else(|| variable("XDG_CACHE_HOME").map(|folder| Path::new(&folder).join("nestmatrix")))
            .or_else(|| variable("HOME").map(|folder| Path::new(&folder).join(".cache/nestmatrix")))
            .ok_or(Error::NoCache)?;
        if options.archive.is_none() {
            options.archive =
                variable("NESTMATRIX_ARCHIVE").map(|value| value.to_string_lossy().into_owned());
        }
        if options.keyring.is_none() {
            options.keyring = variable("NESTMATRIX_KEYRING").map(PathBuf::from);
        }
        let cache = Cache::open(root)?;
        let shipped = options.shipped.clone().map(Cache::read_only);
        let in_use = cache.in_use()?;
        in_use.lock_shared().map_err(Error::io("lock", cache.root()))?;
        Ok(Self { cache, shipped, options, in_use })
    }

    /// The same store, open once more.
    pub(crate) fn again(&self) -> Result<Self, Error> {
        let Self { cache, options, .. } = self;
        Self::open(StoreOptions { cache: Some(cache.root().to_owned()), ..options.clone() })
    }

    /// The cache folder.
    pub fn cache(&self) -> &Path {
        self.cache.root()
    }

    /// Whether the network may not be used.
    pub fn is_offline(&self) -> bool {
        self.options.offline
    }

    /// Where images are: first the cache, which has what was built since.
    fn places(&self) -> impl Iterator<Item = &Cache> {
        std::iter::once(&self.cache).chain(&self.shipped)
    }

    pub(crate) fn parts(&self) -> (&Cache, &StoreOptions) {
        (&self.cache, &self.options)
    }

    /// Returns a verified image. Builds the recipe if the image is missing or damaged. Blocks meanwhile, and while another
    /// process builds the same recipe.
    ///
    /// # Errors
    /// [`Error::Offline`] if an offline store would have to build it, or why the build failed.
    pub fn ensure(&self, recipe: &Recipe, product: Product, progress: &dyn Progress) -> Result<Image, Error> {
        if product == Product::Disk {
            return self.prepared(recipe, progress);
        }
        let reporter = Reporter { recipe: recipe.name(), to: progress };
        match self.look_up(recipe, product)? {
            Found::Intact(image) => return Ok(verified(image, reporter)),
            Found::Damaged(reason) if self.options.offline && !recipe.is_local() => {
                reporter.step(Step::Corrupted { product, reason: &reason });
                return Err(Error::Offline { missing: vec![missing(recipe, product, Some(&reason))] });
            }
            // Its inputs were downloaded before, so it can be built offline.
            Found::Nothing if recipe.is_local() => {}
            Found::Nothing if self.options.offline => {
                return Err(Error::Offline { missing: vec![missing(recipe, product, None)] });
            }
            Found::Damaged(_) | Found::Nothing => {}
        }
        let _lock = self.lock(recipe, reporter)?;
        // Another process may have built it since.
        match self.look_up(recipe, product)? {
            Found::Intact(image) => return Ok(verified(image, reporter)),
            Found::Damaged(reason) => reporter.step(Step::Corrupted { product, reason: &reason }),
            Found::Nothing => {}
        }
        self.build(recipe, product, reporter)
    }

    /// Returns several images, in the given order.
    ///
    /// # Errors
    /// As [`Store::ensure`]; offline, one error names all missing images.
    pub fn ensure_all(
        &self,
        wanted: &[(&Recipe, Product)],
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, Error> {
        let mut all_missing = Vec::new();
        let mut images = Vec::new();
        for (recipe, product) in wanted {
            match self.ensure(recipe, *product, progress) {
                Ok(image) => images.push(image),
                Err(Error::Offline { missing }) => all_missing.extend(missing),
                Err(other) => return Err(other),
            }
        }
        if all_missing.is_empty() { Ok(images) } else { Err(Error::Offline { missing: all_missing }) }
    }

    /// Builds the images again if the archive's packages have changed. Earlier images stay.
    ///
    /// # Errors
    /// [`Error::Offline`] for an offline store, or why the build failed.
    pub fn refresh(&self, recipe: &Recipe, progress: &dyn Progress) -> Result<Vec<Image>, Error> {
        Self::refuse_disk(recipe)?;
        let reporter = Reporter { recipe: recipe.name(), to: progress };
        if self.options.offline {
            let missing =
                recipe.products().into_iter().map(|product| missing(recipe, product, None)).collect();
            return Err(Error::Offline { missing });
        }
        let _lock = self.lock(recipe, reporter)?;
        self.run_build(recipe, reporter)?;
        recipe.products().into_iter().map(|product| self.built(recipe, product, reporter)).collect()
    }

    /// Removes the recipe's current images and builds them again from current packages.
    ///
    /// # Errors
    /// As [`Store::refresh`].
    pub fn rebuild(&self, recipe: &Recipe, progress: &dyn Progress) -> Result<Vec<Image>, Error> {
        Self::refuse_disk(recipe)?;
        if !self.options.offline {
            let _lock = self.lock(recipe, Reporter { recipe: recipe.name(), to: progress })?;
            for entry in self.cache.reference(recipe).unwrap_or_default().products.into_values() {
                let folder = self.cache.image(&entry.image);
                if folder.exists() {
                    remove(&folder)?;
                }
            }
        }
        self.refresh(recipe, progress)
    }

    /// All images, also those that came with the program, whose record can be read.
    ///
    /// # Errors
    /// [`Error::Io`] if a folder cannot be read.
    pub fn list(&self) -> Result<Vec<Cached>, Error> {
        let mut images: Vec<Cached> = Vec::new();
        for place in self.places() {
            let referenced = place.referenced(|_| true)?;
            for folder in entries(&place.images())? {
                let digest = Digest::from_hex(&folder.file_name().unwrap_or_default().to_string_lossy());
                let known = images.iter().any(|other| *other.image.digest() == digest);
                if let Ok(image) = Image::open(&folder, &digest, None)
                    && !known
                {
                    images.push(Cached { referenced: referenced.contains(image.digest()), image });
                }
            }
        }
        let key = |cached: &Cached| {
            (cached.image.name().to_owned(), cached.image.product(), cached.image.resolved())
        };
        images.sort_by_key(key);
        Ok(images)
    }

    /// Whether every image of a recipe is there, as far as their records show: [`Store::ensure`] verifies the files.
    pub fn has_images_of(&self, recipe: &Recipe) -> bool {
        recipe.products().into_iter().all(|product| self.recorded(recipe, product).is_some())
    }

    /// An image of a recipe, as far as its record shows: [`Store::ensure`] verifies its files.
    pub fn recorded(&self, recipe: &Recipe, product: Product) -> Option<Image> {
        self.places().find_map(|place| {
            let entry = place.reference(recipe)?.products.remove(&product)?;
            Image::open(&place.image(&entry.image), &entry.image, Some(&entry.record)).ok()
        })
    }

    /// What a folder for [`StoreOptions::shipped`] needs for the recipe's images: files and folders of the cache, relative to it. Build
    /// the images first.
    pub fn to_ship(&self, recipe: &Recipe) -> Vec<PathBuf> {
        let Some(reference) = self.cache.reference(recipe) else { return Vec::new() };
        let images = reference.products.into_values().map(|entry| self.cache.image(&entry.image));
        let paths = std::iter::once(self.cache.reference_path(recipe)).chain(images);
        paths.filter_map(|path| Some(path.strip_prefix(self.cache()).ok()?.to_owned())).collect()
    }

    /// The verified image with this digest, if it is there.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it has changed.
    pub fn find(&self, digest: &str) -> Result<Option<Image>, Error> {
        // It names a folder, but comes from a file that any user may have written.
        if digest.is_empty() || !digest.chars().all(|c| c.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let digest = Digest::from_hex(digest);
        let mut folders = self.places().map(|place| place.image(&digest));
        let Some(folder) = folders.find(|folder| folder.exists()) else { return Ok(None) };
        let image = Image::open(&folder, &digest, None).and_then(|image| image.verify().map(|()| image));
        let image = image.map_err(|reason| Error::Damaged { path: folder, reason })?;
        image.check_medium()?;
        Ok(Some(image))
    }

    pub(crate) fn look_up(&self, recipe: &Recipe, product: Product) -> Result<Found, Error> {
        if !recipe.products().contains(&product) {
            return Err(Error::NoSuchProduct { recipe: recipe.name().to_owned(), product });
        }
        let mut found = Found::Nothing;
        for place in self.places() {
            let Some(entry) = place.reference(recipe).and_then(|mut built| built.products.remove(&product))
            else {
                continue;
            };
            let image = Image::open(&place.image(&entry.image), &entry.image, Some(&entry.record));
            match image.and_then(|image| image.verify().map(|()| image)) {
                Ok(image) => return Ok(Found::Intact(Box::new(image))),
                Err(reason) => found = Found::Damaged(reason),
            }
        }
        Ok(found)
    }

    /// Locks the recipe until the file is dropped or this process ends.
    pub(crate) fn lock(&self, recipe: &Recipe, reporter: Reporter<'_>) -> Result<File, Error> {
        let lock = self.cache.lock_of_recipe(recipe.name())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                reporter.step(Step::Waiting);
                lock.lock().map_err(Error::io("lock", self.cache.root()))?;
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", self.cache.root())(source)),
        }
        Ok(lock)
    }

    fn build(&self, recipe: &Recipe, product: Product, reporter: Reporter<'_>) -> Result<Image, Error> {
        self.run_build(recipe, reporter)?;
        self.built(recipe, product, reporter)
    }

    fn run_build(&self, recipe: &Recipe, reporter: Reporter<'_>) -> Result<(), Error> {
        let StoreOptions { archive, keyring, wrapper, .. } = &self.options;
        let (archive, keyring) = (archive.as_deref(), keyring.as_deref());
        Build { recipe, cache: &self.cache, archive, keyring, wrapper, reporter }.run()
    }

    /// Verifies an image right after its build, so that a full or bad disk is noticed here and not in a boot.
    fn built(&self, recipe: &Recipe, product: Product, reporter: Reporter<'_>) -> Result<Image, Error> {
        match self.look_up(recipe, product)? {
            Found::Intact(image) => Ok(verified(image, reporter)),
            Found::Damaged(reason) => Err(Error::Corrupted { path: self.cache.images(), reason }),
            Found::Nothing => Err(Error::Corrupted {
                path: self.cache.reference_path(recipe),
                reason: format!("it does not name the {product}"),
            }),
        }
    }
}

pub(crate) fn verified(image: Box<Image>, reporter: Reporter<'_>) -> Image {
    reporter.step(Step::Verified { product: image.product() });
    *image
}

fn missing(recipe: &Recipe, product: Product, reason: Option<&str>) -> String {
    let damaged = reason.map(|reason| format!(" (damaged: {reason})")).unwrap_or_default();
    format!("{product} of {}{damaged}", recipe.name())
}
