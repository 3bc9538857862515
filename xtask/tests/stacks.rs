//! Whole stacks of the real scenarios, three real kernels deep on emulated metal: they pass, and the record has everything that
//! a pass needs. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use common::{Cell, Place, Run, boots, checkout, of_cells, scenarios, trials};
use serde_json::Value;

/// Longest wait for all stacks of a run.
const ALL: Duration = Duration::from_secs(30 * 60);

const LINE_8: &str = "rhel-8-preview/amd/rhel-8.2+/rhel-8.2+/rhel-8.2+";
const LINE_9: &str = "rhel-9-preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2+";
const LINE_10: &str = "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+";
const LINE_9_ON_10: &str = "rhel-10-preview/amd/rhel-10.0+/rhel-9.6+/rhel-9.6+";

const STAGES: [&str; 9] =
    ["l0-launch", "l0-boot", "l0-kvm", "l1-launch", "l1-boot", "l1-kvm", "l2-launch", "l2-boot", "l2-check"];

const STACKS: [&str; 4] = [LINE_8, LINE_9, LINE_10, LINE_9_ON_10];

/// The run over the stacks, made by the first test that needs it.
fn stacks() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        let _guard = boots(&of_cells(&checkout().join("scenarios"), &STACKS));
        let place = Place::new();
        let mut command = place.run_matrix();
        // In parallel, and each from its beginning, since the tests read the records of all levels.
        command.args(["--metal", "emulated", "--cold"]).args(STACKS);
        place.finish(command, ALL).keep("stacks")
    })
}

fn all_is_as_documented() {
    let run = stacks();
    assert_eq!(run.code, Some(0), "{run:#?}");
    let record = run.record();
    assert_eq!(record["format"], 3);
    let all = Value::from(STACKS.len());
    assert_eq!((&record["cells"], &record["verdicts"]["pass"]), (&all, &all), "{record:#}");
    assert_eq!(record["interrupted"], false);
    assert!(record["began"].as_str().unwrap() < record["ended"].as_str().unwrap(), "{record:#}");
    assert_eq!(record["arguments"][0], "run-matrix");
    assert!(record["emulators"][0].as_str().unwrap().starts_with("qemu-system-x86 "), "{record:#}");
    for fact in ["kernel", "system", "processor"] {
        assert!(!record["machine"][fact].as_str().unwrap().is_empty(), "{fact}: {record:#}");
    }
    for line in STACKS {
        assert!(run.stdout.contains(line) || run.stderr.contains(line), "{line} is shown: {run:#?}");
    }
    let nonces: BTreeSet<String> =
        run.cells().iter().map(|cell| cell.record["evidence"]["nonce"].to_string()).collect();
    assert_eq!(nonces.len(), STACKS.len(), "a nonce is fresh for each stack");
}

fn a_stack_passes_with_evidence_of_every_level(name: &str, systems: [&str; 3]) {
    let cell = stacks().cell(name);
    assert_eq!(cell.text("verdict"), "pass", "{:#}", cell.record["symptom"]);
    assert_eq!(cell.text("metal"), "emulated");
    assert!(cell.record["stage"].is_null() && cell.record["symptom"].is_null());
    assert_evidence(&cell);
    assert_levels(&cell, systems);
    assert_times(&cell);
    assert_files(&cell);
}

fn assert_evidence(cell: &Cell) {
    let evidence = &cell.record["evidence"];
    let nonce = evidence["nonce"].as_str().unwrap();
    assert!(nonce.len() == 32 && nonce.chars().all(|c| c.is_ascii_hexdigit()), "{nonce}");
    assert_eq!(evidence["report"]["nonce"], nonce);
    assert!(cell.console("L2").contains(&format!("nonce={nonce}")), "L2 itself said so");
    assert_eq!(evidence["report"]["hypervisor"], "KVM");
    for level in ["l1", "l2"] {
        assert_eq!(evidence["kvm"][level]["enabled"], true, "{level}: {evidence:#}");
    }
    assert_eq!(evidence["cpus"]["l1"]["required"]["svm"], true);
    let grown = |counter: &str, level: &str| {
        let [before, after] =
            ["before", "after"].map(|when| evidence[counter][level][when].as_u64().unwrap());
        after > before
    };
    assert!(grown("nested_runs", "l0"), "{:#}", evidence["nested_runs"]);
    let counts = cell.record["levels"][0]["os"] != "debian-11";
    let counter = if counts { "nested_run" } else { "kvm_nested_vmexit" };
    assert_eq!(evidence["nested_runs"]["l0"]["counter"], counter, "Linux 5.10 does not count, and is traced");
    assert!(grown("exits", "l0") && grown("exits", "l1"), "{:#}", evidence["exits"]);
    assert_eq!(evidence["l0_counters_unreadable"], false);
}

fn assert_levels(cell: &Cell, systems: [&str; 3]) {
    let levels = cell.record["levels"].as_array().unwrap();
    assert_eq!(levels.len(), 3);
    for (level, (number, system)) in levels.iter().zip(systems.into_iter().enumerate()) {
        assert_eq!(
            (&level["level"], &level["os"]),
            (&format!("l{number}").into(), &system.into()),
            "{level:#}"
        );
        assert!(level["required"].as_str().unwrap().starts_with("RHEL "), "{level:#}");
        assert_eq!(level["fidelity"], "stand-in", "{level:#}");
        assert!(!level["fidelity_reason"].as_str().unwrap().is_empty(), "{level:#}");
        let product = if number == 2 { "minimal" } else { "hypervisor" };
        assert_eq!(level["image"]["recipe"], format!("{system}-amd64"), "{level:#}");
        assert_eq!(level["image"]["product"], product, "{level:#}");
        assert_eq!(level["image"]["digest"].as_str().unwrap().len(), 64, "{level:#}");
        let kernel = match system {
            "debian-11" => "5.10.",
            "debian-12" => "6.1.",
            _ => "6.12.",
        };
        assert!(level["kernel"].as_str().unwrap().starts_with(kernel), "{level:#}");
        // A level runs on the QEMU of the level below it; L0 runs on the emulator's.
        let qemu = match number.checked_sub(1).map(|below| systems[below]) {
            Some("debian-11") => "5.2.",
            Some("debian-12") => "7.2.",
            _ => "10.0.",
        };
        assert!(level["qemu"].as_str().unwrap().starts_with(qemu), "{level:#}");
        let (machine, cpu) = [("q35", "max"), ("q35", "host"), ("microvm", "host")][number];
        assert!(level["machine"].as_str().unwrap().contains(machine), "{level:#}");
        assert_eq!(level["cpu"], format!("{cpu}-x86_64-cpu"), "{level:#}");
        assert!(!level["last_lines"].as_array().unwrap().is_empty(), "{level:#}");
        let nested = if number == 2 { Value::Null } else { "1".into() };
        assert_eq!(level["nested"], nested, "{level:#}");
    }
}

fn assert_times(cell: &Cell) {
    assert_eq!(cell.stages(), STAGES);
    let mut now = 0.0;
    for stage in cell.record["stages"].as_array().unwrap() {
        let [start, end] = ["start", "end"].map(|when| stage[when].as_f64().unwrap());
        assert!(now <= start && start <= end, "stages are in order: {:#}", cell.record["stages"]);
        now = end;
    }
    let attempts = cell.record["attempts"].as_array().unwrap();
    assert!(attempts.len() == 1 && attempts[0]["verdict"] == "pass", "{attempts:?}");
    let [start, end] = ["start", "end"].map(|when| attempts[0][when].as_f64().unwrap());
    assert!(end - start >= now, "an attempt lasts as long as its stages: {attempts:?}");
}

fn assert_files(cell: &Cell) {
    for level in ["L0", "L1", "L2"] {
        assert!(!cell.console(level).is_empty(), "{level} has spoken");
        let conversation = cell.conversation(&format!("{level}.qmp.jsonl"));
        assert!(conversation[0].1["QMP"].is_object(), "{level}'s QEMU greets first");
        let asked = conversation.iter().any(|(dir, said)| dir == ">" && said["execute"] == "query-kvm");
        assert!(asked, "{level}'s QEMU was asked whether it runs with KVM");
    }
    for level in ["L0", "L1"] {
        let conversation = cell.conversation(&format!("{level}.agent.jsonl"));
        assert!(conversation.iter().any(|(dir, _)| dir == "<"), "{level}'s agent has answered");
        let messages = fs::read_to_string(cell.file(&format!("{level}.dmesg"))).unwrap();
        assert!(messages.contains("Linux version "), "{level}'s kernel messages");
        let counters = fs::read_to_string(cell.file(&format!("{level}.kvm.json"))).unwrap();
        let counters: Value = serde_json::from_str(&counters).unwrap();
        let evidence = &cell.record["evidence"]["exits"][level.to_lowercase()];
        assert_eq!(
            counters["after"]["exits"], evidence["after"],
            "{level}'s counters are those of the evidence"
        );
    }
    assert!(cell.file("L0.qemu.log").exists());
}

/// The run finds out whether a fourth level works. The test is that the harness needs no special case for the depth.
fn a_fourth_level_is_booted_as_the_others_are() {
    let _guard = boots(&of_cells(&scenarios("deep"), &["*"]));
    let place = Place::new();
    let mut command = place.run_matrix();
    command.args(["--metal", "emulated", "--scenarios"]).arg(scenarios("deep"));
    let run = place.finish(command, ALL);
    let cell = run.cell("four-levels/");
    let stages = cell.stages();
    println!("{} at {}: {}", cell.record["verdict"], cell.record["stage"], cell.record["symptom"]);
    assert!(stages.contains(&"l2-kvm"), "L2 was asked whether it can be a hypervisor: {:#}", cell.record);
    assert!(matches!(cell.text("verdict"), "pass" | "fail"), "{:#}", cell.record);
    assert_eq!(cell.record["evidence"].is_null(), cell.text("verdict") == "fail");
}

trials! {
    all_is_as_documented;
    a_stack_passes_with_evidence_of_every_level {
        debian_11_11_11(LINE_8, ["debian-11", "debian-11", "debian-11"]),
        debian_12_12_12(LINE_9, ["debian-12", "debian-12", "debian-12"]),
        debian_13_13_13(LINE_10, ["debian-13", "debian-13", "debian-13"]),
        debian_13_12_12(LINE_9_ON_10, ["debian-13", "debian-12", "debian-12"]),
    };
    #[ignore = "boots four levels: more than ten minutes"]
    a_fourth_level_is_booted_as_the_others_are;
}
