//! The claims as a list: for each what tries it, what it contradicts, or why nothing can try it, so that what the matrix
//! does not cover is as easy to see as what it does.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::cell::CellName;
use super::document::{Claim, Document, Tier};
use super::documents::{Contradiction, in_full};
use super::filter::Filter;
use super::images::Supply;
use super::list::Listing;
use super::matrix::Matrix;
use super::word::{Word, word_traits};

/// Whether anything tries a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coverage {
    /// At least one cell that can be booted here does.
    Covered,
    /// Cells do, but all of them are skipped here: there is no image for them, or no way to boot their architecture.
    Skipped,
    /// Nothing can.
    Untestable,
    /// Nothing does as yet.
    NotCovered,
}

impl Word for Coverage {
    const WHAT: &'static str = "coverage";
    const ALL: &'static [Self] = &[Self::Covered, Self::Skipped, Self::Untestable, Self::NotCovered];

    fn word(self) -> &'static str {
        match self {
            Self::Covered => "covered",
            Self::Skipped => "skipped",
            Self::Untestable => "untestable",
            Self::NotCovered => "not-covered",
        }
    }
}
word_traits!(Coverage);

/// One claim, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClaimRow {
    /// The claim, as `DOCUMENT/CLAIM`.
    pub claim: String,
    /// Where in the document it stands.
    pub section: String,
    /// How far the vendor stands behind it.
    pub tier: Tier,
    /// What it says, in this project's words.
    pub text: String,
    /// Whether anything tries it.
    pub coverage: Coverage,
    /// Why nothing can try it.
    pub untestable: Option<String>,
    /// The cells that try it, in the matrix's order.
    pub cells: Vec<CellName>,
    /// Those of them that can be booted here.
    pub bootable_cells: Vec<CellName>,
    /// The claims that it contradicts.
    pub contradictions: Vec<ContradictionRow>,
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

/// Every claim of a matrix. `Display` gives the text for people.
#[derive(Debug, Clone)]
pub struct ClaimListing<'m> {
    matrix: &'m Matrix,
    /// The claims of each document, in the matrix's order.
    documents: Vec<(&'m Document, Vec<ClaimRow>)>,
}

impl<'m> ClaimListing<'m> {
    /// The claims of `matrix`, with what of it can be booted with this supply, and without stand-ins if those are denied.
    pub fn new(matrix: &'m Matrix, supply: &Supply, deny_stand_ins: bool) -> Self {
        let mut tried: BTreeMap<String, Tried> = BTreeMap::new();
        for row in Listing::new(matrix, &Filter::all(), supply, deny_stand_ins).rows() {
            for claim in &row.claims {
                let tried = tried.entry(in_full(claim, &row.document)).or_default();
                tried.cells.push(row.cell.clone());
                if row.missing.is_empty() {
                    tried.bootable_cells.push(row.cell.clone());
                }
            }
        }
        let contradictions = matrix.contradictions();
        let mut row = |document: &Document, claim: &Claim| {
            let name = in_full(&claim.id, &document.id);
            let Tried { cells, bootable_cells } = tried.remove(&name).unwrap_or_default();
            let Claim { section, tier, text, untestable, .. } = claim.clone();
            let coverage = match (&untestable, cells.is_empty(), bootable_cells.is_empty()) {
                (Some(_), _, _) => Coverage::Untestable,
                (None, true, _) => Coverage::NotCovered,
                (None, false, true) => Coverage::Skipped,
                (None, false, false) => Coverage::Covered,
            };
            let contradictions = contradictions.iter().filter_map(|pair| other_end(pair, &name)).collect();
            ClaimRow {
                claim: name,
                section,
                tier,
                text,
                coverage,
                untestable,
                cells,
                bootable_cells,
                contradictions,
            }
        };
        let rows = |document: &'m Document| {
            (document, document.claims.iter().map(|claim| row(document, claim)).collect())
        };
        Self { matrix, documents: matrix.documents().iter().map(rows).collect() }
    }

    /// The claims, one row for each, document by document and in each as the document has them.
    pub fn rows(&self) -> impl Iterator<Item = &ClaimRow> {
        self.documents.iter().flat_map(|(_, rows)| rows)
    }
}

/// The cells that try a claim.
#[derive(Default)]
struct Tried {
    cells: Vec<CellName>,
    bootable_cells: Vec<CellName>,
}

/// What the claim contradicts, if it is one end of this pair.
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
        if !self.matrix.contradictions().is_empty() {
            writeln!(f)?;
        }
        let contradictions = self.matrix.contradictions().len();
        let plural = if contradictions == 1 { "" } else { "s" };
        writeln!(f, "{}; {contradictions} contradiction{plural}", counts(self.rows()))
    }
}

impl ClaimListing<'_> {
    /// Columns that the first claims of the contradictions take.
    fn widest_end(&self) -> usize {
        self.matrix.contradictions().iter().map(|pair| pair.claims[0].len()).max().unwrap_or(0)
    }
}

/// `265 claims: 70 covered, 12 by skipped cells alone, 43 untestable, 140 not covered yet`.
fn counts<'r>(rows: impl Iterator<Item = &'r ClaimRow>) -> String {
    let all: Vec<Coverage> = rows.map(|row| row.coverage).collect();
    let of = |wanted: Coverage| all.iter().filter(|coverage| **coverage == wanted).count();
    let [covered, skipped, untestable, not_covered] =
        [Coverage::Covered, Coverage::Skipped, Coverage::Untestable, Coverage::NotCovered].map(of);
    let claims = if all.len() == 1 { "claim" } else { "claims" };
    format!(
        "{} {claims}: {covered} covered, {skipped} by skipped cells alone, {untestable} untestable, {not_covered} not covered yet",
        all.len()
    )
}

/// The claims of one document below the headings of its sections, a line for each, with those that it contradicts below.
fn write_claims(f: &mut fmt::Formatter<'_>, document: &str, rows: &[ClaimRow]) -> fmt::Result {
    let id =
        |claim: &str| claim.strip_prefix(document).and_then(|id| id.strip_prefix('/').map(str::to_owned));
    let id = |claim: &str| id(claim).unwrap_or_else(|| claim.to_owned());
    let claims = rows.iter().map(|row| id(&row.claim).len()).max().unwrap_or(0);
    let tiers = rows.iter().map(|row| row.tier.word().len()).max().unwrap_or(0);
    let mut section = "";
    for row in rows {
        if row.section != section {
            section = &row.section;
            writeln!(f, "\n  {section}\n")?;
        }
        writeln!(f, "    {:<claims$}  {:<tiers$}  {}", id(&row.claim), row.tier, what_tries(row))?;
        for ContradictionRow { claim, .. } in &row.contradictions {
            writeln!(f, "      contradicts {}", id(claim))?;
        }
    }
    Ok(())
}

/// What tries the claim, with the name of the first cell that can be booted, or of the first if none can; the others' are in
/// the rows for programs.
fn what_tries(row: &ClaimRow) -> String {
    let ClaimRow { cells, bootable_cells, untestable, .. } = row;
    let named = match (untestable, bootable_cells.first().or(cells.first())) {
        (Some(reason), _) => return format!("untestable: {reason}"),
        (None, None) => return "not covered yet".into(),
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
