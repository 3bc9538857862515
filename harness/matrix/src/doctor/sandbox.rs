//! Tries the sandbox of emulators on this machine: a shell enters it and does nothing, and the report says what was in force.

use std::path::{Path, PathBuf};

use nestmatrix_vmm::qemu::ExecWrapper;
use nestmatrix_vmm::sandbox::{Confinement, Enforced, SYSTEM};

/// Limits that any shell meets, in MiB.
const LIMIT_MIB: u64 = 4 << 10;

/// Where a kernel with filters of system calls says what they can do (seccomp(2)).
const SECCOMP: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// What this machine offers to confine emulators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SandboxTrial {
    /// It was tried.
    Entered {
        /// What was in force.
        enforced: Enforced,
        /// Whether the kernel has filters of system calls, which QEMU then sets itself.
        seccomp: bool,
    },
    /// The user has switched it off.
    Off,
    /// It can't be entered, for this reason.
    Failed(String),
}

impl SandboxTrial {
    /// Tries it.
    pub async fn of_this_machine(wrapper: &ExecWrapper) -> Self {
        if !wrapper.has_sandbox() {
            return Self::Off;
        }
        match enter(wrapper).await {
            Ok(enforced) => Self::Entered { enforced, seccomp: Path::new(SECCOMP).exists() },
            Err(why) => Self::Failed(why),
        }
    }
}

async fn enter(wrapper: &ExecWrapper) -> Result<Enforced, String> {
    let folder = tempfile::tempdir().map_err(|e| format!("no folder for its report: {e}"))?;
    let report = folder.path().join("report");
    let wrapper = wrapper.confined(&Confinement {
        read: SYSTEM.iter().map(PathBuf::from).collect(),
        report: Some(report.clone()),
        address_space_mib: LIMIT_MIB,
        file_size_mib: LIMIT_MIB,
        ..Confinement::default()
    });
    let (first, words) = wrapper.words().split_first().ok_or("it has no command")?;
    let mut command = tokio::process::Command::new(first);
    let command = command.args(words).args(["/bin/sh", "-c", ":"]).stdin(std::process::Stdio::null());
    let output = command.kill_on_drop(true).output().await.map_err(|e| e.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} ({})", said.trim(), output.status));
    }
    let text = std::fs::read_to_string(&report).map_err(|e| format!("its report can't be read: {e}"))?;
    serde_json::from_str(&text).map_err(|e| format!("its report can't be read: {e}"))
}
