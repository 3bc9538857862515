//! What a stack came to, short enough to be compared: where it stopped and of what kind the symptom is. What hangs on the
//! moment (times, addresses, last lines) is left out.

use crate::guest::fatal_names;
use crate::scenario::{LevelNumber, Stage};

/// A stop as its record has it.
#[derive(Debug, Clone, Copy)]
pub struct Stopped<'a> {
    /// Where.
    pub stage: Stage,
    /// The level that the symptom is about.
    pub level: Option<LevelNumber>,
    /// What was seen.
    pub symptom: &'a str,
}

/// The outcome in the words of the script (`works`, `stopped` in runtime/end.sh); none if it is of no kind that a script can see.
pub(super) fn of(stop: Option<Stopped<'_>>) -> Option<String> {
    let Some(Stopped { stage, level, symptom }) = stop else { return Some("works".into()) };
    Some(format!("{stage}: {}", kind(level, symptom)?))
}

/// The words of the document that a script must see too, for its outcome to be the same as this one: where a kind has room for
/// many a reason, and they are among what was said and not among what the harness says of it.
pub(super) fn wanted<'a>(stop: Stopped<'_>, documented: &'a str) -> Option<&'a str> {
    let kind = kind(stop.level, stop.symptom)?;
    let (_, said) = stop.symptom.split_once(": ")?;
    let of_many_reasons = kind.ends_with(": QEMU ended")
        || kind == "another exit status"
        || fatal_names().any(|name| kind.ends_with(&format!(": {name}")));
    (of_many_reasons && said.contains(documented)).then_some(documented)
}

fn kind(level: Option<LevelNumber>, symptom: &str) -> Option<String> {
    let of_level = |kind: &str| level.map(|level| format!("{}: {kind}", word(level)));
    for what in ["missing CPU feature: ", "missing machine property: "] {
        if let Some((name, _)) = symptom.strip_prefix(what).and_then(|rest| rest.split_once(" (")) {
            return Some(format!("{what}{name}"));
        }
    }
    if let Some((name, _)) = fatal_names().map(|name| (name, symptom.strip_prefix(name))).find(
        // Nothing, or what was said, comes behind the name.
        |(_, rest)| rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':')),
    ) {
        return of_level(name);
    }
    if let Some((subject, rest)) = symptom.split_once(' ') {
        let subject = subject.strip_suffix("'s").unwrap_or(subject);
        let about = LevelNumber::ALL.into_iter().find(|level| level.to_string() == subject);
        let about = |kind: &str| about.map(|level| format!("{}: {kind}", word(level)));
        let of_subject: [(&str, &str); 7] = [
            ("QEMU does not run it with KVM", "not run with KVM"),
            ("has no usable /dev/kvm", "no usable /dev/kvm"),
            ("QEMU stopped it", "stopped by QEMU"),
            ("QEMU exited", "QEMU ended"),
            ("QEMU was", "QEMU ended"),
            ("QEMU aborted", "QEMU ended"),
            ("QEMU crashed", "QEMU ended"),
        ];
        let kind = of_subject.into_iter().find(|(said, _)| rest.starts_with(said)).map(|(_, kind)| kind);
        let kind = kind.or(rest.starts_with("shut down before its work was done").then_some("shut down"));
        if let Some(kind) = kind {
            return about(kind);
        }
    }
    let anywhere = [
        ("the guest panicked", "the guest panicked"),
        (" gave back nonce ", "another nonce"),
        (" says that its hypervisor is ", "another hypervisor"),
        ("no progress for ", "not done in time"),
        ("busy, but not done after ", "not done in time"),
        (": it exited with status ", "another exit status"),
        (" is not in its output", "another output"),
    ];
    let (_, kind) = anywhere.into_iter().find(|(said, _)| symptom.contains(said))?;
    if kind == "the guest panicked" { of_level(kind) } else { Some(kind.to_owned()) }
}

/// As the script calls a level: `l1`.
pub(super) fn word(level: LevelNumber) -> String {
    level.to_string().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "l1-launch",
        "missing CPU feature: svm (model host); kvm_amd of L0 has nested=0",
        Some("l1-launch: missing CPU feature: svm")
    )]
    #[case(
        "l2-launch",
        "missing machine property: cap-nested-hv (pseries-10.0-machine)",
        Some("l2-launch: missing machine property: cap-nested-hv")
    )]
    #[case("l2-boot", "kernel panic: Attempted to kill init!", Some("l2-boot: l1: kernel panic"))]
    #[case("l2-boot", "oops: Oops: 0000 [#1]", Some("l2-boot: l1: oops"))]
    #[case("l2-boot", "L1's QEMU was killed (SIGKILL)", Some("l2-boot: l1: QEMU ended"))]
    #[case("l2-boot", "L2's QEMU stopped it (internal-error)", Some("l2-boot: l2: stopped by QEMU"))]
    #[case(
        "l2-launch",
        "L2's QEMU does not run it with KVM (query-kvm: enabled is false)",
        Some("l2-launch: l2: not run with KVM")
    )]
    #[case(
        "l1-kvm",
        "L1 has no usable /dev/kvm (kvm_amd is not loaded)",
        Some("l1-kvm: l1: no usable /dev/kvm")
    )]
    #[case("step-1", "the second L1 has no usable /dev/kvm", None)]
    #[case(
        "l2-boot",
        "no progress for 91 s, last line \"kernel panic: of another\"",
        Some("l2-boot: not done in time")
    )]
    #[case(
        "step-2",
        "unload on L0: it exited with status 1, it should not fail; it printed \"\"",
        Some("step-2: another exit status")
    )]
    #[case("l1-boot", "agent of L1 did not answer", None)]
    fn a_symptom_is_of_a_kind(#[case] stage: &str, #[case] symptom: &str, #[case] expected: Option<&str>) {
        let level = LevelNumber::new(1);
        let stop = Stopped { stage: stage.parse().unwrap(), level, symptom };
        assert_eq!(of(Some(stop)).as_deref(), expected);
    }

    #[rstest]
    #[case("L1's QEMU exited with status 1: qemu: KVM does not support it", "KVM does not support it", true)]
    #[case("unload on L0: it exited with status 1, it should not fail", "it exited with status 1", true)]
    #[case("kernel panic: Attempted to kill init!", "Attempted to kill", true)]
    // The kind says it already.
    #[case("missing CPU feature: svm (model host)", "svm", false)]
    #[case("kernel panic: Attempted to kill init!", "kernel panic", false)]
    // A script does not see what the harness finds out.
    #[case("missing CPU feature: svm (model host); kvm_amd of L0 has nested=0", "nested=0", false)]
    #[case("L1's QEMU exited with status 1: cannot allocate memory", "KVM does not support it", false)]
    #[case("agent of L1 did not answer: svm", "svm", false)]
    fn words_of_the_document_are_wanted_where_they_were_said(
        #[case] symptom: &str,
        #[case] documented: &str,
        #[case] expected: bool,
    ) {
        let stop = Stopped { stage: "l1-launch".parse().unwrap(), level: LevelNumber::new(1), symptom };
        assert_eq!(wanted(stop, documented), expected.then_some(documented));
    }

    #[test]
    fn a_stack_that_came_to_its_end_works() {
        assert_eq!(of(None).as_deref(), Some("works"));
    }
}
