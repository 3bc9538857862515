//! A bare machine that Bochs plays, and how the levels inside it are reached.
//!
//! Bochs has no virtio and no monitor. L0's console and agent are serial lines, which Bochs connects to TCP ports of the
//! harness. The channels of the levels inside go through its network card, which is user-mode and restricted to one forwarded
//! port. L0 passes each connection on to the port that it asks for (images/recipes/init/hypervisor.sh). L0 boots from a CD, and
//! finds the images of the levels inside it on its root file system. Or Bochs restores a machine that it has saved, of which these
//! images are a part.

mod configuration;
mod saver;
mod state;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nestmatrix_model::architecture::BOCHS;
use nestmatrix_vmm::qemu::{ChannelKind, Machine, Memory, Process, Start, Stdio};
use nestmatrix_vmm::sandbox::{Network, Ports};
use tokio::net::TcpListener;

use super::{Launcher, Started, here};
use crate::host::{
    Host, HostError, IMAGES, LocalProcess, Pending, QemuEnd, Relay, ThisMachine, accept_of, as_channel,
    opened,
};
use configuration::{Configuration, Display, MOST_MEMORY_MIB, ROMS, network};
use saver::{DisplayPort, Saver};
use state::Keeper;

/// Bochs' configuration, if it boots.
const BOCHSRC: &str = "bochsrc";

/// Where Bochs makes a file for memory that it does not keep, and for all memory of a machine that it restores: in glibc's own folder for
/// temporary files, whatever the environment says (tmpfile(3)).
pub const TEMPORARY: &str = "/tmp";

/// The folder, within Bochs' own, with the machine that it restores.
const RESTORED: &str = "restored";

/// The CD that L0 boots. Nothing reads it later, so that of a restored L0 is empty.
const CD: &str = "cd.iso";
/// The size of an empty one, in bytes.
const EMPTY_CD: u64 = 1 << 20;

/// Starts Bochs.
pub(super) struct Bochs;

impl Launcher for Bochs {
    fn launch<'a>(&'a self, machine: &'a Machine, host: &'a Rc<dyn Host>) -> Pending<'a, Started> {
        Box::pin(async move { start(&here(host, "Bochs")?, machine).await })
    }
}

/// Starts Bochs, with a machine that boots or with one that it has saved before.
async fn start(host: &ThisMachine, machine: &Machine) -> Result<Started, HostError> {
    let failed = |what: &'static str| move |source| HostError::System { what: what.to_owned(), source };
    let folder = &host.files;
    let (relay, held) = Relay::new().map_err(failed("choosing an address for Bochs"))?;
    let saved = match &machine.memory {
        Memory::Snapshot(memory) => Some(memory),
        Memory::Private | Memory::Shared(_) => None,
    };
    let restores = match saved {
        None => {
            make_cd(host, machine, &relay).await?;
            None
        }
        Some(memory) => {
            let make_empty = || std::fs::File::create(folder.join(CD))?.set_len(EMPTY_CD);
            make_empty().map_err(failed("making a CD for Bochs"))?;
            let unpack = || {
                state::unpack(&host.devices_file(), memory, &folder.join(RESTORED))?;
                std::fs::metadata(memory)
            };
            Some(unpack().map_err(failed("unpacking the machine that Bochs restores"))?.len())
        }
    };
    let mut serial = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind((*relay.address().ip(), 0)).await;
        serial.push(listener.map_err(failed("listening for Bochs"))?);
    }
    let is_own = host.emulator.is_own(BOCHS);
    let port = (host.saves && !is_own).then(DisplayPort::choose).transpose();
    let port = port.map_err(failed("choosing a port for Bochs' display"))?;
    let display = match (is_own, &port) {
        (true, _) => Display::None,
        (false, None) => Display::Terminal,
        (false, Some(_)) => Display::Rfb,
    };
    let configuration = Configuration { machine, serial: &serial, display };
    write_files(host, &relay, &configuration, saved.is_some())
        .map_err(failed("writing Bochs' configuration"))?;
    let (program, mut arguments) = host.command(BOCHS);
    let from = match saved {
        None => ["-f", BOCHSRC],
        Some(_) => ["-r", RESTORED],
    };
    arguments.extend(["-q"].into_iter().chain(from).map(Into::into));
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
    let ports = ports(&serial, &relay, port.as_ref()).map_err(failed("listening for Bochs"))?;
    let has_overflow = machine.memory_mib > MOST_MEMORY_MIB || saved.is_some();
    let wrapper =
        host.wrapper_of(machine, Network::Ports(ports), has_overflow.then(|| PathBuf::from(TEMPORARY)));
    let (answers, input) = UnixStream::pair().map_err(failed("making Bochs' input"))?;
    let process = Process::start(&Start {
        wrapper: &wrapper,
        program: &program,
        arguments: &arguments,
        environment: &environment,
        folder: Some(folder),
        output: &output,
        stdio: if port.is_some() { Stdio::Input(input.into()) } else { Stdio::Record },
    })
    .map_err(failed("starting Bochs"))?;
    let process = LocalProcess::new(process);
    let saver = match port {
        Some(port) => Some(Saver::connect(&process, port, answers, [folder, &output]).await?),
        None => None,
    };
    let mut streams = BTreeMap::new();
    let own = nix::unistd::geteuid().as_raw();
    for (kind, listener) in [ChannelKind::Console, ChannelKind::Agent].into_iter().zip(serial) {
        let what = format!("waiting for Bochs to open the {kind} of L0");
        let stream = opened(&process, accept_of(&listener, own), &what).await?;
        let stream = as_channel(stream).map_err(failed("accepting a channel of Bochs"))?;
        streams.insert(machine.channel(kind), stream);
    }
    let keeper = Keeper { saver, restores };
    Ok(Started { process: Box::new(process.kept_by(keeper)), streams, relay: Some(relay) })
}

/// Writes the files that Bochs reads, whether it boots the machine or restores it.
fn write_files(
    host: &ThisMachine,
    relay: &Relay,
    configuration: &Configuration<'_>,
    restores: bool,
) -> io::Result<()> {
    let folder = &host.files;
    let place =
        if restores { folder.join(RESTORED).join(state::CONFIGURATION) } else { folder.join(BOCHSRC) };
    std::fs::write(place, configuration.text()?)?;
    std::fs::write(folder.join("slirp.conf"), network(relay))?;
    std::fs::write(folder.join("debugger"), "c\n")?;
    let terminal = folder.join("terminfo/d");
    std::fs::create_dir_all(&terminal)?;
    // As links, since a path in bochsrc may contain neither blanks nor commas.
    for rom in ROMS {
        link(&host.data(rom), &folder.join(rom))?;
    }
    link(&host.data("dumb"), &terminal.join("dumb"))
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
    arguments.extend([host.files.join(CD).into(), cd.clone().into()]);
    let output = host.records.join(format!("{}.xorriso.log", machine.label()));
    let mut process = Process::start(&Start {
        wrapper: &host.wrapper,
        program: &program,
        arguments: &arguments,
        environment: &[],
        folder: None,
        output: &output,
        stdio: Stdio::Record,
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

/// The ports of this machine that Bochs uses: those of the serial lines, the one that is forwarded, and that of its display.
fn ports(serial: &[TcpListener], relay: &Relay, display: Option<&DisplayPort>) -> io::Result<Ports> {
    let connect = serial.iter().map(|listener| Ok(listener.local_addr()?.port()));
    let bind = std::iter::once(relay.address().port()).chain(display.map(DisplayPort::number));
    Ok(Ports { connect: connect.collect::<io::Result<_>>()?, bind: bind.collect() })
}
