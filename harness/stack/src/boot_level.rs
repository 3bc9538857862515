//! The boot of one level: its machine is started and checked, the level comes up, and it reports or shows that it can host.
//!
//! The sequence is the same for a level of the stack, for one that is restored from a snapshot, and for a second machine. The
//! role says where they differ.

use std::rc::Rc;
use std::sync::Arc;

use nestmatrix_model::{LevelNumber, Stage, StageKind};
use nestmatrix_vmm::guest::Agent;
use nestmatrix_vmm::qemu::{ChannelKind, ChannelName, Instance, Machine, Monitor};
use nestmatrix_vmm::wire::{Notice, Wire};
use qapi::qmp::{self, RebootAction};
use tokio::sync::mpsc;

use super::Stop;
use super::innermost_machine::Fitted;
use super::level::{Hosting, Launched, Level, StartedOn, Up};
use super::machines::{MachineId, Requested};
use super::snapshots::{Snapshot, SnapshotLevel};
use super::stack::Stack;
use super::watch::WatchEvent;
use crate::host::{BootedLevel, ConsoleLevel, Host, Relay, WindowsLevel};
use crate::launcher::launch;

/// Number of a monitor's notices that may wait in the queue; a sender that exceeds this blocks.
pub(super) const NOTICES: usize = 64;

/// The role in which a level is booted.
#[derive(Clone, Copy)]
pub(super) enum Role<'s> {
    /// A level of the stack. Each part of its boot is a stage.
    First,
    /// The same, from a snapshot.
    Restored(&'s Snapshot, &'s SnapshotLevel),
    /// The second machine of a level, or the innermost level in it.
    Second,
    /// A level that ran before the level around it was reset, on the same channels and with another nonce.
    Again,
}

/// The connections to a started machine.
pub(super) struct Started {
    /// The monitor of its QEMU, and its events. Bare machines that QEMU does not play have none.
    pub(super) monitor: Option<(Monitor, mpsc::Receiver<Notice>)>,
    /// How the channels of the levels inside it are reached, if they are not ports of the machine.
    pub(super) relay: Option<Relay>,
}

impl Stack<'_> {
    /// Begins a stage of a level.
    pub(super) async fn begin(
        &mut self,
        role: Role<'_>,
        level: LevelNumber,
        kind: StageKind,
    ) -> Result<(), Stop> {
        match role {
            Role::First => self.begin_stage(Stage::Level(level, kind)).await,
            // It has been up before; only whether it can still host is a stage.
            Role::Restored(..) if kind == StageKind::Kvm => {
                self.enter(Stage::Level(level, kind));
                Ok(())
            }
            // All of it is one stage: the restore, or the step that boots it.
            Role::Restored(..) | Role::Second | Role::Again => Ok(()),
        }
    }

    /// Launches the level at `index` and lets it run.
    pub(super) async fn start_level(
        &mut self,
        index: usize,
        role: Role<'_>,
        on: &StartedOn,
    ) -> Result<Level<Launched>, Stop> {
        let launched = self.launch(index, role, on).await?;
        self.begin(role, launched.id.level, StageKind::Boot).await?;
        let disk = self.request.plan.levels[index].image.disk();
        if let (Some(monitor), true) = (&launched.monitor, disk.is_some_and(|disk| disk.first_boot.is_some()))
        {
            // A boot loader may write its entry into the firmware's variables and start again.
            let reboot = Some(RebootAction::reset);
            let allow = qmp::set_action { reboot, panic: None, shutdown: None, watchdog: None };
            self.during(launched.id, async {
                monitor.wire().execute(allow).await?;
                Ok(())
            })
            .await?;
        }
        // Those inside the outermost machine of a snapshot run as soon as it does.
        let runs_already = matches!(role, Role::Restored(_, saved) if saved.pid.is_some());
        if let Some(monitor) = launched.monitor.as_ref().filter(|_| !runs_already) {
            self.during(launched.id, async { Ok(monitor.resume().await?) }).await?;
        }
        Ok(launched)
    }

    /// Starts the machine of a level, paused, and asks its QEMU which machine it really made. A bare machine that QEMU does not
    /// play runs from its start.
    async fn launch(
        &mut self,
        index: usize,
        role: Role<'_>,
        on: &StartedOn,
    ) -> Result<Level<Launched>, Stop> {
        let plan = self.request.plan;
        let level = plan.levels[index].level;
        if !matches!(role, Role::Second) {
            self.ledger.level(level);
        }
        self.begin(role, level, StageKind::Launch).await?;
        if matches!(role, Role::First) {
            self.check_errata(index)?;
        }
        let mut machine = self.machine_to_launch(index, role, &on.host).await?;
        if !matches!(role, Role::Restored(..)) {
            self.bring_programs(&mut machine, &on.host).await?;
        }
        let id = MachineId::from(&machine);
        if matches!(role, Role::Again) {
            self.watch.begin_again(level);
        } else if id.second {
            self.watch.add_second(level);
        } else {
            let disk = plan.levels[index].image.disk();
            let powers_off = match disk {
                Some(disk) => disk.first_boot.is_some(),
                None => plan.reports(level) && !plan.stays,
            };
            self.watch.add(level, powers_off);
            if let (Some(ready), Some(console)) =
                (plan.levels[index].settings.ready(), self.watch.console(level))
            {
                console.await_text(ready);
            }
            if let (Some(listener), Some(console)) = (&self.console_listener, self.watch.console(level)) {
                console.listen(Some(Rc::clone(listener)));
            }
        }
        let (monitor, relay) = match role {
            Role::Restored(snapshot, saved) => self.restore_machine(&machine, snapshot, saved, on).await?,
            Role::Again => (Some(self.start_again(&machine, on).await?), None),
            Role::First | Role::Second => {
                if machine.launch.is_by_windows() {
                    self.count_again(id).await?;
                }
                let Started { monitor, relay } = self.start(&machine, on).await?;
                let monitor = monitor.map(|(monitor, notices)| {
                    self.watch.listen_to(id, notices);
                    monitor
                });
                (monitor, relay)
            }
        };
        match &monitor {
            Some(monitor) => {
                self.query_machine(&machine, monitor).await?;
                self.count_before(id, monitor).await?;
            }
            None => {
                let facts = self.ledger.level(level);
                facts.machine = Some(machine.machine.clone());
                // What Windows starts has the CPU that Hyper-V gives it.
                facts.cpu = machine.metal.map(|_| machine.cpu.model.clone());
            }
        }
        Ok(Level { id, monitor, state: Launched { machine, relay } })
    }

    /// The machine of a level that is about to be launched on `host`.
    async fn machine_to_launch(
        &mut self,
        index: usize,
        role: Role<'_>,
        host: &Rc<dyn Host>,
    ) -> Result<Machine, Stop> {
        let plan = self.request.plan;
        let Fitted { machine, is_chosen, why_default_firmware } = match role {
            Role::First => self.fitted_machine(index, Instance::First, plan.nonce.clone(), host).await?,
            Role::Again => {
                let nonce = self.ledger.measurements.nonce.clone();
                self.fitted_machine(index, Instance::First, nonce, host).await?
            }
            Role::Second => {
                let second = self.ledger.measurements.second_machine.as_ref();
                let nonce = second.map(|second| second.nonce.clone()).unwrap_or_default();
                self.fitted_machine(index, Instance::SecondMachine, nonce, host).await?
            }
            Role::Restored(_, saved) => Fitted::restored(plan.machine(index, Instance::First), saved),
        };
        if !machine.instance.is_second() {
            self.ledger.given(&machine);
        }
        if is_chosen && !machine.instance.is_second() {
            self.ledger.level(machine.level).machine = Some(machine.machine.clone());
        }
        self.machines.request(Requested { machine: machine.clone(), why_default_firmware });
        Ok(machine)
    }

    /// Launches a machine and opens its channels.
    pub(super) async fn start(&mut self, machine: &Machine, on: &StartedOn) -> Result<Started, Stop> {
        let relay = self.start_process(machine, on).await?;
        Ok(Started { monitor: self.open_channels(machine).await?, relay })
    }

    /// Launches a machine, without its channels.
    pub(super) async fn start_process(
        &mut self,
        machine: &Machine,
        on: &StartedOn,
    ) -> Result<Option<Relay>, Stop> {
        let id = MachineId::from(machine);
        // Inside a second machine, channels have the same names as in the first one; outside, they are the second ones.
        let instance = if on.second { Instance::First } else { machine.instance };
        let as_started = Machine { instance, ..machine.clone() };
        let launching = launch(&as_started, &on.host);
        let started = match (machine.launch.is_by_windows(), id.level.below()) {
            // The Windows around it does the work, and only the agent of that shows that it goes on.
            (true, Some(windows)) => {
                let about = MachineId { level: windows, second: on.second };
                self.during(about, launching).await.map_err(|stop| match stop.is_timeout() {
                    true => stop.not_its_fault(),
                    false => stop,
                })?
            }
            _ => self.during(id, launching).await?,
        };
        self.channels.add(started.streams);
        if let Some(waits) = started.process.run_delay() {
            self.watch.discount_waits_of(waits);
        }
        self.machines.add(id, started.process);
        Ok(started.relay)
    }

    async fn open_channels(
        &mut self,
        machine: &Machine,
    ) -> Result<Option<(Monitor, mpsc::Receiver<Notice>)>, Stop> {
        let id = MachineId::from(machine);
        // The conversations with a level that is migrated to it exist already.
        if !machine.instance.is_incoming() {
            let on_panel = machine.metal.is_some_and(|metal| metal.has_only_a_console());
            self.open_console(id, &id.to_string(), on_panel)?;
            if machine.agent {
                let notices = self.watch.inlet(id.level, WatchEvent::Agent);
                self.open_wire(id, ChannelKind::Agent, notices)?;
            }
        }
        if !machine.has_monitor() {
            return Ok(None);
        }
        let (sender, mut notices) = mpsc::channel(NOTICES);
        let wire = self.open_wire(id, ChannelKind::Qmp, sender)?;
        let greeting = async { Ok(Monitor::greet(wire, &mut notices).await?) };
        let monitor = self.during(id, greeting).await?;
        Ok(Some((monitor, notices)))
    }

    /// Reads a console from now on, into the record named `label`.
    pub(super) fn open_console(&mut self, id: MachineId, label: &str, on_panel: bool) -> Result<(), Stop> {
        let view = self.watch.console(id).cloned();
        let view = view.ok_or_else(|| self.harness(format!("{} is not watched", id.level)))?;
        let (channel, records) = (id.channel(ChannelKind::Console), self.request.records());
        let opened = self.channels.open_console(channel, label, on_panel, view, &records);
        opened.map_err(|why| self.harness(why))
    }

    /// Another machine runs a level, or a level around it: its console is on the channel `to` now, and was on `from`.
    pub(super) async fn move_console(&mut self, [from, to]: [ChannelName; 2]) -> Result<(), Stop> {
        let view = self.watch.console(to.level).cloned();
        let view = view.ok_or_else(|| self.harness(format!("{} is not watched", to.level)))?;
        let moved = self.channels.move_console([from, to], view, &self.request.records()).await;
        moved.map_err(|why| self.harness(why))
    }

    /// Begins a conversation with a machine.
    pub(super) fn open_wire(
        &mut self,
        id: MachineId,
        kind: ChannelKind,
        notices: mpsc::Sender<Notice>,
    ) -> Result<Wire, Stop> {
        let opened = self.channels.open_wire(id, kind, notices, &self.request.records());
        let wire = opened.map_err(|why| self.harness(why))?;
        self.watch.name_wire(id.channel(kind), wire.clone());
        Ok(wire)
    }

    /// Waits until a level that hosts takes commands.
    pub(super) async fn come_up(&mut self, launched: Level<Launched>) -> Result<Level<Up>, Stop> {
        let up = self.wait_for_guest(&launched).await;
        let host = up.map_err(|stop| self.unless_firmware_failed(launched.id, stop))?;
        Ok(launched.becomes(Up { host }))
    }

    async fn wait_for_guest(&mut self, launched: &Level<Launched>) -> Result<Rc<dyn Host>, Stop> {
        let (id, Launched { machine, relay }) = (launched.id, &launched.state);
        let disk = self.request.level(id.level).and_then(|plan| plan.image.disk());
        let own = disk.and_then(|disk| disk.qemu.as_deref());
        let qemu = own.unwrap_or(self.request.plan.profile.qemu);
        if machine.agent {
            let wire = self.wire(id, ChannelKind::Agent)?;
            let windows = disk.and_then(|disk| disk.windows.as_ref());
            let agent = if relay.is_some() || machine.uefi.is_some() || windows.is_some() {
                self.during(id, async { Ok(Agent::greet_repeatedly(wire).await?) }).await?
            } else {
                self.greet(id, wire).await?
            };
            if let Some(windows) = windows {
                return Ok(Rc::new(WindowsLevel::new(id.level, agent, Arc::clone(&windows.role))));
            }
            return Ok(Rc::new(BootedLevel::new(id.level, agent, qemu, relay.clone())));
        }
        self.until(id, |watch| watch.shell_is_ready(id)).await?;
        let (typed, answers) = self.shell(id)?.into_parts();
        Ok(Rc::new(ConsoleLevel::new(id.level, typed, answers)))
    }

    /// Waits until the agent at the other end of `wire` answers.
    pub(super) async fn greet(&mut self, id: impl Into<MachineId>, wire: Wire) -> Result<Agent, Stop> {
        self.during(id, async move { Ok(Agent::greet(wire).await?) }).await
    }

    /// Asks a level that takes commands whether it can be a hypervisor.
    pub(super) async fn prove_hypervisor(
        &mut self,
        up: Level<Up>,
        role: Role<'_>,
    ) -> Result<Level<Hosting>, Stop> {
        let restored = matches!(role, Role::Restored(..));
        let resync = if restored { self.resync_script()? } else { String::new() };
        if !up.id.second {
            self.levels.add(up.clone());
        }
        self.begin(role, up.id.level, StageKind::Kvm).await?;
        self.inspect(&up, resync).await
    }
}
