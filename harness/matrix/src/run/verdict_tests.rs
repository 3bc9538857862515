//! Which verdict follows from what was expected and what was observed.

use nestmatrix_model::{Architecture, SymptomKind};
use nestmatrix_stack::{InnermostReport, Measurements};
use nestmatrix_vmm::qemu::{CpuReport, Ended, KvmReport, MachineReport};
use rstest::rstest;

use super::*;
use crate::scenario::testing::{known_flaky, known_stale, known_wrong, limitation, may_stop, stage, stops};
use crate::scenario::{KnownWrong, Limitation, StopStage, SymptomTexts};

/// Judges a stack that went through these stages and then stopped, or did not.
fn judge_after(
    stages: &str,
    expectation: &Expectation,
    measurements: Measurements,
    stop: Option<Stop>,
) -> Verdict {
    let began = |name| StageTime { stage: stage(name), start: 0.0, end: 0.0 };
    let stages = stages.split_whitespace().map(began).collect();
    let nothing = Observation::stopped(Stop::interrupted(Stage::Provision));
    let observation = Observation { stages, measurements, stop, ..nothing };
    let profile = ArchInfo::of(Architecture::Amd);
    Verdict::judge(expectation, &observation, LevelNumber::ALL[2], profile)
}

/// A stack that stopped at `stage` because its QEMU ended and said this.
fn stopped(name: &str, said: &str) -> Stop {
    let level = stage(name).level().unwrap_or(LevelNumber::ALL[1]);
    let symptom = Symptom::QemuEnded { level, ended: Ended::Exited(1), said: said.to_owned() };
    Stop::stack(stage(name), symptom)
}

fn judge(expectation: &Expectation, stop: Option<Stop>) -> Verdict {
    judge_after("", expectation, Measurements::default(), stop)
}

/// What is measurements of a stack of three levels that works.
fn all_evidence() -> Measurements {
    let [l0, l1, l2, _] = LevelNumber::ALL;
    let kvm = KvmReport { enabled: true, present: true };
    let cpu = CpuReport {
        model: "host".into(),
        model_type: "host-x86_64-cpu".into(),
        required: [("svm".to_owned(), true)].into(),
        unavailable: Vec::new(),
        features: Vec::new(),
    };
    let counters = |count| ["exits", "nested_run"].map(|name| (name.to_owned(), count)).into();
    let report =
        InnermostReport { nonce: "17".into(), hypervisor: "KVM".into(), ..InnermostReport::default() };
    Measurements {
        nonce: "17".into(),
        report: Some(report),
        kvm: [l1, l2].map(|level| (level, kvm)).into(),
        cpus: [l1, l2].map(|level| (level, cpu.clone())).into(),
        machines: [l1, l2].map(|level| (level, MachineReport::default())).into(),
        counters_before: [l0, l1].map(|level| (level, counters(0))).into(),
        counters_after: [l0, l1].map(|level| (level, counters(800))).into(),
        ..Measurements::default()
    }
}

#[test]
fn nothing_follows_from_what_is_known_to_be_flaky_and_another_stop_is_news() {
    let known = known_flaky();
    let judged = |expectation: &Expectation, measurements: Measurements, stop: Option<Stop>| {
        judge_after("", expectation, measurements, stop).or_flaky(Some(&known), &[])
    };
    let [flaky_stop, other_stop] = ["internal error", "another"].map(|said| stopped("l2-boot", said));
    for expectation in [Expectation::WORKS, limitation(), known_stale(), may_stop()] {
        let works = judged(&expectation, all_evidence(), None);
        assert_eq!((works.word(), works.evidence().is_some()), (VerdictWord::Flaky, true), "{expectation}");
        let stops = judged(&expectation, Measurements::default(), Some(flaky_stop.clone()));
        assert_eq!((stops.word(), stops.itself().word()), (VerdictWord::Flaky, VerdictWord::Fail));
        assert!(stops.symptom(&expectation).unwrap().contains("internal error"));
        let other = judged(&expectation, Measurements::default(), Some(other_stop.clone()));
        assert_eq!(other.word(), VerdictWord::Fail, "{expectation}");
        let harness = judged(&expectation, Measurements::default(), Some(flaky_stop.clone().not_its_fault()));
        assert_eq!(harness.word(), VerdictWord::Error, "{expectation}");
    }
    assert_eq!(judge(&Expectation::WORKS, Some(flaky_stop)).or_flaky(None, &[]).word(), VerdictWord::Fail);
}

#[test]
fn a_cell_that_gives_two_verdicts_in_one_setting_is_flaky_whatever_the_last_one_is() {
    let works = || judge_after("", &Expectation::WORKS, all_evidence(), None);
    let fails = || judge(&Expectation::WORKS, Some(stopped("l2-boot", "internal error")));
    let error = || judge(&Expectation::WORKS, Some(stopped("l1-boot", "no memory").not_its_fault()));
    let known = |verdict: Verdict| verdict.or_flaky(Some(&known_flaky()), &[]);
    let together = |verdicts: &[Verdict]| Verdict::together(verdicts);
    assert_eq!(together(&[works()]), Some((VerdictWord::Pass, 0)));
    assert_eq!(together(&[works(), works()]), Some((VerdictWord::Pass, 1)));
    assert_eq!(together(&[works(), fails(), works()]), Some((VerdictWord::Flaky, 1)));
    assert_eq!(together(&[fails(), fails()]), Some((VerdictWord::Fail, 1)));
    assert_eq!(together(&[works(), error(), works()]), Some((VerdictWord::Error, 1)), "it is not complete");
    assert_eq!(
        together(&[works(), error(), fails()]),
        Some((VerdictWord::Flaky, 2)),
        "it differs all the same"
    );
    assert_eq!(together(&[known(works()), known(fails())]), Some((VerdictWord::Flaky, 1)));
    assert_eq!(together(&[known(works()), error()]), Some((VerdictWord::Error, 1)));
    assert_eq!(together(&[]), None);
}

#[rstest]
#[case::as_known(known_wrong(Some("svm")), "missing CPU feature: svm", true)]
#[case::with_any_symptom(known_wrong(None), "another reason", true)]
#[case::for_another_reason(known_wrong(Some("svm")), "another reason", false)]
#[case::not_known_at_all(Expectation::WORKS, "missing CPU feature: svm", false)]
fn a_claim_that_is_known_to_be_wrong_fails_as_it_is_known_to(
    #[case] expectation: Expectation,
    #[case] symptom: &str,
    #[case] known: bool,
) {
    let verdict = judge(&expectation, Some(stopped("l1-launch", symptom)));
    assert_eq!((verdict.word(), verdict.is_as_described()), (VerdictWord::Fail, known));
    let elsewhere = judge(&expectation, Some(stopped("l1-boot", symptom)));
    assert_eq!((elsewhere.word(), elsewhere.is_as_described()), (VerdictWord::Fail, false));
}

#[rstest]
#[case::of_software_that_has_the_change(true)]
#[case::of_older_software(false)]
fn a_claim_is_known_to_be_wrong_from_a_version_on(#[case] has_change: bool) {
    let Expectation::Works { known_wrong: Some(known) } = known_wrong(Some("svm")) else { unreachable!() };
    let since = Some(Since::from("Linux 6.1".to_owned()));
    let expectation = Expectation::Works { known_wrong: Some(Box::new(KnownWrong { since, ..*known })) };
    let verdict = judge(&expectation, Some(stopped("l1-launch", "missing CPU feature: svm")));
    let verdict = verdict.by_versions(&expectation, |_| has_change);
    assert_eq!((verdict.word(), verdict.is_as_described()), (VerdictWord::Fail, has_change));
}

#[test]
fn a_stack_that_is_too_slow_is_not_known_to_be_wrong() {
    let level = LevelNumber::ALL[1];
    let slow = Symptom::Timeout { level, seconds: 720, busy: true, last_line: None, said: None };
    let slow = Stop::stack(stage("l1-launch"), slow);
    assert!(!judge(&known_wrong(None), Some(slow)).is_as_described());
}

#[test]
fn a_stack_that_works_though_it_is_known_not_to_passes() {
    let verdict = judge_after("", &known_wrong(Some("svm")), all_evidence(), None);
    assert_eq!(verdict.word(), VerdictWord::Pass);
}

#[rstest]
#[case::of_software_that_has_the_change(known_stale(), true, VerdictWord::Fail)]
#[case::of_older_software(known_stale(), false, VerdictWord::Xfail)]
#[case::that_is_not_known_to_be_gone(limitation(), true, VerdictWord::Xfail)]
fn a_limitation_that_shows_itself(
    #[case] expectation: Expectation,
    #[case] has_change: bool,
    #[case] expected: VerdictWord,
) {
    let verdict = judge(&expectation, Some(stopped("l1-launch", "missing CPU feature: svm")));
    let verdict = verdict.by_versions(&expectation, |_| has_change);
    assert_eq!(verdict.word(), expected);
    assert_eq!(verdict.is_as_described(), expected == VerdictWord::Fail);
}

#[test]
fn another_stop_and_one_that_is_no_fault_of_the_stack_do_not_bring_a_limitation_back() {
    for stop in [stopped("l1-launch", "other"), Stop::harness(stage("l1-launch"), "svm")] {
        let verdict = judge(&known_stale(), Some(stop)).by_versions(&known_stale(), |_| true);
        assert!(!verdict.is_as_described(), "{verdict:?}");
    }
}

#[rstest]
#[case(Expectation::WORKS, stopped("l2-boot", "kernel panic"), VerdictWord::Fail)]
#[case(Expectation::WORKS, Stop::harness(stage("l2-boot"), "disk full"), VerdictWord::Error)]
#[case(limitation(), stopped("l1-launch", "missing CPU feature: svm"), VerdictWord::Xfail)]
#[case(limitation(), stopped("l1-launch", "another reason"), VerdictWord::Fail)]
#[case(limitation(), stopped("l2-boot", "svm"), VerdictWord::Fail)]
#[case(limitation(), Stop::harness(stage("l1-launch"), "svm"), VerdictWord::Error)]
#[case(known_stale(), stopped("l1-launch", "missing CPU feature: svm"), VerdictWord::Xfail)]
#[case(known_stale(), stopped("l1-launch", "another reason"), VerdictWord::Fail)]
#[case(known_stale(), Stop::harness(stage("l1-launch"), "svm"), VerdictWord::Error)]
#[case(may_stop(), stopped("l2-boot", "missing CPU feature: svm"), VerdictWord::Xfail)]
#[case(may_stop(), stopped("l2-boot", "another reason"), VerdictWord::Fail)]
#[case(may_stop(), stopped("l0-kvm", "missing CPU feature: svm"), VerdictWord::Fail)]
#[case(may_stop(), Stop::harness(stage("l2-boot"), "svm"), VerdictWord::Error)]
fn a_stop_is_judged_by_who_is_at_fault_and_what_is_documented(
    #[case] expectation: Expectation,
    #[case] stop: Stop,
    #[case] expected: VerdictWord,
) {
    assert_eq!(judge(&expectation, Some(stop)).word(), expected);
}

#[rstest]
#[case("QEMU: Nested KVM-HV only supported on POWER9", VerdictWord::Xfail)]
#[case("QEMU: Nested-HV only supported on POWER9 and later", VerdictWord::Xfail)]
#[case("QEMU: Nested-HV", VerdictWord::Fail)]
fn any_of_the_documented_texts_will_do(#[case] said: &str, #[case] expected: VerdictWord) {
    let texts = ["Nested-HV only supported", "Nested KVM-HV only supported"];
    let limitation = Limitation::new(StopStage::At(stage("l1-launch")), SymptomTexts::new(texts));
    let expectation = Expectation::Stops { limitation, known_stale: None };
    let verdict = judge(&expectation, Some(stopped("l1-launch", said)));
    assert_eq!(verdict.word(), expected);
}

#[rstest]
#[case::right_there("l1-launch", "l0-kvm l1-launch", "l1-launch", true)]
#[case::later("l1-launch", "l0-kvm l1-launch l1-boot", "l1-boot", true)]
#[case::earlier("l1-boot", "l0-kvm l1-launch", "l1-launch", false)]
#[case::at_a_step_that_comes_after_it("l1-launch", "l0-kvm l1-launch l1-boot l1-kvm step-1", "step-1", true)]
#[case::at_a_step_that_comes_before_it("l1-launch", "l0-launch l0-boot l0-kvm step-1", "step-1", false)]
#[case::at_the_step_itself("step-2", "l0-kvm step-1 step-2", "step-2", true)]
#[case::at_the_step_before("step-2", "l0-kvm step-1", "step-1", false)]
#[case::at_a_stage_before_the_step("step-1", "l0-launch l0-boot", "l0-boot", false)]
#[case::at_a_stage_after_the_step("step-1", "l0-kvm step-1 l1-launch", "l1-launch", true)]
#[case::shown_only_after_a_step_that_comes_later("step-1", "l2-boot l2-check step-1", "l2-check", false)]
#[case::passed_over_on_native_metal("l0-launch", "l0-kvm l1-launch", "l1-launch", true)]
#[case::passed_over_before_a_step("l0-boot", "l0-kvm step-1", "step-1", true)]
#[case::from_the_beginning("provision", "l0-launch", "l0-launch", true)]
fn this_stage_or_a_later_one_is_told_by_the_stages_that_the_stack_went_through(
    #[case] from: &str,
    #[case] stages: &str,
    #[case] stopped: &str,
    #[case] as_documented: bool,
) {
    let expectation = stops(StopStage::From(stage(from)), None);
    let stop = super::tests::stopped(stopped, "any");
    let verdict = judge_after(stages, &expectation, Measurements::default(), Some(stop));
    let expected = if as_documented { VerdictWord::Xfail } else { VerdictWord::Fail };
    assert_eq!(verdict.word(), expected, "{:?}", verdict.stop());
}

#[test]
fn running_out_of_time_is_no_limitation_unless_the_document_says_so() {
    let (level, last_line) = (LevelNumber::ALL[1], Some("what is documented".to_owned()));
    let symptom = Symptom::Timeout { level, seconds: 720, busy: true, last_line, said: None };
    let slow = Stop::stack(stage("l1-launch"), symptom);
    let documented = |symptom| stops(StopStage::At(stage("l1-launch")), symptom);
    assert_eq!(judge(&documented(None), Some(slow.clone())).word(), VerdictWord::Error);
    // Neither the harness's words nor a line that happened to be the last are what is documented.
    assert_eq!(judge(&documented(Some("not done")), Some(slow.clone())).word(), VerdictWord::Error);
    assert_eq!(judge(&documented(Some("is documented")), Some(slow.clone())).word(), VerdictWord::Error);
    let hangs = Limitation {
        kind: Some(SymptomKind::Timeout),
        control: Some("works".into()),
        ..Limitation::new(StopStage::At(stage("l1-launch")), None)
    };
    let hangs = Expectation::Stops { limitation: hangs, known_stale: None };
    assert_eq!(judge(&hangs, Some(slow.clone())).word(), VerdictWord::Xfail);
    assert_eq!(judge(&hangs, Some(stopped("l1-launch", "it is gone"))).word(), VerdictWord::Fail);
    assert_eq!(judge(&Expectation::WORKS, Some(slow)).word(), VerdictWord::Fail);
}

#[rstest]
#[case::by_no_symptom(None, false, VerdictWord::Error)]
#[case::though_the_scenario_asked_for_it(None, true, VerdictWord::Error)]
#[case::by_its_symptom(Some("max-cpu-compat"), true, VerdictWord::Xfail)]
#[case::by_another_symptom(Some("svm"), true, VerdictWord::Error)]
fn a_rejected_command_line_is_documented_only_by_its_words(
    #[case] symptom: Option<&str>,
    #[case] asked_for: bool,
    #[case] expected: VerdictWord,
) {
    let said = "Property 'pseries-7.2-machine.max-cpu-compat' not found".to_owned();
    let rejected =
        Symptom::CommandLineRejected { level: LevelNumber::ALL[1], said, asked_for, by_libvirt: false };
    let stop = Stop::stack(stage("l1-launch"), rejected);
    let stop = if asked_for { stop } else { stop.not_its_fault() };
    let expectation = stops(StopStage::From(stage("l1-launch")), symptom);
    assert_eq!(judge(&expectation, Some(stop.clone())).word(), expected);
    let works = if asked_for { VerdictWord::Fail } else { VerdictWord::Error };
    assert_eq!(judge(&Expectation::WORKS, Some(stop)).word(), works);
}

#[test]
fn a_stop_at_a_step_can_be_what_is_documented() {
    let expectation = stops(StopStage::At(stage("step-2")), None);
    let at = |name| judge(&expectation, Some(stopped(name, "any"))).word();
    assert_eq!((at("step-2"), at("step-1")), (VerdictWord::Xfail, VerdictWord::Fail));
}

#[test]
fn another_stop_than_the_documented_one_is_told_with_what_is_documented() {
    let verdict = judge(&may_stop(), Some(stopped("l0-kvm", "no /dev/kvm")));
    let seen = "the emulator that plays L0's metal exited with status 1: no /dev/kvm";
    let documented = format!("{seen} (documented is: may stop at l1-launch or later (svm))");
    assert_eq!(verdict.symptom(&may_stop()), Some(documented));
}

#[rstest]
#[case(Expectation::WORKS, VerdictWord::Pass)]
#[case(may_stop(), VerdictWord::Pass)]
#[case(limitation(), VerdictWord::Xpass)]
#[case(known_stale(), VerdictWord::Xpass)]
fn a_stack_that_works_is_judged_by_what_is_documented(
    #[case] expectation: Expectation,
    #[case] expected: VerdictWord,
) {
    let verdict = judge_after("", &expectation, all_evidence(), None);
    assert_eq!(verdict.word(), expected, "{:?}", verdict.stop());
    assert!(verdict.evidence().is_some());
}

#[rstest]
#[case(Expectation::WORKS)]
#[case(limitation())]
#[case(known_stale())]
#[case(may_stop())]
fn a_stack_that_came_to_its_end_without_evidence_is_an_error(#[case] expectation: Expectation) {
    let verdict = judge(&expectation, None);
    assert_eq!(verdict.word(), VerdictWord::Error);
    assert_eq!(verdict.stop().unwrap().symptom.to_string(), "missing evidence: L2's report");
}
