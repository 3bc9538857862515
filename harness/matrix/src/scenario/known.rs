//! What is known about an expectation that does not hold: a limitation that is gone, or a claim that is wrong.

use std::fmt;

use nestmatrix_model::{Stage, Version};
use serde::{Deserialize, Serialize};
use toml::value::Datetime;

use super::expectation::Limitation;
use super::input::Table;
use super::problem::ScenarioProblem;

/// The versions that brought a change: `Linux 5.8`, `QEMU 5.1`, or `Linux 5.8 and QEMU 5.1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct Since {
    text: String,
    linux: Option<Version>,
    qemu: Option<Version>,
}

impl Since {
    /// Whether software of these versions has the change: every kernel and every QEMU that the change is part of. A component of unknown
    /// version may be older, so it does not count as having it.
    pub fn includes<'a>(
        &self,
        kernels: impl IntoIterator<Item = Option<&'a str>>,
        qemus: impl IntoIterator<Item = Option<&'a str>>,
    ) -> bool {
        let known = self.linux.is_some() || self.qemu.is_some();
        known && reached(self.linux, kernels) && reached(self.qemu, qemus)
    }

    /// Whether software has exactly these versions: every kernel and every QEMU, as far as they are named.
    pub fn are<'a>(
        &self,
        kernels: impl IntoIterator<Item = Option<&'a str>>,
        qemus: impl IntoIterator<Item = Option<&'a str>>,
    ) -> bool {
        let known = self.linux.is_some() || self.qemu.is_some();
        known && all_are(self.linux, kernels) && all_are(self.qemu, qemus)
    }

    pub(super) fn parse(text: &str) -> Result<Self, ScenarioProblem> {
        let bad = || ScenarioProblem::BadSince { given: text.to_owned() };
        let mut since = Self { text: text.trim().to_owned(), linux: None, qemu: None };
        for part in text.split(" and ") {
            let (program, version) = part.trim().split_once(' ').ok_or_else(bad)?;
            let of = match program {
                "Linux" => &mut since.linux,
                "QEMU" => &mut since.qemu,
                _ => return Err(bad()),
            };
            if of.replace(version.parse().map_err(|_| bad())?).is_some() {
                return Err(bad());
            }
        }
        Ok(since)
    }
}

fn reached<'a>(first: Option<Version>, versions: impl IntoIterator<Item = Option<&'a str>>) -> bool {
    let Some(first) = first else { return true };
    versions
        .into_iter()
        .all(|text| text.and_then(Version::at_start_of).is_some_and(|version| version >= first))
}

fn all_are<'a>(wanted: Option<Version>, versions: impl IntoIterator<Item = Option<&'a str>>) -> bool {
    let Some(wanted) = wanted else { return true };
    let is_it = |version: Version| {
        version.major == wanted.major && wanted.minor.is_none_or(|minor| version.minor == Some(minor))
    };
    versions.into_iter().all(|text| text.and_then(Version::at_start_of).is_some_and(is_it))
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Since> for String {
    fn from(since: Since) -> Self {
        since.text
    }
}

/// Records of earlier versions may have any text here. It then names no version.
impl From<String> for Since {
    fn from(text: String) -> Self {
        Self::parse(&text).unwrap_or(Self { text, linux: None, qemu: None })
    }
}

/// A limitation that was observed to be gone: its document is known to be out of date, and an xpass is expected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnownStale {
    /// The versions that brought the change.
    pub since: Since,
    /// The day on which it was seen gone, as `YEAR-MONTH-DAY`.
    pub seen: String,
    /// What is known about it, for people.
    pub note: String,
}

/// A claim that was observed to be wrong: its document is known to promise too much, and a fail of this kind is expected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnownWrong {
    /// The stop that was seen. Any other stop is news.
    #[serde(flatten)]
    pub limitation: Limitation,
    /// The versions that made it wrong, unless it was never right.
    pub since: Option<Since>,
    /// The day on which it was seen wrong, as `YEAR-MONTH-DAY`.
    pub seen: String,
    /// What is known about it, for people.
    pub note: String,
    /// Where it is explained or reported, for people.
    pub reference: Option<String>,
}

impl KnownStale {
    pub(super) const KEYS: &'static [&'static str] = &["since", "seen", "note"];

    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        let since = table.string("since").and_then(|text| text.parse(Since::parse));
        let seen = table.string("seen").and_then(|text| text.parse(date));
        let note = table.prose("note");
        Some(Self { since: since?, seen: seen?, note: note? })
    }
}

impl KnownWrong {
    pub(super) const KEYS: &'static [&'static str] = &[
        "stage",
        "from",
        "symptom",
        "symptom-kind",
        "control",
        "no-symptom",
        "since",
        "seen",
        "note",
        "reference",
    ];

    pub(super) fn read(table: &Table<'_>, stages: &[Stage]) -> Option<Self> {
        let since = table.optional_string("since").and_then(|text| text.parse(Since::parse));
        let seen = table.string("seen").and_then(|text| text.parse(date));
        let note = table.prose("note");
        let reference = table.optional_prose("reference");
        let limitation = Limitation::read(table, stages)?;
        Some(Self { limitation, since, seen: seen?, note: note?, reference })
    }
}

impl fmt::Display for KnownStale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since, seen, note } = self;
        write!(f, "known stale since {since}, seen {seen}: {note}")
    }
}

impl fmt::Display for KnownWrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limitation, since, seen, note, reference } = self;
        f.write_str("known wrong")?;
        since.as_ref().map_or(Ok(()), |since| write!(f, " since {since}"))?;
        write!(f, ", stops {limitation}, seen {seen}: {note}")?;
        reference.as_ref().map_or(Ok(()), |reference| write!(f, " ({reference})"))
    }
}

/// A day of the calendar, without a time.
pub(super) fn date(text: &str) -> Result<String, ScenarioProblem> {
    match text.parse() {
        Ok(Datetime { date: Some(_), time: None, offset: None }) => Ok(text.to_owned()),
        _ => Err(ScenarioProblem::BadDate { given: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::Since;

    const NEW: (&[Option<&str>], &[Option<&str>]) =
        (&[Some("6.12.107+deb13-cloud-amd64"), Some("5.10.0-35")], &[Some("10.0.2 (Debian 1:10.0.2)")]);

    #[rstest]
    #[case::older("Linux 5.8 and QEMU 5.1", true)]
    #[case::the_very_ones("Linux 5.10 and QEMU 10.0", true)]
    #[case::major_alone("QEMU 10", true)]
    #[case::one_kernel_is_older("Linux 5.11", false)]
    #[case::the_qemu_is_older("Linux 5.8 and QEMU 10.1", false)]
    #[case::no_version("the oldest that were tried", false)]
    fn software_has_a_change_if_none_of_it_is_older(#[case] since: &str, #[case] expected: bool) {
        let since = Since::from(since.to_owned());
        assert_eq!(since.includes(NEW.0.iter().copied(), NEW.1.iter().copied()), expected);
    }

    #[rstest]
    #[case::one_kernel_is_another("Linux 6.12", false)]
    #[case::the_qemu("QEMU 10.0", true)]
    #[case::major_alone("QEMU 10", true)]
    #[case::another_minor("QEMU 10.1", false)]
    #[case::no_version("the oldest that were tried", false)]
    fn software_is_of_a_version_if_all_of_it_is(#[case] versions: &str, #[case] expected: bool) {
        let versions = Since::from(versions.to_owned());
        assert_eq!(versions.are(NEW.0.iter().copied(), NEW.1.iter().copied()), expected);
    }

    #[rstest]
    #[case("Linux 5.8", &[None], &[], false)]
    #[case("Linux 5.8", &[Some("rolling")], &[], false)]
    // QEMU is no part of the change.
    #[case("Linux 5.8", &[Some("6.1.0")], &[None], true)]
    fn what_is_not_known_may_be_older(
        #[case] since: &str,
        #[case] kernels: &[Option<&str>],
        #[case] qemus: &[Option<&str>],
        #[case] expected: bool,
    ) {
        let since = Since::from(since.to_owned());
        assert_eq!(since.includes(kernels.iter().copied(), qemus.iter().copied()), expected);
    }

    #[rstest]
    fn what_names_no_version_is_refused(
        #[values(
            "",
            "5.8",
            "Linux",
            "Linux five",
            "linux 5.8",
            "Linux 5.8, QEMU 5.1",
            "Linux 5.8 and Linux 6.1"
        )]
        text: &str,
    ) {
        assert!(Since::parse(text).is_err());
        assert_eq!(Since::from(text.to_owned()).to_string(), text, "a record of old is told as it is");
    }
}
