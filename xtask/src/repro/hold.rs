//! `repro` without `--bundle`: boots the stack of one cell and holds it.

use std::process::ExitCode;
use std::rc::Rc;

use indicatif::MultiProgress;
use nestmatrix::debug_server::{DebugServer, News, PauseAt};
use nestmatrix::report;
use nestmatrix::run::{RunEvent, RunListener};
use nestmatrix::scenario::Cell;
use nestmatrix_model::Stage;

use super::Repro;
use crate::cli::{Format, Jobs, RunMatrix, Selection};
use crate::exit::Failure;
use crate::input;
use crate::live::{self, Cells};
use crate::run_matrix::{self, style_of};

/// Most cells that are named where one is wanted.
const NAMED: usize = 10;

pub fn boot(arguments: Repro) -> Result<ExitCode, Failure> {
    let selection =
        Selection { filter: vec![arguments.cell], scenarios: arguments.scenarios, deny_stand_ins: false };
    let (matrix, filter) = input::scenarios(&selection)?;
    let cells: Vec<&Cell> = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).collect();
    let cell = match cells[..] {
        [] => return Ok(input::no_cell()),
        [cell] => cell,
        [..] => {
            let names: Vec<&str> = cells.iter().take(NAMED).map(|cell| cell.name.as_str()).collect();
            let more = if cells.len() > NAMED { "\n..." } else { "" };
            let why = format!("one cell can be held, and {} match:\n{}{more}", cells.len(), names.join("\n"));
            return Err(Failure::bad_input(miette::miette!("{why}")));
        }
    };
    let until = arguments.until.map(|stage| stage_of(cell, &stage)).transpose()?;
    let at = match (until, arguments.on_failure) {
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
        jobs: Some(Jobs(Some(1))),
        cold: true,
        repeat: None,
        saved_limit: 0,
        results: arguments.results,
        timeout_scale: Some(arguments.timeout_scale),
        baseline: None,
        kernels: arguments.kernels,
        format: Format::Text,
    };
    run_matrix::start(&run, None, Some(at))
}

/// The stage of this name that the cell's stack comes to.
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

/// Opens the desk at which the stack of `cell` is attended to.
pub fn desk(at: PauseAt, cell: &Cell, bars: &MultiProgress) -> Result<Rc<DebugServer>, Failure> {
    let bars = bars.clone();
    let tell = move |news: &News<'_>| {
        let style = style_of(&std::io::stderr());
        let text = match news {
            News::PausedStack(held) => report::held(held, &style),
            News::Heard(what) => report::heard(what, &style),
        };
        live::say(&bars, &text);
    };
    DebugServer::open(cell.name.clone(), at, tell).map_err(Failure::error)
}

/// Shows the cell, and has the desk know how far it has come.
pub struct Noted {
    pub desk: Rc<DebugServer>,
    pub cells: Cells,
}

impl RunListener for Noted {
    fn event(&self, event: &RunEvent<'_>) {
        if let RunEvent::StageBegan { stage, .. } = event {
            self.desk.notes(*stage);
        }
        self.cells.event(event);
    }
}
