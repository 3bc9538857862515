//! The Debian packages of an image, unpacked into folders.

use crate::{Error, parallel, tool};
use nestmatrix_images::{Catalog, Package, Product, Silent, Store};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The image whose packages are the source.
const RECIPE: &str = "debian-12-amd64";

/// The packages of an image.
#[derive(Debug)]
pub(crate) struct Debs(Vec<Deb>);

/// One package.
#[derive(Debug)]
pub(crate) struct Deb {
    pub(crate) name: String,
    pub(crate) version: String,
    /// In alphabetical order.
    pub(crate) files: Vec<DebFile>,
}

/// A file or symbolic link of a package.
#[derive(Debug)]
pub(crate) struct DebFile {
    /// Its path in the package, in the layout of a merged `/usr`: `usr/lib/...`, although the package may have `lib/...`.
    pub(crate) path: String,
    /// Where it is unpacked.
    pub(crate) place: PathBuf,
}

impl Debs {
    /// Unpacks the packages of the image into a folder for each. Builds the image if the cache does not have it.
    pub(crate) fn unpack(store: &Store, folder: &Path) -> Result<Self, Error> {
        let recipes = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../images/recipes"));
        let catalog = Catalog::load(recipes)?;
        let recipe =
            catalog.get(RECIPE).ok_or_else(|| Error::unexpected(RECIPE, "there is no such recipe"))?;
        let image = store.ensure(recipe, Product::Hypervisor, &Silent)?;
        let packages = store.cache().join("packages");
        let unpack = |package: &Package| Deb::unpack(&packages, package, folder);
        parallel::map(image.packages(), unpack).map(Self)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Deb> {
        self.0.iter()
    }

    /// The package that satisfies a condition.
    pub(crate) fn find(&self, wanted: &str, is_wanted: impl Fn(&Deb) -> bool) -> Result<&Deb, Error> {
        let found = self.0.iter().find(|deb| is_wanted(deb));
        found.ok_or_else(|| Error::unexpected(wanted, "its package is not there"))
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Deb, Error> {
        self.find(name, |deb| deb.name == name)
    }
}

impl Deb {
    fn unpack(packages: &Path, package: &Package, folder: &Path) -> Result<Self, Error> {
        let Package { name, version, architecture, .. } = package;
        // apt escapes the colon of the epoch.
        let file = format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a"));
        let folder = folder.join(name);
        fs::create_dir_all(&folder).map_err(Error::io("create folder", &folder))?;
        tool::run(Command::new("dpkg-deb").arg("--extract").arg(packages.join(file)).arg(&folder))?;
        Ok(Self { name: name.clone(), version: version.clone(), files: files(&folder)? })
    }

    pub(crate) fn file(&self, path: &str) -> Result<&Path, Error> {
        let file = self.files.iter().find(|file| file.path == path);
        let file = file.ok_or_else(|| Error::unexpected(path, format!("{} does not have it", self.name)))?;
        Ok(&file.place)
    }

    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        let place = self.file(path)?;
        fs::read(place).map_err(Error::io("read", place))
    }
}

fn files(root: &Path) -> Result<Vec<DebFile>, Error> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io("read folder", &folder))? {
            let entry = entry.map_err(Error::io("read folder", &folder))?;
            let place = entry.path();
            // Unlike `Path::is_dir`, this does not follow links.
            if entry.file_type().map_err(Error::io("read", &place))?.is_dir() {
                folders.push(place);
            } else {
                let path = merged(&place.strip_prefix(root).unwrap_or(&place).to_string_lossy());
                files.push(DebFile { path, place });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn merged(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    let is_moved = ["bin", "lib", "lib64", "sbin"].contains(&first);
    if is_moved { format!("usr/{path}") } else { path.to_owned() }
}
