//! What can happen to a pair with DRBD when its members lose sight of each other, or die.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::drbd::{Device, device, wait_device};
use super::drbd_pair::{Pair, RESOURCE};
use super::drbd_scenarios::{PATIENCE, alone, never_promoted, rate, shell, slow_resync};
use super::guest::Guest;
use super::switch::Link;
use crate::cluster::SETTLE;
use crate::pacemaker::Member;
use crate::wait;
use crate::xml::Element;

/// Behind the cluster's back both write without each other. The Primary's agent says what to do to keep its data, and that is
/// done.
pub(super) fn split_brain(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    let (primary, secondary) = alone(pair)?;
    let write = "dd if=/dev/urandom of=/dev/drbd0 bs=4096 count=1 seek=100 oflag=direct";
    let fencing = |how: &str| format!("drbdadm disk-options --fencing={how} r0");
    let (off, on) = (fencing("dont-care"), fencing("resource-and-stonith"));
    shell(secondary, &format!("{off} && drbdadm primary r0 && {write} && drbdadm secondary r0 && {on}"))?;
    pair.cluster.rack.mend();
    let apart = |one: &Device| one.connection == "StandAlone";
    wait_device(primary, 0, "kept from its peer", apart)?;
    let said = pair.said(primary, &["SPLIT BRAIN", "What to do is in the log"]).and_then(|_| commands(primary));
    // Whether the agent says so or not, the pair is to be whole again.
    let usual = || {
        let discard = "drbdadm disconnect r0; drbdadm secondary r0; drbdadm connect --discard-my-data r0";
        (discard.to_owned(), "drbdadm connect r0".to_owned())
    };
    let (there, here) = said.as_ref().map_or_else(|_| usual(), Clone::clone);
    never_promoted(secondary, Duration::from_secs(2))?;
    shell(secondary, &there)?;
    if device(primary, 0)?.is_some_and(|one| apart(&one)) {
        shell(primary, &here)?;
    }
    let healthy = pair.healthy()?;
    ensure!(healthy.name == primary.name, "the Primary was moved");
    pair.fenced(began, &[])?;
    said.map(drop)
}

/// What the log says: `To keep the data of this node: on the other `A`, and here `B`. To keep …`
fn commands(guest: &Guest) -> Result<(String, String)> {
    let log = shell(guest, "grep -a 'drbd(drbd).*To keep the data of this node' /var/log/pacemaker/pacemaker.log")?;
    let line = log.lines().last().unwrap_or_default();
    let way = line.split_once("To keep the data of this node").map(|(_, way)| way);
    let mut quoted = way.with_context(|| format!("no way out in {line:?}"))?.split('`').skip(1).step_by(2);
    let mut next = || quoted.next().map(str::to_owned).with_context(|| format!("no command in {line:?}"));
    Ok((next()?, next()?))
}

/// How long a promotion may take whose peer is known to be dead. It takes 0.5 s where the guests have the machine for
/// themselves, 0.9 s beside other clusters, and 2.9 s where the machine compiles besides: a lower limit would measure what
/// else runs. A handler that waits for what is known already takes 90 s.
const WITH_HANDLER: Duration = Duration::from_secs(15);

fn cut_everything(pair: &Pair) {
    for link in Link::ALL {
        pair.cluster.rack.cut(link);
    }
}

/// Both links are cut: the Secondary is fenced.
pub(super) fn partition(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    cut_everything(pair);
    pair.fenced(began, &[&secondary.name])?;
    pair.cluster.rack.mend();
    pair.serves(primary)
}

/// Until the other is known to be dead nothing is written: it might be promoted, and then that would be lost.
pub(super) fn partition_with_slow_fencing(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    // Longer than the fencing takes: otherwise each shoots the other (Pacemaker Explained, "priority-fencing-delay").
    delay(pair, "25s")?;
    pair.cluster.rack.power.slowness(Duration::from_secs(15));
    cut_everything(pair);
    let played = until_fenced(pair, primary, secondary, began);
    pair.cluster.rack.power.slowness(Duration::ZERO);
    pair.cluster.rack.mend();
    let served = played.and_then(|()| pair.serves(primary));
    // The guest that was fenced answers only when its cluster runs again.
    pair.healthy()?;
    delay(pair, "5s")?;
    served
}

fn delay(pair: &Pair, delay: &str) -> Result<()> {
    pair.cluster.tool(&["crm_attribute", "--name", "priority-fencing-delay", "--update", delay])?;
    pair.cluster.wait_idle()
}

fn until_fenced(pair: &Pair, primary: &Guest, secondary: &Guest, began: Instant) -> Result<()> {
    let power = &pair.cluster.rack.power;
    wait_device(primary, 0, "without its peer", |one| one.connection != "Connected")?;
    // What was on its way then has arrived.
    thread::sleep(Duration::from_secs(2));
    let alone = Instant::now();
    wait::until("a fencing", SETTLE, wait::TOOL, || {
        let role = device(secondary, 0).ok().flatten().map(|one| one.role);
        ensure!(role.is_none_or(|role| role != "Primary"), "{} was promoted in a partition", secondary.name);
        Ok(!power.since(began).is_empty())
    })?;
    let done = power.since(began)[0].done;
    ensure!(done - alone > Duration::from_secs(5), "the fencing was not slow: {:?}", done - alone);
    ensure!(!pair.stream.wrote_between(alone, done), "the Primary wrote alone before the other was dead");
    pair.fenced(began, &[&secondary.name])
}

/// The Primary's guest loses its power: the other is promoted.
pub(super) fn primary_killed(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    primary.power_cut()?;
    pair.serves(secondary)?;
    pair.fenced(began, &[&primary.name])?;
    let took = promotion(secondary)?;
    println!("  {} was promoted in {:.2} s, DRBD's handler in it", secondary.name, took.as_secs_f64());
    ensure!(took < WITH_HANDLER, "the other was known to be dead, and the promotion took {took:?}");
    Ok(())
}

/// How long the promotion of this guest took the agent, DRBD and its handler (`exec-time`, in milliseconds).
fn promotion(guest: &Guest) -> Result<Duration> {
    let here = format!("//node_state[@uname='{}']//lrm_rsc_op[@operation='promote']", guest.name);
    // The other may be starting its cluster at the moment.
    let history = Element::parse(&guest.text(&["cibadmin", "--query", "--xpath", &here])?)?;
    let of_drbd = |operation: &&Element| operation.get("operation_key").starts_with(&format!("{RESOURCE}_promote"));
    let found = if history.name == "lrm_rsc_op" { vec![&history] } else { history.all("lrm_rsc_op") };
    let promotion = found.into_iter().find(of_drbd).context("Pacemaker has no promotion in its history")?;
    Ok(Duration::from_millis(promotion.get("exec-time").parse()?))
}

/// The Primary wrote alone, and dies. The other lacks what it wrote, and is not promoted before the Primary is back.
pub(super) fn primary_killed_while_alone(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    let (primary, secondary) = alone(pair)?;
    killed_and_back(pair, primary, secondary)?;
    pair.fenced(began, &[&primary.name])
}

/// The Primary dies while the other's data is not whole.
pub(super) fn primary_killed_in_a_resync(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    let (primary, secondary) = slow_resync(pair)?;
    killed_and_back(pair, primary, secondary)?;
    pair.cluster.rack.each(|guest| rate(guest, "100M"))?;
    pair.fenced(began, &[&primary.name])
}

fn killed_and_back(pair: &Pair, primary: &Guest, secondary: &Guest) -> Result<()> {
    let power = &pair.cluster.rack.power;
    let began = Instant::now();
    power.restart_after(Some(PATIENCE));
    primary.power_cut()?;
    wait::until("the Primary to be fenced", SETTLE, wait::QUICK, || Ok(!power.since(began).is_empty()))?;
    power.restart_after(Some(Duration::from_millis(500)));
    never_promoted(secondary, PATIENCE)?;
    pair.cluster.rack.mend();
    // Once it has what it lacked, the other may be the one. If the Primary was the DC, Pacemaker has lost the entry of the
    // other's monitor, which is degraded, and waits its timeout and cluster-delay (60 s) for the end of it.
    pair.goes_on_within(SETTLE * 2)
}

/// The power of the whole room, in the middle of writing; it comes back everywhere.
pub(super) fn both_killed(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    for guest in &pair.cluster.nodes {
        guest.power_cut()?;
    }
    pair.cluster.rack.each(Guest::boot)?;
    pair.healthy()?;
    pair.fenced(began, &[])
}
