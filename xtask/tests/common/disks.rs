//! Media, and disks of a whole Debian system that stand for a vendor's. They need tools of the host: without them, the test is ignored.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nestmatrix_debian_disk::{Disk, Error, Flaw, System, unavailable_for};
use nestmatrix_images::{Store, StoreOptions};
use nestmatrix_model::Isa;
use sha2::{Digest as _, Sha256};

use super::trials::ignore;
use super::{Place, Run, checkout, copy_folder};

/// The recipe of Debian's disks.
const RECIPE: &str = "debian-13-disk-amd64.toml";

/// What an archive says that lists packages and does not have them.
const UNDELIVERED: &str = "that it cannot deliver";

/// A user with media and a cache. The cache has the images that the user's own one has, but none of its prepared disks: what is
/// prepared here goes with the place.
pub struct MediaUser {
    pub place: Place,
    recipes: PathBuf,
}

impl MediaUser {
    pub fn new() -> Self {
        let user = Self { place: Place::new(), recipes: checkout().join("images/recipes") };
        user.link_images();
        user
    }

    /// The recipe of Debian's disks is changed.
    pub fn with_recipe(change: impl FnOnce(&str) -> String) -> Self {
        Self::with_recipe_of(RECIPE, change)
    }

    /// The recipe in this file is changed.
    pub fn with_recipe_of(file: &str, change: impl FnOnce(&str) -> String) -> Self {
        let mut user = Self::new();
        let recipes = user.path("recipes");
        copy_folder(&user.recipes, &recipes);
        let recipe = recipes.join(file);
        fs::write(&recipe, change(&fs::read_to_string(&recipe).unwrap())).unwrap();
        user.recipes = recipes;
        user
    }

    fn link_images(&self) {
        let store = Store::open(StoreOptions::default()).unwrap();
        let (usual, own) = (store.cache(), self.cache());
        for folder in ["images", "locks", "refs"] {
            fs::create_dir_all(own.join(folder)).unwrap();
        }
        for shared in ["in-use", "packages", "apt", "locks/packages"] {
            symlink(usual.join(shared), own.join(shared)).unwrap();
        }
        for image in entries(&usual.join("images")) {
            symlink(&image, own.join("images").join(image.file_name().unwrap())).unwrap();
        }
        let of_disk = |path: &Path| path.file_name().unwrap().to_string_lossy().contains("-disk-");
        for reference in entries(&usual.join("refs")).iter().filter(|path| !of_disk(path)) {
            fs::copy(reference, own.join("refs").join(reference.file_name().unwrap())).unwrap();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    fn at_home(&self, mut command: Command) -> Command {
        command.env("NESTMATRIX_CACHE", self.cache());
        command
    }

    /// `media` with these arguments.
    pub fn media(&self, arguments: &[&str]) -> Command {
        let mut command = self.at_home(self.place.xtask());
        command.arg("media").args(arguments);
        if !matches!(arguments, ["check" | "remove", ..]) {
            command.arg("--recipes").arg(&self.recipes);
        }
        command
    }

    /// `run-matrix` on emulated metal over a folder of scenarios.
    pub fn run_matrix(&self, scenarios: &Path) -> Command {
        let mut command = self.at_home(self.place.run_matrix());
        command.arg("--recipes").arg(&self.recipes);
        command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios);
        command
    }

    /// Adds a file as a medium for x86-64.
    pub fn add(&self, name: &str, file: &Path) -> Run {
        let file = file.to_str().unwrap();
        let command = self.media(&["add", name, file, "--architecture", "amd64"]);
        let added = self.place.finish(command, Duration::from_secs(60));
        assert_eq!(added.code, Some(0), "{added:#?}");
        added
    }

    /// The folders of the disks that were prepared here.
    pub fn prepared(&self) -> Vec<PathBuf> {
        let mut images = entries(&self.cache().join("images"));
        images.retain(|image| !image.is_symlink());
        images
    }

    /// Everything in the folders of preparations that have not ended, or were killed.
    pub fn drafts(&self) -> Vec<PathBuf> {
        let building = self.cache().join("building");
        if !building.exists() {
            return Vec::new();
        }
        entries(&building).iter().flat_map(|recipe| entries(recipe)).collect()
    }
}

/// The recipe of a disk that gets no packages, so that it is prepared sooner. It has no QEMU.
pub fn without_packages(recipe: &str) -> String {
    let kept = disk_alone(recipe);
    let kept = kept.lines().filter(|line| !line.starts_with("packages = ") && !line.starts_with("qemu = "));
    kept.map(|line| format!("{line}\n")).collect()
}

/// The recipe of a disk that is not prepared at all, and should have QEMU.
pub fn without_preparation(recipe: &str) -> String {
    let recipe = disk_alone(recipe);
    format!("{}prepared = true\n", recipe.split("[disk.prepare]").next().unwrap())
}

/// A recipe without its `[packages]`.
fn disk_alone(recipe: &str) -> String {
    let (before, packages) = recipe.split_once("[packages]").unwrap();
    let (_, disk) = packages.split_once("[disk]").unwrap();
    format!("{before}[disk]{disk}")
}

/// Ends a test as ignored if the archive does not deliver the packages that are installed on a disk.
pub fn delivered(run: Run) -> Run {
    let words = run.stderr_words();
    if words.contains(UNDELIVERED) {
        ignore(&words);
    }
    run
}

/// The disk for amd64 without a flaw. No test may write to it.
pub fn debian() -> Disk {
    debian_for(Isa::Amd64)
}

/// The same for amd64 or arm64.
pub fn debian_for(isa: Isa) -> Disk {
    made(isa, |folder| Disk::cached_for(isa, folder))
}

/// A disk with a flaw, in a file of the place.
pub fn debian_with(flaw: Flaw, file: &Path) -> Disk {
    made(Isa::Amd64, |folder| Disk::make(&System::cached(folder)?, Some(flaw), file))
}

fn made(isa: Isa, make: impl FnOnce(&Path) -> Result<Disk, Error>) -> Disk {
    if let Some(reason) = unavailable_for(isa) {
        ignore(&reason);
    }
    match make(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-disk")) {
        Ok(disk) => disk,
        Err(error @ Error::Undelivered(_)) => ignore(&error.to_string()),
        Err(other) => panic!("{other}"),
    }
}

/// What must stay as it is of a medium's file: its SHA-256, and when it was modified.
pub fn state_of(file: &Path) -> (String, i64, i64) {
    let mut hasher = Sha256::new();
    std::io::copy(&mut fs::File::open(file).unwrap(), &mut hasher).unwrap();
    let metadata = fs::metadata(file).unwrap();
    (hex::encode(hasher.finalize()), metadata.mtime(), metadata.mtime_nsec())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}
