//! What the reader can do about each problem of their input.

use super::nearest::{did_you_mean, known_words, list};
use super::problem::InputProblem;

impl InputProblem {
    /// What would be right, or what the reader can do.
    pub fn help(&self) -> String {
        match self {
            Self::Unreadable(_) => "check that it is there and that you may read it".into(),
            Self::NotAFile => "remove it, or give it a name that does not end in .toml".into(),
            Self::TooLarge { .. } => {
                "files here are a few kilobytes of hand-written TOML: check what this one holds".into()
            }
            Self::NotUtf8 => "save the file as UTF-8".into(),
            Self::Syntax(_) => "docs/scenarios.md has an example of each kind of file".into(),
            Self::NoScenarios => {
                "scenarios are TOML files in a folder for their product line, such as PRODUCT/SCENARIO.toml".into()
            }
            Self::Misplaced => {
                "documents are in documents/, scenarios in a folder for their product line, and beside those folders \
                 are systems.toml, contradictions.toml and profiles.toml alone"
                    .into()
            }
            Self::UnknownKey { key, known } => {
                format!("{}the keys here are {}", did_you_mean(key, known), list(known))
            }
            Self::MissingKey { key } => format!("add `{key} = ...`; docs/scenarios.md says what it means"),
            Self::NeedlessKey { key, wants } => format!("remove `{key}`, or write `{wants}`"),
            Self::NeitherKey { keys: [one, other] } => {
                format!("add `{one} = ...` or `{other} = ...`; docs/scenarios.md says what they mean")
            }
            Self::NoSymptom => {
                "add `symptom = \"...\"` with words of the kernel's or QEMU's message, `symptom-kind = \"...\"`, or `no-symptom = \"...\"` with the reason \
                 why none can be named"
                    .into()
            }
            Self::TimeoutWithoutControl => {
                "write both `symptom-kind = \"timeout\"` and `control = \"SCENARIO\"`, the scenario whose stacks differ in nothing \
                 but the limitation and work; or neither"
                    .into()
            }
            Self::NotFlaky { .. } => "`stopped` is less than `of`; write what always comes into `[expect]`".into(),
            Self::NoControl { .. } => {
                "name a scenario of the same architectures that is expected or known to work".into()
            }
            Self::BothKeys { keys: [one, other] } => {
                format!("remove `{one}` or `{other}`; docs/scenarios.md says what they mean")
            }
            Self::WrongType { key, wanted, .. } => format!("`{key}` takes {wanted}"),
            Self::OutOfRange { min, max, .. } => format!("it takes a whole number from {min} to {max}"),
            Self::Empty { key } => format!("give `{key}` a value, or remove it if it is optional"),
            Self::TooLong { limit, .. } => format!("the limit is {limit}: split the file"),
            Self::UnknownWord { what, known, .. } if known.is_empty() => format!("there is no {what} at all yet"),
            Self::UnknownWord { given, known, .. } => known_words(given, known),
            Self::NoClaim { .. } => {
                "give the scenario `claims = [...]`, or write the value as `{ system = \"...\", claims = [...] }`".into()
            }
            Self::Untestable { .. } => "leave it out here, or take `untestable` out of its document".into(),
            Self::BadName { rule, .. } => format!("it is made of: {rule}"),
            Self::BadVersion { .. } => "a version is MAJOR or MAJOR.MINOR, in digits".into(),
            Self::BadSince { .. } => "write `Linux 5.8`, `QEMU 5.1` or `Linux 5.8 and QEMU 5.1`; the rest goes into the note".into(),
            Self::BadDate { .. } => "a date is YEAR-MONTH-DAY of the calendar, such as `2026-01-31`".into(),
            Self::BadRequirement { known, .. } => {
                format!("write `SYSTEM VERSION`, with `and later` and `with ROLE` after it where the document has them, or `SYSTEM` alone if it has no versions; the systems are {}", list(known))
            }
            Self::NoVersions { .. } => {
                "take the version away, or `versions = \"none\"` or `hypervisor` out of its system".into()
            }
            Self::EmulatorWithRole { system } => format!("write `{system}` alone"),
            Self::EmulatorInside { .. } => {
                "put it on the axis `l0`; for emulation further in, set the level's `accelerator`".into()
            }
            Self::StepInEmulator { .. } => {
                "give L0 another system in a scenario of its own, or run the step in another level".into()
            }
            Self::PointOutside { .. } => {
                "`try` names some of the versions that the value asks for, with a minor number where the value has one".into()
            }
            Self::BadStandIn { .. } => {
                "write `SYSTEM MAJOR`: a stand-in serves every version of that major version".into()
            }
            Self::WrongFileName { id, .. } => format!("name the file {id}.toml, or change the id"),
            Self::Duplicate { first, .. } => format!("the first is at {first}: rename or remove one"),
            Self::DuplicateCell { .. } => "remove one: the cells of both would have the same names".into(),
            Self::TooManyCells { limit, .. } => format!("the limit is {limit}: split the scenario"),
            Self::FaultTooEarly { started, .. } => format!("use `{started}` or a later stage"),
            Self::NoSecondMachine { .. } => {
                "a step has to boot another one before, or to migrate the level".into()
            }
            Self::NotOnSecondMachine { .. } => "leave out `second`: it goes with `kill-qemu` alone".into(),
            Self::AcceptsAllMutants => {
                "only a scenario with `outcome = \"may-stop\"` can; elsewhere name the mutations, such as `l2-qemu-killed-*`".into()
            }
            Self::NoStartOnL0 { .. } => {
                "only the innermost level can, when its launch begins, and only from L2 on: L1 is started in L0 anyway".into()
            }
            Self::StepOnWrongLevel { .. } => {
                "L0 alone can be rebooted, a guest alone migrated; the level that runs the innermost one alone gets another beside it".into()
            }
            Self::StepAtWrongStage { stages, .. } => {
                let stages: Vec<String> = stages.iter().map(|stage| format!("`{stage}`")).collect();
                format!("use {}", stages.join(" or "))
            }
            Self::SecondSecondMachine => "write a scenario for each".into(),
            Self::NoSuchStep { .. } => "steps are numbered from 1, in the order of the file".into(),
            Self::NegatedCommand => {
                "remove the `!` and add `fails = true`, or `status = 1` to take no other status (grep exits with 2 if it can't \
                 read its file)"
                    .into()
            }
            Self::NotOnlyReads => {
                "remove `reads`, or use nothing but programs that only read, such as grep, cat and test, without redirections to files and \
                 without `$(...)`"
                    .into()
            }
            Self::StepTooEarly { up, .. } => format!("use `{up}` or a later stage"),
            Self::More { .. } => "mend those above first".into(),
            Self::BadGlob(_) => "`*`, `?`, `[...]` and `{a,b}` have a meaning; a backslash takes it away".into(),
            Self::ParentInGlob => {
                "cell names are SCENARIO/ARCHITECTURE/L0/L1/L2, and a glob is over the whole name".into()
            }
            Self::NoSuchCell { .. } => {
                "a glob is over the whole name, SCENARIO/ARCHITECTURE/L0/L1/L2; `cargo xtask list` shows those of all cells"
                    .into()
            }
            Self::NoDefault => "write `default = true` in one of them".into(),
            Self::SecondDefault => "remove `default = true` from all but one".into(),
        }
    }

    /// What the label at the place itself says.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::MissingKey { .. } | Self::NeitherKey { .. } | Self::NoSymptom => "missing from this table",
            Self::UnknownKey { .. } | Self::UnknownWord { .. } => "not known",
            Self::WrongType { .. } => "wrong type",
            Self::NotUtf8 => "first such byte",
            Self::Duplicate { .. } | Self::DuplicateCell { .. } => "the second",
            _ => "here",
        }
    }
}
