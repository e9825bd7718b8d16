//! ocf:greenarrow:postgresql in a cluster with each version of PostgreSQL that can be had, in short. The oldest, the first
//! with the present ways of a standby that can be had, and the newest are always run, and 16 is what all other tests
//! have. The others: `cargo test -p cts-tests --test postgresql_cluster_versions -- --ignored --test-threads=1`.

use std::time::Instant;

use anyhow::{Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::postgres_pair::{Pair, with_cluster};
use cts_tests::wait;

/// Commits wait for the standby, so that it has all that is acknowledged.
fn await_synchronous(pair: &Pair) -> Result<()> {
    let waits = || Ok(!pair.primary()?.0.sql("SHOW synchronous_standby_names")?.is_empty());
    wait::until("commits to wait for the standby", SETTLE, wait::TOOL, waits).map(drop)
}

/// The node of the primary loses its power, and the other goes on.
fn power_cut(pair: &Pair) -> Result<()> {
    let old = pair.primary()?.0.name.clone();
    let began = Instant::now();
    pair.cluster.node(&old)?.power_cut()?;
    let moved = || Ok(pair.primary().is_ok_and(|(primary, _)| primary.name != old));
    wait::until("the other node to be promoted", SETTLE, wait::TOOL, moved)?;
    pair.healthy()?;
    ensure!(pair.cluster.switch.since(began).len() == 1, "one fencing was to be");
    Ok(())
}

fn in_short(version: u32) -> Result<()> {
    with_cluster(version, || {
        let pair = Pair::start(version, 2, &[("sync", "prefer"), ("rejoin", "rewind"), ("use_slots", "yes")])?;
        await_synchronous(&pair)?;
        pair.play(&format!("{version}: planned switchover"), |pair| {
            let standby = pair.primary()?.1[0];
            ensure!(standby.version()? == version);
            pair.promote(standby)?;
            ensure!(pair.lost()? == 0, "acknowledged rows are lost");
            await_synchronous(pair)
        })?;
        pair.play(&format!("{version}: power cut"), |pair| {
            power_cut(pair)?;
            ensure!(pair.lost()? == 0, "acknowledged rows are lost");
            Ok(())
        })?;
        pair.play(&format!("{version}: rewind"), |pair| {
            let (primary, standbys) = pair.primary()?;
            let (old, other) = (primary.clone(), standbys[0].clone());
            old.refuse_standbys(&[&other.address], true)?;
            old.sql("SET synchronous_commit = local; INSERT INTO audit SELECT generate_series(-1000, -1)")?;
            power_cut(pair)?;
            old.await_replay(&other)?;
            ensure!(old.sql("SELECT count(*) FROM audit WHERE id < 0")? == "0", "it was not rewound");
            let kept = old.command(&["find", &format!("{}.diverged", old.data), "-type", "f"])?.text()?;
            ensure!(!kept.is_empty(), "nothing was kept");
            Ok(())
        })?;
        Ok(())
    })
}

#[test]
fn version_11() -> Result<()> {
    in_short(11)
}

#[test]
fn version_13() -> Result<()> {
    in_short(13)
}

#[test]
fn version_18() -> Result<()> {
    in_short(18)
}

#[test]
#[ignore = "half a minute each: the versions around it are run always"]
fn version_14() -> Result<()> {
    in_short(14)
}

#[test]
#[ignore = "half a minute each: the versions around it are run always"]
fn version_15() -> Result<()> {
    in_short(15)
}

#[test]
#[ignore = "half a minute each: the versions around it are run always"]
fn version_17() -> Result<()> {
    in_short(17)
}
