//! Each mistake that an author of scenarios can make is reported with its file, line and column, and with advice. The snapshots
//! are those reports.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod matrix_folder;

use std::fs;
use std::path::Path;

use matrix_folder::write;
use miette::{Diagnostic, NarratableReportHandler};
use nestmatrix::scenario::{Filter, InputError, InputErrors, Matrix, ScenarioProblem};
use nestmatrix_input::{FILE_SIZE_LIMIT, FileProblem};
use rstest::rstest;

const SYSTEMS: &str = r#"
[[system]]
id = "rhel"
name = "RHEL"

[[stand-in]]
for = "rhel 9"
image = "debian-12"
reason = "near enough for a test"
"#;

const DOCUMENT: &str = r#"
id = "limits"
title = "Limits"
product = "RHEL 9"
section = "22.2"
language = "en"

[[claim]]
id = "works"
section = "22.2"
tier = "supported"
text = "It works."
"#;

const SCENARIO: &str = r#"name = "preview"
title = "Preview"
document = "limits"
claims = ["works"]
tier = "technology-preview"

[axes]
architecture = ["amd"]
l0 = ["rhel 9.2 and later"]
l1 = ["rhel 9.2 and later"]
l2 = ["rhel 9.2"]
"#;

/// A folder with one good file of each kind, changed by `change`, and what loading it gives.
fn load(change: impl FnOnce(&Path)) -> (Result<Matrix, InputErrors>, String) {
    let folder = matrix_folder::with_files([
        ("systems.toml", SYSTEMS),
        ("documents/limits.toml", DOCUMENT),
        ("product/preview.toml", SCENARIO),
    ]);
    let root = folder.path();
    change(root);
    (Matrix::load(root), root.display().to_string())
}

fn render(diagnostic: &dyn Diagnostic) -> String {
    let mut report = String::new();
    NarratableReportHandler::new().render_report(&mut report, diagnostic).unwrap();
    report
}

/// The whole report of errors in a folder, without the folder's own path.
fn report(change: impl FnOnce(&Path)) -> String {
    let (loaded, root) = load(change);
    render(&loaded.unwrap_err()).replace(&root, "scenarios")
}

/// The report for the good scenario with one text in it replaced.
fn scenario_with(from: &str, to: &str) -> String {
    assert_eq!(SCENARIO.matches(from).count(), 1, "{from} is not there once");
    report(|root| write(root, "product/preview.toml", SCENARIO.replace(from, to)))
}

/// The report for the good scenario with this addition.
fn scenario_and(more: &str) -> String {
    report(|root| write(root, "product/preview.toml", format!("{SCENARIO}\n{more}")))
}

#[test]
fn nothing_is_wrong_with_the_files_that_the_other_tests_change() {
    let matrix = load(|_| ()).0.unwrap();
    assert_eq!(matrix.cells().len(), 1);
    assert_eq!(matrix.cells()[0].name.as_str(), "preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2");
}

#[test]
fn measurements_that_can_not_be() {
    let step = |keys: &str| format!("[[step]]\nname = \"m\"\nafter = \"l2-check\"\non = \"l2\"\n{keys}\n");
    let steps = [
        "measure = \"system-calls\"\nagainst = [\"l1\"]",
        "measure = \"exit\"\nagainst = [\"l1\", \"l1\"]",
        "measure = \"exit\"\nagainst = [\"l2\"]",
        "measure = \"exit\"\nagainst = [\"l3\"]",
        "measure = \"exit\"\nagainst = []",
        "measure = \"exit\"\nagainst = [\"l1\"]\nrepeat = 3",
        "measure = \"vmexit\"\nagainst = [\"l1\"]",
        "measure = \"disk\"\nagainst = [\"l1\"]",
        "measure = \"network\"\nagainst = [\"l1\"]",
        "run = \"true\"\ntimes = 6",
        "measure = \"exit\"\nagainst = [\"l1\"]\nexpect = { of = \"l0\", at-least-percent = 5, reference = \"r\" }",
        "measure = \"exit\"\nagainst = [\"l1\"]\nexpect = { of = \"l1\", reference = \"r\" }",
        "measure = \"exit\"\nagainst = [\"l1\"]\ntimes = 5\nexpect = { of = \"l1\", at-least-percent = 5, reference = \"r\" }",
        "measure = \"exit\"\nagainst = [\"l1\"]\nexpect = { of = \"l1\", at-least-percent = 9, at-most-percent = 5, reference = \"r\" }",
    ];
    let early =
        "[[step]]\nname = \"m\"\nafter = \"l1-kvm\"\non = \"l1\"\nmeasure = \"exit\"\nagainst = [\"l2\"]\n";
    insta::assert_snapshot!(scenario_and(&(steps.map(step).concat() + early)));
}

#[test]
fn unknown_key() {
    insta::assert_snapshot!(scenario_with("title =", "titel ="));
}

#[test]
fn unknown_key_in_an_inner_table() {
    insta::assert_snapshot!(scenario_and("[levels.l1]\ncpu = { modell = \"EPYC\" }"));
}

#[test]
fn wrong_type() {
    insta::assert_snapshot!(scenario_with("[\"amd\"]", "\"amd\""));
}

#[test]
fn wrong_type_inside_a_list() {
    insta::assert_snapshot!(scenario_with("[\"works\"]", "[\"works\", 7]"));
}

#[test]
fn unknown_system() {
    insta::assert_snapshot!(scenario_with("\"rhel 9.2\"]", "\"rhle 9.2\"]"));
}

#[test]
fn not_a_system_and_version() {
    insta::assert_snapshot!(scenario_with("\"rhel 9.2\"]", "\"rhel 9.2 or later\"]"));
}

#[test]
fn unknown_architecture() {
    insta::assert_snapshot!(scenario_with("[\"amd\"]", "[\"amd64\"]"));
}

#[test]
fn unknown_erratum_of_an_emulator() {
    insta::assert_snapshot!(scenario_with("\n[axes]", "emulator-errata = [\"tcg-lmsw\"]\n[axes]"));
}

#[test]
fn unknown_claim() {
    insta::assert_snapshot!(scenario_with("[\"works\"]", "[\"work\"]"));
}

#[test]
fn unknown_claim_of_another_document() {
    insta::assert_snapshot!(scenario_with("[\"works\"]", "[\"works\", \"limits/wroks\", \"limit/works\"]"));
}

#[test]
fn claim_twice_with_and_without_its_document() {
    insta::assert_snapshot!(scenario_with("[\"works\"]", "[\"works\", \"limits/works\"]"));
}

#[test]
fn claim_that_no_boot_can_decide() {
    insta::assert_snapshot!(report(|root| {
        write(root, "documents/limits.toml", format!("{DOCUMENT}\nuntestable = \"a promise\""));
    }));
}

#[test]
fn bug_report_without_state_and_with_addresses_that_are_none() {
    let addresses = r#"["bugs.invalid/1", "https://bugs.invalid/2", "https://bugs.invalid/\u001b[31m3"]"#;
    let claim = format!(
        "{DOCUMENT}\n[claim.report]\naddresses = {addresses}\nseen-with = \"QEMU 8.2\"\nstatus = \"open\""
    );
    insta::assert_snapshot!(report(|root| write(root, "documents/limits.toml", claim)));
}

#[test]
fn contradictions_without_both_their_ends() {
    insta::assert_snapshot!(report(|root| {
        let contradictions = [
            r#"["limits/works", "limits/wroks"]"#,
            r#"["limit/works", "limits/works"]"#,
            r#"["works", "limits/works"]"#,
            r#"["limits/works"]"#,
        ];
        let table = |claims| format!("[[contradiction]]\nclaims = {claims}\ntext = \"They differ.\"\n");
        write(root, "contradictions.toml", contradictions.map(table).concat());
    }));
}

#[test]
fn contradictions_with_other_documents_without_claims_or_source() {
    insta::assert_snapshot!(report(|root| {
        let wrong = [
            "claims = []\noutside = \"A manual\"\nsource = \"its page 3\"",
            "claims = [\"limits/wroks\"]\noutside = \"A manual\"\nsource = \" \"",
            "claims = [\"works\"]\noutside = \"A manual\"",
        ];
        let table = |keys| format!("[[outside-contradiction]]\n{keys}\ntext = \"They differ.\"\n");
        write(root, "contradictions.toml", wrong.map(table).concat());
    }));
}

#[test]
fn cell_that_tries_no_claim() {
    insta::assert_snapshot!(report(|root| {
        let l1 = "l1 = [{ system = \"rhel 9.2 and later\", claims = [\"works\"] }, \"rhel 9.3\"]";
        let scenario = SCENARIO.replace("claims = [\"works\"]\n", "");
        write(root, "product/preview.toml", scenario.replace("l1 = [\"rhel 9.2 and later\"]", l1));
    }));
}

#[test]
fn value_of_an_axis_with_mistakes_of_its_own() {
    let l1 = "[{ system = \"rhel 9.2 and later\", claims = [\"wroks\"] }, { sistem = \"rhel 9.3\" }, 9.4]";
    insta::assert_snapshot!(scenario_with("l1 = [\"rhel 9.2 and later\"]", &format!("l1 = {l1}")));
}

#[test]
fn unknown_claim_among_many() {
    insta::assert_snapshot!(report(|root| {
        let claim = |number| {
            format!(
                "[[claim]]\nid = \"works-{number}\"\nsection = \"1\"\ntier = \"supported\"\ntext = \"t\"\n"
            )
        };
        let claims: String = (0..40).map(claim).collect();
        write(root, "documents/limits.toml", format!("{DOCUMENT}{claims}"));
        write(root, "product/preview.toml", SCENARIO.replace("[\"works\"]", "[\"wroks-39\"]"));
    }));
}

#[test]
fn unknown_document() {
    insta::assert_snapshot!(scenario_with("\"limits\"", "\"limit\""));
}

#[test]
fn scenario_name_that_leads_upwards() {
    insta::assert_snapshot!(scenario_with("\"preview\"", "\"..\""));
}

#[test]
fn scenario_name_with_a_slash() {
    insta::assert_snapshot!(scenario_with("\"preview\"", "\"a/b\""));
}

#[test]
fn duplicate_scenario_name() {
    insta::assert_snapshot!(report(|root| write(root, "product/second.toml", SCENARIO)));
}

#[test]
fn duplicate_cell_name() {
    insta::assert_snapshot!(scenario_with("[\"amd\"]", "[\"amd\", \"amd\"]"));
}

#[test]
fn empty_axis() {
    insta::assert_snapshot!(scenario_with("[\"rhel 9.2\"]", "[]"));
}

#[test]
fn missing_axis() {
    insta::assert_snapshot!(report(|root| {
        let scenario = SCENARIO.replace("l1 = [\"rhel 9.2 and later\"]\n", "").replace("l2 =", "l3 =");
        write(root, "product/preview.toml", scenario);
    }));
}

#[test]
fn stage_that_does_not_exist() {
    insta::assert_snapshot!(scenario_and(
        "[expect]\noutcome = \"stops\"\nsymptom = \"svm\"\nstage = \"l1-lunch\""
    ));
}

#[test]
fn stage_of_a_deeper_stack() {
    insta::assert_snapshot!(scenario_and(
        "[expect]\noutcome = \"stops\"\nsymptom = \"svm\"\nstage = \"l3-boot\""
    ));
}

#[test]
fn stop_without_its_stage() {
    insta::assert_snapshot!(scenario_and("[expect]\noutcome = \"stops\"\nsymptom = \"svm\""));
}

#[test]
fn symptom_of_what_works() {
    insta::assert_snapshot!(scenario_and("[expect]\noutcome = \"works\"\nsymptom = \"svm\""));
}

#[test]
fn symptoms_that_ask_for_nothing_or_are_no_texts() {
    insta::assert_snapshot!(scenario_and(
        "[expect]\noutcome = \"stops\"\nstage = \"l1-launch\"\nsymptom = [\"svm\", \" \", 7]"
    ));
    insta::assert_snapshot!(scenario_and(
        "[expect]\noutcome = \"stops\"\nstage = \"l1-launch\"\nsymptom = true"
    ));
}

#[rstest]
fn stop_of_which_nothing_is_said_that_tells_it_from_another(#[values("stops", "may-stop")] outcome: &str) {
    let report = scenario_and(&format!("[expect]\noutcome = \"{outcome}\"\nstage = \"l1-launch\""));
    assert!(report.contains("any stop would count as the documented one"), "{report}");
    assert!(report.contains("`no-symptom = \"...\"` with the reason why there is none"), "{report}");
}

#[rstest]
#[case::of_the_harness("symptom-kind = \"harness\"", "unknown kind of symptom `harness`")]
#[case::with_a_reason(
    "symptom-kind = \"no-kvm\"\nno-symptom = \"the document names none\"",
    "`symptom-kind` and `no-symptom` exclude each other"
)]
#[case::timeout_alone("symptom-kind = \"timeout\"", "a timeout as the documented symptom requires a control")]
#[case::control_alone("symptom-kind = \"no-kvm\"\ncontrol = \"preview\"", "only a timeout takes one")]
#[case::control_that_is_not_there(
    "symptom-kind = \"timeout\"\ncontrol = \"nothing\"",
    "unknown scenario `nothing`"
)]
#[case::control_that_stops(
    "symptom-kind = \"timeout\"\ncontrol = \"preview\"",
    "preview can't be the control"
)]
fn kind_of_symptom_that_can_not_be_documented(#[case] keys: &str, #[case] expected: &str) {
    let report = scenario_and(&format!("[expect]\noutcome = \"stops\"\nstage = \"l1-launch\"\n{keys}"));
    assert!(report.contains(expected), "{report}");
}

#[test]
fn symptom_with_a_reason_why_there_is_none() {
    let both = "symptom = \"svm\"\nno-symptom = \"the document names none\"";
    insta::assert_snapshot!(scenario_and(&format!(
        "[expect]\noutcome = \"stops\"\nstage = \"l1-launch\"\n{both}"
    )));
}

#[test]
fn reason_without_a_text_why_there_is_no_symptom() {
    insta::assert_snapshot!(scenario_and(
        "[expect]\noutcome = \"stops\"\nstage = \"l1-launch\"\nno-symptom = \"\""
    ));
}

#[test]
fn reason_for_no_symptom_of_what_works() {
    insta::assert_snapshot!(scenario_and("[expect]\noutcome = \"works\"\nno-symptom = \"it works\""));
}

#[test]
fn stop_at_a_stage_and_from_another() {
    let expect =
        "[expect]\noutcome = \"may-stop\"\nsymptom = \"svm\"\nfrom = \"l1-launch\"\nstage = \"l1-lunch\"";
    insta::assert_snapshot!(scenario_and(expect));
}

#[test]
fn stop_from_what_is_no_text() {
    insta::assert_snapshot!(scenario_and("[expect]\noutcome = \"stops\"\nsymptom = \"svm\"\nfrom = 1"));
}

#[test]
fn stop_at_a_step_that_the_scenario_lacks() {
    let step = "[[step]]\nname = \"look\"\nafter = \"l1-kvm\"\non = \"l1\"\nrun = \"true\"";
    let expect = "[expect]\noutcome = \"stops\"\nsymptom = \"svm\"\nstage = \"step-2\"";
    insta::assert_snapshot!(scenario_and(&format!("{expect}\n{step}")));
}

#[test]
fn steps_that_run_tests_of_a_suite() {
    let of_suite = "suite = \"kvm-unit-tests\"\n";
    let step = |on: &str, keys: &str| {
        format!("[[step]]\nname = \"tests\"\nafter = \"l1-boot\"\non = \"{on}\"\n{keys}\n")
    };
    let steps = [
        step("l0", "suite = \"kvm-tests\"\ntests = [\"svm\"]"),
        step("l0", of_suite),
        step("l0", &format!("{of_suite}tests = []")),
        step("l0", &format!("{of_suite}tests = [\"s v\"]\nrun = \"true\"\nmemory-mib = 1")),
        step("l0", "run = \"true\"\ntests = [\"svm\"]"),
        step(
            "l0",
            &format!("{of_suite}tests = [\"svm\"]\nknown-failure = [{{ case = \"x\", erratum = \"none\" }}]"),
        ),
        step("l1", &format!("{of_suite}tests = [\"svm\"]")),
        step("l0", "suite = \"kvm-selftests\"\ntests = [\"svm_*\"]\nmemory-mib = 256"),
    ];
    insta::assert_snapshot!(scenario_and(&steps.concat()));
}

#[test]
fn steps_that_run_a_program() {
    let step = |on: &str, keys: &str| {
        format!("[[step]]\nname = \"program\"\nafter = \"l1-boot\"\non = \"{on}\"\n{keys}\n")
    };
    let steps = [
        step("l0", "payload = \"./my-test\""),
        step("l0", "payload = \"kvm-unit-tests\""),
        step("l0", "payload = 1"),
        step("l0", "payload = \"my-test\"\narguments = [\"a\\nb\"]"),
        step("l0", "payload = \"my-test\"\nrun = \"true\"\nmemory-mib = 64"),
        step("l0", "run = \"true\"\narguments = [\"a\"]"),
        step("l1", "payload = \"my-test\"\nreads = true"),
        step("l2", "payload = \"my-test\""),
    ];
    insta::assert_snapshot!(scenario_and(&steps.concat()));
}

/// One `[[step]]` with these keys of its command.
fn step(command: &str) -> String {
    scenario_and(&format!("[[step]]\nname = \"look\"\nafter = \"l1-kvm\"\non = \"l1\"\n{command}"))
}

#[rstest]
fn command_that_is_negated(
    #[values("! grep -q svm /proc/cpuinfo", "# why\n  !\tgrep -q svm /proc/cpuinfo")] run: &str,
) {
    let report = step(&format!("run = {run:?}"));
    assert!(report.contains("1 error in the files"), "{report}");
    assert!(report.contains("`run` begins with `!`") && report.contains("`fails = true`"), "{report}");
}

#[test]
fn command_that_fails_and_has_a_status_besides() {
    insta::assert_snapshot!(step("run = \"grep svm /proc/cpuinfo\"\nfails = true\nstatus = 1"));
}

#[rstest]
fn status_that_says_that_nothing_ran_or_that_all_is_well(#[values(0, 126, 127, 256)] status: u32) {
    let report = step(&format!("run = \"true\"\nstatus = {status}"));
    assert!(report.contains(&format!("`status` is out of range: {status}")), "{report}");
    assert!(report.contains("from 1 to 125"), "{report}");
}

#[test]
fn command_of_comments_alone() {
    insta::assert_snapshot!(step("run = \"# nothing\""));
}

#[test]
fn outcome_that_does_not_exist() {
    insta::assert_snapshot!(scenario_and("[expect]\noutcome = \"may stop\"\nstage = \"l1-launch\""));
}

#[test]
fn stages_of_what_works() {
    insta::assert_snapshot!(scenario_and(
        "[expect]\noutcome = \"works\"\nstage = \"l1-launch\"\nfrom = \"l1-launch\""
    ));
}

/// `[expect]` with this outcome and these keys about the end of the limitation.
fn known_stale(outcome: &str, known_stale: &str) -> String {
    let expect = format!("[expect]\noutcome = \"{outcome}\"\nsymptom = \"svm\"\nstage = \"l1-launch\"");
    scenario_and(&format!("{expect}\n[expect.known-stale]\n{known_stale}"))
}

#[test]
fn known_stale_without_what_is_known() {
    insta::assert_snapshot!(known_stale("stops", "since = \" \"\nnotes = \"Nesting works.\""));
}

#[test]
fn known_stale_what_no_document_promises() {
    let known = "since = \"Linux 5.8\"\nseen = \"2026-11-22\"\nnote = \"Nesting works.\"";
    insta::assert_snapshot!(known_stale("may-stop", known));
}

#[rstest]
fn a_day_that_no_calendar_has_is_no_date(
    #[values(
        "2026-02-29",
        "2026-13-01",
        "2026-1-1",
        "22.11.2026",
        "2026-11",
        "2026-11-22T10:00:00",
        "10:00:00",
        ""
    )]
    seen: &str,
) {
    let known = format!("since = \"Linux 5.8\"\nseen = \"{seen}\"\nnote = \"Nesting works.\"");
    let report = known_stale("stops", &known);
    assert!(report.contains("1 error in the files"), "{report}");
    assert!(report.contains(&format!("preview.toml:19:8: `{seen}` is not a date")), "{report}");
    assert!(report.contains("YEAR-MONTH-DAY"), "{report}");
}

#[test]
fn change_whose_versions_cannot_be_compared() {
    let since = "since = \"Linux 5.8, the oldest that was tried\"";
    insta::assert_snapshot!(known_stale("stops", &format!("{since}\nseen = \"2026-11-22\"\nnote = \"n\"")));
}

/// `[expect]` with this outcome and these keys about a claim that is known to be wrong.
fn known_wrong(outcome: &str, known_wrong: &str) -> String {
    scenario_and(&format!("[expect]\noutcome = \"{outcome}\"\n[expect.known-wrong]\n{known_wrong}"))
}

#[test]
fn known_wrong_without_where_and_how_it_stops() {
    insta::assert_snapshot!(known_wrong(
        "works",
        "since = \"Linux 5.8\"\nseen = \"2026-11-22\"\nnote = \"n\""
    ));
}

#[test]
fn known_wrong_what_the_document_says_of_a_stop() {
    let limitation = "stage = \"l1-launch\"\nsymptom = \"svm\"";
    insta::assert_snapshot!(known_wrong(
        &format!("stops\"\n{limitation}\n#"),
        &format!("{limitation}\nseen = \"2026-11-22\"\nnote = \"n\"")
    ));
}

#[test]
fn fault_on_a_level_that_the_stack_lacks() {
    insta::assert_snapshot!(scenario_and("[[fault]]\nat = \"l2-boot\"\ndo = \"kill-qemu\"\nlevel = \"l3\""));
}

#[test]
fn fault_on_a_level_before_it_runs() {
    insta::assert_snapshot!(scenario_and("[[fault]]\nat = \"l1-boot\"\ndo = \"kill-qemu\"\nlevel = \"l2\""));
}

#[test]
fn fault_on_a_second_machine_that_can_not_be_done() {
    let step = "[[step]]\nname = \"move\"\nafter = \"l2-check\"\non = \"l1\"\ndo = \"migrate\"\n";
    let fault = |at: &str, what: &str, level: &str| {
        format!("[[fault]]\nat = \"{at}\"\ndo = \"{what}\"\nlevel = \"{level}\"\nsecond = true\n")
    };
    let faults = [
        fault("l2-check", "kill-qemu", "l1"),
        fault("l2-check", "kill-qemu", "l2"),
        fault("l2-check", "close-qmp", "l1"),
        fault("l2-launch", "start-on-l0", "l2"),
    ];
    insta::assert_snapshot!(scenario_and(&format!("{step}{}", faults.concat())));
}

#[test]
fn mutation_that_changes_nothing_and_accepts_nothing() {
    insta::assert_snapshot!(scenario_and("[[mutation]]\nname = \"x\""));
}

#[test]
fn mutation_of_a_step_that_the_scenario_lacks() {
    insta::assert_snapshot!(scenario_and("[[mutation]]\nname = \"x\"\nstep = 1\ndrop = true"));
}

#[test]
fn mutations_whose_keys_do_not_go_together() {
    let step = "[[step]]\nname = \"look\"\nafter = \"l1-kvm\"\non = \"l1\"\nrun = \"true\"\n";
    let mutation = |name: &str, what: &str| format!("[[mutation]]\nname = \"{name}\"\n{what}\n");
    let mutations = [
        mutation("both", "step = 1\ndrop = true\nlevel = \"l1\""),
        mutation("twice-changed", "step = 1\ndrop = true\nrun = \"true\""),
        mutation("not-changed", "step = 1"),
        mutation("not-dropped", "step = 1\ndrop = false"),
        mutation("no-step", "run = \"true\"\naccept = \"why\""),
        mutation("no-parameters", "level = \"l1\""),
        mutation("no-level", "level = \"l3\"\nkernel-parameters = [\"two words\"]"),
        mutation("*", "step = 1\ndrop = true"),
        mutation("*_*", "accept = \"why\""),
        mutation("l1-on-tcg", "accept = \"why\""),
        mutation("l1-on-tcg", "accept = \"why not\""),
    ];
    insta::assert_snapshot!(scenario_and(&format!("{step}{}", mutations.concat())));
}

#[test]
fn mutations_that_are_accepted_all_at_once_where_the_stack_must_work() {
    insta::assert_snapshot!(scenario_and("[[mutation]]\nname = \"*\"\naccept = \"why\""));
}

#[test]
fn innermost_level_that_is_started_in_l0_too_late() {
    insta::assert_snapshot!(scenario_and(
        "[[fault]]\nat = \"l2-boot\"\ndo = \"start-on-l0\"\nlevel = \"l2\""
    ));
}

#[test]
fn step_in_a_level_that_is_not_up_yet() {
    let step = "[[step]]\nname = \"look\"\nafter = \"l0-kvm\"\non = \"l1\"\nrun = \"true\"";
    insta::assert_snapshot!(scenario_and(step));
}

#[test]
fn step_in_the_innermost_level_before_its_check() {
    let step = "[[step]]\nname = \"look\"\nafter = \"l2-boot\"\non = \"l2\"\nrun = \"true\"\nfails = \"no\"";
    insta::assert_snapshot!(scenario_and(step));
}

#[test]
fn step_that_both_runs_a_command_and_does_something_else() {
    let step =
        "[[step]]\nname = \"loops\"\nafter = \"l2-check\"\non = \"l2\"\ndo = \"measure\"\nfails = true";
    insta::assert_snapshot!(scenario_and(step));
}

#[test]
fn step_that_does_what_nobody_knows() {
    let step = "[[step]]\nname = \"loops\"\nafter = \"l2-check\"\non = \"l2\"\ndo = \"measured\"";
    insta::assert_snapshot!(scenario_and(step));
}

#[test]
fn step_that_the_harness_takes_in_the_wrong_place() {
    let step = |name: &str, after: &str, on: &str| {
        format!("[[step]]\nname = \"{name}\"\nafter = \"{after}\"\non = \"{on}\"\ndo = \"{name}\"\n")
    };
    let steps = [
        step("migrate", "l1-kvm", "l0"),
        step("migrate", "l2-launch", "l1"),
        step("boot-another", "l2-check", "l1"),
        step("reboot", "l1-kvm", "l0"),
        step("migrate", "l1-kvm", "l1"),
        step("boot-another", "l1-kvm", "l1"),
    ];
    insta::assert_snapshot!(scenario_and(&steps.concat()));
}

#[test]
fn events_in_the_life_of_the_wrong_level() {
    let step = |action: &str, after: &str, on: &str| {
        format!("[[step]]\nname = \"{action}\"\nafter = \"{after}\"\non = \"{on}\"\ndo = \"{action}\"\n")
    };
    let steps = [
        step("power-off", "l0-kvm", "l0"),
        step("crash", "l2-check", "l0"),
        step("power-off", "l2-launch", "l1"),
        step("hotplug-memory", "l2-check", "l2"),
        step("hotplug-disk", "l2-check", "l0"),
        step("hotplug-network", "l2-boot", "l1"),
        step("power-off", "l2-check", "l2"),
        step("hotplug-disk", "l1-kvm", "l1"),
    ];
    insta::assert_snapshot!(scenario_and(&steps.concat()));
}

#[test]
fn memory_that_no_level_can_get() {
    let l0 = "[levels.l0]\nmemory-mib = 4096\nmax-memory-mib = 8192\n";
    let l1 = "[levels.l1]\nmax-memory-mib = 2048\nlaunch = \"libvirt\"\n";
    let l2 = "[levels.l2]\nmemory-mib = 512\nmax-memory-mib = 256\n";
    insta::assert_snapshot!(scenario_and(&[l0, l1, l2].concat()));
}

#[test]
fn step_that_only_reads_and_does_not() {
    let step = |more: &str| {
        format!("[[step]]\nname = \"look\"\nafter = \"l0-kvm\"\non = \"l0\"\nreads = true\n{more}\n")
    };
    let steps =
        [step("run = \"modprobe -r kvm\""), step("run = \"grep x /proc/y\""), step("do = \"measure\"")];
    insta::assert_snapshot!(scenario_and(&steps.concat()));
}

#[test]
fn disk_of_a_level_that_is_not_rebooted() {
    insta::assert_snapshot!(scenario_and("[levels.l1]\ndisk = true"));
}

#[test]
fn settings_for_a_level_that_the_stack_lacks() {
    insta::assert_snapshot!(scenario_and("[levels.l3]\nmemory-mib = 512"));
}

#[test]
fn more_levels_than_the_axes_make() {
    insta::assert_snapshot!(report(|root| {
        let more = "[levels.l2]\nmemory-mib = 512\n[expect]\noutcome = \"stops\"\nsymptom = \"svm\"\nstage = \"l1-kvm\"\n\
                    [[step]]\nname = \"look\"\nafter = \"l1-check\"\non = \"l1\"\nrun = \"true\"\n";
        let scenario = SCENARIO.replace("l2 = [\"rhel 9.2\"]", "");
        write(root, "product/preview.toml", format!("{scenario}\n{more}"));
    }));
}

#[test]
fn points_that_the_value_does_not_ask_for() {
    let l1 = "[\n{ system = \"rhel 9.2 and later\", try = [\"9.1\", \"9\", \"10.2\", \"9.x\", 9.4, \"9.2\", \"9.2\"] },\n\
              { system = \"rhel 9.4\", try = [\"9.4\"] },\n{ system = \"rhel 9.6 and later\", try = [] },\n]";
    insta::assert_snapshot!(scenario_with("l1 = [\"rhel 9.2 and later\"]", &format!("l1 = {l1}")));
    insta::assert_snapshot!(scenario_with("[\"amd\"]", "[{ architecture = \"amd\", try = [\"zen\"] }]"));
}

#[test]
fn stand_ins_denied_without_a_reason() {
    insta::assert_snapshot!(scenario_with("tier =", "deny-stand-ins = true\ntier ="));
    insta::assert_snapshot!(scenario_with("tier =", "deny-stand-ins = \" \"\ntier ="));
}

#[test]
fn names_that_would_say_more_to_qemu() {
    let cpu = "cpu = { mode = \"custom\", model = \"EPYC,+svm\", require = [\"svm=off\"] }";
    let more = format!("[levels.l1]\n{cpu}\nkernel-parameters = [\"quiet init=/bin/sh\"]\nmemory-mib = 4");
    insta::assert_snapshot!(scenario_and(&more));
}

#[test]
fn machine_type_that_would_say_more_to_qemu() {
    insta::assert_snapshot!(scenario_and("[levels.l2]\nmachine-type = \"q35,accel=tcg\""));
}

#[test]
fn hardware_that_no_level_can_have() {
    let l0 = "[levels.l0]\nmemory-backing = \"huge-pages\"\nnetwork = \"restricted\"\nmax-cpus = 4\n";
    let l1 = "[levels.l1]\ncpus = 4\nmax-cpus = 2\ndevices = [\"virtio-rng\", \"floppy\", \"virtio-rng\"]\n\
              memory-backing = \"small-pages\"\nnetwork = \"open\"\ntpm = \"1.2\"\n";
    let l2 = "[levels.l2]\ncpus = 0\ndevices = []\n";
    insta::assert_snapshot!(scenario_and(&[l0, l1, l2].concat()));
}

#[test]
fn cpu_properties_that_would_say_more_to_qemu() {
    let set = "set = { hv-spinlocks = \"0x1fff,svm=off\", \"x,y\" = \"1\", level = 13 }";
    let cpu = format!(
        "{{ mode = \"host-passthrough\", require = [\"avx\"], disable = [\"avx\", \"-avx2\"], {set} }}"
    );
    insta::assert_snapshot!(scenario_and(&format!(
        "[levels.l1]\ncpu = {cpu}\n[levels.l2]\ncpu = {{ mode = \"host-passthrough\", set = {{}} }}"
    )));
}

#[test]
fn cpu_model_for_host_passthrough() {
    insta::assert_snapshot!(scenario_and(
        "[levels.l1]\ncpu = { mode = \"host-passthrough\", model = \"EPYC\" }"
    ));
}

#[test]
fn too_many_cells() {
    let axis: Vec<String> = (0..40).map(|minor| format!("\"rhel 9.{minor}\"")).collect();
    let axis = axis.join(", ");
    let scenario = SCENARIO.replace("\"rhel 9.2 and later\"", &axis);
    insta::assert_snapshot!(report(|root| write(root, "product/preview.toml", scenario)));
}

#[test]
fn toml_syntax() {
    insta::assert_snapshot!(scenario_with("[axes]", "[axes"));
}

#[test]
fn invalid_utf8() {
    let mut bytes = b"name = \"\xc3\xa9t\xc3\xa9".to_vec();
    bytes.extend(b"\xff and \xfe\"\n");
    let mut file = b"# first line\n".to_vec();
    file.extend(bytes);
    let (loaded, _) = load(|root| write(root, "product/preview.toml", &file));
    let errors = loaded.unwrap_err();
    let place = errors.errors().iter().map(InputError::position).collect::<Vec<_>>();
    assert_eq!(place, [Some((2, 12))]);
    insta::assert_snapshot!(report(|root| write(root, "product/preview.toml", file)));
}

#[test]
fn file_over_the_limit() {
    // A file with a hole: its size is over the limit, but it takes almost no disk space.
    let sparse = |root: &Path| {
        let file = fs::File::create(root.join("product/preview.toml")).unwrap();
        file.set_len(1 << 40).unwrap();
    };
    insta::assert_snapshot!(report(sparse));
}

#[test]
fn file_of_just_the_limit_is_read() {
    let mut scenario = SCENARIO.to_owned();
    scenario.push_str(&"#".repeat(usize::try_from(FILE_SIZE_LIMIT).unwrap() - scenario.len()));
    let (loaded, _) = load(|root| write(root, "product/preview.toml", &scenario));
    assert_eq!(loaded.unwrap().cells().len(), 1);
    scenario.push('#');
    let (loaded, _) = load(|root| write(root, "product/preview.toml", &scenario));
    let errors = loaded.unwrap_err();
    let [error] = errors.errors() else { panic!("{errors:?}") };
    assert!(
        matches!(error.problem(), ScenarioProblem::File(FileProblem::TooLarge { size, limit: FILE_SIZE_LIMIT }) if *size == FILE_SIZE_LIMIT + 1)
    );
}

#[test]
fn no_scenario_files() {
    insta::assert_snapshot!(report(|root| fs::remove_file(root.join("product/preview.toml")).unwrap()));
}

#[test]
fn no_such_folder() {
    insta::assert_snapshot!(report(|root| fs::remove_dir_all(root).unwrap()));
}

#[test]
fn files_where_nothing_is_read() {
    insta::assert_snapshot!(report(|root| {
        write(root, "stray.toml", SCENARIO);
        write(root, "product/deeper/still.toml", SCENARIO);
        fs::create_dir(root.join("product/folder.toml")).unwrap();
        write(root, "product/.#preview.toml", "an editor's own file, passed over");
        write(root, "product/notes.txt", "passed over");
    }));
}

/// A profile of the good scenario's cell.
const PROFILE: &str = r#"[[profile]]
name = "default"
title = "All that is here"
default = true
cells = ["preview/*"]
"#;

/// The report for these profiles, with the good scenario.
fn profiles(text: &str) -> String {
    report(|root| write(root, "profiles.toml", text))
}

#[test]
fn nothing_is_wrong_with_the_profile_that_the_other_tests_change() {
    let matrix = load(|root| write(root, "profiles.toml", PROFILE)).0.unwrap();
    assert!(matrix.default_profile().takes(&matrix.cells()[0].name));
}

#[test]
fn globs_of_a_profile_that_no_cell_matches() {
    insta::assert_snapshot!(profiles(
        &PROFILE.replace("[\"preview/*\"]", "[\"preview/*\", \"preview\"]\nexcept = [\"*/intel/*\"]")
    ));
}

#[test]
fn globs_of_a_profile_that_are_none() {
    insta::assert_snapshot!(profiles(
        &PROFILE.replace("[\"preview/*\"]", "[\"preview/[\", \"\", 7]\nexcept = [\"../*\"]")
    ));
}

#[test]
fn profile_without_cells() {
    insta::assert_snapshot!(profiles(&PROFILE.replace("cells", "cell")));
}

#[test]
fn profiles_of_which_none_is_the_default() {
    insta::assert_snapshot!(profiles(&PROFILE.replace("true", "false")));
}

#[test]
fn profiles_that_are_no_list_of_them() {
    insta::assert_snapshot!(profiles("profile = \"default\"\n"));
    assert!(profiles("# none yet\n").contains("there is no default profile"));
}

#[test]
fn profiles_of_which_two_are_the_default() {
    insta::assert_snapshot!(profiles(&format!("{PROFILE}\n{}", PROFILE.replace("\"default\"", "\"full\""))));
}

#[test]
fn profile_twice() {
    insta::assert_snapshot!(profiles(&format!("{PROFILE}\n{}", PROFILE.replace("default = true\n", ""))));
}

#[test]
fn profile_of_a_bad_name() {
    insta::assert_snapshot!(profiles(&PROFILE.replace("\"default\"", "\"All of it\"")));
}

#[test]
fn profiles_are_not_blamed_for_cells_that_another_file_fails_to_make() {
    let report = report(|root| {
        write(root, "profiles.toml", PROFILE.replace("title", "titel"));
        write(root, "product/preview.toml", SCENARIO.replace("\"amd\"", "\"and\""));
    });
    assert!(report.contains("unknown architecture `and`"), "{report}");
    assert!(report.contains("unknown key `titel`"), "{report}");
    assert!(!report.contains("matches no cell"), "{report}");
}

#[test]
fn profile_that_is_not_there() {
    let matrix = load(|root| write(root, "profiles.toml", PROFILE)).0.unwrap();
    insta::assert_snapshot!(render(&matrix.profile("defualt").unwrap_err()));
}

#[test]
fn document_under_another_name() {
    insta::assert_snapshot!(report(|root| write(root, "documents/other.toml", DOCUMENT)));
}

#[test]
fn mistakes_in_the_systems() {
    let more = "[[system]]\nid = \"rhel\"\nname = \"RHEL again\"\n[[stand-in]]\nfor = \"rhel 9.2.1\"\nimage = \"a\"\nreason = \"b\"\n\
                [[stand-in]]\nfor = \"rhel\"\nimage = \"a..b\"\nreason = \"b\"\n\
                [[stand-in]]\nfor = \"rhel 9.2\"\nimage = \"almalinux-9.2\"\nreason = \"b\"\n\
                [[stand-in]]\nfor = \"rhel 9.2\"\nimage = \"almalinux-9.2\"\nreason = \"c\"\n";
    insta::assert_snapshot!(report(|root| write(root, "systems.toml", format!("{SYSTEMS}\n{more}"))));
}

#[test]
fn rebuilds_of_what_can_have_none() {
    let system = |id: &str, more: &str| format!("[[system]]\nid = \"{id}\"\nname = \"{id}\"\n{more}\n");
    let more = [
        system("unknown", "rebuild-of = \"rehl\""),
        system("itself", "rebuild-of = \"itself\""),
        system("again", "rebuild-of = \"fits\""),
        system("fits", "rebuild-of = \"rhel\""),
        system("of-cloud", "rebuild-of = \"cloud\""),
        system("cloud", "versions = \"none\""),
        system("without", "versions = \"none\"\nrebuild-of = \"rhel\""),
    ]
    .concat();
    insta::assert_snapshot!(report(|root| write(root, "systems.toml", format!("{SYSTEMS}\n{more}"))));
}

#[test]
fn stand_ins_for_architectures_that_are_none() {
    let more = "[[stand-in]]\nfor = \"rhel 8\"\nimage = \"a\"\nreason = \"b\"\narchitectures = [\"amd\", \"power8\"]\n\
                [[stand-in]]\nfor = \"rhel 8\"\nimage = \"c\"\nreason = \"d\"\narchitectures = []\n";
    insta::assert_snapshot!(report(|root| write(root, "systems.toml", format!("{SYSTEMS}\n{more}"))));
}

#[test]
fn systems_whose_versions_are_said_in_two_ways() {
    let more = "[[system]]\nid = \"aws\"\nname = \"AWS\"\nversions = \"none\"\nlater = \"always\"\n\
                [[system]]\nid = \"tcg\"\nname = \"TCG\"\nversions = \"numbered\"\nhypervisor = \"tcg\"\n\
                [[system]]\nid = \"kvm\"\nname = \"KVM\"\nversions = \"nune\"\nhypervisor = \"kvm\"\n\
                [[stand-in]]\nfor = \"aws 1\"\nimage = \"a\"\nreason = \"b\"\n";
    insta::assert_snapshot!(report(|root| write(root, "systems.toml", format!("{SYSTEMS}\n{more}"))));
}

/// The good systems, and two without versions.
fn unversioned() -> String {
    let more = "[[system]]\nid = \"aws\"\nname = \"AWS\"\nversions = \"none\"\n\
                [[system]]\nid = \"tcg\"\nname = \"TCG\"\nhypervisor = \"tcg\"\n";
    format!("{SYSTEMS}\n{more}")
}

#[test]
fn versions_where_there_are_none_and_none_where_there_are() {
    insta::assert_snapshot!(report(|root| {
        write(root, "systems.toml", unversioned());
        let l0 = "[\"aws 1\", \"aws and later\", \"rhel\", \"tcg with hyper-v\"]";
        write(
            root,
            "product/preview.toml",
            SCENARIO.replace("l0 = [\"rhel 9.2 and later\"]", &format!("l0 = {l0}")),
        );
    }));
}

#[test]
fn emulator_that_is_not_l0() {
    insta::assert_snapshot!(report(|root| {
        write(root, "systems.toml", unversioned());
        let scenario = SCENARIO.replace("l1 = [\"rhel 9.2 and later\"]", "l1 = [\"rhel 9.2\", \"tcg\"]");
        write(
            root,
            "product/preview.toml",
            scenario.replace("l2 = [\"rhel 9.2\"]", "l2 = [{ system = \"tcg\" }]"),
        );
    }));
}

#[test]
fn step_in_an_emulator() {
    insta::assert_snapshot!(report(|root| {
        write(root, "systems.toml", unversioned());
        let scenario = SCENARIO.replace("l0 = [\"rhel 9.2 and later\"]", "l0 = [\"rhel 9.2\", \"tcg\"]");
        let step = "[[step]]\nname = \"look\"\nafter = \"l1-kvm\"\non = \"l0\"\nrun = \"true\"\n";
        write(root, "product/preview.toml", format!("{scenario}\n{step}"));
    }));
}

#[test]
fn all_mistakes_of_all_files_are_reported_together_and_none_for_their_consequences() {
    insta::assert_snapshot!(report(|root| {
        write(root, "systems.toml", "system = 1\n");
        write(root, "documents/limits.toml", DOCUMENT.replace("\"supported\"", "\"suported\""));
        write(root, "product/preview.toml", SCENARIO.replace("title", "titel").replace("-preview", ""));
        write(root, "product/second.toml", "name = ");
    }));
}

#[test]
fn an_error_alone_leads_to_its_place() {
    let (loaded, root) =
        load(|root| write(root, "product/preview.toml", SCENARIO.replace("\"amd\"", "\"and\"")));
    let error = loaded.unwrap_err().errors()[0].to_string().replace(&root, "scenarios");
    assert_eq!(error, "scenarios/product/preview.toml:8:17: unknown architecture `and`");
}

#[test]
fn filter_that_is_no_glob_over_cell_names() {
    let wrong = |glob: &str| render(&Filter::parse(&["*".into(), glob.into()]).unwrap_err());
    insta::assert_snapshot!([wrong("a/../b"), wrong("a/[b"), wrong("")].join("\n"));
}

#[test]
fn a_file_of_nothing_but_mistakes_names_only_the_first() {
    let keys: String = (0..50_000).map(|key| format!("key-{key} = 1\n")).collect();
    let (loaded, _) = load(|root| write(root, "product/preview.toml", keys));
    let errors = loaded.unwrap_err();
    assert_eq!(errors.errors().len(), 101);
    // The 50,000, and the five required keys of a scenario.
    assert!(
        matches!(errors.errors()[100].problem(), ScenarioProblem::File(FileProblem::More { count }) if *count == 50_005 - 100)
    );
}

#[test]
fn list_of_very_many_entries() {
    let claims = "\"works\", ".repeat(100_000);
    let scenario = SCENARIO.replace("\"works\"", &claims);
    let (loaded, _) = load(|root| write(root, "product/preview.toml", scenario));
    let errors = loaded.unwrap_err();
    let [error] = errors.errors() else { panic!("{errors:?}") };
    assert!(matches!(
        error.problem(),
        ScenarioProblem::File(FileProblem::TooLong { key: "claims", count: 100_000, limit: 256 })
    ));
}

/// The good scenario with these keys about its flakiness.
fn known_flaky(known_flaky: &str) -> String {
    scenario_and(&format!("[[known-flaky]]\n{known_flaky}"))
}

const FLAKY: &str =
    "stage = \"l2-boot\"\nsymptom-kind = \"stopped-by-qemu\"\nseen = \"2026-11-28\"\nnote = \"n\"";

#[rstest]
#[case::always("stopped = 4\nof = 4", "`stopped` (4) must be less than `of` (4)")]
#[case::no_rate("stopped = 4", "key `of` is missing")]
#[case::no_cell("stopped = 1\nof = 4\ncells = [\"*/intel/*\"]", "`*/intel/*` matches no cell")]
#[case::no_metal("stopped = 1\nof = 4\nmetal = \"heavy\"", "`heavy`")]
#[case::no_version("stopped = 1\nof = 4\nversions = \"6.1\"", "`6.1` is not a version of Linux or of QEMU")]
fn what_is_known_to_be_flaky_says_how_often_and_where(#[case] more: &str, #[case] said: &str) {
    let report = known_flaky(&format!("{FLAKY}\n{more}"));
    assert!(report.contains(said), "{report}");
}

#[test]
fn a_cell_knows_where_it_is_flaky() {
    let more = "cells = [\"*/amd/*\"]\nmetal = \"emulated\"\nversions = \"Linux 6.1 and QEMU 7.2\"\nstopped = 3\nof = 4";
    let (matrix, _) = load(|root| {
        write(root, "product/preview.toml", format!("{SCENARIO}\n[[known-flaky]]\n{FLAKY}\n{more}"))
    });
    let known: Vec<String> = matrix.unwrap().cells()[0].known_flaky.iter().map(ToString::to_string).collect();
    assert_eq!(
        known,
        [
            "known flaky on emulated metal with Linux 6.1 and QEMU 7.2, 3 of 4 stop at l2-boot (stopped-by-qemu), seen 2026-11-28: n"
        ]
    );
}

#[test]
fn a_control_may_have_a_limitation_that_is_known_to_be_gone() {
    let gone = "[expect.known-stale]\nsince = \"Linux 5.8\"\nseen = \"2026-11-22\"\nnote = \"n\"";
    let stops = "[expect]\noutcome = \"stops\"\nstage = \"l2-boot\"";
    let control = |known: &str| {
        let hangs = format!("{SCENARIO}\n{stops}\nsymptom-kind = \"timeout\"\ncontrol = \"control\"");
        let control = SCENARIO.replace("\"preview\"", "\"control\"");
        let control = format!("{control}\n{stops}\nsymptom-kind = \"no-kvm\"\n{known}");
        load(|root| {
            write(root, "product/preview.toml", hangs);
            write(root, "product/control.toml", control);
        })
    };
    assert_eq!(control(gone).0.map(|matrix| matrix.cells().len()).ok(), Some(2));
    assert!(control("").0.is_err());
}

#[test]
fn an_entry_of_the_ledger_for_a_cell_that_is_not_there_and_one_that_shows_nothing() {
    let entry = "[[mutated]]\ncell = \"preview/amd/rhel-9\"\nfingerprint = \"0a\"\nseen = \"2026-11-28\"\nkernels = [\"6.1\"]\n\
                 metal = \"emulated\"\n";
    insta::assert_snapshot!(report(|root| write(root, "decided.toml", entry)));
}

#[test]
fn a_cell_that_gave_the_other_verdict_has_its_fingerprint() {
    let cell = "\"preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2\"";
    let entry = |more: &str| {
        format!(
            "[[both-verdicts]]\ncell = {cell}\nfingerprint = \"0a\"\nworks = \"w\"\nstops = \"s\"\n{more}\n\
             seen = \"2026-11-28\"\nnote = \"n\"\n"
        )
    };
    let both = [format!("like = {cell}"), "like-fingerprint = \"0a\"".into()].map(|more| entry(&more));
    insta::assert_snapshot!(report(|root| write(root, "decided.toml", both.concat())));
}

#[test]
fn what_is_no_claim_that_can_be_tried_is_neither_a_may_nor_a_version() {
    let claim = |more: &str| format!("{DOCUMENT}{more}");
    let untestable = claim(
        "\n[[claim]]\nid = \"promised\"\nsection = \"1\"\ntier = \"supported\"\ntext = \"t\"\nuntestable = \"a promise\"\n\
         may = true\n",
    );
    insta::assert_snapshot!(report(|root| write(root, "documents/limits.toml", untestable)));
    let both = claim("may = true\nversion-of = \"l0\"\n");
    insta::assert_snapshot!(report(|root| write(root, "documents/limits.toml", both)));
    let no_level = claim("version-of = \"l9\"\n");
    insta::assert_snapshot!(report(|root| write(root, "documents/limits.toml", no_level)));
}

#[test]
fn a_unified_kernel_without_uefi() {
    let l2 = "[levels.l2]\nboots = \"unified-kernel\"\nfirmware = \"uefi-secure-boot\"";
    insta::assert_snapshot!(scenario_and(l2));
}

#[rstest]
#[case::l0("[levels.l0]\nlaunch = \"libvirt\"", "key `launch` has no meaning here")]
#[case::unknown("[levels.l1]\nlaunch = \"virsh\"", "unknown launcher `virsh`")]
#[case::check_by_qemu(
    "[levels.l1]\ncpu = { mode = \"host-passthrough\", check = \"none\" }",
    "key `check` has no meaning here"
)]
#[case::fallback(
    "[levels.l1]\nlaunch = \"libvirt\"\naccelerator = \"kvm:tcg\"",
    "key `accelerator` has no meaning here"
)]
#[case::second_machine(
    "[levels.l1]\nlaunch = \"libvirt\"\n[[step]]\nname = \"move\"\nafter = \"l2-check\"\non = \"l1\"\ndo = \"migrate\"",
    "L1 is launched by libvirt, and a step starts a second machine of it or around it, or replaces it"
)]
#[case::tpm(
    "[levels.l1]\nlaunch = \"libvirt\"\ntpm = \"2.0\"",
    "L1 has a TPM, which a level that libvirt launches can't have"
)]
fn what_libvirt_can_not_launch_is_an_error(#[case] more: &str, #[case] expected: &str) {
    let report = scenario_and(more);
    assert!(report.contains("1 error in the files"), "{report}");
    assert!(report.contains(expected), "{report}");
}

#[rstest]
#[case::of_l0("[levels.l0]\nkdump = true", "key `kdump` has no meaning here")]
#[case::without_it("[levels.l1]\ncrashkernel-mib = 256", "key `crashkernel-mib` has no meaning here")]
#[case::on_a_disk("[levels.l1]\nkdump = true\nboots = \"disk\"", "key `kdump` has no meaning here")]
#[case::too_little("[levels.l1]\nkdump = true\ncrashkernel-mib = 1", "`crashkernel-mib` is out of range: 1")]
#[case::of_the_innermost_level(
    "[levels.l2]\nkdump = true",
    "L2 is the innermost level, and only a level that runs another one has a crash kernel"
)]
fn a_crash_kernel_that_can_not_be_is_an_error(#[case] more: &str, #[case] expected: &str) {
    let report = scenario_and(more);
    assert!(report.contains("1 error in the files"), "{report}");
    assert!(report.contains(expected), "{report}");
}

#[rstest]
#[case::no_event("chain = [\"pause\", \"measure\"]", "`measure` can't be part of a chain")]
#[case::nothing("chain = []", "`chain` is empty")]
#[case::unknown("chain = [\"pause\", \"sleep\"]", "unknown action `sleep`")]
#[case::with_a_command("chain = [\"pause\"]\nrun = \"true\"", "key `run` has no meaning here")]
#[case::with_an_action("chain = [\"pause\"]\ndo = \"pause\"", "key `chain` has no meaning here")]
#[case::reads("chain = [\"pause\"]\nreads = true", "key `reads` has no meaning here")]
#[case::never("do = \"pause\"\nrepeat = 0", "`repeat` is out of range: 0")]
#[case::to_what("do = \"migrate-to-other\"", "`other-qemu` of L1 is missing")]
#[case::back_from_what("chain = [\"migrate\", \"migrate-back\"]", "`other-qemu` of L1 is missing")]
#[case::never_used(
    "do = \"migrate\"\n[levels.l1]\nother-qemu = \"rhel 9.6\"",
    "no step migrates L1 to its other QEMU"
)]
#[case::of_l0(
    "do = \"migrate\"\n[levels.l0]\nother-qemu = \"debian 12\"",
    "key `other-qemu` has no meaning here"
)]
#[case::unknown_system(
    "do = \"migrate-to-other\"\n[levels.l1]\nother-qemu = \"plan9 4\"",
    "unknown system `plan9`"
)]
#[case::two_levels(
    "do = \"migrate\"\n[[step]]\nname = \"also\"\nafter = \"l2-check\"\non = \"l2\"\ndo = \"migrate\"",
    "L2 can't be migrated: another step migrates L1"
)]
#[case::beside_another(
    "do = \"migrate\"\n[[step]]\nname = \"also\"\nafter = \"l1-kvm\"\non = \"l1\"\ndo = \"boot-another\"",
    "a scenario can boot a second machine only once, and can't migrate a level then"
)]
fn what_is_no_series_of_events_is_an_error(#[case] action: &str, #[case] expected: &str) {
    let step = format!("[[step]]\nname = \"live\"\nafter = \"l2-check\"\non = \"l1\"\n{action}");
    let report = scenario_and(&step);
    assert!(report.contains("1 error in the files"), "{report}");
    assert!(report.contains(expected), "{report}");
}

#[rstest]
#[case::saved_l0("l2-check", "l0", "save-restore", "`save-restore` can't be done to L0")]
#[case::l2_too_early("l1-kvm", "l2", "pause", "L2 does not take commands yet after l1-kvm")]
#[case::partly_up("l2-launch", "l1", "reset", "`reset` can't be done after l2-launch")]
fn an_event_must_suit_its_level_and_its_time(
    #[case] after: &str,
    #[case] on: &str,
    #[case] action: &str,
    #[case] expected: &str,
) {
    let step = format!("[[step]]\nname = \"live\"\nafter = \"{after}\"\non = \"{on}\"\ndo = \"{action}\"");
    let report = scenario_and(&step);
    assert!(report.contains(expected), "{report}");
}

#[test]
fn an_emulator_as_l0_has_no_libvirt() {
    let system = "[[system]]\nid = \"qemu-tcg\"\nname = \"QEMU's TCG\"\nhypervisor = \"tcg\"\n";
    let report = report(|root| {
        let systems = fs::read_to_string(root.join("systems.toml")).unwrap();
        write(root, "systems.toml", format!("{systems}\n{system}"));
        let l0 = SCENARIO.lines().find(|line| line.starts_with("l0 = ")).unwrap();
        let scenario = SCENARIO.replace(l0, "l0 = [\"qemu-tcg\"]");
        write(root, "product/preview.toml", format!("{scenario}\n[levels.l1]\nlaunch = \"libvirt\""));
    });
    assert!(report.contains("L1 can't be launched by libvirt: L0 is qemu-tcg"), "{report}");
}

#[rstest]
#[case::not_innermost(
    "[levels.l1]\npayload = \"my-guest\"",
    "L1 can't boot a payload: it is not a guest that runs no guests"
)]
#[case::nothing_to_wait_for("[levels.l2]\nready = \"login:\"", "key `ready` has no meaning here")]
#[case::of_a_disk(
    "[levels.l2]\npayload = \"my-guest\"\nboots = \"disk\"",
    "key `payload` has no meaning here"
)]
#[case::by_libvirt(
    "[levels.l2]\npayload = \"my-guest\"\nlaunch = \"libvirt\"",
    "key `payload` has no meaning here"
)]
#[case::suite(
    "[levels.l2]\npayload = \"kvm-unit-tests\"",
    "`kvm-unit-tests` is not the name of a guest that was added"
)]
#[case::several_lines(
    "[levels.l2]\npayload = \"my-guest\"\nready = \"a\\nb\"",
    "`a\\nb` is not the text of a guest that works"
)]
#[case::step_in_it(
    "[levels.l2]\npayload = \"my-guest\"\n[[step]]\nname = \"s\"\nafter = \"l2-check\"\non = \"l1\"\nrun = \"true\"",
    "the step `s` needs L2 after its report, but L2 boots a payload, which takes no commands"
)]
#[case::no_stage_without_it("[expect]\noutcome = \"stops\"\nstage = \"l2-ready\"", "l2-ready")]
fn what_can_not_be_a_guest_is_an_error(#[case] more: &str, #[case] expected: &str) {
    let report = scenario_and(more);
    assert!(report.contains(expected), "{report}");
    assert!(report.contains("preview.toml"), "{report}");
}

#[test]
fn a_guest_that_is_waited_for_has_a_stage_of_its_own() {
    let guest = "[levels.l2]\npayload = \"my-guest\"\nready = \"login:\"\n\
                 [expect]\noutcome = \"stops\"\nstage = \"l2-ready\"\nsymptom-kind = \"guest-failed\"\n";
    let (loaded, _) = load(|root| write(root, "product/preview.toml", format!("{SCENARIO}\n{guest}")));
    let matrix = loaded.unwrap();
    let cell = &matrix.cells()[0];
    assert_eq!(cell.stages().last().map(ToString::to_string).as_deref(), Some("l2-ready"));
    assert_eq!(cell.guest().map(|guest| guest.payload.as_str()), Some("my-guest"));
}

/// The report on a scenario whose L0 is a system that can only be around this machine, with this added to system and scenario.
fn around(system: &str, l1: &str, more: &str) -> String {
    report(|root| {
        let systems = fs::read_to_string(root.join("systems.toml")).unwrap();
        let cloud = "[[system]]\nid = \"cloud\"\nname = \"A Cloud\"\nversions = \"none\"\n";
        write(root, "systems.toml", format!("{systems}\n{cloud}{system}\n"));
        let replaced = |text: &str, axis: &str, with: &str| {
            let line = text.lines().find(|line| line.starts_with(axis)).unwrap().to_owned();
            text.replace(&line, &format!("{axis}[\"{with}\"]"))
        };
        let scenario = replaced(&replaced(SCENARIO, "l0 = ", "cloud"), "l1 = ", l1);
        write(root, "product/preview.toml", format!("{scenario}\n{more}"));
    })
}

const SHOWS: &str = "guest-shows = { sys_vendor = \"Cloud\" }";

#[rstest]
#[case::on_another_level(SHOWS, "cloud", "", "`cloud` can only be L0, and cannot be L1")]
#[case::role(SHOWS, "cloud with hyper-v", "", "`cloud` has no roles")]
#[case::emulator(
    "guest-shows = { sys_vendor = \"Cloud\" }\nhypervisor = \"tcg\"",
    "rhel 9.2",
    "",
    "a system with `guest-shows` has no `hypervisor`"
)]
#[case::file(
    "guest-shows = { vendor = \"Cloud\" }",
    "rhel 9.2",
    "",
    "unknown file of /sys/class/dmi/id `vendor`"
)]
#[case::step(
    SHOWS,
    "rhel 9.2",
    "[[step]]\nname = \"look\"\nafter = \"l1-kvm\"\non = \"l0\"\nrun = \"true\"\n",
    "the step `look` can't be in L0, because nestmatrix runs nothing in `cloud`"
)]
#[case::fault(
    SHOWS,
    "rhel 9.2",
    "[[fault]]\nat = \"l2-launch\"\ndo = \"start-on-l0\"\nlevel = \"l2\"\n",
    "the start of L2 can't be in L0, because nestmatrix runs nothing in `cloud`"
)]
#[case::libvirt(
    SHOWS,
    "rhel 9.2",
    "[levels.l1]\nlaunch = \"libvirt\"\n",
    "libvirt, which is to launch L1, can't be in L0, because nestmatrix runs nothing in `cloud`"
)]
#[case::also_without(
    "shown-also-by = \"something\"",
    "rhel 9.2",
    "",
    "key `shown-also-by` has no meaning here"
)]
fn nothing_is_asked_of_a_system_around_this_machine(
    #[case] system: &str,
    #[case] l1: &str,
    #[case] more: &str,
    #[case] expected: &str,
) {
    let report = around(system, l1, more);
    assert!(report.contains(expected), "{report}");
}
