//! Tests of the watch, on a clock of their own.

use std::cell::Cell;

use nestmatrix_vmm::guest::{ExecOutput, GuestFailure};
use nestmatrix_vmm::qemu::Ended;
use nestmatrix_vmm::wire::{Event, Speaker};
use serde_json::{Value, json};

use super::*;
use crate::Limit;
use crate::host::{Diagnostics, HostError, Pending, QemuEnd, RunningProcess};

/// A QEMU that uses its CPU for this part of the time, until it ends.
struct Qemu {
    busy: f64,
    started: Instant,
    ends_after: Cell<Option<Duration>>,
}

impl RunningProcess for Qemu {
    fn cpu_time(&self) -> Pending<'_, Duration> {
        Box::pin(async { Ok(self.started.elapsed().mul_f64(self.busy)) })
    }
    fn ended(&self) -> Pending<'_, Option<QemuEnd>> {
        let over = self.ends_after.get().is_some_and(|after| self.started.elapsed() >= after);
        Box::pin(async move { Ok(over.then(|| QemuEnd::new(Ended::Signalled(9), b""))) })
    }
    fn diagnostics(&self, _: bool) -> Pending<'_, Diagnostics> {
        Box::pin(async { Ok(Diagnostics::default()) })
    }
    fn kill(&self) -> Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

const LIMIT: Limit = Limit { silence: Duration::from_secs(60), total: Duration::from_secs(360) };

fn level(n: u8) -> LevelNumber {
    LevelNumber::new(n).unwrap()
}

fn event(name: &str, data: Value) -> WatchEvent {
    WatchEvent::Monitor(Notice::Event(Event { name: name.into(), data }))
}

/// Something that is there when a wait begins.
enum There {
    Line(u8, &'static str),
    Event(u8, WatchEvent),
}

use There::Line;

fn sign(n: u8, name: &str, data: Value) -> There {
    There::Event(n, event(name, data))
}

/// Waits for L2 to report, with all this already there.
async fn wait(qemu: Qemu, there: Vec<There>) -> (Result<(), Abort>, Watch) {
    let (_keep, cancellation) = Cancellation::new();
    let mut watch = Watch::new(cancellation);
    watch.add(level(1), false);
    watch.add(level(2), true);
    for what in there {
        match what {
            Line(n, text) => watch.console(level(n)).unwrap().line(text.into()),
            There::Event(n, sign) => watch.sender.try_send((level(n), sign)).unwrap(),
        }
    }
    let done = |watch: &Watch| watch.console(level(2))?.report(|report| report.complete().map(|_| ()));
    let waited = watch.until(level(2), LIMIT, &qemu, done).await;
    (waited, watch)
}

fn qemu(busy: f64) -> Qemu {
    Qemu { busy, started: Instant::now(), ends_after: Cell::new(None) }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_nothing_is_given_up_after_its_silence() {
    let (waited, watch) = wait(qemu(0.02), vec![Line(2, "the last line")]).await;
    assert!(matches!(waited, Err(Abort::Silent { silence, .. }) if silence.as_secs() < 70), "{waited:?}");
    assert_eq!(watch.console(level(2)).unwrap().last_line().as_deref(), Some("the last line"));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_computes_in_silence_is_alive_but_not_for_ever() {
    let (waited, _) = wait(qemu(0.9), Vec::new()).await;
    assert!(matches!(waited, Err(Abort::Endless { total, .. }) if total == LIMIT.total), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_qemu_that_is_gone_is_noticed_though_its_channels_say_nothing() {
    let gone = qemu(0.9);
    gone.ends_after.set(Some(Duration::from_secs(1)));
    let (waited, _) = wait(gone, Vec::new()).await;
    assert!(matches!(waited, Err(Abort::Closed { .. })), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn what_any_level_says_of_its_end_ends_the_wait_at_once() {
    let began = Instant::now();
    let oops = "[ 1.0] BUG: unable to handle page fault for address: 0";
    let panic = "[ 1.1] Kernel panic - not syncing: Fatal exception";
    let (waited, watch) = wait(qemu(0.9), vec![Line(1, oops), Line(1, panic)]).await;
    assert!(matches!(waited, Err(Abort::Failed { level: of, .. }) if of == level(1)), "{waited:?}");
    let first = (GuestFailure::Oops, "BUG: unable to handle page fault for address: 0".to_owned());
    assert_eq!(watch.console(level(1)).unwrap().failure(), Some(first), "the cause, not its consequence");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn events_that_end_a_wait_are_told_apart() {
    let shut_down = |n| sign(n, "SHUTDOWN", json!({"guest": true, "reason": "guest-reset"}));
    let waited = wait(qemu(0.9), vec![shut_down(1)]).await.0;
    assert!(
        matches!(waited, Err(Abort::ShutDown { ref reason, .. }) if reason == "guest-reset"),
        "{waited:?}"
    );
    let waited = wait(qemu(0.9), vec![shut_down(2)]).await.0;
    assert!(matches!(waited, Err(Abort::ShutDown { .. })), "it has not reported yet: {waited:?}");
    let waited = wait(qemu(0.9), vec![sign(2, "GUEST_PANICKED", json!({"action": "pause"}))]).await.0;
    assert!(matches!(waited, Err(Abort::Panicked { level: of }) if of == level(2)), "{waited:?}");
    let waited = wait(qemu(0.9), vec![sign(1, "STOP", Value::Null)]).await.0;
    assert!(matches!(waited, Err(Abort::Halted { .. })), "{waited:?}");
    let closed = WatchEvent::Monitor(Notice::Closed("end of file".into()));
    let waited = wait(qemu(0.9), vec![There::Event(1, closed)]).await.0;
    assert!(matches!(waited, Err(Abort::Closed { .. })), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_has_reported_may_power_off() {
    let lines = ["nestmatrix-report-begin", "nonce=17", "nestmatrix-report-end"];
    let mut signs: Vec<_> = lines.map(|text| Line(2, text)).into();
    signs.push(sign(2, "SHUTDOWN", json!({"guest": true, "reason": "guest-shutdown"})));
    assert!(wait(qemu(0.9), signs).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_to_end_goes_before_everything_else() {
    let (request, cancellation) = Cancellation::new();
    let mut watch = Watch::new(cancellation);
    watch.add(level(1), false);
    request.send(true).unwrap();
    let work = async { Ok::<ExecOutput, HostError>(std::future::pending().await) };
    let waited = watch.during(level(1), LIMIT, None, work).await;
    assert!(matches!(waited, Err(Abort::Interrupted)), "{waited:?}");
}

#[tokio::test]
async fn the_closing_of_a_port_ends_the_conversation_that_it_carries() {
    let local = tokio::task::LocalSet::new();
    let test = async {
        let (_keep, cancellation) = Cancellation::new();
        let mut watch = Watch::new(cancellation);
        watch.add(level(1), false);
        watch.add(level(2), true);
        let (near, _far) = tokio::net::UnixStream::pair().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let transcript =
            nestmatrix_vmm::wire::Transcript::open(&dir.path().join("qmp"), std::time::Instant::now())
                .unwrap();
        let (notices, _noticed) = mpsc::channel(16);
        let wire = Wire::start(Speaker::Qemu, "QMP of L2's QEMU", near, transcript, notices);
        let channel = ChannelName { level: level(2), kind: ChannelKind::Qmp, second: false };
        watch.name_wire(channel, wire.clone());
        let open = |open| event("VSERPORT_CHANGE", json!({"id": "l2.qmp", "open": open}));
        assert!(watch.handle_event(level(1), open(true)).is_none());
        assert!(watch.handle_event(level(1), open(false)).is_none());
        let refused = wire.call("query-status", Value::Null).await.unwrap_err();
        assert!(refused.to_string().ends_with("its port l2.qmp was closed"), "{refused}");
    };
    local.run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_old_qemu_of_a_migrated_level_says_is_not_about_the_level() {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let (_keep, cancellation) = Cancellation::new();
            let mut watch = Watch::new(cancellation);
            watch.add(level(1), false);
            watch.add(level(2), true);
            let (old, notices) = mpsc::channel(16);
            watch.listen_to(level(1).into(), notices);
            watch.begin_move(level(1));
            old.try_send(Notice::Event(Event { name: "STOP".into(), data: Value::Null })).unwrap();
            tokio::task::yield_now().await;
            assert!(watch.end_move(level(1), true).is_none());
            // After a closed channel nothing is heard any more.
            let _ = old.try_send(Notice::Closed("end of file".into()));
            let nothing = watch.until(level(1), LIMIT, &qemu(0.0), |_| None::<()>).await;
            assert!(matches!(nothing, Err(Abort::Silent { .. })), "{nothing:?}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_stall_that_a_kernel_reports_ends_no_wait_and_is_named_when_time_runs_out() {
    let stall = "[   52.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]";
    let began = Instant::now();
    let (waited, watch) = wait(qemu(0.02), vec![Line(2, stall)]).await;
    assert!(matches!(waited, Err(Abort::Silent { .. })), "{waited:?}");
    assert!(began.elapsed() >= LIMIT.silence);
    let said = watch.console(level(2)).unwrap().stall();
    assert_eq!(said.as_deref(), Some("watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]"));
}

#[tokio::test(start_paused = true)]
async fn a_console_that_never_stops_printing_is_held_to_the_limits() {
    let (_keep, cancellation) = Cancellation::new();
    let mut watch = Watch::new(cancellation);
    watch.add(level(2), true);
    let console = watch.console(level(2)).unwrap().clone();
    let flood = async move {
        loop {
            console.line("more".into());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let qemu = qemu(0.9);
    let waited = tokio::select! {
        waited = watch.until(level(2), LIMIT, &qemu, |_| None::<()>) => waited,
        () = flood => unreachable!("it never ends"),
    };
    assert!(matches!(waited, Err(Abort::Endless { .. })), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn signs_that_never_stop_do_not_keep_work_from_its_end() {
    let (_keep, cancellation) = Cancellation::new();
    let mut watch = Watch::new(cancellation);
    watch.add(level(1), false);
    let sender = watch.sender.clone();
    let flood = async move {
        loop {
            let _ = sender.send((level(1), event("RTC_CHANGE", Value::Null))).await;
        }
    };
    let work = async {
        tokio::task::yield_now().await;
        Ok(7)
    };
    let waited = tokio::select! {
        waited = watch.during(level(1), LIMIT, None, work) => waited,
        () = flood => unreachable!("it never ends"),
    };
    assert!(matches!(waited, Ok(7)), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_level_whose_agent_answers_while_a_command_runs_is_not_hung() {
    let local = tokio::task::LocalSet::new();
    let test = async {
        let (_keep, cancellation) = Cancellation::new();
        let mut watch = Watch::new(cancellation);
        watch.add(level(1), false);
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        let (notices, _noticed) = mpsc::channel(16);
        let wire = Wire::start(
            Speaker::Agent,
            "agent of L1",
            near,
            nestmatrix_vmm::wire::Transcript::none(),
            notices,
        );
        let channel = ChannelName { level: level(1), kind: ChannelKind::Agent, second: false };
        watch.name_wire(channel, wire.clone());
        tokio::task::spawn_local(async move {
            use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
            let (reader, mut writer) = far.into_split();
            let mut lines = BufReader::new(reader).lines();
            while let Ok(Some(_)) = lines.next_line().await {
                writer.write_all(b"{\"return\": {\"exited\": false}}\n").await.unwrap();
            }
        });
        let agent = wire.clone();
        let command = async move {
            let began = Instant::now();
            while began.elapsed() < LIMIT.silence * 2 {
                agent.call("guest-exec-status", json!({"pid": 7})).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        };
        let qemu = qemu(0.02);
        watch.during(level(1), LIMIT, Some(&qemu), command).await.unwrap();
    };
    local.run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_ends_just_after_the_shutdown_is_heard_of_counts() {
    let (_keep, cancellation) = Cancellation::new();
    let mut watch = Watch::new(cancellation);
    watch.add(level(2), true);
    let console = watch.console(level(2)).unwrap().clone();
    let shutdown = event("SHUTDOWN", json!({"guest": true, "reason": "guest-shutdown"}));
    watch.sender.try_send((level(2), shutdown)).unwrap();
    let late = async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        for line in ["nestmatrix-report-begin", "nonce=17", "nestmatrix-report-end"] {
            console.line(line.into());
        }
        std::future::pending::<()>().await;
    };
    let qemu = qemu(0.9);
    let done = |watch: &Watch| watch.console(level(2))?.report(|report| report.complete().map(|_| ()));
    let waited = tokio::select! {
        waited = watch.until(level(2), LIMIT, &qemu, done) => waited,
        () = late => unreachable!("it never ends"),
    };
    assert!(waited.is_ok(), "{waited:?}");
}
