//! What a run is going to do, does and did, as text for the terminal: pure functions from typed values to text.
//!
//! Nothing here prints, asks the terminal or reads a file; the caller does. Text of several lines ends with a line end.

mod cell;
mod comparison;
mod doctor;
mod held;
mod history;
mod junit;
mod matrix;
mod merged;
mod plan;
mod style;
mod table;
mod text;
mod trouble;

pub use cell::cell_line;
pub use comparison::comparison;
pub use doctor::checkup;
pub use held::{heard, held};
pub use history::trail;
pub use junit::junit;
pub use matrix::matrix;
pub use merged::merged;
pub use plan::{plan, profile};
pub use style::Style;
