//! What every level says about itself before and after an action: its clock, and what its kernel complains about.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nestmatrix_model::{Clock, LevelNumber};
use nestmatrix_vmm::guest::kernel_message;

use super::Done;
use crate::stack::Stack;
use crate::{Metal, Stop, Symptom};

/// Words of a kernel that complains (Linux, `include/asm-generic/bug.h`, `kernel/rcu/tree_stall.h`, `kernel/watchdog.c`,
/// `kernel/hung_task.c`).
const COMPLAINTS: &[&str] = &["WARNING: ", "BUG: ", "Oops: ", "blocked for more than"];
/// The same about CPU time that a CPU or a task did not get.
const STALLS: &[&str] = &["rcu: INFO: ", "INFO: rcu_", "soft lockup", "hard LOCKUP", "blocked for more than"];

/// What the script prints if a kernel's messages can't be read.
const UNREADABLE: &str = "nestmatrix: no dmesg";

/// How far a clock may be off: a share of the time that has passed, and at least this.
const SHARE: f64 = 0.1;
const LEAST: Duration = Duration::from_secs(2);

/// What the levels of a stack said at some time.
pub(super) struct Vitals {
    levels: BTreeMap<LevelNumber, LevelVitals>,
}

struct LevelVitals {
    at: Instant,
    /// Its uptime, in seconds by its own clock.
    uptime: f64,
    /// The complaints of its kernel, and how often it printed each.
    complaints: BTreeMap<String, usize>,
}

impl LevelVitals {
    /// None if the clock or the kernel's messages are not there: then nothing is known about the level.
    fn read(text: &str) -> Option<Self> {
        let (mut uptime, mut complaints) = (None, BTreeMap::<String, usize>::new());
        for line in text.lines() {
            if line == UNREADABLE {
                return None;
            } else if let Some(read) = line.strip_prefix("uptime=") {
                uptime = read.trim().parse().ok();
            } else if is_complaint(line) {
                *complaints.entry(kernel_message(line).to_owned()).or_default() += 1;
            }
        }
        Some(Self { at: Instant::now(), uptime: uptime?, complaints })
    }

    /// The complaints that were not there before, or less often. A kernel that has booted again may repeat what it said at its first boot.
    fn new_complaints<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a str> {
        let known = |text: &String| before.complaints.get(text).copied().unwrap_or_default();
        self.complaints
            .iter()
            .filter(move |(text, count)| **count > known(text))
            .map(|(text, _)| text.as_str())
    }
}

/// The script that prints what [`LevelVitals::read`] reads.
fn script() -> String {
    let words: Vec<String> = COMPLAINTS.iter().chain(STALLS).map(|words| format!("-e '{words}'")).collect();
    // What another line left on the console must not stand before the clock.
    format!(
        "read -r u _ </proc/uptime; echo; echo uptime=$u; {{ dmesg || printf '\\n{UNREADABLE}\\n'; }} | grep -e '{UNREADABLE}' {}",
        words.join(" ")
    )
}

fn is_stall(complaint: &str) -> bool {
    STALLS.iter().any(|words| complaint.contains(words))
}

/// Whether a line is a kernel's complaint.
pub(crate) fn is_complaint(line: &str) -> bool {
    COMPLAINTS.iter().chain(STALLS).any(|words| line.contains(words))
}

impl Stack<'_> {
    /// Asks every level that the harness has booted and that takes commands.
    pub(super) async fn vitals(&mut self) -> Result<Vitals, Stop> {
        let asked: Vec<LevelNumber> = self.request.plan.levels.iter().map(|plan| plan.level).collect();
        let mut levels = BTreeMap::new();
        for level in asked {
            if self.levels.guest(level).is_some() {
                let said = self.run(level, &script()).await?;
                let said = String::from_utf8_lossy(&said.stdout);
                let vitals = LevelVitals::read(&said).ok_or_else(|| {
                    let why =
                        format!("{level} does not report its clock and its kernel's messages: {said:?}");
                    self.harness(why).about(level)
                })?;
                levels.insert(level, vitals);
            }
        }
        Ok(Vitals { levels })
    }

    /// Compares what the levels say before and after an action on `level`. Returns what is worth a note but decides nothing.
    pub(super) fn compare(
        &self,
        before: &Vitals,
        after: &Vitals,
        level: LevelNumber,
        done: &Done,
    ) -> Result<Option<String>, Stop> {
        let mut noted = Vec::new();
        for (of, now) in &after.levels {
            let Some(earlier) = before.levels.get(of) else { continue };
            noted.extend(self.judge_complaints(*of, now.new_complaints(earlier))?);
            if done.booted_again.is_none_or(|outermost| *of < outermost) {
                let (then, uptime) = (earlier.uptime, now.uptime);
                let stood_still = if *of >= level { done.stood_still } else { Duration::ZERO };
                let passed = now.at.saturating_duration_since(earlier.at);
                let wrong = match self.request.plan.clock {
                    Clock::Real => is_off(uptime - then, passed, stood_still),
                    Clock::Fastest => uptime <= then,
                };
                if wrong {
                    let seen = format!(
                        "{of}'s clock went from {then:.1} s to {uptime:.1} s, while {:.1} s passed here, in which it stood still for {:.1} s",
                        passed.as_secs_f64(),
                        stood_still.as_secs_f64()
                    );
                    return Err(Stop::stack(self.stage, Symptom::WrongClock { level: *of, seen }));
                }
            }
        }
        Ok((!noted.is_empty()).then(|| noted.join("; ")))
    }
}

impl Stack<'_> {
    /// Judges what the kernel of `of` complains about. Returns what is worth a note but decides nothing.
    pub(super) fn judge_complaints<'a>(
        &self,
        of: LevelNumber,
        complaints: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<String>, Stop> {
        // A busy emulator makes any kernel complain about time.
        let stalls_count = self.request.plan.metal == Metal::Native || self.request.plan.clock == Clock::Real;
        let mut noted = Vec::new();
        for said in complaints {
            if is_stall(said) && !stalls_count {
                noted.push(format!("{of}'s kernel says {said:?}"));
            } else {
                let symptom = Symptom::KernelComplained { level: of, said: said.to_owned() };
                return Err(Stop::stack(self.stage, symptom));
            }
        }
        Ok(noted)
    }
}

/// Whether a clock that advanced by `there` seconds does not fit `passed`, of which it may have stood still for a part.
fn is_off(there: f64, passed: Duration, stood_still: Duration) -> bool {
    let (passed, stood_still) = (passed.as_secs_f64(), stood_still.as_secs_f64());
    let tolerance = LEAST.as_secs_f64().max(passed * SHARE);
    there > passed + tolerance || there < passed - stood_still - tolerance
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::as_it_should(30.0, 30, 0, false)]
    #[case::it_stood_still(20.0, 30, 10, false)]
    #[case::it_counted_the_pause(30.0, 30, 10, false)]
    #[case::it_lost_time(20.0, 30, 0, true)]
    #[case::it_ran_ahead(40.0, 30, 0, true)]
    #[case::it_jumped(3000.0, 30, 10, true)]
    fn a_clock_may_stand_still_with_its_level_but_not_otherwise(
        #[case] there: f64,
        #[case] passed: u64,
        #[case] stood_still: u64,
        #[case] expected: bool,
    ) {
        let seconds = Duration::from_secs;
        assert_eq!(is_off(there, seconds(passed), seconds(stood_still)), expected);
    }

    #[test]
    fn only_a_new_complaint_counts_whenever_it_was_printed() {
        let old = "uptime=7.50\n[    1.000000] WARNING: CPU: 0 PID: 1 at a.c:1\nwarning: harmless";
        let read = |text: &str| LevelVitals::read(&format!("uptime=7.50\n{text}")).unwrap();
        let before = LevelVitals::read(old).unwrap();
        assert!((before.uptime - 7.5).abs() < 0.01);
        let same = read("[    9.000000] WARNING: CPU: 0 PID: 1 at a.c:1");
        assert_eq!(same.new_complaints(&before).count(), 0, "a kernel that boots again says the same");
        let twice = read(&format!("{old}\n[    8.000000] WARNING: CPU: 0 PID: 1 at a.c:1"));
        let new: Vec<&str> = twice.new_complaints(&before).collect();
        assert_eq!(new, ["WARNING: CPU: 0 PID: 1 at a.c:1"]);
        let stall = read("[    8.000000] rcu: INFO: rcu_preempt self-detected stall on CPU");
        assert!(stall.new_complaints(&before).all(is_stall));
    }

    #[test]
    fn a_level_that_does_not_say_everything_is_no_level_without_complaints() {
        let run = |dmesg: &str| {
            let script = format!("dmesg() {{ {dmesg}; }}\n{}", script());
            let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let silent = LevelVitals::read(&run("echo harmless")).unwrap();
        assert!(silent.uptime > 0.0 && silent.complaints.is_empty());
        let loud = LevelVitals::read(&run("echo '[    1.000000] BUG: a'")).unwrap();
        assert_eq!(loud.complaints.len(), 1);
        assert!(LevelVitals::read(&run("echo harmless; false")).is_none());
        assert!(LevelVitals::read("[    1.000000] BUG: a").is_none());
    }
}
