//! The documents of a matrix together: how scenarios and contradictions refer to a claim, and where documents disagree.

use std::collections::{BTreeMap, BTreeSet};

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
    pub(super) fn contradictions(&self, root: &Table<'_>) -> Vec<Contradiction> {
        let tables = root.tables("contradiction", &["claims", "text"]);
        tables.iter().filter_map(|table| self.contradiction(table)).collect()
    }

    fn contradiction(&self, table: &Table<'_>) -> Option<Contradiction> {
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
        let end = |text: &Text<'_>| {
            text.parse(|reference| match reference.contains('/') {
                true => Ok(self.claim(reference, None).map(|_| reference.to_owned())?),
                false => Err(ScenarioProblem::BadName {
                    what: "a document's claim",
                    given: reference.to_owned(),
                    rule: "`DOCUMENT/CLAIM`, with the ids of both",
                }),
            })
        };
        let ends: Vec<Option<String>> = ends.iter().map(end).collect();
        let ends: Option<Vec<String>> = ends.into_iter().collect();
        Some(Contradiction { claims: ends?.try_into().ok()?, text: text? })
    }
}

/// A reference `CLAIM` or `DOCUMENT/CLAIM` as `DOCUMENT/CLAIM`. `own` is the document of a reference without one.
pub(crate) fn in_full(claim: &str, own: &str) -> String {
    if claim.contains('/') { claim.to_owned() } else { format!("{own}/{claim}") }
}
