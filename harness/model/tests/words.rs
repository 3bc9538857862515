//! Each word of the vocabulary reads back as it is printed, and stages are in the order of a run.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use nestmatrix_model::{
    Accelerator, Architecture, FaultAction, Fidelity, Isa, LevelNumber, Stage, UnknownWord, Version,
    Word as _,
};
use rstest::rstest;

fn reads_back<T: Display + Debug + PartialEq + FromStr<Err: Debug>>(values: &[T]) {
    for value in values {
        assert_eq!(&value.to_string().parse::<T>().unwrap(), value);
    }
}

#[test]
fn every_word_reads_back() {
    reads_back(Architecture::ALL);
    reads_back(Isa::ALL);
    reads_back(Accelerator::ALL);
    reads_back(FaultAction::ALL);
    reads_back(Fidelity::ALL);
}

#[test]
fn the_nearest_fidelity_comes_first_and_only_the_product_has_no_mark() {
    assert!(Fidelity::ALL.is_sorted());
    assert_eq!(Fidelity::ALL.iter().map(|fidelity| fidelity.mark()).collect::<Vec<_>>(), ["", "~", "*"]);
    let json = serde_json::to_string(Fidelity::ALL).unwrap();
    assert_eq!(json, r#"["product","rebuild","stand-in"]"#);
    assert_eq!(serde_json::from_str::<Vec<Fidelity>>(&json).unwrap(), Fidelity::ALL);
}

#[test]
fn the_stages_of_a_stack_are_in_the_order_of_a_run() {
    let [_, l1, l2, l3] = LevelNumber::ALL;
    let words =
        |innermost| Stage::of_stack(innermost).iter().map(Stage::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(words(l1), "provision l0-launch l0-boot l0-kvm l1-launch l1-boot l1-check");
    assert_eq!(
        words(l2),
        "provision l0-launch l0-boot l0-kvm l1-launch l1-boot l1-kvm l2-launch l2-boot l2-check"
    );
    assert!(words(l3).ends_with("l2-launch l2-boot l2-kvm l3-launch l3-boot l3-check"));
    for stages in [l1, l2, l3].map(Stage::of_stack) {
        assert!(stages.is_sorted());
        reads_back(&stages);
    }
}

#[rstest]
fn a_stage_that_no_stack_has_is_refused(
    #[values("l0-check", "l3-kvm", "l4-boot", "L1-boot", "")] text: &str,
) {
    assert!(matches!(text.parse::<Stage>(), Err(UnknownWord { what: "stage", .. })));
}

#[test]
fn levels_know_their_neighbours() {
    let [l0, l1, l2, l3] = LevelNumber::ALL;
    assert_eq!((l0.below(), l0.next(), l3.next(), l2.below()), (None, Some(l1), None, Some(l1)));
    assert_eq!((LevelNumber::new(3), LevelNumber::new(4), l2.to_string().as_str()), (Some(l3), None, "L2"));
}

#[rstest]
fn a_version_is_plain_digits(
    #[values("", "9.", ".2", "9.2.1", "9.02", "+9", "9.x", "4294967296")] text: &str,
) {
    assert!(text.parse::<Version>().is_err());
}
