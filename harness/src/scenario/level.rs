//! One level of a cell's stack as the scenario asks for it: its number, its operating system, its CPU, and how the QEMU
//! that runs it is to accelerate it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::problem::InputProblem;
use super::system::SystemRequirement;
use super::table::{Table, Text};
use super::word::{Word, word_traits};

/// The number of a level, 0 to 3: L0 runs on the metal, each Ln runs as a guest of Ln-1. L3 is the deepest that documents
/// name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct LevelNumber(u8);

/// The words for the levels, by number.
const LEVEL_WORDS: [&str; 4] = ["l0", "l1", "l2", "l3"];

impl LevelNumber {
    /// All of them, outermost first.
    pub const ALL: [Self; 4] = [Self(0), Self(1), Self(2), Self(3)];

    /// The level with this number, if there is one.
    pub fn new(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The innermost level of a stack: L0 where a document speaks of a host alone, L1 where it speaks of a VM and its
    /// host, L2 where it speaks of nesting, L3 where it speaks of nesting in nesting. `has` says whether the stack has the
    /// level of this word.
    pub(super) fn innermost(has: impl Fn(&'static str) -> bool) -> Self {
        let deeper = [Self(3), Self(2), Self(1)].into_iter().find(|level| has(level.word()));
        deeper.unwrap_or(Self(0))
    }

    /// Whether the innermost level of a stack is a guest that runs nothing and reports. An L0 that is alone is a host without
    /// guests.
    pub fn reports(self) -> bool {
        self.below().is_some()
    }

    /// L0 to `innermost`, outermost first.
    pub(super) fn up_to(innermost: Self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |level| *level <= innermost)
    }

    /// The words for L0 to `innermost`.
    pub(super) fn keys(innermost: Self) -> &'static [&'static str] {
        &LEVEL_WORDS[..=usize::from(innermost.0)]
    }

    /// Whether this level is the guest of a guest.
    pub fn is_nested(self) -> bool {
        self.0 >= 2
    }

    /// The bare number, 0 to 3.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The level that runs as this one's guest; none for L3.
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }

    /// The level that this one is a guest of; none for L0, which is on the metal.
    pub fn below(self) -> Option<Self> {
        self.0.checked_sub(1).and_then(Self::new)
    }
}

impl Word for LevelNumber {
    const WHAT: &'static str = "level";
    const ALL: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        LEVEL_WORDS[usize::from(self.0)]
    }
}

/// `L1`, as people write it. In files it is `l1`.
impl fmt::Display for LevelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.0)
    }
}

impl From<LevelNumber> for String {
    fn from(level: LevelNumber) -> Self {
        level.word().to_owned()
    }
}

impl TryFrom<String> for LevelNumber {
    type Error = InputProblem;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

/// How a level's CPU model is chosen; the two modes are libvirt's `host-passthrough` and `custom`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum CpuMode {
    /// The CPU of the level below, as it is.
    HostPassthrough,
    /// A named model.
    Custom {
        /// QEMU's name for the model.
        model: String,
    },
}

/// The CPU that a level is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CpuRequirement {
    /// Which model.
    #[serde(flatten)]
    pub mode: CpuMode,
    /// Features that the CPU must really have, by QEMU's names.
    #[serde(default)]
    pub require: Vec<String>,
}

impl Default for CpuRequirement {
    fn default() -> Self {
        Self { mode: CpuMode::HostPassthrough, require: Vec::new() }
    }
}

/// What the QEMU that runs a level accelerates it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Accelerator {
    /// KVM or nothing: what documents speak of.
    #[default]
    Kvm,
    /// Emulation.
    Tcg,
    /// KVM, and emulation where there is no KVM.
    KvmOrTcg,
}

impl Accelerator {
    /// As QEMU's `accel` machine property takes it.
    pub fn as_qemu(self) -> &'static str {
        self.word()
    }
}

impl Word for Accelerator {
    const WHAT: &'static str = "accelerator";
    const ALL: &'static [Self] = &[Self::Kvm, Self::Tcg, Self::KvmOrTcg];

    fn word(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
            Self::KvmOrTcg => "kvm:tcg",
        }
    }
}
word_traits!(Accelerator);

/// One level of a cell's stack.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LevelSpec {
    /// Which level.
    pub level: LevelNumber,
    /// The operating system that it runs.
    pub system: SystemRequirement,
    /// The CPU that it is given.
    pub cpu: CpuRequirement,
    /// What is appended to its kernel's command line.
    pub kernel_parameters: Vec<String>,
    /// What the QEMU that runs it accelerates it with.
    pub accelerator: Accelerator,
    /// The size of its memory in MiB, if the scenario sets one.
    pub memory_mib: Option<u32>,
    /// Type of the machine that it runs in, by QEMU's name, if the scenario sets it.
    pub machine_type: Option<String>,
    /// Properties of the machine that it runs in, by QEMU's names.
    pub machine: BTreeMap<String, String>,
    /// Whether its modprobe configuration lies on a disk and so survives a reboot.
    pub disk: bool,
}

/// What a scenario's `[levels.lN]` table says of a level, whichever system runs there.
#[derive(Debug, Clone, Default)]
pub(super) struct LevelSettings {
    cpu: CpuRequirement,
    kernel_parameters: Vec<String>,
    accelerator: Accelerator,
    memory_mib: Option<u32>,
    machine_type: Option<String>,
    machine: BTreeMap<String, String>,
    disk: bool,
}

impl LevelSettings {
    pub(super) const KEYS: &'static [&'static str] =
        &["cpu", "kernel-parameters", "accelerator", "memory-mib", "machine-type", "machine", "disk"];

    pub(super) fn read(table: &Table<'_>, level: LevelNumber) -> Self {
        let parameters = table.optional_strings("kernel-parameters").unwrap_or_default();
        Self {
            cpu: table.optional_table("cpu", &["mode", "model", "require"]).map(read_cpu).unwrap_or_default(),
            kernel_parameters: parameters.iter().filter_map(|text| text.parse(kernel_parameter)).collect(),
            accelerator: table
                .optional_string("accelerator")
                .and_then(|text| text.parse(Accelerator::parse))
                .unwrap_or_default(),
            memory_mib: table.optional_integer("memory-mib", 16, 1 << 20),
            machine_type: table
                .optional_string("machine-type")
                .and_then(|text| text.parse(|text| qemu_name("a machine type", text))),
            machine: read_machine(table),
            disk: read_disk(table, level),
        }
    }

    pub(super) fn with_system(&self, level: LevelNumber, system: SystemRequirement) -> LevelSpec {
        let Self { cpu, kernel_parameters, accelerator, memory_mib, machine_type, machine, disk } =
            self.clone();
        LevelSpec {
            level,
            system,
            cpu,
            kernel_parameters,
            accelerator,
            memory_mib,
            machine_type,
            machine,
            disk,
        }
    }
}

fn read_machine(table: &Table<'_>) -> BTreeMap<String, String> {
    let properties = table.optional_strings("machine").unwrap_or_default();
    let property = |text: &str| match text.split_once('=') {
        Some((name, value)) => {
            Ok((qemu_name("a machine property", name)?, qemu_name("the value of a machine property", value)?))
        }
        None => Err(InputProblem::BadName {
            what: "a machine property",
            given: text.to_owned(),
            rule: "NAME=VALUE, as after QEMU's `-machine TYPE,`",
        }),
    };
    properties.iter().filter_map(|text| text.parse(property)).collect()
}

/// Only L0 is ever rebooted; further in, a disk would have nothing to survive.
fn read_disk(table: &Table<'_>, level: LevelNumber) -> bool {
    let disk = table.optional_boolean("disk").unwrap_or(false);
    if disk && level.below().is_some() {
        table.report(InputProblem::NeedlessKey { key: "disk", wants: "disk = true in [levels.l0]" });
    }
    disk
}

/// The two ways to write `mode`.
#[derive(Clone, Copy)]
enum ModeWord {
    HostPassthrough,
    Custom,
}

impl Word for ModeWord {
    const WHAT: &'static str = "CPU mode";
    const ALL: &'static [Self] = &[Self::HostPassthrough, Self::Custom];

    fn word(self) -> &'static str {
        match self {
            Self::HostPassthrough => "host-passthrough",
            Self::Custom => "custom",
        }
    }
}

fn read_cpu(table: Table<'_>) -> CpuRequirement {
    let features = table.optional_strings("require").unwrap_or_default();
    let require =
        features.iter().filter_map(|text| text.parse(|text| qemu_name("a CPU feature", text))).collect();
    let model_name = |text: Text<'_>| text.parse(|text| qemu_name("a CPU model", text));
    let mode = match table.string("mode").and_then(|text| text.parse(ModeWord::parse)) {
        Some(ModeWord::Custom) => {
            table.string("model").and_then(model_name).map(|model| CpuMode::Custom { model })
        }
        Some(ModeWord::HostPassthrough) => {
            if let Some(model) = table.optional_string("model") {
                model.report(InputProblem::NeedlessKey { key: "model", wants: "mode = \"custom\"" });
            }
            None
        }
        None => None,
    };
    CpuRequirement { mode: mode.unwrap_or(CpuMode::HostPassthrough), require }
}

/// A name that stands on QEMU's command line between commas and so must hold nothing that QEMU would take for more.
fn qemu_name(what: &'static str, text: &str) -> Result<String, InputProblem> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(InputProblem::BadName {
            what,
            given: text.to_owned(),
            rule: "ASCII letters, digits, `-`, `_` and `.`, with a letter or digit first",
        })
    }
}

pub(super) fn kernel_parameter(text: &str) -> Result<String, InputProblem> {
    if !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control()) {
        Ok(text.to_owned())
    } else {
        Err(InputProblem::BadName {
            what: "a kernel parameter",
            given: text.to_owned(),
            rule: "one parameter to a string, without white space",
        })
    }
}
