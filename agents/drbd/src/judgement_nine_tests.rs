//! DRBD 9: several peers, quorum, nodes without disks. The text is what drbd-utils 9.22 to 9.31 print
//! (`drbdsetup-events2(8)`, drbdsetup_events2.c), with two volumes and all statistics.

use super::*;
use crate::events;
use crate::score::{Ladder, Score};

const THREE_NODES: &str = "\
exists resource name:mail role:Primary suspended:no force-io-failures:no write-ordering:flush may_promote:no promotion_score:10103
exists connection name:mail peer-node-id:1 conn-name:n2 connection:Connected role:Secondary tls:no congested:no ap-in-flight:0 rs-in-flight:0
exists connection name:mail peer-node-id:2 conn-name:n3 connection:Connected role:Secondary tls:no congested:no ap-in-flight:0 rs-in-flight:0
exists device name:mail volume:0 minor:1000 backing_dev:/dev/vg/mail disk:UpToDate client:no open:yes quorum:yes size:1048576 read:5 \
written:9 al-writes:1 bm-writes:0 upper-pending:0 lower-pending:0 al-suspended:no blocked:no
exists device name:mail volume:1 minor:1001 backing_dev:/dev/vg/queue disk:UpToDate client:no open:no quorum:yes size:1048576 read:5 \
written:9 al-writes:1 bm-writes:0 upper-pending:0 lower-pending:0 al-suspended:no blocked:no
exists peer-device name:mail peer-node-id:1 conn-name:n2 volume:0 replication:Established peer-disk:UpToDate peer-client:no \
resync-suspended:no received:0 sent:9 out-of-sync:0 pending:0 unacked:0
exists peer-device name:mail peer-node-id:1 conn-name:n2 volume:1 replication:Established peer-disk:UpToDate peer-client:no \
resync-suspended:no received:0 sent:9 out-of-sync:0 pending:0 unacked:0
exists path name:mail peer-node-id:1 conn-name:n2 local:ipv4:10.0.0.1:7000 peer:ipv4:10.0.0.2:7000 established:yes
exists peer-device name:mail peer-node-id:2 conn-name:n3 volume:0 replication:Established peer-disk:UpToDate peer-client:no \
resync-suspended:no received:0 sent:9 out-of-sync:0 pending:0 unacked:0
exists peer-device name:mail peer-node-id:2 conn-name:n3 volume:1 replication:Established peer-disk:UpToDate peer-client:no \
resync-suspended:no received:0 sent:9 out-of-sync:0 pending:0 unacked:0
exists path name:mail peer-node-id:2 conn-name:n3 local:ipv4:10.0.0.1:7001 peer:ipv4:10.0.0.3:7001 established:yes
exists -
";

/// What changes of a whole: a piece of a line that has all of these words, and what stands there instead.
type Change = (&'static [&'static str], &'static str, &'static str);

fn nine(changes: &[Change]) -> Facts {
    let mut lines: Vec<String> = THREE_NODES.lines().map(str::to_owned).collect();
    for (words, old, new) in changes {
        let mut found = 0;
        for line in lines.iter_mut().filter(|line| words.iter().all(|word| line.contains(word)) && line.contains(old)) {
            *line = line.replace(old, new);
            found += 1;
        }
        assert!(found > 0, "no line has {words:?} and {old:?}");
    }
    let resource = events::read(&lines.join("\n"), "mail").unwrap();
    Facts { name: "mail".into(), resource, ..Facts::default() }
}

fn score(facts: &Facts) -> Score {
    facts.resource.as_ref().map_or(Score::Remove, |resource| Ladder::USUAL.score(resource, false))
}

const SECONDARY: Change = (&["resource "], "role:Primary", "role:Secondary");
const N2_PRIMARY: Change = (&["connection ", ":n2 "], "role:Secondary", "role:Primary");
const N2_GONE: [Change; 3] = [
    (&["connection ", ":n2 "], "connection:Connected role:Secondary", "connection:Connecting role:Unknown"),
    (&["peer-device ", ":n2 "], "replication:Established", "replication:Off"),
    (&["peer-device ", ":n2 "], "peer-disk:UpToDate", "peer-disk:DUnknown"),
];
const N3_GONE: [Change; 3] = [
    (&["connection ", ":n3 "], "connection:Connected role:Secondary", "connection:Connecting role:Unknown"),
    (&["peer-device ", ":n3 "], "replication:Established", "replication:Off"),
    (&["peer-device ", ":n3 "], "peer-disk:UpToDate", "peer-disk:DUnknown"),
];
const NO_QUORUM: Change = (&["device ", "backing_dev"], "quorum:yes", "quorum:no");
const CLIENT: [Change; 2] = [
    (&["device ", "backing_dev"], "disk:UpToDate", "disk:Diskless"),
    (&["device ", "backing_dev"], "client:no", "client:yes"),
];
/// n3 has no disks on purpose, and gives its vote.
const N3_TIE_BREAKER: [Change; 2] = [
    (&["peer-device ", ":n3 "], "peer-disk:UpToDate", "peer-disk:Diskless"),
    (&["peer-device ", ":n3 "], "peer-client:no", "peer-client:yes"),
];

#[test]
fn every_state_of_three_nodes_is_what_the_table_says() {
    use Score::{Remove, Set};
    use State::{Degraded, DegradedPromoted, FailedPromoted, Running, RunningPromoted};
    let table: &[(&[&[Change]], State, Score, &str)] = &[
        (&[], RunningPromoted, Set(10_000), ""),
        (&[&[SECONDARY]], Running, Set(10_000), ""),
        (&[&[SECONDARY, N2_PRIMARY]], Running, Set(10_000), ""),
        (&[&N3_TIE_BREAKER], RunningPromoted, Set(10_000), ""),
        (&[&[SECONDARY], &CLIENT], Running, Set(9999), ""),
        (&[&CLIENT], RunningPromoted, Set(9999), ""),
        // One of two copies is enough for a promotion, but not for nothing to be said.
        (&[&N3_GONE], DegradedPromoted, Set(10_000), "peer n3 is not connected (Connecting)"),
        (&[&[SECONDARY], &N3_GONE], Degraded, Set(1000), "peer n3 is not connected (Connecting)"),
        (&[&[SECONDARY, N2_PRIMARY], &N3_GONE], Degraded, Set(10_000), "peer n3 is not connected (Connecting)"),
        (&[&CLIENT, &N3_GONE], DegradedPromoted, Set(9999), "peer n3 is not connected"),
        (&[&[SECONDARY], &CLIENT, &N3_GONE], Degraded, Set(999), "peer n3 is not connected"),
        (&[&N2_GONE, &N3_GONE], DegradedPromoted, Set(10_000), "what is written is on this node alone"),
        (&[&CLIENT, &N2_GONE, &N3_GONE], FailedPromoted, Remove, "Primary without data: volume 0 is Diskless here"),
        // Quorum, with on-no-quorum io-error and suspend-io.
        (&[&N2_GONE, &N3_GONE, &[NO_QUORUM]], FailedPromoted, Remove, "volume 0 has no quorum: its I/O fails"),
        (
            &[&N2_GONE, &N3_GONE, &[NO_QUORUM, (&["resource "], "suspended:no", "suspended:quorum")]],
            DegradedPromoted,
            Remove,
            "I/O is suspended: there is no quorum",
        ),
        (
            &[&N2_GONE, &N3_GONE, &[SECONDARY, NO_QUORUM]],
            Degraded,
            Remove,
            "volume 1 has no quorum, so it cannot be promoted",
        ),
        (
            &[&[(&["resource "], "suspended:no", "suspended:no-data,quorum")]],
            FailedPromoted,
            Set(10_000),
            "no good data is reachable",
        ),
        // A resync to one, while the other is good; and two at a time.
        (
            &[&[
                (&["peer-device ", ":n3 ", "volume:1"], "replication:Established", "replication:SyncSource"),
                (&["peer-device ", ":n3 ", "volume:1"], "peer-disk:UpToDate", "peer-disk:Inconsistent"),
                (&["peer-device ", ":n3 ", "volume:1"], "unacked:0", "unacked:0 done:37.50 dbdt1:0.24 eta:10"),
            ]],
            DegradedPromoted,
            Set(10_000),
            "resync of volume 1 to peer n3, 37.50 % done, 10 s left",
        ),
        (
            &[&[
                SECONDARY,
                (&["device ", "backing_dev", "volume:0"], "disk:UpToDate", "disk:Inconsistent"),
                (&["peer-device ", ":n2 ", "volume:0"], "replication:Established", "replication:SyncTarget"),
                (&["peer-device ", ":n3 ", "volume:0"], "replication:Established", "replication:PausedSyncT"),
                (&["peer-device ", ":n3 ", "volume:0"], "resync-suspended:no", "resync-suspended:user,dependency"),
                (&["peer-device ", "volume:0"], "unacked:0", "unacked:0 done:1.00 eta:nan"),
            ]],
            Degraded,
            Set(10),
            "resync of volume 0 from peer n3 rests (user, dependency), 1.00 % done; the data here is good",
        ),
        (
            &[&[(&["peer-device ", ":n2 ", "volume:1"], "out-of-sync:0", "out-of-sync:8")]],
            DegradedPromoted,
            Set(10_000),
            "a verify has found 8 KiB of volume 1 that differ from peer n2",
        ),
        (
            &[&[(&["peer-device ", ":n3 "], "replication:Established", "replication:Ahead")]],
            DegradedPromoted,
            Set(10_000),
            "peer n3 is behind with volume 0: the link is congested",
        ),
        (&[&[N2_PRIMARY]], DegradedPromoted, Set(10_000), "BOTH NODES ARE PRIMARY: peer n2 is as well"),
        (
            &[&[(&["resource "], "force-io-failures:no", "force-io-failures:yes")]],
            FailedPromoted,
            Set(10_000),
            "DRBD fails all I/O",
        ),
    ];
    for (changes, state, wanted, words) in table {
        let facts = nine(&changes.concat());
        let finding = judge(&facts);
        assert_eq!((finding.state, score(&facts)), (*state, *wanted), "{changes:?}: {finding:?}");
        assert_eq!(finding.reason.is_none(), words.is_empty(), "{changes:?}: {finding:?}");
        assert!(finding.summary.contains(words), "{words:?}: {finding:?}");
    }
}

#[test]
fn with_a_second_good_copy_nobody_is_said_to_be_alone() {
    let finding = judge(&nine(&N3_GONE));
    assert!(!finding.summary.contains("alone"), "{finding:?}");
}

/// n2 tells what it sees because it misses n3 as well.
#[test]
fn what_another_node_says_is_not_taken_for_the_lost_one() {
    let of = |node: &str| vec![Other { node: node.into(), primary: false, standalone: false }];
    let told = |node| judge(&Facts { others: of(node), ..nine(&N3_GONE) }).summary;
    assert!(told("n2").contains("it is down, or the replication link is cut"), "{}", told("n2"));
    assert!(told("n3").contains("node n3 runs it, so the replication link is cut"), "{}", told("n3"));
}

#[test]
fn a_split_brain_with_one_of_two_peers_names_that_one() {
    let apart: Change = (&["connection ", ":n3 "], "connection:Connecting", "connection:StandAlone");
    let facts = Facts { parted: Parted::Akin(Kinship::Split), ..nine(&[&N3_GONE[..], &[apart]].concat()) };
    let finding = judge(&facts);
    assert!(finding.summary.starts_with("SPLIT BRAIN: this node and peer n3 have both written"), "{finding:?}");
}

#[test]
fn words_and_kinds_of_a_later_drbd_are_no_obstacle() {
    let facts = nine(&[
        (&["path ", ":n2 "], "exists path", "exists wormhole"),
        (&["resource "], "may_promote:no promotion_score:10103", "may_promote:perhaps promotion_score:many colour:red"),
    ]);
    assert_eq!(judge(&facts).state, State::RunningPromoted);
}

/// A Secondary is not to outdate itself for a promoted node that it is connected to, because a third is down.
#[test]
fn of_several_peers_the_promoted_one_is_looked_at() {
    let resource = nine(&[&[SECONDARY, N2_PRIMARY][..], &N3_GONE].concat()).resource.unwrap();
    let unknown = |node| resource.unknown_at(node);
    assert_eq!((unknown("n2"), unknown("n3"), unknown("elsewhere")), (false, true, true));
}
