//! Runs what is measured: the script, and xtask for the cells.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use nestmatrix::run::{Fate, MetalChoice, NativeMetals, PlanOptions, Planned, RunPlan, host_isa};
use nestmatrix::scenario::{Cell, Filter, Matrix};
use nestmatrix_images::{Catalog, Emulator, Error, Image, Product, Recipe, Store};
use nestmatrix_model::Isa;
use nestmatrix_stack::Cancellation;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use xtask::exit::Failure;
use xtask::options::{ImageSource, Jobs};
use xtask::progress::{BuildProgress, print_above};
use xtask::{PROGRAM_VARIABLE, input, parent_death};

use crate::records::{self, Record};

/// The scenarios of the yardsticks.
const YARDSTICKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
/// The scenarios of the project.
const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios");
/// The script that boots a stack by hand.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/yardstick/amd.sh");
/// The emulator of the metal, for the script and for the cells.
const EMULATOR: &str = "qemu-system-x86_64";

/// Cells that are measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cells {
    /// The one whose stack the script boots too.
    One,
    /// The same stack on Intel.
    Intel,
    /// The same stack on POWER9.
    Power9,
    /// The cells of the matrix.
    Matrix,
    /// The default profile of the project's scenarios.
    DefaultProfile,
}

impl Cells {
    /// The folder of their scenarios, and the arguments that choose them.
    fn chosen_by(self) -> (&'static Path, &'static [&'static str]) {
        let (folder, arguments): (_, &[&str]) = match self {
            Self::One => (YARDSTICKS, &["twelve/amd/debian-12/debian-12/debian-12"]),
            Self::Intel => (YARDSTICKS, &["other-metal/intel/*"]),
            Self::Power9 => (YARDSTICKS, &["other-metal/power9/*"]),
            Self::Matrix => (YARDSTICKS, &["twelve/*"]),
            Self::DefaultProfile => (SCENARIOS, &["--profile", "default"]),
        };
        (Path::new(folder), arguments)
    }

    /// The cells of the matrix that they are.
    fn load(self) -> Result<(Matrix, Vec<Cell>), Failure> {
        let (folder, arguments) = self.chosen_by();
        let matrix = Matrix::load(&input::short(folder)).map_err(Failure::bad_input)?;
        let filter = match arguments {
            ["--profile", profile] => {
                let all = Filter::parse(&[]).map_err(Failure::bad_input)?;
                all.within(matrix.profile(profile).map_err(Failure::bad_input)?)
            }
            globs => {
                let globs: Vec<String> = globs.iter().map(|&glob| glob.to_owned()).collect();
                Filter::parse(&globs).map_err(Failure::bad_input)?
            }
        };
        let cells = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).cloned().collect();
        Ok((matrix, cells))
    }
}

/// Why measuring stopped.
pub enum Stopped {
    /// By a signal.
    Interrupted,
    /// A command failed.
    Failed(Failure),
}

impl Stopped {
    fn failed(what: impl std::fmt::Display) -> Self {
        Self::Failed(Failure::error(what))
    }
}

/// The script and the cells, with all images built.
pub struct Prepared {
    script: Vec<OsString>,
    /// The program that runs the cells.
    xtask: OsString,
    /// How many cells there are of each kind.
    counts: BTreeMap<Cells, usize>,
    /// Kept open, so that no other process prunes the images.
    _store: Store,
}

/// The stacks of the yardsticks, ready to be started.
pub struct Stacks {
    prepared: Prepared,
    run_matrix: Vec<OsString>,
    results: PathBuf,
    cancellation: Cancellation,
}

/// The results of a run.
pub struct Ran {
    /// The records, in the order of the verdicts.
    pub records: Vec<Record>,
    /// The folder of the run.
    pub folder: PathBuf,
}

impl Prepared {
    /// Builds every image that the stack of the script and these cells boot.
    ///
    /// # Errors
    /// An image is not available, or the program that runs the cells is unknown.
    pub fn new(source: &ImageSource, measured: &BTreeSet<Cells>) -> Result<Self, Failure> {
        let xtask = program()?;
        let catalog = input::recipes(&source.folder)?;
        let store = input::store(source)?;
        let mut plans = BTreeMap::new();
        for cells in measured.iter().copied().chain([Cells::One]) {
            let (matrix, chosen) = cells.load()?;
            let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
            let plan = RunPlan::new(chosen, &matrix, &catalog, &NativeMetals::new(), &options);
            // The default profile has what this machine can run, and more.
            if let (Some((cell, reasons)), true) = (plan.skipped().next(), cells != Cells::DefaultProfile) {
                return Err(Failure::error(format!(
                    "{} cannot be booted: {}",
                    cell.name,
                    nestmatrix::records::in_one_line(reasons)
                )));
            }
            plans.insert(cells, plan);
        }
        let emulator = catalog.recipes().find(|recipe| {
            Some(recipe.isa()) == Isa::of_this_machine() && recipe.emulator() == Some(EMULATOR)
        });
        let emulator = emulator.ok_or_else(|| {
            Failure::error(format!("no recipe makes {EMULATOR} for {} machines", host_isa()))
        })?;
        let images_of = |cells: fn(&Cells) -> bool| -> BTreeSet<(String, Product)> {
            let chosen = plans.iter().filter(|(of, _)| cells(of));
            chosen.flat_map(|(_, plan)| plan.images()).collect()
        };
        let known = |(recipe, product): &(String, Product)| Some((catalog.get(recipe)?, *product));
        let images = images_of(|cells| *cells != Cells::DefaultProfile);
        let images = images.iter().filter_map(known);
        let wanted: Vec<(&Recipe, Product)> = images.chain([(emulator, Product::Emulator)]).collect();
        let builds = BuildProgress::new();
        let images = store.ensure_all(&wanted, &builds).map_err(Failure::error)?;
        for (recipe, product) in images_of(|cells| *cells == Cells::DefaultProfile).iter().filter_map(known) {
            match store.ensure(recipe, product, &builds) {
                Ok(_) => {}
                // The runs are offline, so its cells end in an error, and the default profile has no time. The rest is measured.
                Err(Error::Undelivered(packages)) => {
                    print_above(builds.bars(), &format!("no image {}: {packages}", recipe.name()));
                }
                Err(other) => return Err(Failure::error(other)),
            }
        }
        builds.finish();
        let planned = plans.get(&Cells::One).and_then(|plan| plan.boots().next());
        let script = planned.and_then(|planned| script(planned, &catalog, &images));
        let script = script.ok_or_else(|| Failure::error("the yardsticks lack the cell of the script"))?;
        let counts = plans.iter().map(|(cells, plan)| (*cells, plan.cells.len())).collect();
        Ok(Self { script, xtask, counts, _store: store })
    }
}

impl Stacks {
    /// Stores all runs in the folder `results`.
    ///
    /// # Errors
    /// The path of this program is unknown.
    pub fn new(
        prepared: Prepared,
        source: &ImageSource,
        results: &Path,
        cancellation: Cancellation,
    ) -> std::io::Result<Self> {
        let run_matrix = run_matrix(&prepared.xtask, source, results)?;
        Ok(Self { prepared, run_matrix, results: results.to_owned(), cancellation })
    }

    /// How many these cells are.
    pub fn count(&self, cells: Cells) -> usize {
        self.prepared.counts.get(&cells).copied().unwrap_or_default()
    }

    /// Runs the script and returns its seconds.
    ///
    /// # Errors
    /// The script failed.
    pub async fn by_hand(&self) -> Result<f64, Stopped> {
        // Without a parent death signal: killed, the script could not end its QEMU; left alone, it ends within a minute.
        let output = self.finish(command(&self.prepared.script)).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let seconds = text.lines().last().and_then(|line| line.trim().parse().ok());
        seconds.filter(|_| output.status.success()).ok_or_else(|| {
            Stopped::failed(format!("{SCRIPT} failed ({}): {}", output.status, end_of(&output.stderr)))
        })
    }

    /// Runs cells, `jobs` at once, with the folder `snapshots` or without snapshots.
    ///
    /// # Errors
    /// A cell has no verdict.
    pub async fn run(&self, cells: Cells, jobs: Jobs, snapshots: Option<&Path>) -> Result<Ran, Stopped> {
        let (scenarios, chosen) = cells.chosen_by();
        let mut command = command(&self.run_matrix);
        command.arg("--scenarios").arg(scenarios).args(chosen).arg("--jobs");
        command.arg(jobs.0.map_or_else(|| "auto".to_owned(), |jobs| jobs.to_string()));
        match snapshots {
            Some(snapshots) => command.env("NESTMATRIX_SNAPSHOTS", snapshots),
            None => command.arg("--cold"),
        };
        let latest = self.results.join("latest");
        let before = fs::read_link(&latest).ok();
        let output = self.finish(command).await?;
        let failed = |why: &str| {
            let stderr = end_of(&output.stderr);
            Stopped::failed(format!("run-matrix {} {why} ({}): {stderr}", chosen.join(" "), output.status))
        };
        let name = fs::read_link(&latest).ok().filter(|name| before.as_ref() != Some(name));
        let folder = self.results.join(name.ok_or_else(|| failed("left no records"))?);
        let text = fs::read_to_string(folder.join("verdicts.jsonl"));
        let text = text.map_err(|e| failed(&format!("left no verdicts: {e}")))?;
        let records = records::parse(&text);
        let records = records.map_err(|e| failed(&format!("left unreadable verdicts: {e}")))?;
        let expected = self.count(cells);
        if records.len() == expected {
            Ok(Ran { records, folder })
        } else {
            Err(failed(&format!("left {} verdicts, not {expected}", records.len())))
        }
    }

    /// Runs a command to its end, or shuts it down on cancellation.
    async fn finish(&self, mut command: Command) -> Result<Output, Stopped> {
        // In its own process group, so that Ctrl-C does not reach it twice; a second signal would end it immediately.
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
                    // Fails only if it has ended.
                    let _ = kill(id, Signal::SIGTERM);
                }
                let _ = output.await;
                Err(Stopped::Interrupted)
            }
        }
    }
}

/// The program that runs the cells.
fn program() -> Result<OsString, Failure> {
    std::env::var_os(PROGRAM_VARIABLE).ok_or_else(|| {
        Failure::error(format!(
            "{PROGRAM_VARIABLE} is not set, so the program that runs the cells is unknown; start the bench with `cargo xtask \
             bench`"
        ))
    })
}

/// The script with its arguments: the images of the cell, and the emulator.
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

/// The command for all runs of cells. It ends together with this process.
fn run_matrix(xtask: &OsStr, source: &ImageSource, results: &Path) -> std::io::Result<Vec<OsString>> {
    let mut words = parent_death::wrapper()?.words().to_vec();
    words.push(xtask.to_owned());
    // All images are built, and all rounds must use the same ones.
    words.extend(["run-matrix", "--metal", "emulated", "--offline", "--format", "json"].map(Into::into));
    let folders: [(&str, &Path); 2] = [("--recipes", &source.folder.recipes), ("--results", results)];
    words.extend(folders.into_iter().flat_map(|(option, folder)| [option.into(), folder.into()]));
    Ok(words)
}

fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// The last lines of a command's output, which show why it failed.
fn end_of(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
