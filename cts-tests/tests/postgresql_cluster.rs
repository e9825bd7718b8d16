//! ocf:greenarrow:postgresql in a real cluster, while a client writes: everything acknowledged is still there afterwards.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::postgres::{Server, USUAL};
use cts_tests::postgres_pair::{Pair, RESOURCE, with_cluster};
use cts_tests::wait;

/// Every row that was acknowledged is there.
fn nothing_lost(pair: &Pair) -> Result<()> {
    let lost = pair.lost()?;
    ensure!(lost == 0, "{lost} acknowledged rows are lost");
    Ok(())
}

fn switchover(pair: &Pair) -> Result<()> {
    let (_, standbys) = pair.primary()?;
    pair.promote(standbys[0])?;
    nothing_lost(pair)
}

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

/// What happens to the primary's node or server; afterwards there is one primary again, which this returns, and the other
/// streams from it.
fn after(pair: &Pair, event: impl FnOnce(&Server) -> Result<()>) -> Result<String> {
    let began = Instant::now();
    let primary = pair.primary()?.0.clone();
    event(&primary)?;
    // What was seen before the event took effect is not the answer to it.
    let silent = |millis| pair.writer.silence() > Duration::from_millis(millis);
    let interrupted = || Ok(silent(500));
    wait::until("the client to be interrupted", SETTLE, wait::QUICK, interrupted)?;
    let again = || Ok(!silent(100));
    wait::until("the client to write again", SETTLE, wait::QUICK, again)?;
    println!("  writable again after {:.2} s", began.elapsed().as_secs_f64());
    pair.healthy()?;
    println!("  healthy again after {:.2} s", began.elapsed().as_secs_f64());
    Ok(pair.primary()?.0.name.clone())
}

fn power_cut(pair: &Pair) -> Result<()> {
    let (old, began) = (pair.primary()?.0.name.clone(), Instant::now());
    let new = after(pair, |primary| pair.cluster.node(&primary.name)?.power_cut())?;
    ensure!(new != old, "the other node was to be promoted");
    let fenced = pair.cluster.switch.since(began);
    ensure!(fenced.len() == 1 && fenced[0].target == old, "one fencing of {old} was to be: {fenced:#?}");
    nothing_lost(pair)
}

fn postmaster_killed(pair: &Pair) -> Result<()> {
    let (old, began) = (pair.primary()?.0.name.clone(), Instant::now());
    let new = after(pair, |primary| primary.signal("KILL"))?;
    ensure!(new == old, "the server was to be started again where it was");
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    pair.cluster.cleanup(RESOURCE)?;
    nothing_lost(pair)
}

fn postmaster_stopped(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    // The client's own connection goes on as long as it lives: its server process does not stand still.
    after(pair, |primary| primary.signal("STOP"))?;
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    pair.cluster.cleanup(RESOURCE)?;
    nothing_lost(pair)
}

fn standby_power_cut(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    let (primary, standbys) = pair.primary()?;
    pair.cluster.node(&standbys[0].name)?.power_cut()?;
    let fenced = || Ok(!pair.cluster.switch.since(began).is_empty());
    wait::until("the standby to be fenced", SETTLE, wait::QUICK, fenced)?;
    pair.healthy()?;
    ensure!(pair.primary()?.0.name == primary.name, "the primary was to stay");
    nothing_lost(pair)
}

fn both_power_cut(pair: &Pair) -> Result<()> {
    let primary = pair.primary()?.0.name.clone();
    for node in &pair.cluster.nodes {
        node.power_cut()?;
    }
    thread::sleep(Duration::from_secs(1));
    for node in &pair.cluster.nodes {
        node.power_on()?;
        node.start_cluster()?;
    }
    pair.cluster.wait_quorum(2)?;
    pair.healthy()?;
    ensure!(pair.primary()?.0.name == primary, "the node that was the primary was to be it again");
    nothing_lost(pair)
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
