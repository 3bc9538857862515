//! Events in the life of a level: it is paused, saved, reset, or all of that, and everything in it must live on.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nestmatrix_model::Hardware;
use nestmatrix_model::OwnAction::{self, HotplugCpu, Migrate, Pause, Reset, SaveRestore};
use nestmatrix_stack::MachineSettings;
use rstest::rstest;
use serde_json::{Value, json};

use crate::fake::{Booted, Fake, NONCE, exit, level, prints};
use crate::script::How;

/// Longer than any stage of the fake is silent.
const SILENCE: Duration = Duration::from_millis(2500);

fn fake() -> Fake {
    Fake::new().silent_for_at_most(SILENCE).hangs_after(Duration::from_secs(60))
}

/// What came of the one step.
fn output(booted: &Booted) -> &str {
    &booted.observation.steps[0].output
}

#[rstest]
#[case::before_l2("l1-kvm", 1, Pause, "paused for 2.0 s, in which L1 did not answer")]
#[case::with_l2(
    "l2-check",
    1,
    Pause,
    "paused for 2.0 s, in which L2 did not answer; L2 answers, its counter was "
)]
#[case::of_l2("l2-check", 2, Pause, "paused for 2.0 s, in which L2 did not answer; L2 answers")]
#[case::all_of_it("l2-check", 0, Pause, "paused for 2.0 s, in which L2 did not answer; L2 answers")]
#[case::saved_before_l2("l1-kvm", 1, SaveRestore, "saved 1 MiB in ")]
#[case::saved_with_l2("l2-check", 1, SaveRestore, "; L2 answers, its counter was ")]
#[case::saved_l2("l2-check", 2, SaveRestore, "; L2 answers, its counter was ")]
#[case::reset_before_l2("l1-kvm", 1, Reset, "L1 is up again; nested=1")]
#[case::reset_with_l2(
    "l2-check",
    1,
    Reset,
    "L2 was launched again and has returned a fresh nonce; L2 answers, its counter is "
)]
#[case::reset_l2(
    "l2-check",
    2,
    Reset,
    "L2 has reported again, its boot id was boot-0 and is boot-1; L2 answers, its counter is "
)]
#[case::reset_of_all("l2-check", 0, Reset, "L0 is up again; nested=1; L2 was launched again")]
#[tokio::test(flavor = "current_thread")]
async fn everything_in_a_level_lives_on(
    #[case] after: &str,
    #[case] on: u8,
    #[case] action: OwnAction,
    #[case] expected: &str,
) {
    let booted = fake().does(after, on, action).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert!(output(&booted).contains(expected), "{}", output(&booted));
    let nonce = &booted.observation.measurements.nonce;
    let launched_again = action == Reset && on < 2 && after == "l2-check";
    assert_eq!(nonce != NONCE, launched_again, "only a new command line has a new nonce");
    let report = booted.observation.measurements.report.as_ref().unwrap();
    assert_eq!(&report.nonce, nonce);
}

#[tokio::test(flavor = "current_thread")]
async fn a_chain_is_one_step_and_its_actions_come_in_order() {
    let chain = [SaveRestore, Reset, Pause];
    let booted = fake().lives_through("l2-check", 1, &chain, 2).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let lines: Vec<&str> = output(&booted).lines().collect();
    let begin = ["round 2 of 2: save-restore: saved ", "reset: L1 is up again", "pause: paused for "];
    let in_order = lines.iter().zip(begin).all(|(line, begin)| line.starts_with(begin));
    assert!(in_order && lines.len() == begin.len(), "{lines:#?}");
}

/// What an agent answers to a command that has printed this.
fn printed(text: &str) -> How {
    How::Return(json!({"exited": true, "exitcode": 0, "out-data": BASE64.encode(text)}))
}

#[rstest]
#[case::of_bugs("[   12.000000] WARNING: CPU: 0 PID: 7 at arch/x86/kvm/x86.c:1", "fail")]
#[case::of_time_on_emulated_metal("[   12.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", "pass")]
#[tokio::test(flavor = "current_thread")]
async fn a_kernel_that_complains_after_an_action_is_a_symptom(#[case] said: &str, #[case] expected: &str) {
    // The base64 of `uptime=`, without its last part.
    let vitals = &BASE64.encode("uptime")[..8];
    let answer = printed(&format!("uptime=9000\n{said}\n"));
    let fake =
        fake().does("l2-check", 1, Reset).late_reply(1, vitals, "l1.agent", "guest-exec-status", answer);
    let booted = fake.boot().await;
    assert_eq!(booted.word(), expected, "{}", booted.stopped());
    let text = said.split_once("] ").unwrap().1;
    let reported = if expected == "fail" { booted.stopped() } else { output(&booted).to_owned() };
    assert!(reported.contains(text) && reported.contains("L1's kernel "), "{reported}");
}

/// A level with one CPU and room for another one.
fn with_room(max_cpus: u32) -> MachineSettings {
    let hardware = Hardware { cpus: Some(1), max_cpus: Some(max_cpus), ..Hardware::default() };
    MachineSettings { hardware, ..MachineSettings::default() }
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_gets_a_cpu_must_use_it() {
    let fake = || fake().with_settings(1, with_room(2));
    let booted = fake().does("l1-kvm", 1, HotplugCpu).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(output(&booted), "its kernel uses 2 CPUs instead of 1");
    assert_eq!(booted.observation.levels[&level(1)].cpus_online, Some(2));

    let idle = fake().command(1, "cpu[0-9]*/online", 5, prints("0\n"));
    let booted = idle.does("l1-kvm", 1, HotplugCpu).boot().await;
    let expected = "step-1: wrong hardware of L1: its kernel uses 1 CPUs, its machine has 2";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "fail".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_cpu_that_was_added_is_not_in_a_second_machine() {
    let fake = fake().with_settings(1, with_room(2)).lives_through("l1-kvm", 1, &[HotplugCpu, Migrate], 1);
    let booted = fake.boot().await;
    let expected =
        "step-1: the migration could not be begun: L1 got another CPU, which a second machine does not have";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_clock_that_goes_back_is_a_symptom() {
    let vitals = &BASE64.encode("uptime")[..8];
    let answer = printed("uptime=0.001\n");
    let fake = fake().does("l2-check", 1, SaveRestore);
    let booted = fake.late_reply(1, vitals, "l1.agent", "guest-exec-status", answer).boot().await;
    assert!(booted.stopped().starts_with("step-1: L1's clock went from "), "{}", booted.stopped());
    assert_eq!(booted.word(), "fail");
}

#[rstest]
#[case::not_paused(Pause, "l1.qmp", "query-status", How::Return(json!({"status": "running"})), "fail")]
#[case::never_resumed(Pause, "l1.qmp", "cont", How::Refuse("it is not possible".into()), "fail")]
#[case::not_saved(
    SaveRestore,
    "l1.qmp",
    "query-migrate",
    How::Return(json!({"status": "failed", "error-desc": "no room"})),
    "fail"
)]
#[case::not_loaded(SaveRestore, "l1.qmp", "migrate-incoming", How::Refuse("it is not possible".into()), "error")]
#[case::not_reset(Reset, "l1.qmp", "system_reset", How::Refuse("it is not possible".into()), "fail")]
#[case::not_allowed_to(Reset, "l1.qmp", "set-action", How::Refuse("it is not known".into()), "error")]
#[case::not_up_again(Reset, "l1.agent", "guest-sync-delimited", How::Never, "fail")]
#[tokio::test(flavor = "current_thread")]
async fn an_action_that_fails_stops_the_stack(
    #[case] action: OwnAction,
    #[case] channel: &str,
    #[case] command: &str,
    #[case] how: How,
    #[case] expected: &str,
) {
    let before = usize::from(command == "cont" || command == "guest-sync-delimited");
    let fake = fake().does("l2-check", 1, action).late_reply(before, "", channel, command, how);
    let booted = fake.boot().await;
    assert!(booted.stopped().starts_with("step-1: "), "{}", booted.stopped());
    assert_eq!(booted.word(), expected, "{}", booted.stopped());
}

#[tokio::test(flavor = "current_thread")]
async fn a_file_that_can_not_be_written_is_no_fault_of_the_level() {
    let full = exit(1, "cat: write error: No space left on device");
    let booted = fake().does("l2-check", 1, SaveRestore).command(0, "wc -c", 10, full).boot().await;
    let expected = "step-1: the migration of L1 is completed, because its file could not be written: \
                    cat: write error: No space left on device";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn the_conversations_of_a_level_are_one_record_each() {
    let booted = fake().lives_through("l2-check", 1, &[SaveRestore, Reset], 1).boot().await;
    assert_eq!(booted.stopped(), String::new());
    for (conversation, greetings) in [("L1.qmp.jsonl", 2), ("L2.qmp.jsonl", 2)] {
        let text = std::fs::read_to_string(booted.records.join(conversation)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let greeted = lines.filter(|line| line["message"]["QMP"].is_object()).count();
        assert_eq!(greeted, greetings, "{conversation}: {text}");
    }
    let console = std::fs::read_to_string(booted.records.join("L2.console.log")).unwrap();
    assert_eq!(console.matches("nestmatrix-report-end").count(), 2, "{console}");
    assert_eq!(booted.observation.levels[&level(2)].kernel.as_deref(), Some("6.12.0-fake"));
}
