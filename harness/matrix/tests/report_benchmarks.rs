//! The figures of benchmarks in reports.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod report_fixtures;

use std::path::Path;

use nestmatrix::records::{CellRecord, Overview, VerdictWord};
use nestmatrix::report::{Style, cell_line, html, junit, markdown};
use nestmatrix_model::{Benchmark, Better, ExpectedRatio, LevelNumber};
use nestmatrix_stack::{BenchmarkRecord, Judged, Judgement, LevelFigures, Ratio, StepRecord};
use report_fixtures::{cells, outcome, past_run, record};

const CELL: &str = "rhel-preview/amd/rhel-10/rhel-10/rhel-10";

fn cell() -> CellRecord {
    let [l0, l1, l2] = [0, 1, 2].map(|number| LevelNumber::ALL[number]);
    let figures = |of: [f64; 3], tool: &str| LevelFigures {
        tool: Some(tool.into()),
        figures: of.to_vec(),
        median: Some(of[1]),
        ..LevelFigures::default()
    };
    let missing = LevelFigures { missing: Some("no </script><b> tool".into()), ..LevelFigures::default() };
    let expected = ExpectedRatio {
        of: l1,
        at_least_percent: Some(50),
        at_most_percent: None,
        reference: "a page".into(),
    };
    let benchmark = BenchmarkRecord {
        benchmark: Benchmark::SystemCall,
        unit: "operations/s".into(),
        better: Better::Higher,
        levels: [
            (l0, missing),
            (l1, figures([990.0, 1000.0, 1010.5], "stress-ng 1")),
            (l2, figures([9.9, 10.0, 10.1], "stress-ng 1")),
        ]
        .into(),
        ratios: [(l1, Ratio::of(vec![0.0099, 0.01, 0.0101]).unwrap())].into(),
        judgement: Judgement { result: Judged::RecordedOnly, expected: Some(expected), why: None },
    };
    let step = StepRecord {
        name: "calls".into(),
        on: l2,
        action: "benchmark".into(),
        run: None,
        status: None,
        output: benchmark.summary(l2),
        suite: None,
        benchmark: Some(benchmark),
    };
    CellRecord { steps: vec![step], ..record("limits", CELL, VerdictWord::Pass, 9.0) }
}

const SUMMARY: &str = "calls: system-call: L2 1.0 % (0.99-1.0 %) of L1; L0 not measured: no </script><b> tool; recorded only, on \
                       emulated metal";

#[test]
fn the_terminal_and_markdown_have_the_ratio_and_say_that_it_is_only_recorded() {
    let wide = Style { width: 400, ..Style::plain() };
    let line = cell_line(&cell(), &wide);
    assert!(line.ends_with(SUMMARY), "{line}");
    let run = past_run("results/run", outcome(vec![cell()], 192, false));
    let matrix = cells("\"rhel 10\"", "\"rhel 10\"", "\"rhel 10\"").0;
    let text = markdown(&Overview::new(vec![run], &matrix), &matrix);
    assert!(text.contains(SUMMARY), "{text}");
}

#[test]
fn junit_has_the_figures_as_properties() {
    let run = past_run("results/run", outcome(vec![cell()], 192, false));
    let xml = junit(&run.record, &run.cells, Path::new("/nowhere")).unwrap();
    let document = roxmltree::Document::parse(&xml).unwrap();
    let property = |name: &str| {
        let found = document.descendants().find(|node| node.attribute("name") == Some(name));
        found.and_then(|node| node.attribute("value")).map(ToOwned::to_owned)
    };
    for (name, value) in [
        ("step-1.system-call.l0", "no </script><b> tool"),
        ("step-1.system-call.l1", "1000 operations/s"),
        ("step-1.system-call.l1-tool", "stress-ng 1"),
        ("step-1.system-call.l2", "10.00 operations/s"),
        ("step-1.system-call.l2-of-l1", "1.0 % (0.99-1.0 %)"),
        ("step-1.system-call.judgement", "recorded-only"),
    ] {
        assert_eq!(property(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn the_page_has_every_figure_and_takes_no_text_for_markup() {
    let run = past_run("results/run", outcome(vec![cell()], 192, false));
    let matrix = cells("\"rhel 10\"", "\"rhel 10\"", "\"rhel 10\"").0;
    let page = html(&Overview::new(vec![run], &matrix), &matrix);
    assert!(page.contains("L1: 1000 operations/s, of 990, 1000, 1010 (stress-ng 1)"));
    assert!(page.contains("L2: 10.00 operations/s, of 9.90, 10.00, 10.10 (stress-ng 1)"));
    assert!(!page.contains("</script><b>"));
}

#[test]
fn a_claim_whose_ratio_was_only_recorded_was_not_tried() {
    assert!(cell().leaves_performance_open());
    let mut judged = cell();
    judged.steps[0].benchmark.as_mut().unwrap().judgement.result = Judged::Met;
    assert!(!judged.leaves_performance_open());
    let run = past_run("results/run", outcome(vec![cell()], 192, false));
    let matrix = cells("\"rhel 10\"", "\"rhel 10\"", "\"rhel 10\"").0;
    let text = markdown(&Overview::new(vec![run], &matrix), &matrix);
    assert!(text.contains("Tried claims: ") && text.contains(" skipped"), "{text}");
}
