//! RHEL's packages of the kernel.

use crate::Part::BaseOS;
use crate::blueprint::{Blueprint, Content, Version};
use crate::debian::{Deb, Debs};
use crate::{Error, parallel};
use liblzma::read::XzEncoder;
use liblzma::stream::{Check, Stream};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Modules of `kernel-modules-core`: those that a level may load, and all that they depend on. RHEL has many more.
const CORE: &[&str] = &[
    "arch/",
    "crypto/",
    "drivers/block/loop.ko",
    "drivers/block/virtio_blk.ko",
    "drivers/char/",
    "drivers/crypto/",
    "drivers/firmware/qemu_fw_cfg.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/tap.ko",
    "drivers/net/tun.ko",
    "drivers/net/virtio_net.ko",
    "drivers/vfio/",
    "drivers/vhost/vhost.ko",
    "drivers/vhost/vhost_iotlb.ko",
    "drivers/vhost/vhost_net.ko",
    "drivers/virtio/",
    "fs/9p/",
    "fs/ext4/",
    "fs/fscache/",
    "fs/fuse/",
    "fs/jbd2/",
    "fs/mbcache.ko",
    "fs/netfs/",
    "lib/",
    "net/9p/",
    "net/core/",
    "virt/",
];

/// Modules of `kernel-modules`.
const NOT_CORE: &[&str] = &["drivers/input/evdev.ko", "drivers/input/mousedev.ko"];

/// The beginning of the path of Debian's kernel.
const VMLINUZ: &str = "boot/vmlinuz-";

/// The packages of the kernel, and its release.
pub(crate) fn blueprints(debs: &Debs) -> Result<(Vec<Blueprint>, String), Error> {
    let deb = debs.find("kernel-core", |deb| deb.files.iter().any(|file| file.path.starts_with(VMLINUZ)))?;
    let release = deb.files.iter().find_map(|file| file.path.strip_prefix(VMLINUZ));
    let release = release.ok_or_else(|| Error::unexpected("kernel-core", "there is no vmlinuz"))?.to_owned();
    let new = |name| {
        let mut blueprint = Blueprint::new(name, Version::of_debian(&deb.version), BaseOS);
        blueprint.generated = false;
        blueprint
    };
    let [mut core, mut modules_core, mut modules] =
        ["kernel-core", "kernel-modules-core", "kernel-modules"].map(new);
    let folder = format!("/lib/modules/{release}");
    for (name, in_boot) in [("System.map", false), ("config", true), ("vmlinuz", true)] {
        let file = deb.file(&format!("boot/{name}-{release}"))?;
        core.add(format!("{folder}/{name}"), Content::Unpacked(file.to_owned()));
        // kernel-install(8) copies it there.
        if in_boot {
            core.add(format!("/boot/{name}-{release}"), Content::Ghost);
        }
    }
    for (package, wanted) in [(&mut modules_core, CORE), (&mut modules, NOT_CORE)] {
        package.files.extend(compressed(deb, &release, wanted)?);
    }
    let lists = in_folder(deb, &release).filter(|(name, _)| name.starts_with("modules."));
    core.files
        .extend(lists.map(|(name, place)| (format!("{folder}/{name}"), Content::Unpacked(place.to_owned()))));
    let mut packages = [core, modules_core, modules];
    depend(&mut packages, &release);
    Ok((packages.into(), release))
}

/// What `kernel-core` requires of other packages. RHEL 8 requires firmware, RHEL 9 only recommends it: what copes with the former
/// copes with the latter.
const REQUIRES: &[&str] = &[
    "/usr/bin/kernel-install",
    "coreutils",
    "dracut >= 027",
    "linux-firmware >= 20150904",
    "systemd >= 203-2",
];

/// RHEL's dependencies of `kernel-core`, `kernel-modules-core` and `kernel-modules` on each other and on others.
fn depend(packages: &mut [Blueprint; 3], release: &str) {
    let names = ["kernel", "kernel-modules-core", "kernel-modules"];
    // RPM allows only one hyphen in a version, and RHEL's releases have only one.
    let release = release.replacen('-', "_", 1).replace('-', ".").replacen('_', "-", 1);
    for (package, name) in packages.iter_mut().zip(names) {
        let evr = package.version.evr();
        package.provides.push(format!("{name}-uname-r = {release}"));
        package.provides.push(format!("{name}-x86_64 = {evr}"));
        package.provides.push(format!("installonlypkg({name})"));
        let others = names[..2].iter().filter(|other| **other != name);
        package.requires.extend(others.map(|other| format!("{other}-uname-r = {release}")));
    }
    let core = &mut packages[0];
    core.provides.push(format!("kernel = {}", core.version.evr()));
    core.provides.push(format!("kernel-core-uname-r = {release}"));
    core.requires.extend(REQUIRES.iter().map(|required| (*required).to_owned()));
}

/// The files in the folder of the kernel's modules, by their paths in it.
fn in_folder<'a>(deb: &'a Deb, release: &str) -> impl Iterator<Item = (&'a str, &'a Path)> {
    let folder = format!("usr/lib/modules/{release}/");
    deb.files.iter().filter_map(move |file| Some((file.path.strip_prefix(&folder)?, file.place.as_path())))
}

/// The modules whose paths begin with one of these, compressed.
fn compressed(deb: &Deb, release: &str, wanted: &[&str]) -> Result<Vec<(String, Content)>, Error> {
    let modules = in_folder(deb, release).filter(|(name, _)| {
        let name = name.strip_prefix("kernel/").unwrap_or(name);
        wanted.iter().any(|start| name.starts_with(start))
    });
    let modules: Vec<(&str, &Path)> = modules.collect();
    parallel::map(&modules, |(name, place)| {
        let content = Content::File { data: compress(place)?, executable: false };
        Ok((format!("/lib/modules/{release}/{name}.xz"), content))
    })
}

/// Compresses a module as the kernel can unpack it (Documentation/staging/xz.rst).
fn compress(module: &Path) -> Result<Vec<u8>, Error> {
    let compressed = || {
        let encoder = Stream::new_easy_encoder(0, Check::Crc32).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        XzEncoder::new_stream(File::open(module)?, encoder).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    compressed().map_err(Error::io("compress", module))
}
