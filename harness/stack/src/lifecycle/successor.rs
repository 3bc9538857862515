//! A new QEMU replaces one that has ended, and uses all of its channels.

use nestmatrix_vmm::qemu::{ChannelKind, Machine, Monitor};
use tokio::sync::mpsc;

use crate::Stop;
use crate::boot_level::NOTICES;
use crate::level::{Launched, Level, Reported, StartedOn};
use crate::stack::Stack;

impl Stack<'_> {
    /// Starts a new QEMU for a machine whose first one has ended, and continues all conversations with it, with its level, and with
    /// the levels inside that run.
    pub(crate) async fn start_again(&mut self, machine: &Machine, on: &StartedOn) -> Result<Monitor, Stop> {
        let level = machine.level;
        self.start_process(machine, on).await?;
        let (sender, mut notices) = mpsc::channel(NOTICES);
        for channel in machine.channels() {
            // The streams of levels that are not up yet are still waiting.
            if !self.machines.runs(channel.level) {
                continue;
            }
            let stream = self.channels.take(channel).ok();
            match (channel.kind, stream) {
                (ChannelKind::Console, None) => {}
                (ChannelKind::Console, Some(stream)) => {
                    self.channels.add([(channel, stream)]);
                    self.move_console([channel, channel]).await?;
                }
                (ChannelKind::Qmp, stream) if channel.level == level => {
                    self.wire(level, channel.kind)?.resume(stream, Some(sender.clone()));
                }
                (ChannelKind::Qmp | ChannelKind::Agent, stream) => {
                    self.wire(channel.level, channel.kind)?.resume(stream, None);
                }
            }
        }
        drop(sender);
        let wire = self.wire(level, ChannelKind::Qmp)?;
        let monitor = self.during(level, async { Ok(Monitor::greet(wire, &mut notices).await?) }).await?;
        self.watch.listen_to(level.into(), notices);
        Ok(monitor)
    }

    /// The innermost level, whose machine has been reset, as one that still has to report.
    pub(super) fn launched_again(&self, innermost: &Level<Reported>) -> Result<Level<Launched>, Stop> {
        let id = self.machines.current(innermost.id.level).unwrap_or(innermost.id);
        let machine = self.machines.requested(id).map(|requested| requested.machine.clone());
        let machine = machine.ok_or_else(|| self.harness(format!("{} was not launched", id.level)))?;
        Ok(innermost.becomes(Launched { machine, relay: None }))
    }
}
