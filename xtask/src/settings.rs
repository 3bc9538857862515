//! Defaults and facts that several commands share.

use std::path::{Path, PathBuf};

use nestmatrix::run::{MetalChoice, installed_programs};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, Isa};
use nestmatrix_stack::host::Emulator;

use crate::input;
use crate::options::MetalArgument;

/// Default limit of the disk space of snapshots, in GiB.
pub const SNAPSHOT_LIMIT_GIB: u64 = 10;

/// The default folder of runs.
pub fn default_results() -> PathBuf {
    input::short(checkout()).join("results")
}

fn checkout() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The metal that an argument asks for.
pub fn metal(argument: MetalArgument) -> MetalChoice {
    match argument {
        MetalArgument::Auto => MetalChoice::Auto,
        MetalArgument::Native => MetalChoice::Native,
        MetalArgument::Emulated => MetalChoice::Emulated,
    }
}

/// The QEMU installed on this machine, if it is for this architecture. On native metal it is L0's, and so part of what is tested.
pub fn installed_qemu(architecture: Architecture) -> Option<Emulator> {
    if Some(architecture.isa()) != Isa::of_this_machine() {
        return None;
    }
    installed_programs(ArchInfo::of(architecture).qemu).next().map(Emulator::Installed)
}
