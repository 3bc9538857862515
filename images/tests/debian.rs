//! Tests with a real Debian: builds a recipe from its archive, and compares the order of versions with dpkg. The first build
//! needs the network and the host's apt. The cache is the default one (`NESTMATRIX_CACHE`), so that other tests find the images.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ordered_versions;
#[path = "support/shared_packages.rs"]
mod shared_packages;
#[path = "../../xtask/tests/common/trials.rs"]
mod trials;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use nestmatrix_images::{
    Begun, Catalog, Error, Image, Media, NewMedium, Product, QemuImg, Silent, Store, StoreOptions,
    compare_versions, find_program,
};
use nestmatrix_model::{Firmware, Isa};
use ordered_versions::ORDER;
use shared_packages::share_packages;
use trials::{ignore, trials};

/// Name, mode and contents of every entry of an uncompressed initramfs.
fn entries(image: &Image) -> BTreeMap<String, (u32, Vec<u8>)> {
    let bytes = fs::read(image.initramfs().unwrap()).unwrap();
    let mut rest = &bytes[..];
    let mut entries = BTreeMap::new();
    loop {
        let mut reader = cpio::newc::Reader::new(rest).unwrap();
        let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
        if reader.entry().is_trailer() {
            return entries;
        }
        let mut contents = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut contents).unwrap();
        rest = reader.finish().unwrap();
        entries.insert(name, (mode, contents));
    }
}

fn debian_12_is_built_from_its_archive() {
    let catalog = recipes();
    let recipe = catalog.get("debian-12-amd64").unwrap();
    let store = Store::open(StoreOptions::default()).unwrap();
    let wanted = [(recipe, Product::Hypervisor), (recipe, Product::Minimal)];
    let images = store.ensure_all(&wanted, &Silent).unwrap_or_else(|error| match error {
        Error::Undelivered(packages) => ignore(&packages.to_string()),
        other => panic!("{other}"),
    });
    let [hypervisor, minimal] = &images[..] else { panic!("two were asked for") };

    let kernel = hypervisor.kernel_version().unwrap();
    assert!(kernel.release.starts_with("6.1.") && kernel.package.ends_with(&kernel.release), "{kernel:?}");
    assert_eq!(hypervisor.qemu_version().unwrap().upstream, "7.2");
    assert!(hypervisor.packages().iter().any(|package| package.name == "libc6"));
    // The setup header of an x86 kernel: Documentation/arch/x86/boot.rst.
    assert_eq!(&fs::read(minimal.kernel().unwrap()).unwrap()[0x202..0x206], b"HdrS");

    let inside = entries(hypervisor);
    for (name, mode) in [
        ("init", 0o100_755),
        ("bin", 0o120_777),
        ("usr/bin/sh", 0o120_777),
        ("usr/bin/qemu-system-x86_64", 0o100_755),
        ("usr/sbin/qemu-ga", 0o100_755),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", 0o100_755),
        ("usr/share/seabios/bios-256k.bin", 0o100_644),
    ] {
        assert_eq!(inside.get(name).map(|(mode, _)| *mode), Some(mode), "{name}");
    }
    let dep = String::from_utf8(inside[&format!("usr/lib/modules/{}/modules.dep", kernel.release)].1.clone())
        .unwrap();
    let kvm_amd = dep.lines().find(|line| line.starts_with("kernel/arch/x86/kvm/kvm-amd.ko:")).unwrap();
    assert!(kvm_amd.contains("kernel/arch/x86/kvm/kvm.ko") && kvm_amd.contains("irqbypass.ko"), "{kvm_amd}");
    for path in dep.split_whitespace().map(|path| path.trim_end_matches(':')) {
        let (_, module) = &inside[&format!("usr/lib/modules/{}/{path}", kernel.release)];
        assert_eq!(&module[..4], b"\x7fELF", "{path}");
    }

    let inside = entries(minimal);
    assert!(inside.keys().all(|name| !name.contains("qemu")));
    let modules =
        inside.keys().filter(|name| name.ends_with(".ko")).map(|path| path.rsplit('/').next().unwrap());
    assert_eq!(modules.collect::<Vec<_>>(), ["cpuid.ko"], "what the loops need, and no KVM");
    assert!(minimal.size() < hypervisor.size() / 3);
}

fn recipes() -> Catalog {
    Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")).unwrap()
}

fn uefi_firmware_has_files_of_whole_sectors(isa: Isa) {
    let catalog = recipes();
    let store = Store::open(StoreOptions::default()).unwrap();
    let image =
        store.ensure(catalog.uefi(isa).unwrap(), Product::Firmware, &Silent).unwrap_or_else(undelivered);
    assert_eq!(image.uefi(Firmware::Default), None);
    let [plain, secure] =
        [Firmware::Uefi, Firmware::UefiSecureBoot].map(|firmware| image.uefi(firmware).unwrap());
    for file in [&plain.code, &plain.vars, &secure.code, &secure.vars] {
        let size = fs::metadata(file).unwrap().len();
        assert!(size > 0 && size.is_multiple_of(512), "{}", file.display());
    }
    let read = |path: &Path| fs::read(path).unwrap();
    // Microsoft signs the boot loaders of distributions with keys whose certificates name it.
    let has_keys = |vars: &[u8]| vars.windows(9).any(|bytes| bytes == b"Microsoft");
    assert!(has_keys(&read(&secure.vars)) && !has_keys(&read(&plain.vars)));
    assert_ne!(read(&plain.code), read(&secure.code));
}

fn undelivered<T>(error: Error) -> T {
    match error {
        Error::Undelivered(packages) => ignore(&packages.to_string()),
        other => panic!("{other}"),
    }
}

/// A disk of Debian 13, as far as it is read: a partition table.
fn add_debian_13(media: &mut Media, file: &Path, tool: &QemuImg) {
    let disk = File::create(file).unwrap();
    disk.set_len(4 << 20).unwrap();
    disk.write_all_at(&[0x55, 0xaa], 510).unwrap();
    let new = NewMedium {
        name: "debian-13".to_owned(),
        file: file.to_owned(),
        sha256: None,
        isa: Some(Isa::Amd64),
        ..NewMedium::default()
    };
    media.add(&new, tool, &Silent).unwrap();
}

fn a_disk_of_debian_13_gets_its_packages() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let shared = Store::open(StoreOptions::default()).unwrap();
    // A private cache, so that no other test finds this image, but with the packages that the default one has.
    let cache = path("cache");
    let store = Store::open(StoreOptions { cache: Some(cache.clone()), ..StoreOptions::default() }).unwrap();
    share_packages(shared.cache(), &cache);
    let tool = QemuImg::find(&shared, &recipes(), &Silent).unwrap_or_else(undelivered);
    let mut media = Media::open(Some(path("media"))).unwrap();
    add_debian_13(&mut media, &path("disk.img"), &tool);
    let catalog = recipes().with_media(&media);
    let recipe = catalog.get("debian-13-disk-amd64").unwrap();
    let begun = store.begin_preparation(recipe, &catalog, &Silent).unwrap_or_else(undelivered);
    let Begun::Preparation(draft) = begun else { panic!("{begun:?}") };
    let volume = File::options().read(true).write(true).open(draft.packages().unwrap()).unwrap();
    let volume = fatfs::FileSystem::new(volume, fatfs::FsOptions::new()).unwrap();
    assert_eq!(volume.volume_label(), "NESTPKGS");
    let names: Vec<String> = volume.root_dir().iter().map(|entry| entry.unwrap().file_name()).collect();
    for package in ["qemu-system-x86_", "qemu-guest-agent_", "seabios_", "libc6_", "ipxe-qemu_"] {
        assert!(names.iter().any(|name| name.starts_with(package)), "{package} is missing from {names:?}");
    }
    assert_eq!(draft.uefi(), None);
    let Some(check) = find_program("fsck.fat") else { return };
    for file in [draft.seed(), draft.packages().unwrap()] {
        let output = Command::new(&check).arg("-n").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// A recipe of a disk that boots by UEFI and needs nothing else.
const UEFI_DISK: &str = r#"name = "toy-disk"
architecture = "amd64"

[template]
systems = ["debian"]

[disk]
firmware = "uefi-secure-boot"
memory-mib = 512
cpus = 1
bus = "virtio"
command-channel = "agent"
prepared = true
"#;

fn a_disk_keeps_the_firmware_that_it_was_made_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let shared = Store::open(StoreOptions::default()).unwrap();
    let all = recipes();
    let firmware = shared.ensure(all.uefi(Isa::Amd64).unwrap(), Product::Firmware, &Silent);
    let secure = firmware.unwrap_or_else(undelivered).uefi(Firmware::UefiSecureBoot).unwrap();
    let tool = QemuImg::find(&shared, &all, &Silent).unwrap_or_else(undelivered);
    let mut media = Media::open(Some(path("media"))).unwrap();
    add_debian_13(&mut media, &path("disk.img"), &tool);
    fs::write(path("toy-disk.toml"), UEFI_DISK).unwrap();
    fs::copy(all.get("uefi-amd64").unwrap().path(), path("uefi-amd64.toml")).unwrap();
    let catalog = Catalog::load(folder.path()).unwrap().with_media(&media);
    let cache = path("cache");
    let store = Store::open(StoreOptions { cache: Some(cache.clone()), ..StoreOptions::default() }).unwrap();
    share_packages(shared.cache(), &cache);
    let recipe = catalog.get("debian-13-disk-amd64").unwrap();
    let begun = store.begin_preparation(recipe, &catalog, &Silent).unwrap_or_else(undelivered);
    let Begun::Ready(image) = begun else { panic!("{begun:?}") };
    let own = image.disk_image().unwrap().uefi.unwrap();
    assert!(own.code.starts_with(image.folder()) && own.vars.starts_with(image.folder()));
    let read = |path: &Path| fs::read(path).unwrap();
    assert_eq!((read(&own.code), read(&own.vars)), (read(&secure.code), read(&secure.vars)));
}

/// Versions that nobody gives, with which those of `ORDER` are compared too.
const STRANGE: [&str; 10] =
    ["1.0~", "1.0", "1.0a", "1.0+", "1.0.", "1.a0", "01", "1.0-0.1", "2:0~", "1.0~~a"];

fn the_order_of_versions_is_that_of_dpkg() {
    let says = |a: &str, relation: &str, b: &str| {
        Command::new("dpkg")
            .args(["--compare-versions", a, relation, b])
            .status()
            .map(|status| status.success())
    };
    if let Err(error) = says("1", "eq", "1") {
        ignore(&format!("cannot run dpkg: {error}"));
    }
    let versions: Vec<&str> = ORDER.into_iter().chain(STRANGE).collect();
    for &a in &versions {
        for &b in &versions {
            let relation = match compare_versions(a, b) {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            assert!(says(a, relation, b).unwrap(), "{a} {relation} {b}");
        }
    }
}

trials! {
    debian_12_is_built_from_its_archive;
    uefi_firmware_has_files_of_whole_sectors {
        amd64(Isa::Amd64),
        arm64(Isa::Arm64),
    };
    a_disk_of_debian_13_gets_its_packages;
    a_disk_keeps_the_firmware_that_it_was_made_with;
    the_order_of_versions_is_that_of_dpkg;
}
