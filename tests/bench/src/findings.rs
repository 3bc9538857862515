//! The findings of all rounds, and how they are shown.

use nestmatrix::records::{Machine, VerdictWord};

use crate::figures::{Row, Series, table};
use crate::harness_alone::Seconds;
use crate::records::{Memory, Record, Verdicts, span, tally};
use crate::stacks::Ran;

/// Limit of one cold stack, as a ratio to the script's time.
const COLD: f64 = 0.85;
/// The same limit of a stack that is restored from a snapshot of L0 and L1.
const SNAPSHOT: f64 = 0.35;
/// The same limit of a cell of the matrix, the first time.
const MATRIX_FIRST: f64 = 0.40;
/// The same limit of a cell of the matrix with all snapshots.
const MATRIX_AGAIN: f64 = 0.22;
/// How much of its reference a ratio may be. Noise makes medians differ by less.
const WORSE: f64 = 1.25;

/// Memory limit of two cells at once, in MiB.
const TWO_CELLS_MIB: u64 = 6 * 1024;
/// Limit of planning, in seconds.
const PLANNING: f64 = 1.0;
/// Limit of writing, in seconds.
const WRITING: f64 = 2.0;

/// The times of one yardstick.
#[derive(Debug, Default)]
pub struct Times {
    seconds: Series,
    ratios: Series,
    /// Rounds without a valid time.
    missed: usize,
}

impl Times {
    /// Adds a round's time, if it is valid, and the script's time of the same round.
    pub fn push(&mut self, seconds: Option<f64>, script: f64) {
        match seconds {
            Some(seconds) => {
                self.seconds.push(seconds);
                self.ratios.push(seconds / script);
            }
            None => self.missed += 1,
        }
    }
}

/// A yardstick with its times.
struct Yardstick<'t> {
    name: &'static str,
    times: &'t Times,
    /// What the median of its ratios may be.
    target: Option<f64>,
    /// What it was when it was last measured for the documentation.
    reference: Option<f64>,
}

impl Yardstick<'_> {
    /// Its row; none if it was not measured.
    fn row(&self) -> Option<Row> {
        let Times { seconds, ratios, missed } = self.times;
        if *missed == 0 && seconds.is_empty() {
            return None;
        }
        let mut row = Row::ratio(self.name, ratios, seconds, self.target);
        if let (true, Some(reference)) = (self.is_worse(), self.reference) {
            row = row.with_remark(&format!("worse than {reference:.2}"));
        }
        if *missed > 0 {
            row = row.with_remark(&format!("{missed} without a time"));
        }
        Some(row)
    }

    fn is_worse(&self) -> bool {
        let (ratio, reference) = (self.times.ratios.median(), self.reference);
        ratio.zip(reference).is_some_and(|(ratio, reference)| ratio > reference * WORSE)
    }
}

/// All findings.
#[derive(Debug, Default)]
pub struct Findings {
    /// The script's times.
    pub script: Series,
    /// One cold stack.
    pub cold: Times,
    /// One stack from a snapshot.
    pub snapshot: Times,
    /// A cell of the matrix, without snapshots before.
    pub matrix_first: Times,
    /// A cell of the matrix, with all snapshots.
    pub matrix_again: Times,
    /// A cell of the matrix, with --cold.
    pub matrix_cold: Times,
    /// The script's stack on Intel.
    pub intel: Times,
    /// The script's stack on Intel, from a snapshot.
    pub intel_snapshot: Times,
    /// The script's stack on POWER9.
    pub power9: Times,
    /// The default profile, without snapshots before.
    pub profile_first: Times,
    /// The default profile, with all snapshots.
    pub profile_again: Times,
    /// Times of the harness alone, one for each round.
    pub harness: Vec<Seconds>,
    repeated: Vec<VerdictWord>,
    verdicts: Verdicts,
    memory: Memory,
    unexpected: bool,
}

impl Findings {
    /// Adds the verdicts and the memory of a run, and prints its result. The name identifies the run.
    pub fn take(&mut self, name: &str, ran: &Ran) {
        let records = &ran.records;
        let tally = tally(records.iter().map(|record| record.verdict));
        let restored = records.iter().filter(|record| record.restored()).count();
        let seconds = span(records).unwrap_or_default();
        eprintln!("{name}: {seconds:.2} s, {tally}, {restored} restored from a snapshot");
        for record in records.iter().filter(|record| !is_whole(record.verdict)) {
            self.unexpected = true;
            let symptom = record.symptom.as_deref().unwrap_or("no symptom");
            let folder =
                record.folder.as_deref().map_or_else(|| ran.folder.clone(), |cell| ran.folder.join(cell));
            eprintln!("  {} {}: {symptom}\n    {}", record.verdict, record.cell, folder.display());
        }
        self.verdicts.add(name, records);
        self.memory = self.memory.max(Memory::of(records));
    }

    /// Whether a cell did not pass.
    pub fn unexpected(&self) -> bool {
        self.unexpected
    }

    /// Adds the verdict of a repeated run.
    pub fn repeated(&mut self, verdict: VerdictWord) {
        self.repeated.push(verdict);
    }

    /// Whether a round has no valid time.
    pub fn incomplete(&self) -> bool {
        self.yardsticks().iter().any(|yardstick| yardstick.times.missed > 0)
    }

    /// Whether a ratio is worse than its reference by more than a quarter.
    pub fn is_worse(&self) -> bool {
        self.yardsticks().iter().any(Yardstick::is_worse)
    }

    /// The yardsticks that boot stacks. Their references are the ratios in docs/performance.md.
    fn yardsticks(&self) -> [Yardstick<'_>; 10] {
        let yardstick = |name, times, target, reference| Yardstick { name, times, target, reference };
        [
            yardstick("cold: one stack", &self.cold, Some(COLD), Some(0.57)),
            yardstick("snapshot: one restored stack", &self.snapshot, Some(SNAPSHOT), Some(0.28)),
            yardstick("matrix: a cell, first time", &self.matrix_first, Some(MATRIX_FIRST), Some(0.24)),
            yardstick("matrix: a cell, again", &self.matrix_again, Some(MATRIX_AGAIN), Some(0.14)),
            yardstick("matrix: a cell, cold", &self.matrix_cold, None, Some(0.31)),
            yardstick("intel: one stack", &self.intel, None, Some(3.50)),
            yardstick("intel: one restored stack", &self.intel_snapshot, None, Some(1.05)),
            yardstick("power9: one stack", &self.power9, None, Some(1.29)),
            yardstick("default profile, first time", &self.profile_first, None, None),
            yardstick("default profile, again", &self.profile_again, None, None),
        ]
    }

    /// The machine, the table and the differences between verdicts; empty without findings.
    pub fn to_text(&self, machine: &Machine) -> String {
        let rows = self.rows();
        if rows.is_empty() {
            return String::new();
        }
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let Machine { processor, cores, memory_mib, .. } = machine;
        let version = env!("CARGO_PKG_VERSION");
        let head =
            format!("nestmatrix {version}, {build} build; {cores} cores ({processor}), {memory_mib} MiB\n\n");
        let mut text = head + &table(&rows);
        for difference in self.verdicts.differences() {
            text.push_str(&format!("\nverdicts differ: {difference}"));
        }
        if text.ends_with('\n') { text } else { text + "\n" }
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        if !self.script.is_empty() {
            rows.push(Row::seconds("the script", &self.script, None));
        }
        rows.extend(self.yardsticks().iter().filter_map(Yardstick::row));
        if !self.repeated.is_empty() {
            let equal = self.repeated.windows(2).all(|two| two[0] == two[1]);
            let tally = tally(self.repeated.iter().copied());
            let result = if equal { format!("ok, {tally}") } else { tally };
            rows.push(Row::fact("repeat: verdicts", "all equal", result));
        }
        let compared = self.verdicts.compared();
        if compared > 0 {
            let result = match self.verdicts.differences().len() {
                0 => format!("ok, cells compared: {compared}"),
                differ => format!("{differ} of {compared} cells differ"),
            };
            rows.push(Row::fact("verdicts of the same cells", "all equal", result));
        }
        rows.extend(self.memory_rows());
        rows.extend(self.harness_rows());
        rows
    }

    fn memory_rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        if self.memory.of_one > 0 {
            rows.push(Row::fact("memory: one cell", "-", format!("{} MiB", self.memory.of_one)));
        }
        if let Some(mib) = self.memory.of_two {
            let word = if mib <= TWO_CELLS_MIB { "ok" } else { "over" };
            let target = format!("<= {TWO_CELLS_MIB} MiB");
            rows.push(Row::fact("memory: two cells at once", &target, format!("{word}, {mib} MiB")));
        }
        rows
    }

    fn harness_rows(&self) -> Vec<Row> {
        let row = |what: &str, of: fn(&Seconds) -> f64, limit| {
            let mut series = Series::default();
            self.harness.iter().for_each(|seconds| series.push(of(seconds)));
            let row = Row::seconds(what, &series, limit);
            // A debug build says nothing about a release build.
            if cfg!(debug_assertions) { row.with_result("debug build".to_owned()) } else { row }
        };
        if self.harness.is_empty() {
            return Vec::new();
        }
        vec![
            row("harness: read 100,000 cells", |seconds| seconds.reading, None),
            row("harness: plan 100,000 cells", |seconds| seconds.planning, Some(PLANNING)),
            row("harness: write 10,000 verdicts", |seconds| seconds.writing, Some(WRITING)),
        ]
    }
}

/// The duration of a run; none if a cell stopped early.
pub fn time(records: &[Record]) -> Option<f64> {
    span(records).filter(|_| records.iter().all(|record| is_whole(record.verdict)))
}

/// The duration of a run whose cells all came from a snapshot.
pub fn restored_time(records: &[Record]) -> Option<f64> {
    time(records).filter(|_| records.iter().all(Record::restored))
}

/// Whether a cell with this verdict came as far as it can. The matrix of the yardsticks has no cell that stops or is skipped.
fn is_whole(verdict: VerdictWord) -> bool {
    !matches!(verdict, VerdictWord::Fail | VerdictWord::Flaky | VerdictWord::Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(ratios: &[f64]) -> Findings {
        let mut findings = Findings::default();
        ratios.iter().for_each(|ratio| findings.cold.push(Some(ratio * 40.0), 40.0));
        findings
    }

    #[test]
    fn a_median_that_is_worse_by_more_than_a_quarter_fails_the_bench() {
        assert!(!measured(&[0.6, 0.7, 3.0]).is_worse());
        let worse = measured(&[0.72, 0.73, 0.1]);
        assert!(worse.is_worse());
        let row = worse.yardsticks()[0].row().unwrap();
        assert!(format!("{row:?}").contains("ok, worse than 0.57"), "{row:?}");
        assert!(!Findings::default().is_worse() && Findings::default().rows().is_empty());
    }

    #[test]
    fn a_round_without_a_time_is_incomplete_and_not_worse() {
        let mut findings = Findings::default();
        findings.intel.push(None, 40.0);
        assert!(findings.incomplete() && !findings.is_worse());
        assert!(format!("{:?}", findings.rows()).contains("1 without a time"));
    }
}
