//! Files that appear under their name when they are whole, so that no other process sees half of one.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::linkat;

/// Access for everybody that the umask allows.
const MODE: u32 = 0o666;

/// A file that has no name yet.
#[derive(Debug)]
pub enum NewFile {
    /// Without a name, so that nothing remains however this process ends.
    Unnamed(File),
    /// Under another name, if the file system has no files without one.
    Elsewhere(tempfile::NamedTempFile),
}

impl NewFile {
    /// Makes an empty one on the file system of `folder`.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn create_in(folder: &Path) -> io::Result<Self> {
        let how = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        match open(folder, how, Mode::from_bits_truncate(MODE)) {
            Ok(file) => Ok(Self::Unnamed(file.into())),
            // open(2): the errors of file systems that don't support it.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL) => {
                let permissions = Permissions::from_mode(MODE);
                let file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
                Ok(Self::Elsewhere(file))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The file, to be written.
    pub fn file(&self) -> &File {
        match self {
            Self::Unnamed(file) => file,
            Self::Elsewhere(file) => file.as_file(),
        }
    }

    /// Gives it its name, in the folder in which it was made. With `replace`, a file or link of this name is replaced; a link is
    /// not followed.
    ///
    /// # Errors
    /// The name can't be given, or it exists and is not to be replaced.
    pub fn publish(self, to: &Path, replace: bool) -> io::Result<()> {
        let file = match self {
            Self::Unnamed(file) => file,
            Self::Elsewhere(file) if replace => return file.persist(to).map(drop).map_err(|e| e.error),
            Self::Elsewhere(file) => return file.persist_noclobber(to).map(drop).map_err(|e| e.error),
        };
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = |name: &Path| {
            let linked = linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, name, AtFlags::AT_SYMLINK_FOLLOW);
            linked.map_err(io::Error::from)
        };
        if !replace {
            return link(to);
        }
        // A link can't replace a file, but a rename can. The name between is fresh: a process that was killed may have left one.
        let named = tempfile::Builder::new().prefix(".new-").make_in(parent(to), link)?;
        named.persist(to).map(drop).map_err(|e| e.error)
    }
}

/// Writes a file in one step: a reader sees the old one or the new one. A link with its name is replaced, not followed.
///
/// # Errors
/// The file cannot be written. The old one stays.
pub fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let new = NewFile::create_in(parent(path))?;
    new.file().write_all(text.as_bytes())?;
    new.publish(path, true)
}

/// The same for a file that only this user can read.
///
/// # Errors
/// The file cannot be written. The old one stays.
pub(crate) fn replace_private_file(path: &Path, text: &str) -> io::Result<()> {
    // Temporary files have no other permissions than their user's.
    let mut new = tempfile::Builder::new().prefix(".new-").tempfile_in(parent(path))?;
    new.write_all(text.as_bytes())?;
    new.persist(path).map(drop).map_err(|e| e.error)
}

/// The folder of a file; the current one of a bare name.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_is_replaced_and_a_link_is_not_followed_and_nothing_else_remains() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        fs::write(&other, "private").unwrap();
        symlink(&other, &path).unwrap();
        for text in ["first", "second"] {
            replace_file(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert!(!path.is_symlink());
        assert_eq!(fs::read_to_string(&other).unwrap(), "private");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_private_file_is_its_users_alone_even_if_it_was_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace_file(&path, "for all").unwrap();
        replace_private_file(&path, "secret").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_not_published_leaves_nothing_and_one_that_exists_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        drop(NewFile::create_in(folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(&path, "old").unwrap();
        let refused = NewFile::create_in(folder.path()).unwrap().publish(&path, false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }
}
