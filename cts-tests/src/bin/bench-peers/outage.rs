//! How long clients were without 500 addresses, and without the one of an IPaddr2 that moves in the same event.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cib::{Cib, Resource};
use cts_tests::cluster::Cluster;
use cts_tests::network::service_ipv4;
use cts_tests::node::Node;
use cts_tests::observer::{Observer, Outage};
use cts_tests::subject::{IP_FILE, ip_file};
use cts_tests::wait;

use crate::contender::{ipaddr2, primary_ips, scrap};
use crate::invocation::median;
use crate::table::Table;

const COUNT: u16 = 500;

/// The address of the IPaddr2, in the same subnet.
const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 99, 1));

/// Between two pings of an address.
const INTERVAL: Duration = Duration::from_millis(20);

/// Each tenth address of the set is asked, the first and the last among them: 2,550 pings a second in all, which two
/// processors can bear beside a cluster. All of them so often would disturb what is measured.
const ASKED: usize = 50;

const LIMIT: Duration = Duration::from_secs(60);

/// Both resources in one cluster, each address observed.
struct Race {
    cluster: Cluster,
    set: Resource,
    addresses: Vec<IpAddr>,
    observers: [Observer; 2],
}

/// One event as the clients of both saw it.
struct Seen {
    set: Outage,
    one: Outage,
}

pub(crate) fn measure(table: &Table, rounds: usize) -> Result<()> {
    let plain = primary_ips(IP_FILE, "fail", false);
    let clone = primary_ips(IP_FILE, "fail", true);
    // What IPaddr2 does: it looks for no other owner of an IPv4 address.
    let unchecked = primary_ips(IP_FILE, "off", true);
    for (form, set) in [("plain", plain), ("clone", clone), ("clone, duplicate_check=off", unchecked)] {
        let race = Race::prepare(set)?;
        let measured = race.run(table, form, rounds);
        measured.map_err(|error| error.context(race.cluster.dump()))?;
        scrap(&race.cluster)?;
    }
    println!(
        "\nOurs: the worst of {ASKED} of the 500 addresses, and the median one. Each is asked every {} ms; met: the worst is \
         within one such interval of the one address.",
        INTERVAL.as_millis()
    );
    Ok(())
}

impl Race {
    fn prepare(set: Resource) -> Result<Self> {
        let addresses = service_ipv4(COUNT);
        let asked: Vec<IpAddr> = (0..ASKED).map(|nth| addresses[nth * (addresses.len() - 1) / (ASKED - 1)]).collect();
        let observers = [Observer::start(&asked, INTERVAL)?, Observer::start(&[ONE], INTERVAL)?];
        let builder = Cluster::builder(2).file(IP_FILE, ip_file(&addresses)).agent("primary-ips")?;
        let one = Resource::Plain(ipaddr2("one", &ONE));
        let cluster = builder.configure(|cib: Cib| cib.resource(set.clone()).resource(one)).start()?;
        Ok(Self { cluster, set, addresses, observers })
    }

    fn run(&self, table: &Table, form: &str, rounds: usize) -> Result<()> {
        self.cluster.wait_quorum(2)?;
        self.place(&self.cluster.nodes[0].name, "INFINITY")?;
        let mut holder = self.together()?;
        let (mut moves, mut cuts) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            moves.push(self.planned_move(&holder)?);
            holder = self.together()?;
        }
        for _ in 0..rounds {
            cuts.push(self.power_cut(&holder)?);
            holder = self.together()?;
        }
        report(table, &format!("{form}: planned move"), &moves);
        report(table, &format!("{form}: power cut"), &cuts);
        Ok(())
    }

    /// Where both resources are to be, as one change of the configuration, so that both move in one transition.
    fn place(&self, node: &str, score: &str) -> Result<()> {
        let role = if self.set.is_promotable() { " role=\"Promoted\"" } else { "" };
        let set = self.set.id();
        let constraints = format!(
            "<constraints><rsc_location id=\"place-set\" rsc=\"{set}\"{role} node=\"{node}\" score=\"{score}\"/>\
             <rsc_location id=\"place-one\" rsc=\"one\" node=\"{node}\" score=\"{score}\"/></constraints>"
        );
        let change = ["cibadmin", "--modify", "--allow-create", "--scope", "constraints", "--xml-text", &constraints];
        self.cluster.any()?.text(&change).map(drop)
    }

    /// Waits until the cluster is idle and one node has all addresses; which node.
    fn together(&self) -> Result<Arc<Node>> {
        let settled = wait::until_some("both resources to be on one node", LIMIT, wait::TOOL, || {
            self.cluster.wait_idle()?;
            Ok(self.holder()?.cloned())
        });
        let (holder, _) = settled?;
        self.answering(Instant::now())?;
        Ok(holder)
    }

    fn holder(&self) -> Result<Option<&Arc<Node>>> {
        for node in &self.cluster.nodes {
            if node.is_on() && self.holds(node)? {
                return Ok(Some(node));
            }
        }
        Ok(None)
    }

    fn holds(&self, node: &Node) -> Result<bool> {
        let held: Vec<IpAddr> = node.addresses()?.into_iter().map(|held| held.address).collect();
        Ok(held.contains(&ONE) && self.addresses.iter().all(|address| held.contains(address)))
    }

    /// Waits for an answer of every address that was sent after `since`.
    fn answering(&self, since: Instant) -> Result<()> {
        let answered = || Ok(self.observers.iter().all(|observer| observer.all_answered(since).is_some()));
        wait::until("every address to answer ping", LIMIT, wait::QUICK, answered).map(drop)
    }

    fn planned_move(&self, from: &Node) -> Result<Seen> {
        let to = self.cluster.peer(from)?;
        let began = Instant::now();
        self.place(&to.name, "INFINITY")?;
        let seen = self.taken_over(to, began)?;
        ensure!(self.cluster.switch.since(began).is_empty(), "a planned move called for fencing");
        Ok(seen)
    }

    fn power_cut(&self, victim: &Node) -> Result<Seen> {
        // With a preference left, both would go back once their node has returned.
        self.place(&victim.name, "0")?;
        self.cluster.wait_idle()?;
        let to = self.cluster.peer(victim)?;
        let began = Instant::now();
        victim.power_cut()?;
        let seen = self.taken_over(to, began)?;
        self.cluster.wait_quorum(2)?;
        self.cluster.wait_idle()?;
        Ok(seen)
    }

    /// Waits until `to` has everything and all of it answers.
    fn taken_over(&self, to: &Node, began: Instant) -> Result<Seen> {
        wait::until("the other node to hold every address", LIMIT, Duration::from_millis(100), || self.holds(to))?;
        self.answering(Instant::now()).with_context(|| format!("after {} took over", to.name))?;
        let now = Instant::now();
        let [set, one] = self.observers.each_ref().map(|observer| observer.outage(began, now));
        Ok(Seen { set, one })
    }
}

fn report(table: &Table, what: &str, seen: &[Seen]) {
    let [worst, middle, one] = [
        median(seen.iter().map(|seen| seen.set.worst.as_secs_f64())),
        median(seen.iter().map(|seen| seen.set.median.as_secs_f64())),
        median(seen.iter().map(|seen| seen.one.worst.as_secs_f64())),
    ];
    let ours = format!("{worst:.2} s, {middle:.2} s");
    let met = worst <= one + INTERVAL.as_secs_f64();
    let ratio = format!("{:.2} times", worst / one);
    table.row(what, &ours, &format!("one IPaddr2: {one:.2} s"), &ratio, "<= 1", Some(met));
}
