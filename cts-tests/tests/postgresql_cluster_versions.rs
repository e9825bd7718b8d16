//! ocf:greenarrow:postgresql in a cluster with each version of PostgreSQL that can be had, in short; 16 is what
//! all other tests have.

use std::time::Instant;

use anyhow::{Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::postgres::Server;
use cts_tests::postgres_pair::{Pair, with_cluster};
use cts_tests::wait;

/// Commits wait for the standby, so that it has all that is acknowledged.
fn await_synchronous(pair: &Pair) -> Result<()> {
    let waits = || Ok(!pair.primary()?.0.sql("SHOW synchronous_standby_names")?.is_empty());
    wait::until("commits to wait for the standby", SETTLE, wait::TOOL, waits).map(drop)
}

/// The node of the primary loses its power, and the other goes on.
fn after(pair: &Pair, power_cut: impl FnOnce(&Server) -> Result<()>) -> Result<()> {
    let (old, began) = (pair.primary()?.0.clone(), Instant::now());
    power_cut(&old)?;
    let moved = || Ok(pair.primary().is_ok_and(|(primary, _)| primary.name != old.name));
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
            after(pair, |primary| pair.cluster.node(&primary.name)?.power_cut())?;
            ensure!(pair.lost()? == 0, "acknowledged rows are lost");
            Ok(())
        })?;
        pair.play(&format!("{version}: rewind"), |pair| {
            let (primary, standbys) = pair.primary()?;
            let (old, other) = (primary.clone(), standbys[0].clone());
            after(pair, |primary| pair.die_with_rows_of_its_own(primary))?;
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
fn version_14() -> Result<()> {
    in_short(14)
}

#[test]
fn version_15() -> Result<()> {
    in_short(15)
}

#[test]
fn version_17() -> Result<()> {
    in_short(17)
}

#[test]
fn version_18() -> Result<()> {
    in_short(18)
}
