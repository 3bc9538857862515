//! Finished runs, in formats that other programs read, and as a page (which xtask/tests/command_line_report.rs opens in a
//! browser).
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod report_fixtures;

use std::path::Path;

use nestmatrix::disposable_host::HostChange;
use nestmatrix::records::{
    CellMutation, CellRecord, MergedRun, MutantOutcome, MutantResult, Original, Overview, PastRun, Purpose,
    Rule, VerdictWord,
};
use nestmatrix::report::{
    Origin, Style, html, json, junit_of, kcidb, ktap, markdown, matrix as matrix_after, tap, tmt,
};
use nestmatrix::scenario::Matrix;
use nestmatrix_model::Fidelity;
use proptest::prelude::*;
use report_fixtures::{
    OF_EVERY_FIDELITY, came_back, cells, every_verdict, from_disk, known_stale, known_wrong, limited,
    outcome, past_run, record, skipped, stopped, with_console, with_systems,
};
use rstest::rstest;
use serde_json::Value;

const CELL: &str = "rhel-preview/amd/rhel-10/rhel-10/rhel-10";

/// What a guest and a scenario could write to forge something.
const HOSTILE: &str = "</script><script>alert(1)</script><!-- | ` `` ``` # TODO @all \\ \x1b[2J \u{202e}exe.gnp \u{2028}\u{200b}\n...\nBail out!\n|";

fn matrix() -> Matrix {
    cells("\"rhel 10\"", "\"rhel 10\"", "\"rhel 10\"").0
}

/// The run with these cells, which began on this day of a month.
fn run(day: u32, cells: Vec<CellRecord>) -> PastRun {
    let name = format!("2025-11-{day:02}T22-39-41Z");
    let mut run = past_run(format!("results/{name}"), outcome(cells, 192, false));
    run.record.began = format!("2025-11-{day:02}T22:39:41Z");
    run.record.run = name;
    run
}

fn overview(runs: Vec<PastRun>) -> Overview {
    Overview::new(runs, &matrix())
}

fn all_verdicts() -> Overview {
    let mut records = every_verdict().records;
    let stale = limited(record("limits", CELL, VerdictWord::Xpass, 9.0), "l1-boot", "hangs");
    records.push(known_stale(stale, "fixed"));
    records.extend(turned());
    overview(vec![run(21, records)])
}

/// A claim that is known to be wrong, one that is no longer wrong, and a limitation that came back.
fn turned() -> [CellRecord; 3] {
    let cell = |name: &str, verdict| record("limits", &CELL.replace("amd", name), verdict, 9.0);
    let wrong = |cell| known_wrong(cell, "l1-boot", "hangs", "never worked");
    [
        wrong(stopped(cell("intel", VerdictWord::Fail), "l1-boot", "hangs")),
        wrong(cell("arm", VerdictWord::Pass)),
        came_back(cell("power9", VerdictWord::Fail), "l1-boot", "hangs", "fixed"),
    ]
}

fn hostile() -> Overview {
    let cell = stopped(record("limits", CELL, VerdictWord::Fail, 9.0), "l1-boot", HOSTILE);
    let mut cell = with_console(cell, 1, &[HOSTILE, "```"]);
    cell.levels[1].seen.qemu = Some(HOSTILE.into());
    cell.levels[2].os = HOSTILE.into();
    overview(vec![run(21, vec![cell])])
}

#[test]
fn a_run_as_markdown() {
    insta::assert_snapshot!(markdown(&all_verdicts(), &matrix()));
}

#[test]
fn every_format_says_what_a_level_from_a_disk_booted() {
    let cell = from_disk(stopped(record("limits", CELL, VerdictWord::Fail, 9.0), "l2-check", "no agent"));
    let overview = overview(vec![run(21, vec![cell])]);
    let innermost = |text: &str| {
        let words = ["disk", "uefi", "system", "kernel", "medium", "prepared", "reported"];
        let about = text.lines().filter(|line| line.contains("rhel-10.0") || line.contains("ovmf"));
        let about = about
            .chain(text.lines().filter(|line| words.iter().any(|word| line.contains(&format!("l2.{word}")))));
        about
            .map(str::trim)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join("\n")
    };
    let parts = [
        ("Markdown", innermost(&markdown(&overview, &matrix()))),
        ("TAP", innermost(&tap(&overview))),
        ("JUnit", innermost(&junit_of(&overview).unwrap())),
    ];
    insta::assert_snapshot!(parts.map(|(format, text)| format!("{format}:\n{text}\n")).join("\n"));
    let whole: Value = serde_json::from_str(&json(&overview).unwrap()).unwrap();
    let level = &whole["cells"][0]["levels"][2];
    assert_eq!(level["disk"]["medium"], "rhel-10.0");
    assert_eq!(level["disk"]["medium_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(
        (&level["uefi"]["secure_boot"], &level["uefi"]["version"]),
        (&true.into(), &"ovmf 2025.02-8".into())
    );
    assert_eq!(level["system"], "rhel 10.0");
    let page = html(&overview, &matrix());
    assert!(page.contains("prepared with 2 changes") && page.contains("masked kdump.service"), "{page}");
    // What the disk's system reported while it was prepared can't forge anything.
    assert!(!page.contains('\u{1b}') && !page.contains("<b>\""), "{page}");
}

#[test]
fn a_run_as_tap() {
    insta::assert_snapshot!(tap(&all_verdicts()));
}

#[test]
fn a_run_for_kcidb() {
    insta::assert_snapshot!(kcidb(&all_verdicts(), &Origin::default()).unwrap());
}

#[rstest]
#[case::pass(record("limits", CELL, VerdictWord::Pass, 9.0), "PASS", &[])]
#[case::fail(stopped(record("limits", CELL, VerdictWord::Fail, 9.0), "l1-boot", "panic"), "FAIL", &[])]
#[case::error(stopped(record("limits", CELL, VerdictWord::Error, 9.0), "l1-boot", "full"), "MISS", &[])]
#[case::xfail(limited(record("limits", CELL, VerdictWord::Xfail, 9.0), "l1-boot", "hangs"), "PASS", &[])]
#[case::news(limited(record("limits", CELL, VerdictWord::Xpass, 9.0), "l1-boot", "hangs"), "FAIL", &[])]
#[case::known(
    known_stale(limited(record("limits", CELL, VerdictWord::Xpass, 9.0), "l1-boot", "hangs"), "fixed"),
    "PASS",
    &[(false, true)]
)]
#[case::known_wrong(turned()[0].clone(), "FAIL", &[(true, true)])]
#[case::known_wrong_no_longer(turned()[1].clone(), "PASS", &[(true, false)])]
#[case::came_back(turned()[2].clone(), "FAIL", &[])]
#[case::skip(skipped("limits", CELL, "no image"), "SKIP", &[])]
fn a_verdict_is_a_status_of_kcidb_and_what_is_known_an_incident(
    #[case] cell: CellRecord,
    #[case] status: &str,
    // Whether the kernel is at fault, and whether it was seen.
    #[case] incidents: &[(bool, bool)],
) {
    let overview = overview(vec![run(21, vec![cell])]);
    let value: Value = serde_json::from_str(&kcidb(&overview, &"lab_1".parse().unwrap()).unwrap()).unwrap();
    let test = &value["tests"][0];
    assert_eq!(test["status"], status);
    assert!(test["id"].as_str().unwrap().starts_with("lab_1:2025-11-21T22-39-41Z/rhel-preview/"), "{test}");
    let list = |name: &str| value[name].as_array().unwrap().clone();
    let seen = list("incidents").into_iter().map(|incident| {
        assert_eq!(incident["test_id"], test["id"]);
        let issue = list("issues").into_iter().find(|issue| issue["id"] == incident["issue_id"]).unwrap();
        (issue["culprit"]["code"].as_bool().unwrap(), incident["present"].as_bool().unwrap())
    });
    assert_eq!(seen.collect::<Vec<_>>(), incidents);
    let build = list("builds").into_iter().find(|build| build["id"] == test["build_id"]).unwrap();
    assert!(list("checkouts").iter().any(|checkout| checkout["id"] == build["checkout_id"]), "{value:#}");
}

#[test]
fn the_page_has_what_a_cell_changed_on_its_host() {
    let change = HostChange {
        what: "/etc/modprobe.d/kvm.conf".into(),
        found: None,
        left: Some("options kvm_amd nested=0</script>".into()),
        restored: true,
    };
    let cell = CellRecord { host_changes: vec![change], ..record("limits", CELL, VerdictWord::Pass, 9.0) };
    let page = html(&overview(vec![run(21, vec![cell])]), &matrix());
    let begin =
        r#""host_changes":["/etc/modprobe.d/kvm.conf: found missing, left \"options kvm_amd nested=0"#;
    assert!(page.contains(begin), "{page}");
}

#[test]
fn the_ids_of_other_systems_are_properties() {
    let ids = [("polarion-testcase-id".to_owned(), "NEST-7".to_owned())].into();
    let cell = CellRecord { ids, ..record("limits", CELL, VerdictWord::Pass, 9.0) };
    let overview = overview(vec![run(21, vec![cell])]);
    let property = "<property name=\"polarion-testcase-id\" value=\"NEST-7\"/>";
    assert!(junit_of(&overview).unwrap().contains(property));
    let value: Value = serde_json::from_str(&kcidb(&overview, &Origin::default()).unwrap()).unwrap();
    assert_eq!(value["tests"][0]["misc"]["ids"]["polarion-testcase-id"], "NEST-7");
    let results: Value = serde_json::from_str(&tmt(&overview, Path::new("/runs")).unwrap().text).unwrap();
    assert_eq!(results[0]["ids"]["polarion-testcase-id"], "NEST-7");
    assert_eq!(results[0]["ids"]["document"], "limits");
}

#[rstest]
#[case("")]
#[case("Lab")]
#[case("a:b")]
fn an_origin_is_one_that_kcidb_takes(#[case] text: &str) {
    assert!(text.parse::<Origin>().is_err());
}

#[test]
fn a_run_as_json_has_the_runs_and_the_cells() {
    let value: Value = serde_json::from_str(&json(&all_verdicts()).unwrap()).unwrap();
    assert_eq!(value["format"], 1);
    assert_eq!(value["runs"][0]["machine"]["cores"], 2);
    assert_eq!(value["cells"].as_array().unwrap().len(), 10);
    let stale = &value["cells"].as_array().unwrap().iter().find(|cell| cell["cell"] == CELL).unwrap();
    assert_eq!(stale["run"], "2025-11-21T22-39-41Z");
    assert_eq!(stale["expectation"]["known_stale"]["note"], "fixed");
    assert_eq!(stale["folder"], format!("results/2025-11-21T22-39-41Z/cells/{CELL}"));
    assert_eq!((&value["verdicts"]["xpass"], &value["verdicts"]["known_stale"]), (&2.into(), &1.into()));
    let turned = ["righted", "known_wrong", "came_back"].map(|member| value["verdicts"][member].as_u64());
    assert_eq!(turned, [Some(1); 3]);
}

/// A cell whose levels boot these systems.
fn booted(systems: &[(&str, Fidelity, Option<&str>)]) -> CellRecord {
    with_systems(record("limits", CELL, VerdictWord::Pass, 9.0), systems)
}

#[test]
fn marks_show_how_near_each_system_is_and_a_legend_explains_those_that_occur() {
    let cell = booted(&OF_EVERY_FIDELITY);
    let overview = |cell: &CellRecord| overview(vec![run(21, vec![cell.clone()])]);
    let terminal = |cell: &CellRecord| matrix_after(&outcome(vec![cell.clone()], 9, false), &Style::plain());
    let overview_of_all = overview(&cell);
    let junit = junit_of(&overview_of_all).unwrap();
    let systems: Vec<&str> = junit.lines().filter(|line| line.contains("\"l1.")).map(str::trim).collect();
    let parts =
        [terminal(&cell), markdown(&overview_of_all, &matrix()), tap(&overview_of_all), systems.join("\n")];
    insta::assert_snapshot!(parts.join("\n----\n"));
    let page = html(&overview_of_all, &matrix());
    for legend in [
        "<dt>almalinux-10.0~</dt><dd>is used for a system that is not available: a rebuild of RHEL 10.0</dd>",
        "<dt>debian-13*</dt><dd>stands in for a system that is not available: same 6.12 kernel line</dd>",
    ] {
        assert!(page.contains(legend), "{legend}");
    }
    assert!(page.contains(r#""ran":"rhel-10.0""#), "the system itself has no mark");

    let product = booted(&[OF_EVERY_FIDELITY[0]; 3]);
    for text in [terminal(&product), markdown(&overview(&product), &matrix()), tap(&overview(&product))] {
        assert!(!text.contains('~') && !text.contains('*'), "{text}");
    }
}

#[test]
fn every_format_shows_the_model_of_a_cell_of_a_sweep() {
    let name = format!("{CELL}_cpu-epyc-v4");
    let cell = CellRecord {
        cell: name.parse().unwrap(),
        cpu_model: Some("EPYC-v4".into()),
        verdict: VerdictWord::Fail,
        ..booted(&[OF_EVERY_FIDELITY[0]; 3])
    };
    let overview = overview(vec![run(21, vec![cell.clone()])]);
    let again = format!("cargo xtask cpu-models '{CELL}' --models EPYC-v4");
    let page = markdown(&overview, &matrix());
    assert!(
        page.contains(", EPYC-v4") && page.contains("- CPU model: `EPYC-v4`") && page.contains(&again),
        "{page}"
    );
    assert!(html(&overview, &matrix()).contains(r#""cpu_model":"EPYC-v4""#));
    let terminal = matrix_after(&outcome(vec![cell], 9, false), &Style::plain());
    assert!(terminal.contains(", EPYC-v4"), "{terminal}");
    assert!(tap(&overview).contains(&name) && json(&overview).unwrap().contains("\"EPYC-v4\""));
    let junit = junit_of(&overview).unwrap();
    assert!(junit.contains(r#"<property name="cpu-model" value="EPYC-v4"/>"#), "{junit}");
}

/// The test point of a run of only this cell.
fn test_point(cell: CellRecord) -> String {
    let text = tap(&overview(vec![run(21, vec![cell])]));
    text.lines().find(|line| line.contains("ok 1 - ")).unwrap().to_owned()
}

#[rstest]
#[case::pass(record("limits", CELL, VerdictWord::Pass, 9.0), "ok 1 - CELL")]
#[case::fail(stopped(record("limits", CELL, VerdictWord::Fail, 9.0), "l1-boot", "panic"), "not ok 1 - CELL")]
#[case::error(stopped(record("limits", CELL, VerdictWord::Error, 9.0), "l1-boot", "full"), "not ok 1 - CELL")]
#[case::xfail(
    limited(record("limits", CELL, VerdictWord::Xfail, 9.0), "l1-boot", "hangs # TODO"),
    r"not ok 1 - CELL # TODO documented: stops at l1-boot (hangs \# TODO)"
)]
#[case::news(limited(record("limits", CELL, VerdictWord::Xpass, 9.0), "l1-boot", "hangs"), "not ok 1 - CELL")]
#[case::known(
    known_stale(limited(record("limits", CELL, VerdictWord::Xpass, 9.0), "l1-boot", "hangs"), "fixed"),
    "ok 1 - CELL # TODO known stale since Linux 5.8, seen 2026-11-22: fixed"
)]
#[case::known_wrong(
    turned()[0].clone(),
    "not ok 1 - INTEL # TODO known wrong since Linux 6.1, stops at l1-boot (hangs), seen 2026-11-22: never worked (kernel.org, bug 1)"
)]
#[case::known_wrong_no_longer(
    turned()[1].clone(),
    "ok 1 - ARM # TODO known wrong since Linux 6.1, stops at l1-boot (hangs), seen 2026-11-22: never worked (kernel.org, bug 1)"
)]
#[case::came_back(turned()[2].clone(), "not ok 1 - POWER9")]
#[case::skip(skipped("limits", CELL, "no image"), "ok 1 - CELL # SKIP no image")]
fn a_verdict_is_what_taps_readers_make_of_it(#[case] cell: CellRecord, #[case] expected: &str) {
    let expected =
        ["INTEL", "ARM", "POWER9"].into_iter().fold(expected.replace("CELL", CELL), |text, name| {
            text.replace(name, &CELL.replace("amd", &name.to_lowercase()))
        });
    assert_eq!(test_point(cell), expected);
}

#[test]
fn what_has_no_verdict_is_in_taps_plan() {
    let mut cut_off = run(21, vec![record("limits", CELL, VerdictWord::Pass, 9.0)]);
    let missing = CELL.replace("amd", "intel");
    cut_off.planned = Some(vec![CELL.parse().unwrap(), missing.parse().unwrap()]);
    let overview = overview(vec![cut_off]);
    let text = tap(&overview);
    assert!(text.contains("\n1..2\n") && text.contains(&format!("\n# no verdict: {missing}\n")), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), 1);
    assert!(markdown(&overview, &matrix()).contains(&format!("- `{missing}`\n")));
    let value: Value = serde_json::from_str(&kcidb(&overview, &Origin::default()).unwrap()).unwrap();
    let test = &value["tests"][1];
    assert!(test["status"] == "MISS" && test["comment"].as_str().unwrap().starts_with(&missing), "{value:#}");
    assert!(html(&overview, &matrix()).contains("Without a verdict, because the run did not finish: 1"));
}

#[test]
fn a_guest_cannot_write_into_tap() {
    let text = tap(&hostile());
    assert!(!text.contains(['\x1b', '\u{202e}', '\u{2028}']), "{text:?}");
    for line in text.lines() {
        let own =
            ["TAP version 14", "1..1", "# ", "not ok 1 - ", "  "].iter().any(|own| line.starts_with(own));
        assert!(own, "{line}");
    }
    assert_eq!(text.lines().filter(|line| line.trim() == "...").count(), 1);
    for value in
        text.lines().filter_map(|line| line.split_once(": \"").map(|(_, value)| format!("\"{value}")))
    {
        serde_json::from_str::<String>(&value).unwrap();
    }
}

#[test]
fn a_guest_cannot_write_into_markdown() {
    let text = markdown(&hostile(), &matrix());
    assert!(!text.contains(['\x1b', '\u{202e}']), "{text:?}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| amd")).collect();
    assert_eq!(rows.len(), 1);
    let columns = rows[0].replace("\\\\", "").replace("\\|", "").matches('|').count();
    assert_eq!(columns, 8, "{}", rows[0]);
    // Outside of code, no HTML is left. The fences of spans and blocks of code are longer than any in the code.
    assert!(text.contains("````text\n") && text.trim_end().ends_with("\n````"), "{text}");
    let outside: String =
        text.split("````").enumerate().filter(|(place, _)| place % 2 == 0).map(|(_, t)| t).collect();
    assert!(!outside.contains("<script>"), "{outside}");
}

#[test]
fn a_guest_cannot_write_into_the_page() {
    let (own, hostile) = (html(&all_verdicts(), &matrix()), html(&hostile(), &matrix()));
    let scripts = |page: &str, cells: usize| page.matches("<script").count() - cells;
    assert_eq!(scripts(&own, 10), scripts(&hostile, 1));
    assert_eq!(hostile.matches("</script").count(), hostile.matches("<script").count());
    assert!(!hostile.contains(['\x1b', '\u{202e}', '\u{2028}', '\u{200b}']), "{hostile}");
    assert!(hostile.contains("&lt;script&gt;alert(1)"));
}

#[test]
fn the_page_asks_for_nothing_and_runs_nothing_but_its_own() {
    let page = html(&all_verdicts(), &matrix());
    assert!(page.contains("content=\"default-src 'none'; style-src 'sha256-"));
    assert!(!page.contains("unsafe-inline") && !page.contains(" style=\"") && !page.contains("http://"));
    let references =
        page.matches(" src=").count() + page.matches("url(").count() + page.matches("@import").count();
    assert_eq!((references, page.matches("https://").count()), (0, 0));
}

#[test]
fn without_scripts_the_page_has_the_matrix_with_its_words() {
    let page = html(&all_verdicts(), &matrix());
    for text in ["<b>pass</b>", "<b>fail</b>", "<b>xfail</b>", "<b>xpass</b>", "<b>skip</b>", "<b>error</b>"]
    {
        assert!(page.contains(text), "{text}");
    }
    assert!(page.contains("RHEL 10.0+ <small>debian-13*</small>"), "{page}");
    assert!(page.contains("kernel panic: VFS: Unable to mount root fs on unknown-block(0,0)"));
    assert!(page.contains("4 of 9 cells that ran need attention"));
    for (class, note) in [
        ("known-fail", "known"),
        ("came-back", "known to be gone, came back"),
        ("righted", "known wrong no longer"),
    ] {
        assert!(page.contains(&format!("class=\"cell {class}\"")), "{class}");
        assert!(page.contains(&format!("<i>{note}</i>")), "{note}");
    }
}

/// A cell with a mutant of each of these outcomes.
fn mutations(outcomes: &[MutantOutcome]) -> CellMutation {
    let result = |outcome: &MutantOutcome| MutantResult {
        mutation: format!("custom-{}", outcome.word().replace(' ', "-")),
        damage: HOSTILE.into(),
        rule: Some(Rule::NotGreen),
        outcome: *outcome,
        accepted: (*outcome == MutantOutcome::Accepted).then(|| HOSTILE.into()),
        verdict: Some(VerdictWord::Pass),
        stage: None,
        symptom: Some(HOSTILE.into()),
        seconds: 3.0,
        records: Some("mutants/m/cells/c".into()),
    };
    CellMutation {
        cell: CELL.parse().unwrap(),
        original: Original { verdict: VerdictWord::Pass, stage: None, symptom: None, green: true },
        results: outcomes.iter().map(result).collect(),
        unused: vec![HOSTILE.into()],
        complete: false,
    }
}

#[test]
fn survivors_come_first_and_a_newer_run_of_the_same_mutants_counts() {
    let [survived, accepted, killed] =
        [MutantOutcome::Survived, MutantOutcome::Accepted, MutantOutcome::Killed];
    let of_day = |day, outcomes: &[MutantOutcome]| PastRun {
        mutations: Some(vec![mutations(outcomes)]),
        ..run(day, vec![record("limits", CELL, VerdictWord::Pass, 9.0)])
    };
    let overview =
        overview(vec![of_day(21, &[survived, survived]), of_day(22, &[survived, accepted, killed])]);
    let value: Value = serde_json::from_str(&json(&overview).unwrap()).unwrap();
    assert_eq!(value["mutations"]["tally"]["survived"], 1, "of the newer run");
    let records = &value["mutations"]["cells"][0]["results"][0]["records"];
    assert_eq!(records, "results/2025-11-22T22-39-41Z/mutants/m/cells/c");

    let text = markdown(&overview, &matrix());
    let (_, section) = text.split_once("\n## Mutations\n").unwrap();
    assert!(
        section.starts_with(
            "\n3 mutants of 1 cell: 1 killed, 1 survived, 1 accepted; 1 cell has mutants without a verdict\n"
        ),
        "{section}"
    );
    let order =
        ["**survived**", "| accepted |", "| 1 | 1 | 1 | 0 | 0 |"].map(|part| section.find(part).unwrap());
    assert!(order.is_sorted(), "{section}");
    assert!(
        !section.contains("<script>") && section.lines().all(|line| !line.starts_with("```")),
        "{section}"
    );

    let page = html(&overview, &matrix());
    let heading = "as expected or known; 1 mutant needs attention; 1 cell has mutants without a verdict</h1>";
    assert!(page.contains(heading), "{page}");
    let (_, section) = page.split_once("<section class=\"mutations\"").unwrap();
    let (section, _) = section.split_once("</section>").unwrap();
    let order = ["No verdict showed this damage", "The scenario accepts", "<b>1 need attention</b>"];
    assert!(order.map(|part| section.find(part).unwrap()).is_sorted(), "{section}");
    assert!(!section.contains("<script>") && !section.contains('\u{202e}'), "{section}");
    assert!(section.contains(", not all of them booted"));
}

#[test]
fn a_mutation_run_that_was_killed_before_its_mutants_had_an_outcome_says_so() {
    let killed = || {
        let mut run = run(21, vec![record("limits", CELL, VerdictWord::Pass, 9.0)]);
        run.record.purpose = Purpose::Mutation;
        run
    };
    let pending = "the mutants have no outcome yet: resume the run";
    let marked = |run: PastRun| {
        let overview = overview(vec![run]);
        let value: Value = serde_json::from_str(&json(&overview).unwrap()).unwrap();
        let in_json = value["runs"][0]["mutants_pending"].as_bool().unwrap();
        let in_text = markdown(&overview, &matrix()).contains(&format!("; **{pending}**"));
        let in_page = html(&overview, &matrix()).contains(&format!("; {pending}</h1>"));
        [in_json, in_text, in_page]
    };
    assert_eq!(marked(killed()), [true; 3]);
    assert_eq!(marked(PastRun { mutations: Some(Vec::new()), ..killed() }), [false; 3]);
    let of_mutants = PastRun { folder: "results/r/mutants/m".into(), ..killed() };
    assert_eq!(marked(of_mutants), [false; 3], "its own cells are the mutants");

    let not_green = CellMutation {
        original: Original { verdict: VerdictWord::Fail, stage: None, symptom: None, green: false },
        complete: true,
        results: Vec::new(),
        ..mutations(&[])
    };
    let page = html(&overview(vec![PastRun { mutations: Some(vec![not_green]), ..killed() }]), &matrix());
    assert!(page.contains("; 1 cell is not green without damage</h1>"), "{page}");
}

#[test]
fn the_newest_run_counts_and_the_others_are_shown_beside_it() {
    let failed = stopped(record("limits", CELL, VerdictWord::Fail, 9.0), "l1-boot", "panic");
    let other = CELL.replace("amd", "intel");
    let older = run(3, vec![failed, record("limits", &other, VerdictWord::Pass, 9.0)]);
    let newer =
        run(4, vec![record("limits", CELL, VerdictWord::Pass, 9.0), skipped("limits", &other, "no image")]);
    for runs in [vec![older.clone(), newer.clone()], vec![newer.clone(), older.clone(), newer]] {
        let overview = overview(runs);
        assert_eq!(overview.runs.len(), 2);
        let seen: Vec<(&str, VerdictWord, &str)> = overview
            .cells
            .iter()
            .map(|cell| (cell.record.cell.as_str(), cell.record.verdict, overview.run_of(cell)))
            .collect();
        // A skip in a newer run says nothing about the cell.
        let expected = [
            (CELL, VerdictWord::Pass, "2025-11-04T22-39-41Z"),
            (other.as_str(), VerdictWord::Pass, "2025-11-03T22-39-41Z"),
        ];
        assert_eq!(seen, expected);
        let gave_way = &overview.cells[0].others[0];
        assert_eq!((gave_way.run.as_str(), gave_way.verdict), ("2025-11-03T22-39-41Z", VerdictWord::Fail));
        let text = junit_of(&overview).unwrap();
        assert!(text.contains("name=\"run\" value=\"2025-11-03T22-39-41Z\""), "{text}");
        assert_eq!(text.matches("<testcase").count(), 2);
    }
}

#[test]
fn of_a_merged_run_the_worst_counts() {
    let seen_by = |run: &str, verdict| {
        let cell = record("limits", CELL, verdict, 9.0);
        CellRecord { run: Some(run.into()), ..cell }
    };
    let cells = vec![seen_by("one", VerdictWord::Pass), seen_by("two", VerdictWord::Fail)];
    let mut merged = run(4, cells);
    merged.record.merged = Vec::<MergedRun>::new();
    let overview = overview(vec![merged]);
    assert_eq!(overview.run_of(&overview.cells[0]), "two");
    assert_eq!(overview.cells[0].others[0].run, "one");
    assert!(html(&overview, &matrix()).contains("disputed"));
}

#[test]
fn no_cell_is_lost_though_two_stand_in_one_place() {
    let mut twin =
        record("limits", &CELL.replace("rhel-10/rhel-10/rhel-10", "a/b/c"), VerdictWord::Fail, 9.0);
    let first = record("limits", CELL, VerdictWord::Pass, 9.0);
    twin.levels.clone_from(&first.levels);
    let page = html(&overview(vec![run(4, vec![first, twin])]), &matrix());
    assert_eq!(page.matches("<button class=\"cell ").count(), 2);
}

#[test]
fn a_run_without_cells_is_a_report_too() {
    let empty = overview(vec![run(4, Vec::new())]);
    assert!(tap(&empty).contains("\n1..0\n"));
    assert!(markdown(&empty, &matrix()).starts_with("# nestmatrix: no verdicts\n"));
    assert!(html(&empty, &matrix()).contains("Nothing ran"));
    assert!(json(&empty).is_ok() && junit_of(&empty).is_ok());
}

/// Where the values in a document are (RFC 6901).
fn pointers(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    match value {
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), into));
        }
        Value::Object(members) => {
            let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
            members.iter().for_each(|(key, value)| pointers(value, &format!("{at}/{}", escaped(key)), into));
        }
        _ => {}
    }
}

/// What a record of another machine may have anywhere.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::from(HOSTILE)),
        Just(Value::Null),
        Just(Value::from("")),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_of_a_stranger_is_refused_or_reported_and_forges_nothing(which: usize, at: usize, to in any_value()) {
        let records = [every_verdict().records, vec![from_disk(record("limits", CELL, VerdictWord::Pass, 9.0))]].concat();
        let mut changed = serde_json::to_value(&records[which % records.len()]).unwrap();
        let mut places = Vec::new();
        pointers(&changed, "", &mut places);
        *changed.pointer_mut(&places[at % places.len()]).unwrap() = to;
        let Ok(stranger) = serde_json::from_value::<CellRecord>(changed) else { return Ok(()) };

        let overview = overview(vec![run(21, vec![stranger])]);
        let page = html(&overview, &matrix());
        prop_assert!(!page.contains("<script>alert") && !page.contains('\u{1b}'), "{page}");
        let test_anything = tap(&overview);
        prop_assert!(!test_anything.lines().any(|line| line.starts_with("Bail out!")), "{test_anything}");
        for text in [test_anything, markdown(&overview, &matrix()), junit_of(&overview).unwrap()] {
            prop_assert!(!text.contains('\u{1b}'), "{text}");
        }
        let for_kernels = ktap(&overview);
        prop_assert!(!for_kernels.contains('\u{1b}'), "{for_kernels}");
        let for_tmt = tmt(&overview, Path::new("results")).unwrap().text;
        for text in [for_tmt, json(&overview).unwrap(), kcidb(&overview, &Origin::default()).unwrap()] {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        }
    }
}
