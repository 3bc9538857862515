//! From trouble to its cause: why a stack stopped, where, and who is at fault.

use std::time::Duration;

use nestmatrix_model::architecture::Nesting;
use nestmatrix_model::{Accelerator, CpuMode, LevelNumber, Stage, StageKind};
use nestmatrix_vmm::qemu::{
    ChannelKind, ChannelName, Instance, names_one_of, ran_out_of_resources, rejects_command_line,
};
use nestmatrix_vmm::wire::{CallError, Speaker};
use tokio::time::Instant;

use super::boot::{RunningLevel, Stack};
use super::console_view::ConsoleView;
use super::watch::{Trouble, Watch};
use super::{Blame, Evidence, LevelPlan, Limit, Metal, Stop, Symptom};
use crate::host::{Diagnostics, HostError, QemuEnd, last_lines_of};

/// What QEMU says before the names of features that it can't give, if it refuses to start without them.
const REFUSES_FEATURES: &str =
    "features requested in the CPU model are not available in the current configuration:";

/// The machine of a level that is waited for: its second one, if that is what it is about, else its own.
pub(super) fn attended(live: &[RunningLevel], level: LevelNumber, on_second: bool) -> Option<&RunningLevel> {
    let of_level = live.iter().filter(|live| live.level == level);
    of_level.max_by_key(|live| live.instance.is_second() == on_second)
}

impl Stack<'_> {
    /// Waits for `work`, which is about `level`; trouble meanwhile becomes a stop.
    pub(super) async fn during<T>(
        &mut self,
        level: LevelNumber,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, Stop> {
        self.during_within(self.limit(level), level, work).await
    }

    /// The same within `limit`.
    async fn during_within<T>(
        &mut self,
        limit: Limit,
        level: LevelNumber,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, Stop> {
        let qemu = attended(&self.live, level, self.on_second).map(|live| &*live.qemu);
        match self.watch.during(level, limit, qemu, work).await {
            Ok(value) => Ok(value),
            Err(trouble) => Err(self.explain(trouble).await),
        }
    }

    pub(super) async fn until<T>(
        &mut self,
        level: LevelNumber,
        done: impl Fn(&Watch) -> Option<T>,
    ) -> Result<T, Stop> {
        let limit = self.limit(level);
        let Some(live) = attended(&self.live, level, self.on_second) else {
            return Err(Stop::harness(self.stage, format!("{level} does not run")));
        };
        match self.watch.until(level, limit, &*live.qemu, done).await {
            Ok(value) => Ok(value),
            Err(trouble) => Err(self.explain(trouble).await),
        }
    }

    /// Finds the cause of trouble: a channel that closed is only the consequence of a QEMU's end, and that of the end of
    /// one further out.
    pub(super) async fn explain(&mut self, trouble: Trouble) -> Stop {
        if matches!(trouble, Trouble::Interrupted) {
            return Stop::interrupted(self.stage);
        }
        self.watch.settle().await;
        if let Some((level, end)) = self.first_end(&trouble).await {
            return self.of_end(level, end);
        }
        let (symptom, blame) = self.read_trouble(trouble).await;
        let level = symptom.level().unwrap_or(self.plan.innermost());
        // What its kernel says is the cause, whatever was noticed first.
        let failure = self.attended_console(level).and_then(|console| console.failure());
        let (symptom, blame) = match failure {
            Some((failure, said)) => (Symptom::GuestFailed { level, failure, said }, Blame::Stack),
            None => self.unless_emulator_erred(symptom, blame),
        };
        // That an emulator does not boot L0 says nothing of the matrix.
        let booting = self.rebooting || self.stage < Stage::Level(level, StageKind::Kvm);
        let metal_fails = level.below().is_none() && booting;
        let blame = if metal_fails { Blame::Harness } else { blame };
        Stop { stage: self.stage, symptom, blame }
    }

    /// What it means that the QEMU of `level` ended.
    fn of_end(&self, level: LevelNumber, end: QemuEnd) -> Stop {
        if level.below().is_none() {
            let symptom = Symptom::QemuEnded { level, ended: end.ended, said: end.output };
            return Stop::stack(self.stage, symptom).not_its_fault();
        }
        if let Some((feature, model)) = self.feature_refused(level, &end.output) {
            let symptom = Symptom::MissingCpuFeature { level, feature, model, nested: None };
            return Stop::stack(self.stage, symptom);
        }
        if self.plan.on_emulator(level) {
            let why = format!("the emulator that is L0's hypervisor {}", end.describe());
            return Stop::harness(self.stage, why).about(level);
        }
        let QemuEnd { ended, output: said, not_started } = end;
        if let (Some(why), Some(level)) = (not_started, level.below()) {
            return Stop::stack(self.stage, Symptom::NotStarted { level, why }).not_its_fault();
        }
        // The second machine of a level is launched by a step.
        let launching = self.stage == Stage::Level(level, StageKind::Launch) || self.on_second;
        if let (true, true, Some(below)) = (launching, ran_out_of_resources(&said), level.below()) {
            let why = format!(
                "QEMU {ended} because {below} or this machine did not provide something: {}",
                last_lines_of(&said)
            );
            return Stop::stack(self.stage, Symptom::NotStarted { level: below, why }).not_its_fault();
        }
        if launching && rejects_command_line(&said) {
            let plan = self.plan.levels.iter().find(|plan| plan.level == level);
            let asked_for = plan.is_some_and(|plan| asks_for_what_is_named(plan, &said));
            let stop = Stop::stack(self.stage, Symptom::CommandLineRejected { level, said, asked_for });
            return if asked_for { stop } else { stop.not_its_fault() };
        }
        let stop = Stop::stack(self.stage, Symptom::QemuEnded { level, ended, said });
        // Such as by the kernel where memory runs out: how much there is, is the harness's choice.
        let is_taken_away = ended.is_from_outside() && !self.killed.contains(&level);
        if is_taken_away { stop.not_its_fault() } else { stop }
    }

    /// The feature that a level needs so that it can host, and its CPU model, where a QEMU refuses to start for that alone. On IBM Z it
    /// does (target/s390x/cpu_models.c), elsewhere it leaves the feature out and warns. If it names other features too, they may be
    /// those that it refuses for.
    fn feature_refused(&self, level: LevelNumber, said: &str) -> Option<(String, String)> {
        let Nesting::CpuFeature(feature) = self.plan.profile.nesting else { return None };
        let index = self.plan.levels.iter().position(|plan| plan.level == level)?;
        let cpu = self.plan.machine(index, Instance::First).cpu;
        let launching = self.stage == Stage::Level(level, StageKind::Launch) || self.on_second;
        let refused =
            said.lines().find_map(|line| line.split_once(REFUSES_FEATURES)).map(|(_, names)| names)?;
        let is_it = launching && cpu.require.iter().any(|name| name == feature);
        // Newer versions of QEMU give advice behind the names.
        let names = refused.split_whitespace().take_while(|&word| word != "Consider");
        (is_it && names.eq([feature])).then(|| (feature.to_owned(), cpu.model))
    }

    /// The outermost QEMU that has ended, where the trouble may come from such an end.
    async fn first_end(&self, trouble: &Trouble) -> Option<(LevelNumber, QemuEnd)> {
        let closed = match trouble {
            Trouble::Closed { .. } | Trouble::Host { .. } => true,
            Trouble::Silent { .. } | Trouble::Endless { .. } => false,
            Trouble::Failed { .. }
            | Trouble::Panicked { .. }
            | Trouble::ShutDown { .. }
            | Trouble::Halted { .. }
            | Trouble::Interrupted => {
                return None;
            }
        };
        if let Trouble::Host { level, error: HostError::EndedAtStart(end) } = trouble {
            return Some((*level, end.clone()));
        }
        let deadline = Instant::now() + self.limits.moment();
        loop {
            if let Some(ended) = self.outermost_end().await {
                return Some(ended);
            }
            // The end of a process is known a little later than the end of its sockets.
            if !closed || Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The outermost QEMU that has ended by now.
    async fn outermost_end(&self) -> Option<(LevelNumber, QemuEnd)> {
        for live in &self.live {
            match tokio::time::timeout(self.limits.moment(), live.qemu.ended()).await {
                Ok(Ok(Some(end))) => return Some((live.level, end)),
                Ok(Ok(None)) => {}
                // What can't be asked has a host that is in trouble itself: nothing further in can be asked.
                Ok(Err(_)) | Err(_) => break,
            }
        }
        None
    }

    /// Once nothing is waited for any more, no end of a QEMU is noticed. KVM's counters go with the QEMU that they are of, so where
    /// evidence is missing, such an end explains it.
    pub(super) async fn end_behind_missing_evidence(&self) -> Option<Stop> {
        if Evidence::weigh(&self.gathered, self.plan.innermost(), self.plan.profile).is_ok() {
            return None;
        }
        let (level, end) = self.outermost_end().await?;
        Some(self.of_end(level, end))
    }

    async fn read_trouble(&self, trouble: Trouble) -> (Symptom, Blame) {
        let harness =
            |level, why| (Symptom::Harness { level: Some(level), why, erratum: None }, Blame::Harness);
        match trouble {
            Trouble::Failed { level, failure, said } => {
                (Symptom::GuestFailed { level, failure, said }, Blame::Stack)
            }
            Trouble::Panicked { level } => {
                let diagnostics = self.diagnostics(level, None).await;
                (Symptom::GuestPanicked { level, diagnostics }, Blame::Stack)
            }
            Trouble::ShutDown { level, reason: said } => {
                // QEMU ends in order when it gets a signal, and says so (qapi/run-state.json, ShutdownCause).
                let from_outside = said.starts_with("host-") && !self.killed.contains(&level);
                (Symptom::ShutDown { level, said }, harness_if(from_outside))
            }
            Trouble::Halted { level } => {
                let said = self.run_state(level).await;
                // The disks of all levels, and the memory of L0, are the harness's.
                let of_this_machine = level.below().is_none() || said == "io-error";
                let diagnostics = self.diagnostics(level, Some(&said)).await;
                let symptom = Symptom::StoppedByQemu { level, said, diagnostics, erratum: None };
                (symptom, harness_if(of_this_machine))
            }
            Trouble::Closed { level, channel, why } => {
                harness(level, format!("{channel} closed while its QEMU runs: {why}"))
            }
            Trouble::Silent { level, silence } => (self.timeout(level, silence, false), Blame::Stack),
            Trouble::Endless { level, total } => (self.timeout(level, total, true), Blame::Stack),
            Trouble::Host {
                level,
                error:
                    HostError::Agent(CallError::Refused { speaker: Speaker::Qemu, command, description, .. }),
            } => {
                let blame = harness_if(!is_under_test(&command, &description));
                (Symptom::QmpRefused { level, command, said: description }, blame)
            }
            Trouble::Host { level, error } => harness(level, error.to_string()),
            Trouble::Interrupted => (Symptom::Interrupted, Blame::Harness),
        }
    }

    fn timeout(&self, level: LevelNumber, after: Duration, busy: bool) -> Symptom {
        let console = self.attended_console(level);
        Symptom::Timeout {
            level,
            seconds: after.as_secs(),
            busy,
            last_line: console.and_then(|console| console.last_line()),
            said: console.and_then(|console| console.stall()),
        }
    }

    /// The console of the machine of a level that is waited for.
    pub(super) fn attended_console(&self, level: LevelNumber) -> Option<&ConsoleView> {
        self.watch.console_on(ChannelName { level, kind: ChannelKind::Console, second: self.on_second })
    }

    /// What the QEMU of a level that it has stopped wrote, and what the kernel that it runs on has logged since it was started. All
    /// of it goes to a file of the cell, and what a symptom quotes is given. Of a level whose host does not answer nothing is known.
    async fn diagnostics(&self, level: LevelNumber, run_state: Option<&str>) -> Diagnostics {
        let Some(live) = attended(&self.live, level, self.on_second) else { return Diagnostics::default() };
        // What this machine's kernel says of an emulator is nothing of KVM.
        let with_kernel = level.below().is_some() && !self.plan.on_emulator(level);
        let mut cancellation = self.watch.cancellation();
        let asked = tokio::select! {
            asked = tokio::time::timeout(self.limits.diagnostics(), live.qemu.diagnostics(with_kernel)) => asked,
            () = cancellation.requested() => return Diagnostics::default(),
        };
        let Ok(Ok(diagnostics)) = asked else { return Diagnostics::default() };
        // An L0 that is this machine runs the QEMUs of other cells, too.
        let l0_is_shared = self.plan.metal == Metal::Native;
        let around = self.plan.around(level);
        let kernel_is_shared = l0_is_shared && around.is_some_and(|around| around.below().is_none());
        let diagnostics = Diagnostics { kernel_is_shared, ..diagnostics };
        if !diagnostics.is_empty() {
            let label = if live.instance.is_second() { format!("{level}-second") } else { level.to_string() };
            let text = told(level, run_state, &diagnostics);
            if let Err(e) = std::fs::write(self.record(&label, "stopped.log"), text) {
                tracing::warn!("what was said of the stop of {level} can't be written: {e}");
            }
        }
        diagnostics.quoted()
    }

    async fn run_state(&self, level: LevelNumber) -> String {
        let asked = match self.watch.wire(level, ChannelKind::Qmp) {
            Some(wire) => {
                let status = wire.call("query-status", serde_json::Value::Null);
                tokio::time::timeout(self.limits.moment(), status).await.ok().and_then(Result::ok)
            }
            None => None,
        };
        asked
            .and_then(|status| status["status"].as_str().map(str::to_owned))
            .unwrap_or_else(|| "unknown".into())
    }
}

/// The file of what was said of a level's stop.
fn told(level: LevelNumber, run_state: Option<&str>, diagnostics: &Diagnostics) -> String {
    let mut text = String::new();
    if let Some(state) = run_state {
        text += &format!("{level}'s QEMU stopped it. Run state: {state}\n");
    }
    text += &format!("\nOutput of {level}'s QEMU:\n");
    text += &lines(&diagnostics.qemu);
    if let Some(below) = level.below() {
        text += &format!("\nKernel log of {below} since that QEMU was started:\n");
        if diagnostics.kernel_is_shared {
            text += "(This machine's. Lines may be about other cells' QEMUs.)\n";
        }
        text += &lines(&diagnostics.kernel);
    }
    text
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Whether what QEMU names in its refusal is something that the scenario asks for, and not the harness.
fn asks_for_what_is_named(plan: &LevelPlan, said: &str) -> bool {
    let model = match &plan.cpu.mode {
        CpuMode::Custom { model } => Some(model.as_str()),
        CpuMode::HostPassthrough => None,
    };
    let accelerator = match plan.accelerator {
        Accelerator::Tcg => Some("tcg"),
        // What the harness asks for by itself.
        Accelerator::Kvm | Accelerator::KvmOrTcg => None,
    };
    let words = plan.machine.keys().chain(&plan.cpu.require).map(String::as_str);
    names_one_of(said, words.chain(model).chain(accelerator).chain(plan.machine_type.as_deref()))
}

fn harness_if(it_is: bool) -> Blame {
    if it_is { Blame::Harness } else { Blame::Stack }
}

/// Whether a command that QEMU refused is one by which something is tried, and not one by which the harness asks or sets up; and
/// whether it was tried at all.
fn is_under_test(command: &str, refusal: &str) -> bool {
    let not_tried = refusal.contains("has not been found") || refusal.contains("Failed to connect");
    matches!(command, "cont" | "migrate" | "system_reset") && !not_tried
}
