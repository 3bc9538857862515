//! Why a cell is skipped, as data: programs and reports use the kind, and only people read the text.

use std::fmt;

use nestmatrix_model::{LevelNumber, SuiteKind};
use serde::{Deserialize, Serialize};

use crate::scenario::MissingImage;

/// Why a cell is skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SkipReason {
    /// There is no image of the system that these levels require.
    NoImage {
        /// The levels.
        levels: Vec<LevelNumber>,
        /// What Debian calls their instruction set.
        isa: String,
        /// What is missing.
        missing: Box<MissingImage>,
    },
    /// This machine can't be the level that it would be on native metal.
    NativeMetal {
        /// Why not.
        why: String,
    },
    /// This machine's own system is not the one that its level requires.
    AnotherSystem {
        /// Which level this machine would be. Absent in runs of earlier versions, where it was L0.
        #[serde(default = "l0")]
        level: LevelNumber,
        /// What Debian calls its instruction set.
        isa: String,
        /// What it is, and what is required.
        why: String,
    },
    /// Emulated metal of the architecture can't do what the cell requires.
    EmulatedMetal {
        /// What it can't do.
        why: String,
    },
    /// Emulated metal gets something wrong that the cell depends on.
    EmulatorErratum {
        /// The id of the erratum.
        erratum: String,
        /// What the emulator gets wrong, and what in the cell depends on it.
        why: String,
    },
    /// The emulator that plays the metal of the architecture is not available on this machine.
    NoEmulator {
        /// The emulator's program.
        program: String,
        /// Why neither its image nor an installed one can be used.
        why: String,
    },
    /// There is no UEFI firmware for the machines of a level.
    NoFirmware {
        /// What Debian calls their instruction set.
        isa: String,
    },
    /// The program that plays TPMs is not available.
    NoSwtpm {
        /// Why neither its image nor an installed one can be used.
        why: String,
    },
    /// A step runs tests of a suite that the user did not build, or that is not for the architecture.
    NoSuite {
        /// The suite.
        suite: SuiteKind,
        /// Why it can't run.
        why: String,
    },
    /// A step runs a program, or a level boots a guest, that the user did not add or that does not fit.
    NoPayload {
        /// The name of the payload.
        payload: String,
        /// Why it can't run.
        why: String,
    },
    /// No machine can run it, whatever images there are.
    NoMachine {
        /// Why not, as its scenario or its systems say.
        why: String,
    },
    /// Its stack has no part that the user's kernel or QEMU could replace.
    NoSuchPart {
        /// What it has instead.
        why: String,
    },
    /// The archive does not deliver the packages of an image.
    Undelivered {
        /// Which image, how many packages and of which suite.
        image: String,
    },
}

fn l0() -> LevelNumber {
    LevelNumber::ALL[0]
}

impl SkipReason {
    /// The reason without its levels, which differ from cell to cell.
    pub fn without_levels(&self) -> String {
        match self {
            Self::NoImage { missing, .. } => missing.to_string(),
            Self::NativeMetal { why }
            | Self::EmulatedMetal { why }
            | Self::EmulatorErratum { why, .. }
            | Self::NoEmulator { why, .. }
            | Self::NoSwtpm { why }
            | Self::NoSuite { why, .. }
            | Self::NoPayload { why, .. }
            | Self::NoSuchPart { why }
            | Self::AnotherSystem { why, .. } => why.clone(),
            Self::NoMachine { why } => no_machine(why),
            Self::Undelivered { image } => format!("no image {image}"),
            Self::NoFirmware { isa } => format!("no UEFI firmware for {isa} machines"),
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_levels())?;
        match self {
            Self::NoImage { levels, isa, .. } => {
                let levels: Vec<String> = levels.iter().map(ToString::to_string).collect();
                write!(f, " ({} on {isa})", levels.join(" and "))
            }
            Self::AnotherSystem { level, isa, .. } => write!(f, " ({level} on {isa})"),
            Self::NativeMetal { .. }
            | Self::EmulatedMetal { .. }
            | Self::EmulatorErratum { .. }
            | Self::NoEmulator { .. }
            | Self::NoMachine { .. }
            | Self::NoSuchPart { .. }
            | Self::NoFirmware { .. }
            | Self::NoSwtpm { .. }
            | Self::NoSuite { .. }
            | Self::NoPayload { .. }
            | Self::Undelivered { .. } => Ok(()),
        }
    }
}

/// That no machine can run a cell, and why.
pub(crate) fn no_machine(why: &str) -> String {
    format!("no machine can run it: {why}")
}

/// Several reasons in one line.
pub fn in_one_line(reasons: &[SkipReason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
