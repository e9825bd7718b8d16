//! ocf:greenarrow:postgresql in a real cluster, while a client writes: everything acknowledged is still there afterwards.

use std::time::Instant;

use anyhow::{Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::postgres::USUAL;
use cts_tests::postgres_pair::{Pair, RESOURCE, with_cluster};
use cts_tests::postgres_scenarios::{
    both_power_cut, postmaster_killed, postmaster_stopped, power_cut, standby_power_cut, switchover,
};
use cts_tests::wait;

#[test]
fn the_promoted_role_moves_to_and_fro() -> Result<()> {
    with_cluster(USUAL, || {
        let pair = Pair::start(USUAL, 2, &[])?;
        for round in 0..10 {
            let began = Instant::now();
            pair.play(&format!("planned switchover {round}"), switchover)?;
            ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
        }
        let status = pair.cluster.status();
        let failures = status.map(|status| status.failures).unwrap_or_default();
        let ours: Vec<_> = failures.iter().filter(|failure| failure.operation.starts_with(RESOURCE)).collect();
        ensure!(ours.is_empty(), "{ours:#?}");
        Ok(())
    })
}

#[test]
fn nothing_acknowledged_is_lost_while_both_are_there() -> Result<()> {
    with_cluster(USUAL, || {
        let pair = Pair::start(USUAL, 2, &[("sync", "prefer"), ("rejoin", "rewind")])?;
        let waits = || Ok(!pair.primary()?.0.sql("SHOW synchronous_standby_names")?.is_empty());
        wait::until("commits to wait for the standby", SETTLE, wait::TOOL, waits)?;
        pair.play("postmaster killed", postmaster_killed)?;
        pair.play("power cut of the standby", standby_power_cut)?;
        pair.play("postmaster stopped", postmaster_stopped)?;
        for round in 0..10 {
            wait::until("commits to wait for the standby", SETTLE, wait::TOOL, waits)?;
            pair.play(&format!("power cut of the primary {round}"), power_cut)?;
        }
        pair.play("power cut of both", both_power_cut)
    })
}

#[test]
fn with_require_nothing_is_acknowledged_that_is_not_on_two_nodes() -> Result<()> {
    with_cluster(USUAL, || {
        let pair = Pair::start(USUAL, 2, &[("sync", "require"), ("rejoin", "rewind"), ("use_slots", "yes")])?;
        pair.play("planned switchover", switchover)?;
        pair.play("postmaster killed", postmaster_killed)?;
        pair.play("power cut of the standby", standby_power_cut)?;
        for round in 0..2 {
            pair.play(&format!("power cut of the primary {round}"), power_cut)?;
        }
        pair.play("power cut of both", both_power_cut)
    })
}
