//! `trace`: writes the timeline of a run for a trace viewer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nestmatrix::trace::Trace;

use crate::cli::Results;
use crate::exit::Failure;
use crate::terminal::note;
use crate::{input, output};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The run: its folder, or its name in the folder of runs
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: PathBuf,
    /// Write the trace to FILE, `-` for standard output [default: trace.json in the run's folder]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub results: Results,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let past = input::past_run(&arguments.run, &arguments.results.folder())?;
    let mut text = serde_json::to_string(&Trace::new(&past)).map_err(Failure::error)?;
    text.push('\n');
    let file = arguments.output.clone().unwrap_or_else(|| past.folder.join("trace.json"));
    if file == Path::new("-") {
        output::write_stdout(&text)?;
    } else {
        let write = if arguments.output.is_some() { output::write } else { output::replace };
        write(&file, &text)?;
        note!("trace: {}; open it in Perfetto's viewer or in chrome://tracing", file.display());
    }
    Ok(ExitCode::SUCCESS)
}
