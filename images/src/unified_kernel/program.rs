//! Adds sections to a UEFI program (PE32+, Microsoft's "PE Format").

use goblin::pe::PE;
use goblin::pe::header::{COFF_MACHINE_ARM64, COFF_MACHINE_X86_64, Header, SIZEOF_COFF_HEADER};
use goblin::pe::optional_header::OptionalHeader;

/// The length of the signature before the COFF header.
const SIGNATURE: usize = 4;
/// The length of an entry of the section table.
const ENTRY: usize = 40;
/// The place of the number of sections, in the COFF header.
const NUMBER_OF_SECTIONS: usize = 2;
/// The places of these fields in the optional header.
const SIZE_OF_IMAGE: usize = 56;
const CHECKSUM: usize = 64;
/// Characteristics of a section with data that is only read.
const READ_ONLY_DATA: u32 = 0x4000_0040;

/// Where UEFI looks for a program of this processor on a disk that it does not know (UEFI 2.10, 3.5.1.1).
pub(super) fn default_path(program: &[u8]) -> Result<&'static str, String> {
    let header = Header::parse(program).map_err(|e| format!("it is not a UEFI program: {e}"))?;
    match header.coff_header.machine {
        COFF_MACHINE_X86_64 => Ok("EFI/BOOT/BOOTX64.EFI"),
        COFF_MACHINE_ARM64 => Ok("EFI/BOOT/BOOTAA64.EFI"),
        other => Err(format!("it is for a processor with the number {other:#x}")),
    }
}

/// A copy of `program` with these sections after its own ones. UEFI does not check the sum of a program, so it gets none.
pub(super) fn with_sections(program: &[u8], sections: &[(&str, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let pe = PE::parse(program).map_err(|e| format!("it is not a UEFI program: {e}"))?;
    let Some(OptionalHeader { windows_fields: fields, .. }) = pe.header.optional_header else {
        return Err("it is not a UEFI program: it has no optional header".to_owned());
    };
    let (in_memory, in_file) = (fields.section_alignment, fields.file_alignment);
    if !in_memory.is_power_of_two() || !in_file.is_power_of_two() {
        return Err("its sections have no alignment".to_owned());
    }
    let coff = pe.header.dos_header.pe_pointer as usize + SIGNATURE;
    let optional = coff + SIZEOF_COFF_HEADER;
    let table = optional + usize::from(pe.header.coff_header.size_of_optional_header);
    let end = table + (pe.sections.len() + sections.len()) * ENTRY;
    if end > fields.size_of_headers as usize || end > program.len() {
        return Err("its headers have no room for more sections".to_owned());
    }
    let too_large = || "the program would be too large".to_owned();
    let ends = pe.sections.iter().map(|own| own.virtual_address.checked_add(own.virtual_size));
    let ends = ends.collect::<Option<Vec<u32>>>().ok_or_else(too_large)?;
    let mut address = ends.into_iter().max().unwrap_or(fields.size_of_headers);
    let mut made = program.to_vec();
    for (number, (name, data)) in sections.iter().enumerate() {
        address = address.checked_next_multiple_of(in_memory).ok_or_else(too_large)?;
        made.resize(made.len().next_multiple_of(in_file as usize), 0);
        let start = u32::try_from(made.len()).map_err(|_| too_large())?;
        let size = u32::try_from(data.len()).map_err(|_| too_large())?;
        made.extend_from_slice(data);
        made.resize(made.len().next_multiple_of(in_file as usize), 0);
        let entry = entry(name, (address, size), (start, made.len() as u32 - start));
        let at = table + (pe.sections.len() + number) * ENTRY;
        made[at..at + ENTRY].copy_from_slice(&entry);
        address = address.checked_add(size).ok_or_else(too_large)?;
    }
    let image = address.checked_next_multiple_of(in_memory).ok_or_else(too_large)?;
    let count = u16::try_from(pe.sections.len() + sections.len()).map_err(|_| too_large())?;
    put(&mut made, coff + NUMBER_OF_SECTIONS, &count.to_le_bytes());
    put(&mut made, optional + SIZE_OF_IMAGE, &image.to_le_bytes());
    put(&mut made, optional + CHECKSUM, &[0; 4]);
    Ok(made)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// An entry of the section table: the address and size in memory, and the place and size in the file.
fn entry(name: &str, memory: (u32, u32), file: (u32, u32)) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    let length = name.len().min(8);
    put(&mut entry, 0, &name.as_bytes()[..length]);
    for (index, value) in [memory.1, memory.0, file.1, file.0].into_iter().enumerate() {
        put(&mut entry, 8 + index * 4, &value.to_le_bytes());
    }
    put(&mut entry, 36, &READ_ONLY_DATA.to_le_bytes());
    entry
}
