//! One monitor: beside a program that does nothing, and beside one IPaddr2 for each address.

use std::fs;

use anyhow::Result;
use cts_tests::network::{IPV4_PREFIX, service_ipv4};
use cts_tests::subject::ip_file;

use crate::contender::{IP_FILE, eth0};
use crate::hello;
use crate::invocation::{Cost, Invocation, median};
use crate::table::{Goal, Table, ms};

const FEW: u16 = 100;
const MANY: u16 = 10_000;

/// Runs of each program for a round.
pub(crate) const RUNS: usize = 40;

pub(crate) fn measure(table: &Table, rounds: usize) -> Result<()> {
    eth0()?;
    let runs = rounds * RUNS;
    hello::beside(table, runs, "meta-data", &Invocation::primary_ips("meta-data", IP_FILE)?, 2.0)?;
    serve(FEW)?;
    let monitor = Invocation::primary_ips("monitor", IP_FILE)?;
    hello::beside(table, runs, "monitor, 100 addresses", &monitor, 1.4)?;
    hello::instructions(table, &monitor)?;
    hundred_ipaddr2(table)?;
    Invocation::primary_ips("stop", IP_FILE)?.cost()?;
    serve(MANY)?;
    many(table, rounds)?;
    Invocation::primary_ips("stop", IP_FILE)?.cost().map(drop)
}

/// Brings so many addresses up.
fn serve(count: u16) -> Result<()> {
    fs::write(IP_FILE, ip_file(&service_ipv4(count)))?;
    Invocation::primary_ips("start", IP_FILE)?.cost()?;
    Invocation::primary_ips("promote", IP_FILE)?.cost().map(drop)
}

fn hundred_ipaddr2(table: &Table) -> Result<()> {
    let monitor = Invocation::primary_ips("monitor", IP_FILE)?;
    let peers: Vec<_> = service_ipv4(FEW)
        .iter()
        .map(|address| Invocation::ipaddr2("monitor", &address.to_string(), IPV4_PREFIX))
        .collect();
    let ours = median((0..RUNS).map(|_| seconds(monitor.cost())).collect::<Result<Vec<_>>>()?.into_iter());
    let theirs: f64 = peers.iter().map(|peer| seconds(peer.cost())).sum::<Result<f64>>()?;
    let peer = format!("100 IPaddr2: {}", ms(theirs));
    table.compare("monitor, 100 addresses", &ms(ours), &peer, ours / theirs, Goal::Better(1500.0));
    let (ours, theirs) = (monitor.started()?, peers[0].started()?);
    let peer = format!("100 IPaddr2: {}, {}", theirs.execs * peers.len(), theirs.forks * peers.len());
    let met = (ours.execs, ours.forks) == (1, 0);
    let what = "programs executed, processes forked (strace)";
    table.row(what, &format!("{}, {}", ours.execs, ours.forks), &peer, "", "1, 0", Some(met));
    Ok(())
}

fn many(table: &Table, rounds: usize) -> Result<()> {
    let monitor = Invocation::primary_ips("monitor", IP_FILE)?;
    let costs = (0..rounds * 4).map(|_| monitor.cost()).collect::<Result<Vec<Cost>>>()?;
    let processor = median(costs.iter().map(|cost| cost.processor.as_secs_f64()));
    let elapsed = median(costs.iter().map(|cost| cost.elapsed.as_secs_f64()));
    let ours = format!("{} ({} elapsed)", ms(processor), ms(elapsed));
    table.row("monitor, 10,000 addresses", &ours, "", "", "<= 15 ms", Some(processor <= 0.015));
    Ok(())
}

fn seconds(cost: Result<Cost>) -> Result<f64> {
    cost.map(|cost| cost.processor.as_secs_f64())
}
