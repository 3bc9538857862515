//! Plans on a machine that has no package tools, such as a Fedora without apt.

use std::collections::BTreeMap;
use std::path::Path;

use nestmatrix_images::{
    Catalog, HostTool, HostTools, InstalledEmulator, NewSource, Origin, Product, Sources,
};
use nestmatrix_model::{Architecture, Isa, LevelNumber, TpmVersion};
use nestmatrix_stack::Metal;

use super::{
    Fate, MetalChoice, NativeMetal, NativeMetals, PlanOptions, Planned, RunPlan, emulator_source, images_of,
    supply,
};
use crate::one_scenario;
use crate::records::SkipReason;
use crate::scenario::{Matrix, Permitted, Supply};

/// A cell of Debian 12 and 13.
fn matrix() -> Matrix {
    let systems = "[[system]]\nid = \"debian\"\nname = \"Debian\"\n";
    let axes = "architecture = [\"amd\"]\nl0 = [\"debian 12\"]\nl1 = [\"debian 13\"]\n";
    let folder = one_scenario::folder(Some(systems), axes);
    Matrix::load(folder.path()).unwrap()
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

/// The project's recipes on a machine without any package tool, except for these recipes, whose images are in the cache.
fn catalog_without_tools(cached: &[&str]) -> Catalog {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes");
    let catalog = Catalog::load(&recipes).unwrap();
    let mut unbuildable = catalog.unbuildable_with(&HostTools::default());
    unbuildable.retain(|recipe, _| !cached.contains(&recipe.as_str()));
    catalog.with_unbuildable(unbuildable)
}

/// The plan of that cell, with native metal that runs Debian 12 if that is asked for.
fn on_machine(metal: MetalChoice, catalog: &Catalog) -> RunPlan {
    let matrix = matrix();
    let natives =
        NativeMetals::from([(Architecture::Amd, Ok(NativeMetal::named("debian".into(), "12".into())))]);
    let options = PlanOptions { metal, ..PlanOptions::default() };
    RunPlan::new(matrix.cells().to_vec(), &matrix, catalog, &natives, &options)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_cell_whose_images_or_emulator_cant_be_built_is_skipped_with_the_reason() {
    let no_apt = "is made of Debian packages, and this machine has no apt-get";
    let no_image = |version: &str, level: &str| {
        format!("no image of Debian {version}: the image debian-{version} {no_apt} ({level} on amd64)")
    };
    let no_emulator = format!(
        "no qemu-system-x86_64 for emulated metal: none is installed; the image qemu-x86-amd64 {no_apt}"
    );
    let images = ["debian-12-amd64", "debian-13-amd64"];
    for (metal, cached, expected) in [
        (
            MetalChoice::Emulated,
            &[][..],
            vec![no_image("12", "L0"), no_image("13", "L1"), no_emulator.clone()],
        ),
        (MetalChoice::Emulated, &images[..], vec![no_emulator]),
        (MetalChoice::Emulated, &["qemu-x86-amd64", "debian-12-amd64"], vec![no_image("13", "L1")]),
        (MetalChoice::Native, &[], vec![no_image("13", "L1")]),
    ] {
        let plan = on_machine(metal, &catalog_without_tools(cached));
        let (_, reasons) = plan.skipped().next().unwrap();
        assert_eq!(texts(reasons), expected);
    }
    let all = ["qemu-x86-amd64", "debian-12-amd64", "debian-13-amd64"];
    let plan = on_machine(MetalChoice::Emulated, &catalog_without_tools(&all));
    assert_eq!(metals(&plan), [Some(Metal::Emulated)], "what is in the cache needs no tools");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn an_installed_emulator_is_used_if_its_image_cant_be_built() {
    let installed = |found: Result<&str, &str>| {
        let found = found
            .map(|path| InstalledEmulator { path: path.into(), version: "8.2.2 (Debian)".into() })
            .map_err(str::to_owned);
        BTreeMap::from([("qemu-system-x86_64".to_owned(), found)])
    };
    let images = ["debian-12-amd64", "debian-13-amd64"];
    let plan = |cached: &[&str], found| {
        let catalog = catalog_without_tools(cached).with_installed(installed(found));
        let plan = on_machine(MetalChoice::Emulated, &catalog);
        let emulators: Vec<String> = plan.installed_emulators.iter().cloned().collect();
        let images = images_of(&plan, &catalog, false).unwrap();
        (plan, emulators.join(", "), images)
    };
    let (booted, emulators, images_of_it) = plan(&images, Ok("/usr/libexec/qemu-kvm"));
    assert_eq!(metals(&booted), [Some(Metal::Emulated)]);
    assert_eq!(emulators, "qemu-system-x86_64 8.2.2 (Debian), installed as /usr/libexec/qemu-kvm");
    assert!(images_of_it.iter().all(|(_, product)| *product != Product::Emulator), "{images_of_it:?}");

    let cached = ["qemu-x86-amd64", "debian-12-amd64", "debian-13-amd64"];
    let (_, emulators, images_of_it) = plan(&cached, Ok("/usr/libexec/qemu-kvm"));
    assert_eq!(emulators, "", "the image comes first");
    assert!(images_of_it.contains(&("qemu-x86-amd64".to_owned(), Product::Emulator)));

    let (skipped, ..) = plan(&images, Err("/usr/libexec/qemu-kvm can't play a bare q35: no TCG"));
    let (_, reasons) = skipped.skipped().next().unwrap();
    let begin = "no qemu-system-x86_64 for emulated metal: /usr/libexec/qemu-kvm can't play a bare q35: no TCG; the image";
    assert!(texts(reasons)[0].starts_with(begin), "{reasons:?}");
}

#[test]
fn a_level_takes_the_next_best_image_if_the_best_cant_be_built() {
    let systems = "[[system]]\nid = \"rhel\"\nname = \"RHEL\"\n".to_owned()
        + &["11", "12"]
            .map(|version| {
                format!("[[stand-in]]\nfor = \"rhel 8\"\nimage = \"debian-{version}\"\nreason = \"r\"\n")
            })
            .concat();
    let axes = "architecture = [\"amd\"]\nl0 = [\"rhel 8.2\"]\nl1 = [\"rhel 8.2\"]\n";
    let folder = one_scenario::folder(Some(&systems), axes);
    let matrix = Matrix::load(folder.path()).unwrap();
    let one_image = supply(&catalog_without_tools(&["debian-12-amd64"]));
    let (cell, spec) = (&matrix.cells()[0], &matrix.cells()[0].levels[0]);
    let image_from = |supply: &Supply| matrix.image_from(supply, cell, spec, Metal::Emulated, Permitted::ALL);
    let choice = image_from(&one_image).unwrap();
    assert_eq!(choice.image, "debian-12");
    assert!(
        one_image.of(Architecture::Amd, LevelNumber::ALL[0]).iter().all(|image| image.name == "debian-12")
    );
    // Of several images that can't be built, the nearest one is named.
    let none = supply(&catalog_without_tools(&[]));
    let missing = image_from(&none).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "no image of RHEL 8.2: the image debian-11 is made of Debian packages, and this machine has no apt-get"
    );
}

/// The project's recipes with these sources.
fn catalog_with_sources(names: &[&str]) -> Catalog {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "-----BEGIN PGP PUBLIC KEY BLOCK-----\n").unwrap();
    let mut sources = Sources::open(Some(folder.path().join("sources"))).unwrap();
    for name in names {
        let origin = Origin::Urls(vec!["http://a.example".to_owned()]);
        let new =
            NewSource { name: (*name).to_owned(), isa: Some(Isa::Amd64), origin, key: Some(key.clone()) };
        sources.add(&new, &[]).unwrap();
    }
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes");
    Catalog::load(&recipes).unwrap().with_sources(&sources)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_emulator_is_debians_otherwise_that_of_the_latest_fedora_otherwise_the_installed_one() {
    let catalog = catalog_with_sources(&["fedora-42", "fedora-41", "rhel-9.4"]);
    let source = |catalog: &Catalog| {
        let source = emulator_source(catalog, "qemu-system-x86_64").unwrap();
        source.recipe().map(str::to_owned).unwrap_or_else(|| "installed".to_owned())
    };
    assert_eq!(source(&catalog), "qemu-x86-amd64");
    let rpm_tools: HostTools = [HostTool::Dnf, HostTool::RpmKeys].into_iter().collect();
    let installed = InstalledEmulator { path: "/usr/bin/qemu-system-x86_64".into(), version: "9.2.3".into() };
    let with = |tools: &HostTools| {
        let installed = BTreeMap::from([("qemu-system-x86_64".to_owned(), Ok(installed.clone()))]);
        catalog.clone().with_unbuildable(catalog.unbuildable_with(tools)).with_installed(installed)
    };
    assert_eq!(source(&with(&rpm_tools)), "fedora-42-amd64");
    assert_eq!(source(&with(&HostTools::default())), "installed");
}

#[test]
fn an_image_that_is_only_an_emulator_is_no_level() {
    let supply = supply(&catalog_with_sources(&["fedora-42", "rhel-9.4"]));
    let systems: Vec<&str> =
        supply.images(Architecture::Amd).iter().map(|image| image.system.as_str()).collect();
    assert!(systems.contains(&"rhel") && !systems.contains(&"fedora"), "{systems:?}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_tpm_needs_swtpm_on_this_machine_or_in_a_level() {
    let cell = |level: usize| {
        let mut cell = matrix().cells()[0].clone();
        cell.levels[level].settings.hardware.tpm = Some(TpmVersion::V2);
        cell
    };
    let plan = |level, catalog: &Catalog| {
        let natives = NativeMetals::new();
        let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
        RunPlan::new([cell(level)], &matrix(), catalog, &natives, &options)
    };
    let images = ["qemu-x86-amd64", "debian-12-amd64", "debian-13-amd64"];
    let without = catalog_without_tools(&images);
    let no_apt = "the image swtpm-amd64 is made of Debian packages, and this machine has no apt-get";
    for (level, why) in [
        (0, format!("no swtpm for a TPM: none is installed (package swtpm); {no_apt}")),
        (1, format!("no swtpm for levels: {no_apt}")),
    ] {
        let planned = plan(level, &without);
        let (_, reasons) = planned.skipped().next().unwrap();
        assert_eq!(texts(reasons), [why]);
    }
    let swtpm = InstalledEmulator { path: "/usr/bin/swtpm".into(), version: "0.7.1".into() };
    let installed = without.with_installed(BTreeMap::from([("swtpm".to_owned(), Ok(swtpm))]));
    assert_eq!(metals(&plan(0, &installed)), [Some(Metal::Emulated)]);
    assert_eq!(metals(&plan(1, &installed)), [None], "an installed one is not in the level");
    let with = catalog_without_tools(&[&images[..], &["swtpm-amd64"]].concat());
    for level in [0, 1] {
        let planned = plan(level, &with);
        assert!(planned.images().contains(&("swtpm-amd64".to_owned(), Product::Emulator)));
    }
}
