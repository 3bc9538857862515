//! Measurements: the same benchmark in several levels of a stack, the ratio that a document expects of them, and the table of
//! benchmarks.

use serde::{Deserialize, Serialize};

use crate::figure_place::FigurePlace;
use crate::level::LevelNumber;
use crate::suite::SuiteKind;
use crate::word::Word;
use crate::word_traits;

/// A benchmark that a step runs in several levels, and what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measure {
    /// The benchmark.
    #[serde(rename = "measure")]
    pub benchmark: Benchmark,
    /// The levels that the step's level is compared with.
    pub against: Vec<LevelNumber>,
    /// How many times each level is measured.
    pub times: u32,
    /// The ratio that is expected, if the step judges one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<ExpectedRatio>,
}

impl Measure {
    /// The fewest rounds that allow a verdict. With five, the median lies outside the smallest and largest ratio once in 16 times.
    pub const FEWEST_JUDGED: u32 = 6;
}

/// The performance that is expected of the step's level, in percent of that of another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExpectedRatio {
    /// The other level.
    pub of: LevelNumber,
    /// It is at least as good as this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least_percent: Option<u32>,
    /// It is at most as good as this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most_percent: Option<u32>,
    /// Where this is said.
    pub reference: String,
}

impl ExpectedRatio {
    /// As words after the name of the level: `at least 50 % of L1`.
    pub fn words(&self) -> String {
        let bound = |words: &str, percent: Option<u32>| Some(format!("{words} {} %", percent?));
        let bounds = [bound("at least", self.at_least_percent), bound("at most", self.at_most_percent)];
        let bounds: Vec<String> = bounds.into_iter().flatten().collect();
        format!("{} of {}", bounds.join(" and "), self.of)
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Benchmark {
    /// System calls: writing to `/dev/null`.
    SystemCall,
    /// First accesses to memory.
    PageFault,
    /// Instructions that make the level exit to its hypervisor.
    Exit,
    /// Reads of a disk.
    Disk,
    /// Bytes to the other side of a network card.
    Network,
    /// Questions to the other side of a network card that are answered.
    NetworkRoundTrip,
    /// Exits of a guest of the level, which is a test of the user's suite.
    Vmexit,
}

impl Word for Benchmark {
    const WHAT: &'static str = "benchmark";
    const ALL: &'static [Self] = &[
        Self::SystemCall,
        Self::PageFault,
        Self::Exit,
        Self::Disk,
        Self::Network,
        Self::NetworkRoundTrip,
        Self::Vmexit,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::SystemCall => "system-call",
            Self::PageFault => "page-fault",
            Self::Exit => "exit",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::NetworkRoundTrip => "network-round-trip",
            Self::Vmexit => "vmexit",
        }
    }
}
word_traits!(Benchmark);

/// What measures a benchmark, and what its figures mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BenchmarkInfo {
    /// What it measures, for people.
    pub title: &'static str,
    /// The unit of its figures.
    pub unit: &'static str,
    /// Which figures are better.
    pub better: Better,
    /// What measures it.
    pub tool: BenchmarkTool,
    /// A device that each measured level must have, if it needs one.
    pub device: Option<crate::Device>,
}

/// Which figures of a benchmark are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Better {
    /// Larger ones, such as operations in a second.
    Higher,
    /// Smaller ones, such as cycles of an operation.
    Lower,
}

impl Word for Better {
    const WHAT: &'static str = "direction";
    const ALL: &'static [Self] = &[Self::Higher, Self::Lower];

    fn word(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
        }
    }
}
word_traits!(Better);

/// What measures a benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchmarkTool {
    /// A program of the distribution, which the addition `benchmarks` brings to an image.
    Program {
        /// Its name.
        name: &'static str,
        /// The command that prints its version.
        version: &'static str,
        /// What makes the level ready for it, if anything.
        prepare: Option<&'static str>,
        /// What makes the level around ready for it, if anything. It is not run on this machine.
        prepare_around: Option<&'static str>,
        /// The command, which runs for about a second. If its figure is a rate, it may call `now`, which sets `now` to the nanoseconds of
        /// the level's clock.
        command: &'static str,
        /// Where the figure is in its output.
        figure: FigurePlace,
    },
    /// The shell's loop with which a guest of the architecture exits to its hypervisor.
    ExitLoop,
    /// A test of a suite that the user built, as a guest of the level.
    Test {
        /// The suite.
        suite: SuiteKind,
        /// The test.
        test: &'static str,
        /// The word before the figure in its output.
        figure: &'static str,
    },
}

/// In a line of stress-ng's metrics, the name of the stressor is followed by operations, real, user and system time, and operations a
/// second by the real time and by the CPU time.
const fn stress_ng(stressor: &'static str) -> FigurePlace {
    FigurePlace::AfterWord { word: stressor, place: 4, of: 6 }
}

const STRESS_NG: &str = "stress-ng";
const STRESS_NG_VERSION: &str = "stress-ng --version";

const BUSYBOX: &str = "busybox";
/// Its other lines are many, for the console of an innermost level.
const BUSYBOX_VERSION: &str = "busybox | busybox head -n 1";
/// Gives the card of `virtio-net-sink`, which has this address, an address in its network. The kernel finds the card in the background.
const SINK_CARD: &str = r#"modprobe virtio_pci 2>/dev/null; modprobe virtio_net 2>/dev/null
for i in 1 2 3 4 5 6 7 8 9; do
  for a in /sys/class/net/*/address; do
    m=; read -r m <"$a"; [ "$m" = 52:54:00:6e:65:74 ] || continue
    c=${a%/address}; busybox ifconfig "${c##*/}" 10.0.9.15 netmask 255.255.255.0 up && break 2
  done; sleep 1
done"#;
/// QEMU talks to the process that counts through the loopback device, which the level's init leaves off.
const LOOPBACK: &str = "busybox ifconfig lo 127.0.0.1 up";
/// Sends for a second, and prints the kilobytes that arrived and the time until the other side said how many.
const SEND: &str = r#"{ now; start=$now
got=$(busybox timeout 1 busybox dd if=/dev/zero bs=64k 2>/dev/null | busybox nc 10.0.9.100 9 2>&1)
now; [ "$got" -gt 0 ] && echo rate $((got / 1000)) $((now - start)) || { echo "$got"; false; }; }"#;

impl Benchmark {
    /// The entry of the table of benchmarks.
    pub const fn info(self) -> BenchmarkInfo {
        match self {
            Self::SystemCall => BenchmarkInfo {
                title: "system calls (writes to /dev/null)",
                unit: "operations/s",
                better: Better::Higher,
                tool: BenchmarkTool::Program {
                    name: STRESS_NG,
                    version: STRESS_NG_VERSION,
                    prepare: None,
                    prepare_around: None,
                    command: "stress-ng --null 1 --timeout 1 --metrics-brief",
                    figure: stress_ng("null"),
                },
                device: None,
            },
            Self::PageFault => BenchmarkInfo {
                title: "page faults (first accesses to memory)",
                unit: "operations/s",
                better: Better::Higher,
                tool: BenchmarkTool::Program {
                    name: STRESS_NG,
                    version: STRESS_NG_VERSION,
                    prepare: None,
                    prepare_around: None,
                    command: "stress-ng --fault 1 --timeout 1 --metrics-brief",
                    figure: stress_ng("fault"),
                },
                device: None,
            },
            Self::Exit => BenchmarkInfo {
                title: "exits to the hypervisor",
                unit: "exits/s",
                better: Better::Higher,
                tool: BenchmarkTool::ExitLoop,
                device: None,
            },
            Self::Disk => BenchmarkInfo {
                title: "reads of 4 KiB from an NVMe drive",
                unit: "reads/s",
                better: Better::Higher,
                tool: BenchmarkTool::Program {
                    name: "ioping",
                    version: "ioping -v",
                    // The kernel finds the drive in the background.
                    prepare: Some(
                        "modprobe nvme; for i in 1 2 3 4 5 6 7 8 9; do [ -b /dev/nvme0n1 ] && break; sleep 1; done",
                    ),
                    prepare_around: None,
                    command: "ioping -D -B -q -i 0 -w 1 /dev/nvme0n1",
                    // The number of requests, the time that they took, requests a second, and so on (ioping(1), "Raw statistics").
                    figure: FigurePlace::InNumbers { place: 2, of: 8 },
                },
                device: Some(crate::Device::Nvme),
            },
            Self::Network => BenchmarkInfo {
                title: "bytes to the other side of a network card",
                unit: "kB/s",
                better: Better::Higher,
                tool: BenchmarkTool::Program {
                    name: BUSYBOX,
                    version: BUSYBOX_VERSION,
                    prepare: Some(SINK_CARD),
                    prepare_around: Some(LOOPBACK),
                    command: SEND,
                    figure: FigurePlace::Rate,
                },
                device: Some(crate::Device::VirtioNetSink),
            },
            Self::NetworkRoundTrip => BenchmarkInfo {
                title: "round trips to the other side of a network card",
                unit: "round trips/s",
                better: Better::Higher,
                tool: BenchmarkTool::Program {
                    name: BUSYBOX,
                    version: BUSYBOX_VERSION,
                    prepare: Some(SINK_CARD),
                    prepare_around: None,
                    // A new packet as soon as the last one is answered. QEMU answers itself.
                    command: "busybox ping -A -q -w 1 10.0.9.2",
                    // `1234 packets transmitted, 1233 packets received, 0% packet loss`
                    figure: FigurePlace::AfterWord { word: "transmitted,", place: 0, of: 1 },
                },
                device: Some(crate::Device::VirtioNetSink),
            },
            Self::Vmexit => BenchmarkInfo {
                title: "exits of a guest (CPUID)",
                unit: "cycles",
                better: Better::Lower,
                tool: BenchmarkTool::Test {
                    suite: SuiteKind::KvmUnitTests,
                    test: "vmexit_cpuid",
                    figure: "cpuid",
                },
                device: None,
            },
        }
    }

    /// Whether its program is in an addition to the images of the measured levels.
    pub const fn needs_addition(self) -> bool {
        matches!(self.info().tool, BenchmarkTool::Program { .. })
    }

    /// The suite that has its test, if it is one.
    pub const fn suite(self) -> Option<SuiteKind> {
        match self.info().tool {
            BenchmarkTool::Test { suite, .. } => Some(suite),
            BenchmarkTool::Program { .. } | BenchmarkTool::ExitLoop => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_has_the_words_of_a_scenario() {
        let text = r#"{"measure": "system-call", "against": ["l1"], "times": 6,
            "expect": {"of": "l1", "at-least-percent": 50, "reference": "x"}}"#;
        let measure: Measure = serde_json::from_str(text).unwrap();
        assert_eq!(measure.expect.as_ref().unwrap().words(), "at least 50 % of L1");
        assert_eq!(
            serde_json::from_str::<Measure>(&serde_json::to_string(&measure).unwrap()).unwrap(),
            measure
        );
    }
}
