//! Collects the licences of everything that is linked into the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::program::{Built, cargo};
use crate::exit::Failure;

/// The folder of licences in the archive.
pub(super) const FOLDER: &str = "licences";

/// How the names of files with licences begin, in lower case.
const FILES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// A crate that is linked into the program.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: String,
    /// The folder of its sources.
    folder: PathBuf,
}

/// Writes the licences of the program's dependencies into a folder in `to`, with an index.
pub(super) fn write(checkout: &Path, built: &Built, to: &Path) -> Result<(), Failure> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &built.target])
        .arg("--manifest-path")
        .arg(checkout.join("Cargo.toml"))
        .output()
        .map_err(|e| Failure::error(format!("failed to start cargo: {e}")))?;
    let metadata = serde_json::from_slice::<Value>(&output.stdout).ok();
    let crates = metadata.as_ref().and_then(linked).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Failure::error(format!("cargo does not say what the program is made of: {}", said.trim()))
    })?;
    copy(&crates, &built.compiler, &to.join(FOLDER)).map_err(Failure::error)
}

/// The crates that are linked into `xtask`, other than those of the workspace. None if cargo's answer has another form.
fn linked(metadata: &Value) -> Option<BTreeSet<Crate>> {
    let by_id = |list: &'static str| -> Option<BTreeMap<&str, &Value>> {
        let (list, key) = (metadata.pointer(list)?.as_array()?, "id");
        list.iter().map(|entry| Some((entry.get(key)?.as_str()?, entry))).collect()
    };
    let (packages, nodes) = (by_id("/packages")?, by_id("/resolve/nodes")?);
    let named = |id: &str, name: &str| packages.get(id).is_some_and(|package| package["name"] == name);
    let mut waiting = vec![*packages.keys().find(|id| named(id, "xtask"))?];
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes.get(id)?.get("deps")?.as_array()? {
            // Neither what tests need nor what only runs while the program is compiled.
            let kinds = dependency.get("dep_kinds")?.as_array()?;
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                waiting.push(dependency.get("pkg")?.as_str()?);
            }
        }
    }
    let text = |package: &Value, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    let foreign =
        seen.into_iter().filter_map(|id| packages.get(id)).filter(|package| !package["source"].is_null());
    foreign
        .map(|package| {
            let manifest = PathBuf::from(text(package, "manifest_path")?);
            Some(Crate {
                name: text(package, "name")?,
                version: text(package, "version")?,
                licence: text(package, "license").unwrap_or_else(|| "see its files".to_owned()),
                folder: manifest.parent()?.to_owned(),
            })
        })
        .collect()
}

/// Copies the files of the crates' licences, and writes README.
fn copy(crates: &BTreeSet<Crate>, compiler: &str, to: &Path) -> std::io::Result<()> {
    let mut index = format!(
        "The program nestmatrix is licensed under MIT or Apache-2.0: LICENSE-MIT and LICENSE-APACHE beside it.\n\
         \n\
         It is linked with:\n\
         \n\
         - the standard library of {compiler}: MIT or Apache-2.0\n\
         - glibc, as static libraries of the machine that compiled it: LGPL-2.1-or-later. To link it with another one, compile the\n  \
           sources of the commit in VERSION\n\
         - the crates below. Each folder has the files of a crate's licence; a crate without a folder has no such file\n\n"
    );
    for Crate { name, version, licence, folder } in crates {
        let own = to.join(format!("{name}-{version}"));
        let mut files: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        files.retain(|file| file.is_file() && is_licence(file));
        for file in files {
            fs::create_dir_all(&own)?;
            fs::write(own.join(file.file_name().unwrap_or_default()), fs::read(&file)?)?;
        }
        // Writing to a String never fails.
        let _ = writeln!(index, "{name} {version}: {licence}");
    }
    fs::create_dir_all(to)?;
    fs::write(to.join("README"), index)
}

fn is_licence(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    FILES.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn package(name: &str, source: Option<&str>) -> Value {
        let manifest_path = format!("/registry/{name}/Cargo.toml");
        json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT", "source": source, "manifest_path": manifest_path })
    }

    fn node(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependency =
            |(name, kind): &(&str, Option<&str>)| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        json!({ "id": name, "deps": dependencies.iter().map(dependency).collect::<Vec<_>>() })
    }

    #[test]
    fn crates_that_only_tests_or_the_compilation_need_are_not_linked() {
        let packages: Vec<Value> = ["linked", "far", "tested", "built", "other"]
            .map(|name| package(name, Some("registry")))
            .into_iter()
            .chain([package("xtask", None), package("own", None)])
            .collect();
        let nodes = [
            node("xtask", &[("own", None), ("tested", Some("dev")), ("built", Some("build"))]),
            node("own", &[("linked", None)]),
            node("linked", &[("far", None)]),
            node("far", &[("linked", None)]),
            node("tested", &[("other", None)]),
            node("built", &[]),
            node("other", &[]),
        ];
        let metadata = json!({ "packages": packages, "resolve": { "nodes": nodes } });
        let names: Vec<String> = linked(&metadata).unwrap().into_iter().map(|linked| linked.name).collect();
        assert_eq!(names, ["far", "linked"]);
        assert_eq!(linked(&json!({ "packages": [] })), None);
    }

    #[test]
    fn the_files_of_a_licence_are_copied() {
        let sources = tempfile::tempdir().unwrap();
        for name in ["LICENSE-MIT", "Copying.txt", "NOTICE", "lib.rs"] {
            fs::write(sources.path().join(name), name).unwrap();
        }
        let to = tempfile::tempdir().unwrap();
        let one = Crate {
            name: "one".into(),
            version: "1.2.3".into(),
            licence: "MIT OR Apache-2.0".into(),
            folder: sources.path().to_owned(),
        };
        copy(&[one].into(), "rustc 1.95.0", &to.path().join(FOLDER)).unwrap();
        let folder = to.path().join("licences/one-1.2.3");
        assert_eq!(fs::read_to_string(folder.join("Copying.txt")).unwrap(), "Copying.txt");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 3);
        let index = fs::read_to_string(to.path().join("licences/README")).unwrap();
        assert!(index.ends_with("\none 1.2.3: MIT OR Apache-2.0\n"), "{index}");
    }
}
