//! A guest of the user that an innermost level boots: what a scenario says about it.

use serde::{Deserialize, Serialize};

/// A guest of the user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Guest {
    /// The name of the payload that has its kernel, its initramfs, or both.
    pub payload: String,
    /// The text that it prints on its console when it works. Without this key, nothing of it runs after the level's report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
}
