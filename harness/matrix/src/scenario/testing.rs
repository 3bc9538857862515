//! Expectations that tests share.

use nestmatrix_model::Stage;

use super::{Expectation, KnownFlaky, KnownStale, KnownWrong, Limitation, StopStage, SymptomTexts};

pub(crate) fn stage(name: &str) -> Stage {
    name.parse().unwrap()
}

pub(crate) fn limitation() -> Expectation {
    stops(StopStage::At(stage("l1-launch")), Some("svm"))
}

pub(crate) fn stops(stop: StopStage, symptom: Option<&str>) -> Expectation {
    let limitation = Limitation::new(stop, symptom.and_then(|text| SymptomTexts::new([text])));
    Expectation::Stops { limitation, known_stale: None }
}

pub(crate) fn may_stop() -> Expectation {
    let stop = StopStage::From(stage("l1-launch"));
    Expectation::MayStop(Limitation::new(stop, SymptomTexts::new(["svm"])))
}

pub(crate) fn known_stale() -> Expectation {
    let Expectation::Stops { limitation, .. } = limitation() else { unreachable!() };
    let [since, seen, note] = ["Linux 5.8", "2026-11-22", "why"].map(str::to_owned);
    Expectation::Stops { limitation, known_stale: Some(KnownStale { since: since.into(), seen, note }) }
}

/// A stack is expected to work, but the claim is known to be wrong: the stack stops so.
pub(crate) fn known_wrong(symptom: Option<&str>) -> Expectation {
    let symptom = symptom.and_then(|text| SymptomTexts::new([text]));
    let limitation = Limitation::new(StopStage::At(stage("l1-launch")), symptom);
    let [seen, note] = ["2026-11-22", "why"].map(str::to_owned);
    let known = KnownWrong { limitation, since: None, seen, note, reference: None };
    Expectation::Works { known_wrong: Some(Box::new(known)) }
}

pub(crate) fn known_flaky() -> KnownFlaky {
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
