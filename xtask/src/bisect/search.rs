//! The search: finds the candidates and tests one after the other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use nestmatrix::records::{CellRecord, Purpose};
use nestmatrix::run::{MetalChoice, NativeMetals, PlanOptions, RunPlan, Setting, execute};
use nestmatrix::scenario::{Cell, Matrix};
use nestmatrix::trials::{
    Behaviour, Bisection, CaseError, Finding, Substitute, TrialVerdict, TriedCase, TriedVersion,
    VersionTrial, case_names, find_case, no_such_case,
};
use nestmatrix_images::{Catalog, Recipe, Store};
use nestmatrix_model::{PROGRAM, Step};

use super::Bisect;
use super::candidates::Candidate;
use crate::exit::{ERROR, Failure};
use crate::output::write_junit;
use crate::progress::{BuildProgress, CellProgress};
use crate::signals::Signals;
use crate::terminal::{note, style_of};
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
    /// The cases of the trials, if the search is about one of them.
    pub(super) seen: RefCell<SeenCases>,
}

/// The cases that trials have, as long as none has the one that the search is about.
#[derive(Debug, Default)]
pub(super) struct SeenCases {
    /// Their names.
    names: Vec<String>,
    /// How many trials have cases.
    trials: usize,
    /// The name of the case, if a trial has it.
    found: Option<String>,
}

/// If this many trials have cases, and none of them the one that the search is about, it does not exist.
const TRIALS_WITHOUT_CASE: usize = 2;

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
        self.check_case()?;
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
                note!("versions to choose from: {}; a search needs two", candidates.len());
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
        let about = self.case().map_or_else(String::new, |case| format!(", case {case:?}"));
        let line = format!(
            "{count} versions from {} to {}; testing about {trials} with {}{about}",
            first.name, last.name, self.cell.name
        );
        note!("{}", kernels::escaped(&line));
        loop {
            let in_order = || match self.arguments.all {
                true => versions.iter().position(|(_, tried)| tried.is_none()),
                false => bisection.next(),
            };
            let Some(next) = self.other_end(&versions).or_else(in_order) else { break };
            let Some(tried) = self.trial(next, &candidates[next]).await? else {
                self.print_table(&versions);
                return Ok(self.interrupted());
            };
            bisection.tell(next, tried.behaviour().map_or(TrialVerdict::Unknown, TrialVerdict::Is));
            self.print_trial(&tried);
            versions[next].1 = Some(tried);
            self.check_seen()?;
            // Both sides of the change are tested again at the end.
            self.discard_except(|version| bisection.is_side(version) && !self.arguments.all);
        }
        let finding = bisection.finding();
        if let (Finding::Changed { before, first, .. }, false) =
            (&finding, self.arguments.all || self.arguments.once)
        {
            let line = format!("repeating {} and {} to confirm", versions[*before].0, versions[*first].0);
            note!("{}", kernels::escaped(&line));
            for at in [*before, *first] {
                let Some(again) = self.trial(at, &candidates[at]).await? else {
                    self.print_table(&versions);
                    return Ok(self.interrupted());
                };
                self.print_trial(&again);
                let behaviours = versions[at].1.iter().chain([&again]).map(TriedVersion::behaviour);
                let behaviours: Vec<Option<Behaviour>> = behaviours.collect();
                if behaviours[0] != behaviours[1] {
                    self.print_table(&versions);
                    return Ok(self.print_inconclusive(&versions[at].0, &behaviours));
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
        let Some(record) = outcome.records.first().filter(|_| !outcome.run.interrupted) else {
            return Ok(None);
        };
        let left_out = kernels::left_out(record, level, &catalog, &self.store);
        let boot_counts = self.arguments.boot_counts;
        let trial = VersionTrial { level, part: component, left_out: &left_out, boot_counts };
        let (case, not_tried) = self.case_of(record, &trial)?;
        Ok(Some(TriedVersion {
            version: candidate.name.clone(),
            from: replacement.place(),
            verdict: Some(record.verdict),
            case,
            not_tried,
            stage: record.stage,
            symptom: record.symptom.clone(),
            seconds: record.seconds(),
            records: outcome.folder.clone(),
        }))
    }

    /// The case of a trial, if the search is about one, and why the trial says nothing about the version, if so.
    fn case_of(
        &self,
        record: &CellRecord,
        trial: &VersionTrial<'_>,
    ) -> Result<(Option<TriedCase>, Option<String>), Failure> {
        let Some(pattern) = self.case() else { return Ok((None, trial.says_nothing(record))) };
        let found = find_case(record, pattern).map_err(bad_case)?;
        let mut seen = self.seen.borrow_mut();
        // A glob may match another case with a version with which the first one has no outcome.
        if let (Some(first), Some(case)) = (&seen.found, found)
            && *first != case.name
        {
            let why = format!(
                "{pattern:?} matches {first:?} with one version and {:?} with another; give the whole name",
                case.name
            );
            return Err(Failure::bad_input(miette::miette!("{why}")));
        }
        let before = seen.names.len();
        seen.names.extend(case_names(record).map(str::to_owned));
        seen.trials += usize::from(seen.names.len() > before);
        seen.found = found.map(|case| case.name.clone()).or(seen.found.take());
        let not_tried = trial.says_nothing_about_case(record, pattern, found);
        Ok((found.map(TriedCase::from), not_tried))
    }

    /// Refuses a case of a cell that runs no tests, or whose tests are missing.
    fn check_case(&self) -> Result<(), Failure> {
        if self.case().is_none() {
            return Ok(());
        }
        let cell = &self.cell.name;
        let suites: Vec<_> = self.cell.steps.iter().filter_map(Step::suite).map(|suite| suite.kind).collect();
        let programs: Vec<_> = self.cell.steps.iter().filter_map(Step::payload).map(|it| &it.name).collect();
        if suites.is_empty() && programs.is_empty() {
            let why = format!("{cell} has no cases: no step of it runs a test suite or a program");
            return Err(Failure::bad_input(miette::miette!("{why}")));
        }
        let added = |kind| self.catalog.suites().iter().any(|built| built.kind() == kind);
        let missing = suites.into_iter().find(|kind| !added(*kind)).map(|kind| kind.to_string());
        let added = |name: &String| self.catalog.programs().iter().any(|program| program.name() == name);
        let missing = missing.or_else(|| programs.into_iter().find(|name| !added(name)).cloned());
        match missing {
            Some(name) => Err(Failure::bad_input(miette::miette!(
                "{cell} needs {name}, which was not added; add it: `{PROGRAM} payloads add {name} PATH`"
            ))),
            None => Ok(()),
        }
    }

    /// The last version, if the case is missing from all trials so far. If the last one does not have it either, its name is wrong.
    fn other_end(&self, versions: &[Version]) -> Option<usize> {
        let seen = self.seen.borrow();
        let last = versions.len().checked_sub(1)?;
        (seen.trials > 0 && seen.found.is_none() && versions[last].1.is_none()).then_some(last)
    }

    /// The name of the case that the search is about, as far as it is known.
    pub(super) fn case_name(&self) -> Option<String> {
        let pattern = self.case()?;
        let found = || self.seen.borrow().found.clone();
        // A pattern without a star may have the step's name too.
        Some(if pattern.contains('*') { found() } else { None }.unwrap_or_else(|| pattern.to_owned()))
    }

    /// Ends the search if no trial has the case.
    fn check_seen(&self) -> Result<(), Failure> {
        let seen = self.seen.borrow();
        match self.case() {
            Some(pattern) if seen.found.is_none() && seen.trials >= TRIALS_WITHOUT_CASE => {
                Err(bad_case(no_such_case(pattern, &seen.names)))
            }
            _ => Ok(()),
        }
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
        note!("interrupted: no result");
        ExitCode::from(self.signals.exit_code().unwrap_or(ERROR))
    }
}

fn bad_case(error: CaseError) -> Failure {
    Failure::bad_input(miette::miette!("{}", kernels::escaped(&error.to_string())))
}
