//! The files of a cell's attempts. Those of the attempt that its record describes are in the cell's folder; each other attempt has a
//! subfolder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Moves the files of the latest attempt, which has this number, into its subfolder, so that the next attempt can write its own.
pub(super) fn set_aside(folder: &Path, number: usize) -> io::Result<()> {
    let aside = aside(folder, number);
    fs::create_dir(&aside)?;
    move_files(folder, &aside)
}

/// Moves the files of an earlier attempt back, instead of those of the latest one, `last`.
pub(super) fn bring_back(folder: &Path, number: usize, last: usize) -> io::Result<()> {
    set_aside(folder, last)?;
    let aside = aside(folder, number);
    move_files(&aside, folder)?;
    fs::remove_dir(aside)
}

fn aside(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("attempt-{number}"))
}

fn move_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::rename(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_described_attempt_are_those_of_the_cell() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
        for number in 1..=3 {
            fs::write(folder.join("L0.dmesg"), number.to_string()).unwrap();
            if number < 3 {
                set_aside(folder, number).unwrap();
            }
        }
        bring_back(folder, 2, 3).unwrap();
        assert_eq!(text("L0.dmesg").unwrap(), "2");
        assert_eq!(text("attempt-1/L0.dmesg").unwrap(), "1");
        assert_eq!(text("attempt-3/L0.dmesg").unwrap(), "3");
        assert!(!folder.join("attempt-2").exists());
    }
}
