//! What a package of the repository consists of, before it is built.

use crate::Part;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The mark of RHEL 9.4 in the releases of its packages.
const DISTRIBUTION: &str = "el9_4";

/// A package to be built.
#[derive(Debug, Clone)]
pub(crate) struct Blueprint {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) part: Part,
    /// Whether it is for every architecture.
    pub(crate) noarch: bool,
    pub(crate) payload: Payload,
    /// Whether RPM's generators read the dependencies from its files, in addition to the following.
    pub(crate) generated: bool,
    pub(crate) requires: Vec<String>,
    pub(crate) provides: Vec<String>,
    /// Files by their absolute paths.
    pub(crate) files: BTreeMap<String, Content>,
}

/// A file of a package.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// A file or symbolic link of a Debian package, as it is.
    Unpacked(PathBuf),
    File {
        data: Vec<u8>,
        executable: bool,
    },
    Link(String),
    /// A path that belongs to the package but is not in its payload, since it is written when the package is installed.
    Ghost,
}

/// How the files of a package are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// As in RHEL 9.
    Zstd,
    /// As in RHEL 7 and 8.
    Xz,
    Gzip,
}

/// The version of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The epoch, which is not part of file names.
    pub epoch: Option<u32>,
    /// The version of the software.
    pub version: String,
    /// The release of the package.
    pub release: String,
}

impl Blueprint {
    /// A package without files and dependencies.
    pub(crate) fn new(name: &str, version: Version, part: Part) -> Self {
        Self {
            name: name.to_owned(),
            version,
            part,
            noarch: false,
            payload: Payload::Zstd,
            generated: true,
            requires: Vec::new(),
            provides: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    pub(crate) fn architecture(&self) -> &'static str {
        if self.noarch { "noarch" } else { "x86_64" }
    }

    pub(crate) fn file_name(&self) -> String {
        let Version { version, release, .. } = &self.version;
        format!("{}-{version}-{release}.{}.rpm", self.name, self.architecture())
    }

    /// Adds a dependency on exactly the version that another package has.
    pub(crate) fn require_same(&mut self, name: &str) {
        self.requires.push(format!("{name} = {}", self.version.evr()));
    }

    pub(crate) fn add(&mut self, path: impl Into<String>, content: Content) {
        self.files.insert(path.into(), content);
    }
}

impl Payload {
    pub(crate) const ALL: [Self; 3] = [Self::Zstd, Self::Xz, Self::Gzip];

    /// RPM's name of this compression, at a low level: tests make these packages again and again.
    pub(crate) fn macro_value(self) -> &'static str {
        match self {
            Self::Zstd => "w1.zstdio",
            Self::Xz => "w0.xzdio",
            Self::Gzip => "w1.gzdio",
        }
    }
}

impl Version {
    /// The RPM version of a Debian version. RPM does not allow hyphens in it.
    pub(crate) fn of_debian(version: &str) -> Self {
        let (epoch, rest) = match version.split_once(':') {
            Some((epoch, rest)) => (epoch.parse().ok(), rest),
            None => (None, version),
        };
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, "1"));
        // Debian marks upstream versions whose sources it repacked.
        let upstream = upstream.split_once("+d").map_or(upstream, |(upstream, _)| upstream);
        let release = format!("{}.{DISTRIBUTION}", revision.replace(['+', '~'], "."));
        Self { epoch, version: upstream.replace('-', "."), release }
    }

    /// Epoch, version and release as dependencies name them.
    pub(crate) fn evr(&self) -> String {
        let epoch = self.epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
        format!("{epoch}{}-{}", self.version, self.release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_debian_become_versions_of_rpm() {
        for (debian, rpm) in [
            ("1:7.2+dfsg-7+deb12u18+b3", "1:7.2-7.deb12u18.b3.el9_4"),
            ("3.0.20-1~deb12u2", "3.0.20-1.deb12u2.el9_4"),
            ("1.0", "1.0-1.el9_4"),
        ] {
            assert_eq!(Version::of_debian(debian).evr(), rpm);
        }
    }
}
