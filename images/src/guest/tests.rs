//! What stands before the user's initramfs.

use super::*;

fn base(folder: &Path) -> PathBuf {
    let mut tree = Tree::default();
    tree.write("init", *b"#!/bin/sh\necho report\n", true);
    tree.write("usr/bin/busybox", *b"program", true);
    tree.insert("usr/bin/sh", Node::Link("busybox".into()));
    tree.insert("usr/bin/other", Node::Link("elsewhere".into()));
    let path = folder.join("base");
    pack::initramfs(&tree, Compression::Zstd, &path).unwrap();
    path
}

fn on_image(folder: &Path) -> GuestOnImage {
    let release = Kernel { release: "6.1".into(), package: "linux".into(), version: "1".into() };
    GuestOnImage {
        guest: LocalGuest { name: "my-guest".into(), kernel: None, initramfs: None },
        image: Digest::of_bytes(b"image"),
        kernel: (folder.join("kernel"), release),
        initramfs: base(folder),
    }
}

#[test]
fn the_users_initramfs_follows_as_it_is_at_a_multiple_of_four_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let own = b"\x1f\x8bcompressed".as_slice();
    let mut files = Tree::default();
    files.write(INITRAMFS, own, false);
    let path = folder.path().join("whole");
    let guest = on_image(folder.path());
    guest.write_initramfs("r", &files, Compression::Zstd, &path).unwrap();
    let whole = fs::read(&path).unwrap();
    assert!(whole.ends_with(own) && (whole.len() - own.len()).is_multiple_of(4));
    // Reading ends with the first archive.
    let added = unpack::initramfs(&path).unwrap();
    let paths: Vec<&str> =
        added.iter().filter(|(_, node)| **node != Node::Folder).map(|(path, _)| path).collect();
    let applets = ["mkdir", "poweroff", "rm", "sh", "umount"].map(|name| format!(".nestmatrix/bin/{name}"));
    let files = ["busybox", "init", "report"].map(|name| format!(".nestmatrix/{name}"));
    assert_eq!(paths, applets.iter().chain(&files).map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn the_image_has_what_the_guest_does_not_bring() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whole");
    on_image(folder.path()).write_initramfs("r", &Tree::default(), Compression::None, &path).unwrap();
    let whole = unpack::initramfs(&path).unwrap();
    for path in ["init", "usr/bin/sh", ".nestmatrix/init"] {
        assert!(whole.iter().any(|(known, _)| known == path), "{path}");
    }
}

#[test]
fn other_files_are_another_image() {
    let folder = tempfile::tempdir().unwrap();
    let digest = |guest: &GuestOnImage| guest.hash(Hasher::new()).finish();
    let without = on_image(folder.path());
    let mut with = without.clone();
    with.guest.initramfs = Some(("x".into(), Digest::of_bytes(b"a")));
    let mut other = with.clone();
    other.guest.initramfs = Some(("x".into(), Digest::of_bytes(b"b")));
    assert_ne!(digest(&without), digest(&with));
    assert_ne!(digest(&with), digest(&other));
    assert!(with.suffix().starts_with("+guest-my-guest-"), "{}", with.suffix());
}
