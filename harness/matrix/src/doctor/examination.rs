//! The checkup of this machine: each architecture is probed, and cells are planned on native and on emulated metal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nestmatrix_images::{Catalog, Product, Recipe, SourceProblem};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, LevelNumber};
use nestmatrix_stack::Metal;
use nestmatrix_stack::host::HostError;

use super::checks::{
    EmulatorSupply, Inventory, Place, Proof, SourceState, Subject, findings, media_findings, own_architecture,
};
use super::checkup::{
    ArchitectureCheckup, Checkup, DisposableHost, DocumentCheckup, FORMAT, HostSummary, MetalCheckup, Reason,
    Selected,
};
use super::probe::Probe;
use super::sandbox::SandboxTrial;
use crate::disposable_host::HostPaths;
use crate::media::{Documented, MediumRow};
use crate::records::SkipReason;
use crate::run::{
    EmulatorSource, Fate, MachineTrial, MetalChoice, NativeMetals, NoEmulator, NoGuest, PlanOptions, Planned,
    RunPlan, emulator_source, host_isa,
};
use crate::scenario::{Cell, Denied, Filter, Matrix, not_yet_run};
use crate::surroundings::{GuestOf, Surroundings};

/// The inputs of a checkup of this machine.
pub struct Examination<'a> {
    /// The matrix.
    pub matrix: &'a Matrix,
    /// Recipes.
    pub catalog: &'a Catalog,
    /// Tests KVM with a trial guest. `insist` is set here.
    pub trial: MachineTrial<'a>,
    /// The images in the cache.
    pub cached: BTreeSet<(String, Product)>,
    /// Whether the network is off limits.
    pub offline: bool,
    /// The cells that the user named; without it, the cells of the default profile.
    pub named: Option<Filter>,
    /// What L0 is to run on.
    pub metal: MetalChoice,
    /// The images that are not used.
    pub denied: Denied,
    /// What keeps images from being built from the user's sources, by the names of the recipes.
    pub source_problems: BTreeMap<String, Vec<SourceProblem>>,
    /// Folder of images.
    pub cache: PathBuf,
    /// Folder of snapshots.
    pub snapshots: PathBuf,
}

/// What is known about this machine as a machine of one architecture.
struct Probed {
    probe: Probe,
    proof: Proof,
}

impl Examination<'_> {
    /// Runs the checkup of this machine.
    ///
    /// # Errors
    /// The probe could not run.
    pub async fn carry_out(mut self) -> Result<Checkup, HostError> {
        let named = self.named.clone().unwrap_or_else(Filter::all);
        let cells: Vec<Cell> =
            self.matrix.cells().iter().filter(|cell| named.matches(&cell.name)).cloned().collect();
        let architectures: BTreeSet<Architecture> = cells.iter().map(|cell| cell.architecture).collect();
        let mut seen = BTreeMap::new();
        let mut natives = NativeMetals::new();
        for &architecture in &architectures {
            let (of_it, native) = self.probe(architecture).await?;
            seen.insert(architecture, of_it);
            natives.insert(architecture, native);
        }
        let plan_with = |catalog: &Catalog, cells: Vec<Cell>, metal| {
            let options = PlanOptions { metal, denied: self.denied, ..PlanOptions::default() };
            RunPlan::new(cells, self.matrix, catalog, &natives, &options)
        };
        let plan = |cells, metal| plan_with(self.catalog, cells, metal);
        let native = plan(cells.clone(), MetalChoice::Native);
        let emulated = plan(cells.clone(), MetalChoice::Emulated);
        let default = self.matrix.default_profile();
        let chosen = cells.iter().filter(|cell| self.named.is_some() || default.takes(&cell.name));
        let selected = plan(chosen.cloned().collect(), self.metal);

        let sandbox = SandboxTrial::of_this_machine(&self.trial.wrapper).await;
        let mut checked = Vec::new();
        for (&architecture, seen) in &seen {
            let inventory = self.inventory(architecture, &selected, &sandbox);
            let subject = Subject {
                architecture,
                probe: &seen.probe,
                place: Place::ThisMachine(&inventory),
                proof: &seen.proof,
            };
            let findings = findings(&subject);
            let of_it = |planned: &&Planned| planned.cell.architecture == architecture;
            let against = natives.get(&architecture).and_then(|native| native.as_ref().err());
            checked.push(ArchitectureCheckup {
                architecture,
                own: own_architecture(&seen.probe) == Some(architecture),
                cells: cells.iter().filter(|cell| cell.architecture == architecture).count(),
                native: MetalCheckup::of(
                    Metal::Native,
                    native.boots().filter(of_it).count(),
                    &findings,
                    against.cloned(),
                ),
                emulated: Some(MetalCheckup::of(
                    Metal::Emulated,
                    emulated.boots().filter(of_it).count(),
                    &findings,
                    None,
                )),
                findings,
            });
        }
        let why = self.why_not(&checked, &selected);
        let documented =
            Documented::of_plans(self.catalog, |catalog| plan_with(catalog, cells.clone(), self.metal));
        let host = seen.values().next().map(|seen| HostSummary::of(&seen.probe)).unwrap_or_default();
        let host = self.with_surroundings(host, &cells);
        let disposable_host = Some(DisposableHost::of(&HostPaths::of_this_machine()));
        Ok(Checkup {
            format: FORMAT,
            host: HostSummary { disposable_host, ..host },
            metal: self.metal,
            documents: documents(self.matrix, &native, &emulated),
            media: media_findings(&MediumRow::all(self.catalog)),
            documented: Some(documented),
            not_yet_run: not_yet_run(cells.iter().flat_map(Cell::untried)),
            selected: Some(Selected {
                profile: self.named.is_none().then(|| default.name.clone()),
                cells: selected.cells.len(),
                boot: selected.boots().count(),
            }),
            architectures: checked,
            usable: why.is_empty(),
            why,
        })
    }

    /// Probes this machine as a machine of `architecture`, and tests its KVM if it is one.
    async fn probe(
        &mut self,
        architecture: Architecture,
    ) -> Result<(Probed, Result<crate::run::NativeMetal, String>), HostError> {
        let folders = [("cache", self.cache.clone()), ("snapshots", self.snapshots.clone())];
        let probe = Probe::of_this_machine(ArchInfo::of(architecture), &folders).await?;
        let not_asked = |why: &str| Proof::NotAsked(why.to_owned());
        if self.metal == MetalChoice::Emulated {
            let proof = not_asked("no trial guest, because --metal is emulated");
            return Ok((Probed { probe, proof }, Err("--metal is emulated".to_owned())));
        }
        if own_architecture(&probe) != Some(architecture) {
            // The machine is of another architecture, so a trial guest would prove nothing.
            self.trial.insist = false;
            let native = self.trial.run(architecture).await;
            return Ok((Probed { probe, proof: not_asked("no trial guest: another architecture") }, native));
        }
        // Even if another requirement is missing, so that the user sees all problems at once.
        self.trial.insist = probe.kvm_opens == "ok";
        let tried = self.trial.see(architecture).await;
        let proof = match &tried.guest {
            Some(Ok(())) => Proof::Proven,
            Some(Err(NoGuest::NotTried(why))) => Proof::NotTried(why.clone()),
            Some(Err(NoGuest::Failed(why))) => Proof::Failed(why.clone()),
            None => not_asked("no trial guest, because /dev/kvm does not open"),
        };
        Ok((Probed { probe, proof }, tried.native))
    }

    /// Adds what runs this machine, and how many of these cells have that as L0.
    fn with_surroundings(&self, host: HostSummary, cells: &[Cell]) -> HostSummary {
        let [l0, l1, ..] = LevelNumber::ALL;
        let guest_of = Surroundings::of_this_machine().guest_of(self.matrix, l0);
        let system = guest_of.as_ref().and_then(|guest_of| guest_of.system.as_deref());
        let is_l0 = |cell: &&Cell| cell.l0_around().is_some_and(|l0| Some(l0.system.as_str()) == system);
        let l0_of_cells = cells.iter().filter(is_l0).count();
        let level = if l0_of_cells > 0 { l1 } else { l0 };
        HostSummary { guest_of: guest_of.map(|guest_of| GuestOf { level, ..guest_of }), l0_of_cells, ..host }
    }

    /// What the cache has for the selected cells of an architecture.
    fn inventory(&self, architecture: Architecture, selected: &RunPlan, sandbox: &SandboxTrial) -> Inventory {
        let of_it = |planned: &&Planned| planned.cell.architecture == architecture;
        let cells = selected.cells.iter().filter(of_it).cloned().collect();
        let wanted = RunPlan { cells, ..RunPlan::default() }.images();
        let missing: Vec<_> = wanted.iter().filter(|image| !self.cached.contains(image)).collect();
        let emulator = self.emulator(architecture);
        let needed_on = |recipe: &Recipe| {
            let is_it = |emulator: &EmulatorSupply| match emulator {
                EmulatorSupply::Image { recipe: name, cached } => !cached && name == recipe.name(),
                EmulatorSupply::Installed(_) => false,
            };
            if missing.iter().any(|(name, _)| name == recipe.name()) {
                vec![Metal::Native, Metal::Emulated]
            } else if emulator.as_ref().is_ok_and(is_it) {
                vec![Metal::Emulated]
            } else {
                Vec::new()
            }
        };
        Inventory {
            sources: self.sources(architecture, needed_on),
            missing: missing.iter().map(|(name, product)| format!("{name} {product}")).collect(),
            emulator,
            wanted: wanted.len(),
            offline: self.offline,
            sandbox: sandbox.clone(),
        }
    }

    /// Where the emulator of an architecture's metal comes from.
    fn emulator(&self, architecture: Architecture) -> Result<EmulatorSupply, NoEmulator> {
        let profile = ArchInfo::of(architecture);
        let source = emulator_source(self.catalog, profile.metal.program(profile.qemu))?;
        Ok(match source {
            EmulatorSource::Installed(installed) => EmulatorSupply::Installed(installed.clone()),
            EmulatorSource::Recipe(recipe) => {
                let cached = self.cached.contains(&(recipe.to_owned(), Product::Emulator));
                EmulatorSupply::Image { recipe: recipe.to_owned(), cached }
            }
        })
    }

    /// The user's sources for images of an architecture or for its emulator. `needed_on` returns the metals that the selected cells
    /// use and that need images of a recipe which have to be built.
    fn sources(
        &self,
        architecture: Architecture,
        needed_on: impl Fn(&Recipe) -> Vec<Metal>,
    ) -> Vec<SourceState> {
        let profile = ArchInfo::of(architecture);
        let emulator = profile.metal.program(profile.qemu);
        let is_for_it = |recipe: &&Recipe| {
            let makes_levels = recipe.emulator().is_none() && recipe.isa() == architecture.isa();
            makes_levels || recipe.emulator() == Some(emulator)
        };
        // A source may serve several recipes: that of its own images, and that of a disk.
        let mut states: Vec<SourceState> = Vec::new();
        for recipe in self.catalog.recipes().filter(is_for_it) {
            let Some((source, problems)) = recipe.source().zip(self.source_problems.get(recipe.name()))
            else {
                continue;
            };
            let (name, needed_on) = (source.name(), needed_on(recipe));
            match states.iter_mut().find(|state| state.name == name) {
                Some(known) => {
                    known.needed_on.extend(needed_on);
                    let new = problems.iter().filter(|problem| !known.problems.contains(problem));
                    let new: Vec<SourceProblem> = new.cloned().collect();
                    known.problems.extend(new);
                }
                None => states.push(SourceState { name, problems: problems.clone(), needed_on }),
            }
        }
        for state in &mut states {
            state.needed_on.sort_unstable();
            state.needed_on.dedup();
        }
        states
    }

    /// Why the selected cells cannot all run on the chosen metal; empty if they can.
    fn why_not(&self, checked: &[ArchitectureCheckup], selected: &RunPlan) -> Vec<String> {
        if self.metal == MetalChoice::Native {
            // No machine has every architecture: if no cells are named, only its own architecture counts.
            let asked: Vec<_> =
                checked.iter().filter(|checked| self.named.is_some() || checked.own).collect();
            if asked.is_empty() {
                return vec![format!(
                    "the documents do not cover the architecture of this machine ({})",
                    host_isa()
                )];
            }
            return asked.into_iter().filter_map(|checked| checked.why_not(Metal::Native)).collect();
        }
        let mut why: Vec<String> = Vec::new();
        for planned in &selected.cells {
            match &planned.fate {
                Fate::Skipped(reasons) => why.extend(reasons.iter().map(SkipReason::without_levels)),
                Fate::Boots { metal, .. } => {
                    let of_it =
                        |checked: &&ArchitectureCheckup| checked.architecture == planned.cell.architecture;
                    why.extend(checked.iter().find(of_it).and_then(|checked| checked.why_not(*metal)));
                }
            }
        }
        let mut known = BTreeSet::new();
        why.retain(|why| known.insert(why.clone()));
        why
    }
}

/// Whether none of these reasons is that this machine can't be L0.
fn is_about_cell(reasons: &[SkipReason]) -> bool {
    !reasons.iter().any(|reason| matches!(reason, SkipReason::NativeMetal { .. }))
}

/// Which cells of each document can run. Both plans are of the same cells.
fn documents(matrix: &Matrix, native: &RunPlan, emulated: &RunPlan) -> Vec<DocumentCheckup> {
    let mut documents = Vec::new();
    for document in matrix.documents() {
        let mut of_document = DocumentCheckup {
            document: document.id.clone(),
            cells: 0,
            native: 0,
            emulated: 0,
            neither: 0,
            reasons: Vec::new(),
        };
        let both = native.cells.iter().zip(&emulated.cells);
        for (native, emulated) in both.filter(|(native, _)| native.cell.document == document.id) {
            let boots = |planned: &Planned| matches!(planned.fate, Fate::Boots { .. });
            of_document.cells += 1;
            of_document.native += usize::from(boots(native));
            of_document.emulated += usize::from(boots(emulated));
            let Fate::Skipped(reasons) = &emulated.fate else { continue };
            let reasons = match &native.fate {
                Fate::Boots { .. } => continue,
                // What is missing there makes the difference, since emulated metal never runs such a cell.
                Fate::Skipped(missing) if native.cell.windows().is_some() && is_about_cell(missing) => {
                    missing
                }
                Fate::Skipped(_) => reasons,
            };
            of_document.neither += 1;
            let reasons: BTreeSet<String> = reasons.iter().map(SkipReason::without_levels).collect();
            for reason in reasons {
                match of_document.reasons.iter_mut().find(|known| known.reason == reason) {
                    Some(known) => known.cells += 1,
                    None => of_document.reasons.push(Reason { reason, cells: 1 }),
                }
            }
        }
        of_document.reasons.sort_by(|a, b| b.cells.cmp(&a.cells).then_with(|| a.reason.cmp(&b.reason)));
        if of_document.cells > 0 {
            documents.push(of_document);
        }
    }
    documents
}
