//! Elements of XML, as far as domain XML needs them.

use std::fmt;

/// An element with attributes, and with elements or a text in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: Option<String>,
    children: Vec<Element>,
}

impl Element {
    /// An empty element.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), text: None, children: Vec::new() }
    }

    /// The same with an attribute.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }

    /// The same with this text in it.
    #[must_use]
    pub(super) fn text(self, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..self }
    }

    /// The same with one more element in it.
    #[must_use]
    pub(super) fn child(self, child: Self) -> Self {
        self.children([child])
    }

    /// The same with more elements in it.
    #[must_use]
    pub(super) fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let (indent, name) = ("  ".repeat(depth), self.name);
        write!(f, "{indent}<{name}")?;
        for (name, value) in &self.attributes {
            write!(f, " {name}='{}'", escaped(value))?;
        }
        match &self.text {
            Some(text) => writeln!(f, ">{}</{name}>", escaped(text)),
            None if self.children.is_empty() => writeln!(f, "/>"),
            None => {
                writeln!(f, ">")?;
                self.children.iter().try_for_each(|child| child.write(f, depth + 1))?;
                writeln!(f, "{indent}</{name}>")
            }
        }
    }
}

/// As libvirt prints it: two blanks for each depth, and attributes in single quotes.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

/// A text or a value in which no character has a meaning in XML. Those that XML 1.0 does not allow at all are replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&apos;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' | '\r' => escaped.push_str(&format!("&#{};", u32::from(character))),
            other if other.is_control() || matches!(other, '\u{fffe}' | '\u{ffff}') => {
                escaped.push(char::REPLACEMENT_CHARACTER);
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_indented_as_libvirt_does() {
        let inner = Element::new("model").with("fallback", "allow").text("EPYC");
        let outer = Element::new("cpu").with("mode", "custom").child(inner).child(Element::new("empty"));
        assert_eq!(
            outer.to_string(),
            "<cpu mode='custom'>\n  <model fallback='allow'>EPYC</model>\n  <empty/>\n</cpu>\n"
        );
    }

    #[test]
    fn no_text_ends_an_element_or_an_attribute() {
        let element = Element::new("a").with("b", "'/><c d=\"&").text("</a>\n\u{1}");
        assert_eq!(
            element.to_string(),
            "<a b='&apos;/&gt;&lt;c d=&quot;&amp;'>&lt;/a&gt;&#10;\u{fffd}</a>\n"
        );
    }
}
