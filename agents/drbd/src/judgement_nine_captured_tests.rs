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

#[test]
fn every_captured_state_is_what_the_table_says() {
    use Score::{Remove, Set};
    use State::{Degraded, DegradedPromoted, FailedPromoted, NotRunning, Running, RunningPromoted};
    // The state, what monitor says, the score, and some words of the reason.
    let table = [
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
        (captured!("split-brain-n1"), DegradedPromoted, Set(10_000), "StandAlone"),
        (captured!("split-brain-n2"), DegradedPromoted, Set(10_000), "StandAlone"),
    ];
    for (captured, state, wanted, words) in table {
        let facts = facts(captured);
        let finding = judge(&facts);
        assert_eq!(finding.state, state, "{}: {finding:?}", captured.0);
        assert_eq!(score(&facts), wanted, "{}", captured.0);
        assert_eq!(finding.reason.is_none(), words.is_empty(), "{}: {finding:?}", captured.0);
        assert!(finding.summary.contains(words), "{}: {finding:?}", captured.0);
    }
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
