//! The kernel that a level boots after its own has panicked (kdump).

/// What such a kernel needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashKernel {
    /// The memory that is reserved for it, in MiB, unless the scenario says otherwise.
    pub memory_mib: u32,
    /// Where that memory begins, in MiB, if the level's kernel must not choose the place.
    pub offset_mib: Option<u32>,
    /// Its kernel parameters, after those of the level.
    pub parameters: &'static str,
}

impl CrashKernel {
    /// The kernel parameter of a level that reserves this much memory, in MiB.
    pub fn reservation(&self, memory_mib: u32) -> String {
        let offset = self.offset_mib.map_or(String::new(), |offset| format!("@{offset}M"));
        format!("crashkernel={memory_mib}M{offset}")
    }
}
