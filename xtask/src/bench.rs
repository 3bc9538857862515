//! `bench`: becomes the bench, a package for development (`tests/bench`). Those who only run the matrix never compile it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;

use crate::exit::Failure;
use crate::settings;

/// As `cargo xtask` in .cargo/config.toml: silent if the bench is up to date, with a progress bar while it compiles.
const RUN: [&str; 6] =
    ["run", "--quiet", "--config", "term.progress.when='always'", "--config", "term.progress.width=80"];

#[derive(Debug, Args)]
pub struct Bench {
    /// Arguments of the bench; `cargo xtask bench --help` explains them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Compiles the bench, and becomes it: signals reach it, and its exit code is that of this process.
pub fn run(bench: &Bench) -> Result<ExitCode, Failure> {
    let manifest = manifest(&settings::data())?;
    let program = std::env::current_exe().map_err(Failure::error)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    // By its manifest and not from its folder, since the arguments may have paths that are relative to the user's folder.
    command.args(RUN).arg("--manifest-path").arg(manifest);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.arg("--").args(&bench.arguments).env(xtask::PROGRAM_VARIABLE, program);
    let error = command.exec();
    Err(Failure::error(format!(
        "failed to start {} to compile the bench: {error}; install Rust, or set CARGO to the path of cargo",
        cargo.display()
    )))
}

/// The manifest of the bench.
fn manifest(checkout: &Path) -> Result<PathBuf, Failure> {
    let manifest = checkout.join("tests/bench/Cargo.toml");
    manifest.canonicalize().map_err(|e| {
        Failure::error(format!(
            "the bench is compiled from the checkout that this program was built from, but {} cannot be read: {e}; run `cargo \
             xtask bench` in a checkout of nestmatrix",
            manifest.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bench_is_part_of_the_checkout() {
        assert!(manifest(&settings::data()).unwrap().ends_with("tests/bench/Cargo.toml"));
        let missing = format!("{:?}", manifest(Path::new("/no/checkout")).unwrap_err());
        assert!(missing.contains("/no/checkout/tests/bench/Cargo.toml cannot be read"), "{missing}");
    }
}
