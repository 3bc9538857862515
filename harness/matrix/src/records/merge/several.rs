//! What several records say together: the verdict that counts, whether verdicts contradict each other, and machines as one.

use std::collections::BTreeSet;

use crate::records::{CellRecord, Known, Machine, VerdictWord};

/// The common value of all of these, if they are equal.
pub(super) fn same<'a, T: PartialEq>(mut of: impl Iterator<Item = &'a T>) -> Option<&'a T> {
    let first = of.next()?;
    of.all(|other| other == first).then_some(first)
}

/// These machines as if they were one: each different text once, and the numbers that all share.
pub(in crate::records) fn machine_of_all<'m>(machines: impl Iterator<Item = &'m Machine> + Clone) -> Machine {
    let text = |of: fn(&Machine) -> &String| {
        let different: BTreeSet<&str> = machines.clone().map(|machine| of(machine).as_str()).collect();
        different.into_iter().collect::<Vec<_>>().join(", ")
    };
    Machine {
        kernel: text(|machine| &machine.kernel),
        system: text(|machine| &machine.system),
        processor: text(|machine| &machine.processor),
        cores: same(machines.clone().map(|machine| &machine.cores)).copied().unwrap_or(0),
        memory_mib: same(machines.clone().map(|machine| &machine.memory_mib)).copied().unwrap_or(0),
    }
}

/// Cells ordered by name, with those of the same name together.
pub(super) fn by_cell(cells: Vec<CellRecord>) -> impl Iterator<Item = Vec<CellRecord>> {
    let mut cells = cells.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = cells.next()?;
        let mut seen = vec![first];
        while let Some(next) = cells.next_if(|next| next.cell == seen[0].cell) {
            seen.push(next);
        }
        Some(seen)
    })
}

/// The record of a cell that counts: the worst, and of equals the first.
pub(in crate::records) fn counted(seen: &[CellRecord]) -> Option<&CellRecord> {
    seen.iter().rev().max_by_key(|record| match record.verdict {
        VerdictWord::Skip => 0,
        // Nothing follows from it, so it replaces no verdict of another machine.
        VerdictWord::Flaky if !record.is_trouble() => 1,
        VerdictWord::Pass => 2,
        VerdictWord::Xfail => 3,
        VerdictWord::Xpass if !record.is_trouble() => 4,
        VerdictWord::Fail if !record.is_trouble() => 5,
        VerdictWord::Xpass => 6,
        VerdictWord::Flaky => 7,
        VerdictWord::Fail => 8,
        VerdictWord::Error => 9,
    })
}

/// Whether the verdicts of a cell contradict each other. A skip contradicts nothing, nor does a cell that is known to be flaky
/// on that machine.
pub(super) fn differs(seen: &[CellRecord]) -> bool {
    let says_nothing =
        |record: &&CellRecord| record.verdict == VerdictWord::Skip || record.known() == Some(Known::Flaky);
    let words = seen.iter().filter(|record| !says_nothing(record)).map(|record| record.verdict);
    words.collect::<BTreeSet<VerdictWord>>().len() > 1
}
