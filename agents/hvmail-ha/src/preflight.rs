//! From what was seen to the facts of the decision, and from an obstacle to the sentence and the remedy.

mod disks;
mod resources;

use crate::agents::Word;
use crate::cib::{Lacks, Leftover, Resource};
use crate::picture::{Picture, Role, Twice};
use crate::takeover::{Database, Disk, Facts, Obstacle, Peer, Target, Way, obstacles};
use resources::{failed, held, unready};
pub(crate) use resources::{lists_differ, unmanaged};

/// An instance of greenarrow's agents that could take over at once has this promotion score or more.
const READY: i64 = 50;
/// A standby of postgresql that has streamed, and does not now.
const STREAMED: i64 = 40;
/// So many seconds after a start ocf:greenarrow:postgresql takes a standby that does not stream for a sound one.
const STREAMS_WITHIN: i64 = 30;

/// An obstacle in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) obstacle: Obstacle,
    pub(crate) fact: String,
    pub(crate) remedy: String,
}

impl Told {
    /// What to add to the command to have it done all the same.
    pub(crate) fn way(&self) -> Option<String> {
        match self.obstacle.way() {
            Way::None => None,
            Way::Force => Some("--force".to_owned()),
            Way::Loss(what) => Some(format!("--accept-data-loss={what}")),
        }
    }
}

/// The facts of `target`. `answering` are the addresses of the pair that answer on the wire.
pub(crate) fn facts(picture: &Picture, target: &str, answering: &[String]) -> Facts {
    let state = target_of(picture, target);
    let judged = state == Target::Online;
    Facts {
        target: state,
        peer: peer_of(picture, target).0,
        quorum: picture.state.quorum,
        maintenance: picture.state.maintenance,
        twice: !picture.twice().is_empty(),
        moving: mover(picture).is_some(),
        peer_was_last: picture.configuration.stopped.as_ref().is_some_and(|mark| mark.last_primary != target),
        was_last: picture.configuration.stopped.as_ref().is_some_and(|mark| mark.last_primary == target),
        database: if judged { database(picture, target).0 } else { Database::Level },
        disk: if judged { disks::disk(picture, target) } else { Disk::None },
        answering: !answering.is_empty(),
        held: !held(picture, target).is_empty(),
        failed: judged && !failed(picture, target).is_empty(),
        unready: judged && !unready(picture, target).is_empty(),
        unseen: !picture.unseen.is_empty(),
    }
}

/// Everything in the way of `target`, the most important first.
pub(crate) fn told(picture: &Picture, target: &str, answering: &[String]) -> Vec<Told> {
    let found = obstacles(&facts(picture, target, answering));
    found.into_iter().map(|obstacle| tell(picture, target, answering, obstacle)).collect()
}

/// The node that a takeover of `target` depends on, and how it is.
pub(crate) fn peer_of<'a>(picture: &'a Picture, target: &str) -> (Peer, Option<&'a str>) {
    let others = picture.state.nodes.iter().filter(|node| node.name != target);
    let all = others.map(|node| (how(picture, &node.name), Some(node.name.as_str())));
    // Of several the one that may do most harm.
    let order = [Peer::Unclean, Peer::Primary, Peer::Unproven, Peer::Secondary, Peer::Idle, Peer::Down];
    all.min_by_key(|(kind, _)| order.iter().position(|one| one == kind)).unwrap_or((Peer::None, None))
}

/// How a node is to one that would take over from it.
pub(crate) fn how(picture: &Picture, node: &str) -> Peer {
    let trusted = picture.state.fencing && !picture.configuration.trusts_unseen;
    match picture.role(node) {
        _ if picture.state.node(node).is_some_and(|one| one.unclean) => Peer::Unclean,
        Role::Primary | Role::Partly => Peer::Primary,
        Role::Secondary | Role::Inactive if databases_run(picture, node) => Peer::Secondary,
        Role::Secondary | Role::Inactive => Peer::Idle,
        Role::Offline if trusted => Peer::Down,
        Role::Offline => Peer::Unproven,
    }
}

fn databases_run(picture: &Picture, node: &str) -> bool {
    picture.configuration.all_of_agent("postgresql").all(|one| picture.instance(&one.id, node).is_some())
}

fn target_of(picture: &Picture, target: &str) -> Target {
    match picture.state.node(target) {
        Some(node) if node.online && !node.unclean => match node {
            _ if node.pending || node.shutdown => Target::Passing,
            _ if node.standby => Target::Standby,
            _ if node.maintenance => Target::Maintenance,
            _ => Target::Online,
        },
        _ => Target::Offline,
    }
}

/// One whose promotion has failed is shown as promoted too.
fn is_promoted(picture: &Picture, resource: &str, node: &str) -> bool {
    picture.instance(resource, node).is_some_and(|one| one.role == "Promoted" && !one.failed)
}

fn score(picture: &Picture, resource: &str, node: &str) -> Option<i64> {
    picture.state.node(node)?.score(resource)
}

/// Of several databases the one that has the most to say against it, and its resource.
fn database<'a>(picture: &'a Picture, target: &str) -> (Database, Option<&'a Resource>) {
    let all = picture.configuration.all_of_agent("postgresql");
    let judged = all.map(|resource| (one_database(picture, resource, target), Some(resource)));
    let order = [
        Database::Unknown,
        Database::Unfit,
        Database::Lacks,
        Database::Unstreamed,
        Database::Streamed,
        Database::Level,
    ];
    judged.min_by_key(|(how, _)| order.iter().position(|one| one == how)).unwrap_or((Database::None, None))
}

fn one_database(picture: &Picture, resource: &Resource, target: &str) -> Database {
    match score(picture, &resource.id, target) {
        _ if is_promoted(picture, &resource.id, target) => Database::Level,
        _ if lacks(picture, target).is_some_and(|word| word.resource == resource.id) => Database::Lacks,
        None => Database::Unknown,
        Some(score) if score >= READY => Database::Level,
        Some(score) if score >= STREAMED => Database::Streamed,
        Some(1..) => Database::Unstreamed,
        Some(_) => Database::Unfit,
    }
}

/// The word of a primary, which is not there, that `target` lacks what it acknowledged.
pub(crate) fn lacks<'a>(picture: &'a Picture, target: &str) -> Option<&'a Lacks> {
    let there = |name: &str| {
        picture.state.node(name).is_some_and(|node| node.online && !node.unclean) && databases_run(picture, name)
    };
    picture.configuration.lacks.iter().find(|one| one.node == target && one.author != target && !there(&one.author))
}

/// The constraint of a move that another node is at. Of one whose node is gone, or whose time is over, nobody is.
pub(crate) fn mover(picture: &Picture) -> Option<&Leftover> {
    let now = picture.at.as_second();
    picture.configuration.own_moves().find(|one| {
        let by = one.by.as_deref().unwrap_or_default();
        let there = picture.state.node(by).is_some_and(|node| node.online && !node.unclean);
        by != picture.here && there && one.until.is_some_and(|until| until > now)
    })
}

fn tell(picture: &Picture, target: &str, answering: &[String], obstacle: Obstacle) -> Told {
    let peer = peer_of(picture, target).1.unwrap_or("the other node");
    let pg = database(picture, target).1.map_or("the database", |one| &one.id);
    let why = |resource: &str| {
        let mut all = picture.state.failures.iter().rev().filter(|one| one.resource == resource && one.node == target);
        all.find_map(|one| one.reason.clone()).map_or_else(String::new, |reason| format!(": {reason}"))
    };
    let shown = |score: Option<i64>| score.map_or_else(|| "none".to_owned(), |score| score.to_string());
    let (fact, remedy) = match obstacle {
        Obstacle::Twice => (twice_fact(picture), twice_remedy(picture)),
        Obstacle::PeerUnclean | Obstacle::PeerUnproven => at_large(peer, obstacle),
        Obstacle::AddressesAnswer => (
            format!("addresses of the pair answer though no node of the cluster is Primary: {}", answering.join(", ")),
            format!("find who answers (ip neigh show {}) and stop it there", answering.first().map_or("", |one| one)),
        ),
        Obstacle::DatabaseUnfit => (
            format!(
                "the database on {target} does not have all that was written (promotion score of {pg}: {}){}",
                shown(score(picture, pg, target)),
                why(pg)
            ),
            format!(
                "on {target}: see what it says (hvmail_ha status) and its log; it must stream before it can take over, which \
                 after a start takes some seconds"
            ),
        ),
        Obstacle::DatabaseUnknown => (
            format!("the database on {target} says nothing of its state (no promotion score of {pg}){}", why(pg)),
            // Taken away by hand it is not told anew before a start: the agent knows that it has told it.
            format!(
                "look again in a minute; if it is so still, have {target} start anew: crm_standby --node {target} --update \
                 on, and when it has stopped: crm_standby --node {target} --delete"
            ),
        ),
        Obstacle::PeerHasMore => more(picture, target, peer),
        Obstacle::DiskNotUpToDate => disks::tell(picture, target),
        Obstacle::TargetOffline
        | Obstacle::TargetMaintenance
        | Obstacle::TargetPassing
        | Obstacle::TargetStandby
        | Obstacle::NoQuorum
        | Obstacle::Maintenance => idle(target, obstacle),
        Obstacle::Moving => {
            let by = mover(picture).and_then(|one| one.by.clone()).unwrap_or_default();
            (
                format!("a command on {by} is moving the role at this moment"),
                format!("wait for it; if it was killed, repeat it on {by}, or wait until its constraint has expired"),
            )
        }
        Obstacle::Held => {
            let (facts, remedies): (Vec<_>, Vec<_>) = held(picture, target).into_iter().unzip();
            (facts.join("; "), remedies.join("; "))
        }
        Obstacle::Failed => {
            let all = failed(picture, target);
            let first = all.first().copied().unwrap_or_default();
            let reasons: Vec<_> = all.iter().map(|id| format!("{id}{}", why(id))).collect();
            (
                format!("failures keep resources away from {target}: {}", reasons.join("; ")),
                format!("mend the cause, then: crm_resource --cleanup --resource {first} --node {target}"),
            )
        }
        Obstacle::Unseen => (
            format!("not everything was seen from here: {}", picture.unseen.join("; ")),
            "a daemon that hangs would hold the move up: systemctl status pacemaker; or do it from another node"
                .to_owned(),
        ),
        Obstacle::Unready => (
            unready(picture, target).join("; "),
            format!("mend what is named; `hvmail_ha status` on {target} has its agents' own words"),
        ),
    };
    Told { obstacle, fact, remedy }
}

/// A node that may be Primary outside of the cluster, and how one gets to know.
fn at_large(node: &str, obstacle: Obstacle) -> (String, String) {
    if obstacle == Obstacle::PeerUnclean {
        return (
            format!("{node} is not in the cluster and was not fenced: it may still be Primary"),
            format!(
                "mend fencing (stonith_admin --history {node}); or see to it that {node} is off, and only then: \
                 stonith_admin --confirm {node}"
            ),
        );
    }
    (
        format!(
            "{node} is not in the cluster, and without fencing nobody knows that it is off: it may still be Primary"
        ),
        format!("see to it that {node} is off; set up fencing: crm_attribute --name stonith-enabled --update true"),
    )
}

/// Why a node may be Primary that is not by Pacemaker's word: the first reason, with what to do about it. While no other is,
/// `answering` are the addresses of the pair that answer on the wire, none of them this node's own.
pub(crate) fn suspicion(picture: &Picture, node: &str, answering: &[String]) -> Option<(String, String)> {
    match how(picture, node) {
        Peer::Unclean => return Some(at_large(node, Obstacle::PeerUnclean)),
        Peer::Unproven => return Some(at_large(node, Obstacle::PeerUnproven)),
        _ => {}
    }
    let active = |word: &&Word| matches!(word.status, Some(8 | 9 | 191));
    let unordered =
        |word: &&Word| !is_promoted(picture, &word.resource, node) && !picture.state.changing(&word.resource);
    let roles = picture.roles();
    let mut own = picture.words.iter().filter(|word| node == picture.here && roles.contains(&word.resource.as_str()));
    if let Some(word) = own.find(|word| active(word) && unordered(word)) {
        let (resource, text) = (&word.resource, &word.text);
        return Some((
            format!("{resource} is active on {node} without the cluster's order: {text}"),
            format!(
                "have the cluster look: crm_resource --refresh --resource {resource} --node {node}; then repeat this"
            ),
        ));
    }
    let tell = || tell(picture, node, answering, Obstacle::AddressesAnswer);
    (!answering.is_empty() && node != picture.here).then(tell).map(|told| (told.fact, told.remedy))
}

/// Why a node that could not take over may be able to in some seconds. `at_work` says whether a DC is, and `started` how many
/// seconds ago the database was started there, as a standby or anew.
pub(crate) fn soon(
    picture: &Picture,
    target: &str,
    at_work: impl Fn(&str) -> bool,
    started: impl Fn(&str) -> Option<i64>,
) -> Option<String> {
    let Some(dc) = &picture.state.dc else {
        return Some("the nodes have not agreed on a coordinator (DC) yet".to_owned());
    };
    if target_of(picture, target) == Target::Passing {
        return Some(idle(target, Obstacle::TargetPassing).0);
    }
    // A node that has joined is looked at before anything is started there.
    let peer = peer_of(picture, target).1.unwrap_or(target);
    if let Some(node) = [target, peer].into_iter().find(|node| picture.role(node) == Role::Inactive)
        && at_work(dc)
    {
        return Some(format!("not everything runs on {node} yet, and the cluster is at work"));
    }
    let unfit = obstacles(&facts(picture, target, &[])).contains(&Obstacle::DatabaseUnfit);
    let database = database(picture, target).1.filter(|_| unfit)?;
    let new = started(&database.id).is_some_and(|seconds| seconds <= STREAMS_WITHIN);
    new.then(|| {
        format!("the database on {target} has just become a standby, and its agent has not said yet that it streams")
    })
}

/// Why a node that is not there, or whose database does not run, may have more, and what makes it known.
fn more(picture: &Picture, target: &str, peer: &str) -> (String, String) {
    let lacks = lacks(picture, target);
    let who = lacks.map_or(peer, |lacks| &lacks.author);
    let (is, remedy) = if picture.role(who) == Role::Offline {
        ("is not there", format!("switch {who} on"))
    } else {
        ("does not run its database", format!("have {who} start it: `hvmail_ha status` says what keeps it"))
    };
    if lacks.is_some() {
        return (
            format!("{who} acknowledged commits that the database on {target} lacks, and {is}"),
            format!("{remedy}: what it has is not lost, and it is promoted by itself"),
        );
    }
    let fact = if picture.configuration.stopped.is_some() {
        format!("{peer} was Primary last and {is}: what it wrote may be missing on {target}")
    } else {
        format!("the database on {target} has not streamed since its start, and {peer}, which may have more, {is}")
    };
    (fact, format!("{remedy} and wait until it is in the cluster: the two compare their logs"))
}

/// Why the cluster does nothing, as a whole or on that node, and what makes it do something.
fn idle(target: &str, obstacle: Obstacle) -> (String, String) {
    match obstacle {
        Obstacle::TargetOffline => {
            (format!("{target} is not in the cluster"), format!("on {target}: systemctl start corosync pacemaker"))
        }
        Obstacle::NoQuorum => (
            "this part of the cluster has no quorum: it starts and promotes nothing".to_owned(),
            "bring the other nodes back; see corosync-quorumtool".to_owned(),
        ),
        Obstacle::Maintenance => (
            "the cluster is in maintenance mode: it does nothing".to_owned(),
            "crm_attribute --name maintenance-mode --delete".to_owned(),
        ),
        Obstacle::TargetMaintenance => (
            format!("{target} is in maintenance: the cluster does nothing there"),
            format!("crm_attribute --node {target} --name maintenance --delete"),
        ),
        Obstacle::TargetPassing => {
            (format!("{target} is joining or leaving the cluster"), "wait for it: hvmail_ha status --watch".to_owned())
        }
        _ => (format!("{target} is in standby"), format!("crm_standby --node {target} --delete")),
    }
}

/// Who has what.
pub(crate) fn twice_fact(picture: &Picture) -> String {
    picture.twice().into_iter().map(|one| one.what).collect::<Vec<_>>().join("; ")
}

/// How one of two that are Primary ceases to be it. Pacemaker demotes the one that it has not promoted.
pub(crate) fn twice_remedy(picture: &Picture) -> String {
    let twice = picture.twice();
    let here = |node: &String| *node == picture.here;
    let data = |one: &&Twice| picture.configuration.all_of_agent("primary-ips").all(|ips| ips.id != one.resource);
    let there = match twice.iter().find(|one| data(one) || one.there.iter().any(here)) {
        None => return "find that host by its hardware address, and take the address from it".to_owned(),
        Some(one) if one.there.is_empty() => "one of them".to_owned(),
        Some(one) => one.there.join(" or "),
    };
    let end = match picture.state.node(&picture.here) {
        _ if picture.state.maintenance => "crm_attribute --name maintenance-mode --delete".to_owned(),
        Some(node) if node.maintenance => format!("crm_attribute --node {} --name maintenance --delete", node.name),
        _ => return format!("the cluster ends it on {there} now; then, there: hvmail_ha rejoin"),
    };
    format!(
        "save what was written on {there} alone; then {end}: the cluster ends it on {there}; then, there: hvmail_ha rejoin"
    )
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
