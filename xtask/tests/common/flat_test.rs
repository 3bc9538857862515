//! Makes a folder that looks like a build of kvm-unit-tests, with programs of a few bytes: they print a text and end QEMU.

use std::fs;
use std::path::Path;

/// Where a program is loaded, in bytes of memory.
const BASE: u32 = 0x10_0000;
/// The size of the header, after which the code begins.
const HEADER: u32 = 32;
const MAGIC: u32 = 0x1BAD_B002;
/// The header says where the program is loaded.
const WITH_ADDRESSES: u32 = 1 << 16;

/// The end of a program.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// It ends QEMU with this code.
    Code(u32),
    /// It goes on for ever.
    Never,
}

/// A program in the multiboot format that prints `text` to the first serial port.
pub fn program(text: &str, end: End) -> Vec<u8> {
    let mut code = vec![0xbe];
    // mov esi, TEXT
    let at = code.len();
    code.extend([0; 4]);
    // mov dx, 0x3f8; again: lodsb; test al, al; jz end; out dx, al; jmp again
    code.extend([0x66, 0xba, 0xf8, 0x03, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8]);
    if let End::Code(number) = end {
        // mov eax, CODE; mov dx, 0xf4; out dx, eax
        code.push(0xb8);
        code.extend(number.to_le_bytes());
        code.extend([0x66, 0xba, 0xf4, 0x00, 0xef]);
    }
    // again: jmp again
    code.extend([0xeb, 0xfe]);
    let text_at = BASE + HEADER + u32::try_from(code.len()).unwrap();
    code[at..at + 4].copy_from_slice(&text_at.to_le_bytes());
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(WITH_ADDRESSES);
    // The header's own address, where to load, the ends of the data and of the zeros after it (all of the file, none), the entry.
    let header = [MAGIC, WITH_ADDRESSES, checksum, BASE, BASE, 0, 0, BASE + HEADER];
    let mut program: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
    program.extend(code);
    program.extend(text.as_bytes());
    program.push(0);
    program
}

/// A folder with a list of tests and these programs. Each is a test of its own name; `list` is added to the list.
pub fn suite(folder: &Path, programs: &[(&str, &str, End)], list: &str) {
    let tests = folder.join("x86");
    fs::create_dir_all(&tests).unwrap();
    let mut text = String::new();
    for (name, prints, end) in programs {
        fs::write(tests.join(format!("{name}.flat")), program(prints, *end)).unwrap();
        text += &format!("[{name}]\nfile = {name}.flat\narch = x86_64\n\n");
    }
    fs::write(tests.join("unittests.cfg"), text + list).unwrap();
}
