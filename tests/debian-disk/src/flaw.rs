/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Neither BIOS nor UEFI finds a boot loader.
    NoBootLoader,
    /// The boot loader shows its menu, and waits for a key without a time limit.
    BootLoaderWaits,
    /// The guest agent is not installed.
    NoAgent,
    /// cloud-init is not installed, so nothing prepares the system.
    NoCloudInit,
    /// The guest agent allows all commands.
    AgentAllowed,
    /// The root file system has space for a few files, but not for packages.
    FullFileSystem,
    /// The disk is empty, and its backing file is a file of the host.
    ForeignBackingFile,
}

impl Flaw {
    /// All flaws.
    pub const ALL: [Self; 7] = [
        Self::NoBootLoader,
        Self::BootLoaderWaits,
        Self::NoAgent,
        Self::NoCloudInit,
        Self::AgentAllowed,
        Self::FullFileSystem,
        Self::ForeignBackingFile,
    ];
}
