//! The volumes that bring guests into Windows levels, and what the roles look for on them.

use std::fs;

use nestmatrix_images::{Catalog, RoleCommand, RoleValues};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, Launch, LevelNumber};
use nestmatrix_stack::{BootImage, LevelPlan, MachineSettings, Metal, UnifiedKernelDisk};

use super::*;

/// A UEFI program with one section and room for entries of others, by Microsoft's "PE Format".
fn stub() -> Vec<u8> {
    const TABLE: usize = 0x188;
    let mut bytes = vec![0; 0x600];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(0x3c, &[0x80]);
    put(0x80, b"PE");
    put(0x84, &[0x64, 0x86, 1]);
    put(0x94, &[0xf0]);
    put(0x98, &[0x0b, 2]);
    // Alignment of sections, in memory and in the file; then the sizes of the program and of its headers.
    for (at, value) in [(32, 0x1000_u32), (36, 0x200), (56, 0x2000), (60, 0x400)] {
        put(0x98 + at, &value.to_le_bytes());
    }
    put(0x98 + 108, &[16]);
    put(TABLE, b".text");
    for (index, value) in [0x123_u32, 0x1000, 0x200, 0x400].into_iter().enumerate() {
        put(TABLE + 8 + index * 4, &value.to_le_bytes());
    }
    bytes
}

/// An initramfs (cpio(5), newc) with only an init.
fn initramfs() -> Vec<u8> {
    let entry = |name: &str, mode: usize, data: &str| {
        let numbers = [1, mode, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        let padded = |text: String| {
            let length = text.len().next_multiple_of(4);
            format!("{text:\0<length$}")
        };
        let head: String = numbers.iter().map(|number| format!("{number:08x}")).collect();
        padded(format!("070701{head}{name}\0")) + &padded(data.to_owned())
    };
    (entry("init", 0o100_755, "#!/bin/sh\n") + &entry("TRAILER!!!", 0, "")).into_bytes()
}

/// A guest that a Windows on native metal starts.
fn plan(launch: Launch, scratch: &Path) -> StackPlan {
    let file = |name: &str| scratch.join(name);
    let level = LevelNumber::new(2).unwrap();
    let (files, unified_kernel) = match launch {
        Launch::Wsl2 => (BootFiles::WslRoot { archive: file("archive") }, None),
        _ => {
            let unified = UnifiedKernelDisk { stub: file("stub"), path: file("vhd") };
            let (kernel, initramfs) = (file("kernel"), file("initramfs"));
            (BootFiles::Kernel { kernel, initramfs, disk: None }, Some(unified))
        }
    };
    let l2 = LevelPlan {
        level,
        image: BootImage { name: "L2".into(), kernel_release: String::new(), files },
        settings: MachineSettings { launch: Some(launch), ..MachineSettings::default() },
        disk: None,
        uefi: None,
        unified_kernel,
        guest_volume: Some(file("volume")),
        swtpm: None,
    };
    let cold = StackPlan::cold(Metal::Native, ArchInfo::of(Architecture::Intel), vec![l2]);
    StackPlan { nonce: "0123456789abcdef".into(), ..cold }
}

/// What `[start]` of a shipped role does for a guest.
fn start(role: &str) -> String {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes");
    let catalog = Catalog::load(&recipes).unwrap();
    let values = RoleValues::new("L2", 1, 1024, "nest.nonce=1", GuestVolume::LABEL).unwrap();
    catalog.windows_role(role).unwrap().script(RoleCommand::Start, &values).unwrap()
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_volume_brings_what_the_start_of_its_role_looks_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    fs::write(file("stub"), stub()).unwrap();
    fs::write(file("kernel"), "the kernel of L2").unwrap();
    fs::write(file("initramfs"), initramfs()).unwrap();
    for (launch, role, made, name) in
        [(Launch::HyperV, "hyper-v", "vhd", VHD), (Launch::Wsl2, "wsl2", "archive", ROOT)]
    {
        let roots = [(file("initramfs"), file("archive"))];
        write_all(&plan(launch, folder.path()), if launch == Launch::Wsl2 { &roots } else { &[] }).unwrap();
        let (volume, made) = (fs::read(file("volume")).unwrap(), fs::read(file(made)).unwrap());
        assert!(has(&volume, GuestVolume::LABEL.as_bytes()) && has(&volume, &made), "{role}");
        let long_name: Vec<u8> = name.encode_utf16().take(5).flat_map(u16::to_le_bytes).collect();
        assert!(has(&volume, &long_name), "{name}");
        let start = start(role);
        assert!(start.contains(&format!("Get-NestDrive '{}'){name}\"", GuestVolume::LABEL)), "{start}");
    }
    assert!(has(&fs::read(file("vhd")).unwrap(), b" nest.nonce=0123456789abcdef"));
    let reporter = start("wsl2");
    assert!(reporter.contains(&format!("--exec {} ", WslRoot::REPORTER)), "{reporter}");
}
