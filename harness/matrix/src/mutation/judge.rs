//! Judges mutants: whether each was noticed, by the verdict that it must get.

use nestmatrix_model::{Stage, SymptomKind};
use nestmatrix_stack::Symptom;

use super::{Check, Mutant, Mutants, Mutation};
use crate::records::{
    CellMutation, CellRecord, MutantOutcome, MutantResult, Original, Rule, VerdictWord, is_green,
};
use crate::scenario::CellName;

/// Judges the record of a mutant, whose cell has the result `original` without damage.
pub fn judge(original: &Original, mutant: &Mutant, record: &CellRecord) -> MutantOutcome {
    let survived = if mutant.accepted.is_some() { MutantOutcome::Accepted } else { MutantOutcome::Survived };
    let kind = record.symptom_data.as_ref().map(Symptom::kind);
    match (record.verdict, mutant.rule) {
        (VerdictWord::Skip | VerdictWord::Flaky, _) => MutantOutcome::Undecided,
        (VerdictWord::Error, rule) => match (rule, kind) {
            (Rule::FailOrError, _)
            | (Rule::FailOrMissingEvidence, Some(SymptomKind::MissingEvidence))
            | (Rule::Rejected, Some(SymptomKind::CommandLineRejected)) => MutantOutcome::Killed,
            (Rule::NotGreen | Rule::FailOrMissingEvidence | Rule::Rejected, _) => MutantOutcome::Undecided,
        },
        (_, Rule::Rejected) => survived,
        // A fail that is green is a known one. Without the cause of the wrong claim the stack works, so the verdict differs.
        (VerdictWord::Pass, _) if original.verdict == VerdictWord::Fail && original.green => {
            MutantOutcome::Killed
        }
        _ if is_green(record) => survived,
        _ => MutantOutcome::Killed,
    }
}

impl CellMutation {
    /// Judges the mutants of a cell by those that have a record. If all have one, a check that stopped none of them can't fail.
    pub fn new(cell: CellName, original: Original, mutants: &Mutants, records: &[CellRecord]) -> Self {
        let result = |mutant: &Mutant| {
            let record = records.iter().find(|record| record.cell == mutant.cell.name)?;
            Some(result(&original, mutant, record))
        };
        let mut results: Vec<MutantResult> = mutants.mutants.iter().filter_map(result).collect();
        let complete = results.len() == mutants.mutants.len();
        let of_checks = mutants.checks.iter().map(|check| of_check(check, &original, &results, complete));
        let of_checks: Vec<MutantResult> = of_checks.collect();
        results.extend(of_checks);
        results.sort_by_key(|result| result.outcome);
        Self { cell, original, results, unused: mutants.unused.clone(), complete }
    }
}

fn result(original: &Original, mutant: &Mutant, record: &CellRecord) -> MutantResult {
    MutantResult {
        mutation: mutant.mutation.name(),
        damage: mutant.mutation.to_string(),
        rule: Some(mutant.rule),
        outcome: judge(original, mutant, record),
        accepted: mutant.accepted.clone(),
        verdict: Some(record.verdict),
        stage: record.stage,
        symptom: record.symptom.clone(),
        seconds: record.seconds(),
        records: record.folder.as_ref().map(|folder| folder.as_path().to_owned()),
    }
}

fn of_check(check: &Check, original: &Original, results: &[MutantResult], all: bool) -> MutantResult {
    let mutation = Mutation::DropStep { step: check.step };
    let here = Some(Stage::Step(check.step));
    let killed = |result: &&MutantResult| result.outcome == MutantOutcome::Killed && result.stage == here;
    let stopped = match original.stage == here {
        true => Some("the cell without damage"),
        false => results.iter().find(killed).map(|result| result.mutation.as_str()),
    };
    let outcome = match (stopped, &check.accepted) {
        (Some(_), _) => MutantOutcome::Killed,
        (None, _) if !all => MutantOutcome::NotTried,
        (None, Some(_)) => MutantOutcome::Accepted,
        (None, None) => MutantOutcome::Survived,
    };
    let symptom = match stopped {
        Some(stopped) => format!("it only checks, and stopped {stopped}"),
        None => "it only checks, and stopped no mutant".to_owned(),
    };
    MutantResult {
        mutation: mutation.name(),
        damage: mutation.to_string(),
        rule: None,
        outcome,
        accepted: check.accepted.clone(),
        verdict: None,
        stage: None,
        symptom: Some(symptom),
        seconds: 0.0,
        records: None,
    }
}
