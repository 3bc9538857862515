//! Both sides of a desk, with a stack that is played.

use std::os::unix::net::UnixStream as Blocking;

use nestmatrix_model::LevelNumber;
use nestmatrix_stack::Ask;
use serde_json::json;

use super::super::{DebugClient, DebugClientError};
use super::*;

fn cell() -> CellName {
    "scenario/amd/one/two/three".parse().unwrap()
}

fn held(stage: &str) -> PausedStack {
    PausedStack { stage: stage.parse().unwrap(), stop: None, levels: Vec::new() }
}

/// Opens a desk and a conversation with it, and plays the stack with `play` while the visitor asks in a thread of its own.
async fn visited<T: Send + 'static>(
    desk: &Rc<DebugServer>,
    visitor: impl FnOnce(DebugClient) -> T + Send + 'static,
    play: impl AsyncFnOnce(&DebugServer),
) -> T {
    let socket = desk._scratch.path().join(SOCKET);
    let visiting = tokio::task::spawn_blocking(move || {
        visitor(DebugClient::begin(Blocking::connect(socket).unwrap()).unwrap())
    });
    play(desk).await;
    visiting.await.unwrap()
}

async fn within_local_set(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

fn level(number: u8) -> LevelNumber {
    LevelNumber::new(number).unwrap()
}

#[tokio::test]
async fn what_a_visitor_asks_reaches_the_stack_and_the_answer_the_visitor() {
    within_local_set(async {
        let desk = DebugServer::open(cell(), PauseAt::End, |_| {}).unwrap();
        desk.begins(held("l2-check"));
        let ask = Ask::Qmp { command: "query-status".into(), arguments: json!({}) };
        let asked = ask.clone();
        let visitor =
            move |mut visit: DebugClient| (visit.greeting.clone(), visit.ask(level(1), asked).unwrap());
        let (greeting, answer) = visited(&desk, visitor, async |desk| {
            let request = desk.next().await.unwrap();
            assert_eq!((request.level, &request.ask), (level(1), &ask));
            request.answer.send(Answer::Returned { value: json!({"status": "running"}) }).unwrap();
        })
        .await;
        assert_eq!(greeting.held, Some(held("l2-check")));
        assert_eq!(answer, Answer::Returned { value: json!({"status": "running"}) });
    })
    .await;
}

#[tokio::test]
async fn a_stack_on_its_way_is_not_asked() {
    within_local_set(async {
        let desk = DebugServer::open(cell(), PauseAt::End, |_| {}).unwrap();
        desk.notes("l1-boot".parse().unwrap());
        let visitor =
            |mut visit: DebugClient| visit.ask(level(0), Ask::Run { script: "true".into() }).unwrap();
        let answer = visited(&desk, visitor, async |_| {}).await;
        assert_eq!(answer, Answer::Refused { why: "the stack is in l1-boot and not held yet".into() });
    })
    .await;
}

#[tokio::test]
async fn who_hangs_up_does_not_wait_any_more() {
    within_local_set(async {
        let desk = DebugServer::open(cell(), PauseAt::End, |_| {}).unwrap();
        desk.begins(held("l2-check"));
        let (hang_up, hung_up) = std::sync::mpsc::channel();
        let visitor = move |visit: DebugClient| {
            let mut socket = visit.from.get_ref();
            let inquiry = "{\"level\":\"l0\",\"do\":\"run\",\"script\":\"sleep 1000\"}\n";
            io::Write::write_all(&mut socket, inquiry.as_bytes()).unwrap();
            hung_up.recv().unwrap();
        };
        visited(&desk, visitor, async |desk| {
            let mut request = desk.next().await.unwrap();
            assert!(!request.answer.is_closed());
            hang_up.send(()).unwrap();
            request.answer.closed().await;
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_desk_that_is_closed_says_so() {
    within_local_set(async {
        let desk = DebugServer::open(cell(), PauseAt::End, |_| {}).unwrap();
        desk.begins(held("l2-check"));
        let ask = Ask::Run { script: "true".into() };
        let visitor = move |mut visit: DebugClient| visit.ask(level(0), ask).unwrap();
        let answer = visited(&desk, visitor, async |desk| drop(desk.next().await)).await;
        assert_eq!(answer, Answer::Refused { why: "the stack has been let go".into() });
        let (near, far) = Blocking::pair().unwrap();
        drop(far);
        assert!(matches!(DebugClient::begin(near), Err(DebugClientError::Ended)));
    })
    .await;
}

#[tokio::test]
async fn who_asks_to_end_lets_a_judged_stack_go_and_cancels_any_other() {
    within_local_set(async {
        for (at, stage, is_cancelled) in [
            (PauseAt::End, "l2-check", false),
            (PauseAt::Failure, "l1-kvm", false),
            (PauseAt::Stage("l1-kvm".parse().unwrap()), "l1-kvm", true),
        ] {
            let desk = DebugServer::open(cell(), at, |_| {}).unwrap();
            let (end, asked) = Cancellation::new();
            let mut cancellation = desk.guard(asked);
            desk.begins(held(stage));
            end.send(true).unwrap();
            let seen = tokio::select! {
                () = cancellation.requested() => true,
                request = desk.next() => request.is_some(),
            };
            assert_eq!(seen, is_cancelled, "{at:?}");
        }
    })
    .await;
}
