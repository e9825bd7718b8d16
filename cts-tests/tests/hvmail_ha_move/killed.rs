//! A command that is killed at a step that no plain move has, and the same command again.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use cts_tests::cib::Role;
use cts_tests::cluster::SETTLE;
use cts_tests::greenarrow_pair::{Pair, ends};
use cts_tests::node::Node;
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

use super::{CIBADMIN, DONE, is_repeated, killed, marked, moving, nodes, slow, usual, waiting};

/// Everything is stopped, and whoever asked for it is killed before it has seen that.
pub(super) fn after_the_demotion_of_stop(pair: &Pair) -> Result<()> {
    let (old, _) = nodes(pair)?;
    let mut running = stopping(pair, old)?;
    wait::until("the mark of --stop", SETTLE, wait::QUICK, || Ok(marked(pair)))?;
    signalled(old, "hvmail_make_secondary", Signal::SIGSTOP)?;
    wait::until("no node to be Primary", SETTLE, wait::TOOL, || Ok(nobody(pair)))?;
    pair.cluster.wait_idle()?;
    signalled(old, "hvmail_make_secondary", Signal::SIGKILL)?;
    // nsenter has stopped with its child.
    process::signal(running.pid(), Signal::SIGCONT)?;
    let _ = running.wait();
    let again = pair.run(old, &["hvmail_make_secondary", "--stop"])?;
    println!("killed when all was stopped, repeated:\n{}", again.all());
    ends(&again, DONE, &["is not Primary, and no other node is; nothing to do"])?;
    let left = pair.leftovers()?;
    ensure!(left.len() == 3 && left.iter().all(|id| id.starts_with("hvmail-stop-")), "{left:?} is left");
    the_other_is_there(pair, old)
}

/// Killed while the mark of --stop is to be put back, before it is there and after: the next command brings a Primary.
pub(super) fn while_the_mark_of_stop_is_put_back(pair: &Pair, old: &Node) -> Result<()> {
    slow(old, CIBADMIN, "resources")?;
    interrupted_and_killed(pair, old, || Ok(!waiting(old, "resources")?.is_empty()))?;
    for pid in waiting(old, "resources")? {
        process::signal(pid, Signal::SIGKILL)?;
    }
    usual(old, CIBADMIN)?;
    ensure!(!marked(pair) && !moving(pair), "left: {:?}", pair.leftovers()?);
    is_repeated(pair, old, old, "hvmail_make_primary", &[])?;

    ensure!(stopping(pair, old)?.wait()?.success(), "--stop was to succeed");
    the_other_is_there(pair, old)?;
    interrupted_and_killed(pair, old, || Ok(marked(pair)))?;
    ensure!(marked(pair), "left: {:?}", pair.leftovers()?);
    is_repeated(pair, old, old, "hvmail_make_primary", &[])
}

/// What had failed is cleaned up by --force before anything moves; the command that is repeated needs no force.
pub(super) fn after_the_clean_up_of_force(pair: &Pair) -> Result<()> {
    let (_, new) = nodes(pair)?;
    let of_node = ["crm_attribute", "--lifetime", "reboot", "--node", &new.name, "--name"];
    for (name, value) in
        [("fail-count-services#promote_0", "INFINITY"), ("last-failure-services#promote_0", "1795570000")]
    {
        pair.cluster.tool(&[&of_node[..], &[name, "--update", value]].concat())?;
    }
    pair.cluster.wait_idle()?;
    ends(&pair.run(new, &["hvmail_make_primary"])?, super::REFUSED, &["failures keep resources away from"])?;
    let query = [&of_node[..], &["fail-count-services#promote_0", "--query"]].concat();
    let cleaned = |node: &Node| Ok(node.run(&query)?.code() != Some(0));
    killed(new, "the failures to be cleaned up", &["hvmail_make_primary", "--force"], cleaned)?;
    is_repeated(pair, new, new, "hvmail_make_primary", &[])
}

/// With the other node in standby, so that nobody can take over.
fn stopping(pair: &Pair, old: &Node) -> Result<cts_tests::command::Running> {
    pair.cluster.standby(pair.cluster.peer(old)?, true)?;
    pair.cluster.wait_idle()?;
    old.command(&["hvmail_make_secondary", "--stop"])?.start(Stdio::null())
}

fn the_other_is_there(pair: &Pair, old: &Node) -> Result<()> {
    pair.cluster.standby(pair.cluster.peer(old)?, false)?;
    pair.cluster.wait_idle()?;
    ensure!(nobody(pair), "no node was to become Primary by itself");
    Ok(())
}

fn nobody(pair: &Pair) -> bool {
    let promoted =
        |one: &&str| pair.cluster.status().is_some_and(|status| status.in_role(one, Role::Promoted).is_empty());
    ["pg", "ips", "services"].iter().all(promoted) && pair.writer.silence() > Duration::from_millis(300)
}

fn signalled(node: &Node, order: &str, signal: Signal) -> Result<()> {
    let all = node.processes(|argv| argv.first().is_some_and(|word| word.ends_with(order)))?;
    ensure!(!all.is_empty(), "{order} has ended before");
    all.into_iter().try_for_each(|pid| process::signal(pid, signal).map(drop))
}

/// Interrupted once nothing forbids a Primary any more, and killed while it puts back.
fn interrupted_and_killed(pair: &Pair, node: &Node, moment: impl Fn() -> Result<bool>) -> Result<()> {
    let mut running = node.command(&["hvmail_make_primary"])?.start(Stdio::null())?;
    wait::until("the mark to be lifted", SETTLE, wait::QUICK, || Ok(moving(pair) && !marked(pair)))?;
    signalled(node, "hvmail_make_primary", Signal::SIGINT)?;
    wait::until("it to put back", SETTLE, wait::QUICK, moment)?;
    signalled(node, "hvmail_make_primary", Signal::SIGKILL)?;
    running.wait().map(drop)
}
