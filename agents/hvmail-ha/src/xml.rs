//! What Pacemaker's tools print, as a small tree.

use anyhow::{Context, Result, bail};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// Pacemaker's own documents are a dozen levels deep; a tree is walked and dropped by recursion.
const DEEPEST: usize = 64;

/// An element. Text is left out: nothing that is asked for here is in text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: String,
    attributes: Vec<(String, String)>,
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// Reads one complete document.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut reader = Reader::from_str(text);
        let mut open = vec![Self::default()];
        loop {
            let event =
                reader.read_event().with_context(|| format!("malformed XML at byte {}", reader.error_position()))?;
            match event {
                Event::Start(start) if open.len() < DEEPEST => open.push(Self::from_start(&start)?),
                Event::Start(_) => bail!("XML of more than {DEEPEST} levels"),
                Event::Empty(start) => add(&mut open, Self::from_start(&start)?)?,
                Event::End(_) => {
                    let closed = open.pop().context("an end without a beginning")?;
                    add(&mut open, closed)?;
                }
                Event::Eof => break,
                _ => {}
            }
        }
        match open.pop().and_then(|mut top| top.children.pop()) {
            Some(root) if open.is_empty() => Ok(root),
            _ => bail!("one complete XML document is expected, found {:?}", text.chars().take(80).collect::<String>()),
        }
    }

    fn from_start(start: &BytesStart<'_>) -> Result<Self> {
        let mut element = Self { name: start.name().as_ref().to_owned(), ..Self::default() };
        for attribute in start.attributes() {
            let attribute = attribute?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0)?.into_owned();
            element.attributes.push((attribute.key.as_ref().to_owned(), value));
        }
        Ok(element)
    }

    /// An attribute's value, empty when it is missing.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.attributes.iter().find(|(one, _)| one == name).map_or("", |(_, value)| value)
    }

    /// The same as something of one's own, None when it is missing or empty.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        Some(self.get(name)).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// Whether a boolean attribute is true.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.get(name) == "true"
    }

    /// The children of that name.
    pub(crate) fn children<'tree>(&'tree self, name: &'tree str) -> impl Iterator<Item = &'tree Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The elements along a path of names, starting with the children.
    pub(crate) fn at<'tree>(&'tree self, path: &[&str]) -> Vec<&'tree Element> {
        let mut found = vec![self];
        for name in path {
            found = found.into_iter().flat_map(|one| &one.children).filter(|one| one.name == *name).collect();
        }
        found
    }

    /// Every element of that name, at any depth, in the order of the document.
    pub(crate) fn all<'tree>(&'tree self, name: &str) -> Vec<&'tree Element> {
        let mut found = Vec::new();
        for child in &self.children {
            if child.name == name {
                found.push(child);
            }
            found.extend(child.all(name));
        }
        found
    }
}

fn add(open: &mut [Element], child: Element) -> Result<()> {
    open.last_mut().context("an end without a beginning")?.children.push(child);
    Ok(())
}

/// Text as the value of an attribute.
pub(crate) fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_path_and_by_name() {
        let root = Element::parse("<?xml version=\"1.0\"?><a><b x='1 &lt; 2'><c y=\"true\"/></b><c/></a>").unwrap();
        assert_eq!(root.at(&["b"])[0].get("x"), "1 < 2");
        assert_eq!((root.at(&["b", "c"]).len(), root.at(&["c"]).len(), root.all("c").len()), (1, 1, 2));
        assert!(root.at(&["b", "c"])[0].is("y"));
        assert_eq!(root.text("none"), None);
    }

    #[test]
    fn what_is_no_document_is_refused_and_does_no_harm() {
        let deep = "<a>".repeat(100_000);
        for text in
            ["", "<a><b/>", "</a>", "crm_mon: Connection failed", "<a b='", "\u{fffd}<", "<a b=\"&x;\"/>", &deep]
        {
            assert!(Element::parse(text).is_err(), "{:?}", &text[..text.len().min(40)]);
        }
    }
}
