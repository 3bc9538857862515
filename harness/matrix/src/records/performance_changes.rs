//! How the measured performance of a cell's levels changed between two sets of results.

use nestmatrix_model::LevelNumber;
use nestmatrix_stack::{BenchmarkRecord, Metal, Ratio, StepRecord};

use super::CellRecord;
use crate::scenario::CellName;

/// A ratio of two levels that certainly changed: the intervals do not touch.
#[derive(Debug, Clone, PartialEq)]
pub struct PerformanceChange {
    /// The cell.
    pub cell: CellName,
    /// The name of the step.
    pub step: String,
    /// The level that was compared.
    pub level: LevelNumber,
    /// The level that it was compared with.
    pub of: LevelNumber,
    /// The ratio before.
    pub before: Ratio,
    /// The ratio now.
    pub now: Ratio,
    /// The metal of both.
    pub metal: Metal,
}

impl PerformanceChange {
    /// Whether the level got slower, and that says something about it: the ratios of an emulator say nothing.
    pub fn is_worse(&self) -> bool {
        self.metal == Metal::Native && self.now.is_below(&self.before)
    }

    /// What changed in a cell. A ratio is only compared with one of the same benchmark, by the same tools, on the same metal.
    pub(super) fn all(was: &CellRecord, is: &CellRecord) -> Vec<Self> {
        let Some(metal) = is.metal.filter(|metal| was.metal == Some(*metal)) else { return Vec::new() };
        let same = |before: &&StepRecord, now: &StepRecord| before.name == now.name && before.on == now.on;
        let of_step = |now: &StepRecord| {
            let before = was.steps.iter().find(|before| same(before, now))?;
            let (before, now_of) = (before.benchmark.as_ref()?, now.benchmark.as_ref()?);
            let change = |(of, ratio): (&LevelNumber, &Ratio)| {
                let earlier = before.ratios.get(of)?;
                let changed = ratio.is_below(earlier) || earlier.is_below(ratio);
                (changed && is_comparable(before, now_of, [now.on, *of])).then(|| Self {
                    cell: is.cell.clone(),
                    step: now.name.clone(),
                    level: now.on,
                    of: *of,
                    before: earlier.clone(),
                    now: ratio.clone(),
                    metal,
                })
            };
            Some(now_of.ratios.iter().filter_map(change).collect::<Vec<_>>())
        };
        is.steps.iter().filter_map(of_step).flatten().collect()
    }
}

fn is_comparable(before: &BenchmarkRecord, now: &BenchmarkRecord, levels: [LevelNumber; 2]) -> bool {
    let tool = |of: &BenchmarkRecord, level| of.levels.get(&level).map(|figures| figures.tool.clone());
    let usable = |of: &BenchmarkRecord| of.why_incomparable(levels).is_none();
    let same_tools = || levels.iter().all(|level| tool(before, *level) == tool(now, *level));
    before.benchmark == now.benchmark && usable(before) && usable(now) && same_tools()
}
