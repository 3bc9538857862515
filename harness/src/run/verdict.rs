//! Verdicts: what was expected, against what was observed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::architecture::Profile;
use crate::scenario::{Expectation, LevelNumber, Limitation, Stage, StageKind, StopStage, SymptomKind};
use crate::stack::{Blame, Doubt, Evidence, Observation, StageTime, Stop, Symptom};

/// A cell's verdict. That a stack worked can't be said without its [`Evidence`].
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It works, as documented.
    Pass(Box<Evidence>),
    /// It does not work, against the document.
    Fail(Stop),
    /// The documented limitation shows itself.
    Xfail(Stop),
    /// The documented limitation no longer shows itself: the document is stale.
    Xpass(Box<Evidence>),
    /// It was not tried, for these requirements that are missing.
    Skip(Vec<String>),
    /// The harness or its machine is at fault; nothing can be said of the matrix.
    Error(Stop),
}

/// A verdict's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictWord {
    /// See [`Verdict::Pass`].
    Pass,
    /// See [`Verdict::Fail`].
    Fail,
    /// See [`Verdict::Xfail`].
    Xfail,
    /// See [`Verdict::Xpass`].
    Xpass,
    /// See [`Verdict::Skip`].
    Skip,
    /// See [`Verdict::Error`].
    Error,
}

impl fmt::Display for VerdictWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Xfail => "xfail",
            Self::Xpass => "xpass",
            Self::Skip => "skip",
            Self::Error => "error",
        })
    }
}

impl Verdict {
    /// Judges what was observed of a stack whose innermost level is `innermost`.
    pub fn judge(
        expectation: &Expectation,
        observation: &Observation,
        innermost: LevelNumber,
        profile: &Profile,
    ) -> Self {
        let worked = match &observation.stop {
            Some(stop) => Err(stop.clone()),
            None => weigh(observation, innermost, profile),
        };
        match (worked, expectation) {
            (Err(stop), _) if stop.blame == Blame::Harness => Self::Error(stop),
            (Ok(evidence), Expectation::Works | Expectation::MayStop(_)) => Self::Pass(Box::new(evidence)),
            (Ok(evidence), Expectation::Stops { .. }) => Self::Xpass(Box::new(evidence)),
            (Err(stop), Expectation::Works) => Self::Fail(stop),
            (Err(stop), Expectation::Stops { limitation, .. } | Expectation::MayStop(limitation)) => {
                let documented = shows_itself(limitation, &stop, &observation.stages);
                match stop.symptom.kind() {
                    // Too slow is not the same as not working, unless the document says just that.
                    kind @ SymptomKind::Timeout if !(documented && limitation.kind == Some(kind)) => {
                        Self::Error(stop)
                    }
                    // Nothing was tried yet, unless the document says just that.
                    kind @ SymptomKind::CommandLineRejected
                        if !(documented
                            && (limitation.kind == Some(kind) || limitation.symptom.is_some())) =>
                    {
                        Self::Error(stop)
                    }
                    _ if documented => Self::Xfail(stop),
                    _ => Self::Fail(stop),
                }
            }
        }
    }

    /// What was seen where the stack stopped, if it did; and where that is not what is documented, what is.
    pub fn symptom(&self, expectation: &Expectation) -> Option<String> {
        let stop = self.stop()?;
        let another = matches!(self, Self::Fail(_)) && *expectation != Expectation::Works;
        Some(match another {
            true => format!("{} (documented is: {expectation})", stop.symptom),
            false => stop.symptom.to_string(),
        })
    }

    /// Its name.
    pub fn word(&self) -> VerdictWord {
        match self {
            Self::Pass(_) => VerdictWord::Pass,
            Self::Fail(_) => VerdictWord::Fail,
            Self::Xfail(_) => VerdictWord::Xfail,
            Self::Xpass(_) => VerdictWord::Xpass,
            Self::Skip(_) => VerdictWord::Skip,
            Self::Error(_) => VerdictWord::Error,
        }
    }

    /// Where the stack stopped, if it did.
    pub fn stop(&self) -> Option<&Stop> {
        match self {
            Self::Fail(stop) | Self::Xfail(stop) | Self::Error(stop) => Some(stop),
            Self::Pass(_) | Self::Xpass(_) | Self::Skip(_) => None,
        }
    }

    /// The evidence that the stack worked, if it did.
    pub fn evidence(&self) -> Option<&Evidence> {
        match self {
            Self::Pass(evidence) | Self::Xpass(evidence) => Some(evidence),
            Self::Fail(_) | Self::Xfail(_) | Self::Skip(_) | Self::Error(_) => None,
        }
    }
}

/// Whether a stack that went through `stages` stopped as the document says.
fn shows_itself(limitation: &Limitation, stop: &Stop, stages: &[StageTime]) -> bool {
    let there = match limitation.stop {
        StopStage::At(stage) => stop.stage == stage,
        StopStage::From(first) => is_at_or_after(first, stop.stage, stages),
    };
    let said = stop.symptom.said().unwrap_or_default();
    let of_kind = limitation.kind.is_none_or(|kind| stop.symptom.kind() == kind);
    there && of_kind && limitation.symptom.as_ref().is_none_or(|texts| texts.found_in(said).is_some())
}

/// Whether a stack that went through `stages` came to `first` before it stopped at `last`, or stopped right there. Where
/// a step comes only that way tells. A stage of the levels has also been come to where a later one has: on native metal a
/// stack begins at `l0-kvm`.
fn is_at_or_after(first: Stage, last: Stage, stages: &[StageTime]) -> bool {
    let of_levels = |stage: Stage| !matches!(stage, Stage::Step(_));
    let reaches = |stage: Stage| stage == first || (of_levels(first) && of_levels(stage) && stage > first);
    // A step may be done by the time at which the stage before it turns out to have stopped.
    let end = stages.iter().rposition(|time| time.stage == last).unwrap_or(stages.len());
    stages[..end].iter().any(|time| reaches(time.stage)) || reaches(last)
}

fn weigh(observation: &Observation, innermost: LevelNumber, profile: &Profile) -> Result<Evidence, Stop> {
    let last = if innermost.reports() { StageKind::Check } else { StageKind::Kvm };
    let stage = Stage::Level(innermost, last);
    let weighed = Evidence::weigh(&observation.gathered, innermost, profile);
    weighed.map_err(|doubt| match doubt {
        Doubt::Contradicts(symptom) => Stop::stack(stage, *symptom),
        Doubt::Missing(what) => Stop::stack(stage, Symptom::MissingEvidence { what }).not_its_fault(),
    })
}

/// How many cells got which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Cells that passed.
    pub pass: usize,
    /// Cells that failed.
    pub fail: usize,
    /// Cells whose documented limitation shows itself.
    pub xfail: usize,
    /// Cells whose documented limitation is gone, the known and the new ones.
    pub xpass: usize,
    /// Those of `xpass` whose limitation was known to be gone.
    pub known_stale: usize,
    /// Cells that were not tried.
    pub skip: usize,
    /// Cells of which nothing can be said.
    pub error: usize,
}

impl Tally {
    /// Counts one more, of a cell of which this was expected.
    pub fn add(&mut self, word: VerdictWord, expectation: &Expectation) {
        if word == VerdictWord::Xpass && expectation.known_stale().is_some() {
            self.known_stale += 1;
        }
        *match word {
            VerdictWord::Pass => &mut self.pass,
            VerdictWord::Fail => &mut self.fail,
            VerdictWord::Xfail => &mut self.xfail,
            VerdictWord::Xpass => &mut self.xpass,
            VerdictWord::Skip => &mut self.skip,
            VerdictWord::Error => &mut self.error,
        } += 1;
    }

    /// The exit code that these verdicts call for: 0 as expected or known, 1 a fail or an xpass that is news, 3 an error,
    /// 4 nothing ran. An error goes before a fail: with one, the result set is not complete.
    pub fn exit_code(&self) -> u8 {
        if self.error > 0 {
            3
        } else if self.fail > 0 || self.xpass > self.known_stale {
            1
        } else if self.pass + self.xfail + self.xpass == 0 {
            4
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Architecture;
    use rstest::rstest;

    use crate::qemu::{CpuReport, Ended, KvmReport, MachineReport};
    use crate::scenario::{KnownStale, SymptomTexts};
    use crate::stack::{Gathered, LeafReport};

    /// Judges a stack that went through these stages and then stopped, or did not.
    fn judge_after(
        stages: &str,
        expectation: &Expectation,
        gathered: Gathered,
        stop: Option<Stop>,
    ) -> Verdict {
        let began = |name| StageTime { stage: stage(name), start: 0.0, end: 0.0 };
        let stages = stages.split_whitespace().map(began).collect();
        let nothing = Observation::stopped(Stop::interrupted(Stage::Provision));
        let observation = Observation { stages, gathered, stop, ..nothing };
        let profile = Profile::of(Architecture::Amd);
        Verdict::judge(expectation, &observation, LevelNumber::ALL[2], profile)
    }

    /// A stack that stopped at `stage` because its QEMU ended and said this.
    fn stopped(name: &str, said: &str) -> Stop {
        let level = stage(name).level().unwrap_or(LevelNumber::ALL[1]);
        let symptom = Symptom::QemuEnded { level, ended: Ended::Exited(1), said: said.to_owned() };
        Stop::stack(stage(name), symptom)
    }

    fn judge(expectation: &Expectation, stop: Option<Stop>) -> Verdict {
        judge_after("", expectation, Gathered::default(), stop)
    }

    /// What is gathered of a stack of three levels that works.
    fn all_evidence() -> Gathered {
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
        let report = LeafReport { nonce: "17".into(), hypervisor: "KVM".into(), ..LeafReport::default() };
        Gathered {
            nonce: "17".into(),
            report: Some(report),
            kvm: [l1, l2].map(|level| (level, kvm)).into(),
            cpus: [l1, l2].map(|level| (level, cpu.clone())).into(),
            machines: [l1, l2].map(|level| (level, MachineReport::default())).into(),
            counters_before: [l0, l1].map(|level| (level, counters(0))).into(),
            counters_after: [l0, l1].map(|level| (level, counters(800))).into(),
            ..Gathered::default()
        }
    }

    fn stage(name: &str) -> Stage {
        name.parse().unwrap()
    }

    fn limitation() -> Expectation {
        stops(StopStage::At(stage("l1-launch")), Some("svm"))
    }

    fn stops(stop: StopStage, symptom: Option<&str>) -> Expectation {
        let limitation = Limitation::new(stop, symptom.and_then(|text| SymptomTexts::new([text])));
        Expectation::Stops { limitation, known_stale: None }
    }

    fn may_stop() -> Expectation {
        let stop = StopStage::From(stage("l1-launch"));
        Expectation::MayStop(Limitation::new(stop, SymptomTexts::new(["svm"])))
    }

    fn known_stale() -> Expectation {
        let Expectation::Stops { limitation, .. } = limitation() else { unreachable!() };
        let [since, seen, note] = ["Linux 5.8", "2026-11-22", "why"].map(str::to_owned);
        Expectation::Stops { limitation, known_stale: Some(KnownStale { since, seen, note }) }
    }

    #[rstest]
    #[case(Expectation::Works, stopped("l2-boot", "kernel panic"), VerdictWord::Fail)]
    #[case(Expectation::Works, Stop::harness(stage("l2-boot"), "disk full"), VerdictWord::Error)]
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
    #[case::at_a_step_that_comes_after_it(
        "l1-launch",
        "l0-kvm l1-launch l1-boot l1-kvm step-1",
        "step-1",
        true
    )]
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
        let verdict = judge_after(stages, &expectation, Gathered::default(), Some(stop));
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
        assert_eq!(judge(&Expectation::Works, Some(slow)).word(), VerdictWord::Fail);
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
        let rejected = Symptom::CommandLineRejected { level: LevelNumber::ALL[1], said, asked_for };
        let stop = Stop::stack(stage("l1-launch"), rejected);
        let stop = if asked_for { stop } else { stop.not_its_fault() };
        let expectation = stops(StopStage::From(stage("l1-launch")), symptom);
        assert_eq!(judge(&expectation, Some(stop.clone())).word(), expected);
        let works = if asked_for { VerdictWord::Fail } else { VerdictWord::Error };
        assert_eq!(judge(&Expectation::Works, Some(stop)).word(), works);
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
    #[case(Expectation::Works, VerdictWord::Pass)]
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
    #[case(Expectation::Works)]
    #[case(limitation())]
    #[case(known_stale())]
    #[case(may_stop())]
    fn a_stack_that_came_to_its_end_without_evidence_is_an_error(#[case] expectation: Expectation) {
        let verdict = judge(&expectation, None);
        assert_eq!(verdict.word(), VerdictWord::Error);
        assert_eq!(verdict.stop().unwrap().symptom.to_string(), "missing evidence: L2's report");
    }

    #[test]
    fn exit_codes_follow_the_worst_verdict() {
        let tally = |words: &[VerdictWord]| {
            let mut tally = Tally::default();
            words.iter().for_each(|word| tally.add(*word, &limitation()));
            tally.exit_code()
        };
        assert_eq!(tally(&[VerdictWord::Pass, VerdictWord::Xfail, VerdictWord::Skip]), 0);
        assert_eq!(tally(&[VerdictWord::Pass, VerdictWord::Fail]), 1);
        assert_eq!(tally(&[VerdictWord::Pass, VerdictWord::Xpass]), 1);
        assert_eq!(tally(&[VerdictWord::Fail, VerdictWord::Error]), 3);
        assert_eq!(tally(&[VerdictWord::Skip]), 4);
        assert_eq!(tally(&[]), 4);
    }

    #[test]
    fn an_xpass_that_is_known_fails_no_run_and_hides_no_other() {
        let tally = |verdicts: &[(VerdictWord, Expectation)]| {
            let mut tally = Tally::default();
            verdicts.iter().for_each(|(word, expectation)| tally.add(*word, expectation));
            (tally.xpass, tally.known_stale, tally.exit_code())
        };
        let known = (VerdictWord::Xpass, known_stale());
        assert_eq!(tally(std::slice::from_ref(&known)), (1, 1, 0));
        assert_eq!(tally(&[known.clone(), (VerdictWord::Xpass, limitation())]), (2, 1, 1));
        assert_eq!(tally(&[known.clone(), (VerdictWord::Fail, known_stale())]), (1, 1, 1));
        assert_eq!(tally(&[known, (VerdictWord::Error, known_stale())]), (1, 1, 3));
        assert_eq!(tally(&[(VerdictWord::Xfail, known_stale())]), (0, 0, 0));
    }
}
