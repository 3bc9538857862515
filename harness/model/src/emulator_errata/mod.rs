//! What the emulators that play bare machines get wrong: an emulator's mistake must not be charged to a document.
//!
//! The list is data (`errata.toml`) with the evidence of each entry, and part of the program: it is about the emulators that the
//! harness chooses, whatever scenarios are run. `docs/emulator-errata.md` shows it, and a test keeps the two alike.

use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::{Architecture, Version};

/// Something that an emulator gets wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Erratum {
    /// Its id, in kebab-case.
    pub id: String,
    /// The program of the emulator.
    pub emulator: String,
    /// The architectures whose stacks it concerns.
    pub architectures: Vec<Architecture>,
    /// The first version that has it, if an earlier one has not.
    pub from: Option<Version>,
    /// The first version that no longer has it, if one is known.
    pub until: Option<Version>,
    /// What the emulator gets wrong: a clause.
    pub wrong: String,
    /// What comes of it: a clause.
    pub effect: String,
    /// What was run, with which versions, and how often it was seen.
    pub evidence: Vec<String>,
    /// Where the cause is explained, if it is known.
    pub source: Option<String>,
    /// What the harness does about it, if anything else than to skip the cells that depend on it.
    pub handled: Option<String>,
    /// By what a stack depends on it, which is then skipped on this emulator.
    pub skips: Option<Dependence>,
    /// By what a stop is known to come of it.
    pub shows: Option<Signature>,
}

/// By what a level that hosts depends on what the emulator gets wrong. Any of it is enough.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dependence {
    /// A parameter of KVM's module that is off.
    pub kvm_parameter: String,
    /// A CPU feature without which that parameter is off.
    pub cpu_feature: String,
    /// QEMU's CPU models that can host and lack that feature.
    pub cpu_models: Vec<String>,
}

/// By what a stop is known to come of an erratum: QEMU stops a guest of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Signature {
    /// Texts, of which QEMU or the kernel around it must have said one.
    pub said: Vec<String>,
    /// The guest was still in the default firmware of its machine.
    pub in_default_firmware: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    erratum: Vec<Erratum>,
}

static ALL: LazyLock<Vec<Erratum>> = LazyLock::new(|| {
    // The file is part of the program, and a test reads it.
    let read = toml::from_str::<File>(include_str!("errata.toml"));
    read.unwrap_or_else(|e| panic!("errata.toml is wrong: {e}")).erratum
});

/// Every erratum that is known.
pub fn all() -> &'static [Erratum] {
    &ALL
}

/// The errata of the emulator `program` that concern stacks of `architecture`. Those of which it is not known whether the emulator
/// still has them are among them only if its `version` is given, as the emulator or its package has it.
pub fn of(
    program: &str,
    architecture: Architecture,
    version: Option<&str>,
) -> impl Iterator<Item = &'static Erratum> {
    let version = version.map(str::to_owned);
    let program = program.to_owned();
    all().iter().filter(move |erratum| {
        erratum.emulator == program
            && erratum.architectures.contains(&architecture)
            && erratum.affects(version.as_deref())
    })
}

impl Erratum {
    /// Whether the emulator has it in this version. Of a version that is not known, it is assumed unless a version without it is
    /// known: the harness uses current emulators.
    fn affects(&self, version: Option<&str>) -> bool {
        let version = version.map(|text| text.split_once(':').map_or(text, |(_epoch, version)| version));
        match version.and_then(Version::at_start_of) {
            None => self.until.is_none(),
            Some(version) => {
                self.from.is_none_or(|from| version >= from) && self.until.is_none_or(|until| version < until)
            }
        }
    }

    /// The versions that have it, for people: `9.1 and later`.
    pub fn versions(&self) -> String {
        match (self.from, self.until) {
            (None, None) => "all that are known".to_owned(),
            (Some(from), None) => format!("{from} and later"),
            (None, Some(until)) => format!("before {until}"),
            (Some(from), Some(until)) => format!("from {from} to before {until}"),
        }
    }
}

/// In a sentence: what is wrong, and how it is called.
impl fmt::Display for Erratum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (emulator erratum {})", self.wrong, self.id)
    }
}

/// The list as Markdown, which is a part of `docs/emulator-errata.md`.
pub fn markdown() -> String {
    let mut text = String::new();
    for erratum in all() {
        // Writing to a String can't fail.
        let _ = write!(text, "### {}\n{} ({}; ", erratum.id, erratum.emulator, erratum.versions());
        let architectures: Vec<String> = erratum.architectures.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "stacks of {}). {}. {}.\n",
            architectures.join(", "),
            capital(&erratum.wrong),
            capital(&erratum.effect)
        );
        for evidence in &erratum.evidence {
            let _ = writeln!(text, "- Seen: {evidence}.");
        }
        if let Some(source) = &erratum.source {
            let _ = writeln!(text, "- Cause: {source}.");
        }
        if let Some(Dependence { kvm_parameter, cpu_feature, cpu_models }) = &erratum.skips {
            let _ = writeln!(
                text,
                "- Skipped: cells in which a level hosts with `{kvm_parameter}=0`, without the CPU feature `{cpu_feature}`, or with a \
                 CPU model that does not have it ({}).",
                cpu_models.join(", ")
            );
        }
        if let Some(Signature { said, .. }) = &erratum.shows {
            let _ = writeln!(
                text,
                "- An `error` that names it: QEMU stops a guest of a guest in its default firmware and says `{}`.",
                said.join("` or `")
            );
        }
        if let Some(handled) = &erratum.handled {
            let _ = writeln!(text, "- Handled: {handled}.");
        }
        text.push('\n');
    }
    text
}

fn capital(clause: &str) -> String {
    let mut characters = clause.chars();
    characters.next().map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Word as _;
    use crate::architecture::ArchInfo;
    use rstest::rstest;
    use std::collections::BTreeSet;

    #[test]
    fn every_erratum_has_an_id_of_its_own_evidence_and_something_that_is_done_about_it() {
        let ids: BTreeSet<&str> = all().iter().map(|erratum| erratum.id.as_str()).collect();
        assert_eq!(ids.len(), all().len());
        for erratum in all() {
            assert!(!erratum.evidence.is_empty() && !erratum.architectures.is_empty(), "{}", erratum.id);
            assert!(erratum.from.is_none() || erratum.until.is_none() || erratum.from < erratum.until);
            for text in [&erratum.wrong, &erratum.effect].into_iter().chain(&erratum.evidence) {
                assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", erratum.id);
            }
        }
    }

    #[test]
    fn every_erratum_is_of_an_emulator_that_the_harness_uses() {
        let used: BTreeSet<&str> = Architecture::ALL
            .iter()
            .map(|architecture| ArchInfo::of(*architecture))
            .flat_map(|profile| [profile.qemu, profile.metal.program(profile.qemu)])
            .collect();
        for erratum in all() {
            assert!(used.contains(erratum.emulator.as_str()), "{}: {}", erratum.id, erratum.emulator);
        }
    }

    #[rstest]
    #[case::before("8.2.2", false)]
    #[case::the_first("9.1.0", true)]
    #[case::of_a_package("1:10.0.13+ds-0+deb13u1", true)]
    fn an_erratum_is_one_of_the_versions_that_have_it(#[case] version: &str, #[case] affected: bool) {
        let mut errata = of("qemu-system-x86_64", Architecture::Amd, Some(version));
        assert_eq!(errata.any(|erratum| erratum.id == "tcg-cr-read-intercept"), affected);
    }

    #[test]
    fn of_an_unknown_version_only_errata_that_are_not_known_to_be_gone_are_assumed() {
        let ids = |version| {
            let errata = of("qemu-system-ppc64", Architecture::Power9, version);
            errata.map(|erratum| erratum.id.as_str()).collect::<Vec<_>>()
        };
        assert!(!ids(None).contains(&"powernv-nested-oops") && ids(None).contains(&"powernv-snapshot"));
        assert!(ids(Some("7.2.1")).contains(&"powernv-nested-oops"));
        assert!(!ids(Some("10.0.2")).contains(&"powernv-nested-oops"));
    }

    #[test]
    fn the_documentation_has_every_erratum_as_the_data_has_it() {
        let page = include_str!("../../../../docs/emulator-errata.md");
        let (_, list) = page.split_once("## The list\n").expect("the page has the list");
        let wrapped = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            wrapped(list),
            wrapped(&markdown()),
            "docs/emulator-errata.md must end with this list:\n{}",
            markdown()
        );
    }
}
