//! The image that a level boots: the system itself before a rebuild of it, and a rebuild before a stand-in.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod one_scenario;

use nestmatrix::report::{ImageListing, Listing, Style, listing};
use nestmatrix::scenario::{
    Addition, AvailableImage, Denied, Filter, ImageChoice, Matrix, MissingImage, Permitted, StandIns, Supply,
    SystemRequirement,
};
use nestmatrix_model::{Architecture, BootKind, Fidelity, Version, Word as _};
use nestmatrix_stack::Metal;
use proptest::prelude::*;
use rstest::rstest;

const SYSTEMS: &str = r#"
[[system]]
id = "almalinux"
name = "AlmaLinux"
rebuild-of = "rhel"

[[system]]
id = "rhel"
name = "RHEL"

[[system]]
id = "rocky"
name = "Rocky Linux"
rebuild-of = "rhel"

[[system]]
id = "debian"
name = "Debian"

[[stand-in]]
for = "rhel 9"
image = "centos-stream-9"
reason = "what the next minor version is made of"

[[stand-in]]
for = "rhel 9"
image = "debian-12"
reason = "near enough for a test"

[[stand-in]]
for = "rhel 9.6"
image = "oracle-9.6"
reason = "of this minor version, with another kernel"

[[stand-in]]
for = "rhel 9.5"
image = "oracle-9.5"
reason = "of this minor version, with another kernel"
"#;

/// A matrix with this requirement of L0.
fn matrix(l0: &str) -> Matrix {
    let axes = format!("architecture = [\"amd\"]\nl0 = [\"{l0}\"]\nl1 = [\"debian 12\"]\n");
    Matrix::load(one_scenario::folder(Some(SYSTEMS), &axes).path()).unwrap()
}

fn requirement(matrix: &Matrix) -> &SystemRequirement {
    &matrix.cells()[0].levels[0].system
}

/// Images of these names, each of the system and version in it.
fn images(names: &[&str]) -> Vec<AvailableImage> {
    let image = |name: &&str| {
        let (system, version) = name.rsplit_once('-').unwrap();
        AvailableImage {
            name: (*name).into(),
            system: system.into(),
            version: version.parse().unwrap(),
            boots: BootKind::Kernel,
            additions: Addition::ALL.to_vec(),
            roles: Vec::new(),
            innermost_only: None,
        }
    };
    names.iter().map(image).collect()
}

fn choose(l0: &str, available: &[&str], permitted: Permitted<'_>) -> Result<ImageChoice, Box<MissingImage>> {
    let matrix = matrix(l0);
    matrix.image_for(requirement(&matrix), Architecture::Amd, &images(available), permitted).map_err(Box::new)
}

const NO_REBUILDS: Permitted<'_> = Permitted { rebuilds: false, ..Permitted::ALL };
const NO_STAND_INS: Permitted<'_> = Permitted { stand_ins: StandIns::DeniedByUser, ..Permitted::ALL };
const PRODUCTS: Permitted<'_> = Permitted { rebuilds: false, ..NO_STAND_INS };
const UNFIT: Permitted<'_> =
    Permitted { stand_ins: StandIns::DeniedByScenario("the reason"), ..Permitted::ALL };

#[rstest]
#[case::product("rhel 9.4", &["almalinux-9.4", "debian-12", "rhel-9.4"], "rhel-9.4", Fidelity::Product)]
#[case::later_product("rhel 9.2 and later", &["almalinux-9.2", "rhel-9.10", "rhel-9.6"], "rhel-9.6", Fidelity::Product)]
#[case::rebuild("rhel 9.4", &["debian-12", "rocky-9.4", "rhel-9.5"], "rocky-9.4", Fidelity::Rebuild)]
#[case::first_of_two("rhel 9.4", &["rocky-9.4", "almalinux-9.4"], "almalinux-9.4", Fidelity::Rebuild)]
#[case::nearest_rebuild("rhel 9.2 and later", &["almalinux-9.10", "rocky-9.4"], "rocky-9.4", Fidelity::Rebuild)]
#[case::of_any_minor("rhel 9", &["almalinux-9.4"], "almalinux-9.4", Fidelity::Rebuild)]
#[case::of_no_minor("rhel 9", &["almalinux-9"], "almalinux-9", Fidelity::Rebuild)]
#[case::unknown_minor("rhel 9.4", &["almalinux-9", "debian-12"], "debian-12", Fidelity::StandIn)]
#[case::other_minor("rhel 9.4", &["almalinux-9.3", "almalinux-9.5", "debian-12"], "debian-12", Fidelity::StandIn)]
#[case::other_major("rhel 9.4 and later", &["almalinux-10.4", "debian-12"], "debian-12", Fidelity::StandIn)]
#[case::first_stand_in("rhel 9.4", &["debian-12", "centos-stream-9"], "centos-stream-9", Fidelity::StandIn)]
#[case::exact_minor("rhel 9.5", &["centos-stream-9", "oracle-9.5", "oracle-9.6"], "oracle-9.5", Fidelity::StandIn)]
#[case::nearest_minor("rhel 9.2 and later", &["centos-stream-9", "oracle-9.6", "oracle-9.5"], "oracle-9.5", Fidelity::StandIn)]
#[case::exact_minor_and_rebuild("rhel 9.5", &["oracle-9.5", "rocky-9.5"], "rocky-9.5", Fidelity::Rebuild)]
#[case::minor_of_any("rhel 9", &["debian-12", "oracle-9.6"], "oracle-9.6", Fidelity::StandIn)]
#[case::stand_in_for_another_minor("rhel 9.4", &["oracle-9.5", "debian-12"], "debian-12", Fidelity::StandIn)]
#[case::not_the_other_way_round("almalinux 9.4", &["almalinux-9.4"], "almalinux-9.4", Fidelity::Product)]
fn the_nearest_image_is_booted(
    #[case] l0: &str,
    #[case] available: &[&str],
    #[case] image: &str,
    #[case] fidelity: Fidelity,
) {
    let choice = choose(l0, available, Permitted::ALL).unwrap();
    assert_eq!((choice.image.as_str(), choice.fidelity), (image, fidelity));
    let version = image.rsplit_once('-').unwrap().1;
    match fidelity {
        Fidelity::Product => assert_eq!(choice.reason, None),
        Fidelity::Rebuild => assert_eq!(choice.reason, Some(format!("a rebuild of RHEL {version}"))),
        Fidelity::StandIn => assert!(choice.reason.is_some_and(|reason| !reason.is_empty())),
    }
}

#[rstest]
#[case::the_original(&["rhel-9.4"], "no image of AlmaLinux 9.4, and no stand-in")]
#[case::a_sibling(&["rocky-9.4"], "no image of AlmaLinux 9.4, and no stand-in")]
fn a_rebuild_is_served_by_itself_alone(#[case] available: &[&str], #[case] missing: &str) {
    let error = choose("almalinux 9.4", available, Permitted::ALL).unwrap_err();
    assert_eq!(error.to_string(), missing);
}

#[rstest]
#[case::no_rebuilds(NO_REBUILDS, Ok("debian-12"))]
#[case::no_stand_ins(NO_STAND_INS, Ok("almalinux-9.4"))]
#[case::unfit(UNFIT, Ok("almalinux-9.4"))]
#[case::neither(
    PRODUCTS,
    Err(
        "only the rebuild almalinux-9.4, which --deny-rebuilds forbids, and the stand-in debian-12, which --deny-stand-ins forbids"
    )
)]
#[case::no_rebuilds_and_unfit(
    Permitted { rebuilds: false, ..UNFIT },
    Err("only the rebuild almalinux-9.4, which --deny-rebuilds forbids")
)]
fn what_is_denied_is_not_booted_and_is_named(
    #[case] permitted: Permitted<'_>,
    #[case] expected: Result<&str, &str>,
) {
    let choice = choose("rhel 9.4", &["debian-12", "almalinux-9.4"], permitted);
    let choice = choice.map(|choice| choice.image).map_err(|missing| missing.to_string());
    let expected = expected.map(str::to_owned).map_err(|why| format!("no image of RHEL 9.4: {why}"));
    assert_eq!(choice, expected);
    let missing = choose("rhel 9.4", &["almalinux-9.4"], PRODUCTS).unwrap_err();
    let json = serde_json::to_value(&missing).unwrap();
    assert_eq!(json["missing"], "rebuild-denied");
    assert_eq!(serde_json::from_value::<MissingImage>(json).unwrap(), *missing);
    assert_eq!(
        missing.to_string(),
        "no image of RHEL 9.4: only the rebuild almalinux-9.4, which --deny-rebuilds forbids"
    );
}

#[test]
fn what_can_not_be_built_is_replaced_by_the_next_best_image() {
    let matrix = matrix("rhel 9.2 and later");
    let (requirement, amd) = (requirement(&matrix), Architecture::Amd);
    let names =
        ["debian-12", "rocky-9.4", "rhel-9.6", "centos-stream-9", "almalinux-9.2", "rhel-9.4", "debian-13"];
    let available = images(&names);
    let others = |permitted| {
        let chosen = matrix.image_for(requirement, amd, &available, permitted).unwrap();
        let others = matrix.other_images(requirement, amd, &available, permitted, &chosen);
        let names = std::iter::once(chosen).chain(others).map(|choice| choice.image);
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(others(Permitted::ALL), "rhel-9.4 rhel-9.6 almalinux-9.2 rocky-9.4 centos-stream-9 debian-12");
    assert_eq!(others(NO_REBUILDS), "rhel-9.4 rhel-9.6 centos-stream-9 debian-12");
    assert_eq!(others(UNFIT), "rhel-9.4 rhel-9.6 almalinux-9.2 rocky-9.4");
    assert_eq!(others(PRODUCTS), "rhel-9.4 rhel-9.6");
}

#[test]
fn a_listing_marks_rebuilds_and_stand_ins_and_explains_both() {
    let axes = "architecture = [\"amd\"]\nl0 = [\"rhel 9.2 and later\", \"rhel 9.4\"]\nl1 = [\"rhel 9.4\", \"rhel 9.6\"]\n";
    let matrix = Matrix::load(one_scenario::folder(Some(SYSTEMS), axes).path()).unwrap();
    let supply = Supply::new(|_| images(&["almalinux-9.4", "debian-12"]));
    let list = |denied| {
        let listed = Listing::new(&matrix, &Filter::all(), &supply, denied);
        listing(&listed, &Style::plain())
    };
    insta::assert_snapshot!(list(Denied::default()));
    let denied = list(Denied { rebuilds: true, stand_ins: false });
    assert!(!denied.contains('~') && denied.contains("debian-12*"), "{denied}");
}

fn image_listing(names: &[&str], denied: Denied) -> ImageListing {
    let axes = "architecture = [\"amd\", \"intel\"]\nl0 = [\"rhel 9.2 and later\"]\nl1 = [\"rhel 9.4\", \"rhel 9.6\", \"debian 13\"]\n";
    let matrix = Matrix::load(one_scenario::folder(Some(SYSTEMS), axes).path()).unwrap();
    let supply = Supply::new(|architecture| match architecture {
        Architecture::Amd => images(names),
        Architecture::Intel => images(&["debian-12"]),
        _ => Vec::new(),
    });
    ImageListing::new(&matrix, &Filter::all(), &supply, denied, &[])
}

#[test]
fn each_image_that_is_more_than_a_stand_in_is_listed_with_the_cells_that_it_makes_real() {
    let names = ["rhel-9.4", "almalinux-9.6", "debian-12", "rocky-8.10", "centos-stream-9"];
    let listing = image_listing(&names, Denied::default());
    insta::assert_snapshot!(nestmatrix::report::images(&listing, &Style::plain()));
    insta::assert_snapshot!(serde_json::to_string_pretty(listing.rows()).unwrap());
    let denied = image_listing(&names, Denied { rebuilds: true, stand_ins: false });
    assert!(denied.rows().iter().all(|row| row.fidelity != Some(Fidelity::Rebuild)), "{denied:#?}");
    let text = nestmatrix::report::images(&denied, &Style::plain());
    let both = "rhel-9.4: 1 cell without a stand-in, and 1 with a stand-in (*) at another level\n  s/amd/rhel-9.2+/rhel-9.4\n";
    assert!(text.contains(both), "{text}");
}

#[test]
fn a_list_of_stand_ins_alone_says_so() {
    let listing = image_listing(&["debian-12", "centos-stream-9"], Denied::default());
    assert_eq!(
        nestmatrix::report::images(&listing, &Style::plain()),
        "no image is a product or a rebuild\n\n\
         6 cells: 0 on the documented systems, 0 also on rebuilds (~), 4 also on stand-ins (*), 2 skipped\n"
    );
}

/// How near an image is to RHEL of this version, as the documentation puts it, and its version, which is higher than all others if it
/// does not count.
fn rank(wanted: Version, and_later: bool, image: &AvailableImage) -> Option<(Fidelity, Version)> {
    let minor = |of: Version| {
        wanted
            .minor
            .is_none_or(|first| of.minor.is_some_and(|minor| minor == first || and_later && minor > first))
    };
    let fits = image.version.major == wanted.major && minor(image.version);
    match image.system.as_str() {
        "rhel" if fits => Some((Fidelity::Product, image.version)),
        "almalinux" | "rocky" if fits => Some((Fidelity::Rebuild, image.version)),
        "oracle" if fits && wanted.major == 9 && [Some(5), Some(6)].contains(&image.version.minor) => {
            Some((Fidelity::StandIn, image.version))
        }
        _ if ["centos-stream-9", "debian-12"].contains(&image.name.as_str()) && wanted.major == 9 => {
            Some((Fidelity::StandIn, Version { major: u32::MAX, minor: None }))
        }
        _ => None,
    }
}

proptest! {
    #[test]
    fn no_permitted_image_is_nearer_than_the_chosen_one(
        available in prop::collection::vec(
            (prop::sample::select(vec!["rhel", "almalinux", "rocky", "debian", "centos-stream", "oracle"]), 8u32..13, prop::option::of(3u32..7)),
            0..8,
        ),
        (major, minor, and_later) in (8u32..10, prop::option::of(3u32..7), any::<bool>()),
        (rebuilds, stand_ins) in (any::<bool>(), prop::sample::select(vec![
            StandIns::Allowed, StandIns::DeniedByUser, StandIns::DeniedByScenario("the reason"),
        ])),
    ) {
        let version = Version { major, minor };
        let later = if and_later { " and later" } else { "" };
        let matrix = matrix(&format!("rhel {version}{later}"));
        let names: Vec<String> = available.iter().map(|(system, major, minor)| {
            format!("{system}-{}", Version { major: *major, minor: *minor })
        }).collect();
        let available = images(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let permitted = Permitted { rebuilds, stand_ins };
        let is_permitted = |fidelity| match fidelity {
            Fidelity::Product => true,
            Fidelity::Rebuild => rebuilds,
            Fidelity::StandIn => stand_ins == StandIns::Allowed,
        };
        let ranks = available.iter().filter_map(|image| rank(version, and_later, image));
        let best = ranks.filter(|(fidelity, _)| is_permitted(*fidelity)).min();
        let chosen = matrix.image_for(requirement(&matrix), Architecture::Amd, &available, permitted);
        prop_assert_eq!(chosen.is_ok(), best.is_some());
        if let (Ok(chosen), Some(best)) = (chosen, best) {
            let image = available.iter().find(|image| image.name == chosen.image).unwrap();
            prop_assert_eq!(rank(version, and_later, image), Some(best));
            prop_assert_eq!(chosen.fidelity, best.0);
            prop_assert_eq!(chosen.reason.is_none(), chosen.fidelity == Fidelity::Product);
        }
    }
}

#[rstest]
#[case::a_parameter_of_the_kernel("arm", &["debian-12"])]
#[case::a_parameter_of_the_module("amd", &["debian-12", "debian-12-disk"])]
fn a_level_that_lets_its_guests_host_boots_no_disk_if_the_kernels_command_line_says_so(
    #[case] architecture: &str,
    #[case] expected: &[&str],
) {
    let axes = format!(
        "architecture = [\"{architecture}\"]\nl0 = [\"debian 12\"]\nl1 = [\"debian 12\"]\nl2 = [\"debian 12\"]\n"
    );
    let matrix = Matrix::load(one_scenario::folder(Some(SYSTEMS), &axes).path()).unwrap();
    let supply = Supply::new(|_| {
        let kernel = images(&["debian-12"]).remove(0);
        let disk = AvailableImage { name: "debian-12-disk".into(), boots: BootKind::Disk, ..kernel.clone() };
        vec![kernel, disk]
    });
    let cell = &matrix.cells()[0];
    let names = |level: usize| -> Vec<String> {
        supply
            .fitting(cell, &cell.levels[level], Metal::Emulated)
            .into_iter()
            .map(|image| image.name)
            .collect()
    };
    assert_eq!(names(0), expected);
    assert_eq!(names(1), ["debian-12", "debian-12-disk"], "its guest is the innermost level");
}

/// A matrix whose L1 is launched like this.
fn launched(launch: &str, l0: &str) -> Matrix {
    let axes =
        format!("architecture = [\"amd\"]\nl0 = [\"{l0}\"]\nl1 = [\"debian 12\"]\n[levels.l1]\n{launch}");
    Matrix::load(one_scenario::folder(Some(SYSTEMS), &axes).path()).unwrap()
}

/// The image for L0, or why it is missing. Only Debian's image is available with additions.
fn l0_image(matrix: &Matrix, names: &[&str], stand_ins: StandIns<'_>) -> Result<String, String> {
    let mut images = images(names);
    let others = images.iter_mut().filter(|image| image.system != "debian");
    others.for_each(|image| image.additions.clear());
    let (supply, cell) = (Supply::new(|_| images.clone()), &matrix.cells()[0]);
    let permitted = Permitted { rebuilds: true, stand_ins };
    let chosen = matrix.image_from(&supply, cell, &cell.levels[0], Metal::Emulated, permitted);
    chosen.map(|choice| choice.image).map_err(|missing| missing.to_string())
}

#[test]
fn a_level_whose_libvirt_launches_another_boots_an_image_with_libvirt() {
    let by_libvirt = launched("launch = \"libvirt\"", "rhel 9");
    let image = |names: &[&str]| l0_image(&by_libvirt, names, StandIns::Allowed);
    assert_eq!(image(&["rhel-9.4", "debian-12"]), Ok("debian-12".into()));
    assert_eq!(image(&["rhel-9.4"]), Err("no image of RHEL 9 with libvirt: rhel-9.4 has no libvirt".into()));
    let of_none = "no image of RHEL 9: only the stand-in oracle-9.5, for which there is no recipe";
    assert_eq!(image(&[]), Err(of_none.into()));
    let denied = l0_image(&by_libvirt, &["debian-12"], StandIns::DeniedByUser);
    assert_eq!(
        denied,
        Err("no image of RHEL 9: only the stand-in debian-12, which --deny-stand-ins forbids".into())
    );
    let by_qemu = launched("", "rhel 9");
    assert_eq!(l0_image(&by_qemu, &["rhel-9.4", "debian-12"], StandIns::Allowed), Ok("rhel-9.4".into()));
}

/// The image for L1 with a crash kernel, or why it is missing.
fn l1_image(more: &str, additions: &[Addition]) -> Result<String, String> {
    let axes = format!(
        "architecture = [\"amd\"]\nl0 = [\"debian 12\"]\nl1 = [\"debian 12\"]\nl2 = [\"debian 12\"]\n\
         [levels.l1]\nkdump = true\n{more}"
    );
    let matrix = Matrix::load(one_scenario::folder(Some(SYSTEMS), &axes).path()).unwrap();
    let mut images = images(&["debian-12"]);
    images.iter_mut().for_each(|image| image.additions = additions.to_vec());
    let mut disk = images[0].clone();
    (disk.name, disk.boots) = ("debian-12-disk".into(), BootKind::Disk);
    images.push(disk);
    let (supply, cell) = (Supply::new(|_| images.clone()), &matrix.cells()[0]);
    let chosen = matrix.image_from(&supply, cell, &cell.levels[1], Metal::Native, Permitted::ALL);
    chosen.map(|choice| choice.image).map_err(|missing| missing.to_string())
}

#[test]
fn a_level_with_a_crash_kernel_boots_an_image_with_kexec_and_no_disk() {
    assert_eq!(l1_image("", &[Addition::Kdump]), Ok("debian-12".into()));
    let none = "no image of Debian 12 with kexec: debian-12 has none";
    assert_eq!(l1_image("", &[Addition::Libvirt]), Err(none.into()));
    let both = "no image of Debian 12 with kexec: debian-12 has either that or libvirt";
    let launches = "[levels.l2]\nlaunch = \"libvirt\"";
    assert_eq!(l1_image(launches, Addition::ALL), Err(both.into()));
}

#[test]
fn only_another_launcher_changes_what_a_cell_asks_for() {
    let fingerprint = |launch: &str| {
        let matrix = launched(launch, "debian 12");
        nestmatrix::scenario::Fingerprint::of(&matrix.cells()[0]).to_string()
    };
    assert_eq!(fingerprint(""), fingerprint("launch = \"qemu\""));
    assert_ne!(fingerprint(""), fingerprint("launch = \"libvirt\""));
}
