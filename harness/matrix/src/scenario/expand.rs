//! Expands a scenario into its cells: one for each point of its axes. The first axis changes slowest, so that cells with the
//! same outer levels are next to each other.

use std::collections::BTreeMap;

use nestmatrix_model::{Architecture, Fault, Step};

use super::axes::{Axes, AxisValue, LevelAxis};
use super::cell::{Cell, CellName};
use super::level::LevelSpec;
use super::mutation::ScenarioMutation;
use super::scenario_file::Scenario;
use super::windows::why_no_stack;

pub(super) fn cells(scenario: &Scenario, axes: &Axes, steps: &[Step], faults: &[Fault]) -> Vec<Cell> {
    let stacks = stacks(&axes.levels);
    let point = |architecture: &AxisValue<Architecture>, stack: &Stack| Cell {
        name: CellName::new(&scenario.name, architecture.value, &stack.levels),
        scenario: scenario.name.clone(),
        title: scenario.title.clone(),
        document: scenario.document.clone(),
        claims: each_once([&scenario.claims, &architecture.claims, &stack.claims]),
        tier: scenario.tier,
        tiers: BTreeMap::new(),
        ids: scenario.ids.clone(),
        architecture: architecture.value,
        levels: stack.levels.clone(),
        deny_stand_ins: scenario.deny_stand_ins.clone(),
        // The most specific reason comes first; the reason of a system holds for all scenarios.
        no_machine: [&architecture.no_machine, &scenario.no_machine, &stack.no_machine]
            .into_iter()
            .find_map(Clone::clone)
            .or_else(|| why_no_stack(architecture.value, &stack.levels)),
        clock: scenario.clock,
        emulator_errata: scenario.emulator_errata.clone(),
        expectation: scenario.expectation.clone(),
        known_flaky: Vec::new(),
        steps: steps.to_vec(),
        faults: faults.to_vec(),
        cpu_model: None,
        mutations: mutations(scenario, architecture.value),
    };
    let cell = |architecture: &AxisValue<Architecture>, stack: &Stack| {
        let cell = point(architecture, stack);
        let no_machine = cell.no_machine.clone().or_else(|| cell.without_extension());
        Cell { no_machine, ..cell }
    };
    let of_architecture = |architecture| stacks.iter().map(move |stack| cell(architecture, stack));
    axes.architectures.iter().flat_map(of_architecture).collect()
}

/// The mutations of a scenario that are for the cells of this architecture.
fn mutations(scenario: &Scenario, architecture: Architecture) -> Vec<ScenarioMutation> {
    scenario.mutations.iter().filter(|mutation| mutation.is_for(architecture)).cloned().collect()
}

/// A choice of a system for each level, and the claims that it tests.
#[derive(Clone, Default)]
struct Stack {
    levels: Vec<LevelSpec>,
    claims: Vec<String>,
    no_machine: Option<String>,
}

/// Every choice of a system for each level, outermost first.
fn stacks(axes: &[LevelAxis]) -> Vec<Stack> {
    axes.iter().fold(vec![Stack::default()], |stacks, axis| {
        let with_next_level = |outer: &Stack| {
            let outer = outer.clone();
            axis.systems.iter().map(move |system| {
                let mut stack = outer.clone();
                let role = stack.levels.last().and_then(|host| host.system.windows_role());
                stack.levels.push(axis.settings.with_system(axis.level, system.value.clone(), role));
                stack.claims.extend(system.claims.iter().cloned());
                stack.no_machine = stack.no_machine.or_else(|| system.no_machine.clone());
                stack
            })
        };
        stacks.iter().flat_map(with_next_level).collect()
    })
}

/// The claims of these lists, each once: two values of a cell may name the same claim.
fn each_once(lists: [&Vec<String>; 3]) -> Vec<String> {
    let mut claims = Vec::new();
    for claim in lists.into_iter().flatten() {
        if !claims.contains(claim) {
            claims.push(claim.clone());
        }
    }
    claims
}
