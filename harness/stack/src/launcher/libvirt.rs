//! libvirt: it gets a machine as domain XML, and starts QEMU itself.
//!
//! QEMU is no process of the harness then: `virsh create` ends as soon as QEMU runs, paused, and libvirtd's QEMU is found by its
//! process identifier. libvirt keeps QEMU's first monitor to itself. The harness has a second one, which is a channel like any
//! other, so that the machine is asked and resumed as ever and nothing passes on what is said. libvirt follows a machine that is
//! resumed there, and marks it as tainted, which changes nothing.
//!
//! A snapshot contains no such machine: its libvirtd would have to be found again, too.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_vmm::guest::ExecOutput;
use nestmatrix_vmm::libvirt::domain_xml;
use nestmatrix_vmm::qemu::{Ended, Machine, Placement, cpu_time_in_stat, ran_out_of_resources};
use nestmatrix_vmm::shell::quote;
use tokio::net::UnixStream;

use super::{Launcher, Started};
use crate::host::{
    Diagnostics, Host, HostError, MachineHost, Pending, QemuEnd, RunningProcess, last_lines_of,
};

/// The folder of the programs in images, where libvirt, which wants whole paths, finds QEMU.
const PROGRAMS: &str = "/usr/bin";

/// The end of the domain XML in the script.
const END_OF_XML: &str = "nestmatrix-end-of-xml";

/// The exit status of the script if libvirt's daemon does not start.
const NO_DAEMON: i64 = 95;
/// The exit status if libvirt does not start the machine.
const NOT_CREATED: i64 = 98;
/// The exit status of the script that asks for QEMU's process if that has ended.
const HAS_ENDED: i64 = 99;

/// What `virsh` prints if it has no daemon to talk to (tools/virsh.c).
const NO_CONNECTION: &str = "failed to connect to the hypervisor";

/// What libvirt says if a QEMU that it started ended at once (src/qemu/qemu_monitor.c, src/qemu/qemu_process.c).
const ENDED_AT_ONCE: [&str; 3] =
    ["process exited while connecting to monitor", "unexpectedly closed the monitor", "process exited prior"];

/// What `virsh` says if libvirt fails itself (src/rpc/virnetsocket.c, src/util/virtime.c, src/conf/virdomainjob.c).
const OWN_FAILURES: [&str; 3] =
    ["End of file while reading data", "Timed out", "cannot acquire state change lock"];

/// Lets the libvirt of the host start the machine.
pub(super) struct Libvirt;

impl Launcher for Libvirt {
    fn launch<'a>(&'a self, machine: &'a Machine, host: &'a Rc<dyn Host>) -> Pending<'a, Started> {
        Box::pin(async move { start(machine, Rc::clone(host).machine_host()?).await })
    }
}

async fn start(machine: &Machine, host: Rc<dyn MachineHost>) -> Result<Started, HostError> {
    let near_ends = host.near_ends(machine.channels())?;
    let (xml, qemu) = (host.path_of(&format!("{}.xml", machine.label())), host.qemu().program);
    let written = write_script(machine, &*host, &qemu.to_string_lossy(), &xml);
    let script = host.bring_files(machine)? + &written + &create_script(machine, &xml);
    let output = host.run(&script).await?;
    let pid = pid_of_created(&output, host.name())?;
    let process: Box<dyn RunningProcess> = Box::new(Domain::new(machine, host, pid));
    let streams: BTreeMap<_, UnixStream> = near_ends.open(&*process).await?;
    Ok(Started { process, streams, relay: None })
}

/// The script that writes the domain XML of `machine` into the file `xml`. `qemu` is the program.
pub fn write_script(machine: &Machine, placement: &dyn Placement, qemu: &str, xml: &str) -> String {
    let emulator = if qemu.starts_with('/') { qemu.to_owned() } else { format!("{PROGRAMS}/{qemu}") };
    let document = domain_xml(machine, placement, &emulator);
    format!("cat >{} <<\\{END_OF_XML}\n{document}{END_OF_XML}\n", quote(xml))
}

/// The script that lets libvirt start `machine`, paused, from the domain XML in the file `xml`. The last line of its output is
/// QEMU's process identifier.
pub fn create_script(machine: &Machine, xml: &str) -> String {
    let name = machine.label();
    create(&said_script(&name), &name, &quote(xml))
}

fn create(said: &str, name: &str, xml: &str) -> String {
    format!(
        "virsh uri >/dev/null 2>&1 || libvirtd --daemon || exit {NO_DAEMON}
virsh create --paused {xml} >/dev/null || {{ {{ {said}; }} >&2; exit {NOT_CREATED}; }}
cat /run/libvirt/qemu/{name}.pid
"
    )
}

/// The command that prints what the QEMU of a domain has said. libvirt writes that into its log, with a time stamp, between lines of
/// its own: QEMU's command line, and what has happened to the domain.
pub fn said_script(name: &str) -> String {
    let own = r"-e '/ \\$/d' -e '/^-msg timestamp=on$/d' -e '/^[0-9-]* [0-9:.]*+0000: /d'";
    format!(
        "sed {own} -e 's/^[0-9-]*T[0-9:.]*Z //' {} 2>/dev/null",
        quote(&format!("/var/log/libvirt/qemu/{name}.log"))
    )
}

/// The command that succeeds if the process `pid` runs. A QEMU of libvirt that has ended can stay a zombie for long, since its parent is
/// the init of the level.
pub fn runs_script(pid: &str) -> String {
    format!("grep -q '^State:[[:blank:]]*[^ZX[:blank:]]' /proc/{pid}/status 2>/dev/null")
}

/// The process identifier in the output of [`create_script`].
fn pid_of_created(output: &ExecOutput, host: &str) -> Result<i64, HostError> {
    let [printed, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    let failed =
        |what: &str, why: String| HostError::Command { what: what.to_owned(), host: host.to_owned(), why };
    match output.status {
        Some(0) => {
            let pid = printed.lines().next_back().and_then(|line| line.trim().parse().ok());
            pid.ok_or_else(|| {
                failed("finding libvirt's QEMU", format!("its pid file has {:?}", printed.trim()))
            })
        }
        Some(NOT_CREATED) if errors.contains(NO_CONNECTION) => {
            Err(failed("connecting to libvirt", last_error_of(&errors)))
        }
        Some(NOT_CREATED) if ENDED_AT_ONCE.iter().any(|text| errors.contains(text)) => {
            let of_qemu = errors.lines().filter(|line| !line.starts_with("error: "));
            let of_qemu: Vec<&str> = of_qemu.filter(|line| !line.is_empty()).collect();
            // Some messages are nowhere else.
            let said = if of_qemu.is_empty() { errors.trim().to_owned() } else { of_qemu.join("\n") };
            Err(HostError::EndedAtStart(QemuEnd::new(Ended::Unseen, said.as_bytes())))
        }
        Some(NOT_CREATED) if is_no_refusal(&errors) => {
            Err(failed("starting a machine by libvirt", last_error_of(&errors)))
        }
        Some(NOT_CREATED) => Err(HostError::RefusedByLibvirt(last_error_of(&errors))),
        Some(NO_DAEMON) => Err(failed("starting libvirtd", last_lines_of(&errors))),
        _ => Err(failed("starting a machine by libvirt", last_lines_of(&format!("{printed}\n{errors}")))),
    }
}

/// Whether libvirt failed for a reason that is not the machine: a missing resource, a time limit, or its own end.
fn is_no_refusal(errors: &str) -> bool {
    ran_out_of_resources(errors) || OWN_FAILURES.iter().any(|text| errors.contains(text))
}

/// What `virsh` says that went wrong: its last message, which says why. The one before says only what failed.
fn last_error_of(errors: &str) -> String {
    let messages = errors.lines().filter_map(|line| line.strip_prefix("error: "));
    messages.map(str::trim).rfind(|line| !line.is_empty()).unwrap_or(errors.trim()).to_owned()
}

/// A machine that libvirt has started on a host.
struct Domain {
    host: Rc<dyn MachineHost>,
    name: String,
    pid: i64,
    /// Its end, once it is known.
    end: Rc<OnceCell<QemuEnd>>,
}

impl Domain {
    fn new(machine: &Machine, host: Rc<dyn MachineHost>, pid: i64) -> Self {
        Self { host, name: machine.label(), pid, end: Rc::default() }
    }

    /// Runs a script on the host to its end, even if this future is dropped: the host's agent would keep its output for ever.
    async fn run(&self, script: String) -> Result<ExecOutput, HostError> {
        let host = Rc::clone(&self.host);
        let run = tokio::task::spawn_local(async move { host.run(&script).await });
        run.await.map_err(|e| HostError::System {
            what: format!("asking {}", self.host.name()),
            source: std::io::Error::other(e),
        })?
    }

    /// Prints what is known about the end of QEMU, if it has ended: first whether the kernel has killed it because memory ran out.
    fn end_script(&self) -> String {
        let Self { pid, name, .. } = self;
        format!(
            "{} && exit
             dmesg 2>/dev/null | grep -q 'Killed process {pid} ' && echo killed || echo ended
             {}
             exit {HAS_ENDED}",
            runs_script(&pid.to_string()),
            said_script(name)
        )
    }
}

impl RunningProcess for Domain {
    fn cpu_time(&self) -> Pending<'_, Duration> {
        Box::pin(async move {
            let output = self.run(format!("cat /proc/{}/stat", self.pid)).await?;
            cpu_time_in_stat(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| HostError::Command {
                what: "reading QEMU's CPU time".into(),
                host: self.host.name().to_owned(),
                why: format!("its process {} is gone", self.pid),
            })
        })
    }

    fn ended(&self) -> Pending<'_, Option<QemuEnd>> {
        Box::pin(async move {
            if self.end.get().is_none() {
                let output = self.run(self.end_script()).await?;
                if output.status == Some(HAS_ENDED) {
                    // Another caller may have found the same end meanwhile.
                    let _ = self.end.set(end_of(&output));
                }
            }
            Ok(self.end.get().cloned())
        })
    }

    fn diagnostics(&self, with_kernel: bool) -> Pending<'_, Diagnostics> {
        Box::pin(async move {
            let log = self.host.path_of(&format!("{}.said", self.name));
            let script = format!(
                "{} >{}\n{}",
                said_script(&self.name),
                quote(&log),
                Diagnostics::script(self.pid, &log, with_kernel)
            );
            let output = self.run(script).await?;
            Ok(Diagnostics::parse(&String::from_utf8_lossy(&output.stdout)))
        })
    }

    /// Not by `virsh destroy`, which lets QEMU end by itself first and needs a daemon that answers.
    fn kill(&self) -> Pending<'_, ()> {
        Box::pin(async move {
            self.run(format!("kill -9 {}", self.pid)).await?;
            Ok(())
        })
    }
}

/// What the output of [`Domain::end_script`] says.
fn end_of(output: &ExecOutput) -> QemuEnd {
    const SIGKILL: i64 = 9;
    let printed = String::from_utf8_lossy(&output.stdout);
    let (how, said) = printed.split_once('\n').unwrap_or((&printed, ""));
    let ended = if how == "killed" { Ended::Signalled(SIGKILL) } else { Ended::Unseen };
    QemuEnd::new(ended, said.as_bytes())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn output(status: i64, stdout: &str, stderr: &str) -> ExecOutput {
        ExecOutput { status: Some(status), signal: None, stdout: stdout.into(), stderr: stderr.into() }
    }

    /// What libvirt 7.0 and 9.0 say.
    #[rstest]
    #[case::started(0, "142\n", "", "142")]
    #[case::no_pid(0, "", "", "finding libvirt's QEMU on L0: its pid file has \"\"")]
    #[case::no_daemon(
        95,
        "",
        "libvirtd: error: no user\n",
        "starting libvirtd on L0: libvirtd: error: no user"
    )]
    #[case::no_connection(
        98,
        "",
        "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/run/x': No such file or directory\n",
        "connecting to libvirt on L0: Failed to connect socket to '/run/x': No such file or directory"
    )]
    #[case::refused(
        98,
        "",
        "error: Failed to create domain from /run/nest/L1.xml\nerror: internal error: Unknown CPU model EPYC-Foo\n\n",
        "libvirt refused the machine: internal error: Unknown CPU model EPYC-Foo"
    )]
    #[case::ended(
        98,
        "",
        "error: Failed to create domain from /run/nest/L1.xml\nerror: internal error: qemu unexpectedly closed the monitor: 2026-11-29T04:18:32.337379Z qemu-system-x86_64: no\n\nqemu-system-x86_64: no\n",
        "QEMU ended: qemu-system-x86_64: no before it opened its channels"
    )]
    #[case::no_memory(
        98,
        "",
        "error: Failed to create domain from /run/nest/L1.xml\nerror: Cannot allocate memory\n",
        "starting a machine by libvirt on L0: Cannot allocate memory"
    )]
    #[case::daemon_ended(
        98,
        "",
        "error: Failed to create domain from /run/nest/L1.xml\nerror: End of file while reading data: Input/output error\n",
        "starting a machine by libvirt on L0: End of file while reading data: Input/output error"
    )]
    #[case::not_brought(
        97,
        "",
        "nestmatrix could not copy l1-kernel",
        "starting a machine by libvirt on L0: nestmatrix could not copy l1-kernel"
    )]
    fn the_end_of_the_script_says_what_happened(
        #[case] status: i64,
        #[case] printed: &str,
        #[case] errors: &str,
        #[case] expected: &str,
    ) {
        let what = match pid_of_created(&output(status, printed, errors), "L0") {
            Ok(pid) => pid.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(what, expected);
    }

    #[test]
    fn a_machine_that_is_not_created_comes_with_what_qemu_said() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "2026-11-29T04:18:31.789041Z qemu-system-x86_64: no\n").unwrap();
        let said = said_script("L1").replace("/var/log/libvirt/qemu/L1.log", log.to_str().unwrap());
        let script = format!("virsh() {{ [ \"$1\" = uri ]; }}\n{}", create(&said, "L1", "/xml"));
        let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        assert_eq!(output.status.code().map(i64::from), Some(NOT_CREATED), "{script}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "qemu-system-x86_64: no\n");
    }

    #[test]
    fn only_what_qemu_said_is_taken_from_the_log() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let text = "\
2026-11-29 04:18:31.716+0000: starting up libvirt version: 7.0.0, qemu version: 5.2.0
LC_ALL=C \\
/usr/bin/qemu-system-x86_64 \\
-name guest=L1,debug-threads=on \\
-msg timestamp=on
2026-11-29 04:18:31.716+0000: Domain id=1 is tainted: custom-argv
2026-11-29T04:18:31.789041Z qemu-system-x86_64: warning: a feature is not available
KVM internal error. Suberror: 1
2026-11-29 04:18:31.797+0000: shutting down, reason=crashed
";
        std::fs::write(log.path(), text).unwrap();
        let script = said_script("L1").replace("/var/log/libvirt/qemu/L1.log", log.path().to_str().unwrap());
        let printed = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&printed.stdout),
            "qemu-system-x86_64: warning: a feature is not available\nKVM internal error. Suberror: 1\n"
        );
    }

    #[test]
    fn a_zombie_does_not_run() {
        let runs = |pid: u32| {
            let script = runs_script(&pid.to_string());
            std::process::Command::new("/bin/sh").args(["-c", &script]).status().unwrap().success()
        };
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(runs(child.id()));
        drop(child.stdin.take());
        let stat = format!("/proc/{}/stat", child.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!runs(child.id()));
        child.wait().unwrap();
        assert!(!runs(child.id()));
    }

    #[test]
    fn a_qemu_that_the_kernel_killed_is_not_one_that_ended() {
        let end = end_of(&output(99, "killed\nqemu: last\n", ""));
        assert_eq!((end.ended, end.output.as_str()), (Ended::Signalled(9), "qemu: last"));
        assert_eq!(end_of(&output(99, "ended\n", "")).ended, Ended::Unseen);
    }
}
