//! Runs the programs of RPM, GnuPG and dpkg.

use crate::Error;
use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The programs that make a repository, each with the Debian package that has it.
const PROGRAMS: [(&str, &str); 7] = [
    ("createrepo_c", "createrepo-c"),
    ("dpkg-deb", "dpkg"),
    ("gpg", "gpg"),
    ("gpgconf", "gpgconf"),
    ("gpg-agent", "gpg-agent"),
    ("rpmbuild", "rpm"),
    ("rpmsign", "rpm"),
];

/// Why no repository can be made on this machine; none if all programs are installed. Tests are ignored with this reason.
pub fn unavailable() -> Option<String> {
    needs(&PROGRAMS)
}

/// Names the programs that are not installed, of some that are given with their Debian packages.
pub fn needs(programs: &[(&str, &str)]) -> Option<String> {
    let missing = programs.iter().filter(|(program, _)| find(program).is_none());
    let (programs, mut packages): (Vec<&str>, Vec<&str>) = missing.copied().unzip();
    packages.dedup();
    let install = packages.join(" ");
    (!programs.is_empty()).then(|| format!("{} not found (apt install {install})", programs.join(", ")))
}

/// The path of a program.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Runs a program that needs no input. Returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(Error::io("run", &program))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = text(&output.stderr) + &text(&output.stdout);
    Err(Error::Tool { program, status: output.status, output: said.trim().to_owned() })
}
