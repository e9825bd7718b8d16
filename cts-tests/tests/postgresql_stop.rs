//! A server that does not end when it is told to: what ocf:greenarrow:postgresql tries next, and what is left then.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use cts_tests::agent::Agent;
use cts_tests::command::Running;
use cts_tests::postgres::{Server, USUAL, pair, streaming_pair, with_servers};
use cts_tests::wait;

const AMPLE: Duration = Duration::from_secs(20);

/// A session whose process does not hear what it is told, as one that waits for a disk.
fn deaf_session(server: &Server) -> Result<Running> {
    let psql = ["-h", server.home(), "-Xqd", "postgres", "-c", "SELECT pg_sleep(1000)"];
    let session = server.program("psql", &psql)?.start(Stdio::null())?;
    let asked = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND pid <> pg_backend_pid()";
    let (pid, _) = wait::until_some("the session's process", AMPLE, wait::TOOL, || {
        Ok(Some(server.sql(asked)?).filter(|pid| !pid.is_empty()))
    })?;
    server.command(&["kill", "-STOP", &pid])?.text()?;
    Ok(session)
}

/// What ended it, from the first try to the last.
fn ends(server: &Server, agent: &Agent, action: &str, shares: &str, words: &[&str], unsaid: &[&str]) -> Result<()> {
    let _session = deaf_session(server)?;
    let agent = agent.clone().set("stop_mode_timeouts", shares).within(AMPLE);
    let answer = agent.exits(0, action)?.logs(words)?;
    let said = unsaid.iter().find(|word| answer.log.contains(**word));
    ensure!(said.is_none(), "{said:?} is said: {answer:#?}");
    Ok(())
}

const FAST: &str = "a fast shutdown did not end the server";
const IMMEDIATE: &str = "an immediate shutdown did not end the server";

#[test]
fn a_stop_goes_from_fast_to_immediate_to_force() -> Result<()> {
    with_servers(USUAL, || {
        let [(server, agent), _] = pair()?;
        agent.succeeds(&["start", "promote"])?;
        // A postmaster gives its processes five seconds of an immediate shutdown (SIGKILL_CHILDREN_AFTER_SECS, postmaster.c).
        ends(&server, &agent, "stop", "10 60", &[FAST], &[IMMEDIATE])?;
        ensure!(!server.has_processes()?);
        agent.succeeds(&["start", "promote"])?;
        ends(&server, &agent, "stop", "10 10", &[FAST, IMMEDIATE], &[])?;
        ensure!(!server.has_processes()?);
        agent.exits(7, "monitor")?;
        agent.succeeds(&["start", "promote"])?;
        agent.exits(8, "monitor").map(drop)
    })
}

#[test]
fn a_primary_that_is_not_shut_down_in_order_becomes_a_standby_all_the_same() -> Result<()> {
    with_servers(USUAL, || {
        let [(first, one), _] = streaming_pair(&[])?;
        first.sql("INSERT INTO audit VALUES (1)")?;
        ends(&first, &one, "demote", "10 60", &[FAST, "was not shut down in order", "it recovers now"], &[])?;
        one.exits(0, "monitor")?.without_reason()?;
        one.succeeds(&["promote"])?;
        ensure!(first.sql("SELECT count(*) FROM audit")? == "1", "an acknowledged row is lost");
        Ok(())
    })
}
