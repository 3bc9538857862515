//! The levels of the fake stack: which run, what they do, and how they end.

mod lifecycle;
mod processes;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::command_line::{CommandLine, level_in, value_of};
use crate::ending::end_this_process;
use crate::libvirt::LIBVIRT_PID;
use crate::script::{Act, End, How, KERNEL, Script};
use crate::{Failure, agent, libvirt, monitor, windows};

/// The first process identifier of a command in a level.
const FIRST_PID: i64 = 100;
/// How long a level that has reported still runs, in milliseconds.
pub const BEFORE_POWER_OFF: u64 = 300;
/// How long a level that was reset has no agent, in milliseconds.
const BEFORE_AGENT: u64 = 50;
/// How many bytes of a flood are written in one step.
const FLOOD: usize = 16 << 10;

/// A level, and the QEMU that runs it. In a snapshot it is written as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Level {
    /// Its QEMU runs, or has run.
    pub launched: bool,
    /// The same of its second machine, or of the QEMU that runs it in the second machine of a level further out.
    pub second_launched: bool,
    /// Its agent answers.
    pub agent_answers: bool,
    /// Its QEMU's command line, or the script with it.
    pub line: String,
    /// It was let run.
    pub resumed: bool,
    /// Its QEMU has stopped it.
    paused: bool,
    /// It has powered off.
    pub off: bool,
    /// Its QEMU has ended.
    pub gone: bool,
    /// A Windows was asked whether it runs.
    pub looked_at: bool,
    /// It is a Windows.
    pub is_windows: bool,
    /// What it has said on its console, if no channel takes that.
    pub said: String,
    /// It was migrated, and not back: its channels, and those of the levels inside it, are now those of its second machine.
    moved: bool,
    /// Whether the other QEMU of its host runs its first machine, and its second one.
    is_other: [bool; 2],
    /// How often it was reset.
    resets: u32,
    /// How many CPUs it got while it ran.
    added_cpus: u32,
    /// How many memory modules it got while it ran.
    added_modules: u32,
    /// The kind of the device that is plugged in.
    plugged: Option<String>,
    /// The processes that its agent knows.
    pub processes: BTreeMap<i64, Process>,
    pids: i64,
}

/// A process in a level.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    /// How it ended, if it has.
    pub end: Option<End>,
    /// The level that it runs, if it is a QEMU.
    qemu: Option<u8>,
}

/// The stack.
#[derive(Debug)]
pub struct Stack {
    /// How it deviates.
    pub script: Script,
    outermost: u8,
    began: Instant,
    writers: BTreeMap<String, Mutex<UnixStream>>,
    levels: Mutex<BTreeMap<u8, Level>>,
    /// The levels of a stack that a QEMU has written to a file, as a command does.
    kept: Mutex<BTreeMap<u8, Level>>,
    changed: Condvar,
    /// How often each reply of the script has matched.
    matches: Mutex<Vec<usize>>,
}

impl Stack {
    /// A stack whose outermost QEMU has just been started.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn new(
        line: &CommandLine,
        script: Script,
        streams: &[(String, UnixStream)],
    ) -> Result<Self, Failure> {
        let mut writers = BTreeMap::new();
        for (name, stream) in streams {
            writers.insert(name.clone(), Mutex::new(stream.try_clone()?));
        }
        let outermost = Level { launched: true, line: line.text.clone(), ..Level::default() };
        Ok(Self {
            matches: Mutex::new(vec![0; script.replies.len()]),
            script,
            outermost: line.level,
            began: Instant::now(),
            writers,
            levels: Mutex::new([(line.level, outermost)].into()),
            kept: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    pub fn levels(&self) -> MutexGuard<'_, BTreeMap<u8, Level>> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn change<T>(&self, level: u8, change: impl FnOnce(&mut Level) -> T) -> T {
        let changed = change(self.levels().entry(level).or_default());
        self.changed.notify_all();
        changed
    }

    /// Waits until `level` is as wanted; forever if it never is.
    pub fn wait_until(&self, level: u8, wanted: impl Fn(&Level) -> bool) {
        let waiting = |levels: &mut BTreeMap<u8, Level>| {
            let level = levels.entry(level).or_default();
            level.gone || !wanted(level)
        };
        let _levels = self.changed.wait_while(self.levels(), waiting);
    }

    /// The command line of a level's QEMU, or the script with it.
    pub fn command_line(&self, level: u8) -> String {
        self.levels().get(&level).map(|level| level.line.clone()).unwrap_or_default()
    }

    /// The script's answer to a command whose usual reply contains `text`.
    pub fn deviation(&self, channel: &str, command: &str, text: &str) -> Option<How> {
        let mut matches = self.matches.lock().unwrap_or_else(PoisonError::into_inner);
        for (reply, matched) in self.script.replies.iter().zip(matches.iter_mut()) {
            if reply.channel == channel && reply.command == command && text.contains(&reply.contains) {
                *matched += 1;
                if *matched > reply.skip {
                    return Some(reply.how.clone());
                }
            }
        }
        None
    }

    /// Sends a message on a channel.
    pub fn send(&self, channel: &str, message: Value) {
        self.send_bytes(channel, format!("{message}\n").as_bytes());
    }

    /// Sends bytes on a channel; `false` if its far end is closed.
    pub fn send_bytes(&self, channel: &str, bytes: &[u8]) -> bool {
        let Some(writer) = self.writers.get(channel) else { return false };
        writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes).is_ok()
    }

    fn event(&self, level: u8, name: &str, data: &Value) {
        let timestamp = json!({"seconds": self.began.elapsed().as_secs(), "microseconds": 0});
        let event = json!({"event": name, "data": data, "timestamp": timestamp});
        self.send(&self.channel(level, "qmp"), event);
    }

    /// The channel of this kind on which a level, or the QEMU that runs it, speaks now.
    pub fn channel(&self, level: u8, kind: &str) -> String {
        let is_moved = self.levels().range(..=level).any(|(_, outer)| outer.moved);
        format!("l{level}{}.{kind}", if is_moved { "-second" } else { "" })
    }

    /// The state that a level's QEMU reports.
    pub fn status(&self, level: u8) -> Value {
        let levels = self.levels();
        let status = match levels.get(&level) {
            Some(level) if level.off => "shutdown",
            Some(level) if level.paused => "paused",
            Some(level) if level.resumed => "running",
            _ => "prelaunch",
        };
        json!({"status": status, "running": status == "running"})
    }

    /// Lets a level run. The first time, it boots.
    pub fn resume(self: &Arc<Self>, level: u8) {
        self.event(level, "RESUME", &Value::Null);
        let before = self.change(level, |level| {
            level.paused = false;
            std::mem::replace(&mut level.resumed, true)
        });
        if before {
            return;
        }
        let usual = || {
            let up = Act::Say(format!("nestmatrix: level up, kernel {KERNEL}"));
            match self.innermost() == level {
                true if self.stays(level) => vec![Act::Report],
                true => vec![Act::Report, Act::Wait(BEFORE_POWER_OFF), Act::PowerOff],
                false => vec![up, Act::AgentAnswers],
            }
        };
        let acts = self.script.boots.get(&level).cloned().unwrap_or_else(usual);
        let stack = Arc::clone(self);
        std::thread::spawn(move || stack.perform(level, &acts));
    }

    /// The innermost level: the one that has no agent.
    fn innermost(&self) -> u8 {
        let levels = self.outermost..;
        levels.take_while(|level| self.writers.contains_key(&format!("l{level}.agent"))).count() as u8
            + self.outermost
    }

    /// Performs the acts of a level, as long as its QEMU runs.
    pub fn perform(&self, level: u8, acts: &[Act]) {
        let console = self.channel(level, "console");
        let is_channel = self.writers.contains_key(&console);
        let say = |line: &str| match is_channel {
            true => _ = self.send_bytes(&console, format!("{line}\r\n").as_bytes()),
            false => self.change(level, |level| level.said.push_str(&format!("{line}\r\n"))),
        };
        for act in acts {
            if self.levels().get(&level).is_some_and(|level| level.gone) {
                return;
            }
            match act {
                Act::Wait(milliseconds) => std::thread::sleep(Duration::from_millis(*milliseconds)),
                Act::Say(line) => say(line),
                Act::Begin(text) => _ = self.send_bytes(&console, text.as_bytes()),
                Act::Flood(kind, text) => {
                    let channel = self.channel(level, kind);
                    let text = text.repeat(FLOOD / text.len().max(1));
                    while self.send_bytes(&channel, text.as_bytes()) {}
                }
                Act::AgentAnswers => self.change(level, |level| level.agent_answers = true),
                Act::Report => {
                    let line = self.command_line(level);
                    let nonce = value_of(&line, "nest.nonce=");
                    let report =
                        ["nestmatrix-report-begin", &format!("nonce={nonce}"), &format!("kernel={KERNEL}")];
                    let hypervisor =
                        if is_channel { "hypervisor=KVM" } else { "hypervisor=Microsoft Hyper-V" };
                    let end = [hypervisor, "cpu=Fake", "uptime=1.00", "nestmatrix-report-end"];
                    let ready = self.stays(level).then_some("nestmatrix-shell-ready");
                    report.into_iter().chain(end).chain(ready).for_each(say);
                }
                Act::PowerOff => {
                    self.change(level, |level| (level.off, level.agent_answers) = (true, false));
                    self.event(level, "SHUTDOWN", &json!({"guest": true, "reason": "guest-shutdown"}));
                    self.event(level, "STOP", &Value::Null);
                }
                Act::Event(name, data) => self.event(level, name, data),
                Act::EndTarget(end) => self.end_target(level, end),
                Act::EndQemu(end) => self.end(level, end, true),
                Act::EndQemuUnseen(end) => self.end(level, end, false),
            }
        }
    }

    /// Ends a level's QEMU, and with it all levels inside; `seen` if the level below closes its ports.
    pub fn end(&self, level: u8, end: &End, seen: bool) {
        if level == self.outermost {
            end_this_process(end);
        }
        for inside in level.. {
            let known = self.levels().contains_key(&inside);
            if !known {
                break;
            }
            self.change(inside, |level| (level.gone, level.agent_answers) = (true, false));
        }
        self.change(level - 1, |below| {
            let qemu = below.processes.values_mut().find(|process| process.qemu == Some(level));
            if let Some(process) = qemu {
                process.end = Some(end.clone());
            }
        });
        if seen {
            self.ports(level, false);
        }
    }

    /// The QEMU of the level below `level` reports that the ports of `level` and of all inside it are open, or closed.
    fn ports(&self, level: u8, open: bool) {
        let ports = self.writers.keys().filter(|channel| channel.as_str() >= format!("l{level}").as_str());
        for id in ports {
            self.event(level - 1, "VSERPORT_CHANGE", &json!({"id": id, "open": open}));
        }
    }

    /// How the test wants a command in a level to end, if it says so.
    pub fn scripted_end(&self, level: u8, script: &str) -> Option<&End> {
        let of_command =
            |rule: &&crate::script::Command| rule.level == level && script.contains(&rule.contains);
        self.script.commands.iter().find(of_command).map(|rule| &rule.end)
    }

    /// Starts a command in a level; returns its process identifier.
    pub fn execute(self: &Arc<Self>, level: u8, script: &str) -> i64 {
        let rule =
            self.script.commands.iter().find(|rule| rule.level == level && script.contains(&rule.contains));
        let domain = if rule.is_none() { libvirt::created_by(script) } else { None };
        // The script itself ends as soon as libvirt has started the machine.
        let created = domain.as_deref().and_then(level_in);
        let line = domain.unwrap_or_else(|| script.to_owned());
        let qemu = if rule.is_none() && script.contains("exec ") { level_in(script) } else { None };
        let killed = script.strip_prefix("kill -9 ").and_then(|pid| pid.trim().parse::<i64>().ok());
        let end = match (rule, qemu) {
            (Some(_), _) | (None, Some(_)) => None,
            (None, None) if created.is_some() => Some(libvirt::exits(0, format!("{LIBVIRT_PID}\n"))),
            (None, None) if script.contains(windows::COMMAND) => Some(self.run_in_windows(level, script)),
            (None, None) if script.contains(libvirt::PROCESS) => Some(self.asked_about_domain(level, script)),
            (None, None) => {
                let resets = self.levels().get(&level).map_or(0, |level| level.resets);
                let line = self.command_line(level);
                let uptime = format!("uptime={:.3}\n", self.milliseconds() as f64 / 1000.0);
                let cpus = format!("0-{}\n", self.levels().get(&level).map_or(0, |level| level.added_cpus));
                self.obey(level, script);
                let stdout = match script {
                    hardware if self.said_of_hardware(level, hardware).is_some() => {
                        self.said_of_hardware(level, hardware).unwrap_or_default()
                    }
                    vitals if vitals.contains("echo uptime=$u;") => uptime,
                    switched_on if switched_on.contains("cpu[0-9]*/online") => cpus,
                    _ => String::new(),
                };
                let stdout = stdout + &agent::printed(script, &line, &self.counters(level), resets);
                Some(End { status: Some(0), signal: None, stdout, stderr: String::new() })
            }
        };
        let pid = self.change(level, |level| {
            level.pids += 1;
            let pid = FIRST_PID + level.pids;
            level.processes.insert(pid, Process { end, qemu });
            if created.is_some() {
                level.processes.insert(LIBVIRT_PID, Process { end: None, qemu: created });
            }
            pid
        });
        if let Some(inner) = qemu.or(created) {
            self.ports(inner, true);
            let in_second = self.levels().range(..inner).any(|(_, outer)| outer.second_launched);
            let is_second = script.contains(&format!("-name L{inner}-second"));
            let second = in_second || is_second;
            let is_other = script.contains("-qemu-root");
            let (is_next, was_there) = self.change(inner, |level| {
                let was_there = if is_second { level.second_launched } else { level.launched };
                (level.launched, level.line) = (true, line);
                level.is_other[usize::from(is_second)] = is_other;
                level.second_launched |= second;
                let is_next = std::mem::take(&mut level.gone);
                if is_next {
                    // What it was before comes back if it is restored.
                    (level.resumed, level.off, level.paused) = (false, false, false);
                    (level.added_cpus, level.added_modules, level.plugged) = (0, 0, None);
                    level.resets += 1;
                    level.processes.clear();
                }
                (is_next, was_there)
            });
            if is_next {
                self.send(&self.channel(inner, "qmp"), monitor::greeting(is_other));
            } else if was_there && !in_second {
                // The level is migrated to a machine on channels that another one has left.
                let channel = format!("l{inner}{}.qmp", if is_second { "-second" } else { "" });
                self.send(&channel, monitor::greeting(is_other));
            }
        }
        if let Some(pid) = killed {
            let qemu = self.levels().get(&level).and_then(|level| level.processes.get(&pid)?.qemu);
            let end = End { status: None, signal: Some(9), stdout: String::new(), stderr: String::new() };
            qemu.into_iter().for_each(|qemu| self.end(qemu, &end, true));
        }
        if let Some(rule) = rule.cloned()
            && let Some(after) = rule.after
        {
            let stack = Arc::clone(self);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(after));
                stack.change(level, |level| {
                    level.processes.insert(pid, Process { end: Some(rule.end), qemu: None });
                });
            });
        }
        pid
    }
}
