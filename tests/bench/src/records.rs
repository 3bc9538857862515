//! Reads times, verdicts and memory from the records of runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nestmatrix::records::VerdictWord;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A line of `verdicts.jsonl` (docs/records.md).
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    /// The cell.
    pub cell: String,
    /// Its verdict.
    pub verdict: VerdictWord,
    /// Why it stopped.
    pub symptom: Option<String>,
    /// Its folder, relative to the run's.
    pub folder: Option<PathBuf>,
    /// The snapshot that it was restored from, if it was.
    restored: Option<IgnoredAny>,
    attempts: Vec<Attempt>,
}

/// An attempt at a cell, in seconds since the run began.
#[derive(Debug, Clone, Deserialize)]
struct Attempt {
    start: f64,
    end: f64,
    peak_memory_mib: u64,
}

impl Record {
    /// Whether it was restored from a snapshot.
    pub fn restored(&self) -> bool {
        self.restored.is_some()
    }
}

/// Parses the records of a run, one per line.
///
/// # Errors
/// A line is not a record.
pub fn parse(text: &str) -> serde_json::Result<Vec<Record>> {
    text.lines().map(serde_json::from_str).collect()
}

/// Seconds from the start of the first attempt to the end of the last; none without attempts.
pub fn span(records: &[Record]) -> Option<f64> {
    let attempts = || records.iter().flat_map(|record| &record.attempts);
    let start = attempts().map(|attempt| attempt.start).min_by(f64::total_cmp)?;
    let end = attempts().map(|attempt| attempt.end).max_by(f64::total_cmp)?;
    Some(end - start)
}

/// Peak memory of the emulators of a run's cells, in MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// The maximum of one cell.
    pub of_one: u64,
    /// The maximum sum of two cells that ran at the same time, each at its own peak; none if no two did.
    pub of_two: Option<u64>,
}

impl Memory {
    /// The memory of one run.
    pub fn of(records: &[Record]) -> Self {
        let mut memory = Self::default();
        for (number, record) in records.iter().enumerate() {
            for attempt in &record.attempts {
                memory.of_one = memory.of_one.max(attempt.peak_memory_mib);
                let others = records[number + 1..].iter().flat_map(|other| &other.attempts);
                let beside = others.filter(|other| attempt.start < other.end && other.start < attempt.end);
                let both = beside.map(|other| attempt.peak_memory_mib + other.peak_memory_mib).max();
                memory.of_two = memory.of_two.max(both);
            }
        }
        memory
    }

    /// The larger values of two runs.
    pub fn max(self, other: Self) -> Self {
        Self { of_one: self.of_one.max(other.of_one), of_two: self.of_two.max(other.of_two) }
    }
}

/// The verdicts of all runs, by cell.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// The runs by cell and verdict.
    cells: BTreeMap<String, BTreeMap<VerdictWord, Vec<String>>>,
}

impl Verdicts {
    /// Adds the verdicts of a run.
    pub fn add(&mut self, run: &str, records: &[Record]) {
        for record in records {
            let verdicts = self.cells.entry(record.cell.clone()).or_default();
            verdicts.entry(record.verdict).or_default().push(run.to_owned());
        }
    }

    /// The number of cells with more than one run.
    pub fn compared(&self) -> usize {
        let runs = |verdicts: &BTreeMap<_, Vec<String>>| verdicts.values().map(Vec::len).sum::<usize>();
        self.cells.values().filter(|verdicts| runs(verdicts) > 1).count()
    }

    /// A line for each cell whose runs have different verdicts.
    pub fn differences(&self) -> Vec<String> {
        let differ = self.cells.iter().filter(|(_, verdicts)| verdicts.len() > 1);
        let line = |(cell, verdicts): (&String, &BTreeMap<VerdictWord, Vec<String>>)| {
            let verdict =
                |(word, runs): (&VerdictWord, &Vec<String>)| format!("{word} ({})", runs.join(", "));
            format!("{cell}: {}", verdicts.iter().map(verdict).collect::<Vec<_>>().join("; "))
        };
        differ.map(line).collect()
    }
}

/// Counts verdicts: `19 pass, 1 fail`.
pub fn tally(words: impl IntoIterator<Item = VerdictWord>) -> String {
    let mut counts: BTreeMap<VerdictWord, usize> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// A record with these attempts: start, end, peak memory.
    fn record(cell: &str, verdict: VerdictWord, attempts: &[(u32, u32, u64)]) -> Record {
        let attempt = |&(start, end, peak_memory_mib): &(u32, u32, u64)| Attempt {
            start: start.into(),
            end: end.into(),
            peak_memory_mib,
        };
        Record {
            cell: cell.into(),
            verdict,
            symptom: None,
            folder: None,
            restored: None,
            attempts: attempts.iter().map(attempt).collect(),
        }
    }

    fn passes(attempts: Vec<Vec<(u32, u32, u64)>>) -> Vec<Record> {
        attempts.iter().map(|attempts| record("c/amd/a", VerdictWord::Pass, attempts)).collect()
    }

    #[test]
    fn unknown_members_of_a_record_are_ignored() {
        let restored = r#"{"cell":"t/amd/a/b/c","verdict":"pass","symptom":null,"levels":[],"evidence":{},
            "restored":{"key":"ab","level":"l1","saved":"2026-11-22T08:59:01Z"},"cold":null,
            "attempts":[{"start":0.5,"end":16.25,"verdict":"pass","from":"ab","symptom":null,"cpu_seconds":15.9,
            "peak_memory_mib":585}],"folder":"cells/t"}"#;
        let skipped = r#"{"cell":"t/amd/a","verdict":"skip","symptom":"none","attempts":[],"folder":null}"#;
        let records = parse(&format!("{}\n{skipped}\n", restored.replace('\n', ""))).unwrap();
        assert_eq!((records[0].verdict, records[0].restored()), (VerdictWord::Pass, true));
        assert_eq!(span(&records), Some(15.75));
        assert_eq!(Memory::of(&records), Memory { of_one: 585, of_two: None });
        assert_eq!((records[1].symptom.as_deref(), records[1].restored()), (Some("none"), false));
        assert!(parse("{}").is_err());
    }

    #[test]
    fn a_run_lasts_from_its_first_attempt_to_its_last() {
        assert_eq!(span(&passes(vec![vec![(2, 9, 0), (9, 30, 0)], vec![(1, 8, 0)]])), Some(29.0));
        assert_eq!(span(&passes(vec![vec![]])), None);
    }

    #[rstest]
    #[case::in_a_row(vec![vec![(0, 1, 500)], vec![(1, 2, 700)]], 700, None)]
    #[case::attempts_of_one_cell(vec![vec![(0, 2, 500), (1, 3, 600)]], 600, None)]
    #[case::at_once(vec![vec![(0, 2, 500)], vec![(1, 3, 700)]], 700, Some(1200))]
    #[case::in_a_second_attempt(vec![vec![(0, 2, 500)], vec![(3, 4, 9), (1, 3, 700)]], 700, Some(1200))]
    #[case::the_larger_of_two(vec![vec![(0, 9, 500)], vec![(1, 2, 300)], vec![(3, 4, 400)]], 500, Some(900))]
    #[case::not_the_largest(vec![vec![(0, 1, 900)], vec![(2, 4, 300)], vec![(3, 5, 400)]], 900, Some(700))]
    fn memory_of_two_counts_those_that_ran_at_the_same_time(
        #[case] attempts: Vec<Vec<(u32, u32, u64)>>,
        #[case] of_one: u64,
        #[case] of_two: Option<u64>,
    ) {
        assert_eq!(Memory::of(&passes(attempts)), Memory { of_one, of_two });
    }

    #[test]
    fn different_verdicts_of_a_cell_are_listed_with_their_runs() {
        let mut verdicts = Verdicts::default();
        let run = |a, b| [record("a", a, &[]), record("b", b, &[])];
        verdicts.add("first", &run(VerdictWord::Pass, VerdictWord::Pass));
        assert_eq!((verdicts.compared(), verdicts.differences()), (0, vec![]));
        verdicts.add("again", &run(VerdictWord::Pass, VerdictWord::Fail));
        verdicts.add("cold", &run(VerdictWord::Pass, VerdictWord::Pass));
        assert_eq!(verdicts.compared(), 2);
        assert_eq!(verdicts.differences(), ["b: pass (first, cold); fail (again)"]);
    }

    #[test]
    fn verdicts_are_counted_by_their_words() {
        assert_eq!(tally([VerdictWord::Pass, VerdictWord::Fail, VerdictWord::Pass]), "2 pass, 1 fail");
        assert_eq!(tally([]), "none");
    }
}
