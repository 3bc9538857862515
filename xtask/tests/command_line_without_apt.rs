//! The command line on a machine without apt, such as Fedora or RHEL: what it can't build is known before anything runs. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]
#![cfg(target_arch = "x86_64")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use common::path::Programs;
use common::{Place, Run};
use serde_json::Value;

/// Longest wait for a command that boots nothing.
const SOON: Duration = Duration::from_secs(60);

/// Cells of RHEL 8 and RHEL 9.
const CELLS: &str = "rhel-9-preview/amd/*";

/// One of these cells, all of RHEL 9.
const CELL: &str = "rhel-9-preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2+";

/// A machine whose `PATH` has the basics and what a test adds.
struct Machine {
    place: Place,
    programs: Programs,
}

impl Machine {
    fn new() -> Self {
        let place = Place::new();
        let programs = Programs::new(&place.path().join("programs"), &[]);
        Self { place, programs }
    }

    /// A program that only has to be there.
    fn with(self, name: &str) -> Self {
        self.with_script(name, "exit 0")
    }

    fn with_script(self, name: &str, script: &str) -> Self {
        let path = self.programs.folder().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// A program that is linked statically, as busybox must be.
    fn with_busybox(self) -> Self {
        let path = self.programs.folder().join("busybox");
        fs::write(&path, static_program()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// RHEL 9.4 on an installation image.
    fn with_source(self, dvd: &str) -> Self {
        let folder = self.place.config().join("sources");
        fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "system = \"rhel\"\nversion = \"9.4\"\narchitecture = \"amd64\"\n\n[packages]\ndvd = \"{dvd}\"\n"
        );
        fs::write(folder.join("rhel-9.4-amd64.toml"), text).unwrap();
        fs::write(folder.join("rhel-9.4-amd64.key"), "-----BEGIN PGP PUBLIC KEY BLOCK-----\n").unwrap();
        self
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let mut command = self.place.xtask();
        command.env("NESTMATRIX_CACHE", self.place.path().join("cache"));
        command.env("PATH", self.programs.folder()).args(arguments);
        self.place.finish(command, SOON)
    }

    /// The reasons for which each of these cells is skipped.
    fn skipped(&self, cells: &str) -> String {
        let run = self.run(&["list", "--skipped", "--format", "json", cells]);
        assert_eq!(run.code, Some(0), "{run:#?}");
        let reasons = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            let text = serde_json::to_string_pretty(&row["reasons"]).unwrap();
            format!("{}\n{text}\n", row["cell"].as_str().unwrap())
        };
        run.stdout.lines().map(reasons).collect()
    }

    /// What the doctor finds out about the packages and what is made of them, for AMD.
    fn doctor(&self) -> String {
        let run = self.run(&["doctor", "--metal", "emulated", "--format", "json", CELL]);
        let checkup: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {run:#?}"));
        let amd = &checkup["architectures"][0];
        assert_eq!(amd["architecture"], "amd");
        let about_packages = ["apt", "sources", "emulator", "images"];
        let findings = amd["findings"].as_array().unwrap().iter();
        let of_packages =
            findings.filter(|finding| about_packages.contains(&finding["check"].as_str().unwrap()));
        let lines = of_packages.map(|finding| {
            let word = |key: &str| finding[key].as_str().unwrap().to_owned();
            format!(
                "{}: {}: {}; prevents {}\n",
                word("check"),
                word("status"),
                word("found"),
                finding["prevents"]
            )
        });
        lines.chain([format!("emulated: {}\nwhy: {:#}\n", amd["emulated"]["why"], checkup["why"])]).collect()
    }
}

/// The smallest ELF file of this machine that names no dynamic loader: its header alone.
fn static_program() -> Vec<u8> {
    let own = fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut header = own[..64].to_vec();
    // e_phoff, e_shoff and the numbers of headers.
    header[32..48].fill(0);
    header[54..64].fill(0);
    header
}

#[test]
fn cells_whose_images_cant_be_built_are_skipped_with_the_reason() {
    let machine = Machine::new();
    insta::assert_snapshot!("skipped", machine.skipped(CELL));
    let run = machine.run(&["run-matrix", "--metal", "emulated", "--results", "results", CELLS]);
    assert_eq!(run.code, Some(4), "{run:#?}");
    let (plan, _) = run.stdout.split_once("\n\n\n").unwrap();
    insta::assert_snapshot!("plan", plan);
    let listed = machine.run(&["list", CELLS]);
    let (_, table) = listed.stdout.split_once("\n    amd\n").unwrap();
    insta::assert_snapshot!("list", table);
    // The cache stays as it is.
    assert!(fs::read_dir(machine.place.path().join("cache/images")).unwrap().next().is_none());
}

#[test]
fn a_source_makes_cells_runnable_once_its_tools_are_there() {
    let machine = Machine::new().with_source("/nowhere/rhel-9.4.iso");
    let dvd_needs = |machine: &Machine| {
        let skipped = machine.skipped(CELL);
        let reason = skipped.split_once("\"why\": \"is made of RPM packages, and this machine has ");
        reason.map(|(_, rest)| rest.split('"').next().unwrap().to_owned())
    };
    let has = |missing: &str| Some(missing.to_owned());
    assert_eq!(dvd_needs(&machine), has("no dnf, no rpmkeys, no bsdtar and no static busybox"));
    let machine = machine.with("dnf").with("rpmkeys").with("bsdtar");
    assert_eq!(dvd_needs(&machine), has("no static busybox"));
    let machine = machine.with_busybox();
    assert_eq!(dvd_needs(&machine), None);
    insta::assert_snapshot!("skipped_with_a_source", machine.skipped(CELL));

    let machine = machine.with_script("qemu-system-x86_64", QEMU);
    assert_eq!(machine.skipped(CELL), "", "nothing is missing");
}

/// It prints its version, and sets up a machine until it is asked to quit.
const QEMU: &str = "case $* in
*--version*) echo 'QEMU emulator version 9.2.3 (qemu-9.2.3-1.fc42)' ;;
*'-accel tcg -machine q35 -cpu max'*) read -r word && [ \"$word\" = quit ] ;;
*) exit 1 ;;
esac";

#[test]
fn an_installed_qemu_that_cant_play_the_metal_is_named() {
    let machine = Machine::new()
        .with_source("/nowhere/rhel-9.4.iso")
        .with("dnf")
        .with("rpmkeys")
        .with("bsdtar")
        .with_busybox()
        .with_script(
            "qemu-system-x86_64",
            &QEMU
                .replace("exit 1", "false")
                .replace("[ \"$word\" = quit ]", "echo \"$0: no TCG here\" >&2 && exit 1"),
        );
    let skipped = machine.skipped(CELL);
    let program = machine.programs.folder().join("qemu-system-x86_64");
    let why = format!(
        "no qemu-system-x86_64 for emulated metal: {} can't play a bare q35: no TCG here; the image",
        program.display()
    );
    assert!(skipped.contains(&why), "{skipped}");
    assert!(skipped.contains("\"kind\": \"no-emulator\""), "{skipped}");
}

#[test]
fn the_doctor_reports_the_same() {
    insta::assert_snapshot!("doctor", Machine::new().doctor());
    let dnf_without_download = "case $* in *--version*) echo 4.14.0 ;; *) exit 1 ;; esac";
    let machine =
        Machine::new().with_source("/nowhere/rhel-9.4.iso").with("rpmkeys").with("bsdtar").with_busybox();
    let machine = machine.with_script("dnf", dnf_without_download).with_script("qemu-system-x86_64", QEMU);
    let folder = machine.programs.folder().display().to_string();
    insta::assert_snapshot!("doctor_with_a_source", machine.doctor().replace(&folder, "PATH"));
}

#[test]
fn the_plan_of_ci_gives_bare_machines_only_what_can_be_built() {
    let arguments = ["ci-matrix", "--runner", "amd,bare-metal,rhel-9.4", "--runner", "emulated", CELL];
    let jobs = |machine: &Machine| {
        let run = machine.run(&arguments);
        let matrix: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {run:#?}"));
        let jobs = matrix["include"].as_array().unwrap().iter();
        jobs.map(|job| job["metal"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let machine = Machine::new().with_source("/nowhere/rhel-9.4.iso");
    assert_eq!(jobs(&machine), ["emulated"]);
    let machine = machine.with("dnf").with("rpmkeys").with("bsdtar").with_busybox();
    assert_eq!(jobs(&machine), ["native"]);
}

#[test]
fn an_image_of_debian_packages_is_refused_with_the_missing_program() {
    let machine = Machine::new();
    let run = machine.run(&["images", "build", "debian-12-amd64"]);
    assert_eq!(run.code, Some(3), "{run:#?}");
    let said = run.stderr_words();
    assert!(said.contains("cannot start apt-get, which downloads packages; install apt"), "{said}");
}
