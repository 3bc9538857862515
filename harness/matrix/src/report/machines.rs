//! Which kinds of machines could run which cells, for people: numbers by architecture, and the cells that no machine can run.

use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_model::Architecture;
use nestmatrix_stack::Metal;

use super::style::{Role, Style};
use super::table::{Entry, Line, Table};
use super::text::wrapped;
use crate::ci::{CellMachines, Machines};

/// How many cells each kind of machines could run, and the cells that none can run, by the reason.
pub fn machines(machines: &Machines, style: &Style) -> String {
    let cells = machines.cells();
    let mut table = Table::default();
    let heads = ["cells", "emulated metal", "native metal", "disposable host", "no machine"]
        .map(|head| Entry::right(head, Role::Quiet));
    let first = Entry::new("architecture", Role::Quiet);
    table.push(Line::Entries(std::iter::once(first).chain(heads).collect()));
    let architectures: BTreeSet<Architecture> = cells.iter().map(|cell| cell.architecture).collect();
    for architecture in architectures {
        table.push(row(
            &architecture.to_string(),
            cells.iter().filter(|cell| cell.architecture == architecture),
        ));
    }
    table.push(row("all", cells.iter()));
    let note = "A cell counts where it could run if every system that can be a level had an image. Native metal runs those under `disposable host` \
                only if the machine may be changed (docs/disposable-hosts.md).";
    let mut out = format!("{}\n{}\n", table.render(0, style), wrapped(note, 0, 0, style.width));
    let on_guests = cells.iter().filter(|cell| !cell.is_nowhere());
    let on_guests = on_guests
        .filter_map(|cell| Some((format!("native metal must be {}", cell.guest_of.as_ref()?), cell)));
    let nowhere = cells.iter().filter(|cell| cell.is_nowhere()).map(|cell| {
        let why = cell.no_machine.as_deref().unwrap_or("its scenario does not say why");
        (format!("no machine: {why}"), cell)
    });
    out.push_str(&groups(on_guests, style));
    out.push_str(&groups(nowhere, style));
    out
}

/// The cells under each heading, by scenario and architecture.
fn groups<'c>(cells: impl Iterator<Item = (String, &'c CellMachines)>, style: &Style) -> String {
    let mut headings: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for (heading, cell) in cells {
        let scenario = cell.cell.as_str().split('/').next().unwrap_or_default();
        let group = format!("{scenario}/{}/*", cell.architecture);
        *headings.entry(heading).or_default().entry(group).or_default() += 1;
    }
    let mut out = String::new();
    for (heading, groups) in headings {
        out.push_str(&format!("\n{}\n", wrapped(&heading, 0, 2, style.width)));
        for (group, cells) in groups {
            out.push_str(&format!("  {cells:>3} of {group}\n"));
        }
    }
    out
}

fn row<'c>(name: &str, cells: impl Iterator<Item = &'c CellMachines>) -> Line {
    let cells: Vec<&CellMachines> = cells.collect();
    let on = |metal| cells.iter().filter(|cell| cell.metals.contains(&metal)).count();
    let nowhere = cells.iter().filter(|cell| cell.is_nowhere()).count();
    let disposable = cells.iter().filter(|cell| cell.disposable_host).count();
    let numbers = [cells.len(), on(Metal::Emulated), on(Metal::Native), disposable, nowhere];
    let numbers = numbers.map(|number| Entry::right(number.to_string(), Role::Plain));
    Line::Entries(std::iter::once(Entry::new(name, Role::Plain)).chain(numbers).collect())
}
