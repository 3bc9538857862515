//! A booted level as a host: commands go through its guest agent, channels are its virtio-serial ports, images its disks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::guest::{Agent, ExecOutput, ExecState};
use crate::qemu::{Backing, ChannelName, Ended, ImageFile, Machine, Placement, cpu_time_in_stat, quote};
use crate::scenario::LevelNumber;

use super::{Host, HostError, Pending, QemuEnd, RunningQemu, Started};

/// Where a level keeps what the harness puts there; a file system in memory.
const FOLDER: &str = "/run/nest";

/// A level whose agent answers.
#[derive(Debug, Clone)]
pub struct BootedLevel {
    name: String,
    agent: Agent,
    qemu: &'static str,
}

impl BootedLevel {
    /// The level with this number and agent, in which guests are run by the program `qemu`.
    pub fn new(level: LevelNumber, agent: Agent, qemu: &'static str) -> Self {
        Self { name: level.to_string(), agent, qemu }
    }

    /// The script that brings the machine's files in place and becomes its QEMU.
    fn start_script(&self, machine: &Machine) -> String {
        // A disk is known by its serial number: the order in which a kernel finds disks is nobody's promise. sysfs gives
        // the number without a line end, so `read` fails and has read all the same. Ports appear one after the other, so
        // the level's init, which waits for its agent's only, may have missed some.
        let mut script = format!(
            "mkdir -p {FOLDER}/disk && cd /sys/block && for d in vd*; do
               s=; read -r s <$d/serial || :; [ -z \"$s\" ] || ln -sf /dev/$d {FOLDER}/disk/$s
             done
             cd /sys/class/virtio-ports && for p in vport*; do
               n=; read -r n <$p/name || :; [ -e /dev/virtio-ports/$n ] || ln -s ../$p /dev/virtio-ports/$n
             done\n"
        );
        for file in [&machine.boot.kernel, &machine.boot.initramfs] {
            // QEMU maps an initramfs as a file, which a block device can't be: its size reads as 0. What a first machine's
            // QEMU has mapped must not be written again for a second one.
            let (disk, copy) = (quote(&self.disk(file)), quote(&self.file(file)));
            let _ = writeln!(script, "[ -e {copy} ] || cat {disk} >{copy} || exit 97");
        }
        let words = machine.arguments(self);
        let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
        let _ = writeln!(script, "exec {} {}", self.qemu, words.join(" "));
        script
    }
}

impl Placement for BootedLevel {
    fn channel(&self, channel: ChannelName) -> Backing {
        Backing::Port(format!("/dev/virtio-ports/{}", channel.port_name()))
    }

    fn file(&self, file: &ImageFile) -> String {
        format!("{FOLDER}/{}", file.serial)
    }

    fn disk(&self, file: &ImageFile) -> String {
        format!("{FOLDER}/disk/{}", file.serial)
    }
}

impl Host for BootedLevel {
    fn name(&self) -> &str {
        &self.name
    }

    fn run<'a>(&'a self, script: &'a str) -> Pending<'a, ExecOutput> {
        Box::pin(async move { Ok(self.agent.run(script).await?) })
    }

    fn start<'a>(&'a self, machine: &'a Machine) -> Pending<'a, Started> {
        Box::pin(async move {
            let pid = self.agent.start(&self.start_script(machine)).await?;
            let qemu = QemuInLevel {
                host: self.name.clone(),
                agent: self.agent.clone(),
                pid,
                end: RefCell::default(),
            };
            Ok(Started { qemu: Box::new(qemu), streams: BTreeMap::new() })
        })
    }

    fn socket_path(&self, name: &str) -> String {
        format!("{FOLDER}/{name}")
    }
}

/// A QEMU that runs in a level.
struct QemuInLevel {
    host: String,
    agent: Agent,
    pid: i64,
    /// Kept because an agent forgets a command once it has told its end.
    end: RefCell<Option<QemuEnd>>,
}

impl RunningQemu for QemuInLevel {
    fn cpu_time(&self) -> Pending<'_, Duration> {
        Box::pin(async move {
            let stat = self.agent.read_start(&format!("/proc/{}/stat", self.pid)).await?;
            let stat = String::from_utf8_lossy(&stat);
            cpu_time_in_stat(&stat).ok_or_else(|| HostError::Command {
                what: "reading QEMU's CPU time".into(),
                host: self.host.clone(),
                why: format!("its process {} is gone", self.pid),
            })
        })
    }

    fn ended(&self) -> Pending<'_, Option<QemuEnd>> {
        Box::pin(async move {
            let known = self.end.borrow().clone();
            if known.is_some() {
                return Ok(known);
            }
            if let ExecState::Ended(output) = self.agent.look(self.pid).await? {
                *self.end.borrow_mut() = Some(qemu_end(&output));
            }
            Ok(self.end.borrow().clone())
        })
    }

    fn kill(&self) -> Pending<'_, ()> {
        Box::pin(async move {
            self.agent.run(&format!("kill -9 {}", self.pid)).await?;
            Ok(())
        })
    }
}

fn qemu_end(output: &ExecOutput) -> QemuEnd {
    let ended = match (output.signal, output.status) {
        (Some(signal), _) => Ended::Signalled(signal),
        (None, status) => Ended::Exited(status.unwrap_or_default()),
    };
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    QemuEnd { ended, output: String::from_utf8_lossy(&said).into_owned() }
}
