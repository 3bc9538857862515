//! Starts harnesses, and waits for their ends.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use nestmatrix::records::VerdictWord;
use serde::Deserialize;
use tokio::process::{Child, Command};
use xtask::exit::Failure;
use xtask::{PROGRAM_VARIABLE, parent_death};

use crate::clock;
use crate::place::Place;
use crate::processes::MARK;

/// Makes a write beyond the limit of a file's size fail, like one to a full disk, instead of ending the program by a signal.
const WITHOUT_SIGNAL_OF_SIZES: [&str; 3] = ["sh", "-c", r#"trap '' XFSZ; exec "$0" "$@""#];

/// How runs are started.
pub struct Starter {
    wrapper: Vec<OsString>,
    program: OsString,
}

/// Which cells a harness runs, and how.
#[derive(Debug, Clone, Copy)]
pub struct Job<'j> {
    /// The arguments that choose cells.
    pub cells: &'j [String],
    /// Whether every level boots, without snapshots.
    pub cold: bool,
    /// Whether images may not be built.
    pub offline: bool,
    /// The folder of runs.
    pub results: &'j Path,
    /// The mark of its processes.
    pub mark: &'j str,
    /// The file with its clock, if it has one of its own.
    pub clock: Option<&'j Path>,
}

/// A line of `verdicts.jsonl`, or of standard output (docs/records.md).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Record {
    /// The cell.
    pub cell: String,
    /// Its verdict.
    pub verdict: VerdictWord,
    /// Where its stack stopped.
    pub stage: Option<String>,
    /// Why it stopped.
    pub symptom: Option<String>,
    /// When its attempts ran.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

/// An attempt, in seconds since the run began.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Attempt {
    /// Its beginning.
    pub start: f64,
    /// Its end.
    pub end: f64,
}

/// A harness that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The verdicts that it printed.
    pub announced: Vec<Record>,
    /// The verdicts in its records, or why they can't be read.
    pub recorded: Result<Vec<Record>, String>,
    /// What it said.
    pub stderr: String,
}

impl Starter {
    /// # Errors
    /// The program that runs cells, or this one, is unknown.
    pub fn new() -> Result<Self, Failure> {
        let program = std::env::var_os(PROGRAM_VARIABLE).ok_or_else(|| {
            Failure::error(format!(
                "{PROGRAM_VARIABLE} is not set, so the program that runs cells is unknown; use `cargo xtask chaos`"
            ))
        })?;
        let wrapper = parent_death::wrapper().map_err(Failure::error)?;
        Ok(Self { wrapper: wrapper.words().to_vec(), program })
    }

    /// Starts a harness in a process group of its own; it ends with this process. Without a place it uses the user's folders.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(&self, place: Option<&Place>, job: &Job<'_>) -> std::io::Result<Child> {
        let words = self.wrapper.iter().cloned().chain(WITHOUT_SIGNAL_OF_SIZES.iter().map(Into::into));
        let words: Vec<OsString> = words.chain([self.program.clone()]).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args([
            "run-matrix",
            "--metal",
            "emulated",
            "--jobs",
            "1",
            "--format",
            "json",
        ]);
        command.arg("--results").arg(job.results).args(job.cells);
        command.args(job.cold.then_some("--cold")).args(job.offline.then_some("--offline"));
        command.env(MARK, job.mark);
        if let Some(place) = place {
            command.envs(place.environment());
        }
        if let (Some(clock), Some(library)) = (job.clock, clock::library()) {
            command.envs(clock::environment(&library, &self.program, clock));
        }
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn()
    }
}

impl Ended {
    /// What is known of a harness that has ended: its output, and what is in its folder of runs.
    pub fn new(output: &Output, results: &Path) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout);
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            announced: stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
            recorded: recorded(results),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The recorded verdict of a cell.
    pub fn of(&self, cell: &str) -> Option<&Record> {
        self.recorded.as_ref().ok()?.iter().find(|record| record.cell == cell)
    }
}

/// The verdicts of the only run in a folder of runs. If it was ended before it had a folder, it has none.
fn recorded(results: &Path) -> Result<Vec<Record>, String> {
    let runs: Vec<PathBuf> = std::fs::read_dir(results)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("verdicts.jsonl"))
        .filter(|file| file.is_file() && !file.parent().is_some_and(Path::is_symlink))
        .collect();
    let [file] = &runs[..] else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    // A harness that is killed while it writes leaves a part of a line.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).map_err(|e| format!("{e} in {line}"))).collect()
}
