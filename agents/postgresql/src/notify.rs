//! What the instance does when it hears of others: it tells its place before an election, and waits for nobody who is gone.

use ocf::{Notification, Operation, Run, When};

use crate::monitor;
use crate::parameters::Settings;
use crate::peers;
use crate::record::{self, Role};
use crate::server::Said;
use crate::survey::{Survey, disk};
use crate::upkeep;

pub(crate) fn notify(run: &Run, settings: &Settings, notification: &Notification) {
    let own = peers::own_name(run);
    match (notification.when, notification.operation) {
        (When::Pre, Operation::Promote) => {
            let others = [&notification.unpromoted, &notification.promoted, &notification.start];
            // Alone there is nobody to compare with.
            if others.into_iter().flatten().any(|instance| instance.node != own) {
                tell_position(run, settings);
            }
        }
        (When::Post, Operation::Promote) => peers::withdraw_position(run),
        (_, Operation::Stop) => {
            let gone: Vec<String> =
                notification.stop.iter().map(|instance| instance.node.clone()).filter(|node| *node != own).collect();
            if !gone.is_empty() {
                let_go(run, settings, &gone, notification.when);
            }
        }
        (when, operation) => run.log.debug(&format!("{when:?} {operation:?}: nothing to do")),
    }
}

fn tell_position(run: &Run, settings: &Settings) {
    let survey = Survey::take(run, settings);
    if survey.as_ref().is_ok_and(|survey| record::yields(&run.store) && disk(&survey.data, None).full) {
        run.log.warning(
            "the server's disk is full, and what it has more than the others was acknowledged to nobody, for commits waited \
             for them: it takes no part in the election",
        );
        return peers::abstain(run);
    }
    match survey.map(|survey| (monitor::position(&survey), matches!(survey.said(), Some(Said::Primary(_))))) {
        Ok((Some(position), primary)) => peers::publish_position(run, &position, primary),
        Ok((None, _)) => {
            run.log.warning("the server does not say where it is in the log; it takes no part in the election");
        }
        Err(error) => run.log.warning(&format!("{error:#}")),
    }
}

/// The cluster knows that a standby is gone long before its connection times out; commits that wait for it need not.
fn let_go(run: &Run, settings: &Settings, gone: &[String], when: When) {
    // What somebody else has promoted has nothing to tell of the others.
    if record::role(&run.store) == Some(Role::Unpromoted) {
        return;
    }
    let Ok(mut survey) = Survey::take(run, settings) else { return };
    let (Some(Said::Primary(primary)), Some(session)) = (survey.said().cloned(), survey.session.as_mut()) else {
        return;
    };
    let mut done = upkeep::of_primary(run, settings, &survey.data, &primary, session, gone);
    if when == When::Post {
        done = done.and_then(|()| upkeep::disconnect(session, gone));
    }
    if let Err(error) = done {
        run.log.warning(&format!("{error:#}"));
    }
}
