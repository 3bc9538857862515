//! Which mutants bear on the claims of a cell.

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::one_scenario;
use crate::records::{FORMAT, Machine, Tally};

const SYSTEMS: &str = "[[system]]\nid = \"debian\"\nname = \"Debian\"\n";
const AXES: &str =
    "architecture = [\"amd\"]\nl0 = [\"debian 12\"]\nl1 = [\"debian 12\"]\nl2 = [\"debian 12\"]\n";
/// A stop at L1's launch, because of a setting.
const OFF: &str = "[levels.l0]\nkernel-parameters = [\"kvm_amd.nested=0\"]\n[expect]\noutcome = \"stops\"\n\
                   stage = \"l1-launch\"\nsymptom-kind = \"missing-cpu-feature\"\n";
/// A step that does something, one that must fail, and one that only checks.
const STEPS: &str = "[[step]]\nname = \"load\"\nafter = \"l0-kvm\"\non = \"l0\"\nrun = \"modprobe x\"\n\
                     [[step]]\nname = \"refused\"\nafter = \"l1-kvm\"\non = \"l0\"\nrun = \"modprobe -r x\"\nfails = true\n\
                     [[step]]\nname = \"look\"\nafter = \"l1-kvm\"\non = \"l0\"\nrun = \"test -e /x\"\n";

fn cell(more: &str) -> (Matrix, Cell) {
    let folder = one_scenario::folder(Some(SYSTEMS), &format!("{AXES}{more}"));
    let matrix = Matrix::load(folder.path()).unwrap_or_else(|e| panic!("{e:?}"));
    let cell = matrix.cells()[0].clone();
    (matrix, cell)
}

fn record(cell: &Cell, verdict: VerdictWord, stage: Option<&str>) -> CellRecord {
    let stage = stage.map(|stage| stage.parse().unwrap());
    CellRecord { verdict, stage, ..CellRecord::skipped(cell, &[], false) }
}

/// What is recorded if the mutants came out like this, by their names; all others are missing.
fn recorded(
    more: &str,
    (verdict, stage): (VerdictWord, Option<&str>),
    results: &[(&str, VerdictWord, Option<&str>)],
) -> Option<(Vec<String>, Vec<String>)> {
    let (_, cell) = cell(more);
    let undamaged = record(&cell, verdict, stage);
    let original = Original::from(&undamaged);
    let mutants = mutants_of(&cell, &original).unwrap();
    let of = |(name, verdict, stage): &(&str, VerdictWord, Option<&str>)| {
        let mutant = mutants.mutants.iter().find(|mutant| mutant.mutation.name() == *name);
        record(&mutant.unwrap_or_else(|| panic!("{name}")).cell, *verdict, *stage)
    };
    let records: Vec<CellRecord> = results.iter().map(of).collect();
    let mutation = CellMutation::new(cell.name.clone(), original, &mutants, &records);
    shown(&cell, &undamaged, &mutation, "2026-11-28").map(|shown| (shown.killed, shown.survived))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

use VerdictWord::{Error, Fail, Pass, Xfail, Xpass};

#[test]
fn of_a_stack_that_is_to_work_every_damage_that_is_a_fail_counts() {
    let results = [
        ("l0-nesting-off", Fail, Some("l1-launch")),
        ("l2-qemu-killed-at-l2-boot", Fail, Some("l2-boot")),
        ("l1-bogus-property", Fail, Some("l1-launch")),
        ("l0-qemu-killed-at-l2-boot", Error, Some("l2-boot")),
    ];
    let killed = names(&["l0-nesting-off", "l2-qemu-killed-at-l2-boot"]);
    assert_eq!(recorded("", (Pass, None), &results), Some((killed, Vec::new())));
    let survived = recorded("", (Pass, None), &[("l2-on-tcg", Pass, None)]);
    assert_eq!(survived, Some((Vec::new(), names(&["l2-on-tcg"]))));
}

/// That L1's QEMU dies before the stop says nothing of why the stack stops.
#[rstest]
#[case::gone(("l0-without-kernel-parameters", Xpass, None), Some(true))]
#[case::later(("l0-without-kvm-module", Fail, Some("l1-kvm")), Some(true))]
#[case::cause_is_gone(("l0-without-kernel-parameters", Fail, Some("l0-kvm")), Some(true))]
#[case::hollow(("l0-without-kernel-parameters", Xfail, Some("l1-launch")), Some(false))]
#[case::another_crash(("l0-without-kvm-module", Fail, Some("l0-kvm")), None)]
fn of_a_documented_stop_only_that_counts_which_takes_it_away(
    #[case] result: (&str, VerdictWord, Option<&str>),
    #[case] bears: Option<bool>,
) {
    let shown = recorded(OFF, (Xfail, Some("l1-launch")), &[result]);
    let expected = bears.map(|killed| match killed {
        true => (names(&[result.0]), Vec::new()),
        false => (Vec::new(), names(&[result.0])),
    });
    assert_eq!(shown, expected);
}

#[test]
fn of_a_procedure_only_damage_to_its_steps_counts() {
    let results = [
        ("drop-step-1", Fail, Some("step-3")),
        ("true-step-2", Fail, Some("step-2")),
        ("l0-nesting-off", Fail, Some("l1-launch")),
    ];
    // Step 2 is noticed by itself, and step 3 stopped the first mutant.
    let killed = names(&["drop-step-1", "drop-step-2", "drop-step-3", "true-step-2"]);
    assert_eq!(recorded(STEPS, (Pass, None), &results), Some((killed, Vec::new())));
    assert_eq!(
        recorded(STEPS, (Pass, None), &results[2..]),
        None,
        "damage to the stack is none to the steps"
    );
}

#[test]
fn a_claim_that_is_known_to_be_wrong_is_decided_by_a_stack_that_works() {
    let wrong = format!(
        "{STEPS}[expect]\noutcome = \"works\"\n[expect.known-wrong]\nstage = \"step-1\"\nsymptom = \"in use\"\n\
         seen = \"2026-11-28\"\nnote = \"n\"\n"
    );
    let (_, cell) = cell(&wrong);
    let undamaged = CellRecord { as_described: true, ..record(&cell, Fail, Some("step-1")) };
    let original = Original::from(&undamaged);
    let mutants = mutants_of(&cell, &original).unwrap();
    let mutant = mutants.mutants.iter().find(|mutant| mutant.mutation.name() == "drop-step-1").unwrap();
    let records = [record(&mutant.cell, Pass, None)];
    let mutation = CellMutation::new(cell.name.clone(), original, &mutants, &records);
    assert_eq!(mutation.count(MutantOutcome::Survived), 0, "a report says the same");
    assert_eq!(shown(&cell, &undamaged, &mutation, "2026-11-28").unwrap().killed, ["drop-step-1"]);
}

/// A run that has this record, and this of its mutants.
fn run(undamaged: &CellRecord) -> PastRun {
    let record = json!({
        "format": FORMAT, "nestmatrix": "0.1.0", "run": "r", "began": "2026-11-28T20:15:09Z", "ended": null,
        "interrupted": false, "arguments": ["mutate"], "machine": Machine::this(), "emulators": [], "profile": null,
        "cells": 1, "verdicts": Tally::default(),
    });
    PastRun {
        folder: "r".into(),
        record: serde_json::from_value(record).unwrap(),
        cells: vec![undamaged.clone()],
        planned: None,
        mutations: None,
        complete: 0,
    }
}

#[test]
fn a_run_that_has_not_tried_all_mutants_of_a_cell_shows_nothing_of_it() {
    let (matrix, cell) = cell("");
    let undamaged = record(&cell, Pass, None);
    let original = Original::from(&undamaged);
    let mutants = mutants_of(&cell, &original).unwrap();
    let records: Vec<CellRecord> =
        mutants.mutants.iter().map(|mutant| record(&mutant.cell, Fail, Some("l1-launch"))).collect();
    let of = |records: &[CellRecord]| {
        let mutation = CellMutation::new(cell.name.clone(), original.clone(), &mutants, records);
        shown_by(&matrix, &run(&undamaged), &[mutation])
    };
    assert_eq!(of(&records).shown.len(), 1);
    let sampled = of(&records[1..]);
    assert_eq!(sampled.shown, []);
    assert_eq!(sampled.not_shown, [(cell.name.clone(), "not all of its mutants have a verdict")]);
}

#[test]
fn a_record_of_what_the_cell_no_longer_asks_for_shows_nothing() {
    /// What a run of the cell of this scenario, or of a version that recorded no fingerprint, shows of the cell as it is now.
    fn of(before: &str, now: &str, has_fingerprint: bool) -> Option<&'static str> {
        let (_, before) = cell(before);
        let (matrix, _) = cell(now);
        let mut undamaged = record(&before, Pass, None);
        undamaged.fingerprint = undamaged.fingerprint.filter(|_| has_fingerprint);
        let original = Original::from(&undamaged);
        let mutants = mutants_of(&before, &original).unwrap();
        let records: Vec<CellRecord> =
            mutants.mutants.iter().map(|mutant| record(&mutant.cell, Fail, Some("step-1"))).collect();
        let mutation = CellMutation::new(before.name, original, &mutants, &records);
        let by_run = shown_by(&matrix, &run(&undamaged), &[mutation]);
        assert_eq!(by_run.shown.len() + by_run.not_shown.len(), 1);
        by_run.not_shown.first().map(|(_, why)| *why)
    }

    let step = |name: &str, run: &str| {
        format!("[[step]]\nname = \"{name}\"\nafter = \"l0-kvm\"\non = \"l0\"\nrun = \"{run}\"\n")
    };
    let one = step("one", "modprobe x");
    assert_eq!(of(&one, &one, true), None);
    assert_eq!(of(&one, &step("two", "modprobe x"), true), None, "a step's name is prose");
    assert_eq!(of(&one, &step("one", "modprobe y"), true), Some("its scenario changed since"));
    let memory = format!("{one}[levels.l1]\nmemory-mib = 2048\n");
    assert_eq!(of(&one, &memory, true), Some("its scenario changed since"));
    assert_eq!(of(&one, &one, false), Some("its record has no fingerprint"));
}

#[test]
fn versions_are_what_guests_say_without_what_no_version_has() {
    assert_eq!(version("10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)"), "10.0.13");
    assert_eq!(version("6.12.107+deb13-cloud-amd64"), "6.12.107+deb13-cloud-amd64");
    assert_eq!(version("6.1\u{1b}[2J\"]\n[[x]]"), "6.12J");
}
