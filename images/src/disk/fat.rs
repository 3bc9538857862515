//! Writes files onto a volume with a FAT file system, which every system can read. The same files always give the same bytes.

use crate::{Digest, Error};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// A volume has at least this size. A FAT16 needs 4085 clusters, and some systems take a smaller volume for something else.
const SMALLEST: u64 = 8 << 20;

/// The smallest and the largest size of a cluster.
const CLUSTER: u64 = 1024;
const LARGEST_CLUSTER: u64 = 32 << 10;
/// A FAT16 has at most 65524 clusters. A FAT32 has more.
const FAT16_CLUSTERS: u64 = 65_000;
/// It has at least 4085. This leaves room for its tables.
const FEW_CLUSTERS: u64 = 5000;
/// A size of clusters that suits every FAT32 here.
const FAT32_CLUSTER: u64 = 16 << 10;

/// A directory entry has this length, and this many characters of a long name. Each file has one more, for its short name.
const ENTRY_BYTES: u64 = 32;
const ENTRY_CHARACTERS: u64 = 13;
/// The root folder of a FAT16 has a fixed size. This is the usual number of its entries, and a sector has 16.
const ROOT_ENTRIES: u64 = 512;
const SECTOR_ENTRIES: u64 = 16;

/// Room for the boot sector, the tables and rounding, beyond a fraction of the size.
const OVERHEAD: u64 = 1 << 20;

/// The size of a file is a number of 32 bits.
const LARGEST_FILE: u64 = u32::MAX as u64;

/// A volume's name, of at most 11 characters.
pub(crate) type Label = [u8; 11];

/// A file on the volume.
#[derive(Debug, Clone)]
pub(crate) enum Contents {
    Text(String),
    Bytes(Vec<u8>),
    /// A copy of this file.
    Copy(PathBuf),
}

impl Contents {
    fn size(&self) -> Result<u64, Error> {
        match self {
            Self::Text(text) => Ok(text.len() as u64),
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::Copy(file) => fs::metadata(file).map(|data| data.len()).map_err(Error::io("read", file)),
        }
    }
}

/// A volume whose start, with its tables and its root folder, is in memory until the end. The crate reads and writes these a few bytes
/// at a time.
struct Volume {
    file: File,
    start: Vec<u8>,
    size: u64,
    position: u64,
}

impl Volume {
    fn create(path: &Path, size: u64, start: u64) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(size)?;
        let start = vec![0; usize::try_from(start.min(size)).map_err(io::Error::other)?];
        Ok(Self { file, start, size, position: 0 })
    }

    /// The part of the start from the position on.
    fn rest_of_start(&mut self) -> Option<&mut [u8]> {
        let from = usize::try_from(self.position).ok()?;
        self.start.get_mut(from..).filter(|rest| !rest.is_empty())
    }
}

impl Read for Volume {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match self.rest_of_start() {
            Some(rest) => (&*rest).read(buffer)?,
            None => self.file.read_at(buffer, self.position)?,
        };
        self.position += n as u64;
        Ok(n)
    }
}

impl Write for Volume {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match self.rest_of_start() {
            Some(mut rest) => rest.write(bytes)?,
            None => self.file.write_at(bytes, self.position)?,
        };
        self.position += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Volume {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Writes a volume with these files, and as large as they need. The name of a file in a folder has slashes.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read, or the volume cannot be written; [`Error::TooLargeForFat`] if a file is too large.
pub(crate) fn write(path: &Path, label: &Label, files: &[(String, Contents)]) -> Result<(), Error> {
    let mut bytes = 0;
    for (name, contents) in files {
        let size = contents.size()?;
        if size > LARGEST_FILE {
            return Err(Error::TooLargeForFat { name: name.clone(), size });
        }
        bytes += size.next_multiple_of(LARGEST_CLUSTER);
    }
    bytes += folders(files).len() as u64 * LARGEST_CLUSTER;
    // One more for the label.
    let entries: u64 =
        1 + files.iter().map(|(name, _)| 1 + (name.len() as u64).div_ceil(ENTRY_CHARACTERS)).sum::<u64>();
    // Two tables have at most 4 bytes for each cluster.
    let used = bytes + entries * ENTRY_BYTES;
    let size = (used + used / 256 + OVERHEAD).next_multiple_of(1 << 20).max(SMALLEST);
    let written = || -> io::Result<()> {
        let mut on_disk = Volume::create(path, size, OVERHEAD + entries * ENTRY_BYTES)?;
        format_volume(&mut on_disk, layout(size, entries, label))?;
        on_disk.position = 0;
        let volume = FileSystem::new(&mut on_disk, FsOptions::new())?;
        for folder in folders(files) {
            volume.root_dir().create_dir(folder)?;
        }
        for (name, contents) in files {
            let mut file = volume.root_dir().create_file(name)?;
            match contents {
                Contents::Text(text) => file.write_all(text.as_bytes())?,
                Contents::Bytes(bytes) => file.write_all(bytes)?,
                Contents::Copy(from) => {
                    let mut from = io::BufReader::with_capacity(1 << 20, File::open(from)?);
                    io::copy(&mut from, &mut file)?;
                }
            }
            file.flush()?;
        }
        volume.unmount()?;
        on_disk.file.write_all_at(&on_disk.start, 0)
    };
    written().map_err(Error::io("write", path))
}

/// The folders of these files, each after the one that it is in.
fn folders(files: &[(String, Contents)]) -> BTreeSet<&str> {
    let outer = |name: &'_ str| name.match_indices('/').map(|(end, _)| end).collect::<Vec<usize>>();
    files.iter().flat_map(|(name, _)| outer(name).into_iter().map(move |end| &name[..end])).collect()
}

/// How a volume of this size is formatted. Its number follows from its label, so that the bytes do.
fn layout(size: u64, entries: u64, label: &Label) -> FormatVolumeOptions {
    let number = u32::from_str_radix(&Digest::of_bytes(label).as_str()[..8], 16).unwrap_or_default();
    let options = FormatVolumeOptions::new().volume_label(*label).volume_id(number);
    // Each cluster costs several small reads and writes, so they are as large as a FAT16 of this size allows.
    let mut cluster = LARGEST_CLUSTER;
    while size / cluster < FEW_CLUSTERS && cluster > CLUSTER {
        cluster /= 2;
    }
    let root = entries.next_multiple_of(SECTOR_ENTRIES).max(ROOT_ENTRIES);
    match u16::try_from(root) {
        Ok(root) if size / cluster <= FAT16_CLUSTERS => {
            options.fat_type(FatType::Fat16).bytes_per_cluster(cluster as u32).max_root_dir_entries(root)
        }
        _ => options.fat_type(FatType::Fat32).bytes_per_cluster(FAT32_CLUSTER as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Vec<(String, Vec<u8>)> {
        let volume =
            FileSystem::new(File::options().read(true).write(true).open(path).unwrap(), FsOptions::new())
                .unwrap();
        let root = volume.root_dir();
        let files = root.iter().map(|entry| {
            let entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.to_file().read_to_end(&mut bytes).unwrap();
            (entry.file_name(), bytes)
        });
        files.collect()
    }

    #[test]
    fn files_are_read_back_and_the_bytes_do_not_depend_on_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two, source] = ["one", "two", "source"].map(|name| folder.path().join(name));
        fs::write(&source, vec![7; 3 << 20]).unwrap();
        let long = format!("{}_1%3a2.0-1_amd64.deb", "long-name".repeat(10));
        let files = [
            ("user-data".to_owned(), Contents::Text("#cloud-config\n".to_owned())),
            (long.clone(), Contents::Copy(source)),
            ("empty".to_owned(), Contents::Text(String::new())),
        ];
        write(&one, b"CIDATA     ", &files).unwrap();
        write(&two, b"CIDATA     ", &files).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
        let expected = [
            ("user-data".to_owned(), b"#cloud-config\n".to_vec()),
            (long, vec![7; 3 << 20]),
            ("empty".to_owned(), Vec::new()),
        ];
        assert_eq!(read(&one), expected);
        let volume =
            FileSystem::new(File::options().read(true).write(true).open(&one).unwrap(), FsOptions::new())
                .unwrap();
        assert_eq!(volume.volume_label(), "CIDATA");
        assert_eq!(volume.read_volume_label_from_root_dir().unwrap().as_deref(), Some("CIDATA"));
        assert_eq!(volume.fat_type(), FatType::Fat16);
    }

    #[test]
    fn a_volume_fits_its_files_whatever_their_number_and_size() {
        let folder = tempfile::tempdir().unwrap();
        let (path, source) = (folder.path().join("volume"), folder.path().join("source"));
        for (number, size) in
            [(0, 0), (1, 7 << 20), (200, 5000), (40, 1 << 20), (9, 30 << 20), (300, 100_000)]
        {
            File::create(&source).unwrap().set_len(size).unwrap();
            let files: Vec<(String, Contents)> = (0..number)
                .map(|n| (format!("a-package-{n}.noarch.rpm"), Contents::Copy(source.clone())))
                .collect();
            write(&path, b"NESTPKGS   ", &files)
                .unwrap_or_else(|e| panic!("{number} files of {size} bytes: {e}"));
            let volume = FileSystem::new(
                File::options().read(true).write(true).open(&path).unwrap(),
                FsOptions::new(),
            )
            .unwrap();
            let sizes: Vec<u64> = volume.root_dir().iter().map(|entry| entry.unwrap().len()).collect();
            assert_eq!(sizes, vec![size; number], "{:?}", volume.fat_type());
        }
    }

    #[test]
    fn a_volume_that_is_too_large_for_a_fat16_is_a_fat32() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        for (size, entries, kind) in
            [(2000 << 20, 1, FatType::Fat16), (3 << 30, 1, FatType::Fat32), (3 << 30, 70_000, FatType::Fat32)]
        {
            let mut volume =
                File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
            volume.set_len(size).unwrap();
            format_volume(&mut volume, layout(size, entries, b"NESTPKGS   ")).unwrap();
            let volume = FileSystem::new(volume, FsOptions::new()).unwrap();
            volume.root_dir().create_file("a file with a long name").unwrap().write_all(b"text").unwrap();
            assert_eq!(volume.fat_type(), kind);
        }
    }
}
