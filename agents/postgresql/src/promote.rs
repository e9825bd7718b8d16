//! From unpromoted to promoted: the one that has the most, and no sooner done than it accepts writes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use ocf::{Done, Failure, Lapse, NEVER, Run};

use crate::configuration::{self, Own};
use crate::election::{self, Outcome};
use crate::installation::Installation;
use crate::judgement::{SERVING, Seen};
use crate::lacking;
use crate::mark;
use crate::monitor;
use crate::parameters::Settings;
use crate::peers;
use crate::postmaster::{self, Processes};
use crate::record::{self, Role};
use crate::server::{Said, ask, one};
use crate::session::Session;
use crate::survey::{Survey, disk, place};
use crate::upkeep;

const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(crate) fn promote(run: &Run, settings: &Settings) -> Done {
    carry_out(run, settings).map_err(|failure| {
        Lapse::Promotion.note(run);
        run.cluster().promotion_score(Some(NEVER));
        // A server that cannot write its new timeline ends, and does not say so to whoever promoted it.
        let disk = disk(&place(run, settings), settings.disk_min_free);
        match disk.short.filter(|_| disk.full) {
            Some(short) => Failure::new(failure.kind(), format!("{short}; {}", failure.reason())),
            None => failure,
        }
    })
}

fn carry_out(run: &Run, settings: &Settings) -> Done {
    let installed = Installation::find(settings)?;
    let survey = Survey::take(run, settings)?;
    match &survey.seen {
        Seen::Answering(Said::Primary(_)) => {
            run.log.info("the server is a primary already");
            return Ok(record::set_role(&run.store, Role::Promoted)?);
        }
        Seen::Answering(Said::Standby(_)) => {}
        other => return Err(Failure::generic(not_promotable(other))),
    }
    match election::hold(run, settings, &survey) {
        Outcome::Best(why) => run.log.info(&why),
        Outcome::Refused(why) => return Err(Failure::generic(why)),
    }
    let mut session = survey.session.context("the connection to the server is gone")?;
    prepare(run, settings, &installed)?;
    let begun = Instant::now();
    leave_recovery(run, &installed, &mut session)?;
    run.log.info(&format!("the server accepts writes after {:.2} s", begun.elapsed().as_secs_f32()));
    follow_up(run, settings, &installed);
    Ok(())
}

/// The server serves: what goes wrong from here on must not undo that.
fn follow_up(run: &Run, settings: &Settings, installed: &Installation) {
    if let Err(error) = record::set_role(&run.store, Role::Promoted) {
        run.log.warning(&format!("{error:#}"));
    }
    run.cluster().promotion_score(Some(SERVING));
    // An old primary that comes back asks for it.
    if let Ok(survey) = Survey::take(run, settings)
        && let Some(mut position) = monitor::position(&survey)
    {
        let mark = mark::new();
        match mark::write(installed, position.timeline, mark) {
            Ok(()) => position.mark = Some(mark),
            Err(error) => run.log.warning(&format!("{error:#}")),
        }
        peers::publish_history(run, &position);
    }
    // The checkpoint that pg_rewind on another node waits for takes minutes where nobody hurries it. The old primary's
    // node must not be promoted before it has what is written now, and takes longer than this to come back.
    if let Err(failure) = run.continue_in_background() {
        run.log.warning(&format!("no checkpoint is made, and nobody told of the other nodes: {failure}"));
    }
}

fn not_promotable(seen: &Seen) -> String {
    match seen {
        Seen::Absent => "the server does not run; it must be started before it is promoted".to_owned(),
        Seen::Orphans(count) => {
            format!("the postmaster is gone and {count} processes of it are left; stop and start it first")
        }
        Seen::Closed(_, why) | Seen::Mute(why) => format!("the server cannot be promoted: {why}"),
        Seen::Answering(_) => String::new(),
    }
}

/// No commit may wait for a standby that does not stream from this server yet, unless that is demanded.
fn prepare(run: &Run, settings: &Settings, installed: &Installation) -> Result<()> {
    let node = peers::own_name(run);
    let names = upkeep::wanted_names(settings, &node, &[]);
    if Own::of(settings, installed.version, &node, &names).write(installed)? {
        upkeep::tell_to_read(&installed.data)?;
    }
    Ok(())
}

/// Ends the recovery, and waits until it has ended.
fn leave_recovery(run: &Run, installed: &Installation, session: &mut Session) -> Result<(), Failure> {
    session.set_deadline(run.deadline);
    if installed.version.has_signal_file() {
        ask(session, "SELECT pg_promote(false)")?;
    } else {
        // What pg_ctl promote does (do_promote, pg_ctl.c).
        configuration::place(installed, &installed.data.join("promote"), b"")?;
        let Processes::Postmaster(file) = Processes::of(&installed.data)? else {
            return Err(Failure::generic("the postmaster went away before it was promoted"));
        };
        postmaster::signal(file.pid, Signal::SIGUSR1)?;
    }
    loop {
        // Both: the recovery ends a moment before writes are allowed (XLogCtl->SharedRecoveryState, xlog.c).
        if one(session, "SELECT (NOT pg_is_in_recovery())::text")? == "true" {
            return Ok(());
        }
        if !run.deadline.sleep(LOOK_AGAIN) {
            return Err(Failure::generic(
                "the server was told to end its recovery and has not; its log says what it replays",
            ));
        }
    }
}

/// What goes on after the promotion: the other nodes are told of, and a checkpoint, so that the control file names the new
/// timeline.
pub(crate) fn settle(run: &Run, settings: &Settings) -> Done {
    let survey = Survey::take(run, settings)?;
    let (Seen::Answering(Said::Primary(primary)), Some(mut session)) = (&survey.seen, survey.session) else {
        return Ok(());
    };
    if let Err(error) = lacking::mark(run, settings, &primary.streaming()) {
        run.log.warning(&format!("{error:#}"));
    }
    session.set_deadline(run.deadline);
    Ok(ask(&mut session, "CHECKPOINT").map(drop)?)
}
