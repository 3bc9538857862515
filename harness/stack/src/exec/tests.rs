//! The scripts that run in a level, run by this machine's shell.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{CANNOT_START, NOT_STARTED, check_start, end_script, script};
use nestmatrix_vmm::guest::ExecOutput;

fn sh(script: &str) -> Child {
    Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).spawn().unwrap()
}

/// Waits until `done` returns something.
fn until<T>(done: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The contents of all files of a stream, once it is complete.
fn stream(folder: &Path, name: &str) -> Vec<u8> {
    until(|| folder.join(format!("{name}.end")).exists().then_some(()));
    let files = (0..).map(|number| folder.join(format!("{name}.{number}"))).take_while(|file| file.exists());
    files.flat_map(|file| fs::read(file).unwrap()).collect()
}

fn folder() -> (tempfile::TempDir, String) {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("run").display().to_string();
    (temporary, path)
}

#[test]
fn a_command_has_its_status_and_two_streams() {
    let (_temporary, folder) = folder();
    let command = "printf 'a\\0\\377'; echo \"it's b\" >&2; exit 7";
    assert_eq!(sh(&script(&folder, command)).wait().unwrap().code(), Some(7));
    assert_eq!(stream(Path::new(&folder), "out"), b"a\0\xff");
    assert_eq!(stream(Path::new(&folder), "err"), b"it's b\n");
    sh(&end_script(&folder)).wait().unwrap();
    assert!(!Path::new(&folder).exists());
}

#[test]
fn a_signal_that_ends_a_command_is_in_its_status() {
    let (_temporary, folder) = folder();
    assert_eq!(sh(&script(&folder, "kill -SEGV $$")).wait().unwrap().code(), Some(139));
}

#[test]
fn a_command_that_prints_a_lot_waits_until_its_output_is_read() {
    let (_temporary, folder) = folder();
    let mut running = sh(&script(&folder, "exec head -c 20000000 /dev/zero"));
    let file = |number: usize| Path::new(&folder).join(format!("out.{number}"));
    let length = |number| fs::metadata(file(number)).map_or(0, |metadata| metadata.len());
    until(|| (length(1) > 0).then_some(()));
    std::thread::sleep(Duration::from_millis(500));
    assert!(length(0) <= 4 << 20 && length(1) <= 4 << 20);
    assert!(!file(2).exists() && running.try_wait().unwrap().is_none(), "it waits");
    let mut read = 0;
    for number in 0.. {
        let is_last = until(|| {
            let ended = Path::new(&folder).join("out.end").exists();
            (file(number + 1).exists() || ended).then_some(!file(number + 1).exists())
        });
        read += length(number);
        fs::write(file(number), "").unwrap();
        if is_last {
            break;
        }
    }
    assert_eq!((read, running.wait().unwrap().code()), (20_000_000, Some(0)));
}

#[test]
fn ending_a_command_ends_all_of_its_session() {
    let (temporary, folder) = folder();
    let number = temporary.path().join("number");
    // timeout(1) makes its own process group.
    let command = format!(
        "trap '' TERM; timeout 1000 sleep 1000 & echo $! >{0}.part; mv {0}.part {0}; wait",
        number.display()
    );
    let mut running = sh(&script(&folder, &command));
    let child = until(|| fs::read_to_string(&number).ok());
    sh(&end_script(&folder)).wait().unwrap();
    running.wait().unwrap();
    let stat = || fs::read_to_string(format!("/proc/{}/stat", child.trim()));
    until(|| stat().map_or(true, |stat| stat.contains(") Z")).then_some(()));
    assert!(!Path::new(&folder).exists());
}

#[test]
fn a_command_whose_end_comes_first_does_not_start() {
    let (temporary, folder) = folder();
    sh(&end_script(&folder)).wait().unwrap();
    let proof = temporary.path().join("proof");
    let status = sh(&script(&folder, &format!("touch {}", proof.display()))).wait().unwrap();
    assert_eq!(status.code(), NOT_STARTED.try_into().ok());
    assert!(!proof.exists() && !Path::new(&folder).exists());
}

#[test]
fn what_a_command_leaves_in_its_session_ends_with_it() {
    let (temporary, folder) = folder();
    let number = temporary.path().join("number");
    let command = format!("timeout 1000 sleep 1000 & echo $! >{}", number.display());
    assert_eq!(sh(&script(&folder, &command)).wait().unwrap().code(), Some(0));
    let stat = format!("/proc/{}/stat", fs::read_to_string(number).unwrap().trim());
    until(|| fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z")).then_some(()));
}

#[test]
fn a_command_that_could_not_be_started_has_no_status() {
    let (temporary, _) = folder();
    let file = temporary.path().join("file");
    fs::write(&file, "").unwrap();
    let script = script(&file.join("run").display().to_string(), "true");
    let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(CANNOT_START), "{said}");
    let output = ExecOutput {
        status: output.status.code().map(Into::into),
        signal: None,
        stdout: Vec::new(),
        stderr: output.stderr,
    };
    assert_eq!(output.status, Some(NOT_STARTED));
    let why = check_start(&output).unwrap_err().to_string();
    assert!(why.starts_with("nestmatrix can't start the command: mkdir: "), "{why}");
}
