//! What can happen to a pair of PostgreSQL servers, played with any agent that runs it.
//!
//! Each scenario takes a healthy pair and leaves one, with one primary, a standby that streams from it, and every row that
//! was acknowledged; or it says what was not so.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::cluster::SETTLE;
use crate::contender::Contender;
use crate::crm_mon::Failure;
use crate::pacemaker::Member;
use crate::postgres::{HOME_IN_NODE, Server, USER};
use crate::postgres_pair::{CLONE, Pair, RESOURCE};
use crate::{process, wait};

/// A scenario.
pub type Scenario = fn(&Pair) -> Result<()>;

/// Every scenario that means the same for each agent, by name.
pub const ALL: &[(&str, Scenario)] = &[
    ("planned move, both ways", to_and_fro),
    ("power cut of the primary", power_cut),
    ("power cut of the standby", standby_power_cut),
    ("power cut of both", both_power_cut),
    ("postmaster killed", postmaster_killed),
    ("postmaster stands still", postmaster_stopped),
    ("one process crashes again and again", crash_loop),
    ("cable of the primary cut", cable_cut),
    ("standby that lacks rows is asked for", promoted_while_behind),
    ("old primary has rows of its own", diverged),
    ("postgresql.conf broken, then stopped", broken_configuration),
    ("recovery.conf in the place of standby.signal", recovery_file_of_another_version),
    ("password of the replication user is wrong", password_wrong),
    ("attribute daemon hangs", attribute_daemon_hangs),
    ("every connection taken", connections_saturated),
];

/// Every row that was acknowledged is there.
pub fn nothing_lost(pair: &Pair) -> Result<()> {
    let lost = pair.lost()?;
    ensure!(lost == 0, "{lost} acknowledged rows are lost");
    Ok(())
}

/// The promoted role moves to the standby.
pub fn switchover(pair: &Pair) -> Result<()> {
    let (_, standbys) = pair.primary()?;
    pair.promote(standbys[0])?;
    nothing_lost(pair)
}

/// What happens to the primary's node or server; afterwards there is one primary again, which this returns, and the other
/// streams from it.
fn after(pair: &Pair, event: impl FnOnce(&Server) -> Result<()>) -> Result<String> {
    let began = Instant::now();
    let primary = pair.primary()?.0.clone();
    event(&primary)?;
    // What was seen before the event took effect is not the answer to it.
    let silent = |millis| pair.writer.silence() > Duration::from_millis(millis);
    let interrupted = || Ok(silent(500));
    wait::until("the client to be interrupted", SETTLE, wait::QUICK, interrupted)?;
    let again = || Ok(!silent(100));
    wait::until("the client to write again", SETTLE, wait::QUICK, again)?;
    println!("  writable again after {:.2} s", began.elapsed().as_secs_f64());
    pair.healthy()?;
    println!("  healthy again after {:.2} s", began.elapsed().as_secs_f64());
    Ok(pair.primary()?.0.name.clone())
}

/// The primary's node loses its power: the other is promoted, and it comes back as standby.
pub fn power_cut(pair: &Pair) -> Result<()> {
    let (old, began) = (pair.primary()?.0.name.clone(), Instant::now());
    let new = after(pair, |primary| pair.cluster.node(&primary.name)?.power_cut())?;
    ensure!(new != old, "the other node was to be promoted");
    let fenced = pair.cluster.switch.since(began);
    ensure!(fenced.len() == 1 && fenced[0].target == old, "one fencing of {old} was to be: {fenced:#?}");
    nothing_lost(pair)
}

/// The postmaster is killed; the server may be started again where it was, or the other one promoted.
pub fn postmaster_killed(pair: &Pair) -> Result<()> {
    let (old, began) = (pair.primary()?.0.name.clone(), Instant::now());
    let new = after(pair, |primary| primary.signal("KILL"))?;
    let stays = pair.contender == Contender::Greenarrow;
    ensure!(new == old || !stays, "the server was to be started again where it was");
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    pair.cluster.cleanup(RESOURCE)?;
    nothing_lost(pair)
}

/// The postmaster stands still.
pub fn postmaster_stopped(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    // The client's own connection goes on as long as it lives: its server process does not stand still.
    after(pair, |primary| primary.signal("STOP"))?;
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    pair.cluster.cleanup(RESOURCE)?;
    nothing_lost(pair)
}

/// The standby's node loses its power: the primary stays, and the standby comes back.
pub fn standby_power_cut(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    let (primary, standbys) = pair.primary()?;
    pair.cluster.node(&standbys[0].name)?.power_cut()?;
    let fenced = || Ok(!pair.cluster.switch.since(began).is_empty());
    wait::until("the standby to be fenced", SETTLE, wait::QUICK, fenced)?;
    pair.healthy()?;
    ensure!(pair.primary()?.0.name == primary.name, "the primary was to stay");
    nothing_lost(pair)
}

/// Both nodes lose their power and get it back: the primary is the same.
pub fn both_power_cut(pair: &Pair) -> Result<()> {
    let primary = pair.primary()?.0.name.clone();
    for node in &pair.cluster.nodes {
        node.power_cut()?;
    }
    thread::sleep(Duration::from_secs(1));
    for node in &pair.cluster.nodes {
        node.boot()?;
    }
    pair.cluster.wait_quorum(2)?;
    pair.healthy()?;
    ensure!(pair.primary()?.0.name == primary, "the node that was the primary was to be it again");
    nothing_lost(pair)
}

/// The primary and the others stay what they are, nothing of the agent failed, and no node was fenced since `began`.
fn undisturbed(pair: &Pair, primary: &str, began: Instant) -> Result<()> {
    pair.healthy()?;
    ensure!(pair.primary()?.0.name == primary, "there was a failover");
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    // A degraded answer is shown among the failed actions, and changes nothing.
    let failures = pair.failures();
    let degraded = |failure: &&Failure| failure.status.to_lowercase().contains("degraded");
    let acted_upon: Vec<_> = failures.iter().filter(|failure| !degraded(failure)).collect();
    ensure!(acted_upon.is_empty(), "{acted_upon:#?}");
    ensure!(pair.lost()? == 0, "acknowledged rows are lost");
    pair.cluster.cleanup(RESOURCE)
}

/// Pacemaker's attribute daemon stands still on every node, for longer than several monitors take.
pub fn attribute_daemon_hangs(pair: &Pair) -> Result<()> {
    let (began, primary) = (Instant::now(), pair.primary()?.0.name.clone());
    let mut daemons = Vec::new();
    for node in &pair.cluster.nodes {
        daemons.extend(node.processes(|argv| argv.first().is_some_and(|path| path.ends_with("pacemaker-attrd")))?);
    }
    ensure!(daemons.len() == 2, "pacemaker-attrd does not run");
    daemons.iter().try_for_each(|pid| process::signal(*pid, Signal::SIGSTOP))?;
    thread::sleep(Duration::from_secs(20));
    let outage = pair.writer.outage(began);
    daemons.iter().try_for_each(|pid| process::signal(*pid, Signal::SIGCONT))?;
    ensure!(outage < Duration::from_secs(1), "the client was interrupted for {outage:?}");
    undisturbed(pair, &primary, began)
}

/// One process of the server after the other is killed, so that the server recovers again and again.
pub fn crash_loop(pair: &Pair) -> Result<()> {
    let (began, primary) = (Instant::now(), pair.primary()?.0.clone());
    while began.elapsed() < Duration::from_secs(15) {
        let pid = primary.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'").unwrap_or_default();
        if !pid.is_empty() {
            primary.command(&["kill", "-s", "KILL", &pid])?.run()?;
        }
        thread::sleep(Duration::from_millis(300));
    }
    undisturbed(pair, &primary.name, began)
}

/// Every connection that there is, is taken; the client has its own already.
pub fn connections_saturated(pair: &Pair) -> Result<()> {
    let (began, primary) = (Instant::now(), pair.primary()?.0.clone());
    let free = "SELECT current_setting('max_connections')::int - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
    let free: usize = primary.sql(free)?.parse().context("how many connections are free")?;
    let session = ["-h", primary.home(), "-Xd", "postgres"];
    let start = || primary.program("psql", &session)?.start(Stdio::null());
    let mut sessions = (0..free).map(|_| start()).collect::<Result<Vec<_>>>()?;
    wait::until("all connections to be taken", SETTLE, wait::TOOL, || {
        let taken = primary.sql("SELECT 1").is_err();
        sessions.extend(if taken { None } else { Some(start()?) });
        Ok(taken)
    })?;
    if pair.contender == Contender::Greenarrow {
        let degraded = || Ok(pair.failures().iter().any(|failure| failure.reason.contains("53300")));
        wait::until("the degraded monitor to be shown", SETTLE, wait::TOOL, degraded)?;
    }
    // Several monitors of either role.
    thread::sleep(Duration::from_secs(10));
    // Waited for, which closes its input and ends it. Killed, its process in the node would be left to this process, PID 1
    // of its namespace, to be waited for, and a power cut of the node ends only when that has been done.
    sessions.iter_mut().try_for_each(|session| session.wait().map(drop))?;
    undisturbed(pair, &primary.name, began)
}

/// The primary's node loses its cable, is fenced, and gets the cable back.
pub fn cable_cut(pair: &Pair) -> Result<()> {
    let (began, old) = (Instant::now(), pair.primary()?.0.clone());
    let node = pair.cluster.node(&old.name)?;
    node.cable_cut()?;
    let fenced = || Ok(!pair.cluster.switch.since(began).is_empty());
    wait::until("the node without cable to be fenced", SETTLE, wait::QUICK, fenced)?;
    let moved = || Ok(pair.writer.silence() < Duration::from_millis(200));
    wait::until("the client to write again", SETTLE, wait::TOOL, moved)?;
    node.cable_mend()?;
    pair.healthy()?;
    ensure!(pair.primary()?.0.name != old.name && pair.cluster.switch.since(began)[0].target == old.name);
    ensure!(pair.lost()? == 0, "acknowledged rows are lost");
    Ok(())
}

fn to_and_fro(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    switchover(pair)?;
    switchover(pair)?;
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    ensure!(pair.failures().is_empty(), "an action failed: {:#?}", pair.failures());
    Ok(())
}

/// The promoted role is asked for on a standby that could not receive what the primary wrote last.
fn promoted_while_behind(pair: &Pair) -> Result<()> {
    let (began, (primary, standbys)) = (Instant::now(), pair.primary()?);
    let (primary, behind) = (primary.clone(), standbys[0].clone());
    primary.refuse_standbys(&[&behind.address], true)?;
    primary.sql("INSERT INTO audit SELECT generate_series(-1000, -1)")?;
    pair.cluster.move_to(CLONE, true, pair.cluster.node(&behind.name)?)?;
    // Long enough for a demotion, a promotion that is refused, and another one.
    thread::sleep(Duration::from_secs(15));
    pair.cluster.clear(CLONE)?;
    primary.refuse_standbys(&[&behind.address], false).or_else(|_| allow_standby_later(pair, &primary, &behind))?;
    pair.healthy()?;
    let there = pair.primary()?.0.sql("SELECT count(*) FROM audit WHERE id < 0")?;
    ensure!(there == "1000", "of 1000 rows that only the old primary had, {there} are left");
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    nothing_lost(pair)
}

/// The server may be down at the moment.
fn allow_standby_later(pair: &Pair, primary: &Server, behind: &Server) -> Result<()> {
    let allowed = || Ok(primary.refuse_standbys(&[&behind.address], false).is_ok());
    wait::until("the old primary's server to run", SETTLE, wait::TOOL, allowed)
        .map(drop)
        .with_context(|| format!("actions failed: {:#?}", pair.failures()))
}

/// The primary's node loses power with rows that the other never received.
fn diverged(pair: &Pair) -> Result<()> {
    let (began, (old, standbys)) = (Instant::now(), pair.primary()?);
    let (old, new) = (old.clone(), standbys[0].clone());
    pair.die_with_rows_of_its_own(&old)?;
    let promoted = || Ok(pair.primary().is_ok_and(|(primary, _)| primary.name == new.name));
    wait::until("the other node to be promoted", SETTLE, wait::TOOL, promoted)?;
    pair.healthy()?;
    ensure!(pair.primary()?.0.name == new.name, "the old primary is the primary again");
    let of_its_own = old.sql("SELECT count(*) FROM audit WHERE id < 0")?;
    ensure!(of_its_own == "0", "{of_its_own} rows of its own are on the standby");
    let fenced = pair.cluster.switch.since(began);
    ensure!(fenced.len() == 1, "fenced {} times", fenced.len());
    Ok(())
}

/// A stop needs no valid configuration.
pub fn broken_configuration(pair: &Pair) -> Result<()> {
    let (began, primary) = (Instant::now(), pair.primary()?.0.clone());
    let node = pair.cluster.node(&primary.name)?;
    let settings = primary.read("postgresql.conf")?;
    primary.write("postgresql.conf", &format!("{settings}this is no setting\n"))?;
    // Monitors have to see it too.
    thread::sleep(Duration::from_secs(8));
    pair.cluster.standby(node, true)?;
    pair.cluster.wait_idle()?;
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    let moved = || Ok(pair.primary().is_ok_and(|(new, _)| new.name != primary.name));
    wait::until("the other node to be promoted", SETTLE, wait::TOOL, moved)?;
    ensure!(!primary.has_processes()?, "the server still runs on {}", primary.name);
    primary.write("postgresql.conf", &settings)?;
    pair.cluster.standby(node, false)?;
    pair.cluster.cleanup(RESOURCE)?;
    pair.healthy()?;
    nothing_lost(pair)
}

/// The standby's files are put back as they were before version 12, by hand or from a backup: a server with recovery.conf does
/// not start, and one with neither file would start as a primary.
pub fn recovery_file_of_another_version(pair: &Pair) -> Result<()> {
    let (began, (primary, standbys)) = (Instant::now(), pair.primary()?);
    let (primary, standby) = (primary.clone(), standbys[0].clone());
    let failed = || Ok(pair.failures().iter().any(|one| one.node == standby.name && one.operation == "pg_start_0"));
    standby.write("recovery.conf", "standby_mode = 'on'\n")?;
    standby.remove("standby.signal")?;
    standby.signal("KILL")?;
    wait::until("the start of the standby to fail", SETTLE, wait::TOOL, failed)?;
    pair.cluster.wait_idle()?;
    ensure!(!standby.has_processes()?, "the server runs");
    standby.remove("recovery.conf")?;
    pair.cluster.cleanup(RESOURCE)?;
    pair.healthy()?;
    ensure!(pair.primary()?.0.name == primary.name, "there was a failover");
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    nothing_lost(pair)
}

/// The primary asks the standby for a password, and the standby has another one.
pub fn password_wrong(pair: &Pair) -> Result<()> {
    let (began, (primary, standbys)) = (Instant::now(), pair.primary()?);
    let (primary, standby) = (primary.clone(), standbys[0].clone());
    let password_file = format!("{HOME_IN_NODE}/.pgpass");
    let write_password = |password: &str| -> Result<()> {
        let install = ["install", "-o", USER, "-g", "nogroup", "-m", "600", "/dev/stdin", &password_file];
        standby.command(&install)?.stdin(format!("*:*:*:{USER}:{password}\n")).text().map(drop)
    };
    write_password("wrong")?;
    primary.sql(&format!("ALTER ROLE {USER} PASSWORD 'right'"))?;
    let rules = primary.read("pg_hba.conf")?;
    primary.write("pg_hba.conf", &format!("host replication all {}/32 scram-sha-256\n{rules}", standby.address))?;
    primary.sql("SELECT pg_reload_conf()")?;
    let parted = || Ok(primary.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_replication")? == "0");
    wait::until("the standby not to be let in", SETTLE, wait::TOOL, parted)?;
    if pair.contender == Contender::Greenarrow {
        let words = format!("the primary refuses the password of {USER}: correct it in {password_file}");
        let told = || Ok(pair.failures().iter().any(|one| one.node == standby.name && one.reason.contains(&words)));
        wait::until(&format!("{words:?}"), SETTLE, wait::TOOL, told)?;
    }
    write_password("right")?;
    undisturbed(pair, &primary.name, began)
}
