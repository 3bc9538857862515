//! libvirt's domain XML: a level of a cell as bug reporters and vendors' documents describe it.
//!
//! [`DomainXml`] reads a file, [`Import`] turns it into the settings of a level and says what it could not express, and
//! [`ScenarioText`] makes a scenario of it. [`Export`] goes the other way. The XML comes from strangers: whatever is in it, reading it ends with an import or with
//! an error.

mod architecture;
mod arguments;
mod cpu;
mod devices;
mod export;
mod file;
mod finding;
mod guest_system;
mod import;
mod left_out;
mod level;
mod machine;
mod memory;
mod problem;
mod scenario_text;
mod survey;
mod virtual_features;

pub use export::{Export, ExportProblem};
pub use file::DomainXml;
pub use finding::{Finding, Weight};
pub use import::{Import, ImportOptions};
pub use problem::{DomainError, DomainProblem};
pub use scenario_text::ScenarioText;
