//! Every level of a stack is measured with the same tool. Boots one stack on emulated metal, where no ratio is judged.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::time::Duration;

use common::{Place, boots, of_cells, scenarios, trials};
use serde_json::Value;

/// Longest time for the stack and all of its rounds.
const ALL: Duration = Duration::from_secs(20 * 60);

fn every_level_has_figures_and_emulated_metal_judges_no_ratio() {
    let _guard = boots(&of_cells(&scenarios("performance"), &["figures/*"]));
    let place = Place::new();
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios("performance"));
    let run = place.finish(command, ALL);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let cell = &run.cells()[0];
    let steps = cell.record["steps"].as_array().unwrap();
    let benchmarks: Vec<&Value> = steps.iter().map(|step| &step["benchmark"]).collect();
    // For the table of docs/performance-verdicts.md.
    for (step, benchmark) in steps.iter().zip(&benchmarks) {
        let median = |level: &str| benchmark["levels"][level]["median"].clone();
        println!("{}: medians {:?}", step["output"], ["l0", "l1", "l2"].map(median));
    }
    for (benchmark, levels, rounds) in [
        (benchmarks[0], &["l0", "l1", "l2"][..], 6),
        (benchmarks[1], &["l0", "l1", "l2"], 2),
        (benchmarks[2], &["l0", "l1", "l2"], 2),
        (benchmarks[3], &["l1", "l2"], 2),
        (benchmarks[4], &["l0", "l1", "l2"], 2),
        (benchmarks[5], &["l0", "l1", "l2"], 2),
    ] {
        for level in levels {
            let of_level = &benchmark["levels"][level];
            let figures: Vec<f64> =
                of_level["figures"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
            assert!(figures.len() == rounds && figures.iter().all(|figure| *figure > 0.0), "{benchmark:#}");
        }
        assert!(benchmark["ratios"]["l1"]["median"].as_f64() > Some(0.0), "{benchmark:#}");
        assert_eq!(benchmark["judgement"]["result"], "recorded-only", "{benchmark:#}");
    }
    let tools = ["l0", "l1", "l2"].map(|level| &benchmarks[0]["levels"][level]["tool"]);
    assert!(
        tools[0].as_str().unwrap().starts_with("stress-ng ") && tools.iter().all(|tool| *tool == tools[0])
    );
    // What leaves a guest is dearer the deeper it is.
    for benchmark in [benchmarks[2], benchmarks[5]] {
        assert!(benchmark["ratios"]["l1"]["median"].as_f64() < Some(1.0), "{benchmark:#}");
    }
    place.assert_nothing_left();
}

trials! {
    #[ignore = "measures three levels in rounds: up to ten minutes"]
    every_level_has_figures_and_emulated_metal_judges_no_ratio;
}
