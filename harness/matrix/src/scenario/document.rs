//! Vendors' documents and their claims: paraphrased statements, each of which a test can show true or false.

use nestmatrix_model::{LevelNumber, Word, word_traits};
use serde::Serialize;

use super::cell::kebab_case;
use super::input::Table;
use super::problem::ScenarioProblem;

/// The support that a vendor gives something, as the document puts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// It should work, and the vendor helps if it does not.
    Supported,
    /// Users may try it, without support.
    TechnologyPreview,
    /// The vendor says that it is not supported.
    Unsupported,
    /// The vendor says that it has not been tested.
    Untested,
}

impl Word for Tier {
    const WHAT: &'static str = "tier";
    const ALL: &'static [Self] =
        &[Self::Supported, Self::TechnologyPreview, Self::Unsupported, Self::Untested];

    fn word(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::TechnologyPreview => "technology-preview",
            Self::Unsupported => "unsupported",
            Self::Untested => "untested",
        }
    }
}
word_traits!(Tier);

impl Tier {
    /// The tiers that occur among these, each once: `supported, technology-preview`.
    pub fn listed(tiers: impl IntoIterator<Item = Self>) -> String {
        let among: Vec<Self> = tiers.into_iter().collect();
        let listed = Self::ALL.iter().filter(|tier| among.contains(tier));
        listed.map(|tier| tier.word()).collect::<Vec<_>>().join(", ")
    }
}

/// A vendor's text on nested virtualization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The id that scenarios use; also the name of its file.
    pub id: String,
    /// The title, as the document has it.
    pub title: String,
    /// What it documents.
    pub product: String,
    /// Its section or chapter in the vendor's manual.
    pub section: String,
    /// The language of the text that the claims were read from, as a language tag (`en`, `fr`).
    pub language: String,
    /// Its claims, in the document's order.
    pub claims: Vec<Claim>,
}

/// One statement of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// The id that scenarios use, unique in its document.
    pub id: String,
    /// Its place in the document.
    pub section: String,
    /// The support that the vendor gives it.
    pub tier: Tier,
    /// What it says, in this project's words.
    pub text: String,
    /// Why no boot can show it true or false, if so; then no scenario tests it.
    pub untestable: Option<String>,
    /// Whether the text says "may" or "might": then every behaviour of a stack agrees with it.
    pub may: bool,
    /// The level whose version it is about, if any: which versions of a system work there.
    pub version_of: Option<LevelNumber>,
    /// The public bug report that says it, if it is not a vendor's statement.
    pub report: Option<BugReport>,
}

/// A public bug report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BugReport {
    /// Where it is, if that is known: one address for each place.
    pub addresses: Vec<String>,
    /// When it was reported, as exactly as it says.
    pub date: Option<String>,
    /// The software that the reporter had.
    pub seen_with: String,
    /// What became of it, as the report says.
    pub state: String,
}

impl Claim {
    const KEYS: &'static [&'static str] =
        &["id", "section", "tier", "text", "untestable", "may", "version-of", "report"];
}

impl BugReport {
    const KEYS: &'static [&'static str] = &["addresses", "date", "seen-with", "state"];

    fn read(table: &Table<'_>) -> Option<Self> {
        let addresses = table.optional_strings("addresses").unwrap_or_default();
        let addresses = addresses.iter().filter_map(|text| text.parse(web_address)).collect();
        let date = table.optional_prose("date");
        let (seen_with, state) = (table.prose("seen-with"), table.prose("state"));
        Some(Self { addresses, date, seen_with: seen_with?, state: state? })
    }
}

/// An address that a reader can open, and that does no harm in a report.
fn web_address(text: &str) -> Result<String, ScenarioProblem> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'`' | b'\\');
    match text.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() && rest.bytes().all(is_plain) => Ok(text.to_owned()),
        _ => Err(ScenarioProblem::BadName {
            what: "an address",
            given: text.to_owned(),
            rule: "an address that begins with https://",
        }),
    }
}

impl Document {
    pub(super) const KEYS: &'static [&'static str] =
        &["id", "title", "product", "section", "language", "claim"];

    /// Reads a document. Its file must be named after it.
    pub(super) fn read(root: &Table<'_>) -> Option<Self> {
        let id = root.string("id").and_then(|text| {
            let id = text.parse(|id| kebab_case("a document id", id))?;
            text.names_its_file("document", "id").then_some(id)
        });
        let title = root.prose("title");
        let product = root.prose("product");
        let section = root.prose("section");
        let language = root.string("language").and_then(|text| text.parse(language_tag));
        let claims = read_claims(root);
        Some(Self {
            id: id?,
            title: title?,
            product: product?,
            section: section?,
            language: language?,
            claims,
        })
    }
}

fn read_claims(root: &Table<'_>) -> Vec<Claim> {
    let mut claims: Vec<(Claim, String)> = Vec::new();
    for table in root.tables("claim", Claim::KEYS) {
        let name = table.string("id");
        let id = name.as_ref().and_then(|text| text.parse(|id| kebab_case("a claim id", id)));
        let section = table.prose("section");
        let tier = table.string("tier").and_then(|text| text.parse(Tier::parse));
        let text = table.prose("text");
        let untestable = table.optional_prose("untestable");
        let may = table.optional_boolean("may").unwrap_or(false);
        let version_of = table.optional_string("version-of").and_then(|text| text.parse(LevelNumber::parse));
        let report = table.optional_table("report", BugReport::KEYS);
        let report = report.and_then(|report| BugReport::read(&report));
        for key in ["may", "version-of"].into_iter().filter(|key| untestable.is_some() && table.has(key)) {
            table.report(ScenarioProblem::BothKeys { keys: ["untestable", key] });
        }
        if may && version_of.is_some() {
            table.report(ScenarioProblem::BothKeys { keys: ["may", "version-of"] });
        }
        let (Some(name), Some(id), Some(section), Some(tier), Some(text)) = (name, id, section, tier, text)
        else {
            continue;
        };
        match claims.iter().find(|(claim, _)| claim.id == id) {
            Some((_, first)) => {
                name.report(ScenarioProblem::Duplicate { what: "claim", name: id, first: first.clone() });
            }
            None => {
                let claim = Claim { id, section, tier, text, untestable, may, version_of, report };
                claims.push((claim, name.location()));
            }
        }
    }
    claims.into_iter().map(|(claim, _)| claim).collect()
}

fn language_tag(text: &str) -> Result<String, ScenarioProblem> {
    let subtag = |tag: &str| !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if text.split('-').all(subtag) {
        Ok(text.to_owned())
    } else {
        Err(ScenarioProblem::BadName {
            what: "a language",
            given: text.to_owned(),
            rule: "a language tag, such as `en` or `pt-BR`",
        })
    }
}
