//! Verifies the signatures of packages with the host's rpmkeys and a private database.

use crate::Error;
use crate::tool::Tool;
use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const RPMKEYS: Tool =
    Tool { program: "rpmkeys", does: "verifies the signatures of RPM packages", install: "rpm" };

const GPG: Tool = Tool { program: "gpg", does: "reads public keys", install: "gpg (Debian) or gnupg2" };

/// Verifies that each package has a valid signature of one of the keys in the file `key`. `folder` is for temporary files.
///
/// # Errors
/// [`Error::Signature`] for packages without one, [`Error::PackageTool`] if the keys cannot be read.
pub(super) fn verify(
    wrapper: &[OsString],
    folder: &Path,
    key: &Path,
    packages: &[PathBuf],
) -> Result<(), Error> {
    if packages.is_empty() {
        return Ok(());
    }
    let database = tempfile::tempdir_in(folder).map_err(Error::io("create a folder in", folder))?;
    let rpmkeys = || {
        let mut command = RPMKEYS.command(wrapper);
        command.arg("--dbpath").arg(database.path());
        command
    };
    RPMKEYS.run(rpmkeys().arg("--import").arg(key), "read the key", || {})?;
    // Without this, a package without any signature passes.
    let mut command = rpmkeys();
    command.args(["--define", "_pkgverify_level all", "--checksig"]).args(packages);
    let ended = RPMKEYS.end(&mut command, || {})?;
    let refused = refused(&ended.output, packages);
    if refused.is_empty() && ended.status.success() {
        return Ok(());
    }
    if refused.is_empty() {
        return Err(ended.error(RPMKEYS.program, "verify the packages"));
    }
    Err(Error::Signature { key: key.to_owned(), packages: refused })
}

/// The packages that rpmkeys does not say are signed and intact, each with what it says.
fn refused(output: &str, packages: &[PathBuf]) -> Vec<String> {
    let said = |path: &PathBuf| {
        let prefix = format!("{}: ", path.display());
        output
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or("rpmkeys says nothing")
            .to_owned()
    };
    let is_good =
        |said: &str| said.contains("signatures") && said.ends_with(" OK") && !said.contains("NOT OK");
    let refused = packages.iter().map(|path| (path, said(path))).filter(|(_, said)| !is_good(said));
    refused
        .map(|(path, said)| format!("{} ({said})", path.file_name().unwrap_or_default().to_string_lossy()))
        .collect()
}

/// The fingerprints of the keys in a file.
///
/// # Errors
/// [`Error::PackageTool`] if it holds no key.
pub(crate) fn fingerprints(wrapper: &[OsString], key: &Path) -> Result<Vec<String>, Error> {
    // gpg wants a folder that no other user can read, and must not touch the user's.
    let mut private = tempfile::Builder::new();
    let home = private.permissions(Permissions::from_mode(0o700)).tempdir();
    let home = home.map_err(Error::io("create a folder for", key))?;
    let mut command = GPG.command(wrapper);
    command.arg("--homedir").arg(home.path());
    command.args(["--batch", "--no-options", "--no-autostart", "--show-keys", "--with-colons"]).arg(key);
    let output = GPG.run(&mut command, "read the key", || {})?;
    Ok(primary_fingerprints(&output))
}

/// Each `fpr` record after a `pub` record (gnupg: doc/DETAILS).
fn primary_fingerprints(output: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut primary = false;
    for line in output.lines() {
        let mut fields = line.split(':');
        match fields.next() {
            Some("pub") => primary = true,
            Some("sub") => primary = false,
            Some("fpr") if primary => {
                found.extend(fields.nth(8).map(str::to_owned));
                primary = false;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_signed_and_intact_packages_are_accepted() {
        let packages = ["/p/a.rpm", "/p/b.rpm", "/p/c.rpm", "/p/d.rpm", "/p/e.rpm"].map(PathBuf::from);
        let output = "/p/a.rpm: digests signatures OK\n/p/b.rpm: digests SIGNATURES NOT OK\n\
            /p/c.rpm: DIGESTS signatures NOT OK\n/p/d.rpm: digests OK\n";
        assert_eq!(
            refused(output, &packages),
            [
                "b.rpm (digests SIGNATURES NOT OK)",
                "c.rpm (DIGESTS signatures NOT OK)",
                "d.rpm (digests OK)",
                "e.rpm (rpmkeys says nothing)"
            ]
        );
    }

    #[test]
    fn fingerprints_are_those_of_primary_keys() {
        let output = "pub:-:4096:1:AAAA:1:::-:::scESC::::::23::0:\nfpr:::::::::1234ABCD:\nuid:-::::1::X::test::::::::::0:\n\
            sub:-:4096:1:BBBB:1::::::e::::::23:\nfpr:::::::::5678EF:\n";
        assert_eq!(primary_fingerprints(output), ["1234ABCD"]);
    }
}
