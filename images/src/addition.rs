//! Additions: what the images of a system get in addition if a level needs it, such as libvirt.
//!
//! An addition is a TOML file in the folder `additions` of the recipes. Each recipe that it fits becomes one more recipe,
//! `BASE+ADDITION`, with the same kernel and QEMU. The base and its images stay as they are.

use crate::digest::Hasher;
use crate::recipe::Recipe;
use crate::recipe_problem::RecipeProblem;
use crate::recipe_text::{Packages, Table, optional_list, owned, read_file};
use crate::{Catalog, Digest, Product};
use nestmatrix_input::{Entry, InputError, InputFile, Keys, entries, is_toml};
use std::collections::BTreeMap;
use std::path::Path;

/// The folder of additions in that of the recipes.
const FOLDER: &str = "additions";

/// In the paths of an addition, the folder of libraries below `usr/lib`.
const MULTIARCH: &str = "{multiarch}";

/// An addition, as its file says it.
#[derive(Debug, Clone)]
pub(crate) struct Addition {
    name: String,
    /// The systems that it fits, by `ID` in os-release(5).
    systems: Vec<String>,
    install: Vec<String>,
    assume_installed: Vec<String>,
    programs: Vec<String>,
    /// Libraries that programs load at run time.
    modules: Vec<String>,
    /// Folders whose files are all taken.
    folders: Vec<String>,
    /// Kernel modules that only some kernels have.
    optional_kernel_modules: Vec<String>,
    /// Whether the innermost level can have it too.
    innermost: bool,
    /// Links, by their paths in the image.
    links: BTreeMap<String, String>,
    /// The files next to the addition, by their paths in the image.
    texts: BTreeMap<String, String>,
    /// Where the image gets a copy of its own kernel, if it does.
    kernel: Option<String>,
    digest: Digest,
}

impl Addition {
    const KEYS: Keys = &[
        "name",
        "systems",
        "install",
        "assume-installed",
        "programs",
        "modules",
        "folders",
        "optional-kernel-modules",
        "innermost",
        "links",
        "files",
        "kernel",
    ];

    fn load(path: &Path) -> Result<Self, Vec<InputError<RecipeProblem>>> {
        let file = InputFile::read(path).map_err(|error| vec![error])?;
        let source = file.text();
        file.interpret(Self::KEYS, |root| Self::read(root, path.parent().unwrap_or(path), &source))
    }

    fn read(root: &Table<'_>, folder: &Path, source: &str) -> Option<Self> {
        let name = root.string("name").filter(|name| name.names_its_file("addition", "name"));
        let [systems, install] = ["systems", "install"].map(|key| root.strings(key).map(owned));
        let [assume_installed, programs, modules, folders, optional_kernel_modules] =
            ["assume-installed", "programs", "modules", "folders", "optional-kernel-modules"]
                .map(|key| optional_list(root, key));
        let innermost = root.optional_boolean("innermost").unwrap_or(false);
        let links = root.optional_strings("links").unwrap_or_default();
        let links = links.iter().filter_map(|link| link.parse(read_link)).collect();
        let name = name?.as_str().to_owned();
        let files = root.optional_strings("files").unwrap_or_default();
        let folder = folder.join(&name);
        let texts =
            files.iter().filter_map(|path| Some((path.as_str().to_owned(), read_file(path, &folder)?)));
        let texts: BTreeMap<String, String> = texts.collect();
        let kernel = root.optional_prose("kernel");
        let mut hasher = Hasher::new().field(source);
        for (path, text) in &texts {
            hasher = hasher.field(path).field(text);
        }
        let digest = hasher.finish();
        let (systems, install) = (systems?, install?);
        Some(Self {
            name,
            systems,
            install,
            assume_installed,
            programs,
            modules,
            folders,
            optional_kernel_modules,
            innermost,
            links,
            texts,
            kernel,
            digest,
        })
    }

    /// The recipe with this addition, if it fits.
    fn to(&self, base: &Recipe) -> Option<Recipe> {
        let is_of_system = base.os().is_some_and(|os| self.systems.contains(&os.id));
        let mut text = base.text.clone();
        if !self.innermost {
            text.minimal = None;
        }
        let (Packages::Apt(packages), Some(hypervisor), true) =
            (&mut text.packages, text.hypervisor.as_mut(), is_of_system)
        else {
            return None;
        };
        packages.install.extend(self.install.iter().cloned());
        packages.assume_installed.extend(self.assume_installed.iter().cloned());
        let here = |paths: &[String]| -> Vec<String> {
            let multiarch = base.isa().info().multiarch;
            paths.iter().map(|path| path.replace(MULTIARCH, multiarch)).collect()
        };
        for part in std::iter::once(hypervisor).chain(text.minimal.as_mut()) {
            part.programs.extend(here(&self.programs));
            part.programs.extend(here(&self.modules));
            part.folders.extend(here(&self.folders));
            part.optional_kernel_modules.extend(self.optional_kernel_modules.iter().cloned());
            part.links.extend(self.links.clone());
            part.texts.extend(self.texts.clone());
            part.kernel_copy.clone_from(&self.kernel);
        }
        let has_minimal = text.minimal.is_some();
        text.init.retain(|product, _| {
            *product == Product::Hypervisor || (*product == Product::Minimal && has_minimal)
        });
        text.emulator = None;
        text.name = format!("{}+{}", base.name(), self.name);
        let digest = Hasher::new().field(base.digest().as_str()).field(self.digest.as_str()).finish();
        Some(base.extended(text, &self.name, digest))
    }
}

/// `PATH=TARGET`.
fn read_link(text: &str) -> Result<(String, String), RecipeProblem> {
    let (path, target) = text.split_once('=').ok_or_else(|| RecipeProblem::BadLink(text.to_owned()))?;
    Ok((path.to_owned(), target.to_owned()))
}

/// The additions in a folder of recipes, or every mistake in them. A folder without additions has none.
pub(crate) fn load(recipes: &Path) -> Result<Vec<Addition>, Vec<InputError<RecipeProblem>>> {
    let folder = recipes.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let unreadable = |error| {
        let name = folder.display().to_string();
        vec![InputError::of_file(&name, nestmatrix_input::FileProblem::Unreadable(error))]
    };
    let (mut additions, mut errors) = (Vec::new(), Vec::new());
    let files = entries(&folder).map_err(unreadable)?;
    for Entry { path, .. } in files.into_iter().filter(|entry| !entry.is_folder && is_toml(&entry.path)) {
        match Addition::load(&path) {
            Ok(addition) => additions.push(addition),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(additions) } else { Err(errors) }
}

/// Every recipe that one of the additions makes of these, by name.
pub(crate) fn extended<'r>(
    additions: &[Addition],
    recipes: impl Iterator<Item = &'r Recipe> + Clone,
) -> BTreeMap<String, Recipe> {
    let made = additions.iter().flat_map(|addition| recipes.clone().filter_map(|recipe| addition.to(recipe)));
    made.map(|recipe| (recipe.name().to_owned(), recipe)).collect()
}

impl Catalog {
    /// The recipe of this name with this addition, if there is one.
    pub fn with_addition(&self, recipe: &str, addition: &str) -> Option<&Recipe> {
        self.extended.get(&format!("{recipe}+{addition}"))
    }
}
