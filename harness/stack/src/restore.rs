//! A stack that goes on from a saved state, and the saving of one.
//!
//! The machine that is saved is that of the outermost level, with all levels that run in it: QEMU writes its devices as it does
//! for a migration, and its memory is copied beside. Whoever goes on from it maps that copy, of which only what is read is read
//! and what is written to stays with this stack.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nestmatrix_model::{LevelNumber, Stage, StageKind};
use nestmatrix_vmm::qemu::{ChannelKind, Instance, Machine, Memory, Monitor};
use nestmatrix_vmm::wire::{Notice, Speaker, Transcript, Wire};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Stop;
use super::boot::{NOTICES, RunningLevel, Stack};
use super::snapshots::{Draft, Finished, Snapshot, SnapshotLevel};
use super::watch::Sign;
use crate::host::{Host, HostError};

/// How often it is tried to stop a machine where it can be gone on from.
const TRIES: usize = 20;
/// How long it runs in between.
const PAUSE: Duration = Duration::from_millis(30);

/// Saves states of stacks on their way up.
pub trait SnapshotSaver {
    /// A place for the state of the stack up to `level`, if somebody wants it.
    fn draft(&self, level: LevelNumber) -> Option<Draft>;
    /// What came of saving it.
    fn saved(&self, level: LevelNumber, finished: Result<Finished, String>);
}

/// The memory is not written with the devices; and QEMU tells when it is through.
fn capabilities() -> Value {
    let on = |name: &str| json!({"capability": name, "state": true});
    json!({"capabilities": [on("x-ignore-shared"), on("events")]})
}

fn uri(file: &Path) -> Value {
    json!({"uri": format!("file:{}", file.display())})
}

impl Stack<'_> {
    /// Brings up the levels of a saved state; gives the number of levels, and the host that the innermost of them is.
    pub(super) async fn go_on(
        &mut self,
        state: &Snapshot,
        this_machine: Rc<dyn Host>,
    ) -> Result<(usize, Rc<dyn Host>), Stop> {
        let limits = self.limits;
        // It takes a few seconds, or the state is no good.
        self.limits = limits.short();
        let up = self.bring_up(state, this_machine).await;
        self.limits = limits;
        up
    }

    async fn bring_up(
        &mut self,
        state: &Snapshot,
        this_machine: Rc<dyn Host>,
    ) -> Result<(usize, Rc<dyn Host>), Stop> {
        self.enter(Stage::Restore);
        self.bring_records(state)?;
        let mut host = this_machine;
        let mut hosts = Vec::new();
        let levels = &state.description().levels;
        for (index, saved) in levels.iter().enumerate() {
            let machine = self.plan.machine(index, Instance::First);
            let level = machine.level;
            if saved.level != level {
                return Err(self.not_as_saved(format!("{} is not {level}", saved.level)));
            }
            self.note_given(&machine);
            self.saw(level).firmware.clone_from(&saved.firmware);
            self.watch.add(level, false);
            let monitor = match saved.pid {
                None => self.load(&machine, state, &*host).await?,
                Some(pid) => self.take_up(&machine, pid, &*host).await?,
            };
            if monitor.version() != saved.qemu {
                let why = format!("{level}'s QEMU is {}, not {}", monitor.version(), saved.qemu);
                return Err(self.not_as_saved(why));
            }
            self.query_machine(&machine, &monitor).await?;
            if saved.pid.is_none() {
                self.during(level, async { Ok(monitor.resume().await?) }).await?;
            }
            host = self.come_up(index).await?;
            hosts.push((level, Rc::clone(&host)));
        }
        for (level, host) in hosts {
            self.resync_guest = Some(self.resync_script()?);
            self.hosts.push((level, Rc::clone(&host)));
            self.enter(Stage::Level(level, StageKind::Kvm));
            self.look_at(level, &*host).await?;
        }
        Ok((levels.len(), host))
    }

    fn not_as_saved(&self, why: String) -> Stop {
        Stop::harness(self.stage, format!("the state is not what was saved: {why}"))
    }

    /// What levels said up to here is part of this stack's records.
    fn bring_records(&self, state: &Snapshot) -> Result<(), Stop> {
        let bring = || {
            for entry in fs::read_dir(state.records())? {
                let from = entry?.path();
                let Some(name) = from.file_name() else { continue };
                // What is recorded from now on has the same name.
                let mut to = PathBuf::from(name);
                to.set_extension(format!("saved.{}", from.extension().unwrap_or_default().to_string_lossy()));
                fs::copy(&from, self.records.join(to))?;
            }
            Ok(())
        };
        bring()
            .map_err(|e: std::io::Error| Stop::harness(self.stage, format!("records can't be written: {e}")))
    }

    /// Starts the QEMU of the outermost level and has it load the state.
    async fn load(&mut self, machine: &Machine, state: &Snapshot, host: &dyn Host) -> Result<Monitor, Stop> {
        let level = machine.level;
        let (monitor, notices) = self.start(machine, host).await?.of_qemu(self.stage)?;
        self.watch.take_over(level, notices);
        let wire = monitor.wire();
        let loading = async {
            wire.call("migrate-set-capabilities", capabilities()).await?;
            Ok(wire.call("migrate-incoming", uri(&state.device())).await?)
        };
        self.during(level, loading).await?;
        match self.migrated(level).await?.as_str() {
            "completed" => Ok(monitor),
            status => Err(self.not_as_saved(format!("QEMU's loading of it is {status}"))),
        }
    }

    /// Goes on speaking with a QEMU that runs in a level, and with its guest.
    async fn take_up(&mut self, machine: &Machine, pid: i64, host: &dyn Host) -> Result<Monitor, Stop> {
        let level = machine.level;
        let qemu =
            host.adopt(pid).ok_or_else(|| self.not_as_saved(format!("{} runs nothing", host.name())))?;
        self.live.push(RunningLevel { level, instance: Instance::First, qemu });
        self.open_console(machine.channel(ChannelKind::Console), &machine.label(), false)?;
        if machine.agent {
            let notices = self.watch.inlet(level, Sign::Agent);
            self.open_wire(machine, ChannelKind::Agent, notices)?;
        }
        let (sender, notices) = mpsc::channel(NOTICES);
        let wire = self.open_wire(machine, ChannelKind::Qmp, sender)?;
        self.watch.take_over(level, notices);
        self.during(level, async { Ok(Monitor::reattach(wire).await?) }).await
    }

    /// The script that brings a level up to date that stood still since it was saved: its clock is late, other stacks have the
    /// same random numbers, and what it has read of disks may not be on them any more.
    fn resync_script(&self) -> Result<String, Stop> {
        let failed = |what: &str| Stop::harness(self.stage, format!("no {what} is to be had"));
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| failed("time"))?.as_secs();
        let uuid = || fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(|_| failed("random number"));
        let seed = [uuid()?, uuid()?].concat().replace('\n', "");
        Ok(format!(
            "echo {seed} >/dev/urandom; date -u -s @{seconds} >/dev/null; echo 1 >/proc/sys/vm/drop_caches\n"
        ))
    }

    /// Saves the stack as it is now, when `level` is up and nothing runs in it yet. That it can't be saved is nothing against
    /// the stack.
    pub(super) async fn save(&mut self, level: LevelNumber) -> Result<(), Stop> {
        // What goes wrong meanwhile, the harness has brought upon the stack.
        self.save_as_it_is(level).await.map_err(Stop::not_its_fault)
    }

    async fn save_as_it_is(&mut self, level: LevelNumber) -> Result<(), Stop> {
        let Some(saver) = self.saver else { return Ok(()) };
        let Some(draft) = saver.draft(level) else { return Ok(()) };
        let finished = match self.write_devices(&draft).await? {
            Ok(()) => self.copy_memory(draft).await?,
            Err(why) => Err(why),
        };
        let outermost = self.plan.levels[0].level;
        let wire = self.wire(outermost, ChannelKind::Qmp)?;
        self.during(outermost, async { Ok(wire.call("cont", Value::Null).await?) }).await?;
        saver.saved(level, finished);
        Ok(())
    }

    /// Stops the outermost machine and has QEMU write its devices, so that another QEMU loads them. It does not where the machine
    /// stands in the midst of a guest of its KVM, which it is in and out of a thousand times a second.
    async fn write_devices(&mut self, draft: &Draft) -> Result<Result<(), String>, Stop> {
        let outermost = self.plan.levels[0].level;
        let wire = self.wire(outermost, ChannelKind::Qmp)?;
        for _ in 0..TRIES {
            self.watch.pause(outermost);
            let write = async {
                wire.call("stop", Value::Null).await?;
                wire.call("migrate-set-capabilities", capabilities()).await?;
                wire.call("migrate", uri(&draft.device())).await
            };
            if let Err(why) = self.during(outermost, async { Ok(write.await) }).await? {
                return Ok(Err(why.to_string()));
            }
            let status = self.migrated(outermost).await?;
            if status != "completed" {
                return Ok(Err(format!("QEMU's writing of it is {status}")));
            }
            if self.loads(&draft.device()).await? {
                return Ok(Ok(()));
            }
            self.during(outermost, async { Ok(wire.call("cont", Value::Null).await?) }).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(Err(format!("no QEMU loads what was written, {TRIES} times")))
    }

    /// Whether another QEMU loads these devices. It gets the memory as it is, of which it changes nothing.
    async fn loads(&mut self, device: &Path) -> Result<bool, Stop> {
        let mut machine = self.plan.machine(0, Instance::Incoming);
        if let Memory::Shared(memory) = &self.plan.memory {
            machine.memory = Memory::Snapshot(memory.clone());
        }
        let host = Rc::clone(&self.this_machine);
        // What it writes is nothing of this stack's.
        let log = self.record(&machine.label(), "qemu.log");
        let trial = async {
            let mut started = host.start(&machine).await?;
            let Some(stream) = started.streams.remove(&machine.channel(ChannelKind::Qmp)) else {
                return Ok::<bool, HostError>(false);
            };
            let (sender, mut notices) = mpsc::channel(NOTICES);
            let wire = Wire::start(
                Speaker::Qemu,
                "QMP of a QEMU that tries a state",
                stream,
                Transcript::none(),
                sender,
            );
            let monitor = Monitor::greet(wire, &mut notices).await?;
            monitor.wire().call("migrate-set-capabilities", capabilities()).await?;
            monitor.wire().call("migrate-incoming", uri(device)).await?;
            // It also ends by itself where it can't load.
            while let Some(notice) = notices.recv().await {
                match notice {
                    Notice::Event(event) if event.data["status"] == "completed" => return Ok(true),
                    Notice::Event(event) if event.data["status"] == "failed" => return Ok(false),
                    Notice::Closed(_) => return Ok(false),
                    Notice::Event(_) | Notice::Greeting(_) => {}
                }
            }
            Ok(false)
        };
        // A QEMU that ends on the way has not loaded it, whatever was said last.
        let trial = async { Ok(trial.await.unwrap_or(false)) };
        let loaded = self.during(machine.level, trial).await;
        let _ = fs::remove_file(log);
        loaded
    }

    async fn copy_memory(&mut self, draft: Draft) -> Result<Result<Finished, String>, Stop> {
        let outermost = self.plan.levels[0].level;
        let Memory::Shared(memory) = &self.plan.memory else {
            return Ok(Err("its memory is no file of its own".to_owned()));
        };
        let memory = match fs::File::open(memory) {
            Ok(memory) => memory,
            Err(e) => return Ok(Err(format!("its memory can't be opened: {e}"))),
        };
        let levels = self.live.iter().map(|live| {
            let seen = self.levels.get(&live.level);
            SnapshotLevel {
                level: live.level,
                pid: live.qemu.pid_in_level(),
                qemu: seen.and_then(|seen| seen.qemu.clone()).unwrap_or_default(),
                firmware: seen.and_then(|seen| seen.firmware.clone()),
            }
        });
        let (levels, records, stages) = (levels.collect(), self.records.to_owned(), self.stages.clone());
        let copying = tokio::task::spawn_blocking(move || draft.finish(&memory, &records, levels, stages));
        let copied = self.during(outermost, async { Ok(copying.await) }).await?;
        Ok(match copied {
            Ok(finished) => finished.map_err(|e| e.to_string()),
            Err(_) => Err("it was given up".to_owned()),
        })
    }

    /// Waits until QEMU has written or loaded the state of a machine; gives the status with which it ended.
    async fn migrated(&mut self, level: LevelNumber) -> Result<String, Stop> {
        self.until(level, |watch| watch.migrated(level).map(str::to_owned)).await
    }
}
