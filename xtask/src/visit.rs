//! `shell` and `qmp`: ask the levels of a stack that is held.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use nestmatrix::debug_server::DebugClient;
use nestmatrix::scenario::Filter;
use nestmatrix_model::LevelNumber;
use nestmatrix_stack::{Answer, Ask};
use nestmatrix_vmm::guest::printable;
use serde_json::{Value, json};

use crate::cli::{Qmp, Shell, json_object};
use crate::exit::Failure;
use crate::run_matrix::say;

/// What is asked could not be.
const UNASKED: u8 = 255;

pub fn shell(arguments: &Shell) -> Result<ExitCode, Failure> {
    Ok(code_of(run(arguments)))
}

pub fn qmp(arguments: &Qmp) -> Result<ExitCode, Failure> {
    Ok(code_of(ask(arguments)))
}

/// Whatever keeps a level from being asked has one exit code, which few commands have.
fn code_of(done: Result<u8, Failure>) -> ExitCode {
    ExitCode::from(done.unwrap_or_else(|failure| {
        failure.report();
        UNASKED
    }))
}

fn run(arguments: &Shell) -> Result<u8, Failure> {
    let level = arguments.level;
    let mut visit = visit(arguments.cell.as_deref())?;
    let mut ask = |script: String| match visit.ask(level, Ask::Run { script }).map_err(Failure::error)? {
        Answer::Ended { status, signal, stdout, stderr } => {
            show(&mut std::io::stdout(), &stdout);
            show(&mut std::io::stderr(), &stderr);
            let code = signal.map(|signal| signal + 128).or(status);
            // Of what ended in neither way, nothing is known, least of all that it went well.
            Ok(code.map_or(UNASKED, |code| u8::try_from(code).unwrap_or(1)))
        }
        other => Ok(refused(&other)),
    };
    if !arguments.command.is_empty() {
        return ask(arguments.command.join(" "));
    }
    let mut code = 0;
    each_line(level, |line| {
        match ask(line.to_owned())? {
            0 => {}
            // Why was told already.
            UNASKED => code = UNASKED,
            status => eprintln!("exit status {status}"),
        }
        Ok(())
    })?;
    Ok(code)
}

fn ask(arguments: &Qmp) -> Result<u8, Failure> {
    let level = arguments.level;
    let mut visit = visit(arguments.cell.as_deref())?;
    let mut ask = |command: String, given: Value| {
        match visit.ask(level, Ask::Qmp { command, arguments: given }).map_err(Failure::error)? {
            // What the human monitor says is text.
            Answer::Returned { value: Value::String(text) } => {
                show(&mut std::io::stdout(), &text);
                Ok(0)
            }
            Answer::Returned { value } => {
                say(&format!("{}\n", serde_json::to_string_pretty(&value).map_err(Failure::error)?));
                Ok(0)
            }
            other => Ok(refused(&other)),
        }
    };
    if let Some(command) = &arguments.command {
        let code = if arguments.human {
            ask("human-monitor-command".to_owned(), json!({"command-line": command}))?
        } else {
            ask(command.clone(), arguments.arguments.clone().unwrap_or_default())?
        };
        return Ok(code);
    }
    let mut worst = 0;
    each_line(level, |line| {
        worst = worst.max(match command_in(line) {
            Ok((command, given)) => ask(command, given)?,
            Err(why) => {
                eprintln!("{why}");
                UNASKED
            }
        });
        Ok(())
    })?;
    Ok(worst)
}

/// A command as it is typed: a whole message of QMP, or its name and perhaps its arguments.
fn command_in(line: &str) -> Result<(String, Value), String> {
    if line.starts_with('{') {
        let message = json_object(line)?;
        let command = message["execute"].as_str().ok_or("a message of QMP has `execute`")?;
        return Ok((command.to_owned(), message["arguments"].clone()));
    }
    match line.split_once(char::is_whitespace) {
        Some((command, arguments)) => Ok((command.to_owned(), json_object(arguments.trim())?)),
        None => Ok((line.to_owned(), Value::Null)),
    }
}

/// The stack that is held; of several the one that is meant.
fn visit(cell: Option<&str>) -> Result<DebugClient, Failure> {
    let filter = cell.map(str::to_owned).into_iter().collect::<Vec<_>>();
    let filter = Filter::parse(&filter).map_err(Failure::bad_input)?;
    let mut visits = DebugClient::all().map_err(Failure::error)?;
    visits.retain(|visit| filter.matches(&visit.greeting.cell));
    let bad = |why: String| Err(Failure::bad_input(miette::miette!("{why}")));
    match visits.len() {
        1 => Ok(visits.remove(0)),
        0 => bad("no such stack is held; `cargo xtask repro CELL` holds one".to_owned()),
        several => {
            let names: Vec<&str> = visits.iter().map(|visit| visit.greeting.cell.as_str()).collect();
            bad(format!("{several} stacks are held; say which with --cell:\n{}", names.join("\n")))
        }
    }
}

/// Does it with each line of standard input.
fn each_line(level: LevelNumber, mut act: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    let prompt = || {
        if stdin.is_terminal() {
            eprint!("{level}> ");
        }
    };
    prompt();
    for line in stdin.lock().lines() {
        let line = line.map_err(Failure::error)?;
        if !line.trim().is_empty() {
            act(line.trim())?;
        }
        prompt();
    }
    if stdin.is_terminal() {
        eprintln!();
    }
    Ok(())
}

/// Prints what a level says: as it is for a program, without what a terminal would obey for a person.
fn show(to: &mut (impl std::io::Write + std::io::IsTerminal), text: &str) {
    let shown = if to.is_terminal() {
        text.lines().map(|line| printable(line) + "\n").collect()
    } else {
        text.to_owned()
    };
    // A reader who has gone away does not want it.
    let _ = to.write_all(shown.as_bytes());
    let _ = to.flush();
}

/// Says why there is no answer, and gives the exit code for that.
fn refused(answer: &Answer) -> u8 {
    match answer {
        Answer::Refused { why } => eprintln!("{}", printable(why)),
        other => eprintln!("an answer to something else: {other:?}"),
    }
    UNASKED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_typed_in_three_ways() {
        let arguments = json!({"id": "x"});
        assert_eq!(command_in("query-status"), Ok(("query-status".into(), Value::Null)));
        assert_eq!(command_in("device_del  {\"id\": \"x\"}"), Ok(("device_del".into(), arguments.clone())));
        let whole = "{\"execute\": \"device_del\", \"arguments\": {\"id\": \"x\"}}";
        assert_eq!(command_in(whole), Ok(("device_del".into(), arguments)));
        for wrong in ["{\"arguments\": {}}", "{", "device_del x"] {
            assert!(command_in(wrong).is_err(), "{wrong}");
        }
    }
}
