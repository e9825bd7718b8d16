//! A standby that was away while the primary wrote alone, when that primary dies: not promoted, but when it is told to.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::{Cluster, SETTLE};
use cts_tests::fence::SOCKET_IN_NODE;
use cts_tests::postgres::{Server, USUAL};
use cts_tests::postgres_pair::{Pair, with_cluster};
use cts_tests::wait;

/// Longer than any repetition of a refused promotion, and than two monitors.
const STAYS: Duration = Duration::from_secs(20);
/// What the log has before the command that does it.
const GIVE_UP: &str = "give up what it wrote alone: ";

/// The primary writes without its standby, and loses its power. Returns both, when the standby has told why it waits: either
/// Pacemaker tried to promote it, or its score forbade that already and the monitor says so.
fn dies_after_writing_alone(pair: &Pair) -> Result<(Server, Server)> {
    let (old, standbys) = pair.primary()?;
    let (old, standby) = (old.clone(), standbys[0].clone());
    old.refuse_standbys(&[&standby.address], true)?;
    wait::until("the standby's node to be marked", SETTLE, wait::TOOL, || {
        Ok(pair.lacking()? == [standby.name.as_str()])
    })?;
    let alone = || Ok(pair.writer.silence() < Duration::from_millis(100));
    wait::until("the client to write again", SETTLE, wait::TOOL, alone)?;
    thread::sleep(Duration::from_secs(1));
    old.refuse_standbys(&[&standby.address], false)?;
    let told_before = pair.log(&standby)?.len();
    pair.cluster.node(&old.name)?.power_cut()?;
    let reasons = [
        format!("not promoted: {} wrote what {} lacks", old.name, standby.name),
        format!("{} wrote what this node lacks, so it is not promoted", old.name),
    ];
    let told = || {
        let log = pair.log(&standby)?.split_off(told_before);
        Ok(reasons.iter().any(|reason| log.contains(reason)) && log.contains(GIVE_UP))
    };
    wait::until("the standby to tell why it waits, and how to end that", SETTLE, wait::TOOL, told)?;
    Ok((old, standby))
}

/// It waits, as long as it takes, and nobody has to do anything but to bring the primary back.
fn waits_for_the_primary(pair: &Pair) -> Result<()> {
    let (old, _) = dies_after_writing_alone(pair)?;
    let until = Instant::now() + STAYS;
    while Instant::now() < until {
        ensure!(pair.primary().is_err(), "a node was promoted that lacks acknowledged rows");
        thread::sleep(wait::TOOL);
    }
    let node = pair.cluster.node(&old.name)?;
    node.power_on()?;
    node.start_cluster()?;
    pair.healthy()?;
    ensure!(pair.primary()?.0.name == old.name, "the node that has everything was to be promoted");
    ensure!(pair.lost()? == 0, "acknowledged rows are lost");
    Ok(())
}

/// The command of the log, typed.
fn is_given_up(pair: &Pair) -> Result<()> {
    let (old, standby) = dies_after_writing_alone(pair)?;
    // Typed by a person who has read it, long after the cluster has settled.
    thread::sleep(STAYS / 2);
    let log = pair.log(&standby)?;
    let command = log.lines().rev().find_map(|line| line.split_once(GIVE_UP));
    let (_, command) = command.with_context(|| format!("the log has no command:\n{log}"))?;
    for words in command.split(';') {
        pair.cluster.tool(&words.split_whitespace().collect::<Vec<_>>())?;
    }
    let promoted = || Ok(pair.primary().is_ok_and(|(primary, _)| primary.name == standby.name));
    wait::until("the standby to be promoted", SETTLE, wait::TOOL, promoted)?;
    println!("  {} rows were given up", pair.lost()?);
    let node = pair.cluster.node(&old.name)?;
    node.power_on()?;
    node.start_cluster()?;
    pair.healthy()
}

/// Promoted by hand it still lacks them; when the primary is back there are two that wrote without each other, and a person has
/// to choose. The log says how.
fn is_promoted_by_hand(pair: &Pair) -> Result<()> {
    let (old, standby) = dies_after_writing_alone(pair)?;
    // The refusal has Pacemaker restart the server.
    wait::until("a promotion by hand", SETTLE, wait::TOOL, || Ok(standby.control(&["promote"]).is_ok()))?;
    let demoted = || Ok(standby.sql("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "t"));
    wait::until("the standby to be demoted again", SETTLE, wait::TOOL, demoted)?;
    let node = pair.cluster.node(&old.name)?;
    node.power_on()?;
    node.start_cluster()?;
    let refused = format!("{} was promoted by hand without what {} wrote; choose", standby.name, old.name);
    wait::until("both to be refused", SETTLE, wait::TOOL, || Ok(pair.log(&old)?.contains(&refused)))?;
    let until = Instant::now() + STAYS;
    while Instant::now() < until {
        ensure!(pair.primary().is_err(), "a node was promoted, and what the other wrote is lost");
        thread::sleep(wait::TOOL);
    }
    pair.cluster.tool(&["crm_standby", "--node", &standby.name, "--update", "on"])?;
    let promoted = || Ok(pair.primary().is_ok_and(|(primary, _)| primary.name == old.name));
    wait::until("the old primary to be promoted", SETTLE, wait::TOOL, promoted)?;
    // Both have begun a timeline of the same number: only a base backup replaces what was written to the other.
    let rejoin = |way| {
        let set = ["crm_resource", "--resource", "pg", "--set-parameter", "rejoin", "--parameter-value", way];
        pair.cluster.tool(&set).map(drop)
    };
    rejoin("basebackup")?;
    pair.cluster.tool(&["crm_standby", "--node", &standby.name, "--update", "off"])?;
    pair.healthy()?;
    rejoin("rewind")?;
    ensure!(pair.lost()? == 0, "acknowledged rows are lost");
    Ok(())
}

/// The nodes lose sight of each other, and only the standby's fencing works, and takes longer than the primary believes in the
/// standby's connection. Clients reach the primary all the time.
fn only_the_standby_fences(pair: &Pair) -> Result<()> {
    let (old, standbys) = pair.primary()?;
    let (old, standby) = (old.clone(), standbys[0].clone());
    let late = format!("fence-{}", old.name);
    let delay = |deed: &[&str]| pair.cluster.tool(&[&["crm_resource", "--resource", &late], deed].concat()).map(drop);
    delay(&["--set-parameter", "pcmk_delay_base", "--parameter-value", "20s"])?;
    pair.cluster.wait_idle()?;
    let node = pair.cluster.node(&old.name)?;
    let away = format!("{SOCKET_IN_NODE}.away");
    node.text(&["mv", SOCKET_IN_NODE, &away])?;
    pair.cluster.nodes.iter().try_for_each(|node| node.part())?;
    let held = format!("commits still wait for {}: the cluster has lost it", standby.name);
    wait::until("commits to wait", SETTLE, wait::TOOL, || Ok(pair.log(&old)?.contains(&held)))?;
    let promoted = || Ok(pair.primary().is_ok_and(|(primary, _)| primary.name == standby.name));
    wait::until("the standby to be promoted", SETTLE, wait::TOOL, promoted)?;
    ensure!(pair.lost()? == 0, "acknowledged rows are lost");
    delay(&["--delete-parameter", "pcmk_delay_base"])?;
    node.power_on()?;
    node.text(&["mv", &away, SOCKET_IN_NODE])?;
    node.start_cluster()?;
    pair.healthy()
}

#[test]
fn a_standby_that_lacks_what_the_primary_wrote_alone_waits_for_it() -> Result<()> {
    with_cluster(USUAL, || {
        let stays_off = Cluster::builder(2).restart_after(None);
        let pair = Pair::on(stays_off, USUAL, &[("sync", "prefer"), ("rejoin", "rewind")], |_| Ok(()))?;
        pair.play("a standby that lacks rows waits for the primary", waits_for_the_primary)?;
        pair.play("a partition in which only the standby fences", only_the_standby_fences)?;
        pair.play("a standby that lacks rows is promoted by hand", is_promoted_by_hand)?;
        pair.play("what the primary wrote alone is given up", is_given_up)
    })
}
