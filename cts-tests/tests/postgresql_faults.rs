//! What ocf:greenarrow:postgresql says and does when something is wrong: with the server, its files, or the node.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::agent::Agent;
use cts_tests::command::{Running, command};
use cts_tests::postgres::{DIRECTORY, Server, USER, USUAL, pair, streaming_pair, with_servers};
use cts_tests::{packages, wait};

const AMPLE: Duration = Duration::from_secs(20);

/// The first of a pair, promoted; the other is not started.
fn primary() -> Result<(Server, Agent)> {
    let [(server, agent), _] = pair()?;
    agent.succeeds(&["start", "promote"])?;
    Ok((server, agent))
}

/// Sessions that hold a connection until they are dropped.
fn occupy(server: &Server, count: usize) -> Result<Vec<Running>> {
    let sessions = ["-h", server.home(), "-Xd", "postgres"];
    (0..count).map(|_| server.program("psql", &sessions)?.start(Stdio::null())).collect()
}

#[test]
fn a_monitor_starts_no_program() -> Result<()> {
    packages::require(packages::CHECKS)?;
    with_servers(USUAL, || {
        let [(_, first), (_, second)] = streaming_pair(&[])?;
        starts_nothing(&first, 8)?;
        starts_nothing(&second, 0)
    })
}

/// Also where Pacemaker runs: there is nothing to tell it of nodes whose names nobody said.
#[test]
fn a_monitor_starts_no_program_where_nodes_have_no_names() -> Result<()> {
    packages::require(packages::CHECKS)?;
    with_servers(USUAL, || {
        fs::copy("/bin/sleep", "/run/pacemaker-execd")?;
        let _daemon = command(["/run/pacemaker-execd", "60"]).start(Stdio::null())?;
        let [(_, agent), _] = pair()?;
        let agent = agent.set("primary_hosts", "192.0.2.9");
        agent.succeeds(&["start", "promote"])?;
        starts_nothing(&agent, 8)
    })
}

fn starts_nothing(agent: &Agent, exit: i32) -> Result<()> {
    agent.exits(exit, "monitor")?;
    let trace = ["strace", "-f", "-qq", "-e", "trace=execve,fork,vfork,clone,clone3", "-o", "/run/trace"];
    ensure!(agent.command(&trace, "monitor").run()?.code() == Some(exit));
    let calls = fs::read_to_string("/run/trace")?;
    let calls: Vec<_> = calls.lines().filter(|line| line.contains('(')).collect();
    // The first is the agent's own; the other is the thread that speaks with the server.
    ensure!(matches!(calls[..], [_, _]) && calls[0].contains("execve("), "{calls:#?}");
    ensure!(calls[1].contains("CLONE_THREAD"), "{calls:#?}");
    Ok(())
}

#[test]
fn a_full_server_is_degraded_and_not_failed() -> Result<()> {
    with_servers(USUAL, || {
        let [(server, agent), _] = pair()?;
        server.append(
            "postgresql.conf",
            "max_connections = 5\nsuperuser_reserved_connections = 0\nmax_wal_senders = 1\n",
        )?;
        // A standby does not start with less than its primary had when it last ran.
        server.while_running(|| Ok(()))?;
        agent.succeeds(&["start", "promote"])?;
        let mut sessions = occupy(&server, 4)?;
        // The question itself takes a connection, and may have it when a session asks for the last one; one that was answered may
        // have it for a moment still.
        let mut refused = 0;
        wait::until("the connections to be taken", AMPLE, wait::TOOL, || {
            let free = server.sql("SELECT 1").is_ok();
            sessions.extend(occupy(&server, usize::from(free))?);
            refused = if free { 0 } else { refused + 1 };
            Ok(refused == 3)
        })?;
        agent.exits(191, "monitor")?.says(&["53300", "max_connections"])?;
        agent.exits(191, "probe")?;
        drop(sessions);
        wait::until("the connections to be free", AMPLE, wait::TOOL, || Ok(server.sql("SELECT 1").is_ok()))?;
        agent.exits(8, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_server_that_stands_still_is_noticed_in_time_and_stopped() -> Result<()> {
    with_servers(USUAL, || {
        let (server, agent) = primary()?;
        let agent = agent.within(Duration::from_secs(6));
        server.signal("STOP")?;
        let begun = Instant::now();
        agent.exits(9, "monitor")?.says(&["accepts connections and says nothing for"])?;
        ensure!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
        agent.succeeds(&["stop"])?;
        ensure!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
        ensure!(!server.has_processes()?);
        agent.exits(7, "monitor")?.without_reason()?;
        agent.succeeds(&["start", "promote"])?;
        Ok(())
    })
}

#[test]
fn a_killed_postmaster_is_noticed_and_started_again_with_all_it_acknowledged() -> Result<()> {
    with_servers(USUAL, || {
        let (server, agent) = primary()?;
        server.sql("INSERT INTO audit SELECT generate_series(1, 1000)")?;
        server.signal("KILL")?;
        let answer = agent.run("monitor")?;
        ensure!([7, 9].contains(&answer.status) && !answer.reason.is_empty(), "{answer:#?}");
        agent.succeeds(&["demote", "stop", "start", "promote"])?;
        ensure!(server.sql("SELECT count(*) FROM audit")? == "1000");
        agent.exits(8, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_crashed_backend_is_the_servers_own_affair() -> Result<()> {
    with_servers(USUAL, || {
        let (server, agent) = primary()?;
        for _ in 0..5 {
            let pid = server.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")?;
            command(["kill", "-s", "KILL", &pid]).text()?;
            let answer = agent.run("monitor")?;
            ensure!([8, 191].contains(&answer.status), "{answer:#?}");
            wait::until("the server to have recovered", AMPLE, wait::TOOL, || Ok(server.sql("SELECT 1").is_ok()))?;
        }
        agent.exits(8, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_stop_needs_no_configuration_no_programs_and_no_directory() -> Result<()> {
    with_servers(USUAL, || {
        let [(server, agent), _] = pair()?;
        agent.succeeds(&["start", "promote"])?;
        server.append("postgresql.conf", "this is no configuration\n")?;
        agent.succeeds(&["stop"])?;
        ensure!(!server.has_processes()?);
        agent.exits(2, "start")?.says(&["postgresql.conf", "line"])?;
        let sound = server.read("postgresql.conf")?.replace("this is no configuration\n", "");
        server.write("postgresql.conf", &sound)?;
        agent.succeeds(&["start"])?;
        let lost = agent.clone().set("bindir", "/nowhere").set("system_user", "no-such-user").set("maxlag", "many");
        lost.succeeds(&["stop"])?;
        ensure!(!server.has_processes()?);
        agent.succeeds(&["start"])?;
        let aside = format!("{}-aside", server.data);
        fs::rename(&server.data, &aside)?;
        agent.exits(1, "monitor")?.says(&["pg_control"])?;
        agent.succeeds(&["stop"])?;
        ensure!(!server.moved_to(&aside).has_processes()?);
        agent.exits(7, "monitor")?;
        fs::rename(&aside, &server.data)?;
        agent.succeeds(&["start"])?;
        Ok(())
    })
}

#[test]
fn what_hinders_a_start_is_named_with_its_remedy() -> Result<()> {
    with_servers(USUAL, || {
        let [(server, agent), _] = pair()?;
        let sound = server.read("postgresql.conf")?;
        let data = server.data.as_str();
        server.write("postgresql.conf", &sound.replace("include_if_exists", "#include_if_exists"))?;
        agent.exits(2, "start")?.says(&["add the line", "include_if_exists", "add_include=true"])?;
        let adding = agent.clone().set("add_include", "true");
        adding.succeeds(&["start", "stop"])?;
        ensure!(server.read("postgresql.conf")?.matches("\ninclude_if_exists").count() == 1);
        server.write("postgresql.conf", &sound)?;

        server.append("postgresql.auto.conf", "primary_conninfo = 'host=192.0.2.1'\n")?;
        agent.exits(2, "start")?.says(&["ALTER SYSTEM RESET primary_conninfo", "postgresql.auto.conf"])?;
        server.write("postgresql.auto.conf", "")?;

        agent.clone().set("pgport", "5499").exits(2, "start")?.says(&["port 5432", "pgport is 5499"])?;

        server.write("recovery.conf", "standby_mode = 'on'\n")?;
        agent.exits(2, "start")?.says(&["recovery.conf is there", "does not start with it"])?;
        fs::remove_file(format!("{data}/recovery.conf"))?;
        server.write("recovery.signal", "")?;
        agent.exits(2, "start")?.says(&["recovery.signal"])?;
        fs::remove_file(format!("{data}/recovery.signal"))?;

        command(["chmod", "777", data]).text()?;
        agent.exits(4, "start")?.says(&["chmod 700"])?;
        command(["chmod", "700", data]).text()?;
        agent.clone().set("system_user", "daemon").exits(4, "start")?.says(&["belongs to nobody and not to daemon"])?;

        agent.clone().set("bindir", "/usr/bin").exits(5, "start")?.says(&["/usr/bin", "set bindir"])?;
        agent.clone().set("pgdata", "/nowhere").exits(5, "start")?.says(&["/nowhere"])?;
        server.write("PG_VERSION", "12\n")?;
        agent.exits(5, "start")?.says(&["PostgreSQL 12"])?;
        server.write("PG_VERSION", &format!("{USUAL}\n"))?;

        let port = std::net::TcpListener::bind("127.0.0.1:5432")?;
        agent.exits(1, "start")?.says(&["ended at its start", "5432"])?;
        drop(port);
        agent.succeeds(&["start"])?;
        Ok(())
    })
}

#[test]
fn a_leftover_pid_file_of_another_process_is_no_hindrance() -> Result<()> {
    with_servers(USUAL, || {
        let (server, agent) = primary()?;
        let kept = server.read("postmaster.pid")?;
        server.signal("KILL")?;
        wait::until("the server to be gone", AMPLE, wait::TOOL, || Ok(!server.has_processes()?))?;
        // A process of the same user now has the number, as after a reboot: PostgreSQL itself would not start.
        let other = server.program("pg_isready", &["-h", "192.0.2.1", "-t", "60"])?.start(Stdio::null())?;
        let pid = kept.lines().next().unwrap_or_default();
        server.write("postmaster.pid", &kept.replacen(pid, &other.pid().to_string(), 1))?;
        agent.exits(7, "probe")?;
        agent.succeeds(&["start", "promote"])?;
        Ok(())
    })
}

#[test]
fn a_server_that_refuses_the_agent_is_degraded_and_says_what_to_write() -> Result<()> {
    with_servers(USUAL, || {
        let (server, agent) = primary()?;
        let rules = server.read("pg_hba.conf")?;
        for (rule, words) in [("reject", "28000"), ("scram-sha-256", "(password missing)")] {
            server.write("pg_hba.conf", &rules.replace("local all all peer", &format!("local all all {rule}")))?;
            server.signal("HUP")?;
            let refused = || Ok(agent.run("monitor")?.status == 191);
            wait::until("the server to refuse the agent", AMPLE, wait::TOOL, refused)?;
            agent.exits(191, "monitor")?.says(&[words, &format!("local all {USER} peer")])?;
        }
        server.write("pg_hba.conf", &rules)?;
        server.signal("HUP")?;
        wait::until("the server to let the agent in", AMPLE, wait::TOOL, || Ok(agent.run("monitor")?.status == 8))?;
        Ok(())
    })
}

#[test]
fn a_socket_that_was_removed_is_doubt() -> Result<()> {
    with_servers(USUAL, || {
        let (server, agent) = primary()?;
        fs::remove_file(format!("{}/.s.PGSQL.5432", server.home()))?;
        agent.exits(9, "monitor")?.says(&["cannot connect to", "restart it"])?;
        agent.succeeds(&["stop"])?;
        ensure!(!server.has_processes()?);
        Ok(())
    })
}

#[test]
fn a_server_stopped_or_promoted_behind_the_clusters_back_is_told_as_it_is() -> Result<()> {
    with_servers(USUAL, || {
        let (server, agent) = primary()?;
        let sessions = occupy(&server, 1)?;
        wait::until("the session", AMPLE, wait::TOOL, || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'psql'";
            Ok(server.sql(sql)? == "2")
        })?;
        // A smart shutdown does not end while somebody is connected.
        server.signal("TERM")?;
        agent.exits(9, "monitor")?.says(&["somebody other than the cluster is stopping"])?;
        drop(sessions);
        wait::until("the server to be gone", AMPLE, wait::TOOL, || Ok(!server.has_processes()?))?;
        agent.exits(7, "monitor")?.says(&["nobody of the cluster stopped it"])?;
        agent.succeeds(&["start"])?;
        server.control(&["promote"])?;
        agent.exits(191, "monitor")?.says(&["promoted, and not by the cluster"])?;
        agent.exits(1, "start")?.says(&["demote it"])?;
        agent.succeeds(&["demote"])?;
        agent.exits(0, "monitor")?;
        Ok(())
    })
}

#[test]
fn tables_dropped_under_it_or_a_whole_database_do_not_matter_to_a_monitor() -> Result<()> {
    with_servers(USUAL, || {
        let (_, agent) = primary()?;
        agent.clone().set("monitor_db", "no_such_database").exits(191, "monitor")?.says(&["3D000", "monitor_db"])?;
        agent.clone().env("OCF_CHECK_LEVEL", "10").exits(8, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_disk_that_is_nearly_full_is_told() -> Result<()> {
    with_servers(USUAL, || {
        let (server, agent) = primary()?;
        let agent = agent.set("disk_min_free", "99");
        let ballast = format!("{}/ballast", server.home());
        command(["fallocate", "-l", "400M", &ballast]).text()?;
        agent.exits(191, "monitor")?.says(&["% free; disk_min_free is 99"])?;
        fs::remove_file(ballast)?;
        ensure!(fs::exists(DIRECTORY)?);
        Ok(())
    })
}

#[test]
fn a_standby_stays_one_without_its_signal_file_and_a_half_rewound_directory_stays_down() -> Result<()> {
    with_servers(USUAL, || {
        let [(server, agent), _] = pair()?;
        agent.succeeds(&["start"])?;
        fs::remove_file(format!("{}/standby.signal", server.data))?;
        agent.succeeds(&["stop", "start"])?;
        agent.exits(0, "monitor")?;
        agent.succeeds(&["stop"])?;
        let marker = format!("{}.rewinding", server.data);
        fs::write(&marker, "")?;
        agent.exits(2, "start")?.says(&["interrupted", "rejoin=basebackup", &marker])?.logs(&["pg_basebackup"])?;
        ensure!(!server.has_processes()?);
        agent.succeeds(&["stop"])?;
        fs::remove_file(marker)?;
        agent.succeeds(&["start"])
    })
}
