//! Errors of emulated metal are not charged to a document (`tests/emulated-metal/`). Boots L0 and L1.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::time::Duration;

use common::{Cell, Place, boots, of_cells, scenarios, trials};

/// Longest wait for a run over one stack.
const ONE: Duration = Duration::from_secs(10 * 60);

/// Boots the one cell of a scenario.
fn cell(scenario: &str) -> Cell {
    let place = Place::new();
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios("emulated-metal"));
    command.arg(format!("{scenario}/*"));
    place.finish(command, ONE).keep(&format!("emulated-metal-{scenario}")).cell(scenario)
}

fn a_level_that_depends_on_an_erratum_is_skipped_before_it_runs_a_guest() {
    let _guard = boots(&of_cells(&scenarios("emulated-metal"), &["nested-paging-off/*"]));
    let cell = cell("nested-paging-off");
    assert_eq!(cell.text("verdict"), "skip", "{:#}", cell.record);
    assert_eq!(cell.record["skip_reasons"][0]["erratum"], "tcg-cr-read-intercept", "{:#}", cell.record);
    assert!(cell.text("symptom").ends_with("KVM of L1 (kvm_amd) has npt=N"), "{:#}", cell.record);
    assert_eq!(cell.text("stage"), "l2-launch");
}

trials! {
    a_level_that_depends_on_an_erratum_is_skipped_before_it_runs_a_guest;
}
