//! Errata of the emulators of bare machines: an emulator's mistake must not be blamed on a document.
//!
//! The list is data (`errata.toml`) with evidence for each entry. It is part of the program because the harness chooses the
//! emulators, for all scenarios. `docs/emulator-errata.md` shows it, and a test compares the two.

use std::fmt::{self, Write as _};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::{Architecture, SuiteKind, Version};

/// A mistake of an emulator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Erratum {
    /// Its id, in kebab-case.
    pub id: String,
    /// The program of the emulator.
    pub emulator: String,
    /// The architectures whose stacks it affects.
    pub architectures: Vec<Architecture>,
    /// The first version that has it, if earlier ones do not.
    pub from: Option<Version>,
    /// The first version that no longer has it, if one is known.
    pub until: Option<Version>,
    /// What the emulator gets wrong: a clause.
    pub wrong: String,
    /// Its effect: a clause.
    pub effect: String,
    /// What was run with which versions, and how often it was seen.
    pub evidence: Vec<String>,
    /// Where its cause is explained, if it is known.
    pub source: Option<String>,
    /// What the harness does about it, besides skipping the cells that depend on it.
    pub handled: Option<String>,
    /// What makes a stack depend on it. Such a stack is skipped on this emulator.
    pub skips: Option<Dependence>,
    /// How a stop is recognized as its effect.
    pub shows: Option<Signature>,
    /// The test cases that fail because of it.
    #[serde(default)]
    pub fails: Vec<FailingCases>,
}

/// Cases of a test suite that an erratum lets fail.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FailingCases {
    /// The suite.
    pub suite: SuiteKind,
    /// The names of the cases; `*` matches any text.
    pub cases: Vec<String>,
    /// Whether they fail only if the suite runs on the emulator itself, without KVM.
    #[serde(default)]
    pub without_kvm: bool,
}

/// What makes a level that hosts depend on an erratum. Any of these is enough.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dependence {
    /// A parameter of KVM's module that is off.
    pub kvm_parameter: String,
    /// A CPU feature without which that parameter is off.
    pub cpu_feature: String,
    /// QEMU's CPU models that can host and do not have that feature.
    pub cpu_models: Vec<String>,
}

/// How a stop is recognized as an effect of an erratum. One of `said`, `reset_on_first_cpu` and `emulator_said` is set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Signature {
    /// QEMU stops a guest of a guest. It, or the kernel around it, must have printed one of these messages.
    #[serde(default)]
    pub said: Vec<String>,
    /// Whether that guest must still have been in its machine's default firmware.
    #[serde(default)]
    pub in_default_firmware: bool,
    /// A guest of KVM, or L0 while it runs one, resets itself without a word of its kernel, and L0 has several CPUs of which the first
    /// may run guests.
    #[serde(default)]
    pub reset_on_first_cpu: bool,
    /// The emulator itself ends, and its output has one of these messages.
    #[serde(default)]
    pub emulator_said: Vec<String>,
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

/// All known errata.
pub fn all() -> &'static [Erratum] {
    &ALL
}

/// The errata of the emulator `program` that affect stacks of `architecture`. `version` is that of the emulator or of its package.
/// Without it, errata that a known version fixes are left out.
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
    /// Whether this version has it. An unknown version has it unless some version is known to fix it, since the harness uses
    /// current emulators.
    fn affects(&self, version: Option<&str>) -> bool {
        let version = version.map(|text| text.split_once(':').map_or(text, |(_epoch, version)| version));
        match version.and_then(Version::at_start_of) {
            None => self.until.is_none(),
            Some(version) => {
                self.from.is_none_or(|from| version >= from) && self.until.is_none_or(|until| version < until)
            }
        }
    }

    /// The versions that have it, as text: `9.1 and later`.
    pub fn versions(&self) -> String {
        match (self.from, self.until) {
            (None, None) => "all that are known".to_owned(),
            (Some(from), None) => format!("{from} and later"),
            (None, Some(until)) => format!("before {until}"),
            (Some(from), Some(until)) => format!("from {from} to before {until}"),
        }
    }
}

/// What is wrong, with its id.
impl fmt::Display for Erratum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (emulator erratum {})", self.wrong, self.id)
    }
}

/// The list as Markdown, which is part of `docs/emulator-errata.md`.
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
        if let Some(Signature { reset_on_first_cpu: true, .. }) = &erratum.shows {
            text.push_str(
                "- An `error` that names it: a guest of KVM, or L0 while it runs one, resets itself, its kernel says nothing, and L0 has \
                 several CPUs of which the first may run guests.\n",
            );
        } else if let Some(Signature { emulator_said, .. }) = &erratum.shows
            && !emulator_said.is_empty()
        {
            let _ = writeln!(
                text,
                "- An `error` that names it: the emulator ends and says `{}`.",
                emulator_said.join("` or `")
            );
        } else if let Some(Signature { said, .. }) = &erratum.shows {
            let _ = writeln!(
                text,
                "- An `error` that names it: QEMU stops a guest of a guest in its default firmware and says `{}`.",
                said.join("` or `")
            );
        }
        for FailingCases { suite, cases, without_kvm } in &erratum.fails {
            let where_ = if *without_kvm { ", without KVM" } else { "" };
            let _ = writeln!(text, "- Fails in {suite}{where_}: `{}`.", cases.join("`, `"));
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
