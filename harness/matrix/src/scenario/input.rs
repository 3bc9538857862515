//! The reader of the user's files and its errors, for the problems that this module knows.

use super::problem::ScenarioProblem;

/// One mistake in a file of the user's or in an argument, and its place.
pub type InputError = nestmatrix_input::InputError<ScenarioProblem>;

/// Every mistake in a folder of scenarios: those of the folder, its systems, documents and scenarios, in this order, and in each
/// file from top to bottom.
pub type InputErrors = nestmatrix_input::InputErrors<ScenarioProblem>;

pub(super) type InputFile = nestmatrix_input::InputFile<ScenarioProblem>;
pub(super) type Table<'t> = nestmatrix_input::Table<'t, ScenarioProblem>;
pub(super) type Text<'t> = nestmatrix_input::Text<'t, ScenarioProblem>;
pub(super) type TextOrTable<'t> = nestmatrix_input::TextOrTable<'t, ScenarioProblem>;
