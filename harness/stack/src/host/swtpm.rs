//! swtpm, which plays the TPM of a machine: started before the machine's QEMU, on the same host.
//!
//! On this machine it is a process of the harness, tied to it like QEMU. In a level it ends with the level. On both, it ends when
//! QEMU closes its connection.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::time::Duration;

use nestmatrix_vmm::qemu::{Machine, Placement, Process, SWTPM, Start, Stdio, TPM_READY, swtpm_arguments};
use nestmatrix_vmm::shell::quote;

use super::{HostError, QemuEnd, ThisMachine};

/// The exit status of a script that could not start swtpm in a level.
pub(super) const NOT_STARTED: i64 = 98;
/// The script's output in that case, before the reason. Both together distinguish this exit from QEMU's own.
pub(super) const NO_SWTPM: &str = "nestmatrix could not start swtpm";

/// How long swtpm may take until it takes connections, which is the first thing that it does. It may run in an emulator in an emulator.
const PATIENCE: Duration = Duration::from_secs(60);
/// Interval at which its file is looked for.
const POLL: Duration = Duration::from_millis(5);

/// Starts the swtpm of a machine on this machine, and waits until it takes connections; none if the machine has no TPM.
///
/// # Errors
/// It is missing, ends, or takes no connections.
pub(super) async fn start(host: &ThisMachine, machine: &Machine) -> Result<Option<Process>, HostError> {
    let Some(folder) = machine.hardware.tpm_folder() else { return Ok(None) };
    let what = || format!("starting {SWTPM}, which plays the TPM of {}", machine.label());
    let failed = |source: io::Error| HostError::System { what: what(), source };
    let command = |why: String| HostError::Command { what: what(), host: "this machine".to_owned(), why };
    let swtpm = host.swtpm.as_ref().ok_or_else(|| command("it is not available".to_owned()))?;
    let folder = host.sockets.join(folder);
    // A trial of a snapshot uses the name of an earlier machine.
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?,
    }
    let (program, mut arguments) = swtpm.command(SWTPM);
    arguments.extend(swtpm_arguments().into_iter().map(Into::into));
    let mut process = Process::start(&Start {
        wrapper: &host.wrapper_of_swtpm(machine, swtpm, &folder),
        program: &program,
        arguments: &arguments,
        environment: &[],
        folder: Some(&folder),
        output: &host.records.join(format!("{}.swtpm.log", machine.label())),
        stdio: Stdio::Record,
    })
    .map_err(failed)?;
    let ready = folder.join(TPM_READY);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !ready.exists() {
        if let Some(ended) = process.ended().map_err(failed)? {
            let end = QemuEnd::new(ended, process.output().as_bytes());
            return Err(command(format!("it {}", end.describe())));
        }
        if tokio::time::Instant::now() > deadline {
            return Err(command(format!("it took no connections within {} s", PATIENCE.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(Some(process))
}

/// The script that starts the swtpm of a machine in a level, from the archive on its disk; nothing if the machine has no TPM.
///
/// It runs in the shell that becomes QEMU. The exit status of a script that fails is not one of QEMU's.
pub fn script(machine: &Machine, placement: &dyn Placement) -> String {
    let (Some(folder), Some(archive)) = (machine.hardware.tpm_folder(), &machine.swtpm) else {
        return String::new();
    };
    let (folder, archive) = (quote(&placement.path_of(folder)), quote(&placement.disk(archive)));
    let tree = quote(&placement.path_of(SWTPM));
    let arguments: Vec<String> = swtpm_arguments().iter().map(|word| quote(word)).collect();
    let mut script = format!(
        "no_swtpm() {{ echo \"{NO_SWTPM}: $1\" >&2; exit {NOT_STARTED}; }}
         [ -e {tree}/complete ] || {{ mkdir -p {tree} && (cd {tree} && cpio -idu <{archive} && : >complete) 2>&1; }} ||
           no_swtpm \"its archive can't be unpacked\"
         (umask 077; rm -rf {folder}; mkdir {folder}) || no_swtpm \"its folder can't be made\"\n"
    );
    // Writing to a String can't fail.
    let _ = writeln!(
        script,
        "(umask 077; cd {folder} && exec {tree}/ld.so --library-path {tree}/libraries --argv0 {SWTPM} \
         {tree}/programs/{SWTPM} {}) </dev/null >{folder}/log 2>&1 &
         swtpm=$! tries=0
         while [ ! -e {folder}/{TPM_READY} ]; do
           [ -e /proc/$swtpm/exe ] || no_swtpm \"it ended: $(tail -n 1 {folder}/log)\"
           [ $tries -lt {} ] || no_swtpm 'it takes no connections'
           tries=$((tries + 1)); sleep 0.1
         done",
        arguments.join(" "),
        PATIENCE.as_millis() / 100
    );
    script
}

/// The state of a process in the text of its `/proc/PID/stat` (proc_pid_stat(5), field 3).
pub(super) fn state_in(stat: &str) -> Option<char> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_process_is_read_behind_its_name() {
        assert_eq!(state_in("42 (a) b) T 1 42"), Some('T'));
        assert_eq!(state_in(""), None);
    }
}
