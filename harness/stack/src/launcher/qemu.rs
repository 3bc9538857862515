//! QEMU, started by its command line.

use std::ffi::OsString;
use std::rc::Rc;

use nestmatrix_vmm::qemu::Machine;

use super::{Launcher, Started};
use crate::host::{Host, HostError, MachineHost, Pending, RunningProcess};

/// Runs the QEMU of the host with the machine's arguments, `-S` among them.
pub(super) struct Qemu;

impl Launcher for Qemu {
    fn launch<'a>(&'a self, machine: &'a Machine, host: &'a Rc<dyn Host>) -> Pending<'a, Started> {
        Box::pin(async move { start(machine, &*Rc::clone(host).machine_host()?).await })
    }

    fn adopt(&self, pid: i64, host: &Rc<dyn MachineHost>) -> Option<Box<dyn RunningProcess>> {
        host.adopt(pid)
    }
}

async fn start(machine: &Machine, host: &dyn MachineHost) -> Result<Started, HostError> {
    // The harness listens and QEMU connects, so that every channel is open before any data is sent: a port whose far side is not
    // connected reads as end of file in the guest.
    let near_ends = host.near_ends(machine.channels())?;
    let mut command = match &machine.other_qemu {
        Some(other) => host.other_qemu(other)?,
        None => host.qemu(),
    };
    command.arguments.extend(machine.arguments(host).into_iter().map(OsString::from));
    let process = host.start(machine, command).await?;
    let streams = near_ends.open(&*process).await?;
    Ok(Started { process, streams, relay: None })
}
