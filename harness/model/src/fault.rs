//! Faults: damage that the harness does to a stack on purpose, to test itself.

use serde::{Deserialize, Serialize};

use crate::level::LevelNumber;
use crate::stage::Stage;
use crate::word::Word;
use crate::word_traits;

/// Damage that the harness can do to a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultAction {
    /// Kill the QEMU that runs the level.
    KillQemu,
    /// Close the QMP channel to the QEMU that runs the level.
    CloseQmp,
    /// Start the innermost level in L0 instead of the level below it.
    StartOnL0,
}

impl Word for FaultAction {
    const WHAT: &'static str = "fault";
    const ALL: &'static [Self] = &[Self::KillQemu, Self::CloseQmp, Self::StartOnL0];

    fn word(self) -> &'static str {
        match self {
            Self::KillQemu => "kill-qemu",
            Self::CloseQmp => "close-qmp",
            Self::StartOnL0 => "start-on-l0",
        }
    }
}
word_traits!(FaultAction);

/// Damage to a stack on purpose, with which the harness tests itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fault {
    /// The stage at whose begin it is done.
    pub at: Stage,
    /// What is done.
    #[serde(rename = "do")]
    pub action: FaultAction,
    /// The level whose QEMU is damaged.
    pub level: LevelNumber,
    /// Whether it is the QEMU of the level's second machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub second: bool,
}
