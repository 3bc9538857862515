//! Processes of this machine, as a test sees them: those of a place, and a harness that runs during the test.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Place;

/// Longest wait for a stack's first sign of life.
const FIRST_SIGN: Duration = Duration::from_secs(120);
/// Longest wait for a harness that was asked to end.
const ORDERLY_END: Duration = Duration::from_secs(60);

/// The processes whose command line contains `path`, or whose working folder is in it, as `PID COMMAND LINE`.
pub fn processes_that_name(path: &Path) -> Vec<String> {
    let wanted = path.as_os_str().as_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let folder = entry.unwrap().path();
        // A process that is just ending has no command line any more.
        let Ok(line) = fs::read(folder.join("cmdline")) else { continue };
        let works_there = fs::read_link(folder.join("cwd")).is_ok_and(|cwd| cwd.starts_with(path));
        if works_there || line.windows(wanted.len()).any(|part| part == wanted) {
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push(format!("{} {line}", folder.file_name().unwrap().to_string_lossy()));
        }
    }
    found
}

/// A harness that runs. Dropping it kills it.
pub struct Running<'p> {
    place: &'p Place,
    child: Option<Child>,
    /// The consoles that earlier harnesses have recorded.
    earlier: Vec<PathBuf>,
}

impl<'p> Running<'p> {
    pub fn start(place: &'p Place, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let earlier = consoles_of(place);
        Self { place, child: Some(command.spawn().unwrap()), earlier }
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().unwrap()
    }

    /// Waits until a level has printed something, so that there is a QEMU; returns the QEMU's processes.
    pub fn wait_for_a_boot(&mut self) -> Vec<String> {
        let began = Instant::now();
        loop {
            let harness = format!("{} ", self.child().id());
            let mut others = processes_that_name(self.place.path());
            others.retain(|process| !process.starts_with(&harness));
            let is_new = |console: &PathBuf| !self.earlier.contains(console);
            if !others.is_empty() && consoles_of(self.place).iter().any(is_new) {
                return others;
            }
            let ended = self.child().try_wait().unwrap();
            assert_eq!(ended, None, "the harness has ended before a level spoke");
            assert!(began.elapsed() < FIRST_SIGN, "no level spoke within {FIRST_SIGN:?}: {others:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Closes the pipes that it writes to, as if the program that reads them had ended.
    pub fn stop_reading(&mut self) {
        let child = self.child();
        drop((child.stdout.take(), child.stderr.take()));
    }

    pub fn send(&mut self, signal: Signal) {
        let id = i32::try_from(self.child().id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Waits for its end after a request to end.
    pub fn end(self) -> Output {
        self.end_within(ORDERLY_END)
    }

    /// Waits for its end.
    pub fn end_within(mut self, limit: Duration) -> Output {
        let began = Instant::now();
        while self.child().try_wait().unwrap().is_none() {
            assert!(began.elapsed() < limit, "the harness runs on after {limit:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The records of consoles on which a level has printed something. A preparation keeps its own with its sockets.
fn consoles_of(place: &Place) -> Vec<PathBuf> {
    let mut files = [files_below(&place.results()), files_below(&place.runtime())].concat();
    files.retain(|file| {
        let is_console = file.to_string_lossy().ends_with(".console.log");
        is_console && fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0)
    });
    files
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    // A harness may remove what is listed.
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}
