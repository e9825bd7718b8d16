//! The whole chain of a pair, two DRBD resources with three volumes, file systems, PostgreSQL, addresses and services, in guests
//! under the configuration that hvmail_ha prints: moved by plan, by the operator's commands, and by a power cut. Nothing of what
//! was acknowledged may be lost, in the database and on DRBD.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::greenarrow_pair::ends;
use cts_tests::vm::chain::{Chain, with_chain};
use cts_tests::vm::chain_outages::Outages;
use cts_tests::vm::drbd::{Device, R0, R2, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::switch::Link;
use cts_tests::wait;

/// A file on each volume before every event, in KiB.
const FILE: u32 = 64;

/// What is written without the other, and a rate of the resync at which that takes two minutes.
const LARGE: u32 = 12 << 10;
const SLOW: &str = "100k";
const FAST: &str = "100M";

/// Plays an event after which the chain is on the other guest, becomes healthy by itself, and has lost nothing.
fn play(chain: &Chain, name: &str, event: impl FnOnce(&Chain) -> Result<Outages>) -> Result<()> {
    let before = chain.healthy()?;
    chain.volumes.minors().try_for_each(|minor| chain.volumes.keep(before, minor, FILE))?;
    let (began, given_up) = (Instant::now(), chain.given_up()?);
    let outages = event(chain)?;
    println!("{name}: {}", outages.describe());
    let primary = chain.healthy()?;
    nothing_given_up_but(chain, &given_up)?;
    ensure!(primary.name != before.name, "{} was to be Primary no more", before.name);
    let kept = chain.nothing_lost(primary)?;
    println!("  healthy again {:.0} s after it began; {kept}", began.elapsed().as_secs_f64());
    Ok(())
}

/// How long something takes is the emulated processor's; what Pacemaker waited for in vain is not.
fn nothing_given_up_but(chain: &Chain, before: &[String]) -> Result<()> {
    let mut now = chain.given_up()?;
    now.retain(|one| !before.contains(one));
    ensure!(now.is_empty(), "Pacemaker waited for what did not come:\n{}", now.join("\n"));
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

/// Each DRBD resource has its line, and nothing stands in the way of the other guest.
fn shown_in_health(chain: &Chain) -> Result<()> {
    let (primary, secondary) = chain.pair.primary()?;
    let status = chain.command(primary, &["hvmail_ha", "status"])?;
    print!("{}", status.all());
    ends(&status, 0, &["ok: nothing has to be seen to"])?;
    for name in [R0.name, R2.name] {
        let line = status.stdout.lines().find(|line| line.starts_with(&format!("DRBD drbd-{name} ")));
        let line = line.with_context(|| format!("{name} has no line in:\n{}", status.stdout))?;
        ensure!(line.contains("  promoted  ") && line.ends_with("  unpromoted, score 10000"), "{line}");
    }
    let ready = format!("{} could take over now", secondary.name);
    ends(&chain.command(primary, &["hvmail_ha", "preflight"])?, 0, &[&ready])
}

/// The Primary writes without the other; then the other gets what it lacks, which takes long on one volume only. As long as that
/// is so the operator's commands refuse, name what is old and nothing else, and change nothing.
fn refused_until_in_sync(chain: &Chain) -> Result<()> {
    let (began, given_up, (primary, secondary)) = (Instant::now(), chain.given_up()?, chain.pair.primary()?);
    let rack = &chain.pair.cluster.rack;
    let rate = |rate: &str| {
        rack.each(|guest| guest.text(&["drbdadm", "disk-options", &format!("--resync-rate={rate}"), R2.name]).map(drop))
    };
    rate(SLOW)?;
    rack.cut(Link::Replication);
    kept_away(chain, &[R0.name, R2.name])?;
    let [of_r0, of_r2] = [R0.name, R2.name]
        .map(|name| format!("drbd-{name} (constraint drbd-fence-by-handler-{name}-drbd-{name}-clone"));
    let written = format!("{} may have written without it)", primary.name);
    refused(chain, &[&of_r0, &of_r2, &written, "drbdadm connect r0 r2", "mend the replication link"], &[])?;

    let slow = R2.minors[1];
    chain.volumes.keep(primary, slow, LARGE)?;
    rack.mend();
    let resyncs = |one: &Device| one.connection == "SyncTarget" && one.disk == "Inconsistent";
    wait_device(secondary, slow, "being synchronised", resyncs)?;
    kept_away(chain, &[R2.name])?;
    let running = ["resync of volume 1 ", "% done", &of_r2, &written, "drbdadm connect r2;"];
    refused(chain, &running, &["drbd-r0"])?;
    let status = chain.command(secondary, &["hvmail_ha", "status"])?;
    print!("{}", status.all());
    ends(&status, 1, &["unpromoted, score 10 ", "resync of volume 1 from", "% done", "could not take over", &of_r2])?;
    let preflight = chain.command(primary, &["hvmail_ha", "preflight"])?;
    let (here, there) = (&primary.name, &secondary.name);
    let not_now = format!("{there} could not take over now: 1. DRBD on {there} is not UpToDate: {of_r2}");
    let told = format!("{here} says: resync of volume 1 to the peer");
    ends(&preflight, 1, &[&not_now, &told, "% done"])?;
    wait_device(secondary, slow, "synchronised all that time", resyncs)?;
    ensure!(chain.pair.primary()?.0.name == primary.name, "the Primary was moved");

    rate(FAST)?;
    ensure!(chain.healthy()?.name == primary.name, "the Primary was moved");
    chain.pair.fenced(began, &[])?;
    nothing_given_up_but(chain, &given_up)
}

/// Waits until the handlers keep the role of these from the other guest, and of no other.
fn kept_away(chain: &Chain, expected: &[&str]) -> Result<()> {
    let what = format!("constraints of DRBD's handlers for {expected:?}");
    wait::until(&what, SETTLE, chain.pair.cluster.step, || Ok(chain.kept_away()? == expected)).map(drop)
}

/// Asked on either side.
fn refused(chain: &Chain, words: &[&str], unsaid: &[&str]) -> Result<()> {
    let (primary, secondary) = chain.pair.primary()?;
    let not_primary = format!("{} is not made Primary", secondary.name);
    let not_secondary = format!("{} is not made Secondary", primary.name);
    let asked: [(&Guest, _, _); 2] =
        [(secondary, "hvmail_make_primary", not_primary), (primary, "hvmail_make_secondary", not_secondary)];
    for (guest, command, refusal) in asked {
        let said = chain.command(guest, &[command])?;
        println!("{command}:\n{}", said.all());
        ends(&said, 1, &[&[&*refusal, "nothing was changed"], words].concat())?;
        let more = unsaid.iter().find(|word| said.all().contains(**word));
        ensure!(more.is_none(), "{more:?} is said too:\n{}", said.all());
    }
    Ok(())
}

#[test]
fn the_chain_moves_by_plan_and_by_power_cut_and_loses_nothing() -> Result<()> {
    with_chain(&[R2], |chain| {
        shown_in_health(chain)?;
        refused_until_in_sync(chain)?;
        play(chain, "hvmail_make_primary", |chain| chain.make_primary(|line| println!("  {line}")))?;
        play(chain, "hvmail_make_secondary", |chain| chain.make_secondary(|line| println!("  {line}")))?;
        the_deciding_guest_killed(chain)
    })
}
