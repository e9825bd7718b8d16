//! What DRBD 9.2.18 said in two and three guests (`drbdsetup events2` of drbd-utils 9.22), state by state.

use super::*;
use crate::events;
use crate::proc_drbd::ProcDrbd;
use crate::score::{Ladder, Score};

/// A state as it was captured on one node.
macro_rules! captured {
    ($name:literal) => {
        ($name, include_str!(concat!("../captures/nine/", $name, ".events2")))
    };
}

fn facts((_, events): (&str, &str)) -> Facts {
    Facts { name: "r0".into(), resource: events::read(events, "r0").unwrap(), ..Facts::default() }
}

fn score(facts: &Facts) -> Score {
    facts.resource.as_ref().map_or(Score::Remove, |resource| Ladder::USUAL.score(resource, false))
}

/// The state, what monitor says, the score, and some words of the reason.
type Row = ((&'static str, &'static str), State, Score, &'static str);

fn is_so(table: &[Row]) {
    for (captured, state, wanted, words) in table {
        let facts = facts(*captured);
        let finding = judge(&facts);
        assert_eq!(finding.state, *state, "{}: {finding:?}", captured.0);
        assert_eq!(score(&facts), *wanted, "{}", captured.0);
        assert_eq!(finding.reason.is_none(), words.is_empty(), "{}: {finding:?}", captured.0);
        assert!(finding.summary.contains(words), "{}: {finding:?}", captured.0);
    }
}

#[test]
fn every_captured_state_of_a_pair_is_what_the_table_says() {
    use Score::{Remove, Set};
    use State::{Degraded, DegradedPromoted, FailedPromoted, NotRunning, Running, RunningPromoted};
    let table: &[Row] = &[
        (captured!("down-n1"), NotRunning, Remove, ""),
        (captured!("connected-inconsistent-n1"), Degraded, Remove, "volume 0 is Inconsistent here"),
        (captured!("connected-inconsistent-n2"), Degraded, Remove, "volume 0 is Inconsistent here"),
        (captured!("connected-secondary-secondary-n1"), Running, Set(10_000), ""),
        (captured!("connected-secondary-secondary-n2"), Running, Set(10_000), ""),
        (captured!("connected-primary-secondary-n1"), RunningPromoted, Set(10_000), ""),
        (captured!("connected-primary-secondary-n2"), Running, Set(10_000), ""),
        (captured!("network-cut-n1"), DegradedPromoted, Set(10_000), "peer n2 is not connected (Connecting)"),
        (captured!("network-cut-n2"), Degraded, Set(1000), "peer n1 is not connected (Connecting)"),
        (captured!("disconnected-n1"), DegradedPromoted, Set(10_000), "written is on this node alone"),
        // Where 8.4 stays UpToDate.
        (
            captured!("disconnected-n2"),
            Degraded,
            Remove,
            "volume 0 is Outdated here: a peer has newer data; StandAlone",
        ),
        (
            captured!("syncing-n1"),
            DegradedPromoted,
            Set(10_000),
            "resync of volume 0 to peer n2, 21.35 % done, 6 s left",
        ),
        (captured!("syncing-n2"), Degraded, Set(10), "resync of volume 0 from peer n1, 15.10 % done, 5 s left"),
        (
            captured!("paused-n1"),
            DegradedPromoted,
            Set(10_000),
            "resync of volume 0 to peer n2 rests (peer), 61.98 % done",
        ),
        (
            captured!("paused-n2"),
            Degraded,
            Set(10),
            "resync of volume 0 from peer n1 rests (user), 61.98 % done; the data",
        ),
        (captured!("inconsistent-alone-n1"), DegradedPromoted, Set(10_000), "peer n2 is not connected (Connecting)"),
        (captured!("inconsistent-alone-n2"), Degraded, Remove, "volume 0 is Inconsistent here: its data is not usable"),
        (captured!("reader-n1"), Running, Set(10_000), ""),
        (captured!("suspended-user-n1"), DegradedPromoted, Set(10_000), "I/O is suspended by hand"),
        (captured!("suspended-user-n2"), Running, Set(10_000), ""),
        (captured!("ahead-n1"), DegradedPromoted, Set(10_000), "peer n2 is behind with volume 0"),
        (captured!("ahead-n2"), Degraded, Set(10), "volume 0 is behind peer n1"),
        (captured!("diskless-primary-n1"), DegradedPromoted, Set(10), "volume 0 has lost its disk here"),
        (captured!("diskless-primary-n2"), Degraded, Set(10_000), "volume 0 is Diskless at peer n1"),
        (captured!("no-data-n1"), FailedPromoted, Remove, "Primary without data: volume 0 is Diskless here"),
        (captured!("no-data-n2"), Degraded, Set(1000), "peer n1 is not connected"),
        (captured!("both-primary-cut-n1"), DegradedPromoted, Set(10_000), "peer n2 is not connected"),
        (captured!("both-primary-cut-n2"), DegradedPromoted, Set(10_000), "peer n1 is not connected"),
        // The link is cut and the handler fails; and the Primary is killed, with a handler that knows it to be fenced.
        (captured!("fencing-suspended-n1"), DegradedPromoted, Set(10_000), "until the handler fence-peer has fenced"),
        (captured!("fencing-suspended-n2"), Degraded, Set(1000), "peer n1 is not connected"),
        (captured!("primary-killed-n2"), Degraded, Set(1000), "peer n1 is not connected"),
        (captured!("primary-killed-promoted-n2"), DegradedPromoted, Set(10_000), "peer n1 is not connected"),
        (captured!("split-brain-n1"), DegradedPromoted, Set(10_000), "StandAlone"),
        (captured!("split-brain-n2"), DegradedPromoted, Set(10_000), "StandAlone"),
    ];
    is_so(table);
}

#[test]
fn every_captured_state_of_three_nodes_is_what_the_table_says() {
    use Score::{Remove, Set};
    use State::{Degraded, DegradedPromoted, FailedPromoted, Running, RunningPromoted};
    let table: &[Row] = &[
        (captured!("three-secondary-n1"), Running, Set(10_000), ""),
        (captured!("three-primary-n1"), RunningPromoted, Set(10_000), ""),
        (captured!("three-primary-n3"), Running, Set(10_000), ""),
        (captured!("three-n3-gone-n1"), DegradedPromoted, Set(10_000), "peer n3 is not connected (Connecting)"),
        (captured!("three-n3-gone-n2"), Degraded, Set(10_000), "peer n3 is not connected (Connecting)"),
        (captured!("three-n3-gone-n3"), Degraded, Set(1000), "peer n2 is not connected (Connecting)"),
        // n1, Primary, and n3 do not reach each other, and n2 reaches both.
        (captured!("three-weakly-n1"), DegradedPromoted, Set(10_000), "peer n3 is not connected (Connecting)"),
        (captured!("three-weakly-n2"), Degraded, Set(10_000), "volume 0 is Outdated at peer n3: fewer good copies"),
        (captured!("three-weakly-n3"), Degraded, Set(10), "volume 0 is Outdated here: a peer has newer data"),
        (captured!("three-n3-diskless-n1"), DegradedPromoted, Set(10_000), "Diskless at peer n3: fewer good copies"),
        (captured!("three-n3-diskless-n3"), Degraded, Set(10), "volume 0 has no disk here"),
        (captured!("three-no-quorum-suspended-n1"), DegradedPromoted, Remove, "I/O is suspended: there is no quorum"),
        (
            captured!("three-no-quorum-suspended-n2"),
            Degraded,
            Remove,
            "volume 0 has no quorum, so it cannot be promoted",
        ),
        (captured!("three-no-quorum-errors-n1"), FailedPromoted, Remove, "volume 0 has no quorum: its I/O fails"),
        (captured!("three-no-quorum-errors-n3"), Degraded, Remove, "volume 0 has no quorum, so it cannot be promoted"),
        (
            captured!("three-syncing-n1"),
            DegradedPromoted,
            Set(10_000),
            "resync of volume 0 to peer n2, 12.76 % done, 11 s left; resync of volume 0 to peer n3, 10.68 % done, 6 s left",
        ),
        (captured!("three-syncing-n2"), Degraded, Set(10), "resync of volume 0 from peer n1, 14.84 % done, 13 s left"),
        (captured!("three-paused-n1"), DegradedPromoted, Set(10_000), "to peer n2 rests (peer), 50.78 % done; resync"),
        (captured!("three-paused-n2"), Degraded, Set(10), "from peer n1 rests (user), 50.78 % done; the data here"),
        (captured!("three-n2-inconsistent-n1"), DegradedPromoted, Set(10_000), "resync of volume 0 to peer n3"),
        (captured!("three-n2-inconsistent-n2"), Degraded, Remove, "volume 0 is Inconsistent here"),
        // Two volumes; n3 has no disks, on purpose. A verify has found what was changed behind DRBD's back.
        (captured!("client-primary-n1"), RunningPromoted, Set(10_000), ""),
        (captured!("client-primary-n3"), Running, Set(9999), ""),
        (
            captured!("client-verify-n1"),
            DegradedPromoted,
            Set(10_000),
            "differ from peer n2: drbdadm invalidate --reset-bitmap=no r0",
        ),
        (
            captured!("client-verify-n2"),
            Degraded,
            Set(10_000),
            "differ from peer n1: drbdadm invalidate --reset-bitmap=no r0",
        ),
        (captured!("client-promoted-n1"), Degraded, Set(10_000), "a verify has found 4 KiB of volume 0"),
        (captured!("client-promoted-n3"), RunningPromoted, Set(9999), ""),
        (captured!("client-both-primary-n1"), DegradedPromoted, Set(10_000), "BOTH NODES ARE PRIMARY: peer n2 is"),
        (captured!("client-cut-n2"), Degraded, Set(10_000), "peer n3 is not connected (Connecting)"),
        (captured!("client-cut-n3"), Degraded, Remove, "peer n1 is not connected (Connecting)"),
    ];
    is_so(table);
}

#[test]
fn two_that_are_synchronised_by_a_third_hear_of_that_one() {
    let reason = judge(&facts(captured!("three-syncing-n2"))).reason.unwrap_or_default();
    assert!(!reason.contains("n3"), "{reason}");
}

#[test]
fn who_is_behind_hears_one_sentence_of_it() {
    let finding = judge(&facts(captured!("ahead-n2")));
    assert_eq!(finding.reason.as_deref(), Some("volume 0 is behind peer n1: the link is congested"));
}

#[test]
fn proc_drbd_has_the_version_and_no_device() {
    let proc = ProcDrbd::parse(include_str!("../captures/nine/version.proc"));
    assert_eq!((proc.version, proc.devices.len()), (Some((9, 2, 18)), 0));
}
