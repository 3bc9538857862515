//! Takes snapshots of a stack while it boots.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{ChannelKind, Instance, Memory, Monitor};
use nestmatrix_vmm::wire::{Notice, Speaker, Transcript, Wire};
use qapi::qmp;
use tokio::sync::mpsc;

use super::boot_level::NOTICES;
use super::migrate::{incoming, outgoing};
use super::restore::{capabilities, uri};
use super::snapshots::{Draft, Finished, Parts, SnapshotLevel};
use super::stack::Stack;
use super::{LevelPlan, Stop};
use crate::host::HostError;
use crate::launcher::launch;

/// How often the harness tries to stop a machine at a point from which it can be restored.
const TRIES: usize = 20;
/// How long it runs in between, at least.
const PAUSE: Duration = Duration::from_millis(30);
/// How long it may run altogether until it is idle.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// An idle machine uses less than this share of a CPU.
const IDLE: f64 = 0.35;
/// How long its use is measured for that.
const SAMPLE: Duration = Duration::from_millis(500);

/// Takes snapshots of stacks while they boot.
pub trait SnapshotSaver {
    /// A place for the snapshot of the stack up to `level`, if it is wanted.
    fn draft(&self, level: LevelNumber) -> Option<Draft>;
    /// The result of saving it.
    fn saved(&self, level: LevelNumber, finished: Result<Finished, String>);
}

impl Stack<'_> {
    /// Takes a snapshot of the stack, when `level` is up and nothing runs in it yet. A failure to save does not count against
    /// the stack.
    pub(super) async fn save(&mut self, level: LevelNumber) -> Result<(), Stop> {
        // The harness itself causes any problem meanwhile.
        self.save_as_it_is(level).await.map_err(Stop::not_its_fault)
    }

    async fn save_as_it_is(&mut self, level: LevelNumber) -> Result<(), Stop> {
        let Some(saver) = self.request.saver else { return Ok(()) };
        let Some(draft) = saver.draft(level) else { return Ok(()) };
        let finished = if self.request.plan.runs_on_qemu() {
            self.save_with_qemu(draft).await?
        } else {
            self.save_with_emulator(draft).await?
        };
        saver.saved(level, finished);
        Ok(())
    }

    /// Asks the outermost QEMU for its devices, and copies its memory meanwhile.
    async fn save_with_qemu(&mut self, draft: Draft) -> Result<Result<Finished, String>, Stop> {
        let finished = match self.write_devices(&draft).await? {
            Ok(()) => match self.memory_of_qemu() {
                Ok(memory) => self.finish(draft, memory).await?,
                Err(why) => Err(why),
            },
            Err(why) => Err(why),
        };
        let outermost = self.request.plan.levels[0].level;
        let wire = self.wire(outermost, ChannelKind::Qmp)?;
        self.during(outermost, async { Ok(wire.execute(qmp::cont {}).await?) }).await?;
        Ok(finished)
    }

    /// Asks another emulator to save its machine, which goes on while its files are copied.
    async fn save_with_emulator(&mut self, draft: Draft) -> Result<Result<Finished, String>, Stop> {
        let outermost = self.request.plan.levels[0].level;
        let devices = self.devices_file()?;
        let Some(emulator) = self.machines.qemu(outermost.into()) else {
            return Err(self.harness(format!("{outermost} does not run")));
        };
        let save = async { Ok(emulator.save(&devices).await) };
        let limit = self.limit_of(outermost);
        let memory = match self.watch.during(outermost, limit, Some(emulator), save).await {
            Ok(Ok(memory)) => memory,
            Ok(Err(why)) => return Ok(Err(why.to_string())),
            Err(abort) => return Err(self.explain(abort, false).await),
        };
        match tokio::fs::copy(&devices, draft.device()).await {
            Ok(_) => self.finish(draft, memory).await,
            Err(e) => Ok(Err(format!("what the emulator wrote can't be copied: {e}"))),
        }
    }

    /// Stops the outermost machine and lets QEMU write its devices, so that another QEMU can load them. That fails if the
    /// machine is stopped inside a guest of its KVM, which it enters and leaves a thousand times a second.
    async fn write_devices(&mut self, draft: &Draft) -> Result<Result<(), String>, Stop> {
        let outermost = self.request.plan.levels[0].level;
        let wire = self.wire(outermost, ChannelKind::Qmp)?;
        let devices = self.devices_file()?;
        let busy_until = Instant::now() + SETTLES_WITHIN;
        for number in 0..TRIES {
            if number > 0 {
                self.during(outermost, async { Ok(wire.execute(qmp::cont {}).await?) }).await?;
                tokio::time::sleep(PAUSE).await;
                self.wait_until_idle(outermost, busy_until).await?;
            }
            self.watch.expect_stop(outermost);
            let write = async {
                wire.execute(qmp::stop {}).await?;
                wire.execute(capabilities()).await?;
                wire.execute(outgoing(uri(&devices))).await
            };
            if let Err(why) = self.during(outermost, async { Ok(write.await) }).await? {
                return Ok(Err(why.to_string()));
            }
            let status = self.migrated(outermost).await?;
            if status != "completed" {
                return Ok(Err(format!("QEMU's writing of it is {status}")));
            }
            if self.loads(&devices).await? {
                let copied = tokio::fs::copy(&devices, draft.device()).await;
                return Ok(copied.map(drop).map_err(|e| format!("what QEMU wrote can't be copied: {e}")));
            }
        }
        Ok(Err(format!("no QEMU loads what was written, {TRIES} times")))
    }

    /// Waits until the stack has nothing to do. Services of an installed system still start when it answers already, and while its CPU
    /// is busy, nearly every moment is one inside a guest.
    async fn wait_until_idle(&mut self, outermost: LevelNumber, at_most_until: Instant) -> Result<(), Stop> {
        while Instant::now() < at_most_until {
            let before = self.machines.usage(Some(outermost)).await;
            self.during(outermost, async {
                tokio::time::sleep(SAMPLE).await;
                Ok(())
            })
            .await?;
            let after = self.machines.usage(Some(outermost)).await;
            if after.share_since(&before) < IDLE {
                break;
            }
        }
        Ok(())
    }

    /// Whether another QEMU loads these devices. It gets the same memory, but changes nothing in it.
    async fn loads(&mut self, device: &Path) -> Result<bool, Stop> {
        let plan = self.request.plan;
        // It must not take the locks of the disks: the machine needs them when it continues.
        let mut machine = plan.machine(0, Instance::Incoming { second: true }).discarding_writes();
        if let Memory::Shared(memory) = &plan.memory {
            machine.memory = Memory::Snapshot(memory.clone());
        }
        let host = &self.request.this_machine;
        // These records are not about this stack.
        let logs = ["qemu.log", "swtpm.log", "sandbox.json", "swtpm.sandbox.json"]
            .map(|log| self.request.records().file(&machine.label(), log));
        let trial = async {
            let mut started = launch(&machine, host).await?;
            let Some(stream) = started.streams.remove(&machine.channel(ChannelKind::Qmp)) else {
                return Ok::<bool, HostError>(false);
            };
            let (sender, mut notices) = mpsc::channel(NOTICES);
            let wire = Wire::start(
                Speaker::Qemu,
                "QMP of a QEMU that tries a snapshot",
                stream,
                Transcript::none(),
                sender,
            );
            let monitor = Monitor::greet(wire, &mut notices).await?;
            monitor.wire().execute(capabilities()).await?;
            monitor.wire().execute(incoming(uri(device))).await?;
            // It also ends by itself if it can't load.
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
        // A QEMU that ends meanwhile has not loaded it, whatever it reported last.
        let trial = async { Ok(trial.await.unwrap_or(false)) };
        let loaded = self.during(machine.level, trial).await;
        for log in logs {
            let _ = fs::remove_file(log);
        }
        loaded
    }

    /// The memory of the outermost QEMU.
    fn memory_of_qemu(&self) -> Result<fs::File, String> {
        let Memory::Shared(memory) = &self.request.plan.memory else {
            return Err("its memory is not a file".to_owned());
        };
        fs::File::open(memory).map_err(|e| format!("its memory can't be opened: {e}"))
    }

    /// Copies the memory, and all that a snapshot contains besides.
    async fn finish(&mut self, draft: Draft, memory: fs::File) -> Result<Result<Finished, String>, Stop> {
        let outermost = self.request.plan.levels[0].level;
        let levels = self.machines.running().iter().map(|running| {
            let level = running.id.level;
            let known = self.ledger.known_of(level);
            SnapshotLevel {
                level,
                pid: running.qemu.pid_in_level(),
                qemu: known.and_then(|known| known.qemu.clone()).unwrap_or_default(),
                firmware: known.and_then(|known| known.firmware.clone()),
            }
        });
        let levels: Vec<SnapshotLevel> = levels.collect();
        let saved = |plan: &&LevelPlan| levels.iter().any(|level| level.level == plan.level);
        let disks = self.request.plan.levels.iter().filter(saved).flat_map(LevelPlan::written_files);
        let parts = Parts {
            records: self.request.records.to_owned(),
            disks: disks.map(Path::to_owned).collect(),
            levels,
            stages: self.ledger.stages().to_vec(),
        };
        let copying = tokio::task::spawn_blocking(move || draft.finish(&memory, parts));
        let copied = self.during(outermost, async { Ok(copying.await) }).await?;
        Ok(match copied {
            Ok(finished) => finished.map_err(|e| e.to_string()),
            Err(_) => Err("it was given up".to_owned()),
        })
    }
}
