//! Writes an assembled tree as an initramfs or as a folder. The same tree always gives the same bytes.

use crate::Error;
use crate::image::{DISK_ALIGNMENT, DISK_BYTES};
use crate::recipe_text::Compression;
use crate::tree::{File, Node, Tree};
use cpio::newc::{Builder, ModeFileType, trailer};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The size of a sector of a virtio disk.
const SECTOR: u64 = 512;

/// zstd's level: higher levels save little here and cost seconds.
const ZSTD_LEVEL: i32 = 9;

/// Writes a tree as an initramfs (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).
pub(crate) fn initramfs(tree: &Tree, compression: Compression, path: &Path) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let file = io::BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
        match compression {
            Compression::None => cpio(tree, file)?.flush(),
            Compression::Zstd => cpio(tree, zstd::Encoder::new(file, ZSTD_LEVEL)?)?.finish()?.flush(),
        }
    };
    write().map_err(Error::io("write", path))
}

/// Writes a tree as an archive that can be the disk of a level: it has whole sectors. What follows its end is ignored (cpio(5)).
pub(crate) fn packed_tree(tree: &Tree, path: &Path) -> Result<(), Error> {
    initramfs(tree, Compression::None, path)?;
    let pad = || {
        let file = fs::File::options().write(true).open(path)?;
        file.set_len(file.metadata()?.len().next_multiple_of(SECTOR))
    };
    pad().map_err(Error::io("write", path))
}

/// Writes a tree as a compressed tar archive.
pub(crate) fn tar_gz(tree: &Tree, path: &Path) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let file = io::BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
        // Its header has no name and no time.
        let packer = flate2::GzBuilder::new().write(file, flate2::Compression::default());
        tar(tree, packer)?.finish()?.flush()
    };
    write().map_err(Error::io("write", path))
}

/// Writes a kernel and, after it, its initramfs into a file that is a guest's disk.
pub(crate) fn disk(kernel: &Path, initramfs: &Path, path: &Path) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let mut disk = fs::File::create(path)?;
        let kernel = io::copy(&mut fs::File::open(kernel)?, &mut disk)?;
        disk.seek(io::SeekFrom::Start(kernel.next_multiple_of(DISK_ALIGNMENT)))?;
        let initramfs = io::copy(&mut fs::File::open(initramfs)?, &mut disk)?;
        if kernel.next_multiple_of(DISK_ALIGNMENT) + initramfs > DISK_BYTES {
            return Err(io::Error::other(format!("kernel and initramfs exceed a disk's {DISK_BYTES} bytes")));
        }
        Ok(())
    };
    write().map_err(Error::io("write", path))
}

/// Writes files of this machine, each with its path in the initramfs, as an additional initramfs that a boot loader appends to
/// the kernel's.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read, or the initramfs cannot be written.
pub fn files(files: &[(String, PathBuf)], path: &Path) -> Result<(), Error> {
    let mut tree = Tree::default();
    for (name, file) in files {
        let data = fs::read(file).map_err(Error::io("read", file))?;
        tree.write(name, data, false);
    }
    initramfs(&tree, Compression::None, path)
}

/// Writes entries sorted by path, so that folders come before their contents. The owner is root, the time 0, and inode numbers
/// count up.
fn cpio<W: Write>(tree: &Tree, mut out: W) -> io::Result<W> {
    for (number, (path, node)) in (1..).zip(with_folders(tree)) {
        let entry = Builder::new(path).ino(number).nlink(1).mtime(0).uid(0).gid(0);
        let (kind, mode, data) = match &node {
            Node::Folder => (ModeFileType::Directory, 0o755, &[][..]),
            Node::File(File { executable: true, data, .. }) => (ModeFileType::Regular, 0o755, &data[..]),
            Node::File(File { data, .. }) => (ModeFileType::Regular, 0o644, &data[..]),
            Node::Link(target) => (ModeFileType::Symlink, 0o777, target.as_bytes()),
        };
        let size = u32::try_from(data.len())
            .map_err(|_| io::Error::other(format!("{path} is larger than 4 GiB")))?;
        let mut writer = entry.mode(mode).set_mode_file_type(kind).write(&mut out, size);
        writer.write_all(data)?;
        writer.finish()?;
    }
    trailer(out)
}

/// Writes the same entries as a tar archive, with owner and time as above.
fn tar<W: Write>(tree: &Tree, out: W) -> io::Result<W> {
    let mut archive = tar::Builder::new(out);
    for (path, node) in with_folders(tree) {
        let mut header = tar::Header::new_gnu();
        let (kind, mode, data) = match node {
            Node::Folder => (tar::EntryType::Directory, 0o755, &[][..]),
            Node::File(File { executable: true, data, .. }) => (tar::EntryType::Regular, 0o755, &data[..]),
            Node::File(File { data, .. }) => (tar::EntryType::Regular, 0o644, &data[..]),
            Node::Link(_) => (tar::EntryType::Symlink, 0o777, &[][..]),
        };
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(data.len() as u64);
        match node {
            Node::Link(target) => archive.append_link(&mut header, path, target)?,
            _ => archive.append_data(&mut header, path, data)?,
        }
    }
    archive.into_inner()
}

/// All entries of the tree, and the folders above them.
fn with_folders(tree: &Tree) -> BTreeMap<&str, &Node> {
    let mut all = BTreeMap::new();
    for (path, node) in tree.iter() {
        for (end, _) in path.match_indices('/') {
            all.entry(&path[..end]).or_insert(&Node::Folder);
        }
        all.insert(path, node);
    }
    all
}

/// Writes a tree's files into a new folder. Links are skipped: an emulator's tree has none.
pub(crate) fn folder(tree: &Tree, root: &Path) -> Result<(), Error> {
    fs::create_dir_all(root).map_err(Error::io("create folder", root))?;
    for (path, node) in with_folders(tree) {
        let path = root.join(path);
        match node {
            Node::Folder => fs::create_dir_all(&path).map_err(Error::io("create folder", &path))?,
            Node::File(file) => {
                fs::write(&path, &file.data).map_err(Error::io("write", &path))?;
                let mode = if file.executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                    .map_err(Error::io("write", &path))?;
            }
            Node::Link(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.write("usr/share/z", *b"last", false);
        tree.write("init", *b"#!/bin/sh\n", true);
        tree.insert("dev", Node::Folder);
        tree.insert("usr/bin/sh", Node::Link("busybox".into()));
        tree
    }

    #[test]
    fn an_archive_depends_on_nothing_but_the_tree() {
        let first = cpio(&tree(), Vec::new()).unwrap();
        assert_eq!(first, cpio(&tree(), Vec::new()).unwrap());
        let mut entries = Vec::new();
        let mut rest = &first[..];
        loop {
            let mut reader = cpio::newc::Reader::new(rest).unwrap();
            let entry = reader.entry().clone();
            if entry.is_trailer() {
                break;
            }
            assert_eq!((entry.mtime(), entry.uid(), entry.gid()), (0, 0, 0));
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            entries.push((entry.name().to_owned(), entry.mode(), text));
            rest = reader.finish().unwrap();
        }
        let expected = [
            ("dev", 0o040_755, ""),
            ("init", 0o100_755, "#!/bin/sh\n"),
            ("usr", 0o040_755, ""),
            ("usr/bin", 0o040_755, ""),
            ("usr/bin/sh", 0o120_777, "busybox"),
            ("usr/share", 0o040_755, ""),
            ("usr/share/z", 0o100_644, "last"),
        ];
        assert_eq!(entries, expected.map(|(name, mode, text)| (name.to_owned(), mode, text.to_owned())));
    }

    #[test]
    fn compression_changes_the_size_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("plain"), folder.path().join("packed"));
        initramfs(&tree(), Compression::None, &plain).unwrap();
        initramfs(&tree(), Compression::Zstd, &packed).unwrap();
        let packed = fs::read(packed).unwrap();
        assert_eq!(zstd::decode_all(&packed[..]).unwrap(), fs::read(plain).unwrap());
    }
}
