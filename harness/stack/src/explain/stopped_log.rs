//! The file with what is known of the stop of a level.

use nestmatrix_model::LevelNumber;

use crate::host::Diagnostics;

/// The file with the messages about a level's stop.
pub(super) fn stopped_log(level: LevelNumber, run_state: Option<&str>, diagnostics: &Diagnostics) -> String {
    let mut text = String::new();
    if let Some(state) = run_state {
        text += &format!("{level}'s QEMU stopped it. Run state: {state}\n");
    }
    text += &format!("\nOutput of {level}'s QEMU:\n");
    text += &lines(&diagnostics.qemu);
    if let Some(below) = level.below() {
        text += &format!("\nKernel log of {below} since that QEMU was started:\n");
        if diagnostics.kernel_is_shared {
            text += "(This machine's. Lines may be about other cells' QEMUs.)\n";
        }
        text += &lines(&diagnostics.kernel);
    }
    text
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
