//! The folders of a campaign: a cache with links to the user's images, and a place for sockets.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nestmatrix_stack::host::Scratch;

use crate::damage::files_below;

/// The parts of the user's cache that runs need.
const LINKED: [&str; 3] = ["images", "refs", "packages"];
/// Locked while harnesses make their folders; it stays.
const GATE: &str = "gate";

/// The folders of a campaign. Dropping it removes them; if this process is killed, the next harness does.
pub struct Place {
    /// Holds the cache and the records. It is in the user's cache, so that images can be linked.
    large: Scratch,
    /// Holds the sockets.
    small: Scratch,
    /// The user's cache.
    users: PathBuf,
}

impl Place {
    /// Makes the folders, with links to the images of the user's cache.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new(users: &Path) -> io::Result<Self> {
        let place = Self {
            large: Scratch::create_on_disk(users)?,
            small: Scratch::create()?,
            users: users.to_owned(),
        };
        fs::create_dir(place.results())?;
        place.link_cache()?;
        Ok(place)
    }

    /// The cache of the disturbed runs.
    pub fn cache(&self) -> PathBuf {
        self.large.path().join("cache")
    }

    /// Where runs keep their records.
    pub fn results(&self) -> PathBuf {
        self.large.path().join("results")
    }

    /// The environment of a harness that uses these folders.
    pub fn environment(&self) -> [(&'static str, OsString); 3] {
        [
            ("NESTMATRIX_CACHE", self.cache().into()),
            ("NESTMATRIX_SNAPSHOTS", self.snapshots().into()),
            ("XDG_RUNTIME_DIR", self.small.path().into()),
        ]
    }

    /// The folder of images in the cache.
    pub fn images(&self) -> PathBuf {
        self.cache().join("images")
    }

    /// The folder of snapshots in the cache.
    pub fn snapshots(&self) -> PathBuf {
        self.cache().join("states")
    }

    /// Links the files of the user's cache that are missing in the campaign's cache. Harnesses replace such files and never write into
    /// them, so the user's files do not change.
    ///
    /// # Errors
    /// The operating system's.
    pub fn link_cache(&self) -> io::Result<()> {
        for part in LINKED {
            let from = self.users.join(part);
            for file in files_below(&from) {
                let to = self.cache().join(part).join(file.strip_prefix(&from).map_err(io::Error::other)?);
                fs::create_dir_all(to.parent().unwrap_or(&to))?;
                match fs::hard_link(&file, &to) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// What harnesses that have ended left in their private folders.
    pub fn left(&self) -> Vec<PathBuf> {
        let places = [self.small.path().join("nestmatrix"), self.cache().join("scratch")];
        let entries = places.iter().flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten());
        let mut left: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| !path.ends_with(GATE)).collect();
        left.sort();
        left
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_the_users_images_and_is_removed_with_them_kept() {
        let users = tempfile::tempdir().unwrap();
        let image = users.path().join("images/abc/vmlinuz");
        fs::create_dir_all(image.parent().unwrap()).unwrap();
        fs::write(&image, "a kernel").unwrap();
        let place = Place::new(users.path()).unwrap();
        let linked = place.images().join("abc/vmlinuz");
        assert_eq!(fs::read_to_string(&linked).unwrap(), "a kernel");
        fs::remove_file(&linked).unwrap();
        place.link_cache().unwrap();
        assert!(linked.is_file(), "it is linked again");
        assert_eq!(place.left(), [] as [PathBuf; 0]);
        let left = place.cache().join("scratch/run-left");
        fs::create_dir_all(&left).unwrap();
        fs::write(place.cache().join("scratch/gate"), "").unwrap();
        assert_eq!(place.left(), [left]);
        let folder = place.cache();
        drop(place);
        assert!(!folder.exists() && image.is_file());
    }
}
