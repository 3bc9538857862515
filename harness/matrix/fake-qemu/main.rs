//! A fake QEMU: it takes QEMU's command line and plays a whole stack of levels, without booting any.
//!
//! The harness starts it as the outermost machine. The channels of the levels inside are ports of that machine, so one process
//! can play all monitors, agents and consoles. Each behaves as in a working stack, unless a [`script`] says otherwise. No
//! output is compared with that of the real QEMU here: tests that boot do that.

mod agent;
mod command_line;
mod console;
mod ending;
mod libvirt;
mod monitor;
mod script;
mod stack;
mod windows;

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use command_line::CommandLine;
use script::{How, Script};
use stack::Stack;

/// Why the fake can't do its work.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Its longest lifetime, so that no forgotten process stays.
const LONGEST_LIFE: Duration = Duration::from_secs(60);

/// Marks a fresh reply of an agent.
const DELIMITER: u8 = 0xff;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let line = CommandLine::read(&arguments)?;
    let script: Script = serde_json::from_slice(&std::fs::read(&line.script)?)?;
    let mut streams = Vec::new();
    for (name, path) in &line.sockets {
        streams.push((name.clone(), UnixStream::connect(path)?));
    }
    let stack = Arc::new(Stack::new(&line, script, &streams)?);
    std::thread::spawn(|| {
        std::thread::sleep(LONGEST_LIFE);
        eprintln!("fake-qemu: not ended by the harness in time");
        std::process::exit(1);
    });
    let console = format!("l{}.console", line.level);
    let mut longest = None;
    for (name, stream) in streams {
        let stack = Arc::clone(&stack);
        let is_console = name == console;
        let served = std::thread::spawn(move || serve(&stack, &name, stream));
        longest = longest.or(is_console.then_some(served));
    }
    // The harness keeps this channel open as long as it wants the machine.
    longest.ok_or("no console")?.join().map_err(|_| "the console could not be served")?;
    Ok(())
}

/// Answers the messages on a channel, to its end.
fn serve(stack: &Arc<Stack>, channel: &str, stream: UnixStream) {
    let mut parts = channel.split(['l', '.']).skip(1);
    // A second machine of a level is played by the level itself, which has one state and one console.
    let level = parts.next().and_then(|level| level.trim_end_matches("-second").parse().ok());
    let Some(level) = level else { return };
    let kind = parts.next().unwrap_or_default();
    if kind == "qmp" {
        let second = channel.contains("-second");
        stack.wait_until(level, |level| if second { level.second_launched } else { level.launched });
        let Some(greeting) =
            answer(stack, level, channel, "greeting", &Ok(monitor::greeting(stack.is_other(level, channel))))
        else {
            return;
        };
        stack.send(channel, greeting.unwrap_or_default());
    }
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
        if channel.ends_with(".console") {
            console::answer(stack, level, &String::from_utf8_lossy(&line));
            line.clear();
            continue;
        }
        let start = line.iter().take_while(|byte| **byte == DELIMITER).count();
        let request: Value = serde_json::from_slice(&line[start..]).unwrap_or_default();
        line.clear();
        let Some(command) = request["execute"].as_str() else { continue };
        let arguments = &request["arguments"];
        let usual = match kind {
            "qmp" => monitor::answer(stack, level, channel, command, arguments),
            _ => {
                stack.wait_until(level, |level| level.agent_answers);
                stack.wait_while_paused(level);
                agent::answer(stack, level, command, arguments)
            }
        };
        let Some(reply) = answer(stack, level, channel, command, &usual) else { return sink(reader) };
        let mut message = match reply {
            Ok(value) => json!({"return": value}),
            Err(why) => json!({"error": {"class": "GenericError", "desc": why}}),
        };
        if !request["id"].is_null() {
            message["id"] = request["id"].clone();
        }
        if command == "guest-sync-delimited" {
            stack.send_bytes(channel, &[DELIMITER]);
        }
        stack.send(channel, message);
        if kind == "qmp" {
            monitor::after(stack, level, channel, command, arguments);
        }
    }
}

/// The reply to a command: the usual one if the script has no other, nothing if the channel falls silent.
fn answer(
    stack: &Arc<Stack>,
    level: u8,
    channel: &str,
    command: &str,
    usual: &Result<Value, String>,
) -> Option<Result<Value, String>> {
    let text = usual.as_ref().map_or_else(String::clone, Value::to_string);
    match stack.deviation(channel, command, &text) {
        None => {}
        Some(How::Never) => return None,
        Some(How::Refuse(why)) => return Some(Err(why)),
        Some(How::Return(value)) => return Some(Ok(value)),
        Some(How::After(acts)) => stack.perform(level, &acts),
    }
    Some(usual.clone())
}

/// Reads the rest of a channel, so that its far end does not block.
fn sink(mut reader: BufReader<UnixStream>) {
    let _ = std::io::copy(&mut reader, &mut std::io::sink());
}
