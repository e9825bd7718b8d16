//! rejoin=basebackup of ocf:greenarrow:postgresql: the old directory stays until the new one streams, and an agent that is
//! killed in between leaves nothing that the next start does not finish.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use cts_tests::agent::Agent;
use cts_tests::postgres::{Server, USUAL, pair, with_servers};
use cts_tests::{packages, wait};

const AMPLE: Duration = Duration::from_secs(20);

/// A promoted server, and a standby that is stopped and can only be replaced: a rewind of it was interrupted.
fn broken_standby() -> Result<[(Server, Agent); 2]> {
    let [(first, one), (second, two)] = pair()?;
    let two = two.set("rejoin", "basebackup");
    one.succeeds(&["start"])?;
    two.succeeds(&["start"])?;
    one.succeeds(&["promote"])?;
    first.sql("INSERT INTO audit SELECT generate_series(1, 100)")?;
    second.await_streaming()?;
    two.succeeds(&["stop"])?;
    fs::write(beside(&second, "rewinding"), "")?;
    Ok([(first, one), (second, two)])
}

fn beside(server: &Server, what: &str) -> String {
    format!("{}.{what}", server.data)
}

fn is_there(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}

/// A start of the agent that is killed when it is about to rename `path`.
fn killed_at(agent: &Agent, path: &str) -> Result<()> {
    let before = ["strace", "-qq", "-o", "/run/trace", "-P", path, "-e", "trace=rename,renameat,renameat2", "-e"];
    let killed = ["inject=rename,renameat,renameat2:signal=KILL:when=1"];
    let output = agent.command(&[&before[..], &killed].concat(), "start").run()?;
    let trace = fs::read_to_string("/run/trace")?;
    ensure!(output.code().is_none() && trace.contains("rename"), "the agent was not killed: {output:#?}\n{trace}");
    Ok(())
}

/// The standby streams and has all rows; what was kept of the old directory is gone after a monitor.
fn is_whole(first: &Server, second: &Server, agent: &Agent) -> Result<()> {
    second.await_streaming()?;
    second.await_replay(first)?;
    ensure!(second.sql("SELECT count(*) FROM audit")? == "100");
    ensure!(!is_there(beside(second, "rewinding")) && !is_there(beside(second, "ocf-new")));
    agent.exits(0, "monitor")?.without_reason()?;
    let gone = || Ok(!is_there(beside(second, "old")) && !is_there(beside(second, "ocf-removing")));
    wait::until("the old directory to be removed", AMPLE, wait::QUICK, gone)?;
    let logged = || Ok(fs::read_to_string(cts_tests::agent::LOG_FILE)?.contains(", which that replaced, was removed"));
    wait::until("the log to say so", AMPLE, wait::QUICK, logged)?;
    ensure!(!second.has("ocf-put-aside")?);
    Ok(())
}

#[test]
fn the_old_directory_is_kept_until_the_new_one_streams() -> Result<()> {
    with_servers(USUAL, || {
        let [(first, one), (second, two)] = broken_standby()?;
        // What somebody else put there is not touched, and the directory stays as it is.
        fs::create_dir(beside(&second, "old"))?;
        two.exits(2, "start")?.says(&[&beside(&second, "old"), "move it away"])?;
        fs::remove_dir(beside(&second, "old"))?;
        // The server does not stream when the start ends, for the primary lets only the backup in.
        let rules = first.read("pg_hba.conf")?;
        two.exits(0, "start")?.logs(&["is kept as", "until the server streams"])?;
        first.refuse_standbys(&["127.0.0.2", "127.0.0.1"], true)?;
        wait::until("the standby to stream no more", AMPLE, wait::QUICK, || Ok(!second.streams()))?;
        two.exits(0, "monitor")?;
        std::thread::sleep(Duration::from_millis(500));
        ensure!(is_there(format!("{}/ocf-put-aside", beside(&second, "old"))), "removed before the new one streams");
        first.write("pg_hba.conf", &rules)?;
        first.sql("SELECT pg_reload_conf()")?;
        is_whole(&first, &second, &two)?;
        one.exits(8, "monitor")?;
        Ok(())
    })
}

#[test]
fn an_agent_killed_between_the_renames_leaves_what_the_next_start_completes() -> Result<()> {
    packages::require(packages::CHECKS)?;
    with_servers(USUAL, || {
        let [(first, _), (second, two)] = broken_standby()?;
        killed_at(&two, &beside(&second, "ocf-new"))?;
        ensure!(!is_there(&second.data) && is_there(beside(&second, "old")) && is_there(beside(&second, "ocf-new")));
        // Nothing runs, whatever is missing.
        two.exits(7, "monitor")?;
        two.succeeds(&["stop"])?;
        two.exits(7, "probe")?;
        two.exits(0, "start")?.logs(&["was interrupted half-way and is completed"])?;
        is_whole(&first, &second, &two)
    })
}

#[test]
fn an_agent_killed_before_them_or_whose_backup_is_gone_begins_anew() -> Result<()> {
    packages::require(packages::CHECKS)?;
    with_servers(USUAL, || {
        let [(first, _), (second, two)] = broken_standby()?;
        killed_at(&two, &second.data)?;
        ensure!(second.has("ocf-put-aside")? && is_there(beside(&second, "ocf-new")));
        two.succeeds(&["stop"])?;
        two.exits(0, "start")?.logs(&["a base backup of the primary is taken"])?;
        is_whole(&first, &second, &two)?;
        two.succeeds(&["stop"])?;
        fs::write(beside(&second, "rewinding"), "")?;
        killed_at(&two, &beside(&second, "ocf-new"))?;
        fs::remove_dir_all(beside(&second, "ocf-new"))?;
        two.exits(0, "start")?.logs(&["is put back", "a base backup of the primary is taken"])?;
        is_whole(&first, &second, &two)
    })
}
