//! Interrupted runs: signals, `kill -9`, records that can't be written. Whatever happens, no QEMU outlives its harness. Boots
//! the metal's level, and ends it.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use common::{Images, Place, Run, Running, boots, of_cells, scenarios, trials};
use nix::sys::signal::Signal;

/// Longest wait for something that takes seconds.
const SOON: Duration = Duration::from_secs(120);

/// `run-matrix` over one stack that would work.
fn boot_a_stack(place: &Place) -> Command {
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios("sabotage"));
    command.arg("stale-limitation/*");
    command
}

/// The images of that stack.
fn its_images() -> Images {
    of_cells(&scenarios("sabotage"), &["stale-limitation/*"])
}

/// `run-matrix` that boots nothing: every cell is skipped.
fn skip_all(place: &Place) -> Command {
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--deny-stand-ins", "rhel-10-preview/*"]);
    command
}

fn a_signal_during_a_boot_ends_the_run_in_order(signal: Signal, code: i32) {
    let _guard = boots(&its_images());
    let place = Place::new();
    let mut harness = Running::start(&place, boot_a_stack(&place));
    harness.wait_for_a_boot();
    harness.send(signal);
    let run = Run::new(harness.end(), &place.results());
    assert_eq!(run.code, Some(code), "{run:#?}");
    assert!(run.stderr.contains("interrupted: 0 of 1 cells have a verdict"), "{}", run.stderr);
    let record = run.record();
    assert_eq!(record["interrupted"], true, "{record:#}");
    assert!(record["ended"].is_string(), "{record:#}");
    assert!(run.cells().is_empty(), "a cell that was cut off has no verdict");
    place.assert_nothing_left();
}

fn a_harness_whose_output_nothing_reads_is_ended_by_a_signal_too() {
    let _guard = boots(&its_images());
    let place = Place::new();
    let mut harness = Running::start(&place, boot_a_stack(&place));
    harness.wait_for_a_boot();
    harness.stop_reading();
    harness.send(Signal::SIGTERM);
    let run = Run::new(harness.end(), &place.results());
    assert_eq!(run.code, Some(143), "{run:#?}");
    assert_eq!(run.record()["interrupted"], true, "{run:#?}");
    place.assert_nothing_left();
}

fn a_harness_that_is_killed_leaves_no_qemu_and_the_next_start_clears_up() {
    let _guard = boots(&its_images());
    let place = Place::new();
    let mut harness = Running::start(&place, boot_a_stack(&place));
    harness.wait_for_a_boot();
    harness.send(Signal::SIGKILL);
    let output = harness.end();
    assert_eq!(output.status.signal(), Some(Signal::SIGKILL as i32));
    // No process was there to end it.
    place.wait_for_no_process();

    let killed = Run::new(output, &place.results()).record();
    assert!(killed["ended"].is_null(), "{killed:#}");
    let left = place.scratch();
    assert!(left.iter().any(|name| name.starts_with("run-")), "a killed harness can't clear up: {left:?}");

    let next = place.finish(skip_all(&place), SOON);
    assert_eq!(next.code, Some(4), "{next:#?}");
}

/// `command` with a limit on the size of files that it writes, in bytes. The kernel's signal for that is ignored, so a write
/// beyond the limit fails like one to a full disk. This takes no privileges.
fn with_files_of_at_most(bytes: u32, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", r#"trap '' XFSZ; exec prlimit --fsize="$0" -- "$@""#, &bytes.to_string()]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.current_dir(command.get_current_dir().unwrap());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

fn verdicts_that_cannot_be_written_end_a_run_that_boots_nothing() {
    let place = Place::new();
    // Enough for run.json, but not for the lines of four cells.
    let run = place.finish(with_files_of_at_most(1500, &skip_all(&place)), SOON);
    assert_records_cannot_be_written(&run, &place);
    assert!(run.record()["ended"].is_null(), "the run did not come to its end");
}

fn verdicts_that_cannot_be_written_end_a_run_that_boots() {
    let _guard = boots(&of_cells(&scenarios("sabotage"), &["metal-killed/*"]));
    let place = Place::new();
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios("sabotage"));
    command.arg("metal-killed/*");
    // Enough for run.json, but not for a booted cell.
    let run = place.finish(with_files_of_at_most(1500, &command), SOON);
    assert_records_cannot_be_written(&run, &place);
}

fn assert_records_cannot_be_written(run: &Run, place: &Place) {
    assert_eq!(run.code, Some(3), "{run:#?}");
    let reason =
        format!("failed to write the run's records in {}: File too large", place.results().display());
    assert!(run.stderr_words().contains(&reason), "{}", run.stderr);
}

trials! {
    a_signal_during_a_boot_ends_the_run_in_order {
        ctrl_c(Signal::SIGINT, 130),
        terminated(Signal::SIGTERM, 143),
    };
    a_harness_whose_output_nothing_reads_is_ended_by_a_signal_too;
    a_harness_that_is_killed_leaves_no_qemu_and_the_next_start_clears_up;
    verdicts_that_cannot_be_written_end_a_run_that_boots_nothing;
    verdicts_that_cannot_be_written_end_a_run_that_boots;
}
