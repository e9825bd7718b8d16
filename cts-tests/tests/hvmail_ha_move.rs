//! hvmail_make_secondary and hvmail_make_primary in a real pair, with clients of the database and of the SMTP server.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::command::Output;
use cts_tests::greenarrow_pair::{Pair, with_nodes, with_pair};
use cts_tests::network::{self, BRIDGE};
use cts_tests::node::Node;
use cts_tests::postgres_pair::address;
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

const DONE: i32 = 0;
const REFUSED: i32 = 1;
const UNKNOWN: i32 = 3;
/// So many moves make a median.
const MOVES: usize = 5;

fn ends(output: &Output, status: i32, words: &[&str]) -> Result<()> {
    let said = output.all();
    ensure!(output.code() == Some(status), "{status} was expected: {}: {said}", output.status);
    for word in words {
        ensure!(said.contains(word), "{word:?} is not said in:\n{said}");
    }
    Ok(())
}

fn nothing_is_left(pair: &Pair) -> Result<()> {
    let left = pair.leftovers()?;
    ensure!(left.is_empty(), "left in the configuration: {left:?}");
    Ok(())
}

fn nodes(pair: &Pair) -> Result<(&Node, &Node)> {
    let primary = pair.healthy()?;
    Ok((primary, pair.cluster.peer(primary)?))
}

/// What the clients have seen of one move, in seconds.
struct Outage {
    database: f64,
    addresses: f64,
    ipv6: f64,
    mail: f64,
}

fn planned_move(pair: &Pair) -> Result<Outage> {
    let (old, new) = nodes(pair)?;
    let began = Instant::now();
    let output = pair.run(old, &["hvmail_make_secondary"])?;
    ends(&output, DONE, &[&format!("{} is Primary and serves (the database at", new.name)])?;
    // It ends when the other node serves, and not before.
    ensure!(pair.primary()?.name == new.name);
    nothing_is_left(pair)?;
    let (now, pings) = (Instant::now(), pair.pings.outage(began, Instant::now()));
    let outage = Outage {
        database: pair.writer.outage(began).as_secs_f64(),
        addresses: pings.worst_ipv4.unwrap_or_default().as_secs_f64(),
        ipv6: pings.worst_ipv6.unwrap_or_default().as_secs_f64(),
        mail: pair.mail.outage(began, now).as_secs_f64(),
    };
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    ends(&pair.run(old, &["hvmail_make_secondary"])?, DONE, &["nothing to do"])?;
    ends(&pair.run(new, &["hvmail_make_primary"])?, DONE, &["is Primary and serves; nothing to do"])?;
    Ok(outage)
}

/// Back and forth, as clients outside see it. The times are those of this machine: printed, and not judged. The services take
/// four seconds of them by themselves: the emulated qmail-send flushes for two, and settle_time is one and a half.
fn planned_moves(pair: &Pair) -> Result<()> {
    let outages = (0..MOVES).map(|_| planned_move(pair)).collect::<Result<Vec<_>>>()?;
    for (client, seen) in [
        ("database, by writing", (|one: &Outage| one.database) as fn(&Outage) -> f64),
        ("IPv4 addresses, by ping", |one| one.addresses),
        ("IPv6 addresses, by ping", |one| one.ipv6),
        ("SMTP server, by connecting", |one| one.mail),
    ] {
        let mut all: Vec<_> = outages.iter().map(seen).collect();
        all.sort_by(f64::total_cmp);
        println!("{MOVES} planned moves, {client}: median {:.2} s, worst {:.2} s", all[MOVES / 2], all[MOVES - 1]);
    }
    let lost = pair.lost_rows()?;
    ensure!(lost == 0, "{lost} acknowledged rows are lost");
    Ok(())
}

fn back_by_make_primary(pair: &Pair) -> Result<()> {
    let (old, new) = nodes(pair)?;
    ends(&pair.run(new, &["hvmail_ha", "preflight"])?, DONE, &["could take over now"])?;
    ends(&pair.run(new, &["hvmail_make_primary"])?, DONE, &[&format!("{} is Primary and serves", new.name)])?;
    ensure!(pair.primary()?.name == new.name);
    nothing_is_left(pair)?;
    ends(&pair.run(old, &["hvmail_ha", "preflight", "nowhere"])?, UNKNOWN, &["is no node of this cluster", "n1", "n2"])
}

/// Starts the command and kills it once `moment` has come; then the same command again.
fn killed_and_repeated(pair: &Pair, what: &str, moment: impl Fn(&Node) -> Result<bool>) -> Result<()> {
    let (old, new) = nodes(pair)?;
    let mut running = old.command(&["hvmail_make_secondary"])?.start(std::process::Stdio::null())?;
    wait::until(what, SETTLE, wait::QUICK, || moment(old))?;
    for pid in old.processes(|argv| argv.first().is_some_and(|word| word.ends_with("hvmail_make_secondary")))? {
        process::signal(pid, Signal::SIGKILL)?;
    }
    let _ = running.wait();
    let output = pair.run(old, &["hvmail_make_secondary"])?;
    println!("killed: {what}; repeated:\n{}", output.all());
    ends(&output, DONE, &[])?;
    ensure!(pair.healthy()?.name == new.name, "{} was to be Primary", new.name);
    nothing_is_left(pair)
}

fn constrained(pair: &Pair) -> bool {
    pair.leftovers().is_ok_and(|left| !left.is_empty())
}

#[test]
fn the_role_moves_and_a_command_that_was_killed_is_repeated() -> Result<()> {
    with_pair(|pair| {
        planned_moves(pair)?;
        back_by_make_primary(pair)?;
        killed_and_repeated(pair, "the command to have begun", |node| {
            Ok(!node.processes(|argv| argv.first().is_some_and(|word| word.ends_with("crm_mon")))?.is_empty())
        })?;
        killed_and_repeated(pair, "the constraint to be there", |_| Ok(constrained(pair)))?;
        killed_and_repeated(pair, "the clients to be cut off", |_| {
            Ok(constrained(pair) && pair.writer.silence() > Duration::from_millis(500))
        })?;
        let seen = std::cell::Cell::new(false);
        killed_and_repeated(pair, "the clients to be served by the other", |_| {
            seen.set(seen.get() || (constrained(pair) && pair.writer.silence() > Duration::from_millis(300)));
            Ok(seen.get() && pair.writer.silence() < Duration::from_millis(100))
        })
    })
}

fn interrupted(pair: &Pair) -> Result<()> {
    let (old, _) = nodes(pair)?;
    let mut running = old.command(&["hvmail_make_secondary"])?.start(std::process::Stdio::null())?;
    wait::until("the constraint to be there", SETTLE, wait::QUICK, || Ok(constrained(pair)))?;
    for pid in old.processes(|argv| argv.first().is_some_and(|word| word.ends_with("hvmail_make_secondary")))? {
        process::signal(pid, Signal::SIGINT)?;
    }
    let status = running.wait()?;
    ensure!([Some(0), Some(2)].contains(&status.code()), "{status}");
    nothing_is_left(pair)?;
    pair.healthy().map(drop)
}

fn in_maintenance(pair: &Pair) -> Result<()> {
    let (old, new) = nodes(pair)?;
    pair.cluster.maintenance(true)?;
    for (node, command) in [(old, "hvmail_make_secondary"), (new, "hvmail_make_primary")] {
        ends(&pair.run(node, &[command])?, REFUSED, &["maintenance mode", "crm_attribute", "nothing was changed"])?;
    }
    ends(&pair.run(old, &["hvmail_make_secondary", "--stop"])?, REFUSED, &["maintenance mode"])?;
    ends(&pair.run(old, &["hvmail_ha", "status", "--nagios"])?, 1, &["WARNING", "maintenance mode"])?;
    pair.cluster.maintenance(false)?;
    ensure!(pair.healthy()?.name == old.name);
    nothing_is_left(pair)
}

/// Its peer in standby, a node does not give the role away; it ends everything when it is told to.
fn stopped_and_brought_back(pair: &Pair) -> Result<()> {
    let (old, new) = nodes(pair)?;
    pair.cluster.standby(new, true)?;
    pair.cluster.wait_idle()?;
    let standby = [format!("{} is in standby", new.name), format!("crm_standby --node {} --delete", new.name)];
    let refused = pair.run(old, &["hvmail_make_secondary"])?;
    ends(&refused, REFUSED, &[&standby[0], &standby[1], "--stop", "nothing was changed"])?;
    ensure!(pair.writer.silence() < Duration::from_secs(1), "the database was to go on");
    ends(&pair.run(old, &["hvmail_make_secondary", "--force", "--stop"])?, DONE, &["no node is Primary until"])?;
    thread::sleep(Duration::from_secs(1));
    ensure!(pair.writer.silence() > Duration::from_secs(1), "nothing was to be served");
    ends(&pair.run(old, &["hvmail_ha", "status"])?, 2, &["hvmail_make_secondary --stop", "hvmail_make_primary"])?;
    pair.cluster.standby(new, false)?;
    pair.cluster.wait_idle()?;
    // The other node has what this one wrote, or does not: they compare their logs.
    ensure!(pair.writer.silence() > Duration::from_secs(2), "no node was to become Primary by itself");
    while_somebody_has_an_address(|| {
        let orders =
            ["hvmail_make_primary", "--force", "--accept-data-loss=database", "--accept-data-loss=peer-unseen"];
        ends(&pair.run(old, &orders)?, REFUSED, &["addresses of the pair answer", "10.78.1.1", "nothing was changed"])
    })?;
    ends(&pair.run(old, &["hvmail_make_primary"])?, DONE, &[&format!("{} is Primary and serves", old.name)])?;
    ensure!(pair.healthy()?.name == old.name);
    nothing_is_left(pair)
}

/// The host with the bridge is a host like any other on that network.
fn while_somebody_has_an_address(body: impl FnOnce() -> Result<()>) -> Result<()> {
    let change = |word: &str| network::ip(&format!("addr {word} {} dev {BRIDGE}", network::with_prefix(address())));
    change("add")?;
    let result = body();
    change("del")?;
    result
}

#[test]
fn of_three_nodes_one_takes_over() -> Result<()> {
    with_nodes(3, |pair| {
        let first = pair.healthy()?;
        ends(&pair.run(first, &["hvmail_ha", "status"])?, DONE, &["n1", "n2", "n3", "nothing has to be seen to"])?;
        ends(&pair.run(first, &["hvmail_make_secondary"])?, DONE, &["is Primary and serves"])?;
        let second = pair.healthy()?;
        let third = pair.cluster.nodes.iter().find(|node| ![&first.name, &second.name].contains(&&node.name));
        let third = third.context("there is no third node")?;
        // From a node that has no part in it.
        let words = [&format!("{} is Primary and serves", third.name)];
        ends(&pair.run(first, &["hvmail_make_primary", "--node", &third.name])?, DONE, &[words[0]])?;
        ensure!(pair.healthy()?.name == third.name);
        // With one gone, the two that are left have quorum.
        pair.cluster.switch.restart_after(None);
        second.power_cut()?;
        wait::until("two healthy nodes", SETTLE, wait::TOOL, || Ok(pair.primary().is_ok()))?;
        pair.cluster.wait_idle()?;
        let words = [&format!("{} is Primary and serves", first.name)];
        ends(&pair.run(third, &["hvmail_make_secondary"])?, DONE, &[words[0]])?;
        nothing_is_left(pair)?;
        let lost = pair.lost_rows()?;
        ensure!(lost == 0, "{lost} acknowledged rows are lost");
        Ok(())
    })
}

#[test]
fn what_cannot_be_done_is_refused_and_what_was_begun_is_put_back() -> Result<()> {
    with_pair(|pair| {
        in_maintenance(pair)?;
        interrupted(pair)?;
        stopped_and_brought_back(pair)?;
        let lost = pair.lost_rows()?;
        ensure!(lost == 0, "{lost} acknowledged rows are lost");
        Ok(())
    })
}
