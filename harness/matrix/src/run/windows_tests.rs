//! What happens to the cells of the project that name Windows, with and without media of it, on each metal. Boots nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nestmatrix_images::{Part, Product};
use nestmatrix_model::{Architecture, Isa, LevelNumber};
use nestmatrix_stack::Metal;
use rstest::rstest;

use super::{Fate, MetalChoice, NativeMetal, NativeMetals, PlanOptions, PlannedLevel, RunPlan, supply};
use crate::media::MediumRow;
use crate::records::SkipReason;
use crate::report::{self, ImageListing, Listing, Style};
use crate::scenario::{Cell, Denied, Filter, Matrix};
use crate::user_media::User;

const VERSIONS: [&str; 6] = [
    "windows-server-2016",
    "windows-server-2019",
    "windows-server-2022",
    "windows-server-2025",
    "windows-10",
    "windows-11",
];

fn project() -> Matrix {
    Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap()
}

/// The cells of the project that name Windows.
fn cells(matrix: &Matrix) -> Vec<Cell> {
    matrix.cells().iter().filter(|cell| cell.windows().is_some()).cloned().collect()
}

/// Adds a medium of Windows, with these files besides its drivers.
fn add_windows(user: &User, name: &str, files: &[&str]) {
    let file = user.add_medium(name, Isa::Amd64);
    let record = file.parent().unwrap().join("media").join(format!("{name}-{}.toml", Isa::Amd64));
    let mut text = fs::read_to_string(&record).unwrap();
    let keys = ["file", "sha256", "size", "modified"];
    let of_file = |line: &&str| keys.iter().any(|key| line.starts_with(&format!("{key} =")));
    let known: Vec<String> = text.lines().filter(of_file).map(str::to_owned).collect();
    let tables = files.iter().map(|file| format!("files.{file:?}"));
    for table in std::iter::once("drivers".to_owned()).chain(tables) {
        text += &format!("[{table}]\n{}\n", known.join("\n"));
    }
    fs::write(record, text).unwrap();
}

/// A user who added every Windows, with these files.
fn with_media(files: &[&str]) -> User {
    let user = User::new();
    VERSIONS.iter().for_each(|name| add_windows(&user, name, files));
    user
}

/// The plan for a machine whose own system is this Debian if it can be L0, and which can't otherwise.
fn plan(user: &User, matrix: &Matrix, metal: MetalChoice, debian: Option<&str>) -> RunPlan {
    let native = |architecture| {
        let native = match debian {
            Some(version) => Ok(NativeMetal::named("debian".to_owned(), version.to_owned())),
            None => Err("needs a usable /dev/kvm: this machine has none".to_owned()),
        };
        (architecture, native)
    };
    let natives: NativeMetals = [Architecture::Amd, Architecture::Intel].map(native).into();
    let options = PlanOptions { metal, ..PlanOptions::default() };
    RunPlan::new(cells(matrix), matrix, &user.catalog(), &natives, &options)
}

/// What is said of each fate, and how many cells have it.
fn counted(plan: &RunPlan) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for planned in &plan.cells {
        let fate = match &planned.fate {
            Fate::Boots { metal, .. } => format!("boots on {metal} metal"),
            Fate::Skipped(reasons) => reasons
                .iter()
                .map(SkipReason::without_levels)
                .map(without_names)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
                .join("; "),
        };
        *counted.entry(fate).or_default() += 1;
    }
    counted
}

/// A reason without the system that it names.
fn without_names(reason: String) -> String {
    match reason.split_once("medium of ") {
        Some((before, _)) => format!("{before}medium"),
        None => reason,
    }
}

fn boots<'p>(plan: &'p RunPlan, cell: &str) -> (Metal, &'p [PlannedLevel]) {
    let planned = plan.cells.iter().find(|planned| planned.cell.name.as_str() == cell).unwrap();
    match &planned.fate {
        Fate::Boots { metal, levels } => (*metal, levels),
        Fate::Skipped(reasons) => panic!("{reasons:?}"),
    }
}

#[test]
fn all_cells_with_windows_have_a_fate() {
    let matrix = project();
    let plans = [
        ("nothing", plan(&User::new(), &matrix, MetalChoice::Auto, None)),
        ("native metal", plan(&User::new(), &matrix, MetalChoice::Auto, Some("12"))),
        ("media", plan(&with_media(&["wsl.msi"]), &matrix, MetalChoice::Auto, None)),
        ("media and native metal", plan(&with_media(&["wsl.msi"]), &matrix, MetalChoice::Auto, Some("12"))),
        (
            "media, native metal of Debian 13",
            plan(&with_media(&["wsl.msi"]), &matrix, MetalChoice::Auto, Some("13")),
        ),
        ("media without WSL's file", plan(&with_media(&[]), &matrix, MetalChoice::Auto, Some("12"))),
    ];
    let mut text = String::new();
    for (what, plan) in &plans {
        let fates = counted(plan);
        assert_eq!(fates.values().sum::<usize>(), 117);
        text += &format!("{what}:\n");
        fates.iter().for_each(|(fate, cells)| text += &format!("  {cells:>3}  {fate}\n"));
    }
    insta::assert_snapshot!(text);
}

#[rstest]
#[case::hyper_v(
    "rhel-9-preview-hyper-v/intel/rhel-9.2+/windows-server-2022_hyper-v/rhel-9.2+",
    "windows-server-2022-disk-amd64+hyper-v Disk",
    "debian-12-amd64 Minimal, uefi-amd64 Firmware"
)]
#[case::wsl2(
    "rhel-9-supported/amd/rhel-9.2+/windows-11_wsl2/wsl-2",
    "windows-11-disk-amd64+wsl2 Disk, swtpm",
    "debian-13-amd64 Minimal"
)]
#[case::innermost(
    "rhel-9-preview-windows-guest/amd/rhel-9.2+/rhel-9.2+/windows-server-2022",
    "debian-12-amd64 Hypervisor",
    "windows-server-2022-disk-amd64 Disk"
)]
fn a_windows_boots_the_disk_of_its_role_and_starts_what_is_made_of_packages(
    #[case] cell: &str,
    #[case] l1: &str,
    #[case] l2: &str,
) {
    let plan = plan(&with_media(&["wsl.msi"]), &project(), MetalChoice::Auto, Some("12"));
    let (metal, levels) = boots(&plan, cell);
    assert_eq!(metal, Metal::Native);
    let images = |level: &PlannedLevel| {
        let PlannedLevel { boots, firmware, swtpm, .. } = level;
        let swtpm = swtpm.as_ref().map(|_| "swtpm".to_owned());
        let images =
            [boots, firmware].into_iter().flatten().map(|(name, product)| format!("{name} {product:?}"));
        images.chain(swtpm).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(levels[0].boots, None);
    assert_eq!([&levels[1], &levels[2]].map(images), [l1, l2]);
    assert!(plan.prepared_first.contains("windows-server-2022"), "{:?}", plan.prepared_first);
    assert!(plan.images().contains(&("windows-server-2022-disk-amd64+hyper-v".to_owned(), Product::Disk)));
}

#[test]
fn what_the_authors_have_not_run_says_so() {
    let (user, matrix) = (with_media(&["wsl.msi"]), project());
    let line = "not yet run by its authors";
    let text = report::plan(&plan(&user, &matrix, MetalChoice::Auto, Some("12")), 1, false, &Style::plain());
    assert!(text.contains(&format!("{line}: Linux in WSL, Windows, Windows Server")), "{text}");
    let filter = Filter::parse(&["rhel-9-supported/amd/*".to_owned()]).unwrap();
    let listing = Listing::new(&matrix, &filter, &supply(&user.catalog()), Denied::default());
    let text = report::listing(&listing, &Style::plain());
    assert!(text.contains(&format!("    {line}: Linux in WSL, Windows, Windows Server\n")), "{text}");
    let listing = ImageListing::new(&matrix, &filter, &supply(&user.catalog()), Denied::default(), &[]);
    let text = report::images(&listing, &Style::plain());
    let count = "windows-11-disk: no cell boots it on emulated metal, 1 cell may on native metal\n";
    assert!(text.contains(count), "{text}");
    for row in MediumRow::all(&user.catalog()) {
        assert!(row.notes().contains(&line.to_owned()), "{row:?}");
    }
    let rhel = plan_of_rhel(&matrix);
    let text = report::plan(&rhel, 1, false, &Style::plain());
    assert!(rhel.boots().next().is_some() && !text.contains(line), "{text}");
}

#[rstest]
#[case::kernel(1, Part::Kernel, 58, "L1 has Windows, whose kernel can't be replaced")]
#[case::qemu(1, Part::Qemu, 58, "L1 has Windows: there is no QEMU in it")]
#[case::kernel_of_wsl(2, Part::Kernel, 58, "L2 runs in WSL, which has its own kernel")]
fn no_part_of_windows_is_replaced(
    #[case] level: u8,
    #[case] part: Part,
    #[case] before: usize,
    #[case] why: &str,
) {
    let mut plan = plan(&with_media(&["wsl.msi"]), &project(), MetalChoice::Auto, Some("12"));
    assert_eq!(plan.boots().count(), before);
    plan.skip_without(LevelNumber::new(level).unwrap(), part);
    let reasons: Vec<String> =
        plan.skipped().flat_map(|(_, reasons)| reasons).map(SkipReason::without_levels).collect();
    assert!(reasons.contains(&why.to_owned()), "{reasons:?}");
    assert!(plan.boots().count() < before);
}

/// The plan of cells without Windows on emulated metal.
fn plan_of_rhel(matrix: &Matrix) -> RunPlan {
    let cells = matrix.cells().iter().filter(|cell| cell.windows().is_none()).cloned();
    let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
    RunPlan::new(cells, matrix, &User::new().catalog(), &NativeMetals::new(), &options)
}
