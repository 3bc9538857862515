//! What a store removes from its cache: images that no recipe makes any more, and those of derived recipes.

use std::collections::BTreeSet;
use std::fs::TryLockError;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::cache::{entries, remove, size};
use crate::package_source::file_names;
use crate::{Error, Image, Recipe, Store};

/// How often a store tries to lock its cache for itself alone, and the time in between.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(25);

impl Store {
    /// Removes everything except the current images of these recipes and their packages. Returns the freed bytes.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has this cache open.
    pub fn prune(&self, keep: &[&Recipe]) -> Result<u64, Error> {
        let result = match self.lock_alone() {
            Ok(()) => self.remove_all_except(keep),
            Err(TryLockError::WouldBlock) => Err(Error::InUse(self.cache.root().to_owned())),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", self.cache.root())(source)),
        };
        // Changing the kind of a lock releases the old one, even if the new one is refused (flock(2)).
        self.in_use.lock_shared().map_err(Error::io("lock", self.cache.root()))?;
        result
    }

    /// Locks the cache for this store alone. A process that was started a moment ago has a copy of a lock until it becomes its program, so
    /// it may take several attempts.
    fn lock_alone(&self) -> Result<(), TryLockError> {
        for _ in 1..ATTEMPTS {
            match self.in_use.try_lock() {
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
                locked => return locked,
            }
        }
        self.in_use.try_lock()
    }

    fn remove_all_except(&self, keep: &[&Recipe]) -> Result<u64, Error> {
        let kept_references: Vec<PathBuf> =
            keep.iter().map(|recipe| self.cache.reference_path(recipe)).collect();
        let images = self.cache.referenced(|path| kept_references.iter().any(|kept| kept == path))?;
        let packages: BTreeSet<PathBuf> = images
            .iter()
            .filter_map(|digest| Image::open(&self.cache.image(digest), digest, None).ok())
            .flat_map(|image| image.packages().iter().flat_map(file_names).collect::<Vec<_>>())
            .map(|file| self.cache.packages().join(file))
            .collect();
        let image_folders: BTreeSet<PathBuf> = images.iter().map(|digest| self.cache.image(digest)).collect();
        let folders = [
            (self.cache.refs(), kept_references.into_iter().collect()),
            (self.cache.images(), image_folders),
            (self.cache.packages(), packages),
            (self.cache.all_building(), BTreeSet::new()),
            (self.cache.all_apt(), BTreeSet::new()),
            (self.cache.all_rpm(), BTreeSet::new()),
        ];
        let mut freed = 0;
        for (folder, kept) in folders {
            for path in entries(&folder)?.into_iter().filter(|path| !kept.contains(path)) {
                freed += size(&path)?;
                remove(&path)?;
            }
        }
        Ok(freed)
    }

    /// Removes the images of a derived recipe. If another process has this cache open, they stay until the cache is pruned, since
    /// it may be booting them.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be removed.
    pub fn discard(&self, recipe: &Recipe) -> Result<(), Error> {
        let alone = recipe.replacement().is_some() && self.in_use.try_lock().is_ok();
        let result = if alone { self.remove_images(recipe) } else { Ok(()) };
        self.in_use.lock_shared().map_err(Error::io("lock", self.cache.root()))?;
        result
    }

    fn remove_images(&self, recipe: &Recipe) -> Result<(), Error> {
        self.remove_leftovers(recipe)?;
        let Some(reference) = self.cache.reference(recipe) else { return Ok(()) };
        let own = self.cache.reference_path(recipe);
        remove(&own)?;
        let others = self.cache.referenced(|path| path != own)?;
        for entry in reference.products.into_values().filter(|entry| !others.contains(&entry.image)) {
            let folder = self.cache.image(&entry.image);
            if folder.exists() {
                remove(&folder)?;
            }
        }
        Ok(())
    }

    /// Removes what interrupted builds of derived recipes left, and the lock of this one, which is not built again. No other
    /// process uses the cache now, but a thread of this process may still be building. It holds the lock of its recipe, and its
    /// leftovers are removed the next time.
    fn remove_leftovers(&self, recipe: &Recipe) -> Result<(), Error> {
        let building = entries(&self.cache.all_building())?;
        let name = |folder: &PathBuf| folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A derived recipe is named BASE+REPLACEMENT.
        let derived = building.iter().map(name).filter(|name| name.contains('+'));
        for name in derived.chain([recipe.name().to_owned()]).collect::<BTreeSet<String>>() {
            let lock = self.cache.lock_of_recipe(&name)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(source)) => return Err(Error::io("lock", self.cache.root())(source)),
            }
            for path in [self.cache.building(&name), self.cache.lock_path(&name)] {
                if path.exists() {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }
}
