//! Everything that can be wrong with what a person wrote: the message says what is wrong, the help what would be right.
//! Where it stands in which file is [`InputError`](super::InputError)'s part.

use std::io;

use nestmatrix_model::{BadVersion, LevelNumber, Stage, UnknownWord, Version};

/// What is wrong with a scenario, document or systems file, or with a filter.
#[derive(Debug, thiserror::Error)]
pub enum InputProblem {
    /// The file or folder could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// A name that ends in `.toml` is a folder, device or the like.
    #[error("not a regular file")]
    NotAFile,
    /// The file is too large to be one of ours, and was not read.
    #[error("file of {size} bytes, over the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The largest size in bytes that is read.
        limit: u64,
    },
    /// The file is not text.
    #[error("not UTF-8: a byte that no character can have here")]
    NotUtf8,
    /// The file is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// The folder holds no scenario at all.
    #[error("no scenario files")]
    NoScenarios,
    /// A TOML file stands where nothing is read.
    #[error("a TOML file that is neither scenario nor document")]
    Misplaced,
    /// A key that means nothing here.
    #[error("unknown key `{key}`")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The keys that mean something here.
        known: &'static [&'static str],
    },
    /// A key that has to be here and is not.
    #[error("key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A key that means nothing unless another key says something else.
    #[error("key `{key}` has no meaning here")]
    NeedlessKey {
        /// The key.
        key: &'static str,
        /// What would give it a meaning.
        wants: &'static str,
    },
    /// Neither of two keys is here, one of which has to be.
    #[error("neither `{}` nor `{}` is there", .keys[0], .keys[1])]
    NeitherKey {
        /// The keys.
        keys: [&'static str; 2],
    },
    /// Two keys are here that say the same thing in different ways.
    #[error("`{}` and `{}` are both there", .keys[0], .keys[1])]
    BothKeys {
        /// The keys.
        keys: [&'static str; 2],
    },
    /// A stop of which nothing is said that would tell it from any other stop.
    #[error("neither `symptom` nor `no-symptom` is there: any stop would count as the documented one")]
    NoSymptom,
    /// Running out of time says nothing without a stack that does not.
    #[error("a timeout is a documented symptom only with a control, and a control belongs to nothing else")]
    TimeoutWithoutControl,
    /// A rate of stops that leaves nothing to be flaky.
    #[error("`stopped` ({stopped}) must be less than `of` ({of})")]
    NotFlaky {
        /// How many stopped.
        stopped: u32,
        /// Of how many.
        of: u32,
    },
    /// A control that can't show that its stacks do not time out.
    #[error("{scenario} is no control: {why}")]
    NoControl {
        /// The scenario that is named.
        scenario: String,
        /// Why.
        why: &'static str,
    },
    /// A value of another type than the key takes.
    #[error("`{key}` holds {found}")]
    WrongType {
        /// The key.
        key: String,
        /// What was found, with its article.
        found: &'static str,
        /// What the key takes, with its article.
        wanted: &'static str,
    },
    /// A number outside the range that makes sense.
    #[error("`{key}` is {given}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The number as written.
        given: String,
        /// The least allowed.
        min: u32,
        /// The most allowed.
        max: u32,
    },
    /// A list or text without content.
    #[error("`{key}` is empty")]
    Empty {
        /// The key.
        key: &'static str,
    },
    /// A list of more entries than anyone writes by hand.
    #[error("`{key}` has {count} entries")]
    TooLong {
        /// The key.
        key: &'static str,
        /// How many it has.
        count: usize,
        /// The most allowed.
        limit: usize,
    },
    /// A word that is not one of those that can stand here.
    #[error("unknown {what} `{given}`")]
    UnknownWord {
        /// What the words are.
        what: &'static str,
        /// The word as written.
        given: String,
        /// The words that can stand here.
        known: Vec<String>,
    },
    /// A cell for which neither its scenario nor any of its values names a claim.
    #[error("`{cell}` tries no claim")]
    NoClaim {
        /// The cell's name.
        cell: String,
    },
    /// A claim that no scenario can try.
    #[error("claim `{claim}` is marked as untestable")]
    Untestable {
        /// The claim as written.
        claim: String,
    },
    /// A name that cannot be one.
    #[error("`{given}` is not {what}")]
    BadName {
        /// What it should be, with its article.
        what: &'static str,
        /// The name as written.
        given: String,
        /// What such a name is made of.
        rule: &'static str,
    },
    /// A version that is none.
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
    /// A date that is none.
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
    /// A version of a system that has none.
    #[error("`{system}` has no versions")]
    NoVersions {
        /// The system's id.
        system: String,
    },
    /// A role of an emulator, which is set up with nothing.
    #[error("`{system}` is an emulator, and has no roles")]
    EmulatorWithRole {
        /// The system's id.
        system: String,
    },
    /// An emulator's own hypervisor on a level that another one hosts.
    #[error("`{system}` is an emulator, and cannot be {level}")]
    EmulatorInside {
        /// The system's id.
        system: String,
        /// The level.
        level: LevelNumber,
    },
    /// A step in an emulator, in which nothing can be run.
    #[error("`{step}` is to be run in L0, where `{system}` is an emulator")]
    StepInEmulator {
        /// The step's name.
        step: String,
        /// The system's id.
        system: String,
    },
    /// A version to try that is not one of those that its value asks for.
    #[error("{version} is not {requirement}")]
    PointOutside {
        /// The version to try.
        version: Version,
        /// What the value asks for.
        requirement: String,
    },
    /// A stand-in for something finer or other than a system's major version.
    #[error("`{given}` is not a system and major version")]
    BadStandIn {
        /// As written.
        given: String,
    },
    /// A document file under another name than its document's.
    #[error("document `{id}` is in a file named `{file}.toml`")]
    WrongFileName {
        /// The document's id.
        id: String,
        /// The file's name without its ending.
        file: String,
    },
    /// A name that is already taken.
    #[error("{what} `{name}` is there twice")]
    Duplicate {
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
        /// File, line and column of the first.
        first: String,
    },
    /// Two values of one axis that would give the same cells.
    #[error("`{value}` is twice on the axis `{axis}`")]
    DuplicateCell {
        /// The axis.
        axis: &'static str,
        /// The second value, as written.
        value: String,
    },
    /// More cells than a scenario can mean.
    #[error("a scenario of {count} cells")]
    TooManyCells {
        /// How many it would have; the largest number there is where that cannot be counted.
        count: usize,
        /// The most allowed.
        limit: usize,
    },
    /// A fault for a QEMU that is not started yet.
    #[error("{level} has no QEMU yet when {at} begins")]
    FaultTooEarly {
        /// The level.
        level: LevelNumber,
        /// When the fault was to be done.
        at: Stage,
        /// The first stage at whose beginning the level has a QEMU.
        started: Stage,
    },
    /// A fault that can't be done to a second machine.
    #[error("`{action}` can't be done to a second machine")]
    NotOnSecondMachine {
        /// Its word.
        action: &'static str,
    },
    /// A fault for a second machine that there is not, or not yet.
    #[error("{level} has no second machine when {at} begins")]
    NoSecondMachine {
        /// The level.
        level: LevelNumber,
        /// When the fault was to be done.
        at: Stage,
    },
    /// An acceptance of whatever damage.
    #[error("this accepts that any damage goes unnoticed")]
    AcceptsAllMutants,
    /// A level that can't be started in L0.
    #[error("{level} can't be started in L0 when {at} begins")]
    NoStartOnL0 {
        /// The level.
        level: LevelNumber,
        /// When it was to be started.
        at: Stage,
    },
    /// A step that the harness can't take in this level.
    #[error("`{action}` can't be done to {level}")]
    StepOnWrongLevel {
        /// The level.
        level: LevelNumber,
        /// What was to be done.
        action: &'static str,
    },
    /// A step that the harness can't take at this point.
    #[error("`{action}` can't be done after {after}")]
    StepAtWrongStage {
        /// What was to be done.
        action: &'static str,
        /// When it was to be done.
        after: Stage,
        /// When it can be done.
        stages: Vec<Stage>,
    },
    /// A step that would give a level of the stack one more machine.
    #[error("only one step of a scenario can start a second machine")]
    SecondSecondMachine,
    /// A mutation of a step that the scenario does not have.
    #[error("there is no step {step}: the scenario has {steps}")]
    NoSuchStep {
        /// The number as written.
        step: u32,
        /// How many steps the scenario has.
        steps: usize,
    },
    /// A command whose failure is turned into a success, whatever it failed for.
    #[error("`run` begins with `!`, which takes a program that is missing for one that fails as it should")]
    NegatedCommand,
    /// A command that is said to only read, and might change something.
    #[error("`reads = true`, but `run` may change something")]
    NotOnlyReads,
    /// A step in a level that is not up yet.
    #[error("{level} takes no commands yet after {after}")]
    StepTooEarly {
        /// The level.
        level: LevelNumber,
        /// When the step was to be done.
        after: Stage,
        /// The first stage after which the level takes commands.
        up: Stage,
    },
    /// More problems in one file than anyone reads in one go.
    #[error("{count} more")]
    More {
        /// How many are not named.
        count: usize,
    },
    /// A glob of a profile that no cell matches.
    #[error("`{given}` matches no cell")]
    NoSuchCell {
        /// The glob as written.
        given: String,
    },
    /// No profile that is taken where none is asked for.
    #[error("no profile is the default one")]
    NoDefault,
    /// Another profile that is taken where none is asked for.
    #[error("a second default profile")]
    SecondDefault,
    /// A glob that is none.
    #[error("not a glob: {0}")]
    BadGlob(String),
    /// A glob that would climb out of the tree of cells.
    #[error("`..` in a glob")]
    ParentInGlob,
}

impl From<UnknownWord> for InputProblem {
    fn from(UnknownWord { what, given, known }: UnknownWord) -> Self {
        Self::UnknownWord { what, given, known }
    }
}

impl From<BadVersion> for InputProblem {
    fn from(BadVersion { given }: BadVersion) -> Self {
        Self::BadVersion { given }
    }
}

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
            Self::UnknownWord { given, known, .. } if known.len() > NAMED => {
                let mut nearest: Vec<_> = known.iter().map(|word| (distance(given, word), word)).collect();
                nearest.sort();
                let nearest: Vec<_> = nearest.iter().take(3).map(|(_, word)| word).collect();
                format!("{}of the {} known, the nearest are {}", did_you_mean(given, known), known.len(), list(&nearest))
            }
            Self::UnknownWord { given, known, .. } => {
                format!("{}known are {}", did_you_mean(given, known), list(known))
            }
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

/// Words that are named where all that would be right are; of more only the nearest are.
const NAMED: usize = 20;

fn list(words: &[impl AsRef<str>]) -> String {
    words.iter().map(|word| format!("`{}`", word.as_ref())).collect::<Vec<_>>().join(", ")
}

/// "did you mean ...? " if one of the known words is but a slip of the keyboard away, else nothing.
fn did_you_mean(given: &str, known: &[impl AsRef<str>]) -> String {
    // Another number is another thing and no slip: `l3-boot` does not mean `l0-boot`.
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    known
        .iter()
        .map(AsRef::as_ref)
        .filter(|word| digits(word) == digits(given))
        .map(|word| (distance(given, word), word))
        .filter(|(distance, word)| *distance <= given.len().min(word.len()).div_ceil(3))
        .min()
        .map_or_else(String::new, |(_, word)| format!("did you mean `{word}`? "))
}

/// How many characters must be put in, taken out, replaced, or swapped with their neighbour to make one text of the other
/// (optimal string alignment). Texts too long to be a slip of each other count as far apart.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    if left.len().max(right.len()) > 64 {
        return usize::MAX;
    }
    // One row for each beginning of `left`, each with the distances to all beginnings of `right`.
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}
