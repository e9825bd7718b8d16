//! What can happen to a cluster, played with any resource that carries addresses.
//!
//! Each scenario begins and ends with a healthy cluster ([`Rig::healthy`]) and returns what a client saw in between.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::address_watch::AddressWatch;
use crate::cib::{Resource, Role};
use crate::cluster::{Builder, Cluster, SETTLE};
use crate::crm_mon::Status;
use crate::node::Node;
use crate::observer::{Observer, Outage};
use crate::subject::Subject;
use crate::{process, wait};

/// A cluster with a resource under test and an observer.
#[derive(Debug)]
pub struct Rig {
    /// The cluster.
    pub cluster: Cluster,
    /// Pings every address of the subject.
    pub observer: Observer,
    /// What is tested.
    pub subject: Subject,
}

/// A scenario: takes a healthy rig and leaves one.
pub type Scenario = fn(&Rig) -> Result<Outage>;

/// Every scenario by name, in an order that needs no repair in between.
pub const ALL: &[(&str, Scenario)] = &[
    ("start", start),
    ("planned move", planned_move),
    ("standby", standby),
    ("cleanup", cleanup),
    ("reprobe", reprobe),
    ("maintenance mode", maintenance),
    ("attrd killed", attrd_killed),
    ("agent killed in mid-action", agent_killed),
    ("power cut", power_cut),
    ("cable cut", cable_cut),
    ("node frozen", node_frozen),
];

impl Rig {
    /// Starts two nodes with the subject configured, and observes them from the first moment.
    pub fn start(subject: Subject, interval: Duration) -> Result<Self> {
        Self::start_from(Cluster::builder(2), subject, interval)
    }

    /// The same with nodes that are not the usual ones.
    pub fn start_from(builder: Builder, subject: Subject, interval: Duration) -> Result<Self> {
        let observer = Observer::start(&subject.addresses, interval)?;
        let mut builder = builder.configure(|cib| subject.configure(cib)).items(subject.items.iter().cloned());
        builder = builder.furnish(subject.furnish);
        for agent in subject.agents {
            builder = builder.agent(agent)?;
        }
        Ok(Self { cluster: builder.start()?, observer, subject })
    }

    /// Plays scenarios one after the other, prints what each cost, and explains the first that fails.
    pub fn play(&self, scenarios: &[(&str, Scenario)]) -> Result<()> {
        for (name, scenario) in scenarios {
            let began = Instant::now();
            let outage = scenario(self)
                .with_context(|| format!("scenario `{name}` with {}{}", self.subject.name, self.cluster.dump()))?;
            let (worst, median, took) = (outage.worst.as_secs_f64(), outage.median.as_secs_f64(), began.elapsed());
            println!("{name}: outage {worst:.2} s at worst, {median:.2} s in the median ({:.1} s)", took.as_secs_f64());
        }
        Ok(())
    }

    /// How many of the subject's addresses a node holds; a node without power holds none.
    pub fn held(&self, node: &Node) -> Result<usize> {
        if !node.is_on() {
            return Ok(0);
        }
        let held: BTreeSet<IpAddr> = node.addresses()?.into_iter().map(|held| held.address).collect();
        Ok(self.subject.addresses.iter().filter(|address| held.contains(address)).count())
    }

    /// The one node that holds every address while no other node holds any.
    pub fn holder(&self) -> Result<Option<&Arc<Node>>> {
        let mut holder = None;
        for node in &self.cluster.nodes {
            match self.held(node)? {
                0 => {}
                count if count == self.subject.addresses.len() && holder.is_none() => holder = Some(node),
                _ => return Ok(None),
            }
        }
        Ok(holder)
    }

    /// Waits for the healthy state: all nodes online, the cluster idle, nothing failed, one holder, Pacemaker's view
    /// of the roles the same as the kernel's, every address answering from outside, and the subject's own check satisfied.
    /// Returns the holder.
    pub fn healthy(&self) -> Result<&Arc<Node>> {
        let holder = self.settled()?;
        let status = self.cluster.status().context("no node answers about the cluster")?;
        ensure!(status.failures.is_empty(), "actions failed: {:#?}", status.failures);
        Ok(holder)
    }

    /// Like [`Self::healthy`], but failed actions may stand in the history.
    pub fn settled(&self) -> Result<&Arc<Node>> {
        let nodes = self.cluster.nodes.len();
        self.cluster.wait_quorum(nodes)?;
        let (mut holder, mut seen) = (None, String::new());
        let settled = wait::until("one node to hold every address and nothing left to do", SETTLE, wait::TOOL, || {
            self.cluster.wait_idle()?;
            holder = self.holder()?;
            let (Some(node), Some(status)) = (holder, self.cluster.status()) else { return Ok(false) };
            seen = format!("{:?}", status.instances);
            Ok(self.subject.resources().all(|resource| self.has_its_roles(resource, &status, node)))
        });
        settled.with_context(|| format!("instances: {seen}"))?;
        self.answering()?;
        let holder = holder.context("no node holds the addresses")?;
        self.checked(holder)?;
        Ok(holder)
    }

    fn has_its_roles(&self, resource: &Resource, status: &Status, holder: &Node) -> bool {
        let id = resource.primitive();
        let nodes = self.cluster.nodes.len();
        if resource.is_promotable() {
            status.in_role(id, Role::Promoted) == [&holder.name]
                && status.in_role(id, Role::Unpromoted).len() == nodes - 1
        } else {
            status.started(id) == [&holder.name]
        }
    }

    /// Waits until the subject's own check is satisfied too.
    fn checked(&self, holder: &Node) -> Result<()> {
        let Some(check) = self.subject.check else { return Ok(()) };
        let mut amiss = String::new();
        let satisfied = wait::until("the subject's own check to be satisfied", SETTLE, wait::TOOL, || {
            amiss = check(&self.cluster, holder).err().map(|error| format!("{error:#}")).unwrap_or_default();
            Ok(amiss.is_empty())
        });
        satisfied.map(drop).with_context(|| amiss)
    }

    /// Forgets the failures of everything the subject consists of.
    fn cleanup(&self) -> Result<()> {
        self.subject.resources().try_for_each(|resource| self.cluster.cleanup(&resource.id()))
    }

    /// Waits for an answer of every address that was sent after this call.
    fn answering(&self) -> Result<()> {
        let since = Instant::now();
        let answered = wait::until("every address to answer ping", Duration::from_secs(10), wait::QUICK, || {
            Ok(self.observer.all_answered(since).is_some())
        });
        answered.map(drop).with_context(|| format!("silent: {:?}", self.observer.silent(since)))
    }

    /// Plays something that must not touch the addresses: same holder, no address deleted even for a moment, no node
    /// fenced.
    fn undisturbed(&self, action: impl FnOnce(&Arc<Node>) -> Result<()>) -> Result<Outage> {
        let before = self.healthy()?;
        let (watch, began) = (AddressWatch::start(before)?, Instant::now());
        action(before)?;
        let after = self.healthy()?;
        ensure!(before.name == after.name, "the addresses moved from {} to {}", before.name, after.name);
        let lost = watch.lost(began, &self.subject.addresses);
        ensure!(lost.is_empty(), "{} lost for a while: {lost:?}", before.name);
        self.unfenced(began)?;
        let outage = self.observer.outage(began, Instant::now());
        let limit = self.observer.interval() * 3 + Duration::from_millis(300);
        ensure!(outage.worst < limit, "no address was deleted, yet {} fell silent: {outage:?}", outage.worst_address);
        Ok(outage)
    }

    fn unfenced(&self, since: Instant) -> Result<()> {
        let fenced = self.cluster.switch.since(since);
        ensure!(fenced.is_empty(), "nothing called for fencing: {fenced:?}");
        Ok(())
    }

    /// Waits until `node` has been fenced by its peer.
    fn fenced(&self, node: &Node, since: Instant) -> Result<()> {
        let what = format!("{} to be fenced", node.name);
        wait::until(&what, Duration::from_secs(30), wait::QUICK, || Ok(!self.cluster.switch.since(since).is_empty()))?;
        let fenced = self.cluster.switch.since(since);
        ensure!(
            fenced.iter().all(|one| one.target == node.name),
            "expected {} to be fenced only: {fenced:?}",
            node.name
        );
        Ok(())
    }

    /// Plays the loss of the holder: it is fenced, its peer takes over, it comes back.
    fn failover(
        &self,
        harm: impl FnOnce(&Node) -> Result<()>,
        mend: impl FnOnce(&Node) -> Result<()>,
    ) -> Result<Outage> {
        let before = self.healthy()?;
        let (peer, began) = (self.cluster.peer(before)?, Instant::now());
        harm(before)?;
        self.fenced(before, began)?;
        mend(before)?;
        wait::until("the peer to hold every address", SETTLE, wait::QUICK, || {
            Ok(self.held(peer)? == self.subject.addresses.len())
        })?;
        self.answering()?;
        let outage = self.observer.outage(began, Instant::now());
        self.settled()?;
        ensure!(self.cluster.switch.since(began).len() == 1, "{:?}", self.cluster.switch.since(began));
        // The lost node's interrupted actions may have been recorded as failures.
        self.cleanup()?;
        self.healthy()?;
        Ok(outage)
    }
}

/// From the power button to every address answering.
fn start(rig: &Rig) -> Result<Outage> {
    rig.healthy()?;
    let answered = rig.observer.all_answered(rig.cluster.began()).context("an address never answered")?;
    rig.unfenced(rig.cluster.began())?;
    Ok(rig.observer.outage(rig.cluster.began(), answered))
}

/// `crm_resource --move` to the peer.
pub fn planned_move(rig: &Rig) -> Result<Outage> {
    let before = rig.healthy()?;
    let (peer, began) = (rig.cluster.peer(before)?, Instant::now());
    let id = rig.subject.main.id();
    rig.cluster.move_to(&id, rig.subject.main.is_promotable(), peer)?;
    moved(rig, peer)?;
    let outage = rig.observer.outage(began, Instant::now());
    // Until everything that follows the addresses is there too, it would count for the node it is on.
    rig.cluster.wait_idle()?;
    rig.cluster.clear(&id)?;
    ensure!(rig.healthy()?.name == peer.name, "the addresses did not stay on {}", peer.name);
    rig.unfenced(began)?;
    Ok(outage)
}

fn moved(rig: &Rig, to: &Node) -> Result<()> {
    let what = format!("the addresses to be on {} only", to.name);
    wait::until(&what, SETTLE, Duration::from_millis(50), || {
        Ok(rig.holder()?.is_some_and(|node| node.name == to.name))
    })?;
    rig.answering()
}

/// The holder on standby, then back.
fn standby(rig: &Rig) -> Result<Outage> {
    let before = rig.healthy()?;
    let (peer, began) = (rig.cluster.peer(before)?, Instant::now());
    rig.cluster.standby(before, true)?;
    moved(rig, peer)?;
    let outage = rig.observer.outage(began, Instant::now());
    rig.cluster.wait_idle()?;
    rig.cluster.standby(before, false)?;
    rig.healthy()?;
    rig.unfenced(began)?;
    Ok(outage)
}

/// `crm_resource --cleanup`.
fn cleanup(rig: &Rig) -> Result<Outage> {
    rig.undisturbed(|_| rig.cleanup())
}

/// `crm_resource --refresh`: every history forgotten, every node probed, nothing restarted. Of the carrier only, because
/// while a promotable clone is probed Pacemaker itself stops what is colocated with its promoted role.
fn reprobe(rig: &Rig) -> Result<Outage> {
    rig.undisturbed(|_| rig.cluster.reprobe(rig.subject.carrier))
}

/// In maintenance mode even a standby moves nothing.
fn maintenance(rig: &Rig) -> Result<Outage> {
    rig.undisturbed(|holder| {
        rig.cluster.maintenance(true)?;
        rig.cluster.wait_status("the resource to be unmanaged", |status| {
            status.instances.iter().filter(|one| one.resource == rig.subject.primitive()).all(|one| !one.managed)
        })?;
        rig.cluster.standby(holder, true)?;
        rig.cluster.wait_idle()?;
        rig.cluster.standby(holder, false)?;
        rig.cluster.wait_idle()?;
        rig.cluster.maintenance(false)
    })
}

/// The attribute daemon killed on the holder. A plain resource must not notice. The promotion scores of the node are gone
/// with the daemon, though (its peers drop them: attrd_peer_remove in Pacemaker's attrd_corosync.c), and the scheduler
/// demotes an instance without a score at once; so a clone has to get its scores and its promoted instance back.
fn attrd_killed(rig: &Rig) -> Result<Outage> {
    if !rig.subject.main.is_promotable() {
        return rig.undisturbed(|holder| restart_attrd(rig, holder));
    }
    let (holder, began) = (rig.healthy()?, Instant::now());
    restart_attrd(rig, holder)?;
    let promotable = rig.subject.resources().filter(|resource| resource.is_promotable());
    let scores: Vec<_> = promotable.map(|resource| format!("master-{}", resource.primitive())).collect();
    rig.cluster.wait_status("every node to have its promotion scores", |status| {
        let has = |node: &str| scores.iter().all(|score| status.attribute(node, score).is_some());
        status.nodes.iter().all(|node| has(&node.name))
    })?;
    rig.healthy()?;
    rig.unfenced(began)?;
    Ok(rig.observer.outage(began, Instant::now()))
}

fn restart_attrd(rig: &Rig, node: &Node) -> Result<()> {
    let daemon = "pacemaker-attrd";
    let old = rig.cluster.kill_daemon(node, daemon)?;
    let again = wait::until("pacemaker-attrd to be started again", Duration::from_secs(20), wait::TOOL, || {
        let new = node.processes(|argv| argv.first().is_some_and(|path| path.ends_with(daemon)))?;
        Ok(new.iter().any(|pid| *pid != old))
    });
    again.map(drop)
}

/// The agent killed while it brings the addresses up, after the first of them: Pacemaker recovers, no address is left
/// behind anywhere.
fn agent_killed(rig: &Rig) -> Result<Outage> {
    let began = Instant::now();
    let id = rig.subject.main.id();
    let mut killed = false;
    // The action may end between its first address and the signal; then the next move gets another chance.
    for _ in 0..6 {
        let before = rig.settled()?;
        let peer = rig.cluster.peer(before)?;
        let watch = AddressWatch::start(peer)?;
        rig.cluster.move_to(&id, rig.subject.main.is_promotable(), peer)?;
        killed = kill_in_action(rig, peer, &watch)?;
        rig.settled()?;
        rig.cluster.clear(&id)?;
        if killed {
            break;
        }
    }
    ensure!(killed, "{} was never caught in `{}`", rig.subject.agent, rig.subject.activation);
    let status = rig.cluster.status().context("no node answers about the cluster")?;
    let key = format!("{}_{}", rig.subject.carrier, rig.subject.activation);
    let failed = status.failures.iter().any(|failure| failure.operation.starts_with(&key));
    ensure!(failed, "Pacemaker did not notice the killed `{key}`: {:#?}", status.failures);
    let outage = rig.observer.outage(began, Instant::now());
    rig.cleanup()?;
    rig.healthy()?;
    rig.unfenced(began)?;
    Ok(outage)
}

/// Whether the agent was caught in the action and killed; false when the action ended first.
fn kill_in_action(rig: &Rig, node: &Node, watch: &AddressWatch) -> Result<bool> {
    let executors = node.processes(|argv| argv.first().is_some_and(|path| path.ends_with("pacemaker-execd")))?;
    let executor = *executors.first().with_context(|| format!("no pacemaker-execd on {}", node.name))?;
    let since = Instant::now();
    let (caught, _) = wait::until_some("the addresses to come up", SETTLE, Duration::ZERO, || {
        if watch.since(since).iter().all(|event| !event.added) {
            return Ok(None);
        }
        let acting = process::children(executor).into_iter().find(|child| {
            let argv = process::arguments(*child);
            argv.iter().any(|word| word == rig.subject.agent) && argv.iter().any(|word| word == rig.subject.activation)
        });
        if let Some(child) = acting {
            process::signal(child, Signal::SIGKILL)?;
        }
        Ok(Some(acting.is_some()))
    })?;
    Ok(caught)
}

/// The holder loses its power.
pub fn power_cut(rig: &Rig) -> Result<Outage> {
    rig.failover(Node::power_cut, |_| Ok(()))
}

/// The holder loses its cable, and gets it back after it was fenced.
fn cable_cut(rig: &Rig) -> Result<Outage> {
    rig.failover(Node::cable_cut, Node::cable_mend)
}

/// Every process of the holder stops; its kernel goes on answering until it is fenced.
fn node_frozen(rig: &Rig) -> Result<Outage> {
    rig.failover(Node::freeze, |_| Ok(()))
}
