//! A host of an architecture as data: how its processor is recognized, how nesting is switched on, and how nested guests are
//! counted.

/// Which processors with an instruction set are of the architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processors {
    /// All of them.
    All,
    /// Those of these vendors (`vendor_id` in /proc/cpuinfo).
    Vendors(&'static [&'static str]),
    /// Those whose model begins with this word (`cpu` in /proc/cpuinfo).
    Models(&'static str),
}

impl Processors {
    /// Whether a processor with this vendor or model is one of them.
    pub fn include(self, processor: &str) -> bool {
        match self {
            Self::All => true,
            Self::Vendors(vendors) => vendors.contains(&processor),
            Self::Models(start) => processor.starts_with(start),
        }
    }
}

/// Processors on which nesting does not work, as the documents say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsuitableProcessor {
    /// The word that their model begins with (`cpu` in /proc/cpuinfo).
    pub model: &'static str,
    /// The claim that says so.
    pub claim: &'static str,
}

/// How a host lets its guests be hypervisors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NestingSwitch {
    /// The parameter `nested` of KVM's module.
    ModuleParameter,
    /// A parameter on the kernel's command line (Linux, Documentation/admin-guide/kernel-parameters).
    KernelParameter {
        /// The parameter: `NAME=VALUE`.
        parameter: &'static str,
        /// The software that has it.
        since: &'static str,
        /// What the documents say about nesting on this architecture.
        documents: &'static str,
        /// The claim that says so.
        claim: &'static str,
    },
}

impl NestingSwitch {
    /// The parameter on the kernel's command line, if it is one.
    pub fn kernel_parameter(self) -> Option<&'static str> {
        match self {
            Self::ModuleParameter => None,
            Self::KernelParameter { parameter, .. } => Some(parameter),
        }
    }
}

/// The documents' procedure for switching nesting on, as far as it differs between architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Procedure {
    /// The claim that says how KVM's module is unloaded, without the architecture's word.
    pub unload_claim: &'static str,
    /// Whether it says to stop all VMs first.
    pub stops_vms: bool,
    /// Whether its L0 is a bare machine. On POWER9 and IBM Z, the documents say themselves that a hypervisor is below it.
    pub l0_is_bare_metal: bool,
}

/// A trace event of the kernel (Linux, Documentation/trace/events).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceEvent {
    /// Its subsystem.
    pub system: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The events that count, in the kernel's filter syntax.
    pub filter: &'static str,
}
