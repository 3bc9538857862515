//! From the end of a wait to its cause: why a stack stopped, where, and who is at fault.

mod libvirt;
mod stopped_log;
mod windows;

use std::time::Duration;

use nestmatrix_model::architecture::Nesting;
use nestmatrix_model::{Accelerator, CpuMode, LevelNumber, Stage, StageKind};
use nestmatrix_vmm::qemu::{
    ChannelKind, MachineHardware, SWTPM, blames_swtpm, names_one_of, ran_out_of_resources,
    rejects_command_line,
};
use nestmatrix_vmm::wire::{CallError, Speaker};
use tokio::time::Instant;

use stopped_log::stopped_log;

use super::boot::BootRequest;
use super::console_view::ConsoleView;
use super::emulator_errata::{Errata, charge};
use super::machines::{MachineId, Machines};
use super::tpm::Look;
use super::watch::{Abort, Watch};
use super::{Blame, Evidence, Hypervisor, LevelPlan, Limits, Measurements, Stop, Symptom};
use crate::host::{Diagnostics, HostError, QemuEnd, last_lines_of};

/// What QEMU prints before the names of unavailable features, if it refuses to start without them.
const REFUSES_FEATURES: &str =
    "features requested in the CPU model are not available in the current configuration:";

/// What a kernel prints before it resets its machine, or powers it off.
const ANNOUNCED_RESET: &str = "reboot: ";

/// Everything that is needed to find the cause of a stop.
pub(super) struct Explainer<'s> {
    pub(super) request: &'s BootRequest<'s>,
    pub(super) watch: &'s Watch,
    pub(super) machines: &'s Machines,
    pub(super) limits: Limits,
    /// The stage in which the stack stopped.
    pub(super) stage: Stage,
    /// Whether the wait was for a second machine.
    pub(super) second: bool,
    /// The errata of the emulator that plays the metal.
    pub(super) errata: Errata,
}

impl Explainer<'_> {
    /// Finds the cause of the end of a wait. A closed channel is only the consequence of a QEMU's end, and that may be the
    /// consequence of the end of a QEMU further out.
    pub(super) async fn explain(&self, abort: Abort) -> Stop {
        if let Some((level, end)) = self.first_end(&abort).await {
            return self.of_end(level, end);
        }
        if let Some(stop) = self.lost_swtpm(Look::AtProcess).await {
            return stop;
        }
        let (symptom, blame) = self.symptom_of(abort).await;
        let level = symptom.level().unwrap_or(self.request.plan.innermost());
        // A message of the level's kernel is the cause, whatever was noticed first.
        let failure = self.console(level).and_then(|console| console.failure());
        let (symptom, blame) = match failure {
            Some((failure, said)) => (Symptom::GuestFailed { level, failure, said }, Blame::Stack),
            None => self.unless_emulator_erred(symptom, blame),
        };
        // If an emulator does not boot L0, that says nothing about the matrix.
        let booting = self.stage < Stage::Level(level, StageKind::Kvm);
        let metal_fails = self.request.plan.is_bare_machine(level) && booting;
        let blame = if metal_fails { Blame::Harness } else { blame };
        Stop { stage: self.stage, symptom, blame }
    }

    /// What it means that the QEMU of `level` ended.
    fn of_end(&self, level: LevelNumber, end: QemuEnd) -> Stop {
        if let Some(stop) = self.of_end_in_windows(level, &end) {
            return stop;
        }
        let hardware = self.machines.requested(level.into()).map(|requested| &requested.machine.hardware);
        if hardware.is_some_and(|hardware| hardware.tpm_folder().is_some()) && blames_swtpm(&end.output) {
            let why = format!("{SWTPM}, which plays the TPM of {level}, failed: QEMU {}", end.describe());
            return Stop::harness(self.stage, why).about(level);
        }
        if self.request.plan.is_bare_machine(level) {
            let erratum = self.errata.cause_of_end(&end.output);
            let symptom = Symptom::QemuEnded { level, ended: end.ended, said: end.output };
            let symptom = match erratum {
                Some(erratum) => charge(symptom, erratum).0,
                None => symptom,
            };
            return Stop::stack(self.stage, symptom).not_its_fault();
        }
        if let Some((feature, model)) = self.feature_refused(level, &end.output) {
            let symptom = Symptom::MissingCpuFeature { level, feature, model, nested: None };
            return Stop::stack(self.stage, symptom);
        }
        if self.request.plan.hypervisor_of(level) == Hypervisor::Tcg {
            let why = format!("the emulator that is L0's hypervisor {}", end.describe());
            return Stop::harness(self.stage, why).about(level);
        }
        let QemuEnd { ended, output: said, not_started } = end;
        if let (Some(why), Some(level)) = (not_started, level.below()) {
            return Stop::stack(self.stage, Symptom::NotStarted { level, why }).not_its_fault();
        }
        let launching = self.is_launching(level);
        if launching && hardware.is_some_and(|hardware| hardware.explains_missing_memory(&said)) {
            return Stop::stack(self.stage, Symptom::QemuEnded { level, ended, said });
        }
        if let (true, true, Some(below)) = (launching, ran_out_of_resources(&said), level.below()) {
            let why = format!(
                "QEMU {ended} because {below} or this machine did not provide something: {}",
                last_lines_of(&said)
            );
            return Stop::stack(self.stage, Symptom::NotStarted { level: below, why }).not_its_fault();
        }
        if let Some(stop) = self.of_refused_enlightenment(level, &said) {
            return stop;
        }
        if launching && rejects_command_line(&said) {
            let plan = self.request.level(level);
            let asked_for = plan.is_some_and(|plan| asks_for_what_is_named(plan, hardware, &said));
            let symptom = Symptom::CommandLineRejected { level, said, asked_for, by_libvirt: false };
            let stop = Stop::stack(self.stage, symptom);
            return if asked_for { stop } else { stop.not_its_fault() };
        }
        let stop = Stop::stack(self.stage, Symptom::QemuEnded { level, ended, said });
        // For example the kernel, if memory runs out: the harness chooses how much there is.
        let is_taken_away = ended.is_from_outside() && !self.machines.was_killed(level);
        if is_taken_away { stop.not_its_fault() } else { stop }
    }

    /// Whether a machine of `level` is being launched. A step launches the second one.
    pub(super) fn is_launching(&self, level: LevelNumber) -> bool {
        self.stage == Stage::Level(level, StageKind::Launch) || self.second
    }

    /// The feature that a level needs to host, and its CPU model, if a QEMU refuses to start only because of that feature. QEMU
    /// does so on IBM Z (target/s390x/cpu_models.c); elsewhere it omits the feature and warns. If it names other features too,
    /// they may be the reason.
    fn feature_refused(&self, level: LevelNumber, said: &str) -> Option<(String, String)> {
        let Nesting::CpuFeature(feature) = self.request.plan.profile.nesting else { return None };
        let refused =
            said.lines().find_map(|line| line.split_once(REFUSES_FEATURES)).map(|(_, names)| names)?;
        let cpu = &self.machines.requested(level.into())?.machine.cpu;
        let is_it = self.is_launching(level) && cpu.require.iter().any(|name| name == feature);
        // Newer versions of QEMU give advice after the names.
        let names = refused.split_whitespace().take_while(|&word| word != "Consider");
        (is_it && names.eq([feature])).then(|| (feature.to_owned(), cpu.model.clone()))
    }

    /// The outermost QEMU that has ended, if that may have ended the wait.
    async fn first_end(&self, abort: &Abort) -> Option<(LevelNumber, QemuEnd)> {
        let closed = match abort {
            Abort::Closed { .. } | Abort::Host { .. } => true,
            Abort::Silent { .. } | Abort::Endless { .. } => false,
            Abort::Failed { .. }
            | Abort::Panicked { .. }
            | Abort::ShutDown { .. }
            | Abort::Halted { .. }
            | Abort::Interrupted => {
                return None;
            }
        };
        if let Abort::Host { level, error: HostError::EndedAtStart(end) } = abort {
            return Some((*level, end.clone()));
        }
        let deadline = Instant::now() + self.limits.moment();
        loop {
            if let Some(ended) = self.machines.outermost_end(self.limits.moment()).await {
                return Some(ended);
            }
            // The end of a process is noticed a little later than the end of its sockets.
            if !closed || Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The end of a QEMU that explains missing evidence, if any.
    pub(super) async fn end_that_explains_missing(&self, measurements: &Measurements) -> Option<Stop> {
        let plan = self.request.plan;
        if Evidence::weigh(measurements, plan.innermost(), plan.profile).is_ok() {
            return None;
        }
        let (level, end) = self.machines.outermost_end(self.limits.moment()).await?;
        Some(self.of_end(level, end))
    }

    async fn symptom_of(&self, abort: Abort) -> (Symptom, Blame) {
        let harness =
            |level, why| (Symptom::Harness { level: Some(level), why, erratum: None }, Blame::Harness);
        match abort {
            Abort::Failed { level, failure, said } => {
                (Symptom::GuestFailed { level, failure, said }, Blame::Stack)
            }
            Abort::Panicked { level } => {
                let diagnostics = self.diagnostics(level, None).await;
                (Symptom::GuestPanicked { level, diagnostics }, Blame::Stack)
            }
            Abort::ShutDown { level, reason: said } => {
                // QEMU exits cleanly on a signal, and reports that (qapi/run-state.json, ShutdownCause).
                let from_outside = said.starts_with("host-") && !self.machines.was_killed(level);
                (Symptom::ShutDown { level, said }, harness_if(from_outside))
            }
            Abort::Halted { level } => {
                let said = self.run_state(level).await;
                // The disks of all levels, and the memory of L0, belong to the harness.
                let is_disk_error = said == "io-error";
                let of_this_machine = self.request.plan.is_bare_machine(level) || is_disk_error;
                let diagnostics = self.diagnostics(level, Some(&said)).await;
                let said = match self.watch.disk_error(level).filter(|_| is_disk_error) {
                    Some(why) => format!("{said}: {why}"),
                    None => said,
                };
                let symptom = Symptom::StoppedByQemu { level, said, diagnostics, erratum: None };
                (symptom, harness_if(of_this_machine))
            }
            Abort::Closed { level, channel, why } => {
                harness(level, format!("{channel} closed while its QEMU runs: {why}"))
            }
            Abort::Silent { level, silence } => (self.timeout(level, silence, false), Blame::Stack),
            Abort::Endless { level, total } => (self.timeout(level, total, true), Blame::Stack),
            Abort::Host {
                level,
                error:
                    HostError::Agent(CallError::Refused { speaker: Speaker::Qemu, command, description, .. }),
            } => {
                let blame = harness_if(!is_under_test(&command, &description));
                (Symptom::QmpRefused { level, command, said: description }, blame)
            }
            Abort::Host { level, error: HostError::RefusedByLibvirt(said) } => {
                self.of_refusal_by_libvirt(level, said)
            }
            Abort::Host { level, error } => harness(level, error.to_string()),
            Abort::Interrupted => (Symptom::Interrupted, Blame::Harness),
        }
    }

    /// A symptom that is charged to the emulated metal if one of its errata is known to cause it.
    fn unless_emulator_erred(&self, symptom: Symptom, blame: Blame) -> (Symptom, Blame) {
        if blame != Blame::Stack {
            return (symptom, blame);
        }
        let resets = matches!(symptom, Symptom::ShutDown { .. });
        if resets && !self.is_silent_reset(&symptom) {
            return (symptom, blame);
        }
        let concerns = |level: &LevelNumber| {
            let kvms = self.request.plan.kvms_under(*level);
            if resets { kvms >= 1 || self.runs_guest_of_kvm(*level) } else { kvms >= 2 }
        };
        let Some(level) = symptom.level().filter(concerns) else {
            return (symptom, blame);
        };
        match self.errata.cause_of(&symptom, self.is_in_default_firmware(level)) {
            Some(erratum) => charge(symptom, erratum),
            None => (symptom, blame),
        }
    }

    /// What it means that a level which was reset has then reset itself this many times, more often than its firmware does.
    pub(super) fn of_own_resets(&self, level: LevelNumber, own: usize) -> Stop {
        let seen = format!("{level} was reset, and has then reset itself {own} times");
        let under_kvm = self.request.plan.kvms_under(level) > 0;
        let is_announced = self
            .console(level)
            .is_some_and(|console| console.last_lines().iter().any(|line| line.contains(ANNOUNCED_RESET)));
        match self.errata.cause_of_reset().filter(|_| under_kvm && !is_announced) {
            Some(erratum) => {
                let why = format!("{seen}; {}", erratum.wrong);
                Stop::harness(self.stage, why).about(level).charged_to(&erratum.id)
            }
            None => Stop::stack(self.stage, Symptom::StandsStill { level, seen }),
        }
    }

    /// Whether a guest of KVM has been started in this level.
    fn runs_guest_of_kvm(&self, level: LevelNumber) -> bool {
        let plan = self.request.plan;
        let mut above = plan.levels.iter().map(|plan| plan.level).filter(|above| *above > level);
        above.any(|above| {
            plan.kvms_under(above) > 0
                && self.machines.get(MachineId { level: above, second: false }).is_some()
        })
    }

    /// Whether a level shut down, and its kernel did not announce that. While L0 itself comes up, no guest of KVM runs.
    fn is_silent_reset(&self, symptom: &Symptom) -> bool {
        let may_run = match self.stage {
            Stage::Level(level, _) => level.below().is_some(),
            Stage::Step(_) => true,
            Stage::Provision | Stage::Restore => false,
        };
        let last = symptom.level().and_then(|level| self.console(level)?.last_line());
        may_run && !last.is_some_and(|line| line.contains(ANNOUNCED_RESET))
    }

    /// Whether the awaited machine has its default firmware, and its kernel has printed nothing yet.
    fn is_in_default_firmware(&self, level: LevelNumber) -> bool {
        let id = self.machine(level);
        let requested = self.machines.requested(id);
        requested.is_some_and(|requested| requested.has_default_firmware()) && self.watch.shows_nothing(id)
    }

    fn timeout(&self, level: LevelNumber, after: Duration, busy: bool) -> Symptom {
        let console = self.console(level);
        Symptom::Timeout {
            level,
            seconds: after.as_secs(),
            busy,
            last_line: console.and_then(|console| console.last_line()),
            said: console.and_then(|console| console.stall()),
        }
    }

    /// The awaited machine of `level`.
    fn machine(&self, level: LevelNumber) -> MachineId {
        MachineId { level, second: self.second }
    }

    /// Its console.
    pub(super) fn console(&self, level: LevelNumber) -> Option<&ConsoleView> {
        self.watch.console(self.machine(level))
    }

    /// What the QEMU of a level that it has stopped wrote, and what the kernel under it has logged since the start. Everything
    /// goes to a file of the cell; the quote for a symptom is returned. If the level's host does not answer, nothing is known.
    async fn diagnostics(&self, level: LevelNumber, run_state: Option<&str>) -> Diagnostics {
        let plan = self.request.plan;
        let Some(running) = self.machines.get(self.machine(level)) else { return Diagnostics::default() };
        // What this machine's kernel logs about an emulator is not about KVM.
        let with_kernel = !plan.is_bare_machine(level) && plan.hypervisor_of(level).logs_to_kernel();
        let mut cancellation = self.watch.cancellation();
        let asked = running.qemu.diagnostics(with_kernel);
        let asked = tokio::select! {
            asked = tokio::time::timeout(self.limits.diagnostics(), asked) => asked,
            () = cancellation.requested() => return Diagnostics::default(),
        };
        let Ok(Ok(diagnostics)) = asked else { return Diagnostics::default() };
        // This machine runs the QEMUs of other cells, too.
        let kernel_is_shared = plan.around(level).is_some_and(|around| plan.is_this_machine(around));
        let diagnostics = Diagnostics { kernel_is_shared, ..diagnostics };
        if !diagnostics.is_empty() {
            let text = stopped_log(level, run_state, &diagnostics);
            let file = self.request.records().file(&running.id.to_string(), "stopped.log");
            if let Err(e) = std::fs::write(file, text) {
                tracing::warn!("what was said of the stop of {level} can't be written: {e}");
            }
        }
        diagnostics.quoted()
    }

    async fn run_state(&self, level: LevelNumber) -> String {
        let asked = match self.watch.wire(level, ChannelKind::Qmp) {
            Some(wire) => {
                // As data: a state that only a newer QEMU knows is reported too.
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

/// Whether QEMU refuses something that the scenario asks for, and not the harness.
fn asks_for_what_is_named(plan: &LevelPlan, hardware: Option<&MachineHardware>, said: &str) -> bool {
    let model = match &plan.settings.cpu.mode {
        CpuMode::Custom { model } => Some(model.as_str()),
        CpuMode::HostPassthrough => None,
    };
    let accelerator = match plan.settings.accelerator {
        Accelerator::Tcg => Some("tcg"),
        // The harness asks for this itself.
        Accelerator::Kvm | Accelerator::KvmOrTcg => None,
    };
    let cpu = &plan.settings.cpu;
    let words = plan.settings.machine.keys().chain(&cpu.require).chain(&cpu.disable).chain(cpu.set.keys());
    let words = words.map(String::as_str).chain(hardware.iter().flat_map(|one| one.words()));
    names_one_of(said, words.chain(model).chain(accelerator).chain(plan.settings.machine_type.as_deref()))
}

fn harness_if(it_is: bool) -> Blame {
    if it_is { Blame::Harness } else { Blame::Stack }
}

/// Whether a refused command of QEMU tests what the scenario is about, and does not only query or set up; and whether it was
/// run at all.
fn is_under_test(command: &str, refusal: &str) -> bool {
    let not_tried = refusal.contains("has not been found") || refusal.contains("Failed to connect");
    matches!(command, "cont" | "migrate" | "system_reset") && !not_tried
}
