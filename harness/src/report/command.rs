//! The command that tries a cell again.

use std::path::Path;

use crate::qemu::quote;
use crate::run::{Overview, OverviewCell};
use crate::stack::Metal;

/// What to type in a checkout to try `cell` again as its run did.
pub(super) fn again(overview: &Overview, cell: &OverviewCell) -> String {
    let mut command = format!("cargo xtask run-matrix '{}'", cell.record.cell);
    if cell.record.metal == Some(Metal::Native) {
        command.push_str(" --metal native");
    }
    let Some(run) = overview.runs.get(cell.run).map(|run| &run.record) else { return command };
    if run.merged.is_empty()
        && let Some(scenarios) = value_of("--scenarios", &run.arguments)
    {
        let folder = run.called_in.as_deref().unwrap_or(Path::new("")).join(scenarios);
        command.push_str(&format!(" --scenarios {}", quote(&folder.display().to_string())));
    }
    command
}

fn value_of<'a>(option: &str, arguments: &'a [String]) -> Option<&'a str> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix(option) {
            Some("") => return arguments.next().map(String::as_str),
            Some(rest) if rest.starts_with('=') => return rest.strip_prefix('='),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_an_option_is_found_however_it_is_written() {
        let arguments = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(value_of("--scenarios", &arguments("run-matrix --scenarios mine x")), Some("mine"));
        assert_eq!(value_of("--scenarios", &arguments("run-matrix --scenarios=mine x")), Some("mine"));
        assert_eq!(value_of("--scenarios", &arguments("run-matrix --scenarios")), None);
        assert_eq!(value_of("--scenarios", &arguments("run-matrix --cold")), None);
    }
}
