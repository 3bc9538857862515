//! RHEL's packages of QEMU and its firmware.

use crate::Error;
use crate::Part::AppStream;
use crate::blueprint::{Blueprint, Content, Payload, Version};
use crate::debian::{DebFile, Debs};
use crate::patch::Program;
use crate::stand_in::{QEMU_IMG, stand_in_file};

/// The epoch of RHEL 9's packages.
const EPOCH: u32 = 17;

/// Debian's package of the emulator of x86-64.
const SYSTEM: &str = "qemu-system-x86";

/// RHEL's folder of QEMU's data.
const DATA: &str = "/usr/share/qemu-kvm";

/// Texts in the program that only microvm has, in messages about bugs. Longer names are written over them.
const UNUSED: [&str; 3] =
    ["../../hw/i386/microvm.c", "./include/hw/i386/microvm.h", "../../hw/i386/acpi-microvm.c"];

/// Debian's and RHEL's folder of QEMU's modules.
const MODULES: (&str, &str) = ("/usr/lib/x86_64-linux-gnu/qemu", "/usr/lib64/qemu-kvm");

/// Members of QEMU's structure of a type, by their offsets: `abstract` and `class_init` of `TypeInfo` (qom/object.h). The first
/// member is a pointer to the type's name.
const ABSTRACT: u64 = 56;
const CLASS_INIT: u64 = 72;

/// Families of versioned machine types, each with the name of RHEL 9.4's newest one.
const MACHINES: [(&str, &str); 2] = [("pc-q35-", "pc-q35-rhel9.4.0"), ("pc-i440fx-", "pc-i440fx-rhel7.6.0")];

/// Other machine types of Debian's QEMU that RHEL's does not have.
const NO_MACHINES: [&str; 3] = ["isapc", "microvm", "x-remote"];

/// What QEMU's type system adds to the name of a machine type.
const SUFFIX: &str = "-machine";

/// Option ROMs in Debian's `/usr/share/qemu`.
const ROMS: &[&str] =
    &["kvmvapic.bin", "linuxboot.bin", "linuxboot_dma.bin", "multiboot.bin", "multiboot_dma.bin", "pvh.bin"];

/// Firmware that RHEL's QEMU finds in its own folder, through links.
const BIOS: &[&str] = &["bios-256k.bin", "bios.bin"];
const VGA_BIOS: &[&str] =
    &["bochs-display", "cirrus", "isavga", "qxl", "ramfb", "stdvga", "virtio", "vmware"];

/// The packages of QEMU.
pub(crate) fn blueprints(debs: &Debs) -> Result<Vec<Blueprint>, Error> {
    Ok(vec![core(debs)?, common(debs)?, image_tools(debs)?, guest_agent(debs)?, bios(debs)?, vga_bios(debs)?])
}

/// An empty package of QEMU.
fn new(name: &str, debs: &Debs) -> Result<Blueprint, Error> {
    let mut version = Version::of_debian(&debs.get(SYSTEM)?.version);
    version.epoch = Some(EPOCH);
    Ok(Blueprint::new(name, version, AppStream))
}

fn core(debs: &Debs) -> Result<Blueprint, Error> {
    let mut core = new("qemu-kvm-core", debs)?;
    let program = debs.get(SYSTEM)?.read("usr/bin/qemu-system-x86_64")?;
    let data = like_rhel(program, &core.version.version);
    let data = data.map_err(|message| Error::unexpected("qemu-kvm", message))?;
    core.add("/usr/libexec/qemu-kvm", Content::File { data, executable: true });
    core.require_same(QEMU_IMG);
    core.require_same("qemu-kvm-common");
    core.requires.push("edk2-ovmf".to_owned());
    Ok(core)
}

/// Debian's QEMU with the machine types of RHEL's. It looks for its files where RHEL's does.
fn like_rhel(bytes: Vec<u8>, version: &str) -> Result<Vec<u8>, String> {
    let mut program = Program::parse(bytes)?;
    for machine in NO_MACHINES {
        hide(&mut program, &format!("{machine}{SUFFIX}"))?;
    }
    for ((family, newest), unused) in MACHINES.into_iter().zip(&UNUSED[1..]) {
        let of_debian = format!("{family}{version}{SUFFIX}");
        for machine in program.strings(|name| name.starts_with(family) && name.ends_with(SUFFIX)) {
            if machine != of_debian {
                hide(&mut program, &machine)?;
            }
        }
        program.redirect(&of_debian, &format!("{newest}{SUFFIX}"), unused)?;
    }
    program.replace(MODULES.0, MODULES.1)?;
    // Of the folders where Debian's QEMU looks for its files, only SeaBIOS' has the same name in RHEL. The name of RHEL's QEMU's
    // own folder is longer than both others.
    program.redirect("/usr/lib/ipxe/qemu", DATA, UNUSED[0])?;
    program.replace("/usr/share/qemu", "/usr/share")?;
    Ok(program.into_bytes())
}

/// Makes a machine type abstract, so that neither `-M help` nor `-M` sees it. What would complete it must not run then.
fn hide(program: &mut Program, machine: &str) -> Result<(), String> {
    program.set(machine, ABSTRACT, 1)?;
    program.clear(machine, CLASS_INIT)
}

fn common(debs: &Debs) -> Result<Blueprint, Error> {
    let mut common = new("qemu-kvm-common", debs)?;
    common.payload = Payload::Xz;
    let modules = debs.get("qemu-system-common")?;
    let tcg = "accel-tcg-x86_64.so";
    let data = modules.read(&format!("usr/lib/x86_64-linux-gnu/qemu/{tcg}"))?;
    common.add(format!("/usr/lib64/qemu-kvm/{tcg}"), Content::File { data, executable: true });
    let data = debs.get("qemu-system-data")?;
    for DebFile { path, place } in &data.files {
        let Some(name) = path.strip_prefix("usr/share/qemu/") else { continue };
        if name.starts_with("keymaps/") || ROMS.contains(&name) {
            common.add(format!("{DATA}/{name}"), Content::Unpacked(place.clone()));
        }
    }
    for name in BIOS {
        common.add(format!("{DATA}/{name}"), Content::Link(format!("../seabios/{name}")));
    }
    for name in VGA_BIOS {
        let name = format!("vgabios-{name}.bin");
        common.add(format!("{DATA}/{name}"), Content::Link(format!("../seavgabios/{name}")));
    }
    common.requires.extend(
        [
            "/usr/bin/getent",
            "/usr/sbin/useradd",
            "ipxe-roms-qemu",
            "seabios-bin >= 1.10.2-1",
            "seavgabios-bin >= 1.12.0-3",
        ]
        .map(str::to_owned),
    );
    Ok(common)
}

fn image_tools(debs: &Debs) -> Result<Blueprint, Error> {
    let mut tools = new(QEMU_IMG, debs)?;
    tools.files.extend(stand_in_file(QEMU_IMG));
    Ok(tools)
}

fn guest_agent(debs: &Debs) -> Result<Blueprint, Error> {
    let mut agent = new("qemu-guest-agent", debs)?;
    agent.payload = Payload::Gzip;
    let program = debs.get("qemu-guest-agent")?.file("usr/sbin/qemu-ga")?;
    agent.add("/usr/bin/qemu-ga", Content::Unpacked(program.to_owned()));
    agent.requires.push("systemd".to_owned());
    Ok(agent)
}

fn bios(debs: &Debs) -> Result<Blueprint, Error> {
    firmware("seabios-bin", debs, "/usr/share/seabios/", BIOS.iter().map(|name| (*name).to_owned()))
}

fn vga_bios(debs: &Debs) -> Result<Blueprint, Error> {
    let names = VGA_BIOS.iter().map(|name| format!("vgabios-{name}.bin"));
    firmware("seavgabios-bin", debs, "/usr/share/seavgabios/", names)
}

/// A package of files of Debian's SeaBIOS.
fn firmware(
    name: &str,
    debs: &Debs,
    folder: &str,
    files: impl Iterator<Item = String>,
) -> Result<Blueprint, Error> {
    let seabios = debs.get("seabios")?;
    let mut package = Blueprint::new(name, Version::of_debian(&seabios.version), AppStream);
    package.noarch = true;
    for file in files {
        let place = seabios.file(&format!("usr/share/seabios/{file}"))?;
        package.add(format!("{folder}{file}"), Content::Unpacked(place.to_owned()));
    }
    Ok(package)
}
