//! The files of a machine that Bochs has saved: its memory, and an archive of all others.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::TEMPORARY;
use super::saver::Saver;
use crate::host::{HostError, MachineKeeper, Pending};

/// The file with the memory.
pub(super) const MEMORY: &str = "memory.ram";

/// The file with the configuration. Bochs restores timers in the order in which its devices were made, and what it writes here has
/// another order than the boot had: interrupts would be wrong, and Bochs would not say so. So it is replaced by the boot's.
pub(super) const CONFIGURATION: &str = "config";

/// The file with what Bochs logs. Unlike the other files whose names have no dot, it is no list of parameters.
const LOG_OPTIONS: &str = "logopts";

/// Writes all files of `folder` but the memory and the configuration to an archive, in the order of their names.
///
/// # Errors
/// A list of parameters ends early: Bochs does not say so if the file system is full, and would restore the rest as after a reset.
pub(super) fn pack(folder: &Path, archive: &Path) -> io::Result<()> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name()))
        .filter(|name| !matches!(name, Ok(name) if name == MEMORY || name == CONFIGURATION))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    let mut packed = tar::Builder::new(File::create(archive)?);
    for name in names {
        let file = folder.join(&name);
        let is_list = file.extension().is_none() && name != LOG_OPTIONS;
        if is_list && !fs::read(&file)?.ends_with(b"\n}\n") {
            return Err(io::Error::other(format!("Bochs has not written all of {}", name.display())));
        }
        packed.append_path_with_name(file, &name)?;
    }
    packed.into_inner().map(drop)
}

/// Makes `folder` again from the archive and the memory, which is read where it is.
pub(super) fn unpack(archive: &Path, memory: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    tar::Archive::new(File::open(archive)?).unpack(folder)?;
    std::os::unix::fs::symlink(memory, folder.join(MEMORY))
}

/// Saves the machine of a Bochs, and checks that it was restored.
pub(super) struct Keeper {
    /// None if this Bochs will not be asked to save its machine.
    pub(super) saver: Option<Saver>,
    /// The size of the memory that it restores, in bytes; none if it boots its machine.
    pub(super) restores: Option<u64>,
}

impl Keeper {
    async fn saved(saver: &Saver, devices: &Path) -> io::Result<File> {
        let (folder, devices) = (saver.save().await?, devices.to_owned());
        let packed = tokio::task::spawn_blocking(move || {
            let memory = File::open(folder.join(MEMORY));
            let packed = memory.and_then(|memory| pack(&folder, &devices).map(|()| memory));
            // The memory goes when it is closed.
            fs::remove_dir_all(&folder)?;
            packed
        });
        packed.await.map_err(io::Error::other)?
    }
}

impl MachineKeeper for Keeper {
    fn save<'a>(&'a self, devices: &'a Path) -> Pending<'a, File> {
        Box::pin(async move {
            let saver = self.saver.as_ref().ok_or_else(HostError::unsavable)?;
            let saved = Self::saved(saver, devices).await;
            saved.map_err(|source| HostError::System { what: "saving Bochs' machine".into(), source })
        })
    }

    fn check_restored(&self, id: i32) -> Result<(), HostError> {
        let check = || match self.restores {
            Some(bytes) if !has_copied(id, bytes)? => {
                Err(io::Error::other(format!("{TEMPORARY} has no copy of its {bytes} bytes")))
            }
            _ => Ok(()),
        };
        check().map_err(|source| HostError::System { what: "restoring the memory of Bochs".into(), source })
    }
}

/// Whether a Bochs has a file without a name of this size: its copy of the memory that it restores. If the file system is full, the copy is
/// shorter, and Bochs does not say so.
fn has_copied(id: i32, bytes: u64) -> io::Result<bool> {
    let files = fs::read_dir(format!("/proc/{id}/fd"))?;
    let mut files = files.filter_map(|file| fs::metadata(file.ok()?.path()).ok());
    Ok(files.any(|file| file.is_file() && file.nlink() == 0 && file.len() == bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_is_too_short_is_noticed() {
        let id = i32::try_from(std::process::id()).unwrap();
        let copy = tempfile::tempfile().unwrap();
        // No other test of this program makes a file of this size.
        copy.set_len(7_654_321).unwrap();
        assert!(has_copied(id, 7_654_321).unwrap());
        let keeper = Keeper { saver: None, restores: Some(7_654_322) };
        let why = keeper.check_restored(id).unwrap_err().to_string();
        assert_eq!(why, "restoring the memory of Bochs: /tmp has no copy of its 7654322 bytes");
        assert!(Keeper { saver: None, restores: None }.check_restored(id).is_ok());
    }

    /// A folder with files as Bochs saves them.
    fn saved(place: &Path) -> std::path::PathBuf {
        let folder = place.join("saved");
        fs::create_dir(&folder).unwrap();
        for (name, text) in [
            ("pic", "pic = {\n  master = {\n  }\n}\n"),
            ("vga.memory", "pixels"),
            (LOG_OPTIONS, "logio: PANIC=fatal\n"),
            (MEMORY, "the memory"),
            (CONFIGURATION, "the configuration"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn what_is_packed_is_there_again_but_for_memory_and_configuration() {
        let place = tempfile::tempdir().unwrap();
        let [again, archive, memory] = ["again", "archive", "m"].map(|name| place.path().join(name));
        fs::write(&memory, "the copied memory").unwrap();
        pack(&saved(place.path()), &archive).unwrap();
        unpack(&archive, &memory, &again).unwrap();
        let mut names: Vec<_> = fs::read_dir(&again).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [LOG_OPTIONS, MEMORY, "pic", "vga.memory"]);
        assert_eq!(fs::read_to_string(again.join("vga.memory")).unwrap(), "pixels");
        assert_eq!(fs::read_to_string(again.join(MEMORY)).unwrap(), "the copied memory");
    }

    #[test]
    fn a_list_that_ends_early_is_not_packed() {
        let place = tempfile::tempdir().unwrap();
        let folder = saved(place.path());
        for text in ["", "pic = {\n  master = {\n  }\n", "pic = {\n  ma"] {
            fs::write(folder.join("pic"), text).unwrap();
            let why = pack(&folder, &place.path().join("archive")).unwrap_err().to_string();
            assert_eq!(why, "Bochs has not written all of pic");
        }
    }
}
