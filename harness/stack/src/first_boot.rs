//! The first boot of a disk, in which its system prepares itself: it runs what the volumes beside the disk tell it, says on the
//! console how far it is, and powers off. An empty disk gets its system from a CD before that.

use std::rc::Rc;
use std::time::Duration;

use nestmatrix_vmm::qemu::Monitor;
use tokio::time::{Instant, sleep};

use super::Stop;
use super::boot::BootRequest;
use super::boot_level::Role;
use super::console_view::ConsoleListener;
use super::host::HostError;
use super::level::StartedOn;
use super::plan::cd_name;
use super::stack::Stack;
use super::watch::Watch;

/// The picture of its display, in the folder of its records, if it did not come to its end.
pub const PICTURE: &str = "screen.png";

/// The boot loader of an installation image waits for a key for some seconds, and otherwise starts nothing. This key does nothing in the
/// menus of the firmware.
const ANY_KEY: &str = "spc";
const BETWEEN_KEYS: Duration = Duration::from_secs(1);
/// Once the machine has read this much from its CD, the boot loader has got its key. Firmware and boot loader read less.
const BOOTED_BYTES: u64 = 8 << 20;
/// In seconds. Later, a key could reach the installation itself.
const LONGEST_PRESSING: f64 = 120.0;

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
        let disk = self.request.plan.levels[0].image.disk();
        let first_boot = disk.and_then(|disk| disk.first_boot.as_ref());
        let boots_cd = first_boot.is_some_and(|boot| boot.boots_cd);
        if let Some(monitor) = launched.monitor.clone().filter(|_| boots_cd) {
            let longest = self.request.limits.scaled(LONGEST_PRESSING);
            let pressing = press_keys(monitor, longest, Rc::clone(&listener));
            self.during(launched.id, pressing).await?;
        }
        let off = |watch: &Watch| (listener.is_complete() && watch.has_shut_down(level)).then_some(());
        let ended = self.until(level, off).await;
        let has_display = first_boot.is_some_and(|boot| boot.display);
        if let (Err(_), true, Some(monitor)) = (&ended, has_display, &launched.monitor) {
            let file = self.request.records.join(PICTURE).display().to_string();
            let picture = monitor.picture(&file);
            // Without it, the reason of the stop is still there.
            let _ = tokio::time::timeout(self.request.limits.diagnostics(), picture).await;
        }
        ended
    }
}

/// Presses keys until the machine boots from its CD.
async fn press_keys(
    monitor: Monitor,
    longest: Duration,
    listener: Rc<dyn ConsoleListener>,
) -> Result<(), HostError> {
    let end = Instant::now() + longest;
    while Instant::now() < end
        && !listener.is_complete()
        && monitor.bytes_read(&cd_name(0)).await?.unwrap_or_default() < BOOTED_BYTES
    {
        monitor.press(ANY_KEY).await?;
        sleep(BETWEEN_KEYS).await;
    }
    Ok(())
}
