//! Verdicts: what was expected, against what was observed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::architecture::Profile;
use crate::scenario::{Expectation, LevelNumber, Stage, StageKind};
use crate::stack::{Blame, Doubt, Evidence, Observation, Stop};

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
            (Ok(evidence), Expectation::Works) => Self::Pass(Box::new(evidence)),
            (Ok(evidence), Expectation::Stops { .. }) => Self::Xpass(Box::new(evidence)),
            (Err(stop), Expectation::Works) => Self::Fail(stop),
            (Err(stop), Expectation::Stops { stage, symptom }) => {
                let as_documented = stop.stage == *stage
                    && symptom.as_ref().is_none_or(|symptom| stop.symptom.contains(symptom));
                if as_documented {
                    Self::Xfail(stop)
                } else {
                    let symptom = format!("{} (documented is: {expectation})", stop.symptom);
                    Self::Fail(Stop { symptom, ..stop })
                }
            }
        }
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

fn weigh(observation: &Observation, innermost: LevelNumber, profile: &Profile) -> Result<Evidence, Stop> {
    let stage = Stage::Level(innermost, StageKind::Check);
    let weighed = Evidence::weigh(&observation.gathered, innermost, profile);
    weighed.map_err(|doubt| match doubt {
        Doubt::Contradicts(symptom) => Stop::stack(stage, symptom),
        Doubt::Missing(_) => Stop::harness(stage, doubt.to_string()),
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
    /// Cells whose documented limitation is gone.
    pub xpass: usize,
    /// Cells that were not tried.
    pub skip: usize,
    /// Cells of which nothing can be said.
    pub error: usize,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, word: VerdictWord) {
        *match word {
            VerdictWord::Pass => &mut self.pass,
            VerdictWord::Fail => &mut self.fail,
            VerdictWord::Xfail => &mut self.xfail,
            VerdictWord::Xpass => &mut self.xpass,
            VerdictWord::Skip => &mut self.skip,
            VerdictWord::Error => &mut self.error,
        } += 1;
    }

    /// The exit code that these verdicts call for: 0 as expected, 1 a fail or xpass, 3 an error, 4 nothing ran. An
    /// error goes before a fail: with one, the result set is not complete.
    pub fn exit_code(&self) -> u8 {
        if self.error > 0 {
            3
        } else if self.fail + self.xpass > 0 {
            1
        } else if self.pass + self.xfail == 0 {
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

    fn judge(expectation: &Expectation, stop: Option<Stop>) -> Verdict {
        let observation = Observation { stop, ..Observation::stopped(Stop::interrupted(Stage::Provision)) };
        let profile = Profile::of(Architecture::Amd).unwrap();
        Verdict::judge(expectation, &observation, LevelNumber::ALL[2], profile)
    }

    fn stage(name: &str) -> Stage {
        name.parse().unwrap()
    }

    fn limitation() -> Expectation {
        Expectation::Stops { stage: stage("l1-launch"), symptom: Some("svm".into()) }
    }

    #[rstest]
    #[case(Expectation::Works, Stop::stack(stage("l2-boot"), "kernel panic"), VerdictWord::Fail)]
    #[case(Expectation::Works, Stop::harness(stage("l2-boot"), "disk full"), VerdictWord::Error)]
    #[case(limitation(), Stop::stack(stage("l1-launch"), "missing CPU feature: svm"), VerdictWord::Xfail)]
    #[case(limitation(), Stop::stack(stage("l1-launch"), "another reason"), VerdictWord::Fail)]
    #[case(limitation(), Stop::stack(stage("l2-boot"), "svm"), VerdictWord::Fail)]
    #[case(limitation(), Stop::harness(stage("l1-launch"), "svm"), VerdictWord::Error)]
    fn a_stop_is_judged_by_who_is_at_fault_and_what_is_documented(
        #[case] expectation: Expectation,
        #[case] stop: Stop,
        #[case] expected: VerdictWord,
    ) {
        assert_eq!(judge(&expectation, Some(stop)).word(), expected);
    }

    #[test]
    fn a_stack_that_came_to_its_end_without_evidence_is_an_error() {
        let verdict = judge(&Expectation::Works, None);
        assert_eq!(verdict.word(), VerdictWord::Error);
        assert_eq!(verdict.stop().unwrap().symptom, "missing evidence: L2's report");
        assert_eq!(judge(&limitation(), None).word(), VerdictWord::Error);
    }

    #[test]
    fn exit_codes_follow_the_worst_verdict() {
        let tally = |words: &[VerdictWord]| {
            let mut tally = Tally::default();
            words.iter().for_each(|word| tally.add(*word));
            tally.exit_code()
        };
        assert_eq!(tally(&[VerdictWord::Pass, VerdictWord::Xfail, VerdictWord::Skip]), 0);
        assert_eq!(tally(&[VerdictWord::Pass, VerdictWord::Fail]), 1);
        assert_eq!(tally(&[VerdictWord::Pass, VerdictWord::Xpass]), 1);
        assert_eq!(tally(&[VerdictWord::Fail, VerdictWord::Error]), 3);
        assert_eq!(tally(&[VerdictWord::Skip]), 4);
        assert_eq!(tally(&[]), 4);
    }
}
