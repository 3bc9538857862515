//! Leaves a script in a cell's folder that boots its stack without nestmatrix.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nestmatrix_stack::Limits;

use super::cell::image_of;
use super::execute::Run;
use super::{Fate, Planned, PlannedLevel};
use crate::records::{CellRecord, ImageRecord, VerdictWord, now, write_whole};
use crate::reproduce::{ImageName, Reproduction, SCRIPT, Stopped, ToldLevel};
use crate::scenario::Tier;

impl Run {
    /// Writes the script of a cell that was tried. There is none where its images could not be had.
    pub(super) fn write_script(
        &self,
        planned: &Planned,
        record: &CellRecord,
        folder: &Path,
    ) -> io::Result<()> {
        let Fate::Boots { metal, levels } = &planned.fate else { return Ok(()) };
        let (Ok(mut plan), Ok((program, emulator))) =
            (self.stack_plan(planned, Path::new("")), self.outermost(planned))
        else {
            return Ok(());
        };
        let cell = &planned.cell;
        let innermost = record.levels.iter().find(|level| level.level == plan.innermost());
        plan.leaf = innermost
            .and_then(|level| plan.profile.innermost_machine_of_type(level.seen.machine.as_deref()?));
        let launched = record.levels.iter().filter(|level| level.seen.machine.is_some());
        let by_default = launched.filter(|level| level.seen.firmware.is_none());
        plan.default_firmware = by_default.map(|level| level.level).collect();
        let stopped = match (record.stage, &record.symptom_data) {
            (Some(stage), Some(symptom)) => Some(Stopped { stage, symptom }),
            _ => None,
        };
        let reproduction = Reproduction {
            cell: record.cell.as_str(),
            title: &cell.title,
            document: format!(
                "{}: {} ({})",
                cell.document,
                cell.claims.join(", "),
                Tier::listed(cell.tiers.values().copied())
            ),
            expected: cell.expectation.to_string(),
            verdict: record.verdict.to_string(),
            stopped,
            documented: documented(record),
            harness_at_fault: record.verdict == VerdictWord::Error,
            seen: format!("{} by nestmatrix {}", now(), env!("CARGO_PKG_VERSION")),
            plan: &plan,
            steps: &cell.steps,
            faults: &cell.faults,
            limits: Limits::new(*metal, self.setting.timeout_scale),
            program,
            emulator: image_of(&emulator).map(|image| ImageName::from(&ImageRecord::from(image))),
            levels: levels.iter().map(|level| self.told(level, record)).collect(),
        };
        let Some(script) = reproduction.script() else {
            tracing::warn!("{} has a control character in what it boots, and so gets no {SCRIPT}", cell.name);
            return Ok(());
        };
        write_whole(folder, SCRIPT, &script)?;
        fs::set_permissions(folder.join(SCRIPT), fs::Permissions::from_mode(0o755))
    }

    fn told(&self, level: &PlannedLevel, record: &CellRecord) -> ToldLevel {
        let image = level.boots.as_ref().and_then(|key| self.image(key).ok());
        let seen = record.levels.iter().find(|seen| seen.level == level.spec.level).map(|level| &level.seen);
        let of_image = image.and_then(|image| image.kernel_version());
        let kernel = of_image.map(|kernel| format!("{} ({})", kernel.release, kernel.version));
        ToldLevel {
            level: level.spec.level,
            required: level.spec.system.to_string(),
            os: level.choice.image.clone(),
            stand_in: level.choice.stand_in,
            kernel: kernel.or_else(|| seen?.kernel.clone()),
            qemu: seen.and_then(|seen| seen.qemu.clone()),
            image: image.map(|image| ImageName::from(&ImageRecord::from(image))),
        }
    }
}

/// Which of the texts that the document, or experience, has in such a symptom was seen.
fn documented(record: &CellRecord) -> Option<&str> {
    record.described()?.symptom.as_ref()?.found_in(record.symptom.as_deref()?)
}

impl From<&ImageRecord> for ImageName {
    fn from(image: &ImageRecord) -> Self {
        let ImageRecord { recipe, product, digest } = image.clone();
        Self { recipe, product, digest }
    }
}
