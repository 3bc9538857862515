//! One JSON-lines conversation with QEMU's monitor or with a guest agent.
//!
//! `qapi` supplies the typed commands; the transport is our own for three reasons. Every line is recorded. Replies and
//! events that the schema does not know must not break the conversation: the stacks mix QEMU 5.2 to 11.1. And the end of a
//! conversation sometimes shows elsewhere: a port of a level below closes, the socket does not.

mod transcript;

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

pub use transcript::Transcript;

use crate::guest::excerpt;

/// Longest line that is accepted from a peer, in bytes. A guest is not trusted: without a limit, a line that never ends would
/// fill the harness's memory. QGA itself limits captured output to 16 MiB.
const LONGEST_LINE: usize = 24 << 20;

/// Marks the start of a fresh reply in `guest-sync-delimited` (QEMU, docs/interop/qemu-ga-ref).
const SYNC_DELIMITER: u8 = 0xff;

/// Why a command got no usable reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The conversation is over.
    #[error("{peer} closed its channel: {why}")]
    Closed {
        /// The peer, such as `QMP of L1's QEMU`.
        peer: String,
        /// How it was noticed.
        why: String,
    },
    /// The peer answered with an error.
    #[error("{peer} refused {command}: {description}")]
    Refused {
        /// The peer.
        peer: String,
        /// What kind of peer that is.
        speaker: Speaker,
        /// The command.
        command: String,
        /// The peer's message.
        description: String,
    },
    /// The reply does not have the documented form.
    #[error("{peer} sent an unexpected reply to {command}: {why}")]
    Unexpected {
        /// The peer.
        peer: String,
        /// The command.
        command: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The kind of a peer. QEMU's messages are about the stack, an agent's are about the level's own software.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// A QEMU's monitor.
    Qemu,
    /// A guest agent.
    Agent,
}

struct Request {
    message: Value,
    /// The number that its reply must echo after a delimiter, if it is a synchronization.
    echo: Option<u32>,
    reply: oneshot::Sender<Result<Value, String>>,
}

/// An asynchronous event of QEMU (QMP specification, "Asynchronous events").
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Such as `SHUTDOWN`.
    pub name: String,
    /// The event's own data, `null` where there is none.
    pub data: Value,
}

/// What a conversation reports to its listener besides replies.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// The peer's greeting (QMP only).
    Greeting(Value),
    /// An event.
    Event(Event),
    /// The conversation is over, and why.
    Closed(String),
}

/// The near end of a conversation. Cheap to clone; the last clone's end closes the socket.
///
/// It has no timeout: a reply may never come. Callers set one, such as the watch of a stack.
#[derive(Clone)]
pub struct Wire {
    peer: Rc<str>,
    speaker: Speaker,
    /// When the last line came from the peer.
    last_received: Rc<Cell<Option<tokio::time::Instant>>>,
    requests: mpsc::UnboundedSender<Request>,
    moves: mpsc::UnboundedSender<UnixStream>,
    close: mpsc::UnboundedSender<String>,
    closed: watch::Receiver<Option<String>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Wire {
    /// Starts the conversation on `stream`; must be called within a [`tokio::task::LocalSet`].
    pub fn start(
        speaker: Speaker,
        peer: impl Into<String>,
        stream: UnixStream,
        transcript: Transcript,
        notices: mpsc::Sender<Notice>,
    ) -> Self {
        let last_received = Rc::new(Cell::new(None));
        let (requests, requested) = mpsc::unbounded_channel();
        let (moves, moving) = mpsc::unbounded_channel();
        let (close, closing) = mpsc::unbounded_channel();
        let (closed_tx, closed) = watch::channel(None);
        let (reader, writer) = stream.into_split();
        let mut exchange = Exchange {
            writer,
            transcript,
            pending: VecDeque::new(),
            notices,
            last_received: Rc::clone(&last_received),
        };
        tokio::task::spawn_local(async move {
            let why = exchange.serve(reader, requested, moving, closing).await;
            exchange.pending.clear();
            // Pending calls fail with the reason, so it is published before the listener takes the notice.
            let _ = closed_tx.send(Some(why.clone()));
            let _ = exchange.notices.send(Notice::Closed(why)).await;
        });
        Self { peer: Rc::from(peer.into()), speaker, last_received, requests, moves, close, closed }
    }

    /// Continues the conversation on another stream to the same peer, which has been migrated. Commands without a reply on the old
    /// stream may be lost.
    pub fn move_to(&self, stream: UnixStream) {
        // A conversation that is over stays so.
        let _ = self.moves.send(stream);
    }

    /// The peer's name.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// When the last line came from the peer.
    pub fn last_received(&self) -> Option<tokio::time::Instant> {
        self.last_received.get()
    }

    /// Ends the conversation for a reason that showed elsewhere. Every pending call fails with it.
    pub fn declare_closed(&self, why: impl Into<String>) {
        let _ = self.close.send(why.into());
    }

    /// Runs a typed command.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn execute<C: qapi::Command>(&self, command: C) -> Result<C::Ok, CallError> {
        let arguments = serde_json::to_value(&command).map_err(|e| self.unexpected(C::NAME, e))?;
        let value = self.call(C::NAME, arguments).await?;
        serde_json::from_value(value).map_err(|e| self.unexpected(C::NAME, e))
    }

    /// Runs a command given as data, for replies whose schema differs between QEMU versions.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn call(&self, command: &str, arguments: Value) -> Result<Value, CallError> {
        let mut message = json!({"execute": command});
        if arguments.as_object().is_some_and(|a| !a.is_empty()) {
            message["arguments"] = arguments;
        }
        self.ask(command, message, None).await
    }

    /// Synchronizes with a guest agent: waits until it answers, and drops replies that an earlier conversation left.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn synchronize(&self, id: u32) -> Result<(), CallError> {
        let command = "guest-sync-delimited";
        let message = json!({"execute": command, "arguments": {"id": id}});
        self.ask(command, message, Some(id)).await.map(|_| ())
    }

    async fn ask(&self, command: &str, message: Value, echo: Option<u32>) -> Result<Value, CallError> {
        let (reply, replied) = oneshot::channel();
        if self.requests.send(Request { message, echo, reply }).is_err() {
            return Err(self.closed_error());
        }
        match replied.await {
            Err(_) => {
                // The reply's sender is dropped just before the reason is published.
                let mut closed = self.closed.clone();
                let _ = closed.wait_for(Option::is_some).await;
                Err(self.closed_error())
            }
            Ok(Err(description)) => Err(CallError::Refused {
                peer: self.peer.to_string(),
                speaker: self.speaker,
                command: command.into(),
                description: excerpt(&description),
            }),
            Ok(Ok(value)) => Ok(value),
        }
    }

    fn closed_error(&self) -> CallError {
        let why = self.closed.borrow().clone().unwrap_or_else(|| "the conversation has ended".into());
        CallError::Closed { peer: self.peer.to_string(), why }
    }

    fn unexpected(&self, command: &str, why: impl fmt::Display) -> CallError {
        let why = excerpt(&why.to_string());
        CallError::Unexpected { peer: self.peer.to_string(), command: command.into(), why }
    }
}

/// A command whose reply is still to come.
struct Pending {
    /// The number that its reply must echo after a delimiter, if it is a synchronization. Everything before that is stale.
    echo: Option<u32>,
    reply: oneshot::Sender<Result<Value, String>>,
}

/// The far side of a [`Wire`]: owns the socket, keeps replies in the order of their commands.
struct Exchange {
    writer: OwnedWriteHalf,
    transcript: Transcript,
    pending: VecDeque<Pending>,
    notices: mpsc::Sender<Notice>,
    last_received: Rc<Cell<Option<tokio::time::Instant>>>,
}

impl Exchange {
    /// Serves the conversation until it ends. Returns the reason.
    async fn serve(
        &mut self,
        reader: OwnedReadHalf,
        mut requested: mpsc::UnboundedReceiver<Request>,
        mut moving: mpsc::UnboundedReceiver<UnixStream>,
        mut closing: mpsc::UnboundedReceiver<String>,
    ) -> String {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        loop {
            tokio::select! {
                // Commands after a move must not go to the old stream.
                biased;
                Some(stream) = moving.recv() => {
                    let (other_reader, other_writer) = stream.into_split();
                    reader = BufReader::new(other_reader);
                    self.writer = other_writer;
                    line.clear();
                    for pending in self.pending.drain(..) {
                        let _ = pending.reply.send(Err("its peer was migrated before it replied".into()));
                    }
                }
                Some(why) = closing.recv() => return why,
                request = requested.recv() => match request {
                    None => return "the harness has closed it".into(),
                    Some(request) => if let Err(e) = self.send(request).await { return e.to_string() },
                },
                read = read_line(&mut reader, &mut line) => match read {
                    Err(e) => return e.to_string(),
                    Ok(false) => return "end of file".into(),
                    Ok(true) => {
                        self.last_received.set(Some(tokio::time::Instant::now()));
                        // A peer that sends faster than the listener reads must wait, so that it can't fill the harness's memory.
                        let notice = self.receive(&line);
                        line.clear();
                        if let Some(notice) = notice {
                            let _ = self.notices.send(notice).await;
                        }
                    }
                },
            }
        }
    }

    async fn send(&mut self, request: Request) -> std::io::Result<()> {
        self.transcript.note(">", &request.message);
        let mut bytes = Vec::new();
        if request.echo.is_some() {
            bytes.push(SYNC_DELIMITER);
            // Callers of earlier synchronizations have given up by now.
            self.pending.retain(|pending| !pending.reply.is_closed());
        }
        bytes.extend_from_slice(request.message.to_string().as_bytes());
        bytes.push(b'\n');
        self.pending.push_back(Pending { echo: request.echo, reply: request.reply });
        self.writer.write_all(&bytes).await
    }

    /// Handles a line. Returns what is not a reply.
    fn receive(&mut self, line: &[u8]) -> Option<Notice> {
        let delimiter = line.iter().rposition(|b| *b == SYNC_DELIMITER);
        let fresh = delimiter.map_or(line, |at| &line[at + 1..]);
        let Ok(mut message) = serde_json::from_slice::<Value>(fresh) else {
            self.transcript.note("<?", &Value::String(String::from_utf8_lossy(line).into_owned()));
            return None;
        };
        self.transcript.note("<", &message);
        let object = message.as_object_mut()?;
        if let Some(value) = object.remove("return") {
            self.reply(Ok(value), delimiter.is_some());
        } else if let Some(error) = object.remove("error") {
            let description = error["desc"].as_str().map_or_else(|| error.to_string(), str::to_owned);
            self.reply(Err(description), delimiter.is_some());
        } else if let Some(greeting) = object.remove("QMP") {
            return Some(Notice::Greeting(greeting));
        } else if let Some(Value::String(name)) = object.remove("event") {
            let data = object.remove("data").unwrap_or(Value::Null);
            return Some(Notice::Event(Event { name, data }));
        }
        None
    }

    fn reply(&mut self, reply: Result<Value, String>, delimited: bool) {
        // An agent replies to the delimiter itself with an error, since it is not JSON. That and everything else before the expected
        // echo is dropped.
        let echoes =
            |id: u32| delimited && reply.as_ref().is_ok_and(|value| value.as_u64() == Some(id.into()));
        if self.pending.front().and_then(|pending| pending.echo).is_some_and(|id| !echoes(id)) {
            return;
        }
        if let Some(pending) = self.pending.pop_front() {
            let _ = pending.reply.send(reply);
        }
    }
}

/// Appends one line, without its end, to `line`. Returns `false` at the end of the stream. It can be cancelled and called again.
async fn read_line(reader: &mut BufReader<OwnedReadHalf>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(false);
        }
        let end = available.iter().position(|b| *b == b'\n');
        let take = end.map_or(available.len(), |at| at);
        if line.len() + take > LONGEST_LINE {
            let why = format!("it sent a line of more than {} MiB", LONGEST_LINE >> 20);
            return Err(std::io::Error::other(why));
        }
        line.extend_from_slice(&available[..take]);
        reader.consume(take + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    async fn with_peer<T, F: Future<Output = T>>(
        peer: impl AsyncFnOnce(UnixStream) + 'static,
        test: impl FnOnce(Wire, mpsc::Receiver<Notice>) -> F,
    ) -> T {
        let (near, far) = UnixStream::pair().unwrap();
        let (notices, noticed) = mpsc::channel(16);
        let local = tokio::task::LocalSet::new();
        local.spawn_local(async move { peer(far).await });
        local
            .run_until(async move {
                let transcript = Transcript::none();
                test(Wire::start(Speaker::Qemu, "the peer", near, transcript, notices), noticed).await
            })
            .await
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_event_and_members_of_a_later_schema_do_not_disturb_a_reply() {
        let answer = async |mut far: UnixStream| {
            let mut sent = [0; 256];
            let _ = far.read(&mut sent).await.unwrap();
            let lines = "{\"event\":\"FROM_THE_FUTURE\",\"data\":{\"x\":1},\"timestamp\":{}}\nnot json\n\
                 {\"return\":{\"enabled\":true,\"present\":true,\"later\":[1]}}\n";
            far.write_all(lines.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        };
        with_peer(answer, |wire, mut noticed| async move {
            let kvm = wire.execute(qapi::qmp::query_kvm {}).await.unwrap();
            assert!(kvm.enabled && kvm.present);
            let event = Event { name: "FROM_THE_FUTURE".into(), data: json!({"x": 1}) };
            assert_eq!(noticed.recv().await, Some(Notice::Event(event)));
        })
        .await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_call_fails_with_the_reason_when_the_peer_goes_away() {
        let hang_up = async |mut far: UnixStream| {
            let mut sent = [0; 256];
            let _ = far.read(&mut sent).await.unwrap();
        };
        with_peer(hang_up, |wire, _noticed| async move {
            let error = wire.call("query-status", Value::Null).await.unwrap_err();
            assert_eq!(error.to_string(), "the peer closed its channel: end of file");
        })
        .await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_closing_seen_elsewhere_ends_a_pending_call() {
        with_peer(
            async |_far| std::future::pending().await,
            |wire, _noticed| async move {
                let other = wire.clone();
                tokio::task::spawn_local(async move { other.declare_closed("its port closed") });
                let error = wire.call("query-status", Value::Null).await.unwrap_err();
                assert_eq!(error.to_string(), "the peer closed its channel: its port closed");
            },
        )
        .await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_conversation_goes_on_where_its_peer_has_moved_to() {
        let silent = async |_far: UnixStream| std::future::pending().await;
        with_peer(silent, |wire, mut noticed| async move {
            let (near, mut far) = UnixStream::pair().unwrap();
            wire.move_to(near);
            tokio::task::spawn_local(async move {
                let mut sent = [0; 256];
                let _ = far.read(&mut sent).await.unwrap();
                far.write_all(b"{\"return\": 7}\n").await.unwrap();
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
            assert_eq!(wire.call("query-status", Value::Null).await.unwrap(), json!(7));
            assert!(noticed.try_recv().is_err(), "the old stream's end is no end of the conversation");
        })
        .await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn synchronizing_drops_what_stood_in_the_channel_before() {
        let stale = async |mut far: UnixStream| {
            let mut sent = vec![0; 256];
            let n = far.read(&mut sent).await.unwrap();
            assert_eq!(sent[0], SYNC_DELIMITER, "the request itself resets the agent's parser");
            let request: Value = serde_json::from_slice(&sent[1..n]).unwrap();
            let id = &request["arguments"]["id"];
            far.write_all(b"{\"error\": {\"desc\": \"stray byte\"}}\nhalf a reply").await.unwrap();
            far.write_all(&[SYNC_DELIMITER]).await.unwrap();
            far.write_all(format!("{{\"return\": {id}}}\n").as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        };
        with_peer(stale, |wire, _noticed| async move { wire.synchronize(77).await.unwrap() }).await;
    }

    #[tokio::test]
    async fn a_synchronization_that_was_given_up_does_not_answer_for_the_next() {
        let late = async |mut far: UnixStream| {
            let mut asked = BufReader::new(&mut far);
            let mut line = Vec::new();
            for _ in 0..2 {
                asked.read_until(b'\n', &mut line).await.unwrap();
            }
            far.write_all(b"\xff{\"return\": 1}\n\xff{\"return\": 2}\n").await.unwrap();
            std::future::pending::<()>().await;
        };
        with_peer(late, |wire, _noticed| async move {
            let given_up = std::time::Duration::from_millis(50);
            let first = tokio::time::timeout(given_up, wire.synchronize(1)).await;
            assert!(first.is_err(), "{first:?}");
            wire.synchronize(2).await.unwrap();
        })
        .await;
    }
}
