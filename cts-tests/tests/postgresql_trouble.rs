//! ocf:greenarrow:postgresql in a cluster with trouble that is no reason to fail over, and some that is.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::crm_mon::Failure;
use cts_tests::postgres::USUAL;
use cts_tests::postgres_pair::{Pair, RESOURCE, with_cluster};
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

/// The primary and the others stay what they are, nothing of the agent failed, and no node was fenced since `began`.
fn undisturbed(pair: &Pair, primary: &str, began: Instant) -> Result<()> {
    pair.healthy()?;
    ensure!(pair.primary()?.0.name == primary, "there was a failover");
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    // A degraded answer is shown among the failed actions, and changes nothing.
    let failures = pair.failures();
    let degraded = |failure: &&Failure| failure.status.to_lowercase().contains("degraded");
    let acted_upon: Vec<_> = failures.iter().filter(|failure| !degraded(failure)).collect();
    ensure!(acted_upon.is_empty(), "{acted_upon:#?}");
    ensure!(pair.lost()? == 0, "acknowledged rows are lost");
    pair.cluster.cleanup(RESOURCE)
}

/// Pacemaker's attribute daemon stands still on every node, for longer than several monitors take.
fn attribute_daemon_hangs(pair: &Pair) -> Result<()> {
    let (began, primary) = (Instant::now(), pair.primary()?.0.name.clone());
    let mut daemons = Vec::new();
    for node in &pair.cluster.nodes {
        daemons.extend(node.processes(|argv| argv.first().is_some_and(|path| path.ends_with("pacemaker-attrd")))?);
    }
    ensure!(daemons.len() == 2, "pacemaker-attrd does not run");
    daemons.iter().try_for_each(|pid| process::signal(*pid, Signal::SIGSTOP))?;
    thread::sleep(Duration::from_secs(20));
    let outage = pair.writer.outage(began);
    daemons.iter().try_for_each(|pid| process::signal(*pid, Signal::SIGCONT))?;
    ensure!(outage < Duration::from_secs(1), "the client was interrupted for {outage:?}");
    undisturbed(pair, &primary, began)
}

/// One process of the server after the other is killed, so that the server recovers again and again.
fn crash_loop(pair: &Pair) -> Result<()> {
    let (began, primary) = (Instant::now(), pair.primary()?.0.clone());
    while began.elapsed() < Duration::from_secs(15) {
        let pid = primary.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'").unwrap_or_default();
        if !pid.is_empty() {
            primary.command(&["kill", "-s", "KILL", &pid])?.run()?;
        }
        thread::sleep(Duration::from_millis(300));
    }
    undisturbed(pair, &primary.name, began)
}

/// Every connection that there is, is taken; the client has its own already.
fn connections_saturated(pair: &Pair) -> Result<()> {
    let (began, primary) = (Instant::now(), pair.primary()?.0.clone());
    let free = "SELECT current_setting('max_connections')::int - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
    let free: usize = primary.sql(free)?.parse().context("how many connections are free")?;
    let session = ["-h", primary.home(), "-Xd", "postgres"];
    let start = || primary.program("psql", &session)?.start(std::process::Stdio::null());
    let mut sessions = (0..free).map(|_| start()).collect::<Result<Vec<_>>>()?;
    wait::until("all connections to be taken", SETTLE, wait::TOOL, || {
        let taken = primary.sql("SELECT 1").is_err();
        sessions.extend(if taken { None } else { Some(start()?) });
        Ok(taken)
    })?;
    let degraded = || Ok(pair.failures().iter().any(|failure| failure.reason.contains("53300")));
    wait::until("the degraded monitor to be shown", SETTLE, wait::TOOL, degraded)?;
    thread::sleep(Duration::from_secs(5));
    // Waited for, which closes its input and ends it. Killed, its process in the node would be left to this process, PID 1
    // of its namespace, to be waited for, and a power cut of the node ends only when that has been done.
    sessions.iter_mut().try_for_each(|session| session.wait().map(drop))?;
    undisturbed(pair, &primary.name, began)
}

/// The primary's node loses its cable, is fenced, and gets the cable back.
fn cable_cut(pair: &Pair) -> Result<()> {
    let (began, old) = (Instant::now(), pair.primary()?.0.clone());
    let node = pair.cluster.node(&old.name)?;
    node.cable_cut()?;
    let fenced = || Ok(!pair.cluster.switch.since(began).is_empty());
    wait::until("the node without cable to be fenced", SETTLE, wait::QUICK, fenced)?;
    let moved = || Ok(pair.writer.silence() < Duration::from_millis(200));
    wait::until("the client to write again", SETTLE, wait::TOOL, moved)?;
    node.cable_mend()?;
    pair.healthy()?;
    ensure!(pair.primary()?.0.name != old.name && pair.cluster.switch.since(began)[0].target == old.name);
    ensure!(pair.lost()? == 0, "acknowledged rows are lost");
    Ok(())
}

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
        pair.play("cable cut", cable_cut)
    })
}
