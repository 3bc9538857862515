//! Windows as a launcher: Hyper-V or WSL 2 of a Windows level, by the commands of the level's role.
//!
//! No process of the harness and no QEMU runs such a machine. It has no monitor, and no channel of it reaches this machine: the role
//! prints all that its console has said so far, again and again, and what is new is passed on, so that its report, its record and the
//! watch over it are the same as those of any other level. The role also says whether it still runs, and stops it.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_images::{RoleCommand, RoleValues};
use nestmatrix_vmm::guest::excerpt;
use nestmatrix_vmm::qemu::{Boot, ChannelKind, Ended, Machine};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use super::{Launcher, Started};
use crate::host::{Diagnostics, Host, HostError, Pending, QemuEnd, RunningProcess, WindowsLevel};

/// The label of the volume that brings a guest's files.
const VOLUME: &str = nestmatrix_images::GuestVolume::LABEL;
/// The pause between two looks at a guest's console. Each look starts a PowerShell in the level.
const PAUSE: Duration = Duration::from_millis(500);
/// How much of a guest's console is passed on, in bytes. All of it is read at each look.
const MOST_OUTPUT: usize = 1 << 20;

/// Lets the Windows level around it start the machine.
pub(super) struct Windows;

impl Launcher for Windows {
    fn launch<'a>(&'a self, machine: &'a Machine, host: &'a Rc<dyn Host>) -> Pending<'a, Started> {
        Box::pin(start(machine, Rc::clone(host)))
    }
}

async fn start(machine: &Machine, host: Rc<dyn Host>) -> Result<Started, HostError> {
    let (what, name) =
        (format!("starting {} by {}", machine.label(), machine.launch), host.name().to_owned());
    let refused = |why: String| HostError::Command { what: what.clone(), host: name.clone(), why };
    let windows = host.windows().ok_or_else(|| refused("it is no Windows level".to_owned()))?;
    let role = windows.role();
    if role.name() != machine.launch.to_string() || !role.has(RoleCommand::Start) {
        return Err(refused(format!("it is prepared for the role {}", role.name())));
    }
    let Boot::Volume(boot) = &machine.boot else {
        return Err(refused("no volume brings its files".to_owned()));
    };
    let (cpus, memory_mib) = (machine.hardware.cpus, machine.memory_mib);
    let values = RoleValues::new(&machine.label(), cpus, memory_mib, &boot.parameters, VOLUME);
    let values = values.map_err(|e| refused(e.to_string()))?;
    windows.ask(RoleCommand::Start, &values).await?;
    let pair = || -> io::Result<_> {
        let (near, far) = UnixStream::pair()?;
        Ok((near, Console::new(far)))
    };
    let (near, console) =
        pair().map_err(|source| HostError::System { what: "making a console".into(), source })?;
    let (seen, end) = (Cell::new(false), OnceCell::new());
    let guest = Rc::new(Guest { windows, values, console: Mutex::new(console), seen, end });
    let reader = tokio::task::spawn_local(read_on(Rc::clone(&guest))).abort_handle();
    let streams = BTreeMap::from([(machine.channel(ChannelKind::Console), near)]);
    Ok(Started { process: Box::new(WindowsGuest { guest, reader }), streams, relay: None })
}

/// A guest that a Windows level has started.
struct Guest {
    windows: Rc<WindowsLevel>,
    values: RoleValues,
    console: Mutex<Console>,
    /// That it does not run, by the last look.
    seen: Cell<bool>,
    /// Why it does not run, once that is known.
    end: OnceCell<Gone>,
}

/// Why a guest does not run, by its role.
#[derive(Debug)]
enum Gone {
    /// It ended by itself, and why.
    Ended(String),
    /// What should have started or kept it failed, and how.
    Failed(String),
}

/// What the guest's console has said, on its way to the harness.
struct Console {
    far: UnixStream,
    /// How many bytes of what it has said were passed on.
    passed_on: usize,
    /// It has said more than is passed on, or the harness does not read it any more.
    is_closed: bool,
    /// The last reason why it could not be read.
    trouble: Option<String>,
    /// Whether what was passed on last ends a line.
    is_at_line_start: bool,
    /// A line of the harness that waits for the end of the guest's.
    held: Option<String>,
}

/// Reads the console again and again.
async fn read_on(guest: Rc<Guest>) {
    loop {
        guest.read_console().await;
        if guest.console.lock().await.is_closed {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Guest {
    async fn ask(&self, command: RoleCommand) -> Result<Vec<u8>, HostError> {
        self.windows.ask(command, &self.values).await
    }

    /// Passes on what the console has said since the last time.
    async fn read_console(&self) {
        // One look at a time, so that no byte is passed on twice.
        let mut console = self.console.lock().await;
        if console.is_closed {
            return;
        }
        let passed_on = match self.ask(RoleCommand::Console).await {
            Ok(said) => console.pass_on(&said).await,
            // The end of the level around it is noticed elsewhere.
            Err(HostError::Agent(_)) => Ok(()),
            Err(error) => console.note(&error.to_string()).await,
        };
        console.is_closed |= passed_on.is_err();
    }

    /// Whether it runs; otherwise why it does not.
    async fn state(&self) -> Result<Option<Gone>, HostError> {
        let printed = self.ask(RoleCommand::State).await?;
        let printed = String::from_utf8_lossy(&printed);
        let said = printed.trim_start_matches('\u{feff}').trim();
        let (word, reason) = said.split_once(' ').unwrap_or((said, ""));
        let reason = excerpt(reason.trim());
        match word {
            "running" if reason.is_empty() => Ok(None),
            "ended" => Ok(Some(Gone::Ended(reason))),
            "failed" => Ok(Some(Gone::Failed(reason))),
            _ => {
                let why = format!(
                    "it printed {:?}, and neither `running` nor `ended REASON` nor `failed REASON`",
                    excerpt(said)
                );
                Err(self.windows.failed(RoleCommand::State, why))
            }
        }
    }

    /// The end of this guest for those who know only QEMUs.
    fn end_as(&self, gone: &Gone) -> QemuEnd {
        match gone {
            Gone::Ended(reason) => QemuEnd::new(Ended::Unseen, reason.as_bytes()),
            Gone::Failed(why) => {
                let not_started = self.windows.failed(RoleCommand::State, why.clone()).to_string();
                QemuEnd { not_started: Some(not_started), ..QemuEnd::new(Ended::Unseen, why.as_bytes()) }
            }
        }
    }
}

impl Console {
    fn new(far: UnixStream) -> Self {
        Self { far, passed_on: 0, is_closed: false, trouble: None, is_at_line_start: true, held: None }
    }

    async fn pass_on(&mut self, said: &[u8]) -> io::Result<()> {
        let new = said.get(self.passed_on..said.len().min(MOST_OUTPUT)).unwrap_or_default();
        self.passed_on += new.len();
        let end_of_line = new.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        match (self.held.take(), end_of_line) {
            (Some(note), Some(end)) => {
                self.far.write_all(&new[..end]).await?;
                self.far.write_all(note.as_bytes()).await?;
                self.far.write_all(&new[end..]).await?;
            }
            (held, _) => {
                self.held = held;
                self.far.write_all(new).await?;
            }
        }
        if let Some(last) = new.last() {
            self.is_at_line_start = *last == b'\n';
        }
        if said.len() > MOST_OUTPUT {
            self.is_closed = true;
            // Nothing more of the guest's line follows.
            if !std::mem::replace(&mut self.is_at_line_start, true) {
                self.far.write_all(b"\n").await?;
            }
            self.note(&format!("no more than {} KiB of this console are read", MOST_OUTPUT >> 10)).await?;
        }
        Ok(())
    }

    /// Adds a line of the harness, once for each reason, when the guest has ended its own line.
    async fn note(&mut self, why: &str) -> io::Result<()> {
        if self.trouble.as_deref() == Some(why) {
            return Ok(());
        }
        self.trouble = Some(why.to_owned());
        let note = format!("nestmatrix: {why}\n");
        if !self.is_at_line_start {
            self.held = Some(note);
            return Ok(());
        }
        self.far.write_all(note.as_bytes()).await
    }
}

/// The guest as a process, as far as it is one. It is read no longer than this lives.
struct WindowsGuest {
    guest: Rc<Guest>,
    reader: AbortHandle,
}

impl Drop for WindowsGuest {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl RunningProcess for WindowsGuest {
    fn cpu_time(&self) -> Pending<'_, Duration> {
        let why = "a role has no command that prints it".to_owned();
        let error = HostError::Command {
            what: "reading a guest's CPU time".to_owned(),
            host: self.guest.windows.name().to_owned(),
            why,
        };
        Box::pin(std::future::ready(Err(error)))
    }

    /// It has ended if two polls in a row agree, since a task may not have begun at the first one. The first of them reads the console once
    /// more, so that no output is lost.
    fn ended(&self) -> Pending<'_, Option<QemuEnd>> {
        Box::pin(async move {
            let guest = &self.guest;
            if let Some(gone) = guest.end.get() {
                return Ok(Some(guest.end_as(gone)));
            }
            let Some(gone) = guest.state().await? else {
                guest.seen.set(false);
                return Ok(None);
            };
            if guest.seen.get() {
                return Ok(Some(guest.end_as(guest.end.get_or_init(|| gone))));
            }
            guest.read_console().await;
            guest.seen.set(true);
            Ok(None)
        })
    }

    fn diagnostics(&self, _with_kernel: bool) -> Pending<'_, Diagnostics> {
        // What the role has to say is in the closing report of the level around it.
        Box::pin(std::future::ready(Ok(Diagnostics::default())))
    }

    fn kill(&self) -> Pending<'_, ()> {
        Box::pin(async move { self.guest.ask(RoleCommand::Stop).await.map(drop) })
    }

    fn clean_up(&self) -> Pending<'_, ()> {
        // A file that is read can't be removed there.
        self.reader.abort();
        self.kill()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_note_of_the_harness_waits_for_the_end_of_the_guests_line() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut console = Console::new(far);
        console.note("early").await.unwrap();
        console.pass_on(b"nonce=00").await.unwrap();
        console.note("in the middle").await.unwrap();
        console.pass_on(b"nonce=0011").await.unwrap();
        console.pass_on(b"nonce=001122\nkernel=6").await.unwrap();
        console.pass_on(b"nonce=001122\nkernel=6\n").await.unwrap();
        console.note("at the end").await.unwrap();
        drop(console);
        let mut said = String::new();
        near.read_to_string(&mut said).await.unwrap();
        assert_eq!(
            said,
            "nestmatrix: early\nnonce=001122\nnestmatrix: in the middle\nkernel=6\nnestmatrix: at the end\n"
        );
    }
}
