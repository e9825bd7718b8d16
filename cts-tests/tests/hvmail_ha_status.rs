//! hvmail_ha status and preflight in a real pair, healthy and harmed; and what the commands refuse when a node is gone.

#[path = "hvmail_ha_status/attrd.rs"]
mod attrd;
#[path = "hvmail_ha_status/bundle.rs"]
mod bundle;
#[path = "hvmail_ha_status/ips.rs"]
mod ips;
#[path = "hvmail_ha_status/lacking.rs"]
mod lacking;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::command::{Output, command};
use cts_tests::greenarrow_pair::{NAMES, PROGRAM, Pair, carry_out, ends, with_pair};
use cts_tests::node::{Node, Owner};
use cts_tests::subject::IP_FILE;
use cts_tests::{installed, packages, wait};

const OK: i32 = 0;
const WARNING: i32 = 1;
const CRITICAL: i32 = 2;
const UNKNOWN: i32 = 3;

fn status(pair: &Pair, node: &Node, arguments: &[&str]) -> Result<Output> {
    pair.run(node, &[&[PROGRAM, "status"], arguments].concat())
}

fn comes(pair: &Pair, node: &Node, status_code: i32, words: &[&str]) -> Result<()> {
    let mut last = String::new();
    let there = || {
        let result = ends(&status(pair, node, &[])?, status_code, words);
        last = result.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        Ok(result.is_ok())
    };
    wait::until(&format!("{words:?} in the status"), SETTLE, wait::TOOL, there).map(drop).with_context(|| last)
}

fn healthy(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    let peer = pair.cluster.peer(primary)?;
    comes(
        pair,
        primary,
        OK,
        &["Primary", "Secondary", "4 listed", "same list of addresses", "nothing has to be seen to"],
    )?;
    // In the agents' own words, of this node only.
    let own = status(pair, primary, &[])?;
    ends(&own, OK, &["streaming to", "commits wait for", "fencing by 2 of 2 devices"])?;
    ends(&status(pair, peer, &[])?, OK, &["unpromoted:", "streaming"])?;
    ensure!(!own.stdout.contains('\x1b'), "colour in a pipe");
    let nagios = status(pair, primary, &["--nagios"])?;
    ends(&nagios, OK, &[&format!("HVMAIL_HA OK - {} is Primary | nodes_online=2;;;0;2", primary.name)])?;
    ensure!(nagios.all().lines().count() == 1, "{}", nagios.all());
    ends(&status(pair, peer, &["--prometheus"])?, OK, &[&format!("hvmail_ha_primary{{node=\"{}\"}} 1", primary.name)])?;
    ends(&status(pair, peer, &["--json"])?, OK, &["\"schema\": 1", &format!("\"primary\": \"{}\"", primary.name)])?;
    Ok(())
}

/// script(1) of util-linux gives the program a real terminal of so many columns.
fn on_a_terminal(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    for (columns, width) in [("80", 80), ("140", 140)] {
        let order = format!("stty cols {columns} rows 50; TERM=xterm hvmail_ha status");
        let shown = pair.run(primary, &["script", "--quiet", "--return", "--command", &order, "/dev/null"])?;
        ends(&shown, OK, &["\x1b[32mPrimary\x1b[0m"])?;
        let plain = |line: &str| line.replace("\x1b[1m", "").replace("\x1b[32m", "").replace("\x1b[0m", "");
        let longest = shown.stdout.lines().map(|line| plain(line).trim_end().chars().count()).max();
        let longest = longest.unwrap_or_default();
        ensure!(longest <= width && longest > width / 2, "{longest} of {width} columns:\n{}", shown.stdout);
    }
    let order = "TERM=xterm NO_COLOR=1 hvmail_ha status";
    let shown = pair.run(primary, &["script", "--quiet", "--return", "--command", order, "/dev/null"])?;
    ensure!(!shown.stdout.contains('\x1b'), "{}", shown.stdout);
    let order = "TERM=xterm timeout 4 hvmail_ha status --watch=1";
    let shown = pair.run(primary, &["script", "--quiet", "--return", "--command", order, "/dev/null"])?;
    ensure!(shown.stdout.matches("\x1b[H\x1b[2J").count() >= 2, "{}", shown.stdout);
    Ok(())
}

/// What the other commands say is the same on a terminal of any width and in a pipe: a line that is too long is broken by the
/// terminal, so that a command can be copied from it.
fn no_command_but_status_knows_a_terminal(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    pair.cluster.standby(pair.cluster.peer(primary)?, true)?;
    pair.cluster.wait_idle()?;
    for words in
        ["hvmail_ha preflight", "hvmail_ha ips", "hvmail_ha rejoin", "hvmail_make_secondary", "hvmail_make_primary"]
    {
        let piped = pair.run(primary, &words.split(' ').collect::<Vec<_>>())?;
        ensure!(!piped.all().contains('\x1b'), "{words}: {}", piped.all());
        for columns in ["80", "140"] {
            let order = format!("stty cols {columns} rows 50; TERM=xterm {words}");
            let shown = pair.run(primary, &["script", "--quiet", "--return", "--command", &order, "/dev/null"])?;
            ensure!(shown.code() == piped.code(), "{words}: {} and {}", shown.status, piped.status);
            let plain = shown.stdout.replace('\r', "");
            ensure!(plain == piped.all(), "{words} on {columns} columns:\n{plain}\nin a pipe:\n{}", piped.all());
        }
    }
    pair.cluster.standby(pair.cluster.peer(primary)?, false)?;
    pair.healthy().map(drop)
}

fn another_list(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    let peer = pair.cluster.peer(primary)?;
    let list = peer.read_file(IP_FILE)?;
    peer.write_file(IP_FILE, list.lines().next().unwrap_or_default(), 0o644, Owner::Root)?;
    let words = ["the lists of addresses differ", "has 4", "has 1 addresses"];
    comes(pair, primary, WARNING, &words)?;
    ends(&pair.run(peer, &["hvmail_make_primary"])?, 1, &[words[0], "--force", "nothing was changed"])?;
    ends(&pair.run(primary, &["hvmail_ha", "preflight"])?, 1, &["could not take over now:", words[0]])?;
    peer.write_file(IP_FILE, list, 0o644, Owner::Root)?;
    comes(pair, primary, OK, &["same list"]).or_else(|_| pair.cluster.cleanup("ips"))
}

fn a_service_is_down(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    primary.text(&["svc", "-d", "/service/hvmail-httpd"])?;
    comes(pair, primary, WARNING, &["hvmail-httpd was taken down", "services is degraded"])?;
    ends(&status(pair, pair.cluster.peer(primary)?, &[])?, WARNING, &["hvmail-httpd was taken down"])?;
    primary.text(&["svc", "-u", "/service/hvmail-httpd"])?;
    comes(pair, primary, WARNING, &["over by now", "crm_resource --cleanup --resource services"])?;
    pair.cluster.cleanup("services")?;
    comes(pair, primary, OK, &["nothing has to be seen to"])
}

fn a_constraint_is_left(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    let peer = &pair.cluster.peer(primary)?.name;
    for (deed, node, left) in [
        ("--ban", peer, format!("cli-ban-pg-clone-on-{peer}")),
        ("--move", &primary.name, "cli-prefer-pg-clone".to_owned()),
    ] {
        let order = ["crm_resource", "--force", deed, "--resource", "pg-clone", "--node", node, "--promoted"];
        pair.cluster.tool(&order)?;
        let words = [left.as_str(), "crm_resource --clear --resource pg-clone"];
        comes(pair, primary, WARNING, &words)?;
        let refused = pair.run(primary, &["hvmail_make_secondary"])?;
        ends(&refused, 1, &[words[0], words[1], "nothing was changed"])?;
        carry_out(primary, &refused, "crm_resource --clear")?;
        comes(pair, primary, OK, &["nothing has to be seen to"])?;
    }
    Ok(())
}

#[test]
fn a_pair_is_shown_as_it_is() -> Result<()> {
    packages::require(packages::SSH)?;
    with_pair(|pair| {
        healthy(pair)?;
        on_a_terminal(pair)?;
        no_command_but_status_knows_a_terminal(pair)?;
        a_constraint_is_left(pair)?;
        a_service_is_down(pair)?;
        another_list(pair)?;
        ips::lists_are_compared_checked_and_copied(pair)?;
        bundle::has_no_secrets(pair)?;
        attrd::hangs(pair)
    })
}

/// The peer without power and with it fenced: nothing is there to take over, and nothing else is at risk.
fn peer_is_fenced(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    let peer = pair.cluster.peer(primary)?;
    pair.cluster.switch.restart_after(None);
    peer.power_cut()?;
    comes(pair, primary, WARNING, &[&format!("{}: not in the cluster", peer.name), "last fenced"])?;
    let refused = pair.run(primary, &["hvmail_make_secondary"])?;
    ends(&refused, 1, &[&format!("{} is not in the cluster", peer.name), "--stop", "nothing was changed"])?;
    ensure!(pair.writer.silence() < Duration::from_secs(2), "the database was to go on");
    ends(&pair.run(primary, &["hvmail_make_primary"])?, OK, &["nothing to do"])?;
    // Stopped alone, it may be brought back alone: it was Primary last.
    ends(&pair.run(primary, &["hvmail_make_secondary", "--stop"])?, OK, &["no node is Primary until"])?;
    ends(&status(pair, primary, &["--nagios"])?, CRITICAL, &["CRITICAL", "no node is Primary"])?;
    // Without fencing nobody knows that the other one is off.
    let fencing = |on: &str| pair.cluster.tool(&["crm_attribute", "--name", "stonith-enabled", "--update", on]);
    fencing("false")?;
    let fact = format!("{} is not in the cluster, and without fencing nobody knows that it is off", peer.name);
    let words = [fact.as_str(), "--accept-data-loss=peer-unseen", "nothing was changed"];
    ends(&pair.run(primary, &["hvmail_make_primary", "--force", "--accept-data-loss=database"])?, 1, &words)?;
    let orders = ["hvmail_make_primary", "--accept-data-loss=peer-unseen"];
    ends(&pair.run(primary, &orders)?, OK, &["accepted:", "is Primary and serves"])?;
    fencing("true")?;
    ensure!(pair.leftovers()?.is_empty());
    peer.power_on()?;
    at_boot(peer)?;
    peer.start_cluster()
}

/// Before Pacemaker starts, the configuration is what it left on the disk.
fn at_boot(node: &Node) -> Result<()> {
    let look = || node.run(&["hvmail_make_secondary", "--boot"]);
    ends(&look()?, OK, &["nothing of the pair is active here without the cluster"])?;
    let listed = node.read_file(IP_FILE)?.lines().next().unwrap_or_default().to_owned();
    node.text(&["ip", "addr", "add", &listed, "dev", "eth0"])?;
    let found = look()?;
    println!("{}", found.all());
    ends(&found, 1, &["ips is active, and not by the cluster", "take the addresses out of"])?;
    node.text(&["ip", "addr", "del", &listed, "dev", "eth0"])?;
    ends(&look()?, OK, &["nothing of the pair is active here"])
}

/// A peer whose fencing does not succeed may still be Primary, whatever the operator says.
fn peer_is_unclean(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    // In a cluster, what it has started is sound.
    for node in &pair.cluster.nodes {
        ends(&pair.run(node, &["hvmail_make_secondary", "--boot"])?, OK, &["active here beside the cluster"])?;
    }
    let peer = pair.cluster.peer(primary)?;
    // The switch is on the network that is cut: neither can have the other fenced.
    peer.cable_cut()?;
    primary.cable_cut()?;
    let unclean = format!("{}: unclean", peer.name);
    let began = Instant::now();
    wait::until("the peer to be unclean", SETTLE, wait::TOOL, || {
        Ok(status(pair, primary, &[])?.all().contains(&unclean))
    })?;
    let orders = ["hvmail_make_primary", "--force", "--accept-data-loss=peer-unseen", "--accept-data-loss=database"];
    let refused = pair.run(peer, &orders)?;
    ends(&refused, 1, &["may still be Primary", "stonith_admin --confirm", "nothing was changed"])?;
    let words = ["is not Primary by Pacemaker's word, but", "may still be Primary", "--confirm", "nothing was changed"];
    ends(&pair.run(peer, &["hvmail_make_secondary", "--node", &primary.name])?, 1, &words)?;
    println!("unclean after {:.1} s", began.elapsed().as_secs_f64());
    // It is seen to that it is off, and said so.
    primary.power_cut()?;
    carry_out(peer, &refused, "stonith_admin --confirm")?;
    let serves = || Ok(pair.run(peer, &["hvmail_make_primary"])?.code() == Some(OK));
    wait::until("the node to be Primary once the other one is off", SETTLE, wait::TOOL, serves).map(drop)
}

#[test]
fn a_peer_that_is_gone_is_told_from_one_that_may_be_there() -> Result<()> {
    with_pair(|pair| {
        // Last it reloads a parameter: from then on Pacemaker knows of the promotion by the recurring monitor alone.
        lacking::the_primary_has_more(pair)?;
        peer_is_fenced(pair)?;
        peer_is_unclean(pair)
    })
}

#[test]
fn without_a_cluster_the_answer_is_unknown_and_comes_soon() -> Result<()> {
    cts_tests::isolation::enter(cts_tests::isolation::Isolation::Cluster(&["hvmail-ha"]), || {
        let node = Node::new(1, 1)?;
        node.power_on()?;
        for name in NAMES {
            node.install(&installed::agent(PROGRAM)?, &format!("/usr/sbin/{name}"), 0o755)?;
        }
        let began = Instant::now();
        let remedy = "systemctl status pacemaker";
        ends(&node.run(&["hvmail_ha", "status"])?, UNKNOWN, &[remedy])?;
        ends(&node.run(&["hvmail_ha", "status", "--nagios"])?, UNKNOWN, &["HVMAIL_HA UNKNOWN - ", remedy])?;
        ends(&node.run(&["hvmail_ha", "status", "--prometheus"])?, UNKNOWN, &["hvmail_ha_up 0"])?;
        ends(&node.run(&["hvmail_make_primary"])?, UNKNOWN, &[remedy])?;
        ends(&node.run(&["hvmail_make_secondary", "--stop"])?, UNKNOWN, &[remedy])?;
        ends(&node.run(&["hvmail_make_primary", "--accept-data-loss=all"])?, UNKNOWN, &["peer-unseen", "database"])?;
        ips::without_a_cluster(&node)?;
        ensure!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        let bundle = node.run(&["hvmail_ha", "support-bundle", "--output", bundle::BUNDLE])?;
        ends(&bundle, WARNING, &["not collected: hvmail_ha status: ", remedy, bundle::BUNDLE])?;
        let listed = node.text(&["tar", "-tzf", bundle::BUNDLE])?;
        ensure!(listed.contains("/MANIFEST") && listed.contains("/addresses.txt"), "{listed}");
        Ok(())
    })
}

#[test]
fn the_manual_pages_are_what_the_program_prints_and_free_of_warnings() -> Result<()> {
    packages::require(packages::CHECKS)?;
    installed::build(&["hvmail-ha"])?;
    for name in NAMES {
        let page = installed::workspace().join(format!("metadata/man/{name}.8"));
        let kept = std::fs::read_to_string(&page).unwrap_or_default();
        // The program knows by its name which page is wanted.
        let directory = std::env::temp_dir().join(format!("cts-hvmail-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        std::os::unix::fs::symlink(installed::agent(PROGRAM)?, directory.join(name))?;
        let printed = command([directory.join(name)]).arg("--manual").bare_environment().text();
        std::fs::remove_dir_all(&directory)?;
        ensure!(kept == printed?, "{} is not what {name} --manual prints", page.display());
        let mandoc = command(["mandoc", "-T", "lint", "-W", "warning"]).arg(&page).run()?;
        let man = command(["man", "--warnings=w", "-l"]).arg(&page).bare_environment().env("MANPAGER", "true").run()?;
        ensure!(man.status.success(), "man cannot format {}: {}", page.display(), man.all());
        let lint = mandoc.all() + &man.stderr;
        ensure!(lint.is_empty(), "{}: {lint}", page.display());
    }
    Ok(())
}
