//! What happens to cells on native and on emulated metal.

use std::path::Path;

use nestmatrix_model::{
    Architecture, Command, CpuMode, Fidelity, LevelNumber, OwnAction, Step, StepAction, SymptomKind,
    TpmVersion,
};
use nestmatrix_stack::host::Facts;
use rstest::rstest;

use super::*;
use crate::one_scenario;
use crate::run::NativeMetal;
use crate::run::fate::{beyond_metal, without_device};
use crate::scenario::{Expectation, Limitation, StopStage, SymptomTexts};

/// Cells of an emulator as L0 and of an ordinary one, on an architecture whose emulated metal runs guests and on one whose
/// does not.
fn matrix() -> Matrix {
    let systems = "[[system]]\nid = \"debian\"\nname = \"Debian\"\n\
                   [[system]]\nid = \"tcg\"\nname = \"TCG\"\nhypervisor = \"tcg\"\n";
    let axes = "architecture = [\"amd\", \"ibm-z\"]\nl0 = [\"tcg\", \"debian 12\"]\nl1 = [\"debian 13\"]\n";
    let folder = one_scenario::folder(Some(systems), axes);
    Matrix::load(folder.path()).unwrap()
}

fn catalog() -> Catalog {
    Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes")).unwrap()
}

/// A plan with native metal that runs Debian 12.
fn plan(metal: MetalChoice) -> RunPlan {
    plan_with(metal, |_| {})
}

/// The same, with every cell changed before it is planned.
fn plan_with(metal: MetalChoice, change: impl Fn(&mut Cell)) -> RunPlan {
    plan_of(&debian_12(), &PlanOptions { metal, ..PlanOptions::default() }, change)
}

/// The same on native metal that cells may change.
fn plan_on_disposable_host(change: impl Fn(&mut Cell)) -> RunPlan {
    let options = PlanOptions { metal: MetalChoice::Native, disposable_host: true, ..PlanOptions::default() };
    plan_of(&debian_12(), &options, change)
}

fn debian_12() -> Facts {
    Facts { os: "debian".into(), os_version: "12".into(), ..Facts::default() }
}

/// The same on a machine that reports this.
fn plan_of(facts: &Facts, options: &PlanOptions, change: impl Fn(&mut Cell)) -> RunPlan {
    let matrix = matrix();
    let mut cells = matrix.cells().to_vec();
    cells.iter_mut().for_each(change);
    let natives = NativeMetals::from([(Architecture::Amd, Ok(NativeMetal::of(facts, "kvm_amd")))]);
    RunPlan::new(cells, &matrix, &catalog(), &natives, options)
}

fn texts(reasons: &[SkipReason]) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}

fn metals(plan: &RunPlan) -> Vec<Option<Metal>> {
    let metal = |planned: &Planned| match &planned.fate {
        Fate::Boots { metal, .. } => Some(*metal),
        Fate::Skipped(_) => None,
    };
    plan.cells.iter().map(metal).collect()
}

#[test]
fn an_l0_that_is_the_emulator_boots_nothing_and_goes_without_native_metal() {
    let with_l2 = |cell: &mut Cell| {
        let l2 = LevelSpec { level: LevelNumber::ALL[2], ..cell.levels[1].clone() };
        cell.levels.push(l2);
    };
    let auto = plan_with(MetalChoice::Emulated, with_l2);
    assert_eq!(metals(&auto)[0], Some(Metal::Emulated));
    let Fate::Boots { levels, .. } = &auto.cells[0].fate else { panic!("{auto:#?}") };
    let boots: Vec<_> = levels.iter().map(|level| Some(level.boots.as_ref()?.1)).collect();
    assert_eq!(boots, [None, Some(Product::Hypervisor), Some(Product::Minimal)]);
    assert_eq!((levels[0].choice.image.as_str(), levels[0].choice.fidelity), ("emulator", Fidelity::Product));

    let native = plan(MetalChoice::Native);
    assert_eq!(metals(&native), [None, Some(Metal::Native), None, None]);
    let why = "TCG is an emulator, and native metal does without one (L0 on amd64)";
    assert_eq!(texts(native.skipped().next().unwrap().1), [why]);
}

#[rstest]
#[case::reboots(
    |cell: &mut Cell| cell.steps = vec![Step { repeat: 2, ..reboot() }],
    "a step reboots L0 several times"
)]
#[case::parameters(
    |cell: &mut Cell| cell.levels[0].settings.kernel_parameters = vec!["kvm_amd.nested=0".into(), "quiet".into()],
    "it sets kernel parameters of L0"
)]
#[case::cpu(
    |cell: &mut Cell| cell.levels[0].settings.cpu.mode = CpuMode::Custom { model: "EPYC".into() },
    "it sets the CPU of L0"
)]
fn what_is_done_to_l0_is_never_done_to_this_machine(#[case] change: fn(&mut Cell), #[case] what: &str) {
    assert_eq!(metals(&plan_with(MetalChoice::Auto, change))[1], Some(Metal::Emulated));
    let native = plan_with(MetalChoice::Native, change);
    assert_eq!(metals(&native)[1], None);
    let why = format!("{what}, and on native metal this machine is L0");
    assert_eq!(texts(native.skipped().nth(1).unwrap().1), [why]);
    assert_eq!(metals(&plan_on_disposable_host(change))[1], None, "not even on a disposable host");
}

#[rstest]
#[case::step(
    |cell: &mut Cell| cell.steps = vec![look(false, "modprobe -r kvm_amd")],
    "it has steps in L0 that may change it"
)]
#[case::parameters(
    |cell: &mut Cell| cell.levels[0].settings.kernel_parameters = vec!["kvm_amd.nested=0".into(), "kvm.nested=0".into()],
    "it sets parameters of L0's KVM"
)]
#[case::disk(|cell: &mut Cell| cell.levels[0].disk = true, "it gives L0 a disk")]
#[case::reboot(|cell: &mut Cell| cell.steps = vec![reboot()], "it reboots L0")]
fn what_can_be_restored_is_done_to_a_disposable_host(#[case] change: fn(&mut Cell), #[case] what: &str) {
    assert_eq!(metals(&plan_with(MetalChoice::Auto, change))[1], Some(Metal::Emulated));
    let native = plan_with(MetalChoice::Native, change);
    let why = format!(
        "{what}, and on native metal this machine is L0: needs a disposable host (--disposable-host)"
    );
    assert_eq!(texts(native.skipped().nth(1).unwrap().1), [why]);
    assert_eq!(metals(&plan_on_disposable_host(change))[1], Some(Metal::Native));
}

#[test]
fn a_cell_that_sets_nesting_itself_does_not_depend_on_what_is_found() {
    let facts =
        Facts { os: "debian".into(), os_version: "12".into(), nested: Some("0".into()), ..Facts::default() };
    let with_l2 = |cell: &mut Cell| {
        let l2 = LevelSpec { level: LevelNumber::ALL[2], ..cell.levels[1].clone() };
        cell.levels.push(l2);
        cell.levels[0].settings.kernel_parameters = vec!["kvm_amd.nested=1".into()];
    };
    let options = PlanOptions { metal: MetalChoice::Native, disposable_host: true, ..PlanOptions::default() };
    assert_eq!(metals(&plan_of(&facts, &options, with_l2))[1], Some(Metal::Native));
    let other = |cell: &mut Cell| {
        with_l2(cell);
        cell.levels[0].settings.kernel_parameters = vec!["kvm_amd.npt=1".into()];
    };
    assert_eq!(metals(&plan_of(&facts, &options, other))[1], None);
}

fn reboot() -> Step {
    let (after, on) = ("l0-kvm".parse().unwrap(), LevelNumber::ALL[0]);
    let action = StepAction::Own { action: OwnAction::Reboot };
    Step { name: "reboot".into(), after, on, action, reads: false, repeat: 1, timeout: None }
}

/// A step in L0 that only looks, if its author says so.
fn look(reads: bool, run: &str) -> Step {
    let action = StepAction::Run(Command { run: run.into(), fails: false, status: None, output: None });
    let (after, on) = ("l0-kvm".parse().unwrap(), LevelNumber::ALL[0]);
    Step { name: "look".into(), after, on, action, reads, repeat: 1, timeout: None }
}

#[rstest]
#[case::declared(true, "grep 1 /sys/module/kvm/parameters/nested", Some(Metal::Native))]
#[case::not_declared(false, "grep 1 /sys/module/kvm/parameters/nested", Some(Metal::Emulated))]
#[case::wrongly_declared(true, "modprobe -r kvm", Some(Metal::Emulated))]
fn a_step_that_is_said_and_known_to_only_read_is_done_on_this_machine(
    #[case] reads: bool,
    #[case] run: &str,
    #[case] metal: Option<Metal>,
) {
    let with_step = |cell: &mut Cell| cell.steps = vec![look(reads, run)];
    assert_eq!(metals(&plan_with(MetalChoice::Auto, with_step))[1], metal);
}

fn stop_at_l1_launch(symptom: &str) -> Expectation {
    let stop = StopStage::At("l1-launch".parse().unwrap());
    let limitation = Limitation {
        kind: Some(SymptomKind::MissingCpuFeature),
        ..Limitation::new(stop, SymptomTexts::new([symptom]))
    };
    Expectation::Stops { limitation, known_stale: None }
}

#[rstest]
#[case::works(Expectation::WORKS, Some("needs SIE: TCG has none"))]
#[case::stops_for_another_feature(stop_at_l1_launch("aes"), Some("needs SIE: TCG has none"))]
#[case::stops_for_it(stop_at_l1_launch("sief2"), None)]
fn what_an_emulator_lacks_skips_no_cell_that_expects_to_stop_for_it(
    #[case] expectation: Expectation,
    #[case] why: Option<&str>,
) {
    let matrix = matrix();
    let is_of_z = |cell: &&Cell| cell.name.as_str().contains("/ibm-z/tcg");
    let mut cell = matrix.cells().iter().find(is_of_z).unwrap().clone();
    let inner = LevelSpec { level: LevelNumber::ALL[2], ..cell.levels[1].clone() };
    cell.levels.push(inner);
    cell.expectation = expectation;
    assert_eq!(beyond_metal(&cell).as_deref(), why);
}

#[rstest]
#[case::memory(Architecture::Power9, OwnAction::HotplugMemory, None)]
#[case::disk(
    Architecture::Power9,
    OwnAction::HotplugDisk,
    Some(
        "plugs a disk into L1, which IBM POWER9 can't: a new device of a pseries machine must be taken by drmgr, which the images \
         do not have"
    )
)]
#[case::disk_on_amd(Architecture::Amd, OwnAction::HotplugDisk, None)]
fn what_an_architecture_can_not_plug_skips_a_cell(
    #[case] architecture: Architecture,
    #[case] action: OwnAction,
    #[case] why: Option<&str>,
) {
    let matrix = matrix();
    let mut cell = matrix.cells().first().unwrap().clone();
    cell.architecture = architecture;
    let action = StepAction::Chain { chain: vec![OwnAction::Pause, action] };
    let (after, on) = ("l1-kvm".parse().unwrap(), LevelNumber::ALL[1]);
    cell.steps =
        vec![Step { name: "plug".into(), after, on, action, reads: false, repeat: 1, timeout: None }];
    assert_eq!(without_device(&cell).as_deref(), why);
}

#[rstest]
#[case::off("0", 3, Some("needs nesting switched on in L0's KVM: kvm_amd of this machine has nested=0"))]
#[case::off_in_words(
    "N",
    3,
    Some("needs nesting switched on in L0's KVM: kvm_amd of this machine has nested=N")
)]
#[case::on("1", 3, None)]
#[case::not_asked_for("0", 2, None)]
fn a_machine_whose_kvm_does_not_nest_runs_no_guests_of_guests(
    #[case] nested: &str,
    #[case] levels: usize,
    #[case] why: Option<&str>,
) {
    let facts = Facts { nested: Some(nested.into()), ..Facts::default() };
    let innermost = LevelNumber::ALL[levels - 1];
    let lacking = NativeMetal::of(&facts, "kvm_amd").lacks_nesting(innermost, LevelNumber::ALL[0]);
    assert_eq!(lacking.as_deref(), why);
}

#[test]
fn an_l1_alone_on_the_emulator_could_not_name_its_hypervisor() {
    let auto = plan(MetalChoice::Auto);
    assert_eq!(metals(&auto), [None, Some(Metal::Native), None, None]);
    let why = "needs a guest in L1: TCG gives L1 the CPU of a bare machine, so L1 can't name its hypervisor";
    assert_eq!(texts(auto.skipped().next().unwrap().1), [why]);
}

#[test]
fn an_l0_that_is_alone_is_never_this_machine_nor_the_emulator() {
    let alone = |cell: &mut Cell| cell.levels.truncate(1);
    let auto = plan_with(MetalChoice::Auto, alone);
    assert_eq!(metals(&auto), [None, Some(Metal::Emulated), None, Some(Metal::Emulated)]);
    assert_eq!(texts(auto.skipped().next().unwrap().1), ["needs a guest: TCG alone boots nothing"]);
    let native = plan_with(MetalChoice::Native, alone);
    assert_eq!(
        texts(native.skipped().nth(1).unwrap().1),
        ["L0 is alone, and on native metal this machine is L0"]
    );
}

#[test]
fn a_tpm_that_qemu_does_not_have_is_a_reason_on_native_metal_too() {
    let matrix = matrix();
    let is_native = |cell: &&Cell| cell.architecture == Architecture::IbmZ && !cell.emulator_is_l0();
    let mut cell = matrix.cells().iter().find(is_native).unwrap().clone();
    let fate = |cell: &Cell| {
        let native = NativeMetal::named("debian".into(), "12".into());
        let natives = NativeMetals::from([(Architecture::IbmZ, Ok(native))]);
        let options = PlanOptions { metal: MetalChoice::Native, ..PlanOptions::default() };
        RunPlan::new([cell.clone()], &matrix, &catalog(), &natives, &options).cells.remove(0).fate
    };
    assert!(matches!(fate(&cell), Fate::Boots { metal: Metal::Native, .. }));
    cell.levels[1].settings.hardware.tpm = Some(TpmVersion::V2);
    let Fate::Skipped(reasons) = fate(&cell) else { panic!("it must be skipped") };
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    let why = "needs a TPM in L1: QEMU has none for IBM Z, since its TPM devices are for x86, Arm and POWER";
    assert_eq!(reasons, [why]);
}

/// A plan of one cell, RHEL 9.4 on RHEL 9.4, whose L0 is a machine that reports this system.
fn on_machine_with(system: &str, version: &str, denied: Denied) -> RunPlan {
    let systems = "[[system]]\nid = \"rhel\"\nname = \"RHEL\"\n\
                   [[system]]\nid = \"almalinux\"\nname = \"AlmaLinux\"\nrebuild-of = \"rhel\"\n\
                   [[stand-in]]\nfor = \"rhel 9\"\nimage = \"debian-12\"\nreason = \"r\"\n";
    let axes = "architecture = [\"amd\"]\nl0 = [\"rhel 9.4\"]\nl1 = [\"rhel 9.4\"]\n";
    let folder = one_scenario::folder(Some(systems), axes);
    let matrix = Matrix::load(folder.path()).unwrap();
    let native = NativeMetal::named(system.into(), version.into());
    let natives = NativeMetals::from([(Architecture::Amd, Ok(native))]);
    let options = PlanOptions { metal: MetalChoice::Native, denied, ..PlanOptions::default() };
    RunPlan::new(matrix.cells().to_vec(), &matrix, &catalog(), &natives, &options)
}

#[rstest]
#[case::itself("rhel", "9.4", Fidelity::Product, None)]
#[case::rebuild("almalinux", "9.4", Fidelity::Rebuild, Some("a rebuild of RHEL 9.4"))]
#[case::stand_in("debian", "12", Fidelity::StandIn, Some("r"))]
fn this_machine_is_as_near_to_the_required_l0_as_an_image_of_its_system(
    #[case] system: &str,
    #[case] version: &str,
    #[case] fidelity: Fidelity,
    #[case] reason: Option<&str>,
) {
    let plan = on_machine_with(system, version, Denied::default());
    let Fate::Boots { metal: Metal::Native, levels } = &plan.cells[0].fate else { panic!("{plan:#?}") };
    let ImageChoice { image, fidelity: chosen, reason: why } = &levels[0].choice;
    assert_eq!((image.clone(), *chosen, why.as_deref()), (format!("{system}-{version}"), fidelity, reason));
    assert_eq!((levels[0].boots.as_ref(), levels[0].others.len()), (None, 0), "it runs already");
    assert_eq!(levels[1].choice.image, "debian-12");
}

#[rstest]
#[case::rebuild(
    "almalinux",
    "9.4",
    Denied { rebuilds: true, stand_ins: false },
    "this machine runs almalinux 9.4, a rebuild, which --deny-rebuilds forbids"
)]
#[case::stand_in(
    "debian",
    "12",
    Denied { rebuilds: false, stand_ins: true },
    "this machine runs debian 12, a stand-in, which --deny-stand-ins forbids"
)]
#[case::another("almalinux", "9.5", Denied::default(), "this machine runs almalinux 9.5")]
#[case::another_and_denied(
    "fedora",
    "40",
    Denied { rebuilds: true, stand_ins: true },
    "this machine runs fedora 40"
)]
fn a_machine_with_a_denied_system_is_not_l0(
    #[case] system: &str,
    #[case] version: &str,
    #[case] denied: Denied,
    #[case] why: &str,
) {
    let plan = on_machine_with(system, version, denied);
    let (_, reasons) = plan.skipped().next().unwrap();
    assert_eq!(texts(reasons)[0], format!("needs RHEL 9.4: {why} (L0 on amd64)"));
}

/// The project's recipes without this one.
fn catalog_without(recipe: &str) -> Catalog {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes");
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(&recipes).unwrap() {
        let name = entry.unwrap().file_name();
        if name.to_str() != Some(recipe) {
            std::os::unix::fs::symlink(recipes.join(&name), folder.path().join(&name)).unwrap();
        }
    }
    Catalog::load(folder.path()).unwrap()
}

/// Bochs has no network card that a cloud kernel drives.
#[test]
fn an_l0_on_emulated_metal_boots_the_next_best_image_if_the_best_has_no_variant_for_it() {
    let systems = "[[system]]\nid = \"rhel\"\nname = \"RHEL\"\n".to_owned()
        + &["11", "12"]
            .map(|version| {
                format!("[[stand-in]]\nfor = \"rhel 8\"\nimage = \"debian-{version}\"\nreason = \"r\"\n")
            })
            .concat();
    let axes = "architecture = [\"intel\", \"amd\"]\nl0 = [\"rhel 8.2\"]\nl1 = [\"rhel 8.2\"]\n";
    let folder = one_scenario::folder(Some(&systems), axes);
    let matrix = Matrix::load(folder.path()).unwrap();
    let catalog = catalog_without("debian-11-generic-amd64.toml");
    let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
    let plan = RunPlan::new(matrix.cells().to_vec(), &matrix, &catalog, &NativeMetals::new(), &options);
    let recipes = |planned: &Planned| {
        let Fate::Boots { levels, .. } = &planned.fate else { panic!("{planned:#?}") };
        let boots = levels.iter().map(|level| level.boots.clone().unwrap().0);
        boots.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(recipes(&plan.cells[0]), "debian-12-generic-amd64 debian-11-amd64");
    assert_eq!(recipes(&plan.cells[1]), "debian-11-amd64 debian-11-amd64");
    let listed = supply(&catalog);
    let l0 = listed.of(Architecture::Intel, LevelNumber::ALL[0]);
    assert!(l0.iter().all(|image| image.name != "debian-11") && !l0.is_empty(), "{l0:#?}");
    assert!(listed.images(Architecture::Intel).iter().any(|image| image.name == "debian-11"));
}
