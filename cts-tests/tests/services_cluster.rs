//! `ocf:greenarrow:services` behind `ocf:greenarrow:primary-ips` in a real cluster: every scenario, in both forms.

use std::time::Duration;

use anyhow::Result;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::scenarios::{ALL, Rig};
use cts_tests::subject::Subject;

const CLUSTER: Isolation = Isolation::Cluster(&["primary-ips", "services"]);

/// 10 addresses, each asked twenty times a second.
const INTERVAL: Duration = Duration::from_millis(50);

#[test]
fn every_scenario_as_promotable_clones() -> Result<()> {
    enter(CLUSTER, || Rig::start(Subject::services_behind_primary_ips(true, 8, 2), INTERVAL)?.play(ALL))
}

#[test]
fn every_scenario_as_plain_resources() -> Result<()> {
    enter(CLUSTER, || Rig::start(Subject::services_behind_primary_ips(false, 8, 2), INTERVAL)?.play(ALL))
}
