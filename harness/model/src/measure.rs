//! Measurements: the same benchmark in several levels of a stack, the ratio that a document expects of them, and the table of
//! benchmarks.

use serde::{Deserialize, Serialize};

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
    /// Exits of a guest of the level, which is a test of the user's suite.
    Vmexit,
}

impl Word for Benchmark {
    const WHAT: &'static str = "benchmark";
    const ALL: &'static [Self] = &[Self::SystemCall, Self::PageFault, Self::Exit, Self::Disk, Self::Vmexit];

    fn word(self) -> &'static str {
        match self {
            Self::SystemCall => "system-call",
            Self::PageFault => "page-fault",
            Self::Exit => "exit",
            Self::Disk => "disk",
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
        /// The command, which runs for about a second.
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

/// Where the figure is in the output of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigurePlace {
    /// In the line that has this word: the number at this place after the word, from 0. At least `of` numbers follow the word.
    AfterWord {
        /// The word.
        word: &'static str,
        /// The place.
        place: usize,
        /// How many numbers follow at least.
        of: usize,
    },
    /// In a line of at least `of` numbers and nothing else: the one at this place, from 0.
    InNumbers {
        /// The place.
        place: usize,
        /// How many numbers there are at least.
        of: usize,
    },
}

/// In a line of stress-ng's metrics, the name of the stressor is followed by operations, real, user and system time, and operations a
/// second by the real time and by the CPU time.
const fn stress_ng(stressor: &'static str) -> FigurePlace {
    FigurePlace::AfterWord { word: stressor, place: 4, of: 6 }
}

const STRESS_NG: &str = "stress-ng";
const STRESS_NG_VERSION: &str = "stress-ng --version";

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
                    command: "ioping -D -B -q -i 0 -w 1 /dev/nvme0n1",
                    // The number of requests, the time that they took, requests a second, and so on (ioping(1), "Raw statistics").
                    figure: FigurePlace::InNumbers { place: 2, of: 8 },
                },
                device: Some(crate::Device::Nvme),
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

impl FigurePlace {
    /// The figure in this output, if it is there once.
    pub fn figure_in(self, output: &str) -> Option<f64> {
        let numbers = |words: &[&str]| -> Option<Vec<f64>> {
            words.iter().map(|word| word.parse::<f64>().ok().filter(|number| number.is_finite())).collect()
        };
        let of_line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (words, place, of) = match self {
                Self::AfterWord { word, place, of } => {
                    let at = words.iter().position(|one| *one == word)?;
                    (words.get(at + 1..at + 1 + of)?.to_vec(), place, of)
                }
                Self::InNumbers { place, of } => (words, place, of),
            };
            let numbers = numbers(&words).filter(|numbers| numbers.len() >= of)?;
            numbers.get(place).copied()
        };
        let mut figures = output.lines().filter_map(of_line);
        let figure = figures.next()?;
        figures.next().is_none().then_some(figure)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const OF_0_15: &str = "\
stress-ng: info:  [1] dispatching hogs: 1 null
stress-ng: metrc: [1] stressor       bogo ops real time  usr time  sys time   bogo ops/s     bogo ops/s
stress-ng: metrc: [1]                           (secs)    (secs)    (secs)   (real time) (usr+sys time)
stress-ng: metrc: [1] null              20000      0.30      0.02      0.09     66765.16      177973.94
stress-ng: metrc: [1] miscellaneous metrics:
stress-ng: metrc: [1] null               6465.92 MB per sec /dev/null write rate (geometic mean of 1 instances)
stress-ng: info:  [1] successful run completed in 0.31s";

    fn figure(benchmark: Benchmark, output: &str) -> Option<f64> {
        let BenchmarkTool::Program { figure, .. } = benchmark.info().tool else { panic!("{benchmark}") };
        figure.figure_in(output)
    }

    #[rstest]
    #[case(OF_0_15, Some(66765.16))]
    // Versions 0.12 and before.
    #[case("stress-ng: info:  [9] null  100  1.00  0.1  0.9  100.00  101.00", Some(100.0))]
    #[case("stress-ng: metrc: [1] null  20000  0.30  0.02", None)]
    #[case("stress-ng: metrc: [1] null  20000  0.30  0.02  0.09  nan  1.0", None)]
    #[case("", None)]
    fn the_figure_of_stress_ng_is_found(#[case] output: &str, #[case] expected: Option<f64>) {
        assert_eq!(figure(Benchmark::SystemCall, output), expected);
    }

    #[test]
    fn two_figures_are_none() {
        let line = "null 1 1 1 1 50 1\n";
        assert_eq!(figure(Benchmark::SystemCall, line), Some(50.0));
        assert_eq!(figure(Benchmark::SystemCall, &line.repeat(2)), None);
    }

    #[test]
    fn the_figure_of_ioping_is_found() {
        let output = "841934 638293688 1319039 5402782025 245 758 18011672 51550 841935 1010723069\n";
        assert_eq!(figure(Benchmark::Disk, output), Some(1_319_039.0));
        assert_eq!(figure(Benchmark::Disk, "ioping: failed to open"), None);
    }

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
