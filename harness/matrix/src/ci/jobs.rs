//! Which of several kinds of machines runs which cells: the jobs of a nightly CI.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use nestmatrix_images::Catalog;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, Isa, Version, Word as _};
use nestmatrix_stack::Metal;

use crate::records::{in_one_line, no_machine};
use crate::run::{
    Fate, Feature, MetalChoice, NativeMetal, PlanOptions, Planned, Requirement, RunPlan, Runner,
    kind_of_guest, machine_change, outermost_program, why_barred,
};
use crate::scenario::{Cell, Denied, Matrix};
use crate::surroundings::Surroundings;

use super::memory::memory_mib;

/// The label of runners that are bare machines.
const BARE_METAL: &str = "bare-metal";
/// How the label of runners begins that are virtual machines of a system: `guest-of-aws`.
const GUEST_OF: &str = "guest-of-";
/// The label of bare machines that cells may change.
const DISPOSABLE_HOST: &str = "disposable-host";
/// The label of runners on which emulators run.
const EMULATED: &str = "emulated";

/// A kind of machines, identified by its labels in a CI system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerKind {
    /// Its labels, as they were given.
    pub labels: Vec<String>,
    native: Option<Native>,
}

/// A machine whose KVM is used.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Native {
    architecture: Architecture,
    /// Its system, which is L0, or L1 of a guest: `debian` and `13`.
    system: (String, String),
    /// The id of the system that it is a guest of; none for a bare machine.
    guest_of: Option<String>,
    /// Whether cells may change it.
    disposable: bool,
}

/// Why labels do not make a kind of machines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLabels {
    /// The labels don't say whether the machine's KVM is used, or say it twice.
    #[error("one of the labels must be `{BARE_METAL}`, `{GUEST_OF}SYSTEM` or `{EMULATED}`")]
    Metal,
    /// A machine whose KVM is used is of one architecture.
    #[error("a machine whose KVM is used needs one label of {}", architecture_labels())]
    Architecture,
    /// The system of a machine whose KVM is used is a level.
    #[error("a machine whose KVM is used needs one label for its system, such as `debian-13` or `rhel-10.1`")]
    System,
    /// A label is empty or has characters that no label has.
    #[error("{0:?} is not a label: use letters, digits, `.`, `_` and `-`")]
    Label(String),
}

/// The labels of bare machines by architecture, for a sentence: `` `amd`, `intel` and `arm` ``.
pub fn architecture_labels() -> String {
    let quoted = |one: &Architecture| format!("`{}`", ArchInfo::of(*one).runner_label);
    let labels: Vec<String> = Architecture::ALL.iter().map(quoted).collect();
    match labels.as_slice() {
        [others @ .., last] if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        labels => labels.join(", "),
    }
}

impl FromStr for RunnerKind {
    type Err = BadLabels;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let labels: Vec<String> = text.split(',').map(|label| label.trim().to_owned()).collect();
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(bad) = labels.iter().find(|label| label.is_empty() || !label.chars().all(fits)) {
            return Err(BadLabels::Label(bad.clone()));
        }
        let has = |wanted: &str| labels.iter().any(|label| label == wanted);
        let is_labelled = |architecture: &Architecture| has(ArchInfo::of(*architecture).runner_label);
        let architectures: Vec<Architecture> =
            Architecture::ALL.iter().copied().filter(is_labelled).collect();
        // A word and a version. Other labels have no meaning here.
        let system = |label: &String| {
            let (system, version) = label.rsplit_once('-')?;
            version.parse::<Version>().is_ok().then(|| (system.to_owned(), version.to_owned()))
        };
        let mut systems: Vec<(String, String)> = labels.iter().filter_map(system).collect();
        let bare = labels.iter().filter(|label| *label == BARE_METAL).map(|_| None);
        let guests = labels.iter().filter_map(|label| Some(Some(label.strip_prefix(GUEST_OF)?.to_owned())));
        let mut kinds: Vec<Option<String>> = bare.chain(guests).collect();
        let native = match (kinds.len(), has(EMULATED), architectures.as_slice(), systems.len()) {
            (0, true, ..) => None,
            (1, false, [architecture], 1) => Some(Native {
                architecture: *architecture,
                system: systems.remove(0),
                guest_of: kinds.remove(0),
                disposable: has(DISPOSABLE_HOST),
            }),
            (1, false, [_], _) => return Err(BadLabels::System),
            (1, false, ..) => return Err(BadLabels::Architecture),
            _ => return Err(BadLabels::Metal),
        };
        Ok(Self { labels, native })
    }
}

impl RunnerKind {
    /// What such a machine has, by its labels.
    fn runner(&self, matrix: &Matrix) -> Runner {
        let runner = Runner::default().with(Feature::Isa(self.isa()));
        let Some(Native { architecture, .. }) = &self.native else { return runner };
        let around = self.guest_of().and_then(|id| matrix.systems().iter().find(|system| system.id == id));
        let runner =
            around.into_iter().map(|system| Feature::GuestOf(system.name.clone())).fold(runner, Runner::with);
        let module = ArchInfo::of(*architecture).kvm_module.to_owned();
        let runner = runner.with(Feature::KvmDevice(module)).with(Feature::KvmGuests);
        let runner = if self.is_disposable() { runner.with(Feature::DisposableHost) } else { runner };
        match self.cpu_flag() {
            Some(flag) => runner.with(Feature::CpuFlag(flag.to_owned())),
            None => runner,
        }
    }

    /// The id of the system that such a machine is a guest of, if it is one.
    pub fn guest_of(&self) -> Option<&str> {
        self.native.as_ref()?.guest_of.as_deref()
    }

    /// Whether such a machine is what a cell's L0 needs, or what it needs around itself.
    fn is_right_for(&self, cell: &Cell) -> bool {
        let around = cell.l0_around().map(|l0| l0.system.as_str());
        self.native.is_none() || self.guest_of() == around
    }

    /// Its instruction set.
    pub fn isa(&self) -> Isa {
        // Emulators that play bare machines are made for this one.
        self.native.as_ref().map_or(Isa::Amd64, |bare| bare.architecture.isa())
    }

    /// The flag in /proc/cpuinfo that its processors must have, if there is one.
    pub fn cpu_flag(&self) -> Option<&'static str> {
        ArchInfo::of(self.native.as_ref()?.architecture).virtualization_flag
    }

    /// Whether cells may change such a machine as their L0.
    pub fn is_disposable(&self) -> bool {
        self.native.as_ref().is_some_and(|native| native.disposable)
    }

    /// The metal of L0 on such a machine.
    pub fn metal(&self) -> Metal {
        if self.native.is_some() { Metal::Native } else { Metal::Emulated }
    }
}

impl fmt::Display for RunnerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.labels.join(" "))
    }
}

/// The cells of one kind of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its place among the kinds.
    pub kind: usize,
    /// Globs of the cells, each of one scenario and architecture, or names of cells where a glob would take others with it.
    pub cells: Vec<String>,
    /// Memory in MiB that is enough for each of them, of which one runs at a time.
    pub memory_mib: u64,
    /// About how long they take one after the other on emulated metal, in seconds, once their images are built.
    pub seconds: u64,
}

/// Cells, divided by the kinds of machines that run them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jobs {
    /// One for each kind that runs any. The cells of bare machines must run there: a skip means that something was lost.
    pub jobs: Vec<Job>,
    /// The cells that no kind can run, with the reasons. The machines for emulated metal get them anyway, to record the skip.
    pub nowhere: Vec<(String, String)>,
}

impl Jobs {
    /// Gives each cell to the first kind that meets its requirements and has images for it. Machines whose KVM is used come before others.
    /// If images are missing everywhere, the machines for emulated metal record that.
    pub fn new(
        cells: &[Cell],
        matrix: &Matrix,
        catalog: &Catalog,
        kinds: &[RunnerKind],
        denied: Denied,
    ) -> Self {
        let plan = |kind: &RunnerKind| kind.plan(cells, matrix, catalog, denied);
        let plans: Vec<RunPlan> = kinds.iter().map(plan).collect();
        let mut order: Vec<usize> = (0..kinds.len()).collect();
        order.sort_by_key(|kind| kinds[*kind].native.is_none());
        let mut jobs = Self::default();
        let mut of_kind: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
        for (index, cell) in cells.iter().enumerate() {
            let meets = |kind: &usize| {
                let kind = &kinds[*kind];
                kind.is_right_for(cell)
                    && requirement(cell, catalog, kind.metal()).unmet(&kind.runner(matrix)).is_none()
            };
            let boots = |kind: &&usize| matches!(plans[**kind].cells[index].fate, Fate::Boots { .. });
            let able: Vec<usize> = order.iter().copied().filter(meets).collect();
            let emulated = able.iter().find(|kind| kinds[**kind].native.is_none());
            match able.iter().find(boots).or(emulated) {
                Some(kind) => {
                    of_kind.entry(*kind).or_default().insert(cell.name.as_str());
                }
                None => {
                    let missing = able.first().map(|kind| &plans[*kind].cells[index].fate);
                    let why = match missing {
                        Some(Fate::Skipped(missing)) => in_one_line(missing),
                        Some(Fate::Boots { .. }) | None => everywhere_unmet(cell, catalog),
                    };
                    jobs.nowhere.push((cell.name.to_string(), why));
                    // The results must include it as a skip with its reason.
                    if let Some(kind) = order.iter().find(|kind| kinds[**kind].native.is_none()) {
                        of_kind.entry(*kind).or_default().insert(cell.name.as_str());
                    }
                }
            }
        }
        let job = |(kind, taken): (usize, BTreeSet<&str>)| {
            let of_job =
                plans[kind].cells.iter().filter(|planned| taken.contains(planned.cell.name.as_str()));
            let seconds = |planned: &Planned| ArchInfo::of(planned.cell.architecture).typical_seconds;
            Job {
                kind,
                cells: globs(&taken, matrix.cells()),
                memory_mib: of_job
                    .clone()
                    .map(|planned| memory_mib(planned, catalog))
                    .max()
                    .unwrap_or_default(),
                seconds: of_job.map(seconds).sum(),
            }
        };
        jobs.jobs = of_kind.into_iter().map(job).collect();
        jobs
    }
}

/// Why none of the kinds runs a cell.
fn everywhere_unmet(cell: &Cell, catalog: &Catalog) -> String {
    if let Some(why) = &cell.no_machine {
        return no_machine(why);
    }
    let needs = |metal| format!("needs {}", requirement(cell, catalog, metal));
    if let Some(around) = cell.l0_around() {
        return format!("needs {}", kind_of_guest(&around.name));
    }
    let native = match machine_change(cell).filter(|change| !change.is_restorable) {
        Some(change) => format!("{}, and there the machine is {}", change.what, change.machine),
        None => needs(Metal::Native),
    };
    let emulated = why_barred(cell).unwrap_or_else(|| needs(Metal::Emulated));
    format!("on native metal: {native}; on emulated metal: {emulated}")
}

impl RunnerKind {
    /// What would happen to these cells there.
    fn plan(&self, cells: &[Cell], matrix: &Matrix, catalog: &Catalog, denied: Denied) -> RunPlan {
        let metal = if self.native.is_some() { MetalChoice::Native } else { MetalChoice::Emulated };
        let options =
            PlanOptions { metal, denied, disposable_host: self.is_disposable(), ..PlanOptions::default() };
        let native = self.native.iter().map(|Native { architecture, system: (os, version), .. }| {
            let machine = NativeMetal::named(os.clone(), version.clone());
            (*architecture, Ok(machine.inside(Surroundings::of_guest(self.guest_of(), matrix))))
        });
        RunPlan::new(cells.iter().cloned(), matrix, catalog, &native.collect(), &options)
    }
}

/// What a cell requires of a machine that runs it on this metal.
pub fn requirement(cell: &Cell, catalog: &Catalog, metal: Metal) -> Requirement {
    // No machine can meet this requirement.
    let impossible = Requirement::Any(Vec::new());
    match metal {
        _ if cell.no_machine.is_some() => impossible,
        Metal::Native => {
            let native = match cell.l0_around() {
                Some(around) => Requirement::guest_of(cell.architecture, &around.name),
                None => Requirement::native_metal(cell.architecture),
            };
            match machine_change(cell) {
                Some(change) if change.is_restorable => {
                    Requirement::All(vec![native, Requirement::Has(Feature::DisposableHost)])
                }
                Some(_) => impossible,
                None => native,
            }
        }
        Metal::Emulated if why_barred(cell).is_some() => impossible,
        Metal::Emulated => {
            let program = outermost_program(cell, metal);
            let emulators = catalog.recipes().filter(|recipe| recipe.emulator() == Some(program));
            let isas = emulators.map(|recipe| Feature::Isa(recipe.isa()));
            Requirement::Any(isas.map(Requirement::Has).collect())
        }
    }
}

/// Globs that match these cells and no others. One glob is enough for a scenario and architecture whose cells are all included.
fn globs(wanted: &BTreeSet<&str>, all: &[Cell]) -> Vec<String> {
    let group = |name: &str| {
        let end = name.match_indices('/').nth(1).map_or(name.len(), |(at, _)| at + 1);
        name[..end].to_owned()
    };
    let mut whole: BTreeMap<String, bool> = BTreeMap::new();
    for cell in all {
        let taken = wanted.contains(cell.name.as_str());
        whole.entry(group(cell.name.as_str())).and_modify(|whole| *whole &= taken).or_insert(taken);
    }
    let glob = |name: &&str| match whole.get(&group(name)) {
        Some(true) => format!("{}*", group(name)),
        Some(false) | None => (*name).to_owned(),
    };
    wanted.iter().map(glob).collect::<BTreeSet<String>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;
    use crate::scenario::Filter;

    const ALL_KINDS: [&str; 4] = [
        "emulated",
        "amd,bare-metal,debian-13",
        "intel,bare-metal,debian-12,rack7",
        "z,bare-metal,debian-13",
    ];

    fn project() -> (Matrix, Catalog) {
        let top = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        (Matrix::load(&top.join("scenarios")).unwrap(), Catalog::load(&top.join("images/recipes")).unwrap())
    }

    fn kinds(of: &[&str]) -> Vec<RunnerKind> {
        of.iter().map(|labels| labels.parse().unwrap()).collect()
    }

    #[rstest]
    #[case("amd", BadLabels::Metal)]
    #[case("emulated,bare-metal,amd,debian-13", BadLabels::Metal)]
    #[case("bare-metal,debian-13", BadLabels::Architecture)]
    #[case("bare-metal,amd,intel,debian-13", BadLabels::Architecture)]
    #[case("bare-metal,amd", BadLabels::System)]
    #[case("bare-metal,amd,debian-12,debian-13", BadLabels::System)]
    #[case("bare-metal,guest-of-aws,amd,debian-13", BadLabels::Metal)]
    #[case("guest-of-aws,debian-13", BadLabels::Architecture)]
    #[case("guest-of-aws,amd", BadLabels::System)]
    #[case("emulated,,", BadLabels::Label(String::new()))]
    #[case("emulated,it's", BadLabels::Label("it's".into()))]
    fn labels_that_leave_something_open_are_refused(#[case] labels: &str, #[case] why: BadLabels) {
        assert_eq!(labels.parse::<RunnerKind>(), Err(why));
    }

    #[rstest]
    #[case(&ALL_KINDS)]
    #[case(&ALL_KINDS[..1])]
    #[case(&ALL_KINDS[1..])]
    fn each_cell_has_one_job_or_a_reason_why_none(#[case] of: &[&str]) {
        let (matrix, catalog) = project();
        let kinds = kinds(of);
        let jobs = Jobs::new(matrix.cells(), &matrix, &catalog, &kinds, Denied::default());
        let filters: Vec<Filter> = jobs.jobs.iter().map(|job| Filter::parse(&job.cells).unwrap()).collect();
        for cell in matrix.cells() {
            let in_jobs = filters.iter().filter(|filter| filter.matches(&cell.name)).count();
            let nowhere = jobs.nowhere.iter().any(|(name, _)| name == cell.name.as_str());
            let emulated = kinds.iter().any(|kind| kind.native.is_none());
            assert_eq!(in_jobs, usize::from(emulated || !nowhere), "{}", cell.name);
        }
    }

    #[rstest]
    #[case::all(Denied::default(), 3)]
    // Bug reports are about Debian, vendors' documents are not.
    #[case::only_systems_that_documents_name(Denied { rebuilds: true, stand_ins: true }, 2)]
    fn bare_machines_get_what_they_can_boot_and_nothing_else(
        #[case] denied: Denied,
        #[case] kinds_of_bare: usize,
    ) {
        let (matrix, catalog) = project();
        let kinds = kinds(&ALL_KINDS);
        let jobs = Jobs::new(matrix.cells(), &matrix, &catalog, &kinds, denied);
        let bare: Vec<&Job> = jobs.jobs.iter().filter(|job| kinds[job.kind].native.is_some()).collect();
        assert_eq!(bare.len(), kinds_of_bare);
        for job in bare {
            let plan = kinds[job.kind].plan(matrix.cells(), &matrix, &catalog, denied);
            let filter = Filter::parse(&job.cells).unwrap();
            let of_job: Vec<_> =
                plan.cells.iter().filter(|planned| filter.matches(&planned.cell.name)).collect();
            assert!(!of_job.is_empty());
            for planned in of_job {
                let native = matches!(planned.fate, Fate::Boots { metal: Metal::Native, .. });
                assert!(native, "{}: {:?}", planned.cell.name, planned.fate);
            }
        }
    }

    #[rstest]
    #[case::allowed(false)]
    #[case::denied(true)]
    fn a_bare_machine_with_a_rebuild_gets_cells_of_its_original(#[case] rebuilds: bool) {
        let (matrix, catalog) = project();
        let kinds = kinds(&["amd,bare-metal,almalinux-9.4"]);
        let denied = Denied { rebuilds, stand_ins: false };
        let jobs = Jobs::new(matrix.cells(), &matrix, &catalog, &kinds, denied);
        let gets = |glob: &str| jobs.jobs.iter().any(|job| job.cells.contains(&glob.to_owned()));
        assert_eq!(gets("rhel-9-preview/amd/*"), !rebuilds, "{jobs:#?}");
        assert!(!gets("rhel-10-preview/amd/*"));
    }

    #[rstest]
    #[case::its_own("guest-of-aws,intel,rhel-10.1", &["rhel-10-non-kvm-l0/intel/aws/rhel-10.0+/rhel-10.0+"])]
    #[case::of_another_cloud("guest-of-gcp,intel,rhel-10.1", &[])]
    #[case::with_another_system("guest-of-aws,intel,fedora-40", &[])]
    #[case::bare("bare-metal,intel,rhel-10.1", &[])]
    fn a_virtual_machine_of_a_cloud_gets_the_cells_whose_l0_that_is(
        #[case] labels: &str,
        #[case] expected: &[&str],
    ) {
        let (matrix, catalog) = project();
        let all = matrix.cells().iter();
        let cells: Vec<Cell> =
            all.filter(|cell| cell.name.as_str().starts_with("rhel-10-non-kvm-l0/intel/")).cloned().collect();
        let jobs = Jobs::new(&cells, &matrix, &catalog, &kinds(&[labels]), Denied::default());
        let got: Vec<&str> = jobs.jobs.iter().flat_map(|job| job.cells.iter().map(String::as_str)).collect();
        assert_eq!(got, expected, "{jobs:#?}");
        let nowhere =
            jobs.nowhere.iter().find(|(cell, _)| cell.contains("vmware")).map(|(_, why)| why.as_str());
        assert_eq!(nowhere, Some("needs a virtual machine of VMware ESXi with nested virtualization"));
    }

    #[test]
    fn a_virtual_machine_of_a_cloud_gets_no_cell_that_needs_a_bare_one() {
        let (matrix, catalog) = project();
        let kinds = kinds(&["guest-of-aws,amd,debian-13"]);
        let jobs = Jobs::new(matrix.cells(), &matrix, &catalog, &kinds, Denied::default());
        let all_around = |job: &Job| job.cells.iter().all(|cell| cell.contains("/aws/"));
        assert!(jobs.jobs.len() == 1 && jobs.jobs.iter().all(all_around), "{jobs:#?}");
    }

    #[rstest]
    #[case::ordinary("amd,bare-metal,debian-11", false)]
    #[case::disposable("amd,bare-metal,debian-11,disposable-host", true)]
    fn only_machines_that_may_be_changed_get_cells_that_change_them(
        #[case] labels: &str,
        #[case] gets: bool,
    ) {
        let (matrix, catalog) = project();
        let kinds = kinds(&[labels]);
        let changes = |cell: &&Cell| cell.name.as_str().starts_with("rhel-8-enable-nesting/amd/");
        let cells: Vec<Cell> = matrix.cells().iter().filter(changes).cloned().collect();
        let jobs = Jobs::new(&cells, &matrix, &catalog, &kinds, Denied::default());
        assert_eq!((!jobs.jobs.is_empty(), jobs.nowhere.is_empty()), (gets, gets), "{jobs:#?}");
        if let [(_, why)] = jobs.nowhere.as_slice() {
            assert!(why.contains("a KVM that runs stock guests) and a disposable host;"), "{why}");
        }
    }

    #[test]
    fn a_part_of_a_scenario_is_named_cell_by_cell() {
        let (matrix, catalog) = project();
        let preview: Vec<Cell> = matrix
            .cells()
            .iter()
            .filter(|cell| cell.name.as_str().starts_with("rhel-10-preview/"))
            .cloned()
            .collect();
        let emulated = kinds(&["emulated"]);
        let all = Jobs::new(&preview, &matrix, &catalog, &emulated, Denied::default());
        assert!(all.jobs[0].cells.contains(&"rhel-10-preview/amd/*".to_owned()), "{all:?}");
        let amd = preview.iter().position(|cell| cell.architecture == Architecture::Amd).unwrap();
        let one = Jobs::new(&preview[amd..=amd], &matrix, &catalog, &emulated, Denied::default());
        assert_eq!(one.jobs[0].cells, [preview[amd].name.to_string()]);
    }
}
