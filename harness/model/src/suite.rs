//! Test suites of the user that run in a level, and the results of their cases.

use serde::{Deserialize, Serialize};

use crate::word::Word;
use crate::word_traits;

/// A part of a test suite that a step runs in a level.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Suite {
    /// The suite.
    #[serde(rename = "suite")]
    pub kind: SuiteKind,
    /// Names of its tests or of groups of them; `*` matches any text.
    pub tests: Vec<String>,
    /// What each test gets after its own arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append: Option<String>,
    /// The memory of each test's machine, in MiB, if it is not the suite's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// The cases that are known to fail.
    #[serde(default, rename = "known-failure", skip_serializing_if = "Vec::is_empty")]
    pub known_failures: Vec<KnownFailure>,
}

/// A program of the user that a step runs in a level.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Payload {
    /// Its name in `payloads add`.
    #[serde(rename = "payload")]
    pub name: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// The cases that are known to fail.
    #[serde(default, rename = "known-failure", skip_serializing_if = "Vec::is_empty")]
    pub known_failures: Vec<KnownFailure>,
}

/// A case that is known to fail.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct KnownFailure {
    /// Its name; `*` matches any text.
    pub case: String,
    /// Where the failure is described.
    pub reference: String,
    /// The id of the emulator's erratum that causes it. Then it counts only on emulated metal that has the erratum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erratum: Option<String>,
}

/// A test suite that can run in a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SuiteKind {
    /// kvm-unit-tests for x86: flat binaries, each of which is a guest.
    KvmUnitTests,
    /// The selftests of the kernel's KVM: programs that run in the level.
    KvmSelftests,
}

impl Word for SuiteKind {
    const WHAT: &'static str = "test suite";
    const ALL: &'static [Self] = &[Self::KvmUnitTests, Self::KvmSelftests];

    fn word(self) -> &'static str {
        match self {
            Self::KvmUnitTests => "kvm-unit-tests",
            Self::KvmSelftests => "kvm-selftests",
        }
    }
}
word_traits!(SuiteKind);

/// The result of a test case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CaseOutcome {
    /// It passed.
    Pass,
    /// It failed.
    Fail,
    /// It did not run.
    Skip,
    /// It failed, which is known.
    KnownFail,
    /// It came to no result.
    Error,
}

impl Word for CaseOutcome {
    const WHAT: &'static str = "outcome of a test case";
    const ALL: &'static [Self] = &[Self::Pass, Self::Fail, Self::Skip, Self::KnownFail, Self::Error];

    fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::KnownFail => "known-fail",
            Self::Error => "error",
        }
    }
}
word_traits!(CaseOutcome);

impl CaseOutcome {
    /// Its place from a test that did not run to one that came to no result: of several outcomes, the last one counts.
    pub fn rank(self) -> u8 {
        match self {
            Self::Skip => 0,
            Self::Pass => 1,
            Self::KnownFail => 2,
            Self::Fail => 3,
            Self::Error => 4,
        }
    }

    /// Whether it is neither a success nor a failure that is known.
    pub fn is_unexpected(self) -> bool {
        matches!(self, Self::Fail | Self::Error)
    }
}

/// Whether `text` matches `pattern`, in which `*` matches any text.
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(place) = left.find(part) else { return false };
        left = &left[place + part.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("svm", "svm", true)]
    #[case("svm", "svm_npt", false)]
    #[case("vmexit_*", "vmexit_cpuid", true)]
    #[case("*", "", true)]
    #[case("a*b*c", "a-b-b-c", true)]
    #[case("a*b*c", "a-c-b", false)]
    #[case("ab*ba", "aba", false)]
    #[case("svm: *é", "svm: é", true)]
    fn a_star_matches_any_text(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(matches_pattern(pattern, text), expected);
    }

    #[test]
    fn a_suite_has_the_words_of_a_scenario() {
        let text = r#"{"suite": "kvm-unit-tests", "tests": ["svm"], "known-failure": [{"case": "svm: x", "reference": "y"}]}"#;
        let suite: Suite = serde_json::from_str(text).unwrap();
        assert_eq!((suite.kind, suite.known_failures.len()), (SuiteKind::KvmUnitTests, 1));
        assert_eq!(serde_json::from_str::<Suite>(&serde_json::to_string(&suite).unwrap()).unwrap(), suite);
    }
}
