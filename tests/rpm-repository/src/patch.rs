//! Changes Debian's programs where RHEL's differ, without compiling them.

use goblin::elf::Elf;
use goblin::elf::dynamic::DT_RELA;
use goblin::elf::program_header::PT_LOAD;
use goblin::elf::reloc::R_X86_64_RELATIVE;
use std::collections::BTreeSet;

/// Debian's folder of libraries, without `/usr`.
const DEBIAN_LIBRARIES: &[u8; 21] = b"/lib/x86_64-linux-gnu";
/// RHEL's, in the same number of bytes: a path may have any number of slashes between its parts.
const RHEL_LIBRARIES: &[u8; 21] = b"/lib64///////////////";

/// The bytes of a program or library that moves from Debian's folder to RHEL's, with the paths in it: the loader's default
/// search path, run paths, folders of plugins. None if it is not an ELF file.
pub(crate) fn moved(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    bytes.starts_with(b"\x7fELF").then(|| {
        replace_all(&mut bytes, DEBIAN_LIBRARIES, RHEL_LIBRARIES);
        bytes
    })
}

/// Replaces every occurrence by as many bytes.
fn replace_all<const N: usize>(bytes: &mut [u8], old: &[u8; N], new: &[u8; N]) {
    let mut start = 0;
    while let Some(at) = find(&bytes[start..], old) {
        start += at;
        bytes[start..start + N].copy_from_slice(new);
        start += N;
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    // Few places begin with the right byte, and comparing there is cheap.
    let first = *text.first()?;
    let mut start = 0;
    loop {
        start += bytes[start..].iter().position(|byte| *byte == first)?;
        if bytes[start..].starts_with(text) {
            return Some(start);
        }
        start += 1;
    }
}

/// A position-independent x86-64 program. Its pointers to constants are relocations, which say what they point to.
pub(crate) struct Program {
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    pointers: Vec<Pointer>,
}

/// A part of the file that is loaded into memory.
struct Segment {
    offset: u64,
    address: u64,
    size: u64,
}

/// A pointer that the loader adjusts.
struct Pointer {
    /// Where the pointer is in memory.
    address: u64,
    target: u64,
    /// Where its relocation is in the file.
    entry: usize,
}

/// The size of an entry of the table of relocations, and where the target is in it: Elf64_Rela in elf(5).
const RELOCATION: usize = 24;
const ADDEND: usize = 16;

/// More bytes than a short string has.
const LONGEST: usize = 40;

impl Program {
    /// # Errors
    /// A message, if it is no such program.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let elf = Elf::parse(&bytes).map_err(|e| e.to_string())?;
        let loaded = elf.program_headers.iter().filter(|header| header.p_type == PT_LOAD);
        let segments: Vec<Segment> = loaded
            .map(|header| Segment { offset: header.p_offset, address: header.p_vaddr, size: header.p_filesz })
            .collect();
        let dynamic = elf.dynamic.iter().flat_map(|dynamic| &dynamic.dyns);
        let table =
            dynamic.filter(|entry| entry.d_tag == DT_RELA).find_map(|entry| offset(&segments, entry.d_val));
        let table = table.ok_or("it has no relocations")?;
        let pointers = elf.dynrelas.iter().enumerate().filter_map(|(number, relocation)| {
            let target = u64::try_from(relocation.r_addend?).ok()?;
            let entry = table + number * RELOCATION;
            let pointer = Pointer { address: relocation.r_offset, target, entry };
            (relocation.r_type == R_X86_64_RELATIVE).then_some(pointer)
        });
        let pointers = pointers.collect();
        Ok(Self { bytes, segments, pointers })
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The offset of a zero-terminated string that is in the file once.
    fn string(&self, text: &str) -> Result<usize, String> {
        let terminated = [text.as_bytes(), b"\0"].concat();
        let mut found = None;
        let mut start = 0;
        while let Some(at) = find(&self.bytes[start..], &terminated) {
            let at = start + at;
            // Otherwise it is the end of another string.
            if at > 0 && self.bytes[at - 1] == 0 && found.replace(at).is_some() {
                return Err(format!("the string {text:?} is there twice"));
            }
            start = at + 1;
        }
        found.ok_or_else(|| format!("there is no string {text:?}"))
    }

    /// The short strings of some kind that pointers lead to.
    pub(crate) fn strings(&self, is_wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let text = |pointer: &Pointer| {
            let bytes = self.at(pointer)?;
            let end = bytes.iter().take(LONGEST).position(|byte| *byte == 0)?;
            std::str::from_utf8(&bytes[..end]).ok()
        };
        self.pointers.iter().filter_map(text).filter(|text| is_wanted(text)).map(str::to_owned).collect()
    }

    /// Replaces a string by one that is not longer.
    pub(crate) fn replace(&mut self, old: &str, new: &str) -> Result<(), String> {
        let at = self.string(old)?;
        let place = &mut self.bytes[at..at + old.len()];
        let (text, rest) =
            place.split_at_mut_checked(new.len()).ok_or_else(|| format!("{new:?} is longer than {old:?}"))?;
        text.copy_from_slice(new.as_bytes());
        rest.fill(0);
        Ok(())
    }

    /// Lets the pointer to a string lead to another one, which may be longer. It is written over a string that is never used.
    pub(crate) fn redirect(&mut self, old: &str, new: &str, unused: &str) -> Result<(), String> {
        let target = self.address(unused)?;
        let number = self.pointer(old)?;
        let pointer = &mut self.pointers[number];
        pointer.target = target;
        let at = pointer.entry + ADDEND;
        self.bytes[at..at + size_of::<u64>()].copy_from_slice(&target.to_le_bytes());
        self.replace(unused, new)
    }

    /// Sets a byte of the structure that begins with the pointer to a string.
    pub(crate) fn set(&mut self, name: &str, member: u64, value: u8) -> Result<(), String> {
        let at = self.member(name, member)?.1;
        self.bytes[at] = value;
        Ok(())
    }

    /// Makes a pointer null in the structure that begins with the pointer to a string.
    pub(crate) fn clear(&mut self, name: &str, member: u64) -> Result<(), String> {
        let (address, at) = self.member(name, member)?;
        self.bytes[at..at + size_of::<u64>()].fill(0);
        let number = self.pointers.iter().position(|pointer| pointer.address == address);
        let number = number.ok_or_else(|| format!("the structure of {name:?} has no pointer at {member}"))?;
        // The loader expects a table without gaps, so the relocation becomes a second one of another pointer.
        let other = usize::from(number == 0);
        let (from, to) = (self.pointers[other].entry, self.pointers[number].entry);
        self.bytes.copy_within(from..from + RELOCATION, to);
        Ok(())
    }

    /// The address and the offset of a member of the structure that begins with the pointer to a string.
    fn member(&self, name: &str, member: u64) -> Result<(u64, usize), String> {
        let address = self.pointers[self.pointer(name)?].address + member;
        let at = offset(&self.segments, address);
        Ok((address, at.ok_or_else(|| format!("the structure of {name:?} is not in the file"))?))
    }

    /// The address of a string in memory.
    fn address(&self, text: &str) -> Result<u64, String> {
        let at = u64::try_from(self.string(text)?).map_err(|e| e.to_string())?;
        let is_in = |segment: &&Segment| (segment.offset..segment.offset + segment.size).contains(&at);
        let segment =
            self.segments.iter().find(is_in).ok_or_else(|| format!("the string {text:?} is not loaded"))?;
        Ok(at - segment.offset + segment.address)
    }

    /// The number of the only pointer to a string.
    fn pointer(&self, text: &str) -> Result<usize, String> {
        let terminated = [text.as_bytes(), b"\0"].concat();
        let leads_to_it =
            |pointer: &Pointer| self.at(pointer).is_some_and(|bytes| bytes.starts_with(&terminated));
        let mut found = self.pointers.iter().enumerate().filter(|(_, pointer)| leads_to_it(pointer));
        match (found.next(), found.next()) {
            (Some((number, _)), None) => Ok(number),
            (None, _) => Err(format!("no pointer leads to {text:?}")),
            (Some(_), Some(_)) => Err(format!("several pointers lead to {text:?}")),
        }
    }

    /// What a pointer leads to.
    fn at(&self, pointer: &Pointer) -> Option<&[u8]> {
        self.bytes.get(offset(&self.segments, pointer.target)?..)
    }
}

/// Where the file has what is at an address in memory.
fn offset(segments: &[Segment], address: u64) -> Option<usize> {
    let segment = segments
        .iter()
        .find(|segment| (segment.address..segment.address + segment.size).contains(&address))?;
    usize::try_from(address - segment.address + segment.offset).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_a_program_keep_their_length() {
        let before = b"\x7fELF\0/usr/lib/x86_64-linux-gnu/nss:/lib/x86_64-linux-gnu/\0/lib/x86_64";
        let after = b"\x7fELF\0/usr/lib64////////////////nss:/lib64////////////////\0/lib/x86_64";
        assert_eq!(moved(before.to_vec()).unwrap(), after);
        assert_eq!(moved(b"#!/lib/x86_64-linux-gnu/script".to_vec()), None);
    }

    #[test]
    fn only_a_program_with_relocations_can_be_changed() {
        assert!(Program::parse(b"#!/bin/sh".to_vec()).is_err());
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let error = |result: Result<(), String>| result.unwrap_err();
        let mut program = Program::parse(this).unwrap();
        // Put together here, since this program holds the strings that are written in its source.
        let absent: String = "gnirts on".chars().rev().collect();
        assert_eq!(error(program.replace(&absent, "x")), "there is no string \"no string\"");
        assert_eq!(error(program.set(&absent, 0, 1)), "no pointer leads to \"no string\"");
    }
}
