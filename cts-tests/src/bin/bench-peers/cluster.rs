//! Start, move and power cut of 100 addresses in a cluster, until the kernel has the last of them; and what the
//! monitors cost.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cts_tests::address_watch::AddressWatch;
use cts_tests::cib::{Cib, Resource};
use cts_tests::cluster::Cluster;
use cts_tests::network::service_ipv4;
use cts_tests::node::Node;
use cts_tests::subject::{IP_FILE, ip_file};
use cts_tests::wait;

use crate::contender::{ipaddr2, primary_ips, scrap};
use crate::executors::processor_time_a_minute;
use crate::invocation::median;
use crate::table::{Goal, Table};

const COUNT: u16 = 100;

/// A hundred IPaddr2 one after the other need some 20 s on two processors.
const LIMIT: Duration = Duration::from_secs(180);

/// What was seen of one contender, in seconds.
struct Seen {
    start: f64,
    moved: f64,
    cut: f64,
    /// Processor time of the agents in a minute.
    monitors: f64,
}

pub(crate) fn measure(table: &Table, rounds: usize) -> Result<()> {
    let addresses = service_ipv4(COUNT);
    let members = addresses.iter().enumerate().map(|(number, address)| ipaddr2(&format!("ip{number}"), address));
    let group = Resource::Group("ips".to_owned(), members.collect());
    let peer = play(&group, &addresses, rounds).context("the group of IPaddr2")?;
    for (form, promotable) in [("plain resource", false), ("promotable clone", true)] {
        let ours = play(&primary_ips(IP_FILE, "fail", promotable), &addresses, rounds);
        let ours = ours.with_context(|| format!("primary-ips as {form}"))?;
        let events = [
            ("start (one run)", ours.start, peer.start, Goal::Better(20.0)),
            ("planned move", ours.moved, peer.moved, Goal::Better(20.0)),
            ("power cut, fencing included", ours.cut, peer.cut, Goal::None),
        ];
        for (event, ours, peer, goal) in events {
            let (own, theirs) = (format!("{ours:.2} s"), format!("100 IPaddr2: {peer:.2} s"));
            table.compare(&format!("{form}: {event}"), &own, &theirs, ours / peer, goal);
        }
        let (own, theirs) = (format!("{:.2} s", ours.monitors), format!("100 IPaddr2: {:.2} s", peer.monitors));
        // The kernel counts it in ticks of 10 ms: less than one is shown as none.
        let ratio = ours.monitors.max(0.01) / peer.monitors;
        table.compare(&format!("{form}: agents' processor time a minute"), &own, &theirs, ratio, Goal::None);
    }
    Ok(())
}

/// Plays everything with one contender in a cluster of its own.
fn play(resource: &Resource, addresses: &[IpAddr], rounds: usize) -> Result<Seen> {
    let cluster = Cluster::builder(2).file(IP_FILE, ip_file(addresses)).agent("primary-ips")?.start()?;
    let seen = measured(&cluster, resource, addresses, rounds).map_err(|error| error.context(cluster.dump()))?;
    scrap(&cluster)?;
    Ok(seen)
}

fn measured(cluster: &Cluster, resource: &Resource, addresses: &[IpAddr], rounds: usize) -> Result<Seen> {
    cluster.wait_quorum(2)?;
    cluster.wait_idle()?;
    let (mut holder, start) = start(cluster, resource, addresses)?;
    std::thread::sleep(Duration::from_secs(5));
    let monitors = processor_time_a_minute(cluster.nodes.iter().map(AsRef::as_ref))?.iter().sum();
    let (mut moves, mut cuts) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        moves.push(planned_move(cluster, resource, addresses, &holder)?);
        holder = Arc::clone(cluster.peer(&holder)?);
    }
    for _ in 0..rounds {
        cuts.push(power_cut(cluster, resource, addresses, &holder)?);
        holder = Arc::clone(cluster.peer(&holder)?);
    }
    Ok(Seen { start, moved: median(moves.into_iter()), cut: median(cuts.into_iter()), monitors })
}

/// From the configuration's being loaded to the last address, probes included; and where they are.
fn start(cluster: &Cluster, resource: &Resource, addresses: &[IpAddr]) -> Result<(Arc<Node>, f64)> {
    let watches = cluster.nodes.iter().map(|node| AddressWatch::start(node)).collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    cluster.load(&Cib::default().resource(resource.clone()))?;
    let complete = || {
        let mut found = cluster.nodes.iter().zip(&watches);
        Ok(found.find_map(|(node, watch)| Some((node, watch.complete(began, addresses)?))))
    };
    let ((node, at), _) = wait::until_some("the first start", LIMIT, wait::QUICK, complete)?;
    settle(cluster)?;
    Ok((Arc::clone(node), (at - began).as_secs_f64()))
}

fn planned_move(cluster: &Cluster, resource: &Resource, addresses: &[IpAddr], from: &Node) -> Result<f64> {
    let to = cluster.peer(from)?;
    let watch = AddressWatch::start(to)?;
    let began = Instant::now();
    cluster.move_to(&resource.id(), resource.is_promotable(), to)?;
    let at = complete(&watch, began, addresses, "the planned move")?;
    settle(cluster)?;
    cluster.clear(&resource.id())?;
    settle(cluster)?;
    Ok((at - began).as_secs_f64())
}

fn power_cut(cluster: &Cluster, resource: &Resource, addresses: &[IpAddr], victim: &Node) -> Result<f64> {
    let watch = AddressWatch::start(cluster.peer(victim)?)?;
    let began = Instant::now();
    victim.power_cut()?;
    let at = complete(&watch, began, addresses, "the takeover after a power cut")?;
    cluster.wait_quorum(2)?;
    settle(cluster)?;
    cluster.cleanup(&resource.id())?;
    settle(cluster)?;
    Ok((at - began).as_secs_f64())
}

fn complete(watch: &AddressWatch, began: Instant, addresses: &[IpAddr], what: &str) -> Result<Instant> {
    wait::until_some(what, LIMIT, wait::QUICK, || Ok(watch.complete(began, addresses))).map(|(at, _)| at)
}

/// A hundred actions may be under way, and one wait for an idle cluster is shorter than they are.
fn settle(cluster: &Cluster) -> Result<()> {
    cluster.wait_idle().or_else(|_| cluster.wait_idle())
}
