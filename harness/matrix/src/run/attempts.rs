//! The files of a cell's attempts: those of the attempt that its record tells of are in the cell's folder, and those of each other one in
//! a folder of its own in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Moves the files of the attempt of this number, the latest, out of the way of the next one's.
pub(super) fn set_aside(folder: &Path, number: usize) -> io::Result<()> {
    let aside = aside(folder, number);
    fs::create_dir(&aside)?;
    move_files(folder, &aside)
}

/// Moves the files of an attempt that were set aside back, in the place of those of the latest one, `last`.
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
    fn the_files_of_the_attempt_that_is_told_of_are_those_of_the_cell() {
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
