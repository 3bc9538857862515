//! A key that is made for the test, and the signatures of packages.

use crate::{Error, parallel, tool};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use tempfile::TempDir;

/// A key in a keyring of its own. When it is dropped, GnuPG's agent ends and the keyring is removed.
#[derive(Debug)]
pub(crate) struct Signer {
    home: TempDir,
    /// The user's name in the key.
    name: String,
}

impl Signer {
    /// Makes a key.
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        // Not below the repository: its path may be too long for the agent's socket.
        let home =
            TempDir::with_prefix("gnupg-").map_err(Error::io("create a folder in", env::temp_dir()))?;
        let signer = Self { home, name: name.to_owned() };
        // RHEL's key is an RSA key, too.
        let key = ["--quick-generate-key", name, "rsa2048", "sign", "never"];
        tool::run(signer.gpg().args(["--passphrase", ""]).args(key))?;
        Ok(signer)
    }

    fn gpg(&self) -> Command {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--quiet", "--no-options", "--homedir"]).arg(self.home.path());
        command
    }

    /// Writes the public key into a file.
    pub(crate) fn export(&self, path: &Path) -> Result<(), Error> {
        let key = tool::run(self.gpg().args(["--armor", "--export", &self.name]))?;
        fs::write(path, key).map_err(Error::io("write", path))
    }

    /// Signs packages. An earlier signature is replaced.
    pub(crate) fn sign(&self, packages: &[PathBuf]) -> Result<(), Error> {
        // RPM does not search for it, and Debian's name of it is out of date.
        let gpg = tool::find("gpg").unwrap_or_else(|| "/usr/bin/gpg".into());
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let shares: Vec<&[PathBuf]> = packages.chunks(packages.len().div_ceil(threads).max(1)).collect();
        let sign = |share: &&[PathBuf]| {
            let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
            let mut command = Command::new("rpmsign");
            command
                .arg("--resign")
                .args(define("__gpg", &gpg.to_string_lossy()))
                .args(define("_gpg_name", &self.name))
                .args(define("_gpg_path", &self.home.path().to_string_lossy()))
                .args(*share)
                .env("HOME", self.home.path());
            tool::run(&mut command)
        };
        parallel::map(&shares, sign).map(drop)
    }
}

/// Removes the signature of a package.
pub(crate) fn unsign(package: &Path) -> Result<(), Error> {
    tool::run(Command::new("rpmsign").arg("--delsign").arg(package)).map(drop)
}

impl Drop for Signer {
    fn drop(&mut self) {
        // An error here means that no agent runs.
        let _ =
            tool::run(Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]));
    }
}
