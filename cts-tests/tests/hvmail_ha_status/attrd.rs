//! The daemon that keeps node attributes hangs, on the node of the command or on the other one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::greenarrow_pair::Pair;
use cts_tests::node::Node;
use cts_tests::process;
use nix::sys::signal::Signal;

use super::{OK, WARNING, ends, status};

/// Does this while the daemon of a node stands still.
fn while_it_hangs<T>(node: &Node, body: impl FnOnce() -> T) -> Result<T> {
    let daemon = |argv: &[String]| argv.first().is_some_and(|path| path.ends_with("pacemaker-attrd"));
    let pid = *node.processes(daemon)?.first().with_context(|| format!("no pacemaker-attrd on {}", node.name))?;
    process::signal(pid, Signal::SIGSTOP)?;
    let done = body();
    // Pacemaker may have started another one meanwhile.
    let _ = process::signal(pid, Signal::SIGCONT);
    Ok(done)
}

fn ended_soon(began: Instant) -> Result<()> {
    ensure!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    Ok(())
}

/// The agents would wait for it while nothing is served: a refusal by either command, on the node where it hangs.
pub(crate) fn hangs(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    let peer = pair.cluster.peer(primary)?;
    let words = ["not everything was seen from here", "systemctl status pacemaker", "--force", "nothing was changed"];
    for (node, command) in [(primary, "hvmail_make_secondary"), (peer, "hvmail_make_primary")] {
        let began = Instant::now();
        let (seen, refused) = while_it_hangs(node, || (status(pair, node, &[]), pair.run(node, &[command])))?;
        let refused = refused?;
        println!("attrd hangs on {}, {command}:\n{}", node.name, refused.all());
        ends(&seen?, WARNING, &["not seen: ips-ip-list", "Primary", "Secondary"])?;
        ends(&refused, 1, &words)?;
        ended_soon(began)?;
        is_as_it_was(pair, primary)?;
    }
    on_the_other_node(pair)
}

fn is_as_it_was(pair: &Pair, primary: &Node) -> Result<()> {
    ensure!(pair.writer.silence() < Duration::from_secs(2), "the database was to go on");
    ensure!(pair.healthy()?.name == primary.name, "{} was to be Primary", primary.name);
    let left = pair.leftovers()?;
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

/// On the other node it is not seen to hang. The agents there wait for it, each for a few seconds, and the move comes about.
fn on_the_other_node(pair: &Pair) -> Result<()> {
    let primary = pair.healthy()?;
    let peer = pair.cluster.peer(primary)?;
    let began = Instant::now();
    let moved = while_it_hangs(primary, || pair.run(peer, &["hvmail_make_primary"]))??;
    println!("attrd hangs on the other node; {:.1} s:\n{}", began.elapsed().as_secs_f64(), moved.all());
    ends(&moved, OK, &[&format!("{} is Primary and serves", peer.name)])?;
    ensure!(pair.cluster.switch.since(began).is_empty(), "a node was fenced");
    is_as_it_was(pair, peer)
}
