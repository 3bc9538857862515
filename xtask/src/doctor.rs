//! `doctor`: shows what this machine can run, and what is missing.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use nestmatrix::doctor::{Checkup, Examination, check_level};
use nestmatrix::records::Purpose;
use nestmatrix::report::{self, Style};
use nestmatrix::run::{MachineTrial, Setting};
use nestmatrix::scenario::{Cell, Filter, Matrix};
use nestmatrix_images::{Catalog, HostTools, SourceProblem, Store};
use nestmatrix_model::{Architecture, LevelNumber, Word as _};
use nestmatrix_stack::host::Scratch;

use crate::cli::{Doctor, Format, LevelArgument};
use crate::exit::Failure;
use crate::progress::{BuildProgress, CellProgress};
use crate::settings::{installed_qemu, metal};
use crate::signals::Signals;
use crate::terminal::{print, style_of};
use crate::{input, parent_death, runtime, snapshots};

/// The cell whose levels are checked by default.
const DEFAULT_CELL: &str = "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+";

pub fn run(arguments: &Doctor) -> Result<ExitCode, Failure> {
    let (matrix, filter) = input::scenarios(&arguments.selection)?;
    let catalog = input::recipes(&arguments.source.folder)?;
    let store = Arc::new(input::store(&arguments.source)?);
    if !matrix.cells().iter().any(|cell| filter.matches(&cell.name)) {
        return Ok(input::no_cell());
    }
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        let builds = Arc::new(BuildProgress::new());
        let examined = match arguments.level {
            None => {
                let examined = this_machine(arguments, &matrix, filter, &catalog, &store, &builds);
                tokio::select! {
                    examined = examined => examined.map(Some),
                    () = async { signals.cancellation.clone().requested().await } => Ok(None),
                }
            }
            Some(level) => level_of(arguments, level, &matrix, &filter, &catalog, &store, &builds, &signals)
                .await
                .map(Some),
        };
        builds.finish();
        if let Some(code) = signals.exit_code() {
            return Ok(ExitCode::from(code));
        }
        examined?.map_or(Ok(ExitCode::from(3)), |checkup| show(arguments, &checkup))
    })
}

fn show(arguments: &Doctor, checkup: &Checkup) -> Result<ExitCode, Failure> {
    match arguments.format {
        Format::Text => print(&report::checkup(checkup, &style())),
        Format::Json => print(&format!("{}\n", serde_json::to_string(checkup).map_err(Failure::error)?)),
    }
    Ok(if checkup.usable { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Pipes and files get 80 columns. Commands are never wrapped.
fn style() -> Style {
    let style = style_of(&std::io::stdout());
    if style == Style::plain() { Style { width: 80, ..style } } else { style }
}

async fn this_machine(
    arguments: &Doctor,
    matrix: &Matrix,
    filter: Filter,
    catalog: &Catalog,
    store: &Arc<Store>,
    builds: &Arc<BuildProgress>,
) -> Result<Checkup, Failure> {
    let images = store.list().map_err(Failure::error)?.into_iter().filter(|cached| cached.referenced);
    let examination = Examination {
        matrix,
        catalog,
        trial: MachineTrial {
            catalog,
            store: Arc::clone(store),
            progress: Arc::clone(builds) as _,
            installed: Architecture::ALL.iter().copied().find_map(installed_qemu),
            wrapper: parent_death::wrapper().map_err(Failure::error)?,
            timeout_scale: arguments.timeouts.scale(),
            insist: true,
        },
        cached: images.map(|cached| (cached.image.name().to_owned(), cached.image.product())).collect(),
        offline: arguments.source.offline,
        named: (!arguments.selection.filter.is_empty()).then_some(filter),
        metal: metal(arguments.metal),
        denied: arguments.selection.denied(),
        source_problems: source_problems(catalog)?,
        cache: store.cache().to_owned(),
        snapshots: snapshots::folder(store),
    };
    examination.carry_out().await.map_err(Failure::error)
}

/// What keeps images from being built from the user's sources, by the names of the recipes.
fn source_problems(catalog: &Catalog) -> Result<BTreeMap<String, Vec<SourceProblem>>, Failure> {
    let wrapper = parent_death::wrapper().map_err(Failure::error)?;
    let tools = HostTools::of_this_machine();
    let of_sources = catalog.recipes().filter(|recipe| recipe.source().is_some());
    let problems =
        of_sources.map(|recipe| (recipe.name().to_owned(), recipe.source_problems(&tools, wrapper.words())));
    Ok(problems.collect())
}

#[allow(clippy::too_many_arguments, reason = "one call site, and no two arguments of one type")]
async fn level_of(
    arguments: &Doctor,
    level: LevelArgument,
    matrix: &Matrix,
    filter: &Filter,
    catalog: &Catalog,
    store: &Arc<Store>,
    builds: &Arc<BuildProgress>,
    signals: &Signals,
) -> Result<Checkup, Failure> {
    let level = match level {
        LevelArgument::L0 => LevelNumber::ALL[0],
        LevelArgument::L1 => LevelNumber::ALL[1],
    };
    let named = !arguments.selection.filter.is_empty();
    let matching = |cell: &&Cell| filter.matches(&cell.name);
    let default = matrix.cells().iter().find(|cell| !named && cell.name.as_str() == DEFAULT_CELL);
    let cell =
        default.or_else(|| matrix.cells().iter().find(matching)).ok_or_else(|| Failure::error("no cell"))?;
    // The records are not needed. If this process is killed, the next run removes them.
    let results = Scratch::create().map_err(Failure::error)?;
    let setting = Setting {
        catalog: catalog.clone(),
        store: Arc::clone(store),
        progress: Arc::clone(builds) as _,
        native_qemu: None,
        wrapper: parent_death::wrapper().map_err(Failure::error)?,
        results: results.path().to_owned(),
        jobs: Some(1),
        snapshots: None,
        timeout_scale: arguments.timeouts.scale(),
        repeat: 1,
        arguments: std::env::args().skip(1).collect(),
        part: None,
        resumed: None,
        purpose: Purpose::Matrix,
        inspector: None,
    };
    let listener =
        Rc::new(CellProgress::without_verdicts(builds.bars().clone(), style_of(&std::io::stderr())));
    let cancellation = signals.cancellation.clone();
    check_level(cell, level, (matrix, catalog), setting, listener, cancellation).await.map_err(Failure::error)
}
