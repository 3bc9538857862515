//! Verdicts: what was expected, compared with what was observed.

use std::collections::BTreeSet;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{LevelNumber, Stage, StageKind};
use nestmatrix_stack::{Blame, Evidence, MissingProof, Observation, StageTime, Stop, Symptom};

use super::likeness::{Likeness, compare};
use crate::records::{SkipReason, VerdictWord, in_one_line};
use crate::scenario::{Expectation, KnownFlaky, Since};

/// A cell's verdict. A stack that worked always has its [`Evidence`].
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
    /// The cell is known to be flaky, and this is one of its known results, so nothing follows from it. Inside is the verdict without
    /// that knowledge.
    Flaky(Box<Verdict>),
    /// It was skipped, because these requirements are missing.
    Skip(Vec<SkipReason>),
    /// The harness or its machine is at fault; the verdict says nothing about the matrix.
    Error(Stop),
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
            // Nothing that the document is about was tested.
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

    /// Why it was skipped, or what was seen where the stack stopped. If another stop is documented, the text names that, too.
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

    /// Takes the versions of the stack into account; `has_change` says whether they include a change. A limitation that is known to be
    /// gone with them has come back. A claim that is known to be wrong only since a later change fails for another reason.
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

    /// Takes into account that the cell is `known` to be flaky here. Then nothing follows from a stack that works, stops as expected, or
    /// stops in the known way. Any other stop, and an error, keeps its verdict. The stack went through `stages`.
    #[must_use]
    pub fn or_flaky(self, known: Option<&KnownFlaky>, stages: &[StageTime]) -> Self {
        let Some(known) = known else { return self };
        let is_known = match &self {
            Self::Pass(_) | Self::Xpass(_) | Self::Xfail(_) | Self::KnownFail(_) => true,
            Self::Fail(stop) | Self::CameBack(stop) => {
                matches!(compare(&known.limitation, stop, stages), Likeness::Same)
            }
            // A timeout is an error where a stop is expected, unless the timeout itself is known.
            Self::Error(stop) => {
                stop.blame == Blame::Stack
                    && matches!(compare(&known.limitation, stop, stages), Likeness::Same)
            }
            Self::Flaky(_) | Self::Skip(_) => false,
        };
        if is_known { Self::Flaky(Box::new(self)) } else { self }
    }

    /// Whether its scenario describes this result: a known fail, a limitation that was known before it was gone, or a known result of a
    /// flaky cell.
    pub fn is_as_described(&self) -> bool {
        matches!(self, Self::KnownFail(_) | Self::CameBack(_) | Self::Flaky(_))
    }

    /// The verdict on the stack itself, without what is known about its flakiness.
    pub fn itself(&self) -> &Self {
        match self {
            Self::Flaky(verdict) => verdict,
            verdict => verdict,
        }
    }

    /// How bad it is, compared with others of the same cell.
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

    /// The verdict that follows from several verdicts of one cell in one setting, and the place of the one to describe: the worst, and of
    /// equals the last. If they differ, the cell is flaky. An error or a skip says nothing about the stack: it differs from no verdict,
    /// and counts only if there is nothing else.
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

fn weigh(observation: &Observation, innermost: LevelNumber, profile: &ArchInfo) -> Result<Evidence, Stop> {
    let last = if innermost.reports() { StageKind::Check } else { StageKind::Kvm };
    let stage = Stage::Level(innermost, last);
    let weighed = Evidence::weigh(&observation.measurements, innermost, profile);
    weighed.map_err(|doubt| match doubt {
        MissingProof::Contradicts(symptom) => Stop::stack(stage, *symptom),
        MissingProof::Missing(what) => Stop::stack(stage, Symptom::MissingEvidence { what }).not_its_fault(),
    })
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
