//! Tests that need /dev/kvm.

use exec_example::Machine;
use kvm_ioctls::Kvm;

#[test]
fn kvm_has_its_stable_interface() {
    let kvm = Kvm::new().expect("/dev/kvm can be opened");
    assert_eq!(kvm.get_api_version(), 12);
}

#[test]
fn a_machine_has_a_processor_that_starts_in_real_mode() {
    let machine = Machine::new().expect("KVM makes a machine");
    let registers = machine.processor.get_sregs().expect("KVM shows registers");
    // Protected mode is bit 0 of CR0.
    assert_eq!(registers.cr0 & 1, 0);
}

/// The panic message and the exit status come from the level, too.
#[test]
#[should_panic(expected = "no such machine")]
fn a_test_that_panics_is_seen() {
    panic!("no such machine");
}
