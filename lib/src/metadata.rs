//! The meta-data: the agent's description in XML, made from the same table as everything else.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::action::{Action, Advertised};
use crate::parameter::{FOR_ALL_AGENTS, Parameter};

/// What an agent says of itself.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// The directory below `resource.d` that the agent is installed in.
    pub provider: &'static str,
    /// The agent's name there.
    pub name: &'static str,
    /// The agent's version.
    pub version: &'static str,
    /// The day of the last change of meaning in these texts, YYYY-MM-DD: the date of the man page (man-pages(7)).
    pub revised: &'static str,
    /// A few words.
    pub short: &'static str,
    /// Whole sentences; a blank line begins a new paragraph.
    pub long: &'static str,
    /// The parameters, in the order a reader wants them.
    pub parameters: &'static [Parameter],
    /// The actions; meta-data is added by the library.
    pub actions: &'static [Advertised],
    /// Further sections of the man page: heading and text, in the paragraphs of [`crate::manual`].
    pub sections: &'static [(&'static str, &'static str)],
}

/// ra-api-1.dtd, which ocf-tester checks against, knows neither `unique-group` nor `reloadable` nor `reload-agent`;
/// OCF 1.1 wants them. An internal subset declares them beside the DTD, and the first declaration counts (XML 1.0, 3.3).
const DOCTYPE: &str = "resource-agent SYSTEM \"ra-api-1.dtd\" [\n\
    <!ATTLIST parameter unique-group CDATA #IMPLIED reloadable (1|0) \"0\">\n\
    <!ATTLIST action name (start|stop|monitor|promote|demote|notify|reload|reload-agent|meta-data|validate-all) \
    #REQUIRED>\n]";

impl About {
    /// The meta-data document of OCF 1.1.
    pub fn metadata(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        self.write(&mut writer).expect("writing into memory does not fail");
        let mut text = String::from_utf8(writer.into_inner()).expect("all text of the table is UTF-8");
        text.push('\n');
        text
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> io::Result<()> {
        // Without an encoding, which is UTF-8 then: crmsh hands the text to lxml as a string, and lxml refuses to parse
        // strings that declare one.
        writer.write_event(Event::Decl(BytesDecl::new("1.0", None, None)))?;
        writer.write_event(Event::DocType(BytesText::from_escaped(DOCTYPE)))?;
        let root = writer.create_element("resource-agent");
        root.with_attributes([("name", self.name), ("version", self.version)]).write_inner_content(|writer| {
            // The version of the OCF API, not of the agent.
            writer.create_element("version").write_text_content(BytesText::new("1.1"))?;
            description(writer, "longdesc", self.long)?;
            description(writer, "shortdesc", self.short)?;
            writer.create_element("parameters").write_inner_content(|writer| {
                self.parameters.iter().chain(FOR_ALL_AGENTS).try_for_each(|line| parameter(writer, line))
            })?;
            writer
                .create_element("actions")
                .write_inner_content(|writer| self.all_advertised().try_for_each(|line| action(writer, &line)))?;
            Ok(())
        })?;
        Ok(())
    }

    pub(crate) fn all_advertised(&self) -> impl Iterator<Item = Advertised> {
        self.actions.iter().copied().chain([Advertised::new(Action::MetaData, 5)])
    }
}

fn description(writer: &mut Writer<Vec<u8>>, element: &str, text: &str) -> io::Result<()> {
    writer.create_element(element).with_attribute(("lang", "en")).write_text_content(BytesText::new(text))?;
    Ok(())
}

fn parameter(writer: &mut Writer<Vec<u8>>, line: &Parameter) -> io::Result<()> {
    write_parameter(writer, line, line.name, line.short, &line.long_with_values())?;
    for old in line.deprecated {
        // `<deprecated>` would be OCF 1.1's way; the DTD's content model of a parameter has no room for it.
        let short = format!("Deprecated: use {}", line.name);
        let long = format!("An earlier name of {}. It is still understood, and yields to {0}.", line.name);
        write_parameter(writer, &Parameter { required: false, default: None, ..*line }, old, &short, &long)?;
    }
    Ok(())
}

fn write_parameter(
    writer: &mut Writer<Vec<u8>>,
    line: &Parameter,
    name: &str,
    short: &str,
    long: &str,
) -> io::Result<()> {
    let flag = |yes: bool| if yes { "1" } else { "0" };
    let mut element = writer.create_element("parameter").with_attribute(("name", name));
    if let Some(group) = line.unique_group {
        element = element.with_attribute(("unique-group", group));
    }
    element = element.with_attribute(("required", flag(line.required)));
    element.with_attribute(("reloadable", flag(line.reloadable))).write_inner_content(|writer| {
        description(writer, "longdesc", long)?;
        description(writer, "shortdesc", short)?;
        let content = writer.create_element("content").with_attribute(("type", line.content.xml_type()));
        match line.default {
            Some(default) => content.with_attribute(("default", default)).write_empty()?,
            None => content.write_empty()?,
        };
        Ok(())
    })?;
    Ok(())
}

fn action(writer: &mut Writer<Vec<u8>>, line: &Advertised) -> io::Result<()> {
    let mut attributes = vec![("name", line.action.name().to_owned()), ("timeout", format!("{}s", line.timeout))];
    attributes.extend(line.interval.map(|seconds| ("interval", format!("{seconds}s"))));
    attributes.extend(line.depth.map(|level| ("depth", level.to_string())));
    attributes.extend(line.role.map(|role| ("role", role.to_owned())));
    let attributes = attributes.iter().map(|(name, value)| (*name, value.as_str()));
    writer.create_element("action").with_attributes(attributes).write_empty()?;
    Ok(())
}

impl Parameter {
    /// The long description with what the content type does not say.
    pub(crate) fn long_with_values(&self) -> String {
        match self.content.values() {
            Some(values) => format!("{} Values: {values}.", self.long),
            None => self.long.to_owned(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::parameter::Content;

    pub(crate) const SAMPLE: About = About {
        provider: "greenarrow",
        name: "sample",
        version: "1.2.3",
        revised: "2026-11-22",
        short: "A sample <agent>",
        long: "First paragraph & more.\n\nSecond.",
        parameters: &[
            Parameter {
                name: "mode",
                deprecated: &["old_mode"],
                content: Content::Choice(&["a", "b"]),
                default: Some("a"),
                unique_group: Some("address"),
                reloadable: true,
                short: "Mode",
                long: "What to do.",
                ..Parameter::TEXT
            },
            Parameter { name: "node", required: true, short: "Node", long: "A node.", ..Parameter::TEXT },
        ],
        actions: &[
            Advertised::new(Action::Start, 60),
            Advertised::new(Action::Monitor, 20).depth(0).every(10, Some("Promoted")),
        ],
        sections: &[("Examples", "Text before.\n\n    $ sample monitor\n    running\n\nText after.")],
    };

    #[test]
    fn the_document_holds_the_whole_table() {
        let xml = SAMPLE.metadata();
        for part in [
            "<resource-agent name=\"sample\" version=\"1.2.3\">",
            "<version>1.1</version>",
            "<shortdesc lang=\"en\">A sample &lt;agent&gt;</shortdesc>",
            "First paragraph &amp; more.",
            "<parameter name=\"mode\" unique-group=\"address\" required=\"0\" reloadable=\"1\">",
            "What to do. Values: a, b.",
            "<content type=\"string\" default=\"a\"/>",
            "<parameter name=\"old_mode\" unique-group=\"address\" required=\"0\" reloadable=\"1\">",
            "Deprecated: use mode",
            "<parameter name=\"node\" required=\"1\" reloadable=\"0\">",
            "<parameter name=\"trace_ra\"",
            "<action name=\"monitor\" timeout=\"20s\" interval=\"10s\" depth=\"0\" role=\"Promoted\"/>",
            "<action name=\"meta-data\" timeout=\"5s\"/>",
        ] {
            assert!(xml.contains(part), "{part} is missing in\n{xml}");
        }
    }

    #[test]
    fn the_parts_stand_in_the_order_of_the_dtd() {
        let xml = SAMPLE.metadata();
        let order = ["<!DOCTYPE", "<version>", "<longdesc", "<shortdesc", "<parameters>", "</parameters>", "<actions>"];
        let places: Vec<_> = order.iter().map(|part| xml.find(part).unwrap_or_else(|| panic!("{part}"))).collect();
        assert!(places.is_sorted(), "{places:?}\n{xml}");
    }
}
