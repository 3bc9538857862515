//! Commands that become a program for development, a package of its own in `tests/`: `bench` and `chaos`. Those who only run the matrix
//! never compile these.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;

use crate::exit::Failure;
use crate::settings;

/// As `cargo xtask` in .cargo/config.toml: silent if the program is up to date, with a progress bar while it compiles.
const RUN: [&str; 6] =
    ["run", "--quiet", "--config", "term.progress.when='always'", "--config", "term.progress.width=80"];

#[derive(Debug, Args)]
pub struct Arguments {
    /// Arguments of the program; its `--help` explains them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Compiles the program `name`, and becomes it: signals reach it, and its exit code is that of this process.
pub fn run(name: &str, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let manifest = manifest(&settings::data(), name)?;
    let program = std::env::current_exe().map_err(Failure::error)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    // By its manifest and not from its folder, since the arguments may have paths that are relative to the user's folder.
    command.args(RUN).arg("--manifest-path").arg(manifest);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.arg("--").args(&arguments.arguments).env(xtask::PROGRAM_VARIABLE, program);
    let error = command.exec();
    Err(Failure::error(format!(
        "failed to start {} to compile `{name}`: {error}; install Rust, or set CARGO to the path of cargo",
        cargo.display()
    )))
}

/// The manifest of a program.
fn manifest(checkout: &Path, name: &str) -> Result<PathBuf, Failure> {
    let manifest = checkout.join("tests").join(name).join("Cargo.toml");
    manifest.canonicalize().map_err(|e| {
        Failure::error(format!(
            "`{name}` is compiled from the checkout that this program was built from, but {} cannot be read: {e}; run `cargo \
             xtask {name}` in a checkout of nestmatrix",
            manifest.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_part_of_the_checkout() {
        for name in ["bench", "chaos"] {
            assert!(manifest(&settings::data(), name).unwrap().ends_with(format!("tests/{name}/Cargo.toml")));
        }
        let missing = format!("{:?}", manifest(Path::new("/no/checkout"), "bench").unwrap_err());
        assert!(missing.contains("/no/checkout/tests/bench/Cargo.toml cannot be read"), "{missing}");
    }
}
