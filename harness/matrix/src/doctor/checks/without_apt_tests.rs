//! Checks of machines without Debian's apt.

use std::path::Path;

use nestmatrix_images::{Catalog, HostTool, HostTools, InstalledEmulator, SourceProblem};
use nestmatrix_model::Architecture;
use nestmatrix_stack::Metal;
use rstest::rstest;

use super::tests::{found_with, inventory, not_ok, one};
use super::{EmulatorSupply, Inventory, Proof, SourceState};
use crate::doctor::finding::{Check, Status};
use crate::run::{NoEmulator, can_be_installed};

/// Why there is no emulator `program` on a machine without apt.
fn without_apt(program: &str, recipe: &str) -> NoEmulator {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes");
    let unbuildable = Catalog::load(&recipes).unwrap().unbuildable_with(&HostTools::default());
    NoEmulator::Unbuildable {
        program: program.into(),
        recipe: recipe.into(),
        why: unbuildable[recipe].clone(),
        installed: can_be_installed(program).then(|| "none is installed".to_owned()),
    }
}

#[rstest]
#[case::fedora(Architecture::Amd, "fedora", "qemu-system-x86_64", &["sudo dnf install qemu-system-x86"], None)]
#[case::fedora_power(Architecture::Power9, "fedora", "qemu-system-ppc64", &["sudo dnf install qemu-system-ppc"], None)]
#[case::rhel(Architecture::Amd, "rhel", "qemu-system-x86_64", &["sudo dnf install qemu-kvm"], None)]
#[case::another(
    Architecture::Amd,
    "arch",
    "qemu-system-x86_64",
    &[],
    Some("install qemu-system-x86_64: on Fedora the package qemu-system-x86, on RHEL qemu-kvm")
)]
#[case::rhel_power(
    Architecture::Power9,
    "rhel",
    "qemu-system-ppc64",
    &[],
    Some("install qemu-system-ppc64: on Fedora the package qemu-system-ppc")
)]
#[case::no_qemu(
    Architecture::Intel,
    "fedora",
    "bochs-bin",
    &[],
    Some("install apt and Debian's archive keyring, and set NESTMATRIX_ARCHIVE (docs/settings.md)")
)]
fn an_emulator_that_is_missing_comes_with_how_to_install_one(
    #[case] architecture: Architecture,
    #[case] os: &str,
    #[case] program: &str,
    #[case] fix: &[&str],
    #[case] advice: Option<&str>,
) {
    let recipe = match program {
        "qemu-system-ppc64" => "qemu-ppc-amd64",
        "bochs-bin" => "bochs-amd64",
        _ => "qemu-x86-amd64",
    };
    let inventory = Inventory { emulator: Err(without_apt(program, recipe)), ..inventory() };
    // The machine is an x86.
    let mut changes = vec![("os=debian", format!("os={os}"))];
    changes.extend((architecture == Architecture::Power9).then(|| ("ppc64le", "x86_64".to_owned())));
    let changes: Vec<(&str, &str)> = changes.iter().map(|(from, to)| (*from, to.as_str())).collect();
    let finding = one(&found_with(architecture, &changes, &Proof::Proven, &inventory), Check::Emulator);
    assert_eq!((finding.status, &finding.prevents[..]), (Status::Missing, &[Metal::Emulated][..]));
    assert!(
        finding.found.ends_with("is made of Debian packages, and this machine has no apt-get"),
        "{finding:#?}"
    );
    assert_eq!(
        (&finding.fix[..], finding.advice.as_deref()),
        (&fix.iter().map(|fix| (*fix).to_owned()).collect::<Vec<_>>()[..], advice)
    );
}

#[test]
fn an_installed_emulator_is_as_good_as_an_image() {
    let installed = InstalledEmulator {
        path: "/usr/libexec/qemu-kvm".into(),
        version: "9.0.0 (qemu-kvm-9.0.0-10.el9)".into(),
    };
    let inventory = Inventory { emulator: Ok(EmulatorSupply::Installed(installed)), ..inventory() };
    let findings = found_with(Architecture::Amd, &[], &Proof::Proven, &inventory);
    assert_eq!(not_ok(&findings), []);
    assert_eq!(
        one(&findings, Check::Emulator).found,
        "/usr/libexec/qemu-kvm is installed, version 9.0.0 (qemu-kvm-9.0.0-10.el9); its image can't be built here"
    );
}

fn source(problems: &[SourceProblem], needed_on: &[Metal]) -> Inventory {
    let state =
        SourceState { name: "rhel-9.4".into(), problems: problems.to_vec(), needed_on: needed_on.to_vec() };
    Inventory { sources: vec![state], ..inventory() }
}

#[test]
fn a_machine_without_apt_builds_no_images_of_debian_packages() {
    let findings = found_with(Architecture::Amd, &[("apt=yes", "apt=no")], &Proof::Proven, &inventory());
    assert_eq!(not_ok(&findings), [(Check::Apt, Status::Warning)]);
    let advice = one(&findings, Check::Apt).advice.unwrap();
    assert!(advice.contains("docs/vendor-packages.md"), "{advice}");
}

#[rstest]
#[case::debian(
    "debian",
    &[SourceProblem::NoTool(HostTool::Dnf), SourceProblem::NoTool(HostTool::BsdTar)],
    "source rhel-9.4: no dnf, no bsdtar",
    &["sudo apt install dnf dnf-plugins-core libarchive-tools"],
    None
)]
#[case::fedora(
    "fedora",
    &[SourceProblem::NoTool(HostTool::BsdTar), SourceProblem::NoTool(HostTool::Busybox)],
    "source rhel-9.4: no bsdtar, no static busybox",
    &["sudo dnf install bsdtar busybox"],
    None
)]
#[case::rhel(
    "rhel",
    &[SourceProblem::NoTool(HostTool::Busybox), SourceProblem::NoDownload],
    "source rhel-9.4: no static busybox, dnf has no command download",
    &["sudo dnf install dnf dnf-plugins-core"],
    Some("RHEL has no busybox: put a static one into PATH, such as that of Fedora's package")
)]
#[case::another(
    "arch",
    &[SourceProblem::NoTool(HostTool::RpmKeys)],
    "source rhel-9.4: no rpmkeys",
    &[],
    Some("install rpm (Debian) or rpm (Fedora, RHEL)")
)]
#[case::gone(
    "fedora",
    &[SourceProblem::Gone("/media/rhel.iso".into())],
    "source rhel-9.4: /media/rhel.iso does not exist",
    &[],
    Some("bring it back, or add the source again with `cargo xtask sources add`")
)]
fn what_a_source_needs_comes_with_how_to_install_it(
    #[case] os: &str,
    #[case] problems: &[SourceProblem],
    #[case] what: &str,
    #[case] fix: &[&str],
    #[case] advice: Option<&str>,
) {
    let system = format!("os={os}");
    let findings =
        found_with(Architecture::Amd, &[("os=debian", &system)], &Proof::Proven, &source(problems, &[]));
    assert_eq!(not_ok(&findings), [(Check::Sources, Status::Warning)]);
    let finding = one(&findings, Check::Sources);
    assert_eq!((finding.found.as_str(), finding.advice.as_deref()), (what, advice));
    assert_eq!(finding.fix, fix);
}

#[test]
fn a_source_prevents_what_needs_an_image_of_it() {
    let problems = [SourceProblem::Gone("/media/rhel.iso".into())];
    let of = |problems: &[SourceProblem], needed_on: &[Metal]| {
        let findings = found_with(Architecture::Amd, &[], &Proof::Proven, &source(problems, needed_on));
        one(&findings, Check::Sources)
    };
    for needed_on in [&[Metal::Emulated][..], &[Metal::Native, Metal::Emulated]] {
        let finding = of(&problems, needed_on);
        assert_eq!((finding.status, &finding.prevents[..]), (Status::Missing, needed_on));
    }
    let good = of(&[], &[Metal::Native, Metal::Emulated]);
    assert_eq!((good.status, good.found.as_str()), (Status::Ok, "source rhel-9.4"));
}
