//! Outcomes, stages, systems and numbers in words for people who know the product and not this project.

use std::collections::BTreeSet;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Fidelity, LevelNumber, Stage, StageKind};

use crate::document_errata::{Deviation, Observation};
use crate::records::LevelRecord;
use crate::scenario::{Document, Expectation, StopStage, Tier};

/// `1 try`, `2 tries`.
pub(super) fn tries(number: usize) -> String {
    format!("{number} {}", if number == 1 { "try" } else { "tries" })
}

/// `in the only try`, `in both tries`, `in all 3 tries`, `in 2 of 3 tries`, `in none of 3 tries`.
pub(super) fn of_tries(number: usize, all: usize) -> String {
    match (number, all) {
        (1, 1) => "in the only try".to_owned(),
        (0, 1) => "not in the only try".to_owned(),
        (0, all) => format!("in none of {}", tries(all)),
        (2, 2) => "in both tries".to_owned(),
        (number, all) if number == all => format!("in all {}", tries(all)),
        (number, all) => format!("in {number} of {}", tries(all)),
    }
}

/// `1 statement`, `2 statements`.
pub(super) fn statements(number: usize) -> String {
    format!("{number} {}", if number == 1 { "statement" } else { "statements" })
}

/// `once`, `twice`, `3 times`.
pub(super) fn times(number: usize) -> String {
    match number {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        number => format!("{number} times"),
    }
}

/// `2026-11-28`, or `2026-11-22 to 2026-11-28`.
pub(super) fn days<'o>(observations: impl IntoIterator<Item = &'o Observation>) -> String {
    let days: BTreeSet<&str> = observations.into_iter().map(|seen| seen.day.as_str()).collect();
    match (days.first(), days.last()) {
        (Some(first), Some(last)) => from_to(first, last),
        _ => String::new(),
    }
}

/// The same for two days.
pub(super) fn from_to(first: &str, last: &str) -> String {
    if first == last { first.to_owned() } else { format!("{first} to {last}") }
}

/// A tier in the words of the documents.
pub(super) fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Supported => "supported",
        Tier::TechnologyPreview => "Technology Preview",
        Tier::Unsupported => "unsupported or said not to work",
        Tier::Untested => "said not to be tested",
    }
}

/// The hardware of L0.
pub(super) fn hardware(seen: &Observation) -> String {
    let architecture = ArchInfo::of(seen.record.architecture).name;
    match (seen.is_emulated(), &seen.emulator) {
        (true, Some(emulator)) => format!("{architecture}, emulated by {emulator}"),
        (true, None) => format!("{architecture}, emulated"),
        (false, _) => format!("{architecture}, a real machine"),
    }
}

/// A level's system and software: `RHEL 10.0 and later: Debian 13 (*), Linux 6.12.57`.
pub(super) fn level(level: &LevelRecord, system: &str) -> String {
    let mut text = format!("{}: {system}", level.required);
    if level.fidelity != Fidelity::Product {
        text.push_str(&format!(" ({})", level.fidelity.mark()));
    }
    if let Some(kernel) = &level.seen.kernel {
        text.push_str(&format!(", Linux {kernel}"));
    }
    // The QEMU of the outermost level is the emulator, which is shown with the hardware.
    match &level.seen.qemu {
        Some(qemu) if level.level != LevelNumber::ALL[0] => text.push_str(&format!(", run by QEMU {qemu}")),
        _ => {}
    }
    if level.seen.kernel.is_none() && level.seen.qemu.is_none() && level.os != "emulator" {
        text.push_str(", did not start");
    }
    text
}

/// The outcome, in half a sentence.
pub(super) fn outcome(seen: &Observation) -> String {
    match seen.deviation() {
        Some(Deviation::LimitationGone) => "everything worked; the limitation was absent".to_owned(),
        Some(Deviation::DoesNotWork) => format!("it did not work: it stopped {}", stopped(seen)),
        Some(Deviation::StoppedOtherwise) => {
            format!("it stopped {}, which is not the limitation that the document describes", stopped(seen))
        }
        None if seen.record.stage.is_some() => {
            format!("as the document says: it stopped {}", stopped(seen))
        }
        None => "as the document says: everything worked".to_owned(),
    }
}

/// Where it stopped.
fn stopped(seen: &Observation) -> String {
    match seen.record.stage {
        Some(at) => stage(at, seen),
        None => "at an unknown point".to_owned(),
    }
}

fn stage(stage: Stage, seen: &Observation) -> String {
    match stage {
        Stage::Provision => "before anything was booted".to_owned(),
        Stage::Restore => "when a snapshot was restored".to_owned(),
        Stage::Level(level, StageKind::Launch) if level == LevelNumber::ALL[0] => {
            "when L0's machine was started".to_owned()
        }
        Stage::Level(level, StageKind::Launch) => format!("when QEMU started {level}"),
        Stage::Level(level, StageKind::Boot) => format!("while {level} booted"),
        Stage::Level(level, StageKind::Kvm) => format!("before {level} could use KVM"),
        Stage::Level(level, StageKind::Check) => format!("before {level} had finished its work"),
        Stage::Level(level, StageKind::Ready) => format!("before the guest in {level} worked"),
        Stage::Step(number) => match seen.record.steps.get(usize::from(number).saturating_sub(1)) {
            Some(step) => format!("at the step \"{}\" on {}", step.name, step.on),
            None => format!("at step {number}"),
        },
    }
}

/// The command at which it stopped, if it stopped at one. The variable for KVM's module is replaced by the module's name.
pub(super) fn command(seen: &Observation) -> Option<String> {
    match seen.record.stage {
        Some(Stage::Step(number)) => {
            let step = seen.record.steps.get(usize::from(number).saturating_sub(1))?;
            let module = ArchInfo::of(seen.record.architecture).kvm_module;
            step.run.as_deref().map(|command| command.replace("$KVM_MODULE", module))
        }
        _ => None,
    }
}

/// What the document says, in half a sentence.
pub(super) fn expected(seen: &Observation) -> String {
    let limitation = match &seen.record.expectation {
        Expectation::Works { .. } => return "that everything works".to_owned(),
        Expectation::Stops { limitation, .. } | Expectation::MayStop(limitation) => limitation,
    };
    let may = matches!(seen.record.expectation, Expectation::MayStop(_));
    let stops = if may { "that it works, or stops" } else { "that it stops" };
    let place = match limitation.stop {
        StopStage::At(at) => stage(at, seen),
        StopStage::From(at) => format!("{} or later", stage(at, seen)),
    };
    match &limitation.symptom {
        Some(symptom) => format!("{stops} {place}, with a message such as: {symptom}"),
        None => format!("{stops} {place}"),
    }
}

/// `"Support limitations for nested virtualization" (RHEL 9, section 21.2, language: en)`.
pub(super) fn document(document: &Document) -> String {
    let Document { title, product, section, language, .. } = document;
    format!("\"{title}\" ({product}, section {section}, language: {language})")
}
