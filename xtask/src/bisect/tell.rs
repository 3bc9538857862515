//! What a search says: each trial as soon as it is known, all of them at the end, and what was found.

use std::process::ExitCode;

use nestmatrix::records::VerdictWord;
use nestmatrix::report;
use nestmatrix::trials::{Finding, TriedVersion, changes};
use nestmatrix_images::Offers;
use nestmatrix_vmm::guest::printable;
use serde_json::{Value, json};

use super::choices::Choice;
use super::search::{Search, Version};
use crate::cli::Format;
use crate::exit::ERROR;
use crate::kernels;
use crate::run_matrix::{say, style_of};

impl Search<'_> {
    pub(super) fn list(&self, choices: &[Choice]) {
        let shown = |choice: &Choice| printable(&choice.name);
        let width = choices.iter().map(|one| shown(one).len()).max().unwrap_or(0);
        for choice in choices {
            let (version, place) = (&choice.name, choice.replacement.place());
            say(&match self.arguments.format {
                Format::Text => format!("{:<width$}  {}\n", shown(choice), printable(&place)),
                Format::Json => format!("{}\n", json!({ "version": version, "from": place })),
            });
        }
    }

    /// One line, as soon as it is known.
    pub(super) fn tell_trial(&self, tried: &TriedVersion) {
        match self.arguments.format {
            Format::Text => {
                let verdict = match (tried.verdict, &tried.not_tried) {
                    (Some(verdict), None) => verdict.to_string(),
                    _ => "not tried".to_owned(),
                };
                let stage = tried.stage.map_or(String::new(), |stage| format!(" at {stage}"));
                let line =
                    format!("{} ({}): {verdict}{stage}, {:.1} s", tried.version, tried.from, tried.seconds);
                eprintln!("{}", kernels::escaped(&line));
            }
            Format::Json => say(&format!("{}\n", json!({ "tried": tried }))),
        }
    }

    pub(super) fn show(&self, versions: &[Version]) {
        if self.arguments.format == Format::Text {
            let tried: Vec<&TriedVersion> = versions.iter().filter_map(|(_, tried)| tried.as_ref()).collect();
            if !tried.is_empty() {
                say(&format!("\n{}\n", report::tried(&tried, &style_of(&std::io::stdout()))));
            }
        }
    }

    /// The same version came out once so and once otherwise, so what was found hangs on which of them is believed.
    pub(super) fn not_certain(&self, version: &str, verdicts: &[Option<VerdictWord>]) -> ExitCode {
        match self.arguments.format {
            Format::Text => {
                let word = |verdict: &Option<VerdictWord>| {
                    verdict.map_or_else(|| "no verdict".to_owned(), |verdict| verdict.to_string())
                };
                let words: Vec<String> = verdicts.iter().map(word).collect();
                let version = printable(version);
                say(&format!(
                    "not certain: {version} came to {}; this machine may be too busy, or the cell does not always come out \
                     alike\n",
                    words.join(" and then to ")
                ));
            }
            Format::Json => {
                let found = json!({ "found": "nothing certain", "version": version, "verdicts": verdicts });
                say(&format!("{found}\n"));
            }
        }
        ExitCode::from(ERROR)
    }

    pub(super) fn found(&self, finding: &Finding, versions: &[Version]) -> ExitCode {
        let style = style_of(&std::io::stdout());
        match self.arguments.format {
            Format::Text if self.arguments.all => say(&report::changes(versions, &style)),
            Format::Text => say(&report::finding(finding, versions, &style)),
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
                say(&format!("{found}\n"));
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
                say(&format!("{found}\n"));
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

/// Says where versions were looked for, and where they could not be.
pub(super) fn offers(offers: &Offers) {
    if !offers.suites.is_empty() {
        eprintln!("suites: {}", offers.suites.join(", "));
    }
    for (suite, why) in &offers.unreachable {
        eprintln!("not to be had: {suite}: {}", kernels::escaped(why));
    }
}
