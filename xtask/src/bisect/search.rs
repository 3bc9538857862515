//! The search: finds the candidates and tests one after the other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use nestmatrix::records::{Purpose, VerdictWord};
use nestmatrix::run::{MetalChoice, NativeMetals, PlanOptions, RunPlan, Setting, execute};
use nestmatrix::scenario::{Cell, Matrix};
use nestmatrix::trials::{Bisection, Finding, Substitute, TrialVerdict, TriedVersion, VersionTrial};
use nestmatrix_images::{Catalog, Recipe, Store};

use super::Bisect;
use super::candidates::Candidate;
use crate::exit::{ERROR, Failure};
use crate::output::write_junit;
use crate::progress::{BuildProgress, CellProgress};
use crate::signals::Signals;
use crate::terminal::style_of;
use crate::{kernels, parent_death, settings, snapshots};

/// Everything that a search needs.
pub(super) struct Search<'a> {
    pub(super) arguments: &'a Bisect,
    pub(super) matrix: &'a Matrix,
    pub(super) cell: Cell,
    pub(super) catalog: Catalog,
    pub(super) store: Arc<Store>,
    pub(super) builds: Arc<BuildProgress>,
    pub(super) signals: Signals,
    /// Recipes of the images that were built for a version, by the index of its candidate.
    pub(super) made: RefCell<BTreeMap<usize, Vec<Recipe>>>,
}

/// The name of a version, and the result if it was tested.
pub(super) type Version = (String, Option<TriedVersion>);

impl Search<'_> {
    pub(super) async fn run(&self) -> Result<ExitCode, Failure> {
        let plan = self.plan();
        let (level, component) = self.arguments.axis.level_and_component();
        let base = plan.recipes_at(level).into_iter().next();
        let Some(base) = base.and_then(|base| self.catalog.get(&base)) else {
            let why = plan.skipped().next().map(|(_, reasons)| nestmatrix::records::in_one_line(reasons));
            let why = why.unwrap_or_else(|| format!("its stack boots no {level}"));
            return Err(Failure::bad_input(miette::miette!("{}: {why}", self.cell.name)));
        };
        let candidates = match self.interruptible(self.candidates(base, component)).await {
            Some(candidates) => candidates?,
            None => return Ok(self.interrupted()),
        };
        match candidates.as_slice() {
            [_, ..] if self.arguments.list => {
                self.print_candidates(&candidates);
                Ok(ExitCode::SUCCESS)
            }
            [first, .., last] => self.search(&candidates, first, last).await,
            [] | [_] => {
                eprintln!("versions to choose from: {}; a search needs two", candidates.len());
                Ok(ExitCode::from(4))
            }
        }
    }

    fn plan(&self) -> RunPlan {
        // The same metal on every machine, since the result is about the version.
        let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
        RunPlan::new([self.cell.clone()], self.matrix, &self.catalog, &NativeMetals::new(), &options)
    }

    async fn search(
        &self,
        candidates: &[Candidate],
        first: &Candidate,
        last: &Candidate,
    ) -> Result<ExitCode, Failure> {
        let mut versions: Vec<Version> = candidates.iter().map(|one| (one.name.clone(), None)).collect();
        let mut bisection = Bisection::new(versions.len());
        let count = versions.len();
        let trials = if self.arguments.all { count } else { bisection.at_most() as usize };
        let line = format!(
            "{count} versions from {} to {}; testing about {trials} with {}",
            first.name, last.name, self.cell.name
        );
        eprintln!("{}", kernels::escaped(&line));
        loop {
            let next = match self.arguments.all {
                true => versions.iter().position(|(_, tried)| tried.is_none()),
                false => bisection.next(),
            };
            let Some(next) = next else { break };
            let Some(tried) = self.trial(next, &candidates[next]).await? else {
                self.print_table(&versions);
                return Ok(self.interrupted());
            };
            bisection.tell(next, known(&tried).map_or(TrialVerdict::Unknown, TrialVerdict::Is));
            self.print_trial(&tried);
            versions[next].1 = Some(tried);
            // Both sides of the change are tested again at the end.
            self.discard_except(|version| bisection.is_side(version) && !self.arguments.all);
        }
        let finding = bisection.finding();
        if let (Finding::Changed { before, first, .. }, false) =
            (&finding, self.arguments.all || self.arguments.once)
        {
            let line = format!("repeating {} and {} to confirm", versions[*before].0, versions[*first].0);
            eprintln!("{}", kernels::escaped(&line));
            for at in [*before, *first] {
                let Some(again) = self.trial(at, &candidates[at]).await? else {
                    self.print_table(&versions);
                    return Ok(self.interrupted());
                };
                self.print_trial(&again);
                let verdicts = versions[at].1.iter().chain([&again]).map(known);
                let verdicts: Vec<Option<VerdictWord>> = verdicts.collect();
                if verdicts[0] != verdicts[1] {
                    self.print_table(&versions);
                    return Ok(self.print_inconclusive(&versions[at].0, &verdicts));
                }
            }
        }
        self.print_table(&versions);
        Ok(self.print_finding(&finding, &versions))
    }

    /// Boots the cell with one version; none if the search is interrupted.
    async fn trial(&self, index: usize, candidate: &Candidate) -> Result<Option<TriedVersion>, Failure> {
        let replacement = &candidate.replacement;
        let (level, component) = self.arguments.axis.level_and_component();
        let substitutes = vec![Substitute { level, replacement: replacement.clone() }];
        let progress = Arc::clone(&self.builds) as _;
        let substituted = kernels::substitute(
            self.plan(),
            substitutes,
            self.catalog.clone(),
            Arc::clone(&self.store),
            progress,
        );
        let Some(substituted) = self.interruptible(substituted).await else { return Ok(None) };
        let (plan, catalog) = substituted?;
        let derived = plan.recipes_at(level);
        let derived = derived.iter().filter_map(|name| catalog.get(name).cloned()).collect();
        self.made.borrow_mut().insert(index, derived);
        let bars = self.builds.bars().clone();
        let listener = Rc::new(CellProgress::without_verdicts(bars, style_of(&std::io::stderr())));
        let setting = Setting {
            catalog: catalog.clone(),
            store: Arc::clone(&self.store),
            progress: Arc::clone(&self.builds) as _,
            native_qemu: None,
            wrapper: parent_death::wrapper().map_err(Failure::error)?,
            results: self.arguments.results.folder(),
            jobs: Some(1),
            snapshots: Some(Arc::new(snapshots::open(&self.store, settings::SNAPSHOT_LIMIT_GIB)?)),
            timeout_scale: self.arguments.timeouts.scale(),
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
            let not_tried = VersionTrial { level, part: component, left_out: &left_out, boot_counts }
                .says_nothing(record);
            TriedVersion {
                version: candidate.name.clone(),
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

    /// Removes the images that were built for versions, except for those that are still needed.
    pub(super) fn discard_except(&self, needed: impl Fn(usize) -> bool) {
        let mut made = self.made.borrow_mut();
        let (kept, gone) = std::mem::take(&mut *made).into_iter().partition(|(index, _)| needed(*index));
        *made = kept;
        let gone: BTreeMap<usize, Vec<Recipe>> = gone;
        if !self.arguments.keep_images {
            kernels::discard(gone.values().flatten(), &self.store);
        }
    }

    /// The result of `work`; none if the search is interrupted.
    async fn interruptible<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = async { self.signals.cancellation.clone().requested().await } => None,
        }
    }

    fn interrupted(&self) -> ExitCode {
        eprintln!("interrupted: no result");
        ExitCode::from(self.signals.exit_code().unwrap_or(ERROR))
    }
}

/// The verdict of a version, if it has one.
fn known(tried: &TriedVersion) -> Option<VerdictWord> {
    tried.verdict.filter(|_| tried.not_tried.is_none())
}
