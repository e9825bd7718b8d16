//! A move that does not come about: the node that served serves again, and what cannot be put back is said.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::command::Running;
use cts_tests::greenarrow_pair::{Pair, ends};
use cts_tests::installed::PROVIDER_DIRECTORY;
use cts_tests::node::{Node, Owner};
use cts_tests::postgres_pair::address;
use cts_tests::xml::Element;
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

use super::{PUT_BACK, UNKNOWN, constrained, nodes, nothing_is_left, usual};

/// Listens on one node only, at all of its addresses.
const PORT: u16 = 2525;
/// What a command says that runs in the background.
const SAID: &str = "/run/rig/said";
/// So long may a command take that moves, waits for its time to be over, and puts back.
const LONG: Duration = Duration::from_secs(240);

/// The agent refuses once the cluster has begun, which no look before can tell.
pub(super) fn the_promotion_fails(pair: &Pair) -> Result<()> {
    let (old, new) = nodes(pair)?;
    let services = format!("{PROVIDER_DIRECTORY}/services");
    new.text(&["cp", "-a", &services, &format!("{services}.real")])?;
    let refuses = "promote) echo 'ocf-exit-reason:the rig refuses' >&2; exit 1 ;;";
    let script = format!("#!/bin/sh\ncase \"$1\" in {refuses} esac\nexec {services}.real \"$@\"\n");
    new.write_file(&services, script, 0o755, Owner::Root)?;
    let began = Instant::now();
    let output = old.command(&["hvmail_make_secondary"])?.within(LONG).run()?;
    println!("the promotion fails; {:.1} s:\n{}", began.elapsed().as_secs_f64(), output.all());
    usual(new, &services)?;
    let failed = format!("promote of services failed on {}: the rig refuses", new.name);
    ends(&output, PUT_BACK, &[&failed, "putting back", &format!("{} is Primary and serves, as before", old.name)])?;
    ensure!(pair.writer.silence() < Duration::from_secs(1), "the database was to be served again");
    nothing_is_left(pair)?;
    pair.cluster.cleanup("services")?;
    is_as_before(pair, old)
}

/// Promoted as it should be, the other node does not answer where the old one does.
pub(super) fn the_other_does_not_serve(pair: &Pair) -> Result<()> {
    let (old, new) = nodes(pair)?;
    let port = SocketAddr::new(address(), PORT);
    let mut listener = old.command(&["tcpserver", "0", &PORT.to_string(), "true"])?.start(Stdio::null())?;
    let parameter = ["crm_resource", "--resource", "services"];
    let set = ["--set-parameter", "check_ports", "--parameter-value", &port.to_string()];
    pair.cluster.tool(&[&parameter[..], &set].concat())?;
    pair.healthy()?;
    let served = format!("{} is Primary and serves, as before", old.name);
    let silent = format!("port {port}: Connection refused");

    let output = old.command(&["hvmail_make_secondary", "--timeout=20"])?.within(LONG).run()?;
    println!("the other does not serve:\n{}", output.all());
    let again = format!("the cluster was asked to promote {} again", old.name);
    ends(&output, PUT_BACK, &["it was not done within 20 s", &silent, &again, &served])?;
    is_as_before(pair, old)?;

    killed_while_it_asks_back(pair, (old, new))?;
    let mut running = begun(old, "hvmail_make_secondary")?;
    is_primary(pair, new)?;
    // Of a node whose name begins with that of this one.
    let other = format!("hvmail-move-{}-2-pg-clone", old.name);
    let location = format!("<rsc_location id=\"{other}\" rsc=\"pg-clone\" node=\"{}\" score=\"0\"/>", old.name);
    pair.cluster.tool(&["cibadmin", "--create", "--scope", "constraints", "--xml-text", &location])?;
    interrupted(old)?;
    let output = said(old, &mut running)?;
    let left = pair.leftovers()?;
    pair.cluster.tool(&["cibadmin", "--delete", "--xml-text", &location])?;
    ensure!(left == [other], "{left:?} is left");
    println!("interrupted, the other promoted:\n{output}");
    ensure!(output.contains("the command was interrupted; port") && output.contains(&served), "{output}");
    is_as_before(pair, old)?;

    // Nor may the old one have it back.
    let mut running = begun(old, "hvmail_make_secondary --timeout=20")?;
    is_primary(pair, new)?;
    let count = |name: &str, value: &str| {
        let words = ["crm_attribute", "--lifetime", "reboot", "--node", &old.name, "--name", name, "--update", value];
        pair.cluster.tool(&words)
    };
    count("fail-count-services#promote_0", "INFINITY")?;
    count("last-failure-services#promote_0", "1795570000")?;
    let status = running.wait()?.code();
    let output = old.read_file(SAID)?;
    println!("nor may the old one have it back:\n{output}");
    let cannot = format!("{} cannot take it back: failures keep resources away from {}", old.name, old.name);
    for words in [&silent, &cannot, &format!("hvmail_make_primary --node {}", old.name)] {
        ensure!(status == Some(UNKNOWN) && output.contains(words), "{words:?} with {status:?}: {output}");
    }
    nothing_is_left(pair)?;
    pair.cluster.cleanup("services")?;
    pair.cluster.tool(&[&parameter[..], &["--delete-parameter", "check_ports"]].concat())?;
    ensure!(pair.healthy()?.name == new.name);
    // Killed with nsenter it would be a zombie that the node's PID namespace waits for at its end.
    for pid in old.processes(|argv| {
        argv.first().is_some_and(|word| word.ends_with("tcpserver")) && argv.contains(&PORT.to_string())
    })? {
        process::signal(pid, Signal::SIGTERM)?;
    }
    listener.wait().map(drop)
}

/// Killed in its second move, it leaves a constraint that the next one removes, which then ends as it would have.
fn killed_while_it_asks_back(pair: &Pair, (old, new): (&Node, &Node)) -> Result<()> {
    let mut running = begun(old, "hvmail_make_secondary")?;
    is_primary(pair, new)?;
    interrupted(old)?;
    wait::until("the role to be asked back", SETTLE, wait::QUICK, || Ok(asks_for(pair, old)))?;
    signalled(old, Signal::SIGKILL)?;
    let _ = running.wait();
    // What is left does its work.
    is_primary(pair, old)?;
    ensure!(asks_for(pair, old), "left: {:?}", pair.leftovers()?);
    let again = old.command(&["hvmail_make_secondary", "--timeout=20"])?.within(LONG).run()?;
    println!("killed while it asked back; repeated:\n{}", again.all());
    let words = ["the constraint that an earlier command here has left was removed", "serves, as before"];
    ends(&again, PUT_BACK, &words)?;
    is_as_before(pair, old)
}

/// Whether the constraints of a move name that node.
fn asks_for(pair: &Pair, node: &Node) -> bool {
    let query = ["cibadmin", "--query", "--scope", "constraints"];
    let constraints = pair.cluster.tool(&query).ok().and_then(|text| Element::parse(&text).ok()).unwrap_or_default();
    let moves = constraints.all("rsc_location").into_iter().filter(|one| one.get("id").starts_with("hvmail-move-"));
    moves.flat_map(|one| one.all("expression")).any(|one| one.get("value") == node.name)
}

/// Fenced, it comes back: it must not get a role that another node has by then.
pub(super) fn the_other_dies(pair: &Pair) -> Result<()> {
    let (old, new) = nodes(pair)?;
    pair.cluster.switch.restart_after(None);
    let mut running = begun(old, "hvmail_make_secondary")?;
    wait::until("the constraint to be there", SETTLE, wait::QUICK, || Ok(constrained(pair)))?;
    new.power_cut()?;
    let began = Instant::now();
    let output = said(old, &mut running)?;
    println!("the other dies; over after {:.1} s:\n{output}", began.elapsed().as_secs_f64());
    let gone = ["has failed and is to be fenced", "has left the cluster"];
    ensure!(gone.iter().any(|words| output.contains(&format!("{} {words}: putting back", new.name))), "{output}");
    ensure!(output.contains(&format!("{} is Primary and serves, as before", old.name)), "{output}");
    nothing_is_left(pair)?;
    // The command may have ended before: what is switched on too early is switched off again.
    let fenced = || Ok(!pair.cluster.switch.since(began).is_empty());
    wait::until("the other to be fenced", SETTLE, wait::TOOL, fenced)?;
    new.power_on()?;
    new.start_cluster()?;
    pair.cluster.wait_quorum(2)?;
    is_as_before(pair, old)
}

fn is_as_before(pair: &Pair, old: &Node) -> Result<()> {
    ensure!(pair.healthy()?.name == old.name, "{} was to be Primary again", old.name);
    nothing_is_left(pair)
}

fn is_primary(pair: &Pair, node: &Node) -> Result<()> {
    let there = || Ok(pair.primary().is_ok_and(|primary| primary.name == node.name));
    wait::until(&format!("{} to be promoted", node.name), SETTLE, wait::QUICK, there).map(drop)
}

fn begun(node: &Node, order: &str) -> Result<Running> {
    node.command(&["sh", "-c", &format!("exec {order} >{SAID} 2>&1")])?.within(LONG).start(Stdio::null())
}

fn interrupted(node: &Node) -> Result<()> {
    signalled(node, Signal::SIGINT)
}

fn signalled(node: &Node, signal: Signal) -> Result<()> {
    let own = node.processes(|argv| argv.first().is_some_and(|word| word.ends_with("hvmail_make_secondary")))?;
    ensure!(!own.is_empty(), "the command has ended before");
    own.into_iter().try_for_each(|pid| process::signal(pid, signal).map(drop))
}

/// What it has said once it has put back.
fn said(node: &Node, running: &mut Running) -> Result<String> {
    let status = running.wait()?;
    let output = node.read_file(SAID)?;
    ensure!(status.code() == Some(PUT_BACK), "{status}: {output}");
    Ok(output)
}
