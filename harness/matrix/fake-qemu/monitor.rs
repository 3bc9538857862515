//! The monitor of a level's QEMU (QMP).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::command_line::value_of;
use crate::script::End;
use crate::stack::Stack;

/// The path of the first CPU among QEMU's objects.
const CPU: &str = "/machine/unattached/device[0]";

/// The greeting of a monitor.
pub fn greeting() -> Value {
    json!({"QMP": {"version": version(), "capabilities": ["oob"]}})
}

fn version() -> Value {
    json!({"qemu": {"major": 10, "minor": 0, "micro": 0}, "package": "fake"})
}

/// The usual answer to a command.
pub fn answer(stack: &Arc<Stack>, level: u8, command: &str, arguments: &Value) -> Result<Value, String> {
    let line = stack.command_line(level);
    Ok(match command {
        "qmp_capabilities" | "cont" | "stop" | "quit" | "set-action" => json!({}),
        "system_reset" | "migrate" | "migrate-incoming" | "migrate-set-capabilities" => json!({}),
        "query-migrate" => {
            let ram = json!({"transferred": 4096, "dirty-sync-count": 1});
            json!({"status": "completed", "total-time": 5, "downtime": 1, "ram": ram})
        }
        "query-version" => version(),
        "query-kvm" => json!({"enabled": line.contains("accel=kvm"), "present": true}),
        "query-status" => stack.status(level),
        "query-cpus-fast" => json!([{"cpu-index": 0, "qom-path": CPU, "thread-id": 1, "target": "x86_64"}]),
        "query-cpu-model-expansion" => {
            json!({"model": {"name": arguments["model"]["name"], "props": {"svm": true, "npt": true}}})
        }
        "qom-get" => property(&line, arguments),
        _ => return Err(format!("The command {command} has not been found")),
    })
}

fn property(line: &str, arguments: &Value) -> Value {
    match (arguments["path"].as_str(), arguments["property"].as_str()) {
        (Some("/machine"), Some("type")) => match value_of(line, "-machine ") {
            "q35" => json!("pc-q35-10.0-machine"),
            other => json!(format!("{other}-machine")),
        },
        (Some(CPU), Some("type")) => json!(format!("{}-x86_64-cpu", value_of(line, "-cpu "))),
        (Some(CPU), Some("unavailable-features")) => json!([]),
        _ => json!(true),
    }
}

/// What a command does that has been answered on this channel.
pub fn after(stack: &Arc<Stack>, level: u8, channel: &str, command: &str, arguments: &Value) {
    let file = arguments["uri"].as_str().and_then(|uri| uri.strip_prefix("file:"));
    match (command, file) {
        ("migrate", Some(file)) => stack.save(level, file),
        ("migrate-incoming", Some(file)) => stack.load(level, file),
        ("cont", _) => stack.resume(level),
        ("system_reset", _) => stack.reset(level),
        ("migrate", None) => stack.migrate(level),
        // The level has moved to another QEMU, and lives on.
        ("quit", _) if channel != stack.channel(level, "qmp") => {}
        ("quit", _) => stack.end(
            level,
            &End { status: Some(0), signal: None, stdout: String::new(), stderr: String::new() },
            true,
        ),
        _ => {}
    }
}
