//! Damages files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// The files below a folder, in the order of their paths; without links. What can't be read is left out.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_below(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found.sort();
    found
}

/// Damages one of the files below a folder: changes a byte, cuts its end off, or removes it. Returns what was done, or nothing if there
/// is no file. A changed file is a new one, so that other links to the old one keep their content.
///
/// # Errors
/// The operating system's. A file that has gone in the meantime is one, too.
pub fn damage_one_below(folder: &Path, choices: &mut Rng) -> io::Result<Option<String>> {
    let files = files_below(folder);
    if files.is_empty() {
        return Ok(None);
    }
    let file = &files[choices.usize(..files.len())];
    let size = fs::metadata(file)?.len();
    let done = match choices.u8(..3) {
        0 => {
            fs::remove_file(file)?;
            "removed".to_owned()
        }
        1 if size > 0 => {
            let left = choices.u64(..size);
            replace(file, |copy| fs::OpenOptions::new().write(true).open(copy)?.set_len(left))?;
            format!("cut from {size} to {left} bytes")
        }
        _ if size > 0 => {
            let (at, bit) = (choices.u64(..size), choices.u8(..8));
            replace(file, |copy| flip(copy, at, 1 << bit))?;
            format!("changed at byte {at}")
        }
        _ => {
            replace(file, |copy| fs::write(copy, b"\0"))?;
            "filled with a byte".to_owned()
        }
    };
    Ok(Some(format!("{} {done}", file.display())))
}

/// Puts a changed copy of a file in its place.
fn replace(file: &Path, change: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = file.parent().ok_or_else(|| io::Error::other("it is in no folder"))?;
    let copy = tempfile::NamedTempFile::new_in(folder)?;
    fs::copy(file, copy.path())?;
    change(copy.path())?;
    copy.persist(file)?;
    Ok(())
}

fn flip(file: &Path, at: u64, bits: u8) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ bits], at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]
mod tests {
    use super::*;

    #[test]
    fn damage_shows_in_the_damaged_file_and_not_in_other_links_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, others) = (folder.path().join("mine"), folder.path().join("others"));
        fs::create_dir(&mine).unwrap();
        fs::create_dir(&others).unwrap();
        let whole = b"some content".repeat(100);
        fs::write(others.join("image"), &whole).unwrap();
        for seed in 0..50 {
            let _ = fs::remove_file(mine.join("image"));
            fs::hard_link(others.join("image"), mine.join("image")).unwrap();
            let done = damage_one_below(&mine, &mut Rng::with_seed(seed)).unwrap().unwrap();
            assert!(
                fs::read(mine.join("image")).is_ok_and(|left| left != whole) || done.ends_with("removed")
            );
            assert_eq!(fs::read(others.join("image")).unwrap(), whole, "{done}");
            assert!(files_below(&mine).len() <= 1, "{done}");
        }
    }

    #[test]
    fn an_empty_folder_has_nothing_to_damage_and_an_empty_file_has() {
        let folder = tempfile::tempdir().unwrap();
        let mut choices = Rng::with_seed(0);
        assert_eq!(damage_one_below(folder.path(), &mut choices).unwrap(), None);
        fs::write(folder.path().join("empty"), "").unwrap();
        let done = damage_one_below(folder.path(), &mut choices).unwrap().unwrap();
        assert!(done.ends_with("removed") || done.ends_with("filled with a byte"), "{done}");
    }
}
