//! What is special about a cell's L0: it may be an emulator, or a system of which this machine can only be a guest.

use nestmatrix_model::architecture::{ArchInfo, Nesting};
use nestmatrix_model::{LevelNumber, Stage, StageKind, SymptomKind};

use super::cell::Cell;
use super::expectation::{Expectation, StopStage};
use super::level::LevelSpec;
use super::system::SystemRequirement;

impl Cell {
    /// Whether its L0 is an emulator's own hypervisor: then that emulator runs L1, and no kernel runs in L0.
    pub fn emulator_is_l0(&self) -> bool {
        self.levels.first().is_some_and(|spec| spec.system.is_emulator())
    }

    /// Its L0, if that is a system of which this machine can only be a guest.
    pub fn l0_around(&self) -> Option<&SystemRequirement> {
        self.levels.first().map(|spec| &spec.system).filter(|system| system.around)
    }

    /// Which of its levels this machine is on native metal.
    pub fn this_machine(&self) -> LevelNumber {
        LevelNumber::ALL[usize::from(self.l0_around().is_some())]
    }

    /// Whether nestmatrix starts this level of it: no emulator that is itself a level, and neither an L0 around this machine nor then L1.
    pub(crate) fn starts(&self, spec: &LevelSpec) -> bool {
        let around = self.l0_around().is_some() && spec.level <= self.this_machine();
        !spec.system.is_emulator() && !around
    }

    /// Why no machine can run it, if its L0 is an emulator without the extension that L1 needs to host guests.
    pub(super) fn without_extension(&self) -> Option<String> {
        let l0 = self.levels.first().filter(|spec| spec.system.is_emulator())?;
        let lacking = ArchInfo::of(self.architecture).missing_in_tcg?;
        (!self.expects_no_extension()).then(|| format!("{} does not emulate {lacking}", l0.system))
    }

    /// Whether it expects exactly this stop: its L1 does not get the extension that it needs to host guests.
    pub(crate) fn expects_no_extension(&self) -> bool {
        let Nesting::CpuFeature(extension) = ArchInfo::of(self.architecture).nesting else { return false };
        let Expectation::Stops { limitation, .. } = &self.expectation else { return false };
        let launch = Stage::Level(LevelNumber::ALL[1], StageKind::Launch);
        let is_there = match limitation.stop {
            StopStage::At(stage) => stage == launch,
            StopStage::From(stage) => stage <= launch,
        };
        let names_it = limitation.symptom.as_ref().is_some_and(|texts| texts.found_in(extension).is_some());
        is_there && names_it && limitation.kind == Some(SymptomKind::MissingCpuFeature)
    }
}
