//! The TPM of a machine. swtpm plays it: a process beside QEMU on the same host, which QEMU reaches through a Unix socket
//! (QEMU: docs/specs/tpm.rst).
//!
//! QEMU hands swtpm a descriptor over that socket, so no other kind of channel can replace it.

use serde_json::Value;

use crate::wire::CallError;

use super::Monitor;
use super::hardware::optional;

/// The program that plays TPMs.
pub const SWTPM: &str = "swtpm";

/// QEMU's identifier of the TPM, of its back end, and of the channel to swtpm.
pub(super) const ID: &str = "nest-tpm";

/// The name of swtpm's socket in its folder.
pub const TPM_SOCKET: &str = "socket";

/// The name of a file in swtpm's folder that appears when swtpm takes connections.
pub const TPM_READY: &str = "pid";

/// The name of the folder that swtpm has for the machine with this label. It holds the TPM's secrets.
pub fn tpm_folder(label: &str) -> String {
    format!("tpm-{label}")
}

/// swtpm's arguments. It works in its folder, so no path is in them, and ends when QEMU does (swtpm(8), `--terminate`).
pub fn swtpm_arguments() -> Vec<String> {
    let socket = format!("type=unixio,path={TPM_SOCKET},mode=0600");
    let ready = format!("file={TPM_READY}");
    let state = "dir=.,mode=0600";
    let words = ["socket", "--tpm2", "--tpmstate", state, "--ctrl", &socket, "--pid", &ready, "--terminate"];
    words.map(str::to_owned).into()
}

/// Whether QEMU has a TPM of this model, which an emulator plays (`query-tpm`).
pub(super) async fn has_tpm(monitor: &Monitor, model: &str) -> Result<bool, CallError> {
    let tpms = optional(monitor.call("query-tpm", Value::Null).await)?;
    let is_it =
        |tpm: &Value| tpm["id"] == ID && tpm["model"] == model && tpm["options"]["type"] == "emulator";
    Ok(tpms.as_array().is_some_and(|tpms| tpms.iter().any(is_it)))
}

/// Whether a reply to `query-chardev` shows that QEMU has lost swtpm (QEMU: chardev/char-socket.c).
pub fn has_lost_swtpm(channels: &Value) -> bool {
    let is_lost = |channel: &Value| {
        let name = channel["filename"].as_str().unwrap_or_default();
        channel["label"] == ID && name.starts_with("disconnected:")
    };
    channels.as_array().is_some_and(|channels| channels.iter().any(is_lost))
}

/// Whether `said`, which a QEMU printed before it ended, is about an swtpm that does not serve it (QEMU: backends/tpm/tpm_emulator.c,
/// chardev/char-socket.c).
pub fn blames_swtpm(said: &str) -> bool {
    let is_about_it = |line: &str| {
        line.contains("tpm-emulator: ") || (line.contains(ID) && line.contains("Failed to connect"))
    };
    said.lines().any(is_about_it)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_swtpm_that_has_ended_is_seen_by_its_channel() {
        let channels = |name: &str| json!([{"label": "qmp", "filename": "disconnected:unix:/a"}, {"label": ID, "filename": name}]);
        assert!(has_lost_swtpm(&channels("disconnected:unix:/run/nest/tpm-L1/socket")));
        assert!(!has_lost_swtpm(&channels("unix:")));
        assert!(!has_lost_swtpm(&Value::Null));
    }

    #[test]
    fn what_qemu_says_about_swtpm_differs_from_a_refused_device() {
        let connect = "qemu: -chardev socket,id=nest-tpm,path=/x/socket: Failed to connect to '/x/socket': Connection refused";
        assert!(blames_swtpm(connect));
        assert!(blames_swtpm("qemu: tpm-emulator: TPM result for CMD_INIT: 0x9 operation failed"));
        assert!(!blames_swtpm(
            "qemu: -device tpm-crb,id=nest-tpm: 'tpm-crb' is not a valid device model name"
        ));
    }

    #[test]
    fn swtpm_gets_no_path_that_its_options_could_split() {
        assert!(swtpm_arguments().iter().all(|argument| !argument.contains('/')));
    }
}
