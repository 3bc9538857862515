//! A level of a cell as domain XML, and that XML as a level again: the hardware is the same.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod one_scenario;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nestmatrix::domain_xml::{DomainXml, Export, ExportProblem, Import, ImportOptions, ScenarioText, Weight};
use nestmatrix::scenario::{Cell, Matrix};
use nestmatrix_model::{Accelerator, Firmware, LevelNumber};
use nestmatrix_vmm::qemu::{Backing, ChannelName, ImageFile, Machine, Placement};
use rstest::rstest;

fn level(number: u8) -> LevelNumber {
    LevelNumber::new(number).unwrap()
}

fn export(cell: &Cell, level: LevelNumber) -> Export<'_> {
    let folder = |level: &LevelNumber| (*level, PathBuf::from(format!("/images/{level}")));
    Export { cell, level, images: LevelNumber::ALL.iter().map(folder).collect() }
}

struct Anywhere;

impl Placement for Anywhere {
    fn channel(&self, _: ChannelName) -> Option<Backing> {
        None
    }

    fn file(&self, file: &ImageFile) -> String {
        file.serial.clone()
    }

    fn disk(&self, file: &ImageFile) -> String {
        file.serial.clone()
    }

    fn path_of(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// What QEMU is asked for, without the kernel's parameters. The order of options and of properties does not matter.
fn hardware(machine: &Machine) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    for argument in machine.arguments(&Anywhere) {
        match options.last_mut() {
            Some(option) if !argument.starts_with('-') && !option.contains(' ') => {
                let mut words: Vec<&str> = argument.split(',').collect();
                words[1..].sort_unstable();
                // libvirt's topology has all parts, and QEMU's default of one that is missing is 1.
                words.retain(|word| !(word.starts_with("smp.") && word.ends_with("=1")));
                *option += &format!(" {}", words.join(","));
            }
            _ => options.push(argument),
        }
    }
    // Files of the levels inside are no hardware of this one.
    options.retain(|option| !option.starts_with("-append ") && !option.contains("=l2-"));
    options.sort();
    options
}

/// The cell of an import.
fn imported(xml: &str, level: LevelNumber, cell: &Cell) -> (Import, Cell) {
    let options = ImportOptions { architecture: Some(cell.architecture), network: false };
    let import =
        Import::new(&DomainXml::new("L1.xml", xml), level, &options).unwrap_or_else(|e| panic!("{e}: {xml}"));
    let text = ScenarioText::new(&import, None);
    let folder = one_scenario::matrix_folder::with_files([
        (format!("documents/{}.toml", text.name), &text.document),
        (format!("domains/{}.toml", text.name), &text.scenario),
    ]);
    let matrix = Matrix::load(folder.path()).unwrap_or_else(|e| panic!("{e}: {}", text.scenario));
    (import, matrix.cells()[0].clone())
}

/// Exports a level, imports it, and compares the hardware of both levels.
fn assert_round_trip(cell: &Cell, level: LevelNumber) {
    let original = export(cell, level);
    let xml = original.xml("/usr/bin/qemu").unwrap();
    let (import, again) = imported(&xml, level, cell);
    let machine = export(&again, level).machine().unwrap();
    assert_eq!(hardware(&machine), hardware(&original.machine().unwrap()), "{level} of {}\n{xml}", cell.name);
    // Only the parameters of its kernel are lost.
    let lost: Vec<&str> =
        import.findings_of(Weight::ChangesMeaning).map(|finding| finding.what.as_str()).collect();
    assert!(lost.iter().all(|what| what.starts_with("os/cmdline")), "{lost:?} of {}\n{xml}", cell.name);
}

/// Whether a level is one that libvirt's words, or the import, can't describe.
fn is_special(cell: &Cell, number: LevelNumber) -> bool {
    let spec = cell.levels.iter().find(|spec| spec.level == number).unwrap();
    // An import never gives a level secure boot, since it boots a kernel.
    spec.firmware == Some(Firmware::UefiSecureBoot)
        || cell.windows().is_some()
        || spec.settings.accelerator != Accelerator::Kvm
        // The emulator runs L1, or something around this machine does.
        || ((cell.emulator_is_l0() || cell.l0_around().is_some()) && number == level(1))
}

#[test]
fn what_a_cloud_starts_is_not_exported() {
    let matrix = Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap();
    let is_it = |cell: &&Cell| cell.name.as_str().starts_with("rhel-10-non-kvm-l0/amd/aws/");
    let cell = matrix.cells().iter().find(is_it).unwrap();
    let refused = export(cell, level(1)).machine().unwrap_err().to_string();
    assert_eq!(refused, "AWS starts L1; export a level inside it");
}

#[rstest]
#[case::of_a_host(
    "windows-server 2022 with hyper-v",
    "rhel 9",
    1,
    "L1 has Windows, which boots from a disk, and only levels made of packages are exported"
)]
#[case::of_a_guest(
    "rhel 9",
    "windows-server 2022",
    1,
    "L2 has Windows, which boots from a disk, and only levels made of packages are exported"
)]
#[case::inside(
    "windows-server 2022 with hyper-v",
    "rhel 9",
    2,
    "the Windows around L2 starts it by `launch = \"hyper-v\"`, so it has no domain XML"
)]
fn what_has_windows_or_runs_in_it_is_not_exported(
    #[case] l1: &str,
    #[case] l2: &str,
    #[case] number: u8,
    #[case] why: &str,
) {
    let axes = format!("architecture = [\"amd\"]\nl0 = [\"rhel 9\"]\nl1 = [{l1:?}]\nl2 = [{l2:?}]\n");
    let matrix = Matrix::load(one_scenario::folder(None, &axes).path()).unwrap();
    let error = export(&matrix.cells()[0], level(number)).machine().unwrap_err();
    assert_eq!(error.to_string(), why);
}

#[test]
fn levels_of_all_cells_are_the_same_after_a_round_trip() {
    let matrix = Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap();
    let mut tried: BTreeMap<String, usize> = BTreeMap::new();
    for cell in matrix.cells().iter().filter(|cell| cell.innermost() == level(2)) {
        for number in [level(1), level(2)].into_iter().filter(|number| !is_special(cell, *number)) {
            assert_round_trip(cell, number);
            *tried.entry(format!("{} {number}", cell.architecture)).or_default() += 1;
        }
    }
    for kind in ["amd L1", "amd L2", "intel L1", "power9 L1", "arm L1", "ibm-z L1"] {
        assert!(tried.get(kind).is_some_and(|count| *count > 0), "no {kind}: {tried:?}");
    }
}

#[rstest]
#[case::cpus("cpus = 2\nmax-cpus = 5\nmemory-mib = 3000")]
#[case::custom(
    "cpu = { mode = \"custom\", model = \"EPYC\", require = [\"svm\", \"npt\"], disable = [\"la57\"] }"
)]
#[case::set(
    "cpu = { mode = \"host-passthrough\", disable = [\"mpx\"], set = { hv-spinlocks = \"0x1fff\", pmu = \"off\" } }"
)]
#[case::devices(
    "devices = [\"viommu\", \"virtio-net\", \"virtio-rng\", \"virtio-balloon\", \"watchdog\", \"nvme\", \"virtio-net-sink\"]"
)]
#[case::network("network = \"restricted\"")]
#[case::machine(
    "machine-type = \"pc-q35-9.0\"\nmachine = [\"smm=off\", \"hpet=off\", \"smp.cores=2\", \"kernel-irqchip=split\"]"
)]
#[case::firmware("firmware = \"uefi\"")]
#[case::huge_pages("memory-mib = 1024\nmemory-backing = \"huge-pages\"")]
fn each_key_survives_a_round_trip(#[case] keys: &str) {
    let axes = "architecture = [\"amd\"]\nl0 = [\"debian 13\"]\nl1 = [\"debian 13\"]\nl2 = [\"debian 13\"]";
    for number in [1, 2] {
        let folder = one_scenario::folder(None, &format!("{axes}\n[levels.l{number}]\n{keys}\n"));
        let matrix = Matrix::load(folder.path()).unwrap();
        assert_round_trip(&matrix.cells()[0], level(number));
    }
}

#[test]
fn what_is_no_virtual_machine_is_not_exported() {
    let folder =
        one_scenario::folder(None, "architecture = [\"amd\"]\nl0 = [\"debian 13\"]\nl1 = [\"debian 13\"]\n");
    let matrix = Matrix::load(folder.path()).unwrap();
    let cell = &matrix.cells()[0];
    let problem = |number| export(cell, level(number)).xml("/usr/bin/qemu").unwrap_err();
    assert_eq!(problem(0), ExportProblem::BareMachine);
    assert!(matches!(problem(2), ExportProblem::NoLevel { .. }));
    let without_images = Export { cell, level: level(1), images: BTreeMap::new() };
    assert!(matches!(without_images.machine().unwrap_err(), ExportProblem::NoImage { .. }));
}

#[test]
fn an_exported_level_has_a_console_for_a_person() {
    let axes = "architecture = [\"amd\"]\nl0 = [\"debian 13\"]\nl1 = [\"debian 13\"]\nl2 = [\"debian 13\"]\n";
    let folder = one_scenario::folder(None, &format!("{axes}[levels.l1]\ndevices = [\"virtio-rng\"]\n"));
    let matrix = Matrix::load(folder.path()).unwrap();
    insta::assert_snapshot!(export(&matrix.cells()[0], level(1)).xml("/usr/bin/qemu-system-x86_64").unwrap());
}
