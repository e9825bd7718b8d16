//! promote and demote: beside iproute2 doing only the kernel's part of it, and beside one IPaddr2 after the other.

use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use cts_tests::network::{IPV4_PREFIX, service_ipv4, with_prefix};
use cts_tests::subject::ip_file;

use crate::contender::{IP_FILE, eth0};
use crate::invocation::{Invocation, Pairs};
use crate::table::{Goal, Table};

const ADD: &str = "/run/add";
const DELETE: &str = "/run/delete";

pub(crate) fn measure(table: &Table, rounds: usize) -> Result<()> {
    eth0()?;
    beside_ip(table, 1000, rounds * 4, 3.0)?;
    beside_ip(table, 10_000, rounds.min(3), 1.3)?;
    beside_ipaddr2(table)
}

fn beside_ip(table: &Table, count: u16, rounds: usize, limit: f64) -> Result<()> {
    let addresses = service_ipv4(count);
    fs::write(IP_FILE, ip_file(&addresses))?;
    fs::write(ADD, batch("add", " brd +", &addresses))?;
    fs::write(DELETE, batch("del", "", &addresses))?;
    let [start, promote, demote, stop] =
        ["start", "promote", "demote", "stop"].map(|action| Invocation::primary_ips(action, IP_FILE));
    let (promote, demote) = (promote?, demote?);
    let [add, delete] = [ADD, DELETE].map(|file| Invocation::new(["ip", "-batch", file]));
    start?.cost()?;
    let (mut ups, mut downs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (promoted, demoted) = (promote.cost()?.elapsed, demote.cost()?.elapsed);
        let (added, deleted) = (add.cost()?.elapsed, delete.cost()?.elapsed);
        ups.push((promoted, added));
        downs.push((demoted, deleted));
    }
    stop?.cost()?;
    for (what, pairs) in [("promote, first announcement included", Pairs::of(&ups)), ("demote", Pairs::of(&downs))] {
        let (ours, peer) = (ms(pairs.first), format!("ip -batch: {}", ms(pairs.second)));
        table.compare(&format!("{what}, {count} addresses"), &ours, &peer, pairs.ratio, Goal::AtMost(limit));
    }
    Ok(())
}

fn beside_ipaddr2(table: &Table) -> Result<()> {
    let addresses = service_ipv4(100);
    fs::write(IP_FILE, ip_file(&addresses))?;
    Invocation::primary_ips("start", IP_FILE)?.cost()?;
    let action = |action| {
        let one = |address: &IpAddr| Invocation::ipaddr2(action, &address.to_string(), IPV4_PREFIX).cost();
        addresses.iter().map(|address| one(address).map(|cost| cost.elapsed)).sum::<Result<Duration>>()
    };
    let (ours_up, ours_down) = (
        Invocation::primary_ips("promote", IP_FILE)?.cost()?.elapsed.as_secs_f64(),
        Invocation::primary_ips("demote", IP_FILE)?.cost()?.elapsed.as_secs_f64(),
    );
    let (theirs_up, theirs_down) = (action("start")?.as_secs_f64(), action("stop")?.as_secs_f64());
    for (what, ours, theirs) in [("promote", ours_up, theirs_up), ("demote", ours_down, theirs_down)] {
        let peer = format!("100 IPaddr2 in turn: {}", ms(theirs));
        table.compare(&format!("{what}, 100 addresses (one run)"), &ms(ours), &peer, ours / theirs, Goal::None);
    }
    Invocation::primary_ips("stop", IP_FILE)?.cost().map(drop)
}

fn batch(verb: &str, end: &str, addresses: &[IpAddr]) -> String {
    addresses.iter().fold(String::new(), |mut text, address| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "addr {verb} {}{end} dev eth0", with_prefix(*address));
        text
    })
}

fn ms(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1000.0)
}
