//! Recipes that differ from one of the catalog in one thing: another kernel, or another QEMU. All else is the very packages
//! that the base's image was made of, so whatever is different about two such images is that one thing.

use crate::digest::Hasher;
use crate::linux;
use crate::package_source::{is_package, unpack};
use crate::progress::{Progress, Reporter, Silent};
use crate::recipe::{InitramfsText, Recipe};
use crate::{Catalog, Digest, Error, Package, Product, Store, assemble};
use nestmatrix_model::Isa;
use std::fs;
use std::path::{Path, PathBuf};

/// What of an image can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Its kernel, with its modules.
    Kernel,
    /// The QEMU in it, which runs the level inside.
    Qemu,
}

/// A version of a kernel or of QEMU that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Its package.
    pub package: String,
    /// Its full version, with epoch and revision.
    pub version: String,
    pub(crate) whence: Whence,
}

/// Where an offered version comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whence {
    /// A suite of an archive. It may lean on another one, which is among the sources: addresses with their suites.
    Archive { suite: String, sources: Vec<(String, String)> },
    /// Packages of an image that is in the cache, which the archive may have dropped.
    Image { recipe: String, packages: Vec<Package> },
}

impl Offered {
    /// Where it is: the archive's suite, or the image in the cache whose packages are there still.
    pub fn place(&self) -> String {
        match &self.whence {
            Whence::Archive { suite, .. } => suite.clone(),
            Whence::Image { recipe, .. } => format!("image {recipe}"),
        }
    }
}

/// A kernel that lies on this machine: one image (bzImage, Image, vmlinux), packages (`make bindeb-pkg`, or a
/// distribution's), or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalKernel {
    pub(crate) files: Vec<(PathBuf, Digest)>,
    release: String,
    isa: Isa,
    has_modules: bool,
}

impl LocalKernel {
    /// Reads what makes up one kernel.
    ///
    /// # Errors
    /// [`Error::Replacement`] if it is no kernel, or more than one.
    pub fn read(paths: &[PathBuf], catalog: &Catalog) -> Result<Self, Error> {
        let mut files = Vec::new();
        let mut kernels: Vec<(Isa, String)> = Vec::new();
        let mut has_modules = false;
        for path in paths {
            let path = path.canonicalize().map_err(Error::io("find", path))?;
            let refused = |message: String| Error::Replacement { what: path.display().to_string(), message };
            if is_package(&path) {
                let reporter = Reporter { recipe: "", to: &Silent };
                let tree = unpack(&[(String::new(), path.clone())], reporter)?;
                has_modules |= tree.under("usr/lib/modules/").any(|(path, _)| path.contains(".ko"));
                for pattern in kernel_images(catalog) {
                    // A kernel may lie in two places, one of them a link.
                    let Ok((release, image)) = assemble::kernel(&tree, &pattern) else { continue };
                    let Some((_, file)) = tree.file(&image) else { continue };
                    let (isa, _) = linux::identify(&file.data).map_err(&refused)?;
                    if !linux::is_release(&release) {
                        return Err(refused("the name of its image is no release".to_owned()));
                    }
                    kernels.push((isa, release));
                    break;
                }
            } else {
                let file = fs::read(&path).map_err(Error::io("read", &path))?;
                kernels.push(linux::identify(&file).map_err(refused)?);
            }
            let digest = Digest::of_file(&path)?;
            files.push((path, digest));
        }
        kernels.dedup();
        let what = || paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        match <[_; 1]>::try_from(kernels) {
            Ok([(isa, release)]) => Ok(Self { files, release, isa, has_modules }),
            Err(kernels) => {
                let message = match kernels.as_slice() {
                    [] => "no kernel image is in it".to_owned(),
                    several => {
                        let releases: Vec<&str> =
                            several.iter().map(|(_, release)| release.as_str()).collect();
                        format!("it is more than one kernel: {}", releases.join(", "))
                    }
                };
                Err(Error::Replacement { what: what(), message })
            }
        }
    }

    /// What `uname -r` says of it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Whether modules come with it. If not, all that a level needs must be built in.
    pub fn has_modules(&self) -> bool {
        self.has_modules
    }

    /// Checks that it is for the architecture of a recipe.
    ///
    /// # Errors
    /// [`Error::OtherArchitecture`] if it is not.
    pub fn check_fits(&self, base: &Recipe) -> Result<(), Error> {
        if self.isa == base.isa() {
            return Ok(());
        }
        let files: Vec<String> = self.files().map(|path| path.display().to_string()).collect();
        Err(Error::OtherArchitecture {
            what: files.join(", "),
            kernel: self.isa,
            recipe: base.name().to_owned(),
            wanted: base.isa(),
        })
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }
}

/// What a derived recipe has that its base has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replacement {
    /// Another kernel, from packages.
    Kernel(Offered),
    /// Another kernel, from this machine.
    LocalKernel(LocalKernel),
    /// Another QEMU.
    Qemu(Offered),
}

impl Replacement {
    /// Which part it takes the place of.
    pub fn part(&self) -> Part {
        match self {
            Self::Kernel(_) | Self::LocalKernel(_) => Part::Kernel,
            Self::Qemu(_) => Part::Qemu,
        }
    }

    /// The version, or the release of a local kernel.
    pub fn version(&self) -> &str {
        match self {
            Self::Kernel(offered) | Self::Qemu(offered) => &offered.version,
            Self::LocalKernel(kernel) => &kernel.release,
        }
    }

    /// Where it comes from, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Kernel(offered) | Self::Qemu(offered) => offered.place(),
            Self::LocalKernel(kernel) => {
                let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                kernel.files().map(name).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// What sets the name of a derived recipe apart from its base's.
    fn suffix(&self) -> String {
        // Versions have characters that a path had better not have.
        let plain = |text: &str| -> String {
            let allowed = |c: char| c.is_ascii_alphanumeric() || ".+~-".contains(c);
            text.chars().map(|c| if allowed(c) { c } else { '-' }).take(80).collect()
        };
        match self {
            Self::Kernel(offered) => format!("+kernel-{}", plain(&offered.version)),
            Self::Qemu(offered) => format!("+qemu-{}", plain(&offered.version)),
            // Two builds of one release are told apart.
            Self::LocalKernel(kernel) => {
                let digests =
                    kernel.files.iter().fold(Hasher::new(), |hasher, (_, d)| hasher.field(d.as_str()));
                let digest = digests.finish();
                format!("+local-kernel-{}-{}", plain(&kernel.release), &digest.as_str()[..8])
            }
        }
    }
}

/// What a derived recipe is made of.
#[derive(Debug, Clone)]
pub(crate) struct Derivation {
    /// Name of the recipe that it is derived from.
    pub(crate) base: String,
    /// The packages of that one's image.
    pub(crate) packages: Vec<Package>,
    pub(crate) replacement: Replacement,
    /// Dependencies of packages that nothing in an image uses, of all recipes.
    pub(crate) assumed: Vec<String>,
    /// Where kernels are in packages, its base's place first.
    kernel_images: Vec<String>,
    /// The products with what each known QEMU needs beside its program, its base's first.
    layouts: Vec<InitramfsText>,
}

impl Recipe {
    /// The recipe that makes the same of the same packages, but for the replacement. `packages` are those that the image of
    /// this recipe was made of.
    pub(crate) fn derived(
        &self,
        replacement: Replacement,
        packages: Vec<Package>,
        catalog: &Catalog,
    ) -> Self {
        let alike = || {
            let alike = |recipe: &&Self| recipe.isa() == self.isa() && recipe.name() != self.name();
            catalog.recipes().filter(alike)
        };
        let own = self.text.kernel.iter().map(|kernel| kernel.image.clone());
        let mut images: Vec<String> = own.collect();
        images.extend(
            kernel_images(catalog)
                .into_iter()
                .filter(|image| Some(image) != images.first())
                .collect::<Vec<_>>(),
        );
        let others = alike().filter_map(|recipe| recipe.text.hypervisor.as_ref());
        let layouts = match (&self.text.hypervisor, &replacement) {
            (Some(own), Replacement::Qemu(_)) => {
                let with_parts_of = |other: &InitramfsText| InitramfsText {
                    qemu: other.qemu.clone(),
                    qemu_modules: other.qemu_modules.clone(),
                    files: other.files.clone(),
                    ..own.clone()
                };
                std::iter::once(own.clone()).chain(others.map(with_parts_of)).collect()
            }
            (own, _) => own.iter().cloned().collect(),
        };
        let mut assumed: Vec<String> = std::iter::once(self)
            .chain(alike())
            .flat_map(|recipe| recipe.text.packages.assume_installed.iter().cloned())
            .collect();
        assumed.sort();
        assumed.dedup();
        let mut hasher = Hasher::new().field("derived").field(self.digest().as_str());
        for package in &packages {
            hasher = hasher.field(package.sha256.as_str());
        }
        hasher = match &replacement {
            Replacement::Kernel(offered) | Replacement::Qemu(offered) => {
                let hasher = hasher.field(&offered.package).field(&offered.version);
                match &offered.whence {
                    Whence::Archive { suite, .. } => hasher.field(suite),
                    Whence::Image { packages, .. } => {
                        packages.iter().fold(hasher, |hasher, one| hasher.field(one.sha256.as_str()))
                    }
                }
            }
            Replacement::LocalKernel(kernel) => {
                kernel.files.iter().fold(hasher, |hasher, (_, digest)| hasher.field(digest.as_str()))
            }
        };
        let name = format!("{}{}", self.name(), replacement.suffix());
        let base = self.name().to_owned();
        let derivation = Derivation { base, packages, replacement, assumed, kernel_images: images, layouts };
        self.renamed(name, hasher.finish(), derivation)
    }

    /// What it has in the place of what another recipe has, if it is derived from one; that one's name goes with it.
    pub fn replacement(&self) -> Option<(&str, &Replacement)> {
        self.derivation.as_ref().map(|derivation| (derivation.base.as_str(), &derivation.replacement))
    }

    /// Whether all that it is made of is on this machine.
    pub(crate) fn is_at_hand(&self) -> bool {
        self.derivation.as_ref().is_some_and(|derivation| match &derivation.replacement {
            Replacement::Kernel(offered) | Replacement::Qemu(offered) => {
                matches!(offered.whence, Whence::Image { .. })
            }
            Replacement::LocalKernel(_) => true,
        })
    }

    /// Where its kernel may be among its packages.
    pub(crate) fn kernel_images(&self) -> Vec<String> {
        match &self.derivation {
            Some(derivation) => derivation.kernel_images.clone(),
            None => self.text.kernel.iter().map(|kernel| kernel.image.clone()).collect(),
        }
    }

    /// What may go into the initramfs of a product, the likeliest first.
    pub(crate) fn layouts(&self, product: Product) -> Vec<InitramfsText> {
        match (product, &self.derivation) {
            (Product::Hypervisor, Some(derivation)) => derivation.layouts.clone(),
            (Product::Hypervisor, None) => self.text.hypervisor.iter().cloned().collect(),
            (Product::Minimal, _) => self.text.minimal.iter().cloned().collect(),
            (Product::Emulator, _) => Vec::new(),
        }
    }
}

/// Where the catalog's recipes find kernels.
fn kernel_images(catalog: &Catalog) -> Vec<String> {
    let mut images: Vec<String> =
        catalog.recipes().filter_map(|recipe| Some(recipe.text.kernel.as_ref()?.image.clone())).collect();
    images.sort();
    images.dedup();
    images
}

/// Whether a package holds a kernel, its modules, or nothing but leads to them.
pub(crate) fn is_of_kernel(package: &str) -> bool {
    ["linux-image-", "linux-binary-", "linux-modules-", "linux-base-"]
        .iter()
        .any(|start| package.starts_with(start))
}

impl Store {
    /// The recipe that makes the same as `base` with something else in one place. The image of `base` is made ready first,
    /// since what its packages are is taken over.
    ///
    /// # Errors
    /// As [`Store::ensure`]; [`Error::OtherArchitecture`] if the kernel is for another one.
    pub fn derive(
        &self,
        base: &Recipe,
        replacement: Replacement,
        catalog: &Catalog,
        progress: &dyn Progress,
    ) -> Result<Recipe, Error> {
        if let Replacement::LocalKernel(kernel) = &replacement {
            kernel.check_fits(base)?;
        }
        let product = base.products().first().copied().unwrap_or(Product::Hypervisor);
        let image = self.ensure(base, product, progress)?;
        Ok(base.derived(replacement, image.packages().to_vec(), catalog))
    }
}
