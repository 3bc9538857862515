//! This machine as a host: QEMUs are its processes, channels are Unix sockets in a folder of the run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nestmatrix_model::architecture::BareMachine;
use nestmatrix_vmm::guest::ExecOutput;
use nestmatrix_vmm::qemu::{
    Backing, ChannelName, ExecWrapper, ImageFile, Machine, Placement, Process, Start, quote,
};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::UnixListener;

use super::{
    Diagnostics, Facts, Host, HostError, Pending, QemuEnd, RunDelay, RunningQemu, Started, bochs, facts,
    hercules,
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
    /// The folder of what it loads while it runs, if it does.
    pub(super) fn modules(&self) -> Option<PathBuf> {
        match self {
            Self::Installed(_) => None,
            Self::Image(image) => image.modules(),
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
    /// Ties QEMU's life to the harness's.
    pub wrapper: ExecWrapper,
    /// Folder of the sockets: private, short (a socket's path has at most 107 bytes).
    pub sockets: PathBuf,
    /// Folder for what QEMU writes.
    pub records: PathBuf,
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
}

impl ThisMachine {
    fn socket(&self, channel: ChannelName) -> PathBuf {
        self.sockets.join(channel.to_string())
    }

    /// What to start for `program` of the emulator, and the arguments that go before the program's own.
    pub(super) fn command(&self, program: &str) -> (PathBuf, Vec<OsString>) {
        match &self.emulator {
            Emulator::Installed(qemu) => (qemu.clone(), Vec::new()),
            Emulator::Image(image) => image.command(program),
        }
    }

    /// A file that comes with the emulator; an installed one knows by itself where its are.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        match &self.emulator {
            Emulator::Installed(_) => name.into(),
            Emulator::Image(image) => image.data().join(name),
        }
    }

    async fn start_process(&self, machine: &Machine) -> Result<Started, HostError> {
        match machine.metal {
            Some(BareMachine::Bochs(_)) => bochs::start(self, machine).await,
            Some(BareMachine::Hercules(_)) => hercules::start(self, machine),
            Some(BareMachine::Qemu(_)) | None => self.start_qemu(machine).await,
        }
    }

    async fn start_qemu(&self, machine: &Machine) -> Result<Started, HostError> {
        let failed = |what: &str, source| HostError::System { what: what.to_owned(), source };
        // The harness listens and QEMU connects, so that every channel is open before anything can speak on it: a port
        // whose far side is not connected reads as end of file in the guest.
        let mut listeners = BTreeMap::new();
        for channel in machine.channels() {
            let listener =
                UnixListener::bind(self.socket(channel)).map_err(|e| failed("listening for QEMU", e))?;
            listeners.insert(channel, listener);
        }
        let output = self.records.join(format!("{}.qemu.log", machine.label()));
        let (program, mut arguments) = self.command(self.program);
        if let Emulator::Image(image) = &self.emulator {
            arguments.extend(["-L".into(), image.data().into()]);
        }
        arguments.extend(machine.arguments(self).into_iter().map(OsString::from));
        let mut process = Process::start(&Start {
            wrapper: &self.wrapper,
            program: &program,
            arguments: &arguments,
            environment: &[],
            folder: None,
            output: &output,
            stdio: None,
        })
        .map_err(|e| failed("starting QEMU", e))?;
        let mut streams = BTreeMap::new();
        for (channel, listener) in listeners {
            let what = format!("waiting for QEMU to open {channel}");
            let (stream, _) = opened(&mut process, listener.accept(), &what).await?;
            streams.insert(channel, stream);
            // Both ends are held now; the name in the file system has served.
            let _ = std::fs::remove_file(self.socket(channel));
        }
        Ok(Started { qemu: Box::new(LocalQemu::new(process)), streams, relay: None })
    }
}

/// The connection that an emulator makes to what listens for it, or how it ended before.
pub(super) async fn opened<S>(
    process: &mut Process,
    accept: impl Future<Output = io::Result<S>>,
    what: &str,
) -> Result<S, HostError> {
    let failed = |source| HostError::System { what: what.to_owned(), source };
    tokio::select! {
        accepted = accept => accepted.map_err(failed),
        ended = process.wait() => {
            let ended = ended.map_err(failed)?;
            Err(HostError::EndedAtStart(QemuEnd::new(ended, process.output().as_bytes())))
        }
    }
}

impl Host for ThisMachine {
    fn name(&self) -> &str {
        "this machine"
    }

    fn run<'a>(&'a self, script: &'a str) -> Pending<'a, ExecOutput> {
        Box::pin(run_in_group(&self.wrapper, script))
    }

    fn start<'a>(&'a self, machine: &'a Machine) -> Pending<'a, Started> {
        Box::pin(self.start_process(machine))
    }

    fn list_machine_types(&self) -> Pending<'_, ExecOutput> {
        Box::pin(async move {
            let (program, mut arguments) = self.command(self.program);
            arguments.extend(["-machine".into(), "help".into()]);
            output_of(tokio::process::Command::new(program).args(arguments), "asking QEMU for its machines")
                .await
        })
    }

    fn socket_path(&self, name: &str) -> String {
        self.sockets.join(name).display().to_string()
    }
}

impl Facts {
    /// What this machine says of itself.
    ///
    /// # Errors
    /// It has no shell that can be run.
    pub async fn of_this_machine(kvm_module: &str) -> Result<Self, HostError> {
        let output = run_here(&facts::script_with_counters(kvm_module)).await?;
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// Most that is kept of each stream of a command, in bytes; what comes after it is read and forgotten.
const KEPT_OUTPUT: usize = 1 << 20;

/// Runs `/bin/sh -c script` on this machine to its end, as a process group that ends with the harness, and whole if this future is
/// dropped: steps of a scenario have a time limit.
async fn run_in_group(wrapper: &ExecWrapper, script: &str) -> Result<ExecOutput, HostError> {
    let failed = |source| HostError::System { what: "running /bin/sh".to_owned(), source };
    let mut words =
        wrapper.words().iter().map(OsString::as_os_str).chain(["/bin/sh", "-c", script].map(AsRef::as_ref));
    let mut command = tokio::process::Command::new(words.next().unwrap_or_default());
    let piped = std::process::Stdio::piped;
    command.args(words).stdin(std::process::Stdio::null()).stdout(piped()).stderr(piped());
    let child = command.process_group(0).kill_on_drop(true).spawn().map_err(failed)?;
    let mut group = Group(child);
    let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
    let (stdout, stderr) = tokio::try_join!(kept(stdout), kept(stderr)).map_err(failed)?;
    let status = group.ended().await.map_err(failed)?;
    Ok(ExecOutput {
        status: status.code().map(Into::into),
        signal: status.signal().map(Into::into),
        stdout,
        stderr,
    })
}

/// Reads a stream to its end, and keeps the first `KEPT_OUTPUT` bytes.
async fn kept(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let Some(mut stream) = stream else { return Ok(kept) };
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(kept),
            read => kept.extend_from_slice(&buffer[..read.min(KEPT_OUTPUT - kept.len())]),
        }
    }
}

/// Interval at which the end of a group's leader is polled. It has mostly ended when its streams end.
const LOOK: Duration = Duration::from_millis(5);

/// The leader of a process group, all of which ends with this.
struct Group(tokio::process::Child);

impl Group {
    /// Waits for the leader's end and ends the rest of the group, which may have closed the streams and live on.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        if let Some(leader) = self.leader() {
            let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            // It is left to be reaped: only so long is its number certainly that of its group.
            while waitid(Id::Pid(leader), look)? == WaitStatus::StillAlive {
                tokio::time::sleep(LOOK).await;
            }
            self.kill();
        }
        self.0.wait().await
    }

    /// The process identifier of the leader, which is that of the group; none once it is reaped.
    fn leader(&self) -> Option<Pid> {
        self.0.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)
    }

    fn kill(&self) {
        if let Some(leader) = self.leader() {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
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

/// An emulator that is a process of this machine.
pub(super) struct LocalQemu(RefCell<Process>);

impl LocalQemu {
    pub(super) fn new(process: Process) -> Self {
        Self(RefCell::new(process))
    }

    fn answer<T>(&self, what: &str, answer: std::io::Result<T>) -> Result<T, HostError> {
        answer.map_err(|source| HostError::System { what: what.to_owned(), source })
    }
}

impl RunningQemu for LocalQemu {
    fn cpu_time(&self) -> Pending<'_, Duration> {
        let time = self.answer("reading QEMU's CPU time", self.0.borrow().cpu_time());
        Box::pin(std::future::ready(time))
    }

    fn ended(&self) -> Pending<'_, Option<QemuEnd>> {
        let mut process = self.0.borrow_mut();
        let ended = self.answer("waiting for QEMU", process.ended());
        let end = ended.map(|ended| ended.map(|ended| QemuEnd::new(ended, process.output().as_bytes())));
        Box::pin(std::future::ready(end))
    }

    fn diagnostics(&self, with_kernel: bool) -> Pending<'_, Diagnostics> {
        let script = {
            let process = self.0.borrow();
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

    fn kill(&self) -> Pending<'_, ()> {
        self.0.borrow_mut().kill();
        Box::pin(std::future::ready(Ok(())))
    }

    fn lived(&self) -> Option<Duration> {
        Some(self.0.borrow().started().elapsed())
    }

    fn run_delay(&self) -> Option<RunDelay> {
        Some(RunDelay::of(self.0.borrow().id()))
    }

    fn peak_memory_mib(&self) -> Option<u64> {
        self.0.borrow().peak_memory_mib().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn wrapper() -> ExecWrapper {
        ExecWrapper::new(Vec::<OsString>::new())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_command_gives_its_status_and_both_streams() {
        let output = run_in_group(&wrapper(), "echo out; echo err >&2; exit 3").await.unwrap();
        assert_eq!((output.status, output.signal), (Some(3), None));
        assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_command_that_prints_without_end_is_kept_in_part() {
        let output = run_in_group(&wrapper(), "head -c 3000000 /dev/zero; echo end >&2").await.unwrap();
        assert_eq!((output.stdout.len(), &*output.stderr), (KEPT_OUTPUT, &b"end\n"[..]));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn all_of_a_command_that_is_given_up_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let script = format!("sleep 1000 & echo $! >{}; wait", file.display());
        let given_up = tokio::time::timeout(Duration::from_secs(1), run_in_group(&wrapper(), &script)).await;
        assert!(given_up.is_err());
        assert_ends(&file).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_command_leaves_behind_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let script = format!("sleep 1000 >/dev/null 2>&1 & echo $! >{}; exit 3", file.display());
        let output = run_in_group(&wrapper(), &script).await.unwrap();
        assert_eq!(output.status, Some(3));
        assert_ends(&file).await;
    }

    /// Sees that the process whose identifier a file has ends.
    async fn assert_ends(file: &std::path::Path) {
        let id: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let lives = || {
            std::fs::read_to_string(format!("/proc/{id}/stat"))
                .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z")))
        };
        let began = Instant::now();
        while lives() {
            assert!(began.elapsed() < Duration::from_secs(10), "process {id} lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
