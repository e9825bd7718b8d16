//! One monitor: beside a program that does nothing, and beside one IPaddr2 for each address.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use cts_tests::installed;
use cts_tests::network::{IPV4_PREFIX, service_ipv4};
use cts_tests::subject::ip_file;

use crate::contender::{IP_FILE, eth0};
use crate::invocation::{Cost, Invocation, Pairs, median};
use crate::table::{Goal, Table};

const FEW: u16 = 100;
const MANY: u16 = 10_000;

/// Runs of each program for a round.
const RUNS: usize = 40;

pub(crate) fn measure(table: &Table, rounds: usize) -> Result<()> {
    eth0()?;
    let hello = installed::rig_program("hello")?;
    let hello = Invocation::new([hello.to_str().context("the target directory's name is not UTF-8")?]);
    let runs = rounds * RUNS;
    metadata(table, runs, &hello)?;
    serve(FEW)?;
    hundred(table, runs, &hello)?;
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

fn metadata(table: &Table, runs: usize, hello: &Invocation) -> Result<()> {
    let metadata = Invocation::primary_ips("meta-data", IP_FILE)?;
    let pairs = in_turn(runs, &metadata, hello)?;
    let peer = format!("hello, world: {}", ms(pairs.second));
    table.compare("meta-data", &ms(pairs.first), &peer, pairs.ratio, Goal::AtMost(2.0));
    Ok(())
}

fn hundred(table: &Table, runs: usize, hello: &Invocation) -> Result<()> {
    let monitor = Invocation::primary_ips("monitor", IP_FILE)?;
    let pairs = in_turn(runs, &monitor, hello)?;
    let peer = format!("hello, world: {}", ms(pairs.second));
    table.compare("monitor, 100 addresses", &ms(pairs.first), &peer, pairs.ratio, Goal::AtMost(1.4));
    let what = "the same, instructions outside the kernel (callgrind)";
    match (monitor.instructions()?, hello.instructions()?) {
        (Some(ours), Some(hellos)) => {
            let ratio = thousands(ours) / thousands(hellos);
            let [ours, hellos] = [ours, hellos].map(|count| format!("{:.0} thousand", thousands(count)));
            table.row(what, &ours, &format!("hello, world: {hellos}"), &format!("{ratio:.2} times"), "", None);
        }
        _ => table.row(what, "not available", "valgrind is not installed", "", "", None),
    }
    Ok(())
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

/// The processor time of two programs.
fn in_turn(runs: usize, first: &Invocation, second: &Invocation) -> Result<Pairs> {
    let pair = || Ok((first.cost()?.processor, second.cost()?.processor));
    Ok(Pairs::of(&(0..runs).map(|_| pair()).collect::<Result<Vec<(Duration, Duration)>>>()?))
}

fn seconds(cost: Result<Cost>) -> Result<f64> {
    cost.map(|cost| cost.processor.as_secs_f64())
}

fn ms(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1000.0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of instructions are far below the 2^53 that a f64 holds exactly"
)]
fn thousands(count: u64) -> f64 {
    count as f64 / 1000.0
}
