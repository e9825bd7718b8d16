//! ocf:greenarrow:postgresql in a cluster whose servers have a small disk for their log, and fill it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::{Cluster, SETTLE};
use cts_tests::postgres::{Server, USUAL};
use cts_tests::postgres_pair::{Pair, RESOURCE, with_cluster};
use cts_tests::wait;

/// More than a server keeps of its log.
const MEGABYTES: u32 = 400;

/// Pacemaker shows a failed action of the agent on this node that names the full disk.
fn disk_is_named(pair: &Pair, server: &Server) -> Result<()> {
    let log = || Ok(pair.log(server)?.contains("/pg_wal has 0 % free; disk_min_free is 5"));
    wait::until(&format!("the agent on {} to name the disk", server.name), SETTLE, wait::TOOL, log)?;
    let shown = || Ok(pair.failures().iter().any(|one| one.node == server.name && one.reason.contains("disk")));
    wait::until(&format!("Pacemaker to show the disk of {}", server.name), SETTLE, wait::TOOL, shown).map(drop)
}

/// Commits wait for the standby, so that it has all that is acknowledged.
fn await_synchronous(pair: &Pair) -> Result<()> {
    let waits =
        || Ok(pair.primary()?.0.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")? == "1");
    wait::until("commits to wait for the standby", SETTLE, wait::TOOL, waits).map(drop)
}

/// Writes more than what the server has set aside for its log.
fn write_much(server: &Server) -> Result<()> {
    let session = ["-h", server.home(), "-XAtqd", "postgres", "-c"];
    let sql =
        "SET synchronous_commit = local; SELECT pg_logical_emit_message(false, 'x', repeat('x', 100000000)) IS NULL";
    // Whether it succeeds depends on the disk.
    server.program("psql", &[&session[..], &[sql]].concat())?.run().map(drop)
}

fn standby_full(pair: &Pair) -> Result<()> {
    let (primary, standbys) = pair.primary()?;
    let (primary, standby, began) = (primary.clone(), standbys[0].clone(), Instant::now());
    standby.fill_disk_of_log(true)?;
    write_much(&primary)?;
    disk_is_named(pair, &standby)?;
    // Commits may have waited for it until the primary's next monitor; from then on they do not, however often it connects.
    std::thread::sleep(Duration::from_secs(5));
    let settled = Instant::now();
    std::thread::sleep(Duration::from_secs(15));
    let (first, later) = (pair.writer.outage(began), pair.writer.outage(settled));
    println!("  the client waited {:.2} s at first, {:.2} s later", first.as_secs_f64(), later.as_secs_f64());
    ensure!(later < Duration::from_secs(2), "a full standby hurts the primary: the client waited {later:?}");
    ensure!(pair.primary()?.0.name == primary.name, "the primary was to stay");
    standby.fill_disk_of_log(false)?;
    pair.cluster.cleanup(RESOURCE)?;
    pair.healthy()?;
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    ensure!(pair.primary()?.0.name == primary.name && pair.lost()? == 0);
    Ok(())
}

fn primary_full(pair: &Pair) -> Result<()> {
    await_synchronous(pair)?;
    let (primary, standbys) = pair.primary()?;
    let (old, new, began) = (primary.clone(), standbys[0].clone(), Instant::now());
    old.fill_disk_of_log(true)?;
    write_much(&old)?;
    let moved = || Ok(pair.primary().is_ok_and(|(primary, _)| primary.name == new.name));
    wait::until("the other node to be promoted", SETTLE, wait::TOOL, moved)?;
    let writes = || Ok(pair.writer.silence() < Duration::from_millis(200));
    wait::until("the client to write again", SETTLE, wait::TOOL, writes)?;
    println!("  writable again after {:.2} s", began.elapsed().as_secs_f64());
    ensure!(pair.lost()? == 0, "acknowledged rows are lost");
    disk_is_named(pair, &old)?;
    let failures = pair.failures();
    println!("  {:#?}", failures.iter().map(|one| (&one.operation, &one.reason)).collect::<Vec<_>>());
    old.fill_disk_of_log(false)?;
    pair.cluster.cleanup(RESOURCE)?;
    pair.healthy().context("after the disk was freed")?;
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    ensure!(pair.primary()?.0.name == new.name && pair.lost()? == 0);
    Ok(())
}

#[test]
fn a_full_disk_of_a_standby_hurts_nobody_and_that_of_a_primary_moves_it() -> Result<()> {
    with_cluster(USUAL, || {
        let parameters = [("sync", "prefer"), ("rejoin", "rewind")];
        let pair = Pair::on(Cluster::builder(2), USUAL, &parameters, |server| server.give_log_a_disk(MEGABYTES))?;
        await_synchronous(&pair)?;
        pair.play("the standby's disk is full", standby_full)?;
        pair.play("the primary's disk is full", primary_full)
    })
}
