//! The stacks that axes make: of any depth, of systems with and without versions, of an emulator's own hypervisor.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod matrix_folder;

use nestmatrix::report::{self, Style};
use nestmatrix::report::{Listing, Row};
use nestmatrix::scenario::{
    AvailableImage, Cell, CellName, Denied, Filter, Hypervisor, Matrix, Permitted, StandIns, Supply,
};
use nestmatrix_model::{Architecture, BootKind, Fidelity};

const SYSTEMS: &str = r#"
[[system]]
id = "rhel"
name = "RHEL"

[[system]]
id = "windows"
name = "Windows"
later = "always"

[[system]]
id = "debian"
name = "Debian"

[[stand-in]]
for = "rhel 9"
image = "debian-12"
reason = "near enough for a test"

[[system]]
id = "aws"
name = "AWS"
versions = "none"

[[system]]
id = "qemu-tcg"
name = "QEMU's TCG"
hypervisor = "tcg"
"#;

const DOCUMENT: &str = r#"
id = "limits"
title = "Limits"
product = "RHEL 9"
section = "22.2"
language = "en"

[[claim]]
id = "works"
section = "22.2"
tier = "supported"
text = "It works."

[[claim]]
id = "later"
section = "22.2"
tier = "supported"
text = "It works with RHEL 9.2 and later."
"#;

/// A matrix with one scenario for each of these texts, which begin with its axes; the names are `s1`, `s2`, ...
fn matrix(scenarios: &[&str]) -> Matrix {
    of_architectures("\"amd\"", scenarios)
}

fn of_architectures(architectures: &str, scenarios: &[&str]) -> Matrix {
    let folder = matrix_folder::with_files([("systems.toml", SYSTEMS), ("documents/limits.toml", DOCUMENT)]);
    for (number, axes) in (1..).zip(scenarios) {
        // The text above the axes, if any.
        let (keys, axes) = axes.split_once("[axes]").unwrap_or(("", axes));
        let scenario = format!(
            "name = \"s{number}\"\ntitle = \"Scenario {number}\"\ndocument = \"limits\"\nclaims = [\"works\"]\n\
             tier = \"supported\"\n{keys}\n[axes]\narchitecture = [{architectures}]\n{axes}\n"
        );
        matrix_folder::write(folder.path(), format!("product/s{number}.toml"), scenario);
    }
    Matrix::load(folder.path()).unwrap()
}

fn available() -> Vec<AvailableImage> {
    vec![AvailableImage {
        name: "debian-12".into(),
        system: "debian".into(),
        version: "12".parse().unwrap(),
        boots: BootKind::Kernel,
        additions: Vec::new(),
        roles: Vec::new(),
        innermost_only: None,
    }]
}

/// The images for AMD stacks; others have none.
fn supply() -> Supply {
    Supply::new(|architecture| match architecture {
        Architecture::Amd => available(),
        _ => Vec::new(),
    })
}

fn names(matrix: &Matrix) -> Vec<&str> {
    matrix.cells().iter().map(|cell| cell.name.as_str()).collect()
}

const DEPTHS: [&str; 3] = [
    "l0 = [\"rhel 9\"]\nl1 = [\"rhel 9.2\"]\n[expect]\noutcome = \"stops\"\nsymptom = \"svm\"\nstage = \"l1-check\"",
    "l0 = [\"rhel 9\"]\nl1 = [\"rhel 9.2\"]\nl2 = [\"rhel 9.4\"]",
    "l0 = [\"rhel 9\"]\nl1 = [\"rhel 9.2\"]\nl2 = [\"rhel 9.4\"]\nl3 = [\"rhel 9.6\"]",
];

#[test]
fn a_stack_is_as_deep_as_its_axes() {
    let matrix = matrix(&DEPTHS);
    assert_eq!(
        names(&matrix),
        [
            "s1/amd/rhel-9/rhel-9.2",
            "s2/amd/rhel-9/rhel-9.2/rhel-9.4",
            "s3/amd/rhel-9/rhel-9.2/rhel-9.4/rhel-9.6"
        ]
    );
    let last = |cell: &Cell| cell.stages().last().unwrap().to_string();
    assert_eq!(matrix.cells().iter().map(last).collect::<Vec<_>>(), ["l1-check", "l2-check", "l3-check"]);
    for cell in matrix.cells() {
        assert_eq!(cell.name.as_str().parse::<CellName>().unwrap(), cell.name);
        let json = serde_json::to_string(cell).unwrap();
        assert_eq!(&serde_json::from_str::<Cell>(&json).unwrap(), cell);
    }
}

#[test]
fn scenarios_of_different_depths_are_listed_each_with_its_own_levels() {
    let matrix = matrix(&DEPTHS);
    let listing = Listing::new(&matrix, &Filter::parse(&[]).unwrap(), &supply(), Denied::default());
    insta::assert_snapshot!(report::listing(&listing, &Style::plain()));
    let levels: Vec<usize> = listing.rows().iter().map(|row| row.levels.len()).collect();
    assert_eq!(levels, [2, 3, 4]);
}

const NO_VERSIONS: &str = "l0 = [\"aws\", \"qemu-tcg\"]\nl1 = [\"rhel 9\", \"aws with hyper-v\"]";

#[test]
fn a_system_without_versions_is_named_by_its_id_alone() {
    let matrix = matrix(&[NO_VERSIONS]);
    assert_eq!(
        names(&matrix),
        [
            "s1/amd/aws/rhel-9",
            "s1/amd/aws/aws_hyper-v",
            "s1/amd/qemu-tcg/rhel-9",
            "s1/amd/qemu-tcg/aws_hyper-v"
        ]
    );
    let system = &matrix.cells()[1].levels[1].system;
    assert_eq!(system.to_string(), "AWS with Hyper-V");
    assert!(!system.satisfied_by("aws", &"1".parse().unwrap()), "no image has a role");
    let system = &matrix.cells()[0].levels[0].system;
    assert_eq!((system.to_string().as_str(), system.version), ("AWS", None));
    let missing =
        matrix.image_for(system, Architecture::Amd, &available(), Permitted::ALL).unwrap_err().to_string();
    assert_eq!(missing, "no image of AWS, and no stand-in");
    for cell in matrix.cells() {
        let json = serde_json::to_string(cell).unwrap();
        assert_eq!(&serde_json::from_str::<Cell>(&json).unwrap(), cell);
    }
}

#[test]
fn an_emulator_as_l0_is_served_by_itself_and_is_no_stand_in() {
    let matrix = matrix(&[NO_VERSIONS]);
    let emulator = &matrix.cells()[2].levels[0].system;
    assert_eq!((emulator.hypervisor, emulator.is_emulator()), (Some(Hypervisor::Tcg), true));
    for stand_ins in [StandIns::Allowed, StandIns::DeniedByUser, StandIns::DeniedByScenario("a reason")] {
        let choice = matrix
            .image_for(emulator, Architecture::Amd, &[], Permitted { rebuilds: false, stand_ins })
            .unwrap();
        assert_eq!(
            (choice.image.as_str(), choice.fidelity, choice.reason),
            ("emulator", Fidelity::Product, None)
        );
    }
    assert!(!matrix.cells()[2].levels[1].system.is_emulator());
}

#[test]
fn systems_without_versions_are_listed_with_what_serves_them() {
    let matrix = matrix(&[NO_VERSIONS]);
    let filter = Filter::parse(&["*/rhel-9".into()]).unwrap();
    let listing = Listing::new(&matrix, &filter, &supply(), Denied::default());
    insta::assert_snapshot!(report::listing(&listing, &Style::plain()));
    insta::assert_snapshot!(serde_json::to_string_pretty(listing.rows()).unwrap());
}

#[test]
fn a_scenario_that_takes_no_stand_ins_says_why_wherever_a_cell_of_it_is_shown() {
    let axes = "l0 = [\"rhel 9\", \"qemu-tcg\"]\nl1 = [\"rhel 9.2\", \"debian 12\"]";
    let denies = format!("deny-stand-ins = \" it is about minor versions \"[axes]{axes}");
    let matrix = matrix(&[&denies, axes]);
    assert_eq!(matrix.scenarios()[0].deny_stand_ins.as_deref(), Some("it is about minor versions"));
    let listing = Listing::new(&matrix, &Filter::parse(&[]).unwrap(), &supply(), Denied::default());
    insta::assert_snapshot!(report::listing(&listing, &Style::plain()));
    let row = serde_json::to_value(&listing.rows()[0]).unwrap();
    assert_eq!(row["deny-stand-ins"], "it is about minor versions");
    assert!(
        row["missing"][0]
            .as_str()
            .unwrap()
            .contains("which the scenario denies (it is about minor versions)")
    );
    let runs = |rows: &[Row]| rows.iter().filter(|row| row.missing.is_empty()).count();
    // There is no stand-in if the emulator runs exactly the required system.
    assert_eq!((runs(&listing.rows()[..4]), runs(&listing.rows()[4..])), (1, 4));
    let denied_by_both = Listing::new(
        &matrix,
        &Filter::parse(&["s1/*".into()]).unwrap(),
        &supply(),
        Denied { stand_ins: true, rebuilds: true },
    );
    assert_eq!(
        denied_by_both.rows(),
        &listing.rows()[..4],
        "the scenario's reason also holds without the user's wish"
    );
}

#[test]
fn points_of_and_later_are_cells_of_their_own_with_the_claims_of_their_value() {
    let l1 = "{ system = \"rhel 9.2 and later\", claims = [\"later\"], try = [\"9.2\", \"9.10\"] }";
    let l2 = "{ system = \"windows 10 and later with hyper-v\", try = [\"11\"] }";
    let matrix = matrix(&[&format!("l0 = [\"rhel 9\"]\nl1 = [\"rhel 9.0\", {l1}]\nl2 = [{l2}]")]);
    assert_eq!(
        names(&matrix),
        [
            "s1/amd/rhel-9/rhel-9.0/windows-11_hyper-v",
            "s1/amd/rhel-9/rhel-9.2/windows-11_hyper-v",
            "s1/amd/rhel-9/rhel-9.10/windows-11_hyper-v"
        ]
    );
    let claims: Vec<_> = matrix.cells().iter().map(|cell| cell.claims.join(" ")).collect();
    assert_eq!(claims, ["works", "works later", "works later"]);
    let system = &matrix.cells()[1].levels[1].system;
    assert_eq!((system.to_string().as_str(), system.and_later), ("RHEL 9.2", None));
    assert!(system.satisfied_by("rhel", &"9.2".parse().unwrap()));
    assert!(!system.satisfied_by("rhel", &"9.3".parse().unwrap()));
}

#[test]
fn each_architecture_has_its_own_table_and_shows_what_is_missing() {
    let axes = "l0 = [\"rhel 9.2 and later\"]\nl1 = [\"windows 10 and later with hyper-v\", \"rhel 9\"]\n";
    let matrix = of_architectures("\"power9\", \"amd\"", &[axes]);
    let listing = Listing::new(&matrix, &Filter::parse(&[]).unwrap(), &supply(), Denied::default());
    insta::assert_snapshot!(report::listing(&listing, &Style::plain()));
}
