//! The harness's side: says where the stack is held, and passes on what visitors ask.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use nestmatrix_model::Stage;
use nestmatrix_stack::{Answer, Cancellation, Inspector, PausedStack, Request};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};

use super::{Greeting, Inquiry, SOCKET};
use crate::scenario::CellName;
use nestmatrix_stack::host::Scratch;

/// Where a stack is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseAt {
    /// Once it has come to its end or has stopped, whichever it does.
    End,
    /// Where it stops, if it does.
    Failure,
    /// Once this stage is done, if it comes so far.
    Stage(Stage),
    /// Once this stage is done, or where it stops before.
    StageOrFailure(Stage),
}

/// What a desk tells the one who opened it.
#[derive(Debug)]
pub enum News<'a> {
    /// The stack is held.
    PausedStack(&'a PausedStack),
    /// Something happened in it while it was.
    Heard(&'a str),
}

/// A desk. It is closed, and what it left removed, when the last who has it drops it.
pub struct DebugServer {
    at: PauseAt,
    greeting: RefCell<Greeting>,
    was_held: Cell<bool>,
    requests: mpsc::UnboundedSender<Request>,
    requested: Mutex<mpsc::UnboundedReceiver<Request>>,
    let_go: Notify,
    tell: Box<dyn Fn(&News<'_>)>,
    _scratch: Scratch,
}

impl DebugServer {
    /// Opens a desk for the stack of `cell`. Must be called within a [`tokio::task::LocalSet`].
    ///
    /// # Errors
    /// The operating system's: the socket can't be made.
    pub fn open(cell: CellName, at: PauseAt, tell: impl Fn(&News<'_>) + 'static) -> io::Result<Rc<Self>> {
        let scratch = Scratch::create()?;
        let listener = UnixListener::bind(scratch.path().join(SOCKET))?;
        let (requests, requested) = mpsc::unbounded_channel();
        let desk = Rc::new(Self {
            at,
            greeting: RefCell::new(Greeting { cell, stage: Stage::Provision, held: None }),
            was_held: Cell::new(false),
            requests,
            requested: Mutex::new(requested),
            let_go: Notify::new(),
            tell: Box::new(tell),
            _scratch: scratch,
        });
        let weak = Rc::downgrade(&desk);
        tokio::task::spawn_local(async move {
            while let Ok((visitor, _)) = listener.accept().await {
                let Some(desk) = weak.upgrade() else { return };
                tokio::task::spawn_local(async move {
                    // Who hangs up in the middle of a sentence is gone, and nobody else's concern.
                    let _ = desk.receive(visitor).await;
                });
            }
        });
        Ok(desk)
    }

    /// A cancellation for the run, triggered by `asked`. But once the stack has been judged and is held still, it is only let go
    /// by that: the run comes to its own end.
    pub fn guard(self: &Rc<Self>, mut asked: Cancellation) -> Cancellation {
        let (cancel, cancellation) = Cancellation::new();
        let desk = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            asked.requested().await;
            match desk.upgrade() {
                Some(desk) if desk.is_held_at_end() => desk.let_go.notify_one(),
                _ => {
                    let _ = cancel.send(true);
                }
            }
        });
        cancellation
    }

    /// Whether the stack was held at any time.
    pub fn was_held(&self) -> bool {
        self.was_held.get()
    }

    /// Notes the stage that the stack is in.
    pub fn notes(&self, stage: Stage) {
        self.greeting.borrow_mut().stage = stage;
    }

    fn is_held_at_end(&self) -> bool {
        let greeting = self.greeting.borrow();
        let Some(held) = &greeting.held else { return false };
        !matches!(self.at, PauseAt::Stage(stage) | PauseAt::StageOrFailure(stage) if held.stage == stage)
            || held.stop.is_some()
    }

    async fn receive(&self, visitor: UnixStream) -> io::Result<()> {
        let (from, mut to) = visitor.into_split();
        let mut lines = BufReader::new(from).lines();
        let greeting = serde_json::to_string(&*self.greeting.borrow())?;
        to.write_all((greeting + "\n").as_bytes()).await?;
        while let Some(line) = lines.next_line().await? {
            let answer = match serde_json::from_str::<Inquiry>(&line) {
                Ok(inquiry) => {
                    tokio::select! {
                        answer = self.ask(inquiry) => answer,
                        // Whoever asks waits for the answer before they say anything else.
                        _ = lines.next_line() => return Ok(()),
                    }
                }
                Err(e) => Answer::Refused { why: format!("not understood: {e}") },
            };
            to.write_all((serde_json::to_string(&answer)? + "\n").as_bytes()).await?;
        }
        Ok(())
    }

    async fn ask(&self, Inquiry { level, ask }: Inquiry) -> Answer {
        let stage = match &*self.greeting.borrow() {
            Greeting { held: None, stage, .. } => Some(*stage),
            Greeting { held: Some(_), .. } => None,
        };
        if let Some(stage) = stage {
            return Answer::Refused { why: format!("the stack is in {stage} and not held yet") };
        }
        let (answer, answered) = oneshot::channel();
        let gone = || Answer::Refused { why: "the stack has been let go".to_owned() };
        if self.requests.send(Request { level, ask, answer }).is_err() {
            return gone();
        }
        answered.await.unwrap_or_else(|_| gone())
    }
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

    fn begins(&self, held: PausedStack) {
        (self.tell)(&News::PausedStack(&held));
        self.was_held.set(true);
        self.greeting.borrow_mut().held = Some(held);
    }

    fn notify(&self, what: &str) {
        (self.tell)(&News::Heard(what));
    }

    fn next(&self) -> Pin<Box<dyn Future<Output = Option<Request>> + '_>> {
        Box::pin(async {
            // Nobody else ever waits for it.
            let mut requested = self.requested.lock().await;
            tokio::select! {
                request = requested.recv() => request,
                () = self.let_go.notified() => None,
            }
        })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
