//! Reads the initramfs of an image back into a tree.

use crate::Error;
use crate::tree::{Node, Tree};
use cpio::newc::{ModeFileType, Reader};
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

/// The kind of a file in its mode (stat(2)).
const KIND: u32 = 0o170_000;
const EXECUTABLE: u32 = 0o100;
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// The tree of an initramfs that `pack` wrote.
pub(crate) fn initramfs(path: &Path) -> Result<Tree, Error> {
    let read = || -> io::Result<Tree> {
        let bytes = fs::read(path)?;
        if bytes.starts_with(ZSTD) { cpio(&zstd::decode_all(&bytes[..])?) } else { cpio(&bytes) }
    };
    read().map_err(Error::io("read", path))
}

fn cpio(mut rest: &[u8]) -> io::Result<Tree> {
    let mut tree = Tree::default();
    loop {
        let mut entry = Reader::new(rest)?;
        if entry.entry().is_trailer() {
            return Ok(tree);
        }
        let (name, mode) = (entry.entry().name().to_owned(), entry.entry().mode());
        let mut data = Vec::new();
        entry.read_to_end(&mut data)?;
        rest = entry.finish()?;
        match mode & KIND {
            kind if kind == u32::from(ModeFileType::Directory) => tree.insert(&name, Node::Folder),
            kind if kind == u32::from(ModeFileType::Regular) => {
                tree.write(&name, data, mode & EXECUTABLE != 0);
            }
            kind if kind == u32::from(ModeFileType::Symlink) => {
                let target = String::from_utf8(data).map_err(io::Error::other)?;
                tree.insert(&name, Node::Link(target));
            }
            _ => return Err(io::Error::other(format!("{name} is neither a file nor a folder nor a link"))),
        }
    }
}
