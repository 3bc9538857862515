//! Findings summed up: what can run on which metal, by architecture and by document. What is counted is planned by the same
//! [`RunPlan`] as a run, so that the two count the same cells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nestmatrix_images::{Catalog, Product};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, LevelNumber};
use nestmatrix_stack::Metal;
use nestmatrix_stack::host::HostError;
use serde::Serialize;

use super::finding::{Finding, Kept, Patient, Place, Proof, Status, findings, own_architecture};
use super::probe::Probe;
use crate::records::SkipReason;
use crate::run::{
    Fate, MachineTrial, MetalChoice, NativeMetals, NoGuest, PlanOptions, Planned, RunPlan, emulator_recipe,
    host_isa,
};
use crate::scenario::{Cell, CellName, Filter, Matrix};

/// The version of the form in which a [`Checkup`] is written.
pub const FORMAT: u32 = 1;

/// What a host can run and what it lacks.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checkup {
    /// The version of this form.
    pub format: u32,
    /// The host.
    pub host: HostSeen,
    /// The metal that was asked for.
    pub metal: MetalChoice,
    /// Architecture by architecture.
    pub architectures: Vec<ArchitectureCheckup>,
    /// Document by document; empty for a level.
    pub families: Vec<Family>,
    /// What the answer is about; nothing for a level.
    pub selected: Option<Selected>,
    /// The answer: all that was selected can run on the metal that was asked for.
    pub usable: bool,
    /// Why not.
    pub why: Vec<String>,
}

/// Which host it is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostSeen {
    /// The level; absent if it is this machine.
    pub level: Option<LevelNumber>,
    /// The cell whose level it is.
    pub cell: Option<CellName>,
    /// Its instruction set, by its kernel's name for it.
    pub machine: String,
    /// Its processor, as far as its kernel tells.
    pub processor: String,
    /// How many processors.
    pub processors: u64,
    /// Its memory, in MiB.
    pub memory_mib: u64,
    /// Memory that programs may still take, in MiB.
    pub available_memory_mib: u64,
    /// Its system, where it has an os-release.
    pub system: String,
    /// Its kernel.
    pub kernel: String,
}

/// What a host can run of an architecture and what it lacks.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ArchitectureCheckup {
    /// The architecture.
    pub architecture: Architecture,
    /// Whether the host is such a machine.
    pub own: bool,
    /// Cells of the architecture.
    pub cells: usize,
    /// The host as L0 by its own KVM; of a level, as the hypervisor that it is to be.
    pub native: MetalCheckup,
    /// The emulator that plays the bare machine; absent for a level.
    pub emulated: Option<MetalCheckup>,
    /// What was found, check by check.
    pub findings: Vec<Finding>,
}

/// What can run on a metal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MetalCheckup {
    /// Whether stacks can run on it.
    pub usable: bool,
    /// Cells that a run with this metal alone would boot.
    pub cells: usize,
    /// The ids of the checks that found something lacking, or what else keeps it from being used.
    pub why: Vec<String>,
}

/// What can run of a document's cells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Family {
    /// The document.
    pub document: String,
    /// Its cells.
    pub cells: usize,
    /// Those that native metal boots.
    pub native: usize,
    /// Those that emulated metal boots.
    pub emulated: usize,
    /// Those that neither does.
    pub neither: usize,
    /// Why neither does, by how many cells that is about. A cell that lacks several things counts for each.
    pub reasons: Vec<Reason>,
}

/// A reason and how many cells it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reason {
    /// The reason.
    pub reason: String,
    /// How many cells.
    pub cells: usize,
}

/// The cells that the answer is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Selected {
    /// The profile, if no cells were named.
    pub profile: Option<String>,
    /// How many cells.
    pub cells: usize,
    /// How many of them a run would boot on the metal that was asked for.
    pub boot: usize,
}

/// What this machine is examined with.
pub struct Examination<'a> {
    /// The matrix.
    pub matrix: &'a Matrix,
    /// Recipes.
    pub catalog: &'a Catalog,
    /// Tries KVM. Whether it insists is decided here.
    pub trial: MachineTrial<'a>,
    /// What the cache of images has.
    pub cached: BTreeSet<(String, Product)>,
    /// Whether the network must not be used.
    pub offline: bool,
    /// The cells that were named; those of the default profile are meant where none are.
    pub named: Option<Filter>,
    /// What L0 is to run on.
    pub metal: MetalChoice,
    /// Use no image that stands in for another system.
    pub deny_stand_ins: bool,
    /// Folder of images.
    pub cache: PathBuf,
    /// Folder of saved states.
    pub states: PathBuf,
}

/// What was found out about this machine as a machine of an architecture.
struct Seen {
    probe: Probe,
    proof: Proof,
}

impl Examination<'_> {
    /// Examines this machine.
    ///
    /// # Errors
    /// It can't be asked.
    pub async fn carry_out(mut self) -> Result<Checkup, HostError> {
        let named = self.named.clone().unwrap_or_else(Filter::all);
        let cells: Vec<Cell> =
            self.matrix.cells().iter().filter(|cell| named.matches(&cell.name)).cloned().collect();
        let architectures: BTreeSet<Architecture> = cells.iter().map(|cell| cell.architecture).collect();
        let mut seen = BTreeMap::new();
        let mut natives = NativeMetals::new();
        for &architecture in &architectures {
            let (of_it, native) = self.see(architecture).await?;
            seen.insert(architecture, of_it);
            natives.insert(architecture, native);
        }
        let plan = |cells: Vec<Cell>, metal| {
            let options =
                PlanOptions { metal, deny_stand_ins: self.deny_stand_ins, ..PlanOptions::default() };
            RunPlan::new(cells, self.matrix, self.catalog, &natives, &options)
        };
        let native = plan(cells.clone(), MetalChoice::Native);
        let emulated = plan(cells.clone(), MetalChoice::Emulated);
        let default = self.matrix.default_profile();
        let chosen = cells.iter().filter(|cell| self.named.is_some() || default.takes(&cell.name));
        let selected = plan(chosen.cloned().collect(), self.metal);

        let mut checked = Vec::new();
        for (&architecture, seen) in &seen {
            let kept = self.kept(architecture, &selected);
            let patient = Patient {
                architecture,
                probe: &seen.probe,
                place: Place::ThisMachine(&kept),
                proof: &seen.proof,
            };
            let findings = findings(&patient);
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
        let host = seen.values().next().map(|seen| HostSeen::of(&seen.probe)).unwrap_or_default();
        Ok(Checkup {
            format: FORMAT,
            host,
            metal: self.metal,
            families: families(self.matrix, &native, &emulated),
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

    /// Asks this machine what it is as a machine of `architecture`, and tries its KVM if it is one.
    async fn see(
        &mut self,
        architecture: Architecture,
    ) -> Result<(Seen, Result<crate::run::NativeMetal, String>), HostError> {
        let folders = [("cache", self.cache.clone()), ("states", self.states.clone())];
        let probe = Probe::of_this_machine(ArchInfo::of(architecture), &folders).await?;
        let not_asked = |why: &str| Proof::NotAsked(why.to_owned());
        if self.metal == MetalChoice::Emulated {
            let proof = not_asked("no guest tried, since emulated metal was asked for");
            return Ok((Seen { probe, proof }, Err("emulated metal was asked for".to_owned())));
        }
        if own_architecture(&probe) != Some(architecture) {
            // No guest is booted to learn what is known already.
            self.trial.insist = false;
            let native = self.trial.run(architecture).await;
            return Ok((Seen { probe, proof: not_asked("no guest tried: another architecture") }, native));
        }
        // Also where something else is lacking, so that the user learns all of it.
        self.trial.insist = probe.kvm_opens == "ok";
        let tried = self.trial.see(architecture).await;
        let proof = match &tried.guest {
            Some(Ok(())) => Proof::Proven,
            Some(Err(NoGuest::NotTried(why))) => Proof::NotTried(why.clone()),
            Some(Err(NoGuest::Failed(why))) => Proof::Failed(why.clone()),
            None => not_asked("no guest tried, since /dev/kvm does not open"),
        };
        Ok((Seen { probe, proof }, tried.native))
    }

    /// What the cache has for the selected cells of an architecture.
    fn kept(&self, architecture: Architecture, selected: &RunPlan) -> Kept {
        let profile = ArchInfo::of(architecture);
        let of_it = |planned: &&Planned| planned.cell.architecture == architecture;
        let cells = selected.cells.iter().filter(of_it).cloned().collect();
        let wanted = RunPlan { cells, ..RunPlan::default() }.images();
        let missing = wanted.iter().filter(|image| !self.cached.contains(image));
        let emulator = emulator_recipe(self.catalog, profile.metal.program(profile.qemu));
        Kept {
            emulator: emulator.map_err(|e| e.to_string()).map(|name| {
                let cached = self.cached.contains(&(name.clone(), Product::Emulator));
                (name, cached)
            }),
            missing: missing.map(|(name, product)| format!("{name} {product}")).collect(),
            wanted: wanted.len(),
            offline: self.offline,
        }
    }

    /// Why what was selected can't all run on the metal that was asked for; nothing if it can.
    fn why_not(&self, checked: &[ArchitectureCheckup], selected: &RunPlan) -> Vec<String> {
        if self.metal == MetalChoice::Native {
            // Nobody's machine is all architectures: where no cells were named, its own is meant.
            let asked: Vec<_> =
                checked.iter().filter(|checked| self.named.is_some() || checked.own).collect();
            if asked.is_empty() {
                return vec![format!(
                    "no architecture of the documents: this machine is one of {}",
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

impl ArchitectureCheckup {
    /// A booted level that goes on to `innermost` in its own stack.
    pub(super) fn of_level(architecture: Architecture, probe: &Probe, place: Place<'_>) -> Self {
        let proof = Proof::NotAsked("no guest tried: run the cell to see".to_owned());
        let findings = findings(&Patient { architecture, probe, place, proof: &proof });
        let native = MetalCheckup::of(Metal::Native, 1, &findings, None);
        Self { architecture, own: true, cells: 1, native, emulated: None, findings }
    }

    /// What this says of `metal`, if it can't be used.
    pub(super) fn why_not(&self, metal: Metal) -> Option<String> {
        let of_metal = match metal {
            Metal::Native => Some(&self.native),
            Metal::Emulated => self.emulated.as_ref(),
        };
        let of_metal = of_metal.filter(|of_metal| !of_metal.usable)?;
        Some(format!("{}, {metal} metal: {}", self.architecture, of_metal.why.join(", ")))
    }
}

impl MetalCheckup {
    fn of(metal: Metal, cells: usize, findings: &[Finding], against: Option<String>) -> Self {
        let lacking = findings.iter().filter(|finding| finding.status == Status::Lacking);
        let mut why: Vec<String> = lacking
            .filter(|finding| finding.prevents.contains(&metal))
            .map(|finding| finding.check.word().to_owned())
            .collect();
        if why.is_empty() {
            why.extend(against);
        }
        if why.is_empty() && cells == 0 {
            why.push("no cell boots on it".to_owned());
        }
        Self { usable: why.is_empty(), cells, why }
    }
}

impl Default for HostSeen {
    fn default() -> Self {
        Self::of(&Probe::default())
    }
}

impl HostSeen {
    /// This machine, or a level until that is said.
    pub(super) fn of(probe: &Probe) -> Self {
        Self {
            level: None,
            cell: None,
            machine: probe.machine.clone(),
            processor: probe.processor.clone(),
            processors: probe.processors,
            memory_mib: probe.memory_mib,
            available_memory_mib: probe.available_memory_mib,
            system: format!("{} {}", probe.facts.os, probe.facts.os_version).trim().to_owned(),
            kernel: probe.facts.kernel.clone(),
        }
    }
}

/// What can run of each document's cells. The plans are of the same cells.
fn families(matrix: &Matrix, native: &RunPlan, emulated: &RunPlan) -> Vec<Family> {
    let mut families = Vec::new();
    for document in matrix.documents() {
        let mut family = Family {
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
            family.cells += 1;
            family.native += usize::from(boots(native));
            family.emulated += usize::from(boots(emulated));
            let Fate::Skipped(reasons) = &emulated.fate else { continue };
            if boots(native) {
                continue;
            }
            family.neither += 1;
            let reasons: BTreeSet<String> = reasons.iter().map(SkipReason::without_levels).collect();
            for reason in reasons {
                match family.reasons.iter_mut().find(|known| known.reason == reason) {
                    Some(known) => known.cells += 1,
                    None => family.reasons.push(Reason { reason, cells: 1 }),
                }
            }
        }
        family.reasons.sort_by(|a, b| b.cells.cmp(&a.cells).then_with(|| a.reason.cmp(&b.reason)));
        if family.cells > 0 {
            families.push(family);
        }
    }
    families
}
