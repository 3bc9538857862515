//! A recipe's `[disk.install]`: how Windows is installed without a user.

use super::placeholders;
use crate::digest::Hasher;
use crate::recipe_problem::RecipeProblem;
use crate::recipe_text::{Table, read_file};
use nestmatrix_input::Keys;

/// The largest disk in GiB, and the last system on an installation image, that a recipe may ask for.
const MOST_GIB: u32 = 64 << 10;
const LAST_IMAGE: u32 = 99;

/// What the recipe's values replace in an answer file.
const PLACEHOLDERS: [&str; 3] = ["@IMAGE_INDEX@", "@LANGUAGE@", "@PRODUCT_KEY@"];

/// How Windows is installed. Files are their contents.
#[derive(Debug, Clone)]
pub(crate) struct InstallText {
    /// The answer file for Windows Setup.
    answers: String,
    /// The script that makes a level of the installed system.
    pub(crate) script: String,
    image_index: u32,
    language: String,
    product_key: Option<String>,
    /// The size of the disk that it is installed on.
    pub(crate) disk_gib: u32,
    /// Whether it is also tried without KVM.
    pub(crate) emulated: bool,
}

impl InstallText {
    pub(crate) const KEYS: Keys =
        &["answers", "script", "image-index", "language", "product-key", "disk-gib", "emulated"];

    /// Reads the table. The files that it names are relative to `folder`.
    pub(crate) fn read(table: &Table<'_>, folder: &std::path::Path) -> Option<Self> {
        let answers = table.string("answers").and_then(|name| {
            let text = read_file(&name, folder)?;
            name.parse(|_| match unknown_placeholder(&text) {
                Some(unknown) => Err(RecipeProblem::UnknownInAnswers(unknown.to_owned())),
                None => Ok(text),
            })
        });
        let script = table.string("script").and_then(|name| read_file(&name, folder));
        let image_index = table.integer("image-index", 1, LAST_IMAGE);
        let disk_gib = table.integer("disk-gib", 1, MOST_GIB);
        let language = table.string("language").and_then(|text| text.parse(answer));
        let product_key = match table.optional_string("product-key") {
            Some(text) => Some(text.parse(answer)?),
            None => None,
        };
        Some(Self {
            answers: answers?,
            script: script?,
            image_index: image_index?,
            language: language?,
            product_key,
            disk_gib: disk_gib?,
            emulated: table.optional_boolean("emulated").unwrap_or(false),
        })
    }

    /// Adds the contents of its files to those that a recipe's digest covers.
    pub(crate) fn hash(&self, hasher: Hasher) -> Hasher {
        hasher.field(&self.answers).field(&self.script)
    }

    /// The answer file, with what the recipe says.
    pub(crate) fn answers(&self) -> String {
        let key = match &self.product_key {
            Some(key) => format!("<ProductKey><Key>{key}</Key><WillShowUI>OnError</WillShowUI></ProductKey>"),
            // Evaluation images have their own.
            None => "<ProductKey><WillShowUI>Never</WillShowUI></ProductKey>".to_owned(),
        };
        let values = [&self.image_index.to_string(), &self.language, &key];
        let fill = |text: &str| {
            let values = PLACEHOLDERS.iter().zip(values);
            values.fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        let filled = parts(&self.answers).into_iter().map(|part| match part {
            Part::Comment(text) => text.to_owned(),
            Part::Other(text) => fill(text),
        });
        filled.collect()
    }
}

/// A part of an answer file. A comment may name placeholders.
enum Part<'t> {
    Comment(&'t str),
    Other(&'t str),
}

/// The parts of an answer file, in order.
fn parts(mut text: &str) -> Vec<Part<'_>> {
    const END: &str = "-->";
    let mut parts = Vec::new();
    while let Some(at) = text.find("<!--") {
        let (before, from_comment) = text.split_at(at);
        let length = from_comment.find(END).map_or(from_comment.len(), |end| end + END.len());
        let (comment, rest) = from_comment.split_at(length);
        parts.extend([Part::Other(before), Part::Comment(comment)]);
        text = rest;
    }
    parts.push(Part::Other(text));
    parts
}

/// The first placeholder in an answer file that nothing would replace.
fn unknown_placeholder(answers: &str) -> Option<&str> {
    parts(answers).into_iter().find_map(|part| match part {
        Part::Comment(_) => None,
        Part::Other(text) => placeholders::written(text).find(|name| !PLACEHOLDERS.contains(name)),
    })
}

/// A text that stays a text inside XML.
fn answer(text: &str) -> Result<String, RecipeProblem> {
    let is_harmless = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if is_harmless { Ok(text.to_owned()) } else { Err(RecipeProblem::BadAnswer(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(answers: &str) -> String {
        let install = InstallText {
            answers: answers.to_owned(),
            script: String::new(),
            image_index: 7,
            language: "de-DE".to_owned(),
            product_key: Some("A-B".to_owned()),
            disk_gib: 64,
            emulated: false,
        };
        install.answers()
    }

    #[test]
    fn placeholders_are_replaced_everywhere_but_in_comments() {
        assert_eq!(
            filled("@LANGUAGE@ <!-- @LANGUAGE@ --> @LANGUAGE@ @IMAGE_INDEX@ <!-- @IMAGE_INDEX@"),
            "de-DE <!-- @LANGUAGE@ --> de-DE 7 <!-- @IMAGE_INDEX@"
        );
        let key = filled("@PRODUCT_KEY@");
        assert_eq!(key, "<ProductKey><Key>A-B</Key><WillShowUI>OnError</WillShowUI></ProductKey>");
    }

    #[test]
    fn only_a_comment_may_have_an_unknown_placeholder() {
        assert_eq!(unknown_placeholder("<!-- @X@ --> @LANGUAGE@ a@b.c @IMAGE_INDEX@"), None);
        assert_eq!(unknown_placeholder("@LANGUAGE@ <!-- --> @IMAGE@"), Some("@IMAGE@"));
    }
}
