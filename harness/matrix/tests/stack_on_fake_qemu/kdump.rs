//! Levels with a crash kernel: it must be loaded, and show the dump after a panic.

use std::time::Duration;

use nestmatrix_model::OwnAction::{Crash, Pause};
use nestmatrix_model::SymptomKind;
use nestmatrix_stack::{Kdump, MachineSettings};
use rstest::rstest;
use serde_json::json;

use crate::fake::{Booted, Fake, exit, level, prints};
use crate::script::Act;

/// What the script that loads the crash kernel is called.
const LOADS: &str = "/kdump/load.sh";
const PANICS: &str = "[   12.000000] Kernel panic - not syncing: sysrq triggered crash";
const BOOTS: &str = "[    0.000000] Linux version 6.12.0-fake";

/// A stack whose L1 has a crash kernel, and which panics after `after`.
fn fake(after: &str) -> Fake {
    let kdump = Some(Kdump { crashkernel_mib: Some(160) });
    let settings = MachineSettings { kdump, ..MachineSettings::default() };
    Fake::new().hangs_after(Duration::from_secs(60)).with_settings(1, settings).does(after, 1, Crash)
}

/// L1 says these lines when it should panic.
fn says<'l>(lines: impl IntoIterator<Item = &'l str>) -> Vec<Act> {
    lines.into_iter().map(|line| Act::Say(line.to_owned())).collect()
}

/// What a crash kernel reports: these lines after the first two.
fn reports(lines: &[&str]) -> Vec<Act> {
    let begin = [PANICS, BOOTS, "nestmatrix-dump-begin", "kernel=6.12.0-fake"];
    says(begin.into_iter().chain(lines.iter().copied()).chain(["nestmatrix-dump-end"]))
}

fn kind(booted: &Booted) -> SymptomKind {
    booted.observation.stop.as_ref().unwrap().symptom.kind()
}

#[rstest]
#[case::before_l2("l1-kvm", "L1 is up again; nested=1")]
#[case::with_l2(
    "l2-check",
    "L1 is up again; nested=1; L2 was launched again and has returned a fresh nonce; L2 answers"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_crash_kernel_shows_the_dump_and_the_level_boots_again(#[case] after: &str, #[case] then: &str) {
    let booted = fake(after).boot().await;
    assert_eq!(booted.word_and_symptom(), "pass: ", "{}", booted.stopped());
    let expected = format!(
        "L1 has crashed: kernel panic: sysrq triggered crash; its crash kernel 6.12.0-fake came up and saw a dump of 1024 MiB \
         of kernel 6.12.0-fake, with the nonce that was written to its log before; {then}"
    );
    let output = &booted.observation.steps[0].output;
    assert!(output.starts_with(&expected), "{output}");
    let line = booted.observation.levels[&level(1)].command_line.as_ref().unwrap();
    assert!(line.split(' ').any(|word| word == "crashkernel=160M"), "{line}");
    let asked = std::fs::read_to_string(booted.records.join("L1.agent.jsonl")).unwrap();
    let loaded = asked.lines().filter(|line| line.contains(LOADS)).count();
    assert_eq!(loaded, 2, "after each boot: {asked}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_panics_again_and_again_with_a_crash_kernel() {
    let kdump = Some(Kdump::default());
    let fake = Fake::new().hangs_after(Duration::from_secs(60));
    let fake = fake.with_settings(1, MachineSettings { kdump, ..MachineSettings::default() });
    let booted = fake.lives_through("l2-check", 1, &[Crash, Pause], 2).boot().await;
    assert_eq!(booted.word_and_symptom(), "pass: ", "{}", booted.stopped());
    let output = &booted.observation.steps[0].output;
    assert!(
        output.starts_with("round 2 of 2: crash: L1 has crashed") && output.contains("saw a dump"),
        "{output}"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_dump_whose_log_can_not_be_read_is_a_dump_and_that_is_said() {
    let lines = ["size=1073741824", "crashed=6.12.0-fake", "log=1", "nonce=", "said=no log_buf"];
    let booted = fake("l2-check").goes_down(1, reports(&lines)).boot().await;
    assert_eq!(booted.word_and_symptom(), "pass: ", "{}", booted.stopped());
    let output = &booted.observation.steps[0].output;
    let expected = "of kernel 6.12.0-fake, whose log vmcore-dmesg can't read (status 1: \"no log_buf\")";
    assert!(output.contains(expected), "{output}");
}

#[rstest]
#[case::not_supported(
    "reserved=\n",
    "",
    "its kernel can't boot one (CONFIG_CRASH_DUMP): it has no /sys/kernel/kexec_crash_size"
)]
#[case::no_memory(
    "reserved=0\nsaid=crashkernel reservation failed - No suitable area found.\n",
    "",
    "its kernel has reserved no memory for one; it says \"crashkernel reservation failed - No suitable area found.\""
)]
#[case::refused(
    "reserved=201326592\nkexec=255\nloaded=0\n",
    "kexec_load failed: Operation not permitted\n",
    "kexec has ended with status 255: kexec_load failed: Operation not permitted"
)]
#[case::not_loaded(
    "reserved=201326592\nkexec=0\nloaded=0\n",
    "",
    "it is not loaded, although kexec said so (kexec_crash_loaded is 0)"
)]
#[case::no_script(
    "",
    "sh: can't open '/kdump/load.sh': No such file or directory\n",
    "`sh /kdump/load.sh` has printed nothing: sh: can't open '/kdump/load.sh': No such file or directory"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_level_without_the_crash_kernel_that_it_should_have_says_nothing_about_the_stack(
    #[case] printed: &str,
    #[case] errors: &str,
    #[case] why: &str,
) {
    let mut end = prints(printed);
    end.stderr = errors.to_owned();
    let booted = fake("l2-check").command(1, LOADS, 0, end).boot().await;
    assert_eq!(booted.stopped(), format!("l1-kvm: L1 has no crash kernel: {why}"));
    assert_eq!((booted.word(), kind(&booted)), ("error".into(), SymptomKind::Harness));
}

#[rstest]
#[case::nothing_boots(
    says([PANICS, "[   12.100000] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---"]),
    "no crash kernel was booted"
)]
#[case::it_panics(
    says([PANICS, BOOTS, "[    1.000000] Kernel panic - not syncing: System is deadlocked on memory"]),
    "its crash kernel failed: kernel panic: System is deadlocked on memory"
)]
#[case::it_is_reset(
    vec![Act::Say(PANICS.into()), Act::Event("SHUTDOWN".into(), json!({"guest": true, "reason": "guest-reset"}))],
    "no crash kernel came up: its machine has shut down (guest-reset)"
)]
#[case::no_dump(
    reports(&["size=", "crashed=", "log=1", "nonce=", "said="]),
    "its crash kernel 6.12.0-fake came up and saw no dump: /proc/vmcore is missing or empty"
)]
#[case::of_another_kernel(
    reports(&["size=1073741824", "crashed=6.1.0", "log=0", "nonce={nonce}", "said="]),
    "its crash kernel 6.12.0-fake came up and saw a dump of kernel \"6.1.0\", not of 6.12.0-fake"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_panic_without_a_dump_fails(#[case] acts: Vec<Act>, #[case] why: &str) {
    let booted = fake("l2-check").goes_down(1, acts).boot().await;
    let expected = format!("step-1: L1 has crashed: kernel panic: sysrq triggered crash; {why}");
    assert_eq!(booted.stopped(), expected);
    assert_eq!((booted.word(), kind(&booted)), ("fail".into(), SymptomKind::StandsStill));
    assert_eq!(booted.observation.steps[0].output, expected.strip_prefix("step-1: ").unwrap());
}

#[rstest]
#[case::a_reset_by_the_metal(
    vec![Act::Say(PANICS.into()), Act::Event("SHUTDOWN".into(), json!({"guest": true, "reason": "guest-reset"}))],
    "(emulator erratum tcg-smp-reset)"
)]
#[case::the_reader_of_the_log_is_killed(
    reports(&["size=1073741824", "crashed=6.12.0-fake", "log=137", "nonce=", "said=Killed"]),
    "its crash kernel 6.12.0-fake came up, and its log was not read (status \"137\": \"Killed\")"
)]
#[case::its_words_are_lost(
    reports(&["size=1073741824", "crashed=6.12.0-fake"]),
    "its crash kernel 6.12.0-fake came up, and its log was not read (status \"\": \"\")"
)]
#[tokio::test(flavor = "current_thread")]
async fn what_is_not_known_of_a_dump_is_an_error(#[case] acts: Vec<Act>, #[case] why: &str) {
    let booted = fake("l2-check").with_guests_on_first_cpu().goes_down(1, acts).boot().await;
    assert!(booted.stopped().ends_with(why), "{}", booted.stopped());
    assert_eq!((booted.word(), kind(&booted)), ("error".into(), SymptomKind::Harness));
}

#[tokio::test(flavor = "current_thread")]
async fn a_dump_without_the_nonce_of_the_kernel_that_panicked_fails() {
    let lines = ["size=1073741824", "crashed=6.12.0-fake", "log=0", "nonce=0123", "said="];
    let booted = fake("l2-check").goes_down(1, reports(&lines)).boot().await;
    let expected = "came up, and the log in the dump has the nonce \"0123\", not ";
    assert!(booted.stopped().contains(expected), "{}", booted.stopped());
    assert_eq!((booted.word(), kind(&booted)), ("fail".into(), SymptomKind::StandsStill));
}

#[tokio::test(flavor = "current_thread")]
async fn a_crash_kernel_that_never_reports_times_out_with_what_its_console_said_last() {
    let last = "[    1.500000] pci 0000:00:02.0: reg 0x10";
    let fake = fake("l2-check").goes_down(1, says([PANICS, BOOTS, last]));
    let booted = fake.limited_to(Duration::from_secs(4)).boot().await;
    let stopped = booted.stopped();
    assert!(stopped.starts_with("step-1: ") && stopped.contains(&format!("last line {last:?}")), "{stopped}");
    assert_eq!((booted.word(), kind(&booted)), ("fail".into(), SymptomKind::Timeout));
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_can_not_be_made_to_panic_says_nothing_about_its_crash_kernel() {
    let booted = fake("l2-check").command(1, "sysrq-trigger", 0, exit(1, "no sysrq")).boot().await;
    assert!(booted.stopped().contains("L1 can't be made to panic"), "{}", booted.stopped());
    assert_eq!(booted.word(), "error");
}
