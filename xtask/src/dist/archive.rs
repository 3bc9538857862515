//! Writes a compressed tar archive. The same files make the same archive, whatever their times and owners are.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use nestmatrix_images::NewFile;
use sha2::{Digest as _, Sha256};

/// An archive that is being written. It gets its name when it is finished.
pub(super) struct Archive<'a> {
    builder: tar::Builder<GzEncoder<Hashed<&'a File>>>,
    folder: PathBuf,
}

/// What was written.
#[derive(Debug, Default, Clone)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// Writes an archive with one folder to `output`. `fill` adds what is in the folder.
///
/// # Errors
/// The first error of `fill`, or that of writing. There is no file then.
pub(super) fn write(
    output: &Path,
    folder: &str,
    fill: impl FnOnce(&mut Archive<'_>) -> io::Result<()>,
) -> io::Result<Written> {
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let file = NewFile::create_in(parent)?;
    let written = write_to(file.file(), folder, fill)?;
    file.publish(output, true)?;
    Ok(written)
}

fn write_to(
    file: &File,
    folder: &str,
    fill: impl FnOnce(&mut Archive<'_>) -> io::Result<()>,
) -> io::Result<Written> {
    // Without the time and the name of the file.
    let compressed = GzBuilder::new().mtime(0).write(Hashed::new(file), Compression::default());
    let mut builder = tar::Builder::new(compressed);
    // A fixed time and owner; of the permissions only whether a file is a program.
    builder.mode(tar::HeaderMode::Deterministic);
    builder.follow_symlinks(false);
    let mut archive = Archive { builder, folder: folder.into() };
    fill(&mut archive)?;
    Ok(archive.builder.into_inner()?.finish()?.written())
}

impl Archive<'_> {
    /// Adds a file, a link, or a folder with all that is in it, in the order of their names.
    ///
    /// # Errors
    /// It can't be read, or the archive can't be written. The error names the file.
    pub(super) fn add(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let about = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        self.builder.append_path_with_name(path, self.folder.join(name)).map_err(about)?;
        if !path.symlink_metadata().map_err(about)?.is_dir() {
            return Ok(());
        }
        let entries = fs::read_dir(path).map_err(about)?;
        let mut names =
            entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>().map_err(about)?;
        names.sort();
        names.into_iter().try_for_each(|entry| self.add(&path.join(&entry), &name.join(&entry)))
    }
}

/// Counts and hashes what is written.
struct Hashed<W> {
    to: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashed<W> {
    fn new(to: W) -> Self {
        Self { to, hash: Sha256::new(), bytes: 0 }
    }

    fn written(self) -> Written {
        Written { bytes: self.bytes, sha256: hex::encode(self.hash.finalize()) }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.to.write(data)?;
        self.hash.update(&data[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;

    fn pack(files: &Path, output: &Path) -> io::Result<Written> {
        write(output, "top", |archive| archive.add(files, Path::new("files")))
    }

    /// A folder whose files have this time, written in this order.
    fn folder(names: &[&str], time: SystemTime) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        for name in names {
            let file = File::create(folder.path().join(name)).unwrap();
            write!(&file, "{name}").unwrap();
            file.set_modified(time).unwrap();
        }
        fs::set_permissions(folder.path().join("data/program"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("data/program", folder.path().join("link")).unwrap();
        folder
    }

    #[test]
    fn the_same_files_make_the_same_archive() {
        let output = tempfile::tempdir().unwrap();
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let one = folder(&["b", "data/program", "a"], day);
        let other = folder(&["a", "b", "data/program"], SystemTime::now());
        let packed =
            [&one, &other].map(|files| pack(files.path(), &output.path().join("out/a.tar.gz")).unwrap());
        assert_eq!(packed[0].sha256, packed[1].sha256);
        let data = fs::read(output.path().join("out/a.tar.gz")).unwrap();
        assert_eq!(packed[1].bytes, data.len() as u64);
        assert_eq!(packed[1].sha256, hex::encode(Sha256::digest(&data)));

        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&data[..]));
        archive.unpack(output.path()).unwrap();
        let unpacked = output.path().join("top/files");
        assert_eq!(fs::read_to_string(unpacked.join("link")).unwrap(), "data/program");
        let mode = |name: &str| unpacked.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("data/program"), mode("a")), (0o755, 0o644));
    }

    #[test]
    fn an_archive_that_fails_leaves_no_file() {
        let output = tempfile::tempdir().unwrap();
        let error = pack(Path::new("/no/such/folder"), &output.path().join("a.tar.gz")).unwrap_err();
        assert!(error.to_string().starts_with("/no/such/folder: "), "{error}");
        assert_eq!(fs::read_dir(output.path()).unwrap().count(), 0);
    }
}
