//! QEMU's messages when it refuses its command line, before it has run anything.
//!
//! Such a message is about the command line and says nothing about nesting.

/// Messages of a QEMU that does not understand its command line (QEMU: system/vl.c, qom/object.c,
/// qom/qom-qobject.c, hw/core/qdev-properties.c, util/qemu-option.c, hw/core/machine.c, hw/core/loader.c). They
/// are compared in lower case.
const REJECTIONS: &[&str] = &[
    "invalid option",
    "requires an argument",
    "unsupported machine type",
    "is not a valid device model name",
    "invalid parameter",
    "unable to find cpu model",
    "invalid cpu model",
    "invalid cpu type",
    "bus found for device",
    "could not load",
    "could not find",
    "' not found",
    "is unexpected",
    "expects a ",
    "drive with bus=",
    "invalid accelerator",
];

/// Messages of a QEMU that refuses to load a kernel.
const KERNEL_REFUSALS: &[&str] = &["could not load kernel", "invalid kernel header", "could not load"];

/// Messages of a QEMU that ends because memory, a file or an address is not available (libc's strerror, QEMU:
/// system/physmem.c, block/file-posix.c, chardev/).
const RESOURCES: &[&str] = &[
    "cannot allocate memory",
    "cannot set up guest memory",
    "no space left on device",
    "too many open files",
    "address already in use",
    "failed to get \"write\" lock",
    "could not open '",
];

/// Whether `said`, which a QEMU printed before it ended, reports a missing resource.
pub fn ran_out_of_resources(said: &str) -> bool {
    has_one_of(said, RESOURCES)
}

/// Whether `said`, which a QEMU printed before it ended, is a refusal of its command line.
pub fn rejects_command_line(said: &str) -> bool {
    has_one_of(said, REJECTIONS)
}

/// Whether `said` is a refusal to load a kernel.
pub fn rejects_kernel(said: &str) -> bool {
    has_one_of(said, KERNEL_REFUSALS)
}

fn has_one_of(said: &str, texts: &[&str]) -> bool {
    let said = said.to_lowercase();
    texts.iter().any(|text| said.contains(text))
}

/// Whether `said` contains one of these words of a command line as a whole word.
pub fn names_one_of<'a>(said: &str, words: impl IntoIterator<Item = &'a str>) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    words.into_iter().filter(|word| !word.is_empty()).any(|word| {
        said.match_indices(word).any(|(at, _)| {
            let before = said[..at].chars().next_back();
            let after = said[at + word.len()..].chars().next();
            !before.is_some_and(is_part) && !after.is_some_and(is_part)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("qemu-system-x86_64: Property 'pc-q35-10.0-machine.bogus' not found", true)]
    #[case("qemu-system-x86_64: unsupported machine type 'microvm'", true)]
    #[case("qemu-system-x86_64: -machine microvm: unsupported machine type: \"microvm\"", true)]
    #[case("qemu-system-x86_64: unable to find CPU model 'EPYC-Rome'", true)]
    #[case("qemu: could not load kernel '/run/nest/l1-kernel'", true)]
    #[case("qemu-system-ppc64: Nested-HV only supported on POWER9 and later", false)]
    #[case("KVM does not support providing Virtualization extensions to the guest CPU", false)]
    #[case("qemu-system-ppc64: IRQ_XIVE capability must be present for KVM", false)]
    #[case("", false)]
    fn what_qemu_does_not_understand_is_no_refusal_of_kvm(#[case] said: &str, #[case] rejected: bool) {
        assert_eq!(rejects_command_line(said), rejected);
    }

    #[rstest]
    #[case("qemu-system-x86_64: cannot set up guest memory 'ram': Cannot allocate memory", true)]
    #[case("qemu-system-x86_64: -drive file=/x: Could not open '/x': No such file or directory", true)]
    #[case("Could not access KVM kernel module: No such file or directory", false)]
    #[case("qemu-system-x86_64: failed to initialize kvm: No such device", false)]
    fn a_missing_resource_is_no_refusal_of_kvm(#[case] said: &str, #[case] missing: bool) {
        assert_eq!(ran_out_of_resources(said), missing);
    }

    #[test]
    fn a_word_is_named_as_a_whole() {
        let said = "Property 'pc-q35-10.0-machine.bogus' not found";
        assert!(names_one_of(said, ["bogus"]));
        assert!(!names_one_of(said, ["bog", "machine.b"]));
        assert!(!names_one_of("Property 'pc.cap-nested-hv-x' not found", ["cap-nested-hv"]));
        assert!(!names_one_of(said, [""]));
    }
}
