//! What differs between architectures, as data: one file an architecture.

mod amd;

use crate::scenario::Architecture;

/// What an architecture's levels are made of and what is looked at in them.
#[derive(Debug)]
pub struct Profile {
    /// The QEMU program that runs this architecture's guests.
    pub qemu: &'static str,
    /// Machine type of a level that hosts another one.
    pub host_machine: &'static str,
    /// Machine type of the innermost level.
    pub leaf_machine: &'static str,
    /// Further machine options of the innermost level.
    pub leaf_machine_options: &'static str,
    /// Machine type and CPU of the emulated metal.
    pub metal_machine: &'static str,
    /// CPU model of the emulated metal, which offers the virtualization extension.
    pub metal_cpu: &'static str,
    /// Features of that model that the emulated metal does without.
    pub metal_cpu_without: &'static [&'static str],
    /// The CPU feature without which a level can't host a KVM guest; it is required of every level that does.
    pub virtualization_feature: &'static str,
    /// The CPU flags in /proc/cpuinfo that the documents ask for on L0.
    pub documented_flags: &'static [&'static str],
    /// KVM's module for this architecture.
    pub kvm_module: &'static str,
    /// Kernel command line that every level gets.
    pub kernel_parameters: &'static str,
    /// What is added for the innermost level.
    pub leaf_kernel_parameters: &'static str,
    /// What a guest's kernel calls KVM in its own report of the hypervisor it runs on.
    pub kvm_as_seen_by_guest: &'static str,
    /// The counter of KVM that grows with each entry into a nested guest: in L0's KVM, into an L2.
    pub nested_counter: &'static str,
    /// What is counted in its place by a kernel that does not have it yet.
    pub nested_event: TraceEvent,
    /// A shell command that makes a guest leave to its hypervisor some thousand times.
    pub exit_loop: &'static str,
}

/// A trace event of the kernel (Linux, Documentation/trace/events).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceEvent {
    /// Its subsystem.
    pub system: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Those that count, in the kernel's filter syntax.
    pub filter: &'static str,
}

impl Profile {
    /// The profile of `architecture`, if stacks of it can be booted.
    pub fn of(architecture: Architecture) -> Option<&'static Profile> {
        match architecture {
            Architecture::Amd => Some(&amd::PROFILE),
            Architecture::Intel | Architecture::Power9 | Architecture::Arm | Architecture::IbmZ => None,
        }
    }
}
