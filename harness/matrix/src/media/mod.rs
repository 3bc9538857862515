//! What the user's media are good for on this machine, and the cells that they and the user's sources turn real.

mod documented;
mod row;

pub use documented::{Booted, Documented, Gain};
pub use row::MediumRow;
