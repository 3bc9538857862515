//! A booted level without an agent, as a host: the harness uses the shell on its console. It starts nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_vmm::guest::{Answers, ExecOutput, SharedAnswers, Shell};
use tokio::sync::Mutex;

use super::{ClosingReport, Facts, Host, HostError, MachineHost, Pending, facts};

/// The number of kernel messages that are read at the end: a console is slow.
const LAST_MESSAGES: usize = 15;

/// Pause before something is typed again: such a console loses characters. The caller's time limit decides how often.
const AGAIN: Duration = Duration::from_secs(3);

/// A level whose shell answers.
#[derive(Debug, Clone)]
pub struct ConsoleLevel {
    name: String,
    shell: Rc<Mutex<Shell>>,
    answers: SharedAnswers,
    asked: Rc<Cell<u32>>,
}

impl ConsoleLevel {
    /// The level with this number. `shell` types to it, and its console's lines go to `answers`.
    pub fn new(level: LevelNumber, shell: Rc<Mutex<Shell>>, answers: SharedAnswers) -> Self {
        Self { name: level.to_string(), shell, answers, asked: Rc::default() }
    }

    async fn ask(&self, script: &str) -> Result<ExecOutput, HostError> {
        let cannot =
            |source| HostError::System { what: format!("typing at the console of {}", self.name), source };
        // One after the other: until the level reads, a later input replaces an earlier one.
        let mut shell = self.shell.lock().await;
        let id = self.asked.get() + 1;
        self.asked.set(id);
        for piece in Shell::pieces(script) {
            let number = self.answers.taken() + 1;
            loop {
                shell.type_piece(id, number, &piece).await.map_err(cannot)?;
                if self.sees(|answers| answers.taken() >= number).await {
                    break;
                }
            }
        }
        loop {
            shell.run_pieces(id).await.map_err(cannot)?;
            if self.sees(|answers| answers.has_begun(id)).await {
                break;
            }
        }
        Ok(self.answers.when(|answers| answers.to(id).cloned()).await)
    }

    /// Whether `it` holds now or soon.
    async fn sees(&self, it: impl Fn(&Answers) -> bool) -> bool {
        let holds = self.answers.when(|answers| it(answers).then_some(()));
        tokio::time::timeout(AGAIN, holds).await.is_ok()
    }
}

impl Host for ConsoleLevel {
    fn name(&self) -> &str {
        &self.name
    }

    fn run<'a>(&'a self, script: &'a str) -> Pending<'a, ExecOutput> {
        Box::pin(self.ask(script))
    }

    fn machine_host(self: Rc<Self>) -> Result<Rc<dyn MachineHost>, HostError> {
        let why = "a level that has a console alone runs no guests".to_owned();
        Err(HostError::Command { what: "starting QEMU".to_owned(), host: self.name.clone(), why })
    }

    /// Without counters: it has no guests, and each line takes a tenth of a second.
    fn closing_report(&self) -> Pending<'_, ClosingReport> {
        Box::pin(async move {
            let output = self.ask(&facts::messages_script(Some(LAST_MESSAGES))).await?;
            Ok(ClosingReport::parse(&String::from_utf8_lossy(&output.stdout)))
        })
    }

    fn facts<'a>(&'a self, profile: &'a ArchInfo, _: &'a str) -> Pending<'a, Facts> {
        Box::pin(async move {
            let output = self.ask(&facts::script(profile.kvm_module)).await?;
            Ok(Facts::parse(&String::from_utf8_lossy(&output.stdout)))
        })
    }
}
