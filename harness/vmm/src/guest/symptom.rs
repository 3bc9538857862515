//! Signs of a failing guest in the lines of its console.
//!
//! A guest can print anything, so a message counts only where a kernel prints it: at the start of a line or right after a
//! kernel's time stamp.

use serde::{Deserialize, Serialize};

/// How a guest failed, as its kernel reports it. Such a guest does not continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestFailure {
    /// The kernel gave up.
    KernelPanic,
    /// The processor refused to enter the guest.
    KvmEntryFailed,
    /// KVM met a state that it can't handle.
    KvmInternalError,
    /// The processor shut down.
    TripleFault,
    /// The kernel itself caused a fault.
    Oops,
    /// An IBM Z processor waits with interrupts off: it never continues.
    DisabledWait,
}

impl GuestFailure {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::KernelPanic => "kernel panic",
            Self::KvmEntryFailed => "KVM entry failed",
            Self::KvmInternalError => "KVM internal error",
            Self::TripleFault => "triple fault",
            Self::Oops => "oops",
            Self::DisabledWait => "disabled wait state",
        }
    }
}

impl GuestFailure {
    /// The failure with the kernel's message, in one line without repetition: `kernel panic: No init found`.
    pub fn describe(self, said: &str) -> String {
        if self == Self::KernelPanic && AFTER_PANIC.iter().any(|start| said.starts_with(start)) {
            return format!("{}, whose message can't be read: {said}", self.name());
        }
        let message = FATAL.iter().find(|(start, failure)| *failure == self && said.starts_with(start));
        let rest = match (self, message) {
            (Self::Oops, _) | (_, None) => said,
            (_, Some((start, _))) => said[start.len()..].trim_start_matches([':', ' ', '-', ',']),
        };
        if rest.is_empty() { self.name().to_owned() } else { format!("{}: {rest}", self.name()) }
    }
}

/// Messages after which a guest does not continue.
///
/// Sources: Linux `kernel/panic.c`, `arch/x86/kernel/dumpstack.c`, `arch/x86/kernel/traps.c`; QEMU
/// `accel/kvm/kvm-all.c`, `target/i386/kvm/kvm.c`.
const FATAL: &[(&str, GuestFailure)] = &[
    ("Kernel panic - not syncing", GuestFailure::KernelPanic),
    ("KVM: entry failed", GuestFailure::KvmEntryFailed),
    ("KVM internal error", GuestFailure::KvmInternalError),
    ("triple fault", GuestFailure::TripleFault),
    ("Oops: ", GuestFailure::Oops),
    ("Internal error: Oops", GuestFailure::Oops),
    ("BUG: unable to handle", GuestFailure::Oops),
    ("BUG: kernel NULL pointer dereference", GuestFailure::Oops),
    ("general protection fault, ", GuestFailure::Oops),
];

/// What a kernel prints after the message of its panic. It counts if that message can't be read: a panicking kernel does not wait
/// until the console is free, so the output of a program at that moment is mixed into it, character by character.
///
/// Source: Linux `kernel/panic.c`.
const AFTER_PANIC: &[&str] = &["panic+0x", "---[ end Kernel panic"];

/// What Hercules reports about a processor that never continues. In its log a time may stand before it.
const DISABLED_WAIT: &str = "HHCCP011I";

/// Messages of a kernel that got no CPU time for long. On a busy host every kernel prints them and may still continue, so they
/// end no wait.
///
/// Sources: Linux `kernel/watchdog.c`, `kernel/hung_task.c`, `kernel/rcu/tree_stall.h`.
const STALLS: &[&str] = &[
    "watchdog: BUG: soft lockup",
    "watchdog: Watchdog detected hard LOCKUP",
    "INFO: task ",
    "rcu: INFO: ",
    "INFO: rcu_",
];

/// What a line reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestSymptom {
    /// The guest does not continue. With the kernel's message.
    Fatal(GuestFailure, String),
    /// The kernel panicked a moment ago, which it has normally reported. With what it prints now.
    Panicked(String),
    /// The guest got no CPU time for long. With the kernel's message.
    Stall(String),
}

/// The symptom that `line` reports, if any.
pub fn symptom_in(line: &str) -> Option<GuestSymptom> {
    let message = kernel_message(line);
    let fatal = FATAL.iter().find(|(start, _)| message.starts_with(start));
    if let Some((_, failure)) = fatal {
        return Some(GuestSymptom::Fatal(*failure, message.to_owned()));
    }
    if let Some(at) = line.find(DISABLED_WAIT) {
        return Some(GuestSymptom::Fatal(GuestFailure::DisabledWait, line[at..].trim_end().to_owned()));
    }
    let frame = without_addresses(message);
    if AFTER_PANIC.iter().any(|start| frame.starts_with(start)) {
        return Some(GuestSymptom::Panicked(frame.to_owned()));
    }
    let stalls = STALLS.iter().any(|start| message.starts_with(start));
    let hung = !message.starts_with("INFO: task ") || message.contains("blocked for more than");
    (stalls && hung).then(|| GuestSymptom::Stall(message.to_owned()))
}

/// The part of a line that a kernel prints: what follows the last time stamp such as `[   12.345678] ` or
/// `[   12.345678][    T1] `, or the whole line if there is none.
pub fn kernel_message(line: &str) -> &str {
    let mut message = line.trim();
    while let Some((before, after)) = message.split_once('[') {
        let Some((stamp, rest)) = after.split_once(']') else { break };
        let is_stamp = stamp.contains('.') && stamp.trim().bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let is_caller = before.is_empty() && stamp.trim().strip_prefix(['T', 'C']).is_some_and(is_number);
        if !is_stamp && !is_caller {
            break;
        }
        message = rest.trim_start();
    }
    message
}

/// A line of a kernel's stack without the addresses before the function: `[c000000002a7fa50] `, `[<000000003b3ab8f2>] `.
fn without_addresses(message: &str) -> &str {
    let mut frame = message;
    while let Some((address, rest)) = frame.strip_prefix('[').and_then(|after| after.split_once(']')) {
        let digits = address.trim_start_matches('<').trim_end_matches('>');
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            break;
        }
        frame = rest.trim_start();
    }
    frame
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The fatal messages. Each one comes with whether it counts anywhere in a line, and with its name in messages.
pub fn fatal_messages() -> impl Iterator<Item = (&'static str, bool, &'static str)> {
    let of_kernels = FATAL.iter().map(|(message, failure)| (*message, false, failure.name()));
    let after_panic = AFTER_PANIC.iter().map(|message| (*message, false, GuestFailure::KernelPanic.name()));
    of_kernels.chain(after_panic).chain([(DISABLED_WAIT, true, GuestFailure::DisabledWait.name())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn fatal(failure: GuestFailure, said: &str) -> Option<GuestSymptom> {
        Some(GuestSymptom::Fatal(failure, said.to_owned()))
    }

    fn panicked(said: &str) -> Option<GuestSymptom> {
        Some(GuestSymptom::Panicked(said.to_owned()))
    }

    #[rstest]
    #[case::panic(
        "[    1.2] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
        fatal(
            GuestFailure::KernelPanic,
            "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"
        )
    )]
    #[case::with_its_caller(
        "[    1.200000][    T1] Kernel panic - not syncing: No init",
        fatal(GuestFailure::KernelPanic, "Kernel panic - not syncing: No init")
    )]
    #[case::after_a_line_without_end(
        "login: [    1.2] Oops: 0002 [#1] PREEMPT SMP",
        fatal(GuestFailure::Oops, "Oops: 0002 [#1] PREEMPT SMP")
    )]
    #[case::without_time(
        "KVM: entry failed, hardware error 0x7",
        fatal(GuestFailure::KvmEntryFailed, "KVM: entry failed, hardware error 0x7")
    )]
    #[case::null_pointer(
        "[ 1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000",
        fatal(GuestFailure::Oops, "BUG: kernel NULL pointer dereference, address: 0000000000000000")
    )]
    #[case::arm(
        "[    2.5] Internal error: Oops: 0000000096000006 [#1] SMP",
        fatal(GuestFailure::Oops, "Internal error: Oops: 0000000096000006 [#1] SMP")
    )]
    #[case::hercules(
        "12:00:01 HHCCP011I CPU0000: Disabled wait state",
        fatal(GuestFailure::DisabledWait, "HHCCP011I CPU0000: Disabled wait state")
    )]
    #[case::stack_of_x86("[    0.483124]  panic+0x118/0x2f4", panicked("panic+0x118/0x2f4"))]
    #[case::stack_of_power(
        "[    1.2][    T1] [c000000002a7fa50] [c00000000015a9f4] panic+0x16c/0x41c (unreliable)",
        panicked("panic+0x16c/0x41c (unreliable)")
    )]
    #[case::stack_of_ibm_z(
        "[    1.2]  [<000000003b3ab8f2>] panic+0x11a/0x2f0",
        panicked("panic+0x11a/0x2f0")
    )]
    #[case::end_of_a_panic(
        "[    1.2] ---[ end Kernel panic - not syncing: No init ]---",
        panicked("---[ end Kernel panic - not syncing: No init ]---")
    )]
    #[case::perhaps_on_the_stack("[    0.483124]  ? panic+0x118/0x2f4", None)]
    #[case::another_function("[    0.483124]  nmi_panic+0x18/0x24", None)]
    #[case::in_other_brackets("[one] panic+0x118/0x2f4", None)]
    #[case::quoted_by_a_program("the log has \"Oops: 0002\" in it", None)]
    #[case::printed_by_a_step("checked for Kernel panic - not syncing: none", None)]
    #[case::ordinary("[    0.4] Run /init as init process", None)]
    #[case::a_report("nonce=Kernel", None)]
    #[case::nothing("", None)]
    fn a_line_is_read_for_what_ends_a_guest(#[case] line: &str, #[case] expected: Option<GuestSymptom>) {
        assert_eq!(symptom_in(line), expected);
    }

    #[rstest]
    #[case(GuestFailure::KernelPanic, "Kernel panic - not syncing: No init", "kernel panic: No init")]
    #[case(
        GuestFailure::KvmEntryFailed,
        "KVM: entry failed, hardware error 0x7",
        "KVM entry failed: hardware error 0x7"
    )]
    #[case(
        GuestFailure::KernelPanic,
        "panic+0x118/0x2f4",
        "kernel panic, whose message can't be read: panic+0x118/0x2f4"
    )]
    #[case(GuestFailure::TripleFault, "triple fault", "triple fault")]
    #[case(GuestFailure::Oops, "Oops: 0002 [#1]", "oops: Oops: 0002 [#1]")]
    fn a_failure_is_described_without_saying_it_twice(
        #[case] failure: GuestFailure,
        #[case] said: &str,
        #[case] expected: &str,
    ) {
        assert_eq!(failure.describe(said), expected);
    }

    #[rstest]
    #[case("[   52.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]", true)]
    #[case("[  242.1] INFO: task sh:1 blocked for more than 120 seconds.", true)]
    #[case("[   61.0] rcu: INFO: rcu_sched self-detected stall on CPU", true)]
    #[case("[    1.0] INFO: task scheduling is fine", false)]
    #[case("a guest program: blocked for more than a week", false)]
    fn a_stall_is_no_end(#[case] line: &str, #[case] stalls: bool) {
        let symptom = symptom_in(line);
        assert_eq!(matches!(symptom, Some(GuestSymptom::Stall(_))), stalls, "{symptom:?}");
        assert!(!matches!(symptom, Some(GuestSymptom::Fatal(..))));
    }
}
