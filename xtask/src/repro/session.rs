//! `repro` without `--bundle`: boots the stack of one cell and pauses it for a debug session.

use std::process::ExitCode;
use std::rc::Rc;

use indicatif::MultiProgress;
use nestmatrix::debug_server::{DebugServer, PauseAt, SessionEvent};
use nestmatrix::report;
use nestmatrix::run::{RunEvent, RunListener};
use nestmatrix::scenario::Cell;
use nestmatrix_model::Stage;

use super::Repro;
use crate::cli::{Format, Jobs, Pace, RunMatrix, Selection};
use crate::exit::Failure;
use crate::input;
use crate::progress::{CellProgress, print_above};
use crate::run_matrix;
use crate::terminal::style_of;

pub fn start(arguments: Repro) -> Result<ExitCode, Failure> {
    let selection = Selection {
        filter: vec![arguments.cell],
        folder: arguments.folder,
        deny_rebuilds: false,
        deny_stand_ins: false,
    };
    let (matrix, filter) = input::scenarios(&selection)?;
    let Some(cell) = input::one_cell(&matrix, &filter, "a debug session needs")? else {
        return Ok(input::no_cell());
    };
    let until = arguments.until.map(|stage| stage_of(cell, &stage)).transpose()?;
    let pause_at = match (until, arguments.on_failure) {
        (None, false) => PauseAt::End,
        (None, true) => PauseAt::Failure,
        (Some(stage), false) => PauseAt::Stage(stage),
        (Some(stage), true) => PauseAt::StageOrFailure(stage),
    };
    let run = RunMatrix {
        selection,
        profile: None,
        deny_skip: Vec::new(),
        shard: None,
        history: Vec::new(),
        resume: None,
        source: arguments.source,
        metal: arguments.metal,
        pace: Pace { jobs: Some(Jobs(Some(1))), timeouts: arguments.timeouts },
        cold: true,
        disposable_host: false,
        repeat: None,
        snapshot_limit: 0,
        results: arguments.results,
        baseline: None,
        kernels: arguments.kernels,
        format: Format::Text,
    };
    run_matrix::start(&run, None, Some(pause_at))
}

/// The stage of the cell's stack that has this name.
fn stage_of(cell: &Cell, name: &str) -> Result<Stage, Failure> {
    let stages = Stage::of_stack(cell.innermost()).into_iter().filter(|stage| *stage != Stage::Provision);
    let steps = (1..=cell.steps.len()).filter_map(|number| u8::try_from(number).ok()).map(Stage::Step);
    let stages: Vec<Stage> = stages.chain(steps).collect();
    let names: Vec<String> = stages.iter().map(Stage::to_string).collect();
    match names.iter().position(|known| known == name) {
        Some(index) => Ok(stages[index]),
        None => {
            let why = format!("--until {name}: the stages of {} are {}", cell.name, names.join(", "));
            Err(Failure::bad_input(miette::miette!("{why}")))
        }
    }
}

/// Starts the debug server of the cell's stack.
pub fn debug_server(
    pause_at: PauseAt,
    cell: &Cell,
    bars: &MultiProgress,
) -> Result<Rc<DebugServer>, Failure> {
    let bars = bars.clone();
    let print = move |event: &SessionEvent<'_>| {
        let style = style_of(&std::io::stderr());
        let text = match event {
            SessionEvent::Paused(paused) => report::paused_stack(paused, &style),
            SessionEvent::Happened(what) => report::event(what, &style),
        };
        print_above(&bars, &text);
    };
    DebugServer::open(cell.name.clone(), pause_at, print).map_err(Failure::error)
}

/// Shows the cell's progress, and reports its stages to the debug server.
pub struct SessionListener {
    pub debug_server: Rc<DebugServer>,
    pub cells: CellProgress,
}

impl RunListener for SessionListener {
    fn event(&self, event: &RunEvent<'_>) {
        if let RunEvent::StageBegan { stage, .. } = event {
            self.debug_server.set_stage(*stage);
        }
        self.cells.event(event);
    }
}
