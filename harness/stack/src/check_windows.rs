//! Queries a Windows level that must start guests, and stops the stack if it can't.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nestmatrix_images::RoleCommand;
use nestmatrix_model::LevelNumber;

use super::clock::ClockReading;
use super::level::{Hosting, Level, Up};
use super::machines::MachineId;
use super::stack::Stack;
use super::{Limit, Stop, Symptom};
use crate::host::{Host as _, HostError, WindowsLevel};

/// The pause between two questions whether a level is ready. Each starts a PowerShell there.
const PAUSE: Duration = Duration::from_secs(2);

/// Why a Windows whose role is ready can start no guests after all.
const NO_ROOT: &str = "Windows says that it runs on no Hyper-V of its own (root-partition)";

/// How much longer than another level a Windows may take for its last words: each command starts a PowerShell.
pub(super) const PATIENCE: u32 = 3;

impl Stack<'_> {
    /// Waits until a Windows level that has just come up can start guests, and queries it.
    pub(super) async fn inspect_windows(
        &mut self,
        up: &Level<Up>,
        windows: Rc<WindowsLevel>,
    ) -> Result<Level<Hosting>, Stop> {
        let (id, level, plan) = (up.id, up.id.level, self.request.plan);
        let host = Rc::clone(&up.state.host);
        self.wait_until_ready(id, &windows).await?;
        let facts = self.during(id, host.facts(plan.profile, "")).await?;
        self.check_kernel(id, &facts.kernel)?;
        self.check_system(id, &facts.os, &facts.os_version)?;
        self.check_cpus(id, facts.cpus)?;
        self.check_swtpms().await?;
        if let Some(report) = facts.hyper_v {
            self.ledger.measured(id).hyper_v.insert(level, report);
            if !report.root_partition {
                return Err(self.no_hypervisor(level, &windows, NO_ROOT.to_owned()));
            }
        }
        if !id.second {
            let reading = facts.uptime.map(|uptime| ClockReading { at: Instant::now(), uptime });
            self.clocks.first_reading(level, reading);
        }
        let hosting = up.becomes(Hosting { host, facts });
        if !id.second {
            self.levels.add_hosting(hosting.clone());
        }
        Ok(hosting)
    }

    /// Polls the test of its role until it succeeds, for as long as the role says.
    async fn wait_until_ready(&mut self, id: MachineId, windows: &WindowsLevel) -> Result<(), Stop> {
        let last = RefCell::new(None);
        let work = async {
            while let Some(why) = windows.why_not_ready().await? {
                last.replace(Some(why));
                tokio::time::sleep(PAUSE).await;
            }
            Ok::<(), HostError>(())
        };
        let longest = self.limits.run.scaled(windows.role().ready_limit().as_secs_f64());
        match self.during_within(Limit { silence: longest, total: longest }, id, work).await {
            Err(stop) if stop.is_timeout() => Err(self.never_ready(id, windows, last.take(), stop).await),
            ready => ready,
        }
    }

    /// What it means that a Windows did not get ready in time. Only its own word that no Hyper-V runs counts against what is under test:
    /// a service of Windows, its preparation or its agent may be at fault.
    async fn never_ready(
        &self,
        id: MachineId,
        windows: &WindowsLevel,
        last: Option<String>,
        mut timeout: Stop,
    ) -> Stop {
        let longest = self.limits.run.diagnostics() * PATIENCE;
        let asked = windows.facts(self.request.plan.profile, "");
        let mut cancellation = self.watch.cancellation();
        let asked = tokio::select! {
            asked = tokio::time::timeout(longest, asked) => asked,
            () = cancellation.requested() => return Stop::interrupted(self.stage),
        };
        let report = asked.ok().and_then(Result::ok).and_then(|facts| facts.hyper_v);
        let last = last.map(|why| windows.failed(RoleCommand::Ready, why).to_string());
        match (report.map(|report| report.root_partition), last) {
            (Some(false), None) => self.no_hypervisor(id.level, windows, NO_ROOT.to_owned()),
            (Some(false), Some(why)) => self.no_hypervisor(id.level, windows, format!("{NO_ROOT}; {why}")),
            (Some(true), Some(why)) => self
                .harness(format!("its Hyper-V runs, but {} is not ready: {why}", id.level))
                .about(id.level),
            (Some(true) | None, last) => {
                if let (Symptom::Timeout { last_line, .. }, Some(why)) = (&mut timeout.symptom, last) {
                    *last_line = Some(format!("nestmatrix: {why}"));
                }
                timeout
            }
        }
    }

    fn no_hypervisor(&self, level: LevelNumber, windows: &WindowsLevel, why: String) -> Stop {
        let role = windows.role().title().to_owned();
        Stop::stack(self.stage, Symptom::NoHypervisor { level, role, why: Some(why) })
    }

    /// Whether a level is a Windows.
    pub(super) fn is_windows(&self, level: LevelNumber) -> bool {
        self.request.level(level).is_some_and(|plan| plan.image.windows().is_some())
    }
}
