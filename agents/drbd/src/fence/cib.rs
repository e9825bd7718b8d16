//! The cluster's configuration and state, as far as it matters here (`cibadmin --query`, XML).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ocf::{Deadline, Program};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cib {
    pub(crate) quorum: bool,
    /// The outermost clone of the primitive with each value of drbd_resource.
    pub(crate) clones: BTreeMap<String, String>,
    pub(crate) fencing: bool,
    pub(crate) startup_fencing: bool,
    pub(crate) nodes: BTreeMap<String, BTreeMap<String, String>>,
    pub(crate) states: BTreeMap<String, NodeState>,
    pub(crate) constraints: BTreeMap<String, Constraint>,
}

/// `<node_state>` of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeState {
    /// Member of the membership layer.
    pub(crate) member: Option<bool>,
    /// Its controller is in the cluster.
    pub(crate) online: bool,
    pub(crate) banned: bool,
    /// Not expected to be there: it was shut down, or fenced.
    pub(crate) expected_down: bool,
}

/// `<rsc_location>` with one rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Constraint {
    pub(crate) clone: String,
    /// The rule's.
    pub(crate) role: Option<String>,
    /// Attribute and value of each `ne`: a node that has none of them is kept away.
    pub(crate) spared: Vec<(String, String)>,
    /// Something else is in it than this handler would write.
    pub(crate) foreign: bool,
}

/// `cibadmin`, with the settings that decide how it reaches the cluster.
pub(crate) fn cibadmin<'a>(words: impl IntoIterator<Item = &'a str>) -> Program {
    with_settings(Program::new("cibadmin").args(words))
}

pub(crate) fn with_settings(program: Program) -> Program {
    let settings = std::env::vars().filter(|(name, _)| name.starts_with("PCMK_") || name.starts_with("CIB_"));
    settings.fold(program, |program, (name, value)| program.variable(&name, &value))
}

impl Cib {
    /// This node's copy, which is there while the node is in the cluster.
    pub(crate) fn local(deadline: Deadline) -> Result<Self> {
        let output = cibadmin(["--query", "--local"]).run(deadline.at_most(Duration::from_secs(10)))?;
        Self::parse(&output.success("cibadmin --query --local")?.stdout)
    }

    /// The controller's; waits for one to be elected.
    pub(crate) fn of_the_cluster(deadline: Deadline) -> Result<Self> {
        let mut patience = 2;
        loop {
            let timeout = format!("--timeout={patience}");
            let tried = cibadmin(["--query", &timeout]).run(deadline.at_most(Duration::from_secs(patience + 2)));
            match tried.and_then(|output| Self::parse(&output.success("cibadmin --query")?.stdout)) {
                Ok(cib) => return Ok(cib),
                Err(error) if !deadline.sleep(Duration::from_millis(500)) => return Err(error),
                Err(_) => patience = (patience + 1).min(10),
            }
        }
    }

    pub(crate) fn parse(xml: &str) -> Result<Self> {
        let mut reader = quick_xml::Reader::from_str(xml);
        let mut cib = Self { fencing: true, startup_fencing: true, ..Self::default() };
        let (mut path, mut rooted) = (Path::default(), false);
        loop {
            match reader.read_event().context("what cibadmin printed is not XML")? {
                Event::Start(element) => {
                    rooted |= cib.take(&element, &path);
                    path.0.push((
                        element.name().as_ref().to_owned(),
                        attribute(&element, "id"),
                        attribute(&element, "uname"),
                    ));
                }
                Event::Empty(element) => rooted |= cib.take(&element, &path),
                Event::End(_) => drop(path.0.pop()),
                Event::Eof => break,
                _ => {}
            }
        }
        if !rooted || !path.0.is_empty() {
            bail!("what cibadmin printed is no whole CIB");
        }
        Ok(cib)
    }

    fn take(&mut self, element: &BytesStart, path: &Path) -> bool {
        let get = |name: &str| attribute(element, name);
        match element.name().as_ref() {
            "cib" => {
                self.quorum = get("have-quorum") == "1";
                return true;
            }
            "nvpair" => self.pair(&get("name"), get("value"), path),
            "node" if path.within("nodes") && get("type") != "ping" => {
                self.nodes.entry(get("uname")).or_default();
            }
            "node_state" => {
                let state = NodeState {
                    member: Some(get("in_ccm")).filter(|word| !word.is_empty()).map(|word| since(&word)),
                    online: get("crmd") == "online" || since(&get("crmd")),
                    banned: get("crmd") == "banned",
                    expected_down: matches!(get("expected").as_str(), "" | "down"),
                };
                self.states.insert(get("uname"), state);
            }
            "rsc_location" => {
                let whole = ["score", "role"].map(get).iter().all(String::is_empty);
                let constraint = Constraint { clone: get("rsc"), foreign: !whole, ..Constraint::default() };
                self.constraints.insert(get("id"), constraint);
            }
            "rule" => {
                if let Some(constraint) = path.id_of(&["rsc_location"]).and_then(|id| self.constraints.get_mut(id)) {
                    // A second one bars what the first does not, and one for a single expression what is said in all.
                    constraint.foreign |= constraint.role.is_some() || get("score") != "-INFINITY";
                    constraint.foreign |= !matches!(get("boolean-op").as_str(), "" | "and");
                    constraint.role = Some(get("role"));
                }
            }
            "date_expression" | "rsc_expression" | "op_expression" => {
                if let Some(constraint) = path.id_of(&["rsc_location"]).and_then(|id| self.constraints.get_mut(id)) {
                    constraint.foreign = true;
                }
            }
            "expression" => {
                if let Some(constraint) = path.id_of(&["rsc_location"]).and_then(|id| self.constraints.get_mut(id)) {
                    constraint.foreign |= get("operation") != "ne";
                    constraint.spared.push((get("attribute"), get("value")));
                }
            }
            _ => {}
        }
        false
    }

    fn pair(&mut self, name: &str, value: String, path: &Path) {
        let no = || matches!(value.to_ascii_lowercase().as_str(), "no" | "n" | "false" | "0" | "off");
        match name {
            "drbd_resource" if path.within("instance_attributes") => {
                if let Some(clone) = path.id_of(&["clone", "master"]) {
                    self.clones.entry(value).or_insert_with(|| clone.to_owned());
                }
            }
            "stonith-enabled" | "fencing-enabled" if path.within("crm_config") => self.fencing = !no(),
            "startup-fencing" if path.within("crm_config") => self.startup_fencing = !no(),
            _ => {
                if let Some((.., uname)) = path.0.iter().find(|(element, ..)| element == "node") {
                    self.nodes.entry(uname.clone()).or_default().insert(name.to_owned(), value);
                }
            }
        }
    }

    /// The attribute and value that mean this node in a rule: its name, where it has no such attribute.
    pub(crate) fn means(&self, node: &str, wanted: &str) -> (String, String) {
        let value = self.nodes.get(node).and_then(|attributes| attributes.get(wanted));
        match value {
            Some(value) if wanted != "#uname" => (wanted.to_owned(), value.clone()),
            _ => ("#uname".to_owned(), node.to_owned()),
        }
    }
}

impl Constraint {
    /// Whether it keeps this node from being promoted.
    pub(crate) fn rejects(&self, node: &str, cib: &Cib) -> bool {
        let is_spared = |(attribute, value): &(String, String)| {
            if attribute == "#uname" {
                return value.eq_ignore_ascii_case(node);
            }
            cib.nodes.get(node).and_then(|attributes| attributes.get(attribute)) == Some(value)
        };
        !self.spared.iter().any(is_spared)
    }
}

#[derive(Default)]
struct Path(Vec<(String, String, String)>);

impl Path {
    fn within(&self, name: &str) -> bool {
        self.0.iter().any(|(element, ..)| element == name)
    }

    /// The id of the outermost of these elements.
    fn id_of(&self, names: &[&str]) -> Option<&str> {
        self.0.iter().find(|(element, ..)| names.contains(&element.as_str())).map(|(_, id, _)| id.as_str())
    }
}

/// true, or the time since when (Pacemaker 2.1.7 and later); 0 and false are not.
fn since(word: &str) -> bool {
    word == "true" || word.parse::<u64>().is_ok_and(|time| time > 0)
}

fn attribute(element: &BytesStart, name: &str) -> String {
    let found = element.try_get_attribute(name).ok().flatten();
    let value = found.and_then(|found| Some(found.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned()));
    value.unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const CIB: &str = r##"<cib admin_epoch="0" epoch="12" num_updates="3" have-quorum="1"><configuration><crm_config>
 <cluster_property_set id="o"><nvpair id="s" name="stonith-enabled" value="true"/></cluster_property_set></crm_config>
 <nodes><node id="1" uname="n1"><instance_attributes id="i"><nvpair id="r" name="rack" value="a&amp;b"/></instance_attributes></node>
 <node id="2" uname="n2"/></nodes>
 <resources><clone id="mail-clone"><group id="g"><primitive id="mail" class="ocf" provider="greenarrow" type="drbd">
   <instance_attributes id="m"><nvpair id="mr" name="drbd_resource" value="r0"/></instance_attributes></primitive></group></clone>
 </resources><constraints>
 <rsc_location id="drbd-fence-by-handler-r0-mail-clone" rsc="mail-clone"><rule id="x" role="Master" score="-INFINITY">
 <expression id="y" attribute="#uname" operation="ne" value="n1"/></rule></rsc_location></constraints></configuration>
 <status><node_state id="1" uname="n1" in_ccm="true" crmd="online" join="member" expected="member"/>
 <node_state id="2" uname="n2" in_ccm="0" crmd="0" join="down" expected="down"/></status></cib>"##;

    #[test]
    fn what_matters_is_found() {
        let cib = Cib::parse(CIB).unwrap();
        assert_eq!((cib.quorum, cib.fencing), (true, true));
        assert_eq!(cib.clones.get("r0").map(String::as_str), Some("mail-clone"));
        assert_eq!(cib.means("n1", "rack"), ("rack".to_owned(), "a&b".to_owned()));
        assert_eq!(cib.means("n2", "rack"), ("#uname".to_owned(), "n2".to_owned()));
        let constraint = &cib.constraints["drbd-fence-by-handler-r0-mail-clone"];
        assert!(constraint.rejects("n2", &cib) && !constraint.rejects("N1", &cib) && !constraint.foreign);
        let dead = NodeState { member: Some(false), online: false, banned: false, expected_down: true };
        assert_eq!(cib.states["n2"], dead);
        assert!(cib.states["n1"].online && cib.states["n1"].member == Some(true) && !cib.states["n1"].expected_down);
    }

    #[test]
    fn what_is_no_whole_cib_is_refused() {
        for wrong in ["", "Could not connect", "<cib>", "<x/>", "<cib a='"] {
            assert!(Cib::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
