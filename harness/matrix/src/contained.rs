//! Access to a run's folder that never reaches a file outside it.
//!
//! A run's folder may come from another machine, such as the artifact of a CI job. Names in its records and symbolic links in it can
//! point anywhere, so everything that reads, writes or removes below a run's folder goes through here: no link is followed, and only
//! plain files are opened. The folder of the run itself is the user's choice and may be reached by a link, such as `latest`.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::stat::{self, Mode, SFlag};
use serde::{Deserialize, Serialize};

/// How a folder is opened on the way to a file.
const FOLDER: OFlag =
    OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_RDONLY).union(OFlag::O_CLOEXEC);

/// A folder below another one, by a path that can't lead out of that: it is relative and has no `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "PathBuf", try_from = "PathBuf")]
pub struct RelativeFolder(PathBuf);

/// A path that is empty, absolute, or has `..` in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a folder inside a run's")]
pub struct OutsideFolder {
    /// The path.
    pub given: String,
}

impl RelativeFolder {
    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for RelativeFolder {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Debug for RelativeFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<RelativeFolder> for PathBuf {
    fn from(folder: RelativeFolder) -> Self {
        folder.0
    }
}

impl TryFrom<PathBuf> for RelativeFolder {
    type Error = OutsideFolder;

    fn try_from(path: PathBuf) -> Result<Self, OutsideFolder> {
        let normal = |part| match part {
            Component::Normal(part) => Some(part),
            Component::CurDir | Component::ParentDir | Component::RootDir | Component::Prefix(_) => None,
        };
        let parts: Option<PathBuf> = path.components().map(normal).collect();
        match parts {
            Some(parts) if !parts.as_os_str().is_empty() => Ok(Self(parts)),
            _ => Err(OutsideFolder { given: path.display().to_string() }),
        }
    }
}

impl std::str::FromStr for RelativeFolder {
    type Err = OutsideFolder;

    fn from_str(text: &str) -> Result<Self, OutsideFolder> {
        PathBuf::from(text).try_into()
    }
}

/// The entries of a folder that are not folders.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Plain files, by their paths in the folder, in order.
    pub files: Vec<PathBuf>,
    /// Everything else, with what it is, in order.
    pub others: Vec<(PathBuf, &'static str)>,
}

/// Opens a plain file below `root` for reading.
///
/// # Errors
/// It is missing or can't be read. A link on the way to it, or anything that is not a plain file, is [`io::ErrorKind::InvalidInput`].
pub fn open(root: &Path, file: &Path) -> io::Result<File> {
    open_with(root, file, OFlag::O_RDONLY)
}

/// Opens a plain file below `root` for appending.
///
/// # Errors
/// As [`open`].
pub fn open_to_append(root: &Path, file: &Path) -> io::Result<File> {
    open_with(root, file, OFlag::O_WRONLY.union(OFlag::O_APPEND))
}

/// Reads a plain file below `root`.
///
/// # Errors
/// As [`open`].
pub fn read(root: &Path, file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(root, file)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a plain file of text below `root`.
///
/// # Errors
/// As [`open`], or it is not text.
pub fn read_to_string(root: &Path, file: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(root, file)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Whether there is a plain file at this path below `root` that can be read.
pub fn is_file(root: &Path, file: &Path) -> bool {
    open(root, file).is_ok()
}

/// Whether there is a folder at this path below `root`.
pub fn is_folder(root: &Path, folder: &RelativeFolder) -> bool {
    folder_below(root, folder.as_path(), false).is_ok()
}

/// Makes a folder below `root` with those above it, where they are missing.
///
/// # Errors
/// It can't be made, or there is a link or a file on the way to it.
pub fn make_folder(root: &Path, folder: &RelativeFolder) -> io::Result<()> {
    folder_below(root, folder.as_path(), true).map(drop)
}

/// Removes a folder below `root` with everything in it. A link in it is removed and not followed. A missing folder is not an
/// error.
///
/// # Errors
/// It can't be removed, or there is a link on the way to it.
pub fn remove_folder(root: &Path, folder: &RelativeFolder) -> io::Result<()> {
    let parent = folder.as_path().parent().unwrap_or(Path::new(""));
    let removed = folder_below(root, parent, false)
        .and_then(|_parent| std::fs::remove_dir_all(root.join(folder.as_path())));
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The entries of a folder below `root` and of the folders in it.
///
/// # Errors
/// One of them can't be read, or there is a link on the way to it.
pub fn list(root: &Path, folder: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    // No link is followed, so this terminates.
    let mut folders = vec![PathBuf::new()];
    while let Some(current) = folders.pop() {
        let opened = folder_below(root, &folder.join(&current), false)?;
        let mut entries = Dir::from_fd(opened.try_clone()?)?;
        for entry in entries.iter() {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            let path = current.join(&name);
            let stat = stat::fstatat(&opened, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            match kind_of(&stat) {
                SFlag::S_IFREG => listing.files.push(path),
                SFlag::S_IFDIR => folders.push(path),
                kind => listing.others.push((path, word(kind))),
            }
        }
    }
    listing.files.sort();
    listing.others.sort();
    Ok(listing)
}

fn open_with(root: &Path, file: &Path, how: OFlag) -> io::Result<File> {
    let (Some(name), Some(parent)) = (file.file_name(), file.parent()) else {
        return Err(refused(file, "no file name"));
    };
    let folder = folder_below(root, parent, false)?;
    // A pipe would make this wait for its other end.
    let how = how.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);
    let opened = match fcntl::openat(&folder, name, how, Mode::empty()) {
        Err(Errno::ELOOP) => return Err(refused(file, word(SFlag::S_IFLNK))),
        // A socket, or a pipe that no process reads.
        Err(Errno::ENXIO) => return Err(refused(file, "a socket or a named pipe")),
        opened => File::from(opened?),
    };
    match kind_of(&stat::fstat(&opened)?) {
        SFlag::S_IFREG => Ok(opened),
        kind => Err(refused(file, word(kind))),
    }
}

/// Opens a folder below `root` one part of its path after the other, and creates missing ones if `make` is set.
fn folder_below(root: &Path, folder: &Path, make: bool) -> io::Result<OwnedFd> {
    let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
    let mut opened =
        fcntl::open(root, OFlag::O_DIRECTORY.union(OFlag::O_RDONLY).union(OFlag::O_CLOEXEC), Mode::empty())?;
    for part in folder.components() {
        let part = match part {
            Component::Normal(part) => part,
            Component::CurDir => continue,
            _ => return Err(refused(folder, "a part that leads out of the folder")),
        };
        if make {
            match stat::mkdirat(&opened, part, Mode::from_bits_truncate(0o777)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        opened = match fcntl::openat(&opened, part, FOLDER, Mode::empty()) {
            // open(2) does not specify the error for a link.
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                let stat = stat::fstatat(&opened, part, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                return Err(refused(folder, word(kind_of(&stat))));
            }
            opened => opened?,
        };
    }
    Ok(opened)
}

fn refused(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} is or contains {what}", path.display()))
}

fn kind_of(stat: &stat::FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn word(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFREG => "a file",
        SFlag::S_IFDIR => "a folder",
        SFlag::S_IFIFO => "a named pipe",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFCHR | SFlag::S_IFBLK => "a device",
        _ => "a special file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    use rstest::rstest;

    fn folder(text: &str) -> RelativeFolder {
        text.parse().unwrap()
    }

    /// A folder `run` and a private file next to it. Links in the run point to that file in every way.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let run = place.path().join("run");
        fs::create_dir_all(run.join("cells/a")).unwrap();
        fs::create_dir(place.path().join("outside")).unwrap();
        fs::write(place.path().join("outside/private"), "private").unwrap();
        fs::write(run.join("cells/a/L0.dmesg"), "said").unwrap();
        symlink(place.path().join("outside/private"), run.join("cells/a/link")).unwrap();
        symlink("../../../outside/private", run.join("cells/a/relative-link")).unwrap();
        symlink(place.path().join("outside"), run.join("cells/out")).unwrap();
        symlink(".", run.join("cells/loop")).unwrap();
        nix::unistd::mkfifo(&run.join("cells/a/pipe"), Mode::from_bits_truncate(0o600)).unwrap();
        (place, run)
    }

    #[rstest]
    #[case("cells/a", Some("cells/a"))]
    #[case("cells/./a/", Some("cells/a"))]
    #[case("a", Some("a"))]
    #[case("", None)]
    #[case(".", None)]
    #[case("..", None)]
    #[case("cells/../../a", None)]
    #[case("cells/..", None)]
    #[case("/etc", None)]
    #[case("/", None)]
    fn a_relative_folder_can_not_lead_out(#[case] text: &str, #[case] expected: Option<&str>) {
        let json = serde_json::to_string(text).unwrap();
        let read = serde_json::from_str::<RelativeFolder>(&json);
        assert_eq!(read.as_ref().ok().map(RelativeFolder::as_path), expected.map(Path::new), "{read:?}");
        if let Ok(read) = read {
            assert_eq!(serde_json::to_value(&read).unwrap(), expected.unwrap());
        }
    }

    #[rstest]
    #[case("cells/a/link", "a symbolic link")]
    #[case("cells/a/relative-link", "a symbolic link")]
    #[case("cells/out/private", "a symbolic link")]
    #[case("cells/loop/a/L0.dmesg", "a symbolic link")]
    #[case("cells/a/pipe", "a named pipe")]
    #[case("cells/a", "a folder")]
    #[case("cells/a/../../../outside/private", "a part that leads out")]
    #[case("..", "no file name")]
    fn what_is_no_plain_file_below_the_folder_is_not_opened(#[case] path: &str, #[case] why: &str) {
        let (_place, run) = place();
        let error = read(&run, Path::new(path)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(!is_file(&run, Path::new(path)));
        assert!(open_to_append(&run, Path::new(path)).is_err());
    }

    #[test]
    fn an_absolute_path_is_not_opened() {
        let (place, run) = place();
        let error = read(&run, &place.path().join("outside/private")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }

    #[test]
    fn plain_files_are_read_also_where_the_folder_itself_is_reached_by_a_link() {
        let (place, run) = place();
        symlink(&run, place.path().join("latest")).unwrap();
        let text = read_to_string(&place.path().join("latest"), Path::new("cells/a/L0.dmesg"));
        assert_eq!(text.unwrap(), "said");
        let missing = read(&run, Path::new("cells/a/none")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_listing_has_what_is_left_out_and_no_loops() {
        let (_place, run) = place();
        let listing = list(&run, Path::new("cells")).unwrap();
        assert_eq!(listing.files, [Path::new("a/L0.dmesg")]);
        let link = "a symbolic link";
        let others = [
            ("a/link", link),
            ("a/pipe", "a named pipe"),
            ("a/relative-link", link),
            ("loop", link),
            ("out", link),
        ];
        assert_eq!(listing.others, others.map(|(path, what)| (PathBuf::from(path), what)));
        assert!(list(&run, Path::new("cells/out")).is_err());
    }

    #[test]
    fn folders_are_made_and_removed_inside_alone() {
        let (place, run) = place();
        make_folder(&run, &folder("cells/b/c")).unwrap();
        make_folder(&run, &folder("cells/b/c")).unwrap();
        assert!(is_folder(&run, &folder("cells/b/c")) && !is_folder(&run, &folder("cells/out")));
        assert!(make_folder(&run, &folder("cells/out/new")).is_err());
        assert!(make_folder(&run, &folder("cells/out")).is_err());
        assert!(!place.path().join("outside/new").exists());

        fs::create_dir(place.path().join("outside/folder")).unwrap();
        assert!(remove_folder(&run, &folder("cells/out/folder")).is_err());
        assert!(place.path().join("outside/folder").is_dir());
        symlink(place.path().join("outside"), run.join("cells/b/c/out")).unwrap();
        remove_folder(&run, &folder("cells/b")).unwrap();
        remove_folder(&run, &folder("cells/b")).unwrap();
        remove_folder(&run, &folder("cells/none/at/all")).unwrap();
        assert!(!run.join("cells/b").exists() && place.path().join("outside/private").is_file());
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_folder_outside(text in "(/|\\.|\\.\\.|a|\\PC){0,12}") {
            if let Ok(folder) = text.parse::<RelativeFolder>() {
                let root = Path::new("/run");
                proptest::prop_assert!(root.join(folder.as_path()).starts_with(root));
                let is_plain = |part| matches!(part, Component::Normal(_));
                proptest::prop_assert!(folder.as_path().components().all(is_plain), "{folder:?}");
            }
        }
    }
}
