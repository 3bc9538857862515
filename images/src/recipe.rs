//! Recipes, and the catalog of a folder's recipes.

use crate::addition;
use crate::apt_packages::AptPackages;
use crate::digest::Hasher;
use crate::host_tools::Unbuildable;
use crate::package_source::PackageSource;
use crate::recipe_problem::RecipeProblem;
use crate::recipe_text::{Init, Packages, RecipeText};
use crate::replacement::Derivation;
use crate::windows::{self, WindowsRole};
use crate::{
    AddedGuest, AddedProgram, BuiltSuite, Digest, DiskImage, InstalledEmulator, Media, Medium, Source,
    Sources, Suites,
};
use nestmatrix_input::{Entry, FileProblem, InputError, InputErrors, InputFile, entries, is_toml};
use nestmatrix_model::Isa;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Every mistake in a folder's recipes: in the order of their names, and in each from top to bottom.
pub type RecipeErrors = InputErrors<RecipeProblem>;

/// Version of the images' layout. It is part of every recipe's digest. Raise it with every change of the code that changes an
/// image's bytes, so that all images are built again.
pub(crate) const FORMAT: u32 = 3;

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// Kernel and initramfs of a level that runs guests, with KVM, QEMU and the guest agent. Boots as L0 or L1.
    Hypervisor,
    /// Kernel and initramfs of a level that only reports what it sees. Boots as L2.
    Minimal,
    /// QEMU with its libraries and firmware, for a host of the same architecture without QEMU.
    Emulator,
    /// UEFI firmware for levels that boot from a disk.
    Firmware,
    /// The disk of a system as its vendor publishes it, prepared to be a level.
    Disk,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hypervisor => "hypervisor",
            Self::Minimal => "minimal",
            Self::Emulator => "emulator",
            Self::Firmware => "firmware",
            Self::Disk => "disk",
        })
    }
}

/// An operating system as vendors' documents name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Os {
    /// As `ID` in os-release(5): `debian`.
    pub id: String,
    /// As `VERSION_ID` in os-release(5): `12`.
    pub version: String,
    /// How the image differs from the usual one of the same system: `generic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A recipe: where its packages come from, and what is made of them.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub(crate) text: RecipeText,
    pub(crate) path: PathBuf,
    /// Its inputs, if it is derived from another recipe.
    pub(crate) derivation: Option<Arc<Derivation>>,
    /// The addition that it was made with, if it was.
    addition: Option<String>,
    digest: Digest,
}

impl Recipe {
    /// Reads a recipe and the files next to it that it names.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load(path: &Path) -> Result<Self, RecipeErrors> {
        Self::read(path).map_err(|errors| RecipeErrors::new(path.display().to_string(), errors))
    }

    fn read(path: &Path) -> Result<Self, Vec<InputError<RecipeProblem>>> {
        let file = InputFile::read(path).map_err(|error| vec![error])?;
        let source = file.text();
        let folder = path.parent().unwrap_or(path);
        let text = file.interpret(RecipeText::KEYS, |root| RecipeText::read(root, folder))?;
        let digest = digest(&source, &text);
        Ok(Self { text, path: path.to_owned(), derivation: None, addition: None, digest })
    }

    /// The packages that it is made of.
    pub(crate) fn packages(&self) -> &dyn PackageSource {
        match &self.text.packages {
            Packages::Apt(packages) => packages,
            Packages::Rpm(packages) => packages,
            Packages::None(none) => none,
        }
    }

    /// Its Debian packages, if it is made of such.
    pub(crate) fn apt(&self) -> Option<&AptPackages> {
        match &self.text.packages {
            Packages::Apt(packages) => Some(packages),
            Packages::Rpm(_) | Packages::None(_) => None,
        }
    }

    /// The source that the user added for its packages, if they are RPMs.
    pub fn source(&self) -> Option<&Arc<Source>> {
        match &self.text.packages {
            Packages::Apt(_) | Packages::None(_) => None,
            Packages::Rpm(packages) => packages.source.as_ref(),
        }
    }

    pub(crate) fn with_digest(self, digest: Digest) -> Self {
        Self { digest, ..self }
    }

    /// This recipe with what an addition makes of its text.
    pub(crate) fn extended(&self, text: RecipeText, addition: &str, digest: Digest) -> Self {
        Self { text, addition: Some(addition.to_owned()), digest, ..self.clone() }
    }

    /// The addition that it was made with, if it was: `libvirt`.
    pub fn addition(&self) -> Option<&str> {
        self.addition.as_deref()
    }

    /// This recipe with another name and other inputs. It makes no emulator.
    pub(crate) fn renamed(&self, name: String, digest: Digest, derivation: Derivation) -> Self {
        let mut text = self.text.clone();
        text.name = name;
        text.emulator = None;
        Self { text, digest, derivation: Some(Arc::new(derivation)), ..self.clone() }
    }

    /// This recipe, which makes no other product than this.
    pub(crate) fn with_only(mut self, product: Product) -> Self {
        self.text.init.retain(|other, _| *other == product);
        self.text.uefi = None;
        self
    }

    /// The name of the recipe: its file name without `.toml`.
    pub fn name(&self) -> &str {
        &self.text.name
    }

    /// The recipe's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The emulator's program, such as `qemu-system-ppc64`, if the recipe makes an emulator.
    pub fn emulator(&self) -> Option<&str> {
        let program = &self.text.emulator.as_ref()?.program;
        Some(program.rsplit('/').next().unwrap_or(program))
    }

    /// Whether the emulator that it makes comes with this program.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        let programs = self.text.emulator.as_ref().map_or(&[][..], |part| &part.programs);
        programs.iter().any(|program| program.rsplit('/').next() == Some(name))
    }

    /// Instruction set of the programs in its images.
    pub fn isa(&self) -> Isa {
        self.text.architecture
    }

    /// The operating system of its images, if they represent one.
    pub fn os(&self) -> Option<&Os> {
        self.text.os.as_ref()
    }

    /// The products that it makes.
    pub fn products(&self) -> Vec<Product> {
        let mut products: Vec<_> = self.text.init.keys().copied().collect();
        products.extend(self.text.emulator.as_ref().map(|_| Product::Emulator));
        products.extend(self.text.uefi.as_ref().map(|_| Product::Firmware));
        products.extend(self.text.disk.as_ref().map(|_| Product::Disk));
        products
    }

    /// SHA-256 of the recipe's text, of the files next to it that it names, and of the version of the images' layout.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// All recipes of a folder.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub(crate) recipes: BTreeMap<String, Recipe>,
    /// The same with an addition, where one fits.
    pub(crate) extended: BTreeMap<String, Recipe>,
    pub(crate) templates: Vec<Recipe>,
    pub(crate) windows_roles: BTreeMap<String, WindowsRole>,
    pub(crate) sources: Vec<Arc<Source>>,
    pub(crate) media: Vec<Arc<Medium>>,
    suites: Vec<Arc<BuiltSuite>>,
    programs: Vec<Arc<AddedProgram>>,
    guests: Vec<Arc<AddedGuest>>,
    /// The disks that are prepared, by recipe.
    pub(crate) prepared: BTreeMap<String, DiskImage>,
    /// Why some of them can't be built on this machine.
    unbuildable: BTreeMap<String, Unbuildable>,
    /// What was found on this machine instead of emulators that can't be built.
    pub(crate) installed: BTreeMap<String, Result<InstalledEmulator, String>>,
    /// The user's builds of emulators' programs, by the program's name.
    pub(crate) own: BTreeMap<String, InstalledEmulator>,
}

impl Catalog {
    /// Reads every `*.toml` of a folder.
    ///
    /// # Errors
    /// Every mistake in every recipe.
    pub fn load(dir: &Path) -> Result<Self, RecipeErrors> {
        let folder = dir.display().to_string();
        let entries = entries(dir).map_err(|error| {
            let unreadable = InputError::of_file(&folder, FileProblem::Unreadable(error));
            RecipeErrors::new(folder.clone(), vec![unreadable])
        })?;
        let (mut recipes, mut templates, mut errors) = (BTreeMap::new(), Vec::new(), Vec::new());
        for Entry { path, .. } in entries.into_iter().filter(|entry| !entry.is_folder && is_toml(&entry.path))
        {
            match Recipe::read(&path) {
                Ok(recipe) if recipe.is_template() => templates.push(recipe),
                Ok(recipe) => {
                    recipes.insert(recipe.name().to_owned(), recipe);
                }
                Err(found) => errors.extend(found),
            }
        }
        let additions = addition::load(dir).unwrap_or_else(|found| {
            errors.extend(found);
            Vec::new()
        });
        let windows_roles = windows::load(dir).unwrap_or_else(|found| {
            errors.extend(found);
            BTreeMap::new()
        });
        if errors.is_empty() {
            let extended = addition::extended(&additions, recipes.values());
            let (sources, media, suites) = (Vec::new(), Vec::new(), Vec::new());
            let (programs, guests) = (Vec::new(), Vec::new());
            let (unbuildable, installed, prepared) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            Ok(Self {
                recipes,
                extended,
                templates,
                windows_roles,
                sources,
                media,
                suites,
                programs,
                guests,
                prepared,
                unbuildable,
                installed,
                own: BTreeMap::new(),
            })
        } else {
            Err(RecipeErrors::new(folder, errors))
        }
    }

    /// Adds the recipes that these sources make possible.
    #[must_use]
    pub fn with_sources(mut self, sources: &Sources) -> Self {
        self.sources.extend(sources.iter().cloned());
        self.fill();
        self
    }

    /// Adds the recipes that these media make possible. Packages for them come from the sources of the same systems.
    #[must_use]
    pub fn with_media(mut self, media: &Media) -> Self {
        self.media.extend(media.iter().cloned());
        self.fill();
        self
    }

    /// Adds the test suites that the user built, and the user's programs and guests.
    #[must_use]
    pub fn with_suites(self, suites: &Suites) -> Self {
        let programs = suites.programs().cloned().collect();
        let guests = suites.guests().cloned().collect();
        Self { suites: suites.iter().cloned().collect(), programs, guests, ..self }
    }

    /// The test suites that the user built.
    pub fn suites(&self) -> &[Arc<BuiltSuite>] {
        &self.suites
    }

    /// The programs of the user.
    pub fn programs(&self) -> &[Arc<AddedProgram>] {
        &self.programs
    }

    /// The guests of the user.
    pub fn guests(&self) -> &[Arc<AddedGuest>] {
        &self.guests
    }

    pub(crate) fn fill(&mut self) {
        let of_sources = self.sources.iter().flat_map(|source| {
            self.templates.iter().filter_map(|template| template.filled(source)).collect::<Vec<_>>()
        });
        let of_media = self.media.iter().flat_map(|medium| {
            let filled =
                self.templates.iter().filter_map(|template| template.filled_by(medium, &self.sources));
            filled.collect::<Vec<_>>()
        });
        let filled: Vec<Recipe> = of_sources.chain(of_media).collect();
        for recipe in filled {
            let recipe = self.add_roles(recipe);
            self.add(recipe);
        }
    }

    /// Marks these recipes as ones whose images can't be built on this machine, and are not in its cache.
    #[must_use]
    pub fn with_unbuildable(self, unbuildable: BTreeMap<String, Unbuildable>) -> Self {
        Self { unbuildable, ..self }
    }

    /// Why the images of the recipe of this name are not available on this machine, if so.
    pub fn unbuildable(&self, recipe: &str) -> Option<&Unbuildable> {
        self.unbuildable.get(recipe)
    }

    /// The recipe for the packages of a source, if there is one.
    pub fn of_source(&self, source: &Source) -> Option<&Recipe> {
        self.recipes.values().filter(|recipe| recipe.disk().is_none()).find(|recipe| {
            recipe.source().is_some_and(|own| own.name() == source.name() && own.isa() == source.isa())
        })
    }

    /// Adds a recipe that has no file.
    pub fn add(&mut self, recipe: Recipe) {
        self.recipes.insert(recipe.name().to_owned(), recipe);
    }

    /// All recipes, and those that additions make of them.
    pub fn recipes_and_extended(&self) -> impl Iterator<Item = &Recipe> {
        self.recipes.values().chain(self.extended.values())
    }

    /// All recipes, by name.
    pub fn recipes(&self) -> impl Iterator<Item = &Recipe> {
        self.recipes.values()
    }

    /// The recipe of this name.
    pub fn get(&self, name: &str) -> Option<&Recipe> {
        self.recipes.get(name).or_else(|| self.extended.get(name))
    }
}

/// SHA-256 of a recipe's text, of the files next to it that it names, and of the version of the images' layout.
fn digest(source: &str, text: &RecipeText) -> Digest {
    let mut hasher = Hasher::new().field(FORMAT.to_le_bytes()).field(source);
    for (product, Init { script, applets, scripts }) in &text.init {
        hasher = hasher.field(product.to_string()).field(script).field(applets);
        for (name, script) in scripts {
            hasher = hasher.field(name).field(script);
        }
    }
    if let Some(prepare) = text.disk.as_ref().and_then(|disk| disk.prepare.as_ref()) {
        hasher = prepare.hash(hasher);
    }
    if let Some(install) = text.disk.as_ref().and_then(|disk| disk.install.as_ref()) {
        hasher = install.hash(hasher);
    }
    hasher.finish()
}
