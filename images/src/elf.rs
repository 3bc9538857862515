//! Finds the shared libraries that programs need as the dynamic loader does (ld.so(8)), without running it.

use crate::tree::Tree;
use goblin::container::Ctx;
use goblin::elf::program_header::PT_INTERP;
use goblin::elf::{Elf, ProgramHeader};
use nestmatrix_model::Isa;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What a set of programs needs to start.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Closure {
    /// The dynamic loader that the programs name; none if all are linked statically.
    pub(crate) interpreter: Option<String>,
    /// The path of each library, by the name that programs use.
    pub(crate) libraries: BTreeMap<String, String>,
}

/// Follows `DT_NEEDED` from the programs or libraries of a tree until everything is found.
///
/// # Errors
/// A sentence that names what is missing or unreadable, and who needs it.
pub(crate) fn closure(tree: &Tree, roots: &[&str], isa: Isa) -> Result<Closure, String> {
    let mut found = Closure::default();
    let mut machine = None;
    let mut queue: Vec<String> = roots.iter().map(|root| (*root).to_owned()).collect();
    while let Some(path) = queue.pop() {
        let (place, file) = tree.file(&path).ok_or_else(|| format!("no package holds {path}"))?;
        let elf = Elf::parse(&file.data).map_err(|e| format!("{path} is not an ELF file: {e}"))?;
        let of = *machine.get_or_insert(elf.header.e_machine);
        if elf.header.e_machine != of {
            return Err(format!("{path} is for another machine than {}", roots[roots.len() - 1]));
        }
        if let Some(interpreter) = elf.interpreter {
            found.interpreter.get_or_insert_with(|| interpreter.to_owned());
        }
        let origin = place.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut folders: Vec<String> = elf
            .rpaths
            .iter()
            .chain(&elf.runpaths)
            .flat_map(|list| list.split(':'))
            .map(|f| expand(f, origin))
            .collect();
        let tuple = isa.info().multiarch;
        folders.extend([format!("usr/lib/{tuple}"), "usr/lib".into(), "usr/lib64".into()]);
        for name in &elf.libraries {
            if found.libraries.contains_key(*name) {
                continue;
            }
            let library = folders
                .iter()
                .map(|folder| format!("{folder}/{name}"))
                .find(|path| tree.file(path).is_some_and(|(_, file)| is_for(&file.data, of)))
                .ok_or_else(|| format!("no package holds library {name}, which {path} needs"))?;
            found.libraries.insert((*name).to_owned(), library.clone());
            queue.push(library);
        }
    }
    Ok(found)
}

/// The beginning of a program: what it is for, and what loads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFile {
    /// Its instruction set, if it is a known one.
    pub isa: Option<Isa>,
    /// The dynamic loader that it names; none if it is linked statically.
    pub interpreter: Option<PathBuf>,
}

impl ProgramFile {
    /// Reads it; none if the file is not an ELF file.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        // Only this: a program with debug information may have hundreds of MB.
        let part = |from: u64, length: u64| {
            let end = from.checked_add(length).filter(|end| *end <= size && length <= LONGEST_PART);
            end.ok_or_else(|| io::Error::other("it is damaged: it is shorter than its headers say"))?;
            let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
            file.read_exact_at(&mut bytes, from).map(|()| bytes)
        };
        let header = part(0, size.min(64))?;
        if !header.starts_with(b"\x7fELF") {
            return Ok(None);
        }
        let damaged = |e: goblin::error::Error| io::Error::other(format!("it is damaged: {e}"));
        let elf = Elf::parse_header(&header).map_err(damaged)?;
        let table = part(elf.e_phoff, u64::from(elf.e_phentsize) * u64::from(elf.e_phnum))?;
        let context = Ctx::new(elf.container().map_err(damaged)?, elf.endianness().map_err(damaged)?);
        let headers = ProgramHeader::parse(&table, 0, elf.e_phnum.into(), context).map_err(damaged)?;
        let interpreter = match headers.iter().find(|header| header.p_type == PT_INTERP) {
            Some(header) => {
                let bytes = part(header.p_offset, header.p_filesz)?;
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                Some(PathBuf::from(OsStr::from_bytes(&bytes[..end])))
            }
            None => None,
        };
        let machine = header.get(18..20).and_then(|bytes| bytes.try_into().ok());
        Ok(Some(Self { isa: machine.and_then(Isa::of_elf_machine), interpreter }))
    }
}

/// Longest part of a program that is read, in bytes.
const LONGEST_PART: u64 = 1 << 20;

/// Whether a file is a program of this instruction set that runs without libraries.
pub(crate) fn is_static(data: &[u8], isa: Isa) -> bool {
    let is_of_isa =
        data.get(18..20).and_then(|bytes| bytes.try_into().ok()).and_then(Isa::of_elf_machine) == Some(isa);
    is_of_isa && Elf::parse(data).is_ok_and(|elf| elf.interpreter.is_none() && elf.libraries.is_empty())
}

/// The loader skips libraries for other machines, and so does this search.
fn is_for(data: &[u8], machine: u16) -> bool {
    Elf::parse_header(data).is_ok_and(|header| header.e_machine == machine)
}

fn expand(folder: &str, origin: &str) -> String {
    folder.replace("${ORIGIN}", &format!("/{origin}")).replace("$ORIGIN", &format!("/{origin}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn word(bytes: &mut Vec<u8>, value: u64) {
        bytes.extend(value.to_le_bytes());
    }

    /// A minimal ELF file that maps itself, needs libraries and has a run path.
    fn elf(machine: u16, needed: &[&str], runpath: &str) -> Vec<u8> {
        let mut strings = b"\0".to_vec();
        let mut dynamic = Vec::new();
        // DT_NEEDED is 1, DT_RUNPATH 29, DT_STRTAB 5, DT_STRSZ 10 (elf(5)).
        for (tag, text) in needed.iter().map(|name| (1, *name)).chain([(29, runpath)]) {
            dynamic.push((tag, strings.len() as u64));
            strings.extend(text.bytes().chain([0]));
        }
        let headers = 64 + 2 * 56;
        let strings_at = headers + 16 * (dynamic.len() as u64 + 3);
        dynamic.extend([(5, strings_at), (10, strings.len() as u64), (0, 0)]);
        let size = strings_at + strings.len() as u64;

        let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
        bytes.extend(machine.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        for value in [0, 64, 0] {
            word(&mut bytes, value);
        }
        bytes.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 2, 64, 0, 0] {
            bytes.extend(half.to_le_bytes());
        }
        // PT_LOAD of everything, PT_DYNAMIC.
        for (kind, at, length) in [(1u32, 0, size), (2, headers, strings_at - headers)] {
            bytes.extend(kind.to_le_bytes());
            bytes.extend(4u32.to_le_bytes());
            for value in [at, at, at, length, length, 8] {
                word(&mut bytes, value);
            }
        }
        for (tag, value) in dynamic {
            word(&mut bytes, tag);
            word(&mut bytes, value);
        }
        bytes.extend(strings);
        bytes
    }

    const X86_64: u16 = 62;
    const ARM64: u16 = 183;

    #[test]
    fn libraries_are_found_by_run_path_and_by_default_and_those_for_other_machines_skipped() {
        let mut tree = Tree::default();
        tree.write("usr/bin/program", elf(X86_64, &["liba.so", "libb.so"], "$ORIGIN/../lib/own"), true);
        tree.write("usr/lib/own/liba.so", elf(ARM64, &[], ""), false);
        tree.write("lib/x86_64-linux-gnu/liba.so", elf(X86_64, &["libc.so"], ""), false);
        tree.write("usr/lib/own/libb.so", elf(X86_64, &["libc.so"], ""), false);
        tree.write("usr/lib/libc.so", elf(X86_64, &[], ""), false);
        let found = closure(&tree, &["usr/bin/program"], Isa::Amd64).unwrap();
        let libraries: Vec<String> = found.libraries.values().map(|path| crate::tree::merged(path)).collect();
        assert_eq!(libraries, ["usr/lib/x86_64-linux-gnu/liba.so", "usr/lib/own/libb.so", "usr/lib/libc.so"]);
    }

    #[test]
    fn a_missing_library_is_named_with_the_file_that_needs_it() {
        let mut tree = Tree::default();
        tree.write("usr/bin/program", elf(X86_64, &["liba.so"], ""), true);
        tree.write("usr/lib/liba.so", elf(X86_64, &["libz.so"], ""), false);
        let error = closure(&tree, &["usr/bin/program"], Isa::Amd64).unwrap_err();
        assert_eq!(error, "no package holds library libz.so, which usr/lib/liba.so needs");
        assert_eq!(closure(&tree, &["x"], Isa::Amd64).unwrap_err(), "no package holds x");
    }

    #[test]
    fn a_program_names_its_loader_and_a_script_is_no_program() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let read = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            ProgramFile::read(&file).map_err(|e| e.to_string())
        };
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let program = read(&own).unwrap().unwrap();
        assert_eq!(program.isa, Isa::of_this_machine());
        assert!(program.interpreter.is_some_and(|path| path.is_absolute() && path.exists()));
        let library = read(&elf(ARM64, &["libc.so"], "")).unwrap().unwrap();
        assert_eq!(library, ProgramFile { isa: Some(Isa::Arm64), interpreter: None });
        assert_eq!(read(b"#!/bin/sh\n"), Ok(None));
        assert_eq!(read(b""), Ok(None));
        assert!(read(&own[..40]).unwrap_err().starts_with("it is damaged"));
        assert!(read(&own[..70]).unwrap_err().starts_with("it is damaged"));
    }

    #[test]
    fn this_program_needs_a_loader_and_libc() {
        let mut tree = Tree::default();
        tree.write("program", fs::read(std::env::current_exe().unwrap()).unwrap(), true);
        let error = closure(&tree, &["program"], Isa::Amd64).unwrap_err();
        assert!(error.starts_with("no package holds library lib"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_program_is_refused_or_read(at in 0_usize..400, byte: u8, length in 0_usize..420) {
            let mut bytes = elf(X86_64, &["liba.so"], "$ORIGIN/../lib/own");
            bytes.truncate(length);
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &bytes).unwrap();
            let _ = (ProgramFile::read(file.path()), is_static(&bytes, Isa::Amd64));
            let mut tree = Tree::default();
            tree.write("usr/bin/program", bytes, true);
            let _ = closure(&tree, &["usr/bin/program"], Isa::Amd64);
        }
    }
}
