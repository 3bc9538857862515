//! `trace`: the timeline of a run, for a viewer of traces.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nestmatrix::trace::Trace;

use crate::exit::Failure;
use crate::run_matrix::results;
use crate::{input, output};

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
    let past = input::past_run(&arguments.run, &in_results)?;
    let mut text = serde_json::to_string(&Trace::new(&past)).map_err(Failure::error)?;
    text.push('\n');
    let file = arguments.output.clone().unwrap_or_else(|| past.folder.join("trace.json"));
    if file == Path::new("-") {
        output::print(&text)?;
    } else {
        let write = if arguments.output.is_some() { output::write } else { output::replace };
        write(&file, &text)?;
        eprintln!("{}: open it in Perfetto's viewer, or in chrome://tracing", file.display());
    }
    Ok(ExitCode::SUCCESS)
}
