//! One archive with everything that reproduces a cell's outcome on another machine: script, images, records.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nestmatrix_images::NewFile;

use crate::contained::{self, Listing, RelativeFolder};

use super::SCRIPT;

/// A file of an image that adds nothing: a second copy of kernel and initramfs, with a large hole.
const DISK: &str = "disk";
/// Compression level. Most of a bundle is compressed already, so a higher level saves only a few percent.
const LEVEL: i32 = 3;

/// The contents of a bundle.
#[derive(Debug)]
pub struct Bundle<'a> {
    /// The folder that appears when it is unpacked.
    pub name: String,
    /// The folder of the cell's run.
    pub run: &'a Path,
    /// The cell's folder in it: its records, and the script.
    pub cell: &'a RelativeFolder,
    /// Further records by their names.
    pub records: Vec<(String, Vec<u8>)>,
    /// Folders of images, by their names in the bundle.
    pub images: Vec<(String, PathBuf)>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundled {
    /// How many files are in it.
    pub files: usize,
    /// Bytes of all of them.
    pub unpacked: u64,
    /// Bytes of the archive.
    pub bytes: u64,
    /// What was left out because it is not a regular file, and what it is: a link can point to any file of this machine.
    pub left_out: Vec<(PathBuf, &'static str)>,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file of its name exists.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// It can't be written.
    #[error("failed to write {}: {source}", .path.display())]
    Unwritable {
        /// Where.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A part of it can't be read.
    #[error("failed to read {}: {source}", .path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl Bundle<'_> {
    /// Writes it as one file. The file appears only when it is complete.
    ///
    /// # Errors
    /// Something can't be read or written, or a file exists and must not be replaced.
    pub fn write(&self, to: &Path, replace: bool) -> Result<Bundled, BundleError> {
        let unwritable = |source| BundleError::Unwritable { path: to.to_owned(), source };
        // The work takes half a minute, so this is checked before it and again after it.
        if !replace && to.symlink_metadata().is_ok() {
            return Err(BundleError::Exists(to.to_owned()));
        }
        let folder = match to.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let file = NewFile::create_in(folder).map_err(unwritable)?;
        let filled = self.fill(file.file(), to)?;
        file.file().sync_all().map_err(unwritable)?;
        let bytes = file.file().metadata().map_err(unwritable)?.len();
        file.publish(to, replace).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => BundleError::Exists(to.to_owned()),
            _ => unwritable(e),
        })?;
        Ok(Bundled { bytes, ..filled })
    }

    /// Fills the archive. Its length is not known yet.
    fn fill(&self, file: &File, to: &Path) -> Result<Bundled, BundleError> {
        let unwritable = |source| BundleError::Unwritable { path: to.to_owned(), source };
        let packer = zstd::Encoder::new(file, LEVEL).map_err(unwritable)?;
        let mut archive = tar::Builder::new(packer);
        let mut count = (0, 0);
        let mut put = |name: String, source: Source<'_>| {
            let name = format!("{}/{name}", self.name);
            count.0 += 1;
            count.1 += source.put(&mut archive, &name, to)?;
            Ok(())
        };
        let cell = self.cell.as_path();
        let script = cell.join(SCRIPT);
        put(SCRIPT.to_owned(), Source::File(self.run, &script))?;
        for (name, content) in &self.records {
            put(format!("record/{name}"), Source::Bytes(content, self.run, &script))?;
        }
        let Listing { files, others: left_out } = list(self.run, cell)?;
        for path in files.iter().filter(|path| *path != Path::new(SCRIPT)) {
            put(format!("record/{}", path.display()), Source::File(self.run, &cell.join(path)))?;
        }
        for (image, folder) in &self.images {
            let Listing { files, others } = list(folder, Path::new(""))?;
            if let Some((path, what)) = others.first() {
                // An image must be complete: otherwise it would not boot.
                let source = io::Error::new(io::ErrorKind::InvalidData, format!("it is {what}"));
                return Err(BundleError::Unreadable { path: folder.join(path), source });
            }
            for path in files.iter().filter(|path| *path != Path::new(DISK)) {
                put(format!("images/{image}/{}", path.display()), Source::File(folder, path))?;
            }
        }
        let packer = archive.into_inner().map_err(unwritable)?;
        packer.finish().and_then(|mut file| file.flush()).map_err(unwritable)?;
        Ok(Bundled { files: count.0, unpacked: count.1, bytes: 0, left_out })
    }
}

/// The source of a file of the archive.
enum Source<'a> {
    /// A file, by a folder and its path in it.
    File(&'a Path, &'a Path),
    /// Bytes, and a file whose age they get.
    Bytes(&'a [u8], &'a Path, &'a Path),
}

impl Source<'_> {
    /// Appends it, without its owner. Returns its length.
    fn put(
        &self,
        archive: &mut tar::Builder<impl io::Write>,
        name: &str,
        to: &Path,
    ) -> Result<u64, BundleError> {
        let unwritable = |source| BundleError::Unwritable { path: to.to_owned(), source };
        let (Self::File(folder, path) | Self::Bytes(_, folder, path)) = self;
        let unreadable = |source| BundleError::Unreadable { path: folder.join(path), source };
        let mut file = contained::open(folder, path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        let time = about.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        header.set_mtime(time.map_or(0, |time| time.as_secs()));
        let put = match self {
            Self::File(..) => {
                header.set_mode(if about.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 });
                header.set_size(about.len());
                archive.append_data(&mut header, name, &mut file)
            }
            Self::Bytes(bytes, ..) => {
                header.set_mode(0o644);
                header.set_size(bytes.len() as u64);
                archive.append_data(&mut header, name, *bytes)
            }
        };
        put.map_err(unwritable)?;
        header.size().map_err(unwritable)
    }
}

fn list(root: &Path, folder: &Path) -> Result<Listing, BundleError> {
    let unreadable = |source| BundleError::Unreadable { path: root.join(folder), source };
    contained::list(root, folder).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    fn cell() -> (tempfile::TempDir, RelativeFolder) {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("run/cell");
        fs::create_dir_all(folder.join("attempt-1")).unwrap();
        fs::write(folder.join(SCRIPT), "#!/bin/sh\n").unwrap();
        fs::write(folder.join("L0.console.log"), "said\n").unwrap();
        fs::write(folder.join("attempt-1/L0.console.log"), "said before\n").unwrap();
        let image = place.path().join("image");
        fs::create_dir_all(image.join("tree")).unwrap();
        fs::write(image.join("tree/ld.so"), "program").unwrap();
        fs::set_permissions(image.join("tree/ld.so"), fs::Permissions::from_mode(0o755)).unwrap();
        File::create(image.join(DISK)).unwrap().set_len(1 << 30).unwrap();
        (place, "cell".parse().unwrap())
    }

    /// The bundle of a cell in the run that is at `run`.
    fn bundle<'a>(place: &Path, run: &'a Path, cell: &'a RelativeFolder) -> Bundle<'a> {
        Bundle {
            name: "a-cell".into(),
            run,
            cell,
            records: vec![("cell.json".into(), b"{}".to_vec())],
            images: vec![("qemu-emulator".into(), place.join("image"))],
        }
    }

    #[test]
    fn it_holds_script_records_and_images_without_their_disks() {
        let (place, cell) = cell();
        let to = place.path().join("bundle.tar.zst");
        let written = bundle(place.path(), &place.path().join("run"), &cell).write(&to, false).unwrap();
        let mut unpacked = tar::Archive::new(zstd::Decoder::new(File::open(&to).unwrap()).unwrap());
        let mut files = BTreeMap::new();
        for entry in unpacked.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            files.insert(name, (entry.header().mode().unwrap(), content));
        }
        let expected = [
            ("a-cell/images/qemu-emulator/tree/ld.so", (0o755, "program".to_owned())),
            ("a-cell/record/L0.console.log", (0o644, "said\n".to_owned())),
            ("a-cell/record/attempt-1/L0.console.log", (0o644, "said before\n".to_owned())),
            ("a-cell/record/cell.json", (0o644, "{}".to_owned())),
            ("a-cell/reproduce.sh", (0o644, "#!/bin/sh\n".to_owned())),
        ];
        assert_eq!(files, expected.map(|(name, file)| (name.to_owned(), file)).into());
        assert_eq!((written.files, written.bytes), (5, fs::metadata(&to).unwrap().len()));
    }

    #[test]
    fn what_is_there_is_replaced_only_if_that_is_asked_for() {
        let (place, cell) = cell();
        let to = place.path().join("bundle.tar.zst");
        fs::write(&to, "dear").unwrap();
        let run = place.path().join("run");
        let bundle = bundle(place.path(), &run, &cell);
        assert!(matches!(bundle.write(&to, false), Err(BundleError::Exists(_))));
        assert_eq!(fs::read_to_string(&to).unwrap(), "dear");
        bundle.write(&to, true).unwrap();
        assert_ne!(fs::read(&to).unwrap(), b"dear");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3, "nothing lies beside it");
    }

    #[test]
    fn nothing_is_left_of_one_that_can_not_be_written_to_its_end() {
        let (place, cell) = cell();
        let to = place.path().join("bundle.tar.zst");
        let run = place.path().join("run");
        let bundle = Bundle {
            images: vec![("gone".into(), place.path().join("nowhere"))],
            ..bundle(place.path(), &run, &cell)
        };
        let error = bundle.write(&to, false).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
        assert!(!to.exists());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_link_in_a_record_is_left_out_and_one_in_place_of_the_script_or_in_an_image_is_refused() {
        let (place, cell) = cell();
        let run = place.path().join("run");
        let private = place.path().join("private");
        fs::write(&private, "private").unwrap();
        symlink(&private, run.join("cell/L0.dmesg")).unwrap();
        let to = place.path().join("bundle.tar.zst");
        let written = bundle(place.path(), &run, &cell).write(&to, false).unwrap();
        assert_eq!((written.files, written.left_out), (5, vec![("L0.dmesg".into(), "a symbolic link")]));

        let refused = || bundle(place.path(), &run, &cell).write(&to, true).unwrap_err().to_string();
        symlink(&private, place.path().join("image/kernel")).unwrap();
        assert!(refused().contains("image/kernel: it is a symbolic link"), "{}", refused());
        fs::remove_file(place.path().join("image/kernel")).unwrap();
        fs::remove_file(run.join("cell").join(SCRIPT)).unwrap();
        symlink(&private, run.join("cell").join(SCRIPT)).unwrap();
        assert!(refused().contains("is or contains a symbolic link"), "{}", refused());
    }
}
