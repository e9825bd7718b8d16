//! The picture for programs: JSON, a Nagios plugin's answer, Prometheus's text format.

use std::fmt::Write;

use serde::Serialize;

use crate::findings::{Finding, Severity, findings, overall};
use crate::picture::{List, Picture};
use crate::preflight;
use crate::screen::{listed, lists_equal, timeline};

/// Grows by one when a member is taken away or changes its meaning; new members may come at any time.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    time: String,
    node: &'a str,
    status: Severity,
    primary: Option<&'a str>,
    quorum: bool,
    fencing: bool,
    maintenance: bool,
    stopped_on: Option<&'a str>,
    addresses_equal: Option<bool>,
    pacemaker: Option<&'a str>,
    nodes: Vec<NodeDocument<'a>>,
    findings: Vec<Finding>,
    failed_actions: Vec<FailureDocument<'a>>,
    fencing_history: Vec<FencingDocument<'a>>,
    leftover_constraints: Vec<&'a str>,
    not_seen: &'a [String],
}

#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a node, one by one")]
struct NodeDocument<'a> {
    name: &'a str,
    role: &'static str,
    online: bool,
    standby: bool,
    maintenance: bool,
    pending: bool,
    unclean: bool,
    addresses_listed: Option<u32>,
    timeline: Option<u32>,
    resources: Vec<ResourceDocument<'a>>,
    obstacles: Vec<ObstacleDocument>,
}

#[derive(Serialize)]
struct ResourceDocument<'a> {
    name: &'a str,
    agent: &'a str,
    role: Option<&'a str>,
    promotion_score: Option<i64>,
    failed: bool,
    managed: bool,
    addresses_listed: Option<u32>,
    says: Option<&'a str>,
}

#[derive(Serialize)]
pub(crate) struct ObstacleDocument {
    fact: String,
    remedy: String,
    overridden_by: Option<String>,
}

#[derive(Serialize)]
struct FailureDocument<'a> {
    resource: &'a str,
    action: &'a str,
    node: &'a str,
    exit_status: Option<i32>,
    degraded: bool,
    reason: Option<&'a str>,
    time: Option<&'a str>,
}

#[derive(Serialize)]
struct FencingDocument<'a> {
    target: &'a str,
    action: &'a str,
    status: &'a str,
    time: Option<&'a str>,
}

/// What stands in a node's way, for JSON.
pub(crate) fn obstacles(picture: &Picture, node: &str, answering: &[String]) -> Vec<ObstacleDocument> {
    let told = preflight::told(picture, node, answering).into_iter();
    told.map(|one| ObstacleDocument { overridden_by: one.way(), fact: one.fact, remedy: one.remedy }).collect()
}

pub(crate) fn json(picture: &Picture) -> serde_json::Result<String> {
    let findings = findings(picture);
    let failure = |one: &'_ crate::crm_mon::Failure| one.is_degraded();
    let document = Document {
        schema: SCHEMA,
        time: picture.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        node: &picture.here,
        status: overall(&findings),
        primary: picture.primary(),
        quorum: picture.state.quorum,
        fencing: picture.state.fencing,
        maintenance: picture.state.maintenance,
        stopped_on: picture.configuration.stopped.as_ref().map(|mark| mark.last_primary.as_str()),
        addresses_equal: lists_equal(picture),
        pacemaker: picture.state.version.as_deref(),
        nodes: picture.nodes().into_iter().map(|node| node_document(picture, node)).collect(),
        findings,
        failed_actions: picture
            .state
            .failures
            .iter()
            .map(|one| FailureDocument {
                resource: &one.resource,
                action: &one.task,
                node: &one.node,
                exit_status: one.code,
                degraded: failure(one),
                reason: one.reason.as_deref(),
                time: one.at.as_deref(),
            })
            .collect(),
        fencing_history: picture
            .state
            .fencings
            .iter()
            .map(|one| FencingDocument {
                target: &one.target,
                action: &one.action,
                status: &one.status,
                time: one.at.as_deref(),
            })
            .collect(),
        leftover_constraints: picture.configuration.leftovers.iter().map(|one| one.id.as_str()).collect(),
        not_seen: &picture.unseen,
    };
    serde_json::to_string_pretty(&document)
}

fn node_document<'a>(picture: &'a Picture, name: &'a str) -> NodeDocument<'a> {
    let state = picture.state.node(name).cloned().unwrap_or_default();
    let resource = |one: &'a crate::cib::Resource| {
        let instance = picture.instance(&one.id, name);
        ResourceDocument {
            name: &one.id,
            agent: &one.agent,
            role: instance.map(|one| one.role.as_str()),
            promotion_score: state.score(&one.id),
            failed: instance.is_some_and(|one| one.failed),
            managed: instance.is_none_or(|one| one.managed),
            addresses_listed: listed(picture, &one.id, name),
            says: picture.word(&one.id).filter(|_| name == picture.here).map(|word| word.text.as_str()),
        }
    };
    NodeDocument {
        name,
        role: picture.role(name).word(),
        online: state.online,
        standby: state.standby,
        maintenance: state.maintenance,
        pending: state.pending,
        unclean: state.unclean,
        addresses_listed: all_listed(picture, name),
        timeline: timeline(picture, name),
        resources: picture.configuration.roles().map(resource).collect(),
        obstacles: if picture.primary() == Some(name) { Vec::new() } else { obstacles(picture, name, &[]) },
    }
}

/// How many addresses the lists on a node have altogether.
fn all_listed(picture: &Picture, node: &str) -> Option<u32> {
    picture.lists.iter().filter(|list| list.node == node).map(List::count).reduce(|sum, one| sum?.checked_add(one?))?
}

/// One line, and behind `|` the performance data (Monitoring Plugins Development Guidelines).
pub(crate) fn nagios(picture: &Picture) -> String {
    let all = findings(picture);
    let status = overall(&all);
    let plain = |text: &str| text.replace('|', "/").replace('\n', " ");
    let first = all.first().map(|one| {
        let node = one.node.as_ref().map_or_else(String::new, |node| format!("{node}: "));
        plain(&format!("{node}{}", one.what))
    });
    let more = if all.len() > 1 { format!(" (and {} more)", all.len() - 1) } else { String::new() };
    let primary =
        picture.primary().map_or_else(|| "no node is Primary".to_owned(), |node| format!("{node} is Primary"));
    let degraded = picture.state.failures.iter().filter(|one| one.is_degraded()).count();
    let online = picture.state.nodes.iter().filter(|node| node.online && !node.unclean).count();
    format!(
        "HVMAIL_HA {} - {primary}{}{more} | nodes_online={online};;;0;{} primaries={};;;0;1 failed={};;;0 degraded={degraded};;;0 \
         leftovers={};;;0",
        status.word().to_uppercase(),
        first.map_or_else(String::new, |first| format!("; {first}")),
        picture.state.nodes.len(),
        u8::from(picture.primary().is_some()),
        picture.state.failures.len() - degraded,
        picture.configuration.leftovers.len(),
    )
}

/// Prometheus's text-based format, for the textfile collector of node_exporter. Without a picture the cluster does not
/// answer.
pub(crate) fn prometheus(picture: Option<&Picture>) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, help: &str, samples: Vec<(String, i64)>| {
        let _ = writeln!(text, "# HELP hvmail_ha_{name} {help}\n# TYPE hvmail_ha_{name} gauge");
        for (labels, value) in samples {
            let _ = writeln!(text, "hvmail_ha_{name}{labels} {value}");
        }
    };
    let one = |value: i64| vec![(String::new(), value)];
    metric("up", "Whether the cluster answers on this node.", one(picture.is_some().into()));
    let Some(picture) = picture else {
        metric("status", "0 ok, 1 warning, 2 critical, 3 unknown.", one(Severity::Unknown as i64));
        return text;
    };
    let all = findings(picture);
    metric("status", "0 ok, 1 warning, 2 critical, 3 unknown.", one(overall(&all) as i64));
    metric("time_seconds", "When this was looked at, in seconds since 1970.", one(picture.at.as_second()));
    metric("quorum", "Whether this part of the cluster has quorum.", one(picture.state.quorum.into()));
    metric("fencing_enabled", "Whether fencing is enabled.", one(picture.state.fencing.into()));
    metric("maintenance_mode", "Whether the cluster is in maintenance mode.", one(picture.state.maintenance.into()));
    let nodes = picture.nodes();
    let of_nodes = |value: &dyn Fn(&str) -> Option<i64>| -> Vec<(String, i64)> {
        nodes.iter().filter_map(|node| Some((labels(&[("node", node)]), value(node)?))).collect()
    };
    let online = |node: &str| picture.state.node(node).map(|one| i64::from(one.online && !one.unclean));
    metric("node_online", "Whether the node is in the cluster.", of_nodes(&online));
    let primary = |node: &str| Some(i64::from(picture.primary() == Some(node)));
    metric("primary", "Whether everything is promoted on the node.", of_nodes(&primary));
    let list = |one: &List| Some((labels(&[("node", &one.node), ("resource", &one.resource)]), one.count()?.into()));
    metric("addresses_listed", "Addresses in a resource's list.", picture.lists.iter().filter_map(list).collect());
    let line = |node: &str| timeline(picture, node).map(i64::from);
    metric("database_timeline", "The timeline of the database, on a primary.", of_nodes(&line));
    let mut scores = Vec::new();
    for node in &nodes {
        for resource in picture.roles() {
            let score = picture.state.node(node).and_then(|one| one.score(resource));
            scores.extend(score.map(|score| (labels(&[("node", node), ("resource", resource)]), score)));
        }
    }
    metric("promotion_score", "The promotion score of a resource on a node.", scores);
    let findings = [Severity::Warning, Severity::Critical].map(|severity| {
        let count = all.iter().filter(|one| one.severity == severity).count();
        (labels(&[("severity", severity.word())]), i64::try_from(count).unwrap_or(i64::MAX))
    });
    metric("findings", "Things to be seen to.", findings.into());
    let left = i64::try_from(picture.configuration.leftovers.len()).unwrap_or(i64::MAX);
    metric("leftover_constraints", "Constraints that a move has left.", one(left));
    text
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let all: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", all.join(","))
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
