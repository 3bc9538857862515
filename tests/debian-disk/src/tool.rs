//! Runs the programs that make a disk.

use crate::Error;
use nestmatrix_images::find_program;
use nestmatrix_model::Isa;
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs, each with the Debian package that has it.
const PROGRAMS: [(&str, &str); 10] = [
    ("apt-get", "apt"),
    ("debugfs", "e2fsprogs"),
    ("fakeroot", "fakeroot"),
    ("mcopy", "mtools"),
    ("mke2fs", "e2fsprogs"),
    ("mkfs.vfat", "dosfstools"),
    ("mmdebstrap", "mmdebstrap"),
    ("qemu-img", "qemu-utils"),
    ("sfdisk", "fdisk"),
    ("tar", "tar"),
];

/// Folders of programs that are not in the search path of every user.
const FOR_ROOT: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Why no disk of an instruction set can be made on this machine; none if it can. Tests are ignored with this reason.
pub fn unavailable_for(isa: Isa) -> Option<String> {
    unavailable().or_else(|| cannot_run(isa))
}

/// Why this machine can't run programs of an instruction set, which installing a system does.
fn cannot_run(isa: Isa) -> Option<String> {
    if Isa::of_this_machine() == Some(isa) {
        return None;
    }
    // mmdebstrap asks it, too.
    let Some(arch_test) = find("arch-test") else {
        return Some("arch-test not found (apt install arch-test qemu-user-static)".to_owned());
    };
    let runs =
        Command::new(arch_test).arg(isa.info().debian).output().is_ok_and(|output| output.status.success());
    (!runs).then(|| {
        format!(
            "it can't run programs for {isa} (apt install qemu-user-static; /proc/sys/fs/binfmt_misc must be mounted and have an \
             entry for them)"
        )
    })
}

/// Why no disk can be made on this machine, if it runs the programs on it; none if it can. Tests are ignored with this reason.
pub fn unavailable() -> Option<String> {
    let missing = PROGRAMS.iter().filter(|(program, _)| find(program).is_none());
    let (programs, mut packages): (Vec<&str>, Vec<&str>) = missing.copied().unzip();
    if programs.is_empty() {
        return if is_root() { no_mounts(&[]) } else { no_range().or_else(|| no_mounts(&["--user"])) };
    }
    packages.sort_unstable();
    packages.dedup();
    Some(format!("{} not found (apt install {})", programs.join(", "), packages.join(" ")))
}

pub(crate) fn is_root() -> bool {
    // The owner of this process' folder is its effective user.
    fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0)
}

/// Why mmdebstrap can't mount anything, such as in a container without that privilege. `user` asks for a user namespace.
fn no_mounts(user: &[&str]) -> Option<String> {
    let tried = run(Command::new("unshare").args(user).args(["--mount", "true"]));
    tried.err().map(|error| error.to_string())
}

/// Why mmdebstrap can't have a user namespace: the user has no range of user ids.
fn no_range() -> Option<String> {
    if find("newuidmap").is_none() {
        return Some("newuidmap not found (apt install uidmap)".to_owned());
    }
    let user = run(Command::new("id").arg("-un")).ok()?;
    let has_range = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| line.split(':').next() == Some(user.trim()))
    };
    let all = ["/etc/subuid", "/etc/subgid"].into_iter().all(has_range);
    (!all).then(|| {
        format!("{0} has no line in /etc/subuid and /etc/subgid (usermod --add-subuids)", user.trim())
    })
}

fn find(program: &str) -> Option<PathBuf> {
    let beside = || FOR_ROOT.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file());
    find_program(program).or_else(beside)
}

/// A command of one of the programs.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
    command.env("LC_ALL", "C");
    command
}

/// Runs a program that needs no input. Returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    run_with(command, "")
}

/// Runs a program with some input, which must be short. Returns what it printed.
pub(crate) fn run_with(command: &mut Command, input: &str) -> Result<String, Error> {
    let path = PathBuf::from(command.get_program());
    let program = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let piped = |command: &mut Command| -> std::io::Result<_> {
        // A file, since a pipe would have to be written while the output is read.
        let mut file = tempfile::tempfile()?;
        file.write_all(input.as_bytes())?;
        file.seek(SeekFrom::Start(0))?;
        command.stdin(Stdio::from(file)).output()
    };
    let output = piped(command).map_err(Error::io("run", &path))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = text(&output.stderr) + &text(&output.stdout);
    Err(Error::Tool { program, status: output.status, output: said.trim().to_owned() })
}
