//! Images that stand in for systems that are not available.

use std::collections::BTreeMap;

use nestmatrix_model::{Architecture, Version, Word as _};
use serde::Serialize;

use super::cell::image_name;
use super::input::Table;
use super::problem::ScenarioProblem;
use super::system::{System, SystemRequirement, Systems};
use super::system_words::{Later, Versions};

/// An image that is used for a system that is not available here. It is never used silently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandIn {
    /// The id of the system that it replaces.
    pub system: String,
    /// The name of that system.
    pub name: String,
    /// The version that it replaces; without a minor number, every version of that major one.
    pub version: Version,
    /// The image's name.
    pub image: String,
    /// Why this image was chosen.
    pub reason: String,
    /// The architectures on which it is used.
    pub architectures: Vec<Architecture>,
}

impl StandIn {
    /// Whether it can replace the required system on this architecture. A stand-in has no role.
    pub(crate) fn serves(&self, requirement: &SystemRequirement, architecture: Architecture) -> bool {
        self.architectures.contains(&architecture)
            && requirement.role.is_none()
            && self.system == requirement.system
            && self.is_of_a_version(requirement)
    }

    fn is_of_a_version(&self, requirement: &SystemRequirement) -> bool {
        let Some(wanted) = requirement.version else { return false };
        match self.version.minor {
            Some(_) => requirement.takes(&self.version),
            None => {
                let later = requirement.and_later == Some(Later::Always);
                self.version.major == wanted.major || later && self.version.major > wanted.major
            }
        }
    }

    /// The place among the stand-ins for one major version: those for a minor version are nearer than those for all of them.
    pub(super) fn rank(&self) -> (bool, Option<u32>) {
        (self.version.minor.is_none(), self.version.minor)
    }

    /// Reads every `[[stand-in]]`, each for one of these systems.
    pub(super) fn read_all(root: &Table<'_>, systems: &Systems) -> Vec<Self> {
        let mut places = BTreeMap::new();
        let mut stand_ins = Vec::new();
        for table in root.tables("stand-in", &["for", "image", "reason", "architectures"]) {
            let text = table.string("for");
            let system =
                text.as_ref().and_then(|text| text.parse(|given| system_and_version(given, systems)));
            let image = table.string("image");
            let image = image.and_then(|text| text.parse(image_name));
            let reason = table.prose("reason");
            let architectures = match table.optional_strings("architectures") {
                Some(texts) => texts.iter().filter_map(|text| text.parse(Architecture::parse)).collect(),
                None => Architecture::ALL.to_vec(),
            };
            let (Some(text), Some((system, version)), Some(image), Some(reason)) =
                (text, system, image, reason)
            else {
                continue;
            };
            let System { id: system, name, .. } = system;
            match places.insert((system.clone(), version, image.clone()), text.location()) {
                Some(first) => {
                    let name = text.as_str().to_owned();
                    text.report(ScenarioProblem::Duplicate { what: "stand-in for", name, first });
                }
                None => stand_ins.push(Self { system, name, version, image, reason, architectures }),
            }
        }
        stand_ins
    }
}

fn system_and_version(given: &str, systems: &Systems) -> Result<(System, Version), ScenarioProblem> {
    let bad = || ScenarioProblem::BadStandIn { given: given.to_owned() };
    let (id, version) = given.split_once(' ').ok_or_else(bad)?;
    let version = version.parse()?;
    let system = systems.system(id)?.clone();
    match system.versions {
        Versions::Numbered => Ok((system, version)),
        Versions::None => Err(ScenarioProblem::NoVersions { system: id.to_owned() }),
    }
}
