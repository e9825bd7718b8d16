//! ocf:greenarrow:postgresql in a cluster with trouble that is no reason to fail over, and some that is.

use anyhow::Result;
use cts_tests::cluster::SETTLE;
use cts_tests::postgres::USUAL;
use cts_tests::postgres_pair::{Pair, with_cluster};
use cts_tests::postgres_scenarios::{
    attribute_daemon_hangs, broken_configuration, cable_cut, connections_saturated, crash_loop, password_wrong,
    recovery_file_of_another_version,
};
use cts_tests::wait;

#[test]
fn trouble_that_is_no_reason_to_fail_over_and_some_that_is() -> Result<()> {
    with_cluster(USUAL, || {
        let pair = Pair::start(USUAL, 2, &[("sync", "prefer"), ("rejoin", "rewind")])?;
        let waits = || Ok(!pair.primary()?.0.sql("SHOW synchronous_standby_names")?.is_empty());
        wait::until("commits to wait for the standby", SETTLE, wait::TOOL, waits)?;
        pair.play("attribute daemon hangs", attribute_daemon_hangs)?;
        pair.play("crash loop", crash_loop)?;
        pair.play("connections saturated", connections_saturated)?;
        wait::until("commits to wait for the standby", SETTLE, wait::TOOL, waits)?;
        pair.play("password wrong", password_wrong)?;
        pair.play("cable cut", cable_cut)?;
        pair.play("broken configuration", broken_configuration)?;
        pair.play("recovery file of another version", recovery_file_of_another_version)
    })
}
