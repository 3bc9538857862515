//! Versions of operating systems, as precise as documents give them: a major number and perhaps a minor one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that is not a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a version")]
pub struct BadVersion {
    /// The text.
    pub given: String,
}

/// The version of an operating system: `9.2`, or `13` if there are no minor versions or none is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Version {
    /// The number before the dot.
    pub major: u32,
    /// The number after the dot, if one was given.
    pub minor: Option<u32>,
}

impl Version {
    /// The version at the start of a longer text, such as a kernel's release: 6.12 of `6.12.107+deb13-amd64`.
    pub fn at_start_of(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text[..end].split('.');
        let major = number(numbers.next()?)?;
        Some(Self { major, minor: numbers.next().and_then(number) })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minor {
            Some(minor) => write!(f, "{}.{minor}", self.major),
            None => write!(f, "{}", self.major),
        }
    }
}

impl FromStr for Version {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let version = match text.split_once('.') {
            Some((major, minor)) => {
                number(major).zip(number(minor)).map(|(major, minor)| Self { major, minor: Some(minor) })
            }
            None => number(text).map(|major| Self { major, minor: None }),
        };
        version.ok_or_else(|| BadVersion { given: text.to_owned() })
    }
}

/// Digits only: no sign, and no leading zero, so that `9.02` is not read as 9.2.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for Version {
    type Error = BadVersion;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
