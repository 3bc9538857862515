//! Commands of the user in levels: `exec`. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{Place, Running, boots, checkout, of_cells, processes_that_name, scenarios, trials};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest wait for a stack.
const UP: Duration = Duration::from_secs(5 * 60);
/// Longest wait for a command in a stack that is up.
const ANSWER: Duration = Duration::from_secs(60);

const CELL: &str = "stale-limitation/*";

fn exec(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.xtask();
    command.args(["exec", "--cell", CELL, "--scenarios"]).arg(scenarios("sabotage")).args(arguments);
    // What it leaves there is seen at the end.
    let temporary = place.path().join("temporary");
    fs::create_dir_all(&temporary).unwrap();
    command.env("TMPDIR", temporary);
    command
}

fn ended(command: Command, limit: Duration) -> Output {
    assert_cmd::Command::from_std(command).timeout(limit).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A message, without the line breaks that fit it to a terminal.
fn unwrapped(stderr: &[u8]) -> String {
    text(stderr).replace("\n  │ ", " ")
}

/// Runs a command in the kept stack, and checks its exit code. Returns standard output and error.
fn answer(place: &Place, arguments: &[&str], code: i32) -> (String, String) {
    let output = ended(exec(place, arguments), ANSWER);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    (text(&output.stdout).to_owned(), unwrapped(&output.stderr))
}

/// Waits until `script` succeeds in L0.
fn wait_for(place: &Place, script: &str) {
    let began = Instant::now();
    let succeeds = || {
        let mut shell = place.xtask();
        shell.args(["shell", "L0", script]);
        ended(shell, ANSWER).status.code() == Some(0)
    };
    while !succeeds() {
        assert!(began.elapsed() < UP, "L0 does not do this within {UP:?}: {script}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Succeeds in a level in which the command [`SLEEP`] runs.
const SLEEPS: &str = "ps | grep -q '[ ]sleep 987654'";
const SLEEP: [&str; 2] = ["sleep", "987654"];

/// A program of this machine that is linked dynamically, as cargo builds it: it opens /dev/kvm, prints, and exits with 7.
fn program(place: &Place) -> PathBuf {
    let source = place.path().join("probe.rs");
    let code = "fn main() {\n\
        let kvm = std::fs::File::options().read(true).write(true).open(\"/dev/kvm\");\n\
        println!(\"{} {:?} {}\", kvm.is_ok(), std::env::args().skip(1).collect::<Vec<_>>(), std::env::var(\"PROBE\").unwrap());\n\
        eprintln!(\"{}\", std::env::current_dir().unwrap().display());\n\
        std::process::exit(7);\n}\n";
    fs::write(&source, code).unwrap();
    let program = place.path().join("probe");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc).args(["--edition", "2024", "-o"]).arg(&program).arg(&source).status();
    assert!(built.unwrap().success());
    program
}

/// The process of this place whose command line contains `part`.
fn process(place: &Path, part: &str) -> Pid {
    let all = processes_that_name(place);
    let found = all.iter().find(|process| process.contains(part)).unwrap_or_else(|| panic!("{all:#?}"));
    Pid::from_raw(found.split(' ').next().unwrap().parse().unwrap())
}

fn commands_run_in_the_levels_of_a_kept_stack() {
    let _guard = boots(&of_cells(&scenarios("sabotage"), &[CELL]));
    let place = Place::new();
    let program = program(&place);
    let mut keep = exec(&place, &["--level", "L1", "--keep"]);
    keep.current_dir("/");
    let mut keeper = Running::start(&place, keep);
    wait_for(&place, "true");
    let kept = place.scratch();

    for (level, probe) in [("L0", program.to_str().unwrap()), ("L1", "./probe")] {
        let arguments = ["--level", level, "--env", "PROBE=it is", "--", probe, "a b", "--exact"];
        let (stdout, stderr) = answer(&place, &arguments, 7);
        assert_eq!(stdout, "true [\"a b\", \"--exact\"] it is\n", "{level}");
        assert_eq!(stderr, format!("{}\n", place.path().display()), "{level}");
    }
    // Files and folders.
    fs::create_dir_all(place.path().join("data/inner")).unwrap();
    fs::write(place.path().join("data/inner/file"), [0, 0xff, b'\n']).unwrap();
    let (stdout, _) = answer(&place, &["--copy", "data", "--", "od", "-An", "-tx1", "data/inner/file"], 0);
    assert_eq!(stdout.split_whitespace().collect::<Vec<_>>(), ["00", "ff", "0a"]);
    let copy = "data/inner/file:/somewhere/file";
    answer(&place, &["--copy", copy, "--cwd", "/somewhere", "--", "cmp", "file", "file"], 0);

    // How commands end.
    let (_, stderr) = answer(&place, &["no-such-program"], 127);
    assert!(stderr.contains("no-such-program: not found"), "{stderr}");
    answer(&place, &["sh", "-c", "kill -SEGV $$"], 139);
    let (stdout, stderr) = answer(&place, &["--timeout", "1", "--", "sh", "-c", "echo a; sleep 1000"], 124);
    assert_eq!(stdout, "a\n");
    assert!(stderr.contains("it ran longer than its timeout"), "{stderr}");
    let (stdout, _) = answer(&place, &["--level", "L1", "--", "head", "-c", "9000000", "/dev/zero"], 0);
    assert_eq!(stdout.len(), 9_000_000);

    // No room in the level.
    answer(&place, &["mount", "-o", "remount,size=40m", "/tmp"], 0);
    answer(&place, &["sh", "-c", "dd if=/dev/zero of=/tmp/full bs=1M 2>/dev/null"], 1);
    fs::write(place.path().join("large"), vec![1; 8 << 20]).unwrap();
    let (_, stderr) = answer(&place, &["--copy", "large", "true"], 125);
    assert!(stderr.contains("failed to copy") && stderr.contains("No space left on device"), "{stderr}");
    answer(&place, &["sh", "-c", "cat /dev/zero >>/tmp/full 2>/dev/null"], 1);
    let (_, stderr) = answer(&place, &["head", "-c", "100000", "/dev/zero"], 125);
    assert!(stderr.contains("output of the command is lost"), "{stderr}");
    answer(&place, &["rm", "/tmp/full"], 0);

    // A client that is killed: its command ends too.
    let mut killed = Running::start(&place, exec(&place, &SLEEP));
    wait_for(&place, SLEEPS);
    killed.send(Signal::SIGKILL);
    killed.end();
    wait_for(&place, &format!("! {SLEEPS}"));
    // One that gets a signal removes its files.
    let mut interrupted = Running::start(&place, exec(&place, &SLEEP));
    wait_for(&place, SLEEPS);
    interrupted.send(Signal::SIGTERM);
    assert_eq!(interrupted.end().status.code(), Some(143));
    assert_eq!(place.scratch(), kept);
    wait_for(&place, &format!("! {SLEEPS}"));

    // Several at once in L1, of which one is given up.
    let at_once = |number: usize| {
        let script =
            format!("echo {number}; head -c 30000 /dev/zero; sleep {}; exit {number}", number / 5 * 30);
        let timeout = if number == 5 { "1" } else { "50" };
        let arguments = ["--level", "L1", "--timeout", timeout, "--", "sh", "-c", &script];
        Running::start(&place, exec(&place, &arguments))
    };
    let running: Vec<Running> = (1..=5).map(at_once).collect();
    for (number, running) in (1..).zip(running) {
        let output = running.end_within(ANSWER);
        assert_eq!(output.status.code(), Some(if number == 5 { 124 } else { number }), "{output:?}");
    }
    answer(&place, &["--level", "L1", "--", "true"], 0);

    // L1 fails in the middle of a command, and L0 goes on.
    let hangs = Running::start(&place, exec(&place, &["--level", "L1", "--", "sleep", "1000"]));
    std::thread::sleep(Duration::from_secs(1));
    answer(&place, &["sh", "-c", "kill -9 $(pidof qemu-system-x86_64)"], 0);
    let output = hangs.end();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let stderr = unwrapped(&output.stderr);
    assert!(stderr.contains("the command in L1 failed: ") && stderr.contains("SIGKILL"), "{stderr}");
    answer(&place, &["true"], 0);

    keeper.send(Signal::SIGINT);
    assert_eq!(keeper.end().status.code(), Some(0));
    place.assert_nothing_left();
    assert_eq!(fs::read_dir(place.path().join("temporary")).unwrap().count(), 0);
}

fn a_command_has_a_stack_of_its_own_and_nothing_of_it_is_left() {
    let _guard = boots(&of_cells(&scenarios("sabotage"), &[CELL]));
    let place = Place::new();
    let run = place.finish(exec(&place, &["sh", "-c", "test -c /dev/kvm; echo $?; exit 3"]), UP);
    assert_eq!((run.code, run.stdout.as_str()), (Some(3), "0\n"), "{run:#?}");
    let saved = fs::read_dir(place.states()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(saved.count(), 1, "the next boot is restored from a snapshot");

    // From it. The command on this machine finds the runner as cargo does.
    let runner = "eval \"$(env | sed -n 's/^CARGO_TARGET_.*_RUNNER=//p')\"";
    let script = format!("{runner} {} x", program(&place).display());
    let run = place.finish(exec(&place, &["--env", "PROBE=1", "--runner", "--", "sh", "-c", &script]), UP);
    assert_eq!((run.code, run.stdout.as_str()), (Some(7), "true [\"x\"] 1\n"), "{run:#?}");

    // The metal ends in the middle of the command.
    let running = Running::start(&place, exec(&place, &SLEEP));
    wait_for(&place, SLEEPS);
    kill(process(place.path(), "-name L0"), Signal::SIGKILL).unwrap();
    let output = running.end();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let stderr = unwrapped(&output.stderr);
    let why = "the command in L0 failed: the emulator that plays L0's metal was killed (SIGKILL)";
    assert!(stderr.contains(why), "{stderr}");
    place.assert_nothing_left();

    for (signal, code) in [(Signal::SIGTERM, Some(143)), (Signal::SIGKILL, None)] {
        let mut running = Running::start(&place, exec(&place, &SLEEP));
        wait_for(&place, SLEEPS);
        running.send(signal);
        assert_eq!(running.end().status.code(), code);
        place.wait_for_no_process();
    }
    // A command on this machine ends with what it has started.
    let runs = place.path().join("runs");
    let inner = format!("touch {}; sleep 1000; exit", runs.display());
    let script = format!("sh -c '{inner}' & wait");
    let mut running = Running::start(&place, exec(&place, &["--runner", "--", "sh", "-c", &script]));
    let began = Instant::now();
    while !runs.exists() {
        assert!(began.elapsed() < UP, "the command does not run within {UP:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.send(Signal::SIGTERM);
    assert_eq!(running.end().status.code(), Some(143));
    place.assert_nothing_left();
}

/// The tests of another project, by cargo and its target runner.
fn the_tests_of_the_example_run_in_a_level() {
    let _guard = boots(&of_cells(&scenarios("sabotage"), &[CELL]));
    let place = Place::new();
    let example = checkout().join("tests/exec-example");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.arg("fetch").current_dir(&example);
    let fetched = cargo.output().unwrap();
    if !fetched.status.success() {
        trials::ignore(&format!("its dependencies are not available: {}", text(&fetched.stderr)));
    }
    let mut command = exec(&place, &["--runner", "--", env!("CARGO"), "test", "--offline"]);
    command.current_dir(&example).env("CARGO_TARGET_DIR", place.path().join("target"));
    let output = ended(command, UP);
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout.contains("test a_machine_has_a_processor_that_starts_in_real_mode ... ok"), "{stdout}");
    place.assert_nothing_left();
}

fn what_cannot_run_is_refused_with_its_own_exit_code() {
    let place = Place::new();
    let refused = |arguments: &[&str], why: &str| {
        let run = place.finish(exec(&place, arguments), ANSWER);
        assert_eq!(run.code, Some(125), "{run:#?}");
        assert!(run.stderr_words().contains(why), "{why}: {}", run.stderr);
    };
    refused(&["--level", "L2", "--", "true"], "choose L0 or L1");
    refused(&["--level", "L9", "--", "true"], "the levels are L0, L1");
    refused(&["--copy", "nowhere", "--", "true"], "nowhere: No such file or directory");
    refused(&["--copy", "x:y", "--", "true"], "the path in the level must be absolute");
    refused(&["--env", "A B=1", "--", "true"], "a name has letters, digits and `_` only");
    refused(&["--timeout", "0", "--", "true"], "0 is not in 1");
    let mut command = place.xtask();
    command.args(["exec", "--cell", "no-such-cell", "--", "true"]);
    let run = place.finish(command, ANSWER);
    assert_eq!(run.code, Some(125));
    assert!(run.stderr_words().contains("no cell matches no-such-cell"), "{}", run.stderr);
}

trials! {
    commands_run_in_the_levels_of_a_kept_stack;
    #[ignore = "boots six more stacks, most of them from a snapshot: one minute"]
    a_command_has_a_stack_of_its_own_and_nothing_of_it_is_left;
    #[ignore = "compiles another project, and boots one more stack"]
    the_tests_of_the_example_run_in_a_level;
    what_cannot_run_is_refused_with_its_own_exit_code;
}
