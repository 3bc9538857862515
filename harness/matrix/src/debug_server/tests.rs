//! Server and client of a debug session, with a simulated stack.

use std::os::unix::net::UnixStream as Blocking;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_stack::{Ask, Exec, PausedLevel, Stream};
use serde_json::json;

use super::super::{DebugClient, DebugClientError, ExecEnd};
use super::*;

fn cell() -> CellName {
    "scenario/amd/one/two/three".parse().unwrap()
}

fn paused(stage: &str) -> PausedStack {
    PausedStack { stage: stage.parse().unwrap(), stop: None, levels: Vec::new() }
}

/// Connects a client, which sends requests from its own thread, while `play` simulates the stack.
async fn with_client<T: Send + 'static>(
    server: &Rc<DebugServer>,
    client: impl FnOnce(DebugClient) -> T + Send + 'static,
    play: impl AsyncFnOnce(&DebugServer),
) -> T {
    let socket = server.socket();
    let running = tokio::task::spawn_blocking(move || {
        client(DebugClient::begin(Blocking::connect(socket).unwrap()).unwrap())
    });
    play(server).await;
    running.await.unwrap()
}

async fn within_local_set(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

fn level(number: u8) -> LevelNumber {
    LevelNumber::new(number).unwrap()
}

#[tokio::test]
async fn a_request_reaches_the_stack_and_the_answer_the_client() {
    within_local_set(async {
        let server = DebugServer::open(cell(), PauseAt::End, |_| {}).unwrap();
        server.begins(paused("l2-check"));
        let ask = Ask::Qmp { command: "query-status".into(), arguments: json!({}) };
        let asked = ask.clone();
        let client = move |mut connection: DebugClient| {
            (connection.greeting.clone(), connection.ask(level(1), asked).unwrap())
        };
        let (greeting, answer) = with_client(&server, client, async |server| {
            let request = server.next().await.unwrap();
            assert_eq!((request.level, &request.ask), (level(1), &ask));
            let value = json!({"status": "running"});
            request.answers.send(Answer::Returned { value }).await.unwrap();
        })
        .await;
        assert_eq!(greeting.paused, Some(paused("l2-check")));
        assert_eq!(answer, Answer::Returned { value: json!({"status": "running"}) });
    })
    .await;
}

#[tokio::test]
async fn only_a_kept_stack_whose_level_has_an_agent_is_for_commands() {
    within_local_set(async {
        let server = DebugServer::open(cell(), PauseAt::End, |_| {}).unwrap();
        let greeting = async || {
            let client = |connection: DebugClient| connection.greeting;
            with_client(&server, client, async |_| {}).await
        };
        assert!(!greeting().await.runs_commands(&cell(), level(1)), "it is not paused yet");
        let of_level = |number, exec| PausedLevel {
            level: level(number),
            kernel: None,
            qemu: None,
            console: None,
            monitor: false,
            shell: true,
            exec,
        };
        let levels = vec![of_level(1, true), of_level(2, false)];
        server.begins(PausedStack { levels, ..paused("l1-kvm") });
        let inspected = greeting().await;
        assert!(inspected.runs_commands(&cell(), level(1)) && !inspected.runs_commands(&cell(), level(2)));
        assert!(!inspected.runs_commands(&"scenario/amd/one/two/four".parse().unwrap(), level(1)));
        assert_eq!(inspected.kept, None);
        let fingerprint: Fingerprint = serde_json::from_value(json!("0123")).unwrap();
        server.keep_for_commands(fingerprint.clone());
        assert_eq!(greeting().await.kept, Some(fingerprint));
    })
    .await;
}

#[tokio::test]
async fn a_running_stack_gets_no_request() {
    within_local_set(async {
        let server = DebugServer::open(cell(), PauseAt::End, |_| {}).unwrap();
        server.set_stage("l1-boot".parse().unwrap());
        let client = |mut connection: DebugClient| {
            connection.ask(level(0), Ask::Run { script: "true".into() }).unwrap()
        };
        let answer = with_client(&server, client, async |_| {}).await;
        assert_eq!(answer, Answer::Refused { why: "the stack is not paused yet: it is in l1-boot".into() });
    })
    .await;
}

#[tokio::test]
async fn closing_the_connection_cancels_the_request() {
    within_local_set(async {
        let server = DebugServer::open(cell(), PauseAt::End, |_| {}).unwrap();
        server.begins(paused("l2-check"));
        let (hang_up, hung_up) = std::sync::mpsc::channel();
        let client = move |connection: DebugClient| {
            let mut socket = connection.from.get_ref();
            let request = "{\"level\":\"l0\",\"do\":\"run\",\"script\":\"sleep 1000\"}\n";
            io::Write::write_all(&mut socket, request.as_bytes()).unwrap();
            hung_up.recv().unwrap();
        };
        with_client(&server, client, async |server| {
            let request = server.next().await.unwrap();
            assert!(!request.answers.is_closed());
            hang_up.send(()).unwrap();
            request.answers.closed().await;
        })
        .await;
    })
    .await;
}

fn exec(script: &str) -> Exec {
    Exec { files: Vec::new(), script: script.to_owned() }
}

#[tokio::test]
async fn the_output_of_a_command_reaches_the_client_before_its_end() {
    within_local_set(async {
        let server = DebugServer::open(cell(), PauseAt::End, |_| {}).unwrap();
        server.begins(paused("l0-kvm"));
        let client = |mut connection: DebugClient| {
            let mut printed = Vec::new();
            let end = connection.exec(level(0), exec("x"), None, |stream, bytes| {
                printed.push((stream, bytes.to_vec()));
                Ok(())
            });
            (end.unwrap(), printed)
        };
        let (end, printed) = with_client(&server, client, async |server| {
            let request = server.next().await.unwrap();
            assert_eq!(request.ask, Ask::Exec(exec("x")));
            let printed = |stream, base64: &str| Answer::Printed { stream, base64: base64.to_owned() };
            let ended =
                Answer::Ended { status: Some(3), signal: None, stdout: String::new(), stderr: String::new() };
            // Not UTF-8.
            let answers = [Answer::Started, printed(Stream::Stdout, "/w=="), printed(Stream::Stderr, "ZQ==")];
            for answer in answers.into_iter().chain([ended]) {
                request.answers.send(answer).await.unwrap();
            }
        })
        .await;
        assert_eq!(end, ExecEnd::Exited(3));
        assert_eq!(printed, [(Stream::Stdout, vec![0xff]), (Stream::Stderr, b"e".to_vec())]);
    })
    .await;
}

#[tokio::test]
async fn a_command_has_a_timeout_and_its_client_closes_the_connection_then() {
    within_local_set(async {
        let server = DebugServer::open(cell(), PauseAt::End, |_| {}).unwrap();
        server.begins(paused("l0-kvm"));
        let client = |mut connection: DebugClient| {
            let timeout = Some(Duration::from_millis(100));
            connection.exec(level(0), exec("sleep 1000"), timeout, |_, _| Ok(())).unwrap()
        };
        let end = with_client(&server, client, async |server| {
            let request = server.next().await.unwrap();
            request.answers.send(Answer::Started).await.unwrap();
            request.answers.closed().await;
        })
        .await;
        assert_eq!(end, ExecEnd::TimedOut);
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ends_refuses_requests() {
    within_local_set(async {
        let server = DebugServer::open(cell(), PauseAt::End, |_| {}).unwrap();
        server.begins(paused("l2-check"));
        let ask = Ask::Run { script: "true".into() };
        let client = move |mut connection: DebugClient| connection.ask(level(0), ask).unwrap();
        let answer = with_client(&server, client, async |server| drop(server.next().await)).await;
        assert_eq!(answer, Answer::Refused { why: "the debug session has ended".into() });
        let (near, far) = Blocking::pair().unwrap();
        drop(far);
        assert!(matches!(DebugClient::begin(near), Err(DebugClientError::Ended)));
    })
    .await;
}

#[tokio::test]
async fn a_cancellation_ends_the_session_of_a_judged_stack_and_the_run_of_any_other() {
    within_local_set(async {
        for (at, stage, is_cancelled) in [
            (PauseAt::End, "l2-check", false),
            (PauseAt::Failure, "l1-kvm", false),
            (PauseAt::Stage("l1-kvm".parse().unwrap()), "l1-kvm", true),
        ] {
            let server = DebugServer::open(cell(), at, |_| {}).unwrap();
            let (end, asked) = Cancellation::new();
            let mut cancellation = server.guard(asked);
            server.begins(paused(stage));
            end.send(true).unwrap();
            let seen = tokio::select! {
                () = cancellation.requested() => true,
                request = server.next() => request.is_some(),
            };
            assert_eq!(seen, is_cancelled, "{at:?}");
        }
    })
    .await;
}
