//! A machine of libvirt's is booted as a level, and libvirt accepts levels as machines. Boots a stack of three levels. Tests that need
//! libvirt's programs are ignored where these are missing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Place, boots, checkout, copy_folder, images, of_cells, trials};
use nestmatrix::domain_xml::Export;
use nestmatrix::scenario::Matrix;
use nestmatrix_images::Product;
use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{Backing, ChannelName, ImageFile, Placement};

/// Longest wait for a run over one stack.
const ONE: Duration = Duration::from_secs(10 * 60);

fn an_imported_domain_hosts_a_guest() {
    let place = Place::new();
    let xml = checkout().join("harness/matrix/tests/domain_xml/proxmox-like.xml");
    let mut import = place.xtask();
    import.arg("import-domain").arg(xml);
    let imported = place.finish(import, ONE);
    assert_eq!(imported.code, Some(0), "{imported:#?}");
    let scenarios = place.path().join("imported");
    let _guard = boots(&of_cells(&scenarios, &["*"]));
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--cold", "--scenarios"]).arg(scenarios);
    let cell = place.finish(command, ONE).keep("domain-xml").cell("vm-104-nested-pve");
    assert_eq!(cell.text("verdict"), "pass", "{:#}", cell.record);
    // What L1's QEMU said when it was asked for the properties of the CPU.
    let conversation = cell.conversation("L1.qmp.jsonl");
    let answer = |property: &str| {
        let asks = |message: &serde_json::Value| message["arguments"]["property"] == property;
        let asked = conversation.iter().position(|(_, message)| asks(message)).unwrap();
        conversation[asked + 1].1["return"].clone()
    };
    assert_eq!(answer("hv-vendor-id"), "proxmox");
    assert_eq!(answer("hv-spinlocks"), 0x1fff);
    assert_eq!(cell.record["levels"][1]["machine"], "pc-i440fx-9.0-machine", "{:#}", cell.record);
}

/// Whether a program is there.
fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Ends the test as ignored if a program is missing.
fn require_programs(programs: &[&str]) {
    if let Some(missing) = programs.iter().find(|program| !has_program(program)) {
        trials::ignore(&format!("{missing} is not installed"));
    }
}

/// Exports a level into a file.
fn export(place: &Place, arguments: &[&str], file: &Path) {
    let mut command = place.xtask();
    command.arg("export-domain").args(arguments).arg("--output").arg(file);
    let run = place.finish(command, ONE);
    assert_eq!(run.code, Some(0), "{run:#?}");
}

fn exported_levels_are_valid_for_libvirt() {
    require_programs(&["virt-xml-validate", "xmllint"]);
    let place = Place::new();
    let cells = [
        "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+",
        "rhel-10-preview/intel/rhel-10.0+/rhel-10.0+/rhel-10.0+",
        "rhel-10-power9/*",
        "rhel-10-arm-current/*",
        "rhel-10-preview/ibm-z/rhel-10.0+/rhel-10.0+/rhel-10.0+",
        "rhel-10-huge-page-memory/*",
    ];
    for (number, cell) in cells.into_iter().enumerate() {
        for level in ["l1", "l2"] {
            let file = place.path().join(format!("{number}-{level}.xml"));
            export(&place, &[cell, "--level", level], &file);
            let output = Command::new("virt-xml-validate").arg(&file).arg("domain").output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{cell} {level}: {said}\n{}",
                fs::read_to_string(&file).unwrap()
            );
        }
    }
}

const DOCUMENT: &str = "id = \"d\"\ntitle = \"t\"\nproduct = \"p\"\nsection = \"1\"\nlanguage = \"en\"\n[[claim]]\n\
                        id = \"c\"\nsection = \"1\"\ntier = \"supported\"\ntext = \"t\"\n";

/// On TCG, since libvirt asks QEMU which CPUs it has, and KVM may be missing here.
const SCENARIO: &str = r#"
name = "s"
title = "t"
document = "d"
claims = ["c"]
tier = "supported"

[axes]
architecture = ["amd"]
l0 = ["debian 13"]
l1 = ["debian 13"]
l2 = ["debian 13"]

[levels.l1]
accelerator = "tcg"
cpus = 2
max-cpus = 4
memory-mib = 1536
machine = ["smp.cores=2", "smp.sockets=2", "smp.threads=1", "smm=off"]
devices = ["virtio-net", "virtio-rng", "watchdog", "nvme"]

[levels.l1.cpu]
mode = "custom"
model = "EPYC-IBPB"
require = ["svm"]
disable = ["la57"]
set = { hv-relaxed = "on" }
"#;

/// A script that runs the emulator of the harness's image. libvirt asks the program for its abilities.
fn emulator(place: &Place) -> PathBuf {
    let catalog = images::catalog();
    let image = images::image(catalog.get("qemu-x86-amd64").unwrap(), Product::Emulator);
    let copy = place.path().join("emulator");
    // As root, libvirt's program runs as another user, who may not read the cache.
    copy_folder(&image.folder().join("tree"), &copy);
    let script = place.path().join("qemu");
    let copy = copy.display();
    let run = format!(
        "{copy}/ld.so --library-path {copy}/libraries {copy}/programs/qemu-system-x86_64 -L {copy}/data"
    );
    fs::write(&script, format!("#!/bin/sh\nexec {run} \"$@\"\n")).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// What libvirt makes of a domain: the words of QEMU's command line. Nothing is started but QEMU's self-description.
fn native_command_line(place: &Place, xml: &Path) -> Vec<String> {
    let root = place.path().join("libvirt");
    fs::create_dir(&root).unwrap();
    let virsh =
        ["virsh", "-c", &format!("qemu:///embed?root={}", root.display()), "domxml-to-native", "qemu-argv"];
    // As root, libvirt wants a user of its own, which only its service's package makes.
    let mut command = if nix::unistd::geteuid().is_root() {
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&root, open.clone()).unwrap();
        fs::set_permissions(place.path(), open).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(virsh);
        command
    } else {
        let mut command = Command::new(virsh[0]);
        command.args(&virsh[1..]);
        command
    };
    command.arg(xml).env("HOME", &root).env("XDG_RUNTIME_DIR", &root).current_dir(&root);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let is_missing = ["no connection driver available", "Failed to find module", "failed to load module"];
    if is_missing.iter().any(|text| said.contains(text)) {
        trials::ignore("libvirt's driver for QEMU is not installed");
    }
    assert!(output.status.success(), "{said}");
    let line = String::from_utf8(output.stdout).unwrap();
    let split = format!("set -- {}\nprintf '%s\\n' \"$@\"", line.trim());
    let words = Command::new("sh").arg("-c").arg(split).output().unwrap();
    assert!(words.status.success(), "{line}");
    String::from_utf8(words.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The values of an option.
fn values<'w>(words: &'w [String], option: &str) -> Vec<&'w str> {
    words.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].as_str()).collect()
}

/// QEMU's names of all devices, in the order of the alphabet.
fn devices(words: &[String]) -> Vec<String> {
    let name = |value: &&str| match serde_json::from_str::<serde_json::Value>(value) {
        Ok(device) => device["driver"].as_str().unwrap().to_owned(),
        Err(_) => value.split(',').next().unwrap().to_owned(),
    };
    let mut names: Vec<String> = values(words, "-device").iter().map(name).collect();
    names.sort();
    names
}

fn libvirt_asks_qemu_for_the_same_machine() {
    require_programs(&["virsh", "setpriv"]);
    let place = Place::new();
    let scenarios = place.path().join("matrix");
    for (file, text) in [("documents/d.toml", DOCUMENT), ("p/s.toml", SCENARIO)] {
        fs::create_dir_all(scenarios.join(file).parent().unwrap()).unwrap();
        fs::write(scenarios.join(file), text).unwrap();
    }
    let xml = place.path().join("l1.xml");
    export(&place, &["s/*", "--scenarios", scenarios.to_str().unwrap(), "--images", "/images"], &xml);
    let emulator = emulator(&place);
    let text = fs::read_to_string(&xml).unwrap();
    fs::write(&xml, text.replace("/usr/bin/qemu-system-x86_64", emulator.to_str().unwrap())).unwrap();
    let theirs = native_command_line(&place, &xml);

    let matrix = Matrix::load(&scenarios).unwrap();
    let cell = &matrix.cells()[0];
    let images =
        cell.levels.iter().map(|spec| (spec.level, PathBuf::from(format!("/images/{}", spec.level))));
    let machine = Export { cell, level: LevelNumber::ALL[1], images: images.collect() }.machine().unwrap();
    let ours = machine.arguments(&Nowhere);

    let cpu =
        |words: &[String]| values(words, "-cpu")[0].split(',').map(str::to_owned).collect::<BTreeSet<_>>();
    // What is no feature is set for every CPU instead. The rest is what libvirt knows of the model.
    let missing: Vec<String> = cpu(&ours).difference(&cpu(&theirs)).cloned().collect();
    assert_eq!(missing, ["hv-relaxed=on"], "{theirs:?}");
    assert!(
        values(&theirs, "-global").contains(&"driver=x86_64-cpu,property=hv-relaxed,value=on"),
        "{theirs:?}"
    );
    let machine = values(&theirs, "-machine")[0];
    assert!(machine.starts_with("pc-q35-") && machine.contains("smm=off"), "{theirs:?}");
    assert_eq!(values(&theirs, "-accel"), ["tcg"]);
    assert_eq!(values(&theirs, "-smp")[0], "2,maxcpus=4,sockets=2,dies=1,cores=2,threads=1");
    assert_eq!(values(&theirs, "-m")[0], "1536");
    assert_eq!(values(&theirs, "-append"), values(&ours, "-append"));
    // The console is a device only for libvirt.
    let own: Vec<String> = devices(&theirs).into_iter().filter(|name| name != "isa-serial").collect();
    assert_eq!(own, devices(&ours), "{theirs:?}");
}

/// No files and no channels: only the hardware is compared.
struct Nowhere;

impl Placement for Nowhere {
    fn channel(&self, _: ChannelName) -> Option<Backing> {
        None
    }

    fn file(&self, file: &ImageFile) -> String {
        file.path.display().to_string()
    }

    fn disk(&self, file: &ImageFile) -> String {
        file.path.display().to_string()
    }

    fn path_of(&self, name: &str) -> String {
        name.to_owned()
    }
}

trials! {
    an_imported_domain_hosts_a_guest;
    exported_levels_are_valid_for_libvirt;
    libvirt_asks_qemu_for_the_same_machine;
}
