//! The guests of Windows levels, made of real images: other programs read their disks, and the root file system reports. The cache is
//! the default one (`NESTMATRIX_CACHE`), so that other tests find the images.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../xtask/tests/common/trials.rs"]
mod trials;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nestmatrix_images::{
    Catalog, DiskFormat, Error, GuestVolume, Image, Media, NewMedium, Product, QemuImg, Silent, Store,
    StoreOptions, UnifiedKernel, WslRoot, find_program,
};
use nestmatrix_model::Isa;
use trials::{ignore, trials};

/// Where the partition of a disk begins, as mtools wants it.
const PARTITION: &str = "@@1M";

fn images<const N: usize>(wanted: [(&str, Product); N]) -> [Image; N] {
    let catalog = Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")).unwrap();
    let store = Store::open(StoreOptions::default()).unwrap();
    let wanted = wanted.map(|(name, product)| (catalog.get(name).unwrap(), product));
    let images = store.ensure_all(&wanted, &Silent).unwrap_or_else(|error| match error {
        Error::Undelivered(packages) => ignore(&packages.to_string()),
        other => panic!("{other}"),
    });
    images.try_into().unwrap()
}

/// Runs a program of this machine and returns what it prints.
fn output(program: &str, words: &[&str]) -> String {
    if find_program(program).is_none() {
        ignore(&format!("this machine has no {program}"));
    }
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn a_vhd_is_the_raw_disk_for_qemu_img_and_a_medium() {
    let Some(tool) = QemuImg::installed(&[]) else { ignore("this machine has no qemu-img") };
    let [minimal, uefi] = images([("debian-12-amd64", Product::Minimal), ("uefi-amd64", Product::Firmware)]);
    let folder = tempfile::tempdir().unwrap();
    let [raw, vhd, converted] = ["raw", "guest.vhd", "converted"].map(|name| folder.path().join(name));
    let [stub, kernel, initramfs] =
        [uefi.uefi_stub(), minimal.kernel(), minimal.initramfs()].map(Option::unwrap);
    let unified = UnifiedKernel {
        stub: &stub,
        kernel: &kernel,
        initramfs: &initramfs,
        parameters: "console=ttyS0 nest.nonce=42".to_owned(),
    };
    unified.write_disk(&raw).unwrap();
    unified.write_vhd(&vhd).unwrap();

    let size = fs::metadata(&raw).unwrap().len();
    let [from, to] = [&vhd, &converted].map(|path| path.to_str().unwrap());
    let info = output("qemu-img", &["info", "--output=json", "-f", "vpc", from]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!((info["virtual-size"].as_u64(), info["format"].as_str()), (Some(size), Some("vpc")), "{info}");
    output("qemu-img", &["convert", "-f", "vpc", "-O", "raw", from, to]);
    assert!(fs::read(&converted).unwrap() == fs::read(&raw).unwrap());

    let mut media = Media::open(Some(folder.path().join("media"))).unwrap();
    let new =
        NewMedium { name: "rhel-9.4".to_owned(), file: vhd, isa: Some(Isa::Amd64), ..NewMedium::default() };
    let medium = media.add(&new, &tool, &Silent).unwrap();
    assert_eq!((medium.format(), medium.virtual_size()), (DiskFormat::Vpc, size));
}

fn mtools_reads_the_files_of_a_volume() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // One large enough for several clusters, one that is not a whole number of them, and one for a FAT32.
    let sizes = [("guest.vhd", 40 << 20), ("rootfs.tar.gz", 1_234_567), ("a long name.txt", 3)];
    let mut volume = GuestVolume::new();
    for (name, size) in sizes {
        let bytes: Vec<u8> = (0_usize..size).map(|at| (at / 7) as u8).collect();
        fs::write(path(name), bytes).unwrap();
        volume = volume.file(name, path(name));
    }
    let (disk, again) = (path("disk"), path("again"));
    volume.write(&disk).unwrap();
    volume.write(&again).unwrap();
    assert!(fs::read(&disk).unwrap() == fs::read(&again).unwrap(), "the same files give the same bytes");

    let partition = format!("{}{PARTITION}", disk.display());
    let label = output("mlabel", &["-i", &partition, "-s", "::"]);
    assert!(label.contains(GuestVolume::LABEL), "{label}");
    for (name, _) in sizes {
        let copy = path(&format!("{name}.copy"));
        output("mcopy", &["-i", &partition, &format!("::{name}"), copy.to_str().unwrap()]);
        assert!(fs::read(copy).unwrap() == fs::read(path(name)).unwrap(), "{name}");
    }
    let table = output("sfdisk", &["--json", disk.to_str().unwrap()]);
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
    let types: Vec<_> = partitions.iter().map(|partition| partition["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"], "basic data: {table}");
}

fn a_file_that_is_too_large_for_a_volume_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let [large, disk] = ["large", "disk"].map(|name| folder.path().join(name));
    File::create(&large).unwrap().set_len(1 << 32).unwrap();
    let error = GuestVolume::new().file("guest.vhd", &large).write(&disk).unwrap_err().to_string();
    assert_eq!(
        error,
        "guest.vhd has 4294967296 bytes, but a file on a FAT volume has at most 4294967295 (4 GiB - 1)"
    );
    assert!(!disk.exists());
}

/// What is in the folders that WSL mounts, as far as the report needs it.
const MOUNTED: [(&str, &str); 6] = [
    ("dev/null", ""),
    (
        "proc/cmdline",
        "initrd=\\initrd.img WSL_ROOT_INIT=1 panic=-1 nr_cpus=2 hv_utils.timesync_implicit=1 console=hvc0 debug \
         nest.nonce=0123456789abcdef\n",
    ),
    ("proc/cpuinfo", "processor\t: 0\nmodel name\t: A CPU of Intel\n"),
    ("proc/sys/kernel/osrelease", "6.6.87.2-microsoft-standard-WSL2\n"),
    ("proc/uptime", "12.34 20.00\n"),
    ("sys/devices/system/cpu/online", "0-1\n"),
];

/// Unpacks the root file system of a real image.
fn unpacked(folder: &Path) -> PathBuf {
    let [minimal] = images([("debian-12-amd64", Product::Minimal)]);
    let (archive, root) = (folder.join("rootfs.tar.gz"), folder.join("root"));
    WslRoot { initramfs: &minimal.initramfs().unwrap() }.write(&archive).unwrap();
    let archive = flate2::read::GzDecoder::new(File::open(archive).unwrap());
    tar::Archive::new(archive).unpack(&root).unwrap();
    for (path, text) in MOUNTED {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    }
    root
}

/// What a command prints in the root file system, to which it is confined.
fn inside(root: &Path, words: &[&str]) -> String {
    let confined = ["--user", "--map-root-user", "chroot"];
    let run = |root: &Path, words: &[&str]| {
        Command::new("unshare").args(confined).arg(root).args(words).output().ok()
    };
    if !run(Path::new("/"), &["/bin/true"]).is_some_and(|output| output.status.success()) {
        ignore("this machine lets no user change the root folder (unshare --user --map-root-user chroot)");
    }
    let output = run(root, words).unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn the_root_of_a_distribution_reports_what_its_kernel_shows() {
    if Isa::of_this_machine() != Some(Isa::Amd64) {
        ignore("its programs are for x86-64");
    }
    let folder = tempfile::tempdir().unwrap();
    let root = unpacked(folder.path());
    let report = |hypervisor: &str| {
        let lines = format!(
            "nonce=0123456789abcdef\nkernel=6.6.87.2-microsoft-standard-WSL2\n\
             hypervisor={hypervisor}\ncpu=A CPU of Intel\ncpus=0-1\nuptime=12.34"
        );
        format!("nestmatrix-report-begin\n{lines}\nsize={}\nnestmatrix-report-end\n", lines.len())
    };
    // The messages are those of this machine's kernel, if it shows them at all.
    let printed = inside(&root, &[WslRoot::REPORTER]);
    let hypervisor = printed.lines().find_map(|line| line.strip_prefix("hypervisor=")).unwrap();
    assert_eq!(printed, report(hypervisor));
    let messages = "dmesg() { echo '[    0.000000] Hypervisor detected: Microsoft Hyper-V'; }";
    let printed = inside(&root, &["/bin/sh", "-c", &format!("{messages}; . {}", WslRoot::REPORTER)]);
    assert_eq!(printed, report("Microsoft Hyper-V"));
    let user = inside(&root, &["/bin/sh", "-c", "read -r user < /etc/passwd && echo \"$user\""]);
    assert!(user.trim_end().ends_with(":/bin/sh"), "{user}");
}

trials! {
    a_vhd_is_the_raw_disk_for_qemu_img_and_a_medium;
    mtools_reads_the_files_of_a_volume;
    a_file_that_is_too_large_for_a_volume_is_an_error_that_says_so;
    the_root_of_a_distribution_reports_what_its_kernel_shows;
}
