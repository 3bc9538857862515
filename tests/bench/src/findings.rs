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

    fn row(&self, yardstick: &str, limit: Option<f64>) -> Option<Row> {
        let row = Row::ratio(yardstick, &self.ratios, &self.seconds, limit);
        match self.missed {
            0 if self.seconds.is_empty() => None,
            0 => Some(row),
            missed => Some(row.with_remark(&format!("{missed} without a time"))),
        }
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
        for record in records.iter().filter(|record| record.verdict != VerdictWord::Pass) {
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
        let all = [&self.cold, &self.snapshot, &self.matrix_first, &self.matrix_again, &self.matrix_cold];
        all.iter().any(|times| times.missed > 0)
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
        rows.extend(self.cold.row("cold: one stack", Some(COLD)));
        rows.extend(self.snapshot.row("snapshot: one restored stack", Some(SNAPSHOT)));
        rows.extend(self.matrix_first.row("matrix: a cell, first time", Some(MATRIX_FIRST)));
        rows.extend(self.matrix_again.row("matrix: a cell, again", Some(MATRIX_AGAIN)));
        rows.extend(self.matrix_cold.row("matrix: a cell, cold", None));
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

/// The duration of a run; none if a cell did not pass, since its stack stopped early.
pub fn time(records: &[Record]) -> Option<f64> {
    span(records).filter(|_| records.iter().all(|record| record.verdict == VerdictWord::Pass))
}
