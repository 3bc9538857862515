//! Reads TOML tables key by key. Unlike a derived deserializer, this does not stop at the first mistake: each wrong value is
//! reported with its place and counts as absent, and reading continues with the next.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::file::InputFile;
use crate::nearest::meant;
use crate::problem::{FileProblem, Problem};

/// The maximum number of entries of a list. It also limits the work of code that compares each entry with all others.
const LIST_LIMIT: usize = 256;

/// The keys that a table may have.
pub type Keys = &'static [&'static str];

/// A table whose keys are all known.
#[derive(Debug)]
pub struct Table<'t, P> {
    file: &'t InputFile<P>,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    keys: Keys,
}

impl<'t, P: Problem> Table<'t, P> {
    pub(crate) fn open(
        file: &'t InputFile<P>,
        table: &'t DeTable<'t>,
        span: Range<usize>,
        keys: Keys,
    ) -> Self {
        let opened = Self { file, table, span, keys };
        for key in opened.unknown_keys() {
            let problem = FileProblem::UnknownKey { key: key.get_ref().to_string(), known: keys };
            file.report(key.span(), problem);
        }
        opened
    }

    fn unknown_keys(&self) -> impl Iterator<Item = &'t Spanned<DeString<'t>>> {
        self.table.keys().filter(|key| !self.keys.contains(&key.get_ref().as_ref()))
    }

    /// Whether a required key is missing, and not just misspelled: that has been reported as an unknown key.
    pub fn is_missing(&self, key: &'static str) -> bool {
        let is_typing_error = |given: &Spanned<DeString<'_>>| meant(given.get_ref(), self.keys) == Some(key);
        !self.has(key) && !self.unknown_keys().any(is_typing_error)
    }

    /// Whether there is such a key, even if its value is wrong.
    pub fn has(&self, key: &'static str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports a problem with the table as a whole.
    pub fn report(&self, problem: impl Into<P>) {
        self.file.report(self.span.clone(), problem);
    }

    fn required<T>(&self, key: &'static str, value: Option<T>) -> Option<T> {
        // A wrong value has already been reported.
        if value.is_none() && self.is_missing(key) {
            self.report(FileProblem::MissingKey { key });
        }
        value
    }

    /// The value under `key`, if it exists and `pick` accepts it.
    fn pick<T>(
        &self,
        key: &'static str,
        wanted: &'static str,
        pick: impl FnOnce(&'t DeValue<'t>) -> Option<T>,
    ) -> Option<(T, Range<usize>)> {
        let value = self.table.get(key)?;
        let picked = pick(value.get_ref());
        if picked.is_none() {
            self.wrong_type(key, value, wanted);
        }
        Some((picked?, value.span()))
    }

    fn wrong_type(&self, key: &'static str, value: &Spanned<DeValue<'_>>, wanted: &'static str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.file.report(value.span(), FileProblem::WrongType { key, found, wanted });
    }

    /// The text under `key`.
    pub fn optional_string(&self, key: &'static str) -> Option<Text<'t, P>> {
        let (value, span) = self.pick(key, "a string", DeValue::as_str)?;
        Some(Text { file: self.file, value, span })
    }

    /// The text under `key`, which is required.
    pub fn string(&self, key: &'static str) -> Option<Text<'t, P>> {
        self.required(key, self.optional_string(key))
    }

    /// The prose under `key`, which is required and must not be empty.
    pub fn prose(&self, key: &'static str) -> Option<String> {
        self.required(key, self.optional_prose(key))
    }

    /// The prose under `key`, which is optional and must not be empty.
    pub fn optional_prose(&self, key: &'static str) -> Option<String> {
        self.optional_string(key)?.parse(|text| match text.trim() {
            "" => Err(FileProblem::Empty { key }),
            text => Ok(text.to_owned()),
        })
    }

    /// The entries of the list under `key` that `pick` accepts, each with its place. An empty list is an error, and so is one
    /// with very many entries, which is not written by hand.
    fn entries<T: ?Sized>(
        &self,
        key: &'static str,
        wanted: &'static str,
        pick: impl Fn(&'t DeValue<'t>) -> Option<&'t T>,
    ) -> Option<Vec<(&'t T, Range<usize>)>> {
        let (list, span) = self.pick(key, wanted, DeValue::as_array)?;
        if list.is_empty() {
            self.file.report(span, FileProblem::Empty { key });
            return None;
        }
        if list.len() > LIST_LIMIT {
            self.file.report(span, FileProblem::TooLong { key, count: list.len(), limit: LIST_LIMIT });
            return None;
        }
        let mut entries = Vec::new();
        for value in list.iter() {
            match pick(value.get_ref()) {
                Some(entry) => entries.push((entry, value.span())),
                None => self.wrong_type(key, value, wanted),
            }
        }
        Some(entries)
    }

    /// The text under `key`, or the texts of the list under it.
    pub fn optional_string_or_strings(&self, key: &'static str) -> Option<Vec<Text<'t, P>>> {
        let value = self.table.get(key)?;
        match value.get_ref() {
            DeValue::String(_) => self.optional_string(key).map(|text| vec![text]),
            DeValue::Array(_) => self.optional_strings(key),
            _ => {
                self.wrong_type(key, value, "a string or a list of strings");
                None
            }
        }
    }

    /// The texts in the list under `key`.
    pub fn optional_strings(&self, key: &'static str) -> Option<Vec<Text<'t, P>>> {
        let entries = self.entries(key, "a list of strings", DeValue::as_str)?;
        Some(entries.into_iter().map(|(value, span)| Text { file: self.file, value, span }).collect())
    }

    /// The texts in the list under `key`, which is required.
    pub fn strings(&self, key: &'static str) -> Option<Vec<Text<'t, P>>> {
        self.required(key, self.optional_strings(key))
    }

    /// The entries of the list under `key`, which is required: texts, or tables for entries with details.
    pub fn texts_or_tables(&self, key: &'static str, keys: Keys) -> Vec<TextOrTable<'t, P>> {
        let wanted = "a list of strings, or of tables with more to say";
        let pick = |value: &'t DeValue<'t>| (value.is_str() || value.is_table()).then_some(value);
        let entry = |(value, span): (&'t DeValue<'t>, Range<usize>)| match value {
            DeValue::Table(table) => Some(TextOrTable::Table(Table::open(self.file, table, span, keys))),
            value => value.as_str().map(|value| TextOrTable::Text(Text { file: self.file, value, span })),
        };
        let entries = self.required(key, self.entries(key, wanted, pick)).unwrap_or_default();
        entries.into_iter().filter_map(entry).collect()
    }

    /// The names and texts in the table under `key`, in the order of the names. An empty table is an error.
    pub fn optional_string_map(&self, key: &'static str) -> Option<Vec<(Text<'t, P>, Text<'t, P>)>> {
        let wanted = "a table of strings";
        let (table, span) = self.pick(key, wanted, DeValue::as_table)?;
        if table.is_empty() {
            self.file.report(span, FileProblem::Empty { key });
            return None;
        }
        let mut entries = Vec::new();
        for (name, value) in table.iter() {
            match value.get_ref().as_str() {
                Some(text) => entries.push((
                    Text { file: self.file, value: name.get_ref(), span: name.span() },
                    Text { file: self.file, value: text, span: value.span() },
                )),
                None => self.wrong_type(key, value, wanted),
            }
        }
        Some(entries)
    }

    /// The whole number under `key`, from `min` to `max`.
    pub fn optional_integer(&self, key: &'static str, min: u32, max: u32) -> Option<u32> {
        let (value, span) = self.pick(key, "a whole number", |value| value.is_integer().then_some(value))?;
        self.in_range(key, value, span, (min, max))
    }

    /// The number, if it is within the limits. Otherwise, that is reported.
    fn in_range(
        &self,
        key: &'static str,
        value: &DeValue<'_>,
        span: Range<usize>,
        (min, max): (u32, u32),
    ) -> Option<u32> {
        let integer = value.as_integer()?;
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
        let fits = number.filter(|number| (min..=max).contains(number));
        if fits.is_none() {
            self.file.report(span, FileProblem::OutOfRange { key, given: integer.to_string(), min, max });
        }
        fits
    }

    /// The whole numbers in the list under `key`, each from `min` to `max`.
    pub fn optional_integers(&self, key: &'static str, min: u32, max: u32) -> Option<Vec<u32>> {
        let pick = |value: &'t DeValue<'t>| value.is_integer().then_some(value);
        let entries = self.entries(key, "a list of whole numbers", pick)?;
        let numbers =
            entries.into_iter().filter_map(|(value, span)| self.in_range(key, value, span, (min, max)));
        Some(numbers.collect())
    }

    /// The whole number under `key`, which is required, from `min` to `max`.
    pub fn integer(&self, key: &'static str, min: u32, max: u32) -> Option<u32> {
        self.required(key, self.optional_integer(key, min, max))
    }

    /// The truth value under `key`.
    pub fn optional_boolean(&self, key: &'static str) -> Option<bool> {
        Some(self.pick(key, "`true` or `false`", DeValue::as_bool)?.0)
    }

    /// The table under `key`.
    pub fn optional_table(&self, key: &'static str, keys: Keys) -> Option<Table<'t, P>> {
        let (table, span) = self.pick(key, "a table", DeValue::as_table)?;
        Some(Table::open(self.file, table, span, keys))
    }

    /// The table under `key`, which is required.
    pub fn table(&self, key: &'static str, keys: Keys) -> Option<Table<'t, P>> {
        if self.is_missing(key) {
            self.report(FileProblem::MissingTable { key });
        }
        self.optional_table(key, keys)
    }

    /// The tables under `[[key]]`; none if there is no such key.
    pub fn tables(&self, key: &'static str, keys: Keys) -> Vec<Table<'t, P>> {
        let wanted = "a list of tables, each under a heading in double brackets";
        let entries = self.entries(key, wanted, DeValue::as_table).unwrap_or_default();
        entries.into_iter().map(|(table, span)| Table::open(self.file, table, span, keys)).collect()
    }
}

/// An entry of a list: a text, or a table for an entry with details.
#[derive(Debug)]
pub enum TextOrTable<'t, P> {
    /// A text.
    Text(Text<'t, P>),
    /// A table.
    Table(Table<'t, P>),
}

/// A text and its place.
#[derive(Debug)]
pub struct Text<'t, P> {
    file: &'t InputFile<P>,
    value: &'t str,
    span: Range<usize>,
}

impl<P: Problem> Text<'_, P> {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        self.value
    }

    /// The text parsed by `parse`, whose error is reported.
    pub fn parse<T, E: Into<P>>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        parse(self.value).map_err(|problem| self.report(problem.into())).ok()
    }

    /// Reports a problem with this text.
    pub fn report(&self, problem: impl Into<P>) {
        self.file.report(self.span.clone(), problem);
    }

    /// Reports a problem with the first place where this part of the text is written.
    pub fn report_part(&self, part: &str, problem: impl Into<P>) {
        let written = self.file.text().get(self.span.clone()).and_then(|text| text.find(part));
        let span = written.map_or(self.span.clone(), |at| {
            let start = self.span.start + at;
            start..start + part.len()
        });
        self.file.report(span, problem);
    }

    /// Whether the file is named after this text. If it is not, that is reported. `what` is what the file holds, and `key` the key of
    /// this text.
    pub fn names_its_file(&self, what: &'static str, key: &'static str) -> bool {
        let file = self.file.stem();
        let is_right = self.value == file;
        if !is_right {
            self.report(FileProblem::WrongFileName { what, key, given: self.value.to_owned(), file });
        }
        is_right
    }

    /// `FILE:LINE:COLUMN`.
    pub fn location(&self) -> String {
        self.file.location(self.span.start)
    }
}
