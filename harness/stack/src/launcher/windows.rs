//! Windows as a launcher: Hyper-V, or WSL 2, of a Windows level.

use std::rc::Rc;

use nestmatrix_vmm::qemu::Machine;

use super::{Launcher, Started};
use crate::host::{HostError, MachineHost, Pending};

/// Lets the Windows level around it start the machine.
pub(super) struct Windows;

impl Launcher for Windows {
    fn launch<'a>(&'a self, machine: &'a Machine, host: &'a Rc<dyn MachineHost>) -> Pending<'a, Started> {
        let (what, host) =
            (format!("starting {} by {}", machine.label(), machine.launch), host.name().to_owned());
        let why = "this is no Windows level".to_owned();
        Box::pin(std::future::ready(Err(HostError::Command { what, host, why })))
    }
}
