//! A second QEMU in a level, of another version than its own: the root file system of another image, in a folder. QEMU runs there with
//! its own libraries and firmware, and with the devices and files of the level.

use nestmatrix_vmm::qemu::{OtherQemu, Placement};
use nestmatrix_vmm::shell::quote;

use super::booted_level::dd;

/// The exit status of a script that could not prepare the folder.
pub(super) const NOT_PREPARED: i64 = 96;
/// The script's output in that case, before the reason. Both together distinguish this exit from QEMU's own.
pub(super) const NO_OTHER_QEMU: &str = "nestmatrix could not prepare the other QEMU";

/// What of the level is in the folder too.
const SHARED: &str = "dev proc sys run tmp";

/// The folder of the other QEMU in a level.
pub(super) fn root(other: &OtherQemu, placement: &dyn Placement) -> String {
    placement.path_of(&format!("{}-root", other.archive.serial))
}

/// The script that prepares the folder, unless that was done before.
///
/// `/run` may be mounted so that nothing in it can be executed, so the folder is a separate file system.
pub(super) fn script(other: &OtherQemu, placement: &dyn Placement) -> String {
    let root = quote(&root(other, placement));
    let read = match &other.archive.part {
        None => format!("cat {}", quote(&placement.disk(&other.archive))),
        Some(part) => dd(part),
    };
    format!(
        "no_other() {{ echo \"{NO_OTHER_QEMU}: $1\" >&2; exit {NOT_PREPARED}; }}
         [ -e {root}.complete ] || {{
           mkdir -p {root} && mount -t tmpfs -o size=100% tmpfs {root} || no_other \"its folder can't be made\"
           said=$({read} | (cd {root} && cpio -idu 2>&1)) || no_other \"its archive can't be unpacked: $said\"
           for shared in {SHARED}; do
             mkdir -p {root}/$shared && mount --bind /$shared {root}/$shared || no_other \"/$shared can't be shared with it\"
           done
           : >{root}.complete
         }}\n"
    )
}
