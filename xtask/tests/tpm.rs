//! A level with a real TPM: its kernel sees it, and the swtpm that plays it never outlives the harness. Boots L0 alone.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{Images, Place, Run, Running, boots, of_cells, processes_that_name, scenarios, trials};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest wait for a boot of L0.
const SOON: Duration = Duration::from_secs(180);

fn boot_l0(place: &Place) -> Command {
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios("tpm"));
    command
}

fn its_images() -> Images {
    of_cells(&scenarios("tpm"), &["l0-with-tpm/*"])
}

/// The process identifier of the swtpm that works in a place, as soon as it is there.
fn swtpm(place: &Place) -> Pid {
    let began = Instant::now();
    loop {
        let processes = processes_that_name(place.path());
        // `PID WORDS`. The wrapper that becomes swtpm has its words, too.
        let swtpm =
            processes.iter().find(|process| process.contains("/ld.so ") && process.contains(" --tpm2 "));
        if let Some(swtpm) = swtpm {
            return Pid::from_raw(swtpm.split(' ').next().unwrap().parse().unwrap());
        }
        assert!(began.elapsed() < SOON, "no swtpm among {processes:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn the_kernel_of_a_level_sees_its_tpm() {
    let _guard = boots(&its_images());
    let place = Place::new();
    let run = place.finish(boot_l0(&place), SOON);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let cell = &run.cells()[0];
    let level = &cell.record["levels"][0];
    assert_eq!((&level["tpm"], &level["swtpm"]["recipe"]), (&2.into(), &"swtpm-amd64".into()), "{level:#}");
    place.assert_nothing_left();
}

fn a_harness_that_is_killed_leaves_no_swtpm() {
    let _guard = boots(&its_images());
    let place = Place::new();
    let mut harness = Running::start(&place, boot_l0(&place));
    harness.wait_for_a_boot();
    swtpm(&place);
    harness.send(Signal::SIGKILL);
    harness.end();
    place.wait_for_no_process();
}

fn an_swtpm_that_is_killed_is_an_error_that_names_it() {
    let _guard = boots(&its_images());
    let place = Place::new();
    let mut harness = Running::start(&place, boot_l0(&place));
    harness.wait_for_a_boot();
    kill(swtpm(&place), Signal::SIGKILL).unwrap();
    let run = Run::new(harness.end_within(SOON), &place.results());
    // An error may be retried, and the next swtpm lives.
    let attempt = &run.cells()[0].record["attempts"][0];
    assert_eq!(attempt["verdict"], "error", "{attempt:#}");
    let symptom = attempt["symptom"].as_str().unwrap();
    assert!(symptom.contains("swtpm, which plays the TPM of L0, was killed (SIGKILL)"), "{symptom}");
}

trials! {
    the_kernel_of_a_level_sees_its_tpm;
    a_harness_that_is_killed_leaves_no_swtpm;
    an_swtpm_that_is_killed_is_an_error_that_names_it;
}
