//! A stack that boots: each level is started on the host that the level below it has become.

use std::collections::BTreeMap;
use std::rc::Rc;

use nestmatrix_model::{Fault, FaultAction, LevelNumber, Stage, StageKind};
use nestmatrix_vmm::qemu::ChannelKind;
use nestmatrix_vmm::wire::Wire;

use super::boot::BootRequest;
use super::boot_level::Role;
use super::channels::Channels;
use super::clock::Clocks;
use super::console_view::ConsoleListener;
use super::emulator_errata::Errata;
use super::explain::Explainer;
use super::ledger::Ledger;
use super::level::{Level, Levels, StartedOn};
use super::limits::WaitLimits;
use super::machines::{MachineId, Machines};
use super::program::Archive;
use super::second_machine::SecondMachine;
use super::watch::{Abort, Watch};
use super::{HostReboot, Hypervisor, InnermostReport, Limit, Measurements, Stop};
use crate::host::{Host, HostError};

/// A stack that boots.
pub(super) struct Stack<'a> {
    /// The stack to boot, and everything that its boot needs.
    pub(super) request: &'a BootRequest<'a>,
    pub(super) watch: Watch,
    /// Reads the console of a disk's first boot.
    pub(super) console_listener: Option<Rc<dyn ConsoleListener>>,
    pub(super) channels: Channels,
    pub(super) machines: Machines,
    /// The levels that take commands.
    pub(super) levels: Levels,
    /// A second machine that a step has booted, and the level in it.
    pub(super) second: Option<SecondMachine>,
    /// The types of the machines of levels that two QEMUs can run, as far as they are chosen.
    pub(super) machine_types: BTreeMap<LevelNumber, String>,
    pub(super) clocks: Clocks,
    pub(super) limits: WaitLimits,
    /// The programs that the initramfs of the innermost level brings.
    pub(super) archive: Option<Archive>,
    /// What was done before this machine was rebooted, until the step behind the reboot.
    pub(super) rebooted: Option<HostReboot>,
    /// The current stage.
    pub(super) stage: Stage,
    pub(super) ledger: Ledger,
}

impl<'a> Stack<'a> {
    pub(super) fn new(request: &'a BootRequest<'a>) -> Self {
        let plan = request.plan;
        let measurements = Measurements {
            nonce: plan.nonce.clone(),
            emulator_is_l0: plan.emulator_is_l0(),
            this_machine: plan.this_machine().filter(|level| level.below().is_some()),
            innermost_in_hyper_v: plan.innermost_in_hyper_v(),
            ..Measurements::default()
        };
        Self {
            request,
            watch: Watch::new(request.cancellation.clone()),
            console_listener: None,
            channels: Channels::default(),
            machines: Machines::default(),
            levels: Levels::default(),
            second: None,
            machine_types: BTreeMap::new(),
            clocks: Clocks::default(),
            limits: WaitLimits::new(request.limits),
            archive: None,
            rebooted: request.rebooted.cloned(),
            stage: Stage::Provision,
            ledger: Ledger::new(request.started, measurements),
        }
    }

    /// Boots all levels, or those that are not in the snapshot, and takes the scenario's steps.
    pub(super) async fn boot(&mut self) -> Result<(), Stop> {
        let mut on = StartedOn { host: Rc::clone(&self.request.this_machine), second: false };
        let mut first = 0;
        if let Some(snapshot) = self.request.from {
            let restored = self.restore(snapshot, on).await;
            self.ledger.restored = Some(restored.is_ok());
            // Nothing of the stack has been tested yet.
            (first, on) = restored.map_err(Stop::not_its_fault)?;
        }
        let plan = self.request.plan;
        if let Some(level) = plan.this_machine() {
            let machine = Level::this_machine(level, Rc::clone(&on.host));
            // It is up already, and the steps after its boot are due.
            self.stage = Stage::Level(level, StageKind::Boot);
            on = self.prove_hypervisor(machine, Role::First).await?.to_start_on();
        }
        for index in first..plan.levels.len() {
            let level = plan.levels[index].level;
            if plan.innermost_on_l0
                && plan.reports(level)
                && let Some(l0) = self.levels.hosting(LevelNumber::ALL[0])
            {
                on = l0.to_start_on();
            }
            let launched = self.start_level(index, Role::First, &on).await?;
            if plan.reports(level) && plan.levels[index].image.disk().is_some() {
                self.ask_for_report(launched, Role::First).await?;
            } else if plan.reports(level) {
                if let Some(innermost) = self.wait_for_report(launched, Role::First).await? {
                    self.levels.add_innermost(innermost);
                }
            } else {
                let up = self.come_up(launched).await?;
                on = self.prove_hypervisor(up, Role::First).await?.to_start_on();
                self.save(level).await?;
            }
        }
        self.take_steps().await?;
        if !plan.innermost().reports() {
            self.ask_for_nonce(plan.innermost(), &*on.host).await?;
        }
        self.check_that_second_machine_runs().await?;
        self.check_swtpms().await?;
        // No later wait would notice it.
        match self.watch.new_failure() {
            Some(abort) => Err(self.explain(abort, false).await),
            None => Ok(()),
        }
    }

    /// Lets a host without guests return the nonce: its report.
    async fn ask_for_nonce(&mut self, level: LevelNumber, host: &dyn Host) -> Result<(), Stop> {
        let line = self.during(level, host.run("cat /proc/cmdline")).await?;
        let line = String::from_utf8_lossy(&line.stdout).into_owned();
        let nonce = line.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix("nest.nonce="));
        let kernel = self.ledger.level(level).kernel.clone().unwrap_or_default();
        let report =
            |nonce: &str| InnermostReport { nonce: nonce.to_owned(), kernel, ..InnermostReport::default() };
        self.ledger.measurements.report = nonce.map(report);
        Ok(())
    }

    /// Takes the steps before a stage, begins the stage, and injects the scenario's faults for it.
    pub(super) async fn begin_stage(&mut self, stage: Stage) -> Result<(), Stop> {
        self.take_steps().await?;
        self.enter(stage);
        let faults = self.request.faults;
        for fault in faults.iter().filter(|fault| fault.at == stage) {
            let inflicted = self.inflict(fault).await;
            inflicted.map_err(|why| self.harness(format!("{}: {why}", fault.level)))?;
        }
        Ok(())
    }

    /// Notes that the stage before is done and `stage` begins.
    pub(super) fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.ledger.enter(stage);
        self.request.listener.stage_began(stage);
    }

    async fn inflict(&mut self, fault: &Fault) -> Result<(), String> {
        match fault.action {
            FaultAction::KillQemu => self.machines.kill(fault).await,
            FaultAction::CloseQmp => {
                let wire =
                    self.watch.wire(fault.level, ChannelKind::Qmp).ok_or("it has no QMP, or not yet")?;
                wire.declare_closed("a fault of the scenario closed it");
                Ok(())
            }
            // The plan has it.
            FaultAction::StartOnL0 => Ok(()),
        }
    }

    /// The present limit of a wait for `level`.
    pub(super) fn limit_of(&self, level: LevelNumber) -> Limit {
        let limit = self.limits.of(level);
        let in_windows = self.request.plan.hypervisor_of(level) == Hypervisor::HyperV;
        if in_windows || self.is_windows(level) { limit.of_windows() } else { limit }
    }

    /// Waits for `work`, which is about a machine; a problem meanwhile becomes a stop.
    pub(super) async fn during<T>(
        &mut self,
        about: impl Into<MachineId>,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, Stop> {
        let about = about.into();
        self.during_within(self.limit_of(about.level), about, work).await
    }

    /// The same within `limit`.
    pub(super) async fn during_within<T>(
        &mut self,
        limit: Limit,
        about: MachineId,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, Stop> {
        match self.watch.during(about.level, limit, self.machines.qemu(about), work).await {
            Ok(value) => Ok(value),
            Err(abort) => Err(self.explain(abort, about.second).await),
        }
    }

    /// Waits until `done` returns something, which is about a machine; a problem meanwhile becomes a stop.
    pub(super) async fn until<T>(
        &mut self,
        about: impl Into<MachineId>,
        done: impl Fn(&Watch) -> Option<T>,
    ) -> Result<T, Stop> {
        let about = about.into();
        let limit = self.limit_of(about.level);
        let Some(qemu) = self.machines.qemu(about) else {
            return Err(self.harness(format!("{} does not run", about.level)));
        };
        match self.watch.until(about.level, limit, qemu, done).await {
            Ok(value) => Ok(value),
            Err(abort) => Err(self.explain(abort, about.second).await),
        }
    }

    /// Finds the cause of the end of a wait. `second` says whether the wait was about a second machine.
    pub(super) async fn explain(&mut self, abort: Abort, second: bool) -> Stop {
        if matches!(abort, Abort::Interrupted) {
            return Stop::interrupted(self.stage);
        }
        self.watch.settle().await;
        self.explainer(second).explain(abort).await
    }

    /// After the last wait, the end of a QEMU is not noticed any more. KVM's counters go with their QEMU, so if evidence is
    /// missing, such an end explains it.
    pub(super) async fn end_that_explains_missing_evidence(&self) -> Option<Stop> {
        self.explainer(false).end_that_explains_missing(&self.ledger.measurements).await
    }

    pub(super) fn explainer(&self, second: bool) -> Explainer<'_> {
        Explainer {
            request: self.request,
            watch: &self.watch,
            machines: &self.machines,
            limits: self.limits.run,
            stage: self.stage,
            second,
            errata: self.errata(),
        }
    }

    /// The errata of the emulator that plays the metal.
    pub(super) fn errata(&self) -> Errata {
        let outermost = self.request.outermost().and_then(|level| self.ledger.known_of(level));
        Errata::of_stack(self.request.plan, outermost.and_then(|known| known.qemu.as_deref()))
    }

    /// A stop in this stage for which the harness or its machine is at fault.
    pub(super) fn harness(&self, why: impl Into<String>) -> Stop {
        Stop::harness(self.stage, why)
    }

    /// The conversation of this kind with a level.
    pub(super) fn wire(&self, id: impl Into<MachineId>, kind: ChannelKind) -> Result<Wire, Stop> {
        let id = id.into();
        let wire =
            if id.second { self.watch.wire_on(id.channel(kind)) } else { self.watch.wire(id.level, kind) };
        wire.cloned().ok_or_else(|| self.harness(format!("{id} has no channel {kind}")))
    }
}
