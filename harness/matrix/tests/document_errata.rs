//! What runs show about the documents, in numbers and as a text for their authors. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod report_fixtures;

use std::collections::BTreeMap;

use nestmatrix::document_errata::{DocumentErrata, ErrataOfDocument, Settled, Standing};
use nestmatrix::records::{CellRecord, PastRun};
use nestmatrix::report::document_errata;
use nestmatrix::scenario::{Expectation, Matrix, Tier};
use nestmatrix_model::{Fidelity, Word as _};
use report_fixtures::{OF_EVERY_FIDELITY, matrix_folder, outcome, past_run};
use rstest::rstest;
use serde_json::{Value, json};

const SYSTEMS: &str = r#"
[[system]]
id = "rhel"
name = "RHEL"

[[system]]
id = "almalinux"
name = "AlmaLinux"

[[stand-in]]
for = "rhel 10"
image = "debian-13"
reason = "same 6.12 kernel line"
"#;

const MANUAL: &str = r#"
id = "manual"
title = "Limits of nesting"
product = "RHEL 10"
section = "22.2"
language = "en"

[[claim]]
id = "amd"
section = "Architectures"
tier = "technology-preview"
text = "An AMD system works as L0."

[[claim]]
id = "l1-rhel-10"
section = "Systems"
tier = "technology-preview"
text = "RHEL 10 works at L1."

[[claim]]
id = "migration"
section = "Features"
tier = "unsupported"
text = "On AMD, VMs cannot be migrated."

[[claim]]
id = "promise"
section = "Support"
tier = "supported"
text = "All of it is supported."
untestable = "Support is a promise."

[[claim]]
id = "l3"
section = "Features"
tier = "untested"
text = "L3 does not work."
"#;

const OTHER: &str = r#"
id = "autre"
title = "Limites"
product = "RHEL 9"
section = "1.4"
language = "fr"

[[claim]]
id = "migration-works"
section = "Migration"
tier = "supported"
text = "VMs can be migrated."
"#;

const CONTRADICTIONS: &str = r#"
[[contradiction]]
claims = ["manual/migration", "autre/migration-works"]
text = "The one migrates, the other does not."

[[contradiction]]
claims = ["manual/promise", "manual/l3"]
text = "All is supported, and L3 does not work."

[[outside-contradiction]]
claims = ["manual/promise", "autre/migration-works"]
outside = "the handbook"
source = "its section 4, 2026-01-02"
text = "The handbook excludes both."
"#;

const PREVIEW: &str = r#"
name = "preview"
title = "RHEL on RHEL"
document = "manual"
claims = ["amd", "l1-rhel-10"]
tier = "technology-preview"
[axes]
architecture = ["amd"]
l0 = ["rhel 10.0"]
l1 = ["rhel 10.0", "rhel 10.1"]
"#;

const MIGRATION: &str = r#"
name = "migration"
title = "L1 is migrated, on AMD"
document = "manual"
claims = ["migration"]
tier = "unsupported"
note = "to a second QEMU on the same L0"
[axes]
architecture = ["amd"]
l0 = ["rhel 10.0"]
l1 = ["rhel 10.0"]
[[step]]
name = "migrate L1"
after = "l1-check"
on = "l1"
do = "migrate"
[expect]
outcome = "stops"
from = "step-1"
no-symptom = "none is known"
[expect.known-stale]
since = "Linux 5.8 and QEMU 5.1"
seen = "2026-11-20"
note = "the nested state is migrated since then"
"#;

const OTHER_MIGRATION: &str = r#"
name = "other-migration"
title = "L1 is migrated, on POWER9"
document = "autre"
claims = ["migration-works"]
tier = "supported"
[axes]
architecture = ["power9"]
l0 = ["rhel 10.0"]
l1 = ["rhel 10.0"]
"#;

const L3: &str = r#"
name = "l3"
title = "L3 in L2"
document = "manual"
claims = ["l3"]
tier = "untested"
note = "unlike preview, it has an L3"
[axes]
architecture = ["amd"]
l0 = ["rhel 10.0"]
l1 = ["rhel 10.0"]
l2 = ["rhel 10.0"]
[expect]
outcome = "stops"
from = "l2-launch"
no-symptom = "none is known"
[expect.known-stale]
since = "Linux 5.10"
seen = "2026-11-21"
note = "L3 runs"
"#;

fn matrix() -> Matrix {
    let folder = matrix_folder::with_files([
        ("systems.toml", SYSTEMS),
        ("contradictions.toml", CONTRADICTIONS),
        ("documents/manual.toml", MANUAL),
        ("documents/autre.toml", OTHER),
        ("s/preview.toml", PREVIEW),
        ("s/migration.toml", MIGRATION),
        ("s/other-migration.toml", OTHER_MIGRATION),
        ("s/l3.toml", L3),
    ]);
    Matrix::load(folder.path()).unwrap()
}

const WORKS: &str = "preview/amd/rhel-10.0/rhel-10.0";
const NEWER: &str = "preview/amd/rhel-10.0/rhel-10.1";
const MIGRATED: &str = "migration/amd/rhel-10.0/rhel-10.0";

/// A record of a cell of `matrix`, or of a cell that no longer exists.
fn record(cell: &str, verdict: &str) -> Value {
    let matrix = matrix();
    let known = matrix.cells().iter().find(|known| known.name.as_str() == cell);
    let document = known.map_or("manual", |cell| &cell.document);
    let verdict = serde_json::from_value(verdict.into()).unwrap();
    let mut record = json!(CellRecord {
        claims: known.map_or(vec!["gone".to_owned()], |cell| cell.claims.clone()),
        tier: known.map_or(Tier::Supported, |cell| cell.tier),
        tiers: BTreeMap::new(),
        expectation: known.map_or(Expectation::WORKS, |cell| cell.expectation.clone()),
        ..report_fixtures::record(document, cell, verdict, 60.0)
    });
    for level in record["levels"].as_array_mut().unwrap() {
        level["image"] = json!({"recipe": "debian-13-amd64", "product": "hypervisor", "digest": "d"});
        level["kernel"] = json!("6.12.57");
        level["qemu"] = json!("10.0.13");
    }
    record
}

/// The same for a stack that stopped because of this symptom.
fn stopped(cell: &str, stage: &str, symptom: Value, said: &str) -> Value {
    let mut record = record(cell, "fail");
    record["stage"] = json!(stage);
    record["level"] = json!("l1");
    record["symptom"] = json!(said);
    record["symptom_data"] = symptom;
    record
}

fn panicked(cell: &str) -> Value {
    stopped(cell, "l1-boot", json!({"kind": "guest-panicked", "level": "l1"}), "QEMU: guest panicked")
}

fn refused(cell: &str) -> Value {
    let no_feature = json!({"kind": "missing-cpu-feature", "level": "l1", "feature": "svm", "model": "host", "nested": null});
    stopped(cell, "l1-launch", no_feature, "missing CPU feature: svm (model host)")
}

/// A run that began on this day.
fn run(day: u32, cells: &[Value]) -> PastRun {
    let cells = cells.iter().map(|cell| serde_json::from_value(cell.clone()).unwrap()).collect();
    let name = format!("2026-11-{day:02}T20-00-00Z");
    let mut run = past_run(&name, outcome(cells, 60, false));
    run.record.began = format!("2026-11-{day:02}T20:00:00Z");
    run.record.run = name;
    run
}

fn errata(runs: &[PastRun]) -> DocumentErrata {
    DocumentErrata::new(runs, &matrix(), &|_| Vec::new())
}

fn of<'e>(errata: &'e DocumentErrata, id: &str) -> &'e ErrataOfDocument {
    errata.documents.iter().find(|document| document.id == id).unwrap()
}

/// For each entry its claims, and for each of its tests how often the result differed from the document, and how often there
/// was one.
fn counts(document: &ErrataOfDocument) -> Vec<(String, Vec<(usize, usize)>)> {
    let claims = |entry: &nestmatrix::document_errata::Entry| {
        entry.claims.iter().map(|claim| claim.id.clone()).collect::<Vec<_>>().join(" ")
    };
    document
        .entries
        .iter()
        .map(|entry| (claims(entry), entry.tests.iter().map(|test| test.counts()).collect()))
        .collect()
}

fn text(errata: &DocumentErrata, id: &str) -> String {
    let mut errata = errata.clone();
    errata.documents.retain(|document| document.id == id);
    document_errata(&errata)
}

#[test]
fn an_author_reads_what_was_seen_how_often_and_on_which_systems() {
    let first = run(21, &[record(MIGRATED, "xpass"), refused(NEWER), record(WORKS, "pass")]);
    let second = run(22, &[record(MIGRATED, "xpass"), record(NEWER, "pass")]);
    insta::assert_snapshot!(document_errata(&errata(&[second, first])));
}

#[test]
fn what_several_runs_saw_adds_up() {
    let runs = [run(21, &[record(MIGRATED, "xpass")]), run(22, &[record(MIGRATED, "xfail")])];
    let errata = errata(&runs);
    assert_eq!(counts(of(&errata, "manual")), [("migration".to_owned(), vec![(1, 2)])]);
    assert!(text(&errata, "manual").contains("varies: with the same stack"), "{}", text(&errata, "manual"));
}

#[test]
fn a_run_that_is_named_twice_or_was_merged_counts_once() {
    let own = run(21, &[record(MIGRATED, "xpass")]);
    let mut merged = own.clone();
    merged.record.merged = vec![nestmatrix::records::MergedRun::from(&own)];
    merged.record.run = "2026-11-23T20-00-00Z".into();
    merged.cells[0].run = Some(own.record.run.clone());
    let errata = errata(&[own.clone(), merged, own]);
    assert_eq!(counts(of(&errata, "manual")), [("migration".to_owned(), vec![(1, 1)])]);
    assert_eq!(errata.runs.len(), 1);
}

#[rstest]
#[case::errors("error")]
#[case::skips("skip")]
fn a_document_is_not_charged_with(#[case] verdict: &str) {
    let errata = errata(&[run(21, &[record(WORKS, verdict), record(MIGRATED, verdict)])]);
    let manual = of(&errata, "manual");
    assert!(manual.entries.is_empty());
    assert_eq!(manual.standings.count(Standing::DidNotHold), 0);
    assert_eq!(manual.standings.no_result + manual.standings.skipped, 2);
    assert!(text(&errata, "manual").contains("No statement of this document has a result in these runs."));
}

#[test]
fn a_limitation_that_came_back_speaks_for_the_document() {
    let mut back = stopped(MIGRATED, "step-1", json!({"kind": "guest-panicked", "level": "l1"}), "panicked");
    back["as_described"] = json!(true);
    let errata = errata(&[run(21, &[back])]);
    assert!(of(&errata, "manual").entries.is_empty());
    assert_eq!(of(&errata, "manual").standings.held, 1);
}

#[test]
fn a_system_from_a_disk_is_named_as_one() {
    let text_of = |record| text(&errata(&[run(21, &[record])]), "manual");
    let mut installed = refused(WORKS);
    let level = &mut installed["levels"][1];
    level["os"] = json!("rhel-10.0-disk");
    level["fidelity"] = json!("product");
    level["disk"] = json!({
        "medium": "rhel-10.0", "medium_sha256": "d", "system": null, "kernel": null, "qemu": null, "changes": [],
    });
    let text = text_of(installed);
    assert!(text.contains("RHEL 10.0, installed on a disk"), "{text}");
    let about = "Systems \"installed on a disk\" are not small";
    assert!(text.contains(about) && !text_of(refused(WORKS)).contains(about), "{text}");
}

#[test]
fn what_an_emulator_may_explain_is_apart() {
    let errata = errata(&[run(21, &[panicked(WORKS), record(MIGRATED, "xpass")])]);
    let in_doubt: Vec<bool> = of(&errata, "manual").entries.iter().map(|entry| entry.in_doubt).collect();
    assert_eq!(in_doubt, [false, true]);
    let mut native = panicked(WORKS);
    native["metal"] = json!("native");
    assert!(!of(&self::errata(&[run(21, &[native])]), "manual").entries[0].in_doubt);
    assert!(text(&errata, "manual").contains("2. Statements that may not hold\n"));
}

#[rstest]
#[case::product(&[Fidelity::Product], "with the documented systems.")]
#[case::rebuild(&[Fidelity::Rebuild], "and only with rebuilds of the documented systems, marked (~).")]
#[case::stand_in(&[Fidelity::StandIn], "and only with systems that stand in for the documented ones, marked (*).")]
#[case::product_and_rebuild(
    &[Fidelity::Product, Fidelity::Rebuild],
    "with the documented systems, and with rebuilds of them, marked (~)."
)]
#[case::rebuild_and_stand_in(
    &[Fidelity::Rebuild, Fidelity::StandIn],
    "and only with rebuilds of the documented systems, marked (~), and systems that stand in for them, marked (*)."
)]
#[case::all(
    Fidelity::ALL,
    "with the documented systems, with rebuilds of them, marked (~), and with others that stand in for them, marked (*)."
)]
fn an_author_reads_how_near_the_systems_were(#[case] fidelities: &[Fidelity], #[case] systems: &str) {
    let of = |(day, fidelity): (u32, &Fidelity)| {
        let mut cell = refused(NEWER);
        let (os, _, reason) = OF_EVERY_FIDELITY.into_iter().find(|(_, of, _)| of == fidelity).unwrap();
        for level in cell["levels"].as_array_mut().unwrap() {
            level["os"] = os.into();
            level["fidelity"] = fidelity.to_string().into();
            level["fidelity_reason"] = json!(reason);
        }
        run(day, &[cell])
    };
    let runs: Vec<PastRun> = (21..).zip(fidelities).map(of).collect();
    let errata = text(&errata(&runs), "manual").split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(errata.contains(&format!("Where: on emulated hardware only, {systems}")), "{errata}");
    let used = |fidelity| fidelities.contains(&fidelity);
    let unsure = "Proposal: try it with the product's own kernel and QEMU.";
    assert_eq!(errata.contains(unsure), !used(Fidelity::Product), "{errata}");
    for (fidelity, level, method) in [
        (Fidelity::Product, ": RHEL 10.0, Linux", None),
        (
            Fidelity::Rebuild,
            ": AlmaLinux 10.0 (~), Linux",
            Some("- AlmaLinux 10.0 was used for RHEL 10.0, RHEL 10.1 (a rebuild of RHEL 10.0)"),
        ),
        (
            Fidelity::StandIn,
            ": Debian 13 (*), Linux",
            Some("- Debian 13 stood in for RHEL 10.0, RHEL 10.1 (same 6.12 kernel line)"),
        ),
    ] {
        assert_eq!(errata.contains(level), used(fidelity), "{level} in {errata}");
        assert!(
            method.is_none_or(|method| errata.contains(method) == used(fidelity)),
            "{method:?} in {errata}"
        );
    }
}

#[test]
fn what_earlier_runs_saw_is_separate() {
    let errata = errata(&[run(21, &[record(MIGRATED, "xpass")])]);
    let manual = of(&errata, "manual");
    assert_eq!(manual.earlier.iter().map(|known| known.scenario.as_str()).collect::<Vec<_>>(), ["l3"]);
    assert!(text(&errata, "manual").contains("Not seen in these runs: they did not include the test."));
}

#[rstest]
#[case::for_the_second(&["xpass"], "pass", Settled::ForOther)]
#[case::for_the_first(&["xfail"], "fail", Settled::ForOwn)]
#[case::not_at_all(&["xfail", "xpass"], "pass", Settled::Open)]
#[case::both(&["xfail"], "pass", Settled::Open)]
fn runs_settle_a_contradiction(#[case] own: &[&str], #[case] other: &str, #[case] settled: Settled) {
    let cell = "other-migration/power9/rhel-10.0/rhel-10.0";
    let other = if other == "fail" { refused(cell) } else { record(cell, other) };
    let mut runs: Vec<PastRun> =
        (21..).zip(own).map(|(day, verdict)| run(day, &[record(MIGRATED, verdict)])).collect();
    runs.push(run(28, &[other]));
    let errata = errata(&runs);
    let dispute =
        of(&errata, "manual").disputes.iter().find(|dispute| dispute.other.document.id == "autre").unwrap();
    assert_eq!(dispute.settled, settled);
    // The other document's author sees it from the other side.
    let mirrored = match settled {
        Settled::ForOwn => Settled::ForOther,
        Settled::ForOther => Settled::ForOwn,
        Settled::Open => Settled::Open,
    };
    assert_eq!(of(&errata, "autre").disputes[0].settled, mirrored);
}

#[test]
fn scenarios_and_documents_that_no_longer_exist_are_marked() {
    let mut old = refused("removed/amd/rhel-10.0/rhel-10.0");
    let mut other = old.clone();
    other["document"] = json!("lost");
    other["cell"] = json!("removed/amd/rhel-10.0/rhel-10.1");
    old["claims"] = json!(["gone"]);
    let errata = errata(&[run(21, &[old, other])]);
    let manual = text(&errata, "manual");
    for text in [
        "The statement `gone`",
        "(this test no longer exists)",
        "this is the result of an earlier version of the test",
    ] {
        assert!(manual.contains(text), "{text}: {manual}");
    }
    assert!(text(&errata, "lost").contains("The statements of this document are no longer recorded"));
}

#[test]
fn a_scenario_that_changed_since_is_not_mixed_with_its_present_form() {
    let mut old = record(MIGRATED, "xpass");
    old["expectation"]["from"] = json!("l1-boot");
    let errata = errata(&[run(21, &[old, record(WORKS, "pass")]), run(22, &[record(MIGRATED, "xpass")])]);
    let stacks = &of(&errata, "manual").entries[0].tests[0].stacks;
    let outdated: Vec<bool> = stacks.iter().map(|stack| stack.newest().unwrap().outdated).collect();
    assert_eq!(outdated, [true, false]);
}

#[test]
fn damaged_stacks_say_nothing() {
    let mut damaged = run(21, &[refused(WORKS)]);
    damaged.record.purpose = nestmatrix::records::Purpose::Mutation;
    let errata = errata(&[damaged]);
    assert!(of(&errata, "manual").entries.is_empty());
    assert!(text(&errata, "manual").contains("its stacks were damaged on purpose"));
}

#[test]
fn the_order_of_the_runs_changes_nothing() {
    let runs = [
        run(21, &[record(MIGRATED, "xpass"), refused(WORKS)]),
        run(22, &[record(MIGRATED, "xpass"), refused(NEWER)]),
    ];
    let [first, second] = runs.clone();
    assert_eq!(document_errata(&errata(&runs)), document_errata(&errata(&[second, first])));
}

#[test]
fn nothing_that_a_guest_writes_acts_on_a_terminal_or_breaks_the_page() {
    let hostile =
        format!("\u{1b}[2J\u{202e}exe\u{200b}\n1. Statements that did not hold\n{}", "x".repeat(5000));
    let errata = errata(&[run(
        21,
        &[stopped(WORKS, "l1-launch", json!({"kind": "guest-panicked", "level": "l1"}), &hostile)],
    )]);
    let text = text(&errata, "manual");
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{200b}']), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(text.lines().filter(|line| *line == "1. Statements that did not hold").count(), 1);
    assert!(text.len() < 8000, "{}", text.len());
}
