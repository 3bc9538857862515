//! The script, run by this machine's shell with a program that plays QEMU.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use nestmatrix_images::Needs;
use rstest::rstest;

use super::*;

fn test() -> UnitTest {
    UnitTest {
        name: "one".into(),
        groups: Vec::new(),
        file: "/suite/one.flat".into(),
        cpus: 2,
        arguments: "-a".into(),
        qemu: vec!["-cpu".into(), "max,+svm".into()],
        timeout: 90,
        needs: Vec::new(),
        unusable: None,
    }
}

/// Runs the script with a QEMU that runs `body`.
fn ran(body: &str, test: &UnitTest, timeout: u64) -> Output {
    ran_with(body, test, timeout, false)
}

fn ran_with(body: &str, test: &UnitTest, timeout: u64, small_firmware: bool) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let qemu = folder.path().join("qemu");
    fs::write(&qemu, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let text = script(&Run {
        qemu: qemu.to_str().unwrap(),
        file: "file",
        test,
        append: Some("-b"),
        memory_mib: Some(256),
        timeout: Duration::from_secs(timeout),
        small_firmware,
    });
    let here = folder.path().join("suite");
    fs::create_dir(&here).unwrap();
    Command::new("/bin/sh").args(["-c", &text.replace(FOLDER, here.to_str().unwrap())]).output().unwrap()
}

#[test]
fn qemu_gets_the_arguments_of_the_suite_and_of_the_step() {
    let words = machine_arguments(&test(), "file", "kvm", Some("-b"), Some(256)).join(" ");
    assert!(words.ends_with("-accel kvm -smp 2 -cpu max,+svm -m 256 -kernel file -append -a -b"), "{words}");
    let plain = UnitTest { arguments: String::new(), ..test() };
    assert!(!machine_arguments(&plain, "file", "tcg", None, None).contains(&"-append".to_owned()));
}

#[test]
fn the_output_of_a_test_and_of_qemu_are_apart() {
    let output = ran("echo PASS: a; echo warning >&2; for a; do :; done; echo \"$a\"; exit 3", &test(), 60);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "PASS: a\n-a -b\n");
    assert_eq!((output.status.code(), &*output.stderr), (Some(3), &b"warning\n"[..]));
}

#[rstest]
#[case::late("echo started; sleep 60", 1, TIMED_OUT)]
#[case::stopped(
    "echo PASS: a; echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60",
    60,
    STOPPED_BY_KVM
)]
#[case::stopped_in_its_firmware(
    "echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60",
    60,
    STOPPED_IN_FIRMWARE
)]
fn a_test_that_does_not_end_is_ended(#[case] body: &str, #[case] timeout: u64, #[case] status: i64) {
    assert_eq!(
        ran(&body.replace("; sleep", "; exec sleep"), &test(), timeout).status.code().map(i64::from),
        Some(status)
    );
}

#[rstest]
#[case(true, true, "-bios qboot.rom -nodefaults\n")]
#[case(true, false, "-nodefaults -no-reboot -display\n")]
#[case(false, true, "-nodefaults -no-reboot -display\n")]
fn the_small_firmware_is_used_if_it_is_wanted_and_there(
    #[case] wanted: bool,
    #[case] there: bool,
    #[case] expected: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    if there {
        fs::write(folder.path().join(SMALL_FIRMWARE), "").unwrap();
    }
    let here = folder.path().display();
    let body = format!("if [ \"$1 $2\" = '-L help' ]; then echo {here}; else echo $1 $2 $3; fi");
    let output = ran_with(&body, &test(), 60, wanted);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn a_test_that_is_stopped_in_the_small_firmware_is_not_in_its_default_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(SMALL_FIRMWARE), "").unwrap();
    let here = folder.path().display();
    let stopped = "echo 'KVM internal error. Suberror: 1' >&2; exec sleep 60";
    let output = ran_with(&format!("[ \"$1\" = -L ] && exec echo {here}; {stopped}"), &test(), 60, true);
    assert_eq!(output.status.code().map(i64::from), Some(STOPPED_BY_KVM));
}

#[test]
fn more_output_than_is_kept_does_not_hold_a_test_up() {
    let output = ran("head -c 3000000 /dev/zero; exit 1", &test(), 60);
    assert_eq!((output.stdout.len(), output.status.code()), (KEPT_OUTPUT, Some(118)));
}

#[test]
fn more_errors_than_are_kept_do_not_hold_a_test_up_and_are_dropped() {
    let body = "i=0; while [ $i -lt 3000 ]; do echo 'qemu: warning: the same over and over again' >&2; i=$((i + 1)); done\n\
                wc -c <err; echo done; exit 1";
    let output = ran(body, &test(), 60);
    let text = String::from_utf8_lossy(&output.stdout);
    let (kept, rest) = text.split_once('\n').unwrap();
    assert!(kept.trim().parse::<usize>().unwrap() <= KEPT_ERRORS, "{kept} bytes of 132000");
    assert_eq!((rest, output.status.code(), output.stderr.len()), ("done\n", Some(1), 4000));
}

#[rstest]
#[case("5", Some(1))]
#[case("4", Some(120))]
fn a_test_runs_only_where_its_needs_are_met(#[case] value: &str, #[case] status: Option<i32>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "5\n").unwrap();
    let needs = vec![Needs { path: file.path().display().to_string(), value: value.into() }];
    let output = ran("exit 1", &UnitTest { needs, ..test() }, 60);
    assert_eq!(output.status.code(), status);
}
