//! A change of the constraint that is made only if it is still as it was read.
//!
//! Each node of the cluster makes a change in its own copy of the configuration. So the condition is the constraint itself, which
//! is the same in all of them when the change comes to its turn. A version is not: the nodes count updates of the state
//! (num_updates) each by itself, and a patch that names one (`cibadmin --patch`) was seen to be made on one node and refused on
//! the other, which then differed (Pacemaker 2.1.5).

use anyhow::{Result, bail};
use ocf::{Deadline, Program};
use quick_xml::Writer;

use crate::cib::{Cib, Constraint, cibadmin};

const PLACE: &str = "/cib/configuration/constraints";

/// Exit statuses of Pacemaker's tools for what is there already, and for what is not there (CRM_EX_EXISTS, CRM_EX_NOSUCH).
const EXISTS: i32 = 108;
const NO_SUCH: i32 = 105;

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
    match (cib.constraints.get(id), wanted) {
        (None, None) => Ok(Change::Made),
        (None, Some(wanted)) => {
            let create = cibadmin(["--create", "--scope", "constraints", "--xml-pipe"]);
            run(create.input(wanted.xml()?), deadline)
        }
        (Some(there), Some(wanted)) => {
            let path = as_read(id, there)?;
            run(cibadmin(["--replace", "--xpath", path.as_str(), "--xml-pipe"]).input(wanted.xml()?), deadline)
        }
        (Some(there), None) => {
            let path = as_read(id, there)?;
            run(cibadmin(["--delete", "--xpath", path.as_str()]), deadline)?;
            // To delete what is not there is a success.
            let left = Cib::of_the_cluster(deadline)?.constraints.contains_key(id);
            Ok(if left { Change::Overtaken } else { Change::Made })
        }
    }
}

fn run(cibadmin: Program, deadline: Deadline) -> Result<Change> {
    let output = cibadmin.run(deadline)?;
    match came_of(output.status.code()) {
        Some(change) => Ok(change),
        None => bail!("{:#}", output.success("cibadmin").map(drop).unwrap_err()),
    }
}

/// What the exit status of cibadmin means; None: a failure.
fn came_of(status: Option<i32>) -> Option<Change> {
    match status {
        Some(0) => Some(Change::Made),
        Some(EXISTS | NO_SUCH) => Some(Change::Overtaken),
        _ => None,
    }
}

/// The constraint with these nodes in it and no others, as an XPath.
fn as_read(id: &str, there: &Constraint) -> Result<String> {
    let mut path = format!("{PLACE}/rsc_location[@id={}][count(.//expression)={}]", quoted(id)?, there.spared.len());
    for (attribute, value) in &there.spared {
        path.extend(["[.//expression[@attribute=", &quoted(attribute)?, "][@value=", &quoted(value)?, "]]"]);
    }
    Ok(path)
}

/// XPath 1.0 has no way to write a quotation mark of the kind that a text begins with.
fn quoted(text: &str) -> Result<String> {
    match (text.contains('\''), text.contains('"')) {
        (false, _) => Ok(format!("'{text}'")),
        (true, false) => Ok(format!("\"{text}\"")),
        (true, true) => bail!("{text:?} has both kinds of quotation marks: no XPath can name it"),
    }
}

impl Wanted {
    fn xml(&self) -> Result<String> {
        let mut writer = Writer::new(Vec::new());
        self.write(&mut writer)?;
        Ok(String::from_utf8(writer.into_inner())?)
    }

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
    fn what_is_written_is_escaped() {
        let wanted = Wanted {
            id: "i".into(),
            prefix: "p".into(),
            clone: "c".into(),
            role: "Promoted".into(),
            spared: vec![(0, "#uname".into(), "a&b".into())],
        };
        assert_eq!(
            wanted.xml().unwrap(),
            "<rsc_location id=\"i\" rsc=\"c\"><rule id=\"p-rule-c\" role=\"Promoted\" score=\"-INFINITY\"><expression \
             id=\"p-expr-0-c\" attribute=\"#uname\" operation=\"ne\" value=\"a&amp;b\"/></rule></rsc_location>"
        );
    }

    #[test]
    fn a_change_that_somebody_else_was_faster_with_is_decided_again() {
        let table = [
            (Some(0), Some(Change::Made)),
            (Some(105), Some(Change::Overtaken)),
            (Some(108), Some(Change::Overtaken)),
            (Some(102), None),
            (Some(124), None),
            (None, None),
        ];
        for (status, wanted) in table {
            assert_eq!(came_of(status), wanted, "{status:?}");
        }
    }

    #[test]
    fn what_was_read_is_named_with_all_that_is_in_it() {
        let spared = vec![("#uname".to_owned(), "n1".to_owned()), ("site".to_owned(), "o'hare".to_owned())];
        let path = as_read("f", &Constraint { spared, ..Constraint::default() }).unwrap();
        assert_eq!(
            path,
            "/cib/configuration/constraints/rsc_location[@id='f'][count(.//expression)=2]\
             [.//expression[@attribute='#uname'][@value='n1']][.//expression[@attribute='site'][@value=\"o'hare\"]]"
        );
        assert!(quoted("'\"").is_err());
    }
}
