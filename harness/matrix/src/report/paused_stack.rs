//! A paused stack, as the user of a debug session sees it.

use nestmatrix_model::PROGRAM;
use nestmatrix_stack::{PausedLevel, PausedStack};

use super::style::{Role, Style};
use super::text::one_line;

/// Where a stack is paused, what runs in it, and how to reach each level.
pub fn paused_stack(paused: &PausedStack, style: &Style) -> String {
    let PausedStack { stage, stop, levels } = paused;
    let mut text = match stop {
        Some(stop) => format!("stopped in {stage}: {}", one_line(&stop.symptom.to_string())),
        None => format!("paused after {stage}"),
    };
    text = style.paint(Role::Heading, &text) + "\n\n";
    for level in levels {
        text += &reach(level);
    }
    text + "\nPress Ctrl-C to end the session"
}

fn reach(level: &PausedLevel) -> String {
    let PausedLevel { level, kernel, qemu, console, monitor, shell, exec: _ } = level;
    let version =
        |what: &str, version: &Option<String>| version.as_ref().map(|v| format!("{what} {}", one_line(v)));
    let known = [version("kernel", kernel), version("in QEMU", qemu)];
    let known: Vec<String> = known.into_iter().flatten().collect();
    let known = match &known[..] {
        [] if console.is_none() && !monitor && !shell => "not running yet".to_owned(),
        [] => "starting".to_owned(),
        known => known.join(", "),
    };
    let mut text = format!("  {level}  {known}\n");
    let ways = [
        shell.then(|| format!("{PROGRAM} shell {level}")),
        monitor.then(|| format!("{PROGRAM} qmp {level}")),
        console.as_ref().map(|console| format!("tail -f {}", console.display())),
    ];
    for way in ways.into_iter().flatten() {
        text += &format!("      {way}\n");
    }
    text
}

/// Something that happened in a stack while it was paused.
pub fn event(what: &str, style: &Style) -> String {
    format!("{} {}", style.paint(Role::Heading, "meanwhile:"), one_line(what))
}
