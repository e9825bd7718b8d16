//! Where ocf:greenarrow:postgresql finds a server, and as whom it speaks with it, where that is not as usual.

use std::fs;

use anyhow::{Result, ensure};
use cts_tests::command::command;
use cts_tests::postgres::{USER, USUAL, pair, streaming_pair, with_servers};

/// Where the configuration is then.
const CONFIGURATION: &str = "/run/etc-postgresql";
const SOCKETS: &str = "/run/sockets-of-postgresql";

#[test]
fn the_configuration_may_lie_elsewhere_as_debian_has_it() -> Result<()> {
    with_servers(USUAL, || {
        let [(server, agent), _] = pair()?;
        for directory in [CONFIGURATION, SOCKETS] {
            command(["install", "-d", "-o", USER, "-m", "755", directory]).text()?;
        }
        let data = &server.data;
        let settings = server.read("postgresql.conf")?.replace(
            &format!("unix_socket_directories = '{}'", server.home()),
            &format!(
                "unix_socket_directories = '{SOCKETS}'\ndata_directory = '{data}'\nhba_file = '{CONFIGURATION}/pg_hba.conf'\n\
                 ident_file = '{CONFIGURATION}/pg_ident.conf'"
            ),
        );
        for (name, text) in [
            ("postgresql.conf", settings),
            ("pg_hba.conf", server.read("pg_hba.conf")?),
            ("pg_ident.conf", String::new()),
        ] {
            fs::write(format!("{CONFIGURATION}/{name}"), text)?;
            fs::remove_file(format!("{data}/{name}"))?;
        }
        let agent = agent.set("pgdata", CONFIGURATION).set("datadir", data).set("pghost", SOCKETS);
        for (action, state) in [("start", 0), ("promote", 8), ("demote", 0), ("stop", 7)] {
            agent.exits(0, action)?.without_reason()?;
            agent.exits(state, "monitor")?.without_reason()?;
        }
        ensure!(!server.has_processes()?);
        Ok(())
    })
}

#[test]
fn a_role_of_its_own_may_watch() -> Result<()> {
    with_servers(USUAL, || {
        let [(first, one), (second, two)] = streaming_pair(&[])?;
        for sql in ["CREATE ROLE watch LOGIN", "GRANT pg_monitor TO watch", "CREATE DATABASE watched"] {
            first.sql(sql)?;
        }
        second.await_replay(&first)?;
        let [one, two] = [one, two].map(|agent| agent.set("monitor_user", "watch").set("monitor_db", "watched"));
        one.exits(191, "monitor")?.says(&["local all watch peer", "28000"])?;
        for server in [&first, &second] {
            let rules = server.read("pg_hba.conf")?;
            server.write("pg_hba.conf", &format!("local watched watch trust\n{rules}"))?;
            server.control(&["reload"])?;
        }
        one.exits(8, "monitor")?.without_reason()?;
        two.exits(0, "monitor")?.without_reason()?;
        Ok(())
    })
}
