//! The life of an instance of ocf:greenarrow:postgresql: a pair of real servers, its roles, and the ways between them.

use anyhow::{Result, ensure};
use cts_tests::postgres::{USUAL, pair, streaming_pair, with_servers};

#[test]
fn a_start_makes_a_standby_and_a_promotion_a_primary() -> Result<()> {
    with_servers(USUAL, || {
        let [(server, agent), _] = pair()?;
        for _ in 0..2 {
            for (action, state) in [("stop", 7), ("start", 0), ("promote", 8), ("demote", 0)] {
                for _ in 0..2 {
                    agent.exits(0, action)?.without_reason()?;
                    agent.exits(state, "monitor")?.without_reason()?;
                    agent.exits(state, "probe")?.without_reason()?;
                }
                ensure!(server.has_processes()? == (state != 7), "after {action}");
            }
        }
        agent.succeeds(&["stop"])?;
        ensure!(!server.has("postmaster.pid")?);
        Ok(())
    })
}

#[test]
fn a_planned_switchover_and_back_loses_nothing() -> Result<()> {
    with_servers(USUAL, || {
        let pair = streaming_pair(&[])?;
        let mut written = 0;
        for round in 0..4 {
            let [(old, old_agent), (new, new_agent)] = [&pair[round % 2], &pair[(round + 1) % 2]];
            for _ in 0..10 {
                written += 1;
                old.sql(&format!("INSERT INTO audit VALUES ({written})"))?;
            }
            old_agent.succeeds(&["demote"])?;
            new_agent.succeeds(&["promote"])?;
            ensure!(new.sql("SELECT count(*) FROM audit")? == written.to_string(), "in round {round}");
            old.await_streaming()?;
            old.await_replay(new)?;
            old_agent.exits(0, "monitor")?.without_reason()?;
            new_agent.exits(8, "monitor")?.without_reason()?;
        }
        Ok(())
    })
}
