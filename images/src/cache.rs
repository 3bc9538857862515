//! The layout of the cache folder, and the files that map a recipe to its images.
//!
//! ```text
//! in-use                      locked while a store is open (shared) or pruned (exclusive)
//! locks/recipe-RECIPE         locked while the recipe is built
//! locks/packages              locked while apt or dnf works
//! refs/RECIPE-DIGEST.toml     the images that the last build of this recipe text made
//! images/DIGEST/              a complete image, never changed
//! building/RECIPE/XXXXXX/     an image that is being written; a leftover if no process holds the recipe's lock
//! packages/*.{deb,rpm}        downloads, shared by all recipes
//! apt/DIGEST/                 apt's state for one set of suites
//! rpm/DIGEST/                 dnf's state for one source
//! ```

use crate::{Digest, Error, Image, Product, Recipe, replace_file};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
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
    /// The image, unverified; [`crate::Store::ensure`] verifies it.
    pub image: Image,
    /// Whether it is the last build of some recipe text.
    pub referenced: bool,
}

/// The images that a recipe's last build made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) products: BTreeMap<Product, Entry>,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The image's digest, which names its folder.
    pub(crate) image: Digest,
    /// SHA-256 of its `image.toml`.
    pub(crate) record: Digest,
}

impl Cache {
    pub(crate) fn open(root: PathBuf) -> Result<Self, Error> {
        for folder in ["locks", "refs", "images", "building", "packages", "apt", "rpm"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("create folder", &folder))?;
        }
        // apt and an emulator's loader need an absolute path.
        let root = root.canonicalize().map_err(Error::io("find", &root))?;
        Ok(Self { root })
    }

    /// A folder that is laid out as a cache and only read, such as that of the images that came with the program.
    pub(crate) fn read_only(root: PathBuf) -> Self {
        Self { root }
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

    pub(crate) fn all_rpm(&self) -> PathBuf {
        self.root.join("rpm")
    }

    pub(crate) fn rpm(&self, key: &Digest) -> PathBuf {
        self.root.join("rpm").join(&key.as_str()[..16])
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

    /// The images of the recipe's last build. A damaged file counts as missing, so the recipe is built again.
    pub(crate) fn reference(&self, recipe: &Recipe) -> Option<Reference> {
        read_reference(&self.reference_path(recipe))
    }

    /// The images that these reference files name.
    pub(crate) fn referenced(&self, wanted: impl Fn(&Path) -> bool) -> Result<BTreeSet<Digest>, Error> {
        let references = entries(&self.refs())?.into_iter().filter(|path| wanted(path));
        Ok(references
            .filter_map(|path| read_reference(&path))
            .flat_map(|reference| reference.products.into_values().map(|entry| entry.image))
            .collect())
    }

    /// Replaces the reference atomically.
    pub(crate) fn refer(&self, recipe: &Recipe, reference: &Reference) -> Result<(), Error> {
        let path = self.reference_path(recipe);
        let text = toml::to_string(reference).map_err(io::Error::other);
        text.and_then(|text| replace_file(&path, &text)).map_err(Error::io("write", &path))
    }

    /// An empty folder to build this recipe in, removed when dropped. Leftovers of a killed process are removed first. The caller
    /// holds the recipe's lock.
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

/// Removes a file, or a folder and its contents.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    result.map_err(Error::io("remove", path))
}

/// The size of a file, or of all files below a folder, in bytes.
pub(crate) fn size(path: &Path) -> Result<u64, Error> {
    if path.is_dir() {
        return entries(path)?.iter().map(|entry| size(entry)).sum();
    }
    path.symlink_metadata().map(|metadata| metadata.len()).map_err(Error::io("read", path))
}

fn lock_file(path: &Path) -> Result<File, Error> {
    File::options().create(true).truncate(false).write(true).open(path).map_err(Error::io("open", path))
}
