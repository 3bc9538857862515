//! What a console line says about a guest that will not go on.
//!
//! Apart from the console reader because the list is knowledge of its own: each entry is a message of the kernel or of
//! QEMU after which waiting is pointless.

/// Messages that end a wait, with how they are named in a symptom. Each is matched anywhere in a line, since kernels
/// put time stamps, levels and CPU numbers before them.
///
/// Sources: Linux `kernel/panic.c`, `kernel/watchdog.c`, `kernel/hung_task.c`, `arch/x86/kernel/dumpstack.c`,
/// `arch/x86/kernel/traps.c`; QEMU `accel/kvm/kvm-all.c`, `target/i386/kvm/kvm.c`;
/// Hercules, whose processor waits for ever then.
const FATAL: &[(&str, &str)] = &[
    ("Kernel panic - not syncing", "kernel panic"),
    ("watchdog: BUG: soft lockup", "soft lockup"),
    ("watchdog: Watchdog detected hard LOCKUP", "hard lockup"),
    ("blocked for more than", "hung task"),
    ("KVM: entry failed", "KVM entry failed"),
    ("KVM internal error", "KVM internal error"),
    ("triple fault", "triple fault"),
    ("Oops: ", "oops"),
    ("BUG: unable to handle", "oops"),
    ("BUG: kernel NULL pointer dereference", "oops"),
    ("general protection fault, ", "oops"),
    ("HHCCP011I", "disabled wait state"),
];

/// The symptom that `line` reports, such as `kernel panic: Attempted to kill init!`, if it reports one.
pub fn symptom_in(line: &str) -> Option<String> {
    // The earliest message of a line decides: what a panic quotes is not a finding of its own.
    let (at, message, name) = FATAL
        .iter()
        .filter_map(|(message, name)| line.find(message).map(|at| (at, message, name)))
        .min_by_key(|(at, ..)| *at)?;
    let rest = line[at + message.len()..].trim_start_matches([':', ' ', '-', ',']).trim_end();
    Some(match (*name, rest) {
        (name, "") => name.to_owned(),
        ("oops" | "soft lockup" | "hard lockup" | "hung task", _) => {
            format!("{name}: {}", line[at..].trim_end())
        }
        (name, rest) => format!("{name}: {rest}"),
    })
}

/// The messages, each with how it is named in a symptom.
pub(crate) fn fatal_messages() -> impl Iterator<Item = (&'static str, &'static str)> {
    FATAL.iter().copied()
}

/// How they are named.
pub(crate) fn fatal_names() -> impl Iterator<Item = &'static str> {
    FATAL.iter().map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::symptom_in;
    use rstest::rstest;

    #[rstest]
    #[case(
        "[    1.2] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
        Some("kernel panic: Attempted to kill init! exitcode=0x00000100")
    )]
    #[case(
        "[   52.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]",
        Some("soft lockup: watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]")
    )]
    #[case("KVM: entry failed, hardware error 0x7", Some("KVM entry failed: hardware error 0x7"))]
    #[case(
        "[ 1.0] BUG: kernel NULL pointer dereference, address: 0000000000000000",
        Some("oops: BUG: kernel NULL pointer dereference, address: 0000000000000000")
    )]
    #[case("[    0.4] Run /init as init process", None)]
    #[case("nonce=Kernel", None)]
    #[case("", None)]
    fn a_line_is_read_for_what_ends_a_guest(#[case] line: &str, #[case] expected: Option<&str>) {
        assert_eq!(symptom_in(line).as_deref(), expected);
    }
}
