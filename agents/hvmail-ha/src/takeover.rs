//! Whether a node may become Primary: from facts to obstacles. Nothing is read or touched here. A wrong answer costs a
//! company its mail, so every combination of the facts is in the tests.

/// How the node that is to become Primary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Online,
    Standby,
    Maintenance,
    /// Joining, or about to leave.
    Passing,
    Offline,
}

/// How the other node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A cluster of one.
    None,
    /// It has the role, wholly or in part, and can give it away.
    Primary,
    /// Online without the role.
    Secondary,
    /// The same, and its database does not run: nobody can compare with it.
    Idle,
    /// It has left in good order, or was fenced.
    Down,
    /// Not in the cluster, and nobody made sure that it is off: fencing is disabled.
    Unproven,
    /// It is to be fenced, and that has not succeeded.
    Unclean,
}

/// How the target's database stands to the one that was written to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Database {
    /// The pair has none.
    None,
    /// It is the last primary, or streams.
    Level,
    /// It has streamed; nobody can tell whether it has everything.
    Streamed,
    /// It has not streamed since its start, or not enough.
    Unstreamed,
    /// It says itself that it lags, parted, or lacks something.
    Unfit,
    /// A node that is not there acknowledged what it lacks.
    Lacks,
    /// It says nothing.
    Unknown,
}

/// How the target's DRBD devices are, as their agent scores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    None,
    UpToDate,
    NotUpToDate,
}

/// Everything the decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are so or not")]
pub(crate) struct Facts {
    pub(crate) target: Target,
    pub(crate) peer: Peer,
    pub(crate) quorum: bool,
    pub(crate) maintenance: bool,
    /// Something is promoted on two nodes, on one of them without the cluster's order.
    pub(crate) twice: bool,
    /// Another node's command is moving the role at this moment.
    pub(crate) moving: bool,
    /// `hvmail_make_secondary --stop` took the role from the peer, and the target was not Primary since.
    pub(crate) peer_was_last: bool,
    /// The same command took it from the target.
    pub(crate) was_last: bool,
    pub(crate) database: Database,
    pub(crate) disk: Disk,
    /// Addresses of the pair answer on the wire though no node of the cluster has them.
    pub(crate) answering: bool,
    /// Somebody's constraint or target-role keeps the role from the target.
    pub(crate) held: bool,
    /// Resources whose failures keep them away from the target.
    pub(crate) failed: bool,
    /// Other resources that would not be promoted there, or not as they should.
    pub(crate) unready: bool,
    /// A daemon of the cluster on this node does not answer.
    pub(crate) unseen: bool,
}

/// What stands in the way; in the order of importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Obstacle {
    Twice,
    PeerUnclean,
    PeerUnproven,
    AddressesAnswer,
    DatabaseUnfit,
    DatabaseUnknown,
    PeerHasMore,
    DiskNotUpToDate,
    TargetOffline,
    NoQuorum,
    Maintenance,
    TargetMaintenance,
    TargetPassing,
    TargetStandby,
    Moving,
    Held,
    Failed,
    Unready,
    Unseen,
}

/// What an operator may say to have it done all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing: the cluster would not do it, or must not.
    None,
    /// `--force`: it loses no data.
    Force,
    /// `--accept-data-loss=WHAT`.
    Loss(&'static str),
}

/// What `--accept-data-loss` may name.
pub(crate) const LOSSES: [&str; 2] = ["peer-unseen", "database"];

impl Obstacle {
    pub(crate) fn way(self) -> Way {
        match self {
            Self::PeerUnproven => Way::Loss("peer-unseen"),
            Self::PeerHasMore => Way::Loss("database"),
            Self::Failed | Self::Unready | Self::Unseen => Way::Force,
            _ => Way::None,
        }
    }
}

/// Everything that stands in the way, the most important first.
pub(crate) fn obstacles(facts: &Facts) -> Vec<Obstacle> {
    use Obstacle as O;
    let planned = facts.peer == Peer::Primary;
    let together = matches!(facts.peer, Peer::Primary | Peer::Secondary);
    let database = match facts.database {
        Database::Unfit => Some(O::DatabaseUnfit),
        // While the primary is there, a standby that does not stream cannot receive the rest.
        Database::Streamed | Database::Unstreamed if planned => Some(O::DatabaseUnfit),
        // Another node that is there may have everything.
        Database::Lacks if together => Some(O::DatabaseUnfit),
        Database::Unknown => Some(O::DatabaseUnknown),
        Database::None | Database::Level | Database::Streamed | Database::Unstreamed | Database::Lacks => None,
    };
    // Two that are online compare their logs before either is promoted. One alone would not know what it lacks.
    let peer_was_last = facts.peer_was_last && facts.database != Database::None;
    // Started anew after the role was taken from it, the last primary has everything.
    let untold = facts.database == Database::Unstreamed && !facts.was_last && facts.peer != Peer::None;
    let lacking = !together && (peer_was_last || untold || facts.database == Database::Lacks);
    let all = [
        facts.twice.then_some(O::Twice),
        (facts.peer == Peer::Unclean).then_some(O::PeerUnclean),
        (facts.peer == Peer::Unproven).then_some(O::PeerUnproven),
        facts.answering.then_some(O::AddressesAnswer),
        database,
        lacking.then_some(O::PeerHasMore),
        (facts.disk == Disk::NotUpToDate).then_some(O::DiskNotUpToDate),
        (!facts.quorum).then_some(O::NoQuorum),
        facts.maintenance.then_some(O::Maintenance),
        match facts.target {
            Target::Online => None,
            Target::Standby => Some(O::TargetStandby),
            Target::Maintenance => Some(O::TargetMaintenance),
            Target::Passing => Some(O::TargetPassing),
            Target::Offline => Some(O::TargetOffline),
        },
        facts.moving.then_some(O::Moving),
        facts.held.then_some(O::Held),
        facts.failed.then_some(O::Failed),
        facts.unready.then_some(O::Unready),
        facts.unseen.then_some(O::Unseen),
    ];
    let mut all: Vec<_> = all.into_iter().flatten().collect();
    all.sort_unstable();
    all
}

/// What is left of the obstacles once the operator has said what he accepts.
pub(crate) fn remaining(obstacles: &[Obstacle], force: bool, losses: &[String]) -> Vec<Obstacle> {
    let stays = |obstacle: &Obstacle| match obstacle.way() {
        Way::None => true,
        Way::Force => !force,
        Way::Loss(what) => !losses.iter().any(|loss| loss == what),
    };
    obstacles.iter().copied().filter(stays).collect()
}

#[cfg(test)]
#[path = "takeover_tests.rs"]
mod tests;
