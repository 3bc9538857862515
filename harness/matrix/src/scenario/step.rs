//! Reads a `[[step]]` of a scenario.

use nestmatrix_input::FileProblem;
use nestmatrix_model::{
    Command, LevelNumber, OwnAction, Stage, StageKind, Step, StepAction, StepTimeout, Word,
};

use super::expectation::{level_in_stack, stage_in_stack};
use super::input::{Table, Text};
use super::problem::ScenarioProblem;
use super::reads::only_reads;
use super::{measure, payload, suite};

const TIMEOUT_KEYS: [&str; 2] = ["timeout-seconds", "timeout-guest-seconds"];
/// More rounds of a step are a mistake.
const MOST_ROUNDS: u32 = 10_000;
/// A day. A longer time limit is a mistake.
const LONGEST_TIMEOUT: u32 = 24 * 60 * 60;

fn read_timeout(table: &Table<'_>) -> Option<StepTimeout> {
    let keys = TIMEOUT_KEYS;
    let [real, guest] = keys.map(|key| table.optional_integer(key, 1, LONGEST_TIMEOUT));
    if keys.iter().all(|key| table.has(key)) {
        table.report(ScenarioProblem::BothKeys { keys });
    }
    real.map(StepTimeout::Real).or(guest.map(StepTimeout::Guest))
}

pub(super) const KEYS: &[&str] = &[
    "name",
    "after",
    "on",
    "do",
    "chain",
    "repeat",
    "run",
    "fails",
    "status",
    "output",
    "reads",
    "timeout-seconds",
    "timeout-guest-seconds",
    "suite",
    "tests",
    "append",
    "memory-mib",
    "known-failure",
    "payload",
    "arguments",
    "measure",
    "against",
    "times",
    "expect",
];

/// Reads one `[[step]]` of a scenario whose stacks go from L0 to `innermost`.
pub(super) fn read(table: &Table<'_>, innermost: LevelNumber) -> Option<Step> {
    let name = table.prose("name");
    let after = table.string("after").and_then(|text| text.parse(|text| stage_in_stack(text, innermost)));
    let of_payload = table.optional_string("payload");
    if !table.has("suite") && !table.has("payload") {
        for key in suite::KEYS.into_iter().filter(|key| table.has(key)) {
            table.report(ScenarioProblem::NeedlessKey { key, wants: "suite = \"...\"" });
        }
    }
    if !table.has("payload") {
        for key in payload::KEYS.into_iter().filter(|key| table.has(key)) {
            table.report(ScenarioProblem::NeedlessKey { key, wants: "payload = \"...\"" });
        }
    }
    if !table.has("measure") {
        for key in measure::KEYS.into_iter().filter(|key| table.has(key)) {
            table.report(ScenarioProblem::NeedlessKey { key, wants: "measure = \"...\"" });
        }
    }
    // Each is read, so that none of several is an unknown key.
    let (suite, of_measure) = (table.optional_string("suite"), table.optional_string("measure"));
    let (own, chain) = (table.optional_string("do"), table.optional_strings("chain"));
    let action = match (of_payload, suite, of_measure, own, chain) {
        (Some(name), ..) => payload::read(table, &name),
        (None, Some(word), ..) => suite::read(table, &word),
        (None, None, Some(word), ..) => measure::read(table, &word, innermost),
        (None, None, None, Some(word), _) => read_action(table, &word),
        (None, None, None, None, Some(words)) => read_chain(table, &words),
        // It is not as it should be, which has been reported.
        (None, None, None, None, None) if table.has("chain") || table.has("payload") => None,
        (None, None, None, None, None) => read_run(table),
    };
    let repeat = table.optional_integer("repeat", 1, MOST_ROUNDS).unwrap_or(1);
    let reads = read_reads(table, action.as_ref());
    let timeout = read_timeout(table);
    let on = table.string("on")?;
    let level = on.parse(|text| level_in_stack(text, innermost))?;
    let (name, after, action) = (name?, after?, action?);
    is_up(&on, level, after, innermost)?;
    if let StepAction::Measure(of_step) = &action {
        measure::suits(table, &on, level, after, innermost, of_step)?;
    }
    suits(&on, level, after, innermost, &action)?;
    Some(Step { name, after, on: level, action, reads, repeat, timeout })
}

/// Why a step can't have the second set of channels that it needs, if so. `before` is the level that has it from an earlier step, and
/// whether a machine that was booted beside another one uses it: that stays, while a migrated level leaves the first set.
pub(super) fn against_second_machine(
    step: &Step,
    before: Option<(LevelNumber, bool)>,
) -> Option<ScenarioProblem> {
    let level = step.second_machine()?;
    match before {
        Some((_, true)) => Some(ScenarioProblem::SecondSecondMachine),
        Some((_, false)) if step.boots_another() => Some(ScenarioProblem::SecondSecondMachine),
        None if step.boots_another() && step.repeat > 1 => Some(ScenarioProblem::SecondSecondMachine),
        Some((first, false)) if first != level => Some(ScenarioProblem::SecondMigratedLevel { first, level }),
        _ => None,
    }
}

/// Whether a step certainly changes nothing: its author says so, and every command in it is known to only read.
pub fn step_only_reads(step: &Step) -> bool {
    step.reads && matches!(&step.action, StepAction::Run(command) if only_reads(&command.run))
}

/// Whether a step is declared as one that only reads. It is an error if the step may write, or is an action of the harness.
fn read_reads(table: &Table<'_>, action: Option<&StepAction>) -> bool {
    let reads = table.optional_boolean("reads").unwrap_or(false);
    match action {
        Some(StepAction::Run(command)) if reads && !only_reads(&command.run) => {
            table.report(ScenarioProblem::NotOnlyReads);
        }
        Some(
            StepAction::Own { .. }
            | StepAction::Chain { .. }
            | StepAction::Suite(_)
            | StepAction::Payload(_)
            | StepAction::Measure(_),
        ) if reads => {
            table.report(ScenarioProblem::NeedlessKey { key: "reads", wants: "run = \"...\" instead of do" });
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
        table.report(ScenarioProblem::BothKeys { keys });
    }
    let output = table.optional_prose("output");
    let run = table.string("run")?.parse(script)?;
    Some(StepAction::Run(Command { run, fails, status, output }))
}

/// Reads a script, which must not be empty. Its first command must not be negated: that could not distinguish the answer "no"
/// from a missing program or an unreadable file.
pub(super) fn script(text: &str) -> Result<String, ScenarioProblem> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match lines.next().and_then(|line| line.split_whitespace().next()) {
        None => Err(FileProblem::Empty { key: "run" }.into()),
        Some("!") => Err(ScenarioProblem::NegatedCommand),
        Some(_) => Ok(text.trim().to_owned()),
    }
}

fn read_action(table: &Table<'_>, word: &Text<'_>) -> Option<StepAction> {
    for key in ["run", "chain", "fails", "status", "output"].into_iter().filter(|key| table.has(key)) {
        word.report(ScenarioProblem::NeedlessKey { key, wants: "run = \"...\" instead of do" });
    }
    Some(StepAction::Own { action: word.parse(OwnAction::parse)? })
}

/// Reads a chain: several events in the life of a level, one after another.
fn read_chain(table: &Table<'_>, words: &[Text<'_>]) -> Option<StepAction> {
    for key in ["run", "fails", "status", "output"].into_iter().filter(|key| table.has(key)) {
        table.report(ScenarioProblem::NeedlessKey { key, wants: "run = \"...\" instead of chain" });
    }
    let read = |word: &Text<'_>| {
        let action = word.parse(OwnAction::parse)?;
        if !action.is_lifecycle() {
            word.report(ScenarioProblem::NotInChain { action: action.word() });
            return None;
        }
        Some(action)
    };
    let chain: Vec<Option<OwnAction>> = words.iter().map(read).collect();
    Some(StepAction::Chain { chain: chain.into_iter().collect::<Option<_>>()? })
}

/// Whether `level` accepts commands after the stage `after`. The innermost level has no agent, but it has a shell on its
/// console once it has given its evidence.
pub(super) fn is_up(on: &Text<'_>, level: LevelNumber, after: Stage, innermost: LevelNumber) -> Option<()> {
    let reports = level == innermost && innermost.reports();
    let kind = if reports { StageKind::Check } else { StageKind::Boot };
    let up = Stage::Level(level, kind);
    if after < up {
        on.report(ScenarioProblem::StepTooEarly { level, after, up });
        return None;
    }
    Some(())
}

/// Whether this action of the harness is possible in `level` after the stage `after`.
fn suits(
    on: &Text<'_>,
    level: LevelNumber,
    after: Stage,
    innermost: LevelNumber,
    action: &StepAction,
) -> Option<()> {
    let done = Stage::Level(innermost, StageKind::Check);
    let alone = Stage::Level(level, StageKind::Kvm);
    // Between these stages the levels inside are only partly up, and could not show that they live.
    let is_guest = level.below().is_some();
    if let StepAction::Suite(_) = action {
        // It needs the level's agent, its QEMU and its KVM, which have been proved by then.
        let hosts = level < innermost || !innermost.reports();
        if !hosts {
            on.report(ScenarioProblem::StepOnWrongLevel { level, action: action.word() });
            return None;
        }
        if after < alone {
            on.report(ScenarioProblem::StepTooEarly { level, after, up: alone });
            return None;
        }
    }
    for action in action.actions() {
        let (right_level, stages) = match action {
            OwnAction::Measure => continue,
            OwnAction::Reboot => (!is_guest, vec![alone]),
            OwnAction::BootAnother => (is_guest && level.next() == Some(innermost), vec![alone]),
            OwnAction::Pause | OwnAction::Reset if level == innermost && is_guest => (true, vec![done]),
            OwnAction::Pause | OwnAction::Reset if is_guest || innermost.reports() => {
                (true, vec![alone, done])
            }
            OwnAction::Pause | OwnAction::Reset => (true, vec![alone]),
            OwnAction::HotplugCpu
            | OwnAction::HotplugMemory
            | OwnAction::HotplugDisk
            | OwnAction::HotplugNetwork => (is_guest && level != innermost, vec![alone, done]),
            OwnAction::Migrate
            | OwnAction::MigrateToOther
            | OwnAction::MigrateBack
            | OwnAction::SaveRestore
            | OwnAction::PowerOff
            | OwnAction::Crash
                if level == innermost =>
            {
                (is_guest, vec![done])
            }
            OwnAction::Migrate
            | OwnAction::MigrateToOther
            | OwnAction::MigrateBack
            | OwnAction::SaveRestore
            | OwnAction::PowerOff
            | OwnAction::Crash => (is_guest, vec![alone, done]),
        };
        let action = action.word();
        if !right_level {
            on.report(ScenarioProblem::StepOnWrongLevel { level, action });
            return None;
        }
        if !stages.contains(&after) {
            on.report(ScenarioProblem::StepAtWrongStage { action, after, stages });
            return None;
        }
    }
    Some(())
}
