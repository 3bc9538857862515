//! What a check finds in a host, and what to do about it. The checks themselves are in `checks`.

use nestmatrix_stack::Metal;
use serde::{Serialize, Serializer};

/// What is checked. Its word is the finding's stable id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Check {
    /// The instruction set of the machine.
    InstructionSet,
    /// The vendor or model of its processor.
    Processor,
    /// The CPU flags that the documents require.
    CpuFlags,
    /// The machine is not itself a guest.
    BareMetal,
    /// KVM's module for the architecture.
    KvmModule,
    /// /dev/kvm exists.
    KvmDevice,
    /// The user may open it.
    KvmPermission,
    /// The module's parameter that enables nesting.
    NestedParameter,
    /// The parameter is still set after a reboot.
    NestedPersistent,
    /// Huge pages do not rule out nesting.
    HugePages,
    /// KVM has run a guest.
    KvmProof,
    /// The installed QEMU.
    Qemu,
    /// The operating system.
    System,
    /// Memory for a stack.
    Memory,
    /// Disk space for images and snapshots.
    Disk,
    /// apt, which builds images of Debian packages.
    Apt,
    /// The user's sources of RPM packages, and the tools that read them.
    Sources,
    /// The user's media.
    Media,
    /// The emulator that plays the bare machine.
    Emulator,
    /// The sandbox in which emulators run.
    Sandbox,
    /// The images that the levels boot.
    Images,
}

impl Check {
    /// Every check, in the order of the findings.
    pub const ALL: [Self; 21] = [
        Self::InstructionSet,
        Self::Processor,
        Self::CpuFlags,
        Self::BareMetal,
        Self::KvmModule,
        Self::KvmDevice,
        Self::KvmPermission,
        Self::NestedParameter,
        Self::NestedPersistent,
        Self::HugePages,
        Self::KvmProof,
        Self::Qemu,
        Self::System,
        Self::Memory,
        Self::Disk,
        Self::Apt,
        Self::Sources,
        Self::Media,
        Self::Emulator,
        Self::Sandbox,
        Self::Images,
    ];

    /// Its id.
    pub fn word(self) -> &'static str {
        match self {
            Self::InstructionSet => "instruction-set",
            Self::Processor => "processor",
            Self::CpuFlags => "cpu-flags",
            Self::BareMetal => "bare-metal",
            Self::KvmModule => "kvm-module",
            Self::KvmDevice => "kvm-device",
            Self::KvmPermission => "kvm-permission",
            Self::NestedParameter => "nested-parameter",
            Self::NestedPersistent => "nested-persistent",
            Self::HugePages => "huge-pages",
            Self::KvmProof => "kvm-proof",
            Self::Qemu => "qemu",
            Self::System => "system",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Apt => "apt",
            Self::Sources => "sources",
            Self::Media => "media",
            Self::Emulator => "emulator",
            Self::Sandbox => "sandbox",
            Self::Images => "images",
        }
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The requirement is met.
    Ok,
    /// Stacks run, with the restriction that the finding describes.
    Warning,
    /// A requirement is missing: no stack runs on the metal that the finding names.
    #[serde(rename = "lacking")]
    Missing,
    /// The check does not apply here, or was not possible.
    NotApplicable,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// Whether the requirement is met.
    pub status: Status,
    /// What was found, on one line.
    pub found: String,
    /// The metal on which no stack can run because of this.
    pub prevents: Vec<Metal>,
    /// What to do, if commands alone do not say it.
    pub advice: Option<String>,
    /// The commands that fix it, in order.
    #[serde(rename = "mend")]
    pub fix: Vec<String>,
    /// The claims of the documents that require it, as `DOCUMENT/CLAIM`.
    pub claims: Vec<String>,
}

impl Finding {
    fn new(check: Check, status: Status, found: impl Into<String>) -> Self {
        let found = found.into();
        Self { check, status, found, prevents: Vec::new(), advice: None, fix: Vec::new(), claims: Vec::new() }
    }

    pub(super) fn ok(check: Check, found: impl Into<String>) -> Self {
        Self::new(check, Status::Ok, found)
    }

    pub(super) fn warning(check: Check, found: impl Into<String>) -> Self {
        Self::new(check, Status::Warning, found)
    }

    pub(super) fn not_applicable(check: Check, found: impl Into<String>) -> Self {
        Self::new(check, Status::NotApplicable, found)
    }

    pub(super) fn missing(check: Check, prevents: &[Metal], found: impl Into<String>) -> Self {
        Self { prevents: prevents.to_vec(), ..Self::new(check, Status::Missing, found) }
    }

    pub(super) fn by(mut self, claims: impl IntoIterator<Item = String>) -> Self {
        self.claims.extend(claims);
        self
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    pub(super) fn fixed_by(mut self, commands: impl IntoIterator<Item = String>) -> Self {
        self.fix.extend(commands);
        self
    }
}
