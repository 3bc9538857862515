use goblin::pe::PE;
use proptest::prelude::*;

use super::*;
use crate::DiskFormat;
use crate::media::inspect;
use std::fs::File;
use std::io;

/// A UEFI program with one section and room for entries of others, by Microsoft's "PE Format".
fn stub(room: usize) -> Vec<u8> {
    const HEADERS: usize = 0x400;
    let mut bytes = vec![0; HEADERS + 0x200];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(0x3c, &0x80_u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x84, &0x8664_u16.to_le_bytes());
    put(0x86, &1_u16.to_le_bytes());
    put(0x94, &0xf0_u16.to_le_bytes());
    put(0x98, &0x20b_u16.to_le_bytes());
    put(0x98 + 32, &0x1000_u32.to_le_bytes());
    put(0x98 + 36, &0x200_u32.to_le_bytes());
    put(0x98 + 56, &0x2000_u32.to_le_bytes());
    let table = 0x98 + 0xf0;
    put(0x98 + 60, &((table + (1 + room) * 40) as u32).to_le_bytes());
    put(0x98 + 64, &[1; 4]);
    put(0x98 + 108, &16_u32.to_le_bytes());
    put(table, b".text");
    for (index, value) in [0x123_u32, 0x1000, 0x200, HEADERS as u32].into_iter().enumerate() {
        put(table + 8 + index * 4, &value.to_le_bytes());
    }
    bytes
}

/// Name, address, size in memory, and contents of each section.
fn sections(program: &[u8]) -> Vec<(String, u32, u32, Vec<u8>)> {
    let section = |section: &goblin::pe::section_table::SectionTable| {
        let start = section.pointer_to_raw_data as usize;
        let bytes = program[start..start + section.virtual_size as usize].to_vec();
        (section.name().unwrap().to_owned(), section.virtual_address, section.virtual_size, bytes)
    };
    PE::parse(program).unwrap().sections.iter().map(section).collect()
}

#[test]
fn a_program_gets_sections_after_its_own_ones() {
    let added = [(".cmdline", b"console=ttyS0".to_vec()), (".linux", vec![7; 5000])];
    let program = program::with_sections(&stub(2), &added).unwrap();
    let seen = sections(&program);
    assert_eq!(seen[0].0, ".text");
    assert_eq!(seen[1], (".cmdline".to_owned(), 0x2000, 13, b"console=ttyS0".to_vec()));
    assert_eq!(seen[2], (".linux".to_owned(), 0x3000, 5000, vec![7; 5000]));
    let pe = PE::parse(&program).unwrap();
    let fields = pe.header.optional_header.unwrap().windows_fields;
    assert_eq!((fields.size_of_image, fields.check_sum), (0x5000, 0));
}

#[test]
fn a_program_that_can_take_no_sections_is_refused() {
    let one = [(".linux", vec![7])];
    let refused = |program: &[u8]| program::with_sections(program, &one).unwrap_err();
    assert_eq!(refused(&stub(0)), "its headers have no room for more sections");
    assert!(refused(b"#!/bin/sh").starts_with("it is not a UEFI program: "));
    let mut unaligned = stub(1);
    unaligned[0x98 + 32] = 3;
    assert_eq!(refused(&unaligned), "its sections have no alignment");
}

proptest! {
    #[test]
    fn a_damaged_program_is_refused_or_read(at in 0_usize..0x400, byte: u8, length in 0_usize..0x600) {
        let mut program = stub(1);
        program[at] = byte;
        program.truncate(length.max(1));
        let _ = program::with_sections(&program, &[(".linux", vec![7; 10])]);
    }
}

/// A folder with the parts of a unified kernel, whose initramfs has this length.
fn parts(initramfs: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("stub", stub(3)), ("kernel", vec![1; 3 << 20]), ("initramfs", vec![2; initramfs])]
    {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Makes a unified kernel of these parts and this command line.
fn with<T>(folder: &Path, parameters: &str, make: impl FnOnce(&UnifiedKernel<'_>) -> T) -> T {
    let [stub, kernel, initramfs] = ["stub", "kernel", "initramfs"].map(|name| folder.join(name));
    let parameters = parameters.to_owned();
    make(&UnifiedKernel { stub: &stub, kernel: &kernel, initramfs: &initramfs, parameters })
}

#[test]
fn a_disk_has_one_efi_system_partition_with_the_boot_loader() {
    let folder = parts(9 << 20);
    let path = |name: &str| folder.path().join(name);
    with(folder.path(), "nest.nonce=42", |unified| unified.write_disk(&path("disk"))).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["disk", "initramfs", "kernel", "stub"]);

    let disk = gpt::GptConfig::new().open(path("disk")).unwrap();
    assert!(disk.primary_header().is_ok() && disk.backup_header().is_ok());
    let partitions: Vec<_> = disk.partitions().values().filter(|one| one.is_used()).collect();
    assert_eq!(partitions.len(), 1);
    assert_eq!(partitions[0].part_type_guid, gpt::partition_types::EFI);
    let sectors = partitions[0].first_lba * 512..(partitions[0].last_lba + 1) * 512;
    let bytes = fs::read(path("disk")).unwrap();
    assert_eq!((bytes.len() as u64 % (1 << 20), sectors.start), (0, 1 << 20));
    let volume = io::Cursor::new(bytes[sectors.start as usize..sectors.end as usize].to_vec());
    let volume = fatfs::FileSystem::new(volume, fatfs::FsOptions::new()).unwrap();
    let mut program = Vec::new();
    io::Read::read_to_end(&mut volume.root_dir().open_file("EFI/BOOT/BOOTX64.EFI").unwrap(), &mut program)
        .unwrap();
    let seen = sections(&program);
    assert_eq!(seen[1].3, b"nest.nonce=42");
    assert_eq!((&seen[2].3, &seen[3].3), (&vec![2; 9 << 20], &vec![1; 3 << 20]));
}

#[test]
fn a_vhd_is_the_disk_and_a_footer() {
    let folder = parts(9 << 20);
    let made = |name: &str, parameters: &str| {
        let path = folder.path().join(name);
        with(folder.path(), parameters, |unified| unified.write_vhd(&path)).unwrap();
        fs::read(path).unwrap()
    };
    let vhd = made("vhd", "nest.nonce=42");
    assert_eq!(made("again", "nest.nonce=42"), vhd, "the same parts give the same bytes");
    let footer = |vhd: &[u8]| vhd[vhd.len() - vhd::FOOTER..].to_vec();
    assert_ne!(footer(&made("other", "nest.nonce=43")), footer(&vhd), "another boot has another disk");

    let raw = folder.path().join("raw");
    with(folder.path(), "nest.nonce=42", |unified| unified.write_disk(&raw)).unwrap();
    assert!(vhd[..vhd.len() - vhd::FOOTER] == fs::read(raw).unwrap());
    let file = File::open(folder.path().join("vhd")).unwrap();
    assert_eq!(inspect(&file, vhd.len() as u64).unwrap(), DiskFormat::Vpc);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_vhd_has_whole_mebibytes_and_the_second_table_at_their_end(initramfs in 1_usize..20_000_000) {
        let folder = parts(initramfs);
        let path = folder.path().join("vhd");
        with(folder.path(), "quiet", |unified| unified.write_vhd(&path)).unwrap();
        let vhd = fs::read(path).unwrap();
        let disk = &vhd[..vhd.len() - vhd::FOOTER];
        prop_assert_eq!(disk.len() % (1 << 20), 0);
        prop_assert_eq!(&disk[disk.len() - 512..][..8], b"EFI PART");
        // Where the first table says that the second one is.
        let last = u64::from_le_bytes(disk[512 + 32..512 + 40].try_into().unwrap());
        prop_assert_eq!((last + 1) * 512, disk.len() as u64);
    }
}
