//! The script, run by this machine's shell.

use std::process::Command;

use rstest::rstest;

use super::*;

/// What the script prints whose program is `body`, and its folder.
fn ran(body: &str, seconds: u64, on_console: bool) -> (Vec<u8>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("run").display().to_string();
    let text = script(&here, body, &seconds.to_string(), on_console);
    // This machine's kernel prints what it wants.
    let text = text.replace(QUIET, "").replace(LOUD, "");
    let output = Command::new("/bin/sh").args(["-c", &text]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.stdout, folder)
}

fn ended(body: &str, seconds: u64) -> ProgramEnd {
    let (printed, _folder) = ran(body, seconds, false);
    let (header, output) = Header::read(&printed).unwrap();
    header.with_output(output).unwrap()
}

#[test]
fn output_and_status_come_back() {
    let ended = ended("echo one; echo two >&2; exit 7", 60);
    let expected = ProgramEnd {
        end: End::Exited(7),
        stdout: b"one\n".to_vec(),
        stderr: b"two\n".to_vec(),
        is_cut: false,
    };
    assert_eq!(ended, expected);
}

#[rstest]
#[case::a_signal("kill -9 $$", End::Exited(137))]
#[case::the_status_of_timeout("exit 124", End::Exited(124))]
#[case::late("echo started; (sleep 60) & exec sleep 60", End::TimedOut)]
fn the_end_is_known(#[case] body: &str, #[case] expected: End) {
    assert_eq!(ended(body, 2).end, expected);
}

#[test]
fn a_program_that_prints_without_end_is_killed() {
    let ended = ended("exec yes", 2);
    assert_eq!((ended.end, ended.stdout.len(), ended.is_cut), (End::TimedOut, KEPT_OUTPUT, true));
}

#[test]
fn what_a_program_leaves_behind_does_not_hold_it_up() {
    let began = std::time::Instant::now();
    let ended = ended("setsid sleep 8 & sleep 0.2; echo x", 60);
    assert_eq!((ended.end, &*ended.stdout), (End::Exited(0), &b"x\n"[..]));
    assert!(began.elapsed() < std::time::Duration::from_secs(7));
}

#[test]
fn on_a_console_output_comes_in_pieces_that_can_be_told_from_messages() {
    let (printed, folder) = ran("seq 60000; printf '\\377' >&2; exit 1", 60, true);
    let (header, rest) = Header::read(&printed).unwrap();
    assert!(rest.is_empty() && header.pieces() > 1, "{header:?}");
    let here = folder.path().join("run").display().to_string();
    let mut packed = String::new();
    for number in 0..header.pieces() {
        let text = piece_script(&here, number).replace(QUIET, "").replace(LOUD, "");
        let output = Command::new("/bin/sh").args(["-c", &text]).output().unwrap();
        packed += &packed_in(&format!("[ 1.0] a message\n{}", String::from_utf8(output.stdout).unwrap()));
    }
    let output = super::super::unpacked(&packed).unwrap();
    let ended = header.with_output(&output).unwrap();
    assert_eq!((ended.end, &*ended.stderr), (End::Exited(1), &b"\xff"[..]));
    assert!(ended.stdout.starts_with(b"1\n2\n") && ended.stdout.ends_with(b"60000\n"));
}

#[rstest]
#[case("nestmatrix-program exited 0 3 0 0\nabc", true)]
#[case("[ 1.0] x nestmatrix-program exited 0 3 0 0\nabc", true)]
#[case("nestmatrix-program exited 0 3 0 0\nab", false)]
#[case("nestmatrix-program exited 0 3\nabc", false)]
#[case("nestmatrix-program gone 0 3 0 0\nabc", false)]
#[case("", false)]
fn only_a_whole_report_counts(#[case] printed: &str, #[case] is_whole: bool) {
    let read = Header::read(printed.as_bytes()).and_then(|(header, output)| header.with_output(output));
    assert_eq!(read.is_some(), is_whole);
}
