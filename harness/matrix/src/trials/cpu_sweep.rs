//! Makes the cells of a sweep of CPU models: a cell once for each model that its innermost level can have.
//!
//! Each model is a cell of its own, so each has a fresh copy of the levels around it, restored from a snapshot where stacks have
//! snapshots. Booting one innermost level after the other in the same level would need no snapshot, but a model that panics the level
//! around it, or leaves its KVM in a bad state, would change the verdicts of the models after it.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use nestmatrix_model::{Accelerator, CpuMode, CpuRequirement, Isa, Launch};
use nestmatrix_vmm::qemu::CpuModel;

use crate::scenario::{Cell, CellName, Expectation, ScenarioProblem};

/// The models that are booted if QEMU does not report which ones are usable, unless a filter names others: with KVM, other targets
/// than x86 and IBM Z have the host's own CPU and hardly another one.
const OF_EVERY_HOST: [&str; 2] = ["host", "max"];

/// What the names of a sweep's cells have before that of the model.
const PREFIX: &str = "cpu-";

/// A choice of CPU models, by globs over their names and aliases. Case does not matter.
#[derive(Debug, Clone, Default)]
pub struct ModelFilter {
    globs: Vec<(String, GlobSet)>,
}

/// A glob that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{glob:?} is not a glob: {why}")]
pub struct BadModelGlob {
    glob: String,
    why: String,
}

impl ModelFilter {
    /// The filter made of these globs; without any, all models.
    ///
    /// # Errors
    /// One is not a glob.
    pub fn parse(globs: &[String]) -> Result<Self, BadModelGlob> {
        let parse = |text: &String| {
            let bad = |why: String| BadModelGlob { glob: text.clone(), why };
            if text.is_empty() {
                return Err(bad("it is empty".to_owned()));
            }
            let glob = GlobBuilder::new(text).case_insensitive(true).build();
            // A set of one, since a glob's own matcher panics where the glob is too large.
            let set = glob.and_then(|glob| GlobSetBuilder::new().add(glob).build());
            Ok((text.clone(), set.map_err(|e| bad(e.kind().to_string()))?))
        };
        Ok(Self { globs: globs.iter().map(parse).collect::<Result<_, _>>()? })
    }

    /// Whether it chooses this model.
    pub fn matches(&self, model: &CpuModel) -> bool {
        self.globs.is_empty()
            || self.globs.iter().any(|(_, set)| model.names().any(|name| set.is_match(name)))
    }

    /// The first glob that matches none of these models.
    pub fn unmatched(&self, models: &[CpuModel]) -> Option<&str> {
        let matches = |set: &GlobSet| models.iter().flat_map(CpuModel::names).any(|name| set.is_match(name));
        self.globs.iter().find(|(_, set)| !matches(set)).map(|(text, _)| text.as_str())
    }

    /// Whether a sweep with this filter boots the model.
    pub fn boots(&self, model: &CpuModel) -> bool {
        match model.is_usable() {
            Some(usable) => usable && self.matches(model),
            None if self.globs.is_empty() => OF_EVERY_HOST.contains(&model.name.as_str()),
            None => self.matches(model),
        }
    }
}

/// Why no other CPU model can be given to the innermost level of this cell, if so.
pub fn why_no_cpu_sweep(cell: &Cell) -> Option<String> {
    let innermost = cell.innermost();
    let spec = cell.levels.last()?;
    let runs_l1 = cell.emulator_is_l0() || cell.l0_around().is_some();
    if !innermost.reports() || runs_l1 && !innermost.is_nested() {
        return Some(format!("no level of it runs {innermost} with KVM"));
    }
    if spec.settings.launch().is_by_windows() {
        return Some(format!("Windows starts {innermost}, which has the CPU that Hyper-V gives it"));
    }
    if spec.settings.launch() == Launch::Libvirt {
        return Some(format!("libvirt starts {innermost}, and changes the CPU that is asked for"));
    }
    (spec.settings.accelerator == Accelerator::Tcg)
        .then(|| format!("QEMU emulates {innermost}, so every model of QEMU is usable"))
}

/// The cell once for each of these models that the filter chooses and that can be booted.
///
/// The model replaces all that the scenario says about the CPU of the innermost level. The stack is expected to work, whatever the
/// scenario expects: a stop is a failure.
///
/// # Errors
/// The name of such a cell would be too long.
pub fn cpu_sweep(
    cell: &Cell,
    models: &[CpuModel],
    filter: &ModelFilter,
) -> Result<Vec<Cell>, ScenarioProblem> {
    let mut cells: Vec<Cell> = Vec::new();
    for model in models.iter().filter(|model| filter.boots(model)) {
        let word = format!("{PREFIX}{}", model.name.to_lowercase());
        let mut name = cell.name.variant(&word)?;
        // Names of cells have no capital letters, those of models may differ only in them.
        for number in 2.. {
            if !cells.iter().any(|other| other.name == name) {
                break;
            }
            name = cell.name.variant(&format!("{word}-{number}"))?;
        }
        let mut swept = Cell {
            name,
            expectation: Expectation::WORKS,
            mutations: Vec::new(),
            cpu_model: Some(model.name.clone()),
            ..cell.clone()
        };
        let isa = cell.architecture.isa();
        if let Some(innermost) = swept.levels.last_mut() {
            innermost.settings.cpu = requirement(model, isa);
        }
        cells.push(swept);
    }
    Ok(cells)
}

/// The name of the cell of which this one was made for a sweep, if it was.
pub(crate) fn original_of_sweep(cell: &CellName) -> Option<&str> {
    cell.as_str().rsplit_once(&format!("_{PREFIX}")).map(|(original, _)| original)
}

/// A CPU of exactly this model.
fn requirement(model: &CpuModel, isa: Isa) -> CpuRequirement {
    let mode = CpuMode::Custom { model: model.name.clone() };
    let mut cpu = CpuRequirement { mode, ..CpuRequirement::default() };
    // Without it, QEMU leaves out features that are missing, with only a warning (target/i386/cpu.c). Other targets have no such
    // property.
    if isa == Isa::Amd64 {
        cpu.set.insert("enforce".to_owned(), "on".to_owned());
    }
    cpu
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;
    use crate::scenario::{Filter, Matrix};

    fn cell(name: &str) -> Cell {
        let matrix = Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap();
        let filter = Filter::parse(&[name.to_owned()]).unwrap();
        matrix.cells().iter().find(|cell| filter.matches(&cell.name)).unwrap().clone()
    }

    fn model(name: &str, unavailable: Option<&[&str]>) -> CpuModel {
        let unavailable_features =
            unavailable.map(|features| features.iter().map(|&name| name.to_owned()).collect());
        CpuModel { name: name.to_owned(), aliases: Vec::new(), deprecated: false, unavailable_features }
    }

    fn filter(globs: &[&str]) -> ModelFilter {
        let globs: Vec<String> = globs.iter().map(|&glob| glob.to_owned()).collect();
        ModelFilter::parse(&globs).unwrap()
    }

    fn names(cells: &[Cell]) -> Vec<&str> {
        cells.iter().filter_map(|cell| cell.cpu_model.as_deref()).collect()
    }

    #[test]
    fn each_usable_model_is_a_cell_that_must_work_with_exactly_that_cpu() {
        let cell = cell("rhel-10-arm/*");
        assert!(cell.expectation.limitation().is_some());
        let swept = cpu_sweep(&cell, &[model("max", Some(&[]))], &filter(&[])).unwrap();
        assert_eq!(swept[0].expectation, Expectation::WORKS, "whatever the scenario expects");

        let cell = super::tests::cell("rhel-10-preview/amd/*");
        let models =
            [model("EPYC-v1", Some(&[])), model("Denverton-v1", Some(&["mpx"])), model("host", Some(&[]))];
        let swept = cpu_sweep(&cell, &models, &filter(&[])).unwrap();
        assert_eq!(names(&swept), ["EPYC-v1", "host"]);
        assert_eq!(swept[0].name.as_str(), format!("{}_cpu-epyc-v1", cell.name));
        assert_eq!(original_of_sweep(&swept[0].name), Some(cell.name.as_str()));
        assert_eq!(original_of_sweep(&cell.name), None);
        let (last, outer) = swept[0].levels.split_last().unwrap();
        assert_eq!(outer, &cell.levels[..outer.len()], "only the innermost level changes");
        assert_eq!(last.settings.cpu.mode, CpuMode::Custom { model: "EPYC-v1".to_owned() });
        assert_eq!(last.settings.cpu.set["enforce"], "on");
    }

    #[test]
    fn where_qemu_does_not_report_what_is_usable_the_host_s_cpu_is_booted_or_what_is_asked_for() {
        let cell = cell("rhel-10-power9/*");
        let models = [model("host", None), model("power8_v2.0", None), model("power9_v2.2", None)];
        assert_eq!(names(&cpu_sweep(&cell, &models, &filter(&[])).unwrap()), ["host"]);
        let asked = cpu_sweep(&cell, &models, &filter(&["POWER9*"])).unwrap();
        assert_eq!(names(&asked), ["power9_v2.2"]);
        assert!(asked[0].levels.last().unwrap().settings.cpu.set.is_empty(), "only x86 has `enforce`");
    }

    #[test]
    fn a_filter_takes_aliases_too_and_a_glob_without_a_model_is_noticed() {
        let epyc = CpuModel { aliases: vec!["EPYC-Rome".to_owned()], ..model("EPYC-Rome-v1", Some(&[])) };
        let models = [epyc, model("Nehalem-v1", Some(&[]))];
        assert!(filter(&["epyc-rome"]).boots(&models[0]));
        assert!(!filter(&["epyc-rome"]).boots(&models[1]));
        assert_eq!(filter(&["*Rome*", "Opteron*"]).unmatched(&models), Some("Opteron*"));
        assert_eq!(filter(&["n*"]).unmatched(&models), None);
        let bad = ModelFilter::parse(&["[".to_owned()]).unwrap_err().to_string();
        assert!(bad.starts_with("\"[\" is not a glob: "), "{bad}");
    }

    #[test]
    fn models_whose_names_differ_only_in_capitals_are_two_cells() {
        let cell = cell("rhel-10-preview/amd/*");
        let models = [model("Max", Some(&[])), model("max", Some(&[]))];
        let swept = cpu_sweep(&cell, &models, &filter(&[])).unwrap();
        assert_eq!(swept[1].name.as_str(), format!("{}_cpu-max-2", cell.name));
    }

    #[rstest]
    #[case::preview("rhel-10-preview/amd/*", None)]
    #[case::emulated_l0("rhel-10-ibm-z-huge-pages/*", Some("no level of it runs L0 with KVM"))]
    #[case::windows(
        "field-hyper-v-wsl2/*",
        Some("Windows starts L2, which has the CPU that Hyper-V gives it")
    )]
    fn what_has_no_other_cpu_is_refused(#[case] name: &str, #[case] expected: Option<&str>) {
        assert_eq!(why_no_cpu_sweep(&cell(name)).as_deref(), expected);
    }
}
