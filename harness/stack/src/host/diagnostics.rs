//! Diagnostics of a guest that its QEMU has stopped: the output of that QEMU, and the log of the kernel under it.
//!
//! QEMU reports an internal error of KVM only on its standard error, and KVM's own messages are in the kernel log of the level
//! that runs the QEMU. Both are read with one command, since each command is expensive in a level.

use nestmatrix_vmm::guest::printable;
use serde::{Deserialize, Serialize};

/// How many bytes of a QEMU's output are read: its message and a dump of registers take 3 KiB.
const READ_OUTPUT: usize = 6 << 10;
/// How many last lines of a kernel log are read: those of KVM's dump of a VMCB or VMCS. Some agents are slow to send.
const READ_LINES: usize = 100;
/// How many characters of a line are kept.
const LINE: usize = 400;
/// How many lines of either a symptom quotes.
const QUOTED: usize = 12;

/// The line before QEMU's output in the output of the script.
const QEMU: &str = "nestmatrix-qemu";
/// The line before the kernel log.
const KERNEL: &str = "nestmatrix-kernel";

/// The output of a QEMU, and what the kernel under it has logged since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// Lines of the QEMU's standard error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub qemu: Vec<String>,
    /// Lines of the kernel log, with their time stamps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel: Vec<String>,
    /// That kernel is this machine's, so its lines may be about other QEMUs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kernel_is_shared: bool,
}

impl Diagnostics {
    /// The script that prints them for the process `pid`, whose output is in the file `log`; see [`Diagnostics::parse`].
    pub(crate) fn script(pid: i64, log: &str, with_kernel: bool) -> String {
        let kernel =
            if with_kernel { format!("dmesg 2>/dev/null | tail -n {READ_LINES}") } else { String::new() };
        format!(
            "cat /proc/{pid}/stat 2>/dev/null; echo; echo {QEMU}; tail -c {READ_OUTPUT} {log} 2>/dev/null; echo; echo {KERNEL}; {kernel}"
        )
    }

    /// Reads the output of [`Diagnostics::script`].
    pub(crate) fn parse(printed: &str) -> Self {
        let (stat, rest) = printed.split_once(&format!("{QEMU}\n")).unwrap_or((printed, ""));
        let (qemu, kernel) = rest.split_once(&format!("{KERNEL}\n")).unwrap_or((rest, ""));
        let began = start_in_stat(stat).unwrap_or(0.0);
        let kernel = kernel.lines().filter(|line| time_stamp(line).is_none_or(|time| time >= began));
        Self { qemu: kept(qemu.lines()), kernel: kept(kernel), kernel_is_shared: false }
    }

    /// Whether they are empty.
    pub fn is_empty(&self) -> bool {
        self.qemu.is_empty() && self.kernel.is_empty()
    }

    /// The quote for a symptom: messages without dumps of registers, and the last lines of the kernel.
    #[must_use]
    pub fn quoted(&self) -> Self {
        let messages = self.qemu.iter().filter(|line| !is_of_a_dump(line)).cloned();
        let last = self.kernel.len().saturating_sub(QUOTED);
        let (qemu, kernel) = (messages.take(QUOTED).collect(), self.kernel[last..].to_vec());
        Self { qemu, kernel, kernel_is_shared: self.kernel_is_shared }
    }

    /// The line in which QEMU names the problem. If there are several messages, that of KVM.
    pub fn message(&self) -> Option<&str> {
        let messages = || self.qemu.iter().filter(|line| !is_of_a_dump(line));
        let of_kvm = messages().find(|line| {
            nestmatrix_vmm::guest::symptom_in(line).is_some() || line.contains("kvm run failed")
        });
        of_kvm.or_else(|| messages().next_back()).map(String::as_str)
    }

    /// The kernel's last line about KVM, without its time stamp.
    pub fn kernel_on_kvm(&self) -> Option<&str> {
        let on_kvm = |line: &&String| line.to_ascii_lowercase().contains("kvm");
        let line = self.kernel.iter().rev().find(on_kvm)?;
        Some(line.split_once("] ").map_or(line.as_str(), |(_, message)| message))
    }

    /// All lines about this QEMU and its guest, in which a document's words are searched. Lines of a shared kernel are left
    /// out, because they may be about others.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        let kernel = self.kernel.iter().filter(|_| !self.kernel_is_shared);
        self.qemu.iter().chain(kernel).map(String::as_str)
    }
}

fn kept<'l>(lines: impl Iterator<Item = &'l str>) -> Vec<String> {
    let lines = lines.map(|line| printable(line.trim_end())).filter(|line| !line.is_empty());
    lines.map(|line| line.chars().take(LINE).collect()).collect()
}

/// Whether a line belongs to a dump of registers: `EAX=00000000 EBX=...`, `ES =0000 ...`, `Code=...` (QEMU,
/// `x86_cpu_dump_state`).
fn is_of_a_dump(line: &str) -> bool {
    let name = line.trim_start().split_once('=').map(|(name, _)| name.trim_end());
    let is_register = |name: &str| {
        (1..=4).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    name.is_some_and(|name| is_register(name) || name == "Code")
}

/// When a process was started, in seconds since the boot: field 22 of its `stat`, in hundredths (proc_pid_stat(5)).
fn start_in_stat(stat: &str) -> Option<f64> {
    // The second field is a name in parentheses that the process chooses freely.
    let after_name = stat.rsplit_once(')')?.1;
    let ticks: f64 = after_name.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(ticks / 100.0)
}

/// The time at the start of a line of a kernel log: `[   12.345678] `.
fn time_stamp(line: &str) -> Option<f64> {
    line.strip_prefix('[')?.split_once(']')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PRINTED: &str = "\
131 (qemu-system-x86) S 1 131 131 0 -1 4194560 1 0 0 0 100 20 0 0 20 0 4 0 1234 1000 500
nestmatrix-qemu
qemu-system-x86_64: warning: a feature is not available
KVM internal error. Suberror: 1
emulation failure
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00000f61
ES =0000 00000000 0000ffff 00009300
GDT=     00000000 0000ffff
CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000
Code=00 00 <ff> ff
nestmatrix-kernel
[    3.100000] kvm_amd: Nested Virtualization enabled
[   12.339999] before it was started
[   13.000000] kvm_amd: set kvm_amd.dump_invalid_vmcb=1 to dump internal KVM state.
";

    #[test]
    fn what_qemu_and_the_kernel_around_it_said_since_its_start_is_read() {
        let diagnostics = Diagnostics::parse(PRINTED);
        assert_eq!(diagnostics.qemu.len(), 8);
        assert_eq!(
            diagnostics.kernel,
            ["[   13.000000] kvm_amd: set kvm_amd.dump_invalid_vmcb=1 to dump internal KVM state."]
        );
        assert_eq!(diagnostics.message(), Some("KVM internal error. Suberror: 1"));
        assert_eq!(
            diagnostics.kernel_on_kvm(),
            Some("kvm_amd: set kvm_amd.dump_invalid_vmcb=1 to dump internal KVM state.")
        );
    }

    #[test]
    fn a_symptom_quotes_messages_and_no_registers() {
        let quoted = Diagnostics::parse(PRINTED).quoted();
        assert_eq!(quoted.qemu[1..], ["KVM internal error. Suberror: 1", "emulation failure"]);
        let many = "KVM: entry failed\n".repeat(1000);
        let long = format!("nestmatrix-qemu\n{many}nestmatrix-kernel\n{}\n", "x".repeat(5000));
        let long = Diagnostics::parse(&long).quoted();
        assert_eq!((long.qemu.len(), long.kernel[0].len()), (QUOTED, LINE));
    }

    #[test]
    fn a_documents_words_are_not_looked_for_in_the_log_of_a_shared_kernel() {
        let shared = Diagnostics { kernel_is_shared: true, ..Diagnostics::parse(PRINTED) }.quoted();
        assert!(shared.lines().any(|line| line == "emulation failure"));
        assert!(!shared.lines().any(|line| line.contains("dump_invalid_vmcb")));
        assert!(shared.kernel_on_kvm().is_some(), "a reader is shown it");
    }

    #[rstest]
    #[case::nothing("", true)]
    #[case::no_log("\nnestmatrix-qemu\n\nnestmatrix-kernel\n", true)]
    #[case::no_process("\nnestmatrix-qemu\n\nnestmatrix-kernel\n[ 1.0] kvm: it is said\n", false)]
    fn what_can_not_be_read_is_missing(#[case] printed: &str, #[case] empty: bool) {
        assert_eq!(Diagnostics::parse(printed).is_empty(), empty);
    }

    #[test]
    fn the_script_runs_in_this_machines_shell() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "KVM internal error. Suberror: 3\n").unwrap();
        let script = Diagnostics::script(std::process::id().into(), file.path().to_str().unwrap(), false);
        let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        let diagnostics = Diagnostics::parse(&String::from_utf8_lossy(&output.stdout));
        assert_eq!(diagnostics.lines().collect::<Vec<_>>(), ["KVM internal error. Suberror: 3"]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_level_prints_a_quote_is_short_and_has_no_control_characters(
            printed in "(\\)|[0-9]{1,9} |nestmatrix-qemu\n|nestmatrix-kernel\n|\\[|\\] |EAX=|KVM|\n|[\\x00-\\x1f]|\\PC){0,80}",
        ) {
            let diagnostics = Diagnostics::parse(&printed);
            let quoted = diagnostics.quoted();
            proptest::prop_assert!(quoted.qemu.len() <= QUOTED && quoted.kernel.len() <= QUOTED);
            let _ = (diagnostics.message(), diagnostics.kernel_on_kvm());
            for line in diagnostics.lines() {
                proptest::prop_assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{line:?}");
            }
        }
    }
}
