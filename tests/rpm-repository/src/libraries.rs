//! RHEL's packages of libraries.

use crate::Part::{self, AppStream, BaseOS};
use crate::blueprint::{Blueprint, Content, Version};
use crate::debian::{Deb, DebFile, Debs};
use crate::{Error, patch};
use std::fs;

/// RHEL's name and place of a library package, and the Debian packages that have its files. Other libraries of Debian's keep
/// their names: RHEL does not have them, since its QEMU does not need them.
const NAMES: &[(&str, Part, &[&str])] = &[
    ("alsa-lib", AppStream, &["libasound2"]),
    ("bzip2-libs", BaseOS, &["libbz2-1.0"]),
    ("cyrus-sasl-lib", BaseOS, &["libsasl2-2", "libsasl2-modules-db"]),
    ("daxctl-libs", BaseOS, &["libdaxctl1"]),
    ("elfutils-libelf", BaseOS, &["libelf1"]),
    ("elfutils-libs", BaseOS, &["libdw1"]),
    ("expat", BaseOS, &["libexpat1"]),
    ("fuse3-libs", BaseOS, &["libfuse3-3"]),
    ("glib2", BaseOS, &["libglib2.0-0"]),
    ("glibc", BaseOS, &["libc6"]),
    ("gmp", BaseOS, &["libgmp10"]),
    ("gnutls", BaseOS, &["libgnutls30"]),
    ("gstreamer1", AppStream, &["libgstreamer1.0-0"]),
    ("gstreamer1-plugins-base", AppStream, &["libgstreamer-plugins-base1.0-0"]),
    ("kmod-libs", BaseOS, &["libkmod2"]),
    ("libaio", BaseOS, &["libaio1"]),
    ("libblkid", BaseOS, &["libblkid1"]),
    ("libbpf", BaseOS, &["libbpf1"]),
    ("libcacard", AppStream, &["libcacard0"]),
    ("libcap", BaseOS, &["libcap2"]),
    ("libcap-ng", BaseOS, &["libcap-ng0"]),
    ("libdb", BaseOS, &["libdb5.3"]),
    ("libdrm", AppStream, &["libdrm2"]),
    ("libepoxy", AppStream, &["libepoxy0"]),
    ("libfdt", AppStream, &["libfdt1"]),
    ("libffi", BaseOS, &["libffi8"]),
    ("libgcc", BaseOS, &["libgcc-s1"]),
    ("libgcrypt", BaseOS, &["libgcrypt20"]),
    ("libgpg-error", BaseOS, &["libgpg-error0"]),
    ("libibverbs", BaseOS, &["libibverbs1"]),
    ("libidn2", BaseOS, &["libidn2-0"]),
    ("libjpeg-turbo", AppStream, &["libjpeg62-turbo"]),
    ("libmount", BaseOS, &["libmount1"]),
    ("libnl3", BaseOS, &["libnl-3-200", "libnl-route-3-200"]),
    ("libpmem", AppStream, &["libpmem1"]),
    ("libpng", BaseOS, &["libpng16-16"]),
    ("librdmacm", BaseOS, &["librdmacm1"]),
    ("libseccomp", BaseOS, &["libseccomp2"]),
    ("libselinux", BaseOS, &["libselinux1"]),
    ("libslirp", AppStream, &["libslirp0"]),
    ("libstdc++", BaseOS, &["libstdc++6"]),
    ("libtasn1", BaseOS, &["libtasn1-6"]),
    ("libunistring", BaseOS, &["libunistring2"]),
    ("libunwind", AppStream, &["libunwind8"]),
    ("liburing", AppStream, &["liburing2"]),
    ("libusbx", BaseOS, &["libusb-1.0-0"]),
    ("libuuid", BaseOS, &["libuuid1"]),
    ("libwayland-server", AppStream, &["libwayland-server0"]),
    ("libzstd", BaseOS, &["libzstd1"]),
    ("lz4-libs", BaseOS, &["liblz4-1"]),
    ("mesa-libgbm", AppStream, &["libgbm1"]),
    ("ncurses-libs", BaseOS, &["libncursesw6", "libtinfo6"]),
    ("ndctl-libs", BaseOS, &["libndctl6"]),
    ("nettle", BaseOS, &["libnettle8", "libhogweed6"]),
    ("nspr", AppStream, &["libnspr4"]),
    ("nss", AppStream, &["libnss3"]),
    ("numactl-libs", BaseOS, &["libnuma1"]),
    ("openssl-libs", BaseOS, &["libssl3"]),
    ("opus", AppStream, &["libopus0"]),
    ("orc", AppStream, &["liborc-0.4-0"]),
    ("p11-kit", BaseOS, &["libp11-kit0"]),
    ("pcre2", BaseOS, &["libpcre2-8-0"]),
    ("pcsc-lite-libs", BaseOS, &["libpcsclite1"]),
    ("pixman", AppStream, &["libpixman-1-0"]),
    ("sqlite-libs", BaseOS, &["libsqlite3-0"]),
    ("systemd-libs", BaseOS, &["libsystemd0", "libudev1"]),
    ("usbredir", AppStream, &["libusbredirparser1"]),
    ("xz-libs", BaseOS, &["liblzma5"]),
    ("zlib", BaseOS, &["zlib1g"]),
];

/// Debian's folder of libraries.
const FROM: &str = "usr/lib/x86_64-linux-gnu/";
/// RHEL's.
const TO: &str = "/usr/lib64/";
/// The loader, where programs look for it.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// The packages of libraries that Debian's packages have.
pub(crate) fn blueprints(debs: &Debs) -> Result<Vec<Blueprint>, Error> {
    let mut blueprints: Vec<Blueprint> = Vec::new();
    for deb in debs.iter() {
        let files = libraries(deb)?;
        if files.is_empty() {
            continue;
        }
        let known = NAMES.iter().find(|(_, _, debs)| debs.contains(&deb.name.as_str()));
        let (name, part) = known.map_or((deb.name.as_str(), AppStream), |(name, part, _)| (*name, *part));
        match blueprints.iter_mut().find(|blueprint| blueprint.name == name) {
            Some(blueprint) => blueprint.files.extend(files),
            None => {
                let mut blueprint = Blueprint::new(name, Version::of_debian(&deb.version), part);
                blueprint.files.extend(files);
                blueprints.push(blueprint);
            }
        }
    }
    let glibc = blueprints.iter_mut().find(|blueprint| blueprint.name == "glibc");
    let glibc = glibc.ok_or_else(|| Error::unexpected("glibc", "there is no package libc6"))?;
    // The specification of glibc says this: no generator knows it.
    glibc.provides.push("rtld(GNU_HASH)".to_owned());
    Ok(blueprints)
}

/// The libraries of one Debian package, by their paths in RHEL, and changed so that they work there.
fn libraries(deb: &Deb) -> Result<Vec<(String, Content)>, Error> {
    let mut libraries = Vec::new();
    for DebFile { path, place } in &deb.files {
        let Some(name) = path.strip_prefix(FROM) else { continue };
        // QEMU's modules are not among them, and conversions of character sets, which RHEL has in another package.
        if name.starts_with("qemu/") || name.starts_with("gconv/") {
            continue;
        }
        let is_loader = LOADER.strip_suffix(name).is_some_and(|folder| folder.ends_with('/'));
        let path = if is_loader { LOADER.to_owned() } else { format!("{TO}{name}") };
        let unpacked = || Content::Unpacked(place.clone());
        let content = if place.is_symlink() {
            unpacked()
        } else {
            let bytes = fs::read(place).map_err(Error::io("read", place))?;
            // RPM reads the dependencies of executable files only.
            patch::moved(bytes).map_or_else(unpacked, |data| Content::File { data, executable: true })
        };
        libraries.push((path, content));
    }
    Ok(libraries)
}
