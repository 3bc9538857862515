//! Verdicts: what was expected, against what was observed.

use std::collections::BTreeSet;
use std::fmt;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{LevelNumber, Stage, StageKind, SymptomKind};
use nestmatrix_stack::{Blame, Evidence, MissingProof, Observation, StageTime, Stop, Symptom};
use serde::{Deserialize, Serialize};

use super::{CellRecord, Known, SkipReason, in_one_line};
use crate::scenario::{Expectation, KnownFlaky, Limitation, Since, StopStage};

/// A cell's verdict. That a stack worked can't be said without its [`Evidence`].
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It works, as documented.
    Pass(Box<Evidence>),
    /// It does not work, against the document.
    Fail(Stop),
    /// It fails as `known-wrong` describes: the claim has been seen wrong, with a stop like this one.
    KnownFail(Stop),
    /// The documented limitation shows itself, though it is known to be gone: what was fixed is broken again.
    CameBack(Stop),
    /// The documented limitation shows itself.
    Xfail(Stop),
    /// The documented limitation no longer shows itself: the document is stale.
    Xpass(Box<Evidence>),
    /// It came out in one of the ways that it is known to at one time or another: nothing follows from that. What it would be otherwise
    /// is inside.
    Flaky(Box<Verdict>),
    /// It was not tried, for these requirements that are missing.
    Skip(Vec<SkipReason>),
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
    /// See [`Verdict::Flaky`]; also of a cell that was tried several times in one setting, with different verdicts.
    Flaky,
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
            Self::Flaky => "flaky",
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
        profile: &ArchInfo,
    ) -> Self {
        let worked = match &observation.stop {
            Some(stop) => Err(stop.clone()),
            None => weigh(observation, innermost, profile),
        };
        match (worked, expectation) {
            // Nothing that the document is about was tried.
            (Err(Stop { symptom: Symptom::EmulatorErratum { erratum, why, .. }, .. }), _) => {
                Self::Skip(vec![SkipReason::EmulatorErratum { erratum, why }])
            }
            (Err(stop), _) if stop.blame == Blame::Harness => Self::Error(stop),
            (Ok(evidence), Expectation::Works { .. } | Expectation::MayStop(_)) => {
                Self::Pass(Box::new(evidence))
            }
            (Ok(evidence), Expectation::Stops { .. }) => Self::Xpass(Box::new(evidence)),
            (Err(stop), Expectation::Works { known_wrong }) => {
                let known = known_wrong.as_ref();
                match known.map(|known| compare(&known.limitation, &stop, &observation.stages)) {
                    Some(Likeness::Same) => Self::KnownFail(stop),
                    Some(Likeness::Another | Likeness::Undecided) | None => Self::Fail(stop),
                }
            }
            (Err(stop), Expectation::Stops { limitation, .. } | Expectation::MayStop(limitation)) => {
                match compare(limitation, &stop, &observation.stages) {
                    Likeness::Same => Self::Xfail(stop),
                    Likeness::Another => Self::Fail(stop),
                    Likeness::Undecided => Self::Error(stop),
                }
            }
        }
    }

    /// Why it was not tried, or what was seen where the stack stopped, if it did; and where that is not what is documented, what is.
    pub fn symptom(&self, expectation: &Expectation) -> Option<String> {
        if let Self::Skip(reasons) = self {
            return Some(in_one_line(reasons));
        }
        let stop = self.stop()?;
        let another = matches!(self.itself(), Self::Fail(_)) && expectation.limitation().is_some();
        Some(match another {
            true => format!("{} (documented is: {expectation})", stop.symptom),
            false => stop.symptom.to_string(),
        })
    }

    /// The same by the versions of the stack, of which `has_change` says whether they have a change: a limitation that shows itself
    /// though it is known to be gone there has come back, and a claim that is known to be wrong since a change that is not there fails
    /// for another reason.
    #[must_use]
    pub fn by_versions(self, expectation: &Expectation, has_change: impl Fn(&Since) -> bool) -> Self {
        let stale = expectation.known_stale().map(|known| &known.since);
        let wrong = expectation.known_wrong().and_then(|known| known.since.as_ref());
        match (self, stale, wrong) {
            (Self::Xfail(stop), Some(since), _) if has_change(since) => Self::CameBack(stop),
            (Self::KnownFail(stop), _, Some(since)) if !has_change(since) => Self::Fail(stop),
            (verdict, ..) => verdict,
        }
    }

    /// The same of a cell that is `known` to be flaky here: that it works, stops as expected or as it is known to at times says nothing.
    /// Any other stop, and an error, says what it always does. The stack went through `stages`.
    #[must_use]
    pub fn or_flaky(self, known: Option<&KnownFlaky>, stages: &[StageTime]) -> Self {
        let Some(known) = known else { return self };
        let is_known = match &self {
            Self::Pass(_) | Self::Xpass(_) | Self::Xfail(_) | Self::KnownFail(_) => true,
            Self::Fail(stop) | Self::CameBack(stop) => {
                matches!(compare(&known.limitation, stop, stages), Likeness::Same)
            }
            // One that runs out of time is an error where a stop is expected, unless just this is known.
            Self::Error(stop) => {
                stop.blame == Blame::Stack
                    && matches!(compare(&known.limitation, stop, stages), Likeness::Same)
            }
            Self::Flaky(_) | Self::Skip(_) => false,
        };
        if is_known { Self::Flaky(Box::new(self)) } else { self }
    }

    /// Whether its scenario describes what came of the stack, as a fail that it is known to be or was until a limitation was gone, or as
    /// one of the ways in which it is known to come out.
    pub fn is_as_described(&self) -> bool {
        matches!(self, Self::KnownFail(_) | Self::CameBack(_) | Self::Flaky(_))
    }

    /// The verdict by what came of the stack itself, whatever is known of its being flaky.
    pub fn itself(&self) -> &Self {
        match self {
            Self::Flaky(verdict) => verdict,
            verdict => verdict,
        }
    }

    /// How bad it is, of several of one cell.
    fn severity(&self) -> u8 {
        match self.itself() {
            Self::Skip(_) | Self::Flaky(_) => 0,
            Self::Pass(_) => 1,
            Self::Xfail(_) => 2,
            Self::Xpass(_) => 3,
            Self::KnownFail(_) => 4,
            Self::CameBack(_) | Self::Fail(_) => 5,
            Self::Error(_) => 6,
        }
    }

    /// What these verdicts of one cell in one setting come to, and the place of the one that shows it best: the worst, and of equals the
    /// last. Where they differ, the cell is flaky. An error or a skip says nothing of the stack, so it differs from nothing, and counts
    /// only where nothing else does.
    pub(super) fn together(verdicts: &[Self]) -> Option<(VerdictWord, usize)> {
        let says_something = |verdict: &Self| !matches!(verdict, Self::Error(_) | Self::Skip(_));
        let words: BTreeSet<VerdictWord> =
            verdicts.iter().filter(|verdict| says_something(verdict)).map(Self::word).collect();
        let is_flaky = words.len() > 1;
        let counts = |verdict: &Self| !is_flaky || says_something(verdict);
        let places = verdicts.iter().enumerate().filter(|(_, verdict)| counts(verdict));
        let (place, worst) = places.max_by_key(|(_, verdict)| verdict.severity())?;
        Some((if is_flaky { VerdictWord::Flaky } else { worst.word() }, place))
    }

    /// Its name.
    pub fn word(&self) -> VerdictWord {
        match self {
            Self::Pass(_) => VerdictWord::Pass,
            Self::Fail(_) | Self::KnownFail(_) | Self::CameBack(_) => VerdictWord::Fail,
            Self::Xfail(_) => VerdictWord::Xfail,
            Self::Xpass(_) => VerdictWord::Xpass,
            Self::Flaky(_) => VerdictWord::Flaky,
            Self::Skip(_) => VerdictWord::Skip,
            Self::Error(_) => VerdictWord::Error,
        }
    }

    /// Where the stack stopped, if it did.
    pub fn stop(&self) -> Option<&Stop> {
        match self.itself() {
            Self::Fail(stop)
            | Self::KnownFail(stop)
            | Self::CameBack(stop)
            | Self::Xfail(stop)
            | Self::Error(stop) => Some(stop),
            Self::Pass(_) | Self::Xpass(_) | Self::Flaky(_) | Self::Skip(_) => None,
        }
    }

    /// The evidence that the stack worked, if it did.
    pub fn evidence(&self) -> Option<&Evidence> {
        match self.itself() {
            Self::Pass(evidence) | Self::Xpass(evidence) => Some(evidence),
            Self::Fail(_)
            | Self::KnownFail(_)
            | Self::CameBack(_)
            | Self::Xfail(_)
            | Self::Flaky(_)
            | Self::Skip(_)
            | Self::Error(_) => None,
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
    there && of_kind && limitation.symptom.as_ref().is_none_or(|texts| texts.found_in(&said).is_some())
}

/// What a stop is, beside one that is described.
enum Likeness {
    /// The very one.
    Same,
    /// Another.
    Another,
    /// It can't be said: the stack was too slow here, or nothing of it was tried.
    Undecided,
}

/// Compares the stop of a stack that went through `stages` with one that is described. Too slow is not the same as not working,
/// and a QEMU that rejects its command line has tried nothing; unless just that is described.
fn compare(limitation: &Limitation, stop: &Stop, stages: &[StageTime]) -> Likeness {
    let same = shows_itself(limitation, stop, stages);
    let kind = stop.symptom.kind();
    let is_named = match kind {
        SymptomKind::Timeout => limitation.kind == Some(kind),
        SymptomKind::CommandLineRejected => limitation.kind == Some(kind) || limitation.symptom.is_some(),
        _ => true,
    };
    match (same, is_named) {
        (true, true) => Likeness::Same,
        (false, _) if !matches!(kind, SymptomKind::Timeout | SymptomKind::CommandLineRejected) => {
            Likeness::Another
        }
        _ => Likeness::Undecided,
    }
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

fn weigh(observation: &Observation, innermost: LevelNumber, profile: &ArchInfo) -> Result<Evidence, Stop> {
    let last = if innermost.reports() { StageKind::Check } else { StageKind::Kvm };
    let stage = Stage::Level(innermost, last);
    let weighed = Evidence::weigh(&observation.gathered, innermost, profile);
    weighed.map_err(|doubt| match doubt {
        MissingProof::Contradicts(symptom) => Stop::stack(stage, *symptom),
        MissingProof::Missing(what) => Stop::stack(stage, Symptom::MissingEvidence { what }).not_its_fault(),
    })
}

/// How many cells got which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Cells that passed.
    pub pass: usize,
    /// Those of `pass` whose claim was known to be wrong.
    pub righted: usize,
    /// Cells that failed, the known and the new ones.
    pub fail: usize,
    /// Those of `fail` whose claim was known to be wrong.
    pub known_wrong: usize,
    /// Those of `fail` whose limitation was known to be gone, and came back.
    pub came_back: usize,
    /// Cells whose documented limitation shows itself.
    pub xfail: usize,
    /// Cells whose documented limitation is gone, the known and the new ones.
    pub xpass: usize,
    /// Those of `xpass` whose limitation was known to be gone.
    pub known_stale: usize,
    /// Cells that gave two verdicts in one setting, or are known to.
    pub flaky: usize,
    /// Those of `flaky` that are known to.
    pub known_flaky: usize,
    /// Cells that were not tried.
    pub skip: usize,
    /// Cells of which nothing can be said.
    pub error: usize,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, cell: &CellRecord) {
        match cell.known() {
            Some(Known::Stale) => self.known_stale += 1,
            Some(Known::Wrong) => self.known_wrong += 1,
            Some(Known::CameBack) => self.came_back += 1,
            Some(Known::Righted) => self.righted += 1,
            Some(Known::Flaky) => self.known_flaky += 1,
            None => {}
        }
        *match cell.verdict {
            VerdictWord::Pass => &mut self.pass,
            VerdictWord::Fail => &mut self.fail,
            VerdictWord::Xfail => &mut self.xfail,
            VerdictWord::Xpass => &mut self.xpass,
            VerdictWord::Flaky => &mut self.flaky,
            VerdictWord::Skip => &mut self.skip,
            VerdictWord::Error => &mut self.error,
        } += 1;
    }

    /// The exit code that these verdicts call for: 0 as expected or known, 1 a fail, an xpass or a flaky cell that is news, 3 an error,
    /// 4 nothing ran but what is known to be flaky, of which nothing follows. An error goes before a fail: with one, the result set is not
    /// complete.
    pub fn exit_code(&self) -> u8 {
        if self.error > 0 {
            3
        } else if self.fail > self.known_wrong
            || self.xpass > self.known_stale
            || self.flaky > self.known_flaky
        {
            1
        } else if self.pass + self.fail + self.xfail + self.xpass == 0 {
            4
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use nestmatrix_model::Architecture;
    use nestmatrix_stack::{InnermostReport, Measurements};
    use nestmatrix_vmm::qemu::{CpuReport, Ended, KvmReport, MachineReport};
    use rstest::rstest;

    use super::*;
    use crate::scenario::{KnownStale, KnownWrong, SymptomTexts};

    /// Judges a stack that went through these stages and then stopped, or did not.
    fn judge_after(
        stages: &str,
        expectation: &Expectation,
        gathered: Measurements,
        stop: Option<Stop>,
    ) -> Verdict {
        let began = |name| StageTime { stage: stage(name), start: 0.0, end: 0.0 };
        let stages = stages.split_whitespace().map(began).collect();
        let nothing = Observation::stopped(Stop::interrupted(Stage::Provision));
        let observation = Observation { stages, gathered, stop, ..nothing };
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

    /// What is gathered of a stack of three levels that works.
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
        Expectation::Stops { limitation, known_stale: Some(KnownStale { since: since.into(), seen, note }) }
    }

    /// That a stack works is expected, and known to be wrong: it stops so.
    fn known_wrong(symptom: Option<&str>) -> Expectation {
        let symptom = symptom.and_then(|text| SymptomTexts::new([text]));
        let limitation = Limitation::new(StopStage::At(stage("l1-launch")), symptom);
        let [seen, note] = ["2026-11-22", "why"].map(str::to_owned);
        let known = KnownWrong { limitation, since: None, seen, note, reference: None };
        Expectation::Works { known_wrong: Some(Box::new(known)) }
    }

    fn known_flaky() -> KnownFlaky {
        KnownFlaky {
            metal: None,
            versions: None,
            limitation: Limitation::new(StopStage::At(stage("l2-boot")), SymptomTexts::new(["internal"])),
            stopped: 3,
            of: 10,
            seen: "2026-11-28".to_owned(),
            note: "why".to_owned(),
            reference: None,
        }
    }

    #[test]
    fn nothing_follows_from_what_is_known_to_be_flaky_and_another_stop_is_news() {
        let known = known_flaky();
        let judged = |expectation: &Expectation, gathered: Measurements, stop: Option<Stop>| {
            judge_after("", expectation, gathered, stop).or_flaky(Some(&known), &[])
        };
        let [flaky_stop, other_stop] = ["internal error", "another"].map(|said| stopped("l2-boot", said));
        for expectation in [Expectation::WORKS, limitation(), known_stale(), may_stop()] {
            let works = judged(&expectation, all_evidence(), None);
            assert_eq!(
                (works.word(), works.evidence().is_some()),
                (VerdictWord::Flaky, true),
                "{expectation}"
            );
            let stops = judged(&expectation, Measurements::default(), Some(flaky_stop.clone()));
            assert_eq!((stops.word(), stops.itself().word()), (VerdictWord::Flaky, VerdictWord::Fail));
            assert!(stops.symptom(&expectation).unwrap().contains("internal error"));
            let other = judged(&expectation, Measurements::default(), Some(other_stop.clone()));
            assert_eq!(other.word(), VerdictWord::Fail, "{expectation}");
            let harness =
                judged(&expectation, Measurements::default(), Some(flaky_stop.clone().not_its_fault()));
            assert_eq!(harness.word(), VerdictWord::Error, "{expectation}");
        }
        assert_eq!(
            judge(&Expectation::WORKS, Some(flaky_stop)).or_flaky(None, &[]).word(),
            VerdictWord::Fail
        );
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
        assert_eq!(
            together(&[works(), error(), works()]),
            Some((VerdictWord::Error, 1)),
            "it is not complete"
        );
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
        let Expectation::Works { known_wrong: Some(known) } = known_wrong(Some("svm")) else {
            unreachable!()
        };
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
        let rejected = Symptom::CommandLineRejected { level: LevelNumber::ALL[1], said, asked_for };
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

    fn record(verdict: VerdictWord, expectation: &Expectation, as_described: bool) -> CellRecord {
        let value = serde_json::json!({
            "cell": "scenario/amd/a/b/c", "scenario": "scenario", "document": "d", "claims": ["c"], "architecture": "amd",
            "tier": "supported", "expectation": expectation, "verdict": verdict, "as_described": as_described,
            "levels": [], "steps": [], "stages": [], "attempts": [],
        });
        serde_json::from_value(value).unwrap()
    }

    /// The exit code of a run of these cells: a verdict, what was expected, and whether it failed as described.
    fn exit_code(cells: &[(VerdictWord, Expectation, bool)]) -> (Tally, u8) {
        let mut tally = Tally::default();
        for (verdict, expectation, as_described) in cells {
            tally.add(&record(*verdict, expectation, *as_described));
        }
        (tally, tally.exit_code())
    }

    #[test]
    fn exit_codes_follow_the_worst_verdict() {
        let of = |words: &[VerdictWord]| {
            exit_code(&words.iter().map(|word| (*word, limitation(), false)).collect::<Vec<_>>()).1
        };
        assert_eq!(of(&[VerdictWord::Pass, VerdictWord::Xfail, VerdictWord::Skip]), 0);
        assert_eq!(of(&[VerdictWord::Pass, VerdictWord::Fail]), 1);
        assert_eq!(of(&[VerdictWord::Pass, VerdictWord::Xpass]), 1);
        assert_eq!(of(&[VerdictWord::Fail, VerdictWord::Error]), 3);
        assert_eq!(of(&[VerdictWord::Skip]), 4);
        assert_eq!(of(&[]), 4);
    }

    #[test]
    fn what_is_known_fails_no_run_and_hides_nothing_else() {
        let stale = (VerdictWord::Xpass, known_stale(), false);
        let wrong = (VerdictWord::Fail, known_wrong(Some("svm")), true);
        let (tally, code) = exit_code(&[stale.clone(), wrong.clone()]);
        assert_eq!((tally.xpass, tally.known_stale, tally.fail, tally.known_wrong, code), (1, 1, 1, 1, 0));
        assert_eq!(exit_code(std::slice::from_ref(&wrong)).1, 0, "something ran");
        for (news, expected) in [
            ((VerdictWord::Xpass, limitation(), false), 1),
            ((VerdictWord::Fail, known_stale(), false), 1),
            ((VerdictWord::Fail, known_wrong(Some("svm")), false), 1),
            ((VerdictWord::Error, known_stale(), false), 3),
        ] {
            assert_eq!(exit_code(&[stale.clone(), wrong.clone(), news.clone()]).1, expected, "{news:?}");
        }
    }

    #[test]
    fn what_turned_is_counted() {
        let (tally, code) = exit_code(&[(VerdictWord::Fail, known_stale(), true)]);
        assert_eq!((tally.fail, tally.came_back, code), (1, 1, 1));
        let (tally, code) = exit_code(&[(VerdictWord::Pass, known_wrong(None), false)]);
        assert_eq!((tally.pass, tally.righted, code), (1, 1, 0));
        // Of software that is older than the change, or of which that is not known.
        let (tally, code) = exit_code(&[(VerdictWord::Xfail, known_stale(), false)]);
        assert_eq!((tally.xfail, tally.came_back, code), (1, 0, 0));
    }
}
