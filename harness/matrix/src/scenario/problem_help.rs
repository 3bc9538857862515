//! Advice for each problem in the user's input.

use nestmatrix_input::{Problem, list};
use nestmatrix_model::{PROGRAM, Word as _};

use super::problem::ScenarioProblem;

/// The page that describes the files.
const MANUAL: &str = "docs/scenarios.md";

impl Problem for ScenarioProblem {
    fn help(&self) -> String {
        match self {
            Self::File(problem) => problem.help(MANUAL),
            Self::NoScenarios => {
                "scenarios are TOML files in a folder for their product line, such as PRODUCT/SCENARIO.toml".into()
            }
            Self::Misplaced => {
                "move a document to documents/, and a scenario to the folder of its product line; next to these folders \
                 only systems.toml, contradictions.toml, profiles.toml and decided.toml are read"
                    .into()
            }
            Self::NeedlessKey { key, wants } => format!("remove `{key}`, or write `{wants}`"),
            Self::NeitherKey { keys: [one, other] } => {
                format!("add `{one} = ...` or `{other} = ...`; see {MANUAL}")
            }
            Self::NoSymptom => {
                "add `symptom = \"...\"` with words from the kernel's or QEMU's message, `symptom-kind = \"...\"`, or `no-symptom = \"...\"` with the reason \
                 why there is none"
                    .into()
            }
            Self::TimeoutWithoutControl => {
                "write both `symptom-kind = \"timeout\"` and `control = \"SCENARIO\"`, a scenario whose stacks work and differ only \
                 in the limitation; or neither"
                    .into()
            }
            Self::NotFlaky { .. } => "`stopped` must be less than `of`; a stop that always occurs belongs in `[expect]`".into(),
            Self::NoControl { .. } => {
                "name a scenario with the same architectures that is expected or known to work".into()
            }
            Self::BothKeys { keys: [one, other] } => {
                format!("remove `{one}` or `{other}`; see {MANUAL}")
            }
            Self::NoClaim { .. } => {
                "give the scenario `claims = [...]`, or write the value as `{ system = \"...\", claims = [...] }`".into()
            }
            Self::Untestable { .. } => "remove the claim here, or remove `untestable` from its document".into(),
            Self::BadName { rule, .. } => format!("use {rule}"),
            Self::BadVersion { .. } => "a version is MAJOR or MAJOR.MINOR, in digits".into(),
            Self::BadSince { .. } => "write `Linux 5.8`, `QEMU 5.1` or `Linux 5.8 and QEMU 5.1`, and put everything else in the note".into(),
            Self::BadDate { .. } => "a date is YEAR-MONTH-DAY of the calendar, such as `2026-01-31`".into(),
            Self::BadRequirement { known, .. } => {
                format!("write `SYSTEM VERSION`, followed by `and later` and `with ROLE` if the document says so, or `SYSTEM` alone if it has no versions; the systems are {}", list(known))
            }
            Self::NoVersions { .. } => {
                "remove the version here, or remove `versions = \"none\"` or `hypervisor` from the system".into()
            }
            Self::EmulatorWithRole { system } => format!("write `{system}` alone"),
            Self::SurroundingsWithRole { system } => format!("write `{system}` alone"),
            Self::SurroundingsInside { .. } => "use it on the axis `l0`: this machine is its guest, and so L1".into(),
            Self::SurroundingsAndKey { .. } => {
                "remove one of them: `guest-shows` says that the system is around this machine, which boots none of its images".into()
            }
            Self::NothingAround { .. } => "this machine is its guest: use L1 or a level inside it".into(),
            Self::EmulatorInside { .. } => {
                "use it on the axis `l0`; to emulate an inner level, set its `accelerator`".into()
            }
            Self::StepInEmulator { .. } => {
                "move the step to a scenario with another system as L0, or run it in another level".into()
            }
            Self::PointOutside { .. } => {
                "name versions that the value includes, with a minor number if the value has one".into()
            }
            Self::BadRebuild { .. } => {
                "name the system that it has the versions of, or remove `rebuild-of`".into()
            }
            Self::BadStandIn { .. } => {
                "write `SYSTEM MAJOR` for every version of that major version, or `SYSTEM MAJOR.MINOR`".into()
            }
            Self::Duplicate { first, .. } => format!("the first is at {first}: rename or remove one"),
            Self::DuplicateCell { .. } => "remove one: their cells would have the same names".into(),
            Self::TooManyCells { limit, .. } => format!("the limit is {limit}: split the scenario"),
            Self::FaultTooEarly { started, .. } => format!("use `{started}` or a later stage"),
            Self::NoSecondMachine { .. } => {
                "add an earlier step that boots one, or that migrates the level".into()
            }
            Self::NotOnSecondMachine { .. } => "remove `second`: only `kill-qemu` takes it".into(),
            Self::AcceptsAllMutants => {
                "name mutations, such as `l2-qemu-killed-*`; only a scenario with `outcome = \"may-stop\"` may accept all".into()
            }
            Self::NoStartOnL0 { .. } => {
                "only the innermost level can, when its launch begins, and only if it is L2 or L3: L1 starts in L0 anyway".into()
            }
            Self::SuiteAsPayload { suite } => format!("write `suite = \"{suite}\"` and `tests = [...]`"),
            Self::StepOnWrongLevel { .. } => {
                "only L0 can be rebooted, only a guest can be migrated, saved, powered off or made to panic, only a guest that hosts can get another CPU, memory or a device, only a level that hosts can run the tests of a suite, and only the host of the innermost level can boot another guest".into()
            }
            Self::StepAtWrongStage { stages, .. } => {
                let stages: Vec<String> = stages.iter().map(|stage| format!("`{stage}`")).collect();
                format!("use {}", stages.join(" or "))
            }
            Self::SecondMachineByLibvirt { .. } | Self::LibvirtInEmulator { .. } | Self::TpmByLibvirt { .. } => {
                "remove `launch`, or write `launch = \"qemu\"`".into()
            }
            Self::InnermostKdump { .. } => "remove `kdump`, or add an axis for a level inside this one".into(),
            Self::LaunchUnfit { .. } => {
                "remove `launch`: what starts the guests of Windows follows from `with hyper-v` or `with wsl2`, and of other systems it is QEMU"
                    .into()
            }
            Self::WindowsByLibvirt { .. } => "remove `launch`, or write `launch = \"qemu\"`".into(),
            Self::KeyInWindows { .. } => {
                "remove it: a level that Windows starts takes `cpus`, `memory-mib` and `kernel-parameters`".into()
            }
            Self::StepInWindows { .. } => {
                "remove the step, or run it in a level around Windows: Windows has no POSIX shell, and nestmatrix only watches the console of \
                 its guests"
                    .into()
            }
            Self::FaultInWindows { .. } => "remove the fault, or damage a level around it".into(),
            Self::SecondSecondMachine => {
                "write one scenario for each: a machine that runs beside the first one keeps the second set of channels".into()
            }
            Self::NoOtherQemu { level } => {
                format!("write `other-qemu = \"SYSTEM VERSION\"` in `[levels.{}]`; or use `migrate`", level.word())
            }
            Self::NeedlessOtherQemu { .. } => "remove `other-qemu`, or add a step with `migrate-to-other`".into(),
            Self::SecondMigratedLevel { .. } => {
                "write one scenario for each level: there are two sets of channels, and only one level can change between them".into()
            }
            Self::NotInChain { .. } => "use events in a level's life, such as `pause` and `reset`, or another step".into(),
            Self::NoSuchStep { .. } => "steps are numbered from 1, in the order of the file".into(),
            Self::NegatedCommand => {
                "remove the `!` and add `fails = true`, or `status = 1` to accept only that status (grep exits with 2 if it can't \
                 read its file)"
                    .into()
            }
            Self::NotOnlyReads => {
                "remove `reads`, or use only programs that read, such as grep, cat and test, without redirections to files and \
                 without `$(...)`"
                    .into()
            }
            Self::TooFewRounds { least, .. } => {
                format!("write `times = {least}` or more, or remove `[step.expect]`")
            }
            Self::EmptyRange { .. } => "exchange them, or remove one".into(),
            Self::NoDevice { level, device, .. } => {
                format!("write `devices = [\"{device}\"]` in `[levels.{}]`", level.word())
            }
            Self::GuestNotInnermost { innermost, .. } if innermost.reports() => format!(
                "write it in `[levels.{}]`; `run-matrix --kernel FILE --level LEVEL` boots a kernel of yours at any level",
                innermost.word()
            ),
            Self::GuestNotInnermost { .. } => "give the stack a guest: add `l1 = [...]` to `[axes]`".into(),
            Self::StepAfterGuest { .. } => {
                "use an earlier stage, or remove `payload` from the level".into()
            }
            Self::StepTooEarly { up, .. } => format!("use `{up}` or a later stage"),
            Self::BadGlob(_) => "`*`, `?`, `[...]` and `{a,b}` are special; write a backslash before a literal one".into(),
            Self::ParentInGlob => {
                "cell names are SCENARIO/ARCHITECTURE/L0/L1/L2, and a glob must match the whole name".into()
            }
            Self::NoSuchCell { .. } => {
                let form = "SCENARIO/ARCHITECTURE/L0/L1/L2";
                format!("a glob must match the whole name, {form}; `{PROGRAM} list` shows all names")
            }
            Self::NoDefault => "write `default = true` in one profile".into(),
            Self::SecondDefault => "remove `default = true` from all but one".into(),
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::File(problem) => problem.label(),
            Self::NeitherKey { .. } | Self::NoSymptom => "missing from this table",
            Self::Duplicate { .. } | Self::DuplicateCell { .. } => "the second",
            _ => "here",
        }
    }
}
