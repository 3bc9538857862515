//! What a symptom says in more than one word: a setting, a status, a contradiction.

use nestmatrix_model::LevelNumber;
use serde::{Deserialize, Serialize};

/// How the `nested` parameter of a level's KVM is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NestedSetting {
    /// The level whose KVM it is.
    pub level: LevelNumber,
    /// KVM's module.
    pub module: String,
    /// The parameter's value.
    pub value: String,
}

/// The exit status that a step is expected to end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// 0.
    Success,
    /// Any other status than 0.
    Failure,
    /// This one.
    Exactly(i64),
}

impl ExitStatus {
    /// Whether `status` is as expected.
    pub fn is_met_by(self, status: i64) -> bool {
        match self {
            Self::Success => status == 0,
            Self::Failure => status != 0,
            Self::Exactly(wanted) => status == wanted,
        }
    }
}

/// In which way a report contradicts that its level was nested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "in", rename_all = "kebab-case")]
pub enum Contradiction {
    /// It returned a different nonce from the one that it was started with.
    Nonce {
        /// The nonce that it returned.
        got: String,
        /// The nonce that it was started with.
        expected: String,
    },
    /// It names another hypervisor.
    Hypervisor {
        /// What it names.
        got: String,
        /// The name that its guests know the right one by.
        expected: String,
    },
}
