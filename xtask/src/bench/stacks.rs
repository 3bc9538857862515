//! Starts what is measured: the hand-written script, and this program again for the cells. Each is waited for to
//! its end.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use nestmatrix::run::{Fate, MetalChoice, NativeMetals, PlanOptions, Planned, RunPlan, host_isa};
use nestmatrix::scenario::Matrix;
use nestmatrix_images::{Catalog, Emulator, Image, Product, Recipe, Store};
use nestmatrix_model::Isa;
use nestmatrix_stack::Cancellation;
use nestmatrix_vmm::qemu::ExecWrapper;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use super::records::{self, Record};
use crate::cli::{ImageSource, Jobs};
use crate::exit::Failure;
use crate::input;
use crate::live::Builds;
use crate::tied;

/// The scenarios of the yardsticks.
const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench");
/// The script that boots a stack by hand.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/yardstick/amd.sh");
/// The emulator that plays the metal, in the script as in the cells.
const EMULATOR: &str = "qemu-system-x86_64";

/// The stack that the script boots, and the cell of it.
pub const CELL: &str = "twelve/amd/debian-12/debian-12/debian-12";
/// The cells of the matrix.
pub const MATRIX: &str = "twelve/*";

/// Why measuring can't go on.
pub enum Stopped {
    /// Somebody asked for it.
    Interrupted,
    /// Something could not be run.
    Failed(Failure),
}

impl Stopped {
    fn failed(what: impl std::fmt::Display) -> Self {
        Self::Failed(Failure::error(what))
    }
}

/// What the stacks boot: every image is there.
pub struct Prepared {
    script: Vec<OsString>,
    cells: usize,
    /// While it is open, nobody prunes the images.
    _store: Store,
}

/// The stacks of the yardsticks, ready to be started.
pub struct Stacks {
    prepared: Prepared,
    run_matrix: Vec<OsString>,
    results: PathBuf,
    cancellation: Cancellation,
}

/// What came of a run of cells.
pub struct Ran {
    /// The records, in the order of the verdicts.
    pub records: Vec<Record>,
    /// The folder of the run.
    pub folder: PathBuf,
}

impl Prepared {
    /// Makes every image ready that any of the stacks boots.
    ///
    /// # Errors
    /// An image can't be had.
    pub fn new(source: &ImageSource) -> Result<Self, Failure> {
        let catalog = input::recipes(&source.recipes)?;
        let store = input::store(source)?;
        let matrix = Matrix::load(&input::short(Path::new(SCENARIOS))).map_err(Failure::bad_input)?;
        let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
        let cells = matrix.cells().iter().cloned();
        let plan = RunPlan::new(cells, &matrix, &catalog, &NativeMetals::new(), &options);
        if let Some((cell, reasons)) = plan.skipped().next() {
            return Err(Failure::error(format!(
                "{} can't be booted: {}",
                cell.name,
                nestmatrix::records::in_one_line(reasons)
            )));
        }
        let emulator = catalog.recipes().find(|recipe| {
            Some(recipe.isa()) == Isa::of_this_machine() && recipe.emulator() == Some(EMULATOR)
        });
        let emulator = emulator
            .ok_or_else(|| Failure::error(format!("no recipe for {EMULATOR} on {} machines", host_isa())))?;
        let images = plan.images();
        let images = images.iter().filter_map(|(recipe, product)| Some((catalog.get(recipe)?, *product)));
        let wanted: Vec<(&Recipe, Product)> = images.chain([(emulator, Product::Emulator)]).collect();
        let builds = Builds::new();
        let images = store.ensure_all(&wanted, &builds).map_err(Failure::error)?;
        builds.finish();
        let planned = plan.boots().find(|planned| planned.cell.name.as_str() == CELL);
        let script = planned.and_then(|planned| script(planned, &catalog, &images));
        let script =
            script.ok_or_else(|| Failure::error(format!("{CELL} is none of the yardsticks' stacks")))?;
        Ok(Self { script, cells: plan.cells.len(), _store: store })
    }
}

impl Stacks {
    /// Stacks whose runs leave their records in the folder `results`.
    ///
    /// # Errors
    /// The operating system does not tell this program's path.
    pub fn new(
        prepared: Prepared,
        source: &ImageSource,
        results: &Path,
        cancellation: Cancellation,
    ) -> std::io::Result<Self> {
        let run_matrix = run_matrix(source, results)?;
        Ok(Self { prepared, run_matrix, results: results.to_owned(), cancellation })
    }

    /// How many cells the matrix has.
    pub fn cells(&self) -> usize {
        self.prepared.cells
    }

    /// Boots the stack by hand and gives the seconds that it took.
    ///
    /// # Errors
    /// It did not come to its end.
    pub async fn by_hand(&self) -> Result<f64, Stopped> {
        // Not tied to this process: killed, it could not end its QEMU; left alone, it ends within a minute.
        let output = self.finish(command(&self.prepared.script)).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let seconds = text.lines().last().and_then(|line| line.trim().parse().ok());
        seconds.filter(|_| output.status.success()).ok_or_else(|| {
            Stopped::failed(format!("{SCRIPT} failed ({}): {}", output.status, end_of(&output.stderr)))
        })
    }

    /// Runs the cells that `filter` lets through, `jobs` side by side, with saved states in the folder `states`,
    /// or without any.
    ///
    /// # Errors
    /// Not every cell of the `expected` number has a verdict.
    pub async fn run(
        &self,
        filter: &str,
        expected: usize,
        jobs: Jobs,
        states: Option<&Path>,
    ) -> Result<Ran, Stopped> {
        let mut command = command(&self.run_matrix);
        command.arg(filter).arg("--jobs");
        command.arg(jobs.0.map_or_else(|| "auto".to_owned(), |jobs| jobs.to_string()));
        match states {
            Some(states) => command.env("NESTMATRIX_STATES", states),
            None => command.arg("--cold"),
        };
        let latest = self.results.join("latest");
        let before = fs::read_link(&latest).ok();
        let output = self.finish(command).await?;
        let failed = |why: &str| {
            let stderr = end_of(&output.stderr);
            Stopped::failed(format!("run-matrix {filter} {why} ({}): {stderr}", output.status))
        };
        let name = fs::read_link(&latest).ok().filter(|name| before.as_ref() != Some(name));
        let folder = self.results.join(name.ok_or_else(|| failed("left no records"))?);
        let text = fs::read_to_string(folder.join("verdicts.jsonl"));
        let text = text.map_err(|e| failed(&format!("left no verdicts: {e}")))?;
        let records = records::parse(&text);
        let records = records.map_err(|e| failed(&format!("left verdicts that can't be read: {e}")))?;
        if records.len() == expected {
            Ok(Ran { records, folder })
        } else {
            Err(failed(&format!("gave {} verdicts, not {expected}", records.len())))
        }
    }

    /// Starts a command and waits for its end, or ends it in order if somebody asks for that.
    async fn finish(&self, mut command: Command) -> Result<Output, Stopped> {
        // In a group of its own, it is told once of an end that is asked for by Ctrl-C: twice means at once.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = command.as_std().get_program().to_owned();
        let failed = |e| Stopped::failed(format!("failed to run {}: {e}", program.display()));
        let child = command.spawn().map_err(failed)?;
        let id = child.id().and_then(|id| i32::try_from(id).ok().map(Pid::from_raw));
        let output = child.wait_with_output();
        tokio::pin!(output);
        let mut cancellation = self.cancellation.clone();
        tokio::select! {
            output = &mut output => output.map_err(failed),
            () = cancellation.requested() => {
                if let Some(id) = id {
                    // Fails only if it has ended by itself.
                    let _ = kill(id, Signal::SIGTERM);
                }
                let _ = output.await;
                Err(Stopped::Interrupted)
            }
        }
    }
}

/// The script with its arguments: the images of the cell and the emulator.
fn script(planned: &Planned, catalog: &Catalog, images: &[Image]) -> Option<Vec<OsString>> {
    let Fate::Boots { levels, .. } = &planned.fate else { return None };
    let mut words = vec![OsString::from(SCRIPT)];
    for level in levels {
        let (recipe, product) = level.boots.as_ref()?;
        let recipe = catalog.get(recipe)?.name();
        let image = images.iter().find(|image| image.name() == recipe && image.product() == *product)?;
        words.push(image.folder().into());
    }
    let emulator = images.iter().find_map(|image| Emulator::new(image.clone()))?;
    let (program, arguments) = emulator.command(EMULATOR);
    words.push(program.into());
    words.extend(arguments);
    words.extend(["-L".into(), emulator.data().into()]);
    Some(words)
}

/// This program's command for cells, tied to this process, but for what differs from run to run.
fn run_matrix(source: &ImageSource, results: &Path) -> std::io::Result<Vec<OsString>> {
    let wrapper: ExecWrapper = tied::wrapper()?;
    let mut words = wrapper.words().to_vec();
    words.push(std::env::current_exe()?.into());
    // The images are there, and those of one round are to be those of all.
    words.extend(["run-matrix", "--metal", "emulated", "--offline", "--format", "json"].map(Into::into));
    let folders: [(&str, &Path); 3] =
        [("--scenarios", Path::new(SCENARIOS)), ("--recipes", &source.recipes), ("--results", results)];
    words.extend(folders.into_iter().flat_map(|(option, folder)| [option.into(), folder.into()]));
    Ok(words)
}

fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// The last lines of what a command said, which tell why it failed.
fn end_of(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
