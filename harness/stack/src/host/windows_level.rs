//! A booted Windows as a host: the commands of its role run through its agent, as scripts of PowerShell.
//!
//! It has no POSIX shell, and no QEMU runs in it. A launcher lets its role start a guest (`launcher/windows.rs`).

use std::rc::Rc;
use std::sync::Arc;

use nestmatrix_images::{RoleCommand, RoleValues, WindowsRole};
use nestmatrix_model::LevelNumber;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_vmm::guest::{Agent, ExecOutput, excerpt, powershell_error, printable};
use serde::{Deserialize, Serialize};

use super::{ClosingReport, Facts, Host, HostError, MachineHost, Pending, cpus_in};

/// What Windows reports about its own Hyper-V. It takes the place of what a QEMU reports about KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HyperVReport {
    /// Windows is the root partition: its Hyper-V runs, and can run guests.
    pub root_partition: bool,
    /// Its Hyper-V knows that it runs in a virtual machine. It knows if that has Hyper-V's interface for it.
    pub nested: bool,
}

/// A Windows whose agent answers.
#[derive(Debug, Clone)]
pub struct WindowsLevel {
    name: String,
    agent: Agent,
    role: Arc<WindowsRole>,
}

impl WindowsLevel {
    /// The level with this number and agent, which was prepared for this role.
    pub fn new(level: LevelNumber, agent: Agent, role: Arc<WindowsRole>) -> Self {
        Self { name: level.to_string(), agent, role }
    }

    /// What it was prepared for.
    pub(crate) fn role(&self) -> &WindowsRole {
        &self.role
    }

    /// Why it can't start guests yet, by its role's own test; none if it can.
    pub(crate) async fn why_not_ready(&self) -> Result<Option<String>, HostError> {
        if !self.role.has(RoleCommand::Ready) {
            return Ok(None);
        }
        let output = self.end_of(RoleCommand::Ready, &RoleValues::default()).await?;
        Ok(failure(&output))
    }

    /// What a command of its role prints.
    ///
    /// # Errors
    /// The agent does not do it, or the command fails.
    pub(crate) async fn ask(&self, command: RoleCommand, values: &RoleValues) -> Result<Vec<u8>, HostError> {
        let output = self.end_of(command, values).await?;
        match failure(&output) {
            None => Ok(output.stdout),
            Some(why) => Err(self.failed(command, why)),
        }
    }

    /// The error of a command of its role.
    pub(crate) fn failed(&self, command: RoleCommand, why: String) -> HostError {
        let what = format!("[{command}] of the role {}", self.role.name());
        HostError::Command { what, host: self.name.clone(), why }
    }

    async fn end_of(&self, command: RoleCommand, values: &RoleValues) -> Result<ExecOutput, HostError> {
        let script = self.role.script(command, values);
        let script = script.ok_or_else(|| self.failed(command, "the role has no such command".to_owned()))?;
        Ok(self.agent.run_powershell(&script).await?)
    }

    async fn facts(&self) -> Result<String, HostError> {
        let printed = self.ask(RoleCommand::Facts, &RoleValues::default()).await?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    fn without(&self, what: &str, why: &str) -> HostError {
        HostError::Command { what: what.to_owned(), host: self.name.clone(), why: why.to_owned() }
    }
}

impl Host for WindowsLevel {
    fn name(&self) -> &str {
        &self.name
    }

    fn run<'a>(&'a self, _script: &'a str) -> Pending<'a, ExecOutput> {
        let error =
            self.without("running a script of a POSIX shell", "it is Windows, which has no such shell");
        Box::pin(std::future::ready(Err(error)))
    }

    fn machine_host(self: Rc<Self>) -> Result<Rc<dyn MachineHost>, HostError> {
        let why = format!("it is Windows with the role {}, which runs no QEMU", self.role.name());
        Err(self.without("starting QEMU", &why))
    }

    fn windows(self: Rc<Self>) -> Option<Rc<WindowsLevel>> {
        Some(self)
    }

    fn report(&self) -> Pending<'_, ExecOutput> {
        Box::pin(self.report_of_role())
    }

    /// What it says about itself, and what its role has to say about a failure.
    fn closing_report(&self) -> Pending<'_, ClosingReport> {
        Box::pin(async move {
            // Neither command must hide what the other one says.
            let (facts, trouble) = match self.facts().await {
                Ok(facts) => (facts, None),
                // Without its agent, there is nothing more to ask.
                Err(HostError::Agent(error)) => return Err(error.into()),
                Err(error) => (String::new(), Some(error)),
            };
            let mut messages = facts.clone();
            messages.extend(trouble.map(|error| format!("{error}\n")));
            if self.role.has(RoleCommand::Diagnostics) {
                match self.ask(RoleCommand::Diagnostics, &RoleValues::default()).await {
                    Ok(printed) => messages.push_str(&String::from_utf8_lossy(&printed)),
                    Err(error) => messages.push_str(&format!("{error}\n")),
                }
            }
            let uptime = read_facts(&facts).uptime;
            Ok(ClosingReport { messages: kept(&messages), uptime, ..ClosingReport::default() })
        })
    }

    fn facts<'a>(&'a self, _: &'a ArchInfo, _: &'a str) -> Pending<'a, Facts> {
        Box::pin(async move { Ok(read_facts(&self.facts().await?)) })
    }
}

impl WindowsLevel {
    async fn report_of_role(&self) -> Result<ExecOutput, HostError> {
        let output = self.end_of(RoleCommand::Report, &RoleValues::default()).await?;
        let stderr = powershell_error(&output.stderr).into_bytes();
        Ok(ExecOutput { stderr, ..output })
    }
}

/// How much of what a Windows says about itself at the end is kept, in bytes.
const KEPT_MESSAGES: usize = 1 << 20;

/// The beginning of what a Windows says about itself, printable line by line.
fn kept(messages: &str) -> String {
    let kept = messages.lines().map(printable).collect::<Vec<_>>().join("\n");
    let longest = kept.char_indices().map(|(at, _)| at).take_while(|at| *at <= KEPT_MESSAGES).last();
    match longest.filter(|_| kept.len() > KEPT_MESSAGES) {
        Some(end) => kept[..end].to_owned(),
        None => kept,
    }
}

/// How a script of PowerShell failed, if it did.
fn failure(output: &ExecOutput) -> Option<String> {
    let how = match (output.status, output.signal) {
        (Some(0), None) => return None,
        (_, Some(exception)) => format!("PowerShell was ended by the exception {exception:#x}"),
        (Some(status), None) => format!("PowerShell exited with status {status}"),
        (None, None) => "PowerShell ended, and its agent does not say how".to_owned(),
    };
    Some(match powershell_error(&output.stderr) {
        message if message.is_empty() => how,
        message => format!("{how}: {message}"),
    })
}

/// Reads what the role's `[facts]` print. No value is longer than an [`excerpt`].
fn read_facts(printed: &str) -> Facts {
    let is_true = |value: &str| value.eq_ignore_ascii_case("true");
    let mut facts = Facts::default();
    let (mut root_partition, mut nested) = (None, false);
    for line in printed.trim_start_matches('\u{feff}').lines() {
        match line.trim().split_once('=') {
            Some(("kernel", value)) => facts.kernel = excerpt(value),
            Some(("system", value)) => facts.os = excerpt(value),
            Some(("version", value)) => facts.os_version = excerpt(value),
            Some(("cpus", value)) => facts.cpus = cpus_in(value),
            Some(("uptime", value)) => facts.uptime = value.parse().ok(),
            Some(("root-partition", value)) => root_partition = Some(is_true(value)),
            Some(("nested-hypervisor", value)) => nested = is_true(value),
            _ => {}
        }
    }
    facts.hyper_v = root_partition.map(|root_partition| HyperVReport { root_partition, nested });
    facts
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn what_windows_says_about_itself_is_read_whatever_else_it_prints() {
        let printed = "\u{feff}kernel=10.0.20348.587\r\nsystem=windows-server\r\nversion=2022\r\nedition=ServerStandard\r\n\
                       cpus=0-1\r\nuptime=73\r\nroot-partition=True\r\nnested-hypervisor=False\r\nWARNING: x\r\n";
        let facts = read_facts(printed);
        assert_eq!(
            (facts.kernel.as_str(), facts.os.as_str(), facts.os_version.as_str()),
            ("10.0.20348.587", "windows-server", "2022")
        );
        assert_eq!((facts.cpus, facts.uptime), (Some(2), Some(73.0)));
        assert_eq!(facts.hyper_v, Some(HyperVReport { root_partition: true, nested: false }));
        assert_eq!(
            read_facts("nested-hypervisor=True\n").hyper_v,
            None,
            "it does not say that its own one runs"
        );
    }

    #[test]
    fn what_windows_says_at_the_end_is_kept_printable_and_only_so_much() {
        assert_eq!(
            kept("root-partition=True\r\nan \u{1b}[2Jevent\r\n"),
            "root-partition=True\nan \\u{1b}[2Jevent"
        );
        let long = kept(&format!("{}\u{e9}x", "x".repeat(KEPT_MESSAGES - 1)));
        assert_eq!(long.len(), KEPT_MESSAGES - 1);
    }

    #[rstest]
    #[case::success(Some(0), None, "", None)]
    #[case::by_itself(Some(1), None, "", Some("PowerShell exited with status 1"))]
    #[case::with_reason(
        Some(1),
        None,
        "#< CLIXML\r\n<Objs><S S=\"Error\">there is no volume NESTGUEST_x000D__x000A_</S></Objs>",
        Some("PowerShell exited with status 1: there is no volume NESTGUEST")
    )]
    #[case::by_an_exception(
        None,
        Some(0xc000_0005),
        "",
        Some("PowerShell was ended by the exception 0xc0000005")
    )]
    #[case::unknown(None, None, "", Some("PowerShell ended, and its agent does not say how"))]
    fn a_failure_is_told_with_its_message(
        #[case] status: Option<i64>,
        #[case] signal: Option<i64>,
        #[case] stderr: &str,
        #[case] expected: Option<&str>,
    ) {
        let output = ExecOutput { status, signal, stdout: Vec::new(), stderr: stderr.into() };
        assert_eq!(failure(&output).as_deref(), expected);
    }
}
