use super::*;
use crate::events;
use crate::proc_drbd::ProcDrbd;
use crate::score::{Ladder, Score};

/// A state as it was captured from a real pair, on one of its nodes.
macro_rules! captured {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../captures/", $name, ".events2")),
            include_str!(concat!("../captures/", $name, ".proc")),
        )
    };
}

/// One of a pair under Pacemaker and ocf:linbit:drbd, of which /proc/drbd alone was kept.
macro_rules! under_pacemaker {
    ($name:literal) => {
        ($name, "", include_str!(concat!("../captures/", $name, ".proc")))
    };
}

fn facts((_, events, proc): (&str, &str, &str)) -> Facts {
    let proc = ProcDrbd::parse(proc);
    let resource = if events.is_empty() { proc.resource(&[0]) } else { events::read(events, "r0").unwrap() };
    let progress = proc.devices.into_iter().map(|(minor, device)| (minor, (device.done, device.finish))).collect();
    Facts { name: "r0".into(), resource, progress, ..Facts::default() }
}

/// Like the captured one, changed.
fn changed(captured: (&str, &str, &str), changes: &[(&str, &str)]) -> Facts {
    let mut events = captured.1.to_owned();
    for (old, new) in changes {
        assert!(events.contains(old), "{old} is not in {}", captured.0);
        events = events.replace(old, new);
    }
    Facts { resource: events::read(&events, "r0").unwrap(), ..facts(captured) }
}

fn score(facts: &Facts) -> Score {
    facts.resource.as_ref().map_or(Score::Remove, |resource| Ladder::USUAL.score(resource, false))
}

#[test]
fn every_captured_state_is_what_the_table_says() {
    use Score::{Remove, Set};
    use State::{Degraded, DegradedPromoted, FailedPromoted, NotRunning, Running, RunningPromoted};
    // The state, what monitor says, the score, and some words of the reason.
    let table = [
        (captured!("down-n1"), NotRunning, Remove, ""),
        (captured!("not-configured-n2"), NotRunning, Remove, ""),
        (captured!("connected-inconsistent-n1"), Degraded, Remove, "volume 0 is Inconsistent here"),
        (captured!("connected-inconsistent-n2"), Degraded, Remove, "not usable"),
        (captured!("connected-secondary-secondary-n1"), Running, Set(10_000), ""),
        (captured!("connected-secondary-secondary-n2"), Running, Set(10_000), ""),
        (captured!("connected-primary-secondary-n1"), RunningPromoted, Set(10_000), ""),
        (captured!("connected-primary-secondary-n2"), Running, Set(10_000), ""),
        (captured!("peer-down-n1"), DegradedPromoted, Set(10_000), "the peer is not connected (Connecting)"),
        (captured!("peer-down-n2"), NotRunning, Remove, ""),
        (captured!("peer-killed-n1"), DegradedPromoted, Set(10_000), "on this node alone"),
        (
            captured!("syncing-n1"),
            DegradedPromoted,
            Set(10_000),
            "resync of volume 0 to the peer, 18.2 % done, 0:01:06 left",
        ),
        (captured!("syncing-n2"), Degraded, Set(10), "resync of volume 0 from the peer, 18.2 % done, 0:01:14 left"),
        (captured!("network-cut-n1"), DegradedPromoted, Set(10_000), "or the replication link is cut"),
        (captured!("network-cut-n2"), Degraded, Set(1000), "or the replication link is cut"),
        (captured!("both-primary-cut-n1"), DegradedPromoted, Set(10_000), "not connected (Connecting)"),
        (captured!("both-primary-cut-n2"), DegradedPromoted, Set(10_000), "not connected (Connecting)"),
        (captured!("split-brain-n1"), DegradedPromoted, Set(10_000), "StandAlone"),
        (captured!("split-brain-n2"), Degraded, Set(1000), "StandAlone"),
        (captured!("disconnected-n1"), DegradedPromoted, Set(10_000), "not connected (Connecting)"),
        (captured!("disconnected-n2"), Degraded, Set(1000), "drbdadm connect r0"),
        (captured!("diskless-primary-n1"), DegradedPromoted, Set(10), "volume 0 has lost its disk here"),
        (captured!("diskless-primary-n2"), Degraded, Set(10_000), "volume 0 is Diskless at the peer"),
        (captured!("outdated-n1"), DegradedPromoted, Set(10_000), "not connected"),
        (captured!("outdated-n2"), Degraded, Remove, "volume 0 is Outdated here"),
        // Neither the module nor its file is there; why it could not be loaded start says.
        (("no-module-n1", "", ""), NotRunning, Remove, ""),
        // crm_mon showed the same scores then, which linbit's agent had set.
        (under_pacemaker!("pcmk-healthy-n1"), Running, Set(10_000), ""),
        (under_pacemaker!("pcmk-healthy-n2"), RunningPromoted, Set(10_000), ""),
        (under_pacemaker!("pcmk-standby-n1"), DegradedPromoted, Set(10_000), "the peer is not connected (Connecting)"),
        (under_pacemaker!("pcmk-standby-n2"), NotRunning, Remove, ""),
        (
            under_pacemaker!("pcmk-after-fence-n1"),
            DegradedPromoted,
            Set(10_000),
            "what is written is on this node alone",
        ),
        (under_pacemaker!("pcmk-recovered-n1"), RunningPromoted, Set(10_000), ""),
        (under_pacemaker!("pcmk-recovered-n2"), Running, Set(10_000), ""),
    ];
    for (captured, state, wanted, words) in table {
        let facts = facts(captured);
        let finding = judge(&facts);
        assert_eq!(finding.state, state, "{}: {finding:?}", captured.0);
        assert_eq!(score(&facts), wanted, "{}", captured.0);
        assert_eq!(finding.reason.is_none(), words.is_empty(), "{}: {finding:?}", captured.0);
        assert!(finding.summary.contains(words), "{}: {finding:?}", captured.0);
    }
    let gone = changed(
        captured!("diskless-primary-n1"),
        &[
            ("connection:Connected role:Secondary", "connection:Connecting role:Unknown"),
            ("peer-disk:UpToDate", "peer-disk:DUnknown"),
        ],
    );
    let finding = judge(&gone);
    assert_eq!((finding.state, score(&gone)), (FailedPromoted, Remove), "{finding:?}");
    assert!(finding.summary.contains("Primary without data: volume 0 is Diskless here"), "{finding:?}");
}

#[test]
fn a_lost_peer_is_no_news_yet_to_a_secondary() {
    let after =
        |seconds, captured| judge(&Facts { alone_for: Some(Duration::from_secs(seconds)), ..facts(captured) }).state;
    assert_eq!(after(29, captured!("network-cut-n2")), State::Running);
    assert_eq!(after(30, captured!("network-cut-n2")), State::Degraded);
    assert_eq!(after(0, captured!("network-cut-n1")), State::DegradedPromoted);
    for other in [captured!("split-brain-n2"), captured!("disconnected-n2"), captured!("outdated-n2")] {
        assert_eq!(after(0, other), State::Degraded, "{}", other.0);
    }
}

/// States that the captures do not have: one thing is changed in a captured one.
#[test]
fn what_else_may_be_wrong_is_named() {
    use State::{Degraded, DegradedPromoted, FailedPromoted};
    let primary = captured!("connected-primary-secondary-n1");
    let secondary = captured!("connected-primary-secondary-n2");
    let table = [
        (primary, "suspended:no", "suspended:user", DegradedPromoted, "drbdadm resume-io"),
        (primary, "suspended:no", "suspended:fencing", DegradedPromoted, "fence-peer"),
        (primary, "suspended:no", "suspended:quorum", DegradedPromoted, "no quorum"),
        (primary, "suspended:no", "suspended:no-data", FailedPromoted, "no good data is reachable"),
        (primary, "suspended:no", "suspended:moon", DegradedPromoted, "I/O is suspended: moon"),
        (secondary, "suspended:no", "suspended:no-data", Degraded, "no good data"),
        (primary, "disk:UpToDate", "quorum:no disk:UpToDate", FailedPromoted, "volume 0 has no quorum"),
        (secondary, "disk:UpToDate", "quorum:no disk:UpToDate", Degraded, "cannot be promoted"),
        (primary, "suspended:no", "suspended:no force-io-failures:yes", FailedPromoted, "fails all I/O"),
        (primary, "replication:Established", "replication:Ahead", DegradedPromoted, "is behind with volume 0"),
        (secondary, "replication:Established", "replication:Behind", Degraded, "volume 0 is behind"),
        (primary, "out-of-sync:0", "out-of-sync:48", DegradedPromoted, "a verify has found 48 KiB"),
        (primary, "peer-disk:UpToDate", "peer-disk:Outdated", DegradedPromoted, "volume 0 is Outdated at the peer"),
        (primary, "replication:Established", "replication:PausedSyncS", DegradedPromoted, "to the peer rests"),
        (primary, "role:Secondary", "role:Primary", DegradedPromoted, "BOTH NODES ARE PRIMARY"),
        (primary, " disk:UpToDate", " disk:Quantum", DegradedPromoted, "DRBD says Quantum"),
        (primary, " disk:UpToDate", " disk:Failed", DegradedPromoted, "volume 0 is Failed here"),
        (primary, "connection:Connected", "connection:Entangled", DegradedPromoted, "DRBD says Entangled"),
        (secondary, " disk:UpToDate", " disk:Consistent", Degraded, "perhaps with old data"),
        (secondary, " disk:UpToDate", " disk:Negotiating", Degraded, "volume 0 is Negotiating here"),
    ];
    for (captured, old, new, state, words) in table {
        let finding = judge(&changed(captured, &[(old, new)]));
        assert_eq!(finding.state, state, "{new}: {finding:?}");
        assert!(finding.summary.contains(words), "{new}: {finding:?}");
    }
}

#[test]
fn a_verify_that_runs_and_clients_without_disks_are_no_fault() {
    let primary = captured!("connected-primary-secondary-n1");
    for (old, new) in [
        ("replication:Established", "replication:VerifyS"),
        ("peer-disk:UpToDate", "peer-client:yes peer-disk:Diskless"),
        (" disk:UpToDate", " client:yes disk:Diskless"),
    ] {
        let finding = judge(&changed(primary, &[(old, new)]));
        assert_eq!((finding.state, finding.reason), (State::RunningPromoted, None), "{new}");
    }
}

#[test]
fn how_nodes_parted_decides_what_is_said_of_standalone() {
    let table = [
        (Parted::Unknown, "it was disconnected by hand, or the other refused"),
        (Parted::Unreadable, "drbdsetup get-gi fails, so that this may be a SPLIT BRAIN with the peer"),
        (Parted::WroteNothing, "drbdadm connect r0"),
        (Parted::WroteAlone, "a SPLIT BRAIN if the other has as well"),
        (Parted::Akin(Kinship::Split), "SPLIT BRAIN: this node and the peer have both written"),
        (Parted::Akin(Kinship::Unrelated), "data of different origin"),
        (Parted::Akin(Kinship::Older), "which has newer data"),
        (Parted::Akin(Kinship::Newer), "drbdadm connect r0"),
    ];
    for (parted, words) in table {
        let finding = judge(&Facts { parted, ..facts(captured!("split-brain-n1")) });
        assert_eq!(finding.state, State::DegradedPromoted);
        assert!(finding.summary.contains(words), "{parted:?}: {finding:?}");
        let both = finding.summary.matches("--discard-my-data r0").count();
        let wanted = match parted {
            Parted::WroteAlone | Parted::Akin(Kinship::Split | Kinship::Unrelated) => 2,
            _ => 0,
        };
        assert_eq!(both, wanted, "{finding:?}");
        // Pacemaker shows 127 bytes of a reason.
        let reason = finding.reason.unwrap_or_default();
        let shown = reason.get(..127).unwrap_or(&reason);
        let ended = ["in the log.", "on both tells.", "drbdadm connect r0"].iter().any(|words| shown.contains(words));
        assert!(ended, "cut off before it says what to do: {shown}");
    }
}

#[test]
fn what_the_cluster_knows_of_the_other_node_is_said() {
    let cut = facts(captured!("both-primary-cut-n1"));
    let other = |primary| vec![Other { node: "n2".into(), primary, standalone: false }];
    let finding = judge(&Facts { others: other(true), ..cut.clone() });
    assert!(finding.summary.starts_with("BOTH NODES ARE PRIMARY, without a connection: node n2"), "{finding:?}");
    let finding = judge(&Facts { others: other(false), ..cut });
    assert!(finding.summary.contains("node n2 runs it, so the replication link is cut"), "{finding:?}");
    // That the other does not connect lasts until somebody sees to it.
    let gave_up = vec![Other { node: "n1".into(), primary: true, standalone: true }];
    let alone_for = Some(Duration::ZERO);
    let finding = judge(&Facts { others: gave_up, alone_for, ..facts(captured!("network-cut-n2")) });
    assert_eq!(finding.state, State::Degraded);
    let words = "node n1 has given up the connection (StandAlone); drbdadm connect r0 there";
    assert!(finding.summary.contains(words), "{finding:?}");
}

#[test]
fn settings_decide_what_is_meant() {
    let alone = Facts { alone_until_promoted: true, ..facts(captured!("disconnected-n2")) };
    assert_eq!(judge(&alone).state, State::Running);
    let two = changed(captured!("connected-primary-secondary-n1"), &[("role:Secondary", "role:Primary")]);
    assert_eq!(judge(&Facts { two_primaries: true, ..two }).state, State::RunningPromoted);
    let broken =
        Facts { besides: vec!["drbd.conf is broken".into()], ..facts(captured!("connected-primary-secondary-n1")) };
    assert_eq!(judge(&broken).state, State::DegradedPromoted);
    let taken = Facts { started: true, ..facts(captured!("down-n1")) };
    let finding = judge(&taken);
    assert!(finding.state == State::NotRunning && finding.summary.contains("by hand?"), "{finding:?}");
}

#[test]
fn the_score_climbs_the_ladder() {
    use Score::{Keep, Remove, Set};
    let secondary = captured!("connected-primary-secondary-n2");
    let table = [
        (vec![(" disk:UpToDate", " disk:Consistent"), ("peer-disk:UpToDate", "peer-disk:DUnknown")], Remove),
        (vec![(" disk:UpToDate", " disk:Negotiating"), ("peer-disk:UpToDate", "peer-disk:DUnknown")], Keep),
        (vec![("peer-disk:UpToDate", "peer-disk:Inconsistent")], Set(10_000)),
        (vec![("peer-disk:UpToDate", "peer-disk:DUnknown")], Set(1000)),
        (vec![(" disk:UpToDate", " disk:Diskless")], Set(10)),
        (vec![(" disk:UpToDate", " client:yes disk:Diskless")], Set(9999)),
        (vec![(" disk:UpToDate", " client:yes disk:Diskless"), ("peer-disk:UpToDate", "peer-disk:Outdated")], Remove),
        (vec![(" disk:UpToDate", " disk:UpToDate quorum:no")], Remove),
    ];
    for (changes, wanted) in table {
        assert_eq!(score(&changed(secondary, &changes)), wanted, "{changes:?}");
    }
    let resource = facts(secondary).resource.unwrap();
    assert_eq!(Ladder::USUAL.score(&resource, true), Remove);
    let high = Ladder { only_consistent: 5, ..Ladder::USUAL };
    let consistent =
        changed(secondary, &[(" disk:UpToDate", " disk:Consistent"), ("peer-disk:UpToDate", "peer-disk:DUnknown")]);
    assert_eq!(high.score(&consistent.resource.unwrap(), false), Set(5));
}
