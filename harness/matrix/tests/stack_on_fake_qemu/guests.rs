//! Guests of the user in the innermost level: what they print, and what happens before and after.

use std::time::Duration;

use nestmatrix_model::{Guest, SymptomKind};
use nestmatrix_stack::MachineSettings;
use rstest::rstest;
use serde_json::json;

use crate::fake::{Booted, Fake, exit};
use crate::script::Act;

/// A kernel needs some time until it can report.
const BOOTS: Act = Act::Wait(200);

/// A stack whose L2 boots a guest, which has reported and then does this. The boot waits for a prompt.
fn guest(acts: impl IntoIterator<Item = Act>) -> Fake {
    let guest = Guest { payload: "my-guest".into(), ready: Some("login:".into()) };
    let settings = MachineSettings { guest: Some(guest), ..MachineSettings::default() };
    let acts: Vec<Act> = [BOOTS, Act::Report].into_iter().chain(acts).collect();
    Fake::new().with_settings(2, settings).boots(2, acts)
}

fn says(text: &str) -> Act {
    Act::Say(text.into())
}

fn works(booted: &Booted) {
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let last = booted.observation.stages.last().map(|time| time.stage.to_string());
    assert_eq!(last.as_deref(), Some("l2-ready"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_works_as_soon_as_it_prompts() {
    works(&guest([says("Starting"), Act::Begin("my-guest login: ".into())]).boot().await);
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_worked_may_power_off() {
    works(&guest([says("my-guest login: root"), Act::PowerOff]).boot().await);
}

#[rstest]
#[case::panic(
    says("[    2.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"),
    "l2-ready: kernel panic: Attempted to kill init! exitcode=0x00000100",
    SymptomKind::GuestFailed
)]
#[case::off(
    Act::PowerOff,
    "l2-ready: L2 shut down before its work was done (guest-shutdown)",
    SymptomKind::ShutDown
)]
#[case::reset(
    Act::Event("SHUTDOWN".into(), json!({"guest": true, "reason": "guest-reset"})),
    "l2-ready: L2 shut down before its work was done (guest-reset)",
    SymptomKind::ShutDown
)]
#[case::crash(
    Act::EndQemu(exit(1, "kvm run failed\n")),
    "l2-ready: L2's QEMU exited with status 1: kvm run failed",
    SymptomKind::QemuEnded
)]
#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_ends_before_it_works_is_a_failure(
    #[case] act: Act,
    #[case] stopped: &str,
    #[case] kind: SymptomKind,
) {
    // The last line of a kernel that is reset on purpose: no erratum of the metal is charged with it.
    let booted = guest([says("[    1.9] reboot: Restarting system"), act]).boot().await;
    assert_eq!((booted.stopped().as_str(), booted.word().as_str()), (stopped, "fail"));
    assert_eq!(booted.observation.stop.as_ref().unwrap().symptom.kind(), kind);
    assert_eq!(booted.word_if_it_stops_from("l2-ready"), "xfail");
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_that_never_says_it_is_given_up() {
    let fake = guest([says("Starting")]).limited_to(Duration::from_secs(4));
    let booted = fake.boot().await;
    assert!(booted.timed_out(), "{}", booted.stopped());
    assert!(booted.stopped().starts_with("l2-ready: "), "{}", booted.stopped());
    assert!(booted.stopped().ends_with("last line \"Starting\""), "{}", booted.stopped());
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_said_before_the_report_is_not_the_guest() {
    let guest = guest([]).boots(2, [BOOTS, says("Command line: login:"), Act::Report, Act::PowerOff]);
    let booted = guest.boot().await;
    assert_eq!(booted.stopped(), "l2-ready: L2 shut down before its work was done (guest-shutdown)");
}

#[tokio::test(flavor = "current_thread")]
async fn a_guest_with_another_nonce_is_not_nested_however_well_it_works() {
    let lines = [
        "nestmatrix-report-begin",
        "nonce=17",
        "kernel=6.12.0-fake",
        "hypervisor=KVM",
        "nestmatrix-report-end",
    ];
    let acts: Vec<Act> = lines.into_iter().chain(["login:"]).map(says).collect();
    let booted = guest([]).boots(2, acts).boot().await;
    assert_eq!(booted.word(), "fail");
    assert!(booted.word_and_symptom().contains("nonce"), "{}", booted.word_and_symptom());
}

#[tokio::test(flavor = "current_thread")]
async fn without_a_text_to_wait_for_the_report_is_all() {
    let settings = MachineSettings {
        guest: Some(Guest { payload: "my-guest".into(), ready: None }),
        ..MachineSettings::default()
    };
    let booted = Fake::new().with_settings(2, settings).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let last = booted.observation.stages.last().map(|time| time.stage.to_string());
    assert_eq!(last.as_deref(), Some("l2-check"));
}
