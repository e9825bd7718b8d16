//! What can happen to a pair with DRBD, played with any agent that runs it.
//!
//! Each scenario takes a healthy pair, says what was not as it should be, and leaves what becomes a healthy pair by itself.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::drbd::{R0, device, wait_device};
use super::drbd_losses;
use super::drbd_pair::{CLONE, CONFIGURATION, CONSTRAINT, PLACE, Pair, RESOURCE};
use super::guest::Guest;
use super::switch::Link;
use crate::cluster::SETTLE;
use crate::node::Owner;
use crate::wait;

/// A scenario.
pub type Scenario = fn(&Pair) -> Result<()>;

/// Every one, by name.
pub const ALL: &[(&str, Scenario)] = &[
    ("five planned switchovers", five_switchovers),
    ("replication link cut", replication_cut),
    ("disk of the Primary fails", disk_of_the_primary_fails),
    ("disk of the Secondary fails", disk_of_the_secondary_fails),
    ("resync interrupted", resync_interrupted),
    ("drbd.conf broken, then stopped", broken_configuration),
    ("demote while the device is held open", demoted_while_busy),
    ("Primary before Pacemaker knew", primary_before_pacemaker),
    ("split brain, and out of it by what is said", drbd_losses::split_brain),
    ("partition", drbd_losses::partition),
    ("partition, and fencing is slow", drbd_losses::partition_with_slow_fencing),
    ("Primary killed", drbd_losses::primary_killed),
    ("Primary killed while the other is Outdated", drbd_losses::primary_killed_while_alone),
    ("Primary killed while the other is Inconsistent", drbd_losses::primary_killed_in_a_resync),
    ("module missing at boot", module_missing),
    ("fencing constraint left behind", constraint_left_behind),
    ("both guests killed", drbd_losses::both_killed),
];

/// How long nothing may be promoted that has no good data, to be believed.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn shell(guest: &Guest, line: &str) -> Result<String> {
    guest.text(&["bash", "-c", line])
}

/// The promoted role moves to the other guest.
pub fn switchover(pair: &Pair) -> Result<()> {
    let (began, (_, secondary)) = (Instant::now(), pair.primary()?);
    pair.cluster.move_to(CLONE, true, secondary)?;
    pair.serves(secondary)?;
    pair.cluster.wait_idle()?;
    pair.cluster.clear(CLONE)?;
    pair.fenced(began, &[])
}

/// To and fro.
pub fn five_switchovers(pair: &Pair) -> Result<()> {
    (0..5).try_for_each(|_| {
        switchover(pair)?;
        let primary = pair.healthy()?;
        pair.stream.nothing_lost(primary).map(drop)
    })
}

/// The other's data gets old: it is kept from being promoted, and no longer than it is.
pub fn replication_cut(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    let (primary, _) = alone(pair)?;
    let constraint = pair.cluster.tool(&["cibadmin", "--query", "--scope", "constraints"])?;
    ensure!(constraint.contains(&format!("operation=\"ne\" value=\"{}\"", primary.name)), "{constraint}");
    pair.goes_on()?;
    pair.cluster.rack.mend();
    let healthy = pair.healthy()?;
    ensure!(healthy.name == primary.name, "the Primary was moved");
    pair.fenced(began, &[])
}

/// Cuts the replication link, and waits until the Primary writes alone.
pub(super) fn alone(pair: &Pair) -> Result<(&Guest, &Guest)> {
    let (primary, secondary) = pair.primary()?;
    pair.cluster.rack.cut(Link::Replication);
    wait::until("the handler's constraint", SETTLE, pair.cluster.step, || pair.fenced_off())?;
    wait_device(primary, 0, "the only good copy", |one| one.peer_disk == "Outdated" || one.peer_disk == "DUnknown")?;
    wait_device(secondary, 0, "alone", |one| one.connection == "WFConnection")?;
    pair.goes_on()?;
    Ok((primary, secondary))
}

/// Nobody takes the handler's constraint away, and so the other could never take over; but the agent is told to see to that once
/// all copies are good (unfence_if_all_uptodate).
fn constraint_left_behind(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    let resource = |words: &[&str]| {
        pair.cluster.tool(&[&["crm_resource", "--resource", RESOURCE], words].concat())?;
        pair.cluster.wait_idle()
    };
    let renamed = |from: &str, to: &str| {
        pair.cluster.rack.each(|guest| {
            let text = guest.read_file(CONFIGURATION)?.replace(from, to);
            guest.write_file(CONFIGURATION, text, 0o644, Owner::Root)
        })
    };
    resource(&["--set-parameter", "unfence_if_all_uptodate", "--parameter-value", "true"])?;
    // DRBD 8.4 calls the one of this name after a resync, and none of the other, which drbdadm knows.
    renamed("after-resync-target \"", "unfence-peer \"")?;
    let (_, secondary) = alone(pair)?;
    pair.cluster.rack.mend();
    wait_device(secondary, 0, "in sync", |one| one.connection == "Connected" && one.disk == "UpToDate")?;
    let freed = || Ok(!pair.fenced_off()?);
    let freed = wait::until("the constraint to be taken away", Duration::from_secs(60), pair.cluster.step, freed);
    renamed("unfence-peer \"", "after-resync-target \"")?;
    resource(&["--delete-parameter", "unfence_if_all_uptodate"])?;
    if freed.is_err() {
        let left = format!("<rsc_location id=\"{CONSTRAINT}\"/>");
        pair.cluster.tool(&["cibadmin", "--delete", "--xml-text", &left])?;
    }
    pair.healthy()?;
    pair.fenced(began, &[])?;
    freed.map(drop)
}

fn disk_of_the_primary_fails(pair: &Pair) -> Result<()> {
    let (primary, secondary) = pair.primary()?;
    disk_fails(pair, primary, secondary)
}

fn disk_of_the_secondary_fails(pair: &Pair) -> Result<()> {
    let (primary, secondary) = pair.primary()?;
    disk_fails(pair, secondary, primary)
}

/// The other's disk serves, this is said, and an administrator who has mended the disk attaches it again.
fn disk_fails(pair: &Pair, victim: &Guest, other: &Guest) -> Result<()> {
    let (began, primary) = (Instant::now(), pair.primary()?.0.name.clone());
    victim.volume_fail(0)?;
    wait_device(victim, 0, "without a disk", |one| one.disk == "Diskless")?;
    wait_device(other, 0, "the only disk", |one| one.disk == "UpToDate" && one.peer_disk == "Diskless")?;
    pair.goes_on()?;
    pair.stream.nothing_lost(pair.primary()?.0)?;
    let said = pair.said(victim, &["disk here", "drbdadm attach"]);
    victim.volume_mend(0)?;
    victim.text(&["drbdadm", "attach", R0.name])?;
    let healthy = pair.healthy()?;
    // A Primary whose data is at the other only is scored below that, and may be moved there.
    ensure!(healthy.name == primary || victim.name == primary, "the Primary was moved");
    pair.fenced(began, &[])?;
    said.map(drop)
}

/// Makes a resync last long enough to be looked at.
pub(super) fn slow_resync(pair: &Pair) -> Result<(&Guest, &Guest)> {
    pair.cluster.rack.each(|guest| rate(guest, "400k"))?;
    let (primary, secondary) = alone(pair)?;
    shell(primary, &format!("dd if=/dev/urandom of={PLACE}/large bs=1M count=12 conv=fsync"))?;
    pair.cluster.rack.mend();
    wait_device(secondary, 0, "being synchronised", |one| {
        one.connection == "SyncTarget" && one.disk == "Inconsistent"
    })?;
    Ok((primary, secondary))
}

pub(super) fn rate(guest: &Guest, rate: &str) -> Result<()> {
    guest.text(&["drbdadm", "disk-options", &format!("--resync-rate={rate}"), R0.name]).map(drop)
}

/// The link is cut in the middle of a resync, and the Secondary, whose data is not whole then, is asked to take over.
fn resync_interrupted(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    let (primary, secondary) = slow_resync(pair)?;
    let told = pair.said(secondary, &["resync of volume 0 from the peer"]);
    pair.cluster.rack.cut(Link::Replication);
    wait_device(secondary, 0, "not whole, and alone", |one| {
        one.connection == "WFConnection" && one.disk == "Inconsistent"
    })?;
    pair.cluster.move_to(CLONE, true, secondary)?;
    never_promoted(secondary, PATIENCE)?;
    pair.cluster.clear(CLONE)?;
    pair.serves(primary)?;
    pair.cluster.rack.mend();
    pair.cluster.rack.each(|guest| rate(guest, "100M"))?;
    pair.healthy()?;
    pair.fenced(began, &[])?;
    told.map(drop)
}

/// Looks on for a while.
pub(super) fn never_promoted(guest: &Guest, patience: Duration) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < patience {
        let one = device(guest, 0).ok().flatten();
        ensure!(one.as_ref().is_none_or(|one| one.role != "Primary"), "{} was promoted: {one:?}", guest.name);
        thread::sleep(wait::TOOL);
    }
    Ok(())
}

/// drbd.conf of the Primary becomes unreadable; monitors go on, and the Primary can be taken from it.
fn broken_configuration(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    let text = primary.read_file(CONFIGURATION)?;
    primary.write_file(CONFIGURATION, format!("{text}frob {{\n"), 0o644, Owner::Root)?;
    // More than one monitor.
    thread::sleep(Duration::from_secs(22));
    let stayed = pair.stream.outage(began);
    pair.cluster.standby(primary, true)?;
    let moved = pair.serves(secondary);
    pair.cluster.wait_idle()?;
    let left = if primary.is_on() { device(primary, 0)? } else { None };
    primary.write_file(CONFIGURATION, text, 0o644, Owner::Root)?;
    pair.cluster.standby(primary, false)?;
    pair.cluster.cleanup(RESOURCE)?;
    pair.healthy()?;
    moved?;
    pair.fenced(began, &[])?;
    ensure!(left.is_none(), "DRBD was left up: {left:?}");
    ensure!(stayed < Duration::from_secs(3), "the Primary was interrupted for {stayed:?} before anybody asked for it");
    Ok(())
}

/// Something that the cluster knows nothing of holds the device open: it is named, and once it has ended all goes on.
fn demoted_while_busy(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    primary.daemon(&["bash", "-c", "exec -a holder sleep 1000 < /dev/drbd0"])?;
    pair.cluster.move_to(CLONE, true, secondary)?;
    let said = pair.said(primary, &["held open by", "sleep"]);
    if primary.is_on() {
        // It may have been ended by a fencing.
        primary.run(&["pkill", "-x", "sleep"])?;
    }
    pair.serves(secondary)?;
    pair.cluster.wait_idle()?;
    pair.cluster.clear(CLONE)?;
    pair.cluster.cleanup(RESOURCE)?;
    said?;
    pair.fenced(began, &[])
}

/// Everything was started by hand: it is taken over as it is.
fn primary_before_pacemaker(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    let target = |role: &[&str]| {
        ["fs", CLONE].iter().try_for_each(|id| {
            pair.cluster.tool(&[&["crm_resource", "--resource", id, "--meta"], role].concat()).map(drop)
        })
    };
    target(&["--set-parameter", "target-role", "--parameter-value", "Stopped"])?;
    let down = || Ok(device(primary, 0)?.is_none() && device(secondary, 0)?.is_none());
    wait::until("DRBD to be down", SETTLE, pair.cluster.step, down)?;
    pair.cluster.wait_idle()?;
    pair.cluster.maintenance(true)?;
    pair.cluster.rack.each(|guest| guest.text(&["drbdadm", "up", R0.name]).map(drop))?;
    wait_device(secondary, 0, "in sync", |one| one.disk == "UpToDate" && one.peer_disk == "UpToDate")?;
    secondary.text(&["drbdadm", "primary", R0.name])?;
    secondary.text(&["mount", &R0.device(), PLACE])?;
    pair.goes_on()?;
    let by_hand = Instant::now();
    target(&["--delete-parameter", "target-role"])?;
    pair.cluster.reprobe(CLONE)?;
    pair.cluster.reprobe("fs")?;
    pair.cluster.wait_idle()?;
    pair.cluster.maintenance(false)?;
    let healthy = pair.healthy()?;
    ensure!(healthy.name == secondary.name, "the Primary was moved");
    let outage = pair.stream.outage(by_hand);
    ensure!(outage < Duration::from_secs(2), "writing stopped for {outage:?}");
    pair.fenced(began, &[])
}

/// After a kernel upgrade, say. The guest says what is missing, the other serves, and the module is all it takes.
fn module_missing(pair: &Pair) -> Result<()> {
    let (began, (primary, secondary)) = (Instant::now(), pair.primary()?);
    let power = &pair.cluster.rack.power;
    power.restart_after(None);
    secondary.power_cut()?;
    pair.fenced(began, &[&secondary.name])?;
    power.restart_after(Some(Duration::from_millis(500)));
    secondary.power_on()?;
    secondary.wait_up()?;
    let module = shell(
        secondary,
        "rmmod drbd && f=$(find /lib/modules/$(uname -r) -name 'drbd.ko*') && mv $f /root/ && depmod && echo $f",
    )?;
    secondary.start_cluster()?;
    pair.cluster.wait_quorum(2)?;
    let running = shell(secondary, "uname -r")?;
    let said = pair.said(secondary, &["can not load the drbd module", running.trim()]);
    pair.cluster.wait_idle()?;
    shell(secondary, &format!("mv /root/drbd.ko* {} && depmod", module.trim()))?;
    pair.goes_on()?;
    pair.cluster.cleanup(RESOURCE)?;
    let healthy = pair.healthy()?;
    ensure!(healthy.name == primary.name, "the Primary was moved");
    pair.fenced(began, &[&secondary.name])?;
    said.map(drop)
}
