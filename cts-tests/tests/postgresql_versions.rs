//! ocf:greenarrow:postgresql with every version of PostgreSQL that can be had: the life of a pair, slots and all.

use std::time::Duration;

use anyhow::{Result, ensure};
use cts_tests::postgres::{pair, with_servers};
use cts_tests::wait;

const AMPLE: Duration = Duration::from_secs(20);

fn life_of_a_pair(version: u32) -> Result<()> {
    with_servers(version, || {
        let pair = pair()?.map(|(server, agent)| (server, agent.set("use_slots", "yes").set("sync", "prefer")));
        let [(first, one), (second, two)] = &pair;
        ensure!(first.version()? == version);
        one.succeeds(&["validate-all", "start"])?;
        two.succeeds(&["start"])?;
        one.succeeds(&["promote"])?;
        // The first monitor makes the slot that the standby waits for.
        one.exits(8, "monitor")?;
        for round in 0..2 {
            let [(old, old_agent), (new, new_agent)] = [&pair[round % 2], &pair[(round + 1) % 2]];
            new.await_streaming()?;
            let slot = format!("SELECT active FROM pg_replication_slots WHERE slot_name = 'ocf_{}'", new.name);
            wait::until("the standby to use its slot", AMPLE, wait::TOOL, || Ok(old.sql(&slot)? == "t"))?;
            old_agent.clone().env("OCF_CHECK_LEVEL", "10").exits(8, "monitor")?.without_reason()?;
            let synchronous = format!("\"{}\"", new.name);
            let waits = || Ok(old.sql("SHOW synchronous_standby_names")? == synchronous);
            wait::until("commits to wait for the standby", AMPLE, wait::TOOL, waits)?;
            new_agent.exits(0, "monitor")?.without_reason()?;
            old.sql(&format!("INSERT INTO audit SELECT generate_series({round}001, {round}100)"))?;
            old_agent.succeeds(&["demote"])?;
            new_agent.succeeds(&["promote"])?;
            ensure!(new.sql("SELECT count(*) FROM audit")? == ((round + 1) * 100).to_string());
            new_agent.exits(8, "monitor")?;
            old.await_streaming()?;
            old_agent.exits(0, "monitor")?.without_reason()?;
            ensure!(old.sql("SELECT count(*) FROM pg_replication_slots")? == "0", "a standby keeps slots");
        }
        first.signal("KILL")?;
        let answer = one.run("monitor")?;
        ensure!([7, 9].contains(&answer.status), "{answer:#?}");
        one.succeeds(&["demote", "stop", "start", "promote"])?;
        ensure!(first.sql("SELECT count(*) FROM audit")? == "200");
        second.await_streaming()?;
        one.succeeds(&["stop"])?;
        two.succeeds(&["stop"])?;
        ensure!(!first.has_processes()? && !second.has_processes()?);
        Ok(())
    })
}

#[test]
fn version_11() -> Result<()> {
    life_of_a_pair(11)
}

#[test]
fn version_13() -> Result<()> {
    life_of_a_pair(13)
}

#[test]
fn version_14() -> Result<()> {
    life_of_a_pair(14)
}

#[test]
fn version_15() -> Result<()> {
    life_of_a_pair(15)
}

#[test]
fn version_16() -> Result<()> {
    life_of_a_pair(16)
}

#[test]
fn version_17() -> Result<()> {
    life_of_a_pair(17)
}

#[test]
fn version_18() -> Result<()> {
    life_of_a_pair(18)
}
