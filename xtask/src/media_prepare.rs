//! `media prepare`: boots each medium once, so that no run has to.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use nestmatrix::run::{DiskPreparation, MachineTrial, NotPrepared};
use nestmatrix_images::{Catalog, Medium, Recipe, Store};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, PROGRAM, Word as _};

use crate::cli::{ImageSource, Timeouts};
use crate::exit::Failure;
use crate::kernels::escaped;
use crate::media::{named, show_image};
use crate::progress::BuildProgress;
use crate::settings::installed_qemu;
use crate::signals::Signals;
use crate::terminal::{note, print};
use crate::{input, parent_death, runtime};

#[derive(Debug, Args)]
#[command(after_help = "\
A disk is booted once, alone and without a network: on this machine's KVM, otherwise emulated, which
takes minutes. What this changes is kept in the cache; the medium's file is never written to.

Exit codes: 0 if all are prepared, 2 if a medium can't be used, 3 for any other error")]
pub struct Arguments {
    /// Prepare only this medium
    #[arg(value_name = "SYSTEM-VERSION")]
    name: Option<String>,
    /// Prepare a Windows in this role, such as hyper-v or wsl2 [default: one that hosts no guests]
    #[arg(long, value_name = "NAME", requires = "name")]
    role: Option<String>,
    #[command(flatten)]
    source: ImageSource,
    #[command(flatten)]
    timeouts: Timeouts,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let media = input::media()?;
    let chosen: Vec<&Arc<Medium>> = match &arguments.name {
        None => media.iter().collect(),
        Some(name) => named(&media, name)?,
    };
    if chosen.is_empty() {
        print(&format!("no media; add one with `{PROGRAM} media add`\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let catalog = input::recipes(&arguments.source.folder)?;
    let store = Arc::new(input::store(&arguments.source)?);
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        let mut failures = Vec::new();
        for medium in chosen {
            let Some(recipe) = catalog.of_medium(medium) else {
                let (name, isa) = (medium.name(), medium.isa());
                failures.push(Failure::error(format!("no recipe makes an image of {name} for {isa}")));
                continue;
            };
            let recipe = match &arguments.role {
                Some(role) => in_role(&catalog, medium, recipe, role)?,
                None => recipe,
            };
            let began = Instant::now();
            let progress = Arc::new(BuildProgress::new());
            let preparation = DiskPreparation {
                catalog: &catalog,
                store: Arc::clone(&store),
                progress: Arc::clone(&progress) as _,
                installed: architecture_of(recipe).and_then(installed_qemu),
                native: is_native(recipe, arguments, (&catalog, &store), &progress).await?,
                wrapper: parent_death::wrapper().map_err(Failure::error)?,
                timeout_scale: arguments.timeouts.scale(),
                cancellation: signals.cancellation.clone(),
            };
            let prepared = preparation.prepare(recipe).await;
            progress.finish();
            match prepared {
                Ok(_) => {}
                Err(NotPrepared::Interrupted(medium)) => {
                    note!("interrupted: {medium} is not prepared, and nothing of it is kept");
                    return Ok(ExitCode::from(signals.exit_code().unwrap_or(crate::exit::ERROR)));
                }
                Err(error @ NotPrepared::Medium { .. }) => {
                    failures.push(Failure::bad_input(miette::miette!("{}", escaped(&error.to_string()))));
                    continue;
                }
                Err(error) => {
                    failures.push(Failure::error(escaped(&error.to_string())));
                    continue;
                }
            }
            let seconds = began.elapsed().as_secs_f64();
            print(&format!("{} ({}), after {seconds:.0} s\n", medium.name(), medium.isa()));
            // What its report says was not known before.
            show_image(medium, arguments.role.as_deref(), &input::recipes(&arguments.source.folder)?, &store);
        }
        // One medium that can't be prepared stops no other.
        let last = failures.pop();
        for failure in failures {
            let _ = failure.report();
        }
        last.map_or(Ok(ExitCode::SUCCESS), Err)
    })
}

/// The recipe for the disk of a medium in a role.
fn in_role<'c>(
    catalog: &'c Catalog,
    medium: &Medium,
    base: &Recipe,
    role: &str,
) -> Result<&'c Recipe, Failure> {
    if let Some(recipe) = catalog.with_addition(base.name(), role).filter(|recipe| recipe.disk().is_some()) {
        return Ok(recipe);
    }
    let name = medium.name();
    let known: Vec<&str> = catalog.roles_of(&name, medium.isa()).collect();
    let known = if known.is_empty() {
        "it has none".to_owned()
    } else {
        format!("its roles are {}", known.join(", "))
    };
    Err(Failure::bad_input(miette::miette!("{name} has no role {role}; {known}")))
}

/// An architecture of a recipe's instruction set that this machine's processor belongs to, or may belong to.
fn architecture_of(recipe: &Recipe) -> Option<Architecture> {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let fits = |architecture: &&Architecture| {
        let flag = ArchInfo::of(**architecture).virtualization_flag;
        let is_there = flag.is_none_or(|flag| flags.split_whitespace().any(|word| word == flag));
        architecture.isa() == recipe.isa() && is_there
    };
    Architecture::ALL.iter().find(fits).copied()
}

/// Whether this machine's KVM runs guests of the recipe's instruction set.
async fn is_native(
    recipe: &Recipe,
    arguments: &Arguments,
    (catalog, store): (&Catalog, &Arc<Store>),
    progress: &Arc<BuildProgress>,
) -> Result<bool, Failure> {
    let Some(architecture) = architecture_of(recipe) else { return Ok(false) };
    let trial = MachineTrial {
        catalog,
        store: Arc::clone(store),
        progress: Arc::clone(progress) as _,
        installed: installed_qemu(architecture),
        wrapper: parent_death::wrapper().map_err(Failure::error)?,
        timeout_scale: arguments.timeouts.scale(),
        insist: false,
    };
    Ok(trial.run(architecture).await.is_ok())
}
