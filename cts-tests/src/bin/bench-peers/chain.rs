//! The whole chain in two guests, run by this project's agents and then by their peers: what it costs while nothing happens, what
//! a switchover and a death cost, and how long clients were without it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cts_tests::postgres::{self, USUAL};
use cts_tests::vm::chain::{Agents, Chain, Outages};
use cts_tests::vm::guest::Guest;

use crate::invocation::median;
use crate::table::{Goal, Table};

/// How long the cost of the monitors is summed up.
const STEADY: Duration = Duration::from_secs(60);

/// Of each guest. One emulated processor is less than the peers' monitors take, pgsql's and those of twenty IPaddr2 every 10 s:
/// pgsql's runs into its minute, the database is restarted, and its PGSQL.lock keeps it from that.
const PROCESSORS: u8 = 2;

/// How many times less processor time a minute ours is to take.
const CHEAPER: f64 = 20.0;

/// How many times fewer processes a switchover is to fork.
const FEWER: f64 = 30.0;

/// What was seen of one chain.
struct Seen {
    /// Processor time of what the executor ran, in seconds a minute: on the active guest, on the other.
    processor_time: [f64; 2],
    /// Processes and threads begun in a minute, likewise.
    begun: [f64; 2],
    switchover: Event,
    death: Event,
}

/// One kind of event; medians.
struct Event {
    /// Processes and threads begun on both guests, or on the one that is left.
    begun: f64,
    database: f64,
    addresses: f64,
    file_system: f64,
}

pub(crate) fn measure(table: &Table, rounds: usize) -> Result<()> {
    postgres::put_in_place(USUAL)?;
    let theirs = of_chain(Agents::Peers, rounds)?;
    let ours = of_chain(Agents::Own(&[]), rounds)?;
    for (index, place) in ["active guest", "the other guest"].iter().enumerate() {
        let [own, peer] = [&ours, &theirs].map(|seen| seen.processor_time[index]);
        let goal = if index == 0 { Goal::Better(CHEAPER) } else { Goal::None };
        let [shown, beside] = [own, peer].map(|seconds| format!("{seconds:.2} s"));
        table.compare(&format!("{place}: processor time of the agents a minute"), &shown, &beside, own / peer, goal);
        let [own, peer] = [&ours, &theirs].map(|seen| seen.begun[index]);
        count(table, &format!("{place}: processes and threads begun a minute"), own, peer, Goal::None);
    }
    event(table, "planned switchover", &ours.switchover, &theirs.switchover, Goal::Better(FEWER));
    event(table, "guest killed", &ours.death, &theirs.death, Goal::None);
    Ok(())
}

fn count(table: &Table, what: &str, own: f64, peer: f64, goal: Goal) {
    let [shown, beside] = [own, peer].map(|count| format!("{count:.0}"));
    table.compare(what, &shown, &beside, own / peer, goal);
}

fn event(table: &Table, name: &str, ours: &Event, theirs: &Event, goal: Goal) {
    count(table, &format!("{name}: processes and threads begun"), ours.begun, theirs.begun, goal);
    for (what, own, peer) in [
        ("database", ours.database, theirs.database),
        ("addresses", ours.addresses, theirs.addresses),
        ("file system on DRBD", ours.file_system, theirs.file_system),
    ] {
        let [shown, beside] = [own, peer].map(|seconds| format!("{seconds:.1} s"));
        table.compare(&format!("{name}: {what} without an answer"), &shown, &beside, own / peer, Goal::None);
    }
}

fn of_chain(agents: Agents, rounds: usize) -> Result<Seen> {
    let chain = Chain::start(agents, PROCESSORS)?;
    measured(&chain, rounds).with_context(|| chain.dump())
}

fn measured(chain: &Chain, rounds: usize) -> Result<Seen> {
    let (primary, secondary) = chain.pair.primary()?;
    let guests = [primary, secondary];
    let now =
        || -> Result<Vec<(f64, f64)>> { guests.into_iter().map(|guest| Ok((reaped(guest)?, begun(guest)?))).collect() };
    let (before, since) = (now()?, Instant::now());
    thread::sleep(STEADY);
    let (after, minutes) = (now()?, since.elapsed().as_secs_f64() / 60.0);
    let a_minute = |index: usize, part: fn(&(f64, f64)) -> f64| (part(&after[index]) - part(&before[index])) / minutes;
    let processor_time = [0, 1].map(|index| a_minute(index, |one| one.0));
    let begun = [0, 1].map(|index| a_minute(index, |one| one.1));
    let mut switchovers = Vec::new();
    for _ in 0..rounds {
        switchovers.push(counted(chain, &guests, Chain::switchover)?);
        chain.healthy()?;
    }
    let mut deaths = Vec::new();
    for _ in 0..rounds {
        let (_, survivor) = chain.pair.primary()?;
        deaths.push(counted(chain, &[survivor], Chain::killed)?);
        chain.healthy()?;
        chain.cleanup()?;
        chain.healthy()?;
    }
    Ok(Seen { processor_time, begun, switchover: middle(&switchovers), death: middle(&deaths) })
}

/// What these guests began while `deed` was done.
fn counted(chain: &Chain, guests: &[&Guest], deed: fn(&Chain) -> Result<Outages>) -> Result<(f64, Outages)> {
    let sum = || guests.iter().map(|guest| begun(guest)).sum::<Result<f64>>();
    let before = sum()?;
    let outages = deed(chain)?;
    Ok((sum()? - before, outages))
}

fn middle(events: &[(f64, Outages)]) -> Event {
    let of = |part: fn(&(f64, Outages)) -> f64| median(events.iter().map(part));
    Event {
        begun: of(|(begun, _)| *begun),
        database: of(|(_, seen)| seen.database.as_secs_f64()),
        addresses: of(|(_, seen)| seen.addresses.as_secs_f64()),
        file_system: of(|(_, seen)| seen.file_system.as_secs_f64()),
    }
}

/// proc_stat(5), `processes`: all that was forked or cloned since boot.
fn begun(guest: &Guest) -> Result<f64> {
    let stat = guest.read_file("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("processes "));
    Ok(line.context("/proc/stat tells no processes")?.trim().parse()?)
}

/// User and system time of what pacemaker-execd has run and waited for, in seconds: fields 16 and 17 of proc_pid_stat(5), in
/// hundredths (CLK_TCK).
fn reaped(guest: &Guest) -> Result<f64> {
    let pid = guest.text(&["pidof", "pacemaker-execd"])?;
    let stat = guest.read_file(&format!("/proc/{}/stat", pid.trim()))?;
    let (_, fields) = stat.rsplit_once(") ").with_context(|| format!("/proc/{}/stat: {stat}", pid.trim()))?;
    let ticks = fields.split(' ').skip(13).take(2).map(|field| Ok(field.parse::<f64>()?)).sum::<Result<f64>>()?;
    Ok(ticks / 100.0)
}
