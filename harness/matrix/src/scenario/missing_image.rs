//! Why a level has no image.

use nestmatrix_model::PROGRAM;
use serde::{Deserialize, Serialize};

use super::system::SystemRequirement;

/// Why a level has no image, so that its cell is skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "missing", rename_all = "kebab-case")]
pub enum MissingImage {
    /// Neither an image, nor a rebuild, nor a stand-in.
    #[error("no image of {}, and no stand-in", .requirement.wanted())]
    NoImage {
        /// The required system.
        requirement: SystemRequirement,
    },
    /// No medium of a Windows. Nothing else has one.
    #[error("no medium of {} (`{program} media add {} FILE.iso --drivers virtio-win.iso` adds one)", .requirement.wanted_versions(), medium(.requirement), program = PROGRAM)]
    NoMedium {
        /// The required system.
        requirement: SystemRequirement,
    },
    /// A rebuild, but the user denies rebuilds.
    #[error("no image of {}: only the rebuild {rebuild}, which --deny-rebuilds forbids{}", .requirement.wanted(), and_denied(.stand_in))]
    RebuildDenied {
        /// The required system.
        requirement: SystemRequirement,
        /// The rebuild's image.
        rebuild: String,
        /// The image of a stand-in, if there is one and the user denies it too.
        stand_in: Option<String>,
    },
    /// A stand-in, but the user denies stand-ins.
    #[error("no image of {}: only the stand-in {stand_in}, which --deny-stand-ins forbids", .requirement.wanted())]
    StandInDenied {
        /// The required system.
        requirement: SystemRequirement,
        /// The stand-in's image.
        stand_in: String,
    },
    /// A stand-in, but the scenario denies stand-ins.
    #[error("no image of {}: only the stand-in {stand_in}, which the scenario denies ({reason})", .requirement.wanted())]
    StandInUnfit {
        /// The required system.
        requirement: SystemRequirement,
        /// The stand-in's image.
        stand_in: String,
        /// The scenario's reason.
        reason: String,
    },
    /// A stand-in whose image is not among those available.
    #[error("no image of {}: only the stand-in {stand_in}, for which there is no recipe", .requirement.wanted())]
    StandInUnavailable {
        /// The required system.
        requirement: SystemRequirement,
        /// The stand-in's image.
        stand_in: String,
    },
    /// The scenario requires a disk with an installed system, and no such disk is available.
    #[error("no disk with {}{}", .requirement.wanted(), because(.why))]
    NoDisk {
        /// The required system.
        requirement: SystemRequirement,
        /// Why no disk can serve the level, whatever disks there are, if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// An image with which a level can't run guests, but this level has to.
    #[error("no image of {} that can run guests: {image} can only be the innermost level: {why}", .requirement.wanted())]
    InnermostOnly {
        /// The required system.
        requirement: SystemRequirement,
        /// The image.
        image: String,
        /// Why it can't run guests.
        why: String,
    },
    /// An image without libvirt, but libvirt of this level launches the one inside it.
    #[error("no image of {} with libvirt: {image} has no libvirt", .requirement.wanted())]
    NoLibvirt {
        /// The required system.
        requirement: SystemRequirement,
        /// The image.
        image: String,
    },
    /// An image without the programs of benchmarks, but the level is measured with them.
    #[error(
        "no image of {} with the programs of benchmarks: {image} has {}",
        .requirement.wanted(),
        if *.libvirt { "either these or libvirt, which launches the level inside" } else { "none" }
    )]
    NoBenchmarks {
        /// The required system.
        requirement: SystemRequirement,
        /// The image.
        image: String,
        /// Whether the level also needs libvirt.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        libvirt: bool,
    },
    /// An image without kexec, but the level has a crash kernel.
    #[error("no image of {} with kexec: {image} has {}", .requirement.wanted(), or_kexec(.others))]
    NoKdump {
        /// The required system.
        requirement: SystemRequirement,
        /// The image.
        image: String,
        /// What else the level needs. No image has two additions.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<String>,
    },
    /// An image that this machine can't build.
    #[error("no image of {}: the image {image} {why}", .requirement.wanted())]
    Unbuildable {
        /// The required system.
        requirement: SystemRequirement,
        /// The image.
        image: String,
        /// Why not, as the rest of a sentence about it.
        why: String,
    },
}

fn or_kexec(others: &[String]) -> String {
    if others.is_empty() { "none".to_owned() } else { format!("either that or {}", others.join(" or ")) }
}

/// The name of a medium of the system: `windows-server-2022`.
fn medium(requirement: &SystemRequirement) -> String {
    let version = requirement.version.map_or(String::new(), |version| format!("-{version}"));
    format!("{}{version}", requirement.system)
}

fn because(why: &Option<String>) -> String {
    match why {
        Some(why) => format!(": {why}"),
        None => format!(" (`{PROGRAM} media add` adds disks)"),
    }
}

fn and_denied(stand_in: &Option<String>) -> String {
    let denied = |stand_in: &String| format!(", and the stand-in {stand_in}, which --deny-stand-ins forbids");
    stand_in.as_ref().map_or(String::new(), denied)
}

impl MissingImage {
    /// What forbids this image, if that is why no image is available: `a rebuild, which --deny-rebuilds forbids`.
    pub(crate) fn what_forbids(&self, image: &str) -> Option<String> {
        match self {
            Self::RebuildDenied { rebuild, .. } if rebuild == image => {
                Some("a rebuild, which --deny-rebuilds forbids".to_owned())
            }
            Self::StandInDenied { stand_in, .. } if stand_in == image => {
                Some("a stand-in, which --deny-stand-ins forbids".to_owned())
            }
            Self::StandInUnfit { stand_in, reason, .. } if stand_in == image => {
                Some(format!("a stand-in, which the scenario denies ({reason})"))
            }
            _ => None,
        }
    }
}
