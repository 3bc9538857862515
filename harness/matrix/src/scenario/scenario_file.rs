//! A scenario's file: claims of one document turned into the axes of a stack. Reading it checks everything in it against the
//! known systems and documents.

use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_model::{
    Clock, Fault, LevelNumber, Stage, StageKind, Step, UnknownWord, Word, emulator_errata,
};

use super::axes::Axes;
use super::cell::{Cell, path_part};
use super::document::{Claim, Document, Tier};
use super::documents::Documents;
use super::expand;
use super::expectation::Expectation;
use super::input::{Table, Text};
use super::known::KnownWrong;
use super::known_flaky::KnownFlaky;
use super::level::LevelSettings;
use super::mutation::ScenarioMutation;
use super::problem::ScenarioProblem;
use super::system::Systems;
use super::{fault, guest, step};

/// What all cells of a scenario share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Its name, unique in the matrix: the first part of its cells' names.
    pub name: String,
    /// Its title, for people.
    pub title: String,
    /// The id of its main document.
    pub document: String,
    /// The claims that each of its cells tests: those of the main document by their ids, others as `DOCUMENT/CLAIM`.
    pub claims: Vec<String>,
    /// The support that the vendor gives its main claims; each claim also has its own tier.
    pub tier: Tier,
    /// What a reader of its results should know, such as a deviation from the document.
    pub note: Option<String>,
    /// What other systems call it, by the names of the properties that they read: `polarion-testcase-id`.
    pub ids: BTreeMap<String, String>,
    /// Why its cells can't use a stand-in, if so.
    pub deny_stand_ins: Option<String>,
    /// Why no machine can run its cells, whatever images there are, if so.
    pub no_machine: Option<String>,
    /// How the clocks of its levels must go.
    pub clock: Clock,
    /// The ids of the emulators' errata that its stacks depend on: its cells are skipped on such an emulator.
    pub emulator_errata: Vec<String>,
    /// The expected result of its cells.
    pub expectation: Expectation,
    /// Which of its cells are known to be flaky, and where.
    pub known_flaky: Vec<KnownFlaky>,
    /// Additional damage for mutation runs, and damage that may go unnoticed.
    pub mutations: Vec<ScenarioMutation>,
}

/// What a scenario may refer to.
pub(super) struct Context {
    /// The systems, unless their own file is wrong.
    pub(super) systems: Option<Systems>,
    pub(super) documents: Documents,
    /// The places of the names of the scenarios read so far.
    pub(super) names: BTreeMap<String, String>,
}

impl Scenario {
    pub(super) const KEYS: &'static [&'static str] = &[
        "name",
        "title",
        "document",
        "claims",
        "tier",
        "note",
        "ids",
        "deny-stand-ins",
        "no-machine",
        "clock",
        "emulator-errata",
        "axes",
        "levels",
        "expect",
        "known-flaky",
        "step",
        "fault",
        "mutation",
    ];

    /// Reads a scenario and expands it into its cells.
    pub(super) fn read(root: &Table<'_>, context: &mut Context) -> Option<(Self, Vec<Cell>)> {
        let name = read_name(root, &mut context.names);
        let title = root.prose("title");
        let document = root.string("document");
        let own = document.as_ref().and_then(|text| context.documents.document(text));
        let read_claims = |claims: &[Text<'_>]| read_claims(claims, own, &context.documents);
        let claims = root.optional_strings("claims");
        let claims = claims.map(|claims| read_claims(&claims)).unwrap_or_default();
        let tier = root.string("tier").and_then(|text| text.parse(Tier::parse));
        let note = root.optional_prose("note");
        let ids = root.optional_string_map("ids").unwrap_or_default().into_iter();
        let ids = ids.map(|(name, id)| (name.as_str().to_owned(), id.as_str().to_owned())).collect();
        let deny_stand_ins = root.optional_prose("deny-stand-ins");
        let no_machine = root.optional_prose("no-machine");
        let clock = root.optional_string("clock").map(|text| text.parse(Clock::parse));
        let errata = root.optional_strings("emulator-errata").unwrap_or_default();
        let emulator_errata = errata.iter().filter_map(|text| text.parse(known_erratum)).collect();
        let axes = root.table("axes", Axes::KEYS);
        // Missing axes have already been reported. Without them, no key of a level is reported as wrong.
        let innermost = LevelNumber::innermost(|level| axes.as_ref().is_none_or(|axes| axes.has(level)));
        let tables = level_tables(root, innermost);
        let settings = tables
            .iter()
            .map(|(level, table)| (*level, read_settings(table.as_ref(), *level, context.systems.as_ref())));
        let step_tables = root.tables("step", step::KEYS);
        let of_steps =
            (1..=step_tables.len()).filter_map(|number| u8::try_from(number).ok()).map(Stage::Step);
        tables.iter().for_each(|(level, table)| guest::check_level(table.as_ref(), *level, innermost));
        let of_innermost = tables.last().and_then(|(_, table)| table.as_ref());
        let ready = of_innermost.filter(|table| table.has("ready"));
        let ready = ready.map(|_| Stage::Level(innermost, StageKind::Ready));
        let stages: Vec<Stage> =
            Stage::of_stack(innermost).into_iter().chain(ready).chain(of_steps).collect();
        let expectation = match root.optional_table("expect", Expectation::KEYS) {
            Some(table) => Expectation::read(&table, &stages),
            None => Some(Expectation::WORKS),
        };
        let flaky = root.tables("known-flaky", KnownFlaky::KEYS);
        let mut second_machine = None;
        let mut read_step = |table: &Table<'_>| {
            let step = step::read(table, innermost)?;
            if let Some(problem) = step::against_second_machine(&step, second_machine) {
                table.report(problem);
            }
            let boots_another = step.boots_another();
            let has_guest = of_innermost.is_some_and(|table| table.has("payload"));
            if let Some(problem) = guest::against_step(&step, innermost).filter(|_| has_guest) {
                table.report(problem);
            }
            second_machine = second_machine.or(step.second_machine().map(|level| (level, boots_another)));
            Some(step)
        };
        let any_may_come = matches!(expectation, Some(Expectation::MayStop(_)));
        let mutations = ScenarioMutation::read_all(root, step_tables.len(), innermost, any_may_come);
        let with_places = step_tables.iter().filter_map(|table| Some((read_step(table)?, table)));
        let (steps, step_tables): (Vec<Step>, Vec<_>) = with_places.unzip();
        let fault_tables = root.tables("fault", &["at", "do", "level", "second"]);
        let with_places =
            fault_tables.iter().filter_map(|table| Some((fault::read(table, innermost, &steps)?, table)));
        let (faults, fault_tables): (Vec<Fault>, Vec<_>) = with_places.unzip();
        let axes = Axes::read(&axes?, settings.collect(), context.systems.as_ref(), &read_claims)?;
        if let Some(emulator) = axes.emulator()
            && let Some(step) = steps.iter().find(|step| step.on.below().is_none())
        {
            let (step, system) = (step.name.clone(), emulator.system.clone());
            root.report(ScenarioProblem::StepInEmulator { step, system });
        }
        axes.against_surroundings(&steps, &faults).into_iter().for_each(|problem| root.report(problem));
        axes.against_other_qemu(&steps).into_iter().for_each(|problem| root.report(problem));
        axes.against_kdump().into_iter().for_each(|problem| root.report(problem));
        axes.against_libvirt(&steps).into_iter().for_each(|problem| root.report(problem));
        axes.against_benchmarks(&steps).into_iter().for_each(|problem| root.report(problem));
        axes.check_windows(tables.iter().map(|(_, table)| table.as_ref()));
        axes.check_steps_in_windows(steps.iter().zip(step_tables));
        axes.check_faults_in_windows(faults.iter().zip(fault_tables));
        let mut scenario = Self {
            name: name?,
            title: title?,
            document: document?.as_str().to_owned(),
            claims,
            tier: tier?,
            note,
            ids,
            deny_stand_ins,
            no_machine,
            clock: clock.map_or(Some(Clock::default()), |clock| clock)?,
            emulator_errata,
            expectation: expectation?,
            known_flaky: Vec::new(),
            mutations,
        };
        let mut cells = expand::cells(&scenario, &axes, &steps, &faults);
        let flaky = flaky.iter().filter_map(|table| KnownFlaky::read(table, &stages, &mut cells));
        scenario.known_flaky = flaky.collect();
        let tier_of = |claim: &String| {
            // A missing value has already been reported.
            let found = context.documents.claim(claim, own).ok().flatten();
            found.map(|found| (claim.clone(), found.tier))
        };
        for cell in &mut cells {
            cell.tiers = cell.claims.iter().filter_map(tier_of).collect();
        }
        // A wrong list of claims has already been reported.
        if let Some(cell) = cells.iter().find(|cell| cell.claims.is_empty() && !root.has("claims")) {
            root.report(ScenarioProblem::NoClaim { cell: cell.name.to_string() });
        }
        Some((scenario, cells))
    }
}

impl Scenario {
    /// The scenario that shows that stacks without this one's limitation do not time out.
    pub(super) fn control(&self) -> Option<&str> {
        let known_wrong = || self.expectation.known_wrong().map(|known| &known.limitation);
        self.expectation.limitation().or_else(known_wrong)?.control.as_deref()
    }

    /// Reports a control that can't show anything.
    pub(super) fn check_control(&self, root: &Table<'_>, scenarios: &[Self], cells: &[Cell]) {
        let expect = root.optional_table("expect", Expectation::KEYS);
        let expect = expect.filter(|expect| expect.has("control")).or_else(|| {
            let expect = root.optional_table("expect", Expectation::KEYS)?;
            expect.optional_table("known-wrong", KnownWrong::KEYS)
        });
        let Some(text) = expect.and_then(|table| table.optional_string("control")) else { return };
        text.parse(|name| {
            let unknown = || {
                let known = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
                UnknownWord { what: "scenario", given: name.to_owned(), known }
            };
            let control = scenarios.iter().find(|scenario| scenario.name == name).ok_or_else(unknown)?;
            let architectures = |of: &str| -> BTreeSet<String> {
                let cells = cells.iter().filter(|cell| cell.scenario == of);
                cells.map(|cell| cell.architecture.to_string()).collect()
            };
            let no_control = |why| Err(ScenarioProblem::NoControl { scenario: name.to_owned(), why });
            if control.expectation != Expectation::WORKS && control.expectation.known_stale().is_none() {
                no_control("it is neither expected nor known to work")
            } else if !architectures(&self.name).is_subset(&architectures(name)) {
                no_control("it has no cells of some of the architectures")
            } else {
                Ok(())
            }
        });
    }
}

/// The id of an emulator's erratum.
pub(super) fn known_erratum(id: &str) -> Result<String, UnknownWord> {
    let known = || emulator_errata::all().iter().map(|erratum| erratum.id.clone());
    known().find(|known| known == id).ok_or_else(|| UnknownWord {
        what: "emulator erratum",
        given: id.to_owned(),
        known: known().collect(),
    })
}

fn read_name(root: &Table<'_>, names: &mut BTreeMap<String, String>) -> Option<String> {
    let text = root.string("name")?;
    let name = text.parse(|name| path_part("a scenario name", name))?;
    if let Some(first) = names.get(&name) {
        text.report(ScenarioProblem::Duplicate { what: "scenario", name, first: first.clone() });
        return None;
    }
    names.insert(name.clone(), text.location());
    Some(name)
}

/// The claims of a list, as the scenario's cells have them: those of its own document by their ids alone.
fn read_claims(claims: &[Text<'_>], own: Option<&Document>, documents: &Documents) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let mut read = Vec::new();
    for text in claims {
        let own_prefix = own.and_then(|own| text.as_str().strip_prefix(&own.id)?.strip_prefix('/'));
        let claim = own_prefix.unwrap_or(text.as_str()).to_owned();
        if let Some(first) = seen.insert(claim.clone(), text.location()) {
            text.report(ScenarioProblem::Duplicate { what: "claim", name: claim, first });
            continue;
        }
        text.parse(|_| match documents.claim(&claim, own)? {
            Some(Claim { untestable: Some(_), .. }) => {
                Err(ScenarioProblem::Untestable { claim: text.as_str().to_owned() })
            }
            _ => Ok(()),
        });
        read.push(claim);
    }
    read
}

/// The tables in `[levels]` of a scenario, outermost level first.
fn level_tables<'t>(root: &Table<'t>, innermost: LevelNumber) -> Vec<(LevelNumber, Option<Table<'t>>)> {
    let levels = root.optional_table("levels", LevelNumber::keys(innermost));
    let table = |level: LevelNumber| levels.as_ref()?.optional_table(level.word(), LevelSettings::KEYS);
    LevelNumber::up_to(innermost).map(|level| (level, table(level))).collect()
}

fn read_settings(table: Option<&Table<'_>>, level: LevelNumber, systems: Option<&Systems>) -> LevelSettings {
    table.map(|table| LevelSettings::read(table, level, systems)).unwrap_or_default()
}
