//! Adds kernel modules with their dependencies, and the `modules.dep` for modprobe. The dependencies are read from the modules
//! (`.modinfo`), so depmod is not needed.

use crate::tree::Tree;
use goblin::elf::Elf;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Read as _};

/// Adds decompressed modules and their dependencies to a tree, with `modules.dep` and `modules.builtin`. Built-in modules are
/// skipped, and so are `optional` ones that the kernel does not have. If `lenient`, for a kernel that is not the recipe's, missing
/// modules are skipped and returned.
///
/// # Errors
/// A message that names the module that is missing or unreadable.
pub(crate) fn add(
    packages: &Tree,
    release: &str,
    (wanted, optional): (&[String], &[String]),
    lenient: bool,
    to: &mut Tree,
) -> Result<Vec<String>, String> {
    let root = format!("usr/lib/modules/{release}/");
    if lenient && packages.under(&root).next().is_none() {
        return Ok(wanted.to_vec());
    }
    let paths: BTreeMap<String, &str> = packages
        .under(&root)
        .filter_map(|(path, _)| Some((canonical(path.rsplit('/').next()?.split_once(".ko")?.0), path)))
        .collect();
    let builtin = format!("{root}modules.builtin");
    packages.copy_to(&builtin, to).ok_or_else(|| format!("no package holds {builtin}"))?;
    let builtin: BTreeSet<String> = packages
        .file(&builtin)
        .map(|(_, file)| String::from_utf8_lossy(&file.data).into_owned())
        .unwrap_or_default()
        .lines()
        .filter_map(|line| Some(canonical(line.rsplit('/').next()?.strip_suffix(".ko")?)))
        .collect();

    let mut chosen: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    let available = optional.iter().map(|name| canonical(name)).filter(|name| paths.contains_key(name));
    let mut queue: Vec<(String, Option<String>)> =
        wanted.iter().map(|name| canonical(name)).chain(available).map(|name| (name, None)).collect();
    let mut left_out = Vec::new();
    while let Some((name, needed_by)) = queue.pop() {
        if chosen.contains_key(&name) || builtin.contains(&name) {
            continue;
        }
        if lenient && needed_by.is_none() && !paths.contains_key(&name) {
            left_out.push(name);
            continue;
        }
        let path = paths.get(&name).ok_or_else(|| match &needed_by {
            Some(needed_by) => format!("kernel {release} has no module {name}, which {needed_by} needs"),
            None => format!("kernel {release} has no module {name}"),
        })?;
        let (file_name, bytes) =
            decompressed(packages, path).map_err(|e| format!("cannot read {path}: {e}"))?;
        let depends: Vec<String> =
            depends(&bytes).map_err(|e| format!("cannot read .modinfo of {path}: {e}"))?;
        queue.extend(depends.iter().map(|dependency| (dependency.clone(), Some(name.clone()))));
        to.write(&format!("{root}{file_name}"), bytes, false);
        chosen.insert(name, (file_name, depends));
    }
    to.write(&format!("{root}modules.dep"), dep(&chosen).into_bytes(), false);
    left_out.sort();
    Ok(left_out)
}

/// `-` and `_` are the same in module names; the kernel uses `_`.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The decompressed module, and its path in the release's folder without the suffix of the compression.
fn decompressed(packages: &Tree, path: &str) -> io::Result<(String, Vec<u8>)> {
    let (_, file) = packages.file(path).ok_or_else(|| io::Error::other("it is a broken link"))?;
    // The path in usr/lib/modules/RELEASE/.
    let name = path.splitn(5, '/').last().unwrap_or(path);
    let mut bytes = Vec::new();
    let name = if let Some(name) = name.strip_suffix(".xz") {
        liblzma::read::XzDecoder::new(&file.data[..]).read_to_end(&mut bytes)?;
        name
    } else if let Some(name) = name.strip_suffix(".zst") {
        zstd::Decoder::new(&file.data[..])?.read_to_end(&mut bytes)?;
        name
    } else {
        bytes.extend_from_slice(&file.data);
        name
    };
    Ok((name.to_owned(), bytes))
}

/// Reads `depends=` from the section `.modinfo`, a list of zero-terminated `key=value` (kernel: scripts/mod/modpost.c).
fn depends(module: &[u8]) -> Result<Vec<String>, String> {
    let elf = Elf::parse(module).map_err(|e| e.to_string())?;
    let section = elf
        .section_headers
        .iter()
        .find(|section| elf.shdr_strtab.get_at(section.sh_name) == Some(".modinfo"))
        .and_then(|section| module.get(section.file_range()?))
        .ok_or("there is no such section")?;
    let list = section
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"depends="))
        .unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    Ok(list.split(',').filter(|name| !name.is_empty()).map(canonical).collect())
}

/// A line per module: the module, then everything it needs, with the first module to load last (modules.dep(5)).
fn dep(modules: &BTreeMap<String, (String, Vec<String>)>) -> String {
    let mut text = String::new();
    for (path, direct) in modules.values() {
        let mut needed: Vec<&str> = Vec::new();
        collect(modules, direct, &mut needed);
        let _ = write!(text, "{path}:"); // writing to a String cannot fail
        for name in needed.iter().rev() {
            if let Some((path, _)) = modules.get(*name) {
                let _ = write!(text, " {path}");
            }
        }
        text.push('\n');
    }
    text
}

/// Collects dependencies before the modules that need them. modpost allows no cycles.
fn collect<'a>(
    modules: &'a BTreeMap<String, (String, Vec<String>)>,
    direct: &'a [String],
    needed: &mut Vec<&'a str>,
) {
    for name in direct {
        if !needed.contains(&name.as_str()) {
            if let Some((_, below)) = modules.get(name) {
                collect(modules, below, needed);
            }
            needed.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, depends: &[&str]) -> (String, Vec<String>) {
        (path.to_owned(), depends.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn modules_dep_lists_all_dependencies_first_to_load_last() {
        let modules = BTreeMap::from([
            ("kvm_amd".to_owned(), module("kernel/kvm-amd.ko", &["kvm", "ccp"])),
            ("kvm".to_owned(), module("kernel/kvm.ko", &["irqbypass"])),
            ("irqbypass".to_owned(), module("kernel/irqbypass.ko", &[])),
            ("ccp".to_owned(), module("kernel/ccp.ko", &["irqbypass"])),
        ]);
        assert_eq!(
            dep(&modules),
            "kernel/ccp.ko: kernel/irqbypass.ko\n\
             kernel/irqbypass.ko:\n\
             kernel/kvm.ko: kernel/irqbypass.ko\n\
             kernel/kvm-amd.ko: kernel/ccp.ko kernel/kvm.ko kernel/irqbypass.ko\n"
        );
    }

    #[test]
    fn a_missing_module_is_named() {
        let mut packages = Tree::default();
        packages.write("lib/modules/6.1/modules.builtin", *b"kernel/drivers/virtio/virtio-pci.ko\n", false);
        let mut to = Tree::default();
        add(&packages, "6.1", (&["virtio_pci".into()], &["nothing".into()]), false, &mut to).unwrap();
        assert!(to.file("lib/modules/6.1/modules.dep").unwrap().1.data.is_empty());
        let wanted = ["kvm".into(), "virtio-pci".into()];
        let error = add(&packages, "6.1", (&wanted, &[]), false, &mut to).unwrap_err();
        assert_eq!(error, "kernel 6.1 has no module kvm");
        assert_eq!(
            add(&packages, "6.1", (&wanted, &[]), true, &mut to).unwrap(),
            ["kvm"],
            "skipped and returned"
        );
        assert_eq!(
            add(&packages, "6.2", (&wanted, &[]), true, &mut to).unwrap(),
            wanted,
            "a kernel without modules"
        );
    }
}
