//! The disks of a catalog: their recipes, what is known of those that are prepared, and which of them can run guests.

use super::text::VARIANT;
use super::{DiskImage, DiskPackages};
use crate::config;
use crate::digest::Hasher;
use crate::recipe_text::Packages;
use crate::{Catalog, Digest, DiskGuest, Medium, MediumState, Os, Recipe, RoleCommand, WindowsRole};
use nestmatrix_model::{CommandChannel, Isa, PROGRAM};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Why a level that boots a disk can't run guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InnermostOnly {
    /// There is no source of QEMU's packages, and the disk has no QEMU, or is not prepared yet, so that this is not known.
    NoSource {
        /// The name that the source must have.
        source: String,
        /// Whether the disk is prepared.
        prepared: bool,
    },
    /// It has no QEMU.
    NoQemu,
    /// Its commands run on its console, and only an agent starts guests.
    Console,
    /// Its Windows is in no role that hosts guests.
    NoRole,
}

impl InnermostOnly {
    /// The command that changes this, if there is one.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NoSource { source, .. } => Some(format!("{PROGRAM} sources add {source} --dvd FILE")),
            Self::NoQemu | Self::Console | Self::NoRole => None,
        }
    }
}

/// It reads as the rest of a sentence after "can only be the innermost level: ".
impl fmt::Display for InnermostOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSource { source, prepared: true } => {
                write!(f, "it has no QEMU, and there is no source {source} of its packages")
            }
            Self::NoSource { source, prepared: false } => write!(
                f,
                "there is no source {source} of QEMU's packages, and only preparation shows whether QEMU is on the disk"
            ),
            Self::NoQemu => f.write_str("it has no QEMU"),
            Self::NoRole => f.write_str("its Windows is in no role that hosts guests"),
            Self::Console => f.write_str("its commands run on its console, and only an agent starts guests"),
        }
    }
}

/// What a medium is good for on this machine.
#[derive(Debug)]
pub struct MediumUse<'c> {
    /// The medium.
    pub medium: &'c Arc<Medium>,
    /// What its file shows.
    pub state: MediumState,
    /// The recipe of its disk; none if no recipe serves its system.
    pub recipe: Option<&'c Recipe>,
    /// Its disk, if that is prepared.
    pub prepared: Option<&'c DiskImage>,
    /// Why a level that boots it can't run guests, if so.
    pub innermost_only: Option<InnermostOnly>,
}

impl MediumUse<'_> {
    /// Name of its disk, as lists and scenarios show it: `rhel-9.4-disk`.
    pub fn image(&self) -> String {
        format!("{}-{VARIANT}", self.medium.name())
    }

    /// Why no level can boot it, if so.
    pub fn unusable(&self) -> Option<String> {
        match (&self.state, self.recipe) {
            (MediumState::Unusable(why), _) => Some(why.to_string()),
            (_, None) => Some(format!("no recipe serves its system for {}", self.medium.isa())),
            (_, Some(_)) => None,
        }
    }

    /// Whether it has to be prepared before a level can boot it.
    pub fn is_to_prepare(&self) -> bool {
        let disk = self.recipe.and_then(Recipe::disk);
        self.prepared.is_none() && disk.is_some_and(|disk| disk.needs_preparation())
    }

    /// Whether it is prepared, in words; `no recipe` if nothing prepares it.
    pub fn preparation(&self) -> &'static str {
        match self.recipe.and_then(Recipe::disk) {
            None => "no recipe",
            Some(disk) if !disk.needs_preparation() => "needs no preparation",
            Some(_) if self.is_to_prepare() => "not prepared",
            Some(_) => "prepared",
        }
    }
}

impl Recipe {
    /// The recipe for this medium, if this is a template that serves its system. Packages come from the source of the same system, if
    /// it is among `sources`.
    pub(crate) fn filled_by(&self, medium: &Arc<Medium>, sources: &[Arc<crate::Source>]) -> Option<Self> {
        let template = self.text.template.as_ref()?;
        self.text.disk.as_ref()?;
        if medium.isa() != self.isa() || !template.serves(medium.os()) {
            return None;
        }
        let source = sources.iter().find(|source| source.os() == medium.os() && source.isa() == medium.isa());
        let mut filled = self.clone();
        let mut hasher = Hasher::new().field(self.digest().as_str()).field(medium.digest().as_str());
        if let Some(disk) = &mut filled.text.disk {
            disk.medium = Some(Arc::clone(medium));
        }
        if let (Packages::Rpm(packages), Some(source)) = (&mut filled.text.packages, source) {
            packages.source = Some(Arc::clone(source));
            hasher = hasher.field(source.digest().as_str());
        }
        filled.text.name = format!("{}-{VARIANT}-{}", medium.name(), medium.isa());
        filled.text.os = Some(Os { variant: Some(VARIANT.to_owned()), ..medium.os().clone() });
        let digest: Digest = hasher.finish();
        Some(filled.with_digest(digest))
    }

    /// Why a level that boots its disk can't run guests, if so. `prepared` is that disk, if it is prepared.
    pub fn innermost_only(&self, prepared: Option<&DiskImage>) -> Option<InnermostOnly> {
        let disk = self.disk()?;
        if disk.guest() == Some(DiskGuest::Windows) {
            let hosts = disk.role().is_some_and(|role| role.has(RoleCommand::Start));
            return (!hosts).then_some(InnermostOnly::NoRole);
        }
        if disk.command_channel() == CommandChannel::Console {
            return Some(InnermostOnly::Console);
        }
        let has_qemu = match prepared {
            // What needs no preparation was not asked for its QEMU.
            Some(prepared) if disk.needs_preparation() => prepared.qemu.is_some(),
            _ => disk.installs_qemu() || (!disk.needs_preparation() && disk.qemu().is_some()),
        };
        match disk.packages() {
            _ if has_qemu => None,
            DiskPackages::NoSource => {
                Some(InnermostOnly::NoSource { source: disk.medium().name(), prepared: prepared.is_some() })
            }
            DiskPackages::None | DiskPackages::Archive | DiskPackages::Source => Some(InnermostOnly::NoQemu),
        }
    }
}

impl Recipe {
    /// This recipe for a Windows in a role.
    fn in_role(&self, role: &WindowsRole) -> Option<Self> {
        let mut text = self.text.clone();
        text.disk.as_mut()?.role = Some(Arc::new(role.clone()));
        let digest = Hasher::new().field(self.digest().as_str()).field(role.digest().as_str()).finish();
        if role.name() == GUEST {
            let mut own = self.clone();
            own.text = text;
            return Some(own.with_digest(digest));
        }
        text.name = format!("{}+{}", self.name(), role.name());
        Some(self.extended(text, role.name(), digest))
    }
}

/// The role of a Windows that hosts nothing.
const GUEST: &str = "guest";

impl Catalog {
    /// The recipe in the role that hosts nothing, if it is of Windows. The other roles make recipes of their own.
    pub(crate) fn add_roles(&mut self, recipe: Recipe) -> Recipe {
        if recipe.disk().is_none_or(|disk| disk.guest() != Some(DiskGuest::Windows)) {
            return recipe;
        }
        let others = self.windows_roles().filter(|role| role.name() != GUEST);
        let others: Vec<Recipe> = others.filter_map(|role| recipe.in_role(role)).collect();
        self.extended.extend(others.into_iter().map(|other| (other.name().to_owned(), other)));
        let guest = self.windows_role(GUEST).and_then(|role| recipe.in_role(role));
        guest.unwrap_or(recipe)
    }

    /// Whether a recipe installs the system of this name for this instruction set, such as `windows-server-2022`.
    pub fn installs(&self, name: &str, isa: Isa) -> bool {
        let Some((system, version)) = config::split(name) else { return false };
        let os = Os { id: system.to_owned(), version: version.to_owned(), variant: None };
        let installs = |recipe: &Recipe| {
            let template = recipe.text.template.as_ref();
            let installs = recipe.text.disk.as_ref().is_some_and(|disk| disk.install.is_some());
            installs && recipe.isa() == isa && template.is_some_and(|template| template.serves(&os))
        };
        self.templates.iter().any(installs)
    }

    /// The roles that the disk of a medium of this name can have, other than hosting nothing.
    pub fn roles_of(&self, medium: &str, isa: Isa) -> impl Iterator<Item = &str> {
        let is_of_it = move |recipe: &&Recipe| {
            recipe.isa() == isa && recipe.disk().is_some_and(|disk| disk.medium().name() == medium)
        };
        self.extended.values().filter(is_of_it).filter_map(Recipe::addition)
    }

    /// The recipe for the disk of a medium, if there is one.
    pub fn of_medium(&self, medium: &Medium) -> Option<&Recipe> {
        self.recipes().find(|recipe| recipe.disk().is_some_and(|disk| **disk.medium() == *medium))
    }

    /// The media that the user added.
    pub fn media(&self) -> impl Iterator<Item = &Arc<Medium>> {
        self.media.iter()
    }

    /// The same, with what is known of disks that are prepared, by their recipes.
    #[must_use]
    pub fn with_prepared(mut self, prepared: BTreeMap<String, DiskImage>) -> Self {
        self.prepared = prepared;
        self
    }

    /// The prepared disk of the recipe of this name, as its record describes it; none if it is not prepared, or makes no disk.
    pub fn prepared(&self, recipe: &str) -> Option<&DiskImage> {
        self.prepared.get(recipe)
    }

    /// What each medium is good for on this machine.
    pub fn uses_of_media(&self) -> Vec<MediumUse<'_>> {
        let mut uses = Vec::new();
        for medium in &self.media {
            let recipe = self.of_medium(medium);
            let prepared = recipe.and_then(|recipe| self.prepared(recipe.name()));
            let innermost_only = recipe.and_then(|recipe| recipe.innermost_only(prepared));
            // A Windows has its roles, each with its own disk.
            let innermost_only = innermost_only.filter(|why| *why != InnermostOnly::NoRole);
            uses.push(MediumUse { medium, state: medium.state(), recipe, prepared, innermost_only });
        }
        uses
    }

    /// The same without the user's media.
    #[must_use]
    pub fn without_media(&self) -> Self {
        let mut without = self.clone();
        without.media.clear();
        without.recipes.retain(|_, recipe| recipe.disk().is_none());
        without.extended.retain(|_, recipe| recipe.disk().is_none());
        without
    }

    /// The same without the user's sources. Disks that get packages from them have none then.
    #[must_use]
    pub fn without_sources(&self) -> Self {
        let mut without = self.clone();
        without.sources.clear();
        for recipe in self.recipes().filter(|recipe| recipe.source().is_some()) {
            without.recipes.remove(recipe.name());
            // Without the packages, it is another image.
            without.prepared.remove(recipe.name());
        }
        without.fill();
        without
    }
}
