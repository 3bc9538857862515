//! A stack that is held: it goes no further while whoever attends to it asks its levels what they want to know.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nestmatrix_model::{LevelNumber, Stage};
use nestmatrix_vmm::guest::{ExecOutput, SharedAnswers, Shell};
use nestmatrix_vmm::qemu::{ChannelKind, ChannelName};
use nestmatrix_vmm::wire::Wire;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;

use super::Stop;
use super::boot::Stack;
use super::console_view::ConsoleView;
use super::watch::Trouble;
use crate::host::Host;

/// Says where a stack is held, and passes on what is asked of it while it is.
pub trait Inspector {
    /// Whether it is held once this stage is done.
    fn holds_after(&self, stage: Stage) -> bool;

    /// Whether it is held once it has come to its end, or has stopped.
    fn holds_at_end(&self, stopped: bool) -> bool;

    /// It is held from now on.
    fn begins(&self, held: PausedStack);

    /// Something happened in it meanwhile, in a sentence.
    fn hears(&self, what: &str);

    /// What is asked of it next; nothing if it is to go on. A future that is dropped must have taken no request.
    fn next(&self) -> Pin<Box<dyn Future<Output = Option<Request>> + '_>>;
}

/// A stack as it is held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PausedStack {
    /// The last stage that was done, or in which it stopped.
    pub stage: Stage,
    /// Why it stopped, if it did.
    pub stop: Option<Stop>,
    /// Its levels, outermost first, also those that don't run yet.
    pub levels: Vec<PausedLevel>,
}

/// A level of a stack that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedLevel {
    /// Which.
    pub level: LevelNumber,
    /// Its kernel release, once it has said so.
    pub kernel: Option<String>,
    /// Version of the QEMU that runs it, if one does.
    pub qemu: Option<String>,
    /// The record of its console, if it has one by now.
    pub console: Option<PathBuf>,
    /// Whether the QEMU that runs it has a monitor that can be asked.
    pub monitor: bool,
    /// Whether commands can be run in it.
    pub shell: bool,
}

/// Something that is asked of a level of a held stack.
#[derive(Debug)]
pub struct Request {
    /// The level.
    pub level: LevelNumber,
    /// What is asked.
    pub ask: Ask,
    /// Where the answer goes. Who does not wait for it any more drops the other end.
    pub answer: oneshot::Sender<Answer>,
}

/// What can be asked of a level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Ask {
    /// To run `/bin/sh -c script` in it, by its agent or by the shell on its console.
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
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Answer {
    /// A script has come to its end.
    Ended {
        /// Exit status; none if a signal ended it.
        status: Option<i64>,
        /// The signal that ended it, if one did.
        signal: Option<i64>,
        /// Standard output; of a shell on a console also standard error.
        stdout: String,
        /// Standard error.
        stderr: String,
    },
    /// A monitor has answered.
    Returned {
        /// What.
        value: Value,
    },
    /// There is no answer.
    Refused {
        /// Why.
        why: String,
    },
}

impl From<ExecOutput> for Answer {
    fn from(ExecOutput { status, signal, stdout, stderr }: ExecOutput) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self::Ended { status, signal, stdout: text(stdout), stderr: text(stderr) }
    }
}

/// How a level can be asked.
#[derive(Clone)]
struct LevelHandle {
    level: LevelNumber,
    host: Option<Rc<dyn Host>>,
    shell: Option<(Rc<Mutex<Shell>>, SharedAnswers)>,
    monitor: Option<Wire>,
    reply: Duration,
    /// How many commands the shells on consoles were given.
    asked: Rc<Cell<u32>>,
}

impl LevelHandle {
    async fn answer(&self, ask: Ask) -> Answer {
        let done = match ask {
            Ask::Run { script } => self.run(&script).await,
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
        if let Some(host) = &self.host {
            return host.run(script).await.map(Answer::from).map_err(|e| e.to_string());
        }
        let Some((shell, answers)) = &self.shell else {
            return Err(format!("{} takes no commands now", self.level));
        };
        // The next command must not be typed before: a terminal that nobody reads drops what is too much for it.
        let mut shell = shell.lock().await;
        let id = self.asked.get() + 1;
        self.asked.set(id);
        shell.ask(id, script).await.map_err(|e| e.to_string())?;
        Ok(answers.when(|answers| answers.to(id).cloned()).await.into())
    }
}

impl Stack<'_> {
    /// Holds the stack if it is to be held once the stage that is done now is.
    pub(super) async fn pause_after(&mut self, done: Stage) -> Result<(), Stop> {
        match self.inspector {
            Some(inspector) if inspector.holds_after(done) => self.hold(inspector, done, None).await,
            _ => Ok(()),
        }
    }

    /// Holds the stack until its attendant lets it go on. What is heard of it meanwhile goes to the attendant.
    ///
    /// # Errors
    /// Somebody asked the harness to end, or the machine that all levels run in is gone.
    pub(super) async fn hold(
        &mut self,
        inspector: &dyn Inspector,
        stage: Stage,
        stop: Option<&Stop>,
    ) -> Result<(), Stop> {
        let began = Instant::now();
        let mut shells = BTreeMap::new();
        for (channel, shell) in std::mem::take(&mut self.shells) {
            shells.insert(channel, Rc::new(Mutex::new(shell)));
        }
        let asked = Rc::new(Cell::new(self.asked));
        let doors: Vec<LevelHandle> =
            self.all_levels().map(|level| self.door(level, &shells, &asked)).collect();
        let levels = doors.iter().map(|door| self.held(door)).collect();
        inspector.begins(PausedStack { stage, stop: stop.cloned(), levels });
        let mut known = stop.map(|stop| stop.symptom.to_string());
        let mut answers = JoinSet::new();
        let ended = loop {
            tokio::select! {
                request = inspector.next() => {
                    let Some(Request { level, ask, mut answer }) = request else { break Ok(()) };
                    let Some(door) = doors.iter().find(|door| door.level == level).cloned() else {
                        let _ = answer.send(Answer::Refused { why: format!("the stack has no {level}") });
                        continue;
                    };
                    answers.spawn_local(async move {
                        tokio::select! {
                            said = door.answer(ask) => { let _ = answer.send(said); }
                            () = answer.closed() => {}
                        }
                    });
                }
                Some(_) = answers.join_next() => {}
                trouble = self.watch.trouble() => {
                    let interrupted = matches!(trouble, Trouble::Interrupted);
                    let seen = self.explain(trouble).await;
                    let seen = seen.symptom.to_string();
                    if !interrupted && known.as_ref() != Some(&seen) {
                        inspector.hears(&seen);
                    }
                    if interrupted || self.metal_is_gone().await {
                        // Whatever was done to it meanwhile, it was not let go on its way.
                        break Err(Stop::interrupted(stage));
                    }
                    known = Some(seen);
                }
            }
        };
        answers.shutdown().await;
        drop(doors);
        let shells = shells.into_iter();
        self.shells =
            shells.filter_map(|(of, shell)| Some((of, Rc::into_inner(shell)?.into_inner()))).collect();
        self.asked = asked.get();
        self.held += began.elapsed();
        ended
    }

    /// Every level of the stack, also an L0 that is this machine.
    fn all_levels(&self) -> impl Iterator<Item = LevelNumber> {
        let known = |level: &LevelNumber| {
            self.host(*level).is_some() || self.plan.levels.iter().any(|plan| plan.level == *level)
        };
        LevelNumber::ALL.into_iter().filter(known)
    }

    fn door(
        &self,
        level: LevelNumber,
        shells: &BTreeMap<ChannelName, Rc<Mutex<Shell>>>,
        asked: &Rc<Cell<u32>>,
    ) -> LevelHandle {
        let answers = self.watch.console(level).map(ConsoleView::answers);
        let answers = answers.filter(|answers| answers.now(|answers| answers.ready()));
        let shell = shells.iter().rev().find(|(channel, _)| channel.level == level);
        LevelHandle {
            level,
            host: self.host(level),
            shell: shell.zip(answers).map(|((_, shell), answers)| (Rc::clone(shell), answers.clone())),
            monitor: self.watch.wire(level, ChannelKind::Qmp).cloned(),
            reply: self.limits.of(level).total,
            asked: Rc::clone(asked),
        }
    }

    fn held(&self, door: &LevelHandle) -> PausedLevel {
        let seen = self.levels.get(&door.level);
        let console = self.record(&door.level.to_string(), "console.log");
        PausedLevel {
            level: door.level,
            kernel: seen.and_then(|seen| seen.kernel.clone()),
            qemu: seen.and_then(|seen| seen.qemu.clone()),
            console: console.is_file().then_some(console),
            monitor: door.monitor.is_some(),
            shell: door.host.is_some() || door.shell.is_some(),
        }
    }

    /// Whether the emulator of the outermost level, in which all others run, has ended.
    async fn metal_is_gone(&self) -> bool {
        match self.live.first() {
            Some(live) => matches!(live.qemu.ended().await, Ok(Some(_))),
            None => false,
        }
    }
}
