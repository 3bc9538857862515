//! The root file system of a WSL distribution that reports like a minimal image.

use crate::tree::{Node, Tree};
use crate::{Error, pack, unpack};
use std::path::Path;

/// Folders that WSL mounts on, and the home of root.
const FOLDERS: [&str; 7] = ["dev", "mnt", "proc", "root", "run", "sys", "tmp"];
/// Where the initramfs has its programs.
const PROGRAMS: &str = "usr/bin/";
const INIT: &str = "init";

/// Texts that the initramfs does not have, by their paths, and whether they are programs. WSL starts nothing in a distribution
/// without users.
const TEXTS: [(&str, &str, bool); 4] = [
    ("etc/group", "root:x:0:\n", false),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", false),
    ("etc/wsl.conf", include_str!("wsl.conf"), false),
    ("nestmatrix/report", include_str!("report.sh"), true),
];

/// What the root file system is made of.
#[derive(Debug, Clone, Copy)]
pub struct WslRoot<'a> {
    /// The initramfs of a minimal image. The kernel is that of WSL, so its modules are left out.
    pub initramfs: &'a Path,
}

impl WslRoot<'_> {
    /// The program in it that prints the report to its standard output.
    pub const REPORTER: &'static str = "/nestmatrix/report";

    /// Writes it as an archive (tar, gzip) for `wsl --import`. The same initramfs always gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Io`] if the initramfs cannot be read, has no init, or the archive cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let from = unpack::initramfs(self.initramfs)?;
        let mut tree = Tree::default();
        for folder in FOLDERS {
            tree.insert(folder, Node::Folder);
        }
        for (path, node) in from.under(PROGRAMS) {
            tree.insert(path, node.clone());
        }
        let Some((_, init)) = from.file(INIT) else {
            let cause = std::io::Error::other("it has no init");
            return Err(Error::io("read", self.initramfs)(cause));
        };
        tree.write("nestmatrix/init", init.data.clone(), false);
        for (path, text, executable) in TEXTS {
            tree.write(path, text.as_bytes(), executable);
        }
        tree.link_merged_folders();
        pack::tar_gz(&tree, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe_text::Compression;
    use std::fs::{self, File};

    /// An initramfs like that of a minimal image.
    fn initramfs(path: &Path, init: bool, compression: Compression) {
        let mut tree = Tree::default();
        tree.write("usr/bin/busybox", *b"\x7fELF", true);
        tree.insert("usr/bin/sh", Node::Link("busybox".into()));
        tree.write("usr/lib/modules/6.1/cpuid.ko", *b"module", false);
        tree.write("shell.sh", *b"serve_console() { :; }", false);
        if init {
            tree.write("init", *b"#!/bin/sh\necho report\n", true);
        }
        tree.link_merged_folders();
        pack::initramfs(&tree, compression, path).unwrap();
    }

    #[test]
    fn an_archive_has_the_programs_and_the_init_of_the_image_and_what_wsl_needs() {
        let folder = tempfile::tempdir().unwrap();
        let [image, packed, root, again] =
            ["image", "packed", "root", "again"].map(|n| folder.path().join(n));
        initramfs(&image, true, Compression::None);
        initramfs(&packed, true, Compression::Zstd);
        WslRoot { initramfs: &image }.write(&root).unwrap();
        WslRoot { initramfs: &packed }.write(&again).unwrap();
        assert_eq!(fs::read(&root).unwrap(), fs::read(&again).unwrap());

        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(&root).unwrap()));
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
            let path = entry.path().unwrap().display().to_string();
            let to = entry.link_name().unwrap().map(|to| format!(" -> {}", to.display()));
            format!("{:o} {path}{}", header.mode().unwrap(), to.unwrap_or_default())
        });
        insta::assert_snapshot!(entries.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn an_initramfs_that_is_none_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let [image, text, root] = ["image", "text", "root"].map(|name| folder.path().join(name));
        initramfs(&image, false, Compression::None);
        fs::write(&text, "text").unwrap();
        for file in [&image, &text] {
            let error = WslRoot { initramfs: file }.write(&root).unwrap_err().to_string();
            assert!(error.starts_with(&format!("cannot read {}: ", file.display())), "{error}");
        }
        assert!(!root.exists());
    }
}
