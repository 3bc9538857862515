//! Reads the part of a `[[step]]` that runs tests of a suite.

use nestmatrix_model::{KnownFailure, StepAction, Suite, SuiteKind, Word};

use super::input::{Table, Text};
use super::problem::ScenarioProblem;
use super::scenario_file::known_erratum;

/// The keys of a step that only a suite has, besides `suite`.
pub(super) const KEYS: [&str; 4] = ["tests", "append", "memory-mib", "known-failure"];

/// Those of them that a program does not have.
pub(super) const ONLY_OF_SUITE: [&str; 3] = ["tests", "append", "memory-mib"];

/// QEMU's smallest and largest memory for a test that make sense, in MiB.
const MEMORY_MIB: (u32, u32) = (16, 1 << 20);

/// Reads the suite `word` of a step.
pub(super) fn read(table: &Table<'_>, word: &Text<'_>) -> Option<StepAction> {
    for key in ["run", "do", "chain", "measure", "fails", "status", "output", "reads"]
        .into_iter()
        .filter(|key| table.has(key))
    {
        word.report(ScenarioProblem::NeedlessKey { key, wants: "run = \"...\" instead of suite" });
    }
    let kind = word.parse(SuiteKind::parse);
    let name = |text: &Text<'_>| text.parse(test_name);
    let tests = table.strings("tests").map(|tests| tests.iter().filter_map(name).collect::<Vec<_>>());
    let append = table.optional_prose("append");
    if kind == Some(SuiteKind::KvmSelftests) && table.has("memory-mib") {
        // Its tests are programs, which make their machines themselves.
        word.report(ScenarioProblem::NeedlessKey { key: "memory-mib", wants: "suite = \"kvm-unit-tests\"" });
    }
    let memory_mib = table.optional_integer("memory-mib", MEMORY_MIB.0, MEMORY_MIB.1);
    let known = table.tables("known-failure", &["case", "reference", "erratum"]);
    let known_failures = known.iter().filter_map(read_known).collect();
    let tests = tests.filter(|tests| !tests.is_empty())?;
    Some(StepAction::Suite(Suite { kind: kind?, tests, append, memory_mib, known_failures }))
}

/// Reads a `[[step.known-failure]]`.
pub(super) fn read_known(table: &Table<'_>) -> Option<KnownFailure> {
    let case = table.prose("case");
    let reference = table.prose("reference");
    let erratum = table.optional_string("erratum").map(|text| text.parse(known_erratum));
    Some(KnownFailure {
        case: case?,
        reference: reference?,
        erratum: erratum.map_or(Some(None), |id| id.map(Some))?,
    })
}

fn test_name(text: &str) -> Result<String, ScenarioProblem> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '*');
    if !text.is_empty() && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    let what = "the name of a test or of a group";
    let rule = "letters, digits, `_`, `-`, `.`, and `*` for any text";
    Err(ScenarioProblem::BadName { what, given: text.to_owned(), rule })
}
