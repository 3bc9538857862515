//! A command on this machine whose tests run in a level: cargo and nextest start each test program through `exec`.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitCode;

use super::{Arguments, FAILED, Target};
use crate::exit::Failure;
use crate::parent_death;

/// A command on this machine.
pub struct HostCommand {
    words: Vec<OsString>,
    /// The variable in which cargo finds the runner of its target, and the runner.
    runner: (String, String),
}

impl HostCommand {
    pub fn new(arguments: &Arguments, target: &Target) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::error)?;
        let mut words = vec![program.to_string_lossy().into_owned(), "exec".to_owned()];
        let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
        add("--level", target.level.to_string());
        add("--cell", target.cell.name.to_string());
        for copy in arguments.copies()? {
            add("--copy", format!("{}:{}", copy.from.display(), copy.to));
        }
        arguments.env.iter().for_each(|variable| add("--env", variable.clone()));
        arguments.timeout.iter().for_each(|seconds| add("--timeout", seconds.to_string()));
        let folders =
            [("--scenarios", &arguments.folder.scenarios), ("--recipes", &arguments.source.folder.recipes)];
        for (option, folder) in folders {
            let folder = std::path::absolute(folder).map_err(Failure::error)?;
            add(option, folder.to_string_lossy().into_owned());
        }
        words.push("--".to_owned());
        if let Some(word) = words.iter().find(|word| word.contains(char::is_whitespace)) {
            let why =
                format!("--runner: cargo splits its runner at spaces, so {word:?} can't be a part of it");
            return Err(Failure::bad_input(miette::miette!("{why}")));
        }
        Ok(Self { words: arguments.words.clone(), runner: (runner_variable(), words.join(" ")) })
    }

    /// Runs it to its end; returns its exit code. It ends with this process, and if this future is dropped.
    pub async fn run(self) -> Result<ExitCode, Failure> {
        let wrapper = parent_death::wrapper().map_err(Failure::error)?;
        let mut words = wrapper.words().iter().chain(&self.words);
        let program = words.next().ok_or_else(|| Failure::error("there is no command"))?;
        let mut command = tokio::process::Command::new(program);
        let (variable, runner) = &self.runner;
        let status = command.args(words).env(variable, runner).kill_on_drop(true).status().await;
        let status = status.map_err(Failure::error)?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)))
    }
}

/// Where cargo finds the runner for this machine's own target (The Cargo Book, Configuration).
fn runner_variable() -> String {
    let libc = if cfg!(target_env = "musl") { "MUSL" } else { "GNU" };
    format!("CARGO_TARGET_{}_UNKNOWN_LINUX_{libc}_RUNNER", std::env::consts::ARCH.to_uppercase())
}
