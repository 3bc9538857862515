//! A bare machine that Bochs plays, and how the levels inside it are reached.
//!
//! Bochs has no virtio and no monitor. L0's console and agent are serial lines, which Bochs connects to TCP ports of the
//! harness. The channels of the levels inside go through its network card, which is user-mode and restricted to one forwarded
//! port. L0 passes each connection on to the port that it asks for (images/recipes/init/hypervisor.sh). L0 boots from a CD, and
//! finds the images of the levels inside it on its root file system.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use nestmatrix_vmm::qemu::{ChannelKind, Machine, Process, Start};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::this_machine::{LocalProcess, ThisMachine, opened};
use super::{HostError, QemuEnd, Started};

/// Where L0 finds the images of the levels inside it; not below /run, where its init mounts a file system.
pub(super) const IMAGES: &str = "nest";

/// The port of L0 that is forwarded.
const RELAY_PORT: u16 = 5000;
/// L0's answer when it has accepted the secret.
const TAKEN: &[u8] = b"nestmatrix-relay\n";

/// The most memory of a machine that Bochs keeps in its own memory, in MiB; the rest is in a file.
const MOST_MEMORY_MIB: u32 = 2048;

/// How the ports of a level on Bochs are reached from this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    address: SocketAddrV4,
    /// The secret that a connection sends first, so that no other process on this machine gets in.
    secret: String,
}

impl Relay {
    /// An address of its own on this machine, so that parallel stacks don't meet, and no process that listens on all addresses
    /// gets in the way; and the listener that keeps its port until Bochs takes it.
    fn new() -> io::Result<(Self, std::net::TcpListener)> {
        let mut random = [0; 12];
        getrandom::fill(&mut random)?;
        let [a, b, c, secret @ ..] = random;
        let secret = hex::encode(secret);
        let address = Ipv4Addr::new(127, a, b, c.clamp(2, 254));
        let held = std::net::TcpListener::bind((address, 0))?;
        let address = SocketAddrV4::new(address, held.local_addr()?.port());
        Ok((Self { address, secret }, held))
    }

    /// Connects to a port of the level. If no process listens there, the connection is closed shortly after.
    ///
    /// # Errors
    /// The level does not pass the connection on. That says nothing about the level.
    pub(super) async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let connect = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            stream.write_all(format!("{} {port}\n", self.secret).as_bytes()).await?;
            let mut said = [0; TAKEN.len()];
            stream.read_exact(&mut said).await?;
            if said == TAKEN { Ok(stream) } else { Err(io::Error::other("something else answers there")) }
        };
        connect.await
    }
}

/// A TCP connection as the kind of stream that all channels use. It lives as long as either side.
pub(super) fn as_channel(mut stream: TcpStream) -> io::Result<UnixStream> {
    let (near, mut far) = UnixStream::pair()?;
    tokio::task::spawn_local(async move {
        // Its end is seen at the other end of the pair.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
    });
    Ok(near)
}

/// Makes the CD and starts Bochs.
pub(super) async fn start(host: &ThisMachine, machine: &Machine) -> Result<Started, HostError> {
    let failed = |what: &'static str| move |source| HostError::System { what: what.to_owned(), source };
    let folder = &host.sockets;
    let (relay, held) = Relay::new().map_err(failed("choosing an address for Bochs"))?;
    make_cd(host, machine, &relay).await?;
    let mut serial = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind((*relay.address.ip(), 0)).await;
        serial.push(listener.map_err(failed("listening for Bochs"))?);
    }
    let terminal = folder.join("terminfo/d");
    let write = || {
        std::fs::write(folder.join("bochsrc"), configuration(machine, &serial)?)?;
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
    let (program, mut arguments) = host.command("bochs-bin");
    arguments.extend(["-q", "-f", "bochsrc", "-rc", "debugger"].map(Into::into));
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
    let mut process = Process::start(&Start {
        wrapper: &host.wrapper,
        program: &program,
        arguments: &arguments,
        environment: &environment,
        folder: Some(folder),
        output: &output,
        stdio: None,
    })
    .map_err(failed("starting Bochs"))?;
    let mut streams = BTreeMap::new();
    for (kind, listener) in [ChannelKind::Console, ChannelKind::Agent].into_iter().zip(serial) {
        let what = format!("waiting for Bochs to open the {kind} of L0");
        let (stream, _) = opened(&mut process, listener.accept(), &what).await?;
        let stream = as_channel(stream).map_err(failed("accepting a channel of Bochs"))?;
        streams.insert(machine.channel(kind), stream);
    }
    Ok(Started { qemu: Box::new(LocalProcess::new(process)), streams, relay: Some(relay) })
}

/// The CD: isolinux, L0's kernel and initramfs, and one more initramfs with the images of the levels inside.
async fn make_cd(host: &ThisMachine, machine: &Machine, relay: &Relay) -> Result<(), HostError> {
    let failed = |source| HostError::System { what: "making a CD for Bochs".into(), source };
    let cd = host.sockets.join("cd");
    let make = || -> io::Result<()> {
        std::fs::create_dir_all(&cd)?;
        for name in ["isolinux.bin", "ldlinux.c32"] {
            std::fs::copy(host.data(name), cd.join(name))?;
        }
        link(&machine.boot.kernel.path, &cd.join("kernel"))?;
        link(&machine.boot.initramfs.path, &cd.join("initramfs"))?;
        let images = machine.disks.iter();
        let images: Vec<_> =
            images.map(|disk| (format!("{IMAGES}/{}", disk.serial), disk.path.clone())).collect();
        nestmatrix_images::pack_files(&images, &cd.join("images")).map_err(io::Error::other)?;
        let parameters = format!("{} nest.relay={}", machine.boot.parameters, relay.secret);
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
    arguments.extend([host.sockets.join("cd.iso").into(), cd.clone().into()]);
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

/// bochsrc. sync=none: the guest's time runs as fast as it is emulated. A triple fault ends Bochs, as a reset ends QEMU here.
fn configuration(machine: &Machine, serial: &[TcpListener]) -> io::Result<String> {
    let (guest, host) = (machine.memory_mib, machine.memory_mib.min(MOST_MEMORY_MIB));
    let [bios, vga] = ROMS;
    let mut text = format!(
        "config_interface: textconfig
display_library: term
cpu: model={}, count=1, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=1
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
plugin_ctrl: speaker=false, gameport=false, parallel=false, iodebug=false, extfpuirq=false
e1000: card=0, enabled=1, mac=52:54:00:12:34:56, ethmod=slirp, script=slirp.conf
",
        machine.cpu.model,
    );
    for (number, listener) in (1..).zip(serial) {
        let address = listener.local_addr()?;
        // Writing to a String can't fail.
        let _ = writeln!(text, "com{number}: enabled=1, mode=socket-client, dev={address}");
    }
    Ok(text)
}

/// The network card's configuration: nothing gets out, and one port in.
fn network(relay: &Relay) -> String {
    let address = relay.address;
    format!(
        "# slirp config\nrestricted = 1\nipv6_enabled = 0\nhostfwd = tcp:{address}-10.0.2.15:{RELAY_PORT}\n"
    )
}

/// The firmware, by its files' names.
const ROMS: [&str; 2] = ["BIOS-bochs-latest", "vgabios.bin"];

/// Pause before the next attempt to reach a port of the level on which no process listened yet.
pub(super) const RETRY: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_has_an_address_and_a_secret_of_its_own() {
        let [(one, _held), (other, _also)] = [Relay::new().unwrap(), Relay::new().unwrap()];
        assert!(one.address.ip().is_loopback() && one.secret.len() == 18);
        assert_ne!(one, other);
        let network = network(&one);
        assert!(network.contains("restricted = 1") && network.matches("hostfwd").count() == 1, "{network}");
        assert!(network.starts_with("# slirp config\n"), "Bochs wants this line");
    }
}
