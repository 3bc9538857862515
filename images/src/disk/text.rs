//! A recipe's `[disk]`: the hardware that a system on a disk needs, and how it is prepared to be a level.

use crate::digest::Hasher;
use crate::recipe_problem::RecipeProblem;
use crate::recipe_text::{Packages, Table, optional_list, read_file};
use crate::windows::{InstallText, WindowsRole};
use crate::{Medium, Recipe};
use nestmatrix_input::Keys;
use nestmatrix_model::{CommandChannel, DiskBus, Firmware, NetworkCard, TpmVersion, Word, word_traits};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The variant of a system that its disk is.
pub(crate) const VARIANT: &str = "disk";

/// The most memory in MiB, and the most CPUs, that a recipe may ask for.
const MOST_MEMORY_MIB: u32 = 1 << 20;
const MOST_CPUS: u32 = 512;

/// A system on a disk that is not asked through a POSIX shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskGuest {
    /// Windows, which is asked through PowerShell.
    Windows,
}

impl Word for DiskGuest {
    const WHAT: &'static str = "guest of a disk";
    const ALL: &'static [Self] = &[Self::Windows];

    fn word(self) -> &'static str {
        match self {
            Self::Windows => "windows",
        }
    }
}
word_traits!(DiskGuest);

/// The features with which KVM offers Hyper-V's interface to a level: QEMU's CPU properties, some with a value (`hv-spinlocks=0x1fff`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Enlightenments {
    /// Those that it always has.
    pub always: Vec<String>,
    /// Those that it also has if it hosts guests.
    pub nesting: Vec<String>,
    /// Those of them for Intel's processors alone.
    pub nesting_intel: Vec<String>,
}

impl Enlightenments {
    /// Those of a level that hosts guests or not, on a processor of Intel or another one.
    pub fn of(&self, hosts: bool, is_intel: bool) -> Vec<String> {
        let nesting = self.nesting.iter().filter(|_| hosts);
        let intel = self.nesting_intel.iter().filter(|_| hosts && is_intel);
        self.always.iter().chain(nesting).chain(intel).cloned().collect()
    }

    fn read(table: &Table<'_>) -> Self {
        let list = |key| {
            let names = table.optional_strings(key).unwrap_or_default();
            names.iter().filter_map(|name| name.parse(enlightenment)).collect()
        };
        Self {
            always: list("enlightenments"),
            nesting: list("nesting-enlightenments"),
            nesting_intel: list("nesting-enlightenments-intel"),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `hv-NAME`, or `hv-NAME=VALUE`.
fn enlightenment(text: &str) -> Result<String, RecipeProblem> {
    let (name, value) = text.split_once('=').unwrap_or((text, "on"));
    let rest = name.strip_prefix("hv-").unwrap_or_default();
    let is_name = !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let is_value = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric());
    if is_name && is_value {
        Ok(text.to_owned())
    } else {
        Err(RecipeProblem::BadEnlightenment(text.to_owned()))
    }
}

/// The least hardware that a system on a disk needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskHardware {
    /// The firmware that its boot loader is for.
    pub firmware: Firmware,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Number of CPUs.
    pub cpus: u32,
    /// What its disk is connected to.
    pub bus: DiskBus,
    /// The version of the TPM that it needs, if it needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmVersion>,
    /// The network card that it has a driver for, if a scenario gives it a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_card: Option<NetworkCard>,
    /// The features of KVM for its system, if that knows Hyper-V's interface.
    #[serde(default, skip_serializing_if = "Enlightenments::is_empty")]
    pub enlightenments: Enlightenments,
}

/// A recipe's `[disk]`.
#[derive(Debug, Clone)]
pub(crate) struct DiskText {
    pub(crate) hardware: DiskHardware,
    pub(crate) command_channel: CommandChannel,
    /// The path of QEMU on it.
    pub(crate) qemu: Option<String>,
    /// What is on it, if that is not asked through a POSIX shell.
    pub(crate) guest: Option<DiskGuest>,
    /// Nothing if it needs no preparation, or an installation.
    pub(crate) prepare: Option<PrepareText>,
    /// How Windows is installed on it.
    pub(crate) install: Option<InstallText>,
    /// The role of a Windows on it. None in a template.
    pub(crate) role: Option<Arc<WindowsRole>>,
    /// None in a template.
    pub(crate) medium: Option<Arc<Medium>>,
}

/// Its `[disk.prepare]`. Files are their contents.
#[derive(Debug, Clone)]
pub(crate) struct PrepareText {
    pub(crate) script: String,
    pub(crate) user_data: String,
    pub(crate) meta_data: String,
    pub(crate) network_config: Option<String>,
    /// The script that serves commands on a console.
    pub(crate) shell: Option<String>,
    /// The packages to install, of those on the package volume.
    pub(crate) packages: Vec<String>,
}

/// What a recipe says of a disk.
#[derive(Debug, Clone, Copy)]
pub struct DiskRecipe<'r> {
    text: &'r DiskText,
    medium: &'r Arc<Medium>,
    packages: &'r Packages,
}

/// Where the packages come from that a preparation installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskPackages {
    /// It installs none.
    None,
    /// From the archive that this machine's apt knows.
    Archive,
    /// From the source that the user added for the same system.
    Source,
    /// From a source of the same system, which the user has not added. So nothing is installed, and the disk can only be the innermost
    /// level, unless it already has QEMU.
    NoSource,
}

impl DiskText {
    pub(crate) const KEYS: Keys = &[
        "firmware",
        "memory-mib",
        "cpus",
        "bus",
        "network-card",
        "tpm",
        "command-channel",
        "qemu",
        "guest",
        "enlightenments",
        "nesting-enlightenments",
        "nesting-enlightenments-intel",
        "prepared",
        "prepare",
        "install",
    ];

    /// Reads the table. The files that it names are relative to `folder`.
    pub(crate) fn read(table: &Table<'_>, folder: &Path) -> Option<Self> {
        let firmware = table.string("firmware").and_then(|text| text.parse(Firmware::parse));
        let memory_mib = table.integer("memory-mib", 1, MOST_MEMORY_MIB);
        let cpus = table.integer("cpus", 1, MOST_CPUS);
        let bus = table.string("bus").and_then(|text| text.parse(DiskBus::parse));
        let card = table.optional_string("network-card").map(|text| text.parse(NetworkCard::parse));
        let tpm = table.optional_string("tpm").map(|text| text.parse(TpmVersion::parse));
        let channel = table.string("command-channel").and_then(|text| text.parse(CommandChannel::parse));
        let qemu = table.optional_prose("qemu");
        let prepared = table.optional_boolean("prepared").unwrap_or(false);
        let guest = table.optional_string("guest").map(|text| text.parse(DiskGuest::parse));
        let enlightenments = Enlightenments::read(table);
        let prepare = table.optional_table("prepare", PrepareText::KEYS);
        let install = table.optional_table("install", InstallText::KEYS);
        let ways = [prepared, table.has("prepare"), table.has("install")];
        if ways.into_iter().filter(|way| *way).count() != 1 {
            table.report(RecipeProblem::Preparation);
            return None;
        }
        let install = match install {
            Some(install) => Some(InstallText::read(&install, folder)?),
            None => None,
        };
        let guest = match guest {
            Some(guest) => Some(guest?),
            None => None,
        };
        if install.is_some() != (guest == Some(DiskGuest::Windows)) {
            table.report(RecipeProblem::WindowsInstallation);
        }
        let prepare = match prepare {
            Some(prepare) => Some(PrepareText::read(&prepare, channel, folder)?),
            None => None,
        };
        let network_card = match card {
            Some(card) => Some(card?),
            None => None,
        };
        let tpm = match tpm {
            Some(tpm) => Some(tpm?),
            None => None,
        };
        let hardware = DiskHardware {
            firmware: firmware?,
            memory_mib: memory_mib?,
            cpus: cpus?,
            bus: bus?,
            tpm,
            network_card,
            enlightenments,
        };
        let command_channel = channel?;
        Some(Self { hardware, command_channel, qemu, guest, prepare, install, role: None, medium: None })
    }
}

impl PrepareText {
    const KEYS: Keys = &["script", "user-data", "meta-data", "network-config", "shell", "packages"];

    fn read(table: &Table<'_>, channel: Option<CommandChannel>, folder: &Path) -> Option<Self> {
        let [script, user_data, meta_data] =
            ["script", "user-data", "meta-data"].map(|key| read_file(&table.string(key)?, folder));
        let network_config = table.optional_string("network-config").map(|name| read_file(&name, folder));
        let shell = match channel {
            Some(CommandChannel::Console) => table.string("shell"),
            _ => table.optional_string("shell"),
        };
        let shell = match shell.map(|name| read_file(&name, folder)) {
            Some(shell) => Some(shell?),
            None if channel == Some(CommandChannel::Console) => return None,
            None => None,
        };
        let network_config = match network_config {
            Some(text) => Some(text?),
            None => None,
        };
        let packages = optional_list(table, "packages");
        Some(Self {
            script: script?,
            user_data: user_data?,
            meta_data: meta_data?,
            network_config,
            shell,
            packages,
        })
    }

    /// Adds the contents of its files to those that a recipe's digest covers.
    pub(crate) fn hash(&self, hasher: Hasher) -> Hasher {
        let hasher = hasher.field(&self.script).field(&self.user_data).field(&self.meta_data);
        [&self.network_config, &self.shell].into_iter().fold(hasher, |hasher, file| match file {
            Some(text) => hasher.field("file").field(text),
            None => hasher.field("none"),
        })
    }
}

impl<'r> DiskRecipe<'r> {
    /// The medium.
    pub fn medium(&self) -> &'r Arc<Medium> {
        self.medium
    }

    /// The least hardware that it needs.
    pub fn hardware(&self) -> &'r DiskHardware {
        &self.text.hardware
    }

    /// How commands run in its system.
    pub fn command_channel(&self) -> CommandChannel {
        self.text.command_channel
    }

    /// The path of QEMU on it, if it may host guests.
    pub fn qemu(&self) -> Option<&'r str> {
        self.text.qemu.as_deref()
    }

    /// What is on it, if that is not asked through a POSIX shell.
    pub fn guest(&self) -> Option<DiskGuest> {
        self.text.guest
    }

    /// The role of the Windows on it.
    pub fn role(&self) -> Option<&'r Arc<WindowsRole>> {
        self.text.role.as_ref()
    }

    /// Whether it has to be booted once before it can be a level.
    pub fn needs_preparation(&self) -> bool {
        self.text.prepare.is_some() || self.text.install.is_some()
    }

    /// Whether its preparation takes too long without KVM.
    pub fn needs_kvm(&self) -> bool {
        self.text.install.as_ref().is_some_and(|install| !install.emulated)
    }

    /// Where the packages come from that its preparation installs.
    pub fn packages(&self) -> DiskPackages {
        let Some(prepare) = &self.text.prepare else { return DiskPackages::None };
        match self.packages {
            _ if prepare.packages.is_empty() => DiskPackages::None,
            Packages::Apt(_) => DiskPackages::Archive,
            Packages::Rpm(packages) if packages.source.is_some() => DiskPackages::Source,
            Packages::Rpm(_) => DiskPackages::NoSource,
            Packages::None(_) => DiskPackages::None,
        }
    }

    /// Whether a prepared image surely has QEMU. Otherwise the report of the preparation shows whether it has.
    pub fn installs_qemu(&self) -> bool {
        self.qemu().is_some() && matches!(self.packages(), DiskPackages::Archive | DiskPackages::Source)
    }

    pub(crate) fn prepare(&self) -> Option<&'r PrepareText> {
        self.text.prepare.as_ref()
    }

    pub(crate) fn install(&self) -> Option<&'r InstallText> {
        self.text.install.as_ref()
    }
}

impl Recipe {
    /// What it says of the disk of its medium, if it makes a [`crate::Product::Disk`].
    pub fn disk(&self) -> Option<DiskRecipe<'_>> {
        let text = self.text.disk.as_ref()?;
        Some(DiskRecipe { text, medium: text.medium.as_ref()?, packages: &self.text.packages })
    }
}
