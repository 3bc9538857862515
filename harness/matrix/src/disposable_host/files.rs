//! The files below /etc/modprobe.d, with content and rights.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{HostPaths, failed};

/// The folder whose files are restored.
const FOLDER: &str = "/etc/modprobe.d";

/// Most bytes of a file. The folder has a few lines for each module, so more is a mistake.
const MOST_BYTES: u64 = 1 << 20;

/// Who may do what with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rights {
    mode: u32,
    user: u32,
    group: u32,
}

impl Rights {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { mode: metadata.mode() & 0o7777, user: metadata.uid(), group: metadata.gid() }
    }

    pub(super) fn describe(self) -> String {
        format!("mode {:o}, owner {}:{}", self.mode, self.user, self.group)
    }

    /// Gives a file these rights.
    pub(super) fn set(self, path: &Path) -> Result<(), String> {
        // The owner first: changing it clears some bits of the mode.
        let set = chown(path, Some(self.user), Some(self.group));
        let set = set.and_then(|()| fs::set_permissions(path, Permissions::from_mode(self.mode)));
        set.map_err(failed("set the rights of", path))
    }
}

/// A file, folder or symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum FileState {
    Folder {
        rights: Rights,
    },
    File {
        rights: Rights,
        #[serde(with = "as_hex")]
        content: Vec<u8>,
    },
    Link {
        target: String,
        user: u32,
        group: u32,
    },
}

impl FileState {
    fn of(path: &Path) -> Result<Self, String> {
        let metadata = fs::symlink_metadata(path).map_err(failed("read", path))?;
        let rights = Rights::of(&metadata);
        if metadata.is_dir() {
            Ok(Self::Folder { rights })
        } else if metadata.is_symlink() {
            let target = fs::read_link(path).map_err(failed("read", path))?;
            let target = target.to_str().ok_or_else(|| format!("{} links to no text", path.display()))?;
            Ok(Self::Link { target: target.to_owned(), user: rights.user, group: rights.group })
        } else if !metadata.is_file() || metadata.len() > MOST_BYTES {
            Err(format!("{} is no file of a few lines, so it can't be restored", path.display()))
        } else {
            Ok(Self::File { rights, content: fs::read(path).map_err(failed("read", path))? })
        }
    }

    /// For a record: the content of a file, with its rights if those were changed.
    pub(super) fn describe(&self, with_rights: bool) -> String {
        let (text, rights) = match self {
            Self::Folder { rights } => return format!("a folder with {}", rights.describe()),
            Self::Link { target, .. } => return format!("a link to {target}"),
            Self::File { rights, content } => (String::from_utf8_lossy(content), rights),
        };
        if with_rights { format!("{text} ({})", rights.describe()) } else { text.into_owned() }
    }

    /// Whether both have the same content.
    pub(super) fn has_content_of(&self, other: &Self) -> bool {
        matches!((self, other), (Self::File { content, .. }, Self::File { content: of_other, .. }) if content == of_other)
    }

    /// Makes it. Nothing else is at this path.
    fn make(&self, path: &Path) -> Result<(), String> {
        match self {
            Self::Folder { rights } => {
                fs::create_dir(path).map_err(failed("make", path))?;
                rights.set(path)
            }
            Self::Link { target, user, group } => {
                symlink(target, path).map_err(failed("make", path))?;
                lchown(path, Some(*user), Some(*group)).map_err(failed("set the rights of", path))
            }
            Self::File { rights, content } => {
                let mut file = File::create_new(path).map_err(failed("make", path))?;
                let written = file.write_all(content).and_then(|()| file.sync_all());
                written.map_err(failed("write", path))?;
                rights.set(path)
            }
        }
    }
}

/// Bytes as text, since a file need not be text.
mod as_hex {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Every file below the folder, by its path; the folder itself is one of them.
pub(super) fn read(paths: &HostPaths) -> Result<BTreeMap<String, FileState>, String> {
    let mut found = BTreeMap::new();
    let top = paths.at(FOLDER);
    match fs::symlink_metadata(&top) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Ok(metadata) if metadata.is_symlink() => {
            return Err(format!("{} is a link, so what is in it can't be restored", top.display()));
        }
        _ => {}
    }
    let mut waiting = vec![top];
    while let Some(path) = waiting.pop() {
        let name = paths.name_of(&path);
        let name = name.ok_or_else(|| format!("the name of {} is no text", path.display()))?;
        let state = FileState::of(&path)?;
        if let FileState::Folder { .. } = state {
            for entry in fs::read_dir(&path).map_err(failed("read", &path))? {
                waiting.push(entry.map_err(failed("read", &path))?.path());
            }
        }
        found.insert(name, state);
    }
    Ok(found)
}

/// Changes the texts of the files that modprobe reads, where `change` has another text for them. A link to such a text is removed.
pub(super) fn change_settings(
    paths: &HostPaths,
    change: impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    for (name, state) in read(paths)? {
        let path = paths.at(&name);
        let is_read = path.parent() == Some(&paths.at(FOLDER)) && name.ends_with(".conf");
        // A link may lead nowhere, and modprobe reads no file that is no text.
        let Some(changed) = fs::read_to_string(&path).ok().filter(|_| is_read).and_then(|text| change(&text))
        else {
            continue;
        };
        match state {
            FileState::Folder { .. } => {}
            FileState::File { .. } => fs::write(&path, changed).map_err(failed("write", &path))?,
            FileState::Link { .. } => fs::remove_file(&path).map_err(failed("remove", &path))?,
        }
    }
    Ok(())
}

/// Removes what was not there, and makes what is missing or different. The rest is not touched.
pub(super) fn restore(paths: &HostPaths, found: &BTreeMap<String, FileState>) -> Result<(), String> {
    let left = read(paths)?;
    // What is in a folder goes before the folder.
    for (name, state) in left.iter().rev() {
        let path = paths.at(name);
        let stays = match (state, found.get(name)) {
            (FileState::Folder { .. }, Some(FileState::Folder { .. })) => true,
            (state, found) => found == Some(state),
        };
        if stays {
            continue;
        }
        let removed = match state {
            FileState::Folder { .. } => fs::remove_dir(&path),
            FileState::File { .. } | FileState::Link { .. } => fs::remove_file(&path),
        };
        removed.map_err(failed("remove", &path))?;
    }
    for (name, state) in found {
        let path = paths.at(name);
        match (state, left.get(name)) {
            (state, left) if left == Some(state) => {}
            (FileState::Folder { rights }, Some(FileState::Folder { .. })) => rights.set(&path)?,
            (state, _) => state.make(&path)?,
        }
    }
    let folder = paths.at(FOLDER);
    match File::open(&folder) {
        Ok(open) => open.sync_all().map_err(failed("write", &folder)),
        Err(_) => Ok(()),
    }
}
