//! Leaves a script in a cell's folder that boots its stack without nestmatrix.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nestmatrix_images::replace_file;
use nestmatrix_stack::Limits;

use super::execute::Run;
use super::level_plan::disk_name;
use super::ready_cell::{ReadyCell, ReadyLevel};
use crate::records::{CellRecord, DiskRecord, ImageRecord, VerdictWord, now};
use crate::reproduce::{FirmwareSummary, ImageName, LevelSummary, Reproduction, SCRIPT, Stopped};
use crate::scenario::Tier;

impl Run {
    /// Writes the script of a cell that was booted. There is none if an image is missing.
    pub(super) fn write_script(
        &self,
        ready: &ReadyCell,
        record: &CellRecord,
        folder: &Path,
    ) -> io::Result<()> {
        let (Ok(mut plan), Ok(outermost)) = (ready.stack.clone(), &ready.outermost) else { return Ok(()) };
        let cell = &ready.cell;
        for level in plan.levels.iter_mut().filter(|level| level.disk.is_some()) {
            level.disk = Some(disk_name(level.level).into());
        }
        let innermost = record.levels.iter().find(|level| level.level == plan.innermost());
        plan.innermost_machine = innermost
            .and_then(|level| plan.profile.innermost_machine_of_type(level.seen.machine.as_deref()?));
        let launched = record.levels.iter().filter(|level| level.seen.machine.is_some());
        let by_default = launched.filter(|level| level.seen.firmware.is_none());
        // The script migrates nothing, but its machines have the types that both QEMUs have.
        for level in record.levels.iter().filter(|level| plan.other_qemus.contains_key(&level.level)) {
            let seen = level.seen.machine.as_deref().unwrap_or_default();
            let machine_type = seen.strip_suffix("-machine").unwrap_or(seen);
            plan.machine_types.extend((!seen.is_empty()).then(|| (level.level, machine_type.to_owned())));
        }
        plan.other_qemus.clear();
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
            changes_host: ready.changes_host,
            limits: Limits::new(ready.metal, self.setting.timeout_scale),
            program: outermost.program,
            emulator: outermost.image().map(|image| ImageName::from(&ImageRecord::from(image))),
            levels: ready.levels.iter().map(|level| level.summary(record)).collect(),
        };
        let Some(script) = reproduction.script() else {
            tracing::warn!("{} has a control character in what it boots, and so gets no {SCRIPT}", cell.name);
            return Ok(());
        };
        replace_file(&folder.join(SCRIPT), &script)?;
        fs::set_permissions(folder.join(SCRIPT), fs::Permissions::from_mode(0o755))
    }
}

impl ReadyLevel {
    /// What the top of the script says about this level.
    fn summary(&self, record: &CellRecord) -> LevelSummary {
        let Self { planned, image, uefi, swtpm, other_qemu: _, guest: _ } = self;
        let level = planned.spec.level;
        let seen = record.levels.iter().find(|seen| seen.level == level).map(|level| &level.seen);
        let kernel = self.kernel().map(|kernel| format!("{} ({})", kernel.release, kernel.version));
        LevelSummary {
            level,
            required: planned.spec.system.to_string(),
            os: planned.choice.image.clone(),
            fidelity: planned.choice.fidelity,
            kernel: kernel.or_else(|| seen?.kernel.clone()),
            qemu: seen.and_then(|seen| seen.qemu.clone()),
            image: image.as_ref().map(|image| ImageName::from(&ImageRecord::from(image))),
            disk: image.as_ref().and_then(DiskRecord::of).map(|disk| disk.in_full()),
            uefi: uefi.as_ref().map(|uefi| FirmwareSummary {
                about: uefi.to_string(),
                image: uefi.image().as_ref().map(ImageName::from),
            }),
            swtpm: swtpm.as_ref().map(|image| ImageName::from(&ImageRecord::from(image))),
        }
    }
}

/// Which of the expected texts, from the document or from earlier runs, was seen in the symptom.
fn documented(record: &CellRecord) -> Option<&str> {
    record.described()?.symptom.as_ref()?.found_in(record.symptom.as_deref()?)
}

impl From<&ImageRecord> for ImageName {
    fn from(image: &ImageRecord) -> Self {
        let ImageRecord { recipe, product, digest } = image.clone();
        Self { recipe, product, digest }
    }
}
