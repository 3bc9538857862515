//! The tools of this machine that images are built with, and which recipes need which of them.

use crate::local_files::find_busybox;
use crate::programs::find_program;
use crate::recipe::{Catalog, Recipe};
use crate::recipe_text::Packages;
use crate::{MediumState, Origin};
use nestmatrix_model::Isa;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A tool that images are built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostTool {
    /// Downloads Debian packages.
    AptGet,
    /// Resolves and downloads RPM packages.
    Dnf,
    /// Verifies the signatures of RPM packages.
    RpmKeys,
    /// Reads installation images.
    BsdTar,
    /// A static busybox, for images of RPM packages on a machine without apt.
    Busybox,
}

/// The packages that have a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolPackages {
    /// On Debian.
    pub debian: &'static str,
    /// On Fedora, RHEL and its rebuilds.
    pub fedora: &'static str,
}

impl HostTool {
    /// Every tool.
    pub const ALL: [Self; 5] = [Self::AptGet, Self::Dnf, Self::RpmKeys, Self::BsdTar, Self::Busybox];

    /// Its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::AptGet => "apt-get",
            Self::Dnf => "dnf",
            Self::RpmKeys => "rpmkeys",
            Self::BsdTar => "bsdtar",
            Self::Busybox => "busybox",
        }
    }

    /// The packages that have it.
    pub fn packages(self) -> ToolPackages {
        let (debian, fedora) = match self {
            Self::AptGet => ("apt", "apt"),
            Self::Dnf => ("dnf dnf-plugins-core", "dnf dnf-plugins-core"),
            Self::RpmKeys => ("rpm", "rpm"),
            Self::BsdTar => ("libarchive-tools", "bsdtar"),
            Self::Busybox => ("busybox-static", "busybox"),
        };
        ToolPackages { debian, fedora }
    }

    fn is_installed(self) -> bool {
        match self {
            Self::Busybox => Isa::of_this_machine().is_some_and(|isa| find_busybox(isa).is_some()),
            _ => find_program(self.program()).is_some(),
        }
    }
}

/// As it stands after "no": `dnf`, `static busybox`.
impl fmt::Display for HostTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busybox => "static busybox",
            _ => self.program(),
        })
    }
}

/// The tools that a machine has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTools(BTreeSet<HostTool>);

impl HostTools {
    /// Those of this machine.
    pub fn of_this_machine() -> Self {
        HostTool::ALL.into_iter().filter(|tool| tool.is_installed()).collect()
    }

    /// Whether a tool is among them.
    pub fn has(&self, tool: HostTool) -> bool {
        self.0.contains(&tool)
    }

    fn missing(&self, needed: &[HostTool]) -> Vec<HostTool> {
        needed.iter().copied().filter(|tool| !self.has(*tool)).collect()
    }
}

impl FromIterator<HostTool> for HostTools {
    fn from_iter<I: IntoIterator<Item = HostTool>>(tools: I) -> Self {
        Self(tools.into_iter().collect())
    }
}

/// Why a machine can't build the images of a recipe. It reads as the rest of a sentence about the image: "is made of Debian
/// packages, and this machine has no apt-get".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unbuildable {
    /// Tools are missing. Images that are already in the cache don't need them.
    NoTools {
        /// Whose packages it is made of.
        made_of: &'static str,
        /// The missing tools.
        missing: Vec<HostTool>,
    },
    /// The medium that it boots can't be used, so the image in the cache can't be used either.
    NoMedium {
        /// The medium's name.
        medium: String,
        /// Its file, and what is wrong with it.
        why: String,
    },
}

impl Unbuildable {
    /// The missing tools.
    pub fn missing(&self) -> &[HostTool] {
        match self {
            Self::NoTools { missing, .. } => missing,
            Self::NoMedium { .. } => &[],
        }
    }

    /// Whether the images are available if they are in the cache.
    pub fn is_about_build(&self) -> bool {
        matches!(self, Self::NoTools { .. })
    }
}

impl fmt::Display for Unbuildable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (made_of, missing) = match self {
            Self::NoTools { made_of, missing } => (made_of, missing),
            Self::NoMedium { medium, why } => {
                return write!(f, "needs the medium {medium}, which can't be used: {why}");
            }
        };
        let missing: Vec<String> = missing.iter().map(|tool| format!("no {tool}")).collect();
        let missing = match missing.as_slice() {
            [others @ .., last] if !others.is_empty() => format!("{} and {last}", others.join(", ")),
            missing => missing.join(", "),
        };
        write!(f, "is made of {made_of} packages, and this machine has {missing}")
    }
}

impl Recipe {
    /// Why a machine with these tools can't build its images, if so, or why they are of no use without its medium. A derived recipe
    /// is built from packages that are downloaded already.
    pub fn unbuildable(&self, tools: &HostTools) -> Option<Unbuildable> {
        let medium = self.disk().map(|disk| (disk.medium().name(), disk.medium().state()));
        if let Some((medium, MediumState::Unusable(why))) = medium {
            return Some(Unbuildable::NoMedium { medium, why: why.to_string() });
        }
        let (made_of, needed) = match &self.text.packages {
            _ if self.derivation.is_some() => return None,
            Packages::Apt(_) => ("Debian", vec![HostTool::AptGet]),
            Packages::None(_) => return None,
            // A disk without a source is prepared without packages.
            Packages::Rpm(packages) if packages.source.is_none() && self.text.disk.is_some() => return None,
            Packages::Rpm(packages) => {
                let on_dvd = packages.source.as_ref().is_some_and(|s| matches!(s.origin(), Origin::Dvd(_)));
                let own_busybox = self.text.busybox.is_some() && !tools.has(HostTool::AptGet);
                let mut needed = vec![HostTool::Dnf, HostTool::RpmKeys];
                needed.extend(on_dvd.then_some(HostTool::BsdTar));
                needed.extend(own_busybox.then_some(HostTool::Busybox));
                ("RPM", needed)
            }
        };
        let missing = tools.missing(&needed);
        (!missing.is_empty()).then_some(Unbuildable::NoTools { made_of, missing })
    }
}

impl Catalog {
    /// The recipes whose images a machine with these tools can't build or use, by name.
    pub fn unbuildable_with(&self, tools: &HostTools) -> BTreeMap<String, Unbuildable> {
        let unbuildable = |recipe: &Recipe| Some((recipe.name().to_owned(), recipe.unbuildable(tools)?));
        self.recipes_and_extended().filter_map(unbuildable).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewSource, Sources};
    use std::fs;
    use std::path::Path;

    fn tools(tools: &[HostTool]) -> HostTools {
        tools.iter().copied().collect()
    }

    /// The recipes of this project with a source of RHEL 9.4.
    fn catalog() -> Catalog {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        fs::write(&key, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n").unwrap();
        let mut sources = Sources::open(Some(folder.path().join("sources"))).unwrap();
        let origin = Origin::Urls(vec!["http://a.example".to_owned()]);
        let new = NewSource { name: "rhel-9.4".to_owned(), isa: Some(Isa::Amd64), origin, key: Some(key) };
        sources.add(&new, &[]).unwrap();
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        Catalog::load(&recipes).unwrap().with_sources(&sources)
    }

    fn why(recipe: &str, of: &[HostTool]) -> Option<String> {
        let unbuildable = catalog().unbuildable_with(&tools(of));
        unbuildable.get(recipe).map(ToString::to_string)
    }

    #[test]
    fn a_machine_with_all_tools_builds_all_images() {
        assert!(catalog().unbuildable_with(&HostTool::ALL.into_iter().collect()).is_empty());
    }

    #[test]
    fn images_of_debian_packages_need_apt() {
        let without_apt: Vec<HostTool> =
            HostTool::ALL.into_iter().filter(|tool| *tool != HostTool::AptGet).collect();
        let reason = Some("is made of Debian packages, and this machine has no apt-get".to_owned());
        assert_eq!(why("debian-12-amd64", &without_apt), reason);
        assert_eq!(why("qemu-x86-amd64", &without_apt), reason);
        assert_eq!(why("rhel-9.4-amd64", &without_apt), None);
        assert_eq!(why("debian-12-amd64", &[HostTool::AptGet]), None);
    }

    #[test]
    fn images_of_rpm_packages_need_the_tools_of_their_source() {
        let reason = |of: &[HostTool]| why("rhel-9.4-amd64", of);
        let is_made_of = "is made of RPM packages, and this machine has ";
        for (of, missing) in [
            (&[][..], "no dnf, no rpmkeys and no static busybox"),
            (&[HostTool::AptGet], "no dnf and no rpmkeys"),
            (&[HostTool::AptGet, HostTool::Dnf], "no rpmkeys"),
            (&[HostTool::Dnf, HostTool::RpmKeys], "no static busybox"),
        ] {
            assert_eq!(reason(of), Some(format!("{is_made_of}{missing}")));
        }
        assert_eq!(reason(&[HostTool::AptGet, HostTool::Dnf, HostTool::RpmKeys]), None);
        assert_eq!(reason(&[HostTool::Busybox, HostTool::Dnf, HostTool::RpmKeys]), None);
    }

    #[test]
    fn an_installation_image_also_needs_bsdtar() {
        let catalog = catalog();
        let recipe = catalog.get("rhel-9.4-amd64").unwrap();
        let source = recipe.source().unwrap().on_dvd("/an.iso");
        let template = Recipe::load(recipe.path()).unwrap();
        let filled = template.filled(&source.into()).unwrap();
        let without = tools(&[HostTool::AptGet, HostTool::Dnf, HostTool::RpmKeys]);
        assert_eq!(filled.unbuildable(&without).unwrap().missing(), [HostTool::BsdTar]);
    }
}
