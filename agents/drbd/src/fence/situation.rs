//! From what the cluster and DRBD say to what is done and what DRBD is told. Nothing is read or touched here.

use crate::Verdict;
use crate::cib::NodeState;
use crate::disks::Disks;

/// What the cluster says of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its controller is in the cluster; whether it answers is to be asked.
    Online,
    /// Gone, and expected to be: fenced, or shut down.
    Fenced,
    /// Gone, and nobody will fence it.
    Gone,
    /// The cluster will fence it, or has not decided yet: another look tells more.
    Undecided,
}

/// The rules are those of Pacemaker's scheduler (`determine_online_status_fencing`, unpack.c).
pub(crate) fn standing(state: Option<&NodeState>, fencing: bool, startup_fencing: bool) -> Standing {
    let Some(state) = state else {
        return if fencing && startup_fencing { Standing::Undecided } else { Standing::Gone };
    };
    let member = state.member.unwrap_or(false);
    if state.online && !state.banned && member {
        return Standing::Online;
    }
    if !member && !state.online && state.expected_down && state.member.is_some() {
        return Standing::Fenced;
    }
    if fencing || state.online { Standing::Undecided } else { Standing::Gone }
}

/// What is known of all peers that are to be kept away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peers {
    pub(crate) all_reachable: bool,
    pub(crate) all_fenced: bool,
}

/// Whether a constraint is placed, and what DRBD is told if that succeeds. None: nothing is placed, and DRBD is told that.
pub(crate) fn decide(disks: Disks, peers: Peers) -> (bool, Verdict) {
    if !disks.configured || disks.peers_up_to_date {
        return (false, Verdict::Failed);
    }
    if peers.all_reachable && disks.all_consistent {
        return (true, Verdict::Outdated);
    }
    // That a peer was shot makes merely consistent data no better.
    if peers.all_fenced && disks.all_up_to_date {
        return (true, Verdict::Stonithed);
    }
    if disks.all_up_to_date {
        return (true, Verdict::Unreachable);
    }
    (false, Verdict::Unreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cluster_says_of_a_peer() {
        let state = |member, online, expected_down| NodeState { member, online, banned: false, expected_down };
        let table = [
            (Some(state(Some(true), true, false)), Standing::Online),
            (Some(state(Some(false), false, true)), Standing::Fenced),
            (Some(state(Some(false), false, false)), Standing::Undecided),
            (Some(state(Some(false), true, false)), Standing::Undecided),
            (Some(state(Some(true), false, false)), Standing::Undecided),
            (Some(state(None, false, true)), Standing::Undecided),
            (None, Standing::Undecided),
        ];
        for (state, wanted) in table {
            assert_eq!(standing(state.as_ref(), true, true), wanted, "{state:?}");
        }
        assert_eq!(standing(None, true, false), Standing::Gone);
        assert_eq!(standing(Some(&state(Some(false), false, false)), false, true), Standing::Gone);
    }

    #[test]
    fn good_data_and_a_known_peer_decide() {
        let good = Disks { configured: true, all_consistent: true, all_up_to_date: true, peers_up_to_date: false };
        let old = Disks { all_up_to_date: false, ..good };
        let bad = Disks { all_consistent: false, ..old };
        let peers = |all_reachable, all_fenced| Peers { all_reachable, all_fenced };
        let table = [
            (good, peers(true, false), (true, Verdict::Outdated)),
            (old, peers(true, false), (true, Verdict::Outdated)),
            (bad, peers(true, false), (false, Verdict::Unreachable)),
            (good, peers(false, true), (true, Verdict::Stonithed)),
            (old, peers(false, true), (false, Verdict::Unreachable)),
            (good, peers(false, false), (true, Verdict::Unreachable)),
            (old, peers(false, false), (false, Verdict::Unreachable)),
            (Disks { peers_up_to_date: true, ..good }, peers(true, false), (false, Verdict::Failed)),
            (Disks::default(), peers(true, true), (false, Verdict::Failed)),
        ];
        for (disks, peers, wanted) in table {
            assert_eq!(decide(disks, peers), wanted, "{disks:?} {peers:?}");
        }
    }
}
