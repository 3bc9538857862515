use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// The cases, one in a line, and why cases are missing.
fn seen(output: &str) -> Vec<String> {
    let Some(tap) = read("t", output) else { return vec!["not TAP".to_owned()] };
    let text = |case: &Case| {
        let said = case.said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default();
        let known = case.known.as_ref().map(|known| format!(" [{known}]")).unwrap_or_default();
        format!("{} {}{said}{known}", case.outcome, case.name)
    };
    tap.cases.iter().map(text).chain(tap.incomplete.map(|why| format!("incomplete: {why}"))).collect()
}

#[rstest]
#[case::tap_13(
    "TAP version 13\n1..4\nok 1 - one\nnot ok 2 - two\n# wanted 3\n# got 4\nok 3 # SKIP no room\nok four\n",
    &["pass t: one", "fail t: two (wanted 3; got 4)", "skip t: no room (no room)", "pass t: four"]
)]
#[case::the_plan_at_the_end("ok 1 - a\r\nsome words\nok\n1..2\n", &["pass t: a", "pass t: 2"])]
#[case::directives(
    "1..6\nnot ok 1 a # TODO later\nok 2 b # TODO later\nok 3 c # XFAIL\nnot ok 4 d # TIMEOUT\nok 5 e # skipped: x\nnot ok 6 f # SKIP y\n",
    &[
        "known-fail t: a (later) [later]",
        "pass t: b [later]",
        "known-fail t: c [the program expects it]",
        "error t: d",
        "skip t: e (x)",
        "skip t: f (y)",
    ]
)]
#[case::an_escaped_hash("1..1\nok 1 - a \\# b # 3 ms\n", &["pass t: a # b"])]
#[case::a_yaml_block(
    "TAP version 14\n1..2\nnot ok 1 - a\n  ---\n  message: 'too late'\n  ok 7 - not this\n  ...\nok 2 - b\n",
    &["fail t: a (too late)", "pass t: b"]
)]
#[case::comments_before_the_test_point(
    "TAP version 13\n1..2\n# x.c:7:a:Expected 1\nnot ok 1 a\n#  RUN  b\nok 2 b\n",
    &["fail t: a (x.c:7:a:Expected 1)", "pass t: b"]
)]
#[case::several_programs(
    "TAP version 13\n1..1\nok 1 a\nTAP version 13\n1..2\nok 1 b\n",
    &["pass t: a", "pass t: b", "incomplete: its plan has 2 test points, and it printed 1"]
)]
#[case::the_worst_of_one_name_counts("1..2\nnot ok 1 a\nok 2 a\n", &["fail t: a"])]
#[case::all_skipped("1..0 # SKIP no KVM\n", &["skip t (no KVM)"])]
#[case::bails_out("1..2\nok 1 a\nBail out! no disk\n", &["pass t: a", "incomplete: it bailed out: no disk"])]
#[case::no_plan("ok 1 a\n", &["pass t: a", "incomplete: it printed no plan, so test points may be missing"])]
#[case::too_many("1..1\nok 1 a\nok 2 b\n", &["pass t: a", "pass t: b", "incomplete: its plan has 1 test points, and it printed 2"])]
#[case::two_plans("1..1\nok 1 a\n1..1\n", &["pass t: a", "incomplete: it printed a second plan"])]
#[case::not_ok_alone("not ok\n", &["fail t: 1", "incomplete: it printed no plan, so test points may be missing"])]
#[case::words("ok then\nokay\nnot okay\n1..x\n# ok 1\n", &["not TAP"])]
#[case::nothing("", &["not TAP"])]
fn output_becomes_cases(#[case] output: &str, #[case] expected: &[&str]) {
    assert_eq!(seen(output), expected);
}

#[rstest]
#[case::tap_14(
    "TAP version 14\n1..2\n# Subtest: outer\n    1..2\n    ok 1 - a\n    not ok 2 - b\n    # why\nnot ok 1 - outer\nok 2 - last\n",
    &["pass t: outer/a", "fail t: outer/b (why)", "pass t: last"]
)]
#[case::ktap(
    "KTAP version 1\n1..1\n  KTAP version 1\n  # Subtest: suite\n  1..2\n    KTAP version 1\n    1..1\n    # x: failed\n    not ok 1 p\n  not ok 1 q\n  ok 2 r # SKIP none\nnot ok 1 suite\n",
    &["fail t: suite/q/p (x: failed)", "skip t: suite/r (none)"]
)]
#[case::ktap_without_a_plan("KTAP version 1\nok 1 a\n", &["pass t: a"])]
#[case::the_outer_one_fails_alone(
    "1..1\n    1..1\n    ok 1 a\nnot ok 1 - outer\n",
    &["pass t: outer/a", "fail t: outer (it failed, and none of its subtests did)"]
)]
#[case::the_outer_one_fails_beside_an_expected_failure(
    "1..1\n    1..1\n    not ok 1 a # TODO later\nnot ok 1 - outer\n",
    &["known-fail t: outer/a (later) [later]", "fail t: outer (it failed, and none of its subtests did)"]
)]
#[case::the_outer_one_may_fail(
    "1..1\n    1..1\n    not ok 1 a\nnot ok 1 - outer # TODO later\n",
    &["known-fail t: outer/a [later]"]
)]
#[case::a_subtest_that_is_skipped("1..1\n    1..0 # SKIP no device\nok 1 - outer\n", &["skip t: outer (no device)"])]
#[case::the_outer_one_is_missing(
    "1..1\n# Subtest: outer\n    # Subtest: outer\n    1..2\n    ok 1 a\n",
    &[
        "pass t: outer/a",
        "error t: outer (its plan has 2 test points, and it printed 1)",
        "incomplete: a subtest did not come to its end",
    ]
)]
#[case::indented_words("1..1\n    ok so far\nok 1 a\n", &["pass t: a"])]
fn subtests_have_the_names_of_those_around_them(#[case] output: &str, #[case] expected: &[&str]) {
    assert_eq!(seen(output), expected);
}

#[test]
fn no_end_of_test_points_is_read() {
    let many = "ok 1 a\n".repeat(MOST_POINTS + 1);
    assert_eq!(seen(&many)[1], "incomplete: it printed more than 100000 test points");
}

proptest! {
    #[test]
    fn any_output_has_cases_of_different_names(
        lines in prop::collection::vec("( {0,6})(ok |not ok |1\\.\\.|# Subtest: |KTAP version |---|\\.\\.\\.|Bail out!|)[0-9]{0,2}\\PC{0,20}", 0..40),
    ) {
        let Some(tap) = read("t", &lines.join("\n")) else { return Ok(()) };
        let names: std::collections::BTreeSet<&str> = tap.cases.iter().map(|case| case.name.as_str()).collect();
        prop_assert_eq!(names.len(), tap.cases.len());
        for case in &tap.cases {
            prop_assert!(case.name.starts_with('t') && !case.name.contains(char::is_control), "{:?}", case);
        }
    }
}
