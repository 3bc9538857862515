//! A recipe's `[disk]`: the hardware that a system on a disk needs, and how it is prepared to be a level.

use crate::digest::Hasher;
use crate::recipe_problem::RecipeProblem;
use crate::recipe_text::{Packages, Table, optional_list, read_file};
use crate::{Medium, Recipe};
use nestmatrix_input::Keys;
use nestmatrix_model::{CommandChannel, DiskBus, Firmware, NetworkCard, TpmVersion, Word as _};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// The variant of a system that its disk is.
pub(crate) const VARIANT: &str = "disk";

/// The most memory in MiB, and the most CPUs, that a recipe may ask for.
const MOST_MEMORY_MIB: u32 = 1 << 20;
const MOST_CPUS: u32 = 512;

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
}

/// A recipe's `[disk]`.
#[derive(Debug, Clone)]
pub(crate) struct DiskText {
    pub(crate) hardware: DiskHardware,
    pub(crate) command_channel: CommandChannel,
    /// The path of QEMU on it.
    pub(crate) qemu: Option<String>,
    /// Nothing if it needs no preparation.
    pub(crate) prepare: Option<PrepareText>,
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
        "prepared",
        "prepare",
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
        let prepare = table.optional_table("prepare", PrepareText::KEYS);
        if prepared == prepare.is_some() && !(prepare.is_none() && table.has("prepare")) {
            table.report(RecipeProblem::Preparation);
            return None;
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
        };
        Some(Self { hardware, command_channel: channel?, qemu, prepare, medium: None })
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

    /// Whether it has to be booted once before it can be a level.
    pub fn needs_preparation(&self) -> bool {
        self.text.prepare.is_some()
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
}

impl Recipe {
    /// What it says of the disk of its medium, if it makes a [`crate::Product::Disk`].
    pub fn disk(&self) -> Option<DiskRecipe<'_>> {
        let text = self.text.disk.as_ref()?;
        Some(DiskRecipe { text, medium: text.medium.as_ref()?, packages: &self.text.packages })
    }
}
