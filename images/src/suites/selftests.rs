//! The selftests of the kernel's KVM (`tools/testing/selftests/kvm`): each is a program that runs in a level and opens `/dev/kvm` there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::unit_tests::UnitTest;
use crate::Error;

/// The folders of the tests for x86, of which a build has one. Linux 6.14 renamed it.
pub(super) const OF_X86: [&str; 2] = ["x86", "x86_64"];
/// How long a test may run, in seconds (`settings` in the suite's folder).
const TIMEOUT: u32 = 120;
/// Marks an ELF file.
const ELF: &[u8] = b"\x7fELF";
/// A program in ELF: with fixed addresses, or not.
const PROGRAMS: [u16; 2] = [2, 3];
/// The architecture x86-64 in ELF.
const X86_64: u16 = 62;

/// Whether a folder has the tests for x86.
pub(super) fn is_suite(folder: &Path) -> bool {
    OF_X86.iter().any(|of_x86| folder.join(of_x86).is_dir())
}

/// The tests: the programs in the folder and in that for x86, and the sources without a program. The latter are not built.
pub(super) fn tests(folder: &Path) -> Result<Vec<UnitTest>, Error> {
    let mut tests: BTreeMap<String, UnitTest> = BTreeMap::new();
    let folders = OF_X86.iter().map(|of_x86| folder.join(of_x86)).chain([folder.to_owned()]);
    for folder in folders.filter(|folder| folder.is_dir()) {
        let failed = |e| Error::io("read", &folder)(e);
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(test) = test(&path).map_err(failed)? else { continue };
            let is_built = test.file.is_file();
            match tests.get(&test.name) {
                // A program comes before a source, and the folder for x86 before the other.
                Some(known) if known.file.is_file() || !is_built => {}
                Some(_) | None => drop(tests.insert(test.name.clone(), test)),
            }
        }
    }
    Ok(tests.into_values().collect())
}

/// The test that a file is about, if it is about one.
fn test(path: &Path) -> io::Result<Option<UnitTest>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if let Some(name) = name.strip_suffix(".c") {
        let program = path.with_extension("");
        // A program speaks for itself.
        return Ok((!program.is_file()).then(|| of_program(name, program)));
    }
    if !path.is_file() || !name.chars().all(is_plain) {
        return Ok(None);
    }
    let Some(machine) = machine_of(path)? else { return Ok(None) };
    let unusable = (machine != X86_64).then(|| "it is built for another architecture".to_owned());
    Ok(Some(UnitTest { unusable, ..of_program(name, path.to_owned()) }))
}

fn of_program(name: &str, file: PathBuf) -> UnitTest {
    UnitTest {
        name: name.to_owned(),
        groups: Vec::new(),
        file,
        cpus: 1,
        arguments: String::new(),
        qemu: Vec::new(),
        timeout: TIMEOUT,
        needs: Vec::new(),
        unusable: None,
    }
}

/// The architecture of a program; none if the file is not one. Object files have the same format.
fn machine_of(path: &Path) -> io::Result<Option<u16>> {
    let mut header = Vec::new();
    File::open(path)?.take(20).read_to_end(&mut header)?;
    let number = |at: usize| Some(u16::from_le_bytes([*header.get(at)?, *header.get(at + 1)?]));
    let is_program = header.starts_with(ELF) && number(16).is_some_and(|kind| PROGRAMS.contains(&kind));
    Ok(number(18).filter(|_| is_program))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a file in ELF.
    fn elf(kind: u16, machine: u16) -> Vec<u8> {
        let mut bytes = [ELF, &[2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(machine.to_le_bytes());
        bytes
    }

    #[test]
    fn programs_and_sources_are_tests() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_suite(folder.path()));
        let x86 = folder.path().join("x86_64");
        fs::create_dir(&x86).unwrap();
        assert!(is_suite(folder.path()));
        let write = |path: PathBuf, bytes: &[u8]| fs::write(path, bytes).unwrap();
        write(x86.join("svm_a"), &elf(3, X86_64));
        write(x86.join("svm_a.c"), b"int main");
        write(x86.join("svm_a.o"), &elf(1, X86_64));
        write(x86.join("vmx_b.c"), b"int main");
        write(x86.join("script"), b"#!/bin/sh");
        write(x86.join("other"), &elf(2, 183));
        write(x86.join("other.c"), b"int main");
        write(folder.path().join("common"), &elf(2, X86_64));
        write(folder.path().join("common.c"), b"int main");
        write(folder.path().join("Makefile"), b"");
        write(folder.path().join("svm_a"), &elf(2, 183));
        let tests = tests(folder.path()).unwrap();
        let found: Vec<_> =
            tests.iter().map(|test| (&*test.name, test.file.is_file(), test.unusable.is_some())).collect();
        assert_eq!(
            found,
            [("common", true, false), ("other", true, true), ("svm_a", true, false), ("vmx_b", false, false)]
        );
        assert_eq!(tests[2].file, x86.join("svm_a"));
    }
}
