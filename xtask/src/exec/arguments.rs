//! The options of `exec`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use nestmatrix::exec::{CopyArgument, UserCommand};
use nestmatrix_model::{Architecture, LevelNumber, Word as _};

use crate::cli::{ImageSource, ScenariosFolder, Timeouts, level};
use crate::exit::Failure;

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// The command; a path of a file on this machine is copied into the level, with its libraries
    ///
    /// A name without a slash is a program of the level.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND",
        required_unless_present = "keep"
    )]
    pub words: Vec<OsString>,
    /// Run the command in this level: L0, L1, ...
    ///
    /// L0 is the fastest. Its KVM has guests; with L1, the guests are nested.
    #[arg(long, value_parser = level, default_value = "L0")]
    pub level: LevelNumber,
    /// Boot the stack of this cell: its name, or a glob that matches no other [default: one of the default profile]
    #[arg(long, value_name = "CELL")]
    pub cell: Option<String>,
    /// Boot a stack of this architecture
    #[arg(long, value_parser = architecture, default_value = "amd", conflicts_with = "cell")]
    pub architecture: Architecture,
    /// Copy a file or folder into the level [default DEST: its path on this machine]
    #[arg(long, value_name = "PATH[:DEST]")]
    pub copy: Vec<String>,
    /// Set a variable in the command's environment [default VALUE: that of this machine]
    ///
    /// Variables that cargo and nextest set for tests are always passed on.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Run the command in this folder of the level [default: the path of the current one]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// End the command after this time and exit with 124; booting and copying do not count
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,
    /// Boot a stack even if one of this cell is kept
    #[arg(long)]
    pub fresh: bool,
    /// Boot a stack and keep it until Ctrl-C, so that other `exec` use it
    #[arg(long, conflicts_with_all = ["words", "runner", "fresh", "timeout", "copy", "env", "cwd"])]
    pub keep: bool,
    /// Run COMMAND on this machine, with `exec` as cargo's target runner and one stack for all tests
    #[arg(long, conflicts_with_all = ["fresh", "cwd"])]
    pub runner: bool,
    /// Ignore snapshots, boot every level, and save no snapshots
    #[arg(long)]
    pub cold: bool,
    #[command(flatten)]
    pub timeouts: Timeouts,
    #[command(flatten)]
    pub folder: ScenariosFolder,
    #[command(flatten)]
    pub source: ImageSource,
}

const AFTER_HELP: &str = "\
Standard input is empty. On emulated metal only: this machine needs no /dev/kvm.

Exit codes: that of the command; 128 plus the number of the signal that ended it;
124 if it ran longer than --timeout; 125 if the stack did not boot or `exec` failed otherwise;
126 if the command can't be run; 127 if it is not found; with --keep, 0 after Ctrl-C;
with --runner, that of the command on this machine";

/// The variables that cargo and nextest set for a test, by the beginnings of their names, and those that its harness reads.
const OF_TESTS: [&str; 9] = [
    "CARGO_BIN_",
    "CARGO_CRATE_NAME",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_TMPDIR",
    "NEXTEST",
    "RUST_",
    "OUT_DIR",
];

impl Arguments {
    /// How long the command may run.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }

    /// The command in the level.
    pub fn command(&self) -> Result<UserCommand, Failure> {
        let words = self.words.iter().map(|word| text(word, "an argument"));
        let folder = match &self.cwd {
            Some(folder) => folder.clone(),
            None => text(std::env::current_dir().map_err(Failure::error)?.as_os_str(), "the current folder")?,
        };
        Ok(UserCommand {
            words: words.collect::<Result<_, _>>()?,
            copies: self.copies()?,
            environment: self.environment()?,
            folder,
        })
    }

    /// The files to copy, with absolute paths.
    pub fn copies(&self) -> Result<Vec<CopyArgument>, Failure> {
        let copy = |argument: &String| {
            let (from, to) = match argument.rsplit_once(':') {
                Some((from, to)) => (from, Some(to.to_owned())),
                None => (argument.as_str(), None),
            };
            let from: PathBuf = std::path::absolute(Path::new(from)).map_err(Failure::error)?;
            let to = to.map_or_else(|| text(from.as_os_str(), "a path"), Ok)?;
            if !to.starts_with('/') {
                let why = format!("--copy {argument}: the path in the level must be absolute");
                return Err(Failure::bad_input(miette::miette!("{why}")));
            }
            Ok(CopyArgument { from, to })
        };
        self.copy.iter().map(copy).collect()
    }

    fn environment(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut environment: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| is_name(name) && OF_TESTS.iter().any(|of_tests| name.starts_with(of_tests)))
            .collect();
        for argument in &self.env {
            let bad = |why: &str| Failure::bad_input(miette::miette!("--env {argument}: {why}"));
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (argument.as_str(), std::env::var(argument).map_err(|e| bad(&e.to_string()))?),
            };
            if !is_name(name) {
                return Err(bad("a name has letters, digits and `_` only"));
            }
            environment.push((name.to_owned(), value));
        }
        Ok(environment)
    }
}

/// Whether a shell can set a variable of this name.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn text(words: &std::ffi::OsStr, what: &str) -> Result<String, Failure> {
    let text = words.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        Failure::bad_input(miette::miette!("{what} is not UTF-8: {}", words.to_string_lossy()))
    })
}

fn architecture(text: &str) -> Result<Architecture, String> {
    let known: Vec<&str> = Architecture::ALL.iter().map(|known| known.word()).collect();
    let found = Architecture::ALL.iter().copied().find(|known| known.word() == text);
    found.ok_or_else(|| format!("the architectures are {}", known.join(", ")))
}
