//! Where things are in the cache folder, and the small files that lead from a recipe to its images.
//!
//! ```text
//! in-use                      locked while a store is open (shared) or pruned (alone)
//! locks/RECIPE                locked while the recipe is built
//! locks/packages              locked while apt works
//! refs/RECIPE-DIGEST.toml     which images the recipe, as it is now, was last built to
//! images/DIGEST/              an image, complete and never changed
//! building/RECIPE/XXXXXX/     an image that is being written; rubbish if nobody holds the recipe's lock
//! packages/*.deb              downloads, shared by all recipes
//! apt/DIGEST/                 apt's state for one set of suites
//! ```

use crate::{Digest, Error, Image, Product, Recipe};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A cache folder.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// One image in the cache.
#[derive(Debug, Clone)]
pub struct Cached {
    /// The image. Its files are not verified; [`crate::Store::ensure`] does that.
    pub image: Image,
    /// Whether a recipe, in some state of its text, was last built to this image.
    pub referenced: bool,
}

/// What a recipe was built to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) products: BTreeMap<Product, Entry>,
}

/// One product of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The image's digest, which names its folder.
    pub(crate) image: Digest,
    /// SHA-256 of its `image.toml`.
    pub(crate) record: Digest,
}

impl Cache {
    pub(crate) fn open(root: PathBuf) -> Result<Self, Error> {
        for folder in ["locks", "refs", "images", "building", "packages", "apt"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("create folder", &folder))?;
        }
        // apt and the loader of an emulator need the path from wherever they run.
        let root = root.canonicalize().map_err(Error::io("find", &root))?;
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn image(&self, digest: &Digest) -> PathBuf {
        self.root.join("images").join(digest.as_str())
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn packages(&self) -> PathBuf {
        self.root.join("packages")
    }

    pub(crate) fn all_building(&self) -> PathBuf {
        self.root.join("building")
    }

    pub(crate) fn all_apt(&self) -> PathBuf {
        self.root.join("apt")
    }

    pub(crate) fn apt(&self, key: &Digest) -> PathBuf {
        self.root.join("apt").join(&key.as_str()[..16])
    }

    pub(crate) fn refs(&self) -> PathBuf {
        self.root.join("refs")
    }

    pub(crate) fn lock_path(&self, recipe: &str) -> PathBuf {
        self.root.join("locks").join(format!("recipe-{recipe}"))
    }

    pub(crate) fn lock_of_recipe(&self, recipe: &str) -> Result<File, Error> {
        lock_file(&self.lock_path(recipe))
    }

    /// The folder in which a recipe's images are written.
    pub(crate) fn building(&self, recipe: &str) -> PathBuf {
        self.all_building().join(recipe)
    }

    pub(crate) fn lock_of_packages(&self) -> Result<File, Error> {
        lock_file(&self.root.join("locks/packages"))
    }

    pub(crate) fn in_use(&self) -> Result<File, Error> {
        lock_file(&self.root.join("in-use"))
    }

    pub(crate) fn reference_path(&self, recipe: &Recipe) -> PathBuf {
        self.refs().join(format!("{}-{}.toml", recipe.name(), &recipe.digest().as_str()[..16]))
    }

    /// What the recipe, as it is now, was last built to. A damaged file counts as none: the images are then looked up anew.
    pub(crate) fn reference(&self, recipe: &Recipe) -> Option<Reference> {
        read_reference(&self.reference_path(recipe))
    }

    /// Replaces the reference in one step.
    pub(crate) fn refer(&self, recipe: &Recipe, reference: &Reference) -> Result<(), Error> {
        let path = self.reference_path(recipe);
        let new = path.with_extension("new");
        let text = toml::to_string(reference).map_err(io::Error::other).map_err(Error::io("write", &new))?;
        fs::write(&new, text).map_err(Error::io("write", &new))?;
        fs::rename(&new, &path).map_err(Error::io("replace", &path))
    }

    /// An empty folder to build this recipe in, gone when dropped. What a process that was killed left of this recipe is
    /// removed first; the caller holds the recipe's lock.
    pub(crate) fn fresh_building(&self, recipe: &Recipe) -> Result<TempDir, Error> {
        let folder = self.building(recipe.name());
        if folder.exists() {
            remove(&folder)?;
        }
        fs::create_dir_all(&folder).map_err(Error::io("create folder", &folder))?;
        tempfile::tempdir_in(&folder).map_err(Error::io("create a folder in", &folder))
    }
}

pub(crate) fn read_reference(path: &Path) -> Option<Reference> {
    toml::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// The paths in a folder.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(Error::io("read folder", folder))
}

/// Removes a file or a folder with all that is in it.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    result.map_err(Error::io("remove", path))
}

fn lock_file(path: &Path) -> Result<File, Error> {
    File::options().create(true).truncate(false).write(true).open(path).map_err(Error::io("open", path))
}
