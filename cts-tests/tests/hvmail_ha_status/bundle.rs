//! hvmail_ha support-bundle on a node that holds passwords.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use cts_tests::greenarrow_pair::{PROGRAM, Pair};
use cts_tests::node::{Node, Owner};
use cts_tests::postgres::Server;
use cts_tests::process;
use cts_tests::subject::IP_FILE;
use nix::sys::signal::Signal;

use super::{SETTLE, UNKNOWN, WARNING, ends, wait};

/// Words that nobody who is to help needs to know.
const SECRETS: [&str; 4] = ["sesame-of-the-fence", "sesame-of-now", "sesame-of-the-standby", "sesame-of-the-link"];
pub(crate) const BUNDLE: &str = "/root/bundle.tar.gz";

/// The archive of a node that holds passwords has none of them, and what a helper asks for first.
pub(crate) fn has_no_secrets(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    let server = pair.servers.iter().find(|one| one.name == primary.name).context("a node without a server")?;
    // Set, and changed: the log then tells of the first by its name, of the change by its id alone.
    for secret in &SECRETS[..2] {
        let set = format!(
            "<primitive id=\"fence-n1\"><instance_attributes id=\"rig-secret\"><nvpair id=\"rig-passwd\" \
             name=\"passwd\" value=\"{secret}\"/></instance_attributes></primitive>"
        );
        pair.cluster.tool(&["cibadmin", "--modify", "--allow-create", "--scope", "resources", "--xml-text", &set])?;
    }
    let settings = server.read("postgresql.conf")?;
    let conninfo = format!("primary_conninfo = 'host=192.0.2.9 password=''{}'' user=b'\n", SECRETS[2]);
    server.write("postgresql.conf", &(conninfo + &settings))?;
    let drbd = format!("resource r0 {{ net {{ shared-secret \"{}\"; }} }}\n", SECRETS[3]);
    primary.write_file("/etc/drbd.d/r0.res", drbd, 0o644, Owner::Root)?;
    // Where the same word stands without a name before it; and a piece that is not to be had.
    primary.write_file("/run/resource-agents/rig.note", format!("it was {}\n", SECRETS[3]), 0o600, Owner::Root)?;
    primary.text(&["ln", "-s", "/etc/shadow", "/run/resource-agents/rig.link"])?;
    let logged = || Ok(primary.read_file("/var/log/pacemaker/pacemaker.log")?.contains(SECRETS[1]));
    wait::until("the change of the password in Pacemaker's log", SETTLE, wait::TOOL, logged)?;

    let made = pair.run(primary, &[PROGRAM, "support-bundle", "--output", BUNDLE])?;
    let link = "/run/resource-agents/rig.link: it is a link";
    ends(&made, WARNING, &[&format!("not collected: {link}"), BUNDLE, "Look through it before you send it"])?;
    ensure!(primary.text(&["stat", "--format=%a %U", BUNDLE])?.trim() == "600 root");
    unpacked(primary, server)?;

    // A password that an early line of a log names is none in the later ones, though the early line is cut off.
    let recent = pair.run(primary, &[PROGRAM, "support-bundle", "--since", "1s", "--output", "/root/recent.tar.gz"])?;
    ends(&recent, WARNING, &["/root/recent.tar.gz"])?;
    let all = primary.text(&["tar", "-xzOf", "/root/recent.tar.gz", "--wildcards", "*/pacemaker.log", "*/cib.xml"])?;
    ensure!(!all.contains("Starting Pacemaker") && all.contains("<cib "), "{all}");
    ensure!(!SECRETS.iter().any(|secret| all.contains(secret)), "a secret is in {all}");
    let wrong = pair.run(primary, &[PROGRAM, "support-bundle", "--since", "soon", "--output", "/root/none.tar.gz"])?;
    ends(&wrong, UNKNOWN, &["\"soon\" is no time"])?;

    // Neither another file's place nor a link is taken.
    primary.text(&["ln", "-s", "/root/elsewhere", "/root/link.tar.gz"])?;
    let before = primary.text(&["sha256sum", BUNDLE])?;
    for taken in [BUNDLE, "/root/link.tar.gz"] {
        let again = pair.run(primary, &[PROGRAM, "support-bundle", "--output", taken])?;
        ends(&again, UNKNOWN, &[taken, "cannot be created", "--output FILE"])?;
    }
    ensure!(primary.text(&["sha256sum", BUNDLE])? == before, "the archive was overwritten");
    ensure!(primary.run(&["test", "-e", "/root/elsewhere"])?.code() == Some(1), "the link was followed");
    ensure!(scratch(primary)?.is_empty(), "something is left in /tmp");
    killed_and_made_again(primary)?;

    server.write("postgresql.conf", &settings)?;
    primary.text(&["rm", "/etc/drbd.d/r0.res", "/run/resource-agents/rig.note", "/run/resource-agents/rig.link"])?;
    let set = "//instance_attributes[@id='rig-secret']";
    pair.cluster.tool(&["cibadmin", "--delete-all", "--force", "--xpath", set])?;
    pair.healthy().map(drop)
}

/// Where the pieces are while they are collected.
fn scratch(node: &Node) -> Result<String> {
    node.text(&["find", "/tmp", "-name", "hvmail_ha.*"])
}

/// Killed with its pieces collected in part, and killed while they are packed: there is no half of an archive, and the next one
/// takes away what is left.
fn killed_and_made_again(node: &Node) -> Result<()> {
    const AGAIN: &str = "/root/again.tar.gz";
    let order = [PROGRAM, "support-bundle", "--output", AGAIN];
    let packing = || Ok(!node.processes(|argv| argv.first().is_some_and(|word| word.ends_with("tar")))?.is_empty());
    let collecting = || Ok(!scratch(node)?.is_empty());
    let moments: [(&str, &dyn Fn() -> Result<bool>); 2] = [("collecting", &collecting), ("packing", &packing)];
    for (what, moment) in moments {
        let mut running = node.command(&order)?.start(Stdio::null())?;
        wait::until(what, SETTLE, wait::QUICK, moment)?;
        let own = node.processes(|argv| argv.iter().any(|word| word == "support-bundle"))?;
        ensure!(!own.is_empty(), "{what}: the command has ended before it was killed");
        own.into_iter().try_for_each(|pid| process::signal(pid, Signal::SIGKILL).map(drop))?;
        let _ = running.wait();
        wait::until("tar to end", SETTLE, wait::QUICK, || Ok(!packing()?))?;
        ensure!(node.run(&["test", "-e", AGAIN])?.code() == Some(1), "{what}: half of an archive is there");
    }
    ensure!(!scratch(node)?.is_empty(), "the command was killed before it had collected anything");
    ends(&node.run(&order)?, WARNING, &[AGAIN])?;
    ensure!(scratch(node)?.is_empty(), "something is left in /tmp");
    node.text(&["tar", "-tzf", AGAIN]).map(drop)
}

fn unpacked(primary: &Node, server: &Server) -> Result<()> {
    let all = primary.text(&["gzip", "--decompress", "--stdout", BUNDLE])?;
    for secret in SECRETS {
        ensure!(!all.contains(secret), "{secret} is in the archive");
    }
    let listed = primary.text(&["tar", "-xzvf", BUNDLE, "-C", "/root"])?;
    let top = listed.split('/').next().unwrap_or_default();
    let settings = format!("{}/postgresql.conf", server.data.trim_start_matches('/'));
    for (name, words) in [
        ("cib.xml", "name=\"passwd\" value=\"[removed]\""),
        ("var/log/pacemaker/pacemaker.log", "@value=[removed]"),
        (settings.as_str(), "password=''[removed]'' user=b"),
        ("etc/drbd.d/r0.res", "shared-secret \"[removed]\""),
        ("run/resource-agents/rig.note", "it was [removed]"),
        ("status.txt", "Primary"),
        ("status.json", "\"schema\": 1"),
        ("agents.txt", "pg: 8: promoted"),
        ("crm_mon.xml", "<pacemaker-result"),
        ("etc/corosync/corosync.conf", "token:"),
        ("services.txt", "hvmail-httpd: up"),
        ("addresses.txt", "eth0"),
        (IP_FILE.trim_start_matches('/'), "10.78."),
        ("MANIFEST", "etc/drbd.d/r0.res: /etc/drbd.d/r0.res: "),
        ("MANIFEST", " 1 secrets removed"),
        ("not-collected.txt", "rig.link"),
    ] {
        let content = primary.read_file(&format!("/root/{top}/{name}")).with_context(|| listed.clone())?;
        ensure!(content.contains(words), "{words} is not in {name}:\n{content}");
    }
    Ok(())
}
