//! Time limits: what the harness waits for, how long, and what follows.

use std::time::{Duration, Instant};

use nestmatrix_model::StepTimeout;
use rstest::rstest;

use crate::fake::{Fake, boot_many};
use crate::script::{Act, How};

/// Longer than any stage of the fake takes.
const LIMIT: Duration = Duration::from_secs(1);

#[rstest]
#[case::greeting("l1-launch", "l1.qmp", "greeting")]
#[case::monitor("l1-boot", "l1.qmp", "cont")]
#[case::agent_at_boot("l1-boot", "l1.agent", "guest-sync-delimited")]
#[case::agent("l1-kvm", "l1.agent", "guest-exec")]
fn a_reply_that_never_comes_always_ends_as_a_timeout(
    #[case] stage: &str,
    #[case] channel: &str,
    #[case] command: &str,
) {
    let booted = boot_many(20, || Fake::new().limited_to(LIMIT).reply(channel, command, How::Never));
    let seen: Vec<_> = booted
        .iter()
        .map(|booted| (booted.stopped(), booted.timed_out(), booted.word_if_it_stops_from(stage)))
        .collect();
    let out_of_time = |(stopped, timed_out, word): &(String, bool, String)| {
        stopped.starts_with(&format!("{stage}: ")) && *timed_out && word == "error"
    };
    assert!(seen.iter().all(out_of_time), "{seen:#?}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_silent_l2_runs_out_of_time_and_its_last_line_is_reported() {
    let says = Act::Say("Booting the kernel".into());
    let booted = Fake::new().limited_to(LIMIT).boots(2, [says]).boot().await;
    assert!(booted.stopped().starts_with("l2-boot: "), "{}", booted.stopped());
    assert!(booted.stopped().ends_with("last line \"Booting the kernel\""), "{}", booted.stopped());
    assert!(booted.timed_out());
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l2-launch")), ("fail".into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_does_nothing_is_given_up_long_before_one_that_is_busy() {
    // It takes two polls of its CPU time to see that it is busy. The line puts both before the end of its silence.
    let acts = [Act::Wait(500), Act::Say("working".into())];
    let fake = || Fake::new().silent_for_at_most(Duration::from_millis(1500)).boots(2, acts.clone());
    let timed = async |fake: Fake| {
        let began = Instant::now();
        (fake.boot().await, began.elapsed())
    };
    let ((idle, idle_took), (busy, busy_took)) = tokio::join!(timed(fake()), timed(fake().busy(2)));
    assert!(idle.stopped().starts_with("l2-boot: no progress for "), "{}", idle.stopped());
    assert!(busy.stopped().starts_with("l2-boot: busy, but not done after "), "{}", busy.stopped());
    assert!(idle.timed_out() && busy.timed_out());
    assert!(busy_took > idle_took * 2, "{idle_took:?} and {busy_took:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_that_is_asked_for_a_step_and_answers_is_not_without_progress() {
    let fake = Fake::new().silent_for_at_most(Duration::from_millis(900)).step("l0-kvm", 0, "long-work");
    let booted = fake.command(0, "long-work", 2000, crate::fake::exit(0, "")).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_step_in_an_l0_that_is_this_machine_runs_here_and_is_held_to_the_limits() {
    let native = || Fake::new().on_native_metal();
    let booted =
        native().step("l1-kvm", 0, "grep -q . /proc/version && [ $KVM_MODULE = kvm_amd ]").boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    assert_eq!(booted.observation.steps[0].status, Some(0));

    let fails = native().step("l1-kvm", 0, "grep -q nothing-like-it /proc/version").boot().await;
    assert!(fails.stopped().starts_with("step-1: ") && fails.word() == "fail", "{}", fails.stopped());

    let endless = native().limited_to(LIMIT).step("l1-kvm", 0, "tail -f /proc/version").boot().await;
    assert!(endless.stopped().starts_with("step-1: ") && endless.timed_out(), "{}", endless.stopped());
}

#[tokio::test(flavor = "current_thread")]
async fn a_step_that_never_ends_runs_out_of_time() {
    let fake = Fake::new().limited_to(LIMIT).step("l0-kvm", 0, "endless").command_never_ends(0, "endless");
    let booted = fake.boot().await;
    assert!(booted.stopped().starts_with("step-1: ") && booted.timed_out(), "{}", booted.stopped());
}

#[rstest]
#[case::real(StepTimeout::Real(30))]
#[case::of_the_guest(StepTimeout::Guest(3))]
#[tokio::test(flavor = "current_thread")]
async fn a_step_may_take_as_long_as_it_says(#[case] timeout: StepTimeout) {
    let long = |fake: Fake| fake.command(0, "long-work", 2000, crate::fake::exit(0, ""));
    let fake = || long(Fake::new().limited_to(LIMIT).step("l0-kvm", 0, "long-work"));
    let (patient, not) = (fake().within(timeout).boot().await, fake().boot().await);
    assert_eq!((patient.stopped(), patient.word()), (String::new(), "pass".into()));
    assert!(not.stopped().starts_with("step-1: ") && not.timed_out(), "{}", not.stopped());
}

#[tokio::test(flavor = "current_thread")]
async fn a_step_is_ended_when_its_own_time_is_over() {
    let fake = Fake::new().step("l0-kvm", 0, "endless").command_never_ends(0, "endless");
    let began = Instant::now();
    let booted = fake.within(StepTimeout::Real(1)).boot().await;
    assert!(booted.stopped().starts_with("step-1: ") && booted.timed_out(), "{}", booted.stopped());
    assert!(began.elapsed() < Duration::from_secs(20), "far less than any stage may take");
}
