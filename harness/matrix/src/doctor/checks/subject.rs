//! The host that is checked, and the order of the checks. The checks stand in one file a group and are pure functions of this.

use nestmatrix_images::{InstalledEmulator, SourceProblem};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, LevelNumber, Word as _};
use nestmatrix_stack::Metal;

use super::sandbox::sandbox;
use crate::doctor::SandboxTrial;
use crate::doctor::finding::{Check, Finding, Status};
use crate::doctor::probe::Probe;
use crate::run::NoEmulator;

/// The document that has the procedures.
pub(super) const PROCEDURES: &str = "rhel-8-nested-vms";
/// The metal that is lost without KVM. In a level, this is the level's own KVM.
pub(super) const NATIVE: &[Metal] = &[Metal::Native];

/// Whether KVM runs guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A guest reached its userspace.
    Proven,
    /// A guest was started and did not reach its userspace, for this reason.
    Failed(String),
    /// No guest could be started, for this reason.
    NotTried(String),
    /// The user did not ask for it, or it would prove nothing, for this reason.
    NotAsked(String),
}

/// Where the emulator of a bare machine comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmulatorSupply {
    /// An image.
    Image {
        /// Its recipe.
        recipe: String,
        /// Whether it is in the cache.
        cached: bool,
    },
    /// It is installed.
    Installed(InstalledEmulator),
}

/// What the cache has for emulated metal and the levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The emulator of the bare machine, or why it is missing.
    pub emulator: Result<EmulatorSupply, NoEmulator>,
    /// The number of images that the selected cells boot.
    pub wanted: usize,
    /// The ones that are not in the cache.
    pub missing: Vec<String>,
    /// Whether the network is off limits.
    pub offline: bool,
    /// What confines emulators.
    pub sandbox: SandboxTrial,
    /// The user's sources of RPM packages that images of the architecture, or its emulator, are made of.
    pub sources: Vec<SourceState>,
}

/// A source of RPM packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceState {
    /// Its name.
    pub name: String,
    /// What keeps images from being built from it.
    pub problems: Vec<SourceProblem>,
    /// The metals on which the selected cells need an image of it that is not in the cache.
    pub needed_on: Vec<Metal>,
}

/// Where the checked host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// This machine, with its cache.
    ThisMachine(&'a Inventory),
    /// A booted level of a stack.
    Level {
        /// The level.
        level: LevelNumber,
        /// The innermost level of its stack.
        innermost: LevelNumber,
    },
}

/// A host that is checked as a host for one architecture.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The architecture.
    pub architecture: Architecture,
    /// What the host reports about itself.
    pub probe: &'a Probe,
    /// Where the host is.
    pub place: Place<'a>,
    /// Whether its KVM runs guests.
    pub proof: &'a Proof,
}

/// Runs every check on a host. On a machine of another architecture, KVM is not checked.
pub fn findings(subject: &Subject<'_>) -> Vec<Finding> {
    let Subject { architecture, probe, place, .. } = *subject;
    let mut found = Vec::new();
    let isa = architecture.isa();
    if probe.isa() == Some(isa) {
        found.push(Finding::ok(Check::InstructionSet, format!("{isa} instruction set")));
        let processor = subject.processor();
        let is_own = processor.status != Status::Missing;
        found.push(processor);
        if is_own {
            found.extend(subject.cpu_flags());
            found.extend(subject.bare_metal());
            found.push(subject.module());
            found.extend(subject.device());
            found.push(subject.nested());
            found.extend(subject.persistent());
            found.push(subject.huge_pages());
            found.push(subject.kvm_proof());
            found.push(subject.qemu());
            found.push(subject.system());
        }
    } else {
        let here = probe.isa().map_or(probe.machine.as_str(), |isa| isa.word());
        let what = format!("requires the {isa} instruction set: this machine has {here}");
        found.push(Finding::missing(Check::InstructionSet, &[Metal::Native], what));
    }
    found.push(subject.memory());
    if let Place::ThisMachine(inventory) = place {
        found.push(subject.disk(inventory));
        found.push(subject.apt());
        found.extend(subject.sources(inventory));
        found.push(subject.emulator(inventory));
        found.push(sandbox(&inventory.sandbox));
        found.push(subject.images(inventory));
    }
    found
}

impl Subject<'_> {
    pub(super) fn profile(&self) -> &'static ArchInfo {
        ArchInfo::of(self.architecture)
    }

    /// A claim of the procedures. Its name differs by the architecture only.
    pub(super) fn claim(&self, what: &str) -> Option<String> {
        self.profile().procedure.map(|_| format!("{PROCEDURES}/{}-{what}", self.architecture))
    }

    pub(super) fn claims(&self, what: &[&str]) -> Vec<String> {
        what.iter().filter_map(|what| self.claim(what)).collect()
    }

    /// A command that root has to run.
    pub(super) fn root(&self, command: &str) -> String {
        if self.probe.uid == "0" { command.to_owned() } else { format!("sudo {command}") }
    }
}
