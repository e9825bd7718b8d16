//! The Primary that is gone has rows that the other node lacks: what is given up by name, and given back when nothing came of it.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::greenarrow_pair::Pair;
use cts_tests::installed::PROVIDER_DIRECTORY;
use cts_tests::node::Node;
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

use super::{CRITICAL, OK, WARNING, comes, ends, ips, status};

/// The Primary is gone, and has rows that this node lacks: not thrown away but by an operator who says so.
pub(crate) fn the_primary_has_more(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    let peer = pair.cluster.peer(primary)?;
    let (old, new) = (pair.server(primary)?, pair.server(peer)?);
    pair.cluster.switch.restart_after(None);
    old.refuse_standbys(&[&new.address], true)?;
    let alone = || Ok(old.sql("SHOW synchronous_standby_names")?.is_empty());
    wait::until("commits to wait for nobody", SETTLE, wait::TOOL, alone)?;
    let words = [&format!("the database on {} does not have all that was written", peer.name), "nothing was changed"];
    // Before the standby's next monitor the command knows nothing of it: it would move, and put everything back.
    let known = || Ok(ends(&pair.run(peer, &["hvmail_ha", "preflight", &peer.name])?, 1, &words[..1]).is_ok());
    wait::until("it to be known that the standby lacks something", SETTLE, wait::TOOL, known)?;
    ends(&pair.run(peer, &["hvmail_make_primary", "--force"])?, 1, &words)?;
    ends(&pair.run(primary, &["hvmail_make_secondary"])?, 1, &[&words[..], &["--stop"]].concat())?;
    thread::sleep(Duration::from_secs(1));
    old.refuse_standbys(&[&new.address], false)?;
    primary.power_cut()?;
    comes(pair, peer, CRITICAL, &[&format!("{}: not in the cluster", primary.name), "last fenced"])?;
    let fact = format!("{} acknowledged commits that the database on {} lacks", primary.name, peer.name);
    let words = [fact.as_str(), "--accept-data-loss=database", "nothing was changed"];
    let refusal = || Ok(ends(&pair.run(peer, &["hvmail_make_primary"])?, 1, &words).is_ok());
    wait::until("the refusal once the failed promotion is dealt with", SETTLE, wait::TOOL, refusal)?;
    ends(&pair.run(peer, &["hvmail_make_primary", "--force"])?, 1, &words)?;
    given_back(pair, peer)?;
    // Refused once more it may be, until the agent has heard that it lacks nothing any more.
    let again = || {
        let output = pair.run(peer, &["hvmail_make_primary"])?;
        println!("killed and repeated:\n{}", output.all());
        Ok(output.code() == Some(OK))
    };
    wait::until("the same without a word of it", SETTLE, wait::TOOL, again)?;
    ensure!(pair.leftovers()?.is_empty());
    comes_back(pair, primary)
}

/// What keeps the node from being promoted, as the command line of crm_attribute.
fn word(node: &Node) -> [&str; 8] {
    ["crm_attribute", "--lifetime", "forever", "--node", &node.name, "--name", "pg-lacks", "--query"]
}

/// The promotion fails, so that the consent, which was for it alone, is taken back; and a command that is killed before it has.
fn given_back(pair: &Pair, node: &Node) -> Result<()> {
    const CRM_ATTRIBUTE: &str = "/usr/sbin/crm_attribute";
    let orders = ["hvmail_make_primary", "--accept-data-loss=database"];
    let lacks = || -> Result<bool> { Ok(node.run(&word(node))?.code() == Some(0)) };
    let agent = format!("{PROVIDER_DIRECTORY}/postgresql");
    let stand_in = |program: &str, case: &str| {
        ips::stand_in(node, program, &format!("#!/bin/sh\ncase \" $* \" in {case} esac\nexec REAL \"$@\"\n"))
    };
    let usual = |program: &str| node.text(&["mv", &format!("{program}.real"), program]).map(drop);
    stand_in(&agent, "*\" promote \"*) echo 'ocf-exit-reason:the rig refuses' >&2; exit 1 ;;")?;
    let refused = pair.run(node, &orders)?;
    println!("refused, and given back:\n{}", refused.all());
    ends(&refused, 2, &["the rig refuses", "acknowledged alone is not given up any more"])?;
    ensure!(lacks()?, "the word of the primary that is gone is not there again");

    stand_in(CRM_ATTRIBUTE, "*\" pg-lacks --update \"*) sleep 3600 ;;")?;
    let mut running = node.command(&orders)?.start(Stdio::null())?;
    let giving = || node.processes(|argv| argv.windows(2).any(|two| two == ["pg-lacks", "--update"]));
    wait::until("it to be given back", SETTLE, wait::QUICK, || Ok(!giving()?.is_empty()))?;
    let own = node.processes(|argv| argv.first().is_some_and(|word| word.ends_with(orders[0])))?;
    ensure!(!own.is_empty(), "{} has ended before it was killed", orders[0]);
    own.into_iter().chain(giving()?).try_for_each(|pid| process::signal(pid, Signal::SIGKILL).map(drop))?;
    let _ = running.wait();
    usual(CRM_ATTRIBUTE)?;
    ensure!(!lacks()?, "it was to be killed before");
    usual(&agent)
}

fn set_rejoin(pair: &Pair, way: &str) -> Result<()> {
    let words = ["crm_resource", "--resource", "pg", "--set-parameter", "rejoin", "--parameter-value", way];
    pair.cluster.tool(&words).map(drop)
}

/// The old primary, which has rows that nobody else has, is not started; what its operator is shown and has named is thrown
/// away, once, and the rest of it comes back.
fn comes_back(pair: &Pair, node: &Node) -> Result<()> {
    set_rejoin(pair, "manual")?;
    node.power_on()?;
    node.start_cluster()?;
    let refused = || Ok(pair.run(node, &["hvmail_ha", "rejoin"])?.all().contains("that no other node has"));
    wait::until("the start of the old primary to be refused", SETTLE, wait::TOOL, refused)?;
    pair.cluster.wait_idle()?;
    let finding = format!("on {}: hvmail_ha rejoin", node.name);
    ends(&status(pair, pair.cluster.peer(node)?, &[])?, WARNING, &["parted from the primary", &finding])?;
    let shown = pair.run(node, &["hvmail_ha", "rejoin"])?;
    let words = ["bytes of log that no other node has", "data.diverged", "pg_rewind from", "--throw-away=NODE"];
    ends(&shown, 1, &words)?;
    let other = &pair.cluster.peer(node)?.name;
    let wrong = pair.run(node, &["hvmail_ha", "rejoin", &format!("--throw-away={other}")])?;
    ends(&wrong, 1, &[&format!("\"{other}\" is not {}", node.name), "nothing was changed"])?;
    ends(&pair.run(pair.cluster.peer(node)?, &["hvmail_ha", "rejoin"])?, OK, &["nothing to do"])?;
    let typed = |name: &str| {
        let order = ["script", "--quiet", "--return", "--command", "hvmail_ha rejoin", "/dev/null"];
        node.command(&order)?.stdin(format!("{name}\n")).within(Duration::from_secs(120)).run()
    };
    ends(&typed("yes")?, 1, &["Type the name", "\"yes\" is not", "nothing was changed"])?;
    let done = typed(&node.name)?;
    println!("{}", done.all());
    ends(&done, OK, &["the cluster was asked to start it", &format!("is a standby of {other}")])?;
    ends(&pair.run(node, &["hvmail_ha", "rejoin"])?, OK, &["nothing to do"])?;
    let server = pair.server(node)?;
    ensure!(server.streams(), "{} does not stream", node.name);
    let kept = node.text(&["find", &format!("{}.diverged", server.data), "-type", "f"])?;
    ensure!(kept.lines().count() > 0, "no log is kept");
    let left = node.text(&["find", "/run/resource-agents", "-name", "*.permitted"])?;
    ensure!(left.is_empty(), "left: {left}");
    set_rejoin(pair, "rewind")
}
