//! The TOML model of a recipe, and the catalog of a folder's recipes. Errors have file, line and column.

use crate::digest::Hasher;
use crate::package_source::SourceName;
use crate::replacement::Derivation;
use crate::{Digest, Error};
use nestmatrix_model::Isa;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;

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
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hypervisor => "hypervisor",
            Self::Minimal => "minimal",
            Self::Emulator => "emulator",
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
    pub(crate) init: BTreeMap<Product, Init>,
    /// Its inputs, if it is derived from another recipe.
    pub(crate) derivation: Option<Arc<Derivation>>,
    digest: Digest,
}

/// Files next to the recipe that go into an initramfs.
#[derive(Debug, Clone)]
pub(crate) struct Init {
    /// The script of its first process.
    pub(crate) script: String,
    /// Names of busybox applets, separated by white space.
    pub(crate) applets: String,
    /// The files that the script sources, by name.
    pub(crate) scripts: BTreeMap<String, String>,
}

/// A recipe's TOML. Paths inside packages are written as on a system with a merged `/usr`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RecipeText {
    name: Spanned<String>,
    architecture: Isa,
    os: Option<Os>,
    pub(crate) packages: PackagesText,
    pub(crate) kernel: Option<KernelText>,
    pub(crate) hypervisor: Option<InitramfsText>,
    pub(crate) minimal: Option<InitramfsText>,
    pub(crate) emulator: Option<EmulatorText>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PackagesText {
    /// What kind of packages they are; those of apt by default.
    #[serde(default)]
    pub(crate) source: SourceName,
    pub(crate) origin: String,
    pub(crate) keyring: String,
    pub(crate) suites: Vec<String>,
    pub(crate) components: Vec<String>,
    pub(crate) install: Vec<String>,
    #[serde(default)]
    pub(crate) assume_installed: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct KernelText {
    /// The path of the kernel, with `{release}` instead of its release.
    pub(crate) image: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct InitramfsText {
    pub(crate) init: Spanned<String>,
    pub(crate) compression: Compression,
    /// The file of the names of busybox applets.
    pub(crate) applets: Spanned<String>,
    /// Files that the init script sources; they are put into the root folder.
    #[serde(default)]
    pub(crate) scripts: Vec<Spanned<String>>,
    pub(crate) qemu: Option<String>,
    #[serde(default)]
    pub(crate) qemu_modules: Vec<String>,
    #[serde(default)]
    pub(crate) programs: Vec<String>,
    #[serde(default)]
    pub(crate) files: Vec<String>,
    #[serde(default)]
    pub(crate) kernel_modules: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct EmulatorText {
    /// The emulator.
    pub(crate) program: String,
    /// Other programs, which make what the emulator boots.
    #[serde(default)]
    pub(crate) programs: Vec<String>,
    /// Modules that it loads at run time.
    #[serde(default)]
    pub(crate) modules: Vec<String>,
    #[serde(default)]
    pub(crate) files: Vec<String>,
}

/// The compression of an initramfs. The kernel detects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    None,
    Zstd,
}

impl Recipe {
    /// Reads a recipe and the files next to it that it names.
    ///
    /// # Errors
    /// [`Error::Recipe`] with line and column if the recipe is wrong, [`Error::Io`] if it cannot be read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let source = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let text: RecipeText = toml::from_str(&source)
            .map_err(|e| located(path, &source, e.span().unwrap_or_default(), e.message().to_owned()))?;
        let name = text.name.get_ref();
        if path.file_stem().is_none_or(|stem| stem != name.as_str()) {
            let message = format!("the recipe is named {name:?}, so its file must be {name}.toml");
            return Err(located(path, &source, text.name.span(), message));
        }
        let initramfs = [(Product::Hypervisor, &text.hypervisor), (Product::Minimal, &text.minimal)];
        let mut init = BTreeMap::new();
        for (product, part) in initramfs {
            let Some(part) = part else { continue };
            if text.kernel.is_none() {
                let message = format!("the recipe needs a [kernel], since product {product} boots one");
                return Err(located(path, &source, part.init.span(), message));
            }
            let read = |name: &Spanned<String>| {
                let file = path.with_file_name(name.get_ref());
                fs::read_to_string(&file).map_err(|e| {
                    let message = format!("cannot read {}: {e}", file.display());
                    located(path, &source, name.span(), message)
                })
            };
            let mut scripts = BTreeMap::new();
            for script in &part.scripts {
                let name = script.get_ref().rsplit('/').next().unwrap_or_default();
                scripts.insert(name.to_owned(), read(script)?);
            }
            let (script, applets) = (read(&part.init)?, read(&part.applets)?);
            init.insert(product, Init { script, applets, scripts });
        }
        if init.is_empty() && text.emulator.is_none() {
            let message =
                "the recipe makes nothing: it needs [hypervisor], [minimal] or [emulator]".to_owned();
            return Err(located(path, &source, 0..0, message));
        }
        let mut hasher = Hasher::new().field(FORMAT.to_le_bytes()).field(&source);
        for (product, Init { script, applets, scripts }) in &init {
            hasher = hasher.field(product.to_string()).field(script).field(applets);
            for (name, script) in scripts {
                hasher = hasher.field(name).field(script);
            }
        }
        Ok(Self { text, path: path.to_owned(), init, derivation: None, digest: hasher.finish() })
    }

    /// This recipe with another name and other inputs. It makes no emulator.
    pub(crate) fn renamed(&self, name: String, digest: Digest, derivation: Derivation) -> Self {
        let mut text = self.text.clone();
        text.name = Spanned::new(text.name.span(), name);
        text.emulator = None;
        Self { text, digest, derivation: Some(Arc::new(derivation)), ..self.clone() }
    }

    /// The name of the recipe: its file name without `.toml`.
    pub fn name(&self) -> &str {
        self.text.name.get_ref()
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
        let mut products: Vec<_> = self.init.keys().copied().collect();
        products.extend(self.text.emulator.as_ref().map(|_| Product::Emulator));
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
    recipes: BTreeMap<String, Recipe>,
}

impl Catalog {
    /// Reads every `*.toml` of a folder.
    ///
    /// # Errors
    /// The first recipe that cannot be read, as [`Recipe::load`].
    pub fn load(dir: &Path) -> Result<Self, Error> {
        let mut recipes = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(Error::io("read folder", dir))? {
            let path = entry.map_err(Error::io("read folder", dir))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let recipe = Recipe::load(&path)?;
                recipes.insert(recipe.name().to_owned(), recipe);
            }
        }
        Ok(Self { recipes })
    }

    /// Adds a recipe that has no file.
    pub fn add(&mut self, recipe: Recipe) {
        self.recipes.insert(recipe.name().to_owned(), recipe);
    }

    /// All recipes, by name.
    pub fn recipes(&self) -> impl Iterator<Item = &Recipe> {
        self.recipes.values()
    }

    /// The recipe of this name.
    pub fn get(&self, name: &str) -> Option<&Recipe> {
        self.recipes.get(name)
    }
}

fn located(path: &Path, source: &str, span: Range<usize>, message: String) -> Error {
    let before = source.get(..span.start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Error::Recipe {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message,
    }
}
