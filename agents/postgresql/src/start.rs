//! From stopped to unpromoted: always as a standby, whatever the server was before.

use anyhow::{Result, anyhow};
use ocf::{Done, Failure, LAST_RESORT, Lapse, NEVER, Run};

use crate::base_backup;
use crate::control::ClusterState;
use crate::half_record;
use crate::installation::Installation;
use crate::judgement::{self, Seen, WAS_PRIMARY};
use crate::lacking;
use crate::launch;
use crate::mark;
use crate::parameters::Settings;
use crate::peers;
use crate::permission;
use crate::position::{History, Position, Standing};
use crate::record::{self, Role};
use crate::rejoin;
use crate::server::{Said, Standby};
use crate::survey::{self, Survey};
use crate::validate::validate;

pub(crate) fn start(run: &Run, settings: &Settings) -> Done {
    if !run.environment.promotable() {
        return Err(Failure::not_configured(
            "the resource is not promotable: one of the servers must be the primary, and the cluster says which. Make it a \
             clone with promotable=true",
        ));
    }
    base_backup::finish(run, settings)?;
    let installed = validate(run, settings)?;
    match Survey::take(run, settings)?.seen {
        Seen::Answering(Said::Standby(_)) => {
            run.log.info("the server runs as a standby already");
            survey::note_server(run, &installed.data)?;
            if record::role(&run.store) != Some(Role::Unpromoted) {
                record::set_role(&run.store, Role::Unpromoted)?;
            }
            return Ok(());
        }
        Seen::Answering(Said::Primary(_)) => {
            return Err(Failure::generic(
                "the server runs as a primary, which a start must leave as a standby; demote it",
            ));
        }
        _ => launch::check_none_runs(run, &installed)?,
    }
    if run.environment.by_pacemaker() && !run.environment.notified() {
        run.log.warning("the clone has not notify=true: three nodes could not compare what they have, and commits would wait for nodes that are gone");
    }
    let was_primary = launch::was_primary(&installed);
    if rejoin::is_half_rewound(&installed) {
        rejoin::replace_half_rewound(run, settings, &installed)?;
    } else {
        bring_up(run, settings, &installed)?;
    }
    permission::forget_parted(run);
    record::set_role(&run.store, Role::Unpromoted)?;
    let score = score(run, settings, was_primary);
    // Without a score Pacemaker promotes nobody, and with this one nobody waits for the first monitor.
    run.cluster().promotion_score(Some(Lapse::reduced(run, score)));
    Ok(())
}

/// How fit it is before it has streamed. Where the cluster cannot be asked others come first, and the promotion asks again.
pub(crate) fn score(run: &Run, settings: &Settings, was_primary: bool) -> i32 {
    known_score(run, settings, was_primary).unwrap_or_else(|error| {
        run.log.warning(&format!("{error:#}"));
        LAST_RESORT
    })
}

/// By what the nodes are known to have, and by what the server was.
fn known_score(run: &Run, settings: &Settings, was_primary: bool) -> Result<i32> {
    // First, for it holds whether or not the cluster can be asked.
    if was_primary {
        record::note_was_primary(&run.store)?;
    }
    if let Some(author) = lacking::of_this_node(run)? {
        run.log.info(&format!("{author} wrote what this node lacks; it is not promoted before it has that"));
        record::note_lacking(run, Some(&author));
        return Ok(NEVER);
    }
    if was_primary {
        return Ok(WAS_PRIMARY);
    }
    // A primary that was demoted and then stopped has left the directory of a standby.
    if lacking::is_author(run, settings)? {
        record::note_was_primary(&run.store)?;
        return Ok(WAS_PRIMARY);
    }
    Ok(LAST_RESORT)
}

/// The server as a standby of the cluster's primary, with which it must not have parted.
pub(crate) fn bring_up(run: &Run, settings: &Settings, installed: &Installation) -> Result<(), Failure> {
    if let Some((standing, own)) = parted_by_disk(run, installed)? {
        return rejoin::rejoin(run, settings, installed, standing, &own);
    }
    half_record::put_aside(run, installed)?;
    let standby = launch::as_standby(run, settings, installed)?;
    // Only a server that has replayed its log knows where that ends.
    match parted(run, installed, &standby)? {
        None => Ok(()),
        Some((standing, own)) => {
            crate::stop::shut_down(run, settings, &installed.data)?;
            rejoin::rejoin(run, settings, installed, standing, &own)
        }
    }
}

/// How the place that the control file knows stands to the primary's history, if it has parted from it. A server whose
/// disk has the primary's history already would not even start (StartupXLOG, "requested timeline … does not contain
/// minimum recovery point").
pub(crate) fn parted_by_disk(run: &Run, installed: &Installation) -> Result<Option<(Standing, Position)>, Failure> {
    // After a crash the control file does not know the end of the log, and pg_rewind before 13 wants a server that was
    // shut down: then the server replays its log first.
    let state = ClusterState::read(&installed.data)?;
    if launch::is_new_backup(&installed.data)
        || !matches!(state, ClusterState::ShutDown | ClusterState::ShutDownInRecovery)
    {
        return Ok(None);
    }
    let (timeline, lsn) = installed.control_data(run.deadline)?.end();
    let history = History::read(&installed.data, timeline).unwrap_or_default();
    let own = Position { timeline, lsn, history, mark: mark::of(&installed.data, timeline) };
    Ok(has_parted(run, own))
}

pub(crate) fn parted(
    run: &Run,
    installed: &Installation,
    standby: &Standby,
) -> Result<Option<(Standing, Position)>, Failure> {
    let own = Said::Standby(standby.clone()).position(&installed.data).map_err(|error| anyhow!("{error:#}"))?;
    Ok(has_parted(run, own))
}

fn has_parted(run: &Run, own: Position) -> Option<(Standing, Position)> {
    let standing = peers::against_primary_now(run, &own)?;
    judgement::diverged(Some(standing), own.lsn).map(|_| (standing, own))
}
