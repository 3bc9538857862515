//! Queries a Windows level that must start guests, and stops the stack if it can't.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nestmatrix_model::LevelNumber;

use super::clock::ClockReading;
use super::level::{Hosting, Level, Up};
use super::machines::MachineId;
use super::stack::Stack;
use super::{Limit, Stop, Symptom};
use crate::host::{HostError, WindowsLevel};

/// The pause between two questions whether a level is ready. Each starts a PowerShell there.
const PAUSE: Duration = Duration::from_secs(2);

/// Why a Windows whose role is ready can start no guests after all.
const NO_ROOT: &str = "Windows says that it runs on no Hyper-V of its own (root-partition)";

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
                return Err(self.no_hypervisor(level, &windows, Some(NO_ROOT.to_owned())));
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
        let ready = self.during_within(Limit { silence: longest, total: longest }, id, work).await;
        ready.map_err(|stop| match stop.is_timeout() {
            true => self.no_hypervisor(id.level, windows, last.take()),
            false => stop,
        })
    }

    fn no_hypervisor(&self, level: LevelNumber, windows: &WindowsLevel, why: Option<String>) -> Stop {
        let role = windows.role().title().to_owned();
        Stop::stack(self.stage, Symptom::NoHypervisor { level, role, why })
    }

    /// Whether a level is a Windows.
    pub(super) fn is_windows(&self, level: LevelNumber) -> bool {
        self.request.level(level).is_some_and(|plan| plan.image.windows().is_some())
    }
}
