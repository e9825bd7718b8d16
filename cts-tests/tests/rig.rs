//! The rig and its scenarios, proved with agents that are not ours: what fails here is the rig's fault, or theirs.

use std::time::Duration;

use anyhow::Result;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::scenarios::{ALL, Rig};
use cts_tests::subject::Subject;

const INTERVAL: Duration = Duration::from_millis(20);

#[test]
fn every_scenario_with_ipaddr2() -> Result<()> {
    enter(Isolation::Cluster(&[]), || Rig::start(Subject::ipaddr2(), INTERVAL)?.play(ALL))
}

#[test]
fn every_scenario_with_stateful_and_ipaddr2() -> Result<()> {
    enter(Isolation::Cluster(&[]), || Rig::start(Subject::stateful_with_ipaddr2(), INTERVAL)?.play(ALL))
}
