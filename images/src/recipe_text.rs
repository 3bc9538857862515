//! What a recipe says: its TOML, and the files that it names.

use crate::apt_packages::AptPackages;
use crate::disk::DiskText;
use crate::package_source::NoPackages;
use crate::recipe_problem::RecipeProblem;
use crate::rpm::{RpmPackages, RpmText};
use crate::template::TemplateText;
use crate::uefi::UefiText;
use crate::{Os, Product};
use nestmatrix_input::Keys;
use nestmatrix_model::{Isa, Word};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub(crate) type Table<'t> = nestmatrix_input::Table<'t, RecipeProblem>;
pub(crate) type Text<'t> = nestmatrix_input::Text<'t, RecipeProblem>;

/// A recipe's contents. Paths inside packages are written as on a system with a merged `/usr`.
#[derive(Debug, Clone)]
pub(crate) struct RecipeText {
    pub(crate) name: String,
    pub(crate) architecture: Isa,
    pub(crate) os: Option<Os>,
    pub(crate) packages: Packages,
    /// Which systems it serves, if it is a template.
    pub(crate) template: Option<TemplateText>,
    /// Where busybox comes from, if it is not among the packages.
    pub(crate) busybox: Option<AptPackages>,
    /// Firmware of another system.
    pub(crate) firmware: Option<FirmwareText>,
    pub(crate) kernel: Option<KernelText>,
    pub(crate) hypervisor: Option<InitramfsText>,
    pub(crate) minimal: Option<InitramfsText>,
    pub(crate) emulator: Option<EmulatorText>,
    pub(crate) uefi: Option<UefiText>,
    pub(crate) disk: Option<DiskText>,
    /// The files next to the recipe, for each initramfs.
    pub(crate) init: BTreeMap<Product, Init>,
}

/// Files next to the recipe that go into an initramfs.
#[derive(Debug, Clone)]
pub(crate) struct Init {
    /// The script of its first process.
    pub(crate) script: String,
    /// Names of busybox applets, separated by white space.
    pub(crate) applets: String,
    /// The files that the script sources, by name. They are put into the root folder.
    pub(crate) scripts: BTreeMap<String, String>,
}

/// What a recipe is made of.
#[derive(Debug, Clone)]
pub(crate) enum Packages {
    /// Debian packages.
    Apt(AptPackages),
    /// RPM packages.
    Rpm(RpmPackages),
    /// None, which a disk may need.
    None(NoPackages),
}

/// Firmware for guests that the system's QEMU does not come with.
#[derive(Debug, Clone)]
pub(crate) struct FirmwareText {
    pub(crate) packages: AptPackages,
    /// Its files in the packages.
    pub(crate) files: Vec<String>,
    /// The folder in which QEMU looks for them.
    pub(crate) folder: String,
}

#[derive(Debug, Clone)]
pub(crate) struct KernelText {
    /// The path of the kernel, with `{release}` instead of its release.
    pub(crate) image: String,
}

#[derive(Debug, Clone)]
pub(crate) struct InitramfsText {
    pub(crate) compression: Compression,
    pub(crate) qemu: Option<String>,
    /// What levels start QEMU as, if its program has another name.
    pub(crate) qemu_name: Option<String>,
    pub(crate) qemu_modules: Vec<String>,
    pub(crate) programs: Vec<String>,
    pub(crate) files: Vec<String>,
    /// Files that only some versions have.
    pub(crate) optional_files: Vec<String>,
    /// Folders whose files are all taken.
    pub(crate) folders: Vec<String>,
    /// Links that are in no package, by their paths.
    pub(crate) links: BTreeMap<String, String>,
    /// Files that are in no package, by their paths.
    pub(crate) texts: BTreeMap<String, String>,
    /// Where a copy of the kernel is, if there is one.
    pub(crate) kernel_copy: Option<String>,
    pub(crate) kernel_modules: Vec<String>,
    /// Modules that only some kernels have.
    pub(crate) optional_kernel_modules: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct EmulatorText {
    /// The emulator.
    pub(crate) program: String,
    /// Other programs, which make what the emulator boots.
    pub(crate) programs: Vec<String>,
    /// Modules that it loads at run time.
    pub(crate) modules: Vec<String>,
    /// The same, of which some versions have none.
    pub(crate) optional_modules: Vec<String>,
    pub(crate) files: Vec<String>,
    /// Files that only some versions have.
    pub(crate) optional_files: Vec<String>,
    /// Whether it is also packed into one file, for levels that run it.
    pub(crate) packed: bool,
}

/// The compression of an initramfs. The kernel detects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Zstd,
}

impl Word for Compression {
    const WHAT: &'static str = "compression";
    const ALL: &'static [Self] = &[Self::None, Self::Zstd];

    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
        }
    }
}

// In all of these, a wrong value has already been reported, and counts as absent.

impl RecipeText {
    pub(crate) const KEYS: Keys = &[
        "name",
        "architecture",
        "os",
        "packages",
        "rpm",
        "template",
        "busybox",
        "firmware",
        "kernel",
        "hypervisor",
        "minimal",
        "emulator",
        "uefi",
        "disk",
    ];

    /// Reads a recipe. The files that it names are relative to `folder`.
    pub(crate) fn read(root: &Table<'_>, folder: &Path) -> Option<Self> {
        let name = root.string("name").filter(|name| name.names_its_file("recipe", "name"));
        let architecture = root.string("architecture").and_then(|text| text.parse(Isa::parse));
        let os = root.optional_table("os", OS_KEYS).and_then(|os| read_os(&os));
        let packages = Packages::read(root);
        let busybox = root.optional_table("busybox", AptPackages::KEYS);
        let busybox = busybox.and_then(|busybox| AptPackages::read(&busybox));
        let firmware = root.optional_table("firmware", FirmwareText::KEYS);
        let firmware = firmware.and_then(|firmware| FirmwareText::read(&firmware));
        let kernel = root.optional_table("kernel", KernelText::KEYS);
        let kernel = kernel.and_then(|kernel| Some(KernelText { image: kernel.prose("image")? }));
        let boots = [(Product::Hypervisor, "hypervisor"), (Product::Minimal, "minimal")]
            .map(|(product, key)| (product, root.optional_table(key, InitramfsText::KEYS)));
        if let Some(table) = boots.iter().find_map(|(_, table)| table.as_ref())
            && root.is_missing("kernel")
        {
            table.report(RecipeProblem::NoKernel);
        }
        let init = boots
            .iter()
            .filter_map(|(product, table)| Some((*product, Init::read(table.as_ref()?, folder)?)));
        let init = init.collect();
        let [hypervisor, minimal] = boots.map(|(_, table)| InitramfsText::read(&table?));
        let emulator = root.optional_table("emulator", EmulatorText::KEYS);
        let emulator = emulator.and_then(|emulator| EmulatorText::read(&emulator));
        let uefi = root.optional_table("uefi", UefiText::KEYS).and_then(|uefi| UefiText::read(&uefi));
        let disk = root.optional_table("disk", DiskText::KEYS).and_then(|disk| DiskText::read(&disk, folder));
        let products = ["hypervisor", "minimal", "emulator", "uefi", "disk"];
        if products.into_iter().all(|product| root.is_missing(product)) {
            root.report(RecipeProblem::NoProduct);
        }
        let (packages, template) = packages?;
        Some(Self {
            name: name?.as_str().to_owned(),
            architecture: architecture?,
            os,
            packages,
            template,
            busybox,
            firmware,
            kernel,
            hypervisor,
            minimal,
            emulator,
            uefi,
            disk,
            init,
        })
    }
}

const OS_KEYS: Keys = &["id", "version", "variant"];

fn read_os(table: &Table<'_>) -> Option<Os> {
    let [id, version] = ["id", "version"].map(|key| table.prose(key));
    Some(Os { id: id?, version: version?, variant: table.optional_prose("variant") })
}

impl Init {
    fn read(table: &Table<'_>, folder: &Path) -> Option<Self> {
        let [script, applets] = ["init", "applets"].map(|key| read_file(&table.string(key)?, folder));
        let scripts = table.optional_strings("scripts").unwrap_or_default();
        let scripts = scripts.iter().filter_map(|script| {
            let name = script.as_str().rsplit('/').next().unwrap_or_default();
            Some((name.to_owned(), read_file(script, folder)?))
        });
        let scripts = scripts.collect();
        Some(Self { script: script?, applets: applets?, scripts })
    }
}

pub(crate) fn read_file(name: &Text<'_>, folder: &Path) -> Option<String> {
    let path = folder.join(name.as_str());
    name.parse(|_| fs::read_to_string(&path).map_err(|error| RecipeProblem::Unreadable { path, error }))
}

impl Packages {
    /// Reads what a recipe is made of, and its `[template]`, which RPM packages need.
    fn read(root: &Table<'_>) -> Option<(Self, Option<TemplateText>)> {
        let apt = root.optional_table("packages", AptPackages::KEYS);
        let rpm = root.optional_table("rpm", RpmText::KEYS);
        let template = root.optional_table("template", TemplateText::KEYS);
        let is_disk = root.has("disk");
        match (apt, rpm, template) {
            (None, None, Some(template)) if is_disk => {
                Some((Self::None(NoPackages), Some(TemplateText::read(&template)?)))
            }
            (Some(packages), None, Some(template)) if is_disk => {
                Some((Self::Apt(AptPackages::read(&packages)?), Some(TemplateText::read(&template)?)))
            }
            (_, _, None) if is_disk => {
                root.report(RecipeProblem::NoTemplate);
                None
            }
            (Some(packages), None, None) => Some((Self::Apt(AptPackages::read(&packages)?), None)),
            (None, Some(packages), Some(template)) => {
                let text = RpmText::read(&packages);
                let template = TemplateText::read(&template)?;
                Some((Self::Rpm(RpmPackages { text, source: None }), Some(template)))
            }
            (None, Some(packages), None) => {
                packages.report(RecipeProblem::NoTemplate);
                None
            }
            (Some(_), None, Some(template)) => {
                template.report(RecipeProblem::NeedlessTemplate);
                None
            }
            (Some(_), Some(packages), _) => {
                packages.report(RecipeProblem::TwoKindsOfPackages);
                None
            }
            (None, None, _) => {
                root.report(RecipeProblem::NoPackages);
                None
            }
        }
    }
}

impl FirmwareText {
    const KEYS: Keys =
        &["origin", "keyring", "suites", "components", "install", "assume-installed", "files", "folder"];

    fn read(table: &Table<'_>) -> Option<Self> {
        let packages = AptPackages::read(table);
        let (files, folder) = (table.strings("files").map(owned), table.prose("folder"));
        Some(Self { packages: packages?, files: files?, folder: folder? })
    }
}

impl KernelText {
    const KEYS: Keys = &["image"];
}

impl InitramfsText {
    const KEYS: Keys = &[
        "init",
        "compression",
        "applets",
        "scripts",
        "qemu",
        "qemu-name",
        "qemu-modules",
        "programs",
        "files",
        "optional-files",
        "kernel-modules",
        "optional-kernel-modules",
    ];

    fn read(table: &Table<'_>) -> Option<Self> {
        let compression = table.string("compression").and_then(|text| text.parse(Compression::parse));
        let [qemu, qemu_name] = ["qemu", "qemu-name"].map(|key| table.optional_prose(key));
        let list = |key| optional_list(table, key);
        let (qemu_modules, programs) = (list("qemu-modules"), list("programs"));
        let (files, optional_files) = (list("files"), list("optional-files"));
        let (kernel_modules, optional_kernel_modules) =
            (list("kernel-modules"), list("optional-kernel-modules"));
        Some(Self {
            compression: compression?,
            qemu,
            qemu_name,
            qemu_modules,
            programs,
            files,
            optional_files,
            folders: Vec::new(),
            links: BTreeMap::new(),
            texts: BTreeMap::new(),
            kernel_copy: None,
            kernel_modules,
            optional_kernel_modules,
        })
    }
}

impl EmulatorText {
    const KEYS: Keys =
        &["program", "programs", "modules", "optional-modules", "files", "optional-files", "packed"];

    fn read(table: &Table<'_>) -> Option<Self> {
        let program = table.prose("program");
        let [programs, modules, optional_modules, files, optional_files] =
            ["programs", "modules", "optional-modules", "files", "optional-files"]
                .map(|key| optional_list(table, key));
        let packed = table.optional_boolean("packed").unwrap_or(false);
        let program = program?;
        Some(Self { program, programs, modules, optional_modules, files, optional_files, packed })
    }
}

pub(crate) fn optional_list(table: &Table<'_>, key: &'static str) -> Vec<String> {
    table.optional_strings(key).map(owned).unwrap_or_default()
}

pub(crate) fn owned(texts: Vec<Text<'_>>) -> Vec<String> {
    texts.iter().map(|text| text.as_str().to_owned()).collect()
}
