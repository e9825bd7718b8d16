//! The demonstration in virtual machines: the whole chain behind a real DRBD, moved by the operator's command and by a power
//! cut.

use std::time::Instant;

use anyhow::Result;
use cts_tests::postgres::{self, USUAL};
use cts_tests::vm::chain::{ADDRESSES, Agents, Chain};
use cts_tests::vm::qemu;

use crate::screen::Screen;
use crate::steps::seconds;

/// Plays every step, then prints the outages in a table.
pub(crate) fn play(screen: &Screen) -> Result<()> {
    let how = if qemu::has_kvm() { "on KVM" } else { "emulated: this machine has no KVM" };
    screen.say(&format!(
        "two virtual machines ({how}), Corosync and Pacemaker with fencing, DRBD 8.4 and a file system on it, PostgreSQL and \
         {ADDRESSES} addresses,"
    ));
    screen.say("configured by what `hvmail_ha configure --xml` prints");
    let began = Instant::now();
    postgres::put_in_place(USUAL)?;
    let chain = Chain::start(Agents::Own { beside: &[], services: false }, 1)?;
    steps(&chain, screen, began).map_err(|error| error.context(chain.dump()))
}

fn steps(chain: &Chain, screen: &Screen, began: Instant) -> Result<()> {
    let primary = chain.healthy()?;
    screen.say(&format!("start: {} from nothing to a pair in sync, on {}", seconds(began.elapsed()), primary.name));

    let began = Instant::now();
    screen.say(&format!("{}: hvmail_make_secondary", primary.name));
    let moved = chain.make_secondary(|line| screen.say(&format!("  {line}")))?;
    let primary = settled(chain, screen, began)?;

    let began = Instant::now();
    screen.say(&format!("power cut of {primary}"));
    let cut = chain.killed()?;
    screen.say(&format!("{primary} was fenced, and everything is on the other: {}", cut.describe()));
    chain.cleanup()?;
    settled(chain, screen, began)?;

    screen.say("longest silence, measured from outside: of the database by writing, of an address by ping; and on the Primary, of");
    screen.say("the file system on DRBD by writing and syncing. Nothing that was acknowledged or synced is lost:");
    let [database, addresses, file_system] = ["database", "addresses", "file system"];
    screen.say(&format!("  {:26}{database:>10}{addresses:>11}{file_system:>13}", ""));
    for (name, outages) in [("hvmail_make_secondary", moved), ("power cut with fencing", cut)] {
        let [database, addresses, file_system] =
            [outages.database, outages.addresses, outages.file_system].map(seconds);
        screen.say(&format!("  {name:26}{database:>10}{addresses:>11}{file_system:>13}"));
    }
    Ok(())
}

/// Waits until both guests are in sync again and proves that nothing is lost; the name of the one that is Primary.
fn settled(chain: &Chain, screen: &Screen, began: Instant) -> Result<String> {
    let primary = chain.healthy()?;
    let kept = chain.nothing_lost(primary)?;
    let after = seconds(began.elapsed());
    screen.say(&format!("{} is Primary and the other in sync with it, {after} after that began: {kept}", primary.name));
    Ok(primary.name.clone())
}
