//! ocf:greenarrow:postgresql as a program: in ocf-tester, by hand, reloaded, and with wrong parameters.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use cts_tests::agent::Agent;
use cts_tests::command::command;
use cts_tests::postgres::{DIRECTORY, Place, Server, USER, USUAL, pair, streaming_pair, with_servers};
use cts_tests::{installed, packages, process, wait};

const AMPLE: Duration = Duration::from_secs(20);

#[test]
fn ocf_tester_has_nothing_to_say() -> Result<()> {
    packages::require(&[packages::CLUSTER, packages::CHECKS].concat())?;
    with_servers(USUAL, || {
        let server = Server::new("n1", "127.0.0.1", Place::Here)?;
        server.initialise()?;
        let agent = "/run/greenarrow/postgresql";
        fs::create_dir_all("/run/greenarrow")?;
        fs::copy(installed::agent("postgresql")?, agent)?;
        fs::set_permissions(agent, Permissions::from_mode(0o755))?;
        let parameters = [format!("pgdata={}", server.data), format!("logfile={}/server.log", server.home())];
        let parameters = parameters.iter().flat_map(|parameter| ["-o", parameter]);
        let tester = command(["ocf-tester", "-n", "pg"]).args(parameters).arg(agent).bare_environment();
        let output = tester.within(Duration::from_secs(120)).run()?;
        assert_eq!(output.all(), format!("Beginning tests for {agent}...\n{agent} passed all tests\n"));
        ensure!(!server.has_processes()?);
        Ok(())
    })
}

#[test]
fn parameters_that_cannot_be_right_are_refused_everywhere_but_in_a_stop() -> Result<()> {
    with_servers(USUAL, || {
        let [(server, agent), _] = pair()?;
        let cases = [
            ("sync", "require", "NODE:ADDRESS"),
            ("use_slots", "yes", "NODE:ADDRESS"),
            ("maxlag", "-1", "maxlag"),
            ("stop_mode_timeouts", "90 90", "95 at most"),
            ("primary_hosts", "n1:a'b n2:c", "NODE:ADDRESS"),
        ];
        for (name, value, words) in cases {
            let agent = agent.clone().set("primary_hosts", "192.0.2.9").set(name, value);
            agent.clone().env("OCF_CHECK_LEVEL", "0").exits(6, "validate-all")?.says(&[words])?;
            agent.exits(6, "start")?.says(&[words])?;
            agent.succeeds(&["stop"])?;
        }
        // What makes a clone of it may be configured after it, as pcs does; a start without that is refused.
        let plain = Agent::plain_of("postgresql", "pg")?.set("pgdata", &server.data);
        plain.clone().env("OCF_CHECK_LEVEL", "10").succeeds(&["validate-all"])?;
        plain.exits(6, "start")?.says(&["not promotable", "promotable=true"])?;
        ensure!(!server.has_processes()?);
        agent.succeeds(&["start", "promote"])?;
        agent.clone().set("maxlag", "many").exits(191, "monitor")?.says(&["maxlag=\"many\" is wrong"])?;
        // A server that was started is known without its directory; without one there is nothing to stop.
        let lost = agent.set("pgdata", "nowhere");
        lost.exits(191, "monitor")?.says(&["pgdata=\"nowhere\" is wrong"])?;
        for state in ["runs", "is gone"] {
            lost.exits(0, "stop")?;
            ensure!(!server.has_processes()?, "after a stop of a server that {state}");
            lost.exits(7, "monitor")?.says(&["no server that was started here runs"])?;
        }
        lost.exits(6, "start").map(drop)
    })
}

#[test]
fn a_mode_of_replication_is_changed_without_a_restart() -> Result<()> {
    with_servers(USUAL, || {
        let [(first, one), (second, two)] = streaming_pair(&[])?;
        let postmaster = first.postmaster()?;
        let names = |expected: &str| {
            let set = || Ok(first.sql("SHOW synchronous_standby_names")? == expected);
            wait::until(&format!("synchronous_standby_names {expected:?}"), AMPLE, wait::TOOL, set)
        };
        for (sync, expected) in [("require", "\"n2\""), ("prefer", "\"n2\""), ("off", ""), ("prefer", "\"n2\"")] {
            one.clone().set("sync", sync).succeeds(&["reload-agent"])?;
            names(expected)?;
            ensure!(first.postmaster()? == postmaster);
        }
        let prefer = one.clone().set("sync", "prefer");
        let synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        ensure!(first.sql(synchronous)? == "1");
        // Without its standby the primary goes on alone at its next monitor, and says so; with it, commits wait again.
        two.succeeds(&["stop"])?;
        prefer.exits(8, "monitor")?.logs(&["commits no longer wait"])?;
        names("")?;
        first.sql("INSERT INTO audit VALUES (1)")?;
        two.succeeds(&["start"])?;
        second.await_streaming()?;
        prefer.exits(8, "monitor")?.logs(&["commits wait for a standby"])?;
        names("\"n2\"")?;
        // With require it does not: what cannot be on two nodes is not acknowledged.
        let require = one.set("sync", "require");
        two.succeeds(&["stop"])?;
        require.exits(8, "monitor")?;
        names("\"n2\"")?;
        let insert = ["-h", first.home(), "-Xqd", "postgres", "-c", "INSERT INTO audit VALUES (2)"];
        ensure!(first.program("psql", &insert)?.within(Duration::from_secs(2)).run().is_err(), "acknowledged alone");
        two.succeeds(&["start"])?;
        second.await_streaming()?;
        first.sql("INSERT INTO audit VALUES (3)")?;
        Ok(())
    })
}

#[test]
fn a_slot_that_keeps_too_much_is_dropped_and_made_again() -> Result<()> {
    with_servers(USUAL, || {
        let [(first, one), (second, two)] = pair()?;
        let [one, two] = [one, two].map(|agent| agent.set("use_slots", "yes").set("max_slot_wal", "20000000"));
        one.succeeds(&["start"])?;
        two.succeeds(&["start"])?;
        one.succeeds(&["promote"])?;
        one.exits(8, "monitor")?;
        second.await_streaming()?;
        two.succeeds(&["stop"])?;
        let kept = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 30000000)), pg_switch_wal()";
        first.sql(kept)?;
        one.exits(191, "monitor")?.says(&["ocf_n2 keeps"])?.logs(&["slot ocf_n2 kept", "was dropped"])?;
        one.exits(8, "monitor")?.logs(&["slot ocf_n2 was made"])?;
        two.succeeds(&["start"])?;
        second.await_streaming()?;
        Ok(())
    })
}

#[test]
fn by_hand_it_says_in_words_what_it_found() -> Result<()> {
    with_servers(USUAL, || {
        let [(first, one), (second, two)] = streaming_pair(&[])?;
        let [one, two] = [one, two].map(|agent| agent.env("OCF_OUTPUT_FORMAT", "text"));
        let said = one.exits(8, "monitor")?.stdout;
        ensure!(said.starts_with("promoted: 0/") && said.ends_with(" on timeline 2; streaming to n2\n"), "{said}");
        second.await_replay(&first)?;
        let said = two.exits(0, "monitor")?.stdout;
        ensure!(said.starts_with("unpromoted: 0/") && said.ends_with("; streaming, 0 bytes behind\n"), "{said}");
        one.succeeds(&["stop"])?;
        let said = one.exits(7, "monitor")?.stdout;
        ensure!(said == format!("stopped: no process of a server stands in {}\n", first.data), "{said}");
        ensure!(Path::new("/run/resource-agents/postgresql-pg-n2.role").exists());
        Ok(())
    })
}

#[test]
fn under_supervise_only_the_cluster_starts_the_server_and_starts_it_again() -> Result<()> {
    packages::require(&["daemontools"])?;
    with_servers(USUAL, || {
        let [(server, agent), _] = pair()?;
        let service = "/run/service";
        fs::create_dir_all(service)?;
        let run = format!("#!/bin/sh\nexec setuidgid {USER} {DIRECTORY}/bin/postgres -D {} 2>&1\n", server.data);
        fs::write(format!("{service}/run"), run)?;
        fs::set_permissions(format!("{service}/run"), Permissions::from_mode(0o755))?;
        let agent = agent.set("control", "daemontools").set("service", service).set("start_opts", "");
        agent.exits(1, "start")?.says(&["touch /run/service/down"])?;
        fs::write(format!("{service}/down"), "")?;
        agent.exits(1, "start")?.says(&["does svscan run"])?;
        let supervise = command(["supervise", service]).bare_environment().start(std::process::Stdio::null())?;
        wait::until("supervise", AMPLE, wait::QUICK, || Ok(Path::new(service).join("supervise/ok").exists()))?;
        agent.exits(7, "monitor")?;
        for _ in 0..2 {
            agent.succeeds(&["start"])?;
            agent.exits(0, "monitor")?;
            let postmaster = server.postmaster()?;
            ensure!(process::children(supervise.pid()) == [postmaster], "supervise has another process");
            agent.succeeds(&["promote"])?;
            ensure!(server.postmaster()? == postmaster, "the promotion started another server");
            agent.exits(8, "monitor")?;
            agent.succeeds(&["demote"])?;
            agent.exits(0, "monitor")?;
            // With somebody connected a smart shutdown, which is all that supervise asks for, does not end.
            let session = ["-h", server.home(), "-Xd", "postgres"];
            let session = server.program("psql", &session)?.start(std::process::Stdio::null())?;
            wait::until("the session", AMPLE, wait::TOOL, || {
                let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'psql'";
                Ok(server.sql(sql)? == "2")
            })?;
            agent.succeeds(&["stop"])?;
            drop(session);
            ensure!(!server.has_processes()? && process::children(supervise.pid()).is_empty());
            agent.exits(7, "monitor")?;
        }
        agent.succeeds(&["start", "promote"])?;
        server.signal("KILL")?;
        std::thread::sleep(Duration::from_secs(2));
        ensure!(!server.has_processes()?, "supervise has started it again");
        agent.exits(7, "monitor")?;
        agent.succeeds(&["stop", "start", "promote"])?;
        // Without supervise a stop still stops.
        drop(supervise);
        agent.succeeds(&["stop"])?;
        ensure!(!server.has_processes()?);
        Ok(())
    })
}
