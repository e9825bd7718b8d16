//! unfence_if_all_uptodate: the handler unfence-peer is called when all copies have become good again, and then now and again.

use std::time::Duration;

use ocf::{Run, uptime};

use crate::configuration::adm;
use crate::model::Resource;
use crate::parameters::Settings;

/// When it was called last, since a copy was last seen not good, in seconds since boot.
const KIND: &str = "unfenced";
/// Between two monitors a link may break and the copies be good again, and the handler that DRBD calls then may fail. As long a
/// constraint may be left behind that nobody knows of.
const AGAIN: Duration = Duration::from_secs(60);

pub(crate) fn when_all_is_well(run: &Run, settings: &Settings, resource: &Resource) {
    if !settings.unfence_if_all_uptodate {
        return;
    }
    if !(resource.primary() && resource.all_up_to_date() && resource.peers_all_up_to_date()) {
        return forget(run);
    }
    let called = run.store.read(KIND).ok().flatten();
    if !due(called.as_deref(), uptime()) {
        return;
    }
    let deadline = run.deadline.at_most(run.deadline.remaining() / 2);
    let output = adm(settings, &["unfence-peer", &settings.name], deadline);
    match output.and_then(|output| output.success("the handler unfence-peer")) {
        Ok(_) => drop(run.store.write(KIND, &uptime().as_secs().to_string())),
        Err(error) => run.log.warning(&format!("{error:#}; it is called again at the next monitor")),
    }
}

fn due(called: Option<&str>, now: Duration) -> bool {
    let called = called.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    called.and_then(|called| now.checked_sub(called)).is_none_or(|ago| ago >= AGAIN)
}

pub(crate) fn forget(run: &Run) {
    // Left behind, it puts the next call off.
    let _ = run.store.remove(KIND);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handler_is_called_at_once_and_then_now_and_again() {
        let at = |seconds, called| due(called, Duration::from_secs(seconds));
        assert!(at(5, None) && at(160, Some("100")) && at(50, Some("100")) && at(101, Some("")));
        assert!(!at(100, Some("100")) && !at(159, Some("100")));
    }
}
