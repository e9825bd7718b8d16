use super::*;

const TARGETS: [Target; 5] = [Target::Online, Target::Standby, Target::Maintenance, Target::Passing, Target::Offline];
const PEERS: [Peer; 7] =
    [Peer::None, Peer::Primary, Peer::Secondary, Peer::Idle, Peer::Down, Peer::Unproven, Peer::Unclean];
const DATABASES: [Database; 7] = [
    Database::None,
    Database::Level,
    Database::Streamed,
    Database::Unstreamed,
    Database::Unfit,
    Database::Lacks,
    Database::Unknown,
];
const DISKS: [Disk; 3] = [Disk::None, Disk::UpToDate, Disk::NotUpToDate];

fn sound() -> Facts {
    Facts {
        target: Target::Online,
        peer: Peer::Primary,
        quorum: true,
        maintenance: false,
        twice: false,
        moving: false,
        peer_was_last: false,
        was_last: false,
        database: Database::Level,
        disk: Disk::UpToDate,
        answering: false,
        held: false,
        failed: false,
        unready: false,
        unseen: false,
    }
}

fn every_combination(mut see: impl FnMut(&Facts)) {
    for (target, peer) in TARGETS.iter().flat_map(|target| PEERS.map(|peer| (*target, peer))) {
        for (database, disk) in DATABASES.iter().flat_map(|database| DISKS.map(|disk| (*database, disk))) {
            for bits in 0_u32..2048 {
                let bit = |number: u32| bits >> number & 1 == 1;
                see(&Facts {
                    target,
                    peer,
                    database,
                    disk,
                    quorum: bit(0),
                    maintenance: bit(1),
                    moving: bit(2),
                    peer_was_last: bit(3),
                    answering: bit(4),
                    failed: bit(5),
                    unready: bit(6),
                    held: bit(7),
                    twice: bit(8),
                    unseen: bit(9),
                    was_last: bit(10),
                });
            }
        }
    }
}

/// The whole table again, as the rules an administrator would state, each by itself.
#[test]
fn every_combination_is_decided_by_the_rules() {
    use Obstacle as O;
    let mut seen = 0;
    every_combination(|facts| {
        seen += 1;
        let found = obstacles(facts);
        let rule = |obstacle: O, holds: bool| {
            assert_eq!(found.contains(&obstacle), holds, "{obstacle:?} with {facts:?}");
        };
        rule(O::Twice, facts.twice);
        rule(O::PeerUnclean, facts.peer == Peer::Unclean);
        rule(O::PeerUnproven, facts.peer == Peer::Unproven);
        rule(O::AddressesAnswer, facts.answering);
        let cut_off =
            facts.peer == Peer::Primary && matches!(facts.database, Database::Streamed | Database::Unstreamed);
        let peer_is_there = facts.peer == Peer::Primary || facts.peer == Peer::Secondary;
        let lacks = facts.database == Database::Lacks;
        rule(O::DatabaseUnfit, facts.database == Database::Unfit || cut_off || (lacks && peer_is_there));
        rule(O::DatabaseUnknown, facts.database == Database::Unknown);
        let was_last = facts.peer_was_last && facts.database != Database::None;
        let alone = facts.peer != Peer::None && facts.database == Database::Unstreamed && !facts.was_last;
        rule(O::PeerHasMore, !peer_is_there && (was_last || lacks || alone));
        rule(O::DiskNotUpToDate, facts.disk == Disk::NotUpToDate);
        rule(O::TargetOffline, facts.target == Target::Offline);
        rule(O::NoQuorum, !facts.quorum);
        rule(O::Maintenance, facts.maintenance);
        rule(O::TargetMaintenance, facts.target == Target::Maintenance);
        rule(O::TargetPassing, facts.target == Target::Passing);
        rule(O::TargetStandby, facts.target == Target::Standby);
        rule(O::Moving, facts.moving);
        rule(O::Held, facts.held);
        rule(O::Failed, facts.failed);
        rule(O::Unready, facts.unready);
        rule(O::Unseen, facts.unseen);
        assert!(found.is_sorted(), "{found:?}");
    });
    assert_eq!(seen, 5 * 7 * 7 * 3 * 2048);
}

/// Whatever an operator says, these never come through.
#[test]
fn nothing_that_an_operator_says_makes_two_primaries() {
    let losses = LOSSES.map(str::to_owned);
    every_combination(|facts| {
        let left = remaining(&obstacles(facts), true, &losses);
        let must_not = facts.twice
            || facts.peer == Peer::Unclean
            || facts.answering
            || matches!(facts.database, Database::Unfit | Database::Unknown)
            || facts.disk == Disk::NotUpToDate
            || !facts.quorum
            || facts.target != Target::Online
            || facts.maintenance
            || facts.moving
            || facts.held;
        let cut_off =
            facts.peer == Peer::Primary && matches!(facts.database, Database::Streamed | Database::Unstreamed);
        let together = matches!(facts.peer, Peer::Primary | Peer::Secondary);
        let lacks = together && facts.database == Database::Lacks;
        assert_eq!(left.is_empty(), !must_not && !cut_off && !lacks, "{left:?} with {facts:?}");
    });
}

/// Without a word from the operator nothing is done that could lose data.
#[test]
fn force_alone_loses_nothing() {
    every_combination(|facts| {
        let left = remaining(&obstacles(facts), true, &[]);
        if left.is_empty() {
            let proven = !matches!(facts.peer, Peer::Unproven | Peer::Unclean);
            let together = matches!(facts.peer, Peer::Primary | Peer::Secondary);
            assert!(proven && (!facts.peer_was_last || together || facts.database == Database::None), "{facts:?}");
            assert_ne!(facts.database, Database::Lacks, "{facts:?}");
            let untold = facts.database == Database::Unstreamed && facts.peer != Peer::None && !facts.was_last;
            assert!(!untold || facts.peer == Peer::Secondary, "{facts:?}");
        }
    });
}

#[test]
fn what_the_operator_says_is_for_what_he_named_only() {
    let unseen = Facts { peer: Peer::Unproven, peer_was_last: true, ..sound() };
    let all = obstacles(&unseen);
    assert_eq!(all, [Obstacle::PeerUnproven, Obstacle::PeerHasMore]);
    assert_eq!(remaining(&all, true, &[]), all);
    assert_eq!(remaining(&all, false, &["database".to_owned()]), [Obstacle::PeerUnproven]);
    assert_eq!(remaining(&all, false, &["peer-unseen".to_owned()]), [Obstacle::PeerHasMore]);
    assert_eq!(remaining(&all, false, &LOSSES.map(str::to_owned)), []);
    assert_eq!(obstacles(&sound()), []);
}
