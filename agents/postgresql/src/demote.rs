//! From promoted to unpromoted: a primary cannot become a standby while it runs, so it is shut down and started as one.

use ocf::{Done, Failure, Lapse, Run};

use crate::control::ClusterState;
use crate::installation::Installation;
use crate::judgement::{STREAMED, Seen, diverged};
use crate::launch;
use crate::parameters::Settings;
use crate::peers;
use crate::record::{self, Role};
use crate::server::Said;
use crate::start::{parted_by_disk, score};
use crate::stop::shut_down;
use crate::survey::{Survey, place};

pub(crate) fn demote(run: &Run, settings: &Settings) -> Done {
    let survey = Survey::take(run, settings);
    let seen = survey.map(|survey| survey.seen);
    match seen {
        Ok(Seen::Answering(Said::Standby(_))) => {
            run.log.info("the server is a standby already");
            return Ok(record::set_role(&run.store, Role::Unpromoted)?);
        }
        // Nothing is promoted where nothing runs. A recovery goes on with stop and start; outside of one the next monitor
        // finds that the server is gone.
        Ok(Seen::Absent) => {
            run.log.info("the server does not run; there is nothing to demote");
            return Ok(());
        }
        _ => {}
    }
    let by_cluster = record::role(&run.store) != Some(Role::Unpromoted);
    shut_down(run, settings, &place(run, settings))?;
    let installed = Installation::find(settings)?;
    match ClusterState::read(&installed.data)? {
        // The server ended with a checkpoint, and not before its standbys had received it (documentation, "Shutting Down
        // the Server"). Whether the one to be promoted has, is asked before it is.
        ClusterState::ShutDown => run.log.info("the primary is shut down, its last checkpoint written"),
        state => {
            run.log.warning(&format!("the primary was not shut down in order, but left as {state:?}; it recovers now"));
        }
    }
    // A start has the time and the parameters to mend it, or refuses with what to do.
    if !by_cluster && let Some((standing, own)) = parted_by_disk(run, &installed)? {
        let parted = diverged(Some(standing), own.lsn).unwrap_or_default();
        return Err(Failure::generic(format!("somebody other than the cluster promoted the server: {parted}")));
    }
    launch::as_standby(run, settings, &installed)?;
    record::set_role(&run.store, Role::Unpromoted)?;
    let score = if by_cluster {
        // It has what the others have.
        record::note_streaming(&run.store)?;
        STREAMED
    } else {
        // Whoever promoted it may have done so for want of a primary whose commits it lacks.
        score(run, settings, false)
    };
    run.cluster().promotion_score(Some(Lapse::reduced(run, score)));
    peers::withdraw_history(run);
    Ok(())
}
