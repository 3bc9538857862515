//! The mutants of cells and their required verdicts, without booting any.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod one_scenario;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use nestmatrix::mutation::{Check, Mutant, Mutants, Mutation, judge, mutants_of, sample};
use nestmatrix::records::{
    CellMutation, CellRecord, MUTATIONS, MutantOutcome, MutationTally, Original, Rule, VerdictWord,
    read_mutations, write_mutations,
};
use nestmatrix::scenario::{Cell, Matrix};
use nestmatrix_model::{Architecture, Stage, StepAction};
use nestmatrix_stack::Symptom;
use rstest::rstest;

const SYSTEMS: &str = "[[system]]\nid = \"debian\"\nname = \"Debian\"\n\
                       [[system]]\nid = \"tcg\"\nname = \"TCG\"\nhypervisor = \"tcg\"\n";

const LEVELS: &str = "l0 = [\"debian 12\"]\nl1 = [\"debian 12\"]\nl2 = [\"debian 12\"]\n";

const STOPS: &str =
    "[expect]\noutcome = \"stops\"\nstage = \"l1-launch\"\nsymptom-kind = \"missing-cpu-feature\"\n";

/// A step in L0 after `l0-kvm`.
fn step(what: &str) -> String {
    format!("[[step]]\nname = \"n\"\nafter = \"l0-kvm\"\non = \"l0\"\n{what}\n")
}

/// The first cell of a scenario with these levels and this addition.
fn cell_with(levels: &str, more: &str) -> Cell {
    let axes = format!("architecture = [\"amd\"]\n{levels}{more}");
    let folder = one_scenario::folder(Some(SYSTEMS), &axes);
    let matrix = Matrix::load(folder.path()).unwrap_or_else(|e| panic!("{e:?}"));
    matrix.cells()[0].clone()
}

fn cell(more: &str) -> Cell {
    cell_with(LEVELS, more)
}

fn expected(cell: &Cell) -> Mutants {
    mutants_of(cell, &Original::as_expected(cell)).unwrap()
}

fn names(mutants: &Mutants) -> Vec<String> {
    mutants.mutants.iter().map(|mutant| mutant.mutation.name()).collect()
}

fn mutant(cell: &Cell, name: &str) -> Mutant {
    let mutants = expected(cell);
    let found = mutants.mutants.iter().find(|mutant| mutant.mutation.name() == name).cloned();
    found.unwrap_or_else(|| panic!("{name} in {:?}", names(&mutants)))
}

/// A record of a mutant with this verdict.
fn record(of: &Cell, verdict: VerdictWord) -> CellRecord {
    CellRecord { verdict, ..CellRecord::skipped(of, &[], false) }
}

fn real_cells() -> Vec<Cell> {
    Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap().cells().to_vec()
}

#[test]
fn a_stack_that_works_is_damaged_at_every_level_and_stage() {
    insta::assert_snapshot!(names(&expected(&cell(""))).join("\n"), @r"
    l0-nesting-off
    l0-bogus-property
    l0-without-kvm-module
    l1-on-tcg
    l1-bogus-property
    l1-without-kvm-module
    l2-on-tcg
    l2-bogus-property
    old-nonce
    innermost-on-l0
    l0-qemu-killed-at-l0-boot
    l0-qemu-killed-at-l0-kvm
    l0-qemu-killed-at-l1-launch
    l0-qemu-killed-at-l1-boot
    l0-qemu-killed-at-l1-kvm
    l0-qemu-killed-at-l2-launch
    l0-qemu-killed-at-l2-boot
    l0-qemu-killed-at-l2-check
    l1-qemu-killed-at-l1-boot
    l1-qemu-killed-at-l1-kvm
    l1-qemu-killed-at-l2-launch
    l1-qemu-killed-at-l2-boot
    l1-qemu-killed-at-l2-check
    l2-qemu-killed-at-l2-boot
    l2-qemu-killed-at-l2-check
    ");
}

#[test]
fn nothing_is_damaged_that_the_undamaged_stack_never_comes_to() {
    insta::assert_snapshot!(names(&expected(&cell(STOPS))).join("\n"), @r"
    l0-bogus-property
    l0-without-kvm-module
    l1-bogus-property
    l0-qemu-killed-at-l0-boot
    l0-qemu-killed-at-l0-kvm
    l0-qemu-killed-at-l1-launch
    ");
}

#[test]
fn an_emulator_as_l0_is_not_damaged_and_l1_runs_on_tcg_anyway() {
    let levels = "l0 = [\"tcg\"]\nl1 = [\"debian 12\"]\nl2 = [\"debian 12\"]\n";
    let names = names(&expected(&cell_with(levels, "")));
    assert!(names.iter().all(|name| !name.starts_with("l0-") && name != "l1-on-tcg"), "{names:?}");
    assert!(names.contains(&"l2-on-tcg".to_owned()), "{names:?}");
}

#[test]
fn nesting_is_not_switched_off_where_nothing_misses_it_or_the_scenario_sets_it() {
    let off = "l0-nesting-off".to_owned();
    let two_levels = cell_with("l0 = [\"debian 12\"]\nl1 = [\"debian 12\"]\n", "");
    assert!(!names(&expected(&two_levels)).contains(&off), "L1 hosts nothing");
    let by_parameter = cell("[levels.l0]\nkernel-parameters = [\"kvm_amd.nested=1\"]\n");
    assert!(!names(&expected(&by_parameter)).contains(&off));
    let by_step = cell(&step("run = \"modprobe -r kvm_amd && modprobe kvm_amd nested=1\""));
    assert!(!names(&expected(&by_step)).contains(&off));
}

/// A cell with these systems as L1 and L2, of the shipped ones.
fn with_windows(l1: &str, l2: &str) -> Cell {
    let axes = format!("architecture = [\"intel\"]\nl0 = [\"rhel 9\"]\nl1 = [{l1:?}]\nl2 = [{l2:?}]\n");
    Matrix::load(one_scenario::folder(None, &axes).path()).unwrap().cells()[0].clone()
}

#[rstest]
#[case::hyper_v("windows 11 with hyper-v", "rhel 9", &["l1-bogus-property", "old-nonce", "innermost-on-l0"])]
#[case::wsl2("windows 11 with wsl2", "wsl 2", &["l1-bogus-property", "old-nonce"])]
#[case::innermost("rhel 9", "windows 11", &["l1-on-tcg", "l1-bogus-property", "l1-without-kvm-module", "l2-bogus-property", "innermost-on-l0"])]
fn windows_and_its_guests_are_damaged_where_a_qemu_or_a_command_line_is(
    #[case] l1: &str,
    #[case] l2: &str,
    #[case] expected_names: &[&str],
) {
    let names = names(&expected(&with_windows(l1, l2)));
    let of_guests = names.iter().filter(|name| !name.starts_with("l0-") && !name.contains("qemu-killed"));
    assert_eq!(of_guests.collect::<Vec<_>>(), expected_names);
    let has_kills = |level: &str| names.iter().any(|name| name.contains("killed") && name.contains(level));
    assert!(has_kills("l1"), "{names:?}");
    assert_eq!(has_kills("l2-qemu"), l2.starts_with("windows"), "{names:?}");
}

#[test]
fn every_mutant_of_the_real_cells_is_another_cell_with_a_name_of_its_own() {
    let mut seen = BTreeSet::new();
    for cell in real_cells() {
        assert!(seen.insert(cell.name.clone()));
        let mutants = expected(&cell);
        assert!(mutants.unused.is_empty(), "{}: accepts {:?}", cell.name, mutants.unused);
        for mutant in mutants.mutants {
            let name = mutant.cell.name.clone();
            assert!(name.as_str().starts_with(cell.name.as_str()), "{name}");
            assert_ne!(
                Cell { name: cell.name.clone(), ..mutant.cell },
                cell,
                "{name} changes nothing: its damage could not show"
            );
            assert!(seen.insert(name.clone()), "{name} is there twice");
        }
    }
}

#[test]
fn a_step_is_dropped_if_something_changes_by_it_and_the_others_keep_their_numbers() {
    let act = step("run = \"modprobe -r kvm_amd && modprobe kvm_amd\"");
    let look = step("run = \"grep 1 /sys/module/kvm_amd/parameters/nested\"");
    let cell = cell(&[act, look].concat());
    let mutants = expected(&cell);
    assert_eq!(mutants.checks, [Check { step: 2, accepted: None }]);
    let names = names(&mutants);
    assert!(!names.iter().any(|name| name.contains("step-2")), "{names:?}");
    let dropped = mutant(&cell, "drop-step-1");
    assert_eq!(dropped.cell.steps[1], cell.steps[1], "step 2 is still the second");
    let StepAction::Run(command) = &dropped.cell.steps[0].action else { panic!("{dropped:#?}") };
    assert_eq!((command.run.as_str(), command.fails), ("true", false), "a step that does nothing succeeds");
}

#[test]
fn a_step_that_must_fail_or_print_something_must_notice_a_command_that_does_neither() {
    let refused = step("run = \"modprobe -r kvm_amd\"\nfails = true");
    let says = step("run = \"modprobe -v kvm_amd\"\noutput = \"insmod\"");
    let cell = cell(&[refused, says].concat());
    let mutants = expected(&cell);
    assert_eq!(mutants.checks, [Check { step: 1, accepted: None }], "that it is refused is a check");
    let steps: Vec<String> = names(&mutants).into_iter().filter(|name| name.contains("step")).collect();
    assert_eq!(steps, ["true-step-1", "drop-step-2", "true-step-2"]);
    let StepAction::Run(command) = &mutant(&cell, "true-step-1").cell.steps[0].action.clone() else {
        panic!()
    };
    assert_eq!((command.run.as_str(), command.fails), ("true", true), "what is expected stays");
}

#[test]
fn a_feature_is_no_longer_required_where_the_stack_was_seen_to_stop_for_it() {
    let lacking = "[levels.l1]\ncpu = { mode = \"host-passthrough\", require = [\"svm\", \"vmx\"] }\n";
    let cell = cell(&format!("{lacking}{STOPS}symptom = \"vmx\"\n"));
    let seen = |feature: &str| Original {
        symptom: Some(Symptom::MissingCpuFeature {
            level: cell.levels[1].level,
            feature: feature.into(),
            model: "host".into(),
            nested: None,
        }),
        ..Original::as_expected(&cell)
    };
    let of = |feature: &str| mutants_of(&cell, &seen(feature)).unwrap();
    let without =
        of("vmx").mutants.into_iter().find(|mutant| mutant.mutation.name() == "l1-not-required-vmx");
    assert_eq!(without.unwrap().cell.levels[1].settings.cpu.require, ["svm"]);
    let svm = names(&of("svm"));
    assert!(!svm.iter().any(|name| name.contains("required")), "every L1 that hosts needs svm: {svm:?}");
}

#[test]
fn the_extension_of_a_model_that_the_scenario_chooses_is_no_longer_required() {
    let cpu = |cpu: &str| cell(&format!("[levels.l1]\ncpu = {{ {cpu} }}\n"));
    let required = |cell: &Cell| names(&expected(cell)).iter().any(|name| name == "l1-not-required-svm");
    let custom = cpu("mode = \"custom\", model = \"EPYC\", require = [\"svm\", \"npt\"]");
    assert_eq!(mutant(&custom, "l1-not-required-svm").cell.levels[1].settings.cpu.require, ["npt"]);
    let without = cpu("mode = \"custom\", model = \"EPYC\"");
    assert!(!required(&without), "it is not required");
    let stops = Original { stage: Some("l1-kvm".parse().unwrap()), ..Original::as_expected(&without) };
    let of_control = names(&mutants_of(&without, &stops).unwrap());
    assert!(!of_control.contains(&"l0-nesting-off".to_owned()), "such an L1 misses nothing: {of_control:?}");
    assert!(of_control.contains(&"l1-without-cpu-model".to_owned()), "{of_control:?}");
    assert!(!required(&cpu("mode = \"host-passthrough\", require = [\"svm\"]")), "L1 gets it anyway");
}

#[rstest]
#[case::works("", "l1-bogus-property", Rule::FailOrError)]
#[case::stops(STOPS, "l1-bogus-property", Rule::Rejected)]
#[case::metal(STOPS, "l0-bogus-property", Rule::FailOrError)]
#[case::documented(
    "[expect]\noutcome = \"stops\"\nstage = \"l1-launch\"\nsymptom-kind = \"command-line-rejected\"\nsymptom = \"x\"\n",
    "l1-bogus-property",
    Rule::NotGreen
)]
#[case::metal_killed("", "l0-qemu-killed-at-l2-boot", Rule::FailOrError)]
#[case::guest_killed("", "l1-qemu-killed-at-l2-boot", Rule::NotGreen)]
#[case::tcg("", "l2-on-tcg", Rule::NotGreen)]
fn what_must_come_of_a_mutant_depends_on_what_is_damaged_and_expected(
    #[case] more: &str,
    #[case] name: &str,
    #[case] rule: Rule,
) {
    assert_eq!(mutant(&cell(more), name).rule, rule);
}

#[rstest]
#[case::noticed(Rule::NotGreen, VerdictWord::Fail, MutantOutcome::Killed)]
#[case::limitation_gone(Rule::NotGreen, VerdictWord::Xpass, MutantOutcome::Killed)]
#[case::works_all_the_same(Rule::NotGreen, VerdictWord::Pass, MutantOutcome::Survived)]
#[case::taken_for_the_limitation(Rule::NotGreen, VerdictWord::Xfail, MutantOutcome::Survived)]
#[case::harness(Rule::NotGreen, VerdictWord::Error, MutantOutcome::Undecided)]
#[case::not_run(Rule::NotGreen, VerdictWord::Skip, MutantOutcome::Undecided)]
#[case::metal(Rule::FailOrError, VerdictWord::Error, MutantOutcome::Killed)]
#[case::metal_green(Rule::FailOrError, VerdictWord::Xfail, MutantOutcome::Survived)]
#[case::tried_nothing(Rule::Rejected, VerdictWord::Fail, MutantOutcome::Survived)]
#[case::another_error(Rule::Rejected, VerdictWord::Error, MutantOutcome::Undecided)]
fn a_mutant_is_killed_by_the_verdict_that_its_rule_wants(
    #[case] rule: Rule,
    #[case] verdict: VerdictWord,
    #[case] outcome: MutantOutcome,
) {
    let mutant = Mutant { rule, ..mutant(&cell(""), "l2-on-tcg") };
    let original = Original::as_expected(&cell(""));
    assert_eq!(judge(&original, &mutant, &record(&mutant.cell, verdict)), outcome);
    if outcome == MutantOutcome::Survived {
        let accepted = Mutant { accepted: Some("so be it".into()), ..mutant };
        assert_eq!(judge(&original, &accepted, &record(&accepted.cell, verdict)), MutantOutcome::Accepted);
    }
}

#[test]
fn a_rejected_command_line_must_be_an_error_of_just_that_kind() {
    let cell = cell(STOPS);
    let mutant = mutant(&cell, "l1-bogus-property");
    let (level, said) = (cell.levels[1].level, "Property not found".to_owned());
    let symptom = Symptom::CommandLineRejected { level, said, asked_for: true, by_libvirt: false };
    let rejected = CellRecord { symptom_data: Some(symptom), ..record(&mutant.cell, VerdictWord::Error) };
    assert_eq!(judge(&Original::as_expected(&cell), &mutant, &rejected), MutantOutcome::Killed);
}

#[test]
fn an_innermost_level_on_l0_must_fail_or_leave_evidence_missing() {
    let cell = cell("");
    let (original, mutant) = (Original::as_expected(&cell), mutant(&cell, "innermost-on-l0"));
    assert_eq!(mutant.rule, Rule::FailOrMissingEvidence);
    let error =
        |symptom| CellRecord { symptom_data: Some(symptom), ..record(&mutant.cell, VerdictWord::Error) };
    let missing = error(Symptom::MissingEvidence { what: "exits of L1".into() });
    assert_eq!(judge(&original, &mutant, &missing), MutantOutcome::Killed);
    assert_eq!(judge(&original, &mutant, &error(Symptom::Unknown)), MutantOutcome::Undecided);
    let of = |verdict| judge(&original, &mutant, &record(&mutant.cell, verdict));
    assert_eq!(of(VerdictWord::Error), MutantOutcome::Undecided, "nothing says what went wrong");
    assert_eq!(of(VerdictWord::Fail), MutantOutcome::Killed);
    assert_eq!(of(VerdictWord::Pass), MutantOutcome::Survived);
}

#[test]
fn a_fail_that_is_known_notices_nothing() {
    let known = "[expect]\noutcome = \"works\"\n[expect.known-wrong]\nfrom = \"l1-launch\"\nno-symptom = \"n\"\n\
                 seen = \"2026-11-22\"\nnote = \"n\"\n";
    let cell = cell(known);
    let (original, mutant) = (Original::as_expected(&cell), mutant(&cell, "l0-without-kvm-module"));
    let fail = record(&mutant.cell, VerdictWord::Fail);
    assert_eq!(judge(&original, &mutant, &fail), MutantOutcome::Killed);
    let as_described = CellRecord { as_described: true, ..fail };
    assert_eq!(judge(&original, &mutant, &as_described), MutantOutcome::Survived);
    // It works and is green, as if the claim were right: the verdict differs from that without damage.
    let works = record(&mutant.cell, VerdictWord::Pass);
    assert_eq!(judge(&original, &mutant, &works), MutantOutcome::Killed);
    let original = Original { verdict: VerdictWord::Pass, stage: None, ..original };
    assert_eq!(judge(&original, &mutant, &works), MutantOutcome::Survived, "it works without damage too");
}

const CUSTOM: &str = "[[mutation]]\nname = \"no-file\"\nstep = 1\nrun = \"rm /etc/file\"\naccept = \"why\"\n\
                      [[mutation]]\nname = \"slow\"\nlevel = \"l1\"\nkernel-parameters = [\"nosmp\"]\n\
                      [[mutation]]\nname = \"l1-qemu-killed-*\"\naccept = \"any stop will do\"\n\
                      [[mutation]]\nname = \"l7-on-tcg\"\naccept = \"typo\"\n";

#[test]
fn a_scenario_adds_mutations_and_accepts_survivors_with_a_reason() {
    let cell = cell(&format!("{}{CUSTOM}", step("run = \"echo x >/etc/file\"")));
    let file = mutant(&cell, "custom-no-file");
    assert_eq!(file.accepted.as_deref(), Some("why"));
    let StepAction::Run(command) = &file.cell.steps[0].action else { panic!("{file:#?}") };
    assert_eq!(command.run, "rm /etc/file");
    let slow = mutant(&cell, "custom-slow");
    assert_eq!(
        (slow.cell.levels[1].settings.kernel_parameters.join(" "), slow.accepted),
        ("nosmp".into(), None)
    );
    let killed = mutant(&cell, "l1-qemu-killed-at-l2-boot");
    assert_eq!(killed.accepted.as_deref(), Some("any stop will do"));
    assert_eq!(mutant(&cell, "l2-qemu-killed-at-l2-boot").accepted, None);
    assert_eq!(expected(&cell).unused, ["l7-on-tcg"]);
}

#[test]
fn a_mutation_is_made_of_the_cells_of_its_architectures_alone() {
    let custom = |name: &str, of: &str| {
        format!(
            "[[mutation]]\nname = \"{name}\"\narchitectures = [{of}]\nlevel = \"l0\"\nkernel-parameters = [\"a\"]\n"
        )
    };
    let cell = cell(&[custom("both", "\"intel\", \"amd\""), custom("other", "\"intel\"")].concat());
    let customs: Vec<String> =
        names(&expected(&cell)).into_iter().filter(|name| name.starts_with("custom-")).collect();
    assert_eq!(customs, ["custom-both"]);
}

#[test]
fn what_a_scenario_sets_of_a_level_is_taken_away_each_by_itself() {
    let settings = "[levels.l0]\nkernel-parameters = [\"a=1\", \"b\"]\ndisk = true\n\
                    [levels.l1]\ncpu = { mode = \"custom\", model = \"EPYC\", require = [\"svm\"] }\n\
                    machine = [\"hpet=off\"]\n";
    let cell = cell(settings);
    let without: Vec<String> =
        names(&expected(&cell)).into_iter().filter(|name| name.contains("-without-")).collect();
    assert_eq!(
        without,
        [
            "l0-without-kernel-parameters",
            "l0-without-disk",
            "l0-without-kvm-module",
            "l1-without-cpu-model",
            "l1-without-machine-properties",
            "l1-without-kvm-module"
        ]
    );
    let model = mutant(&cell, "l1-without-cpu-model").cell.levels[1].clone();
    assert_eq!(
        (model.settings.cpu.require.join(" "), model.settings.machine.len()),
        ("svm".into(), 1),
        "the rest stays"
    );
    let stops = cell_with(LEVELS, &format!("{settings}{STOPS}"));
    assert!(!names(&expected(&stops)).contains(&"l1-without-cpu-model".to_owned()), "L1 is never launched");
}

#[test]
fn a_check_has_to_stop_a_mutant() {
    let cell = cell("");
    let (tcg, nesting) = (mutant(&cell, "l2-on-tcg"), mutant(&cell, "l0-nesting-off"));
    let stopped_at = |mutant: &Mutant, stage: &str| {
        let stage: Stage = stage.parse().unwrap();
        CellRecord { stage: Some(stage), ..record(&mutant.cell, VerdictWord::Fail) }
    };
    let records = [stopped_at(&tcg, "l2-launch"), stopped_at(&nesting, "step-2")];
    let checks = [1, 2, 3].map(|step| Check { step, accepted: (step == 3).then(|| "why".to_owned()) });
    let mutants =
        Mutants { mutants: vec![tcg, nesting], checks: checks.to_vec(), unused: vec!["l9-*".into()] };
    let original = Original::as_expected(&cell);
    let judged =
        |records: &[CellRecord]| CellMutation::new(cell.name.clone(), original.clone(), &mutants, records);
    let outcome = |of: &CellMutation, name: &str| {
        of.results.iter().find(|result| result.mutation == name).map(|result| result.outcome).unwrap()
    };
    let complete = judged(&records);
    assert!(complete.complete && complete.unused == ["l9-*"]);
    assert_eq!(outcome(&complete, "drop-step-1"), MutantOutcome::Survived);
    assert_eq!(outcome(&complete, "drop-step-2"), MutantOutcome::Killed, "it stopped l0-nesting-off");
    assert_eq!(outcome(&complete, "drop-step-3"), MutantOutcome::Accepted);
    assert_eq!(complete.results[0].mutation, "drop-step-1", "survivors come first");
    assert_eq!(MutationTally::of([&complete]).exit_code(), 1);
    let here = Original { stage: Some("step-1".parse().unwrap()), ..original.clone() };
    let itself = CellMutation::new(cell.name.clone(), here, &mutants, &records);
    assert_eq!(outcome(&itself, "drop-step-1"), MutantOutcome::Killed, "the cell itself stops at it");
    let sampled = judged(&records[1..]);
    assert!(!sampled.complete && outcome(&sampled, "drop-step-2") == MutantOutcome::Killed);
    assert_eq!(outcome(&sampled, "drop-step-1"), MutantOutcome::NotTried);
    assert_eq!(MutationTally::of([&sampled]).exit_code(), 0);
}

#[test]
fn what_came_of_mutants_is_read_as_it_was_written() {
    let run = tempfile::tempdir().unwrap();
    assert_eq!(read_mutations(run.path()).unwrap(), None);
    let cell = cell("");
    let mutants = expected(&cell);
    let records: Vec<CellRecord> =
        mutants.mutants.iter().map(|mutant| record(&mutant.cell, VerdictWord::Fail)).collect();
    let judged = CellMutation::new(cell.name.clone(), Original::as_expected(&cell), &mutants, &records);
    write_mutations(run.path(), std::slice::from_ref(&judged)).unwrap();
    assert_eq!(read_mutations(run.path()).unwrap(), Some(vec![judged]));
    fs::write(run.path().join(MUTATIONS), "{}\n").unwrap();
    assert!(read_mutations(run.path()).unwrap_err().to_string().contains("line 1"));
}

#[test]
fn a_survivor_fails_the_command_and_what_is_undecided_leaves_it_incomplete() {
    let tally = MutationTally { cells: 1, killed: 1, ..MutationTally::default() };
    assert_eq!(tally.exit_code(), 0);
    assert_eq!(MutationTally { accepted: 1, ..tally }.exit_code(), 0);
    assert_eq!(MutationTally { undecided: 1, ..tally }.exit_code(), 3);
    assert_eq!(MutationTally { not_green: 1, ..tally }.exit_code(), 3);
    assert_eq!(MutationTally { survived: 1, undecided: 1, ..tally }.exit_code(), 1);
    assert_eq!(MutationTally::default().exit_code(), 4);
}

/// Its known behaviour would have to turn it red on some days.
#[test]
fn a_cell_that_is_known_to_be_flaky_has_no_mutants_and_is_not_red() {
    let flaky = "[[known-flaky]]\nstage = \"l2-boot\"\nsymptom-kind = \"stopped-by-qemu\"\nseen = \"2026-11-28\"\nnote = \"n\"\n\
                 cells = [\"*\"]\nmetal = \"emulated\"\nversions = \"Linux 6.1\"\nstopped = 3\nof = 4\n";
    let cell = cell(flaky);
    let record = record(&cell, VerdictWord::Flaky);
    assert_eq!(Original::why_no_mutants(&record), None, "news: it has to be looked at");
    assert!(!Original::from(&record).green);
    let known_flaky = cell.known_flaky.first().cloned();
    let known = CellRecord { as_described: true, known_flaky, ..record };
    assert!(Original::why_no_mutants(&known).unwrap().contains("flaky"));
    assert_eq!(Original::why_no_mutants(&CellRecord { verdict: VerdictWord::Fail, ..known }), None);
}

#[test]
fn a_sample_depends_on_its_seed_and_not_on_the_order_of_the_mutants() {
    let mutants = expected(&cell("")).mutants;
    let names = |mutants: Vec<Mutant>| -> BTreeSet<String> {
        mutants.iter().map(|mutant| mutant.mutation.name()).collect()
    };
    let chosen = names(sample(mutants.clone(), 5, 7));
    assert_eq!(chosen.len(), 5);
    assert_eq!(names(sample(mutants.iter().rev().cloned().collect(), 5, 7)), chosen);
    assert!((8..20).any(|seed| names(sample(mutants.clone(), 5, seed)) != chosen));
    assert_eq!(sample(mutants.clone(), 0, 7), []);
    assert_eq!(sample(mutants.clone(), 1000, 7), mutants);
}

#[test]
fn nesting_is_switched_off_by_the_parameter_of_the_architectures_module() {
    let parameters = |architecture| {
        let cell = Cell { architecture, ..cell("") };
        let off = expected(&cell).mutants.into_iter().find(|one| one.mutation == Mutation::NestingOff);
        off.map(|off| off.cell.levels[0].settings.kernel_parameters.join(" "))
    };
    assert_eq!(parameters(Architecture::Amd).as_deref(), Some("kvm_amd.nested=0"));
    assert_eq!(parameters(Architecture::Intel).as_deref(), Some("kvm_intel.nested=0"));
    assert_eq!(parameters(Architecture::Power9).as_deref(), Some("kvm_hv.nested=0"));
    assert_eq!(parameters(Architecture::Arm), None, "its module has no such parameter");
}
