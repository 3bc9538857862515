//! A stack that is held, as whoever holds it is told of it.

use nestmatrix_stack::{PausedLevel, PausedStack};

use super::style::{Role, Style};
use super::text::one_line;

/// Where a stack is held, what is in it, and how each level is reached.
pub fn held(held: &PausedStack, style: &Style) -> String {
    let PausedStack { stage, stop, levels } = held;
    let mut text = match stop {
        Some(stop) => format!("stopped in {stage}: {}", one_line(&stop.symptom.to_string())),
        None => format!("held after {stage}"),
    };
    text = style.paint(Role::Heading, &text) + "\n\n";
    for level in levels {
        text += &reach(level);
    }
    text + "\nCtrl-C lets it go"
}

fn reach(level: &PausedLevel) -> String {
    let PausedLevel { level, kernel, qemu, console, monitor, shell } = level;
    let version =
        |what: &str, version: &Option<String>| version.as_ref().map(|v| format!("{what} {}", one_line(v)));
    let known = [version("kernel", kernel), version("in QEMU", qemu)];
    let known: Vec<String> = known.into_iter().flatten().collect();
    let known = match &known[..] {
        [] if console.is_none() && !monitor && !shell => "does not run yet".to_owned(),
        [] => "is on its way".to_owned(),
        known => known.join(", "),
    };
    let mut text = format!("  {level}  {known}\n");
    let ways = [
        shell.then(|| format!("cargo xtask shell {level}")),
        monitor.then(|| format!("cargo xtask qmp {level}")),
        console.as_ref().map(|console| format!("tail -f {}", console.display())),
    ];
    for way in ways.into_iter().flatten() {
        text += &format!("      {way}\n");
    }
    text
}

/// Something that happened in a stack while it was held.
pub fn heard(what: &str, style: &Style) -> String {
    format!("{} {}", style.paint(Role::Heading, "meanwhile:"), one_line(what))
}
