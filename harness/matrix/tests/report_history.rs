//! The history of a cell as text.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

use nestmatrix::history::{AttemptSeen, CellHistory, Circumstances, HistoryEntry, Software, Wanted};
use nestmatrix::records::{Known, VerdictWord};
use nestmatrix::report::{Style, cell_history};
use nestmatrix_model::Fidelity;
use nestmatrix_stack::Metal;

const CELL: &str = "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+";

fn entry(day: u8, verdict: VerdictWord, kernel: &str, seconds: f64) -> HistoryEntry {
    let software = |level: &str, digest: String, reached: bool| Software {
        level: serde_json::from_value(level.into()).unwrap(),
        os: "debian-13".into(),
        fidelity: Some(Fidelity::StandIn),
        kernel: reached.then(|| kernel.to_owned()),
        qemu: reached.then(|| "10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)".into()),
        recipe: Some("debian-13-amd64".into()),
        image: Some(digest),
    };
    let failed = verdict != VerdictWord::Pass;
    HistoryEntry {
        cell: CELL.parse().unwrap(),
        run: format!("2026-11-{day:02}T02-00-00Z"),
        seen: format!("2026-11-{day:02}T02:05:00Z"),
        verdict,
        known_stale: false,
        known: None,
        stage: failed.then(|| "l1-boot".parse().unwrap()),
        symptom: failed.then(|| "kernel panic: \u{1b}[2Jno root\n".into()),
        seconds,
        saved: false,
        attempts: vec![AttemptSeen { verdict, symptom: None, seconds, saved: false }],
        with: Circumstances {
            nestmatrix: "0.1.0".into(),
            build: None,
            machine_kernel: "6.12".into(),
            machine_system: "debian 13".into(),
            processor: "Some(R) Processor".into(),
            metal: Some(Metal::Emulated),
            emulator: None,
            expectation: r#"{"outcome":"works"}"#.into(),
            levels: vec![
                software("l0", digest(kernel), true),
                software("l1", digest(kernel), !failed),
                software("l2", "0".repeat(64), !failed),
            ],
        },
    }
}

/// A text that looks like the digest of an image with this kernel.
fn digest(kernel: &str) -> String {
    kernel.replace('.', "a").repeat(16)
}

fn text(entries: Vec<HistoryEntry>, style: &Style) -> String {
    cell_history(&CellHistory::new(CELL.parse().unwrap(), entries, &Wanted::default()).unwrap(), style)
}

#[test]
fn a_cell_that_never_changed() {
    let entries = [28.4, 26.0, 31.2, 25.1].into_iter().zip(1..);
    let entries = entries.map(|(seconds, day)| entry(day, VerdictWord::Pass, "6.12.107", seconds)).collect();
    insta::assert_snapshot!(text(entries, &Style::plain()));
}

#[test]
fn a_history_marks_rebuilds_and_says_nothing_of_marks_where_there_are_none() {
    let entry = |fidelity| {
        let mut entry = entry(1, VerdictWord::Pass, "6.12.107", 25.0);
        entry.with.levels.iter_mut().for_each(|level| level.fidelity = fidelity);
        entry.with.levels[0].os = "almalinux-10.0".into();
        text(vec![entry], &Style::plain())
    };
    let rebuild = entry(Some(Fidelity::Rebuild));
    assert!(rebuild.contains("L0  almalinux-10.0~  Linux"), "{rebuild}");
    assert!(rebuild.contains("\n  ~ a rebuild of the documented system\n"), "{rebuild}");
    for unmarked in [Some(Fidelity::Product), None].map(entry) {
        assert!(unmarked.contains("L0  almalinux-10.0  Linux") && !unmarked.contains('~'), "{unmarked}");
    }
}

#[test]
fn a_cell_that_broke_with_a_kernel_and_is_flaky_since() {
    let entries = vec![
        entry(1, VerdictWord::Pass, "6.12.107", 25.0),
        entry(2, VerdictWord::Fail, "6.12.120", 12.0),
        entry(3, VerdictWord::Skip, "6.12.120", 0.0),
        entry(4, VerdictWord::Pass, "6.12.120", 25.5),
    ];
    insta::assert_snapshot!(text(entries, &Style { colour: false, width: 80 }));
}

#[rstest::rstest]
#[case(Some(Known::Wrong), VerdictWord::Fail, "fail (known) at l1-boot")]
#[case(Some(Known::CameBack), VerdictWord::Fail, "fail (known to be gone, came back) at l1-boot")]
#[case(None, VerdictWord::Fail, "fail at l1-boot")]
fn a_verdict_is_shown_with_what_its_scenario_knew(
    #[case] known: Option<Known>,
    #[case] verdict: VerdictWord,
    #[case] expected: &str,
) {
    let entries = vec![HistoryEntry { known, ..entry(1, verdict, "6.12", 9.0) }];
    let text = text(entries, &Style::plain());
    assert!(text.contains(expected), "{text}");
}
