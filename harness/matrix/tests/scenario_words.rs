//! The words of scenarios: expectations, filters and names. Each is read back as it is printed.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

use nestmatrix::scenario::{
    CellName, Expectation, Filter, KnownStale, KnownWrong, Limitation, Since, StopStage, SymptomTexts, Tier,
};
use nestmatrix_model::Stage;
use rstest::rstest;

#[test]
fn every_tier_reads_back() {
    for tier in [Tier::Supported, Tier::TechnologyPreview, Tier::Unsupported, Tier::Untested] {
        assert_eq!(tier.to_string().parse::<Tier>().unwrap(), tier);
    }
}

fn limitation(stop: fn(Stage) -> StopStage, symptom: Option<&str>) -> Limitation {
    Limitation::new(stop("l1-launch".parse().unwrap()), symptom.and_then(|text| SymptomTexts::new([text])))
}

fn stops(stop: fn(Stage) -> StopStage, symptom: Option<&str>) -> Expectation {
    Expectation::Stops { limitation: limitation(stop, symptom), known_stale: None }
}

fn known_stale() -> Expectation {
    let [since, seen, note] = ["Linux 5.8", "2026-11-22", "Nesting works."].map(str::to_owned);
    let known_stale = Some(KnownStale { since: since.into(), seen, note });
    Expectation::Stops { limitation: limitation(StopStage::At, None), known_stale }
}

fn known_wrong() -> Expectation {
    let [seen, note] = ["2026-11-22", "Nesting fails."].map(str::to_owned);
    let since = Some(Since::from("Linux 5.8".to_owned()));
    let limitation = limitation(StopStage::At, Some("svm"));
    let known = KnownWrong { limitation, since, seen, note, reference: None };
    Expectation::Works { known_wrong: Some(Box::new(known)) }
}

#[rstest]
#[case(Expectation::WORKS, "works", r#"{"outcome":"works"}"#)]
#[case(
    stops(StopStage::At, Some("svm")),
    "stops at l1-launch (svm)",
    r#"{"outcome":"stops","stage":"l1-launch","symptom":"svm","known_stale":null}"#
)]
#[case(
    stops(StopStage::From, None),
    "stops at l1-launch or later",
    r#"{"outcome":"stops","from":"l1-launch","symptom":null,"known_stale":null}"#
)]
#[case(
    known_stale(),
    "stops at l1-launch",
    r#"{"outcome":"stops","stage":"l1-launch","symptom":null,"known_stale":{"since":"Linux 5.8","seen":"2026-11-22","note":"Nesting works."}}"#
)]
#[case(
    Expectation::MayStop(limitation(StopStage::From, Some("svm"))),
    "may stop at l1-launch or later (svm)",
    r#"{"outcome":"may-stop","from":"l1-launch","symptom":"svm"}"#
)]
#[case(
    Expectation::MayStop(Limitation {
        symptom: SymptomTexts::new(["no svm", "no SVM"]),
        ..limitation(StopStage::From, None)
    }),
    "may stop at l1-launch or later (no svm or no SVM)",
    r#"{"outcome":"may-stop","from":"l1-launch","symptom":["no svm","no SVM"]}"#
)]
#[case(
    known_wrong(),
    "works",
    r#"{"outcome":"works","known_wrong":{"stage":"l1-launch","symptom":"svm","since":"Linux 5.8","seen":"2026-11-22","note":"Nesting fails.","reference":null}}"#
)]
fn an_expectation_reads_as_a_sentence_and_survives_json(
    #[case] expectation: Expectation,
    #[case] sentence: &str,
    #[case] json: &str,
) {
    assert_eq!(expectation.to_string(), sentence);
    assert_eq!(serde_json::to_string(&expectation).unwrap(), json);
    assert_eq!(serde_json::from_str::<Expectation>(json).unwrap(), expectation);
}

#[rstest]
fn a_symptom_that_any_stop_would_have_is_none(
    #[values("\"\"", "[]", "[\"svm\", \" \"]", "7")] symptom: &str,
) {
    let json = format!(r#"{{"outcome":"stops","stage":"l1-launch","symptom":{symptom},"known_stale":null}}"#);
    assert!(serde_json::from_str::<Expectation>(&json).is_err());
}

#[test]
fn what_is_known_of_a_stale_limitation_reads_as_a_sentence() {
    let known_stale = known_stale();
    let text = known_stale.known_stale().unwrap().to_string();
    assert_eq!(text, "known stale since Linux 5.8, seen 2026-11-22: Nesting works.");
}

#[test]
fn what_is_known_of_a_wrong_claim_reads_as_a_sentence() {
    let mut known = known_wrong().known_wrong().unwrap().clone();
    let sentence = "known wrong since Linux 5.8, stops at l1-launch (svm), seen 2026-11-22: Nesting fails.";
    assert_eq!(known.to_string(), sentence);
    (known.since, known.reference) = (None, Some("RHEL-1".into()));
    let sentence = "known wrong, stops at l1-launch (svm), seen 2026-11-22: Nesting fails. (RHEL-1)";
    assert_eq!(known.to_string(), sentence);
}

#[test]
fn an_expectation_of_an_old_record_is_told_as_it_is() {
    let json = r#"{"outcome":"stops","from":"l1-launch","symptom":null,"known_stale":{"since":"Linux 5.10, the oldest","seen":"2026-11-22","note":"n"}}"#;
    let old: Expectation = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&old).unwrap(), json);
    assert!(!old.known_stale().unwrap().since.includes([Some("6.12")], []), "no version can be compared");
}

#[rstest]
#[case::nothing_given(&[], true)]
#[case::a_star_crosses_levels(&["rhel-10-preview/*"], true)]
#[case::an_inner_level(&["*/rhel-9.6+"], true)]
#[case::any_of_several(&["no-such/*", "*/amd/*"], true)]
#[case::a_part_is_not_enough(&["rhel-10-preview"], false)]
#[case::another_architecture(&["*/intel/*"], false)]
fn a_filter_is_a_glob_over_the_whole_name(#[case] globs: &[&str], #[case] matches: bool) {
    let name: CellName = "rhel-10-preview/amd/rhel-10.0+/rhel-9.6+/rhel-9.6+".parse().unwrap();
    let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
    assert_eq!(Filter::parse(&globs).unwrap().matches(&name), matches);
}

#[rstest]
fn a_name_that_leads_out_of_the_folder_is_no_cell_name(
    #[values(
        "",
        "a/amd",
        "a/amd/b/c/d/e/f",
        "a/amd/../c/d",
        "/a/amd/b/c/d",
        "a/amd/b/c/d/",
        "a//b/c/d",
        "a/amd/b/.c/d",
        "A/amd/b/c/d"
    )]
    name: &str,
) {
    assert!(name.parse::<CellName>().is_err());
    assert!(serde_json::from_value::<CellName>(name.into()).is_err());
}
