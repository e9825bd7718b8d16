//! What is wrong in a picture, and what to do about it. Nothing is read or touched here.

use serde::Serialize;

use crate::cib::MOVE;
use crate::crm_mon::{Failure, Fencing};
use crate::picture::{Picture, Role};
use crate::preflight;
use crate::takeover::Obstacle;

/// How bad it is; the numbers are the exit statuses of a Nagios plugin (Monitoring Plugins Development Guidelines).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Severity {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that has to be seen to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// Where, if it is about one node.
    pub(crate) node: Option<String>,
    pub(crate) what: String,
    pub(crate) remedy: Option<String>,
}

fn found(severity: Severity, node: Option<&str>, what: String, remedy: Option<String>) -> Finding {
    Finding { severity, node: node.map(str::to_owned), what, remedy }
}

/// The worst of them.
pub(crate) fn overall(findings: &[Finding]) -> Severity {
    findings.iter().map(|one| one.severity).max().unwrap_or(Severity::Ok)
}

/// Everything that is wrong, the worst first.
pub(crate) fn findings(picture: &Picture) -> Vec<Finding> {
    let mut all = Vec::new();
    all.extend(
        picture
            .twice()
            .into_iter()
            .map(|one| found(Severity::Critical, None, one.what, Some(preflight::twice_remedy(picture)))),
    );
    of_roles(picture, &mut all);
    of_nodes(picture, &mut all);
    of_cluster(picture, &mut all);
    of_failures(picture, &mut all);
    of_agents(picture, &mut all);
    of_readiness(picture, &mut all);
    of_leftovers(picture, &mut all);
    all.extend(picture.unseen.iter().map(|what| {
        let remedy = "what depends on it is not judged; see whether the daemon hangs: systemctl status pacemaker";
        found(Severity::Warning, Some(&picture.here), format!("not seen: {what}"), Some(remedy.to_owned()))
    }));
    all.sort_by_key(|one| std::cmp::Reverse(one.severity));
    all
}

fn of_roles(picture: &Picture, all: &mut Vec<Finding>) {
    let roles = picture.roles();
    if roles.is_empty() && picture.unseen.is_empty() {
        let what = "no resource of the cluster is a promotable clone: there is no Primary to speak of".to_owned();
        all.push(found(Severity::Critical, None, what, Some("see README, \"Put it into a cluster\"".to_owned())));
        return;
    }
    if picture.primary().is_some() {
        return;
    }
    let changing: Vec<_> = roles.iter().filter(|one| picture.state.changing(one)).copied().collect();
    let (what, remedy) = match &picture.configuration.stopped {
        _ if !changing.is_empty() => (
            format!("no node is wholly Primary: the cluster is at work on {}", changing.join(", ")),
            "hvmail_ha status --watch".to_owned(),
        ),
        Some(mark) => (
            format!("no node is Primary: hvmail_make_secondary --stop on {} has ended it", mark.last_primary),
            "hvmail_make_primary on the node that is to serve".to_owned(),
        ),
        None => {
            let lacking: Vec<_> =
                roles.iter().filter(|one| picture.state.nodes_in_role(one, "Promoted").is_empty()).copied().collect();
            let what = if lacking.is_empty() {
                "no node is wholly Primary: the resources are promoted on different nodes".to_owned()
            } else {
                format!("no node is wholly Primary: promoted nowhere: {}", lacking.join(", "))
            };
            (what, "hvmail_ha preflight NODE says what keeps a node from it".to_owned())
        }
    };
    all.push(found(Severity::Critical, None, what, Some(remedy)));
}

fn of_nodes(picture: &Picture, all: &mut Vec<Finding>) {
    for node in &picture.state.nodes {
        let name = node.name.as_str();
        let mut add =
            |severity, what: String, remedy: String| all.push(found(severity, Some(name), what, Some(remedy)));
        if node.unclean {
            add(
                Severity::Critical,
                "unclean: its state is unknown, and it is to be fenced".to_owned(),
                format!("stonith_admin --history {name}"),
            );
        } else if !node.online {
            let what = "not in the cluster: nobody could take over".to_owned();
            add(Severity::Warning, what, "switch it on, or there: systemctl start corosync pacemaker".to_owned());
        }
        if node.standby {
            add(
                Severity::Warning,
                "in standby: nothing runs there".to_owned(),
                format!("crm_standby --node {name} --delete"),
            );
        }
        if node.maintenance && !picture.state.maintenance {
            let remedy = format!("crm_attribute --node {name} --name maintenance --delete");
            add(Severity::Warning, "in maintenance: the cluster does nothing there".to_owned(), remedy);
        }
    }
}

fn of_cluster(picture: &Picture, all: &mut Vec<Finding>) {
    let state = &picture.state;
    let mut add = |severity, what: String, remedy: &str| all.push(found(severity, None, what, Some(remedy.to_owned())));
    if !state.quorum {
        let what = "this part of the cluster has no quorum: it starts and promotes nothing".to_owned();
        add(Severity::Critical, what, "bring the other nodes back; see corosync-quorumtool");
    }
    if state.maintenance {
        let what = "maintenance mode: the cluster does nothing, whatever fails".to_owned();
        add(Severity::Warning, what, "crm_attribute --name maintenance-mode --delete");
    }
    if !state.fencing {
        let what = "fencing is disabled: after a failure both nodes may write".to_owned();
        add(
            Severity::Critical,
            what,
            "crm_attribute --name stonith-enabled --update true, with a device for each node",
        );
    }
    for device in state.instances.iter().filter(|one| one.agent.starts_with("stonith:")) {
        if device.role != "Started" || device.failed {
            let what = format!("fencing device {} is {}", device.resource, device.role.to_lowercase());
            add(Severity::Warning, what, &format!("crm_resource --cleanup --resource {}", device.resource));
        }
    }
    for event in &state.fencings {
        let (severity, state) = match event.status.as_str() {
            "success" => continue,
            "failed" => (Severity::Warning, "failed"),
            _ => (Severity::Critical, "is under way"),
        };
        let what = format!("the fencing of {} {state}{}", event.target, because(event));
        add(
            severity,
            what,
            &format!("stonith_admin --history {}; once seen to: stonith_admin --cleanup --history {0}", event.target),
        );
    }
}

fn because(event: &Fencing) -> String {
    let at = event.at.as_ref().map_or_else(String::new, |at| format!(" ({at})"));
    event.reason.as_ref().map_or(at.clone(), |reason| format!("{at}: {reason}"))
}

fn of_failures(picture: &Picture, all: &mut Vec<Finding>) {
    for failure in &picture.state.failures {
        let instance = picture.instance(&failure.resource, &failure.node);
        let hurts = instance.is_some_and(|one| one.failed || one.blocked);
        let severity = if hurts && !failure.is_degraded() { Severity::Critical } else { Severity::Warning };
        let over =
            failure.node == picture.here && picture.word(&failure.resource).is_some_and(crate::agents::Word::is_sound);
        let past = if over { "; over by now" } else { "" };
        let what = format!("{}{past}", sentence(failure));
        let cleanup = format!("crm_resource --cleanup --resource {} --node {}", failure.resource, failure.node);
        let reason = failure.reason.as_deref().unwrap_or_default();
        // The words of ocf:greenarrow:postgresql, with whose start only the operator can go on.
        let parted = ["parted from the primary", "does not occur in the primary's history", "interrupted pg_rewind"];
        let remedy = if failure.task == "start" && parted.iter().any(|words| reason.contains(words)) {
            format!("on {}: hvmail_ha rejoin shows what it would throw away", failure.node)
        } else {
            format!("seen to? {cleanup}")
        };
        all.push(found(severity, Some(&failure.node), what, Some(remedy)));
    }
    for count in picture.state.counts.iter().filter(|count| count.banned) {
        let what = format!("{} has failed too often ({}) to be run there", count.resource, count.count);
        let remedy = format!("crm_resource --cleanup --resource {} --node {}", count.resource, count.node);
        all.push(found(Severity::Warning, Some(&count.node), what, Some(remedy)));
    }
}

/// A failed action in words.
pub(crate) fn sentence(failure: &Failure) -> String {
    let at = failure.at.as_ref().map_or_else(String::new, |at| format!(" ({at})"));
    let reason = failure.reason.as_deref().unwrap_or(&failure.status);
    let verb = if failure.is_degraded() { "is degraded".to_owned() } else { format!("failed to {}", failure.task) };
    format!("{} {verb}{at}: {reason}", failure.resource)
}

/// What the agents here say now and Pacemaker has not heard, or not yet.
fn of_agents(picture: &Picture, all: &mut Vec<Finding>) {
    let known =
        |resource: &str| picture.state.failures.iter().any(|one| one.resource == resource && one.node == picture.here);
    let runs = |resource: &str| picture.instance(resource, &picture.here).is_some();
    let twice = picture.twice();
    let said = |resource: &str| known(resource) || twice.iter().any(|one| one.resource == resource);
    for word in picture.words.iter().filter(|word| !word.is_sound() && runs(&word.resource) && !said(&word.resource)) {
        let degraded = matches!(word.status, Some(190 | 191));
        let severity = if degraded { Severity::Warning } else { Severity::Critical };
        all.push(found(severity, Some(&picture.here), format!("{}: {}", word.resource, word.text), None));
    }
}

/// Whether the other nodes could take over. What is wrong with the cluster as a whole is said elsewhere.
fn of_readiness(picture: &Picture, all: &mut Vec<Finding>) {
    let standbys: Vec<_> = picture.nodes().into_iter().filter(|node| picture.role(node) == Role::Secondary).collect();
    if picture.primary().is_none() || standbys.is_empty() {
        all.extend(preflight::lists_differ(picture).into_iter().map(|what| {
            let remedy = "copy the right one to the other node".to_owned();
            found(Severity::Warning, None, what, Some(remedy))
        }));
        return;
    }
    for node in standbys {
        let own = [Obstacle::DatabaseUnfit, Obstacle::DatabaseUnknown, Obstacle::DiskNotUpToDate, Obstacle::Unready];
        for told in preflight::told(picture, node, &[]).into_iter().filter(|told| own.contains(&told.obstacle)) {
            let what = format!("could not take over: {}", told.fact);
            all.push(found(Severity::Warning, Some(node), what, Some(told.remedy)));
        }
    }
}

fn of_leftovers(picture: &Picture, all: &mut Vec<Finding>) {
    let now = picture.at.as_second();
    for left in &picture.configuration.leftovers {
        let own = left.id.starts_with(MOVE);
        let past = left.until.is_some_and(|until| until <= now);
        let effect = match (past, own) {
            (true, _) => "is left and expired",
            (false, true) => "is there: a command is at work, or was killed",
            (false, false) => "is left and still counts",
        };
        let what = format!("constraint {} of a move of {} {effect}", left.id, left.resource);
        let remedy = match &left.by {
            Some(by) if own => format!("unless a command runs on {by}, repeat it there: that removes it"),
            _ => format!("crm_resource --clear --resource {}", left.resource),
        };
        all.push(found(Severity::Warning, None, what, Some(remedy)));
    }
    let unmanaged = picture.configuration.chain().filter_map(preflight::unmanaged);
    all.extend(unmanaged.map(|(what, remedy)| found(Severity::Warning, None, what, Some(remedy))));
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
