//! hvmail_make_secondary and hvmail_make_primary in a real pair, with clients of the database and of the SMTP server.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cib::{Cib, Primitive, Resource};
use cts_tests::cluster::SETTLE;
use cts_tests::greenarrow_pair::{Pair, carry_out, ends, with_nodes, with_pair};
use cts_tests::installed::PROVIDER_DIRECTORY;
use cts_tests::network::{self, BRIDGE};
use cts_tests::node::{Node, Owner};
use cts_tests::postgres_pair::address;
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

const DONE: i32 = 0;
const REFUSED: i32 = 1;
const UNKNOWN: i32 = 3;
/// The list of a second resource of the addresses, and one of them.
const OTHER_LIST: &str = "/etc/other_ips";
const OTHER_ADDRESS: &str = "10.78.1.200";
/// Programs that wait go on once this file is there.
const GO_ON: &str = "/run/rig/go-on";
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
    for pid in node.processes(|argv| argv.first().is_some_and(|word| word.ends_with(order[0])))? {
        process::signal(pid, Signal::SIGKILL)?;
    }
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
    const CIBADMIN: &str = "/usr/sbin/cibadmin";
    let (_, new) = nodes(pair)?;
    slow(new, CIBADMIN, "--delete-all")?;
    interrupted_and_killed(pair, new, "hvmail_make_primary", |node| Ok(!removals(node)?.is_empty()))?;
    // Nor does its last order arrive.
    for pid in removals(new)? {
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

/// The shells that wait instead of cibadmin.
fn removals(node: &Node) -> Result<Vec<u32>> {
    node.processes(|argv| argv.iter().any(|word| word == "--delete-all"))
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

/// The other node leaves, and its services take their time to stop: that is waited for, and refused once the time is over.
/// What is typed while it comes back waits for it.
fn while_the_other_leaves_and_comes(pair: &Pair) -> Result<()> {
    let (old, new) = nodes(pair)?;
    let services = format!("{PROVIDER_DIRECTORY}/services");
    slow(new, &services, "stop")?;
    let patience = ["crm_attribute", "--type", "op_defaults", "--name", "timeout"];
    pair.cluster.tool(&[&patience[..], &["--update", "90s"]].concat())?;
    for pid in new.processes(|argv| argv.first().is_some_and(|path| path.ends_with("sbin/pacemakerd")))? {
        process::signal(pid, Signal::SIGTERM)?;
    }
    let leaving = [&format!("{} is joining or leaving the cluster", new.name), "hvmail_ha status --watch"];
    wait::until("the other node to be leaving", SETTLE, wait::TOOL, || {
        Ok(ends(&pair.run(old, &["hvmail_ha", "preflight"])?, REFUSED, &leaving).is_ok())
    })?;
    let words = ["waiting for the cluster to finish what it is at", leaving[0], leaving[1], "nothing was changed"];
    ends(&pair.run(old, &["hvmail_make_secondary", "--timeout=10"])?, REFUSED, &words)?;
    ensure!(pair.writer.silence() < Duration::from_secs(1), "the database was to go on");
    new.write_file(GO_ON, "", 0o644, Owner::Root)?;
    ended(new, "sbin/pacemakerd")?;
    ended(new, "sbin/corosync")?;
    usual(new, &services)?;
    old.text(&[&patience[..], &["--delete"]].concat())?;
    let remedy = format!("on {}: systemctl start corosync pacemaker", new.name);
    let words = [&format!("{} is not in the cluster", new.name), &remedy, "nothing was changed"];
    ends(&pair.run(old, &["hvmail_make_secondary"])?, REFUSED, &words)?;
    new.start_cluster()?;
    pair.cluster.wait_quorum(2)?;
    let typed = pair.run(old, &["hvmail_make_secondary"])?;
    println!("typed when the other node came:\n{}", typed.all());
    ends(&typed, DONE, &["waiting", &format!("{} is Primary and serves", new.name)])?;
    nothing_is_left(pair)
}

/// Somebody has told the cluster to let nobody be Primary, or to do nothing; what is printed takes it back.
fn held_by_somebody(pair: &Pair) -> Result<()> {
    let (old, new) = nodes(pair)?;
    let set = |resource: &str, name: &str, value: &str| {
        let words = ["crm_resource", "--force", "--resource", resource, "--meta", "--set-parameter", name];
        pair.cluster.tool(&[&words[..], &["--parameter-value", value]].concat())
    };
    let taken_back = |facts: &[&str]| -> Result<()> {
        let words = [facts, &["--meta --delete-parameter", "nothing was changed"]].concat();
        let refused = pair.run(old, &["hvmail_make_secondary", "--force"])?;
        println!("{}", refused.all());
        ends(&refused, REFUSED, &words)?;
        ends(&pair.run(new, &["hvmail_make_primary", "--force"])?, REFUSED, &words)?;
        carry_out(old, &refused, "crm_resource --resource")
    };
    set("pg-clone", "is-managed", "false")?;
    set("ips", "maintenance", "true")?;
    pair.cluster.wait_idle()?;
    let facts = ["pg-clone is not managed (is-managed)", "ips-clone is not managed (maintenance)"];
    ends(&pair.run(old, &["hvmail_ha", "status"])?, 1, &facts)?;
    ends(&pair.run(old, &["hvmail_make_secondary", "--stop"])?, REFUSED, &[&facts[..], &["is not stopped"]].concat())?;
    taken_back(&facts)?;
    ends(&pair.run(old, &["hvmail_ha", "preflight"])?, DONE, &["could take over now"])?;
    // Of the primitive in the clone, and of the clone.
    for resource in ["services", "services-clone"] {
        set(resource, "target-role", "Unpromoted")?;
        pair.cluster.wait_idle()?;
        taken_back(&["target-role=Unpromoted of services-clone lets nobody be Primary"])?;
        pair.cluster.wait_idle()?;
        ensure!(pair.healthy()?.name == old.name, "{} was to be Primary again", old.name);
    }
    nothing_is_left(pair)
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
    // Of one node.
    let attribute = ["crm_attribute", "--node", &new.name, "--name", "maintenance"];
    pair.cluster.tool(&[&attribute[..], &["--update", "true"]].concat())?;
    let words = [format!("{} is in maintenance", new.name), format!("{} --delete", attribute.join(" "))];
    let words = [words[0].as_str(), &words[1], "nothing was changed"];
    ends(&pair.run(old, &["hvmail_make_secondary"])?, REFUSED, &words)?;
    ends(&pair.run(new, &["hvmail_make_primary", "--force"])?, REFUSED, &words)?;
    pair.cluster.tool(&[&attribute[..], &["--delete"]].concat())?;
    pair.cluster.wait_idle()?;
    ensure!(pair.healthy()?.name == old.name);
    nothing_is_left(pair)
}

/// While one node's command is at it, neither it nor another begins a second move.
fn while_another_is_at_it(pair: &Pair) -> Result<()> {
    let (old, new) = nodes(pair)?;
    let mut running = old.command(&["hvmail_make_secondary"])?.start(std::process::Stdio::null())?;
    wait::until("the constraint to be there", SETTLE, wait::QUICK, || Ok(constrained(pair)))?;
    let own = |argv: &[String]| argv.first().is_some_and(|word| word.ends_with("hvmail_make_secondary"));
    let signalled = |signal| old.processes(own)?.into_iter().try_for_each(|pid| process::signal(pid, signal).map(drop));
    signalled(Signal::SIGSTOP)?;
    wait::until("the other node to be Primary", SETTLE, wait::TOOL, || {
        Ok(pair.primary().is_ok_and(|primary| primary.name == new.name))
    })?;
    let moving = format!("a command on {} is moving the role at this moment", old.name);
    let back = ["hvmail_make_primary", "--node", &old.name, "--force"];
    ends(&pair.run(new, &back)?, REFUSED, &[&moving, "nothing was changed"])?;
    ends(&pair.run(new, &["hvmail_make_secondary"])?, REFUSED, &[&moving, "nothing was changed"])?;
    ends(&pair.run(old, &back)?, UNKNOWN, &["another hvmail_make_primary or hvmail_make_secondary runs on this node"])?;
    signalled(Signal::SIGCONT)?;
    // nsenter has stopped with its child.
    process::signal(running.pid(), Signal::SIGCONT)?;
    // Whatever tool of Pacemaker was at work has ended meanwhile.
    let status = running.wait()?;
    ensure!(status.code() == Some(DONE), "{status}");
    ensure!(pair.healthy()?.name == new.name);
    nothing_is_left(pair)
}

/// What would be promoted there has failed too often, or says nothing of itself.
fn not_to_be_promoted(pair: &Pair) -> Result<()> {
    let (old, new) = nodes(pair)?;
    let of_node =
        |name: &str| ["crm_attribute", "--lifetime", "reboot", "--node", &new.name, "--name", name].map(str::to_owned);
    let change = |name: &str, deed: &[&str]| {
        let words = of_node(name);
        let words: Vec<_> = words.iter().map(String::as_str).chain(deed.iter().copied()).collect();
        pair.cluster.tool(&words).map(drop)
    };
    let failed = || {
        change("fail-count-services#promote_0", &["--update", "INFINITY"])?;
        change("last-failure-services#promote_0", &["--update", "1795570000"])?;
        pair.cluster.wait_idle()
    };
    failed()?;
    let words =
        ["failures keep resources away from", "services", "crm_resource --cleanup --resource services", "--force"];
    let words = [&words[..], &["nothing was changed"]].concat();
    let refused = pair.run(old, &["hvmail_make_secondary"])?;
    ends(&refused, REFUSED, &words)?;
    carry_out(new, &refused, "crm_resource --cleanup")?;
    wait::until("the remedy to help", SETTLE, wait::TOOL, || {
        Ok(pair.run(old, &["hvmail_ha", "preflight"])?.code() == Some(DONE))
    })?;
    failed()?;
    ends(&pair.run(new, &["hvmail_make_primary"])?, REFUSED, &words)?;
    ends(
        &pair.run(old, &["hvmail_make_secondary", "--force"])?,
        DONE,
        &["accepted: failures", "is Primary and serves"],
    )?;
    nothing_is_left(pair)?;

    let (old, new) = nodes(pair)?;
    let remedy = ["--update on", "--delete"].map(|deed| format!("crm_standby --node {} {deed}", new.name));
    let delete = ["crm_attribute", "--lifetime", "reboot", "--node", &new.name, "--name", "master-pg", "--delete"];
    pair.cluster.tool(&delete)?;
    let words = ["says nothing of its state", &remedy[0], &remedy[1], "nothing was changed"];
    ends(&pair.run(old, &["hvmail_make_secondary", "--force"])?, REFUSED, &words)?;
    ends(&pair.run(new, &["hvmail_make_primary", "--force"])?, REFUSED, &words)?;
    for deed in &remedy {
        pair.cluster.tool(&deed.split(' ').collect::<Vec<_>>())?;
        pair.cluster.wait_idle()?;
    }
    wait::until("the remedy to help", SETTLE, wait::TOOL, || {
        Ok(pair.run(old, &["hvmail_ha", "preflight"])?.code() == Some(DONE))
    })?;
    pair.healthy().map(drop)
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
    let marked = |_: &Node| Ok(marked(pair));
    killed(old, "the mark of --stop to be there", &["hvmail_make_secondary", "--force", "--stop"], marked)?;
    let stopped = pair.run(old, &["hvmail_make_secondary", "--force", "--stop"])?;
    println!("killed and repeated:\n{}", stopped.all());
    ends(&stopped, DONE, &[])?;
    thread::sleep(Duration::from_secs(1));
    ensure!(pair.writer.silence() > Duration::from_secs(1), "nothing was to be served");
    ends(&pair.run(old, &["hvmail_ha", "status"])?, 2, &["hvmail_make_secondary --stop", "hvmail_make_primary"])?;
    pair.cluster.standby(new, false)?;
    pair.cluster.wait_idle()?;
    // The other node has what this one wrote, or does not: they compare their logs.
    ensure!(pair.writer.silence() > Duration::from_secs(2), "no node was to become Primary by itself");
    // Of a second resource too, with a list of its own.
    for node in &pair.cluster.nodes {
        node.write_file(OTHER_LIST, format!("{OTHER_ADDRESS}/16\n10.78.1.201\n"), 0o644, Owner::Root)?;
    }
    let other = Primitive::ocf("other-ips", "greenarrow", "primary-ips").parameter("ip_file", OTHER_LIST);
    pair.cluster.load(&Cib::default().resource(Resource::Plain(other.meta("target-role", "Stopped"))))?;
    let orders = ["hvmail_make_primary", "--force", "--accept-data-loss=database", "--accept-data-loss=peer-unseen"];
    let unseen = format!("not seen: whether addresses of the pair answer on the wire: {OTHER_LIST}: line 2");
    for held in [address(), OTHER_ADDRESS.parse()?] {
        while_somebody_has(held, || {
            let fact = format!("addresses of the pair answer though no node of the cluster is Primary: {held}");
            ends(&pair.run(old, &orders)?, REFUSED, &[&fact, &unseen, "nothing was changed"])
        })?;
    }
    pair.cluster.wait_idle()?;
    pair.cluster.tool(&["cibadmin", "--delete", "--xml-text", "<primitive id=\"other-ips\"/>"])?;
    the_last_primary_is_away(pair, old, new)?;
    killed(old, "the constraint to be there", &["hvmail_make_primary"], |_| Ok(moving(pair)))?;
    ends(&pair.run(old, &["hvmail_make_primary"])?, DONE, &[&format!("{} is Primary and serves", old.name)])?;
    ensure!(pair.healthy()?.name == old.name);
    nothing_is_left(pair)
}

/// What systemctl stop does to a daemon of the cluster.
fn ended(node: &Node, name: &str) -> Result<()> {
    let daemon = |argv: &[String]| argv.first().is_some_and(|path| path.ends_with(name));
    for pid in node.processes(daemon)? {
        process::signal(pid, Signal::SIGTERM)?;
    }
    let gone = || Ok(node.processes(daemon)?.is_empty());
    wait::until(&format!("{name} to end"), SETTLE, wait::TOOL, gone).map(drop)
}

/// The cluster is stopped on the node that was Primary last, and wrote while the other one was in standby.
fn the_last_primary_is_away(pair: &Pair, last: &Node, other: &Node) -> Result<()> {
    ended(last, "sbin/pacemakerd")?;
    ended(last, "sbin/corosync")?;
    for orders in [&["hvmail_make_secondary"][..], &["hvmail_make_primary"], &["hvmail_ha", "preflight"]] {
        ends(
            &pair.run(last, orders)?,
            UNKNOWN,
            &["the cluster does not answer on this node: systemctl status pacemaker"],
        )?;
    }
    let fact =
        format!("{} acknowledged commits that the database on {} lacks, and is not there", last.name, other.name);
    let words = [fact.as_str(), &format!("switch {} on", last.name), "--accept-data-loss=database"];
    ends(&pair.run(other, &["hvmail_ha", "preflight", &other.name])?, REFUSED, &words)?;
    let orders = ["hvmail_make_primary", "--force", "--accept-data-loss=peer-unseen"];
    ends(&pair.run(other, &orders)?, REFUSED, &[&words[..], &["nothing was changed"]].concat())?;
    last.start_cluster()?;
    pair.cluster.wait_quorum(2)?;
    pair.cluster.wait_idle()
}

/// The host with the bridge is a host like any other on that network.
fn while_somebody_has(address: IpAddr, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let change = |word: &str| network::ip(&format!("addr {word} {} dev {BRIDGE}", network::with_prefix(address)));
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
        in_maintenance(pair)?;
        interrupted(pair)?;
        killed_while_it_puts_back(pair).context("killed while it puts back")?;
        while_another_is_at_it(pair)?;
        while_the_other_leaves_and_comes(pair).context("while the other leaves and comes")?;
        held_by_somebody(pair).context("held by somebody")?;
        not_to_be_promoted(pair)?;
        stopped_and_brought_back(pair)?;
        let lost = pair.lost_rows()?;
        ensure!(lost == 0, "{lost} acknowledged rows are lost");
        Ok(())
    })
}
