//! The machine of a run: what its record says about it, and what is free on it now.

use nestmatrix_stack::host::system_id;
use serde::{Deserialize, Serialize};

/// This machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Its system by its os-release: `debian 12`.
    pub system: String,
    /// Processor model.
    pub processor: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Machine {
    /// This machine. What can't be read is empty or 0.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str, separator: char| {
            let line =
                text.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(separator));
            line.unwrap_or_default().trim().trim_matches('"').to_owned()
        };
        let release = read("/etc/os-release");
        let [id, name] = ["ID", "NAME"].map(|key| value(&release, key, '='));
        let memory = value(&read("/proc/meminfo"), "MemTotal", ':');
        let kib: u64 = memory.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: format!("{} {}", system_id(&id, &name), value(&release, "VERSION_ID", '='))
                .trim()
                .to_owned(),
            processor: value(&read("/proc/cpuinfo"), "model name", ':'),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib / 1024,
        }
    }

    /// Memory in MiB that programs may still take now; all of it if that can't be read.
    pub fn available_memory_mib(&self) -> u64 {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = available.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.map_or(self.memory_mib, |kib| kib / 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty(), "{machine:?}");
    }
}
