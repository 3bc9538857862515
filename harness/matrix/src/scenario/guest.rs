//! Reads what `[levels.lN]` says about a guest of the user, which only an innermost level boots.

use nestmatrix_images::is_program_name;
use nestmatrix_model::{BootKind, Guest, Launch, LevelNumber, Step, SuiteKind, Word as _};

use super::input::Table;
use super::problem::ScenarioProblem;

/// The keys of a level that are about a guest.
const KEYS: [&str; 2] = ["payload", "ready"];
const BOOTS_KERNEL: &str = "boots = \"kernel\"";
const BY_QEMU: &str = "launch = \"qemu\"";
/// The longest text that is awaited: a console's lines may come in pieces.
const LONGEST_READY: usize = 200;

/// Reads the guest of a level, if it has one.
pub(super) fn read(table: &Table<'_>) -> Option<Guest> {
    let (payload, ready) = (table.optional_string("payload"), table.optional_string("ready"));
    let Some(payload) = payload else {
        if table.has("ready") {
            table.report(ScenarioProblem::NeedlessKey { key: "ready", wants: "payload = \"...\"" });
        }
        return None;
    };
    // What else starts a level has no initramfs that an init could be added to.
    let others = [("boots", BootKind::Kernel.word(), BOOTS_KERNEL), ("launch", Launch::Qemu.word(), BY_QEMU)];
    for (key, word, wants) in others {
        if table.optional_string(key).is_some_and(|text| text.as_str() != word) {
            payload.report(ScenarioProblem::NeedlessKey { key: "payload", wants });
        }
    }
    let payload = payload.parse(name)?;
    let ready = match ready {
        Some(text) => Some(text.parse(awaited)?),
        None => None,
    };
    Some(Guest { payload, ready })
}

fn name(text: &str) -> Result<String, ScenarioProblem> {
    if SuiteKind::parse(text).is_err() && is_program_name(text) {
        return Ok(text.to_owned());
    }
    let what = "the name of a guest that was added";
    let rule = "lower-case letters, digits, `-`, `_` and `.`, as in `payloads add NAME --kernel FILE --initramfs FILE`";
    Err(ScenarioProblem::BadName { what, given: text.to_owned(), rule })
}

fn awaited(text: &str) -> Result<String, ScenarioProblem> {
    let is_in_one_line = !text.contains(char::is_control) && text.len() <= LONGEST_READY && text.trim() != "";
    if is_in_one_line {
        return Ok(text.to_owned());
    }
    let (what, rule) =
        ("the text of a guest that works", "a part of one line of its console, up to 200 bytes");
    Err(ScenarioProblem::BadName { what, given: text.escape_debug().to_string(), rule })
}

/// Reports a guest in a level that is not the innermost one of a stack: it would run no guest and bring no evidence.
pub(super) fn check_level(table: Option<&Table<'_>>, level: LevelNumber, innermost: LevelNumber) {
    let Some(table) = table else { return };
    if level == innermost && innermost.reports() {
        return;
    }
    if let Some(payload) = KEYS.into_iter().find_map(|key| table.optional_string(key)) {
        payload.report(ScenarioProblem::GuestNotInnermost { level, innermost });
    }
}

/// Why a step can't be taken in a stack whose innermost level boots a guest, if so: the guest takes no commands, so nothing could show
/// later that it is alive.
pub(super) fn against_step(step: &Step, innermost: LevelNumber) -> Option<ScenarioProblem> {
    step.needs_innermost(innermost)
        .then(|| ScenarioProblem::StepAfterGuest { step: step.name.clone(), level: innermost })
}
