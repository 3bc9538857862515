//! Which mutants bear on the claims of a cell. If a killed QEMU is noticed, that shows little about a claim that something
//! stops, and nothing about a claim on a step. docs/mutation.md has the rules.

use nestmatrix_model::{Fidelity, OwnAction, Stage, StepAction};

use super::{LevelSetting, Mutation, mutants_of};
use crate::records::{
    CellMutation, CellRecord, LevelRecord, MutantOutcome, MutantResult, Original, PastRun, VerdictWord,
};
use crate::scenario::{Cell, CellName, Fingerprint, Matrix, Mutated};

/// What a mutation run shows about the claims of its cells.
#[derive(Debug, Clone, Default)]
pub struct ShownByRun {
    /// What it shows.
    pub shown: Vec<Mutated>,
    /// The cells that it shows nothing about, and why.
    pub not_shown: Vec<(CellName, &'static str)>,
    /// Those of these cells whose mutants were all booted, so that the results of earlier runs no longer hold.
    pub refuted: Vec<CellName>,
}

/// What a mutation run shows about the claims of its cells, as the cells are now. `mutations` has the results of their mutants.
pub fn shown_by(matrix: &Matrix, run: &PastRun, mutations: &[CellMutation]) -> ShownByRun {
    let seen = run.record.began.split('T').next().unwrap_or_default();
    let mut by_run = ShownByRun::default();
    for mutation in mutations {
        let cell = matrix.cells().iter().find(|cell| cell.name == mutation.cell);
        let undamaged = run.cells.iter().find(|record| record.cell == mutation.cell);
        let why = match (cell, undamaged) {
            _ if !mutation.original.green => "it was not green without damage",
            // A missing mutant may be one that survives.
            _ if !mutation.complete => "not all of its mutants have a verdict",
            (None, _) => "there is no such cell any more",
            (_, None) => "the run has no record of it without damage",
            // A record of an earlier version does not say what its cell asked for.
            (_, Some(CellRecord { fingerprint: None, .. })) => "its record has no fingerprint",
            (Some(cell), Some(undamaged))
                if undamaged.fingerprint.as_ref() != Some(&Fingerprint::of(cell)) =>
            {
                "its scenario changed since"
            }
            (Some(_), Some(undamaged)) if undamaged.leaves_performance_open() => {
                "its performance is judged on native metal alone"
            }
            (Some(cell), Some(undamaged)) => match shown(cell, undamaged, mutation, seen) {
                Some(shown) => {
                    by_run.shown.push(shown);
                    continue;
                }
                None => {
                    by_run.refuted.push(cell.name.clone());
                    "none of its mutants bears on what it tries"
                }
            },
        };
        by_run.not_shown.push((mutation.cell.clone(), why));
    }
    by_run
}

/// What the mutants of a cell show about its claims; `None` if none of them bears on the claims. `undamaged` is the record of
/// the cell without damage, and `seen` is the day of that run.
fn shown(cell: &Cell, undamaged: &CellRecord, of: &CellMutation, seen: &str) -> Option<Mutated> {
    let original = Original::from(undamaged);
    let mutants = mutants_of(cell, &original).ok()?;
    let bearing = Bearing { cell, original: &original, results: &of.results };
    let (mut killed, mut survived) = (Vec::new(), Vec::new());
    for result in &of.results {
        let named = |mutation: &&Mutation| mutation.name() == result.mutation;
        let mutation = mutants.mutants.iter().map(|mutant| &mutant.mutation).find(named);
        let step = mutants.checks.iter().map(|check| check.step);
        let step = step.into_iter().find(|step| Mutation::DropStep { step: *step }.name() == result.mutation);
        let bears = match (mutation, step) {
            (Some(mutation), _) => bearing.of_mutant(mutation, result),
            (None, Some(step)) => bearing.of_check(step, result),
            // The scenario had another mutation when that was run.
            (None, None) => None,
        };
        match bears {
            Some(true) => killed.push(result.mutation.clone()),
            Some(false) => survived.push(result.mutation.clone()),
            None => {}
        }
    }
    if killed.is_empty() && survived.is_empty() {
        return None;
    }
    killed.sort();
    survived.sort();
    let versions = |of: fn(&LevelRecord) -> Option<&String>| {
        let mut versions: Vec<String> = Vec::new();
        for version in undamaged.levels.iter().filter_map(of).map(|text| version(text)) {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        versions
    };
    let of_fidelity = |fidelity: Fidelity| {
        let levels = undamaged.levels.iter().filter(|level| level.fidelity == fidelity);
        levels.map(|level| level.level).collect()
    };
    Some(Mutated {
        cell: cell.name.clone(),
        fingerprint: Fingerprint::of(cell),
        stage: original.stage,
        killed,
        survived,
        seen: seen.to_owned(),
        kernels: versions(|level| level.seen.kernel.as_ref()),
        qemus: versions(|level| level.seen.qemu.as_ref()),
        metal: undamaged.metal.map_or_else(|| "emulated".to_owned(), |metal| metal.to_string()),
        stand_ins: of_fidelity(Fidelity::StandIn),
        rebuilds: of_fidelity(Fidelity::Rebuild),
    })
}

/// The first word of a version text, without characters that no version has.
fn version(said: &str) -> String {
    let word = said.split_whitespace().next().unwrap_or_default();
    word.chars().filter(|c| c.is_ascii_alphanumeric() || "._+~:-".contains(*c)).take(64).collect()
}

struct Bearing<'a> {
    cell: &'a Cell,
    original: &'a Original,
    results: &'a [MutantResult],
}

impl Bearing<'_> {
    /// Whether a mutant shows that the cell would turn red if its claims were wrong, or, if it survived, that it would not;
    /// `None` if it bears on neither.
    fn of_mutant(&self, mutation: &Mutation, result: &MutantResult) -> Option<bool> {
        // No machine has that property, so this tests the harness.
        if matches!(mutation, Mutation::BogusProperty { .. }) {
            return None;
        }
        let own = is_own(mutation);
        match (result.outcome, result.verdict?) {
            // If a killed mutant passes, its claim is known to be wrong: without the cause, the stack works.
            (MutantOutcome::Killed, VerdictWord::Xpass | VerdictWord::Pass) => Some(true),
            (MutantOutcome::Killed, VerdictWord::Fail) => match (self.original.stage, result.stage) {
                (None, stage) => (own || self.touches(mutation, stage)).then_some(true),
                (Some(stop), Some(stage)) => {
                    (own || self.cell.place_of(stage) > self.cell.place_of(stop)).then_some(true)
                }
                (Some(_), None) => own.then_some(true),
            },
            (MutantOutcome::Survived, _) => {
                let generic = self.original.stage.is_none()
                    && !self.tries_its_own()
                    && !matches!(mutation, Mutation::QemuKilled { .. });
                (own || generic).then_some(false)
            }
            _ => None,
        }
    }

    /// The same for a step that only checks. If it notices that a QEMU died, that shows nothing about what it checks.
    fn of_check(&self, step: u8, result: &MutantResult) -> Option<bool> {
        let here = Some(Stage::Step(step));
        let by = |other: &&MutantResult| {
            other.outcome == MutantOutcome::Killed
                && other.verdict == Some(VerdictWord::Fail)
                && other.stage == here
                && !other.mutation.contains("-qemu-killed-")
        };
        match result.outcome {
            MutantOutcome::Killed if self.original.stage == here => Some(true),
            MutantOutcome::Killed => self.results.iter().find(by).map(|_| true),
            MutantOutcome::Survived => Some(false),
            _ => None,
        }
    }

    /// Whether damage to the stack damages what the cell tests: any part of a stack that should work unchanged, or one of the
    /// scenario's steps if it has any.
    fn touches(&self, mutation: &Mutation, stage: Option<Stage>) -> bool {
        if !self.tries_its_own() {
            return true;
        }
        let Some(Stage::Step(number)) = stage else { return false };
        match self.cell.step(number).map(|step| &step.action) {
            Some(
                StepAction::Own { .. }
                | StepAction::Chain { .. }
                | StepAction::Suite(_)
                | StepAction::Payload(_)
                | StepAction::Measure(_),
            ) => true,
            // The command may have succeeded, and only QEMU's death was noticed.
            Some(StepAction::Run(_)) => !matches!(mutation, Mutation::QemuKilled { .. }),
            None => false,
        }
    }

    /// Whether the cell tests more than a stack of its systems: steps, or settings of a level.
    fn tries_its_own(&self) -> bool {
        let measures = |action: &StepAction| match action {
            StepAction::Own { action } => *action == OwnAction::Measure,
            StepAction::Measure(measure) => measure.expect.is_none(),
            StepAction::Run(_) | StepAction::Chain { .. } | StepAction::Suite(_) | StepAction::Payload(_) => {
                false
            }
        };
        self.cell.steps.iter().any(|step| !measures(&step.action))
            || self
                .cell
                .levels
                .iter()
                .any(|spec| LevelSetting::ALL.iter().any(|setting| setting.is_set(spec)))
    }
}

/// Whether it damages what the scenario itself says, and not what every stack has.
fn is_own(mutation: &Mutation) -> bool {
    matches!(
        mutation,
        Mutation::DropStep { .. }
            | Mutation::TrueStep { .. }
            | Mutation::WithoutSetting { .. }
            | Mutation::FeatureNotRequired { .. }
            | Mutation::Custom { .. }
    )
}

#[cfg(test)]
#[path = "bearing_tests.rs"]
mod tests;
