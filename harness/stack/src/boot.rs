//! Boots a stack by folding over its levels, and observes it.
//!
//! Each level is launched on the host that the level below it has become: the same few steps at every depth.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nestmatrix_images::Image;
use nestmatrix_model::{Fault, FaultAction, LevelNumber, Stage, StageKind, Step};
use nestmatrix_vmm::guest::{Agent, Console, PanelLines, Shell};
use nestmatrix_vmm::qemu::{CPUS, ChannelKind, ChannelName, Instance, Machine, MissingFeature, Monitor};
use nestmatrix_vmm::wire::{Notice, Speaker, Transcript, Wire};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::clock::ClockReading;
use super::console_view::ConsoleView;
use super::evidence::nests;
use super::explain::attended;
use super::pause::Inspector;
use super::restore::SnapshotSaver;
use super::second_machine::SecondMachine;
use super::snapshots::Snapshot;
use super::steps::StepRecord;
use super::symptom::NestedSetting;
use super::watch::{Sign, Watch};
use super::{
    Cancellation, InnermostReport, Limits, Loops, Measurements, Metal, StackPlan, Stop, Symptom, measure,
};
use crate::host::{BootedLevel, ConsoleLevel, Facts, Host, Relay, RunningQemu, count_nested_script};

/// Told as stages begin.
pub trait StageListener {
    /// A stage has begun.
    fn stage_began(&self, stage: Stage);
}

/// When a stage began and ended, in seconds since the cell began.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage.
    pub stage: Stage,
    /// Seconds.
    pub start: f64,
    /// Seconds.
    pub end: f64,
}

/// What was seen of a level.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LevelFacts {
    /// Its kernel release, by its own word.
    pub kernel: Option<String>,
    /// Version of the QEMU that ran it.
    pub qemu: Option<String>,
    /// Machine type that this QEMU gave it. Of an innermost level whose QEMU made none, the type that it was asked for.
    pub machine: Option<String>,
    /// Firmware that its QEMU was asked for, if that is not the machine's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// CPU model that this QEMU gave it.
    pub cpu: Option<String>,
    /// How many CPUs it was given. Of an L0 that is this machine it is not known, as the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// How much memory it was given, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Its kernel command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// Its KVM module's `nested` parameter.
    pub nested: Option<String>,
    /// CPU flags that the level below has in its /proc/cpuinfo and this one has not. Nothing is known of an L0's metal,
    /// nor of the innermost level.
    #[serde(alias = "lacks")]
    pub missing_features: Vec<String>,
    /// How many times slower its clock went than this machine's, from its first answer to its last; absent where the two are less
    /// than a second apart, and of the innermost level, whose clock is derived from that of the level below.
    #[serde(default)]
    pub clock_slowdown: Option<f64>,
    /// The times of the loops that were measured in it, if they were.
    pub loops: Option<Loops>,
    /// The last lines of its console.
    pub last_lines: Vec<String>,
}

/// What came of booting a stack.
#[derive(Debug)]
pub struct Observation {
    /// The stages that it went through.
    pub stages: Vec<StageTime>,
    /// What was seen of each level.
    pub levels: BTreeMap<LevelNumber, LevelFacts>,
    /// What came of the scenario's own steps.
    pub steps: Vec<StepRecord>,
    /// What was gathered for evidence.
    pub gathered: Measurements,
    /// Why it stopped, if it did not come to its end.
    pub stop: Option<Stop>,
    /// Whether it went on from the saved state that it was given; absent if it was given none.
    pub restored: Option<bool>,
    /// What its outermost level's emulator used of this machine.
    pub usage: Usage,
    /// How long it was held for somebody to look at it.
    pub held: Duration,
}

/// What an emulator used of this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in seconds.
    pub cpu_seconds: f64,
    /// How long it ran, slept, or waited for a CPU, in seconds. 0 in runs of old, as the next.
    #[serde(default)]
    pub emulator_seconds: f64,
    /// How long of that it waited for a CPU that others had, in seconds: that one of its threads that waited longest.
    #[serde(default)]
    pub waited_seconds: f64,
    /// The most memory that it had in use at a time, in MiB; what several share counts for each.
    pub peak_memory_mib: u64,
}

impl Observation {
    /// Nothing was observed: the stack stopped before any level ran.
    pub fn stopped(stop: Stop) -> Self {
        Self {
            stages: Vec::new(),
            levels: BTreeMap::new(),
            steps: Vec::new(),
            gathered: Measurements::default(),
            stop: Some(stop),
            restored: None,
            usage: Usage::default(),
            held: Duration::ZERO,
        }
    }
}

/// A machine that runs.
pub(super) struct RunningLevel {
    pub(super) level: LevelNumber,
    pub(super) instance: Instance,
    pub(super) qemu: Box<dyn RunningQemu>,
}

/// What a machine that was started is spoken to by.
pub(super) enum Opened {
    /// The monitor of its QEMU, and what that says unasked.
    Qemu(Monitor, mpsc::Receiver<Notice>),
    /// It has no monitor.
    Other,
}

impl Opened {
    /// What only QEMU has.
    pub(super) fn of_qemu(self, stage: Stage) -> Result<(Monitor, mpsc::Receiver<Notice>), Stop> {
        match self {
            Self::Qemu(monitor, notices) => Ok((monitor, notices)),
            Self::Other => Err(Stop::harness(stage, "the machine has no monitor".to_owned())),
        }
    }
}

/// A stack on its way up.
pub(super) struct Stack<'a> {
    pub(super) plan: &'a StackPlan,
    pub(super) limits: Limits,
    pub(super) faults: &'a [Fault],
    pub(super) steps: &'a [Step],
    pub(super) records: &'a Path,
    pub(super) listener: &'a dyn StageListener,
    pub(super) started: Instant,
    pub(super) watch: Watch,
    /// Near ends of the channels of levels that are not launched yet.
    pub(super) streams: BTreeMap<ChannelName, UnixStream>,
    /// What can be typed at each console. They are kept because a console whose writing end is closed is closed altogether.
    pub(super) shells: BTreeMap<ChannelName, Shell>,
    /// How the channels of the levels inside the one that was launched last are reached, where they are no ports of it.
    pub(super) relay: Option<Relay>,
    /// Outermost first, but for second machines, which come where they were started.
    pub(super) live: Vec<RunningLevel>,
    /// Whether what is waited for is about the second machine of its level.
    pub(super) on_second: bool,
    /// Whether L0 is down for a reboot.
    pub(super) rebooting: bool,
    /// A machine that was booted beside one of the stack's levels.
    pub(super) beside: Option<SecondMachine>,
    /// The hosts that the levels have become, and L0 if it is this machine.
    pub(super) hosts: Vec<(LevelNumber, Rc<dyn Host>)>,
    pub(super) stage: Stage,
    pub(super) stages: Vec<StageTime>,
    pub(super) levels: BTreeMap<LevelNumber, LevelFacts>,
    pub(super) facts: BTreeMap<LevelNumber, Facts>,
    /// What the levels' clocks said when they were first asked.
    pub(super) clocks: BTreeMap<LevelNumber, Option<ClockReading>>,
    pub(super) gathered: Measurements,
    pub(super) steps_seen: Vec<StepRecord>,
    /// How many commands the shells on consoles were given.
    pub(super) asked: u32,
    /// What is done in the next level that is asked what it is, before it is.
    pub(super) resync_guest: Option<String>,
    /// The host of the outermost level.
    pub(super) this_machine: Rc<dyn Host>,
    /// Saves it on its way.
    pub(super) saver: Option<&'a dyn SnapshotSaver>,
    /// Holds it.
    pub(super) inspector: Option<&'a dyn Inspector>,
    /// How long it was held.
    pub(super) held: Duration,
    /// How long each wait of the step that is being done may take altogether, if it says so.
    pub(super) step_total: Option<Duration>,
    /// Levels whose QEMU a fault of the scenario killed.
    pub(super) killed: BTreeSet<LevelNumber>,
    /// The image of each level.
    pub(super) images: BTreeMap<LevelNumber, &'a Image>,
    /// The firmware that the QEMU of a level does not come with, and that emulated metal should have there.
    pub(super) missing_firmware: BTreeMap<LevelNumber, &'static str>,
    /// The firmware that the machine of a level that runs beside that of the stack was asked for, if not the machine's default.
    pub(super) firmware_beside: BTreeMap<LevelNumber, Option<String>>,
}

/// Notices of a monitor that may wait to be taken in; a sender that exceeds this blocks.
pub(super) const NOTICES: usize = 64;

/// A stack that is to be booted, and all that its boot needs to know.
pub struct BootRequest<'a> {
    /// The stack.
    pub plan: &'a StackPlan,
    /// The host of its outermost level.
    pub this_machine: Rc<dyn Host>,
    /// How long it may take.
    pub limits: Limits,
    /// What is done to it.
    pub faults: &'a [Fault],
    /// What is done in it.
    pub steps: &'a [Step],
    /// Folder for the records of its consoles and conversations.
    pub records: &'a Path,
    /// When its cell began: times count from then.
    pub started: Instant,
    /// Told as stages begin.
    pub listener: &'a dyn StageListener,
    /// Told when to end.
    pub cancellation: Cancellation,
    /// The state from which it goes on, if it does not begin at its outermost level.
    pub from: Option<&'a Snapshot>,
    /// Saves it on its way, if somebody wants that.
    pub saver: Option<&'a dyn SnapshotSaver>,
    /// Holds it, if somebody wants that.
    pub inspector: Option<&'a dyn Inspector>,
    /// The image of each level, where it is remembered what its QEMU offers.
    pub images: BTreeMap<LevelNumber, &'a Image>,
}

/// Boots a stack on this machine and watches it to its end or its stop. Everything that it started is ended when this
/// returns, and also when the future is dropped.
pub async fn boot(ascent: BootRequest<'_>) -> Observation {
    let this_machine = ascent.this_machine;
    let BootRequest { plan, limits, faults, steps, records, started, listener, .. } = ascent;
    let mut stack = Stack {
        plan,
        limits,
        faults,
        steps,
        records,
        listener,
        started,
        watch: Watch::new(ascent.cancellation),
        streams: BTreeMap::new(),
        shells: BTreeMap::new(),
        relay: None,
        live: Vec::new(),
        on_second: false,
        rebooting: false,
        beside: None,
        hosts: Vec::new(),
        stage: Stage::Provision,
        stages: Vec::new(),
        levels: BTreeMap::new(),
        facts: BTreeMap::new(),
        clocks: BTreeMap::new(),
        gathered: Measurements {
            nonce: plan.nonce.clone(),
            emulator_is_l0: plan.emulator_is_l0(),
            ..Measurements::default()
        },
        steps_seen: Vec::new(),
        asked: 0,
        resync_guest: None,
        this_machine: Rc::clone(&this_machine),
        saver: ascent.saver,
        inspector: ascent.inspector,
        held: Duration::ZERO,
        step_total: None,
        killed: BTreeSet::new(),
        images: ascent.images,
        missing_firmware: BTreeMap::new(),
        firmware_beside: BTreeMap::new(),
    };
    let mut restored = None;
    let begun = match ascent.from {
        None => Ok((0, this_machine)),
        Some(state) => {
            let begun = stack.go_on(state, this_machine).await;
            restored = Some(begun.is_ok());
            begun
        }
    };
    let mut stop = match begun {
        Ok((index, host)) => stack.boot_levels(index, host).await.err(),
        // Nothing of the stack has been tried yet.
        Err(why) => Some(why.not_its_fault()),
    };
    if let Some(last) = stack.stages.last_mut() {
        last.end = started.elapsed().as_secs_f64();
    }
    if !stop.as_ref().is_some_and(Stop::is_interrupted) && restored != Some(false) {
        stack.last_lines_of(stop.is_some()).await;
        if stop.is_none() {
            stop = stack.end_behind_missing_evidence().await;
        }
    }
    let usage = stack.usage().await;
    let interrupted = stop.as_ref().is_some_and(Stop::is_interrupted);
    if let Some(inspector) = stack.inspector.filter(|inspector| inspector.holds_at_end(stop.is_some()))
        && !interrupted
    {
        // Whatever is done to it or heard of it now, it is judged by what it did before.
        let _ = stack.hold(inspector, stack.stage, stop.as_ref()).await;
    }
    if let Err(why) = stack.end().await {
        stop.get_or_insert(Stop::harness(stack.stage, why));
    }
    for (level, seen) in &mut stack.levels {
        seen.last_lines = stack.watch.console(*level).map(ConsoleView::last_lines).unwrap_or_default();
    }
    measure::compare(&mut stack.levels);
    Observation {
        stages: stack.stages,
        levels: stack.levels,
        steps: stack.steps_seen,
        gathered: stack.gathered,
        stop,
        restored,
        usage,
        held: stack.held,
    }
}

impl Stack<'_> {
    /// The fold: each level boots on the host that the one below it has become.
    async fn boot_levels(&mut self, first: usize, mut host: Rc<dyn Host>) -> Result<(), Stop> {
        if self.plan.metal == Metal::Native {
            self.prove_kvm(LevelNumber::ALL[0], Rc::clone(&host)).await?;
        }
        for index in first..self.plan.levels.len() {
            let level = self.plan.levels[index].level;
            if self.plan.innermost_on_l0
                && self.plan.reports(level)
                && let Some((_, l0)) = self.hosts.iter().find(|(level, _)| level.below().is_none())
            {
                host = Rc::clone(l0);
            }
            let monitor = self.launch(index, &*host).await?;
            self.begin(level, StageKind::Boot).await?;
            if let Some(monitor) = monitor {
                self.during(level, async { Ok(monitor.resume().await?) }).await?;
            }
            if self.plan.reports(level) {
                let begun =
                    |watch: &Watch| watch.console(level)?.report(|report| report.begun().then_some(()));
                let begun = self.until(level, begun).await;
                begun.map_err(|stop| self.unless_firmware_failed(level, stop))?;
                self.begin(level, StageKind::Check).await?;
                let complete =
                    |watch: &Watch| watch.console(level)?.report(|report| report.complete().cloned());
                let report = self.until(level, complete).await?;
                self.check_kernel(level, &report.kernel)?;
                self.gathered.report = Some(report);
                if self.plan.stays {
                    self.until(level, |watch| watch.shell_is_ready(level)).await?;
                }
            } else {
                let up = self.come_up(index).await;
                host = up.map_err(|stop| self.unless_firmware_failed(level, stop))?;
                self.prove_kvm(level, Rc::clone(&host)).await?;
                self.save(level).await?;
            }
        }
        self.take_steps().await?;
        if !self.plan.innermost().reports() {
            self.ask_for_nonce(self.plan.innermost(), &*host).await?;
        }
        self.see_that_the_second_runs().await?;
        // No wait follows that would notice it.
        match self.watch.new_failure() {
            Some(trouble) => Err(self.explain(trouble).await),
            None => Ok(()),
        }
    }

    /// Has a host without guests give back the nonce: its report.
    async fn ask_for_nonce(&mut self, level: LevelNumber, host: &dyn Host) -> Result<(), Stop> {
        let line = self.during(level, host.run("cat /proc/cmdline")).await?;
        let line = String::from_utf8_lossy(&line.stdout).into_owned();
        let nonce = line.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix("nest.nonce="));
        let kernel = self.saw(level).kernel.clone().unwrap_or_default();
        let report =
            |nonce: &str| InnermostReport { nonce: nonce.to_owned(), kernel, ..InnermostReport::default() };
        self.gathered.report = nonce.map(report);
        Ok(())
    }

    /// Waits until a level that hosts takes commands.
    pub(super) async fn come_up(&mut self, index: usize) -> Result<Rc<dyn Host>, Stop> {
        let level = self.plan.levels[index].level;
        let machine = self.plan.machine(index, Instance::First);
        if machine.agent {
            let wire = self.wire(level, ChannelKind::Agent)?;
            let relay = self.relay.take();
            let agent = match relay {
                Some(_) => self.during(level, async { Ok(Agent::greet_on_serial(wire).await?) }).await?,
                None => self.greet(wire, level).await?,
            };
            return Ok(Rc::new(BootedLevel::new(level, agent, self.plan.profile.qemu, relay)));
        }
        self.until(level, |watch| watch.shell_is_ready(level)).await?;
        let missing = || Stop::harness(self.stage, format!("{level} has no console"));
        let shell = self.shells.remove(&machine.channel(ChannelKind::Console)).ok_or_else(missing)?;
        let answers =
            self.watch.console(level).map(|console| console.answers().clone()).ok_or_else(missing)?;
        Ok(Rc::new(ConsoleLevel::new(level, shell, answers)))
    }

    /// Starts the QEMU of a level, paused, and asks it what it really made. A bare machine that QEMU does not play has no
    /// monitor, and runs from its start.
    async fn launch(&mut self, index: usize, host: &dyn Host) -> Result<Option<Monitor>, Stop> {
        let level = self.plan.levels[index].level;
        self.levels.entry(level).or_default();
        self.watch.add(level, self.plan.reports(level) && !self.plan.stays);
        self.begin(level, StageKind::Launch).await?;
        self.check_errata(index)?;
        let machine = self.machine_to_launch(index, host).await?;
        let Opened::Qemu(monitor, notices) = self.start(&machine, host).await? else {
            let seen = self.saw(level);
            seen.machine = Some(machine.machine);
            seen.cpu = Some(machine.cpu.model);
            return Ok(None);
        };
        self.watch.take_over(level, notices);
        self.query_machine(&machine, &monitor).await?;
        Ok(Some(monitor))
    }

    /// Starts a machine's QEMU and opens its channels. What its monitor says unasked comes out of the notices.
    pub(super) async fn start(&mut self, machine: &Machine, host: &dyn Host) -> Result<Opened, Stop> {
        let Machine { level, instance, .. } = *machine;
        let started = self.during(level, host.start(machine)).await?;
        self.streams.extend(started.streams);
        self.relay = started.relay;
        if let Some(waits) = started.qemu.run_delay() {
            self.watch.discount_waits_of(waits);
        }
        self.live.push(RunningLevel { level, instance, qemu: started.qemu });
        self.open_channels(machine).await
    }

    pub(super) async fn open_channels(&mut self, machine: &Machine) -> Result<Opened, Stop> {
        let (level, label) = (machine.level, machine.label());
        let on_panel = machine.metal.is_some_and(|metal| metal.has_only_a_console());
        self.open_console(machine.channel(ChannelKind::Console), &label, on_panel)?;
        // The agent of a level that comes in is spoken to already.
        if machine.agent && machine.instance != Instance::Incoming {
            let notices = self.watch.inlet(level, Sign::Agent);
            self.open_wire(machine, ChannelKind::Agent, notices)?;
        }
        if !machine.has_monitor() {
            return Ok(Opened::Other);
        }
        let (sender, mut notices) = mpsc::channel(NOTICES);
        let wire = self.open_wire(machine, ChannelKind::Qmp, sender)?;
        let greeting = async { Ok(Monitor::greet(wire, &mut notices).await?) };
        let monitor = self.during(level, greeting).await?;
        Ok(Opened::Qemu(monitor, notices))
    }

    /// Reads a console from now on, into the record of what is called `label`.
    pub(super) fn open_console(
        &mut self,
        channel: ChannelName,
        label: &str,
        on_panel: bool,
    ) -> Result<(), Stop> {
        let stream = self.stream(channel)?;
        let record = self.record(label, "console.log");
        let reader = Console::open(&record, self.started).map_err(|e| self.cannot_record(&record, &e))?;
        let missing = || Stop::harness(self.stage, format!("{} is not watched", channel.level));
        let view = self.watch.console_on(channel).cloned().ok_or_else(missing)?;
        let (from_guest, to_guest) = stream.into_split();
        let mut panel = on_panel.then(PanelLines::default);
        let each = move |line| {
            let line = match &mut panel {
                Some(panel) => panel.line(line),
                None => Some(line),
            };
            if let Some(line) = line {
                view.line(line);
            }
        };
        tokio::task::spawn_local(reader.read(from_guest, each));
        let shell = if on_panel { Shell::on_panel(to_guest) } else { Shell::new(to_guest) };
        self.shells.insert(channel, shell);
        Ok(())
    }

    pub(super) fn open_wire(
        &mut self,
        machine: &Machine,
        kind: ChannelKind,
        notices: mpsc::Sender<Notice>,
    ) -> Result<Wire, Stop> {
        let (channel, label) = (machine.channel(kind), machine.label());
        let (speaker, peer) = match kind {
            ChannelKind::Qmp => (Speaker::Qemu, format!("QMP of {label}'s QEMU")),
            ChannelKind::Agent | ChannelKind::Console => (Speaker::Agent, format!("agent of {label}")),
        };
        let stream = self.stream(channel)?;
        let record = self.record(&label, &format!("{kind}.jsonl"));
        let transcript =
            Transcript::create(&record, self.started).map_err(|e| self.cannot_record(&record, &e))?;
        let wire = Wire::start(speaker, peer, stream, transcript, notices);
        self.watch.name_wire(channel, wire.clone());
        Ok(wire)
    }

    /// Asks a paused machine what it is, and stops the stack if that is not what is required of it.
    pub(super) async fn query_machine(&mut self, machine: &Machine, monitor: &Monitor) -> Result<(), Stop> {
        let level = machine.level;
        let (model, required) = (&machine.cpu.model, &machine.cpu.require);
        let questions = async {
            let made = monitor.machine(&machine.require).await?;
            Ok((made, monitor.kvm().await?, monitor.cpu(model, required).await?))
        };
        let (made, kvm, cpu) = self.during(level, questions).await?;
        // The level's evidence is that of the machine in which the levels inside it run.
        let gathered = if machine.instance == Instance::SecondMachine {
            self.gathered.second_machine.get_or_insert_default()
        } else {
            let seen = self.saw(level);
            seen.qemu = Some(monitor.version().to_owned());
            seen.machine = Some(made.machine_type.clone());
            seen.cpu = Some(cpu.model_type.clone());
            &mut self.gathered
        };
        gathered.kvm.insert(level, kvm);
        gathered.cpus.insert(level, cpu.clone());
        gathered.machines.insert(level, made.clone());
        let on_metal = level.below().is_none();
        if !self.plan.on_emulator(level) && !kvm.enabled {
            return Err(Stop::stack(self.stage, Symptom::WithoutKvm { level }));
        }
        made.check().map_err(|property| {
            let machine_type = made.machine_type.clone();
            Stop::stack(self.stage, Symptom::MissingMachineProperty { level, property, machine_type })
        })?;
        cpu.check().map_err(|missing| {
            let below = level.below().filter(|_| self.plan.profile.nesting.is_feature(&missing.feature));
            let nested = below.and_then(|below| {
                let value = self.facts.get(&below)?.nested.clone()?;
                Some(NestedSetting { level: below, module: self.plan.profile.kvm_module.to_owned(), value })
            });
            let MissingFeature { feature, model } = missing;
            let stop = Stop::stack(self.stage, Symptom::MissingCpuFeature { level, feature, model, nested });
            if on_metal { stop.not_its_fault() } else { stop }
        })
    }

    /// Waits until the agent behind `wire` answers.
    pub(super) async fn greet(&mut self, wire: Wire, level: LevelNumber) -> Result<Agent, Stop> {
        self.during(level, async move { Ok(Agent::greet(wire).await?) }).await
    }

    /// Asks a host whether it can be a hypervisor.
    async fn prove_kvm(&mut self, level: LevelNumber, host: Rc<dyn Host>) -> Result<(), Stop> {
        self.hosts.push((level, Rc::clone(&host)));
        self.begin(level, StageKind::Kvm).await?;
        self.look_at(level, &*host).await
    }

    /// Asks a host that has just come up what it is, and stops the stack if it can't be a hypervisor.
    pub(super) async fn look_at(&mut self, level: LevelNumber, host: &dyn Host) -> Result<(), Stop> {
        let facts = self.ask(level, host).await?;
        self.check_kernel(level, &facts.kernel)?;
        self.check_disk(level, host).await?;
        self.clocks.insert(level, facts.uptime.map(|uptime| ClockReading { at: Instant::now(), uptime }));
        let below = level.below().and_then(|below| self.facts.get(&below));
        let lacks = below.map(|below| below.flags_missing_in(&facts)).unwrap_or_default();
        let seen = self.saw(level);
        seen.nested.clone_from(&facts.nested);
        seen.missing_features = lacks;
        let native_l0 = level.below().is_none() && self.plan.metal == Metal::Native;
        self.gathered.l0_counters_unreadable |= native_l0 && facts.counters.is_empty();
        self.gathered.counters_before.insert(level, facts.counters.clone());
        let usable = facts.kvm_device && facts.kvm_module;
        self.facts.insert(level, facts);
        if usable {
            Ok(())
        } else {
            let Facts { kvm_module, kvm_says, .. } = &self.facts[&level];
            Err(Stop::stack(
                self.stage,
                Symptom::NoKvm {
                    level,
                    module: self.plan.profile.kvm_module.to_owned(),
                    loaded: *kvm_module,
                    said: kvm_says.clone(),
                    second: false,
                },
            ))
        }
    }

    /// Asks a host what it is. A level of ours that is to run a nested guest is made to count that.
    pub(super) async fn ask(&mut self, level: LevelNumber, host: &dyn Host) -> Result<Facts, Stop> {
        let ours = level.below().is_some() || self.plan.metal == Metal::Emulated;
        let count_nested = ours && nests(level, self.plan.innermost());
        let mut before = self.resync_guest.take().unwrap_or_default() + &self.parameters_script();
        if count_nested {
            before.push_str(&count_nested_script(self.plan.profile));
        }
        self.during(level, host.facts(self.plan.profile, &before)).await
    }

    /// Notes the kernel that a level says it runs, and stops the stack if that is not its image's.
    pub(super) fn check_kernel(&mut self, level: LevelNumber, running: &str) -> Result<(), Stop> {
        self.saw(level).kernel = Some(running.to_owned());
        match self.plan.levels.iter().find(|plan| plan.level == level) {
            Some(plan) if plan.kernel_release != running => {
                let image = &plan.kernel_release;
                Err(Stop::harness(
                    self.stage,
                    format!("{level} runs kernel {running:?}, its image has {image:?}"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// A level that has a disk for its modprobe configuration must use it: one that forgets shows nothing.
    async fn check_disk(&mut self, level: LevelNumber, host: &dyn Host) -> Result<(), Stop> {
        if !self.plan.levels.iter().any(|plan| plan.level == level && plan.disk.is_some()) {
            return Ok(());
        }
        let mounted =
            self.during(level, host.run("grep -q '^/dev/.* /etc/modprobe.d ' /proc/mounts")).await?;
        match mounted.status {
            Some(0) => Ok(()),
            _ => Err(Stop::harness(self.stage, format!("{level} does not use its disk")).about(level)),
        }
    }

    async fn begin(&mut self, level: LevelNumber, kind: StageKind) -> Result<(), Stop> {
        self.take_steps().await?;
        let stage = Stage::Level(level, kind);
        self.enter(stage);
        let faults: Vec<Fault> = self.faults.iter().filter(|fault| fault.at == stage).cloned().collect();
        for fault in faults {
            if fault.action == FaultAction::KillQemu {
                self.killed.insert(fault.level);
            }
            self.inflict(&fault)
                .await
                .map_err(|why| Stop::harness(stage, format!("{}: {why}", fault.level)))?;
        }
        Ok(())
    }

    /// Notes that the stage before is done and `stage` begins.
    pub(super) fn enter(&mut self, stage: Stage) {
        let now = self.started.elapsed().as_secs_f64();
        if let Some(last) = self.stages.last_mut() {
            last.end = now;
        }
        self.stage = stage;
        self.stages.push(StageTime { stage, start: now, end: now });
        self.listener.stage_began(stage);
    }

    /// Does to the stack what the scenario wants done to it.
    async fn inflict(&self, fault: &Fault) -> Result<(), String> {
        match fault.action {
            FaultAction::KillQemu => {
                let live = attended(&self.live, fault.level, fault.second);
                // That of the first machine is no substitute. After a migration there is only that of the second.
                let live = live.filter(|live| !fault.second || live.instance.is_second());
                let live = live.ok_or_else(|| {
                    format!("its {}QEMU does not run yet", if fault.second { "second " } else { "" })
                })?;
                live.qemu.kill().await.map_err(|e| e.to_string())
            }
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

    /// Notes what a level is given that no vendor would give it.
    pub(super) fn note_given(&mut self, machine: &Machine) {
        let seen = self.saw(machine.level);
        seen.cpus = Some(CPUS);
        seen.memory_mib = Some(machine.memory_mib);
        seen.command_line = Some(machine.boot.parameters.clone());
    }

    pub(super) fn saw(&mut self, level: LevelNumber) -> &mut LevelFacts {
        self.levels.entry(level).or_default()
    }

    pub(super) fn stream(&mut self, channel: ChannelName) -> Result<UnixStream, Stop> {
        let stage = self.stage;
        self.streams
            .remove(&channel)
            .ok_or_else(|| Stop::harness(stage, format!("channel {channel} is not open")))
    }

    /// The file `name` of the record of a machine.
    pub(super) fn record(&self, label: &str, name: &str) -> PathBuf {
        self.records.join(format!("{label}.{name}"))
    }

    fn cannot_record(&self, path: &Path, error: &std::io::Error) -> Stop {
        Stop::harness(self.stage, format!("{} can't be written: {error}", path.display()))
    }
}
