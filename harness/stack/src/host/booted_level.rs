//! A booted level as a host: commands go through its guest agent, channels are its virtio-serial ports, images its disks.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::iter;
use std::rc::Rc;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::{Agent, ExecOutput};
use nestmatrix_vmm::qemu::{Backing, ChannelName, ImageFile, Machine, OtherQemu, Part, Placement};
use nestmatrix_vmm::shell::quote;

use crate::traffic::prepare_script;

use super::process_in_level::ProcessInLevel;
use super::{
    ClosingReport, CommandLine, Host, HostError, MachineHost, NearEnds, Pending, Relay, RunningProcess,
    facts, other_qemu, swtpm,
};

/// Where a level keeps the harness's files; a file system in memory.
pub(super) const FOLDER: &str = "/run/nest";

/// Where a level without virtio has the images of the levels inside it; not below /run, where its init mounts a file system.
pub(crate) const IMAGES: &str = "nest";

/// How much a level's kernel reads ahead from its disks, in KiB: each request costs several exits, and by default requests are
/// small.
const READ_AHEAD_KIB: u32 = 4096;
/// How many bytes a level reads from its disks in one step. The parts of a disk begin at multiples of it.
const BLOCK: u64 = 64 << 10;

/// The exit status of a script that could not prepare a file for its QEMU.
pub(super) const NOT_BROUGHT: i64 = 97;
/// The script's output in that case, before the file's name. Both together distinguish this exit from QEMU's own.
pub(super) const NOT_COPIED: &str = "nestmatrix could not copy";

/// Copies QEMU's output from now on to a file that can be read while it runs: an agent returns the output of a command only at
/// its end. The shell becomes QEMU, so the number in the file's name is QEMU's process identifier.
const COPY_OUTPUT: &str = "log=/run/nest/qemu-$$.log
if mkfifo $log.pipe 2>/dev/null; then tee $log <$log.pipe >&2 & exec 2>$log.pipe; rm -f $log.pipe; fi
";

/// Sets the highest speed of the serial line of an agent without virtio. The agent itself has chosen a third of it, and an emulated line is
/// as slow as a real one. It is set while the agent runs, since the agent adds its choice to what was set before.
const QUICK_LINE: &str = "stty -F /dev/ttyS1 115200\n";

/// The number of kernel messages that are read at the end from a level without virtio.
const LAST_MESSAGES: usize = 60;

/// A level whose agent answers.
#[derive(Debug, Clone)]
pub struct BootedLevel {
    name: String,
    agent: Agent,
    qemu: String,
    relay: Option<Relay>,
}

impl BootedLevel {
    /// The level with this number and agent; the program `qemu` runs its guests. With `relay` it has no virtio: channels are
    /// its TCP ports, and images are on its root file system.
    pub fn new(level: LevelNumber, agent: Agent, qemu: impl Into<String>, relay: Option<Relay>) -> Self {
        Self { name: level.to_string(), agent, qemu: qemu.into(), relay }
    }

    /// The script that prepares the machine's files and becomes the program.
    fn start_script(&self, machine: &Machine, command: &CommandLine) -> String {
        let CommandLine { program, arguments } = command;
        let words = iter::once(program.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
        let words: Vec<String> = words.map(|word| quote(&word.to_string_lossy())).collect();
        let swtpm = swtpm::script(machine, self);
        format!("{}{swtpm}{COPY_OUTPUT}exec {}\n", self.files_script(machine), words.join(" "))
    }

    /// The script that prepares the machine's files.
    fn files_script(&self, machine: &Machine) -> String {
        let files = match self.relay {
            Some(_) => format!("mkdir -p {FOLDER}\n"),
            None => WithVirtio.bring_files(machine),
        };
        let other = machine.other_qemu.as_ref().map(|other| other_qemu::script(other, self));
        let files = files + &other.unwrap_or_default();
        let has_traffic = machine.hardware.has_traffic();
        files + &if has_traffic { prepare_script(&machine.label()) } else { String::new() }
    }

    fn process(&self, pid: i64) -> Box<dyn RunningProcess> {
        Box::new(ProcessInLevel::new(&self.name, &self.agent, pid))
    }

    fn placement(&self) -> &'static dyn Placement {
        match self.relay {
            Some(_) => &WithoutVirtio,
            None => &WithVirtio,
        }
    }
}

impl Placement for BootedLevel {
    fn channel(&self, channel: ChannelName) -> Option<Backing> {
        self.placement().channel(channel)
    }

    fn file(&self, file: &ImageFile) -> String {
        self.placement().file(file)
    }

    fn disk(&self, file: &ImageFile) -> String {
        self.placement().disk(file)
    }

    fn path_of(&self, name: &str) -> String {
        self.placement().path_of(name)
    }

    fn has_block_devices(&self) -> bool {
        self.placement().has_block_devices()
    }
}

/// Where a level without virtio keeps the files of its QEMU.
pub struct WithoutVirtio;

impl Placement for WithoutVirtio {
    fn channel(&self, channel: ChannelName) -> Option<Backing> {
        Some(Backing::Listen(channel.tcp_port()))
    }

    fn file(&self, file: &ImageFile) -> String {
        format!("/{IMAGES}/{}", file.serial)
    }

    fn disk(&self, file: &ImageFile) -> String {
        self.file(file)
    }

    fn path_of(&self, name: &str) -> String {
        format!("{FOLDER}/{name}")
    }
}

/// Where a level with virtio keeps the files of its QEMU, whatever starts that.
pub struct WithVirtio;

impl WithVirtio {
    /// The script that finds the level's disks and ports.
    fn find_devices() -> String {
        // A disk is identified by its serial number: no kernel promises the order of disks. sysfs prints the number without a
        // line end, so `read` fails although it has read it. Ports appear one after the other, so the level's init, which waits
        // only for its agent's port, may have missed some.
        format!(
            "mkdir -p {FOLDER}/disk && cd /sys/block && for d in vd*; do
               s=; read -r s <$d/serial || :; [ -z \"$s\" ] || ln -sf /dev/$d {FOLDER}/disk/$s
             echo {READ_AHEAD_KIB} >$d/queue/read_ahead_kb
             done
             cd /sys/class/virtio-ports && for p in vport*; do
               n=; read -r n <$p/name || :; [ -e /dev/virtio-ports/$n ] || ln -s ../$p /dev/virtio-ports/$n
             done\n"
        )
    }

    /// The script that prepares the files that a QEMU for `machine` reads in the level.
    pub fn bring_files(&self, machine: &Machine) -> String {
        let mut script = format!(
            "{}not_copied() {{ rm -f {FOLDER}/$1.part; echo \"{NOT_COPIED} $1\" >&2; exit {NOT_BROUGHT}; }}\n",
            Self::find_devices()
        );
        for file in machine.boot.files() {
            // QEMU maps an initramfs as a file. A block device is not enough: its size reads as 0. A file that a first
            // machine's QEMU has mapped must not be written again for a second one.
            let copy = quote(&self.file(file));
            let read = match &file.part {
                None => format!("cat {}", quote(&self.disk(file))),
                Some(part) => dd(part),
            };
            // A copy gets its name only when it is complete; otherwise the next attempt would use half a file.
            let _ = writeln!(
                script,
                "[ -e {copy} ] || {{ {read} >{copy}.part && mv {copy}.part {copy}; }} || not_copied {}",
                file.serial
            );
        }
        script
    }
}

/// The command that reads a part of a disk. What it prints may be a little longer than the part; the rest is zeros.
pub(super) fn dd(Part { disk, bytes }: &Part) -> String {
    format!(
        "dd if={FOLDER}/disk/{disk} bs={BLOCK} skip={} count={} status=none",
        bytes.start / BLOCK,
        (bytes.end - bytes.start).div_ceil(BLOCK)
    )
}

impl Placement for WithVirtio {
    fn channel(&self, channel: ChannelName) -> Option<Backing> {
        Some(Backing::Port(format!("/dev/virtio-ports/{}", channel.port_name())))
    }

    fn file(&self, file: &ImageFile) -> String {
        format!("{FOLDER}/{}", file.serial)
    }

    fn disk(&self, file: &ImageFile) -> String {
        format!("{FOLDER}/disk/{}", file.serial)
    }

    fn path_of(&self, name: &str) -> String {
        format!("{FOLDER}/{name}")
    }

    fn has_block_devices(&self) -> bool {
        true
    }
}

impl Host for BootedLevel {
    fn name(&self) -> &str {
        &self.name
    }

    fn run<'a>(&'a self, script: &'a str) -> Pending<'a, ExecOutput> {
        Box::pin(async move { Ok(self.agent.run(script).await?) })
    }

    fn agent(&self) -> Option<&Agent> {
        Some(&self.agent)
    }

    fn before_facts(&self) -> &'static str {
        if self.relay.is_some() { QUICK_LINE } else { "" }
    }

    fn machine_host(self: Rc<Self>) -> Result<Rc<dyn MachineHost>, HostError> {
        Ok(self)
    }

    fn closing_report(&self) -> Pending<'_, ClosingReport> {
        // If it has no virtio, its agent's serial line is slow.
        let last = self.relay.as_ref().map(|_| LAST_MESSAGES);
        Box::pin(async move {
            let output = self.run(&facts::closing_script(last)).await?;
            Ok(ClosingReport::parse(&String::from_utf8_lossy(&output.stdout)))
        })
    }
}

impl MachineHost for BootedLevel {
    fn qemu(&self) -> CommandLine {
        CommandLine { program: self.qemu.as_str().into(), arguments: Vec::new() }
    }

    fn other_qemu(&self, other: &OtherQemu) -> Result<CommandLine, HostError> {
        let arguments = [other_qemu::root(other, self), other.program.clone()];
        Ok(CommandLine { program: "chroot".into(), arguments: arguments.map(OsString::from).into() })
    }

    fn list_other_machine_types<'a>(&'a self, other: &'a OtherQemu) -> Pending<'a, ExecOutput> {
        Box::pin(async move {
            let devices = match self.relay {
                Some(_) => format!("mkdir -p {FOLDER}\n"),
                None => WithVirtio::find_devices(),
            };
            let (prepare, root) = (other_qemu::script(other, self), other_qemu::root(other, self));
            let list = format!("chroot {} {} -machine help", quote(&root), quote(&other.program));
            Ok(self.agent.run(&[devices, prepare, list].concat()).await?)
        })
    }

    fn list_machine_types(&self) -> Pending<'_, ExecOutput> {
        Box::pin(async move {
            let script = format!(
                "{0} -machine help || exit
                 {0} -L help | while read -r d; do
                   for f in $d/*.rom $d/*.bin; do [ ! -e $f ] || echo \"firmware ${{f##*/}}\"; done
                 done",
                self.qemu
            );
            Ok(self.agent.run(&script).await?)
        })
    }

    fn near_ends(&self, channels: Vec<ChannelName>) -> Result<NearEnds, HostError> {
        Ok(match self.relay.clone() {
            None => NearEnds::Held,
            Some(relay) => NearEnds::Relayed { relay, level: self.name.clone(), channels },
        })
    }

    fn start<'a>(
        &'a self,
        machine: &'a Machine,
        command: CommandLine,
    ) -> Pending<'a, Box<dyn RunningProcess>> {
        Box::pin(async move {
            let pid = self.agent.start(&self.start_script(machine, &command)).await?;
            Ok(self.process(pid))
        })
    }

    fn bring_files(&self, machine: &Machine) -> Result<String, HostError> {
        Ok(self.files_script(machine))
    }

    fn adopt(&self, pid: i64) -> Option<Box<dyn RunningProcess>> {
        Some(self.process(pid))
    }
}
