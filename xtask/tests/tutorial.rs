//! The tutorial of docs/adding-a-document.md works as it is typed: its files and commands are taken from the page, and what the
//! page prints is compared.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Place, boots, checkout, of_recipes, trials};

/// Longest run of its cell.
const LIMIT: Duration = Duration::from_secs(600);

/// A block of the page: the word after the fence, and its lines.
struct Block {
    kind: String,
    text: String,
}

/// The blocks of the page's example, which ends where real documents begin.
fn blocks() -> Vec<Block> {
    let page = fs::read_to_string(checkout().join("docs/adding-a-document.md")).unwrap();
    let example = page.split("\n## Real documents").next().unwrap();
    let fenced: Vec<&str> = example.split("```").collect();
    assert!(fenced.len() > 9 && fenced.len() % 2 == 1, "the example has {} fences", fenced.len() - 1);
    let block = |text: &&str| {
        let (kind, text) = text.split_once('\n').unwrap();
        Block { kind: kind.to_owned(), text: text.to_owned() }
    };
    fenced.iter().skip(1).step_by(2).map(block).collect()
}

/// Writes a file of the page, whose first line is a comment with its path.
fn write(place: &Path, text: &str) {
    let path = text.lines().next().unwrap().trim_start_matches("# ");
    fs::write(place.join(path), text).unwrap_or_else(|e| panic!("{path}: {e}"));
}

/// Runs a command of the page in `place`. `cargo xtask` is the program itself there.
fn run(place: &Place, line: &str) -> (String, Option<i32>) {
    let mut command = match line.strip_prefix("cargo xtask ") {
        Some(arguments) => {
            let mut command = place.xtask();
            command.args(arguments.split(' '));
            command
        }
        None => {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", line]);
            command
        }
    };
    let output = assert_cmd::Command::from_std({
        command.current_dir(place.path());
        command
    })
    .timeout(LIMIT)
    .output()
    .unwrap();
    assert!(output.status.code().is_some(), "{line} was ended: {output:?}");
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

/// Types the page up to the command that begins with `last`, and compares what its commands print.
fn type_up_to(place: &Place, last: &str) -> (String, Option<i32>) {
    for Block { kind, text } in blocks() {
        match kind.as_str() {
            "toml" => write(place.path(), &text),
            "console" => {
                let (line, printed) = text.strip_prefix("$ ").unwrap().split_once('\n').unwrap();
                if line.starts_with(last) {
                    let line = match line.split_once("run-matrix ") {
                        Some((xtask, rest)) => {
                            format!("{xtask}run-matrix --results {} {rest}", place.results().display())
                        }
                        None => line.to_owned(),
                    };
                    return run(place, &line);
                }
                let (output, code) = run(place, line);
                assert_eq!((output.trim_end(), code), (printed.trim_end(), Some(0)), "{line}");
            }
            _ => {}
        }
    }
    panic!("the page has no command {last}");
}

fn the_files_of_the_tutorial_list_as_the_page_shows() {
    let place = Place::new();
    let (output, code) = type_up_to(&place, "cargo xtask list --claims");
    assert_eq!(code, Some(0));
    let printed = blocks().into_iter().find(|block| block.text.contains("list --claims")).unwrap();
    assert_eq!(output.trim_end(), printed.text.split_once('\n').unwrap().1.trim_end());
}

fn the_cell_of_the_tutorial_passes() {
    let _boots = boots(&of_recipes(&["debian-12-amd64", "qemu-x86-amd64"]));
    let place = Place::new();
    let (output, code) = type_up_to(&place, "cargo xtask run-matrix");
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("1 pass in "), "{output}");
    place.assert_nothing_left();
}

trials! {
    the_files_of_the_tutorial_list_as_the_page_shows;
    the_cell_of_the_tutorial_passes;
}
