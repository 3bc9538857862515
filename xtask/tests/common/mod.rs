//! A separate place for each test of the command line: private results, a private runtime folder, and checks that a run leaves
//! nothing but its records.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

pub mod disks;
pub mod flat_test;
pub mod images;
pub mod path;
mod process;
mod record;
pub mod tmt;
pub mod trace;
pub mod trials;

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[allow(unused_imports, reason = "each test program uses a part of it")]
pub use images::{Images, of_cells, of_recipes, require};
#[allow(unused_imports, reason = "each test program uses a part of it")]
pub use process::{Running, processes_that_name};
#[allow(unused_imports, reason = "each test program uses a part of it")]
pub use record::{Cell, Run, copy_folder};

/// Longest wait until an ended process is gone.
const GONE: Duration = Duration::from_secs(10);

#[allow(unused_imports, reason = "each test program uses a part of it")]
pub(crate) use trials::trials;

/// The folders of one test.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        // Not in TMPDIR, which may be long: the path of a Unix socket has at most 107 bytes. If the runtime folder's path
        // leaves too few of them, the harness puts its sockets elsewhere.
        let place = Self(tempfile::Builder::new().prefix("nest.").tempdir_in("/tmp").unwrap());
        fs::DirBuilder::new().mode(0o700).create(place.runtime()).unwrap();
        place
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn results(&self) -> PathBuf {
        self.path().join("results")
    }

    /// Folder of the snapshots of this place: a run's snapshots must not depend on earlier runs of other tests.
    pub fn states(&self) -> PathBuf {
        self.path().join("states")
    }

    /// Folder of the settings of this place.
    pub fn config(&self) -> PathBuf {
        self.path().join("config")
    }

    pub fn runtime(&self) -> PathBuf {
        self.path().join("run")
    }

    /// The entries of the harness's own part of the runtime folder.
    pub fn scratch(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.runtime().join("nestmatrix")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Makes an empty folder in the harness's part of the runtime folder, as a harness that was killed leaves it.
    pub fn leave_behind(&self, name: &str) {
        let folder = self.runtime().join("nestmatrix").join(name);
        fs::DirBuilder::new().mode(0o700).recursive(true).create(folder).unwrap();
    }

    /// The command line, without environment variables that could change its behaviour.
    pub fn xtask(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.current_dir(self.path()).env("XDG_RUNTIME_DIR", self.runtime());
        command.env("NESTMATRIX_SNAPSHOTS", self.states());
        // Sources of the user's would turn stand-ins into other images.
        command.env("NESTMATRIX_CONFIG", self.config());
        for variable in ["NESTMATRIX_LOG", "NO_COLOR", "COLUMNS", "CLICOLOR_FORCE", "FORCE_COLOR"] {
            command.env_remove(variable);
        }
        command
    }

    /// `run-matrix` with its records in this place.
    pub fn run_matrix(&self) -> Command {
        let mut command = self.xtask();
        command.arg("run-matrix").arg("--results").arg(self.results());
        command
    }

    /// Runs `command` to its end, within `limit`, and checks that it leaves nothing behind.
    pub fn finish(&self, command: Command, limit: Duration) -> Run {
        let output = assert_cmd::Command::from_std(command).timeout(limit).output().unwrap();
        self.assert_nothing_left();
        Run::new(output, &self.results())
    }

    /// No process of this place runs, and the runtime folder contains only the lock that harnesses share.
    pub fn assert_nothing_left(&self) {
        self.wait_for_no_process();
        let left: Vec<String> = self.scratch().into_iter().filter(|name| name != "gate").collect();
        assert!(left.is_empty(), "left in the runtime folder: {left:?}");
    }

    /// A killed process is still listed for a moment.
    pub fn wait_for_no_process(&self) {
        let began = Instant::now();
        loop {
            let left = processes_that_name(self.path());
            if left.is_empty() {
                return;
            }
            assert!(began.elapsed() < GONE, "processes are left after {GONE:?}: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The folder `name` next to the tests.
pub fn scenarios(name: &str) -> PathBuf {
    checkout().join("tests").join(name)
}

pub fn checkout() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every test that boots takes this lock, for its images: parallel boots would slow each other down until they reach their
/// limits. Builds missing images first; ends the test as ignored if the archive does not deliver one.
pub fn boots(images: &Images) -> Boots {
    let boots = Boots::begin();
    images::require(images);
    boots
}

/// The same for a run that several tests use: each of them asks for its own images.
pub fn boots_what_is_delivered(images: &Images) -> Boots {
    let boots = Boots::begin();
    images::undelivered(images);
    boots
}

/// A test that boots. The next one can start when this is dropped, or when its process ends.
pub struct Boots(#[allow(dead_code, reason = "it is held, not used")] File);

impl Boots {
    /// A lock on a file, since tests of one program are threads of a process or, with nextest, processes.
    /// Waits for this test's turn.
    pub fn begin() -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boots.lock");
        let file = File::options().create(true).append(true).open(&path).unwrap();
        file.lock().unwrap();
        Self(file)
    }
}
