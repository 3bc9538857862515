//! The levels of a stack by their numbers, the CPU of a level, and the accelerator of its QEMU.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::word::{UnknownWord, Word};
use crate::word_traits;

/// The number of a level, 0 to 3: L0 runs on the metal, each Ln runs as a guest of Ln-1. Documents
/// name no deeper level than L3.
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

    /// The innermost level of a stack: L0 for a document about a host alone, L1 for a VM and its host, L2 for nesting, L3 for
    /// nesting in nesting. `has` says whether the stack has the level with this word.
    pub fn innermost(has: impl Fn(&'static str) -> bool) -> Self {
        let deeper = [Self(3), Self(2), Self(1)].into_iter().find(|level| has(level.word()));
        deeper.unwrap_or(Self(0))
    }

    /// Whether it reports if it is the innermost level. An L0 alone is a host without guests and reports nothing.
    pub fn reports(self) -> bool {
        self.below().is_some()
    }

    /// L0 to `innermost`, outermost first.
    pub fn up_to(innermost: Self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |level| *level <= innermost)
    }

    /// The words for L0 to `innermost`.
    pub fn keys(innermost: Self) -> &'static [&'static str] {
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

    /// The level that this one is a guest of; none for L0, which runs on the metal.
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

/// `L1`, as in texts. In files it is `l1`.
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
    type Error = UnknownWord;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

/// How a level's CPU model is chosen. The modes are libvirt's `host-passthrough` and `custom`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case")]
pub enum CpuMode {
    /// The CPU of the level below, unchanged.
    HostPassthrough,
    /// A named model.
    Custom {
        /// QEMU's name for the model.
        model: String,
    },
}

/// The CPU of a level.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CpuRequirement {
    /// Its model.
    #[serde(flatten)]
    pub mode: CpuMode,
    /// Features that the CPU must really have, with QEMU's names.
    #[serde(default)]
    pub require: Vec<String>,
    /// Features that the CPU must not have, with QEMU's names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disable: Vec<String>,
    /// Properties of the CPU and their values, with QEMU's names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// How libvirt checks the CPU, if the scenario says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<CpuCheck>,
}

impl Default for CpuRequirement {
    fn default() -> Self {
        Self {
            mode: CpuMode::HostPassthrough,
            require: Vec::new(),
            disable: Vec::new(),
            set: BTreeMap::new(),
            check: None,
        }
    }
}

/// How libvirt checks the CPU of a machine that it starts: its attribute `check` of `<cpu>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CpuCheck {
    /// Not at all.
    None,
    /// Before QEMU is started, libvirt compares the CPU with that of the host.
    Partial,
    /// The CPU that QEMU made must be exactly the requested one.
    Full,
}

impl CpuCheck {
    /// The value of the attribute.
    pub fn as_libvirt(self) -> &'static str {
        self.word()
    }
}

impl Word for CpuCheck {
    const WHAT: &'static str = "check of a CPU";
    const ALL: &'static [Self] = &[Self::None, Self::Partial, Self::Full];

    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Partial => "partial",
            Self::Full => "full",
        }
    }
}
word_traits!(CpuCheck);

/// What starts the machine of a level, on the level around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Launch {
    /// QEMU's command line; for a bare machine, that of its emulator.
    #[default]
    Qemu,
    /// libvirt, which gets the machine as domain XML.
    Libvirt,
    /// Hyper-V of a Windows level.
    HyperV,
    /// WSL 2 of a Windows level, as a distribution.
    Wsl2,
}

impl Launch {
    /// Whether a Windows level starts the machine, so that no QEMU runs it.
    pub fn is_by_windows(self) -> bool {
        match self {
            Self::Qemu | Self::Libvirt => false,
            Self::HyperV | Self::Wsl2 => true,
        }
    }
}

impl Word for Launch {
    const WHAT: &'static str = "launcher";
    const ALL: &'static [Self] = &[Self::Qemu, Self::Libvirt, Self::HyperV, Self::Wsl2];

    fn word(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Libvirt => "libvirt",
            Self::HyperV => "hyper-v",
            Self::Wsl2 => "wsl2",
        }
    }
}
word_traits!(Launch);

/// The accelerator of a level's QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Accelerator {
    /// KVM only, as in documents.
    #[default]
    Kvm,
    /// Emulation.
    Tcg,
    /// KVM, or emulation if there is no KVM.
    KvmOrTcg,
}

impl Accelerator {
    /// The value of QEMU's machine property `accel`.
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
