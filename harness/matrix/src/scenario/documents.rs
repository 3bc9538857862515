//! The documents of a matrix together: how scenarios and contradictions refer to a claim, and where documents disagree.

use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_input::{FileProblem, Keys};
use nestmatrix_model::UnknownWord;
use serde::Serialize;

use super::document::{Claim, Document};
use super::input::{Table, Text};
use super::problem::ScenarioProblem;

/// Two claims that answer one question differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    /// The claims, each as `DOCUMENT/CLAIM`.
    pub claims: [String; 2],
    /// What they disagree about.
    pub text: String,
}

/// A document that the matrix does not have, and the claims that it contradicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutsideContradiction {
    /// The claims, each as `DOCUMENT/CLAIM`.
    pub claims: Vec<String>,
    /// The other document: `Microsoft's documentation of WSL`.
    pub outside: String,
    /// Where it says that, and since when.
    pub source: String,
    /// What they disagree about.
    pub text: String,
}

/// What `contradictions.toml` says.
#[derive(Debug, Clone, Default)]
pub(super) struct Contradictions {
    pub(super) pairs: Vec<Contradiction>,
    pub(super) outside: Vec<OutsideContradiction>,
}

impl Contradictions {
    pub(super) const KEYS: Keys = &["contradiction", "outside-contradiction"];
}

/// The documents of the matrix.
#[derive(Debug, Default)]
pub(super) struct Documents {
    pub(super) sound: BTreeMap<String, Document>,
    /// The ids of documents whose files are wrong, so that their claims are unknown.
    pub(super) broken: BTreeSet<String>,
}

impl Documents {
    /// The document that `text` names, unless that document is itself wrong.
    pub(super) fn document(&self, text: &Text<'_>) -> Option<&Document> {
        text.parse(|id| self.find(id))?
    }

    fn find(&self, id: &str) -> Result<Option<&Document>, UnknownWord> {
        match self.sound.get(id) {
            Some(document) => Ok(Some(document)),
            None if self.broken.contains(id) => Ok(None),
            None => Err(UnknownWord {
                what: "document",
                given: id.to_owned(),
                known: self.sound.keys().cloned().collect(),
            }),
        }
    }

    /// The claim of a `reference`: `DOCUMENT/CLAIM`, or `CLAIM` for a claim of the document `own`. Nothing if the document is
    /// itself wrong or unknown.
    pub(super) fn claim<'d>(
        &'d self,
        reference: &str,
        own: Option<&'d Document>,
    ) -> Result<Option<&'d Claim>, UnknownWord> {
        let (document, claim) = match reference.split_once('/') {
            Some((document, claim)) => (self.find(document)?, claim),
            None => (own, reference),
        };
        let Some(document) = document else { return Ok(None) };
        let found = document.claims.iter().find(|known| known.id == claim);
        found.map(Some).ok_or_else(|| UnknownWord {
            what: "claim",
            given: claim.to_owned(),
            known: document.claims.iter().map(|claim| claim.id.clone()).collect(),
        })
    }

    /// Reads `contradictions.toml`.
    pub(super) fn contradictions(&self, root: &Table<'_>) -> Contradictions {
        let pairs = root.tables("contradiction", &["claims", "text"]);
        let outside = root.tables("outside-contradiction", &["claims", "outside", "source", "text"]);
        Contradictions {
            pairs: pairs.iter().filter_map(|table| self.pair(table)).collect(),
            outside: outside.iter().filter_map(|table| self.outside(table)).collect(),
        }
    }

    fn pair(&self, table: &Table<'_>) -> Option<Contradiction> {
        let text = table.prose("text");
        let ends: Vec<Text<'_>> = table.strings("claims")?;
        if ends.len() != 2 {
            let given = ends.iter().map(Text::as_str).collect::<Vec<_>>().join(", ");
            table.report(ScenarioProblem::BadName {
                what: "a pair of claims",
                given,
                rule: "two claims, each as `DOCUMENT/CLAIM`; of three that disagree make three pairs",
            });
        }
        let ends = self.full_names(&ends);
        Some(Contradiction { claims: ends?.try_into().ok()?, text: text? })
    }

    fn outside(&self, table: &Table<'_>) -> Option<OutsideContradiction> {
        let (outside, source, text) = (table.prose("outside"), table.prose("source"), table.prose("text"));
        let claims: Vec<Text<'_>> = table.strings("claims")?;
        if claims.is_empty() {
            table.report(FileProblem::Empty { key: "claims" });
        }
        let claims = self.full_names(&claims);
        Some(OutsideContradiction { claims: claims?, outside: outside?, source: source?, text: text? })
    }

    /// References that must name the document of each claim; nothing if one is wrong, after all of them were checked.
    fn full_names(&self, claims: &[Text<'_>]) -> Option<Vec<String>> {
        let name = |text: &Text<'_>| {
            text.parse(|reference| match reference.contains('/') {
                true => Ok(self.claim(reference, None).map(|_| reference.to_owned())?),
                false => Err(ScenarioProblem::BadName {
                    what: "a document's claim",
                    given: reference.to_owned(),
                    rule: "`DOCUMENT/CLAIM`, with the ids of both",
                }),
            })
        };
        let names: Vec<Option<String>> = claims.iter().map(name).collect();
        names.into_iter().collect()
    }
}

/// A reference `CLAIM` or `DOCUMENT/CLAIM` as `DOCUMENT/CLAIM`. `own` is the document of a reference without one.
pub(crate) fn in_full(claim: &str, own: &str) -> String {
    if claim.contains('/') { claim.to_owned() } else { format!("{own}/{claim}") }
}
