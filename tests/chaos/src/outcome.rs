//! The outcomes of disturbed runs, and how they are shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::disturbance::Kind;

/// What became of a run. A line of `outcomes.jsonl` (docs/chaos.md).
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The campaign's seed.
    pub seed: u64,
    /// The number of the run in the campaign.
    pub run: u32,
    /// The cell.
    pub cell: String,
    /// Whether every level was to boot.
    pub cold: bool,
    /// What was drawn.
    pub kind: Kind,
    /// When it was done, in seconds since the harness was started.
    pub after: f64,
    /// What was done; null if the run had ended before, or there was nothing to disturb.
    pub inflicted: Option<String>,
    /// The verdict with its reason, or the last line that the harness printed; null if a signal ended the harness.
    pub verdict: Option<String>,
    /// What the harness did.
    pub came: Came,
    /// How long the run took, in seconds.
    pub seconds: f64,
    /// What is wrong with it; empty if nothing is.
    pub wrong: Vec<String>,
}

/// How a run came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Came {
    /// It was not disturbed.
    Undisturbed,
    /// It gave the verdict that it gives undisturbed.
    Unharmed,
    /// It blamed itself or this machine.
    Error,
    /// It gave another verdict, which is wrong.
    OtherVerdict,
    /// It ended without a verdict.
    WithoutVerdict,
}

/// How many runs of a kind came out how.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    disturbed: u32,
    unharmed: u32,
    error: u32,
    without_verdict: u32,
    wrong: u32,
}

/// The table of a campaign.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut kinds: BTreeMap<Kind, Counts> = BTreeMap::new();
    for outcome in outcomes {
        let counts = kinds.entry(outcome.kind).or_default();
        counts.disturbed += u32::from(outcome.came != Came::Undisturbed);
        counts.unharmed += u32::from(outcome.came == Came::Unharmed);
        counts.error += u32::from(outcome.came == Came::Error);
        counts.without_verdict += u32::from(outcome.came == Came::WithoutVerdict);
        counts.wrong += u32::from(!outcome.wrong.is_empty());
    }
    let mut text = format!(
        "{:<10} {:>9} {:>9} {:>6} {:>10} {:>6}\n",
        "kind", "disturbed", "unharmed", "error", "no verdict", "wrong"
    );
    for (kind, counts) in &kinds {
        let name = format!("{kind:?}").to_lowercase();
        let Counts { disturbed, unharmed, error, without_verdict, wrong } = counts;
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "{name:<10} {disturbed:>9} {unharmed:>9} {error:>6} {without_verdict:>10} {wrong:>6}"
        );
    }
    let undisturbed = outcomes.iter().filter(|outcome| outcome.came == Came::Undisturbed).count();
    if undisturbed > 0 {
        let _ = writeln!(text, "{undisturbed} of {} runs ended before they were disturbed", outcomes.len());
    }
    text
}

impl Outcome {
    /// The outcome as one line, and a line for each thing that is wrong.
    pub fn told(&self) -> String {
        let what = self.inflicted.as_deref().unwrap_or("ended before it was disturbed");
        let after =
            if self.inflicted.is_some() { format!(" after {:.1} s", self.after) } else { String::new() };
        let verdict = self.verdict.as_deref().unwrap_or("no verdict");
        let cold = if self.cold { ", cold" } else { "" };
        let mut text = format!(
            "{:>4}  {}{cold}: {what}{after}: {verdict} ({:.0} s)\n",
            self.run, self.cell, self.seconds
        );
        for wrong in &self.wrong {
            let _ = writeln!(text, "      WRONG: {wrong}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(kind: Kind, came: Came, wrong: &[&str]) -> Outcome {
        Outcome {
            seed: 7,
            run: 3,
            cell: "s/amd/a/b/c".into(),
            cold: true,
            kind,
            after: 4.25,
            inflicted: (came != Came::Undisturbed).then(|| "SIGKILL to the harness".into()),
            verdict: (came == Came::Unharmed).then(|| "pass".into()),
            came,
            seconds: 20.0,
            wrong: wrong.iter().map(|&wrong| wrong.to_owned()).collect(),
        }
    }

    #[test]
    fn each_kind_has_a_line_and_runs_that_were_missed_are_counted() {
        let outcomes = [
            outcome(Kind::Stop, Came::Unharmed, &[]),
            outcome(Kind::Kill, Came::Error, &[]),
            outcome(Kind::Kill, Came::WithoutVerdict, &["a wrong one"]),
            outcome(Kind::Kill, Came::Undisturbed, &[]),
        ];
        let expected = "\
kind       disturbed  unharmed  error no verdict  wrong
kill               2         0      1          1      1
stop               1         1      0          0      0
1 of 4 runs ended before they were disturbed
";
        assert_eq!(table(&outcomes), expected);
    }

    #[test]
    fn a_line_says_what_was_done_and_what_came_of_it() {
        let line = outcome(Kind::Kill, Came::WithoutVerdict, &["it panicked"]).told();
        let expected = "   3  s/amd/a/b/c, cold: SIGKILL to the harness after 4.2 s: no verdict (20 s)\n      \
                        WRONG: it panicked\n";
        assert_eq!(line, expected);
        let line = outcome(Kind::Kill, Came::Undisturbed, &[]).told();
        assert_eq!(line, "   3  s/amd/a/b/c, cold: ended before it was disturbed: no verdict (20 s)\n");
    }
}
