//! Unsolicited output of levels: messages of their kernels, and floods.

use std::fs;
use std::time::{Duration, Instant};

use rstest::rstest;

use crate::fake::Fake;
use crate::script::Act;

const SOFT_LOCKUP: &str = "[   52.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]";
const HUNG_TASK: &str = "[  123.0] INFO: task sh:1 blocked for more than 120 seconds.";

fn says(line: &str) -> Act {
    Act::Say(line.to_owned())
}

#[rstest]
#[case::soft_lockup(SOFT_LOCKUP)]
#[case::hung_task(HUNG_TASK)]
#[case::quoted("looking for Oops: none found")]
#[case::prose("this step was blocked for more than a minute")]
#[tokio::test(flavor = "current_thread")]
async fn a_level_that_goes_on_after_a_message_is_not_stopped_for_it(#[case] line: &str) {
    let booted = Fake::new().boots(1, [says(line), Act::Wait(100), Act::AgentAnswers]).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
}

#[rstest]
#[case::oops("[    1.0] Oops: 0000 [#1] SMP NOPTI", "oops: Oops: 0000 [#1] SMP NOPTI")]
#[case::panic("Kernel panic - not syncing: No working init found", "kernel panic: No working init found")]
#[tokio::test(flavor = "current_thread")]
async fn what_ends_a_kernel_ends_the_stack_at_once(#[case] line: &str, #[case] expected: &str) {
    let began = Instant::now();
    let booted = Fake::new().boots(1, [says(line)]).boot().await;
    assert_eq!(booted.stopped(), format!("l1-boot: {expected}"));
    assert!(began.elapsed() < Duration::from_secs(8), "before its limit");
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_is_stuck_after_a_soft_lockup_was_too_slow() {
    let fake = Fake::new().limited_to(Duration::from_millis(1500)).boots(1, [says(SOFT_LOCKUP)]);
    let booted = fake.boot().await;
    assert!(booted.timed_out(), "{}", booted.stopped());
    assert_eq!(booted.word_if_it_stops_from("l1-boot"), "error");
}

#[rstest]
#[case::empty_lines("console", "\n")]
#[case::no_line_end("console", "x")]
#[case::events("agent", "{\"event\": \"X\"}\n")]
#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_floods_a_channel_neither_outlives_its_limits_nor_fills_the_memory(
    #[case] kind: &str,
    #[case] text: &str,
) {
    let before = peak_memory_mib();
    let fake = Fake::new().limited_to(Duration::from_millis(1500)).hangs_after(Duration::from_secs(6));
    let booted = fake.boots(1, [Act::Flood(kind.into(), text.into())]).boot().await;
    assert!(booted.stopped().starts_with("l1-boot: ") && booted.timed_out(), "{}", booted.stopped());
    // Other tests run in this process, too. Without a limit, the flood itself takes a gigabyte in that time.
    let grown = peak_memory_mib() - before;
    assert!(grown < 300, "{grown} MiB of memory more");
    for record in fs::read_dir(&booted.records).unwrap().map(Result::unwrap) {
        let size = record.metadata().unwrap().len() >> 20;
        assert!(size < 64, "{:?} has {size} MiB", record.file_name());
    }
}

/// The peak memory of this process, in MiB.
fn peak_memory_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
