//! What the emulators of bare machines may reach on this machine.
//!
//! A QEMU on native metal is not confined: it is L0's, and so part of what is tested.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nestmatrix_vmm::qemu::{DiskFormat, ExecWrapper, GuestDevice, ImageFile, Machine, Memory, Writes};
use nestmatrix_vmm::sandbox::{Confinement, Network, SYSTEM, beside, disk_bytes, with_backing_files};

use super::{Emulator, ThisMachine};

/// Address space beside the guest's memory, in MiB. QEMU's TCG reserves 1 GiB for translated code, and each of up to 64 threads for
/// input and output reserves a stack of 8 MiB and may reserve 64 MiB of heap.
const BESIDE_MEMORY_MIB: u64 = 8 << 10;

/// What a file may be larger than the memory and the disks of a machine, in MiB: an overlay has tables.
const BESIDE_DISKS_MIB: u64 = 1 << 10;

/// The address space and file size of swtpm, in MiB. Its state has some KiB.
const SWTPM_MIB: (u64, u64) = (4 << 10, 64);

/// What QEMU's filter of system calls denies: old ones, and changes of priorities.
const FILTER: &str = "on,obsolete=deny,resourcecontrol=deny";
/// The same for other users and new processes. A QEMU that starts processes gets neither: these begin sessions of their own, which the
/// filter of other users denies too. It can't become another user anyway, since it has no capabilities for that.
const NO_PROCESSES: &str = ",elevateprivileges=deny,spawn=deny";

/// How long a QEMU may take to say whether it has an option.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

impl Emulator {
    /// What its programs are and read.
    fn paths(&self) -> Vec<PathBuf> {
        let system = || SYSTEM.iter().map(PathBuf::from);
        match self {
            Self::Installed(program) => system().chain(beside(program)).collect(),
            Self::Image(image) => {
                let folder = image.image().folder().to_owned();
                let own = image.own_program();
                let own = own.into_iter().flat_map(|own| system().chain(beside(own)));
                std::iter::once(folder).chain(own).collect()
            }
        }
    }
}

impl ThisMachine {
    /// Whether the emulator of this machine runs in a sandbox.
    pub(super) fn confines(&self, machine: &Machine) -> bool {
        machine.metal.is_some() && self.wrapper.has_sandbox()
    }

    /// The wrapper of the emulator that runs `machine`. It gets only what it needs of the network, and writes to one more folder if it has
    /// no choice.
    pub(crate) fn wrapper_of(
        &self,
        machine: &Machine,
        network: Network,
        folder: Option<PathBuf>,
    ) -> ExecWrapper {
        if !self.confines(machine) {
            return self.wrapper.clone();
        }
        let mut confinement = Confinement {
            read: self.emulator.paths(),
            write: [self.sockets.clone(), self.files.clone()].into_iter().chain(folder).collect(),
            network,
            report: Some(self.sandbox_report(&machine.label())),
            ..Confinement::default()
        };
        confinement.read.extend(machine.boot.files().into_iter().map(|file| file.path.clone()));
        if starts_processes(machine) {
            // QEMU talks with such a process by TCP on this machine (libslirp: src/misc.c, fork_exec).
            confinement.network = Network::Unrestricted;
            confinement.read.extend(SYSTEM.iter().map(PathBuf::from));
        }
        let mut largest = 0;
        for drive in machine.drives() {
            largest = largest.max(disk_bytes(&drive.path) >> 20);
            let mut files = files_of(drive).into_iter();
            if drive.writes == Writes::Kept {
                confinement.write.extend(files.next());
            }
            confinement.read.extend(files);
        }
        match &machine.memory {
            Memory::Private => {}
            // These name a descriptor of the harness, which can't be opened from within.
            Memory::Shared(file) | Memory::Snapshot(file) if file.starts_with("/proc") => {
                confinement.opened = Some(file.clone());
            }
            Memory::Shared(file) => confinement.write.push(file.clone()),
            Memory::Snapshot(file) => confinement.read.push(file.clone()),
        }
        let memory = u64::from(machine.memory_mib);
        confinement.address_space_mib = memory + BESIDE_MEMORY_MIB;
        // Both memory and disks may be written to new files: a snapshot, and the discarded changes of a disk.
        confinement.file_size_mib = memory.max(2 * largest) + BESIDE_DISKS_MIB;
        self.wrapper.confined(&confinement)
    }

    /// The wrapper of the swtpm of `machine`, which works in `folder`.
    pub(super) fn wrapper_of_swtpm(&self, machine: &Machine, swtpm: &Emulator, folder: &Path) -> ExecWrapper {
        if !self.confines(machine) {
            return self.wrapper.clone();
        }
        let (address_space_mib, file_size_mib) = SWTPM_MIB;
        self.wrapper.confined(&Confinement {
            read: swtpm.paths(),
            write: vec![folder.to_owned()],
            report: Some(self.sandbox_report(&format!("{}.swtpm", machine.label()))),
            address_space_mib,
            file_size_mib,
            ..Confinement::default()
        })
    }

    /// The record of what is in force.
    fn sandbox_report(&self, label: &str) -> PathBuf {
        self.records.join(format!("{label}.sandbox.json"))
    }

    /// The environment of a QEMU in a sandbox: the only folder in which it may make temporary files.
    pub(super) fn environment_of_confined(&self) -> (OsString, OsString) {
        ("TMPDIR".into(), self.files.clone().into())
    }

    /// The options with which QEMU filters its own system calls. An installed QEMU may be built without the filter, so it is asked.
    pub(super) async fn filter(&self, machine: &Machine) -> Vec<OsString> {
        let processes = if starts_processes(machine) { "" } else { NO_PROCESSES };
        let options: Vec<OsString> = vec!["-sandbox".into(), format!("{FILTER}{processes}").into()];
        match &self.emulator {
            Emulator::Installed(program) if !takes(program, &options).await => Vec::new(),
            Emulator::Installed(_) | Emulator::Image(_) => options,
        }
    }
}

/// Whether a QEMU has these options.
async fn takes(program: &Path, options: &[OsString]) -> bool {
    let mut asked = tokio::process::Command::new(program);
    let asked = asked.args(options).arg("-version").stdin(Stdio::null()).kill_on_drop(true).output();
    let asked = tokio::time::timeout(ANSWERS_WITHIN, asked).await;
    asked.is_ok_and(|asked| asked.is_ok_and(|asked| asked.status.success()))
}

/// The file of a drive and those under it.
fn files_of(drive: &ImageFile) -> Vec<PathBuf> {
    match drive.format {
        DiskFormat::Qcow2 => with_backing_files(&drive.path),
        DiskFormat::Raw | DiskFormat::Vpc => vec![drive.path.clone()],
    }
}

/// Whether QEMU starts processes for a device of the machine.
fn starts_processes(machine: &Machine) -> bool {
    machine.hardware.devices.iter().any(GuestDevice::starts_processes)
}
