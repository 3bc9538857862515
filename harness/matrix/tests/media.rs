//! The user's media in plans and lists: which levels boot them, why others don't, and which cells they turn real. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod one_scenario;
mod user_media;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nestmatrix::media::{Documented, MediumRow};
use nestmatrix::report::{self, ImageListing, Listing, Style, images, listing, media, plan};
use nestmatrix::run::{Fate, MetalChoice, NativeMetals, PlanOptions, RunPlan, supply};
use nestmatrix::scenario::{Denied, Filter, Matrix};
use nestmatrix_images::Catalog;
use nestmatrix_model::Isa;
use nestmatrix_stack::Metal;
use rstest::rstest;
use user_media::User;

const SYSTEMS: &str = "[[system]]\nid = \"rhel\"\nname = \"RHEL\"\n[[system]]\nid = \"debian\"\nname = \"Debian\"\n\
                       [[stand-in]]\nfor = \"rhel 9\"\nimage = \"debian-12\"\nreason = \"r\"\n";

const THREE_LEVELS: &str = "l0 = [\"rhel 9\"]\nl1 = [\"rhel 9\"]\nl2 = [\"rhel 9\"]\n";

/// One cell for AMD, with these levels.
fn matrix(levels: &str) -> Matrix {
    let axes = format!("architecture = [\"amd\"]\n{levels}");
    Matrix::load(one_scenario::folder(Some(SYSTEMS), &axes).path()).unwrap()
}

fn project() -> Matrix {
    Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap()
}

fn plan_of(matrix: &Matrix, catalog: &Catalog, denied: Denied) -> RunPlan {
    let options = PlanOptions { metal: MetalChoice::Emulated, denied, ..PlanOptions::default() };
    RunPlan::new(matrix.cells().to_vec(), matrix, catalog, &NativeMetals::new(), &options)
}

/// The images of the first cell's levels, or why it is skipped.
fn fate(matrix: &Matrix, catalog: &Catalog, denied: Denied) -> String {
    match &plan_of(matrix, catalog, denied).cells[0].fate {
        Fate::Boots { levels, .. } => {
            levels.iter().map(|level| level.choice.image.clone()).collect::<Vec<_>>().join(" ")
        }
        Fate::Skipped(reasons) => {
            reasons.iter().map(|reason| reason.without_levels()).collect::<Vec<_>>().join("; ")
        }
    }
}

#[test]
fn a_disk_whose_recipe_needs_a_tpm_gets_an_swtpm() {
    let user = User::new();
    user.add_medium("rhel-9.4", Isa::Amd64);
    let bus = "bus = \"virtio\"\n";
    let with_tpm = user.catalog_with("enterprise-linux-9-disk-amd64", bus, &format!("{bus}tpm = \"2.0\"\n"));
    for (catalog, number) in [(user.catalog(), 0), (with_tpm, 1)] {
        let plan = plan_of(&matrix(THREE_LEVELS), &catalog, Denied::default());
        let images = plan.images();
        assert!(images.iter().any(|(recipe, _)| recipe == "rhel-9.4-disk-amd64"), "{images:?}");
        assert_eq!(images.iter().filter(|(recipe, _)| recipe == "swtpm-amd64").count(), number);
    }
}

/// A disk of POWER that needs a TPM.
const POWER_DISK: &str = "name = \"debian-12-disk-ppc64el\"\narchitecture = \"ppc64el\"\n[template]\nsystems = [\"debian\"]\n\
                          [disk]\nfirmware = \"default\"\nmemory-mib = 512\ncpus = 1\nbus = \"virtio\"\ntpm = \"2.0\"\n\
                          command-channel = \"agent\"\nqemu = \"/usr/bin/qemu-system-ppc64\"\nprepared = true\n";

#[test]
fn a_disk_that_needs_a_tpm_is_skipped_where_qemu_has_none() {
    let user = User::new();
    user.add_medium("debian-12", Isa::Ppc64el);
    let catalog = user.catalog_and("debian-12-disk-ppc64el", POWER_DISK);
    let fate_of = |level: &str, levels: &str| {
        let axes = format!("architecture = [\"power9\"]\n{levels}[levels.{level}]\nboots = \"disk\"\n");
        let folder = one_scenario::folder(Some(SYSTEMS), &axes);
        fate(&Matrix::load(folder.path()).unwrap(), &catalog, Denied::default())
    };
    let levels = "l0 = [\"debian 12\"]\nl1 = [\"debian 12\"]\n";
    let skipped = fate_of("l0", levels);
    assert!(skipped.starts_with("needs a TPM in L0: QEMU has none for IBM POWER9, since "), "{skipped}");
    let in_l1 = fate_of("l1", levels);
    assert!(!in_l1.contains("needs a TPM"), "a guest can have one: {in_l1}");
}

const NO_STAND_INS: Denied = Denied { rebuilds: false, stand_ins: true };
const OF_NO_SOURCE: &str = "no image of RHEL 9 that can run guests: rhel-9.4-disk can only be the innermost level: there is no \
                            source rhel-9.4 of QEMU's packages, and only preparation shows whether QEMU is on the disk (`cargo \
                            xtask sources add rhel-9.4 --dvd FILE`)";

#[rstest]
#[case::boots_as_the_innermost(THREE_LEVELS, false, Denied::default(), "debian-12 debian-12 rhel-9.4-disk")]
#[case::can_not_host(THREE_LEVELS, false, NO_STAND_INS, OF_NO_SOURCE)]
#[case::can_not_host_though_asked_for(
    "l0 = [\"debian 12\"]\nl1 = [\"rhel 9\"]\nl2 = [\"rhel 9\"]\n[levels.l1]\nboots = \"disk\"\n",
    false,
    Denied::default(),
    OF_NO_SOURCE
)]
#[case::packages_first(THREE_LEVELS, true, NO_STAND_INS, "rhel-9.4 rhel-9.4 rhel-9.4")]
#[case::asked_for(
    "l0 = [\"rhel 9\"]\nl1 = [\"rhel 9\"]\nl2 = [\"rhel 9\"]\n[levels.l1]\nboots = \"disk\"\n[levels.l2]\nboots = \"disk\"\n",
    true,
    NO_STAND_INS,
    "rhel-9.4 rhel-9.4-disk rhel-9.4-disk"
)]
#[case::not_asked_for(
    "l0 = [\"rhel 9\"]\nl1 = [\"rhel 9\"]\nl2 = [\"rhel 9\"]\n[levels.l2]\nboots = \"kernel\"\n",
    false,
    Denied::default(),
    "debian-12 debian-12 debian-12"
)]
#[case::no_disk_of_it(
    "l0 = [\"debian 12\"]\nl1 = [\"debian 12\"]\n[levels.l1]\nboots = \"disk\"\n",
    false,
    Denied::default(),
    "no disk with Debian 12 (`cargo xtask media add` adds disks)"
)]
fn a_level_boots_the_disk_of_a_medium(
    #[case] levels: &str,
    #[case] source: bool,
    #[case] denied: Denied,
    #[case] expected: &str,
) {
    let user = User::new();
    user.add_medium("rhel-9.4", Isa::Amd64);
    if source {
        user.add_source("rhel-9.4");
    }
    assert_eq!(fate(&matrix(levels), &user.catalog(), denied), expected);
}

#[test]
fn a_medium_whose_file_is_gone_stops_only_what_needs_it() {
    let user = User::new();
    let file = user.add_medium("rhel-9.4", Isa::Amd64);
    fs::remove_file(&file).unwrap();
    let catalog = user.catalog();
    let any = matrix(THREE_LEVELS);
    assert_eq!(fate(&any, &catalog, Denied::default()), "debian-12 debian-12 debian-12");
    let why = format!("{}: the file does not exist", file.display());
    let disk = matrix("l0 = [\"debian 12\"]\nl1 = [\"rhel 9\"]\n[levels.l1]\nboots = \"disk\"\n");
    let skipped = fate(&disk, &catalog, Denied::default());
    let expected = format!(
        "no image of RHEL 9: the image rhel-9.4-disk needs the medium rhel-9.4, which can't be used: {why}"
    );
    assert!(skipped.starts_with(&expected), "{skipped}");

    let rows = MediumRow::all(&catalog);
    assert!(rows[0].unusable.as_ref().unwrap().starts_with(&why), "{rows:?}");
    // Lists and plans name it although no cell boots it.
    let wide = Style { width: 1000, ..Style::plain() };
    for text in [
        media(&rows, |_| false, &wide),
        images(&ImageListing::new(&any, &Filter::all(), &supply(&catalog), Denied::default(), &rows), &wide),
        plan(&plan_of(&any, &catalog, Denied::default()), 1, true, &wide),
    ] {
        assert!(text.contains(&why), "{text}");
    }
}

#[test]
fn a_file_of_another_size_is_not_used_and_one_of_another_time_is() {
    let user = User::new();
    let file = user.add_medium("rhel-9.4", Isa::Amd64);
    let any = matrix(THREE_LEVELS);
    let written = fs::read(&file).unwrap();
    fs::write(&file, [&written[..], b"more"].concat()).unwrap();
    assert_eq!(fate(&any, &user.catalog(), Denied::default()), "debian-12 debian-12 debian-12");
    let row = &MediumRow::all(&user.catalog())[0];
    assert!(row.describe().contains("it has changed since it was added: it has 8 bytes, not 4"), "{row:?}");
    fs::write(&file, &written).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
    assert_eq!(fate(&any, &user.catalog(), Denied::default()), "debian-12 debian-12 rhel-9.4-disk");
    let planned = plan(&plan_of(&any, &user.catalog(), Denied::default()), 1, true, &Style::plain());
    assert!(planned.contains("media       rhel-9.4 is prepared first, which takes minutes\n"), "{planned}");
    let row = &MediumRow::all(&user.catalog())[0];
    assert!(row.describe().contains("(`cargo xtask media check rhel-9.4` does it now)"), "{row:?}");
}

#[test]
fn a_medium_that_no_recipe_serves_is_named() {
    let user = User::new();
    user.add_medium("rhel-7.9", Isa::Amd64);
    user.add_medium("rhel-9.4", Isa::S390x);
    let rows = MediumRow::all(&user.catalog());
    let described: Vec<String> = rows.iter().map(MediumRow::describe).collect();
    assert_eq!(
        described,
        [
            "medium rhel-7.9; can't be used: no recipe serves its system for amd64",
            "medium rhel-9.4; can't be used: no recipe serves its system for s390x"
        ]
    );
    let text = media(&rows, |_| false, &Style::plain());
    assert!(text.starts_with("disks:\n  rhel-7.9-disk: medium rhel-7.9; can't be used"), "{text}");
}

/// With media and sources of every system, every level that a plan gives to emulated metal boots the image that `list` shows.
#[test]
fn a_list_shows_what_emulated_metal_boots() {
    let user = User::new();
    for name in ["rhel-9.4", "rhel-10.0", "rhel-8.10", "debian-12"] {
        user.add_medium(name, Isa::Amd64);
    }
    user.add_source("rhel-10.0");
    let (catalog, matrix) = (user.catalog(), project());
    let plan = plan_of(&matrix, &catalog, Denied::default());
    let listed = Listing::new(&matrix, &Filter::all(), &supply(&catalog), Denied::default());
    let (mut disks, mut metals) = (0, BTreeMap::<Metal, usize>::new());
    for (planned, row) in plan.cells.iter().zip(listed.rows()) {
        let Fate::Boots { metal, levels } = &planned.fate else { continue };
        *metals.entry(*metal).or_default() += 1;
        let booted: Vec<&str> = levels.iter().map(|level| level.choice.image.as_str()).collect();
        let shown: Vec<&str> = row.levels.values().map(|level| level.image.as_deref().unwrap()).collect();
        assert_eq!(booted, shown, "{}", row.cell);
        disks += booted.iter().filter(|image| image.ends_with("-disk")).count();
    }
    assert!(disks > 10 && metals[&Metal::Emulated] > 90, "{disks} {metals:?}");
}

#[test]
fn lists_say_which_cells_media_and_sources_turn_real() {
    let user = User::new();
    let matrix = project();
    let filter =
        Filter::parse(&["rhel-10-preview/amd/*".to_owned(), "rhel-10-installed-systems/amd/*".to_owned()])
            .unwrap();
    let list = |catalog: &Catalog| Listing::new(&matrix, &filter, &supply(catalog), Denied::default());
    let documented = || {
        let catalog = user.catalog();
        let documented = report::documented(&catalog, list);
        let planned = Documented::of_plans(&catalog, |catalog| {
            let mut plan = plan_of(&matrix, catalog, Denied::default());
            plan.cells.retain(|planned| filter.matches(&planned.cell.name));
            plan
        });
        assert_eq!(documented, planned);
        documented.to_string()
    };
    assert_eq!(documented(), "");
    user.add_medium("rhel-10.0", Isa::Amd64);
    let medium_alone = documented();
    user.add_source("rhel-10.0");
    let both = documented();
    let rows = MediumRow::all(&user.catalog());
    let all = images(
        &ImageListing::new(&matrix, &filter, &supply(&user.catalog()), Denied::default(), &rows),
        &Style::plain(),
    );
    let text = listing(&list(&user.catalog()), &Style::plain());
    insta::assert_snapshot!(format!(
        "the medium alone:\n{medium_alone}\nand a source:\n{both}\n{all}\n{}",
        text.lines().filter(|line| line.contains("-disk")).collect::<Vec<_>>().join("\n")
    ));
}
