//! The near ends of a stack's channels: streams of channels that are not open yet, and the shells on consoles.
//!
//! The watch knows the conversations on open channels, and declares them closed when the port below them is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::{Answers, Console, ExecOutput, PanelLines, SharedAnswers, Shell, Shown};
use nestmatrix_vmm::qemu::{ChannelKind, ChannelName};
use nestmatrix_vmm::wire::{Notice, Speaker, Transcript, Wire};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc};

use super::console_view::ConsoleView;
use super::machines::MachineId;

/// The shell on the console of a level. All clones are the same shell.
#[derive(Clone)]
pub(super) struct ConsoleShell {
    typed: Rc<Mutex<Shell>>,
    answers: SharedAnswers,
    /// How many commands the shells of the stack were given: each has its own number.
    commands: Rc<Cell<u32>>,
}

impl ConsoleShell {
    /// Whether it takes commands.
    pub(super) fn is_ready(&self) -> bool {
        self.answers.now(Answers::ready)
    }

    /// Runs `script` to its end.
    ///
    /// # Errors
    /// It can't be typed.
    pub(super) async fn run(&self, script: &str) -> std::io::Result<ExecOutput> {
        // The next command must not be typed before this one has ended: while no process reads a terminal, it drops what
        // exceeds its buffer.
        let mut shell = self.typed.lock().await;
        let id = self.commands.get() + 1;
        self.commands.set(id);
        shell.ask(id, script).await?;
        Ok(self.answers.when(|answers| answers.to(id).cloned()).await)
    }

    /// The input of the console, and its answers.
    pub(super) fn into_parts(self) -> (Rc<Mutex<Shell>>, SharedAnswers) {
        (self.typed, self.answers)
    }
}

/// Where the channels of a stack are recorded.
pub(super) struct Records<'a> {
    /// The folder.
    pub(super) folder: &'a Path,
    /// The time from which others are counted.
    pub(super) started: Instant,
}

impl Records<'_> {
    /// The file `name` of the record named `label`.
    pub(super) fn file(&self, label: &str, name: &str) -> PathBuf {
        self.folder.join(format!("{label}.{name}"))
    }
}

/// The near ends of a stack's channels.
#[derive(Default)]
pub(super) struct Channels {
    /// Streams of channels that are not open yet, or that a migrated machine has left.
    streams: BTreeMap<ChannelName, UnixStream>,
    shells: BTreeMap<ChannelName, ConsoleShell>,
    /// Consoles that migrated machines have left, and which the next machine on these channels takes over. Closing the writing end of
    /// a console closes all of it.
    left: BTreeMap<ChannelName, ConsoleShell>,
    /// The level that runs on the second set of channels, and the levels inside it too.
    on_second: Option<LevelNumber>,
    commands: Rc<Cell<u32>>,
}

impl Channels {
    /// Adds streams whose channels are opened later.
    pub(super) fn add(&mut self, streams: impl IntoIterator<Item = (ChannelName, UnixStream)>) {
        self.streams.extend(streams);
    }

    /// The stream of a channel that is about to be opened: a level that is launched inside a migrated one has its channels in the set
    /// that this one uses.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn take(&mut self, channel: ChannelName) -> Result<UnixStream, String> {
        let in_moved = self.on_second.is_some_and(|moved| channel.level > moved);
        let channel = ChannelName { second: channel.second || in_moved, ..channel };
        self.streams.remove(&channel).ok_or_else(|| format!("channel {channel} is not open"))
    }

    /// From now on, `level` and the levels inside it use the second set of channels, or the first one again.
    pub(super) fn move_to(&mut self, level: LevelNumber, second: bool) {
        self.on_second = second.then_some(level);
    }

    /// The level that runs on the second set of channels, if it is inside `level`.
    pub(super) fn moved_inside(&self, level: LevelNumber) -> Option<LevelNumber> {
        self.on_second.filter(|moved| *moved > level)
    }

    /// Drops what the last machine on these channels left unread there. Nothing speaks on them now.
    pub(super) fn clear(&self, channels: &[ChannelName]) {
        for stream in channels.iter().filter_map(|channel| self.streams.get(channel)) {
            while matches!(stream.try_read(&mut [0; 4096]), Ok(1..)) {}
        }
    }

    /// Reads a console into `view` from now on, and into the record named `label`.
    ///
    /// # Errors
    /// It is not there, or can't be recorded.
    pub(super) fn open_console(
        &mut self,
        channel: ChannelName,
        label: &str,
        on_panel: bool,
        view: ConsoleView,
        records: &Records<'_>,
    ) -> Result<(), String> {
        let stream = self.take(channel)?;
        let shell = self.read_console(stream, label, on_panel, view, records)?;
        self.shells.insert(channel, shell);
        Ok(())
    }

    /// Reads the console on `stream`, and types there.
    fn read_console(
        &self,
        stream: UnixStream,
        label: &str,
        on_panel: bool,
        view: ConsoleView,
        records: &Records<'_>,
    ) -> Result<ConsoleShell, String> {
        let record = records.file(label, "console.log");
        let reader = Console::open(&record, records.started).map_err(|e| not_recorded(&record, &e))?;
        let answers = view.answers().clone();
        let (from_guest, to_guest) = stream.into_split();
        let mut panel = on_panel.then(PanelLines::default);
        let each = move |shown| match (shown, &mut panel) {
            (Shown::Line(line), Some(panel)) => panel.line(line).into_iter().for_each(|line| view.line(line)),
            (Shown::Line(line), None) => view.line(line),
            (Shown::Unfinished(text), None) => view.unfinished(&text),
            // The lines of a panel come complete.
            (Shown::Unfinished(_), Some(_)) => {}
        };
        tokio::task::spawn_local(reader.read(from_guest, each));
        let shell = if on_panel { Shell::on_panel(to_guest) } else { Shell::new(to_guest) };
        let typed = Rc::new(Mutex::new(shell));
        Ok(ConsoleShell { typed, answers, commands: Rc::clone(&self.commands) })
    }

    /// Begins a conversation on a channel of a machine. Its unsolicited messages go to `notices`.
    ///
    /// # Errors
    /// The channel is not there, or can't be recorded.
    pub(super) fn open_wire(
        &mut self,
        id: MachineId,
        kind: ChannelKind,
        notices: mpsc::Sender<Notice>,
        records: &Records<'_>,
    ) -> Result<Wire, String> {
        let (speaker, peer) = match kind {
            ChannelKind::Qmp => (Speaker::Qemu, format!("QMP of {id}'s QEMU")),
            ChannelKind::Agent | ChannelKind::Console => (Speaker::Agent, format!("agent of {id}")),
        };
        let stream = self.take(id.channel(kind))?;
        let record = records.file(&id.to_string(), &format!("{kind}.jsonl"));
        let transcript = Transcript::open(&record, records.started).map_err(|e| not_recorded(&record, &e))?;
        Ok(Wire::start(speaker, peer, stream, transcript, notices))
    }

    /// The shell on the console of a machine.
    pub(super) fn shell(&self, id: MachineId) -> Option<&ConsoleShell> {
        self.shells.get(&id.channel(ChannelKind::Console))
    }

    /// From now on, the console of a level is the one on the channel `to`, where another machine runs it, instead of the one on `from`.
    ///
    /// # Errors
    /// The console is missing, or it can't be recorded.
    pub(super) async fn move_console(
        &mut self,
        [from, to]: [ChannelName; 2],
        view: ConsoleView,
        records: &Records<'_>,
    ) -> Result<(), String> {
        let next = match self.streams.remove(&to) {
            Some(stream) => self.read_console(stream, &to.level.to_string(), false, view, records)?,
            None => self.left.remove(&to).ok_or_else(|| format!("channel {to} is not open"))?,
        };
        let console = self.shell(to.level.into());
        let console = console.ok_or_else(|| format!("{} has no console", to.level))?.clone();
        std::mem::swap(&mut *console.typed.lock().await, &mut *next.typed.lock().await);
        self.left.insert(from, next);
        Ok(())
    }
}

fn not_recorded(path: &Path, error: &std::io::Error) -> String {
    format!("{} can't be written: {error}", path.display())
}
