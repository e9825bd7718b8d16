//! What has gone its own way in a real pair, and the way back: both nodes Primary by force, an old primary with log of its
//! own, a pg_rewind that was interrupted; and `hvmail_ha rejoin` killed at each of its steps and repeated.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::command::Output;
use cts_tests::crm_mon::Status;
use cts_tests::greenarrow_pair::{PROGRAM, Pair, ends, with_pair};
use cts_tests::node::{Node, Owner};
use cts_tests::postgres::Server;
use cts_tests::subject::IP_FILE;
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

const OK: i32 = 0;
const REFUSED: i32 = 1;
const CRITICAL: i32 = 2;

/// Where the agent keeps what it has refused, and the command what it permits.
const STATE: &str = "/run/resource-agents";
const PG_REWIND: &str = "/opt/postgresql/bin/pg_rewind";
const PG_BASEBACKUP: &str = "/opt/postgresql/bin/pg_basebackup";

fn set_rejoin(pair: &Pair, way: &str) -> Result<()> {
    let words = ["crm_resource", "--resource", "pg", "--set-parameter", "rejoin", "--parameter-value", way];
    pair.cluster.tool(&words).map(drop)
}

/// The standby's server is promoted by hand, and writes.
fn promote_by_hand(server: &Server) -> Result<()> {
    server.control(&["promote"])?;
    server.sql("INSERT INTO audit SELECT generate_series(-1000, -1)").map(drop)
}

/// Its agent has refused to start what has rows that no other node has.
fn is_refused(pair: &Pair, node: &Node, words: &[&str]) -> Result<()> {
    let refused = |status: &Status| {
        let start = status.failures.iter().find(|one| one.operation == "pg_start_0" && one.node == node.name);
        start.is_some_and(|one| words.iter().all(|word| one.reason.contains(word)))
    };
    pair.cluster.wait_status(&format!("the start of pg on {} to be refused: {words:?}", node.name), refused)?;
    pair.cluster.wait_idle()?;
    ensure!(!pair.server(node)?.has_processes()?, "the refused server runs");
    Ok(())
}

/// The standby's server has parted from the primary's, and is down.
fn parted(pair: &Pair) -> Result<(&Node, &Node)> {
    let primary = pair.healthy()?;
    let peer = pair.cluster.peer(primary)?;
    promote_by_hand(pair.server(peer)?)?;
    is_refused(pair, peer, &["this node parted from the primary at 0/"])?;
    Ok((primary, peer))
}

fn is_back(pair: &Pair, primary: &Node, peer: &Node) -> Result<()> {
    ends(&pair.run(peer, &[PROGRAM, "rejoin"])?, OK, &["nothing to do"])?;
    ensure!(pair.healthy()?.name == primary.name, "there was a failover");
    let (server, new) = (pair.server(primary)?, pair.server(peer)?);
    new.await_replay(server)?;
    ensure!(new.sql("SELECT count(*) FROM audit WHERE id < 0")? == "0", "the rows of its own are still there");
    let left = peer.text(&["find", STATE, "-name", "*.permitted", "-o", "-name", "*.parted"])?;
    ensure!(left.is_empty(), "left: {left}");
    wait::until("the peer to be able to take over", SETTLE, wait::TOOL, || {
        Ok(pair.run(primary, &[PROGRAM, "preflight"])?.code() == Some(OK))
    })
    .map(drop)
}

fn rejoin(pair: &Pair, node: &Node, more: &[&str]) -> Result<Output> {
    let victim = format!("--throw-away={}", node.name);
    pair.run(node, &[&[PROGRAM, "rejoin", &victim], more].concat())
}

/// In maintenance mode somebody promotes the standby's server and brings the addresses up. Pacemaker sees nothing of it.
fn both_primary_by_force(pair: &Pair) -> Result<(&Node, &Node)> {
    let primary = pair.healthy()?;
    let peer = pair.cluster.peer(primary)?;
    pair.cluster.maintenance(true)?;
    pair.cluster.wait_idle()?;
    promote_by_hand(pair.server(peer)?)?;
    for line in peer.read_file(IP_FILE)?.lines() {
        peer.text(&["ip", "addr", "add", line, "dev", "eth0"])?;
    }
    let elsewhere = [
        format!("pg is promoted on {}, and elsewhere too: the server at {}", primary.name, peer.address()),
        format!("ips is promoted on {}, and elsewhere too: 10.78.1.1 is in use by", primary.name),
    ];
    let here = ["pg", "ips"]
        .map(|one| format!("{one} is promoted on {}, and on {} without the cluster's order", primary.name, peer.name));
    let end = format!("save what was written on {} alone; then crm_attribute --name maintenance-mode", peer.name);
    for (node, facts) in [(primary, &elsewhere), (peer, &here)] {
        let words = [facts[0].as_str(), &facts[1], &end, "hvmail_ha rejoin"];
        let status = pair.run(node, &[PROGRAM, "status"])?;
        println!("{} with both Primary:\n{}", node.name, status.stdout);
        ends(&status, CRITICAL, &words)?;
        ends(&pair.run(node, &[PROGRAM, "status", "--nagios"])?, CRITICAL, &["CRITICAL", "pg is promoted on"])?;
        for orders in [
            &["hvmail_make_primary"][..],
            &["hvmail_make_primary", "--force", "--accept-data-loss=database", "--accept-data-loss=peer-unseen"],
            &["hvmail_make_secondary"],
            &[PROGRAM, "rejoin"],
        ] {
            ends(&pair.run(node, orders)?, REFUSED, &[&words[..], &["nothing was changed"]].concat())?;
        }
        ends(&pair.run(node, &[PROGRAM, "preflight"])?, REFUSED, &words)?;
    }
    ensure!(pair.server(primary)?.sql("SELECT NOT pg_is_in_recovery()")? == "t", "the primary was to stay one");
    pair.cluster.maintenance(false)?;
    is_refused(pair, peer, &["this node parted from the primary at 0/"])?;
    let held = peer.addresses()?;
    ensure!(held.iter().all(|one| !one.address.to_string().starts_with("10.78.1.")), "still up: {held:?}");
    ends(&pair.run(peer, &[PROGRAM, "status"])?, 1, &["parted from the primary", "hvmail_ha rejoin"])?;
    Ok((primary, peer))
}

fn commands(node: &Node) -> Result<Vec<u32>> {
    let own = |argv: &[String]| argv.first().is_some_and(|word| word.ends_with(PROGRAM)) && argv.len() > 2;
    node.processes(own)
}

/// Starts the command and kills it once `moment` has come.
fn killed(pair: &Pair, node: &Node, more: &[&str], what: &str, moment: impl Fn() -> Result<bool>) -> Result<()> {
    let victim = format!("--throw-away={}", node.name);
    let mut running = node.command(&[&[PROGRAM, "rejoin", &victim], more].concat())?.start(Stdio::null())?;
    wait::until(what, SETTLE, wait::QUICK, || Ok(moment()? || !running.is_running()))?;
    let all = commands(node)?;
    ensure!(!all.is_empty(), "{what}: the command has ended before");
    all.into_iter().try_for_each(|pid| process::signal(pid, Signal::SIGKILL))?;
    let _ = running.wait();
    println!("killed: {what}; {}", if pair.primary().is_ok() { "healthy" } else { "not back yet" });
    Ok(())
}

/// Killed while it looks, and when it has written the permission: what is left permits just that start.
fn killed_before_the_start(pair: &Pair, (primary, peer): (&Node, &Node)) -> Result<()> {
    let tool = |name: &'static str| {
        move || Ok(!peer.processes(|argv| argv.first().is_some_and(|word| word.ends_with(name)))?.is_empty())
    };
    killed(pair, peer, &[], "the command to look", tool("crm_mon"))?;
    let permitted = || Ok(!peer.text(&["find", STATE, "-name", "*.permitted"])?.is_empty());
    ensure!(!permitted()?, "a command that only looked has permitted something");
    killed(pair, peer, &[], "the permission to be there", permitted)?;
    let again = rejoin(pair, peer, &[])?;
    println!("{}", again.all());
    ends(&again, OK, &[])?;
    is_back(pair, primary, peer)
}

/// A pg_rewind or pg_basebackup that copies nothing before it is told to go on, or never does.
fn slow(node: &Node, program: &str) -> Result<()> {
    let real = format!("{program}.real");
    node.text(&["cp", "-a", program, &real])?;
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" --dry-run \"* | *\" --version \"*) exec {real} \"$@\" ;; esac\n\
         until [ -e /run/rig/go-on ]; do sleep 0.1; done\nexec {real} \"$@\"\n"
    );
    node.write_file(program, script, 0o755, Owner::Root)
}

fn usual(node: &Node, program: &str) -> Result<()> {
    node.text(&["mv", &format!("{program}.real"), program])?;
    node.text(&["rm", "-f", "/run/rig/go-on"]).map(drop)
}

fn rewinding(pair: &Pair, node: &Node) -> Result<bool> {
    let marker = format!("{}.rewinding", pair.server(node)?.data);
    Ok(node.run(&["test", "-e", &marker])?.code() == Some(0))
}

/// Killed while Pacemaker starts the server: the start goes on, and the command that is repeated waits for it.
fn killed_during_the_start(pair: &Pair) -> Result<()> {
    let (primary, peer) = parted(pair)?;
    slow(peer, PG_REWIND)?;
    killed(pair, peer, &[], "pg_rewind to be at it", || rewinding(pair, peer))?;
    repeated_while_it_goes_on(peer)?;
    usual(peer, PG_REWIND)?;
    is_back(pair, primary, peer)?;

    let (primary, peer) = parted(pair)?;
    slow(peer, PG_BASEBACKUP)?;
    let copying = || Ok(!peer.processes(|argv| argv.iter().any(|word| word == PG_BASEBACKUP))?.is_empty());
    killed(pair, peer, &["--by=basebackup"], "pg_basebackup to be at it", copying)?;
    repeated_while_it_goes_on(peer)?;
    usual(peer, PG_BASEBACKUP)?;
    is_back(pair, primary, peer)?;
    let data = &pair.server(peer)?.data;
    let places = || peer.text(&["find", data.rsplit_once('/').map_or("/", |(parent, _)| parent), "-maxdepth", "1"]);
    let gone = || Ok(!places()?.lines().any(|one| [".old", ".new"].iter().any(|end| one == format!("{data}{end}"))));
    wait::until("no other directory to be left", SETTLE, wait::TOOL, gone).map(drop)
}

/// The second command waits for the start that the first one has asked for.
fn repeated_while_it_goes_on(node: &Node) -> Result<()> {
    let mut again = node.command(&[PROGRAM, "rejoin"])?.start(Stdio::null())?;
    let waits = || Ok(commands_that_wait(node)? > 0);
    wait::until("the second command", SETTLE, wait::QUICK, waits)?;
    node.write_file("/run/rig/go-on", "", 0o644, Owner::Root)?;
    let status = again.wait()?;
    ensure!(status.success(), "the second command: {status}");
    Ok(())
}

fn commands_that_wait(node: &Node) -> Result<usize> {
    Ok(node.processes(|argv| argv.iter().map(String::as_str).eq([PROGRAM, "rejoin"]))?.len())
}

fn by_base_backup(pair: &Pair) -> Result<()> {
    let (primary, peer) = parted(pair)?;
    let data = &pair.server(peer)?.data;
    let before = peer.text(&["stat", "--format=%i", data])?;
    let done = rejoin(pair, peer, &["--by=basebackup"])?;
    println!("{}", done.all());
    let kept = format!("The directory is kept as {data}.old until the new one streams");
    let words = [&format!("a base backup of {}", primary.name), kept.as_str(), "is a standby of"];
    ends(&done, OK, &words)?;
    ensure!(peer.text(&["stat", "--format=%i", data])? != before, "the directory is the old one");
    is_back(pair, primary, peer)?;
    let gone = || Ok(peer.run(&["test", "-e", &format!("{data}.old")])?.code() == Some(1));
    wait::until("the old directory to be removed", SETTLE, wait::TOOL, gone)?;
    let log = peer.text(&["find", &format!("{data}.diverged"), "-type", "f"])?;
    ensure!(!log.is_empty(), "the log of its own was not kept");
    Ok(())
}

/// The agent and pg_rewind die at it: what they leave is never started, and replaced once it is named.
fn half_rewound(pair: &Pair) -> Result<()> {
    let (primary, peer) = parted(pair)?;
    slow(peer, PG_REWIND)?;
    let victim = format!("--throw-away={}", peer.name);
    let mut running = peer.command(&[PROGRAM, "rejoin", &victim])?.start(Stdio::null())?;
    wait::until("pg_rewind to be at it", SETTLE, wait::QUICK, || rewinding(pair, peer))?;
    let at_it = |argv: &[String]| {
        let path = argv.first().map(String::as_str).unwrap_or_default();
        path.ends_with("greenarrow/postgresql") || argv.iter().any(|word| word == PG_REWIND)
    };
    for pid in peer.processes(at_it)? {
        process::signal(pid, Signal::SIGKILL)?;
    }
    let status = running.wait()?;
    ensure!(status.code() == Some(2), "the command whose start died: {status}");
    usual(peer, PG_REWIND)?;
    // A new start finds it too, and leaves it alone.
    pair.cluster.wait_idle()?;
    pair.cluster.cleanup("pg")?;
    is_refused(pair, peer, &["interrupted pg_rewind"])?;
    ends(&pair.run(peer, &[PROGRAM, "status"])?, 1, &["interrupted pg_rewind", "hvmail_ha rejoin"])?;
    let shown = pair.run(peer, &[PROGRAM, "rejoin"])?;
    let words = ["A pg_rewind of", "must not be started", "a base backup of", "--throw-away=NODE"];
    ends(&shown, REFUSED, &words)?;
    let wrong = rejoin(pair, peer, &["--by=rewind"])?;
    ends(&wrong, REFUSED, &["only a base backup helps here", "nothing was changed"])?;
    let done = rejoin(pair, peer, &[])?;
    println!("{}", done.all());
    ends(&done, OK, &["is a standby of"])?;
    ensure!(!rewinding(pair, peer)?, "the marker is still there");
    is_back(pair, primary, peer)
}

#[test]
fn what_has_gone_its_own_way_comes_back_once_its_loss_is_named() -> Result<()> {
    with_pair(|pair| {
        set_rejoin(pair, "manual")?;
        pair.cluster.wait_idle()?;
        let both = both_primary_by_force(pair).context("both Primary by force")?;
        killed_before_the_start(pair, both).context("killed before the start")?;
        killed_during_the_start(pair).context("killed during the start")?;
        by_base_backup(pair).context("by a base backup")?;
        half_rewound(pair).context("half rewound")
    })
}
