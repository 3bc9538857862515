//! Disk images that the user added, as vendors publish them: what is accepted, and their records.

mod bytes;
mod format;
mod iso;
mod medium;
mod partitions;
mod problem;
mod qcow2;
mod qemu_img;
mod registry;
mod user_file;
mod vmdk;

pub use format::DiskFormat;
#[cfg(test)]
pub(crate) use format::inspect;
pub(crate) use medium::MediumRecord;
pub use medium::{Medium, MediumState};
pub use problem::{MediumError, MediumProblem};
pub use qemu_img::QemuImg;
pub use registry::{Media, NewMedium};
