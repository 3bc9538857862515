//! Runs as JSON for KCIDB, the database of kernel test results (schema 5.3).
//!
//! KCIDB knows tests of builds of a kernel. The build is the kernel of the outermost level, whose KVM runs the whole stack.
//! docs/reports.md has the mapping.

use std::collections::BTreeMap;
use std::time::SystemTime;

use nestmatrix_model::CaseOutcome;
use nestmatrix_stack::{Case, StepRecord};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::cell::{claims, documented, observed};
use crate::records::{CellRecord, Known, Overview, OverviewCell, VerdictWord, later};
use crate::scenario::CellName;

/// The version of KCIDB's schema.
const VERSION: (u32, u32) = (5, 3);

/// The name of the systems that submit results: those of each have identifiers that begin with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Default for Origin {
    fn default() -> Self {
        Self("nestmatrix".to_owned())
    }
}

impl std::str::FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_');
        if text.is_empty() || !text.chars().all(fits) {
            return Err("an origin consists of lowercase letters, digits and underscores".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

/// The runs as one JSON object, with a line end.
///
/// # Errors
/// None are known: every record can be written.
pub fn kcidb(overview: &Overview, origin: &Origin) -> serde_json::Result<String> {
    let mut report = Report { origin: &origin.0, ..Report::default() };
    for cell in &overview.cells {
        report.add(overview, cell);
    }
    for cell in &overview.without_verdict {
        report.add_missing(overview, cell);
    }
    let mut text = serde_json::to_string_pretty(&report.into_json())?;
    text.push('\n');
    Ok(text)
}

#[derive(Default)]
struct Report<'r> {
    origin: &'r str,
    /// By their identifiers: several tests share them.
    checkouts: BTreeMap<String, Value>,
    builds: BTreeMap<String, Value>,
    issues: BTreeMap<String, Value>,
    tests: Vec<Value>,
    incidents: Vec<Value>,
}

/// What a cell's tests have in common.
struct OfCell<'c> {
    build: String,
    /// The beginning of the tests' identifiers.
    id: String,
    path: Vec<String>,
    environment: Value,
    record: &'c CellRecord,
}

impl Report<'_> {
    fn into_json(self) -> Value {
        let all = |objects: BTreeMap<String, Value>| objects.into_values().collect::<Vec<_>>();
        json!({
            "version": { "major": VERSION.0, "minor": VERSION.1 },
            "checkouts": all(self.checkouts),
            "builds": all(self.builds),
            "tests": self.tests,
            "issues": all(self.issues),
            "incidents": self.incidents,
        })
    }

    fn add(&mut self, overview: &Overview, cell: &OverviewCell) {
        let record = &cell.record;
        let run = overview.run_of(cell);
        let of_cell = OfCell {
            build: self.add_build(record),
            id: format!("{}:{run}/{}", self.origin, record.cell),
            path: path(&record.cell),
            environment: environment(overview, cell),
            record,
        };
        let mut test = json!({
            "id": of_cell.id,
            "build_id": of_cell.build,
            "origin": self.origin,
            "path": of_cell.path.join("."),
            "comment": without_nul(&format!("{}: {}", record.cell, documented(record))),
            "status": status(record),
            "environment": of_cell.environment,
            "misc": misc(record),
        });
        if !record.attempts.is_empty() {
            test["duration"] = record.seconds().max(0.0).into();
        }
        // The times of a merged run's cells are counted from the beginnings of its parts.
        let began = overview.runs.get(cell.run).filter(|_| record.run.is_none());
        let began = began.map(|run| run.record.began.as_str());
        if let Some(start) = began.and_then(|began| start_of(began, record)) {
            test["start_time"] = start.into();
        }
        if let Some(seen) = observed(record) {
            test["log_excerpt"] = without_nul(&seen).into();
        }
        self.tests.push(test);
        // A limitation that came back is no known issue: it is known to be gone.
        let known = record.known().filter(|known| *known != Known::CameBack);
        if let (Some(known), Some(text)) = (known, record.known_text()) {
            // What a document says wrongly is no fault of the kernel.
            let of_code = known != Known::Stale;
            let present = known != Known::Righted;
            self.add_incident(&of_cell.id, &format!("{}: {text}", record.scenario), of_code, present);
        }
        for (number, step) in (1..).zip(&record.steps) {
            self.add_step(&of_cell, number, step);
        }
    }

    /// Adds a cell that has no verdict since its run was ended.
    fn add_missing(&mut self, overview: &Overview, cell: &CellName) {
        let build = self.add_kernel("unknown system", "unknown kernel", "");
        let run = overview.runs.first().map_or("", |run| &run.record.run);
        self.tests.push(json!({
            "id": format!("{}:{run}/{cell}", self.origin),
            "build_id": build,
            "origin": self.origin,
            "path": path(cell).join("."),
            "comment": format!("{cell}: no verdict, the run ended before the cell"),
            "status": "MISS",
        }));
    }

    /// Adds the kernel under test, with the package that it is from as its checkout; returns the build's identifier.
    fn add_build(&mut self, record: &CellRecord) -> String {
        let outermost = record.levels.first();
        let system = outermost.map_or("unknown system", |level| level.os.as_str());
        let kernel = outermost.and_then(|level| level.seen.kernel.as_deref()).unwrap_or("unknown kernel");
        self.add_kernel(system, kernel, record.architecture.isa().info().machines[0])
    }

    /// Adds a kernel for machines of this name; returns the build's identifier.
    fn add_kernel(&mut self, system: &str, kernel: &str, machine: &str) -> String {
        let checkout = format!("{}:{system}/{kernel}", self.origin);
        let build = format!("{}:{system}/{kernel}/{machine}", self.origin);
        let comment = without_nul(&format!("{kernel} of {system}"));
        self.checkouts.entry(checkout.clone()).or_insert_with(
            || json!({ "id": checkout, "origin": self.origin, "comment": comment, "valid": true }),
        );
        self.builds.entry(build.clone()).or_insert_with(|| {
            json!({
                "id": build, "checkout_id": checkout, "origin": self.origin, "comment": comment,
                "architecture": machine, "status": "PASS",
            })
        });
        build
    }

    fn add_step(&mut self, of_cell: &OfCell<'_>, number: usize, step: &StepRecord) {
        let test = |origin: &str, name: &str, status: &str| {
            let path = [of_cell.path.join("."), format!("step-{number}"), word(name)].join(".");
            json!({
                "id": format!("{}/step-{number}/{}", of_cell.id, without_nul(name)),
                "build_id": of_cell.build,
                "origin": origin,
                "path": path,
                "comment": without_nul(&format!("{} in {}: {name}", of_cell.record.cell, step.on)),
                "status": status,
                "environment": of_cell.environment,
            })
        };
        for case in step.suite.iter().flat_map(|suite| &suite.cases) {
            let mut of_case = test(self.origin, &case.name, status_of_case(case));
            let id = of_case["id"].as_str().unwrap_or_default().to_owned();
            if let Some(said) = &case.said {
                of_case["log_excerpt"] = without_nul(said).into();
            }
            self.tests.push(of_case);
            if let Some(known) = &case.known {
                let present = case.outcome == CaseOutcome::KnownFail;
                self.add_incident(&id, &format!("{}: {known}", case.name), true, present);
            }
        }
        let Some(benchmark) = &step.benchmark else { return };
        for (level, figures) in &benchmark.levels {
            let Some(median) = figures.median else { continue };
            let name = format!("{}-{level}", benchmark.benchmark).to_lowercase();
            let mut of_level = test(self.origin, &name, "DONE");
            of_level["number"] = json!({ "value": median, "unit": benchmark.unit });
            self.tests.push(of_level);
        }
    }

    /// Adds what is known of a test, and whether it was seen.
    fn add_incident(&mut self, test: &str, text: &str, of_code: bool, present: bool) {
        let digest = hex::encode(Sha256::digest(format!("{text} {of_code}")));
        let id = format!("{}:issue/{}", self.origin, &digest[..16]);
        self.issues.entry(id.clone()).or_insert_with(|| {
            let mut issue = json!({
                "id": id, "version": 1, "origin": self.origin, "comment": without_nul(text),
                "culprit": { "code": of_code, "tool": !of_code, "harness": false },
            });
            if let Some(address) = text.split_whitespace().find(|word| is_address(word)) {
                issue["report_url"] = address.into();
            }
            issue
        });
        self.incidents.push(json!({
            "id": format!("{test}/{}", &digest[..16]), "origin": self.origin, "issue_id": id, "issue_version": 1,
            "test_id": test, "present": present,
        }));
    }
}

/// A cell's verdict as KCIDB has it. Whether a limitation is documented, and known results, are in `misc` and in incidents.
fn status(record: &CellRecord) -> &'static str {
    match record.verdict {
        VerdictWord::Pass | VerdictWord::Xfail => "PASS",
        VerdictWord::Xpass if !record.is_trouble() => "PASS",
        VerdictWord::Fail | VerdictWord::Xpass | VerdictWord::Flaky => "FAIL",
        VerdictWord::Skip => "SKIP",
        VerdictWord::Error => "MISS",
    }
}

fn status_of_case(case: &Case) -> &'static str {
    match case.outcome {
        CaseOutcome::Pass => "PASS",
        CaseOutcome::Fail | CaseOutcome::KnownFail => "FAIL",
        CaseOutcome::Skip => "SKIP",
        CaseOutcome::Error => "ERROR",
    }
}

/// The place of a cell in KCIDB's tree of tests.
fn path(cell: &CellName) -> Vec<String> {
    let words = cell.as_str().split('/').map(word);
    std::iter::once("nestmatrix".to_owned()).chain(words).collect()
}

/// A name as one word of a path.
fn word(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let word: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if word.is_empty() { "_".to_owned() } else { word }
}

/// The machine and the levels.
fn environment(overview: &Overview, cell: &OverviewCell) -> Value {
    let record = &cell.record;
    // A merged run names the machines of all its parts.
    let run = overview.runs.get(cell.run).filter(|_| record.run.is_none());
    let machine = run.map(|run| &run.record.machine);
    let comment = machine.map(|machine| format!("{}, {}", machine.system, machine.processor));
    let levels: Map<String, Value> = record
        .levels
        .iter()
        .map(|level| {
            let of_level = json!({
                "required": level.required, "system": level.os, "fidelity": level.fidelity.to_string(),
                "kernel": level.seen.kernel, "qemu": level.seen.qemu, "machine": level.seen.machine, "cpu": level.seen.cpu,
            });
            (level.level.to_string().to_lowercase(), of_level)
        })
        .collect();
    json!({
        "comment": without_nul(&comment.unwrap_or_default()),
        "misc": { "metal": record.metal, "architecture": record.architecture, "levels": levels },
    })
}

fn misc(record: &CellRecord) -> Value {
    json!({
        "verdict": record.verdict.to_string(),
        "known": record.known().map(Known::note),
        "expected": documented(record),
        "document": record.document,
        "claims": claims(record),
        "stage": record.stage,
        "ids": record.ids,
    })
}

/// When the described attempt began.
fn start_of(run_began: &str, record: &CellRecord) -> Option<String> {
    let attempt = record.attempts.get(record.described_index()?)?;
    let began: SystemTime = humantime::parse_rfc3339(run_began).ok()?;
    let start = later(began, attempt.start)?;
    Some(humantime::format_rfc3339_seconds(start).to_string())
}

fn is_address(word: &str) -> bool {
    word.starts_with("https://") || word.starts_with("http://")
}

/// KCIDB's texts have no NUL.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}
