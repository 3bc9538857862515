//! Operating systems as documents name them, and the requirements that documents make of them ("RHEL 9.2 and later").

use std::collections::BTreeMap;
use std::fmt;

use nestmatrix_model::{UnknownWord, Version, Word};
use serde::{Deserialize, Serialize};

use super::cell::kebab_case;
use super::family::Family;
use super::folder::shipped_systems;
use super::input::Table;
use super::problem::ScenarioProblem;
use super::role::Role;
use super::stand_in::StandIn;
use super::surrounding::read_guest_shows;
use super::system_words::{Hypervisor, Later, Versions};

/// An operating system that scenarios and images can name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct System {
    /// The id that files use, in kebab-case.
    pub id: String,
    /// The name that people use.
    pub name: String,
    /// Whether it has versions.
    pub versions: Versions,
    /// Where its later versions end.
    pub later: Later,
    /// The emulator whose hypervisor it is, if any; then it has no versions.
    pub hypervisor: Option<Hypervisor>,
    /// What it is, if it is not an ordinary Linux.
    pub family: Option<Family>,
    /// Whether the authors of nestmatrix have run a level with it.
    pub tried: bool,
    /// Why no machine can run it as a level, whatever images there are, if so.
    pub no_machine: Option<String>,
    /// The id of the system that it is a rebuild of, with the same versions, if any.
    pub rebuild_of: Option<String>,
    /// What the firmware of a virtual machine of it shows, by the names of files in /sys/class/dmi/id. If this says something, the
    /// system can only be the L0 around this machine.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub guest_shows: BTreeMap<String, String>,
    /// What else shows the same, in words, if anything does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown_also_by: Option<String>,
}

/// What `systems.toml` holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Systems {
    pub(super) systems: Vec<System>,
    pub(super) stand_ins: Vec<StandIn>,
}

impl Systems {
    pub(super) const KEYS: &'static [&'static str] = &["system", "stand-in"];
    const KEYS_OF_SYSTEM: &'static [&'static str] = &[
        "id",
        "name",
        "versions",
        "later",
        "hypervisor",
        "family",
        "tried",
        "no-machine",
        "rebuild-of",
        "guest-shows",
        "shown-also-by",
    ];

    pub(super) fn read(root: &Table<'_>) -> Option<Self> {
        let mut read = Self::default();
        read.read_systems(root);
        read.stand_ins = StandIn::read_all(root, &read);
        Some(read)
    }

    fn read_systems(&mut self, root: &Table<'_>) {
        let mut places = BTreeMap::new();
        let mut rebuilds = Vec::new();
        for table in root.tables("system", Self::KEYS_OF_SYSTEM) {
            let text = table.string("id");
            let id = text.as_ref().and_then(|text| text.parse(|id| kebab_case("a system id", id)));
            let name = table.prose("name");
            let hypervisor = table.optional_string("hypervisor");
            let hypervisor = hypervisor.and_then(|text| text.parse(Hypervisor::parse));
            let versions = read_versions(&table);
            let later = read_later(&table, versions);
            let family = table.optional_string("family").and_then(|text| text.parse(Family::parse));
            let tried = table.optional_boolean("tried").unwrap_or(true);
            let no_machine = table.optional_prose("no-machine");
            let original = table.optional_string("rebuild-of");
            let guest_shows = read_guest_shows(&table);
            let shown_also_by = table.optional_prose("shown-also-by");
            if shown_also_by.is_some() && guest_shows.is_empty() {
                table.report(ScenarioProblem::NeedlessKey { key: "shown-also-by", wants: "guest-shows" });
            }
            let rebuild_of = original.as_ref().map(|original| original.as_str().to_owned());
            let (Some(text), Some(id), Some(name)) = (text, id, name) else { continue };
            match places.insert(id.clone(), text.location()) {
                Some(first) => text.report(ScenarioProblem::Duplicate { what: "system", name: id, first }),
                None => {
                    rebuilds.extend(original.map(|original| (original, id.clone())));
                    self.systems.push(System {
                        id,
                        name,
                        versions,
                        later,
                        hypervisor,
                        family,
                        tried,
                        no_machine,
                        rebuild_of,
                        guest_shows,
                        shown_also_by,
                    });
                }
            }
        }
        // A rebuild may come before its original.
        for (original, id) in rebuilds {
            original.parse(|original| self.check_rebuild(&id, original));
        }
    }

    /// Checks that a system can be a rebuild of `original`.
    fn check_rebuild(&self, id: &str, original: &str) -> Result<(), ScenarioProblem> {
        let System { rebuild_of, versions, .. } = self.system(original)?;
        let why = match (rebuild_of, versions) {
            _ if id == original => "that is the same system",
            (Some(_), _) => "that is a rebuild itself",
            (None, Versions::None) => "that has no versions",
            (None, Versions::Numbered) if self.system(id)?.versions == Versions::None => "it has no versions",
            (None, Versions::Numbered) => return Ok(()),
        };
        Err(ScenarioProblem::BadRebuild { system: id.to_owned(), original: original.to_owned(), why })
    }

    pub(super) fn system(&self, id: &str) -> Result<&System, UnknownWord> {
        self.systems.iter().find(|system| system.id == id).ok_or_else(|| UnknownWord {
            what: "system",
            given: id.to_owned(),
            known: self.ids(),
        })
    }

    /// Why no machine can run a level of this kind, whatever images there are, if so.
    pub(super) fn no_machine(&self, requirement: &SystemRequirement) -> Option<String> {
        self.systems.iter().find(|system| system.id == requirement.system)?.no_machine.clone()
    }

    fn ids(&self) -> Vec<String> {
        self.systems.iter().map(|system| system.id.clone()).collect()
    }

    /// Reads a value of an axis: `SYSTEM VERSION`, then optionally `and later`, then optionally `with ROLE`. For a system
    /// without versions: `SYSTEM`, then optionally `with ROLE`.
    pub(super) fn requirement(&self, given: &str) -> Result<SystemRequirement, ScenarioProblem> {
        let words: Vec<&str> = given.split(' ').collect();
        let (words, role) = match words.as_slice() {
            [words @ .., "with", role] => (words, Some(Role::parse(role)?)),
            words => (words, None),
        };
        let bad = || ScenarioProblem::BadRequirement { given: given.to_owned(), known: self.ids() };
        let (id, version, and_later) = match words {
            [id] => (id, None, false),
            [id, version] => (id, Some(version), false),
            [id, version, "and", "later"] => (id, Some(version), true),
            _ => return Err(bad()),
        };
        let system = self.system(id)?.clone();
        let around = !system.guest_shows.is_empty();
        let System { id, name, versions, later, hypervisor, family, tried, .. } = system;
        let version = match (versions, version) {
            (Versions::Numbered, Some(version)) => Some(version.parse()?),
            (Versions::Numbered, None) => return Err(bad()),
            (Versions::None, Some(_)) => return Err(ScenarioProblem::NoVersions { system: id }),
            (Versions::None, None) => None,
        };
        if role.is_some() && hypervisor.is_some() {
            return Err(ScenarioProblem::EmulatorWithRole { system: id });
        }
        if role.is_some() && around {
            return Err(ScenarioProblem::SurroundingsWithRole { system: id });
        }
        let and_later = and_later.then_some(later);
        let untried = !tried;
        Ok(SystemRequirement {
            system: id,
            name,
            version,
            and_later,
            role,
            hypervisor,
            family,
            untried,
            around,
        })
    }
}

/// Whether the authors of nestmatrix have run the shipped system of this id. Other systems count as tried.
pub(crate) fn is_tried(id: &str) -> bool {
    let shipped = shipped_systems().interpret(Systems::KEYS, Systems::read);
    shipped.ok().and_then(|shipped| Some(shipped.system(id).ok()?.tried)).unwrap_or(true)
}

/// An emulator's own hypervisor is that of the available emulator, whatever its version.
fn read_versions(table: &Table<'_>) -> Versions {
    let is_emulator = table.has("hypervisor");
    let default = if is_emulator { Versions::None } else { Versions::Numbered };
    let Some(text) = table.optional_string("versions") else { return default };
    let versions = text.parse(Versions::parse).unwrap_or(default);
    if is_emulator && versions == Versions::Numbered {
        text.report(ScenarioProblem::NeedlessKey { key: "versions", wants: "versions = \"none\"" });
    }
    versions
}

fn read_later(table: &Table<'_>, versions: Versions) -> Later {
    let Some(text) = table.optional_string("later") else { return Later::MajorVersion };
    if versions == Versions::None {
        text.report(ScenarioProblem::NeedlessKey { key: "later", wants: "versions = \"numbered\"" });
    }
    text.parse(Later::parse).unwrap_or(Later::MajorVersion)
}

/// The operating system that a document requires on a level.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SystemRequirement {
    /// The system's id.
    pub system: String,
    /// The system's name.
    pub name: String,
    /// The version, or the first version; without a minor number, every version of that major one. None for a system without
    /// versions.
    pub version: Option<Version>,
    /// Whether later versions are allowed, and up to which one.
    pub and_later: Option<Later>,
    /// The role that the document requires, if any.
    pub role: Option<Role>,
    /// The emulator whose own hypervisor this is, if any; then it is L0.
    pub hypervisor: Option<Hypervisor>,
    /// What the system is, if it is not an ordinary Linux.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// Whether no author of nestmatrix has run a level with the system.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untried: bool,
    /// Whether it can only be the L0 around this machine, which is then L1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub around: bool,
}

impl SystemRequirement {
    /// The requirement as a part of a cell's name: `rhel-9.2+` for 9.2 and later, `rhel-9.2` for 9.2 alone,
    /// `windows-11_wsl2` for a system with a role, `aws` for one without versions.
    pub fn slug(&self) -> String {
        let version = self.version.map_or(String::new(), |version| format!("-{version}"));
        let later = if self.and_later.is_some() { "+" } else { "" };
        let role = self.role.map_or(String::new(), |role| format!("_{role}"));
        format!("{}{version}{later}{role}", self.system)
    }

    /// Only this version, which must be one of those that "and later" includes.
    pub(super) fn at(&self, version: &str) -> Result<Self, ScenarioProblem> {
        if self.and_later.is_none() {
            return Err(ScenarioProblem::NeedlessKey { key: "try", wants: "SYSTEM VERSION and later" });
        }
        let point: Version = version.parse()?;
        if self.takes(&point) {
            Ok(Self { version: Some(point), and_later: None, ..self.clone() })
        } else {
            Err(ScenarioProblem::PointOutside { version: point, requirement: self.to_string() })
        }
    }

    /// Whether an emulator is itself this level. The level then boots nothing, and has neither kernel nor agent.
    pub fn is_emulator(&self) -> bool {
        self.hypervisor.is_some()
    }

    /// Whether it is a Windows.
    pub fn is_windows(&self) -> bool {
        self.family == Some(Family::Windows)
    }

    /// The hypervisor that its guests run on, if it is a Windows with one.
    pub fn windows_role(&self) -> Option<Role> {
        self.role.filter(|_| self.is_windows())
    }

    /// Whether this version of this system, without a role, meets the requirement. A version without a minor number is not
    /// known to meet a requirement with one.
    pub fn satisfied_by(&self, system: &str, version: &Version) -> bool {
        self.satisfied_with(system, version, &[])
    }

    /// The same for a system that can have one of these roles.
    pub(super) fn satisfied_with(&self, system: &str, version: &Version, roles: &[Role]) -> bool {
        let has_role = self.role.is_none_or(|role| roles.contains(&role));
        has_role && self.system == system && self.takes(version)
    }

    /// Whether this version of the system meets the requirement.
    pub(super) fn takes(&self, version: &Version) -> bool {
        let Some(wanted) = self.version else { return true };
        let minor = match wanted.minor {
            None => true,
            Some(wanted) => version
                .minor
                .is_some_and(|minor| minor == wanted || self.and_later.is_some() && minor > wanted),
        };
        let later = self.and_later == Some(Later::Always) && version.major > wanted.major;
        wanted.major == version.major && minor || later
    }

    fn with_role(&self) -> String {
        self.role.map_or(String::new(), |role| format!(" with {}", role.name()))
    }

    /// The requirement in words: "RHEL 9.2 or a later RHEL 9", "Windows 10 or later with Hyper-V".
    pub(super) fn wanted(&self) -> String {
        format!("{}{}", self.wanted_versions(), self.with_role())
    }

    /// The same without the role.
    pub(super) fn wanted_versions(&self) -> String {
        let Self { name, .. } = self;
        match (self.version, self.and_later) {
            (None, _) => name.clone(),
            (Some(version), None) => format!("{name} {version}"),
            (Some(version), Some(Later::Always)) => format!("{name} {version} or later"),
            (Some(version), Some(Later::MajorVersion)) => {
                format!("{name} {version} or a later {name} {}", version.major)
            }
        }
    }
}

impl fmt::Display for SystemRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.map_or(String::new(), |version| format!(" {version}"));
        let later = if self.and_later.is_some() { " and later" } else { "" };
        f.pad(&format!("{}{version}{later}{}", self.name, self.with_role()))
    }
}
