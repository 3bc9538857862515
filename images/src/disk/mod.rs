//! Levels that boot from a vendor's disk: what a recipe says of one, how a medium is prepared to be a level, and the image that this
//! makes. This crate starts no machine: its caller boots a [`Preparation`], and gives it the report of the system inside.

mod catalog;
pub(crate) mod fat;
mod image;
pub(crate) mod partitioned;
mod preparation;
mod report;
mod seed;
mod store;
mod text;

pub use catalog::{InnermostOnly, MediumUse};
pub(crate) use image::DiskRecord;
pub use image::{DiskImage, FirmwareSource, QemuInside};
pub use preparation::{Begun, Preparation};
pub use report::{PreparationReport, ReportEvent, ReportReader};
pub(crate) use text::DiskText;
pub use text::{DiskGuest, DiskHardware, DiskPackages, DiskRecipe, Enlightenments};
