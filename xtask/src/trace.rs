//! `trace`: the timeline of a run, for a viewer of traces.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nestmatrix::run::PastRun;
use nestmatrix::trace::Trace;

use crate::exit::Failure;
use crate::input;
use crate::run_matrix::results;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The run: its folder, or its name in that of results
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: PathBuf,
    /// Where the trace goes; `-` is standard output [default: trace.json in the run's folder]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Folder of all runs [default: results in the checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let in_results = arguments.results.clone().unwrap_or_else(results);
    let folder = input::run(&arguments.run, &in_results)
        .map_err(|why| Failure::bad_input(miette::miette!("{why}")))?;
    let past = PastRun::read(&folder).map_err(|e| Failure::bad_input(miette::miette!("{e}")))?;
    let mut text = serde_json::to_string(&Trace::new(&past)).map_err(Failure::error)?;
    text.push('\n');
    let output = arguments.output.clone().unwrap_or_else(|| folder.join("trace.json"));
    if output == Path::new("-") {
        // Fails only if the reader has gone away.
        let _ = std::io::stdout().write_all(text.as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    write(&output, &text)
        .map_err(|e| Failure::error(format!("failed to write {}: {e}", output.display())))?;
    println!("{}: open it in Perfetto's viewer, or in chrome://tracing", output.display());
    Ok(ExitCode::SUCCESS)
}

/// Writes a file whole: who reads it sees the old one or the new one. What is no file, such as a pipe, is written to.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return std::fs::write(path, text);
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".trace-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    // A temporary file is its owner's alone; this one is as readable as the records beside it.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}
