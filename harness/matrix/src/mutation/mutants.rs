//! The mutants of a cell: which damage says something about it, and which verdict each mutant must get.

use nestmatrix_model::architecture::{ArchInfo, BareMachine, NestingSwitch};
use nestmatrix_model::{
    Accelerator, BootKind, CpuMode, LevelNumber, OwnAction, Stage, StageKind, Step, StepAction, SymptomKind,
};
use nestmatrix_stack::Symptom;
use serde::Serialize;

use super::{LevelSetting, Mutation};
use crate::records::{Original, Rule};
use crate::scenario::{Cell, CellName, Family, LevelSpec, ScenarioProblem, only_reads};

/// A cell with damage that its verdict must show.
#[derive(Debug, Clone, PartialEq)]
pub struct Mutant {
    /// The cell that it was made from.
    pub of: CellName,
    /// The damage.
    pub mutation: Mutation,
    /// The damaged cell, under its own name.
    pub cell: Cell,
    /// The verdict that it must get.
    pub rule: Rule,
    /// Why it may survive, if the scenario says so.
    pub accepted: Option<String>,
}

/// A step that only checks. Without it nothing changes in the stack, so it is not dropped; it has to stop one of the mutants
/// instead, which shows that it can fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The step's number, from 1.
    pub step: u8,
    /// Why it may stop none, if the scenario says so.
    pub accepted: Option<String>,
}

/// Everything that mutations can show about a cell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mutants {
    /// The damaged cells.
    pub mutants: Vec<Mutant>,
    /// The steps that only check.
    pub checks: Vec<Check>,
    /// The acceptances of the scenario that match no mutation.
    pub unused: Vec<String>,
}

/// The mutants of a cell whose result without damage is `original`. Damage that could not show is left out: damage to what the
/// stack never reaches, and damage that changes nothing.
///
/// # Errors
/// The name of a mutant would be too long for a cell's.
pub fn mutants_of(cell: &Cell, original: &Original) -> Result<Mutants, ScenarioProblem> {
    let maker = MutantMaker { cell, original, profile: ArchInfo::of(cell.architecture) };
    let (steps, checks) = maker.steps();
    let mutations = [steps, maker.levels(), maker.kills(), maker.customs()].concat();
    let mut made = Mutants::default();
    for (mutation, rule) in mutations {
        let name = mutation.name();
        let mut mutated = mutation.applied_to(cell);
        mutated.name = cell.name.variant(&name)?;
        let accepted = maker.accepted(&mutation);
        made.mutants.push(Mutant { of: cell.name.clone(), mutation, cell: mutated, rule, accepted });
    }
    let check = |step| Check { step, accepted: maker.accepted(&Mutation::DropStep { step }) };
    made.checks = checks.into_iter().map(check).collect();
    let generic = |mutant: &Mutant| mutant.mutation.name();
    let of_check = |check: &Check| Mutation::DropStep { step: check.step }.name();
    let names: Vec<String> =
        made.mutants.iter().map(generic).chain(made.checks.iter().map(of_check)).collect();
    let unused = cell.mutations.iter().filter(|own| own.change.is_none());
    let unused = unused.filter(|own| !names.iter().any(|name| own.accepts(name)));
    made.unused = unused.map(|own| own.name.clone()).collect();
    Ok(made)
}

/// Whether the harness chooses the command line of a level's kernel. That of a disk is on the disk.
fn has_command_line(spec: &LevelSpec) -> bool {
    spec.boots != Some(BootKind::Disk) && !spec.system.is_windows()
}

/// Whether a QEMU runs the level. Windows starts its guests itself.
fn has_qemu(spec: &LevelSpec) -> bool {
    !spec.settings.launch().is_by_windows()
}

/// A mutation and the verdict that its mutant must get.
type Ruled = (Mutation, Rule);

struct MutantMaker<'a> {
    cell: &'a Cell,
    original: &'a Original,
    profile: &'static ArchInfo,
}

impl MutantMaker<'_> {
    /// Why a mutation may survive.
    fn accepted(&self, mutation: &Mutation) -> Option<String> {
        let entry = match mutation {
            Mutation::Custom { name, .. } => {
                self.cell.mutations.iter().find(|own| own.change.is_some() && own.name == *name)
            }
            generic => {
                let name = generic.name();
                self.cell.mutations.iter().find(|own| own.accepts(&name))
            }
        };
        entry.and_then(|own| own.accept.clone())
    }

    /// Where a stage or step comes in the order of the stack.
    fn place(&self, stage: Stage) -> (Stage, u8) {
        self.cell.place_of(stage)
    }

    fn step(&self, number: u8) -> Option<&Step> {
        self.cell.steps.get(usize::from(number).checked_sub(1)?)
    }

    /// Whether the undamaged stack reaches `stage`, even if it stops there.
    fn comes_to(&self, stage: Stage) -> bool {
        self.original.stage.is_none_or(|stop| self.place(stage) <= self.place(stop))
    }

    /// Whether the undamaged stack gets through `stage`.
    fn gets_through(&self, stage: Stage) -> bool {
        self.original.stage.is_none_or(|stop| self.place(stage) < self.place(stop))
    }

    /// The steps that the rest of the cell depends on, and the steps that only check.
    fn steps(&self) -> (Vec<Ruled>, Vec<u8>) {
        let (mut ruled, mut checks) = (Vec::new(), Vec::new());
        let numbers = (1..=self.cell.steps.len()).filter_map(|number| u8::try_from(number).ok());
        for number in numbers.filter(|number| self.comes_to(Stage::Step(*number))) {
            match self.step(number).map(|step| &step.action) {
                Some(StepAction::Run(command)) => {
                    let fails = command.fails || command.status.is_some();
                    if fails || only_reads(&command.run) {
                        checks.push(number);
                    } else {
                        ruled.push((Mutation::DropStep { step: number }, Rule::NotGreen));
                    }
                    // If a step only has to succeed, replacing it by `true` is the same as dropping it.
                    if fails || command.output.is_some() {
                        ruled.push((Mutation::TrueStep { step: number }, Rule::NotGreen));
                    }
                }
                Some(StepAction::Own { action: OwnAction::Reboot }) => {
                    ruled.push((Mutation::DropStep { step: number }, Rule::NotGreen));
                }
                // These are the test itself: no later step could notice that they are gone.
                Some(
                    StepAction::Own { .. }
                    | StepAction::Chain { .. }
                    | StepAction::Suite(_)
                    | StepAction::Payload(_)
                    | StepAction::Measure(_),
                )
                | None => {}
            }
        }
        (ruled, checks)
    }

    /// Damage to the settings of levels.
    fn levels(&self) -> Vec<Ruled> {
        let mut ruled = Vec::new();
        for spec in self.cell.levels.iter().filter(|spec| self.cell.starts(spec)) {
            ruled.extend(self.without_settings(spec));
            ruled.extend(self.not_required(spec));
            ruled.extend(self.nesting_off(spec));
            ruled.extend(self.on_tcg(spec));
            ruled.extend(self.bogus_property(spec));
            ruled.extend(self.without_module(spec));
            ruled.extend(self.old_nonce(spec));
            ruled.extend(self.innermost_on_l0(spec));
        }
        ruled
    }

    /// A scenario sets something of a level because it tests it. If the stack stops at the level's launch, it stops because of
    /// a required CPU feature, and the CPU model does not matter.
    fn without_settings(&self, spec: &LevelSpec) -> Vec<Ruled> {
        let level = spec.level;
        let launch = Stage::Level(level, StageKind::Launch);
        let shows = |setting: &LevelSetting| match setting {
            LevelSetting::CpuModel => self.gets_through(launch),
            _ => self.comes_to(launch),
        };
        let set = LevelSetting::ALL.into_iter().filter(|setting| setting.is_set(spec) && shows(setting));
        set.map(|setting| (Mutation::WithoutSetting { level, setting }, Rule::NotGreen)).collect()
    }

    /// Dropping a requirement shows nothing if the CPU has the feature anyway. So this is done for the feature that the stack
    /// was seen to stop for, and for the extension of a level that hosts: with KVM, QEMU's models have that only on request
    /// (`kvm_default_props`).
    fn not_required(&self, spec: &LevelSpec) -> Option<Ruled> {
        let hosts_by_model = self.hosts(spec.level)
            && !self.on_metal(spec.level)
            && spec.settings.cpu.mode != CpuMode::HostPassthrough;
        let is_extension = |feature: &str| self.profile.nesting.is_feature(feature);
        let feature = match &self.original.symptom {
            Some(Symptom::MissingCpuFeature { level, feature, .. }) if *level == spec.level => {
                let needed_anyway = self.hosts(spec.level) && is_extension(feature) && !hosts_by_model;
                spec.settings.cpu.require.iter().find(|one| *one == feature && !needed_anyway)
            }
            _ if hosts_by_model && self.gets_through(Stage::Level(spec.level, StageKind::Kvm)) => {
                spec.settings.cpu.require.iter().find(|one| is_extension(one))
            }
            _ => None,
        }?;
        let mutation = Mutation::FeatureNotRequired { level: spec.level, feature: feature.clone() };
        Some((mutation, Rule::NotGreen))
    }

    /// Without nesting, L0 can't have guests of guests. If L1 hosts none, or can't be a hypervisor anyway, nothing notices
    /// that.
    fn nesting_off(&self, spec: &LevelSpec) -> Option<Ruled> {
        let parameter = format!("{}.nested=", self.profile.kvm_module);
        let is_set = spec.settings.kernel_parameters.iter().any(|one| one.starts_with(&parameter));
        let l1 = LevelNumber::ALL[1];
        let ArchInfo { nesting_switch, metal, .. } = self.profile;
        let has_parameter = *nesting_switch == NestingSwitch::ModuleParameter && metal.no_guests().is_none();
        let applies = spec.level == LevelNumber::ALL[0]
            && has_parameter
            && !is_set
            && has_command_line(spec)
            && !self.sets_nesting()
            && self.hosts(l1)
            && self.gets_through(Stage::Level(l1, StageKind::Kvm));
        applies.then_some((Mutation::NestingOff, Rule::NotGreen))
    }

    /// Whether a step sets the parameter itself. The step's value then overrides that of the command line.
    fn sets_nesting(&self) -> bool {
        self.cell
            .steps
            .iter()
            .any(|step| matches!(&step.action, StepAction::Run(command) if command.run.contains("nested=")))
    }

    fn on_tcg(&self, spec: &LevelSpec) -> Option<Ruled> {
        // An emulated Windows would only take longer than any time limit.
        let applies = !self.on_metal(spec.level)
            && has_qemu(spec)
            && !spec.system.is_windows()
            && spec.settings.accelerator == Accelerator::Kvm
            && self.gets_through(Stage::Level(spec.level, StageKind::Launch));
        applies.then_some((Mutation::OnTcg { level: spec.level }, Rule::NotGreen))
    }

    /// A QEMU that rejects its command line has tested nothing, so it confirms no limitation. The verdict is an error, unless
    /// the document is about exactly that.
    fn bogus_property(&self, spec: &LevelSpec) -> Option<Ruled> {
        let metal_takes_it = !self.on_metal(spec.level) || self.metal_is_qemu();
        let applies =
            metal_takes_it && has_qemu(spec) && self.comes_to(Stage::Level(spec.level, StageKind::Launch));
        let rule = match self.cell.expectation.limitation() {
            // What ends the metal is never the fault of what runs on it.
            _ if self.on_metal(spec.level) => Rule::FailOrError,
            None => Rule::FailOrError,
            Some(limitation) if limitation.kind == Some(SymptomKind::CommandLineRejected) => Rule::NotGreen,
            Some(_) => Rule::Rejected,
        };
        applies.then_some((Mutation::BogusProperty { level: spec.level }, rule))
    }

    fn without_module(&self, spec: &LevelSpec) -> Option<Ruled> {
        let is_set = spec.settings.kernel_parameters.iter().any(|one| one.starts_with("module_blacklist="));
        let applies = self.hosts(spec.level)
            && !is_set
            && has_command_line(spec)
            && self.comes_to(Stage::Level(spec.level, StageKind::Kvm));
        applies.then_some((Mutation::WithoutModule { level: spec.level }, Rule::NotGreen))
    }

    fn old_nonce(&self, spec: &LevelSpec) -> Option<Ruled> {
        let reports = spec.level == self.cell.innermost() && spec.level.reports();
        let applies = reports
            && has_command_line(spec)
            && self.gets_through(Stage::Level(spec.level, StageKind::Check));
        applies.then_some((Mutation::OldNonce, Rule::NotGreen))
    }

    /// Nothing contradicts such a stack, since its innermost level runs and reports as it must. But the counters of the levels
    /// between don't grow, and without that evidence the cell ends in an error.
    fn innermost_on_l0(&self, spec: &LevelSpec) -> Option<Ruled> {
        let is_innermost = spec.level == self.cell.innermost() && spec.level.reports();
        let applies = is_innermost
            && spec.level.is_nested()
            // Only Windows has the kernel of a Linux in WSL.
            && spec.system.family != Some(Family::Wsl)
            && !self.cell.emulator_is_l0()
            && self.cell.l0_around().is_none()
            && self.gets_through(Stage::Level(spec.level, StageKind::Check));
        applies.then_some((Mutation::InnermostOnL0, Rule::FailOrMissingEvidence))
    }

    /// The QEMU of each level, killed at each stage from the level's boot on.
    fn kills(&self) -> Vec<Ruled> {
        let stages = self.cell.stages();
        let levels = self.cell.levels.iter().filter(|spec| self.cell.starts(spec) && has_qemu(spec));
        let kills = levels.flat_map(|spec| {
            let level = spec.level;
            let begins = Stage::Level(level, StageKind::Boot);
            let at = stages.iter().filter(move |stage| **stage >= begins && self.comes_to(**stage));
            // If the metal ends, what runs on it is never at fault.
            let rule = if self.on_metal(level) { Rule::FailOrError } else { Rule::NotGreen };
            at.map(move |at| (Mutation::QemuKilled { level, at: *at }, rule))
        });
        kills.collect()
    }

    /// The mutations that the scenario itself describes.
    fn customs(&self) -> Vec<Ruled> {
        let own = self.cell.mutations.iter().filter_map(|own| {
            let change = own.change.clone()?;
            Some((Mutation::Custom { name: own.name.clone(), change }, Rule::NotGreen))
        });
        own.collect()
    }

    /// Whether a level runs guests.
    fn hosts(&self, level: LevelNumber) -> bool {
        level < self.cell.innermost() || !self.cell.innermost().reports()
    }

    /// Whether the emulator runs this level.
    fn on_metal(&self, level: LevelNumber) -> bool {
        let outermost = LevelNumber::ALL[usize::from(self.cell.emulator_is_l0())];
        level == outermost
    }

    fn metal_is_qemu(&self) -> bool {
        self.cell.emulator_is_l0() || matches!(self.profile.metal, BareMachine::Qemu(_))
    }
}
