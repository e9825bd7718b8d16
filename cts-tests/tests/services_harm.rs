//! What can happen to the services of a node in a real cluster, and what the agent makes of it: what supervise or a monitor
//! puts right must move nothing, what cannot be put right there must move, and a stop that cannot end must fence.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::{Cluster, SETTLE};
use cts_tests::crm_mon::Failure;
use cts_tests::daemontools::{Places, Service};
use cts_tests::greenarrow::{ACTIVE, SMTP};
use cts_tests::isolation::{Isolation, enter};
use cts_tests::node::Node;
use cts_tests::observer::Outage;
use cts_tests::port_watch::{PortWatch, both};
use cts_tests::scenarios::{Rig, planned_move, power_cut};
use cts_tests::subject::Subject;
use cts_tests::supervision::Supervision;
use cts_tests::wait;

const CLUSTER: Isolation = Isolation::Cluster(&["primary-ips", "services"]);
const INTERVAL: Duration = Duration::from_millis(50);
/// svscan's five seconds, two monitors of five, and a busy machine.
const MONITORS: Duration = Duration::from_secs(40);

#[test]
fn mail_is_served_by_one_node_at_a_time() -> Result<()> {
    enter(CLUSTER, || {
        Rig::start(Subject::services_behind_primary_ips(true, 4, 0), INTERVAL)?
            .play(&[("mail in a planned move", mail_in_a_planned_move), ("mail in a power cut", mail_in_a_power_cut)])
    })
}

#[test]
fn what_a_monitor_puts_right_moves_nothing() -> Result<()> {
    enter(CLUSTER, || {
        Rig::start(Subject::services_behind_primary_ips(true, 4, 0), INTERVAL)?.play(&[
            ("supervise killed", supervise_killed),
            ("supervise of a critical service killed", critical_supervise_killed),
            ("svscan killed", svscan_killed),
            ("a service that ignores TERM", a_service_that_ignores_term),
        ])
    })
}

#[test]
fn what_cannot_be_put_right_moves() -> Result<()> {
    enter(CLUSTER, || {
        Rig::start(Subject::services_behind_primary_ips(true, 4, 0), INTERVAL)?.play(&[
            ("a service dies at once", a_service_dies_at_once),
            ("directories unmounted", directories_unmounted),
            ("a critical service dies at once", a_critical_service_dies_at_once),
        ])
    })
}

#[test]
fn a_stop_that_cannot_end_says_why_and_fences() -> Result<()> {
    enter(CLUSTER, || {
        let subject = Subject::services_behind_primary_ips(true, 4, 0);
        Rig::start(subject, INTERVAL)?.play(&[("a stop that cannot end", a_stop_that_cannot_end)])
    })
}

/// What ends otherwise as a plain resource: a degraded answer is 190 instead of 191, a failure is no failed role, and it is
/// start and stop that bring the services up and down.
#[test]
fn as_plain_resources_the_same_is_put_right_moved_or_fenced() -> Result<()> {
    enter(CLUSTER, || {
        Rig::start(Subject::services_behind_primary_ips(false, 4, 0), INTERVAL)?.play(&[
            ("supervise killed", supervise_killed),
            ("svscan killed", svscan_killed),
            ("a service that ignores TERM", a_service_that_ignores_term),
            ("directories unmounted", directories_unmounted),
            ("a critical service dies at once", a_critical_service_dies_at_once),
            ("a stop that cannot end", a_stop_that_cannot_end),
        ])
    })
}

/// A client of the service address, and one of each node's own.
struct Mail {
    client: PortWatch,
    nodes: Vec<PortWatch>,
}

impl Mail {
    fn watch(rig: &Rig) -> Result<Self> {
        let port = |ip| PortWatch::start(SocketAddr::new(ip, SMTP), INTERVAL);
        let nodes = rig.cluster.nodes.iter().map(|node| port(node.address())).collect::<Result<_>>()?;
        Ok(Self { client: port(rig.subject.addresses[0])?, nodes })
    }

    /// Waits until the client is served by this node.
    fn served_by(&self, node: &Node) -> Result<Instant> {
        let begun = Instant::now();
        let banner = format!("220 {} ", node.name);
        let served = || Ok(self.client.answered_since(begun).filter(|(_, said)| said.starts_with(&banner)));
        let ((at, _), _) = wait::until_some(&format!("mail from {}", node.name), SETTLE, wait::QUICK, served)?;
        Ok(at)
    }

    /// Never were there two servers.
    fn by_one_at_a_time(&self, from: Instant) -> Result<()> {
        let found = both(&self.nodes.iter().collect::<Vec<_>>(), from, Instant::now());
        ensure!(found.is_none(), "two nodes served mail at once: {found:?}");
        Ok(())
    }
}

fn mail_in_a_planned_move(rig: &Rig) -> Result<Outage> {
    let before = rig.healthy()?;
    let (mail, peer) = (Mail::watch(rig)?, rig.cluster.peer(before)?);
    mail.served_by(before)?;
    let began = Instant::now();
    let outage = planned_move(rig)?;
    let served = mail.served_by(peer)?;
    mail.by_one_at_a_time(began)?;
    println!("mail: {:.2} s without an answer", mail.client.outage(began, served).as_secs_f64());
    Ok(outage)
}

fn mail_in_a_power_cut(rig: &Rig) -> Result<Outage> {
    let before = rig.healthy()?;
    let (mail, peer) = (Mail::watch(rig)?, rig.cluster.peer(before)?);
    mail.served_by(before)?;
    let began = Instant::now();
    let outage = power_cut(rig)?;
    let served = mail.served_by(peer)?;
    mail.by_one_at_a_time(began)?;
    println!("mail: {:.2} s without an answer", mail.client.outage(began, served).as_secs_f64());
    Ok(outage)
}

fn supervise_killed(rig: &Rig) -> Result<Outage> {
    put_right(rig, "hvmail-httpd")
}

fn critical_supervise_killed(rig: &Rig) -> Result<Outage> {
    set_parameter(rig, "critical", "hvmail-httpd")?;
    let outage = put_right(rig, "hvmail-httpd")?;
    set_parameter(rig, "critical", "none-of-them")?;
    Ok(outage)
}

/// These processes run, and no others. One that a service has just forked, and that is gone at once, is seen too, hence the wait.
fn run(services: &Supervision<'_>, expected: &[(String, u32)]) -> Result<()> {
    let mut seen = Vec::new();
    let run = || {
        seen = services.running()?;
        Ok(seen == expected)
    };
    let waited = wait::until("the services to be as expected", MONITORS, wait::TOOL, run);
    waited.map(drop).with_context(|| format!("expected {expected:?}, found {seen:?}"))
}

/// Kills a supervise, and sees its service run once under a new one, with all others as they were, on the same node.
fn put_right(rig: &Rig, service: &str) -> Result<Outage> {
    undisturbed(rig, |holder| {
        let services = services(holder);
        let before = services.running()?;
        let old = services.process_of(service)?.with_context(|| format!("{service} does not run"))?;
        services.kill_supervise(service)?;
        let begun = Instant::now();
        let new = || Ok(services.process_of(service)?.filter(|pid| *pid != old));
        let (new, _) = wait::until_some("a new process of the service", MONITORS, wait::TOOL, new)?;
        println!("{service} ran anew {:.1} s after its supervise was killed", begun.elapsed().as_secs_f64());
        wait_logged(holder, &format!("put right: {service} was brought up"))?;
        let mut expected: Vec<_> = before.into_iter().filter(|(name, _)| name != service).collect();
        expected.push((service.to_owned(), new));
        expected.sort();
        run(&services, &expected)
    })
}

/// Nothing is lost with svscan but what would start a supervise again: that is said, and waits for a restart that suits.
fn svscan_killed(rig: &Rig) -> Result<Outage> {
    let harmed = rig.healthy()?;
    undisturbed_but(rig, |holder| {
        let running = services(holder).running()?;
        services(holder).kill_svscan()?;
        wait_degraded(rig, holder, "no svscan runs in /service")?;
        run(&services(holder), &running)?;
        Ok(())
    })?;
    // With the resource's next restart there is a new one.
    let (id, peer) = (rig.subject.main.id(), rig.cluster.peer(harmed)?);
    rig.cluster.move_to(&id, rig.subject.main.is_promotable(), peer)?;
    let mut seen = Vec::new();
    let moved = wait::until("everything to move", SETTLE, wait::TOOL, || {
        seen = services(harmed).running()?;
        let left = seen.iter().any(|(name, _)| ACTIVE.contains(&name.as_str()));
        Ok(rig.held(peer)? == rig.subject.addresses.len() && !left)
    });
    moved.with_context(|| format!("on {} there run {seen:?}, on {} {:?}", harmed.name, peer.name, rig.held(peer)))?;
    rig.cluster.clear(&id)?;
    rig.settled()?;
    rig.cluster.cleanup("services")?;
    let outage = planned_move(rig)?;
    ensure!(rig.healthy()?.name == harmed.name && services(harmed).svscan()?.is_some(), "no svscan was started");
    Ok(outage)
}

fn a_service_that_ignores_term(rig: &Rig) -> Result<Outage> {
    set_parameter(rig, "stop_escalation", "2s 1s 5s")?;
    let before = rig.healthy()?;
    change(rig, &Service::new("hvmail-event-processor").ignores_term().with_log())?;
    services(before).svc("-k", &["hvmail-event-processor"])?;
    rig.cluster.cleanup("services")?;
    let outage = planned_move(rig)?;
    wait_logged(before, "(hvmail-event-processor: process")?;
    change(rig, &Service::new("hvmail-event-processor").steady().with_log())?;
    set_parameter(rig, "stop_escalation", "120s 20s 10s")?;
    let outage_back = planned_move(rig)?;
    Ok(if outage_back.worst > outage.worst { outage_back } else { outage })
}

/// Not a critical one: it is reported with the reason, and nothing moves.
fn a_service_dies_at_once(rig: &Rig) -> Result<Outage> {
    let harmed = rig.healthy()?;
    let outage = undisturbed_but(rig, |holder| {
        lay_down(holder, &Service::new("hvmail-event-processor").dies_at_once(1).with_log())?;
        services(holder).svc("-k", &["hvmail-event-processor"])?;
        wait_degraded(rig, holder, "hvmail-event-processor has ended")?;
        wait_logged(holder, "hvmail-event-processor is flapping")
    })?;
    lay_down(harmed, &Service::new("hvmail-event-processor").steady().with_log())?;
    services(harmed).wait_names(&running_everywhere())?;
    let sound = || Ok(by_hand(rig, harmed)?.starts_with("promoted: 8 services in /service, all run that should"));
    wait::until("a monitor that finds nothing wrong", MONITORS, wait::TOOL, sound)?;
    rig.cluster.cleanup("services")?;
    rig.healthy()?;
    Ok(outage)
}

/// What is wanted of a service that only serves on one of the nodes: everything moves there.
fn a_critical_service_dies_at_once(rig: &Rig) -> Result<Outage> {
    set_parameter(rig, "critical", "hvmail-qmail-smtpd2")?;
    let outage = gives_way(rig, |holder| {
        lay_down(holder, &Service::new("hvmail-qmail-smtpd2").dies_at_once(1).with_log())?;
        services(holder).svc("-k", &["hvmail-qmail-smtpd2"])
    })?;
    change(rig, &Service::new("hvmail-qmail-smtpd2").listens(SMTP, "ESMTP").with_log())?;
    rig.cluster.cleanup("services")?;
    set_parameter(rig, "critical", "none-of-them")?;
    rig.healthy()?;
    Ok(outage)
}

/// An empty file system over the directories: no name leads to the running services any more.
fn directories_unmounted(rig: &Rig) -> Result<Outage> {
    let harmed = rig.healthy()?;
    let outage =
        gives_way(rig, |holder| holder.text(&["mount", "-t", "tmpfs", "none", &Places::greenarrow().homes]).map(drop))?;
    harmed.text(&["umount", &Places::greenarrow().homes])?;
    rig.cluster.cleanup("services")?;
    rig.healthy()?;
    Ok(outage)
}

/// Harms the holder, and sees addresses and services go to the other node and stay there; the failed one is started again
/// after a clean-up only (migration-threshold).
fn gives_way(rig: &Rig, harm: impl FnOnce(&Node) -> Result<()>) -> Result<Outage> {
    let before = rig.healthy()?;
    let (peer, began) = (rig.cluster.peer(before)?, Instant::now());
    harm(before)?;
    let moved = || Ok(rig.held(peer)? == rig.subject.addresses.len() && services(peer).names()?.len() >= ACTIVE.len());
    wait::until(&format!("{} to take over", peer.name), SETTLE, wait::TOOL, moved)?;
    let outage = rig.observer.outage(began, Instant::now());
    rig.cluster.wait_idle()?;
    let back = rig.holder()?.is_none_or(|holder| holder.name != peer.name);
    ensure!(!back, "not everything stayed on {}; it had failed on {}", peer.name, before.name);
    let fenced = rig.cluster.switch.since(began);
    ensure!(fenced.is_empty(), "nothing called for fencing: {fenced:?}");
    Ok(outage)
}

/// No KILL, and a service that nothing else ends: stop says what it waited for, Pacemaker fences, the peer takes over.
fn a_stop_that_cannot_end(rig: &Rig) -> Result<Outage> {
    set_parameter(rig, "stop_escalation", "600s")?;
    let before = rig.healthy()?;
    let peer = rig.cluster.peer(before)?;
    lay_down(before, &Service::new("hvmail-qmail-send").ignores_term().with_log())?;
    services(before).svc("-k", &["hvmail-qmail-send"])?;
    let began = Instant::now();
    rig.cluster.move_to(&rig.subject.main.id(), rig.subject.main.is_promotable(), peer)?;
    let what = format!("{} to be fenced", before.name);
    wait::until(&what, SETTLE, wait::QUICK, || Ok(!rig.cluster.switch.since(began).is_empty()))?;
    let log = peer.read_file("/var/log/pacemaker/pacemaker.log")? + &reasons(&rig.cluster);
    let taken = || Ok(rig.held(peer)? == rig.subject.addresses.len());
    wait::until("the peer to hold every address", SETTLE, wait::QUICK, taken)?;
    let outage = rig.observer.outage(began, Instant::now());
    ensure!(rig.settled()?.name == peer.name, "{} did not take over", peer.name);
    ensure!(rig.cluster.switch.since(began).len() == 1, "{:?}", rig.cluster.switch.since(began));
    for words in ["hvmail-qmail-send: process ", "TERM was sent, INT and KILL are not in stop_escalation"] {
        ensure!(log.contains(words), "{words:?} is no reason that Pacemaker knows of");
    }
    rig.cluster.clear(&rig.subject.main.id())?;
    Ok(outage)
}

fn by_hand(rig: &Rig, node: &Node) -> Result<String> {
    let agent = rig.subject.agent.replace("primary-ips", "services");
    Ok(node.run(&["env", "OCF_RESOURCE_INSTANCE=services", "OCF_OUTPUT_FORMAT=text", &agent, "monitor"])?.stdout)
}

fn reasons(cluster: &Cluster) -> String {
    cluster.status().map(|status| format!("{:?}", status.failures)).unwrap_or_default()
}

fn services(node: &Node) -> Supervision<'_> {
    Supervision::of(node, Places::greenarrow())
}

/// What runs on the holder, the services of others included.
fn running_everywhere() -> Vec<&'static str> {
    let mut names = [ACTIVE, &["hvmail-postgres", "other-thing"]].concat();
    names.sort_unstable();
    names
}

fn lay_down(node: &Node, service: &Service) -> Result<()> {
    services(node).lay_down(&service.items(&Places::greenarrow()))
}

/// The same service on all nodes.
fn change(rig: &Rig, service: &Service) -> Result<()> {
    rig.cluster.nodes.iter().try_for_each(|node| lay_down(node, service))
}

fn set_parameter(rig: &Rig, name: &str, value: &str) -> Result<()> {
    let set = ["crm_resource", "--resource", "services", "--set-parameter", name, "--parameter-value", value];
    rig.healthy()?;
    rig.cluster.tool(&set)?;
    rig.healthy().map(drop)
}

/// Plays something after which everything is where it was, and sound again after a clean-up.
fn undisturbed(rig: &Rig, action: impl FnOnce(&Node) -> Result<()>) -> Result<Outage> {
    let outage = undisturbed_but(rig, action)?;
    rig.cluster.cleanup("services")?;
    rig.healthy()?;
    Ok(outage)
}

/// The same while something degraded goes on.
fn undisturbed_but(rig: &Rig, action: impl FnOnce(&Node) -> Result<()>) -> Result<Outage> {
    let holder = rig.healthy()?;
    let began = Instant::now();
    action(holder)?;
    let outage = rig.observer.outage(began, Instant::now());
    ensure!(rig.holder()?.is_some_and(|node| node.name == holder.name), "the addresses moved away");
    ensure!(outage.worst < Duration::from_secs(1), "{} was silent for {:?}", outage.worst_address, outage.worst);
    let fenced = rig.cluster.switch.since(began);
    ensure!(fenced.is_empty(), "nothing called for fencing: {fenced:?}");
    Ok(outage)
}

/// What the agent says when Pacemaker does not ask it anew: of a second reason to be degraded it keeps no record.
fn wait_logged(node: &Node, words: &str) -> Result<()> {
    let log = || Ok(node.read_file("/var/log/pacemaker/pacemaker.log")?.contains(words));
    wait::until(&format!("{words:?} in the log of {}", node.name), MONITORS, wait::TOOL, log).map(drop)
}

/// Pacemaker shows a degraded answer among the failed actions, and does not act upon it.
fn wait_degraded(rig: &Rig, node: &Node, reason: &str) -> Result<()> {
    let mut seen = None;
    let waited = wait::until(&format!("{} to be degraded", node.name), MONITORS, wait::TOOL, || {
        seen = rig.cluster.status().map(|status| status.failures);
        let of_node = |failure: &&Failure| failure.node == node.name && failure.is_degraded();
        Ok(seen.iter().flatten().filter(of_node).any(|failure| failure.reason.contains(reason)))
    });
    waited.map(drop).with_context(|| format!("{reason:?} is not the reason of {seen:?}"))
}
