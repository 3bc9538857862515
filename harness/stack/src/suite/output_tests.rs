use rstest::rstest;

use super::*;

fn ended(status: Option<i64>, stdout: &str, stderr: &str) -> ExecOutput {
    ExecOutput { status, signal: None, stdout: stdout.into(), stderr: stderr.into() }
}

/// The cases, one in a line.
fn cases_of(status: i64, stdout: &str, stderr: &str) -> Vec<String> {
    let text = |case: &Case| match &case.said {
        Some(said) => format!("{} {}: {said}", case.outcome, case.name),
        None => format!("{} {}", case.outcome, case.name),
    };
    read("t", &ended(Some(status), stdout, stderr)).iter().map(text).collect()
}

#[rstest]
#[case::all_kinds(
    3,
    "starting\nPASS: one\nFAIL: two\r\nSKIP: three (no feature)\nXFAIL: four\nXPASS: five\nSUMMARY: 5 tests, 2 unexpected failures\n",
    &["pass t: one", "fail t: two", "skip t: three (no feature)", "known-fail t: four", "fail t: five"]
)]
#[case::the_worst_counts(1, "PASS: a\nFAIL: a\nPASS: a\nSUMMARY: 3 tests\n", &["fail t: a"])]
#[case::no_cases(1, "cpuid 1234\n", &["pass t"])]
#[case::no_cases_and_a_code(3, "it is broken\n", &["fail t: it ended with code 1: it is broken"])]
#[case::skips_itself(77, "SKIP: needs x\n", &["skip t: needs x"])]
#[case::skips_without_a_case(77, "no x\n", &["skip t: no x"])]
#[case::exception(
    15,
    "PASS: a\nUnhandled exception 13 #GP at ip 0000000000412345\nrax=1\n",
    &["pass t: a", "error t: it aborted with code 7: Unhandled exception 13 #GP at ip 0000000000412345"]
)]
#[case::aborts(255, "PASS: a\nlib/x.c:3: assert failed: x\n", &["pass t: a", "error t: it aborted with code 127: lib/x.c:3: assert failed: x"])]
#[case::too_late(124, "PASS: a\nnext\n", &["pass t: a", "error t: it did not end in time; its last line is \"next\""])]
#[case::stopped(
    122,
    "PASS: a\n",
    &["pass t: a", "error t: KVM can't run it: KVM internal error. Suberror: 1"]
)]
#[case::stopped_in_its_firmware(116, "", &["error t: KVM can't run it: KVM internal error. Suberror: 1"])]
#[case::reset(0, "PASS: a\n", &["pass t: a", "error t: its machine was reset or powered off; its last line is \"PASS: a\""])]
#[case::qemu_refuses(1, "", &["error t: QEMU did not run it: qemu: no such device"])]
#[case::qemu_is_missing(127, "", &["error t: QEMU did not run it: sh: qemu: not found"])]
#[case::not_here(120, "it needs /a=Y\n", &["skip t: it needs /a=Y"])]
#[case::lost(3, "PASS: a\nSUMMARY: 9 tests, 2 unexpected failures, 1 skipped\n", &[
    "pass t: a", "fail t: it ended with code 1: SUMMARY: 9 tests, 2 unexpected failures, 1 skipped"
])]
#[case::lost_though_it_says_success(1, "PASS: a\nSUMMARY: 9 tests, 2 unexpected failures\n", &[
    "pass t: a", "error t: its summary counts 2 failures, and its lines show 0"
])]
#[case::lost_in_part(3, "FAIL: a\nSUMMARY: 9 tests, 2 unexpected failures\n", &[
    "fail t: a", "error t: its summary counts 2 failures, and its lines show 1"
])]
#[case::twice_under_one_name(3, "FAIL: a\nFAIL: a\nSUMMARY: 2 tests, 2 unexpected failures\n", &["fail t: a"])]
#[case::too_much(118, "PASS: a\n", &["pass t: a", "error t: it printed more than is read, so cases are missing"])]
fn output_and_status_become_cases(#[case] status: i64, #[case] output: &str, #[case] expected: &[&str]) {
    let stderr = match status {
        122 | 116 => "qemu: warning: x\nKVM internal error. Suberror: 1\nextra data\n",
        127 => "sh: qemu: not found\n",
        1 if output.is_empty() => "qemu: no such device\n",
        _ => "qemu: warning: x\n",
    };
    assert_eq!(cases_of(status, output, stderr), expected);
}

#[test]
fn success_without_a_word_shows_nothing() {
    assert_eq!(cases_of(1, "\n", ""), ["error t: it printed nothing"]);
}

#[rstest]
#[case::a_warning("qemu: warning: x\n", &["pass t: a"])]
#[case::a_failure("qemu: warning: x\nqemu: no room\n", &["pass t: a", "error t: QEMU failed: qemu: no room"])]
fn a_failure_of_qemu_is_no_success_of_the_test(#[case] stderr: &str, #[case] expected: &[&str]) {
    assert_eq!(cases_of(1, "PASS: a\n", stderr), expected);
}

#[test]
fn a_signal_is_an_error() {
    let cases = read("t", &ended(None, "PASS: a\n", ""));
    assert_eq!(cases[1].outcome, CaseOutcome::Error);
}

proptest::proptest! {
    #[test]
    fn any_output_has_bounded_cases_and_at_least_one(
        status in proptest::option::of(-300_i64..600),
        lines in proptest::collection::vec("(PASS: |FAIL: |SKIP: |XFAIL: |SUMMARY: |)\\PC{0,40}", 0..40),
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
    ) {
        let stdout = [lines.join("\n").into_bytes(), bytes.clone()].concat();
        let cases = read("t", &ExecOutput { status, signal: None, stdout, stderr: bytes });
        assert!(!cases.is_empty());
        for case in &cases {
            assert!(case.name.chars().count() <= 160 && !case.name.contains(char::is_control), "{case:?}");
        }
        let names: std::collections::BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
    }
}
