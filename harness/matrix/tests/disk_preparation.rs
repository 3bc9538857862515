//! Disks are prepared on a fake QEMU (harness/matrix/fake-qemu): what becomes of a system that does or reports something else than it
//! should. Whatever happens, nothing of a preparation that failed is kept. The tests that boot check a real system.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

#[path = "../fake-qemu/script.rs"]
#[allow(dead_code, reason = "these tests use a part of it")]
mod script;
#[path = "../../../xtask/tests/common/trials.rs"]
mod trials;

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nestmatrix::run::{DiskPreparation, NotPrepared};
use nestmatrix_images::{
    Catalog, Image, Media, NewMedium, Progress, ProgressEvent, QemuImg, Silent, Step, Store, StoreOptions,
};
use nestmatrix_model::Isa;
use nestmatrix_stack::Cancellation;
use nestmatrix_stack::host::Emulator;
use nestmatrix_vmm::qemu::ExecWrapper;
use script::{Act, End, How, Reply, Script};
use serde_json::json;
use tempfile::TempDir;
use trials::{ignore, trials};

const RECIPE: &str = r#"
name = "toy-disk-amd64"
architecture = "amd64"

[template]
systems = ["toy"]
major = 1

[disk]
firmware = "default"
memory-mib = 512
cpus = 1
bus = "virtio"
command-channel = "agent"

[disk.prepare]
script = "prepare.sh"
user-data = "user-data"
meta-data = "meta-data"
"#;

/// A Windows that is installed on an empty disk.
const INSTALL: &str = r#"
name = "toy-disk-amd64"
architecture = "amd64"

[template]
systems = ["toy"]
major = 1

[disk]
guest = "windows"
firmware = "default"
memory-mib = 512
cpus = 1
bus = "sata"
command-channel = "agent"

[disk.install]
answers = "answers.xml"
script = "prepare.ps1"
image-index = 1
language = "en-US"
disk-gib = 1
"#;

/// The factor of the time limits with which a system that is silent reaches its limit in 1.5 s.
const SHORT: f64 = 0.025;

/// A medium, and an empty cache.
struct Disk {
    folder: TempDir,
    script: Script,
    timeout_scale: f64,
    interrupted_after: Option<Duration>,
    native: bool,
}

/// Keeps what the system says it is doing.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Progress for Heard {
    fn event(&self, event: &ProgressEvent<'_>) {
        if let Step::Preparing { what } = event.step {
            self.0.lock().unwrap().push(what.to_owned());
        }
    }
}

impl Disk {
    /// A disk whose system does this when it boots. L1 is the only level, since KVM runs it.
    fn whose_system(acts: impl Into<Vec<Act>>) -> Self {
        let Some(tool) = QemuImg::installed(&[]) else { ignore("this machine has no qemu-img") };
        let script = Script { boots: [(1, acts.into())].into(), ..Script::default() };
        let folder = tempfile::tempdir().unwrap();
        let disk = Self { folder, script, timeout_scale: 1.0, interrupted_after: None, native: true };
        fs::create_dir(disk.path("recipes")).unwrap();
        for (file, text) in [
            ("toy-disk-amd64.toml", RECIPE),
            ("prepare.sh", "true\n"),
            ("user-data", "#cloud-config\n"),
            ("meta-data", "instance-id: 1\n"),
        ] {
            fs::write(disk.path("recipes").join(file), text).unwrap();
        }
        let medium = disk.path("medium.img");
        let file = File::create(&medium).unwrap();
        file.set_len(4 << 20).unwrap();
        file.write_all_at(&[0x55, 0xaa], 510).unwrap();
        let new = NewMedium {
            name: "toy-1.2".to_owned(),
            file: medium,
            sha256: None,
            isa: Some(Isa::Amd64),
            ..NewMedium::default()
        };
        disk.media().add(&new, &tool, &Silent).unwrap();
        disk
    }

    /// The same for a Windows that is installed from a CD.
    fn whose_installation(acts: impl Into<Vec<Act>>) -> Self {
        let disk = Self::whose_system(acts);
        fs::create_dir(disk.path("recipes/windows")).unwrap();
        let role = "name = \"guest\"\ntitle = \"Windows\"\n[facts]\nrun = \"x\"\nwhy = \"x\"\n[report]\nrun = \"x\"\nwhy = \"x\"\n";
        for (file, text) in [
            ("toy-disk-amd64.toml", INSTALL),
            ("answers.xml", "<unattend/>\n"),
            ("prepare.ps1", "exit 0\n"),
            ("windows/guest.toml", role),
        ] {
            fs::write(disk.path("recipes").join(file), text).unwrap();
        }
        let cds = ["windows.iso", "drivers.iso"].map(|name| disk.path(name));
        cds.iter().for_each(|path| write_cd(path));
        let [file, drivers] = cds;
        let new = NewMedium {
            name: "toy-1.2".to_owned(),
            file,
            isa: Some(Isa::Amd64),
            installs: true,
            drivers: Some(drivers),
            ..NewMedium::default()
        };
        disk.media().add(&new, &QemuImg::installed(&[]).unwrap(), &Silent).unwrap();
        disk
    }

    fn replying(mut self, command: &str, how: How) -> Self {
        let (channel, command) = ("l1.qmp".to_owned(), command.to_owned());
        self.script.replies.push(Reply { channel, command, contains: String::new(), skip: 0, how });
        self
    }

    fn with_short_limits(self) -> Self {
        Self { timeout_scale: SHORT, ..self }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn media(&self) -> Media {
        Media::open(Some(self.path("media"))).unwrap()
    }

    fn drafts(&self) -> usize {
        let drafts = fs::read_dir(self.path("cache/building/toy-1.2-disk-amd64"));
        drafts.map_or(0, |drafts| drafts.count())
    }

    /// Prepares it. What was heard comes second.
    fn prepare(&self) -> (Result<Image, NotPrepared>, Vec<String>) {
        // The fake looks for it above the disk.
        fs::write(self.path(script::FILE), serde_json::to_vec(&self.script).unwrap()).unwrap();
        let catalog = Catalog::load(&self.path("recipes")).unwrap().with_media(&self.media());
        let heard = Arc::new(Heard::default());
        let (interrupt, cancellation) = Cancellation::new();
        let store = Store::open(StoreOptions { cache: Some(self.path("cache")), ..StoreOptions::default() });
        let preparation = DiskPreparation {
            catalog: &catalog,
            store: Arc::new(store.unwrap()),
            progress: Arc::clone(&heard) as _,
            installed: Some(Emulator::Installed(env!("CARGO_BIN_EXE_fake-qemu").into())),
            native: self.native,
            wrapper: ExecWrapper::new(Vec::<OsString>::new()),
            timeout_scale: self.timeout_scale,
            cancellation,
        };
        let recipe = catalog.get("toy-1.2-disk-amd64").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        if let Some(time) = self.interrupted_after {
            local.spawn_local(async move {
                tokio::time::sleep(time).await;
                let _ = interrupt.send(true);
            });
        }
        let prepared = runtime.block_on(local.run_until(preparation.prepare(recipe)));
        let heard = heard.0.lock().unwrap().clone();
        (prepared, heard)
    }

    /// Prepares it, which fails. Nothing is kept. Returns why.
    fn fails(&self) -> String {
        let why = self.prepare().0.unwrap_err().to_string();
        assert_eq!(self.drafts(), 0);
        assert_eq!(fs::read_dir(self.path("cache/images")).unwrap().count(), 0);
        why
    }
}

/// A CD image that UEFI can start.
fn write_cd(path: &std::path::Path) {
    const SECTOR: u64 = 2048;
    let file = File::create(path).unwrap();
    file.set_len(100 * SECTOR).unwrap();
    let checksum = 0_u16.wrapping_sub(1 + 0xef00_u16.wrapping_add(0xaa55)).to_le_bytes();
    for (sector, offset, bytes) in [
        (16, 0, &b"\x01CD001\x01"[..]),
        (16, 80, &[100]),
        (17, 0, b"\x00CD001\x01EL TORITO SPECIFICATION"),
        (17, 0x47, &[20]),
        (18, 0, b"\xffCD001\x01"),
        (20, 0, &[1, 0xef]),
        (20, 0x1c, &checksum),
        (20, 0x1e, &[0x55, 0xaa]),
        (20, 32, &[0x88]),
        (20, 40, &[30]),
    ] {
        file.write_all_at(bytes, sector * SECTOR + offset).unwrap();
    }
}

fn says(lines: &[&str]) -> Vec<Act> {
    lines.iter().map(|line| Act::Say((*line).to_owned())).collect()
}

/// What a system reports that is prepared, and powers off.
fn reports(lines: &[&str]) -> Vec<Act> {
    let begin = [
        "nestmatrix-prepare-begin",
        "system=toy",
        "version=1.2",
        "progress=masking units",
        "change=masked kdump.service",
    ];
    [says(&begin), says(lines), vec![Act::PowerOff]].concat()
}

const GOOD: [&str; 3] = ["kernel=6.1.0-toy", "qemu=", "nestmatrix-prepare-end 0"];

fn a_system_that_reports_and_powers_off_is_prepared() {
    let disk = Disk::whose_system(reports(&GOOD));
    let (prepared, heard) = disk.prepare();
    let image = prepared.unwrap().disk_image().unwrap();
    assert_eq!(image.kernel_release.as_deref(), Some("6.1.0-toy"));
    assert_eq!(image.changes, ["masked kdump.service"]);
    assert_eq!(image.qemu, None);
    assert_eq!(heard, ["masking units"]);
    assert_eq!(disk.drafts(), 0);
    // Not booted again.
    let disk = Disk { script: Script::default(), ..disk };
    let (prepared, heard) = disk.prepare();
    assert_eq!(prepared.unwrap().disk_image().unwrap().overlay, image.overlay);
    assert!(heard.is_empty());
}

fn a_system_may_start_again_before_it_is_prepared() {
    let reset = Act::Event("RESET".into(), json!({"guest": true, "reason": "guest-reset"}));
    let before = says(&["nestmatrix-prepare-begin", "change=lost"]);
    let disk = Disk::whose_system([before, vec![reset], reports(&GOOD)].concat());
    assert_eq!(disk.prepare().0.unwrap().disk_image().unwrap().changes, ["masked kdump.service"]);
}

fn what_the_system_reports_as_its_error_is_the_reason(lines: &[&str], expected: &str) {
    let why = Disk::whose_system(reports(lines)).fails();
    assert_eq!(why, expected);
}

fn a_system_that_does_not_come_to_its_end_is_not_prepared(acts: Vec<Act>, expected: &str) {
    let why = Disk::whose_system(acts).with_short_limits().fails();
    let why = without_times(&why);
    let why = why.strip_prefix("the medium toy-1.2 could not be prepared: l1-boot: ").unwrap_or(&why);
    assert_eq!(why, expected);
}

/// An error without the times in it, on one line.
fn without_times(why: &str) -> String {
    let mut words: Vec<&str> = why.split_whitespace().collect();
    // Each line of a console begins with `[ TIME]`.
    words.retain(|word| *word != "[" && !word.ends_with(']'));
    words.join(" ").replace("for 1 s", "for some time").replace("for 2 s", "for some time")
}

fn ends(status: i64, stderr: &str) -> Act {
    Act::EndQemu(End { status: Some(status), signal: None, stdout: String::new(), stderr: stderr.to_owned() })
}

/// What the machine has read from its CD.
fn read_from_cd(bytes: u64) -> How {
    How::Return(
        json!([{"device": "stick0", "stats": {"rd_bytes": 1}}, {"device": "cd0", "stats": {"rd_bytes": bytes}}]),
    )
}

/// The boot loader of a CD waits for a key for some seconds. Here, it has missed the first one.
fn keys_are_pressed_until_the_cd_is_booted() {
    let reset = || Act::Event("RESET".into(), json!({"guest": true, "reason": "guest-reset"}));
    // Setup starts the machine again, several times.
    let installed = [vec![reset(), reset()], reports(&GOOD)].concat();
    let mut disk = Disk::whose_installation(vec![]);
    let reply = |command: &str, skip, how| {
        let (channel, command) = ("l1.qmp".to_owned(), command.to_owned());
        Reply { channel, command, contains: String::new(), skip, how }
    };
    disk.script.replies.extend([
        reply("send-key", 1, How::After(installed)),
        // From the third question on.
        reply("query-blockstats", 2, read_from_cd(17 << 20)),
        reply("query-blockstats", 0, read_from_cd(1 << 20)),
    ]);
    let image = disk.prepare().0.unwrap().disk_image().unwrap();
    assert_eq!(
        (image.role.as_deref(), image.changes),
        (Some("guest"), vec!["masked kdump.service".to_owned()])
    );
}

fn a_windows_is_prepared_on_native_metal_alone() {
    let disk = Disk::whose_installation(reports(&GOOD));
    let disk = Disk { native: false, ..disk };
    let why = disk.prepare().0.unwrap_err().to_string();
    assert!(
        why.starts_with(
            "the medium toy-1.2 is prepared on native metal alone, and this machine's KVM runs no guests"
        ),
        "{why}"
    );
    // Nothing was begun.
    assert!(!disk.path("cache/building").exists() || disk.drafts() == 0);
}

/// The file system of this machine is full: QEMU stops the machine.
fn a_full_disk_of_this_machine_is_the_reason() {
    let error = json!({
        "device": "l1", "node-name": "#block123", "operation": "write", "action": "stop", "nospace": true,
        "reason": "No space left on device"
    });
    let acts = [
        says(&["nestmatrix-prepare-begin", "progress=installing packages"]),
        vec![Act::Event("BLOCK_IO_ERROR".into(), error), Act::Event("STOP".into(), json!({}))],
    ];
    let io_error = How::Return(json!({"status": "io-error", "running": false}));
    let why = Disk::whose_system(acts.concat()).replying("query-status", io_error).fails();
    let expected = "the medium toy-1.2 could not be prepared: l1-boot: L1's QEMU stopped it (io-error: No space left on device)";
    assert!(why.starts_with(expected), "{why}");
}

fn a_preparation_that_is_interrupted_keeps_nothing() {
    let disk = Disk::whose_system(says(&["nestmatrix-prepare-begin"]));
    let disk = Disk { interrupted_after: Some(Duration::from_millis(500)), ..disk };
    assert_eq!(disk.fails(), "the preparation of toy-1.2 was ended");
    let disk = Disk { script: Disk::whose_system(reports(&GOOD)).script, interrupted_after: None, ..disk };
    disk.prepare().0.unwrap();
}

fn a_medium_that_changes_meanwhile_is_the_reason() {
    let acts = [says(&["Linux"]), vec![Act::Wait(1000)], reports(&GOOD)].concat();
    let disk = Disk::whose_system(acts);
    let medium = disk.path("medium.img");
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        File::options().write(true).open(&medium).unwrap().write_all_at(b"other", 2 << 20).unwrap();
    });
    let why = disk.fails();
    writer.join().unwrap();
    assert!(why.contains("medium.img: it has changed since it was added"), "{why}");
}

fn a_flood_of_output_ends_with_the_limit(text: &str) {
    let acts = [says(&["nestmatrix-prepare-begin"]), vec![Act::Flood("console".into(), text.into())]];
    let why = Disk::whose_system(acts.concat()).with_short_limits().fails();
    assert!(
        why.starts_with("the medium toy-1.2 could not be prepared: l1-boot: "),
        "{}",
        &why[..500.min(why.len())]
    );
    assert!(why.len() < 20_000 && !why.contains('\u{1b}'), "{} bytes", why.len());
}

trials! {
    a_system_that_reports_and_powers_off_is_prepared;
    a_system_may_start_again_before_it_is_prepared;
    what_the_system_reports_as_its_error_is_the_reason {
        full(&["error=No space left on device", "error=cannot install packages", "nestmatrix-prepare-end 1"], "the medium toy-1.2 could not be prepared: No space left on device; cannot install packages"),
        no_reason(&["nestmatrix-prepare-end 1"], "the medium toy-1.2 could not be prepared: the script ended with status 1 and no reason"),
        no_agent(&["error=the guest agent is missing: there is no program qemu-ga", "nestmatrix-prepare-end 1"], "the medium toy-1.2 could not be prepared: the guest agent is missing: there is no program qemu-ga"),
        other_version(&["version=1.3", "kernel=6.1.0", "nestmatrix-prepare-end 0"], "the medium toy-1.2 holds toy 1.3, as that system itself says; add it as toy-1.3 with `cargo xtask media add`"),
        other_system(&["system=rhel", "version=9.4", "error=dpkg: dependency problems", "nestmatrix-prepare-end 1"], "the medium toy-1.2 holds rhel 9.4, as that system itself says; add it as rhel-9.4 with `cargo xtask media add`"),
        no_kernel(&["nestmatrix-prepare-end 0"], "the medium toy-1.2 could not be prepared: the system did not report its kernel"),
        no_name(&["system=", "kernel=6.1.0", "nestmatrix-prepare-end 0"], "the medium toy-1.2 could not be prepared: the system did not report its name and version"),
    };
    a_system_that_does_not_come_to_its_end_is_not_prepared {
        boots_nothing(vec![], "no progress for some time, nothing on its console"),
        boot_loader_waits(says(&["GNU GRUB version 2.12"]), "no progress for some time, last line \"GNU GRUB version 2.12\"; the last lines of its console: GNU GRUB version 2.12"),
        no_cloud_init(says(&["Linux version 6.1", "vm login: "]), "no progress for some time, last line \"vm login: \"; the last lines of its console: Linux version 6.1 vm login:"),
        stops_while_it_is_prepared(says(&["nestmatrix-prepare-begin", "progress=installing packages"]), "no progress for some time, last line \"progress=installing packages\"; the last lines of its console: nestmatrix-prepare-begin progress=installing packages"),
        panics(says(&["Kernel panic - not syncing: VFS: Unable to mount root fs"]), "kernel panic: VFS: Unable to mount root fs; the last lines of its console: Kernel panic - not syncing: VFS: Unable to mount root fs"),
        powers_off(vec![Act::PowerOff], "L1 shut down before its work was done (guest-shutdown); its console showed nothing"),
        powers_off_before_the_end([says(&["nestmatrix-prepare-begin"]), vec![Act::PowerOff]].concat(), "L1 shut down before its work was done (guest-shutdown); the last lines of its console: nestmatrix-prepare-begin"),
        powers_off_without_status(reports(&["nestmatrix-prepare-end"]), "L1 shut down before its work was done (guest-shutdown); the last lines of its console: progress=masking units change=masked kdump.service nestmatrix-prepare-end"),
        does_not_power_off(reports(&GOOD)[..8].to_vec(), "no progress for some time, last line \"nestmatrix-prepare-end 0\"; the last lines of its console: kernel=6.1.0-toy qemu= nestmatrix-prepare-end 0"),
        emulator_ends(vec![ends(1, "qemu-system-x86_64: Image is corrupt\n")], "L1's QEMU exited with status 1: qemu-system-x86_64: Image is corrupt; its console showed nothing"),
        emulator_ends_after_the_report([reports(&GOOD)[..8].to_vec(), vec![ends(1, "killed\n")]].concat(), "L1's QEMU exited with status 1: killed; the last lines of its console: kernel=6.1.0-toy qemu= nestmatrix-prepare-end 0"),
    };
    a_full_disk_of_this_machine_is_the_reason;
    keys_are_pressed_until_the_cd_is_booted;
    a_windows_is_prepared_on_native_metal_alone;
    a_preparation_that_is_interrupted_keeps_nothing;
    a_medium_that_changes_meanwhile_is_the_reason;
    a_flood_of_output_ends_with_the_limit {
        lines("\u{1b}[2Jprogress=x\n"),
        no_line_end("x"),
        ends("nestmatrix-prepare-end\n"),
    };
}
