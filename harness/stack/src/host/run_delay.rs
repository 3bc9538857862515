//! How long a process had to wait for a CPU that other processes used.

use std::path::PathBuf;
use std::time::Duration;

/// The waits of a process of this machine.
#[derive(Debug, Clone)]
pub struct RunDelay {
    threads: PathBuf,
}

impl RunDelay {
    /// The waits of the process `id`.
    pub fn of(id: i32) -> Self {
        Self { threads: format!("/proc/{id}/task").into() }
    }

    /// The longest wait of any of its threads so far: an emulated processor is one thread. Zero if the kernel does not count it, or
    /// the process is gone.
    pub fn so_far(&self) -> Duration {
        let threads = std::fs::read_dir(&self.threads).into_iter().flatten().flatten();
        let waits = threads.filter_map(|thread| {
            let statistics = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            waited_in(&statistics)
        });
        waits.max().unwrap_or_default()
    }
}

/// The second field of a schedstat file (Linux, Documentation/scheduler/sched-stats): nanoseconds on the run queue.
fn waited_in(statistics: &str) -> Option<Duration> {
    statistics.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_the_second_field() {
        assert_eq!(waited_in("146987 105405 2\n"), Some(Duration::from_nanos(105_405)));
        assert_eq!(waited_in(""), None);
    }

    #[test]
    fn this_process_has_waits_and_one_that_is_gone_has_none() {
        let own = RunDelay::of(std::process::id().try_into().unwrap());
        assert!(own.threads.is_dir());
        let before = own.so_far();
        assert!(own.so_far() >= before);
        assert_eq!(RunDelay::of(i32::MAX).so_far(), Duration::ZERO);
    }
}
