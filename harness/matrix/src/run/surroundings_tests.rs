//! What happens to a cell whose L0 can only be around this machine.

use std::path::Path;

use nestmatrix_images::{Catalog, Product};
use nestmatrix_model::{Architecture, Fault, FaultAction, LevelNumber};
use nestmatrix_stack::Metal;
use nestmatrix_stack::host::Facts;
use rstest::rstest;

use super::{Fate, MetalChoice, NativeMetal, NativeMetals, PlanOptions, RunPlan};
use crate::one_scenario;
use crate::records::in_one_line;
use crate::scenario::{Cell, Matrix};
use crate::surroundings::Surroundings;

const SYSTEMS: &str = "[[system]]\nid = \"debian\"\nname = \"Debian\"\n\
    [[system]]\nid = \"cloud\"\nname = \"A Cloud\"\nversions = \"none\"\nguest-shows = { sys_vendor = \"Cloud\" }\n\
    [[system]]\nid = \"other\"\nname = \"Another\"\nversions = \"none\"\nguest-shows = { sys_vendor = \"Other\" }\n";

const AXES: &str = "architecture = [\"amd\"]\nl0 = [\"cloud\"]\nl1 = [\"debian 12\"]\nl2 = [\"debian 13\"]\n";

fn matrix(axes: &str) -> Matrix {
    Matrix::load(one_scenario::folder(Some(SYSTEMS), axes).path()).unwrap()
}

/// The plan of the only cell for a machine with Debian 12 that is a guest of the system `of`, changed by `change`.
fn plan(
    axes: &str,
    of: Option<&str>,
    metal: MetalChoice,
    change: impl FnOnce(&mut Cell, &mut Facts),
) -> RunPlan {
    let matrix = matrix(axes);
    let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes");
    let mut cell = matrix.cells()[0].clone();
    let mut facts = Facts { os: "debian".into(), os_version: "12".into(), ..Facts::default() };
    change(&mut cell, &mut facts);
    let native = NativeMetal::of(&facts, "kvm_amd").inside(Surroundings::of_guest(of, &matrix));
    let natives = NativeMetals::from([(Architecture::Amd, Ok(native))]);
    let options = PlanOptions { metal, ..PlanOptions::default() };
    RunPlan::new([cell], &matrix, &Catalog::load(&catalog).unwrap(), &natives, &options)
}

fn why_skipped(plan: &RunPlan) -> String {
    in_one_line(plan.skipped().next().unwrap_or_else(|| panic!("{plan:#?}")).1)
}

#[rstest]
#[case(MetalChoice::Native)]
#[case(MetalChoice::Auto)]
fn a_guest_of_the_cells_l0_is_its_l1(#[case] metal: MetalChoice) {
    let plan = plan(AXES, Some("cloud"), metal, |_, _| {});
    let planned = &plan.cells[0];
    let Fate::Boots { metal: Metal::Native, levels } = &planned.fate else { panic!("{plan:#?}") };
    let levels: Vec<_> = levels
        .iter()
        .map(|level| (level.choice.image.as_str(), level.boots.as_ref().map(|(_, product)| *product)))
        .collect();
    assert_eq!(levels, [("cloud", None), ("debian-12", None), ("debian-13", Some(Product::Minimal))]);
    let guest_of = planned.guest_of.as_ref().unwrap();
    assert_eq!((guest_of.level, guest_of.system.as_deref()), (LevelNumber::ALL[1], Some("cloud")));
}

#[test]
fn a_guest_that_is_l0_itself_says_what_it_is_a_guest_of() {
    let axes = AXES.replace("cloud", "debian 12");
    let plan = plan(&axes, Some("other"), MetalChoice::Native, |_, _| {});
    let guest_of = plan.cells[0].guest_of.as_ref().unwrap();
    assert_eq!((guest_of.level, guest_of.name.as_str()), (LevelNumber::ALL[0], "Another"));
}

#[rstest]
#[case::bare(None, MetalChoice::Native, "no hypervisor runs this machine")]
#[case::by_default(None, MetalChoice::Auto, "no hypervisor runs this machine")]
#[case::another(Some("other"), MetalChoice::Native, "this machine is a guest of Another")]
fn no_other_machine_runs_it(#[case] of: Option<&str>, #[case] metal: MetalChoice, #[case] is: &str) {
    let why = why_skipped(&plan(AXES, of, metal, |_, _| {}));
    assert_eq!(why, format!("needs a virtual machine of A Cloud with nested virtualization: {is}"));
}

#[test]
fn emulated_metal_does_not_run_it() {
    let why = why_skipped(&plan(AXES, Some("cloud"), MetalChoice::Emulated, |_, _| {}));
    assert_eq!(why, "needs a virtual machine of A Cloud with nested virtualization");
}

#[rstest]
#[case::parameter(
    |cell: &mut Cell, _: &mut Facts| cell.levels[1].settings.kernel_parameters = vec!["kvm_amd.nested=0".into()],
    "it sets kernel parameters of L1, and on native metal this machine is L1"
)]
#[case::disk(
    |cell: &mut Cell, _: &mut Facts| cell.levels[0].disk = true,
    "it gives L0 a disk, and on native metal this machine is L1"
)]
#[case::fault(
    |cell: &mut Cell, _: &mut Facts| cell.faults = vec![Fault {
        at: "l2-boot".parse().unwrap(), action: FaultAction::KillQemu, level: LevelNumber::ALL[1], second: false,
    }],
    "it injects a fault into L1, and on native metal this machine is L1"
)]
#[case::alone(
    |cell: &mut Cell, _: &mut Facts| cell.levels.truncate(2),
    "L1 is alone, and on native metal this machine is L1"
)]
#[case::another_system(
    |_: &mut Cell, facts: &mut Facts| facts.os_version = "11".into(),
    "needs Debian 12: this machine runs debian 11 (L1 on amd64)"
)]
fn what_is_done_to_l1_is_never_done_to_this_machine(
    #[case] change: fn(&mut Cell, &mut Facts),
    #[case] expected: &str,
) {
    assert_eq!(why_skipped(&plan(AXES, Some("cloud"), MetalChoice::Native, change)), expected);
}

#[rstest]
#[case::l2("", None)]
#[case::l3(
    "l3 = [\"debian 13\"]\n",
    Some("needs nesting switched on in L1's KVM: kvm_amd of this machine has nested=0")
)]
fn a_guest_of_l1_needs_no_nesting_in_its_kvm(#[case] l3: &str, #[case] expected: Option<&str>) {
    let off = |_: &mut Cell, facts: &mut Facts| facts.nested = Some("0".into());
    let plan = plan(&format!("{AXES}{l3}"), Some("cloud"), MetalChoice::Native, off);
    assert_eq!(plan.skipped().next().map(|(_, reasons)| in_one_line(reasons)).as_deref(), expected);
}
