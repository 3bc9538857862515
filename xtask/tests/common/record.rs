//! The result of a run: how the command ended, its output, and its records as docs/records.md describes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

/// The end of a run.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Folder of the newest run's records, if there are any.
    folder: PathBuf,
}

impl Run {
    pub fn new(output: Output, results: &Path) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            folder: results.join("latest"),
        }
    }

    /// The same with the records of the only run in this folder of results, even if that is not its `latest`.
    pub fn with_the_only_run(self, results: &Path) -> Self {
        let runs = fs::read_dir(results).unwrap().map(|entry| entry.unwrap().path());
        let mut runs: Vec<PathBuf> = runs.filter(|folder| folder.join("run.json").is_file()).collect();
        assert_eq!(runs.len(), 1, "{runs:?}");
        Self { folder: runs.remove(0), ..self }
    }

    /// The same with the newest run's records in another folder of results.
    pub fn with_results(self, results: &Path) -> Self {
        Self { folder: results.join("latest"), ..self }
    }

    /// Standard error without the line breaks and bars that lay out an error for a terminal.
    pub fn stderr_words(&self) -> String {
        self.stderr.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
    }

    /// Keeps the newest run's records as `name` in cargo's folder for tests, where they outlive the place and can be inspected
    /// after a failure.
    pub fn keep(self, name: &str) -> Self {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if kept.exists() {
            fs::remove_dir_all(&kept).unwrap();
        }
        if self.folder.exists() {
            copy_folder(&self.folder.canonicalize().unwrap(), &kept);
        }
        Self { folder: kept, ..self }
    }

    /// `run.json`.
    pub fn record(&self) -> Value {
        let path = self.folder.join("run.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}\n{self:#?}", path.display()));
        serde_json::from_str(&text).unwrap()
    }

    /// Every line of `verdicts.jsonl`.
    pub fn cells(&self) -> Vec<Cell> {
        let lines = json_lines(&self.folder.join("verdicts.jsonl"));
        lines.into_iter().map(|record| Cell { record, run: self.folder.clone() }).collect()
    }

    /// The cell with this name. The name may be shortened at the front, at the beginning of a word between slashes.
    pub fn cell(&self, name: &str) -> Cell {
        let mut cells = self.cells();
        let is_it = |of: &str| of.starts_with(name) || of.contains(&format!("/{name}"));
        cells.retain(|cell| is_it(cell.text("cell")));
        assert_eq!(cells.len(), 1, "one cell is {name}: {cells:#?}\n{self:#?}");
        cells.remove(0)
    }
}

/// Copies a folder with everything in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let copy = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &copy);
        } else {
            fs::copy(entry.path(), copy).unwrap();
        }
    }
}

/// A cell's record, and the place of its files.
#[derive(Debug)]
pub struct Cell {
    pub record: Value,
    run: PathBuf,
}

impl Cell {
    /// The folder of its run.
    pub fn run_folder(&self) -> &Path {
        &self.run
    }

    /// A member with a text.
    pub fn text(&self, member: &str) -> &str {
        self.record[member].as_str().unwrap_or_else(|| panic!("{member} is no text: {:#}", self.record))
    }

    /// The stages that began, in order.
    pub fn stages(&self) -> Vec<&str> {
        let stages = self.record["stages"].as_array().unwrap();
        stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect()
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.run.join(self.text("folder")).join(name)
    }

    /// The lines of a level's console, without their times. The times must exist and be in order.
    pub fn console(&self, level: &str) -> Vec<String> {
        self.console_file(&format!("{level}.console.log"))
    }

    /// The lines of a console's record with this name, whose times must not decrease.
    pub fn console_file(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.file(name)).unwrap();
        let mut last = 0.0;
        let mut lines = Vec::new();
        for line in text.lines() {
            let (time, said) = line.strip_prefix('[').and_then(|line| line.split_once("] ")).unwrap();
            let time: f64 = time.trim().parse().unwrap();
            assert!(time >= last, "time goes back at {line:?}");
            last = time;
            lines.push(said.to_owned());
        }
        lines
    }

    /// The conversation with a level's monitor or agent: direction and message.
    pub fn conversation(&self, name: &str) -> Vec<(String, Value)> {
        let lines = json_lines(&self.file(name));
        lines
            .into_iter()
            .map(|mut line| {
                assert!(line["t"].is_f64(), "when: {line}");
                (line["dir"].as_str().unwrap().to_owned(), line["message"].take())
            })
            .collect()
    }
}

fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let parse =
        |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", path.display()));
    text.lines().map(parse).collect()
}
