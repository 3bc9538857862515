//! A paused stack: it waits while the inspector of a debug session queries its levels.

use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nestmatrix_model::{LevelNumber, Stage};
use nestmatrix_vmm::guest::ExecOutput;
use nestmatrix_vmm::qemu::ChannelKind;
use nestmatrix_vmm::wire::Wire;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Stop;
use super::exec::{Exec, ExecLevel, Stream, without_agent, without_shell};
use super::level::Guest;
use super::stack::Stack;
use super::watch::Abort;
use crate::host::Host;

/// Decides where a stack pauses, and passes on requests in the meantime.
pub trait Inspector {
    /// Whether it pauses after this stage.
    fn pauses_after(&self, stage: Stage) -> bool;

    /// Whether it pauses at its end, or when it has stopped.
    fn pauses_at_end(&self, stopped: bool) -> bool;

    /// It is paused from now on.
    fn begins(&self, paused: PausedStack);

    /// Something happened in it while it is paused, in a sentence.
    fn notify(&self, what: &str);

    /// The next request; nothing if the stack should continue. A future that is dropped must have taken no request.
    fn next(&self) -> Pin<Box<dyn Future<Output = Option<Request>> + '_>>;
}

/// A stack that is paused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PausedStack {
    /// The last stage that was done, or in which it stopped.
    pub stage: Stage,
    /// Why it stopped, if it did.
    pub stop: Option<Stop>,
    /// Its levels, outermost first, including those that don't run yet.
    pub levels: Vec<PausedLevel>,
}

/// A level of a paused stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedLevel {
    /// Its number.
    pub level: LevelNumber,
    /// Its kernel release, once it has reported it.
    pub kernel: Option<String>,
    /// Version of the QEMU that runs it, if one does.
    pub qemu: Option<String>,
    /// The record of its console, if it has one by now.
    pub console: Option<PathBuf>,
    /// Whether the QEMU that runs it has a monitor.
    pub monitor: bool,
    /// Whether scripts can be run in it.
    pub shell: bool,
    /// Whether it has an agent, which runs commands of the user.
    #[serde(default)]
    pub exec: bool,
}

/// A request to a level of a paused stack.
#[derive(Debug)]
pub struct Request {
    /// The level.
    pub level: LevelNumber,
    /// The request.
    pub ask: Ask,
    /// The receiver of the answers, of which the last one is [final](Answer::is_final). If it is no longer waited for, the other end is
    /// dropped.
    pub answers: mpsc::Sender<Answer>,
}

/// A kind of request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Ask {
    /// Run `/bin/sh -c script` in it, by its agent or by the shell on its console.
    Run {
        /// The script.
        script: String,
    },
    /// A command for the monitor of the QEMU that runs it.
    Qmp {
        /// Its name.
        command: String,
        /// Its arguments, an object or null.
        arguments: Value,
    },
    /// Run a command of the user in it, with files of this machine, and answer while it runs.
    Exec(Exec),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Answer {
    /// A command of the user has its files and starts.
    Started,
    /// It has printed something.
    Printed {
        /// Where.
        stream: Stream,
        /// What, in base64.
        base64: String,
    },
    /// A script or a command has ended.
    Ended {
        /// Exit status; none if a signal ended it.
        status: Option<i64>,
        /// The signal that ended it, if one did.
        signal: Option<i64>,
        /// Standard output; for a shell on a console also standard error.
        stdout: String,
        /// Standard error.
        stderr: String,
    },
    /// A monitor has answered.
    Returned {
        /// Its answer.
        value: Value,
    },
    /// There is no answer.
    Refused {
        /// Why.
        why: String,
    },
}

impl Answer {
    /// Whether it is the last answer to a request.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Started | Self::Printed { .. })
    }
}

impl From<ExecOutput> for Answer {
    fn from(ExecOutput { status, signal, stdout, stderr }: ExecOutput) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self::Ended { status, signal, stdout: text(stdout), stderr: text(stderr) }
    }
}

/// How a level can be queried.
#[derive(Clone)]
struct LevelHandle {
    level: LevelNumber,
    /// How commands are run in it, if it takes any.
    guest: Option<Guest>,
    /// How commands of the user are run in it, or why none are.
    exec: Result<ExecLevel, String>,
    monitor: Option<Wire>,
    /// How long its monitor may take to answer.
    reply: Duration,
}

/// How long the cause of a failure may take to be seen. A conversation with a level often ends first.
const CAUSE: Duration = Duration::from_secs(1);

impl LevelHandle {
    /// Answers a request, unless the level, or one around it, fails meanwhile.
    async fn answer_unless(
        &self,
        ask: Ask,
        answers: &mpsc::Sender<Answer>,
        failures: watch::Receiver<Vec<Failed>>,
    ) -> Answer {
        let is_exec = matches!(ask, Ask::Exec(_));
        let mut failure = std::pin::pin!(failure_of(self.level, failures));
        let answer = tokio::select! {
            why = &mut failure => return Answer::Refused { why },
            answer = self.answer(ask, answers) => answer,
        };
        match answer {
            Answer::Refused { why } if is_exec => {
                let why = tokio::time::timeout(CAUSE, failure).await.unwrap_or(why);
                Answer::Refused { why }
            }
            answer => answer,
        }
    }

    /// Answers a request. Only a command of the user has several answers; the last one is returned.
    async fn answer(&self, ask: Ask, answers: &mpsc::Sender<Answer>) -> Answer {
        let done = match ask {
            Ask::Run { script } => self.run(&script).await,
            Ask::Exec(exec) => match &self.exec {
                Ok(level) => level.run(&exec, answers).await,
                Err(why) => Err(why.clone()),
            },
            Ask::Qmp { command, arguments } => match &self.monitor {
                Some(monitor) => {
                    let called = tokio::time::timeout(self.reply, monitor.call(&command, arguments)).await;
                    let late = || format!("no answer to {command} within {} s", self.reply.as_secs());
                    let answered = called.map_err(|_| late());
                    answered
                        .and_then(|answer| answer.map_err(|e| e.to_string()))
                        .map(|value| Answer::Returned { value })
                }
                None => Err(format!("{} has no monitor now", self.level)),
            },
        };
        done.unwrap_or_else(|why| Answer::Refused { why })
    }

    async fn run(&self, script: &str) -> Result<Answer, String> {
        match &self.guest {
            Some(Guest::Host(host)) => host.run(script).await.map(Answer::from).map_err(|e| e.to_string()),
            Some(Guest::Console(shell)) => {
                shell.run(script).await.map(Answer::from).map_err(|e| e.to_string())
            }
            None => Err(format!("{} takes no commands now", self.level)),
        }
    }
}

/// How commands of the user are run in a level, which is this host if it takes any.
fn exec_level(level: LevelNumber, host: Option<Rc<dyn Host>>) -> Result<ExecLevel, String> {
    match host.as_ref().and_then(|host| host.agent().cloned()) {
        Some(agent) => Ok(ExecLevel::new(agent)),
        None if host.is_some_and(|host| host.windows().is_some()) => Err(without_shell(level)),
        None => Err(without_agent(level)),
    }
}

/// The failure of a level while the stack is paused.
struct Failed {
    level: LevelNumber,
    why: String,
}

/// Waits until `level`, or one around it, fails; returns why.
async fn failure_of(level: LevelNumber, mut failures: watch::Receiver<Vec<Failed>>) -> String {
    let is_around = |failed: &&Failed| failed.level <= level;
    match failures.wait_for(|failures| failures.iter().any(|failed| failed.level <= level)).await {
        Ok(failures) => failures.iter().find(is_around).map_or_else(String::new, |failed| failed.why.clone()),
        // The pause has ended, and its requests with it.
        Err(_) => std::future::pending().await,
    }
}

impl Stack<'_> {
    /// Pauses the stack if the user asked for that after the current stage.
    pub(super) async fn pause_after(&mut self, done: Stage) -> Result<(), Stop> {
        match self.request.inspector {
            Some(inspector) if inspector.pauses_after(done) => self.pause(inspector, done, None).await,
            _ => Ok(()),
        }
    }

    /// Pauses the stack until its inspector lets it continue. Events meanwhile go to the inspector.
    ///
    /// # Errors
    /// The user asked the harness to end, or the machine that all levels run in is gone.
    pub(super) async fn pause(
        &mut self,
        inspector: &dyn Inspector,
        stage: Stage,
        stop: Option<&Stop>,
    ) -> Result<(), Stop> {
        let began = Instant::now();
        let handles: Vec<LevelHandle> = self.all_levels().map(|level| self.handle(level)).collect();
        let levels = handles.iter().map(|handle| self.paused_level(handle)).collect();
        inspector.begins(PausedStack { stage, stop: stop.cloned(), levels });
        let mut known = stop.map(|stop| stop.symptom.to_string());
        // A level that fails answers no more, and neither do those inside it.
        let failures = watch::Sender::new(Vec::<Failed>::new());
        let mut answering = JoinSet::new();
        let ended = loop {
            tokio::select! {
                request = inspector.next() => {
                    let Some(Request { level, ask, answers }) = request else { break Ok(()) };
                    let handle = handles.iter().find(|handle| handle.level == level).cloned();
                    let failure = failures.subscribe();
                    answering.spawn_local(async move {
                        let answer = async {
                            match handle {
                                Some(handle) => handle.answer_unless(ask, &answers, failure).await,
                                None => Answer::Refused { why: format!("the stack has no {level}") },
                            }
                        };
                        tokio::select! {
                            last = answer => { let _ = answers.send(last).await; }
                            () = answers.closed() => {}
                        }
                    });
                }
                Some(_) = answering.join_next() => {}
                abort = self.watch.next_abort() => {
                    let interrupted = matches!(abort, Abort::Interrupted);
                    let stop = self.explain(abort, false).await;
                    let seen = stop.symptom.to_string();
                    if !interrupted && known.as_ref() != Some(&seen) {
                        inspector.notify(&seen);
                    }
                    if let (false, Some(level)) = (interrupted, stop.level()) {
                        failures.send_modify(|failures| failures.push(Failed { level, why: seen.clone() }));
                    }
                    if interrupted || self.machines.outermost_has_ended().await {
                        // Whatever happened meanwhile, the user has not let it continue.
                        break Err(Stop::interrupted(stage));
                    }
                    known = Some(seen);
                }
            }
        };
        if ended.is_err() && !self.request.cancellation.is_requested() {
            // They are answered with what was seen.
            let answered = async { while answering.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(CAUSE, answered).await;
        }
        answering.shutdown().await;
        self.ledger.paused += began.elapsed();
        ended
    }

    /// Every level of the stack, including an L0 that is this machine.
    fn all_levels(&self) -> impl Iterator<Item = LevelNumber> {
        let known = |level: &LevelNumber| {
            self.levels.host(*level).is_some() || self.request.index_of(*level).is_some()
        };
        LevelNumber::ALL.into_iter().filter(known)
    }

    fn handle(&self, level: LevelNumber) -> LevelHandle {
        // A level that has not come up may still have a shell on its console.
        let shell = || self.channels.shell(level.into()).filter(|shell| shell.is_ready());
        let host = self.levels.host(level);
        LevelHandle {
            level,
            exec: exec_level(level, host),
            guest: self.levels.guest(level).or_else(|| shell().cloned().map(Guest::Console)),
            monitor: self.watch.wire(level, ChannelKind::Qmp).cloned(),
            reply: self.limits.run.of(level).total,
        }
    }

    fn paused_level(&self, handle: &LevelHandle) -> PausedLevel {
        let level = handle.level;
        let known = self.ledger.known_of(level);
        let console = self.request.records().file(&level.to_string(), "console.log");
        PausedLevel {
            level,
            kernel: known.and_then(|known| known.kernel.clone()),
            qemu: known.and_then(|known| known.qemu.clone()),
            console: console.is_file().then_some(console),
            monitor: handle.monitor.is_some(),
            shell: handle.guest.is_some(),
            exec: handle.exec.is_ok(),
        }
    }
}
