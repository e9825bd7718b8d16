//! An old primary whose log ends in half a record at the end of a segment, as a full disk leaves it.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cts_tests::postgres::{Server, USUAL, streaming_pair, with_servers};
use cts_tests::wait;

/// What a full disk has done to the log: the segments after that of `lsn` were never made.
fn never_made(server: &Server, lsn: &str) -> Result<()> {
    let last = server.sql(&format!("SELECT pg_walfile_name('{lsn}')"))?;
    server.signal("KILL")?;
    wait::until("the server to be gone", Duration::from_secs(20), wait::TOOL, || Ok(!server.has_processes()?))?;
    let directory = format!("{}/pg_wal", server.data);
    let names = fs::read_dir(&directory)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let later: Vec<_> = names.filter(|name| name.len() == 24 && *name > last).collect();
    ensure!(!later.is_empty(), "no segment came after {last}");
    later.iter().try_for_each(|name| fs::remove_file(format!("{directory}/{name}")).context("a segment"))
}

#[test]
fn half_a_record_at_the_end_of_a_segment_is_put_aside() -> Result<()> {
    with_servers(USUAL, || {
        let [(first, one), (second, two)] = streaming_pair(&[])?;
        second.await_replay(&first)?;
        first.refuse_standbys(&[&second.address], true)?;
        let end = first.sql("SELECT pg_current_wal_lsn()")?;
        first.sql("SELECT pg_logical_emit_message(true, 'x', repeat('x', 40000000))")?;
        never_made(&first, &end)?;
        two.succeeds(&["promote"])?;

        one.succeeds(&["start"])?;
        wait::until("the standby to stand still", Duration::from_secs(30), wait::TOOL, || {
            one.exits(0, "monitor")?;
            Ok(fs::exists("/run/resource-agents/postgresql-pg-n1.silent")? && first.streams())
        })?;
        fs::write("/run/resource-agents/postgresql-pg-n1.silent", "0")?;
        one.exits(1, "monitor")?.says(&["ends in half a record at 0/", "a start mends that"])?;
        one.succeeds(&["stop"])?;
        // Root writes beside a directory of the server's user, and follows no link there.
        let (aside, elsewhere) = (format!("{}.diverged", first.data), "/run/elsewhere");
        fs::create_dir(elsewhere)?;
        symlink(elsewhere, &aside)?;
        one.exits(1, "start")?.says(&["cannot make", &aside])?;
        ensure!(fs::read_dir(elsewhere)?.next().is_none(), "the link was followed");
        fs::remove_file(&aside)?;
        one.exits(0, "start")?.logs(&["was put aside as"])?;
        first.await_streaming()?;
        first.await_replay(&second)?;
        one.exits(0, "monitor")?.without_reason()?;
        ensure!(first.command(&["find", &aside, "-type", "f"])?.text()?.lines().count() == 1);
        Ok(())
    })
}
