//! A stack that stops: the symptom, its level, and who is at fault.

use std::path::Path;
use std::time::{Duration, Instant};

use nestmatrix_model::FaultAction;
use rstest::rstest;
use serde_json::json;

use crate::fake::{Fake, exit, level, signal};
use crate::script::{Act, End, How};

#[rstest]
#[case::panic(
    Act::Say("[    1.0] Kernel panic - not syncing: Attempted to kill init!".into()),
    "l1-boot: kernel panic: Attempted to kill init!"
)]
#[case::panicked(Act::Event("GUEST_PANICKED".into(), json!({"action": "pause"})), "l1-boot: the guest panicked (GUEST_PANICKED)")]
#[case::off(Act::PowerOff, "l1-boot: L1 shut down before its work was done (guest-shutdown)")]
#[case::crash(Act::EndQemu(signal(6)), "l1-boot: L1's QEMU aborted (SIGABRT)")]
#[case::exit(
    Act::EndQemu(exit(1, "kvm run failed\n")),
    "l1-boot: L1's QEMU exited with status 1: kvm run failed"
)]
#[tokio::test(flavor = "current_thread")]
async fn a_level_that_does_not_come_up_is_what_the_document_is_about(
    #[case] act: Act,
    #[case] expected: &str,
) {
    let booted = Fake::new().boots(1, [act]).boot().await;
    assert_eq!(booted.stopped(), expected);
    assert_eq!(booted.observation.stop.as_ref().unwrap().level(), Some(level(1)));
    assert_eq!((booted.word(), booted.word_if_it_stops_from("l1-boot")), ("fail".into(), "xfail".into()));
    assert_eq!(booted.word_if_it_stops_from("l2-launch"), "fail");
}

#[tokio::test(flavor = "current_thread")]
async fn a_panic_is_the_cause_and_the_end_of_the_qemu_after_it_a_consequence() {
    let panic = Act::Say("[    1.0] Kernel panic - not syncing: Fatal exception".into());
    let booted = Fake::new().boots(1, [panic, Act::EndQemu(exit(0, ""))]).boot().await;
    assert_eq!(booted.stopped(), "l1-boot: kernel panic: Fatal exception");
}

#[tokio::test(flavor = "current_thread")]
async fn the_end_of_an_outer_qemu_is_the_cause_of_what_is_seen_further_in() {
    let booted = Fake::new().reply("l2.qmp", "cont", How::After(vec![])).boots(2, [Act::Wait(100)]);
    let booted = booted.fault("l2-boot", FaultAction::KillQemu, 1).boot().await;
    assert_eq!(booted.stopped(), "l2-boot: L1's QEMU was killed (SIGKILL)");
    assert_eq!(booted.observation.stop.as_ref().unwrap().level(), Some(level(1)));
}

#[tokio::test(flavor = "current_thread")]
async fn the_end_of_a_qemu_that_nothing_waited_for_explains_why_evidence_is_missing() {
    // L2 has reported when its QEMU is killed, and KVM's counters go with it.
    let mut closing_report = exit(0, "");
    closing_report.stdout = "counters\nexits:0\n".into();
    let booted = Fake::new().command(1, "nestmatrix-uptime=", 0, closing_report);
    let booted = booted.fault("l2-check", FaultAction::KillQemu, 2).boot().await;
    assert_eq!(
        (booted.stopped(), booted.word()),
        ("l2-check: L2's QEMU was killed (SIGKILL)".into(), "fail".into())
    );
}

#[tokio::test(flavor = "current_thread")]
async fn an_oops_in_a_level_that_has_already_reported_is_no_pass() {
    let oops = Act::Say("[    2.0] Oops: 0002 [#1] PREEMPT SMP".into());
    let booted = Fake::new().boots(2, [oops, Act::Report, Act::PowerOff]).boot().await;
    assert_eq!(
        (booted.stopped(), booted.word()),
        ("l2-boot: oops: Oops: 0002 [#1] PREEMPT SMP".into(), "fail".into())
    );
}

#[rstest]
#[case::a_question("query-kvm", "error")]
#[case::what_is_tried("cont", "fail")]
#[tokio::test(flavor = "current_thread")]
async fn what_a_qemu_refuses_is_about_the_stack_only_where_it_was_to_do_something(
    #[case] command: &str,
    #[case] expected: &str,
) {
    let booted = Fake::new().reply("l1.qmp", command, How::Refuse("it is not possible".into())).boot().await;
    assert_eq!(booted.word(), expected, "{}", booted.stopped());
}

#[tokio::test(flavor = "current_thread")]
async fn a_monitor_that_closes_while_its_qemu_runs_is_an_error() {
    let close = |at, of| Fake::new().fault(at, FaultAction::CloseQmp, of).boot();
    let (of_l0, of_l1) = tokio::join!(close("l0-boot", 0), close("l1-boot", 1));
    for (booted, stage) in [(of_l0, "l0-boot: "), (of_l1, "l1-boot: ")] {
        assert!(
            booted.stopped().starts_with(stage) && booted.stopped().contains("closed"),
            "{}",
            booted.stopped()
        );
        assert_eq!(
            (booted.word(), booted.word_if_it_stops_from("l0-boot")),
            ("error".into(), "error".into())
        );
    }
}

#[rstest]
#[case::at_boot(
    0,
    Act::EndQemu(exit(1, "no memory\n")),
    "l0-boot: the emulator that plays L0's metal exited with status 1: no memory"
)]
#[case::later(1, Act::EndQemu(signal(11)), "l1-boot: L1's QEMU crashed (SIGSEGV)")]
#[tokio::test(flavor = "current_thread")]
async fn only_the_emulator_of_the_metal_is_no_part_of_the_stack(
    #[case] of: u8,
    #[case] act: Act,
    #[case] expected: &str,
) {
    let booted = Fake::new().boots(of, [act]).boot().await;
    assert_eq!(booted.stopped(), expected);
    assert_eq!(booted.word(), if of == 0 { "error" } else { "fail" });
}

#[tokio::test(flavor = "current_thread")]
async fn a_sandbox_that_fails_is_an_error_that_says_why() {
    let fails = ["/bin/sh", "-c", "echo 'the sandbox failed: no such file' >&2; exit 125"];
    let booted = Fake::new().in_sandbox(&fails).boot().await;
    let seen = "the emulator that plays L0's metal exited with status 125: the sandbox failed: no such file";
    assert_eq!(booted.word_and_symptom(), format!("error: {seen}"));
    assert_eq!(booted.word_if_it_stops_from("l0-launch"), "error");
}

#[tokio::test(flavor = "current_thread")]
async fn an_end_of_the_emulator_that_is_known_to_come_of_an_erratum_names_it() {
    let said = "ERROR:accel/tcg/tcg-accel-ops.c:95:tcg_handle_interrupt: assertion failed: (bql_locked())\n";
    let aborts = |of, said: &str| {
        Fake::new().boots(of, [Act::EndQemu(End { stderr: said.to_owned(), ..signal(6) })]).boot()
    };
    let booted = aborts(0, said).await;
    let seen = booted.word_and_symptom();
    assert!(seen.starts_with("error: the emulator that plays L0's metal aborted (SIGABRT): "), "{seen}");
    assert!(seen.ends_with("(emulator erratum tcg-cr8-write-abort)"), "{seen}");
    let before_9 = said.replace("bql_locked", "qemu_mutex_iothread_locked");
    assert!(aborts(0, &before_9).await.stopped().ends_with("(emulator erratum tcg-cr8-write-abort)"));
    for (of, said) in [(0, "another assertion failed\n"), (1, said)] {
        let booted = aborts(of, said).await;
        assert!(!booted.stopped().contains("erratum"), "{}", booted.stopped());
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_l1_without_a_required_cpu_feature_stops_at_its_launch() {
    let fake = Fake::new().late_reply(0, "true", "l1.qmp", "qom-get", How::Return(json!(false)));
    let booted = fake.boot().await;
    assert_eq!(
        booted.stopped(),
        "l1-launch: missing CPU feature: svm (model host); kvm_amd of L0 has nested=1"
    );
    assert_eq!(booted.word(), "fail");
}

#[tokio::test(flavor = "current_thread")]
async fn a_qemu_that_falls_back_to_tcg_is_seen() {
    let answer = json!({"enabled": false, "present": true});
    let booted = Fake::new().reply("l2.qmp", "query-kvm", How::Return(answer)).boot().await;
    let expected = "l2-launch: L2's QEMU does not run it with KVM (query-kvm: enabled is false)";
    assert_eq!((booted.stopped().as_str(), booted.word().as_str()), (expected, "fail"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_level_without_kvm_is_no_hypervisor() {
    let mut facts = exit(0, "");
    facts.stdout = format!("kernel={}\nkvm-module\n", crate::script::KERNEL);
    let booted = Fake::new().command(1, "kvm-device", 0, facts).boot().await;
    assert_eq!(booted.stopped(), "l1-kvm: L1 has no usable /dev/kvm (kvm_amd is loaded)");
}

#[tokio::test(flavor = "current_thread")]
async fn an_l2_with_another_nonce_is_another_l2() {
    let report = [
        "nestmatrix-report-begin",
        "nonce=old",
        "kernel=6.12.0-fake",
        "hypervisor=KVM",
        "nestmatrix-report-end",
    ];
    let says: Vec<Act> = report.into_iter().map(|line| Act::Say(line.into())).collect();
    let booted = Fake::new().boots(2, says).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "fail".into()));
}

#[rstest]
#[case::before_it_has_reported(&[], Act::PowerOff, "l2-boot: L2 shut down before its work was done (guest-shutdown)", "fail")]
// The image prints the report at once, and powers off then.
#[case::after_a_report_without_an_end(
    &["nestmatrix-report-begin"],
    Act::PowerOff,
    "l2-check: the report of L2 on its console is damaged (L2 shut down before its work was done (guest-shutdown))",
    "error"
)]
#[case::after_a_report_with_a_damaged_line(
    &["nestmatrix-report-begin", "nonce=1[ 0.8] x", "size=7", "nestmatrix-report-end"],
    Act::PowerOff,
    "l2-check: the report of L2 on its console is damaged (L2 shut down before its work was done (guest-shutdown))",
    "error"
)]
#[case::after_a_report_of_which_nothing_is_whole(
    &["nestmatrix-rep\0ort-be\0gin", "non\0ce=1"],
    Act::PowerOff,
    "l2-boot: the report of L2 on its console is damaged (L2 shut down before its work was done (guest-shutdown))",
    "error"
)]
#[case::by_a_reset_while_it_reports(
    &["nestmatrix-report-begin"],
    Act::Event("SHUTDOWN".into(), json!({"guest": true, "reason": "guest-reset"})),
    "l2-check: L2 shut down before its work was done (guest-reset)",
    "fail"
)]
#[tokio::test(flavor = "current_thread")]
async fn an_l2_that_ends_without_a_report_did_not_run_unless_its_report_is_damaged(
    #[case] lines: &[&str],
    #[case] end: Act,
    #[case] expected: &str,
    #[case] word: &str,
) {
    let says = lines.iter().map(|line| Act::Say((*line).into()));
    let acts: Vec<Act> = says.chain([Act::Wait(50), end]).collect();
    let booted = Fake::new().boots(2, acts).boot().await;
    assert_eq!((booted.stopped().as_str(), booted.word().as_str()), (expected, word));
}

#[tokio::test(flavor = "current_thread")]
async fn a_user_who_interrupts_gets_no_verdict_on_the_matrix() {
    let fake = Fake::new().boots(1, [Act::Say("booting".into())]);
    let began = Instant::now();
    let booted = fake.interrupted_after(Duration::from_millis(200)).boot().await;
    assert!(booted.observation.stop.as_ref().unwrap().is_interrupted());
    assert_eq!(booted.word_if_it_stops_from("l0-boot"), "error");
    assert!(began.elapsed() < Duration::from_secs(5), "at once");
}

#[tokio::test(flavor = "current_thread")]
async fn a_boot_that_is_dropped_leaves_no_qemu() {
    let fake = Fake::new().boots(1, []);
    let folder = fake.folder();
    let mut boot = Box::pin(fake.boot());
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut boot).await.is_err(), "L1 never comes up");
    assert_eq!(processes_about(&folder), 1);
    drop(boot);
    assert_eq!(processes_about(&folder), 0);
}

/// How many processes have a folder on their command line.
fn processes_about(folder: &Path) -> usize {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.join("cmdline")).ok());
    lines.filter(|line| line.contains(folder)).count()
}

#[tokio::test(flavor = "current_thread")]
async fn how_a_qemu_ended_is_known_even_if_the_reply_came_too_late() {
    // Only the agent shows that the QEMU has ended, and its answer takes longer than the wait. It answers so only once.
    let late = How::After(vec![Act::Wait(900)]);
    let fake = Fake::new().limited_to(Duration::from_secs(2));
    let fake = fake.boots(1, [Act::EndQemuUnseen(exit(3, "boom\n"))]);
    let booted = fake.late_reply(0, "\"exitcode\":3", "l0.agent", "guest-exec-status", late).boot().await;
    assert_eq!(booted.stopped(), "l1-boot: L1's QEMU exited with status 3: boom");
}
