//! Reads TOML tables key by key. Unlike a derived deserializer, this does not stop at the first mistake: each wrong value is
//! reported with its place and counts as absent, and reading continues with the next.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{InputError, position};
use super::problem::InputProblem;

/// A text, the name of its file, and the problems found so far.
pub(super) struct InputFile {
    name: String,
    text: Arc<str>,
    problems: RefCell<Vec<(Range<usize>, InputProblem)>>,
}

/// How many problems of one file are reported. A file with more is probably a file of another kind.
const PROBLEM_LIMIT: usize = 100;

/// The maximum number of entries of a list, of claims or of an axis's values. It also limits the work of code that compares
/// each entry with all others.
const LIST_LIMIT: usize = 256;

impl InputFile {
    pub(super) fn new(name: String, text: String) -> Self {
        Self { name, text: text.into(), problems: RefCell::default() }
    }

    /// Passes the root table to `read`. Returns the contents of the file if nothing is wrong in it; otherwise its problems,
    /// from top to bottom.
    pub(super) fn interpret<T>(
        self,
        keys: Keys,
        read: impl FnOnce(&Table<'_>) -> Option<T>,
    ) -> Result<T, Vec<InputError>> {
        let value = match DeTable::parse(&self.text) {
            Ok(root) => read(&Table::open(&self, root.get_ref(), 0..0, keys)),
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                self.report(span, InputProblem::Syntax(error.message().to_owned()));
                None
            }
        };
        let Self { name, text, problems } = self;
        let mut problems = problems.into_inner();
        match value {
            Some(value) if problems.is_empty() => Ok(value),
            _ => {
                problems.sort_by_key(|(span, _)| span.start);
                let more = problems.len().saturating_sub(PROBLEM_LIMIT);
                let named = problems.into_iter().take(PROBLEM_LIMIT);
                let mut errors: Vec<InputError> =
                    named.map(|(span, problem)| InputError::at(&name, &text, span, problem)).collect();
                if more > 0 {
                    errors.push(InputError::of_file(&name, InputProblem::More { count: more }));
                }
                Err(errors)
            }
        }
    }

    fn report(&self, span: Range<usize>, problem: InputProblem) {
        self.problems.borrow_mut().push((span, problem));
    }
}

/// The keys that a table may have.
pub(super) type Keys = &'static [&'static str];

/// A table whose keys are all known.
pub(super) struct Table<'t> {
    file: &'t InputFile,
    table: &'t DeTable<'t>,
    span: Range<usize>,
}

impl<'t> Table<'t> {
    fn open(file: &'t InputFile, table: &'t DeTable<'t>, span: Range<usize>, keys: Keys) -> Self {
        for key in table.keys().filter(|key| !keys.contains(&key.get_ref().as_ref())) {
            let problem = InputProblem::UnknownKey { key: key.get_ref().to_string(), known: keys };
            file.report(key.span(), problem);
        }
        Self { file, table, span }
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports a problem with the table as a whole.
    pub(super) fn report(&self, problem: InputProblem) {
        self.file.report(self.span.clone(), problem);
    }

    fn required<T>(&self, key: &'static str, value: Option<T>) -> Option<T> {
        // A wrong value has already been reported.
        if value.is_none() && !self.has(key) {
            self.report(InputProblem::MissingKey { key });
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
        self.file.report(value.span(), InputProblem::WrongType { key: key.to_owned(), found, wanted });
    }

    /// The text under `key`.
    pub(super) fn optional_string(&self, key: &'static str) -> Option<Text<'t>> {
        let (value, span) = self.pick(key, "a string", DeValue::as_str)?;
        Some(Text { file: self.file, value, span })
    }

    /// The text under `key`, which is required.
    pub(super) fn string(&self, key: &'static str) -> Option<Text<'t>> {
        self.required(key, self.optional_string(key))
    }

    /// The prose under `key`, which is required and must not be empty.
    pub(super) fn prose(&self, key: &'static str) -> Option<String> {
        self.required(key, self.optional_prose(key))
    }

    /// The prose under `key`, which is optional and must not be empty.
    pub(super) fn optional_prose(&self, key: &'static str) -> Option<String> {
        self.optional_string(key)?.parse(|text| match text.trim() {
            "" => Err(InputProblem::Empty { key }),
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
            self.file.report(span, InputProblem::Empty { key });
            return None;
        }
        if list.len() > LIST_LIMIT {
            self.file.report(span, InputProblem::TooLong { key, count: list.len(), limit: LIST_LIMIT });
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
    pub(super) fn optional_string_or_strings(&self, key: &'static str) -> Option<Vec<Text<'t>>> {
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
    pub(super) fn optional_strings(&self, key: &'static str) -> Option<Vec<Text<'t>>> {
        let entries = self.entries(key, "a list of strings", DeValue::as_str)?;
        Some(entries.into_iter().map(|(value, span)| Text { file: self.file, value, span }).collect())
    }

    /// The texts in the list under `key`, which is required.
    pub(super) fn strings(&self, key: &'static str) -> Option<Vec<Text<'t>>> {
        self.required(key, self.optional_strings(key))
    }

    /// The entries of the list under `key`, which is required: texts, or tables for entries with details.
    pub(super) fn texts_or_tables(&self, key: &'static str, keys: Keys) -> Vec<TextOrTable<'t>> {
        let wanted = "a list of strings, or of tables with more to say";
        let pick = |value: &'t DeValue<'t>| (value.is_str() || value.is_table()).then_some(value);
        let entry = |(value, span): (&'t DeValue<'t>, Range<usize>)| match value {
            DeValue::Table(table) => Some(TextOrTable::Table(Table::open(self.file, table, span, keys))),
            value => value.as_str().map(|value| TextOrTable::Text(Text { file: self.file, value, span })),
        };
        let entries = self.required(key, self.entries(key, wanted, pick)).unwrap_or_default();
        entries.into_iter().filter_map(entry).collect()
    }

    /// The whole number under `key`, from `min` to `max`.
    pub(super) fn optional_integer(&self, key: &'static str, min: u32, max: u32) -> Option<u32> {
        let (integer, span) = self.pick(key, "a whole number", DeValue::as_integer)?;
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok();
        let fits = number.filter(|number| (min..=max).contains(number));
        if fits.is_none() {
            self.file.report(span, InputProblem::OutOfRange { key, given: integer.to_string(), min, max });
        }
        fits
    }

    /// The truth value under `key`.
    pub(super) fn optional_boolean(&self, key: &'static str) -> Option<bool> {
        Some(self.pick(key, "`true` or `false`", DeValue::as_bool)?.0)
    }

    /// The table under `key`.
    pub(super) fn optional_table(&self, key: &'static str, keys: Keys) -> Option<Table<'t>> {
        let (table, span) = self.pick(key, "a table", DeValue::as_table)?;
        Some(Table::open(self.file, table, span, keys))
    }

    /// The table under `key`, which is required.
    pub(super) fn table(&self, key: &'static str, keys: Keys) -> Option<Table<'t>> {
        self.required(key, self.optional_table(key, keys))
    }

    /// The tables under `[[key]]`; none if there is no such key.
    pub(super) fn tables(&self, key: &'static str, keys: Keys) -> Vec<Table<'t>> {
        let wanted = "a list of tables, each under a heading in double brackets";
        let entries = self.entries(key, wanted, DeValue::as_table).unwrap_or_default();
        entries.into_iter().map(|(table, span)| Table::open(self.file, table, span, keys)).collect()
    }
}

/// An entry of a list: a text, or a table for an entry with details.
pub(super) enum TextOrTable<'t> {
    Text(Text<'t>),
    Table(Table<'t>),
}

/// A text and its place.
pub(super) struct Text<'t> {
    file: &'t InputFile,
    value: &'t str,
    span: Range<usize>,
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        self.value
    }

    /// The text parsed by `parse`, whose error is reported.
    pub(super) fn parse<T, E: Into<InputProblem>>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(self.value).map_err(|problem| self.report(problem.into())).ok()
    }

    /// Reports a problem with this text.
    pub(super) fn report(&self, problem: InputProblem) {
        self.file.report(self.span.clone(), problem);
    }

    /// `FILE:LINE:COLUMN`.
    pub(super) fn location(&self) -> String {
        let (line, column) = position(&self.file.text, self.span.start);
        format!("{}:{line}:{column}", self.file.name)
    }
}
