//! What a run reports while it is in progress. The terminal is one listener; tests are others.

use nestmatrix_model::Stage;

use super::{Progress, Rerouted};
use crate::records::{CellRecord, UndeliveredImage};
use crate::scenario::CellName;

/// Something that happened in a run.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// The archive does not deliver an image's packages.
    Undelivered {
        /// The image.
        image: &'a UndeliveredImage,
        /// What happens to its cells.
        rerouted: Rerouted,
    },
    /// A cell's stack is about to boot.
    CellBegan {
        /// Which.
        cell: &'a CellName,
    },
    /// A stage of a cell's stack has begun.
    StageBegan {
        /// Whose.
        cell: &'a CellName,
        /// Which.
        stage: Stage,
    },
    /// A cell's verdict is known and recorded.
    CellEnded {
        /// The record.
        record: &'a CellRecord,
    },
    /// This machine, a disposable host, could not be restored after a cell. The run ends.
    HostNotRestored {
        /// What is not as it was found.
        problem: &'a str,
    },
    /// The run begins to boot cells, or a cell has ended.
    Progress(Progress),
}

/// Listens to a run. Called on the run's own thread, in order.
pub trait RunListener {
    /// Something happened.
    fn event(&self, event: &RunEvent<'_>);
}
