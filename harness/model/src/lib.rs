//! nestmatrix's vocabulary: levels, architectures and instruction sets with everything that differs between them, stages, steps,
//! test suites, benchmarks, faults, kinds of symptoms, the fidelity of images, and the errata of emulators.
//!
//! It is the lowest crate: all others use it, and it uses none of them.

pub mod architecture;
pub mod emulator_errata;

mod clock;
mod disk;
mod fault;
mod fidelity;
mod figure_place;
mod guest;
mod hardware;
mod isa;
mod level;
mod measure;
mod program;
mod stage;
mod step;
mod suite;
mod symptom_kind;
mod version;
mod word;

pub use architecture::Architecture;
pub use clock::Clock;
pub use disk::{BootKind, CommandChannel, DiskBus, Firmware, NetworkCard};
pub use fault::{Fault, FaultAction};
pub use fidelity::Fidelity;
pub use figure_place::FigurePlace;
pub use guest::Guest;
pub use hardware::{Device, Hardware, MemoryBacking, Network, TpmDevice, TpmVersion, Viommu};
pub use isa::{Isa, IsaInfo, KernelImage, LibvirtFeatures, ReleaseAt};
pub use level::{Accelerator, CpuCheck, CpuMode, CpuRequirement, Launch, LevelNumber};
pub use measure::{Benchmark, BenchmarkInfo, BenchmarkTool, Better, ExpectedRatio, Measure};
pub use program::{ARCHIVE_VARIABLE, IS_FROM_ARCHIVE, PROGRAM};
pub use stage::{Stage, StageKind};
pub use step::{Command, OwnAction, Step, StepAction, StepTimeout};
pub use suite::{CaseOutcome, KnownFailure, Payload, Suite, SuiteKind, matches_pattern};
pub use symptom_kind::SymptomKind;
pub use version::{BadVersion, Version};
pub use word::{UnknownWord, Word};
