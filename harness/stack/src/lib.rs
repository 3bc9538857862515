//! Stacks: levels that are booted inside each other, how they are watched meanwhile, and their evidence.

mod benchmark;
mod boot;
mod boot_level;
mod cancellation;
mod channels;
mod check_level;
mod check_windows;
mod clock;
mod closing_report;
mod console_view;
mod emulator_errata;
mod evidence;
mod exec;
mod explain;
mod first_boot;
mod guest_counters;
pub mod host;
mod host_reboot;
mod hypervisor;
mod innermost;
mod innermost_machine;
mod kdump;
pub mod launcher;
mod ledger;
mod level;
mod lifecycle;
mod limits;
mod machines;
mod measure;
mod migrate;
mod observation;
mod pause;
mod plan;
mod program;
mod random;
mod reboot;
mod report;
mod restore;
mod save;
mod second_machine;
mod snapshots;
mod stack;
mod steps;
mod stop;
mod suite;
mod symptom;
mod tpm;
mod traffic;
mod watch;

pub use benchmark::{BenchmarkRecord, Judged, Judgement, LevelFigures, Ratio};
pub use boot::{BootRequest, StageListener, boot};
pub use cancellation::Cancellation;
pub use console_view::ConsoleListener;
pub use evidence::{Evidence, Measurements, MissingProof};
pub use exec::{CopiedFile, Exec, Stream, Then};
pub use first_boot::{PICTURE, first_boot};
pub use host_reboot::HostReboot;
pub use hypervisor::Hypervisor;
pub use limits::{Limit, Limits};
pub use measure::{LoopTime, Loops};
pub use observation::{LevelFacts, Observation, StageTime, Usage};
pub use pause::{Answer, Ask, Inspector, PausedLevel, PausedStack, Request};
pub use plan::{
    BootFiles, BootImage, FirstBoot, GuestFiles, Kdump, LevelPlan, MachineSettings, Metal, OtherQemuImage,
    StackPlan, SwtpmArchive, SystemDisk, UefiFirmware, UnifiedKernelDisk, WindowsSystem,
};
pub use program::{End, ProgramEnd, UserProgram, read_program_cases};
pub use random::random_hex;
pub use report::InnermostReport;
pub use save::SnapshotSaver;
pub use snapshots::{
    Description, Draft, Finished, Inputs, Listed, Lookup, Parts, Snapshot, SnapshotCache, SnapshotKey,
};
pub use steps::StepRecord;
pub use stop::{Blame, Stop};
pub use suite::{Case, SuiteRecord, TIMED_OUT, machine_arguments, read_cases, select_tests};
pub use symptom::{Contradiction, ExitStatus, NestedSetting, Symptom};
pub use traffic::{Contact, Traffic, prepare_script};
