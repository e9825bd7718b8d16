//! The steps of the demonstration, each measured from outside.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::address_watch::AddressWatch;
use cts_tests::node::Owner;
use cts_tests::observer::{Observer, Outage};
use cts_tests::scenarios::{Rig, planned_move};
use cts_tests::subject::{IP_FILE, ip_file};
use cts_tests::wait;

use crate::screen::Screen;

/// The line that is added to the file and removed from it.
const NEWCOMER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 100, 1));

/// A monitor every 5 s applies an edit; this is ample.
const EDIT: Duration = Duration::from_secs(30);

/// Plays every step, then prints the outages in a table.
pub(crate) fn play(rig: &Rig, screen: &Screen) -> Result<()> {
    start(rig, screen)?;
    let moved = movement(rig, screen)?;
    let edited = edits(rig, screen)?;
    let cut = power_cut(rig, screen)?;
    screen.say("longest silence of an address, measured from outside by ping:");
    screen.say(&format!("  {:28}{:>10}{:>14}{:>14}", "", "median", "worst of IPv4", "worst of IPv6"));
    for (name, outage) in
        [("planned move", moved), ("line added, line removed", edited), ("power cut with fencing", cut)]
    {
        let [ipv4, ipv6] = [outage.worst_ipv4, outage.worst_ipv6].map(|worst| worst.map_or("-".to_owned(), seconds));
        screen.say(&format!("  {name:28}{:>10}{ipv4:>14}{ipv6:>14}", seconds(outage.median)));
    }
    let interval = rig.observer.interval().as_millis();
    screen
        .say(&format!("  (each address is asked every {interval} ms: no silence is shorter than that; IPv6 addresses"));
    screen.say("   serve once the kernel has made sure that nobody else has them, which takes it one to two seconds)");
    Ok(())
}

fn start(rig: &Rig, screen: &Screen) -> Result<()> {
    let holder = rig.healthy()?;
    let answered = rig.observer.all_answered(rig.cluster.began()).context("an address never answered")?;
    let took = seconds(answered - rig.cluster.began());
    let count = rig.subject.addresses.len();
    screen.say(&format!("start: {took} from power on to all {count} addresses answering, on {}", holder.name));
    Ok(())
}

fn movement(rig: &Rig, screen: &Screen) -> Result<Outage> {
    let (from, count) = (rig.healthy()?, rig.subject.addresses.len());
    let to = rig.cluster.peer(from)?;
    screen.say(&format!("planned move of {count} addresses from {} to {}", from.name, to.name));
    let outage = planned_move(rig)?;
    screen.say(&format!("moved: {}", describe(outage)));
    Ok(outage)
}

/// A line comes and goes in the file of both nodes; nothing else changes.
fn edits(rig: &Rig, screen: &Screen) -> Result<Outage> {
    let holder = rig.healthy()?;
    let watch = AddressWatch::start(holder)?;
    let newcomer = Observer::start(&[NEWCOMER], Duration::from_millis(50))?;
    let began = Instant::now();
    let before = ip_file(&rig.subject.addresses);
    edit(rig, &format!("{before}{}", ip_file(&[NEWCOMER])))?;
    let what = format!("{NEWCOMER} to answer");
    let (_, took) = wait::until_some(&what, EDIT, wait::QUICK, || Ok(newcomer.all_answered(began)))?;
    screen.say(&format!("line added: {NEWCOMER} answers {} after the file was saved", seconds(took)));
    edit(rig, &before)?;
    let what = format!("{NEWCOMER} to be gone");
    let gone = || Ok(holder.addresses()?.iter().all(|held| held.address != NEWCOMER));
    let took = wait::until(&what, EDIT, Duration::from_millis(50), gone)?;
    screen.say(&format!("line removed: {NEWCOMER} is gone {} after the file was saved", seconds(took)));
    let after = rig.healthy()?;
    let lost = watch.lost(began, &rig.subject.addresses);
    ensure!(after.name == holder.name && lost.is_empty(), "the edits disturbed other addresses: {lost:?}");
    let outage = rig.observer.outage(began, Instant::now());
    screen.say(&format!("no failover, and no other address was touched: {}", describe(outage)));
    Ok(outage)
}

fn edit(rig: &Rig, content: &str) -> Result<()> {
    rig.cluster.nodes.iter().try_for_each(|node| node.write_file(IP_FILE, content, 0o644, Owner::Root))
}

fn power_cut(rig: &Rig, screen: &Screen) -> Result<Outage> {
    let victim = rig.healthy()?;
    let peer = rig.cluster.peer(victim)?;
    let began = Instant::now();
    screen.say(&format!("power cut of {}", victim.name));
    victim.power_cut()?;
    let fencing = || Ok(rig.cluster.switch.since(began).into_iter().next());
    let (fencing, _) = wait::until_some("fencing", Duration::from_secs(30), wait::QUICK, fencing)?;
    let after = seconds(fencing.done - began);
    screen.say(&format!("{} fenced {} {after} after the cut", fencing.by, fencing.target));
    let held = || Ok(rig.held(peer)? == rig.subject.addresses.len());
    wait::until("the survivor to hold every address", Duration::from_secs(60), wait::QUICK, held)?;
    // Asked from here on: an answer that the dead node sent just before the cut must not count.
    let taken = Instant::now();
    let what = "every address to answer again";
    let answered = || Ok(rig.observer.all_answered(taken));
    let (answered, _) = wait::until_some(what, Duration::from_secs(30), wait::QUICK, answered)?;
    let outage = rig.observer.outage(began, answered);
    screen.say(&format!("{} took over: {}", peer.name, describe(outage)));
    rig.settled()?;
    rig.cluster.cleanup(&rig.subject.main.id())?;
    let holder = rig.healthy()?;
    ensure!(holder.name == peer.name, "the addresses went back to {} by themselves", holder.name);
    let back = seconds(began.elapsed());
    screen.say(&format!("{} is back and stands by, {back} after the cut", victim.name));
    Ok(outage)
}

fn describe(outage: Outage) -> String {
    let (worst, median) = (seconds(outage.worst), seconds(outage.median));
    format!("{worst} outage at worst ({}), {median} in the median", outage.worst_address)
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
