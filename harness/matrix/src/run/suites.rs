//! Whether the test suites and the programs that a cell's steps run, or measure with, are there.

use nestmatrix_model::{BootKind, Isa, LevelNumber, PROGRAM, Step};

use super::fate::Planner;
use crate::records::SkipReason;
use crate::scenario::Cell;

impl Planner<'_> {
    /// The first suite that a cell needs and that can't run, and why. Without images nothing is known of suites either.
    pub(super) fn without_suite(&self, cell: &Cell) -> Option<SkipReason> {
        let kinds = cell.steps.iter().filter_map(Step::suite_kind);
        let mut missing = kinds.filter_map(|suite| {
            let isa = cell.architecture.isa();
            let added = || self.catalog.suites().iter().any(|built| built.kind() == suite);
            let why = if isa != Isa::Amd64 {
                format!("{suite} has tests for {}, not for {isa}", Isa::Amd64)
            } else if !self.options.suppose_images && !added() {
                format!(
                    "no {suite} (add a folder in which it was built: `{PROGRAM} payloads add {suite} FOLDER`)"
                )
            } else {
                return None;
            };
            Some(SkipReason::NoSuite { suite, why })
        });
        missing.next()
    }

    /// The first program that a cell needs and that can't run, and why.
    pub(super) fn without_payload(&self, cell: &Cell) -> Option<SkipReason> {
        let of_steps = cell.steps.iter().filter_map(|step| Some((step.on, &step.payload()?.name)));
        let mut missing = of_steps.filter_map(|(level, name)| {
            let why = self.why_not(cell, level, name)?;
            Some(SkipReason::NoPayload { payload: name.clone(), why })
        });
        missing.next()
    }

    fn why_not(&self, cell: &Cell, level: LevelNumber, name: &str) -> Option<String> {
        let unified =
            cell.levels.iter().any(|spec| spec.level == level && spec.boots == Some(BootKind::UnifiedKernel));
        if unified && level == cell.innermost() {
            return Some(format!(
                "{level} boots a unified kernel image, whose initramfs can't bring a program"
            ));
        }
        // Without images nothing is known of programs either.
        if self.options.suppose_images {
            return None;
        }
        let Some(program) = self.catalog.programs().iter().find(|program| program.name() == name) else {
            return Some(format!(
                "no payload {name} (add a program: `{PROGRAM} payloads add {name} PROGRAM`)"
            ));
        };
        let (isa, path) = (cell.architecture.isa(), program.program().display());
        match program.elf() {
            Err(e) => Some(format!("payload {name}: {e}")),
            Ok(Some(elf)) if elf.isa != Some(isa) => {
                let of = elf.isa.map_or("another processor".to_owned(), |isa| isa.to_string());
                Some(format!("payload {name}: {path} is a program for {of}, and the levels are {isa}"))
            }
            Ok(Some(elf)) if elf.interpreter.is_some() && Some(isa) != Isa::of_this_machine() => {
                Some(format!(
                    "payload {name}: {path} needs libraries of another architecture than this machine's; link it statically"
                ))
            }
            Ok(_) => None,
        }
    }
}
