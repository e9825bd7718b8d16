//! To stopped, from anything: no drbd.conf, no drbdadm and no cluster is needed. What is left is looked at before it is said
//! that nothing is.

use std::time::Duration;

use ocf::{Done, Failure, Notification, Run};

use crate::apart;
use crate::configuration::{adm, own_name};
use crate::demote::make_secondary;
use crate::kernel::{self, Refusal};
use crate::model::{Disk, Resource, Role};
use crate::monitor::ALONE;
use crate::parameters::Settings;
use crate::start::STARTED;
use crate::unfence;

/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(500);

pub(crate) fn stop(run: &Run, settings: &Settings) -> Done {
    let settings = &named(run, settings)?;
    take_down(run, settings)?;
    run.store.remove(STARTED)?;
    run.store.remove(ALONE)?;
    apart::fall_silent(run, settings);
    unfence::forget(run);
    outdate(run, settings);
    run.cluster().promotion_score(None);
    run.cluster().forget();
    Ok(())
}

/// A stop without its parameters goes by what start has written down.
fn named(run: &Run, settings: &Settings) -> Result<Settings, Failure> {
    if !settings.name.is_empty() {
        return Ok(settings.clone());
    }
    let record = run.store.read(STARTED)?;
    let name = record.as_deref().and_then(|record| record.lines().next()).filter(|name| !name.is_empty());
    match name {
        Some(name) => Ok(Settings { name: name.to_owned(), ..settings.clone() }),
        None => Err(Failure::not_configured("parameter drbd_resource is not set, and nothing was started without it")),
    }
}

fn take_down(run: &Run, settings: &Settings) -> Done {
    let mut told: Option<String> = None;
    loop {
        // A look that the deadline cut short says nothing of the reason.
        let looked = kernel::look_patiently(run, &settings.name, run.deadline)
            .map_err(|failure| told.clone().map_or(failure, Failure::generic));
        let Some(resource) = looked?.and_then(|seen| seen.resource) else { return Ok(()) };
        let refusal = if resource.primary() {
            run.log.warning(&format!("{} is still Primary; it is demoted", settings.name));
            make_secondary(run, settings)?;
            continue;
        } else {
            kernel::down(&settings.name, run.deadline).err()
        };
        let Some(refusal) = refusal else { continue };
        run.log.step(&refusal.to_string());
        let reason = still_up(settings, &resource, &refusal);
        if !run.deadline.sleep(TRY_AGAIN) {
            return Err(Failure::generic(told.filter(|_| refusal.code.is_none()).unwrap_or(reason)));
        }
        told = Some(reason);
    }
}

fn still_up(settings: &Settings, resource: &Resource, refusal: &Refusal) -> String {
    let needs_us = |peer: &&crate::model::Peer| {
        peer.role == Role::Primary
            && peer.volumes.values().any(|volume| volume.disk != Disk::UpToDate && !volume.client)
    };
    let why = match resource.peers.values().find(needs_us) {
        Some(peer) => format!(
            "; {} is Primary without good data of its own and works on this node's: stop what uses it there, or mend its disk \
             (drbdadm attach {} there)",
            peer.called(),
            settings.name
        ),
        None => String::new(),
    };
    format!("{} is still up: {refusal}{why}", settings.name)
}

/// stop_outdates_secondary: writes down that the data here is old, where another node is still Primary.
fn outdate(run: &Run, settings: &Settings) {
    if !settings.stop_outdates_secondary {
        return;
    }
    let own = run.environment.node().map_or_else(own_name, str::to_owned);
    let others = Notification::promoted_after(&run.environment);
    if let Some(other) = others.into_iter().find(|node| *node != own) {
        run.log.info(&format!("{other} is promoted still: {} is outdated here", settings.name));
        let outdated = adm(settings, &["outdate", &settings.name], run.deadline);
        if let Err(error) = outdated.and_then(|output| output.success("drbdadm outdate")) {
            run.log.warning(&format!("{error:#}"));
        }
    }
}
