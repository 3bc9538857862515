//! The server of a debug session: decides where the stack is paused, and passes the requests of clients to it.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;

use nestmatrix_model::Stage;
use nestmatrix_stack::{Answer, Cancellation, Inspector, PausedStack, Request};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify, mpsc};

use super::{ClientRequest, Greeting, SOCKET};
use crate::scenario::{CellName, Fingerprint};
use nestmatrix_stack::host::Scratch;

/// Where a stack is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseAt {
    /// At its end, or where it stops.
    End,
    /// Where it stops, if it stops.
    Failure,
    /// After this stage, if it gets that far.
    Stage(Stage),
    /// After this stage, or where it stops before.
    StageOrFailure(Stage),
}

/// An event of a debug session.
#[derive(Debug)]
pub enum SessionEvent<'a> {
    /// The stack is paused.
    Paused(&'a PausedStack),
    /// Something happened in the stack while it was paused.
    Happened(&'a str),
}

/// A debug server. When the last reference is dropped, it closes and removes its files.
pub struct DebugServer {
    at: PauseAt,
    greeting: RefCell<Greeting>,
    was_paused: Cell<bool>,
    requests: mpsc::UnboundedSender<Request>,
    requested: Mutex<mpsc::UnboundedReceiver<Request>>,
    end: Notify,
    listener: Box<dyn Fn(&SessionEvent<'_>)>,
    scratch: Scratch,
}

impl DebugServer {
    /// Opens a debug server for the stack of `cell`. Must be called within a [`tokio::task::LocalSet`].
    ///
    /// # Errors
    /// The socket cannot be created.
    pub fn open(
        cell: CellName,
        at: PauseAt,
        listener: impl Fn(&SessionEvent<'_>) + 'static,
    ) -> io::Result<Rc<Self>> {
        let scratch = Scratch::create()?;
        let socket = UnixListener::bind(scratch.path().join(SOCKET))?;
        let (requests, requested) = mpsc::unbounded_channel();
        let server = Rc::new(Self {
            at,
            greeting: RefCell::new(Greeting { cell, stage: Stage::Provision, paused: None, kept: None }),
            was_paused: Cell::new(false),
            requests,
            requested: Mutex::new(requested),
            end: Notify::new(),
            listener: Box::new(listener),
            scratch,
        });
        let weak = Rc::downgrade(&server);
        tokio::task::spawn_local(async move {
            while let Ok((client, _)) = socket.accept().await {
                let Some(server) = weak.upgrade() else { return };
                tokio::task::spawn_local(async move {
                    // A client that closes the connection in the middle of a line needs no answer.
                    let _ = server.receive(client).await;
                });
            }
        });
        Ok(server)
    }

    /// A cancellation for the run, triggered by `asked`. If the stack is paused at its end, `asked` only ends the debug session, so
    /// that the run ends with a verdict.
    pub fn guard(self: &Rc<Self>, mut asked: Cancellation) -> Cancellation {
        let (cancel, cancellation) = Cancellation::new();
        let server = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            asked.requested().await;
            match server.upgrade() {
                Some(server) if server.is_paused_at_end() => server.end.notify_one(),
                _ => {
                    let _ = cancel.send(true);
                }
            }
        });
        cancellation
    }

    /// Its socket, to which [`super::DebugClient::connect`] connects.
    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join(SOCKET)
    }

    /// Whether the stack was paused at any time.
    pub fn was_paused(&self) -> bool {
        self.was_paused.get()
    }

    /// Sets the current stage of the stack.
    pub fn set_stage(&self, stage: Stage) {
        self.greeting.borrow_mut().stage = stage;
    }

    /// Shows that the stack is kept for commands of the user, and the fingerprint of its cell.
    pub fn keep_for_commands(&self, cell: Fingerprint) {
        self.greeting.borrow_mut().kept = Some(cell);
    }

    fn is_paused_at_end(&self) -> bool {
        let greeting = self.greeting.borrow();
        let Some(paused) = &greeting.paused else { return false };
        !matches!(self.at, PauseAt::Stage(stage) | PauseAt::StageOrFailure(stage) if paused.stage == stage)
            || paused.stop.is_some()
    }

    async fn receive(&self, client: UnixStream) -> io::Result<()> {
        let (from, mut to) = client.into_split();
        let mut lines = BufReader::new(from).lines();
        let greeting = serde_json::to_string(&*self.greeting.borrow())?;
        to.write_all((greeting + "\n").as_bytes()).await?;
        while let Some(line) = lines.next_line().await? {
            let mut answers = match serde_json::from_str::<ClientRequest>(&line) {
                Ok(request) => self.ask(request),
                Err(e) => refused(format!("unknown request: {e}")),
            };
            loop {
                let answer = tokio::select! {
                    answer = answers.recv() => answer,
                    // A client waits for the last answer before it sends anything else, so this is the end of the connection.
                    _ = lines.next_line() => return Ok(()),
                };
                let answer = answer.unwrap_or_else(gone);
                to.write_all((serde_json::to_string(&answer)? + "\n").as_bytes()).await?;
                if answer.is_final() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Passes a request on; returns its answers.
    fn ask(&self, ClientRequest { level, ask }: ClientRequest) -> mpsc::Receiver<Answer> {
        let stage = match &*self.greeting.borrow() {
            Greeting { paused: None, stage, .. } => Some(*stage),
            Greeting { paused: Some(_), .. } => None,
        };
        if let Some(stage) = stage {
            return refused(format!("the stack is not paused yet: it is in {stage}"));
        }
        let (answers, answered) = mpsc::channel(UNREAD);
        match self.requests.send(Request { level, ask, answers }) {
            Ok(()) => answered,
            Err(_) => refused("the debug session has ended".to_owned()),
        }
    }
}

/// Most answers to a request that wait for the client. Then the level waits.
const UNREAD: usize = 4;

/// The only answer to a request that is not passed on.
fn refused(why: String) -> mpsc::Receiver<Answer> {
    let (answers, answered) = mpsc::channel(1);
    // There is room for one.
    let _ = answers.try_send(Answer::Refused { why });
    answered
}

fn gone() -> Answer {
    Answer::Refused { why: "the debug session has ended".to_owned() }
}

impl Inspector for DebugServer {
    fn pauses_after(&self, stage: Stage) -> bool {
        matches!(self.at, PauseAt::Stage(at) | PauseAt::StageOrFailure(at) if at == stage)
    }

    fn pauses_at_end(&self, stopped: bool) -> bool {
        match self.at {
            PauseAt::End => true,
            PauseAt::Failure | PauseAt::StageOrFailure(_) => stopped,
            PauseAt::Stage(_) => false,
        }
    }

    fn begins(&self, paused: PausedStack) {
        (self.listener)(&SessionEvent::Paused(&paused));
        self.was_paused.set(true);
        self.greeting.borrow_mut().paused = Some(paused);
    }

    fn notify(&self, what: &str) {
        (self.listener)(&SessionEvent::Happened(what));
    }

    fn next(&self) -> Pin<Box<dyn Future<Output = Option<Request>> + '_>> {
        Box::pin(async {
            // Only the stack waits for it.
            let mut requested = self.requested.lock().await;
            tokio::select! {
                request = requested.recv() => request,
                () = self.end.notified() => None,
            }
        })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
