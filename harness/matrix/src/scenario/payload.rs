//! Reads the part of a `[[step]]` that runs a program of the user.

use nestmatrix_images::is_program_name;
use nestmatrix_model::{Payload, StepAction, SuiteKind, Word as _};

use super::input::{Table, Text};
use super::problem::ScenarioProblem;
use super::suite::{self, read_known};

/// The keys of a step that only a program has, besides `payload`.
pub(super) const KEYS: [&str; 1] = ["arguments"];

/// Reads the program of a step by its name.
pub(super) fn read(table: &Table<'_>, name: &Text<'_>) -> Option<StepAction> {
    let needless = ["run", "do", "chain", "suite", "fails", "status", "output", "reads"];
    for key in needless.into_iter().filter(|key| table.has(key)) {
        name.report(ScenarioProblem::NeedlessKey { key, wants: "run = \"...\" instead of payload" });
    }
    for key in suite::ONLY_OF_SUITE.into_iter().filter(|key| table.has(key)) {
        name.report(ScenarioProblem::NeedlessKey { key, wants: "suite = \"...\" instead of payload" });
    }
    let arguments = table.optional_strings("arguments").unwrap_or_default();
    let arguments: Vec<Option<String>> = arguments.iter().map(|text| text.parse(argument)).collect();
    let known = table.tables("known-failure", &["case", "reference", "erratum"]);
    let known_failures = known.iter().filter_map(read_known).collect();
    Some(StepAction::Payload(Payload {
        name: name.parse(program_name)?,
        arguments: arguments.into_iter().collect::<Option<_>>()?,
        known_failures,
    }))
}

fn program_name(text: &str) -> Result<String, ScenarioProblem> {
    if SuiteKind::parse(text).is_ok() {
        return Err(ScenarioProblem::SuiteAsPayload { suite: text.to_owned() });
    }
    if is_program_name(text) {
        return Ok(text.to_owned());
    }
    let what = "the name of a program that was added";
    let rule = "lower-case letters, digits, `-`, `_` and `.`, as in `payloads add NAME PROGRAM`";
    Err(ScenarioProblem::BadName { what, given: text.to_owned(), rule })
}

/// An argument becomes a word of a script.
fn argument(text: &str) -> Result<String, ScenarioProblem> {
    if text.contains(char::is_control) {
        let (what, rule) = ("an argument of a program", "any characters except control characters");
        return Err(ScenarioProblem::BadName { what, given: text.escape_debug().to_string(), rule });
    }
    Ok(text.to_owned())
}
