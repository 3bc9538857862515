//! A Linux stands for the Windows that starts L2: its `powershell.exe` runs scripts of a POSIX shell, and so are the commands of its
//! role. The rest is real: the agent, the encoded scripts, the volume, the guest, its console, and how it is stopped. Boots a stack
//! whose emulator is L0, with L1 from a disk.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use common::{Place, boots, images, of_recipes, trials};
use nestmatrix_images::{
    Catalog, DiskFormat, Emulator, Image, Product, Progress, ProgressEvent, QemuImg, Store, StoreOptions,
    UnifiedKernel,
};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{
    Architecture, CommandChannel, DiskBus, Firmware, Launch, LevelNumber, NetworkCard, Stage,
};
use nestmatrix_stack::host::{self, ThisMachine};
use nestmatrix_stack::{
    BootFiles, BootImage, BootRequest, Cancellation, Evidence, LevelPlan, Limits, MachineSettings, Metal,
    MissingProof, Observation, StackPlan, StageListener, SystemDisk, UefiFirmware, WindowsSystem, boot,
    random_hex,
};
use nestmatrix_vmm::qemu::ExecWrapper;

/// The images of both levels, the emulator, and the firmware of L1.
const RECIPES: [&str; 3] = ["debian-13-amd64", "qemu-x86-amd64", "uefi-amd64"];

/// What runs as `powershell.exe`: the last argument is the script, of which the first line is for a real PowerShell.
const POWERSHELL: &str = "#!/bin/sh
for encoded; do :; done
exec /bin/sh -c \"$(echo \"$encoded\" | base64 -d | tr -d '\\000' | tail -n +2)\"
";

/// The role, with the CPU of the guest.
fn role(cpu: &str) -> String {
    let command = |name: &str, script: &str| {
        format!("[{name}]\nrun = '''\n{script}\n'''\nwhy = \"it stands for Windows\"\n")
    };
    [
        "name = \"hyper-v\"\ntitle = \"a stand-in\"\n".to_owned(),
        command("ready", "[ -c /dev/kvm ] || { echo no KVM >&2; exit 1; }"),
        command("facts", "echo kernel=$(uname -r); echo root-partition=True"),
        command(
            "start",
            &format!(
                "mkdir /run/@GUEST@ && cd /run/@GUEST@ || exit
for disk in /sys/block/vd*; do
  serial=; read -r serial <$disk/serial || :
  [ \"$serial\" != l2 ] || tar xf /dev/${{disk##*/}} || exit
done
qemu-system-x86_64 -name @GUEST@ -machine q35,accel=kvm -cpu {cpu} -smp @CPUS@ -m @MEMORY_MIB@ -display none -nodefaults \\
  -no-reboot -kernel kernel -initrd initramfs -append '@PARAMETERS@' -serial file:console </dev/null >qemu.log 2>&1 &
echo $! >pid"
            ),
        ),
        command("console", "[ ! -e /run/@GUEST@/console ] || cat /run/@GUEST@/console"),
        command(
            "state",
            "cd /run/@GUEST@ 2>/dev/null || { echo ended it does not exist; exit 0; }
if kill -0 $(cat pid) 2>/dev/null; then echo running; else echo ended $(tail -n 1 qemu.log); fi",
        ),
        command("stop", "kill -9 $(cat /run/@GUEST@/pid) 2>/dev/null; rm -r /run/@GUEST@"),
    ]
    .concat()
}

/// Prints no progress: all images exist already.
struct Quiet;

impl Progress for Quiet {
    fn event(&self, _: &ProgressEvent<'_>) {}
}

impl StageListener for Quiet {
    fn stage_began(&self, _: Stage) {}
}

fn image(recipe: &str, product: Product) -> Image {
    images::image(images::catalog().get(recipe).unwrap(), product)
}

/// The disk of L1: UEFI starts the kernel of a level that hosts. Its initramfs also has `powershell.exe`.
fn disk_of_l1(folder: &Path, stub: &Path) -> PathBuf {
    let hypervisor = image(RECIPES[0], Product::Hypervisor);
    let initramfs = folder.join("initramfs");
    fs::copy(hypervisor.initramfs().unwrap(), &initramfs).unwrap();
    let mut archive = File::options().append(true).open(&initramfs).unwrap();
    // Archives begin at multiples of 4 bytes (buffer-format.rst of the kernel).
    let length = archive.metadata().unwrap().len();
    archive.set_len(length.next_multiple_of(4)).unwrap();
    let length = u32::try_from(POWERSHELL.len()).unwrap();
    let mut entry =
        cpio::newc::Builder::new("bin/powershell.exe").mode(0o100_755).write(&mut archive, length);
    std::io::Write::write_all(&mut entry, POWERSHELL.as_bytes()).unwrap();
    entry.finish().unwrap();
    cpio::newc::trailer(&mut archive).unwrap();
    let profile = ArchInfo::of(Architecture::Amd);
    let disk = folder.join("l1.raw");
    let kernel = hypervisor.kernel().unwrap();
    let parameters = format!("{} nest.kvm={}", profile.kernel_parameters, profile.kvm_module);
    UnifiedKernel { stub, kernel: &kernel, initramfs: &initramfs, parameters }.write_disk(&disk).unwrap();
    disk
}

/// The volume of L2: an archive of its kernel and its initramfs.
fn volume_of_l2(folder: &Path) -> PathBuf {
    let minimal = image(RECIPES[0], Product::Minimal);
    let volume = folder.join("l2.tar");
    let mut archive = tar::Builder::new(File::create(&volume).unwrap());
    archive.append_path_with_name(minimal.kernel().unwrap(), "kernel").unwrap();
    archive.append_path_with_name(minimal.initramfs().unwrap(), "initramfs").unwrap();
    archive.into_inner().unwrap();
    volume
}

fn plan(folder: &Path, cpu: &str) -> StackPlan {
    let firmware = image(RECIPES[2], Product::Firmware);
    let files = firmware.uefi(Firmware::Uefi).unwrap();
    let variables = folder.join("variables");
    fs::write(&variables, fs::read(&files.vars).unwrap()).unwrap();
    let raw = disk_of_l1(folder, &firmware.uefi_stub().unwrap());
    let store = Store::open(StoreOptions::default()).unwrap();
    let overlay = folder.join("l1.qcow2");
    let tool = QemuImg::find(&store, &images::catalog(), &Quiet).unwrap();
    tool.create_overlay(&overlay, &raw, DiskFormat::Raw).unwrap();
    let roles = folder.join("roles");
    fs::create_dir_all(roles.join("windows")).unwrap();
    fs::write(roles.join("windows/hyper-v.toml"), role(cpu)).unwrap();
    let role = Catalog::load(&roles).unwrap().windows_role("hyper-v").unwrap().clone();
    let release = |product| image(RECIPES[0], product).kernel_version().unwrap().release.clone();
    let level = |number: u8, image: BootImage| LevelPlan {
        level: LevelNumber::new(number).unwrap(),
        image,
        settings: MachineSettings::default(),
        disk: None,
        uefi: None,
        unified_kernel: None,
        guest_volume: None,
        swtpm: None,
    };
    let l1 = LevelPlan {
        uefi: Some(UefiFirmware {
            name: "uefi".into(),
            code: files.code,
            base_variables: files.vars,
            variables,
            secure_boot: false,
        }),
        ..level(
            1,
            BootImage {
                name: "a stand-in for Windows".into(),
                kernel_release: release(Product::Hypervisor),
                files: BootFiles::Disk(SystemDisk {
                    base: raw,
                    overlay,
                    bus: DiskBus::Virtio,
                    network_card: NetworkCard::Virtio,
                    command_channel: CommandChannel::Agent,
                    qemu: None,
                    memory_mib: 1024,
                    cpus: 1,
                    system: None,
                    first_boot: None,
                    windows: Some(WindowsSystem {
                        role: Arc::new(role),
                        enlightenments: Vec::new(),
                        nesting_enlightenments: Vec::new(),
                        nesting_enlightenments_intel: Vec::new(),
                    }),
                }),
            },
        )
    };
    let minimal = image(RECIPES[0], Product::Minimal);
    let kernel = BootFiles::Kernel {
        kernel: minimal.kernel().unwrap(),
        initramfs: minimal.initramfs().unwrap(),
        disk: None,
    };
    let l2 = LevelPlan {
        settings: MachineSettings {
            launch: Some(Launch::HyperV),
            memory_mib: Some(256),
            ..MachineSettings::default()
        },
        guest_volume: Some(volume_of_l2(folder)),
        ..level(
            2,
            BootImage { name: "minimal".into(), kernel_release: release(Product::Minimal), files: kernel },
        )
    };
    let cold = StackPlan::cold(Metal::Emulated, ArchInfo::of(Architecture::Amd), vec![l1, l2]);
    StackPlan { nonce: random_hex::<16>().unwrap(), ..cold }
}

/// Boots it with this CPU of L2.
fn booted(cpu: &str) -> Observation {
    let place = Place::new();
    let [sockets, records] = ["s", "records"].map(|name| place.path().join(name));
    fs::create_dir(&sockets).unwrap();
    fs::create_dir(&records).unwrap();
    let plan = plan(place.path(), cpu);
    let emulator = Emulator::new(image(RECIPES[1], Product::Emulator)).unwrap();
    let this_machine = ThisMachine {
        emulator: host::Emulator::Image(Box::new(emulator)),
        program: plan.profile.qemu,
        swtpm: None,
        wrapper: ExecWrapper::new(Vec::<std::ffi::OsString>::new()),
        sockets,
        files: records.clone(),
        records: records.clone(),
        saves: false,
    };
    let (_keep, cancellation) = Cancellation::new();
    let request = BootRequest {
        plan: &plan,
        this_machine: Rc::new(this_machine),
        limits: Limits::new(Metal::Emulated, 2.0),
        faults: &[],
        steps: &[],
        suites: &[],
        programs: &[],
        records: &records,
        started: Instant::now(),
        listener: &Quiet,
        cancellation,
        from: None,
        saver: None,
        asks_cpu_models: false,
        rebooted: None,
        inspector: None,
        images: BTreeMap::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let observation = tokio::task::LocalSet::new().block_on(&runtime, boot(request));
    let traffic = fs::read_to_string(records.join("L1.agent.jsonl")).unwrap_or_default();
    let console = fs::read_to_string(records.join("L1.console.log")).unwrap_or_default();
    assert!(observation.stop.is_none(), "{:?}\n{console}\n{traffic}", observation.stop);
    observation
}

fn weighed(observation: &Observation) -> Result<Evidence, MissingProof> {
    Evidence::weigh(&observation.measurements, LevelNumber::ALL[2], ArchInfo::of(Architecture::Amd))
}

fn a_guest_of_kvm_that_says_so_is_none_of_hyper_v() {
    let _guard = boots(&of_recipes(&RECIPES));
    let observation = booted("host");
    // The nonce came back, which is looked at first: the role has started it, and its console was read.
    let doubt = weighed(&observation).unwrap_err().to_string();
    assert_eq!(doubt, "L2 says that its hypervisor is \"KVM\", not Microsoft Hyper-V");
}

trials! {
    a_guest_of_kvm_that_says_so_is_none_of_hyper_v;
}
