//! ocf:greenarrow:postgresql in clusters that are set up otherwise: nobody waits for the standby, two standbys of which
//! one is waited for, standbys that stream what they should not.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::postgres::{Server, USUAL};
use cts_tests::postgres_pair::{Pair, address, with_cluster};
use cts_tests::wait;

/// The node of the primary loses its power.
fn power_cut(pair: &Pair) -> Result<(Server, Server)> {
    after(pair, |primary| pair.cluster.node(&primary.name)?.power_cut())
}

/// Another one is promoted, and the old primary comes back as a standby.
fn after(pair: &Pair, power_cut: impl FnOnce(&Server) -> Result<()>) -> Result<(Server, Server)> {
    let (old, began) = (pair.primary()?.0.clone(), Instant::now());
    power_cut(&old)?;
    let moved = || Ok(pair.primary().is_ok_and(|(primary, _)| primary.name != old.name));
    wait::until("another node to be promoted", SETTLE, wait::TOOL, moved)?;
    pair.healthy()?;
    ensure!(pair.cluster.switch.since(began).len() == 1, "one fencing was to be");
    let timelines = pair.servers.iter().map(|server| server.sql("SELECT timeline_id FROM pg_control_checkpoint()"));
    println!("  timelines by control file: {:?}", timelines.collect::<Result<Vec<_>>>()?);
    ensure!(!pair.cluster.tool(&["cibadmin", "--query", "--scope", "constraints"])?.contains("rsc_location"));
    Ok((old, pair.primary()?.0.clone()))
}

#[test]
fn where_nobody_waits_what_is_lost_is_counted_and_kept_aside() -> Result<()> {
    with_cluster(USUAL, || {
        let pair = Pair::start(USUAL, 2, &[("sync", "off"), ("rejoin", "basebackup")])?;
        pair.play("power cut, asynchronous", |pair| {
            power_cut(pair)?;
            println!("  {} rows that were acknowledged are lost", pair.lost()?);
            Ok(())
        })?;
        pair.play("rows of its own, and a base backup", |pair| {
            let (old, new) = after(pair, |primary| pair.die_with_rows_of_its_own(primary))?;
            old.await_replay(&new)?;
            ensure!(old.sql("SELECT count(*) FROM audit WHERE id < 0")? == "0", "the rows of its own are still there");
            let log = pair.log(&old)?;
            ensure!(log.contains("is kept as") && log.contains("are kept in"), "{log}");
            let kept = old.command(&["find", &format!("{}.diverged", old.data), "-type", "f"])?.text()?;
            ensure!(kept.contains("/timeline-"), "the log of its own is not kept: {kept:?}");
            let removed = || Ok(pair.log(&old)?.contains(", which that replaced, was removed"));
            wait::until("the old directory to be removed", SETTLE, wait::TOOL, removed)?;
            ensure!(!old.command(&["test", "-e", &format!("{}.old", old.data)])?.run()?.status.success());
            Ok(())
        })
    })
}

#[test]
fn of_two_standbys_one_is_waited_for_and_both_are_looked_after() -> Result<()> {
    with_cluster(USUAL, || {
        let parameters = [("sync", "prefer"), ("rejoin", "rewind"), ("use_slots", "yes")];
        let pair = Pair::start(USUAL, 3, &parameters)?;
        let states = "SELECT string_agg(sync_state, ' ' ORDER BY sync_state DESC) FROM pg_stat_replication";
        let waits = || Ok(pair.primary()?.0.sql(states)? == "sync potential");
        wait::until("commits to wait for one of them", SETTLE, wait::TOOL, waits)?;
        pair.play("power cut, three nodes", |pair| {
            power_cut(pair)?;
            ensure!(pair.lost()? == 0, "acknowledged rows are lost");
            Ok(())
        })?;
        pair.play("standbys that stream what they should not", |pair| {
            let (primary, standbys) = pair.primary()?;
            let standby = standbys[0];
            let thorough = |server: &Server| pair.monitor_thoroughly(server, &parameters);
            let sound = || Ok(thorough(standby)? == (0, String::new()));
            wait::until("the standby to be sound", SETTLE, wait::TOOL, sound)?;
            ensure!(thorough(primary)?.0 == 8);
            let said = |setting: &str, server: &Server, words: &str| -> Result<()> {
                standby.sql(&format!("ALTER SYSTEM SET {setting}"))?;
                standby.sql("SELECT pg_reload_conf()")?;
                let says = || Ok(thorough(server)?.1.contains(words));
                wait::until(&format!("{words:?}"), Duration::from_secs(30), wait::TOOL, says)?;
                standby.sql("ALTER SYSTEM RESET ALL")?;
                standby.sql("SELECT pg_reload_conf()")?;
                wait::until("the standby to be sound again", SETTLE, wait::TOOL, sound).map(drop)
            };
            // The primary answers at the service address too, and it may be another's tomorrow.
            let elsewhere = format!(
                "primary_conninfo = 'host={} user={} application_name={}'",
                address(),
                cts_tests::postgres::USER,
                standby.name
            );
            let words =
                format!("streams from {}, and the primary is {} at {}", address(), primary.name, primary.address);
            said(&elsewhere, standby, &words)?;
            let slot = format!("its slot ocf_{}", standby.name);
            said("primary_slot_name = ''", standby, &slot)?;
            said("primary_slot_name = ''", primary, &format!("{} streams without {slot}", standby.name))
        })
    })
}
