//! Events in the life of a level: it is paused, saved, moved to another QEMU, reset, powered off, it panics, or it gets other
//! hardware.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::{BEFORE_AGENT, Level, Stack};
use crate::script::{Act, End, KERNEL};

/// How long a QEMU reads a level that another one has written.
const WHILE_LOADING: Duration = Duration::from_millis(100);

/// What md5sum prints of the data on a disk.
const HASH: &str = "0123456789abcdef0123456789abcdef";

/// What comes before the nonce that a kernel writes to its log before it panics.
const NONCE: &str = "nestmatrix-dump-nonce=";

/// Stands for that nonce in what a level says.
const GIVEN_NONCE: &str = "{nonce}";

/// What a crash kernel prints that sees the dump.
fn crash_kernel() -> impl Iterator<Item = Act> {
    let report = format!(
        "[    0.000000] Linux version {KERNEL}\nnestmatrix: dump kernel up, kernel {KERNEL}, uptime 2.00\n\
         nestmatrix-dump-begin\nkernel={KERNEL}\nsize=1073741824\ncrashed={KERNEL}\nlog=0\nnonce={GIVEN_NONCE}\n\
         said=\nnestmatrix-dump-end"
    );
    let lines: Vec<Act> = report.lines().map(|line| Act::Say(line.to_owned())).collect();
    lines.into_iter()
}

impl Stack {
    /// Waits until neither `level` nor a level around it is paused.
    pub fn wait_while_paused(&self, level: u8) {
        let paused = |levels: &mut BTreeMap<u8, Level>| levels.range(..=level).any(|(_, outer)| outer.paused);
        let _levels = self.changed.wait_while(self.levels(), paused);
    }

    /// Whether an innermost level takes commands once it has reported.
    pub fn stays(&self, level: u8) -> bool {
        self.command_line(level).contains("nest.stay")
    }

    /// The time since the start.
    pub fn milliseconds(&self) -> u128 {
        self.began.elapsed().as_millis()
    }

    /// How often a level was reset.
    pub fn resets(&self, level: u8) -> u32 {
        self.levels().get(&level).map_or(0, |level| level.resets)
    }

    /// A level prints a line on its console.
    pub fn say(&self, level: u8, line: &str) {
        self.send_bytes(&self.channel(level, "console"), format!("{line}\r\n").as_bytes());
    }

    /// Stops a level.
    pub fn pause(&self, level: u8) {
        self.change(level, |level| level.paused = true);
        self.event(level, "STOP", &Value::Null);
    }

    /// A level gets another CPU.
    pub fn add_cpu(&self, level: u8) {
        self.change(level, |level| level.added_cpus += 1);
    }

    /// A level gets a memory module.
    pub fn add_module(&self, level: u8) {
        self.change(level, |level| level.added_modules += 1);
    }

    /// A device of this kind is plugged into a level, or none.
    pub fn plug(&self, level: u8, kind: Option<&str>) {
        self.change(level, |level| level.plugged = kind.map(str::to_owned));
    }

    /// The kind of the device that is plugged into a level.
    pub fn plugged(&self, level: u8) -> Option<String> {
        self.levels().get(&level)?.plugged.clone()
    }

    /// What a script prints that is about the hardware of a level, if it is.
    pub fn said_of_hardware(&self, level: u8, script: &str) -> Option<String> {
        let modules = self.levels().get(&level).map_or(0, |level| level.added_modules);
        let plugged = self.plugged(level);
        let if_plugged = |kind: &str, name: &str| match plugged.as_deref() == Some(kind) {
            true => format!("{name}\n"),
            false => String::new(),
        };
        match script {
            memory if memory.contains("MemTotal:") => Some(format!("{}\n", (1 << 20) + modules * 256_000)),
            found if found.contains("/sys/block/vd*/serial") => Some(if_plugged("virtio-blk-pci", "vdb")),
            found if found.contains("/sys/class/net/*/address") => {
                Some(if_plugged("virtio-net-pci", "eth0 1"))
            }
            hashes if hashes.contains("md5sum") => Some(format!("{HASH}  -\n{HASH}  -\n")),
            _ => None,
        }
    }

    /// Does what a script asks of a level's kernel: to power off, or to panic.
    pub fn obey(self: &Arc<Self>, level: u8, script: &str) {
        let nonce = script.split_once(NONCE).and_then(|(_, rest)| rest.split_whitespace().next());
        let mut usual = if script.contains("poweroff $force") {
            vec![Act::PowerOff]
        } else if script.contains("sysrq-trigger") {
            vec![Act::Say("[   12.000000] Kernel panic - not syncing: sysrq triggered crash".to_owned())]
        } else {
            return;
        };
        if usual.contains(&Act::PowerOff) {
            self.end_inside(level);
        }
        if nonce.is_some() {
            usual.extend(crash_kernel());
        }
        let stack = Arc::clone(self);
        let mut acts = self.script.goes_down.get(&level).cloned().unwrap_or(usual);
        for act in &mut acts {
            if let Act::Say(line) = act {
                *line = line.replace(GIVEN_NONCE, nonce.unwrap_or_default());
            }
        }
        std::thread::spawn(move || {
            stack.perform(level, &[Act::Wait(BEFORE_AGENT)]);
            stack.perform(level, &acts);
        });
    }

    /// Keeps a level and those inside it as they are.
    pub fn keep(&self, level: u8) {
        let kept = self.levels().range(level..).map(|(number, level)| (*number, level.clone())).collect();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        self.migrated(level, true);
    }

    /// A new QEMU of a level, and the levels inside it, are as they were kept.
    pub fn bring_back(self: &Arc<Self>, level: u8) {
        let stack = Arc::clone(self);
        std::thread::spawn(move || {
            std::thread::sleep(WHILE_LOADING);
            stack.load_kept(level);
        });
    }

    fn load_kept(&self, level: u8) {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let is_kept = kept.contains_key(&level);
        for (number, kept) in kept {
            let line = if number == level { self.command_line(level) } else { kept.line.clone() };
            self.change(number, |level| *level = Level { line, ..kept });
        }
        self.migrated(level, is_kept);
    }

    /// Writes all levels to a file, as QEMU writes the devices of a machine.
    pub fn save(&self, level: u8, file: &str) {
        let devices = serde_json::to_vec(&*self.levels()).unwrap_or_default();
        self.migrated(level, std::fs::write(file, devices).is_ok());
    }

    /// Reads all levels from such a file.
    pub fn load(&self, level: u8, file: &str) {
        let devices = std::fs::read(file).ok().and_then(|devices| serde_json::from_slice(&devices).ok());
        let is_read = devices.is_some();
        if let Some(levels) = devices {
            *self.levels() = levels;
            self.changed.notify_all();
        }
        self.migrated(level, is_read);
    }

    fn migrated(&self, level: u8, is_done: bool) {
        self.event(level, "MIGRATION", &json!({"status": if is_done { "completed" } else { "failed" }}));
    }

    /// Moves a level to its other machine.
    pub fn migrate(&self, level: u8) {
        self.event(level, "STOP", &Value::Null);
        self.change(level, |level| level.moved ^= true);
    }

    /// Ends the QEMUs of the levels inside a level.
    fn end_inside(&self, level: u8) {
        let inside: Vec<u8> = self.levels().range(level + 1..).map(|(inside, _)| *inside).collect();
        for inside in &inside {
            self.change(*inside, |level| {
                (level.gone, level.resumed, level.agent_answers) = (true, false, false)
            });
        }
        if !inside.is_empty() {
            self.ports(level + 1, false);
        }
    }

    /// Resets a level, which boots again at once.
    pub fn reset(self: &Arc<Self>, level: u8) {
        self.change(level, |level| {
            level.agent_answers = false;
            level.resets += 1;
            level.processes.clear();
        });
        self.end_inside(level);
        self.event(level, "RESET", &json!({"guest": false, "reason": "host-qmp-system-reset"}));
        let stack = Arc::clone(self);
        let up = if self.innermost() == level { Act::Report } else { Act::AgentAnswers };
        let before = self.script.after_reset.get(&level).cloned().unwrap_or_default();
        std::thread::spawn(move || {
            stack.perform(level, &before);
            stack.perform(level, &[Act::Wait(BEFORE_AGENT), up]);
        });
    }

    /// Whether the QEMU at the end of a channel is the other one of its host.
    pub fn is_other(&self, level: u8, channel: &str) -> bool {
        let second = usize::from(channel.contains("-second"));
        self.levels().get(&level).is_some_and(|level| level.is_other[second])
    }

    /// Ends the QEMU that a level is being migrated to.
    pub fn end_target(&self, level: u8, end: &End) {
        self.change(level - 1, |below| {
            let target = below.processes.values_mut().rfind(|process| process.qemu == Some(level));
            target.into_iter().for_each(|target| target.end = Some(end.clone()));
        });
    }

    /// Ends the first QEMU of a level that has moved to another one.
    pub fn end_first(&self, level: u8) {
        let end = End { status: Some(0), signal: None, stdout: String::new(), stderr: String::new() };
        self.change(level - 1, |below| {
            let first = below
                .processes
                .values_mut()
                .find(|process| process.qemu == Some(level) && process.end.is_none());
            if let Some(first) = first {
                first.end = Some(end);
            }
        });
    }
}
