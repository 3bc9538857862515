//! This machine as a placement, for tests of command lines.

use super::{Backing, ChannelName, DiskFormat, ImageFile, Placement};

/// Every file is where it is, and no channel is open.
pub(super) struct Here;

impl Placement for Here {
    fn channel(&self, _: ChannelName) -> Option<Backing> {
        None
    }

    fn file(&self, file: &ImageFile) -> String {
        file.path.display().to_string()
    }

    fn disk(&self, file: &ImageFile) -> String {
        self.file(file)
    }

    fn path_of(&self, name: &str) -> String {
        name.to_owned()
    }

    fn format(&self, file: &ImageFile) -> DiskFormat {
        file.format
    }
}
