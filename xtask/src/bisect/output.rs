//! Prints a search: each trial when it ends, a table of all trials, and the result.

use std::process::ExitCode;

use nestmatrix::report::{self, Entry, Line, Role, Table};
use nestmatrix::trials::{Behaviour, Finding, TriedVersion, changes};
use nestmatrix_images::Offers;
use nestmatrix_vmm::guest::printable;
use serde_json::{Value, json};

use super::candidates::Candidate;
use super::search::{Search, Version};
use crate::cli::Format;
use crate::exit::ERROR;
use crate::kernels;
use crate::terminal::{note, print, style_of};

impl Search<'_> {
    pub(super) fn print_candidates(&self, candidates: &[Candidate]) {
        let mut table = Table::default();
        for candidate in candidates {
            let (version, place) = (&candidate.name, candidate.replacement.place());
            match self.arguments.format {
                Format::Text => table.push(Line::Entries(vec![
                    Entry::new(printable(version), Role::Plain),
                    Entry::new(printable(&place), Role::Plain),
                ])),
                Format::Json => print(&format!("{}\n", json!({ "version": version, "from": place }))),
            }
        }
        print(&table.render(0, &style_of(&std::io::stdout())));
    }

    /// Prints the line of a trial.
    pub(super) fn print_trial(&self, tried: &TriedVersion) {
        match self.arguments.format {
            Format::Text => {
                let behaviour = tried.behaviour();
                let verdict = behaviour.map_or_else(|| "not tested".to_owned(), |it| it.to_string());
                // The cell may have stopped because of other cases.
                let of_cell = tried.verdict.filter(|_| tried.case.is_some());
                let of_cell = of_cell.map_or(String::new(), |verdict| format!(", cell {verdict}"));
                let stage = tried.stage.map_or(String::new(), |stage| format!(" at {stage}"));
                let line = format!(
                    "{} ({}): {verdict}{of_cell}{stage}, {:.1} s",
                    tried.version, tried.from, tried.seconds
                );
                note!("{}", kernels::escaped(&line));
            }
            Format::Json => print(&format!("{}\n", json!({ "tried": tried }))),
        }
    }

    /// Prints a table of all trials.
    pub(super) fn print_table(&self, versions: &[Version]) {
        if self.arguments.format == Format::Text {
            let tried: Vec<&TriedVersion> = versions.iter().filter_map(|(_, tried)| tried.as_ref()).collect();
            if !tried.is_empty() {
                print(&format!(
                    "\n{}\n",
                    report::tried(&tried, self.case_name().as_deref(), &style_of(&std::io::stdout()))
                ));
            }
        }
    }

    /// Prints that two trials of a version disagreed.
    pub(super) fn print_inconclusive(&self, version: &str, behaviours: &[Option<Behaviour>]) -> ExitCode {
        match self.arguments.format {
            Format::Text => {
                let none = if self.case().is_some() { "no outcome" } else { "no verdict" };
                let word = |behaviour: &Option<Behaviour>| {
                    behaviour.map_or_else(|| none.to_owned(), |behaviour| behaviour.to_string())
                };
                let words: Vec<String> = behaviours.iter().map(word).collect();
                let version = printable(version);
                print(&format!(
                    "inconclusive: repeated runs of {version} disagreed: {}; this machine may be too busy, or the cell is \
                     flaky\n",
                    words.join(" and then ")
                ));
            }
            Format::Json => {
                let words: Vec<Value> = behaviours.iter().map(|it| word(*it)).collect();
                let key = if self.case().is_some() { "outcomes" } else { "verdicts" };
                let found = json!({ "found": "nothing certain", "version": version, key: words });
                self.print_result(found);
            }
        }
        ExitCode::from(ERROR)
    }

    /// Prints the result, and returns the exit code.
    pub(super) fn print_finding(&self, finding: &Finding, versions: &[Version]) -> ExitCode {
        let style = style_of(&std::io::stdout());
        match self.arguments.format {
            Format::Text if self.arguments.all => {
                print(&report::changes(versions, self.case_name().as_deref(), &style))
            }
            Format::Text => print(&report::finding(finding, versions, self.case_name().as_deref(), &style)),
            Format::Json if self.arguments.all => {
                let tried = || versions.iter().filter_map(|(_, tried)| tried.as_ref());
                let version = |one: &TriedVersion| self.side(&one.version, Some(one));
                let changes: Vec<Value> = changes(tried())
                    .into_iter()
                    .map(|(before, first)| json!({ "before": version(before), "first": version(first) }))
                    .collect();
                let not_tried = tried().filter(|one| one.not_tried.is_some()).map(|one| &one.version);
                let not_tried: Vec<&String> = not_tried.collect();
                let found = json!({ "found": "changes", "changes": changes, "not_tried": not_tried });
                self.print_result(found);
            }
            Format::Json => {
                let name = |at: &usize| versions[*at].0.as_str();
                let tried = |at: &usize| versions[*at].1.as_ref();
                let side = |at: &usize| self.side(name(at), tried(at));
                let found = match finding {
                    Finding::Changed { before, first, unknown } => json!({
                        "found": "change",
                        "before": side(before),
                        "first": side(first),
                        "not_tried": unknown.iter().map(name).collect::<Vec<_>>(),
                    }),
                    Finding::Same { lowest, highest } => json!({
                        "found": "no change", self.key(): word(tried(lowest).and_then(TriedVersion::behaviour)),
                        "lowest": name(lowest), "highest": name(highest),
                    }),
                    Finding::TooFew => json!({ "found": "nothing" }),
                };
                self.print_result(found);
            }
        }
        match finding {
            Finding::TooFew => ExitCode::from(4),
            _ if self.arguments.all => ExitCode::SUCCESS,
            Finding::Changed { .. } => ExitCode::SUCCESS,
            Finding::Same { .. } => ExitCode::from(1),
        }
    }

    /// The case that the search is about, if it is not about the verdict.
    pub(super) fn case(&self) -> Option<&str> {
        self.arguments.case.as_deref()
    }

    /// The JSON member for what is compared.
    fn key(&self) -> &'static str {
        if self.case().is_some() { "outcome" } else { "verdict" }
    }

    /// A side of a change: the cell's verdict too, if the search is about a case.
    fn side(&self, version: &str, tried: Option<&TriedVersion>) -> Value {
        let mut side = json!({ "version": version, "verdict": tried.and_then(|tried| tried.verdict) });
        side[self.key()] = word(tried.and_then(TriedVersion::behaviour));
        side
    }

    /// Prints a result as JSON, with the case that it is about.
    fn print_result(&self, mut found: Value) {
        if let Some(case) = self.case_name() {
            found["case"] = case.into();
        }
        print(&format!("{found}\n"));
    }
}

fn word(behaviour: Option<Behaviour>) -> Value {
    behaviour.map_or(Value::Null, |behaviour| behaviour.to_string().into())
}

/// Prints the suites that were searched, and those that are not available.
pub(super) fn print_offers(offers: &Offers) {
    if !offers.suites.is_empty() {
        note!("suites: {}", offers.suites.join(", "));
    }
    for (suite, why) in &offers.unreachable {
        note!("suite {suite} is not available: {}", kernels::escaped(why));
    }
}
