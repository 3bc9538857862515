//! Compiles the program of an archive: optimized, linked statically, and without paths of this machine in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::exit::Failure;

/// What was compiled.
pub(super) struct Built {
    /// The program.
    pub(super) program: PathBuf,
    /// The target that it was compiled for: `x86_64-unknown-linux-gnu`.
    pub(super) target: String,
    /// The version of the compiler, in its own words.
    pub(super) compiler: String,
}

impl Built {
    /// The architecture as `uname -m` prints it.
    pub(super) fn architecture(&self) -> &str {
        self.target.split('-').next().unwrap_or(&self.target)
    }
}

/// Compiles it in a folder of its own in `target`, since it has other flags than the developer's programs.
pub(super) fn build(checkout: &Path) -> Result<Built, Failure> {
    let (compiler, target) = compiler()?;
    let folder = checkout.join("target/dist");
    let status = cargo()
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "xtask",
            "--profile",
            "dist",
            "--target",
            &target,
        ])
        .args(["--config", "term.progress.when='always'", "--config", "term.progress.width=80"])
        .arg("--manifest-path")
        .arg(checkout.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(checkout).join("\u{1f}"))
        .env(nestmatrix_model::ARCHIVE_VARIABLE, "1")
        // The developer's settings would make another program.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .map_err(|e| {
            Failure::error(format!(
                "failed to start cargo: {e}; install Rust, or set CARGO to the path of cargo"
            ))
        })?;
    if !status.success() {
        return Err(Failure::error(format!("the program can't be compiled: cargo ended with {status}")));
    }
    let program = folder.join(&target).join("dist/xtask");
    Ok(Built { program, target, compiler })
}

/// The cargo that started this program.
pub(super) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.stdin(Stdio::null());
    cargo
}

/// Without a C library of the system, so that it runs where that is older, and with names instead of this machine's paths.
fn flags(checkout: &Path) -> Vec<String> {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let paths = [(Some(checkout.to_owned()), "nestmatrix"), (home, "cargo")];
    flags.extend(paths.into_iter().filter_map(|(path, name)| {
        let path = path.filter(|path| !path.as_os_str().is_empty())?;
        Some(format!("--remap-path-prefix={}={name}", path.display()))
    }));
    flags
}

/// The compiler's version, and the target for this machine.
fn compiler() -> Result<(String, String), Failure> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let failed =
        |why: String| Failure::error(format!("the Rust compiler can't be asked for its version: {why}"));
    let output = Command::new(&rustc).arg("-vV").output().map_err(|e| failed(e.to_string()))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    read_version(&printed).ok_or_else(|| failed(format!("it printed {:?}", printed.trim())))
}

/// What `rustc -vV` says: its version line, and the target after `host:`.
fn read_version(printed: &str) -> Option<(String, String)> {
    let version = printed.lines().next().filter(|line| line.starts_with("rustc "))?;
    let target = printed.lines().find_map(|line| line.strip_prefix("host: "))?;
    Some((version.to_owned(), target.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_says_its_version_and_target() {
        let printed = "rustc 1.95.0 (f2d3ce0bd 2026-03-21)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        let read = read_version(printed).unwrap();
        assert_eq!(read, ("rustc 1.95.0 (f2d3ce0bd 2026-03-21)".into(), "x86_64-unknown-linux-gnu".into()));
        assert_eq!(read_version("rustc 1.95.0\n"), None);
        assert_eq!(read_version("error: no toolchain\nhost: x\n"), None);
    }

    #[test]
    fn the_archive_is_named_by_the_architecture() {
        let built =
            |target: &str| Built { program: PathBuf::new(), target: target.into(), compiler: String::new() };
        assert_eq!(built("powerpc64le-unknown-linux-gnu").architecture(), "powerpc64le");
    }
}
