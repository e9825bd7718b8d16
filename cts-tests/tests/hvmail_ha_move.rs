//! hvmail_make_secondary and hvmail_make_primary in a real pair, with clients of the database and of the SMTP server.

#[path = "hvmail_ha_move/killed.rs"]
mod killed;
#[path = "hvmail_ha_move/put_back.rs"]
mod put_back;
#[path = "hvmail_ha_move/refusals.rs"]
mod refusals;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::greenarrow_pair::{Pair, ends, with_bare, with_nodes, with_pair};
use cts_tests::node::{Node, Owner};
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

const DONE: i32 = 0;
const REFUSED: i32 = 1;
const PUT_BACK: i32 = 2;
const UNKNOWN: i32 = 3;
/// Programs that wait go on once this file is there.
const GO_ON: &str = "/run/rig/go-on";
/// What the commands change the configuration by.
const CIBADMIN: &str = "/usr/sbin/cibadmin";
/// So many moves make a median.
const MOVES: usize = 5;

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
    let before = pair.leftovers()?;
    let began = Instant::now();
    let output = pair.run(old, &["hvmail_make_secondary"])?;
    println!("{}", output.all());
    ends(&output, DONE, &[&format!("{} is Primary and serves (the database at", new.name)])?;
    // It ends when the other node serves, and not before.
    ensure!(pair.primary()?.name == new.name);
    ensure!(pair.leftovers()? == before, "{before:?} were there, and now {:?}", pair.leftovers()?);
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

/// Back and forth, as clients outside see it. The times are those of this machine: printed, and not judged. Of the SMTP
/// server's, two seconds are the emulated qmail-send's flush, and one to two the kernel's duplicate address detection.
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
    killed(old, what, &["hvmail_make_secondary"], moment)?;
    let output = pair.run(old, &["hvmail_make_secondary"])?;
    println!("killed: {what}; repeated:\n{}", output.all());
    ends(&output, DONE, &[])?;
    ensure!(pair.healthy()?.name == new.name, "{} was to be Primary", new.name);
    nothing_is_left(pair)
}

/// Starts an order and kills it once `moment` has come.
fn killed(node: &Node, what: &str, order: &[&str], moment: impl Fn(&Node) -> Result<bool>) -> Result<()> {
    let mut running = node.command(order)?.start(std::process::Stdio::null())?;
    wait::until(what, SETTLE, wait::QUICK, || moment(node))?;
    let own = node.processes(|argv| argv.first().is_some_and(|word| word.ends_with(order[0])))?;
    ensure!(!own.is_empty(), "{} has ended before it was killed", order[0]);
    own.into_iter().try_for_each(|pid| process::signal(pid, Signal::SIGKILL).map(drop))?;
    running.wait().map(drop)
}

fn marked(pair: &Pair) -> bool {
    pair.leftovers().is_ok_and(|left| left.iter().any(|id| id.starts_with("hvmail-stop-")))
}

fn moving(pair: &Pair) -> bool {
    pair.leftovers().is_ok_and(|left| left.iter().any(|id| id.starts_with("hvmail-move-")))
}

fn constrained(pair: &Pair) -> bool {
    pair.leftovers().is_ok_and(|left| !left.is_empty())
}

/// Under what is printed for a pair with a file system that moves; a tmpfs stands for that.
#[test]
fn a_pair_as_configure_prints_it_moves_by_plan() -> Result<()> {
    with_bare(|bare| {
        let printed = bare.printed(&["--xml", "--mount=tmpfs:/run/chain:tmpfs"])?;
        ensure!(printed.code() == Some(0) && printed.stderr.is_empty(), "{}", printed.all());
        bare.apply(&printed.stdout)?;
        let pair = bare.configured(["pg", "ips", "mail"])?;
        planned_moves(&pair).with_context(|| pair.cluster.dump())?;
        // The kernel begins the detection of an IPv6 duplicate after a random part of this (`addrconf_dad_kick`).
        for node in &pair.cluster.nodes {
            node.text(&["sysctl", "-qw", "net.ipv6.conf.eth0.router_solicitation_delay=0"])?;
        }
        println!("with router_solicitation_delay=0:");
        planned_moves(&pair).with_context(|| pair.cluster.dump())
    })
}

#[test]
fn the_role_moves_and_a_command_that_was_killed_is_repeated() -> Result<()> {
    with_pair(|pair| {
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

/// A program that, called with this word, waits until it is told to go on.
fn slow(node: &Node, program: &str, word: &str) -> Result<()> {
    let real = format!("{program}.real");
    node.text(&["cp", "-a", program, &real])?;
    let wait = format!("until [ -e {GO_ON} ]; do sleep 0.1; done");
    let script = format!("#!/bin/sh\ncase \" $* \" in *\" {word} \"*) {wait} ;; esac\nexec {real} \"$@\"\n");
    node.write_file(program, script, 0o755, Owner::Root)
}

fn usual(node: &Node, program: &str) -> Result<()> {
    node.text(&["mv", &format!("{program}.real"), program])?;
    node.text(&["rm", "-f", GO_ON]).map(drop)
}

/// A command is interrupted while nobody is served, and killed while it puts back: before its constraint is taken away, and
/// after. The same command then does what it was asked for.
fn killed_while_it_puts_back(pair: &Pair) -> Result<()> {
    let (_, new) = nodes(pair)?;
    slow(new, CIBADMIN, "--delete-all")?;
    interrupted_and_killed(pair, new, "hvmail_make_primary", |node| Ok(!waiting(node, "--delete-all")?.is_empty()))?;
    // Nor does its last order arrive.
    for pid in waiting(new, "--delete-all")? {
        process::signal(pid, Signal::SIGKILL)?;
    }
    usual(new, CIBADMIN)?;
    ensure!(moving(pair), "the constraint was to be there still");
    let words = ["the constraint that an earlier command here has left was removed"];
    is_repeated(pair, new, new, "hvmail_make_primary", &words)?;
    let (old, new) = nodes(pair)?;
    interrupted_and_killed(pair, old, "hvmail_make_secondary", |_| Ok(!constrained(pair)))?;
    is_repeated(pair, old, new, "hvmail_make_secondary", &[])
}

/// The shells that wait instead of a program that is called with this word ([`slow`]).
fn waiting(node: &Node, word: &str) -> Result<Vec<u32>> {
    node.processes(|argv| argv.iter().any(|one| one == word))
}

fn interrupted_and_killed(pair: &Pair, node: &Node, order: &str, moment: impl Fn(&Node) -> Result<bool>) -> Result<()> {
    let mut running = node.command(&[order])?.start(std::process::Stdio::null())?;
    let cut_off = || Ok(constrained(pair) && pair.writer.silence() > Duration::from_millis(300));
    wait::until("the clients to be cut off", SETTLE, wait::QUICK, cut_off)?;
    let signalled = |signal| -> Result<()> {
        let all = node.processes(|argv| argv.first().is_some_and(|word| word.ends_with(order)))?;
        ensure!(!all.is_empty(), "{order} has ended before");
        all.into_iter().try_for_each(|pid| process::signal(pid, signal).map(drop))
    };
    signalled(Signal::SIGINT)?;
    wait::until("it to put back", SETTLE, wait::QUICK, || moment(node))?;
    signalled(Signal::SIGKILL)?;
    running.wait().map(drop)
}

fn is_repeated(pair: &Pair, node: &Node, primary: &Node, order: &str, words: &[&str]) -> Result<()> {
    let output = pair.run(node, &[order])?;
    println!("interrupted, killed, repeated:\n{}", output.all());
    ends(&output, DONE, words)?;
    ensure!(pair.healthy()?.name == primary.name, "{} was to be Primary", primary.name);
    nothing_is_left(pair)
}

#[test]
fn a_command_that_was_killed_at_any_other_step_is_repeated() -> Result<()> {
    with_pair(|pair| {
        killed::after_the_clean_up_of_force(pair).context("after the clean-up of --force")?;
        let (old, _) = nodes(pair)?;
        killed::after_the_demotion_of_stop(pair).context("after the demotion of --stop")?;
        killed::while_the_mark_of_stop_is_put_back(pair, old).context("while the mark of --stop is put back")?;
        let lost = pair.lost_rows()?;
        ensure!(lost == 0, "{lost} acknowledged rows are lost");
        Ok(())
    })
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
        // Alone the one that is left does nothing.
        first.cable_cut()?;
        let words = ["has no quorum", "corosync-quorumtool"];
        let refused = || Ok(ends(&pair.run(first, &["hvmail_ha", "preflight", &first.name])?, REFUSED, &words).is_ok());
        wait::until("the loss of the quorum to be told", SETTLE, wait::TOOL, refused)?;
        let orders =
            ["hvmail_make_primary", "--force", "--accept-data-loss=peer-unseen", "--accept-data-loss=database"];
        ends(&pair.run(first, &orders)?, REFUSED, &[&words[..], &["nothing was changed"]].concat())
    })
}

#[test]
fn what_cannot_be_done_is_refused_and_what_was_begun_is_put_back() -> Result<()> {
    with_pair(|pair| {
        refusals::in_maintenance(pair)?;
        interrupted(pair)?;
        killed_while_it_puts_back(pair).context("killed while it puts back")?;
        refusals::while_another_is_at_it(pair)?;
        refusals::while_the_other_leaves_and_comes(pair).context("while the other leaves and comes")?;
        refusals::held_by_somebody(pair).context("held by somebody")?;
        refusals::not_to_be_promoted(pair)?;
        refusals::what_follows_the_role(pair).context("what follows the role")?;
        refusals::stopped_and_brought_back(pair)?;
        let lost = pair.lost_rows()?;
        ensure!(lost == 0, "{lost} acknowledged rows are lost");
        Ok(())
    })
}

#[test]
fn what_does_not_come_about_is_put_back() -> Result<()> {
    with_pair(|pair| {
        put_back::the_other_dies(pair).context("the other dies")?;
        put_back::the_promotion_fails(pair).context("the promotion fails")?;
        put_back::the_other_does_not_serve(pair).context("the other does not serve")?;
        let lost = pair.lost_rows()?;
        ensure!(lost == 0, "{lost} acknowledged rows are lost");
        Ok(())
    })
}
