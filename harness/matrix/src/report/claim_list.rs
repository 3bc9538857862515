//! The claims as a list: the cells that test each claim, what they have shown, its contradictions, or why no cell can test it.
//! What the matrix does not decide is as easy to see as what it does.

use std::collections::BTreeMap;
use std::fmt;

use nestmatrix_model::{Fidelity, LevelNumber, Word};
use serde::Serialize;

use super::cell_list::{Listing, Row};
use crate::scenario::{
    BothVerdicts, BugReport, CellName, Claim, Contradiction, Coverage, Denied, Document, Expectation, Matrix,
    Mutated, OutsideContradiction, Shown, ShownBy, ShownRow, Supply, Tier, Tried, in_full,
};

/// One claim, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClaimRow {
    /// The claim, as `DOCUMENT/CLAIM`.
    pub claim: String,
    /// Its place in the document.
    pub section: String,
    /// The support that the vendor gives it.
    pub tier: Tier,
    /// What it says, in this project's words.
    pub text: String,
    /// What is known about it.
    pub coverage: Coverage,
    /// Whether the text says "may" or "might".
    pub may: bool,
    /// The level whose version it is about, if any.
    pub version_of: Option<LevelNumber>,
    /// Why no cell can test it.
    pub untestable: Option<String>,
    /// The public bug report that says it, if it is not a vendor's statement.
    pub report: Option<BugReport>,
    /// The cells that test it, in the matrix's order.
    pub cells: Vec<CellName>,
    /// Those of them that can be booted here.
    pub bootable_cells: Vec<CellName>,
    /// What was shown about the cells that can be booted here.
    pub shown: Vec<ShownRow>,
    /// The claims that it contradicts.
    pub contradictions: Vec<ContradictionRow>,
    /// The documents outside the matrix that it contradicts.
    pub outside_contradictions: Vec<OutsideContradiction>,
}

/// One claim that another contradicts, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ContradictionRow {
    /// The other claim, as `DOCUMENT/CLAIM`.
    pub claim: String,
    /// What the two disagree about.
    pub text: String,
}

/// Every claim of a matrix. `Display` prints the text for people.
#[derive(Debug, Clone)]
pub struct ClaimListing<'m> {
    matrix: &'m Matrix,
    /// The claims of each document, in the matrix's order.
    documents: Vec<(&'m Document, Vec<ClaimRow>)>,
}

impl<'m> ClaimListing<'m> {
    /// The claims of `matrix`, and which cells can be booted with this supply, without the denied images.
    pub fn new(matrix: &'m Matrix, supply: &Supply, denied: Denied) -> Self {
        let mut tried: BTreeMap<String, Vec<Tried>> = BTreeMap::new();
        let known = Shown::of(matrix);
        let all = matrix.cells().iter().collect();
        for row in Listing::of(matrix, all, supply, denied).rows() {
            for claim in &row.claims {
                tried.entry(in_full(claim, &row.document)).or_default().push(tried_by(row));
            }
        }
        let contradictions = matrix.contradictions();
        let mut row = |document: &Document, claim: &Claim| {
            let name = in_full(&claim.id, &document.id);
            let tried = tried.remove(&name).unwrap_or_default();
            let coverage = known.coverage(claim, &tried);
            let booted = || tried.iter().filter(|tried| tried.boots).map(|tried| &tried.cell);
            let Claim { section, tier, text, untestable, may, version_of, report, .. } = claim.clone();
            let contradictions = contradictions.iter().filter_map(|pair| other_end(pair, &name)).collect();
            let outside = matrix.outside_contradictions().iter().filter(|of| of.claims.contains(&name));
            let outside_contradictions = outside.cloned().collect();
            ClaimRow {
                claim: name,
                section,
                tier,
                text,
                coverage,
                may,
                version_of,
                untestable,
                report,
                cells: tried.iter().map(|tried| tried.cell.clone()).collect(),
                bootable_cells: booted().cloned().collect(),
                shown: booted().flat_map(|cell| known.of_cell(cell)).cloned().collect(),
                contradictions,
                outside_contradictions,
            }
        };
        let rows = |document: &'m Document| {
            (document, document.claims.iter().map(|claim| row(document, claim)).collect())
        };
        Self { matrix, documents: matrix.documents().iter().map(rows).collect() }
    }

    /// The claims, one row per claim, in the order of the documents and of the claims in each document.
    pub fn rows(&self) -> impl Iterator<Item = &ClaimRow> {
        self.documents.iter().flat_map(|(_, rows)| rows)
    }
}

fn tried_by(row: &Row) -> Tried {
    let stand_ins = row.levels.iter().filter(|(_, level)| level.fidelity == Some(Fidelity::StandIn));
    Tried {
        cell: row.cell.clone(),
        boots: row.missing.is_empty(),
        may_stop: matches!(row.expectation, Expectation::MayStop(_)),
        stand_ins: stand_ins.map(|(level, _)| *level).collect(),
    }
}

/// The claim that it contradicts, if it is one end of this pair.
fn other_end(
    Contradiction { claims: [left, right], text }: &Contradiction,
    claim: &str,
) -> Option<ContradictionRow> {
    let row = |other: &String| ContradictionRow { claim: other.clone(), text: text.clone() };
    match claim {
        claim if claim == left => Some(row(right)),
        claim if claim == right => Some(row(left)),
        _ => None,
    }
}

impl fmt::Display for ClaimListing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (document, rows) in &self.documents {
            let Document { id, title, product, section, .. } = document;
            writeln!(f, "{product}, {section} {title} ({id})\n  {}", counts(rows.iter()))?;
            write_claims(f, id, rows)?;
            writeln!(f)?;
        }
        for (index, Contradiction { claims: [left, right], text }) in
            self.matrix.contradictions().iter().enumerate()
        {
            let heading = if index == 0 { "Contradictions:\n" } else { "" };
            writeln!(f, "{heading}  {left:<width$}  {right}\n    {text}", width = self.widest_end())?;
        }
        let pairs = self.matrix.contradictions().len();
        let outside = self.matrix.outside_contradictions();
        for (index, OutsideContradiction { claims, outside, source, text }) in outside.iter().enumerate() {
            let heading = if index == 0 { "Contradictions with other documents:\n" } else { "" };
            let gap = if index == 0 && pairs > 0 { "\n" } else { "" };
            writeln!(f, "{gap}{heading}  {}\n    {outside} ({source}):\n    {text}", claims.join("\n  "))?;
        }
        let contradictions = pairs + outside.len();
        if contradictions > 0 {
            writeln!(f)?;
        }
        let plural = if contradictions == 1 { "" } else { "s" };
        writeln!(f, "{}; {contradictions} contradiction{plural}", counts(self.rows()))
    }
}

impl ClaimListing<'_> {
    /// The width of the first claims of the contradictions.
    fn widest_end(&self) -> usize {
        self.matrix.contradictions().iter().map(|pair| pair.claims[0].len()).max().unwrap_or(0)
    }
}

/// `274 claims: 60 decided, 13 observed, 16 major version only, 36 undecided, 93 skipped, 56 untestable, 0 not covered`.
fn counts<'r>(rows: impl Iterator<Item = &'r ClaimRow>) -> String {
    let all: Vec<Coverage> = rows.map(|row| row.coverage).collect();
    let claims = if all.len() == 1 { "claim" } else { "claims" };
    format!("{} {claims}: {}", all.len(), Coverage::counted(&all, true))
}

/// The claims of one document below the headings of its sections, one line per claim, with its contradictions below.
fn write_claims(f: &mut fmt::Formatter<'_>, document: &str, rows: &[ClaimRow]) -> fmt::Result {
    let id =
        |claim: &str| claim.strip_prefix(document).and_then(|id| id.strip_prefix('/').map(str::to_owned));
    let id = |claim: &str| id(claim).unwrap_or_else(|| claim.to_owned());
    let claims = rows.iter().map(|row| id(&row.claim).len()).max().unwrap_or(0);
    let tiers = rows.iter().map(|row| row.tier.word().len()).max().unwrap_or(0);
    let states = rows.iter().map(|row| row.coverage.word().len()).max().unwrap_or(0);
    let mut section = "";
    for row in rows {
        if row.section != section {
            section = &row.section;
            writeln!(f, "\n  {section}\n")?;
        }
        let (id_of_it, state) = (id(&row.claim), row.coverage.text());
        writeln!(f, "    {id_of_it:<claims$}  {:<tiers$}  {state:<states$}  {}", row.tier, what_tries(row))?;
        if let Some(BugReport { addresses, date, seen_with, state }) = &row.report {
            let when = date.as_ref().map(|date| format!("{date}, ")).unwrap_or_default();
            writeln!(f, "      reported: {when}seen with {seen_with}; {state}")?;
            for address in addresses {
                writeln!(f, "      {address}")?;
            }
        }
        for line in what_was_shown(row) {
            writeln!(f, "      {line}")?;
        }
        for ContradictionRow { claim, .. } in &row.contradictions {
            writeln!(f, "      contradicts {}", id(claim))?;
        }
        for OutsideContradiction { outside, .. } in &row.outside_contradictions {
            writeln!(f, "      contradicts {outside}")?;
        }
    }
    Ok(())
}

/// The cells that test the claim, with the name of the first one that can be booted, or of the first one if none can. The rows
/// for programs have all names.
fn what_tries(row: &ClaimRow) -> String {
    let ClaimRow { cells, bootable_cells, untestable, .. } = row;
    let named = match (untestable, bootable_cells.first().or(cells.first())) {
        (Some(reason), _) => return reason.clone(),
        (None, None) => return "no cell".into(),
        (None, Some(named)) => named,
    };
    let skipped = match cells.len() - bootable_cells.len() {
        0 => String::new(),
        1 if cells.len() == 1 => ", skipped".into(),
        skipped if skipped == cells.len() => ", all skipped".into(),
        skipped => format!(", {skipped} skipped"),
    };
    match cells.len() {
        1 => format!("1 cell{skipped}: {named}"),
        all => format!("{all} cells{skipped}: {named} and {} more", all - 1),
    }
}

/// What decides the claim, and what prevents a cell from deciding it; nothing for claims that no cell could decide.
fn what_was_shown(row: &ClaimRow) -> Vec<String> {
    if !matches!(row.coverage, Coverage::Decided | Coverage::Undecided | Coverage::MajorVersionOnly) {
        return Vec::new();
    }
    // If only stand-ins boot, this is what was seen with them.
    let version_of = row.version_of.filter(|_| row.coverage != Coverage::MajorVersionOnly);
    let decides = |shown: &&ShownRow| shown.decides_of(version_of);
    let deciding: Vec<&ShownRow> = row.shown.iter().filter(decides).collect();
    let mut lines = Vec::new();
    if let Some(first) = deciding.first() {
        let more = match deciding.len() - 1 {
            0 => String::new(),
            more => format!("; {more} more"),
        };
        lines.push(format!("{}, {}: {}{more}", how(&first.by), first.seen(), first.cell()));
    } else if row.shown.is_empty() && row.coverage == Coverage::MajorVersionOnly {
        lines.push("nothing was shown of its cells".into());
    }
    for shown in &row.shown {
        match &shown.by {
            _ if shown.stale => {
                lines.push(format!("scenario changed since {}: {}", shown.seen(), shown.cell()));
            }
            _ if shown.decides() && !decides(&shown) => {
                lines.push(format!("not with the version itself, {}: {}", shown.seen(), shown.cell()));
            }
            ShownBy::Mutations(Mutated { survived, .. }) if !survived.is_empty() => {
                lines.push(format!("{} survived, {}: {}", some_of(survived), shown.seen(), shown.cell()));
            }
            _ => {}
        }
    }
    lines
}

fn how(by: &ShownBy) -> String {
    match by {
        ShownBy::Mutations(Mutated { killed, rebuilds, .. }) => {
            let levels: Vec<String> = rebuilds.iter().map(ToString::to_string).collect();
            let on = if levels.is_empty() { String::new() } else { format!(" (~ {})", levels.join(", ")) };
            format!("{} killed{on}", some_of(killed))
        }
        ShownBy::BothVerdicts(BothVerdicts { works, stops, .. }) => {
            format!("works with {works}, stops with {stops}")
        }
    }
}

/// The first of these names, and how many more there are.
fn some_of(names: &[String]) -> String {
    match names {
        [] => "nothing".into(),
        [one] => one.clone(),
        [one, others @ ..] => format!("{one} and {} more", others.len()),
    }
}
