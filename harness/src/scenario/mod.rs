//! The scenario model: vendor documents and their claims, the scenarios that try them, and the cells that these make.
//!
//! All of it is data in TOML files (`docs/scenarios.md` describes them); this module reads and checks the files, expands
//! the scenarios into cells and says which image each level of a cell needs. It does nothing but read those files.

mod architecture;
mod axes;
mod cell;
mod claim_list;
mod document;
mod documents;
mod error;
mod expand;
mod expectation;
mod filter;
mod folder;
mod images;
mod known;
mod known_flaky;
mod level;
mod list;
mod matrix;
mod mutation;
mod problem;
mod profile;
mod reads;
mod role;
mod scenario_file;
mod stage;
mod step;
mod symptom_kind;
mod symptom_texts;
mod system;
mod table;
mod version;
mod word;

pub use architecture::Architecture;
pub use cell::{Cell, CellName};
pub use claim_list::{ClaimListing, ClaimRow, ContradictionRow, Coverage};
pub use document::{Claim, Document, Tier};
pub use documents::Contradiction;
pub(crate) use documents::in_full;
pub use error::{InputError, InputErrors};
pub use expectation::{Expectation, Fault, FaultAction, Limitation, StopStage};
pub use filter::Filter;
pub use folder::FILE_SIZE_LIMIT;
pub use images::{AvailableImage, Choice, MissingImage, StandIns, Supply};
pub use known::{KnownStale, KnownWrong, Since};
pub use known_flaky::{KnownFlaky, MetalWord};
pub use level::{Accelerator, CpuMode, CpuRequirement, LevelNumber, LevelSpec};
pub use list::{LevelRow, Listing, Row};
pub use matrix::Matrix;
pub use mutation::{MutationChange, ScenarioMutation};
pub use problem::InputProblem;
pub use profile::RunProfile;
pub(crate) use reads::only_reads;
pub use role::Role;
pub use scenario_file::{Clock, Scenario};
pub use stage::{Stage, StageKind};
pub use step::{Command, OwnAction, Step, StepAction, StepTimeout};
pub use symptom_kind::SymptomKind;
pub use symptom_texts::{NoText, SymptomTexts};
pub use system::{Hypervisor, Later, StandIn, System, SystemRequirement, Versions};
pub use version::Version;
