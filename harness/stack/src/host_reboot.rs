//! The reboot of this machine, which is L0 on native metal, as a step of a scenario. The harness ends with the machine. So the boot of
//! the stack ends there, and another one, after the reboot, continues behind the step.

use nestmatrix_model::{LevelNumber, Step};
use serde::{Deserialize, Serialize};

use super::stack::Stack;
use super::{StepRecord, Stop};

/// What was done to a stack before this machine was rebooted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostReboot {
    /// The results of the steps before the reboot, in the order in which they ran.
    pub steps: Vec<StepRecord>,
    /// The number that the machine's kernel had given itself.
    pub boot_id: String,
}

impl Stack<'_> {
    /// Ends the boot where this machine is to be rebooted.
    pub(super) async fn end_for_host_reboot(&mut self, level: LevelNumber) -> Stop {
        match self.boot_id(level).await {
            Ok(id) => {
                self.ledger.host_boot_id = Some(id);
                Stop::interrupted(self.stage)
            }
            Err(stop) => stop,
        }
    }

    /// Whether a step was taken before this machine was rebooted, or is that reboot. Its result is recorded.
    pub(super) async fn was_taken_before_reboot(&mut self, step: &Step) -> Result<bool, Stop> {
        let Some(rebooted) = self.rebooted.as_mut() else { return Ok(false) };
        if let Some(record) = (!rebooted.steps.is_empty()).then(|| rebooted.steps.remove(0)) {
            if record.name != step.name || record.on != step.on {
                let why = format!("the scenario has changed since the reboot: {:?} came first", record.name);
                return Err(self.harness(why));
            }
            self.ledger.add_step(record);
            return Ok(true);
        }
        let before = std::mem::take(&mut rebooted.boot_id);
        self.rebooted = None;
        let after = self.boot_id(step.on).await?;
        if after == before {
            let why = format!("this machine was to be rebooted, and still has boot id {after}");
            return Err(self.harness(why));
        }
        let nested = self.ledger.level(step.on).nested.clone();
        self.ledger.add_step(StepRecord {
            name: step.name.clone(),
            on: step.on,
            action: step.action.word().to_owned(),
            run: None,
            status: None,
            output: format!(
                "{} is up again; nested={}",
                step.on,
                nested.unwrap_or_else(|| "is absent".into())
            ),
            suite: None,
            benchmark: None,
        });
        Ok(true)
    }
}
