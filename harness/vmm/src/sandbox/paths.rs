//! The paths that emulators need on this machine.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Where programs of a distribution, their libraries, data and settings are. None of them is a user's.
pub const SYSTEM: [&str; 18] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/nix/store",
    "/gnu/store",
    "/etc/alternatives",
    "/etc/crypto-policies",
    "/etc/gnutls",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/pki/tls/openssl.cnf",
    "/etc/qemu",
    "/etc/qemu-kvm",
    "/etc/ssl/openssl.cnf",
];

/// What every emulator may read: random numbers, and what the C library asks to choose the number of its threads and buffers.
pub(super) const COMMON: [&str; 7] = [
    "/dev/random",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
];

/// Devices that keep nothing.
pub(super) const EMPTY: [&str; 2] = ["/dev/null", "/dev/zero"];

/// The file of a program, and the folders with its data and libraries if it is installed outside of the system's folders.
pub fn beside(program: &Path) -> Vec<PathBuf> {
    let program = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let prefix = program.parent().and_then(Path::parent);
    // A program in `/home/USER/bin` is no reason to open `/home/USER`.
    let folders = ["lib", "lib64", "libexec", "share/qemu", "share/bochs", "share/hercules"];
    let folders: Vec<PathBuf> =
        prefix.iter().flat_map(|prefix| folders.map(|name| prefix.join(name))).collect();
    std::iter::once(program).chain(folders.into_iter().filter(|folder| folder.is_dir())).collect()
}

/// The start of a qcow2 file (QEMU: docs/interop/qcow2.rst).
const QCOW: [u8; 4] = *b"QFI\xfb";

/// The number of files in a chain of overlays that are followed.
const LONGEST_CHAIN: usize = 8;

/// A disk in QEMU's own format and the files under it, which overlays name. A file that can't be read ends the list: QEMU says why.
pub fn with_backing_files(disk: &Path) -> Vec<PathBuf> {
    let mut chain = vec![disk.to_owned()];
    while let Some(last) = chain.last().filter(|_| chain.len() < LONGEST_CHAIN) {
        let Some(under) = backing_file(last) else { break };
        chain.push(under);
    }
    chain
}

fn backing_file(disk: &Path) -> Option<PathBuf> {
    let header = header(disk)?;
    let at = usize::try_from(number(&header, 8)?).ok()?;
    let length = u32::from_be_bytes(header.get(16..20)?.try_into().ok()?) as usize;
    if at == 0 || length == 0 {
        return None;
    }
    let name = std::str::from_utf8(header.get(at..at.checked_add(length)?)?).ok()?;
    // A relative path begins at the overlay's folder.
    Some(disk.parent()?.join(name.strip_prefix("file:").unwrap_or(name)))
}

/// The size of a disk as the machine sees it, in bytes; 0 if the file can't be read.
pub fn disk_bytes(disk: &Path) -> u64 {
    let virtual_size = header(disk).and_then(|header| number(&header, 24));
    virtual_size.or_else(|| Some(disk.metadata().ok()?.len())).unwrap_or_default()
}

/// The first bytes of a qcow2 file, in which the name of the backing file is; none if it is no such file.
fn header(disk: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    File::open(disk).ok()?.take(64 << 10).read_to_end(&mut start).ok()?;
    start.starts_with(&QCOW).then_some(start)
}

fn number(header: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(header.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(over: &str, bytes: u64) -> Vec<u8> {
        let mut file = vec![0; 512];
        file[..4].copy_from_slice(&QCOW);
        file[8..16].copy_from_slice(&256u64.to_be_bytes());
        file[16..20].copy_from_slice(&u32::try_from(over.len()).unwrap().to_be_bytes());
        file[24..32].copy_from_slice(&bytes.to_be_bytes());
        file[256..256 + over.len()].copy_from_slice(over.as_bytes());
        file
    }

    #[test]
    fn the_files_under_an_overlay_belong_to_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second, third) =
            (folder.path().join("first"), folder.path().join("second"), folder.path().join("third"));
        std::fs::write(&first, overlay("second", 7 << 30)).unwrap();
        std::fs::write(&second, overlay(third.to_str().unwrap(), 7 << 30)).unwrap();
        std::fs::write(&third, "a raw disk").unwrap();
        assert_eq!(with_backing_files(&first), [first.clone(), second, third.clone()]);
        assert_eq!(with_backing_files(&third), vec![third.clone()]);
        assert_eq!((disk_bytes(&first), disk_bytes(&third)), (7 << 30, 10));
    }

    #[test]
    fn an_overlay_over_itself_is_no_endless_chain() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::write(&disk, overlay("disk", 0)).unwrap();
        assert_eq!(with_backing_files(&disk).len(), LONGEST_CHAIN);
    }
}
