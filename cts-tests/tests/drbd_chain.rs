//! The whole chain of a pair, DRBD, file system, PostgreSQL and addresses, in guests under the configuration that hvmail_ha
//! prints: moved by plan, by the operator's command, and by a power cut. Nothing of what was acknowledged may be lost, in the
//! database and on DRBD.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::vm::chain::{Chain, Outages, with_chain};

/// Pacemaker gives an action that it has lost sight of up after its timeout and cluster-delay (60 s), and does nothing before:
/// an outage as long as that is not due to the slowness of an emulated processor. 20 s is the timeout of DRBD's monitors.
const GIVEN_UP: Duration = Duration::from_secs(20 + 60);

/// Plays an event after which the chain is on the other guest, becomes healthy by itself, and has lost nothing.
fn play(chain: &Chain, name: &str, event: impl FnOnce(&Chain) -> Result<Outages>) -> Result<()> {
    let before = chain.healthy()?;
    let began = Instant::now();
    let outages = event(chain)?;
    println!("{name}: {}", outages.describe());
    let longest = outages.database.max(outages.addresses).max(outages.file_system);
    ensure!(longest < GIVEN_UP, "{name}: Pacemaker waited for something that did not come");
    let primary = chain.healthy()?;
    ensure!(primary.name != before.name, "{} was to be Primary no more", before.name);
    let kept = chain.nothing_lost(primary)?;
    println!("  healthy again {:.0} s after it began; {kept}", began.elapsed().as_secs_f64());
    Ok(())
}

/// With the node goes its controller, and the other's takes over what that was at.
fn the_deciding_guest_killed(chain: &Chain) -> Result<()> {
    if !chain.primary_decides()? {
        play(chain, "planned switchover", Chain::switchover)?;
    }
    ensure!(chain.primary_decides()?, "the controllers have changed places");
    play(chain, "guest killed", Chain::killed)
}

#[test]
fn the_chain_moves_by_plan_and_by_power_cut_and_loses_nothing() -> Result<()> {
    with_chain(|chain| {
        play(chain, "planned switchover", Chain::switchover)?;
        play(chain, "hvmail_make_secondary", |chain| chain.make_secondary(|line| println!("  {line}")))?;
        the_deciding_guest_killed(chain)
    })
}
