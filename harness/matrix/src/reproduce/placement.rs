//! Where a script keeps the files that QEMU needs: on the machine that runs the script, or in a level.

use nestmatrix_stack::host::WithVirtio;
use nestmatrix_vmm::qemu::{Backing, ChannelKind, ChannelName, DiskFormat, ImageFile, Placement};

/// The machine that runs the script, in its working folder: channels are FIFOs, images are links.
pub(super) struct InWorkingFolder;

/// A level, whose channels are its virtio ports.
pub(super) struct InLevel;

/// Whether a script uses a channel. It uses no agents and no second machines.
fn is_used(channel: ChannelName) -> bool {
    channel.kind != ChannelKind::Agent && !channel.second
}

impl Placement for InWorkingFolder {
    fn channel(&self, channel: ChannelName) -> Option<Backing> {
        is_used(channel).then(|| Backing::Fifos(channel.to_string()))
    }

    fn file(&self, file: &ImageFile) -> String {
        file.serial.clone()
    }

    fn disk(&self, file: &ImageFile) -> String {
        file.serial.clone()
    }

    fn path_of(&self, name: &str) -> String {
        name.to_owned()
    }

    fn format(&self, file: &ImageFile) -> DiskFormat {
        file.format
    }
}

impl Placement for InLevel {
    fn channel(&self, channel: ChannelName) -> Option<Backing> {
        WithVirtio.channel(channel).filter(|_| is_used(channel))
    }

    fn file(&self, file: &ImageFile) -> String {
        WithVirtio.file(file)
    }

    fn disk(&self, file: &ImageFile) -> String {
        WithVirtio.disk(file)
    }

    fn path_of(&self, name: &str) -> String {
        WithVirtio.path_of(name)
    }

    fn has_block_devices(&self) -> bool {
        WithVirtio.has_block_devices()
    }
}
