//! A pair of PostgreSQL servers under this project's agents, PAF and heartbeat:pgsql, through the same events, while a client
//! writes through the service address.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::contender::Contender;
use cts_tests::postgres::{self, Server, USUAL};
use cts_tests::postgres_pair::{CLONE, Pair};
use cts_tests::wait;

use crate::contender::scrap;
use crate::executors::{processor_time_a_minute, processor_time_of_monitors, started_by_a_monitor};
use crate::invocation::{Started, median};
use crate::table::{Goal, Table, ms};

/// After this the client connects anew: the finest that an outage is seen.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long an old primary has to stream again, from the takeover on: a node is on again half a second after its fencing, and
/// what comes back at all does so in a third of this.
const RETURN: Duration = Duration::from_secs(30);

/// The cluster processes an event for some time after the client writes again.
const AFTERMATH: Duration = Duration::from_secs(1);

/// The goals: the outage of a planned move, and the time from fenced to writable, in seconds.
const PLANNED: f64 = 1.2;
const WRITABLE: f64 = 0.7;

/// One event.
#[derive(Clone, Copy, Debug)]
struct Event {
    outage: f64,
    /// From the power switch's "done" to the first acknowledged row.
    fenced_to_writable: Option<f64>,
    /// Whether the old primary streamed again by itself, with no fencing but the one that the event calls for.
    returned: bool,
    /// Whether the node that was left, or fenced, was promoted again instead of the standby.
    promoted_again: bool,
    fencings: usize,
}

/// What was seen of one agent.
struct Seen {
    contender: Contender,
    moves: Vec<Event>,
    cuts: Vec<Event>,
    /// Processor seconds in a minute, of the primary's and the standby's monitors.
    processor: [f64; 2],
    /// Of one monitor by itself, in seconds.
    monitor: [f64; 2],
    started: [Started; 2],
    acknowledged: usize,
    lost: usize,
}

pub(crate) fn measure(table: &Table, rounds: usize) -> Result<()> {
    postgres::put_in_place(USUAL)?;
    let play = |contender: Contender| play(contender, rounds).with_context(|| contender.name());
    let [ours, paf, pgsql] = [play(Contender::Greenarrow)?, play(Contender::Paf)?, play(Contender::Pgsql)?];
    let peers = [paf, pgsql];
    outages(table, &ours, &peers);
    monitors(table, &ours, &peers);
    returns(table, &ours, &peers);
    let lost = |seen: &Seen| format!("{} of {}", seen.lost, seen.acknowledged);
    each(table, "acknowledged rows lost", &ours, &peers, lost, "0", Some(ours.lost == 0));
    println!(
        "\n{} planned moves and {} power cuts of ours, {} and {} of PAF, {} and {} of heartbeat:pgsql; medians. Ours with sync=prefer rejoin=rewind and primary-ips, \
         the peers asynchronous and with IPaddr2. Monitors every 3 s and 4 s; the processor time of one is what it and its children took, median of a minute; that of \
         a minute is what all of pacemaker-execd's children took (cutime and cstime of /proc/PID/stat), before they became \
         the agent too, that of the address's monitor excluded. Programs started: strace \
         of pacemaker-execd. An old primary that had not come back after {} s, or was fenced again, got a new base backup.",
        ours.moves.len(),
        ours.cuts.len(),
        peers[0].moves.len(),
        peers[0].cuts.len(),
        peers[1].moves.len(),
        peers[1].cuts.len(),
        RETURN.as_secs()
    );
    Ok(())
}

fn outages(table: &Table, ours: &Seen, peers: &[Seen; 2]) {
    let moved = |seen: &Seen| median(seen.moves.iter().map(|event| event.outage));
    let cut = |seen: &Seen| median(seen.cuts.iter().map(|event| event.outage));
    let writable = |seen: &Seen| median(seen.cuts.iter().filter_map(|event| event.fenced_to_writable));
    let met = Some(moved(ours) <= PLANNED);
    table.row("planned move: outage", &seconds(moved(ours)), "", "", &format!("<= {PLANNED} s"), met);
    compare(table, "planned move: outage", ours, peers, moved, seconds, Goal::AtMost(0.65));
    compare(table, "power cut: outage", ours, peers, cut, seconds, Goal::None);
    let what = "power cut: from fenced to writable";
    let met = Some(writable(ours) <= WRITABLE);
    table.row(what, &seconds(writable(ours)), "", "", &format!("<= {WRITABLE} s"), met);
    compare(table, what, ours, peers, writable, seconds, Goal::None);
}

fn monitors(table: &Table, ours: &Seen, peers: &[Seen; 2]) {
    for (index, role) in ["primary", "standby"].into_iter().enumerate() {
        // The kernel counts it in ticks of 10 ms: less than one is taken for one.
        let processor = |seen: &Seen| seen.processor[index].max(0.01);
        let what = format!("{role}: processor time of a monitor");
        compare(table, &what, ours, peers, |seen| seen.monitor[index], ms, Goal::Better(40.0));
        let what = format!("{role}: processor time of monitors a minute, with Pacemaker's for starting them");
        compare(table, &what, ours, peers, processor, seconds, Goal::None);
        let what = format!("{role}: a monitor's programs executed, processes forked");
        let counts = |seen: &Seen| format!("{}, {}", seen.started[index].execs, seen.started[index].forks);
        let met = ours.started[index] == Started { execs: 0, forks: 0 };
        each(table, &what, ours, peers, counts, "0, 0", Some(met));
    }
}

fn returns(table: &Table, ours: &Seen, peers: &[Seen; 2]) {
    for planned in [true, false] {
        let events = |seen: &Seen| if planned { seen.moves.clone() } else { seen.cuts.clone() };
        let text = |seen: &Seen| {
            let events = events(seen);
            let back = events.iter().filter(|event| event.returned).count();
            let fencings: usize = events.iter().map(|event| event.fencings).sum();
            let again = events.iter().filter(|event| event.promoted_again).count();
            let again = if again == 0 { String::new() } else { format!(", promoted itself again in {again}") };
            format!("{back} of {}, {fencings} fencings{again}", events.len())
        };
        let what = if planned { "planned move" } else { "power cut" };
        let met = events(ours).iter().all(|event| event.returned);
        each(table, &format!("{what}: old primary streams again"), ours, peers, text, "all", Some(met));
    }
}

/// A row for each peer, with the ratio.
fn compare(
    table: &Table,
    what: &str,
    ours: &Seen,
    peers: &[Seen; 2],
    cost: impl Fn(&Seen) -> f64,
    text: fn(f64) -> String,
    goal: Goal,
) {
    for peer in peers {
        let theirs = format!("{}: {}", peer.contender.name(), text(cost(peer)));
        table.compare(what, &text(cost(ours)), &theirs, cost(ours) / cost(peer), goal);
    }
}

/// A row for what has no ratio.
fn each(
    table: &Table,
    what: &str,
    ours: &Seen,
    peers: &[Seen; 2],
    text: impl Fn(&Seen) -> String,
    goal: &str,
    met: Option<bool>,
) {
    let theirs = peers.iter().map(|peer| format!("{}: {}", peer.contender.name(), text(peer)));
    table.row(what, &text(ours), &theirs.collect::<Vec<_>>().join("; "), "", goal, met);
}

fn seconds(value: f64) -> String {
    format!("{value:.2} s")
}

/// Plays everything with one agent in a cluster of its own.
fn play(contender: Contender, rounds: usize) -> Result<Seen> {
    let pair = Pair::compared(contender)?;
    pair.writer.patience(PATIENCE);
    let seen = measured(&pair, rounds).map_err(|error| error.context(pair.dump()))?;
    let Pair { cluster, writer, .. } = pair;
    drop(writer);
    scrap(&cluster)?;
    Ok(seen)
}

fn measured(pair: &Pair, rounds: usize) -> Result<Seen> {
    let contender = pair.contender;
    Contender::without_monitor_of_the_address(&pair.cluster)?;
    pair.cluster.wait_idle()?;
    let (primary, standbys) = pair.primary()?;
    let nodes = [pair.cluster.node(&primary.name)?, pair.cluster.node(&standbys[0].name)?];
    let processor = processor_time_a_minute(nodes.map(AsRef::as_ref))?;
    let processor: [f64; 2] = processor.try_into().ok().context("two nodes were measured")?;
    let monitor = processor_time_of_monitors(nodes.map(AsRef::as_ref), &contender.path())?;
    let monitor: [f64; 2] = monitor.try_into().ok().context("two nodes were measured")?;
    let [first, second] = nodes.map(|node| started_by_a_monitor(node, &contender.path()));
    let started = [first?, second?];
    eprintln!("{}: monitors: {monitor:.5?} s, {processor:.2?} s a minute, {started:?}", contender.name());
    let (mut moves, mut cuts) = (Vec::new(), Vec::new());
    // The old primary of a peer has to be repaired by and by, which takes a minute each time.
    let rounds = if contender == Contender::Greenarrow { rounds * 2 } else { rounds };
    for _ in 0..rounds {
        moves.extend(played(contender, "planned move", planned_move(pair))?);
    }
    for _ in 0..rounds {
        cuts.extend(played(contender, "power cut", power_cut(pair))?);
    }
    let acknowledged: BTreeSet<u64> = pair.writer.acknowledged();
    Ok(Seen {
        contender,
        moves,
        cuts,
        processor,
        monitor,
        started,
        acknowledged: acknowledged.len(),
        lost: pair.lost()?,
    })
}

/// Each event as it is seen, on standard error, which leaves the table whole. What cannot be played to its end with a peer is
/// said there and does not count.
fn played(contender: Contender, what: &str, event: Result<Event>) -> Result<Option<Event>> {
    let name = contender.name();
    match event {
        Err(error) if contender != Contender::Greenarrow => {
            eprintln!("{name}: {what}: not played to its end: {error:#}");
            Ok(None)
        }
        event => {
            let event = event?;
            eprintln!("{name}: {what}: {event:?}");
            Ok(Some(event))
        }
    }
}

fn planned_move(pair: &Pair) -> Result<Event> {
    let (old, new) = settled(pair)?;
    let began = Instant::now();
    pair.cluster.move_to(CLONE, true, pair.cluster.node(&new.name)?)?;
    let (outage, promoted_again) = taken_over(pair, &new, began)?;
    explain(pair, &new, outage > PLANNED)?;
    pair.cluster.wait_idle()?;
    pair.cluster.clear(CLONE)?;
    let returned = returns_or_is_repaired(pair, &old, &new, began, 0)?;
    let fencings = pair.cluster.switch.since(began).len();
    Ok(Event { outage, fenced_to_writable: None, returned, promoted_again, fencings })
}

fn power_cut(pair: &Pair) -> Result<Event> {
    let (old, new) = settled(pair)?;
    let began = Instant::now();
    pair.cluster.node(&old.name)?.power_cut()?;
    let (outage, promoted_again) = taken_over(pair, &new, began)?;
    let fencing = pair.cluster.switch.since(began).into_iter().next().context("nobody was fenced")?;
    let writable = pair.writer.first_after(fencing.done).context("nothing was written")?;
    let fenced_to_writable = (writable - fencing.done).as_secs_f64();
    explain(pair, &new, fenced_to_writable > WRITABLE)?;
    let returned = returns_or_is_repaired(pair, &old, &new, began, 1)?;
    let fencings = pair.cluster.switch.since(began).len();
    Ok(Event { outage, fenced_to_writable: Some(fenced_to_writable), returned, promoted_again, fencings })
}

/// Waits until all is well, and a little more, so that an event meets a cluster at rest; the primary and the standby.
fn settled(pair: &Pair) -> Result<(Server, Server)> {
    pair.healthy()?;
    std::thread::sleep(AFTERMATH);
    let (primary, standbys) = pair.primary()?;
    Ok((primary.clone(), standbys.first().copied().context("no standby")?.clone()))
}

/// Where the time went in an event of ours that took longer than the goal: the node's last actions, with their times.
fn explain(pair: &Pair, new: &Server, slow: bool) -> Result<()> {
    if !slow || pair.contender != Contender::Greenarrow {
        return Ok(());
    }
    let words =
        ["grep", "-aE", "Requesting local execution|Result of|targeting .* OK", "/var/log/pacemaker/pacemaker.log"];
    let log = new.command(&words)?.run()?.stdout;
    let mut last: Vec<_> = log.lines().rev().take(20).collect();
    last.reverse();
    eprintln!("slower than the goal; the last actions on {}:\n{}", new.name, last.join("\n"));
    Ok(())
}

/// Waits until the client writes again, which asks nothing of the cluster; how long it could not, and whether another node
/// than `new` is the primary then, which only a peer is forgiven.
fn taken_over(pair: &Pair, new: &Server, began: Instant) -> Result<(f64, bool)> {
    let silent = |limit: u64| pair.writer.silence() > Duration::from_millis(limit);
    wait::until("the client to be interrupted", SETTLE, wait::QUICK, || Ok(silent(250)))?;
    wait::until("the client to write again", SETTLE, wait::QUICK, || Ok(!silent(100)))?;
    std::thread::sleep(AFTERMATH);
    let outage = pair.writer.outage(began).as_secs_f64();
    let primary = pair.primary()?.0;
    let another = primary.name != new.name;
    let ours = pair.contender == Contender::Greenarrow;
    ensure!(!(ours && another), "{} was to be the primary, and {} is", new.name, primary.name);
    Ok((outage, another))
}

/// Whether the old primary streams again by itself within [`RETURN`] and with no more than `fencings`; where it does not,
/// it is repaired as an administrator would.
fn returns_or_is_repaired(pair: &Pair, old: &Server, new: &Server, began: Instant, fencings: usize) -> Result<bool> {
    let deadline = Instant::now() + RETURN;
    let returned = loop {
        if pair.cluster.switch.since(began).len() > fencings || Instant::now() > deadline {
            break false;
        }
        if pair.is_healthy().unwrap_or(false) {
            break true;
        }
        std::thread::sleep(wait::TOOL);
    };
    if !returned {
        let kept = pair.primary().is_ok_and(|(primary, _)| primary.name == old.name);
        let (broken, source) = if kept { (new, old) } else { (old, new) };
        pair.reseed(broken, source).with_context(|| format!("repairing {}", broken.name))?;
    }
    Ok(returned)
}
