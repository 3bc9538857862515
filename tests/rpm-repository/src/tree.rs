//! The folders of the repository, as on the DVD of RHEL 9.4.

use crate::blueprint::{Blueprint, Version};
use crate::debian::Debs;
use crate::sign::Signer;
use crate::{Error, build, kernel, libraries, parallel, qemu, stand_in, tool};
use nestmatrix_images::Store;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tempfile::TempDir;

/// The file that describes the tree: the format is productmd's.
const TREE_INFO: &str = "\
[general]
arch = x86_64
family = Red Hat Enterprise Linux
name = Red Hat Enterprise Linux 9.4
packagedir = AppStream/Packages
platforms = x86_64,xen
repository = AppStream
variant = AppStream
variants = AppStream,BaseOS
version = 9.4

[header]
type = productmd.treeinfo
version = 1.2

[media]
discnum = 1
totaldiscs = 1

[release]
name = Red Hat Enterprise Linux
short = RHEL
version = 9.4

[tree]
arch = x86_64
platforms = x86_64,xen
variants = AppStream,BaseOS

[variant-AppStream]
id = AppStream
name = AppStream
packages = AppStream/Packages
repository = AppStream
type = variant
uid = AppStream

[variant-BaseOS]
id = BaseOS
name = BaseOS
packages = BaseOS/Packages
repository = BaseOS
type = variant
uid = BaseOS
";

/// One of the two repositories of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The kernel and most libraries.
    BaseOS,
    /// QEMU, its firmware, and more libraries.
    AppStream,
}

/// A package in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// `x86_64` or `noarch`.
    pub architecture: &'static str,
    /// Where it is.
    pub part: Part,
    /// Its file, relative to the folder of its part.
    pub file: PathBuf,
}

/// A tree of two repositories in a folder.
#[derive(Debug)]
pub struct Repository {
    folder: PathBuf,
    packages: Vec<Package>,
    kernel_release: String,
    /// Removed together with the repository.
    _temporary: Option<TempDir>,
}

impl Repository {
    /// The repository that the tests of this process share, in a temporary folder. It is made when the first test asks for it,
    /// and removed when the last one drops it.
    ///
    /// # Errors
    /// As [`Repository::make`].
    pub fn shared(store: &Store) -> Result<Arc<Self>, Error> {
        static SHARED: Mutex<Weak<Repository>> = Mutex::new(Weak::new());
        // A test that panicked while it held the lock left the old value.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(repository) = shared.upgrade() {
            return Ok(repository);
        }
        let folder = TempDir::with_prefix("rpm-repository-");
        let folder = folder.map_err(Error::io("create a folder in", std::env::temp_dir()))?;
        let mut repository = Self::make(store, folder.path())?;
        repository._temporary = Some(folder);
        let repository = Arc::new(repository);
        *shared = Arc::downgrade(&repository);
        Ok(repository)
    }

    /// Makes the tree in a folder, which is created if it is missing. It takes half a minute.
    ///
    /// # Errors
    /// Why it failed; [`Error::Image`] if the archive does not deliver the image.
    pub fn make(store: &Store, folder: &Path) -> Result<Self, Error> {
        for part in Part::ALL {
            let packages = folder.join(part.folder()).join("Packages");
            fs::create_dir_all(&packages).map_err(Error::io("create folder", &packages))?;
        }
        // RPM needs an absolute path.
        let folder = &folder.canonicalize().map_err(Error::io("find", folder))?;
        // On the same file system, so that files are moved and not copied.
        let work = tempfile::tempdir_in(folder).map_err(Error::io("create a folder in", folder))?;
        let debs = Debs::unpack(store, &work.path().join("debs"))?;
        let mut blueprints = libraries::blueprints(&debs)?;
        blueprints.extend(qemu::blueprints(&debs)?);
        blueprints.extend(stand_in::blueprints());
        let (of_kernel, kernel_release) = kernel::blueprints(&debs)?;
        blueprints.extend(of_kernel);
        let built = build::build(&blueprints, &work.path().join("rpms"))?;
        let signer = Signer::new("nestmatrix test")?;
        signer.sign(&built)?;
        let packages: Vec<Package> = blueprints.iter().map(Package::of).collect();
        for (from, package) in built.iter().zip(&packages) {
            let to = folder.join(package.path());
            fs::rename(from, &to).map_err(Error::io("move to", &to))?;
        }
        let repository = Self { folder: folder.to_owned(), packages, kernel_release, _temporary: None };
        signer.export(&repository.key())?;
        let info = folder.join(".treeinfo");
        fs::write(&info, TREE_INFO).map_err(Error::io("write", &info))?;
        parallel::map(&Part::ALL, |part| index(&repository.part(*part)))?;
        Ok(repository)
    }

    /// This repository, if it is in another folder.
    pub(crate) fn moved(&self, folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            packages: self.packages.clone(),
            kernel_release: self.kernel_release.clone(),
            _temporary: None,
        }
    }

    /// The folder of the tree, with `BaseOS`, `AppStream` and `.treeinfo`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of one repository of the tree, with `repodata`.
    pub fn part(&self, part: Part) -> PathBuf {
        self.folder.join(part.folder())
    }

    /// The public key that verifies the packages.
    pub fn key(&self) -> PathBuf {
        self.folder.join("RPM-GPG-KEY-test")
    }

    /// All packages.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// The package of this name.
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// Packages that stand for RHEL's packages that no image needs, such as `linux-firmware`. A program that downloads them for
    /// an image would download hundreds of megabytes of RHEL's.
    pub fn unneeded() -> impl Iterator<Item = &'static str> {
        stand_in::names()
    }

    /// The release of the kernel: what `uname -r` prints, and the name of its folder in `/lib/modules`.
    pub fn kernel_release(&self) -> &str {
        &self.kernel_release
    }
}

impl Part {
    /// Both.
    pub const ALL: [Self; 2] = [Self::BaseOS, Self::AppStream];

    /// The name of its folder.
    pub fn folder(self) -> &'static str {
        match self {
            Self::BaseOS => "BaseOS",
            Self::AppStream => "AppStream",
        }
    }
}

impl Package {
    fn of(blueprint: &Blueprint) -> Self {
        Self {
            name: blueprint.name.clone(),
            version: blueprint.version.clone(),
            architecture: blueprint.architecture(),
            part: blueprint.part,
            file: Path::new("Packages").join(blueprint.file_name()),
        }
    }

    /// Its path in the tree.
    pub fn path(&self) -> PathBuf {
        Path::new(self.part.folder()).join(&self.file)
    }
}

/// Writes the index (`repodata`) of the packages in a folder. An earlier one is replaced.
pub(crate) fn index(part: &Path) -> Result<(), Error> {
    tool::run(Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(part)).map(drop)
}
