//! Launchers: what turns a machine into a running one.
//!
//! A host says where commands and processes run, where the files of a machine are, and where its channels end. A launcher knows
//! how the machine is described to a program, and through which channels it is then reached. It is chosen by the machine alone,
//! and the code above this module does not know which one it is.
//!
//! A launched machine is paused and resumed through its monitor. One without a monitor runs from its start. It is stopped by
//! ending its process.

mod bochs;
pub mod hercules;
pub mod libvirt;
mod qemu;
mod windows;

use std::collections::BTreeMap;
use std::rc::Rc;

pub use bochs::TEMPORARY as BOCHS_TEMPORARY;
use nestmatrix_model::Launch;
use nestmatrix_model::architecture::BareMachine;
use nestmatrix_vmm::qemu::{ChannelName, Machine};
use tokio::net::UnixStream;

use crate::host::{Host, HostError, MachineHost, Pending, Relay, RunningProcess, ThisMachine};

/// Turns a machine into a running one.
trait Launcher {
    /// Starts `machine` on `host`. If it has a monitor, it stays paused.
    fn launch<'a>(&'a self, machine: &'a Machine, host: &'a Rc<dyn Host>) -> Pending<'a, Started>;

    /// A machine that was launched on `host` before a snapshot was taken, by the identifier of its process in that level. None if
    /// no snapshot has such a machine.
    fn adopt(&self, _pid: i64, _host: &Rc<dyn MachineHost>) -> Option<Box<dyn RunningProcess>> {
        None
    }
}

/// A machine that was started.
pub(crate) struct Started {
    /// The process that runs it.
    pub(crate) process: Box<dyn RunningProcess>,
    /// The near ends of its channels that the harness did not have before: all of them on this machine, none in a level with
    /// virtio.
    pub(crate) streams: BTreeMap<ChannelName, UnixStream>,
    /// How the channels of the levels inside are reached, if they are not ports of the machine.
    pub(crate) relay: Option<Relay>,
}

/// The launcher of a machine.
fn launcher_of(machine: &Machine) -> &'static dyn Launcher {
    match machine.metal {
        Some(BareMachine::Bochs(_)) => &bochs::Bochs,
        Some(BareMachine::Hercules(_)) => &hercules::Hercules,
        Some(BareMachine::Qemu(_)) => &qemu::Qemu,
        None => match machine.launch {
            Launch::Qemu => &qemu::Qemu,
            Launch::Libvirt => &libvirt::Libvirt,
            Launch::HyperV | Launch::Wsl2 => &windows::Windows,
        },
    }
}

/// Starts `machine` on `host`. If it has a monitor, it stays paused.
///
/// # Errors
/// The host runs no machines, or this one does not start.
pub(crate) async fn launch(machine: &Machine, host: &Rc<dyn Host>) -> Result<Started, HostError> {
    launcher_of(machine).launch(machine, host).await
}

/// A machine of a snapshot, which has run on `host` since before the snapshot was taken; none if `host` runs no such machine.
pub(crate) fn adopt(machine: &Machine, pid: i64, host: &Rc<dyn Host>) -> Option<Box<dyn RunningProcess>> {
    launcher_of(machine).adopt(pid, &Rc::clone(host).machine_host().ok()?)
}

/// The host of an emulator that is started on this machine only, since it needs its folders, its network or its terminals.
fn here(host: &Rc<dyn Host>, emulator: &str) -> Result<ThisMachine, HostError> {
    let machine_host = Rc::clone(host).machine_host()?;
    machine_host.this_machine().cloned().ok_or_else(|| HostError::Command {
        what: format!("starting {emulator}"),
        host: host.name().to_owned(),
        why: format!("{emulator} is started on this machine only"),
    })
}
