//! A lab machine that may be changed, with nothing of nestmatrix but the archive of `dist`: an installed Debian 11 on emulated metal,
//! with its own boot loader, systemd, udev and SSH. Its cells are those of RHEL 8 that change L0, and one for which a virtual machine on it
//! is L1. Boots, and takes 20 minutes.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::tmt::{call, tmt};
use common::{Boots, Place, boots, checkout, of_recipes, trials};
use nestmatrix_debian_disk::{Contents, Disk, Error, System, unavailable};
use nestmatrix_images::{Emulator, Product, find_program};
use nestmatrix_model::Architecture;
use nestmatrix_model::architecture::ArchInfo;
use serde_json::Value;

/// Longest wait for a boot.
const BOOT: Duration = Duration::from_secs(5 * 60);
/// Longest wait for all cells of a run.
const ALL: Duration = Duration::from_secs(40 * 60);
/// Time between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// The system of the levels. It is that of the machine too, which stands in for RHEL 8.
const SYSTEM: &str = "debian-11-amd64";
const SUITE: &str = "bullseye";

/// The cell whose L0 is AWS, so that a virtual machine there is its L1.
const OF_AWS: &str = "rhel-8-non-kvm-l0/amd/aws/*";
/// Starts a virtual machine with the firmware tables of AWS, on the machine's own KVM.
const START_GUEST: &str = "\
    cd /root && qemu-system-x86_64 -daemonize -accel kvm -cpu host -machine q35 -smp 1 -m 2048 -display none -nodefaults \
    -serial file:guest.log -smbios 'type=1,manufacturer=Amazon EC2,product=m8i.large' \
    -drive file=/opt/system.qcow2,if=virtio,snapshot=on -drive file=/dev/vdb,if=virtio,format=raw,readonly=on \
    -netdev user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22 -device virtio-net-pci,netdev=net,romfile=";

/// All procedures of RHEL 8 that change L0 of AMD.
const CELLS: [&str; 3] =
    ["rhel-8-enable-nesting/amd/*", "rhel-8-persist-nesting/amd/*", "rhel-8-nesting-after-reboot/amd/*"];
/// The one that reboots twice before a stack boots.
const REBOOTS: &str = "rhel-8-persist-nesting/amd/*";

/// Succeeds if the machine is up: SSH answers before all file systems are mounted.
const IS_UP: &str = "test -x /opt/nestmatrix/nestmatrix";

/// Makes the machine what the documentation describes, with the folder of its system as `$1`.
const SETUP: &str = r#"set -e
cd "$1"
touch etc/cloud/cloud-init.disabled
mkdir -m 700 -p root/.ssh
echo 'PUBLIC' > root/.ssh/authorized_keys
cat > root/.ssh/id_ed25519 <<'end'
PRIVATE
end
chmod 600 root/.ssh/id_ed25519
echo 'StrictHostKeyChecking accept-new' > root/.ssh/config
units=etc/systemd/system
cat > $units/opt.mount <<'end'
[Mount]
What=LABEL=nestmatrix
Where=/opt
Options=ro,noload
end
cat > $units/nestmatrix.service <<'end'
SERVICE
end
cat > etc/systemd/network/all.network <<'end'
[Match]
Type=ether
[Network]
Address=10.0.2.15/24
end
mkdir -p $units/multi-user.target.wants
for unit in /$units/opt.mount /$units/nestmatrix.service /lib/systemd/system/systemd-networkd.service; do
    ln -sf $unit $units/multi-user.target.wants/
done
echo 'options kvm_amd nested=1' > etc/modprobe.d/lab.conf
"#;

/// What the machine is made of. It is the same for all tests.
struct Parts {
    key: PathBuf,
    system: PathBuf,
    programs: PathBuf,
}

impl Parts {
    fn get() -> &'static Self {
        static PARTS: OnceLock<Parts> = OnceLock::new();
        PARTS.get_or_init(Self::make)
    }

    fn make() -> Self {
        // Too large for /tmp, which may be in memory. It stays, and the next run replaces it.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab-machine");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        let key = folder.join("key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));

        let read = |key: &Path| fs::read_to_string(key).unwrap().trim().to_owned();
        let setup = SETUP.replace("PUBLIC", &read(&key.with_extension("pub")));
        let setup = setup.replace("PRIVATE", &read(&key)).replace("SERVICE", &documented_service());
        let packages = ["openssh-server", "procps", "qemu-system-x86", "rsync"];
        let contents =
            Contents { suite: SUITE, packages: &packages, afterwards: Some(&setup), ..Contents::default() };
        let system = match System::install_with(contents, &folder.join("system.tar")) {
            Ok(system) => system,
            Err(error @ Error::Undelivered(_)) => trials::ignore(&error.to_string()),
            Err(other) => panic!("{other}"),
        };
        let disk = Disk::make(&system, None, &folder.join("system.qcow2")).unwrap();
        fs::remove_file(system.archive()).unwrap();

        let archive = folder.join("archive.tar.gz");
        let mut dist = Command::new(env!("CARGO_BIN_EXE_xtask"));
        dist.current_dir(checkout()).args(["dist", "--images", SYSTEM, "--output"]).arg(&archive);
        run(&mut dist);
        let tree = folder.join("programs");
        fs::create_dir_all(tree.join("nestmatrix")).unwrap();
        run(Command::new("tar")
            .args(["--strip-components=1", "-xf"])
            .arg(&archive)
            .arg("-C")
            .arg(tree.join("nestmatrix")));
        // For a virtual machine of the machine.
        fs::hard_link(disk.path(), tree.join("system.qcow2")).unwrap();
        let programs = folder.join("programs.ext4");
        run(Command::new("/usr/sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-L", "nestmatrix", "-d"])
            .arg(&tree)
            .arg(&programs)
            .arg("2G"));
        fs::remove_dir_all(tree).unwrap();
        Self { key, system: disk.path().to_owned(), programs }
    }
}

/// The service that docs/disposable-hosts.md shows.
fn documented_service() -> String {
    let text = fs::read_to_string(checkout().join("docs/disposable-hosts.md")).unwrap();
    let (_, service) = text.split_once("```ini\n").unwrap();
    service.split_once("```").unwrap().0.to_owned()
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:#?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The machine. Dropping it is a loss of power.
struct Lab {
    parts: &'static Parts,
    _boots: Boots,
    folder: tempfile::TempDir,
    port: u16,
    machine: Option<Child>,
    /// How often it was switched on.
    started: usize,
}

impl Lab {
    fn new() -> Self {
        for program in ["ssh", "ssh-keygen"] {
            if find_program(program).is_none() {
                trials::ignore(&format!("{program} is not installed"));
            }
        }
        if let Some(reason) = unavailable() {
            trials::ignore(&reason);
        }
        let boots = boots(&of_recipes(&[SYSTEM, "qemu-x86-amd64"]));
        let parts = Parts::get();
        let folder = tempfile::tempdir_in(parts.system.parent().unwrap()).unwrap();
        let mut disk = Command::new("qemu-img");
        disk.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]).arg(&parts.system);
        run(disk.arg(folder.path().join("disk")));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut lab = Self { parts, _boots: boots, folder, port, machine: None, started: 0 };
        lab.switch_on();
        run(&mut lab.ssh("mkdir -p /etc/nestmatrix && /opt/nestmatrix/nestmatrix host identity >/etc/nestmatrix/disposable-host"));
        lab
    }

    /// Starts the machine, and waits until it answers.
    fn switch_on(&mut self) {
        let emulator = common::images::catalog();
        let emulator = common::images::image(emulator.get("qemu-x86-amd64").unwrap(), Product::Emulator);
        let emulator = Emulator::new(emulator).unwrap();
        // Ends with this process, however that ends.
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["exec-with-parent-death-signal", &std::process::id().to_string()]);
        let (program, arguments) = emulator.command("qemu-system-x86_64");
        command.arg(program).args(arguments).arg("-L").arg(emulator.data());
        // The machine that plays the metal of AMD's L0.
        let ArchInfo { emulated_cpu, emulated_cpu_without, .. } = ArchInfo::of(Architecture::Amd);
        let without: String = emulated_cpu_without.iter().map(|feature| format!(",{feature}=off")).collect();
        command.arg("-cpu").arg(format!("{emulated_cpu},svm=on{without}"));
        command.args("-machine q35,accel=tcg -smp 1 -m 4096M".split(' '));
        command.args("-display none -nodefaults -no-user-config".split(' '));
        command.args(["-uuid", "6d1f2f0a-5c0e-4a39-9d5e-0f6a1c7b2e88"]);
        for (file, more) in
            [(self.folder.path().join("disk"), ""), (self.parts.programs.clone(), ",format=raw,readonly=on")]
        {
            command.arg("-drive").arg(format!("file={},if=virtio{more}", file.display()));
        }
        let console = self.folder.path().join(format!("console-{}", self.started));
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command
            .arg("-netdev")
            .arg(format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{}-:22", self.port));
        command.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.machine = Some(command.spawn().unwrap());
        self.started += 1;
        self.wait_until(IS_UP);
    }

    /// Waits for a boot, until this command succeeds.
    fn wait_until(&self, script: &str) {
        let began = Instant::now();
        while !self.ssh(script).output().unwrap().status.success() {
            assert!(began.elapsed() < BOOT, "not so after {BOOT:?}: {script}: {}", self.consoles());
            std::thread::sleep(PAUSE);
        }
    }

    /// The machine loses its power.
    fn power_cut(&mut self) {
        if let Some(mut machine) = self.machine.take() {
            machine.kill().unwrap();
            machine.wait().unwrap();
        }
    }

    /// All that the machine has printed.
    fn consoles(&self) -> String {
        let read =
            |number| fs::read(self.folder.path().join(format!("console-{number}"))).unwrap_or_default();
        (0..self.started).map(|number| String::from_utf8_lossy(&read(number)).into_owned()).collect()
    }

    fn known_hosts(&self) -> PathBuf {
        self.folder.path().join("known-hosts")
    }

    /// A shell command of root's on the machine.
    fn ssh(&self, script: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none"]).arg("-i").arg(&self.parts.key).args(["-p", &self.port.to_string()]);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.known_hosts().display()));
        for option in [
            "StrictHostKeyChecking=accept-new",
            "ConnectTimeout=10",
            "ServerAliveInterval=10",
            "BatchMode=yes",
        ] {
            command.args(["-o", option]);
        }
        command.args(["root@127.0.0.1", script]).stdin(Stdio::null());
        command
    }

    /// Begins a run, which usually ends with a reboot.
    fn run_matrix(&self, cells: &[&str]) -> Output {
        let cells: String = cells.iter().map(|cell| format!(" '{cell}'")).collect();
        let script = format!(
            "/opt/nestmatrix/nestmatrix run-matrix --metal native --disposable-host --offline --timeout-scale 6 \
             --results /root/results{cells}"
        );
        self.ssh(&script).output().unwrap()
    }

    /// Waits until the machine has so many verdicts and nothing left to restore. Returns the verdicts.
    fn verdicts(&self, cells: usize) -> Vec<Value> {
        let script = "! test -e /var/lib/nestmatrix/host-state/journal.json && ! pgrep -x nestmatrix && \
                      cat /root/results/latest/verdicts.jsonl";
        let began = Instant::now();
        loop {
            let output = self.ssh(script).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let verdicts: Vec<Value> =
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if output.status.success() && verdicts.len() >= cells {
                return verdicts;
            }
            let said = || {
                run(&mut self
                    .ssh("systemctl status nestmatrix; journalctl -u nestmatrix --no-pager | tail -50"))
            };
            assert!(began.elapsed() < ALL, "{verdicts:#?}\n{}\n{}", said(), self.consoles());
            std::thread::sleep(PAUSE);
        }
    }

    /// What cells change.
    fn state(&self) -> String {
        run(&mut self.ssh(
            "cat /sys/module/kvm_amd/parameters/nested /proc/sys/vm/nr_hugepages && stat -c '%a %G' /dev/kvm && \
             cd /etc/modprobe.d && stat -c '%n %a %U' . * && cat *",
        ))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.power_cut();
    }
}

/// Checks that the cells passed on the machine itself, and did all their steps.
fn assert_passed(verdicts: &[Value], cells: usize) {
    assert_eq!(verdicts.len(), cells, "{verdicts:#?}");
    for cell in verdicts {
        assert_eq!((&cell["verdict"], &cell["metal"]), (&"pass".into(), &"native".into()), "{cell:#}");
        assert_eq!(cell["levels"][0]["os"], "debian-11", "{cell:#}");
        assert!(cell["levels"][0]["image"].is_null(), "L0 is the machine itself: {cell:#}");
        let changes = cell["host_changes"].as_array().unwrap();
        assert!(
            !changes.is_empty() && changes.iter().all(|change| change["restored"] == true),
            "{changes:#?}"
        );
    }
}

fn systemd_continues_a_run_that_reboots_its_machine_and_all_is_restored() {
    let lab = Lab::new();
    let before = lab.state();
    let began = lab.run_matrix(&CELLS);
    let said = String::from_utf8_lossy(&began.stderr).into_owned();
    assert!(said.contains("reboots this machine now; afterwards: "), "{said}");
    assert_passed(&lab.verdicts(CELLS.len()), CELLS.len());
    assert_eq!(lab.state(), before);
    // The first boot, and four that cells asked for.
    assert_eq!(lab.consoles().matches("Linux version ").count(), 5);
}

fn a_run_goes_on_after_a_loss_of_power_between_two_reboots() {
    let mut lab = Lab::new();
    let before = lab.state();
    lab.run_matrix(&[REBOOTS]);
    // The harness works again, after the first reboot.
    lab.wait_until("pgrep -x nestmatrix && test \"$(journalctl --list-boots | wc -l)\" = 2");
    lab.power_cut();
    lab.switch_on();
    assert_passed(&lab.verdicts(1), 1);
    assert_eq!(lab.state(), before);
}

fn tmt_reboots_the_machine_and_runs_the_test_again() {
    let tmt = tmt();
    let lab = Lab::new();
    // tmt runs the test again, not systemd.
    run(&mut lab.ssh("systemctl disable nestmatrix"));
    let before = lab.state();
    let place = Place::new();
    let tree = place.path().join("tree");
    let mut command = place.xtask();
    command.args(["ci-matrix", "--format", "fmf", "--program", "/opt/nestmatrix/nestmatrix"]);
    command.args(["--runner", "amd,bare-metal,debian-11,disposable-host", REBOOTS, "--into"]).arg(&tree);
    run(&mut command);
    // The same path is used on the machine, which empties /tmp when it boots.
    let work = lab.folder.path().join("tmt");
    let (key, known) = (lab.parts.key.display().to_string(), lab.known_hosts());
    let (port, known) = (lab.port.to_string(), format!("UserKnownHostsFile={}", known.display()));
    let words = ["run", "--scratch", "--id", work.to_str().unwrap(), "discover"];
    let machine =
        ["provision", "--how", "connect", "--guest", "127.0.0.1", "--port", &port, "--user", "root"];
    let login = ["--key", &key, "--ssh-option", &known, "--ssh-option", "StrictHostKeyChecking=accept-new"];
    let steps = ["execute", "report", "cleanup"];
    let arguments: Vec<&str> = [&words[..], &machine, &login, &steps].concat();
    let ran = call(&place, &tmt, &tree, &arguments, ALL);
    assert!(ran.status.success(), "{}\n{}", String::from_utf8_lossy(&ran.stderr), lab.consoles());
    let plan = work.join("plans/amd-bare-metal-debian-11-disposable-host/execute");
    let results = fs::read(plan.join("results.json")).unwrap();
    let results: Value = serde_json::from_slice(&results).unwrap();
    let [result] = results.as_array().unwrap().as_slice() else { panic!("{results:#}") };
    assert_eq!(result["result"], "pass", "{result:#}");
    assert!(result["name"].as_str().unwrap().contains("rhel-8-persist-nesting/amd/"), "{result:#}");
    assert_eq!(lab.consoles().matches("Linux version ").count(), 3);
    assert_eq!(lab.state(), before);
    place.assert_nothing_left();
}

fn a_virtual_machine_that_shows_aws_around_itself_is_l1_under_a_real_kvm() {
    let lab = Lab::new();
    run(&mut lab.ssh(START_GUEST));
    let in_guest = |script: &str| format!("ssh -p 2222 127.0.0.1 \"{script}\"");
    lab.wait_until(&in_guest(IS_UP));
    let script = format!(
        "/opt/nestmatrix/nestmatrix run-matrix --metal native --offline --timeout-scale 10 --format json '{OF_AWS}'"
    );
    let output = lab.ssh(&in_guest(&script)).output().unwrap();
    let cell: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:#?}"));
    assert_eq!((output.status.code(), &cell["verdict"]), (Some(0), &"pass".into()), "{cell:#}");
    assert_eq!(
        (&cell["guest_of"]["level"], &cell["guest_of"]["system"]),
        (&"l1".into(), &"aws".into()),
        "{cell:#}"
    );
    assert_eq!(cell["evidence"]["this_machine"], "l1", "{cell:#}");
}

trials! {
    #[ignore = "installs and boots a machine: six minutes"]
    a_virtual_machine_that_shows_aws_around_itself_is_l1_under_a_real_kvm;
    #[ignore = "boots an installed machine, and reboots it: five minutes"]
    a_run_goes_on_after_a_loss_of_power_between_two_reboots;
    #[ignore = "boots an installed machine, and reboots it: five minutes"]
    tmt_reboots_the_machine_and_runs_the_test_again;
    #[ignore = "boots an installed machine, and reboots it: five minutes"]
    systemd_continues_a_run_that_reboots_its_machine_and_all_is_restored;
}
