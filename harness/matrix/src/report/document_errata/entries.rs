//! Statements that did not hold, each with its tests and observations.

use nestmatrix_model::Fidelity;

use crate::document_errata::{Deviation, Entry, Observation, Stack, Test};
use crate::scenario::Expectation;

use super::page::Page;
use super::words::{self, days, of_tries, tries};

/// The column of an entry's text.
const TEXT: usize = 5;

pub(super) fn entries(page: &mut Page, section: usize, entries: &[&Entry]) {
    for (index, entry) in entries.iter().enumerate() {
        page.gap();
        statements(page, &format!("{section}.{}", index + 1), entry);
        page.gap();
        page.paragraph(TEXT, &finding(entry));
        page.paragraph(TEXT, &circumstances(entry));
        page.paragraph(TEXT, &advice(entry));
        for (index, test) in entry.tests.iter().enumerate() {
            of_test(page, index, test);
        }
    }
}

fn statements(page: &mut Page, number: &str, entry: &Entry) {
    let several = entry.claims.len() > 1;
    if several {
        page.labelled(0, number, TEXT, "These statements were tested together:");
    }
    for (index, of_entry) in entry.claims.iter().enumerate() {
        let tier = words::tier(of_entry.tier);
        let label = if index == 0 && !several { number } else { "" };
        let bullet = if several { "- " } else { "" };
        match &of_entry.claim {
            Some(claim) => {
                page.labelled(
                    0,
                    label,
                    TEXT,
                    &format!("{bullet}Section \"{}\" ({tier}), in our words:", claim.section),
                );
                page.paragraph(TEXT + 2, &claim.text);
            }
            None => {
                let text =
                    format!("{bullet}The statement `{}` ({tier}), which is no longer recorded", of_entry.id);
                page.labelled(0, label, TEXT, &text);
            }
        }
        if several && of_entry.held_elsewhere > 0 {
            let text = format!("(held in {} of other stacks)", tries(of_entry.held_elsewhere));
            page.paragraph(TEXT + 2, &text);
        }
    }
}

/// The summary of an entry.
fn finding(entry: &Entry) -> String {
    let deviates: Vec<&Observation> =
        entry.observations().filter(|seen| seen.deviation().is_some()).collect();
    // A test that always held tests something else, such as the same stack without the condition.
    let (mut number, mut of) = (0, 0);
    for test in &entry.tests {
        let (deviated, all) = test.counts();
        if deviated > 0 {
            number += deviated;
            of += all;
        }
    }
    let first = deviates.first().and_then(|seen| seen.deviation());
    let what = match first.filter(|kind| deviates.iter().all(|seen| seen.deviation() == Some(*kind))) {
        Some(Deviation::LimitationGone) => "the limitation was absent",
        Some(Deviation::DoesNotWork) if entry.claims.len() > 1 => {
            "a stack that requires all of them did not work"
        }
        Some(Deviation::DoesNotWork) => "it did not work",
        Some(Deviation::StoppedOtherwise) => "it stopped, but not as documented",
        None => "the result was not as documented",
    };
    let mut runs: Vec<&str> = deviates.iter().map(|seen| seen.run.as_str()).collect();
    runs.sort_unstable();
    runs.dedup();
    let runs = if runs.len() == 1 { "1 run".to_owned() } else { format!("{} runs", runs.len()) };
    let mut text =
        format!("Seen: {what} {}, in {runs}, {}.", of_tries(number, of), days(deviates.iter().copied()));
    if entry.claims.len() > 1
        && deviates.iter().any(|seen| seen.deviation() != Some(Deviation::LimitationGone))
    {
        text.push_str(" This does not show which of the statements is wrong.");
    }
    if number < of {
        let held = of_tries(of - number, of);
        text.push_str(&match sometimes(entry) {
            true => format!(" It varies: with the same stack, the result was as documented {held}."),
            false => format!(" It depends on the systems: with others, the result was as documented {held}."),
        });
    }
    text
}

/// Whether the same cell had both outcomes.
fn sometimes(entry: &Entry) -> bool {
    let stacks = || entry.tests.iter().flat_map(|test| &test.stacks);
    let deviates = |stack: &Stack| stack.newest().is_some_and(|seen| seen.deviation().is_some());
    stacks()
        .filter(|stack| deviates(stack))
        .any(|one| stacks().any(|other| other.cell == one.cell && !deviates(other)))
}

/// The hardware and the systems with which it was seen.
fn circumstances(entry: &Entry) -> String {
    let deviates: Vec<&Observation> =
        entry.observations().filter(|seen| seen.deviation().is_some()).collect();
    let all = |is: fn(&Observation) -> bool| deviates.iter().all(|seen| is(seen));
    let any = |is: fn(&Observation) -> bool| deviates.iter().any(|seen| is(seen));
    let hardware = match (all(Observation::is_emulated), any(Observation::is_emulated)) {
        (true, _) => "on emulated hardware only",
        (false, true) => "on real and on emulated hardware",
        (false, false) => "on real hardware",
    };
    let used = |fidelity| deviates.iter().any(|seen| seen.has(fidelity));
    let (rebuilds, stand_ins) = (used(Fidelity::Rebuild), used(Fidelity::StandIn));
    let systems = match (any(Observation::is_of_the_product), rebuilds, stand_ins) {
        (_, false, false) => "with the documented systems",
        (true, true, false) => "with the documented systems, and with rebuilds of them, marked (~)",
        (true, false, true) => {
            "with the documented systems, and with others that stand in for them, marked (*)"
        }
        (true, true, true) => {
            "with the documented systems, with rebuilds of them, marked (~), and with others that stand in for them, marked (*)"
        }
        (false, true, false) => "and only with rebuilds of the documented systems, marked (~)",
        (false, false, true) => "and only with systems that stand in for the documented ones, marked (*)",
        (false, true, true) => {
            "and only with rebuilds of the documented systems, marked (~), and systems that stand in for them, marked (*)"
        }
    };
    format!("Where: {hardware}, {systems}.")
}

/// What the author can do.
fn advice(entry: &Entry) -> String {
    let deviates = || entry.observations().filter(|seen| seen.deviation().is_some());
    let unsure = deviates().all(|seen| !seen.is_of_the_product() || seen.emulator_may_explain());
    let change = match deviates().next().and_then(Observation::deviation) {
        Some(Deviation::LimitationGone) => "remove the statement, or name the versions that it is about",
        Some(Deviation::DoesNotWork) => "correct the statement, or name what else is required",
        Some(Deviation::StoppedOtherwise) | None => "describe the limitation as it was seen",
    };
    match unsure {
        true => format!(
            "Proposal: try it with the product's own kernel and QEMU. If the result is the same, {change}."
        ),
        false => format!("Proposal: {change}."),
    }
}

fn of_test(page: &mut Page, index: usize, test: &Test) {
    page.gap();
    let letter = char::from(b'a' + u8::try_from(index % 26).unwrap_or(0));
    let title = test.title.as_deref();
    let gone = || format!("{} (this test no longer exists)", test.scenario);
    let title = title.map_or_else(gone, str::to_owned);
    let (deviated, all) = test.counts();
    page.labelled(TEXT, &format!("{letter})"), TEXT + 3, &format!("Test: {title}"));
    let text = match deviated {
        0 => format!("As documented {}.", of_tries(all, all)),
        _ => format!("Not as documented {}.", of_tries(deviated, all)),
    };
    page.paragraph(TEXT + 3, &text);
    if let Some(note) = &test.note {
        page.paragraph(TEXT + 3, &format!("Remark: {note}"));
    }
    test.stacks.iter().for_each(|stack| of_stack(page, stack));
}

fn of_stack(page: &mut Page, stack: &Stack) {
    let Some(seen) = stack.newest() else { return };
    page.gap();
    let (indent, column) = (TEXT + 5, TEXT + 15);
    let number = words::times(stack.observations.len());
    page.paragraph(
        TEXT + 3,
        &format!("Seen {number} ({}): {}.", days(&stack.observations), words::outcome(seen)),
    );
    let said = seen.record.symptom.as_deref().filter(|_| seen.record.stage.is_some());
    if let Some(said) = said {
        // What is documented comes from the scenario, and is shown below.
        page.quote(indent, said.split(" (documented is: ").next().unwrap_or(said));
    }
    if let Some(command) = words::command(seen) {
        page.labelled(indent, "Command", column, &command);
    }
    if seen.deviation().is_some() && !matches!(seen.record.expectation, Expectation::Works { .. }) {
        page.labelled(indent, "Expected", column, &words::expected(seen));
    }
    page.labelled(indent, "Hardware", column, &words::hardware(seen));
    for (level, system) in seen.levels() {
        page.labelled(indent, &level.level.to_string(), column, &words::level(level, system));
    }
    if seen.emulator_may_explain() {
        page.labelled(indent, "Doubt", column, "a fault of the emulator may be the cause");
    }
    if seen.outdated {
        page.labelled(indent, "Note", column, "this is the result of an earlier version of the test");
    }
    if let Some(known) = known(seen) {
        page.labelled(indent, "Known", column, &known);
    }
    if let Some(ever) = &stack.ever {
        let days = words::from_to(&ever.days[0], &ever.days[1]);
        let text = format!(
            "in all recorded runs, {days}: not as documented {}",
            of_tries(ever.deviated, ever.tries)
        );
        page.labelled(indent, "History", column, &text);
    }
    if seen.deviation().is_some() {
        page.paragraph(TEXT + 3, &format!("Reference: {}", stack.cell));
    }
}

/// What was known about it already.
fn known(seen: &Observation) -> Option<String> {
    let record = &seen.record;
    record.known()?;
    let since = |since: &str| format!(" since {since}");
    match (record.expectation.known_stale(), record.expectation.known_wrong()) {
        (Some(known), _) => Some(format!(
            "gone{}, first seen on {}: {}",
            since(&known.since.to_string()),
            known.seen,
            known.note
        )),
        (None, Some(known)) => {
            let versions =
                known.since.as_ref().map_or(String::new(), |versions| since(&versions.to_string()));
            let reference = known.reference.as_ref().map_or(String::new(), |at| format!(" ({at})"));
            Some(format!("wrong{versions}, first seen on {}: {}{reference}", known.seen, known.note))
        }
        (None, None) => None,
    }
}
