//! What scenarios do to a stack after its boot, on the real scenarios and emulated metal: reboot L0, migrate L1 with a running
//! L2, boot a second L1, time loops, run without KVM on L0. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::sync::OnceLock;
use std::time::Duration;

use common::{Cell, Place, Run, boots, checkout, of_cells, trials};
use serde_json::Value;

/// Longest wait for all stacks of the run.
const ALL: Duration = Duration::from_secs(30 * 60);

const CELLS: [&str; 3] =
    ["rhel-8-persist-nesting/amd/*", "rhel-10-amd-migration/amd/*", "rhel-10-non-kvm-l0/amd/qemu-tcg/*"];
const OTHER_CELLS: [&str; 2] = ["rhel-8-several-l1/amd/*", "rhel-8-performance/amd/*"];

/// The run over the first cells, made by the first test that needs it.
fn procedures() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| run(&CELLS, "procedures"))
}

/// The run over the others.
fn other_procedures() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| run(&OTHER_CELLS, "other-procedures"))
}

fn run(cells: &[&str], name: &str) -> Run {
    let _guard = boots(&of_cells(&checkout().join("scenarios"), cells));
    let place = Place::new();
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--jobs", "1"]).args(cells);
    place.finish(command, ALL).keep(name)
}

fn cell(run: &Run, scenario: &str, verdict: &str) -> Cell {
    let cell = run.cell(&format!("{scenario}/"));
    assert_eq!(cell.text("verdict"), verdict, "{:#}", cell.record);
    assert!(cell.record["evidence"].is_object(), "it worked: {:#}", cell.record);
    cell
}

/// The results of the steps of this kind.
fn outputs(cell: &Cell, kind: &str) -> Vec<String> {
    let steps = cell.record["steps"].as_array().unwrap().iter();
    steps.filter(|step| step["do"] == kind).map(|step| step["output"].as_str().unwrap().to_owned()).collect()
}

fn what_is_known_to_be_stale_does_not_fail_the_run() {
    let run = procedures();
    assert_eq!(run.code, Some(0), "{run:#?}");
    let tally = &run.record()["verdicts"];
    assert_eq!((&tally["pass"], &tally["xpass"]), (&2.into(), &1.into()), "{tally}");
    assert!(run.stdout.contains("known stale since"), "{}", run.stdout);
}

fn what_lies_on_l0s_disk_outlives_a_reboot() {
    let cell = cell(procedures(), "rhel-8-persist-nesting", "pass");
    assert_eq!(outputs(&cell, "reboot"), ["L0 is up again; nested=0", "L0 is up again; nested=1"]);
    let boots = cell.console("L0").iter().filter(|line| line.starts_with("nestmatrix: level up")).count();
    assert_eq!(boots, 3);
}

fn a_migrated_l1_is_run_by_another_qemu_and_its_l2_lives_on() {
    let cell = cell(procedures(), "rhel-10-amd-migration", "xpass");
    let seen = outputs(&cell, "migrate").remove(0);
    assert!(seen.starts_with("from QEMU ") && seen.contains(", completed in "), "{seen}");
    assert!(seen.contains("L2 answers, its counter was "), "{seen}");
    let said = |name: &str, direction: &str, what: &dyn Fn(&Value) -> bool| {
        cell.conversation(name).iter().any(|(dir, message)| dir == direction && what(message))
    };
    assert!(said("L1.qmp.jsonl", ">", &|message| message["execute"] == "quit"), "the first QEMU has ended");
    assert!(said("L1-second.qmp.jsonl", "<", &|message| message["event"] == "RESUME"), "the second runs it");
    let asked = cell.console("L2").iter().filter(|line| line.starts_with("nestmatrix-answer-begin")).count();
    assert!(asked >= 3, "L2 was asked once before and at least twice after: {asked}");
}

fn a_second_l1_runs_beside_the_first() {
    let cell = cell(other_procedures(), "rhel-8-several-l1", "pass");
    let seen = outputs(&cell, "boot-another").remove(0);
    assert!(
        seen.starts_with("a second L1 is up, kernel 5.10.") && seen.ends_with(", and runs an L2 of its own"),
        "{seen}"
    );
    let (own, beside) = (&cell.record["evidence"], &cell.record["evidence"]["second_machine"]);
    for evidence in [own, beside] {
        assert_eq!(evidence["report"]["hypervisor"], "KVM", "{own:#}");
        assert!(
            evidence["exits"]["l1"]["after"].as_u64() > evidence["exits"]["l1"]["before"].as_u64(),
            "{own:#}"
        );
    }
    assert_ne!(own["nonce"], beside["nonce"], "each has its own");
    for console in ["L2", "L2-second"] {
        let lines = cell.console(console);
        let ends = lines
            .iter()
            .position(|line| line == "nestmatrix-report-end")
            .unwrap_or_else(|| panic!("{console}"));
        let asked = lines[ends..].iter().filter(|line| line.starts_with("nestmatrix-answer-begin")).count();
        assert!(asked >= 2, "{console} has moved on between two questions: {lines:#?}");
    }
    for console in ["L1", "L1-second"] {
        let lines = cell.console(console);
        assert!(lines.iter().any(|line| line.starts_with("nestmatrix: level up")), "{console}: {lines:#?}");
    }
}

fn loops_are_set_against_those_of_l0() {
    let cell = cell(other_procedures(), "rhel-8-performance", "pass");
    for (index, level) in cell.record["levels"].as_array().unwrap().iter().enumerate() {
        for name in ["cpu", "syscall", "exit"] {
            let time = &level["loops"][name];
            assert!(time["seconds"].as_f64().unwrap() >= 0.0, "{level:#}");
            assert!(index > 0 || time["ratio"].is_null() || time["ratio"] == 1.0, "{level:#}");
        }
    }
    let ratio = |level: usize| cell.record["levels"][level]["loops"]["exit"]["ratio"].as_f64().unwrap();
    assert!(
        ratio(2) > ratio(1),
        "what leaves the guest is dearer the deeper it is: {:#}",
        cell.record["levels"]
    );
}

fn an_emulator_as_l0_leaves_kvm_to_the_levels_inside() {
    let cell = cell(procedures(), "rhel-10-non-kvm-l0", "pass");
    let evidence = &cell.record["evidence"];
    assert_eq!(evidence["emulator_is_l0"], true);
    assert_eq!(
        (&evidence["kvm"]["l1"]["enabled"], &evidence["kvm"]["l2"]["enabled"]),
        (&false.into(), &true.into())
    );
    assert_eq!(cell.stages()[0], "l1-launch", "L0 is there already");
    assert_eq!(evidence["report"]["hypervisor"], "KVM");
}

trials! {
    what_is_known_to_be_stale_does_not_fail_the_run;
    what_lies_on_l0s_disk_outlives_a_reboot;
    a_migrated_l1_is_run_by_another_qemu_and_its_l2_lives_on;
    #[ignore = "boots two more stacks, one of them with two L1: two minutes"]
    a_second_l1_runs_beside_the_first;
    #[ignore = "boots two more stacks, one of them with two L1: two minutes"]
    loops_are_set_against_those_of_l0;
    an_emulator_as_l0_leaves_kvm_to_the_levels_inside;
}
