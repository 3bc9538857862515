//! Where the figure of a benchmark is in what its program prints.

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
    /// The line `rate COUNT NANOSECONDS`: how many in a second.
    Rate,
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
                Self::Rate => {
                    let ["rate", count, nanoseconds] = words[..] else { return None };
                    let numbers = numbers(&[count, nanoseconds])?;
                    return Some((numbers[0] / numbers[1] * 1e9).round()).filter(|rate| rate.is_finite());
                }
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

    use crate::{Benchmark, BenchmarkTool};

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

    #[rstest]
    #[case("rate 206573 1026000000\n", Some(201_338.0))]
    #[case("rate 5 0", None)]
    #[case("rate 5", None)]
    #[case("rate x 1000000000", None)]
    #[case("nc: can't connect to remote host (10.0.9.100): Network is unreachable", None)]
    fn the_rate_of_a_transfer_is_found(#[case] output: &str, #[case] expected: Option<f64>) {
        assert_eq!(figure(Benchmark::Network, output), expected);
    }

    #[rstest]
    #[case("4096 packets transmitted, 4095 packets received, 0% packet loss", Some(4095.0))]
    #[case("5 packets transmitted, 0 packets received, 100% packet loss", Some(0.0))]
    #[case("PING 10.0.9.2 (10.0.9.2): 56 data bytes", None)]
    fn the_figure_of_ping_is_found(#[case] output: &str, #[case] expected: Option<f64>) {
        assert_eq!(figure(Benchmark::NetworkRoundTrip, output), expected);
    }
}
