//! Reads binary packages (deb(5)) into memory, without root, files on disk and maintainer scripts.

use crate::debian_version::compare_versions;
use crate::package_source::PackageFormat;
use crate::tree::{File, Node, Tree};
use crate::{Error, Package};
use std::cmp::Ordering;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Folders that no image needs. Skipping them saves memory.
pub(crate) const LEFT_OUT: [&str; 6] = [
    "usr/share/bug/",
    "usr/share/doc/",
    "usr/share/icons/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
];

/// The most bytes that the files of a package have: a packed file of a few KiB can hold any number of zeros. Linux' debug symbols, the
/// largest packages that images are made of, have less.
const MOST_CONTENT: u64 = 8 << 30;

/// The format of Debian's packages.
#[derive(Debug)]
pub(crate) struct Deb;

impl PackageFormat for Deb {
    /// As apt names it: of all characters that a version may hold, it escapes the epoch's colon.
    fn file_name(&self, package: &Package) -> String {
        format!("{}_{}_{}.deb", package.name, package.version.replace(':', "%3a"), package.architecture)
    }

    fn compare_versions(&self, a: &str, b: &str) -> Ordering {
        compare_versions(a, b)
    }

    fn is_package(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "deb")
    }

    fn read(&self, path: &Path, number: usize) -> Result<Tree, Error> {
        read(path, number)
    }
}

/// Reads one package, whose files are marked as coming from package number `index`.
fn read(path: &Path, index: usize) -> Result<Tree, Error> {
    let broken = |e: io::Error| Error::Package { path: path.to_owned(), message: e.to_string() };
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let mut members = ar::Archive::new(io::BufReader::new(file));
    while let Some(member) = members.next_entry() {
        let member = member.map_err(broken)?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        if name.starts_with("data.tar") {
            return decompressed(&name, member)
                .and_then(|data| read_tar(data.take(MOST_CONTENT), index))
                .map_err(broken);
        }
    }
    Err(broken(io::Error::other("it has no member data.tar")))
}

fn decompressed<'a>(name: &str, data: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match name.strip_prefix("data.tar") {
        Some("") => Box::new(data),
        Some(".xz") => Box::new(liblzma::read::XzDecoder::new(data)),
        Some(".zst") => Box::new(zstd::Decoder::new(data)?),
        _ => {
            return Err(io::Error::other(format!(
                "member {name} is neither plain nor compressed by xz or zstd"
            )));
        }
    })
}

fn read_tar(data: impl Read, index: usize) -> io::Result<Tree> {
    let mut tree = Tree::default();
    for entry in tar::Archive::new(data).entries()? {
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let plain = crate::tree::merged(&path);
        if LEFT_OUT.iter().any(|folder| plain.starts_with(folder)) {
            continue;
        }
        let kind = entry.header().entry_type();
        let target = entry.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
        match (kind, target) {
            (tar::EntryType::Regular, _) => {
                // Its header may claim any size, so no memory is reserved by that.
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                if bytes.len() as u64 != entry.size() {
                    return Err(io::Error::other(format!("{path} is incomplete")));
                }
                let executable = entry.header().mode()? & 0o111 != 0;
                tree.insert(
                    &path,
                    Node::File(File { data: Arc::from(bytes), executable, package: Some(index) }),
                );
            }
            (tar::EntryType::Symlink, Some(target)) => tree.insert(&path, Node::Link(target)),
            (tar::EntryType::Link, Some(target)) => {
                let Some((_, file)) = tree.file(&target) else {
                    return Err(io::Error::other(format!(
                        "{path} is a hard link to {target}, which is not there"
                    )));
                };
                let file = file.clone();
                tree.insert(&path, Node::File(file));
            }
            // Files create their folders, and images need no devices or pipes from packages.
            _ => {}
        }
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package_source::unpack;
    use crate::progress::{Reporter, Silent};

    fn deb(member: &str, data: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".deb").tempfile().unwrap();
        let mut builder = ar::Builder::new(file.as_file_mut());
        builder.append(&ar::Header::new(b"debian-binary".to_vec(), 4), &b"2.0\n"[..]).unwrap();
        builder.append(&ar::Header::new(member.into(), data.len() as u64), data).unwrap();
        file
    }

    fn tar_with(path: &str, text: &[u8]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, path, text).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Link);
        link.set_size(0);
        builder.append_link(&mut link, "bin/twin", path).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_package_is_read_whatever_its_compression() {
        let tar = tar_with("./bin/tool", b"text");
        let mut xz = Vec::new();
        liblzma::read::XzEncoder::new(&tar[..], 1).read_to_end(&mut xz).unwrap();
        let zst = zstd::encode_all(&tar[..], 1).unwrap();
        for (member, data) in [("data.tar", &tar), ("data.tar.xz", &xz), ("data.tar.zst", &zst)] {
            let file = deb(member, data);
            let reporter = Reporter { recipe: "r", to: &Silent };
            let tree = unpack(&[("tool".into(), file.path().to_owned())], reporter).unwrap();
            for name in ["usr/bin/tool", "usr/bin/twin"] {
                let (_, found) = tree.file(name).unwrap();
                assert_eq!(
                    (&found.data[..], found.executable, found.package),
                    (&b"text"[..], true, Some(0)),
                    "{member}"
                );
            }
        }
    }

    #[test]
    fn a_file_that_is_not_a_package_is_named() {
        for file in [deb("data.tar.gz", b"?"), deb("control.tar", b""), deb("data.tar.xz", b"not xz")] {
            let error = read(file.path(), 0).unwrap_err().to_string();
            assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_package_is_refused_or_read(at in 0_usize..2300, byte: u8, length in 0_usize..2400) {
            let file = deb("data.tar", &tar_with("./bin/tool", b"text"));
            let mut bytes = std::fs::read(file.path()).unwrap();
            bytes.truncate(length);
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
            std::fs::write(file.path(), bytes).unwrap();
            let _ = read(file.path(), 0);
        }
    }

    #[test]
    fn a_size_that_a_header_only_claims_takes_no_memory() {
        let mut header = tar::Header::new_gnu();
        header.set_path("./bin/tool").unwrap();
        header.set_size(1 << 50);
        header.set_cksum();
        let error = read(deb("data.tar", header.as_bytes()).path(), 0).unwrap_err().to_string();
        assert!(error.contains("bin/tool is incomplete"), "{error}");
    }
}
