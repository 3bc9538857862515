//! What the files of a boot are made of: of the image in the cache, or of what the levels of a snapshot have written. The tests that
//! boot check the overlays themselves.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, CommandChannel, DiskBus, LevelNumber, NetworkCard};
use nestmatrix_stack::{
    BootFiles, BootImage, Inputs, LevelPlan, Lookup, MachineSettings, Metal, Parts, SnapshotCache,
    SystemDisk, UefiFirmware,
};
use tempfile::TempDir;

use super::*;

const L1: LevelNumber = LevelNumber::ALL[1];

/// A folder with a cache's files, and the plan of a boot with L1 alone.
struct Boot {
    folder: TempDir,
    plan: StackPlan,
}

impl Boot {
    /// L1 has UEFI, and boots a kernel.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cache", "scratch"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let base_variables = folder.path().join("cache/vars.fd");
        fs::write(&base_variables, "empty").unwrap();
        fs::set_permissions(&base_variables, fs::Permissions::from_mode(0o444)).unwrap();
        let uefi = UefiFirmware {
            name: "uefi".into(),
            code: folder.path().join("cache/code.fd"),
            base_variables,
            variables: folder.path().join("scratch/L1-variables"),
            secure_boot: false,
        };
        let files =
            BootFiles::Kernel { kernel: "/kernel".into(), initramfs: "/initramfs".into(), disk: None };
        let level = LevelPlan {
            level: L1,
            image: BootImage { name: "image".into(), kernel_release: String::new(), files },
            settings: MachineSettings::default(),
            disk: None,
            uefi: Some(uefi),
            unified_kernel: None,
            guest_volume: None,
            swtpm: None,
        };
        let plan = StackPlan::cold(Metal::Native, ArchInfo::of(Architecture::Amd), vec![level]);
        Self { folder, plan }
    }

    /// L1 boots a disk.
    fn with_disk(mut self) -> Self {
        self.plan.levels[0].image.files = BootFiles::Disk(SystemDisk {
            base: self.folder.path().join("cache/disk.qcow2"),
            overlay: self.folder.path().join("scratch/L1.qcow2"),
            bus: DiskBus::Virtio,
            network_card: NetworkCard::Virtio,
            command_channel: CommandChannel::Agent,
            qemu: None,
            memory_mib: 512,
            cpus: 1,
            system: None,
            first_boot: None,
            windows: None,
        });
        self
    }

    fn variables(&self) -> PathBuf {
        self.folder.path().join("scratch/L1-variables")
    }

    /// A snapshot in which L1 has written its variables.
    fn snapshot(&self) -> Box<Snapshot> {
        fs::write(self.variables(), "BootOrder").unwrap();
        let cache = SnapshotCache::open(self.folder.path().join("states"), 1 << 30).unwrap();
        let draft = cache.draft(L1, Inputs::new()).unwrap();
        fs::write(draft.device(), "devices").unwrap();
        let memory = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.folder.path().join("memory"))
            .unwrap();
        memory.set_len(4096).unwrap();
        let records = self.folder.path().join("records");
        fs::create_dir(&records).unwrap();
        let parts = Parts { records, disks: vec![self.variables()], ..Parts::default() };
        cache.publish(draft.finish(&memory, parts).unwrap()).unwrap();
        fs::remove_file(self.variables()).unwrap();
        match cache.find(L1, &Inputs::new()).unwrap() {
            Lookup::Found(snapshot) => snapshot,
            other => panic!("{other:?}"),
        }
    }
}

const NO_TOOL: Overlays = Overlays { tool: None };

#[tokio::test]
async fn a_boot_begins_with_the_variables_of_the_firmware_and_may_change_its_own_copy() {
    let boot = Boot::new();
    // Twice, as when a stack is booted again in the same folder.
    for _ in 0..2 {
        NO_TOOL.make(&boot.plan, None, false).await.unwrap();
        assert_eq!(fs::read_to_string(boot.variables()).unwrap(), "empty");
        fs::write(boot.variables(), "BootOrder").unwrap();
    }
    assert_eq!(fs::read_to_string(boot.folder.path().join("cache/vars.fd")).unwrap(), "empty");
}

#[tokio::test]
async fn a_stack_from_a_snapshot_goes_on_with_what_its_levels_had_written() {
    let boot = Boot::new();
    let snapshot = boot.snapshot();
    NO_TOOL.make(&boot.plan, Some(&snapshot), false).await.unwrap();
    assert_eq!(fs::read_to_string(boot.variables()).unwrap(), "BootOrder");
    fs::write(boot.variables(), "of this boot").unwrap();
    assert_eq!(fs::read_to_string(snapshot.disk("L1-variables").unwrap()).unwrap(), "BootOrder");
}

#[tokio::test]
async fn a_file_that_is_gone_is_named() {
    let boot = Boot::new();
    let base = boot.folder.path().join("cache/vars.fd");
    fs::remove_file(&base).unwrap();
    let why = NO_TOOL.make(&boot.plan, None, false).await.unwrap_err();
    assert!(why.starts_with(&format!("failed to copy {}: No such file", base.display())), "{why}");
}

#[tokio::test]
async fn without_qemu_img_a_level_from_a_disk_says_what_is_missing() {
    let boot = Boot::new().with_disk();
    let missing = "cannot start qemu-img, which reads disk images; install qemu-utils";
    let overlays = Overlays { tool: Some(Err(missing.to_owned())) };
    assert_eq!(overlays.make(&boot.plan, None, false).await.unwrap_err(), missing);
}
