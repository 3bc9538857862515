//! The results of a sweep of CPU models: each model that was booted, and the models that the host can't run.

use std::collections::BTreeMap;

use nestmatrix_vmm::qemu::CpuModel;

use super::style::{Role, Style};
use super::table::{Entry, Line, Table};
use super::text::{one_line, wrapped};
use crate::records::{CellRecord, CpuModels, VerdictWord};

/// The models of a QEMU, with what became of those that were booted.
pub fn cpu_models(models: &CpuModels, records: &[CellRecord], style: &Style) -> String {
    let record_of = |model: &CpuModel| {
        records.iter().find(|record| record.cpu_model.as_deref() == Some(model.name.as_str()))
    };
    let mut table = Table::default();
    let heading = |text: &str| Entry::new(text, Role::Heading);
    let seconds = Entry::right("seconds", Role::Heading);
    table.push(Line::Entries(vec![heading("model"), heading("verdict"), heading("stage"), seconds]));
    let as_it_is = records.iter().find(|record| record.cell == models.cell);
    if let Some(record) = as_it_is {
        table_lines(&mut table, "as its scenario says".to_owned(), record);
    }
    for model in &models.models {
        if let Some(record) = record_of(model) {
            table_lines(&mut table, name(model), record);
        }
    }
    let mut out = String::new();
    if !records.is_empty() {
        out = format!("{}\n", table.render(0, style));
    }
    out.push_str(&rest(models, |model| record_of(model).is_some(), style));
    let tried: Vec<&CellRecord> = models.models.iter().filter_map(record_of).collect();
    out.push_str(&format!("{}\n", wrapped(&summary(models, &tried, as_it_is), 0, 2, style.width)));
    out
}

/// A line for a model that was booted, and what was seen if it did not work.
fn table_lines(table: &mut Table, name: String, record: &CellRecord) {
    let stage = record.stage.map_or(String::new(), |stage| stage.to_string());
    table.push(Line::Entries(vec![
        Entry::new(name, Role::Plain),
        Entry::new(record.verdict.to_string(), Role::Verdict(record.verdict)),
        Entry::new(stage, Role::Plain),
        Entry::right(format!("{:.1}", record.seconds()), Role::Plain),
    ]));
    if let Some(seen) = &record.symptom {
        table.push(Line::Remark(one_line(seen)));
    }
}

/// The models that were not booted, and why.
fn rest(models: &CpuModels, is_booted: impl Fn(&CpuModel) -> bool, style: &Style) -> String {
    let mut out = String::new();
    for model in models.models.iter().filter(|model| model.is_usable() == Some(false)) {
        let missing = model.unavailable_features.as_deref().unwrap_or_default().join(" ");
        let line = one_line(&format!("{}: {missing}", name(model)));
        out.push_str(&format!("  {}\n", wrapped(&line, 2, 4, style.width)));
    }
    if !out.is_empty() {
        out = format!("not usable, for these missing features:\n{out}\n");
    }
    let left = |usable: Option<bool>| {
        let left = models.models.iter().filter(|model| model.is_usable() == usable && !is_booted(model));
        left.map(name).collect::<Vec<_>>()
    };
    let groups =
        [("usable, but not booted", left(Some(true))), ("not reported whether they are usable", left(None))];
    for (what, names) in groups.into_iter().filter(|(_, names)| !names.is_empty()) {
        let text = format!("{what} ({}): {}", names.len(), names.join(", "));
        out.push_str(&format!("{}\n\n", wrapped(&text, 0, 2, style.width)));
    }
    out
}

/// The numbers of models, and what a boot took.
fn summary(models: &CpuModels, tried: &[&CellRecord], as_it_is: Option<&CellRecord>) -> String {
    let usable = models.models.iter().filter(|model| model.is_usable() == Some(true)).count();
    let aliases: usize = models.models.iter().map(|model| model.aliases.len()).sum();
    let mut counts: BTreeMap<VerdictWord, usize> = BTreeMap::new();
    for record in tried {
        *counts.entry(record.verdict).or_default() += 1;
    }
    let verdicts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let mut text = format!(
        "{} has {} CPU models (and {aliases} other names of them), of which {usable} are usable",
        qemu(models),
        models.models.len()
    );
    if !tried.is_empty() {
        text.push_str(&format!("; {} booted: {}", tried.len(), verdicts.join(", ")));
    }
    let restored = tried.iter().filter(|record| record.restored.is_some() && record.stage.is_none());
    let mut restored: Vec<f64> = restored.map(|record| record.seconds()).collect();
    restored.sort_by(f64::total_cmp);
    let median = restored.get(restored.len() / 2);
    let cold = as_it_is.filter(|record| record.restored.is_none() && record.stage.is_none());
    if let (Some(median), Some(cold)) = (median, cold.map(CellRecord::seconds)) {
        text.push_str(&format!(
            "; a boot from the snapshot took {median:.1} s (median), the boot from the beginning {cold:.1} s"
        ));
    }
    text
}

/// `L2's QEMU 10.0.13`, as far as it is known.
fn qemu(models: &CpuModels) -> String {
    let version = models.qemu.as_ref().and_then(|version| version.split_whitespace().next());
    let machine = models.machine.as_ref().map_or(String::new(), |machine| format!(" ({machine})"));
    one_line(&format!(
        "the QEMU of {}{}{machine}",
        models.level,
        version.map_or(String::new(), |v| format!(", {v}"))
    ))
}

/// The name of a model with its other names.
fn name(model: &CpuModel) -> String {
    let deprecated = if model.deprecated { " (deprecated)" } else { "" };
    let others = match model.aliases.is_empty() {
        true => String::new(),
        false => format!(" = {}", model.aliases.join(", ")),
    };
    format!("{}{others}{deprecated}", model.name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(
        model: Option<&str>,
        verdict: &str,
        symptom: Option<&str>,
        seconds: f64,
        restored: bool,
    ) -> CellRecord {
        let snapshot = json!({"key": "0".repeat(64), "level": "l1", "saved": "2026-03-01T20:15:09Z"});
        let name = model.map_or(String::new(), |model| format!("_cpu-{}", model.to_lowercase()));
        let record = json!({
            "cell": format!("s/amd/a/b/c{name}"), "scenario": "s", "document": "d", "claims": [], "architecture": "amd",
            "tier": "supported", "expectation": {"outcome": "works"}, "verdict": verdict, "levels": [], "steps": [],
            "cpu_model": model, "stages": [], "stage": symptom.map(|_| "l2-boot"), "symptom": symptom,
            "restored": restored.then_some(snapshot),
            "attempts": [{"start": 1.0, "end": 1.0 + seconds, "verdict": verdict, "from": null, "symptom": null,
                          "cpu_seconds": 1.0, "peak_memory_mib": 1}],
        });
        serde_json::from_value(record).unwrap()
    }

    fn models() -> CpuModels {
        let models = json!({
            "cell": "s/amd/a/b/c", "level": "l2", "qemu": "10.0.13 (Debian)", "machine": "microvm-machine",
            "models": [
                {"name": "486-v1", "aliases": ["486"], "deprecated": true, "unavailable_features": []},
                {"name": "Denverton-v1", "unavailable_features": ["mpx", "pcid"]},
                {"name": "EPYC-v4", "aliases": ["EPYC"], "unavailable_features": []},
                {"name": "host", "unavailable_features": []},
                {"name": "odd"},
            ],
        });
        serde_json::from_value(models).unwrap()
    }

    #[test]
    fn a_sweep_lists_each_model_once() {
        let records = [
            record(None, "pass", None, 24.25, false),
            record(Some("EPYC-v4"), "pass", None, 8.125, true),
            record(Some("486-v1"), "fail", Some("missing CPU feature: lm \u{1b}[2J"), 3.0, true),
        ];
        insta::assert_snapshot!(cpu_models(&models(), &records, &Style::plain()));
    }

    #[test]
    fn a_list_has_no_verdicts() {
        insta::assert_snapshot!(cpu_models(&models(), &[], &Style::plain()));
    }
}
