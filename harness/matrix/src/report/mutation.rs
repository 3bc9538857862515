//! The results of mutants: a table a cell, survivors first, and the totals.

use crate::records::{CellMutation, MutantOutcome, MutantResult, MutationTally, VerdictWord};

use super::style::{Role, Style};
use super::table::{Entry, Line, Table};
use super::text::{one_line, wrapped};

/// Every cell with its mutants, and the totals.
pub fn mutations(cells: &[CellMutation], style: &Style) -> String {
    let mut out = String::new();
    for cell in cells {
        out.push_str(&of_cell(cell, style));
        out.push('\n');
    }
    out.push_str(&wrapped(&counted(&MutationTally::of(cells)), 0, 2, style.width));
    out.push('\n');
    out
}

/// The note on a mutation run that ended before its mutants had an outcome.
pub(super) const PENDING: &str = "the mutants have no outcome yet: resume the run";

/// What needs attention in a mutation run, apart from its mutants.
pub(super) fn incomplete(tally: &MutationTally) -> Vec<String> {
    let plural = |number: usize, one: &str, more: &str| match number {
        0 => None,
        1 => Some(format!("1 cell {one}")),
        _ => Some(format!("{number} cells {more}")),
    };
    let untried = plural(tally.incomplete, "has mutants without a verdict", "have mutants without a verdict");
    let not_green = plural(tally.not_green, "is not green without damage", "are not green without damage");
    untried.into_iter().chain(not_green).collect()
}

/// `24 mutants of 1 cell: 23 killed, 1 survived`.
pub(super) fn counted(tally: &MutationTally) -> String {
    let numbers = [
        (tally.killed, MutantOutcome::Killed.word()),
        (tally.survived, MutantOutcome::Survived.word()),
        (tally.accepted, MutantOutcome::Accepted.word()),
        (tally.undecided, MutantOutcome::Undecided.word()),
        (tally.not_tried, MutantOutcome::NotTried.word()),
    ];
    let numbers: Vec<String> = numbers
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    let cells = count(tally.cells, "cell");
    let mut text = format!("{} of {cells}", count(tally.mutants(), "mutant"));
    if !numbers.is_empty() {
        text.push_str(&format!(": {}", numbers.join(", ")));
    }
    for part in incomplete(tally) {
        text.push_str(&format!("; {part}"));
    }
    text
}

fn count(number: usize, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {what}{ending}")
}

fn of_cell(cell: &CellMutation, style: &Style) -> String {
    let original = &cell.original;
    let stage = original.stage.map_or(String::new(), |stage| format!(" at {stage}"));
    let mut out = format!("{}: {}{stage} without damage\n\n", cell.cell, original.verdict);
    if !original.green {
        out.push_str("  no mutants: the cell is not green without damage\n");
        return out;
    }
    let mut table = Table::default();
    let heading = |text: &str| Entry::new(text, Role::Heading);
    let columns = ["mutation", "outcome", "verdict", "stage"].map(heading);
    let columns = columns.into_iter().chain([Entry::right("seconds", Role::Heading)]);
    table.push(Line::Entries(columns.collect()));
    for result in &cell.results {
        table.push(Line::Entries(entries(result)));
        for remark in remarks(result) {
            table.push(Line::Prose(one_line(&remark)));
        }
    }
    out.push_str(&table.render(2, style));
    for name in &cell.unused {
        let text = format!("the scenario accepts the mutation {}, which does not exist", one_line(name));
        out.push_str(&format!("  {}\n", wrapped(&text, 2, 2, style.width)));
    }
    out
}

fn entries(result: &MutantResult) -> Vec<Entry> {
    let role = match result.outcome {
        MutantOutcome::Survived => Role::Verdict(VerdictWord::Fail),
        MutantOutcome::Undecided => Role::Verdict(VerdictWord::Error),
        MutantOutcome::Accepted | MutantOutcome::NotTried => Role::Quiet,
        MutantOutcome::Killed => Role::Plain,
    };
    let verdict = result.verdict.map_or(String::new(), |verdict| verdict.to_string());
    let stage = result.stage.map_or(String::new(), |stage| stage.to_string());
    let seconds = if result.verdict.is_some() { format!("{:.1}", result.seconds) } else { String::new() };
    vec![
        Entry::new(one_line(&result.mutation), Role::Plain),
        Entry::new(result.outcome.word(), role),
        Entry::new(verdict, Role::Plain),
        Entry::new(stage, Role::Plain),
        Entry::right(seconds, Role::Plain),
    ]
}

/// The remarks that explain a mutant: none for a killed one; for a check, the mutant that it stopped.
fn remarks(result: &MutantResult) -> Vec<String> {
    if result.outcome == MutantOutcome::Killed {
        return result.symptom.iter().filter(|_| result.rule.is_none()).cloned().collect();
    }
    let damage = format!("{}; {}", result.damage, wanted(result));
    let accepted = result.accepted.as_ref().map(|why| format!("accepted: {why}"));
    [Some(damage), result.symptom.clone(), accepted].into_iter().flatten().collect()
}

/// The required result of a mutant: `must be not green`.
pub(super) fn wanted(result: &MutantResult) -> String {
    result.rule.map_or_else(|| "must stop a mutant".to_owned(), |rule| format!("must be {}", rule.text()))
}

/// Whether a mutant needs attention.
pub(super) fn is_trouble(result: &MutantResult) -> bool {
    matches!(result.outcome, MutantOutcome::Survived | MutantOutcome::Undecided)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Original, Rule};

    fn result(mutation: &str, outcome: MutantOutcome, verdict: VerdictWord) -> MutantResult {
        MutantResult {
            mutation: mutation.into(),
            damage: "QEMU emulates L2".into(),
            rule: Some(Rule::NotGreen),
            outcome,
            accepted: (outcome == MutantOutcome::Accepted).then(|| "nothing can show it".into()),
            verdict: Some(verdict),
            stage: (verdict == VerdictWord::Fail).then(|| "l2-launch".parse().unwrap()),
            symptom: (verdict == VerdictWord::Fail).then(|| "said \u{1b}[2J so".into()),
            seconds: 12.34,
            records: None,
        }
    }

    fn cell(original: VerdictWord, green: bool, results: Vec<MutantResult>) -> CellMutation {
        let original = Original { verdict: original, stage: None, symptom: None, green };
        let unused = vec!["l9-*".into()];
        CellMutation { cell: "s/amd/a/b/c".parse().unwrap(), original, results, unused, complete: true }
    }

    #[test]
    fn survivors_are_shown_with_their_required_result() {
        let check = MutantResult {
            rule: None,
            verdict: None,
            symptom: Some("it only checks, and stopped no mutant".into()),
            ..result("drop-step-1", MutantOutcome::Survived, VerdictWord::Pass)
        };
        let stopped = MutantResult {
            outcome: MutantOutcome::Killed,
            mutation: "drop-step-2".into(),
            symptom: Some("it only checks, and stopped old-nonce".into()),
            ..check.clone()
        };
        let results = vec![
            result("l2-on-tcg", MutantOutcome::Survived, VerdictWord::Pass),
            check,
            result("l1-on-tcg", MutantOutcome::Accepted, VerdictWord::Pass),
            result("old-nonce", MutantOutcome::Killed, VerdictWord::Fail),
            stopped,
        ];
        let cells = [cell(VerdictWord::Pass, true, results), cell(VerdictWord::Error, false, Vec::new())];
        let tally = MutationTally { incomplete: 1, ..MutationTally::of(&cells) };
        assert_eq!(
            counted(&tally),
            "5 mutants of 1 cell: 2 killed, 2 survived, 1 accepted; 1 cell has mutants without a verdict; 1 cell is not green \
             without damage"
        );
        insta::assert_snapshot!(mutations(&cells, &Style::plain()), @r"
        s/amd/a/b/c: pass without damage

          mutation     outcome   verdict  stage      seconds
          l2-on-tcg    survived  pass                   12.3
                       QEMU emulates L2; must be not green
          drop-step-1  survived
                       QEMU emulates L2; must stop a mutant
                       it only checks, and stopped no mutant
          l1-on-tcg    accepted  pass                   12.3
                       QEMU emulates L2; must be not green
                       accepted: nothing can show it
          old-nonce    killed    fail     l2-launch     12.3
          drop-step-2  killed
                       it only checks, and stopped old-nonce
          the scenario accepts the mutation l9-*, which does not exist

        s/amd/a/b/c: error without damage

          no mutants: the cell is not green without damage

        5 mutants of 1 cell: 2 killed, 2 survived, 1 accepted; 1 cell is not green without damage
        ");
    }
}
