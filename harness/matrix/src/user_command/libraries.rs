//! Finds the shared libraries that a program of this machine loads, by asking its own loader (ld.so(8), `--list`): only that one knows all
//! the places where it looks, such as those of `LD_LIBRARY_PATH`, which cargo sets for tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The libraries of `program` by the names that it uses, as its loader finds them.
///
/// # Errors
/// What the loader does not find, or that it can't be run.
pub(super) fn libraries_of(loader: &Path, program: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut command = Command::new(loader);
    let listed = command.arg("--list").arg(program).stdin(Stdio::null()).output();
    let listed = listed.map_err(|e| format!("failed to run its loader {}: {e}", loader.display()))?;
    let (said, complained) =
        (String::from_utf8_lossy(&listed.stdout), String::from_utf8_lossy(&listed.stderr));
    let libraries = parse(&said)?;
    if listed.status.success() {
        Ok(libraries)
    } else {
        Err(format!("its loader {} fails: {}", loader.display(), complained.trim()))
    }
}

/// Reads lines `NAME => PATH (ADDRESS)`. The loader itself and what the kernel provides have no arrow, or no path.
fn parse(listed: &str) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut libraries = BTreeMap::new();
    for line in listed.lines() {
        let Some((name, place)) = line.trim().split_once(" => ") else { continue };
        if place == "not found" {
            return Err(format!("its library {name} is not found on this machine"));
        }
        let path = place.rsplit_once(" (").map_or(place, |(path, _)| path);
        if path.starts_with('/') {
            let name = name.rsplit('/').next().unwrap_or(name);
            libraries.insert(name.to_owned(), path.into());
        }
    }
    Ok(libraries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_listed_with_their_paths() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffe2a7f2000)\n\tlinux-gate.so.1 =>  (0xb7f)\n\
            \tlibc.so.6 => /lib/x86_64 linux/libc.so.6 (0x00007f0e1c000000)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f0e1c39b000)\n\tstatically linked\n";
        let expected = BTreeMap::from([("libc.so.6".to_owned(), "/lib/x86_64 linux/libc.so.6".into())]);
        assert_eq!(parse(listed), Ok(expected));
    }

    #[test]
    fn a_library_that_is_missing_is_named() {
        let why = parse("\tlibx.so.1 => not found\n").unwrap_err();
        assert_eq!(why, "its library libx.so.1 is not found on this machine");
    }

    #[test]
    fn this_program_needs_libc() {
        let own = std::env::current_exe().unwrap();
        let program = nestmatrix_images::ProgramFile::read(&own).unwrap().unwrap();
        let found = libraries_of(&program.interpreter.unwrap(), &own).unwrap();
        assert!(found.iter().any(|(name, path)| name.starts_with("libc.") && path.is_file()), "{found:?}");
        let why = libraries_of(Path::new("/nowhere/ld.so"), &own).unwrap_err();
        assert!(why.starts_with("failed to run its loader /nowhere/ld.so: "), "{why}");
    }
}
