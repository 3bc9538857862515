//! The search itself: what there is to choose from, and one trial after the other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use nestmatrix::records::{Purpose, VerdictWord};
use nestmatrix::run::{MetalChoice, NativeMetals, PlanOptions, RunPlan, Setting, execute};
use nestmatrix::scenario::{Cell, Matrix};
use nestmatrix::trials::{Bisection, Finding, Substitute, Tried, TriedVersion, VersionTrial};
use nestmatrix_images::{Catalog, Recipe, Store};

use super::Bisect;
use super::choices::Choice;
use crate::exit::{ERROR, Failure};
use crate::live::{Builds, Cells};
use crate::run_matrix::{results, style_of, write_junit};
use crate::signals::Signals;
use crate::{kernels, states, tied};

/// Everything that a search needs.
pub(super) struct Search<'a> {
    pub(super) arguments: &'a Bisect,
    pub(super) matrix: &'a Matrix,
    pub(super) cell: Cell,
    pub(super) catalog: Catalog,
    pub(super) store: Arc<Store>,
    pub(super) builds: Arc<Builds>,
    pub(super) signals: Signals,
    /// Recipes whose images were made for a version, by its number.
    pub(super) made: RefCell<BTreeMap<usize, Vec<Recipe>>>,
}

/// A version, and what came of it if it was tried.
pub(super) type Version = (String, Option<TriedVersion>);

impl Search<'_> {
    pub(super) async fn run(&self) -> Result<ExitCode, Failure> {
        let plan = self.plan();
        let (level, part) = self.arguments.axis.level_and_part();
        let base = plan.recipes_at(level).into_iter().next();
        let Some(base) = base.and_then(|base| self.catalog.get(&base)) else {
            let why = plan.skipped().next().map(|(_, reasons)| nestmatrix::records::in_one_line(reasons));
            let why = why.unwrap_or_else(|| format!("it boots no {level} of its own"));
            return Err(Failure::bad_input(miette::miette!("{}: {why}", self.cell.name)));
        };
        let choices = match self.interruptible(self.choices(base, part)).await {
            Some(choices) => choices?,
            None => return Ok(self.interrupted()),
        };
        match choices.as_slice() {
            [_, ..] if self.arguments.list => {
                self.list(&choices);
                Ok(ExitCode::SUCCESS)
            }
            [first, .., last] => self.search(&choices, first, last).await,
            [] | [_] => {
                eprintln!("{} versions to choose from; it takes two", choices.len());
                Ok(ExitCode::from(4))
            }
        }
    }

    fn plan(&self) -> RunPlan {
        // The same metal for every version and on every machine: what is found is about the version.
        let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
        RunPlan::new([self.cell.clone()], self.matrix, &self.catalog, &NativeMetals::new(), &options)
    }

    async fn search(&self, choices: &[Choice], first: &Choice, last: &Choice) -> Result<ExitCode, Failure> {
        let mut versions: Vec<Version> = choices.iter().map(|one| (one.name.clone(), None)).collect();
        let mut bisection = Bisection::new(versions.len());
        let count = versions.len();
        let trials = if self.arguments.all { count } else { bisection.at_most() as usize };
        let line = format!(
            "{count} versions from {} to {}, about {trials} to be tried with {}",
            first.name, last.name, self.cell.name
        );
        eprintln!("{}", kernels::escaped(&line));
        loop {
            let next = match self.arguments.all {
                true => versions.iter().position(|(_, tried)| tried.is_none()),
                false => bisection.next(),
            };
            let Some(next) = next else { break };
            let Some(tried) = self.trial(next, &choices[next]).await? else {
                self.show(&versions);
                return Ok(self.interrupted());
            };
            bisection.tell(next, known(&tried).map_or(Tried::Unknown, Tried::Is));
            self.tell_trial(&tried);
            versions[next].1 = Some(tried);
            // Both sides are tried again at the end.
            self.discard_all_but(|version| bisection.is_side(version) && !self.arguments.all);
        }
        let finding = bisection.finding();
        if let (Finding::Changed { before, first, .. }, false) =
            (&finding, self.arguments.all || self.arguments.once)
        {
            let line =
                format!("once more, to be certain: {} and {}", versions[*before].0, versions[*first].0);
            eprintln!("{}", kernels::escaped(&line));
            for at in [*before, *first] {
                let Some(again) = self.trial(at, &choices[at]).await? else {
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
    async fn trial(&self, version: usize, choice: &Choice) -> Result<Option<TriedVersion>, Failure> {
        let replacement = &choice.replacement;
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
            repeat: 1,
            arguments: std::env::args().skip(1).collect(),
            part: None,
            resumed: None,
            purpose: Purpose::Bisect,
            inspector: None,
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
                version: choice.name.clone(),
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
    pub(super) fn discard_all_but(&self, wanted: impl Fn(usize) -> bool) {
        let mut made = self.made.borrow_mut();
        let (kept, gone) = std::mem::take(&mut *made).into_iter().partition(|(version, _)| wanted(*version));
        *made = kept;
        let gone: BTreeMap<usize, Vec<Recipe>> = gone;
        if !self.arguments.keep_images {
            kernels::discard(gone.values().flatten(), &self.store);
        }
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
}

/// The verdict of a version, if it came to one.
fn known(tried: &TriedVersion) -> Option<VerdictWord> {
    tried.verdict.filter(|_| tried.not_tried.is_none())
}
