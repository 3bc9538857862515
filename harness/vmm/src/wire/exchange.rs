//! The far side of a [`Wire`](super::Wire): it owns the stream, keeps replies in the order of their commands, and carries on when
//! the peer is replaced.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::{Event, Notice, Speaker, Transcript};

/// Longest line that is accepted from a peer, in bytes. A guest is not trusted: without a limit, a line that never ends would
/// fill the harness's memory. QGA itself limits captured output to 16 MiB.
const LONGEST_LINE: usize = 24 << 20;

/// Marks the start of a fresh reply in `guest-sync-delimited` (QEMU, docs/interop/qemu-ga-ref).
pub(super) const SYNC_DELIMITER: u8 = 0xff;

/// A command to a peer.
pub(super) struct Request {
    pub(super) message: Value,
    /// The number that its reply must echo after a delimiter, if it is a synchronization. Everything before that is stale.
    pub(super) echo: Option<u32>,
    pub(super) reply: oneshot::Sender<Result<Value, String>>,
}

/// What happens to a conversation from this side. One queue keeps the order of these.
pub(super) enum Change {
    /// It continues on another stream. The old one is given back.
    Move { stream: UnixStream, old: oneshot::Sender<UnixStream> },
    /// It is over, and its stream is given back.
    Release(oneshot::Sender<UnixStream>),
    /// Its peer is about to end, perhaps by this last command, and another one will take its place.
    Suspend(Option<Request>),
    /// Another peer has taken the place of the one that ended: on the same stream, or on this one.
    Resume { stream: Option<UnixStream>, notices: Option<mpsc::Sender<Notice>> },
    /// It is over.
    Close(String),
}

/// The end of a conversation.
pub(super) struct Over {
    pub(super) why: String,
    /// The reading half of its stream and the one who wants the stream back, if the stream is to stay open.
    pub(super) released: Option<(OwnedReadHalf, oneshot::Sender<UnixStream>)>,
}

impl From<String> for Over {
    fn from(why: String) -> Self {
        Self { why, released: None }
    }
}

/// The far side of a [`Wire`]: owns the socket, keeps replies in the order of their commands.
pub(super) struct Exchange {
    pub(super) speaker: Speaker,
    pub(super) writer: OwnedWriteHalf,
    pub(super) transcript: Transcript,
    /// What is not sent yet.
    pub(super) waiting: VecDeque<Request>,
    /// What has no reply yet.
    pub(super) pending: VecDeque<Request>,
    pub(super) notices: mpsc::Sender<Notice>,
    pub(super) last_received: Rc<Cell<Option<tokio::time::Instant>>>,
}

impl Exchange {
    /// Serves the conversation until it ends.
    pub(super) async fn serve(
        &mut self,
        reader: OwnedReadHalf,
        mut requested: mpsc::UnboundedReceiver<Request>,
        mut changing: mpsc::UnboundedReceiver<Change>,
    ) -> Over {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        let mut suspended = false;
        // Whether a suspended conversation still reads its stream, and so drops what its old peer says.
        let mut is_open = true;
        // The greeting of the next peer, if that came before the conversation was resumed.
        let mut greeting = None;
        loop {
            if !suspended && let Err(e) = self.send_waiting().await {
                return e.to_string().into();
            }
            tokio::select! {
                // Commands after a change must not go to the old stream or the old peer.
                biased;
                change = changing.recv() => {
                    let (mut last, mut give_back) = (None, None);
                    let stream = match change {
                        None => return CLOSED_HERE.to_owned().into(),
                        Some(Change::Close(_)) if suspended => continue,
                        Some(Change::Close(why)) => return why.into(),
                        Some(Change::Release(to)) => {
                            return Over { why: CLOSED_HERE.into(), released: Some((reader.into_inner(), to)) };
                        }
                        Some(Change::Suspend(command)) => {
                            (suspended, last) = (true, command);
                            None
                        }
                        Some(Change::Move { stream, old }) => {
                            give_back = Some(old);
                            Some(stream)
                        }
                        Some(Change::Resume { stream, notices }) => {
                            (suspended, is_open) = (false, true);
                            self.notices = notices.unwrap_or_else(|| self.notices.clone());
                            stream
                        }
                    };
                    if let Some(stream) = stream {
                        let (other_reader, other_writer) = stream.into_split();
                        let old_reader = std::mem::replace(&mut reader, BufReader::new(other_reader));
                        let old_writer = std::mem::replace(&mut self.writer, other_writer);
                        if let Some(to) = give_back {
                            give(old_reader.into_inner(), old_writer, to);
                        }
                    }
                    line.clear();
                    for pending in self.pending.drain(..) {
                        let _ = pending.reply.send(Err("its peer was replaced before it replied".into()));
                    }
                    if let Some(last) = last {
                        // If the peer does not get it, it does not end, and that is noticed.
                        let _ = self.send(last).await;
                    }
                    if let Some(greeting) = greeting.take_if(|_| !suspended) {
                        let _ = self.notices.send(greeting).await;
                    }
                }
                request = requested.recv(), if !suspended => match request {
                    None => return CLOSED_HERE.to_owned().into(),
                    Some(request) if request.echo.is_some() => self.waiting.push_front(request),
                    Some(request) => self.waiting.push_back(request),
                },
                read = read_line(&mut reader, &mut line), if is_open => match read {
                    Err(_) | Ok(false) if suspended => is_open = false,
                    Err(e) => return e.to_string().into(),
                    Ok(false) => return "end of file".to_owned().into(),
                    Ok(true) => {
                        self.last_received.set(Some(tokio::time::Instant::now()));
                        // A peer that sends faster than the listener reads must wait, so that it can't fill the harness's memory.
                        let received = self.receive(&line);
                        line.clear();
                        let notice = match received {
                            Ok(notice) => notice,
                            Err(_) if suspended => None,
                            Err(why) => return why.into(),
                        };
                        match notice {
                            Some(notice) if !suspended => _ = self.notices.send(notice).await,
                            Some(notice @ Notice::Greeting(_)) => greeting = Some(notice),
                            Some(_) | None => {}
                        }
                    }
                },
            }
        }
    }

    /// Sends what may be sent now. An agent gets a command only after its reply to the one before, even if the caller of that has given
    /// up: agents' replies have no identifiers, and with several commands at once they were seen to get out of step.
    async fn send_waiting(&mut self) -> std::io::Result<()> {
        while let Some(request) = self.waiting.pop_front() {
            if self.speaker == Speaker::Agent && request.echo.is_none() && !self.pending.is_empty() {
                self.waiting.push_front(request);
                break;
            }
            // A caller that has given up wants it no more.
            if !request.reply.is_closed() {
                self.send(request).await?;
            }
        }
        Ok(())
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
        self.pending.push_back(request);
        self.writer.write_all(&bytes).await
    }

    /// Handles a line. Returns what is not a reply.
    ///
    /// # Errors
    /// It is no JSON, and a reply is due: that may have been the reply, so later ones could be taken for it. Where no reply is due, and
    /// before the echo of a synchronization, there may be anything.
    fn receive(&mut self, line: &[u8]) -> Result<Option<Notice>, String> {
        let delimiter = line.iter().rposition(|b| *b == SYNC_DELIMITER);
        let fresh = delimiter.map_or(line, |at| &line[at + 1..]);
        let Ok(mut message) = serde_json::from_slice::<Value>(fresh) else {
            self.transcript.note("<?", &Value::String(String::from_utf8_lossy(line).into_owned()));
            let is_awaited = self.pending.front().is_some_and(|pending| pending.echo.is_none());
            return if is_awaited { Err("it sent a line that is no JSON".to_owned()) } else { Ok(None) };
        };
        self.transcript.note("<", &message);
        let Some(object) = message.as_object_mut() else { return Ok(None) };
        if let Some(value) = object.remove("return") {
            self.reply(Ok(value), delimiter.is_some());
        } else if let Some(error) = object.remove("error") {
            let description = error["desc"].as_str().map_or_else(|| error.to_string(), str::to_owned);
            self.reply(Err(description), delimiter.is_some());
        } else if let Some(greeting) = object.remove("QMP") {
            return Ok(Some(Notice::Greeting(greeting)));
        } else if let Some(Value::String(name)) = object.remove("event") {
            let data = object.remove("data").unwrap_or(Value::Null);
            return Ok(Some(Notice::Event(Event { name, data })));
        }
        Ok(None)
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

/// Why a conversation is over that this side has ended.
const CLOSED_HERE: &str = "the harness has closed it";

/// Gives a stream back. What its peer has said by now and was not read is lost.
pub(super) fn give(reader: OwnedReadHalf, writer: OwnedWriteHalf, to: oneshot::Sender<UnixStream>) {
    // Both halves are of one stream.
    if let Ok(stream) = reader.reunite(writer) {
        let _ = to.send(stream);
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
