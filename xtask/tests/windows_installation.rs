//! The installation of Windows, with a stand-in for Windows' installer (`tests/windows/`): a CD whose boot loader starts a Linux that
//! looks for all that an installation gets, writes to the empty disk and reports. It shows the machine, its CDs, its stick and the keys,
//! not Windows. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::disks::MediaUser;
use common::images::image;
use common::trials::ignore;
use common::{boots, checkout, of_recipes, trials};
use nestmatrix_images::{Catalog, Product, UnifiedKernel};
use nestmatrix_model::Isa;

/// Longest wait for something that boots nothing.
const SOON: Duration = Duration::from_secs(120);
/// Longest wait for an installation.
const ONE: Duration = Duration::from_secs(10 * 60);

const NAME: &str = "windows-server-2022";
/// Where a disk with a unified kernel has its volume, and the room after that.
const ALIGNMENT: u64 = 1 << 20;

/// Runs a program of this machine.
fn run(program: &str, arguments: &[&str]) {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        ignore(&format!("this machine has no {program}"))
    };
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// A user whose recipes have the stand-in, and install on emulated metal.
fn user() -> MediaUser {
    let user = MediaUser::with_recipe_of("windows-server-disk-amd64.toml", |recipe| {
        let recipe = recipe.replace("disk-gib = 64", "disk-gib = 1\nemulated = true");
        recipe.replace("memory-mib = 4096", "memory-mib = 1024").replace("cpus = 2", "cpus = 1")
    });
    let from = checkout().join("tests/windows");
    let recipes = user.path("recipes");
    fs::copy(from.join("installer-amd64.toml"), recipes.join("installer-amd64.toml")).unwrap();
    for file in ["installer.sh", "installer.applets"] {
        fs::copy(from.join(file), recipes.join("init").join(file)).unwrap();
    }
    user
}

/// Writes the stand-in for an installation image.
fn write_installer(user: &MediaUser, parameters: &str, iso: &Path) {
    let catalog = Catalog::load(&user.path("recipes")).unwrap();
    let installer = image(catalog.get("installer-amd64").unwrap(), Product::Minimal);
    let firmware = image(catalog.uefi(Isa::Amd64).unwrap(), Product::Firmware);
    let disk = user.path("installer.disk");
    let (stub, kernel, initramfs) =
        (firmware.uefi_stub().unwrap(), installer.kernel().unwrap(), installer.initramfs().unwrap());
    let parameters = format!("console=ttyS0 quiet loglevel=0 {parameters}");
    UnifiedKernel { stub: &stub, kernel: &kernel, initramfs: &initramfs, parameters }
        .write_disk(&disk)
        .unwrap();
    let folder = user.path("cd");
    fs::create_dir_all(&folder).unwrap();
    let mut from = File::open(&disk).unwrap();
    let length = from.metadata().unwrap().len() - 2 * ALIGNMENT;
    from.seek(SeekFrom::Start(ALIGNMENT)).unwrap();
    std::io::copy(&mut from.take(length), &mut File::create(folder.join("boot.img")).unwrap()).unwrap();
    let (folder, iso) = (folder.to_str().unwrap(), iso.to_str().unwrap());
    let arguments =
        ["-as", "mkisofs", "-quiet", "-V", "INSTALLER", "-e", "boot.img", "-no-emul-boot", "-o", iso, folder];
    run("xorriso", &arguments);
}

/// Writes an image with the files of virtio-win.iso that the stand-in looks for.
fn write_drivers(user: &MediaUser) -> PathBuf {
    let (folder, iso) = (user.path("drivers"), user.path("drivers.iso"));
    fs::create_dir_all(folder.join("guest-agent")).unwrap();
    fs::write(folder.join("guest-agent/qemu-ga-x86_64.msi"), "").unwrap();
    let (from, to) = (folder.to_str().unwrap(), iso.to_str().unwrap());
    run("xorriso", &["-as", "mkisofs", "-quiet", "-R", "-J", "-o", to, from]);
    iso
}

fn an_installer_without_a_report_leaves_a_picture(user: &MediaUser) {
    let failed = user.place.finish(user.media(&["prepare", NAME]), ONE);
    assert_eq!(failed.code, Some(3), "{failed:#?}");
    let words = failed.stderr_words();
    assert!(words.contains("L0 shut down before its work was done"), "{words}");
    let picture = user.path("cache").join("screens/windows-server-2022-disk-amd64.png");
    // The path may be broken into lines.
    assert!(words.contains("its screen is in /"), "{words}");
    assert!(fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    assert!(user.prepared().is_empty() && user.drafts().is_empty());
}

fn a_cd_installs_a_system_that_reports() {
    let _guard = boots(&of_recipes(&["qemu-x86-amd64", "uefi-amd64"]));
    let user = user();
    let drivers = write_drivers(&user);
    let iso = user.path("windows.iso");
    write_installer(&user, "nest.silent", &iso);
    let add = || {
        let (iso, drivers) = (iso.to_str().unwrap(), drivers.to_str().unwrap());
        let arguments = ["add", NAME, iso, "--drivers", drivers, "--architecture", "amd64"];
        user.place.finish(user.media(&arguments), SOON)
    };
    let length = fs::metadata(&iso).unwrap().len();
    let cut = File::options().write(true).open(&iso).unwrap();
    let whole = fs::read(&iso).unwrap();
    cut.set_len(length / 2).unwrap();
    let refused = add();
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(refused.stderr_words().contains("it is truncated"), "{refused:#?}");
    fs::write(&iso, whole).unwrap();
    let added = add();
    assert_eq!(added.code, Some(0), "{added:#?}");
    an_installer_without_a_report_leaves_a_picture(&user);

    fs::remove_file(&iso).unwrap();
    write_installer(&user, "", &iso);
    assert_eq!(add().code, Some(0));
    assert!(added.stdout.contains("media prepare windows-server-2022 --role hyper-v"), "{added:#?}");

    let prepared = user.place.finish(user.media(&["prepare", NAME]), ONE);
    assert_eq!(prepared.code, Some(0), "{prepared:#?}");
    for shown in ["system  windows-server 2022", "kernel  10.0.20348.1", "changed a disk of 2097152 sectors"]
    {
        assert!(prepared.stdout.contains(shown), "{shown}: {prepared:#?}");
    }
    assert!(user.drafts().is_empty());
    let [image] = &user.prepared()[..] else { panic!("{:?}", user.prepared()) };
    let (disk, raw) = (image.join("disk.qcow2"), user.path("installed.raw"));
    run("qemu-img", &["convert", "-O", "raw", disk.to_str().unwrap(), raw.to_str().unwrap()]);
    let mut installed = File::open(&raw).unwrap();
    installed.seek(SeekFrom::Start(2048 * 512)).unwrap();
    let mut marker = [0; 23];
    installed.read_exact(&mut marker).unwrap();
    assert_eq!(&marker, b"installed by a stand-in");
    let record = fs::read_to_string(image.join("image.toml")).unwrap();
    assert!(record.contains("role = \"guest\"") && record.contains("format = \"iso\""), "{record}");
}

trials! {
    a_cd_installs_a_system_that_reports;
}
