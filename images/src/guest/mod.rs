//! The image of a level that boots a guest of the user: the user's kernel and initramfs, and before the initramfs a small archive whose
//! init makes the report that every innermost level makes (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).

use crate::build::{Build, Loose, Materials, now};
use crate::digest::Hasher;
use crate::recipe_text::Compression;
use crate::replacement::Replacement;
use crate::suites::AddedGuest;
use crate::tree::{Node, Tree};
use crate::{Catalog, Digest, Error, Image, Kernel, LocalKernel, Package, Product, Recipe};
use crate::{pack, unpack};
use std::fs;
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};

/// The folder of what is added to an initramfs. The user's files are elsewhere.
const FOLDER: &str = ".nestmatrix";
/// The first process.
const INIT: &str = include_str!("init.sh");
/// The applets that the first process needs and that of an innermost level does not.
const APPLETS: [&str; 4] = ["mkdir", "poweroff", "rm", "umount"];
/// The place of the user's initramfs among the files of packages.
const INITRAMFS: &str = "guest/initramfs";

/// A guest of the user, as its files are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalGuest {
    name: String,
    kernel: Option<LocalKernel>,
    initramfs: Option<(PathBuf, Digest)>,
}

/// A guest, and the image that has what the guest does not bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestOnImage {
    guest: LocalGuest,
    /// The digest of the image.
    image: Digest,
    /// Its kernel, and the release of that.
    kernel: (PathBuf, Kernel),
    initramfs: PathBuf,
}

impl LocalGuest {
    /// The parameter of the kernel's command line that starts the guest in such an image.
    pub const PARAMETER: &'static str = "rdinit=/.nestmatrix/init";

    /// Reads the files of a guest.
    ///
    /// # Errors
    /// [`Error::Io`] if one can't be read, [`Error::Replacement`] if there is no kernel in the file of the kernel.
    pub fn read(added: &AddedGuest, catalog: &Catalog) -> Result<Self, Error> {
        let kernel = added.kernel().map(|path| LocalKernel::read(&[path.to_owned()], catalog)).transpose()?;
        let with_digest = |path: &Path| Ok::<_, Error>((path.to_owned(), Digest::of_file(path)?));
        let initramfs = added.initramfs().map(with_digest).transpose()?;
        Ok(Self { name: added.name().to_owned(), kernel, initramfs })
    }

    /// Its kernel, if it brings one.
    pub fn kernel(&self) -> Option<&LocalKernel> {
        self.kernel.as_ref()
    }

    /// The file and the SHA-256 of its initramfs, if it brings one.
    pub fn initramfs(&self) -> Option<(&Path, &Digest)> {
        self.initramfs.as_ref().map(|(path, digest)| (path.as_path(), digest))
    }

    /// The names of its files.
    pub(crate) fn file_names(&self) -> String {
        let files =
            self.kernel.iter().flat_map(LocalKernel::files).chain(self.initramfs().map(|(path, _)| path));
        let names = files.map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        names.collect::<Vec<_>>().join(", ")
    }

    /// The recipe of its image. `image` is the minimal one of `base`, which has what the guest does not bring.
    ///
    /// # Errors
    /// [`Error::OtherArchitecture`] if its kernel is for another one.
    pub fn recipe(&self, base: &Recipe, image: &Image, catalog: &Catalog) -> Result<Recipe, Error> {
        if let Some(kernel) = &self.kernel {
            kernel.check_fits(base)?;
        }
        let (Some(kernel), Some(release), Some(initramfs)) =
            (image.kernel(), image.kernel_version(), image.initramfs())
        else {
            return Err(Error::NoSuchProduct { recipe: base.name().to_owned(), product: Product::Minimal });
        };
        let on_image = GuestOnImage {
            guest: self.clone(),
            image: image.digest().clone(),
            kernel: (kernel, release.clone()),
            initramfs,
        };
        Ok(base.derived(Replacement::Guest(on_image), Vec::new(), catalog).with_only(Product::Minimal))
    }
}

impl Recipe {
    /// The guest of the user that its image boots, if it boots one.
    pub fn guest(&self) -> Option<&LocalGuest> {
        self.guest_on_image().map(|on_image| &on_image.guest)
    }

    /// The same with the image that it is added to.
    pub(crate) fn guest_on_image(&self) -> Option<&GuestOnImage> {
        match &self.derivation.as_ref()?.replacement {
            Replacement::Guest(guest) => Some(guest),
            _ => None,
        }
    }
}

impl GuestOnImage {
    /// The release of the kernel that it boots.
    pub(crate) fn release(&self) -> &str {
        self.guest.kernel.as_ref().map_or(&self.kernel.1.release, |kernel| kernel.release())
    }

    pub(crate) fn file_names(&self) -> String {
        self.guest.file_names()
    }

    /// The suffix of its recipe's name. The digest distinguishes two builds.
    pub(crate) fn suffix(&self) -> String {
        let digest = self.hash(Hasher::new()).finish();
        format!("+guest-{}-{}", self.guest.name, &digest.as_str()[..8])
    }

    /// Adds all that its image depends on.
    pub(crate) fn hash(&self, hasher: Hasher) -> Hasher {
        let kernels = self.guest.kernel.iter().flat_map(|kernel| &kernel.files);
        let hasher = hasher.field(INIT).field(self.image.as_str()).field("kernel");
        let hasher = kernels.fold(hasher, |hasher, (_, digest)| hasher.field(digest.as_str()));
        let initramfs = self.guest.initramfs.iter();
        initramfs.fold(hasher.field("initramfs"), |hasher, (_, digest)| hasher.field(digest.as_str()))
    }

    /// Writes the initramfs of its image. `files` has what was gathered for it.
    ///
    /// # Errors
    /// [`Error::Assemble`] if a part is missing, or [`Error::Io`].
    pub(crate) fn write_initramfs(
        &self,
        recipe: &str,
        files: &Tree,
        compression: Compression,
        path: &Path,
    ) -> Result<(), Error> {
        let image = unpack::initramfs(&self.initramfs)?;
        let added =
            addition(&image).map_err(|message| Error::Assemble { recipe: recipe.to_owned(), message })?;
        let Some((_, own)) = files.file(INITRAMFS) else {
            let mut whole = image;
            whole.extend(added);
            return pack::initramfs(&whole, compression, path);
        };
        pack::initramfs(&added, Compression::None, path)?;
        let append = || {
            let mut whole = fs::File::options().write(true).open(path)?;
            // An archive begins at a multiple of four bytes. A compressed one is last, since not all kinds say where they end.
            let end = whole.seek(io::SeekFrom::End(0))?.next_multiple_of(4);
            whole.set_len(end)?;
            whole.seek(io::SeekFrom::Start(end))?;
            io::copy(&mut &own.data[..], &mut whole).map(drop)
        };
        append().map_err(Error::io("write", path))
    }
}

/// What stands before the user's initramfs: busybox and the init of an image, and the init that starts it.
fn addition(image: &Tree) -> Result<Tree, String> {
    let missing = |path: &str| format!("the initramfs of the image has no {path}");
    let (_, busybox) = image.file("usr/bin/busybox").ok_or_else(|| missing("busybox"))?;
    let (_, report) = image.file("init").ok_or_else(|| missing("init"))?;
    let mut tree = Tree::default();
    tree.write(&format!("{FOLDER}/busybox"), busybox.data.clone(), true);
    tree.write(&format!("{FOLDER}/report"), report.data.clone(), false);
    tree.write(&format!("{FOLDER}/init"), INIT.as_bytes(), true);
    let applets =
        image.under("usr/bin/").filter(|(_, node)| matches!(node, Node::Link(to) if to == "busybox"));
    let applets = applets.filter_map(|(path, _)| path.rsplit('/').next());
    for applet in applets.chain(APPLETS) {
        tree.insert(&format!("{FOLDER}/bin/{applet}"), Node::Link("../busybox".into()));
    }
    Ok(tree)
}

impl Build<'_> {
    /// The files of the image of a guest.
    pub(crate) fn gather_guest(&self, on_image: &GuestOnImage) -> Result<Materials, Error> {
        let LocalGuest { kernel, initramfs, .. } = &on_image.guest;
        let mut materials = Materials::none();
        if let Some(kernel) = kernel {
            let (packages, loose) = self.local(kernel)?;
            (materials.packages, materials.files) = packages.into_iter().unzip();
            materials.loose = loose;
        } else {
            let (file, Kernel { release, package, version }) = &on_image.kernel;
            let package = self.described(package, version, Digest::of_file(file)?);
            let (file, path) = (file.clone(), self.place_of_kernel(release));
            materials.loose.push(Loose { package, file, path, executable: false });
        }
        if let Some((file, digest)) = initramfs {
            if Digest::of_file(file)? != *digest {
                let message = "it has changed since it was read".to_owned();
                return Err(Error::Replacement { what: file.display().to_string(), message });
            }
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let package = self.described(&name, "-", digest.clone());
            let (file, path) = (file.clone(), INITRAMFS.to_owned());
            materials.loose.push(Loose { package, file, path, executable: false });
        }
        Ok(Materials { when: now(), ..materials })
    }

    fn described(&self, name: &str, version: &str, sha256: Digest) -> Package {
        let (name, version) = (name.to_owned(), version.to_owned());
        Package { name, version, architecture: self.recipe.isa().to_string(), sha256 }
    }
}

#[cfg(test)]
mod tests;
