//! `import-domain` from outside: files, messages and exit codes. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use common::{Place, Run, checkout};
use rstest::rstest;

/// Longest wait for a command that boots nothing.
const SOON: Duration = Duration::from_secs(60);

fn xtask(place: &Place, arguments: &[&str]) -> Run {
    let mut command = place.xtask();
    command.env("NESTMATRIX_CACHE", place.path().join("cache")).args(arguments);
    place.finish(command, SOON)
}

/// A place with the domains of the tests of the library.
fn place() -> Place {
    let place = Place::new();
    for name in ["virt-manager.xml", "proxmox-like.xml", "openstack.xml"] {
        let from = checkout().join("harness/matrix/tests/domain_xml").join(name);
        fs::copy(from, place.path().join(name)).unwrap();
    }
    place
}

#[rstest]
#[case("help_import_domain", &["import-domain", "--help"])]
#[case("help_export_domain", &["export-domain", "--help"])]
fn help_reads_well(#[case] name: &str, #[case] arguments: &[&str]) {
    let run = xtask(&Place::new(), arguments);
    assert_eq!(run.code, Some(0), "{run:#?}");
    insta::assert_snapshot!(name, run.stdout);
}

#[test]
fn an_imported_domain_is_listed_as_a_cell() {
    let place = place();
    let run = xtask(&place, &["import-domain", "openstack.xml"]);
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert!(run.stdout.contains("2 can change the result:\n  openstack.xml:60:5: "), "{}", run.stdout);
    assert!(run.stdout.contains("$ cargo xtask run-matrix --scenarios imported 'instance-000004d2/*'"));
    // A second one goes to the same folder.
    assert_eq!(xtask(&place, &["import-domain", "virt-manager.xml"]).code, Some(0));
    let list = xtask(&place, &["list", "--scenarios", "imported"]);
    assert_eq!(list.code, Some(0), "{list:#?}");
    for cell in ["instance-000004d2/amd/debian-13/debian-13/debian-13", "win2k22-lab/amd/"] {
        assert!(list.stdout.contains(cell), "{}", list.stdout);
    }
}

#[test]
fn no_file_is_replaced_unless_the_user_says_so() {
    let place = place();
    let output = place.path().join("matrix/bugs/bug-1.toml");
    let import = ["import-domain", "proxmox-like.xml", "--output", "matrix/bugs/bug-1.toml"];
    assert_eq!(xtask(&place, &import).code, Some(0));
    let text = fs::read_to_string(&output).unwrap();
    assert!(text.contains("name = \"bug-1\""), "{text}");
    fs::write(&output, "edited").unwrap();
    let again = xtask(&place, &import);
    assert_eq!(again.code, Some(2), "{again:#?}");
    assert!(
        again.stderr.contains("matrix/bugs/bug-1.toml exists; replace it with --force"),
        "{}",
        again.stderr
    );
    assert_eq!(fs::read_to_string(&output).unwrap(), "edited");
    assert_eq!(xtask(&place, &[&import[..], &["--force"]].concat()).code, Some(0));
    assert_eq!(fs::read_to_string(&output).unwrap(), text);

    // A link is replaced, and what it leads to stays.
    let other = place.path().join("other");
    fs::write(&other, "private").unwrap();
    fs::remove_file(&output).unwrap();
    symlink(&other, &output).unwrap();
    assert_eq!(xtask(&place, &import).code, Some(2));
    assert_eq!(xtask(&place, &[&import[..], &["--force"]].concat()).code, Some(0));
    assert_eq!(fs::read_to_string(&other).unwrap(), "private");
    assert!(!output.is_symlink());
}

#[test]
fn a_name_that_another_scenario_has_is_refused() {
    let place = place();
    let import = |output| xtask(&place, &["import-domain", "proxmox-like.xml", "--output", output]);
    assert_eq!(import("matrix/bugs/bug-1.toml").code, Some(0));
    fs::rename(place.path().join("matrix/bugs/bug-1.toml"), place.path().join("matrix/bugs/kept.toml"))
        .unwrap();
    fs::rename(
        place.path().join("matrix/documents/bug-1.toml"),
        place.path().join("matrix/documents/kept.toml"),
    )
    .unwrap();
    for file in ["bugs/kept.toml", "documents/kept.toml"] {
        let file = place.path().join("matrix").join(file);
        let text = fs::read_to_string(&file).unwrap().replace("id = \"bug-1\"", "id = \"kept\"");
        fs::write(&file, text.replace("document = \"bug-1\"", "document = \"kept\"")).unwrap();
    }
    let refused = import("matrix/bugs/bug-1.toml");
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(refused.stderr.contains("matrix has another scenario bug-1"), "{}", refused.stderr);
    assert!(!place.path().join("matrix/documents/bug-1.toml").exists());

    // Also if a file is replaced.
    fs::write(place.path().join("matrix/bugs/bug-1.toml"), "edited").unwrap();
    let forced = xtask(
        &place,
        &["import-domain", "proxmox-like.xml", "--output", "matrix/bugs/bug-1.toml", "--force"],
    );
    assert_eq!(forced.code, Some(2), "{forced:#?}");
    assert!(forced.stderr.contains("matrix has another scenario bug-1"), "{}", forced.stderr);
    assert_eq!(fs::read_to_string(place.path().join("matrix/bugs/bug-1.toml")).unwrap(), "edited");
}

#[test]
fn a_name_that_the_user_gives_is_kept_and_its_folder_quoted() {
    let place = place();
    let name = "a-name-with-more-than-forty-characters-that-the-user-chose";
    let output = format!("my matrix/bugs/{name}.toml");
    let run = xtask(&place, &["import-domain", "proxmox-like.xml", "--output", &output]);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let said = format!("--scenarios 'my matrix' '{name}/*'");
    assert!(run.stdout.contains(&said), "{}", run.stdout);
}

#[rstest]
#[case::no_folder("bug.toml", "is no place for a scenario")]
#[case::among_documents("m/documents/bug.toml", "is no place for a scenario")]
#[case::no_toml("m/bugs/bug.xml", "is no place for a scenario")]
#[case::capitals("m/bugs/Bug_1.toml", "such as bug-1")]
fn a_place_where_no_scenario_is_read_is_refused(#[case] output: &str, #[case] said: &str) {
    let place = place();
    let run = xtask(&place, &["import-domain", "proxmox-like.xml", "--output", output]);
    assert_eq!(run.code, Some(2), "{run:#?}");
    // The message is wrapped.
    let text = run.stderr.split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
    assert!(text.contains(said), "{text}");
    assert!(!place.path().join("m").exists());
}

#[test]
fn a_mistake_in_the_xml_is_shown_with_its_place() {
    let place = place();
    fs::write(place.path().join("bad.xml"), "<domain>\n  <name>a</nane>\n</domain>\n").unwrap();
    let run = xtask(&place, &["import-domain", "bad.xml"]);
    assert_eq!(run.code, Some(2), "{run:#?}");
    for said in ["bad.xml:2:", "expected 'name' tag, not 'nane'", "<name>a</nane>", "virsh dumpxml"] {
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    }
    let missing = xtask(&place, &["import-domain", "none.xml"]);
    assert_eq!(missing.code, Some(2), "{missing:#?}");
    let levels = xtask(&place, &["import-domain", "openstack.xml", "--level", "l0"]);
    assert_eq!(levels.code, Some(2), "{levels:#?}");
}

/// A cell that is exported.
const CELL: &str = "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+";

#[test]
fn a_level_is_exported_and_imported_again() {
    let place = Place::new();
    let printed = xtask(&place, &["export-domain", CELL]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    assert!(printed.stdout.starts_with("<domain type='kvm'"), "{}", printed.stdout);
    // The folder of an image in a bundle.
    assert!(printed.stdout.contains("-amd64-hypervisor/vmlinuz</kernel>"), "{}", printed.stdout);
    let written = xtask(&place, &["export-domain", CELL, "--output", "l1.xml"]);
    assert_eq!(written.code, Some(0), "{written:#?}");
    assert_eq!(fs::read_to_string(place.path().join("l1.xml")).unwrap(), printed.stdout);
    let again = xtask(&place, &["export-domain", CELL, "--output", "l1.xml"]);
    assert_eq!(again.code, Some(2), "{again:#?}");
    let imported = xtask(&place, &["import-domain", "l1.xml"]);
    assert_eq!(imported.code, Some(0), "{imported:#?}");
}

#[rstest]
#[case::no_cell(&["none/*"], 4, "no cell matches")]
#[case::several(&["rhel-10-preview/*"], 2, "an export needs one cell, but")]
#[case::l0(&[CELL, "--level", "l0"], 2, "L0 is a bare machine")]
#[case::no_level(&[CELL, "--level", "l3"], 2, "has no L3")]
#[case::relative(&[CELL, "--images", "images"], 2, "absolute paths only")]
fn what_cannot_be_exported_is_named(#[case] arguments: &[&str], #[case] code: i32, #[case] said: &str) {
    let run = xtask(&Place::new(), &[&["export-domain"], arguments].concat());
    assert_eq!(run.code, Some(code), "{run:#?}");
    assert!(run.stderr.contains(said), "{}", run.stderr);
    assert!(run.stdout.is_empty(), "{}", run.stdout);
}
