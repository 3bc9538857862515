//! The texts that a document, or an earlier run, quotes from the symptom of a stop: one text, or several of which any will do,
//! since programs change their messages from version to version.

use std::fmt;

use serde::{Deserialize, Serialize};

use nestmatrix_input::FileProblem;

use super::input::Table;

/// Alternative texts: one of them must occur in a symptom. There is at least one, and none is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "OneOrMore", try_from = "OneOrMore")]
pub struct SymptomTexts(Vec<String>);

/// A single text is written without a list, as in earlier versions.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// A list without texts.
#[derive(Debug, thiserror::Error)]
#[error("a symptom without a text")]
pub struct NoText;

impl SymptomTexts {
    /// These texts, if there is one and none is empty: an empty text occurs in every symptom.
    pub fn new(texts: impl IntoIterator<Item = impl Into<String>>) -> Option<Self> {
        let texts: Vec<String> = texts.into_iter().map(Into::into).collect();
        let says_something = !texts.is_empty() && texts.iter().all(|text| !text.trim().is_empty());
        says_something.then_some(Self(texts))
    }

    /// The first of them that occurs in `said`.
    pub fn found_in(&self, said: &str) -> Option<&str> {
        self.0.iter().map(String::as_str).find(|text| said.contains(text))
    }

    /// Reads `symptom`, if it is there.
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        let texts = table.optional_string_or_strings("symptom")?;
        let text = |text: &str| match text.trim() {
            "" => Err(FileProblem::Empty { key: "symptom" }),
            _ => Ok(text.to_owned()),
        };
        Self::new(texts.iter().filter_map(|entry| entry.parse(text)))
    }
}

impl fmt::Display for SymptomTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" or "))
    }
}

impl From<SymptomTexts> for OneOrMore {
    fn from(SymptomTexts(mut texts): SymptomTexts) -> Self {
        match texts.pop() {
            Some(one) if texts.is_empty() => Self::One(one),
            last => Self::More(texts.into_iter().chain(last).collect()),
        }
    }
}

impl TryFrom<OneOrMore> for SymptomTexts {
    type Error = NoText;

    fn try_from(texts: OneOrMore) -> Result<Self, NoText> {
        match texts {
            OneOrMore::One(text) => Self::new([text]),
            OneOrMore::More(texts) => Self::new(texts),
        }
        .ok_or(NoText)
    }
}
