//! Standbys that lack something, and old primaries that have too much: who is promoted, and who may come back how.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::cluster::SETTLE;
use cts_tests::crm_mon::Failure;
use cts_tests::postgres::{Server, USUAL};
use cts_tests::postgres_pair::{CLONE, Pair, RESOURCE, with_cluster};
use cts_tests::wait;

#[test]
fn an_old_primary_with_rows_of_its_own_is_refused_and_rewound_when_asked() -> Result<()> {
    with_cluster(USUAL, || {
        let pair = Pair::start(USUAL, 2, &[("rejoin", "manual")])?;
        pair.play("old primary with rows of its own", rows_of_its_own)?;
        pair.play("a standby promoted by hand is no rival of the primary, and is rewound", promoted_by_hand)?;
        pair.play("a primary that Pacemaker has forgotten is not joined by another", forgotten_by_pacemaker)?;
        pair.play("a half rewound directory is replaced by a base backup", half_rewound)?;
        pair.play("two timelines of the same number and from the same place", same_number)
    })
}

fn rows_of_its_own(pair: &Pair) -> Result<()> {
    let (old, standbys) = pair.primary()?;
    let (old, new) = (old.clone(), standbys[0].clone());
    pair.die_with_rows_of_its_own(&old)?;
    let promoted = || Ok(pair.primary().is_ok_and(|(primary, _)| primary.name == new.name));
    wait::until("the other node to be promoted", SETTLE, wait::TOOL, promoted)?;
    // It comes back, and is not started as if nothing were wrong.
    let refused = || Ok(pair.failures().iter().any(|failure| failure.operation == "pg_start_0"));
    wait::until("the start of the old primary to be refused", SETTLE, wait::TOOL, refused)?;
    let failures = pair.failures();
    let reason = failures.iter().find(|one| one.operation == "pg_start_0").map(|one| one.reason.as_str());
    let reason = reason.unwrap_or_default();
    for words in ["this node parted from the primary at 0/", "set rejoin=rewind"] {
        ensure!(reason.contains(words), "{reason:?} lacks {words:?}");
    }
    let log = pair.log(&old)?;
    let command = format!("/opt/postgresql/bin/pg_rewind --target-pgdata={} --source-server=", old.data);
    ensure!(log.contains(&command), "{log}");
    ensure!(!old.has_processes()?, "the refused server runs");
    pair.set("rejoin", "rewind")?;
    pair.cluster.cleanup(RESOURCE)?;
    pair.healthy()?;
    ensure!(pair.primary()?.0.name == new.name);
    old.await_replay(&new)?;
    ensure!(old.sql("SELECT count(*) FROM audit WHERE id < 0")? == "0", "the rows of its own are still there");
    let kept = old.command(&["find", &format!("{}.diverged", old.data), "-type", "f"])?.text()?;
    ensure!(kept.contains("/timeline-2-from-0-"), "nothing was kept: {kept:?}");
    ensure!(!old.command(&["test", "-e", &format!("{}.rewinding", old.data)])?.run()?.status.success());
    Ok(())
}

fn promoted_by_hand(pair: &Pair) -> Result<()> {
    // Nothing is synchronous here: the death before may have cost a row.
    let lost_before = pair.lost()?;
    let (primary, standbys) = pair.primary()?;
    let (primary, rival, postmaster) = (primary.clone(), standbys[0].clone(), primary.postmaster()?);
    pair.set("rejoin", "manual")?;
    pair.cluster.wait_idle()?;
    rival.sql("SELECT pg_promote()")?;
    rival.sql("INSERT INTO audit SELECT generate_series(-1000, -1)")?;
    let reason = |operation: &str| -> String {
        let failures = pair.failures();
        let own = failures.iter().find(|one| one.node == rival.name && one.operation == operation);
        own.map(|one| one.reason.clone()).unwrap_or_default()
    };
    let refused = || Ok(reason("pg_start_0").contains("this node parted from the primary at 0/"));
    wait::until("the start of the rival to be refused", SETTLE, wait::TOOL, refused)?;
    ensure!(pair.log(&rival)?.contains("promoted, and not by the cluster"), "{}", pair.log(&rival)?);
    ensure!(primary.postmaster()? == postmaster && pair.primary()?.0.name == primary.name);
    pair.set("rejoin", "rewind")?;
    pair.cluster.cleanup(RESOURCE)?;
    pair.healthy()?;
    ensure!(primary.postmaster()? == postmaster && pair.primary()?.0.name == primary.name);
    rival.await_replay(&primary)?;
    ensure!(rival.sql("SELECT count(*) FROM audit WHERE id < 0")? == "0", "the rows of its own are still there");
    ensure!(pair.lost()? == lost_before);
    Ok(())
}

fn forgotten_by_pacemaker(pair: &Pair) -> Result<()> {
    let lost_before = pair.lost()?;
    let standby = pair.primary()?.1[0].clone();
    // A reload takes the place of the promotion in the history of operations, and whoever cancels the monitor takes
    // what is left.
    pair.set("maxlag", "1000000")?;
    pair.cluster.wait_idle()?;
    let maintenance = |mode| {
        pair.cluster.tool(&["crm_attribute", "--type", "crm_config", "--name", "maintenance-mode", "--update", mode])
    };
    maintenance("true")?;
    pair.cluster.wait_idle()?;
    pair.cluster.move_to(CLONE, true, pair.cluster.node(&standby.name)?)?;
    maintenance("false")?;
    let refused = || Ok(pair.log(&standby)?.contains("accepts writes; it has to be demoted first"));
    wait::until("the promotion to be refused", SETTLE, wait::TOOL, refused)?;
    let moved = || Ok(pair.primary().is_ok_and(|(one, _)| one.name == standby.name));
    wait::until("the standby to be promoted once the primary is demoted", SETTLE, wait::TOOL, moved)?;
    pair.cluster.wait_idle()?;
    pair.cluster.clear(CLONE)?;
    pair.healthy()?;
    ensure!(pair.lost()? == lost_before);
    Ok(())
}

fn half_rewound(pair: &Pair) -> Result<()> {
    let (primary, standbys) = pair.primary()?;
    let (broken, postmaster) = (standbys[0].clone(), primary.postmaster()?);
    pair.set("rejoin", "basebackup")?;
    broken.command(&["touch", &format!("{}.rewinding", broken.data)])?.text()?;
    broken.signal("KILL")?;
    let began = || Ok(pair.log(&broken)?.contains("the old data directory is kept as"));
    wait::until("the base backup", SETTLE, wait::TOOL, began)?;
    pair.healthy()?;
    broken.await_replay(primary)?;
    // What it was is kept no longer than until it streams.
    let removed = || Ok(pair.log(&broken)?.contains(", which that replaced, was removed"));
    wait::until("the old directory to be removed", SETTLE, wait::TOOL, removed)?;
    ensure!(!broken.command(&["test", "-e", &format!("{}.old", broken.data)])?.run()?.status.success());
    ensure!(broken.read("postgresql.conf")?.contains("wal_log_hints"));
    ensure!(primary.postmaster()? == postmaster, "a reloadable parameter restarted the primary");
    Ok(())
}

/// The node that the operator has promoted alone, and the one that was the primary meanwhile, each of which counted on from
/// the same end of the log.
fn same_number(pair: &Pair) -> Result<()> {
    let (first, standbys) = pair.primary()?;
    let (first, second) = (first.clone(), standbys[0].clone());
    pair.set("rejoin", "rewind")?;
    pair.cluster.wait_idle()?;
    let standby = |mode| {
        let words = ["crm_attribute", "--node", &first.name, "--name", "standby", "--update", mode];
        pair.cluster.tool(&words).map(drop)
    };
    standby("on")?;
    let moved = || Ok(pair.primary().is_ok_and(|(one, _)| one.name == second.name));
    wait::until("the second to be promoted", SETTLE, wait::TOOL, moved)?;
    second.sql("INSERT INTO audit SELECT generate_series(-1000, -1)")?;
    pair.cluster.wait_idle()?;
    let history = |server: &Server| -> Result<String> {
        server.sql("SELECT pg_read_file('pg_wal/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || '.history')")
    };
    let second_history = history(&second)?;
    pair.cluster.switch.restart_after(None);
    pair.cluster.node(&second.name)?.power_cut()?;
    pair.cluster.wait_status("the second to be gone", |status| status.online() == 1)?;
    standby("off")?;
    let runs = || Ok(first.sql("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "t"));
    wait::until("the first to be a standby", SETTLE, wait::TOOL, runs)?;
    pair.cluster.wait_idle()?;
    ensure!(pair.lacking()? == [first.name.as_str()] && pair.primary().is_err(), "promoted without the other's rows");
    let lacks = format!("{RESOURCE}-lacks");
    pair.cluster.tool(&[
        "crm_attribute",
        "--lifetime",
        "forever",
        "--node",
        &first.name,
        "--name",
        &lacks,
        "--delete",
    ])?;
    pair.cluster.cleanup(RESOURCE)?;
    let promoted = || Ok(pair.primary().is_ok_and(|(one, _)| one.name == first.name));
    wait::until("the first to be promoted alone", SETTLE, wait::TOOL, promoted)?;
    ensure!(history(&first)? == second_history, "they did not begin at the same place: {second_history}");

    pair.cluster.node(&second.name)?.power_on()?;
    pair.cluster.node(&second.name)?.start_cluster()?;
    let parted = || {
        let own = |one: &Failure| one.node == second.name && one.operation == "pg_start_0";
        let words = "timeline does not occur in the primary";
        Ok(pair.failures().iter().any(|one| own(one) && one.reason.contains(words)))
    };
    wait::until("the start of the second to be refused", SETTLE, wait::TOOL, parted)?;
    ensure!(!second.has_processes()?, "the refused server runs");
    pair.set("rejoin", "basebackup")?;
    pair.cluster.cleanup(RESOURCE)?;
    pair.healthy()?;
    second.await_replay(&first)?;
    ensure!(second.sql("SELECT count(*) FROM audit WHERE id < 0")? == "0", "the rows of its own are still there");
    Ok(())
}

#[test]
fn of_three_nodes_the_one_that_lacks_something_is_not_promoted() -> Result<()> {
    with_cluster(USUAL, || {
        let pair = Pair::start(USUAL, 3, &[])?;
        pair.play("a standby that lacks rows is asked for", |pair| {
            let (primary, standbys) = pair.primary()?;
            let (behind, began) = (standbys[0].clone(), Instant::now());
            primary.refuse_standbys(&[&behind.address], true)?;
            primary.sql("INSERT INTO audit SELECT generate_series(-1000, -1)")?;
            pair.cluster.move_to(CLONE, true, pair.cluster.node(&behind.name)?)?;
            let refusals = || -> Result<usize> { Ok(pair.log(&behind)?.matches("not promoted:").count()) };
            wait::until("the promotion to be refused", SETTLE, wait::TOOL, || Ok(refusals()? > 0))?;
            let promoted = || Ok(pair.primary().is_ok_and(|(primary, _)| primary.name != behind.name));
            wait::until("another one to be promoted", SETTLE, wait::TOOL, promoted)?;
            println!("  another one is promoted after {:.2} s", began.elapsed().as_secs_f64());
            std::thread::sleep(Duration::from_secs(5));
            ensure!(refusals()? == 1, "it was tried again at once: {}", pair.log(&behind)?);
            pair.cluster.clear(CLONE)?;
            for server in &pair.servers {
                let _rules_of_another = server.refuse_standbys(&[&behind.address], false);
            }
            pair.healthy()?;
            ensure!(pair.primary()?.0.sql("SELECT count(*) FROM audit WHERE id < 0")? == "1000", "rows are lost");
            ensure!(pair.lost()? == 0);
            Ok(())
        })
    })
}
