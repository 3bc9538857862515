//! A bare machine that Bochs plays, and how the levels inside it are reached.
//!
//! Bochs has no virtio and no monitor. L0's console and agent are serial lines, which Bochs connects to TCP ports of the
//! harness. The channels of the levels inside go through its network card, which is user-mode and restricted to one forwarded
//! port. L0 passes each connection on to the port that it asks for (images/recipes/init/hypervisor.sh). L0 boots from a CD, and
//! finds the images of the levels inside it on its root file system.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nestmatrix_model::architecture::BOCHS;
use nestmatrix_vmm::qemu::{ChannelKind, Machine, Process, Start};
use nestmatrix_vmm::sandbox::{Network, Ports};
use tokio::net::TcpListener;

use super::{Launcher, Started, here};
use crate::host::{
    Host, HostError, IMAGES, LocalProcess, Pending, QemuEnd, Relay, ThisMachine, accept_of, as_channel,
    opened,
};

/// The port of L0 that is forwarded.
const RELAY_PORT: u16 = 5000;

/// The most memory of a machine that Bochs keeps in its own memory, in MiB; the rest is in a file.
const MOST_MEMORY_MIB: u32 = 2048;

/// Where Bochs makes that file: in glibc's own folder for temporary files, whatever the environment says (tmpfile(3)).
const TEMPORARY: &str = "/tmp";

/// Starts Bochs.
pub(super) struct Bochs;

impl Launcher for Bochs {
    fn launch<'a>(&'a self, machine: &'a Machine, host: &'a Rc<dyn Host>) -> Pending<'a, Started> {
        Box::pin(async move { start(&here(host, "Bochs")?, machine).await })
    }
}

/// Makes the CD and starts Bochs.
async fn start(host: &ThisMachine, machine: &Machine) -> Result<Started, HostError> {
    let failed = |what: &'static str| move |source| HostError::System { what: what.to_owned(), source };
    let folder = &host.files;
    let (relay, held) = Relay::new().map_err(failed("choosing an address for Bochs"))?;
    make_cd(host, machine, &relay).await?;
    let mut serial = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind((*relay.address().ip(), 0)).await;
        serial.push(listener.map_err(failed("listening for Bochs"))?);
    }
    let terminal = folder.join("terminfo/d");
    let is_own = host.emulator.is_own(BOCHS);
    let write = || {
        std::fs::write(folder.join("bochsrc"), configuration(machine, &serial, is_own)?)?;
        std::fs::write(folder.join("slirp.conf"), network(&relay))?;
        std::fs::write(folder.join("debugger"), "c\n")?;
        std::fs::create_dir_all(&terminal)?;
        // As links, since a path in bochsrc may contain neither blanks nor commas.
        for rom in ROMS {
            link(&host.data(rom), &folder.join(rom))?;
        }
        link(&host.data("dumb"), &terminal.join("dumb"))
    };
    write().map_err(failed("writing Bochs' configuration"))?;
    let (program, mut arguments) = host.command(BOCHS);
    arguments.extend(["-q", "-f", "bochsrc"].map(Into::into));
    if !is_own {
        // Debian's build has a debugger, which waits for this command.
        arguments.extend(["-rc", "debugger"].map(Into::into));
    }
    let modules = host.emulator.modules().unwrap_or_default();
    let environment = [
        ("LTDL_LIBRARY_PATH".into(), modules.into()),
        ("BXSHARE".into(), host.data("").into()),
        ("TERM".into(), "dumb".into()),
        ("TERMINFO".into(), folder.join("terminfo").into()),
        ("HOME".into(), folder.into()),
    ];
    let output = host.records.join(format!("{}.bochs.log", machine.label()));
    drop(held);
    let ports = ports(&serial, &relay).map_err(failed("listening for Bochs"))?;
    let overflow = (machine.memory_mib > MOST_MEMORY_MIB).then(|| PathBuf::from(TEMPORARY));
    let wrapper = host.wrapper_of(machine, Network::Ports(ports), overflow);
    let process = Process::start(&Start {
        wrapper: &wrapper,
        program: &program,
        arguments: &arguments,
        environment: &environment,
        folder: Some(folder),
        output: &output,
        stdio: None,
    })
    .map_err(failed("starting Bochs"))?;
    let process = LocalProcess::new(process);
    let mut streams = BTreeMap::new();
    let own = nix::unistd::geteuid().as_raw();
    for (kind, listener) in [ChannelKind::Console, ChannelKind::Agent].into_iter().zip(serial) {
        let what = format!("waiting for Bochs to open the {kind} of L0");
        let stream = opened(&process, accept_of(&listener, own), &what).await?;
        let stream = as_channel(stream).map_err(failed("accepting a channel of Bochs"))?;
        streams.insert(machine.channel(kind), stream);
    }
    Ok(Started { process: Box::new(process), streams, relay: Some(relay) })
}

/// The CD: isolinux, L0's kernel and initramfs, and one more initramfs with the images of the levels inside.
async fn make_cd(host: &ThisMachine, machine: &Machine, relay: &Relay) -> Result<(), HostError> {
    let failed = |source| HostError::System { what: "making a CD for Bochs".into(), source };
    let cd = host.files.join("cd");
    let make = || -> io::Result<()> {
        std::fs::create_dir_all(&cd)?;
        for name in ["isolinux.bin", "ldlinux.c32"] {
            std::fs::copy(host.data(name), cd.join(name))?;
        }
        let boot = machine.boot.kernel().ok_or_else(|| io::Error::other("it boots a kernel, not a disk"))?;
        link(&boot.kernel.path, &cd.join("kernel"))?;
        link(&boot.initramfs.path, &cd.join("initramfs"))?;
        let images = machine.disks.iter();
        let images: Vec<_> =
            images.map(|disk| (format!("{IMAGES}/{}", disk.serial), disk.path.clone())).collect();
        nestmatrix_images::pack_files(&images, &cd.join("images")).map_err(io::Error::other)?;
        let parameters = format!("{} nest.relay={}", boot.parameters, relay.secret());
        let menu = format!(
            "DEFAULT l0\nPROMPT 0\nSERIAL 0 115200\nLABEL l0\nKERNEL kernel\nINITRD initramfs,images\nAPPEND {parameters}\n"
        );
        std::fs::write(cd.join("isolinux.cfg"), menu)
    };
    make().map_err(failed)?;
    let (program, mut arguments) = host.command("xorriso");
    arguments.extend(
        "-as mkisofs -quiet -f -R -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table -o"
            .split(' ')
            .map(Into::into),
    );
    arguments.extend([host.files.join("cd.iso").into(), cd.clone().into()]);
    let output = host.records.join(format!("{}.xorriso.log", machine.label()));
    let mut process = Process::start(&Start {
        wrapper: &host.wrapper,
        program: &program,
        arguments: &arguments,
        environment: &[],
        folder: None,
        output: &output,
        stdio: None,
    })
    .map_err(failed)?;
    match process.wait().await.map_err(failed)? {
        nestmatrix_vmm::qemu::Ended::Exited(0) => {}
        ended => {
            let end = QemuEnd::new(ended, process.output().as_bytes());
            return Err(failed(io::Error::other(format!("xorriso {}", end.describe()))));
        }
    }
    std::fs::remove_dir_all(&cd).map_err(failed)
}

fn link(file: &Path, name: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(file, name) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(name)?;
            std::os::unix::fs::symlink(file, name)
        }
        linked => linked,
    }
}

/// bochsrc. A user's build has no display; Debian's has none that shows nothing, so it gets a dumb terminal. sync=none: the guest's time runs as fast as it is emulated. A triple fault ends Bochs, as a reset ends QEMU here.
fn configuration(machine: &Machine, serial: &[TcpListener], is_own: bool) -> io::Result<String> {
    let display = if is_own { "nogui" } else { "term" };
    let (guest, host) = (machine.memory_mib, machine.memory_mib.min(MOST_MEMORY_MIB));
    let [bios, vga] = ROMS;
    let mut text = format!(
        "config_interface: textconfig
display_library: {display}
cpu: model={}, count={}, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest={guest}, host={host}
romimage: file={bios}, options=fastboot
vgaromimage: file={vga}
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=cd.iso, status=inserted
boot: cdrom
clock: sync=none, time0=utc
log: /dev/null
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
e1000: card=0, enabled=1, mac=52:54:00:12:34:56, ethmod=slirp, script=slirp.conf
",
        machine.cpu.model, machine.hardware.cpus,
    );
    if !is_own {
        // A build without one of them would refuse its name.
        text.push_str(
            "plugin_ctrl: speaker=false, gameport=false, parallel=false, iodebug=false, extfpuirq=false\n",
        );
    }
    for (number, listener) in (1..).zip(serial) {
        let address = listener.local_addr()?;
        // Writing to a String can't fail.
        let _ = writeln!(text, "com{number}: enabled=1, mode=socket-client, dev={address}");
    }
    Ok(text)
}

/// The ports of this machine that Bochs uses: those of the serial lines, and the one that is forwarded.
fn ports(serial: &[TcpListener], relay: &Relay) -> io::Result<Ports> {
    let connect = serial.iter().map(|listener| Ok(listener.local_addr()?.port()));
    Ok(Ports { connect: connect.collect::<io::Result<_>>()?, bind: vec![relay.address().port()] })
}

/// The network card's configuration: nothing gets out, and one port in.
fn network(relay: &Relay) -> String {
    let address = relay.address();
    format!(
        "# slirp config\nrestricted = 1\nipv6_enabled = 0\nhostfwd = tcp:{address}-10.0.2.15:{RELAY_PORT}\n"
    )
}

/// The firmware, by its files' names.
const ROMS: [&str; 2] = ["BIOS-bochs-latest", "vgabios.bin"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_the_machine_and_one_port_in() {
        let (relay, _held) = Relay::new().unwrap();
        let network = network(&relay);
        assert!(network.contains("restricted = 1") && network.matches("hostfwd").count() == 1, "{network}");
        assert!(network.starts_with("# slirp config\n"), "Bochs wants this line");
    }
}
