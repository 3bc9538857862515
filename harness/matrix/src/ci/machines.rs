//! Which kinds of machines could run which cells if there were an image of every system that can be a level. The other cells are those
//! that the harness and the metal can't run.

use nestmatrix_images::Catalog;
use nestmatrix_model::Architecture;
use nestmatrix_stack::Metal;
use serde::Serialize;

use crate::run::{Fate, MetalChoice, NativeMetal, NativeMetals, PlanOptions, RunPlan, kind_of_guest};
use crate::scenario::{Cell, CellName, Matrix};

/// The kinds of machines that could run a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CellMachines {
    /// The cell.
    pub cell: CellName,
    /// Its architecture: no other machine can run it.
    pub architecture: Architecture,
    /// What L0 could run on.
    pub metals: Vec<Metal>,
    /// The kind of machine that native metal has to be, if L0 is a system that is around it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_of: Option<String>,
    /// Whether it could run on native metal, but only on a disposable host.
    pub disposable_host: bool,
    /// Why no machine can run it, as its scenario or its systems say.
    pub no_machine: Option<String>,
}

impl CellMachines {
    /// Whether no machine could run it.
    pub fn is_nowhere(&self) -> bool {
        self.metals.is_empty() && !self.disposable_host
    }
}

/// The kinds of machines that could run each of some cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machines(Vec<CellMachines>);

impl Machines {
    /// Plans each cell for every kind of machine. It ignores the scenario's `no-machine`, so that both can be compared.
    pub fn new(cells: &[Cell], matrix: &Matrix, catalog: &Catalog) -> Self {
        let supposed =
            |cell: &Cell| (cell.architecture, Ok(NativeMetal::named(String::new(), String::new())));
        let natives: NativeMetals = cells.iter().map(supposed).collect();
        let plan = |metal, disposable_host| {
            let cells = cells.iter().map(|cell| Cell { no_machine: None, ..cell.clone() });
            let options =
                PlanOptions { metal, disposable_host, suppose_images: true, ..PlanOptions::default() };
            RunPlan::new(cells, matrix, catalog, &natives, &options)
        };
        let plans = [MetalChoice::Emulated, MetalChoice::Native].map(|metal| plan(metal, false));
        let disposable = plan(MetalChoice::Native, true);
        let of = |(index, cell): (usize, &Cell)| {
            let metal = |plan: &RunPlan| match &plan.cells[index].fate {
                Fate::Boots { metal, .. } => Some(*metal),
                Fate::Skipped(_) => None,
            };
            let metals: Vec<Metal> = plans.iter().filter_map(metal).collect();
            let on_disposable = metal(&disposable).is_some();
            CellMachines {
                cell: cell.name.clone(),
                architecture: cell.architecture,
                guest_of: cell.l0_around().map(|l0| kind_of_guest(&l0.name)),
                disposable_host: on_disposable && !metals.contains(&Metal::Native),
                metals,
                no_machine: cell.no_machine.clone(),
            }
        };
        Self(cells.iter().enumerate().map(of).collect())
    }

    /// The cells, in their order.
    pub fn cells(&self) -> &[CellMachines] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn project() -> (Matrix, Catalog) {
        let top = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        (Matrix::load(&top.join("scenarios")).unwrap(), Catalog::load(&top.join("images/recipes")).unwrap())
    }

    #[test]
    fn a_cell_that_no_machine_can_run_says_why_and_no_other_does() {
        let (matrix, catalog) = project();
        let machines = Machines::new(matrix.cells(), &matrix, &catalog);
        let wrong = |says: bool| -> Vec<&CellName> {
            let wrong = machines.cells().iter().filter(|cell| {
                cell.is_nowhere() != cell.no_machine.is_some() && cell.no_machine.is_some() == says
            });
            wrong.map(|cell| &cell.cell).collect()
        };
        let (silent, needless) = (wrong(false), wrong(true));
        assert!(silent.is_empty(), "no machine can run these: add `no-machine` with the reason: {silent:#?}");
        assert!(needless.is_empty(), "these run on some machine: remove `no-machine`: {needless:#?}");
    }

    #[test]
    fn a_system_that_no_machine_can_run_has_no_image() {
        let (matrix, catalog) = project();
        for system in matrix.systems().iter().filter(|system| system.no_machine.is_some()) {
            let is_of = |id: Option<&str>| id == Some(system.id.as_str());
            assert!(
                !catalog.recipes().any(|recipe| is_of(recipe.os().map(|os| os.id.as_str()))),
                "{system:?}"
            );
            assert!(!matrix.stand_ins().iter().any(|stand_in| is_of(Some(&stand_in.system))), "{system:?}");
        }
    }

    #[test]
    fn what_no_machine_can_run_is_skipped_with_that_reason() {
        let (matrix, catalog) = project();
        let has_images = |cell: &&Cell| cell.name.as_str().starts_with("rhel-9-preview/amd/");
        let mut cell = matrix.cells().iter().find(has_images).unwrap().clone();
        cell.no_machine = Some("the reason".to_owned());
        let plan = RunPlan::new([cell], &matrix, &catalog, &NativeMetals::new(), &PlanOptions::default());
        let (_, reasons) = plan.skipped().next().unwrap();
        assert_eq!(crate::records::in_one_line(reasons), "no machine can run it: the reason");
    }
}
