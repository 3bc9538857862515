//! What a run is going to do, does and did: as text for the terminal, as a page, and in formats that other programs read. All of
//! this is pure functions from typed values to text.
//!
//! Nothing here prints or asks the terminal; the caller does. Text of several lines ends with a line end.

mod bisection;
mod cell;
mod cell_list;
mod claim_list;
mod command;
mod comparison;
mod cpu_models;
mod doctor;
mod document_errata;
mod domain_import;
mod history;
mod html;
mod image_list;
mod json;
mod junit;
mod layout;
mod listing;
mod machines;
mod markdown;
mod matrix;
mod media;
mod merged;
mod mutation;
mod other_systems;
mod paused_stack;
mod plan;
mod progress;
mod skipped;
mod style;
mod table;
mod tap;
mod test_cases;
mod text;
mod trouble;

pub use bisection::{changes, finding, tried};
pub use cell::cell_line;
pub use cell_list::{LevelRow, Listing, Row};
pub use claim_list::{ClaimListing, ClaimRow, ContradictionRow};
pub use comparison::comparison;
pub use cpu_models::cpu_models;
pub use doctor::checkup;
pub use document_errata::document_errata;
pub use domain_import::domain_import;
pub use history::cell_history;
pub use html::html;
pub use image_list::{ImageListing, ImageRow, images};
pub use json::json;
pub use junit::{junit, junit_of};
pub use listing::listing;
pub use machines::machines;
pub use markdown::markdown;
pub use matrix::matrix;
pub use media::{documented, media};
pub use merged::merged;
pub use mutation::mutations;
pub use paused_stack::{event, paused_stack};
pub use plan::{plan, profile};
pub use progress::progress;
pub use skipped::skipped;
pub use style::{Role, Style};
pub use table::{Entry, Line, Table};
pub use tap::tap;
