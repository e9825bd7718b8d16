//! The XML that the cluster's tools print, as a small tree.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// An element with its attributes and child elements; text between elements is left out, because no answer of
/// Pacemaker's tools that is used here is in text.
#[derive(Clone, Debug, Default)]
pub struct Element {
    /// The tag.
    pub name: String,
    /// Attribute values, entities resolved.
    pub attributes: BTreeMap<String, String>,
    /// The elements inside, in order.
    pub children: Vec<Element>,
}

impl Element {
    /// Reads a whole document and returns its root element.
    pub fn parse(text: &str) -> Result<Self> {
        let mut reader = Reader::from_str(text);
        let mut open = vec![Self::default()];
        loop {
            let event = reader
                .read_event()
                .with_context(|| format!("malformed XML at byte {}: {text:.200}", reader.error_position()))?;
            match event {
                Event::Start(start) => open.push(Self::from_start(&start)?),
                Event::Empty(start) => add(&mut open, Self::from_start(&start)?)?,
                Event::End(_) => {
                    let closed = open.pop().context("XML closes an element that it did not open")?;
                    add(&mut open, closed)?;
                }
                Event::Eof => break,
                _ => {}
            }
        }
        match open.pop().and_then(|mut top| top.children.pop()) {
            Some(root) if open.is_empty() => Ok(root),
            _ => bail!("expected one complete XML document, found: {text:.200}"),
        }
    }

    fn from_start(start: &BytesStart<'_>) -> Result<Self> {
        let mut element = Self { name: start.name().as_ref().to_owned(), ..Self::default() };
        for attribute in start.attributes() {
            let attribute = attribute?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0)?.into_owned();
            element.attributes.insert(attribute.key.as_ref().to_owned(), value);
        }
        Ok(element)
    }

    /// The value of an attribute, empty when it is missing.
    pub fn get(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).map_or("", String::as_str)
    }

    /// Whether a boolean attribute is true.
    pub fn is(&self, attribute: &str) -> bool {
        self.get(attribute) == "true"
    }

    /// Every element of that name, at any depth, in document order.
    pub fn all<'tree>(&'tree self, name: &str) -> Vec<&'tree Element> {
        let mut found = Vec::new();
        for child in &self.children {
            if child.name == name {
                found.push(child);
            }
            found.extend(child.all(name));
        }
        found
    }

    /// The first element of that name, at any depth.
    pub fn first(&self, name: &str) -> Option<&Element> {
        self.all(name).into_iter().next()
    }
}

fn add(open: &mut [Element], child: Element) -> Result<()> {
    open.last_mut().context("XML closes an element that it did not open")?.children.push(child);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Element;

    #[test]
    fn attributes_and_nesting() {
        let root = Element::parse("<?xml version=\"1.0\"?><a><b x='1 &lt; 2'><c y=\"true\"/></b><c/></a>").unwrap();
        assert_eq!(root.name, "a");
        assert_eq!(root.first("b").unwrap().get("x"), "1 < 2");
        assert_eq!(root.all("c").len(), 2);
        assert!(root.first("c").unwrap().is("y"));
    }

    #[test]
    fn a_cut_document_is_refused() {
        assert!(Element::parse("<a><b/>").is_err());
        assert!(Element::parse("crm_mon: Connection failed").is_err());
    }
}
