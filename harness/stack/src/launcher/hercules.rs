//! A bare machine that Hercules plays.
//!
//! The harness can only use its console: the guest's output is Hercules' standard output, and a line on its standard input that
//! begins with a slash is typed at the console.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

use nestmatrix_vmm::qemu::{ChannelKind, Machine, Process, Start, Stdio};
use nestmatrix_vmm::sandbox::Network;
use tokio::net::UnixStream;

use super::{Launcher, Started, here};
use crate::host::{Host, HostError, LocalProcess, Pending, ThisMachine};

/// Where the initramfs is loaded, after the kernel.
pub const INITRAMFS_AT: u64 = 0x400_0000;

/// Starts Hercules.
pub(super) struct Hercules;

impl Launcher for Hercules {
    fn launch<'a>(&'a self, machine: &'a Machine, host: &'a Rc<dyn Host>) -> Pending<'a, Started> {
        Box::pin(std::future::ready(here(host, "Hercules").and_then(|host| start(&host, machine))))
    }
}

fn start(host: &ThisMachine, machine: &Machine) -> Result<Started, HostError> {
    let failed = |what: &'static str| move |source| HostError::System { what: what.to_owned(), source };
    let folder = &host.files;
    write_files(folder, machine).map_err(failed("writing Hercules' configuration"))?;
    let (near, far) = std::os::unix::net::UnixStream::pair().map_err(failed("making a console"))?;
    near.set_nonblocking(true).map_err(failed("making a console"))?;
    let near = UnixStream::from_std(near).map_err(failed("making a console"))?;
    let (program, mut arguments) = host.command("hercules");
    let modules = host.emulator.modules().unwrap_or_default();
    // With EXTERNALGUI, which must come last, it reads commands from standard input.
    arguments.extend(["-p".into(), modules.into()]);
    arguments.extend(["-f", "hercules.cnf", "-d", "EXTERNALGUI"].map(Into::into));
    let output = host.records.join(format!("{}.hercules.log", machine.label()));
    let process = Process::start(&Start {
        wrapper: &host.wrapper_of(machine, Network::None, None),
        program: &program,
        arguments: &arguments,
        environment: &[("HERCULES_RC".into(), "hercules.rc".into())],
        folder: Some(folder),
        output: &output,
        stdio: Stdio::Both(far.into()),
    })
    .map_err(failed("starting Hercules"))?;
    let streams = BTreeMap::from([(machine.channel(ChannelKind::Console), near)]);
    Ok(Started { process: Box::new(LocalProcess::new(process)), streams, relay: None })
}

/// Which file is loaded at which address (Linux, arch/s390/boot/head.S and Documentation/arch/s390).
pub fn load_list() -> String {
    format!(
        "* Linux\nkernel 0x00000000\ninitramfs {INITRAMFS_AT:#010x}\nparameters 0x00010480\n\
         at 0x00010408\nsize 0x00010410\n"
    )
}

/// Writes all files that it loads, and its configuration.
fn write_files(folder: &Path, machine: &Machine) -> io::Result<()> {
    let boot = machine.boot.kernel().ok_or_else(|| io::Error::other("it boots a kernel, not a disk"))?;
    let initramfs = &boot.initramfs.path;
    let size = std::fs::metadata(initramfs)?.len();
    let files: [(&str, Vec<u8>); 6] = [
        ("hercules.cnf", configuration(machine).into_bytes()),
        ("hercules.rc", b"ipl l0.ins\n".to_vec()),
        ("parameters", [boot.parameters.as_bytes(), b"\0"].concat()),
        ("at", INITRAMFS_AT.to_be_bytes().to_vec()),
        ("size", size.to_be_bytes().to_vec()),
        ("l0.ins", load_list().into_bytes()),
    ];
    for (name, content) in files {
        std::fs::write(folder.join(name), content)?;
    }
    // Hercules loads no file from another folder, and no link.
    for (name, file) in [("kernel", &boot.kernel.path), ("initramfs", initramfs)] {
        std::fs::copy(file, folder.join(name))?;
    }
    Ok(())
}

/// Priorities of 0: by default, the processor is emulated at nice 15. This code page keeps all of ASCII. No port is opened,
/// since no terminal connects to the console.
pub fn configuration(machine: &Machine) -> String {
    format!(
        "CPUSERIAL 000069\nCPUMODEL {}\nMAINSIZE {}\nXPNDSIZE 0\nNUMCPU {}\nHERCPRIO 0\nCPUPRIO 0\nDEVPRIO 0\nTODPRIO 0\n\
         ARCHMODE ESAME\nOSTAILOR QUIET\nPANRATE SLOW\nCODEPAGE 437/037\n0009 3215-C noprompt\n",
        machine.cpu.model, machine.memory_mib, machine.hardware.cpus
    )
}
