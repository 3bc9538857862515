//! Derives recipes with another kernel or another QEMU. All other packages are exactly those of the base's image, so two such
//! images differ only in that component.

use crate::digest::Hasher;
use crate::guest::GuestOnImage;
use crate::linux;
use crate::package_source::{is_package, unpack};
use crate::progress::{Progress, Reporter, Silent};
use crate::recipe::Recipe;
use crate::recipe_text::InitramfsText;
use crate::{Catalog, Digest, Error, Package, Product, Source, Store, assemble};
use nestmatrix_model::Isa;
use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A component of an image that can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The kernel and its modules.
    Kernel,
    /// The QEMU in the image, which runs the next level.
    Qemu,
}

/// An available version of a kernel or of QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Its package.
    pub package: String,
    /// Its full version, with epoch and revision.
    pub version: String,
    pub(crate) source: OfferSource,
}

/// Where an offered version comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OfferSource {
    /// A suite of an archive. The sources (addresses and suites) include a suite that it depends on.
    Archive { suite: String, sources: Vec<(String, String)> },
    /// A source of RPM packages.
    Rpm { source: Arc<Source> },
    /// Packages of an image in the cache, which the archive may have dropped.
    Image { recipe: String, packages: Vec<Package> },
}

impl Offered {
    /// Where it comes from: a suite of the archive, a source, or an image in the cache.
    pub fn place(&self) -> String {
        match &self.source {
            OfferSource::Archive { suite, .. } => suite.clone(),
            OfferSource::Rpm { source } => source.name(),
            OfferSource::Image { recipe, .. } => format!("image {recipe}"),
        }
    }
}

/// A kernel in files of this machine: an image (bzImage, Image, vmlinux), packages (from `make bindeb-pkg` or a distribution), or
/// both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalKernel {
    pub(crate) files: Vec<(PathBuf, Digest)>,
    release: String,
    isa: Isa,
    has_modules: bool,
}

impl LocalKernel {
    /// Reads the files of one kernel.
    ///
    /// # Errors
    /// [`Error::Replacement`] if they hold no kernel, or more than one.
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
                    // A kernel may be in two places, one of them a link.
                    let Ok((release, image)) = assemble::kernel(&tree, &pattern) else { continue };
                    let Some((_, file)) = tree.file(&image) else { continue };
                    let (isa, _) = linux::identify(&file.data).map_err(&refused)?;
                    if !linux::is_release(&release) {
                        return Err(refused(
                            "its image is named after something that is not a release".to_owned(),
                        ));
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
                    [] => "it holds no kernel image".to_owned(),
                    several => {
                        let releases: Vec<&str> =
                            several.iter().map(|(_, release)| release.as_str()).collect();
                        format!("it holds several kernels: {}", releases.join(", "))
                    }
                };
                Err(Error::Replacement { what: what(), message })
            }
        }
    }

    /// Its release, as `uname -r` prints it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Whether it has modules. If not, everything that a level needs must be built in.
    pub fn has_modules(&self) -> bool {
        self.has_modules
    }

    /// Checks that its architecture is that of a recipe.
    ///
    /// # Errors
    /// [`Error::OtherArchitecture`] if it is another one.
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

    /// The instruction set that it is for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.digests().map(|(path, _)| path)
    }

    /// Its files, each with its SHA-256.
    pub fn digests(&self) -> impl Iterator<Item = (&Path, &Digest)> {
        self.files.iter().map(|(path, digest)| (path.as_path(), digest))
    }
}

/// What a derived recipe has that its base has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replacement {
    /// A kernel from packages.
    Kernel(Offered),
    /// A kernel from files of this machine.
    LocalKernel(LocalKernel),
    /// A QEMU.
    Qemu(Offered),
    /// A guest of the user, which has its own initramfs, its own kernel, or both.
    Guest(GuestOnImage),
}

impl Replacement {
    /// The replaced component.
    pub fn component(&self) -> Component {
        match self {
            Self::Kernel(_) | Self::LocalKernel(_) | Self::Guest(_) => Component::Kernel,
            Self::Qemu(_) => Component::Qemu,
        }
    }

    /// The former name of [`Self::component`].
    pub fn part(&self) -> Component {
        self.component()
    }

    /// The version, or the release of a local kernel.
    pub fn version(&self) -> &str {
        match self {
            Self::Kernel(offered) | Self::Qemu(offered) => &offered.version,
            Self::LocalKernel(kernel) => &kernel.release,
            Self::Guest(guest) => guest.release(),
        }
    }

    /// Where it comes from, as text for people.
    pub fn place(&self) -> String {
        match self {
            Self::Kernel(offered) | Self::Qemu(offered) => offered.place(),
            Self::LocalKernel(kernel) => {
                let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                kernel.files().map(name).collect::<Vec<_>>().join(", ")
            }
            Self::Guest(guest) => guest.file_names(),
        }
    }

    /// The suffix of the derived recipe's name.
    fn suffix(&self) -> String {
        // Versions can contain characters that are unsuitable for paths.
        let plain = |text: &str| -> String {
            let allowed = |c: char| c.is_ascii_alphanumeric() || ".+~-".contains(c);
            text.chars().map(|c| if allowed(c) { c } else { '-' }).take(80).collect()
        };
        match self {
            Self::Kernel(offered) => format!("+kernel-{}", plain(&offered.version)),
            Self::Qemu(offered) => format!("+qemu-{}", plain(&offered.version)),
            // The digest distinguishes two builds of one release.
            Self::LocalKernel(kernel) => {
                let digests =
                    kernel.files.iter().fold(Hasher::new(), |hasher, (_, d)| hasher.field(d.as_str()));
                let digest = digests.finish();
                format!("+local-kernel-{}-{}", plain(&kernel.release), &digest.as_str()[..8])
            }
            Self::Guest(guest) => guest.suffix(),
        }
    }
}

/// The inputs of a derived recipe.
#[derive(Debug, Clone)]
pub(crate) struct Derivation {
    /// Name of the base recipe.
    pub(crate) base: String,
    /// The packages of the base's image.
    pub(crate) packages: Vec<Package>,
    pub(crate) replacement: Replacement,
    /// Unneeded dependencies, from all recipes: apt assumes that they are installed.
    pub(crate) assumed: Vec<String>,
    /// Possible paths of the kernel in packages, the base's first.
    kernel_images: Vec<String>,
    /// Possible layouts of the initramfs, with the files that each known QEMU needs; the base's first.
    layouts: Vec<InitramfsText>,
}

impl Recipe {
    /// Derives a recipe that differs only in the replacement. `packages` are those of this recipe's image.
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
                    qemu_name: other.qemu_name.clone(),
                    qemu_modules: other.qemu_modules.clone(),
                    files: other.files.clone(),
                    optional_files: other.optional_files.clone(),
                    ..own.clone()
                };
                std::iter::once(own.clone()).chain(others.map(with_parts_of)).collect()
            }
            (own, _) => own.iter().cloned().collect(),
        };
        let mut assumed: Vec<String> = std::iter::once(self)
            .chain(alike())
            .filter_map(|recipe| recipe.apt())
            .flat_map(|packages| packages.assume_installed.iter().cloned())
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
                match &offered.source {
                    OfferSource::Archive { suite, .. } => hasher.field(suite),
                    OfferSource::Rpm { source } => hasher.field(source.digest().as_str()),
                    OfferSource::Image { packages, .. } => {
                        packages.iter().fold(hasher, |hasher, one| hasher.field(one.sha256.as_str()))
                    }
                }
            }
            Replacement::LocalKernel(kernel) => {
                kernel.files.iter().fold(hasher, |hasher, (_, digest)| hasher.field(digest.as_str()))
            }
            Replacement::Guest(guest) => guest.hash(hasher),
        };
        let name = format!("{}{}", self.name(), replacement.suffix());
        let base = self.name().to_owned();
        let derivation = Derivation { base, packages, replacement, assumed, kernel_images: images, layouts };
        self.renamed(name, hasher.finish(), derivation)
    }

    /// The order of two versions of its packages.
    pub fn compare_versions(&self, a: &str, b: &str) -> Ordering {
        self.packages().format().compare_versions(a, b)
    }

    /// The name of the base and the replacement, if the recipe is derived.
    pub fn replacement(&self) -> Option<(&str, &Replacement)> {
        self.derivation.as_ref().map(|derivation| (derivation.base.as_str(), &derivation.replacement))
    }

    /// Whether all its inputs are on this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.derivation.as_ref().is_some_and(|derivation| match &derivation.replacement {
            Replacement::Kernel(offered) | Replacement::Qemu(offered) => {
                matches!(offered.source, OfferSource::Image { .. })
            }
            Replacement::LocalKernel(_) | Replacement::Guest(_) => true,
        })
    }

    /// Possible paths of its kernel in its packages.
    pub(crate) fn kernel_images(&self) -> Vec<String> {
        match &self.derivation {
            Some(derivation) => derivation.kernel_images.clone(),
            None => self.text.kernel.iter().map(|kernel| kernel.image.clone()).collect(),
        }
    }

    /// Possible layouts of a product's initramfs, the most likely first.
    pub(crate) fn layouts(&self, product: Product) -> Vec<InitramfsText> {
        match (product, &self.derivation) {
            (Product::Hypervisor, Some(derivation)) => derivation.layouts.clone(),
            (Product::Hypervisor, None) => self.text.hypervisor.iter().cloned().collect(),
            (Product::Minimal, _) => self.text.minimal.iter().cloned().collect(),
            (Product::Emulator | Product::Firmware | Product::Disk, _) => Vec::new(),
        }
    }
}

/// The paths of kernels in all recipes.
fn kernel_images(catalog: &Catalog) -> Vec<String> {
    let mut images: Vec<String> =
        catalog.recipes().filter_map(|recipe| Some(recipe.text.kernel.as_ref()?.image.clone())).collect();
    images.sort();
    images.dedup();
    images
}

/// Whether a package holds a kernel or its modules, or is a metapackage for them.
pub(crate) fn is_of_kernel(package: &str) -> bool {
    let starts = ["linux-image-", "linux-binary-", "linux-modules-", "linux-base-", "kernel-"];
    package == "kernel" || starts.iter().any(|start| package.starts_with(start))
}

impl Store {
    /// Derives a recipe from `base`. The image of `base` is built first, since the derived recipe uses the same packages.
    ///
    /// # Errors
    /// As [`Store::ensure`]; [`Error::OtherArchitecture`] if the kernel has another architecture.
    pub fn derive(
        &self,
        base: &Recipe,
        replacement: Replacement,
        catalog: &Catalog,
        progress: &dyn Progress,
    ) -> Result<Recipe, Error> {
        if base.disk().is_some() {
            let message = "the kernel and QEMU of a vendor's disk cannot be replaced".to_owned();
            return Err(Error::Replacement { what: base.name().to_owned(), message });
        }
        if let Replacement::LocalKernel(kernel) = &replacement {
            kernel.check_fits(base)?;
        }
        let product = base.products().first().copied().unwrap_or(Product::Hypervisor);
        let image = self.ensure(base, product, progress)?;
        Ok(base.derived(replacement, image.packages().to_vec(), catalog))
    }
}
