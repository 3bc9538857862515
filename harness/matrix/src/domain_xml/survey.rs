//! A walk through a domain in which nothing gets lost: each element and attribute is taken by the part of the import that understands
//! it, and what nothing took is a finding at the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_vmm::guest::excerpt;
use roxmltree::{Document, Node};

use super::finding::{Finding, Weight};
use super::left_out;

/// The namespace of the command line that libvirt passes on to QEMU.
const QEMU: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// The most findings of a file. A real domain has some dozen.
const FINDINGS: usize = 500;

/// How many characters of a name or value a finding shows.
const SHOWN: usize = 60;

/// What was taken so far, and what was found.
pub(super) struct Survey<'x> {
    document: &'x Document<'x>,
    /// By the numbers of elements.
    taken: RefCell<BTreeMap<usize, Taken<'x>>>,
    findings: RefCell<Vec<Finding>>,
    unlisted: RefCell<usize>,
}

/// What was taken of an element.
#[derive(Default)]
struct Taken<'x> {
    attributes: BTreeSet<&'x str>,
    text: bool,
    /// The element is one finding, and so its parts are none.
    whole: bool,
}

/// An element of the domain.
#[derive(Clone, Copy)]
pub(super) struct Element<'s, 'x> {
    node: Node<'x, 'x>,
    survey: &'s Survey<'x>,
}

impl<'x> Survey<'x> {
    pub(super) fn new(document: &'x Document<'x>) -> Self {
        Self {
            document,
            taken: RefCell::default(),
            findings: RefCell::default(),
            unlisted: RefCell::default(),
        }
    }

    pub(super) fn root(&self) -> Element<'_, 'x> {
        self.take(self.document.root_element())
    }

    fn take(&self, node: Node<'x, 'x>) -> Element<'_, 'x> {
        self.taken.borrow_mut().entry(number(node)).or_default();
        Element { node, survey: self }
    }

    fn push(&self, at: usize, weight: Weight, what: String, reason: String) {
        if self.findings.borrow().len() >= FINDINGS {
            *self.unlisted.borrow_mut() += 1;
            return;
        }
        let position = self.document.text_pos_at(at);
        let (line, column) = (position.row, position.col);
        self.findings.borrow_mut().push(Finding { weight, line, column, what, reason });
    }

    /// All findings, by their places, with those for what was not taken. The walk goes only into elements that were taken, so it is
    /// never deeper than what the import understands.
    pub(super) fn finish(self) -> Vec<Finding> {
        self.rest_of(self.document.root_element(), "");
        let unlisted = *self.unlisted.borrow();
        let mut findings = self.findings.into_inner();
        findings.sort_by_key(|finding| (finding.line, finding.column));
        if unlisted > 0 {
            findings.push(Finding {
                weight: Weight::ChangesMeaning,
                line: 1,
                column: 1,
                what: "domain".to_owned(),
                reason: format!("{unlisted} more findings are not listed"),
            });
        }
        findings
    }

    fn rest_of(&self, node: Node<'x, 'x>, path: &str) {
        let taken = self.taken.borrow();
        let Some(of_node) = taken.get(&number(node)).filter(|taken| !taken.whole) else { return };
        for attribute in node.attributes() {
            let is_taken = attribute.namespace().is_none() && of_node.attributes.contains(attribute.name());
            if !is_taken {
                let path = join(path, &format!("@{}", attribute.name()));
                let (weight, reason) = left_out::reason(&path);
                let what = format!("{}={}", shown(&without_mark(&path)), shown(attribute.value()));
                self.push(attribute.range().start, weight, what, reason.to_owned());
            }
        }
        for child in node.children() {
            if child.is_element() && !taken.contains_key(&number(child)) {
                let (weight, reason) = left_out::reason(&join(path, &name(child)));
                self.push(child.range().start, weight, description(child), reason.to_owned());
            } else if child.is_element() {
                self.rest_of(child, &join(path, &name(child)));
            } else if let Some(text) = child.text().filter(|_| child.is_text()) {
                let is_content = !of_node.text && !text.trim().is_empty();
                if is_content {
                    let what = format!("text in {}", description(node));
                    self.push(
                        child.range().start,
                        Weight::ChangesMeaning,
                        what,
                        left_out::UNKNOWN.to_owned(),
                    );
                }
            }
        }
    }
}

impl<'s, 'x> Element<'s, 'x> {
    /// Its first child with this name, which is taken. Others of this name are not.
    pub(super) fn child(self, of_name: &str) -> Option<Self> {
        let found = self.node.children().find(|child| child.is_element() && name(*child) == of_name)?;
        Some(self.survey.take(found))
    }

    /// All its children with this name, which are taken.
    pub(super) fn children(self, of_name: &str) -> Vec<Self> {
        let all = self.node.children().filter(|child| child.is_element() && name(*child) == of_name);
        all.map(|child| self.survey.take(child)).collect()
    }

    /// All its children, which are taken, with their names.
    pub(super) fn all_children(self) -> Vec<(String, Self)> {
        let all = self.node.children().filter(Node::is_element);
        all.map(|child| (name(child), self.survey.take(child))).collect()
    }

    /// An attribute, which is taken.
    pub(super) fn attribute(self, of_name: &str) -> Option<&'x str> {
        let found = self.node.attributes().find(|one| one.namespace().is_none() && one.name() == of_name)?;
        let mut taken = self.survey.taken.borrow_mut();
        taken.entry(number(self.node)).or_default().attributes.insert(found.name());
        Some(found.value())
    }

    /// Whether an attribute has this value; it is taken.
    pub(super) fn has(self, of_name: &str, value: &str) -> bool {
        self.attribute(of_name) == Some(value)
    }

    /// Its text without white space around it, which is taken. A comment in it splits it into several nodes.
    pub(super) fn text(self) -> String {
        self.survey.taken.borrow_mut().entry(number(self.node)).or_default().text = true;
        let parts = self.node.children().filter(Node::is_text).filter_map(|part| part.text());
        parts.collect::<String>().trim().to_owned()
    }

    /// Makes it a finding as a whole.
    pub(super) fn report(self, weight: Weight, reason: impl Into<String>) {
        self.survey.taken.borrow_mut().entry(number(self.node)).or_default().whole = true;
        self.note(weight, reason);
    }

    /// Makes it a finding, and lets its parts be others.
    pub(super) fn note(self, weight: Weight, reason: impl Into<String>) {
        self.survey.push(self.node.range().start, weight, description(self.node), reason.into());
    }

    /// Makes it a finding about a value that has no meaning there.
    pub(super) fn refuse(self, reason: impl Into<String>) {
        self.report(Weight::ChangesMeaning, reason);
    }

    /// Where it begins, in bytes.
    pub(super) fn start(self) -> usize {
        self.node.range().start
    }
}

/// The number of an element in its file.
fn number(node: Node<'_, '_>) -> usize {
    node.id().get_usize()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// The name of an element. That of QEMU's command line has its usual prefix, whatever prefix the file has.
fn name(node: Node<'_, '_>) -> String {
    let name = node.tag_name();
    match name.namespace() {
        None => name.name().to_owned(),
        Some(QEMU) => format!("qemu:{}", name.name()),
        Some(other) => format!("{{{other}}}{}", name.name()),
    }
}

/// An element in a message: its path below the root, and its attributes.
fn description(node: Node<'_, '_>) -> String {
    let mut names: Vec<&str> =
        node.ancestors().filter(Node::is_element).map(|one| one.tag_name().name()).collect();
    names.reverse();
    let path = names
        .get(1..)
        .filter(|names| !names.is_empty())
        .map_or_else(|| "domain".to_owned(), |it| it.join("/"));
    let attributes = node.attributes().take(4);
    let attributes = attributes.map(|one| format!(" {}={}", shown(one.name()), shown(one.value())));
    let text = node.text().map(str::trim).filter(|text| !text.is_empty() && node.children().count() == 1);
    let text = text.map(|text| format!(" {}", shown(text)));
    std::iter::once(shown(&path)).chain(attributes).chain(text).collect()
}

/// The path of an attribute as people write it: `cpu check`.
fn without_mark(path: &str) -> String {
    path.replace("/@", " ").replace('@', "")
}

/// The beginning of a text from the file, without what a terminal would interpret.
pub(super) fn shown(text: &str) -> String {
    let end = text.char_indices().nth(SHOWN).map(|(end, _)| end);
    let shown = excerpt(&text[..end.unwrap_or(text.len())]).replace('\t', " ");
    if end.is_some() { format!("{shown}...") } else { shown }
}
