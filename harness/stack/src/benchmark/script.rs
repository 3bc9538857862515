//! What a level runs to be measured, and what is read of its output.

use nestmatrix_model::FigurePlace;

use crate::measure::NOW;

/// The shortest time by a level's clock that shows its pace, in seconds. /proc/uptime counts hundredths.
const SHORTEST: f64 = 0.5;

/// The script that runs a program for its figure, and prints the level's clock before and after it. Some programs write to their folder.
pub(super) fn of_program(command: &str, figure: FigurePlace) -> String {
    let clock = if figure == FigurePlace::Rate { NOW } else { "" };
    timed(&format!("{clock}cd /tmp 2>/dev/null; {command} 2>&1 || exit 1"))
}

/// The script that repeats a loop as often as it takes to fill a second, and prints `rate COUNT NANOSECONDS`. `n` is how many thousand
/// times the loop exits.
pub(super) fn of_loop(exit_loop: &str) -> String {
    let body = format!(
        "n=5; while now; start=$now; {exit_loop} || exit 1
         now; took=$((now - start)); [ $took -lt 1000000000 ]; do n=$((n * 2)); done
         echo rate $((n * 1000)) $took"
    );
    timed(&[NOW, &body].concat())
}

fn timed(body: &str) -> String {
    format!("read -r from _ </proc/uptime; {body}\nread -r to _ </proc/uptime; echo passed $from $to")
}

/// The seconds that passed by the level's clock, if they suffice to show its pace.
pub(super) fn passed_in(output: &str) -> Option<f64> {
    let times = output.lines().rev().find_map(|line| line.strip_prefix("passed "))?;
    let (from, to) = times.trim().split_once(' ')?;
    let passed = to.parse::<f64>().ok()? - from.parse::<f64>().ok()?;
    (passed >= SHORTEST).then_some(passed)
}

/// The number in the line that begins with `word`.
pub(super) fn after_word(word: &str, output: &str) -> Option<f64> {
    let number = |line: &str| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse::<f64>().ok();
    output.lines().find_map(number).filter(|number| number.is_finite() && *number > 0.0)
}

/// The version that a program prints: its name, and the first word with a digit after it.
pub(super) fn version_in(name: &str, said: &str) -> String {
    let words = said.split_whitespace().map(|word| word.trim_matches([',', ':', '(', ')']));
    let words = words.map(|word| word.strip_prefix('v').unwrap_or(word));
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    let version: Option<String> = words.into_iter().find(is_version).map(|word| {
        word.chars().filter(|c| c.is_ascii_alphanumeric() || "._+~-".contains(*c)).take(40).collect()
    });
    version.map_or(name.to_owned(), |version| format!("{name} {version}"))
}

#[cfg(test)]
mod tests {
    use nestmatrix_model::{Benchmark, BenchmarkTool};
    use rstest::rstest;

    use super::*;

    fn run(script: &str) -> (bool, String) {
        let output = std::process::Command::new("/bin/sh").args(["-c", script]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn the_loop_is_repeated_until_it_fills_a_second() {
        let (ended, output) = run(&of_loop("sleep 0.$((n > 10 ? 9 : 0)); sleep 0.2"));
        assert!(ended, "{output}");
        let rate = FigurePlace::Rate.figure_in(&output).unwrap();
        // 20,000 of something in a little more than a second; /proc/uptime counts hundredths.
        assert!((5_000.0..=20_000.0).contains(&rate), "{output}");
        assert!(passed_in(&output).unwrap() >= 1.0, "{output}");
    }

    #[test]
    fn a_loop_or_program_that_fails_has_no_figure() {
        for script in [of_loop("false"), of_program("false", FigurePlace::Rate)] {
            let (ended, output) = run(&script);
            assert!(!ended);
            assert_eq!((FigurePlace::Rate.figure_in(&output), passed_in(&output)), (None, None));
        }
    }

    #[test]
    fn a_program_is_timed_by_the_clock_of_its_level() {
        let any = FigurePlace::AfterWord { word: "figure", place: 0, of: 0 };
        let (ended, output) = run(&of_program("echo figure; sleep 0.6", any));
        assert!(ended && output.starts_with("figure\n"), "{output}");
        assert!((0.5..5.0).contains(&passed_in(&output).unwrap()), "{output}");
    }

    #[test]
    fn a_rate_is_what_arrived_in_the_time_until_the_other_side_said_so() {
        // Programs of the level that the command runs; `nc` is the other side.
        let level = |nc: &str| {
            let BenchmarkTool::Program { command, figure, .. } = Benchmark::Network.info().tool else {
                panic!("no program");
            };
            let busybox =
                format!("busybox() {{ case $1 in timeout) printf %064000d 0 ;; nc) {nc} ;; esac; }}\n");
            let (ended, output) = run(&(busybox + &of_program(command, figure)));
            (ended, figure.figure_in(&output), output)
        };
        let (ended, figure, output) = level("sleep 0.6; wc -c");
        assert!(ended && figure > Some(0.0) && figure <= Some(107.0), "{output}");
        let (ended, figure, output) = level("cat >/dev/null; echo no route >&2; false");
        assert!(!ended && figure.is_none() && output.contains("no route"), "{output}");
        let (ended, figure, output) = level("wc -c </dev/null");
        assert!(!ended && figure.is_none(), "nothing arrived: {output}");
    }

    #[rstest]
    #[case(
        "stress-ng",
        "stress-ng, version 0.15.06 (gcc 12.2.0, x86_64 Linux 6.1.0) \u{1f4bb}\u{1f525}",
        "stress-ng 0.15.06"
    )]
    #[case("ioping", "ioping 1.3", "ioping 1.3")]
    #[case("ioping", "", "ioping")]
    #[case("busybox", "BusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1) multi-call binary.", "busybox 1.35.0")]
    fn the_version_is_read(#[case] name: &str, #[case] said: &str, #[case] expected: &str) {
        assert_eq!(version_in(name, said), expected);
    }

    #[rstest]
    #[case("enabling apic\ncpuid 1843\n", Some(1843.0))]
    #[case("cpuid_x 5\ncpuid 0\n", None)]
    #[case("FAIL: cpuid", None)]
    fn the_figure_of_a_test_is_read(#[case] output: &str, #[case] expected: Option<f64>) {
        assert_eq!(after_word("cpuid", output), expected);
    }
}
