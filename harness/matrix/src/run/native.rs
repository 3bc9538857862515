//! Native metal: this machine as L0, with the system that it runs; or as L1, if the machine is a guest of a cell's L0.

use std::collections::BTreeMap;

use nestmatrix_model::{Architecture, BootKind, LevelNumber};
use nestmatrix_stack::host::Facts;

use super::requirement::kind_of_guest;
use crate::scenario::{AvailableImage, Matrix, SystemRequirement};
use crate::surroundings::{GuestOf, Surroundings};

/// Native metal that has proved itself.
#[derive(Debug, Clone)]
pub struct NativeMetal {
    /// The system of this machine: `debian 13`.
    pub system: String,
    os: String,
    os_version: String,
    /// Where nesting is switched off, if no guest of it can be a hypervisor.
    no_nesting: Option<String>,
    /// What it shows of what runs it.
    surroundings: Surroundings,
}

/// The native metal that this machine offers for each architecture, or why it offers none.
pub type NativeMetals = BTreeMap<Architecture, Result<NativeMetal, String>>;

/// Where nesting is switched off if the parameter `nested` of this module has this value, if it is.
fn off(nested: Option<&str>, kvm_module: &str) -> Option<String> {
    let off = nested.filter(|nested| matches!(*nested, "0" | "N"))?;
    Some(format!("KVM: {kvm_module} of this machine has nested={off}"))
}

impl NativeMetal {
    pub(super) fn of(facts: &Facts, kvm_module: &str) -> Self {
        let no_nesting = off(facts.nested.as_deref(), kvm_module);
        Self { no_nesting, ..Self::named(facts.os.clone(), facts.os_version.clone()) }
    }

    /// The same, if its KVM's parameter `nested` has this value once the machine is restored.
    #[must_use]
    pub fn with_nested(self, nested: Option<&str>, kvm_module: &str) -> Self {
        Self { no_nesting: off(nested, kvm_module), ..self }
    }

    /// Native metal with this system, without a proof: `debian` and `13`.
    pub(crate) fn named(os: String, os_version: String) -> Self {
        let system = format!("{os} {os_version}").trim().to_owned();
        Self { system, os, os_version, no_nesting: None, surroundings: Surroundings::default() }
    }

    /// The same machine, which shows this of what runs it.
    #[must_use]
    pub(crate) fn inside(self, surroundings: Surroundings) -> Self {
        Self { surroundings, ..self }
    }

    /// What this machine is a guest of, as this level of a cell; nothing if it is a bare machine.
    pub(super) fn guest_of(&self, matrix: &Matrix, level: LevelNumber) -> Option<GuestOf> {
        self.surroundings.guest_of(matrix, level)
    }

    /// Why this machine is no guest of a cell's L0, if so.
    pub(super) fn is_no_guest_of(&self, l0: &SystemRequirement, matrix: &Matrix) -> Option<String> {
        let is = match self.guest_of(matrix, LevelNumber::ALL[1]) {
            Some(guest_of) if guest_of.system.as_ref() == Some(&l0.system) => return None,
            Some(GuestOf { name, .. }) => format!("this machine is a guest of {name}"),
            None => "no hypervisor runs this machine".to_owned(),
        };
        Some(format!("needs {}: {is}", kind_of_guest(&l0.name)))
    }

    /// Why it can't run a cell whose stack ends at `innermost`, if so: guests of guests need nesting switched on. `level` is this
    /// machine's.
    pub(super) fn lacks_nesting(&self, innermost: LevelNumber, level: LevelNumber) -> Option<String> {
        let guests_host = level.next().is_some_and(|guest| innermost > guest);
        let off = self.no_nesting.as_ref().filter(|_| guests_host)?;
        Some(format!("needs nesting switched on in {level}'s {off}"))
    }

    /// This machine's system as an image of L0, if it has a version that can be compared.
    pub(super) fn image(&self) -> Option<AvailableImage> {
        let version = self.os_version.parse().ok()?;
        Some(AvailableImage {
            name: format!("{}-{}", self.os, self.os_version),
            system: self.os.clone(),
            version,
            boots: BootKind::Kernel,
            additions: Vec::new(),
            roles: Vec::new(),
            innermost_only: None,
        })
    }

    pub(super) fn unknown_system(&self) -> String {
        format!("needs to know this machine's system: its os-release says {:?}", self.system)
    }
}
