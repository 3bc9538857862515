//! What a run will do: for each cell, the image of each level and the metal, or why it is skipped. Nothing runs yet.

use std::collections::BTreeMap;

use nestmatrix_images::{Catalog, Product, Recipe};
use nestmatrix_model::architecture::{ArchInfo, BareMachine, Nesting};
use nestmatrix_model::{
    Architecture, Clock, CpuMode, CpuRequirement, Isa, LevelNumber, OwnAction, Stage, StageKind, StepAction,
    SymptomKind, Version,
};
use nestmatrix_stack::Metal;
use serde::{Deserialize, Serialize};

use super::emulator_errata::{barred, why_barred};
use super::{NativeMetal, NativeMetals};
use crate::records::{SkipReason, no_machine};
use crate::scenario::{
    AvailableImage, Cell, Choice, Expectation, Filter, LevelSpec, Matrix, MissingImage, RunProfile, StandIns,
    StopStage, Supply, System, step_only_reads,
};

/// What the user wants L0 to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetalChoice {
    /// Native metal where it proves itself, emulated metal otherwise.
    #[default]
    Auto,
    /// Native metal only.
    Native,
    /// Emulated metal only.
    Emulated,
}

/// What a plan is made with.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// What L0 is to run on.
    pub metal: MetalChoice,
    /// Use no image that stands in for another system.
    pub deny_stand_ins: bool,
    /// Cells that must run on this machine: what keeps one from it is an error and no skip.
    pub deny_skips: Option<Filter>,
    /// The profile whose cells are planned, if they are those of one.
    pub profile: Option<RunProfile>,
    /// L0 is to boot with something of its own, which this machine does not.
    pub replaces_l0: bool,
    /// Suppose that there is an image of every system that can be a level, and that this machine runs the one that L0 asks for: what
    /// is left is what the harness and the metal can't do. Such a plan is for looking at.
    pub suppose_images: bool,
}

/// A level of a planned cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLevel {
    /// The level as the scenario asks for it.
    pub spec: LevelSpec,
    /// The image, or on native metal for L0 the system of this machine.
    pub choice: Choice,
    /// The recipe and product to boot; none for L0 on native metal, which runs already, and for an L0 that is the emulator.
    pub boots: Option<(String, Product)>,
    /// What else can stand in for its system, the next best first.
    pub others: Vec<Alternative>,
}

/// Another image that a level can boot, if its own can't be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    /// The stand-in.
    pub choice: Choice,
    /// The recipe and product to boot.
    pub boots: (String, Product),
}

/// What becomes of a cell.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It is booted on this metal.
    Boots {
        /// What L0 runs on.
        metal: Metal,
        /// Its levels, L0 first.
        levels: Vec<PlannedLevel>,
    },
    /// It is skipped for these missing requirements.
    Skipped(Vec<SkipReason>),
}

/// A cell and what becomes of it.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The cell.
    pub cell: Cell,
    /// What becomes of it.
    pub fate: Fate,
    /// Whether it is an error if it is skipped.
    pub must_run: bool,
}

impl Planned {
    /// About how long it takes to boot it from its beginning, in seconds.
    pub(super) fn typical_seconds(&self, metal: Metal) -> f64 {
        let seconds = match metal {
            Metal::Native => NATIVE_SECONDS,
            Metal::Emulated => ArchInfo::of(self.cell.architecture).typical_seconds,
        };
        seconds as f64
    }
}

/// The profile whose cells are planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedProfile {
    /// Its name.
    pub name: String,
    /// What it chooses.
    pub title: String,
    /// The cells of the whole matrix.
    pub of: usize,
    /// A profile of all of them, if there is one.
    pub full: Option<String>,
}

/// What a run will do.
#[derive(Debug, Clone, Default)]
pub struct RunPlan {
    /// Every cell that the profile and the filter let through.
    pub cells: Vec<Planned>,
    /// The profile, if it is a run of one.
    pub profile: Option<PlannedProfile>,
    /// Why native metal is not used, where that was a question.
    pub no_native: Option<String>,
}

/// Typical time of one cold stack of three levels on native metal, in seconds, for the estimate that a user is shown before a
/// run: about one boot a level.
const NATIVE_SECONDS: u64 = 6;

impl RunPlan {
    /// Plans these cells. `natives` says for each of their architectures what native metal this machine offers, or why
    /// none.
    pub fn new(
        cells: impl IntoIterator<Item = Cell>,
        matrix: &Matrix,
        catalog: &Catalog,
        natives: &NativeMetals,
        options: &PlanOptions,
    ) -> Self {
        let ground = Ground { matrix, catalog, supply: supply(catalog), options };
        let cells = cells.into_iter().map(|cell| {
            let native = natives.get(&cell.architecture).map(|native| native.as_ref().map_err(Clone::clone));
            let fate = ground.fate(&cell, &native.unwrap_or_else(|| Err("not asked for".to_owned())));
            let must_run = options.deny_skips.as_ref().is_some_and(|cells| cells.matches(&cell.name));
            Planned { cell, fate, must_run }
        });
        let cells = cells.collect();
        let no_native = if options.metal == MetalChoice::Emulated { None } else { no_native(natives) };
        let profile = options.profile.as_ref().map(|profile| PlannedProfile {
            name: profile.name.clone(),
            title: profile.title.clone(),
            of: matrix.cells().len(),
            full: full(matrix),
        });
        Self { cells, profile, no_native }
    }

    /// The cells that boot.
    pub fn boots(&self) -> impl Iterator<Item = &Planned> {
        self.cells.iter().filter(|planned| matches!(planned.fate, Fate::Boots { .. }))
    }

    /// The cells that are skipped, with the reasons.
    pub fn skipped(&self) -> impl Iterator<Item = (&Cell, &[SkipReason])> {
        self.cells.iter().filter_map(|planned| match &planned.fate {
            Fate::Skipped(reasons) => Some((&planned.cell, reasons.as_slice())),
            Fate::Boots { .. } => None,
        })
    }

    /// The cells that are skipped though they must run.
    pub fn denied(&self) -> impl Iterator<Item = &Cell> {
        let denied = |planned: &&Planned| planned.must_run && matches!(planned.fate, Fate::Skipped(_));
        self.cells.iter().filter(denied).map(|planned| &planned.cell)
    }

    /// Every recipe and product that is needed, each once.
    pub fn images(&self) -> Vec<(String, Product)> {
        let mut images: Vec<_> = self
            .cells
            .iter()
            .filter_map(|planned| match &planned.fate {
                Fate::Boots { levels, .. } => Some(levels.iter().filter_map(|level| level.boots.clone())),
                Fate::Skipped(_) => None,
            })
            .flatten()
            .collect();
        images.sort();
        images.dedup();
        images
    }

    /// The cells that always boot from their beginning, by the reason.
    pub fn always_cold(&self) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        for reason in self.cells.iter().filter_map(always_cold) {
            *reasons.entry(reason).or_default() += 1;
        }
        reasons
    }

    /// A rough idea of how long the boots will take with this many side by side, in seconds.
    pub fn estimated_seconds(&self, jobs: usize) -> u64 {
        let seconds = |planned: &Planned| match &planned.fate {
            Fate::Skipped(_) => 0.0,
            Fate::Boots { metal, .. } => planned.typical_seconds(*metal),
        };
        (self.cells.iter().map(seconds).sum::<f64>() / jobs.max(1) as f64).ceil() as u64
    }
}

/// Why native metal is not used, architecture by architecture; nothing on those that no such machine can be.
fn no_native(natives: &NativeMetals) -> Option<String> {
    let ours = natives.iter().filter(|(architecture, _)| Some(architecture.isa()) == Isa::of_this_machine());
    let why =
        ours.filter_map(|(architecture, native)| Some(format!("{architecture}: {}", native.as_ref().err()?)));
    let why = why.collect::<Vec<_>>().join("; ");
    (!why.is_empty()).then_some(why)
}

/// The profile that takes every cell.
fn full(matrix: &Matrix) -> Option<String> {
    let takes_all = |profile: &&RunProfile| matrix.cells().iter().all(|cell| profile.takes(&cell.name));
    matrix.profiles().find(takes_all).map(|profile| profile.name.clone())
}

/// What the fate of every cell is planned on.
struct Ground<'a> {
    matrix: &'a Matrix,
    catalog: &'a Catalog,
    supply: Supply,
    options: &'a PlanOptions,
}

impl Ground<'_> {
    fn fate(&self, cell: &Cell, native: &Result<&NativeMetal, String>) -> Fate {
        let available = self.supply.of(cell.architecture);
        if let Some(why) = cell.no_machine.clone() {
            let missing = self.levels(cell, available, None).err().unwrap_or_default();
            return Fate::Skipped(missing.into_iter().chain([SkipReason::NoMachine { why }]).collect());
        }
        let replaced = self.options.replaces_l0.then_some("L0 has another kernel or QEMU");
        let on_native = |native: &NativeMetal| match touches_l0(cell).or(replaced) {
            Some(what) => {
                Err(vec![on_native_metal(format!("{what}, and on native metal this machine is L0"))])
            }
            None => match native.lacks_nesting(cell.innermost()) {
                Some(why) => Err(vec![on_native_metal(why.to_owned())]),
                None => self.levels(cell, available, Some(native)),
            },
        };
        let on_emulated = || match (barred(cell), self.levels(cell, available, None)) {
            (None, levels) => levels,
            (Some(reason), Ok(_)) => Err(vec![reason]),
            (Some(reason), Err(missing)) => Err(missing.into_iter().chain([reason]).collect()),
        };
        let (metal, levels) = match (self.options.metal, native) {
            (MetalChoice::Native, Err(why)) => return Fate::Skipped(vec![on_native_metal(why.clone())]),
            (MetalChoice::Native, Ok(native)) => (Metal::Native, on_native(native)),
            (MetalChoice::Auto, Ok(native)) => match on_native(native) {
                // What this machine's own system can't serve as L0 can still be tried on emulated metal.
                Err(_) => (Metal::Emulated, on_emulated()),
                levels => (Metal::Native, levels),
            },
            (MetalChoice::Auto, Err(_)) | (MetalChoice::Emulated, _) => (Metal::Emulated, on_emulated()),
        };
        match levels {
            Ok(levels) => Fate::Boots { metal, levels },
            Err(reasons) => Fate::Skipped(reasons),
        }
    }

    /// Finds an image for every level, or every reason why there is none.
    fn levels(
        &self,
        cell: &Cell,
        available: &[AvailableImage],
        native: Option<&NativeMetal>,
    ) -> Result<Vec<PlannedLevel>, Vec<SkipReason>> {
        let isa = cell.architecture.isa();
        let innermost = cell.levels.last().map(|spec| spec.level);
        let stand_ins = StandIns::of(cell, self.options.deny_stand_ins);
        let mut levels = Vec::new();
        // Levels by what they lack, in the order in which that was found.
        let mut lacking: Vec<SkipReason> = Vec::new();
        for spec in &cell.levels {
            let this_machine = native.filter(|_| spec.level == LevelNumber::ALL[0]);
            let choice = match this_machine {
                _ if self.options.suppose_images && !spec.system.is_emulator() => self.supposed(spec, isa),
                Some(native) => native_choice(native, spec, cell.architecture, self.matrix, stand_ins)
                    .map_err(|why| SkipReason::AnotherSystem { isa: isa.to_string(), why }),
                None => self.matrix.image_for(&spec.system, cell.architecture, available, stand_ins).map_err(
                    |missing| SkipReason::NoImage {
                        levels: vec![spec.level],
                        isa: isa.to_string(),
                        missing: Box::new(missing),
                    },
                ),
            };
            match choice {
                Ok(choice) => {
                    let reports = Some(spec.level) == innermost && spec.level.reports();
                    let product = if reports { Product::Minimal } else { Product::Hypervisor };
                    let on_metal = native.is_none() && spec.level == LevelNumber::ALL[0];
                    let variant = ArchInfo::of(cell.architecture).metal.variant().filter(|_| on_metal);
                    let boots = |choice: &Choice| {
                        if self.options.suppose_images {
                            return Some((choice.image.clone(), product));
                        }
                        let recipe = recipe_of(self.catalog, &choice.image, isa, variant)?;
                        Some((recipe.name().to_owned(), product))
                    };
                    let runs_already = this_machine.is_some() || spec.system.is_emulator();
                    let (recipe, others) = if runs_already {
                        (None, Vec::new())
                    } else {
                        let others = self.matrix.other_stand_ins(
                            &spec.system,
                            cell.architecture,
                            available,
                            stand_ins,
                            &choice,
                        );
                        let others = others
                            .into_iter()
                            .filter_map(|choice| Some(Alternative { boots: boots(&choice)?, choice }));
                        (boots(&choice), others.collect())
                    };
                    levels.push(PlannedLevel { spec: spec.clone(), choice, boots: recipe, others });
                }
                Err(reason) => {
                    let same =
                        lacking.iter_mut().find(|known| known.without_levels() == reason.without_levels());
                    match same {
                        Some(SkipReason::NoImage { levels, .. }) => levels.push(spec.level),
                        _ => lacking.push(reason),
                    }
                }
            }
        }
        if lacking.is_empty() { Ok(levels) } else { Err(lacking) }
    }

    /// An image of the very system that a level asks for, as if there were one; there can be none of what can't be a level.
    fn supposed(&self, spec: &LevelSpec, isa: Isa) -> Result<Choice, SkipReason> {
        let is_level = |system: &System| system.id != spec.system.system || system.no_machine.is_none();
        if spec.system.role.is_none() && self.matrix.systems().iter().all(is_level) {
            return Ok(Choice { image: spec.system.slug(), stand_in: false, reason: None });
        }
        let missing = Box::new(MissingImage::NoImage { requirement: spec.system.clone() });
        Err(SkipReason::NoImage { levels: vec![spec.level], isa: isa.to_string(), missing })
    }
}

fn on_native_metal(why: String) -> SkipReason {
    SkipReason::NativeMetal { why }
}

/// Why a cell's stack is never saved on its way nor goes on from a saved state, if so.
pub(super) fn always_cold(planned: &Planned) -> Option<String> {
    let Fate::Boots { metal, .. } = &planned.fate else { return None };
    let cell = &planned.cell;
    let profile = ArchInfo::of(cell.architecture);
    if *metal == Metal::Native {
        Some("native metal is not saved".to_owned())
    } else if let Some(why) = profile.no_snapshot {
        Some(why.to_owned())
    } else if cell.levels.iter().any(|level| level.disk) {
        Some("it has a disk of its own".to_owned())
    } else if cell.steps.iter().any(|step| step.second_machine().is_some()) {
        Some("it has two machines of one level".to_owned())
    } else if !cell.levels.iter().any(|level| savable(cell, level.level)) {
        Some("its scenario is about the boot of what could be saved".to_owned())
    } else {
        None
    }
}

/// Whether a cell's stack can be saved once `level` is up, and gone on with: it hosts another one, and the scenario has done
/// nothing to the stack until then.
pub(super) fn savable(cell: &Cell, level: LevelNumber) -> bool {
    let up = Stage::Level(level, StageKind::Kvm);
    level < cell.innermost()
        && cell.steps.iter().all(|step| step.after >= up && !matches!(step.after, Stage::Step(_)))
        && cell.faults.iter().all(|fault| fault.at > up)
}

/// What a cell does to its L0, if it does anything but read. On native metal it can't be had, or must not: the harness changes
/// nothing about this machine, and a setting that is left out would make the verdict one on something else.
pub(crate) fn touches_l0(cell: &Cell) -> Option<&'static str> {
    let outermost = LevelNumber::ALL[0];
    let spec = cell.levels.iter().find(|spec| spec.level == outermost)?;
    if !cell.innermost().reports() {
        Some("L0 is alone")
    } else if cell.steps.iter().any(|step| step.on == outermost && !step_only_reads(step)) {
        Some("it has steps in L0 that may change it")
    } else if !spec.kernel_parameters.is_empty() {
        Some("it sets kernel parameters of L0")
    } else if spec.cpu != CpuRequirement::default() {
        Some("it sets the CPU of L0")
    } else if spec.machine_type.is_some() || !spec.machine.is_empty() {
        Some("it sets up the machine of L0")
    } else if spec.disk {
        Some("it gives L0 a disk")
    } else {
        None
    }
}

/// What a cell asks of emulated metal that the emulator of its architecture can't do, if anything.
pub(super) fn beyond_metal(cell: &Cell) -> Option<String> {
    let ArchInfo { metal, qemu, missing_in_tcg, metal_processors, .. } = ArchInfo::of(cell.architecture);
    let l0 = cell.levels.first()?;
    if cell.emulator_is_l0() && !cell.innermost().reports() {
        return Some(format!("needs a guest: {} alone boots nothing", l0.system));
    }
    if cell.emulator_is_l0() {
        let nests = cell.innermost() > LevelNumber::ALL[1];
        let lacking = missing_in_tcg.filter(|_| nests && !expects_no_extension(cell));
        return lacking.map(|what| format!("needs {what}: {} has none", l0.system));
    }
    if matches!(metal, BareMachine::Bochs(_)) && cell.clock == Clock::Real {
        // Bochs counts instructions, and an idle guest's clock runs ahead (docs/architecture.md).
        return Some("needs clocks that go right: those of the emulated machine do not".to_owned());
    }
    if matches!(metal, BareMachine::Qemu(_)) {
        let CpuMode::Custom { model } = &l0.cpu.mode else { return None };
        let begins = metal_processors.filter(|begins| !model.starts_with(begins))?;
        return Some(format!("needs a real machine with {model}: the emulated one has a {begins}"));
    }
    let why = if let (Some(why), true) = (metal.no_guests(), cell.innermost().reports()) {
        format!("no guest runs there: {why}")
    } else if cell.steps.iter().any(|step| step.action == StepAction::Own { action: OwnAction::Reboot }) {
        "it can't be reset from outside".to_owned()
    } else if l0.disk
        || l0.machine_type.is_some()
        || !l0.machine.is_empty()
        || l0.cpu != CpuRequirement::default()
    {
        "its machine and processor can't be chosen by QEMU's names".to_owned()
    } else {
        return None;
    };
    let program = metal.program(qemu);
    Some(format!(
        "needs a real {} machine: the emulated one is played by {program}, and {why}",
        cell.architecture
    ))
}

/// Whether the stop that a cell expects is just this: its L1 does not get the extension by which it could host.
fn expects_no_extension(cell: &Cell) -> bool {
    let Nesting::CpuFeature(extension) = ArchInfo::of(cell.architecture).nesting else { return false };
    let Expectation::Stops { limitation, .. } = &cell.expectation else { return false };
    let launch = Stage::Level(LevelNumber::ALL[1], StageKind::Launch);
    let is_there = match limitation.stop {
        StopStage::At(stage) => stage == launch,
        StopStage::From(stage) => stage <= launch,
    };
    let names_it = limitation.symptom.as_ref().is_some_and(|texts| texts.found_in(extension).is_some());
    is_there && names_it && limitation.kind == Some(SymptomKind::MissingCpuFeature)
}

/// This machine's own system as L0, if it is what the scenario asks for or stands in for it.
fn native_choice(
    native: &NativeMetal,
    spec: &LevelSpec,
    architecture: Architecture,
    matrix: &Matrix,
    stand_ins: StandIns<'_>,
) -> Result<Choice, String> {
    if spec.system.is_emulator() {
        return Err(format!("{} is an emulator, and native metal does without one", spec.system));
    }
    let image = native.image().ok_or_else(|| native.unknown_system())?;
    let choice = matrix.image_for(&spec.system, architecture, &[image], stand_ins);
    choice.map_err(|_| format!("needs {}: this machine runs {}", spec.system, native.system))
}

/// What there is to boot stacks with: for each architecture that stacks can be booted of, the images that there are recipes
/// for, as the scenario model knows them (`debian-13`).
pub fn supply(catalog: &Catalog) -> Supply {
    Supply::new(|architecture| {
        let isa = architecture.isa();
        let of_isa = catalog.recipes().filter(|recipe| recipe.isa() == isa);
        of_isa.filter_map(ordinary_image).collect()
    })
    .barring(|cell| match &cell.no_machine {
        Some(why) => Some(no_machine(why)),
        None => why_barred(cell),
    })
}

fn ordinary_image(recipe: &Recipe) -> Option<AvailableImage> {
    available_image(recipe).filter(|_| recipe.os().is_some_and(|os| os.variant.is_none()))
}

fn available_image(recipe: &Recipe) -> Option<AvailableImage> {
    let os = recipe.os()?;
    let version: Version = os.version.parse().ok()?;
    Some(AvailableImage { name: format!("{}-{}", os.id, os.version), system: os.id.clone(), version })
}

fn recipe_of<'c>(catalog: &'c Catalog, image: &str, isa: Isa, variant: Option<&str>) -> Option<&'c Recipe> {
    catalog.recipes().find(|recipe| {
        recipe.isa() == isa
            && recipe.os().is_some_and(|os| os.variant.as_deref() == variant)
            && available_image(recipe).is_some_and(|a| a.name == image)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nestmatrix_model::{Command, OwnAction, Step, StepAction};
    use nestmatrix_stack::host::Facts;
    use rstest::rstest;

    use super::*;
    use crate::scenario::{Filter, Limitation, Listing, SymptomTexts};

    /// Cells of an emulator as L0 and of an ordinary one, on an architecture whose emulated metal runs guests and on one whose
    /// does not.
    fn matrix() -> Matrix {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let systems = "[[system]]\nid = \"debian\"\nname = \"Debian\"\n\
                       [[system]]\nid = \"tcg\"\nname = \"TCG\"\nhypervisor = \"tcg\"\n";
        let document = "id = \"d\"\ntitle = \"t\"\nproduct = \"p\"\nsection = \"1\"\nlanguage = \"en\"\n[[claim]]\n\
                        id = \"c\"\nsection = \"1\"\ntier = \"supported\"\ntext = \"t\"\n";
        let scenario = "name = \"s\"\ntitle = \"t\"\ndocument = \"d\"\nclaims = [\"c\"]\ntier = \"supported\"\n[axes]\n\
                        architecture = [\"amd\", \"ibm-z\"]\nl0 = [\"tcg\", \"debian 12\"]\nl1 = [\"debian 13\"]\n";
        write("systems.toml", systems);
        write("documents/d.toml", document);
        write("product/s.toml", scenario);
        Matrix::load(folder.path()).unwrap()
    }

    fn catalog() -> Catalog {
        Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes")).unwrap()
    }

    /// A plan with native metal that runs Debian 12.
    fn plan(metal: MetalChoice) -> RunPlan {
        plan_with(metal, |_| {})
    }

    /// The same, with every cell changed before it is planned.
    fn plan_with(metal: MetalChoice, change: impl Fn(&mut Cell)) -> RunPlan {
        let facts = Facts { os: "debian".into(), os_version: "12".into(), ..Facts::default() };
        let options = PlanOptions { metal, ..PlanOptions::default() };
        let matrix = matrix();
        let mut cells = matrix.cells().to_vec();
        cells.iter_mut().for_each(change);
        let natives = NativeMetals::from([(Architecture::Amd, Ok(NativeMetal::of(&facts, "kvm_amd")))]);
        RunPlan::new(cells, &matrix, &catalog(), &natives, &options)
    }

    fn texts(reasons: &[SkipReason]) -> Vec<String> {
        reasons.iter().map(ToString::to_string).collect()
    }

    fn metals(plan: &RunPlan) -> Vec<Option<Metal>> {
        let metal = |planned: &Planned| match &planned.fate {
            Fate::Boots { metal, .. } => Some(*metal),
            Fate::Skipped(_) => None,
        };
        plan.cells.iter().map(metal).collect()
    }

    #[test]
    fn an_l0_that_is_the_emulator_boots_nothing_and_goes_without_native_metal() {
        let auto = plan(MetalChoice::Auto);
        assert_eq!(metals(&auto), [Some(Metal::Emulated), Some(Metal::Native), Some(Metal::Emulated), None]);
        let Fate::Boots { levels, .. } = &auto.cells[0].fate else { panic!("{auto:#?}") };
        let boots: Vec<_> = levels.iter().map(|level| level.boots.clone()).collect();
        assert_eq!(boots, [None, Some(("debian-13-amd64".into(), Product::Minimal))]);
        assert_eq!((levels[0].choice.image.as_str(), levels[0].choice.stand_in), ("emulator", false));

        let native = plan(MetalChoice::Native);
        assert_eq!(metals(&native), [None, Some(Metal::Native), None, None]);
        let why = "TCG is an emulator, and native metal does without one (L0 on amd64)";
        assert_eq!(texts(native.skipped().next().unwrap().1), [why]);
    }

    #[rstest]
    #[case::step(
        |cell: &mut Cell| {
            let (after, on) = ("l0-kvm".parse().unwrap(), LevelNumber::ALL[0]);
            cell.steps = vec![Step { name: "reboot".into(), after, on, action: StepAction::Own { action: OwnAction::Reboot }, reads: false, timeout: None }];
        },
        "it has steps in L0 that may change it"
    )]
    #[case::parameters(
        |cell: &mut Cell| cell.levels[0].kernel_parameters = vec!["kvm_amd.nested=0".into()],
        "it sets kernel parameters of L0"
    )]
    #[case::cpu(
        |cell: &mut Cell| cell.levels[0].cpu.mode = CpuMode::Custom { model: "EPYC".into() },
        "it sets the CPU of L0"
    )]
    #[case::disk(|cell: &mut Cell| cell.levels[0].disk = true, "it gives L0 a disk")]
    fn what_is_done_to_l0_is_never_done_to_this_machine(#[case] change: fn(&mut Cell), #[case] what: &str) {
        assert_eq!(metals(&plan_with(MetalChoice::Auto, change))[1], Some(Metal::Emulated));
        let native = plan_with(MetalChoice::Native, change);
        assert_eq!(metals(&native)[1], None);
        let why = format!("{what}, and on native metal this machine is L0");
        assert_eq!(texts(native.skipped().nth(1).unwrap().1), [why]);
    }

    /// A step in L0 that only looks, if its author says so.
    fn look(reads: bool, run: &str) -> Step {
        let action = StepAction::Run(Command { run: run.into(), fails: false, status: None, output: None });
        let (after, on) = ("l0-kvm".parse().unwrap(), LevelNumber::ALL[0]);
        Step { name: "look".into(), after, on, action, reads, timeout: None }
    }

    #[rstest]
    #[case::declared(true, "grep 1 /sys/module/kvm/parameters/nested", Some(Metal::Native))]
    #[case::not_declared(false, "grep 1 /sys/module/kvm/parameters/nested", Some(Metal::Emulated))]
    #[case::wrongly_declared(true, "modprobe -r kvm", Some(Metal::Emulated))]
    fn a_step_that_is_said_and_known_to_only_read_is_done_on_this_machine(
        #[case] reads: bool,
        #[case] run: &str,
        #[case] metal: Option<Metal>,
    ) {
        let with_step = |cell: &mut Cell| cell.steps = vec![look(reads, run)];
        assert_eq!(metals(&plan_with(MetalChoice::Auto, with_step))[1], metal);
    }

    fn stop_at_l1_launch(symptom: &str) -> Expectation {
        let stop = StopStage::At("l1-launch".parse().unwrap());
        let limitation = Limitation {
            kind: Some(SymptomKind::MissingCpuFeature),
            ..Limitation::new(stop, SymptomTexts::new([symptom]))
        };
        Expectation::Stops { limitation, known_stale: None }
    }

    #[rstest]
    #[case::works(Expectation::WORKS, Some("needs SIE: TCG has none"))]
    #[case::stops_for_another_feature(stop_at_l1_launch("aes"), Some("needs SIE: TCG has none"))]
    #[case::stops_for_it(stop_at_l1_launch("sief2"), None)]
    fn what_an_emulator_lacks_skips_no_cell_that_expects_to_stop_for_it(
        #[case] expectation: Expectation,
        #[case] why: Option<&str>,
    ) {
        let matrix = matrix();
        let is_of_z = |cell: &&Cell| cell.name.as_str().contains("/ibm-z/tcg");
        let mut cell = matrix.cells().iter().find(is_of_z).unwrap().clone();
        let inner = LevelSpec { level: LevelNumber::ALL[2], ..cell.levels[1].clone() };
        cell.levels.push(inner);
        cell.expectation = expectation;
        assert_eq!(beyond_metal(&cell).as_deref(), why);
    }

    #[rstest]
    #[case::off("0", 3, Some("needs nesting switched on in L0's KVM: kvm_amd of this machine has nested=0"))]
    #[case::off_in_words(
        "N",
        3,
        Some("needs nesting switched on in L0's KVM: kvm_amd of this machine has nested=N")
    )]
    #[case::on("1", 3, None)]
    #[case::not_asked_for("0", 2, None)]
    fn a_machine_whose_kvm_does_not_nest_runs_no_guests_of_guests(
        #[case] nested: &str,
        #[case] levels: usize,
        #[case] why: Option<&str>,
    ) {
        let facts = Facts { nested: Some(nested.into()), ..Facts::default() };
        let innermost = LevelNumber::ALL[levels - 1];
        assert_eq!(NativeMetal::of(&facts, "kvm_amd").lacks_nesting(innermost), why);
    }

    #[test]
    fn an_l0_that_is_alone_is_never_this_machine_nor_the_emulator() {
        let alone = |cell: &mut Cell| cell.levels.truncate(1);
        let auto = plan_with(MetalChoice::Auto, alone);
        assert_eq!(metals(&auto), [None, Some(Metal::Emulated), None, Some(Metal::Emulated)]);
        assert_eq!(texts(auto.skipped().next().unwrap().1), ["needs a guest: TCG alone boots nothing"]);
        let native = plan_with(MetalChoice::Native, alone);
        assert_eq!(
            texts(native.skipped().nth(1).unwrap().1),
            ["L0 is alone, and on native metal this machine is L0"]
        );
    }

    #[test]
    fn a_run_and_the_list_skip_a_cell_for_the_same_reason() {
        let matrix = matrix();
        let plan = plan(MetalChoice::Emulated);
        let listing = Listing::new(&matrix, &Filter::parse(&[]).unwrap(), &supply(&catalog()), false);
        let skipped: Vec<_> =
            plan.skipped().map(|(cell, reasons)| (cell.name.clone(), texts(reasons))).collect();
        let listed = listing.rows().iter().filter(|row| !row.missing.is_empty());
        assert_eq!(listed.map(|row| (row.cell.clone(), row.missing.clone())).collect::<Vec<_>>(), skipped);
        let [(cell, reasons)] = &skipped[..] else { panic!("{skipped:?}") };
        assert!(cell.as_str().contains("/ibm-z/debian-12"), "{cell}");
        assert!(
            reasons[0].starts_with("needs a real ibm-z machine: the emulated one is played by hercules"),
            "{reasons:?}"
        );
    }
}
