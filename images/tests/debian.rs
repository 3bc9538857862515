//! Tests with a real Debian: builds a recipe from its archive, and compares the order of versions with dpkg. The first build
//! needs the network and the host's apt. The cache is the default one (`NESTMATRIX_CACHE`), so that other tests find the images.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ordered_versions;
#[path = "../../xtask/tests/common/trials.rs"]
mod trials;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use nestmatrix_images::{Catalog, Error, Image, Product, Silent, Store, StoreOptions, compare_versions};
use ordered_versions::ORDER;
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
    let catalog = Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")).unwrap();
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
    the_order_of_versions_is_that_of_dpkg;
}
