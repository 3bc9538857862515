//! Files of an invented kind, read as scenarios and recipes are.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use miette::{Diagnostic, NarratableReportHandler};
use nestmatrix_input::{Entry, FileProblem, InputErrors, InputFile, Problem, Table, entries, is_toml};

#[derive(Debug, thiserror::Error)]
enum PetProblem {
    #[error(transparent)]
    File(#[from] FileProblem),
    #[error("a {0} is no pet")]
    NoPet(String),
}

impl Problem for PetProblem {
    fn help(&self) -> String {
        match self {
            Self::File(problem) => problem.help("the pet's manual"),
            Self::NoPet(_) => "choose a cat".to_owned(),
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::File(problem) => problem.label(),
            Self::NoPet(_) => "too wild",
        }
    }
}

#[derive(Debug, PartialEq)]
struct Pet {
    kind: String,
    legs: u32,
    food: Vec<String>,
}

impl Pet {
    fn read(root: &Table<'_, PetProblem>) -> Option<Self> {
        let food = root.table("food", &["likes"]);
        let food = food.and_then(|food| food.strings("likes"));
        let legs = root.integer("legs", 0, 8);
        let kind = root.string("kind")?;
        kind.names_its_file("pet", "kind");
        let kind = kind.parse(|kind| match kind {
            "tiger" => Err(PetProblem::NoPet(kind.to_owned())),
            kind => Ok(kind.to_owned()),
        });
        let food = food?.iter().map(|text| text.as_str().to_owned()).collect();
        Some(Self { kind: kind?, legs: legs?, food })
    }
}

/// Reads `cat.toml` with this text.
fn read(text: &str) -> Result<Pet, InputErrors<PetProblem>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cat.toml");
    fs::write(&path, text).unwrap();
    InputFile::read(&path)
        .map_err(|error| vec![error])
        .and_then(|file| file.interpret(&["kind", "legs", "food"], Pet::read))
        .map_err(|errors| InputErrors::new("pets".to_owned(), errors))
}

/// The errors for this text, each without the folder's path.
fn errors(text: &str) -> Vec<String> {
    let errors = read(text).unwrap_err();
    let said = errors.errors().iter().map(ToString::to_string);
    said.map(|error| error[error.find("cat.toml").unwrap()..].to_owned()).collect()
}

fn render(diagnostic: &dyn Diagnostic) -> String {
    let mut report = String::new();
    NarratableReportHandler::new().render_report(&mut report, diagnostic).unwrap();
    report
}

#[test]
fn a_file_without_mistakes_is_its_contents() {
    let pet = read("kind = \"cat\"\nlegs = 4\n[food]\nlikes = [\"fish\"]\n").unwrap();
    assert_eq!(pet, Pet { kind: "cat".into(), legs: 4, food: vec!["fish".into()] });
}

#[test]
fn all_mistakes_of_a_file_are_reported_from_top_to_bottom() {
    assert_eq!(
        errors("kind = \"tiger\"\nlegs = 9\nlaegs = 4\n[food]\nlikes = [1]\n"),
        [
            "cat.toml:1:8: pet `tiger` is in a file named `cat.toml`",
            "cat.toml:1:8: a tiger is no pet",
            "cat.toml:2:8: `legs` is out of range: 9",
            "cat.toml:3:1: unknown key `laegs`",
            "cat.toml:5:10: `likes` holds a whole number",
        ]
    );
}

#[test]
fn what_is_missing_is_reported_at_its_table() {
    assert_eq!(
        errors("# a cat\n"),
        [
            "cat.toml:1:1: table `[food]` is missing",
            "cat.toml:1:1: key `legs` is missing",
            "cat.toml:1:1: key `kind` is missing",
        ]
    );
    assert_eq!(errors("kind = \"cat\"\nlegs = 4\n\n[food]\n"), ["cat.toml:4:1: key `likes` is missing"]);
}

#[test]
fn a_misspelled_key_is_one_mistake() {
    let text = "kind = \"cat\"\nlgs = 4\n[fodd]\nlikes = [\"fish\"]\n";
    assert_eq!(errors(text), ["cat.toml:2:1: unknown key `lgs`", "cat.toml:3:2: unknown key `fodd`"]);
    assert!(render(&read(text).unwrap_err()).contains("did you mean `food`?"));
}

#[test]
fn of_a_text_that_is_not_toml_the_first_mistake_is_reported() {
    let quoted = "not TOML: string values must be quoted, expected literal string";
    assert_eq!(errors("kind = \nlegs = [1,\n[food]\n"), [format!("cat.toml:1:8: {quoted}")]);
}

#[test]
fn a_report_shows_the_line_and_what_would_be_right() {
    let report = render(&read("kind = \"cat\"\nlegs = \"four\"\n[eats]\n").unwrap_err());
    for part in [
        "3 errors in the files of pets",
        "table `[food]` is missing",
        "add `[food]`; see the pet's manual",
        "snippet line 2: legs = \"four\"",
        "label at line 2, columns 8 to 13: wrong type",
        "`legs` takes a whole number",
        "the keys here are `kind`, `legs`, `food`",
    ] {
        assert!(report.contains(part), "{part:?} in {report}");
    }
}

#[test]
fn the_entries_of_a_folder_have_an_order_and_none_of_them_is_hidden() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("b.toml"), "").unwrap();
    fs::write(path(".#a.toml"), "").unwrap();
    fs::create_dir(path("a")).unwrap();
    let entry = |name: &str, is_folder| Entry { path: path(name), is_folder };
    assert_eq!(entries(folder.path()).unwrap(), [entry("a", true), entry("b.toml", false)]);
    assert!(is_toml(&path("b.toml")) && !is_toml(&path("a")) && !is_toml(Path::new("toml")));
}
