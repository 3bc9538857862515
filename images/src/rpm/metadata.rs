//! Reads the metadata of a repository: `repomd.xml`, and the list of packages that it names.

use crate::{Digest, Error, Package};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// How large `repomd.xml` may be, and the list of packages after it is decompressed. The list of Fedora's 70 000 packages has a
/// quarter of that.
const MOST_INDEX: u64 = 1 << 20;
const MOST_LIST: u64 = 1 << 30;

/// A package in a repository's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) package: Package,
    /// Its path in the repository.
    pub(super) location: String,
    /// Size of its file in bytes.
    pub(super) size: u64,
}

impl Listed {
    /// The last part of its path, which is `NAME-VERSION-RELEASE.ARCHITECTURE.rpm`.
    pub(super) fn file(&self) -> &str {
        self.location.rsplit('/').next().unwrap_or(&self.location)
    }

    /// What dnf calls this very package: name, epoch, version, release and architecture.
    pub(super) fn nevra(&self) -> String {
        let Package { name, version, architecture, .. } = &self.package;
        format!("{name}-{version}.{architecture}")
    }
}

/// Every package of the repository whose `repodata` is in `folder`.
///
/// # Errors
/// [`Error::Metadata`] if the metadata is missing, or not as expected.
pub(super) fn packages(folder: &Path) -> Result<Vec<Listed>, Error> {
    packages_within(folder, MOST_LIST)
}

fn packages_within(folder: &Path, most: u64) -> Result<Vec<Listed>, Error> {
    let failed = |message: String| Error::Metadata { path: folder.to_owned(), message };
    let index = folder.join("repodata/repomd.xml");
    let open = |path: &Path| File::open(path).map_err(Error::io("open", path));
    let primary = primary(BufReader::new(open(&index)?.take(MOST_INDEX))).map_err(failed)?;
    let file = BufReader::new(open(&folder.join(&primary))?);
    let text: Box<dyn Read> = match primary.rsplit('.').next() {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::Decoder::new(file).map_err(|e| failed(e.to_string()))?),
        Some("xz") => Box::new(liblzma::read::XzDecoder::new(file)),
        Some("xml") => Box::new(file),
        _ => return Err(failed(format!("{primary} is compressed in an unknown way"))),
    };
    let mut text = BufReader::new(text.take(most));
    let all = list(&mut text).map_err(|e| failed(format!("{primary}: {e}")))?;
    if text.get_ref().limit() == 0 {
        return Err(failed(format!("{primary} has more than {most} bytes")));
    }
    Ok(all)
}

/// The path of the list of packages, which `repomd.xml` names.
fn primary(text: impl BufRead) -> Result<String, String> {
    let mut reader = Reader::from_reader(text);
    let mut buffer = Vec::new();
    let mut is_primary = false;
    loop {
        match reader.read_event_into(&mut buffer).map_err(|e| e.to_string())? {
            Event::Start(element) if element.local_name().as_ref() == b"data" => {
                is_primary = attribute(&element, "type")?.as_deref() == Some("primary");
            }
            Event::Empty(element) | Event::Start(element)
                if is_primary && element.local_name().as_ref() == b"location" =>
            {
                let href = attribute(&element, "href")?.ok_or("the list of packages has no location")?;
                if href.starts_with('/') || href.split('/').any(|part| part == "..") {
                    return Err(format!("the list of packages is outside the repository: {href}"));
                }
                return Ok(href);
            }
            Event::Eof => return Err("repomd.xml names no list of packages".to_owned()),
            _ => {}
        }
        buffer.clear();
    }
}

/// What is known of a package while its element is read.
#[derive(Default)]
struct Partial {
    name: String,
    architecture: String,
    version: Option<String>,
    sha256: Option<Digest>,
    location: Option<String>,
    size: u64,
}

/// Parses a list of packages (`primary.xml`). It may be large, so it is read as a stream.
fn list(text: impl BufRead) -> Result<Vec<Listed>, String> {
    let mut reader = Reader::from_reader(text);
    let mut buffer = Vec::new();
    let mut all = Vec::new();
    let mut current: Option<Partial> = None;
    let mut text_of = Vec::new();
    loop {
        match reader.read_event_into(&mut buffer).map_err(|e| e.to_string())? {
            Event::Eof => return Ok(all),
            Event::Start(element) => {
                let name = element.local_name().as_ref().to_vec();
                if name == b"package" {
                    current = Some(Partial::default());
                } else if let Some(current) = &mut current {
                    current.take(&name, &element)?;
                }
                text_of = name;
            }
            Event::Empty(element) => {
                if let Some(current) = &mut current {
                    current.take(element.local_name().as_ref(), &element)?;
                }
            }
            Event::Text(text) => {
                if let Some(current) = &mut current {
                    let text = text.decode().map_err(|e| e.to_string())?;
                    current.text(&text_of, text.trim());
                }
            }
            Event::End(element) => {
                text_of.clear();
                if element.local_name().as_ref() == b"package" {
                    all.extend(current.take().and_then(Partial::finish));
                }
            }
            _ => {}
        }
        buffer.clear();
    }
}

impl Partial {
    /// Takes what is in an element's attributes.
    fn take(&mut self, name: &[u8], element: &BytesStart<'_>) -> Result<(), String> {
        match name {
            b"version" => {
                let part = |name| attribute(element, name).map(Option::unwrap_or_default);
                let epoch = part("epoch")?;
                let epoch =
                    if epoch.is_empty() || epoch == "0" { String::new() } else { format!("{epoch}:") };
                self.version = Some(format!("{epoch}{}-{}", part("ver")?, part("rel")?));
            }
            b"location" => self.location = attribute(element, "href")?,
            b"size" => {
                let size = attribute(element, "package")?;
                self.size = size.and_then(|size| size.parse().ok()).unwrap_or_default();
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what is in an element's text.
    fn text(&mut self, name: &[u8], text: &str) {
        match name {
            b"name" => text.clone_into(&mut self.name),
            b"arch" => text.clone_into(&mut self.architecture),
            // Other algorithms have other lengths; the package is then not used.
            b"checksum" if text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit()) => {
                self.sha256 = Some(Digest::from_hex(text));
            }
            _ => {}
        }
    }

    /// The package, unless it is one that no repository of a vendor has.
    fn finish(self) -> Option<Listed> {
        let Self { name, architecture, version, sha256, location, size } = self;
        let package = Package { name, version: version?, architecture, sha256: sha256? };
        let Package { name, version, architecture, .. } = &package;
        let usable = [name, version, architecture].into_iter().all(|word| is_word(word));
        usable.then_some(Listed { package, location: location?, size })
    }
}

/// Whether text is safe as a part of a file's name, as dnf's argument, and in a line of rpmkeys: nobody has signed the metadata.
fn is_word(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+-~^:".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed)
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    let found = element.try_get_attribute(name).map_err(|e| e.to_string())?;
    let text = found.map(|found| {
        let value = std::str::from_utf8(&found.value).map_err(|e| e.to_string())?;
        quick_xml::escape::unescape(value).map(|text| text.into_owned()).map_err(|e| e.to_string())
    });
    text.transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const REPOMD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo">
  <data type="filelists"><location href="repodata/f.xml.gz"/></data>
  <data type="primary"><checksum type="sha256">00</checksum><location href="repodata/p.xml"/></data>
</repomd>"#;

    fn primary_xml() -> String {
        let digest = "ab".repeat(32);
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="2">
<package type="rpm"><name>qemu-kvm-core</name><arch>x86_64</arch>
  <version epoch="17" ver="8.2.0" rel="11.el9_4"/>
  <checksum type="sha256" pkgid="YES">{digest}</checksum>
  <size package="5000" installed="1" archive="2"/>
  <location href="Packages/qemu-kvm-core-8.2.0-11.el9_4.x86_64.rpm"/>
  <format><rpm:requires><rpm:entry name="a &lt; b"/></rpm:requires><file>/usr/libexec/qemu-kvm</file></format>
</package>
<package type="rpm"><name>kernel-core</name><arch>x86_64</arch>
  <version epoch="0" ver="5.14.0" rel="427.el9"/>
  <checksum type="sha256" pkgid="YES">{digest}</checksum>
  <size package="6000" installed="1" archive="2"/>
  <location href="Packages/k/kernel-core-5.14.0-427.el9.x86_64.rpm"/>
</package>
</metadata>"#
        )
    }

    fn repository(primary: &[u8], name: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("repodata")).unwrap();
        fs::write(folder.path().join("repodata/repomd.xml"), REPOMD.replace("p.xml", name)).unwrap();
        fs::write(folder.path().join("repodata").join(name), primary).unwrap();
        folder
    }

    #[test]
    fn packages_are_listed_whatever_the_compression() {
        let text = primary_xml();
        let mut gz = Vec::new();
        flate2::read::GzEncoder::new(text.as_bytes(), flate2::Compression::fast())
            .read_to_end(&mut gz)
            .unwrap();
        let mut xz = Vec::new();
        liblzma::read::XzEncoder::new(text.as_bytes(), 1).read_to_end(&mut xz).unwrap();
        let zst = zstd::encode_all(text.as_bytes(), 1).unwrap();
        for (name, data) in
            [("p.xml", text.as_bytes()), ("p.xml.gz", &gz), ("p.xml.xz", &xz), ("p.xml.zst", &zst)]
        {
            let folder = repository(data, name);
            let found = packages(folder.path()).unwrap();
            let said: Vec<_> = found.iter().map(|one| (one.nevra(), one.file(), one.size)).collect();
            assert_eq!(
                said,
                [
                    (
                        "qemu-kvm-core-17:8.2.0-11.el9_4.x86_64".to_owned(),
                        "qemu-kvm-core-8.2.0-11.el9_4.x86_64.rpm",
                        5000
                    ),
                    (
                        "kernel-core-5.14.0-427.el9.x86_64".to_owned(),
                        "kernel-core-5.14.0-427.el9.x86_64.rpm",
                        6000
                    ),
                ],
                "{name}"
            );
        }
    }

    #[test]
    fn packages_with_names_that_lead_elsewhere_are_not_listed() {
        let good = "<name>kernel-core</name>";
        let digest = "ab".repeat(32);
        for (there, instead) in [
            (good, "<name>../../kernel-core</name>"),
            (good, "<name>--destdir=kernel-core</name>"),
            (good, "<name>.kernel-core</name>"),
            (good, "<name>kernel\n/p/core</name>"),
            (good, "<name>kernel*</name>"),
            (good, "<name></name>"),
            ("rel=\"427.el9\"", "rel=\"427/../el9\""),
            ("<arch>x86_64</arch>\n  <version epoch=\"0\"", "<arch>/x86_64</arch>\n  <version epoch=\"0\""),
        ] {
            assert_ne!(good, instead);
            let text = primary_xml().replace(there, instead);
            let names: Vec<String> =
                list(text.as_bytes()).unwrap().into_iter().map(|one| one.package.name).collect();
            assert_eq!(names, ["qemu-kvm-core"], "{instead}");
        }
        let text = primary_xml().replace(&digest, &format!("/../{}", &digest[4..]));
        assert_eq!(list(text.as_bytes()).unwrap(), []);
    }

    #[test]
    fn a_list_that_decompresses_to_too_much_is_refused() {
        let bomb = zstd::encode_all(std::io::repeat(b' ').take(1 << 20), 1).unwrap();
        let folder = repository(&bomb, "p.xml.zst");
        let error = packages_within(folder.path(), 1000).unwrap_err().to_string();
        assert!(error.contains("p.xml.zst has more than 1000 bytes"), "{error}");
    }

    #[test]
    fn damaged_metadata_is_an_error_that_names_the_folder() {
        let text = primary_xml();
        for (name, data) in [
            ("p.xml.gz", b"not gzip".as_slice()),
            ("p.xml.zck", text.as_bytes()),
            ("../p.xml", text.as_bytes()),
            ("p.xml", &text.as_bytes()[..text.len() / 2]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("repodata")).unwrap();
            fs::write(
                folder.path().join("repodata/repomd.xml"),
                REPOMD.replace("repodata/p.xml", &format!("repodata/{name}")),
            )
            .unwrap();
            fs::write(folder.path().join("repodata").join(name), data).unwrap();
            match packages(folder.path()) {
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
                }
                // A list that is cut off between two packages can't be told from a complete one; its digest can.
                Ok(found) => assert!(name == "p.xml" && found.len() < 2, "{name}: {found:?}"),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_list_has_no_package_whose_name_leads_elsewhere(at in 0_usize..1500, text in "\\PC{0,20}", length in 0_usize..20) {
            let mut list_text = primary_xml().into_bytes();
            let at = at.min(list_text.len());
            let end = (at + length).min(list_text.len());
            list_text.splice(at..end, text.bytes());
            for listed in list(list_text.as_slice()).unwrap_or_default() {
                let name = listed.package.name;
                proptest::prop_assert!(is_word(&name), "{name:?}");
            }
        }
    }
}
