//! The snapshots of a running cell: finding the one to restore, saving those that the schedule asked for, and reporting both to
//! the schedule.

use std::cell::RefCell;
use std::collections::BTreeMap;

use nestmatrix_model::LevelNumber;
use nestmatrix_stack::launcher::BOCHS_TEMPORARY;
use nestmatrix_stack::{
    Draft, Finished, Inputs, Lookup, Snapshot, SnapshotCache, SnapshotKey, SnapshotSaver,
};
use nix::sys::statvfs::statvfs;

use super::execute::Run;
use super::ready_cell::{ReadyCell, SnapshotLink};
use super::schedule::Schedule;

/// What happened to a snapshot.
pub(super) enum SnapshotNews {
    /// It is in the cache now.
    Saved(SnapshotKey),
    /// It can't be used.
    Lost(SnapshotKey),
}

/// Saves the snapshots that a cell was chosen to save.
pub(super) struct CellSnapshots<'a> {
    pub(super) run: &'a Run,
    pub(super) cache: &'a SnapshotCache,
    pub(super) saves: RefCell<BTreeMap<LevelNumber, Inputs>>,
}

impl SnapshotSaver for CellSnapshots<'_> {
    fn draft(&self, level: LevelNumber) -> Option<Draft> {
        let inputs = self.saves.borrow_mut().remove(&level)?;
        let draft = self.cache.draft(level, inputs);
        draft.inspect_err(|e| tracing::warn!("failed to begin a snapshot of {level}: {e}")).ok()
    }

    fn saved(&self, level: LevelNumber, finished: Result<Finished, String>) {
        let published = finished.and_then(|finished| {
            let key = finished.key().clone();
            self.cache.publish(finished).map_err(|e| e.to_string()).map(|()| key)
        });
        match published {
            Ok(key) => self.run.report(SnapshotNews::Saved(key)),
            Err(why) => tracing::warn!("failed to save the snapshot of {level}: {why}"),
        }
    }
}

impl Run {
    /// Keeps news for the schedule, and wakes its owner.
    pub(super) fn report(&self, news: SnapshotNews) {
        self.snapshot_news.borrow_mut().push(news);
        self.has_news.notify_one();
    }

    /// Hands the schedule all news since the last time.
    pub(super) fn update(&self, schedule: &mut Schedule) {
        for news in self.snapshot_news.borrow_mut().drain(..) {
            match news {
                SnapshotNews::Saved(key) => schedule.is_saved(&key),
                SnapshotNews::Lost(key) => schedule.is_lost(&key),
            }
        }
    }

    /// The snapshot that `link` describes, or why it can't be used.
    pub(super) async fn look_up(&self, link: &SnapshotLink) -> (Option<Snapshot>, Option<String>) {
        let Some(cache) = self.setting.snapshots.clone() else { return (None, None) };
        let (level, inputs) = (link.level, link.inputs.clone());
        // It takes a while to compare its hashes.
        let found = tokio::task::spawn_blocking(move || cache.find(level, &inputs)).await;
        let why = match found {
            Ok(Ok(Lookup::Found(snapshot))) => return (Some(*snapshot), None),
            Ok(Ok(Lookup::Nothing)) => "the snapshot is gone".to_owned(),
            Ok(Ok(Lookup::Damaged(why))) => format!("the snapshot is damaged: {why}"),
            Ok(Err(e)) => format!("failed to read the snapshot: {e}"),
            Err(_) => "the search for the snapshot did not finish".to_owned(),
        };
        tracing::warn!("{why}; the stack boots from its beginning");
        self.report(SnapshotNews::Lost(link.key.clone()));
        (None, Some(why))
    }

    /// Why this machine has no room to restore a cell, if so. The snapshot is not at fault, and stays.
    pub(super) fn no_room_to_restore(&self, ready: &ReadyCell) -> Option<String> {
        let bytes = ready.copied_mib()? << 20;
        let system = statvfs(BOCHS_TEMPORARY).ok()?;
        let free = system.blocks_available().saturating_mul(system.fragment_size());
        (free < bytes).then(|| format!("{BOCHS_TEMPORARY} has no room for a copy of its memory"))
    }

    /// Why a cell boots from its beginning.
    pub(super) async fn why_not_restored(&self, ready: &ReadyCell) -> Option<String> {
        let cache = self.setting.snapshots.clone()?;
        let Some(link) = ready.snapshots.last() else { return ready.always_cold.clone() };
        let (level, inputs) = (link.level, link.inputs.clone());
        let found = tokio::task::spawn_blocking(move || cache.nearest(level, &inputs)).await.ok()?;
        Some(match found {
            Some(difference) => format!("no matching snapshot: {difference}"),
            None => "there is no snapshot yet".to_owned(),
        })
    }
}
