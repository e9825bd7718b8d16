//! The cluster's own view of itself: `crm_mon --output-as=xml` (schema: api/crm_mon-*.rng of Pacemaker).

use anyhow::{Context, Result};

use crate::cib::Role;
use crate::xml::Element;

/// A node as the cluster sees it.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "these are the flags of crm_mon, one by one")]
pub struct NodeState {
    /// Its cluster name.
    pub name: String,
    /// A member with a running controller.
    pub online: bool,
    /// Not allowed to run resources.
    pub standby: bool,
    /// Its state is unknown; it waits to be fenced.
    pub unclean: bool,
    /// It is joining and not ready for resources.
    pub pending: bool,
    /// Transient and permanent attributes, promotion scores among them.
    pub attributes: Vec<(String, String)>,
}

/// One instance of a resource on one node.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The primitive's id, without an instance number.
    pub resource: String,
    /// Where it runs.
    pub node: String,
    /// `Started`, `Promoted`, `Unpromoted`, `Stopped`.
    pub role: String,
    /// An action under way, such as `Promoting`, or empty.
    pub pending: String,
    /// Its last action failed and has not been recovered.
    pub failed: bool,
    /// Whether the cluster may act on it.
    pub managed: bool,
}

/// An action that failed and has not been cleaned up.
#[derive(Clone, Debug)]
pub struct Failure {
    /// RESOURCE_ACTION_INTERVAL.
    pub operation: String,
    /// Where.
    pub node: String,
    /// The exit status in words, such as `not running`.
    pub status: String,
    /// The agent's exit reason.
    pub reason: String,
}

impl Failure {
    /// A degraded answer stands among the failed actions, and Pacemaker does not act upon it. Pacemaker 2.1 says
    /// "OCF_DEGRADED" or "promoted (degraded)", 3 that the service "might fail soon".
    pub fn is_degraded(&self) -> bool {
        self.status.to_lowercase().contains("degraded") || self.status.contains("might fail soon")
    }
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// The designated controller, if there is one.
    pub dc: Option<String>,
    /// Whether this partition has quorum.
    pub quorum: bool,
    /// The nodes.
    pub nodes: Vec<NodeState>,
    /// Running instances.
    pub instances: Vec<Instance>,
    /// Failed actions.
    pub failures: Vec<Failure>,
}

impl Status {
    /// Reads the document.
    pub fn parse(text: &str) -> Result<Self> {
        let root = Element::parse(text).context("crm_mon did not answer in XML")?;
        let dc = root.first("current_dc");
        let nodes = root.first("nodes").map_or(&[][..], |nodes| &nodes.children);
        Ok(Self {
            dc: dc.filter(|dc| dc.is("present")).map(|dc| dc.get("name").to_owned()),
            quorum: dc.is_some_and(|dc| dc.is("with_quorum")),
            nodes: nodes.iter().map(|node| node_state(node, &root)).collect(),
            instances: root.all("resource").into_iter().flat_map(instances).collect(),
            failures: root.all("failure").into_iter().map(failure).collect(),
        })
    }

    /// How many nodes are online and have joined.
    pub fn online(&self) -> usize {
        self.nodes.iter().filter(|node| node.online && !node.pending && !node.unclean).count()
    }

    /// The nodes where `resource` is in `role`, no action being under way.
    pub fn in_role(&self, resource: &str, role: Role) -> Vec<&str> {
        self.with_role(resource, role.word())
    }

    /// The nodes where a plain `resource` is started, no action being under way.
    pub fn started(&self, resource: &str) -> Vec<&str> {
        self.with_role(resource, "Started")
    }

    fn with_role(&self, resource: &str, role: &str) -> Vec<&str> {
        let of = |one: &&Instance| one.resource == resource && one.role == role && one.pending.is_empty();
        self.instances.iter().filter(of).map(|one| one.node.as_str()).collect()
    }

    /// A node's attribute.
    pub fn attribute(&self, node: &str, name: &str) -> Option<&str> {
        let node = self.nodes.iter().find(|one| one.name == node)?;
        node.attributes.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }
}

fn node_state(node: &Element, root: &Element) -> NodeState {
    let name = node.get("name").to_owned();
    let holders = root.first("node_attributes").map_or(&[][..], |list| &list.children);
    let own = holders.iter().find(|one| one.get("name") == name);
    let pair = |one: &Element| (one.get("name").to_owned(), one.get("value").to_owned());
    NodeState {
        online: node.is("online"),
        standby: node.is("standby"),
        unclean: node.is("unclean"),
        pending: node.is("pending"),
        attributes: own.map(|one| one.children.iter().map(pair).collect()).unwrap_or_default(),
        name,
    }
}

fn instances(resource: &Element) -> Vec<Instance> {
    let id = resource.get("id");
    let on = |node: &Element| Instance {
        resource: id.split_once(':').map_or(id, |(id, _)| id).to_owned(),
        node: node.get("name").to_owned(),
        role: resource.get("role").to_owned(),
        pending: resource.get("pending").to_owned(),
        failed: resource.is("failed"),
        managed: resource.is("managed"),
    };
    resource.children.iter().filter(|child| child.name == "node").map(on).collect()
}

fn failure(failure: &Element) -> Failure {
    Failure {
        operation: failure.get("op_key").to_owned(),
        node: failure.get("node").to_owned(),
        status: failure.get("exitstatus").to_owned(),
        reason: failure.get("exitreason").to_owned(),
    }
}
