//! A project whose tests need /dev/kvm. `cargo xtask exec` runs them where there is none.

use kvm_ioctls::{Error, Kvm, VcpuFd, VmFd};

/// A virtual machine without memory, and its only processor.
pub struct Machine {
    /// The machine.
    pub vm: VmFd,
    /// The processor.
    pub processor: VcpuFd,
}

impl Machine {
    /// Makes a machine by KVM.
    ///
    /// # Errors
    /// KVM's; above all, there may be no /dev/kvm.
    pub fn new() -> Result<Self, Error> {
        let vm = Kvm::new()?.create_vm()?;
        let processor = vm.create_vcpu(0)?;
        Ok(Self { vm, processor })
    }
}
