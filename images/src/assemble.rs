//! Assembles the tree of an image from unpacked packages: the files that a recipe names, and everything that they need.

use crate::elf::{self, Closure};
use crate::modules;
use crate::recipe_text::{EmulatorText, Init, InitramfsText};
use crate::tree::{Node, Tree};
use nestmatrix_model::Isa;
use std::collections::HashSet;

/// Paths in the tree of an emulator. They differ from the folders that a merged `/usr` moves.
pub(crate) const LOADER: &str = "ld.so";
pub(crate) const PROGRAMS: &str = "programs";
pub(crate) const LIBRARIES: &str = "libraries";
pub(crate) const DATA: &str = "data";
pub(crate) const MODULES: &str = "modules";

const BUSYBOX: &str = "usr/bin/busybox";

/// Folders that an init mounts on or writes to.
const FOLDERS: [&str; 7] = ["dev", "etc/modprobe.d", "proc", "root", "run", "sys", "tmp"];

/// The kernel in the packages: its release, and the path of its image.
///
/// # Errors
/// A message, if there is not exactly one.
pub(crate) fn kernel(packages: &Tree, pattern: &str) -> Result<(String, String), String> {
    let (before, after) = pattern
        .split_once("{release}")
        .ok_or_else(|| format!("kernel image {pattern:?} has no {{release}}"))?;
    let found: Vec<(String, String)> = packages
        .under(before)
        .filter_map(|(path, _)| {
            Some((path.strip_prefix(before)?.strip_suffix(after)?.to_owned(), path.to_owned()))
        })
        .collect();
    match <[_; 1]>::try_from(found) {
        Ok([kernel]) => Ok(kernel),
        Err(found) if found.is_empty() => Err(format!("no package holds a kernel image {pattern}")),
        Err(found) => {
            Err(format!("the packages hold {} kernel images {pattern}; exactly one is needed", found.len()))
        }
    }
}

/// The tree of an initramfs, and the kernel modules that are missing from it. Only if `lenient`, modules may be missing.
///
/// # Errors
/// A message that names what is missing from the packages.
pub(crate) fn initramfs(
    packages: &Tree,
    text: &InitramfsText,
    init: &Init,
    release: &str,
    lenient: bool,
    isa: Isa,
) -> Result<(Tree, Vec<String>), String> {
    let mut tree = Tree::default();
    for folder in FOLDERS {
        tree.insert(folder, Node::Folder);
    }
    tree.write("init", init.script.as_bytes(), true);
    for (name, script) in &init.scripts {
        tree.write(name, script.as_bytes(), false);
    }
    busybox(packages, &init.applets, &mut tree)?;
    let programs: Vec<&str> =
        text.qemu.iter().chain(&text.qemu_modules).chain(&text.programs).map(String::as_str).collect();
    let Closure { interpreter, libraries } = elf::closure(packages, &programs, isa)?;
    let files = text.files.iter().map(String::as_str);
    let needed = libraries.values().map(String::as_str).chain(interpreter.as_deref());
    for path in programs.iter().copied().chain(files).chain(needed) {
        packages.copy_to(path, &mut tree).ok_or_else(|| format!("no package holds {path}"))?;
    }
    if let (Some(qemu), Some(name)) = (&text.qemu, &text.qemu_name) {
        tree.insert(&format!("usr/bin/{name}"), Node::Link(format!("/{qemu}")));
    }
    for path in &text.optional_files {
        packages.copy_to(path, &mut tree);
    }
    for folder in &text.folders {
        copy_folder(packages, folder, &mut tree)?;
    }
    for (path, target) in &text.links {
        tree.insert(path, Node::Link(target.clone()));
    }
    for (path, text) in &text.texts {
        tree.write(path, text.as_bytes(), false);
    }
    let mut left_out = Vec::new();
    if !text.kernel_modules.is_empty() {
        let wanted = (text.kernel_modules.as_slice(), text.optional_kernel_modules.as_slice());
        left_out = modules::add(packages, release, wanted, lenient, &mut tree)?;
    }
    tree.link_merged_folders();
    Ok((tree, left_out))
}

/// Adds all files of a folder.
fn copy_folder(packages: &Tree, folder: &str, tree: &mut Tree) -> Result<(), String> {
    let below = format!("{folder}/");
    let files: Vec<&str> = packages.under(&below).map(|(path, _)| path).collect();
    if files.is_empty() {
        return Err(format!("no package holds a file in {folder}"));
    }
    for path in files {
        packages.copy_to(path, tree);
    }
    Ok(())
}

/// Adds busybox under the names of its applets. Its program holds a list of zero-terminated names, which shows missing ones.
fn busybox(packages: &Tree, applets: &str, tree: &mut Tree) -> Result<(), String> {
    let program = packages.copy_to(BUSYBOX, tree).ok_or_else(|| format!("no package holds {BUSYBOX}"))?;
    let names: HashSet<&[u8]> = program.data.split(|byte| *byte == 0).collect();
    for applet in applets.split_whitespace() {
        if !names.contains(applet.as_bytes()) {
            return Err(format!("busybox has no applet {applet}"));
        }
        tree.insert(&format!("usr/bin/{applet}"), Node::Link("busybox".into()));
    }
    Ok(())
}

/// The tree of an emulator. Its folders are flat, so that it runs anywhere with its own loader.
///
/// # Errors
/// A sentence that names what the packages lack.
pub(crate) fn emulator(packages: &Tree, text: &EmulatorText, isa: Isa) -> Result<Tree, String> {
    let there = |paths: &'_ [String]| -> Vec<String> {
        paths.iter().filter(|path| packages.file(path).is_some()).cloned().collect()
    };
    let modules = [text.modules.clone(), there(&text.optional_modules)].concat();
    let files = [text.files.clone(), there(&text.optional_files)].concat();
    let roots = || std::iter::once(&text.program).chain(&text.programs).chain(&modules);
    let names: Vec<&str> = roots().map(String::as_str).collect();
    let Closure { interpreter, libraries } = elf::closure(packages, &names, isa)?;
    let loader = interpreter.ok_or_else(|| format!("{} is linked statically", text.program))?;
    let mut tree = Tree::default();
    let mut take = |from: &str, to: &str| -> Result<(), String> {
        let (_, file) = packages.file(from).ok_or_else(|| format!("no package holds {from}"))?;
        tree.insert(to, Node::File(file.clone()));
        Ok(())
    };
    take(&loader, LOADER)?;
    for (name, path) in &libraries {
        take(path, &format!("{LIBRARIES}/{name}"))?;
    }
    let programs = std::iter::once(&text.program).chain(&text.programs).map(|path| (PROGRAMS, path));
    let modules = modules.iter().map(|path| (MODULES, path));
    for (folder, path) in programs.chain(modules).chain(files.iter().map(|path| (DATA, path))) {
        let name = path.rsplit('/').next().unwrap_or(path);
        take(path, &format!("{folder}/{name}"))?;
    }
    Ok(tree)
}
