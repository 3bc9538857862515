//! Three small loops, the same in every level, whose times show what a level costs: one only computes, one calls the kernel,
//! and one makes its guest exit to the hypervisor.
//!
//! Times are a guest's own. Only ratios between the levels of one stack are meaningful, and on emulated metal even these say
//! little about bare metal; so they are recorded and decide nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use serde::{Deserialize, Serialize};

use super::LevelFacts;

/// One loop in one level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoopTime {
    /// How long it took, in seconds of the level's own clock, to the thousandth.
    pub seconds: f64,
    /// That time divided by the time of the same loop in the outermost measured level; absent if the latter was too short to be
    /// measured.
    pub ratio: Option<f64>,
}

/// The loops in one level, by name: `cpu`, `syscall`, `exit`.
pub type Loops = BTreeMap<String, LoopTime>;

/// Sets `now` to the level's clock, in nanoseconds. /proc/uptime, which every user can read, counts only hundredths of a
/// second. On emulated metal the clock is slow, so a loop fits into one.
pub(super) const NOW: &str = r#"now() {
             now=
             [ -r /proc/timer_list ] && while read -r word at number _; do
                 [ "$word $at" = "now at" ] && now=$number && break
             done </proc/timer_list
             [ -n "$now" ] || { read -r now _ </proc/uptime; now=${now%.*}${now#*.}0000000; }
         }
"#;

/// The script that runs the loops and prints `loop NAME START END` for each, in nanoseconds. `exit_loop` is a command that
/// makes a guest of this architecture exit often, if one is known.
pub(super) fn script(exit_loop: Option<&str>) -> String {
    let timed = |name: &str, command: &str| {
        format!(
            "now; start=$now; {command}
             now; echo \"loop {name} $start $now\"\n"
        )
    };
    [
        NOW.to_owned(),
        timed("cpu", "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done"),
        timed("syscall", "dd if=/dev/zero of=/dev/null bs=1 count=100000 2>/dev/null || exit 1"),
        exit_loop.map_or(String::new(), |exit_loop| timed("exit", &format!("{exit_loop} || exit 1"))),
    ]
    .concat()
}

/// Reads the output of the script; nothing if the times of one of the loops are missing.
pub(super) fn read(output: &str, number: usize) -> Option<Loops> {
    let time = |line: &str| {
        let (name, times) = line.strip_prefix("loop ")?.split_once(' ')?;
        let (start, end) = times.split_once(' ')?;
        let nanoseconds = end.trim().parse::<u64>().ok()?.checked_sub(start.parse().ok()?)?;
        let seconds = Duration::from_nanos(nanoseconds).as_millis() as f64 / 1000.0;
        Some((name.to_owned(), LoopTime { seconds, ratio: None }))
    };
    let loops: Loops = output.lines().filter_map(time).collect();
    (loops.len() == number).then_some(loops)
}

/// No more digits than are meaningful.
pub(super) fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Compares the times of all levels with those of the outermost measured one.
pub(super) fn compare(levels: &mut BTreeMap<LevelNumber, LevelFacts>) {
    let Some(base) = levels.values().find_map(|facts| facts.loops.clone()) else { return };
    for (name, time) in levels.values_mut().filter_map(|facts| facts.loops.as_mut()).flatten() {
        let base = base.get(name).map_or(0.0, |base| base.seconds);
        time.ratio = (base > 0.0).then(|| hundredths(time.seconds / base));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_runs_in_this_machines_shell_and_is_read() {
        let script = script(Some("true"));
        let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        let loops = read(&String::from_utf8_lossy(&output.stdout), 3).unwrap();
        assert_eq!(loops.keys().collect::<Vec<_>>(), ["cpu", "exit", "syscall"]);
        assert!(loops.values().all(|time| time.seconds >= 0.0), "{loops:?}");
    }

    #[test]
    fn a_loop_that_fails_gives_no_times() {
        assert_eq!(read("loop cpu 1000 1500\nloop syscall 1500 x\nloop exit 2000 2100", 3), None);
    }

    #[test]
    fn levels_are_set_against_the_outermost_one() {
        let facts = |seconds: [&str; 3]| LevelFacts {
            loops: read(
                &format!(
                    "loop cpu 0 {}\nloop syscall 0 {}\nloop exit 0 {}",
                    seconds[0], seconds[1], seconds[2]
                ),
                3,
            ),
            ..LevelFacts::default()
        };
        let mut levels: BTreeMap<LevelNumber, LevelFacts> = [
            (LevelNumber::ALL[0], facts(["500000000", "250000000", "0"])),
            (LevelNumber::ALL[1], LevelFacts::default()),
            (LevelNumber::ALL[2], facts(["500000000", "1000000000", "3000000000"])),
        ]
        .into();
        compare(&mut levels);
        let ratio = |name: &str| levels[&LevelNumber::ALL[2]].loops.as_ref().unwrap()[name].ratio;
        assert_eq!([ratio("cpu"), ratio("syscall"), ratio("exit")], [Some(1.0), Some(4.0), None]);
    }
}
