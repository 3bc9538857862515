//! A Windows level: an agent that runs PowerShell, and a Hyper-V whose guest has no channel.
//!
//! The roles of tests have commands of one line for it, `fake-windows COMMAND GUEST ...`. No PowerShell reads them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::command_line::value_of;
use crate::libvirt::exits;
use crate::script::{Act, End, KERNEL};
use crate::stack::{BEFORE_POWER_OFF, Stack};

/// What its commands begin with.
pub const COMMAND: &str = "fake-windows ";

/// The script of a command of an agent, if PowerShell runs it.
pub fn script_in(arguments: &Value) -> Option<String> {
    if arguments["path"] != "powershell.exe" {
        return None;
    }
    let encoded = arguments["arg"].as_array()?.last()?.as_str()?;
    let bytes = BASE64.decode(encoded).ok()?;
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    String::from_utf16(&units).ok()
}

/// What a Windows whose Hyper-V runs says about itself.
fn facts() -> String {
    format!(
        "kernel={KERNEL}\r\nsystem=windows-server\r\nversion=2022\r\ncpus=0-1\r\nuptime=73\r\nroot-partition=True\r\n\
         nested-hypervisor=False\r\nhypervisor=Microsoft Hyper-V\r\n"
    )
}

impl Stack {
    /// Runs a command of a role in a level.
    pub fn run_in_windows(self: &Arc<Self>, level: u8, script: &str) -> End {
        let mut words = script.rsplit(COMMAND).next().unwrap_or_default().split_whitespace();
        let command = words.next().unwrap_or_default();
        let guest = words.next().and_then(|guest| guest.strip_prefix('L')?.parse::<u8>().ok());
        self.change(level, |level| level.is_windows = true);
        let said = match (command, guest) {
            ("ready", _) => String::new(),
            ("facts", _) => facts(),
            ("diagnostics", _) => "an event of the log\r\n".to_owned(),
            ("report", _) => self.report_of_windows(level),
            ("start", Some(guest)) => self.start_in_windows(guest, script),
            ("console", Some(guest)) => self.change(guest, |guest| guest.said.clone()),
            ("state", Some(guest)) => self.change(guest, |guest| {
                let looked_at = std::mem::replace(&mut guest.looked_at, true);
                let word = match guest {
                    // Right after its start, a task may not have begun.
                    _ if !looked_at => "failed its task has ended with 0x41303",
                    guest if guest.gone => "failed it does not exist",
                    guest if guest.off => "ended Off: Operating normally",
                    _ => "running",
                };
                format!("{word}\r\n")
            }),
            ("stop", Some(guest)) => self.change(guest, |guest| {
                guest.gone = true;
                String::new()
            }),
            _ => return End { stderr: format!("{script}: no such command"), ..exits(1, String::new()) },
        };
        exits(0, said)
    }

    fn report_of_windows(&self, level: u8) -> String {
        let nonce = value_of(&self.command_line(level), "-uuid ").replace('-', "");
        format!(
            "nestmatrix-report-begin\r\nnonce={nonce}\r\nkernel={KERNEL}\r\nhypervisor=KVM\r\ncpu=Fake\r\ncpus=0-1\r\n\
             system=windows-server\r\nversion=2022\r\nnestmatrix-report-end\r\n"
        )
    }

    fn start_in_windows(self: &Arc<Self>, guest: u8, script: &str) -> String {
        self.change(guest, |guest| {
            (guest.launched, guest.resumed, guest.line) = (true, true, script.to_owned());
        });
        let usual = [Act::Report, Act::Wait(BEFORE_POWER_OFF), Act::PowerOff];
        let acts = self.script.boots.get(&guest).cloned().unwrap_or(usual.into());
        let stack = Arc::clone(self);
        std::thread::spawn(move || stack.perform(guest, &acts));
        String::new()
    }

    /// KVM's counters in a level: they grow as guests run, and guests of guests. A Windows whose Hyper-V runs is one itself.
    pub fn counters(&self, level: u8) -> String {
        let levels = self.levels();
        let ran = |level: u8| levels.get(&level).is_some_and(|level| level.resumed);
        // Each level further in adds some, so that they also grow after a restore.
        let exits = [level + 1, level + 2].into_iter().filter(|inside| ran(*inside)).count() * 9000;
        let hyper_v = if levels.get(&(level + 1)).is_some_and(|level| level.is_windows) { 500 } else { 0 };
        let nested = if ran(level + 2) { 800 } else { 0 } + hyper_v;
        format!("exits:{exits}\nnested_run:{nested}\n")
    }
}
