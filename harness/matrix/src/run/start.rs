//! Starts one boot of a ready cell: its nonce, memory and disks, this machine as its host, and the boot itself.

use std::cell::RefCell;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use nestmatrix_model::Stage;
use nestmatrix_stack::host::ThisMachine;
use nestmatrix_stack::{
    BootRequest, HostReboot, Limits, Metal, Observation, Snapshot, SnapshotKey, SnapshotSaver, StackPlan,
    StageListener, Stop, UserProgram, boot,
};
use nestmatrix_vmm::qemu::Memory;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::execute::Run;
use super::guest_volumes;
use super::nonce::nonce;
use super::ready_cell::ReadyCell;
use super::snapshots::CellSnapshots;
use super::{RunEvent, RunListener};
use crate::records::Purpose;
use crate::scenario::CellName;
use crate::user_command::prepare_program;

/// Size of a level's own disk, which holds a few lines of configuration.
const DISK_BYTES: u64 = 4 << 20;

/// A boot for which everything is in place.
pub(super) struct PreparedBoot {
    plan: StackPlan,
    programs: Vec<UserProgram>,
    /// What was done before this machine was rebooted, if the boot continues after that.
    rebooted: Option<HostReboot>,
    this_machine: ThisMachine,
    /// The memory of the outermost machine. QEMU opens it by this process's descriptor, so it stays open until the boot has ended.
    _memory: Option<fs::File>,
}

impl PreparedBoot {
    /// The same, with what was done before this machine was rebooted.
    pub(super) fn after(self, rebooted: Option<HostReboot>) -> Self {
        Self { rebooted, ..self }
    }
}

/// Passes the stages of a cell's stack on to the listener of its run.
struct CellStages {
    cell: CellName,
    listener: Rc<dyn RunListener>,
}

impl StageListener for CellStages {
    fn stage_began(&self, stage: Stage) {
        self.listener.event(&RunEvent::StageBegan { cell: &self.cell, stage });
    }
}

impl Run {
    /// Puts everything in place for a boot, from this snapshot if there is one. `saves` says whether the cell saves snapshots.
    pub(super) async fn prepare(
        &self,
        ready: &ReadyCell,
        from: Option<&Snapshot>,
        saves: bool,
        records: &Path,
    ) -> Result<PreparedBoot, Stop> {
        let stop = |why: String| Stop::harness(Stage::Provision, why);
        let mut plan = ready.stack.clone().map_err(stop)?;
        plan.nonce = nonce().map_err(|e| stop(e.to_string()))?;
        plan.restored_from = from.is_some();
        let mut memory = None;
        let is_shared = plan.metal == Metal::Emulated && plan.runs_on_qemu();
        if let (Some(snapshot), true) = (from, !saves || !is_shared) {
            plan.memory = Memory::Snapshot(snapshot.memory());
        } else if is_shared {
            // The memory has no name, so it disappears with the last process that has it open. QEMU omits it from a migration
            // only if it has a path, hence this one. It is also faster than memory that QEMU allocates itself.
            let failed = |e: std::io::Error| stop(format!("failed to make the memory of its machine: {e}"));
            let made = memfd_create("nestmatrix", MFdFlags::MFD_CLOEXEC);
            let made = fs::File::from(made.map_err(|e| failed(e.into()))?);
            let path = format!("/proc/{}/fd/{}", std::process::id(), made.as_raw_fd());
            plan.memory = Memory::Shared(path.into());
            if let Some(snapshot) = from {
                // The next snapshot contains all of it, so it must be the stack's own.
                snapshot.copy_memory(&made).await.map_err(failed)?;
            }
            memory = Some(made);
        }
        let outermost = ready.outermost.as_ref().map_err(|why| stop(why.clone()))?;
        let failed = |path: &Path, e| stop(format!("failed to make {}: {e}", path.display()));
        ready.folders.make().map_err(|(folder, e)| failed(folder, e))?;
        for disk in plan.levels.iter().filter_map(|plan| plan.disk.as_ref()) {
            let made = fs::File::create(disk).and_then(|file| file.set_len(DISK_BYTES));
            made.map_err(|e| failed(disk, e))?;
        }
        for image in ready.images().into_values() {
            let image = image.clone();
            // A run may take hours, and an overlay over another file is no system. If its time has changed, all of it is read.
            let checked = tokio::task::spawn_blocking(move || {
                image.check_medium().map_err(|e| format!("the medium of {}: {e}", image.name()))
            });
            checked.await.map_err(|e| stop(e.to_string()))?.map_err(stop)?;
        }
        self.overlays.make(&plan, from, saves).await.map_err(stop)?;
        guest_volumes::write(&plan, ready).await.map_err(stop)?;
        let programs = self.programs(ready).map_err(stop)?;
        let this_machine = ThisMachine {
            emulator: outermost.emulator.clone(),
            program: outermost.program,
            swtpm: outermost.swtpm.clone(),
            wrapper: self.setting.wrapper.clone(),
            sockets: ready.folders.sockets.clone(),
            files: ready.folders.files.clone(),
            records: records.to_owned(),
            saves,
        };
        Ok(PreparedBoot { plan, programs, rebooted: None, this_machine, _memory: memory })
    }

    /// The programs that the steps of a cell run, as its levels run them.
    fn programs(&self, ready: &ReadyCell) -> Result<Vec<UserProgram>, String> {
        let isa = ready.cell.architecture.isa();
        let mut named: Vec<&str> =
            ready.cell.steps.iter().filter_map(|step| Some(step.payload()?.name.as_str())).collect();
        named.sort_unstable();
        named.dedup();
        let added = named.into_iter().map(|name| {
            let mut all = self.setting.catalog.programs().iter();
            all.find(|program| program.name() == name).ok_or_else(|| format!("no payload {name} was added"))
        });
        added.map(|program| prepare_program(program?, isa, &ready.folders.files)).collect()
    }

    /// Boots a stack, and saves these of its snapshots on the way.
    pub(super) async fn boot(
        &self,
        ready: &ReadyCell,
        prepared: PreparedBoot,
        limits: Limits,
        from: Option<&Snapshot>,
        saves: &[SnapshotKey],
    ) -> Observation {
        let PreparedBoot { plan, programs, rebooted, this_machine, _memory } = prepared;
        let cell = &ready.cell;
        let listener = CellStages { cell: cell.name.clone(), listener: Rc::clone(&self.listener) };
        let saves = ready.snapshots.iter().filter(|link| saves.contains(&link.key));
        let saves = saves.map(|link| (link.level, link.inputs.clone())).collect();
        let cache = self.setting.snapshots.as_deref();
        let saver = cache.map(|cache| CellSnapshots { run: self, cache, saves: RefCell::new(saves) });
        let records = this_machine.records.clone();
        boot(BootRequest {
            plan: &plan,
            this_machine: Rc::new(this_machine),
            limits,
            faults: &cell.faults,
            steps: &cell.steps,
            suites: self.setting.catalog.suites(),
            programs: &programs,
            records: &records,
            started: Instant::now(),
            listener: &listener,
            cancellation: self.cancellation.clone(),
            from,
            saver: saver.as_ref().map(|saver| saver as &dyn SnapshotSaver),
            inspector: self.setting.inspector.as_deref(),
            rebooted: rebooted.as_ref(),
            asks_cpu_models: self.setting.purpose == Purpose::CpuModels && cell.cpu_model.is_none(),
            images: ready.images(),
        })
        .await
    }
}
