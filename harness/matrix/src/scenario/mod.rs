//! The scenario model: vendor documents and their claims, the scenarios that test them, and the cells of these scenarios.
//!
//! All of it is data in TOML files (`docs/scenarios.md` describes them); this module reads and checks the files, expands
//! the scenarios into cells and says which image each level of a cell needs. It does nothing but read those files.

mod axes;
mod boot_kind;
mod cell;
mod coverage;
mod decided;
mod document;
mod documents;
mod expand;
mod expectation;
mod family;
mod fault;
mod filter;
mod fingerprint;
mod folder;
mod hardware;
mod images;
mod input;
mod known;
mod known_flaky;
mod level;
mod matrix;
mod measure;
mod missing_image;
mod mutation;
mod payload;
mod permitted;
mod problem;
mod problem_help;
mod profile;
mod reads;
mod role;
mod scenario_file;
mod stand_in;
mod step;
mod suite;
mod symptom_texts;
mod system;
#[cfg(test)]
pub(crate) mod testing;
mod windows;

pub use cell::{Cell, CellName};
pub(crate) use cell::{NOT_YET_RUN, kebab_case, not_yet_run};
pub use coverage::{Coverage, Shown, ShownBy, ShownRow, Tried};
pub use decided::{BothVerdicts, Ledger, Mutated};
pub use document::{BugReport, Claim, Document, Tier};
pub(crate) use documents::in_full;
pub use documents::{Contradiction, OutsideContradiction};
pub use expectation::{Expectation, Limitation, StopStage};
pub use family::Family;
pub use filter::Filter;
pub use fingerprint::Fingerprint;
pub use images::{AvailableImage, ImageChoice, Supply, UnbuildableImage};
pub use input::{InputError, InputErrors};
pub use known::{KnownStale, KnownWrong, Since};
pub use known_flaky::{KnownFlaky, MetalWord};
pub use level::LevelSpec;
pub(crate) use level::qemu_name;
pub use matrix::Matrix;
pub use missing_image::MissingImage;
pub use mutation::{MutationChange, ScenarioMutation};
pub use nestmatrix_input::Problem;
pub use permitted::{Denied, Permitted, StandIns};
pub use problem::ScenarioProblem;
pub use profile::RunProfile;
pub(crate) use reads::only_reads;
pub use role::Role;
pub use scenario_file::Scenario;
pub use stand_in::StandIn;
pub use step::step_only_reads;
pub use symptom_texts::{NoText, SymptomTexts};
pub(crate) use system::is_tried;
pub use system::{Hypervisor, Later, System, SystemRequirement, Versions};
pub(crate) use windows::why_no_stack;
