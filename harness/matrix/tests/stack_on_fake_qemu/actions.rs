//! What the harness itself does to a stack as a step: the reboot of L0, a migration, a second machine.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nestmatrix_model::OwnAction;
use rstest::rstest;
use serde_json::json;

use crate::fake::{Booted, Fake, level};
use crate::script::How;

/// Longer than any stage of the fake is silent.
const SILENCE: Duration = Duration::from_millis(1500);

/// What came of the one step.
fn output(booted: &Booted) -> &str {
    &booted.observation.steps[0].output
}

#[tokio::test(flavor = "current_thread")]
async fn an_l0_that_is_rebooted_comes_up_again_and_hosts() {
    let booted = Fake::new().silent_for_at_most(SILENCE).does("l0-kvm", 0, OwnAction::Reboot).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(output(&booted), "L0 is up again; nested=1");
}

#[rstest]
#[case::is_not_reset("l0.qmp", "system_reset", 0, How::Refuse("it is not possible".into()))]
#[case::says_nothing_of_it("l0.qmp", "system_reset", 0, How::Never)]
#[case::does_not_come_up("l0.agent", "guest-sync-delimited", 1, How::Never)]
#[tokio::test(flavor = "current_thread")]
async fn an_emulator_that_does_not_boot_l0_again_is_no_part_of_the_stack(
    #[case] channel: &str,
    #[case] command: &str,
    #[case] before: usize,
    #[case] how: How,
) {
    let fake = Fake::new().silent_for_at_most(SILENCE).does("l0-kvm", 0, OwnAction::Reboot);
    let booted = fake.late_reply(before, "", channel, command, how).boot().await;
    assert!(booted.stopped().starts_with("step-1: "), "{}", booted.stopped());
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l0-kvm")), ("error".into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_is_migrated_takes_all_its_channels_with_it() {
    // L2 is launched, watched and asked through the second L1.
    let booted = Fake::new().silent_for_at_most(SILENCE).does("l1-kvm", 1, OwnAction::Migrate).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let expected = "from QEMU 10.0.0 (fake) to QEMU 10.0.0 (fake), completed in 5 ms, down for 1 ms, 4 KiB in 1 rounds; L1 answers, kernel 6.12.0-fake";
    assert_eq!(output(&booted), expected);
    assert_eq!(booted.observation.levels[&level(2)].kernel.as_deref(), Some("6.12.0-fake"));
}

/// By the slow clock of emulated metal, QEMU's usual limit would make a migration last several times as long.
#[rstest]
#[case::emulated(Fake::new(), true)]
#[case::native(Fake::new().on_native_metal(), false)]
#[tokio::test(flavor = "current_thread")]
async fn a_migration_may_use_any_bandwidth_on_emulated_metal(#[case] fake: Fake, #[case] any: bool) {
    let booted = fake.silent_for_at_most(SILENCE).does("l1-kvm", 1, OwnAction::Migrate).boot().await;
    let asked = std::fs::read_to_string(booted.records.join("L1.qmp.jsonl")).unwrap();
    // The outermost fake plays the whole stack, and can't hand it over to another process. So on native metal, only its start is seen.
    assert!(asked.contains("query-migrate"), "{}", booted.stopped());
    assert_eq!(asked.contains("max-bandwidth"), any, "{asked}");
}

#[rstest]
#[case::failed("l1.qmp", "query-migrate", How::Return(json!({"status": "failed", "error-desc": "no room"})), "fail")]
#[case::refused("l1.qmp", "migrate", How::Refuse("it is not possible".into()), "fail")]
#[case::not_begun("l1-second.qmp", "migrate-incoming", How::Refuse("it is not possible".into()), "error")]
#[case::not_sped_up("l1.qmp", "migrate-set-parameters", How::Refuse("it is not possible".into()), "error")]
#[case::not_taken("l1-second.qmp", "query-migrate", How::Return(json!({"status": "failed"})), "fail")]
#[case::not_continued("l1-second.qmp", "cont", How::Refuse("it is not possible".into()), "fail")]
#[case::dead_afterwards("l1-second.agent", "guest-exec", How::Never, "fail")]
#[tokio::test(flavor = "current_thread")]
async fn a_migration_that_fails_is_about_the_stack_once_it_has_begun(
    #[case] channel: &str,
    #[case] command: &str,
    #[case] how: How,
    #[case] expected: &str,
) {
    let fake = Fake::new().silent_for_at_most(SILENCE).does("l1-kvm", 1, OwnAction::Migrate);
    let booted = fake.reply(channel, command, how).boot().await;
    assert!(booted.stopped().starts_with("step-1: "), "{}", booted.stopped());
    assert_eq!(booted.word(), expected, "{}", booted.stopped());
}

#[tokio::test(flavor = "current_thread")]
async fn a_second_machine_with_another_kernel_is_an_error_that_names_it() {
    let facts = BASE64.encode("kernel=6.1.0-other\nkvm-device\nkvm-module\n");
    let facts = How::Return(json!({"exited": true, "exitcode": 0, "out-data": facts}));
    let fake = Fake::new().silent_for_at_most(SILENCE).does("l1-kvm", 1, OwnAction::BootAnother);
    let booted = fake.reply("l1-second.agent", "guest-exec-status", facts).boot().await;
    let expected =
        "step-1: the second L1 runs kernel \"6.1.0-other\", its image has \"6.12.0-fake\"".to_owned();
    assert_eq!((booted.stopped(), booted.word()), (expected, "error".into()));
    assert_eq!(booted.observation.levels[&level(1)].kernel.as_deref(), Some("6.12.0-fake"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_second_machine_must_be_run_by_kvm_as_the_first_one_is() {
    let answer = How::Return(json!({"enabled": false, "present": true}));
    let fake = Fake::new().silent_for_at_most(SILENCE).does("l1-kvm", 1, OwnAction::BootAnother);
    let booted = fake.reply("l1-second.qmp", "query-kvm", answer).boot().await;
    let expected = "step-1: L1's QEMU does not run it with KVM (query-kvm: enabled is false)";
    assert_eq!((booted.stopped(), booted.word()), (expected.into(), "fail".into()));
}

#[rstest]
#[case::its_monitor("l1-second.qmp", "greeting")]
#[case::its_agent("l1-second.agent", "guest-sync-delimited")]
#[case::the_level_in_it("l2-second.qmp", "cont")]
#[tokio::test(flavor = "current_thread")]
async fn a_wait_for_a_second_machine_ends(#[case] channel: &str, #[case] command: &str) {
    let fake = || Fake::new().silent_for_at_most(SILENCE).does("l1-kvm", 1, OwnAction::BootAnother);
    let fake = || fake().reply(channel, command, How::Never);
    let booted = fake().boot().await;
    assert!(booted.stopped().starts_with("step-1: ") && booted.timed_out(), "{}", booted.stopped());
    let booted = fake().interrupted_after(Duration::from_millis(500)).boot().await;
    assert!(booted.observation.stop.as_ref().unwrap().is_interrupted(), "{}", booted.stopped());
}
