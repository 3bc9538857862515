//! The end of the fake itself, as that of the outermost level's QEMU.

use std::io::Write as _;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};

use crate::script::End;

/// Ends this process as the script says.
pub fn end_this_process(end: &End) -> ! {
    eprint!("{}", end.stderr);
    print!("{}", end.stdout);
    let _ = std::io::stdout().flush();
    let signal = end.signal.and_then(|signal| i32::try_from(signal).ok());
    if let Some(signal) = signal.and_then(|signal| Signal::try_from(signal).ok()) {
        // No core is left behind.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        let _ = raise(signal);
        std::thread::sleep(Duration::from_secs(10));
    }
    std::process::exit(end.status.and_then(|status| i32::try_from(status).ok()).unwrap_or(1));
}
