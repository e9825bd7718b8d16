//! What stands in the way of a move: each refusal with its remedy, which is carried out where it can be.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::cib::{Cib, Primitive, Resource};
use cts_tests::cluster::SETTLE;
use cts_tests::greenarrow_pair::{Pair, carry_out, ends};
use cts_tests::installed::PROVIDER_DIRECTORY;
use cts_tests::network::{self, BRIDGE};
use cts_tests::node::{Node, Owner};
use cts_tests::postgres_pair::address;
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

use super::{DONE, GO_ON, REFUSED, UNKNOWN, constrained, killed, marked, moving, nodes, nothing_is_left, slow, usual};

/// The list of a second resource of the addresses, and one of them.
const OTHER_LIST: &str = "/etc/other_ips";
const OTHER_ADDRESS: &str = "10.78.1.200";

/// The other node leaves, and its services take their time to stop: that is waited for, and refused once the time is over.
/// What is typed while it comes back waits for it.
pub(super) fn while_the_other_leaves_and_comes(pair: &Pair) -> Result<()> {
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
pub(super) fn held_by_somebody(pair: &Pair) -> Result<()> {
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

pub(super) fn in_maintenance(pair: &Pair) -> Result<()> {
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
pub(super) fn while_another_is_at_it(pair: &Pair) -> Result<()> {
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
pub(super) fn not_to_be_promoted(pair: &Pair) -> Result<()> {
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

/// A plain resource that has to run where the role is keeps it away like one that has it.
pub(super) fn what_follows_the_role(pair: &Pair) -> Result<()> {
    const TIE: &str = "<rsc_colocation id=\"mount-tie\" rsc=\"mount\" with-rsc=\"services-clone\" \
                       with-rsc-role=\"Promoted\" score=\"INFINITY\"/>";
    let (old, new) = nodes(pair)?;
    pair.cluster.load(&Cib::default().resource(Resource::Plain(Primitive::ocf("mount", "heartbeat", "Dummy"))))?;
    pair.cluster.tool(&["cibadmin", "--create", "--scope", "constraints", "--xml-text", TIE])?;
    pair.cluster.wait_idle()?;
    ends(&pair.run(old, &["hvmail_ha", "preflight"])?, DONE, &["could take over now"])?;
    let count = ["crm_attribute", "--lifetime", "reboot", "--node", &new.name, "--name", "fail-count-mount#start_0"];
    for (deed, fact, remedy) in [
        (
            &["crm_resource", "--ban", "--resource", "mount", "--node", &new.name][..],
            format!("constraint cli-ban-mount-on-{} keeps mount from {}", new.name, new.name),
            "crm_resource --clear --resource mount",
        ),
        (
            &[&count[..], &["--update", "INFINITY"]].concat(),
            format!("failures keep resources away from {}: mount", new.name),
            "crm_resource --cleanup --resource mount",
        ),
    ] {
        pair.cluster.tool(deed)?;
        pair.cluster.wait_idle()?;
        let refused = pair.run(old, &["hvmail_make_secondary"])?;
        ends(&refused, REFUSED, &[&fact, remedy, "nothing was changed"])?;
        carry_out(old, &refused, remedy)?;
        wait::until("the remedy to help", SETTLE, wait::TOOL, || {
            Ok(pair.run(old, &["hvmail_ha", "preflight"])?.code() == Some(DONE))
        })?;
    }
    ends(&pair.run(old, &["hvmail_make_secondary"])?, DONE, &[&format!("{} is Primary and serves", new.name)])?;
    for gone in ["<rsc_colocation id=\"mount-tie\"/>", "<primitive id=\"mount\"/>"] {
        pair.cluster.tool(&["cibadmin", "--delete", "--xml-text", gone])?;
    }
    pair.cluster.wait_idle()?;
    nothing_is_left(pair)
}

/// Its peer in standby, a node does not give the role away; it ends everything when it is told to.
pub(super) fn stopped_and_brought_back(pair: &Pair) -> Result<()> {
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
    let ended = Instant::now();
    thread::sleep(Duration::from_secs(1));
    ensure!(pair.writer.silence() > Duration::from_secs(1), "nothing was to be served");
    ends(&pair.run(old, &["hvmail_ha", "status"])?, 2, &["hvmail_make_secondary --stop", "hvmail_make_primary"])?;
    pair.cluster.standby(new, false)?;
    pair.cluster.wait_idle()?;
    // The other node has what this one wrote, or does not: they compare their logs.
    ensure!(!pair.writer.wrote(ended), "no node was to become Primary by itself");
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
