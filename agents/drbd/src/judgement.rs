//! From what DRBD says to what monitor says. Nothing is read or touched here.

use std::collections::BTreeMap;
use std::time::Duration;

use ocf::{Finding, State};

use crate::generation::Kinship;
use crate::model::{Connection, Disk, Peer, PeerVolume, Replication, Resource, Role, Volume};

/// A Secondary that has lost its peer is degraded only when that has lasted: it is how the death of the Primary begins, and to
/// call it degraded then would hold up what follows. Pacemaker keeps a degraded answer of a recurring monitor as a failure
/// only (`did_rsc_op_fail`). Of such a monitor, where the dead node was the DC, the new one does not believe that it has ended
/// (`process_graph_event`, "initiated by a different DC", 2.1.5 to 3.0.2), and waits for the monitor's timeout and
/// cluster-delay, 80 seconds in all, before it fences or promotes anything. A cluster sees sooner than this that a node is gone.
const SETTLES: Duration = Duration::from_secs(30);

/// What is known of a connection that DRBD does not try to make (StandAlone).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Parted {
    /// Nobody is StandAlone, or this node has no data of its own.
    #[default]
    Unknown,
    /// drbdsetup does not say what this node has written.
    Unreadable,
    /// This node has written without the other, of which nothing is known.
    WroteAlone,
    /// This node has written nothing that the other does not have.
    WroteNothing,
    /// The other's generations are known.
    Akin(Kinship),
}

/// Another instance of the resource, as it told the cluster while it had no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Other {
    pub(crate) node: String,
    pub(crate) primary: bool,
    /// It has given up a connection (StandAlone).
    pub(crate) standalone: bool,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) resource: Option<Resource>,
    /// The instance was started and not stopped.
    pub(crate) started: bool,
    /// How far a resync is and what is left of it, by minor, where /proc/drbd tells it.
    pub(crate) progress: BTreeMap<u32, (Option<String>, Option<String>)>,
    pub(crate) parted: Parted,
    pub(crate) others: Vec<Other>,
    /// More than one Primary is meant.
    pub(crate) two_primaries: bool,
    /// For how long a Secondary has been without a peer, where that is remembered.
    pub(crate) alone_for: Option<Duration>,
    /// connect_only_after_promote: a Secondary is to be without connection.
    pub(crate) alone_until_promoted: bool,
    /// What is wrong besides: the parameters, drbd.conf, the module's version.
    pub(crate) besides: Vec<String>,
}

/// Decides.
pub(crate) fn judge(facts: &Facts) -> Finding {
    let Some(resource) = &facts.resource else { return down(facts) };
    let (sound, degraded) = if resource.primary() {
        (State::RunningPromoted, State::DegradedPromoted)
    } else {
        (State::Running, State::Degraded)
    };
    if resource.primary() {
        let fatal = fatal(resource);
        if !fatal.is_empty() {
            return Finding::because_of(State::FailedPromoted, &fatal);
        }
    }
    let wrong = wrong(facts, resource);
    if wrong.is_empty() {
        return Finding::plain(sound, format!("{}: {}", facts.name, resource.summary()));
    }
    Finding::because_of(degraded, &wrong)
}

fn down(facts: &Facts) -> Finding {
    if facts.started {
        let reason = format!("{} is down, and nobody of the cluster stopped it: drbdadm down by hand?", facts.name);
        return Finding::because(State::NotRunning, reason);
    }
    Finding::plain(State::NotRunning, format!("{} is down", facts.name))
}

/// Why a Primary cannot serve any more.
fn fatal(resource: &Resource) -> Vec<String> {
    let mut fatal = Vec::new();
    for (number, volume) in &resource.volumes {
        let peers = resource.peers.values().filter_map(|peer| peer.volumes.get(number));
        let good_peer = peers.into_iter().any(|at_peer| at_peer.disk == Disk::UpToDate);
        let foreign = volume.disk.foreign().is_some();
        if !good_peer && !volume.disk.consistent() && !volume.disk.in_transition() && !foreign {
            fatal.push(format!(
                "Primary without data: volume {number} is {} here, and no peer with good data is connected",
                volume.disk
            ));
        }
        if !volume.quorum && !resource.suspended.iter().any(|why| why == "quorum") {
            fatal.push(format!("volume {number} has no quorum: its I/O fails (on-no-quorum io-error)"));
        }
    }
    if resource.suspended.iter().any(|why| why == "no-data") {
        fatal.push(
            "I/O is suspended: no good data is reachable from here (on-no-data-accessible suspend-io)".to_owned(),
        );
    }
    if resource.failing_io {
        fatal.push("DRBD fails all I/O until the last opener has gone (forced to Secondary)".to_owned());
    }
    fatal
}

fn wrong(facts: &Facts, resource: &Resource) -> Vec<String> {
    let mut wrong = both_primary(facts, resource);
    // With suspend-io a Secondary says so as well; what it means there its volumes say.
    let told = |why: &&String| resource.primary() || resource.quorate() || *why != "quorum";
    wrong.extend(resource.suspended.iter().filter(told).map(|why| suspended(why)));
    for (number, volume) in &resource.volumes {
        wrong.extend(disk(resource, *number, volume));
        if !volume.quorum && !resource.primary() {
            wrong.push(format!("volume {number} has no quorum, so it cannot be promoted"));
        }
    }
    for peer in resource.peers.values() {
        if peer.connected() {
            wrong.extend(
                peer.volumes.iter().filter_map(|(number, there)| replication(facts, resource, peer, *number, there)),
            );
        } else if let Some(sentence) = connection(facts, resource, peer) {
            wrong.push(sentence);
        }
    }
    if resource.peers.is_empty() && !facts.alone_until_promoted {
        wrong.push(format!("no connection is configured in the kernel; drbdadm adjust {}", facts.name));
    }
    let foreign = resource.foreign();
    if !foreign.is_empty() {
        wrong.push(format!("DRBD says {}, which this agent does not know", foreign.join(", ")));
    }
    wrong.extend(facts.besides.iter().cloned());
    wrong
}

fn both_primary(facts: &Facts, resource: &Resource) -> Vec<String> {
    if facts.two_primaries || !resource.primary() {
        return Vec::new();
    }
    let connected = resource.primary_peer().map(Peer::called);
    let apart = facts.others.iter().find(|other| other.primary).map(|other| format!("node {}", other.node));
    let words = match (connected, apart) {
        (Some(peer), _) => format!("BOTH NODES ARE PRIMARY: {peer} is as well; demote one of them"),
        (None, Some(node)) => format!(
            "BOTH NODES ARE PRIMARY, without a connection: {node} is as well, and what they write drifts apart; end one"
        ),
        (None, None) => return Vec::new(),
    };
    vec![words]
}

fn suspended(why: &str) -> String {
    match why {
        "user" => "I/O is suspended by hand; drbdadm resume-io ends that".to_owned(),
        "fencing" => "I/O is suspended until the handler fence-peer has fenced the peer".to_owned(),
        "quorum" => "I/O is suspended: there is no quorum (on-no-quorum suspend-io)".to_owned(),
        "no-data" => "I/O is suspended: no good data is reachable from here".to_owned(),
        other => format!("I/O is suspended: {other}"),
    }
}

fn disk(resource: &Resource, number: u32, volume: &Volume) -> Option<String> {
    if volume.client {
        return None;
    }
    let at_peers: Vec<&Replication> =
        resource.peers.values().filter_map(|peer| peer.volumes.get(&number)).map(|there| &there.replication).collect();
    let resync = at_peers.iter().any(|replication| replication.towards_here());
    match &volume.disk {
        Disk::UpToDate | Disk::Other(_) => None,
        // The sentence on the resync says it, or that on the congestion: DRBD 9 is Outdated while it is Behind.
        Disk::Inconsistent | Disk::Outdated if resync => None,
        Disk::Outdated if at_peers.contains(&&Replication::Behind) => None,
        Disk::Diskless if resource.primary() => Some(format!(
            "volume {number} has lost its disk here: all its I/O goes to the peer, over the network; mend the disk, then \
             drbdadm attach"
        )),
        Disk::Diskless => Some(format!("volume {number} has no disk here; mend it, then drbdadm attach")),
        Disk::Outdated => Some(format!("volume {number} is Outdated here: a peer has newer data")),
        Disk::Inconsistent => Some(format!("volume {number} is Inconsistent here: its data is not usable")),
        Disk::Consistent => Some(format!("volume {number} is Consistent here, perhaps with old data")),
        other => Some(format!("volume {number} is {other} here")),
    }
}

fn connection(facts: &Facts, resource: &Resource, peer: &Peer) -> Option<String> {
    if facts.alone_until_promoted && !resource.primary() {
        return None;
    }
    if peer.connection == Connection::StandAlone {
        return Some(standalone(facts, peer));
    }
    // DRBD 9 knows peers by name, and of several another one may be the one that speaks.
    let speaks = |other: &&Other| peer.node().is_none_or(|name| name == other.node);
    let other = facts.others.iter().find(speaks);
    // That does not pass by itself, and is no sign of a death.
    let refused = other.is_some_and(|other| other.standalone);
    let just_alone = facts.alone_for.is_some_and(|time| time < SETTLES) && !refused;
    if peer.connection.foreign().is_some() || (just_alone && !resource.primary()) {
        return None;
    }
    let alone = resource.primary() && !resource.some_peer_all_up_to_date();
    let copy = if alone { "; what is written is on this node alone" } else { "" };
    let who = match other {
        Some(other) if refused => {
            format!(
                "node {} has given up the connection (StandAlone); drbdadm connect {} there",
                other.node, facts.name
            )
        }
        Some(other) => format!("node {} runs it, so the replication link is cut", other.node),
        None => "it is down, or the replication link is cut".to_owned(),
    };
    Some(format!("{} is not connected ({}): {who}{copy}", peer.called(), peer.connection))
}

/// Both ways out of a split brain. Which data is thrown away only a person can decide.
pub(crate) fn ways_out(name: &str) -> String {
    let discard =
        format!("drbdadm disconnect {name}; drbdadm secondary {name}; drbdadm connect --discard-my-data {name}");
    format!(
        "To keep the data of this node: on the other `{discard}`, and here `drbdadm connect {name}`. To keep the other's: \
         here `{discard}`, and there `drbdadm connect {name}`"
    )
}

/// The ways out are longer than what Pacemaker shows of a reason, so that the beginning has to be enough to find them.
fn standalone(facts: &Facts, peer: &Peer) -> String {
    let (name, peer) = (&facts.name, peer.called());
    match facts.parted {
        Parted::Akin(Kinship::Split) => format!(
            "SPLIT BRAIN: this node and {peer} have both written without the other (StandAlone). What to do is in the log. {}",
            ways_out(name)
        ),
        Parted::Akin(Kinship::Unrelated) => format!(
            "this node and {peer} have data of different origin (StandAlone). What to do is in the log. {}",
            ways_out(name)
        ),
        Parted::WroteAlone => format!(
            "StandAlone; this node has written without {peer}: a SPLIT BRAIN if the other has as well; drbdadm connect {name} on \
             both tells. {}",
            ways_out(name)
        ),
        Parted::Akin(Kinship::Older) => {
            format!("StandAlone: DRBD does not connect to {peer}, which has newer data; drbdadm connect {name}")
        }
        Parted::Unreadable => format!(
            "StandAlone; drbdsetup get-gi fails, so that this may be a SPLIT BRAIN with {peer}; drbdadm connect {name} on both tells."
        ),
        Parted::Akin(Kinship::Same | Kinship::Newer) | Parted::WroteNothing | Parted::Unknown => format!(
            "StandAlone: DRBD does not connect to {peer}; it was disconnected by hand, or the other refused; drbdadm \
             connect {name}"
        ),
    }
}

/// What is wrong with a volume at a connected peer.
fn replication(facts: &Facts, resource: &Resource, peer: &Peer, number: u32, there: &PeerVolume) -> Option<String> {
    let who = peer.called();
    if there.replication.resyncs() {
        if waits_its_turn(resource, number, there) {
            return None;
        }
        return Some(resync(facts, resource, peer, number, there));
    }
    match &there.replication {
        Replication::Ahead => Some(format!("{who} is behind with volume {number}: the link is congested")),
        Replication::Behind => Some(format!("volume {number} is behind {who}: the link is congested")),
        Replication::Established if there.client => None,
        Replication::Established => match (&there.disk, there.out_of_sync) {
            (Disk::UpToDate, Some(kib)) if kib > 0 && here(resource, number) == Some(&Disk::UpToDate) => Some(format!(
                "a verify has found {kib} KiB of volume {number} that differ from {who}: {}",
                copied_anew(facts, resource, peer)
            )),
            (Disk::UpToDate | Disk::Other(_), _) => None,
            // What is wrong on this side is said already.
            (disk, _) if here(resource, number) == Some(&Disk::UpToDate) => {
                let good = |peer: &Peer| peer.volumes.get(&number).is_some_and(|there| there.disk == Disk::UpToDate);
                let second = resource.peers.values().any(|peer| peer.connected() && good(peer));
                let left = if second { "fewer good copies are left" } else { "there is no second good copy" };
                Some(format!("volume {number} is {disk} at {who}: {left}"))
            }
            _ => None,
        },
        _ => None,
    }
}

/// 8.4 with a Primary: a new connection copies what the bitmap says, from the Primary to the other, whichever is right; without
/// one both generations are the same, and nothing is copied ("No resync, but … bits in bitmap", drbd_receiver.c). DRBD 9, which
/// names its peers, then clears the bitmap: what the verify has found is forgotten, and still differs; it has an option for
/// copying just that, in either role (all seen with 9.2.18).
fn copied_anew(facts: &Facts, resource: &Resource, peer: &Peer) -> String {
    let again = format!("drbdadm disconnect {0} and connect {0}", facts.name);
    if peer.node().is_some() {
        format!(
            "drbdadm invalidate --reset-bitmap=no {} on the node that is wrong; do not disconnect before",
            facts.name
        )
    } else if resource.primary() {
        format!("if this node is right, {again} on the other; if not, move the Primary there first")
    } else if peer.role == Role::Primary {
        format!("if the Primary is right, {again} here; if not, move it here first")
    } else {
        format!("drbdadm invalidate {} on the node that is wrong", facts.name)
    }
}

fn here(resource: &Resource, number: u32) -> Option<&Disk> {
    resource.volumes.get(&number).map(|volume| &volume.disk)
}

/// Two nodes that are both brought up to date by a third are in line for each other, and need nothing of each other in the end.
fn waits_its_turn(resource: &Resource, number: u32, there: &PeerVolume) -> bool {
    let mut why = there.resync_suspended.iter();
    let in_line = there.resync_suspended.iter().any(|why| why == "dependency")
        && why.all(|why| matches!(why.as_str(), "peer" | "dependency"));
    let mut at_peers = resource.peers.values().filter_map(|peer| peer.volumes.get(&number));
    in_line && at_peers.any(|other| other.replication.towards_here() && other.disk == Disk::UpToDate)
}

fn resync(facts: &Facts, resource: &Resource, peer: &Peer, number: u32, there: &PeerVolume) -> String {
    let minor = resource.volumes.get(&number).and_then(|volume| volume.minor);
    let (done, left) = minor.and_then(|minor| facts.progress.get(&minor).cloned()).unwrap_or_default();
    let done = there.done.clone().or(done).map(|percent| format!(", {percent} % done"));
    let left = there.eta.map(|seconds| format!("{seconds} s")).or(left).map(|time| format!(", {time} left"));
    // What DRBD 9 says of one that rests comes from before it did.
    let left = left.filter(|_| there.resync_suspended.is_empty());
    let rests = match (there.resync_suspended.is_empty(), &there.replication) {
        (true, Replication::PausedSyncS | Replication::PausedSyncT) => " rests".to_owned(),
        (true, _) => String::new(),
        (false, _) => format!(" rests ({})", there.resync_suspended.join(", ")),
    };
    let direction = if there.replication.towards_here() { "from" } else { "to" };
    let wait = if there.replication.towards_here() { "; the data here is good when it ends" } else { "" };
    let words = [done, left].into_iter().flatten().collect::<String>();
    format!("resync of volume {number} {direction} {}{rests}{words}{wait}", peer.called())
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "judgement_nine_tests.rs"]
mod nine_tests;

#[cfg(test)]
#[path = "judgement_nine_captured_tests.rs"]
mod nine_captured_tests;
