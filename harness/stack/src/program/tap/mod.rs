//! Reads results in the Test Anything Protocol: TAP 12 to 14, and KTAP, which the kernel's tests print
//! (kernel: Documentation/dev-tools/ktap.rst).
//!
//! The cases are the test points without subtests. One in a subtest has the names of the test points around it: `outer/inner`.

mod line;

use std::collections::BTreeMap;

use nestmatrix_model::CaseOutcome;

use crate::suite::Case;
use line::{Line, Point, directive};

/// The most levels of subtests that are told apart. Deeper ones count as output.
const DEEPEST: usize = 16;
/// The most test points that are read. A program can print no end of them.
const MOST_POINTS: usize = 100_000;

/// What a program printed in this format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tap {
    /// Its cases.
    pub(super) cases: Vec<Case>,
    /// Why cases are missing, if they are.
    pub(super) incomplete: Option<String>,
}

/// Reads the output of the program `name`; none if it is not in this format.
pub(super) fn read(name: &str, output: &str) -> Option<Tap> {
    let lines = output.lines().map(str::trim_end);
    if !lines.clone().any(is_tap) {
        return None;
    }
    let mut reader = Reader { documents: vec![Document::at(0)], ..Reader::default() };
    lines.for_each(|line| reader.line(line));
    Some(reader.end(name))
}

/// Whether a line shows that the output has this format. The word `ok` alone does not, since other programs print it too.
fn is_tap(line: &str) -> bool {
    match Line::of(line) {
        Line::Version { .. } | Line::Plan { .. } | Line::BailOut(_) => true,
        Line::Point(point) => !point.is_ok || point.is_numbered,
        Line::Subtest(_) | Line::Comment(_) | Line::Other => false,
    }
}

/// Test points of one indentation.
#[derive(Default)]
struct Document {
    indent: usize,
    is_ktap: bool,
    /// The name of the subtest, if it has one before its end.
    name: Option<String>,
    plan: Option<usize>,
    /// Why all of it is skipped.
    skipped: Option<String>,
    points: usize,
    cases: Vec<Case>,
    incomplete: Option<String>,
}

impl Document {
    fn at(indent: usize) -> Self {
        Self { indent, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.points == 0 && self.plan.is_none() && self.cases.is_empty()
    }

    /// Ends it. If all of it is skipped, it is a case itself.
    fn end(&mut self) {
        if let (Some(reason), true) = (&self.skipped, self.cases.is_empty()) {
            self.cases.push(Case::new("", CaseOutcome::Skip, Some(reason)));
        }
    }

    /// Why test points are missing, if they are.
    fn incomplete(&self) -> Option<String> {
        let points = self.points;
        let of_plan = match self.plan {
            Some(plan) if plan != points => {
                Some(format!("its plan has {plan} test points, and it printed {points}"))
            }
            // In KTAP, a program that does not know their number need not say it.
            None if !self.is_ktap && points > 0 => {
                Some("it printed no plan, so test points may be missing".to_owned())
            }
            Some(_) | None => None,
        };
        self.incomplete.clone().or(of_plan)
    }
}

#[derive(Default)]
struct Reader {
    /// The documents that are open, the outermost first; never empty.
    documents: Vec<Document>,
    /// The subtests of the next test point.
    closed: Option<Document>,
    /// What ended before, if several programs printed.
    cases: Vec<Case>,
    incomplete: Option<String>,
    points: usize,
    /// Comments since the last test point.
    comments: Vec<String>,
    /// Whether these are about the last test point.
    are_after: bool,
    in_yaml: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if self.in_yaml {
            self.yaml(text);
            return;
        }
        let of_line = Line::of(text);
        match of_line {
            Line::Comment(said) => self.comment(said),
            Line::Subtest(name) => {
                self.open(indent, true);
                // Some print it before the first line of the subtest, with the indentation of what is around it.
                if let Some(document) = self.documents.last_mut().filter(|document| document.indent == indent)
                {
                    document.name = document.name.take().or(Some(name.to_owned()));
                }
            }
            Line::Version { is_ktap } => {
                self.open(indent, true);
                let is_next = self.documents.len() == 1 && !self.documents[0].is_empty();
                if is_next {
                    self.close_outermost();
                }
                if let Some(document) = self.documents.last_mut() {
                    document.is_ktap = is_ktap;
                }
            }
            Line::Plan { points, reason } => {
                self.open(indent, true);
                let Some(document) = self.documents.last_mut() else { return };
                if document.plan.replace(points).is_some() {
                    document.incomplete.get_or_insert("it printed a second plan".to_owned());
                }
                if points == 0 {
                    let reason = reason.and_then(directive).map(|(_, reason)| reason).unwrap_or_default();
                    document.skipped =
                        Some(if reason.is_empty() { "its plan is empty".to_owned() } else { reason });
                }
            }
            Line::BailOut(why) => {
                let why =
                    if why.is_empty() { "it bailed out".to_owned() } else { format!("it bailed out: {why}") };
                self.incomplete.get_or_insert(why);
            }
            Line::Point(point) => {
                self.open(indent, point.is_numbered);
                if self.documents.last().is_some_and(|document| document.indent == indent) {
                    self.point(point);
                }
            }
            Line::Other if text == "---" && indent > self.indent() => self.in_yaml = true,
            Line::Other => {}
        }
    }

    fn indent(&self) -> usize {
        self.documents.last().map_or(0, |document| document.indent)
    }

    /// Makes the document of this indentation the current one. A new one begins only if the line certainly belongs to this format.
    fn open(&mut self, indent: usize, is_certain: bool) {
        while self.documents.len() > 1 && self.indent() > indent {
            self.close_subtest();
        }
        if indent > self.indent() && is_certain && self.documents.len() < DEEPEST {
            self.documents.push(Document::at(indent));
        }
    }

    /// The current document ends, and the next test point is about it.
    fn close_subtest(&mut self) {
        let earlier = self.closed.take();
        let Some(mut document) = self.documents.pop() else { return };
        if let Some(earlier) = earlier {
            // No test point was printed for it.
            add_subtests(&mut document, None, earlier);
        }
        if !document.is_empty() {
            document.end();
            self.closed = Some(document);
        }
    }

    /// A program has ended, and another one begins.
    fn close_outermost(&mut self) {
        while self.documents.len() > 1 {
            self.close_subtest();
        }
        let mut document = self.documents.pop().unwrap_or_default();
        if let Some(subtests) = self.closed.take() {
            document.incomplete.get_or_insert("a subtest did not come to its end".to_owned());
            add_subtests(&mut document, None, subtests);
        }
        if self.incomplete.is_none() {
            self.incomplete = document.incomplete();
        }
        document.end();
        self.cases.append(&mut document.cases);
        self.documents.push(Document::at(0));
    }

    fn point(&mut self, point: Point) {
        let before = std::mem::take(&mut self.comments);
        let is_about_this = !std::mem::take(&mut self.are_after);
        self.points += 1;
        if self.points > MOST_POINTS {
            self.incomplete.get_or_insert(format!("it printed more than {MOST_POINTS} test points"));
            return;
        }
        let subtests = self.closed.take();
        let Some(document) = self.documents.last_mut() else { return };
        document.points += 1;
        let number = document.points;
        let name = if point.name.is_empty() { number.to_string() } else { point.name.clone() };
        if let Some(subtests) = subtests {
            add_subtests(document, Some((&name, &point)), subtests);
            return;
        }
        let outcome = point.outcome();
        let reason = point.directive.as_ref().map(|(_, reason)| reason.clone());
        let said = match outcome {
            CaseOutcome::Pass => None,
            CaseOutcome::Skip | CaseOutcome::KnownFail => reason,
            // The kernel's tests print comments before the test point that they are about, others after it.
            CaseOutcome::Fail | CaseOutcome::Error if is_about_this && !before.is_empty() => {
                Some(before.join("; "))
            }
            CaseOutcome::Fail | CaseOutcome::Error => reason.filter(|reason| !reason.is_empty()),
        };
        self.are_after = outcome.is_unexpected() && said.is_none();
        let mut case = Case::new(&name, outcome, said.as_deref());
        case.known = point.known();
        document.cases.push(case);
    }

    fn comment(&mut self, said: &str) {
        if self.are_after {
            self.say(said);
        }
        // Only the last ones are about a test point.
        if self.comments.len() >= 4 {
            self.comments.remove(0);
        }
        self.comments.push(said.to_owned());
    }

    /// A line of a block about the last test point.
    fn yaml(&mut self, text: &str) {
        if text == "..." {
            self.in_yaml = false;
        } else if let Some(message) = text.strip_prefix("message:")
            && self.are_after
        {
            self.say(message.trim().trim_matches(['"', '\'']));
        }
    }

    /// Adds a line to what is known of the last test point.
    fn say(&mut self, said: &str) {
        let case = self.documents.last_mut().and_then(|document| document.cases.last_mut());
        let Some(case) = case.filter(|_| !said.is_empty()) else { return };
        let all = case.said.take().map_or_else(|| said.to_owned(), |before| format!("{before}; {said}"));
        case.said = Case::new("", case.outcome, Some(&all)).said;
    }

    fn end(mut self, program: &str) -> Tap {
        if self.in_yaml {
            self.incomplete.get_or_insert("a YAML block did not come to its end".to_owned());
        }
        self.close_outermost();
        Tap { cases: merged(program, self.cases), incomplete: self.incomplete }
    }
}

/// Adds subtests to the document around them, under the test point that is about them, if there is one.
fn add_subtests(document: &mut Document, about: Option<(&str, &Point)>, subtests: Document) {
    let incomplete = subtests.incomplete();
    let own_name = subtests.name.clone().unwrap_or_else(|| "subtest".to_owned());
    let name = about.map_or(&*own_name, |(name, _)| name);
    let known = about.and_then(|(_, point)| point.known().filter(|_| !point.is_ok));
    let mut any_failed = incomplete.is_some();
    for case in subtests.cases {
        any_failed |= case.outcome.is_unexpected();
        let mut whole = Case { name: join(name, &case.name), ..case };
        if let (Some(known), true) = (&known, whole.outcome.is_unexpected()) {
            (whole.outcome, whole.known) = (CaseOutcome::KnownFail, Some(known.clone()));
        }
        any_failed |= known.is_some() && whole.outcome == CaseOutcome::KnownFail;
        document.cases.push(whole);
    }
    let own = |outcome, said: &str| Case::new(name, outcome, Some(said));
    if let Some(why) = incomplete {
        document.cases.push(own(CaseOutcome::Error, &why));
    }
    match about.map(|(_, point)| (point.outcome(), point)) {
        // Its subtests say the rest.
        None | Some((CaseOutcome::Pass, _)) => {}
        Some((CaseOutcome::Skip, point)) => {
            let reason = point.directive.as_ref().map(|(_, reason)| reason.as_str()).unwrap_or_default();
            document.cases.push(own(CaseOutcome::Skip, reason));
        }
        Some((outcome, point)) if !any_failed => {
            let mut case = own(outcome, "it failed, and none of its subtests did");
            case.known = point.known();
            document.cases.push(case);
        }
        Some(_) => {}
    }
}

/// The name of a case in a subtest. A subtest that is skipped as a whole has a case without a name of its own.
fn join(outer: &str, inner: &str) -> String {
    if inner.is_empty() { outer.to_owned() } else { format!("{outer}/{inner}") }
}

/// The cases under the name of their program. Those of the same name are one case, which has the worst of their outcomes.
fn merged(program: &str, cases: Vec<Case>) -> Vec<Case> {
    let mut all: Vec<Case> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases {
        let name =
            if case.name.is_empty() { program.to_owned() } else { format!("{program}: {}", case.name) };
        let case = Case { name: Case::new(&name, case.outcome, None).name, ..case };
        match places.get(&case.name).and_then(|place| all.get_mut(*place)) {
            Some(before) if before.outcome.rank() < case.outcome.rank() => *before = case,
            Some(_) => {}
            None => {
                places.insert(case.name.clone(), all.len());
                all.push(case);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
