//! The lines of the Test Anything Protocol.

use nestmatrix_model::CaseOutcome;

/// What a line is, without its indentation.
pub(super) enum Line<'t> {
    Version { is_ktap: bool },
    Plan { points: usize, reason: Option<&'t str> },
    Point(Point),
    Subtest(&'t str),
    BailOut(&'t str),
    Comment(&'t str),
    Other,
}

/// A test point.
pub(super) struct Point {
    pub(super) is_ok: bool,
    pub(super) is_numbered: bool,
    /// Its description; its number if it has none.
    pub(super) name: String,
    pub(super) directive: Option<(Directive, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Directive {
    Skip,
    /// It is expected to fail.
    Todo,
    /// It was expected to fail, and did, whatever its first word is.
    Xfail,
    /// It was expected to fail, and passed.
    Xpass,
    /// It came to no result.
    Broken,
}

impl<'t> Line<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        if let Some(rest) = text.strip_prefix('#') {
            let rest = rest.trim();
            return rest
                .strip_prefix("Subtest:")
                .map_or(Self::Comment(rest), |name| Self::Subtest(name.trim()));
        }
        let version = |rest: &str| rest.parse::<u32>().is_ok();
        if text.strip_prefix("TAP version ").is_some_and(version) {
            return Self::Version { is_ktap: false };
        }
        if text.strip_prefix("KTAP version ").is_some_and(version) {
            return Self::Version { is_ktap: true };
        }
        if let Some(why) = text.strip_prefix("Bail out!") {
            return Self::BailOut(why.trim());
        }
        if let Some(rest) = text.strip_prefix("1..") {
            let (number, reason) =
                rest.split_once('#').map_or((rest, None), |(number, why)| (number, Some(why)));
            return match number.trim().parse() {
                Ok(points) => Self::Plan { points, reason: reason.map(str::trim) },
                Err(_) => Self::Other,
            };
        }
        let (is_ok, rest) = match (text.strip_prefix("ok"), text.strip_prefix("not ok")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Self::Other,
        };
        if !rest.is_empty() && !rest.starts_with([' ', '\t', '#']) {
            return Self::Other;
        }
        Self::Point(Point::of(is_ok, rest.trim_start()))
    }
}

impl Point {
    /// The test point of what follows `ok` or `not ok`.
    fn of(is_ok: bool, text: &str) -> Self {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, text) = text.split_at(digits);
        // A description may begin with digits.
        let is_numbered = digits > 0 && (text.is_empty() || text.starts_with([' ', '\t', '#']));
        let (number, text) =
            if is_numbered { (number, text.to_owned()) } else { ("", format!("{number}{text}")) };
        let (description, remark) = split_remark(&text);
        let directive = remark.and_then(directive);
        let description = description.trim();
        let mut name = description.strip_prefix('-').unwrap_or(description).trim().replace("\\#", "#");
        // The kernel's library for tests puts the description of a skipped test after the directive.
        if name.is_empty() {
            name = match &directive {
                Some((_, reason)) if !reason.is_empty() => reason.clone(),
                _ => number.to_owned(),
            };
        }
        Self { is_ok, is_numbered, name, directive }
    }

    /// The outcome of a test point without subtests.
    pub(super) fn outcome(&self) -> CaseOutcome {
        match (self.directive.as_ref().map(|(directive, _)| *directive), self.is_ok) {
            (Some(Directive::Skip), _) => CaseOutcome::Skip,
            (Some(Directive::Broken), _) => CaseOutcome::Error,
            (Some(Directive::Xpass), true) => CaseOutcome::Pass,
            // The kernel's library for tests prints `ok` for a failure that it expected.
            (Some(Directive::Xfail), _) | (Some(Directive::Todo), false) => CaseOutcome::KnownFail,
            (None | Some(Directive::Todo), true) => CaseOutcome::Pass,
            (None | Some(Directive::Xpass), false) => CaseOutcome::Fail,
        }
    }

    /// Why it is expected to fail, if it is.
    pub(super) fn known(&self) -> Option<String> {
        match &self.directive {
            Some((Directive::Todo | Directive::Xfail | Directive::Xpass, reason)) if reason.is_empty() => {
                Some("the program expects it".to_owned())
            }
            Some((Directive::Todo | Directive::Xfail | Directive::Xpass, reason)) => Some(reason.clone()),
            Some((Directive::Skip | Directive::Broken, _)) | None => None,
        }
    }
}

/// A description, and what follows the first `#` in it that is not escaped.
fn split_remark(text: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '#' if !escaped => return (&text[..at], Some(&text[at + 1..])),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    (text, None)
}

/// The directive in a remark, and the rest of it. Other remarks are left out: they are times and the like, which differ in each run.
pub(super) fn directive(remark: &str) -> Option<(Directive, String)> {
    let remark = remark.trim();
    let end = remark.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(remark.len());
    let (word, reason) = remark.split_at(end);
    let directive = match word.to_ascii_uppercase().as_str() {
        "TODO" => Directive::Todo,
        "XFAIL" => Directive::Xfail,
        "XPASS" => Directive::Xpass,
        "TIMEOUT" | "ERROR" => Directive::Broken,
        // TAP 13 allows more letters.
        word if word.starts_with("SKIP") => Directive::Skip,
        _ => return None,
    };
    Some((directive, reason.trim_start_matches([':', ' ', '-']).trim_end().to_owned()))
}
