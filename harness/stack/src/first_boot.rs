//! The first boot of a disk, in which its system prepares itself: it runs what the volumes beside the disk tell it, says on the
//! console how far it is, and powers off.

use std::rc::Rc;

use super::Stop;
use super::boot::BootRequest;
use super::boot_level::Role;
use super::console_view::ConsoleListener;
use super::level::StartedOn;
use super::stack::Stack;
use super::watch::Watch;

/// Boots the only level of the plan, a disk, until `listener` has heard everything and the machine has powered off. Then all that
/// its system wrote is in the disk's file. Everything that was started is ended when this returns, and also when the future is
/// dropped.
///
/// # Errors
/// Where and why it stopped before.
pub async fn first_boot(request: BootRequest<'_>, listener: Rc<dyn ConsoleListener>) -> Result<(), Stop> {
    let mut stack = Stack::new(&request);
    let prepared = stack.first_boot(listener).await;
    let ended = stack.machines.end(request.outermost(), request.limits.diagnostics()).await;
    prepared.and(ended.map_err(|why| Stop::harness(stack.stage, why)))
}

impl Stack<'_> {
    async fn first_boot(&mut self, listener: Rc<dyn ConsoleListener>) -> Result<(), Stop> {
        let on = StartedOn { host: Rc::clone(&self.request.this_machine), second: false };
        self.console_listener = Some(Rc::clone(&listener));
        let launched = self.start_level(0, Role::First, &on).await?;
        let level = launched.id.level;
        let off = |watch: &Watch| (listener.is_complete() && watch.has_shut_down(level)).then_some(());
        self.until(level, off).await
    }
}
