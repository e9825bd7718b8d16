//! From Secondary to Primary: tried as long as that can help, and given up with DRBD's own words when it cannot.

use std::time::{Duration, Instant};

use ocf::{Done, Failure, Lapse, NEVER, Run};

use crate::apart;
use crate::dump_xml::Configuration;
use crate::judgement::Parted;
use crate::kernel::{self, Refusal, Seen};
use crate::model::{Peer, Resource};
use crate::module;
use crate::monitor;
use crate::parameters::Settings;
use crate::start;

/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Each try asks the peer whether it lives; a dead one does not answer within ping-timeout (at most 30 s, usually 0.5 s) and
/// is a Primary no longer. One that is Primary for longer than this is alive.
const OTHER_PRIMARY: Duration = Duration::from_secs(15);
/// What is left of the action for saying why not.
const LAST_WORDS: Duration = Duration::from_millis(1500);
/// DRBD 9 without a majority, or with a peer that somebody reads from: a connection may be on its way, a program (as udev's) may
/// end. Both are over sooner than this, or last.
const OTHERS: Duration = Duration::from_secs(15);
/// What DRBD has no number for, such as drbdsetup missing, does not mend itself.
const UNKNOWN: Duration = Duration::from_secs(5);

pub(crate) fn promote(run: &Run, settings: &Settings) -> Done {
    let promoted = make_primary(run, settings).inspect_err(|_| {
        // There is no second try in the next moment.
        Lapse::Promotion.note(run);
        run.cluster().promotion_score(Some(NEVER));
    })?;
    // It is Primary, and that counts.
    if settings.connect_only_after_promote {
        match Configuration::read(run, settings) {
            Ok(configuration) => start::adjust(run, settings, &configuration),
            Err(failure) => run.log.warning(&format!("it stays without connection: {}", failure.reason())),
        }
    }
    if let Some(resource) = promoted.and_then(|seen| seen.resource) {
        monitor::tell(run, settings, &resource, Parted::Unknown);
    }
    Ok(())
}

/// What is seen of the Primary then; None where DRBD has made it one and nothing is to be seen any more.
fn make_primary(run: &Run, settings: &Settings) -> Result<Option<Seen>, Failure> {
    let (begun, mut told) = (Instant::now(), None::<Refusal>);
    let deadline = run.deadline.at_most(run.deadline.remaining().saturating_sub(LAST_WORDS));
    loop {
        let Some(seen) = kernel::look_patiently(run, &settings.name, deadline)?.filter(|seen| seen.resource.is_some())
        else {
            return Err(Failure::generic(format!(
                "{} is down: it must be started before it is promoted",
                settings.name
            )));
        };
        if seen.primary() && all_primary(&seen) {
            return Ok(Some(seen));
        }
        if let Some(unwanted) = module::unwanted(settings, seen.version()) {
            return Err(Failure::not_installed(unwanted));
        }
        apart::refuses(run, settings, &seen)?;
        let Err(refusal) = kernel::change_role(&seen, &settings.name, "primary", deadline) else {
            match kernel::look(run, &settings.name) {
                Ok(Some(seen)) if seen.primary() && all_primary(&seen) => return Ok(Some(seen)),
                Ok(_) => continue,
                // What DRBD has done is done, whether or not it can be looked at.
                Err(failure) => {
                    run.log.warning(&format!("promoted; what came of it is not known: {}", failure.reason()));
                    return Ok(None);
                }
            }
        };
        // A try that the deadline cut short says nothing of DRBD's reason; the one before it may.
        let refusal = told.clone().filter(|_| refusal.code.is_none()).unwrap_or(refusal);
        if told.as_ref() != Some(&refusal) {
            run.log.info(&refusal.to_string());
            told = Some(refusal.clone());
        }
        let now = kernel::look(run, &settings.name).ok().flatten().unwrap_or(seen);
        undo(run, settings, &now);
        let unexpected = settings.fail_promote_early
            && now.resource.as_ref().is_some_and(|resource| monitor::unexpected_primary(run, resource));
        let patience = patience(&refusal, now.resource.as_ref(), unexpected);
        if begun.elapsed() >= patience || !deadline.sleep(TRY_AGAIN) {
            return Err(Failure::generic(reason(&settings.name, &refusal, now.resource.as_ref())));
        }
    }
}

/// With 8.4 each minor has a role of its own, and events2 shows the highest.
fn all_primary(seen: &Seen) -> bool {
    let minors = seen.resource.as_ref().map(Resource::minors).unwrap_or_default();
    let devices = minors.iter().filter_map(|minor| seen.proc.devices.get(minor));
    devices.into_iter().all(|device| device.role == crate::model::Role::Primary)
}

/// A resource is not left half Primary.
fn undo(run: &Run, settings: &Settings, seen: &Seen) {
    if seen.primary()
        && !all_primary(seen)
        && let Err(refusal) = kernel::change_role(seen, &settings.name, "secondary", run.deadline)
    {
        run.log.warning(&refusal.to_string());
    }
}

/// For how long another try may help. The numbers are those of `enum drbd_state_rv` (drbd.h).
fn patience(refusal: &Refusal, resource: Option<&Resource>, unexpected_primary: bool) -> Duration {
    let settling = resource.is_some_and(|resource| resource.volumes.values().any(|volume| volume.disk.in_transition()));
    match refusal.code {
        _ if unexpected_primary => Duration::ZERO,
        // SS_NO_UP_TO_DATE_DISK; SS_PRIMARY_NOP, which is: the peer is not fenced.
        Some(-2 | -7) if !settling => Duration::ZERO,
        // SS_TWO_PRIMARIES, SS_CW_FAILED_BY_PEER.
        Some(-1 | -10) => OTHER_PRIMARY,
        // SS_PRIMARY_READER, SS_NO_QUORUM.
        Some(-22 | -25) => OTHERS,
        Some(_) => Duration::MAX,
        None => UNKNOWN,
    }
}

fn reason(name: &str, refusal: &Refusal, resource: Option<&Resource>) -> String {
    let state = resource.map(Resource::summary).unwrap_or_default();
    let why = match (refusal.code, resource.and_then(Resource::primary_peer)) {
        // The peer of DRBD 9 declines while its device is open, if only to be read.
        (Some(-10), None) if refusal.more.is_some() => {
            let more = refusal.more.as_deref().unwrap_or_default();
            format!("; {more}; is the device open there?")
        }
        (Some(-1 | -10), peer) => {
            let who = peer.map_or_else(|| "a peer".to_owned(), Peer::called);
            format!("; {who} is Primary and must be demoted first")
        }
        (Some(-2), _) => {
            "; only a node with UpToDate data can be promoted, or one that is connected to such a node".to_owned()
        }
        (Some(-22), _) => "; a peer holds the device open, though Secondary: end what reads it there".to_owned(),
        (Some(-25), _) => {
            "; only a majority of the nodes can promote one (options quorum), and this one does not reach enough of them".to_owned()
        }
        (Some(-7), _) => "; the handler fence-peer could not make sure that the peer is outdated or dead".to_owned(),
        _ => String::new(),
    };
    format!("{name} is not promoted: {refusal}{why} (now: {state})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events;

    fn secondary(disk: &str) -> Resource {
        let text = include_str!("../captures/connected-primary-secondary-n2.events2").replace(" disk:UpToDate", disk);
        events::read(&text, "r0").unwrap().unwrap()
    }

    #[test]
    fn another_try_is_made_only_where_it_can_help() {
        let refusal = |code| Refusal { code, words: "w".into(), more: None };
        let sound = secondary(" disk:UpToDate");
        let settling = secondary(" disk:Negotiating");
        let table = [
            (Some(-2), &sound, false, Duration::ZERO),
            (Some(-2), &settling, false, Duration::MAX),
            (Some(-7), &sound, false, Duration::ZERO),
            (Some(-1), &sound, false, OTHER_PRIMARY),
            (Some(-1), &sound, true, Duration::ZERO),
            (Some(-10), &sound, false, OTHER_PRIMARY),
            (Some(-13), &sound, false, Duration::MAX),
            (Some(-22), &sound, false, OTHERS),
            (Some(-25), &sound, false, OTHERS),
            (None, &sound, false, UNKNOWN),
        ];
        for (code, resource, unexpected, wanted) in table {
            assert_eq!(patience(&refusal(code), Some(resource), unexpected), wanted, "{code:?}");
        }
    }

    /// DRBD 9.2.18, with somebody who reads from the device of the other Secondary.
    #[test]
    fn a_peer_that_declines_is_no_primary() {
        let resource = events::read(include_str!("../captures/nine/reader-n1.events2"), "r0").unwrap().unwrap();
        let said = "r0: State change failed: (-10) State change was refused by peer node\nadditional info from kernel:\n\
                    Declined by peer n2 (id: 1), see the kernel log there\n";
        let reason = reason("r0", &Refusal::parse(said), Some(&resource));
        assert!(reason.contains("Declined by peer n2") && !reason.contains("is Primary"), "{reason}");
    }
}
