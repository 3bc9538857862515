//! Whatever the files contain, loading them returns a matrix or a report and never panics, and no accepted scenario makes a
//! cell whose name is not a safe relative path.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod matrix_folder;

use std::path::{Component, Path};

use miette::NarratableReportHandler;
use nestmatrix::scenario::{Cell, Filter, InputErrors, Later, Matrix, SystemRequirement};
use nestmatrix_model::Version;
use proptest::prelude::*;

const SYSTEMS: &str = "[[system]]\nid = \"rhel\"\nname = \"RHEL\"\n[[stand-in]]\nfor = \"rhel 9\"\nimage = \"a\"\nreason = \"b\"\n";
const DOCUMENT: &str = "id = \"d\"\ntitle = \"t\"\nproduct = \"p\"\nsection = \"1\"\nlanguage = \"en\"\n[[claim]]\nid = \"c\"\nsection = \"1\"\ntier = \"supported\"\ntext = \"t\"\n";
const SCENARIO: &str = "name = \"s\"\ntitle = \"t\"\ndocument = \"d\"\nclaims = [\"c\"]\ntier = \"untested\"\n[axes]\narchitecture = [\"amd\"]\nl0 = [\"rhel 9.2 and later\"]\nl1 = [\"rhel 9\"]\nl2 = [\"rhel 9.2\"]\n[levels.l1]\ncpu = { mode = \"custom\", model = \"EPYC\", require = [\"svm\"] }\nmemory-mib = 512\n[expect]\noutcome = \"stops\"\nfrom = \"l1-launch\"\nsymptom = [\"svm\", \"vmx\"]\n[expect.known-stale]\nsince = \"Linux 5.8\"\nseen = \"2026-11-22\"\nnote = \"n\"\n[[fault]]\nat = \"l2-boot\"\ndo = \"kill-qemu\"\nlevel = \"l1\"\n";

const PROFILES: &str = "[[profile]]\nname = \"p\"\ntitle = \"t\"\ndefault = true\ncells = [\"*\", \"?*/{amd,*}/*\"]\nexcept = [\"*/amd/*\"]\n";

/// Loads a matrix of these three files. A report of errors must also be printable.
fn load(systems: &[u8], document: &[u8], scenario: &[u8]) -> Result<Matrix, InputErrors> {
    load_with_profiles(systems, document, scenario, PROFILES.as_bytes())
}

fn load_with_profiles(
    systems: &[u8],
    document: &[u8],
    scenario: &[u8],
    profiles: &[u8],
) -> Result<Matrix, InputErrors> {
    let folder = matrix_folder::with_files([
        ("systems.toml", systems),
        ("documents/d.toml", document),
        ("product/s.toml", scenario),
        ("profiles.toml", profiles),
    ]);
    Matrix::load(folder.path()).inspect_err(|errors| {
        assert!(!errors.errors().is_empty());
        let mut report = String::new();
        NarratableReportHandler::new().render_report(&mut report, errors).unwrap();
    })
}

fn assert_names_are_safe(matrix: &Matrix) {
    for cell in matrix.cells() {
        let name = cell.name.as_str();
        assert!(Path::new(name).components().all(|part| matches!(part, Component::Normal(_))), "{name}");
        for part in name.split('/') {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".._+-".contains(c);
            assert!(part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()), "{name}");
            assert!(part.chars().all(inner) && !part.contains("..") && part.len() <= 100, "{name}");
        }
        assert_eq!(name.split('/').count(), 2 + cell.levels.len());
        assert_eq!(name.parse().ok().as_ref(), Some(&cell.name));
    }
}

/// `text` with some of its bytes replaced by others.
fn damaged(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..6),
        4 => "[\"\\[\\]{}=.\\-0-9a-zé\n]{0,3}".prop_map(String::into_bytes),
    ];
    proptest::collection::vec((0..text.len(), 0..4_usize, piece), 1..3).prop_map(move |edits| {
        let mut bytes = text.as_bytes().to_vec();
        for (start, length, piece) in edits {
            let start = start.min(bytes.len());
            let end = (start + length).min(bytes.len());
            bytes.splice(start..end, piece);
        }
        bytes
    })
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

/// Names that are often valid, and otherwise of any kind.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![6 => "[a-z0-9][a-z0-9]{0,3}(-[a-z0-9]{1,3}){0,2}", 2 => "[a-z0-9][a-z0-9._+-]{0,8}", 1 => "[./a-z]{0,4}", 1 => "\\PC{0,8}", 1 => "[a-z]{60,110}"]
}

/// Versions so close to each other that every relation between two of them occurs.
fn version() -> impl Strategy<Value = Version> {
    (8..12_u32, proptest::option::of(0..4_u32)).prop_map(|(major, minor)| Version { major, minor })
}

fn later() -> impl Strategy<Value = Option<Later>> {
    proptest::option::of(prop_oneof![Just(Later::MajorVersion), Just(Later::Always)])
}

/// The requirement that an axis reads from its text.
fn requirement(version: Version, later: Option<Later>) -> SystemRequirement {
    let end = later.unwrap_or(Later::MajorVersion);
    let systems = format!("[[system]]\nid = \"s\"\nname = \"S\"\nlater = \"{end}\"\n");
    let text = format!("s {version}{}", if later.is_some() { " and later" } else { "" });
    let scenario = format!(
        "name = \"s\"\ntitle = \"t\"\ndocument = \"d\"\nclaims = [\"c\"]\ntier = \"untested\"\n[axes]\n\
         architecture = [\"amd\"]\nl0 = [\"{text}\"]\nl1 = [\"s 1\"]\nl2 = [\"s 1\"]\n"
    );
    let matrix = load(systems.as_bytes(), DOCUMENT.as_bytes(), scenario.as_bytes()).unwrap();
    matrix.cells()[0].levels[0].system.clone()
}

/// A scenario of two levels with these values on their axes.
fn two_levels(l0: &str, l1: &str) -> String {
    format!(
        "name = \"s\"\ntitle = \"t\"\ndocument = \"d\"\nclaims = [\"c\"]\ntier = \"untested\"\n[axes]\n\
         architecture = [\"amd\"]\nl0 = [{l0}]\nl1 = [{l1}]\n"
    )
}

#[test]
fn the_files_that_are_damaged_below_are_good() {
    let matrix = load(SYSTEMS.as_bytes(), DOCUMENT.as_bytes(), SCENARIO.as_bytes()).unwrap();
    assert_eq!(matrix.cells().len(), 1);
    assert_names_are_safe(&matrix);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(load(&bytes, &bytes, &bytes).is_err());
    }

    #[test]
    fn damaged_files_never_panic(
        systems in damaged(SYSTEMS), document in damaged(DOCUMENT), scenario in damaged(SCENARIO), which in 0..4_usize,
    ) {
        let good = [SYSTEMS, DOCUMENT, SCENARIO].map(str::as_bytes);
        let mut files = good;
        let bad = [systems.as_slice(), document.as_slice(), scenario.as_slice()];
        // Only one of the three, so that the reader gets far into the others; or all of them.
        for (index, file) in files.iter_mut().enumerate().filter(|(index, _)| which == 3 || *index == which) {
            *file = bad[index];
        }
        if let Ok(matrix) = load(files[0], files[1], files[2]) {
            assert_names_are_safe(&matrix);
        }
    }

    #[test]
    fn damaged_profiles_never_panic(profiles in damaged(PROFILES)) {
        let [systems, document, scenario] = [SYSTEMS, DOCUMENT, SCENARIO].map(str::as_bytes);
        if let Ok(matrix) = load_with_profiles(systems, document, scenario, &profiles) {
            prop_assert!(matrix.profiles().any(|profile| profile.name == matrix.default_profile().name));
        }
    }

    #[test]
    fn every_cell_name_of_an_accepted_scenario_is_a_safe_path(
        scenario in name(), system in name(), major in any::<u32>(), minor in proptest::option::of(any::<u32>()),
        later in any::<bool>(), role in any::<bool>(),
    ) {
        let minor = minor.map(|minor| format!(".{minor}")).unwrap_or_default();
        let later = if later { " and later" } else { "" };
        let role = if role { " with hyper-v" } else { "" };
        let requirement = format!("{system} {major}{minor}{later}{role}");
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let systems = format!("[[system]]\nid = {}\nname = \"S\"\n", quoted(&system));
        let file = format!(
            "name = {}\ntitle = \"t\"\ndocument = \"d\"\nclaims = [\"c\"]\ntier = \"untested\"\n[axes]\n\
             architecture = [\"ibm-z\", \"amd\"]\nl0 = [{r}]\nl1 = [{r}]\nl2 = [{r}]\nl3 = [{r}]\n",
            quoted(&scenario), r = quoted(&requirement),
        );
        if let Ok(matrix) = load(systems.as_bytes(), DOCUMENT.as_bytes(), file.as_bytes()) {
            prop_assert_eq!(matrix.cells().len(), 2);
            assert_names_are_safe(&matrix);
        }
    }

    #[test]
    fn a_requirement_takes_the_versions_from_its_own_to_where_later_ends(
        wanted in version(), version in version(), later in later(),
    ) {
        let requirement = requirement(wanted, later);
        prop_assert!(requirement.satisfied_by("s", &wanted));
        prop_assert!(!requirement.satisfied_by("t", &wanted));
        // If no minor number is required, any will do.
        let from = (wanted.major, wanted.minor.unwrap_or(0));
        let to = match later {
            None => (wanted.major, wanted.minor.unwrap_or(u32::MAX)),
            Some(Later::MajorVersion) => (wanted.major, u32::MAX),
            Some(Later::Always) => (u32::MAX, u32::MAX),
        };
        // A version without a minor number is not known to meet a requirement with one.
        let known = version.minor.is_some() || wanted.minor.is_none() || version.major != wanted.major;
        let within = (from..=to).contains(&(version.major, version.minor.unwrap_or(0)));
        prop_assert_eq!(requirement.satisfied_by("s", &version), known && within);
    }

    #[test]
    fn a_version_is_tried_where_it_is_asked_for_and_is_then_asked_for_alone(
        wanted in version(), points in proptest::collection::btree_set(version(), 1..5), always in any::<bool>(),
    ) {
        let later = if always { Later::Always } else { Later::MajorVersion };
        let whole = requirement(wanted, Some(later));
        let names = points.iter().map(|point| format!("\"{point}\"")).collect::<Vec<_>>().join(", ");
        let value = format!("{{ system = \"s {wanted} and later\", try = [{names}] }}");
        let systems = format!("[[system]]\nid = \"s\"\nname = \"S\"\nlater = \"{later}\"\n");
        let loaded = load(systems.as_bytes(), DOCUMENT.as_bytes(), two_levels(&value, "\"s 1\"").as_bytes());
        let outside = points.iter().filter(|point| !whole.satisfied_by("s", point)).count();
        match loaded {
            Err(errors) => prop_assert_eq!(errors.errors().len(), outside),
            Ok(matrix) => {
                prop_assert_eq!(outside, 0);
                assert_names_are_safe(&matrix);
                let tried: Vec<_> = matrix.cells().iter().map(|cell| cell.levels[0].system.version.unwrap()).collect();
                prop_assert_eq!(tried, points.iter().copied().collect::<Vec<_>>());
                for (cell, point) in matrix.cells().iter().zip(&points) {
                    let system = &cell.levels[0].system;
                    for version in &points {
                        let of_it = version == point || point.minor.is_none() && version.major == point.major;
                        prop_assert_eq!(system.satisfied_by("s", version), of_it);
                    }
                }
            }
        }
    }

    #[test]
    fn a_stack_has_the_levels_of_its_axes_and_a_name_of_as_many_parts(
        depth in 2..5_usize, unversioned in proptest::collection::vec(any::<bool>(), 4), emulator in any::<bool>(),
    ) {
        let systems = format!(
            "{SYSTEMS}\n[[system]]\nid = \"aws\"\nname = \"AWS\"\nversions = \"none\"\n\
             [[system]]\nid = \"tcg\"\nname = \"TCG\"\nhypervisor = \"tcg\"\n"
        );
        let system = |level: usize| match (level, emulator, unversioned[level]) {
            (0, true, _) => "tcg",
            (_, _, true) => "aws",
            (_, _, false) => "rhel 9.2 and later",
        };
        let axes: String = (0..depth).map(|level| format!("l{level} = [\"{}\"]\n", system(level))).collect();
        let scenario = format!(
            "name = \"s\"\ntitle = \"t\"\ndocument = \"d\"\nclaims = [\"c\"]\ntier = \"untested\"\n[axes]\n\
             architecture = [\"amd\"]\n{axes}"
        );
        let matrix = load(systems.as_bytes(), DOCUMENT.as_bytes(), scenario.as_bytes()).unwrap();
        assert_names_are_safe(&matrix);
        let [cell] = matrix.cells() else { panic!("{:?}", matrix.cells()) };
        prop_assert_eq!(cell.levels.len(), depth);
        for (level, spec) in cell.levels.iter().enumerate() {
            prop_assert_eq!(spec.system.version.is_some(), system(level).contains(' '));
            prop_assert_eq!(spec.system.is_emulator(), level == 0 && emulator);
        }
        prop_assert_eq!(cell.stages().last().unwrap().to_string(), format!("l{}-check", depth - 1));
        let json = serde_json::to_string(cell).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Cell>(&json).unwrap(), cell);
    }

    #[test]
    fn the_axes_of_a_scenario_make_each_cell_once_with_the_claims_of_its_values(
        lengths in proptest::collection::vec(1..5_usize, 3), architectures in 1..4_usize,
    ) {
        let claim = |id: &str| format!("[[claim]]\nid = \"{id}\"\nsection = \"1\"\ntier = \"supported\"\ntext = \"t\"\n");
        let values: Vec<Vec<String>> = lengths.iter().enumerate()
            .map(|(level, length)| (0..*length).map(|value| format!("l{level}-{value}")).collect())
            .collect();
        let document: String = values.iter().flatten().map(|id| claim(id)).collect();
        let axis = |(level, values): (usize, &Vec<String>)| {
            let value = |(number, id): (usize, &String)| format!("{{ system = \"rhel 9.{number}\", claims = [\"{id}\"] }}");
            format!("l{level} = [{}]\n", values.iter().enumerate().map(value).collect::<Vec<_>>().join(", "))
        };
        let axes: String = values.iter().enumerate().map(axis).collect();
        let names = ["\"amd\"", "\"intel\"", "\"ibm-z\""][..architectures].join(", ");
        let scenario = format!(
            "name = \"s\"\ntitle = \"t\"\ndocument = \"d\"\ntier = \"untested\"\n[axes]\narchitecture = [{names}]\n{axes}"
        );
        let matrix = load(SYSTEMS.as_bytes(), format!("{DOCUMENT}{document}").as_bytes(), scenario.as_bytes()).unwrap();
        prop_assert_eq!(matrix.cells().len(), architectures * lengths.iter().product::<usize>());
        let mut seen = std::collections::BTreeSet::new();
        for cell in matrix.cells() {
            prop_assert!(seen.insert(cell.name.clone()));
            let of_values = cell.levels.iter().enumerate().map(|(number, level)| {
                format!("l{number}-{}", level.system.version.unwrap().minor.unwrap())
            });
            prop_assert_eq!(&cell.claims, &of_values.collect::<Vec<_>>());
        }
    }

    #[test]
    fn arbitrary_filters_never_panic(glob in "\\PC{0,20}|[{}\\[\\]*?,\\\\!-]{0,40}") {
        if let Ok(filter) = Filter::parse(std::slice::from_ref(&glob)) {
            let name = "s/amd/rhel-9/rhel-9/rhel-9".parse().unwrap();
            let _ = filter.matches(&name);
        }
    }
}
