//! This machine as a host: QEMUs are its processes, channels are Unix sockets in a folder of the run.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_vmm::guest::ExecOutput;
use nestmatrix_vmm::qemu::{
    Backing, ChannelName, DiskFormat, ExecWrapper, ImageFile, Machine, Placement, Process, Start, Stdio,
};
use nestmatrix_vmm::sandbox::Network;
use nestmatrix_vmm::shell::quote;
use tokio::net::UnixListener;

use super::process_group::run_in_group;
use super::{
    CommandLine, Diagnostics, Facts, Host, HostError, MachineHost, NearEnds, Pending, QemuEnd, RunDelay,
    RunningProcess, facts, swtpm,
};

/// Where the emulator on this machine comes from.
#[derive(Debug, Clone)]
pub enum Emulator {
    /// An installed QEMU.
    Installed(PathBuf),
    /// One unpacked from packages.
    Image(Box<nestmatrix_images::Emulator>),
}

impl Emulator {
    /// The folder of modules that it loads while it runs, if any.
    pub(crate) fn modules(&self) -> Option<PathBuf> {
        match self {
            Self::Installed(_) => None,
            Self::Image(image) => image.modules(),
        }
    }

    /// Whether `program` is the user's build.
    pub(crate) fn is_own(&self, program: &str) -> bool {
        matches!(self, Self::Image(image) if image.own(program).is_some())
    }

    /// The executable for `program`, and the arguments before the program's own.
    pub(super) fn command(&self, program: &str) -> (PathBuf, Vec<OsString>) {
        match self {
            Self::Installed(path) => (path.clone(), Vec::new()),
            Self::Image(image) => image.command(program),
        }
    }

    /// The environment that QEMU needs.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        match self {
            Self::Installed(_) => Vec::new(),
            Self::Image(image) => image.environment(),
        }
    }
}

/// This machine.
#[derive(Debug, Clone)]
pub struct ThisMachine {
    /// The emulator that runs the outermost level.
    pub emulator: Emulator,
    /// Its program.
    pub program: &'static str,
    /// The swtpm that plays the TPM of the outermost level, if that has one.
    pub swtpm: Option<Emulator>,
    /// Ends QEMU together with the harness.
    pub wrapper: ExecWrapper,
    /// Folder of the sockets: private, short (a socket's path has at most 107 bytes).
    pub sockets: PathBuf,
    /// Private folder of files that may be large, such as the CD that an emulator boots.
    pub files: PathBuf,
    /// Folder for QEMU's output.
    pub records: PathBuf,
    /// Whether the machine that the emulator plays will be saved in a snapshot.
    pub saves: bool,
}

impl Placement for ThisMachine {
    fn channel(&self, channel: ChannelName) -> Option<Backing> {
        Some(Backing::Socket(self.socket(channel).display().to_string()))
    }

    fn file(&self, file: &ImageFile) -> String {
        file.path.display().to_string()
    }

    fn disk(&self, file: &ImageFile) -> String {
        file.path.display().to_string()
    }

    fn path_of(&self, name: &str) -> String {
        self.sockets.join(name).display().to_string()
    }

    fn format(&self, file: &ImageFile) -> DiskFormat {
        file.format
    }
}

impl ThisMachine {
    fn socket(&self, channel: ChannelName) -> PathBuf {
        self.sockets.join(channel.to_string())
    }

    /// The executable for `program` of the emulator, and the arguments before the program's own.
    pub(crate) fn command(&self, program: &str) -> (PathBuf, Vec<OsString>) {
        self.emulator.command(program)
    }

    /// The file that the emulator writes the devices of its machine to, and reads them from. It may use the folder of the stack's files,
    /// and no folder of snapshots.
    pub(crate) fn devices_file(&self) -> PathBuf {
        self.files.join("devices")
    }

    /// A file that comes with the emulator; an installed emulator finds its files itself.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        match &self.emulator {
            Emulator::Installed(_) => name.into(),
            Emulator::Image(image) => image.data().join(name),
        }
    }

    fn listen(&self, channels: Vec<ChannelName>) -> std::io::Result<NearEnds> {
        let listen = |channel| {
            let socket = self.socket(channel);
            let listener = UnixListener::bind(&socket)?;
            Ok((channel, socket, listener))
        };
        let sockets = channels.into_iter().map(listen).collect::<std::io::Result<_>>()?;
        Ok(NearEnds::Listening(sockets))
    }

    fn start_process(&self, machine: &Machine, command: &CommandLine) -> std::io::Result<Process> {
        let mut environment = self.emulator.environment();
        environment.extend(self.confines(machine).then(|| self.environment_of_confined()));
        Process::start(&Start {
            wrapper: &self.wrapper_of(machine, Network::None, None),
            program: &command.program,
            arguments: &command.arguments,
            environment: &environment,
            folder: None,
            output: &self.records.join(format!("{}.qemu.log", machine.label())),
            stdio: Stdio::Record,
        })
    }
}

impl Host for ThisMachine {
    fn name(&self) -> &str {
        "this machine"
    }

    fn run<'a>(&'a self, script: &'a str) -> Pending<'a, ExecOutput> {
        Box::pin(run_in_group(&self.wrapper, script))
    }

    fn machine_host(self: Rc<Self>) -> Result<Rc<dyn MachineHost>, HostError> {
        Ok(self)
    }
}

impl MachineHost for ThisMachine {
    fn qemu(&self) -> CommandLine {
        let (program, mut arguments) = self.command(self.program);
        if let Emulator::Image(image) = &self.emulator {
            arguments.extend(["-L".into(), image.data().into()]);
        }
        CommandLine { program, arguments }
    }

    fn list_machine_types(&self) -> Pending<'_, ExecOutput> {
        Box::pin(async move {
            let (program, mut arguments) = self.command(self.program);
            arguments.extend(["-machine".into(), "help".into()]);
            let mut command = tokio::process::Command::new(program);
            command.args(arguments).envs(self.emulator.environment());
            output_of(&mut command, "asking QEMU for its machines").await
        })
    }

    fn near_ends(&self, channels: Vec<ChannelName>) -> Result<NearEnds, HostError> {
        self.listen(channels).map_err(failed("listening for QEMU"))
    }

    fn bring_files(&self, machine: &Machine) -> Result<String, HostError> {
        Err(HostError::Command {
            what: format!("preparing {}", machine.label()),
            host: self.name().to_owned(),
            why: "no libvirt of this machine is used".to_owned(),
        })
    }

    fn start<'a>(
        &'a self,
        machine: &'a Machine,
        mut command: CommandLine,
    ) -> Pending<'a, Box<dyn RunningProcess>> {
        Box::pin(async move {
            if self.confines(machine) {
                command.arguments.extend(self.filter(machine).await);
            }
            let swtpm = swtpm::start(self, machine).await?;
            let process = self.start_process(machine, &command).map_err(failed("starting QEMU"))?;
            let swtpm = swtpm.map(RefCell::new);
            Ok(Box::new(LocalProcess { process: RefCell::new(process), swtpm, keeper: None })
                as Box<dyn RunningProcess>)
        })
    }

    fn this_machine(&self) -> Option<&ThisMachine> {
        Some(self)
    }
}

/// This machine's answer to an attempt.
fn failed(what: &str) -> impl Fn(std::io::Error) -> HostError {
    move |source| HostError::System { what: what.to_owned(), source }
}

impl Facts {
    /// What this machine reports about itself.
    ///
    /// # Errors
    /// Its shell can't be run.
    pub async fn of_this_machine(kvm_module: &str) -> Result<Self, HostError> {
        let output = run_here(&facts::script_with_counters(kvm_module)).await?;
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// Runs `/bin/sh -c script` on this machine to its end.
pub async fn run_here(script: &str) -> Result<ExecOutput, HostError> {
    output_of(tokio::process::Command::new("/bin/sh").args(["-c", script]), "running /bin/sh").await
}

async fn output_of(command: &mut tokio::process::Command, what: &str) -> Result<ExecOutput, HostError> {
    let output = command
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| HostError::System { what: what.into(), source })?;
    Ok(ExecOutput {
        status: output.status.code().map(Into::into),
        signal: output.status.signal().map(Into::into),
        stdout: output.stdout,
        stderr: output.stderr,
    })
}

/// A process of this machine that runs a machine.
pub(crate) struct LocalProcess {
    process: RefCell<Process>,
    /// The swtpm of the machine, which ends with it.
    swtpm: Option<RefCell<Process>>,
    /// What saves the machine and checks that it was restored, if that is not done through a monitor.
    keeper: Option<Box<dyn MachineKeeper>>,
}

/// Saves the machine of a process of this machine, and checks that it was restored.
pub(crate) trait MachineKeeper {
    /// As [`RunningProcess::save`].
    fn save<'a>(&'a self, devices: &'a Path) -> Pending<'a, File>;
    /// As [`RunningProcess::check_restored`], for the process with this identifier.
    fn check_restored(&self, id: i32) -> Result<(), HostError>;
}

impl LocalProcess {
    pub(crate) fn new(process: Process) -> Self {
        Self { process: RefCell::new(process), swtpm: None, keeper: None }
    }

    /// Its process identifier.
    pub(crate) fn id(&self) -> i32 {
        self.process.borrow().id()
    }

    /// The same, whose machine this saves and checks.
    pub(crate) fn kept_by(self, keeper: impl MachineKeeper + 'static) -> Self {
        Self { keeper: Some(Box::new(keeper)), ..self }
    }

    fn answer<T>(&self, what: &str, answer: std::io::Result<T>) -> Result<T, HostError> {
        answer.map_err(|source| HostError::System { what: what.to_owned(), source })
    }
}

impl RunningProcess for LocalProcess {
    fn cpu_time(&self) -> Pending<'_, Duration> {
        let time = self.answer("reading QEMU's CPU time", self.process.borrow().cpu_time());
        Box::pin(std::future::ready(time))
    }

    fn ended(&self) -> Pending<'_, Option<QemuEnd>> {
        let mut process = self.process.borrow_mut();
        let ended = self.answer("waiting for QEMU", process.ended());
        let end = ended.map(|ended| ended.map(|ended| QemuEnd::new(ended, process.output().as_bytes())));
        Box::pin(std::future::ready(end))
    }

    fn diagnostics(&self, with_kernel: bool) -> Pending<'_, Diagnostics> {
        let script = {
            let process = self.process.borrow();
            Diagnostics::script(
                process.id().into(),
                &quote(&process.output_file().to_string_lossy()),
                with_kernel,
            )
        };
        Box::pin(async move {
            let output = run_here(&script).await?;
            Ok(Diagnostics::parse(&String::from_utf8_lossy(&output.stdout)))
        })
    }

    fn save<'a>(&'a self, devices: &'a Path) -> Pending<'a, File> {
        match &self.keeper {
            Some(keeper) => keeper.save(devices),
            None => Box::pin(std::future::ready(Err(HostError::unsavable()))),
        }
    }

    fn check_restored(&self) -> Result<(), HostError> {
        self.keeper.as_ref().map_or(Ok(()), |keeper| keeper.check_restored(self.id()))
    }

    fn kill(&self) -> Pending<'_, ()> {
        self.process.borrow_mut().kill();
        Box::pin(std::future::ready(Ok(())))
    }

    fn swtpm_end(&self) -> Option<QemuEnd> {
        let mut swtpm = self.swtpm.as_ref()?.borrow_mut();
        let ended = swtpm.ended().ok().flatten()?;
        Some(QemuEnd::new(ended, swtpm.output().as_bytes()))
    }

    fn swtpm_state<'a>(&'a self, _: &'a str) -> Pending<'a, Option<char>> {
        let id = self.swtpm.as_ref().map(|swtpm| swtpm.borrow().id());
        let stat = id.and_then(|id| std::fs::read_to_string(format!("/proc/{id}/stat")).ok());
        Box::pin(std::future::ready(Ok(stat.and_then(|stat| swtpm::state_in(&stat)))))
    }

    fn lived(&self) -> Option<Duration> {
        Some(self.process.borrow().started().elapsed())
    }

    fn run_delay(&self) -> Option<RunDelay> {
        Some(RunDelay::of(self.process.borrow().id()))
    }

    fn peak_memory_mib(&self) -> Option<u64> {
        self.process.borrow().peak_memory_mib().ok()
    }
}
