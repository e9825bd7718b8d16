//! `ocf:greenarrow:primary-ips` in a real cluster: every scenario, as promotable clone and as plain resource.

use std::time::Duration;

use anyhow::Result;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::scenarios::{ALL, Rig};
use cts_tests::subject::Subject;

const CLUSTER: Isolation = Isolation::Cluster(&["primary-ips"]);

/// 100 addresses, each asked ten times a second.
const INTERVAL: Duration = Duration::from_millis(100);

#[test]
fn every_scenario_as_promotable_clone() -> Result<()> {
    enter(CLUSTER, || Rig::start(Subject::primary_ips_promotable(90, 10), INTERVAL)?.play(ALL))
}

#[test]
fn every_scenario_as_plain_resource() -> Result<()> {
    enter(CLUSTER, || Rig::start(Subject::primary_ips_plain(90, 10), INTERVAL)?.play(ALL))
}
