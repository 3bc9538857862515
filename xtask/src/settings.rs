//! Defaults and facts that several commands share.

use std::path::{Path, PathBuf};

use nestmatrix::run::{MetalChoice, installed_programs};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, IS_FROM_ARCHIVE, Isa};
use nestmatrix_stack::host::Emulator;

use crate::input;
use crate::options::MetalArgument;

/// Default limit of the disk space of snapshots, in GiB.
pub const SNAPSHOT_LIMIT_GIB: u64 = 10;

/// Where an archive has images.
pub const SHIPPED_IMAGES: &str = "images/shipped";

/// The folder of scenarios and recipes: the checkout that this program was built from, or the folder of the archive that it is in.
pub fn data() -> PathBuf {
    if !IS_FROM_ARCHIVE {
        return PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    }
    // Resolved, since users may call the program by a link in PATH.
    let program = std::env::current_exe().and_then(std::fs::canonicalize).unwrap_or_default();
    program.parent().map(Path::to_owned).unwrap_or_default()
}

/// The images that came with this program, laid out as a cache.
pub fn shipped_images() -> Option<PathBuf> {
    let folder = data().join(SHIPPED_IMAGES);
    (IS_FROM_ARCHIVE && folder.is_dir()).then_some(folder)
}

/// The default folder of runs. The folder of an archive may be read-only, and the next version has another one.
pub fn default_results() -> PathBuf {
    if !IS_FROM_ARCHIVE {
        return input::short(&data()).join("results");
    }
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    state.map_or_else(|| PathBuf::from("results"), |state| state.join("nestmatrix/results"))
}

/// The environment variable that switches the sandbox off.
const SANDBOX: &str = "NESTMATRIX_SANDBOX";

/// Whether emulators of bare machines run in a sandbox.
///
/// # Errors
/// The setting is neither `on` nor `off`.
pub fn sandbox() -> std::io::Result<bool> {
    match std::env::var_os(SANDBOX) {
        None => Ok(true),
        Some(value) if value.is_empty() || value == "on" => Ok(true),
        Some(value) if value == "off" => Ok(false),
        Some(value) => {
            let why = format!("{SANDBOX} is {value:?}: set it to `on` or `off`");
            Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why))
        }
    }
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
