//! Where the chain goes while nothing is promoted: to the node whose database is the better one.

use crate::configure::model::{Member, Place};

/// A node is preferred for the head of the chain by the promotion score that another resource has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preference {
    pub(crate) id: String,
    /// The head of the chain, which is placed first and which all else follows.
    pub(crate) head: Place,
    /// The node attribute with the score.
    pub(crate) attribute: String,
}

/// The node attribute that `crm_attribute --promotion RESOURCE` writes (pcmk_promotion_score_name, Pacemaker 2.1 and 3).
pub(crate) fn score_of(resource: &str) -> String {
    format!("master-{resource}")
}

/// A colocation gives what is placed first the nodes that its followers may run on, and not their promotion scores. DRBD, the
/// same on both nodes, would be promoted where the database has less of the log; that refuses, twice, and is barred from the
/// node for the failure-timeout. So the head of the chain is given the database's score besides its own.
///
/// Its own score is decided by what DRBD has: 10 (data to be fetched from the peer), 1000, 10000. That of the database is 100
/// where it serves, 55 at most elsewhere, and decides between nodes whose DRBD is as good.
///
/// - What serves stays: 100 against at most 55, and what runs on the head has its stickiness (100) besides. While a failed
///   server is started again where it was, it has no score for a moment, or 5, and the stickiness is more than 55 as well. On a
///   DRBD without a file system nothing has that stickiness, and the standby takes over then.
/// - A database that has refused, or lacks what another has, says -INFINITY: nothing of the chain is promoted there, for it
///   would not serve. It goes to the other node, where the database serves, with 100, before the first one has a score again.
///   If that refuses as well (two that have parted) it goes back after 15 s, and that ends: each refusal is a failure, and
///   migration-threshold and failure-timeout allow two of them on a node in ten minutes.
/// - A move by hand prefers a node with INFINITY, which is more than all of this, and less than a refusal.
pub(crate) fn of(chain: &[Member]) -> Option<Preference> {
    let head = chain.first()?;
    let database = chain.iter().skip(1).find(|member| member.primitive.kind == "postgresql")?;
    let database = &database.primitive.id;
    let id = format!("{}-where-{database}", head.primitive.id);
    Some(Preference { id, head: head.place(), attribute: score_of(database) })
}
