//! Rules that no compiler checks: the layers of the crates and of the modules in the upper one, the size of files, the wording
//! of prose, and dependencies that are used and have a suitable licence.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn checkout() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The files below `folder` with this extension, by their paths in the checkout.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![checkout().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path.strip_prefix(checkout()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no *.{ending} in {folder}");
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(checkout().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What cargo knows about the workspace and its dependencies. It may download those of other platforms first.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--all-features", "--locked"])
        .current_dir(checkout())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn members(metadata: &Value) -> Vec<&Value> {
    let all = metadata["packages"].as_array().unwrap();
    all.iter().filter(|package| package["source"].is_null()).collect()
}

/// Each crate of the workspace with the crates below it. A crate that is not listed fails the test, so that it gets its place.
const FLOORS: &[(&str, &[&str])] = &[
    ("nestmatrix-model", &[]),
    ("nestmatrix-input", &[]),
    ("nestmatrix-images", &["nestmatrix-input", "nestmatrix-model"]),
    ("nestmatrix-vmm", &["nestmatrix-model"]),
    ("nestmatrix-stack", &["nestmatrix-images", "nestmatrix-model", "nestmatrix-vmm"]),
    (
        "nestmatrix",
        &["nestmatrix-images", "nestmatrix-input", "nestmatrix-model", "nestmatrix-stack", "nestmatrix-vmm"],
    ),
    (
        "xtask",
        &[
            "nestmatrix",
            "nestmatrix-images",
            "nestmatrix-input",
            "nestmatrix-model",
            "nestmatrix-stack",
            "nestmatrix-vmm",
        ],
    ),
    ("nestmatrix-debian-disk", &["nestmatrix-images", "nestmatrix-model"]),
    ("nestmatrix-rpm-repository", &["nestmatrix-images"]),
    (
        "nestmatrix-bench",
        &["nestmatrix", "nestmatrix-images", "nestmatrix-model", "nestmatrix-stack", "xtask"],
    ),
    ("nestmatrix-chaos", &["nestmatrix", "nestmatrix-images", "nestmatrix-stack", "xtask"]),
];

/// Crates that only tests use. Every crate may have them as a dev-dependency.
const FOR_TESTS: &[&str] = &["nestmatrix-debian-disk", "nestmatrix-rpm-repository"];

#[test]
fn crates_know_only_those_below_them() {
    let floors: BTreeMap<&str, &[&str]> = FLOORS.iter().copied().collect();
    let metadata = metadata();
    for package in members(&metadata) {
        let name = package["name"].as_str().unwrap();
        let below = floors.get(name).unwrap_or_else(|| panic!("{name} has no place in FLOORS"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let other = dependency["name"].as_str().unwrap();
            let is_for_tests = dependency["kind"] == "dev" && FOR_TESTS.contains(&other);
            let known = below.contains(&other) || !floors.contains_key(other) || is_for_tests;
            assert!(known, "{name} knows {other}, which is not below it");
        }
    }
}

/// The modules of the upper crate. Each may know those before it.
const ROOMS: &[&str] = &[
    "contained",
    "metal_errata",
    "scenario",
    "surroundings",
    "domain_xml",
    "reproduce",
    "disposable_host",
    "records",
    "mutation",
    "user_command",
    "run",
    "media",
    "history",
    "trials",
    "ci",
    "doctor",
    "exec",
    "document_errata",
    "trace",
    "debug_server",
    "report",
];

#[test]
fn modules_of_the_matrix_know_only_those_before_them() {
    for path in files("harness/matrix/src", "rs") {
        let module = path.components().nth(3).unwrap().as_os_str().to_str().unwrap();
        let module = module.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let place = |name: &str| ROOMS.iter().position(|room| *room == name);
        let own = place(module).unwrap_or_else(|| panic!("{module} has no place in ROOMS"));
        let text = read(&path);
        let is_test = path.file_stem().is_some_and(|stem| stem.to_str().unwrap().ends_with("tests"));
        let code: Vec<&str> = text.lines().take(if is_test { 0 } else { lines_of_code(&text) }).collect();
        for (number, line) in code.iter().enumerate() {
            for other in line.split("crate::").skip(1) {
                let other: String =
                    other.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let known = place(other.as_str()).is_none_or(|other| other <= own);
                assert!(
                    known,
                    "{}:{}: {module} knows {other}, which is above it",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn every_dependency_is_used() {
    let metadata = metadata();
    for package in members(&metadata) {
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        let folder = folder.strip_prefix(checkout().canonicalize().unwrap()).unwrap();
        let mut sources: String =
            files(folder.to_str().unwrap(), "rs").iter().map(|path| read(path)).collect();
        for target in package["targets"].as_array().unwrap() {
            sources += &fs::read_to_string(target["src_path"].as_str().unwrap()).unwrap();
        }
        // Their tests include a file of that folder.
        if ["harness/matrix", "images", "tests/debian-disk", "tests/rpm-repository"]
            .iter()
            .any(|name| folder == Path::new(name))
        {
            sources += &read(Path::new("xtask/tests/common/trials.rs"));
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap().replace('-', "_");
            let used = [format!("{name}::"), format!("use {name}")].iter().any(|text| sources.contains(text));
            assert!(used, "{} does not use {name}", package["name"]);
        }
    }
}

/// Licences that software under MIT OR Apache-2.0 may depend on. deny.toml has the same list.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "BSL-1.0",
    "Unlicense",
    "MIT-0",
];

#[test]
fn every_dependency_has_a_licence_that_fits() {
    let metadata = metadata();
    let deny: toml::Table = toml::from_str(&read(Path::new("deny.toml"))).unwrap();
    let denied: BTreeSet<&str> = deny["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|licence| licence.as_str().unwrap())
        .collect();
    assert_eq!(denied, LICENCES.iter().copied().collect(), "deny.toml allows other licences than this test");
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        // Each part joined by AND needs one of its parts joined by OR.
        let fits = licence
            .replace(['(', ')'], "")
            .split(" AND ")
            .all(|part| part.split(" OR ").any(|licence| LICENCES.contains(&licence.trim())));
        assert!(fits, "{} has the licence {licence:?}", package["name"]);
        let source = package["source"].as_str().unwrap_or("registry+");
        assert!(source.starts_with("registry+"), "{} comes from {source}", package["name"]);
    }
}

#[test]
fn no_dependency_needs_a_newer_rust_than_the_workspace_promises() {
    let version = |text: &str| {
        let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap());
        [(); 3].map(|()| parts.next().unwrap_or(0))
    };
    let metadata = metadata();
    let promised = members(&metadata)[0]["rust_version"].as_str().unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let Some(needed) = package["rust_version"].as_str() else { continue };
        assert!(version(needed) <= version(promised), "{} needs Rust {needed}", package["name"]);
    }
}

/// The most lines of code, without tests, that a file may have without a reason.
const LONG: usize = 400;

/// Longer files, and why each is still one idea.
const LONGER: &[(&str, &str)] =
    &[("harness/matrix/src/scenario/problem.rs", "one enum, with a variant for each mistake in a file")];

/// The lines of a file before its tests.
fn lines_of_code(text: &str) -> usize {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()
}

/// `print!` and `eprint!` panic if nothing reads the output any more. In a task, that ends only the task, such as the one that waits
/// for signals.
#[test]
fn no_program_prints_with_a_macro_that_panics() {
    let mut found = Vec::new();
    for path in ["harness", "images/src", "xtask/src"].iter().flat_map(|folder| files(folder, "rs")) {
        let is_test = path
            .components()
            .any(|part| ["tests", "benches", "fake-qemu"].iter().any(|folder| part.as_os_str() == *folder));
        let text = read(&path);
        let code = text.lines().take(if is_test { 0 } else { lines_of_code(&text) });
        let prints = |line: &&str| line.contains("print!(") || line.contains("println!(");
        found.extend(code.filter(prints).map(|line| format!("{}: {}", path.display(), line.trim())));
    }
    assert!(found.is_empty(), "use xtask's `note!` or `print`:\n{}", found.join("\n"));
}

#[test]
fn a_long_file_has_a_reason() {
    let exceptions: BTreeMap<&str, &str> = LONGER.iter().copied().collect();
    let mut unused: BTreeSet<&str> = exceptions.keys().copied().collect();
    let mut long = Vec::new();
    for folder in ["harness", "images", "tests", "xtask"] {
        for path in files(folder, "rs")
            .iter()
            .filter(|path| !path.components().skip(1).any(|part| part.as_os_str() == "tests"))
        {
            let lines = lines_of_code(&read(path));
            let name = path.to_str().unwrap();
            if lines > LONG && !unused.remove(name) {
                long.push(format!("{name}: {lines} lines"));
            }
        }
    }
    assert!(
        long.is_empty(),
        "over {LONG} lines: split these, or give a reason in LONGER\n{}",
        long.join("\n")
    );
    assert!(unused.is_empty(), "no longer over {LONG} lines: {unused:?}");
}

/// Idioms that make a reader stop, and what to write instead.
const IDIOMS: &[(&str, &str)] = &[
    ("tells", "shows, prints, reports"),
    ("is told", "gets, receives, is given"),
    ("to be had", "available"),
    ("mends", "fixes"),
    ("mended", "fixed"),
    ("goes on from", "is restored from"),
    ("went on from", "was restored from"),
    ("saved state", "snapshot"),
    ("in the place of", "instead of"),
    ("in its place", "instead"),
    ("of one's own", "your own"),
    ("hangs on", "depends on"),
    ("nobody", "no process, no user"),
    ("somebody", "another process, another user"),
    ("whoever", "the user"),
    ("for want of", "because ... is missing"),
    ("comes out otherwise", "changes the verdict"),
    ("last words", "diagnostics"),
    ("aftermath", "diagnostics"),
    ("held stack", "paused stack"),
    ("such as were", "that were"),
    ("lacks", "is missing"),
];

#[test]
fn what_people_read_has_none_of_the_worst_idioms() {
    let mut read_by_people = files("docs", "md");
    read_by_people.extend(["README.md", "CONTRIBUTING.md"].map(PathBuf::from));
    read_by_people.extend(files("xtask/tests", "snap"));
    read_by_people.extend(files("harness/matrix/tests", "snap"));
    let mut found = Vec::new();
    for path in &read_by_people {
        // The table of renamed things has the old words.
        if path == Path::new("docs/renamed.md") {
            continue;
        }
        for (number, line) in read(path).lines().enumerate() {
            // Names are exempt: words in backticks, and words with hyphens or underscores.
            let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
            let separates = |c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '-' | '_');
            let words = format!(" {} ", prose.to_lowercase().replace(separates, " "));
            for (idiom, better) in IDIOMS {
                if words.contains(&format!(" {idiom} ")) {
                    found.push(format!("{}:{}: {idiom:?}: write {better:?}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn paths_that_pages_name_exist() {
    let mut pages = files("docs", "md");
    pages.extend(["README.md", "CONTRIBUTING.md"].map(PathBuf::from));
    let mut missing = Vec::new();
    for page in pages {
        let text = read(&page);
        for name in text.split('`').skip(1).step_by(2) {
            let top = ["harness/", "images/", "tests/", "xtask/", "docs/", ".ci/", ".github/"];
            let is_path = top.iter().any(|top| name.starts_with(top))
                && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
            if is_path && !checkout().join(name).exists() {
                missing.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "these do not exist:\n{}", missing.join("\n"));
}
