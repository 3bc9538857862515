//! The guest agent of a level, and the commands that it runs there.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::command_line::value_of;
use crate::script::{End, KERNEL};
use crate::stack::{Process, Stack};
use crate::windows;

/// The usual answer to a command.
pub fn answer(stack: &Arc<Stack>, level: u8, command: &str, arguments: &Value) -> Result<Value, String> {
    let number =
        |name: &str| arguments[name].as_i64().ok_or_else(|| format!("Parameter '{name}' is missing"));
    Ok(match command {
        "guest-sync-delimited" => arguments["id"].clone(),
        "guest-ping" | "guest-file-close" | "guest-file-flush" => json!({}),
        "guest-exec" => {
            let of_windows = windows::script_in(arguments);
            let script = of_windows.as_deref().or(arguments["arg"][1].as_str()).unwrap_or_default();
            json!({"pid": stack.execute(level, script)})
        }
        "guest-exec-status" => match stack.look(level, number("pid")?) {
            // An agent forgets a process once it has reported its end.
            None => return Err("Invalid parameter 'pid'".to_owned()),
            Some(Process { end: None, .. }) => json!({"exited": false}),
            Some(Process { end: Some(end), .. }) => status(&end),
        },
        // Files that are copied into the level; no process has this number.
        "guest-file-open" if arguments["mode"] == "w" => json!(0),
        "guest-file-write" => {
            let written = BASE64.decode(arguments["buf-b64"].as_str().unwrap_or_default());
            json!({"count": written.map_err(|e| e.to_string())?.len(), "eof": false})
        }
        "guest-file-open" => {
            // The harness only reads /proc/PID/stat; the handle is the process.
            let path = arguments["path"].as_str().unwrap_or_default();
            let pid = path.strip_prefix("/proc/").and_then(|path| path.strip_suffix("/stat"));
            let pid = pid.and_then(|pid| pid.parse::<i64>().ok()).filter(|pid| stack.runs(level, *pid));
            json!(pid.ok_or_else(|| format!("failed to open file '{path}': No such file or directory"))?)
        }
        "guest-file-read" => {
            let pid = number("handle")?;
            let ticks = stack.cpu_ticks(level, pid);
            let stat = stat(pid, ticks);
            json!({"count": stat.len(), "buf-b64": BASE64.encode(stat), "eof": true})
        }
        _ => return Err(format!("The command {command} has not been found")),
    })
}

/// `/proc/PID/stat` of a QEMU that has used this CPU time.
pub fn stat(pid: i64, ticks: u128) -> String {
    format!("{pid} (qemu-system-x86) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5 0 0\n")
}

fn status(end: &End) -> Value {
    let mut status = json!({"exited": true});
    if let Some(code) = end.status {
        status["exitcode"] = json!(code);
    }
    if let Some(signal) = end.signal {
        status["signal"] = json!(signal);
    }
    for (name, text) in [("out-data", &end.stdout), ("err-data", &end.stderr)] {
        if !text.is_empty() {
            status[name] = json!(BASE64.encode(text));
        }
    }
    status
}

/// What a script of the harness prints in a level whose KVM works, whose machine has this command line, with these counters, and that
/// was reset this many times. Of other scripts nothing is known: they print nothing and succeed.
pub fn printed(script: &str, line: &str, counters: &str, resets: u32) -> String {
    if script.contains("nestmatrix-report-begin") {
        let nonce = value_of(line, "-uuid ").replace('-', "");
        format!(
            "nestmatrix-report-begin\nnonce={nonce}\nkernel={KERNEL}\nhypervisor=KVM\ncpu=Fake\nsystem=debian\nversion=13\n\
             nestmatrix-report-end\n"
        )
    } else if script.contains("kvm-device") {
        format!(
            "kernel={KERNEL}\nos=debian\nos-version=13\nflags=: fpu svm npt\nkvm-device\nkvm-module\nnested=1\ncounters\n{counters}"
        )
    } else if script.contains("nestmatrix-uptime=") {
        format!("[    0.000000] Linux version {KERNEL}\ncounters\n{counters}")
    } else if script.contains("-qemu-root") {
        "Supported machines are:\nq35                  Standard PC\npc-q35-7.2           Standard PC\n"
            .to_owned()
    } else if script.contains("-machine help") {
        "Supported machines are:\nmicrovm              microvm (i386)\nq35                  Standard PC\n\
         pc-q35-10.0          Standard PC\npc-q35-7.2           Standard PC\nfirmware qboot.rom\n"
            .to_owned()
    } else if script.contains("/kdump/load.sh") {
        "reserved=201326592\nkexec=0\nloaded=1\n".to_owned()
    } else if script.contains("wc -c") {
        "4096\n".to_owned()
    } else if script.contains("/comm;") {
        "0\n".to_owned()
    } else if script.contains("boot_id") {
        format!("boot-{resets}\n")
    } else {
        String::new()
    }
}
