//! The system in the domain, if a management program wrote it down (libosinfo).

use super::finding::Weight;
use super::survey::Element;

/// Beginnings of libosinfo's identifiers, and the systems of scenarios.
const SYSTEMS: &[(&str, &str)] =
    &[("http://redhat.com/rhel/", "rhel"), ("http://debian.org/debian/", "debian")];

/// The major versions that boot as images or stand-ins of this project.
const MAJOR: &[(&str, std::ops::RangeInclusive<u32>)] = &[("rhel", 8..=10), ("debian", 11..=13)];

/// The namespace of libosinfo's metadata.
const LIBOSINFO: &str = "{http://libosinfo.org/xmlns/libvirt/domain/1.0}";

/// The system on the level's axis, if the domain names one that can boot.
pub(super) fn of_domain(domain: Element<'_, '_>, usual: &str) -> Option<String> {
    let metadata = domain.child("metadata")?;
    let os = metadata.child(&format!("{LIBOSINFO}libosinfo"))?.child(&format!("{LIBOSINFO}os"))?;
    let id = os.attribute("id").unwrap_or_default();
    let found = SYSTEMS.iter().find_map(|(start, system)| Some((*system, id.strip_prefix(start)?)));
    let found = found.and_then(|(system, version)| {
        let (major, minor) =
            version.split_once('.').map_or((version, None), |(one, other)| (one, Some(other)));
        let major: u32 = major.parse().ok()?;
        let minor = minor.map(|minor| minor.parse::<u32>().ok());
        let boots = MAJOR.iter().any(|(name, versions)| *name == system && versions.contains(&major));
        match minor {
            _ if !boots => None,
            None => Some(format!("{system} {major}")),
            Some(minor) => Some(format!("{system} {major}.{}", minor?)),
        }
    });
    if found.is_none() {
        os.report(Weight::ChangesMeaning, format!("no image of it; the level boots {usual}"));
    }
    found
}
