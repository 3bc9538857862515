//! Debug sessions: stacks that are paused where the user asks for it, or where they fail, and are queried from outside. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{Place, Run, Running, boots, of_cells, scenarios, trials};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Longest wait until a stack is paused.
const HELD: Duration = Duration::from_secs(10 * 60);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(120);

fn repro(place: &Place, cell: &str) -> Command {
    let mut command = place.xtask();
    command.args(["repro", cell, "--metal", "emulated", "--results"]).arg(place.results());
    command.arg("--scenarios").arg(scenarios("sabotage"));
    command
}

fn ask(place: &Place, arguments: &[&str]) -> Output {
    let mut command = place.xtask();
    command.args(arguments);
    assert_cmd::Command::from_std(command).timeout(ANSWER).output().unwrap()
}

/// Waits until the stack is paused: from then on its L0's QEMU answers.
fn wait_until_held(place: &Place) {
    let began = Instant::now();
    while ask(place, &["qmp", "L0", "query-status"]).status.code() != Some(0) {
        assert!(began.elapsed() < HELD, "the stack is not held after {HELD:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn a_stack_is_held_where_its_user_wants_it_and_its_levels_answer() {
    let _guard = boots(&of_cells(&scenarios("sabotage"), &["stale-limitation/*"]));
    let place = Place::new();
    let mut command = repro(&place, "stale-limitation/*");
    command.args(["--until", "l1-kvm"]);
    let mut harness = Running::start(&place, command);
    wait_until_held(&place);

    let said = ask(&place, &["shell", "L1", "head -n 1 /proc/cpuinfo; echo below >&2; exit 3"]);
    assert_eq!(said.status.code(), Some(3), "{said:?}");
    assert!(text(&said.stdout).starts_with("processor"), "{said:?}");
    assert_eq!(text(&said.stderr), "below\n");
    let name = ask(&place, &["qmp", "l1", "query-name"]);
    let name: Value = serde_json::from_slice(&name.stdout).unwrap();
    assert_eq!(name["name"], "L1");
    let status = ask(&place, &["qmp", "L1", "--human", "info status"]);
    assert!(text(&status.stdout).contains("VM status: running"), "{status:?}");
    let refused = ask(&place, &["qmp", "L1", "no-such-command"]);
    assert_eq!(refused.status.code(), Some(255), "{refused:?}");
    assert!(text(&refused.stderr).contains("refused no-such-command"), "{refused:?}");
    let early = ask(&place, &["shell", "L2", "true"]);
    assert_eq!(early.status.code(), Some(255), "L2 does not run yet: {early:?}");

    harness.send(Signal::SIGINT);
    let run = Run::new(harness.end(), &place.results()).with_the_only_run(&place.results());
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert!(run.stderr.contains("paused after l1-kvm"), "{}", run.stderr);
    assert!(run.cells().is_empty(), "it was let go before it had a verdict");
    assert!(!place.results().join("latest").exists(), "a run of this kind is not what `latest` means");
    place.assert_nothing_left();
    assert_eq!(ask(&place, &["shell", "L0", "true"]).status.code(), Some(255), "nothing is held any more");
}

fn a_stack_is_held_where_it_fails_and_its_verdict_is_that_of_a_run() {
    let _guard = boots(&of_cells(&scenarios("sabotage"), &["l1-without-kvm/*"]));
    let place = Place::new();
    let mut command = repro(&place, "l1-without-kvm/*");
    command.arg("--on-failure");
    let mut harness = Running::start(&place, command);
    wait_until_held(&place);
    let loaded = ask(&place, &["shell", "L1", "test -d /sys/module/kvm_amd"]);
    assert_eq!(loaded.status.code(), Some(1), "what has failed can be looked at: {loaded:?}");
    // Commands in a stack that has been judged do not change its verdict.
    ask(&place, &["qmp", "L1", "quit"]);
    harness.send(Signal::SIGINT);
    let run = Run::new(harness.end(), &place.results()).with_the_only_run(&place.results());
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert!(run.stderr.contains("stopped in l1-kvm: L1 has no usable /dev/kvm"), "{}", run.stderr);
    assert_eq!(run.cell("l1-without-kvm/").text("verdict"), "fail");
    place.assert_nothing_left();
}

fn a_harness_that_is_killed_while_it_holds_a_stack_leaves_no_qemu() {
    let _guard = boots(&of_cells(&scenarios("sabotage"), &["stale-limitation/*"]));
    let place = Place::new();
    let mut command = repro(&place, "stale-limitation/*");
    command.args(["--until", "l0-launch"]);
    let mut harness = Running::start(&place, command);
    wait_until_held(&place);
    harness.send(Signal::SIGKILL);
    assert_eq!(harness.end().status.signal(), Some(Signal::SIGKILL as i32));
    place.wait_for_no_process();
    let nobody = ask(&place, &["shell", "L0", "true"]);
    assert_eq!(nobody.status.code(), Some(255), "{nobody:?}");
    assert!(text(&nobody.stderr).contains("no matching stack is paused"), "{nobody:?}");
}

fn what_cannot_be_held_is_refused() {
    let place = Place::new();
    let several = place.finish(repro(&place, "*"), ANSWER);
    assert_eq!(several.code, Some(2));
    assert!(several.stderr.contains("a debug session needs one cell, but"), "{}", several.stderr);
    let mut command = repro(&place, "stale-limitation/*");
    command.args(["--until", "l3-boot"]);
    let no_such_stage = place.finish(command, ANSWER);
    assert_eq!(no_such_stage.code, Some(2));
    assert!(
        no_such_stage.stderr_words().contains("are l0-launch, l0-boot, l0-kvm"),
        "{}",
        no_such_stage.stderr
    );
    assert_eq!(place.finish(repro(&place, "no-such-cell"), ANSWER).code, Some(4));
}

trials! {
    a_stack_is_held_where_its_user_wants_it_and_its_levels_answer;
    #[ignore = "boots one more stack"]
    a_stack_is_held_where_it_fails_and_its_verdict_is_that_of_a_run;
    a_harness_that_is_killed_while_it_holds_a_stack_leaves_no_qemu;
    what_cannot_be_held_is_refused;
}
