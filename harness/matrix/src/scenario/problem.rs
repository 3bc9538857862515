//! Every kind of error in the user's files. The message says what is wrong; `problem_help` says what would be right.
//! [`InputError`](super::InputError) adds the place: file, line and column.

use nestmatrix_input::FileProblem;
use nestmatrix_model::{BadVersion, Benchmark, Device, LevelNumber, Stage, UnknownWord, Version};

/// An error in a scenario, document or systems file, or in a filter.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioProblem {
    /// What can be wrong with a file whatever it holds.
    #[error(transparent)]
    File(#[from] FileProblem),
    /// The folder holds no scenario at all.
    #[error("no scenario files")]
    NoScenarios,
    /// A TOML file is in a place where no file is read.
    #[error("this TOML file is neither a scenario nor a document")]
    Misplaced,
    /// A key that has a meaning only with another value of another key.
    #[error("key `{key}` has no meaning here")]
    NeedlessKey {
        /// The key.
        key: &'static str,
        /// What would give it a meaning.
        wants: &'static str,
    },
    /// One of two keys is required, and both are missing.
    #[error("both `{}` and `{}` are missing", .keys[0], .keys[1])]
    NeitherKey {
        /// The keys.
        keys: [&'static str; 2],
    },
    /// Two keys that exclude each other.
    #[error("`{}` and `{}` exclude each other", .keys[0], .keys[1])]
    BothKeys {
        /// The keys.
        keys: [&'static str; 2],
    },
    /// A stop without a symptom, which any stop would match.
    #[error("`symptom` and `no-symptom` are missing: any stop would count as the documented one")]
    NoSymptom,
    /// A timeout as a symptom, without a similar stack that does not time out.
    #[error("a timeout as the documented symptom requires a control, and only a timeout takes one")]
    TimeoutWithoutControl,
    /// A rate of stops that is not flaky.
    #[error("`stopped` ({stopped}) must be less than `of` ({of})")]
    NotFlaky {
        /// How many stopped.
        stopped: u32,
        /// Of how many.
        of: u32,
    },
    /// A control that can't show that its stacks do not time out.
    #[error("{scenario} can't be the control: {why}")]
    NoControl {
        /// The scenario that is named.
        scenario: String,
        /// Why.
        why: &'static str,
    },
    /// A cell whose scenario and values name no claim.
    #[error("`{cell}` tries no claim")]
    NoClaim {
        /// The cell's name.
        cell: String,
    },
    /// A claim that no scenario can test.
    #[error("claim `{claim}` is marked as untestable")]
    Untestable {
        /// The claim as written.
        claim: String,
    },
    /// A suite as the program of a step.
    #[error("`{suite}` is a suite, and not a program")]
    SuiteAsPayload {
        /// The suite.
        suite: String,
    },
    /// Text that is not a valid name.
    #[error("`{given}` is not {what}")]
    BadName {
        /// What it should be, with its article.
        what: &'static str,
        /// The name as written.
        given: String,
        /// What such a name is made of.
        rule: &'static str,
    },
    /// Text that is not a version.
    #[error("`{given}` is not a version")]
    BadVersion {
        /// As written.
        given: String,
    },
    /// A change whose versions can't be compared with those of a stack.
    #[error("`{given}` is not a version of Linux or of QEMU")]
    BadSince {
        /// As written.
        given: String,
    },
    /// Text that is not a date.
    #[error("`{given}` is not a date")]
    BadDate {
        /// As written.
        given: String,
    },
    /// An axis value that is not "SYSTEM VERSION" with or without "and later".
    #[error("`{given}` is not a system and version")]
    BadRequirement {
        /// As written.
        given: String,
        /// The systems there are.
        known: Vec<String>,
    },
    /// A version of a system without versions.
    #[error("`{system}` has no versions")]
    NoVersions {
        /// The system's id.
        system: String,
    },
    /// A role for an emulator, which has none.
    #[error("`{system}` is an emulator, and has no roles")]
    EmulatorWithRole {
        /// The system's id.
        system: String,
    },
    /// An emulator's own hypervisor on a level that another level hosts.
    #[error("`{system}` is an emulator, and cannot be {level}")]
    EmulatorInside {
        /// The system's id.
        system: String,
        /// The level.
        level: LevelNumber,
    },
    /// A role for a system that can only be the L0 around this machine.
    #[error("`{system}` has no roles")]
    SurroundingsWithRole {
        /// The system's id.
        system: String,
    },
    /// A system that can only be the L0 around this machine, on another level.
    #[error("`{system}` can only be L0, and cannot be {level}")]
    SurroundingsInside {
        /// The system's id.
        system: String,
        /// The level.
        level: LevelNumber,
    },
    /// A key of a system that can only be the L0 around this machine.
    #[error("a system with `guest-shows` has no `{key}`")]
    SurroundingsAndKey {
        /// The key.
        key: &'static str,
    },
    /// A step or a level's settings in an L0 around this machine.
    #[error("{what} can't be in L0, because nestmatrix runs nothing in `{system}`")]
    NothingAround {
        /// What can't: a step by its name, a table, a fault.
        what: String,
        /// The system's id.
        system: String,
    },
    /// A step in an emulator, in which no command can run.
    #[error("the step `{step}` can't run in L0, because `{system}` is an emulator")]
    StepInEmulator {
        /// The step's name.
        step: String,
        /// The system's id.
        system: String,
    },
    /// A version to test that is not one of those that its value requires.
    #[error("{version} is not {requirement}")]
    PointOutside {
        /// The version to try.
        version: Version,
        /// The versions that the value requires.
        requirement: String,
    },
    /// A rebuild of a system that can't have one.
    #[error("`{system}` can't be a rebuild of `{original}`: {why}")]
    BadRebuild {
        /// The id of the rebuild.
        system: String,
        /// The id of its original.
        original: String,
        /// Why not.
        why: &'static str,
    },
    /// A stand-in for anything but a version of a system.
    #[error("`{given}` is not a system and version")]
    BadStandIn {
        /// As written.
        given: String,
    },
    /// A name that is already taken.
    #[error("duplicate {what} `{name}`")]
    Duplicate {
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
        /// File, line and column of the first.
        first: String,
    },
    /// Two values of one axis that would give the same cells.
    #[error("duplicate `{value}` on the axis `{axis}`")]
    DuplicateCell {
        /// The axis.
        axis: &'static str,
        /// The second value, as written.
        value: String,
    },
    /// More cells than a scenario can mean.
    #[error("the scenario has {count} cells")]
    TooManyCells {
        /// How many it would have; the largest number there is where that cannot be counted.
        count: usize,
        /// The most allowed.
        limit: usize,
    },
    /// A fault in a QEMU that is not started yet.
    #[error("{level} has no QEMU yet when {at} begins")]
    FaultTooEarly {
        /// The level.
        level: LevelNumber,
        /// The stage of the fault.
        at: Stage,
        /// The first stage at whose beginning the level has a QEMU.
        started: Stage,
    },
    /// A fault that a second machine can't have.
    #[error("`{action}` is not available for a second machine")]
    NotOnSecondMachine {
        /// Its word.
        action: &'static str,
    },
    /// A level with two machines, or one that a step replaces, that libvirt launches.
    #[error(
        "{level} is launched by libvirt, and a step starts a second machine of it or around it, or replaces it"
    )]
    SecondMachineByLibvirt {
        /// The level.
        level: LevelNumber,
    },
    /// A level with a TPM that libvirt launches.
    #[error("{level} has a TPM, which a level that libvirt launches can't have")]
    TpmByLibvirt {
        /// The level.
        level: LevelNumber,
    },
    /// A crash kernel of the innermost level.
    #[error("{level} is the innermost level, and only a level that runs another one has a crash kernel")]
    InnermostKdump {
        /// The level.
        level: LevelNumber,
    },
    /// A level that libvirt launches in an emulator.
    #[error("L1 can't be launched by libvirt: L0 is {system}, and no command runs there")]
    LibvirtInEmulator {
        /// The system of L0.
        system: String,
    },
    /// A launcher that can't start a level in one of the systems around it.
    #[error("{level} can't be launched by {launch}: {host} can be {system}")]
    LaunchUnfit {
        /// The level.
        level: LevelNumber,
        /// The launcher.
        launch: &'static str,
        /// The level around it.
        host: LevelNumber,
        /// The system there.
        system: String,
    },
    /// A level with Windows that libvirt launches.
    #[error("{level} has Windows, which libvirt does not launch here")]
    WindowsByLibvirt {
        /// The level.
        level: LevelNumber,
    },
    /// A setting of QEMU's machines for a level that Windows starts.
    #[error("{role} starts {level}, and takes no `{key}`")]
    KeyInWindows {
        /// The key.
        key: &'static str,
        /// The level.
        level: LevelNumber,
        /// The role of the level around it, by its usual name.
        role: &'static str,
    },
    /// A step in Windows or in a guest of Windows.
    #[error("the step `{step}` can't run in {level}, because {windows} can be Windows")]
    StepInWindows {
        /// The step's name.
        step: String,
        /// The level of the step.
        level: LevelNumber,
        /// The outermost level with Windows.
        windows: LevelNumber,
    },
    /// A fault in the QEMU of a level that Windows starts.
    #[error("the fault `{action}` can't happen in {level}, because {level} can be a guest of Windows")]
    FaultInWindows {
        /// The fault.
        action: &'static str,
        /// The level.
        level: LevelNumber,
    },
    /// A fault in a second machine that does not exist, or not yet.
    #[error("{level} has no second machine when {at} begins")]
    NoSecondMachine {
        /// The level.
        level: LevelNumber,
        /// The stage of the fault.
        at: Stage,
    },
    /// A scenario that accepts all damage.
    #[error("this accepts that all damage goes unnoticed")]
    AcceptsAllMutants,
    /// A level that can't be started in L0.
    #[error("{level} can't be started in L0 when {at} begins")]
    NoStartOnL0 {
        /// The level.
        level: LevelNumber,
        /// The stage at which it was to be started.
        at: Stage,
    },
    /// A step of the harness that is impossible in this level.
    #[error("`{action}` can't be done to {level}")]
    StepOnWrongLevel {
        /// The level.
        level: LevelNumber,
        /// The step's action.
        action: &'static str,
    },
    /// A step of the harness that is impossible at this stage.
    #[error("`{action}` can't be done after {after}")]
    StepAtWrongStage {
        /// The step's action.
        action: &'static str,
        /// Its stage in the scenario.
        after: Stage,
        /// The stages at which it is possible.
        stages: Vec<Stage>,
    },
    /// An action that can't be part of a chain.
    #[error("`{action}` can't be part of a chain")]
    NotInChain {
        /// The action.
        action: &'static str,
    },
    /// A step that would boot one more second machine, or migrate a level that has one.
    #[error("a scenario can boot a second machine only once, and can't migrate a level then")]
    SecondSecondMachine,
    /// A step that migrates a level to another QEMU, which the scenario does not name.
    #[error("a step migrates {level} to another QEMU or back, and `other-qemu` of {level} is missing")]
    NoOtherQemu {
        /// The level.
        level: LevelNumber,
    },
    /// Another QEMU that no step migrates the level to.
    #[error("no step migrates {level} to its other QEMU")]
    NeedlessOtherQemu {
        /// The level.
        level: LevelNumber,
    },
    /// A step that migrates a second level.
    #[error("{level} can't be migrated: another step migrates {first}")]
    SecondMigratedLevel {
        /// The level that an earlier step migrates.
        first: LevelNumber,
        /// The level that this one migrates.
        level: LevelNumber,
    },
    /// A mutation of a step that the scenario does not have.
    #[error("there is no step {step}: the scenario has {steps}")]
    NoSuchStep {
        /// The number as written.
        step: u32,
        /// How many steps the scenario has.
        steps: usize,
    },
    /// A negated command: it succeeds for whatever reason the command fails.
    #[error("`run` begins with `!`, so a missing program would count as the expected failure")]
    NegatedCommand,
    /// A command that is declared as one that only reads, but may change something.
    #[error("`reads = true`, but `run` may change something")]
    NotOnlyReads,
    /// An expected ratio with too few rounds for a verdict.
    #[error("{times} rounds are too few for a verdict")]
    TooFewRounds {
        /// How many there are.
        times: u32,
        /// How many are needed.
        least: u32,
    },
    /// Bounds of a ratio that no ratio meets.
    #[error("no ratio is at least {least} % and at most {most} %")]
    EmptyRange {
        /// The lower bound.
        least: u32,
        /// The upper bound.
        most: u32,
    },
    /// A level without the device that its benchmark measures.
    #[error("{level} has no {device}, which `{benchmark}` measures")]
    NoDevice {
        /// The level.
        level: LevelNumber,
        /// The benchmark.
        benchmark: Benchmark,
        /// The device.
        device: Device,
    },
    /// A step in a level that is not up yet.
    #[error("{level} does not take commands yet after {after}")]
    StepTooEarly {
        /// The level.
        level: LevelNumber,
        /// The stage of the step.
        after: Stage,
        /// The first stage after which the level takes commands.
        up: Stage,
    },
    /// A guest of the user in a level that is not the innermost one.
    #[error("{level} can't boot a payload: it is not a guest that runs no guests")]
    GuestNotInnermost {
        /// The level.
        level: LevelNumber,
        /// The innermost level of the stack.
        innermost: LevelNumber,
    },
    /// A step that needs an innermost level that takes commands.
    #[error(
        "the step `{step}` needs {level} after its report, but {level} boots a payload, which takes no commands"
    )]
    StepAfterGuest {
        /// The step's name.
        step: String,
        /// The innermost level.
        level: LevelNumber,
    },
    /// A glob of a profile that no cell matches.
    #[error("`{given}` matches no cell")]
    NoSuchCell {
        /// The glob as written.
        given: String,
    },
    /// No profile is marked as the default.
    #[error("there is no default profile")]
    NoDefault,
    /// Two profiles are marked as the default.
    #[error("a second default profile")]
    SecondDefault,
    /// Text that is not a glob.
    #[error("not a glob: {0}")]
    BadGlob(String),
    /// A glob with `..`, which no cell can match.
    #[error("`..` in a glob")]
    ParentInGlob,
}

impl From<UnknownWord> for ScenarioProblem {
    fn from(UnknownWord { what, given, known }: UnknownWord) -> Self {
        Self::File(FileProblem::UnknownWord { what, given, known })
    }
}

impl From<BadVersion> for ScenarioProblem {
    fn from(BadVersion { given }: BadVersion) -> Self {
        Self::BadVersion { given }
    }
}
