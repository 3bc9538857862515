//! `metal-errata`: compares what an emulator gets wrong with the errata that are listed for it.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use nestmatrix::metal_errata::{Difference, OnMetal, compare};
use nestmatrix_images::{Emulator, Product, UnitTest};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, CaseOutcome, Isa, PROGRAM, SuiteKind};
use nestmatrix_stack::{Case, select_tests};

use crate::cli::ImageSource;
use crate::exit::Failure;
use crate::input;
use crate::kernels::escaped;
use crate::parent_death;
use crate::progress::BuildProgress;
use crate::terminal::{note, print};

/// The suite, and the architecture whose emulated metal runs it without KVM.
const SUITE: SuiteKind = SuiteKind::KvmUnitTests;
const ARCHITECTURE: Architecture = Architecture::Amd;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask payloads add kvm-unit-tests ~/kvm-unit-tests
  cargo xtask metal-errata svm --memory-mib 256 --append '-latency_run_exit -latency_run_exit_clean -latency_svm_insn'

Exit codes: 0 if the errata say the same, 1 if there are differences, 2 for bad input, 3 for any other error, 4 if no test ran.
docs/emulator-errata.md describes the list.")]
pub struct Arguments {
    /// Run these tests of kvm-unit-tests, or those of these groups; `*` matches any text
    #[arg(required = true, value_name = "TEST")]
    tests: Vec<String>,
    /// Give each test these arguments after its own
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    append: Option<String>,
    /// Give each test's machine this memory [default: the suite's]
    #[arg(long, value_name = "MIB")]
    memory_mib: Option<u32>,
    /// End a test after this time
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    #[command(flatten)]
    source: ImageSource,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let bad = |why: String| Failure::bad_input(miette::miette!("{}", escaped(&why)));
    let suites = input::suites()?;
    let suite = suites.iter().find(|suite| suite.kind() == SUITE);
    let suite = suite.ok_or_else(|| {
        bad(format!("{SUITE} was not added; add a folder in which it was built: `{PROGRAM} payloads add {SUITE} FOLDER`"))
    })?;
    let all = suite.tests().map_err(|e| bad(e.to_string()))?;
    let tests = select_tests(&all, &arguments.tests)
        .map_err(|pattern| bad(format!("{SUITE} has no test and no group {pattern:?}")))?;
    let runs = |test: &UnitTest| test.unusable.is_none() && test.file.is_file();
    let (tests, left_out): (Vec<UnitTest>, Vec<UnitTest>) = tests.into_iter().partition(runs);
    for test in &left_out {
        let why = test.unusable.as_deref().unwrap_or("it is not built");
        note!("{}", escaped(&format!("skipped: {}: {why}", test.name)));
    }
    if tests.is_empty() {
        note!("none of these tests is built and can run");
        return Ok(ExitCode::from(4));
    }
    let (emulator, program) = emulator(&arguments.source)?;
    let version = emulator.image().qemu_version().map(|qemu| qemu.upstream.clone());
    print(&format!("{SUITE} on {program} {}, without KVM\n", version.as_deref().unwrap_or_default()));
    let wrapper = parent_death::wrapper().map_err(Failure::error)?;
    let on_metal = OnMetal {
        emulator: &emulator,
        program,
        wrapper: wrapper.words(),
        append: arguments.append.as_deref(),
        memory_mib: arguments.memory_mib,
        timeout: Duration::from_secs(arguments.timeout),
    };
    let mut cases = Vec::new();
    for test in &tests {
        let of_test =
            on_metal.run(test).map_err(|e| Failure::error(format!("failed to run {program}: {e}")))?;
        print(&format!("  {}: {}\n", escaped(&test.name), counts(&of_test)));
        cases.extend(of_test);
    }
    let differences = compare(&cases, &tests, (SUITE, program, ARCHITECTURE, version.as_deref()));
    if differences.is_empty() {
        let of = match left_out.len() {
            0 => String::new(),
            skipped => format!(" for {} of {} tests", tests.len(), tests.len() + skipped),
        };
        print(&format!("the errata list the same failures{of}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    for difference in &differences {
        print(&format!("{}\n", escaped(&line(difference))));
    }
    Ok(ExitCode::from(1))
}

fn line(difference: &Difference) -> String {
    match difference {
        Difference::Unlisted(case) => {
            let said = case.said.as_ref().map_or(String::new(), |said| format!(" ({said})"));
            format!("not listed: {} is {}{said}", case.name, case.outcome)
        }
        Difference::Passed { case, erratum } => format!("passes now: {case} (erratum {erratum})"),
        Difference::Missing { case, erratum } => format!("did not run: {case} (erratum {erratum})"),
    }
}

fn counts(cases: &[Case]) -> String {
    let count = |outcome: CaseOutcome| cases.iter().filter(|case| case.outcome == outcome).count();
    let all =
        [CaseOutcome::Pass, CaseOutcome::Fail, CaseOutcome::Error, CaseOutcome::KnownFail, CaseOutcome::Skip];
    let counts = all.into_iter().map(|outcome| (count(outcome), outcome)).filter(|(count, _)| *count > 0);
    counts.map(|(count, outcome)| format!("{count} {outcome}")).collect::<Vec<_>>().join(", ")
}

/// The emulator that plays the bare machine, as cells have it.
fn emulator(source: &ImageSource) -> Result<(Emulator, &'static str), Failure> {
    let program = ArchInfo::of(ARCHITECTURE).qemu;
    let (catalog, store) = (input::recipes(&source.folder)?, input::store(source)?);
    let here = Isa::of_this_machine();
    let mut recipes = catalog.recipes().filter(|recipe| Some(recipe.isa()) == here);
    let recipe = recipes.find(|recipe| recipe.emulator() == Some(program));
    let recipe =
        recipe.ok_or_else(|| Failure::error(format!("no recipe makes {program} for this machine")))?;
    let progress = BuildProgress::new();
    let image = store.ensure(recipe, Product::Emulator, &progress);
    progress.finish();
    let image = image.map_err(|e| Failure::error(escaped(&e.to_string())))?;
    let emulator = Emulator::new(image);
    Ok((emulator.ok_or_else(|| Failure::error(format!("{} is no emulator", recipe.name())))?, program))
}
