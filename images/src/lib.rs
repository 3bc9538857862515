//! Builds what a level boots from a distribution's packages, without root and without installing anything.
//!
//! A [`Recipe`] (TOML, in `recipes/`) names packages and the files to take from them. A [`Store`] resolves, downloads and
//! verifies the packages with the host's `apt-get`, assembles the products, and keeps them in a content-addressed cache. An
//! [`Image`] is one product with its provenance. See `docs/images.md`.

mod addition;
mod apt;
mod apt_packages;
mod archive;
mod assemble;
mod build;
mod cache;
mod config;
mod deb;
mod debian_version;
mod derived;
mod digest;
mod disk;
mod elf;
mod emulator;
mod error;
mod guest;
mod guest_volume;
mod host_tools;
mod image;
mod linux;
mod local_files;
mod media;
mod modules;
mod new_file;
mod offer;
mod pack;
mod package_source;
mod programs;
mod progress;
mod qemu_offer;
mod recipe;
mod recipe_problem;
mod recipe_text;
mod removal;
mod replacement;
mod rpm;
mod source;
mod source_check;
mod sources;
mod store;
mod suites;
mod template;
mod tool;
mod tree;
mod uefi;
mod undelivered;
mod unified_kernel;
mod unpack;
mod windows;
mod wsl_root;

pub use archive::archives;
pub use cache::Cached;
pub use debian_version::compare_versions;
pub use digest::Digest;
pub use disk::{
    Begun, DiskGuest, DiskHardware, DiskImage, DiskPackages, DiskRecipe, Enlightenments, FirmwareSource,
    InnermostOnly, MediumUse, Preparation, PreparationReport, QemuInside, ReportEvent, ReportReader,
};
pub use elf::ProgramFile;
pub use emulator::{Emulator, InstalledEmulator};
pub use error::Error;
pub use guest::LocalGuest;
pub use guest_volume::GuestVolume;
pub use host_tools::{HostTool, HostTools, ToolPackages, Unbuildable};
pub use image::{Disk, Image, Kernel, Package, Qemu};
pub use media::{DiskFormat, Media, Medium, MediumError, MediumProblem, MediumState, NewMedium, QemuImg};
pub use new_file::{NewFile, replace_file};
pub use offer::Offers;
pub use pack::files as pack_files;
pub use programs::{find_program, is_program, programs};
pub use progress::{Progress, ProgressEvent, Silent, Step};
pub use qemu_offer::QemuOffer;
pub use recipe::{Catalog, Os, Product, Recipe, RecipeErrors};
pub use recipe_problem::RecipeProblem;
/// The former name of [`Component`].
pub use replacement::Component as Part;
pub use replacement::{Component, LocalKernel, Offered, Replacement};
pub use rpm::SourceCheck;
pub use source::{Origin, Source};
pub use source_check::SourceProblem;
pub use sources::{NewSource, Sources};
pub use store::{Store, StoreOptions};
pub use suites::{AddedFile, AddedGuest, AddedProgram, BuiltSuite, Needs, Suites, UnitTest, is_program_name};
pub use uefi::UefiFiles;
pub use undelivered::Undelivered;
pub use unified_kernel::UnifiedKernel;
pub use windows::{PrepareStep, RoleCommand, RoleValueError, RoleValues, WindowsRole};
pub use wsl_root::WslRoot;
