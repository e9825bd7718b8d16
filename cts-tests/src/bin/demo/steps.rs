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

use crate::database;
use crate::screen::Screen;
use crate::services::{self, Client};

/// The line that is added to the file and removed from it.
const NEWCOMER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 100, 1));

/// A monitor every 5 s applies an edit; this is ample.
const EDIT: Duration = Duration::from_secs(30);

/// The clients of what is behind the first of the addresses.
pub(crate) struct Clients {
    smtp: Client,
    database: database::Client,
}

/// What was seen from outside of one step: of the addresses, of the SMTP server and of the database on one of them.
struct Seen {
    addresses: Outage,
    smtp: Duration,
    database: database::Seen,
}

/// Plays every step, then prints the outages in a table.
pub(crate) fn play(rig: &Rig, screen: &Screen) -> Result<()> {
    let clients = Clients { smtp: Client::start(rig)?, database: database::Client::start(rig)? };
    start(rig, &clients, screen)?;
    let moved = movement(rig, &clients, screen)?;
    let edited = edits(rig, &clients, screen)?;
    services::die(rig, &clients.smtp, screen)?;
    let cut = power_cut(rig, &clients, screen)?;
    screen.say("longest silence, measured from outside: of an address by ping, of the SMTP server by connecting, of the database by writing;");
    screen.say("and how many of the rows that the database acknowledged are there afterwards:");
    let head = ["median", "worst of IPv4", "worst of IPv6", "SMTP server", "database", "rows found"];
    let [median, ipv4, ipv6, smtp, database, rows] = head;
    screen.say(&format!("  {:26}{median:>8}{ipv4:>15}{ipv6:>15}{smtp:>13}{database:>10}{rows:>14}", ""));
    for (name, Seen { addresses, smtp, database }) in
        [("planned move", moved), ("line added, line removed", edited), ("power cut with fencing", cut)]
    {
        let [ipv4, ipv6] =
            [addresses.worst_ipv4, addresses.worst_ipv6].map(|worst| worst.map_or("-".to_owned(), seconds));
        let (median, smtp) = (seconds(addresses.median), seconds(smtp));
        let rows = format!("{} of {}", database.found, database.acknowledged);
        let database = seconds(database.outage);
        screen.say(&format!("  {name:26}{median:>8}{ipv4:>15}{ipv6:>15}{smtp:>13}{database:>10}{rows:>14}"));
    }
    let [ping, connect] = [rig.observer.interval(), services::INTERVAL].map(|interval| interval.as_millis());
    screen.say(&format!(
        "  (asked every {ping} ms and {connect} ms: no silence is shorter than that; IPv6 addresses serve"
    ));
    screen.say("   once the kernel has made sure that nobody else has them, which takes it one to two seconds)");
    Ok(())
}

fn start(rig: &Rig, clients: &Clients, screen: &Screen) -> Result<()> {
    let holder = rig.healthy()?;
    let answered = rig.observer.all_answered(rig.cluster.began()).context("an address never answered")?;
    let took = seconds(answered - rig.cluster.began());
    let count = rig.subject.addresses.len();
    screen.say(&format!("start: {took} from power on to all {count} addresses answering, on {}", holder.name));
    let (answered, banner) = clients.smtp.greeted(rig.cluster.began())?;
    let took = seconds(answered - rig.cluster.began());
    let address = clients.smtp.address;
    screen.say(&format!("  {took} to the first client of the SMTP server at {address}: \"{banner}\""));
    let took = seconds(clients.database.wrote(rig.cluster.began())? - rig.cluster.began());
    screen.say(&format!("  {took} to the first row in the database at {}", clients.database.address));
    Ok(())
}

fn movement(rig: &Rig, clients: &Clients, screen: &Screen) -> Result<Seen> {
    let (from, count) = (rig.healthy()?, rig.subject.addresses.len());
    let to = rig.cluster.peer(from)?;
    let began = Instant::now();
    screen.say(&format!(
        "planned move of the database, {count} addresses and the services from {} to {}",
        from.name, to.name
    ));
    let addresses = planned_move(rig)?;
    let seen = clients.seen(rig, addresses, began)?;
    screen.say(&format!("moved: {}", seen.describe()));
    Ok(seen)
}

/// A line comes and goes in the file of both nodes; nothing else changes.
fn edits(rig: &Rig, clients: &Clients, screen: &Screen) -> Result<Seen> {
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
    let seen = clients.seen(rig, rig.observer.outage(began, Instant::now()), began)?;
    screen.say(&format!("no failover, and no other address was touched: {}", seen.describe()));
    Ok(seen)
}

fn edit(rig: &Rig, content: &str) -> Result<()> {
    rig.cluster.nodes.iter().try_for_each(|node| node.write_file(IP_FILE, content, 0o644, Owner::Root))
}

fn power_cut(rig: &Rig, clients: &Clients, screen: &Screen) -> Result<Seen> {
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
    let addresses = rig.observer.outage(began, answered);
    clients.smtp.greeted(taken)?;
    let seen = clients.seen(rig, addresses, began)?;
    screen.say(&format!("{} took over: {}", peer.name, seen.describe()));
    rig.settled()?;
    rig.subject.resources().try_for_each(|resource| rig.cluster.cleanup(&resource.id()))?;
    let holder = rig.healthy()?;
    ensure!(holder.name == peer.name, "the addresses went back to {} by themselves", holder.name);
    let back = seconds(began.elapsed());
    screen.say(&format!("{} is back and stands by, {back} after the cut", victim.name));
    Ok(seen)
}

impl Clients {
    fn seen(&self, rig: &Rig, addresses: Outage, began: Instant) -> Result<Seen> {
        let database = self.database.seen(rig, began)?;
        Ok(Seen { addresses, smtp: self.smtp.outage(began)?, database })
    }
}

impl Seen {
    fn describe(&self) -> String {
        let Outage { worst, median, worst_address, .. } = self.addresses;
        let [worst, median, smtp, writer] = [worst, median, self.smtp, self.database.outage].map(seconds);
        format!(
            "{worst} outage at worst ({worst_address}), {median} in the median, {smtp} for the SMTP client, {writer} for \
             that of the database"
        )
    }
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
