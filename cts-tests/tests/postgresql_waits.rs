//! Which standby commits wait for, where what the server says of it is not yet so, or no more.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cts_tests::agent::Agent;
use cts_tests::command::command;
use cts_tests::packages;
use cts_tests::postgres::{Server, USUAL, streaming_pair, with_servers};
use cts_tests::wait;

/// Longer than a server needs to read its configuration.
const AMPLE: Duration = Duration::from_secs(20);

fn await_names(server: &Server, expected: &str) -> Result<()> {
    let set = || Ok(server.sql("SHOW synchronous_standby_names")? == expected);
    wait::until(&format!("synchronous_standby_names {expected:?}"), AMPLE, wait::TOOL, set).map(drop)
}

/// Whether the primary has told that the other node has everything.
fn is_complete() -> Result<bool> {
    let told =
        fs::read_to_string("/run/resource-agents/postgresql-pg-n1.told").context("what was told of the nodes")?;
    ensure!(told.contains("n2="), "{told:?}");
    Ok(told.contains("n2=true"))
}

/// Notified that the other node's instance is stopped, as after its fencing.
fn gone(agent: &Agent) -> Result<()> {
    let meta = [("type", "post"), ("operation", "stop"), ("stop_resource", "pg:1"), ("stop_uname", "n2")];
    let told = meta
        .iter()
        .fold(agent.clone(), |agent, (name, value)| agent.env(&format!("OCF_RESKEY_CRM_meta_notify_{name}"), value));
    told.succeeds(&["notify"])
}

#[test]
fn nothing_waits_for_a_standby_whose_power_was_cut() -> Result<()> {
    with_servers(USUAL, || {
        let [(first, one), (second, _)] = streaming_pair(&[("sync", "prefer")])?;
        one.exits(8, "monitor")?;
        await_names(&first, "\"n2\"")?;
        // Its connection stays, as that of a node that says nothing more.
        second.command(&["pkill", "-STOP", "-f", "postgres: walreceiver"])?.text()?;
        gone(&one)?;
        await_names(&first, "")?;
        one.exits(8, "monitor")?;
        ensure!(first.sql("SHOW synchronous_standby_names")?.is_empty(), "commits wait for a node that is gone");
        first.sql("INSERT INTO audit VALUES (1)").map(drop)
    })
}

/// Amid a checkpoint in haste the server says that a standby is synchronous, and lets commits go without it.
#[test]
fn a_standby_has_everything_only_when_commits_wait_for_it() -> Result<()> {
    packages::require(packages::CHECKS)?;
    with_servers(USUAL, || {
        let [(first, one), (second, _)] = streaming_pair(&[("sync", "prefer")])?;
        wait::until("the promotion to be settled", AMPLE, wait::TOOL, || {
            Ok(first.sql("SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'checkpointer'")?
                == "CheckpointerMain")
        })?;
        let checkpointer = first.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")?;
        first.sql("INSERT INTO audit SELECT 1000 + i FROM generate_series(1, 1000) i")?;
        let inject = "inject=fsync,fdatasync:delay_enter=30000000";
        let slow = command(["strace", "-qq", "-p", &checkpointer, "-e", inject, "-o", "/run/slow"]);
        let slow = slow.start(Stdio::null())?;
        wait::until("strace to hold the checkpointer", AMPLE, wait::TOOL, || {
            Ok(!fs::read_to_string(format!("/proc/{checkpointer}/status"))?.contains("TracerPid:\t0\n"))
        })?;
        let psql = ["-h", first.home(), "-Xqd", "postgres", "-c", "CHECKPOINT"];
        let _checkpoint = first.program("psql", &psql)?.start(Stdio::null())?;
        wait::until("a write to the disk that takes long", AMPLE, wait::TOOL, || {
            Ok(fs::read_to_string("/run/slow").unwrap_or_default().contains("sync("))
        })?;
        one.exits(8, "monitor")?;
        await_names(&first, "\"n2\"")?;
        ensure!(first.sql("SELECT sync_state FROM pg_stat_replication")? == "sync");
        second.command(&["pkill", "-STOP", "-f", "postgres: walreceiver"])?.text()?;
        first.sql("INSERT INTO audit VALUES (1)").context("commits wait already: this test shows nothing")?;
        second.command(&["pkill", "-CONT", "-f", "postgres: walreceiver"])?.text()?;
        one.exits(8, "monitor")?;
        ensure!(!is_complete()?, "what commits do not wait for is said to have everything");

        drop(slow);
        wait::until("the standby to have everything", AMPLE, wait::TOOL, || {
            one.exits(8, "monitor")?;
            is_complete()
        })?;
        Ok(())
    })
}
