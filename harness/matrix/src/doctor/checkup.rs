//! A summary of the findings: what can run on which metal, by architecture and by document. Cells are counted with the same
//! [`RunPlan`] as a run uses, so both give the same numbers.

use nestmatrix_model::{Architecture, LevelNumber};
use nestmatrix_stack::Metal;
use serde::Serialize;

use super::checks::{Place, Proof, Subject, findings};
use super::finding::{Finding, Status};
use super::probe::Probe;
use crate::disposable_host::{HostPaths, Journal, permitted};
use crate::media::Documented;
use crate::run::MetalChoice;
use crate::scenario::CellName;
use crate::surroundings::GuestOf;

/// The version of the format of a [`Checkup`].
pub const FORMAT: u32 = 1;

/// What a host can run and what is missing.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checkup {
    /// The version of this format.
    pub format: u32,
    /// The host.
    pub host: HostSummary,
    /// The metal that the user chose.
    pub metal: MetalChoice,
    /// One entry an architecture.
    pub architectures: Vec<ArchitectureCheckup>,
    /// One entry a document; empty for a level.
    #[serde(rename = "families")]
    pub documents: Vec<DocumentCheckup>,
    /// The result of the check of each medium; empty for a level.
    pub media: Vec<Finding>,
    /// The cells that boot documented systems; `None` for a level.
    pub documented: Option<Documented>,
    /// The systems of cells that the authors of nestmatrix have not yet run, in one line; `None` if there are none.
    pub not_yet_run: Option<String>,
    /// The cells that the answer is about; `None` for a level.
    pub selected: Option<Selected>,
    /// The answer: every selected cell can run on the chosen metal.
    pub usable: bool,
    /// Why not.
    pub why: Vec<String>,
}

/// The checked host.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostSummary {
    /// The level; `None` if the host is this machine.
    pub level: Option<LevelNumber>,
    /// The cell that the level belongs to.
    pub cell: Option<CellName>,
    /// Its instruction set, as its kernel names it.
    pub machine: String,
    /// Its processor, as far as its kernel reports it.
    pub processor: String,
    /// The number of its processors.
    pub processors: u64,
    /// Its memory, in MiB.
    pub memory_mib: u64,
    /// Its available memory, in MiB.
    pub available_memory_mib: u64,
    /// Its operating system, if it has an os-release file.
    pub system: String,
    /// Its kernel.
    pub kernel: String,
    /// What runs it; `None` for a bare machine and for a level.
    pub guest_of: Option<GuestOf>,
    /// The number of cells whose L0 that is.
    pub l0_of_cells: usize,
    /// Whether it is a disposable host, which cells may change as their L0; `None` for a level.
    pub disposable_host: Option<DisposableHost>,
}

/// Whether cells may change a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DisposableHost {
    /// Whether its administrator permits it.
    pub permitted: bool,
    /// Why not, or why that can't be seen.
    pub why: Option<String>,
    /// Whether nothing on it is still changed.
    pub restored: bool,
}

impl DisposableHost {
    /// Whether cells may change this machine.
    pub(super) fn of(paths: &HostPaths) -> Self {
        let why = permitted(paths).err().map(|refused| refused.why);
        Self { permitted: why.is_none(), why, restored: !Journal::exists(paths) }
    }
}

/// What a host can run of one architecture and what is missing.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ArchitectureCheckup {
    /// The architecture.
    pub architecture: Architecture,
    /// Whether the host has this architecture.
    pub own: bool,
    /// Cells of the architecture.
    pub cells: usize,
    /// The host as L0 with its own KVM; for a level, the level as a hypervisor.
    pub native: MetalCheckup,
    /// The emulator of the bare machine; `None` for a level.
    pub emulated: Option<MetalCheckup>,
    /// The result of every check.
    pub findings: Vec<Finding>,
}

/// What can run on one metal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MetalCheckup {
    /// Whether stacks can run on it.
    pub usable: bool,
    /// Cells that a run on this metal boots.
    pub cells: usize,
    /// Why it is not usable: the ids of the failed checks, or another reason.
    pub why: Vec<String>,
}

/// Which of a document's cells can run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DocumentCheckup {
    /// The document.
    pub document: String,
    /// Its cells.
    pub cells: usize,
    /// The ones that boot on native metal.
    pub native: usize,
    /// The ones that boot on emulated metal.
    pub emulated: usize,
    /// The ones that boot on neither.
    pub neither: usize,
    /// Why cells boot on neither, most cells first. A cell with several reasons counts for each.
    pub reasons: Vec<Reason>,
}

/// A reason and the number of cells that it applies to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reason {
    /// The reason.
    pub reason: String,
    /// The number of cells.
    pub cells: usize,
}

/// The cells that the answer is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Selected {
    /// The profile, if the user named no cells.
    pub profile: Option<String>,
    /// The number of cells.
    pub cells: usize,
    /// How many of them a run boots on the chosen metal.
    pub boot: usize,
}

impl ArchitectureCheckup {
    /// The checkup of a booted level.
    pub(super) fn of_level(architecture: Architecture, probe: &Probe, place: Place<'_>) -> Self {
        let proof = Proof::NotAsked("no trial guest: run the cell instead".to_owned());
        let findings = findings(&Subject { architecture, probe, place, proof: &proof });
        let native = MetalCheckup::of(Metal::Native, 1, &findings, None);
        Self { architecture, own: true, cells: 1, native, emulated: None, findings }
    }

    /// Why `metal` is not usable, if so.
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
    pub(super) fn of(metal: Metal, cells: usize, findings: &[Finding], against: Option<String>) -> Self {
        let missing = findings.iter().filter(|finding| finding.status == Status::Missing);
        let mut why: Vec<String> = missing
            .filter(|finding| finding.prevents.contains(&metal))
            .map(|finding| finding.check.word().to_owned())
            .collect();
        if why.is_empty() {
            why.extend(against);
        }
        if why.is_empty() && cells == 0 {
            why.push("no cell can boot on it".to_owned());
        }
        Self { usable: why.is_empty(), cells, why }
    }
}

impl Default for HostSummary {
    fn default() -> Self {
        Self::of(&Probe::default())
    }
}

impl HostSummary {
    /// The host that this probe is of, as this machine; the caller adds the level, if it is one.
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
            guest_of: None,
            l0_of_cells: 0,
            disposable_host: None,
        }
    }
}
