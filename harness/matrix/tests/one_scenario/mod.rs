//! A matrix of one scenario, `s`. Its document `d` has one claim, `c`. Tests give the systems and the axes.

use tempfile::TempDir;

#[path = "../matrix_folder/mod.rs"]
pub mod matrix_folder;

const DOCUMENT: &str = "id = \"d\"\ntitle = \"t\"\nproduct = \"p\"\nsection = \"1\"\nlanguage = \"en\"\n[[claim]]\n\
                        id = \"c\"\nsection = \"1\"\ntier = \"supported\"\ntext = \"t\"\n";

const SCENARIO: &str =
    "name = \"s\"\ntitle = \"t\"\ndocument = \"d\"\nclaims = [\"c\"]\ntier = \"supported\"\n[axes]\n";

/// The folder of the matrix. It has a `systems.toml` if `systems` is given. `axes` may go on with other tables.
pub fn folder(systems: Option<&str>, axes: &str) -> TempDir {
    let scenario = format!("{SCENARIO}{axes}");
    let files = [("documents/d.toml", DOCUMENT), ("product/s.toml", &scenario)];
    let systems = systems.map(|systems| ("systems.toml", systems));
    matrix_folder::with_files(files.into_iter().chain(systems))
}
