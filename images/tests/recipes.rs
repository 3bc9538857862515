//! The recipes of this project, and the errors of wrong recipes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use miette::NarratableReportHandler;
use nestmatrix_images::{Catalog, Product, RecipeErrors, RoleCommand, RoleValues, WindowsRole};
use nestmatrix_model::Word as _;

const GOOD: &str = r#"name = "sample"
architecture = "amd64"

[packages]
origin = "Debian"
keyring = "k.gpg"
suites = ["s"]
components = ["main"]
install = ["p"]

[emulator]
program = "usr/bin/qemu"
"#;

/// Loads a folder of recipes.
fn load<'t>(recipes: impl IntoIterator<Item = (&'t str, &'t str)>) -> Result<Catalog, RecipeErrors> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in recipes {
        fs::write(folder.path().join(name), text).unwrap();
    }
    Catalog::load(folder.path())
}

/// The only error for this text as `sample.toml`, without the folder's path.
fn error(text: &str) -> String {
    let errors = load([("sample.toml", text)]).unwrap_err();
    let [error] = errors.errors() else { panic!("{errors:?}") };
    let error = error.to_string();
    error[error.find("sample.toml").unwrap()..].to_owned()
}

#[test]
fn every_recipe_here_loads() {
    let catalog = Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")).unwrap();
    let made: Vec<(&str, Vec<Product>)> =
        catalog.recipes().map(|recipe| (recipe.name(), recipe.products())).collect();
    let levels = vec![Product::Hypervisor, Product::Minimal];
    for recipe in ["debian-11-amd64", "debian-12-arm64", "debian-13-ppc64el"] {
        assert!(made.contains(&(recipe, levels.clone())), "{made:?}");
    }
    for recipe in catalog.recipes() {
        let (name, isa) = (recipe.name(), recipe.isa());
        match recipe.os() {
            Some(os) => {
                let variant = os.variant.as_ref().map_or(String::new(), |variant| format!("-{variant}"));
                assert_eq!(name, format!("{}-{}{variant}-{isa}", os.id, os.version));
            }
            None => assert!(name.ends_with(&format!("-{isa}")), "{name}"),
        }
        assert_eq!(recipe.emulator().is_some(), recipe.products().contains(&Product::Emulator), "{name}");
    }
    assert_eq!(catalog.get("qemu-ppc-amd64").unwrap().emulator(), Some("qemu-system-ppc64"));
}

#[test]
fn an_error_says_where() {
    assert!(load([("sample.toml", GOOD)]).unwrap().get("sample").is_some());
    for (there, instead, wrong) in [
        ("[\"p\"]", "\"p\"", "9:11: `install` holds a string"),
        ("[\"p\"]", "[]", "9:11: `install` is empty"),
        ("\"amd64\"", "\"z80\"", "2:16: unknown instruction set `z80`"),
        ("\"sample\"", "\"other\"", "1:8: recipe `other` is in a file named `sample.toml`"),
        ("components = [\"main\"]\n", "", "4:1: key `components` is missing"),
        ("[emulator]\nprogram", "#", "1:1: the recipe makes no image"),
        ("[emulator]", "[emulater]", "11:2: unknown key `emulater`"),
        ("[emulator]", "[emulator", "11:10: not TOML: unclosed table, expected `]`"),
    ] {
        assert_eq!(error(&GOOD.replace(there, instead)), format!("sample.toml:{wrong}"));
    }
}

/// A disk without packages.
const DISK: &str = r#"name = "sample"
architecture = "amd64"

[template]
systems = ["toy"]
major = 1

[disk]
firmware = "uefi"
memory-mib = 512
cpus = 2
bus = "virtio"
command-channel = "agent"
prepared = true
"#;

const PREPARE: &str = r#"
[disk.prepare]
script = "script"
user-data = "script"
meta-data = "script"
"#;

#[test]
fn a_disk_is_either_prepared_or_says_how() {
    let unprepared = format!("{}{PREPARE}", DISK.replace("prepared = true\n", ""));
    for text in [DISK, &unprepared] {
        load([("sample.toml", text), ("script", "")]).unwrap();
    }
    let errors = |text: &str| {
        let errors = load([("sample.toml", text), ("script", "")]).unwrap_err();
        errors.errors().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (text, wrong) in [
        (
            DISK.replace("prepared = true", ""),
            "must have either [disk.prepare], [disk.install] or `prepared = true`",
        ),
        (format!("{DISK}{PREPARE}"), "must have either [disk.prepare], [disk.install] or `prepared = true`"),
        (DISK.replace("uefi", "bios"), "unknown firmware `bios`"),
        (DISK.replace("\"virtio\"", "\"ide\""), "unknown disk bus `ide`"),
        (DISK.replace("bus =", "tpm = \"1.2\"\nbus ="), "unknown version of a TPM `1.2`"),
        (DISK.replace("bus =", "network-card = \"ne2000\"\nbus ="), "unknown network card `ne2000`"),
        (DISK.replace("\"agent\"", "\"ssh\""), "unknown command channel `ssh`"),
        (DISK.replace("cpus = 2", "cpus = 0"), "`cpus`"),
        (
            DISK.replace("bus =", "enlightenments = [\"hv-\", \"kvm\", \"hv-x,y\"]\nbus ="),
            "\"hv-x,y\" is no enlightenment",
        ),
        (
            DISK.replace("bus =", "guest = \"windows\"\nbus ="),
            "[disk.install] and `guest = \"windows\"` need each other",
        ),
        (DISK.replace("[template]\nsystems = [\"toy\"]\nmajor = 1\n", ""), "[disk] without [template]"),
        (unprepared.replace("user-data = \"script\"", ""), "key `user-data` is missing"),
        (unprepared.replace("user-data = \"script\"", "user-data = \"absent\""), "cannot read"),
        (unprepared.replace("\"agent\"", "\"console\""), "key `shell` is missing"),
    ] {
        let found = errors(&text);
        assert!(found.contains(wrong), "{wrong}: {found}");
    }
}

#[test]
fn all_mistakes_of_all_recipes_are_reported_together_with_their_lines() {
    let minimal = "[minimal]\ninit = \"absent.sh\"\ncompression = \"xz\"\napplets = 1\nkernel = \"k\"\n";
    let errors = load([
        ("sample.toml", GOOD.replace("suites", "suits").as_str()),
        ("other.toml", &format!("{GOOD}{minimal}")),
        ("third.toml", "name = "),
        ("notes.txt", "passed over"),
        (".third.toml", "passed over"),
    ])
    .unwrap_err();
    let folder = Path::new(errors.errors()[0].file().unwrap()).parent().unwrap();
    let mut report = String::new();
    NarratableReportHandler::new().render_report(&mut report, &errors).unwrap();
    insta::assert_snapshot!(report.replace(&folder.display().to_string(), "recipes"));
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let errors = Catalog::load(Path::new("nowhere")).unwrap_err();
    assert_eq!(
        errors.errors()[0].to_string(),
        "nowhere: cannot be read: No such file or directory (os error 2)"
    );
}

const ADDITION: &str = r#"name = "more"
systems = ["debian"]
install = ["q"]
programs = ["usr/bin/q"]
modules = ["usr/lib/{multiarch}/q.so"]
links = ["var/run=/run"]
"#;

const LEVEL: &str = r#"name = "level"
architecture = "amd64"

[os]
id = "debian"
version = "12"

[packages]
origin = "Debian"
keyring = "k.gpg"
suites = ["s"]
components = ["main"]
install = ["p"]

[kernel]
image = "boot/vmlinuz-{release}"

[hypervisor]
init = "init"
applets = "applets"
compression = "none"
"#;

/// A folder with a recipe for a level, and an addition.
fn with_addition(level: &str, addition: &str) -> Result<Catalog, RecipeErrors> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("additions")).unwrap();
    for (name, text) in [
        ("level.toml", level),
        ("init", "#!/bin/sh\n"),
        ("applets", "sh\n"),
        ("additions/more.toml", addition),
    ] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    Catalog::load(folder.path())
}

#[test]
fn an_addition_makes_one_more_recipe_and_leaves_its_base_as_it_was() {
    let without = with_addition(&LEVEL.replace("debian", "other"), ADDITION).unwrap();
    assert!(without.with_addition("level", "more").is_none(), "it is for another system");
    let catalog = with_addition(LEVEL, ADDITION).unwrap();
    let (base, more) = (catalog.get("level").unwrap(), catalog.with_addition("level", "more").unwrap());
    assert_eq!((more.name(), more.addition(), base.addition()), ("level+more", Some("more"), None));
    assert_eq!(more.products(), [Product::Hypervisor]);
    assert_eq!(catalog.get("level+more").unwrap().digest(), more.digest());
    assert_eq!(catalog.recipes().count(), 1);
    let changed = with_addition(LEVEL, &ADDITION.replace("[\"q\"]", "[\"r\"]")).unwrap();
    assert_eq!(changed.get("level").unwrap().digest(), base.digest());
    assert_ne!(changed.get("level+more").unwrap().digest(), more.digest());
}

#[test]
fn an_error_in_an_addition_says_where() {
    for (there, instead, wrong) in [
        ("install", "instal", "more.toml:3:1: unknown key `instal`"),
        ("=/run", "", "more.toml:6:10: \"var/run\" is no link"),
        ("\"more\"", "\"other\"", "more.toml:1:8: addition `other` is in a file named `more.toml`"),
        ("links = [\"var/run=/run\"]", "files = [\"no\"]", "more.toml:6:10: cannot read "),
    ] {
        let errors = with_addition(LEVEL, &ADDITION.replace(there, instead)).unwrap_err();
        let errors: Vec<String> = errors.errors().iter().map(ToString::to_string).collect();
        assert!(errors.iter().any(|error| error.contains(wrong)), "{errors:?}");
    }
}

#[test]
fn every_level_of_debian_may_have_libvirt_benchmarks_and_a_crash_kernel() {
    let catalog = Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")).unwrap();
    for recipe in catalog.recipes().filter(|recipe| recipe.products().contains(&Product::Hypervisor)) {
        for addition in ["libvirt", "kdump"] {
            let with = catalog.with_addition(recipe.name(), addition).unwrap();
            assert_eq!(with.products(), [Product::Hypervisor], "{}", recipe.name());
        }
        let benchmarks = catalog.with_addition(recipe.name(), "benchmarks").unwrap();
        let mut levels = recipe.products();
        levels.retain(|product| matches!(product, Product::Hypervisor | Product::Minimal));
        assert_eq!(benchmarks.products(), levels, "{}", recipe.name());
    }
}

const ROLE: &str = r#"name = "toy"
title = "Toy"
functions = "common.ps1"

[[prepare]]
run = "prepare"
why = "the reason"
success = [0, 3010]
restart = true

[facts]
run = "Get-Facts"
why = "the reason"

[start]
run = '''
Start-Toy '@GUEST@' @CPUS@ @MEMORY_MIB@
Copy-Item @VOLUME@
'''
why = "the reason"

[console]
run = "console @GUEST@"
why = "the reason"

[state]
run = "state @GUEST@"
why = "the reason"

[stop]
run = "stop @GUEST@"
why = "the reason"
"#;

/// A folder with a role for Windows.
fn with_role(role: &str) -> Result<Catalog, RecipeErrors> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("windows")).unwrap();
    fs::write(folder.path().join("windows/toy.toml"), role).unwrap();
    fs::write(folder.path().join("windows/common.ps1"), "function Get-Facts {}").unwrap();
    Catalog::load(folder.path())
}

#[test]
fn a_windows_role_has_its_commands_with_the_values_of_a_guest() {
    let catalog = with_role(ROLE).unwrap();
    let role = catalog.windows_role("toy").unwrap();
    let values = RoleValues::new("L2", 2, 512, "nest.nonce=42", "NESTGUEST").unwrap();
    assert_eq!((role.title(), catalog.windows_role("other")), ("Toy", None));
    assert_eq!(
        role.script(RoleCommand::Start, &values).unwrap(),
        "function Get-Facts {}\nStart-Toy 'L2' 2 512\nCopy-Item NESTGUEST"
    );
    assert_eq!(role.script(RoleCommand::Report, &values), None);
    let [step] = role.prepare() else { panic!("{role:?}") };
    assert_eq!((step.script(), step.success(), step.restart()), ("prepare", &[0, 3010][..], true));
    assert_eq!(role.ready_limit().as_secs(), 120);
    let slow = ROLE.to_owned() + "[ready]\nrun = \"ready\"\nwhy = \"the reason\"\nseconds = 7\n";
    let slow = with_role(&slow).unwrap();
    assert_eq!(slow.windows_role("toy").unwrap().ready_limit().as_secs(), 7);
    assert_ne!(slow.windows_role("toy").unwrap().digest(), role.digest());
}

#[test]
fn an_error_in_a_windows_role_says_where() {
    for (there, instead, wrong) in [
        ("\"toy\"", "\"other\"", "toy.toml:1:8: role `other` is in a file named `toy.toml`"),
        ("'@GUEST@' @CPUS@", "'@GEUST@' @CPUS@", "toy.toml:17:12: unknown placeholder `@GEUST@`"),
        ("\"prepare\"", "\"prepare @GUEST@\"", "toy.toml:6:16: @GUEST@ has no value here"),
        ("3010", "-1", "toy.toml:8:15: `success` is out of range: -1"),
        ("3010", "\"3010\"", "toy.toml:8:15: `success` holds a string"),
        ("common.ps1", "no.ps1", "toy.toml:3:13: cannot read "),
        ("[console]", "[consol]", "toy.toml:22:2: unknown key `consol`"),
        (
            "[state]\nrun = \"state @GUEST@\"\nwhy = \"the reason\"\n",
            "",
            "toy.toml:1:1: table `[state]` is missing",
        ),
        ("\nrun = \"stop @GUEST@\"", "", "toy.toml:30:1: key `run` is missing"),
    ] {
        let text = ROLE.replace(there, instead);
        assert_ne!(text, ROLE, "{there}");
        let errors = with_role(&text).unwrap_err();
        let errors: Vec<String> = errors.errors().iter().map(ToString::to_string).collect();
        assert!(errors.iter().any(|error| error.contains(wrong)), "{wrong}: {errors:?}");
    }
    let long = ROLE.replace("Get-Facts\"", &format!("{}\"", "x".repeat(11_500)));
    assert!(with_role(&long).unwrap_err().errors()[0].to_string().contains("more than the limit of 11500"));
}

#[test]
fn all_mistakes_of_a_windows_role_are_reported_together() {
    let wrong = ROLE
        .replace("title = \"Toy\"", "titel = 1")
        .replace("why = \"the reason\"\nsuccess", "success")
        .replace("@MEMORY_MIB@", "@MEMORY@")
        .replace("[state]", "[staet]");
    let errors = with_role(&wrong).unwrap_err();
    let folder = Path::new(errors.errors()[0].file().unwrap()).ancestors().nth(2).unwrap();
    let mut report = String::new();
    NarratableReportHandler::new().render_report(&mut report, &errors).unwrap();
    insta::assert_snapshot!(report.replace(&folder.display().to_string(), "recipes"));
}

#[test]
fn the_roles_here_have_what_a_level_needs() {
    let catalog = Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")).unwrap();
    let names: Vec<&str> = catalog.windows_roles().map(WindowsRole::name).collect();
    assert_eq!(names, ["guest", "hyper-v", "wsl2"]);
    let values = RoleValues::new("L2", 2, 512, "nest.nonce=0123 console=ttyS0,115200", "NESTGUEST").unwrap();
    for role in catalog.windows_roles() {
        let is_innermost = role.name() == "guest";
        assert_eq!(role.script(RoleCommand::Report, &values).is_some(), is_innermost, "{}", role.name());
        // Hyper-V runs in those that host, and in no other.
        let switch = format!("hypervisorlaunchtype {}", if is_innermost { "off" } else { "auto" });
        assert!(role.prepare().iter().any(|step| step.script().contains(&switch)), "{}", role.name());
        for command in [RoleCommand::Ready, RoleCommand::Start, RoleCommand::Stop] {
            assert_eq!(role.has(command), !is_innermost, "{}: {command}", role.name());
        }
        for command in RoleCommand::ALL {
            if let Some(script) = role.script(*command, &values) {
                // A command line of Windows, in base 64 of UTF-16.
                assert!(script.encode_utf16().count() * 8 / 3 < 32_000, "{}: {command}", role.name());
                assert!(!script.contains('\t') && script.is_ascii(), "{}: {command}", role.name());
            }
        }
    }
    assert_eq!(catalog.windows_role("wsl2").unwrap().files(), ["wsl.msi"]);
}
