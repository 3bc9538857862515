//! A QEMU that does not start, or that this machine ends: not every failure is the fault of the matrix.

use std::time::Duration;

use nestmatrix_model::{FaultAction, OwnAction};
use nestmatrix_stack::Symptom;
use rstest::rstest;
use serde_json::json;

use crate::fake::{Fake, exit, prints, signal};
use crate::script::{Act, End};

/// Short, because a QEMU in a level that opens no channel is polled rarely.
const LIMIT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_kvm_refuses_is_what_the_document_is_about() {
    let refused = exit(1, "qemu-system-x86_64: failed to initialize kvm: No such device\n");
    let booted = Fake::new().limited_to(LIMIT).qemu_ends(1, refused).boot().await;
    let expected = "l1-launch: L1's QEMU exited with status 1: qemu-system-x86_64: failed to initialize kvm: No such device";
    assert_eq!(booted.stopped(), expected);
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("fail".into(), "xfail".into()));
}

#[rstest]
#[case::property(1, "qemu-system-x86_64: Property 'pc-q35-10.0-machine.bogus' not found\n")]
#[case::machine(
    2,
    "qemu-kvm: unsupported machine type 'microvm'\nUse -machine help to list supported machines\n"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_command_line_that_the_qemu_of_a_level_does_not_understand_is_an_error(
    #[case] level: u8,
    #[case] says: &str,
) {
    let booted = Fake::new().limited_to(LIMIT).qemu_ends(level, exit(1, says)).boot().await;
    let stage = format!("l{level}-launch");
    assert!(booted.stopped().starts_with(&format!("{stage}: ")), "{}", booted.stopped());
    assert_eq!((booted.word(), booted.word_if_it_stops_from(&stage)), ("error".into(), "error".into()));
}

#[rstest]
#[case::no_room(
    "/run/nest/disk/",
    exit(97, "cat: write error: No space left on device\nnestmatrix could not copy l1-kernel\n")
)]
#[case::may_not_run("-name L1", exit(126, "sh: qemu-system-x86_64: Permission denied\n"))]
#[case::not_there("-name L1", exit(127, "sh: qemu-system-x86_64: not found\n"))]
#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_never_ran_says_nothing_of_the_matrix(#[case] script_contains: &str, #[case] end: End) {
    let booted = Fake::new().limited_to(LIMIT).command(0, script_contains, 5, end).boot().await;
    assert!(booted.stopped().starts_with("l1-launch: "), "{}", booted.stopped());
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("error".into(), "error".into()));
}

#[rstest]
#[case::kill(9)]
#[case::term(15)]
#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_this_machine_kills_is_an_error_on_native_metal(#[case] number: i64) {
    let fake = Fake::new().on_native_metal().boots(1, [Act::EndQemu(signal(number))]);
    let booted = fake.boot().await;
    assert!(booted.stopped().starts_with("l1-boot: "), "{}", booted.stopped());
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-boot")), ("error".into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_ends_in_order_for_a_signal_is_an_error() {
    // QEMU handles SIGTERM, SIGINT and SIGHUP: it reports a shutdown and exits with 0.
    let acts = [
        Act::Event("SHUTDOWN".into(), json!({"guest": false, "reason": "host-signal"})),
        Act::EndQemu(exit(0, "")),
    ];
    let (emulated, native) = (Fake::new(), Fake::new().on_native_metal());
    for fake in [emulated.boots(1, acts.clone()), native.boots(1, acts)] {
        let booted = fake.boot().await;
        assert!(booted.stopped().starts_with("l1-boot: "), "{}", booted.stopped());
        let words = (booted.word(), booted.word_if_it_stops_from("l1-boot"));
        assert_eq!(words, ("error".into(), "error".into()), "{}", booted.stopped());
    }
}

#[rstest]
#[case::memory("qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory\n")]
#[case::file(
    "qemu-system-x86_64: -drive file=/run/nest/disk/x: Could not open '/run/nest/disk/x': No such file\n"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_does_not_get_what_it_runs_on_is_an_error(#[case] says: &str) {
    let booted = Fake::new().limited_to(LIMIT).qemu_ends(1, exit(1, says)).boot().await;
    assert!(booted.stopped().starts_with("l1-launch: "), "{}", booted.stopped());
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("error".into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_crashes_is_a_failure_on_native_metal_too() {
    let booted = Fake::new().on_native_metal().boots(1, [Act::EndQemu(signal(6))]).boot().await;
    assert_eq!(
        (booted.stopped(), booted.word()),
        ("l1-boot: L1's QEMU aborted (SIGABRT)".into(), "fail".into())
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_the_scenario_kills_is_a_failure_on_native_metal_too() {
    let booted = Fake::new().on_native_metal().fault("l1-boot", FaultAction::KillQemu, 1).boot().await;
    assert_eq!(booted.stopped(), "l1-boot: L1's QEMU was killed (SIGKILL)");
    assert_eq!(booted.word_if_it_stops_from("l1-boot"), "xfail");
}

#[rstest]
#[case::the_extension("svm", "l1-launch: missing CPU feature: svm (model host)")]
#[case::another("aes svm-like", "l1-launch: L1's QEMU exited with status 1")]
#[case::not_it_alone("aes svm", "l1-launch: L1's QEMU exited with status 1")]
#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_refuses_to_start_without_the_extension_says_that_it_is_missing(
    #[case] names: &str,
    #[case] expected: &str,
) {
    // QEMU's message on IBM Z.
    let says = format!(
        "qemu-system-s390x: Some features requested in the CPU model are not available in the current configuration: {names} \
         Consider a different accelerator, QEMU, or kernel version\n"
    );
    let booted = Fake::new().limited_to(LIMIT).qemu_ends(1, exit(1, &says)).boot().await;
    assert!(booted.stopped().starts_with(expected), "{}", booted.stopped());
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-launch")), ("fail".into(), "xfail".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn an_innermost_level_gets_a_machine_that_the_qemu_around_it_has() {
    let types = "Supported machines are:\npc-q35-rhel9.4.0     RHEL-9.4.0 PC\nq35  RHEL-9.4.0 PC\n";
    let fake = || Fake::new().limited_to(LIMIT).command(1, "-machine help", 0, prints(types));
    let refuses = exit(1, "qemu-kvm: unsupported machine type 'microvm'\n");
    // The harness requests q35; this QEMU would have refused microvm.
    let booted = fake().command(1, "-machine microvm", 5, refuses).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_without_any_machine_for_the_innermost_level_is_an_error() {
    let types = "Supported machines are:\nisapc                ISA-only PC\n";
    let booted = Fake::new().limited_to(LIMIT).command(1, "-machine help", 0, prints(types)).boot().await;
    assert!(
        booted.stopped().starts_with("l2-launch: the QEMU of L1 has none of the machine types"),
        "{}",
        booted.stopped()
    );
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l2-launch")), ("error".into(), "error".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_second_machine_gets_firmware_that_the_qemu_around_it_has() {
    let types = "Supported machines are:\nmicrovm  microvm (i386)\nq35  Standard PC\n";
    let booted = Fake::new()
        .up_to(3)
        .limited_to(LIMIT)
        .does("l2-kvm", 2, OwnAction::Migrate)
        .command(1, "-machine help", 0, prints(types))
        .command(1, "firmware=qboot.rom", 5, exit(1, "qemu-system-x86_64: could not find qboot.rom\n"))
        .command(1, "-name L2-second", 5, exit(1, "it does not want to\n"))
        .boot()
        .await;
    let stopped = booted.stopped();
    assert!(stopped.starts_with("step-1: ") && stopped.ends_with("it does not want to"), "{stopped}");
}

#[tokio::test(flavor = "current_thread")]
async fn an_l2_in_a_second_l1_that_stops_in_its_default_firmware_is_charged_to_the_emulated_metal() {
    let boot = async |firmware: &str| {
        let types = format!("Supported machines are:\nq35  Standard PC\n{firmware}");
        let fake = Fake::new().silent_for_at_most(Duration::from_secs(2));
        let fake = fake.does("l1-kvm", 1, OwnAction::BootAnother);
        // The messages of its kernel go to the console of the first L2.
        fake.command(1, "-machine help", 0, prints(&types)).boot().await
    };
    let booted = boot("").await;
    let stop = booted.observation.stop.as_ref().unwrap();
    assert!(
        matches!(&stop.symptom, Symptom::Harness { erratum: Some(id), .. } if id == "tcg-no-nrips"),
        "{stop:?}"
    );
    assert_eq!((stop.stage.to_string(), booted.word()), ("step-1".into(), "error".into()));
    let booted = boot("firmware qboot.rom\n").await;
    assert!(booted.timed_out(), "{}", booted.stopped());
    assert_eq!(booted.word(), "fail");
}

#[tokio::test(flavor = "current_thread")]
async fn a_fault_for_a_second_machine_is_never_done_to_the_first() {
    let fake = Fake::new().fault("l2-boot", FaultAction::KillQemu, 1).of_the_second();
    assert_eq!(fake.boot().await.stopped(), "l2-boot: L1: its second QEMU does not run yet");
}
