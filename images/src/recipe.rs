//! The TOML model of a recipe, and the catalog of all recipes of a folder. Errors carry file, line and column.

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

/// Version of what this crate makes of a recipe: part of every recipe's digest, so that a change of the layout of
/// images makes all of them anew. Raise it with every change of the code that changes an image's bytes.
pub(crate) const FORMAT: u32 = 3;

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    /// Kernel and initramfs of a level that runs guests: KVM, QEMU, guest agent. Boots as L0 or L1.
    Hypervisor,
    /// Kernel and initramfs of a level that only reports what it sees. Boots as L2.
    Minimal,
    /// QEMU with its libraries and firmware, to be started on a host of the same architecture that has none.
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
    /// What sets the image apart from the ordinary one of the same system, for a machine that needs it: `generic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// One recipe: where its packages come from and what is made of them.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub(crate) text: RecipeText,
    pub(crate) path: PathBuf,
    pub(crate) init: BTreeMap<Product, Init>,
    /// What it is made of, where it is derived from another one.
    pub(crate) derivation: Option<Arc<Derivation>>,
    digest: Digest,
}

/// The files beside recipes that an initramfs begins with.
#[derive(Debug, Clone)]
pub(crate) struct Init {
    /// The script that is its first process.
    pub(crate) script: String,
    /// Names under which busybox is called, separated by white space.
    pub(crate) applets: String,
    /// What the script reads in, by file name.
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
    /// With `{release}` where the kernel release stands.
    pub(crate) image: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct InitramfsText {
    pub(crate) init: Spanned<String>,
    pub(crate) compression: Compression,
    /// File of the names under which busybox is called.
    pub(crate) applets: Spanned<String>,
    /// Files that the init script reads in; they lie at the root.
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
    /// The emulator itself.
    pub(crate) program: String,
    /// Programs that it needs beside it, to make what it boots.
    #[serde(default)]
    pub(crate) programs: Vec<String>,
    /// What it loads while it runs.
    #[serde(default)]
    pub(crate) modules: Vec<String>,
    #[serde(default)]
    pub(crate) files: Vec<String>,
}

/// How an initramfs is compressed. The kernel tells by itself which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    None,
    Zstd,
}

impl Recipe {
    /// Reads a recipe and the files beside it that it names.
    ///
    /// # Errors
    /// [`Error::Recipe`] with line and column if the text is not a recipe, [`Error::Io`] if it cannot be read.
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
                let message = format!("product {product} boots a kernel, so the recipe needs a [kernel]");
                return Err(located(path, &source, part.init.span(), message));
            }
            let beside = |name: &Spanned<String>| {
                let file = path.with_file_name(name.get_ref());
                fs::read_to_string(&file).map_err(|e| {
                    let message = format!("cannot read {}: {e}", file.display());
                    located(path, &source, name.span(), message)
                })
            };
            let mut scripts = BTreeMap::new();
            for script in &part.scripts {
                let name = script.get_ref().rsplit('/').next().unwrap_or_default();
                scripts.insert(name.to_owned(), beside(script)?);
            }
            let (script, applets) = (beside(&part.init)?, beside(&part.applets)?);
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

    /// This recipe under another name, made otherwise: of kernel and initramfs, since no emulator is derived.
    pub(crate) fn renamed(&self, name: String, digest: Digest, derivation: Derivation) -> Self {
        let mut text = self.text.clone();
        text.name = Spanned::new(text.name.span(), name);
        text.emulator = None;
        Self { text, digest, derivation: Some(Arc::new(derivation)), ..self.clone() }
    }

    /// Name of the recipe, which is that of its file without `.toml`.
    pub fn name(&self) -> &str {
        self.text.name.get_ref()
    }

    /// The recipe's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The emulator's program, such as `qemu-system-ppc64`, if it makes an emulator.
    pub fn emulator(&self) -> Option<&str> {
        let program = &self.text.emulator.as_ref()?.program;
        Some(program.rsplit('/').next().unwrap_or(program))
    }

    /// Instruction set of the programs in its images.
    pub fn isa(&self) -> Isa {
        self.text.architecture
    }

    /// The operating system that its images are made of, if it stands for one.
    pub fn os(&self) -> Option<&Os> {
        self.text.os.as_ref()
    }

    /// What it makes.
    pub fn products(&self) -> Vec<Product> {
        let mut products: Vec<_> = self.init.keys().copied().collect();
        products.extend(self.text.emulator.as_ref().map(|_| Product::Emulator));
        products
    }

    /// SHA-256 of the recipe's text, of the files beside it that it names, and the version of what this crate makes of them.
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

    /// Adds a recipe that is in no file.
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
