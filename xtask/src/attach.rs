//! `shell` and `qmp`: attach to a level of a paused stack.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use nestmatrix::debug_server::DebugClient;
use nestmatrix::scenario::Filter;
use nestmatrix_model::{LevelNumber, PROGRAM};
use nestmatrix_stack::{Answer, Ask};
use nestmatrix_vmm::guest::printable;
use serde_json::{Value, json};

use crate::cli::{Qmp, Shell, json_object};
use crate::exit::Failure;
use crate::terminal::{note, print, print_to_stderr};

/// The exit code if the level or its QEMU did not answer, or refused.
const NO_ANSWER: u8 = 255;

pub fn shell(arguments: &Shell) -> Result<ExitCode, Failure> {
    Ok(code_of(run_commands(arguments)))
}

pub fn qmp(arguments: &Qmp) -> Result<ExitCode, Failure> {
    Ok(code_of(send_commands(arguments)))
}

/// Every failure has one exit code, since the others belong to the commands.
fn code_of(done: Result<u8, Failure>) -> ExitCode {
    ExitCode::from(done.unwrap_or_else(|failure| {
        failure.report();
        NO_ANSWER
    }))
}

fn run_commands(arguments: &Shell) -> Result<u8, Failure> {
    let level = arguments.level;
    let mut session = attach(arguments.cell.as_deref())?;
    let mut run = |script: String| match session.ask(level, Ask::Run { script }).map_err(Failure::error)? {
        Answer::Ended { status, signal, stdout, stderr } => {
            show(&mut std::io::stdout(), &stdout);
            show(&mut std::io::stderr(), &stderr);
            let code = signal.map(|signal| signal + 128).or(status);
            // Without a status and a signal, success is unknown.
            Ok(code.map_or(NO_ANSWER, |code| u8::try_from(code).unwrap_or(1)))
        }
        other => Ok(print_refusal(&other)),
    };
    if !arguments.command.is_empty() {
        return run(arguments.command.join(" "));
    }
    let mut code = 0;
    for_each_line(level, |line| {
        match run(line.to_owned())? {
            0 => {}
            // The reason was printed.
            NO_ANSWER => code = NO_ANSWER,
            status => note!("exit status {status}"),
        }
        Ok(())
    })?;
    Ok(code)
}

fn send_commands(arguments: &Qmp) -> Result<u8, Failure> {
    let level = arguments.level;
    let mut session = attach(arguments.cell.as_deref())?;
    let mut send = |command: String, arguments: Value| {
        match session.ask(level, Ask::Qmp { command, arguments }).map_err(Failure::error)? {
            // The human monitor's output is text.
            Answer::Returned { value: Value::String(text) } => {
                show(&mut std::io::stdout(), &text);
                Ok(0)
            }
            Answer::Returned { value } => {
                print(&format!("{}\n", serde_json::to_string_pretty(&value).map_err(Failure::error)?));
                Ok(0)
            }
            other => Ok(print_refusal(&other)),
        }
    };
    if let Some(command) = &arguments.command {
        let code = if arguments.human {
            send("human-monitor-command".to_owned(), json!({"command-line": command}))?
        } else {
            send(command.clone(), arguments.arguments.clone().unwrap_or_default())?
        };
        return Ok(code);
    }
    let mut worst = 0;
    for_each_line(level, |line| {
        worst = worst.max(match parse_command(line) {
            Ok((command, arguments)) => send(command, arguments)?,
            Err(why) => {
                note!("{why}");
                NO_ANSWER
            }
        });
        Ok(())
    })?;
    Ok(worst)
}

/// Parses a line: a whole QMP message, or a command's name with or without arguments.
fn parse_command(line: &str) -> Result<(String, Value), String> {
    if line.starts_with('{') {
        let message = json_object(line)?;
        let command = message["execute"].as_str().ok_or("a QMP message needs `execute`")?;
        return Ok((command.to_owned(), message["arguments"].clone()));
    }
    match line.split_once(char::is_whitespace) {
        Some((command, arguments)) => Ok((command.to_owned(), json_object(arguments.trim())?)),
        None => Ok((line.to_owned(), Value::Null)),
    }
}

/// Connects to the debug session whose cell matches.
fn attach(cell: Option<&str>) -> Result<DebugClient, Failure> {
    let filter = cell.map(str::to_owned).into_iter().collect::<Vec<_>>();
    let filter = Filter::parse(&filter).map_err(Failure::bad_input)?;
    let mut sessions = DebugClient::all().map_err(Failure::error)?;
    sessions.retain(|session| filter.matches(&session.greeting.cell));
    let bad_input = |why: String| Err(Failure::bad_input(miette::miette!("{why}")));
    match sessions.len() {
        1 => Ok(sessions.remove(0)),
        0 => bad_input(format!(
            "no matching stack is paused; start a debug session with `{PROGRAM} repro CELL`"
        )),
        several => {
            let names: Vec<&str> = sessions.iter().map(|session| session.greeting.cell.as_str()).collect();
            bad_input(format!("{several} stacks are paused; choose one with --cell:\n{}", names.join("\n")))
        }
    }
}

fn for_each_line(
    level: LevelNumber,
    mut act: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    let prompt = || {
        if stdin.is_terminal() {
            print_to_stderr(&format!("{level}> "));
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
        note!("");
    }
    Ok(())
}

/// Prints a level's output: unchanged to a pipe, without control characters to a terminal.
fn show(to: &mut (impl std::io::Write + std::io::IsTerminal), text: &str) {
    let shown = if to.is_terminal() {
        text.lines().map(|line| printable(line) + "\n").collect()
    } else {
        text.to_owned()
    };
    // A closed pipe is no error.
    let _ = to.write_all(shown.as_bytes());
    let _ = to.flush();
}

/// Prints why a command was refused, and returns the exit code.
fn print_refusal(answer: &Answer) -> u8 {
    match answer {
        Answer::Refused { why } => note!("{}", printable(why)),
        other => note!("unexpected answer: {other:?}"),
    }
    NO_ANSWER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_name_or_a_name_with_arguments_or_a_message() {
        let arguments = json!({"id": "x"});
        assert_eq!(parse_command("query-status"), Ok(("query-status".into(), Value::Null)));
        assert_eq!(
            parse_command("device_del  {\"id\": \"x\"}"),
            Ok(("device_del".into(), arguments.clone()))
        );
        let whole = "{\"execute\": \"device_del\", \"arguments\": {\"id\": \"x\"}}";
        assert_eq!(parse_command(whole), Ok(("device_del".into(), arguments)));
        for wrong in ["{\"arguments\": {}}", "{", "device_del x"] {
            assert!(parse_command(wrong).is_err(), "{wrong}");
        }
    }
}
