//! What ocf:greenarrow:postgresql says of a standby that is not let in, and what it writes to the disk to say that it can.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use cts_tests::agent::Agent;
use cts_tests::command::command;
use cts_tests::isolation::STATE;
use cts_tests::postgres::{Place, Server, USER, USUAL, pair, with_servers};
use nix::mount::{MsFlags, mount};

/// The user's home, for the password file.
const HOME: &str = "/run/home-of-the-server";
const PASSWORD_FILE: &str = "/run/home-of-the-server/.pgpass";

/// Gives the servers' user a home of its own in this process's private mount namespace: where libpq looks for .pgpass.
fn own_home() -> Result<()> {
    let moved: String = fs::read_to_string("/etc/passwd")?.lines().map(|line| at_home(line) + "\n").collect();
    let file = Path::new(STATE).join("passwd");
    fs::write(&file, moved)?;
    mount(Some(&file), "/etc/passwd", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    command(["install", "-d", "-o", USER, "-g", "nogroup", "-m", "700", HOME]).text().map(drop)
}

/// A line of passwd(5), with that home where it is the servers' user's.
fn at_home(line: &str) -> String {
    let mut fields: Vec<&str> = line.split(':').collect();
    if fields.len() == 7 && fields[0] == USER {
        fields[5] = HOME;
    }
    fields.join(":")
}

/// A pair whose standby connects with a password; both run, and the first is promoted.
fn pair_with_password() -> Result<[(Server, Agent); 2]> {
    own_home()?;
    let first = Server::new("n1", "127.0.0.1", Place::Here)?;
    let second = Server::new("n2", "127.0.0.2", Place::Here)?;
    first.initialise()?;
    first.while_running(|| first.sql("CREATE ROLE repl REPLICATION LOGIN PASSWORD 'right'").map(drop))?;
    second.copy(&first)?;
    for server in [&first, &second] {
        let rules = server.read("pg_hba.conf")?;
        let wanted = "host replication all 0.0.0.0/0";
        server.write("pg_hba.conf", &rules.replace(&format!("{wanted} trust"), &format!("{wanted} scram-sha-256")))?;
    }
    let both = [&first, &second];
    let [one, two] = [first.agent(&both)?, second.agent(&both)?].map(|agent| agent.set("replication_user", "repl"));
    write_password(&first, "right", "600")?;
    one.succeeds(&["start"])?;
    two.succeeds(&["start"])?;
    one.succeeds(&["promote"])?;
    Ok([(first, one), (second, two)])
}

fn write_password(server: &Server, password: &str, mode: &str) -> Result<()> {
    let line = format!("*:5432:*:repl:{password}\n");
    let install = ["install", "-o", USER, "-g", "nogroup", "-m", mode, "/dev/stdin", PASSWORD_FILE];
    server.command(&install)?.stdin(line).text().map(drop)
}

/// The standby's monitor, as if nothing had streamed since the node's boot and nobody had asked why.
fn deaf(agent: &Agent) -> Result<cts_tests::agent::Answer> {
    agent.exits(0, "monitor")?.without_reason()?;
    let state = |kind: &str| format!("/run/resource-agents/postgresql-pg-n2.{kind}");
    ensure!(fs::exists(state("silent"))?, "the monitor does not remember that nothing streams");
    fs::write(state("silent"), "0")?;
    let answer = agent.exits(190, "monitor")?;
    fs::remove_file(state("inquiry"))?;
    fs::remove_file(state("silent"))?;
    Ok(answer)
}

#[test]
fn a_standby_that_is_not_let_in_says_why_and_what_to_do() -> Result<()> {
    with_servers(USUAL, || {
        let [(first, one), (second, two)] = pair_with_password()?;
        second.await_streaming()?;
        two.exits(0, "monitor")?.without_reason()?;
        let again = || first.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_replication").map(drop);

        write_password(&second, "wrong", "600")?;
        again()?;
        let sentence = format!("the primary refuses the password of repl: correct it in {PASSWORD_FILE}");
        let answer = deaf(&two)?.logs(&["password authentication failed"])?;
        ensure!(answer.reason == sentence, "{answer:#?}");

        write_password(&second, "right", "644")?;
        deaf(&two)?.says(&["others may read it", &format!("chmod 600 {PASSWORD_FILE}")])?;
        fs::remove_file(PASSWORD_FILE)?;
        let sentence =
            format!("the primary wants a password: put *:5432:*:repl:PASSWORD into {PASSWORD_FILE}, mode 600");
        let answer = deaf(&two)?;
        ensure!(answer.reason == sentence, "{answer:#?}");

        let rules = first.read("pg_hba.conf")?;
        first.write("pg_hba.conf", &rules.replace("0.0.0.0/0", "192.0.2.0/24"))?;
        first.sql("SELECT pg_reload_conf()")?;
        deaf(&two)?.says(&["no primary lets the standby in", "pg_hba.conf"])?;
        first.write("pg_hba.conf", &rules)?;
        first.sql("SELECT pg_reload_conf()")?;

        // A monitor asks once a minute, and not each time.
        fs::write("/run/resource-agents/postgresql-pg-n2.silent", "0")?;
        two.exits(190, "monitor")?.logs(&["the primary was asked"])?;
        let answer = two.exits(190, "monitor")?;
        ensure!(!answer.log.contains("the primary was asked"), "{answer:#?}");

        write_password(&second, "right", "600")?;
        second.await_streaming()?;
        two.exits(0, "monitor")?.without_reason()?;
        one.exits(8, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_standby_of_another_database_is_told_so() -> Result<()> {
    with_servers(USUAL, || {
        let [(first, one), _] = pair()?;
        let stranger = Server::new("n2", "127.0.0.2", Place::Here)?;
        fs::rename(&stranger.data, format!("{}-of-the-pair", stranger.data))?;
        stranger.initialise()?;
        let two = stranger.agent(&[&first, &stranger])?;
        one.succeeds(&["start"])?;
        two.succeeds(&["start"])?;
        one.succeeds(&["promote"])?;
        deaf(&two)?.says(&["no copy of the primary's (system identifiers differ): take a new base backup"])?;
        Ok(())
    })
}

#[test]
fn check_level_10_writes_to_the_disk_and_level_0_does_not() -> Result<()> {
    with_servers(USUAL, || {
        let [(server, agent), _] = pair()?;
        agent.succeeds(&["start", "promote"])?;
        // The checkpoint of the promotion, and what follows it, is waited for.
        server.sql("CHECKPOINT")?;
        agent.exits(8, "monitor")?;
        let flushed = || server.sql("SELECT pg_current_wal_flush_lsn()");
        let messages = |from: &str| -> Result<usize> {
            let to = flushed()?;
            let dump = server.program("pg_waldump", &["-p", &format!("{}/pg_wal", server.data), "-t", "2"])?;
            let records = dump.args(["-s", from, "-e", &to, "-r", "LogicalMessage"]).run()?.stdout;
            Ok(records.lines().filter(|line| line.contains("prefix \"ocf\"")).count())
        };
        let before = flushed()?;
        server.sql("SELECT pg_logical_emit_message(false, 'test', 'x'); CHECKPOINT")?;
        agent.exits(8, "monitor")?;
        ensure!(messages(&before)? == 0, "level 0 has written");
        agent.clone().env("OCF_CHECK_LEVEL", "10").exits(8, "monitor")?.without_reason()?;
        ensure!(messages(&before)? == 1, "level 10 has not written, or not to the disk");
        Ok(())
    })
}
