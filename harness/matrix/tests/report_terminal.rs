//! What a user reads in the terminal before, during and after a run.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod report_fixtures;

use std::ffi::OsString;

use nestmatrix::records::{CellRecord, VerdictWord};
use nestmatrix::report::{Style, cell_line, matrix, plan, skipped as skipped_cells};
use nestmatrix::run::{Fate, PlannedProfile, RunPlan};
use nestmatrix::scenario::ImageChoice;
use nestmatrix_model::{Architecture, Fidelity};
use nestmatrix_stack::Metal;
use report_fixtures::{
    came_back, cells, every_verdict, known_stale, known_wrong, limited, outcome, record, skipped, stopped,
    with_console,
};
use rstest::rstest;

const TERMINAL: Style = Style { colour: false, width: 80 };
const COLOURED: Style = Style { colour: true, width: 80 };

fn big_plan() -> RunPlan {
    let l1 = r#""rhel 8.8 and later", "rhel 9.2 and later", "rhel 10.0 and later""#;
    let cells = cells(r#""rhel 9.2 and later", "rhel 10.0 and later""#, l1, l1);
    let mut plan = report_fixtures::plan(cells, |_| false);
    let why = "needs svm on L0: this machine has none; needs a usable /dev/kvm, with kvm_amd loaded";
    plan.no_native = vec![(Architecture::Amd, why.into())];
    plan
}

/// Makes escape characters visible.
fn visible(text: &str) -> String {
    text.replace('\x1b', "␛")
}

/// `text` without the escape sequences of colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |out, part| out + part.split_once('m').unwrap().1)
}

#[test]
fn a_plan_shows_metal_stand_ins_and_skips() {
    insta::assert_snapshot!(plan(&big_plan(), 2, false, &TERMINAL));
}

#[test]
fn a_plan_shows_rebuilds_before_stand_ins() {
    let mut plan_of_one =
        report_fixtures::plan(cells(r#""rhel 10""#, r#""rhel 10""#, r#""rhel 10""#), |_| false);
    let Fate::Boots { levels, .. } = &mut plan_of_one.cells[0].fate else { panic!("{plan_of_one:#?}") };
    let (image, reason) = ("almalinux-10.0".into(), Some("a rebuild of RHEL 10.0".into()));
    levels[0].choice = ImageChoice { image, fidelity: Fidelity::Rebuild, reason };
    insta::assert_snapshot!(plan(&plan_of_one, 1, false, &TERMINAL));
}

#[test]
fn the_skipped_cells_of_a_plan_are_listed_by_cause() {
    insta::assert_snapshot!(skipped_cells(&big_plan(), &TERMINAL));
}

#[test]
fn a_plan_where_nothing_can_boot() {
    let plan_of_8 = report_fixtures::plan(cells(r#""rhel 8""#, r#""rhel 8""#, r#""rhel 8""#), |_| false);
    insta::assert_snapshot!(plan(&plan_of_8, 1, false, &Style::plain()));
}

#[test]
fn a_plan_for_both_metals() {
    let cells = cells(r#""rhel 9", "rhel 10""#, r#""rhel 10""#, r#""rhel 10""#);
    let plan_of_2 = report_fixtures::plan(cells, |cell| cell.name.as_str().contains("/rhel-9/"));
    insta::assert_snapshot!(plan(&plan_of_2, 1, false, &TERMINAL));
}

#[test]
fn a_plan_of_one_cell() {
    let cells = cells(r#""rhel 10""#, r#""rhel 10""#, r#""rhel 10""#);
    insta::assert_snapshot!(plan(&report_fixtures::plan(cells, |_| false), 1, false, &TERMINAL));
}

/// The plan of three of nine cells, with this profile of all.
fn plan_of_a_profile(full: Option<&str>) -> RunPlan {
    let l1 = r#""rhel 9", "rhel 10""#;
    let mut plan = report_fixtures::plan(cells(r#""rhel 10""#, l1, r#""rhel 10""#), |_| false);
    let [name, title] = ["default", "one cell of each kind, within a quarter of an hour"].map(str::to_owned);
    plan.profile = Some(PlannedProfile { name, title, of: 9, full: full.map(str::to_owned) });
    plan
}

#[test]
fn a_plan_of_a_profile_shows_its_share_and_how_to_run_all() {
    insta::assert_snapshot!(plan(&plan_of_a_profile(Some("full")), 1, false, &TERMINAL));
    let without = plan(&plan_of_a_profile(None), 1, false, &Style::plain());
    assert!(without.contains("2 of 9 cells; `cargo xtask run-matrix '*'` runs all"), "{without}");
}

#[test]
fn a_plan_of_a_profile_of_all_cells_says_so() {
    let mut all = plan_of_a_profile(Some("full"));
    all.profile = Some(PlannedProfile {
        name: "full".into(),
        title: "all cells".into(),
        of: 2,
        full: Some("full".into()),
    });
    let text = plan(&all, 1, false, &TERMINAL);
    assert!(text.contains("  profile     full: all cells; 2 of 2 cells\n"), "{text}");
}

#[test]
fn a_plan_without_cells() {
    assert_eq!(plan(&RunPlan::default(), 1, false, &TERMINAL), "no cell matches\n");
}

#[test]
fn a_run_with_every_verdict() {
    insta::assert_snapshot!(matrix(&every_verdict(), &TERMINAL));
}

#[test]
fn a_run_with_every_verdict_in_colour() {
    insta::assert_snapshot!(visible(&matrix(&every_verdict(), &COLOURED)));
}

#[test]
fn a_run_on_a_narrow_terminal() {
    insta::assert_snapshot!(matrix(&every_verdict(), &Style { colour: false, width: 50 }));
}

#[test]
fn a_run_without_problems_on_native_metal() {
    let mut records = vec![
        record("limits", "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+", VerdictWord::Pass, 4.5),
        record(
            "limits",
            "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/windows-server-2025",
            VerdictWord::Pass,
            5.25,
        ),
    ];
    for record in &mut records {
        record.metal = Some(Metal::Native);
        record.levels.iter_mut().for_each(|level| level.fidelity = Fidelity::Product);
    }
    insta::assert_snapshot!(matrix(&outcome(records, 10, false), &Style::plain()));
}

/// Limitations that are gone: two that are known, which need no attention, and a new one.
fn gone() -> Vec<CellRecord> {
    let cell = |name, seconds| {
        let record = record("rhel-8-nested-vms", name, VerdictWord::Xpass, seconds);
        limited(record, "l1-launch", "missing CPU feature: svm")
    };
    let note = "KVM gives nesting to guests unless its parameter says otherwise";
    vec![
        known_stale(cell("other-hosts/amd/rhel-9.2+/rhel-8/rhel-8", 30.5), note),
        known_stale(
            cell("other-hosts/amd/rhel-10.0+/rhel-8/rhel-8", 31.0),
            "\x1b[2Jand a note\nof two lines",
        ),
        cell("other-guests/amd/rhel-8/rhel-8/rhel-9.2+", 40.25),
    ]
}

#[test]
fn known_and_new_limitations_that_are_gone_differ() {
    insta::assert_snapshot!(matrix(&outcome(gone(), 102, false), &TERMINAL));
    let lines = |style| gone().iter().map(|record| cell_line(record, &style)).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(lines(Style::plain()));
}

#[test]
fn a_known_limitation_that_is_gone_is_in_the_tally() {
    let text = matrix(&outcome(gone()[..2].to_vec(), 62, false), &TERMINAL);
    assert_eq!(text.lines().last(), Some("2 xpass (known stale) in 1 min 2 s"));
}

/// A claim that is known to be wrong, one that fails in another way, one that is no longer wrong, and a limitation that is
/// back.
fn turned() -> Vec<CellRecord> {
    let cell = |name: &str, verdict| {
        record("rhel-8-nested-vms", &format!("{name}/amd/rhel-8/rhel-8/rhel-8"), verdict, 30.5)
    };
    let wrong = |cell| known_wrong(cell, "l1-boot", "hangs", "never worked");
    let failed = |name| cell(name, VerdictWord::Fail);
    vec![
        wrong(stopped(failed("known"), "l1-boot", "it hangs")),
        CellRecord { as_described: false, ..wrong(stopped(failed("otherwise"), "l2-boot", "kernel panic")) },
        wrong(cell("righted", VerdictWord::Pass)),
        came_back(failed("back"), "l1-boot", "it hangs", "fixed in Linux 5.8"),
    ]
}

#[test]
fn known_and_new_failures_differ() {
    insta::assert_snapshot!(matrix(&outcome(turned(), 102, false), &TERMINAL));
    let lines =
        |style| turned().iter().map(|record| cell_line(record, &style)).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(lines(Style::plain()));
}

#[test]
fn a_run_that_was_interrupted() {
    let records = vec![
        record("limits", "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+", VerdictWord::Pass, 31.2),
        skipped(
            "limits",
            "rhel-10-preview/intel/rhel-10.0+/rhel-10.0+/rhel-10.0+",
            "no way to boot intel stacks yet",
        ),
    ];
    insta::assert_snapshot!(matrix(&outcome(records, 40, true), &TERMINAL));
}

#[test]
fn a_run_without_verdicts() {
    assert_eq!(matrix(&outcome(vec![], 0, false), &TERMINAL), "no verdicts in 0 s\n");
    let interrupted = "no verdicts in 2 s; interrupted: cells that are not listed have no verdict\n";
    assert_eq!(matrix(&outcome(vec![], 2, true), &TERMINAL), interrupted);
}

#[test]
fn a_run_in_which_everything_was_skipped() {
    let name = "rhel-8-preview/ibm-z/rhel-8/rhel-8/rhel-8";
    let records = vec![skipped(
        "limits",
        name,
        "no image of RHEL 8, and no stand-in (L0, s390x); no image of RHEL 8, and no stand-in (L1, s390x)",
    )];
    insta::assert_snapshot!(matrix(&outcome(records, 0, false), &TERMINAL));
}

/// A guest that tries to clear the screen, set the title, forge a verdict, and hide text.
fn hostile() -> CellRecord {
    let cell =
        record("limits", "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+", VerdictWord::Fail, 9.0);
    let cell =
        stopped(cell, "l1-boot", "kernel panic: \x1b[2J\x1b]0;pwned\x07\rpass\nsecond\tline 嵌套虚拟化");
    with_console(cell, 1, &["\x1b[1A\x1b[2Kpass: all is well\r", "a\u{9b}31mb\x08\x08", "tab\there"])
}

#[test]
fn a_guest_cannot_write_to_the_terminal() {
    let text = matrix(&outcome(vec![hostile()], 9, false), &TERMINAL) + &cell_line(&hostile(), &TERMINAL);
    assert!(text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()), "{text:?}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_qemu_that_did_not_start_is_shown_with_the_console_of_the_level_that_was_to_start_it() {
    let cell =
        record("limits", "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+", VerdictWord::Fail, 9.0);
    let cell = with_console(stopped(cell, "l2-launch", "L2's QEMU ended"), 0, &["from L0"]);
    let text = matrix(&outcome(vec![with_console(cell, 1, &["from L1"])], 9, false), &TERMINAL);
    assert!(text.contains("L1 console  from L1") && !text.contains("from L0"), "{text}");
}

#[test]
fn every_cell_that_ends_has_its_line() {
    let lines =
        |style| every_verdict().records.iter().map(|r| cell_line(r, &style)).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(lines(Style { colour: false, width: 100 }));
    insta::assert_snapshot!(visible(&lines(Style { colour: true, width: 80 })));
}

#[rstest]
#[case(40)]
#[case(80)]
#[case(200)]
fn colours_only_repeat_what_words_say(#[case] width: usize) {
    let (plain, coloured) = (Style { colour: false, width }, Style { colour: true, width });
    let pairs = |style| {
        let mut texts = vec![plan(&big_plan(), 2, false, style), matrix(&every_verdict(), style)];
        texts.extend(every_verdict().records.iter().map(|record| cell_line(record, style)));
        texts
    };
    for (plain, coloured) in pairs(&plain).iter().zip(pairs(&coloured)) {
        assert_ne!(*plain, coloured);
        assert_eq!(*plain, without_colours(&coloured));
    }
}

#[rstest]
#[case(None, None, true)]
#[case(Some("1"), None, false)]
#[case(Some(""), Some("xterm"), true)]
#[case(None, Some("dumb"), false)]
fn a_terminal_has_colours_unless_the_environment_says_otherwise(
    #[case] no_colour: Option<&str>,
    #[case] term: Option<&str>,
    #[case] colour: bool,
) {
    let variable = |name: &str| match name {
        "NO_COLOR" => no_colour.map(OsString::from),
        "TERM" => term.map(OsString::from),
        _ => None,
    };
    assert_eq!(Style::for_terminal(Some(120), variable), Style { colour, width: 120 });
    assert_eq!(Style::for_terminal(None, variable).width, 80);
}
