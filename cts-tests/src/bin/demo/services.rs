//! The services on stage: a client of one of them, and what becomes of one that dies.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::daemontools::Places;
use cts_tests::greenarrow::{ACTIVE, SMTP};
use cts_tests::node::Node;
use cts_tests::port_watch::{PortWatch, both};
use cts_tests::scenarios::Rig;
use cts_tests::supervision::{AMPLE, Supervision};
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

use crate::screen::Screen;
use crate::steps::seconds;

/// How often the client connects.
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);

/// One that dies, and one whose supervise does.
const MORTAL: &str = "hvmail-httpd";
const ABANDONED: &str = "hvmail-logfile-writer";

/// A client of the SMTP server on the first of the addresses.
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    watch: PortWatch,
}

impl Client {
    pub(crate) fn start(rig: &Rig) -> Result<Self> {
        let address = *rig.subject.addresses.first().context("there are no addresses")?;
        Ok(Self { address, watch: PortWatch::start((address, SMTP).into(), INTERVAL)? })
    }

    /// The banner of whoever answers a connection begun after `since`, and when that was.
    pub(crate) fn greeted(&self, since: Instant) -> Result<(Instant, String)> {
        let answer = || Ok(self.watch.answered_since(since));
        Ok(wait::until_some("the SMTP server to greet its client", AMPLE, wait::QUICK, answer)?.0)
    }

    /// How long it was without a server from then on; there must never have been two.
    pub(crate) fn outage(&self, began: Instant) -> Result<Duration> {
        let now = Instant::now();
        let two = both(&[&self.watch], began, now);
        ensure!(two.is_none(), "two servers answered at {} at the same time: {two:?}", self.address);
        Ok(self.watch.outage(began, now))
    }
}

/// How many of the services that the agent answers for run on a node.
pub(crate) fn running(node: &Node) -> Result<usize> {
    let names = Supervision::of(node, Places::greenarrow()).names()?;
    Ok(names.iter().filter(|name| ACTIVE.contains(&name.as_str())).count())
}

/// A service dies, and then a supervise: neither moves anything.
pub(crate) fn die(rig: &Rig, client: &Client, screen: &Screen) -> Result<()> {
    let holder = rig.healthy()?;
    let services = Supervision::of(holder, Places::greenarrow());
    let began = Instant::now();
    let first = services.process_of(MORTAL)?.with_context(|| format!("{MORTAL} does not run"))?;
    process::signal(first, Signal::SIGKILL)?;
    let took = started_anew(&services, MORTAL, first)?;
    screen.say(&format!("{MORTAL} killed on {}: its supervise started it again after {}", holder.name, seconds(took)));
    screen.say(&format!("  the monitor's word: {}", word(rig, MORTAL)?));
    // Pacemaker hears of a second degraded answer only when another one was between them.
    forget(rig)?;
    let orphan = services.process_of(ABANDONED)?.with_context(|| format!("{ABANDONED} does not run"))?;
    services.kill_supervise(ABANDONED)?;
    let took = started_anew(&services, ABANDONED, orphan)?;
    let took = seconds(took);
    screen.say(&format!("the supervise of {ABANDONED} killed: the service runs under a new one after {took}"));
    screen.say(&format!("  the monitor's word: {}", word(rig, ABANDONED)?));
    forget(rig)?;
    let after = rig.healthy()?;
    let fenced = rig.cluster.switch.since(began);
    ensure!(after.name == holder.name && fenced.is_empty(), "it moved to {}: {fenced:?}", after.name);
    screen.say(&format!("no failover; the SMTP client's longest wait was {}", seconds(client.outage(began)?)));
    Ok(())
}

/// Forgets what failed, and waits until all is well.
fn forget(rig: &Rig) -> Result<()> {
    rig.subject.resources().try_for_each(|resource| rig.cluster.cleanup(&resource.id()))?;
    rig.healthy().map(drop)
}

/// Waits until the supervise of the service has started another process than `old`, and that one is the only one.
fn started_anew(services: &Supervision, name: &str, old: u32) -> Result<Duration> {
    wait::until(&format!("{name} to be started anew"), AMPLE, wait::QUICK, || {
        let new = services.process_of(name)?.filter(|pid| *pid != old);
        let all = services.running()?.into_iter().filter(|(service, _)| service == name).count();
        Ok(new.is_some() && all == 1)
    })
}

/// What Pacemaker shows of the service among the answers that were not plain successes.
fn word(rig: &Rig, service: &str) -> Result<String> {
    let said = || {
        let failures = rig.cluster.status().map(|status| status.failures).unwrap_or_default();
        Ok(failures.into_iter().find(|failure| failure.reason.contains(service)))
    };
    let (found, _) = wait::until_some("the monitor to speak of it", AMPLE, wait::TOOL, said)?;
    Ok(format!("{}: {}", found.status, found.reason))
}
