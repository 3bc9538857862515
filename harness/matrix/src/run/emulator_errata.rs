//! Cells that depend on what an emulator gets wrong: they are skipped on that emulated metal, and run on native metal.
//!
//! The scenario shows some of them before anything boots: by the ids that it names, and by kernel parameters, CPU models, and
//! parameters of KVM in its steps. The stack checks what only a running level can show (`stack::emulator_errata`).

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::emulator_errata::{Dependence, Erratum, of};
use nestmatrix_model::{Accelerator, CpuMode, LevelNumber, Stage, StageKind, StepAction};
use nestmatrix_stack::Metal;

use super::fate::beyond_metal;
use super::outermost::outermost_program;
use super::{Fate, Planned, RunPlan};
use crate::records::SkipReason;
use crate::scenario::{Cell, LevelSpec};

/// Why a cell can't be tested on emulated metal, if so: its emulator can't do something, or gets it wrong. The emulator's
/// version is not known yet, and the harness chooses a current one: an erratum counts unless it is known to be fixed in some
/// version.
pub(super) fn barred(cell: &Cell) -> Option<SkipReason> {
    let beyond = beyond_metal(cell).map(|why| SkipReason::EmulatedMetal { why });
    beyond.or_else(|| dependence(cell, None))
}

/// The same as text.
pub(crate) fn why_barred(cell: &Cell) -> Option<String> {
    barred(cell).map(|reason| reason.to_string())
}

impl RunPlan {
    /// Skips the cells that depend on an erratum that their emulator has in its actual version. Cells that [`barred`] has skipped
    /// stay skipped.
    pub(super) fn skip_for_errata(&mut self, version: impl Fn(&Planned) -> Option<String>) {
        for planned in &mut self.cells {
            let Fate::Boots { metal: Metal::Emulated, .. } = planned.fate else { continue };
            let version = version(planned);
            if let Some(reason) = dependence(&planned.cell, version.as_deref()) {
                planned.fate = Fate::Skipped(vec![reason]);
            }
        }
    }
}

/// The first erratum of its emulator that a cell depends on, if there is one.
fn dependence(cell: &Cell, version: Option<&str>) -> Option<SkipReason> {
    let profile = ArchInfo::of(cell.architecture);
    let program = outermost_program(cell, Metal::Emulated);
    of(program, cell.architecture, version).find_map(|erratum| {
        let by = depends_by(cell, profile, erratum)?;
        let why = format!("depends on what the emulated metal gets wrong: {erratum}; {by}");
        Some(SkipReason::EmulatorErratum { erratum: erratum.id.clone(), why })
    })
}

/// What makes a cell depend on an erratum, if anything in its scenario does.
fn depends_by(cell: &Cell, profile: &ArchInfo, erratum: &Erratum) -> Option<String> {
    if cell.emulator_errata.contains(&erratum.id) {
        return Some("its scenario names it".to_owned());
    }
    let Dependence { kvm_parameter, cpu_feature, cpu_models } = erratum.skips.as_ref()?;
    let switches_off = |text: &String| assigned(text, profile.kvm_module, kvm_parameter).map(is_off);
    hosts(cell).find_map(|spec| {
        let level = spec.level;
        // A parameter in a step that loads the module overrides that of the command line.
        let loaded = last_loaded(cell, level, kvm_parameter);
        if let Some((step, value)) = loaded.filter(|(_, value)| is_off(value)) {
            return Some(format!("the step {step:?} on {level} has {kvm_parameter}={value}"));
        }
        let last = spec.settings.kernel_parameters.iter().rfind(|text| switches_off(text).is_some());
        if let Some(text) = last.filter(|text| loaded.is_none() && switches_off(text) == Some(true)) {
            return Some(format!("{level} has {text}"));
        }
        let hidden = |text: &&String| {
            let features = text.strip_prefix("clearcpuid=").unwrap_or_default();
            features.split(',').any(|feature| feature == cpu_feature)
        };
        if let Some(text) = spec.settings.kernel_parameters.iter().find(hidden) {
            return Some(format!("{level} has {text}"));
        }
        if spec.settings.cpu.disable.contains(cpu_feature) {
            return Some(format!("{level} has {cpu_feature} switched off"));
        }
        if let CpuMode::Custom { model } = &spec.settings.cpu.mode
            // If a requirement is missing, the stack stops before anything depends on it.
            && !spec.settings.cpu.require.contains(cpu_feature)
            && cpu_models.contains(model)
        {
            return Some(format!("the CPU model of {level}, {model}, has no {cpu_feature}"));
        }
        None
    })
}

/// The last step in which `level` loads KVM with a value of this parameter before it launches its guest, and that value.
fn last_loaded<'c>(cell: &'c Cell, level: LevelNumber, parameter: &str) -> Option<(&'c str, &'c str)> {
    let option = format!("{parameter}=");
    let loads = cell.steps.iter().filter_map(|step| {
        let StepAction::Run(command) = &step.action else { return None };
        let succeeds = !command.fails && command.status.is_none();
        let in_time = level.next().is_some_and(|next| step.after < Stage::Level(next, StageKind::Launch));
        if step.on != level || !succeeds || !in_time || !command.run.contains("modprobe") {
            return None;
        }
        let words =
            command.run.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '"' | '\''));
        let value = words.filter_map(|word| word.strip_prefix(&option)).next_back()?;
        Some((step, value))
    });
    // Of steps after the same stage, the last one.
    let (step, value) = loads.max_by_key(|(step, _)| step.after)?;
    Some((&step.name, value))
}

/// The levels that run guests with KVM.
fn hosts(cell: &Cell) -> impl Iterator<Item = &LevelSpec> {
    let runs_with_kvm = |level: LevelNumber| {
        let guest = cell.levels.iter().find(|spec| Some(spec.level) == level.next());
        guest.is_some_and(|guest| guest.settings.accelerator != Accelerator::Tcg)
    };
    cell.levels.iter().filter(move |spec| !spec.system.is_emulator() && runs_with_kvm(spec.level))
}

/// The value that a kernel parameter assigns to a module's parameter: `0` of `kvm_amd.npt=0`. In names of modules, `-` and `_`
/// are the same.
fn assigned<'t>(text: &'t str, module: &str, parameter: &str) -> Option<&'t str> {
    let (name, value) = text.split_once('=')?;
    let (of_module, of_parameter) = name.split_once('.')?;
    (of_module.replace('-', "_") == module && of_parameter == parameter).then_some(value)
}

/// Whether the kernel reads a value of a switch as off (Linux, `kstrtobool`).
fn is_off(value: &str) -> bool {
    matches!(value.as_bytes(), [b'0' | b'n' | b'N' | b'f' | b'F', ..] | [b'o' | b'O', b'f' | b'F', ..])
}

#[cfg(test)]
mod tests {
    use nestmatrix_images::Catalog;
    use nestmatrix_model::{Architecture, Command, Device, Hardware, Step, TpmVersion};
    use rstest::rstest;

    use super::*;
    use crate::run::{MetalChoice, NativeMetal, NativeMetals, PlanOptions};
    use crate::scenario::Matrix;

    fn matrix() -> Matrix {
        Matrix::load(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap()
    }

    /// An ordinary cell of three levels of AMD.
    fn cell() -> Cell {
        let matrix = matrix();
        let mut cells = matrix.cells().iter();
        cells.find(|cell| cell.name.as_str().starts_with("rhel-9-preview/amd/")).unwrap().clone()
    }

    fn parameter(cell: &mut Cell, level: usize, parameter: &str) {
        cell.levels[level].settings.kernel_parameters.push(parameter.to_owned());
    }

    fn model(cell: &mut Cell, model: &str) {
        cell.levels[1].settings.cpu.mode = CpuMode::Custom { model: model.to_owned() };
    }

    fn step(cell: &mut Cell, after: &str, run: &str, fails: bool) {
        let command = Command { run: run.into(), fails, status: None, output: None };
        cell.steps.push(Step {
            name: "load".into(),
            after: after.parse().unwrap(),
            on: LevelNumber::ALL[1],
            action: StepAction::Run(command),
            reads: false,
            repeat: 1,
            timeout: None,
        });
    }

    #[rstest]
    #[case::nothing(|_: &mut Cell| {}, None)]
    #[case::l0(|cell: &mut Cell| parameter(cell, 0, "kvm_amd.npt=0"), Some("L0 has kvm_amd.npt=0"))]
    #[case::l1(|cell: &mut Cell| parameter(cell, 1, "kvm-amd.npt=N"), Some("L1 has kvm-amd.npt=N"))]
    #[case::innermost(|cell: &mut Cell| parameter(cell, 2, "kvm_amd.npt=0"), None)]
    #[case::on(|cell: &mut Cell| parameter(cell, 1, "kvm_amd.npt=1"), None)]
    #[case::of_another_module(|cell: &mut Cell| parameter(cell, 1, "kvm_intel.npt=0"), None)]
    #[case::the_last_one_counts(
        |cell: &mut Cell| {
            parameter(cell, 1, "kvm_amd.npt=0");
            parameter(cell, 1, "kvm_amd.npt=1");
        },
        None
    )]
    #[case::hidden(
        |cell: &mut Cell| parameter(cell, 1, "clearcpuid=erms,npt"),
        Some("L1 has clearcpuid=erms,npt")
    )]
    #[case::model(
        |cell: &mut Cell| model(cell, "Opteron_G3"),
        Some("the CPU model of L1, Opteron_G3, has no npt")
    )]
    #[case::model_with_it(|cell: &mut Cell| model(cell, "EPYC-IBPB"), None)]
    #[case::required(
        |cell: &mut Cell| {
            model(cell, "Opteron_G3");
            cell.levels[1].settings.cpu.require = vec!["npt".to_owned()];
        },
        None
    )]
    #[case::step(
        |cell: &mut Cell| step(cell, "l1-kvm", "modprobe -r $KVM_MODULE; modprobe $KVM_MODULE npt=0", false),
        Some("the step \"load\" on L1 has npt=0")
    )]
    #[case::step_that_undoes_it(
        |cell: &mut Cell| step(cell, "l1-kvm", "modprobe kvm_amd npt=0 && rmmod kvm_amd && modprobe kvm_amd npt=1", false),
        None
    )]
    #[case::step_that_undoes_the_command_line(
        |cell: &mut Cell| {
            parameter(cell, 1, "kvm_amd.npt=0");
            step(cell, "l1-kvm", "modprobe -r $KVM_MODULE; modprobe $KVM_MODULE npt=1", false);
        },
        None
    )]
    #[case::step_that_undoes_another(
        |cell: &mut Cell| {
            step(cell, "l1-kvm", "modprobe -r $KVM_MODULE; modprobe $KVM_MODULE npt=0", false);
            step(cell, "l1-kvm", "modprobe -r $KVM_MODULE; modprobe $KVM_MODULE npt=1", false);
        },
        None
    )]
    #[case::step_after_another(
        |cell: &mut Cell| {
            step(cell, "l1-kvm", "modprobe -r $KVM_MODULE; modprobe $KVM_MODULE npt=1", false);
            step(cell, "l1-kvm", "modprobe -r $KVM_MODULE; modprobe $KVM_MODULE npt=0", false);
        },
        Some("the step \"load\" on L1 has npt=0")
    )]
    #[case::step_without_the_feature(
        |cell: &mut Cell| {
            parameter(cell, 1, "clearcpuid=npt");
            step(cell, "l1-kvm", "modprobe -r $KVM_MODULE; modprobe $KVM_MODULE npt=1", false);
        },
        Some("L1 has clearcpuid=npt")
    )]
    #[case::step_that_fails(|cell: &mut Cell| step(cell, "l1-kvm", "modprobe $KVM_MODULE npt=0", true), None)]
    #[case::switched_off(
        |cell: &mut Cell| cell.levels[1].settings.cpu.disable = vec!["npt".to_owned()],
        Some("L1 has npt switched off")
    )]
    #[case::step_too_late(|cell: &mut Cell| step(cell, "l2-check", "modprobe $KVM_MODULE npt=0", false), None)]
    #[case::not_with_kvm(
        |cell: &mut Cell| {
            parameter(cell, 1, "kvm_amd.npt=0");
            cell.levels[2].settings.accelerator = Accelerator::Tcg;
        },
        None
    )]
    #[case::named(
        |cell: &mut Cell| cell.emulator_errata = vec!["tcg-lmsw-intercept".to_owned()],
        Some("its scenario names it")
    )]
    #[case::named_of_another_emulator(
        |cell: &mut Cell| cell.emulator_errata = vec!["hercules-sie".to_owned()],
        None
    )]
    fn a_cell_that_depends_on_an_erratum_is_known_by_its_scenario(
        #[case] change: fn(&mut Cell),
        #[case] expected: Option<&str>,
    ) {
        let mut cell = cell();
        change(&mut cell);
        let reason = barred(&cell).map(|reason| reason.to_string());
        assert_eq!(reason.as_deref().and_then(|reason| reason.split_once("; ")).map(|(_, by)| by), expected);
    }

    #[rstest]
    #[case::cpus(Architecture::Intel, |l0: &mut Hardware| l0.cpus = Some(2), Some("it has one CPU"))]
    #[case::devices(Architecture::Intel, |l0: &mut Hardware| l0.devices = vec![Device::Nvme], Some("it has one CPU"))]
    #[case::of_qemu(Architecture::Amd, |l0: &mut Hardware| l0.cpus = Some(4), None)]
    #[case::viommu(Architecture::Power9, |l0: &mut Hardware| l0.devices = vec![Device::Viommu], Some("QEMU has none for IBM POWER9"))]
    #[case::tpm(Architecture::Amd, |l0: &mut Hardware| l0.tpm = Some(TpmVersion::V2), None)]
    #[case::tpm_of_powernv(Architecture::Power9, |l0: &mut Hardware| l0.tpm = Some(TpmVersion::V2), Some("needs a TPM in L0: QEMU has none for IBM POWER9, since tpm-spapr"))]
    #[case::tpm_of_ibm_z(Architecture::IbmZ, |l0: &mut Hardware| l0.tpm = Some(TpmVersion::V2), Some("needs a TPM in L0: QEMU has none for IBM Z"))]
    #[case::tpm_of_bochs(Architecture::Intel, |l0: &mut Hardware| l0.tpm = Some(TpmVersion::V2), Some("it has one CPU"))]
    fn hardware_that_the_metal_can_not_have_is_a_reason(
        #[case] architecture: Architecture,
        #[case] change: fn(&mut Hardware),
        #[case] expected: Option<&str>,
    ) {
        let mut cell = Cell { architecture, ..cell() };
        change(&mut cell.levels[0].settings.hardware);
        let reason = barred(&cell).map(|reason| reason.to_string());
        match expected {
            Some(expected) => assert!(reason.as_deref().unwrap_or_default().contains(expected), "{reason:?}"),
            None => assert_eq!(reason, None),
        }
    }

    #[test]
    fn a_cell_that_depends_on_an_erratum_is_skipped_on_emulated_metal_and_runs_on_native_metal() {
        let (matrix, mut cell) = (matrix(), cell());
        parameter(&mut cell, 1, "kvm_amd.npt=0");
        let recipes = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes");
        let catalog = Catalog::load(&recipes).unwrap();
        let native = NativeMetal::named("debian".into(), "12".into());
        let natives = NativeMetals::from([(Architecture::Amd, Ok(native))]);
        let fate = |metal| {
            let options = PlanOptions { metal, ..PlanOptions::default() };
            RunPlan::new([cell.clone()], &matrix, &catalog, &natives, &options).cells.remove(0).fate
        };
        assert!(matches!(fate(MetalChoice::Auto), Fate::Boots { metal: Metal::Native, .. }));
        let Fate::Skipped(reasons) = fate(MetalChoice::Emulated) else { panic!("it must be skipped") };
        assert!(matches!(&reasons[..], [SkipReason::EmulatorErratum { .. }]), "{reasons:?}");
    }

    #[test]
    fn the_version_of_the_emulator_decides_once_it_is_known() {
        let mut cell = cell();
        parameter(&mut cell, 1, "kvm_amd.npt=0");
        assert!(dependence(&cell, Some("1:8.2.2+ds")).is_none());
        let reason = dependence(&cell, Some("1:10.0.13+ds-0")).unwrap();
        let erratum = "tcg-cr-read-intercept".to_owned();
        assert!(
            matches!(&reason, SkipReason::EmulatorErratum { erratum: id, .. } if *id == erratum),
            "{reason}"
        );
    }
}
