//! The whole chain in two guests, run by this project's agents and then by their peers: what it costs while nothing happens, what
//! a switchover and a death cost, and how long clients were without it.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cts_tests::postgres::{self, USUAL};
use cts_tests::vm::chain::{Agents, Chain};
use cts_tests::vm::chain_outages::Outages;
use cts_tests::vm::guest::Guest;

use crate::invocation::median;
use crate::table::{Goal, Table};

/// How long the cost of the monitors is summed up.
const STEADY: Duration = Duration::from_secs(60);

/// Of each guest. One emulated processor is less than the peers' monitors take, pgsql's and those of twenty IPaddr2 every 10 s:
/// pgsql's runs into its minute, the database is restarted, and PGSQL.lock keeps it from starting.
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
    let ours = of_chain(Agents::Own { beside: &[], services: false }, rounds)?;
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

/// Each round in guests of its own: after a death the peers' old primary comes back by hand only.
fn of_chain(agents: Agents, rounds: usize) -> Result<Seen> {
    let round = |_| {
        let chain = Chain::start(agents, PROCESSORS)?;
        measured(&chain).with_context(|| chain.dump())
    };
    let rounds = (0..rounds).map(round).collect::<Result<Vec<_>>>()?;
    let of = |part: &dyn Fn(&Seen) -> f64| median(rounds.iter().map(part));
    let event = |part: fn(&Seen) -> &Event| Event {
        begun: of(&|seen| part(seen).begun),
        database: of(&|seen| part(seen).database),
        addresses: of(&|seen| part(seen).addresses),
        file_system: of(&|seen| part(seen).file_system),
    };
    Ok(Seen {
        processor_time: [0, 1].map(|index| of(&|seen| seen.processor_time[index])),
        begun: [0, 1].map(|index| of(&|seen| seen.begun[index])),
        switchover: event(|seen| &seen.switchover),
        death: event(|seen| &seen.death),
    })
}

fn measured(chain: &Chain) -> Result<Seen> {
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
    tell(chain, &format!("a minute: {processor_time:.2?} s of processor time, {begun:.0?} processes and threads"))?;
    let switchover = counted(chain, "planned switchover", &guests, Chain::switchover)?;
    chain.mended()?;
    let (_, survivor) = chain.pair.primary()?;
    let death = counted(chain, "guest killed", &[survivor], Chain::killed)?;
    Ok(Seen { processor_time, begun, switchover, death })
}

/// What these guests began while `deed` was done, and what clients saw of it.
fn counted(chain: &Chain, name: &str, guests: &[&Guest], deed: fn(&Chain) -> Result<Outages>) -> Result<Event> {
    let sum = || guests.iter().map(|guest| begun(guest)).sum::<Result<f64>>();
    let before = sum()?;
    let seen = deed(chain)?;
    let begun = sum()? - before;
    tell(chain, &format!("{name}: {begun:.0} processes and threads; {}", seen.describe()))?;
    let [database, addresses, file_system] =
        [seen.database, seen.addresses, seen.file_system].map(|outage| outage.as_secs_f64());
    Ok(Event { begun, database, addresses, file_system })
}

/// As it comes: a round takes a quarter of an hour, and the next may fail.
fn tell(chain: &Chain, words: &str) -> Result<()> {
    let whose = if chain.agents == Agents::Peers { "peers" } else { "ours" };
    Ok(writeln!(io::stderr(), "{whose}: {words}")?)
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
