//! The entry to this crate: what is needed to boot a stack, and the function that boots it and watches it to its end.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use nestmatrix_images::{BuiltSuite, Image};
use nestmatrix_model::{Fault, LevelNumber, Stage, Step};

use super::channels::Records;
use super::console_view::ConsoleView;
use super::pause::Inspector;
use super::program::UserProgram;
use super::save::SnapshotSaver;
use super::snapshots::Snapshot;
use super::stack::Stack;
use super::{Cancellation, HostReboot, LevelPlan, Limits, Observation, StackPlan, Stop};
use crate::host::Host;

/// Is notified when stages begin.
pub trait StageListener {
    /// A stage has begun.
    fn stage_began(&self, stage: Stage);
}

/// A stack to boot, and everything that its boot needs to know. Nothing in it changes during the boot.
pub struct BootRequest<'a> {
    /// The stack.
    pub plan: &'a StackPlan,
    /// The host of its outermost level.
    pub this_machine: Rc<dyn Host>,
    /// How long it may take.
    pub limits: Limits,
    /// The faults that are injected.
    pub faults: &'a [Fault],
    /// The steps in it.
    pub steps: &'a [Step],
    /// The test suites that the user built.
    pub suites: &'a [Arc<BuiltSuite>],
    /// The programs of the user that steps run.
    pub programs: &'a [UserProgram],
    /// Folder for the records of its consoles and conversations.
    pub records: &'a Path,
    /// When its cell began: times count from then.
    pub started: Instant,
    /// Is notified when stages begin.
    pub listener: &'a dyn StageListener,
    /// Ends the boot early when it is triggered.
    pub cancellation: Cancellation,
    /// The snapshot from which it is restored, if it does not begin at its outermost level.
    pub from: Option<&'a Snapshot>,
    /// Takes snapshots during the boot, if any are wanted.
    pub saver: Option<&'a dyn SnapshotSaver>,
    /// Pauses it and queries its levels, in a debug session.
    pub inspector: Option<&'a dyn Inspector>,
    /// What was done before this machine, which is L0, was rebooted, if this boot continues after that.
    pub rebooted: Option<&'a HostReboot>,
    /// Asks the QEMU of the innermost level which CPU models it can run.
    pub asks_cpu_models: bool,
    /// The image of each level; the offer of its QEMU is remembered with it.
    pub images: BTreeMap<LevelNumber, &'a Image>,
}

impl BootRequest<'_> {
    /// Where the channels are recorded.
    pub(super) fn records(&self) -> Records<'_> {
        Records { folder: self.records, started: self.started }
    }

    /// The outermost level that is booted.
    pub(super) fn outermost(&self) -> Option<LevelNumber> {
        self.plan.levels.first().map(|plan| plan.level)
    }

    /// The place of a level among those that are booted.
    pub(super) fn index_of(&self, level: LevelNumber) -> Option<usize> {
        self.plan.levels.iter().position(|plan| plan.level == level)
    }

    /// The plan of a level.
    pub(super) fn level(&self, level: LevelNumber) -> Option<&LevelPlan> {
        self.plan.levels.iter().find(|plan| plan.level == level)
    }
}

/// Boots a stack on this machine and watches it to its end or its stop. Everything that it started is ended when this returns,
/// and also when the future is dropped.
pub async fn boot(request: BootRequest<'_>) -> Observation {
    let mut stack = Stack::new(&request);
    let mut stop = stack.boot().await.err();
    stack.ledger.end_stage();
    let interrupted = |stop: &Option<Stop>| stop.as_ref().is_some_and(Stop::is_interrupted);
    if !interrupted(&stop) && stack.ledger.restored != Some(false) {
        stack.read_traffic().await;
        stack.read_closing_reports(stop.is_some()).await;
        if stop.is_none() {
            stop = stack.end_that_explains_missing_evidence().await;
        }
    }
    let usage = stack.machines.usage(request.outermost()).await;
    if let Some(inspector) = request.inspector.filter(|inspector| inspector.pauses_at_end(stop.is_some()))
        && !interrupted(&stop)
    {
        // Nothing that happens from now on changes the verdict.
        let _ = stack.pause(inspector, stack.stage, stop.as_ref()).await;
    }
    if stop.is_none() {
        // Otherwise it goes with the outermost machine, whose disks are made anew for each boot.
        for (id, why) in stack.machines.clean_up(|level| stack.limit_of(level).silence).await {
            stack.note_left(id.level, &why);
        }
    }
    if let Err(why) = stack.machines.end(request.outermost(), request.limits.diagnostics()).await {
        stop.get_or_insert(Stop::harness(stack.stage, why));
    }
    let Stack { ledger, watch, .. } = stack;
    let last_lines = |level| watch.console(level).map(ConsoleView::last_lines).unwrap_or_default();
    ledger.into_observation(stop, usage, last_lines)
}
