//! `run-matrix --kernel`: a kernel of one's own at a level, as `git bisect run` wants it tried.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nestmatrix::records::{CellRecord, Outcome};
use nestmatrix::run::RunPlan;
use nestmatrix::trials::{NOT_TRIED, Substitute, VersionTrial, exit_code_of_trial, substitute};
use nestmatrix_images::{
    Catalog, Error, LocalKernel, Part, Product, Progress, Recipe, Replacement, Silent, Store,
};
use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::printable;

use crate::exit::Failure;

/// Kernels of one's own.
#[derive(Debug, Default, Args)]
pub struct Kernels {
    /// Boot this kernel in the place of the image's: a bzImage, Image or vmlinux, into which all that a level needs is built
    /// (virtio's PCI, MMIO, console and block drivers; KVM), or a package with its modules (`make bindeb-pkg`). Several files for
    /// one level make up one kernel. Exit codes are then those that `git bisect run` understands: 0 as expected, 1 not, 125 could
    /// not be tried
    #[arg(long = "kernel", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The level that boots the kernel; with several kernels one for each, in their order, or one for all [default: l0]
    #[arg(long, value_enum, value_name = "LEVEL", requires = "files", ignore_case = true)]
    pub level: Vec<KernelLevel>,
    /// Keep the images with these kernels, so that what the run's records name can be booted again: `reproduce.sh`, and
    /// `repro --bundle`; otherwise they are removed after the run
    #[arg(long, requires = "files")]
    pub keep_images: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KernelLevel {
    /// The host
    L0,
    /// Its guest
    L1,
    /// The guest of that
    L2,
    /// The guest of that in turn
    L3,
}

impl KernelLevel {
    fn number(self) -> LevelNumber {
        LevelNumber::ALL[self as usize]
    }
}

impl Kernels {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether one is for L0.
    pub fn replace_l0(&self) -> bool {
        !self.is_empty() && (self.level.is_empty() || self.level.contains(&KernelLevel::L0))
    }

    /// What levels are to boot.
    ///
    /// # Errors
    /// Kernels and levels don't fit together, or a file is no kernel.
    pub fn substitutes(&self, catalog: &Catalog) -> Result<Vec<Substitute>, Failure> {
        let level_of = |at: usize| match self.level.as_slice() {
            [] => Ok(KernelLevel::L0),
            [one] => Ok(*one),
            several if several.len() == self.files.len() => Ok(several[at]),
            several => Err(Failure::bad_input(miette::miette!(
                "{} kernels and {} levels: give one --level for all, or one for each --kernel",
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
                eprintln!("{level} boots kernel {release}");
            } else {
                eprintln!(
                    "{level} boots kernel {release}, which comes without modules: what {level} needs must be built in \
                     (virtio's PCI, MMIO, console and block drivers, and KVM where it runs guests)"
                );
            }
            Ok(Substitute { level, replacement: Replacement::LocalKernel(kernel) })
        };
        kernels.into_iter().map(read).collect()
    }

    /// Tells what of a run says nothing about the kernels, and gives the exit code.
    pub fn exit_code(&self, outcome: &Outcome, catalog: &Catalog, store: &Store) -> ExitCode {
        let mut says_nothing = Vec::new();
        for record in &outcome.records {
            let why = self.levels().into_iter().find_map(|level| {
                let left_out = left_out(record, level, catalog, store);
                let trial =
                    VersionTrial { level, part: Part::Kernel, left_out: &left_out, boot_counts: false };
                trial.says_nothing(record)
            });
            if let Some(why) = &why {
                eprintln!("not tried: {}: {}", record.cell, escaped(why));
            }
            says_nothing.push(why);
        }
        ExitCode::from(exit_code_of_trial(&says_nothing, &outcome.records))
    }

    fn levels(&self) -> Vec<LevelNumber> {
        let mut levels: Vec<LevelNumber> = self.level.iter().map(|level| level.number()).collect();
        if levels.is_empty() {
            levels.push(LevelNumber::ALL[0]);
        }
        levels
    }
}

/// The exit code with which `git bisect run` ends at once: something must be mended before anything can be tried.
pub const GIT_BISECT_ENDS: u8 = 128;

/// Whether a command line, also one with mistakes, is `run-matrix --kernel`.
pub fn tries_one(arguments: &[OsString]) -> bool {
    let kernel = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument == "--kernel" || argument.starts_with("--kernel=")
    };
    arguments.first().is_some_and(|command| command == "run-matrix") && arguments.iter().any(kernel)
}

/// What a run with kernels of one's own ended with, as `git bisect run` understands it.
pub fn for_git_bisect(done: Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    // No cell matched.
    let nothing = ExitCode::from(4);
    match done {
        Ok(code) if code == nothing => Ok(ExitCode::from(GIT_BISECT_ENDS)),
        Ok(code) => Ok(code),
        Err(failure) => Err(failure.with_codes(GIT_BISECT_ENDS, NOT_TRIED)),
    }
}

/// Removes the images of derived recipes: each is tried just once or twice, and they are large. What can't be removed takes
/// room and changes no verdict.
pub fn discard<'a>(recipes: impl Iterator<Item = &'a Recipe>, store: &Store) {
    for recipe in recipes.filter(|recipe| recipe.replacement().is_some()) {
        if let Err(e) = store.discard(recipe) {
            eprintln!("warning: the image of {} stays in the cache: {}", recipe.name(), with_cause(&e));
        }
    }
}

/// The kernel modules that the image of a level lacks, of those that its recipe names.
pub fn left_out(record: &CellRecord, level: LevelNumber, catalog: &Catalog, store: &Store) -> Vec<String> {
    let image = record.levels.iter().find(|seen| seen.level == level).and_then(|seen| seen.image.as_ref());
    let Some(image) = image else { return Vec::new() };
    let products = [Product::Hypervisor, Product::Minimal];
    let product = products.into_iter().find(|product| product.to_string() == image.product);
    let recipe: Option<&Recipe> = catalog.get(&image.recipe);
    let (Some(product), Some(recipe)) = (product, recipe) else { return Vec::new() };
    // It was there a moment ago; if it is gone, nothing is known of it.
    store.ensure(recipe, product, &Silent).map_or(Vec::new(), |image| image.left_out().to_vec())
}

/// Puts substitutes into a plan, on a thread of its own: images may have to be built.
pub async fn put_in(
    plan: RunPlan,
    substitutes: Vec<Substitute>,
    catalog: Catalog,
    store: std::sync::Arc<Store>,
    progress: std::sync::Arc<dyn Progress + Send + Sync>,
) -> Result<(RunPlan, Catalog), Failure> {
    let (mut plan, mut catalog) = (plan, catalog);
    let done = tokio::task::spawn_blocking(move || {
        let done = substitute(&mut plan, &substitutes, &mut catalog, &store, &*progress);
        done.map(|()| (plan, catalog)).map_err(|e| match e {
            // No other commit would make it one for this cell.
            Error::OtherArchitecture { .. } => Failure::bad_input(miette::miette!("{}", with_cause(&e))),
            _ => Failure::error(with_cause(&e)),
        })
    });
    done.await.map_err(Failure::error)?
}

/// An error with what caused it; names of files may hold anything.
pub fn with_cause(error: &dyn std::error::Error) -> String {
    escaped(&match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

/// What others said, line by line without anything that a terminal would act on.
pub fn escaped(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join("\n")
}
