//! Operating systems as documents name them, the requirements that documents make of them ("RHEL 9.2 and later"), and the
//! images that stand in for systems that cannot be had.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::cell::kebab_case;
use super::problem::InputProblem;
use super::role::Role;
use super::table::Table;
use super::version::Version;
use super::word::{Word, word_traits};

/// Where the later versions of "and later" end. It is a property of the system: RHEL's major versions have documents of
/// their own, which name the next one beside "and later"; Windows has nothing but major versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Later {
    /// With the major version.
    MajorVersion,
    /// Nowhere: every later version is meant.
    Always,
}

impl Word for Later {
    const WHAT: &'static str = "end of later versions";
    const ALL: &'static [Self] = &[Self::MajorVersion, Self::Always];

    fn word(self) -> &'static str {
        match self {
            Self::MajorVersion => "major-version",
            Self::Always => "always",
        }
    }
}
word_traits!(Later);

/// An operating system that scenarios and images can name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct System {
    /// The id that files use, in kebab-case.
    pub id: String,
    /// The name that people use.
    pub name: String,
    /// Where its later versions end.
    pub later: Later,
}

/// An image that is used for a system which cannot be had here. It is never used silently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandIn {
    /// The id of the system that it stands in for.
    pub system: String,
    /// The name of that system.
    pub name: String,
    /// The major version, every version of which it stands in for.
    pub major: u32,
    /// The image's name.
    pub image: String,
    /// Why this image, of all.
    pub reason: String,
}

impl StandIn {
    /// Whether it stands in for what is asked for here. It has no role.
    pub(super) fn serves(&self, requirement: &SystemRequirement) -> bool {
        if requirement.role.is_some() {
            return false;
        }
        let later = requirement.and_later == Some(Later::Always) && self.major > requirement.version.major;
        self.system == requirement.system && (self.major == requirement.version.major || later)
    }
}

/// What `systems.toml` holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Systems {
    pub(super) systems: Vec<System>,
    pub(super) stand_ins: Vec<StandIn>,
}

impl Systems {
    pub(super) const KEYS: &'static [&'static str] = &["system", "stand-in"];

    pub(super) fn read(root: &Table<'_>) -> Option<Self> {
        let mut read = Self::default();
        read.read_systems(root);
        read.read_stand_ins(root);
        Some(read)
    }

    fn read_systems(&mut self, root: &Table<'_>) {
        let mut places = BTreeMap::new();
        for table in root.tables("system", &["id", "name", "later"]) {
            let text = table.string("id");
            let id = text.as_ref().and_then(|text| text.parse(|id| kebab_case("a system id", id)));
            let name = table.prose("name");
            let later = match table.optional_string("later") {
                Some(text) => text.parse(Later::parse),
                None => Some(Later::MajorVersion),
            };
            let (Some(text), Some(id), Some(name), Some(later)) = (text, id, name, later) else { continue };
            match places.insert(id.clone(), text.location()) {
                Some(first) => text.report(InputProblem::Duplicate { what: "system", name: id, first }),
                None => self.systems.push(System { id, name, later }),
            }
        }
    }

    fn read_stand_ins(&mut self, root: &Table<'_>) {
        let mut places = BTreeMap::new();
        for table in root.tables("stand-in", &["for", "image", "reason"]) {
            let text = table.string("for");
            let system = text.as_ref().and_then(|text| text.parse(|given| self.system_and_major(given)));
            let image = table.string("image");
            let image = image.and_then(|text| text.parse(|image| kebab_case("an image name", image)));
            let reason = table.prose("reason");
            let (Some(text), Some((system, major)), Some(image), Some(reason)) =
                (text, system, image, reason)
            else {
                continue;
            };
            let System { id: system, name, .. } = system;
            match places.insert((system.clone(), major), text.location()) {
                Some(first) => {
                    let name = text.as_str().to_owned();
                    text.report(InputProblem::Duplicate { what: "stand-in for", name, first });
                }
                None => self.stand_ins.push(StandIn { system, name, major, image, reason }),
            }
        }
    }

    fn system_and_major(&self, given: &str) -> Result<(System, u32), InputProblem> {
        let bad = || InputProblem::BadStandIn { given: given.to_owned() };
        let (id, version) = given.split_once(' ').ok_or_else(bad)?;
        match version.parse()? {
            Version { major, minor: None } => Ok((self.system(id)?.clone(), major)),
            Version { minor: Some(_), .. } => Err(bad()),
        }
    }

    fn system(&self, id: &str) -> Result<&System, InputProblem> {
        self.systems.iter().find(|system| system.id == id).ok_or_else(|| InputProblem::UnknownWord {
            what: "system",
            given: id.to_owned(),
            known: self.ids(),
        })
    }

    fn ids(&self) -> Vec<String> {
        self.systems.iter().map(|system| system.id.clone()).collect()
    }

    /// Reads what an axis says of a level: `SYSTEM VERSION`, then perhaps `and later`, then perhaps `with ROLE`.
    pub(super) fn requirement(&self, given: &str) -> Result<SystemRequirement, InputProblem> {
        let words: Vec<&str> = given.split(' ').collect();
        let (words, role) = match words.as_slice() {
            [words @ .., "with", role] => (words, Some(Role::parse(role)?)),
            words => (words, None),
        };
        let (id, version, and_later) = match words {
            [id, version] => (id, version, false),
            [id, version, "and", "later"] => (id, version, true),
            _ => return Err(InputProblem::BadRequirement { given: given.to_owned(), known: self.ids() }),
        };
        let System { id, name, later } = self.system(id)?.clone();
        let and_later = and_later.then_some(later);
        Ok(SystemRequirement { system: id, name, version: version.parse()?, and_later, role })
    }
}

/// The operating system that a document asks for on a level.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SystemRequirement {
    /// The system's id.
    pub system: String,
    /// The system's name.
    pub name: String,
    /// The version, or the first version; without a minor number, every version of that major one.
    pub version: Version,
    /// Whether later versions will do, and then up to where.
    pub and_later: Option<Later>,
    /// What the system has to be set up with, if the document says so.
    pub role: Option<Role>,
}

impl SystemRequirement {
    /// The requirement as a part of a cell's name: `rhel-9.2+` for 9.2 and later, `rhel-9.2` for 9.2 alone,
    /// `windows-11_wsl2` for a system with a role.
    pub fn slug(&self) -> String {
        let later = if self.and_later.is_some() { "+" } else { "" };
        let role = self.role.map_or(String::new(), |role| format!("_{role}"));
        format!("{}-{}{later}{role}", self.system, self.version)
    }

    /// Whether this version of this system, without a role, is what is asked for. A version without a minor number is not known to
    /// be one of those that a minor number asks for.
    pub fn satisfied_by(&self, system: &str, version: &Version) -> bool {
        let minor = match self.version.minor {
            None => true,
            Some(wanted) => version
                .minor
                .is_some_and(|minor| minor == wanted || self.and_later.is_some() && minor > wanted),
        };
        let later = self.and_later == Some(Later::Always) && version.major > self.version.major;
        self.role.is_none()
            && self.system == system
            && (self.version.major == version.major && minor || later)
    }

    fn with_role(&self) -> String {
        self.role.map_or(String::new(), |role| format!(" with {}", role.name()))
    }

    /// The requirement as the thing wanted: "RHEL 9.2 or a later RHEL 9", "Windows 10 or later".
    pub(super) fn wanted(&self) -> String {
        let Self { name, version, .. } = self;
        let versions = match self.and_later {
            Some(Later::MajorVersion) => format!("{name} {version} or a later {name} {}", version.major),
            Some(Later::Always) => format!("{name} {version} or later"),
            None => format!("{name} {version}"),
        };
        format!("{versions}{}", self.with_role())
    }
}

impl fmt::Display for SystemRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let later = if self.and_later.is_some() { " and later" } else { "" };
        f.pad(&format!("{} {}{later}{}", self.name, self.version, self.with_role()))
    }
}
