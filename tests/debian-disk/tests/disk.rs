//! Tests of the disk with the tools of its file systems. Tests that boot it are those of disks as media.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../xtask/tests/common/trials.rs"]
mod trials;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use nestmatrix_debian_disk::{
    AGENT_SETTINGS, Contents, Disk, Error, Flaw, System, unavailable, unavailable_for,
};
use nestmatrix_model::Isa;
use tempfile::TempDir;
use trials::{ignore, trials};

/// Where the partitions begin, in bytes.
const ESP: u64 = 4096 * 512;
const ROOT: u64 = 36864 * 512;

/// The system, which the tests that boot its disk use as well.
fn system() -> &'static System {
    static SYSTEM: OnceLock<Result<System, String>> = OnceLock::new();
    if let Some(reason) = unavailable() {
        ignore(&reason);
    }
    let installed = SYSTEM.get_or_init(|| match System::cached(&cache()) {
        Ok(system) => Ok(system),
        Err(Error::Undelivered(packages)) => Err(packages.to_string()),
        Err(other) => panic!("{other}"),
    });
    installed.as_ref().unwrap_or_else(|why| ignore(why))
}

/// The folder in which the system is kept.
fn cache() -> PathBuf {
    folder().join("debian-disk")
}

/// A folder on the file system of the build, since disks are large.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// A disk as a raw file.
struct Raw {
    _folder: TempDir,
    path: PathBuf,
}

impl Raw {
    /// The disk without a flaw, which tests that run at the same time share.
    fn good() -> Arc<Self> {
        static SHARED: Mutex<Weak<Raw>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let disk = Arc::new(Self::make(None));
            *shared = Arc::downgrade(&disk);
            disk
        })
    }

    fn make(flaw: Option<Flaw>) -> Self {
        Self::make_of(system(), flaw)
    }

    fn make_of(system: &System, flaw: Option<Flaw>) -> Self {
        // Each one has gigabytes for some seconds.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir_in(folder()).unwrap();
        let disk = Disk::make(system, flaw, &folder.path().join("disk.qcow2")).unwrap();
        assert!(!disk.kernel_release().is_empty());
        let path = folder.path().join("disk");
        run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(disk.path()).arg(&path));
        Self { _folder: folder, path }
    }

    fn read(&self, offset: u64, size: usize) -> Vec<u8> {
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(offset)).unwrap();
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// What debugfs prints about the root file system.
    fn root(&self, request: &str) -> String {
        let place = format!("{}?offset={ROOT}", self.path.display());
        run(Command::new("/usr/sbin/debugfs").args(["-R", request]).arg(place))
    }

    fn has(&self, path: &str) -> bool {
        self.root(&format!("stat {path}")).contains("Inode:")
    }

    /// The value of a line of dumpe2fs.
    fn superblock(&self, name: &str) -> u64 {
        let text = self.root("show_super_stats -h");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
        line.trim().parse().unwrap()
    }

    /// Files of the EFI system partition.
    fn esp(&self) -> String {
        run(Command::new("mdir")
            .arg("-i")
            .arg(format!("{}@@{ESP}", self.path.display()))
            .args(["-/", "-b", "::"]))
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn the_disk_is_a_whole_system_for_both_firmwares() {
    let disk = Raw::good();
    assert_eq!(disk.read(510, 2), [0x55, 0xaa], "BIOS starts it");
    assert_eq!(disk.read(512, 8), b"EFI PART", "UEFI 2.10, 5.3.2");
    let esp = disk.esp();
    for file in ["BOOTX64.EFI", "grubx64.efi", "debian/grub.cfg"] {
        assert!(esp.contains(file), "{esp}");
    }
    let grub = disk.read(2048 * 512, 512);
    assert_eq!(grub[0x1f4..0x1fc], 2049_u64.to_le_bytes(), "where the rest of GRUB is");
    let menu = disk.root("cat /boot/grub/grub.cfg");
    assert!(menu.contains("timeout=0") && menu.contains("console=ttyS0"), "{menu}");
    assert_eq!(disk.root("cat /etc/qemu/qemu-ga.conf"), AGENT_SETTINGS);
    assert!(disk.root("cat /etc/passwd").starts_with("root:"));
    for path in
        ["/usr/bin/cloud-init", "/usr/sbin/qemu-ga", "/usr/lib/systemd/systemd", "/vmlinuz", "/initrd.img"]
    {
        assert!(disk.has(path), "{path}");
    }
    assert!(!disk.has("/usr/bin/qemu-system-x86_64"), "preparation installs QEMU");
}

/// It takes 12 minutes if this machine emulates its programs, so the system is kept for the tests that boot its disk.
fn a_disk_for_arm_boots_by_uefi() {
    if let Some(reason) = unavailable_for(Isa::Arm64) {
        ignore(&reason);
    }
    let system = match System::cached_for(Isa::Arm64, &cache()) {
        Err(Error::Undelivered(why)) => ignore(&why.to_string()),
        other => other.unwrap(),
    };
    let disk = Raw::make_of(&system, None);
    let esp = disk.esp();
    for file in ["BOOTAA64.EFI", "grubaa64.efi", "debian/grub.cfg"] {
        assert!(esp.contains(file), "{esp}");
    }
    assert!(disk.read(0, 440).iter().all(|byte| *byte == 0), "code for BIOS");
    let menu = disk.root("cat /boot/grub/grub.cfg");
    assert!(menu.contains("console=ttyAMA0") && !menu.contains("serial"), "{menu}");
    assert!(!disk.has("/usr/bin/py3compile.distrib"), "the program that compiles modules has its place");
    for path in ["/usr/bin/py3compile", "/vmlinuz", "/initrd.img"] {
        assert!(disk.has(path), "{path}");
    }
}

fn another_instruction_set_is_refused() {
    let refused = System::install_with(
        Contents { isa: Isa::S390x, ..Contents::default() },
        &folder().join("no-system.tar"),
    )
    .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cannot make a disk on this machine: disks are made for amd64 and arm64, not for s390x"
    );
}

/// Owners and modes are those of the system, and not those of the user who made the disk.
fn files_have_their_owners_and_modes() {
    let disk = Raw::good();
    for (path, owner, group, mode) in [("/usr/bin/su", 0, 0, "04755"), ("/etc/shadow", 0, 42, "0640")] {
        let found = disk.root(&format!("stat {path}"));
        let words: Vec<&str> = found.split_whitespace().collect();
        let value = |name: &str| words[words.iter().position(|word| *word == name).unwrap() + 1];
        assert_eq!(
            (value("User:"), value("Group:"), value("Mode:")),
            (&*owner.to_string(), &*group.to_string(), mode),
            "{path}"
        );
    }
}

fn nothing_of_the_host_is_on_the_disk() {
    let disk = Raw::good();
    assert_eq!(disk.root("cat /etc/hostname"), "debian\n");
    assert!(!disk.has("/etc/resolv.conf"));
    assert_eq!(disk.root("cat /etc/apt/sources.list"), "deb http://archive.example/debian trixie main\n");
}

fn a_disk_without_boot_loader_has_a_system_that_nothing_starts() {
    let disk = Raw::make(Some(Flaw::NoBootLoader));
    assert!(disk.read(0, 440).iter().all(|byte| *byte == 0), "code for BIOS");
    assert!(disk.read(ESP, 512).iter().all(|byte| *byte == 0), "a file system for UEFI");
    assert!(disk.has("/vmlinuz"));
}

fn a_boot_loader_that_waits_has_no_time_limit() {
    let menu = Raw::make(Some(Flaw::BootLoaderWaits)).root("cat /boot/grub/grub.cfg");
    assert!(menu.contains("timeout=-1\n"), "{menu}");
}

fn a_package_is_missing(flaw: Flaw, file: &str, package: &str) {
    let disk = Raw::make(Some(flaw));
    assert!(!disk.has(file), "{file}");
    let installed = disk.root("cat /var/lib/dpkg/status");
    assert!(
        !installed.contains(&format!("Package: {package}\n")) && installed.contains("Package: systemd\n")
    );
}

fn an_agent_may_have_no_settings() {
    assert!(!Raw::make(Some(Flaw::AgentAllowed)).has("/etc/qemu/qemu-ga.conf"));
}

fn a_full_file_system_has_no_space_for_packages() {
    let mebibytes = |disk: &Raw| (disk.superblock("Free blocks") * 4096) >> 20;
    let full = Raw::make(Some(Flaw::FullFileSystem));
    let free = mebibytes(&full);
    assert!((4..40).contains(&free), "{free} MiB are free");
    let free = mebibytes(&Raw::good());
    assert!(free > 1000, "{free} MiB are free");
}

fn a_backing_file_may_be_the_hosts() {
    let system = system();
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::make(system, Some(Flaw::ForeignBackingFile), &folder.path().join("disk.qcow2")).unwrap();
    let about = run(Command::new("qemu-img").args(["info", "--output=json"]).arg(disk.path()));
    assert!(about.contains("\"backing-filename\": \"/proc/version\""), "{about}");
}

trials! {
    the_disk_is_a_whole_system_for_both_firmwares;
    #[ignore = "installs a system for Arm: more than ten minutes"]
    a_disk_for_arm_boots_by_uefi;
    another_instruction_set_is_refused;
    files_have_their_owners_and_modes;
    nothing_of_the_host_is_on_the_disk;
    #[ignore = "makes a disk that boots in the same night"]
    a_full_file_system_has_no_space_for_packages;
    #[ignore = "makes a disk that boots in the same night"]
    a_disk_without_boot_loader_has_a_system_that_nothing_starts;
    a_boot_loader_that_waits_has_no_time_limit;
    #[ignore = "makes a disk that boots in the same night"]
    a_package_is_missing {
        the_agents(Flaw::NoAgent, "/usr/sbin/qemu-ga", "qemu-guest-agent"),
        cloud_inits(Flaw::NoCloudInit, "/usr/bin/cloud-init", "cloud-init"),
    };
    an_agent_may_have_no_settings;
    a_backing_file_may_be_the_hosts;
}
