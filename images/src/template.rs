//! Recipes for every minor version of a system: a template, filled from the sources that the user added.

use crate::digest::Hasher;
use crate::recipe::Recipe;
use crate::recipe_text::{Packages, Table, owned};
use crate::rpm::RpmPackages;
use crate::{Digest, Os, Source};
use nestmatrix_input::Keys;
use std::sync::Arc;

/// The largest major version that is taken for one.
const LAST_MAJOR: u32 = 999;

/// A recipe's `[template]`: which systems and versions it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateText {
    /// The systems, by `ID` in os-release(5).
    systems: Vec<String>,
    /// The major version; none if it serves every one.
    major: Option<u32>,
    /// Another variant of the system that its images also are.
    pub(crate) also_variant: Option<String>,
}

impl TemplateText {
    pub(crate) const KEYS: Keys = &["systems", "major", "also-variant"];

    pub(crate) fn read(table: &Table<'_>) -> Option<Self> {
        let systems = table.strings("systems").map(owned);
        let major = table.optional_integer("major", 1, LAST_MAJOR);
        let also_variant = table.optional_prose("also-variant");
        Some(Self { systems: systems?, major, also_variant })
    }

    /// Whether it serves a system in some version.
    pub(crate) fn serves(&self, os: &Os) -> bool {
        let major = || os.version.split('.').next().and_then(|major| major.parse().ok());
        self.systems.contains(&os.id) && self.major.is_none_or(|wanted| major() == Some(wanted))
    }
}

impl Recipe {
    /// The recipe for the packages of `source`, if this is a template that serves its system.
    pub(crate) fn filled(&self, source: &Arc<Source>) -> Option<Self> {
        let template = self.text.template.as_ref().filter(|_| self.text.disk.is_none())?;
        let Packages::Rpm(RpmPackages { text, .. }) = &self.text.packages else { return None };
        if source.isa() != self.isa() || !template.serves(source.os()) {
            return None;
        }
        let mut filled = self.clone();
        filled.text.packages =
            Packages::Rpm(RpmPackages { text: text.clone(), source: Some(Arc::clone(source)) });
        let name = format!("{}-{}", source.name(), source.isa());
        filled.text.name = name;
        filled.text.os = Some(source.os().clone());
        let digest: Digest =
            Hasher::new().field(self.digest().as_str()).field(source.digest().as_str()).finish();
        Some(filled.with_digest(digest))
    }

    /// Whether it is a template.
    pub(crate) fn is_template(&self) -> bool {
        match &self.text.disk {
            Some(disk) => disk.medium.is_none(),
            None => matches!(&self.text.packages, Packages::Rpm(RpmPackages { source: None, .. })),
        }
    }

    /// Whether its images are this variant of the system.
    pub fn is_variant(&self, variant: Option<&str>) -> bool {
        let own = self.os().and_then(|os| os.variant.as_deref());
        let also = self.text.template.as_ref().and_then(|template| template.also_variant.as_deref());
        own == variant || (variant.is_some() && also == variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_serves_one_major_version_or_all() {
        let template = |major| TemplateText { systems: vec!["rhel".to_owned()], major, also_variant: None };
        let os =
            |id: &str, version: &str| Os { id: id.to_owned(), version: version.to_owned(), variant: None };
        for (id, version, of_nine, of_all) in [
            ("rhel", "9.4", true, true),
            ("rhel", "9", true, true),
            ("rhel", "10.0", false, true),
            ("fedora", "9", false, false),
        ] {
            let served = [Some(9), None].map(|major| template(major).serves(&os(id, version)));
            assert_eq!(served, [of_nine, of_all], "{id} {version}");
        }
    }
}
