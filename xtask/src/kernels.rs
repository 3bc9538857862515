//! `run-matrix --kernel`: boots the user's own kernel at a level, with the exit codes of `git bisect run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nestmatrix::records::{CellRecord, Outcome};
use nestmatrix::run::RunPlan;
use nestmatrix::trials::{self, NOT_TRIED, Substitute, VersionTrial, exit_code_of_trial};
use nestmatrix_images::{
    Catalog, Error, LocalKernel, Part, Product, Progress, Recipe, Replacement, Silent, Store,
};
use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::printable;

use crate::exit::Failure;
use crate::terminal::note;

/// The user's own kernels.
#[derive(Debug, Default, Args)]
pub struct Kernels {
    /// Boot this kernel instead of the image's
    ///
    /// FILE is a bzImage, Image or vmlinux with everything built in that a level needs (the virtio PCI, MMIO, console and block
    /// drivers; KVM), or a package with modules (`make bindeb-pkg`). Several files for one level make up one kernel. The exit
    /// codes fit `git bisect run`: 0 as expected, 1 not as expected, 125 could not be tested.
    #[arg(long = "kernel", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Boot the kernel at this level: one for all kernels, or one for each in their order [default: l0]
    #[arg(long, value_enum, value_name = "LEVEL", requires = "files", ignore_case = true)]
    pub level: Vec<KernelLevel>,
    /// Keep the images with these kernels, for `reproduce.sh` and `repro --bundle`
    ///
    /// Otherwise they are removed after the run.
    #[arg(long, requires = "files")]
    pub keep_images: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KernelLevel {
    /// The host
    L0,
    /// The guest of L0
    L1,
    /// The guest of L1
    L2,
    /// The guest of L2
    L3,
}

impl KernelLevel {
    fn number(self) -> LevelNumber {
        LevelNumber::ALL[self as usize]
    }
}

impl Kernels {
    /// Whether no kernel is given.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether L0 boots one of the kernels.
    pub fn replace_l0(&self) -> bool {
        !self.is_empty() && (self.level.is_empty() || self.level.contains(&KernelLevel::L0))
    }

    /// The kernels, each with its level.
    ///
    /// # Errors
    /// Numbers of kernels and levels differ, or a file is not a kernel.
    pub fn substitutes(&self, catalog: &Catalog) -> Result<Vec<Substitute>, Failure> {
        let level_of = |at: usize| match self.level.as_slice() {
            [] => Ok(KernelLevel::L0),
            [one] => Ok(*one),
            several if several.len() == self.files.len() => Ok(several[at]),
            several => Err(Failure::bad_input(miette::miette!(
                "{} kernels but {} levels: give one --level for all kernels, or one for each",
                self.files.len(),
                several.len()
            ))),
        };
        let mut kernels: Vec<(LevelNumber, Vec<PathBuf>)> = Vec::new();
        for (at, file) in self.files.iter().enumerate() {
            let level = level_of(at)?.number();
            match kernels.iter_mut().find(|(known, _)| *known == level) {
                Some((_, files)) => files.push(file.clone()),
                None => kernels.push((level, vec![file.clone()])),
            }
        }
        let read = |(level, files): (LevelNumber, Vec<PathBuf>)| {
            let kernel = LocalKernel::read(&files, catalog).map_err(|e| Failure::error(with_cause(&e)))?;
            let release = kernel.release();
            if kernel.has_modules() {
                note!("{level} boots kernel {release}");
            } else {
                note!(
                    "{level} boots kernel {release}, which comes without modules: what {level} needs must be built in \
                     (virtio's PCI, MMIO, console and block drivers, and KVM where it runs guests)"
                );
            }
            Ok(Substitute { level, replacement: Replacement::LocalKernel(kernel) })
        };
        kernels.into_iter().map(read).collect()
    }

    /// Prints which cells say nothing about the kernels, and returns the exit code.
    pub fn exit_code(&self, outcome: &Outcome, catalog: &Catalog, store: &Store) -> ExitCode {
        let mut not_tried = Vec::new();
        for record in &outcome.records {
            let why = self.levels().into_iter().find_map(|level| {
                let left_out = left_out(record, level, catalog, store);
                let trial =
                    VersionTrial { level, part: Part::Kernel, left_out: &left_out, boot_counts: false };
                trial.says_nothing(record)
            });
            if let Some(why) = &why {
                note!("not tested: {}: {}", record.cell, escaped(why));
            }
            not_tried.push(why);
        }
        ExitCode::from(exit_code_of_trial(&not_tried, &outcome.records))
    }

    fn levels(&self) -> Vec<LevelNumber> {
        let mut levels: Vec<LevelNumber> = self.level.iter().map(|level| level.number()).collect();
        if levels.is_empty() {
            levels.push(LevelNumber::ALL[0]);
        }
        levels
    }
}

/// The exit code that stops `git bisect run`: no commit can be tested before something is fixed.
pub const STOP_GIT_BISECT: u8 = 128;

/// Whether a command line, even a wrong one, is `run-matrix --kernel`.
pub fn is_kernel_run(arguments: &[OsString]) -> bool {
    let kernel = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument == "--kernel" || argument.starts_with("--kernel=")
    };
    arguments.first().is_some_and(|command| command == "run-matrix") && arguments.iter().any(kernel)
}

/// Translates the exit code of a run with own kernels for `git bisect run`.
pub fn for_git_bisect(done: Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    // No cell matched.
    let nothing = ExitCode::from(4);
    match done {
        Ok(code) if code == nothing => Ok(ExitCode::from(STOP_GIT_BISECT)),
        Ok(code) => Ok(code),
        Err(failure) => Err(failure.with_codes(STOP_GIT_BISECT, NOT_TRIED)),
    }
}

/// Removes the images of derived recipes, which are large and booted only once or twice. A failure costs disk space and changes
/// no verdict.
pub fn discard<'a>(recipes: impl Iterator<Item = &'a Recipe>, store: &Store) {
    for recipe in recipes.filter(|recipe| recipe.replacement().is_some()) {
        if let Err(e) = store.discard(recipe) {
            note!("warning: the image of {} stays in the cache: {}", recipe.name(), with_cause(&e));
        }
    }
}

/// The kernel modules of the recipe that are missing from a level's image.
pub fn left_out(record: &CellRecord, level: LevelNumber, catalog: &Catalog, store: &Store) -> Vec<String> {
    let image = record.levels.iter().find(|seen| seen.level == level).and_then(|seen| seen.image.as_ref());
    let Some(image) = image else { return Vec::new() };
    let products = [Product::Hypervisor, Product::Minimal];
    let product = products.into_iter().find(|product| product.to_string() == image.product);
    let recipe: Option<&Recipe> = catalog.get(&image.recipe);
    let (Some(product), Some(recipe)) = (product, recipe) else { return Vec::new() };
    // The image was just booted; if it is gone, nothing is known about it.
    store.ensure(recipe, product, &Silent).map_or(Vec::new(), |image| image.left_out().to_vec())
}

/// Replaces parts of images in a plan. Runs on another thread, since images may have to be built.
pub async fn substitute(
    plan: RunPlan,
    substitutes: Vec<Substitute>,
    catalog: Catalog,
    store: std::sync::Arc<Store>,
    progress: std::sync::Arc<dyn Progress + Send + Sync>,
) -> Result<(RunPlan, Catalog), Failure> {
    let (mut plan, mut catalog) = (plan, catalog);
    let done = tokio::task::spawn_blocking(move || {
        let done = trials::substitute(&mut plan, &substitutes, &mut catalog, &store, &*progress);
        done.map(|()| (plan, catalog)).map_err(|e| match e {
            // No other commit changes the architecture.
            Error::OtherArchitecture { .. } => Failure::bad_input(miette::miette!("{}", with_cause(&e))),
            _ => Failure::error(with_cause(&e)),
        })
    });
    done.await.map_err(Failure::error)?
}

/// An error with its cause, escaped, since names of files can hold anything.
pub fn with_cause(error: &dyn std::error::Error) -> String {
    escaped(&match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

/// Removes from each line what a terminal would act on.
pub fn escaped(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join("\n")
}
