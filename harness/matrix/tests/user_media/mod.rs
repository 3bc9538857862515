//! A user's media and sources, for tests that only plan: no image is read, and no package.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nestmatrix_images::{Catalog, HostTool, HostTools, Media, NewSource, Origin, Sources};
use nestmatrix_model::Isa;
use tempfile::TempDir;

/// A user's configuration.
pub struct User {
    folder: TempDir,
}

impl User {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a medium. Its file has four bytes, which no plan reads.
    pub fn add_medium(&self, name: &str, isa: Isa) -> PathBuf {
        let file = self.path(&format!("{name}-{isa}.img"));
        fs::write(&file, "disk").unwrap();
        let data = fs::metadata(&file).unwrap();
        let modified = data.mtime() * 1_000_000_000 + data.mtime_nsec();
        let (system, version) = name.rsplit_once('-').unwrap();
        let record = format!(
            "system = {system:?}\nversion = {version:?}\narchitecture = \"{isa}\"\n[image]\nfile = {file:?}\nformat = \"raw\"\n\
             sha256 = \"{}\"\nsize = 4\nmodified = {modified}\nvirtual-size = 4\n",
            "a".repeat(64)
        );
        fs::create_dir_all(self.path("media")).unwrap();
        fs::write(self.path("media").join(format!("{name}-{isa}.toml")), record).unwrap();
        file
    }

    /// Adds a source of packages for x86-64.
    pub fn add_source(&self, name: &str) {
        let key = self.path("key");
        fs::write(&key, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n").unwrap();
        let origin = Origin::Urls(vec!["http://a.example".to_owned()]);
        let new = NewSource { name: name.to_owned(), isa: Some(Isa::Amd64), origin, key: Some(key) };
        Sources::open(Some(self.path("sources"))).unwrap().add(&new, &[]).unwrap();
    }

    /// The project's recipes, with those of these media and sources, on a machine that has all tools.
    pub fn catalog(&self) -> Catalog {
        self.catalog_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes"))
    }

    /// The same with the recipes of a folder.
    fn catalog_of(&self, recipes: &Path) -> Catalog {
        let sources = Sources::open(Some(self.path("sources"))).unwrap();
        let media = Media::open(Some(self.path("media"))).unwrap();
        let catalog = Catalog::load(recipes).unwrap().with_sources(&sources).with_media(&media);
        let unbuildable = catalog.unbuildable_with(&HostTools::from_iter(HostTool::ALL));
        catalog.with_unbuildable(unbuildable)
    }

    /// The same, with the recipe of this name changed.
    pub fn catalog_with(&self, recipe: &str, from: &str, to: &str) -> Catalog {
        let file = self.recipes().join(format!("{recipe}.toml"));
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(file, text.replace(from, to)).unwrap();
        self.catalog_of(&self.path("recipes"))
    }

    /// The same, with one more recipe.
    #[allow(dead_code, reason = "not every program adds one")]
    pub fn catalog_and(&self, recipe: &str, text: &str) -> Catalog {
        fs::write(self.recipes().join(format!("{recipe}.toml")), text).unwrap();
        self.catalog_of(&self.path("recipes"))
    }

    /// A copy of the project's recipes.
    fn recipes(&self) -> PathBuf {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes");
        let folder = self.path("recipes");
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(&recipes).unwrap().map(|entry| entry.unwrap()) {
            let to = folder.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => std::os::unix::fs::symlink(entry.path(), to).unwrap(),
                false => drop(fs::copy(entry.path(), to).unwrap()),
            }
        }
        folder
    }
}
