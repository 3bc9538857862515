//! The details of each cell as JSON. The page's script shows them when the reader opens the cell.

use maud::{Markup, PreEscaped, html};
use serde_json::{Value, json};

use crate::records::{CellRecord, LevelRecord};
use crate::report::cell::{attempts, documented, observed, tiers};
use crate::report::command::again;
use crate::report::host_changes;
use crate::report::layout::{Layout, Placed, Severity, in_full};
use crate::report::matrix::ran;
use crate::report::text::number;
use crate::reproduce::SCRIPT;
use crate::scenario::Coverage;
use nestmatrix_model::LevelNumber;
use nestmatrix_stack::{BenchmarkRecord, Case, Contact, LevelFigures};

use super::contradictions::against;
use super::head::{class, machine};
use super::text;

/// A `script` element with JSON for each cell, and one with the texts that the filter searches.
pub(super) fn cells(layout: &Layout<'_>) -> Markup {
    let cells = layout.overview.cells.iter().enumerate();
    let index: Vec<String> = cells.clone().map(|placed| searched(layout, placed)).collect();
    html! {
        script #index type="application/json" { (PreEscaped(text::json(&index))) }
        @for placed in cells {
            script type="application/json" id={ "c" (placed.0) } { (PreEscaped(text::json(&cell(layout, placed)))) } "\n"
        }
    }
}

/// The text that the filter searches, in lower case, the verdict first.
fn searched(layout: &Layout<'_>, (_, cell): Placed<'_>) -> String {
    let record = &cell.record;
    let systems = layout.systems(cell);
    let of_levels = record.levels.iter().flat_map(|level| {
        let seen = &level.seen;
        [Some(ran(level)), seen.kernel.clone(), seen.qemu.clone(), seen.cpu.clone()].into_iter().flatten()
    });
    let mut words = vec![
        record.verdict.to_string(),
        record.cell.to_string(),
        Severity::of(cell).note().to_owned(),
        record.document.clone(),
        tiers([record]),
        record.metal.map_or(String::new(), |metal| metal.to_string()),
        observed(record).unwrap_or_default(),
    ];
    for word in systems.into_iter().chain(of_levels) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    text::shown(&words.join(" ")).to_lowercase()
}

fn cell(layout: &Layout<'_>, (_, cell): Placed<'_>) -> Value {
    let (record, overview) = (&cell.record, layout.overview);
    let run = overview.runs.get(cell.run).map(|run| &run.record);
    let scenario = layout.matrix.scenarios().iter().find(|known| known.name == record.scenario);
    let stages = record.stages.iter().map(|time| json!([time.stage.to_string(), time.start, time.end]));
    let steps = record.steps.iter().map(|step| {
        json!({
            "name": text::shown(&step.name), "on": step.on.to_string(), "do": text::shown(&step.action),
            "run": step.run.as_deref().map(text::shown), "status": step.status, "output": text::shown(&step.output),
            "figures": step.benchmark.iter().flat_map(figures).collect::<Vec<_>>(),
            "cases": step.suite.iter().flat_map(|suite| suite.cases.iter().map(case)).collect::<Vec<_>>(),
        })
    });
    let host_changes = host_changes(&record.host_changes);
    let others = cell.others.iter().map(|other| {
        let seen = other.symptom.as_deref().map(text::shown);
        json!([other.verdict, text::shown(&other.run), other.stage.map(|stage| stage.to_string()), seen])
    });
    json!({
        "cell": record.cell,
        "title": scenario.map(|scenario| text::shown(&scenario.title)),
        "verdict": record.verdict,
        "severity": class(Severity::of(cell)),
        "note": Severity::of(cell).note(),
        "stage": record.stage.map(|stage| stage.to_string()),
        "level": record.level.map(|level| level.to_string()),
        "symptom": record.symptom.as_deref().map(text::shown),
        "documented": text::shown(&documented(record)),
        "known": known(record).as_deref().map(text::shown),
        "cpu_model": record.cpu_model.as_deref().map(text::shown),
        "tier": tiers([record]),
        "metal": record.metal.map(|metal| metal.to_string()),
        "seconds": (!record.attempts.is_empty()).then(|| record.seconds()),
        "attempts": attempts(record),
        "levels": record.levels.iter().map(level).collect::<Vec<_>>(),
        "stages": stages.collect::<Vec<_>>(),
        "steps": steps.collect::<Vec<_>>(),
        "host_changes": host_changes.lines().map(|line| text::shown(line.trim())).collect::<Vec<_>>(),
        "evidence": evidence(record),
        "restored": record.restored.as_ref().map(|from| json!([from.level.to_string(), text::shown(&from.saved)])),
        "claims": claims(layout, record),
        "again": text::shown(&again(overview, cell)),
        "reproducer": cell.file(overview, SCRIPT).map(|path| text::shown(&path.display().to_string())),
        "folder": overview.folder(cell).map(|folder| text::shown(&folder.display().to_string())),
        "run": text::shown(overview.run_of(cell)),
        "machine": run.map(|run| machine(&run.machine)),
        "others": others.collect::<Vec<_>>(),
    })
}

/// The figures of a benchmark, a line for each level.
fn figures(benchmark: &BenchmarkRecord) -> Vec<String> {
    let line = |(level, of_level): (&LevelNumber, &LevelFigures)| {
        let LevelFigures { tool, figures, median, missing, .. } = of_level;
        let tool = tool.as_ref().map_or(String::new(), |tool| format!(" ({tool})"));
        let all = figures.iter().map(|figure| number(*figure)).collect::<Vec<_>>().join(", ");
        let seen = match (median, missing) {
            (_, Some(why)) => why.clone(),
            (Some(median), None) => format!("{} {}, of {all}", number(*median), benchmark.unit),
            (None, None) => "no figure".to_owned(),
        };
        text::shown(&format!("{level}: {seen}{tool}"))
    };
    benchmark.levels.iter().map(line).collect()
}

/// A test case: name, outcome, what was seen, and where its failure is described.
fn case(case: &Case) -> Value {
    let shown = |text: &Option<String>| text.as_deref().map(text::shown);
    json!([text::shown(&case.name), case.outcome, shown(&case.said), shown(&case.known)])
}

/// What its scenario knows about it, whatever the verdict is.
fn known(record: &CellRecord) -> Option<String> {
    let stale = record.expectation.known_stale().map(ToString::to_string);
    let flaky = || record.known_flaky.as_ref().map(ToString::to_string);
    stale.or_else(|| record.expectation.known_wrong().map(ToString::to_string)).or_else(flaky)
}

fn level(level: &LevelRecord) -> Value {
    let seen = &level.seen;
    let shown = |text: &Option<String>| text.as_deref().map(text::shown);
    let image = level.image.as_ref().map(|image| {
        let digest: String = image.digest.chars().take(12).collect();
        text::shown(&format!("{} {} {digest}", image.recipe, image.product))
    });
    json!({
        "level": level.level.to_string(),
        "required": text::shown(&level.required),
        "ran": text::shown(&ran(level)),
        "why": shown(&level.fidelity_reason),
        "image": image,
        "kernel": shown(&seen.kernel),
        "qemu": shown(&seen.qemu),
        "machine": shown(&seen.machine),
        "system": shown(&seen.system),
        "disk": level.disk.as_ref().map(|disk| text::shown(&disk.to_string())),
        "sha256": level.disk.as_ref().map(|disk| text::shown(&disk.medium_sha256)),
        "changes": level.disk.iter().flat_map(|disk| &disk.changes).map(|change| text::shown(change)).collect::<Vec<_>>(),
        "uefi": level.uefi.as_ref().map(|uefi| text::shown(&uefi.to_string())),
        "cpu": shown(&seen.cpu),
        "hardware": hardware(level),
        "reached": traffic(level),
        "nested": shown(&seen.nested),
        "missing": seen.missing_features.iter().map(|flag| text::shown(flag)).collect::<Vec<_>>(),
        "console": seen.last_lines.iter().map(|line| text::shown(line)).collect::<Vec<_>>(),
    })
}

/// Its CPUs, its memory and its TPM.
fn hardware(level: &LevelRecord) -> Option<String> {
    let (cpus, memory) = (level.seen.cpus?, level.seen.memory_mib?);
    let tpm = level.seen.tpm.map_or(String::new(), |version| format!(", TPM {version}"));
    Some(format!("{cpus} {}, {memory} MiB{tpm}", if cpus == 1 { "CPU" } else { "CPUs" }))
}

/// What it tried to reach in its network.
fn traffic(level: &LevelRecord) -> Option<String> {
    let traffic = level.seen.traffic.as_ref()?;
    let line = |contact: &Contact| {
        let Contact { protocol, address, port, sent_bytes, received_bytes, answered } = contact;
        let port = port.map(|port| format!(" port {port}")).unwrap_or_default();
        let answered = if *answered { "answered" } else { "not answered" };
        format!("{protocol} {address}{port}: {answered}, {sent_bytes} bytes sent, {received_bytes} received")
    };
    let mut lines: Vec<String> = traffic.contacts.iter().map(line).collect();
    lines.extend(traffic.incomplete.then(|| "the record is not complete".to_owned()));
    Some(if lines.is_empty() { "nothing".to_owned() } else { lines.join("; ") })
}

/// The evidence, as pairs of a name and a value.
fn evidence(record: &CellRecord) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    let mut row = |name: String, value: String| rows.push([text::shown(&name), text::shown(&value)]);
    if let Some(guest_of) = &record.guest_of {
        let what = format!("{}, by {}", guest_of.name, guest_of.evidence());
        row(format!("the machine, which was {}, shows that it is a guest of", guest_of.level), what);
    }
    let Some(evidence) = record.evidence.as_ref() else { return rows };
    let of_levels = |member: &str| evidence[member].as_object().cloned().unwrap_or_default();
    if let Some(nonce) = evidence["nonce"].as_str() {
        row("returned nonce".into(), nonce.into());
    }
    if let Some(hypervisor) = evidence["report"]["hypervisor"].as_str() {
        row("hypervisor of the innermost level".into(), hypervisor.into());
    }
    for (level, kvm) in of_levels("kvm") {
        row(
            format!("KVM of {}'s QEMU", level.to_uppercase()),
            if kvm["enabled"] == true { "enabled" } else { "off" }.into(),
        );
    }
    for (level, cpu) in of_levels("cpus") {
        let required = cpu["required"].as_object().cloned().unwrap_or_default();
        let features: Vec<String> = required
            .iter()
            .map(|(name, given)| format!("{name} {}", if given == true { "present" } else { "missing" }))
            .collect();
        if !features.is_empty() {
            row(format!("features that {} requires", level.to_uppercase()), features.join(", "));
        }
    }
    for (level, machine) in of_levels("machines") {
        let hardware = &machine["hardware"];
        let members = ["disabled", "set", "devices"].into_iter().filter_map(|member| {
            let entries = hardware[member].as_object()?;
            let entry = |(name, value): (&String, &Value)| match value {
                Value::Bool(on) if member == "disabled" => {
                    format!("{name} {}", if *on { "on" } else { "off" })
                }
                Value::Bool(there) => format!("{name} {}", if *there { "present" } else { "missing" }),
                other => format!("{name}={}", other.as_str().unwrap_or_default()),
            };
            Some(entries.iter().map(entry).collect::<Vec<_>>())
        });
        let mut parts: Vec<String> = members.flatten().collect();
        parts.extend((hardware["huge_pages"] == true).then(|| "memory in huge pages".to_owned()));
        if let Some(cpus) = hardware["cpus"].as_u64().filter(|cpus| *cpus > 0) {
            parts.insert(0, if cpus == 1 { "1 CPU".to_owned() } else { format!("{cpus} CPUs") });
        }
        if !parts.is_empty() {
            row(format!("hardware of {}", level.to_uppercase()), parts.join(", "));
        }
    }
    for (member, what) in [("nested_runs", "nested entries"), ("exits", "exits")] {
        for (level, growth) in of_levels(member) {
            let counter = growth["counter"].as_str().unwrap_or_default();
            let value = format!("{} → {} ({counter})", growth["before"], growth["after"]);
            row(format!("{what} counted by {}", level.to_uppercase()), value);
        }
    }
    if evidence["l0_counters_unreadable"] == true {
        let level = evidence["this_machine"].as_str().unwrap_or("l0").to_uppercase();
        row(format!("{level}'s counters"), "not readable".into());
    }
    if evidence["l0_nested_runs_uncounted"] == true {
        let level = evidence["this_machine"].as_str().unwrap_or("l0").to_uppercase();
        row(format!("nested entries counted by {level}"), "its kernel has no counter".into());
    }
    if evidence["emulator_is_l0"] == true {
        row("L0".into(), "the emulator itself".into());
    }
    rows
}

/// The claims that a cell tests, with their text and the claims that contradict them.
fn claims(layout: &Layout<'_>, record: &CellRecord) -> Vec<Value> {
    let claim = |claim: &String| {
        let name = in_full(claim, &record.document);
        let known = layout.claim(&name);
        let against: Vec<[String; 2]> = against(layout, &record.document, &[claim].into_iter().collect())
            .into_iter()
            .map(|(claim, about)| [text::shown(&claim), text::shown(&about)])
            .collect();
        json!({
            "claim": text::shown(&name),
            "section": known.map(|claim| text::shown(&claim.section)),
            "text": known.map(|claim| text::shown(&claim.text)),
            "tier": known.map(|claim| claim.tier),
            "coverage": layout.coverage_of(&name).map(Coverage::text),
            "against": against,
        })
    };
    record.claims.iter().map(claim).collect()
}
