//! A change of the cluster's configuration that is made only if nobody else has changed it since it was read.
//!
//! A patch names the version that it starts from (`cibadmin --patch`); the cluster refuses it when it has another by now
//! (`xml_patch_version_check`, Pacemaker's patchset.c). It changes the constraints only: the cluster counts up the epoch itself,
//! and a patch that did so too would leave the nodes with versions that differ.

use anyhow::{Result, bail};
use ocf::Deadline;
use quick_xml::Writer;
use quick_xml::events::Event;

use crate::cib::{Cib, Version, cibadmin};

/// Exit status of Pacemaker's tools for a version that is not the current one, or was not reached yet (CRM_EX_OLD and _STALE).
const ANOTHER_VERSION: [i32; 2] = [103, 104];

/// The constraint, as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) id: String,
    pub(crate) prefix: String,
    pub(crate) clone: String,
    pub(crate) role: String,
    /// Number, attribute and value of each node that may be promoted.
    pub(crate) spared: Vec<(u32, String, String)>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Made,
    /// Read again, and decide again.
    Overtaken,
}

/// Puts the constraint in place, or takes it away.
pub(crate) fn apply(cib: &Cib, id: &str, wanted: Option<&Wanted>, deadline: Deadline) -> Result<Change> {
    let patch = patch(cib.version, cib.constraints.contains_key(id), id, wanted)?;
    let output = cibadmin(["--patch", "--xml-pipe"]).input(patch).run(deadline)?;
    match output.status.code() {
        Some(0) => Ok(Change::Made),
        Some(code) if ANOTHER_VERSION.contains(&code) => Ok(Change::Overtaken),
        _ => bail!("{:#}", output.success("cibadmin --patch").map(drop).unwrap_err()),
    }
}

fn patch(version: Version, exists: bool, id: &str, wanted: Option<&Wanted>) -> Result<String> {
    let (admin_epoch, epoch, num_updates) = version;
    let mut writer = Writer::new(Vec::new());
    let numbers = |epoch: u64, updates: u64| [admin_epoch, epoch, updates].map(|number| number.to_string());
    let (source, target) = (numbers(epoch, num_updates), numbers(epoch + 1, 0));
    let versioned = |numbers: &[String; 3]| {
        let names = ["admin_epoch", "epoch", "num_updates"];
        names.into_iter().zip(numbers.clone()).collect::<Vec<_>>()
    };
    let place = "/cib/configuration/constraints";
    writer.create_element("diff").with_attribute(("format", "2")).write_inner_content(|writer| {
        writer.create_element("version").write_inner_content(|writer| {
            for (name, numbers) in [("source", &source), ("target", &target)] {
                let attributes = versioned(numbers);
                let attributes = attributes.iter().map(|(name, value)| (*name, value.as_str()));
                writer.create_element(name).with_attributes(attributes).write_empty()?;
            }
            Ok(())
        })?;
        if exists {
            let path = format!("{place}/rsc_location[@id='{id}']");
            let attributes = [("operation", "delete"), ("path", path.as_str())];
            writer.create_element("change").with_attributes(attributes).write_empty()?;
        }
        if let Some(wanted) = wanted {
            let attributes = [("operation", "create"), ("path", place), ("position", "0")];
            writer
                .create_element("change")
                .with_attributes(attributes)
                .write_inner_content(|writer| wanted.write(writer))?;
        }
        Ok(())
    })?;
    writer.write_event(Event::Eof)?;
    Ok(String::from_utf8(writer.into_inner())?)
}

impl Wanted {
    /// Twice negated: whoever is none of these must not be promoted.
    fn write(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let rule = format!("{}-rule-{}", self.prefix, self.clone);
        let location =
            writer.create_element("rsc_location").with_attributes([("id", self.id.as_str()), ("rsc", &self.clone)]);
        location.write_inner_content(|writer| {
            let attributes = [("id", rule.as_str()), ("role", &self.role), ("score", "-INFINITY")];
            writer.create_element("rule").with_attributes(attributes).write_inner_content(|writer| {
                for (number, attribute, value) in &self.spared {
                    let id = format!("{}-expr-{number}-{}", self.prefix, self.clone);
                    let attributes =
                        [("id", id.as_str()), ("attribute", attribute), ("operation", "ne"), ("value", value)];
                    writer.create_element("expression").with_attributes(attributes).write_empty()?;
                }
                Ok(())
            })?;
            Ok(())
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_names_its_version_and_escapes_what_it_holds() {
        let wanted = Wanted {
            id: "i".into(),
            prefix: "p".into(),
            clone: "c".into(),
            role: "Promoted".into(),
            spared: vec![(0, "#uname".into(), "a&b".into())],
        };
        let text = patch((1, 12, 3), true, "i", Some(&wanted)).unwrap();
        assert!(text.contains("<source admin_epoch=\"1\" epoch=\"12\" num_updates=\"3\"/>"), "{text}");
        assert!(text.contains("<target admin_epoch=\"1\" epoch=\"13\" num_updates=\"0\"/>"), "{text}");
        assert!(text.contains("operation=\"delete\"") && text.contains("value=\"a&amp;b\""), "{text}");
        let gone = patch((1, 12, 3), true, "i", None).unwrap();
        assert!(!gone.contains("operation=\"create\""), "{gone}");
    }
}
