//! Native metal: this machine as L0, with the system that it runs.

use std::collections::BTreeMap;

use nestmatrix_model::{Architecture, BootKind, LevelNumber};
use nestmatrix_stack::host::Facts;

use crate::scenario::AvailableImage;

/// Native metal that has proved itself.
#[derive(Debug, Clone)]
pub struct NativeMetal {
    /// The system of this machine: `debian 13`.
    pub system: String,
    os: String,
    os_version: String,
    /// Why no guest of it can be a hypervisor, if so.
    no_nesting: Option<String>,
}

/// The native metal that this machine offers for each architecture, or why it offers none.
pub type NativeMetals = BTreeMap<Architecture, Result<NativeMetal, String>>;

impl NativeMetal {
    pub(super) fn of(facts: &Facts, kvm_module: &str) -> Self {
        let off = facts.nested.as_ref().filter(|nested| matches!(nested.as_str(), "0" | "N"));
        let off = off.map(|nested| {
            format!("needs nesting switched on in L0's KVM: {kvm_module} of this machine has nested={nested}")
        });
        Self { no_nesting: off, ..Self::named(facts.os.clone(), facts.os_version.clone()) }
    }

    /// Native metal with this system, without a proof: `debian` and `13`.
    pub(crate) fn named(os: String, os_version: String) -> Self {
        Self { system: format!("{os} {os_version}").trim().to_owned(), os, os_version, no_nesting: None }
    }

    /// Why it can't run a cell whose stack ends at `innermost`, if so: guests of guests need nesting switched on.
    pub(super) fn lacks_nesting(&self, innermost: LevelNumber) -> Option<&str> {
        self.no_nesting.as_deref().filter(|_| innermost > LevelNumber::ALL[1])
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
