//! The project's own matrix, read through the public interface: it loads, its cells are those of the documents' tables, and its
//! listing shows what each would boot.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod one_scenario;

use std::fs;
use std::path::{Path, PathBuf};

use nestmatrix::report::{Listing, Style, listing};
use nestmatrix::scenario::{
    Addition, AvailableImage, CellName, Denied, Filter, Later, Matrix, MissingImage, Permitted, Role,
    RunProfile, StandIns, Supply, System, SystemRequirement,
};
use nestmatrix_model::{Architecture, BootKind, Fidelity, Version, Word as _};
use rstest::rstest;

fn matrix() -> Matrix {
    Matrix::load(&scenarios()).unwrap()
}

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")
}

fn image(name: &str, system: &str, version: &str) -> AvailableImage {
    AvailableImage {
        name: name.into(),
        system: system.into(),
        version: version.parse().unwrap(),
        boots: BootKind::Kernel,
        additions: Addition::ALL.to_vec(),
        roles: Vec::new(),
        innermost_only: None,
    }
}

/// The images for stacks of any architecture.
fn supply() -> Supply {
    Supply::new(|_| debian())
}

fn debian() -> Vec<AvailableImage> {
    ["11", "12", "13"].map(|version| image(&format!("debian-{version}"), "debian", version)).into()
}

fn rhel(version: &str, and_later: bool) -> SystemRequirement {
    SystemRequirement {
        system: "rhel".into(),
        name: "RHEL".into(),
        version: Some(version.parse().unwrap()),
        and_later: and_later.then_some(Later::MajorVersion),
        role: None,
        hypervisor: None,
        family: None,
        untried: false,
        around: false,
    }
}

#[test]
fn every_scenario_makes_the_cells_of_its_document() {
    let matrix = matrix();
    let names: Vec<&str> = matrix.cells().iter().map(|cell| cell.name.as_str()).collect();
    insta::assert_snapshot!(names.join("\n"));
}

/// A folder with one scenario of Debian, and with this `systems.toml` if there is one.
fn users_folder(systems: Option<&str>) -> tempfile::TempDir {
    one_scenario::folder(systems, "architecture = [\"amd\"]\nl0 = [\"debian 12\"]\nl1 = [\"debian 13\"]\n")
}

#[test]
fn a_folder_without_systems_uses_the_shipped_ones() {
    let folder = users_folder(None);
    let matrix = Matrix::load(folder.path()).unwrap();
    assert_eq!(matrix.cells().len(), 1);
    assert_eq!(matrix.systems(), self::matrix().systems());
}

#[test]
fn a_folder_with_systems_of_its_own_uses_only_those() {
    let folder = users_folder(Some("[[system]]\nid = \"acme\"\nname = \"Acme Linux\"\n"));
    let errors = Matrix::load(folder.path()).unwrap_err();
    let problem = errors.errors()[0].problem().to_string();
    assert_eq!(problem, "unknown system `debian`");
}

/// The names of the cells that a profile chooses.
fn cells_of<'m>(matrix: &'m Matrix, profile: &RunProfile) -> Vec<&'m str> {
    let names = matrix.cells().iter().map(|cell| &cell.name);
    names.filter(|name| profile.takes(name)).map(CellName::as_str).collect()
}

/// Two cores boot one stack after the other. Most stacks take half a minute on emulated metal; the one on Bochs takes two
/// minutes.
#[test]
fn the_default_profile_boots_all_its_cells_and_is_through_within_a_quarter_of_an_hour() {
    let matrix = matrix();
    let filter = Filter::parse(&[]).unwrap().within(matrix.default_profile());
    let listed = Listing::new(&matrix, &filter, &supply(), Denied::default());
    let skipped: Vec<_> = listed.rows().iter().filter(|row| !row.missing.is_empty()).collect();
    assert!(skipped.is_empty(), "{skipped:#?}");
    assert!((1..=20).contains(&listed.rows().len()), "{} cells", listed.rows().len());
}

#[test]
fn the_full_profile_has_every_cell() {
    let matrix = matrix();
    let full = matrix.profile("full").unwrap();
    assert_eq!(cells_of(&matrix, full).len(), matrix.cells().len());
}

#[test]
fn a_folder_without_profiles_has_one_of_all_its_cells() {
    let matrix = Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sabotage")).unwrap();
    let names: Vec<&str> = matrix.profiles().map(|profile| profile.name.as_str()).collect();
    assert_eq!(names, ["full"]);
    assert_eq!(cells_of(&matrix, matrix.default_profile()).len(), matrix.cells().len());
}

#[test]
fn a_filter_within_a_profile_takes_what_both_take() {
    let matrix = matrix();
    let filter = Filter::parse(&["rhel-9-preview/*".into(), "rhel-9-l3/*".into()]).unwrap();
    let filter = filter.within(matrix.default_profile());
    let listed = Listing::new(&matrix, &filter, &supply(), Denied::default());
    let names: Vec<&str> = listed.rows().iter().map(|row| row.cell.as_str()).collect();
    assert_eq!(names, ["rhel-9-preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2+"]);
}

#[test]
fn a_cell_tries_the_claims_of_its_own_values_alone() {
    let matrix = matrix();
    let claims = |name: &str| {
        let cell = matrix.cells().iter().find(|cell| cell.name.as_str() == name).unwrap();
        cell.claims.iter().filter(|claim| claim.starts_with("preview-l1")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(claims("rhel-9-preview/amd/rhel-9.2+/rhel-8.8+/rhel-9.2+"), ["preview-l1-rhel-8-8"]);
    assert_eq!(claims("rhel-9-preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2+"), ["preview-l1-rhel-9-2"]);
}

#[test]
fn the_listing_reads_as_the_documents_lay_it_out() {
    let matrix = matrix();
    // One product line, which has everything that the others have.
    let filter = Filter::parse(&["rhel-9-*".into()]).unwrap();
    let text = listing(&Listing::new(&matrix, &filter, &supply(), Denied::default()), &Style::plain());
    insta::assert_snapshot!(text);
}

#[test]
fn the_listing_has_a_row_for_programs_with_what_is_missing() {
    let matrix = matrix();
    let filter = Filter::parse(&["rhel-8-preview/amd/*/rhel-7.8+".into()]).unwrap();
    let listed = Listing::new(&matrix, &filter, &supply(), Denied::default());
    insta::assert_snapshot!(serde_json::to_string_pretty(listed.rows()).unwrap());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The project's own matrix as it would be without rebuilds and without the stand-ins that are no Debian.
fn matrix_of_debian_stand_ins() -> Matrix {
    let folder = tempfile::tempdir().unwrap();
    copy(&scenarios(), folder.path());
    let path = folder.path().join("systems.toml");
    let text = fs::read_to_string(&path).unwrap();
    let stays = |block: &&str| !block.contains("[[stand-in]]") || block.contains("image = \"debian-");
    let blocks: Vec<&str> = text.split("\n\n").filter(stays).collect();
    fs::write(&path, blocks.join("\n\n").replace("rebuild-of = \"rhel\"", "")).unwrap();
    let matrix = Matrix::load(folder.path()).unwrap();
    assert!(matrix.systems().iter().all(|system| system.rebuild_of.is_none()));
    matrix
}

/// A user without images of the vendor's own systems gets the same stacks as before there could be any.
#[test]
fn images_of_debian_alone_are_chosen_as_if_there_were_no_others() {
    let (matrix, without) = (matrix(), matrix_of_debian_stand_ins());
    assert!(matrix.stand_ins().len() > without.stand_ins().len());
    for denied in [
        Denied::default(),
        Denied { rebuilds: true, stand_ins: false },
        Denied { rebuilds: false, stand_ins: true },
    ] {
        let rows = |matrix: &Matrix| {
            let listed = Listing::new(matrix, &Filter::all(), &supply(), denied);
            serde_json::to_string(listed.rows()).unwrap()
        };
        assert_eq!(rows(&matrix), rows(&without));
    }
}

#[rstest]
#[case("8.10", &["rocky-8.10", "centos-stream-8", "debian-11"])]
#[case("9.4", &["almalinux-9.4", "centos-stream-9", "debian-12"])]
#[case("10.0", &["rhel-10.0", "centos-stream-10", "debian-13"])]
fn an_image_of_the_vendors_own_line_goes_before_debian(#[case] version: &str, #[case] names: &[&str]) {
    let matrix = matrix();
    let image = |name: &&str| {
        let (system, version) = name.rsplit_once('-').unwrap();
        image(name, system, version)
    };
    let available: Vec<AvailableImage> = names.iter().map(image).collect();
    for first in 0..available.len() {
        let requirement = rhel(version, false);
        let choice =
            matrix.image_for(&requirement, Architecture::Amd, &available[first..], Permitted::ALL).unwrap();
        assert_eq!(choice.image, names[first]);
    }
}

#[test]
fn a_listing_without_cells_says_so() {
    let matrix = matrix();
    let filter = Filter::parse(&["no-such-scenario/*".into()]).unwrap();
    let none = Listing::new(&matrix, &filter, &supply(), Denied::default());
    assert_eq!(listing(&none, &Style::plain()), "no cell matches\n");
}

#[test]
fn an_image_of_the_system_itself_goes_before_its_stand_in() {
    let mut available = debian();
    available.extend([image("rhel-10-1", "rhel", "10.1"), image("rhel-10-0", "rhel", "10.0")]);
    let choice =
        matrix().image_for(&rhel("10.0", true), Architecture::Amd, &available, Permitted::ALL).unwrap();
    assert_eq!(
        (choice.image.as_str(), choice.fidelity, choice.reason),
        ("rhel-10-0", Fidelity::Product, None)
    );
}

#[test]
fn a_stand_in_is_never_silent() {
    let choice =
        matrix().image_for(&rhel("10.0", true), Architecture::Amd, &debian(), Permitted::ALL).unwrap();
    assert_eq!((choice.image.as_str(), choice.fidelity), ("debian-13", Fidelity::StandIn));
    assert_eq!(choice.reason.as_deref(), Some("same 6.12 kernel line"));
}

#[test]
fn a_stand_in_serves_the_architectures_that_it_names_and_no_others() {
    let matrix = matrix();
    let choice = |architecture, version| {
        matrix.image_for(&rhel(version, true), architecture, &debian(), Permitted::ALL).map_err(Box::new)
    };
    assert_eq!(choice(Architecture::IbmZ, "9.2").unwrap().image, "debian-12");
    assert_eq!(choice(Architecture::Power9, "8.2").unwrap().image, "debian-11", "it names none");
    let missing = choice(Architecture::Power9, "9.2").unwrap_err().to_string();
    assert_eq!(missing, "no image of RHEL 9.2 or a later RHEL 9, and no stand-in");
}

#[rstest]
#[case::no_image("7.8", debian(), Permitted::ALL, "no image of RHEL 7.8 or a later RHEL 7, and no stand-in")]
#[case::denied(
    "9.2",
    debian(),
    Permitted { stand_ins: StandIns::DeniedByUser, ..Permitted::ALL },
    "no image of RHEL 9.2 or a later RHEL 9: only the stand-in debian-12, which --deny-stand-ins forbids"
)]
#[case::unfit(
    "9.2",
    vec![],
    Permitted { stand_ins: StandIns::DeniedByScenario("it is about minor versions"), ..Permitted::ALL },
    "no image of RHEL 9.2 or a later RHEL 9: only the stand-in centos-stream-9, which the scenario denies (it is about minor versions)"
)]
#[case::no_recipe(
    "9.2",
    vec![],
    Permitted::ALL,
    "no image of RHEL 9.2 or a later RHEL 9: only the stand-in centos-stream-9, for which there is no recipe"
)]
fn what_is_missing_is_named_exactly(
    #[case] version: &str,
    #[case] available: Vec<AvailableImage>,
    #[case] permitted: Permitted<'_>,
    #[case] message: &str,
) {
    let missing: MissingImage =
        matrix().image_for(&rhel(version, true), Architecture::Amd, &available, permitted).unwrap_err();
    assert_eq!(missing.to_string(), message);
}

#[rstest]
#[case::the_version_itself("9.2", true, "9.2", true)]
#[case::a_later_minor("9.2", true, "9.10", true)]
#[case::an_earlier_minor("9.2", true, "9.1", false)]
#[case::a_later_major("9.2", true, "10.2", false)]
#[case::an_unknown_minor("9.2", true, "9", false)]
#[case::exactly("9.2", false, "9.2", true)]
#[case::not_exactly("9.2", false, "9.3", false)]
#[case::any_of_a_major("9", false, "9.7", true)]
fn later_ends_with_the_major_version_of_rhel(
    #[case] wanted: &str,
    #[case] and_later: bool,
    #[case] version: Version,
    #[case] satisfied: bool,
) {
    assert_eq!(rhel(wanted, and_later).satisfied_by("rhel", &version), satisfied);
    assert!(!rhel(wanted, and_later).satisfied_by("debian", &version));
}

#[test]
fn no_image_and_no_stand_in_has_a_role() {
    let requirement = SystemRequirement { role: Some(Role::HyperV), ..rhel("9.2", true) };
    let missing = matrix()
        .image_for(&requirement, Architecture::Amd, &[image("rhel-9", "rhel", "9.2")], Permitted::ALL)
        .unwrap_err();
    let message = "no image of RHEL 9.2 or a later RHEL 9 with Hyper-V, and no stand-in";
    assert_eq!(missing.to_string(), message);
    assert_eq!(requirement.to_string(), "RHEL 9.2 and later with Hyper-V");
    assert_eq!(requirement.slug(), "rhel-9.2+_hyper-v");
}

#[rstest]
#[case::the_version_itself("2016", true, "2016", true)]
#[case::a_later_version("2016", true, "2022", true)]
#[case::an_earlier_version("2019", true, "2016", false)]
#[case::no_later_one("2019", false, "2022", false)]
fn later_has_no_end_for_windows(
    #[case] wanted: &str,
    #[case] and_later: bool,
    #[case] version: Version,
    #[case] satisfied: bool,
) {
    let matrix = matrix();
    let system = matrix.systems().iter().find(|system| system.id == "windows-server").unwrap().clone();
    let and_later = and_later.then_some(system.later);
    let System { id, name, family, .. } = system;
    let requirement = SystemRequirement { system: id, name, and_later, family, ..rhel(wanted, false) };
    assert_eq!(requirement.satisfied_by("windows-server", &version), satisfied);
    assert!(!requirement.satisfied_by("windows", &version));
    let missing =
        matrix.image_for(&requirement, Architecture::Amd, &[], Permitted::ALL).unwrap_err().to_string();
    let or_later = if and_later.is_some() { " or later" } else { "" };
    let command = format!("cargo xtask media add windows-server-{wanted} FILE.iso --drivers virtio-win.iso");
    assert_eq!(missing, format!("no medium of Windows Server {wanted}{or_later} (`{command}` adds one)"));
}
