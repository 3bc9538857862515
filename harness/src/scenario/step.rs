//! A step of a scenario: something that is done in a level once a stage is done, and what should come of it.
//!
//! Steps carry out what a document tells its reader to do (look at a parameter, unload a module, load it again), so that
//! its procedures are tried and not only their result.

use serde::{Deserialize, Serialize};

use super::expectation::{level_in_stack, stage_in_stack};
use super::level::LevelNumber;
use super::problem::InputProblem;
use super::reads::only_reads;
use super::stage::{Stage, StageKind};
use super::table::{Table, Text};
use super::word::{Word, word_traits};

/// Something that is done in a level once a stage is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// What it is called in records and messages.
    pub name: String,
    /// Done when this stage is done and before the next one begins.
    pub after: Stage,
    /// The level in which it is done.
    pub on: LevelNumber,
    /// What is done.
    #[serde(flatten)]
    pub action: StepAction,
    /// Whether its author says that it only reads: it may then be done in an L0 that is this machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reads: bool,
    /// How long it may take, if that is not as long as any other stage of its level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<StepTimeout>,
}

/// How long a step may take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepTimeout {
    /// By this machine's clock.
    Real(u32),
    /// By the clock of the level, which may go slower on emulated metal. What the step does besides waiting may take as long as
    /// any other stage.
    Guest(u32),
}

impl StepTimeout {
    const KEYS: [&'static str; 2] = ["timeout-seconds", "timeout-guest-seconds"];
    /// A day: whoever waits longer has made a mistake.
    const LONGEST: u32 = 24 * 60 * 60;

    fn read(table: &Table<'_>) -> Option<Self> {
        let keys = Self::KEYS;
        let [real, guest] = keys.map(|key| table.optional_integer(key, 1, Self::LONGEST));
        if keys.iter().all(|key| table.has(key)) {
            table.report(InputProblem::BothKeys { keys });
        }
        real.map(Self::Real).or(guest.map(Self::Guest))
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StepAction {
    /// A command is run.
    Run(Command),
    /// The harness does something itself.
    Own {
        /// What.
        #[serde(rename = "do")]
        action: OwnAction,
    },
}

/// A command of a scenario's own, and what should come of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Command {
    /// What is run, by `/bin/sh -c`.
    pub run: String,
    /// Whether it should exit with a status other than 0.
    pub fails: bool,
    /// The very status with which it should exit, from 1 to 125: with 126 and 127 a shell says that it ran nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u8>,
    /// Text that must occur in what it prints, on either of its streams.
    pub output: Option<String>,
}

/// What the harness does itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnAction {
    /// Loops are timed, for the record.
    Measure,
    /// L0 is rebooted.
    Reboot,
    /// One more machine of the same make is booted beside the level's own.
    BootAnother,
    /// The level is migrated to a second QEMU on the same host, with all that runs in it.
    Migrate,
}

impl Word for OwnAction {
    const WHAT: &'static str = "action";
    const ALL: &'static [Self] = &[Self::Measure, Self::Reboot, Self::BootAnother, Self::Migrate];

    fn word(self) -> &'static str {
        match self {
            Self::Measure => "measure",
            Self::Reboot => "reboot",
            Self::BootAnother => "boot-another",
            Self::Migrate => "migrate",
        }
    }
}
word_traits!(OwnAction);

impl StepAction {
    /// What it is called in records: `run`, or the word for what the harness does itself.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Own { action } => action.word(),
        }
    }
}

impl Step {
    pub(super) const KEYS: &'static [&'static str] = &[
        "name",
        "after",
        "on",
        "do",
        "run",
        "fails",
        "status",
        "output",
        "reads",
        "timeout-seconds",
        "timeout-guest-seconds",
    ];

    /// Reads one `[[step]]` of a scenario whose stacks go from L0 to `innermost`.
    pub(super) fn read(table: &Table<'_>, innermost: LevelNumber) -> Option<Self> {
        let name = table.prose("name");
        let after = table.string("after").and_then(|text| text.parse(|text| stage_in_stack(text, innermost)));
        let action = match table.optional_string("do") {
            Some(word) => read_action(table, &word),
            None => read_run(table),
        };
        let reads = read_reads(table, action.as_ref());
        let timeout = StepTimeout::read(table);
        let on = table.string("on")?;
        let level = on.parse(|text| level_in_stack(text, innermost))?;
        let (name, after, action) = (name?, after?, action?);
        is_up(&on, level, after, innermost)?;
        suits(&on, level, after, innermost, &action)?;
        Some(Self { name, after, on: level, action, reads, timeout })
    }

    /// The level that it gives a second machine, if it does.
    pub fn second_machine(&self) -> Option<LevelNumber> {
        let second = [OwnAction::BootAnother, OwnAction::Migrate].map(|action| StepAction::Own { action });
        second.contains(&self.action).then_some(self.on)
    }

    /// Whether it starts a second machine of `level`. One that is booted beside another has a level of its own inside.
    pub(super) fn starts_second(&self, level: LevelNumber) -> bool {
        match self.action {
            StepAction::Own { action: OwnAction::BootAnother } => {
                level == self.on || Some(level) == self.on.next()
            }
            StepAction::Own { action: OwnAction::Migrate } => level == self.on,
            StepAction::Own { action: OwnAction::Measure | OwnAction::Reboot } | StepAction::Run(_) => false,
        }
    }

    /// Whether it certainly changes nothing: its author says so, and all of its command is known to only read.
    pub fn only_reads(&self) -> bool {
        self.reads && matches!(&self.action, StepAction::Run(command) if only_reads(&command.run))
    }

    /// Whether it needs the innermost level to live on once it has given its evidence: also beside that of another machine, both of
    /// which must be alive at once.
    pub fn needs_innermost(&self, innermost: LevelNumber) -> bool {
        let beside = self.action == StepAction::Own { action: OwnAction::BootAnother };
        innermost.reports() && (beside || self.after >= Stage::Level(innermost, StageKind::Check))
    }
}

/// Whether a step is said to only read; one that is not known to, or that the harness takes itself, can't be.
fn read_reads(table: &Table<'_>, action: Option<&StepAction>) -> bool {
    let reads = table.optional_boolean("reads").unwrap_or(false);
    match action {
        Some(StepAction::Run(command)) if reads && !only_reads(&command.run) => {
            table.report(InputProblem::NotOnlyReads);
        }
        Some(StepAction::Own { .. }) if reads => {
            table.report(InputProblem::NeedlessKey { key: "reads", wants: "run = \"...\" instead of do" });
        }
        _ => {}
    }
    reads
}

fn read_run(table: &Table<'_>) -> Option<StepAction> {
    let fails = table.optional_boolean("fails").unwrap_or(false);
    let status = table.optional_integer("status", 1, 125).and_then(|status| u8::try_from(status).ok());
    let keys = ["fails", "status"];
    if keys.iter().all(|key| table.has(key)) {
        table.report(InputProblem::BothKeys { keys });
    }
    let output = table.optional_prose("output");
    let run = table.string("run")?.parse(script)?;
    Some(StepAction::Run(Command { run, fails, status, output }))
}

/// A script that says something. One that negates its first command does not tell a program that is missing, or that could not
/// read its file, from one that answers "no".
pub(super) fn script(text: &str) -> Result<String, InputProblem> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match lines.next().and_then(|line| line.split_whitespace().next()) {
        None => Err(InputProblem::Empty { key: "run" }),
        Some("!") => Err(InputProblem::NegatedCommand),
        Some(_) => Ok(text.trim().to_owned()),
    }
}

fn read_action(table: &Table<'_>, word: &Text<'_>) -> Option<StepAction> {
    for key in ["run", "fails", "status", "output"].into_iter().filter(|key| table.has(key)) {
        word.report(InputProblem::NeedlessKey { key, wants: "run = \"...\" in place of do" });
    }
    Some(StepAction::Own { action: word.parse(OwnAction::parse)? })
}

/// Whether `level` takes commands once the stage `after` is done. The innermost level has no agent, but a shell on its
/// console once it has given its evidence.
fn is_up(on: &Text<'_>, level: LevelNumber, after: Stage, innermost: LevelNumber) -> Option<()> {
    let reports = level == innermost && innermost.reports();
    let kind = if reports { StageKind::Check } else { StageKind::Boot };
    let up = Stage::Level(level, kind);
    if after < up {
        on.report(InputProblem::StepTooEarly { level, after, up });
        return None;
    }
    Some(())
}

/// Whether what the harness does itself can be done in `level` once the stage `after` is done.
fn suits(
    on: &Text<'_>,
    level: LevelNumber,
    after: Stage,
    innermost: LevelNumber,
    action: &StepAction,
) -> Option<()> {
    let done = Stage::Level(innermost, StageKind::Check);
    let alone = Stage::Level(level, StageKind::Kvm);
    // Between these stages the levels inside are half up, and could not show that they live.
    let is_guest = level.below().is_some();
    let &StepAction::Own { action } = action else { return Some(()) };
    let (right_level, stages) = match action {
        OwnAction::Measure => return Some(()),
        OwnAction::Reboot => (!is_guest, vec![alone]),
        OwnAction::BootAnother => (is_guest && level.next() == Some(innermost), vec![alone]),
        OwnAction::Migrate if level == innermost => (is_guest, vec![done]),
        OwnAction::Migrate => (is_guest, vec![alone, done]),
    };
    let action = action.word();
    if !right_level {
        on.report(InputProblem::StepOnWrongLevel { level, action });
        return None;
    }
    if !stages.contains(&after) {
        on.report(InputProblem::StepAtWrongStage { action, after, stages });
        return None;
    }
    Some(())
}
