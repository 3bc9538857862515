//! The crash kernel of a level (kdump): it is loaded whenever the level has booted, before anything is launched in it.

use nestmatrix_vmm::guest::ExecOutput;

use super::Stop;
use super::machines::MachineId;
use super::stack::Stack;
use crate::host::{Host, last_lines_of};

/// The script in an image with the addition `kdump`.
const LOAD: &str = "sh /kdump/load.sh";

impl Stack<'_> {
    /// Loads the crash kernel of a level that has one, and stops the stack if that does not succeed: the tested part has not begun.
    pub(super) async fn load_crash_kernel(&mut self, id: MachineId, host: &dyn Host) -> Result<(), Stop> {
        if self.request.level(id.level).is_none_or(|plan| plan.settings.kdump.is_none()) {
            return Ok(());
        }
        let script = format!("{LOAD} {}", self.request.plan.profile.crash_kernel.parameters);
        let ended = self.during(id, host.run(&script)).await?;
        match why_not_loaded(&ended) {
            None => Ok(()),
            Some(why) => {
                Err(self.harness(format!("{} has no crash kernel: {why}", id.in_words())).about(id.level))
            }
        }
    }
}

/// Why a level has no crash kernel, from what the script in its image has printed; nothing if it has one.
fn why_not_loaded(ended: &ExecOutput) -> Option<String> {
    let printed = String::from_utf8_lossy(&ended.stdout);
    let errors = || last_lines_of(&String::from_utf8_lossy(&ended.stderr));
    let value = |key: &str| printed.lines().find_map(|line| line.strip_prefix(key));
    match (value("reserved="), value("kexec="), value("loaded=")) {
        (None, ..) => Some(format!("`{LOAD}` has printed nothing: {}", errors())),
        (Some(""), ..) => Some(
            "its kernel can't boot one (CONFIG_CRASH_DUMP): it has no /sys/kernel/kexec_crash_size".into(),
        ),
        (Some("0"), ..) => {
            let said = value("said=").map_or(String::new(), |said| format!("; it says {said:?}"));
            Some(format!("its kernel has reserved no memory for one{said}"))
        }
        (_, Some(status), _) if status != "0" => {
            Some(format!("kexec has ended with status {status}: {}", errors()))
        }
        (_, _, Some("1")) => None,
        (_, _, loaded) => {
            let loaded = loaded.unwrap_or("unknown");
            Some(format!("it is not loaded, although kexec said so (kexec_crash_loaded is {loaded})"))
        }
    }
}
