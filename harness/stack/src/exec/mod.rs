//! A command of the user in a level: files of this machine are copied into the level, and its output comes while it runs.
//!
//! A guest agent returns output only at the end of a command, up to 16 MiB, and does not pass signals on. So a script in the level
//! writes the output to files, which the harness reads while they grow ([`output`]), and the command is the leader of a session,
//! which ends as a whole.

pub(crate) mod copy;
mod output;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::{Agent, ExecOutput, ExecState};
use nestmatrix_vmm::shell::quote;
use nestmatrix_vmm::wire::CallError;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};

use super::pause::Answer;
use super::random::random_hex;
use output::OutputReader;

pub use copy::{CopiedFile, Then};

/// Where a level keeps the copied files and the output of commands. Some systems mount /run without permission to execute files.
const FOLDER: &str = "/tmp/nestmatrix";

/// The exit status of the script in the level if it could not start the command.
const NOT_STARTED: i64 = 97;
/// The script's message in that case. Both together distinguish it from a command that exits with the same status.
const CANNOT_START: &str = "nestmatrix can't start the command";

/// First and longest pause between two polls of a command that prints nothing.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(200)];
/// How long the output of an ended command may stay silent before its end. It ends at once, unless a process that has left the session
/// of the command keeps it open.
const LINGER: Duration = Duration::from_secs(2);

/// A command to run in a level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The files that must be in the level first.
    pub files: Vec<CopiedFile>,
    /// What `/bin/sh` runs there. It should become the command (`exec`), so that the end of the command is its end.
    pub script: String,
}

/// A stream of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why a command has no end that counts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    #[error(transparent)]
    Agent(#[from] CallError),
    #[error("failed to copy {} into the level: {why}", from.display())]
    Copy { from: PathBuf, why: String },
    #[error("{CANNOT_START}: {0}")]
    Start(String),
    #[error("output of the command is lost, since there was no room for it in {FOLDER} of the level")]
    OutputLost,
    #[error("no process waits for the output")]
    Unwanted,
}

/// A level that runs commands of the user.
#[derive(Debug, Clone)]
pub(super) struct ExecLevel {
    agent: Agent,
    /// The files that it has. Locked while files are copied, so that no file is copied twice.
    present: Rc<Mutex<copy::Present>>,
}

impl ExecLevel {
    pub(super) fn new(agent: Agent) -> Self {
        Self { agent, present: Rc::default() }
    }

    /// Runs a command to its end, and sends its output meanwhile. Dropping the future ends the command.
    pub(super) async fn run(&self, exec: &Exec, answers: &mpsc::Sender<Answer>) -> Result<Answer, String> {
        let ended = self.carry_out(exec, answers).await.map_err(|e| e.to_string())?;
        Ok(Answer::from(ended))
    }

    async fn carry_out(&self, exec: &Exec, answers: &mpsc::Sender<Answer>) -> Result<ExecOutput, ExecError> {
        copy::bring(&self.agent, &mut *self.present.lock().await, &exec.files).await?;
        let id = random_hex::<8>().map_err(|e| ExecError::Start(e.to_string()))?;
        let folder = format!("{FOLDER}/run-{id}");
        let mut running = Running { agent: self.agent.clone(), folder: folder.clone(), has_ended: false };
        let pid = self.agent.start(&script(&folder, &exec.script)).await?;
        answers.send(Answer::Started).await.map_err(|_| ExecError::Unwanted)?;
        let reader = |name, stream| OutputReader::new(&self.agent, &folder, name, stream);
        let mut readers = [reader("out", Stream::Stdout), reader("err", Stream::Stderr)];
        let mut ended = None;
        let mut complete = false;
        let mut pause = PAUSES[0];
        let mut silent = Duration::ZERO;
        loop {
            let mut any = false;
            for reader in &mut readers {
                any |= reader.pass_on(answers).await?;
            }
            (pause, silent) = if any { (PAUSES[0], Duration::ZERO) } else { (pause, silent + pause) };
            match &ended {
                // Its output was read before it was known to have ended, so there may be more.
                None => match self.agent.poll(pid).await? {
                    ExecState::Running => {}
                    ExecState::Ended(output) => {
                        running.has_ended = true;
                        check_start(&output)?;
                        (ended, pause, silent) = (Some(output), PAUSES[0], Duration::ZERO);
                        continue;
                    }
                },
                Some(_) if any => {}
                // Everything was in the files before they were read to their ends just now.
                Some(output) if complete || silent > LINGER => {
                    let (status, signal) = (output.status, output.signal);
                    return Ok(ExecOutput { status, signal, stdout: Vec::new(), stderr: Vec::new() });
                }
                Some(_) => {
                    complete = true;
                    for reader in &mut readers {
                        complete &= reader.is_complete().await?;
                    }
                    if complete {
                        continue;
                    }
                }
            }
            if !any {
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(PAUSES[1]);
            }
        }
    }
}

fn check_start(output: &ExecOutput) -> Result<(), ExecError> {
    let said = String::from_utf8_lossy(&output.stderr);
    match said.split_once(CANNOT_START) {
        Some((why, _)) if output.status == Some(NOT_STARTED) => Err(ExecError::Start(why.trim().to_owned())),
        _ => Ok(()),
    }
}

/// A command that runs, or is about to. Dropping it ends the command and removes its files in the level.
struct Running {
    agent: Agent,
    folder: String,
    has_ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let agent = self.agent.clone();
        let script = match self.has_ended {
            true => format!("rm -rf {}", self.folder),
            false => end_script(&self.folder),
        };
        // If the stack ends too, so does this task.
        tokio::task::spawn_local(async move {
            if let Err(e) = agent.run(&script).await {
                tracing::debug!("failed to end a command: {e}");
            }
        });
    }
}

/// A function of the scripts: sends `$signal` to each process of the session `$pid`. Fails if the session has no process.
///
/// The session is field 6 of /proc/PID/stat (proc(5)); the name in field 2 may contain spaces and parentheses.
pub(crate) const SIGNAL_SESSION: &str = "signal_session() {
  found=1
  for stat in /proc/[0-9]*/stat; do
    { read -r line <$stat; } 2>/dev/null || continue
    set -- ${line##*) }
    if [ \"$4\" = \"$pid\" ] && [ $1 != Z ]; then
      process=${stat#/proc/}
      kill -$signal ${process%/stat} 2>/dev/null
      found=0
    fi
  done
  return $found
}
# A process may start another meanwhile.
kill_session() {
  signal=KILL
  tries=0
  while signal_session && [ $tries -lt 20 ]; do sleep 0.05; tries=$((tries + 1)); done
}
";

/// The script that runs the user's in its own session.
///
/// Each stream goes to files of up to 4 MiB. A file exists only once the one before it is complete. The harness empties a file when it
/// has read it, and at most two are not empty: a command that prints faster than its output is read must wait.
fn script(folder: &str, script: &str) -> String {
    let script = quote(script);
    format!(
        "{SIGNAL_SESSION}
cannot() {{ echo \"{CANNOT_START}\" >&2; exit {NOT_STARTED}; }}
umask 022
mkdir -p {folder} && cd {folder} && mkfifo out err || cannot
if ! mkdir started; then
  [ -d started ] || cannot
  # The script that ends the command came first.
  rm -rf {folder}
  exit {NOT_STARTED}
fi
copy() {{
  n=0
  while dd of=$1.$n bs=16k count=256 2>/dev/null || {{ : >$1.lost; cat >/dev/null; }}; [ -s $1.$n ]; do
    n=$((n + 1))
    while [ -s $1.$((n - 2)) ]; do sleep 0.02; done
  done
  : >$1.end
}}
copy out <out >/dev/null 2>&1 &
copy err <err >/dev/null 2>&1 &
cd /
setsid /bin/sh -c {script} </dev/null >{folder}/out 2>{folder}/err &
pid=$!
echo $pid >{folder}/pid
wait $pid
status=$?
kill_session
exit $status\n"
    )
}

/// The script that ends a command, or what it left, and removes its files.
///
/// The command may not have started yet. Whichever script makes the folder `started` first decides whether it does.
fn end_script(folder: &str) -> String {
    format!(
        "{SIGNAL_SESSION}
mkdir -p {folder}
mkdir {folder}/started 2>/dev/null && exit
tries=0
until {{ read -r pid <{folder}/pid; }} 2>/dev/null || [ $tries -eq 50 ]; do sleep 0.1; tries=$((tries + 1)); done
if [ -n \"$pid\" ]; then
  signal=TERM
  signal_session
  tries=0
  signal=0
  while signal_session && [ $tries -lt 5 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill_session
fi
rm -rf {folder}"
    )
}

/// Why a level runs no command of the user.
pub(super) fn without_agent(level: LevelNumber) -> String {
    format!("{level} has no guest agent, which runs the command: choose a level that hosts another one")
}

/// Why a Windows level runs none.
pub(super) fn without_shell(level: LevelNumber) -> String {
    format!(
        "{level} is Windows, which has no POSIX shell for the command: only the commands of its role run there"
    )
}

#[cfg(test)]
mod agent_tests;
#[cfg(test)]
mod tests;
