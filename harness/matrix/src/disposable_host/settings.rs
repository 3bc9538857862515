//! Settings of the kernel in /proc and /sys: each is a file with a value, which is written to change it.

use std::collections::BTreeMap;
use std::fs;

use super::{HostPaths, failed};

/// Files with one setting each.
const FILES: &[&str] = &[
    "/proc/sys/vm/nr_hugepages",
    "/proc/sys/vm/nr_overcommit_hugepages",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/mm/transparent_hugepage/defrag",
    "/sys/kernel/mm/transparent_hugepage/enabled",
];

/// Folders with a folder for each size of huge pages, which has these files.
const SIZES: &[(&str, &[&str])] =
    &[("/sys/kernel/mm/hugepages", &["nr_hugepages", "nr_overcommit_hugepages"])];

/// The folder with a folder for each NUMA node.
const NODES: &str = "/sys/devices/system/node";

/// Reads every setting that this machine has, by its path.
pub(super) fn read(paths: &HostPaths) -> BTreeMap<String, String> {
    let mut names: Vec<String> = FILES.iter().map(|&name| name.to_owned()).collect();
    let mut of_sizes = |folder: &str, files: &[&str]| {
        for size in folders(paths, folder) {
            names.extend(files.iter().map(|file| format!("{folder}/{size}/{file}")));
        }
    };
    for (folder, files) in SIZES {
        of_sizes(folder, files);
    }
    for node in folders(paths, NODES).into_iter().filter(|name| name.starts_with("node")) {
        of_sizes(&format!("{NODES}/{node}/hugepages"), &["nr_hugepages"]);
    }
    let with_value = |name: String| Some((read_one(paths, &name)?, name));
    names.into_iter().filter_map(with_value).map(|(value, name)| (name, value)).collect()
}

/// Writes the settings that differ. Those of nodes add up to that of the machine, so the first pass may change what was right.
pub(super) fn restore(paths: &HostPaths, found: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    for _ in 0..2 {
        problems.clear();
        for (name, value) in found {
            if read_one(paths, name).as_ref() != Some(value) {
                let path = paths.at(name);
                problems.extend(fs::write(&path, value).map_err(failed("write", &path)).err());
            }
        }
    }
    problems
}

/// The value of a setting. A file that lists all values has the current one in brackets: `always [madvise] never`.
fn read_one(paths: &HostPaths, name: &str) -> Option<String> {
    let text = fs::read_to_string(paths.at(name)).ok()?;
    let current = text.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0));
    Some(current.unwrap_or(text.trim()).to_owned())
}

fn folders(paths: &HostPaths, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(paths.at(folder)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}
