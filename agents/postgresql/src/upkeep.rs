//! What a running server needs seen to: which standbys commits wait for, and the slots.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use ocf::{Action, Run};

use crate::base_backup;
use crate::configuration::{self, Own, slot_name};
use crate::installation::Installation;
use crate::lacking;
use crate::mark;
use crate::parameters::{Settings, Sync};
use crate::peers;
use crate::postmaster::{self, Processes};
use crate::record;
use crate::server::{Primary, Said, Slot, Standby, ask, quoted};
use crate::session::Session;
use crate::survey::Survey;

/// So long a node may be lost and not fenced before the primary goes on without it: time for both to fence each other, with
/// the delay that decides who is first. Where it has passed fencing does not work, and nobody takes over.
const FENCED: Duration = Duration::from_secs(30);

/// Sees to a primary. `gone` are nodes that the cluster says are gone, whatever the server still believes of them.
pub(crate) fn of_primary(
    run: &Run,
    settings: &Settings,
    data: &Path,
    primary: &Primary,
    session: &mut Session,
    gone: &[String],
) -> Result<()> {
    let streaming: Vec<&str> =
        primary.streaming().into_iter().filter(|name| !gone.iter().any(|one| one == name)).collect();
    may_let_go(run, settings, primary, &streaming)?;
    lacking::mark(run, settings, &streaming)?;
    set_synchronous(run, settings, data, primary, &streaming)?;
    lacking::unmark(run, settings, data, primary, &streaming, session)?;
    if settings.use_slots {
        keep_slots(run, settings, primary, session)?;
    }
    Ok(())
}

/// Which standbys commits are to wait for.
pub(crate) fn wanted_names(settings: &Settings, own: &str, streaming: &[&str]) -> String {
    match settings.sync {
        Sync::Off => String::new(),
        // All that are known, so that it does not matter which one is up, and none is up at first.
        Sync::Require => configuration::sync_names(&settings.hosts.other_nodes(own)),
        Sync::Prefer => {
            let known = settings.hosts.other_nodes(own);
            // Other programs stream as well, such as pg_receivewal; where the nodes' names are not known, all but those.
            let mut names: Vec<&str> =
                streaming.iter().copied().filter(|name| known.is_empty() || known.contains(name)).collect();
            names.retain(|name| !name.starts_with("pg_"));
            names.sort_unstable();
            names.dedup();
            configuration::sync_names(&names)
        }
    }
}

/// A node that the cluster has lost and not fenced may be at work, and may be about to fence this one and to take over: what
/// were acknowledged without it until then would be lost. So commits wait, for a while.
fn may_let_go(run: &Run, settings: &Settings, primary: &Primary, streaming: &[&str]) -> Result<()> {
    let own = peers::own_name(run);
    let named = |node: &&str| primary.sync_names.contains(&configuration::sync_names(&[*node]));
    let dropped = settings.hosts.other_nodes(&own).into_iter().filter(|node| !streaming.contains(node)).filter(named);
    for node in dropped.filter(|_| settings.sync == Sync::Prefer) {
        if !run.cluster().is_unclean(node).with_context(|| format!("commits still wait for {node}"))? {
            continue;
        }
        let lost = record::lost(&run.store)?;
        ensure!(lost >= FENCED, "commits still wait for {node}: the cluster has lost it, and has not fenced it yet");
        run.log.error(&format!(
            "{node} was lost {} s ago and is not fenced: commits wait for it no longer. Should it take over all the same, what \
             is acknowledged from here on is lost; see why it is not fenced: stonith_admin --history {node}",
            lost.as_secs()
        ));
    }
    record::forget_lost(&run.store)
}

fn set_synchronous(run: &Run, settings: &Settings, data: &Path, primary: &Primary, streaming: &[&str]) -> Result<()> {
    if settings.sync == Sync::Off {
        return Ok(());
    }
    let own = peers::own_name(run);
    let names = wanted_names(settings, &own, streaming);
    if names == primary.sync_names {
        return Ok(());
    }
    rewrite(run, settings, data, &names)?;
    let what = if names.is_empty() {
        "commits no longer wait for a standby: none streams".to_owned()
    } else {
        format!("commits wait for a standby from here on: {names}")
    };
    run.log.info(&what);
    Ok(())
}

/// Has the server read its configuration again (documentation, "Shutting Down the Server" and pg_ctl reload: SIGHUP).
pub(crate) fn tell_to_read(data: &Path) -> Result<()> {
    let Processes::Postmaster(file) = Processes::of(data)? else { return Ok(()) };
    postmaster::signal(file.pid, Signal::SIGHUP).map(drop)
}

/// A slot for each other node, and none for a standby that keeps the primary's disk from ever getting free.
fn keep_slots(run: &Run, settings: &Settings, primary: &Primary, session: &mut Session) -> Result<()> {
    let own = peers::own_name(run);
    for slot in primary.slots.iter().filter(|slot| too_much(slot, settings.max_slot_wal)) {
        drop_slot(session, slot)?;
        run.log.error(&format!(
            "slot {} kept {} bytes of WAL, more than max_slot_wal, for a standby that is not connected, and was dropped; \
             that standby will need a new base backup if the WAL it lacks is gone",
            slot.name,
            slot.kept.unwrap_or_default()
        ));
    }
    let wanted = settings.hosts.other_nodes(&own).into_iter().map(slot_name);
    for name in wanted.filter(|name| !primary.slots.iter().any(|slot| slot.name == *name)) {
        // Nothing is kept for it before its standby has come: there is no telling whether it ever will.
        ask(session, &format!("SELECT pg_create_physical_replication_slot({})", quoted(&name)))
            .with_context(|| format!("cannot make the slot {name}"))?;
        run.log.info(&format!("slot {name} was made"));
    }
    Ok(())
}

fn too_much(slot: &Slot, most: Option<u64>) -> bool {
    !slot.active && most.is_some_and(|most| slot.kept.is_some_and(|kept| kept > most))
}

/// A standby needs no slots: those of its time as a primary would keep its WAL for ever.
pub(crate) fn of_standby(
    run: &Run,
    settings: &Settings,
    data: &Path,
    standby: &Standby,
    session: &mut Session,
) -> Result<()> {
    if standby.streaming {
        record::note_streaming(&run.store)?;
        take_mark_over(run, settings, data, standby)?;
        // Its files may be many: a monitor does not wait for that.
        if base_backup::keeps_something(data) {
            run.continue_in_background().map_err(|failure| anyhow!("{failure}"))?;
        }
    }
    for slot in standby.slots.iter().filter(|slot| !slot.active) {
        drop_slot(session, slot)?;
        run.log.info(&format!("slot {}, of this node's time as a primary, was dropped", slot.name));
    }
    Ok(())
}

/// Whoever streams a timeline from the primary is on that very one.
fn take_mark_over(run: &Run, settings: &Settings, data: &Path, standby: &Standby) -> Result<()> {
    if mark::of(data, standby.timeline).is_some() {
        return Ok(());
    }
    let Some(mark) = peers::mark_of_primary(run, standby.timeline) else { return Ok(()) };
    let installed = Installation::find(settings).map_err(|failure| anyhow!("{failure}"))?;
    mark::write(&installed, standby.timeline, mark)
}

fn drop_slot(session: &mut Session, slot: &Slot) -> Result<()> {
    ask(session, &format!("SELECT pg_drop_replication_slot({})", quoted(&slot.name))).map(drop)
}

/// Ends the connections of standbys that are gone. Where the power was cut nothing else does before wal_sender_timeout, and
/// a monitor would have commits wait for such a standby again.
pub(crate) fn disconnect(session: &mut Session, gone: &[String]) -> Result<()> {
    let names = gone.iter().map(|node| quoted(node)).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name IN ({names})");
    ask(session, &sql).map(drop)
}

/// Takes up changed parameters, without a restart.
pub(crate) fn reload(run: &Run, settings: &Settings) -> Result<()> {
    let survey = Survey::take(run, settings)?;
    let Some(said) = survey.said() else {
        run.log.info("the server does not run or does not answer; there is nothing to reload");
        return Ok(());
    };
    if run.action == Action::Reload {
        tell_to_read(&survey.data)?;
    }
    let (Said::Primary(primary), Some(mut session)) = (said.clone(), survey.session) else {
        return rewrite(run, settings, &survey.data, &wanted_names(settings, &peers::own_name(run), &[]));
    };
    if settings.sync == Sync::Off {
        rewrite(run, settings, &survey.data, "")?;
    }
    of_primary(run, settings, &survey.data, &primary, &mut session, &[])
}

/// Writes the agent's file for what the parameters say now, and has the server read it.
fn rewrite(run: &Run, settings: &Settings, data: &Path, names: &str) -> Result<()> {
    let installed = Installation::find(settings).map_err(|failure| anyhow!("{failure}"))?;
    Own::of(settings, installed.version, &peers::own_name(run), names).write(&installed)?;
    // Even where the file was right: the server may not have read it.
    tell_to_read(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::PARAMETERS;
    use ocf::Values;

    fn settings(hosts: &str, sync: &str) -> Settings {
        let given = [("primary_hosts", hosts), ("sync", sync)].map(|(name, value)| (name.to_owned(), value.to_owned()));
        Settings::read(&Values::check(PARAMETERS, &given.into()).unwrap())
    }

    #[test]
    fn commits_wait_for_nodes_and_never_for_other_programs() {
        let pair = "n1:192.0.2.1 n2:192.0.2.2";
        let names = |hosts, sync, streaming: &[&str]| wanted_names(&settings(hosts, sync), "n1", streaming);
        assert_eq!(names(pair, "prefer", &["n2", "pg_receivewal"]), "\"n2\"");
        assert_eq!(names(pair, "prefer", &["stranger"]), "");
        assert_eq!(names(pair, "prefer", &[]), "");
        assert_eq!(names("192.0.2.9", "prefer", &["n3", "n2", "pg_basebackup"]), "\"n2\",\"n3\"");
        assert_eq!(names(pair, "require", &[]), "\"n2\"");
        assert_eq!(names(pair, "off", &["n2"]), "");
    }

    #[test]
    fn only_an_idle_slot_beyond_the_limit_is_dropped() {
        let slot = |active, kept| Slot { name: "ocf_n2".into(), active, kept };
        assert!(too_much(&slot(false, Some(11)), Some(10)));
        for (slot, most) in [
            (slot(true, Some(11)), Some(10)),
            (slot(false, Some(10)), Some(10)),
            (slot(false, None), Some(10)),
            (slot(false, Some(11)), None),
        ] {
            assert!(!too_much(&slot, most), "{slot:?} {most:?}");
        }
    }
}
