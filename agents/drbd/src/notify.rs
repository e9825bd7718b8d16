//! What the instance does when it hears of others. Nothing here is needed for what is right; it is only sooner.

use ocf::{Notification, Operation, Run, When};

use crate::apart;
use crate::configuration::adm;
use crate::configuration::own_name;
use crate::dump_xml::Configuration;
use crate::kernel;
use crate::monitor;
use crate::parameters::Settings;
use crate::start;

pub(crate) fn notify(run: &Run, settings: &Settings, notification: &Notification) {
    let seen = match kernel::look(run, &settings.name) {
        Ok(Some(seen)) => seen,
        Ok(None) => return,
        Err(failure) => return run.log.warning(failure.reason()),
    };
    let Some(resource) = &seen.resource else { return };
    // The peer of a pair is found again where it has a new address, and 8.4 with several possible peers takes the one there is.
    if notification.operation == Operation::Start && !settings.connect_only_after_promote {
        match Configuration::read(run, settings) {
            Ok(configuration) => start::adjust(run, settings, &configuration),
            Err(failure) => run.log.warning(failure.reason()),
        }
    }
    if notification.when == When::Pre {
        return;
    }
    let other = other_promoted(run, notification);
    match other {
        Some(node) if resource.primary() && resource.unknown_at(&node) && run.environment.promoted_max() == Some(1) => {
            run.log.error(&format!(
                "BOTH NODES ARE PRIMARY: {} is Primary here and on {node}, and the replication link is down; end one of them",
                settings.name
            ));
        }
        Some(node) if settings.stop_outdates_secondary && !resource.primary() && resource.unknown_at(&node) => {
            run.log.info(&format!("{node} is promoted and not connected: {} is outdated here", settings.name));
            let outdated = adm(settings, &["outdate", &settings.name], run.deadline);
            if let Err(error) = outdated.and_then(|output| output.success("drbdadm outdate")) {
                run.log.warning(&format!("{error:#}"));
            }
            return run.cluster().promotion_score(None);
        }
        _ => {}
    }
    monitor::tell(run, settings, resource, apart::parted_now(run, settings, &seen));
}

/// Another node with a Primary, after what was done.
fn other_promoted(run: &Run, notification: &Notification) -> Option<String> {
    let own = run.environment.node().map_or_else(own_name, str::to_owned);
    let ended = |node: &String| {
        let gone = notification.stop.iter().chain(&notification.demote);
        gone.into_iter().any(|instance| instance.node == *node)
    };
    let promoted = notification.promoted.iter().map(|instance| instance.node.clone());
    promoted.into_iter().find(|node| *node != own && !ended(node))
}
