//! One JSON-lines conversation with QEMU's monitor or with a guest agent.
//!
//! `qapi` supplies the typed commands; the transport is our own for three reasons. Every line is recorded. Replies and
//! events that the schema does not know must not break the conversation: the stacks mix QEMU 5.2 to 11.1. And the end of a
//! conversation sometimes shows elsewhere: a port of a level below closes, the socket does not.

mod exchange;
mod transcript;

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use exchange::{Change, Exchange, Over, Request, give};
pub use transcript::Transcript;

use crate::guest::excerpt;

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
    changes: mpsc::UnboundedSender<Change>,
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
        let (changes, changing) = mpsc::unbounded_channel();
        let (closed_tx, closed) = watch::channel(None);
        let (reader, writer) = stream.into_split();
        let mut exchange = Exchange {
            speaker,
            writer,
            transcript,
            waiting: VecDeque::new(),
            pending: VecDeque::new(),
            notices,
            last_received: Rc::clone(&last_received),
        };
        tokio::task::spawn_local(async move {
            let Over { why, released } = exchange.serve(reader, requested, changing).await;
            exchange.waiting.clear();
            exchange.pending.clear();
            // Pending calls fail with the reason, so it is published before the listener takes the notice.
            let _ = closed_tx.send(Some(why.clone()));
            if let Some((reader, to)) = released {
                give(reader, exchange.writer, to);
            }
            let _ = exchange.notices.send(Notice::Closed(why)).await;
        });
        Self { peer: Rc::from(peer.into()), speaker, last_received, requests, changes, closed }
    }

    /// Continues the conversation on another stream to the same peer, which has been migrated. Commands without a reply on the old
    /// stream may be lost. Returns the old stream, which stays open; none if the conversation is over, and stays so.
    pub async fn move_to(&self, stream: UnixStream) -> Option<UnixStream> {
        let (old, given_back) = oneshot::channel();
        let _ = self.changes.send(Change::Move { stream, old });
        given_back.await.ok()
    }

    /// Ends the conversation and returns its stream, which stays open for the next peer; none if it was over before.
    pub async fn release(&self) -> Option<UnixStream> {
        let (to, given_back) = oneshot::channel();
        let _ = self.changes.send(Change::Release(to));
        given_back.await.ok()
    }

    /// From now on until [`Wire::resume`], the peer may end: nothing that it says is passed on, and no end of the stream ends the
    /// conversation. Commands wait.
    pub fn suspend(&self) {
        let _ = self.changes.send(Change::Suspend(None));
    }

    /// The same, after a last command by which the peer ends. Its reply is not waited for.
    pub fn suspend_after(&self, command: &str) {
        let (reply, _) = oneshot::channel();
        let last = Request { message: json!({"execute": command}), echo: None, reply };
        let _ = self.changes.send(Change::Suspend(Some(last)));
    }

    /// Continues a suspended conversation with the peer that has taken the other one's place, on the same stream or on this one. A new
    /// peer's messages go to `notices`, if it has its own.
    pub fn resume(&self, stream: Option<UnixStream>, notices: Option<mpsc::Sender<Notice>>) {
        let _ = self.changes.send(Change::Resume { stream, notices });
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
        let _ = self.changes.send(Change::Close(why.into()));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

    use super::exchange::SYNC_DELIMITER;
    use super::*;

    async fn with_peer<T, F: Future<Output = T>>(
        peer: impl AsyncFnOnce(UnixStream) + 'static,
        test: impl FnOnce(Wire, mpsc::Receiver<Notice>) -> F,
    ) -> T {
        with_speaker(Speaker::Qemu, peer, test).await
    }

    async fn with_speaker<T, F: Future<Output = T>>(
        speaker: Speaker,
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
                test(Wire::start(speaker, "the peer", near, transcript, notices), noticed).await
            })
            .await
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_event_and_members_of_a_later_schema_do_not_disturb_a_reply() {
        let answer = async |mut far: UnixStream| {
            let mut sent = [0; 256];
            let _ = far.read(&mut sent).await.unwrap();
            let lines = "{\"event\":\"FROM_THE_FUTURE\",\"data\":{\"x\":1},\"timestamp\":{}}\n\
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
    async fn an_agent_gets_a_command_only_after_its_reply_to_the_one_before() {
        // An agent that has two commands at once loses the first.
        let one_at_a_time = async |mut far: UnixStream| loop {
            let mut sent = vec![0; 256];
            let first = far.read(&mut sent).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let more = far.try_read(&mut sent[first..]).unwrap_or_default();
            let last = sent[..first + more].split(|byte| *byte == b'\n').rev().nth(1).unwrap();
            let request: Value = serde_json::from_slice(last).unwrap();
            far.write_all(format!("{{\"return\": {}}}\n", request["execute"]).as_bytes()).await.unwrap();
        };
        let test = |wire: Wire, _noticed| async move {
            let call = async |name: &str| wire.call(name, Value::Null).await.unwrap();
            let given_up = tokio::time::timeout(Duration::from_millis(10), call("given-up")).await;
            assert!(given_up.is_err(), "{given_up:?}");
            let (first, second, third) = tokio::join!(call("first"), call("second"), call("third"));
            assert_eq!([first, second, third], ["first", "second", "third"]);
        };
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, with_speaker(Speaker::Agent, one_at_a_time, test)).await.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_command_whose_caller_has_given_up_before_its_turn_is_not_sent() {
        let echo = async |far: UnixStream| {
            let (from, mut to) = far.into_split();
            let mut lines = BufReader::new(from).lines();
            while let Some(line) = lines.next_line().await.unwrap() {
                assert!(!line.contains("given-up"), "{line}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                to.write_all(b"{\"return\": {}}\n").await.unwrap();
            }
        };
        with_speaker(Speaker::Agent, echo, |wire, _noticed| async move {
            let given_up =
                tokio::time::timeout(Duration::from_millis(20), wire.call("given-up", Value::Null));
            let (first, given_up) = tokio::join!(wire.call("first", Value::Null), given_up);
            assert!(first.is_ok() && given_up.is_err());
            wire.call("last", Value::Null).await.unwrap();
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
    async fn a_call_fails_if_what_may_be_its_reply_is_no_json() {
        let answer = async |mut far: UnixStream| {
            let mut sent = [0; 256];
            let _ = far.read(&mut sent).await.unwrap();
            far.write_all(b"{\"return\": [{\n{\"return\": {}}\n").await.unwrap();
            std::future::pending::<()>().await;
        };
        with_peer(answer, |wire, _noticed| async move {
            let error = wire.call("query-status", Value::Null).await.unwrap_err();
            assert_eq!(error.to_string(), "the peer closed its channel: it sent a line that is no JSON");
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
            assert!(wire.move_to(near).await.is_some());
            tokio::task::spawn_local(async move {
                let mut sent = [0; 256];
                let _ = far.read(&mut sent).await.unwrap();
                far.write_all(b"{\"return\": 7}\n").await.unwrap();
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
            assert_eq!(wire.call("query-status", Value::Null).await.unwrap(), json!(7));
            assert!(noticed.try_recv().is_err(), "the old stream's end is no end of the conversation");
            assert!(wire.release().await.is_some(), "another peer can take its place");
            assert_eq!(noticed.recv().await, Some(Notice::Closed("the harness has closed it".into())));
            assert!(wire.release().await.is_none(), "it is over");
        })
        .await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_suspended_conversation_outlives_its_peer_and_continues_with_the_next_one() {
        let ends = async |mut far: UnixStream| {
            let mut sent = [0; 256];
            let count = far.read(&mut sent).await.unwrap();
            assert_eq!(&sent[..count], b"{\"execute\":\"quit\"}\n");
            far.write_all(b"{\"event\": \"SHUTDOWN\"}\n{\"half\": ").await.unwrap();
        };
        let (near, far) = UnixStream::pair().unwrap();
        let (send, mut noticed) = mpsc::channel(8);
        tokio::task::LocalSet::new()
            .run_until(async {
                let wire = Wire::start(Speaker::Qemu, "the peer", near, Transcript::none(), send);
                wire.suspend_after("quit");
                ends(far).await;
                wire.declare_closed("its port was closed");
                let asking = wire.clone();
                let asked =
                    tokio::task::spawn_local(async move { asking.call("query-status", Value::Null).await });
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                assert!(noticed.try_recv().is_err(), "what the old peer says is dropped, and so is its end");
                let (near, mut far) = UnixStream::pair().unwrap();
                let (send, mut noticed_anew) = mpsc::channel(8);
                wire.resume(Some(near), Some(send));
                far.write_all(b"{\"event\": \"RESUME\"}\n").await.unwrap();
                let mut sent = [0; 256];
                let count = far.read(&mut sent).await.unwrap();
                assert!(
                    String::from_utf8_lossy(&sent[..count]).contains("query-status"),
                    "commands have waited"
                );
                far.write_all(b"{\"return\": 7}\n").await.unwrap();
                assert_eq!(asked.await.unwrap().unwrap(), json!(7));
                assert!(
                    matches!(noticed_anew.recv().await, Some(Notice::Event(event)) if event.name == "RESUME")
                );
                wire.declare_closed("now it counts");
                assert_eq!(noticed_anew.recv().await, Some(Notice::Closed("now it counts".into())));
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
            let given_up = Duration::from_millis(50);
            let first = tokio::time::timeout(given_up, wire.synchronize(1)).await;
            assert!(first.is_err(), "{first:?}");
            wire.synchronize(2).await.unwrap();
        })
        .await;
    }

    /// What stands for the bytes of a peer that does not keep to the protocol.
    fn hostile_line() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
        use proptest::prelude::*;
        let part = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..20),
            proptest::sample::select(vec![
                "{\"return\": {}}",
                "{\"error\": 1}",
                "{\"error\": {\"desc\": 7}}",
                "{\"event\": 1}",
                "{\"event\": \"SHUTDOWN\"}",
                "{\"QMP\": []}",
                "[]",
                "\u{1b}",
                "{\"return\":",
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
            Just(vec![SYNC_DELIMITER]),
        ];
        proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_peer_sends_a_call_ends_when_it_hangs_up(
            lines in proptest::collection::vec(hostile_line(), 0..8), is_agent: bool,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let peer = async move |mut far: UnixStream| {
                    let mut sent = [0; 256];
                    let _ = far.read(&mut sent).await.unwrap();
                    for line in lines {
                        // It fails if the conversation is over.
                        let _ = far.write_all(&line).await;
                        let _ = far.write_all(b"\n").await;
                    }
                };
                let speaker = if is_agent { Speaker::Agent } else { Speaker::Qemu };
                let call = |wire: Wire, _noticed| async move {
                    let limit = Duration::from_secs(20);
                    tokio::time::timeout(limit, wire.call("query-status", Value::Null)).await
                };
                assert!(with_speaker(speaker, peer, call).await.is_ok(), "the call never ended");
            });
        }
    }
}
