//! hvmail_ha ips: lists compared, checked, and copied over a real sshd on both nodes.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cts_tests::cib::{Cib, Primitive, Resource, Role};
use cts_tests::disk::Item;
use cts_tests::greenarrow_pair::{PROGRAM, Pair};
use cts_tests::node::{Node, Owner};
use cts_tests::process;
use cts_tests::subject::IP_FILE;
use nix::sys::signal::Signal;

use super::{OK, SETTLE, UNKNOWN, WARNING, ends, wait};

/// GreenArrow's configuration in the nodes.
const CONFIGURATION: &str = "/var/hvmail/control/greenarrow.conf";
const SSHD: &str = "/etc/ssh/rig_sshd_config";

fn ips(pair: &Pair, node: &Node, arguments: &[&str], status: i32, words: &[&str]) -> Result<()> {
    let output = pair.run(node, &[&[PROGRAM, "ips"], arguments].concat())?;
    println!("hvmail_ha ips {} on {}:\n{}", arguments.join(" "), node.name, output.all());
    ends(&output, status, words)
}

fn comes(pair: &Pair, node: &Node, status: i32, words: &[&str]) -> Result<()> {
    let mut last = String::new();
    let there = || {
        let result = ends(&pair.run(node, &[PROGRAM, "ips"])?, status, words);
        last = result.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        Ok(result.is_ok())
    };
    wait::until(&format!("{words:?} of hvmail_ha ips"), SETTLE, wait::TOOL, there).map(drop).with_context(|| last)
}

/// A VirtualMTA for each address of a list.
fn virtual_mtas(list: &str) -> String {
    let address = |line: &str| line.split('/').next().unwrap_or_default().to_owned();
    let block = |(number, line): (usize, &str)| {
        format!("ip_address out{number} {{\n  smtp_source {} out{number}.example.com\n}}\n", address(line))
    };
    list.lines().enumerate().map(block).collect::<Vec<_>>().concat()
}

/// Programs that stand still go on once this file is there.
const GO_ON: &str = "/run/rig/go-on";
/// Stands still before it does anything.
const HELD: &str = "#!/bin/sh\nuntil [ -e GO_ON ]; do sleep 0.1; done\nexec REAL \"$@\"\n";
/// Of what is to be copied the first bytes get through, and no more.
const HALF: &str =
    "#!/bin/sh\ncase \"$*\" in *mktemp*) { head -c 10; sleep 60; } | REAL \"$@\" ;; *) exec REAL \"$@\" ;; esac\n";

/// root on either node may log in on the other, with keys made here.
fn open_ssh(pair: &Pair) -> Result<()> {
    let mut keys = Vec::new();
    for node in &pair.cluster.nodes {
        node.lay_down(&[Item::directory("/root/.ssh"), Item::directory("/run/sshd")])?;
        for path in ["/root/.ssh/id_ed25519", "/etc/ssh/rig_host_key"] {
            node.text(&["rm", "-f", path, &format!("{path}.pub")])?;
            node.text(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path])?;
        }
        keys.push((node, node.read_file("/root/.ssh/id_ed25519.pub")?, node.read_file("/etc/ssh/rig_host_key.pub")?));
    }
    let authorized: String = keys.iter().map(|(_, user, _)| user.as_str()).collect();
    let known: Vec<_> = keys.iter().map(|(node, _, host)| format!("{} {host}", node.name)).collect();
    let hosts: Vec<_> = keys
        .iter()
        .map(|(node, ..)| format!("Host {0}\n HostName {1}\n HostKeyAlias {0}\n", node.name, node.address()))
        .collect();
    let sshd = "HostKey /etc/ssh/rig_host_key\nUsePAM no\nPasswordAuthentication no\nStrictModes no\n\
                PermitRootLogin prohibit-password\nAuthorizedKeysFile /root/.ssh/authorized_keys\nPidFile /run/sshd/pid\n";
    for node in &pair.cluster.nodes {
        node.write_file("/root/.ssh/authorized_keys", &authorized, 0o600, Owner::Root)?;
        node.write_file("/root/.ssh/known_hosts", known.concat(), 0o600, Owner::Root)?;
        node.write_file("/root/.ssh/config", hosts.concat(), 0o600, Owner::Root)?;
        node.write_file(SSHD, sshd, 0o600, Owner::Root)?;
        node.text(&["/usr/sbin/sshd", "-f", SSHD])?;
    }
    Ok(())
}

pub(crate) fn lists_are_compared_checked_and_copied(pair: &Pair) -> Result<()> {
    let began = Instant::now();
    let primary = pair.healthy()?;
    let peer = pair.cluster.peer(primary)?;
    let list = primary.read_file(IP_FILE)?;
    let (taken, rest) =
        list.trim_end().rsplit_once('\n').map(|(rest, taken)| (taken, format!("{rest}\n"))).context("a list")?;
    let address = taken.split('/').next().unwrap_or_default();
    for node in [primary, peer] {
        node.write_file(CONFIGURATION, virtual_mtas(&list), 0o600, Owner::Root)?;
    }
    comes(
        pair,
        primary,
        OK,
        &["equal: the 4 addresses", "kernel of", "VirtualMTAs", &format!("the list of {}", peer.name)],
    )?;
    comes(pair, peer, OK, &["equal: the 4 addresses", &format!("the list of {}", primary.name)])?;

    // A line is taken out on the standby, and ssh does not work.
    peer.write_file(IP_FILE, &rest, 0o640, Owner::Root)?;
    ips(pair, peer, &[], WARNING, &[address, "does not list", "out3 (/var/hvmail/control/greenarrow.conf:11)"])?;
    let other = format!("the list of {} is another one: 3 addresses, 4 in {IP_FILE} of {}", peer.name, primary.name);
    comes(pair, primary, WARNING, &[&other])?;
    ips(pair, primary, &["--ssh"], WARNING, &[&other, "was not fetched: ssh did not get through"])?;
    let by_hand = format!("scp {IP_FILE} {}:{IP_FILE}", peer.name);
    ips(pair, primary, &["push"], WARNING, &["ssh did not get through", &by_hand, "nothing was copied"])?;

    open_ssh(pair)?;
    let only_here = format!("in {IP_FILE} of {} and not of {}: {address}", primary.name, peer.name);
    ips(pair, primary, &["--ssh"], WARNING, &[&only_here, &format!("{address} /")])?;
    // The shorter list is not pushed over the longer one by mistake.
    ips(pair, peer, &["push"], WARNING, &[taken, "--replace", "nothing was copied"])?;
    ensure!(primary.read_file(IP_FILE)? == list, "the file of {} was changed", primary.name);
    ips(pair, primary, &["push"], OK, &[&format!("{IP_FILE}.bak"), "go by the same 4 addresses"])?;
    ensure!(peer.read_file(IP_FILE)? == list && peer.read_file(&format!("{IP_FILE}.bak"))? == rest);
    ensure!(peer.text(&["stat", "-c", "%a", IP_FILE])?.trim() == "640", "the mode is another one");
    ips(pair, primary, &["--ssh"], OK, &["equal: the 4 addresses", &format!("file of {}", peer.name)])?;

    // What the agent would not take is refused before it is copied.
    let wrong = format!("{rest}10.78.1.3\n");
    primary.write_file("/root/wrong", &wrong, 0o644, Owner::Root)?;
    ips(
        pair,
        primary,
        &["check", "/root/wrong"],
        WARNING,
        &["wrong: /root/wrong: line 4", "the prefix length is missing"],
    )?;
    primary.write_file("/root/shorter", &rest, 0o644, Owner::Root)?;
    let removed = format!("removed {taken}");
    ips(pair, primary, &["check", "/root/shorter"], OK, &["valid: ", "0 added, 1 removed, 0 changed", &removed])?;
    primary.write_file(IP_FILE, &wrong, 0o644, Owner::Root)?;
    ips(pair, primary, &["push"], WARNING, &["line 4", "nothing was copied"])?;
    ensure!(peer.read_file(IP_FILE)? == list, "a wrong file was copied");

    // A line less on all nodes, and the kernel of the Primary follows.
    primary.write_file(IP_FILE, &rest, 0o644, Owner::Root)?;
    ips(pair, primary, &["push", "--replace"], OK, &[taken, "go by the same 3 addresses"])?;
    ensure!(peer.read_file(IP_FILE)? == rest, "the file was not copied");
    let gone = || Ok(primary.addresses()?.iter().all(|held| held.address.to_string() != address));
    wait::until("the address to be taken down", SETTLE, wait::TOOL, gone)?;
    primary.write_file(IP_FILE, &list, 0o644, Owner::Root)?;
    ips(pair, primary, &["push"], OK, &["go by the same 4 addresses"])?;
    comes(pair, primary, OK, &["equal: the 4 addresses"])?;

    killed_and_pushed_again(pair, primary, &list, &rest)?;
    pair.cluster.cleanup("ips")?;
    another_resource(pair, primary, &list)?;
    ensure!(pair.primary()?.name == primary.name, "there was a failover");
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    Ok(())
}

/// Killed at each step of the copy, push leaves the whole list or the one before, and nothing beside it; repeated, it ends as
/// ever.
fn killed_and_pushed_again(pair: &Pair, primary: &Node, long: &str, short: &str) -> Result<()> {
    let peer: &Node = pair.cluster.peer(primary)?;
    let part = format!("{IP_FILE}.XXXXXXXX");
    let at_work = |node: &Node, word: &str| node.processes(|argv| argv.iter().any(|one| one == word));
    // Before anything is there, before it has its name, and when half of it has come.
    for (node, program, word, script) in [
        (peer, "/usr/bin/mktemp", part.as_str(), HELD),
        (peer, "/usr/bin/mv", "-fT", HELD),
        (primary, "/usr/bin/ssh", "--", HALF),
    ] {
        let before = peer.read_file(IP_FILE)?;
        primary.write_file(IP_FILE, if before == long { short } else { long }, 0o644, Owner::Root)?;
        stand_in(node, program, script)?;
        let mut push = primary.command(&[PROGRAM, "ips", "push", "--replace"])?.start(Stdio::null())?;
        let there = || Ok(if script == HALF { parts(peer)? > 0 } else { !at_work(node, word)?.is_empty() });
        wait::until(&format!("push to be at {program}"), SETTLE, wait::QUICK, there)?;
        let own = primary.processes(|argv| {
            argv.iter().any(|one| one == "push" || one.ends_with("/ssh") || one.ends_with("ssh.real"))
        })?;
        ensure!(own.len() > 1, "{program}: push has ended before it was killed");
        own.into_iter().try_for_each(|pid| process::signal(pid, Signal::SIGKILL).map(drop))?;
        let _ = push.wait();
        peer.write_file(GO_ON, "", 0o644, Owner::Root)?;
        let over = || Ok(at_work(peer, "hvmail_ha")?.is_empty());
        wait::until("the other side's shell to end", SETTLE, wait::QUICK, over)?;
        node.text(&["mv", &format!("{program}.real"), program])?;
        peer.text(&["rm", GO_ON])?;
        let (after, left) = (peer.read_file(IP_FILE)?, parts(peer)?);
        println!("push killed at {program}: {}", if after == before { "as before" } else { "replaced" });
        ensure!(left == 0 && (after == long || after == short), "{program}: {left} parts are left beside\n{after}");
        ensure!(script != HALF || after == before, "half of it was put in place:\n{after}");
        ips(pair, primary, &["push", "--replace"], OK, &["go by the same"])?;
        ensure!(peer.read_file(IP_FILE)? == primary.read_file(IP_FILE)?, "the lists differ");
    }
    primary.write_file(IP_FILE, long, 0o644, Owner::Root)?;
    ips(pair, primary, &["push"], OK, &["go by the same 4 addresses"])?;
    comes(pair, primary, OK, &["equal: the 4 addresses"])
}

/// A program's place is taken by a script; the program is REAL.
pub(crate) fn stand_in(node: &Node, program: &str, script: &str) -> Result<()> {
    let real = format!("{program}.real");
    node.text(&["cp", "-a", program, &real])?;
    node.write_file(program, script.replace("REAL", &real).replace("GO_ON", GO_ON), 0o755, Owner::Root)
}

/// Temporary files beside the list.
fn parts(node: &Node) -> Result<usize> {
    let found = node.text(&["find", "/etc", "-name", "hvmail_primary_ips.????????"])?;
    Ok(found.lines().count())
}

/// A second resource with a list of its own: each is compared by itself, and one has to be named where one is meant.
fn another_resource(pair: &Pair, primary: &Node, list: &str) -> Result<()> {
    const OTHER: &str = "/etc/other_ips";
    let alone = "10.78.1.200/16\n";
    for node in &pair.cluster.nodes {
        node.write_file(OTHER, alone, 0o644, Owner::Root)?;
        node.write_file(CONFIGURATION, virtual_mtas(&format!("{list}{alone}")), 0o600, Owner::Root)?;
    }
    let of = |id: &str| {
        let one = Primitive::ocf(id, "greenarrow", "primary-ips").parameter("ip_file", OTHER);
        let one = one.operation("monitor", "5s", "20s", Some(Role::Promoted));
        Resource::Promotable(one.operation("monitor", "6s", "20s", Some(Role::Unpromoted)))
    };
    pair.cluster.load(&Cib::default().resource(of("ips2")).follows(&of("ips2"), &of("ips")))?;
    pair.cluster.wait_idle()?;
    comes(pair, primary, OK, &["ips (/etc/hvmail_primary_ips): equal: the 4", "ips2 (/etc/other_ips): equal: the 1"])?;
    let peer = pair.cluster.peer(primary)?;
    for node in [primary, peer] {
        let words = ["addresses ips ", "addresses ips2 ", "4 listed", "1 listed", "same 2 lists of addresses"];
        super::comes(pair, node, OK, &words)?;
    }
    let members = ["\"addresses_listed\": 5", "\"addresses_listed\": 4", "\"addresses_listed\": 1"];
    ends(&super::status(pair, peer, &["--json"])?, OK, &members)?;
    let metric = format!("hvmail_ha_addresses_listed{{node=\"{}\",resource=\"ips2\"}} 1", primary.name);
    ends(&super::status(pair, peer, &["--prometheus"])?, OK, &[&metric])?;
    ips(pair, primary, &["push"], UNKNOWN, &["several resources", "--resource=ips or --resource=ips2"])?;
    ips(pair, primary, &["check", OTHER, "--resource=ips2"], OK, &["valid: "])?;
    ips(pair, primary, &["--resource=ips3"], UNKNOWN, &["\"ips3\" is no resource", "ips, ips2"])?;
    primary.write_file(OTHER, format!("{alone}10.78.1.201/16\n"), 0o644, Owner::Root)?;
    ips(pair, primary, &["--resource=ips2", "--ssh"], WARNING, &["not of", "10.78.1.201"])?;
    ips(pair, primary, &["--resource=ips"], OK, &["equal: the 4 addresses"])?;
    let (here, there) = (format!("{} has 2", primary.name), format!("{} has 1", peer.name));
    let differ = ["the lists of addresses of ips2 differ:", &here, &there];
    super::comes(pair, primary, WARNING, &[&differ[..], &["; lists of addresses differ"]].concat())?;
    ends(&pair.run(primary, &[PROGRAM, "preflight"])?, WARNING, &[&["could not take over now"], &differ[..]].concat())?;
    let stopped = ["--meta", "--set-parameter", "target-role", "--parameter-value", "Stopped"];
    pair.cluster.tool(&[&["crm_resource", "--resource", "ips2-clone"], &stopped[..]].concat())?;
    pair.cluster.wait_idle()?;
    for left in [
        "rsc_colocation id=\"ips2-clone-with-ips-clone\"",
        "rsc_order id=\"ips2-clone-after-ips-clone\"",
        "clone id=\"ips2-clone\"",
    ] {
        pair.cluster.tool(&["cibadmin", "--delete", "--xml-text", &format!("<{left}/>")])?;
    }
    pair.cluster.wait_idle()
}

pub(crate) fn without_a_cluster(node: &Node) -> Result<()> {
    node.write_file(IP_FILE, "192.0.2.10/24\n", 0o644, Owner::Root)?;
    let words = ["the cluster does not answer on this node", "systemctl status pacemaker"];
    ends(&node.run(&[PROGRAM, "ips"])?, UNKNOWN, &words)?;
    ends(&node.run(&[PROGRAM, "ips", "push"])?, UNKNOWN, &["was not checked", "nothing was copied"])
}
