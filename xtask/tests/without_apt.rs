//! A whole stack on a machine without apt: its images are made of RPM packages and of files of the machine, and the QEMU that is
//! installed plays the bare machine. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::path::Programs;
use common::trials::ignore;
use common::{Boots, Place, Run, images, trials};
use nestmatrix_images::{Emulator, Error, Image, Product, Store, StoreOptions};
use nestmatrix_rpm_repository::{Part, Repository, needs, unavailable};
use nestmatrix_vmm::shell::quote;

/// Longest wait for each command.
const LIMIT: Duration = Duration::from_secs(5 * 60);

const CELL: &str = "rhel-9-preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2+";

/// What makes images of RPM packages here. Each is there, or the test can't run.
const TOOLS: [(&str, &str); 2] = [("dnf", "dnf dnf-plugins-core"), ("rpmkeys", "rpm")];

fn repository() -> Arc<Repository> {
    if let Some(reason) = unavailable().or_else(|| needs(&TOOLS)) {
        ignore(&reason);
    }
    if cfg!(not(target_arch = "x86_64")) {
        ignore("the emulator's image is for x86-64");
    }
    let store = Store::open(StoreOptions::default()).unwrap();
    Repository::shared(&store).unwrap_or_else(|error| match error {
        nestmatrix_rpm_repository::Error::Image(Error::Undelivered(packages)) => {
            ignore(&packages.to_string())
        }
        other => panic!("{other}"),
    })
}

/// A machine with RPM's tools, a static busybox and a QEMU, but without apt.
struct Machine {
    place: Place,
    programs: Programs,
}

impl Machine {
    fn new() -> Self {
        let place = Place::new();
        let programs = Programs::new(&place.path().join("programs"), &TOOLS.map(|(program, _)| program));
        let machine = Self { place, programs };
        let catalog = images::catalog();
        let image = |recipe: &str, product| images::image(catalog.get(recipe).unwrap(), product);
        machine.add("busybox", &busybox_of(&image("debian-12-amd64", Product::Minimal)));
        // The sandbox lets an installed emulator read what is in `lib` beside the folder of its program, and nothing else of a user's.
        let libraries = machine.place.path().join("lib");
        let qemu = qemu_of(image("qemu-x86-amd64", Product::Emulator), &libraries);
        machine.add("qemu-system-x86_64", &qemu);
        machine
    }

    fn add(&self, name: &str, program: &[u8]) {
        let path = self.program(name);
        fs::write(&path, program).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }

    fn program(&self, name: &str) -> PathBuf {
        self.programs.folder().join(name)
    }

    /// Runs a command there, with a cache of its own: the images have names of the vendor's, and no other run may find them.
    fn run<W: AsRef<OsStr>>(&self, mut command: Command, words: impl IntoIterator<Item = W>) -> Run {
        command.env("PATH", self.programs.folder());
        command.env("NESTMATRIX_CACHE", self.place.path().join("cache")).args(words);
        self.place.finish(command, LIMIT)
    }

    /// Adds the repository as RHEL 9.4.
    fn add_source(&self, repository: &Repository) {
        let mut words = ["sources", "add", "rhel-9.4", "--architecture", "amd64"].map(str::to_owned).to_vec();
        for part in Part::ALL {
            words.extend(["--url".to_owned(), format!("file://{}", repository.part(part).display())]);
        }
        words.extend(["--key".to_owned(), repository.key().display().to_string()]);
        let added = self.run(self.place.xtask(), words);
        assert_eq!(added.code, Some(0), "{added:#?}");
    }
}

/// The busybox of an image, whose initramfs is not compressed.
fn busybox_of(image: &Image) -> Vec<u8> {
    let initramfs = fs::read(image.initramfs().unwrap()).unwrap();
    let mut rest = &initramfs[..];
    loop {
        let mut reader = cpio::newc::Reader::new(rest).unwrap();
        assert!(!reader.entry().is_trailer(), "there is no busybox in {}", image.name());
        let is_it = reader.entry().name() == "usr/bin/busybox";
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents).unwrap();
        if is_it {
            return contents;
        }
        rest = reader.finish().unwrap();
    }
}

/// A script that starts the QEMU of an image as if it were installed, with a copy of the image's files in the folder `libraries`.
fn qemu_of(image: Image, libraries: &Path) -> Vec<u8> {
    let folder = image.folder().to_str().unwrap().to_owned();
    let copied = Command::new("cp").arg("-a").arg(&folder).arg(libraries).status().unwrap();
    assert!(copied.success());
    let emulator = Emulator::new(image).unwrap();
    let (program, arguments) = emulator.command("qemu-system-x86_64");
    let words = [program.into_os_string()].into_iter().chain(arguments);
    let words = words.chain(["-L".into(), emulator.data().into_os_string()]);
    let there = |word: OsString| word.to_str().unwrap().replace(&folder, libraries.to_str().unwrap());
    let words: Vec<String> = words.map(|word| quote(&there(word))).collect();
    format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")).into_bytes()
}

fn a_cell_passes_on_rpm_packages_and_the_installed_qemu_alone() {
    let _guard = Boots::begin();
    let repository = repository();
    let machine = Machine::new();
    machine.add_source(&repository);
    let without_stand_ins = ["--metal", "emulated", "--deny-stand-ins", CELL];
    let run = machine.run(machine.place.run_matrix(), without_stand_ins).keep("without-apt");
    assert_eq!(run.code, Some(0), "{run:#?}");
    let cell = run.cell(CELL);
    assert_eq!(cell.text("verdict"), "pass", "{:#}", cell.record);
    let qemu = machine.program("qemu-system-x86_64").display().to_string();
    let installed = &cell.record["installed_emulator"];
    let version = installed["version"].as_str().unwrap();
    assert_eq!((installed["path"].as_str(), cell.record["emulator"].is_null()), (Some(&*qemu), true));
    // The machine says which version plays it.
    assert!(cell.record["levels"][0]["qemu"].as_str().unwrap().starts_with(version), "{:#}", cell.record);
    assert_eq!(run.record()["emulators"][0], format!("qemu-system-x86_64 {version}, installed as {qemu}"));
    assert!(run.stdout.contains(&format!("emulators   qemu-system-x86_64 {version}")), "{}", run.stdout);

    let shown = machine.run(machine.place.xtask(), ["images", "show", "rhel-9.4-amd64"]);
    assert!(shown.stdout.contains("busybox of this machine"), "{shown:#?}");
    assert!(shown.stdout.contains("qboot.rom of this machine"), "{shown:#?}");
}

trials! {
    a_cell_passes_on_rpm_packages_and_the_installed_qemu_alone;
}
