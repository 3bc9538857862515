//! The permission to change a machine: a file that only its administrator can write, and that names the machine itself.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nestmatrix_model::PROGRAM;

use super::{HostPaths, PERMISSION};

/// Why this machine may not be changed.
#[derive(Debug, thiserror::Error)]
#[error(
    "this machine is no disposable host: {why}\n\
     Only a machine whose state does not matter may be changed. Its administrator permits it with a file that has the machine's own \
     identity, so that a copy of its disk in another machine does not count:\n\
     sudo mkdir -p /etc/nestmatrix\n\
     sudo {PROGRAM} host identity | sudo tee {PERMISSION}"
)]
pub struct NotPermitted {
    /// What is wrong.
    pub why: String,
}

/// Checks that the administrator of this machine permits changes.
///
/// # Errors
/// What is wrong, and what to do.
pub fn permitted(paths: &HostPaths) -> Result<(), NotPermitted> {
    check(paths, 0).map_err(|why| NotPermitted { why })
}

/// The same, if `owner` is the user who may permit it.
pub(super) fn check(paths: &HostPaths, owner: u32) -> Result<(), String> {
    let path = paths.at(PERMISSION);
    if let Some(folder) = path.parent().filter(|folder| folder.exists()) {
        is_protected(folder, owner)?;
    }
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("there is no {}", path.display()));
        }
        Err(e) => return Err(format!("failed to read {}: {e}", path.display())),
    };
    if !metadata.is_file() {
        return Err(format!("{} is not a regular file", path.display()));
    }
    is_protected(&path, owner)?;
    let text = fs::read_to_string(&path).map_err(super::failed("read", &path))?;
    let lines: Vec<&str> = text.split_whitespace().collect();
    let wanted = identity(paths)?;
    let is_same = lines.len() == wanted.len()
        && lines.iter().zip(&wanted).all(|(line, wanted)| line.eq_ignore_ascii_case(wanted));
    if is_same {
        return Ok(());
    }
    let of = if wanted.len() > 1 { "machine-id and product UUID" } else { "machine-id" };
    Err(format!("{} does not have this machine's own {of}, in this order", path.display()))
}

/// What identifies this machine, a line for each: its installation, and its hardware if the firmware does.
///
/// # Errors
/// The machine has no machine-id, or what identifies it can't be read.
pub fn identity(paths: &HostPaths) -> Result<Vec<String>, String> {
    Ok(std::iter::once(machine_id(paths)?).chain(product_uuid(paths)?).collect())
}

/// Checks that only the owner can write it.
fn is_protected(path: &Path, owner: u32) -> Result<(), String> {
    let metadata = fs::symlink_metadata(path).map_err(super::failed("read", path))?;
    if metadata.uid() != owner {
        return Err(format!("{} belongs to user {}, not to root", path.display(), metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(format!("{} can be written by others: run chmod go-w on it", path.display()));
    }
    Ok(())
}

/// The identity of this installation (machine-id(5)).
pub(super) fn machine_id(paths: &HostPaths) -> Result<String, String> {
    let path = paths.at("/etc/machine-id");
    let text = fs::read_to_string(&path).map_err(super::failed("read", &path))?;
    let id = text.trim();
    if id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()) {
        Ok(id.to_owned())
    } else {
        Err(format!("{} has no id: {id:?}", path.display()))
    }
}

/// The identity of the hardware, which a copy of the disk does not take along, if its firmware gives it one.
fn product_uuid(paths: &HostPaths) -> Result<Option<String>, String> {
    let path = paths.at("/sys/class/dmi/id/product_uuid");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|uuid| !uuid.is_empty())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(super::failed("read", &path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rstest::rstest;

    use super::super::tests::{Fake, MACHINE};
    use super::*;

    const UUID: &str = "4C4C4544-0042-3510-8052-B4C04F4D3732";

    #[rstest]
    #[case::right(&format!("{MACHINE}\n{UUID}\n"), 0o644, None)]
    #[case::uuid_in_other_case(&format!("{MACHINE}\n{}\n", UUID.to_lowercase()), 0o600, None)]
    #[case::without_uuid(&format!("{MACHINE}\n"), 0o644, Some("does not have this machine's own machine-id and product UUID"))]
    #[case::another_machine(&format!("{}\n{UUID}\n", MACHINE.replace('0', "1")), 0o644, Some("does not have this machine's own"))]
    #[case::another_machine_too(&format!("{MACHINE}\n{UUID}\n{MACHINE}\n"), 0o644, Some("does not have this machine's own"))]
    #[case::empty("", 0o644, Some("does not have this machine's own"))]
    #[case::writable_by_all(&format!("{MACHINE}\n{UUID}\n"), 0o646, Some("can be written by others: run chmod go-w on it"))]
    #[case::writable_by_group(&format!("{MACHINE}\n{UUID}\n"), 0o664, Some("can be written by others"))]
    fn only_a_protected_file_about_this_machine_permits_changes(
        #[case] text: &str,
        #[case] mode: u32,
        #[case] refused: Option<&str>,
    ) {
        let fake = Fake::new();
        let own = fs::metadata(fake.folder.path()).unwrap().uid();
        fake.write("/sys/class/dmi/id/product_uuid", &format!("{UUID}\n"));
        assert!(check(&fake.paths, own).unwrap_err().starts_with("there is no "));
        fake.write(PERMISSION, text);
        fake.set_mode(PERMISSION, mode);
        let checked = check(&fake.paths, own);
        match refused {
            None => assert_eq!(checked, Ok(())),
            Some(why) => assert!(checked.as_ref().is_err_and(|said| said.contains(why)), "{checked:?}"),
        }
        let another = check(&fake.paths, own + 1).unwrap_err();
        assert!(another.contains(&format!("belongs to user {own}, not to root")), "{another}");
    }

    #[test]
    fn a_file_that_others_can_replace_permits_nothing() {
        let fake = Fake::new();
        let own = fs::metadata(fake.folder.path()).unwrap().uid();
        fake.write(PERMISSION, MACHINE);
        fake.set_mode(PERMISSION, 0o644);
        assert_eq!(check(&fake.paths, own), Ok(()), "the firmware gives this machine no UUID");
        fake.set_mode("/etc/nestmatrix", 0o777);
        assert!(check(&fake.paths, own).unwrap_err().contains("can be written by others"));
        fake.set_mode("/etc/nestmatrix", 0o755);
        fs::rename(fake.at(PERMISSION), fake.at("/file")).unwrap();
        symlink(fake.at("/file"), fake.at(PERMISSION)).unwrap();
        assert!(check(&fake.paths, own).unwrap_err().ends_with("is not a regular file"));
    }

    #[rstest]
    #[case("")]
    #[case("uninitialized\n")]
    fn a_machine_without_an_id_can_not_be_permitted(#[case] id: &str) {
        let fake = Fake::new();
        let own = fs::metadata(fake.folder.path()).unwrap().uid();
        fake.write("/etc/machine-id", id);
        fake.write(PERMISSION, id);
        fake.set_mode(PERMISSION, 0o644);
        assert!(check(&fake.paths, own).unwrap_err().contains("has no id"));
    }
}
