//! What mutation runs showed about cells: the damage that their verdicts noticed, and verdicts that differed. It is kept in one
//! file next to the scenarios, and says which cells decide a claim: those that would turn red if the claim were wrong.

use std::fmt::Write as _;

use nestmatrix_input::Keys;
use nestmatrix_model::{LevelNumber, Stage, Word};
use serde::Serialize;

use super::cell::{Cell, CellName};
use super::fingerprint::Fingerprint;
use super::input::{Table, Text};
use super::known::date;
use super::problem::ScenarioProblem;

/// What was shown about the cells of a matrix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// The cells that were damaged on purpose, in the order of their names.
    pub mutated: Vec<Mutated>,
    /// The cells that gave both verdicts.
    pub both_verdicts: Vec<BothVerdicts>,
}

/// The results of those mutants of a cell that bear on its claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mutated {
    /// The cell.
    pub cell: CellName,
    /// Identifies everything that it asked for.
    pub fingerprint: Fingerprint,
    /// The stage at which its stack stopped without damage, if it did.
    pub stage: Option<Stage>,
    /// The mutations that its verdict noticed.
    pub killed: Vec<String>,
    /// The mutations that it did not notice and that are not accepted.
    pub survived: Vec<String>,
    /// The day, as `YEAR-MONTH-DAY`.
    pub seen: String,
    /// The kernels of its levels.
    pub kernels: Vec<String>,
    /// The QEMUs that ran them.
    pub qemus: Vec<String>,
    /// What L0 ran on.
    pub metal: String,
    /// The levels with a stand-in: the result shows nothing about a version of their systems.
    pub stand_ins: Vec<LevelNumber>,
    /// The levels with a rebuild, which has the versions of its original.
    pub rebuilds: Vec<LevelNumber>,
}

/// A cell that gave both verdicts with different software.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BothVerdicts {
    /// The cell.
    pub cell: CellName,
    /// Identifies everything that it asked for.
    pub fingerprint: Fingerprint,
    /// The software with which its stack worked.
    pub works: String,
    /// The software with which it stopped.
    pub stops: String,
    /// The cell with the other verdict, if it was another one, which requires the same of another system.
    pub like: Option<CellName>,
    /// What that cell asked for.
    pub like_fingerprint: Option<Fingerprint>,
    /// The day on which the second of them was seen, as `YEAR-MONTH-DAY`.
    pub seen: String,
    /// How that was found, for people.
    pub note: String,
}

impl Mutated {
    const KEYS: Keys = &[
        "cell",
        "fingerprint",
        "stage",
        "killed",
        "survived",
        "seen",
        "kernels",
        "qemus",
        "metal",
        "stand-ins",
        "rebuilds",
    ];

    /// Whether it shows that the cell's verdict depends on its claims: damage that bears on them was noticed, and none went
    /// unnoticed.
    pub fn decides(&self) -> bool {
        !self.killed.is_empty() && self.survived.is_empty()
    }

    fn read(table: &Table<'_>, cells: Option<&[Cell]>) -> Option<Self> {
        let cell = read_cell(table.string("cell"), cells);
        let fingerprint = read_fingerprint(table, "fingerprint");
        let stage = table.optional_string("stage").map(|text| text.parse(|text| text.parse::<Stage>()));
        let [killed, survived, qemus] =
            ["killed", "survived", "qemus"].map(|key| texts(table.optional_strings(key)));
        if killed.is_empty() && survived.is_empty() {
            table.report(ScenarioProblem::NeitherKey { keys: ["killed", "survived"] });
        }
        let kernels = texts(table.strings("kernels"));
        let seen = table.string("seen").and_then(|text| text.parse(date));
        let metal = table.prose("metal");
        let [stand_ins, rebuilds] = ["stand-ins", "rebuilds"].map(|key| {
            let texts = table.optional_strings(key).unwrap_or_default();
            texts.iter().filter_map(|text| text.parse(LevelNumber::parse)).collect()
        });
        Some(Self {
            cell: cell?,
            fingerprint: fingerprint?,
            stand_ins,
            rebuilds,
            stage: stage.map_or(Some(None), |stage| stage.map(Some))?,
            killed,
            survived,
            seen: seen?,
            kernels,
            qemus,
            metal: metal?,
        })
    }
}

impl BothVerdicts {
    const KEYS: Keys = &["cell", "fingerprint", "works", "stops", "like", "like-fingerprint", "seen", "note"];

    fn read(table: &Table<'_>, cells: Option<&[Cell]>) -> Option<Self> {
        let cell = read_cell(table.string("cell"), cells);
        let like = table.optional_string("like").map(|text| read_cell(Some(text), cells));
        let fingerprint = read_fingerprint(table, "fingerprint");
        let like_fingerprint = match like {
            Some(_) => read_fingerprint(table, "like-fingerprint").map(Some),
            None => {
                if table.has("like-fingerprint") {
                    let wants = "like = \"CELL\"";
                    table.report(ScenarioProblem::NeedlessKey { key: "like-fingerprint", wants });
                }
                Some(None)
            }
        };
        let [works, stops, note] = ["works", "stops", "note"].map(|key| table.prose(key));
        let seen = table.string("seen").and_then(|text| text.parse(date));
        Some(Self {
            cell: cell?,
            fingerprint: fingerprint?,
            works: works?,
            stops: stops?,
            like: like.map_or(Some(None), |like| like.map(Some))?,
            like_fingerprint: like_fingerprint?,
            seen: seen?,
            note: note?,
        })
    }
}

fn texts(texts: Option<Vec<Text<'_>>>) -> Vec<String> {
    texts.unwrap_or_default().iter().map(|text| text.as_str().to_owned()).collect()
}

fn read_fingerprint(table: &Table<'_>, key: &'static str) -> Option<Fingerprint> {
    table.string(key)?.parse(Fingerprint::parse)
}

/// The cell, which must be one of `cells`. If other files are wrong, `cells` is unknown and this is not checked.
fn read_cell(name: Option<Text<'_>>, cells: Option<&[Cell]>) -> Option<CellName> {
    name?.parse(|text| {
        let name: CellName = text.parse()?;
        match cells {
            Some(cells) if !cells.iter().any(|cell| cell.name == name) => {
                Err(ScenarioProblem::NoSuchCell { given: text.to_owned() })
            }
            _ => Ok(name),
        }
    })
}

impl Ledger {
    pub(super) const KEYS: Keys = &["mutated", "both-verdicts"];

    /// Reads `decided.toml`. Each entry must be about one of `cells`.
    pub(super) fn read(root: &Table<'_>, cells: Option<&[Cell]>) -> Self {
        let mutated = root.tables("mutated", Mutated::KEYS);
        let both_verdicts = root.tables("both-verdicts", BothVerdicts::KEYS);
        let mut ledger = Self {
            mutated: mutated.iter().filter_map(|table| Mutated::read(table, cells)).collect(),
            both_verdicts: both_verdicts
                .iter()
                .filter_map(|table| BothVerdicts::read(table, cells))
                .collect(),
        };
        ledger.mutated.sort_by(|one, other| one.cell.cmp(&other.cell));
        ledger
    }

    /// Enters the results of a run about cells whose mutants were all booted. They replace the results of earlier runs: a
    /// mutant that was killed then may survive now.
    pub fn record(&mut self, shown: impl IntoIterator<Item = Mutated>) {
        for entry in shown {
            match self.mutated.binary_search_by(|known| known.cell.cmp(&entry.cell)) {
                Ok(index) => {
                    let known = &mut self.mutated[index];
                    if known.fingerprint != entry.fingerprint || known.seen <= entry.seen {
                        *known = entry;
                    }
                }
                Err(index) => self.mutated.insert(index, entry),
            }
        }
    }

    /// Removes the results about a cell, because a run of this day booted all of its mutants and shows nothing.
    pub fn forget(&mut self, cell: &CellName, seen: &str) {
        self.mutated.retain(|known| known.cell != *cell || known.seen.as_str() > seen);
    }

    /// The text of `decided.toml`.
    pub fn to_toml(&self) -> String {
        let mut out = HEADER.to_owned();
        for entry in &self.mutated {
            let Mutated { cell, fingerprint, stage, killed, survived, .. } = entry;
            let Mutated { seen, kernels, qemus, metal, stand_ins, rebuilds, .. } = entry;
            let _ = writeln!(out, "\n[[mutated]]\ncell = {}", quoted(cell.as_str()));
            let _ = writeln!(out, "fingerprint = {}", quoted(&fingerprint.to_string()));
            if let Some(stage) = stage {
                let _ = writeln!(out, "stage = {}", quoted(&stage.to_string()));
            }
            write_list(&mut out, "killed", killed);
            write_list(&mut out, "survived", survived);
            let _ = writeln!(out, "seen = {}", quoted(seen));
            write_list(&mut out, "kernels", kernels);
            write_list(&mut out, "qemus", qemus);
            let _ = writeln!(out, "metal = {}", quoted(metal));
            for (key, levels) in [("stand-ins", stand_ins), ("rebuilds", rebuilds)] {
                let words: Vec<String> = levels.iter().map(|level| level.word().to_owned()).collect();
                write_list(&mut out, key, &words);
            }
        }
        for entry in &self.both_verdicts {
            let BothVerdicts { cell, fingerprint, works, stops, like, like_fingerprint, seen, note } = entry;
            let _ = writeln!(out, "\n[[both-verdicts]]\ncell = {}", quoted(cell.as_str()));
            let fingerprint = fingerprint.to_string();
            let like_fingerprint = like_fingerprint.as_ref().map(Fingerprint::to_string);
            let members = [
                ("fingerprint", Some(fingerprint.as_str())),
                ("works", Some(works)),
                ("stops", Some(stops)),
                ("like", like.as_ref().map(CellName::as_str)),
                ("like-fingerprint", like_fingerprint.as_deref()),
                ("seen", Some(seen)),
                ("note", Some(note)),
            ];
            for (key, text) in members {
                let _ = text.map_or(Ok(()), |text| writeln!(out, "{key} = {}", quoted(text)));
            }
        }
        out
    }
}

const HEADER: &str = "\
# What was shown about cells: what decides a claim (docs/claims.md, \"What decides a claim\").
#
# `cargo xtask mutate --record` and `--record-from` rewrite this file. [[both-verdicts]] are entered by hand, and kept;
# `cargo xtask list --format json` has the fingerprints.
";

/// The longest line of a list that is not broken.
const LINE: usize = 110;

fn write_list(out: &mut String, key: &str, entries: &[String]) {
    let entries: Vec<String> = entries.iter().map(|entry| quoted(entry)).collect();
    let line = format!("{key} = [{}]", entries.join(", "));
    if entries.is_empty() {
    } else if line.len() <= LINE {
        let _ = writeln!(out, "{line}");
    } else {
        let _ = writeln!(out, "{key} = [\n    {},\n]", entries.join(",\n    "));
    }
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutated(cell: &str, fingerprint: &str, killed: &[&str], survived: &[&str]) -> Mutated {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Mutated {
            cell: cell.parse().unwrap(),
            fingerprint: Fingerprint::parse(fingerprint).unwrap(),
            stage: None,
            killed: texts(killed),
            survived: texts(survived),
            seen: "2026-11-28".into(),
            kernels: vec!["6.12.1".into()],
            qemus: vec!["10.0".into()],
            metal: "emulated".into(),
            stand_ins: Vec::new(),
            rebuilds: Vec::new(),
        }
    }

    #[test]
    fn a_later_run_replaces_all_that_an_earlier_one_saw_of_the_cell() {
        let mut ledger = Ledger::default();
        ledger.record([mutated("s/amd/a", "0a", &["old-nonce", "l1-on-tcg"], &["l2-on-tcg"])]);
        assert!(!ledger.mutated[0].decides(), "damage was not noticed");
        // What was killed then may be accepted or undecided now, and what survived may be accepted.
        let later = mutated("s/amd/a", "0a", &["l1-on-tcg"], &[]);
        ledger.record([later.clone()]);
        assert_eq!(ledger.mutated, std::slice::from_ref(&later));
        let earlier = Mutated { seen: "2026-11-27".into(), ..mutated("s/amd/a", "0a", &["old-nonce"], &[]) };
        ledger.record([earlier.clone()]);
        assert_eq!(ledger.mutated, [later], "runs may be recorded in any order");
        ledger.record([Mutated { fingerprint: Fingerprint::parse("0b").unwrap(), ..earlier.clone() }]);
        assert_eq!(ledger.mutated[0].killed, earlier.killed, "the cell asks for that now");
    }

    #[test]
    fn a_later_run_that_shows_nothing_takes_away_what_was_shown() {
        let mut ledger = Ledger::default();
        ledger.record([mutated("s/amd/a", "0a", &["old-nonce"], &[])]);
        let cell: CellName = "s/amd/a".parse().unwrap();
        ledger.forget(&cell, "2026-11-27");
        assert_eq!(ledger.mutated.len(), 1, "that was before");
        ledger.forget(&cell, "2026-11-28");
        assert_eq!(ledger.mutated, []);
    }

    #[test]
    fn what_was_shown_of_a_cell_that_asked_for_something_else_is_dropped() {
        let mut ledger = Ledger::default();
        ledger.record([
            mutated("s/amd/b", "0a", &["old-nonce"], &[]),
            mutated("s/amd/a", "0a", &["old-nonce"], &[]),
        ]);
        ledger.record([mutated("s/amd/b", "0b", &["l1-on-tcg"], &[])]);
        let cells: Vec<&str> = ledger.mutated.iter().map(|entry| entry.cell.as_str()).collect();
        assert_eq!(cells, ["s/amd/a", "s/amd/b"]);
        assert_eq!(ledger.mutated[1].killed, ["l1-on-tcg"]);
    }
}
