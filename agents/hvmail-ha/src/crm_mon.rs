//! The cluster's state as `crm_mon --output-as=xml` has it (api/crm_mon-*.rng of Pacemaker 2.1 and 3).

use anyhow::{Context, Result, bail};

use crate::xml::Element;

/// Everything at one moment. What an older or newer Pacemaker does not say is false, empty or None.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Monitored {
    /// The designated controller.
    pub(crate) dc: Option<String>,
    /// Pacemaker's version there.
    pub(crate) version: Option<String>,
    pub(crate) quorum: bool,
    /// Whether fencing is enabled.
    pub(crate) fencing: bool,
    /// Whether the whole cluster is in maintenance mode.
    pub(crate) maintenance: bool,
    pub(crate) nodes: Vec<Node>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) fencings: Vec<Fencing>,
    pub(crate) counts: Vec<FailCount>,
    /// Node and resource, where a recurring monitor has found it promoted since its last promotion.
    pub(crate) confirmed: Vec<(String, String)>,
    /// Node and resource, where the last that was done or found says that it is not promoted.
    pub(crate) not_promoted: Vec<(String, String)>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "these are the flags of crm_mon, one by one")]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) online: bool,
    pub(crate) standby: bool,
    pub(crate) maintenance: bool,
    /// Joining.
    pub(crate) pending: bool,
    /// Its state is unknown; it has to be fenced.
    pub(crate) unclean: bool,
    /// Shutting down.
    pub(crate) shutdown: bool,
    /// Its attributes, promotion scores (`master-RESOURCE`) among them.
    pub(crate) attributes: Vec<(String, String)>,
}

/// A resource on a node, or one that is nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "these are the flags of crm_mon, one by one")]
pub(crate) struct Instance {
    /// The primitive's name, without an instance's number.
    pub(crate) resource: String,
    /// CLASS:PROVIDER:TYPE.
    pub(crate) agent: String,
    /// `Started`, `Promoted`, `Unpromoted`, `Stopped`; or what is under way, such as `Promoting`.
    pub(crate) role: String,
    /// None while it is changing (crm_mon then names no node) and where it is stopped.
    pub(crate) node: Option<String>,
    /// An operation under way, in crm_mon's word.
    pub(crate) pending: Option<String>,
    pub(crate) failed: bool,
    pub(crate) blocked: bool,
    pub(crate) managed: bool,
    pub(crate) orphaned: bool,
}

/// An action that failed, or was answered with "degraded".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) resource: String,
    /// The action's name.
    pub(crate) task: String,
    pub(crate) node: String,
    /// The exit status.
    pub(crate) code: Option<i32>,
    /// The same in Pacemaker's words.
    pub(crate) status: String,
    /// The agent's exit reason.
    pub(crate) reason: Option<String>,
    /// When, as Pacemaker writes it.
    pub(crate) at: Option<String>,
}

/// A fencing, done or under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fencing {
    pub(crate) target: String,
    pub(crate) action: String,
    /// `success`, `failed`, `pending`.
    pub(crate) status: String,
    pub(crate) at: Option<String>,
    pub(crate) reason: Option<String>,
}

/// How often a resource has failed on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FailCount {
    pub(crate) node: String,
    pub(crate) resource: String,
    /// `INFINITY` or a number.
    pub(crate) count: String,
    /// The count has reached the resource's migration-threshold: it is not run there.
    pub(crate) banned: bool,
}

/// What Pacemaker writes for a million.
pub(crate) const INFINITY: i64 = 1_000_000;

impl Monitored {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let root = Element::parse(text).context("crm_mon did not answer in XML")?;
        if root.name != "pacemaker-result" && root.name != "crm_mon" {
            bail!("crm_mon answered with <{}>; <pacemaker-result> is expected", root.name);
        }
        let first = |path: &[&str]| root.at(path).into_iter().next().cloned().unwrap_or_default();
        let (dc, options) = (first(&["summary", "current_dc"]), first(&["summary", "cluster_options"]));
        if root.at(&["summary"]).is_empty() {
            let status = first(&["status"]);
            bail!(
                "crm_mon has no state to show: {}",
                status.text("message").unwrap_or_else(|| "no summary".to_owned())
            );
        }
        let members = root.at(&["nodes", "node"]).into_iter().filter(|one| one.get("id_as_resource").is_empty());
        let mut found = Self {
            dc: dc.text("name").filter(|_| dc.is("present")),
            version: dc.text("version"),
            quorum: dc.is("with_quorum"),
            fencing: ["stonith-enabled", "fencing-enabled"].iter().all(|name| options.get(name) != "false"),
            maintenance: options.is("maintenance-mode"),
            // Containers that pose as nodes name the resource that they are.
            nodes: members.map(node).collect(),
            failures: root.at(&["failures", "failure"]).into_iter().map(failure).collect(),
            fencings: root.at(&["fence_history", "fence_event"]).into_iter().map(fencing).collect(),
            ..Self::default()
        };
        for holder in root.at(&["node_attributes", "node"]) {
            if let Some(node) = found.nodes.iter_mut().find(|node| node.name == holder.get("name")) {
                let pair = |one: &Element| (one.get("name").to_owned(), one.get("value").to_owned());
                node.attributes = holder.children("attribute").map(pair).collect();
            }
        }
        for resources in root.at(&["resources"]) {
            found.instances = resources.all("resource").into_iter().flat_map(instances).collect();
        }
        for holder in root.at(&["node_history", "node"]) {
            found.counts.extend(holder.children("resource_history").filter_map(|one| fail_count(holder, one)));
            for one in holder.children("resource_history") {
                let resource = one.get("id").split(':').next().unwrap_or_default();
                let place = (holder.get("name").to_owned(), resource.to_owned());
                if is_confirmed(one) {
                    found.confirmed.push(place);
                } else if is_not_promoted(one) {
                    found.not_promoted.push(place);
                }
            }
        }
        Ok(found)
    }

    /// The node of that name.
    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The nodes where a resource has this role.
    pub(crate) fn nodes_in_role(&self, resource: &str, role: &str) -> Vec<&str> {
        let of = self.instances.iter().filter(|one| one.resource == resource && one.role == role);
        of.filter_map(|one| one.node.as_deref()).collect()
    }

    /// Whether anything is being done to this resource, on any node.
    pub(crate) fn changing(&self, resource: &str) -> bool {
        let settled = ["Started", "Promoted", "Unpromoted", "Stopped"];
        let of = self.instances.iter().filter(|one| one.resource == resource);
        of.into_iter().any(|one| {
            one.pending.as_deref().is_some_and(|word| word != "Monitoring") || !settled.contains(&one.role.as_str())
        })
    }
}

impl Node {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// The promotion score of a resource there (attribute names of Pacemaker, pcmk_promotion_score_name).
    pub(crate) fn score(&self, resource: &str) -> Option<i64> {
        let value = self.attribute(&format!("master-{resource}"))?;
        match value {
            "INFINITY" | "+INFINITY" => Some(INFINITY),
            "-INFINITY" => Some(-INFINITY),
            number => number.parse().ok(),
        }
    }
}

impl Failure {
    /// A degraded answer (OCF 1.1: 190 and 191) stands among the failures, and Pacemaker does not act upon it.
    pub(crate) fn is_degraded(&self) -> bool {
        matches!(self.code, Some(190 | 191))
    }
}

fn node(node: &Element) -> Node {
    Node {
        name: node.get("name").to_owned(),
        online: node.is("online"),
        standby: node.is("standby") || node.is("standby_onfail"),
        maintenance: node.is("maintenance"),
        pending: node.is("pending"),
        unclean: node.is("unclean"),
        shutdown: node.is("shutdown"),
        attributes: Vec::new(),
    }
}

fn instances(resource: &Element) -> Vec<Instance> {
    let id = resource.get("id");
    let one = |node: Option<String>| Instance {
        resource: id.split_once(':').map_or(id, |(id, _)| id).to_owned(),
        agent: resource.get("resource_agent").replace("::", ":"),
        role: current_role(resource.get("role")),
        node,
        pending: resource.text("pending"),
        failed: resource.is("failed"),
        blocked: resource.is("blocked"),
        managed: resource.get("managed") != "false",
        orphaned: resource.is("orphaned") || resource.is("removed"),
    };
    let nodes: Vec<_> = resource.children("node").map(|node| one(node.text("name"))).collect();
    if nodes.is_empty() { vec![one(None)] } else { nodes }
}

/// The names of OCF 1.1 for those that Pacemaker had before 2.1.
fn current_role(role: &str) -> String {
    match role {
        "Master" => "Promoted",
        "Slave" => "Unpromoted",
        other => other,
    }
    .to_owned()
}

fn failure(failure: &Element) -> Failure {
    // RESOURCE_TASK_INTERVAL; the resource may have underscores and so may, in a fencing device's, nothing else.
    let mut parts = failure.get("op_key").rsplitn(3, '_');
    let (_, task, resource) = (parts.next(), parts.next(), parts.next());
    let resource = resource.unwrap_or(failure.get("op_key"));
    Failure {
        resource: resource.split_once(':').map_or(resource, |(id, _)| id).to_owned(),
        task: failure.text("task").or(task.map(str::to_owned)).unwrap_or_default(),
        node: failure.get("node").to_owned(),
        code: failure.get("exitcode").parse().ok(),
        status: failure.get("exitstatus").to_owned(),
        reason: failure.text("exitreason").filter(|reason| reason != "none").map(read_twice),
        at: failure.text("last-rc-change"),
    }
}

/// Pacemaker 2.1 escapes a reason before it writes it into the document, and again while it does.
fn read_twice(reason: String) -> String {
    quick_xml::escape::unescape(&reason).map(std::borrow::Cow::into_owned).unwrap_or(reason)
}

fn fencing(event: &Element) -> Fencing {
    Fencing {
        target: event.get("target").to_owned(),
        action: event.get("action").to_owned(),
        status: event.get("status").to_owned(),
        at: event.text("completed"),
        reason: event.text("exit-reason"),
    }
}

/// Calls are numbered in the order in which they were begun.
fn call(operation: &Element) -> i64 {
    operation.get("call").parse().unwrap_or(-1)
}

/// A reload takes the place of a promotion in the history: where it was the last action and no monitor has looked since, nobody
/// knows the role, whatever a degraded answer says that is kept from before.
fn is_not_promoted(history: &Element) -> bool {
    let of_role = history.children("operation_history").filter_map(|one| {
        let not_promoted = match (one.get("task"), one.get("rc")) {
            ("start" | "demote" | "stop", "0") | ("monitor", "0" | "7" | "190") => true,
            ("promote" | "reload" | "reload-agent", _) | ("monitor", "8" | "9" | "191") => false,
            _ => return None,
        };
        Some((call(one), not_promoted))
    });
    of_role.max().is_some_and(|(_, not_promoted)| not_promoted)
}

fn is_confirmed(history: &Element) -> bool {
    let operations = || history.children("operation_history");
    let promoted = operations().filter(|one| one.get("task") == "promote").map(call).max().unwrap_or(-1);
    let found = operations().filter(|one| one.get("task") == "monitor" && ["8", "191"].contains(&one.get("rc")));
    found.map(call).any(|call| call > promoted)
}

fn fail_count(holder: &Element, history: &Element) -> Option<FailCount> {
    let count = history.text("fail-count").filter(|count| count != "0")?;
    let number = |text: &str| if text == "INFINITY" { Some(INFINITY) } else { text.parse::<i64>().ok() };
    let threshold = number(history.get("migration-threshold")).unwrap_or(INFINITY);
    Some(FailCount {
        node: holder.get("name").to_owned(),
        resource: history.get("id").split(':').next().unwrap_or_default().to_owned(),
        banned: threshold > 0 && number(&count).is_some_and(|count| count >= threshold),
        count,
    })
}

#[cfg(test)]
#[path = "crm_mon_tests.rs"]
mod tests;
