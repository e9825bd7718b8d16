//! What the nodes of a cluster know of each other's addresses, changes that must disturb nobody, and failures that must
//! move them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::crm_mon::Failure;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::node::{Node, Owner};
use cts_tests::observer::Outage;
use cts_tests::scenarios::Rig;
use cts_tests::subject::{IP_FILE, Subject, ip_file};
use cts_tests::wait;

const CLUSTER: Isolation = Isolation::Cluster(&["primary-ips"]);
const INTERVAL: Duration = Duration::from_millis(50);
/// A node asks for the others' lists once a minute, speaks of a difference after half a minute, and its monitor comes
/// every six seconds.
const WORD_GOES_ROUND: Duration = Duration::from_secs(110);
/// A monitor of each role, on a busy machine.
const TWO_MONITORS: Duration = Duration::from_secs(20);
/// The name of the promotion score's node attribute, in Pacemaker 2.1 and 3.
const SCORE: &str = "master-ips";

#[test]
fn the_nodes_know_of_each_other_and_changes_disturb_nobody() -> Result<()> {
    enter(CLUSTER, || {
        Rig::start(Subject::primary_ips_promotable(20, 2), INTERVAL)?.play(&[
            ("scores", scores_rank_the_nodes),
            ("reloadable parameter", a_reloadable_parameter_is_taken_up_without_a_restart),
            ("wrong parameter", a_wrong_parameter_degrades_and_stops_nothing),
            ("invalid edit", an_invalid_edit_degrades_and_changes_nothing),
            ("tools that hang", cluster_tools_that_hang_change_no_answer),
            ("attrd started anew", scores_are_sent_again_to_a_new_attrd),
            ("another list", a_standby_with_another_list_is_degraded_until_the_file_is_copied),
        ])
    })
}

#[test]
fn a_failed_instance_gives_way_to_the_other_node() -> Result<()> {
    enter(CLUSTER, || {
        Rig::start(Subject::primary_ips_promotable(20, 2), INTERVAL)?.play(&[
            ("promotion that fails", a_promotion_that_fails_is_not_tried_again_at_once),
            ("drift that fails", drift_that_fails_moves_the_addresses),
            ("link down", a_lost_link_moves_them),
        ])
    })
}

/// Under a constraint that asks for the promotion, which is what a planned move is, and which overrides a score that is only
/// missing.
fn a_promotion_that_fails_is_not_tried_again_at_once(rig: &Rig) -> Result<Outage> {
    let (active, standby) = pair(rig)?;
    // A host that the standby hears and the active node does not: a macvlan and what it lies on do not talk to each other.
    for words in [
        "netns add other",
        "link add other link eth0 type macvlan mode bridge",
        "link set other netns other",
        "-n other addr add 10.78.1.2/16 dev other",
        "-n other link set other up",
    ] {
        active.text(&[&["ip"][..], &words.split(' ').collect::<Vec<_>>()].concat())?;
    }
    let began = Instant::now();
    rig.cluster.move_to(&rig.subject.main.id(), true, standby)?;
    let refusals = || -> Result<usize> {
        let log = standby.read_file("/var/log/pacemaker/pacemaker.log")?;
        Ok(log.matches("ERROR: 10.78.1.2 is in use by").count())
    };
    wait::until("the promotion to fail", TWO_MONITORS, wait::TOOL, || Ok(refusals()? > 0))?;
    let back = || Ok(rig.held(active)? == rig.subject.addresses.len());
    wait::until("the addresses to come back", TWO_MONITORS, wait::QUICK, back)?;
    // Without a reason to think again Pacemaker leaves it at that; there is always one, soon.
    for value in ["1", "2", "3"] {
        rig.cluster.tool(&["crm_attribute", "--node", &active.name, "--name", "think-again", "--update", value])?;
        rig.cluster.wait_idle()?;
    }
    ensure!(refusals()? == 1, "{} promotions were tried within {:?}", refusals()?, began.elapsed());
    wait_score(rig, standby, Some("-1000000"))?;
    ensure!(back()?, "the addresses did not stay on {}", active.name);
    let outage = rig.observer.outage(began, Instant::now());
    active.text(&["ip", "netns", "del", "other"])?;
    rig.cluster.clear(&rig.subject.main.id())?;
    wait_score(rig, standby, Some("50"))?;
    rig.cluster.cleanup("ips")?;
    ensure!(rig.healthy()?.name == active.name, "the clean-up moved the addresses");
    Ok(outage)
}

fn drift_that_fails_moves_the_addresses(rig: &Rig) -> Result<Outage> {
    set_parameter(rig, "on_drift", "fail")?;
    gives_way(rig, &["ip", "addr", "del", "10.78.1.1/16", "dev", "eth0"], &["true"])
}

/// The addresses are on an interface of their own, so that the cluster does not lose its node with theirs.
fn a_lost_link_moves_them(rig: &Rig) -> Result<Outage> {
    set_parameter(rig, "check_link", "fail")?;
    let own = ip_file(&rig.subject.addresses).replace('\n', " mail0\n");
    for node in &rig.cluster.nodes {
        node.text(&["ip", "link", "add", "mail0", "link", "eth0", "type", "macvlan", "mode", "bridge"])?;
        node.text(&["ip", "link", "set", "mail0", "up"])?;
        write_list(node, &own)?;
    }
    let (active, _) = pair(rig)?;
    let moved = || Ok(active.addresses()?.iter().filter(|held| held.interface == "mail0").count() >= 22);
    wait::until("the addresses to be on mail0", TWO_MONITORS, wait::TOOL, moved)?;
    rig.healthy()?;
    gives_way(rig, &["ip", "link", "set", "mail0", "down"], &["ip", "link", "set", "mail0", "up"])
}

/// Harms the active node, and sees the addresses go to the other one and stay there, also when the harm is mended.
fn gives_way(rig: &Rig, harm: &[&str], remedy: &[&str]) -> Result<Outage> {
    let (active, standby) = pair(rig)?;
    let began = Instant::now();
    active.text(harm)?;
    let taken = || Ok(rig.held(standby)? == rig.subject.addresses.len() && rig.held(active)? == 0);
    wait::until(&format!("{} to take over", standby.name), TWO_MONITORS, wait::QUICK, taken)?;
    let outage = rig.observer.outage(began, Instant::now());
    // While its last monitor is a degraded one, crm_mon shows the instance as still being monitored.
    active.text(remedy)?;
    let holder = rig.settled()?;
    ensure!(holder.name == standby.name, "the addresses went back to {}, where they had failed", holder.name);
    rig.cluster.cleanup("ips")?;
    wait_score(rig, standby, Some("100"))?;
    ensure!(rig.healthy()?.name == standby.name, "the clean-up moved the addresses back");
    Ok(outage)
}

fn set_parameter(rig: &Rig, name: &str, value: &str) -> Result<()> {
    let set = ["crm_resource", "--resource", "ips", "--set-parameter", name, "--parameter-value", value];
    rig.healthy()?;
    rig.cluster.tool(&set)?;
    rig.healthy().map(drop)
}

fn scores_rank_the_nodes(rig: &Rig) -> Result<Outage> {
    undisturbed(rig, |active, standby| {
        wait_score(rig, active, Some("100"))?;
        wait_score(rig, standby, Some("50"))
    })
}

fn a_reloadable_parameter_is_taken_up_without_a_restart(rig: &Rig) -> Result<Outage> {
    undisturbed(rig, |active, _| {
        let set = ["crm_resource", "--resource", "ips", "--set-parameter", "announce_count", "--parameter-value", "3"];
        rig.cluster.tool(&set)?;
        // The CIB keeps a reload as if it were the start with the new parameters; the log has it as it was.
        // Pacemaker 2.1 says "ok", 3 says "OK".
        let done = format!("result of reload-agent operation for ips on {}: ok", active.name);
        let log = || Ok(active.read_file("/var/log/pacemaker/pacemaker.log")?.to_lowercase());
        wait::until("the reload", TWO_MONITORS, wait::TOOL, || log().map(|log: String| log.contains(&done)))?;
        ensure!(!log()?.contains("result of demote operation for ips"), "the instance was demoted for it");
        Ok(())
    })
}

fn a_wrong_parameter_degrades_and_stops_nothing(rig: &Rig) -> Result<Outage> {
    undisturbed(rig, |active, standby| {
        let words = ["crm_resource", "--resource", "ips", "--set-parameter", "announce_count", "--parameter-value"];
        rig.cluster.tool(&[&words[..], &["1000"]].concat())?;
        for node in [active, standby] {
            wait_degraded(rig, node, "a whole number from 0 to 100 is expected")?;
        }
        rig.cluster.tool(&[&words[..], &["3"]].concat())?;
        wait_score(rig, standby, Some("50"))?;
        rig.cluster.cleanup("ips")
    })
}

fn an_invalid_edit_degrades_and_changes_nothing(rig: &Rig) -> Result<Outage> {
    undisturbed(rig, |active, standby| {
        let right = ip_file(&rig.subject.addresses);
        for node in [active, standby] {
            write_list(node, &format!("{right}10.78.0.300/16\n"))?;
            wait_degraded(rig, node, "/etc/hvmail_primary_ips: line 23: ")?;
        }
        wait_score(rig, active, Some("100"))?;
        // Nobody could promote an instance with this list.
        wait_score(rig, standby, Some("-1000000"))?;
        for node in [active, standby] {
            write_list(node, &right)?;
        }
        wait_score(rig, standby, Some("50"))?;
        ensure!(by_hand(rig, active)?.starts_with("promoted: 20 IPv4 and 2 IPv6"), "{}", by_hand(rig, active)?);
        rig.cluster.cleanup("ips")
    })
}

fn cluster_tools_that_hang_change_no_answer(rig: &Rig) -> Result<Outage> {
    const TOOLS: [&str; 2] = ["/usr/sbin/crm_attribute", "/usr/sbin/attrd_updater"];
    undisturbed(rig, |active, standby| {
        for node in [active, standby] {
            for tool in TOOLS {
                node.text(&["mv", tool, &format!("{tool}.real")])?;
                node.write_file(tool, "#!/bin/sh\nexec sleep 1000\n", 0o755, Owner::Root)?;
            }
            // Forgetting what was sent makes every monitor try again.
            node.text(&["rm", "-f", "/run/resource-agents/primary-ips-ips.sent"])?;
        }
        std::thread::sleep(TWO_MONITORS);
        for (node, role) in [(active, "promoted: 20 IPv4 and 2 IPv6"), (standby, "unpromoted and ready: 20 IPv4")] {
            let answer = by_hand(rig, node)?;
            ensure!(answer.starts_with(role), "{answer}");
            for tool in TOOLS {
                node.text(&["mv", &format!("{tool}.real"), tool])?;
            }
        }
        let status = rig.cluster.status().context("no node answers about the cluster")?;
        ensure!(status.failures.is_empty(), "a hung tool became a failure: {:?}", status.failures);
        Ok(())
    })
}

/// Pacemaker forgets the scores with the daemon, and may demote for that; the agent sees to it that they come back.
fn scores_are_sent_again_to_a_new_attrd(rig: &Rig) -> Result<Outage> {
    let began = Instant::now();
    let (_, standby) = pair(rig)?;
    rig.cluster.kill_daemon(standby, "pacemaker-attrd")?;
    wait_score(rig, standby, Some("50"))?;
    rig.settled()?;
    rig.cluster.cleanup("ips")?;
    rig.healthy()?;
    Ok(rig.observer.outage(began, Instant::now()))
}

fn a_standby_with_another_list_is_degraded_until_the_file_is_copied(rig: &Rig) -> Result<Outage> {
    undisturbed(rig, |active, standby| {
        let longer = ip_file(&rig.subject.addresses) + "10.78.200.1/16\n";
        write_list(active, &longer)?;
        let reason = format!("the list of {} is another one, 23 addresses against 22 here", active.name);
        wait_degraded(rig, standby, &reason)?;
        wait_score(rig, standby, Some("20"))?;
        ensure!(
            active.addresses()?.iter().any(|held| held.address.to_string() == "10.78.200.1"),
            "the line was not added"
        );
        write_list(standby, &longer)?;
        wait_score(rig, standby, Some("50"))?;
        rig.cluster.cleanup("ips")
    })
}

/// Plays a scenario after which the same node still holds every address, none of which was silent.
fn undisturbed(rig: &Rig, scenario: impl FnOnce(&Node, &Node) -> Result<()>) -> Result<Outage> {
    let (active, standby) = pair(rig)?;
    let began = Instant::now();
    scenario(active, standby)?;
    let outage = rig.observer.outage(began, Instant::now());
    ensure!(rig.healthy()?.name == active.name, "the addresses have moved away from {}", active.name);
    ensure!(outage.worst < Duration::from_secs(1), "{} was silent for {:?}", outage.worst_address, outage.worst);
    Ok(outage)
}

fn pair(rig: &Rig) -> Result<(&Node, &Node)> {
    let active = rig.healthy()?;
    Ok((active, rig.cluster.peer(active)?))
}

fn write_list(node: &Node, list: &str) -> Result<()> {
    node.write_file(IP_FILE, list, 0o644, Owner::Root)
}

fn wait_score(rig: &Rig, node: &Node, score: Option<&str>) -> Result<()> {
    let mut seen = None;
    let what = format!("the promotion score {score:?} of {}", node.name);
    let waited = wait::until(&what, WORD_GOES_ROUND, wait::TOOL, || {
        let status = rig.cluster.status();
        seen = status.and_then(|status| status.attribute(&node.name, SCORE).map(str::to_owned));
        Ok(seen.as_deref() == score)
    });
    waited.map(drop).with_context(|| format!("it is {seen:?}"))
}

/// Pacemaker shows a degraded answer among the failed actions, and does not act upon it.
fn wait_degraded(rig: &Rig, node: &Node, reason: &str) -> Result<()> {
    let mut seen = None;
    let waited = wait::until(&format!("{} to be degraded", node.name), WORD_GOES_ROUND, wait::TOOL, || {
        seen = rig.cluster.status().map(|status| status.failures);
        let of_node = |failure: &&Failure| failure.node == node.name && failure.is_degraded();
        Ok(seen.iter().flatten().filter(of_node).any(|failure| failure.reason.contains(reason)))
    });
    waited.map(drop).with_context(|| format!("{reason:?} is not the reason of {seen:?}"))
}

fn by_hand(rig: &Rig, node: &Node) -> Result<String> {
    let command = ["env", "OCF_RESOURCE_INSTANCE=ips", "OCF_OUTPUT_FORMAT=text", rig.subject.agent, "monitor"];
    Ok(node.run(&command)?.stdout)
}
