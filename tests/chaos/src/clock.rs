//! A clock of the harness alone, which can jump: libfaketime shows it another time of day. The clock of this machine stays as it is, and
//! the programs that the harness starts see that one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// Where distributions install the library.
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// The library, if it is installed.
pub fn library() -> Option<PathBuf> {
    PLACES.into_iter().map(PathBuf::from).find(|library| library.is_file())
}

/// The environment in which `program`, and no other, has the clock of a file.
pub fn environment(library: &Path, program: &OsStr, clock: &Path) -> Vec<(&'static str, OsString)> {
    let name = Path::new(program).file_name().unwrap_or(program);
    vec![
        ("LD_PRELOAD", library.into()),
        ("FAKETIME_ONLY_CMDS", name.into()),
        ("FAKETIME_TIMESTAMP_FILE", clock.into()),
        // Otherwise it reads the file every ten seconds.
        ("FAKETIME_NO_CACHE", "1".into()),
        // Only the time of day jumps: an operating system's other clocks never do.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("NO_FAKE_STAT", "1".into()),
    ]
}

/// What the library shares among the processes of a harness that has this number. It stays when a process replaces its program, as each
/// harness does. Dropping this removes it.
pub struct Shared(pub i32);

impl Drop for Shared {
    fn drop(&mut self) {
        for name in [format!("faketime_shm_{}", self.0), format!("sem.faketime_sem_{}", self.0)] {
            // It is not there if the library was not loaded.
            let _ = std::fs::remove_file(Path::new("/dev/shm").join(name));
        }
    }
}

/// Lets the clock of a file differ from this machine's by so many seconds.
///
/// # Errors
/// The file can't be written.
pub fn set(clock: &Path, seconds: i64) -> io::Result<()> {
    // A clock that is read meanwhile must be the old one or the new one.
    let new = clock.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}\n"))?;
    std::fs::rename(new, clock)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]
mod tests {
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::campaign::kinds;
    use crate::disturbance::Kind;

    #[test]
    fn only_the_program_has_the_clock_if_the_library_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let clock = folder.path().join("clock");
        set(&clock, -86_400).unwrap();
        let Some(library) = library() else {
            assert!(kinds(&[Kind::Clock]).is_err() && !kinds(&[]).unwrap().contains(&Kind::Clock));
            return;
        };
        assert!(kinds(&[]).unwrap().contains(&Kind::Clock));
        let now = || i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let shown = |program: &str| {
            let mut command = Command::new("date");
            command.arg("+%s").envs(environment(&library, OsStr::new(program), &clock));
            let shown = String::from_utf8(command.output().unwrap().stdout).unwrap();
            shown.trim().parse::<i64>().unwrap() - now()
        };
        assert!((-1..=0).contains(&shown("/usr/bin/other")));
        assert!((-86_402..=-86_399).contains(&shown("/usr/bin/date")));
    }
}
