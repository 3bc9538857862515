//! From a scenario to its cells: one for every point of its axes, the first axis changing slowest, so that cells which
//! share their outer levels stand together.

use super::architecture::Architecture;
use super::cell::{Cell, CellName};
use super::expectation::Fault;
use super::level::LevelSpec;
use super::scenario_file::{Axes, LevelAxis, Scenario};

pub(super) fn cells(scenario: &Scenario, axes: &Axes, faults: &[Fault]) -> Vec<Cell> {
    let stacks = stacks(&axes.levels);
    let cell = |architecture: Architecture, levels: &Vec<LevelSpec>| Cell {
        name: CellName::new(&scenario.name, architecture, levels),
        scenario: scenario.name.clone(),
        title: scenario.title.clone(),
        document: scenario.document.clone(),
        claims: scenario.claims.clone(),
        tier: scenario.tier,
        architecture,
        levels: levels.clone(),
        expectation: scenario.expectation.clone(),
        faults: faults.to_vec(),
    };
    let of_architecture = |architecture| stacks.iter().map(move |levels| cell(architecture, levels));
    axes.architectures.iter().copied().flat_map(of_architecture).collect()
}

/// Every choice of a system for each level, outermost first.
fn stacks(axes: &[LevelAxis]) -> Vec<Vec<LevelSpec>> {
    axes.iter().fold(vec![Vec::new()], |stacks, axis| {
        let with_next_level = |outer: &Vec<LevelSpec>| {
            let outer = outer.clone();
            axis.systems.iter().map(move |system| {
                let mut levels = outer.clone();
                levels.push(axis.settings.with_system(axis.level, system.clone()));
                levels
            })
        };
        stacks.iter().flat_map(with_next_level).collect()
    })
}
