//! The monitor of a level's QEMU (QMP).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::command_line::value_of;
use crate::script::End;
use crate::stack::Stack;

/// The path of the first CPU among QEMU's objects.
const CPU: &str = "/machine/unattached/device[0]";

/// The identifier of a TPM, and of the channel to swtpm.
const TPM: &str = "nest-tpm";

/// The path of a device that is plugged in.
const PLUGGED: &str = "/machine/peripheral/nest-plugged";

/// The machine of the innermost level has no slots for CPUs, as microvm.
const WITHOUT_SLOTS: &str = "microvm";

/// The greeting of a monitor.
pub fn greeting(is_other: bool) -> Value {
    json!({"QMP": {"version": version(is_other), "capabilities": ["oob"]}})
}

/// The version of a QEMU, which may be the other one of its host.
fn version(is_other: bool) -> Value {
    let (major, minor) = if is_other { (7, 2) } else { (10, 0) };
    json!({"qemu": {"major": major, "minor": minor, "micro": 0}, "package": "fake"})
}

/// The usual answer to a command.
pub fn answer(
    stack: &Arc<Stack>,
    level: u8,
    channel: &str,
    command: &str,
    arguments: &Value,
) -> Result<Value, String> {
    let line = stack.command_line(level);
    Ok(match command {
        "qmp_capabilities" | "cont" | "stop" | "quit" | "set-action" => json!({}),
        "device_add" | "device_del" | "object-add" => json!({}),
        "blockdev-add" | "blockdev-del" | "netdev_add" | "netdev_del" => json!({}),
        "qom-get" if arguments["path"] == PLUGGED => {
            json!(stack.plugged(level).ok_or_else(|| format!("Path '{PLUGGED}' not found"))?)
        }
        "system_reset" | "migrate" | "migrate-incoming" => json!({}),
        "migrate-set-capabilities" | "migrate-set-parameters" => json!({}),
        "query-migrate" => {
            let ram = json!({"transferred": 4096, "dirty-sync-count": 1});
            json!({"status": "completed", "total-time": 5, "downtime": 1, "ram": ram})
        }
        "query-version" => version(stack.is_other(level, channel)),
        "query-kvm" => json!({"enabled": line.contains("accel=kvm"), "present": true}),
        "query-status" => stack.status(level),
        "query-cpus-fast" => cpus(&line).0.map(cpu).collect(),
        "query-hotpluggable-cpus" if value_of(&line, "-machine ") != WITHOUT_SLOTS => {
            (0..cpus(&line).1).map(|_| json!({"type": "cpu", "vcpus-count": 1})).collect()
        }
        "query-memory-size-summary" => json!({"base-memory": memory(&line), "plugged-memory": 0}),
        "query-cpu-model-expansion" => {
            json!({"model": {"name": arguments["model"]["name"], "props": {"svm": true, "npt": true}}})
        }
        "qom-get" => property(&line, arguments)?,
        "query-blockstats" => json!([]),
        "send-key" => json!({}),
        "query-tpm" => tpm(&line),
        "query-chardev" => json!([{"label": TPM, "filename": "unix:", "frontend-open": true}]),
        _ => return Err(format!("The command {command} has not been found")),
    })
}

/// The TPM of a machine, which swtpm plays.
fn tpm(line: &str) -> Value {
    let options = json!({"type": "emulator", "data": {"chardev": TPM}});
    device_type(line, TPM)
        .map(|model| json!({"id": TPM, "model": model, "options": options}))
        .into_iter()
        .collect()
}

/// The numbers of the CPUs that a machine has, and how many it can have.
fn cpus(line: &str) -> (std::ops::Range<u32>, u32) {
    let count = value_of(line, "-smp ").parse().unwrap_or(1);
    (0..count, value_of(line, ",maxcpus=").parse().unwrap_or(count))
}

fn cpu(number: u32) -> Value {
    let path = CPU.replace('0', &number.to_string());
    json!({"cpu-index": number, "qom-path": path, "thread-id": number + 1, "target": "x86_64"})
}

/// The size of a machine's memory in bytes.
fn memory(line: &str) -> u64 {
    let mib: u64 = value_of(line, "-m ").trim_end_matches('M').parse().unwrap_or_default();
    mib << 20
}

/// The type of the device with this identifier.
fn device_type(line: &str, id: &str) -> Option<Value> {
    let (before, _) = line.split_once(&format!(",id={id}"))?;
    // The back ends of a TPM have its identifier too, and come first.
    let (before, _) = match before.ends_with("-chardev socket") {
        true => line.rsplit_once(&format!(",id={id}"))?,
        false => (before, ""),
    };
    Some(json!(before.rsplit(['=', ' ', '\'']).next()?))
}

/// The value of a property in the text after `-cpu MODEL,`.
fn cpu_value(line: &str, property: &str) -> Option<Value> {
    let (_, options) = line.split_once("-cpu ")?;
    let options = options.split([' ', '\'', '\n']).next()?;
    let value = options.split(',').find_map(|option| option.strip_prefix(property)?.strip_prefix('='))?;
    Some(match value {
        "on" => json!(true),
        "off" => json!(false),
        other => {
            other.strip_prefix("0x").map_or(json!(other), |hex| json!(u64::from_str_radix(hex, 16).ok()))
        }
    })
}

fn property(line: &str, arguments: &Value) -> Result<Value, String> {
    let device = arguments["path"].as_str().and_then(|path| path.strip_prefix("/machine/peripheral/"));
    if let (Some(id), Some("type")) = (device, arguments["property"].as_str()) {
        return device_type(line, id).ok_or_else(|| format!("Device '{id}' not found"));
    }
    let cpu = arguments["property"].as_str().filter(|_| arguments["path"] == CPU);
    if let Some(value) = cpu.and_then(|property| cpu_value(line, property)) {
        return Ok(value);
    }
    Ok(match (arguments["path"].as_str(), arguments["property"].as_str()) {
        (Some("/machine"), Some("type")) => match value_of(line, "-machine ") {
            "q35" => json!("pc-q35-10.0-machine"),
            other => json!(format!("{other}-machine")),
        },
        (Some(CPU), Some("type")) => json!(format!("{}-x86_64-cpu", value_of(line, "-cpu "))),
        (Some(CPU), Some("unavailable-features")) => json!([]),
        // A 32-bit model has no long mode.
        (Some(CPU), Some("lm")) => json!(!value_of(line, "-cpu ").starts_with("486")),
        _ => json!(true),
    })
}

/// What a command does that has been answered on this channel.
pub fn after(stack: &Arc<Stack>, level: u8, channel: &str, command: &str, arguments: &Value) {
    let uri = arguments["uri"].as_str().unwrap_or_default();
    let file = uri.strip_prefix("file:");
    let is_command = uri.starts_with("exec:");
    match (command, file) {
        ("stop", _) => stack.pause(level),
        ("device_add", _) => match arguments["driver"].as_str() {
            Some("cpu") => stack.add_cpu(level),
            Some("pc-dimm") => stack.add_module(level),
            kind => stack.plug(level, kind),
        },
        ("device_del", _) => stack.plug(level, None),
        ("migrate", _) if is_command => stack.keep(level),
        ("migrate-incoming", _) if is_command => stack.bring_back(level),
        ("migrate", Some(file)) => stack.save(level, file),
        ("migrate-incoming", Some(file)) => stack.load(level, file),
        ("cont", _) => stack.resume(level),
        ("system_reset", _) => stack.reset(level),
        ("migrate", None) => stack.migrate(level),
        // The level has moved to another QEMU, and lives on.
        ("quit", _) if channel != stack.channel(level, "qmp") => stack.end_first(level),
        ("quit", _) => stack.end(
            level,
            &End { status: Some(0), signal: None, stdout: String::new(), stderr: String::new() },
            true,
        ),
        _ => {}
    }
}
