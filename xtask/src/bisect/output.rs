//! Prints a search: each trial when it ends, a table of all trials, and the result.

use std::process::ExitCode;

use nestmatrix::records::VerdictWord;
use nestmatrix::report::{self, Entry, Line, Role, Table};
use nestmatrix::trials::{Finding, TriedVersion, changes};
use nestmatrix_images::Offers;
use nestmatrix_vmm::guest::printable;
use serde_json::{Value, json};

use super::candidates::Candidate;
use super::search::{Search, Version};
use crate::cli::Format;
use crate::exit::ERROR;
use crate::kernels;
use crate::terminal::{print, style_of};

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
                let verdict = match (tried.verdict, &tried.not_tried) {
                    (Some(verdict), None) => verdict.to_string(),
                    _ => "not tested".to_owned(),
                };
                let stage = tried.stage.map_or(String::new(), |stage| format!(" at {stage}"));
                let line =
                    format!("{} ({}): {verdict}{stage}, {:.1} s", tried.version, tried.from, tried.seconds);
                eprintln!("{}", kernels::escaped(&line));
            }
            Format::Json => print(&format!("{}\n", json!({ "tried": tried }))),
        }
    }

    /// Prints a table of all trials.
    pub(super) fn print_table(&self, versions: &[Version]) {
        if self.arguments.format == Format::Text {
            let tried: Vec<&TriedVersion> = versions.iter().filter_map(|(_, tried)| tried.as_ref()).collect();
            if !tried.is_empty() {
                print(&format!("\n{}\n", report::tried(&tried, &style_of(&std::io::stdout()))));
            }
        }
    }

    /// Prints that two trials of a version disagreed.
    pub(super) fn print_inconclusive(&self, version: &str, verdicts: &[Option<VerdictWord>]) -> ExitCode {
        match self.arguments.format {
            Format::Text => {
                let word = |verdict: &Option<VerdictWord>| {
                    verdict.map_or_else(|| "no verdict".to_owned(), |verdict| verdict.to_string())
                };
                let words: Vec<String> = verdicts.iter().map(word).collect();
                let version = printable(version);
                print(&format!(
                    "inconclusive: repeated runs of {version} disagreed: {}; this machine may be too busy, or the cell is \
                     flaky\n",
                    words.join(" and then ")
                ));
            }
            Format::Json => {
                let found = json!({ "found": "nothing certain", "version": version, "verdicts": verdicts });
                print(&format!("{found}\n"));
            }
        }
        ExitCode::from(ERROR)
    }

    /// Prints the result, and returns the exit code.
    pub(super) fn print_finding(&self, finding: &Finding, versions: &[Version]) -> ExitCode {
        let style = style_of(&std::io::stdout());
        match self.arguments.format {
            Format::Text if self.arguments.all => print(&report::changes(versions, &style)),
            Format::Text => print(&report::finding(finding, versions, &style)),
            Format::Json if self.arguments.all => {
                let tried = || versions.iter().filter_map(|(_, tried)| tried.as_ref());
                let version = |one: &TriedVersion| json!({ "version": one.version, "verdict": one.verdict });
                let changes: Vec<Value> = changes(tried())
                    .into_iter()
                    .map(|(before, first)| json!({ "before": version(before), "first": version(first) }))
                    .collect();
                let not_tried = tried().filter(|one| one.not_tried.is_some()).map(|one| &one.version);
                let not_tried: Vec<&String> = not_tried.collect();
                let found = json!({ "found": "changes", "changes": changes, "not_tried": not_tried });
                print(&format!("{found}\n"));
            }
            Format::Json => {
                let name = |at: &usize| versions[*at].0.as_str();
                let verdict = |at: &usize| versions[*at].1.as_ref().and_then(|tried| tried.verdict);
                let found = match finding {
                    Finding::Changed { before, first, unknown } => json!({
                        "found": "change",
                        "before": { "version": name(before), "verdict": verdict(before) },
                        "first": { "version": name(first), "verdict": verdict(first) },
                        "not_tried": unknown.iter().map(name).collect::<Vec<_>>(),
                    }),
                    Finding::Same { lowest, highest } => json!({
                        "found": "no change", "verdict": verdict(lowest),
                        "lowest": name(lowest), "highest": name(highest),
                    }),
                    Finding::TooFew => json!({ "found": "nothing" }),
                };
                print(&format!("{found}\n"));
            }
        }
        match finding {
            Finding::TooFew => ExitCode::from(4),
            _ if self.arguments.all => ExitCode::SUCCESS,
            Finding::Changed { .. } => ExitCode::SUCCESS,
            Finding::Same { .. } => ExitCode::from(1),
        }
    }
}

/// Prints the suites that were searched, and those that are not available.
pub(super) fn print_offers(offers: &Offers) {
    if !offers.suites.is_empty() {
        eprintln!("suites: {}", offers.suites.join(", "));
    }
    for (suite, why) in &offers.unreachable {
        eprintln!("suite {suite} is not available: {}", kernels::escaped(why));
    }
}
