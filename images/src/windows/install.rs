//! A recipe's `[disk.install]`: how Windows is installed without a user.

use crate::digest::Hasher;
use crate::recipe_problem::RecipeProblem;
use crate::recipe_text::{Table, read_file};
use nestmatrix_input::Keys;

/// The largest disk in GiB, and the last system on an installation image, that a recipe may ask for.
const MOST_GIB: u32 = 64 << 10;
const LAST_IMAGE: u32 = 99;

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
        let [answers, script] = ["answers", "script"].map(|key| read_file(&table.string(key)?, folder));
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
        let values = [
            ("@IMAGE_INDEX@", self.image_index.to_string()),
            ("@LANGUAGE@", self.language.clone()),
            ("@PRODUCT_KEY@", key),
        ];
        // The comment at the beginning names the placeholders.
        let (comment, rest) = self.answers.split_once("-->").unwrap_or(("", &self.answers));
        let filled = values.iter().fold(rest.to_owned(), |text, (name, value)| text.replace(name, value));
        if comment.is_empty() { filled } else { format!("{comment}-->{filled}") }
    }
}

/// A text that stays a text inside XML.
fn answer(text: &str) -> Result<String, RecipeProblem> {
    let is_harmless = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if is_harmless { Ok(text.to_owned()) } else { Err(RecipeProblem::BadAnswer(text.to_owned())) }
}
