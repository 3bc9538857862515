//! `bisect`: finds the version of a kernel or a QEMU at which a cell's verdict changes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use nestmatrix::report;
use nestmatrix::run::{
    Bisection, Finding, MetalChoice, NativeMetals, PlanOptions, RunPlan, Setting, Substitute, Tried,
    TriedVersion, VerdictWord, VersionTrial, execute,
};
use nestmatrix::scenario::{Cell, Filter, LevelNumber, Matrix};
use nestmatrix_images::{Catalog, LocalKernel, Offers, Part, Recipe, Replacement, Store, compare_versions};
use serde_json::json;

use crate::cli::{Format, ImageSource, timeout_scale};
use crate::exit::{ERROR, Failure};
use crate::live::{Builds, Cells};
use crate::run_matrix::{results, say, style_of, write_junit};
use crate::signals::Signals;
use crate::{input, kernels, runtime, states, tied};

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Bisect {
    /// The cell by its name, or a glob that matches it alone
    pub cell: String,
    /// What is another version each time: the kernel of a level, or the QEMU in it, which runs the level inside
    #[arg(long, value_enum)]
    pub axis: Axis,
    /// Kernels of one's own to choose from, in the place of those of the archive: each a bzImage, Image or vmlinux that needs no
    /// modules, or a package that has them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["suite", "list"])]
    pub kernel: Vec<PathBuf>,
    /// Only versions of these suites of the archive [default: those that recipes know, with their backports and updates]
    #[arg(long, value_name = "NAME")]
    pub suite: Vec<String>,
    /// Leave out lower versions, by Debian's order: `6.12` is lower than `6.12.107-1`
    #[arg(long, value_name = "VERSION")]
    pub from: Option<String>,
    /// Leave out higher versions
    #[arg(long, value_name = "VERSION")]
    pub to: Option<String>,
    /// Try every version and show each change: verdicts need not change just once
    #[arg(long)]
    pub all: bool,
    /// Show the versions that there are, and try none
    #[arg(long)]
    pub list: bool,
    /// Take it for a verdict too where the level does not boot with a version, or does not understand what it is told; otherwise
    /// such a version counts as one that could not be tried
    #[arg(long)]
    pub boot_counts: bool,
    /// Take each trial's word for it; otherwise both sides of the change are tried once more before it is told
    #[arg(long)]
    pub once: bool,
    /// Keep the images that are made for it; otherwise each is removed when it was tried
    #[arg(long)]
    pub keep_images: bool,
    /// Folder of documents and scenarios
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios"), hide_default_value = true)]
    pub scenarios: PathBuf,
    #[command(flatten)]
    pub source: ImageSource,
    /// Folder that gets a folder for the run of each version [default: results in the checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Multiply every time limit by this, for a slow machine
    #[arg(long, value_name = "F", default_value = "1", value_parser = timeout_scale)]
    pub timeout_scale: f64,
    /// How what was tried is printed; `json` has one object a line, the last of which is what was found
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    a change was found; with --all, every version was tried or said why not; with --list, there are some
  1    no change: both ends have the same verdict
  2    bad usage or bad input
  3    an error of the harness or its machine; nothing certain: a version came out once so and once otherwise
  4    nothing to choose from, or fewer than two versions came to a verdict
  130  interrupted (Ctrl-C); 129 and 143 for SIGHUP and SIGTERM";

/// What is another version each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Axis {
    /// The kernel of L0
    #[value(name = "l0.kernel")]
    L0Kernel,
    /// The kernel of L1
    #[value(name = "l1.kernel")]
    L1Kernel,
    /// The kernel of L2
    #[value(name = "l2.kernel")]
    L2Kernel,
    /// The QEMU in L0, which runs L1
    #[value(name = "l0.qemu")]
    L0Qemu,
    /// The QEMU in L1, which runs L2
    #[value(name = "l1.qemu")]
    L1Qemu,
}

impl Axis {
    fn level_and_part(self) -> (LevelNumber, Part) {
        match self {
            Self::L0Kernel => (LevelNumber::ALL[0], Part::Kernel),
            Self::L1Kernel => (LevelNumber::ALL[1], Part::Kernel),
            Self::L2Kernel => (LevelNumber::ALL[2], Part::Kernel),
            Self::L0Qemu => (LevelNumber::ALL[0], Part::Qemu),
            Self::L1Qemu => (LevelNumber::ALL[1], Part::Qemu),
        }
    }
}

pub fn run(arguments: &Bisect) -> Result<ExitCode, Failure> {
    let (_, part) = arguments.axis.level_and_part();
    if part == Part::Qemu && !arguments.kernel.is_empty() {
        return Err(Failure::bad_input(miette::miette!("--kernel does not go with the axis of a QEMU")));
    }
    let filter = Filter::parse(std::slice::from_ref(&arguments.cell)).map_err(Failure::bad_input)?;
    let matrix = Matrix::load(&input::short(&arguments.scenarios)).map_err(Failure::bad_input)?;
    let cells: Vec<&Cell> = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).collect();
    let cell = match cells.as_slice() {
        [] => return Ok(input::no_cell()),
        [cell] => (*cell).clone(),
        [first, second, ..] => {
            let (first, second) = (&first.name, &second.name);
            return Err(Failure::bad_input(miette::miette!(
                "{} matches {} cells, {first} and {second} among them: name one",
                arguments.cell,
                cells.len()
            )));
        }
    };
    let catalog = input::recipes(&arguments.source.recipes)?;
    let store = Arc::new(input::store(&arguments.source)?);
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        let builds = Arc::new(Builds::new());
        let made = RefCell::default();
        let search = Search { arguments, matrix: &matrix, cell, catalog, store, builds, signals, made };
        let done = search.run().await;
        search.discard_all_but(|_| false)?;
        done
    })
}

/// Everything that a search needs.
struct Search<'a> {
    arguments: &'a Bisect,
    matrix: &'a Matrix,
    cell: Cell,
    catalog: Catalog,
    store: Arc<Store>,
    builds: Arc<Builds>,
    signals: Signals,
    /// Recipes whose images were made for a version, by its number.
    made: RefCell<BTreeMap<usize, Vec<Recipe>>>,
}

/// A version, and what came of it if it was tried.
type Version = (String, Option<TriedVersion>);

impl Search<'_> {
    async fn run(&self) -> Result<ExitCode, Failure> {
        let plan = self.plan();
        let (level, part) = self.arguments.axis.level_and_part();
        let base = plan.recipes_at(level).into_iter().next();
        let Some(base) = base.and_then(|base| self.catalog.get(&base)) else {
            let why = plan.skipped().next().map(|(_, reasons)| reasons.join("; "));
            let why = why.unwrap_or_else(|| format!("it boots no {level} of its own"));
            return Err(Failure::bad_input(miette::miette!("{}: {why}", self.cell.name)));
        };
        let replacements = match self.interruptible(self.replacements(base, part)).await {
            Some(replacements) => replacements?,
            None => return Ok(self.interrupted()),
        };
        if self.arguments.list {
            self.list(&replacements);
        } else if replacements.len() > 1 || self.arguments.all {
            return self.search(&replacements).await;
        }
        if replacements.is_empty() || (!self.arguments.list && replacements.len() < 2) {
            eprintln!("{} versions to choose from; it takes two", replacements.len());
            return Ok(ExitCode::from(4));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn plan(&self) -> RunPlan {
        // The same metal for every version and on every machine: what is found is about the version.
        let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
        RunPlan::new([self.cell.clone()], self.matrix, &self.catalog, &NativeMetals::new(), &options)
    }

    /// What there is to choose from, the lowest version first.
    async fn replacements(&self, base: &Recipe, part: Part) -> Result<Vec<Replacement>, Failure> {
        let arguments = self.arguments;
        let mut replacements: Vec<Replacement> = if arguments.kernel.is_empty() {
            let (store, catalog, base) = (Arc::clone(&self.store), self.catalog.clone(), base.clone());
            let builds = Arc::clone(&self.builds);
            let offers = tokio::task::spawn_blocking(move || {
                let offers = store.offers(&base, part, &catalog, &*builds);
                builds.finish();
                offers.map_err(|e| kernels::with_cause(&e))
            });
            let offers: Offers = offers.await.map_err(Failure::error)?.map_err(Failure::error)?;
            tell(&offers);
            let of_suite = |place: String| arguments.suite.is_empty() || arguments.suite.contains(&place);
            let wanted = offers.offered.into_iter().filter(|offered| of_suite(offered.place()));
            let replacement = |offered| match part {
                Part::Kernel => Replacement::Kernel(offered),
                Part::Qemu => Replacement::Qemu(offered),
            };
            wanted.map(replacement).collect()
        } else {
            let read = |file: &PathBuf| LocalKernel::read(std::slice::from_ref(file), &self.catalog);
            let kernels = arguments.kernel.iter().map(read).collect::<Result<Vec<_>, _>>();
            let kernels =
                kernels.map_err(|e| Failure::bad_input(miette::miette!("{}", kernels::with_cause(&e))))?;
            kernels.into_iter().map(Replacement::LocalKernel).collect()
        };
        replacements.retain(|replacement| {
            let at_least = |bound: &String| compare_versions(replacement.version(), bound).is_ge();
            let at_most = |bound: &String| compare_versions(replacement.version(), bound).is_le();
            arguments.from.as_ref().is_none_or(at_least) && arguments.to.as_ref().is_none_or(at_most)
        });
        replacements.sort_by(|a, b| compare_versions(a.version(), b.version()));
        Ok(replacements)
    }

    fn list(&self, replacements: &[Replacement]) {
        let width = replacements.iter().map(|one| one.version().len()).max().unwrap_or(0);
        for replacement in replacements {
            let (version, place) = (replacement.version(), replacement.place());
            say(&match self.arguments.format {
                Format::Text => format!("{version:<width$}  {place}\n"),
                Format::Json => format!("{}\n", json!({ "version": version, "from": place })),
            });
        }
    }

    async fn search(&self, replacements: &[Replacement]) -> Result<ExitCode, Failure> {
        let mut versions: Vec<Version> =
            replacements.iter().map(|one| (one.version().to_owned(), None)).collect();
        let mut bisection = Bisection::new(versions.len());
        let count = versions.len();
        let (lowest, highest) = (&replacements[0], &replacements[count - 1]);
        let trials = if self.arguments.all { count } else { bisection.at_most() as usize };
        eprintln!(
            "{count} versions from {} to {}, about {trials} to be tried with {}",
            lowest.version(),
            highest.version(),
            self.cell.name
        );
        loop {
            let next = match self.arguments.all {
                true => versions.iter().position(|(_, tried)| tried.is_none()),
                false => bisection.next(),
            };
            let Some(next) = next else { break };
            let Some(tried) = self.trial(next, &replacements[next]).await? else {
                self.show(&versions);
                return Ok(self.interrupted());
            };
            bisection.tell(next, known(&tried).map_or(Tried::Unknown, Tried::Is));
            self.tell_trial(&tried);
            versions[next].1 = Some(tried);
            // Both sides are tried again at the end.
            self.discard_all_but(|version| bisection.is_side(version) && !self.arguments.all)?;
        }
        let finding = bisection.finding();
        if let (Finding::Changed { before, first, .. }, false) =
            (&finding, self.arguments.all || self.arguments.once)
        {
            eprintln!("once more, to be certain: {} and {}", versions[*before].0, versions[*first].0);
            for at in [*before, *first] {
                let Some(again) = self.trial(at, &replacements[at]).await? else {
                    self.show(&versions);
                    return Ok(self.interrupted());
                };
                self.tell_trial(&again);
                let verdicts = versions[at].1.iter().chain([&again]).map(known);
                let verdicts: Vec<Option<VerdictWord>> = verdicts.collect();
                if verdicts[0] != verdicts[1] {
                    self.show(&versions);
                    return Ok(self.not_certain(&versions[at].0, &verdicts));
                }
            }
        }
        self.show(&versions);
        Ok(self.found(&finding, &versions))
    }

    /// Boots the cell with one version; none if somebody asked for the end.
    async fn trial(
        &self,
        version: usize,
        replacement: &Replacement,
    ) -> Result<Option<TriedVersion>, Failure> {
        let (level, part) = self.arguments.axis.level_and_part();
        let substitutes = vec![Substitute { level, replacement: replacement.clone() }];
        let progress = Arc::clone(&self.builds) as _;
        let put_in = kernels::put_in(
            self.plan(),
            substitutes,
            self.catalog.clone(),
            Arc::clone(&self.store),
            progress,
        );
        let Some(put_in) = self.interruptible(put_in).await else { return Ok(None) };
        let (plan, catalog) = put_in?;
        let derived = plan.recipes_at(level);
        let derived = derived.iter().filter_map(|name| catalog.get(name).cloned()).collect();
        self.made.borrow_mut().insert(version, derived);
        let bars = self.builds.bars().clone();
        let listener = Rc::new(Cells::silent(bars, style_of(&std::io::stderr())));
        let setting = Setting {
            catalog: catalog.clone(),
            store: Arc::clone(&self.store),
            progress: Arc::clone(&self.builds) as _,
            native_qemu: None,
            wrapper: tied::wrapper().map_err(Failure::error)?,
            results: self.arguments.results.clone().unwrap_or_else(results),
            jobs: Some(1),
            states: Some(Arc::new(states::open(&self.store, states::USUAL_LIMIT_GIB)?)),
            timeout_scale: self.arguments.timeout_scale,
            arguments: std::env::args().skip(1).collect(),
            part: None,
            resumed: None,
            attendant: None,
        };
        let outcome = execute(&plan, setting, listener, self.signals.cancellation.clone());
        let outcome = outcome.await.map_err(Failure::error)?;
        write_junit(&outcome.folder, &outcome.run, &outcome.records)?;
        let tried = outcome.records.first().filter(|_| !outcome.run.interrupted).map(|record| {
            let left_out = kernels::left_out(record, level, &catalog, &self.store);
            let boot_counts = self.arguments.boot_counts;
            let not_tried =
                VersionTrial { level, part, left_out: &left_out, boot_counts }.says_nothing(record);
            TriedVersion {
                version: replacement.version().to_owned(),
                from: replacement.place(),
                verdict: Some(record.verdict),
                not_tried,
                stage: record.stage,
                symptom: record.symptom.clone(),
                seconds: record.seconds(),
                records: outcome.folder.clone(),
            }
        });
        Ok(tried)
    }

    /// Removes the images that were made for versions, but for those that are still wanted.
    fn discard_all_but(&self, wanted: impl Fn(usize) -> bool) -> Result<(), Failure> {
        let mut made = self.made.borrow_mut();
        let (kept, gone) = std::mem::take(&mut *made).into_iter().partition(|(version, _)| wanted(*version));
        *made = kept;
        if self.arguments.keep_images {
            return Ok(());
        }
        let gone: BTreeMap<usize, Vec<Recipe>> = gone;
        gone.values().flatten().try_for_each(|recipe| self.store.discard(recipe)).map_err(Failure::error)
    }

    /// What was done, unless somebody asked for the end before.
    async fn interruptible<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = async { self.signals.cancellation.clone().requested().await } => None,
        }
    }

    fn interrupted(&self) -> ExitCode {
        eprintln!("interrupted: nothing was found");
        ExitCode::from(self.signals.exit_code().unwrap_or(ERROR))
    }

    /// One line, as soon as it is known.
    fn tell_trial(&self, tried: &TriedVersion) {
        match self.arguments.format {
            Format::Text => {
                let verdict = match (tried.verdict, &tried.not_tried) {
                    (Some(verdict), None) => verdict.to_string(),
                    _ => "not tried".to_owned(),
                };
                let stage = tried.stage.map_or(String::new(), |stage| format!(" at {stage}"));
                let line =
                    format!("{} ({}): {verdict}{stage}, {:.1} s", tried.version, tried.from, tried.seconds);
                eprintln!("{}", kernels::escaped(&line));
            }
            Format::Json => say(&format!("{}\n", json!({ "tried": tried }))),
        }
    }

    fn show(&self, versions: &[Version]) {
        if self.arguments.format == Format::Text {
            let tried: Vec<&TriedVersion> = versions.iter().filter_map(|(_, tried)| tried.as_ref()).collect();
            if !tried.is_empty() {
                say(&format!("\n{}\n", report::tried(&tried, &style_of(&std::io::stdout()))));
            }
        }
    }

    /// The same version came out once so and once otherwise, so what was found hangs on which of them is believed.
    fn not_certain(&self, version: &str, verdicts: &[Option<VerdictWord>]) -> ExitCode {
        match self.arguments.format {
            Format::Text => {
                let word = |verdict: &Option<VerdictWord>| {
                    verdict.map_or_else(|| "no verdict".to_owned(), |verdict| verdict.to_string())
                };
                let words: Vec<String> = verdicts.iter().map(word).collect();
                say(&format!(
                    "not certain: {version} came to {}; this machine may be too busy, or the cell does not always come out \
                     alike\n",
                    words.join(" and then to ")
                ));
            }
            Format::Json => {
                let found = json!({ "found": "nothing certain", "version": version, "verdicts": verdicts });
                say(&format!("{found}\n"));
            }
        }
        ExitCode::from(ERROR)
    }

    fn found(&self, finding: &Finding, versions: &[Version]) -> ExitCode {
        let style = style_of(&std::io::stdout());
        match self.arguments.format {
            Format::Text if self.arguments.all => say(&report::changes(versions, &style)),
            Format::Text => say(&report::finding(finding, versions, &style)),
            Format::Json => {
                let name = |at: &usize| versions[*at].0.as_str();
                let verdict = |at: &usize| versions[*at].1.as_ref().and_then(|tried| tried.verdict);
                let found = match finding {
                    Finding::Changed { before, first, unknown } => json!({
                        "found": "change",
                        "before": { "version": name(before), "verdict": verdict(before) },
                        "first": { "version": name(first), "verdict": verdict(first) },
                        "not_tried": unknown.iter().map(name).collect::<Vec<_>>(),
                    }),
                    Finding::Same { lowest, highest } => json!({
                        "found": "no change", "verdict": verdict(lowest),
                        "lowest": name(lowest), "highest": name(highest),
                    }),
                    Finding::TooFew => json!({ "found": "nothing" }),
                };
                // With every version tried, readers find each change in the lines before.
                if !self.arguments.all {
                    say(&format!("{found}\n"));
                }
            }
        }
        match finding {
            _ if self.arguments.all => ExitCode::SUCCESS,
            Finding::Changed { .. } => ExitCode::SUCCESS,
            Finding::Same { .. } => ExitCode::from(1),
            Finding::TooFew => ExitCode::from(4),
        }
    }
}

/// The verdict of a version, if it came to one.
fn known(tried: &TriedVersion) -> Option<VerdictWord> {
    tried.verdict.filter(|_| tried.not_tried.is_none())
}

/// Says where versions were looked for, and where they could not be.
fn tell(offers: &Offers) {
    if !offers.suites.is_empty() {
        eprintln!("suites: {}", offers.suites.join(", "));
    }
    for (suite, why) in &offers.unreachable {
        eprintln!("not to be had: {suite}: {}", kernels::escaped(why));
    }
}
