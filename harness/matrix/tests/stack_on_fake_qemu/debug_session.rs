//! A stack that is paused in a debug session, and asked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_model::Stage;
use nestmatrix_stack::{Answer, Ask, Inspector, PausedStack, Request};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use crate::fake::{Fake, level, prints};
use crate::script::Act;

/// Pauses a stack after one stage, asks its levels, and lets it run on once it has all answers.
#[derive(Default)]
struct Session {
    after: Option<Stage>,
    at_end: bool,
    asks: RefCell<VecDeque<(u8, Ask)>>,
    pending: Mutex<VecDeque<mpsc::Receiver<Answer>>>,
    answers: RefCell<Vec<Answer>>,
    paused: RefCell<Vec<PausedStack>>,
    heard: RefCell<Vec<String>>,
    /// It never lets the stack run on.
    stays: bool,
}

impl Inspector for Session {
    fn pauses_after(&self, stage: Stage) -> bool {
        self.after == Some(stage)
    }

    fn pauses_at_end(&self, _stopped: bool) -> bool {
        self.at_end
    }

    fn begins(&self, paused: PausedStack) {
        self.paused.borrow_mut().push(paused);
    }

    fn notify(&self, what: &str) {
        self.heard.borrow_mut().push(what.to_owned());
    }

    fn next(&self) -> Pin<Box<dyn Future<Output = Option<Request>> + '_>> {
        Box::pin(async {
            let mut pending = self.pending.lock().await;
            let asked = self.asks.borrow_mut().pop_front();
            if let Some((number, ask)) = asked {
                let (answers, receiver) = mpsc::channel(1);
                pending.push_back(receiver);
                return Some(Request { level: level(number), ask, answers });
            }
            while let Some(receiver) = pending.front_mut() {
                // Dropping this future must lose no answer.
                let answer = receiver.recv().await.unwrap();
                if answer.is_final() {
                    pending.pop_front();
                }
                self.answers.borrow_mut().push(answer);
            }
            if self.stays { std::future::pending().await } else { None }
        })
    }
}

fn run(script: &str) -> Ask {
    Ask::Run { script: script.to_owned() }
}

#[tokio::test(flavor = "current_thread")]
async fn a_paused_stack_answers_and_runs_on_to_its_verdict() {
    let status = Ask::Qmp { command: "query-status".into(), arguments: Value::Null };
    let asks = [(1, run("what-is-it")), (1, status), (2, run("true")), (3, run("true"))];
    let after = Some("l1-kvm".parse().unwrap());
    let session = Rc::new(Session { after, asks: RefCell::new(asks.into()), ..Session::default() });
    let fake = Fake::new().command(1, "what-is-it", 5, prints("it is L1\n"));
    let booted = fake.inspected_by(Rc::clone(&session) as Rc<dyn Inspector>).boot().await;
    assert_eq!((booted.stopped(), booted.word()), (String::new(), "pass".into()));
    let paused = session.paused.borrow();
    let can_be_asked = paused[0].levels.iter().map(|level| (level.shell, level.monitor));
    assert_eq!(can_be_asked.collect::<Vec<_>>(), [(true, true), (true, true), (false, false)]);
    let refused = |why: &str| Answer::Refused { why: why.to_owned() };
    let ended =
        Answer::Ended { status: Some(0), signal: None, stdout: "it is L1\n".into(), stderr: String::new() };
    let returned = Answer::Returned { value: json!({"status": "running", "running": true}) };
    let expected = [ended, returned, refused("L2 takes no commands now"), refused("the stack has no L3")];
    assert_eq!(*session.answers.borrow(), expected);
    assert!(booted.observation.paused > Duration::ZERO);
}

#[tokio::test(flavor = "current_thread")]
async fn a_stop_is_judged_as_it_was_before_the_pause() {
    let session = Rc::new(Session { at_end: true, ..Session::default() });
    let panic = Act::Say("[    1.0] Kernel panic - not syncing: Fatal exception".into());
    let fake = Fake::new().boots(1, [panic]).inspected_by(Rc::clone(&session) as Rc<dyn Inspector>);
    let booted = fake.boot().await;
    assert_eq!(booted.word_and_symptom(), "fail: kernel panic: Fatal exception");
    assert_eq!(session.paused.borrow()[0].stop, booted.observation.stop);
}

#[tokio::test(flavor = "current_thread")]
async fn a_user_who_interrupts_a_paused_stack_ends_it_without_a_verdict() {
    let after = Some("l0-kvm".parse().unwrap());
    let session = Rc::new(Session { after, stays: true, ..Session::default() });
    let fake = Fake::new().inspected_by(session).interrupted_after(Duration::from_millis(700));
    let booted = fake.boot().await;
    assert!(booted.observation.stop.as_ref().unwrap().is_interrupted(), "{}", booted.stopped());
}

#[tokio::test(flavor = "current_thread")]
async fn what_happens_while_a_stack_is_paused_is_reported_and_its_metal_is_not_waited_for() {
    let after = Some("l0-kvm".parse().unwrap());
    let session = Rc::new(Session { after, stays: true, ..Session::default() });
    let up = Act::Say("nestmatrix: level up, kernel 6.12.0-fake".into());
    let acts = [up, Act::AgentAnswers, Act::Wait(1000), Act::EndQemu(crate::fake::exit(1, "no memory\n"))];
    let fake = Fake::new().boots(0, acts).inspected_by(Rc::clone(&session) as Rc<dyn Inspector>);
    let booted = fake.boot().await;
    assert!(booted.observation.stop.as_ref().unwrap().is_interrupted(), "{}", booted.stopped());
    let heard = session.heard.borrow();
    assert!(heard.iter().any(|what| what.ends_with("exited with status 1: no memory")), "{heard:?}");
}
